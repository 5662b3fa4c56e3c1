"""What a teacher that learned rows by heart needs: never another value than the one that trials chose."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.config.commands import CONFIG
from dmtl_cli.runs.run import Run
from dmtl_cli.tune.carried import decided

_RATE, _BATCH = "teacher.embedding_learning_rate", "teacher.batch_size"


def chose_steps(run: Run, day: dt.date) -> bool:
    """Whether trials chose larger batches of the teacher, and so fewer steps. Raises as `slower`."""
    return decided(run, day)[1].get(_BATCH) is not None


def slower(run: Run, day: dt.date) -> str:
    """What to do about the teacher of a day that learned too fast; trials of that very day are not made again.

    Raises:
        UserError: 65 what trials chose is damaged.
    """
    newest, chosen = decided(run, day)
    again = None if newest == day else f"dmtl tune {CONFIG} --day {day}"
    if _RATE not in chosen:
        return f"it overfits; lower {_RATE} or epochs" + (f", or {again}" if again else "")
    chose = "trials of that day chose its settings: there is nothing to set, the days to come bring more rows"
    return f"where that stays so, {again} tries its values anew" if again else chose
