"""The drawing library that pages hold: Vega, Vega-Lite and Vega-Embed as one script, from vl-convert-python."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from dmtl_cli.config.errors import Exit
from dmtl_cli.config.extras import require
from dmtl_cli.runs.disk import creating, make_dirs


def library(folder: Path) -> str:
    """The script. Making it takes more than a second, so its text is kept in `folder`, by the package's version.

    Raises:
        UserError: 69 the package is not installed; 73, 74 it cannot be kept.
    """
    require("vl_convert", "a report", Exit.NO_DEVICE)
    kept = folder / f".library-{importlib.metadata.version('vl-convert-python')}.js"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    script = _bundle()
    replace(kept, script)
    return script


@functools.cache
def _bundle() -> str:
    """Made by a process of its own: its engine takes 120 MB, which the process of a run would hold to its end."""
    code = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"
    made = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return made.stdout.decode()


def replace(file: Path, text: str) -> None:
    """Writes a file whole or not at all. Raises UserError 73, 74."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with creating(file):
        make_dirs(file.parent)
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
