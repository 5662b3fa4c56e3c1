"""The drawing library that pages hold: Vega, Vega-Lite and Vega-Embed as one script, from vl-convert-python."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.disk import creating, make_dirs

_PACKAGE = "vl-convert-python"


def library(folder: Path) -> str:
    """The script. Making it takes more than a second, so its text is kept in `folder`, by the package's version.

    Raises:
        UserError: 69 the package is not installed; 73, 74 it cannot be kept.
    """
    try:
        version = importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        what = f"a report is drawn with {_PACKAGE}, which is not installed"
        raise UserError(what, "pip install 'dmtl[report]'", Exit.NO_DEVICE) from None
    kept = folder / f".library-{version}.js"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    script = _bundle()
    replace(kept, script)
    return script


@functools.cache
def _bundle() -> str:
    import vl_convert

    return str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # its stub wants a snippet


def replace(file: Path, text: str) -> None:
    """Writes a file whole or not at all. Raises UserError 73, 74."""
    draft = file.with_name(f".{file.name}.new")
    with creating(file):
        make_dirs(file.parent)
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
