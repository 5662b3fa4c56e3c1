"""Side tables that are written when their day has passed, and so know the outcomes that they are to predict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import polars as pl

from dmtl_cli.config.days import before
from dmtl_cli.guess.columns import times_of
from dmtl_cli.guess.layout import Table
from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.values import FEW, instants, local_days, share

NIGHT = dt.timedelta(hours=6)
"""after the day's first events, in which a table of the morning is written"""
_SOON = dt.timedelta(days=2)  # after them; a later time is one that is yet to come, such as when an offer ends
_STRAY = 0.01  # of the events may be earlier ones that came late
_EQUAL = 0.9  # of the ids have the day's very count


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


def is_count_of(values: pl.Series, counts: pl.Series) -> bool:
    """Whether a column is the very number of the day's events of nearly all ids that have some, which no table of the
    morning knows: those who have several, and not all as many.

    Args:
        values: [n] of ids, of any type.
        counts: [n] events of the day.
    """
    if not values.dtype.is_numeric():
        return False
    some = (counts > 1).fill_null(False)
    x, n = values.cast(pl.Float64).filter(some), counts.cast(pl.Float64).filter(some)
    return len(n) >= FEW and n.n_unique() > 2 and share((x == n).fill_null(False)) >= _EQUAL
