"""tune: what a chain's first window decides where the config does not. Every other stage reads its choices."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import partial

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.evaluate import reads_of
from dmtl_cli.data.days import Days
from dmtl_cli.data.threshold import long_read_threshold
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.progress import Progress
from dmtl_cli.runs.ranks import ALONE
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.tune.carried import STAGE, taken_over
from dmtl_cli.tune.choices import LARGER, MIN_COUNT, SHAPES, Choice, chosen, free, student_rounds, teacher_rounds
from dmtl_cli.tune.cut import Cut
from dmtl_cli.tune.plan import rows_of_trials
from dmtl_cli.tune.rounds import Plan, Rounds
from dmtl_cli.tune.student import StudentTrials
from dmtl_cli.tune.table import span
from dmtl_cli.tune.teacher import TeacherTrials, rows_an_epoch


def begin_chain(run: Run, day: dt.date) -> None:
    """Makes the trials of a chain that begins with `day`, unless they are published; of another day nothing.

    A chain that began without trials goes on without, and a setting of `compare` has those of its base.

    Raises:
        UserError: as `tune` does.
    """
    if run.config.auto.budget and STAGE not in run.ws.shared and run.ranks.on_first(lambda: _begins(run, day)):
        tune(run, day)


def _begins(run: Run, day: dt.date) -> bool:
    """Whether trials are due: a chain begins with `day`, and not with choices that the user has written into the config
    since, as `dmtl tune --write` does. A frozen chain that has no trials began without."""
    if run.ws.newest("teacher", day) is not None or run.ws.newest(STAGE, day) is not None:
        return False
    if run.ws.current(STAGE, day) is None:
        return not run.frozen
    choices: Choice = run.parent(STAGE, day)[1].facts["chosen"]
    return not taken_over(run.config, choices)


def tune(run: Run, day: dt.date) -> Result:
    """Publishes the choices of the first window that ends with `day`.

    Raises:
        UserError: 78 there is no budget; 65, 66 what `Days.read` raises; 65 no row is a click or a long read.
    """
    if not run.config.auto.budget:
        raise UserError("auto.budget is 0: no trials, and no stage reads any", "set auto.budget above 0", Exit.CONFIG)
    log = Days(run, run.config.features, timed=True)
    days = log.first_window(day)
    before, profiles = run.newest("teacher", day), log.parents(days)
    carried = _shapes(run, day) if before else {}
    config = run.sections("teacher", "scores", "student", "auto") | {"carried": carried}
    parents = [p for p in (before, *profiles) if p]
    work = partial(_tune, run, log, log.with_profile(days), next(iter(parents), None), carried)
    return run.publish(STAGE, day, config, log.inputs(days), parents, work, shared=False)


def _shapes(run: Run, day: dt.date) -> Choice:
    """The keys that shape a running chain's models and cannot change, as the log decided them."""
    newest = run.newest(STAGE, day) if run.config.auto.budget else None
    choices: Choice = newest[1].facts["chosen"] if newest else {}
    made: Choice = {MIN_COUNT: 1} | {key: choices[key] for key in SHAPES if key in choices}
    return {key: value for key, value in made.items() if free(run.config, key)}


def _tune(
    run: Run, log: Days, days: list[dt.date], before: Parent | None, carried: Choice, publication: Publication
) -> Draft:
    run = replace(run, ranks=ALONE, config=chosen(run.config, carried))
    read = [log.read(d, publication.tmp) for d in days]
    threshold = long_read_threshold(run.config, read, before)
    window, cut = sum(map(len, read)), Cut.of(read)
    rounds = Rounds(run.config, dict(carried))
    learned = rows_of_trials(run.config, window, cut.rows, rows_an_epoch(read, run.config.teacher, cut))
    with run.log.progress(f"trials {days[-1]}", learned) as progress:
        teachers = TeacherTrials(run, read, threshold, cut, progress)
        measurable = teachers.can_be_measured
        if measurable:
            size = LARGER * run.config.teacher.rows_a_step(teachers.rows)
            plan = Plan.of(run.config, "teacher", window, teachers.rows)
            rounds.search("teacher", teacher_rounds(size), teachers.losses, cut.users[teachers.measured.user], plan)
            if run.config.student.distill.w_kd:
                _students(replace(run, config=rounds.best), teachers, rounds, window, progress)
    facts = {"chosen": rounds.choice, "tried": rounds.tried, "measured_on": cut.by, "days": [str(d) for d in days]}
    doubts = [] if measurable else [_nothing_to_measure(days, reads_of(run.sections()))]
    return Draft({"window": window, "learned": progress.rows}, {}, facts, warnings=doubts)


def _nothing_to_measure(days: list[dt.date], reads: str) -> str:
    what = f"the late part of {span(days)} has no clicks, or no {reads}, to measure trials by"
    return f"{what}, or the early part no rows: every key has its default; dmtl tune of a later day tries again"


def _students(run: Run, teachers: TeacherTrials, rounds: Rounds, window: int, progress: Progress) -> None:
    """Searches students of the teacher that was chosen."""
    config = rounds.best
    model, batcher = teachers.trained(config)
    finish = teachers.finish(config, model, batcher)
    students = StudentTrials(run, teachers.days, teachers.cut, model, batcher, finish, progress)
    plan = Plan.of(run.config, "student", window, students.rows)
    users = teachers.cut.users[students.measured.user]
    rounds.search("student", student_rounds(), students.losses, users, plan)
