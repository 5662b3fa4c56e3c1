"""A day of the click log as three tables, users, items and events, and the blocks its events are read in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.tasks import READ
from dmtl_cli.data.log.checked import labels
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.order import ascending
from dmtl_cli.data.log.values.spool import Spool, bucket_of

Ints = npt.NDArray[np.int64]
ID = ":id"  # the id column of users and items: no feature can be called that
NO_REQUEST = -(2**63)  # the request of an event in a log without requests
TIME = "_time"  # the log's time column where rows are to be ordered by it
FEATURE = "x:"  # begins the name of an event-level feature's column in the spool


@dataclass(frozen=True)
class Block:
    """Some events of one day, as arrays of one length n."""

    position: Ints
    """place in the day's log: names an event whatever the order of reading"""
    user: npt.NDArray[np.int32]
    """row in the day's users"""
    item: npt.NDArray[np.int32]
    """row in the day's items"""
    click: npt.NDArray[np.bool_]
    duration: npt.NDArray[np.float32]
    """seconds; NaN where the log has none"""
    conversion: npt.NDArray[np.int8]
    """1, 0; -1 where the log has none"""
    weight: npt.NDArray[np.float32]
    request: Ints
    """NO_REQUEST where the log has none"""
    features: pl.DataFrame | None
    """raw event-level feature columns, by feature name; None without event-level features"""
    further: dict[str, npt.NDArray[np.int8]]
    """further conversions by name: 1, 0; -1 where unknown"""
    time: pl.Series | None = None
    """the log's time column as it is there; None where it has none, or times were not read (`Log.timed`)"""

    def __len__(self) -> int:
        return len(self.user)

    def labels(self, threshold: float | None) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """(z, known) of each event: see `labels.converted`; `threshold` is in seconds."""
        return labels.converted(self.click, self.duration, self.conversion, threshold)

    def conversions(self, threshold: float | None) -> dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
        """(z, known) of every conversion task: cvr, and the log's further ones by name."""
        further = {name: labels.with_click(self.click, flags) for name, flags in self.further.items()}
        return {READ: self.labels(threshold), **further}


