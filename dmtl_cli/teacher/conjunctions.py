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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.features.layout import Encoded, FloatColumns, IdColumn
from dmtl_cli.data.log.values.hashing import blake2b64, splitmix64
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
        codes, place = distinct_of(items.codes)  # of a vocabulary that may be far larger
        by_value = np.zeros((len(users.count), len(codes)))  # what each user's values say together with each of them
        owner = np.repeat(np.arange(len(users.count)), users.count)
        for value, user in zip(users.codes, owner, strict=True):
            by_value[user] += weights.take(self.slots(np.full(len(codes), value), codes))
        by_value *= users.scale[:, None]
        for k in range(int(items.count.max(initial=0))):
            there = np.flatnonzero(items.count > k)
            out[:, there] += by_value[:, place[items.start[there] + k]] * items.scale[there]


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

    def first(self, n: int) -> Paired:
        """The first n rows."""
        return Paired(self.users, self.items, self.user_index[:n], self.item_index[:n])

    def number(self, of: Conjunction) -> float:
        """Cells of a row, on average."""
        pairs = self.users[of.user].count[self.user_index] * self.items[of.item].count[self.item_index]
        return float(pairs.mean()) if len(pairs) else 0.0


def chosen(paired: Paired, sure: Mapping[tuple[str, str], float], had: Iterable[Conjunction] = ()) -> list[Conjunction]:
    """The conjunctions that say more than chance would, the surest first, beside those that there are.

    Args:
        sure: by the names of the two features by how many standard errors: the z of `excess.Excess`.
    """
    there, out = list(had), list[Conjunction]()
    left = CELLS - sum(paired.number(c) for c in there)
    for name in sorted(sure, key=lambda name: -sure[name]):
        number = paired.number(of := Conjunction(*name, _BITS[1]))
        if sure[name] > LEAST_Z and number <= left and len(there) + len(out) < MOST:
            left -= number
            out.append(_sized(paired, of))
    return out


def evidence(weights: npt.NDArray[Any], precision: npt.NDArray[Any], prior: float) -> float:
    """The precision of weights [m] that is most probable after some rows: gamma / sum of their squares, gamma = sum of
    1 - prior / precision the number of weights that the rows determine (MacKay, Neural Computation 1992)."""
    determined = float((1 - prior / precision.astype(np.float64)).sum())
    if determined < 1:  # nothing is known of them
        return prior
    least, most = PRECISION
    return float(np.clip(determined / max(float((weights.astype(np.float64) ** 2).sum()), 1e-9), least, most))


def _sized(paired: Paired, of: Conjunction) -> Conjunction:
    """With four to eight times as many slots as pairs of values so far, as users and items will come."""
    there = len(np.unique(paired.cells(of._replace(bits=2 * _BITS[1]))[1]))
    return of._replace(bits=int(np.clip(np.ceil(np.log2(4 * there + 1)), *_BITS)))
