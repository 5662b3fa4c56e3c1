"""`where`: the log is read as if the rows that it leaves out had never been written."""

from __future__ import annotations

import copy
import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from formats import write
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_log import DAY, rows
from worlds import BASE, DAYS, Project, reshape

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.table import WHERE
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.formats.parquet import Parquet
from dmtl_cli.data.log.reader import NOT_ASKED, Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.synth.generate import generate

FEATURES = (
    Feature(name="user", side="user", kind="categorical"),
    Feature(name="item", side="item", kind="categorical"),
    Feature(name="device", side="user", kind="categorical"),
    Feature(name="place", side="context", kind="numeric"),
)
SHOWN = "event = 'shown' AND NOT COALESCE(bot, FALSE)"


def stream(day: dt.date = DAY, n: int = 600, seed: int = 4) -> pl.DataFrame:
    """Events of several kinds in one file; programs among those that cause them."""
    rng = np.random.default_rng(seed)
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    click = rng.random(n) < 0.3
    return pl.DataFrame(
        {
            "event": rng.choice(["shown", "search", "ad"], n, p=[0.6, 0.3, 0.1]).tolist(),
            "bot": [(True, False, None)[k] for k in rng.choice(3, n, p=[0.1, 0.6, 0.3])],
            "user": rng.integers(0, 20, n),
            "item": [f"d{k}" for k in rng.integers(0, 15, n)],
            "at": [start + dt.timedelta(minutes=k) for k in range(n)],
            "click": click,
            "seconds": pl.Series(np.where(click, rng.integers(1, 99, n), np.nan), dtype=pl.Float64).fill_nan(None),
            "device": [f"x{k}" for k in rng.integers(0, 3, n)],
            "place": rng.integers(0, 9, n),
        }
    )


def asked(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter((pl.col("event") == "shown") & ~pl.col("bot").fill_null(False))


def data(root: Path, kind: str, path: str, **more: Any) -> Data:
    roles = {"user": "user", "item": "item", "time": "at", "click": "click", "duration": "seconds"}
    fmt: Any = kind.partition(".")[0]
    sides = {k: more.pop(k) for k in ("users", "items") if k in more}
    types: Any = {} if fmt not in ("csv", "json") else {"types": {"user": "int64", "bot": "bool", "place": "int64"}}
    return Data(root=str(root), format=fmt, timezone="UTC", events=Events(path=path, **roles | more), **types, **sides)


def read(data: Data, home: Path) -> Day:
    home.mkdir(exist_ok=True)
    return Log(data, FEATURES, converted=home / "converted").read(DAY, home)


def same(one: Day, other: Day) -> bool:
    tables = one.users.equals(other.users) and one.items.equals(other.items)
    return tables and rows(one).sort("position").equals(rows(other).sort("position"))


@pytest.mark.parametrize("kind", ["parquet", "csv", "json.gz", "delta"])
@pytest.mark.parametrize("block", [13, sizes.BLOCK])
def test_other_rows_are_as_if_they_had_not_been_written(
    tmp_path: Path, kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "BLOCK", block)
    frame = stream()
    for name, some in (("all", frame), ("few", asked(frame))):
        write(some, tmp_path / name, "events" if kind == "delta" else f"events_{DAY}", kind)
    at: dict[str, Any] = (
        {"path": f"events_{{day}}.{kind}"} if kind != "delta" else {"path": "events", "date_column": "at"}
    )
    few = read(data(tmp_path / "few", kind, **at), tmp_path / "w1")
    every = read(data(tmp_path / "all", kind, where=SHOWN, **at), tmp_path / "w2")
    assert len(few) == len(asked(frame)) and same(few, every)
    assert every.facts.pop(NOT_ASKED) == len(frame) - len(few) and every.facts == few.facts


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([True, False, None]), min_size=2, max_size=40))
def test_what_is_false_or_null_is_left_out(tmp_path_factory: pytest.TempPathFactory, flags: list[bool | None]) -> None:
    home = tmp_path_factory.mktemp("flags")
    frame = stream(n=len(flags)).with_columns(bot=pl.Series(flags, dtype=pl.Boolean))
    write(frame, home, f"events_{DAY}", "parquet")
    found = data(home, "parquet", "events_{day}.parquet", where="bot")
    if True in flags:
        times = rows(read(found, home / "work"))
        assert times["position"].to_list() == list(range(flags.count(True)))
    else:
        with pytest.raises(UserError, match=rf"no rows of which data.events.where is true \({len(flags)} others\)"):
            read(found, home / "work")


