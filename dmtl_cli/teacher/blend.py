"""The network's logits and the regression's as one: for each task in the shares that held-out rows choose.

A network and a linear model are wrong in different places (Cheng et al., DLRS 2016), and a log may be too small or too
sparse for a network. Shares fitted on rows that neither learned are stacking (Wolpert, Neural Networks 1992).

n rows, T tasks, S shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.scores.calibration import fitted_loss
from dmtl_cli.teacher.labels import HeldOut

Floats = npt.NDArray[np.float64]

SHARES = tuple(k / 10 for k in range(11))
"""of the regression, that are tried"""
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

    def share(self, task: str) -> float:
        """The share of least loss; the first of several."""
        prior = [PENALTY * (2 * share - 1) ** 2 for share in SHARES]
        return SHARES[int(np.argmin(np.add(self.losses[task], prior)))]

    @staticmethod
    def fit(network: Mapping[str, HeldOut], regression: Mapping[str, HeldOut], before: Blend | None) -> Blend:
        """Adds the losses of a day's held-out rows to those of the days before.

        Args:
            network, regression: by task, of the same rows.
        """
        out: dict[str, tuple[float, ...]] = {}
        for task, mine in network.items():
            earlier = before.losses[task] if before else (0.0,) * len(SHARES)
            now = [_loss(blended(mine, regression[task], share)) for share in SHARES]
            least = min(now)
            out[task] = tuple(MEMORY * a + b - least for a, b in zip(earlier, now, strict=True))
        return Blend(out)

    def apply(self, task: str, network: npt.NDArray[Any], regression: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[n] of [n] each."""
        share = self.share(task)
        return (1 - share) * network + share * regression

    def to_dict(self) -> dict[str, Any]:
        """By task `share` and `losses`."""
        return {task: {"share": self.share(task), "losses": list(losses)} for task, losses in self.losses.items()}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Blend:
        return Blend({task: tuple(map(float, x["losses"])) for task, x in stored.items()})


def blended(network: HeldOut, regression: HeldOut, share: float) -> HeldOut:
    """The same rows with a share of the regression in their logits."""
    logit = (1 - share) * network.logit.astype(np.float64) + share * regression.logit
    return HeldOut(logit, network.label, network.weight)


def _loss(rows: HeldOut) -> float:
    """The log loss after the intercept and slope that fit best: the level is calibration's."""
    return float(np.dot(rows.weight.astype(np.float64), fitted_loss(rows.logit, rows.label, rows.weight)))
