"""Publish a whole directory or nothing: the run being made, its place, and the pointers to it.

A run is written in scratch, synced, hashed, given its manifest, renamed into place and only then pointed at. Each step
is durable before the next begins, so a crash at any instant leaves the old day or the new one.
"""

import datetime as dt
import errno
import hashlib
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.disk import creating, disk_error, make_dirs, point, sync_dir, sync_up, walk, write_text
from dmtl_cli.runs.latest import move_latest
from dmtl_cli.runs.manifest import FORMAT, MANIFEST, SHAPES, Manifest, as_json, canonical, identity, verify
from dmtl_cli.runs.workspace import Workspace

# What a stage may leave out when it seals a run.
_OPTIONAL = ("inputs", "parents", "rows", "metrics", "gates", "facts", "key_warnings")
_REQUIRED = ("key", "config", "seed", "versions", "threads")


def up_to_date(
    ws: Workspace, stage: str, day: dt.date, sub: str | None, key: str, *, current: bool = True
) -> tuple[Path, Manifest] | None:
    """The published run if it has this key, is intact and durable; None if the stage must run (again). Of what is never
    `current` any run of the day may be it.

    Raises UserError (I/O) if the disk cannot be read or synced.
    """
    try:
        run = ws.current(stage, day, sub) if current else _of_key(ws.stage_dir(stage, day, sub), key)
        if run is None or Manifest.read(run / MANIFEST).key != key:
            return None
        manifest = verify(run)
    except UserError as error:
        if error.code == Exit.DATA:
            return None
        raise
    if (manifest.stage, manifest.day) != (stage, day):
        return None
    with creating(ws.root):
        sync_up(run.parent, ws.home(stage).parent)
    return run, manifest


def _of_key(home: Path, key: str) -> Path | None:
    """The run of a day that has a key, passing over those that cannot be read."""
    for run in sorted(home.glob("run-*")):
        with suppress(UserError):
            if Manifest.read(run / MANIFEST).key == key:
                return run
    return None


@dataclass
class Publication:
    """A run being made: payload goes into `path`; spools go into `tmp`, which is never published."""

    ws: Workspace
    stage: str
    day: dt.date
    sub: str | None
    latest: bool
    current: bool
    path: Path
    tmp: Path
    checkpoint: Path
    """a file for where its training stands, which outlives the process; removed once the run is published"""
    key: str = ""
    """the run's, which files that are made to leave the workspace carry"""
    sealed: bool = False

    def seal(self, fields: Mapping[str, Any]) -> tuple[Path, Manifest]:
        """Publishes `path` and returns the run's directory and its manifest as read back.

        `fields`: key, config, seed, versions and threads; inputs, parents, rows, metrics, gates, facts, key_warnings
        where there are any. The rest is filled in here.

        Raises UserError (cannot create, I/O); ValueError for fields or files that no run may have (NaN, links).
        """
        if self.sealed:
            raise ValueError("sealed already")
        if unknown := fields.keys() - {*_REQUIRED, *_OPTIONAL}:
            raise ValueError(f"not fields of a manifest: {sorted(unknown)}")
        if missing := set(_REQUIRED) - fields.keys():
            raise ValueError(f"missing fields of a manifest: {sorted(missing)}")
        if undefined := sorted(name for name, v in fields.get("metrics", {}).items() if not math.isfinite(v)):
            raise ValueError(f"a metric that is undefined must be absent: {', '.join(undefined)}")
        self.sealed = True
        with creating(self.ws.root):
            manifest = self._write_manifest({**{name: SHAPES[name]() for name in _OPTIONAL}, **fields})
            run = self._place(manifest)
            sync_up(run.parent, self.ws.home(self.stage).parent)
            # LATEST first: CURRENT is what a rerun looks at, so it must be the last thing to become true.
            if self.latest:
                move_latest(self.ws, run)
            if self.current:
                point(run.parent / "CURRENT", run.name, self.path.parent / "CURRENT")
        return run, manifest

    def reject(self, fields: Mapping[str, Any], reasons: list[str]) -> None:
        """Moves `path` with its manifest and reasons to rejected/, where no stage reads it, in place of what was
        rejected of this day before. Fields as of `seal`.

        A rejected/ that cannot be written must not hide the reasons: it is left as it is.
        """
        self.sealed = True
        aside = self.ws.rejected() / self.path.parent.name
        with suppress(OSError):
            self._write_manifest({**{name: SHAPES[name]() for name in _OPTIONAL}, **fields})
            write_text(self.path / "reasons.txt", "\n".join(reasons) + "\n")
            make_dirs(aside.parent)
            if os.path.lexists(aside):
                aside.replace(self.tmp / "rejected")
            self.path.replace(aside)
            sync_dir(aside.parent)

    def _write_manifest(self, fields: Mapping[str, Any]) -> Manifest:
        files, folders = walk(self.path)
        # The scratch directory was made under the umask; asking for the umask itself would change it for all threads.
        allowed = stat.S_IMODE(self.path.parent.stat().st_mode) & 0o777
        entries = []
        for file in files:
            name = file.relative_to(self.path).as_posix()
            if name == MANIFEST or not stat.S_ISREG(file.lstat().st_mode):
                raise ValueError(f"a payload cannot contain {name}: a manifest, a link or no regular file")
            file.chmod(0o666 & allowed)
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            entries.append({"path": name, "bytes": file.stat().st_size, "sha256": digest})
        for folder in folders:
            folder.chmod(allowed | (folder.stat().st_mode & stat.S_ISGID))
            if folder != self.path:
                sync_dir(folder)
        document = as_json({**fields, "format": FORMAT, "stage": self.stage, "day": self.day, "files": entries})
        document["run_id"] = identity(document)
        write_text(self.path / MANIFEST, canonical(document) + "\n")
        sync_dir(self.path)
        return Manifest.read(self.path / MANIFEST)

    def _place(self, manifest: Manifest) -> Path:
        """Renames the run into place, unless it is there and intact; a damaged one goes to rejected/."""
        run = self.ws.stage_dir(self.stage, self.day, self.sub) / f"run-{manifest.run_id}"
        make_dirs(run.parent)
        if os.path.lexists(run):
            try:
                verify(run)
                return run
            except UserError:
                self._reject(run)
        try:
            self.path.replace(run)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            verify(run)  # `compare`, which does not hold the chain, has placed the very same evaluation meanwhile
        return run

    def _reject(self, run: Path) -> None:
        make_dirs(self.ws.rejected())
        name, count = f"{self.path.parent.name}-{run.name}", 1
        while os.path.lexists(aside := self.ws.rejected() / f"{name}-{count}"):
            count += 1
        run.replace(aside)
        sync_dir(aside.parent)


