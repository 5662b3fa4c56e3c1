"""What the networks of a teacher share: experts, gates, towers, and their interface to the teacher.

Shapes: B rows, T tasks, E experts, H units of a layer, K outputs of a first layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtl_cli.nn.layers import BatchNorm, FirstInput, FirstLayer, SplitLinear, folded, mlp


class Experts(nn.Module):
    """E networks of one shape side by side, ReLU after every layer; their first layer is in a SplitLinear.

    Args:
        batch_norm: whether what each ReLU takes is normalised.
    """

    def __init__(self, num_experts: int, hidden_units: tuple[int, ...], *, batch_norm: bool = False) -> None:
        super().__init__()
        self.num = num_experts
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(hidden_units):
            layers = [nn.Linear(fan_in, fan_out) for _ in range(num_experts)]
            self.weights.append(nn.Parameter(torch.stack([m.weight.detach().t() for m in layers])))
            self.biases.append(nn.Parameter(torch.stack([m.bias.detach() for m in layers]).unsqueeze(1)))
        self.norms = nn.ModuleList(BatchNorm(num_experts * n) for n in hidden_units if batch_norm)
        """of the first layer, then of each later one; none without batch_norm"""

    def forward(self, pre: Tensor) -> Tensor:
        """First-layer sums [B, E H], expert by expert -> [E, B, H of the last layer]."""
        h_EBH = self._activated(0, pre)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h_EBH = torch.baddbmm(bias, h_EBH, weight)
            h_EBH = self._activated(k + 1, h_EBH.transpose(0, 1).flatten(1)) if self.norms else F.relu(h_EBH)
        return h_EBH

    def fold(self, first: Iterable[tuple[Sequence[Tensor], Tensor]]) -> None:
        """Makes normalisation part of weights, as `Network.fold` does.

        Args:
            first: weights and bias of the layers that give the first sums, in their order.
        """
        if not self.norms:
            return
        norms = [norm for norm in self.norms if isinstance(norm, BatchNorm)]
        at = 0
        for weights, bias in first:
            norms[0].fold_into(weights, bias, slice(at, at + len(bias)))
            at += len(bias)
        for norm, weight, bias in zip(norms[1:], self.weights, self.biases, strict=True):
            units = weight.shape[2]
            for e in range(self.num):
                norm.fold_into([weight[e].t()], bias[e, 0], slice(e * units, (e + 1) * units))
        self.norms = nn.ModuleList()

    def _activated(self, k: int, pre: Tensor) -> Tensor:
        """What layer k gives, [B, E H] -> [E, B, H]: normalised, and its ReLU."""
        h = F.relu(self.norms[k](pre) if self.norms else pre)
        return h.view(len(h), self.num, h.shape[1] // self.num).transpose(0, 1)


def gate(scores: Tensor, dropout: float, training: bool) -> Tensor:
    """Softmax over experts, the last axis.

    In training each expert is dropped with probability `dropout` and the others renormalised (Zhao et al., RecSys
    2019); where all would be dropped, none is. A softmax over those kept does that without 0 / 0.
    """
    scores = scores.float() if scores.dtype == torch.bfloat16 else scores
    if training and dropout:
        scores = scores.masked_fill(dropped_experts(scores, dropout), -torch.inf)
    return torch.softmax(scores, -1)


def dropped_experts(like: Tensor, dropout: float) -> Tensor:
    """Which experts each gate drops, bool of the shape of `like` with experts on the last axis; never all of a gate."""
    dropped = torch.rand_like(like) < dropout
    return dropped & ~dropped.all(-1, keepdim=True)


class Towers(nn.ModuleList):
    """One network per task, from its own vector to its logit."""

    def __init__(self, width: int, hidden_units: tuple[int, ...], num_tasks: int, *, batch_norm: bool = False) -> None:
        units = (*hidden_units, 1)
        super().__init__(mlp(width, units, last_relu=False, batch_norm=batch_norm) for _ in range(num_tasks))

    def forward(self, h_TBH: Iterable[Tensor]) -> Tensor:
        """T tasks' [B, H] -> [B, T], in the type of the weights: products are small, and logits need precision."""
        dtype, device = next(self.parameters()).dtype, next(self.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return torch.cat([tower(h_BH.to(dtype)) for tower, h_BH in zip(self, h_TBH, strict=True)], 1)

    def fold(self) -> None:
        """As `Network.fold`."""
        for k, tower in enumerate(self):
            assert isinstance(tower, nn.Sequential)
            self[k] = folded(tower)


class Network(nn.Module):
    """The part of a teacher above its embeddings: a first layer linear in x, and the rest, which ends in towers.

    A network is a module of this folder, named as `teacher.model` names it, with a function
    `build(config, widths, num_tasks)`.
    """

    first: SplitLinear
    towers: Towers
    plain_autograd = False
    """whether to compute without the kernel written by hand, if the network has one"""

    def forward(self, x: FirstInput) -> tuple[Tensor, Tensor]:
        """Logits [B, T] and gates [B, T, E]."""
        return self.of_parts(self.first.parts(x))

    def of_parts(self, first: FirstLayer) -> tuple[Tensor, Tensor]:
        """`forward`, where users' and items' parts of the first layer were computed before: for a frozen network."""
        return self.rest(first.sums())

    def rest(self, pre_BK: Tensor) -> tuple[Tensor, Tensor]:
        """First-layer sums -> logits [B, T] and gates [B, T, E]."""
        raise NotImplementedError

    @torch.no_grad()
    def fold(self) -> None:
        """Makes normalisation part of the weights before it: a network that is trained no more gives the same but for
        rounding, in the time of one without."""
        raise NotImplementedError
