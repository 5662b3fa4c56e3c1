"""train-joint: DMTL as published: teacher and student in one loop on one day, every pair scored on the fly.

The reference that the offline form is measured against; its student is never served. Like a student of stored scores it
learns exposed and drawn pairs: those that the teacher draws, or beside its exposed rows `scores.negatives` a row, which
count nothing in the teacher's own loss. Rows that train-teacher would hold out are left out here too: both forms have
seen the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dmtl_cli.config.days import window
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.features.encoder import Encoded, Encoder
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows, as_negatives, teacher_rows
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.batches import Batch, Batcher, Tables
from dmtl_cli.nn.fit import Optimizers, fit, forget_untouched, products, refuse_precision
from dmtl_cli.nn.sharded import table_of
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.ranks import Ranks
from dmtl_cli.runs.run import Draft, Result, Run
from dmtl_cli.stages.train_teacher import (
    batch_loss,
    carried_threshold,
    held_out_share,
    measure_threshold,
    refuse_another_model,
    refuse_without_clicks,
    refuse_without_reads,
)
from dmtl_cli.student import distillation as distill
from dmtl_cli.student.dssm import DSSM
from dmtl_cli.student.export import student_of, write_export
from dmtl_cli.teacher.frozen import forward, heads, teacher_of
from dmtl_cli.teacher.model import Teacher


@dataclass(frozen=True)
class Both:
    """The same rows for the teacher and for the student."""

    teacher: Batch
    student: Batch

    def __len__(self) -> int:
        return len(self.teacher)


def train_joint(run: Run, day: dt.date) -> Result:
    """L = L_teacher + w_kd KL(stop_gradient(pctcvr) || sigmoid(s)) (DMTL, 2021), warm from the joint run before."""
    config = run.config
    if not config.student.distill.w_kd:
        raise UserError("train-joint: student.distill.w_kd is 0, its student would learn nothing", code=Exit.CONFIG)
    before = run.newest("joint", day)
    log = Log(config.data, config.features)
    days = window(day, config.teacher.window_days if before else config.teacher.first_window_days)
    inputs = [one for d in days for one in log.inputs(d)]

    def work(publication: Publication) -> Draft:
        refuse_precision("teacher.precision", config.teacher.precision, run.device)
        refuse_precision("student.precision", config.student.precision, run.device)
        read = [log.read(d, publication.tmp, run.ranks) for d in days]
        refuse_without_clicks(read)
        threshold = carried_threshold(before, config) if before else measure_threshold(run, read)
        refuse_without_reads(read, threshold)
        refuse_another_model(before, config)
        rng = run.rng("joint", day)
        run.seed_torch("joint", day)

        def encoder_of(who: Literal["teacher", "student"]) -> Encoder:
            features = config.features_of(who)
            encoder = Encoder.stored(before[0] / who, features) if before else Encoder(features)
            return encoder.grow([d for d in read if before is None or d.day > before[1].day])

        def batcher_of(
            encoder: Encoder, per_event: bool | None, unknown_share: float, by: Literal["rows", "sides"]
        ) -> Batcher:
            sides = [Encoded.concat([encoder.entities(d, s, per_event) for d in read]) for s in ("user", "item")]
            tables = Tables(*sides)
            return Batcher(encoder, tables, run.device, unknown_share=unknown_share, rng=rng, ranks=run.ranks, by=by)

        encoders = {"teacher": encoder_of("teacher"), "student": encoder_of("student")}
        made = [table_of(run.ranks, run.device, c.table_rate) for c in (config.teacher, config.student)]
        teacher = teacher_of(encoders["teacher"], config.teacher.model_dump(), len(config.tasks.names), made[0])
        teacher = teacher.to(run.device)
        student = student_of(encoders["student"], config.student.model_dump(), made[1]).to(run.device)
        for_teacher = batcher_of(encoders["teacher"], False, config.teacher.unknown_share, "rows")
        for_student = batcher_of(encoders["student"], None, config.student.unknown_share, "sides")
        learners: dict[str, tuple[Teacher | DSSM, Optimizers]] = {
            "teacher": (teacher, Optimizers.of(teacher, teacher.table, config.teacher)),
            "student": (student, Optimizers.of(student, student.table, config.student)),
        }
        for who, (model, optimizers) in learners.items():
            if before:
                checkpoint.load(before[0] / who, model, model.table, optimizers)
        if run.ranks.size > 1:  # each drops experts of its own
            run.seed_torch("joint", day, run.ranks.rank)

        draws = [Negatives(d, config.scores.alpha) for d in read]
        unlabelled = config.scores.negatives if config.teacher.samples == "exposed" else 0

        def both(rows: Iterable[Rows], size: int) -> Iterator[Both]:
            for some in for_teacher.cut(rows, size):
                whole = beside(some, draws, unlabelled, rng)
                yield Both(for_teacher.batch(whole), for_student.batch(whole))

        def loss_of(batch: Both) -> tuple[Tensor, dict[str, float | Tensor]]:
            with products(config.teacher.precision, run.device):
                logits, _ = forward(teacher, batch.teacher, run.ranks)
            taught, parts = batch_loss(config, logits, batch.teacher)
            with products(config.student.precision, run.device):
                kd = config.student.distill.w_kd * _kd(student, batch.student, logits.detach(), run.ranks)
            return taught + kd, {**{f"loss.{k}": v for k, v in parts.items()}, "loss.kd": kd.detach()}

        learned: dict[str, float] = {}
        logged = sum(len(d) for d in read)
        share = held_out_share(config, logged)
        offered = logged * (1 + config.teacher.negatives if config.teacher.samples == "mixed" else 1)
        with run.log.progress(f"joint {day}", config.teacher.epochs * offered * (1 + unlabelled)) as progress:
            for _ in range(config.teacher.epochs):
                rows = teacher_rows(read, threshold, config.teacher, share, config.seed, rng)
                batches = both(rows, config.teacher.rows_a_step(offered))
                learned = fit(list(learners.values()), batches, loss_of, progress, run.ranks)
        for who, (model, optimizers) in learners.items():
            forget_untouched(model.table, optimizers.table, run.ranks)
            (publication.path / who).mkdir(exist_ok=True)
            checkpoint.save(publication.path / who, model, model.table, optimizers, publication.path.parent)

        def written() -> float:
            for who, encoder in encoders.items():
                encoder.write(publication.path / who)
            whole = student_of(encoders["student"], config.student.model_dump())
            checkpoint.load(publication.path / "student", whole, whole.table)
            return write_export(publication.path, whole, encoders["student"], read[-1])

        unknown = run.ranks.of_first(written)
        facts = {
            "threshold_seconds": threshold,
            "tasks": config.tasks.names,
            "teacher": None,
            "predicts": None,  # what it learned was not calibrated
            "days": [str(d) for d in days],
        }
        counts = {"log": logged, "learned": int(learned.pop("rows", 0))}
        numbers = {k: v for k, v in learned.items() if k.startswith("loss")}
        return Draft(rows=counts, metrics=numbers | {"items.unknown_share": unknown}, facts=facts)

    parents = [before] if before else []
    return run.publish("joint", day, run.sections("teacher", "scores", "student"), inputs, parents, work)


def beside(rows: Rows, draws: list[Negatives], n: int, rng: np.random.Generator) -> Rows:
    """The rows, and n drawn beside each as pairs without a label: `weight` 0, `kd_weight` that of the row.

    Args:
        draws: of each day whose tables are stacked.
    """
    rows = replace(rows, columns=rows.columns | {"kd_weight": rows.columns["weight"]})
    parts = [rows]
    users = items = 0
    for negatives in draws if n else ():
        day = negatives.day
        mine = rows.take(np.flatnonzero((rows.user >= users) & (rows.user < users + len(day.users))))
        for _ in range(n):
            item, valid = negatives.draw(mine.user - users, rng)
            parts.append(as_negatives(mine, items + item, 0.0).take(np.flatnonzero(valid)))
        users, items = users + len(day.users), items + len(day.items)
    return Rows.concat(parts)


def _kd(student: DSSM, batch: Batch, logits: Tensor, ranks: Ranks) -> Tensor:
    """KL from the teacher's pctcvr as it is now, uncalibrated; logits [B, T] without gradient."""
    a, c = logits[:, 0].double(), logits[:, 1].double()
    t = -torch.logsumexp(torch.stack([-a, -c, -a - c]), 0)
    (users, items), _ = heads(student, batch, ranks)
    u, v = users.index_select(0, batch.user_index), items.index_select(0, batch.item_index)
    s = student.logits(u, v)
    return distill.LOSSES["kl"](s, t, batch.columns["kd_weight"], batch.item_row)
