"""Until when items are there: the time at which each goes offline, is withdrawn or expires."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from dmtl_cli.data.log.checked.checks import ends
from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.values import DAYS, instants, local_days, share, time_unit

_UNTIL = words.any_of(
    "until till to thru through end ends ended ending expire expires expired expiry expiration offline withdrawn"
    " removed delisted unpublished unpublish retired discontinued archived closed deleted takedown taken_down sold"
)
_DAY = dt.timedelta(days=1)
_LATE = 0.05  # of what has ended may be shown after it, where all is shown that is still there; of a long tail less
_SOON = 2 * _DAY  # before its end what is shown at all is shown
_MOST = 0.5  # of what ended within the log is, and of what is still there goes on
_STILL = 0.2  # of the items that are shown have no end, or one to come
_FEW, _MANY = 3, 10  # items that could be shown after their end, under a name that says so; that ended within the log
_THAT_DAY = 0.25  # of the rows of the day before: what ends as its day begins has none


@dataclass(frozen=True)
class End:
    """A column that tells when an item ends."""

    column: str
    is_last_day: bool
    """whether its day is the last one on which the item is there"""
    why: str
    is_instant: bool
    """whether it depends on data.timezone on which day it is"""


def says_end(column: str) -> bool:
    """Whether a column is named as a time is until which something holds."""
    return words.says(column, _UNTIL) or words.says(column, languages.UNTIL)


def ends_of(frame: pl.DataFrame, key: str, ids: pl.Series, days: pl.Series | None) -> Iterator[End]:
    """The times until which an item is there, of which the first ends it: many items have none, or one to come; hardly
    an item is shown after it, and most of those that end within the log until about then. Under another name than such
    a time has, of more items, and what is still there goes on. None where no column tells it, or no item has ended;
    those named so come first.

    Args:
        frame: one row an item.
        ids: [n] items of a sample of events.
        days: [n] of these; None where unknown.
    """
    if days is None or ids.dtype != frame[key].dtype or not days.count():
        return
    rows = pl.DataFrame({key: ids, ":day": days}).drop_nulls()
    found = [(c, says_end(c)) for c in frame.columns if c != key]
    for c, named in sorted(found, key=lambda one: not one[1]):
        if (end := _end(frame.select(key, c), key, rows, named)) is not None:
            yield end


def to_come(s: pl.Series, newest: dt.date, tables: int) -> str | None:
    """What is said of days of items that all lie after the newest day of the log, as that of a show does; None of
    others, as of when a table was written.

    Args:
        tables: how many were written, each at one time.
    """
    unit = time_unit(s)
    if unit is None or s.dtype.is_numeric() or s.drop_nulls().n_unique() <= tables:
        return None
    days = local_days(s, unit, getattr(s.dtype, "time_zone", None) or "UTC").drop_nulls()
    first = days.min()
    if len(days) < _MANY or not isinstance(first, dt.date) or first <= newest:
        return None
    return f"{s.name}: all days to come, from {first} on: does an item end then? data.items.until: {s.name}"


def _end(frame: pl.DataFrame, key: str, rows: pl.DataFrame, named: bool) -> End | None:
    if (told := _told(frame[frame.columns[1]])) is None:
        return None
    s, unit, day = told
    begin, newest = rows[":day"].min(), rows[":day"].max()
    assert isinstance(begin, dt.date) and isinstance(newest, dt.date)
    last = rows.group_by(key).agg(pl.col(":day").min().alias(":first"), pl.col(":day").max().alias(":last"))
    items = pl.DataFrame([frame[key], day]).join(last, on=key, how="left")
    if not _tells(items, begin, newest, named):
        return None
    ended = items.filter(pl.col(":end") <= newest)
    is_last = _is_whole_days(s, unit) and _goes_on(rows, ended, key)
    until = "the last day on which an item is there" if is_last else "until when an item is there"
    late = int((ended[":last"] > ended[":end"] + (dt.timedelta() if unit in DAYS else _DAY)).sum())  # of any zone
    what = f"{len(ended):,} of {len(items):,} have ended by {newest}, {f'{late:,} were' if late else 'none was'}"
    return End(s.name, is_last, f"{s.name}: {until}: {what} shown after it", unit not in DAYS)


def _told(s: pl.Series) -> tuple[pl.Series, str, pl.Series] | None:
    """The times of a column, their unit, and `:end`, their days; None where these are no times."""
    s = ends(s)
    unit = time_unit(s)
    if unit is None and s.dtype.is_numeric() and s.count():  # one of 2100 may stand for never
        s = s.set((s == s.max()).fill_null(False), None)
        unit = time_unit(s)
    if unit is None:
        return None
    return s, unit, pl.Series(":end", local_days(s, unit, getattr(s.dtype, "time_zone", None) or "UTC"))


def ended(s: pl.Series, newest: dt.date) -> pl.Series | None:
    """[items] which have ended by a day, by the column that `end_of` found; None where it has no times."""
    told = _told(s)
    return None if told is None else (told[2] <= newest).fill_null(False)


def _tells(items: pl.DataFrame, begin: dt.date, newest: dt.date, named: bool) -> bool:
    """Whether items are shown until a day, and hardly after it.

    Args:
        items: `:end`, and the `:first` and `:last` day on which each is shown, null of one that is not.
    """
    ended = items.filter(pl.col(":end") <= newest)
    shown = items.filter(pl.col(":last").is_not_null())
    there = items.filter((pl.col(":end").is_null()) | (pl.col(":end") > newest))
    still = there.filter(pl.col(":last").is_not_null())
    if not len(ended) or len(still) < _STILL * len(shown):
        return False
    tried = ended.filter(pl.col(":end") < newest - _DAY)  # those that could have been shown after it, whatever the zone
    late = share((tried[":last"] > tried[":end"] + _DAY).fill_null(False))
    within = shown.filter(pl.col(":end").is_between(begin, newest))
    until = share(within[":last"] >= within[":end"] - _SOON)
    if late > _LATE * len(still) / max(1, len(there)) or (len(within) and until <= _MOST):
        return False
    if named:
        return len(tried) >= _FEW
    goes_on = share(still[":last"] >= newest - _DAY)
    return len(within) >= _MANY and len(tried) >= _MANY // 2 and goes_on > _MOST


def _is_whole_days(s: pl.Series, unit: str) -> bool:
    """Whether times are days: dates, or midnights alone."""
    at = None if unit in DAYS else instants(s, unit)
    return at is None or bool((at.drop_nulls().dt.time() == dt.time()).all())


def _goes_on(rows: pl.DataFrame, ended: pl.DataFrame, key: str) -> bool:
    """Whether items are shown on the day that is their end."""
    left = rows.join(ended.select(key, ":end"), on=key).select((pl.col(":end") - pl.col(":day")).dt.total_days())
    before, then = (int((left.to_series() == n).sum()) for n in (1, 0))
    return then > _THAT_DAY * before
