"""Layers shared by teacher and student.

Shapes: B rows, N distinct users or items, C id columns, S sequences, L sequence length, F float columns, D
embedding_dim, T tasks, E experts, H units of a layer, K outputs of a first layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INIT_STD = 0.01  # of an embedding's first values
Side = tuple[Tensor, tuple[Tensor, ...], Tensor]
"""encoded users, items or contexts: ids [N, C], sequences [N, L] each (0: padding), floats [N, F]"""


class EmbeddingTable(nn.Module):
    """All embeddings of a model in one table [rows, D]; row 0 of each embedding is its unknown row.

    Its gradient is sparse, so that a step costs the rows it touches, not the table.

    Args:
        rows: rows of each embedding by name, the unknown one included.
    """

    def __init__(self, rows: dict[str, int], dim: int, *, sparse: bool = True) -> None:
        super().__init__()
        self.rows, self.dim, self.sparse = dict(rows), dim, sparse
        starts = itertools.accumulate(self.rows.values(), initial=0)
        self.start = dict(zip(self.rows, starts, strict=False))
        self.held = range(sum(self.rows.values()))  # rows of the table that `weight` holds
        self.weight = self._weight()

    def _weight(self) -> nn.Parameter:
        return nn.Parameter(torch.randn(len(self.held), self.dim) * INIT_STD)

    def part(self, name: str) -> slice:
        """Rows of the table that belong to one embedding."""
        return slice(self.start[name], self.start[name] + self.rows[name])

    def place(self, name: str) -> tuple[slice, slice]:
        """Rows of `weight` that belong to an embedding, and which of its rows they are."""
        part, held = self.part(name), self.held
        low = min(max(part.start, held.start), held.stop)
        high = min(max(part.stop, low), held.stop)
        first = low - part.start
        return slice(low - held.start, high - held.start), slice(first, first + high - low)

    def unknown(self) -> dict[str, Tensor]:
        """The unknown row of each embedding, [D]."""
        return {name: self.weight.data[at].clone() for name, at in self.start.items()}

    def forward(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """Rows of the table, in tensors of any shape -> [..., D] each."""
        if self.sparse and torch.is_grad_enabled():
            return self._at_once(rows)
        return tuple(F.embedding(r, self.weight) for r in rows)

    def _at_once(self, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each distinct row is fetched once, so that its gradients add up before they reach the table."""
        distinct, places = torch.unique(torch.cat([r.flatten() for r in rows]), return_inverse=True)
        fetched = self._fetch(distinct)
        each = zip(places.split([r.numel() for r in rows]), rows, strict=True)
        return tuple(F.embedding(place.view(r.shape), fetched) for place, r in each)

    def _fetch(self, distinct: Tensor) -> Tensor:
        """[n] ascending rows -> [n, D]."""
        return F.embedding(distinct, self.weight, sparse=True)


class SideEmbedder(nn.Module):
    """Encoded rows of one side -> one dense vector a row: ids, then means of sequences, then floats.

    Args:
        columns: embedding name of each id column.
        sequences: embedding name and length of each sequence.
    """

    offsets: Tensor

    def __init__(self, table: EmbeddingTable, columns: tuple[str, ...], sequences: tuple[tuple[str, int], ...]) -> None:
        super().__init__()
        self.widths = [len(columns), *(length for _, length in sequences)]
        starts = [table.start[name] for name in columns]
        for name, length in sequences:
            starts += [table.start[name]] * length
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int64), persistent=False)

    def rows(self, side: Side) -> Tensor:
        """Rows of the table, [N, C + sum of L]."""
        ids, sequences, _ = side
        return torch.cat([ids, *sequences], 1) + self.offsets

    def embeddings(self, e_NKD: Tensor, side: Side) -> Tensor:
        """What the table has at `rows` -> [N, C + S, D]: of ids, then means of sequences."""
        of_ids, *of_sequences = torch.split(e_NKD, self.widths, 1)
        parts = [of_ids]
        for e_NLD, sequence in zip(of_sequences, side[1], strict=True):
            mask = (sequence > 0).to(e_NLD.dtype).unsqueeze(2)
            parts.append((e_NLD * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1.0))
        return torch.cat(parts, 1)

    def forward(self, e_NKD: Tensor, side: Side) -> Tensor:
        """What the table has at `rows` -> [N, C D + S D + F]."""
        return torch.cat([self.embeddings(e_NKD, side).flatten(1), side[2]], 1)


