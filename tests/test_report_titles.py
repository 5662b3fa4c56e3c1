"""Titles of items in a report: which column has them, and where a day's table of items is."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from formats import write
from worlds import DAYS

from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.data.log.reader import Log
from dmtl_cli.report.lists import NAMES, _is_words, _named_by, _titles, _titles_of


def test_a_title_is_text_of_many_different_words() -> None:
    assert NAMES[0] == "title" and _is_words(["The third man", "Ran", "A short film"])
    assert not _is_words(["comedy drama", "comedy drama", "comedy drama"]) and not _is_words(["a1", "b2", "c3"])
    assert not _is_words([None, None])


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"lang": ["en", "en"], "article.title": ["Ran", " A  film "]}, "article.title"),
        ({"lang": ["en", "en"], "what_it_is": ["The third man", "A short film"]}, "what_it_is"),
        ({"lang": ["en", "de"], "name_id": ["a1", "b2"]}, None),
        ({"title": [1, 2]}, None),
    ],
)
def test_titles_of_a_feature(columns: dict[str, list[object]], found: str | None) -> None:
    """Of the items that are shown; a null or an empty one is none."""
    rows = {name: [*values, None] for name, values in columns.items()}
    export = SimpleNamespace(items=(pl.Series([7, 8, 9]), None), item_features=pl.DataFrame(rows))
    column, titles = _titles_of(export, {8, 9, 10})  # type: ignore[arg-type]
    assert column == found
    assert titles == ({8: " ".join(str(columns[found][1]).split())} if found else {})


@pytest.mark.parametrize("path", ["items", "items.parquet", "items/{day}.parquet", "items.csv", "items/{day}.csv"])
def test_titles_of_a_table_of_any_format_and_layout(tmp_path: Path, path: str) -> None:
    kind = "csv" if path.endswith("csv") else "parquet"
    events = pl.DataFrame({"user_id": [1], "item_id": [7], "x": [1.0]})
    items = pl.DataFrame({"id": [7, 8], "title": ["The third man", "Ran"]})
    write(items, tmp_path, path.rpartition(".")[0].format(day=DAYS[0]) or "items/a", kind)
    write(events, tmp_path, f"events/{DAYS[0]}", kind)
    config = Config.model_validate(
        {
            "workspace": str(tmp_path / "ws"),
            "data": {
                "root": str(tmp_path),
                "format": kind,
                "events": {"path": f"events/{{day}}.{kind}", "duration": "x"},
                "items": {"path": path, "key": "id"},
            }
            | ({"types": {"id": "int64"}} if kind == "csv" else {}),
            "features": "auto",
        }
    )
    log = Log(config.data, (), converted=conversions(config.workspace))
    run = SimpleNamespace(inputs=log.inputs(dt.date(2026, 1, 1)))
    assert "no column" in _named_by(config, None) and "title" in _named_by(config, "title")
    bare = config.model_copy(update={"data": config.data.model_copy(update={"items": None})})
    assert "no text feature of items is a title" in _named_by(bare, None)
    assert _titles(config, run, {7, 9}) == ("title", {7: "The third man"})  # type: ignore[arg-type]
