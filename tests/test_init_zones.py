"""Which zone `init` writes for the days of a log, and what it says of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import frame, made
from worlds import Ended, dmtl

from dmtl_cli.guess.columns.zones import is_night, of_users, zone_ahead, zone_of

WINTER, SUMMER = dt.datetime(2025, 1, 10, tzinfo=dt.UTC), dt.datetime(2025, 7, 10, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("minutes", "begin", "zone"),
    [
        (480, WINTER, "Asia/Shanghai"),
        (540, SUMMER, "Asia/Tokyo"),
        (420, WINTER, "Asia/Bangkok"),
        (330, SUMMER, "Asia/Kolkata"),
        (180, WINTER, "Europe/Istanbul"),
        (-180, SUMMER, "America/Sao_Paulo"),
        (-210, WINTER, "America/St_Johns"),
        (825, WINTER, "Pacific/Chatham"),
        (0, SUMMER, "UTC"),
    ],
)
def test_a_zone_is_named_that_is_so_far_ahead_on_the_days_of_the_log(
    minutes: int, begin: dt.datetime, zone: str
) -> None:
    at = pl.Series([begin, begin + dt.timedelta(days=6)])
    named, told, guess = zone_ahead(minutes, at)
    assert (named, guess) == (zone, "") and begin.astimezone(ZoneInfo(named)).utcoffset() == dt.timedelta(
        minutes=minutes
    )
    assert told == {480: "UTC+8", 330: "UTC+5:30", -180: "UTC-3", -210: "UTC-3:30", 0: "UTC"}.get(minutes, told)


@pytest.mark.parametrize(
    ("minutes", "begin", "zone", "such_as"),
    [
        (60, WINTER, "Etc/GMT-1", "Europe/Berlin"),
        (60, SUMMER, "Etc/GMT-1", "Europe/London"),
        (-300, WINTER, "Etc/GMT+5", "America/New_York"),
        (-300, SUMMER, "Etc/GMT+5", "America/Chicago"),
    ],
)
def test_where_clocks_may_change_a_person_is_asked(minutes: int, begin: dt.datetime, zone: str, such_as: str) -> None:
    named, told, guess = zone_ahead(minutes, pl.Series([begin]))
    assert named == zone and told == f"UTC{minutes // 60:+d}, whose sign Etc has the other way round"
    assert guess == f"; where clocks change in summer write your zone, such as {such_as}"


def test_a_zone_that_was_elsewhere_then_is_not_named() -> None:
    """Istanbul was two hours ahead in the winter of 2012."""
    named, _, _ = zone_ahead(180, pl.Series([dt.datetime(2012, 1, 10, tzinfo=dt.UTC)]))
    assert named == "Etc/GMT-3"


def test_an_offset_that_all_times_carry_is_sure() -> None:
    at = [f"2025-11-15T{k:02d}:01:48.728+05:30" for k in range(20)]
    assert zone_of(pl.Series("t", at), "text")[:2] == ("Asia/Kolkata", "UTC+5:30: the times end in +05:30")
    some = [*at, *at, "2025-11-15T00:01:48.728+08:00"]
    assert zone_of(pl.Series("t", some), "text")[:2] == ("Asia/Kolkata", "UTC+5:30: most times end in +05:30")


# -- where a person says that the users live ---------------------------------------------------------------------------


def written(tmp_path: Path, *, zone: str, days: str | None, form: str) -> tuple[dict[str, object], str]:
    """What init writes for exposures all around the clock, in folders of the days of a zone or in one file.

    Args:
        form: utc, naive (of the clock in `zone`), ms.
    """
    log = frame().with_columns(pl.from_epoch("ts", "s").dt.replace_time_zone("UTC"))
    local = log["ts"].dt.convert_time_zone(days or "UTC").dt.date()
    clock = log["ts"].dt.convert_time_zone(zone).dt.replace_time_zone(None)
    log = log.with_columns(ts={"utc": log["ts"], "naive": clock, "ms": log["ts"].dt.timestamp("ms")}[form])

    def write(home: Path) -> None:
        for (day,), part in log.with_columns(d=local).group_by("d", maintain_order=True):
            place = home / (f"events/day={day}" if days else "")
            place.mkdir(parents=True, exist_ok=True)
            (part if days else log).drop("d", strict=False).write_parquet(place / "0.parquet")

    ended, raw, _ = made(tmp_path, write, "--timezone", zone)
    assert ended.code == 0, ended.err
    return raw["data"], ended.out


@pytest.mark.parametrize("form", ["utc", "ms"])
def test_days_are_cut_where_the_users_live(tmp_path: Path, form: str) -> None:
    data, said = written(tmp_path, zone="Asia/Tokyo", days="UTC", form=form)
    assert data["timezone"] == "Asia/Tokyo" and data["events"]["date_column"] == "ts"  # type: ignore[index]
    assert "partition" not in data["events"] and data["events"]["path"] == "events"  # type: ignore[index, operator]
    assert "another day than their folder in Asia/Tokyo: date_column and timezone are written" in said


@pytest.mark.parametrize("form", ["utc", "ms"])
def test_folders_of_their_days_stay(tmp_path: Path, form: str) -> None:
    data, _ = written(tmp_path, zone="Asia/Tokyo", days="Asia/Tokyo", form=form)
    assert data["timezone"] == "Asia/Tokyo" and data["events"]["partition"] == "day"  # type: ignore[index]
    assert "date_column" not in data["events"]  # type: ignore[operator]


@pytest.mark.parametrize("days", [None, "Asia/Tokyo"])
def test_a_clock_without_a_zone_is_theirs(tmp_path: Path, days: str | None) -> None:
    data, said = written(tmp_path, zone="Asia/Tokyo", days=days, form="naive")
    assert (data["timezone"], data["naive_times"]) == ("Asia/Tokyo", "local")
    assert ("partition" in data["events"]) == (days is not None)  # type: ignore[operator]
    told = "as --timezone says: ts names no zone and is of its clock; yet the rows begin and end at 9:00, the midnight"
    assert f"timezone Asia/Tokyo {told} of UTC-9" in " ".join(said.split())


def test_why_is_told_whole(tmp_path: Path) -> None:
    """Each of its words is printed, by lines, where nobody says where the users live."""
    log = frame().with_columns(ts=pl.from_epoch("ts", "s"))
    ended, _, text = made(tmp_path, lambda home: log.write_parquet(home / "log.parquet"))
    said = " ".join(ended.out.split())
    local = "days end at midnight of ts's own times, which name no zone and are taken for your users' clock"
    asked = "if they were written in UTC, write the zone of your users"
    assert f"timezone UTC {local}; {asked}, such as Asia/Shanghai" in said and f"# {local}; {asked}" in text


def test_one_file_is_cut_there(tmp_path: Path) -> None:
    data, said = written(tmp_path, zone="America/Sao_Paulo", days=None, form="ms")
    assert data["timezone"] == "America/Sao_Paulo" and data["events"]["date_column"] == "ts"  # type: ignore[index]
    assert "timezone         America/Sao_Paulo         as --timezone says" in said


@pytest.mark.parametrize("drop", [True, False], ids=["no time", "days"])
@pytest.mark.parametrize("folders", [True, False])
def test_of_days_without_a_clock_the_zone_is_written_all_the_same(tmp_path: Path, drop: bool, folders: bool) -> None:
    """It is that of times of items, if there come to be some; nobody is asked for what they have said."""
    log = frame().with_columns(ts=pl.from_epoch("ts", "s").dt.date())

    def write(home: Path) -> None:
        for (day,), part in log.group_by("ts", maintain_order=True):
            place = home / (f"events/day={day}" if folders else "")
            place.mkdir(parents=True, exist_ok=True)
            (part if folders else log).drop("ts" if drop and folders else ()).write_parquet(place / "0.parquet")

    ended, raw, text = made(tmp_path, write, "--timezone", "Asia/Tokyo")
    assert ended.code == 0 and raw["data"]["timezone"] == "Asia/Tokyo", ended.err
    assert "timezone: Asia/Tokyo  # as --timezone says\n" in text and "Asia/Shanghai" not in text


def test_times_of_items_beside_days_without_a_clock_have_a_zone(tmp_path: Path) -> None:
    """`check` asks for it: it decides on which day an item is there."""
    came = dt.datetime(2026, 3, 2)
    log = frame().with_columns(ts=pl.from_epoch("ts", "s").dt.date())
    log = log.filter((pl.col("item_id") > 2) | (pl.col("ts") > came.date()))

    def write(home: Path) -> None:
        log.write_parquet(home / "events.parquet")
        at = [came if k < 3 else dt.datetime(2025, 3, 1, 12) for k in range(40)]
        pl.DataFrame({"item_id": range(40), "topic": ["a", "b"] * 20, "published_at": at}).write_parquet(
            home / "items.parquet"
        )

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["items"]["version"] == "published_at", ended.err
    assert raw["data"]["timezone"] == "UTC" and "timezone: UTC  # write the zone of your users" in text


def test_a_clock_that_sleeps_by_utc_is_of_utc() -> None:
    """Few rows come at 19:00, which is 4:00 in Tokyo."""
    hours = [h for h in range(24) for _ in range(5 if h in (18, 19, 20) else 60)]
    times = [dt.datetime(2026, 1, 1 + k % 5, h, k % 60) for k, h in enumerate(hours)]
    at = pl.Series("t", [t for t in times if t >= dt.datetime(2026, 1, 1, 5, 10)])  # it begins at no day's begin
    zone, why, is_local = of_users(at, "timestamp", "Asia/Tokyo")
    told = "as --timezone says: t names no zone and is taken for UTC, as fewest rows come at 19:00, as at 4:00 of UTC+9"
    assert (zone, why, is_local) == ("Asia/Tokyo", told, False)
    assert is_night(at.dt.replace_time_zone("UTC"), "Asia/Tokyo") and not is_night(at, "America/New_York")
    zone, why, is_local = of_users(at, "timestamp", "America/New_York")
    told = "of its clock; yet fewest rows come at 19:00, as at 4:00 of UTC+9: written in UTC? naive_times: utc"
    assert (zone, is_local) == ("America/New_York", True) and why.endswith(told)
    assert of_users(at, "timestamp", "UTC") == ("UTC", "as --timezone says", False)


def with_hours(kind: str) -> pl.DataFrame:
    """Rows of a day and half an hour in UTC, and of each the hour of the users' clocks, or what looks like one."""
    rng = np.random.default_rng(3)
    user = rng.integers(0, 90, 4_000)
    begin = dt.datetime(2026, 1, 1, 5, 10)
    at = [begin + dt.timedelta(seconds=int(x)) for x in np.sort(rng.integers(0, 88_000, 4_000))]
    utc = np.array([t.hour for t in at])
    ahead = np.array([-5, -5, -5, -8, -7, -4])[user % 6]
    hour = {
        "each": utc + ahead, "one": utc - 5, "own": utc, "any": rng.integers(0, 24, 4_000), "fixed": user % 24,
        "clock": utc + np.array([0, 0, 0, 3])[user % 4],
    }[kind]  # fmt: skip
    return pl.DataFrame({"user": user, "t": at, "local_hour": (hour % 24).astype(np.int32)})


