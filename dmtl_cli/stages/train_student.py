"""train-student: a two-tower DSSM of day N+1 learns from the stored scores of teacher N, and is exported."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.tasks import FUSED
from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import begins
from dmtl_cli.nn.doubts import few_steps
from dmtl_cli.nn.fit import train
from dmtl_cli.nn.gates import Start, not_finite
from dmtl_cli.nn.learner import Learner, grown_encoder
from dmtl_cli.nn.precision import refuse_precision
from dmtl_cli.nn.resume import Checkpoints
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Parent, Result, Run, distinct
from dmtl_cli.scores.gates import refuse_broken
from dmtl_cli.scores.reader import Reader
from dmtl_cli.stages.export import export
from dmtl_cli.student.build import EXPOSURE, build_student
from dmtl_cli.student.doubts import far_from_teacher
from dmtl_cli.student.dssm import DSSM
from dmtl_cli.student.exportable import refuse_unexportable
from dmtl_cli.student.exposure import PASSES
from dmtl_cli.student.exposure_training import ExposureTraining
from dmtl_cli.student.hard import log_q
from dmtl_cli.student.labels import StudentBatch
from dmtl_cli.student.loss import StudentLoss, freshness, popularity_strata
from dmtl_cli.student.published import Found, age, choose_scores, effective_ways, find_scores, scores_facts
from dmtl_cli.student.rows import Stream, coverage, initial_bias, mix, student_streams
from dmtl_cli.tune.carried import tuned
from dmtl_cli.tune.choices import free
from dmtl_cli.tune.search import EPOCHS

NEAR = 0.97
"""squared correlation of a student's logits with its teacher's from which on it is near"""
MORE = 1_000_000
"""pairs that a student learns at most, epochs together, to come near"""


@dataclass(frozen=True)
class _Source:
    """The scores that a student learns from."""

    teacher_day: dt.date | None
    """day of the teacher; None: no scores"""
    found: Found
    as_near_as_can_be: bool
    """whether the log decides how many epochs it learns them"""
    threshold: float | None
    teacher: dict[str, str] | None
    """as manifests name it"""

    @property
    def facts(self) -> dict[str, object]:
        return {"threshold_seconds": self.threshold, "teacher": self.teacher}


def train_student(run: Run, day: dt.date, scores_day: dt.date | None = None) -> tuple[Result, Result]:
    """Trains and exports. Returns the results of student and export.

    Args:
        scores_day: the teacher whose scores to use; default the newest of min_age_days to max_age_days.
    """
    chooses = bool(run.config.auto.budget and not run.config.student.hard.w_hard) and free(run.config, "student.epochs")
    run = tuned(run, day)
    refuse_unexportable(run.config)
    config = run.config.student
    log = Days(run, run.config.features_of("student"))
    log.parents_at_end(day)  # what the export needs, before hours of training
    log.refuse_none_chosen(day)
    before = run.newest("student", day)
    teacher_day = choose_scores(run, day, scores_day) if config.distill.w_kd else None
    found = find_scores(run, day, teacher_day) if teacher_day else {}
    days = sorted({day, *(d for _, d in found)})
    # without scores the newest teacher's threshold tells what a long read is
    needs_threshold = not found and config.hard.label == "long_read"
    threshold_teacher = run.newest("teacher", day + dt.timedelta(days=1)) if needs_threshold else None
    source = _Source(teacher_day, found, chooses, *scores_facts(run, day, found, threshold_teacher))
    shown = _shown_days(run, day, log, before)
    every = sorted({*days, *shown})
    parents = [p for p in (before, threshold_teacher, *found.values(), *log.parents(every)) if p]
    work = partial(_learn, run, day, log, days, shown, before, source)
    student = run.publish("student", day, _sections(run, chooses), log.inputs(every), parents, work)
    return student, export(run, day)


def _shown_days(run: Run, day: dt.date, log: Days, before: Parent | None) -> list[dt.date]:
    """The days whose exposures are learned: the student's own; of a chain's first also those that its teacher learned,
    and the days after them, as far as the log has them."""
    if not run.config.student.exposure.kappa:
        return []
    if before and (before[0] / EXPOSURE).is_dir():
        return [day]
    after = run.config.student.distill.min_age_days
    first = day - dt.timedelta(days=after)
    window = log.first_window(first) if log.has(first) else []
    since = (first + dt.timedelta(days=k + 1) for k in range(after))
    there = [d for d in dict.fromkeys([*window, *since, day]) if log.has(d) and (d == day or log.log.rows(d))]
    return log.with_profile(there)


def _sections(run: Run, chooses: bool) -> dict[str, Any]:
    """The parts of the config that training depends on: how much of what is shown is served is chosen at export.

    Args:
        chooses: whether the log decides how many epochs there are.
    """
    whole = run.sections("student")
    exposure = whole["student"]["exposure"]
    if run.config.student.exposure.kappa:
        exposure = {k: v for k, v in exposure.items() if k not in ("kappa", "objective", "weights")}
        block = run.config.student.exposure_block  # whose rates an earlier dmtl took from the student
        exposure |= {"learning_rate": block.learning_rate, "embedding_learning_rate": block.table_rate}
    goes_on = {"near": NEAR, "passes": PASSES} if chooses else {}
    return whole | {"student": whole["student"] | {"exposure": exposure}} | goes_on


def _learn(
    run: Run,
    day: dt.date,
    log: Days,
    days: list[dt.date],
    shown: list[dt.date],
    before: Parent | None,
    source: _Source,
    publication: Publication,
) -> Draft:
    config = run.config.student
    refuse_precision("student.precision", config.precision, run.device)
    read = {d: log.read(d, publication.tmp, run.ranks) for d in days}
    _refuse_other_fusion(run, source)
    run.ranks.on_first(lambda: _refuse_broken(source, log, read))
    passed_over = _passed_over(before)
    encoder = grown_encoder(log.features, list(read.values()), before, passed_over=passed_over)
    streams = student_streams(source.found, read, day, source.threshold, config, publication.tmp)
    covered = coverage(streams, effective_ways(config.distill, day, source.teacher_day), config.distill, run.log)

    learner, rng = _learner(run, day, encoder, before, streams), run.rng("student", day)
    start = Start.of(learner)
    batcher = learner.batcher(run, list(read.values()), rng, by="sides", event_features=True)
    loss = _loss(run, day, learner.model, read, source, len(batcher.tables.items))
    offered = sum(s.covered for s in streams)

    def batches() -> Iterator[StudentBatch]:
        rows = mix([(s.rows(rng), s.covered) for s in streams], rng)
        return batcher.batches(rows, config.rows_a_step(offered))

    checkpoints = Checkpoints(run, publication)
    course = checkpoints.course(
        "preference", {"model": learner, "agreement": loss.agreement, "distance": loss.distance}, rng
    )
    chooses = source.as_near_as_can_be and config.exposure.epochs is None
    exposure = ExposureTraining(run, day, log, shown, encoder, before, publication, chooses)
    with exposure.beside(read, checkpoints) as beside:
        more = partial(_more, run, source, loss, offered)
        name = f"student {day}"
        _, learned = train(run, name, [learner], lambda: beside.while_well(batches()), loss, offered, course, more)
        moved = start.moved(learner, "student.moved.preference") if learned.get("rows") else []
        sizes = learner.finish(run, publication.path, publication.path.parent)
        exposed, measured = beside.result()

    counts = {"learned": int(learned.pop("rows", 0))} | _counts(streams)
    numbers = covered | learned | sizes | _scalars(loss, source.threshold) | exposed
    doubted = few_steps("student", offered, config.rows_a_step(offered), "dump more scores")
    doubted += far_from_teacher(numbers.get("distill.r2"))
    measures = loss.distance.measure(loss.agreement.signed_r2()) + moved + measured
    if run.ranks.first:
        measures.append(not_finite(publication.path, "student"))
    facts = source.facts | {"predicts": config.predicts, "days": list(map(str, days))}
    if left := _left_over(run, day, source.teacher_day, days, before):
        facts["passed_over"] = list(map(str, left))
    return Draft(counts, numbers, facts, measures, doubted)


def _passed_over(before: Parent | None) -> set[dt.date]:
    """Days before the previous student's that none of its chain has read, so that it knows no id of theirs."""
    return {dt.date.fromisoformat(d) for d in before[1].facts.get("passed_over", ())} if before else set()


