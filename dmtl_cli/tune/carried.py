"""What a chain's log decided, as every stage reads it."""

from __future__ import annotations

import datetime as dt
import operator
from dataclasses import replace

from dmtl_cli.config.days import before
from dmtl_cli.config.schema import Config
from dmtl_cli.runs.run import Run
from dmtl_cli.tune.choices import Choice, chosen, written

STAGE = "tune"


def decided(run: Run, day: dt.date) -> tuple[dt.date | None, Choice]:
    """The day of the newest trials up to one, and what they chose; None, and nothing, where there were none. Raises
    UserError 65: it is damaged."""
    newest = run.ws.newest(STAGE, before(day, -1)) if run.config.auto.budget else None
    return newest, {} if newest is None else run.parent(STAGE, newest)[1].facts["chosen"]


def tuned(run: Run, day: dt.date) -> Run:
    """The run with what the log decided up to `day` in place of what its config does not write; as it is where there
    were no trials.

    Raises:
        UserError: 65 what was decided is damaged.
    """
    newest, choices = decided(run, day)
    return run if newest is None else replace(run, config=chosen(run.config, choices))


def taken_over(config: Config, choices: Choice) -> bool:
    """Whether the user has written choices into the config, and no other values for what was chosen."""
    same = [(operator.attrgetter(key)(config), value) for key, value in choices.items() if written(config, key)]
    return bool(same) and all(one == other for one, other in same)
