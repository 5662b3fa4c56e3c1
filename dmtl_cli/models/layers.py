"""Layers shared by teacher and student.

Shapes: B rows, N distinct users or items, C id columns, L sequence length, F float columns, D embedding_dim.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INIT_STD = 0.01  # of an embedding's first values


class EmbeddingTable(nn.Module):
    """All embeddings of a model in one table [rows, D]; row 0 of each embedding is its unknown row.

    Lookups give sparse gradients, so that a step costs the rows it touches, not the table.

    Args:
        rows: rows of each embedding by name, the unknown one included.
    """

    def __init__(self, rows: dict[str, int], dim: int, *, sparse: bool = True) -> None:
        super().__init__()
        self.rows, self.dim, self.sparse = dict(rows), dim, sparse
        starts = itertools.accumulate(self.rows.values(), initial=0)
        self.start = dict(zip(self.rows, starts, strict=False))
        self.weight = nn.Parameter(torch.randn(sum(self.rows.values()), dim) * INIT_STD)

    def part(self, name: str) -> slice:
        """Rows of the table that belong to one embedding."""
        return slice(self.start[name], self.start[name] + self.rows[name])

    def forward(self, rows: Tensor) -> Tensor:
        return F.embedding(rows, self.weight, sparse=self.sparse)


class SideEmbedder(nn.Module):
    """Encoded rows of one side -> one dense vector a row: ids, then means of sequences, then floats.

    Args:
        columns: embedding name of each id column.
        sequences: embedding name and length of each sequence.
    """

    offsets: Tensor

    def __init__(self, table: EmbeddingTable, columns: tuple[str, ...], sequences: tuple[tuple[str, int], ...]) -> None:
        super().__init__()
        self.lengths = [length for _, length in sequences]
        starts = [table.start[name] for name in columns]
        for name, length in sequences:
            starts += [table.start[name]] * length
        self.columns = len(columns)
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int64), persistent=False)

    def forward(self, table: EmbeddingTable, ids: Tensor, sequences: tuple[Tensor, ...], floats: Tensor) -> Tensor:
        """ids [N, C], sequences [N, L] each, floats [N, F] -> [N, C D + len(sequences) D + F]."""
        n = ids.shape[0]
        rows = torch.cat([ids, *sequences], 1)
        e_NKD = table(rows + self.offsets)
        parts = [e_NKD[:, : self.columns].reshape(n, self.columns * table.dim)]
        at = self.columns
        for length, sequence in zip(self.lengths, sequences, strict=True):
            mask = (sequence > 0).to(e_NKD.dtype).unsqueeze(2)
            total = (e_NKD[:, at : at + length] * mask).sum(1)
            parts.append(total / mask.sum(1).clamp_min(1.0))
            at += length
        return torch.cat([*parts, floats], 1)


def mlp(width: int, hidden_units: tuple[int, ...], *, last_relu: bool) -> nn.Sequential:
    """Linear layers with ReLU between; after the last one only if `last_relu`."""
    layers: list[nn.Module] = []
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise((width, *hidden_units))):
        layers.append(nn.Linear(fan_in, fan_out))
        if last_relu or k + 1 < len(hidden_units):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
