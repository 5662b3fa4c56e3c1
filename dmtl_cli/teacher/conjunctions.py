"""Conjunctions: what a value of the user and a value of the item say together, beside what each says alone.

A regression of single values has one order of items for everybody. A conjunction of two features has a slot for each
pair of a user's and an item's value (Chapelle, Manavoglu and Rosales, ACM TIST 2014), so it learns who likes which
genre. Most pairs of features say nothing together, and cells of noise cost accuracy and time. So a chain's first rows
choose: by the score test that the weights of a conjunction have no variance (Lin, Biometrika 1997), which needs the
residuals of the regression without it and nothing else.

n rows, C cells, K conjunctions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

LEAST_Z = 5.0
"""standard errors by which the weights of a conjunction must vary more than chance lets them"""
MOST = 8
"""conjunctions of a chain, the surest first"""
CELLS = 16.0
"""cells that all conjunctions of a row have together, on average: they are most of what learning costs then"""
PRECISION = 1.0, 10_000.0
"""least and greatest precision of a conjunction's weights"""
_ROWS = 1 << 16  # that choose
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
    """The known values of one feature of N users or items."""

    codes: Ints
    """[values of all] rows of the feature's embedding, user after user"""
    start: Ints
    """[N] where each begins"""
    count: Ints
    """[N]"""

    @staticmethod
    def of(codes: npt.NDArray[Any]) -> Values:
        """Args: codes: [N, L]; 0 is no value."""
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


def chosen(paired: Paired, residuals: Sequence[Residuals], items: int) -> list[Conjunction]:
    """The conjunctions that say more than chance would of any label, the surest first.

    Args:
        items: how many there are; in `paired` one of several days is several.
    """
    found: list[tuple[float, Conjunction]] = []
    some = _first(paired, _ROWS)
    moments = [_Moments.of(Residuals(x.label[:_ROWS], x.probable[:_ROWS], x.weight[:_ROWS])) for x in residuals]
    users, items_of = _by_row(some.users, some.user_index), _by_row(some.items, some.item_index)
    for conjunction in _candidates(paired, items):
        user, item = users[conjunction.user], items_of[conjunction.item]
        if user.code is not None and item.code is not None:
            cells = _of_single_values(conjunction, user.code, item.code)
            found.append((max(each.z(*cells) for each in moments), conjunction))
        elif float((user.number * item.number).mean()) <= CELLS:
            row, slot, x = some.cells(conjunction)
            place = distinct_of(slot)[1]
            found.append((max(each.z(row, place, x) for each in moments), conjunction))
    out: list[Conjunction] = []
    left = CELLS
    for z, conjunction in sorted(found, key=lambda pair: -pair[0]):
        number = paired.number(conjunction)
        if z > LEAST_Z and number <= left and len(out) < MOST:
            left -= number
            out.append(_sized(paired, conjunction))
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
    if (int(left.max(initial=0)) + 1) * width <= 1 << of.bits:
        return row, left * width + right, None
    return row, distinct_of(of.slots(left, right))[1], None


class _Moments(NamedTuple):
    """What `score_test` reads of n rows, before it is summed by cell."""

    pull: Floats
    """[n] c (y - p)"""
    chance: Floats
    """[n] c ** 2 v"""
    fourth: Floats
    """[n] c ** 4 v (1 - 6 v)"""

    @staticmethod
    def of(x: Residuals) -> _Moments:
        c, p = x.weight, x.probable
        v = p * (1 - p)
        return _Moments(c * (x.label - p), c**2 * v, c**4 * v * (1 - 6 * v))

    def z(self, row: Ints | None, cell: Ints, x: Floats | None) -> float:
        """The z of `score_test` of cells; `row`, `x`: as `_of_single_values` gives them."""
        pull, chance, fourth = self if row is None else (each.take(row) for each in self)
        if x is not None:
            square = x * x
            pull, chance, fourth = pull * x, chance * square, fourth * (square * square)
        by_cell, by_chance = np.bincount(cell, pull), np.bincount(cell, chance)
        return _z(by_cell, by_chance, float(fourth.sum()))[0]


def _z(pull: npt.NDArray[Any], chance: npt.NDArray[Any], fourth: float) -> tuple[float, float]:
    """(z, how much more than by chance the pulls of cells vary)."""
    excess = float((pull * pull - chance).sum())
    spread = 2 * float((chance * chance).sum()) + fourth
    return (excess / float(np.sqrt(spread)) if spread > 0 else 0.0), excess


def score_test(cells: Cells, of: Residuals) -> tuple[float, float]:
    """(z, precision) of a conjunction's weights.

    With v = p (1 - p), c a row's weight, G = sum c x (y - p) and V = sum c ** 2 x ** 2 v of a cell, the sum over cells
    of G ** 2 - V is 0 on average without weights, and has about the variance sum 2 V ** 2 + sum over rows c ** 4 x ** 4
    v (1 - 6 v): a cell of one row is no normal variable. With weights of variance s it is s sum (sum c x ** 2 v) ** 2
    on average, which gives the precision 1 / s (the method of moments: DerSimonian and Laird, 1986).
    """
    row, slot, x = cells
    moments, known = _Moments.of(of), of.weight * of.probable * (1 - of.probable)
    pull = np.bincount(slot, x * moments.pull.take(row))
    chance = np.bincount(slot, x**2 * moments.chance.take(row))
    precise = np.bincount(slot, x**2 * known.take(row))
    z, excess = _z(pull, chance, float((x**4 * moments.fourth.take(row)).sum()))
    least, most = PRECISION
    return z, float(np.clip((precise**2).sum() / excess, least, most)) if excess > 0 else most


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
