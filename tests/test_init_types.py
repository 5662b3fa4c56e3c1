"""Columns of one name in several tables, of other types in each: `init` writes a table's own, and what is refused is
told with the key that takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from test_init_joined import DAYS, shown
from test_init_lengths import clock, plays
from worlds import dmtl

from dmtl_cli.guess.reading.tables import tables
from dmtl_cli.guess.text_lines import Types


def log_of(root: Path, kind: str) -> None:
    """`size` is a number and a word; `level` a code, and of items a number with decimals; `note` of the events is text
    that no feature reads, and a number of items."""
    rng = np.random.default_rng(0)
    for day in DAYS:
        frame = shown(day)
        own = {"size": rng.integers(1, 4, 1500), "level": rng.integers(1, 9, 1500)}
        note = [f"n{k} of {day}" for k in range(1500)]
        write(frame.with_columns(pl.DataFrame(own), note=pl.Series(note)), root / "shown", day, kind)
        of = plays(day)
        size = of["tid"].map_elements(clock, pl.String)
        write(of.select("impression_id", played=size, note=pl.lit("x")), root / "plays", f"plays_{day}", kind)
    items = {"item_id": [f"i{k}" for k in range(60)], "size": ["S", "M", "L"] * 20, "level": rng.random(60).round(3)}
    write(pl.DataFrame(items).with_columns(note=pl.Series(range(100, 160)) ** 2), root, "items", kind)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_columns_of_one_name_and_several_types(tmp_path: Path, kind: str) -> None:
    log_of(tmp_path / "log", kind)
    out = tmp_path / "mine.yaml"
    ended = dmtl("init", tmp_path / "log", "-o", out)
    assert ended.code == 0, ended.err
    data = yaml.safe_load(out.read_text())["data"]
    types, events, items = data["types"], data["events"], data["items"]
    assert types["size"] == "int64" and items["types"]["size"] == "text"
    assert types["level"] == "int64" and items["types"]["level"] == "float64"
    assert "types" not in events["joined"]["plays"] or kind == "json", "what is text anyway is not named"
    assert types["played"] == "clock"
    found = dmtl("check", "--config", out, "--day", DAYS[0], "--json").json
    assert found["rows"] == 1500


def test_of_one_type_none_is_the_tables_own(tmp_path: Path) -> None:
    for day in DAYS:
        clicked = pl.Series(np.random.default_rng(1).random(1500) < 0.3).cast(pl.Int8)
        seconds = pl.Series(np.random.default_rng(2).exponential(40, 1500).round(1))
        frame = shown(day).with_columns(price=pl.int_range(pl.len()) % 60 + 0.5, clicked=clicked)
        frame = frame.with_columns(read_seconds=pl.when(pl.col("clicked") == 1).then(seconds))
        write(frame, tmp_path / "log/shown", day, "csv")
    items = {"item_id": [f"i{k}" for k in range(60)], "price": range(60), "shown_at": ["2025-01-01"] * 60}
    write(pl.DataFrame(items), tmp_path / "log", "items", "csv")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml")
    assert ended.code == 0, ended.err
    assert "types" not in yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]["items"], "a float reads them"


def test_a_format_with_a_comma_stays_one_value(tmp_path: Path) -> None:
    write(pl.DataFrame({"at": ["1"]}), tmp_path, "x", "csv")
    (table,) = tables(str(tmp_path)).tables
    kinds = {"since: a": "date:%a, %d %b %Y", "at": "datetime:%d.%m.%Y %H:%M"}
    (line,) = Types(own={table.files.files: kinds}).keys(table)
    assert yaml.safe_load(line) == {"types": kinds}


@pytest.mark.parametrize(
    ("data", "events", "items", "key"),
    [
        ({"size": "int64"}, {}, {}, "data.types"),
        ({}, {"size": "int64"}, {}, "data.events.types"),
        ({"size": "text"}, {}, {"size": "int64"}, "data.items.types"),
        ({"size": "int64"}, {"size": "text"}, {}, "data.items.types"),
    ],
)
def test_what_is_refused_is_told_with_the_key_that_takes_it(
    tmp_path: Path, data: dict[str, str], events: dict[str, str], items: dict[str, str], key: str
) -> None:
    """That of the table goes before the one of all, which other tables may need as it is."""
    for day in DAYS:
        write(shown(day).with_columns(clicked=1, size=pl.lit("S 1")), tmp_path / "log/shown", day, "csv")
    catalogue = pl.DataFrame({"item_id": [f"i{k}" for k in range(60)], "size": ["S 1"] * 60})
    write(catalogue, tmp_path / "log", "items", "csv")
    roles = {"user": "user_id", "item": "item_id", "conversion": "clicked"}
    section: dict[str, Any] = {
        "root": f"{tmp_path}/log", "format": "csv", "types": data,
        "events": {"path": "shown/{day}.csv", **roles, "types": events},
        "items": {"path": "items.csv", "key": "item_id", "types": items},
    }  # fmt: skip
    config = {"workspace": f"{tmp_path}/ws", "seed": 1, "threads": 1, "data": section, "features": "auto"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    ended = dmtl("check", "--config", path, "--day", DAYS[0])
    assert ended.code == 65 and "column size: expected int64, got 'S 1'" in ended.err, ended.err
    assert ended.err.strip().endswith(f"correct it, or set {key}.size: text"), ended.err
    of = section if key == "data.types" else section[key.split(".")[1]]
    of["types"] = of["types"] | {"size": "text"}
    path.write_text(yaml.safe_dump(config))
    assert dmtl("check", "--config", path, "--day", DAYS[0]).code == 0
