"""Which days of a log have a column, where the first or the newest complete one lacks it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import polars as pl

from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import opened
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import FEW, share
from dmtl_cli.guess.reading.files import usual
from dmtl_cli.guess.reading.rows import first_values
from dmtl_cli.guess.reading.tables import Table, filled, spread

_ROWS = 2_000  # first ones of a file
_OFTEN = 0.1  # of the rows have a value where a column is not just rarely filled


def partial_columns(events: Table, roles: Roles, zone: str) -> dict[str, str]:
    """Which days have a column, where the first or the newest complete one lacks it. Raises what `tables` does.

    Args:
        zone: in which a time gives the day, where no name does.
    """
    often = [c for c in events.frame.columns if share(events.frame[c].is_not_null()) >= _OFTEN]
    if events.files.days:
        return _by_names(events, often)
    if (days := roles.days(events.frame, zone)) is None:
        return {}
    counts = days.drop_nulls().value_counts(name=":n")
    there = [day for day, _ in usual(counts.rows())]  # clocks that were never set or are ahead make days of a few rows
    if not there or (days == (first := there[0])).sum() < FEW:
        return {}
    last, is_there = there[-1], days.is_in(pl.Series(there).implode())
    out = {}
    for c in often:
        mine = days.filter(events.frame[c].is_not_null() & is_there)
        since, until = str(mine.min()), str(mine.max())
        if since != str(first):
            out[c] = f"from {since} on only"
        elif until != str(last) and (days == last).sum() >= FEW:
            out[c] = f"until {until} only"
    return out


def _by_names(events: Table, often: list[str]) -> dict[str, str]:
    """By the samples of the first and the newest complete day, then by the first rows of days between them."""
    if len(events.pieces) < 2 or events.pieces[0][2] < FEW:
        return {}
    (first, early, _), (newest, late, _) = events.pieces[0], events.pieces[-1]
    days = [day for day, _ in events.files.days if first <= day <= newest]
    known = {first: early, newest: late}
    out = {}
    for c in often:
        if (c in early) == (c in late):
            continue
        high = turn(days, partial(_has, events, c, known))
        out[c] = f"from {days[high]} on only" if c in late else f"until {days[high - 1]} only"
    return out


def _has(events: Table, column: str, known: dict[dt.date, frozenset[str]], day: dt.date) -> bool:
    if day not in known:
        known[day] = frozenset[str]().union(*map(filled, _firsts(events, day)))
    return column in known[day]


def turn(days: Sequence[dt.date], has: Callable[[dt.date], bool]) -> int:
    """The place, from 1 on, of a day that is as the last one is while the day before it is as the first one is, by
    halving: few of the days are looked at."""
    low, high, last = 0, len(days) - 1, has(days[-1])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has(days[middle]) == last else (middle, high)
    return high


def rows_of(table: Table, day: dt.date) -> pl.DataFrame | None:
    """The first rows of a day's files; None where there are none. Raises what `tables` does."""
    found = [frame for frame in _firsts(table, day) if len(frame)]
    return pl.concat(found, how="diagonal_relaxed") if found else None


def _firsts(table: Table, day: dt.date) -> Iterator[pl.DataFrame]:
    store, paths = Store(table.root), spread([f for f, _ in table.files.files if table.files.day_of(f) == day], 2)
    read = (first_values(store.file(path), _ROWS, table.text) for path in paths)
    return (opened(frame, table.objects, table.files.name, words.DATABASES)[0] for frame in read)
