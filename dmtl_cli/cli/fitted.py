"""Markdown tables as a terminal shows them best: in columns, and not wider than it."""

from __future__ import annotations

import itertools
import shutil
import sys

_GAP = "  "
_NONE = "-"
"""a cell without a value"""


def for_terminal(text: str) -> str:
    """Text with Markdown tables as stdout should have it: as it is in a file or a pipe, `fitted` in a terminal."""
    return fitted(text, shutil.get_terminal_size((120, 24)).columns) if sys.stdout.isatty() else text


def fitted(text: str, width: int) -> str:
    """The text with each Markdown table in columns: the first to the left, numbers to the right. What is wider than so
    many characters is in parts below each other, each with the first column, and after the first part without the rows
    that have nothing in it. Other lines are as they are.
    """
    lines = (line for line in text.splitlines() if not line.startswith("|---"))
    blocks = itertools.groupby(lines, key=lambda line: line.startswith("| "))
    return "\n".join(
        line for is_table, block in blocks for line in (_in_parts([*map(_cells, block)], width) if is_table else block)
    )


def _in_parts(rows: list[list[str]], width: int) -> list[str]:
    """
    Args:
        rows: [n][m] cells, the head first.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    parts, used = [list[int]()], widths[0]
    for k in range(1, len(widths)):
        used += len(_GAP) + widths[k]
        if used > width and parts[-1]:
            parts.append([])
            used = widths[0] + len(_GAP) + widths[k]
        parts[-1].append(k)
    lines = list[str]()
    for part in parts:
        told = [row for row in rows if part == parts[0] or any(row[k] != _NONE for k in part)]
        lines += [""] if lines else []
        lines += [_GAP.join([row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in part)]) for row in told]
    return [line.rstrip() for line in lines]


def _cells(line: str) -> list[str]:
    return line.removeprefix("| ").removesuffix(" |").split(" | ")
