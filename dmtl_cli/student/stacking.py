"""What is shown, of which kappa is served: the exposure block and the items' own numbers, by weights that reads tell.

A morning's export is measured by what its users read on its day. Which item of its catalogue a user reads is a
multinomial logit in a few numbers of each pair,

    log P(i is read | u) = a x_ui + b t_ui + w . f_i  up to a number of the user

with x the exposure block, t the preference and f the item's own numbers (its counts, its age) as they were that
morning. On the scale of the preference what is shown is thus (a x + w . f) / b. This is stacked regression (Wolpert,
Neural Networks 1992; Breiman, Machine Learning 1996) with days for folds, each predicted before it is learned
(progressive validation: Blum, Kalai and Langford, COLT 1999). The estimate is Bayesian with a Gaussian prior, Laplace's
approximation carrying what one export told to the next; older ones fade. Before any has told, items are expected to be
read by what a list of them goes by too: how often they were shown lately, and read. Of a large catalogue the logit has
some items alone, chosen by what was known that morning, which leaves the estimate consistent (McFadden, Modelling the
choice of residential location, 1978). The reads of a user count as if they did not depend on each other.

Towers that learn a few thousand rows a day know less of what is popular, or new, than counts do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.features import Feature
from dmtl_cli.config.profile import EXPOSURE, READ

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

USERS, ITEMS = 500, 8_192
"""whose reads are looked at, and items of which they read one, at most: a second or two"""
_OF_PARTS, _OF_NUMBERS = 5.0, 80.0
"""precisions of the prior: of a and b around 1, of w around 0 or, of what a list goes by, _LISTED"""
_LISTED = 0.25
_SHOWN_FOR, _READ_FOR = 1.0, 7.0
"""half-lives, in days, of what a list counts: reads are few, and a day tells little of an item's"""
_KEPT = 0.9
"""of what was told, from one day to the next: half of it in 6.6 days"""
_LEAST = 0.05
"""of a and b, as a served score has a / b"""
_STEPS, _HALVED, _NEAR = 30, 20, 1e-3
"""Newton's steps, and halves of one, at most; and a step that is the last"""
_PAIRS = 1 << 18  # of users and items at a time: 2 MB a matrix
_DIGITS = 6
"""that are kept of an estimate: sums of other threads differ by less"""


class Choices(NamedTuple):
    """What U users read of I items, by an export's vectors."""

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
    def unmeasured(features: Sequence[str], listed: Sequence[str] = ()) -> Weights:
        """Before any day has told anything: x, as it was learned, and what a list goes by.

        Args:
            listed: as of `listed`, each among `features`.
        """
        mean = [1.0, 1.0] + [_LISTED if name in listed else 0.0 for name in features]
        precision = [_OF_PARTS] * 2 + [_OF_NUMBERS] * len(features)
        return Weights(tuple(features), np.array(mean), np.diag(precision))

    @property
    def share(self) -> float:
        """Of x in what is shown: a / b, each at least _LEAST."""
        return float(max(self.mean[0], _LEAST) / max(self.mean[1], _LEAST))

    def over(self, columns: Mapping[str, int], floats: int) -> Floats | None:
        """[floats] w / b, what an item's float columns add to what is shown; None where it has no such features.

        Args:
            columns: of `features`.
            floats: columns that there are.
        """
        if not self.features:
            return None
        out = np.zeros(floats, np.float32)
        out[[columns[name] for name in self.features]] = self.mean[2:] / max(self.mean[1], _LEAST)
        return out

    def after(self, prior: Weights, choices: Choices, days: int = 1) -> Weights:
        """What reads tell besides.

        Args:
            prior: as of `unmeasured`, of the same features; the estimate fades towards it.
            days: since what this estimate knows.
        """
        kept = _KEPT**days
        precision = kept * self.precision + (1 - kept) * prior.precision
        shift = kept * self.precision @ self.mean + (1 - kept) * prior.precision @ prior.mean
        before: Doubles = np.linalg.solve(precision, shift).astype(np.float64)
        faded = Weights(self.features, before, precision, self.reads)._rounded()
        if not len(choices.user) or not all(np.isfinite(part).all() for part in _parts(choices)):
            return faded
        mean, told = _most_likely(choices, before, precision)
        if not (np.isfinite(told).all() and (np.linalg.eigvalsh(told) > 0).all()):
            return faded
        return Weights(self.features, mean, told, self.reads + len(choices.user))._rounded()

    def _rounded(self) -> Weights:
        return Weights(self.features, self.mean.round(_DIGITS), self.precision.round(_DIGITS), self.reads)

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        mean, precision = self.mean.tolist(), self.precision.tolist()
        return {"features": list(self.features), "mean": mean, "precision": precision, "reads": self.reads}

    @staticmethod
    def of(described: dict[str, Any]) -> Weights:
        """What `described` gave."""
        mean, precision = np.array(described["mean"]), np.array(described["precision"])
        return Weights(tuple(described["features"]), mean, precision, described["reads"])