def _left_over(
    run: Run, day: dt.date, teacher_day: dt.date | None, days: Sequence[dt.date], before: Parent | None
) -> list[dt.date]:
    """What `_passed_over` is after this student, of days whose scores a later one may learn: those between a chain's
    first teacher and its first student, as with a min_age_days of 2, and days without a student.

    Args:
        days: what this student reads.
    """
    since = before[1].day if before else teacher_day or day
    between = {since + dt.timedelta(days=k) for k in range(1, (day - since).days)}
    oldest = day + dt.timedelta(days=1 - run.config.student.distill.max_age_days)
    return sorted(d for d in (_passed_over(before) | between) - {*days} if d >= oldest)


def _more(run: Run, source: _Source, loss: StudentLoss, offered: int, epochs: int) -> bool:
    """Whether another epoch is wanted after so many: of few rows as long as the student is not near its teacher, whose
    scores are no noise that it could learn by heart. Trials choose on a chain's first days, when a teacher has little
    to say of single users."""
    if not source.as_near_as_can_be or epochs >= EPOCHS or (epochs + 1) * offered > MORE:
        return False
    near: bool = run.ranks.on_first(lambda: _is_near(loss.agreement.signed_r2()))
    return not near


def _is_near(r2: float | None) -> bool:
    """Args: r2: None where there is nothing to be near to."""
    return r2 is None or r2 >= NEAR


