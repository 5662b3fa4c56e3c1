"""How much each part of a served score counts: what explains best what was read on days that nothing had learned.

A morning's export is measured by what its users read on its day: a multinomial logit over the catalogue, of which item
a user reads, in a few numbers of each pair,

    log P(i is read | u) = a x_ui + b t_ui + w . f_i  up to a number of the user

with x what is shown, t the preference and f the item's own numbers (its counts, its age) as they were that morning.
This is stacked regression (Wolpert, Neural Networks 1992; Breiman, Machine Learning 1996) with days for folds, each
predicted before it is learned (progressive validation: Blum et al., COLT 1999). The estimate is Bayesian with a
Gaussian prior, Laplace's approximation carrying what a day tells to the next; older days fade. Of a large catalogue the
logit has some items alone, chosen by what was known that morning, which leaves the estimate consistent (McFadden,
Modelling the choice of residential location, 1978).

A two-tower student of a small log learns less of what is popular than a list knows; on large ones a, b and w say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_OF_PARTS, _OF_NUMBERS = 20.0, 80.0
"""precisions of the prior: of a and b around kappa and 1, of w around 0"""
_KEPT = 0.9
"""of what the days before have told, from one day to the next: half of it in 6.6 days"""
_LEAST = 0.05
"""of a and b, as a served score is x by a / b"""
_STEPS, _FAR, _NEAR = 12, 0.7, 5e-3
"""Newton's steps at most, the longest, and one that is the last"""
_PAIRS = 1 << 20  # of users and items at a time: 4 MB a matrix
_ITEMS = 16_384
"""of a catalogue at most, of which a user reads one"""


class Choices(NamedTuple):
    """What U users read of I items, by a morning's vectors."""

    exposure: tuple[Floats, Floats]
    """users [U, d] and items [I, d], whose dot product is x"""
    preference: tuple[Floats, Floats]
    """[U, e] and [I, e], of t"""
    numbers: Floats
    """[I, F] the items' own"""
    user: Ints
    """[N] the user of each read"""
    item: Ints
    """[N] its item"""


@dataclass(frozen=True)
class Weights:
    """An estimate of a, b and w, and how sure it is."""

    features: tuple[str, ...]
    """whose numbers w is of"""
    mean: Doubles
    """[2 + F] a, b and w"""
    precision: Doubles
    """[2 + F, 2 + F]"""
    reads: int = 0
    """that have been seen"""

    @staticmethod
    def unmeasured(features: Sequence[str], kappa: float) -> Weights:
        """Before any day has told anything: kappa times x, plus t."""
        precision = [_OF_PARTS] * 2 + [_OF_NUMBERS] * len(features)
        return Weights(tuple(features), np.array([kappa, 1.0] + [0.0] * len(features)), np.diag(precision))

    @property
    def kappa(self) -> float:
        """By what x counts beside t."""
        return float(max(self.mean[0], _LEAST) / max(self.mean[1], _LEAST))

    @property
    def added(self) -> bool:
        """Whether numbers are added to x: not before a day has told how."""
        return bool(self.features and self.reads)

    def over(self, columns: Mapping[str, int], floats: int) -> Floats | None:
        """[floats] by what an item's float columns are added to x; None: not at all.

        Args:
            columns: of `features`.
            floats: columns that there are.
        """
        if not self.added:
            return None
        out = np.zeros(floats, np.float32)
        out[[columns[name] for name in self.features]] = self.mean[2:] / max(self.mean[0], _LEAST)
        return out

    def after(self, choices: Choices, kappa: float) -> Weights:
        """What one more day tells.

        Args:
            kappa: of the prior, to which the estimate goes back where days tell nothing more.
        """
        prior = Weights.unmeasured(self.features, kappa)
        precision = _KEPT * self.precision + (1 - _KEPT) * prior.precision
        shift = _KEPT * self.precision @ self.mean + (1 - _KEPT) * prior.precision @ prior.mean
        before: Doubles = np.linalg.solve(precision, shift).astype(np.float64)
        if not len(choices.user):
            return Weights(self.features, before, precision, self.reads)
        mean = before.copy()
        for _ in range(_STEPS):
            slope, curvature = _likelihood(choices, mean)
            step = np.linalg.solve(precision + curvature, slope - precision @ (mean - before))
            longest = float(np.abs(step).max())
            mean = mean + step * min(1.0, _FAR / max(longest, 1e-12))
            if longest < _NEAR:
                break
        told = precision + _likelihood(choices, mean)[1]
        if not (np.isfinite(mean).all() and np.isfinite(told).all()):
            return Weights(self.features, before, precision, self.reads)
        return Weights(self.features, mean, told, self.reads + len(choices.user))

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        mean, precision = self.mean.tolist(), self.precision.tolist()
        return {"features": list(self.features), "mean": mean, "precision": precision, "reads": self.reads}

    @staticmethod
    def of(described: dict[str, Any]) -> Weights:
        """What `described` gave."""
        mean, precision = np.array(described["mean"]), np.array(described["precision"])
        return Weights(tuple(described["features"]), mean, precision, described["reads"])


