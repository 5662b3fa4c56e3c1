"""What a trained student is judged by: how near it is to its teacher, how far training moved it, finite weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dmtl_cli.config.student import KD
from dmtl_cli.runs.gates import Measure
from dmtl_cli.student.distillation import LOSSES
from dmtl_cli.student.recent import Recent

_ASKED = ("target", "weight", "list")
_FIRST = 5.0  # steps in which a student has yet to find its level: so much is it off after the first
_FOLDS = 8  # parts of the remembered rows, whose ratios give the standard error
Asked = tuple[Tensor, Tensor, Tensor]
"""a loss's target [B], NaN where a row has none, weight [B] and list [B]"""


class Distance:
    """The distillation loss of the rows learned last, beside that of the best constant.

    Args:
        losses: as the config has them.
        pulled: whether labels train the same logits, so that their level is not the teacher's.
        rows: how many rows it remembers; few, as a student changes while it learns.
    """

    def __init__(self, losses: Sequence[KD], *, pulled: bool = False, rows: int = 16_384) -> None:
        self.losses, self._recent = losses, Recent(rows)
        self.state, self.restore = self._recent.state, self._recent.restore
        self._beside_constant = not pulled and all(kd.loss != "rank_weight" for kd in losses)  # it pulls logits up

    def add(self, s: Tensor, asked: list[Asked]) -> None:
        """Student logits [B], and what each loss measures them by."""
        of = {f"{name}.{k}": x for k, each in enumerate(asked) for name, x in zip(_ASKED, each, strict=True)}
        self._recent.add({"s": s.detach(), **of})

    def measure(self, signed_r2: float | None) -> list[Measure]:
        """`student.kd`: the loss over that of the best constant. Absent where there is nothing to tell, as where the
        teacher gives one score to all. Its standard error is a jackknife over parts of the rows, or of the lists, and
        what a student of few steps has not had time for.

        Args:
            signed_r2: what the student explains of its teacher's scores, below 0 where it orders them the other way:
                for losses that no constant is best of, 1 less this is the measure.
        """
        if not self._beside_constant:
            return [] if signed_r2 is None else [Measure("student.kd", 1 - signed_r2)]
        whole = self._recent.whole()
        if not whole:
            return []
        asked = [self._asked(k, whole) for k in range(len(self.losses))]
        constants = (_constant(kd, *of[:2]) for kd, of in zip(self.losses, asked, strict=True))
        ours = self._sums(whole["s"], asked)
        theirs = (self._sums(torch.full_like(whole["s"], c), asked) for c in constants)
        constant = min(theirs, key=lambda x: float(x.sum()))  # of those that are best for one loss
        if float(constant.sum()) <= 1e-9:
            return []
        some = constant > 0
        left_out = (ours.sum() - ours[some]) / (constant.sum() - constant[some]).clamp(min=1e-12)
        n = len(left_out)
        error = math.sqrt((n - 1) / n * float((left_out - left_out.mean()).square().sum())) if n > 1 else 1.0
        error = math.hypot(error if math.isfinite(error) else 0.0, _FIRST / self._recent.steps)
        return [Measure("student.kd", float(ours.sum() / constant.sum()), error)]

    def _asked(self, k: int, whole: dict[str, Tensor]) -> Asked:
        """What a loss measures all remembered rows by. Lists are numbered batch by batch; here in one."""
        t, weight, lists = (whole[f"{name}.{k}"] for name in _ASKED)
        sizes = torch.tensor(self._recent.sizes())
        batch = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(lists.dtype)
        return t, weight.double(), torch.unique(torch.stack([batch, lists]), dim=1, return_inverse=True)[1]

    def _sums(self, logits: Tensor, asked: list[Asked]) -> Tensor:
        """[_FOLDS] the weighted losses of logits [N], summed over the rows, or the lists, of each part."""
        out = torch.zeros(_FOLDS, dtype=torch.float64)
        for kd, (t, weight, lists) in zip(self.losses, asked, strict=True):
            key = torch.arange(len(t)) if kd.loss in _CONSTANTS else lists
            for fold in range(_FOLDS):
                mine = torch.where(key % _FOLDS == fold, t, torch.nan)
                loss = LOSSES[kd.loss](logits.double(), mine, weight, lists, **kd.options())
                out[fold] += kd.weight * _counted(kd, mine, lists) * float(loss)
        return out


_CONSTANTS = ("kl", "mse_logit", "mse_prob")  # losses with a best constant; of lists every constant is alike


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


def of_vectors(
    spread: Mapping[str, float], norm: Mapping[str, float], unknown_share: float, *, chosen: bool = False
) -> list[Measure]:
    """What an export's vectors look like: the arguments are those of `export.files.Catalogue`.

    Args:
        chosen: whether its items are those of a condition: their share of unknown ones is not compared with that of
            days on which all were served, and so has a name of its own.
    """
    out = [Measure(f"export.spread.{name}", value) for name, value in spread.items()]
    out += [Measure(f"export.norm.{side}", value) for side, value in norm.items()]
    return [*out, Measure(f"export.unknown_items{'.chosen' if chosen else ''}", unknown_share)]
