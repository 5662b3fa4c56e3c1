"""Trials of teachers: a candidate learns the early part of a window and is measured on the late one.

n measured rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Config
from dmtl_cli.config.tasks import READ
from dmtl_cli.config.teacher import Teacher as Section
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.batches import Batcher
from dmtl_cli.nn.fit import fit
from dmtl_cli.nn.learner import Learner
from dmtl_cli.nn.optimizers import forget_untouched
from dmtl_cli.runs.progress import Progress
from dmtl_cli.runs.run import Run
from dmtl_cli.scores import calibration
from dmtl_cli.scores.calibration import fitted_loss
from dmtl_cli.scores.logits import product_logit_numpy
from dmtl_cli.teacher.build import begin_at_rates, build_teacher
from dmtl_cli.teacher.calibrate import is_blended
from dmtl_cli.teacher.factors import Factors, as_one
from dmtl_cli.teacher.frozen import Finish
from dmtl_cli.teacher.labels import TeacherRows
from dmtl_cli.teacher.loss import batch_loss
from dmtl_cli.teacher.model import Teacher, batch_logits
from dmtl_cli.teacher.rows import rows_per_epoch, teacher_rows
from dmtl_cli.tune.cut import Cut
from dmtl_cli.tune.encodings import Encodings
from dmtl_cli.tune.regressions import Regressions
from dmtl_cli.tune.shares import of_tasks, shares_of

Array = npt.NDArray[np.float64]
SCORED = 4_096  # rows at a time


class TeacherTrials:
    """Teachers of one window.

    Args:
        days: as `Days.read` gives them.
        threshold: seconds above which a read is long.
    """

    def __init__(self, run: Run, days: Sequence[Day], threshold: float | None, cut: Cut, progress: Progress) -> None:
        self.run, self.days, self.threshold, self.cut, self.progress = run, days, threshold, cut, progress
        self._encodings = Encodings(days, cut.learned, event_features=False)

    @cached_property
    def measured(self) -> TeacherRows:
        """The rows that every candidate is measured on: as it learns them, drawn ones included."""
        config, rng = self.run.config.teacher, self.run.rng("tune", "measured")
        drawn = rows_per_epoch(self.days, config) / max(1, sum(map(len, self.days)))
        return Rows.concat(list(teacher_rows(self.days, self.threshold, config, self.cut.measure(drawn), rng)))

    @cached_property
    def _regressions(self) -> Regressions:
        return Regressions(self.run, self.cut, self.threshold, self.measured)

    @property
    def can_be_measured(self) -> bool:
        """Whether there are rows to learn, and clicks and long reads among some that are not."""
        click, converted, _, _ = self.measured.labels
        read = converted[:, self.run.config.tasks.conversions.index(READ)]
        return 0 < click.sum() < len(click) and bool((click & read).any()) and self._learns()

    def _learns(self) -> bool:
        config, rng = self.run.config.teacher, self.run.rng("tune", "learned")
        return any(map(len, teacher_rows(self.cut.learned, self.threshold, config, self.cut.learn(1.0), rng)))

    @property
    def rows(self) -> int:
        """Rows of an epoch of all users, about."""
        return rows_an_epoch(self.days, self.run.config.teacher, self.cut)

    def learning(self, config: Config, share: float) -> Iterator[tuple[Teacher, Batcher]]:
        """A candidate after each epoch of a share of the users, as long as the caller goes on, with what makes batches
        to be scored.

        Raises:
            UserError: training diverged.
        """
        run, section = replace(self.run, config=config), config.teacher
        encoder, tables = self._encodings.of(config.features_of("teacher"))
        run.seed_torch("tune", "teacher")
        make = partial(build_teacher, encoder, section, len(config.tasks.names), plain_autograd=config.plain_autograd)
        learner, rng = Learner.build(run, section, encoder, make), run.rng("tune", "teacher")
        learned = partial(teacher_rows, self.cut.learned, self.threshold, section, self.cut.learn(share))
        begin_at_rates(learner.model, learned(run.rng("tune", "rates")))
        hidden = section.context_dropout
        batcher = learner.batcher(
            run, self.days, rng, by="rows", event_features=False, context_dropout=hidden, tables=tables
        )
        size = section.rows_a_step(round(self.rows * share))
        while True:
            fit([learner], batcher.batches(learned(rng), size), partial(batch_loss, run, learner.model), self.progress)
            forget_untouched(learner.table, learner.optimizers.table)
            yield learner.model.eval(), Batcher(encoder, tables, run.device)

    def losses(self, config: Config, share: float) -> Iterator[Array]:
        """The log loss of each measured row after each epoch, as a teacher of this config would score it: see
        `log_losses`."""
        tasks = config.tasks.names
        for made, batcher in self.learning(config, share):
            logits = logits_of(made, batcher, self.measured)
            model = as_one(self._factors(config, logits, batcher, share), logits, tasks)
            if is_blended(config):
                model = self._regressions.blended(model, config, batcher.encoder, batcher.tables, share)
            yield log_losses(model, self.measured, tasks.index(READ))

    def _factors(
        self, config: Config, logits: npt.NDArray[np.float32], batcher: Batcher, share: float
    ) -> Factors | None:
        """The shares of a candidate's factors, as its teacher would have them.

        Args:
            logits: [n, H] of the measured rows in their context.
        """
        if is_blended(config):
            return self._regressions.factors(logits, config, batcher.encoder, batcher.tables, share)
        return shares_of(config, logits, self.measured)

    def trained(self, config: Config) -> tuple[Teacher, Batcher]:
        """A candidate that has learned all users for as many epochs as its config says."""
        learning = self.learning(config, 1.0)
        for _ in range(config.teacher.epochs - 1):
            next(learning)
        return next(learning)

    def finish(self, config: Config, model: Teacher, batcher: Batcher) -> Finish:
        """What becomes of the logits without context of a candidate that has learned all users, fitted on the measured
        rows; no regression."""
        factors = self._factors(config, logits_of(model, batcher, self.measured), batcher, 1.0)
        hidden = logits_of(model, batcher.without_events(self.days), replace(self.measured, features=None))
        logits = as_one(factors, hidden, config.tasks.names)
        rows = of_tasks(config, logits, self.measured)
        return Finish({t: calibration.fit(x.logit, x.label, x.weight) for t, x in rows.items()}, factors, None)


def rows_an_epoch(days: Sequence[Day], config: Section, cut: Cut) -> int:
    """Rows of the early part that a teacher learns in an epoch, about."""
    return round(rows_per_epoch(days, config) * cut.rows / max(1, sum(map(len, days))))


@torch.no_grad()
def logits_of(model: Teacher, batcher: Batcher, rows: Rows[Any]) -> npt.NDArray[np.float32]:
    """[n, H] of rows in their context.

    Raises:
        UserError: one is not finite.
    """
    parts = [batch_logits(model, batch)[0] for batch in batcher.batches([rows], SCORED)]
    return finite(torch.cat(parts)).float().cpu().numpy()


def finite(logits: Tensor) -> Tensor:
    """Raises UserError where the last steps of a training have diverged, whose losses nobody saw."""
    if not logits.isfinite().all():
        raise UserError("training diverged: a logit is not finite", "lower learning_rate and embedding_learning_rate")
    return logits


def log_losses(logits: npt.NDArray[np.float32], rows: TeacherRows, read: int) -> Array:
    """The log loss of the click plus that of click and long read, [n], each after the intercept and slope that fit
    these rows best: what a teacher can tell, whatever its level, which calibration sets.

    Args:
        logits: [n, T].
        read: the column of the long read.
    """
    click, converted, known, weight = rows.labels
    a = logits[:, 0].astype(np.float64)
    both = product_logit_numpy(a, logits[:, read].astype(np.float64))
    done = converted[:, read - 1] & click
    rated = weight * known[:, read - 1]
    out: Array = weight * fitted_loss(a, click, weight) + rated * fitted_loss(both, done, rated)
    return out
