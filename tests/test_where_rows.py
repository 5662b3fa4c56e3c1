"""`where` of rows that cannot be computed, of files with several days or without a column, and how rows are counted."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from formats import write
from test_log import DAY, rows
from test_where import SHOWN, asked, data, read, stream

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.reader import NOT_ASKED, Log

NEXT = DAY + dt.timedelta(1)


def test_nothing_is_computed_of_rows_that_are_left_out(tmp_path: Path) -> None:
    """A number in what was shown, a text in what was searched: CAST refuses the text."""
    frame = stream().with_columns(value=pl.when(pl.col("event") == "shown").then(pl.lit("7")).otherwise(pl.lit("a b")))
    write(frame, tmp_path, f"events_{DAY}", "parquet")
    given = data(tmp_path, "parquet", "events_{day}.parquet", where=SHOWN, computed={"n": "CAST(value AS BIGINT)"})
    feature = Feature(name="n", side="context", kind="numeric")
    day = Log(given, (feature,)).read(DAY, tmp_path)
    block = pl.concat([pl.DataFrame({"n": b.features["n"]}) for b in day.blocks()])
    assert block["n"].to_list() == [7] * len(asked(frame))
    searched = given.model_copy(update={"events": given.events.model_copy(update={"where": None})})
    with pytest.raises(UserError, match=r"computed\.n: conversion from `str` to `i64` failed"):
        Log(searched, (feature,)).read(DAY, tmp_path)


@pytest.mark.parametrize("where", ["flag", "NOT flag"])
def test_a_condition_of_a_column_without_a_type_is_true_of_nothing(tmp_path: Path, where: str) -> None:
    ids = list(range(9))
    for name, more in (("events", {"item": ["a"] * 9, "click": [1] * 9}), ("came", {"seconds": [1.0] * 9})):
        pq.write_table(pa.table({"user_id": ids, "flag": pa.nulls(9)} | more), tmp_path / f"{name}_{DAY}.parquet")
    pq.write_table(pa.table({"item": ["a", "a"], "flag": pa.nulls(2)}), tmp_path / "items.parquet")
    columns = {"length": "SUM(seconds)"}
    joined: Any = {"came": {"path": "came_{day}.parquet", "key": "user_id", "columns": columns, "where": where}}
    events = Events(path="events_{day}.parquet", item="item", click="click", duration="length", joined=joined)
    items = SideTable(path="items.parquet", key="item", where=where)
    day = Log(Data(root=str(tmp_path), events=events, items=items), ()).read(DAY, tmp_path)
    assert day.facts["clicks_without_duration"] == 9 and day.facts["items_joined"] == 0


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_other_rows_are_counted_of_the_day_alone(tmp_path: Path, kind: str) -> None:
    """One file of two days, which a Parquet's row group has both of."""
    frame = pl.concat([stream(), stream(NEXT, seed=5)])
    write(frame, tmp_path, "events", kind)
    day = read(data(tmp_path, kind, f"events.{kind}", date_column="at", where=SHOWN), tmp_path / "work")
    assert len(day) == len(asked(stream())) and day.facts[NOT_ASKED] == 600 - len(day)


def test_rows_of_a_day_are_those_that_are_asked_for(tmp_path: Path) -> None:
    """By them a chain's first days are chosen, and `check` says that a day is small beside others."""
    write(stream(), tmp_path / "log", f"events_{DAY}", "parquet")
    where = data(tmp_path / "log", "parquet", "events_{day}.parquet", where=SHOWN)
    assert Log(where, ()).rows(DAY) == len(asked(stream()))
    assert Log(where, (), events_only=True).rows(DAY) == len(asked(stream()))
    write(pl.concat([stream(), stream(NEXT)]), tmp_path / "one", "events", "parquet")
    one = data(tmp_path / "one", "parquet", "events.parquet", date_column="at", where=SHOWN)
    assert Log(one, (), converted=tmp_path / "converted").rows(DAY) == len(asked(stream()))
    assert Log(data(tmp_path / "log", "parquet", "events_{day}.parquet"), ()).rows(DAY) == 600


def of_hours(root: Path, hours: list[list[dict[str, Any]]]) -> Data:
    """A log of JSON, a file an hour."""
    for k, lines in enumerate(hours):
        path = root / f"log/day={DAY}/events_{k}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = {"clicked": "COUNT(*) > 0", "length": "SUM(seconds)"}
    joined: Any = {"came": {"path": "day={day}", "where": "event <> 'shown'", "key": "of", "event_key": "id",
                            "columns": columns}}  # fmt: skip
    events = Events(
        path="day={day}", where="event = 'shown'", user="user", item="item", click="clicked", duration="length",
        joined=joined,
    )  # fmt: skip
    return Data(root=str(root / "log"), format="json", types={"seconds": "float64"}, events=events)


