"""Search by successive halving, with epochs chosen on the way.

C candidates, n measured rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KEPT = 4
"""of so many candidates one goes on"""
EPOCHS = 8
"""most epochs"""
TYPICAL = 2.5
"""epochs that a candidate learns before it gets worse, to plan by"""


@dataclass(frozen=True)
class Measured:
    """A candidate after its best number of epochs."""

    epochs: int
    loss: Floats
    """[n] of each measured row"""

    @property
    def mean(self) -> float:
        return float(self.loss.mean())


def best_epoch(losses: Iterable[Floats], groups: Ints, worth: float, epochs: int | None = None) -> Measured:
    """Learns until an epoch makes the mean loss worse; the fewest epochs that no more are clearly better than. An epoch
    that gains nothing does not end it: a table that is slow has not begun to learn.

    Args:
        losses: [n] of the measured rows after each epoch, computed as it is taken.
        groups: [n] whose rows they are: rows of a group are not independent.
        worth: see `first_within`.
        epochs: where it is not to be chosen.
    """
    found: list[Floats] = []
    for loss in losses:
        found.append(loss)
        worse = len(found) > 1 and found[-1].mean() > found[-2].mean()
        if len(found) == (epochs or EPOCHS) or (epochs is None and worse):
            break
    k = len(found) - 1 if epochs else first_within(found, groups, worth)
    return Measured(k + 1, found[k])


def first_within(losses: Sequence[Floats], groups: Ints, worth: float) -> int:
    """The first whose mean loss is within one standard error of the least (the rule of Breiman et al., 1984, with
    paired differences), or within `worth` of it: what comes first must be beaten clearly.

    Args:
        losses: [n] each.
        groups: [n].
        worth: a difference that is not worth other settings or more epochs, however sure it is.
    """
    best = int(np.argmin([loss.mean() for loss in losses]))
    for k, loss in enumerate(losses[:best]):
        worse = loss - losses[best]
        if np.isfinite(worse.mean()) and worse.mean() <= max(standard_error(worse, groups), worth):
            return k
    return best


def standard_error(x: Floats, groups: Ints) -> float:
    """Of the mean of x [n], whose groups are independent (cluster-robust: Liang and Zeger, 1986). Infinite for one
    group."""
    sums = np.bincount(groups, x - x.mean())
    count = len(np.unique(groups))
    return math.inf if count < 2 else float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(x))


def halving(
    candidates: int, measure: Callable[[int, float], Measured], groups: Ints, worth: float, budget: float
) -> tuple[int, list[tuple[int, float, Measured]]]:
    """Successive halving (Karnin, Koren and Somekh, ICML 2013): each rung has an equal part of what is left of the
    budget, learns as large a share of the users as that allows, and the better quarter goes on, until two are left or
    all users are in. The first candidate, the default, always goes on.

    Args:
        candidates: C.
        measure: of a candidate, learned from a share of the users.
        budget: so many candidates may learn all users.

    Returns:
        The one to take, and every trial in order: candidate, share and what was measured.
    """
    tried: list[tuple[int, float, Measured]] = []
    alive = list(range(candidates))
    while True:
        count = len(alive)
        share = 1.0 if count <= budget else min(1.0, budget / (_rungs(count) * count))
        budget -= share * count
        now = {k: measure(k, share) for k in alive}
        tried += [(k, share, measured) for k, measured in now.items()]
        if share >= 1 or count <= 2:
            return alive[first_within([now[k].loss for k in alive], groups, worth)], tried
        best = sorted(alive, key=lambda k: now[k].mean)[: math.ceil(count / KEPT)]
        alive = sorted({alive[0], *best})


def _rungs(candidates: int) -> int:
    """Most rungs of so many candidates: the default may not be among the better ones."""
    return 1 if candidates <= 2 else 1 + _rungs(math.ceil(candidates / KEPT) + 1)
