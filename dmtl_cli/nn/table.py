"""All embeddings of a model as one table, trained by sparse gradients."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtl_cli.nn.kernels.distinct import distinct_rows

INIT_STD = 0.01  # standard deviation of an embedding's initial values


class EmbeddingTable(nn.Module):
    """All embeddings of a model in one table [rows, D]; row 0 of each embedding is its out-of-vocabulary row.

    Its gradient is sparse, so that a step costs the rows it touches, not the table.

    Args:
        rows: rows of each embedding by name, the out-of-vocabulary one included.
        parts: columns of each part of D; row-wise Adagrad takes each as a table of its own. Default: one part.
    """

    def __init__(self, rows: dict[str, int], dim: int, parts: Sequence[int] = (), *, sparse: bool = True) -> None:
        super().__init__()
        self.rows, self.dim, self.sparse = dict(rows), dim, sparse
        self.parts = tuple(parts) or (dim,)
        starts = itertools.accumulate(self.rows.values(), initial=0)
        self.start = dict(zip(self.rows, starts, strict=False))
        self.local = range(sum(self.rows.values()))  # rows of the table that this process has
        self.weight = self._weight()

    def _weight(self) -> nn.Parameter:
        return nn.Parameter(torch.randn(len(self.local), self.dim).mul_(INIT_STD))

    def part(self, name: str) -> slice:
        """Rows of the table that belong to one embedding."""
        return slice(self.start[name], self.start[name] + self.rows[name])

    def place(self, name: str) -> tuple[slice, slice]:
        """Rows of `weight` that belong to an embedding, and which of its rows they are."""
        part, local = self.part(name), self.local
        low = min(max(part.start, local.start), local.stop)
        high = min(max(part.stop, low), local.stop)
        first = low - part.start
        return slice(low - local.start, high - local.start), slice(first, first + high - low)

    @property
    def shape_of_sums(self) -> tuple[int, ...]:
        """Of the accumulators of one row: a number, or one of each part."""
        return (len(self.parts),) if len(self.parts) > 1 else ()

    def kept(self, weight: Tensor) -> Tensor:
        """Rows [n, D] as `weight` has them."""
        return weight

    def oov_rows(self) -> dict[str, Tensor]:
        """The out-of-vocabulary row of each embedding, as `weight` has it."""
        return {name: self.weight.data[at].clone() for name, at in self.start.items()}

    def forward(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """Rows of the table, in tensors of any shape -> [..., D] each."""
        if self.sparse and torch.is_grad_enabled():
            return self._at_once(rows)
        return tuple(F.embedding(r, self.weight) for r in rows)

    def _at_once(self, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each distinct row is fetched once, so that its gradients add up before they reach the table."""
        distinct, places = distinct_rows(torch.cat([r.flatten() for r in rows]), sum(self.rows.values()))
        fetched = self._fetch(distinct)
        each = zip(torch.split(places, [r.numel() for r in rows]), rows, strict=True)
        # not F.embedding, whose gradient adds up row by row in four times the time of this one's, to the same sums
        return tuple(fetched.index_select(0, place).view(*r.shape, self.dim) for place, r in each)

    def _fetch(self, distinct: Tensor) -> Tensor:
        """[n] ascending rows -> [n, D]."""
        return F.embedding(distinct, self.weight, sparse=True)
