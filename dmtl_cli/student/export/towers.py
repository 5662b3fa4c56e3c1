"""The two towers of a student as modules of their own, and their files: ONNX and torch.export programs.

The same student gives the same bytes, wherever and whenever they are written.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded, Layout
from dmtl_cli.nn.batches import side_of
from dmtl_cli.nn.layers import Side, SideEmbedder
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.serving.export import input_names
from dmtl_cli.student.dssm import DSSM
from dmtl_cli.student.export import onnx_file, pt2_file
from dmtl_cli.student.export.program import record

_BLOCK = 65_536  # rows computed at a time


class Tower(nn.Module):
    """One side of a student: encoded rows -> vectors [N, d]. Has a copy of the weights of its side.

    Inputs that a side lacks (no floats, say) are not arguments at all.
    """

    def __init__(self, student: DSSM, side: str, layout: Layout) -> None:
        super().__init__()
        self.layout, self.unit = layout, student.unit
        table = EmbeddingTable({n: student.table.rows[n] for n in layout.embeddings}, student.table.dim, sparse=False)
        with torch.no_grad():
            for name in layout.embeddings:
                table.weight[table.part(name)] = student.table.weight[student.table.part(name)]
        self.table = table
        self.embedder = SideEmbedder(table, layout.ids, layout.sequences)
        self.tower = copy.deepcopy(student.user_tower if side == "user" else student.item_tower)

    def forward(self, *given: Tensor) -> Tensor:
        named = dict(zip(input_names(self.layout), given, strict=True))
        n = given[0].shape[0]
        ids = named.get("ids", torch.zeros(n, 0, dtype=torch.int64))
        floats = named.get("floats", torch.zeros(n, 0))
        sequences = tuple(named[f"sequence_{k}"] for k in range(len(self.layout.sequences)))
        side = Side(ids, sequences, floats)
        (e,) = self.table(self.embedder.rows(side))
        x = self.tower(self.embedder(e, side))
        return torch.nn.functional.normalize(x, dim=1) if self.unit else x


def arguments(encoded: Encoded, layout: Layout) -> tuple[Tensor, ...]:
    """A tower's arguments, in the order of its inputs."""
    side = side_of(encoded, torch.device("cpu"))
    every = {"ids": side.ids, "floats": side.floats} | {f"sequence_{k}": s for k, s in enumerate(side.sequences)}
    return tuple(every[name] for name in input_names(layout))


def zeros(rows: int, layout: Layout) -> tuple[Tensor, ...]:
    """Arguments of that many rows of a side, all out of vocabulary."""
    sequences = tuple(np.zeros((rows, length), np.int32) for _, length in layout.sequences)
    ids, floats = np.zeros((rows, len(layout.ids)), np.int32), np.zeros((rows, layout.floats), np.float32)
    return arguments(Encoded(ids, sequences, floats), layout)


def write_towers(folder: Path, student: DSSM, encoder: Encoder) -> dict[str, Tower]:
    """Writes {user,item}_tower.{onnx,pt2}; returns the towers by side."""
    towers = {}
    for side in ("user", "item"):
        layout = encoder.layout(side)
        tower = towers[side] = Tower(student, side, layout).eval().cpu()
        program = record(tower, input_names(layout), zeros(2, layout), zeros(3, layout))
        onnx_file.write(folder / f"{side}_tower.onnx", program)
        pt2_file.write(folder / f"{side}_tower.pt2", program, tower, zeros(2, layout))
    return towers


@torch.no_grad()
def vectors(tower: Tower, encoded: Encoded) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The vectors [N, d] of N encoded rows."""
    out = []
    for start in range(0, len(encoded), _BLOCK):
        part = encoded.take(np.arange(start, min(start + _BLOCK, len(encoded))))
        out.append(tower(*arguments(part, tower.layout)).numpy())
    return np.concatenate(out)
