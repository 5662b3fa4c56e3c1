"""Multi-gate mixture of experts (Ma et al., KDD 2018).

Shapes: B rows, N distinct users or items, T tasks, E experts, H units of a layer, K outputs of the first layer, D
embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmtl_cli.config.teacher import Teacher
from dmtl_cli.nn.kernels.mixture import mixture, mixture_of_sums
from dmtl_cli.nn.layers import FEW, FirstInput, FirstLayer, SplitLinear
from dmtl_cli.teacher.networks.network import Experts, Network, Towers, dropped_experts, gate


def build(config: Teacher, widths: tuple[int, ...], num_tasks: int) -> MMoE:
    return MMoE(
        widths,
        num_experts=config.num_experts,
        expert_hidden_units=config.expert_hidden_units,
        tower_hidden_units=config.tower_hidden_units,
        num_tasks=num_tasks,
        gate_dropout=config.gate_dropout,
        batch_norm=config.batch_norm,
    )


class MMoE(Network):
    """g_k = softmax(W_k x), h_k = sum_e g_ke expert_e(x), logit_k = tower_k(h_k).

    Args:
        widths: lengths of the parts of x.
        gate_dropout: probability that a gate drops an expert in training.
        batch_norm: whether layers of experts and towers are normalised before their ReLU.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        num_experts: int,
        expert_hidden_units: tuple[int, ...],
        tower_hidden_units: tuple[int, ...],
        num_tasks: int = 2,
        gate_dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.hidden, self.gates = num_experts * expert_hidden_units[0], (num_tasks, num_experts)
        self.gate_dropout = gate_dropout
        self.first = SplitLinear(widths, self.hidden + num_tasks * num_experts)  # experts, then gates
        self.experts = Experts(num_experts, expert_hidden_units, batch_norm=batch_norm)
        self.towers = Towers(expert_hidden_units[-1], tower_hidden_units, num_tasks, batch_norm=batch_norm)

    def forward(self, x: FirstInput) -> tuple[Tensor, Tensor]:
        """Logits [B, T] and gates [B, T, E]; of many rows on a CPU by `mixture`, which is written by hand.

        That goes chunk by chunk of rows through all layers, so it cannot normalise over the rows of a batch.
        """
        if not self._by_hand(x.user, x.row):
            return super().forward(x)
        dropped, experts = None, self.experts
        if self.training and self.gate_dropout:
            dropped = dropped_experts(torch.empty(len(x.row), *self.gates), self.gate_dropout)
        mixed, gates = mixture(x, self.first, [*experts.weights], [*experts.biases], dropped, self.gates)
        return self.towers(mixed), gates

    def of_parts(self, first: FirstLayer) -> tuple[Tensor, Tensor]:
        """As `forward`; by hand without gradients only."""
        if torch.is_grad_enabled() or self.training or not self._by_hand(first.user, first.row):
            return super().of_parts(first)
        mixed, gates = mixture_of_sums(first, [*self.experts.weights], [*self.experts.biases], self.gates)
        return self.towers(mixed), gates

    def _by_hand(self, user: Tensor, row: Tensor) -> bool:
        return not self.plain_autograd and not self.experts.norms and user.device.type == "cpu" and len(row) >= FEW

    def rest(self, pre_BK: Tensor) -> tuple[Tensor, Tensor]:
        """First-layer sums -> logits [B, T] and gates [B, T, E]."""
        h_EBH = self.experts(pre_BK[:, : self.hidden])
        scores_BTE = pre_BK[:, self.hidden :].view(len(pre_BK), *self.gates)
        gates_BTE = gate(scores_BTE, self.gate_dropout, self.training)
        return self.towers(torch.einsum("bte,ebh->tbh", gates_BTE, h_EBH)), gates_BTE

    @torch.no_grad()
    def fold(self) -> None:
        self.experts.fold([self.first.outputs(slice(self.hidden))])
        self.towers.fold()
