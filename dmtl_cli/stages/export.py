"""export: a stored student of a day as the files that a server reads."""

from __future__ import annotations

import datetime as dt
from functools import partial

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.reader import Log
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.student.build import stored_student
from dmtl_cli.student.export.files import write_export
from dmtl_cli.student.kappa import UNMEASURED


def export(run: Run, day: dt.date) -> Result:
    """Exports the stored student of a day with the catalogue and the users of that day, and points LATEST at it.

    Raises:
        UserError: 66 there is no student of that day.
    """
    student = run.parent("student", day, hint=f"run dmtl train-student --day {day}")
    log = Log(run.config.data, run.config.features_of("student"))
    inputs = log.inputs(day)
    asked = run.config.student.exposure.kappa
    kappa = UNMEASURED if asked == "auto" else asked
    work, sections = partial(_export, day, log, student, kappa), run.sections("student")
    return run.publish("export", day, sections, inputs, [student], work, latest=True, shared=False)


def _export(day: dt.date, log: Log, parent: Parent, kappa: float, publication: Publication) -> Draft:
    folder, manifest = parent
    read = log.read(day, publication.tmp)
    encoder = Encoder.stored(folder, log.features)
    student = stored_student(folder, manifest, encoder)
    unknown = write_export(publication.path, student, encoder, read, kappa)
    facts = {name: manifest.facts[name] for name in ("teacher", "threshold_seconds", "predicts")}
    return Draft(
        rows={"items": len(read.items), "users": len(read.users)},
        metrics={"items.unknown_share": unknown},
        facts={"student": manifest.as_parent(), **facts},
    )
