"""How a command ends: its exit code, one line on stderr, torchrun's other processes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import typer

from dmtl_cli.cli import colours, signals
from dmtl_cli.config.errors import ENDING, Exit, NotDue, UserError, short
from dmtl_cli.config.extras import install
from dmtl_cli.runs.progress import RunLog


def started_by_torchrun() -> bool:
    """Whether this is one of several processes."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def rank() -> int:
    """This process's number among those that torchrun started; 0 prints and publishes."""
    return int(os.environ.get("RANK", "0")) if started_by_torchrun() else 0


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command without a log of its own, ended with its documented exit code."""

    @functools.wraps(command)
    def ended(**options: Any) -> None:
        log = RunLog()
        leave(*outcome(lambda: command(**options), log))

    return ended


def leave(code: int, message: str) -> None:
    """Prints the message of a failure and ends the command with its code."""
    if message:
        signals.tell(colours.painted(message, sys.stderr))
    if code:
        raise typer.Exit(code)


def outcome(work: Callable[[], None], log: RunLog) -> tuple[int, str]:
    """Does the work and returns (exit code, the line to print). Details of a failure go to the log."""
    try:
        try:
            with signals.raising(), _signals_ignored_on_failure():
                work()
        except NotDue as e:
            log.say(f"not due: {e}")
        sys.stdout.flush()
    except UserError as e:
        return _refused(e, log)
    except KeyboardInterrupt as e:
        return _stopped(e.number if isinstance(e, signals.Stopped) else signal.SIGINT, log)
    except (typer.Exit, *ENDING):
        raise
    except BrokenPipeError:
        _drop_stdout()
        return 128 + signal.SIGPIPE, ""
    except OSError as e:
        _note(log, "io", traceback=traceback.format_exc())
        _drop_stdout()
        what = f"cannot read or write {e.filename or 'stdout or a file'}: {e.strerror or e}"
        return int(Exit.IO), UserError(what, "check the disk, run it again").line()
    except BaseException as e:
        if isinstance(e, ModuleNotFoundError) and (hint := install((e.name or "").partition(".")[0])):
            return _refused(UserError(f"{e.name} is not installed", hint, Exit.NO_DEVICE), log)
        where = _note(log, "bug", traceback=traceback.format_exc())
        hint = f"the traceback is in {where}, report it" if where else "report it"
        return int(Exit.BUG), UserError(f"bug: {type(e).__name__}: {_short(str(e))}", hint).line()
    return 0, ""


def end(code: int) -> NoReturn:
    """Ends the process, without the destructors of libraries: a thread of theirs that has not ended would abort a
    process whose work is done, and Python would print the traceback of a signal that came meanwhile."""
    try:
        sys.stdout.flush()
    except OSError as e:
        code = code or not_printed(e)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def not_printed(error: OSError) -> int:
    """The exit code where stdout cannot be written, after a line about it, unless its reader is gone."""
    _drop_stdout()
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    what = f"cannot write stdout: {error.strerror or error}"
    signals.tell(UserError(what, "check the disk, run it again").line())
    return int(Exit.IO)


def _refused(e: UserError, log: RunLog) -> tuple[int, str]:
    where = _note(log, "refused", message=e.message, hint=e.hint, others=e.others)
    if e.others and where:
        e = UserError(f"{e.message} (and {len(e.others)} more, in {where})", e.hint, e.code)
    return int(e.code), e.line()


def _stopped(number: int, log: RunLog) -> tuple[int, str]:
    how = signals.ending(number)
    if number == signal.SIGTERM and started_by_torchrun():
        how += ", by hand or as another rank is gone"
    _note(log, "stopped", signal=int(number))
    return 128 + number, UserError(f"{how}; what was running is not published", "run it again").line()


def _note(log: RunLog, event: str, **fields: Any) -> Path | None:
    """Writes to the log and returns where it is. A bug in a command without a log gets a file of its own.

    A log that cannot be written must not hide the failure that was to be written there.
    """
    try:
        if log.path is None and (event == "bug" or fields.get("others")):
            handle, name = tempfile.mkstemp(prefix=f"dmtl-{event}-", suffix=".jsonl")
            os.close(handle)
            log.path = Path(name)
        if not log.write(event, **fields):
            log.path = None
    except OSError:
        log.path = None
    return log.path


def _short(text: str) -> str:
    """The first line, cut so that what follows it still fits."""
    first = text.strip().partition("\n")[0]
    return short(first, 200)


def _drop_stdout() -> None:
    """Keeps Python's exit from failing again on what could not be written."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_ignored_on_failure() -> Iterator[None]:
    """Lets a failed rank report its failure: torchrun sends all ranks a signal as soon as one is gone."""
    try:
        yield
    except BaseException:
        if started_by_torchrun():
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        raise
