"""Values as small integers: by a dictionary of a column, and by their places in a sorted table.

A column of n values repeats few distinct ones. Each is hashed once and looked up once for all of its rows; integers in
a narrow range are neither, they are places of a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]
_WIDE = 2  # times as many places as there are values that a table may have
_FREE = 65_536  # places that any table may have


def encoded(values: pl.Series) -> tuple[Rows, pl.Series]:
    """(codes [n], distinct): each value's place among the distinct ones, which are in order of appearance; -1 for
    null."""
    array = values.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    codes, distinct = pl.from_arrow(array.indices), pl.from_arrow(array.dictionary)
    assert isinstance(codes, pl.Series) and isinstance(distinct, pl.Series)
    if codes.null_count():
        codes = codes.fill_null(-1)
    return codes.to_numpy(), distinct  # not Arrow's to_numpy, which imports pandas


def increases(values: Ints) -> bool:
    """Whether each value is greater than the one before it."""
    return bool((values[1:] > values[:-1]).all())


@dataclass(frozen=True)
class Range:
    """A table over all integers from the first to the last of some, for such as are close to each other."""

    first: int
    table: Rows
    """[last - first + 2], the last place for any other integer"""

    @staticmethod
    def of(values: Ints, numbers: Rows, other: int) -> Range | None:
        """The number of each value, of sorted values; None where they are too far apart."""
        if not len(values):
            return None
        first, span = int(values[0]), int(values[-1]) - int(values[0]) + 1
        if span > _WIDE * len(values) + _FREE:
            return None
        table = np.full(span + 1, other, np.int32)
        table[values - first] = numbers
        return Range(first, table)

    def lookup(self, asked: Ints) -> Rows:
        """[n] the number of each integer."""
        place = (asked - np.int64(self.first)).view(np.uint64)  # what is below the first wraps to above the last
        return self.table.take(np.minimum(place, np.uint64(len(self.table) - 1)).view(np.int64))


def places(known: pl.Series, asked: pl.Series) -> Rows:
    """[n] place of each value among the known ones, which are sorted and distinct (null first); -1 where it is none of
    them. Asked are few, or distinct: of a column with repetitions, ask for what `encoded` returns."""
    if not len(known) or not len(asked):
        return np.full(len(asked), -1, np.int32)
    if asked.null_count():
        out = np.full(len(asked), -1, np.int32)
        here = asked.is_not_null()
        out[here.to_numpy()] = places(known, asked.filter(here))
        return out
    if nulls := known.null_count():
        at = places(known[nulls:], asked)
        return np.where(at < 0, at, at + np.int32(nulls))
    if known.dtype == pl.Int64:
        return _places_of_integers(known.to_numpy(), asked.to_numpy())
    order = asked.arg_sort().to_numpy()  # in their order, what is searched next is near
    some = asked.gather(order)
    found = known.search_sorted(some).clip(upper_bound=len(known) - 1)
    return _unsorted(np.where((known.gather(found) == some).to_numpy(), found.to_numpy().astype(np.int64), -1), order)


class Texts:
    """Distinct texts in which many are looked up, in any order: by 64 bits of each, and then compared.

    Args:
        known: sorted, without null.
    """

    def __init__(self, known: pl.Series) -> None:
        self.known, hashes = known, known.hash().to_numpy()
        self._order = np.argsort(hashes)
        self._hashes = hashes[self._order]

    def places(self, asked: pl.Series) -> Rows:
        """As the function of that name."""
        out = np.full(len(asked), -1, np.int32)
        if not len(self.known):
            return out
        hashes = asked.hash().to_numpy()
        order = np.argsort(hashes)  # in their order, what is searched next is near
        hashes = hashes[order]
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        alike = self._hashes[at] == hashes
        out[order[alike]] = self._order[at[alike]]
        some = np.flatnonzero(out >= 0)
        same = self.known.gather(out[some]).eq_missing(asked.gather(some)).to_numpy()
        if not same.all():  # two texts of one hash
            some = some[~same]
            out[some] = places(self.known, asked.gather(some))
        return out


def _places_of_integers(known: Ints, asked: Ints) -> Rows:
    if len(asked) >= len(known) // 4 and (by_value := Range.of(known, np.arange(len(known), dtype=np.int32), -1)):
        return by_value.lookup(asked)
    order = None if increases(asked) else np.argsort(asked)
    some = asked if order is None else asked[order]
    found = np.minimum(np.searchsorted(known, some), len(known) - 1)
    found = np.where(known[found] == some, found, -1)
    return found.astype(np.int32) if order is None else _unsorted(found, order)


def _unsorted(found: Ints, order: Ints) -> Rows:
    rows = np.empty(len(order), np.int32)
    rows[order] = found
    return rows
