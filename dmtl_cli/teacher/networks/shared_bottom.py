"""Shared bottom (Caruana, Machine Learning 1997): one network for all tasks, then a tower each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dmtl_cli.config.teacher import Teacher
from dmtl_cli.nn.layers import BatchNorm, SplitLinear, folded, mlp
from dmtl_cli.teacher.networks.network import Network, Towers


def build(config: Teacher, widths: tuple[int, ...], num_tasks: int) -> SharedBottom:
    units = config.expert_hidden_units, config.tower_hidden_units
    return SharedBottom(widths, *units, num_tasks, batch_norm=config.batch_norm)


class SharedBottom(Network):
    """h = bottom(x), logit_k = tower_k(h): an MMoE of one expert.

    Args:
        widths: lengths of the parts of x.
        batch_norm: whether layers of bottom and towers are normalised before their ReLU.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        hidden_units: tuple[int, ...],
        tower_hidden_units: tuple[int, ...],
        num_tasks: int,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.first = SplitLinear(widths, hidden_units[0])
        self.norm = BatchNorm(hidden_units[0]) if batch_norm else None
        self.later = mlp(hidden_units[0], hidden_units[1:], last_relu=True, batch_norm=batch_norm)
        self.towers = Towers(hidden_units[-1], tower_hidden_units, num_tasks, batch_norm=batch_norm)

    def rest(self, pre_BK: Tensor) -> tuple[Tensor, Tensor]:
        """First-layer sums -> logits [B, T] and gates [B, T, 1], all one."""
        h_BH = self.later(F.relu(self.norm(pre_BK) if self.norm else pre_BK))
        logits = self.towers([h_BH] * len(self.towers))
        return logits, logits.new_ones(*logits.shape, 1)

    @torch.no_grad()
    def fold(self) -> None:
        if self.norm:
            self.norm.fold_into(*self.first.outputs(slice(None)))
        self.norm, self.later = None, folded(self.later)
        self.towers.fold()
