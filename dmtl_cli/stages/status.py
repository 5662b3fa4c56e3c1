"""status: days by stages, and what is served."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dmtl_cli.config.days import before, between
from dmtl_cli.config.errors import UserError
from dmtl_cli.runs.artifact import MANIFEST, Manifest
from dmtl_cli.runs.workspace import Workspace

STAGES = ("evaluation", "teacher", "scores", "rescores", "student", "export")


def status(ws: Workspace, today: dt.date | None = None) -> dict[str, Any]:
    """Per day the state of each stage.

    `published`; `refused`: a floor was not met, rejected/ says why; `stale`: its parent was published again since;
    `damaged`: it cannot be read; `not due`: the chain begins here; `missing`.

    Args:
        today: the day to judge freshness by; default the clock's.
    """
    every = sorted({d for stage in ("teacher", "scores", "student", "export", "evaluation") for d in ws.days(stage)})
    first = ws.days("teacher")[:1]
    table = {}
    for day in between(every[0], max(every[-1], today or every[-1])) if every else []:
        cells = {}
        for stage in STAGES:
            name, sub = stage, None
            if stage in ("scores", "rescores"):
                name, sub = "scores", f"teacher={day if stage == 'scores' else before(day)}"
            state = _state(ws, name, day, sub)
            if state == "missing" and ws.refusal_path(name, day).exists():
                state = "refused"
            if state == "missing" and first and day <= first[0] and stage not in ("teacher", "scores"):
                state = "not due"
            cells[stage] = state
        table[str(day)] = cells
    served = ws.latest_day()
    judged = today or dt.date.today()
    return {
        "days": table,
        "served": str(ws.latest()) if served else None,
        "served_day": str(served) if served else None,
        "served_age_days": (judged - served).days if served else None,
    }


def _state(ws: Workspace, stage: str, day: dt.date, sub: str | None) -> str:
    try:
        path = ws.current(stage, day, sub)
        if path is None:
            return "missing"
        for parent in Manifest.read(path / MANIFEST).parents:
            parent_day = dt.date.fromisoformat(parent["day"])
            taught = f"teacher={parent_day}" if parent["stage"] == "scores" else None
            subs = [taught] if taught is None else [f"{s}" for s in ws.subs("scores", parent_day)]
            runs = {p.name for s in subs if (p := ws.current(parent["stage"], parent_day, s))}
            if f"run-{parent['run_id']}" not in runs:
                return "stale"
    except UserError:
        return "damaged"
    return "published"


def described(found: dict[str, Any]) -> str:
    lines = [f"{'day':12}" + "".join(f"{s:>12}" for s in STAGES)]
    lines += [f"{day:12}" + "".join(f"{cells[s]:>12}" for s in STAGES) for day, cells in found["days"].items()]
    served = found["served"]
    lines.append(f"served: {served or 'nothing yet'}" + (f" (age {found['served_age_days']} days)" if served else ""))
    return "\n".join(lines)
