"""What a day adds to profiles: events counted by user and item, and users' events in order, slice by slice."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dmtl_cli.config import tasks
from dmtl_cli.config.profile import CLICK, EXPOSURE, READ
from dmtl_cli.data.log.checked import day as log_day
from dmtl_cli.data.log.checked.day import TIME, Block, Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.numbers import arrow
from dmtl_cli.data.log.values.sizes import reblocked
from dmtl_cli.data.log.values.spool import Spool, SpoolWriter
from dmtl_cli.data.log.values.types import SECONDS
from dmtl_cli.data.profile.columns import ID, TODAY, history_column, time_column
from dmtl_cli.data.profile.plan import Plan

SLICE_ROWS = 65_536
"""users or items of a slice, at most"""
SLICE_EVENTS = 2_000_000
"""events of a slice's users, where one user has not more"""
_ONE = np.int32(1)  # of the counters' type: add.at is ten times as fast as with another
_NO_ROWS = pl.DataFrame(schema={"user": pl.Int32, "item": pl.Int32})
Ints = npt.NDArray[np.int64]


class Today:
    """A day's events as its slices: parts of its users or items, in order of their ids.

    Args:
        threshold: seconds of a long read, None where a conversion is the label.
        scratch: folder for the users' events, where the plan has histories.
    """

    def __init__(self, day: Day, plan: Plan, threshold: float | None, scratch: Path) -> None:
        self.day, self.plan, self.threshold = day, plan, threshold
        self._tables = {"user": day.users, "item": day.items}
        self._counts = {
            side: {event: np.zeros(len(table), np.int32) for event in plan.counted(side)}
            for side, table in self._tables.items()
        }
        self._cuts = {"user": _cuts(day.user_events), "item": np.arange(0, len(day.items), SLICE_ROWS)}
        self._spool = self._read(scratch)

    def slices(self, side: str) -> Iterator[pl.DataFrame]:
        """id, today.EVENT: how often, and of users today.history.EVENT and today.time.EVENT: the last ones in order."""
        cuts = [*self._cuts[side].tolist(), len(self._tables[side])]
        for k, (start, end) in enumerate(itertools.pairwise(cuts)):
            ids = self._tables[side][log_day.ID][start:end].alias(ID)
            counts = [pl.Series(TODAY + event, some[start:end]) for event, some in self._counts[side].items()]
            histories = self._histories(k, start, end) if side == "user" else []
            yield pl.DataFrame([ids, *counts, *histories])

    def _read(self, scratch: Path) -> Spool:
        """Counts the day's events and brings those of histories into the slices of their users."""
        writer = SpoolWriter(scratch / "histories.arrow", len(self._cuts["user"]), sizes.BLOCK)
        for rows in reblocked(map(self._count, self.day.blocks()), sizes.POOL * sizes.BLOCK, 0):
            writer.add(rows, np.searchsorted(self._cuts["user"], rows["user"].to_numpy(), side="right") - 1)
        return writer.done()

    def _count(self, block: Block) -> pl.DataFrame:
        """Counts a block and returns the rows of histories: user, item, time, and whether each event happened."""
        flags = happened(block, self.threshold, self.plan)
        for rows, counts in ((block.user, self._counts["user"]), (block.item, self._counts["item"])):
            for event, some in counts.items():
                np.add.at(some, rows if event == EXPOSURE else rows[flags[event]], _ONE)
        time = {} if block.time is None else {TIME: block.time}
        kept = {TODAY + event: flags[event] for event in self.plan.histories}
        frame = pl.DataFrame({"user": block.user, "item": block.item, **time, **kept})
        return frame.filter(pl.any_horizontal(*kept)) if kept else frame.clear()

    def _histories(self, k: int, start: int, end: int) -> list[pl.Series]:
        """For each history its items and times, a list for each of the users `start` to `end`."""
        events = self._spool.bucket(k)
        out: list[pl.Series] = []
        if events is not None:
            events = events.sort(["user", *([TIME] if TIME in events.columns else [])], maintain_order=True)
        for event, length in self.plan.histories.items():
            rows = _NO_ROWS if events is None else events.filter(pl.col(TODAY + event))
            kept, ends = _last(rows["user"].to_numpy() - start, end - start, length)
            rows = rows[kept]
            items = self.day.items[log_day.ID].gather(rows["item"])
            out.append(_lists(TODAY + history_column(event), items, ends))
            out.append(_lists(TODAY + time_column(event), instants(rows, self.day.day), ends))
        return out


def happened(block: Block, threshold: float | None, plan: Plan) -> dict[str, npt.NDArray[np.bool_]]:
    """[n] whether each row is an exposure, a click, a long read, each further conversion, and a base of the plan's
    rates."""
    conversions = {READ if name == tasks.READ else name: both for name, both in block.conversions(threshold).items()}
    flags = {EXPOSURE: np.ones(len(block), np.bool_), CLICK: block.click}
    flags |= {name: z for name, (z, _) in conversions.items()}
    return flags | {base: flags[of] & conversions[event][1] for base, of, event in plan.bases}


def instants(rows: pl.DataFrame, day: dt.date) -> pl.Series:
    """When each row happened, in microseconds of UTC: a timestamp, or a number since 1970 in the unit that its
    size tells.

    Where the log has no time, or it is no instant of `day` or the days beside it (text, an hour), it is the midnight
    that begins `day`. The order of a history is that of the log's own values.
    """
    midnight = pl.repeat(day, pl.len()).cast(pl.Datetime("us"))
    kind, time = rows.schema.get(TIME, pl.Null()), pl.col(TIME)
    if isinstance(kind, pl.Datetime):
        time = time.cast(pl.Datetime("us"))
    elif kind.is_numeric():
        number = time.cast(pl.Float64)
        smaller = pl.when(number <= SECONDS * 1e3).then(1e3).when(number <= SECONDS * 1e6).then(1.0).otherwise(1e-3)
        unit = pl.when(number <= SECONDS).then(1e6).otherwise(smaller)
        time = (number * unit).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    else:
        time = midnight
    near = (time - midnight).dt.total_days().is_between(-1, 1)
    return rows.select(pl.when(near).then(time).otherwise(midnight)).to_series()


def _cuts(events: Ints) -> Ints:
    """First rows of slices of at most SLICE_ROWS users, and SLICE_EVENTS events where one user has not more."""
    before = np.cumsum(events) - events
    begins = np.append(True, (before[1:] // SLICE_EVENTS) != (before[:-1] // SLICE_EVENTS))
    begins[::SLICE_ROWS] = True
    return np.flatnonzero(begins)


def _last(owner: Ints, owners: int, length: int) -> tuple[Ints, Ints]:
    """Places of the last `length` rows of each owner, of rows sorted by owner, and where each owner's then end."""
    counts = np.bincount(owner, minlength=owners)
    left = np.cumsum(counts)[owner] - np.arange(len(owner))
    return np.flatnonzero(left <= length), np.cumsum(np.minimum(counts, length))


def _lists(name: str, values: pl.Series, ends: Ints) -> pl.Series:
    """The list of values that ends at each of `ends`."""
    flat = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    lists = pl.from_arrow(pa.LargeListArray.from_arrays(arrow(np.append(0, ends).astype(np.int64)), flat))
    assert isinstance(lists, pl.Series)
    return lists.alias(name)
