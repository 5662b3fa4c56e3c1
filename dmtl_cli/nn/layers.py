"""Layers shared by teacher and student.

Shapes: B rows, N distinct users or items, C id columns, S sequences, L sequence length, F float columns, D
embedding_dim, T tasks, E experts, H units of a layer, K outputs of a first layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtl_cli.nn.kernels.products import Linear, linear
from dmtl_cli.nn.kernels.tower import tower
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.ranks import ALONE, Ranks

FEW = 1_024
"""rows below which products cost less than what is around them, and torch's layers less than what is written by hand"""


class Known(NamedTuple):
    """The n known values of a padded sequence of N rows, row after row."""

    row: Tensor
    """[n]"""
    value: Tensor
    """[n] rows of the sequence's embedding"""
    number: Tensor
    """[N] float32, how many a row has"""


class Side(NamedTuple):
    """N encoded users, items or contexts."""

    ids: Tensor
    """[N, C]"""
    sequences: tuple[Tensor, ...]
    """[N, L] each; 0 is padding"""
    floats: Tensor
    """[N, F]"""
    known: tuple[Known, ...]
    """of each sequence; found where the batch is made, as how many there are is no device's to tell without a wait"""


class SideEmbedder(nn.Module):
    """Encoded rows of one side -> one dense vector per row: ids, then means of sequences, then floats.

    Of a sequence its known values alone are looked up, not its padding, which is most of what many rows have.

    Args:
        columns: embedding name of each id column.
        sequences: embedding name and length of each sequence.
    """

    offsets: Tensor
    """[C + sum of L] where the embeddings of ids, and of each place of a sequence, begin in the table"""

    def __init__(self, table: EmbeddingTable, columns: tuple[str, ...], sequences: tuple[tuple[str, int], ...]) -> None:
        super().__init__()
        self.widths = [len(columns), *(length for _, length in sequences)]
        self.starts = [table.start[name] for name, _ in sequences]
        starts = [table.start[name] for name in columns]
        for name, length in sequences:
            starts += [table.start[name]] * length
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int64), persistent=False)

    def rows(self, side: Side) -> tuple[Tensor, ...]:
        """Rows of the table: [N, C] of ids, and [n] of the known values of each sequence, one after the other."""
        known = (x.value + start for x, start in zip(side.known, self.starts, strict=True))
        return side.ids + self.offsets[: self.widths[0]], *known

    def embeddings(self, e: Sequence[Tensor], side: Side) -> Tensor:
        """Embeddings of `rows`, [N, C, D] and [n, D] of each sequence -> [N, C + S, D]: those of ids, then means of
        sequences."""
        return torch.cat([e[0], *(x.unsqueeze(1) for x in self._means(e, side))], 1)

    def parts(self, e: Sequence[Tensor], side: Side) -> list[Tensor]:
        """Embeddings of `rows` -> what a tower reads, side by side: [N, C D], a mean [N, D] a sequence, [N, F]."""
        return [e[0].flatten(1), *self._means(e, side), side.floats]

    def forward(self, e: Sequence[Tensor], side: Side) -> Tensor:
        """Embeddings of `rows` -> [N, C D + S D + F]."""
        return torch.cat(self.parts(e, side), 1)

    @staticmethod
    def _means(e: Sequence[Tensor], side: Side) -> list[Tensor]:
        """[N, D] of each sequence; of one without a known value 0."""
        out: list[Tensor] = []
        for known_nD, known in zip(e[1:], side.known, strict=True):
            total = known_nD.new_zeros(len(known.number), known_nD.shape[1]).index_add(0, known.row, known_nD)
            out.append(total / known.number.clamp_min(1).to(known_nD.dtype).unsqueeze(1))
        return out


def looked_up(table: EmbeddingTable, *sides: tuple[SideEmbedder, Side]) -> list[tuple[Tensor, ...]]:
    """Embeddings of each side's `rows`, all looked up at once."""
    rows = [embedder.rows(side) for embedder, side in sides]
    found = iter(table(*itertools.chain(*rows)))
    return [tuple(itertools.islice(found, len(mine))) for mine in rows]


