"""Folders for as long as a command lasts, without a workspace: who was killed leaves one, the next removes it."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".lock"


@contextmanager
def scratch_folder(prefix: str, above: Path | None = None) -> Iterator[Path]:
    """A new folder that is gone when the block ends; those of the prefix whose process is dead are removed first.

    A file in it is locked by flock, which dies with its process: see `locks.holding`. Where a file system has no locks,
    what is left stays.

    Args:
        above: the folder to make it in; None: that of the system's temporary files.
    """
    home = Path(tempfile.gettempdir()) if above is None else above
    remove_dead(prefix, home)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=home) as name:
        draft = Path(name) / f"{_LOCK}.new"
        handle = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.rename(draft.with_name(_LOCK))  # nobody finds it before it is locked
            yield Path(name)
        finally:
            os.close(handle)


def remove_dead(prefix: str, above: Path) -> None:
    """Removes what `scratch_folder` made for processes of this user that are dead."""
    for folder in above.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError):  # it lives, has no lock, or is gone by now
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(handle)
