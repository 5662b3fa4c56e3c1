"""`data.events.unique`: of the rows of one exposure one is read, as if the others had not been delivered."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_log import DAY, rows
from test_where import data, read, same, stream
from worlds import dmtl

from dmtl_cli.config.data import Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.checked.unique import hashed, kept
from dmtl_cli.data.log.reader import REPEATED, Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.runs.ranks import ALONE, Ranks


def delivered(seed: int = 2) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows as they came, those that are read): some twice, some first without their click, some without an id."""
    rng = np.random.default_rng(seed)
    frame = stream(n=400).with_columns(id=pl.Series([f"e{k}" if k % 40 else None for k in range(400)]))
    again = frame.filter(pl.Series(rng.random(400) < 0.2) & pl.col("id").is_not_null())
    lost = pl.Series(rng.random(len(again)) < 0.5)
    early = again.with_columns(
        click=pl.when(lost).then(False).otherwise("click"),
        seconds=pl.when(lost).then(None).otherwise("seconds"),
        at=pl.col("at") - dt.timedelta(seconds=1),
    )
    late = again.filter(~pl.col("click")).with_columns(at=pl.col("at") + dt.timedelta(seconds=1))
    every = pl.concat([frame, early, late]).sort("at", maintain_order=True)
    best = every.with_row_index("row").filter(pl.col("id").is_not_null()).sort("click", "row").unique("id", keep="last")
    nameless = every.with_row_index("row").filter(pl.col("id").is_null())
    return every, pl.concat([best, nameless]).sort("row").drop("row")


