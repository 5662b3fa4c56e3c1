"""What a page is made of: sections of tiles, charts, tables and lines. Plain values, which `page` renders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["", "good", "bad", "note"]
"""how a cell or a tile is marked, by a sign and a colour"""
Cell = str | int | float | None | tuple[str, State] | tuple[str, State, str]
"""a number, a text, a text with its state, or that with a link; None is not known"""


@dataclass(frozen=True)
class Tile:
    """One number of the headline."""

    label: str
    value: str
    beside: Sequence[str] = ()
    """what it is compared with, a line each"""
    state: State = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells. Numbers are set to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: str = ""
    """the text that unfolds it; empty: it is open"""


@dataclass(frozen=True)
class Mark:
    """How a legend shows a name: by a colour, a shape and a line."""

    name: str
    colour: str
    shape: str
    """circle, square, diamond, cross, triangle-up, -down, -left, -right, box; "": none"""
    dash: Sequence[int] | None
    """of its line, () for a whole one; None: it has none"""


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification and the numbers that it draws."""

    title: str
    spec: dict[str, Any]
    said: str
    """what it shows, for who does not see it"""
    numbers: Table
    value: str = ""
    """the newest number, beside the title"""
    legend: Sequence[Mark] = ()
    wide: bool = False


@dataclass(frozen=True)
class Tiles:
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Lines:
    """A list of lines; of each a state."""

    lines: Sequence[tuple[str, State]]


@dataclass(frozen=True)
class Words:
    """A user's history and list: titles or ids."""

    title: str
    columns: Sequence[tuple[str, Sequence[str]]]


Block = Tiles | Charts | Table | Lines | Words


@dataclass(frozen=True)
class Section:
    """A heading, a line of what it tells, and blocks."""

    name: str
    """its anchor"""
    title: str
    lead: str
    blocks: Sequence[Block] = field(default=())


def number(value: float | None, digits: int = 3) -> str:
    """A number as people read it: counts whole with commas, small ones with so many digits after the point."""
    if value is None:
        return "–"
    if isinstance(value, int) or (value.is_integer() and abs(value) >= 2) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value and abs(value) < 10**-digits:
        return f"{value:.1e}"
    return f"{value:,.{digits}f}" if abs(value) < 10 else f"{value:,.1f}"


def share(value: float | None) -> str:
    """A share as a percentage with a digit after the point."""
    return "–" if value is None else f"{value:.1%}"


def size(count: float | None) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    if count is None:
        return "–"
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float | None) -> str:
    """Seconds, or minutes and hours where they are many."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
