"""SIGINT, SIGTERM and SIGHUP at any moment of a command: 128+n and at most one line, no traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmtl_cli.cli import ending, signals
from dmtl_cli.cli.main import main
from dmtl_cli.runs.progress import RunLog

# Python imports a `sitecustomize` before the program: this one sends the process a signal when it first looks for a
# module, or tells when that is.
HOOK = """\
import os, signal, sys

class AtModule:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT_MODULE"]:
            if number := int(os.environ["AT_SIGNAL"]):
                os.kill(os.getpid(), number)
            else:
                os.write(1, b"begun")
            sys.meta_path.remove(self)

sys.meta_path.insert(0, AtModule())
"""
# Later Pythons warn of a fork beside threads; no child here does more than what is in this file.
pytestmark = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")


def default_handlers() -> None:
    """In a child: pytest itself may run with signals ignored, as a job in the background does."""
    for number in signals.NUMBERS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def start(home: Path, module: str, number: int) -> subprocess.Popen[bytes]:
    """`dmtl check` of a log that is not there, which imports what reads a log."""
    (home / "sitecustomize.py").write_text(HOOK)
    (home / "config.yaml").write_text(
        f"workspace: {home}/ws\nfeatures: auto\n"
        f"data: {{root: {home}/log, events: {{user: a, item: b, time: c, click: d, duration: e}}}}\n"
    )
    path = os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "dmtl_cli.cli", "check", "--config", str(home / "config.yaml"), "--day", "2026-01-01"],
        env={**os.environ, "PYTHONPATH": path, "AT_MODULE": module, "AT_SIGNAL": str(number)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=default_handlers,
    )


def check_end(code: int, err: bytes, number: int) -> None:
    word = b"terminated" if number == signal.SIGTERM else b"interrupted"
    assert code == 128 + number, (code, err)
    assert err.startswith(b"dmtl: error: " + word) and err.count(b"\n") == 1 and err.endswith(b"\n"), err


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("dmtl_cli.cli.__main__", signal.SIGINT),
        ("typer", signal.SIGTERM),
        ("dmtl_cli.config.errors", signal.SIGHUP),
        ("pydantic", signal.SIGINT),
        ("numpy._core._multiarray_umath", signal.SIGINT),
        ("polars", signal.SIGTERM),
        ("pyarrow.lib", signal.SIGINT),
    ],
)
def test_a_signal_while_a_module_is_imported(tmp_path: Path, module: str, number: int) -> None:
    child = start(tmp_path, module, number)
    _, err = child.communicate(timeout=60)
    check_end(child.returncode, err, number)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2, 0.6])
def test_a_signal_at_any_moment(tmp_path: Path, delay: float) -> None:
    """Counted from the first import of the command line; a process that has ended has its own code, and one line."""
    child = start(tmp_path, "dmtl_cli.cli.__main__", 0)
    assert child.stdout is not None and child.stdout.read(5) == b"begun"
    time.sleep(delay)
    number = signals.NUMBERS[int(delay * 20) % 3]
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    if child.returncode == 66:
        assert err.count(b"\n") == 1 and b"Traceback" not in err
    else:
        check_end(child.returncode, err, number)


# -- in the end of a command, in forked children -----------------------------------------------------------------------


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def ended(tmp_path: Path, body: Callable[[], Any]) -> tuple[int, str]:
    """The exit code and the stderr of a child with the program's handlers."""
    file = tmp_path / "stderr"
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
            sys.stderr, sys.stdout = (os.fdopen(os.dup(n), "w") for n in (2, os.open(os.devnull, os.O_WRONLY)))
            default_handlers()
            signals.install()
            body()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file.read_text()


def worked(work: Callable[[], None]) -> Callable[[], None]:
    """A command whose work is given, ended as the program ends it."""

    def run() -> None:
        code, message = ending.outcome(work, RunLog())
        if message:
            signals.tell(message)
        ending.end(code)

    return run


def test_the_second_signal_does_not_cut_short_what_the_first_clears(tmp_path: Path) -> None:
    cleared = tmp_path / "cleared"

    def work() -> None:
        try:
            send()
            raise AssertionError("not stopped")
        finally:
            send()
            send(signal.SIGINT)
            cleared.touch()

    code, err = ended(tmp_path, worked(work))
    assert code == 128 + signal.SIGTERM and cleared.exists()
    assert err == "dmtl: error: terminated; what was running is not published; run it again\n"


class Lost:
    def __del__(self) -> None:
        send()


def test_a_signal_in_a_destructor_is_not_lost(tmp_path: Path) -> None:
    def work() -> None:
        Lost()
        raise AssertionError("not stopped")

    code, err = ended(tmp_path, worked(work))
    assert code == 128 + signal.SIGTERM and err == "dmtl: error: terminated; run it again\n"


def test_one_that_a_library_swallowed_does_not_hide_the_next(tmp_path: Path) -> None:
    def work() -> None:
        with contextlib.suppress(BaseException):
            send()
        send(signal.SIGHUP)
        raise AssertionError("not stopped")

    code, err = ended(tmp_path, worked(work))
    assert code == 128 + signal.SIGHUP and err.count("\n") == 1


def test_signals_while_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(*_: Any, **__: Any) -> None:
        send(signal.SIGINT)

    def work() -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(ending, "_note", note)
    code, err = ended(tmp_path, worked(work))
    assert code == 128 + signal.SIGINT and err == "dmtl: error: interrupted; run it again\n"


def test_a_signal_after_the_line_adds_none(tmp_path: Path) -> None:
    def body() -> None:
        signals.tell("dmtl: error: it failed")
        send()

    assert ended(tmp_path, body) == (128 + signal.SIGTERM, "dmtl: error: it failed\n")


def test_the_program_ends_without_destructors_and_exit_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hooked() -> None:
        import atexit

        atexit.register(send, signal.SIGINT)
        main()

    monkeypatch.setattr(sys, "argv", ["dmtl", "--version"])
    assert ended(tmp_path, hooked) == (0, "")


def test_what_the_caller_ignores_stays_ignored(tmp_path: Path) -> None:
    """`nohup dmtl run` goes on when its terminal is closed."""

    def body() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.install()
        send(signal.SIGHUP)
        ending.end(0)

    assert ended(tmp_path, body) == (0, "")


def test_a_library_keeps_its_callers_handlers() -> None:
    script = (
        "import signal, dmtl_cli, dmtl_cli.serving, dmtl_cli.cli.main\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL"
    )
    subprocess.run([sys.executable, "-c", script], check=True, preexec_fn=default_handlers)
