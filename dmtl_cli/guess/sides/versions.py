"""Which column of a side table tells the rows of one id apart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.ends import says_end
from dmtl_cli.guess.columns.sql import quoted
from dmtl_cli.guess.columns.values import DAYS, local_days, share, time_unit

_SINCE = (
    "(" + words.any_of("updated update modified changed edited valid effective since from as_of revised version") +
    "|" + words.any_of("stand snapshot loaded synced desde vigente actualizado actualizada") +
    "|" + words.any_of("actualizacion modificado modificada geändert geaendert gültig gueltig aktualisiert ab seit") +
    "|" + words.any_of("maj modifie mis_a_jour 更新 修改 生效") + ")"
)  # fmt: skip
"""a state's beginning"""
_ALONE = "^" + words.any_of("date day dt ts time timestamp state_date as_of_date") + "$"
"""a whole name that says no more"""
_TOLD = 0.5  # of the ids with several rows have another time in some of them
_COUNTED = "(" + words.any_of("rev revision revisions version ver v vsn seq sequence generation edition 版本") + ")"
_MOST = 0.5  # of the ids have one row, or a column that is not named so does not tell their rows apart
_KNOWN = 0.5  # of the ids are there as the newest day begins
_HIDDEN = 0.2  # of the ids may be shown before their first row, or its time is no time since which it holds
_EXPORTED = dt.timedelta(days=31)  # after the log: a table is written by then
_ZONES = dt.timedelta(days=1)  # by which days may differ, whatever the zone
_BORN = (
    "^(item |article |video )?(first )?" +
    words.any_of("published publication publish created creation create released release uploaded upload listed") +
    "( (on|at|date|day|time|dt|ts|datetime|timestamp|utc|ms))*$|^(available|online|live) (from|since)$" +
    "|^added( (to (catalog|catalogue|site|app)))?( (on|at|date|day|time|dt|ts|datetime|timestamp|utc|ms))+$|^" +
    words.any_of("pubdate date_published date_created date_added publicado veröffentlicht veroeffentlicht") +
    "( (am|em|el))?$|^(发布|上架|创建)(时间|日期)$"
)  # fmt: skip
"""the time since which an item is there"""
_UNBORN, _TIMELESS = 0.05, 0.5  # of the items may be shown before it; may have none, and are there on all days
_CAME, _SOON = 10, 0.5  # items that came within the log, of which most are shown at once, tell it under any name


@dataclass(frozen=True)
class Version:
    """A column that orders the rows of an id."""

    column: str
    why: str
    unit: str | None
    """see `values.time_unit`; None: it counts"""
    is_birth: bool = False
    """whether an id has one row, whose values are of no day: the time tells since when the id is there"""

    only_orders: bool = False
    """whether its times say which row is the newest and nothing of days: each day reads that one"""

    @property
    def is_of_days(self) -> bool:
        """Whether it tells which of an id's values a day knows."""
        return self.unit is not None and not (self.is_birth or self.only_orders)

    @property
    def is_instant(self) -> bool:
        """Whether it depends on data.timezone which day knows a row."""
        return self.unit is not None and self.unit not in DAYS and not self.only_orders


