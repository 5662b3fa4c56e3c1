"""train-student: a two-tower DSSM of day N+1 learns from the stored scores of teacher N, and is exported."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.schema import KD, Distill, Student, Way
from dmtl_cli.data.features.encoder import Encoded, Encoder
from dmtl_cli.data.log.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.rows import SOURCES, Rows, hard_rows, mix
from dmtl_cli.nn import checkpoint, losses
from dmtl_cli.nn.batches import Batch, Batcher, Tables
from dmtl_cli.nn.fit import Optimizers, fit, forget_untouched, products, refuse_precision
from dmtl_cli.nn.sharded import table_of
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.scores.table import Matcher, Reader, age
from dmtl_cli.student import distillation as distill
from dmtl_cli.student.dssm import DSSM
from dmtl_cli.student.export import publish_export, student_of
from dmtl_cli.teacher.frozen import heads


@dataclass(frozen=True)
class Stream:
    """Rows of one way (or the hard labels) of one day."""

    name: str
    offered: int
    held: int
    rows: Callable[[np.random.Generator], Iterator[Rows]]


def train_student(run: Run, day: dt.date, scores_day: dt.date | None = None) -> tuple[Result, Result]:
    """Trains and exports. Returns the results of student and export.

    Args:
        scores_day: the teacher whose scores to use; default the newest of min_age_days to max_age_days.
    """
    config = run.config.student
    log = Log(run.config.data, run.config.features_of("student"))
    before = run.newest("student", day)
    taught = choose_scores(run, day, scores_day) if config.distill.w_kd else None
    scores = find_scores(run, day, taught) if taught else {}
    days = sorted({day, *(d for _, d in scores)})
    inputs = [one for d in days for one in log.inputs(d)]
    # without scores a long read is what the newest teacher says it is
    unjudged = not scores and config.hard.label == "long_read"
    judge = run.newest("teacher", day + dt.timedelta(days=1)) if unjudged else None
    source = scores_facts(run, day, scores, judge)

    def work(publication: Publication) -> Draft:
        refuse_precision("student.precision", config.precision, run.device)
        read = {d: log.read(d, publication.tmp, run.ranks) for d in days}
        threshold = source[0]
        features = run.config.features_of("student")
        encoder = Encoder.stored(before[0], features) if before else Encoder(features)
        encoder = encoder.grow([read[d] for d in days if before is None or d > before[1].day])
        offsets = _offsets(list(read.values()))
        streams = [
            _stream(run, way, read, d, parent, offsets[d], publication.tmp) for (way, d), parent in scores.items()
        ]
        streams += [_hard(run, read[day], threshold, offsets[day])] if config.hard.w_hard else []
        coverage = _coverage(run, streams)

        run.seed_torch("student", day)
        made = table_of(run.ranks, run.device, config.table_rate)
        student = student_of(encoder, config.model_dump(), made).to(run.device)
        optimizers = Optimizers.of(student, student.table, config)
        rng = run.rng("student", day)
        if before:
            checkpoint.load(before[0], student, student.table, optimizers)
        else:
            (student.auxiliary or student).bias.data.fill_(_prior(streams, run.rng("student", day, "prior")))
        tables = Tables(
            *(Encoded.concat([encoder.entities(d, s, None) for d in read.values()]) for s in ("user", "item"))
        )
        batcher = Batcher(
            encoder, tables, run.device, unknown_share=config.unknown_share, rng=rng, ranks=run.ranks, by="sides"
        )
        fresh = _freshness(config.distill, age(taught, day) if taught else 0)
        strata = _strata(config.distill, list(read.values()), run.device)
        log_q = torch.from_numpy(_log_q(run, read[day], threshold, offsets[day], len(tables.items))).to(run.device)

        def loss_of(batch: Batch) -> tuple[Tensor, dict[str, float | Tensor]]:
            return student_loss(student, batch, config, fresh, log_q, strata, run.ranks)

        learned: dict[str, float] = {}
        rows_offered = sum(s.held for s in streams)
        with run.log.progress(f"student {day}", config.epochs * rows_offered) as progress:
            for _ in range(config.epochs):
                rows = mix([(s.rows(rng), s.held) for s in streams], rng)
                batches = batcher.batches(rows, config.rows_a_step(rows_offered))
                learned = fit([(student, optimizers)], batches, loss_of, progress, run.ranks)
        untouched = forget_untouched(student.table, optimizers.table, run.ranks)
        checkpoint.save(publication.path, student, student.table, optimizers, publication.path.parent)
        if run.ranks.first:
            encoder.write(publication.path)
        rows_learned = int(learned.pop("rows", 0))
        numbers = {**coverage, **learned, "scale": float(student.scale.detach()), "bias": float(student.bias.detach())}
        numbers |= {"embedding.rows": sum(student.table.rows.values()), "embedding.untouched": untouched}
        if threshold is not None:
            numbers["threshold.seconds"] = threshold
        counts = {"learned": rows_learned}
        for stream in streams:
            counts[stream.name] = counts.get(stream.name, 0) + stream.held
        facts = {
            "threshold_seconds": threshold,
            "teacher": source[1],
            "predicts": config.predicts,
            "days": [str(d) for d in days],
        }
        return Draft(rows=counts, metrics=numbers, facts=facts)

    parents = [p for p in (before, judge, *scores.values()) if p]
    made = run.publish("student", day, run.sections("student"), inputs, parents, work)
    return made, publish_export(run, day)


# -- which scores ------------------------------------------------------------------------------------------------------


def choose_scores(run: Run, day: dt.date, scores_day: dt.date | None) -> dt.date:
    """The teacher whose scores a student of `day` learns from.

    Raises:
        UserError: 66 there are none; 65 they are older than max_age_days or younger than min_age_days.
    """
    youngest, oldest = run.config.student.distill.min_age_days, run.config.student.distill.max_age_days
    taught = scores_day
    if taught is None:
        stored = [d for d in run.ws.days("teacher") if age(d, day) >= youngest and _stored(run, day, d)]
        if not stored:
            newest = day - dt.timedelta(days=youngest)
            hint = f"run dmtl dump-logits --day {newest} first"
            raise UserError(f"no stored scores of a teacher up to {newest} in {run.ws.root}", hint, Exit.NO_INPUT)
        taught = stored[-1]
    if not youngest <= age(taught, day) <= oldest:
        what = f"scores of teacher {taught}, student of {day}"
        hint = "dump fresher scores, or raise student.distill.max_age_days"
        if age(taught, day) < youngest:
            hint = "a student learns from an earlier teacher: see student.distill.min_age_days"
        raise UserError(f"{what}: expected {youngest} to {oldest} days old, got {age(taught, day)}", hint)
    return taught


def _stored(run: Run, day: dt.date, taught: dt.date) -> bool:
    return any(run.ws.current("scores", d, f"teacher={taught}") for d in (taught, day))


def find_scores(run: Run, day: dt.date, taught: dt.date) -> dict[tuple[Way, dt.date], Parent]:
    """The published dumps, by way and the day whose rows they are for. An absent one is announced and counts 0."""
    found: dict[tuple[Way, dt.date], Parent] = {}
    for way in run.config.student.distill.ways:
        scored = day if way == "rescore" else taught
        if run.ws.current("scores", scored, f"teacher={taught}"):
            found[way, taught if way == "replay" else day] = run.parent("scores", scored, f"teacher={taught}")
        else:
            todo = f"dmtl dump-logits --day {scored} --teacher-day {taught}"
            run.log.say(f"{way}: no scores of {scored} by teacher {taught}, counts 0 ({todo})")
    if ("replay", day) in found:  # a teacher of the same day: its scores of the day are one dump, learned once
        found.pop(("rescore", day), None)
    if not found:
        hint = f"run dmtl dump-logits --day {taught} and --day {day} --teacher-day {taught}"
        raise UserError(f"no scores by teacher {taught} for a student of {day}", hint, Exit.NO_INPUT)
    return found


def scores_facts(
    run: Run, day: dt.date, scores: dict[tuple[Way, dt.date], Parent], judge: Parent | None
) -> tuple[float | None, dict[str, str] | None]:
    """(threshold, teacher) of the scores; without scores the judge's threshold and no teacher.

    Raises:
        UserError: 65 dumps were scored by different runs of a teacher, or by one that was trained again since; 66
            nothing tells the threshold.
    """
    facts = [m.facts for _, m in scores.values()]
    if facts:
        teachers = {f["teacher"]["run_id"] for f in facts}
        if len(teachers) > 1:
            days = sorted({str(d) for _, d in scores})
            what = f"student of {day}: expected scores by one run of teacher {facts[0]['teacher']['day']}, got"
            hint = f"run dmtl dump-logits --teacher-day {facts[0]['teacher']['day']} again for {' and '.join(days)}"
            raise UserError(f"{what} {' and '.join(sorted(teachers))}", hint)
        taught = facts[0]["teacher"]
        current = run.parent("teacher", dt.date.fromisoformat(taught["day"]))[1].run_id
        if taught["run_id"] != current:
            what = f"student of {day}: its scores are by run {taught['run_id']} of teacher {taught['day']}"
            hint = f"that teacher is now run {current}: run dmtl dump-logits --teacher-day {taught['day']} again"
            raise UserError(what, hint)
        return facts[0]["threshold_seconds"], taught
    hard = run.config.student.hard
    if judge is None and hard.label == "long_read" and run.config.data.events.duration:
        what = "a long_read student without scores needs a teacher's threshold"
        raise UserError(what, f"run dmtl train-teacher on a day before {day}", Exit.NO_INPUT)
    return (judge[1].facts["threshold_seconds"] if judge else None), None


# -- streams -----------------------------------------------------------------------------------------------------------


def _offsets(days: list[Day]) -> dict[dt.date, tuple[int, int]]:
    """Where each day's users and items begin in the stacked tables."""
    out, users, items = {}, 0, 0
    for d in days:
        out[d.day] = (users, items)
        users, items = users + len(d.users), items + len(d.items)
    return out


