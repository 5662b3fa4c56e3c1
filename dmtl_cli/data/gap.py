"""A chain has no holes by accident: a day of the log that was forgotten stops the days after it."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.config.days import before, between
from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.data.log.reader import Log
from dmtl_cli.runs.run import Run


def refuse_gap(run: Run, day: dt.date) -> None:
    """Looks at the days between the newest teacher before `day` and `day`; a chain that has no teacher yet has no gap.

    A day that the log lacks is no gap, nor one that a gate refused.

    Raises:
        UserError: 65 one of them lies in the log and was not run; what `Log.find` raises of these days and of `day`.
    """
    newest, log = run.ws.newest("teacher", day), Log(run.config.data, (), converted=conversions(run.config.workspace))
    if newest is None or before(day) == newest:
        return
    log.find(day)  # 66 for a day that is not there, however far it is from the chain
    for d in between(before(newest, -1), before(day)):
        if log.has(d) and not run.ws.refused(d):
            hint = f"run dmtl run --day {d} first, or give --allow-gap"
            raise UserError(f"day {d} of the log is not in the workspace", hint)
