"""What is doubtful about a trained student, by its numbers; a doubt is one line with what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dmtl_cli.student.recent import Recent

LEAST_R2 = 0.5
"""of the variance of a teacher's scores: a tower cannot read a context, which is some of it, but hardly half"""
LEAST_SPREAD = 0.02
"""of the mean squared length: chains that serve well have .03 (users of a log of 6,000 items) to .9"""


class Agreement:
    """How far a student's logits are its teacher's on the rows that it learned last.

    Args:
        rows: how many of them it remembers.
    """

    def __init__(self, rows: int = 65_536) -> None:
        self._recent = Recent(rows)
        self.state, self.restore = self._recent.state, self._recent.restore

    def add(self, s: Tensor, t: Tensor, lists: Tensor | None) -> None:
        """Student and teacher logits [B], NaN where a row has no score.

        Args:
            lists: [B] list of each row, where the level of a list is free: its mean is taken off.
        """
        s, t = s.detach().double(), t.detach().double()
        s = torch.where(t.isnan(), torch.nan, s)
        if lists is not None:
            s, t = _within(s, lists), _within(t, lists)
        self._recent.add({"s": s, "t": t})

    def r2(self) -> float | None:
        """The squared correlation of the two; None where one of them does not vary."""
        signed = self.signed_r2()
        return None if signed is None else abs(signed)

    def signed_r2(self) -> float | None:
        """`r2`, below 0 where the student orders rows the other way."""
        whole = self._recent.whole()
        if not whole:
            return None
        s, t = (whole[name].numpy() for name in ("s", "t"))
        scored = np.isfinite(t)
        if scored.sum() < 2:
            return None
        s, t = (x[scored] - x[scored].mean() for x in (s, t))
        both = float((s * s).sum() * (t * t).sum())
        together = float((s * t).sum())
        return math.copysign(together**2 / both, together) if both > 0 else None


def _within(x: Tensor, lists: Tensor) -> Tensor:
    """[B] less the mean of the row's list; NaN stays, and counts for nothing."""
    _, at, count = torch.unique(lists, return_inverse=True, return_counts=True)
    known = (~x.isnan()).to(x.dtype)
    total, n = (x.new_zeros(len(count)).index_add(0, at, v) for v in (x.nan_to_num() * known, known))
    return x - (total / n.clamp(min=1))[at]


def spread(vectors: npt.NDArray[Any]) -> float:
    """1 - |mean v|^2 / mean |v|^2 of vectors [N, d]: 0, all are one; 1, they point everywhere alike."""
    v = np.asarray(vectors, np.float64)
    length = float((v * v).sum(1).mean()) if len(v) else 0.0
    mean = v.mean(0) if len(v) else v
    return 1.0 - float((mean * mean).sum()) / length if length else 0.0


def far_from_teacher(r2: float | None) -> list[str]:
    """Doubts about a student that did not learn its teacher's scores (`Agreement.r2`)."""
    if r2 is None or r2 >= LEAST_R2:
        return []
    what = f"explains {r2:.0%} of its teacher's scores on the rows it learned"
    return [f"{what}: more epochs (student.epochs), or features that the teacher has"]


def one_direction(spreads: Mapping[str, float]) -> list[str]:
    """Doubts about served vectors that are nearly all alike.

    Args:
        spreads: `spread` by `<side>.<block>`.
    """
    out: list[str] = []
    for name, value in spreads.items():
        side, _, block = name.partition(".")
        if value < LEAST_SPREAD:
            what = f"{side} vectors ({block}) are {1 - value:.0%} one direction: all users are served nearly the same"
            out.append(f"{what}; raise student.epochs or embedding_dim, and see distill.r2 of the student")
    return out
