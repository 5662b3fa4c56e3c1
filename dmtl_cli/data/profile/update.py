"""The profile of a day, from the profile before it and the day's events.

Both are sorted by id, so the update is a merge of two sorted tables, a slice of ids at a time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dmtl_cli.data.log.checked import day as log_day
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.values.sizes import reblocked
from dmtl_cli.data.profile.columns import (
    FIRST,
    ID,
    LAST,
    TODAY,
    Dtype,
    count_column,
    days_since,
    decayed,
    history_column,
    time_column,
)
from dmtl_cli.data.profile.plan import Plan, Rate
from dmtl_cli.data.profile.priors import Fit, Prior
from dmtl_cli.data.profile.stored import GROUP, Profile, table_writer, write_facts
from dmtl_cli.data.profile.today import Today

SIDES = ("user", "item")


@dataclass
class Updated:
    """What an update did to the rows of one side."""

    rows: int = 0
    """stored"""
    known: int = 0
    """of the day, in the profile before"""
    new: int = 0
    """of the day, not in the profile before"""
    dropped: int = 0
    """not seen for keep_days"""


def update(
    before: Profile | None, day: Day, plan: Plan, threshold: float | None, keep_days: int, scratch: Path, folder: Path
) -> dict[str, Updated]:
    """Writes the profile of `day` into `folder`.

    Args:
        before: the newest profile before the day.
        day: read with times, without features and side tables: every user and item has events.
        threshold: seconds of a long read, None where a conversion is the label.

    Returns:
        What was done, by side.

    Raises:
        UserError: 65 ids are of another type than in the profile before.
    """
    ids: dict[str, Dtype] = {"user": day.users[log_day.ID].dtype, "item": day.items[log_day.ID].dtype}
    if before is not None:
        for side, kind in ids.items():
            before.require_ids(side, kind, f"day {day.day}")
    today = Today(day, plan, threshold, scratch)
    done: dict[str, Updated] = {}
    priors: dict[Rate, Prior] = {}
    for side in SIDES:
        empty = pl.DataFrame(schema=plan.schema(side, ids))
        old = before.rows(side, empty.schema) if before is not None else iter(())
        merge = _Merge(plan, side, day.day, keep_days)
        fit = Fit([rate for rate in plan.rates if rate.side == side], day.day)
        with table_writer(folder, side, empty) as write:
            for rows in reblocked(merge.rows(old, today.slices(side), empty), GROUP, 0):
                fit.add(rows)
                write(rows)
        done[side] = merge.done
        priors |= fit.priors()
    write_facts(folder, day.day, threshold, ids, priors)
    return done


class _Merge:
    """The rows of one side as they are when a day ends."""

    def __init__(self, plan: Plan, side: str, day: dt.date, keep_days: int) -> None:
        self.plan, self.side, self.day, self.keep_days = plan, side, day, keep_days
        self.done = Updated()

    def rows(
        self, old: Iterator[pl.DataFrame], new: Iterator[pl.DataFrame], empty: pl.DataFrame
    ) -> Iterator[pl.DataFrame]:
        """Stored rows, sorted by id, of the stored rows before and the slices of a day."""
        for before, today in in_step(old, new, empty):
            seen = today.join(before, on=ID, how="left")
            known = len(seen) - seen[LAST].null_count()
            kept = before.filter(days_since(LAST, self.day) < self.keep_days)
            if known:
                kept = kept.join(today, on=ID, how="anti")
            self.done.known += known
            self.done.new += len(seen) - known
            self.done.dropped += len(before) - known - len(kept)
            self.done.rows += len(kept) + len(seen)
            if len(seen):
                kept = pl.concat([kept, seen.select(self._updated()).cast(empty.schema)]).sort(ID)
            if len(kept):
                yield kept

    def _updated(self) -> list[pl.Expr]:
        """The columns of rows with events, from those of the day and those before, which are null of a new row."""
        columns = [pl.col(ID), pl.col(FIRST).fill_null(self.day), pl.lit(self.day).alias(LAST)]
        for event, half_life in self.plan.counts[self.side]:
            count = decayed(event, half_life, self.day).fill_null(0.0) + pl.col(TODAY + event)
            columns.append(count.alias(count_column(event, half_life)))
        for event, length in self.plan.kept(self.side).items():
            for column in (history_column(event), time_column(event)):
                whole = pl.concat_list(pl.col(column).fill_null([]), pl.col(TODAY + column))
                columns.append(whole.list.tail(length).alias(column))
        return columns


def in_step(
    old: Iterator[pl.DataFrame], new: Iterator[pl.DataFrame], empty: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Rows of both streams, each sorted by id, in pairs: the ids of a pair come before those of the next.

    Args:
        new: one frame at least.
        empty: a frame without rows, as those of `old` are.
    """
    a, b = next(old, None), next(new, None)
    assert b is not None
    nothing = b.clear()
    while a is not None or b is not None:
        last = min(frame[ID][-1] for frame in (a, b) if frame is not None)
        (left, a), (right, b) = (_split(frame, last, rest) for frame, rest in ((a, old), (b, new)))
        yield (empty if left is None else left), (nothing if right is None else right)


def _split(
    frame: pl.DataFrame | None, last: int | str, rest: Iterator[pl.DataFrame]
) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """The rows up to id `last`, and those after it, of the rest of the stream where there are none."""
    if frame is None:
        return None, None
    at = int(frame[ID].search_sorted(last, side="right"))
    return frame[:at], frame[at:] if at < len(frame) else next(rest, None)
