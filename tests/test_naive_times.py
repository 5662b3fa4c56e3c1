"""`data.naive_times: local`: times that name no zone are of the users' clock, beside others that are instants."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from formats import write
from initiated import made
from pydantic import ValidationError
from test_joined import FEATURES
from test_log import rows
from worlds import Project, dmtl

from dmtl_cli.config.data import Data, Events
from dmtl_cli.data.log.reader import Log

ZONE = ZoneInfo("Asia/Tokyo")
FIRST = dt.date(2026, 1, 1)
TEXTS = {
    "iso": ("%Y-%m-%d %H:%M:%S", "datetime"),
    "format": ("%d.%m.%Y %H:%M:%S", "datetime:%d.%m.%Y %H:%M:%S"),
}


def clock(hours: int = 48, begin: dt.date = FIRST) -> pl.DataFrame:
    """An exposure each ten minutes of the users' clock: each fourth is clicked."""
    start = dt.datetime.combine(begin, dt.time())
    at = [start + dt.timedelta(minutes=10 * k) for k in range(6 * hours)]
    ids = {"person": [f"u{k % 7}" for k in range(len(at))], "doc": [f"d{k % 5}" for k in range(len(at))]}
    flags = {name: [k % n == 0 for k in range(len(at))] for name, n in (("clicked", 4), ("liked", 8))}
    return pl.DataFrame({**ids, "id": range(len(at)), "at": at, **flags})


def log(home: Path, kind: str, naive_times: str, events: dict[str, Any] | None = None, **more: Any) -> Log:
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "liked", "time": "at"}
    given = Events(**{"path": f"events.{kind}", "date_column": "at", **roles, **(events or {})})
    said: Any = {"format": kind, "naive_times": naive_times, "timezone": str(ZONE), **more}
    return Log(Data(root=str(home), events=given, **said), FEATURES, converted=home / f"converted_{naive_times}")


def lengths(found: Log, home: Path) -> list[int]:
    return [len(rows(found.read(FIRST + dt.timedelta(days=k), home))) for k in range(2)]


def in_parquet(frame: pl.DataFrame, form: str) -> pl.DataFrame:
    at = pl.col("at")
    as_forms = {"us": at, "ns": at.dt.cast_time_unit("ns"), "text": at.dt.to_string("%Y-%m-%dT%H:%M:%S")}
    as_forms |= {"zone": at.dt.replace_time_zone(str(ZONE))}
    return frame.with_columns(as_forms[form])


@pytest.mark.parametrize("form", ["us", "ns", "text", "zone"])
def test_a_day_is_that_of_the_clock(tmp_path: Path, form: str) -> None:
    """Of UTC, what is shown after 15:00 would be of the next day of Tokyo."""
    write(in_parquet(clock(), form), tmp_path, "events", "parquet")
    assert lengths(log(tmp_path, "parquet", "local"), tmp_path) == [144, 144]
    as_utc = lengths(log(tmp_path, "parquet", "utc"), tmp_path)
    assert as_utc == ([144, 144] if form == "zone" else [90, 144])


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_texts_are_of_the_clock_too(tmp_path: Path, kind: str, form: str) -> None:
    text, given = TEXTS[form]
    write(clock().with_columns(pl.col("at").dt.to_string(text)), tmp_path, "events", kind)
    types = {"at": given, "clicked": "bool", "liked": "bool"}
    assert lengths(log(tmp_path, kind, "local", types=types), tmp_path) == [144, 144]
    assert lengths(log(tmp_path, kind, "utc", types=types), tmp_path) == [90, 144]


def test_what_was_converted_is_cut_anew(tmp_path: Path) -> None:
    """One workspace, in which the config's word is edited."""
    text, given = TEXTS["iso"]
    write(clock().with_columns(pl.col("at").dt.to_string(text)), tmp_path, "events", "csv")
    found = []
    for said in ("utc", "local", "utc"):
        one = log(tmp_path, "csv", said, types={"at": given, "clicked": "bool", "liked": "bool"})
        one = Log(one.data, FEATURES, converted=tmp_path / "converted")
        found.append(lengths(one, tmp_path))
    assert found == [[90, 144], [144, 144], [90, 144]]


