"""evaluate: on day D's log, what was ready before D: the newest teacher and the newest export."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from dmtl_cli.config.errors import NotDue
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.log.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.evaluate.exam import Exam
from dmtl_cli.evaluate.on_catalogue import FRESH, on_catalogue
from dmtl_cli.evaluate.on_rows import on_rows
from dmtl_cli.evaluate.rankers import Popularity, Ranker, StudentRanker, TeacherRanker
from dmtl_cli.evaluate.truth import Truth, load_truth
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Parent, Result, Run


def evaluate(run: Run, day: dt.date, served: str = "export") -> Result:
    """Measures the newest teacher and student before the day, and what is popular.

    Args:
        served: the stage whose towers are measured; `joint` for the reference.

    Raises:
        NotDue: nothing was published before the day.
    """
    models = _newest(run, day, served)
    truth, truth_files = load_truth(run.config.data.truth)
    log = Log(run.config.data, run.config.features)
    inputs = log.inputs(day) + truth_files

    def work(publication: Publication) -> Draft:
        return _measure(run, log.read(day, publication.tmp, run.ranks), models, truth)

    return run.publish("evaluation", day, run.sections("evaluate"), inputs, list(models.named().values()), work)


@dataclass(frozen=True)
class _Models:
    teacher: Parent
    student: Parent | None
    student_teacher: Parent | None
    """the very teacher that scored the student; None for a student that saw no scores"""

    def named(self) -> dict[str, Parent]:
        """Those that there are."""
        named = {"teacher": self.teacher, "student": self.student, "student_teacher": self.student_teacher}
        return {name: parent for name, parent in named.items() if parent is not None}


def _newest(run: Run, day: dt.date, served: str) -> _Models:
    teacher, student = run.newest("teacher", day), run.newest(served, day)
    if teacher is None:
        raise NotDue(f"no teacher before {day}")
    if student is None or (taught := student[1].facts["teacher"]) is None:
        return _Models(teacher, student, None)
    scorer = run.parent("teacher", dt.date.fromisoformat(taught["day"]), run_id=taught["run_id"])
    return _Models(teacher, student, scorer)


def _measure(run: Run, day: Day, models: _Models, truth: Truth | None) -> Draft:
    facts = (models.student_teacher or models.teacher)[1].facts
    threshold, exposures = facts["threshold_seconds"], run.config.data.events.click is not None
    exam = Exam.draw(day, threshold, Tasks.named(facts["tasks"]), exposures, run.config.evaluate)
    rankers = _rankers(run, day, models)
    numbers = on_rows(exam, rankers)
    fresh = {FRESH: StudentRanker(models.student, day, run, fresh=True)} if models.student else {}
    numbers |= on_catalogue(exam, rankers | fresh, truth)
    if threshold is not None:
        numbers["threshold.seconds"] = threshold
    rows = {"events": len(day), "users": len(exam.users), "items": len(day.items)}
    return Draft(rows, numbers, {name: manifest.as_parent() for name, (_, manifest) in models.named().items()})


def _rankers(run: Run, day: Day, models: _Models) -> dict[str, Ranker]:
    rankers: dict[str, Ranker] = {"teacher": TeacherRanker(models.teacher, day, run)}
    if models.student:
        rankers["student"] = student = StudentRanker(models.student, day, run)
        rankers["popularity"] = Popularity(student.export.clicks, day)
    if models.student_teacher:
        same = models.student_teacher[1].run_id == models.teacher[1].run_id
        rankers["student_teacher"] = rankers["teacher"] if same else TeacherRanker(models.student_teacher, day, run)
    return rankers