@pytest.mark.parametrize("kind", ["each", "one", "own", "any", "fixed", "clock"])
def test_a_column_of_the_users_hours_tells_that_times_are_of_utc(kind: str) -> None:
    rows = with_hours(kind)
    zone, why, is_local = of_users(rows["t"], "timestamp", "America/Toronto", rows, "user")
    open_ = zone_of(rows["t"], "timestamp", rows, "user").why
    if kind not in ("each", "one"):
        assert is_local and "local_hour" not in why + open_
        return
    told = "as --timezone says: t names no zone and is taken for UTC, as local_hour is its hour less 5 in "
    assert (zone, is_local) == ("America/Toronto", False) and why.startswith(told)
    assert ("in the others by as many hours as each user always has" in why) == (kind == "each")
    assert "t's own times, which are hardly your users' clock (local_hour is its hour less 5 in" in open_
    zone, why, is_local = of_users(rows["t"], "timestamp", "Asia/Tokyo", rows, "user")
    assert is_local and "; yet local_hour is its hour less 5" in why


def test_days_are_cut_where_users_live_whose_hours_a_column_has(tmp_path: Path) -> None:
    log = frame().with_columns(pl.from_epoch("ts", "s"))
    local = log["ts"].dt.replace_time_zone("UTC").dt.convert_time_zone("America/Toronto")
    log = log.with_columns(local.dt.hour().cast(pl.Int32).alias("local_hour"))
    ended, raw, text = made(
        tmp_path, lambda home: log.write_parquet(home / "log.parquet"), "--timezone", "America/Toronto"
    )
    assert ended.code == 0 and raw["data"]["timezone"] == "America/Toronto", text
    assert "taken for UTC, as local_hour is its hour less 5" in text


