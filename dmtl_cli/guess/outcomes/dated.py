"""Which column tells the day of what came of exposures, where its files are of other days than those of the users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.data.log.formats.lake import LAKES
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import DAYS, local_days, share
from dmtl_cli.guess.exposures.ids import find_ids, find_time
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.outcomes.waits import zone_between
from dmtl_cli.guess.reading.arrival import Arrival, by_times, is_late, place_of
from dmtl_cli.guess.reading.tables import Table

_NEAR, _MOSTLY = 14, 0.95  # days between a row's time and its file's day at most; of the rows
_Clock = tuple[str, str]
"""a column of times, and its unit"""


def by_own_times(
    later: Sequence[Outcomes], events: Table, roles: Roles, others: Sequence[Table], zone: str, late: Arrival | None
) -> tuple[list[Outcomes], list[str]]:
    """The tables, of files that are of other days than those of the users each read by a column of its own, as these
    events are read; and what a person should know of those that cannot be, a line each.

    Args:
        events: whose days a column tells.
        roles: of the events.
        others: tables beside them that are none of `later`.
        zone: in which days are cut.
        late: what the events' times say of the folders in which they lie.
    """
    ends_in_next = late is not None and late.moved > late.other and not is_late(late.begun, late.rows)
    out, told = list[Outcomes](), list[str]()
    for one in later:
        files = one.table.files
        if not files.days or files.form in LAKES or files.files == events.files.files:
            out.append(one)
            continue
        clock = clock_of(one, events, roles)
        if clock is not None and not is_moved(one.table, clock, zone):
            out.append(one)
            continue
        beside = [events, *others, *(each.table for each in later if each.table.files.files != files.files)]
        place = place_of(files, beside)
        if clock is None and ends_in_next and one.computed is None:
            out.append(replace(one, reaches=1))
            continue
        if clock is None or place is None:
            out.append(one)
            told.append(_lost(one, zone, none=clock is None))
            continue
        left = tuple(c for c in one.left if c != clock[0])
        out.append(replace(one, table=by_times(one.table, place), dated=clock[0], left=left))
    return out, told


def _lost(one: Outcomes, zone: str, *, none: bool) -> str:
    """What is lost where files of other days are read as they are."""
    fix = "write the time of each row into it" if none else "move its files into a folder of their own"
    why = "no column tells when its rows came" if none else "no path means its files alone"
    files = f"{one.table.files.name} has files of other days than those of {zone}, in which events are cut"
    return f"{files}, and {why}: what came of an exposure is lost where its file is of another day; {fix}, then init"


def clock_of(one: Outcomes, events: Table, roles: Roles) -> _Clock | None:
    """The column by which a row's day is told: that of its wait, or the one that is named like the row's time, near the
    day of its file, and of a clock as the events' is: a time without a zone is taken for UTC where they are."""
    if one.wait is not None:
        return one.wait.came
    mine, frame = Roles(), one.table.frame
    find_ids(frame, mine)
    find_time(frame, mine)
    if mine.time is None or mine.time_unit is None or mine.time_unit in DAYS:
        return None
    clock = mine.time.column, mine.time_unit
    if roles.time is not None and roles.time.column in events.frame.columns:
        shown = events.frame[roles.time.column], str(roles.time_unit)
        if zone_between(shown, (frame[clock[0]], clock[1]), roles.lives) is None:
            return None
    off = _off(one.table, clock, "UTC")
    return clock if not len(off) or share(off.is_between(-_NEAR, 1)) >= _MOSTLY else None


def is_moved(table: Table, clock: _Clock, zone: str) -> bool:
    """Whether rows are of another day than their file in a zone; so too where the sample does not tell it."""
    off = _off(table, clock, zone)
    return not len(off) or is_late(int((off != 0).sum()), len(off))


def _off(table: Table, clock: _Clock, zone: str) -> pl.Series:
    """By how many days each row of the sample is later than its file; of none where no file tells its day."""
    if table.days is None:
        return pl.Series([], dtype=pl.Int64)
    return (local_days(table.frame[clock[0]], clock[1], zone) - table.days).dt.total_days().drop_nulls()
