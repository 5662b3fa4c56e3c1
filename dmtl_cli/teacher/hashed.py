"""Rows of features as sparse vectors of a fixed length: the hashing trick (Weinberger et al., ICML 2009).

Each value of each feature has a slot, by a frozen hash of the feature's name and of the value's row in its encoder,
which keeps its meaning from day to day; row 0, out of vocabulary, is a slot of its own. Features that share an
embedding share no slots.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.features.layout import Encoded, IdColumn, PaddedSequence
from dmtl_cli.data.log.values.hashing import blake2b64, splitmix64
from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.batches import Tables
from dmtl_cli.nn.kernels.distinct import distinct_of
from dmtl_cli.teacher.conjunctions import Cells, Conjunction, Paired, values_of

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

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
    """A matrix [n, slots], a feature after the other; cells of one place add up.

    Kept by kind, since only a list's values need a sum over places: each row has one cell of an id or a number.
    """

    n: int
    ids: list[Ints]
    """[n] each: the slot of each row's id, which weighs 1"""
    numbers: list[tuple[Ints, Floats]]
    """(slot [1], each row's number [n]) each"""
    lists: list[Cells]
    """(row, slot, value) [m] each, in any order"""

    @staticmethod
    def of(encoder: Encoder, encoded: Encoded, side: str, per_event: bool | None = None) -> Sparse:
        """The rows of one side: an id weighs 1, each value of a list 1 / their number, a float column its number.

        Args:
            per_event: which of the side's features `encoded` has, as for `Encoder.encode`.
        """
        out = Sparse(len(encoded), [], [], [])
        ids, sequences, floats = iter(encoded.ids.T), iter(encoded.sequences), iter(encoded.floats.T)
        for feature in encoder.features_of_side(side, per_event):
            part = kind_of(feature).part
            if isinstance(part, IdColumn):
                out.ids.append(slots_of(feature.name, next(ids)))
            elif isinstance(part, PaddedSequence):
                out.lists.append(_of_lists(feature.name, next(sequences)))
            else:
                for column in range(part.width):
                    out.numbers.append((slots_of(feature.name, np.array([column])), next(floats).astype(np.float64)))
        return out

    def beside(self, other: Sparse) -> Sparse:
        """The features of both, of the same rows."""
        return Sparse(self.n, self.ids + other.ids, self.numbers + other.numbers, self.lists + other.lists)

    def with_bias(self) -> Sparse:
        """The same rows, each with the bias."""
        return self.beside(Sparse(self.n, [], [(np.array([BIAS]), np.ones(self.n))], []))

    @property
    def slots(self) -> list[Ints]:
        """Of all cells."""
        return [*self.ids, *(slot for slot, _ in self.numbers), *(slot for _, slot, _ in self.lists)]

    def at(self, place: Ints) -> Sparse:
        """The same cells at other slots: `place` [slots] of each."""
        numbers = [(place[slot], x) for slot, x in self.numbers]
        return Sparse(self.n, [place[x] for x in self.ids], numbers, [(r, place[s], x) for r, s, x in self.lists])

    def squared(self) -> Sparse:
        """Each cell's square in its place."""
        numbers = [(slot, x**2) for slot, x in self.numbers]
        return Sparse(self.n, self.ids, numbers, [(r, s, x**2) for r, s, x in self.lists])

    def times(self, weights: Array) -> Floats:
        """[n] each row's product with the weights [slots]."""
        out = np.zeros(self.n)
        for slots in self.ids:
            out += weights.take(slots)
        for slot, x in self.numbers:
            out += weights[slot] * x
        for row, slots, x in self.lists:
            _add(out, row, weights.take(slots) * x)
        return out

    def sum_into(self, out: Floats, per_row: Floats) -> None:
        """Adds to `out` [slots] the sum of the rows, each times its number."""
        for slots in self.ids:
            _add(out, slots, per_row)
        for slot, x in self.numbers:
            out[slot] += (x * per_row).sum()
        for row, slots, x in self.lists:
            _add(out, slots, per_row.take(row) * x)