def of_clocks(tmp_path: Path, ahead: int, *, night: bool) -> tuple[Ended, str, str]:
    """`init --timezone` of naive times of UTC, beside items since which they are there; what `check` says then.

    Args:
        ahead: hours that the users' midnight is before that of UTC.
        night: whether hardly anybody reads in it.
    """
    rng = np.random.default_rng(5)
    weights = np.array([0.1 if night and hour in (3, 4, 5) else 1.0 for hour in range(24)])
    hours = rng.choice(24, 9_000, p=weights / weights.sum())
    local = np.sort(rng.integers(0, 3, 9_000) * 86_400 + hours * 3_600 + rng.integers(0, 3_600, 9_000))
    at = pl.from_epoch(pl.Series("ts", local - 3_600 * ahead + int(unseen.START.timestamp())), "s")
    click = rng.random(9_000) < 0.3
    log = pl.DataFrame({"user_id": rng.integers(0, 300, 9_000), "item_id": rng.integers(0, 80, 9_000), "ts": at})
    log = log.with_columns(clicked=pl.Series(click), liked=pl.Series(click & (rng.random(9_000) < 0.4)))

    def write(home: Path) -> None:
        log.write_parquet(home / "log.parquet")

    ended, _, text = made(tmp_path, write, "--timezone", "Asia/Tokyo")
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02")
    assert found.code == 0, found.err
    return ended, text, found.out


