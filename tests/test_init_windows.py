"""init: within how long of what was shown the rows of a user and an item are read."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from worlds import dmtl

from dmtl_cli.guess.outcomes.waits import microseconds, zone_between

FIRST, USERS, ITEMS, ROWS = dt.date(2026, 1, 1), 500, 300, 1_200


def world(
    days: int, part: float, first: tuple[int, int], then: tuple[int, int], many: int = ROWS
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What was shown, and bookings of some clicks: a part of them so many minutes later, the others so many; and some
    that nobody was shown."""
    rng, n = np.random.default_rng(0), days * many
    at = np.sort(rng.integers(0, days * 86_400, n)) * 1_000_000
    ids = {"user_id": [f"u{k}" for k in rng.integers(0, USERS, n)]}
    ids |= {"item_id": [f"i{k}" for k in (rng.random(n) ** 2 * ITEMS).astype(int)]}
    times = pl.from_epoch(pl.Series("ts", at + 1_767_225_600_000_000), "us")
    shown = pl.DataFrame({"ts": times} | ids).with_columns(clicked=pl.Series((rng.random(n) < 0.3).astype(int)))
    of = shown.filter(pl.col("clicked") == 1).filter(pl.Series(rng.random(shown["clicked"].sum()) < 0.4))
    waits = np.where(rng.random(len(of)) < part, rng.integers(*first, len(of)), rng.integers(*then, len(of)))
    came = of.select(pl.col("ts") + pl.duration(minutes=pl.Series(waits)), "user_id", "item_id")
    other = came.with_columns(pl.col("item_id").shuffle(seed=1), pl.col("user_id").shuffle(seed=2))
    end = dt.datetime.combine(FIRST, dt.time()) + dt.timedelta(days=days)
    return shown, pl.concat([came, other.sample(fraction=0.15, seed=3)]).filter(pl.col("ts") < end).sort("ts")


