"""Tables in a terminal: nothing is lost, nothing is wider than it, and a pipe has the Markdown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmtl_cli.cli.fitted import fitted, for_terminal

CELL = st.text("ab.±-0123", min_size=1, max_size=9)


def markdown(rows: list[list[str]]) -> str:
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---|" + "---:|" * (len(rows[0]) - 1), *rest])


TEXT = (
    "first\n\n" + markdown([["model", "auc", "seconds"], ["a student", "0.5 ±0.1", "-"], ["b", "-", "12.0"]]) + "\nlast"
)


def test_columns() -> None:
    assert fitted(TEXT, 80).splitlines() == [
        "first",
        "",
        "model           auc  seconds",
        "a student  0.5 ±0.1        -",
        "b                 -     12.0",
        "last",
    ]


def test_what_is_too_wide_is_in_parts_without_empty_rows() -> None:
    assert fitted(TEXT, 20).splitlines() == [
        "first",
        "",
        "model           auc",
        "a student  0.5 ±0.1",
        "b                 -",
        "",
        "model      seconds",
        "b             12.0",
        "last",
    ]


@given(
    st.integers(1, 5).flatmap(lambda m: st.lists(st.lists(CELL, min_size=m, max_size=m), min_size=1)),
    st.integers(1, 60),
)
def test_nothing_is_lost(rows: list[list[str]], width: int) -> None:
    lines = fitted(markdown(rows), width).splitlines()
    parts = [[]]  # type: list[list[str]]
    for line in lines:
        parts.append([]) if not line else parts[-1].append(line)
    shown = sorted(word for line in lines for word in line.split())
    first = [row[0] for row in rows]
    told = [cell for row in rows for cell in row[1:]]
    names = [line.split()[0] for part in parts for line in part]
    assert {*names} == {*first} and names[: len(rows)] == first
    missing = len(shown) - len(names) - len(told)
    assert missing <= 0 and sorted([*names, *told]).count("-") >= -missing, "only empty cells are left out"
    widest = max(map(len, first)) + 2 + max([len(cell) for cell in told], default=-2)
    assert all(len(line) <= max(width, widest) for line in lines)


def test_a_pipe_has_the_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert for_terminal(TEXT) == TEXT