@pytest.mark.parametrize("night", [True, False])
def test_a_zone_that_was_said_is_not_asked_for_again(tmp_path: Path, night: bool) -> None:
    """A day tells by its night alone that its times are of UTC: it begins and ends where it was cut."""
    ended, text, checked = of_clocks(tmp_path, 9, night=night)
    assert ended.code == 0 and "timezone: Asia/Tokyo  # as --timezone says: ts names no zone" in text, ended.err
    assert "timestamps without a zone" not in ended.out
    assert ("timestamps without a zone are read as UTC" in checked) == (not night)


def test_times_of_items_are_of_the_zone_that_was_said(tmp_path: Path) -> None:
    log = frame().with_columns(ts=pl.from_epoch("ts", "s").dt.replace_time_zone("UTC"))
    log = log.filter((pl.col("item_id") > 2) | (pl.col("ts").dt.day() > 2))
    came = [dt.datetime(2026, 3, 2, 1) if k < 3 else dt.datetime(2025, 3, 1, 12) for k in range(40)]

    def write(home: Path) -> None:
        log.write_parquet(home / "events.parquet")
        items = {"item_id": range(40), "topic": ["a", "b"] * 20, "published_at": came}
        pl.DataFrame(items).write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write, "--timezone", "Asia/Tokyo")
    items = raw["data"]["items"]
    assert ended.code == 0 and (items["version"], items["version_timezone"]) == ("published_at", "Asia/Tokyo"), text
    assert "version_timezone: Asia/Tokyo  # its times name no zone: as --timezone says\n" in text
    assert "published_at: times without a zone" not in ended.out


def test_a_zone_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    ended = dmtl("init", tmp_path / "log", "--timezone", "Europe/Roma")
    assert ended.code == 2 and "--timezone: unknown time zone 'Europe/Roma', expected a name" in ended.err


def test_hours_ahead_of_utc_are_named_as_a_zone_is(tmp_path: Path) -> None:
    for given, told in (
        ("UTC-3", "the place of your users, or Etc/GMT+3"),
        ("GMT+05:00", "the place of your users, or Etc/GMT-5"),
        ("UTC+15", "Asia/Shanghai or UTC"),
    ):
        ended = dmtl("init", tmp_path, "--timezone", given)
        assert ended.code == 2 and f"expected a name such as {told}\n" in ended.err
