"""A teacher's network and its factors as one: for each task in the share that held-out rows choose.

    logit = (1 - s) network + s factors

Both learn apart then, so that the network is what it would be alone. Where no held-out rows can tell, as in a log of
clicks alone, they learn for their sum, as in DeepFM (Guo et al., IJCAI 2017).

What factors tell the network may learn as well, or the regression may know. So a share is judged beside what the
regression says of the same rows, and none is taken that is not clearly worth something.

n rows, H logits of a model, T tasks, S shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dmtl_cli.config.schema import Config
from dmtl_cli.scores.calibration import joint_loss
from dmtl_cli.teacher.blend import SHARES, added, blended
from dmtl_cli.teacher.labels import HeldOut

A = TypeVar("A", npt.NDArray[np.float32], Tensor)
PENALTY = 8.0
"""nats by which factors alone must be better than the network alone; of a share so much of them"""


@dataclass(frozen=True)
class Factors:
    """The factors' share of each task's logit."""

    losses: dict[str, tuple[float, ...]]
    """by task [S] the log loss of held-out rows so far, in nats; older days count less. Tasks are in the order of the
    network's outputs"""

    def share(self, task: str) -> float:
        """The share of least loss; the first of several."""
        prior = [PENALTY * share for share in SHARES]
        return SHARES[int(np.argmin(np.add(self.losses[task], prior)))]

    @staticmethod
    def fit(
        network: Mapping[str, HeldOut],
        factors: Mapping[str, HeldOut],
        regression: Mapping[str, HeldOut] | None,
        before: Factors | None,
    ) -> Factors:
        """Adds the losses of a day's held-out rows to those of the days before.

        Args:
            network, factors, regression: by task, of the same rows; the last is what both are blended with.
        """
        out: dict[str, tuple[float, ...]] = {}
        for task, mine in network.items():
            beside = [regression[task].logit] if regression else []
            now = [_loss(blended(mine, factors[task], share), beside) for share in SHARES]
            out[task] = added(before.losses[task] if before else None, now)
        return Factors(out)

    def of_rows(self, task: str, network: HeldOut, factors: HeldOut) -> HeldOut:
        """The same rows with the factors' share in their logits."""
        return blended(network, factors, self.share(task))

    def to_dict(self) -> dict[str, Any]:
        """By task `share` and `losses`."""
        return {task: {"share": self.share(task), "losses": list(x)} for task, x in self.losses.items()}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Factors:
        return Factors({task: tuple(map(float, x["losses"])) for task, x in stored.items()})


def as_one(factors: Factors | None, logits: npt.NDArray[np.float32], tasks: Sequence[str]) -> npt.NDArray[np.float32]:
    """[n, T] of a model's logits [n, H]: the network's, with those of factors where there are any.

    Args:
        factors: None: there are none, or they learned for their sum with the network.
    """
    if factors is None:
        return summed(logits, len(tasks))
    s = np.array([factors.share(task) for task in tasks], np.float32)
    mixed: npt.NDArray[np.float32] = (1 - s) * logits[:, : len(tasks)] + s * logits[:, len(tasks) :]
    return mixed


def summed(logits: A, tasks: int) -> A:
    """[n, T] of logits [n, H]: network and factors together."""
    out: A = logits.reshape(len(logits), logits.shape[1] // tasks, tasks).sum(1)
    return out


def learn_apart(config: Config) -> bool:
    """Whether there are held-out rows of clicks and of exposures without one, which choose shares."""
    return bool(config.teacher.calibration_share and config.data.events.click)


def _loss(rows: HeldOut, beside: Sequence[npt.NDArray[Any]]) -> float:
    """The log loss after the intercept and slopes that fit best: the level is calibration's, and the regression's share
    is chosen after the factors'."""
    return float(np.dot(rows.weight.astype(np.float64), joint_loss([rows.logit, *beside], rows.label, rows.weight)))
