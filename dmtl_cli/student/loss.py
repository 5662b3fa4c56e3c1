"""The student's loss: distillation, hard labels, or both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmtl_cli.config.student import BLIND, Distill, Student
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.nn.precision import autocast
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.scores.columns import SOURCES
from dmtl_cli.student import distillation
from dmtl_cli.student.doubts import Agreement
from dmtl_cli.student.dssm import DSSM, Vectors, batch_heads, gathered
from dmtl_cli.student.gates import Asked, Distance
from dmtl_cli.student.hard import HARD
from dmtl_cli.student.labels import StudentBatch


class StudentLoss:
    """L = w_kd fresh (sum of weight * loss over distill.losses) + w_hard hard.

    Args:
        fresh: weight of scores of this age (`freshness`).
        log_q: [rows of the stacked items] log of an item's chance of being in a batch as a positive.
        strata: [rows of the stacked items] popularity strata, by their number.
        plain: whether to compute by plain autograd, without kernels written by hand.
    """

    def __init__(
        self,
        student: DSSM,
        config: Student,
        fresh: float,
        log_q: Tensor,
        strata: dict[int, Tensor],
        ranks: Ranks = ALONE,
        *,
        plain: bool = False,
    ) -> None:
        self.student, self.config, self.fresh, self.log_q, self.strata = student, config, fresh, log_q, strata
        self.ranks, self.plain, self.agreement = ranks, plain, Agreement()
        pulled = config.hard.w_hard > 0 and config.distill.head == "served"
        self.distance = Distance(config.distill.losses, pulled=pulled)
        sources = [[getattr(kd.source_weights, x) for x in SOURCES] for kd in config.distill.losses]
        self.source_weights = torch.tensor(sources, device=log_q.device)

    def __call__(self, batch: StudentBatch, look: bool) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The loss of a batch, and its parts; if `look`, the size of each term's gradient on the served vectors too,
        where there are two terms."""
        config = self.config
        with autocast(config.precision, batch.user_index.device):
            served, soft = batch_heads(self.student, batch, self.ranks, plain=self.plain)
        rows = gathered(served, batch)
        terms: dict[str, Tensor] = {}
        parts: dict[str, float | Tensor] = {}
        if config.distill.w_kd:
            u, v = rows if soft is served else gathered(soft, batch)
            terms["kd"] = self._distilled(batch, self.student.soft_logits(u, v), parts)
        if config.hard.w_hard:
            hard = HARD[config.hard.loss].loss(self.student, served, rows, batch, self.log_q, self.plain)
            terms["hard"] = config.hard.w_hard * hard
        parts |= {f"loss.{name}": term.detach() for name, term in terms.items()}
        if look and len(terms) > 1 and self.student.auxiliary is None:
            parts |= _gradients(terms, served)
        return torch.stack(list(terms.values())).sum(), parts

    def _distilled(self, batch: StudentBatch, s: Tensor, parts: dict[str, float | Tensor]) -> Tensor:
        """The weighted sum of the distillation losses of logits s [B]; where there are several, `parts` gets each."""
        config = self.config.distill
        self._remember(s, batch)
        asked = [self._asked(k, batch) for k in range(len(config.losses))]
        self.distance.add(s, asked)
        each = [
            kd.weight * distillation.LOSSES[kd.loss](s, *of, **kd.options())
            for kd, of in zip(config.losses, asked, strict=True)
        ]
        if len(each) > 1:
            parts |= {f"loss.kd.{k}.{kd.loss}": each[k].detach() for k, kd in enumerate(config.losses)}
        return config.w_kd * self.fresh * torch.stack(each).sum()

    def _remember(self, s: Tensor, batch: StudentBatch) -> None:
        """How the logits agree with the first loss's target, where this loss counts; losses that leave a
        list's level free are measured within lists."""
        losses = self.config.distill.losses
        lists = batch.lists if all(kd.loss in BLIND for kd in losses) else None
        self.agreement.add(s, self._target(0, batch)[0], lists)

    def _target(self, k: int, batch: StudentBatch) -> tuple[Tensor, Tensor]:
        """A loss's target [B], NaN where a row has none, and weights."""
        config, labels = self.config.distill, batch.labels
        weight = labels.kd_weight * self.source_weights[k][labels.source.long()]
        # for this loss a pair of a source of weight 0 has no score
        target = labels.targets[:, config.targets.index(config.losses[k].target)]
        return torch.where(weight > 0, target, torch.nan), weight

    def _asked(self, k: int, batch: StudentBatch) -> Asked:
        """What a distillation loss is measured by. Lists are the batch's, cut by popularity where the loss asks."""
        kd, lists = self.config.distill.losses[k], batch.item_row if batch.lists is None else batch.lists
        if kd.popularity_strata > 1:
            lists = distillation.within(lists, self.strata[kd.popularity_strata][batch.item_row])
        return *self._target(k, batch), lists


def _gradients(terms: dict[str, Tensor], served: Vectors) -> dict[str, float | Tensor]:
    """The norm of each term's gradient on the vectors."""
    out: dict[str, float | Tensor] = {}
    for name, term in terms.items():
        g = torch.autograd.grad(term, served, retain_graph=True)
        out[f"gradient.{name}"] = torch.stack([x.norm() for x in g]).norm()
    return out


def freshness(config: Distill, days: int) -> float:
    """The weight of scores that are `days` days old: it halves with every half_life_days after the first day."""
    return 0.5 ** (max(0, days - 1) / config.half_life_days) if config.half_life_days else 1.0


def popularity_strata(config: Distill, days: Sequence[Day], device: torch.device) -> dict[int, Tensor]:
    """The popularity stratum of each row of the stacked items, by the clicks of its day; for each number of strata."""
    counts = [torch.from_numpy(d.item_clicks) for d in days]
    asked = {kd.popularity_strata for kd in config.losses} - {1}
    return {k: torch.cat([distillation.strata(c, k) for c in counts]).to(device) for k in asked}