@dataclass(frozen=True)
class Design:
    """B rows, each the sum of a user's, an item's and its event's, so that a user's part is computed once."""

    user: Sparse
    """distinct users"""
    item: Sparse
    """distinct items, with the bias"""
    pair: Sparse
    """conjunctions: B rows"""
    event: Sparse
    """what changes with the event: B rows"""
    user_index: Ints
    """[B] place of each row's user"""
    item_index: Ints
    """[B] place of each row's item"""

    @staticmethod
    def of(
        encoder: Encoder,
        tables: Tables,
        rows: Rows[Any],
        *,
        context: bool = True,
        conjunctions: Sequence[Conjunction] = (),
    ) -> Design:
        """Args: context: whether the rows have what changes with the event."""
        users, user_index = distinct_of(rows.user)
        items, item_index = distinct_of(rows.item)
        user = Sparse.of(encoder, tables.users.take(users), "user", False)
        item = Sparse.of(encoder, tables.items.take(items), "item", False).with_bias()
        event = event_cells(encoder, rows) if context else nothing(len(rows))
        pair = pair_cells(encoder, tables, rows, conjunctions)
        return Design(user, item, pair, event, user_index, item_index)

    def without_context(self) -> Design:
        """The rows without what changes with the event."""
        return replace(self, event=nothing(self.event.n))

    def without_pairs(self) -> Design:
        """The rows without conjunctions."""
        return replace(self, pair=nothing(self.pair.n))

    def times(self, weights: Array) -> Floats:
        """[B] each row's product with the weights [slots]."""
        out = self.event.times(weights)
        out += self.pair.times(weights)
        out += self.user.times(weights).take(self.user_index)
        out += self.item.times(weights).take(self.item_index)
        return out

    def summed(self, per_row: Floats, width: int) -> Floats:
        """[width] the sum of the rows, each times its number."""
        out = np.zeros(width)
        for part, index in ((self.user, self.user_index), (self.item, self.item_index)):
            of_rows = np.zeros(part.n)
            _add(of_rows, index, per_row)
            part.sum_into(out, of_rows)
        self.pair.sum_into(out, per_row)
        self.event.sum_into(out, per_row)
        return out

    def squared(self) -> Design:
        """Each cell's square in its place."""
        return self._mapped(Sparse.squared)

    def compact(self, slots: int = SLOTS) -> tuple[Ints, Design]:
        """(slots that the rows have, sorted [S]; the same rows with 0 .. S - 1 as slots)."""
        there = np.zeros(slots, np.bool_)
        for part in (self.user, self.item, self.pair, self.event):
            for of_part in part.slots:
                there[of_part] = True
        place = np.cumsum(there) - 1
        return np.flatnonzero(there), self._mapped(lambda part: part.at(place))

    def _mapped(self, change: Callable[[Sparse], Sparse]) -> Design:
        parts = (self.user, self.item, self.pair, self.event)
        user, item, pair, event = map(change, parts)
        return replace(self, user=user, item=item, pair=pair, event=event)


def _add(out: Floats, at: Ints, values: Floats) -> None:
    """Adds each value to its place in `out`; twice as fast as numpy's bincount, and other threads run meanwhile."""
    torch.from_numpy(out).scatter_add_(0, torch.from_numpy(at), torch.from_numpy(values))


def nothing(n: int) -> Sparse:
    """n rows without a cell."""
    return Sparse(n, [], [], [])


def first_slots(conjunctions: Sequence[Conjunction]) -> list[int]:
    """[K + 1] the first slot of each conjunction, behind those of single values, and the number of all slots."""
    return list(itertools.accumulate((1 << c.bits for c in conjunctions), initial=SLOTS))


def pair_cells(encoder: Encoder, tables: Tables, rows: Rows[Any], conjunctions: Sequence[Conjunction]) -> Sparse:
    """The conjunctions' cells of pairs."""
    if not conjunctions:
        return nothing(len(rows))
    paired = paired_values(encoder, tables, rows, conjunctions)
    first = first_slots(conjunctions)
    return Sparse(len(rows), [], [], [paired.cells(c, at) for c, at in zip(conjunctions, first, strict=False)])


def paired_values(
    encoder: Encoder, tables: Tables, rows: Rows[Any], conjunctions: Sequence[Conjunction] | None = None
) -> Paired:
    """The rows with the values that conjunctions, or all that there can be, are made of."""
    users, user_index = distinct_of(rows.user)
    items, item_index = distinct_of(rows.item)
    wanted = (None, None) if conjunctions is None else ([c.user for c in conjunctions], [c.item for c in conjunctions])
    of_users = values_of(encoder, tables.users.take(users), "user", wanted[0])
    of_items = values_of(encoder, tables.items.take(items), "item", wanted[1])
    return Paired(of_users, of_items, user_index, item_index)


def event_cells(encoder: Encoder, rows: Rows[Any]) -> Sparse:
    """What changes with the event: its context, and event-level features of its user."""
    features = rows.events
    context = Sparse.of(encoder, encoder.encode(features, "context"), "context")
    return context.beside(Sparse.of(encoder, encoder.encode(features, "user", True), "user", True))


def _of_lists(name: str, lists: npt.NDArray[np.int32]) -> Cells:
    """Cells of padded lists [n, L]; an empty one is row 0."""
    row, place = np.nonzero(lists)
    known = np.bincount(row, minlength=len(lists))
    empty = np.flatnonzero(known == 0)
    rows, values = np.concatenate([row, empty]), np.concatenate([lists[row, place], np.zeros_like(empty)])
    return rows, slots_of(name, values), 1 / np.maximum(known, 1)[rows]


def has_event_features(encoder: Encoder) -> bool:
    """Whether anything changes with the event."""
    return bool(encoder.features_of_side("context") or encoder.features_of_side("user", True))
