"""What is served: export/LATEST, which follows the newest day, and export/PINNED, which holds it where a person put it.

Both are written by rename, the pin first: at any instant LATEST names a whole run. Where a crash came between the two,
the next writer moves LATEST to what is pinned. Every writer holds the chain.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from dmtl_cli.runs.contents import there
from dmtl_cli.runs.disk import creating, make_dirs, point, sync_dir
from dmtl_cli.runs.workspace import Workspace, day_of


def move_latest(ws: Workspace, run: Path) -> bool:
    """Lets LATEST follow a run that was just published; returns whether it names the run.

    It does not where another run is pinned or a newer day is served. A LATEST that names no run is pointed at the
    newest published export, this one among them, unless it is pinned: then it is a person's to choose.

    Raises UserError: cannot create, or I/O.
    """
    served = there(ws.latest)
    if ws.pin_path.exists():
        target = there(ws.pinned) or served
    elif served is None:
        target = max([run, *filter(None, [newest_export(ws)])], key=lambda r: precedence(_day(r)))
    else:
        target = run if _day(run) >= _day(served) else served
    if target is not None and (target != served or target == run):
        _point(ws, ws.latest_path, target)
    return target == run


def held(ws: Workspace) -> Path | None:
    """The export that is served while LATEST is pinned; None where it follows the newest day."""
    return there(ws.latest) if ws.pin_path.exists() else None


def precedence(day: dt.date) -> tuple[bool, dt.date]:
    """Sorts days, those to come before all others: a mistyped year is not the newest day."""
    return day <= dt.date.today(), day


def pin(ws: Workspace, run: Path) -> None:
    """Serves a run and holds LATEST there. Raises UserError: cannot create, or I/O."""
    _point(ws, ws.pin_path, run)
    _point(ws, ws.latest_path, run)


def unpin(ws: Workspace, run: Path) -> None:
    """Serves a run and lets LATEST follow the newest day again. Raises UserError: cannot create, or I/O."""
    with creating(ws.pin_path):
        if ws.pin_path.exists():
            ws.pin_path.unlink()
            sync_dir(ws.pin_path.parent)
    _point(ws, ws.latest_path, run)


def newest_export(ws: Workspace, before: dt.date | None = None) -> Path | None:
    """The published export of the newest day (before a day), one of a day to come only where there is no other.

    A day whose CURRENT names no run is passed over.
    """
    days = [day for day in ws.days("export") if before is None or day < before]
    for day in sorted(days, key=precedence, reverse=True):
        if (run := there(lambda: ws.current("export", day))) is not None:  # noqa: B023 (called at once)
            return run
    return None


def _day(run: Path) -> dt.date:
    day = day_of(run.parent)
    if day is None:
        raise ValueError(f"{run} is not a run of a day")
    return day


def _point(ws: Workspace, pointer: Path, run: Path) -> None:
    draft = ws.scratch() / pointer.name
    with creating(pointer):
        make_dirs(draft.parent)
        try:
            point(pointer, f"{run.parent.name}/{run.name}", draft)
        finally:
            draft.unlink(missing_ok=True)