def version_of(
    frame: pl.DataFrame, key: str, newest: dt.date | None, shown: tuple[pl.Series, pl.Series] | None = None
) -> Version | None:
    """The column that tells the rows of each id apart: a time or day since which a row holds, else a number of its
    state, else, where few ids have several rows, a time of when each was written last; None where none does surely.

    Args:
        newest: day of the events: of a time since which rows hold most ids have one up to it.
        shown: [n] ids of a sample of events, and their days: few are shown before their first row holds.
    """
    rows = frame.filter(pl.col(key).is_not_null())
    twice = rows.filter(rows[key].is_duplicated())
    several, ids = twice[key].n_unique(), rows[key].n_unique()
    apart = [c for c in rows.columns if c != key and _tells_apart(twice.select(key, c))]
    units = {c: time_unit(rows[c]) for c in apart}
    often = several > _MOST * ids
    times = [c for c in apart if units[c] is not None and not says_end(c)]
    times = [c for c in times if _says_since(c) or not often]
    written: Version | None = None
    for c in sorted(times, key=lambda c: not _says_since(c)):
        days = local_days(rows[c], units[c] or "", "UTC")
        known = rows[key].filter((days <= newest).fill_null(True)).n_unique() / ids if newest else 1.0
        what = f"{several:,} of its {ids:,} ids have several rows, with another {c} in each"
        if (hidden := 1 - known) <= 1 - _KNOWN and not often:
            hidden = _early(rows[key], days, shown)
        if not often and hidden > _HIDDEN:
            if written is None and (_says_since(c) or _is_of_now(days, newest)):
                late = "after the log" if known < _KNOWN else "after they were shown"
                told = f"each day reads the newest row, as {hidden:.0%} of the ids have their first {late}"
                written = Version(c, f"{what}: {told}", units[c], only_orders=True)
        elif known >= _KNOWN:
            there = f"; {known:.0%} of the ids are there by {newest}" if newest else ""
            return Version(c, f"{what}: a day reads the newest row that was there as it began{there}", units[c])
    counts = [c for c in apart if units[c] is None and rows[c].dtype.is_integer()]
    for c in sorted(counts, key=lambda c: not words.says(c, _COUNTED)):
        if words.says(c, _COUNTED) or _counts(twice, key, c):
            what = f"{several:,} of its {ids:,} ids have several rows, with another {c} in each"
            return Version(c, f"{what}: the greatest one counts, on every day", None)
    return written


def _early(ids: pl.Series, days: pl.Series, shown: tuple[pl.Series, pl.Series] | None) -> float:
    """Share of the ids that are shown which are so before the day of their first row.

    Args:
        ids, days: [rows] of the table.
    """
    if shown is None or shown[0].dtype != ids.dtype:
        return 0.0
    first = pl.DataFrame({"k": shown[0], "day": shown[1]}).drop_nulls().group_by("k").agg(pl.col("day").min())
    # a row without a time is there on all days
    since = pl.DataFrame({"k": ids, "since": days.fill_null(dt.date.min)}).group_by("k").agg(pl.col("since").min())
    both = first.join(since, on="k")
    return share(both["since"] > both["day"] + _ZONES)


def _is_of_now(days: pl.Series, newest: dt.date | None) -> bool:
    """Whether each row has a time, none long after the log: as when it was written last, and not when it ends."""
    last = days.max()
    return newest is not None and isinstance(last, dt.date) and not days.null_count() and last <= newest + _EXPORTED


def birth(frame: pl.DataFrame, key: str, ids: pl.Series, days: pl.Series | None) -> Version | None:
    """The time since which an item is there, of a table with one row an item: it is hardly shown before it, under any
    other name than such a time has also soon after it. Of several that are named so the latest: what was released long
    ago is shown from when it was added. None where no column tells it, or no item came within the log: such a day
    serves all of them.

    Args:
        ids: [n] items of a sample of events.
        days: [n] of these; None where unknown.
    """
    begin = None if days is None or ids.dtype != frame[key].dtype else days.min()
    if days is None or not isinstance(begin, dt.date):
        return None
    first = pl.DataFrame({key: ids, ":first": days}).drop_nulls().group_by(key).agg(pl.col(":first").min())
    found = list[tuple[pl.Series, Version]]()
    for c, unit, named in sorted(_times(frame, key), key=lambda one: not one[2]):
        if found and not named:
            break
        seen = frame.select(key, pl.Series(":born", local_days(frame[c], unit, "UTC"))).join(first, on=key)
        after = (seen[":born"] > seen[":first"] + _ZONES).fill_null(False)
        came = (seen[":born"] >= begin + (dt.timedelta() if named else 2 * _ZONES)).fill_null(False)  # could be early
        soon = (seen[":first"] <= seen[":born"] + _ZONES).fill_null(False)
        if named:
            tells = came.any() and share(after) <= _UNBORN
        else:
            n = int(came.sum())
            tells = n >= _CAME and int(after.sum()) <= _UNBORN * n and share(soon.filter(came & ~after)) > _SOON
        if tells:
            by = "" if named else f", by the {n:,} that came within the log and were shown from then on"
            has = "those up to it" if unit in DAYS else "those of before it, and what was shown since"
            why = f"{c}: since when an item is there{by}; a day has {has}"
            found.append((seen[":born"], Version(c, why, unit, is_birth=True)))
            if not named:
                break
    return _latest(found) if found else None


