"""The network's logits and the regression's as one: for each task in the shares that held-out rows choose.

A network and a linear model are wrong in different places (Cheng et al., DLRS 2016), and a log may be too small or too
sparse for a network. Shares fitted on rows that neither learned are stacking (Wolpert, Neural Networks 1992).

A regression's conjunctions say what a network may not know at all, as the taste of a user of a small log, or knows too.
So what the share r takes from them may be given back:

    logit = (1 - r) network + r regression + q (1 - r) (regression - alone)

alone: the regression's logit without its conjunctions.

n rows, T tasks, S shares r, Q shares q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.scores.calibration import fitted_loss
from dmtl_cli.teacher.labels import HeldOut

SHARES = tuple(k / 10 for k in range(11))
"""of the regression, that are tried"""
GIVEN_BACK = (0.0, 0.25, 0.5, 0.75, 1.0)
"""of what a share takes from conjunctions, that are tried"""
MEMORY = 0.8
"""share of what earlier days said that a day begins with, as the regression's own"""
PENALTY = 8.0
"""nats by which all network, or all regression, must be better than half of each: few rows do not decide alone"""


@dataclass(frozen=True)
class Blend:
    """The regression's share of each task's logit."""

    losses: dict[str, tuple[float, ...]]
    """by task [S] the log loss of held-out rows so far, in nats; older days count less. Tasks are in the order of the
    network's outputs"""
    pairs: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """by task [Q] the same by what is given back to conjunctions, with the share that was chosen; absent where there
    are none"""

    def share(self, task: str) -> float:
        """The share of least loss; the first of several."""
        prior = [PENALTY * (2 * share - 1) ** 2 for share in SHARES]
        return SHARES[int(np.argmin(np.add(self.losses[task], prior)))]

    def given_back(self, task: str) -> float:
        """How much of all that conjunctions say is in a logit beside their share: q (1 - r)."""
        if task not in self.pairs:
            return 0.0
        prior = [PENALTY * (2 * q - 1) ** 2 for q in GIVEN_BACK]
        return GIVEN_BACK[int(np.argmin(np.add(self.pairs[task], prior)))] * (1 - self.share(task))

    @staticmethod
    def fit(
        network: Mapping[str, HeldOut],
        regression: Mapping[str, HeldOut],
        before: Blend | None,
        alone: Mapping[str, HeldOut] | None = None,
    ) -> Blend:
        """Adds the losses of a day's held-out rows to those of the days before.

        Args:
            network, regression: by task, of the same rows.
            alone: the regression's without its conjunctions; None: it has none.
        """
        out = Blend({}, {})
        for task, mine in network.items():
            now = [_loss(blended(mine, regression[task], share)) for share in SHARES]
            out.losses[task] = added(before.losses[task] if before else None, now)
            if alone is not None:
                share, three = out.share(task), (mine, regression[task], alone[task])
                now = [_loss(_with_pairs(*three, share, q * (1 - share))) for q in GIVEN_BACK]
                out.pairs[task] = added(before.pairs.get(task) if before else None, now)
        return out

    def of_rows(self, task: str, network: HeldOut, regression: HeldOut, alone: HeldOut | None) -> HeldOut:
        """The same rows with what is chosen of the regression in their logits."""
        if alone is None:
            return blended(network, regression, self.share(task))
        return _with_pairs(network, regression, alone, self.share(task), self.given_back(task))

    def apply(
        self,
        task: str,
        network: npt.NDArray[Any],
        regression: npt.NDArray[Any],
        alone: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """[n] of [n] each."""
        share, back = self.share(task), self.given_back(task)
        mixed: npt.NDArray[Any] = (1 - share) * network + share * regression
        return mixed if alone is None or not back else mixed + back * (regression - alone)

    @property
    def is_network_alone(self) -> bool:
        return not any(self.share(task) or self.given_back(task) for task in self.losses)

    def to_dict(self) -> dict[str, Any]:
        """By task `share` and `losses`, and where there are conjunctions `given_back` and `pairs`, its losses."""
        out: dict[str, Any] = {t: {"share": self.share(t), "losses": list(x)} for t, x in self.losses.items()}
        for task, losses in self.pairs.items():
            out[task] |= {"given_back": self.given_back(task), "pairs": list(losses)}
        return out

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Blend:
        losses = {task: tuple(map(float, x["losses"])) for task, x in stored.items()}
        return Blend(losses, {task: tuple(map(float, x["pairs"])) for task, x in stored.items() if "pairs" in x})


def blended(network: HeldOut, regression: HeldOut, share: float) -> HeldOut:
    """The same rows with a share of the regression in their logits."""
    logit = (1 - share) * network.logit.astype(np.float64) + share * regression.logit
    return replace(network, logit=logit)


def _with_pairs(network: HeldOut, regression: HeldOut, alone: HeldOut, share: float, back: float) -> HeldOut:
    """The same with what is given back to conjunctions."""
    mixed = blended(network, regression, share)
    return replace(mixed, logit=mixed.logit + back * (regression.logit - alone.logit))


def added(earlier: Sequence[float] | None, now: Sequence[float]) -> tuple[float, ...]:
    """Losses so far with those of a day, the least of which is 0. A day that tells nothing, as one of one label, leaves
    them as they are: calibration stays as it is then, and is of the shares that these chose."""
    least = min(now)
    if earlier is not None and max(now) == least:
        return tuple(earlier)
    return tuple(MEMORY * a + b - least for a, b in zip(earlier or (0.0,) * len(now), now, strict=True))


def _loss(rows: HeldOut) -> float:
    """The log loss after the intercept and slope that fit best: the level is calibration's."""
    return float(np.dot(rows.weight.astype(np.float64), fitted_loss(rows.logit, rows.label, rows.weight)))