@dataclass(frozen=True)
class Day:
    """One day of the log: U users, I items, and n events that name them by row. Immutable once read."""

    day: dt.date
    users: pl.DataFrame
    """[U] sorted by id: column `:id` (int64 or text), then one raw column per feature of side user, by feature name.
    Ids of the log and of the side table. An event-level feature has the value of the user's first event here"""
    items: pl.DataFrame
    """[I] the same for items"""
    spool: Spool
    """events by bucket of their user, repeated clicks included; a day of up to POOL * BLOCK rows has one bucket"""
    clicked: Ints
    """sorted distinct user row * I + item row of the day's clicks"""
    repeated: Ints
    """sorted positions of clicks that repeat one of the same pair and request; `blocks` leaves them out"""
    user_events: Ints
    """[U] events of each user; 0: in the side table alone"""
    item_events: Ints
    """[I] events of each item"""
    item_clicks: Ints
    """[I] clicks on each item"""
    facts: dict[str, float]
    """rows and clicks (without repeated ones), repeated_clicks, clicks_without_duration, duration_sum (seconds) and
    duration_rows of the clicks with a known duration, users_joined and items_joined (shares of ids that a side table
    has), and where rows were left out `left_out.REASON` of each reason (`invalid.REASONS`)"""

    def __len__(self) -> int:
        """Events, without repeated clicks."""
        return int(self.facts["rows"])

    def blocks(self, rng: np.random.Generator | None = None, by_user: bool = False) -> Iterator[Block]:
        """The day's events, once each.

        Without rng in the order of the spool (with one bucket that of the log), BLOCK rows per block; with rng record
        batches in random order, pooled to POOL * BLOCK rows and shuffled. By user: one block per bucket, the rows of a
        user one after the other; with rng buckets, users and the rows of each are in random order.
        """
        if by_user:
            buckets = np.arange(len(self.spool))
            for k in buckets if rng is None else rng.permutation(buckets):
                if (frame := self.spool.bucket(int(k))) is not None:
                    frame = self._counted(frame)
                    yield _block(frame, _user_by_user(frame, rng))
        else:
            yield from self._blocks(self.spool.whole, rng)

    def bucket(self, k: int, rng: np.random.Generator | None = None) -> Iterator[Block]:
        """The events of one bucket, as `blocks` gives those of the day."""
        return self._blocks(self.spool.batches[k], rng)

    def bucket_of(self, user: npt.NDArray[Any]) -> Ints:
        """Bucket of the events of each user row, [n]: a fixed random draw of the row."""
        return bucket_of(user, len(self.spool))

    def _blocks(self, batches: Ints, rng: np.random.Generator | None) -> Iterator[Block]:
        rows = sizes.BLOCK if rng is None else sizes.POOL * sizes.BLOCK
        for whole in self.spool.read(batches if rng is None else rng.permutation(batches), rows):
            frame = self._counted(whole)
            yield _block(frame, None if rng is None else rng.permutation(len(frame)))

    def values(self, name: str) -> Iterator[pl.Series]:
        """One event-level feature of the events, in the order of `blocks` without rng; of the spool no other column is
        read."""
        columns = [*(["position"] if len(self.repeated) else []), FEATURE + name]
        for frame in self.spool.read(self.spool.whole, sizes.BLOCK, columns):
            yield self._counted(frame)[FEATURE + name].alias(name)

    def _counted(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame without repeated clicks."""
        if not len(self.repeated):
            return frame
        position = frame["position"].to_numpy()
        return frame.filter(np.append(self.repeated, -1)[np.searchsorted(self.repeated, position)] != position)

    def has_clicked(self, user: npt.NDArray[Any], item: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Whether each (user row, item row) is a click of this day, [n]."""
        pair = user.astype(np.int64) * len(self.items) + item
        at = np.searchsorted(self.clicked, pair)
        return np.append(self.clicked, -1)[at] == pair  # type: ignore[no-any-return]

    @cached_property
    def user_rows(self) -> pl.DataFrame:
        """[U] `row` and `:id`, to join by id."""
        return self.users.select(ID).with_row_index("row")

    @cached_property
    def item_rows(self) -> pl.DataFrame:
        """[I] `row` and `:id`, to join by id."""
        return self.items.select(ID).with_row_index("row")

    def rows_of(self, ids: pl.Series, side: str) -> Ints:
        """Row of each id in the day's users or items, [n]; -1 where it has none."""
        table = self.user_rows if side == "user" else self.item_rows
        if ids.dtype != table[ID].dtype:
            return np.full(len(ids), -1, np.int64)
        found = pl.DataFrame({ID: ids}).join(table, on=ID, how="left", maintain_order="left")["row"]
        return found.cast(pl.Int64).fill_null(-1).to_numpy()


_ABSENT = {"conversion": np.int8(-1), "weight": np.float32(1), "request": np.int64(NO_REQUEST)}
"""what a column has in each row where the log has none: the spool keeps no such column"""


def _block(frame: pl.DataFrame, order: Ints | None) -> Block:
    """The rows of the spool that `order` names, one after the other; None: all as they are."""
    n = len(frame) if order is None else len(order)

    def column(name: str) -> npt.NDArray[Any]:
        if name in _ABSENT and name not in frame.columns:
            return np.full(n, _ABSENT[name])
        values = frame[name].to_numpy()
        return values if order is None else values.take(order)

    raw = frame.select(c for c in frame.columns if c.startswith(FEATURE))
    raw = raw if order is None or not raw.width else raw[order]
    time = frame[TIME] if TIME in frame.columns else None
    return Block(
        **{name: column(name) for name in ("position", "user", "item", "duration", *_ABSENT)},
        click=column("click") == 1,
        features=raw.rename(lambda name: name.removeprefix(FEATURE)) if raw.width else None,
        further={c.removeprefix(labels.FURTHER): column(c) for c in frame.columns if c.startswith(labels.FURTHER)},
        time=time if time is None or order is None else time.gather(order),
    )


def _user_by_user(frame: pl.DataFrame, rng: np.random.Generator | None) -> Ints:
    """The order in which the rows of a user are one after the other."""
    users, user = np.unique(frame["user"].to_numpy(), return_inverse=True)
    if rng is None:
        return ascending(user)
    order = rng.permutation(len(frame))
    return order[ascending(rng.permutation(len(users))[user[order]])]
