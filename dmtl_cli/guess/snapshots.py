"""Side tables that are written when their day has passed, and so know the outcomes that they are to predict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.days import before
from dmtl_cli.guess.columns import times_of
from dmtl_cli.guess.layout import Table
from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.values import FEW, instants, local_days

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
FOLLOWS = 0.9
"""correlation with the log's own counts, from which on a column is one of them"""
_IN_SAMPLE = 0.8  # as much in some rows of a log
NIGHT = dt.timedelta(hours=6)
"""after the day's first events, in which a table of the morning is written"""
_SOON = dt.timedelta(days=2)  # after them; a later time is one that is yet to come, such as when an offer ends
_STRAY = 0.01  # of the events may be earlier ones that came late
_EQUAL = 0.9  # of the ids have the day's very count
_HALF, _LOOSELY = 0.5, 0.5  # of the ids, and of what a count does not explain; rank correlation of any count


def written_late(times: Mapping[str, pl.Series], at: pl.Series) -> tuple[str, dt.datetime] | None:
    """(column, its newest time) where a table's own times say that it was written long after its day had begun.

    A table of the morning may have times of tomorrow, which are no times of writing: a column with a time beyond the
    day after says nothing.

    Args:
        times: instants of the table's columns of times, by name; nulls are allowed.
        at: instants of the day's events.
    """
    events = at.drop_nulls().sort()
    if len(events) < FEW:
        return None
    begin = events[int(_STRAY * len(events))]
    newest = {c: end for c, s in times.items() if isinstance(end := s.max(), dt.datetime)}
    late = {c: end for c, end in newest.items() if begin + NIGHT <= end <= begin + _SOON}
    return max(late.items(), key=lambda one: one[1]) if late else None


def clocks(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """The instants of a table's columns of times; a day without a clock does not say when in it a table was written."""
    found = {c: instants(frame[c], unit) for c, unit in times_of(frame).items()}
    return {c: s.dt.convert_time_zone("UTC") for c, s in found.items() if s is not None}


def lagging(table: Table, events: Table, roles: Roles, zone: str) -> str | None:
    """Why a side table must be that of the day before; None where nothing says so, or there is none of that day."""
    if roles.time is None or roles.time_unit is None:
        return None
    column = roles.time.column
    at = instants(events.frame[column], roles.time_unit)
    if at is None:
        return None
    of = None if events.files.days else local_days(events.frame[column], roles.time_unit, zone)
    for day, _, _ in reversed(table.pieces):
        rows = table.of_day(day)
        if of is None:
            known = events.of_day(day)
            there = None if known is None else instants(known[column], roles.time_unit)
        else:
            there = at.filter((of == day).fill_null(False))
        if rows is None or there is None or before(day) not in dict(table.files.days):
            continue
        if (found := written_late(clocks(rows), there)) is not None:
            return f"its {found[0]} of {day} reaches {said(found[1])}: it is written when its day has passed"
    return None


def said(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def short(r: float) -> str:
    """.97 of 0.97."""
    return f"{r:.2f}".removeprefix("0")


@dataclass(frozen=True)
class Counted:
    """How a number of a side table counts the day's events."""

    strength: float
    said: str
    """a predicate; after `by` a clause"""

    def by(self, subject: str) -> Counted:
        return replace(self, said=f"{subject} {self.said}")


def counted(
    values: pl.Series, counts: Ints, earlier: Callable[[], Ints | None], what: str, whose: str
) -> Counted | None:
    """How a column counts the day's events, which no table of the morning knows; None where it does not.

    It is the very number of nearly all ids with several, and not all as many; or that number of at least half of them
    and less of nearly all others, as what grows by today's events and forgets those of a week ago; or it is in their
    order, and much less in that of the day before, whose events a morning does know.

    Args:
        values: [n] of ids; nulls are allowed.
        counts: [n] events of the day.
        earlier: gives those of the day before; None where it cannot be read.
        what: what these events are called.
        whose: what the ids are called.
    """
    x, known = values.to_numpy(), values.is_not_null().to_numpy()
    some = known & (counts > 1)
    if some.sum() < FEW or len(np.unique(counts[some])) < 3 or _ranked(x[some], counts[some]) < _LOOSELY:
        return None
    same, not_above = float((x == counts)[some].mean()), float((x <= counts)[some].mean())
    of = f"the number of the day's {what}, for {same:.0%} of the {int(some.sum()):,} {whose} with several"
    if same >= _EQUAL:
        return Counted(2 + same, f"is {of}")
    if same >= _HALF and not_above >= _EQUAL:
        return Counted(1 + same, f"is {of}, and less for others, as a count of some days forgets old ones")
    active = known & (counts > 0)
    r = _ranked(x[active], counts[active])
    if r < FOLLOWS or (eve := earlier()) is None:
        return None
    r_eve = _ranked(x[active], eve[active])
    if 1 - r**2 > (1 - r_eve**2) * _HALF:
        return None
    return Counted(
        r, f"follows the day's {what} (rank correlation {short(r)}; {short(r_eve)} with those of the day before)"
    )


def follows(values: pl.Series, counts: Ints) -> float:
    """How closely a column follows counts of events, over ids that have some: their rank correlation, or the plain one
    where a few have most of them and the others hardly enough for a rank. The latter must not be that of a single id:
    those with most are left out once.

    Args:
        values: [n] of ids; nulls are allowed.
        counts: [n] events.
    """
    some = values.is_not_null().to_numpy() & (counts > 0)
    x, n = values.to_numpy()[some].astype(np.float64), counts[some].astype(np.float64)
    if len(n) < FEW or not np.isfinite(x).all() or len(np.unique(x)) < 3:
        return 0.0
    rest = np.ones(len(n), np.bool_)
    rest[[int(x.argmax()), int(n.argmax())]] = False
    return max(_ranked(x, n), min(_correlation(x, n), _correlation(x[rest], n[rest])))


def totals_of(frame: pl.DataFrame, key: str, columns: Iterable[str], ids: pl.Series, clicked: pl.Series) -> list[str]:
    """The columns of a table without days that follow the counts of a sample of events: see `follows`.

    Args:
        frame: one row an id in the column `key`.
        columns: those to look at.
        ids: [n] whose the events are.
        clicked: [n] which are clicks.
    """
    if ids.dtype != frame[key].dtype:
        return []
    rows = pl.DataFrame([ids.alias(key), clicked.cast(pl.Int64).alias(":clicks")])
    counts = rows.group_by(key).agg(pl.len().cast(pl.Int64).alias(":events"), pl.col(":clicks").sum())
    beside = frame.select(key, *columns).join(counts, on=key, how="left", maintain_order="left")
    numbers = {c: s.cast(pl.Float64).fill_nan(None) for c in columns if (s := beside[c]).dtype.is_numeric()}
    by_id = [beside[c].fill_null(0).to_numpy() for c in (":events", ":clicks")]
    return [c for c, x in numbers.items() if any(follows(x, n) >= _IN_SAMPLE for n in by_id)]


def _ranked(x: Array, y: Array) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one does not vary."""
    return _correlation(*(pl.Series(v).rank().to_numpy() for v in (x, y)))


def _correlation(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    both = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / both if both > 0 else 0.0
