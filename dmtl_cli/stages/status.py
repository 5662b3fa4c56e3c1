"""status: days by stages, what is served, and what the newest runs warn of."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import Any

from dmtl_cli.config.days import between
from dmtl_cli.config.errors import UserError
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.workspace import STAGES, Workspace

COLUMNS = ("evaluation", "profile", "teacher", "scores", "rescores", "student", "export")


def status(ws: Workspace, today: dt.date | None = None) -> dict[str, Any]:
    """For each day the state of each stage; `rescores` are the day's scores by an earlier teacher, the newest one.

    `published`; `refused`: a floor was not met, rejected/ says why; `stale`: its parent was published again since;
    `damaged`: it cannot be read; `not due`: the chain begins here; `missing`.

    Args:
        today: the day to judge freshness by; default the clock's.
    """
    every = sorted({day for stage in COLUMNS if stage in STAGES for day in ws.days(stage)})
    days = between(every[0], max(every[-1], today or every[-1])) if every else []
    first = ws.days("teacher")[:1]
    served = ws.latest_day()
    return {
        "days": {str(day): _day(ws, day, first[0] if first else day) for day in days},
        "served": str(ws.latest()) if served else None,
        "served_day": str(served) if served else None,
        "served_age_days": ((today or dt.date.today()) - served).days if served else None,
        "warnings": [warning for stage in STAGES for warning in _warnings(ws, stage)],
    }


def _warnings(ws: Workspace, stage: str) -> list[dict[str, str]]:
    """The doubts of the newest published day of a stage about what it made."""
    day = max(ws.days(stage), default=None)
    if day is None:
        return []
    subs: list[str | None] = [*ws.subs(stage, day)] if stage == "scores" else [None]
    found: dict[str, None] = {}
    for sub in subs:
        with suppress(UserError):  # a damaged run: the table says so
            run = ws.current(stage, day, sub)
            found |= dict.fromkeys(Manifest.read(run / MANIFEST).facts.get("warnings", ()) if run else ())
    return [{"stage": stage, "day": str(day), "warning": warning} for warning in found]


def _day(ws: Workspace, day: dt.date, first: dt.date) -> dict[str, str]:
    """The state of each column; what needs a teacher before the day of the first one is not due."""
    cells = {}
    due = COLUMNS if day > first else ("profile", "teacher", "scores") if day == first else ("profile",)
    for column in COLUMNS:
        stage = "scores" if column == "rescores" else column
        state = _state(ws, column, day)
        if state == "missing" and ws.refusal_path(stage, day).exists():
            state = "refused"
        if state == "missing" and column not in due:
            state = "not due"
        cells[column] = state
    return cells


def _state(ws: Workspace, column: str, day: dt.date) -> str:
    try:
        if column in ("scores", "rescores"):
            teacher = day if column == "scores" else max((t for t in ws.scored_by(day) if t < day), default=None)
            path = ws.current("scores", day, f"teacher={teacher}") if teacher else None
        else:
            path = ws.current(column, day)
        if path is None:
            return "missing"
        parents = Manifest.read(path / MANIFEST).parents
        fresh = all(f"run-{p['run_id']}" in _current_runs(ws, p["stage"], p["day"]) for p in parents)
    except UserError:
        return "damaged"
    return "published" if fresh else "stale"


def _current_runs(ws: Workspace, stage: str, text: str) -> set[str]:
    """Names of the published runs of a day; scores have one for each teacher."""
    day = dt.date.fromisoformat(text)
    subs: list[str | None] = [*ws.subs(stage, day)] if stage == "scores" else [None]
    return {run.name for sub in subs if (run := ws.current(stage, day, sub)) is not None}


def described(found: dict[str, Any]) -> str:
    """The table of days by columns, the line about what is served, and a line for each warning."""
    lines = [f"{'day':12}" + "".join(f"{column:>12}" for column in COLUMNS)]
    lines += [f"{day:12}" + "".join(f"{cells[c]:>12}" for c in COLUMNS) for day, cells in found["days"].items()]
    served = found["served"]
    lines.append(f"served: {served or 'nothing yet'}" + (f" (age {found['served_age_days']} days)" if served else ""))
    lines += ["{stage} {day}: warning: {warning}".format(**warning) for warning in found["warnings"]]
    return "\n".join(lines)
