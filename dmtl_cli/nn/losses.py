"""What the losses have in common: they are in nats, and weighted means over rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Mean(NamedTuple):
    """A mean over some rows of a batch, or of many: they count by their weights, also beside other batches."""

    value: Tensor
    """0 where no row has a weight"""
    weight: Tensor
    """of all rows together"""

    @staticmethod
    def of(loss: Tensor, weight: Tensor) -> Mean:
        """Of rows [B]."""
        return Mean(weighted_mean(loss, weight), weight.detach().double().sum())

    def detached(self) -> Mean:
        """The same number without its gradient."""
        return self._replace(value=self.value.detach())


Number = float | Tensor | Mean
"""that a training reports of a batch: a mean over its rows, or over some of them"""


def weighted_mean(loss: Tensor, weight: Tensor) -> Tensor:
    """sum(w l) / sum(w) -> scalar; 0, with gradients of 0, where no row [B] has a weight above 0."""
    weight = weight.to(loss.dtype)
    total = weight.sum()
    kept = torch.where(weight > 0, loss, 0.0)
    return (weight * kept).sum() / torch.where(total > 0, total, 1.0)


def bce(logit: Tensor, label: Tensor) -> Tensor:
    """Binary cross entropy of logits and labels in 0..1, row by row, [B] each."""
    return F.binary_cross_entropy_with_logits(logit, label, reduction="none")