def _stream(
    run: Run,
    way: Way,
    read: dict[dt.date, Day],
    day: dt.date,
    parent: Parent,
    offset: tuple[int, int],
    scratch: Path,
) -> Stream:
    """The rows of one way; `day` is the day whose features they take."""
    config = run.config.student.distill
    reader = Reader(parent[0], parent[1].facts)
    if way == "match":
        matcher = Matcher(reader, read[day], config, run.config.student.rows_together, scratch)
        return Stream(way, len(read[day]), matcher.matched(), lambda rng: matcher.rows(*offset, rng))

    def rows(rng: np.random.Generator) -> Iterator[Rows]:
        return reader.distilled(read[day], config, run.config.student.rows_together, *offset, rng)

    return Stream(way, *reader.known(read[day], config), rows)


def _hard(run: Run, day: Day, threshold: float | None, offset: tuple[int, int]) -> Stream:
    config = run.config.student.hard
    if config.loss == "sampled_softmax":
        counted = sum(int((b.click if config.label == "click" else b.labels(threshold)[0]).sum()) for b in day.blocks())
    else:
        counted = len(day) * (1 + config.negatives)
    return Stream("hard", counted, counted, lambda rng: hard_rows(day, threshold, run.config.student, *offset, rng))


def _coverage(run: Run, streams: list[Stream]) -> dict[str, float]:
    """Scored rows / rows offered of each way. Raises UserError 80 below a floor, before any training."""
    floors = run.config.student.distill.floors.model_dump()
    out: dict[str, float] = {}
    ways = run.config.student.distill.ways if run.config.student.distill.w_kd else ()
    for way in ways:
        mine = [s for s in streams if s.name == way]
        offered, held = sum(s.offered for s in mine), sum(s.held for s in mine)
        share = out[f"coverage.{way}"] = held / offered if offered else 0.0
        out[f"rows.{way}"] = float(held)
        run.log.say(f"coverage of {way}: {held} of {offered} rows ({share:.1%})")
        if share < floors[way]:
            raise UserError(
                f"coverage of {way} is {share:.3f} ({held} of {offered} rows), below its floor {floors[way]}",
                f"dump the scores that {way} needs, or lower student.distill.floors.{way}",
                Exit.REFUSED,
            )
    if not any(s.held for s in streams):
        raise UserError("nothing to learn: no way has a row", "check student.distill.ways and coverage", Exit.REFUSED)
    return out


