"""gc: remove runs of old days and superseded ones, and what dead runs, old logs and refusals leave."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmtl_cli.config.days import before, folder_day
from dmtl_cli.config.errors import UserError, printable
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.runs.disk import creating, make_dirs, sync_dir
from dmtl_cli.runs.latest import precedence
from dmtl_cli.runs.locks import holding_all
from dmtl_cli.runs.reachable import Runs, folders, references, workspaces, writers
from dmtl_cli.runs.workspace import CHAIN, CHECKPOINT, STAGES, Workspace, day_of

_DAY = 86_400  # seconds
_LATER = ("teacher", "scores")  # of these a student reads days that it is not of
_WARM = ("profile", "teacher")  # stages that go on from the day before
_SUPERSEDED = "superseded"


@dataclass(frozen=True)
class _Waste:
    ws: Workspace
    path: Path
    why: str
    is_run: bool = False


def gc(ws: Workspace, keep_days: int, max_age_days: int, *, delete: bool, wait: float = 0) -> dict[str, Any]:
    """What is not needed, removed where `delete`: runs that are superseded, or of a day more than `keep_days` before
    the newest; scratch; logs, refusals and checkpoints of that age; pages of days that are gone; locks of an older
    version.

    Never what is served or pinned, the newest run of a stage, what `keep_days` or `max_age_days` keep, what one of
    these names as a parent or in its facts, or an export of the last day, which a server may be reading. So every kept
    day can be made again to the byte, and the next one goes on. Of comparisons only what is superseded.

    Args:
        max_age_days: how old a teacher and its scores may be for a student to learn from them.
        wait: seconds to wait for another writer.

    Raises:
        UserError: 65 a kept run is damaged, so that what it needs is not known; 75 a run or a comparison is going on.
    """
    with holding_all(writers(ws), wait, "dmtl gc"):
        newest = max((day for stage in CHAIN for day in ws.days(stage)), key=precedence, default=None)
        first = before(newest, keep_days) if newest else dt.date.min
        later = min(first, before(newest, max_age_days)) if newest else first
        found = [*_runs(ws, first, later)]
        oldest = _oldest_link(ws, {waste.path for waste in found})
        found += [waste for each in writers(ws) for waste in _files(each, oldest, keep_days)]
        found += _conversions(ws, later)
        found += [waste for below in [*workspaces(ws)][1:] for waste in _runs(below, dt.date.min, dt.date.min)]
        sizes = [_size(waste.path) for waste in found]
        if delete:
            for waste in found:
                with creating(waste.path):
                    _remove(waste)
    rows = [{"path": str(w.path), "bytes": n, "why": w.why} for w, n in zip(found, sizes, strict=True)]
    return {"keep_from": str(first), "removed": rows, "bytes": sum(sizes), "deleted": delete}


# -- what is not needed ------------------------------------------------------------------------------------------------


def _runs(ws: Workspace, first: dt.date, later: dt.date) -> Iterator[_Waste]:
    """Runs that are not kept: current ones from `first` on (teachers and their scores from `later` on), the newest of
    each stage, what is served, and what these name."""
    runs = Runs(ws)
    kept, old = {*runs.served(), *_young_exports(ws)}, set()
    for stage in STAGES:
        keep_from = later if stage in _LATER else first
        days = runs.days(stage)
        newest = {*days[-1:], *[d for d in days if d <= keep_from][-1:]} if stage == "tune" else {*days[-1:]}
        for day in days:
            if day >= keep_from or day in newest:
                kept |= {*runs.current(stage, day).values()}
            else:
                with suppress(UserError):  # a pointer to nothing keeps nothing
                    old |= {*runs.current(stage, day).values()}
    named = [runs.find(ref) for run in sorted(kept) for ref in references(runs.manifest(run), run)]
    kept |= {run for run in named if run is not None}
    for _, _, run in folders(ws):
        if run not in kept:
            yield _Waste(ws, run, f"before {first}" if run in old else _SUPERSEDED, is_run=True)


def _young_exports(ws: Workspace) -> set[Path]:
    """A server reads LATEST once, and then files of the run that it named."""
    return {run for run in ws.home("export").glob("day=*/run-*") if run.is_dir() and _age(run) < _DAY}


def _oldest_link(ws: Workspace, waste: set[Path]) -> dt.date:
    """The first day whose profile or teacher stays: after it, a day that is not there must be known as refused, as the
    next run would miss its profile, and `status` call it a gap."""
    links = (day for stage, day, run in folders(ws) if stage in _WARM and run not in waste)
    return min(links, default=dt.date.max)


def _files(ws: Workspace, oldest: dt.date, keep_days: int) -> Iterator[_Waste]:
    """What no stage reads: scratch, logs, pages and refusals of days before `oldest`, and locks. Every writer is shut
    out."""
    old = keep_days * _DAY
    for path in sorted(ws.scratch().glob("*")):
        if not path.name.startswith(CHECKPOINT) or _age(path) > old:
            yield _Waste(ws, path, "left by a run that died")
    for path in sorted((ws.root / "logs").glob("*")):
        if _age(path) > old:
            yield _Waste(ws, path, f"a log of more than {keep_days} days ago")
    for path in sorted((ws.root / "report").glob("day=*.html")):
        if (day := folder_day(path.stem.removeprefix("day="))) is not None and day < oldest:
            yield _Waste(ws, path, "the page of a day that is gone")
    for path in sorted(ws.rejected().glob("*")):
        days = [day for text in re.findall(r"\d{4}-\d\d-\d\d", path.name) if (day := folder_day(text))]
        if _age(path) > old and all(day < oldest for day in days):
            yield _Waste(ws, path, f"a refusal of more than {keep_days} days ago")


def _conversions(ws: Workspace, first: dt.date) -> Iterator[_Waste]:
    """Days of the log that were converted to Parquet and that no kept run is made of; one that is read again is
    converted again."""
    for path in sorted(conversions(str(ws.root)).glob("*/day=*")):
        if (day := day_of(path)) is not None and day < first:
            yield _Waste(ws, path, f"converted, before {first}")


def _age(path: Path) -> float:
    return time.time() - path.lstat().st_mtime


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or file.is_file())


# -- removing it -------------------------------------------------------------------------------------------------------


def _remove(waste: _Waste) -> None:
    """A run disappears at once: first its CURRENT, then the run itself, into scratch, where it is taken apart."""
    path = waste.path
    if not waste.is_run:
        _discard(path)
        return
    pointer, aside = path.parent / "CURRENT", waste.ws.scratch() / "gc"
    if pointer.is_file() and pointer.read_text(errors="replace").strip() == path.name:
        pointer.unlink()
        sync_dir(path.parent)
    make_dirs(aside.parent)
    if os.path.lexists(aside):
        _discard(aside)
    path.replace(aside)
    sync_dir(path.parent)
    _discard(aside)
    _tidy(path.parent, waste.ws)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _tidy(folder: Path, ws: Workspace) -> None:
    """Removes the folder of a day without runs, and the day's above the one of a teacher."""
    if not any(folder.glob("run-*")):
        (folder / "CURRENT").unlink(missing_ok=True)
    for each in (folder, *folder.parents):
        if each.parent in (ws.root, ws.root.parent):
            return
        with suppress(OSError):  # something else is in it
            each.rmdir()


def described(found: dict[str, Any]) -> str:
    """A line for each thing with its bytes, and what they sum up to."""
    lines = [f"{row['bytes']:>14,}  {row['path']}  ({row['why']})" for row in found["removed"]]
    verb = "removed" if found["deleted"] else "would remove"
    after = "" if found["deleted"] or not lines else "; --delete removes them"
    total = f"{verb} {len(lines)} files and folders, {found['bytes']:,} bytes"
    lines.append(f"{total}; days are kept from {found['keep_from']} on{after}")
    return "\n".join(map(printable, lines))