@pytest.mark.parametrize("kind", ["parquet", "csv", "json", "delta"])
@pytest.mark.parametrize("block", [17, sizes.BLOCK])
def test_one_row_an_id(tmp_path: Path, kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BLOCK", block)
    every, few = delivered()
    for name, some in (("every", every), ("few", few)):
        write(some, tmp_path / name, "events" if kind == "delta" else f"events_{DAY}", kind)
    lake = {"path": "events", "date_column": "at"}
    at: dict[str, Any] = lake if kind == "delta" else {"path": f"events_{{day}}.{kind}"}
    other = read(data(tmp_path / "few", kind, **at), tmp_path / "w1")
    mine = read(data(tmp_path / "every", kind, unique="id", **at), tmp_path / "w2")
    assert len(every) > len(few) == len(mine) and same(mine, other)
    assert mine.facts.pop(REPEATED) == len(every) - len(few) and mine.facts == other.facts


def test_with_rows_that_are_left_out_before(tmp_path: Path) -> None:
    """What `where` or `invalid_rows` leaves out takes no row's place, and is counted once."""
    frame = pl.DataFrame(
        {
            "event": ["shown", "shown", "ad", "shown", "shown"],
            "id": ["a", "b", "a", "b", "b"],
            "user": [1, 2, 1, 2, None],
            "item": [5, 6, 5, 6, 6],
            "click": [True, False, True, True, True],
            "good": True,
        }
    )
    write(frame, tmp_path, f"events_{DAY}", "parquet")
    given = data(tmp_path, "parquet", "events_{day}.parquet", where="event = 'shown'", unique="id", invalid_rows="drop")
    events = given.events.model_copy(update={"time": None, "duration": None, "conversion": "good"})
    log = Log(given.model_copy(update={"events": events}), ())
    day = log.read(DAY, tmp_path)
    assert rows(day).select("user", "item", "click").rows() == [(1, 5, 1), (2, 6, 1)]
    assert (day.facts["not_asked"], day.facts["left_out.user"], day.facts[REPEATED]) == (1, 1, 1)
    found, raw = log.open(DAY)
    blocks = list(raw.rows([(file, range(1)) for file in found.events]))
    assert pl.concat(blocks)["click"].to_list() == [1, 1], "a pass of its own finds the same rows"


class Two:
    """A rank of two, in threads."""

    size = 2

    def __init__(self, rank: int, shared: dict[int, Any], both: threading.Barrier) -> None:
        self.rank, self._shared, self._both = rank, shared, both

    def gather_objects(self, mine: Any) -> list[Any]:
        self._shared[self.rank] = mine
        self._both.wait(10)
        return [self._shared[0], self._shared[1]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c", "d"]), st.booleans()), max_size=14), st.integers(0, 14))
def test_of_one_id_the_last_with_a_click(delivered: list[tuple[str | None, bool]], cut: int) -> None:
    ids = hashed(pl.Series([i for i, _ in delivered], dtype=pl.String))
    click = pl.Series([int(c) for _, c in delivered], dtype=pl.Int8)
    best: dict[str, int] = {}
    for k, (name, clicked) in enumerate(delivered):
        if name is not None and (name not in best or clicked or not delivered[best[name]][1]):
            best[name] = k
    expected = [name is None or best[name] == k for k, (name, _) in enumerate(delivered)]
    assert kept(ids, click, ALONE).tolist() == expected
    cut, shared, both, found = min(cut, len(ids)), {}, threading.Barrier(2), {}

    def one(rank: int) -> None:
        part = slice(0, cut) if rank == 0 else slice(cut, None)
        found[rank] = kept(ids[part], click[part], cast(Ranks, Two(rank, shared, both))).tolist()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] + found[1] == expected


def test_an_id_of_a_list_is_of_each_of_its_items() -> None:
    lists = pl.Series(["p1", "p1", "p2", "p1", "p1", None, None])
    items = pl.Series(["a", "b", "a", "a", "b", "a", "a"])
    click = pl.Series([0, 1, 0, 0, 0, 0, 0], dtype=pl.Int8)
    assert kept(hashed(lists, items), click, ALONE).tolist() == [False, True, True, True, False, True, True]
    named = hashed(lists.alias("item"), items.alias("id"))
    assert kept(named, click, ALONE).tolist() == [False, True, True, True, False, True, True], (
        "whatever they are called"
    )
    codes = items.replace_strict({"a": 7, "b": 9}).cast(pl.Int64)
    assert kept(hashed(lists, codes), click, ALONE).tolist() == [False, True, True, True, False, True, True]


def test_a_page_that_is_sent_twice_is_read_once(tmp_path: Path) -> None:
    """Its id is one of the row, which is exploded: each element of it is there once."""
    shown = [[{"item": f"i{k}", "tap": k == row} for k in range(4)] for row in (0, 1)]
    pages = pl.DataFrame({"page": ["p0", "p1"], "user": ["u", "v"], "at": [f"{DAY}T10:00:00"] * 2, "shown": shown})
    (tmp_path / "log").mkdir()
    pl.concat([pages, pages.head(1)]).write_ndjson(tmp_path / "log" / f"events_{DAY}.jsonl")
    config = {
        "workspace": str(tmp_path / "ws"),
        "data": {
            "root": str(tmp_path / "log"),
            "format": "json",
            "types": {"at": "datetime"},
            "events": {
                "path": "events_{day}.jsonl", "explode": "shown", "user": "user", "item": "shown.item", "time": "at",
                "click": "shown.tap", "conversion": "shown.tap", "unique": "page",
            },
        },
        "features": "auto",
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    ended = dmtl("check", "--config", tmp_path / "c.yaml", "--day", str(DAY), "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["rows"], ended.json["labels"]["click_rate"]) == (8, 0.25)


def test_what_is_no_id_of_an_exposure() -> None:
    with pytest.raises(ValidationError, match="unique: item_id has a row for each of its exposures"):
        Events(duration="x", unique="item_id")
    assert "unique" not in Events(duration="x").model_dump()


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(stream(), tmp_path, f"events_{DAY}", "parquet")
    with pytest.raises(UserError, match=r"data\.events\.unique expects column idd"):
        read(data(tmp_path, "parquet", "events_{day}.parquet", unique="idd"), tmp_path / "work")


def test_check_says_how_many(tmp_path: Path) -> None:
    every, few = delivered()
    write(every, tmp_path, f"events_{DAY}", "parquet")
    config = {
        "workspace": str(tmp_path / "ws"),
        "data": data(tmp_path, "parquet", "events_{day}.parquet", unique="id").model_dump(exclude_defaults=True),
        "features": "auto",
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    ended = dmtl("check", "--config", tmp_path / "c.yaml", "--day", str(DAY))
    assert ended.code == 0, ended.err
    assert f"{len(every) - len(few)} rows are left out: data.events.unique reads one of each id" in ended.out
    assert f"day {DAY}: {len(few)} rows" in ended.out and "repeat the id" not in ended.out
    write(few, tmp_path, f"events_{DAY}", "parquet")
    ended = dmtl("check", "--config", tmp_path / "c.yaml", "--day", str(DAY))
    assert ended.code == 0 and "data.events.unique" not in ended.out, "nothing is said of no rows"


def test_many_rows_as_polars_finds_them() -> None:
    rng = np.random.default_rng(5)
    names = pl.Series([None if k == 0 else f"e{k}" for k in rng.integers(0, 4_000, 20_000)], dtype=pl.String)
    click = pl.Series((rng.random(20_000) < 0.3).astype(np.int8))
    found = kept(hashed(names), click, ALONE)
    frame = pl.DataFrame([names.alias("id"), click.alias("click")]).with_row_index("row")
    best = frame.drop_nulls("id").sort("click", "row").unique("id", keep="last")["row"]
    nameless = frame.filter(pl.col("id").is_null())["row"]
    assert np.flatnonzero(found).tolist() == sorted([*best, *nameless]) and len(nameless) > 0