def _prior(streams: list[Stream], rng: np.random.Generator) -> float:
    """The bias a student starts from: the log-odds of the mean target of a first block; 0 without targets."""
    for stream in streams:
        for rows in stream.rows(rng):
            named = [c for c in rows.columns if c.startswith("target.")]
            t = rows.columns[named[0]] if named else np.zeros(0)
            if np.isfinite(t).any():
                p = float(np.clip((1 / (1 + np.exp(-t[np.isfinite(t)]))).mean(), 1e-4, 1 - 1e-4))
                return float(np.log(p / (1 - p)))
    return 0.0


def _log_q(run: Run, day: Day, threshold: float | None, offset: tuple[int, int], items: int) -> npt.NDArray[np.float32]:
    """[items] log of the share of positives that each item has among the hard rows: its chance of being in a batch."""
    counts = np.zeros(items, np.int64)
    for block in day.blocks() if run.config.student.hard.w_hard else ():
        positive = block.click if run.config.student.hard.label == "click" else block.labels(threshold)[0]
        counts += np.bincount(offset[1] + block.item[positive], minlength=items)
    log_q: npt.NDArray[np.float32] = np.log(np.maximum(counts, 1) / max(1, counts.sum())).astype(np.float32)
    return log_q


def _freshness(config: Distill, days: int) -> float:
    """What scores count that are so many days old: half after each half_life_days beyond the first day."""
    return 0.5 ** (max(0, days - 1) / config.half_life_days) if config.half_life_days else 1.0