@pytest.mark.parametrize("begin", [dt.date(2026, 3, 29), dt.date(2026, 10, 25)], ids=["spring", "autumn"])
def test_a_day_has_the_hours_of_its_clock(tmp_path: Path, begin: dt.date) -> None:
    """Where an hour comes twice, or is passed over, the day is the text's own all the same."""
    write(clock(24, begin), tmp_path, "events", "parquet")
    found = log(tmp_path, "parquet", "local", timezone="Europe/Berlin").read(begin, tmp_path)
    assert len(rows(found)) == 144


@pytest.mark.parametrize(("said", "bought"), [("local", 144), ("utc", 0)])
def test_beside_instants_they_are_the_same_moments(tmp_path: Path, said: str, bought: int) -> None:
    """Each was bought five minutes after it was shown, as seconds since 1970 say."""
    shown = clock()
    came = shown["at"].dt.replace_time_zone(str(ZONE)).dt.epoch("s") + 300
    write(shown, tmp_path, "events", "parquet")
    write(pl.DataFrame({"id": shown["id"], "came": came}), tmp_path, "orders", "parquet")
    orders = {"path": "orders.parquet", "key": "id", "time": "came", "within": "1h", "columns": {"got": "COUNT(*) > 0"}}
    events = {"click": "got", "joined": {"orders": orders}}
    found = log(tmp_path, "parquet", said, events).read(FIRST + dt.timedelta(days=1), tmp_path)
    assert rows(found)["click"].sum() == bought


FORMS = {
    "text": pl.col("x").dt.to_string("%Y-%m-%d %H:%M:%S"),
    "naive": pl.col("x"),
    "some zones": pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("x").dt.to_string("%Y-%m-%dT%H:%M:%S"))
    .otherwise(pl.col("x").dt.to_string("%Y-%m-%dT%H:%M:%S+09:00")),
}  # fmt: skip


@pytest.mark.parametrize("said", ["local", "utc"])
@pytest.mark.parametrize(
    ("one", "other"), [("text", "naive"), ("naive", "text"), ("text", "text"), ("some zones", "text")]
)
def test_two_clocks_are_one_whatever_they_are_written_as(tmp_path: Path, said: str, one: str, other: str) -> None:
    """Each was bought five minutes after it was shown, by the users' clock: where neither names a zone both are as they
    stand; beside texts of which some do, the others are local where that is said."""
    shown = clock()
    came = pl.DataFrame({"id": shown["id"], "x": shown["at"] + dt.timedelta(minutes=5)})
    write(shown.rename({"at": "x"}).with_columns(FORMS[one].alias("at")).drop("x"), tmp_path, "events", "parquet")
    write(came.with_columns(FORMS[other].alias("came")).drop("x"), tmp_path, "orders", "parquet")
    orders = {"path": "orders.parquet", "key": "id", "time": "came", "within": "1h", "columns": {"got": "COUNT(*) > 0"}}
    found = log(tmp_path, "parquet", said, {"click": "got", "joined": {"orders": orders}})
    got = rows(found.read(FIRST + dt.timedelta(days=1), tmp_path))["click"]
    assert got.all() if said == "local" or one != "some zones" else not got.all()


def test_a_clock_is_of_a_zone() -> None:
    with pytest.raises(ValidationError, match="naive_times: local has no effect without timezone"):
        Data(root="log", naive_times="local", events=Events(user="u", item="i", conversion="liked"))


