"""run, backfill: a day's stages in order, and a chain of days. `compare` makes its settings' chains with them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

from dmtl_cli.config.errors import Exit, NotDue, UserError
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.data.log.reader import Log
from dmtl_cli.runs.run import Result, Run
from dmtl_cli.runs.workspace import CHAIN
from dmtl_cli.stages.build_profile import build_profile
from dmtl_cli.stages.dump_logits import dump_logits
from dmtl_cli.stages.evaluate import evaluate
from dmtl_cli.stages.report import report_run
from dmtl_cli.stages.train_student import train_student
from dmtl_cli.stages.train_teacher import train_teacher

Stages = frozenset[str]  # names of workspace.CHAIN
Ended = Callable[[dt.date, "list[Result] | UserError"], None]
ALL: Stages = frozenset(CHAIN)
MOST = 60.0  # seconds between two looks at a day that is not there


def await_day(run: Run, day: dt.date, seconds: float) -> None:
    """Returns when the log has the day, or after so many seconds: then `run_day` says what is not there. Looks again
    after half a second, one, two, ... a minute."""
    until, pause = time.monotonic() + seconds, 0.5
    log = Log(run.config.data, (), converted=conversions(run.config.workspace))
    while run.ranks.on_first(lambda: time.monotonic() < until and not log.has(day)):
        run.log.say(f"day {day} is not there yet")
        time.sleep(max(0, min(pause, until - time.monotonic())))
        pause = min(2 * pause, MOST)


def run_day(run: Run, day: dt.date) -> list[Result]:
    """Builds the day's profile, and those of days that were missed, which evaluation needs; measures on the day what
    was ready before it, then learns the day. Writes the day's page, of a refused day too."""
    try:
        results = build_profile(run, day)
        try:
            results.append(evaluate(run, day))
        except NotDue as e:
            run.log.say(f"evaluation {day}: not due, {e}")
        results += learn_day(run, day, ALL - {"profile"})
    except UserError as e:
        if e.code == Exit.REFUSED:
            report_run(run, day, again=True)
        raise
    report_run(run, day, again=not all(result.up_to_date for result in results))
    return results


def learn_day(run: Run, day: dt.date, stages: Stages = ALL) -> list[Result]:
    """Builds the day's profile, trains its teacher, dumps its scores and those of the teacher that the student learns
    from, trains and exports the student.

    A student that learns from scores is not due before there is a teacher old enough: by default not on the chain's
    first day.

    Args:
        stages: which of these to make; the others are found in the workspace.
    """
    results: list[Result] = []
    distill = run.config.student.distill
    if "profile" in stages:
        results += build_profile(run, day)
    if "teacher" in stages:
        results.append(train_teacher(run, day))
    youngest = day - dt.timedelta(days=distill.min_age_days)
    taught = run.ws.newest("teacher", youngest + dt.timedelta(days=1))
    if "scores" in stages:
        results.append(dump_logits(run, day))
        if taught is not None and taught != day and (day - taught).days <= distill.max_age_days:
            results.append(dump_logits(run, day, taught))
    if taught is None and distill.w_kd:
        run.log.say(f"student {day}: not due, it learns from a teacher of {youngest} or before, and there is none")
    elif "student" in stages:
        results += train_student(run, day)
    return results


def backfill(run: Run, days: list[dt.date], ended: Ended) -> list[Result]:
    """Runs each day in order, going on after a refused one.

    Args:
        ended: is told of each day as it ends what was made of it, or why it was refused.

    Raises:
        UserError: what stopped it; at the end, the first refusal (80).
    """
    results: list[Result] = []
    refused: UserError | None = None
    for day in days:
        try:
            made = run_day(run, day)
        except UserError as e:
            if e.code != Exit.REFUSED:
                raise
            run.log.say(e.line())
            ended(day, e)
            refused = refused or e
        else:
            ended(day, made)
            results += made
    if refused:
        raise refused
    return results
