"""A student's towers as modules of their own, one a side, and their files: ONNX and torch.export programs.

The same student gives the same bytes, wherever and whenever they are written.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded, Layout
from dmtl_cli.nn.batches import side_of
from dmtl_cli.nn.layers import SideEmbedder
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.serving.files import input_names
from dmtl_cli.serving.search import Floats
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.dssm import DSSM
from dmtl_cli.student.export import onnx_file, pt2_file
from dmtl_cli.student.export.program import record
from dmtl_cli.student.kappa import BlockVectors

BLOCK = 65_536  # rows computed at a time


class Tower(nn.Module):
    """One side of a block: encoded rows -> vectors [N, d]. Has a copy of the weights of its side.

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
        x = self.tower(self._input(ids, sequences, floats))
        return torch.nn.functional.normalize(x, dim=1) if self.unit else x

    def _input(self, ids: Tensor, sequences: Sequence[Tensor], floats: Tensor) -> Tensor:
        """What `SideEmbedder` gives, [N, W], by operators whose sizes follow from that of their inputs: padding is
        looked up too, and left out of the means."""
        (e_NKD,) = self.table(torch.cat([ids, *sequences], 1) + self.embedder.offsets)
        of_ids, *padded = torch.split(e_NKD, self.embedder.widths, 1)
        parts = [of_ids]
        for e_NLD, sequence in zip(padded, sequences, strict=True):
            mask = (sequence > 0).to(e_NLD.dtype).unsqueeze(2)
            parts.append((e_NLD * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1.0))
        return torch.cat([torch.cat(parts, 1).flatten(1), floats], 1)


class Shown(NamedTuple):
    """How what is shown is made of the exposure block and of the items' own numbers."""

    kappa: float
    """by what it counts beside the preference; 0: it is not served"""
    share: float = 1.0
    """of the exposure block in it"""
    numbers: Floats | None = None
    """[F] what an item's float columns add to it; None: there is no column of them"""
    popularity: float = 1.0
    """what of it is the same for all users counts for"""
    mean: Floats | None = None
    """[d] the block's vector of the mean user, whose dot products are that; None where popularity is 1"""

    def over(self, users: Floats) -> Shown:
        """With the mean of the block's vectors [U, d] of some users, which is not needed where popularity is 1."""
        return self if self.popularity == 1 or not len(users) else self._replace(mean=users.mean(0))

    def learned(self, users: Floats) -> Floats:
        """The block's vectors [U, d] of users as it learned them, from those that are served, without the number beside
        them."""
        whole = users / np.float32(self.kappa * self.share)
        return whole if self.mean is None else whole + np.float32(1 - self.popularity) * self.mean

    @property
    def size(self) -> float:
        """By what that column is divided and a user's multiplied, so that it is about as long as others: stored in few
        bits, a vector is as exact as its largest number."""
        return 1.0 if self.numbers is None else 2 * float(np.linalg.norm(self.numbers)) or 1.0


class SideBySide(nn.Module):
    """One side of two blocks: encoded rows -> [a x, b t], the vectors x of one and t of the other, [N, d + e]; with
    items' own numbers [a x, c, b t], [N, d + 1 + e], c one number of users and of items their weighted sum.

    Args:
        factors: (a, b, c) by which the dot products count, on the side of users; None: on that of items.
        numbers: [F] by what the float columns of an item are summed; None: there is no such column.
        shift: [d] what is added to each a x of users; None: nothing.
    """

    a: Tensor
    b: Tensor
    c: Tensor
    zero: Tensor
    weights: Tensor
    shift: Tensor

    def __init__(
        self,
        exposure: Tower,
        preference: Tower,
        factors: tuple[float, float, float] | None,
        numbers: Floats | None = None,
        shift: Floats | None = None,
    ) -> None:
        super().__init__()
        self.added, self.shifted = numbers is not None, shift is not None
        if shift is not None:
            self.register_buffer("shift", torch.from_numpy(shift))
        self.layout, self.exposure, self.preference, self.scaled = (
            preference.layout,
            exposure,
            preference,
            bool(factors),
        )
        if factors:  # tensors, which a recorded call names; a bare number would be lost
            for name, factor in zip(("a", "b", "c")[: 2 + self.added], factors, strict=False):
                self.register_buffer(name, torch.tensor(factor, dtype=torch.float32))
            if self.added:
                self.register_buffer("zero", torch.zeros(()))
        elif numbers is not None:
            self.register_buffer("weights", torch.from_numpy(numbers))

    def forward(self, *given: Tensor) -> Tensor:
        x, t = self.exposure(*given), self.preference(*given)
        if self.scaled:
            # one number for as many rows as there are
            each = [(x * self.zero).sum(1, keepdim=True) + self.c] if self.added else []
            ax = x * self.a + self.shift if self.shifted else x * self.a
            return torch.cat([ax, *each, t * self.b], 1)
        if not self.added:
            return torch.cat([x, t], 1)
        floats = dict(zip(input_names(self.layout), given, strict=True))["floats"]
        return torch.cat([x, (floats * self.weights).sum(1, keepdim=True), t], 1)


