"""The metrics of a command as a Prometheus textfile (`--metrics-file`)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dmtl_cli.config.errors import Exit, UserError

if TYPE_CHECKING:
    from dmtl_cli.runs.run import Result

_HINT = "name a file in a folder that exists and can be written"


def check_writable(file: Path) -> None:
    """Raises UserError 73 for a file that could not be written, before hours of work."""
    if not file.parent.is_dir():
        what = f"there is no folder {file.parent}"
    elif file.is_dir():
        what = f"{file} is a folder"
    elif not os.access(file.parent, os.W_OK | os.X_OK):
        what = f"the folder {file.parent} cannot be written"
    else:
        return
    raise UserError(f"--metrics-file: {what}; nothing was done", _HINT, Exit.CANNOT_CREATE)


def write_metrics(file: Path, command: str, code: int, results: list[Result]) -> None:
    """Writes the file whole or not at all; after a failure with the time of the last success that the file before it
    had, so that a dead man's switch sees it grow old. Raises UserError 73."""
    lines = [f'dmtl_exit_code{{command="{command}"}} {code}']
    stamp = f'dmtl_last_success_timestamp_seconds{{command="{command}"}} '
    if (succeeded := _last(file, stamp) if code else str(int(time.time()))) is not None:
        lines.append(stamp + succeeded)
    for r in results:
        lines += [
            f'dmtl_metric{{stage="{r.stage}",day="{r.day}",name="{k}"}} {v}' for k, v in sorted(r.metrics.items())
        ]
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(file)
    except OSError as e:
        where = e.filename2 or e.filename
        what = f"the work is done, but --metrics-file cannot be written: {where}: {e.strerror or e}"
        raise UserError(what, _HINT, Exit.CANNOT_CREATE) from e
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _last(file: Path, stamp: str) -> str | None:
    """The number after `stamp` in the file as it is; None where there is none."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    found = [line.removeprefix(stamp) for line in lines if line.startswith(stamp)]
    return found[-1] if found and found[-1].isdecimal() else None
