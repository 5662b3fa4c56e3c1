"""Rows of features as sparse vectors of a fixed length: the hashing trick (Weinberger et al., ICML 2009).

Each value of each feature has a slot, by a frozen hash of the feature's name and of the value's row in its encoder,
which keeps its meaning from day to day; row 0, out of vocabulary, is a slot of its own. Features that share an
embedding share no slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.features.layout import Encoded, IdColumn, PaddedSequence
from dmtl_cli.data.log.hashing import blake2b64, splitmix64
from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.batches import Tables
from dmtl_cli.nn.kernels.distinct import distinct_of

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Cells = tuple[Ints, Ints, npt.NDArray[np.float32]]

_BITS = 20
SLOTS = 1 << _BITS
_BIAS = ":bias"  # the name that the bias's slot is hashed from: no feature can be called that


def slots_of(name: str, rows: Array) -> Ints:
    """[n] slot of each row of a feature: the highest bits of SplitMix64's draws from states that its name begins."""
    state = rows.astype(np.uint64) + np.uint64(blake2b64(name))
    return (splitmix64(state) >> np.uint64(64 - _BITS)).astype(np.int64)


BIAS = int(slots_of(_BIAS, np.zeros(1))[0])


@dataclass(frozen=True)
class Sparse:
    """A matrix [n, slots] as its m cells, in any order; cells of one place add up."""

    n: int
    row: Ints
    """[m]"""
    slot: Ints
    """[m]"""
    value: npt.NDArray[np.float32]
    """[m]"""

    @staticmethod
    def of(encoder: Encoder, encoded: Encoded, side: str, per_event: bool | None = None) -> Sparse:
        """The rows of one side: an id weighs 1, each value of a list 1 / their number, a float column its number.

        Args:
            per_event: which of the side's features `encoded` has, as for `Encoder.encode`.
        """
        n, every = len(encoded), np.arange(len(encoded))
        ids, sequences, floats = iter(encoded.ids.T), iter(encoded.sequences), iter(encoded.floats.T)
        cells: list[Cells] = []
        for feature in encoder.features_of_side(side, per_event):
            part = kind_of(feature).part
            if isinstance(part, IdColumn):
                cells.append((every, slots_of(feature.name, next(ids)), np.ones(n, np.float32)))
            elif isinstance(part, PaddedSequence):
                cells.append(_of_lists(feature.name, next(sequences)))
            else:
                for column in range(part.width):
                    cells.append((every, slots_of(feature.name, np.full(n, column)), next(floats)))
        return Sparse.of_cells(n, cells)

    @staticmethod
    def of_cells(n: int, cells: list[Cells]) -> Sparse:
        row, slot, value = zip(*cells, strict=True) if cells else ([], [], [])
        none: Cells = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        return Sparse(n, *(np.concatenate([empty, *x]) for empty, x in zip(none, (row, slot, value), strict=True)))

    @property
    def cells(self) -> Cells:
        return self.row, self.slot, self.value

    def with_bias(self) -> Sparse:
        """The same rows, each with the bias."""
        every = np.arange(self.n), np.full(self.n, BIAS), np.ones(self.n, np.float32)
        return Sparse.of_cells(self.n, [self.cells, every])

    def times(self, weights: Array) -> Floats:
        """[n] each row's product with the weights [slots]."""
        return _sums(self.row, weights.take(self.slot) * self.value, self.n)

    def summed(self, per_row: Floats, width: int) -> Floats:
        """[width] the sum of the rows, each times its number."""
        return _sums(self.slot, per_row.take(self.row) * self.value, width)


@dataclass(frozen=True)
class Design:
    """B rows, each the sum of a user's, an item's and its event's, so that a user's part is computed once."""

    user: Sparse
    """distinct users"""
    item: Sparse
    """distinct items, with the bias"""
    event: Sparse
    """what changes with the event: B rows"""
    user_index: Ints
    """[B] place of each row's user"""
    item_index: Ints
    """[B] place of each row's item"""

    @staticmethod
    def of(encoder: Encoder, tables: Tables, rows: Rows[Any], *, context: bool = True) -> Design:
        """Args: context: whether the rows have what changes with the event."""
        users, user_index = distinct_of(rows.user)
        items, item_index = distinct_of(rows.item)
        user = Sparse.of(encoder, tables.users.take(users), "user", False)
        item = Sparse.of(encoder, tables.items.take(items), "item", False).with_bias()
        event = event_cells(encoder, rows) if context else Sparse.of_cells(len(rows), [])
        return Design(user, item, event, user_index, item_index)

    def times(self, weights: Array) -> Floats:
        """[B] each row's product with the weights [slots]."""
        user, item = self.user.times(weights), self.item.times(weights)
        return user.take(self.user_index) + item.take(self.item_index) + self.event.times(weights)

    def summed(self, per_row: Floats, width: int) -> Floats:
        """[width] the sum of the rows, each times its number."""
        by_user = _sums(self.user_index, per_row, self.user.n)
        by_item = _sums(self.item_index, per_row, self.item.n)
        return self.user.summed(by_user, width) + self.item.summed(by_item, width) + self.event.summed(per_row, width)

    def squared(self) -> Design:
        """Each cell's square in its place."""
        return self._mapped(lambda x: Sparse(x.n, x.row, x.slot, x.value**2))

    def compact(self) -> tuple[Ints, Design]:
        """(slots that the rows have, sorted [S]; the same rows with 0 .. S - 1 as slots)."""
        there = np.zeros(SLOTS, np.bool_)
        for part in (self.user, self.item, self.event):
            there[part.slot] = True
        place = np.cumsum(there) - 1
        return np.flatnonzero(there), self._mapped(lambda x: Sparse(x.n, x.row, place[x.slot], x.value))

    def _mapped(self, change: Callable[[Sparse], Sparse]) -> Design:
        return replace(self, user=change(self.user), item=change(self.item), event=change(self.event))


def _sums(at: Ints, values: Array, n: int) -> Floats:
    """[n] the sum of the values at each place; twice as fast as numpy's bincount, and other threads run meanwhile."""
    sums, wide = torch.zeros(n, dtype=torch.float64), torch.from_numpy(values.astype(np.float64, copy=False))
    return sums.scatter_add_(0, torch.from_numpy(at), wide).numpy()


def event_cells(encoder: Encoder, rows: Rows[Any]) -> Sparse:
    """What changes with the event: its context, and event-level features of its user."""
    features = rows.features if rows.features is not None else pl.DataFrame({"": np.zeros(len(rows))})
    levels: list[tuple[str, bool | None]] = [("context", None), ("user", True)]
    parts = [Sparse.of(encoder, encoder.encode(features, *level), *level) for level in levels]
    return Sparse.of_cells(len(rows), [part.cells for part in parts])


def _of_lists(name: str, lists: npt.NDArray[np.int32]) -> Cells:
    """Cells of padded lists [n, L]; an empty one is row 0."""
    row, place = np.nonzero(lists)
    known = np.bincount(row, minlength=len(lists))
    empty = np.flatnonzero(known == 0)
    rows, values = np.concatenate([row, empty]), np.concatenate([lists[row, place], np.zeros_like(empty)])
    return rows, slots_of(name, values), (1 / np.maximum(known, 1)[rows]).astype(np.float32)


def has_event_features(encoder: Encoder) -> bool:
    """Whether anything changes with the event."""
    return bool(encoder.features_of_side("context") or encoder.features_of_side("user", True))
