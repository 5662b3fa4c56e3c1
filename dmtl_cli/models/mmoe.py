"""The teacher: multi-gate mixture of experts (Ma et al., KDD 2018) over users, items and context.

Shapes: B rows, U distinct users, I distinct items, T tasks, E experts, H units of a layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtl_cli.models.layers import EmbeddingTable, SideEmbedder, mlp

Side = tuple[Tensor, tuple[Tensor, ...], Tensor]
"""ids [N, C], sequences [N, L] each, floats [N, F]"""


class MMoE(nn.Module):
    """g_k = softmax(W_k x), h_k = sum_e g_ke expert_e(x), logit_k = tower_k(h_k).

    The first layer of every expert and of every gate is linear in x = [user, item, context], so its user part is
    computed once per distinct user and its item part once per distinct item.

    Args:
        widths: lengths of the user, item and context vectors.
        gate_dropout: probability that an expert is dropped from a gate in training; the rest is renormalised (Zhao et
            al., RecSys 2019).
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        *,
        num_experts: int,
        expert_hidden_units: tuple[int, ...],
        tower_hidden_units: tuple[int, ...],
        num_tasks: int = 2,
        gate_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.experts, self.tasks, self.gate_dropout = num_experts, num_tasks, gate_dropout
        first, *later = expert_hidden_units
        self.units = first
        out = num_experts * first + num_tasks * num_experts
        # one layer over the whole of x, then cut: the scale of the initial weights is that of an unsplit layer
        whole = nn.Linear(sum(widths), out)
        user, item, context = torch.split(whole.weight.detach(), list(widths), 1)
        self.first_user, self.first_item, self.first_context = (
            nn.Parameter(w.clone(memory_format=torch.contiguous_format)) for w in (user, item, context)
        )
        self.first_bias = nn.Parameter(whole.bias.detach().clone())
        self.later = nn.ParameterList()
        fan_in = first
        for fan_out in later:
            layers = [nn.Linear(fan_in, fan_out) for _ in range(num_experts)]
            self.later.append(nn.Parameter(torch.stack([m.weight.detach().t() for m in layers])))
            self.later.append(nn.Parameter(torch.stack([m.bias.detach() for m in layers]).unsqueeze(1)))
            fan_in = fan_out
        self.towers = nn.ModuleList(mlp(fan_in, (*tower_hidden_units, 1), last_relu=False) for _ in range(num_tasks))

    def first(self, x: Tensor, weight: Tensor) -> Tensor:
        """Part of the first layer (experts, then gates) of one side: [N, width] -> [N, E H + T E]."""
        return F.linear(x, weight)

    def rest(self, pre_BK: Tensor) -> tuple[Tensor, Tensor]:
        """First-layer sums -> logits [B, T] and gates [B, T, E]."""
        b = pre_BK.shape[0]
        hidden = self.experts * self.units
        h_EBH = F.relu(pre_BK[:, :hidden]).view(b, self.experts, self.units).transpose(0, 1)
        for weight, bias in zip(self.later[::2], self.later[1::2], strict=True):
            h_EBH = F.relu(torch.baddbmm(bias, h_EBH, weight))
        gates_BTE = torch.softmax(pre_BK[:, hidden:].view(b, self.tasks, self.experts), 2)
        if self.training and self.gate_dropout:
            kept = (torch.rand_like(gates_BTE) >= self.gate_dropout).to(gates_BTE.dtype)
            kept = torch.where(kept.sum(2, keepdim=True) > 0, kept, torch.ones_like(kept))
            gates_BTE = gates_BTE * kept
            gates_BTE = gates_BTE / gates_BTE.sum(2, keepdim=True)
        mixed_TBH = torch.einsum("bte,ebh->tbh", gates_BTE, h_EBH)
        logits = torch.cat([tower(mixed_TBH[k]) for k, tower in enumerate(self.towers)], 1)
        return logits, gates_BTE


class Teacher(nn.Module):
    """Embeddings and MMoE: encoded rows in, logits of ctr and cvr out."""

    def __init__(
        self, table: EmbeddingTable, user: SideEmbedder, item: SideEmbedder, context: SideEmbedder, mmoe: MMoE
    ) -> None:
        super().__init__()
        self.table, self.user, self.item, self.context, self.mmoe = table, user, item, context, mmoe

    def user_part(self, side: Side) -> Tensor:
        """[N, E H + T E]: what a user adds to the first layer."""
        return self.mmoe.first(self.user(self.table, *side), self.mmoe.first_user)

    def item_part(self, side: Side) -> Tensor:
        return self.mmoe.first(self.item(self.table, *side), self.mmoe.first_item)

    def context_part(self, side: Side) -> Tensor:
        return self.mmoe.first(self.context(self.table, *side), self.mmoe.first_context) + self.mmoe.first_bias

    def forward(
        self, user: Side, item: Side, context: Side, user_index: Tensor, item_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sides of U users, I items, B contexts and each row's place -> logits [B, T], gates [B, T, E]."""
        pre = self.user_part(user).index_select(0, user_index) + self.item_part(item).index_select(0, item_index)
        return self.mmoe.rest(pre + self.context_part(context))
