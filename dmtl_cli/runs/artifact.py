"""Publish a whole directory or nothing: manifests, locks, checksums, pointers.

A run is written in scratch, synced, hashed, given its manifest, renamed into place and only then pointed at. Each step
is durable before the next begins, so a crash at any instant leaves the old day or the new one.
"""

import dataclasses
import datetime as dt
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.workspace import Workspace, day_of

FORMAT = 2
MANIFEST = "manifest.json"
# EFBIG is what a file-size limit (ulimit -f) gives: to a cron job the same as a full disk.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
_RERUN = "run the stage again"


def _json(value: object) -> Any:
    """What JSON makes of a value: text keys, lists, days as text. Raises ValueError for NaN and infinity."""

    def text(other: object) -> str:
        if isinstance(other, dt.date):
            return other.isoformat()
        raise TypeError(f"a manifest or key cannot hold a {type(other).__name__}")

    return json.loads(json.dumps(value, allow_nan=False, default=text))


def _canonical(value: object) -> str:
    # Through _json first: integer keys sort otherwise before they are text than after.
    return json.dumps(_json(value), sort_keys=True, indent=1, allow_nan=False)


def key_of(**parts: object) -> str:
    """sha256 of the canonical JSON of all parts. Raises ValueError for NaN, TypeError for what JSON cannot hold."""
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


