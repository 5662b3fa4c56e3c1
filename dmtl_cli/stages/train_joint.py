"""train-joint: DMTL as published: teacher and student in one loop on one day, every pair scored on the fly.

The reference that the offline form is measured against; its student is a preference alone, without what is shown, and
is never served. Like a student of stored scores it learns exposed and drawn pairs: those that the teacher draws, or
`scores.negatives` per exposed row, which have weight 0 in the teacher's own loss. Rows that train-teacher would hold
out are left out here too: both forms have seen the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dmtl_cli.config.days import window
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.tasks import CLICK, READ
from dmtl_cli.data.days import Days
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows, begins
from dmtl_cli.data.threshold import long_read_threshold
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.batches import Batch, Batcher
from dmtl_cli.nn.fit import train
from dmtl_cli.nn.learner import Learner, grown_encoder
from dmtl_cli.nn.losses import Number
from dmtl_cli.nn.precision import autocast, refuse_precision
from dmtl_cli.nn.resume import Checkpoints
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.scores.logits import product_logit
from dmtl_cli.student import distillation
from dmtl_cli.student.build import Blocks, build_student
from dmtl_cli.student.dssm import DSSM, batch_heads, gathered
from dmtl_cli.student.export.files import write_export
from dmtl_cli.student.export.towers import Shown
from dmtl_cli.teacher.build import begin_at_rates, build_teacher, refuse_another_model
from dmtl_cli.teacher.factors import summed
from dmtl_cli.teacher.labels import TeacherLabels, TeacherRows
from dmtl_cli.teacher.loss import teacher_loss
from dmtl_cli.teacher.model import Teacher, batch_logits
from dmtl_cli.teacher.rows import HoldOut, Window, as_negatives, rows_per_epoch
from dmtl_cli.tune.carried import tuned

A = TypeVar("A")


class Weights(NamedTuple, Generic[A]):
    """What the student learns from a row: its teacher's score, by this weight."""

    kd_weight: A
    """[n] float32"""


@dataclass(frozen=True)
class Both:
    """The same rows for the teacher and for the student."""

    teacher: Batch[TeacherLabels[Tensor]]
    student: Batch[Weights[Tensor]]

    def __len__(self) -> int:
        return len(self.teacher)


def train_joint(run: Run, day: dt.date) -> Result:
    """L = L_teacher + w_kd KL(stop_gradient(pctcvr) || sigmoid(s)) (DMTL, 2021), warm from the joint run before it."""
    run = tuned(run, day)
    config = run.config
    if not config.student.distill.w_kd:
        raise UserError("train-joint: student.distill.w_kd is 0, its student would learn nothing", code=Exit.CONFIG)
    before = run.newest("joint", day)
    log = Days(run, config.features)
    days = log.with_profile(window(day, config.teacher.window_days) if before else log.first_window(day))
    profiles = log.parents(days)
    parents = [p for p in (before, *profiles) if p]
    work = partial(_learn, run, day, log, days, before, profiles)
    return run.publish("joint", day, run.sections("teacher", "scores", "student"), log.inputs(days), parents, work)


def _learn(
    run: Run,
    day: dt.date,
    log: Days,
    days: list[dt.date],
    before: Parent | None,
    profiles: list[Parent],
    publication: Publication,
) -> Draft:
    config = run.config.teacher
    refuse_precision("teacher.precision", config.precision, run.device)
    refuse_precision("student.precision", run.config.student.precision, run.device)
    read = [log.read(d, publication.tmp, run.ranks) for d in days]
    threshold = long_read_threshold(run.config, read, before or next(iter(profiles), None))
    refuse_another_model(before, run.config)
    rng = run.rng("joint", day)
    logged, offered = sum(map(len, read)), rows_per_epoch(read, config)
    unlabelled = run.config.scores.negatives if config.samples == "exposed" else 0
    learning = Window(read, threshold, HoldOut.of(run.config, logged))
    teacher, student = _learners(run, day, learning, before)

    for_teacher = teacher.batcher(run, read, rng, by="rows", event_features=False)
    for_student = student.batcher(run, read, rng, by="sides", event_features=True)
    draws = [Negatives(d, run.config.scores.alpha) for d in read]
    loss = partial(_loss, run, teacher.model, student.model)

    def batches() -> Iterator[Both]:
        cut = for_teacher.cut(learning.rows(config, rng), config.rows_a_step(offered))
        return _batches(cut, for_teacher, for_student, draws, unlabelled, rng)

    course = Checkpoints(run, publication).course("joint", {"teacher": teacher, "student": student}, rng)
    rows = offered * (1 + unlabelled)
    _, learned = train(run, f"joint {day}", [teacher, student], batches, loss, rows, course)
    for name, learner in (("teacher", teacher), ("student", student)):
        (publication.path / name).mkdir(exist_ok=True)
        learner.finish(run, publication.path / name, publication.path.parent)

    unknown = run.ranks.on_first(partial(_export, run, publication, student, read[-1], log.unseen(profiles)))
    facts = {"threshold_seconds": threshold, "tasks": run.config.tasks.names, "days": [str(d) for d in days]}
    facts |= {"teacher": None, "predicts": None}  # what it learned was not calibrated
    counts = {"log": logged, "learned": int(learned.pop("rows", 0))}
    numbers = {k: v for k, v in learned.items() if k.startswith("loss")}
    return Draft(rows=counts, metrics=numbers | {"items.unknown_share": unknown}, facts=facts)


