"""Trains the exposure block of a student's day: beside the preference where a thread is free, else after it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.nn.batches import Batcher
from dmtl_cli.nn.beside import Beside, thread_is_free
from dmtl_cli.nn.fit import train
from dmtl_cli.nn.gates import Start
from dmtl_cli.nn.learner import Learner
from dmtl_cli.nn.resume import Checkpoints
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.gates import Measure
from dmtl_cli.runs.run import Parent, Run
from dmtl_cli.student.build import EXPOSURE, build_exposure
from dmtl_cli.student.dssm import DSSM
from dmtl_cli.student.exposure import ExposureLoss, ShownBatch, shown_batches, wants_more

Exposed = tuple[dict[str, float], list[Measure]]
"""numbers of the block, and how far it moved"""


@dataclass(frozen=True)
class ExposureTraining:
    """The block has generators and weights of its own, so that the preference is the same with and without it."""

    run: Run
    day: dt.date
    log: Days
    shown: Sequence[dt.date]
    """days whose exposures it learns, one after the other; none: there is no block"""
    encoder: Encoder
    """the preference's"""
    before: Parent | None
    to: Publication
    chooses: bool
    """whether the log decides how often it learns them"""

    def beside(self, read: Mapping[dt.date, Day], checkpoints: Checkpoints) -> Beside[Exposed]:
        """The training, which writes the block too. Beside the preference it has checkpoints of its own, as neither
        training waits for the other.

        Args:
            read: days that are read already. Others are read after the preference, when its batches are gone.
            checkpoints: the preference's.
        """
        now = bool(self.shown) and thread_is_free(self.run.ranks, self.run.device) and read.keys() >= set(self.shown)
        # built here, as it draws from torch's generator
        learner = self._learner() if now else None
        own = Checkpoints(self.run, self.to, EXPOSURE) if now else checkpoints

        def learn(beside: Beside[Exposed]) -> Exposed:
            if not self.shown:
                return {}, []
            days = (read[d] if d in read else self.log.read(d, self.to.tmp, self.run.ranks) for d in self.shown)
            return self._learn(days, learner or self._learner(), own, beside)

        return Beside(learn, now=now)

    def _learner(self) -> Learner[DSSM]:
        """The block before training."""
        self.run.seed_torch("student", self.day, EXPOSURE)
        config, whole = self.run.config.student.exposure_block, self.run.config.student
        learner = Learner.build(self.run, config, self.encoder, partial(build_exposure, self.encoder, whole))
        if self.before and (self.before[0] / EXPOSURE).is_dir():  # without one it starts anew
            learner.warm_start(self.before[0] / EXPOSURE)
        return learner

    def _learn(
        self, days: Iterable[Day], learner: Learner[DSSM], checkpoints: Checkpoints, beside: Beside[Exposed]
    ) -> Exposed:
        """Trains and writes it, while it is wanted."""
        run, config = self.run, self.run.config.student.exposure_block
        rng = run.rng("student", self.day, EXPOSURE)
        course = checkpoints.course(EXPOSURE, {"model": learner}, rng)
        start, learned, shown_rows = Start.of(learner), dict[str, float](), 0
        for shown in days:
            batcher, n = learner.batcher(run, [shown], rng, by="sides", event_features=True), config.exposure.negatives
            loss = ExposureLoss(learner.model, config, shown, run.ranks, plain=run.config.plain_autograd)
            rows = config.rows_a_step(len(shown))
            steps = -(-len(shown) // rows)
            name = f"student {self.day}, {EXPOSURE}s of {shown.day}"
            batches = partial(_wanted_batches, beside, shown, n, rows, batcher, rng)
            _, learned = train(
                run, name, [learner], batches, loss, len(shown) + n * steps, course, partial(self._more, steps)
            )
            shown_rows += len(shown)
        learned |= {"rows": float(shown_rows)}
        moved = start.moved(learner, f"student.moved.{EXPOSURE}") if shown_rows else []
        (self.to.path / EXPOSURE).mkdir(exist_ok=True)
        sizes = learner.save(run, self.to.path / EXPOSURE, self.to.path.parent)
        return {f"{EXPOSURE}.{name}": value for name, value in (sizes | learned).items()}, moved

    def _more(self, steps: int, epochs: int) -> bool:
        return self.chooses and wants_more(steps, epochs)


def _wanted_batches(
    beside: Beside[Exposed], day: Day, negatives: int, rows: int, batcher: Batcher, rng: np.random.Generator
) -> Iterator[ShownBatch]:
    return beside.while_wanted(shown_batches(day, negatives, rows, batcher, rng))