def _identity(document: Mapping[str, object]) -> str:
    return hashlib.sha256(_canonical({k: v for k, v in document.items() if k != "run_id"}).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Manifest:
    """What a run is and was made from. Holds no absolute path and no time, so that the same run has the same id."""

    format: int
    stage: str
    day: dt.date
    key: str
    run_id: str
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    threads: int
    inputs: list[dict[str, Any]]  # path, rows, bytes, digest
    parents: list[dict[str, Any]]  # stage, day, run_id
    files: list[dict[str, Any]]  # path, bytes, sha256
    rows: dict[str, int]
    metrics: dict[str, float]
    gates: list[dict[str, Any]]  # name, value, limit, passed
    facts: dict[str, Any]
    key_warnings: list[str]

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Raises UserError: data if it is missing, malformed or of another format; I/O if it cannot be read."""
        with _reading(path):
            raw = path.read_bytes()
        try:
            document = _json(json.loads(raw))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not a manifest: {error}", _RERUN) from None
        if not isinstance(document, dict):
            raise UserError(f"{path}: not a manifest", _RERUN)
        if document.get("format") != FORMAT:
            found, hint = document.get("format"), "use a new workspace, or the dmtl that wrote it"
            raise UserError(f"{path}: format {found!r}, this dmtl reads {FORMAT}", hint)
        names = {field.name for field in dataclasses.fields(cls)}
        if wrong := sorted(names ^ document.keys()) or [n for n in _SHAPES if not isinstance(document[n], _SHAPES[n])]:
            raise UserError(f"{path}: missing, unknown or malformed: {', '.join(wrong)}", _RERUN)
        if not all(
            isinstance(f, dict) and isinstance(f.get("path"), str) and {"bytes", "sha256"} <= f.keys()
            for f in document["files"]
        ):
            raise UserError(f"{path}: files: expected path, bytes and sha256 of each", _RERUN)
        day = day_of(Path(f"day={document['day']}"))
        if day is None:
            raise UserError(f"{path}: day: expected YYYY-MM-DD, got {document['day']!r}", _RERUN)
        return cls(**{**document, "day": day})

    def as_parent(self) -> dict[str, Any]:
        """The entry another manifest holds in `parents`."""
        return {"stage": self.stage, "day": str(self.day), "run_id": self.run_id}

    def to_json(self) -> str:
        """Canonical: sorted keys, indent 1. Raises ValueError for NaN and infinity."""
        return _canonical(vars(self)) + "\n"


_SHAPES: dict[str, type] = {
    **dict.fromkeys(("stage", "day", "key", "run_id"), str),
    **dict.fromkeys(("seed", "threads"), int),
    **dict.fromkeys(("config", "versions", "rows", "metrics", "facts"), dict),
    **dict.fromkeys(("inputs", "parents", "files", "gates", "key_warnings"), list),
}
# What a stage may leave out when it seals.
_OPTIONAL = ("inputs", "parents", "rows", "metrics", "gates", "facts", "key_warnings")
_REQUIRED = ("key", "config", "seed", "versions", "threads")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{error.filename or path} is missing", _RERUN) from error
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror}", code=Exit.IO) from error


def _disk_error(error: BaseException, where: Path) -> UserError | None:
    """UserError (I/O) if `error` says that the disk is full or broken, in an errno or, as libraries do, in words."""
    known = [code for code in _DISK if getattr(error, "errno", None) == code or os.strerror(code) in str(error)]
    if isinstance(error, UserError) or not known:
        return None
    place = getattr(error, "filename", None) or f"below {where}"
    return UserError(f"cannot read or write {place}: {os.strerror(known[0])}", "check the disk, run again", Exit.IO)


@contextmanager
def _creating(path: Path) -> Iterator[None]:
    """OSError -> UserError: I/O for a full or broken disk, else `cannot create`."""
    try:
        yield
    except OSError as error:
        target = error.filename2 or error.filename or path
        hint = "check its permissions, or set workspace to another folder"
        created = UserError(f"cannot create {target}: {error.strerror or error}", hint, Exit.CANNOT_CREATE)
        raise _disk_error(error, path) or created from error


def _sync_dir(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network filesystems cannot sync a directory at all: refusing them would help nobody.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _sync_up(folder: Path, root: Path) -> None:
    """Sync `folder` and all above it to `root`: a predecessor may have died between creating and syncing them."""
    for each in (folder, *folder.parents):
        _sync_dir(each)
        if each == root:
            return


def _make_dirs(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        _sync_dir(each.parent)


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _point(pointer: Path, text: str, draft: Path) -> None:
    """Make `pointer` hold one line, by rename; the draft lies in scratch, so a crash leaves no litter beside it."""
    _write(draft, text + "\n")
    draft.replace(pointer)
    _sync_dir(pointer.parent)


def _walk(top: Path) -> tuple[list[Path], list[Path]]:
    """What is no directory (links to directories too), sorted; then directories, deepest first."""

    def fail(error: OSError) -> None:
        raise error

    files, folders = [], []
    for name, inner, leaves in os.walk(top, topdown=False, onerror=fail):
        folder = Path(name)
        files += [folder / leaf for leaf in leaves] + [folder / i for i in inner if (folder / i).is_symlink()]
        folders.append(folder)
    return sorted(files), folders


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(run_dir: Path, *, quick: bool = False) -> Manifest:
    """The manifest of a run that is whole: its id, and every file's size and (unless `quick`) hash.

    Raises UserError naming the file: data for what is missing, changed or not listed; I/O for what cannot be read.
    """
    manifest = Manifest.read(run_dir / MANIFEST)
    if not manifest.run_id == _identity(vars(manifest)) == run_dir.name.removeprefix("run-"):
        raise UserError(f"{run_dir / MANIFEST} was changed, or its folder renamed", _RERUN)
    with _reading(run_dir):
        found = {path.relative_to(run_dir).as_posix(): path for path in _walk(run_dir)[0]}
        for listed in manifest.files:
            path = found.pop(listed["path"], None)
            if path is None:
                raise UserError(f"{run_dir / listed['path']} is missing", _RERUN)
            state = path.lstat()
            if not stat.S_ISREG(state.st_mode):
                raise UserError(f"{path} is not a regular file", _RERUN)
            if state.st_size != listed["bytes"]:
                raise UserError(f"{path}: expected {listed['bytes']} bytes, found {state.st_size}", _RERUN)
            if not quick and _digest(path) != listed["sha256"]:
                raise UserError(f"{path}: its sha256 is not that of the manifest", _RERUN)
    # A part file put beside the others would be read with them; dot files (.nfs*, .DS_Store) are not.
    if alien := [path for name, path in found.items() if name != MANIFEST and not path.name.startswith(".")]:
        raise UserError(f"{alien[0]} is not listed in the manifest", "remove it, or " + _RERUN)
    return manifest


def up_to_date(ws: Workspace, stage: str, day: dt.date, sub: str | None, key: str) -> tuple[Path, Manifest] | None:
    """The published run if it has this key, is intact and durable; None if the stage must run (again).

    Raises UserError (I/O) if the disk cannot be read or synced.
    """
    try:
        run = ws.current(stage, day, sub)
        if run is None or Manifest.read(run / MANIFEST).key != key:
            return None
        manifest = verify(run)
    except UserError as error:
        if error.code == Exit.DATA:
            return None
        raise
    if (manifest.stage, manifest.day) != (stage, day):
        return None
    with _creating(ws.root):
        _sync_up(run.parent, ws.root)
    return run, manifest


@contextmanager
def held(lock: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock that dies with this process. The file stays: removing it would race.

    Raises UserError: locked, if another run holds it and not `wait`; cannot create.
    """
    with _creating(lock):
        _make_dirs(lock.parent)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _creating(lock):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise UserError(f"another run holds {lock}", "retry later", Exit.LOCKED) from None
        try:
            yield
        finally:
            # Explicit: a forked worker that outlives this block shares the lock, and closing alone would leave it.
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def move_latest(ws: Workspace, run: Path, *, back: bool = False) -> bool:
    """Point LATEST at a published export run, to an older day only if `back`; whether it moved.

    Raises UserError: cannot create, or I/O.
    """
    day = day_of(run.parent)
    if day is None:
        raise ValueError(f"{run} is not a run of a day")
    # Exports of two days hold different locks: without this one, the older could read LATEST first and write it last.
    with held(ws.root / "locks" / "LATEST.lock", wait=True), _creating(ws.latest_path):
        draft = ws.scratch() / "LATEST"
        draft.unlink(missing_ok=True)
        # A LATEST that names no day is healed, yet not to an older day than the newest export.
        floor = ws.latest_day() or max(ws.days("export"), default=day) if ws.latest_path.exists() else day
        if day < floor and not back:
            return False
        _make_dirs(draft.parent)
        try:
            _point(ws.latest_path, f"{run.parent.name}/{run.name}", draft)
        finally:
            draft.unlink(missing_ok=True)
        return True


@dataclass
class Publication:
    """A run being made: payload goes into `path`; spools go into `tmp`, which is never published."""

    ws: Workspace
    stage: str
    day: dt.date
    sub: str | None
    latest: bool
    path: Path
    tmp: Path
    sealed: bool = False

    def seal(self, fields: Mapping[str, Any]) -> tuple[Path, Manifest]:
        """Publish `path` and return the run's directory and its manifest as read back.

        `fields`: key, config, seed, versions and threads; inputs, parents, rows, metrics, gates, facts, key_warnings
        where there are any. The rest is filled in here.

        Raises UserError (cannot create, I/O); ValueError for fields or files that no run may hold (NaN, links).
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
        with _creating(self.ws.root):
            manifest = self._write_manifest({**{name: _SHAPES[name]() for name in _OPTIONAL}, **fields})
            run = self._place(manifest)
            _sync_up(run.parent, self.ws.root)
            # LATEST first: CURRENT is what a rerun looks at, so it must be the last thing to become true.
            if self.latest:
                move_latest(self.ws, run)
            _point(run.parent / "CURRENT", run.name, self.path.parent / "CURRENT")
        return run, manifest

    def _write_manifest(self, fields: Mapping[str, Any]) -> Manifest:
        files, folders = _walk(self.path)
        # The scratch directory was made under the umask; asking for the umask itself would change it for all threads.
        allowed = stat.S_IMODE(self.path.parent.stat().st_mode) & 0o777
        entries = []
        for file in files:
            name = file.relative_to(self.path).as_posix()
            if name == MANIFEST or not stat.S_ISREG(file.lstat().st_mode):
                raise ValueError(f"a payload cannot hold {name}: a manifest, a link or no regular file")
            file.chmod(0o666 & allowed)
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            entries.append({"path": name, "bytes": file.stat().st_size, "sha256": digest})
        for folder in folders:
            folder.chmod(allowed | (folder.stat().st_mode & stat.S_ISGID))
            if folder != self.path:
                _sync_dir(folder)
        document = _json({**fields, "format": FORMAT, "stage": self.stage, "day": self.day, "files": entries})
        document["run_id"] = _identity(document)
        _write(self.path / MANIFEST, _canonical(document) + "\n")
        _sync_dir(self.path)
        return Manifest.read(self.path / MANIFEST)

    def _place(self, manifest: Manifest) -> Path:
        """Rename the run into place, unless it is there and intact; a damaged one goes to rejected/."""
        run = self.ws.stage_dir(self.stage, self.day, self.sub) / f"run-{manifest.run_id}"
        _make_dirs(run.parent)
        if os.path.lexists(run):
            try:
                verify(run)
                return run
            except UserError:
                self._reject(run)
        self.path.replace(run)
        return run

    def _reject(self, run: Path) -> None:
        _make_dirs(self.ws.rejected())
        name, count = f"{self.path.parent.name}-{run.name}", 1
        while os.path.lexists(aside := self.ws.rejected() / f"{name}-{count}"):
            count += 1
        run.replace(aside)
        _sync_dir(aside.parent)


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
    ws: Workspace, stage: str, day: dt.date, sub: str | None = None, *, latest: bool = False
) -> Iterator[Publication]:
    """Lock a stage's day and make a run of it; published by `seal`, else discarded. `latest` moves export/LATEST too.

    Raises UserError: locked (another run), cannot create, I/O (also for a full disk met by a library in the body).
    """
    if latest and (stage, sub) != ("export", None):
        raise ValueError("only an export can be LATEST")
    lock = ws.lock_path(stage, day, sub)
    with held(lock):
        # Named after the lock: who holds it knows that whatever lies here belongs to a dead run.
        home = ws.scratch() / lock.stem
        try:
            with _creating(home):
                if home.exists():
                    shutil.rmtree(home)
                for folder in (home, home / "run", home / "tmp"):
                    _make_dirs(folder)
                _check_target(ws.stage_dir(stage, day, sub), home)
            yield Publication(ws, stage, day, sub, latest, home / "run", home / "tmp")
        except Exception as error:
            if full := _disk_error(error, ws.root):
                raise full from error
            raise
        finally:
            shutil.rmtree(home, ignore_errors=True)
