"""`init` on days in names that are written as people write them, and on rows of no day."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import made
from worlds import dmtl

from dmtl_cli.guess.reading.files import group


def days(*paths: str) -> tuple[str | None, list[dt.date]]:
    (files,) = group([(path, 1) for path in paths])
    return files.pattern, [day for day, _ in files.days]


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("lesungen_%d-%m-%Y.parquet", "lesungen_{day:%d-%m-%Y}.parquet"),
        ("%d.%m.%Y/x.parquet", "{day:%d.%m.%Y}"),
        ("dt=%d-%m-%Y/x.parquet", "dt={day:%d-%m-%Y}"),
        ("seen_%d_%m_%Y_0.parquet", "seen_{day:%d_%m_%Y}_*.parquet"),
    ],
)
@pytest.mark.parametrize("first", [dt.date(2026, 3, 1), dt.date(2026, 3, 27)])
def test_the_day_before_the_month(tmp_path: Path, pattern: str, path: str, first: dt.date) -> None:
    """Of a table beside the events too; `check`, which init runs, reads that day."""
    x = unseen.drawn(5)
    rows = {"user_id": x["user"], "item_id": x["item"], "is_click": x["click"], "play_seconds": x["seconds"]}
    member = pl.DataFrame({"user_id": range(unseen.USERS), "town": ["a", "b", "c"] * 20})

    def write(home: Path) -> None:
        for k in range(5):
            day = first + dt.timedelta(k)
            for name, frame in (("log", pl.DataFrame(rows)[k::5]), ("people", member)):
                place = home / name / day.strftime(pattern)
                place.parent.mkdir(parents=True, exist_ok=True)
                frame.write_parquet(place)

    ended, raw, text = made(tmp_path, write)
    last = first + dt.timedelta(4)
    assert ended.code == 0 and f"day {last}: 240 rows" in ended.out, ended.err
    assert raw["data"]["events"]["path"] == f"log/{path}" and f"  # 5 days, {first} .. {last}" in text
    assert raw["data"]["users"] == {"path": f"people/{path}", "key": "user_id"}


def test_the_month_before_the_day_where_nothing_else_can_be() -> None:
    march = [dt.date(2026, 3, 12), dt.date(2026, 3, 13)]
    assert days("a_03-12-2026.csv", "a_03-13-2026.csv") == ("a_{day:%m-%d-%Y}.csv", march)
    assert days("a_12.03.2026.csv", "a_13.03.2026.csv") == ("a_{day:%d.%m.%Y}.csv", march)
    closer = [dt.date(2026, 3, d) for d in (1, 2, 3)]
    assert days(*(f"a_0{d}-03-2026.csv" for d in (1, 2, 3))) == ("a_{day:%d-%m-%Y}.csv", closer)
    assert days(*(f"a_03-0{d}-2026.csv" for d in (1, 2, 3))) == ("a_{day:%m-%d-%Y}.csv", closer)
    assert days("a_03-04-2026.csv") == ("a_{day:%d-%m-%Y}.csv", [dt.date(2026, 4, 3)]), "one file tells nothing"


def test_each_table_has_an_order_of_its_own() -> None:
    found = group([(f"{name}.csv", 1) for name in ("us_03-27-2026", "us_04-02-2026", "de_27-03-2026", "x_2026-03-27")])
    assert {f.pattern: [str(d) for d, _ in f.days] for f in found} == {
        "us_{day:%m-%d-%Y}.csv": ["2026-03-27", "2026-04-02"],
        "de_{day:%d-%m-%Y}.csv": ["2026-03-27"],
        "x_{day}.csv": ["2026-03-27"],
    }


@pytest.mark.parametrize("name", ["a_31-02-2026.csv", "a_127-03-2026.csv", "a_27-03.2026.csv", "a_27-13-2026.csv"])
def test_what_is_no_day(name: str) -> None:
    assert days(name) == (None, [])


@pytest.mark.parametrize("timed", [True, False])
def test_rows_of_no_day_are_said_with_what_to_do(tmp_path: Path, timed: bool) -> None:
    x = unseen.drawn(6)
    frame = pl.DataFrame({
        "user_id": x["user"], "item_id": x["item"], "seen_at": x["at"], "is_click": x["click"], "play_s": x["seconds"],
    })  # fmt: skip

    def write(home: Path) -> None:
        unseen.by_day(home / "log", frame, x)
        (home / "log/day=__HIVE_DEFAULT_PARTITION__").mkdir()
        lost = frame.head(40).with_columns(pl.when(pl.lit(timed)).then("seen_at"))
        lost.write_parquet(home / "log/day=__HIVE_DEFAULT_PARTITION__/part-0.parquet")

    ended, _, text = made(tmp_path, write)
    (line,) = (line for line in text.splitlines() if "__HIVE_DEFAULT_PARTITION__" in line)
    assert "rows of events for which the writer had no day: dmtl reads a day by its name, so they are left out" in line
    said = "100% of them have a seen_at: write them into the folder of the day that it tells, then init"
    assert line.endswith(said if timed else "100% of them have no seen_at either") and ended.code == 0


def test_what_counts_as_a_long_read_is_in_the_config(tmp_path: Path) -> None:
    """As a comment that is a key once it is none."""
    ended, raw, text = made(tmp_path, lambda home: unseen.in_place(home, "%Y-%m-%d.parquet"))
    assert ended.code == 0 and "labels" not in raw
    (line,) = (
        line for line in text.splitlines() if line.startswith("# labels: {long_read: 30}  # seconds above which")
    )
    config = tmp_path / "set.yaml"
    config.write_text(text.replace(line, line[2:]))
    assert yaml.safe_load(config.read_text())["labels"] == {"long_read": 30}
    assert dmtl("check", "--config", config, "--day", "2026-03-03").code == 0


def test_a_log_of_conversions_has_no_long_read(tmp_path: Path) -> None:
    _, raw, text = made(tmp_path, unseen.positives)
    assert raw["data"]["events"]["conversion"] == "purchased" and "long_read" not in text


def test_times_are_no_years() -> None:
    """A number of eight digits stays a number: only a day that is cut is read from its end."""
    assert days("a_27032026.csv") == (None, [])
    assert np.all([d.year == 2026 for d in days("a_20260327.csv")[1]])
