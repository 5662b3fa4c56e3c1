"""SIGINT, SIGTERM and SIGHUP: exit code 128+n and at most one line, at any moment after this module was imported.

Imports nothing heavy, as it is the first module of the command line: what follows takes seconds to import.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal that asks to end, as an exception: scratch is cleared and locks are released on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _State:
    working = False
    """whether a signal raises `Stopped`; else nothing has to be cleared, and it ends the process at once"""
    told = False
    """whether a line about the end was printed"""


def install() -> None:
    """Handles the signals, less those that the caller has this process ignore, as `nohup` does."""
    _State.working = _State.told = False
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.unraisablehook = _unraisable


def is_program() -> bool:
    """Whether this process is `dmtl` or `python -m dmtl_cli`, not another that imports the command line.

    While Python looks for a module to run, `sys.argv[0]` is -m; then it is the module's file.
    """
    named = Path(sys.argv[0]) if sys.argv else Path()
    return named.name == "-m" or named.name.startswith("dmtl") or named.parent.name == "dmtl_cli"


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Within it a signal is an exception. What is around it catches KeyboardInterrupt: one may leave it at its end."""
    _State.working = True
    try:
        yield
    finally:
        _State.working = False


def tell(line: str) -> None:
    """Prints the line that a command ends with; a signal that comes later prints none."""
    _State.told = True
    with contextlib.suppress(OSError):  # the exit code tells it too
        print(line, file=sys.stderr, flush=True)


def ending(number: int) -> str:
    """How a signal ended the command, in a word."""
    return "terminated" if number == signal.SIGTERM else "interrupted"


def _stop(number: int, frame: FrameType | None) -> None:
    if not _State.working or _importing(frame):
        _end(number)
    if not _unwinding():  # a second signal must not cut short what the first made the process clear
        raise Stopped(number)


def _importing(frame: FrameType | None) -> bool:
    """Whether the code that was interrupted imports a module: C extensions make a crash, or a traceback, of what is
    raised while they initialize."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _unwinding() -> bool:
    """Whether the code that was interrupted runs because of an earlier signal, in `finally` or `except`."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, Stopped):
            return True
        error = error.__context__
    return False


def _end(number: int) -> NoReturn:
    """Ends the process without cleaning up, which is what SIGKILL does at any moment: published runs stay whole, locks
    are the system's, and the next run sweeps scratch."""
    alone = os.environ.get("WORLD_SIZE", "1") == "1"  # else torchrun started many, of which one prints
    if not _State.told and (alone or os.environ.get("RANK") == "0"):
        with contextlib.suppress(OSError):  # not by print: the signal may have come within one
            os.write(2, f"dmtl: error: {ending(number)}; run it again\n".encode())
    os._exit(128 + number)


def _unraisable(lost: Any) -> None:
    """Python drops what is raised in a destructor or a callback of C code; a signal must not be lost there."""
    if isinstance(lost.exc_value, Stopped):
        _end(lost.exc_value.number)
    sys.__unraisablehook__(lost)
