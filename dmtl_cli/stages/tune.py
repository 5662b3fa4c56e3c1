"""tune: what a chain's first window decides where the config does not. Every other stage reads its choices."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import partial
from pathlib import Path

from dmtl_cli.data.days import Days
from dmtl_cli.data.threshold import long_read_threshold
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.progress import Progress
from dmtl_cli.runs.ranks import ALONE
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.tune.carried import STAGE
from dmtl_cli.tune.choices import LARGER, SHAPES, Choice, Value, chosen, student_rounds, teacher_rounds
from dmtl_cli.tune.cut import Cut
from dmtl_cli.tune.rounds import Plan, Rounds
from dmtl_cli.tune.student import StudentTrials
from dmtl_cli.tune.teacher import TeacherTrials

LEAST = 400_000
"""rows that trials may always learn: under a minute"""
WORTH, FAR = 1e-3, 1e-2
"""differences of a teacher's log loss, and of a student's distance, that are worth nothing"""
OF_TEACHERS = 3 / 4
"""of the budget; the rest are rows of students, each with its drawn pairs"""


def begin_chain(run: Run, day: dt.date) -> None:
    """Makes the trials of a chain that begins with `day`, unless they are published; of another day nothing.

    A chain that began without trials goes on without, and a setting of `compare` has those of its base.

    Raises:
        UserError: as `tune` does.
    """
    begun = run.ws.newest("teacher", day) is not None or run.ws.newest(STAGE, day) is not None
    if run.config.auto.budget and not begun and STAGE not in run.ws.shared:
        tune(run, day)


def tune(run: Run, day: dt.date) -> Result:
    """Publishes the choices of the first window that ends with `day`.

    Raises:
        UserError: 65, 66 what `Days.read` raises; 65 no row is a click or a long read.
    """
    log = Days(run, run.config.features, timed=True)
    days = log.first_window(day)
    profiles = log.parents(days)
    carried = _shapes(run, day)
    config = run.sections("teacher", "scores", "student", "auto") | {"carried": carried}
    work = partial(_tune, run, log, log.with_profile(days), profiles, carried)
    return run.publish(STAGE, day, config, log.inputs(days), profiles, work, shared=False)


def _shapes(run: Run, day: dt.date) -> Choice:
    """What a running chain chose of the keys that shape its models; nothing at its beginning."""
    if run.ws.newest("teacher", day) is None:
        return {}
    newest = run.ws.newest(STAGE, day)
    choices: Choice = run.parent(STAGE, newest)[1].facts["chosen"] if newest else {}
    return {key: choices[key] for key in SHAPES if key in choices}


def _tune(
    run: Run, log: Days, days: list[dt.date], profiles: list[Parent], carried: Choice, publication: Publication
) -> Draft:
    run = replace(run, ranks=ALONE, config=chosen(run.config, carried))
    read = [log.read(d, publication.tmp) for d in days]
    threshold = long_read_threshold(run.config, read, next(iter(profiles), None))
    rows = sum(map(len, read))
    cut, budget = Cut.of(read), max(LEAST, run.config.auto.budget * rows)
    rounds = Rounds(run.config, dict(carried))
    with run.log.progress(f"trials {days[-1]}") as progress:
        teachers = TeacherTrials(run, read, threshold, cut, progress)
        if teachers.can_be_measured:
            size = LARGER * run.config.teacher.rows_a_step(teachers.rows)
            plan = Plan(teachers.rows, budget * OF_TEACHERS, WORTH)
            rounds.search("teacher", teacher_rounds(size), teachers.losses, teachers.measured.user, plan)
            if run.config.student.distill.w_kd:
                _students(replace(run, config=rounds.best), teachers, rounds, budget * (1 - OF_TEACHERS), progress)
    facts = {"chosen": rounds.choice, "tried": rounds.tried, "measured_on": cut.by, "days": [str(d) for d in days]}
    return Draft(rows={"window": rows, "learned": progress.rows}, metrics={}, facts=facts)


def _students(run: Run, teachers: TeacherTrials, rounds: Rounds, budget: float, progress: Progress) -> None:
    """Searches students of the teacher that was chosen."""
    config = rounds.best
    model, batcher = teachers.trained(config)
    calibration = teachers.calibration(model, batcher)
    students = StudentTrials(run, teachers.days, teachers.cut, model, batcher, calibration, progress)
    plan = Plan(students.rows, budget * (1 + config.scores.negatives), FAR)
    rounds.search("student", student_rounds(), students.losses, students.measured.user, plan)


def table(folder: Path) -> str:
    """What was tried, and what was chosen, as text."""
    facts = Manifest.read(folder / MANIFEST).facts
    lines = [f"measured on the late part of {facts['days'][0]} .. {facts['days'][-1]}, cut by {facts['measured_on']}"]
    for trial in facts["tried"]:
        values = {k: v for k, v in trial.items() if "." in k}
        shown = ", ".join(f"{k.partition('.')[2]} {_word(v)}" for k, v in values.items()) or "as it is"
        loss = "diverged" if trial["loss"] is None else f"{trial['loss']:.5f}"
        mark = "*" if trial["taken"] else " "
        line = f"{mark} {trial['model']:8}{shown:56}users {trial['users']:6.1%}  epochs {trial['epochs']}  loss {loss}"
        lines.append(line)
    chosen = ", ".join(f"{k}: {_word(v)}" for k, v in facts["chosen"].items()) or "nothing: every key is written"
    return "\n".join([*lines, f"chosen: {chosen}"])


def _word(value: Value) -> str:
    return "by rule" if value is None else f"{value:g}"
