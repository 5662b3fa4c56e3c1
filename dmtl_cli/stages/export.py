"""export: a stored student as the files that a server reads, with users and items as they are when a day has ended."""

from __future__ import annotations

import datetime as dt
from functools import partial

from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.student.build import stored_student
from dmtl_cli.student.export.files import write_export
from dmtl_cli.student.kappa import UNMEASURED


def export(run: Run, day: dt.date) -> Result:
    """Exports the stored student of a day.

    Raises:
        UserError: 66 there is no student of that day.
    """
    return export_student(run, day, run.parent("student", day, hint=f"run dmtl train-student --day {day}"))


def export_student(run: Run, day: dt.date, student: Parent) -> Result:
    """Exports a student with the users and items as they are when `day` has ended, and points LATEST at it.

    Raises:
        UserError: 66 the day's log or profile is not there.
    """
    log = Days(run, run.config.features_of("student"))
    inputs, parents = log.inputs_at_end(day), [student, *log.parents_at_end(day)]
    asked = run.config.student.exposure.kappa
    kappa = UNMEASURED if asked == "auto" else asked
    work, sections = partial(_export, day, log, student, kappa), run.sections("student")
    return run.publish("export", day, sections, inputs, parents, work, latest=True, shared=False)


def _export(day: dt.date, log: Days, parent: Parent, kappa: float, publication: Publication) -> Draft:
    folder, manifest = parent
    read = log.read_end(day, publication.tmp)
    encoder = Encoder.stored(folder, log.features)
    student = stored_student(folder, manifest, encoder)
    unknown = write_export(publication.path, student, encoder, read, kappa)
    facts = {name: manifest.facts[name] for name in ("teacher", "threshold_seconds", "predicts")}
    return Draft(
        rows={"items": len(read.items), "users": len(read.users)},
        metrics={"items.unknown_share": unknown},
        facts={"student": manifest.as_parent(), **facts},
    )
