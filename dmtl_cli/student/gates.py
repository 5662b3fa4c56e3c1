"""What a trained student is judged by: how near it is to its teacher, how far training moved it, finite weights."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.student import KD
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.gates import Measure, exactly
from dmtl_cli.student.distillation import LOSSES

_FOLDS = 8  # parts of the remembered rows, whose ratios give the standard error
Asked = tuple[Tensor, Tensor, Tensor]
"""a loss's target [B], NaN where a row has none, weight [B] and list [B]"""


class Distance:
    """The distillation loss of the rows learned last, beside that of the best constant.

    Args:
        losses: as the config has them.
        rows: how many rows it remembers; few, as a student changes while it learns.
    """

    def __init__(self, losses: Sequence[KD], rows: int = 16_384) -> None:
        self.losses, self.rows, self._remembered = losses, rows, 0
        self._parts: deque[tuple[Tensor, list[Asked]]] = deque()

    def add(self, s: Tensor, asked: list[Asked]) -> None:
        """Student logits [B], and what each loss measures them by."""
        self._parts.append((s.detach(), asked))
        self._remembered += len(s)
        while self._remembered - len(self._parts[0][0]) >= self.rows:
            self._remembered -= len(self._parts.popleft()[0])

    def measure(self, signed_r2: float | None) -> list[Measure]:
        """`student.kd`: the loss over that of the best constant, with its standard error (a jackknife over parts of the
        rows, or of the lists). Absent where there is nothing to tell, as where the teacher gives one score to all.

        Args:
            signed_r2: what the student explains of its teacher's scores, below 0 where it orders them the other way:
                for losses that no constant is best of, 1 less this is the measure.
        """
        sums = torch.stack([self._sums(fold) for fold in range(_FOLDS)]) if self._parts else torch.zeros(_FOLDS, 2)
        ours, constant = (float(x) for x in sums.sum(0))
        if constant > 1e-9:
            left_out = sums.sum(0) - sums[sums[:, 1] > 0]
            ratios = left_out[:, 0] / left_out[:, 1].clamp(min=1e-12)
            n = len(ratios)
            error = math.sqrt((n - 1) / n * float((ratios - ratios.mean()).square().sum())) if n > 1 else 1.0
            return [Measure("student.kd", ours / constant, error if math.isfinite(error) else 0.0)]
        if signed_r2 is None or any(_has_constant(kd) for kd in self.losses):
            return []
        return [Measure("student.kd", 1 - signed_r2)]

    def _sums(self, fold: int) -> Tensor:
        """[2]: the loss of one part of the rows, and that of the best constant of all rows."""
        out = torch.zeros(2, dtype=torch.float64)
        s = torch.cat([s for s, _ in self._parts])
        part = torch.cat([torch.full_like(s, k, dtype=torch.int64) for k, (s, _) in enumerate(self._parts)])
        for k, kd in enumerate(self.losses):
            if not _has_constant(kd):
                continue
            t, weight, lists = (torch.cat([asked[k][x] for _, asked in self._parts]) for x in range(3))
            # lists are numbered batch by batch
            _, lists = torch.unique(torch.stack([part, lists]), dim=1, return_inverse=True)
            key = torch.arange(len(t), device=t.device) if kd.loss in _CONSTANTS else lists
            mine = torch.where(key % _FOLDS == fold, t, torch.nan)
            count = _counted(kd, mine, lists)
            for at, logits in enumerate((s, torch.full_like(s, _constant(kd, t, weight)))):
                loss = LOSSES[kd.loss](logits.double(), mine, weight.double(), lists, **kd.options())
                out[at] += kd.weight * count * float(loss)
        return out


_CONSTANTS = ("kl", "mse_logit", "mse_prob")  # losses with a best constant; of lists every constant is alike


def _has_constant(kd: KD) -> bool:
    return kd.loss != "rank_weight"  # falls as all logits rise


def _constant(kd: KD, t: Tensor, weight: Tensor) -> float:
    """The logit that has the least loss of all that are the same for every row."""
    scored = ~t.isnan()
    t, weight = t[scored].double(), weight[scored].double()
    total = float(weight.sum())
    if kd.loss not in _CONSTANTS or not total:
        return 0.0
    if kd.loss == "mse_logit":
        return float((weight * t).sum()) / total
    # of kl and mse_prob: the mean of the softened probabilities
    p = (weight * torch.sigmoid(t / kd.temperature)).sum() / total
    return kd.temperature * float(torch.logit(p, eps=1e-12))


def _counted(kd: KD, t: Tensor, lists: Tensor) -> int:
    """Over how many rows, or lists of two rows or more, a loss is a mean."""
    scored = ~t.isnan()
    if kd.loss in _CONSTANTS:
        return int(scored.sum())
    return int((torch.unique(lists[scored], return_counts=True)[1] > 1).sum())


class Moved:
    """How far training moves a model's dense weights, over their size before."""

    def __init__(self, model: nn.Module, table: EmbeddingTable) -> None:
        self._dense = [p for p in model.parameters() if p is not table.weight]
        self._before = [p.detach().clone() for p in self._dense]

    def measure(self, block: str) -> Measure:
        """`student.moved.<block>`"""
        moved, size = (
            math.sqrt(sum(float(x.double().square().sum()) for x in parts))
            for parts in ([p.detach() - b for p, b in zip(self._dense, self._before, strict=True)], self._before)
        )
        return Measure(f"student.moved.{block}", moved / size if size else moved)


def of_vectors(spread: Mapping[str, float], norm: Mapping[str, float], unknown_share: float) -> list[Measure]:
    """What an export's vectors look like: the arguments are those of `export.files.Catalogue`."""
    out = [Measure(f"export.spread.{name}", value) for name, value in spread.items()]
    out += [Measure(f"export.norm.{side}", value) for side, value in norm.items()]
    return [*out, Measure("export.unknown_items", unknown_share)]


def finite(folder: Path) -> Measure:
    """`student.finite`: numbers of the written models and optimizers, read back, that are not finite: none."""
    found = [fault for file in _stored(folder) if (fault := _not_finite(file))]
    return exactly("student.finite", len(found), 0, found[0] if found else "")


def refuse_not_finite(folder: Path) -> None:
    """Raises UserError 65: a weight of a published student, or of its optimizer, is not finite."""
    for file in _stored(folder):
        if fault := _not_finite(file):
            raise UserError(fault, "run dmtl train-student again")


def _stored(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _not_finite(file: Path) -> str:
    """The first number of a file that is not finite, with its place; empty where there is none."""
    try:
        with safe_open(file, "pt") as stored:
            for name in sorted(stored.keys()):
                tensor = stored.get_tensor(name)
                if not bool(tensor.isfinite().all()):
                    at = (~tensor.isfinite()).nonzero()[0].tolist()
                    return f"{file}: {name}{at}: expected a finite number, got {float(tensor[tuple(at)])}"
    except Exception as e:  # safetensors raises its own, plain and OS errors
        return f"{file}: not readable: {e}"
    return ""
