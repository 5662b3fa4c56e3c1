"""Progressive layered extraction (Tang et al., RecSys 2020): experts of one task beside shared ones, level by level.

Shapes: B rows, G groups (one per task, then the shared one), H units of a layer, E experts that a gate mixes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dmtl_cli.config.teacher import Teacher
from dmtl_cli.nn.layers import SplitLinear
from dmtl_cli.teacher.networks.network import Experts, Network, Towers, gate


def build(config: Teacher, widths: tuple[int, ...], num_tasks: int) -> PLE:
    return PLE(
        widths,
        num_experts=config.num_experts,
        num_task_experts=config.num_task_experts,
        num_levels=config.num_levels,
        expert_hidden_units=config.expert_hidden_units,
        tower_hidden_units=config.tower_hidden_units,
        num_tasks=num_tasks,
        gate_dropout=config.gate_dropout,
        batch_norm=config.batch_norm,
    )


class Extraction(nn.Module):
    """One level: each group's first-layer sums, of its experts and then of its gate -> each group's mixture.

    A task mixes its own and the shared experts, the shared group mixes all, but on the last
    level, where nothing reads its mixture.

    Args:
        experts: how many each group has.
    """

    def __init__(
        self,
        experts: Sequence[int],
        hidden_units: tuple[int, ...],
        *,
        last: bool,
        gate_dropout: float,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.counts, self.last, self.gate_dropout = list(experts), last, gate_dropout
        self.experts = Experts(sum(experts), hidden_units, batch_norm=batch_norm)
        *own, shared = experts
        mixed = [n + shared for n in own] + [0 if last else sum(experts)]
        self.hidden = [n * hidden_units[0] for n in experts]
        self.widths = [h + e for h, e in zip(self.hidden, mixed, strict=True)]

    def forward(self, pre_G: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """[B, width of the group] each -> mixtures [B, H] each and the tasks' gates [B, T, E], own experts first."""
        cut = [pre.tensor_split([h], 1) for pre, h in zip(pre_G, self.hidden, strict=True)]
        h_EBH = self.experts(torch.cat([hidden for hidden, _ in cut], 1))
        *own, shared = torch.split(h_EBH, self.counts)
        seen = [torch.cat([h, shared]) for h in own] + ([] if self.last else [h_EBH])
        gates = [gate(scores, self.gate_dropout, self.training) for (_, scores), _ in zip(cut, seen, strict=False)]
        mixtures = [torch.einsum("be,ebh->bh", g, h) for g, h in zip(gates, seen, strict=True)]
        return mixtures, torch.stack(gates[: len(own)], 1)

    def fold(self, first: Iterable[tuple[Sequence[Tensor], Tensor]]) -> None:
        """Args: first: weights and bias of the layers that give each group's first sums."""
        groups = zip(first, self.hidden, strict=True)
        self.experts.fold(([w[:hidden] for w in weights], bias[:hidden]) for (weights, bias), hidden in groups)


class Linears(nn.ModuleList):
    """First layers of a later level: a group's vector -> its first-layer sums."""

    def forward(self, h_GBH: Sequence[Tensor]) -> list[Tensor]:
        return [linear(h_BH) for linear, h_BH in zip(self, h_GBH, strict=True)]


class PLE(Network):
    """Level 1 reads x; a group's experts and gate on a later level read what that group mixed on the level before.

    Args:
        widths: lengths of the parts of x.
        num_experts: shared experts on each level.
        num_task_experts: experts of each task on each level.
        gate_dropout: probability that a gate drops an expert in training.
        batch_norm: whether layers of experts and towers are normalised before their ReLU.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        num_experts: int,
        num_task_experts: int,
        num_levels: int,
        expert_hidden_units: tuple[int, ...],
        tower_hidden_units: tuple[int, ...],
        num_tasks: int = 2,
        gate_dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        experts, out = [num_task_experts] * num_tasks + [num_experts], expert_hidden_units[-1]
        levels = [
            Extraction(
                experts,
                expert_hidden_units,
                last=k + 1 == num_levels,
                gate_dropout=gate_dropout,
                batch_norm=batch_norm,
            )
            for k in range(num_levels)
        ]
        self.widths = levels[0].widths
        self.first = SplitLinear(widths, sum(self.widths))
        self.later_first = nn.ModuleList(Linears(nn.Linear(out, n) for n in level.widths) for level in levels[1:])
        self.levels = nn.ModuleList(levels)
        self.towers = Towers(out, tower_hidden_units, num_tasks, batch_norm=batch_norm)

    def rest(self, pre_BK: Tensor) -> tuple[Tensor, Tensor]:
        """First-layer sums -> logits [B, T] and the last level's gates [B, T, E], own experts first."""
        level, *later = self.levels
        mixtures, gates_BTE = level(torch.split(pre_BK, self.widths, 1))
        for linears, level in zip(self.later_first, later, strict=True):
            mixtures, gates_BTE = level(linears(mixtures))
        return self.towers(mixtures), gates_BTE

    @torch.no_grad()
    def fold(self) -> None:
        level, *later = (level for level in self.levels if isinstance(level, Extraction))
        starts = [0, *itertools.accumulate(self.widths)]
        level.fold(self.first.outputs(slice(a, b)) for a, b in itertools.pairwise(starts))
        firsts = (linears for linears in self.later_first if isinstance(linears, Linears))
        for linears, level in zip(firsts, later, strict=True):
            level.fold(([x.weight], x.bias) for x in linears if isinstance(x, nn.Linear))
        self.towers.fold()