def candidates(items: int, first: Ints) -> Ints:
    """Places of the items that a logit is of, sorted: all, or of a large catalogue _ITEMS.

    Args:
        items: of the catalogue.
        first: places of those that should be among them, the most wanted first.
    """
    if items <= _ITEMS:
        return np.arange(items)
    rest = np.setdiff1d(np.arange(items), first[:_ITEMS])
    more = max(0, _ITEMS - len(first))
    return np.sort(np.concatenate([first[:_ITEMS], rest[np.linspace(0, len(rest) - 1, more).astype(np.int64)]]))


def _likelihood(choices: Choices, mean: Doubles) -> tuple[Doubles, Doubles]:
    """Slope [2 + F] and negative curvature [2 + F, 2 + F] of the logarithm of the likelihood."""
    slope, curvature = np.zeros(len(mean)), np.zeros((len(mean), len(mean)))
    of_numbers = choices.numbers @ mean[2:].astype(np.float32)
    for at, user, item in _blocks(choices):
        x, t = (u[at] @ v.T for u, v in (choices.exposure, choices.preference))
        score = np.float32(mean[0]) * x + np.float32(mean[1]) * t + of_numbers
        p = np.exp(score - score.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        times = np.bincount(user, minlength=len(p)).astype(np.float32)
        px, pt = p * x, p * t
        expected = np.concatenate([px.sum(1)[:, None], pt.sum(1)[:, None], p @ choices.numbers], 1).astype(np.float64)
        seen = [x[user, item].sum(dtype=np.float64), t[user, item].sum(dtype=np.float64)]
        slope += np.concatenate([seen, choices.numbers[item].sum(0, dtype=np.float64)]) - times @ expected
        curvature += _second_moments(x, t, p, px, pt, choices.numbers, times)
        curvature -= (expected * times[:, None]).T @ expected
    return slope, curvature


def _second_moments(x: Floats, t: Floats, p: Floats, px: Floats, pt: Floats, numbers: Floats, times: Floats) -> Doubles:
    """[2 + F, 2 + F] of (x, t, f) under p, a user as often as they read."""
    out = np.empty((2 + numbers.shape[1],) * 2)
    out[0, 0], out[1, 1] = times @ (px * x).sum(1), times @ (pt * t).sum(1)
    out[0, 1] = out[1, 0] = times @ (px * t).sum(1)
    out[0, 2:] = out[2:, 0] = (times @ px) @ numbers
    out[1, 2:] = out[2:, 1] = (times @ pt) @ numbers
    out[2:, 2:] = numbers.T @ ((times @ p)[:, None] * numbers)
    return out


def _blocks(choices: Choices) -> Iterator[tuple[slice, Ints, Ints]]:
    """Some users at a time, and their reads: the user's place among them, and the item."""
    order = np.argsort(choices.user, kind="stable")
    user, item = choices.user[order], choices.item[order]
    step = max(1, _PAIRS // max(1, len(choices.numbers)))
    for start in range(0, len(choices.exposure[0]), step):
        first, last = np.searchsorted(user, [start, start + step])
        if first < last:
            yield slice(start, start + step), user[first:last] - start, item[first:last]