class BatchNorm(nn.Module):
    """Batch normalisation of columns (Ioffe and Szegedy, ICML 2015): gamma (x - mean) / sqrt(var + eps) + beta.

    In training mean and variance are those of a batch's rows, on all ranks together. Otherwise they are running ones:
    means over the batches learned, each weighted by its rows and by .9 ** (batches since). So after many batches of one
    size they are those of `torch.nn.BatchNorm1d`, whose zeros and ones at the start fade by .9 a batch only, though a
    small day has few batches; and a last batch of a few rows counts as such. A batch of one row has no variance: it is
    normalised by the running ones.
    """

    DECAY, EPS = 0.9, 1e-5
    running_mean: Tensor
    """[H]"""
    running_var: Tensor
    """[H]"""
    running_rows: Tensor
    """[] the sum of weights"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("running_rows", torch.zeros(()))
        self.ranks: Ranks = ALONE

    def forward(self, x: Tensor) -> Tensor:
        """[B, H] -> [B, H], of its type; with several ranks B is this one's share."""
        x = x.contiguous()  # torch's backward of columns of a wider tensor takes ten times as long
        if self.training and self.ranks.size > 1:
            return self._over_ranks(x)
        if not self.training or len(x) == 1:
            affine = self.running_mean, self.running_var, self.weight, self.bias
            return F.batch_norm(x, *affine, training=False, eps=self.EPS)
        mean, var = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
        # with a momentum of 1 it leaves this batch's mean and unbiased variance
        out = F.batch_norm(x, mean, var, self.weight, self.bias, training=True, momentum=1.0, eps=self.EPS)
        self._remember(torch.full_like(self.running_rows, len(x)), mean, var)
        return out

    def _over_ranks(self, x: Tensor) -> Tensor:
        """torch's SyncBatchNorm is for GPUs only. No number is read, so that no rank waits for its device."""
        wide = x.to(self.running_mean.dtype)
        both = self.ranks.total(torch.cat([wide.sum(0), wide.new_full((1,), len(x))]))
        n = both[-1].detach()
        mean = both[:-1] / n
        var = self.ranks.total((wide - mean).square().sum(0)) / n
        mean, var = torch.where(n > 1, mean, self.running_mean), torch.where(n > 1, var, self.running_var)
        out = (wide - mean) * torch.rsqrt(var + self.EPS) * self.weight + self.bias
        rows = torch.where(n > 1, n, 0.0)
        self._remember(rows, mean.detach(), var.detach() * n / (n - 1).clamp_min(1))
        return out.to(x.dtype)

    @torch.no_grad()
    def fold_into(self, weights: Sequence[Tensor], bias: Tensor, columns: slice = slice(None)) -> None:
        """Makes a linear layer give what this one makes of its outputs in evaluation.

        Args:
            weights, bias: of that layer, [H, inputs] each and [H], changed in place.
            columns: those of this one that the layer gives.
        """
        scale = (self.weight / torch.sqrt(self.running_var + self.EPS))[columns]
        for weight in weights:
            weight.mul_(scale[:, None])
        bias.sub_(self.running_mean[columns]).mul_(scale).add_(self.bias[columns])

    @torch.no_grad()
    def _remember(self, rows: Tensor, mean: Tensor, var: Tensor) -> None:
        """Args: rows: 0 changes nothing."""
        self.running_rows.copy_(torch.where(rows > 0, self.DECAY * self.running_rows + rows, self.running_rows))
        share = rows / self.running_rows.clamp_min(1)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var, share)