def _check_target(target: Path, scratch: Path) -> None:
    """Raises UserError (cannot create) now for what would stop the rename after hours of work."""
    while not os.path.lexists(target):
        target = target.parent
    if not target.is_dir() or not os.access(target, os.W_OK | os.X_OK):
        raise UserError(f"cannot create below {target}: not a writable directory", code=Exit.CANNOT_CREATE)
    if target.stat().st_dev != scratch.stat().st_dev:
        hint = "keep a workspace on one filesystem"
        raise UserError(f"{target} and {scratch} are on two filesystems", hint, Exit.CANNOT_CREATE)


@contextmanager
def publish(
    ws: Workspace,
    stage: str,
    day: dt.date,
    sub: str | None = None,
    *,
    latest: bool = False,
    current: bool = True,
    key: str = "",
) -> Iterator[Publication]:
    """Makes a run of a stage's day; published by `seal`, else discarded. The caller holds the chain (`locks.holding`).

    Args:
        latest: whether export/LATEST names it.
        current: whether the day's CURRENT does.
        key: the run's, whose checkpoint stays until the run is published or refused; those of other keys are removed.

    Raises UserError: cannot create, I/O (also for a full disk met by a library in the body).
    """
    if latest and (stage, sub) != ("export", None):
        raise ValueError("only an export can be LATEST")
    home, checkpoint = ws.scratch_of(stage, day, sub), ws.checkpoint_path(stage, day, key)
    ws.clear_checkpoints(stage, day, keep=checkpoint)
    try:
        with creating(home):
            if home.exists():
                shutil.rmtree(home)
            for folder in (home, home / "run", home / "tmp"):
                make_dirs(folder)
            _check_target(ws.stage_dir(stage, day, sub), home)
        yield Publication(ws, stage, day, sub, latest, current, home / "run", home / "tmp", checkpoint, key)
        ws.clear_checkpoints(stage, day)
    except Exception as error:
        if isinstance(error, UserError) and error.code == Exit.REFUSED:
            ws.clear_checkpoints(stage, day)
        if full := disk_error(error, ws.root):
            raise full from error
        raise
    finally:
        try:
            shutil.rmtree(home, ignore_errors=True)
        except KeyboardInterrupt:  # a signal may come while an error is cleared up after; a second one does not
            shutil.rmtree(home, ignore_errors=True)
            raise