def _learners(
    run: Run, day: dt.date, learning: Window, before: Parent | None
) -> tuple[Learner[Teacher], Learner[DSSM]]:
    config, plain, read = run.config, run.config.plain_autograd, learning.days
    run.seed_torch("joint", day)
    teacher_encoder = grown_encoder(config.features_of("teacher"), read, before, "teacher")
    student_encoder = grown_encoder(config.features_of("student"), read, before, "student")
    make = partial(build_teacher, teacher_encoder, config.teacher, len(config.tasks.names), plain_autograd=plain)
    teacher = Learner.build(run, config.teacher, teacher_encoder, make)
    student = Learner.build(
        run, config.student, student_encoder, partial(build_student, student_encoder, config.student)
    )
    if before:
        teacher.warm_start(before[0] / "teacher")
        student.warm_start(before[0] / "student")
    else:
        begin_at_rates(teacher.model, learning.rows(config.teacher, run.rng("joint", day, "rates")))
    if run.ranks.size > 1:  # each rank drops other experts
        run.seed_torch("joint", day, run.ranks.rank)
    return teacher, student


def _batches(
    rows: Iterable[TeacherRows],
    for_teacher: Batcher,
    for_student: Batcher,
    draws: list[Negatives],
    unlabelled: int,
    rng: np.random.Generator,
) -> Iterator[Both]:
    for some in rows:
        whole, kd_weight = with_unlabelled(some, draws, unlabelled, rng)
        yield Both(
            for_teacher.batch(whole),
            for_student.batch(Rows(whole.user, whole.item, Weights(kd_weight), whole.features)),
        )


def with_unlabelled(
    rows: TeacherRows, draws: list[Negatives], n: int, rng: np.random.Generator
) -> tuple[TeacherRows, npt.NDArray[np.float32]]:
    """The rows, and n pairs drawn for each that have no label: `weight` 0.

    Args:
        draws: the negatives of each day whose tables are stacked.

    Returns:
        The rows, and the weight by which the student learns each: that of the row it was drawn for.
    """
    parts, weights = [rows], [rows.labels.weight]
    for negatives, (day, users, items) in zip(draws, begins(each.day for each in draws), strict=True) if n else ():
        mine = rows.take(np.flatnonzero((rows.user >= users) & (rows.user < users + len(day.users))))
        for _ in range(n):
            item, valid = negatives.draw(mine.user - users, rng)
            parts.append(as_negatives(mine, items + item, 0.0).take(np.flatnonzero(valid)))
            weights.append(mine.labels.weight[valid])
    return Rows.concat(parts), np.concatenate(weights)


def _loss(run: Run, teacher: Teacher, student: DSSM, batch: Both, look: bool) -> tuple[Tensor, dict[str, Number]]:
    with autocast(run.config.teacher.precision, run.device):
        logits, _ = batch_logits(teacher, batch.teacher, run.ranks)
    logits = summed(logits, teacher.tasks)  # nothing chooses a share before the student learns
    teacher_part, parts = teacher_loss(run.config, logits, batch.teacher.labels)
    with autocast(run.config.student.precision, run.device):
        kd = run.config.student.distill.w_kd * _kd(run, student, batch.student, logits.detach())
    return teacher_part + kd, parts | {"loss.kd": kd.detach()}


def _kd(run: Run, student: DSSM, batch: Batch[Weights[Tensor]], logits: Tensor) -> Tensor:
    """KL from the teacher's pctcvr as it is now, uncalibrated; logits [B, T] without gradient."""
    click, read = (logits[:, run.config.tasks.names.index(task)].double() for task in (CLICK, READ))
    t = product_logit(click, read)
    served, _ = batch_heads(student, batch, run.ranks, plain=run.config.plain_autograd)
    s = student.logits(*gathered(served, batch))
    return distillation.LOSSES["kl"](s, t, batch.labels.kd_weight, batch.item_row)


def _export(run: Run, publication: Publication, learner: Learner[DSSM], day: Day, unseen: dict[str, float]) -> float:
    """Exports the student as it was stored, a preference alone; returns the share of the catalogue served by content
    alone."""
    student = build_student(learner.encoder, run.config.student)
    checkpoint.load(publication.path / "student", student, student.table)
    to, none = publication.path, Shown(0.0)
    return write_export(
        to, Blocks(student), learner.encoder, day, none, unseen=unseen, key=publication.key
    ).unknown_share
