"""refresh: the newest student exported again, for a newer profile or newer side tables, without training."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.config.days import before
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.run import Result, Run
from dmtl_cli.stages.export import export_student


def refresh(run: Run, day: dt.date | None = None) -> Result:
    """Publishes export/day=DAY of the newest student up to that day, and points LATEST at it.

    Args:
        day: the last day that what is served knows; default the newest that has a profile or a student.

    Raises:
        UserError: 66 there is no student up to that day.
    """
    known = [*run.ws.days("profile"), *run.ws.days("student")]
    if day is None and known:
        day = max(known)
    student = run.newest("student", before(day, -1)) if day else None
    if day is None or student is None:
        what = f"no published student{f' up to {day}' if day else ''} in {run.ws.root}"
        raise UserError(what, "run dmtl train-student first", Exit.NO_INPUT)
    return export_student(run, day, student)
