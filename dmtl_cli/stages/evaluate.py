"""evaluate: on day D's log, what was ready before D: the newest teacher and the newest export."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.config.errors import NotDue
from dmtl_cli.data.log.reader import Log
from dmtl_cli.evaluate.rankers import (
    Exam,
    Popularity,
    Ranker,
    StudentRanker,
    TeacherRanker,
    fixed_rng,
    on_catalogue,
    on_rows,
    scored_by,
    truth_of,
)
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Parent, Result, Run


def evaluate(run: Run, day: dt.date, served: str = "export") -> Result:
    """Measures the newest teacher and student before the day, and what is popular.

    Args:
        served: the stage whose towers are measured; `joint` for the reference.

    Raises:
        NotDue: nothing was published before the day.
    """
    teacher, export = run.newest("teacher", day), run.newest(served, day)
    if teacher is None:
        raise NotDue(f"no teacher before {day}")
    taught_by = scored_by(run, export) if export else None
    log = Log(run.config.data, run.config.features)
    truth, truth_files = truth_of(run)
    inputs = log.inputs(day) + truth_files

    def work(publication: Publication) -> Draft:
        read = log.read(day, publication.tmp, run.ranks)
        threshold = (taught_by or teacher)[1].facts["threshold_seconds"]
        exam = Exam.of(run, read, threshold)
        rankers: dict[str, Ranker] = {"teacher": TeacherRanker(teacher, read, run)}
        if export:
            rankers["student"] = student = StudentRanker(export, read, run)
            rankers["popularity"] = Popularity(student.export.clicks, read)
        if taught_by:
            same = taught_by[1].run_id == teacher[1].run_id
            rankers["student_teacher"] = rankers["teacher"] if same else TeacherRanker(taught_by, read, run)
        numbers = on_rows(exam, rankers, fixed_rng("negatives", day))
        if export:
            fresh = StudentRanker(export, read, run, fresh=True)
            found = on_catalogue(exam, rankers | {"fresh": fresh}, truth, fixed_rng("random", day))
            numbers |= {_suffixed(k): v for k, v in found.items()}
        else:
            numbers |= on_catalogue(exam, rankers, truth, fixed_rng("random", day))
        if threshold is not None:
            numbers["threshold.seconds"] = threshold
        facts = {k: p[1].as_parent() for k, p in _named(teacher, export, taught_by).items()}
        rows = {"events": len(read), "users": len(exam.users), "items": len(read.items)}
        return Draft(rows=rows, metrics=numbers, facts=facts)

    parents = list(_named(teacher, export, taught_by).values())
    return run.publish("evaluation", day, run.sections("evaluate"), inputs, parents, work)


def _named(teacher: Parent, export: Parent | None, taught_by: Parent | None) -> dict[str, Parent]:
    named = {"teacher": teacher, "student": export, "student_teacher": taught_by}
    return {k: p for k, p in named.items() if p is not None}


def _suffixed(name: str) -> str:
    """`fresh.x` is the student over the day's own catalogue: student.x.fresh."""
    return f"student.{name.removeprefix('fresh.')}.fresh" if name.startswith("fresh.") else name