def _refuse_other_fusion(run: Run, source: _Source) -> None:
    """Raises UserError 65: a table's fused score is another than the config's, and is to be learned: a student would
    learn two targets at once, of the days before an edit and of those after it."""
    fusion = run.config.scores.fusion
    for folder, manifest in distinct(source.found.values()):
        then = manifest.facts["fusion"]
        if FUSED in run.config.student.distill.targets and then != fusion:
            what = f"{folder}: {FUSED} was made with scores.fusion {then}, the config now says {fusion}"
            teacher = manifest.facts["teacher"]["day"]
            of = "" if teacher == str(manifest.day) else f" --teacher-day {teacher}"
            raise UserError(what, f"run dmtl dump-logits --day {manifest.day}{of}")


def _refuse_broken(source: _Source, log: Days, read: Mapping[dt.date, Day]) -> None:
    """Raises UserError 65: a table of scores breaks a promise."""
    for folder, manifest in distinct(source.found.values()):
        # the log's own rows, where its files are those that were scored
        same = manifest.day in read and log.inputs([manifest.day]) == manifest.inputs
        rows = len(read[manifest.day]) if same else manifest.facts.get("log_rows")
        forgotten = manifest.facts.get("forgotten", {}).get("exposed", 0)
        rows = rows and rows - forgotten
        refuse_broken(Reader(folder, manifest.facts), manifest, rows)


def _learner(
    run: Run, day: dt.date, encoder: Encoder, before: Parent | None, streams: Sequence[Stream]
) -> Learner[DSSM]:
    run.seed_torch("student", day)
    learner = Learner.build(run, run.config.student, encoder, partial(build_student, encoder, run.config.student))
    if before:
        learner.warm_start(before[0])
    else:
        learner.model.soft_bias.data.fill_(initial_bias(streams, run.rng("student", day, "prior")))
    return learner


def _loss(
    run: Run, day: dt.date, student: DSSM, read: Mapping[dt.date, Day], source: _Source, items: int
) -> StudentLoss:
    config = run.config.student
    fresh = freshness(config.distill, age(source.teacher_day, day) if source.teacher_day else 0)
    (first,) = (at for each, _, at in begins(read.values()) if each.day == day)
    chances = log_q(read[day], source.threshold, config.hard, first, items)
    strata = popularity_strata(config.distill, list(read.values()), run.device)
    on_device = torch.from_numpy(chances).to(run.device)
    return StudentLoss(student, config, fresh, on_device, strata, run.ranks, plain=run.config.plain_autograd)


def _counts(streams: Sequence[Stream]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for stream in streams:
        counts[stream.name] = counts.get(stream.name, 0) + stream.covered
    return counts


def _scalars(loss: StudentLoss, threshold: float | None) -> dict[str, float]:
    student, r2 = loss.student, loss.agreement.r2()
    numbers = {"scale": float(student.scale.detach()), "bias": float(student.bias.detach())}
    numbers |= {} if r2 is None else {"distill.r2": r2}
    return numbers | ({} if threshold is None else {"threshold.seconds": threshold})