def _latest(found: Sequence[tuple[pl.Series, Version]]) -> Version:
    """That of the latest days, of the items that have all of them; the first of equal ones. Of each [n] its days."""
    all_ = pl.DataFrame([days.alias(str(k)) for k, (days, _) in enumerate(found)]).drop_nulls()
    late = [float(all_[str(k)].cast(pl.Int32).mean() or 0) for k in range(len(found))]  # type: ignore[arg-type]
    return found[late.index(max(late))][1]


def _times(frame: pl.DataFrame, key: str) -> Iterator[tuple[str, str, bool]]:
    """(column, `values.time_unit`, whether it is named like the one since which an item is there) of times that most
    items have."""
    for c in frame.columns:
        unit = time_unit(frame[c]) if c != key and frame[c].null_count() <= _TIMELESS * len(frame) else None
        if unit is not None:
            yield c, unit, words.says_all(c, _BORN) or words.says_all(c, languages.BORN)


def born(frame: pl.DataFrame, key: str) -> pl.Series | None:
    """[n] days since which the ids of a table are there, by the first column that is named so; None where none is."""
    found = next(((c, unit) for c, unit, named in _times(frame, key) if named), None)
    return None if found is None else local_days(frame[found[0]], found[1], "UTC")


def newest_first(frame: pl.DataFrame, version: Version) -> pl.DataFrame:
    """The rows with the greatest version first."""
    return frame.sort(version.column, descending=True, nulls_last=True, maintain_order=True)


def _says_since(c: str) -> bool:
    return words.says(c, _SINCE) or words.says_all(c, _ALONE)


def _tells_apart(rows: pl.DataFrame) -> bool:
    """Whether no id has two rows with one value. [id, value]"""
    return not rows.dtypes[1].is_nested() and rows.n_unique() == len(rows)


def _counts(twice: pl.DataFrame, key: str, c: str) -> bool:
    """Whether the rows of each id have 1, 2, 3 ..., or 0, 1, 2 ..."""
    of = twice.group_by(key).agg(pl.col(c).min().alias("least"), pl.col(c).max().alias("most"), pl.len().alias("n"))
    first = of["least"].unique().to_list()
    return first in ([0], [1]) and bool((of["most"] - of["least"] + 1 == of["n"]).all())


def one_row(twice: pl.DataFrame, key: str, *, same: bool) -> str:
    """The line of polars that leaves one row of each id: of rows that differ the newest, by a time that does.

    Args:
        twice: rows of the ids that have several.
        same: whether those of each id are the same.
    """
    at = None if same else _newest_by(twice, key)
    kept, order = "any" if same else "last", "" if at is None else f".sort({quoted(at)})"
    return f'in polars table{order}.unique({quoted(key)}, keep="{kept}", maintain_order=True)'


def _newest_by(twice: pl.DataFrame, key: str) -> str | None:
    """The time that tells most ids' rows apart, of most of them, as when each was written: none that is named like an
    end; of equal ones one that is named like the beginning of a state. None where no time does."""
    times = [c for c in twice.columns if c != key and time_unit(twice[c]) is not None and not says_end(c)]
    ids = twice.group_by(key).agg(pl.col(c).n_unique() for c in times)
    differ = {c: share(ids[c] > 1) for c in times}
    best = max(times, key=lambda c: (differ[c], _says_since(c)), default=None)
    return best if best is not None and differ[best] > _TOLD else None
