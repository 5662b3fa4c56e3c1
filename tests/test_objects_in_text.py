"""Columns whose texts are JSON objects, in every format: their fields are columns, as in JSON lines."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import FIRST, SECOND, finder, table, write
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError
from worlds import dmtl

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.formats.objects import with_fields
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.data.log.formats.text_rows import json_rows

KINDS = ("csv", "csv.gz", "json", "parquet", "delta", "iceberg")

# -- fields ------------------------------------------------------------------------------------------------------------


def opened(*texts: str | None, **more: Any) -> pl.DataFrame:
    frame = pl.DataFrame({"a": range(len(texts)), "p": pl.Series(texts, dtype=pl.String), "z": [True] * len(texts)})
    return with_fields(frame.with_columns(**more), ["p", "absent"], range(2, 2 + len(texts)), "x.csv", ["NULL"])


def test_fields_are_columns_in_the_place_of_their_text() -> None:
    got = opened('{"x": 1, "o": {"y": "a\\n"}}', None, "", "NULL", ' {\n"x": 2.5, "l": [{"k": 1}, {"k": 2}]} ')
    assert got.columns == ["a", "p.x", "p.o.y", "p.l.k", "z"]
    assert got["p.x"].to_list() == [1.0, None, None, None, 2.5]
    assert got["p.o.y"].to_list() == ["a\n", None, None, None, None]
    assert got["p.l.k"].to_list() == [None, None, None, None, [1, 2]]


def test_lists_of_objects_and_of_values() -> None:
    assert opened('[{"id": "i1", "q": 2}, {"id": "i2"}]', "[]").to_dict(as_series=False) == {
        "a": [0, 1], "p.id": [["i1", "i2"], []], "p.q": [[2, None], []], "z": [True, True],
    }  # fmt: skip
    assert opened("[1, 2]", None)["p"].to_list() == [[1, 2], None]
    assert opened(None, "").columns == ["a", "z"], "of nothing no column is made"
    assert opened("null", '{"x": 1}')["p.x"].to_list() == [None, 1], "JSON has a null of its own"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"x": 1', r"x.csv: row 3, column p: expected a JSON object: .*, got '\{\"x\": 1'"),
        ("seven", r"row 3, column p: expected a JSON object: .*, got 'seven'"),
        ("7", "row 3, column p: expected a JSON object or list, got '7'"),
        ('{"x": 1} {"x": 2}', "row 3, column p: expected a JSON object"),
        ('{"x": 1}, "y": 2', "row 3, column p: expected a JSON object: Extra data"),
        ("[" * 101 + "]" * 101, "row 3, column p: expected a JSON object: more than 100 objects and lists within each"),
        ('{"x": NaN}', "row 3, column p: expected a JSON object: NaN is no JSON"),
        ('{"x": 123456789012345678901}', "column p.x, from line 2 on: an integer beyond int64"),
    ],
)
def test_what_is_no_object_is_refused_with_its_row(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        opened('{"x": 1}', text)
    assert refused.value.hint and refused.value.code == 65


def test_a_first_text_that_goes_on_behind_its_object() -> None:
    with pytest.raises(UserError, match="row 2, column p: expected a JSON object: Extra data"):
        opened('{"x": 1}, "y": 2', '{"x": 1}')


def test_a_field_with_the_name_of_a_column_is_refused() -> None:
    with pytest.raises(UserError, match=r"column p\.x and a field of that name"):
        opened('{"x": 1}', **{"p.x": pl.lit(3)})


leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab\n"{},é', max_size=4)
objects = st.dictionaries(st.sampled_from("xyz"), st.text('ab\n"', max_size=3), min_size=1) | st.fixed_dictionaries(
    {"n": st.integers(-9, 9)},
    optional={"o": st.fixed_dictionaries({"b": st.booleans()}), "s": st.text("ä,'", max_size=3)},
)


@settings(max_examples=60, deadline=None)
@given(some=st.lists(objects, min_size=1, max_size=12))
def test_the_fields_are_those_of_json_lines(
    tmp_path_factory: pytest.TempPathFactory, some: list[dict[str, Any]]
) -> None:
    """With the object in the place of its text, a log of JSON lines has the same columns and values."""
    root = tmp_path_factory.mktemp("lines")
    (root / "e.json").write_text("".join(json.dumps({"p": one}) + "\n" for one in some))
    (rows,) = json_rows(Store(str(root)).file("e.json"), lambda frame, _: frame)
    texts = pl.DataFrame({"p": [json.dumps(one, indent=1) for one in some]})
    got = with_fields(texts, ["p"], range(len(some)), "x.csv")
    assert_frame_equal(got, rows.frame, check_column_order=False)


# -- logs --------------------------------------------------------------------------------------------------------------


def log(days: int = 4, rows: int = 700) -> pl.DataFrame:
    """Exposures whose item, click and seconds are in an object."""
    rng, out = np.random.default_rng(0), list[dict[str, Any]]()
    for day in range(1, days + 1):
        for at in np.sort(rng.integers(0, 86_400, rows)):
            user, item = int(rng.integers(0, 120)), int(rng.random() ** 2 * 60)
            clicked = bool(rng.random() < 0.3)
            seen = {"item_id": f"i{item}", "tags": [f"t{item % 5}", f"t{item % 3}"], "clicked": clicked}
            seen |= {"read_seconds": round(float(rng.exponential(60)), 1)} if clicked else {}
            time = dt.datetime(2026, 1, day) + dt.timedelta(seconds=int(at))
            out.append({"time": time, "d": time.date(), "user_id": f"u{user}", "seen": {"page": {"n": 1}, **seen}})
    return pl.DataFrame([row | {"seen": json.dumps(row["seen"])} for row in out])


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_has_the_same_fields(tmp_path: Path, kind: str) -> None:
    """And a day's file depends on that day's rows alone: of the first day x is an integer, of the second a number."""
    texts = ['{"x": 1, "click": true}', '{"x": 2, "click": false}', '{"x": 2.5, "click": true, "new": "é"}']
    frame = pl.DataFrame({"d": [FIRST, FIRST, SECOND], "user_id": ["a", "b", "c"], "seen": texts})
    path = write(frame, tmp_path, "e", kind)
    form, dated = kind.partition(".")[0], {"types": {"d": "date"}} if kind[:3] in ("csv", "jso") else {}
    types = {"seen": "json"} | dated.get("types", {})
    events = {"path": path, "click": "seen.click", "duration": "seen.x", "types": types}
    found = finder(tmp_path, form, events=events)
    one, two = table(found), table(found, SECOND)
    assert one["seen.x"].to_list() == [1, 2] and two["seen.x"].to_list() == [2.5]
    assert one["seen.click"].to_list() == [True, False] and "seen.new" not in one.columns
    assert two["seen.new"].to_list() == ["é"] and "seen" not in one.columns
    alone = finder(tmp_path / "alone", form, events=events | {"path": write(frame[:2], tmp_path / "alone", "e", kind)})
    assert_frame_equal(table(alone), one)


@pytest.mark.parametrize("kind", ["parquet", "csv", "object"])
def test_a_file_of_empty_lists_alone_has_no_events(tmp_path: Path, kind: str) -> None:
    """As of an hour in which nothing was shown; JSON lines with the lists in their place too."""
    for name, some in (("a", [[{"id": "i", "click": True}], []]), ("b", [[], []])):
        rows = [{"user_id": f"{name}{k}", "seen": json.dumps(one)} for k, one in enumerate(some)]
        if kind == "object":
            lines = [json.dumps(row | {"seen": one}) for row, one in zip(rows, some, strict=True)]
            (tmp_path / f"e/{FIRST}").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"e/{FIRST}/{name}.json").write_text("\n".join(lines))
        else:
            write(pl.DataFrame(rows), tmp_path / f"e/{FIRST}", name, kind)
    types = {"types": {"seen": "json"}} if kind != "object" else {}
    events = {
        "path": "e/{day}",
        "date_column": None,
        "explode": "seen",
        "item": "seen.id",
        "click": "seen.click",
        **types,
    }
    found = finder(tmp_path, "json" if kind == "object" else kind, events=events).find(FIRST)
    assert [PurePosixPath(file.path).name[0] for file in found.events] == ["a"]


def init(home: Path, *more: str) -> tuple[str, dict[str, Any], str]:
    out = home / "mine.yaml"
    ended = dmtl("init", home / "log", "-o", out, "--force", *more)
    assert ended.code == 0, ended.err
    return ended.out, yaml.safe_load(out.read_text()), out.read_text()


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "object"])
def test_init_reads_objects_in_texts(tmp_path: Path, kind: str) -> None:
    """The same roles, features and numbers as of JSON lines with the object in its place."""
    frame, folder = log(), tmp_path / "log" / "events"
    for (day,), rows in frame.group_by("d"):
        of_day = rows.drop("d")
        if kind == "object":
            lines = [{**row, "time": str(row["time"]), "seen": json.loads(row["seen"])} for row in of_day.to_dicts()]
            (folder / f"day={day}").mkdir(parents=True)
            (folder / f"day={day}/part.json").write_text("\n".join(map(json.dumps, lines)))
        else:
            write(of_day, folder / f"day={day}", "part", kind)
    said, raw, text = init(tmp_path)
    events = raw["data"]["events"]
    roles = {"user": "user_id", "item": "seen.item_id", "click": "seen.clicked", "duration": "seen.read_seconds"}
    assert {role: events[role] for role in roles} == roles
    assert events.get("types") == (None if kind == "object" else {"seen": "json"})
    assert "column: seen.tags" in text and "seen.page.n" not in str(raw["features"])
    last = frame.filter(pl.col("d") == dt.date(2026, 1, 4))["seen"].str.json_path_match("$.clicked") == "true"
    assert "day 2026-01-04: 700 rows of" in said and f"{last.mean():.1%} of rows are clicks" in said


@pytest.mark.parametrize(
    ("kind", "none"), [("parquet", "null"), ("csv", "null"), ("csv", "\\N"), ("csv", "NULL"), ("json", "NULL")]
)
def test_init_writes_what_stands_for_no_object(tmp_path: Path, kind: str, none: str) -> None:
    """JSON's own null is always none; of words of databases the config says it."""
    rows = log(rows=200).with_columns(
        seen=pl.when(pl.int_range(pl.len()) % 40 == 7).then(pl.lit(none)).otherwise("seen")
    )
    for (day,), of in rows.group_by("d"):
        write(of.drop("d"), tmp_path / "log" / "events" / f"day={day}", "part", kind)
    said, raw, _ = init(tmp_path)
    assert raw["data"]["events"]["types"] == {"seen": "json"} and "day 2026-01-04: 195 rows of" in said, said
    nulls = raw["data"].get("null_values", raw["data"].get("csv", {}).get("null_values", []))
    assert nulls == ([] if none == "null" else [none])


