"""verify: hash what is published, and stop at the first file that is not what its manifest says."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.manifest import MANIFEST, Manifest, verify
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.reachable import Runs, folders, workspaces
from dmtl_cli.runs.workspace import STAGES, Workspace, day_of


def verify_runs(ws: Workspace, log: RunLog, *, day: dt.date | None = None, every: bool = False) -> dict[str, Any]:
    """Hashes runs and returns how many runs, files and bytes there were, and the parents that are gone.

    By default what is served, pinned and newest of each stage, with all that it was made from, as far as it is there.

    Args:
        log: shows the progress.
        day: the published runs of this day alone.
        every: every run of the workspace and its comparisons, superseded ones too.

    Raises:
        UserError: 65 the first file that is missing, changed, or not listed, and the pointer that names no run; 66
            nothing is published of the day; 74 a file cannot be read.
    """
    runs, gone = _chosen(ws, day, every)
    done = {"runs": 0, "files": 0, "bytes": 0}
    with log.progress("verify", len(runs), unit="run") as progress:
        for run in runs:
            progress.step(1)
            try:
                manifest = verify(run)
            except UserError:
                if run.is_dir():
                    raise
                continue  # `gc` or `forget` has removed it meanwhile
            _check_place(run, manifest)
            done["runs"] += 1
            done["files"] += len(manifest.files)
            done["bytes"] += sum(file["bytes"] for file in manifest.files)
    return {**done, "gone": gone}


def _check_place(run: Path, manifest: Manifest) -> None:
    folder = next(p for p in run.parents if day_of(p))
    if (manifest.stage, manifest.day) != (folder.parent.name, day_of(folder)):
        what = f"expected {folder.parent.name} of {day_of(folder)}, found {manifest.stage} of {manifest.day}"
        raise UserError(f"{run / MANIFEST}: {what}")


def _chosen(ws: Workspace, day: dt.date | None, every: bool) -> tuple[list[Path], list[str]]:
    runs = Runs(ws)
    if every:
        return [run for each in workspaces(ws) for _, _, run in folders(each)], []
    if day is not None:
        of_day = [run for stage in STAGES for run in runs.current(stage, day).values()]
        if not of_day:
            raise UserError(f"nothing of {day} is published in {ws.root}", "dmtl status shows what is", Exit.NO_INPUT)
        return of_day, []
    pointed = [run for run in (ws.latest(), ws.pinned()) if run is not None]
    found, gone = runs.reach([*pointed, *runs.newest()])
    return found, [f"{ref.stage} {ref.day} run-{ref.run_id}" for ref in gone]


def described(found: dict[str, Any]) -> str:
    """One line; a second one where parents are gone."""
    line = f"verified {found['runs']} runs, {found['files']} files, {found['bytes']:,} bytes: all as published"
    gone = found["gone"]
    return line + (f"\n{len(gone)} runs that these were made from are gone, the first: {gone[0]}" if gone else "")