def _strata(config: Distill, days: list[Day], device: torch.device) -> dict[int, Tensor]:
    """[items of the stacked tables] popularity stratum within the item's day, for each number of strata asked for."""
    counts = [torch.from_numpy(d.item_clicks) for d in days]
    asked = {kd.popularity_strata for kd in config.losses} - {1}
    return {k: torch.cat([distill.strata(c, k) for c in counts]).to(device) for k in asked}


# -- loss --------------------------------------------------------------------------------------------------------------


def student_loss(
    student: DSSM,
    batch: Batch,
    config: Student,
    fresh: float,
    log_q: Tensor,
    strata: dict[int, Tensor],
    ranks: Ranks = ALONE,
) -> tuple[Tensor, dict[str, float | Tensor]]:
    """L = w_kd fresh (sum of weight * loss over distill.losses) + w_hard hard, and the size of each term's gradient on
    the vectors where there are two.

    Args:
        fresh: what scores of this age count.
        log_q: [rows of the stacked items] log of an item's chance of being in a batch as a positive.
        strata: [rows of the stacked items] popularity strata, by their number.
    """
    with products(config.precision, batch.user_index.device):
        served, soft = heads(student, batch, ranks)
    u, v = served[0].index_select(0, batch.user_index), served[1].index_select(0, batch.item_index)
    c = batch.columns
    parts: dict[str, float | Tensor] = {}
    terms: dict[str, Tensor] = {}
    if config.distill.w_kd:
        s = student.logits(u, v)
        if student.auxiliary is not None:
            soft_u, soft_v = soft[0].index_select(0, batch.user_index), soft[1].index_select(0, batch.item_index)
            s = student.soft_logits(soft_u, soft_v)
        each = [kd.weight * _distilled(kd, s, batch, strata) for kd in config.distill.losses]
        if len(each) > 1:
            parts |= {f"loss.kd.{k}.{kd.loss}": each[k].detach() for k, kd in enumerate(config.distill.losses)}
        terms["kd"] = config.distill.w_kd * fresh * torch.stack(each).sum()
    if config.hard.w_hard:
        weight = c["hard_weight"]
        if config.hard.loss == "pointwise":
            hard = losses.pointwise(student.logits(u, v), c["label"].to(u.dtype), weight)
        else:
            positive = torch.nonzero(weight * c["label"] > 0).squeeze(1)
            # hard rows are of one day, where an item has one row
            users, user = torch.unique(batch.user_index[positive], return_inverse=True)
            items, item = torch.unique(batch.item_index[positive], return_inverse=True)
            q = log_q[torch.unique(batch.item_row[positive])]  # in the order of items: both ascend together
            hard = losses.sampled_softmax(
                served[0][users], served[1][items], student.scale, q, user, item, weight[positive]
            )
        terms["hard"] = config.hard.w_hard * hard
    for name, term in terms.items():
        parts[f"loss.{name}"] = term.detach()
        if len(terms) > 1 and student.auxiliary is None:  # the two pull apart: a run says how much of each it saw
            g = torch.autograd.grad(term, served, retain_graph=True)
            parts[f"gradient.{name}"] = torch.stack([x.norm() for x in g]).norm()
    return torch.stack(list(terms.values())).sum(), parts


def _distilled(kd: KD, s: Tensor, batch: Batch, strata: dict[int, Tensor]) -> Tensor:
    """One distillation loss over a batch. Lists are the batch's, cut by popularity where the loss asks for it."""
    c = batch.columns
    of_source = torch.tensor([getattr(kd.source_weights, x) for x in SOURCES], device=s.device)
    lists = c.get("list", batch.item_row)
    if kd.popularity_strata > 1:
        lists = distill.within(lists, strata[kd.popularity_strata][batch.item_row])
    weight = c["kd_weight"] * of_source[c["source"].long()]
    t = torch.where(weight > 0, c[f"target.{kd.target}"], torch.nan)  # a source of weight 0 is not there for this loss
    return distill.LOSSES[kd.loss](s, t, weight, lists, **kd.options())
