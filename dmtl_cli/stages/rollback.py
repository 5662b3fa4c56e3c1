"""rollback: serve an earlier export and hold LATEST there, or let it follow the newest day again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dmtl_cli.config.days import parse_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.contents import there
from dmtl_cli.runs.latest import newest_export, pin, unpin
from dmtl_cli.runs.manifest import verify
from dmtl_cli.runs.workspace import Workspace

_RUN = re.compile(r"(?:run-)?([0-9a-f]{12})")
_HINT = "dmtl status shows which days are published"


def rollback(ws: Workspace, to: str | None = None) -> dict[str, Any]:
    """Moves LATEST to an export and pins it, after its files were verified.

    Args:
        to: a day, whose published export is meant, or the id of a run; default the published export before the served
            day.

    Raises:
        UserError: 2 `to` is neither; 66 there is no such export; 65 it is damaged.
    """
    run = _chosen(ws, to)
    _check(run)
    before = there(ws.latest)
    pin(ws, run)
    return _moved(before, run, pinned=True)


def release(ws: Workspace) -> dict[str, Any]:
    """Removes the pin and moves LATEST to the newest published export, whatever it names now.

    Raises:
        UserError: 66 there is none; 65 it is damaged.
    """
    run = newest_export(ws)
    if run is None:
        raise UserError(
            f"no published export in {ws.root}",
            "run dmtl run first: a chain's second day has the first export",
            Exit.NO_INPUT,
        )
    _check(run)
    before = there(ws.latest)
    unpin(ws, run)
    return _moved(before, run, pinned=False)


def _chosen(ws: Workspace, to: str | None) -> Path:
    if to is None:
        day = ws.latest_day()
        run, what = newest_export(ws, day), f"published export{f' before {day}' if day else ''}"
    elif found := _RUN.fullmatch(to):
        name = f"run-{found[1]}"
        run, what = next((p for p in ws.home("export").glob(f"day=*/{name}") if p.is_dir()), None), f"export {name}"
    else:
        try:
            day = parse_day(to, "--to")
        except UserError:
            what = f"--to: expected a day as YYYY-MM-DD or a run as run-<12 hex>, got {to!r}"
            raise UserError(what, code=Exit.USAGE) from None
        run, what = ws.current("export", day), f"published export of {day}"
    if run is None:
        raise UserError(f"no {what} in {ws.root}", _HINT, Exit.NO_INPUT)
    return run


def _check(run: Path) -> None:
    manifest = verify(run)
    if manifest.stage != "export" or run.parent.name != f"day={manifest.day}":
        raise UserError(f"{run}: expected an export of {run.parent.name}, found {manifest.stage} of {manifest.day}")


def _moved(before: Path | None, run: Path, *, pinned: bool) -> dict[str, Any]:
    day, was = run.parent.name.removeprefix("day="), str(before) if before else None
    return {"served": str(run), "day": day, "run_id": run.name[4:], "served_before": was, "pinned": pinned}


def described(found: dict[str, Any]) -> str:
    """What is served now, and until when."""
    until = "pinned until dmtl rollback --unpin" if found["pinned"] else "follows the newest day"
    return f"served: {found['served']}, {until}"
