"""Writes that survive a crash, and what a disk's errors mean to the user."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmtl_cli.config.errors import Exit, UserError

# EFBIG is what a file-size limit (ulimit -f) gives: to a cron job the same as a full disk.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
RERUN = "run the stage again"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """OSError -> UserError: data for what is missing, else I/O."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{error.filename or path} is missing", RERUN) from error
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror}", code=Exit.IO) from error


def disk_error(error: BaseException, where: Path) -> UserError | None:
    """UserError (I/O) if `error` says that the disk is full or broken, in an errno or, as libraries do, in words."""
    known = [code for code in _DISK if getattr(error, "errno", None) == code or os.strerror(code) in str(error)]
    if isinstance(error, UserError) or not known:
        return None
    place = getattr(error, "filename", None) or f"below {where}"
    hint = "check the disk" if known[0] == errno.EIO else "free some space (dmtl gc tells what could go)"
    return UserError(f"cannot read or write {place}: {os.strerror(known[0])}", f"{hint}, run again", Exit.IO)


@contextmanager
def creating(path: Path) -> Iterator[None]:
    """OSError -> UserError: I/O for a full or broken disk, else `cannot create`."""
    try:
        yield
    except OSError as error:
        target = error.filename2 or error.filename or path
        hint = "check its permissions, or set workspace to another folder"
        created = UserError(f"cannot create {target}: {error.strerror or error}", hint, Exit.CANNOT_CREATE)
        raise disk_error(error, path) or created from error


def sync_dir(folder: Path) -> None:
    """Makes the names in a folder durable, as fsync does the bytes of a file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network filesystems cannot sync a directory at all: refusing them would help nobody.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def sync_up(folder: Path, root: Path) -> None:
    """Syncs `folder` and all above it to `root`: a predecessor may have died between creating and syncing them."""
    for each in (folder, *folder.parents):
        sync_dir(each)
        if each == root:
            return


def make_dirs(folder: Path) -> None:
    """Makes a folder and what is missing above it, each durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_dir(each.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a file and makes its bytes durable."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def point(pointer: Path, text: str, draft: Path) -> None:
    """Writes one line to `pointer`, by rename; the draft is in scratch, so a crash leaves no litter beside it."""
    write_text(draft, text + "\n")
    draft.replace(pointer)
    sync_dir(pointer.parent)


def walk(top: Path) -> tuple[list[Path], list[Path]]:
    """All that is not a directory (a link to one is not), sorted; then directories, deepest first."""

    def fail(error: OSError) -> None:
        raise error

    files, folders = [], []
    for name, inner, leaves in os.walk(top, topdown=False, onerror=fail):
        folder = Path(name)
        files += [folder / leaf for leaf in leaves] + [folder / i for i in inner if (folder / i).is_symlink()]
        folders.append(folder)
    return sorted(files), folders


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
