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

    A student that learns from scores is not due where no teacher is min_age_days to max_age_days old: by default not on
    the chain's first day, and not on the first after a gap in the log that is longer.

    Args:
        stages: which of these to make; the others are found in the workspace.
    """
    results: list[Result] = []
    distill = run.config.student.distill
    if "profile" in stages:
        results += build_profile(run, day)
    if "teacher" in stages:
        results.append(train_teacher(run, day))
    teachers = distill.teachers(day, run.ws.days("teacher"))
    if "scores" in stages:
        results.append(dump_logits(run, day))
        results += _dump_older(run, day, teachers)
    if not teachers and distill.w_kd:
        oldest, youngest = (day - dt.timedelta(days=age) for age in (distill.max_age_days, distill.min_age_days))
        of = f"of {youngest}" if oldest == youngest else f"of {oldest} to {youngest}"
        run.log.say(f"student {day}: not due, it learns from a teacher {of}, and there is none")
    elif "student" in stages:
        results += train_student(run, day)
    return results


def _dump_older(run: Run, day: dt.date, teachers: list[dt.date]) -> list[Result]:
    """The scores of older teachers that a student of `day` lacks: the newest teacher's for the day, and where a way
    reads the teacher's own day and its run was stopped before it had dumped that, those too. A teacher whose scores of
    its own day were refused, or whose day the log no longer has, is passed over for the one before; where all are, the
    newest scores the day all the same, and floors say whether a student may learn from that alone."""
    if not teachers or teachers[-1] == day:
        return []
    replays = not {"replay", "match"}.isdisjoint(run.config.student.distill.ways)
    for taught in reversed(teachers):
        own = replays and run.ws.current("scores", taught, f"teacher={taught}") is None
        try:
            results = [dump_logits(run, taught)] if own else []
        except UserError as e:
            if e.code not in (Exit.REFUSED, Exit.NO_INPUT):
                raise
            run.log.say(f"student {day}: passes over teacher {taught}, which has no scores of its own day: {e.message}")
        else:
            return [*results, dump_logits(run, day, taught)]
    return [dump_logits(run, day, teachers[-1])]


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
