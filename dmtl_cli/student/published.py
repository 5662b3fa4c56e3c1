"""Which published scores a student learns from."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.student import Distill, Way
from dmtl_cli.runs.run import Parent, Run

Found = dict[tuple[Way, dt.date], Parent]
"""published dumps by way and the day whose rows they are for"""


def choose_scores(run: Run, day: dt.date, scores_day: dt.date | None) -> dt.date:
    """The day of the teacher whose scores a student of `day` learns from: by default the newest whose scores are there
    for every way, else the newest that has any. A day that was stopped after its teacher, or whose scores were refused,
    has scores for one way alone.

    Raises:
        UserError: 66 there are none; 65 they are older than max_age_days or younger than min_age_days.
    """
    youngest, oldest = run.config.student.distill.min_age_days, run.config.student.distill.max_age_days
    teacher_day = scores_day
    if teacher_day is None:
        stored = [d for d in run.ws.days("teacher") if age(d, day) >= youngest and _stored(run, day, d)]
        if not stored:
            newest = day - dt.timedelta(days=youngest)
            hint = f"run dmtl dump-logits --day {newest} first"
            raise UserError(f"no stored scores of a teacher up to {newest} in {run.ws.root}", hint, Exit.NO_INPUT)
        complete = [d for d in stored if age(d, day) <= oldest and _complete(run, day, d)]
        teacher_day = (complete or stored)[-1]
    if not youngest <= age(teacher_day, day) <= oldest:
        what = f"scores of teacher {teacher_day}, student of {day}"
        hint = "dump fresher scores, or raise student.distill.max_age_days"
        if age(teacher_day, day) < youngest:
            hint = "a student learns from an earlier teacher: see student.distill.min_age_days"
        raise UserError(f"{what}: expected {youngest} to {oldest} days old, got {age(teacher_day, day)}", hint)
    return teacher_day


def _stored(run: Run, day: dt.date, teacher_day: dt.date) -> bool:
    return any(run.ws.current("scores", d, f"teacher={teacher_day}") for d in (teacher_day, day))


def _complete(run: Run, day: dt.date, teacher_day: dt.date) -> bool:
    ways = effective_ways(run.config.student.distill, day, teacher_day)
    return all(run.ws.current("scores", _scored_day(way, day, teacher_day), f"teacher={teacher_day}") for way in ways)


def _scored_day(way: Way, day: dt.date, teacher_day: dt.date) -> dt.date:
    """The day whose pairs the dump of a way is of."""
    return day if way == "rescore" else teacher_day


def find_scores(run: Run, day: dt.date, teacher_day: dt.date) -> Found:
    """The published dumps, by way and the day whose rows they are for. An absent one is logged and counts 0 rows.

    Raises:
        UserError: 66 there is none.
    """
    found: Found = {}
    for way in effective_ways(run.config.student.distill, day, teacher_day):
        scored = _scored_day(way, day, teacher_day)
        if run.ws.current("scores", scored, f"teacher={teacher_day}"):
            found[way, teacher_day if way == "replay" else day] = run.parent("scores", scored, f"teacher={teacher_day}")
        else:
            todo = f"dmtl dump-logits --day {scored} --teacher-day {teacher_day}"
            run.log.say(f"{way}: no scores of {scored} by teacher {teacher_day}, counts 0 ({todo})")
    if not found:
        hint = f"run dmtl dump-logits --day {teacher_day} and --day {day} --teacher-day {teacher_day}"
        raise UserError(f"no scores by teacher {teacher_day} for a student of {day}", hint, Exit.NO_INPUT)
    return found


def effective_ways(config: Distill, day: dt.date, teacher_day: dt.date | None) -> tuple[Way, ...]:
    """The ways by which a student of `day` learns from the scores of teacher `teacher_day`.

    A teacher of the student's own day has one dump of it, which every way reads: only the way that takes most of its
    pairs is used.
    """
    if teacher_day is None:
        return ()
    if teacher_day != day:
        return config.ways
    return (next(way for way in ("replay", "rescore", "match") if way in config.ways),)


def scores_facts(
    run: Run, day: dt.date, scores: Found, threshold_teacher: Parent | None
) -> tuple[float | None, dict[str, str] | None]:
    """(threshold, teacher) of the scores; without scores, the threshold of `threshold_teacher` and no teacher.

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
        teacher = facts[0]["teacher"]
        current = run.parent("teacher", dt.date.fromisoformat(teacher["day"]))[1].run_id
        if teacher["run_id"] != current:
            what = f"student of {day}: its scores are by run {teacher['run_id']} of teacher {teacher['day']}"
            hint = f"that teacher is now run {current}: run dmtl dump-logits --teacher-day {teacher['day']} again"
            raise UserError(what, hint)
        return facts[0]["threshold_seconds"], teacher
    hard = run.config.student.hard
    if threshold_teacher is None and hard.label == "long_read" and run.config.data.events.duration:
        what = "a long_read student without scores needs a teacher's threshold"
        raise UserError(what, f"run dmtl train-teacher on a day before {day}", Exit.NO_INPUT)
    return (threshold_teacher[1].facts["threshold_seconds"] if threshold_teacher else None), None


def age(scored: dt.date, day: dt.date) -> int:
    """Days between the teacher that scored and the day that learns from it."""
    return (day - scored).days
