"""The daily chain: what `run` and `backfill` do, stage by stage."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.days import window
from dmtl_cli.errors import Exit, NotDue, UserError
from dmtl_cli.run import Result, Run
from dmtl_cli.stages.dump_logits import dump_logits
from dmtl_cli.stages.evaluate import evaluate
from dmtl_cli.stages.train_student import train_student
from dmtl_cli.stages.train_teacher import train_teacher


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
    # the first student of a chain learns from as many scored days as it is told to
    scored = window(day, run.config.student.first_window_days) if before is None else [day]
    results += [dump_logits(run, d, day) for d in scored]
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
