"""dump-logits: a frozen teacher scores a day's exposed pairs and drawn negatives, stored as Parquet."""

from __future__ import annotations

import datetime as dt

import numpy as np

from dmtl_cli.artifact import Publication
from dmtl_cli.data.log import Log
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.samples import Rows
from dmtl_cli.data.scores import Writer, probabilities
from dmtl_cli.run import Draft, Result, Run
from dmtl_cli.scoring import FrozenTeacher


def dump_logits(run: Run, day: dt.date, teacher_day: dt.date | None = None) -> Result:
    config = run.config.scores
    teacher_day = teacher_day or day
    parent = run.parent("teacher", teacher_day, hint=f"run dmtl train-teacher --day {teacher_day}")
    log = Log(run.config.data, run.config.features_of("teacher"))
    inputs = log.inputs(day)

    def work(publication: Publication) -> Draft:
        read = log.read(day, publication.tmp)
        teacher = FrozenTeacher(*parent, run.device, log.features)
        scorer = teacher.on(read)
        negatives = Negatives(read, config.alpha)
        rng = run.rng("scores", day, teacher_day)
        writer = Writer(publication.tmp, read)
        with run.log.progress(f"scores {day}", len(read) * (1 + config.negatives)) as progress:
            for block in read.blocks():
                user, item = block.user.astype(np.int64), block.item.astype(np.int64)
                exposed = Rows(user, item, {"request": block.request}, block.features)
                draws = [("exposed", exposed)]
                for _ in range(config.negatives):
                    drawn, valid = negatives.draw(user, rng)
                    beside = Rows(user, drawn, exposed.columns, block.features)
                    draws.append(("negative", beside.take(np.flatnonzero(valid))))
                for source, rows in draws:
                    scores = probabilities(scorer.pairs(rows, config.batch_size), teacher.calibration)
                    writer.add(rows, source, scores)
                    progress.step(len(rows))
        writer.finish(publication.path)
        facts = {k: parent[1].facts[k] for k in ("threshold_seconds", "calibrated", "calibration", "sampling")}
        facts["teacher"] = parent[1].as_parent()
        facts["draws"] = {"negatives": config.negatives, "alpha": config.alpha}
        counts = {"scores": writer.rows, **writer.sources}
        return Draft(rows=counts, metrics={f"rows.{k}": float(v) for k, v in counts.items()}, facts=facts)

    return run.publish(
        "scores", day, run.sections("teacher", "scores"), inputs, [parent], work, sub=f"teacher={teacher_day}"
    )