def test_init_reads_lists_of_objects_some_of_which_are_empty(tmp_path: Path) -> None:
    """A request that shows nothing is no event."""
    rng, shows = np.random.default_rng(0), []
    for k in range(600):
        some = [
            {"id": f"i{int(rng.random() ** 2 * 40)}", "clicked": bool(rng.random() < 0.3), "seconds": k % 90}
            for _ in range(k % 4)
        ]
        at = dt.datetime(2026, 1, 1 + k // 150) + dt.timedelta(seconds=500 * (k % 150))
        shows.append({"ts": at, "user_id": f"u{rng.integers(60)}", "request_id": f"r{k}", "shown": json.dumps(some)})
    write(pl.DataFrame(shows), tmp_path / "log", "events", "parquet")
    _, raw, _ = init(tmp_path)
    events = raw["data"]["events"]
    assert (events["explode"], events["item"], events["types"]) == ("shown", "shown.id", {"shown": "json"})


def test_a_stream_with_properties_in_texts_is_read(tmp_path: Path) -> None:
    """Exposures, clicks and reads of a tracker, their item and what they name within a text; one file of all days."""
    rng, rows, number = np.random.default_rng(0), list[dict[str, Any]](), 0
    for day in range(1, 5):
        for at in np.sort(rng.integers(0, 86_000, 500)):
            number += 1
            who, item = f"u{rng.integers(80)}", f"i{int(rng.random() ** 2 * 50)}"
            time = dt.datetime(2026, 1, day) + dt.timedelta(seconds=int(at))
            seen = {"exposure_id": f"e{number}", "item_id": item}
            rows.append({"ts": time, "user_id": who, "event": "item_shown", "properties": json.dumps(seen)})
            if rng.random() < 0.3:
                rows.append({**rows[-1], "ts": time + dt.timedelta(seconds=5), "event": "item_clicked"})
                read = json.dumps(seen | {"read_ms": int(rng.exponential(60_000))})
                done = {"ts": time + dt.timedelta(seconds=90), "event": "item_read", "properties": read}
                rows.append({**rows[-1], **done})
    (tmp_path / "log").mkdir()
    frame = pl.DataFrame(rows).sort("ts")
    frame.write_csv(tmp_path / "log" / "events.csv")
    said, raw, _ = init(tmp_path, "--conversion", "read_ms >= 30000")
    events = raw["data"]["events"]
    assert events["item"] == "properties.item_id" and events["where"] == "event = 'item_shown'"
    assert events["types"] == {"properties": "json"} == events["joined"]["later"]["types"]
    good = sum(
        json.loads(p).get("read_ms", 0) >= 30_000
        for p in frame.filter(pl.col("ts") >= dt.datetime(2026, 1, 4))["properties"]
    )
    clicks = len(frame.filter((pl.col("event") == "item_clicked") & (pl.col("ts") >= dt.datetime(2026, 1, 4))))
    assert f"{good / clicks:.1%} of clicks are good" in said, said


def test_objects_that_cannot_be_read_are_told_and_left(tmp_path: Path) -> None:
    frame = log().with_columns(odd=pl.Series([json.dumps({"v": k}) for k in range(4 * 700)]))
    frame = frame.with_columns(pl.lit(2.5).alias("odd.v"))
    write(frame.drop("d"), tmp_path / "log", "events", "csv")
    said, raw, _ = init(tmp_path)
    assert "odd: text that is a JSON object, whose fields are not read" in said
    assert raw["data"]["events"]["types"] == {"seen": "json"}


def test_codes_in_braces_stay_codes(tmp_path: Path) -> None:
    """A few texts that look like objects are values of a feature."""
    frame = log().with_columns(few=pl.Series([json.dumps({"a": k % 3}) for k in range(4 * 700)]))
    write(frame.drop("d"), tmp_path / "log", "events", "csv")
    _, raw, text = init(tmp_path)
    assert raw["data"]["events"]["types"] == {"seen": "json"} and "few" in text


# -- config ------------------------------------------------------------------------------------------------------------


def test_types_of_parquet_are_objects_alone() -> None:
    events: dict[str, Any] = {"user": "u", "item": "i", "path": "e", "click": "c", "conversion": "d"}
    assert Data(root="x", events=Events(**events, types={"p": "json"})).is_converted(
        Events(**events, types={"p": "json"})
    )
    assert not Data(root="x", events=Events(**events)).is_converted(Events(**events))
    with pytest.raises(ValidationError, match=r"events.types has no effect on format: parquet"):
        Data(root="x", events=Events(**events, types={"p": "json", "n": "int64"}))
    with pytest.raises(ValidationError, match=r"types has no effect"):
        Data(root="x", events=Events(**events), types={"n": "int64"})
