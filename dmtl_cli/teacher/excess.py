"""Which conjunctions say something: a score test of each, of the residuals of a regression without it.

Weights of variance s make the residuals of two rows of a cell alike, by s times what the rows tell of a weight (Lin,
Biometrika 1997). So the test sums products of residuals over pairs of different rows. A row's own square is left out:
of one click it tells nothing, and it is smaller than chance where the row has been learned. Two rows are alike for
other reasons too: their user, or their item, is clicked more than the regression has learned yet; that is taken out by
the rows that share one of the two values. And the tastes of a few users make an age or a device look as if it had one;
so pairs of rows of one user count for the user's id alone.

n rows, C cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dmtl_cli.nn.kernels.distinct import distinct_of
from dmtl_cli.teacher.conjunctions import CELLS, PRECISION, Conjunction, Floats, Ints, Paired, Values

_ROWS = 1 << 16  # of a day that are tested
_BITS = 18  # of the slots of a conjunction that is tested: few meet, and they stay in a cache


class Residuals(NamedTuple):
    """What a regression without conjunctions leaves of one label."""

    label: npt.NDArray[np.bool_]
    """[n]"""
    probable: Floats
    """[n]"""
    weight: Floats
    """[n]; 0: the row is not learned"""

    def first(self, n: int) -> Residuals:
        return Residuals(self.label[:n], self.probable[:n], self.weight[:n])


class Sums(NamedTuple):
    """Sums over all ordered pairs of two rows of a cell, over all cells, of the product of what both have.

    v = p (1 - p), c is a row's weight and x a cell's value.
    """

    products: float
    """of c x (y - p)"""
    variance: float
    """of c^2 x^2 v"""
    known: float
    """of c x^2 v"""

    def without(self, other: Sums) -> Sums:
        """Of the pairs that are not among some of them."""
        return Sums(*(a - b for a, b in zip(self, other, strict=True)))


class Excess(NamedTuple):
    """How much more alike the residuals of rows are that share both values of a conjunction than those that share one.

    With S the products of rows that share both values, and S_u, S_i of those that share that of the user, of the item,
    and K, K_u, K_i what is known of these:

        products = S - a S_u - b S_i, with a, b such that effects of the user's and of the item's value alone give 0
    """

    products: float
    """0 on average where the weights of the conjunction do not vary"""
    variance: float
    """of `products` then"""
    known: float
    """`products` of weights of variance 1, on average"""
    most: float
    """the largest product that two rows can have"""

    @staticmethod
    def of(both: Sums, user: Sums, item: Sums, most: float) -> Excess:
        determinant = user.known * item.known - both.known**2
        if both.known <= 0 or determinant <= 1e-9 * user.known * item.known:  # rows that share one value share both
            return Excess(0.0, 0.0, 0.0, most)
        a = both.known * (item.known - both.known) / determinant
        b = both.known * (user.known - both.known) / determinant
        rest = 1 - a - b
        variance = rest**2 * both.variance + a**2 * (user.variance - both.variance)
        variance += b**2 * (item.variance - both.variance)
        products = both.products - a * user.products - b * item.products
        return Excess(products, max(2 * variance, 0.0), rest * both.known, most)

    @property
    def z(self) -> float:
        """Standard errors by which `products` is above 0, less where few pairs of rows tell: the tail of a sum of some
        large terms is Bernstein's, exp(-z^2 / 2) with this z."""
        spread = self.variance + max(self.products, 0.0) * 2 * self.most / 3
        return self.products / float(np.sqrt(spread)) if spread > 0 else 0.0

    @property
    def precision(self) -> float:
        """1 / the variance of the weights, by the method of moments (DerSimonian and Laird, 1986)."""
        least, most = PRECISION
        return float(np.clip(self.known / self.products, least, most)) if self.products > 0 else most

    def after(self, before: Excess, memory: float) -> Excess:
        """With what the days before found, of which `memory` is left."""
        return Excess(
            self.products + memory * before.products,
            self.variance + memory**2 * before.variance,
            self.known + memory * before.known,
            max(self.most, before.most),
        )


Excesses = dict[tuple[str, str], dict[str, Excess]]
"""by the features of a conjunction and by label"""


def excesses(
    paired: Paired, residuals: Mapping[str, Residuals], items: int, had: Iterable[Conjunction] = ()
) -> Excesses:
    """What the rows of a day tell of every conjunction that a model does not have yet.

    Args:
        residuals: by label.
        items: how many there are; in `paired` one of several days is several.
        had: conjunctions of the model.
    """
    out: Excesses = {}
    rows = paired.first(_ROWS)
    moments = {label: _Moments.of(x.first(_ROWS)) for label, x in residuals.items()}
    users, of_items = _features(rows.users, rows.user_index), _features(rows.items, rows.item_index)
    finest = _finest(users)
    there = {(c.user, c.item) for c in had}
    for name in _candidates(paired, items):
        user, item = users[name[0]], of_items[name[1]]
        if name in there or float((user.number * item.number).mean()) > CELLS:
            continue
        owner = None if finest in (None, name[0]) else users[finest].code
        cells = [_both(rows, name, user, item), user.cells, item.cells]
        own = [] if owner is None else [each.within(owner) for each in cells]
        out[name] = {label: each.excess(cells, own) for label, each in moments.items()}
    return out


