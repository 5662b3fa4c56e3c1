"""dump-logits: a frozen teacher scores a day's exposed pairs, drawn negatives and candidates, stored as Parquet."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.schema import Scores
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.sizes import BLOCK
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.scores.table import Chunks, Writer, probabilities, score_columns
from dmtl_cli.serving.export import Export, best_k, top_k
from dmtl_cli.teacher.frozen import FrozenTeacher

Ints = npt.NDArray[np.int64]


def dump_logits(run: Run, day: dt.date, teacher_day: dt.date | None = None) -> Result:
    config = run.config.scores
    teacher_day = teacher_day or day
    parent = run.parent("teacher", teacher_day, hint=f"run dmtl train-teacher --day {teacher_day}")
    retriever = run.newest("export", day) if config.candidates and config.candidate_source != "popularity" else None
    log = Log(run.config.data, run.config.features if retriever else run.config.features_of("teacher"))
    inputs = log.inputs(day)

    def work(publication: Publication) -> Draft:
        read = log.read(day, publication.tmp, run.ranks)
        if retriever:
            Encoder.stored(retriever[0], run.config.features_of("student"))  # its features must be the config's
        teacher = FrozenTeacher(*parent, run.device, run.config)
        scorer = teacher.on(read)
        negatives = Negatives(read, config.alpha)
        rng = run.rng("scores", day, teacher_day)
        writer = Writer(publication.tmp, read, score_columns(teacher.tasks, fused=bool(config.fusion)))
        active = np.flatnonzero(read.user_events > 0)
        total = len(read) * (1 + config.negatives) + len(active) * config.candidates
        ranks = run.ranks  # each scores its share of the blocks; the pairs are the same whatever their number
        with run.log.progress(f"scores {day}", total // ranks.size) as progress:

            def add(source: str, rows: Rows, logits: npt.NDArray[np.float32]) -> None:
                by_task = dict(zip(teacher.tasks, logits.T, strict=True))
                writer.add(rows, source, probabilities(by_task, teacher.calibration, config.fusion))
                progress.step(len(rows))

            for k, block in enumerate(read.blocks()):
                user, item = block.user.astype(np.int64), block.item.astype(np.int64)
                draws = [negatives.draw(user, rng) for _ in range(config.negatives)]
                if not ranks.mine(k):
                    continue
                parts = [("exposed", Rows(user, item, {"request": block.request}, block.features))]
                for drawn, valid in draws:
                    beside = Rows(user, drawn, {}, block.features).take(np.flatnonzero(valid))
                    parts.append(("negative", beside))
                # scored at once, as they share their users
                whole = Rows.concat([Rows(rows.user, rows.item, {}, rows.features) for _, rows in parts])
                logits = scorer.pairs(whole, config.batch_size)
                for (source, rows), end in zip(
                    parts, itertools.accumulate(len(rows) for _, rows in parts), strict=True
                ):
                    add(source, rows, logits[end - len(rows) : end])
            for rows in candidates(config, read, active, retriever, ranks):
                add("candidate", rows, scorer.lists(rows, config.batch_size))
        writer.chunks = Chunks.sum(ranks.gather_objects(writer.chunks))
        if ranks.first:
            writer.finish(publication.path)
        facts = {k: parent[1].facts[k] for k in ("threshold_seconds", "calibrated", "calibration", "sampling")}
        facts["teacher"] = parent[1].as_parent()
        facts["draws"] = {"negatives": config.negatives, "alpha": config.alpha, "candidates": config.candidates}
        facts["fusion"] = config.fusion
        counts = {"scores": writer.chunks.rows, **writer.chunks.sources}
        return Draft(rows=counts, metrics={f"rows.{k}": float(v) for k, v in counts.items()}, facts=facts)

    parents = [parent, *([retriever] if retriever else [])]
    return run.publish(
        "scores", day, run.sections("teacher", "scores"), inputs, parents, work, sub=f"teacher={teacher_day}"
    )


def candidates(
    config: Scores, day: Day, active: Ints, retriever: Parent | None, ranks: Ranks = ALONE
) -> Iterator[Rows]:
    """For each active user the top items of the recall source, some users at a time, user by user; a rank's share.

    The student retrieves from the day's own catalogue; without an export before the day popularity stands in.
    """
    if not config.candidates:
        return
    popular = best_k(day.item_clicks[None], config.candidates)[0]
    if retriever is not None:
        export = Export(retriever[0])
        items = export.vectors(day.items, "item")
    step = max(1, BLOCK // config.candidates)
    for k, start in enumerate(range(0, len(active), step)):
        if not ranks.mine(k):
            continue
        users = active[start : start + step]
        found = np.tile(popular, (len(users), 1))
        if retriever is not None:
            own = config.candidates if config.candidate_source == "student" else -(-config.candidates // 2)
            top = top_k(export.vectors(day.users[users], "user"), items, own)[0]
            found = np.concatenate([top, found[:, : config.candidates - own]], 1)
        pairs = np.unique((users[:, None] * len(day.items) + found).ravel())  # of two sources an item may come twice
        user, item = np.divmod(pairs, len(day.items))
        yield Rows(user, item, {})
