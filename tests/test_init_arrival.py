"""`init` on folders whose days are not those of their events."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
import yaml
from initiated import made
from worlds import dmtl

from dmtl_cli.guess.reading.files import complete_day, usual

FIRST, DAYS, A_DAY = dt.date(2026, 3, 5), 6, 1500


def exposures(zone: str) -> pl.DataFrame:
    """Of six local days; `at` is in milliseconds since 1970, `own` the day."""
    rng = np.random.default_rng(1)
    n = DAYS * A_DAY
    day = np.repeat(np.arange(DAYS), A_DAY)
    begin = [int(dt.datetime.combine(FIRST + dt.timedelta(int(d)), dt.time(), ZoneInfo(zone)).timestamp()) for d in day]
    click = rng.random(n) < 0.3
    return pl.DataFrame({
        "user_id": rng.integers(0, 150, n), "item_id": rng.integers(0, 60, n), "clicked": click,
        "watch_seconds": click * rng.exponential(40, n), "own": day,
        "ts": (np.array(begin) + np.sort(rng.integers(0, 82_000, (DAYS, A_DAY)), axis=1).ravel()) * 1000,
    })  # fmt: skip


def put(home: Path, rows: pl.DataFrame, arrived: Any) -> None:
    for (k,), part in rows.with_columns(folder=pl.Series(arrived)).group_by("folder", maintain_order=True):
        place = home / "log" / f"{FIRST + dt.timedelta(int(str(k)))}"
        place.mkdir(parents=True)
        part.drop("folder", "own").write_ndjson(place / "0.jsonl")


def late(rows: pl.DataFrame, share: float, days: int) -> Any:
    """The folder of each row: some arrive one to so many days later."""
    rng = np.random.default_rng(2)
    by = np.where(rng.random(len(rows)) < share, rng.integers(1, days + 1, len(rows)), 0)
    return rows["own"].to_numpy() + by, int((by > 0).sum())


def said(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("WARNING: ") and "folder" in line]


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/Mexico_City", "Asia/Kolkata", "Europe/Berlin", "UTC"])
def test_folders_of_local_days_are_days_of_events(tmp_path: Path, zone: str) -> None:
    """Also where a zone is half an hour from another; nothing is said, and the folders stay."""
    rows = exposures(zone)
    ended, raw, text = made(tmp_path, lambda home: put(home, rows, rows["own"]))
    assert ended.code == 0 and not said(ended.out), ended.err
    assert raw["data"]["events"]["path"] == "log/{day}" and "date_column" not in text and "timezone" not in text


def test_a_change_to_summer_time_is_no_late_arrival(tmp_path: Path) -> None:
    """In New York on the eighth of March: the fourth of six days."""
    rows = exposures("America/New_York")
    ended, _, text = made(tmp_path, lambda home: put(home, rows, rows["own"]))
    assert ended.code == 0 and not said(ended.out) and "date_column" not in text


def test_rows_of_a_day_in_three_folders_are_read_by_their_times(tmp_path: Path) -> None:
    rows = exposures("Asia/Seoul")
    folders, n = late(rows, 0.03, 2)
    ended, raw, _ = made(tmp_path, lambda home: put(home, rows, folders))
    events = raw["data"]["events"]
    assert ended.code == 0, ended.err
    assert (events["path"], events["date_column"], raw["data"]["timezone"]) == ("log", "ts", "Asia/Tokyo")
    assert "partition" not in events
    (line,) = said(ended.out)
    assert "folders are days of arrival: date_column and timezone are written" in line
    last = FIRST + dt.timedelta(DAYS - 1)
    assert f"day {last}: {A_DAY:,} rows" in ended.out, "all rows of the day and no others"
    assert f"--to {last}" in ended.out
    seen = int(line.removeprefix("WARNING: ").partition(" of ")[0].replace(",", ""))
    assert 0.5 * n <= seen <= n


def test_rows_of_the_day_before_alone_are_told_and_read_by_time_where_a_person_says_so(tmp_path: Path) -> None:
    rows = exposures("Asia/Seoul")
    folders, _ = late(rows, 0.02, 1)
    ended, raw, text = made(tmp_path, lambda home: put(home, rows, folders))
    assert ended.code == 0 and raw["data"]["events"]["path"] == "log/{day}" and "timezone" not in raw["data"]
    assert any(
        "of another day than their folder in every time zone: are folders of arrival? --days-by-time" in x
        for x in said(ended.out)
    )
    assert "if folders are days of arrival, init --days-by-time reads each row on the day of its time" in text
    config = tmp_path / "ready.yaml"
    ended = dmtl("init", tmp_path / "log", "-o", config, "--days-by-time")
    data = yaml.safe_load(config.read_text())["data"]
    assert (data["timezone"], data["events"]["date_column"], data["events"]["path"]) == ("Asia/Tokyo", "ts", "log")
    assert ended.code == 0 and not any("of another day" in x for x in said(ended.out)), ended.err
    checked = dmtl("check", "--config", config, "--day", FIRST)
    assert checked.code == 0 and f"day {FIRST}: {A_DAY:,} rows" in checked.out, checked.err


def test_days_of_few_rows_at_the_ends_are_named_and_not_proposed(tmp_path: Path) -> None:
    """A time does not tell that they are late: there is none."""
    rows = exposures("UTC")
    folders = rows["own"].to_numpy().copy()
    folders[:5], folders[-9:-4], folders[-4:] = -1, DAYS, DAYS + 1
    ended, _, _ = made(tmp_path, lambda home: put(home, rows.drop("ts"), folders))
    last = FIRST + dt.timedelta(DAYS - 1)
    few = f"{last + dt.timedelta(1)}, {last + dt.timedelta(2)} have less than a tenth of a usual day"
    assert f"WARNING: {few}: left out of what is proposed" in ended.out and ended.code == 0, ended.err
    assert f"day {last}:" in ended.out and f"--to {last}" in ended.out


def test_days_of_few_rows_before_a_short_log(tmp_path: Path) -> None:
    rows = exposures("UTC").filter(pl.col("own") < 3).drop("ts")
    folders = rows["own"].to_numpy().copy()
    folders[:5] = -1
    ended, _, _ = made(tmp_path, lambda home: put(home, rows, folders))
    few = f"WARNING: {FIRST - dt.timedelta(1)} has less than a tenth of a usual day: left out of what is proposed"
    assert few in ended.out and f"--from {FIRST + dt.timedelta(1)} --to" in ended.out, ended.out


@pytest.mark.parametrize(
    ("sizes", "kept", "complete"),
    [
        ([100, 100, 100, 9, 8], (0, 2), 2),
        ([9, 100, 9, 100, 100], (1, 4), 4),
        ([100, 100, 100, 40], (0, 3), 2),
        ([100, 9], (0, 1), 1),
        ([0, 0, 0], (0, 2), 2),
        ([3, 2, 1, 4, 1, 99, 100, 98, 2, 3, 1, 2, 2], (5, 7), 7),
        ([2_000, 100, 100, 100], (0, 3), 3),
        ([5], (0, 0), 0),
    ],
)
def test_usual_days(sizes: list[int], kept: tuple[int, int], complete: int) -> None:
    days = [(FIRST + dt.timedelta(k), size) for k, size in enumerate(sizes)]
    assert usual(days[::-1]) == days[kept[0] : kept[1] + 1]
    assert complete_day(days) == days[complete][0]
    assert usual([]) == [] and complete_day([]) is None


def test_other_tables_in_the_folder_keep_its_days(tmp_path: Path) -> None:
    """A table beside the events would be read as events."""
    rows = exposures("Asia/Seoul")
    folders, _ = late(rows, 0.03, 2)

    def write(home: Path) -> None:
        put(home, rows, folders)
        pl.DataFrame({"item_id": range(60), "kind": ["a", "b"] * 30}).write_parquet(home / "log/items.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["events"]["path"] == "log/{day}", ended.err
    assert "a folder of the events alone would let a column give the day" in text and len(said(ended.out)) >= 1


def day_of(k: int) -> dt.date:
    return FIRST + dt.timedelta(k)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul"])
@pytest.mark.parametrize("names", ["one", "export", "weeks", "compact"])
def test_a_file_of_several_days_is_read_by_its_times(tmp_path: Path, names: str, zone: str) -> None:
    """Two days in a name, a file of all rows with the day on which it was written, and one file for each three days."""
    rows = exposures(zone)
    at = rows["ts"].cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(zone)
    texts = at.dt.to_string("%Y-%m-%dT%H:%M:%S%:z")
    compact = f"views-{day_of(0):%Y%m%d}-{day_of(5):%Y%m%d}"
    whole = {"one": f"views_{day_of(0)}_{day_of(5)}", "export": f"views_{day_of(6)}", "compact": compact}

    def write(home: Path) -> None:
        every = rows.with_columns(ts=texts)
        if names == "weeks":
            for k in (0, 3):
                part = every.filter(pl.col("own").is_between(k, k + 2)).drop("own")
                part.write_ndjson(home / f"views_{day_of(k)}_{day_of(k + 2)}.jsonl")
        else:
            every.drop("own").write_ndjson(home / f"{whole[names]}.jsonl")
        items = pl.DataFrame({"item_id": range(60), "tone": [f"t{k % 7}" for k in range(60)]})
        items.write_csv(home / f"items_{day_of(0)}_{day_of(5)}.csv")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["date_column"] == "ts" and "{day" not in events["path"] and "# date_column" not in text
    assert raw["data"]["timezone"] == {"UTC": "UTC", "Asia/Seoul": "Asia/Tokyo"}[zone]
    assert raw["data"]["items"]["path"] == f"items_{day_of(0)}_{day_of(5)}.csv", "a side table is one for all days"
    assert f"day {day_of(5)}: {A_DAY:,} rows" in ended.out and f"--to {day_of(5)}" in ended.out


def test_a_file_from_a_day_to_the_next_is_that_of_a_day(tmp_path: Path) -> None:
    rows = exposures("UTC")

    def write(home: Path) -> None:
        for (k,), part in rows.group_by("own", maintain_order=True):
            part.drop("own").write_ndjson(home / f"views_{day_of(int(str(k)))}_{day_of(int(str(k)) + 1)}.jsonl")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["events"]["path"].startswith("views_{day}_"), ended.err
    assert "date_column" not in raw["data"]["events"] and f"day {day_of(5)}: {A_DAY:,} rows" in ended.out
