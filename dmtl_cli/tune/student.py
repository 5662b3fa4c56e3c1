"""Trials of students: a candidate learns a teacher's scores of the early part of a window, and is measured by how far
it is from that teacher on the late one.

n pairs, K targets. Labels are noisy and the teacher's scores are not, so small logs are enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dmtl_cli.config.schema import Config
from dmtl_cli.config.student import Hard, Student
from dmtl_cli.data.log.checked.day import NO_REQUEST, Day
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows, begins, in_lists, pairs
from dmtl_cli.nn.batches import Batcher
from dmtl_cli.nn.fit import fit
from dmtl_cli.nn.learner import Learner
from dmtl_cli.nn.optimizers import forget_untouched
from dmtl_cli.runs.progress import Progress
from dmtl_cli.runs.run import Run
from dmtl_cli.scores.calibration import log_sigmoid, target_logit
from dmtl_cli.scores.columns import SOURCES
from dmtl_cli.scores.groups import list_keys, pair_groups
from dmtl_cli.student.build import build_student
from dmtl_cli.student.dssm import DSSM, batch_heads, gathered
from dmtl_cli.student.labels import StudentLabels, StudentRows
from dmtl_cli.student.loss import StudentLoss, popularity_strata
from dmtl_cli.student.rows import mean_log_odds
from dmtl_cli.teacher.factors import as_one
from dmtl_cli.teacher.frozen import Finish
from dmtl_cli.teacher.model import Teacher
from dmtl_cli.teacher.rows import Kept
from dmtl_cli.tune.cut import Cut
from dmtl_cli.tune.encodings import Encodings
from dmtl_cli.tune.teacher import SCORED, finite, logits_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MOST_PAIRS = 1_000_000
"""pairs that are kept in memory with their scores, up to chance"""


class StudentTrials:
    """Students of one window and one teacher.

    Args:
        model, batcher: the teacher, and what makes its batches.
        finish: what becomes of the teacher's logits of pairs without a context.
    """

    def __init__(
        self,
        run: Run,
        days: Sequence[Day],
        cut: Cut,
        model: Teacher,
        batcher: Batcher,
        finish: Finish,
        progress: Progress,
    ) -> None:
        self.run, self.days, self.cut, self.progress = run, days, cut, progress
        self.model, self.finish = model, finish
        self.batcher = batcher.without_events(days)
        self._encodings = Encodings(days, cut.learned, event_features=True)

    @property
    def rows(self) -> int:
        """Pairs of an epoch of all users."""
        return kept_pairs(self.run.config, self.cut.rows)

    @cached_property
    def learned(self) -> StudentRows:
        """The scored pairs that candidates learn some of."""
        return self._scored(self.cut.learned, self.cut.learn(self._kept))

    @property
    def _kept(self) -> float:
        """The share of the users whose pairs are kept."""
        events = self.rows / (1 + self.run.config.scores.negatives)
        return min(1.0, events / max(1, self.cut.rows))

    @cached_property
    def measured(self) -> StudentRows:
        """The scored pairs that every candidate is measured on."""
        return self._scored(self.days, self.cut.measure(1 + self.run.config.scores.negatives))

    def losses(self, config: Config, share: float) -> Iterator[Floats]:
        """How far a candidate is from its teacher on each measured pair, after each epoch: see `distances`.

        Raises:
            UserError: training diverged.
        """
        run, section = replace(self.run, config=config), config.student.model_copy(update={"hard": Hard()})
        encoder, tables = self._encodings.of(config.features_of("student"))
        run.seed_torch("tune", "student")
        learner, rng = Learner.build(run, section, encoder, partial(build_student, encoder, section)), run.rng("tune")
        few = self.learned.take(np.flatnonzero(self.cut.draws[self.learned.user] < share * self._kept))
        if len(few):
            learner.model.soft_bias.data.fill_(mean_log_odds(few.labels.targets[:, 0]))
        batcher = learner.batcher(run, self.days, rng, by="sides", event_features=True, tables=tables)
        items = torch.zeros(len(tables.items), device=run.device)
        strata = popularity_strata(section.distill, self.days, run.device)
        loss = StudentLoss(learner.model, section, 1.0, items, strata, plain=config.plain_autograd)
        scorer = Batcher(encoder, tables, run.device, by="sides")
        lists = few.lists
        assert lists is not None
        while True:
            rows = in_lists(replace(few, lists=None), lists, section.rows_together, rng)
            fit([learner], batcher.batches([rows], section.rows_a_step(len(few))), loss, self.progress)
            forget_untouched(learner.table, learner.optimizers.table)
            yield distances(section, self._logits(learner.model.eval(), scorer), self.measured.labels.targets[:, 0])

    @torch.no_grad()
    def _logits(self, model: DSSM, batcher: Batcher) -> Floats:
        """[n] of the measured pairs. Raises UserError: one is not finite."""
        parts = []
        for batch in batcher.batches([replace(self.measured, lists=None)], SCORED):
            _, soft = batch_heads(model, batch)
            parts.append(model.soft_logits(*gathered(soft, batch)))
        return finite(torch.cat(parts)).double().cpu().numpy()

    def _scored(self, days: Sequence[Day], kept: Kept) -> StudentRows:
        """Exposed pairs and negatives drawn for them, with the teacher's scores; lists are those of a dump."""
        parts: list[StudentRows] = []
        rng = self.run.rng("tune", "pairs")
        for day, users, items in begins(days):
            negatives = Negatives(day, self.run.config.scores.alpha)
            for block in day.blocks():
                chosen = np.flatnonzero(kept(day, block))
                user, request = block.user[chosen].astype(np.int64), block.request[chosen]
                exposed = pairs(user, block.item[chosen])
                parts.append(self._targets(exposed.shifted(users, items), "exposed", request))
                for _ in range(self.run.config.scores.negatives):
                    item, valid = negatives.draw(user, rng)
                    drawn = pairs(user, item).take(np.flatnonzero(valid))
                    parts.append(self._targets(drawn.shifted(users, items), "negative", None))
        return Rows.concat([part for part in parts if len(part)] or parts[:1])

    def _targets(self, rows: Rows[None], source: str, request: Ints | None) -> StudentRows:
        """The rows with what the teacher says of them.

        Args:
            request: of each; None for pairs without an event.
        """
        n, tasks = len(rows), self.run.config.tasks
        logits = logits_of(self.model, self.batcher, rows) if n else np.zeros((0, self.model.logits_a_row), np.float32)
        by_task = dict(zip(tasks.names, as_one(self.finish.factors, logits, tasks.names).T, strict=True))
        factors = tasks.factors(self.run.config.scores.fusion)
        named = [factors[name] for name in self.run.config.student.distill.targets]
        targets = np.stack([target_logit(by_task, self.finish.calibration, exponents) for exponents in named], 1)
        none, one = np.zeros(n, np.float32), np.ones(n, np.float32)
        place = np.full(n, SOURCES.index(source), np.int8)
        labels: StudentLabels[npt.NDArray[Any]] = StudentLabels(targets, place, one, none > 0, none)
        everybody = -1 - np.arange(len(self.batcher.tables.users))
        no_request = np.full(n, NO_REQUEST) if request is None else request
        lists = list_keys(pair_groups(everybody, rows.user, no_request), rows.user)
        return Rows(rows.user, rows.item, labels, None, lists)


