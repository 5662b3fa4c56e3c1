"""What a run of a day would do about what the log decides, and what its trials cost."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from dmtl_cli.config.days import before, window
from dmtl_cli.config.schema import Config
from dmtl_cli.data.first_window import first_window
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.runs.manifest import verify
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.teacher.rows import rows_per_epoch
from dmtl_cli.tune.carried import STAGE
from dmtl_cli.tune.choices import MIN_COUNT, Choice, Round, Value, free, student_rounds, teacher_rounds, written
from dmtl_cli.tune.cut import LEARNED
from dmtl_cli.tune.rounds import LEAST, Plan, Rounds
from dmtl_cli.tune.search import TYPICAL
from dmtl_cli.tune.student import kept_pairs
from dmtl_cli.tune.table import aligned, span, word

_LEARNED = 1.8
"""times the planned rows that a trial learns which chooses its epochs: from 1.3 to 2.3 on nine logs of 600 to 300,000
rows, as it goes on until an epoch makes it worse"""
SECONDS_A_STEP = 0.01
"""beside its products, most of what a step of few rows takes: a guess, and shown as one"""


def rows_of_trials(config: Config, window: int, learned: int, epoch: int) -> int:
    """Rows that all trials learn, about.

    Args:
        window: events of the first window.
        learned: those of its early part.
        epoch: rows that a teacher learns of these in an epoch.
    """
    rounds = Rounds(config)
    rows = rounds.expected("teacher", teacher_rounds(1), Plan.of(config, "teacher", window, epoch))
    rows *= _more(config, "teacher")
    if config.student.distill.w_kd:
        rows += epoch * (TYPICAL if free(config, "teacher.epochs") else config.teacher.epochs)  # the students' teacher
        plan = Plan.of(config, "student", window, kept_pairs(config, learned))
        rows += rounds.expected("student", student_rounds(), plan) * _more(config, "student")
    return round(rows)


def epochs_of(config: Config) -> float:
    """Of a teacher, about."""
    chosen = config.auto.budget and free(config, "teacher.epochs")
    return TYPICAL if chosen else config.teacher.epochs


def _more(config: Config, who: str) -> float:
    return _LEARNED if free(config, f"{who}.epochs") else 1.0


def plan(config: Config, ws: Workspace, log: Log, read: Day, seconds_a_row: float) -> dict[str, Any]:
    """What a run of a day would learn and choose.

    Args:
        read: the day.
        seconds_a_row: that a teacher learns.

    Raises:
        UserError: 66 the log lacks a day that the teacher would learn; 65 what was chosen is damaged.
    """
    day = read.day
    teacher = ws.newest("teacher", day)
    days = window(day, config.teacher.window_days) if teacher else first_window(config, log, day)
    tuned = ws.newest(STAGE, before(day, -1)) if config.auto.budget else None
    begins = teacher is None and tuned is None and config.auto.budget > 0
    found: dict[str, Any] = {
        "teacher_before": str(teacher) if teacher else None,
        "days": [str(d) for d in days],
        "keys": _keys(config, _Source(begins, tuned, _choices(ws, tuned))),
        "trials": None,
    }
    if begins:
        rows = sum(map(log.rows, days))
        learned = round(rows * LEARNED)
        epoch = round(rows_per_epoch([read], config.teacher) * learned / max(1, len(read)))
        trials = rows_of_trials(config, rows, learned, epoch)
        seconds = trials * (seconds_a_row + SECONDS_A_STEP / config.teacher.rows_a_step(epoch))
        least = config.auto.budget * rows <= LEAST
        found["trials"] = {"rows": trials, "minutes": round(seconds / 60, 1), "least": least}
    return found


@dataclass(frozen=True)
class _Source:
    """Where the value of a key that is not written comes from."""

    to_be_chosen: bool
    day: dt.date | None
    """of the trials"""
    choices: Choice

    def of(self, key: str, default: Value) -> tuple[Value, str]:
        if key in self.choices:
            return self.choices[key], f"chosen on {self.day}"
        return default, "to be chosen" if self.to_be_chosen else "default, no trials"


def _choices(ws: Workspace, day: dt.date | None) -> Choice:
    run = ws.current(STAGE, day) if day else None
    choices: Choice = verify(run).facts["chosen"] if run else {}
    return choices


def _keys(config: Config, source: _Source) -> list[dict[str, Any]]:
    """Each key that a log decides: its value and where that comes from."""
    rounds: list[tuple[str, tuple[Round, ...]]] = [("teacher", teacher_rounds(1))]
    if config.student.distill.w_kd:
        rounds.append(("student", student_rounds()))
    keys = [key for who, some in rounds for key in (*(k for each in some for k in each.keys), f"{who}.epochs")]
    found = []
    for key in dict.fromkeys([*keys, *source.choices]):  # a chain may have chosen what trials choose no more
        if not free(config, key) and not written(config, key):  # min_count of each feature, the rate of Adam
            continue
        section, name = key.split(".")
        value = 1 if key == MIN_COUNT else getattr(getattr(config, section), name)
        value, origin = source.of(key, value) if free(config, key) else (value, "written")
        found.append({"key": key, "value": value, "from": origin})
    return found


def described(found: dict[str, Any]) -> str:
    """A plan as lines of text."""
    days, earlier, trials = found["days"], found["teacher_before"], found["trials"]
    learned = span(days) + (f", {len(days)} days" if len(days) > 1 else "")
    begins = f"goes on from the teacher of {earlier}" if earlier else "the chain begins"
    lines = [f"plan: {begins}; it learns {learned}"]
    keys = [[k["key"], "" if k["from"] == "to be chosen" else word(k["value"]), k["from"]] for k in found["keys"]]
    lines += aligned(keys, left=3)
    if trials:
        minutes = "under a minute" if trials["minutes"] < 1 else f"{trials['minutes']:.0f} min"
        least = ", which a smaller auto.budget does not lower" if trials["least"] else ""
        lines.append(f"trials learn some {trials['rows']:,} rows, {minutes} (guesses){least}")
    return "\n".join(lines)