def mlp(width: int, hidden_units: tuple[int, ...], *, last_relu: bool, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between; after the last one only if `last_relu`.

    Args:
        batch_norm: whether what a ReLU takes is normalised.
    """
    layers: list[nn.Module] = []
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise((width, *hidden_units))):
        layers.append(Linear(fan_in, fan_out))
        if last_relu or k + 1 < len(hidden_units):
            layers += [BatchNorm(fan_out), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers)


def folded(layers: nn.Sequential) -> nn.Sequential:
    """Layers of `mlp` whose normalisation is part of their weights: the same in evaluation, but for rounding."""
    out: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, BatchNorm):
            linear = out[-1]
            assert isinstance(linear, nn.Linear)
            layer.fold_into([linear.weight], linear.bias)
        else:
            out.append(layer)
    return nn.Sequential(*out)


class TowerLayers(nn.Sequential):
    """`mlp`, without a ReLU at the end. With `wide` its last layer reads x too: a linear path beside the layers (Cheng
    et al., DLRS 2016), so that what is a sum of the inputs, as the log of a count, or a product of two towers' inputs,
    is learned within few steps."""

    def __init__(self, width: int, hidden_units: tuple[int, ...], *, wide: bool) -> None:
        super().__init__(*mlp(width, hidden_units, last_relu=False))
        self.wide = wide and len(hidden_units) > 1
        if self.wide:
            self[-1] = Linear(width + hidden_units[-2], hidden_units[-1])

    @property
    def last(self) -> nn.Linear:
        """The layer that makes the vectors."""
        layer = self[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def trunk(self, x: Tensor) -> Tensor:
        """[N, width] -> what the last layer reads, [N, last.in_features]."""
        h = x
        for layer in list(self)[:-1]:
            h = layer(h)
        return torch.cat([x, h], 1) if self.wide else h

    def forward(self, x: Tensor) -> Tensor:
        """[N, width] -> [N, hidden_units[-1]]."""
        return self.last(self.trunk(x))  # type: ignore[no-any-return]

    def of_parts(self, parts: Sequence[Tensor]) -> Tensor:
        """`forward` of parts [N, w] that are side by side, for training: by `tower`, but for so few rows that its
        Python costs more than it saves."""
        layers = [layer for layer in self if isinstance(layer, nn.Linear)]
        if len(parts[0]) < FEW:
            return self(torch.cat(list(parts), 1))  # type: ignore[no-any-return]
        return tower(parts, [layer.weight for layer in layers], [layer.bias for layer in layers], wide=self.wide)


class SplitLinear(nn.Module):
    """nn.Linear over x = [x_0, x_1, ...] with one weight per part: W x + b = sum_k W_k x_k + b.

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
        return linear(x, self.weights[k], self.bias if bias else None)

    def parts(self, x: FirstInput) -> FirstLayer:
        """Users' and items' parts, each computed once."""
        user, item = self.part(0, x.user), self.part(1, x.item, bias=True)
        return FirstLayer(user, item, x.user_index, x.item_index, x.row, self.row_weight(2))

    def outputs(self, at: slice) -> tuple[list[Tensor], Tensor]:
        """Weights [n, width_k] of some of its K outputs, and their bias [n]: views."""
        return [weight[at] for weight in self.weights], self.bias[at]

    def row_weight(self, k: int) -> Tensor:
        """[K, width_k + width_k+1 + ...]: weights of part k and those after it, which no rows share."""
        return torch.cat(list(self.weights)[k:], 1)


class FirstInput(NamedTuple):
    """The input of a SplitLinear over [user, item, row]; a row's width may be 0."""

    user: Tensor
    """[U, width_0] distinct users"""
    item: Tensor
    """[I, width_1] distinct items"""
    user_index: Tensor
    """[B] place of each row's user"""
    item_index: Tensor
    """[B] place of each row's item"""
    row: Tensor
    """[B, R] what rows do not share"""


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
    """[B, R] the input that rows do not share; R may be 0"""
    weight: Tensor
    """[K, R]"""

    def sums(self) -> Tensor:
        """[B, K]"""
        pre_BK = self.user.index_select(0, self.user_index) + self.item.index_select(0, self.item_index)
        return torch.addmm(pre_BK, self.row, self.weight.t()) if self.row.shape[1] else pre_BK