def _candidates(paired: Paired, items: int) -> Iterator[tuple[str, str]]:
    """Of every user's and every item's feature but those that name items, whose values do not come again: they share
    nothing among items."""
    for item, values in paired.items.items():
        if 1 < len(distinct_of(values.codes)[0]) <= items / 2:
            for user in paired.users:
                yield user, item


@dataclass(frozen=True)
class _Cells:
    """Cells of rows, whatever they are of."""

    row: Ints | None
    """[C]; None: each row has one"""
    cell: Ints
    """[C]"""
    x: Floats | None
    """[C] the cell's value; None: 1"""

    def within(self, owner: Ints) -> _Cells:
        """The same, but rows share one only where they are of one owner [n] too."""
        mine = owner if self.row is None else owner.take(self.row)
        return replace(self, cell=distinct_of(mine * (int(self.cell.max(initial=0)) + 1) + self.cell)[1])


class _Feature(NamedTuple):
    """The values of one feature of n rows' users or items: what many conjunctions are made of is gathered once."""

    number: Ints
    """[n] of them"""
    code: Ints | None
    """[n] the value, 0 where there is none; None: some rows have several"""
    cells: _Cells
    """of each known value"""


def _features(values: Mapping[str, Values], index: Ints) -> dict[str, _Feature]:
    """By name, of rows with the users, or items, `index` [n]."""
    out: dict[str, _Feature] = {}
    for name, of in values.items():
        number = of.count.take(index)
        row = np.repeat(np.arange(len(index)), number)
        code = of.codes[of.start.take(index)[row] + np.arange(len(row)) - (np.cumsum(number) - number)[row]]
        single = np.zeros(len(index), np.int64) if of.count.max(initial=0) <= 1 else None
        if single is not None:
            single[row] = code
        x = of.scale.take(index)[row] if single is None else None
        out[name] = _Feature(number, single, _Cells(row, code, x))
    return out


def _finest(users: Mapping[str, _Feature]) -> str | None:
    """The feature with the most values of one each: the user's id, where it is a feature."""
    values = {name: len(distinct_of(of.code)[0]) for name, of in users.items() if of.code is not None}
    return max(values, key=lambda name: values[name], default=None)


def _both(rows: Paired, name: tuple[str, str], user: _Feature, item: _Feature) -> _Cells:
    """The cells of a conjunction. Few pairs of single values are cells of their own; many share slots, and so do those
    of lists."""
    of = Conjunction(*name, _BITS)
    if user.code is None or item.code is None:
        row, slot, x = rows.cells(of)
        return _Cells(row, distinct_of(slot)[1], x)
    at = None if user.code.all() and item.code.all() else np.flatnonzero((user.code > 0) & (item.code > 0))
    left, right = (user.code, item.code) if at is None else (user.code.take(at), item.code.take(at))
    width = int(right.max(initial=0)) + 1
    if (int(left.max(initial=0)) + 1) * width <= 4 * len(user.code):
        return _Cells(at, left * width + right, None)
    return _Cells(at, distinct_of(of.slots(left, right))[1], None)


class _Moments(NamedTuple):
    """What the test reads of n rows of a label, before it is summed by cell."""

    pull: Floats
    """[n] c (y - p)"""
    chance: Floats
    """[n] c^2 v"""
    known: Floats
    """[n] c v; `chance` itself where each weight is 1 or 0"""

    @staticmethod
    def of(x: Residuals) -> _Moments:
        c, p = x.weight, x.probable
        known = c * p * (1 - p)
        chance = known if ((c == 1) | (c == 0)).all() else c * known
        return _Moments(c * (x.label - p), chance, known)

    def excess(self, cells: Iterable[_Cells], own: Iterable[_Cells]) -> Excess:
        """Args: cells: of both values, of the user's, of the item's; own: those again, of one owner each, or none."""
        sums = [self.sums(each) for each in cells]
        mine = [self.sums(each) for each in own]
        both, user, item = [a.without(b) for a, b in zip(sums, mine, strict=True)] if mine else sums
        return Excess.of(both, user, item, float((self.pull * self.pull).max(initial=0)))

    def sums(self, of: _Cells) -> Sums:
        pull, chance, known = (each if of.row is None else each.take(of.row) for each in self)
        if of.x is not None:
            square = of.x * of.x
            pull, chance, known = pull * of.x, chance * square, known * square
        variance = _products(chance, of.cell)
        same = self.known is self.chance
        return Sums(_products(pull, of.cell), variance, variance if same else _products(known, of.cell))


def _products(of: Floats, cell: Ints) -> float:
    """The sum over ordered pairs of two different rows of a cell of the product of theirs."""
    by_cell = np.bincount(cell, of)
    return float((by_cell * by_cell).sum() - (of * of).sum())  # no dot product, whose sum depends on where it lies
