"""Colours of a terminal: states and outcomes. None in files, under cron, with NO_COLOR, CLICOLOR=0 or TERM=dumb."""

from __future__ import annotations

import os
import re
from typing import TextIO

import typer

_STATES = r"(?<![\w-]){}(?![\w-])"
_STYLES: tuple[tuple[re.Pattern[str], dict[str, object]], ...] = (
    (re.compile(_STATES.format("(?:published|served)")), {"fg": "green"}),
    (re.compile(_STATES.format("(?:refused|damaged)") + "|problem:|dmtl: error:"), {"fg": "red"}),
    (
        re.compile(_STATES.format("(?:stale|changed|forced|ungated|pinned|not served)") + "|warning:|gap:"),
        {"fg": "yellow"},
    ),
    (re.compile(_STATES.format("(?:missing|not due|up to date)") + r"|(?<=  )[0-9a-f]{7}$", re.M), {"dim": True}),
    (re.compile(r"^[a-z]+(?= +\d{4}-\d\d-\d\d  )", re.M), {"bold": True}),
)
"""what is found first, from the left and then from the top, is painted"""
_ANY = re.compile("|".join(f"({pattern.pattern})" for pattern, _ in _STYLES), re.M)


def follow_clicolor() -> None:
    """Turns CLICOLOR=0 into NO_COLOR, which the library that draws --help respects."""
    if os.environ.get("CLICOLOR") == "0":
        os.environ.setdefault("NO_COLOR", "1")


def wanted(stream: TextIO) -> bool:
    """Whether colours are shown on a stream: on a terminal that has them, unless the environment says no."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CLICOLOR") == "0" or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def painted(text: str, stream: TextIO) -> str:
    """The text with its states and outcomes in colours, where the stream shows them."""
    return _ANY.sub(_paint, text) if wanted(stream) else text


def _paint(found: re.Match[str]) -> str:
    style = _STYLES[(found.lastindex or 1) - 1][1]
    return typer.style(found[0], **style)  # type: ignore[arg-type]