@pytest.mark.parametrize("of", ["UTC", "Asia/Tokyo"])
def test_items_may_come_by_another_clock(tmp_path: Path, of: str) -> None:
    """Exposures have the users' clock, the catalogue that of its database: none is shown before it is there."""
    begin = dt.datetime(2026, 3, 1)
    came = [begin + dt.timedelta(hours=1 + k // 2, minutes=7 * (k % 5)) for k in range(90)]
    at, item, user = [], [], []
    for k, since in enumerate(came):
        for n in range(40):
            at.append(since + dt.timedelta(minutes=20 + 43 * n))
            item.append(f"a{k}")
            user.append(f"u{(7 * k + n) % 60}")
    events = pl.DataFrame({"user_id": user, "item_id": item, "shown_at": at}).sort("shown_at", "item_id")
    events = events.with_columns(clicked=pl.int_range(pl.len()) % 5 == 0, liked=pl.int_range(pl.len()) % 10 == 0)
    since = pl.Series(came).dt.replace_time_zone("Asia/Tokyo").dt.convert_time_zone(of).dt.replace_time_zone(None)
    items = pl.DataFrame({"item_id": [f"a{k}" for k in range(90)], "topic": ["x", "y"] * 45, "published_at": since})

    def lay(home: Path) -> None:
        events.write_parquet(home / "events.parquet")
        items.write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, lay, "--timezone", "Asia/Tokyo")
    assert ended.code == 0, ended.err
    assert (raw["data"]["timezone"], raw["data"]["naive_times"]) == ("Asia/Tokyo", "local"), text
    assert raw["data"]["items"].get("version_timezone") == (None if of == "Asia/Tokyo" else "UTC"), text
    checked = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02")
    assert checked.code == 0 and "zone" not in checked.out, checked.out


CHANGED = {
    "data.timezone: Asia/Tokyo, the config now says UTC": {"data__timezone": "UTC"},
    "data.naive_times: local, the config now says utc": {"data__naive_times": "utc"},
    "data.events.date_column: at, the config now says sent": {"data__events__date_column": "sent"},
    "data.events.date_column: at, the config now says none": {
        "data__events__date_column": "null",
        "data__events__path": "folders",
    },
}


@pytest.mark.parametrize("said", CHANGED)
def test_days_that_a_running_chain_would_cut_anew_are_refused(tmp_path: Path, said: str) -> None:
    """Else the hours between two midnights would be of two days, or of none; from its first day on all of it is made
    again."""
    frame, first, second = clock().with_columns(sent="at"), "2026-01-01", "2026-01-02"
    write(frame, tmp_path, "events", "parquet")
    for day in (first, second):
        write(frame, tmp_path, f"folders/day={day}/part", "parquet")
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "liked", "time": "at"}
    events = {"path": "events.parquet", "date_column": "at", **roles}
    data = {"timezone": str(ZONE), "naive_times": "local", "events": events}
    project = Project.create(tmp_path, tmp_path, config={"data": data, "features": "auto"})
    assert project.call("build-profile", "--day", first).code == 0
    ended = project.call("build-profile", "--day", second, **CHANGED[said])
    assert ended.code == 65 and f"its days were cut with {said}; undo that" in ended.err, ended.err
    assert not (project.ws / "profile" / f"day={second}").exists()
    for day in (first, second):
        assert project.call("build-profile", "--day", day, **CHANGED[said]).code == 0


def test_no_zone_moves_a_day_that_is_a_date(tmp_path: Path) -> None:
    """It is asked for later, by the times of a side table or of an export's condition."""
    frame = clock()
    for day in (FIRST, FIRST + dt.timedelta(days=1)):
        write(
            frame.filter(pl.col("at").dt.date() == day).with_columns(pl.col("at").dt.date()),
            tmp_path,
            f"e-{day}",
            "parquet",
        )
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "liked"}
    data = {"events": {"path": "e-*.parquet", "date_column": "at", **roles}}
    project = Project.create(tmp_path, tmp_path, config={"data": data, "features": "auto"})
    assert project.call("build-profile", "--day", "2026-01-01").code == 0
    assert project.call("build-profile", "--day", "2026-01-02", data__timezone="Asia/Tokyo").code == 0
