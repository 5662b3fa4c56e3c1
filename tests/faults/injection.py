"""Faults in the operations that change a disk, counted below Python's own file functions, in this process."""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = ("kill", "torn", "ENOSPC", "EIO", "EACCES", "signal")
"""kill and signal come before the operation; torn: half of what is written, then kill; an errno, once, in its place"""
_PATHS = ("replace", "rename", "link", "symlink", "mkdir", "unlink", "remove", "rmdir", "chmod", "truncate", "utime")
_HANDLES = ("fsync", "fdatasync", "ftruncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Injection:
    """Counts the operations below a folder, and lets a fault happen at one of them.

    Args:
        at: the number of the operation, from 1; 0: none, they are only counted.
    """

    def __init__(self, root: Path, kind: str, at: int) -> None:
        self.root, self.kind, self.at = os.path.realpath(root), kind, at
        self.count = 0

    def install(self) -> None:
        for name in _PATHS:
            setattr(os, name, self._counted(getattr(os, name), self._named))
        for name in _HANDLES:
            setattr(os, name, self._counted(getattr(os, name), lambda args, _: self._path_of(args[0])))
        fcntl.flock = self._counted(fcntl.flock, lambda args, _: self._path_of(args[0]))
        os.open = self._counted(os.open, self._opened)
        builtins.open = io.open = self._file(io.open)

    # -- where an operation is -----------------------------------------------------------------------------------------

    def _named(self, args: tuple[Any, ...], options: dict[str, Any]) -> str:
        folder = options.get("dir_fd")
        name = os.fsdecode(args[0])
        return name if folder is None else os.path.join(self._path_of(folder), name)  # noqa: PTH118

    def _opened(self, args: tuple[Any, ...], options: dict[str, Any]) -> str:
        flags = args[1] if len(args) > 1 else options.get("flags", 0)
        return self._named(args, options) if flags & _WRITES else ""

    def _path_of(self, handle: Any) -> str:
        number = handle if isinstance(handle, int) else handle.fileno()
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115

    def _here(self, path: str) -> bool:
        return bool(path) and os.path.abspath(path).startswith(self.root)  # noqa: PTH100

    # -- what happens --------------------------------------------------------------------------------------------------

    def _counted(self, real: Callable[..., Any], where: Callable[..., str]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._here(where(args, options)):
                self._step(lambda: None)
            return real(*args, **options)

        return call

    def _file(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            named = isinstance(file, str | bytes | os.PathLike) and not {*mode}.isdisjoint("wax+")
            if not (named and self._here(os.fsdecode(file))):
                return real(file, mode, *args, **options)
            self._step(lambda: None)
            return _Writer(real(file, mode, *args, **options), self)

        return call

    def _step(self, tear: Callable[[], None]) -> None:
        self.count += 1
        if self.count != self.at:
            return
        if self.kind == "torn":
            tear()
        if self.kind in ("kill", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
            return
        code = getattr(errno, self.kind)
        raise OSError(code, os.strerror(code))


class _Writer:
    """A file whose writes are operations."""

    def __init__(self, file: Any, injection: Injection) -> None:
        self._file, self._injection = file, injection

    def write(self, data: Any) -> int:
        def tear() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._injection._step(tear)
        return int(self._file.write(data))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
