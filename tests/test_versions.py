"""Several rows of an id in a side table: a day reads the newest that was there as it began."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_log import DAY, put
from worlds import Project, dmtl

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values.types import localized

LEVEL = Feature(name="level", side="item", kind="categorical")
EVENTS = {"user_id": [1, 1, 2], "item_id": [10, 11, 12], "click": [1, 0, 1], "seconds": [9.0, None, 3.0]}
NEXT = DAY + dt.timedelta(1)


def log(root: Path, versions: list[Any], timezone: str | None = None, **more: Any) -> Log:
    """Items 10 (all but the last two rows) and 11, with a level a row: a, b, c, ..."""
    put(root, EVENTS)
    ids = [10] * (len(versions) - 2) + [11, 11]
    levels = [chr(97 + k) for k in range(len(versions))]
    frame = pl.DataFrame({"item_id": ids, "level": levels, "v": pl.Series(versions, strict=False)})
    frame.write_parquet(root / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="v", **more)
    events = Events(click="click", duration="seconds")
    return Log(Data(root=str(root), timezone=timezone, events=events, items=items), (LEVEL,))


def levels(of: pl.DataFrame) -> dict[int, str | None]:
    return dict(zip(of[":id"], of["level"], strict=True))


# -- what a day knows --------------------------------------------------------------------------------------------------


def test_of_numbers_the_greatest_whatever_the_day(tmp_path: Path) -> None:
    day = log(tmp_path, [3, 7, None, 5, 2, 9]).read(DAY, tmp_path)
    assert levels(day.items) == {10: "b", 11: "f", 12: None}


@pytest.mark.parametrize(
    "write",
    [
        lambda d: d,
        lambda d: d.isoformat(),
        lambda d: int(d.strftime("%Y%m%d")),
        lambda d: dt.datetime.combine(d, dt.time()),
    ],
    ids=["date", "text", "yyyymmdd", "midnight"],
)
def test_of_dates_those_up_to_the_day(tmp_path: Path, write: Any) -> None:
    day = [DAY + dt.timedelta(k) for k in (-9, -1, 0, 1, 1, 2)]
    made = log(tmp_path, list(map(write, day)), "UTC")
    assert levels(made.read(DAY, tmp_path).items) == {10: "c", 11: None, 12: None}
    assert levels(made.attributes("item", DAY, NEXT)) == {10: "d", 11: "e"}


@pytest.mark.parametrize("kind", ["timestamp", "zone", "seconds", "milliseconds"])
def test_of_times_those_before_the_local_day_began(tmp_path: Path, kind: str) -> None:
    """The day begins in Shanghai at 16:00 UTC of the day before."""
    began = dt.datetime.combine(DAY, dt.time(), dt.UTC) - dt.timedelta(hours=8)
    times: list[Any] = [began + dt.timedelta(minutes=k) for k in (-99, -1, 0, 1, 5, 24 * 60)]
    if kind == "timestamp":  # without a zone they are local
        times = [(t + dt.timedelta(hours=8)).replace(tzinfo=None) for t in times]
    elif kind != "zone":
        times = [int(t.timestamp()) * (1000 if kind == "milliseconds" else 1) for t in times]
    made = log(tmp_path, times, "Asia/Shanghai")
    assert levels(made.read(DAY, tmp_path).items) == {10: "c", 11: None, 12: None}
    assert levels(made.attributes("item", DAY, NEXT)) == {10: "d", 11: "f"}


@pytest.mark.parametrize("kind", ["timestamp", "text"])
def test_times_of_another_zone_than_the_days(tmp_path: Path, kind: str) -> None:
    """Days of Shanghai, whose times name no zone and are of UTC, beside the same times as instants."""
    began = dt.datetime.combine(DAY, dt.time()) - dt.timedelta(hours=8)
    naive = [began + dt.timedelta(minutes=k) for k in (-99, -1, 0, 1, 5, 24 * 60)]
    times = [t.isoformat() for t in naive] if kind == "text" else naive
    made = log(tmp_path, times, "Asia/Shanghai", version_timezone="UTC")
    assert levels(made.read(DAY, tmp_path).items) == {10: "c", 11: None, 12: None}
    assert levels(made.attributes("item", DAY, NEXT)) == {10: "d", 11: "f"}
    local = log(tmp_path, times, "Asia/Shanghai").read(DAY, tmp_path)
    assert levels(local.items) == {10: "d", 11: "e", 12: None}, "else all but the last are of the evening before"
    named = log(tmp_path, [t.replace(tzinfo=dt.UTC) for t in naive], "Asia/Shanghai", version_timezone="Asia/Tokyo")
    assert levels(named.read(DAY, tmp_path).items) == {10: "c", 11: None, 12: None}, "they name their own"


@pytest.mark.parametrize("timezone", [None, "Asia/Shanghai"])
def test_of_times_that_only_order_the_greatest_whatever_the_day(tmp_path: Path, timezone: str | None) -> None:
    times = [dt.datetime.combine(DAY, dt.time(), dt.UTC) + dt.timedelta(k) for k in (-9, 400, 7, 0, 8, 9)]
    made = log(tmp_path, times, timezone, version_only_orders=True)
    assert levels(made.read(DAY, tmp_path).items) == {10: "b", 11: "f", 12: None}
    assert levels(made.attributes("item", DAY, NEXT)) == {10: "b", 11: "f"}
    with pytest.raises(ValidationError, match="version_only_orders has no effect without version"):
        SideTable(path="x", key="k", version_only_orders=True)
    assert "version_only_orders" not in SideTable(path="x", key="k").model_dump()


def test_a_config_without_another_zone_keeps_its_runs(tmp_path: Path) -> None:
    one, other = (log(tmp_path, [1, 2, 3], "UTC", **more).data for more in ({}, {"version_timezone": "UTC"}))
    assert "version_timezone" not in str(one.model_dump()) and "version_timezone" in str(other.model_dump())


@pytest.mark.parametrize(
    ("types", "more", "says"),
    [
        ({}, {"version_timezone": "Mars"}, "unknown time zone 'Mars'"),
        ({}, {"version_timezone": "UTC", "version": None}, "version_timezone has no effect without version"),
        ({"v": "datetime"}, {"version_timezone": "UTC"}, "items.version_timezone has no effect: data.types reads"),
    ],
)
def test_a_zone_that_does_nothing_is_refused(types: dict[str, str], more: dict[str, Any], says: str) -> None:
    events = {"click": "click", "duration": "seconds"}
    items = {"path": "items.csv", "key": "item_id", "version": "v"} | more
    with pytest.raises(ValidationError, match=says):
        Data.model_validate({"root": "log", "format": "csv", "types": types, "events": events, "items": items})
    Data.model_validate({
        "root": "log", "format": "csv", "types": {"v": "datetime:%d.%m.%Y %H:%M"}, "events": events,
        "items": items | {"version_timezone": "UTC", "version": "v"},
    })  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(1, 4), st.integers(-5, 5)), min_size=1, max_size=20, unique=True))
def test_beside_a_loop(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int]]) -> None:
    root = tmp_path_factory.mktemp("v")
    put(root, EVENTS)
    frame = pl.DataFrame(
        {
            "item_id": [i for i, _ in rows],
            "level": [f"{i}:{k}" for i, k in rows],
            "v": [DAY + dt.timedelta(k) for _, k in rows],
        }
    )
    frame.write_parquet(root / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="v")
    made = Log(Data(root=str(root), events=Events(click="click", duration="seconds"), items=items), (LEVEL,))
    best: dict[int, int] = {}
    for i, k in rows:
        if k <= 0 and k >= best.get(i, k):
            best[i] = k
    found = made.attributes("item", DAY)
    assert found is not None and levels(found) == {i: f"{i}:{k}" for i, k in best.items()}


def test_a_log_of_daily_tables_and_one_of_their_versions_are_the_same(tmp_path: Path) -> None:
    """A generated world, whose tables are written each morning."""
    assert dmtl("synth", tmp_path / "w", "--days", 3, "--users", 40, "--items", 60, "--events-per-day", 600).code == 0
    root = tmp_path / "w/log"
    features = (
        Feature(name="user_read_cluster", side="user", kind="categorical"),
        Feature(name="author", side="item", kind="categorical"),
    )
    events = Events(partition="day", time="time", click="click", duration="read_seconds")
    daily = {f"{side}s": SideTable(path=f"{side}s", key=f"{side}_id", partition="day") for side in ("user", "item")}
    whole = {}
    for side in ("user", "item"):
        frames = [
            pl.read_parquet(f).with_columns(since=pl.lit(f.parent.name[4:]).str.to_date())
            for f in sorted(root.glob(f"{side}s/*/*.parquet"))
        ]
        pl.concat(frames).sample(fraction=1, shuffle=True, seed=1).write_parquet(root / f"{side}.parquet")
        whole[f"{side}s"] = SideTable(path=f"{side}.parquet", key=f"{side}_id", version="since")
    for k in (1, 2, 3):
        day = dt.date(2026, 1, k)
        one, other = (
            Log(Data(root=str(root), events=events, **tables), features).read(day, _folder(tmp_path / name / str(k)))
            for name, tables in (("daily", daily), ("whole", whole))
        )
        assert one.users.equals(other.users) and one.items["author"].n_unique() > 3
        assert one.items.equals(other.items.join(one.items, on=":id", how="semi")), "none goes away by itself"


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("odd", [0, -1, None])
@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64])
@pytest.mark.parametrize("unit", ["yyyymmdd", "s", "ms"])
def test_one_odd_number_turns_no_time_into_a_count(tmp_path: Path, odd: int | None, kind: Any, unit: str) -> None:
    """0 is before all, also of floats, as pandas writes a column with nulls."""
    days = [DAY + dt.timedelta(k) for k in (-9, -1, 0, 1, 2)]
    if unit == "yyyymmdd":
        numbers = [int(d.strftime("%Y%m%d")) for d in days]
    else:
        by = 1000 if unit == "ms" else 1
        numbers = [by * int(dt.datetime.combine(d, dt.time(), dt.UTC).timestamp()) for d in days]
    given = pl.Series([odd, *numbers], dtype=kind)
    made = log(tmp_path, given.to_list(), "UTC")  # item 10: the odd one and -9, -1, 0; 11: 1, 2
    assert levels(made.read(DAY, tmp_path).items) == {10: "d", 11: None, 12: None}


def test_the_hour_that_comes_twice_is_in_order(tmp_path: Path) -> None:
    """Berlin, 2025-10-26: 00:45 UTC is 02:45, and 01:15 UTC is 02:15."""
    at = [dt.datetime(2025, 10, 26, 0, 45), dt.datetime(2025, 10, 26, 1, 15), None, None]
    put(tmp_path, EVENTS)
    made = log(tmp_path, [*at[:2], dt.datetime(2025, 10, 26, 0, 30), dt.datetime(2025, 10, 26, 1, 30)], "Europe/Berlin")
    assert levels(made.read(DAY, tmp_path).items) == {10: "b", 11: "d", 12: None}


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%d/%m/%Y %H:%M"])
@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Shanghai"])
def test_texts_without_a_zone_are_local(tmp_path: Path, form: str, zone: str) -> None:
    """As text of a CSV, or read in a format that names no zone."""
    put(tmp_path, EVENTS)
    midnight = dt.datetime.combine(DAY, dt.time())
    at = [(midnight + dt.timedelta(minutes=k)).strftime(form) for k in (-60, 0, 1, 60)]
    pl.DataFrame({"item_id": [10, 10, 10, 11], "level": list("abcd"), "v": at}).write_csv(tmp_path / "items.csv")
    types = {"v": f"datetime:{form}"} if "/" in form else {}
    items = SideTable(path="items.csv", key="item_id", version="v", format="csv", types={"item_id": "int64"} | types)
    data = Data(root=str(tmp_path), timezone=zone, events=Events(click="click", duration="seconds"), items=items)
    found = Log(data, (LEVEL,), converted=tmp_path / "converted").read(DAY, tmp_path)
    assert levels(found.items) == {10: "b", 11: None, 12: None}


def test_an_hour_that_clocks_pass_over_is_not_before_all(tmp_path: Path) -> None:
    at = pl.Series([dt.datetime(2026, 3, 29, 2, 30), dt.datetime(2026, 3, 29, 1, 59), dt.datetime(2025, 10, 26, 2, 30)])
    found = localized(at, "Europe/Berlin").to_list()
    expected = [dt.datetime(2026, 3, 29, 1, 30), dt.datetime(2026, 3, 29, 0, 59), dt.datetime(2025, 10, 26, 1, 30)]
    assert [t.replace(tzinfo=None) for t in found] == expected


# -- what came within the day ------------------------------------------------------------------------------------------


def arrived(root: Path, zone: str = "America/Sao_Paulo", aware: bool = False, **more: Any) -> Log:
    """Item 10 is there from noon on and again from 15 o'clock, 11 from 15 o'clock on, 12 the day after; each is seen at
    13 o'clock, 10 at 14 o'clock too. 13 was there the day before, and changes at noon."""
    hours = {"a": (10, 12), "b": (10, 15), "c": (11, 15), "d": (12, 24), "e": (13, -5), "f": (13, 12), "g": (14, 12)}
    midnight = dt.datetime.combine(DAY, dt.time())
    at = [midnight + dt.timedelta(hours=h) for _, h in hours.values()]
    seen = [midnight + dt.timedelta(hours=h) for h in (14, 13, 13, 13, 13)]
    if aware:
        at, seen = ([t.replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC) for t in some] for some in (at, seen))
    five = {"user_id": [1, 1, 2, 2, 1], "item_id": [10, 10, 11, 12, 13]}
    put(root, five | {"click": [1, 0, 1, 0, 1], "seconds": [9.0, None, 3.0, None, 1.0], "at": seen})
    frame = pl.DataFrame({"item_id": [i for i, _ in hours.values()], "level": [*hours], "v": at})
    frame.write_parquet(root / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="v")
    events = Events(**{"click": "click", "duration": "seconds", "time": "at"} | more)
    return Log(Data(root=str(root), timezone=zone, events=events, items=items), (LEVEL,))


@pytest.mark.parametrize("aware", [False, True])
@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Shanghai"])
def test_an_id_that_came_before_its_first_event_has_its_first_row(tmp_path: Path, zone: str, aware: bool) -> None:
    """Not a later one, nor one after the event, nor one of the day after; one that was there keeps its own; and one
    without an event (14) is not there. An event at 13 o'clock may be of UTC, which is 10 o'clock in Sao Paulo."""
    made = arrived(tmp_path, zone, aware)
    level = "a" if aware or zone != "America/Sao_Paulo" else None
    assert levels(made.read(DAY, tmp_path).items) == {10: level, 11: None, 12: None, 13: "e"}
    listed = made.attributes("item", DAY)
    assert listed is not None and levels(listed) == {13: "e"}, "what a morning knows of a catalogue"


def test_an_export_knows_what_was_there_when_its_day_had_ended(tmp_path: Path) -> None:
    made = arrived(tmp_path)
    found = made.read(DAY, tmp_path, tables=NEXT)
    assert levels(found.items) == {10: "b", 11: "c", 12: "d", 13: "f", 14: "g"}


@pytest.mark.parametrize("more", [{"time": None}, {"time": "item_id"}])
def test_without_a_clock_nothing_came_before(tmp_path: Path, more: dict[str, Any]) -> None:
    assert levels(arrived(tmp_path, **more).read(DAY, tmp_path).items) == {10: None, 11: None, 12: None, 13: "e"}


@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Shanghai"])
def test_times_without_a_zone_are_of_utc_where_they_tell_the_day(tmp_path: Path, zone: str) -> None:
    """Two hours before noon in UTC: the version of 10 is there a minute before the event, that of 11 a minute after."""
    seen = dt.datetime.combine(DAY, dt.time(10))
    here = seen.replace(tzinfo=dt.UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    minute = dt.timedelta(minutes=1)
    events = {"user_id": [1, 1], "item_id": [10, 11], "click": [1, 0], "seconds": [9.0, None], "at": [seen, seen]}
    (tmp_path / "events").mkdir()
    pl.DataFrame(events).write_parquet(tmp_path / "events/0.parquet")
    rows = {"item_id": [10, 11], "level": ["a", "b"], "v": [here - minute, here + minute]}
    pl.DataFrame(rows).write_parquet(tmp_path / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="v")
    named = Events(date_column="at", time="at", click="click", duration="seconds")
    made = Log(Data(root=str(tmp_path), timezone=zone, events=named, items=items), (LEVEL,))
    assert levels(made.read(DAY, tmp_path).items) == {10: "a", 11: None}


@pytest.mark.parametrize(
    "at", [36_000_000_000, 36_000_000_000_000, 4_000_000_000, 36_000], ids=["us", "ns", "offset", "s"]
)
def test_a_number_that_only_orders_rows_is_no_instant(tmp_path: Path, at: int) -> None:
    """Since midnight, or an offset in a queue: by its size it would be an instant of another year."""
    put(tmp_path, {"user_id": [1], "item_id": [10], "click": [1], "seconds": [9.0], "at": [at]})
    later = dt.datetime.combine(NEXT, dt.time())
    pl.DataFrame({"item_id": [10], "level": ["a"], "v": [later]}).write_parquet(tmp_path / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="v")
    named = Events(time="at", click="click", duration="seconds")
    made = Log(Data(root=str(tmp_path), timezone="UTC", events=named, items=items), (LEVEL,))
    assert levels(made.read(DAY, tmp_path).items) == {10: None}


def test_a_format_of_another_table_takes_no_zone_away(tmp_path: Path) -> None:
    """A CSV of events and a Parquet of items have a column `at`; that of the items has its zone."""
    midnight = dt.datetime.combine(DAY, dt.time(), ZoneInfo("Asia/Shanghai")).astimezone(dt.UTC)
    folder = tmp_path / f"events/day={DAY}"
    folder.mkdir(parents=True)
    text = f"{DAY:%d.%m.%Y} 00:00"
    pl.DataFrame({"user_id": [1], "item_id": ["x"], "click": [1], "seconds": [9.0], "at": [text]}).write_csv(
        folder / "0.csv"
    )
    rows = {"item_id": ["x", "x"], "level": ["a", "b"], "at": [midnight, midnight + dt.timedelta(hours=1)]}
    pl.DataFrame(rows).write_parquet(tmp_path / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="at", format="parquet")
    events = Events(click="click", duration="seconds", time="at", format="csv")
    types: dict[str, Any] = {"at": "datetime:%d.%m.%Y %H:%M"}
    data = Data(root=str(tmp_path), timezone="Asia/Shanghai", types=types, events=events, items=items)
    found = Log(data, (LEVEL,), converted=tmp_path / "converted").read(DAY, tmp_path)
    assert levels(found.items) == {"x": "a"}


def test_an_event_in_an_hour_that_comes_twice_is_of_the_first(tmp_path: Path) -> None:
    """Berlin, 2025-10-26: 02:30 is 00:30 or 01:30 UTC. The version of 10 is of 00:15, that of 11 of 01:00."""
    day = dt.date(2025, 10, 26)
    at = dt.datetime.combine(day, dt.time(2, 30))
    folder = tmp_path / f"events/day={day}"
    folder.mkdir(parents=True)
    events = {"user_id": [1, 1], "item_id": [10, 11], "click": [1, 0], "seconds": [9.0, None], "at": [at, at]}
    pl.DataFrame(events).write_parquet(folder / "0.parquet")
    since = [dt.datetime.combine(day, clock, dt.UTC) for clock in (dt.time(0, 15), dt.time(1))]
    pl.DataFrame({"item_id": [10, 11], "level": ["a", "b"], "v": since}).write_parquet(tmp_path / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="v")
    named = Events(time="at", click="click", duration="seconds")
    made = Log(Data(root=str(tmp_path), timezone="Europe/Berlin", events=named, items=items), (LEVEL,))
    assert levels(made.read(day, tmp_path).items) == {10: "a", 11: None}


@pytest.mark.parametrize(("zone", "expected"), [("Asia/Shanghai", None), ("UTC", "a"), ("America/Sao_Paulo", None)])
def test_texts_that_may_be_of_utc_or_local_are_the_earlier(tmp_path: Path, zone: str, expected: str | None) -> None:
    """`datetime`, which init writes of a CSV, reads 10:00 as UTC: of a log in Shanghai that is eight hours later."""
    folder = tmp_path / f"events/day={DAY}"
    folder.mkdir(parents=True)
    row = {"user_id": [1], "item_id": ["x"], "click": [1], "seconds": [9.0], "at": [f"{DAY}T10:00:00"]}
    pl.DataFrame(row).write_csv(folder / "0.csv")
    since = dt.datetime.combine(DAY, dt.time(9, 30) if zone != "Asia/Shanghai" else dt.time(10, 30))
    pl.DataFrame({"item_id": ["x"], "level": ["a"], "v": [since]}).write_parquet(tmp_path / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="v", format="parquet")
    events = Events(click="click", duration="seconds", time="at", format="csv", types={"at": "datetime"})
    data = Data(root=str(tmp_path), timezone=zone, events=events, items=items)
    found = Log(data, (LEVEL,), converted=tmp_path / "converted").read(DAY, tmp_path)
    assert levels(found.items) == {"x": expected}


@pytest.mark.parametrize("in_feature", [False, True])
def test_a_label_may_know_what_came_within_the_day_and_a_feature_may_not(tmp_path: Path, in_feature: bool) -> None:
    """`good` is whether an item has a level, `same` the level itself."""
    made = arrived(tmp_path)
    computed = {"good": "COALESCE(items.level <> 'x', FALSE)"} | ({"same": "items.level"} if in_feature else {})
    events = Events(click="click", conversion="good", time="at", computed=computed)
    features = (LEVEL, *([Feature(name="same", side="context", kind="categorical")] if in_feature else []))
    made = Log(made.data.model_copy(update={"events": events}), features)
    day = made.read(DAY, tmp_path)
    (block,) = day.blocks()
    found = dict(zip(day.items[":id"].gather(block.item), block.conversion.tolist(), strict=True))
    assert found == {10: int(not in_feature), 11: int(not in_feature), 12: 0, 13: 1}, "12 came the day after"
    if in_feature:
        assert block.features is not None and set(block.features["same"].drop_nulls()) == {"e"}


def test_a_feature_of_what_came_is_known_in_check(tmp_path: Path) -> None:
    arrived(tmp_path / "log", "Asia/Shanghai")
    (tmp_path / "log/events" / f"day={DAY}").rename(tmp_path / "log/events/day=2026-01-01")
    moved = pl.read_parquet(tmp_path / "log/items.parquet").with_columns(pl.col("v") + (dt.date(2026, 1, 1) - DAY))
    moved.write_parquet(tmp_path / "log/items.parquet")
    events = tmp_path / "log/events/day=2026-01-01"
    for file in events.glob("*.parquet"):
        pl.read_parquet(file).with_columns(pl.col("at") + (dt.date(2026, 1, 1) - DAY)).write_parquet(file)
    features = [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "level", "side": "item", "kind": "categorical"},
    ]
    items = {"path": "items.parquet", "key": "item_id", "version": "v"}
    data = {"timezone": "Asia/Shanghai", "items": items}
    data |= {"events": {"click": "click", "duration": "seconds", "time": "at"}}
    project = Project.create(tmp_path, tmp_path / "log", config={"seed": 1, "data": data, "features": features})
    found = project.call("check", "--day", "2026-01-01", "--json").json
    assert found["join"] == {"items_joined": 0.5}
    said = "times without a zone are read as those of Asia/Shanghai: if they are UTC, set data.items."
    said += "version_timezone: UTC"
    assert [line for line in found["suggestions"] if said in line] == [f"v: {said}"]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Shanghai"])
def test_infinite_times_are_before_all_and_after_all(tmp_path: Path, zone: str, unit: Any) -> None:
    """As databases write them; and an event of such a time is on no day."""
    ends = pl.Series([-(2**63) + 1, 2**63 - 1], dtype=pl.Int64).cast(pl.Datetime(unit))
    midnight = pl.Series([dt.datetime.combine(DAY, dt.time())], dtype=pl.Datetime(unit))
    put(tmp_path, EVENTS | {"at": pl.concat([ends, midnight])})
    frame = pl.DataFrame({"item_id": [10, 10, 11], "level": ["a", "b", "c"], "v": pl.concat([ends, ends.tail(1)])})
    frame.write_parquet(tmp_path / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", version="v")
    events = Events(click="click", duration="seconds", time="at")
    made = Log(Data(root=str(tmp_path), timezone=zone, events=events, items=items), (LEVEL,))
    assert levels(made.read(DAY, tmp_path).items) == {10: "a", 11: None, 12: None}


def test_numbers_of_a_csv_without_types(tmp_path: Path) -> None:
    assert levels(log(tmp_path, ["9", "10", "8", "1"]).read(DAY, tmp_path).items) == {10: "b", 11: "c", 12: None}


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_two_rows_of_one_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="item_id = 10 appears twice with version v = 7") as e:
        log(tmp_path, [7, 7, 1, 2]).read(DAY, tmp_path)
    assert e.value.code == Exit.DATA and e.value.hint == "write one row per id and version"


def test_old_rows_of_one_version_are_no_trouble(tmp_path: Path) -> None:
    assert levels(log(tmp_path, [1, 1, 8, 1, 2]).read(DAY, tmp_path).items)[10] == "c"


@pytest.mark.parametrize(("form", "row"), [("parquet", "row 1"), ("csv", "row 3")])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("2026-13-01", "expected a time in ISO 8601, got '2026-13-01'"),
        ("soon", "expected a time in ISO 8601, got 'soon'"),
    ],
)
def test_a_value_that_is_none_is_named_in_its_file_and_row(
    tmp_path: Path, bad: str, said: str, form: Any, row: str
) -> None:
    """Rows of a CSV are counted from 1, the line of names."""
    put(tmp_path, EVENTS)
    (tmp_path / "items").mkdir()
    files = [[(10, "2026-01-01"), (11, "2026-01-02"), (12, "2026-01-02")], [(13, "2026-01-03"), (14, bad)], [(15, "")]]
    for k, rows in enumerate(files):
        frame = pl.DataFrame(rows, schema=["item_id", "v"], orient="row").with_columns(level=pl.lit("a"))
        frame = frame.with_columns(pl.when(pl.col("v") != "").then("v"))
        frame.write_parquet(place := tmp_path / f"items/{k}.parquet")
        if form == "csv":
            place.unlink()
            frame.write_csv(place.with_suffix(".csv"))
    more: dict[str, Any] = {"format": form} | ({"types": {"item_id": "int64"}} if form == "csv" else {})
    items = {"path": "items", "key": "item_id", "version": "v", **more}
    features = [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "level", "side": "item", "kind": "categorical"},
    ]
    data = {"events": {"click": "click", "duration": "seconds"}, "items": items}
    project = Project.create(tmp_path, tmp_path, config={"seed": 1, "data": data, "features": features})
    ended = project.call("check", "--day", DAY)
    assert ended.code == 65 and ended.err == f"dmtl: error: {tmp_path}/items/1.{form}: column v, {row}: {said}\n"


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    log(tmp_path / "log", [dt.datetime(2026, 1, k, 7) for k in (1, 2, 3, 4)])
    (tmp_path / "log/events" / f"day={DAY}").rename(tmp_path / "log/events/day=2026-01-01")
    features = [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "level", "side": "item", "kind": "categorical"},
    ]
    items = {"path": "items.parquet", "key": "item_id"}
    events = {"click": "click", "duration": "seconds"}
    config = {"seed": 1, "data": {"events": events, "items": items}, "features": features}
    project = Project.create(tmp_path, tmp_path / "log", config=config)

    def said(code: int, **more: object) -> str:
        project.config["data"]["items"] = items | more
        project.write()
        ended = project.call("check", "--day", "2026-01-01")
        assert ended.code == code and len(ended.err.splitlines()) == 1, ended.err
        return ended.err

    assert "appears twice; write one row per id and day, or name what tells them apart in data.items.version" in said(
        65
    )
    assert "data.items.version expects column w" in said(65, version="w")
    assert "column v is an instant; set data.timezone" in said(78, version="v")
    project.config["data"] |= {"timezone": "UTC", "items": items | {"version": "v"}}
    project.write()
    assert project.call("check", "--day", "2026-01-01", "--json").json["unread"] == [], "a version is read"
    assert "column level, row 0: expected a day as YYYY-MM-DD" in said(65, version="level")
