"""What a day knows of items that came within it, however it is written when they were shown and came."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from test_log import DAY

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.reader import Log

LEVEL = Feature(name="level", side="item", kind="categorical")
KNOWN, UNKNOWN = ("eve", "morning", "noon"), ("late", "next")
Write = Callable[[dt.datetime], Any]


def offset(t: dt.datetime) -> str:
    return t.isoformat(timespec="milliseconds")


def local(t: dt.datetime) -> str:
    return t.replace(tzinfo=None).isoformat()


def utc(t: dt.datetime) -> dt.datetime:
    return t.astimezone(dt.UTC)


def ms(t: dt.datetime) -> int:
    return round(t.timestamp() * 1_000)


SHOWN: dict[str, tuple[str, dict[str, str], Write]] = {
    "csv, datetime with an offset": ("csv", {"at": "datetime"}, offset),
    "csv, datetime of UTC": ("csv", {"at": "datetime"}, lambda t: offset(utc(t)).replace("+00:00", "Z")),
    "csv, datetime of the zone": ("csv", {"at": "datetime"}, local),
    "csv, datetime of UTC that does not name it": ("csv", {"at": "datetime"}, lambda t: local(utc(t))),
    "csv, datetime since 1970": ("csv", {"at": "datetime"}, ms),
    "csv, milliseconds": ("csv", {"at": "int64"}, ms),
    "csv, a form of the zone": ("csv", {"at": "datetime:%d.%m.%Y %H:%M"}, lambda t: f"{t:%d.%m.%Y %H:%M}"),
    "csv, a form with an offset": ("csv", {"at": "datetime:%d.%m.%Y %H:%M%z"}, lambda t: f"{t:%d.%m.%Y %H:%M%z}"),
    "csv, text with an offset": ("csv", {}, offset),
    "csv, text of the zone": ("csv", {}, local),
    "json, datetime with an offset": ("json", {"at": "datetime"}, offset),
    "json, text of UTC that does not name it": ("json", {}, lambda t: local(utc(t))),
    "parquet with a zone": ("parquet", {}, lambda t: t),
    "parquet of UTC": ("parquet", {}, utc),
    "parquet of the zone that does not name it": ("parquet", {}, lambda t: t.replace(tzinfo=None)),
    "parquet of UTC that does not name it": ("parquet", {}, lambda t: utc(t).replace(tzinfo=None)),
    "parquet, text with an offset": ("parquet", {}, offset),
    "parquet, seconds": ("parquet", {}, lambda t: int(t.timestamp())),
}
SINCE: dict[str, tuple[str, dict[str, str], Write]] = {
    "csv, text with an offset": ("csv", {}, offset),
    "csv, text of the zone": ("csv", {}, local),
    "csv, datetime with an offset": ("csv", {"since": "datetime"}, offset),
    "csv, milliseconds": ("csv", {"since": "int64"}, ms),
    "parquet with a zone": ("parquet", {}, lambda t: t),
    "parquet of the zone that does not name it": ("parquet", {}, lambda t: t.replace(tzinfo=None)),
    "parquet, seconds": ("parquet", {}, lambda t: int(t.timestamp())),
}


def write(frame: pl.DataFrame, form: str, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_suffix("." + {"json": "jsonl"}.get(form, form))
    {"csv": frame.write_csv, "json": frame.write_ndjson, "parquet": frame.write_parquet}[form](path)
    return path.name


def log(root: Path, zone: str, shown: str, since: str, *, hours: range = range(24), **events: Any) -> Log:
    """An old item is shown each hour of the day; others are shown at 13 o'clock, of which three were there by then: one
    since the evening before, one since 00:30, one since 12:30; and two were not: since 13:30, since the next day."""
    midnight = dt.datetime.combine(DAY, dt.time(), ZoneInfo(zone))
    form, types, of = SHOWN[shown]
    at = {**{f"old {h}": h + 0.25 for h in hours}, **dict.fromkeys((*KNOWN, *UNKNOWN), 13.0)}
    times = [of(midnight + dt.timedelta(hours=h)) for h in at.values()]
    clicks = [k % 2 for k in range(len(at))]
    seconds = [9.0 * c for c in clicks]
    rows = {"user_id": ["u"] * len(at), "item_id": [*at], "click": clicks, "seconds": seconds, "at": times}
    write(pl.DataFrame(rows), form, root / (f"events/day={DAY}/0" if not events else "events/0"))
    its_form, its_types, its = SINCE[since]
    came = dict(zip((*KNOWN, *UNKNOWN), (-2.0, 0.5, 12.5, 13.5, 24.0), strict=True))
    since_when = [its(midnight + dt.timedelta(hours=h)) for h in came.values()]
    items = pl.DataFrame({"item_id": [*came], "level": [*came], "since": since_when})
    name = write(items, its_form, root / "items")
    own = {"types": its_types} if its_types else {}
    side = SideTable(path=name, key="item_id", version="since", format=its_form, **own)  # type: ignore[arg-type]
    given = {"types": types} if types else {}
    named = Events(click="click", duration="seconds", time="at", format=form, **given, **events)  # type: ignore[arg-type]
    data = Data(root=str(root), timezone=zone, events=named, items=side)
    return Log(data, (LEVEL,), converted=root / "converted")


def known(of: pl.DataFrame) -> set[str]:
    return set(of["level"].drop_nulls())


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize("shown", SHOWN)
def test_what_came_before_it_was_shown_is_known(tmp_path: Path, zone: str, shown: str) -> None:
    for k, since in enumerate(SINCE if shown.startswith("csv, datetime with") else ["csv, text with an offset"]):
        made = log(tmp_path / str(k), zone, shown, since)
        assert known(made.read(DAY, tmp_path).items) == {*KNOWN}, since


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize("since", SINCE)
@pytest.mark.parametrize("shown", ["parquet with a zone", "parquet of the zone that does not name it"])
def test_whichever_way_it_is_written_when_items_came(tmp_path: Path, zone: str, since: str, shown: str) -> None:
    assert known(log(tmp_path, zone, shown, since).read(DAY, tmp_path).items) == {*KNOWN}


@pytest.mark.parametrize("shown", ["csv, datetime with an offset", "csv, datetime of UTC", "csv, datetime since 1970"])
def test_times_that_name_a_zone_are_of_it_whatever_hours_a_day_has(tmp_path: Path, shown: str) -> None:
    """Of 12 to 14 o'clock nothing else tells the zone: times that name none are the earlier of both readings."""
    for k, (of, expected) in enumerate({shown: {*KNOWN}, "csv, datetime of the zone": {"eve", "morning"}}.items()):
        made = log(tmp_path / str(k), "America/New_York", of, "csv, text with an offset", hours=range(12, 15))
        assert known(made.read(DAY, tmp_path).items) == expected


NAMED = [shown for shown in SHOWN if "zone" not in shown.replace("parquet with a zone", "")]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize("shown", NAMED)
def test_a_day_that_a_time_column_cuts_has_its_hours(tmp_path: Path, zone: str, shown: str) -> None:
    """Hours of the day before, and after, are of other days; what names no zone is UTC there."""
    made = log(tmp_path, zone, shown, "csv, text with an offset", hours=range(-30, 40), path="events", date_column="at")
    items = made.read(DAY, tmp_path).items
    hours = {int(i.removeprefix("old ")) for i in items[":id"] if i.startswith("old ")}
    assert hours == set(range(24)) and known(items) == {*KNOWN}
