"""dump-logits: a frozen teacher scores a day's exposed pairs, drawn negatives and candidates, stored as Parquet."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.scores import Scores
from dmtl_cli.config.tasks import CLICK, READ
from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Block, Day
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.gates import Measure
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.scores.columns import column_names, score_columns
from dmtl_cli.scores.gates import audit
from dmtl_cli.scores.reader import Reader
from dmtl_cli.scores.strata import spread
from dmtl_cli.scores.writer import AT_ONCE, Chunks, Writer
from dmtl_cli.teacher.candidates import candidates
from dmtl_cli.teacher.frozen import FrozenTeacher, Scorer
from dmtl_cli.tune.carried import tuned

Ints = npt.NDArray[np.int64]
Unscored = tuple[str, Rows[None], Ints | None]
"""pair source, pairs, their requests (of exposed ones)"""
Scored = tuple[str, Rows[None], Ints | None, npt.NDArray[np.float32]]
"""the same and logits [n, T]"""
Draw = tuple[Ints, npt.NDArray[np.bool_]]
"""an item for each row of a block, and whether it is valid"""


def dump_logits(run: Run, day: dt.date, teacher_day: dt.date | None = None) -> Result:
    """Stores the scores that the teacher of `teacher_day` (default `day`) gives to pairs of `day`."""
    run = tuned(run, day)
    config = run.config.scores
    teacher_day = teacher_day or day
    parent = run.parent("teacher", teacher_day, hint=f"run dmtl train-teacher --day {teacher_day}")
    retriever = run.newest("export", day) if config.candidates and config.candidate_source != "popularity" else None
    log = Days(run, run.config.features if retriever else run.config.features_of("teacher"))
    inputs = log.inputs([day])
    parents = [p for p in (parent, retriever, *log.parents([day])) if p]
    work = partial(_dump, run, day, log, parent, retriever)
    sections = run.sections("teacher", "scores")
    return run.publish("scores", day, sections, inputs, parents, work, sub=f"teacher={teacher_day}")


def _dump(
    run: Run, day: dt.date, log: Days, parent: Parent, retriever: Parent | None, publication: Publication
) -> Draft:
    config = run.config.scores
    read = log.read(day, publication.tmp, run.ranks)
    if retriever:
        Encoder.stored(retriever[0], run.config.features_of("student"))  # its features must be the config's
    teacher = FrozenTeacher(*parent, run.device, run.config)
    writer = Writer(publication.tmp, read, column_names(teacher.tasks, fused=bool(config.fusion)))
    active = np.flatnonzero(read.user_events > 0)
    total = len(read) * (1 + config.negatives) + len(active) * config.candidates
    rng = run.rng("scores", day, parent[1].day)
    with run.log.progress(f"scores {day}", total // run.ranks.size) as progress:
        scorer = teacher.on(read)
        for source, rows, request, logits in itertools.chain(
            _events(run, read, teacher, scorer, rng), _candidates(run, read, scorer, active, retriever)
        ):
            by_task = dict(zip(teacher.tasks.names, logits.T, strict=True))
            scores = score_columns(by_task, teacher.no_context.calibration, config.fusion)
            writer.add(rows.user, rows.item, source, scores, request)
            progress.step(len(rows))
    writer.chunks = Chunks.sum(run.ranks.gather_objects(writer.chunks))
    counts = {"scores": writer.chunks.rows, **writer.chunks.sources}
    facts = _facts(run, parent[1]) | {"log_rows": len(read)}
    measures: list[Measure] = []
    if run.ranks.first:
        writer.finish(publication.path)
        expected = writer.chunks.sources | {"exposed": len(read)}
        measures = audit(Reader(publication.path, facts), day).measures(expected)
    metrics = {f"rows.{k}": float(v) for k, v in counts.items()}
    return Draft(rows=counts, metrics=metrics, facts=facts, measures=measures)


def _events(run: Run, day: Day, teacher: FrozenTeacher, scorer: Scorer, rng: np.random.Generator) -> Iterator[Scored]:
    """The day's exposed pairs and the negatives drawn for them; many blocks are scored at once, as their pairs share
    users.

    Each rank scores its share of the blocks; the pairs are the same whatever the number of ranks.
    """
    config, negatives = run.config.scores, Negatives(day, run.config.scores.alpha)
    waiting: list[Unscored] = []
    for k, block in enumerate(day.blocks()):
        user = block.user.astype(np.int64)
        draws = [negatives.draw(user, rng) for _ in range(config.negatives * config.stratify)]
        if not run.ranks.mine(k):
            continue
        exposed = pairs(block.user, block.item)
        waiting.append(("exposed", exposed, block.request))
        if config.stratify == 1:
            drawn = (pairs(block.user, item).take(np.flatnonzero(valid)) for item, valid in draws)
            waiting += [("negative", rows, None) for rows in drawn]
        if sum(len(rows) for _, rows, _ in waiting) >= AT_ONCE:
            yield from _scored(waiting, scorer, config.batch_size)
            waiting = []
        if config.stratify > 1:
            yield from _stratified(config, block, draws, teacher, scorer)
    if waiting:
        yield from _scored(waiting, scorer, config.batch_size)


def _scored(pairs_of: list[Unscored], scorer: Scorer, batch_size: int) -> Iterator[Scored]:
    logits = scorer.lists(Rows.concat([rows for _, rows, _ in pairs_of]), batch_size)
    ends = np.cumsum([len(rows) for _, rows, _ in pairs_of])
    for (source, rows, request), part in zip(pairs_of, np.split(logits, ends[:-1]), strict=True):
        yield source, rows, request, part


def _stratified(
    config: Scores, block: Block, draws: list[Draw], teacher: FrozenTeacher, scorer: Scorer
) -> Iterator[Scored]:
    """Of each row's draws the `negatives` whose pctcvr are spread evenly over theirs. The block is scored in parts, so
    that there are never more pairs in memory than are kept."""
    tasks = teacher.tasks.names
    for part in np.array_split(np.arange(len(block)), config.stratify):
        rows = [part[valid[part]] for _, valid in draws]
        drawn = [pairs(block.user, item, block.features).take(at) for at, (item, _) in zip(rows, draws, strict=True)]
        pool = Rows.concat(drawn)
        logits = scorer.lists(pool, config.batch_size)
        log_p = sum(teacher.no_context.calibration[t].log_prob(logits[:, tasks.index(t)]) for t in (CLICK, READ))
        kept = spread(np.asarray(log_p), np.concatenate(rows), config.negatives)
        yield "negative", pool.take(kept), None, logits[kept]


def _candidates(run: Run, day: Day, scorer: Scorer, active: Ints, retriever: Parent | None) -> Iterator[Scored]:
    for rows in candidates(run.config.scores, day, active, retriever, run.ranks):
        yield "candidate", rows, None, scorer.lists(rows, run.config.scores.batch_size)


def _facts(run: Run, teacher: Manifest) -> dict[str, object]:
    config = run.config.scores
    facts = {k: teacher.facts[k] for k in ("threshold_seconds", "calibrated", "sampling")}
    facts["calibration"] = teacher.facts["no_context"]["calibration"]
    draws = {name: getattr(config, name) for name in ("negatives", "stratify", "alpha", "candidates")}
    return facts | {"teacher": teacher.as_parent(), "draws": draws, "fusion": config.fusion}