def mlp(width: int, hidden_units: tuple[int, ...], *, last_relu: bool) -> nn.Sequential:
    """Linear layers with ReLU between; after the last one only if `last_relu`."""
    layers: list[nn.Module] = []
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise((width, *hidden_units))):
        layers.append(nn.Linear(fan_in, fan_out))
        if last_relu or k + 1 < len(hidden_units):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class SplitLinear(nn.Module):
    """nn.Linear over x = [x_0, x_1, ...] with one weight a part: W x + b = sum_k W_k x_k + b.

    So W_k x_k is computed once for all rows that share x_k.

    Args:
        widths: length of each part.
    """

    def __init__(self, widths: tuple[int, ...], out: int) -> None:
        super().__init__()
        # one layer over the whole of x, then cut: the scale of the initial weights is that of an unsplit layer
        whole = nn.Linear(sum(widths), out)
        parts = torch.split(whole.weight.detach(), list(widths), 1)
        self.weights = nn.ParameterList(w.clone(memory_format=torch.contiguous_format) for w in parts)
        self.bias = nn.Parameter(whole.bias.detach().clone())

    def part(self, k: int, x: Tensor, *, bias: bool = False) -> Tensor:
        """[N, width_k] -> [N, K]."""
        return F.linear(x, self.weights[k], self.bias if bias else None)

    def of_rows(self, k: int) -> Tensor:
        """[K, width_k + width_k+1 + ...]: weights of the parts that no rows share."""
        return torch.cat(list(self.weights)[k:], 1)


class FirstLayer(NamedTuple):
    """Sums of a SplitLinear over B rows, not formed: pre_b = user[user_index_b] + item[item_index_b] + weight row_b."""

    user: Tensor
    """[U, K]"""
    item: Tensor
    """[I, K], the bias included"""
    user_index: Tensor
    """[B]"""
    item_index: Tensor
    """[B]"""
    row: Tensor
    """[B, R] what belongs to a row alone; R may be 0"""
    weight: Tensor
    """[K, R]"""

    def sums(self) -> Tensor:
        """[B, K]"""
        pre_BK = self.user.index_select(0, self.user_index) + self.item.index_select(0, self.item_index)
        return torch.addmm(pre_BK, self.row, self.weight.t()) if self.row.shape[1] else pre_BK


class Experts(nn.Module):
    """E networks of one shape side by side, ReLU after every layer; their first layer is in a SplitLinear."""

    def __init__(self, num_experts: int, hidden_units: tuple[int, ...]) -> None:
        super().__init__()
        self.num, self.units = num_experts, hidden_units[0]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(hidden_units):
            layers = [nn.Linear(fan_in, fan_out) for _ in range(num_experts)]
            self.weights.append(nn.Parameter(torch.stack([m.weight.detach().t() for m in layers])))
            self.biases.append(nn.Parameter(torch.stack([m.bias.detach() for m in layers]).unsqueeze(1)))

    def forward(self, pre: Tensor) -> Tensor:
        """First-layer sums [B, E H], expert by expert -> [E, B, H of the last layer]."""
        h_EBH = F.relu(pre).view(len(pre), self.num, self.units).transpose(0, 1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h_EBH = F.relu(torch.baddbmm(bias, h_EBH, weight))
        return h_EBH


def gate(scores: Tensor, dropout: float, training: bool) -> Tensor:
    """Softmax over experts, the last axis.

    In training each expert is dropped with probability `dropout` and the rest renormalised (Zhao et al., RecSys 2019);
    where all would be, none is. A softmax over those kept is that, and never 0 / 0.
    """
    scores = scores.float() if scores.dtype == torch.bfloat16 else scores
    if training and dropout:
        scores = scores.masked_fill(dropped_experts(scores, dropout), -torch.inf)
    return torch.softmax(scores, -1)


def dropped_experts(like: Tensor, dropout: float) -> Tensor:
    """Experts that gates do without, bool of the shape of `like`, experts last; never all of a gate."""
    dropped = torch.rand_like(like) < dropout
    return dropped & ~dropped.all(-1, keepdim=True)


class Towers(nn.ModuleList):
    """One network a task, from its own vector to its logit."""

    def __init__(self, width: int, hidden_units: tuple[int, ...], num_tasks: int) -> None:
        super().__init__(mlp(width, (*hidden_units, 1), last_relu=False) for _ in range(num_tasks))

    def forward(self, h_TBH: Iterable[Tensor]) -> Tensor:
        """[B, T], of the type of the weights: small products, and a logit is worth its digits."""
        kind, device = next(self.parameters()).dtype, next(self.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return torch.cat([tower(h_BH.to(kind)) for tower, h_BH in zip(self, h_TBH, strict=True)], 1)


class Network(nn.Module):
    """What a teacher is above its embeddings: a first layer linear in x, and the rest, which ends in towers."""

    first: SplitLinear
    towers: Towers

    def forward(self, first: FirstLayer) -> tuple[Tensor, Tensor]:
        """Logits [B, T] and gates [B, T, E]."""
        return self.rest(first.sums())

    def rest(self, pre_BK: Tensor) -> tuple[Tensor, Tensor]:
        """First-layer sums -> logits [B, T] and gates [B, T, E]."""
        raise NotImplementedError
