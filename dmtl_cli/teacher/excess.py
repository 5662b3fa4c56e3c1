"""Which conjunctions say something: a score test of each, of the residuals of a regression without it.

Weights of variance s make the residuals of two rows of a cell alike, by s times what the rows tell of a weight (Lin,
Biometrika 1997). So the test sums products of residuals over pairs of different rows. A row's own square is left out:
of one click it tells nothing, and it is smaller than chance where the row has been learned. Two rows are alike for
other reasons too: their user, or their item, is clicked more than the regression has learned yet; that is taken out by
the rows that share one of the two values. And the tastes of a few users make an age or a device look as if it had one;
so pairs of rows of one user count for the user's id alone, and for that where they are of two items.

n rows, C cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from dmtl_cli.nn.kernels.chunks import on_threads
from dmtl_cli.nn.kernels.distinct import distinct_of
from dmtl_cli.teacher.conjunctions import CELLS, LEAST_Z, PRECISION, Conjunction, Floats, Ints, Paired, Values

_ROWS = 1 << 16  # of a day that are tested
_OVERLAPS = 1 << 20  # pairs of cells of a row that `_overlap` looks at
_BITS = 22  # of the slots of a conjunction of lists that is tested: few meet


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
    """Sums over all ordered pairs of two owners of a cell, over all cells, of the product of what rows of each have.

    v = p (1 - p), c is a row's weight, x a cell's value, and of a conjunction's x_u and x_i the values of which x is
    the product. A row without an owner is its own.
    """

    products: float
    """of c x (y - p)"""
    variance: float
    """of c^2 x^2 v"""
    known: float
    """of c x^2 v: `products` of weights of the cells of variance 1, on average"""
    user: float = 0.0
    """of c x x_u v: `products` of effects of the user's values of variance 1"""
    item: float = 0.0
    """of c x x_i v"""
    one: float = 0.0
    """of c x v: what effects of the user's values of variance 1 make of the products of rows that share the item's, and
    the other way round"""
    taste: float = 0.0
    """of t: over ordered pairs of two rows of one owner the product of their c x (y - p), 0 on average but for tastes
    of the owner's own. Rows' squares would be large where `products` is, and hide it"""
    mixed: float = 0.0
    """of t of the one and c^2 x^2 v of the other, both ways"""


