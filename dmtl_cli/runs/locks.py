"""One chain, one writer: the lock that a command holds from before it looks for parents until its work ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.disk import creating, make_dirs
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.workspace import CHECKPOINT, Workspace

POLL = 0.5  # seconds
_HOLDER = re.compile(r"pid (?P<pid>\d{1,9}) on (?P<host>[\w.-]+) since [\w:+-]+ \([\w =-]+\)")


@contextmanager
def holding(ws: Workspace, wait: float, command: str, ranks: Ranks = ALONE) -> Iterator[None]:
    """Holds locks/chain.lock of a workspace, and clears what a dead writer left in its scratch folder.

    The lock is flock's, which dies with its process. The file stays, as removing it would race; it says who holds it.
    On a workspace that two hosts share: Linux's NFS client makes flock a byte-range lock of the server, so hosts
    exclude each other, unless the share is mounted with `nolock` or `local_lock`; then only processes of one host do.
    A host that is lost keeps its lock until the server's lease ends (NFSv4: some 90 seconds).

    Args:
        wait: seconds to wait for another writer.
        command: what to call this one: a command and its day, nothing that a user may have typed a secret into.
        ranks: rank 0 holds the lock, the others wait with it.

    Raises:
        UserError: 75 another writer has held it all the time; 73, 74 the file cannot be created.
    """
    until = time.monotonic() + wait
    with ExitStack() as stack:
        while not ranks.on_first(lambda: _take(stack, ws, until, command)):
            time.sleep(POLL)
        ranks.on_first(lambda: _sweep(ws.scratch()))
        yield


@contextmanager
def holding_all(every: Iterable[Workspace], wait: float, command: str) -> Iterator[None]:
    """Holds the chains of several workspaces, waiting so long for all of them together, and clears nothing.

    Raises UserError as `holding` does.
    """
    until = time.monotonic() + wait
    with ExitStack() as stack:
        for ws in every:
            while not _take(stack, ws, until, command):
                time.sleep(POLL)
        yield


def _take(stack: ExitStack, ws: Workspace, until: float, command: str) -> bool:
    """Takes the lock until `stack` ends; False: it is held, try again. Raises UserError as `holding` does."""
    lock = ws.chain_lock
    with creating(lock):
        make_dirs(lock.parent)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        with ExitStack() as closing:
            closing.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    return False
                hint = "retry later, or wait for it with --lock-wait 30m"
                raise UserError(f"another run holds {lock}{_holder(handle)}", hint, Exit.LOCKED) from None
            # Explicit: a forked worker that outlives this process's block shares the lock, closing would leave it.
            closing.callback(fcntl.flock, handle, fcntl.LOCK_UN)
            stack.push(closing.pop_all())
    stack.callback(_sign, handle, "")
    since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    _sign(handle, f"pid {os.getpid()} on {socket.gethostname()} since {since} ({command})")
    return True


def holder(ws: Workspace) -> str | None:
    """Who holds the chain, in their own words; None where nobody does, as far as this host can tell.

    The lock itself is not asked for: a run that begins in that moment would be refused. A process that was killed left
    its words, so one of this host must be alive.
    """
    try:
        text = ws.chain_lock.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = _HOLDER.fullmatch(text)
    if found is None or (found["host"] == socket.gethostname() and not _is_alive(int(found["pid"]))):
        return None
    return text


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _sign(handle: int, text: str) -> None:
    """Writes who holds the lock. It is held without these words too, as on a full disk."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
        os.fsync(handle)


def _holder(handle: int) -> str:
    """`: pid ...`, as the holder wrote it; "" where it has not yet, or the file has other words."""
    text = os.pread(handle, 400, 0).decode("utf-8", "replace")
    return f": {text}" if _HOLDER.fullmatch(text) else ""


def _sweep(scratch: Path) -> None:
    """Removes what dead writers left: with the lock held nobody else works there. Checkpoints are their training's."""
    for path in scratch.glob("*"):
        if path.name.startswith(CHECKPOINT):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