def init(
    home: Path, shown: pl.DataFrame, came: pl.DataFrame, folders: bool, *more: str
) -> tuple[dict[str, Any], str, str]:
    for name, table in (("shown", shown), ("bookings", came)):
        for (day,), rows in table.group_by(pl.col("ts").dt.date()) if folders or name == "shown" else ():
            (home / f"log/{name}/dt={day}").mkdir(parents=True)
            rows.write_parquet(home / f"log/{name}/dt={day}/0.parquet")
    if not folders:
        came.write_csv(home / "log/bookings.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    ended = dmtl("init", home / "log", "-o", home / "mine.yaml", "--conversion", "bookings", *more)
    assert ended.code == 0, ended.err
    text = (home / "mine.yaml").read_text()
    (line,) = (line for line in text.splitlines() if "within: " in line)
    return yaml.safe_load(text)["data"]["events"]["joined"]["bookings"], line, ended.out


MINUTES = 24 * 60
WAITS = {
    "1h": (1.0, (1, 55), (1, 2), None, ""),
    "6h": (0.6, (1, 55), (90, 350), None, ""),
    "24h": (0.6, (1, 55), (400, 1_430), None, ""),
    "3d": (
        0.6,
        (1, 600),
        (MINUTES + 10, 3 * MINUTES - 10),
        3,
        "% come later than a day after: so a day waits for 3 days",
    ),
    "7d": (0.6, (1, 600), (4 * MINUTES, 6 * MINUTES), 7, "the served model is then 7 days behind"),
}


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("within", WAITS)
def test_the_window_is_what_nearly_all_rows_come_in(tmp_path: Path, within: str, folders: bool) -> None:
    part, first, then, after, told = WAITS[within]
    one, line, out = init(tmp_path, *world(12, part, first, then), folders)
    assert (one["within"], one.get("days_after")) == (within, after), line
    assert told in line, line
    newest = FIRST + dt.timedelta(days=11 - (after or 0))
    assert f"day {newest}: " in out, "a day is proposed that has all the days it waits for"
    said = (
        f"{newest + dt.timedelta(days=1)} .. {FIRST + dt.timedelta(days=11)} wait for {after} further days of bookings"
    )
    assert (said in out) == (after is not None) and (
        "to learn of what came by a day's own end, write days_after: 0" in out
    ) == bool(after)
    units = f"{within[:-1]} {'days' if within.endswith('d') else 'hours' if within != '1h' else 'hour'}"
    assert f"at most {units} behind" in out + (tmp_path / "mine.yaml").read_text()


def test_of_few_that_come_later_a_comment_says_what_they_would_cost(tmp_path: Path) -> None:
    one, line, _ = init(tmp_path, *world(12, 0.93, (1, 1_000), (2 * MINUTES, 3 * MINUTES - 10)), folders=True)
    assert one["within"] == "24h" and "days_after" not in one
    assert "% come later: within: 3d with days_after: 3 reads them, and the served model is then 3 days behind" in line
    assert 4 <= int(line.partition("% come later")[0].rpartition(" ")[2]) <= 10, line


@pytest.mark.parametrize(("days", "many"), [(2, ROWS), (4, 360)])
def test_where_nothing_tells_it_a_day_stays(tmp_path: Path, days: int, many: int) -> None:
    """A log that is too short, or has too few rows, of which a comment says how many come later."""
    part, first, then, *_ = WAITS["3d"]
    one, line, _ = init(tmp_path, *world(days, part, first, then, many), folders=True)
    assert one["within"] == "24h" and "days_after" not in one, line
    told = re.search(
        "; ([0-9]+) of its ([0-9]+) rows of what was clicked come later than a day after it, those by", line
    )
    assert (told is None) == (days == 2), line
    assert told is None or 0.2 < int(told[1]) / int(told[2]) < 0.6, line


def opened(days: int, waits: tuple[int, int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Exposures with ids of their own, and openings of a fifth of them so many minutes later, a day's in its file."""
    shown = world(days, 1.0, (1, 2), (1, 2))[0].drop("clicked").with_row_index("row")
    shown = shown.select(impression_id=pl.format("x{}", "row"), user_id="user_id", item_id="item_id", ts="ts")
    rng, of = np.random.default_rng(5), shown.gather_every(5)
    late = pl.Series(rng.integers(*waits, len(of)))
    came = of.select("impression_id", opened_at=pl.col("ts") + pl.duration(minutes=late))
    return shown, came.with_columns(read_ms=pl.Series(rng.integers(1_000, 90_000, len(of))))


def test_ids_may_be_integers_of_another_size(tmp_path: Path) -> None:
    shown, came = opened(4, (1, 61))
    number = pl.col("impression_id").str.slice(1).cast(pl.Int64)
    put(tmp_path, "shown", shown.with_columns(number), "ts")
    put(tmp_path, "reads", came.with_columns(number.cast(pl.Int32)), "opened_at")
    joined, _ = joined_of(tmp_path, "--within", "30m")
    assert joined["reads"]["within"] == "30m"


def test_clocks_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    """Though the rows alone make a day wait."""
    shown, came = opened(5, (100, 500))
    put(tmp_path, "shown", shown, "ts")
    put(tmp_path, "reads", came.with_columns(pl.col("opened_at").dt.replace_time_zone("UTC")), "opened_at")
    for within, more, code in (("5m", (), 2), ("4h", ("--timezone", "UTC"), 0)):
        ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--within", within, *more)
        assert ended.code == code and ("give --timezone" in ended.err) == bool(code), ended.err


@pytest.mark.parametrize("key", ["impression_id", "of"])
def test_a_persons_window_is_of_rows_that_name_what_was_shown_too(tmp_path: Path, key: str) -> None:
    """Of openings up to an hour later those of the first half hour count, and a day waits for none. They may have
    another name for its id."""
    shown, came = opened(4, (1, 61))
    came = came.rename({"impression_id": key})
    for name, table, at in (("shown", shown, "ts"), ("reads", came, "opened_at")):
        for (day,), rows in table.group_by(pl.col(at).dt.date()):
            (tmp_path / f"log/{name}/dt={day}").mkdir(parents=True)
            rows.write_parquet(tmp_path / f"log/{name}/dt={day}/0.parquet")
    day = FIRST + dt.timedelta(days=2)
    for n, within in enumerate(("30m", None)):
        config = tmp_path / f"{n}.yaml"
        more = ("--within", within) if within else ()
        ended = dmtl("init", tmp_path / "log", "-o", config, "--conversion", "read_ms >= 30000", *more)
        assert ended.code == 0, ended.err
        reads = yaml.safe_load(config.read_text())["data"]["events"]["joined"]["reads"]
        expected = {"time": "opened_at", "within": "30m"} if within else {}
        assert {k: v for k, v in reads.items() if k in ("time", "within", "days_after")} == expected
        out = " ".join(ended.out.split())
        assert ("of which those at most 30m after ts count, as --within says" in out) == (within is not None)
        assert not within or "of them in later days' files, which days_after: 1 would read" in out, (
            "those after midnight"
        )
        met = shown.join(came, left_on="impression_id", right_on=key).filter(pl.col("ts").dt.date() == day)
        met = met.filter(pl.col("opened_at").dt.date() == day)
        if within:
            met = met.filter(pl.col("opened_at") - pl.col("ts") <= dt.timedelta(minutes=30))
        labels = dmtl("check", "--config", config, "--day", str(day), "--json").json["labels"]
        assert (labels["clicks"], labels["conversions"]) == (len(met), (met["read_ms"] >= 30_000).sum())


def test_days_are_those_of_the_events_where_one_file_has_all_that_came(tmp_path: Path) -> None:
    """Days end at 14:00 of UTC, where a quarter of the bookings of five hours later are of the next; at UTC's midnight
    nothing was shown."""
    zone = "Australia/Brisbane"
    shown, came = (t.with_columns(pl.col("ts").dt.replace_time_zone("UTC")) for t in world(8, 1.0, (290, 300), (1, 2)))
    shown = shown.filter(pl.col("ts").dt.hour().is_between(2, 17))
    for (day,), rows in shown.group_by(pl.col("ts").dt.convert_time_zone(zone).dt.date()):
        (tmp_path / f"log/shown/dt={day}").mkdir(parents=True)
        rows.write_parquet(tmp_path / f"log/shown/dt={day}/0.parquet")
    came.write_parquet(tmp_path / "log/bookings.parquet")
    options = ("--conversion", "bookings", "--within", "6h", "--timezone", zone)
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", *options)
    assert ended.code == 0, ended.err
    one = yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]["events"]["joined"]["bookings"]
    assert (one["within"], one.get("days_after")) == ("6h", 1)
    assert "as --within says: a day waits for 1 day" in " ".join(ended.out.split()), ended.out


def test_within_a_persons_window_a_user_sees_an_item_more_than_once_a_day(tmp_path: Path) -> None:
    """What names a user and an item alone makes the click: without the window one exposure of a day is read."""
    shown, came = opened(4, (1, 25))
    came = came.join(shown.drop("ts"), on="impression_id").select("user_id", "item_id", "opened_at", "read_ms")
    for name, table, at in (("shown", shown.drop("impression_id"), "ts"), ("reads", came, "opened_at")):
        for (day,), rows in table.group_by(pl.col(at).dt.date()):
            (tmp_path / f"log/{name}/dt={day}").mkdir(parents=True)
            rows.write_parquet(tmp_path / f"log/{name}/dt={day}/0.parquet")
    day = shown.filter(pl.col("ts").dt.date() == FIRST + dt.timedelta(days=2))
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--within", "30m", "--user", "user_id")
    assert ended.code == 0, ended.err
    events = yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]["events"]
    assert "unique" not in events and events["joined"]["reads"]["within"] == "30m"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", str(FIRST + dt.timedelta(days=2)), "--json").json
    assert found["rows"] == len(day) > day.select("user_id", "item_id").n_unique()


def put(home: Path, name: str, table: pl.DataFrame, at: str, *, whole: bool = False) -> None:
    """A folder a day, or one file of all."""
    (home / f"log/{name}").mkdir(parents=True)
    if whole:
        (home / f"log/{name}").rmdir()
        table.write_parquet(home / f"log/{name}.parquet")
        return
    for (day,), rows in table.group_by(pl.col(at).dt.date()):
        (home / f"log/{name}/dt={day}").mkdir()
        rows.write_parquet(home / f"log/{name}/dt={day}/0.parquet")


def joined_of(home: Path, *more: str) -> tuple[dict[str, Any], str]:
    ended = dmtl("init", home / "log", "-o", home / "mine.yaml", *more)
    assert ended.code == 0, ended.err
    text = " ".join(ended.out.split())
    return yaml.safe_load((home / "mine.yaml").read_text())["data"]["events"]["joined"], text


def test_one_file_of_what_names_exposures_is_read_whole(tmp_path: Path) -> None:
    """So no day waits for it, and none of it is in later files."""
    shown, came = opened(5, (240, 420))
    put(tmp_path, "shown", shown, "ts")
    put(tmp_path, "reads", came, "opened_at", whole=True)
    joined, said = joined_of(tmp_path, "--within", "12h")
    assert (
        joined["reads"]["within"] == "12h" and "days_after" not in joined["reads"] and "later days' files" not in said
    )


def test_a_table_that_another_goes_through_names_single_exposures(tmp_path: Path) -> None:
    shown, came = opened(4, (1, 61))
    clicks = came.with_row_index("n").select(click_id=pl.format("c{}", "n"), of="impression_id", clicked_at="opened_at")
    orders = clicks.gather_every(2).select("click_id", ordered_at=pl.col("clicked_at") + dt.timedelta(minutes=9))
    clicks = clicks.rename({"of": "impression_id"})
    for name, table, at in (("shown", shown, "ts"), ("reads", clicks, "clicked_at"), ("orders", orders, "ordered_at")):
        put(tmp_path, name, table, at)
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--within", "2h", "--conversion", "orders")
    assert ended.code == 2 and "--within: no table was found" in ended.err
    joined, _ = joined_of(tmp_path, "--conversion", "orders")
    assert joined["orders"]["through"].endswith(".click_id") and not any("within" in one for one in joined.values())


def test_what_comes_after_midnight_is_of_the_next_day_in_the_zone_that_a_person_says(tmp_path: Path) -> None:
    """Though nobody was shown anything at night, after which the day of the last exposure would end."""
    shown, came = world(8, 1.0, (60, 180), (1, 2))
    shown = shown.filter(pl.col("ts").dt.hour() >= 8)
    for name, whole in (("folders", False), ("file", True)):
        put(tmp_path / name, "shown", shown, "ts")
        put(tmp_path / name, "bookings", came, "ts", whole=whole)
        joined, _ = joined_of(tmp_path / name, "--within", "6h", "--timezone", "UTC", "--conversion", "bookings")
        assert joined["bookings"].get("days_after") == 1, name


def test_clocks_of_the_users_beside_instants(tmp_path: Path) -> None:
    """Exposures on the clock of Sofia, bookings in UTC: without the zone three hours lie between them."""
    shown, came = world(6, 1.0, (1, 100), (1, 2))
    zone, here = "Europe/Sofia", pl.col("ts").dt.replace_time_zone("UTC")
    shown = shown.with_columns(here.dt.convert_time_zone(zone).dt.replace_time_zone(None))
    put(tmp_path, "shown", shown, "ts")
    put(tmp_path, "bookings", came.with_columns(here), "ts")
    joined, _ = joined_of(tmp_path, "--within", "2h", "--timezone", zone, "--conversion", "bookings")
    assert joined["bookings"]["within"] == "2h"
    day = FIRST + dt.timedelta(days=3)
    labels = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", str(day), "--json").json["labels"]
    of = shown.filter(pl.col("ts").dt.date() == day, pl.col("clicked") == 1).with_row_index("n")
    at = came.with_columns(
        pl.col("ts").dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    )
    met = of.join(at.rename({"ts": "came"}), on=["user_id", "item_id"]).filter(
        (pl.col("came") - pl.col("ts")).is_between(dt.timedelta(), dt.timedelta(hours=2))
    )
    assert labels["clicks"] == len(of) and abs(labels["conversions"] - met["n"].n_unique()) <= 0.03 * len(of)


def test_a_window_that_is_of_no_table_is_refused(tmp_path: Path) -> None:
    """Rows without a time: also of a day and more, where none of them lies in a later file."""
    shown, came = opened(4, (1, 9))
    put(tmp_path, "shown", shown, "ts")
    for (day,), rows in came.group_by(pl.col("opened_at").dt.date()):
        (tmp_path / f"log/reads/dt={day}").mkdir(parents=True)
        rows.drop("opened_at").write_parquet(tmp_path / f"log/reads/dt={day}/0.parquet")
    for within in ("23h", "48h"):
        ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--within", within)
        assert ended.code == 2 and "--within: no table was found" in ended.err


def test_times_of_a_clock_are_of_the_users_where_others_are_instants() -> None:
    """Sofia is two hours ahead of UTC in winter, three in summer."""
    naive = pl.DataFrame({"t": [dt.datetime(2026, 1, 5, 12), dt.datetime(2026, 7, 5, 12), None]})
    hours = [
        None if at is None else at // 3_600_000_000 % 24 for at in microseconds(naive, "t", "timestamp", "Europe/Sofia")
    ]
    assert hours == [10, 9, None]
    assert microseconds(naive, "t", "timestamp", "UTC")[0] // 3_600_000_000 % 24 == 12
    aware, came = naive.with_columns(pl.col("t").dt.replace_time_zone("UTC"))["t"], (naive["t"], "timestamp")
    assert zone_between((aware, "timestamp"), came, "Europe/Sofia") == "Europe/Sofia"
    assert zone_between((aware, "timestamp"), came, None) is None and zone_between(came, came, None) == "UTC"
