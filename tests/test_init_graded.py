"""`init` on a log with one column of grades: shown, opened, bought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.guess.exposures.graded import graded
from dmtl_cli.guess.exposures.labels import roles_of

X = unseen.drawn(0)
ROWS = len(X["at"])
GRADE = np.where(X["click"] == 1, np.random.default_rng(1).choice([1, 2, 3], ROWS, p=[0.6, 0.25, 0.15]), 0)
STAY = np.where(GRADE > 0, np.random.default_rng(2).exponential(30, ROWS) + 1, 0).round(2)
CODES = {0: "KEINE REAKTION", 1: "GEÖFFNET", 2: "INTERESSE", 3: "ABSCHLUSS"}


def log(grade: Any, **more: Any) -> pl.DataFrame:
    return frame(drop=("clicked", "watch_seconds"), ergebnis=grade, aufenthalt=STAY, **more)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_column_of_grades_tells_clicks_and_what_may_be_good(tmp_path: Path, form: str) -> None:
    rows = log(GRADE, zone=X["position"] % 4)
    write = daily(rows) if form == "parquet" else lambda home: rows.write_csv(home / "log.csv")
    ended, raw, text = made(tmp_path, write, "--conversion", "ergebnis >= 3")
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["click"] == "clicked" and events["computed"] == {
        "clicked": "ergebnis >= 1",
        "good": "ergebnis >= 3",
    }
    assert "click: clicked  # grades of a label: aufenthalt has a value in its rows alone: 0/1, " in text
    assert {"ergebnis", "aufenthalt"} <= {*events["outcomes"]} and "zone" in features(raw)
    checked = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json")
    assert checked.code == 0, checked.err
    _, _, text = made(tmp_path / "again", write)
    shares = [f"{(k <= GRADE).sum() / (GRADE >= 1).sum():.0%} of clicks" for k in (3, 2)]
    said = [line.strip() for line in text.splitlines() if 'good: "ergebnis' in line]
    assert said == [
        f'#   computed: {{good: "ergebnis >= {k}"}}  # {part}' for k, part in zip((3, 2), shares, strict=True)
    ]


def test_grades_in_words_leave_out_what_was_never_seen(tmp_path: Path) -> None:
    """Rows that were not delivered have another grade, and nothing of what follows a click."""
    words = np.array([CODES[int(g)] for g in GRADE], dtype=object)
    words[(GRADE == 0) & (np.arange(ROWS) % 12 == 0)] = "NICHT ZUGESTELLT"
    ended, raw, _ = made(tmp_path, daily(log(words.tolist())), "--conversion", "ergebnis = 'ABSCHLUSS'")
    assert ended.code == 0, ended.err
    made_by = raw["data"]["events"]["computed"]["clicked"]
    assert made_by == "ergebnis IN ('ABSCHLUSS', 'INTERESSE', 'GEÖFFNET')"
    assert log(words.tolist()).select(pl.sql_expr(made_by).sum()).item() == int((GRADE > 0).sum())


@pytest.mark.parametrize(
    "change",
    [
        {"aufenthalt": np.ones(ROWS) * np.arange(ROWS)},  # there for every row
        {"ergebnis": GRADE.tolist()[::-1]},  # by chance
        {"ergebnis": (GRADE > 1).astype(int).tolist()},  # a flag
        {"ergebnis": (X["item"] % 4).tolist()},  # of the item
        {"clicked": X["click"].tolist()},  # the click is known
        {"zweites": GRADE.tolist()},  # which of two is not told
        {"aufenthalt": np.where(GRADE > 0, 1 + GRADE * 5 % 20, 0).tolist()},  # codes that another category has
        {"read_seconds": (1.0 + np.arange(ROWS) % 97).tolist()},  # rows of the lowest grade last too
    ],
    ids=["always", "chance", "flag", "item", "click", "two", "codes", "lasts"],
)
def test_other_columns_of_few_values_are_no_grades(change: dict[str, Any]) -> None:
    rows = log(GRADE).with_columns(pl.Series(c, v) for c, v in change.items())
    assert graded(rows, roles_of(rows, {})) is None
    there = log(GRADE)
    found = graded(there, roles_of(there, {}))
    assert found is not None and found.clicked == "ergebnis >= 1"


def test_an_action_of_an_item_is_no_behaviour(tmp_path: Path) -> None:
    """A column named so, of the items, whose words say nothing of clicks."""
    campaign = [["ohne", "Treuebonus", "Herbstaktion"][k % 3] for k in X["item"]]
    ended, raw, _ = made(tmp_path, daily(frame(aktion=campaign)))
    assert ended.code == 0 and features(raw)["aktion"]["side"] == "item", ended.err
