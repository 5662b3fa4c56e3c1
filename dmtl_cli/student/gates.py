"""What a trained student is judged by: how near it is to its teacher, how far training moved it, finite weights."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dmtl_cli.config.student import KD
from dmtl_cli.runs.gates import Measure
from dmtl_cli.student.distillation import LOSSES

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
        self.losses, self.rows, self._remembered, self._steps = losses, rows, 0, 0
        self._beside_constant = not pulled and all(kd.loss != "rank_weight" for kd in losses)  # it pulls logits up
        self._parts: deque[tuple[Tensor, list[Asked]]] = deque()

    def add(self, s: Tensor, asked: list[Asked]) -> None:
        """Student logits [B], and what each loss measures them by."""
        self._parts.append((s.detach(), asked))
        self._steps += 1
        self._remembered += len(s)
        while self._remembered - len(self._parts[0][0]) >= self.rows:
            self._remembered -= len(self._parts.popleft()[0])

    def state(self) -> dict[str, Tensor]:
        """The remembered rows, and how many each batch had; nothing before the first."""
        if not self._parts:
            return {}
        every = {"s": torch.cat([s for s, _ in self._parts]), "rows": torch.tensor([len(s) for s, _ in self._parts])}
        every["steps"] = torch.tensor(self._steps)
        for k in range(len(self.losses)):
            for x, name in enumerate(("target", "weight", "list")):
                every[f"{name}.{k}"] = torch.cat([asked[k][x] for _, asked in self._parts])
        return every

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave."""
        if not state:
            return
        sizes = state["rows"].tolist()
        batches = {
            name: torch.split(whole.clone(), sizes) for name, whole in state.items() if whole.ndim and name != "rows"
        }
        asked: list[list[Asked]] = [[] for _ in sizes]
        for k in range(len(self.losses)):
            for n, each in enumerate(zip(*(batches[f"{x}.{k}"] for x in ("target", "weight", "list")), strict=True)):
                asked[n].append(each)
        self._parts = deque(zip(batches["s"], asked, strict=True))
        self._remembered, self._steps = sum(sizes), int(state["steps"])

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
        if not self._parts:
            return []
        s = torch.cat([s for s, _ in self._parts])
        ours = self._sums(s)
        constant = min((self._sums(torch.full_like(s, c)) for c in self._constants()), key=lambda x: float(x.sum()))
        if float(constant.sum()) <= 1e-9:
            return []
        some = constant > 0
        left_out = (ours.sum() - ours[some]) / (constant.sum() - constant[some]).clamp(min=1e-12)
        n = len(left_out)
        error = math.sqrt((n - 1) / n * float((left_out - left_out.mean()).square().sum())) if n > 1 else 1.0
        error = math.hypot(error if math.isfinite(error) else 0.0, _FIRST / self._steps)
        return [Measure("student.kd", float(ours.sum() / constant.sum()), error)]

    def _asked(self, k: int) -> Asked:
        """What a loss measures all remembered rows by. Lists are numbered batch by batch; here in one."""
        t, weight, lists = (torch.cat([asked[k][x] for _, asked in self._parts]) for x in range(3))
        part = torch.cat([torch.full_like(asked[k][2], n) for n, (_, asked) in enumerate(self._parts)])
        return t, weight.double(), torch.unique(torch.stack([part, lists]), dim=1, return_inverse=True)[1]

    def _constants(self) -> list[float]:
        """The constant that is best for each loss, of which the one that is best for their sum is taken."""
        return [_constant(kd, *self._asked(k)[:2]) for k, kd in enumerate(self.losses)]

    def _sums(self, logits: Tensor) -> Tensor:
        """[_FOLDS] the weighted losses of logits [N], summed over the rows, or the lists, of each part."""
        out = torch.zeros(_FOLDS, dtype=torch.float64)
        for k, kd in enumerate(self.losses):
            t, weight, lists = self._asked(k)
            key = torch.arange(len(t), device=t.device) if kd.loss in _CONSTANTS else lists
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


def of_vectors(spread: Mapping[str, float], norm: Mapping[str, float], unknown_share: float) -> list[Measure]:
    """What an export's vectors look like: the arguments are those of `export.files.Catalogue`."""
    out = [Measure(f"export.spread.{name}", value) for name, value in spread.items()]
    out += [Measure(f"export.norm.{side}", value) for side, value in norm.items()]
    return [*out, Measure("export.unknown_items", unknown_share)]
