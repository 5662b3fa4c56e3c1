"""Pairs of row numbers that a model learns from or scores, whatever their labels are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.values.order import ascending

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
L = TypeVar("L")
"""the labels of rows: a NamedTuple of arrays [n, ...] or tensors, or None for pairs to be scored"""


def begins(days: Iterable[Day]) -> Iterator[tuple[Day, int, int]]:
    """Each day with where its users and its items begin in the stacked tables."""
    users = items = 0
    for day in days:
        yield day, users, items
        users, items = users + len(day.users), items + len(day.items)


@dataclass(frozen=True)
class Rows(Generic[L]):
    """n pairs. `user` and `item` number rows of the model's stacked tables."""

    user: Ints
    item: Ints
    labels: L
    features: pl.DataFrame | None = None
    """raw event-level features; None where a row has no event of its own"""
    lists: Ints | None = None
    """one number per list, whose rows are adjacent and reach a batch together; None: there are no lists"""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def events(self) -> pl.DataFrame:
        """Their features; where they have no event one column without a name, as a slice of no columns has no rows."""
        return pl.DataFrame({"": np.zeros(len(self))}) if self.features is None else self.features

    def take(self, rows: Array | slice) -> Rows[L]:
        return Rows(
            _taken(self.user, rows),
            _taken(self.item, rows),
            map_labels(lambda x: _taken(x, rows), self.labels),
            None if self.features is None else self.features[rows],
            None if self.lists is None else _taken(self.lists, rows),
        )

    def where(self, kept: npt.NDArray[np.bool_]) -> Rows[L]:
        """The rows that are kept; of all of them no copy."""
        return self if kept.all() else self.take(np.flatnonzero(kept))

    def shuffled(self, rng: np.random.Generator) -> Rows[L]:
        """In random order; rows of one list stay together."""
        if self.lists is None:
            return self.take(rng.permutation(len(self)))
        new = np.append(True, self.lists[1:] != self.lists[:-1]) if len(self) else np.zeros(0, np.bool_)
        _, rank = np.unique(self.lists[new], return_inverse=True)
        order = rng.permutation(rank.max(initial=-1) + 1)
        return self.take(ascending(order[rank][np.cumsum(new) - 1]))

    def shifted(self, users: int, items: int) -> Rows[L]:
        """The same rows after so many rows of other days in the stacked tables."""
        if not users and not items:
            return self
        return Rows(self.user + users, self.item + items, self.labels, self.features, self.lists)

    @property
    def cuts(self) -> Ints:
        """Places where the rows may be cut, the end included: anywhere, or between lists."""
        if self.lists is None:
            return np.arange(1, len(self) + 1)
        return np.append(np.flatnonzero(self.lists[1:] != self.lists[:-1]) + 1, len(self.lists))

    @staticmethod
    def concat(parts: Sequence[Rows[L]]) -> Rows[L]:
        """The rows of all parts.

        Raises:
            ValueError: some of them have features, labels or lists, and others have none.
        """
        if len(parts) == 1:
            return parts[0]
        columns = [p.labels for p in parts if p.labels is not None]
        framed = [p.features for p in parts if p.features is not None]
        listed = [p.lists for p in parts if p.lists is not None]
        if not {len(columns), len(framed), len(listed)} <= {0, len(parts)}:
            raise ValueError("expected parts that all have labels, features and lists, or all have none")
        return Rows(
            np.concatenate([p.user for p in parts]),
            np.concatenate([p.item for p in parts]),
            map_labels(lambda *x: np.concatenate(x), *columns) if columns else parts[0].labels,
            pl.concat(framed) if framed else None,
            np.concatenate(listed) if listed else None,
        )


def _taken(values: Array, rows: Array | slice) -> Array:
    return values[rows] if isinstance(rows, slice) else values.take(rows, 0)


def map_labels(change: Callable[..., Any], labels: L, *others: L) -> L:
    """The labels with each of their arrays changed; None stays None."""
    if labels is None:
        return labels
    made: L = type(labels)(*map(change, labels, *others))  # type: ignore[call-overload]
    return made


def pairs(user: Array, item: Array, features: pl.DataFrame | None = None) -> Rows[None]:
    """Pairs to be scored: rows without labels."""
    return Rows(user.astype(np.int64, copy=False), item.astype(np.int64, copy=False), None, features)


def in_lists(rows: Rows[L], group: Ints, size: int, rng: np.random.Generator) -> Rows[L]:
    """The rows list by list: those of a group, cut at random into lists of at most `size`, in random order.

    A list's number is random, of 62 bits, so that lists of any source can be told apart.
    """
    order = rng.permutation(len(rows))
    order = order[ascending(group[order])]
    return in_runs(rows.take(order), group[order], size, rng).shuffled(rng)


def in_runs(rows: Rows[L], group: Ints, size: int, rng: np.random.Generator) -> Rows[L]:
    """Rows whose groups are adjacent, in their order; each group cut into lists of at most `size`: see `in_lists`."""
    new = np.append(True, group[1:] != group[:-1]) if len(group) else np.zeros(0, np.bool_)
    begin = np.flatnonzero(new)
    place = np.arange(len(group)) - np.repeat(begin, np.diff(np.append(begin, len(group))))
    new |= place % size == 0
    number = rng.integers(2**62, size=int(new.sum()))[np.cumsum(new) - 1]
    return Rows(rows.user, rows.item, rows.labels, rows.features, number)