class Excess(NamedTuple):
    """How much more alike the residuals of rows are that share both values of a conjunction than those that share one.

    With S the products of rows that share both values, and S_u, S_i of those that share that of the user, of the item:

        products = S - a S_u - b S_i, with a, b such that effects of the user's and of the item's values alone give 0

    Owners are independent, their rows are not (as errors are by cluster: Liang and Zeger, Biometrika 1986): what a
    user likes for themselves makes the variance larger, on each day the same way.
    """

    products: float
    """0 on average where the weights of the conjunction do not vary"""
    variance: float
    """of `products` then, of what is another on each day"""
    known: float
    """`products` of weights of variance 1, on average"""
    most: float
    """the largest product that two rows can have"""
    lasting: float = 0.0
    """standard deviation of what owners' tastes of their own make of `products`: that of days adds up, as tastes last;
    below 0 where rows of an owner are less alike than chance, as it may be of a day"""

    @staticmethod
    def of(both: Sums, user: Sums, item: Sums, most: float) -> Excess:
        determinant = user.known * item.known - both.one**2
        apart = determinant > 1e-9 * user.known * item.known  # else rows that share one value share both
        if min(both.known, both.variance) <= 0 or not apart:
            return Excess(0.0, 0.0, 0.0, most)
        a = (both.user * item.known - both.item * both.one) / determinant
        b = (both.item * user.known - both.user * both.one) / determinant
        variance = (1 - a - b) ** 2 * both.variance + a**2 * (user.variance - both.variance)
        variance += b**2 * (item.variance - both.variance)
        variance = max(2 * variance, 0.0) / both.variance  # tastes are taken to raise all three parts alike
        products = both.products - a * user.products - b * item.products
        known = both.known - a * both.user - b * both.item
        if known <= 0:  # slots that several cells share
            return Excess(0.0, 0.0, 0.0, most)
        independent = both.variance + max(both.mixed, 0.0)
        lasting = float(np.copysign(np.sqrt(variance * abs(both.taste)), both.taste))
        return Excess(products, variance * independent, known, most, lasting)

    @property
    def z(self) -> float:
        """Standard errors by which `products` is above 0, less where few pairs of rows tell: the tail of a sum of some
        large terms is Bernstein's, exp(-z^2 / 2) with this z."""
        spread = self.variance + max(self.lasting, 0.0) ** 2 + max(self.products, 0.0) * 2 * self.most / 3
        return self.products / float(np.sqrt(spread)) if spread > 0 else 0.0

    @property
    def precision(self) -> float:
        """1 / the variance of the weights, by the method of moments (DerSimonian and Laird, 1986)."""
        least, most = PRECISION
        return float(np.clip(self.known / self.products, least, most)) if self.products > 0 else most

    def around(self, clicks: Excess) -> float:
        """Of a conversion given a click the precision of what the weights of both together are beside those of clicks:
        no looser than these, but where the test is sure of it, as who reads what may say nothing of who clicks it."""
        return self.precision if self.z > LEAST_Z else max(self.precision, clicks.precision)

    def decayed(self, memory: float) -> Excess:
        """After days without anything to add."""
        products, known, lasting = (memory * x for x in (self.products, self.known, self.lasting))
        return Excess(products, memory**2 * self.variance, known, self.most, lasting)

    def after(self, before: Excess, memory: float) -> Excess:
        """With what the days before found, of which `memory` is left."""
        old = before.decayed(memory)
        added = Excess(*(a + b for a, b in zip(self, old, strict=True)))
        return added._replace(most=max(self.most, old.most))


Excesses = dict[tuple[str, str], dict[str, Excess]]
"""by the features of a conjunction and by label"""


def excesses(
    paired: Paired, residuals: Mapping[str, Residuals], items: int, had: Collection[Conjunction] = ()
) -> Excesses:
    """What the rows of a day tell of every conjunction that a model does not have yet; nothing where it may have no
    more.

    Args:
        residuals: by label.
        items: how many there are; in `paired` one of several days is several.
        had: conjunctions of the model.
    """
    out: Excesses = {}
    if sum(map(paired.number, had)) >= CELLS:
        return out
    rows = paired.first(_ROWS)
    moments = {label: _Moments.of(x.first(_ROWS)) for label, x in residuals.items()}
    owners = _Owners.of(rows, _features(rows.users, rows.user_index))
    users, of_items = owners.users, _features(rows.items, rows.item_index)
    there = {(c.user, c.item) for c in had}
    names = [
        name
        for name in _candidates(paired, items)
        if name not in there and float((users[name[0]].number * of_items[name[1]].number).mean()) <= CELLS
    ]

    def shared(key: _Shared) -> dict[str, Sums]:
        """By label, of rows that share these values and are not of one owner."""
        user, item, naming = key
        if user is None or item is None:
            cells = users[user].cells if user is not None else of_items[str(item)].cells
        else:
            cells = _both(rows, (user, item), users[user], of_items[item])
        cells, whole = cells.of_owners(owners.owner(naming)), user is not None and item is not None
        return {label: each.sums(cells, tastes=whole) for label, each in moments.items()}

    keys = {name: _keys(*name, naming=name[0] == owners.feature) for name in names}
    once = [*dict.fromkeys(itertools.chain.from_iterable(keys.values()))]
    sums = dict(zip(once, on_threads(once, shared, torch.device("cpu")), strict=True))
    for name, (both, user, item) in keys.items():
        out[name] = {
            label: Excess.of(sums[both][label], sums[user][label], sums[item][label], x.most)
            for label, x in moments.items()
        }
    return out


