"""Conjunctions: what a value of the user and a value of the item say together, beside what each says alone.

A regression of single values has one order of items for everybody. A conjunction of two features has a slot for each
pair of a user's and an item's value (Chapelle, Manavoglu and Rosales, ACM TIST 2014), so it learns who likes which
genre. Most pairs of features say nothing together, and cells of noise cost accuracy and time. So the rows of each day
choose: by a score test that the weights of a conjunction have no variance (Lin, Biometrika 1997), which needs the
residuals of the regression without it and nothing else. What the tests of a few days found adds up: a small log shows
only after some days who likes what.

n rows, C cells, K conjunctions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.features.layout import Encoded, FloatColumns, IdColumn
from dmtl_cli.data.log.hashing import blake2b64, splitmix64
from dmtl_cli.nn.kernels.distinct import distinct_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Cells = tuple[Ints, Ints, Floats]
"""(row, slot, value) [C] each"""

LEAST_Z = 4.0
"""standard errors by which the weights of a conjunction must vary more than chance lets them"""
MOST = 8
"""conjunctions of a chain, the surest first"""
CELLS = 16.0
"""cells that all conjunctions of a row have together, on average: they are most of what learning costs then"""
PRECISION = 1.0, 10_000.0
"""least and greatest precision of a conjunction's weights"""
_ROWS = 1 << 16  # of a day that choose
_CHOICE = 18  # bits of the slots of a conjunction that is tested: few meet, and they stay in a cache
_BITS = 8, 22  # least and most slots of a conjunction, as powers of two


class Conjunction(NamedTuple):
    """Two features whose pairs of values have slots of their own."""

    user: str
    item: str
    bits: int
    """2 ** bits slots"""

    def slots(self, user: Ints, item: Ints) -> Ints:
        """[C] slot of each pair of rows of the two features' embeddings: the highest bits of SplitMix64's draws, so
        that what is stored is found again."""
        state = splitmix64(user.astype(np.uint64) + np.uint64(blake2b64(f"{self.user}:{self.item}")))
        return (splitmix64(state + item.astype(np.uint64)) >> np.uint64(64 - self.bits)).astype(np.int64)

    def add_products(self, out: Floats, weights: npt.NDArray[Any], users: Values, items: Values) -> None:
        """Adds to `out` [N, I] what each of N users' values and each of I items' values say together.

        Args:
            weights: [slots] of the conjunction.
        """
        size = int(items.codes.max(initial=0)) + 1
        by_value = np.zeros((len(users.count), size))  # what each user's values say together with each item's value
        owner = np.repeat(np.arange(len(users.count)), users.count)
        for value, user in zip(users.codes, owner, strict=True):
            by_value[user] += weights.take(self.slots(np.full(size, value), np.arange(size)))
        by_value *= users.scale[:, None]
        for k in range(int(items.count.max(initial=0))):
            there = np.flatnonzero(items.count > k)
            out[:, there] += by_value[:, items.codes[items.start[there] + k]] * items.scale[there]


@dataclass(frozen=True)
class Values:
    """The distinct known values of one feature of N users or items."""

    codes: Ints
    """[values of all] rows of the feature's embedding, user after user"""
    start: Ints
    """[N] where each begins"""
    count: Ints
    """[N]"""

    @staticmethod
    def of(codes: npt.NDArray[Any]) -> Values:
        """Args: codes: [N, L]; 0 is no value."""
        if codes.shape[1] > 1:  # a value that comes twice would meet itself in a cell
            codes = np.sort(codes, axis=1)
            codes[:, 1:][codes[:, 1:] == codes[:, :-1]] = 0
        row, place = np.nonzero(codes)
        count = np.bincount(row, minlength=len(codes))
        return Values(codes[row, place].astype(np.int64), np.cumsum(count) - count, count)

    @property
    def scale(self) -> Floats:
        """[N] 1 / sqrt(count): however many values there are, their weights vary a logit alike."""
        return 1 / np.sqrt(np.maximum(self.count, 1))