Served = Tower | SideBySide


def towers_of(student: Blocks, encoder: Encoder, shown: Shown) -> dict[str, Served]:
    """The served towers by side: dot products are kappa times what is shown plus the preference's by its scale; with
    kappa 0 they are the preference's alone.

    Raises:
        UserError: 65 kappa is above 0 and the student did not learn what is shown.
    """
    preference = {side: Tower(student.preference, side, encoder.layout(side)) for side in ("user", "item")}
    kappa = shown.kappa
    if not kappa:
        return {side: tower.eval().cpu() for side, tower in preference.items()}
    if student.exposure is None:
        what = f"student.exposure.kappa is {kappa}, but the student has no exposure block"
        raise UserError(what, "run dmtl train-student again, or set kappa to 0")
    exposure = {side: Tower(student.exposure, side, encoder.layout(side)) for side in ("user", "item")}
    scale, alike = float(student.preference.scale.detach()), kappa * shown.size * shown.popularity
    shift = None if shown.mean is None else -shown.mean * np.float32(kappa * shown.share * (1 - shown.popularity))
    numbers = None if shown.numbers is None else shown.numbers / np.float32(shown.size)
    factors = (kappa * shown.share, scale, alike)
    both = {
        "user": SideBySide(exposure["user"], preference["user"], factors, numbers, shift),
        "item": SideBySide(exposure["item"], preference["item"], None, numbers),
    }
    return {side: tower.eval().cpu() for side, tower in both.items()}


def block_vectors(student: Blocks, side: str, encoded: Encoded, encoder: Encoder) -> BlockVectors:
    """The vectors of N encoded rows of a side by both blocks, so that any kappa can be measured.

    Raises:
        ValueError: the student has one block.
    """
    if student.exposure is None:
        raise ValueError("expected a student with an exposure block")
    layout = encoder.layout(side)
    exposure, preference = (
        vectors(Tower(b, side, layout).eval().cpu(), encoded) for b in (student.exposure, student.preference)
    )
    return BlockVectors(
        exposure, preference * np.float32(student.preference.scale.detach()) if side == "user" else preference
    )


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


def write_towers(folder: Path, towers: dict[str, Served], key: str = "") -> None:
    """Writes {user,item}_tower.{onnx,pt2}, with the key of their run where there is one."""
    for side, tower in towers.items():
        layout = tower.layout
        program = record(tower, input_names(layout), zeros(2, layout), zeros(3, layout))
        onnx_file.write(folder / f"{side}_tower.onnx", program, key)
        pt2_file.write(folder / f"{side}_tower.pt2", program, tower, zeros(2, layout), key)


@torch.no_grad()
def vectors(tower: Served, encoded: Encoded) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The vectors [N, d] of N encoded rows."""
    out = []
    for start in range(0, len(encoded), BLOCK):
        part = encoded.take(np.arange(start, min(start + BLOCK, len(encoded))))
        out.append(tower(*arguments(part, tower.layout)).numpy())
    return np.concatenate(out)