def kept_pairs(config: Config, events: int) -> int:
    """Pairs of so many events, negatives included, that are kept in memory."""
    return min(MOST_PAIRS, events * (1 + config.scores.negatives))


def distances(config: Student, logit: Floats, target: Floats) -> Floats:
    """How far a student is from its teacher on each pair, [n]: KL(teacher || student) of the probabilities over that of
    the mean probability; where only losses over lists are learned, which leave the level free, the squared difference
    of standard scores. 1 is as far as a constant.

    Args:
        logit, target: [n], the student's and the teacher's.
    """
    if config.learns_levels:
        p = np.exp(log_sigmoid(target))
        mean = float(p.mean())
        constant = np.full_like(target, np.log(mean) - np.log1p(-mean))
        return _kl(p, target, logit) / max(float(_kl(p, target, constant).mean()), 1e-12)
    z = [(x - x.mean()) / max(float(x.std()), 1e-9) for x in (logit, target)]
    squared: Floats = (z[0] - z[1]) ** 2
    return squared


def _kl(p: Floats, target: Floats, logit: Floats) -> Floats:
    """KL of each teacher probability p, of logit `target`, and the student's."""
    positive, negative = log_sigmoid(target) - log_sigmoid(logit), log_sigmoid(-target) - log_sigmoid(-logit)
    out: Floats = p * positive + (1 - p) * negative
    return out