def shown(k: int) -> dict[str, Any]:
    return {"event": "shown", "id": f"a{k}", "user": k, "item": "i"}


def came(k: int, **more: Any) -> dict[str, Any]:
    return {"event": "click", "id": f"c{k}", "of": f"a{k}", "user": k, "item": "i"} | more


def clicks(given: Data, home: Path) -> list[tuple[int, float | None]]:
    found = rows(Log(given, (), converted=home / "converted").read(DAY, home)).sort("position")
    return list(found.select("click", pl.col("duration").fill_nan(None)).iter_rows())


def test_a_file_in_which_nobody_did_anything_has_no_column_of_it(tmp_path: Path) -> None:
    """JSON has no column of what no line has: an hour without clicks lacks the id that clicks name."""
    given = of_hours(tmp_path, [[shown(0), came(0, seconds=5.0)], [shown(1), shown(2)], [came(2)]])
    assert clicks(given, tmp_path) == [(1, 5.0), (0, None), (1, None)]


def test_a_day_without_a_kind_has_no_column_of_it(tmp_path: Path) -> None:
    given = of_hours(tmp_path, [[shown(0), came(0)], [shown(1)]])
    assert clicks(given, tmp_path) == [(1, None), (0, None)]
    unnamed = given.model_copy(update={"types": {}})
    with pytest.raises(UserError, match=r"came\.columns expects column seconds") as caught:
        clicks(unnamed, tmp_path)
    assert caught.value.code == Exit.DATA, "data.types does not name it: it may be mistyped"
    (came_of,) = given.events.joined.values()
    whole = given.events.model_copy(update={"joined": {"came": came_of.model_copy(update={"where": None})}})
    with pytest.raises(UserError, match="key expects column of, which is not in it"):
        clicks(given.model_copy(update={"events": whole}), tmp_path)


@pytest.mark.parametrize("path", ["events.parquet", "events"])
@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%d %H:%M"])
def test_days_of_text_are_those_that_there_are_rows_of(tmp_path: Path, form: str, path: str) -> None:
    """One Parquet file of all days, named or alone in a folder, where it is read in place: text orders days roughly
    alone, and one that only may be there is not there."""
    days = [dt.date(2026, 1, 1) + dt.timedelta(k) for k in range(3)]
    frame = pl.concat([stream(day, seed=k) for k, day in enumerate(days)])
    at = pl.col("at").dt.strftime(form)
    if "%.f" in form:  # as isoformat() writes them: without a fraction where it is 0, so of several lengths
        at = pl.when(pl.col("user") == 3).then(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).otherwise(at)
    file = tmp_path / "log" / path / ("a.parquet" if path == "events" else "")
    file.parent.mkdir(parents=True)
    frame.with_columns(at=at).write_parquet(file, row_group_size=500)
    log = Log(data(tmp_path / "log", "parquet", path, date_column="at"), (), converted=tmp_path / "converted")
    near = [days[0] + dt.timedelta(k) for k in range(-4, 8)]
    assert [day for day in near if log.has(day)] == days
    assert [len(log.read(day, tmp_path)) for day in days] == [600, 600, 600]
    with pytest.raises(
        UserError, match=r"no file of .* has a at of day 2025-12-31 \(the log has 2026-01-01 .. 2026-01-03\)"
    ):
        log.find(days[0] - dt.timedelta(1))


def test_a_file_of_other_events_alone_lacks_what_is_only_of_exposures(tmp_path: Path) -> None:
    """A file a kind: that of searches has no item, and clicks no request."""
    frame = stream().with_columns(bot=False, request=pl.int_range(600) // 7)
    for (kind,), some in frame.group_by("event"):
        lacks = {"search": ["item", "request", "click"], "ad": ["request", "seconds"], "shown": []}[str(kind)]
        write(some.drop(lacks), tmp_path / f"log/events/day={DAY}", str(kind), "parquet")
    given = data(tmp_path / "log", "parquet", "events", where=SHOWN, request="request")
    day = read(given, tmp_path / "work")
    assert len(day) == len(asked(frame)) and day.facts[NOT_ASKED] == 600 - len(day)
    lone = frame.head(9).with_columns(event=pl.lit("shown"))
    write(lone.drop("request"), tmp_path / f"log/events/day={DAY}", "more", "parquet")
    with pytest.raises(UserError, match=r"data\.events\.request expects column request, which is not in it"):
        read(given, tmp_path / "work")