_Shared = tuple[str | None, str | None, bool]
"""the features whose values rows share, of the user, of the item or of both, and whether the first one names users"""


def _keys(user: str, item: str, *, naming: bool) -> tuple[_Shared, _Shared, _Shared]:
    """Of both features, and of each alone, which is the same for many conjunctions."""
    return (user, item, naming), (user, None, naming), (None, item, naming)


def with_earlier(today: Excesses, earlier: Excesses, paired: Paired, memory: float) -> Excesses:
    """What a day found beside what the days before did, also of what was no candidate that day.

    Args:
        memory: share of what the days before found that is left.
    """
    found: Excesses = {}
    for name in {**earlier, **today}:
        if name not in today:
            if name[0] in paired.users and name[1] in paired.items:
                found[name] = {label: x.decayed(memory) for label, x in earlier[name].items()}
        else:
            before = earlier.get(name, {})
            found[name] = {k: x.after(before[k], memory) if k in before else x for k, x in today[name].items()}
    return found


def sure(paired: Paired, found: Excesses) -> dict[tuple[str, str], float]:
    """By how many standard errors each conjunction says something of a label."""
    out = {}
    for name, by_label in found.items():
        z = max(x.z for x in by_label.values())
        out[name] = z / _overlap(paired, name) ** 0.5 if z > LEAST_Z else z
    return out


def _overlap(paired: Paired, name: tuple[str, str]) -> float:
    """How many times as large the variance of the products is as the sum over cells says, since two rows may share
    several: sum of k^2 over pairs of rows, k the sum over the cells they share, over the sum of the cells' own.

    Rows are taken as alike in weight and chance.
    """
    rows = paired.first(_ROWS)
    users, items = _features(rows.users, rows.user_index), _features(rows.items, rows.item_index)
    cells = _both(rows, name, users[name[0]], items[name[1]])
    if cells.x is None or cells.row is None or not len(cells.row):
        return 1.0
    number = np.bincount(cells.row)
    number = number[np.cumsum(number**2) <= _OVERLAPS]  # of the first rows: memory is bounded
    cell, value = cells.cell[: number.sum()], cells.x[: number.sum()]
    pairs = number**2
    row = np.repeat(np.arange(len(number)), pairs)
    k = np.arange(len(row)) - (np.cumsum(pairs) - pairs)[row]
    start = (np.cumsum(number) - number)[row]
    a, b = np.divmod(k, number[row])
    a, b = start + a, start + b
    width = int(cell.max(initial=0)) + 1
    whole = _products(value[a] * value[b], distinct_of(cell[a] * width + cell[b])[1])
    mine = _products(value**2, cell)
    return max(whole / mine, 1.0) if mine > 0 else 1.0


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
    of_user: Floats | None = None
    """[C] of a conjunction's cell the user's part of its value; None: 1"""
    own: Ints | None = None
    """[C] which part of its cell, a part being an owner's rows there; None: each row is one"""
    whole: Ints | None = None
    """[parts] the cell of each"""

    def of_owners(self, owner: Ints) -> _Cells:
        """The same with a row's owner [n]."""
        mine, width = owner if self.row is None else owner.take(self.row), int(self.cell.max(initial=0)) + 1
        parts, own = distinct_of(mine * width + self.cell)
        return replace(self, own=own, whole=parts % width)

    def parts(self, of: Floats) -> Floats:
        """[parts] sums of numbers [C]."""
        found: npt.NDArray[Any] = of if self.own is None else np.bincount(self.own, of)
        return found

    def products(self, parts: Floats, other: Floats | None = None) -> float:
        """The sum over ordered pairs of two different parts of a cell of the product of theirs, or of one's and the
        other's other."""
        return _products(parts, self.cell if self.whole is None else self.whole, other)


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
        code = distinct_of(code)[1] + 1  # a table may be far larger than what these rows have of it
        single = np.zeros(len(index), np.int64) if of.count.max(initial=0) <= 1 else None
        if single is not None:
            single[row] = code
        x = of.scale.take(index)[row] if single is None else None
        out[name] = _Feature(number, single, _Cells(row, code, x))
    return out


