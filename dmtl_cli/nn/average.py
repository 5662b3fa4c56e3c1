"""The average of a model's weights over the later steps of a training.

Those of its last step are also of what the last batches happened to be, more so the faster they learn.
Polynomial-decay averaging (Shamir and Zhang, ICML 2013) forgets the early steps however many there are: weights of step
t count as t ** POWER, so that the last sixth of the steps is half of the average. They are looked at each time that
there are 3% more steps, since to look is to read the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

POWER = 3
LEAST = 32
"""steps that a training must have: in fewer, weights have only begun to move, and their average is behind them"""
_APART = 1.03  # times as many steps from one look to the next


class Average:
    """Args: weights: of the model, which go on being trained until `take`."""

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._weights = [p.data for p in weights]
        self._mean: list[Tensor] = []
        self._steps = self._looked = 0

    def step(self) -> None:
        """Counts a step, after it."""
        self._steps += 1
        if self._steps >= self._looked * _APART:
            self._look()

    def take(self) -> None:
        """Ends a training: the weights become the average, if there were steps enough. Its memory is given back."""
        if self._steps > self._looked:
            self._look()
        if self._steps >= LEAST:
            for weight, mean in zip(self._weights, self._mean, strict=False):
                weight.copy_(mean)
        self._mean = []

    def _look(self) -> None:
        """Counts the weights for all steps since the last look."""
        share = 1 - (self._looked / self._steps) ** (POWER + 1)
        self._mean = self._mean or [weight.clone() for weight in self._weights]
        for mean, weight in zip(self._mean, self._weights, strict=True):
            mean.lerp_(weight, share)
        self._looked = self._steps

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: no mean before the first step, nor after `take`."""
        counts = {"steps": torch.tensor([self._steps, self._looked])}
        return counts | {f"mean.{k}": mean for k, mean in enumerate(self._mean)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave."""
        self._steps, self._looked = state["steps"].tolist()
        stored = (state.get(f"mean.{k}") for k in range(len(self._weights)))
        pairs = zip(self._weights, stored, strict=True)
        self._mean = [mean.to(weight.device, copy=True) for weight, mean in pairs if mean is not None]