def values_of(encoder: Encoder, encoded: Encoded, side: str, names: Iterable[str] | None = None) -> dict[str, Values]:
    """By name the features of one side that have values: ids, buckets and lists, no histories, as these are items."""
    out: dict[str, Values] = {}
    wanted = None if names is None else set(names)
    ids, sequences = iter(encoded.ids.T), iter(encoded.sequences)
    for feature in encoder.features_of_side(side, False):
        part = kind_of(feature).part
        if isinstance(part, FloatColumns):
            continue
        codes = next(ids)[:, None] if isinstance(part, IdColumn) else next(sequences)
        history = feature.profile is not None and feature.profile.history is not None
        if not history and (wanted is None or feature.name in wanted):
            out[feature.name] = Values.of(codes)
    return out


@dataclass(frozen=True)
class Paired:
    """Rows as pairs of distinct users and items, with the values of both."""

    users: Mapping[str, Values]
    items: Mapping[str, Values]
    user_index: Ints
    """[n] place of each row's user"""
    item_index: Ints
    """[n]"""

    def cells(self, of: Conjunction, first: int = 0) -> Cells:
        """The cells of a conjunction: each pair of values, 1 / sqrt(their number).

        Args:
            first: slot of the conjunction.
        """
        user, item = self.users[of.user], self.items[of.item]
        theirs = item.count[self.item_index]
        pairs = user.count[self.user_index] * theirs
        row = np.repeat(np.arange(len(pairs)), pairs)
        k = np.arange(len(row)) - (np.cumsum(pairs) - pairs)[row]
        a, b = np.divmod(k, theirs[row])
        left = user.codes[user.start[self.user_index][row] + a]
        right = item.codes[item.start[self.item_index][row] + b]
        scale = user.scale[self.user_index] * item.scale[self.item_index]
        return row, of.slots(left, right) + first, scale[row]

    def number(self, of: Conjunction) -> float:
        """Cells of a row, on average."""
        pairs = self.users[of.user].count[self.user_index] * self.items[of.item].count[self.item_index]
        return float(pairs.mean()) if len(pairs) else 0.0


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


class Excess(NamedTuple):
    """How much more the residuals of one label vary together in the cells of a conjunction than by chance.

    With v = p (1 - p), c a row's weight and x a cell's value, over all pairs of two rows of a cell:
    """

    products: float
    """sum of c x (y - p) of the one times that of the other: 0 on average where the weights do not vary"""
    variance: float
    """of `products` then: sum of 2 c^2 x^2 v of the one times c^2 x^2 v of the other"""
    known: float
    """sum of c x^2 v of the one times that of the other: `products` of weights of variance 1, on average"""
    most: float
    """the largest product that two rows of a cell can have"""

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
"""what days found so far, by the features of a conjunction and by label"""


def excesses(
    paired: Paired, residuals: Mapping[str, Residuals], items: int, had: Iterable[Conjunction] = ()
) -> Excesses:
    """What the rows of a day tell of every conjunction that a model does not have yet.

    Args:
        residuals: by label.
        items: how many there are; in `paired` one of several days is several.
        had: conjunctions that the residuals are of a model with.
    """
    out: Excesses = {}
    some = _first(paired, _ROWS)
    moments = {label: _Moments.of(x.first(_ROWS)) for label, x in residuals.items()}
    users, items_of = _by_row(some.users, some.user_index), _by_row(some.items, some.item_index)
    there = {(c.user, c.item) for c in had}
    for conjunction in _candidates(paired, items):
        name = conjunction.user, conjunction.item
        user, item = users[conjunction.user], items_of[conjunction.item]
        if name in there or float((user.number * item.number).mean()) > CELLS:
            continue
        row: Ints | None
        x: Floats | None
        if user.code is not None and item.code is not None:
            row, cell, x = _of_single_values(conjunction, user.code, item.code)
        else:
            row, slot, x = some.cells(conjunction)
            cell = distinct_of(slot)[1]
        out[name] = {label: each.excess(row, cell, x) for label, each in moments.items()}
    return out


