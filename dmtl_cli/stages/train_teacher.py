"""train-teacher: a network in ESMM form learns click and deep reading from day N, warm from the teacher before."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from functools import partial

from torch import Tensor

from dmtl_cli.config.days import window
from dmtl_cli.config.tasks import CLICK
from dmtl_cli.data.days import Days, columns
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.gates import null_shares
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.checked.invalid import left_out
from dmtl_cli.data.threshold import heavy_tail, long_read_threshold
from dmtl_cli.evaluate import metrics
from dmtl_cli.guess.findings.programs import LOOKED_AT, programs_told
from dmtl_cli.nn.batches import Batch
from dmtl_cli.nn.doubts import few_steps
from dmtl_cli.nn.fit import train
from dmtl_cli.nn.gates import Start, not_finite
from dmtl_cli.nn.learner import Learner, grown_encoder
from dmtl_cli.nn.precision import refuse_precision
from dmtl_cli.nn.resume import Checkpoints
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.gates import Measure
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.stages.tune import begin_chain
from dmtl_cli.student.exportable import refuse_unexportable
from dmtl_cli.teacher import gates
from dmtl_cli.teacher.build import begin_at_rates, build_teacher, refuse_another_model
from dmtl_cli.teacher.calibrate import Finished, Trained, finish
from dmtl_cli.teacher.doubts import leaks, one_valued, overfits, rare, too_good
from dmtl_cli.teacher.importance import columns_of_the_log, importances
from dmtl_cli.teacher.labels import HeldOut, TeacherLabels
from dmtl_cli.teacher.loss import batch_loss
from dmtl_cli.teacher.model import Teacher
from dmtl_cli.teacher.rows import HoldOut, Window, rows_per_epoch
from dmtl_cli.tune.advised import chose_steps, slower
from dmtl_cli.tune.carried import tuned


def train_teacher(run: Run, day: dt.date) -> Result:
    """Trains the teacher of `day` on a window of days, calibrates and publishes it."""
    refuse_unexportable(run.config)
    Days(run, ()).refuse_none_chosen(day)
    begin_chain(run, day)
    run = tuned(run, day)
    config = run.config.teacher
    before = run.newest("teacher", day)
    log = Days(run, run.config.features_of("teacher"))
    days = log.with_profile(window(day, config.window_days) if before else log.first_window(day))
    inputs, profiles = log.inputs(days), log.parents(days)
    parents = [p for p in (before, *profiles) if p]
    work = partial(_learn, run, day, log, days, before, profiles)
    return run.publish("teacher", day, run.sections("teacher"), inputs, parents, work)


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
    read = [log.read(d, publication.tmp, run.ranks) for d in days]
    threshold = long_read_threshold(run.config, read, before or next(iter(profiles), None))
    refuse_another_model(before, run.config)
    encoder = grown_encoder(log.features, read, before)

    logged, offered = sum(map(len, read)), rows_per_epoch(read, config)
    learning = Window(read, threshold, HoldOut.of(run.config, logged), before[1].day if before else None)
    learner, start = _learner(run, day, encoder, learning, before)
    rng = run.rng("teacher", day)
    batcher = learner.batcher(run, read, rng, by="rows", event_features=False, context_dropout=config.context_dropout)

    def batches() -> Iterator[Batch[TeacherLabels[Tensor]]]:
        return batcher.batches(learning.rows(config, rng), config.rows_a_step(offered))

    course = Checkpoints(run, publication).course("teacher", {"model": learner}, rng)
    loss = partial(batch_loss, run, learner.model)
    unseen, learned = train(run, f"teacher {day}", [learner], batches, loss, offered, course)
    measures = start.moved(learner, "teacher.moved") if learned.get("rows") else []
    sizes = learner.finish(run, publication.path, publication.path.parent)

    trained = Trained(encoder, learner.model, learning, batcher.tables, before)
    done = finish(run, publication, trained)
    clicks = learned.get(f"loss.{CLICK}", math.inf)  # all rows may be held out of a tiny log
    doubted = _doubts(run, day, trained, clicks, done)
    counts = {"log": logged, "learned": int(learned.pop("rows", 0)), "held_out": len(done.network[CLICK].logit)}
    numbers = _numbers(learned, threshold, done) | sizes
    if run.ranks.first:
        measures += _measures(run, publication, read[-1], done, unseen, learned)
    if before is None and not profiles:  # else they carry what earlier days said
        doubted = heavy_tail(run.config, read) + doubted
    facts = _facts(run, threshold, days) | left_out(read) | done.facts
    return Draft(counts, numbers, facts, measures, doubted)


def _learner(
    run: Run, day: dt.date, encoder: Encoder, learning: Window, before: Parent | None
) -> tuple[Learner[Teacher], Start]:
    """The teacher before training, and where it starts from."""
    config, plain = run.config.teacher, run.config.plain_autograd
    run.seed_torch("teacher", day)
    make = partial(build_teacher, encoder, config, len(run.config.tasks.names), plain_autograd=plain)
    learner = Learner.build(run, config, encoder, make)
    if before:
        learner.warm_start(before[0])
    else:
        begin_at_rates(learner.model, learning.rows(config, run.rng("teacher", day, "rates")))
    start = Start.of(learner)
    if run.ranks.size > 1:  # each rank drops other experts
        run.seed_torch("teacher", day, run.ranks.rank)
    return learner, start


def _measures(
    run: Run, publication: Publication, today: Day, done: Finished, unseen: dict[str, float], learned: dict[str, float]
) -> list[Measure]:
    """What is judged, but for how far the weights have moved.

    Args:
        unseen, learned: numbers of the first epoch and of the last.
    """
    tasks, ids = run.config.tasks.names, (run.config.data.events.user, run.config.data.events.item)
    features = [f for f in columns(run.config.features_of("teacher")) if f.source not in ids]
    return [
        *null_shares(today, features),
        *gates.first_epoch(unseen, tasks),
        *gates.gate_loads(learned, tasks),
        *gates.on_held_out(done.blended, done.regression, done.facts["calibration"]),
        not_finite(publication.path, "teacher"),
    ]


def _doubts(run: Run, day: dt.date, trained: Trained, learned: float, done: Finished) -> list[str]:
    """What is doubtful about the trained network, a line each.

    Args:
        learned: its loss of click on the rows of the last epoch.
        done: its logits on held-out rows.
    """
    config, encoder, window = run.config.teacher, trained.encoder, trained.window
    rows = rows_per_epoch(window.days, config)
    out = list[str]()
    if not chose_steps(run, day):
        out += few_steps("teacher", rows, config.rows_a_step(rows), "learn more days (teacher.window_days)")
    if config.samples == "exposed" and window.hold_out.share:  # else other rows are held out than learned
        out += overfits(learned, done.network[CLICK], slower(run, day))
    suspects = columns_of_the_log(encoder.features, run.config.data.events)
    aucs = {task: auc for task, x in done.network.items() if (auc := _auc(x)) is not None}
    labels = {task: x.label for task, x in done.network.items()}
    out += leaks(importances(encoder, trained.model, window, suspects)) or too_good(aucs, labels)
    if run.ranks.size == 1 and sum(map(len, window.days)) <= LOOKED_AT:  # a rank has not all rows of a user
        out += programs_told(run.config, window.days)
    return out + one_valued(labels) + rare(encoder.seen_once(window.days))


def _facts(run: Run, threshold: float | None, days: list[dt.date]) -> dict[str, object]:
    config = run.config.teacher
    return {
        "threshold_seconds": threshold,
        "tasks": run.config.tasks.names,
        "calibrated": run.config.data.events.click is not None,
        "sampling": {k: getattr(config, k) for k in ("samples", "negatives", "alpha")},
        "days": [str(d) for d in days],
    }


def _numbers(learned: dict[str, float], threshold: float | None, done: Finished) -> dict[str, float]:
    numbers = {k: v for k, v in learned.items() if k.startswith(("loss", "gate."))}
    numbers |= {} if threshold is None else {"threshold.seconds": threshold}
    return numbers | _aucs("held_out", done.blended) | _aucs("held_out.regression", done.regression)


def _aucs(name: str, rows: dict[str, HeldOut]) -> dict[str, float]:
    return {f"{name}.{label}.auc": auc for label, x in rows.items() if (auc := _auc(x)) is not None}


def _auc(x: HeldOut) -> float | None:
    return metrics.auc(x.label, x.logit, x.weight)