def test_lists_are_exploded_before(tmp_path: Path) -> None:
    shown = [{"id": "a", "ad": False, "opened": True}, {"id": "b", "ad": True, "opened": False}]
    frame = pl.DataFrame({"user": [1, 2], "results": [shown, shown[1:]], "good": [True, True]})
    write(frame, tmp_path, f"events_{DAY}", "parquet")
    events = Events(
        path="events_{day}.parquet", explode="results", user="user", item="results.id", click="results.opened",
        conversion="good", where="NOT results.ad",
    )  # fmt: skip
    day = Log(Data(root=str(tmp_path), events=events), ()).read(DAY, tmp_path)
    assert rows(day).select("user", "item", "click").rows() == [(1, "a", 1)]


def test_one_stream_has_what_was_shown_and_what_came_of_it(tmp_path: Path) -> None:
    """The same file twice: rows of what was shown, and by their id what came of them."""
    frame = pl.DataFrame(
        {
            "event": ["shown", "shown", "click", "leave", "shown", "apply", "click"],
            "id": ["a", "b", "x", "y", "c", "z", "w"],
            "of": [None, None, "a", "a", None, "a", "c"],
            "user": [1, 1, 1, 1, 2, 1, 2],
            "item": [5, 6, 5, 5, 5, 5, 5],
            "ms": [None, None, None, 900, None, None, None],
        }
    )
    write(frame, tmp_path, f"events_{DAY}", "parquet")
    came = {
        "clicked": "COUNT(CASE WHEN event = 'click' THEN 1 END) > 0",
        "applied": "COUNT(CASE WHEN event = 'apply' THEN 1 END) > 0",
    }
    joined: Any = {"came": {"path": "events_{day}.parquet", "key": "of", "event_key": "id", "columns": came}}
    joined["came"]["where"] = "event <> 'shown'"
    events = Events(
        path="events_{day}.parquet", where="event = 'shown'", user="user", item="item", click="clicked",
        conversion="applied", joined=joined,
    )  # fmt: skip
    log = Log(Data(root=str(tmp_path), events=events), ())
    found = rows(log.read(DAY, tmp_path)).select("item", "click", "conversion")
    assert found.rows() == [(5, 1, 1), (6, 0, 0), (5, 1, 0)]
    assert log.outcomes(log.find(DAY))[0].read_rows == 4


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_files_of_both_are_converted_once(tmp_path: Path, kind: str) -> None:
    """A file of events and of what came of them; a day later its own day needs no conversion any more."""
    for k in range(2):
        frame = pl.DataFrame(
            {"event": ["shown", "click"], "id": [f"a{k}", f"x{k}"], "of": ["", f"a{k}"], "user": [1, 1], "item": [5, 5]}
        )
        write(frame, tmp_path / "log", f"events_{DAY + dt.timedelta(k)}", kind)
    path = f"events_{{day}}.{kind}"
    joined: Any = {
        "path": path,
        "key": "of",
        "event_key": "id",
        "columns": {"clicked": "COUNT(*) > 0"},
        "days_after": 1,
    }
    events = Events(
        path=path, where="event = 'shown'", user="user", item="item", click="clicked", conversion="clicked",
        joined={"came": joined},
    )  # fmt: skip
    fmt: Any = kind
    log = Log(Data(root=str(tmp_path / "log"), format=fmt, events=events), (), converted=tmp_path / "converted")
    assert rows(log.read(DAY, tmp_path))["click"].to_list() == [1]
    made = {str(p.relative_to(tmp_path / "converted")): p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    assert len(made) == 2 and all(name.startswith("events/day=") for name in made)
    log.outcomes_of("came", DAY + dt.timedelta(1), {}, log.find(DAY).events)
    assert {
        str(p.relative_to(tmp_path / "converted")): p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")
    } == made


def test_of_side_tables_and_by_what_they_say(tmp_path: Path) -> None:
    """A table with a row for each language; events of items that the table says are articles."""
    write(stream(), tmp_path, f"events_{DAY}", "parquet")
    ids = [f"d{k}" for k in range(14)]  # one is not in the table
    table = pl.concat(
        pl.DataFrame({"item": ids, "lang": lang, "kind": ["article", "video"] * 7, "device": f"of {lang}"})
        for lang in ("en", "fr")
    )
    write(table, tmp_path, "items", "parquet")
    items = SideTable(path="items.parquet", key="item", where="lang = 'fr'")
    given = data(tmp_path, "parquet", "events_{day}.parquet", items=items, where="items.kind = 'article'")
    day = read(given, tmp_path / "work")
    frame = stream()
    articles = frame.filter(pl.col("item").is_in(ids[::2]))
    assert len(day) == len(articles) and set(day.items[":id"]) == set(ids)
    assert rows(day)["item"].is_in(ids[::2]).all()
    with pytest.raises(UserError, match="appears twice"):
        read(given.model_copy(update={"items": items.model_copy(update={"where": None})}), tmp_path / "more")


def test_a_row_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    frame = stream().with_columns(user=pl.when(pl.int_range(600) == 555).then(None).otherwise("user"))
    frame = frame.with_columns(
        event=pl.when(pl.int_range(600) == 555).then(pl.lit("shown")).otherwise("event"), bot=False
    )
    write(frame, tmp_path, f"events_{DAY}", "parquet")
    with pytest.raises(UserError, match=r"column user, row 555: "):
        read(data(tmp_path, "parquet", "events_{day}.parquet", where=SHOWN), tmp_path / "work")
    other = frame.with_columns(event=pl.when(pl.int_range(600) == 555).then(pl.lit("ad")).otherwise("event"))
    write(other, tmp_path / "other", f"events_{DAY}", "parquet")
    read(data(tmp_path / "other", "parquet", "events_{day}.parquet", where=SHOWN), tmp_path / "work")


def test_a_version_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    write(stream(), tmp_path, f"events_{DAY}", "parquet")
    table = pl.DataFrame({"item": [f"d{k}" for k in range(10)], "lang": ["en", "fr"] * 5, "since": ["2026-01-01"] * 10})
    late = table.with_columns(since=pl.when(pl.int_range(10) == 7).then(pl.lit("soon")).otherwise("since"))
    write(late, tmp_path, "items", "parquet")
    items = SideTable(path="items.parquet", key="item", where="lang = 'fr'", version="since")
    with pytest.raises(UserError, match=r"items\.parquet: column since, row 7: .* got 'soon'"):
        read(data(tmp_path, "parquet", "events_{day}.parquet", items=items), tmp_path / "work")


def test_nothing_is_wrong_with_rows_that_are_left_out(tmp_path: Path) -> None:
    """Neither of another day nor of those that came twice a value has to fit."""
    frame = stream().with_columns(id=pl.int_range(600) % 599)
    wrong = pl.when(pl.int_range(600) == 0).then(-5.0).otherwise("seconds").alias("seconds")
    write(frame.with_columns(wrong), tmp_path / "twice", f"events_{DAY}", "parquet")
    some = read(data(tmp_path / "twice", "parquet", "events_{day}.parquet", unique="id"), tmp_path / "w1")
    click = frame["click"].to_list()
    assert len(some) == 599 and not click[0], "the row with a click, or the later one, is read"
    other = stream(DAY - dt.timedelta(1)).with_columns(seconds=pl.lit(-5.0))
    write(pl.concat([other, stream()]), tmp_path / "days", "events", "parquet")
    write(stream(), tmp_path / "alone", f"events_{DAY}", "parquet")
    days = read(data(tmp_path / "days", "parquet", "events.parquet", date_column="at"), tmp_path / "w2")
    assert same(days, read(data(tmp_path / "alone", "parquet", "events_{day}.parquet"), tmp_path / "w3"))


def test_the_condition_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many rows a day has is told by its condition, and reading it afterwards decodes no column of that again."""
    frame = stream()
    write(frame, tmp_path, f"events_{DAY}", "parquet")
    decoded, batches = list[str](), Parquet.iter_batches

    def told(self: Parquet, size: int, groups: Any = None, columns: Any = None, **more: Any) -> Any:
        decoded.extend(columns)
        return batches(self, size, groups, columns, **more)

    monkeypatch.setattr(Parquet, "iter_batches", told)
    log = Log(data(tmp_path, "parquet", "events_{day}.parquet", where=SHOWN), FEATURES)
    assert log.rows(DAY) == len(asked(frame))
    assert len(log.read(DAY, tmp_path)) == len(asked(frame)) and decoded.count(WHERE) == 1
    write(asked(frame), tmp_path, f"events_{DAY}", "parquet")
    log.find(DAY)
    assert log.rows(DAY) == len(asked(frame)) and decoded.count(WHERE) == 2, "of another file it is decided anew"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("place", r"data\.events\.where: expected true or false of each row, got Int64"),
        ("evnt = 'shown'", r"data\.events\.where expects column evnt, did you mean event\?"),
        ("event > 3", r"data\.events\.where: .*"),
    ],
)
def test_what_is_no_condition_is_refused(tmp_path: Path, where: str, words: str) -> None:
    write(stream(), tmp_path, f"events_{DAY}", "parquet")
    with pytest.raises(UserError, match=words) as caught:
        read(data(tmp_path, "parquet", "events_{day}.parquet", where=where), tmp_path / "work")
    assert caught.value.code == Exit.DATA


def test_a_file_that_lacks_the_column_is_refused(tmp_path: Path) -> None:
    write(stream(), tmp_path / f"events/day={DAY}", "a", "parquet")
    write(stream(seed=1).drop("event"), tmp_path / f"events/day={DAY}", "b", "parquet")
    with pytest.raises(UserError, match=r"b\.parquet: data\.events\.where expects column event, which is not in it"):
        read(data(tmp_path, "parquet", "events", where=SHOWN), tmp_path / "work")


def test_a_file_of_json_may_lack_what_is_asked_for_null(tmp_path: Path) -> None:
    """A flag that is written where it is true alone, as protobuf does, is in no row of some files."""
    for name, bot in (("whole", [None]), ("lacks", [])):
        write(stream(), tmp_path / f"{name}/events/day={DAY}", "a", "json")
        rest = stream(seed=1).with_columns(bot=pl.lit(None, pl.Boolean)) if bot else stream(seed=1).drop("bot")
        write(rest, tmp_path / f"{name}/events/day={DAY}", "b", "json")
    one, other = (
        read(data(tmp_path / name, "json", "events", where=SHOWN), tmp_path / f"{name}_work")
        for name in ("whole", "lacks")
    )
    assert same(one, other) and len(one) > len(asked(stream()))
    with pytest.raises(UserError, match=r"b\.json: .*where expects column bot, which is not in it"):
        read(data(tmp_path / "lacks", "json", "events", where="event = 'shown' AND NOT bot"), tmp_path / "work")


def test_outcomes_decide_of_no_row() -> None:
    roles: Any = {"click": "click", "duration": "seconds"}
    with pytest.raises(ValidationError, match="where: it names seconds, which is known only after"):
        Events(**roles, where="seconds < 3600")
    with pytest.raises(ValidationError, match="where: it names hidden"):
        Events(**roles, outcomes=("hidden",), where="NOT hidden")
    with pytest.raises(ValidationError, match="where: good is computed itself"):
        Events(**roles, computed={"good": "a > 1"}, where="good")
    with pytest.raises(ValidationError, match="expected an expression of a row alone"):
        Events(**roles, where="SUM(a) > 1")
    assert Events(duration="rating", where="rating >= 4").where, "clicks alone: it says what one is"


def test_a_config_without_it_is_stored_as_before() -> None:
    assert "where" not in Events(duration="x").model_dump()
    assert "where" not in SideTable(path="x", key="k").model_dump()
    assert Events(duration="x", where="a > 1").model_dump()["where"] == "a > 1"


def test_through_the_commands(tmp_path: Path) -> None:
    """A chain on a stream serves the vectors that one on the log without the other rows does."""
    generate(tmp_path / "world", 2, users=80, items=50, events_per_day=900, seed=5)
    tiny_log = tmp_path / "world/log"

    def stream_of(frame: pl.DataFrame, day: str) -> pl.DataFrame:
        others = frame.sample(fraction=0.4, seed=1).with_columns(user_id=pl.lit(-5, pl.Int64), kind=pl.lit("search"))
        mixed = pl.concat([frame.with_columns(kind=pl.lit("shown")), others.select(*frame.columns, "kind")])
        return mixed.sort("time", maintain_order=True)

    reshape(tiny_log, tmp_path / "stream", stream_of, days=2)
    vectors = []
    for name, log, where in (("plain", tiny_log, {}), ("where", tmp_path / "stream", {"where": "kind = 'shown'"})):
        config = copy.deepcopy(BASE)
        config["data"] = {"events": BASE["data"]["events"] | where}
        inline = [f for f in BASE["features"] if f["name"] in ("user_id", "item_id")]
        project = Project.create(tmp_path / name, log, config=config | {"features": inline})
        for day in DAYS[:2]:
            ended = project.call("run", "--day", day)
            assert ended.code == 0, ended.err
        export = Path(project.call("path", "export").out.strip())
        vectors.append(pl.read_parquet(export / "item_vectors.parquet"))
    assert vectors[0].equals(vectors[1]) and len(vectors[0]) > 10
    found = project.done("check", 1)
    assert found["not_asked"] == 360
    lines = project.call("check", "--day", DAYS[0]).out
    assert f"{found['not_asked']:,} other rows are left out by data.events.where" in lines