@dataclass(frozen=True)
class _Owners:
    """Whose each row is."""

    users: Mapping[str, _Feature]
    feature: str | None
    """the user's id: the feature that has a value for nearly each user; None: there is none"""
    user: Ints
    """[n] its value, or where that is unknown, as in a day without the feature, the row of the table of users"""
    pair: Ints
    """[n] of user and item"""

    @staticmethod
    def of(rows: Paired, users: Mapping[str, _Feature]) -> _Owners:
        values = {name: int(of.code.max(initial=0)) for name, of in users.items() if of.code is not None}
        finest = max(values, key=lambda name: values[name], default=None)
        there = len(distinct_of(rows.user_index)[0])
        if finest is None or values[finest] < there / 2:
            user, finest = rows.user_index, None
        else:
            code = users[finest].code
            assert code is not None
            user = np.where(code > 0, code, values[finest] + 1 + rows.user_index)
        user = distinct_of(user)[1]
        pair = distinct_of(user * (int(rows.item_index.max(initial=0)) + 1) + rows.item_index)[1]
        return _Owners(users, finest, user, pair)

    def owner(self, naming: bool) -> Ints:
        """[n] whose rows are not compared: a user's, or where the feature names users, those of a user and an item,
        which a user may like for itself."""
        return self.pair if naming else self.user


def _both(rows: Paired, name: tuple[str, str], user: _Feature, item: _Feature) -> _Cells:
    """The cells of a conjunction. Those of single values are exact: rows of two cells that share a slot look as if they
    shared both values, and where nearly all users have one value, they are as many as the rows that share the item
    alone, which tell what chance does. Those of lists are slots, most of which are one cell's."""
    if user.code is None or item.code is None:
        of = Conjunction(*name, _BITS)
        row, slot, x = rows.cells(of)
        return _Cells(row, distinct_of(slot)[1], x, rows.users[of.user].scale.take(rows.user_index)[row])
    at = None if user.code.all() and item.code.all() else np.flatnonzero((user.code > 0) & (item.code > 0))
    left, right = (user.code, item.code) if at is None else (user.code.take(at), item.code.take(at))
    width = int(right.max(initial=0)) + 1
    cell = left * width + right
    few = (int(left.max(initial=0)) + 1) * width <= 4 * len(user.code)
    return _Cells(at, cell if few else distinct_of(cell)[1], None)


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

    @property
    def most(self) -> float:
        return float((self.pull * self.pull).max(initial=0))

    def sums(self, of: _Cells, *, tastes: bool = False) -> Sums:
        pull, chance, known = (each if of.row is None else each.take(of.row) for each in self)
        if of.x is not None:
            pull, chance = pull * of.x, chance * of.x * of.x
        own, chance = of.parts(pull), of.parts(chance)
        variance = plain = of.products(chance)
        if self.known is not self.chance:
            plain = of.products(of.parts(known if of.x is None else known * of.x * of.x))
        out = Sums(of.products(own), variance, plain)
        if tastes:
            taste = own * own - of.parts(pull * pull)
            out = out._replace(taste=of.products(taste), mixed=2 * of.products(taste, chance))
        if of.x is None:
            return out._replace(user=plain, item=plain, one=plain)
        if of.of_user is None:
            return out
        one = known * of.x
        parts = {"user": one * of.of_user, "item": one * of.x / of.of_user, "one": one}
        return out._replace(**{name: of.products(of.parts(each)) for name, each in parts.items()})


def _products(of: Floats, cell: Ints, other: Floats | None = None) -> float:
    """The sum over ordered pairs of two different values of a cell of their product."""
    by_cell = np.bincount(cell, of)
    others = by_cell if other is None else np.bincount(cell, other)
    other = of if other is None else other
    return float((by_cell * others).sum() - (of * other).sum())  # no dot product, whose sum depends on where it lies
