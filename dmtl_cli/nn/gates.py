"""What every training is judged by: how far it moved the weights, and that all that it wrote is finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.nn.learner import Learner
from dmtl_cli.runs.contents import decoding
from dmtl_cli.runs.gates import Measure, exactly

_ROWS = 1 << 20  # of a tensor that are in memory at a time
_RATE = "lower or raise learning_rate and embedding_learning_rate"


@dataclass(frozen=True)
class Start:
    """The weights that a training begins with: the dense ones, and of the table one number a row."""

    dense: list[Tensor]
    rows: Tensor | None
    """[rows] sums of the table's rows; None of a sharded table, or one without rows"""

    @staticmethod
    def of(learner: Learner[Any]) -> Start:
        return Start([p.clone() for p in _dense(learner)], _rows(learner))

    def moved(self, learner: Learner[Any], name: str) -> list[Measure]:
        """`<name>.dense` and `.embedding`: |after - before| / |before|. To be called before rows that no step touched
        are overwritten.

        Raises UserError 80: a weight is not finite, so that nothing can be scored.
        """
        pairs = zip(self.dense, _dense(learner), strict=True)
        out = [Measure(f"{name}.dense", _relative([*pairs]), hint=_RATE)]
        if self.rows is not None and (now := _rows(learner)) is not None:
            out.append(Measure(f"{name}.embedding", _relative([(self.rows, now)]), hint=_RATE))
        if not all(math.isfinite(m.value) for m in out):
            raise UserError("training diverged: weights are not finite", _RATE, Exit.REFUSED)
        return out


def _dense(learner: Learner[Any]) -> list[Tensor]:
    return [p.detach() for p in learner.model.parameters() if p is not learner.table.weight]


def _rows(learner: Learner[Any]) -> Tensor | None:
    rows = sum(learner.table.rows.values())
    return learner.table.weight.detach().sum(1) if rows and len(learner.table.local) == rows else None


def _relative(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    change = sum(float((after.double() - before.double()).square().sum()) for before, after in pairs)
    size = sum(float(before.double().square().sum()) for before, _ in pairs)
    return math.sqrt(change / size) if size else math.sqrt(change)


def not_finite(folder: Path, name: str) -> Measure:
    """`<name>.not_finite`: how many numbers in a run's *.safetensors are not finite, read back part by part; the
    hint names the first."""
    broken, first = 0, ""
    for file in sorted(folder.rglob("*.safetensors")):
        with decoding(file), safe_open(file, "pt") as stored:
            for key in sorted(stored.keys()):
                part = stored.get_slice(key)
                shape = part.get_shape()
                for start in range(0, shape[0], _ROWS) if shape else [0]:
                    bad = ~(part[start : start + _ROWS] if shape else stored.get_tensor(key)).isfinite()
                    if bad.any():
                        broken += int(bad.sum())
                        at = bad.nonzero()[0].tolist()
                        at = [start + at[0], *at[1:]] if at else at
                        first = first or f"{file.name}: {key}{at}: training diverged: {_RATE}"
    return exactly(f"{name}.not_finite", broken, 0, first)
