"""`init` on side tables whose ids are those of the events in another writing: it says what to write, and that works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import unseen
from initiated import made

from dmtl_cli.guess.sides import side_tables
from dmtl_cli.guess.sides.side_tables import told

ITEMS: dict[str, tuple[Callable[[int], Any], Callable[[int], Any], str]] = {
    # of the events, of the table, what is said
    "lower": (lambda k: f"ab-{k:02d}x", lambda k: f"AB-{k:02d}X", "in lower case"),
    "upper": (lambda k: f"AB-{k:02d}X", lambda k: f"ab-{k:02d}x", "in upper case"),
    "padded": (lambda k: f"{k:05d}", lambda k: f"{k}", "with leading zeros, 5 characters long"),
    "padded number": (lambda k: f"{k:05d}", lambda k: k, "with leading zeros, 5 characters long"),
    "bare": (lambda k: f"{k}", lambda k: f"{k:05d}", "without leading zeros"),
    "integers": (lambda k: k, lambda k: f"{k:05d}", "as integers"),
    "spaces": (lambda k: f"n{k}", lambda k: f" n{k} ", "without the spaces around it"),
}


def log(item: Callable[[int], Any]) -> pl.DataFrame:
    x = unseen.drawn(7)
    return pl.DataFrame({
        "user_id": x["user"] + 7_000, "ware": [item(int(k) + 3) for k in x["item"]], "ts": x["at"],
        "is_click": x["click"], "play_seconds": x["seconds"],
    })  # fmt: skip


@pytest.mark.parametrize("case", ITEMS)
def test_the_line_makes_a_side_table(tmp_path: Path, case: str) -> None:
    mine, other, said = ITEMS[case]
    table = pl.DataFrame({"ware": [other(k + 3) for k in range(unseen.ITEMS)], "make": ["x", "y"] * 20})

    def write(items: pl.DataFrame) -> Callable[[Path], None]:
        def at(home: Path) -> None:
            unseen.by_day(home / "log", log(mine), unseen.drawn(7))
            items.write_parquet(home / "wares.parquet")

        return at

    _, raw, text = made(tmp_path / "before", write(table), "--item", "ware")
    (line,) = (line for line in text.splitlines() if "# wares.parquet: not used: " in line)
    assert f"ware has 100% of the sample's items {said}: write it so, in polars items.with_columns(" in line
    assert "items" not in raw["data"]
    written = eval(line.partition("in polars ")[2], {"pl": pl, "items": table})
    ended, raw, text = made(tmp_path / "after", write(written), "--item", "ware")
    assert raw["data"]["items"] == {"path": "wares.parquet", "key": "ware"} and "in polars" not in text
    assert ended.code == 0, ended.err


def test_a_table_of_which_some_ids_are_written_otherwise(tmp_path: Path) -> None:
    """As where a sheet was opened in a program that drops zeros."""
    table = pl.DataFrame({
        "ware": [f"{k + 3:05d}" if k % 4 else f"{k + 3}" for k in range(unseen.ITEMS)], "make": ["x", "y"] * 20,
    })  # fmt: skip

    def write(home: Path) -> None:
        unseen.by_day(home / "log", log(lambda k: f"{k:05d}"), unseen.drawn(7))
        table.write_parquet(home / "wares.parquet")

    _, raw, text = made(tmp_path, write, "--item", "ware")
    (line,) = (line for line in text.splitlines() if line.startswith("  items: "))
    assert raw["data"]["items"]["key"] == "ware" and "75% of the sample's items are in it; ware has 100%" in line
    assert 'items.with_columns(pl.col("ware").cast(pl.String).str.zfill(5))' in line


def test_the_events_may_have_both(tmp_path: Path) -> None:
    ids = pl.Series("a.sku", [f"{'K' if k % 2 else 'k'}{k}" for k in range(40)])
    found = told("items", ids, pl.Series("SKU", [f"K{k}" for k in range(40)]), 0.5)
    both = '(pl.col("SKU").str.to_lowercase()) and log.with_columns(pl.col("a").struct.field("sku").str.to_lowercase())'
    assert found is not None and found[0] == 1 and both in found[1]
    assert found[1].startswith("SKU has 100% of the sample's items in lower case, as")


def test_other_ids_stay_other_ids() -> None:
    ids = pl.Series("sku", [f"a{k}" for k in range(100)])
    assert told("items", ids, pl.Series("sku", [f"B{k}" for k in range(100)]), 0.0) is None
    assert told("items", ids, ids, 1.0) is None
    assert told("items", ids, pl.Series("sku", range(100)), 0.0) is None
    four = pl.Series("sku", [f"A{k}" if k < 4 else f"B{k}" for k in range(100)])
    assert told("items", ids, four, 0.0) is None, "4 of 100 are too few"
    assert told("items", ids, four.replace("B7", "A7"), 0.0) is not None


@pytest.mark.parametrize("write", [str.upper, lambda i: i.zfill(12), lambda i: f" {i} "])
def test_of_many_ids_a_part_is_compared(monkeypatch: pytest.MonkeyPatch, write: Callable[[str], str]) -> None:
    """An id and its other writing are in the same part, so it has the share of all ids, but for the part's chance."""
    events = pl.Series("uid", [f"{k:x}ab" for k in range(1, 40_001)])
    key = pl.Series("key", [write(i) for i in events[:20_000]] + [f"other {k}" for k in range(20_000)])
    every = told("users", events, key, 0.0)
    monkeypatch.setattr(side_tables, "_COMPARED", 8_000)
    monkeypatch.setattr(side_tables, "_SLICE", 7_000)
    mine, other = side_tables._part(events, key)
    some = told("users", events, key, 0.0)
    assert 6_000 < len(mine) + len(other) < 10_000 and every is not None and some is not None
    assert every[0] == 0.5 and some[0] == pytest.approx(0.5, abs=0.05)
    assert some[1].split(" of the ")[1] == every[1].split(" of the ")[1]


def test_of_many_ids_nulls_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_tables, "_COMPARED", 10)
    ids = pl.Series("uid", ["a", None] * 50)
    assert side_tables._part(ids, ids)[0].null_count() == 50
    assert told("users", ids, ids.str.to_uppercase(), 0.0) is None, "one id is none"