def chosen(paired: Paired, found: Excesses, had: Iterable[Conjunction] = ()) -> list[Conjunction]:
    """The conjunctions that say more than chance would of any label, the surest first, beside those that there are."""
    there, out = list(had), list[Conjunction]()
    left = CELLS - sum(paired.number(c) for c in there)
    sure = {name: max(each.z for each in by_label.values()) for name, by_label in found.items()}
    for name in sorted(sure, key=lambda name: -sure[name]):
        number = paired.number(of := Conjunction(*name, _CHOICE))
        if sure[name] > LEAST_Z and number <= left and len(there) + len(out) < MOST:
            left -= number
            out.append(_sized(paired, of))
    return out


class _ByRow(NamedTuple):
    """The values of one feature of n rows' users or items."""

    number: Ints
    """[n] of them"""
    code: Ints | None
    """[n] the value, 0 where there is none; None: some rows have several"""


def _by_row(values: Mapping[str, Values], index: Ints) -> dict[str, _ByRow]:
    """By name the values of the rows' users or items: what many conjunctions are made of is gathered once."""
    out: dict[str, _ByRow] = {}
    for name, of in values.items():
        single = np.zeros(len(of.count), np.int64) if of.count.max(initial=0) <= 1 else None
        if single is not None:
            single[of.count > 0] = of.codes
        out[name] = _ByRow(of.count.take(index), None if single is None else single.take(index))
    return out


def _of_single_values(of: Conjunction, user: Ints, item: Ints) -> tuple[Ints | None, Ints, None]:
    """(row, cell, value) of rows with a value of each feature at most: None where each row has a cell, and of 1.

    Few pairs of values are cells of their own; many share the slots of the conjunction.
    """
    row = None if user.all() and item.all() else np.flatnonzero((user > 0) & (item > 0))
    left, right = (user, item) if row is None else (user.take(row), item.take(row))
    width = int(right.max(initial=0)) + 1
    if (int(left.max(initial=0)) + 1) * width <= 4 * len(user):
        return row, left * width + right, None
    return row, distinct_of(of.slots(left, right))[1], None


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

    def excess(self, row: Ints | None, cell: Ints, x: Floats | None) -> Excess:
        """Of cells as `_of_single_values` gives them, in which two rows meet or not: what a row says by itself, its own
        square, tells nothing of how weights vary, and is smaller than chance where a row has been learned."""
        pull, chance, known = (each if row is None else each.take(row) for each in self)
        if x is not None:
            square = x * x
            pull, chance, known = pull * x, chance * square, known * square
        variance = _products(chance, cell)
        same = self.known is self.chance
        return Excess(
            _products(pull, cell),
            2 * variance,
            variance if same else _products(known, cell),
            float((pull * pull).max(initial=0)),
        )


def _products(of: Floats, cell: Ints) -> float:
    """The sum over ordered pairs of two different rows of a cell of the product of theirs."""
    by_cell = np.bincount(cell, of)
    return max(float(by_cell @ by_cell), 0.0) - float(of @ of)


def evidence(weights: npt.NDArray[Any], precision: npt.NDArray[Any], prior: float) -> float:
    """The precision of weights [m] that is most probable after some rows: gamma / sum of their squares, gamma = sum of
    1 - prior / precision the number of weights that the rows determine (MacKay, Neural Computation 1992)."""
    determined = float((1 - prior / precision.astype(np.float64)).sum())
    if determined < 1:  # nothing is known of them
        return prior
    least, most = PRECISION
    return float(np.clip(determined / max(float((weights.astype(np.float64) ** 2).sum()), 1e-9), least, most))


def _candidates(paired: Paired, items: int) -> Iterator[Conjunction]:
    """Of every user's and every item's feature but those that name items, whose values do not come again: they share
    nothing among items."""
    for item, values in paired.items.items():
        if 1 < len(distinct_of(values.codes)[0]) <= items / 2:
            for user in paired.users:
                yield Conjunction(user, item, _CHOICE)


def _sized(paired: Paired, of: Conjunction) -> Conjunction:
    """With four to eight times as many slots as pairs of values so far, as users and items will come."""
    there = len(np.unique(paired.cells(of._replace(bits=2 * _BITS[1]))[1]))
    return of._replace(bits=int(np.clip(np.ceil(np.log2(4 * there + 1)), *_BITS)))


def _first(paired: Paired, rows: int) -> Paired:
    return Paired(paired.users, paired.items, paired.user_index[:rows], paired.item_index[:rows])
