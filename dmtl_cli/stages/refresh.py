"""refresh: the newest student exported again, for a newer profile or newer side tables, without training."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.config.days import Moment, before
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.expressions import reads_clock
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.data.log.now import Now
from dmtl_cli.runs.run import Result, Run
from dmtl_cli.stages.export import export_student


def refresh(run: Run, day: dt.date | None = None, at: Moment | None = None) -> Result:
    """Publishes export/day=DAY of the newest student up to that day, and points LATEST at it.

    Args:
        day: the last day that what is served knows; default the newest that has a profile or a student.
        at: the moment as of which side tables are known; default that at which the day has ended.

    Raises:
        UserError: 2 no time tells what was there at a moment, or it is before the day has ended; 66 there is no student
            up to that day.
    """
    if at is not None and not _tells_moments(run.config):
        told = "version or until of data.users and data.items, nor NOW() in export.items"
        what = f"--as-of: no time tells what is there: the config has no {told}"
        raise UserError(what, "leave it out: the tables are read as they are", Exit.USAGE)
    known = [*run.ws.days("profile"), *run.ws.days("student")]
    if day is None and known:
        day = max(known)
    student = run.newest("student", before(day, -1)) if day else None
    if day is None or student is None:
        what = f"no published student{f' up to {day}' if day else ''} in {run.ws.root}"
        raise UserError(what, "run dmtl run first: a chain's second day has the first student", Exit.NO_INPUT)
    if at is not None and at.day <= day:
        raise UserError(f"--as-of: expected a moment after day {day}, got {at.clock:%Y-%m-%d %H:%M}", code=Exit.USAGE)
    return export_student(run, day, student, at, doubts=_of_another_log(run, day))


def _of_another_log(run: Run, day: dt.date) -> list[str]:
    """A line where the day's files are others than its profile was made of: `run` makes that again, `refresh` takes
    it."""
    if run.ws.current("profile", day) is None:
        return []
    path, manifest = run.parent("profile", day)
    if not Now(run.config.data, [day], conversions(run.config.workspace)).changed(manifest.inputs):
        return []
    run_again = f"run dmtl run --day {day}"
    return [f"{path}: the log of {day} has changed since this profile was made of it, and is not counted: {run_again}"]


def _tells_moments(config: Config) -> bool:
    """Whether what is there depends on the time of day at which it is asked."""
    tables = [table for table in (config.data.users, config.data.items) if table is not None]
    timed = any(table.until or (table.version and not table.version_only_orders) for table in tables)
    return timed or bool(config.export.condition and reads_clock(config.export.condition))