def listed(features: Iterable[Feature]) -> list[str]:
    """Names of what a list of items goes by: of its counts of exposures and of reads, on the scale of their logarithm,
    the one each whose half-life is nearest to a list's."""
    counts = {f.name: f.profile for f in features if f.side == "item" and f.transform == "log1p" and f.profile}
    found = list[str]()
    for event, days in ((EXPOSURE, _SHOWN_FOR), (READ, _READ_FOR)):
        half_lives = {name: of.half_life_days for name, of in counts.items() if of.count == event}
        apart = {name: math.inf if h is None else abs(h - days) for name, h in half_lives.items()}
        found += [min(apart, key=apart.__getitem__)] if apart else []
    return found


def _parts(choices: Choices) -> tuple[Floats, ...]:
    return (*choices.exposure, *choices.preference, choices.numbers)


def _most_likely(choices: Choices, before: Doubles, precision: Doubles) -> tuple[Doubles, Doubles]:
    """The most likely weights [2 + F] after some reads, and their precision, by Newton's method: each step is halved
    until it climbs.

    Args:
        before, precision: of the Gaussian before them.
    """

    def height(of_reads: float, at: Doubles) -> float:
        return of_reads - 0.5 * float((at - before) @ precision @ (at - before))

    mean = before
    likely, slope, curvature = _likelihood(choices, mean)
    for _ in range(_STEPS):
        step: Doubles = np.linalg.solve(precision + curvature, slope - precision @ (mean - before)).astype(np.float64)
        if float(np.abs(step).max()) < _NEAR:
            return mean + step, precision + curvature
        here = height(likely, mean)
        for _ in range(_HALVED):
            found = _likelihood(choices, mean + step)
            if height(found[0], mean + step) >= here:
                break
            step = step / 2
        else:
            break
        mean = mean + step
        likely, slope, curvature = found
    return mean, precision + curvature


def _likelihood(choices: Choices, mean: Doubles) -> tuple[float, Doubles, Doubles]:
    """The logarithm of the likelihood, its slope [2 + F] and its negative curvature [2 + F, 2 + F]."""
    value, slope, curvature = 0.0, np.zeros(len(mean)), np.zeros((len(mean), len(mean)))
    numbers = choices.numbers.astype(np.float64)
    of_numbers = numbers @ mean[2:]
    for at, user, item in _blocks(choices):
        x, t = (u[at].astype(np.float64) @ v.T.astype(np.float64) for u, v in (choices.exposure, choices.preference))
        score = mean[0] * x + mean[1] * t + of_numbers
        score -= score.max(1, keepdims=True)
        p = np.exp(score)
        whole = p.sum(1, keepdims=True)
        p /= whole
        value += float((score[user, item] - np.log(whole)[user, 0]).sum())
        times = np.bincount(user, minlength=len(p)).astype(np.float64)
        px, pt = p * x, p * t
        expected = np.concatenate([px.sum(1)[:, None], pt.sum(1)[:, None], p @ numbers], 1)
        seen = [x[user, item].sum(), t[user, item].sum()]
        slope += np.concatenate([seen, numbers[item].sum(0)]) - times @ expected
        curvature += _second_moments(x, t, p, px, pt, numbers, times) - (expected * times[:, None]).T @ expected
    return value, slope, curvature


def _second_moments(
    x: Doubles, t: Doubles, p: Doubles, px: Doubles, pt: Doubles, numbers: Doubles, times: Doubles
) -> Doubles:
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
