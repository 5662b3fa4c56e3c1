"""The daily chain: what `run` and `backfill` do, stage by stage."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Literal

from dmtl_cli.errors import Exit, NotDue, UserError
from dmtl_cli.run import Parent, Result, Run
from dmtl_cli.stages.compare import compare as compare_exports
from dmtl_cli.stages.dump_logits import dump_logits
from dmtl_cli.stages.evaluate import evaluate
from dmtl_cli.stages.train_student import train_student
from dmtl_cli.stages.train_teacher import train_teacher

BASELINES: dict[str, Literal["click", "long_read"]] = {"click_only": "click", "long_read_only": "long_read"}


def run_day(run: Run, day: dt.date) -> list[Result]:
    """Evaluation of what was ready before the day; its teacher; scores by it and by the one before; its student.

    What lacks a predecessor on the chain's first day is not due.
    """
    results: list[Result] = []
    try:
        results.append(evaluate(run, day))
    except NotDue as e:
        run.log.say(f"evaluation {day}: not due, {e}")
    before = run.ws.newest("teacher", day)
    results.append(train_teacher(run, day))
    results.append(dump_logits(run, day))
    if before is None:
        run.log.say(f"student {day}: not due, there is no teacher before {day}")
        return results
    if (day - before).days <= run.config.student.distill.max_age_days:
        results.append(dump_logits(run, day, before))
    return [*results, *train_student(run, day)]


def backfill(run: Run, days: list[dt.date]) -> list[Result]:
    """`run_day` for each day in order, going on after a refused one. Raises the first refusal at the end."""
    results: list[Result] = []
    refused: UserError | None = None
    for day in days:
        try:
            results += run_day(run, day)
        except UserError as e:
            if e.code != Exit.REFUSED:
                raise
            run.log.say(e.line())
            refused = refused or e
    if refused:
        raise refused
    return results


def compare(run: Run, day: dt.date) -> Result:
    """The student beside its baselines.

    A baseline is a student that never sees a teacher's scores: the same code and settings, only the loss differs. It
    learns the labels of every day since the chain began, day by day, and is published below compare/, so that what is
    done is not done again.
    """
    exports: dict[str, Parent] = {}
    for name, label in BASELINES.items():
        student = run.config.student
        hard = student.hard.model_copy(update={"w_hard": 1.0, "label": label})
        plain = student.model_copy(update={"distill": student.distill.model_copy(update={"w_kd": 0.0}), "hard": hard})
        alone = replace(run, config=run.config.model_copy(update={"student": plain}))
        for learned in [d for d in run.ws.days("teacher") if d < day]:
            train_student(alone, learned, stage=f"compare/{name}/student")
        if (newest := run.newest(f"compare/{name}/export", day)) is not None:
            exports[name] = newest
    return compare_exports(run, day, exports)
