"""`init --timezone` on files of UTC days: what came of exposures, and side tables with one day in their name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from formats import write
from initiated import Made, made
from worlds import dmtl

FIRST, DAYS, A_DAY, USERS, ITEMS = dt.date(2025, 6, 5), 4, 1_500, 150, 60
LATER = f"{FIRST + dt.timedelta(DAYS):%Y%m%d}"
Form = Callable[[pl.Expr], pl.Expr]
Tables = dict[str, pl.DataFrame]


def zulu(at: pl.Expr) -> pl.Expr:
    return at.dt.to_string("%Y-%m-%dT%H:%M:%SZ")


def world() -> Tables:
    """Exposures around the clock of UTC, and the plays of a quarter of them some seconds later; `at`: when."""
    rng, n = np.random.default_rng(3), DAYS * A_DAY
    begin = int(dt.datetime.combine(FIRST, dt.time(), dt.UTC).timestamp())
    at = np.sort(rng.integers(begin, begin + DAYS * 86_400, n))
    shown = pl.DataFrame({
        "impression_id": [f"imp-{k}" for k in rng.permutation(n)],
        "at": pl.from_epoch(pl.Series(at), "s").dt.replace_time_zone("UTC"),
        "user_id": [f"u{k}" for k in rng.integers(0, USERS, n)],
        "series_id": [f"s{k}" for k in rng.integers(0, ITEMS, n)],
        "device": rng.choice(["web", "app"], n).tolist(),
    })  # fmt: skip
    plays = shown.filter(pl.Series(rng.random(n) < 0.25)).select("impression_id", "at")
    waited = pl.Series(rng.integers(2, 60, len(plays))) * 1_000_000
    seconds = np.round(rng.exponential(300, len(plays)), 1)
    plays = plays.with_columns(pl.col("at") + waited.cast(pl.Duration("us")), play_seconds=pl.Series(seconds))
    return {"card_impression": shown, "play": plays}


def put(home: Path, tables: Tables, times: dict[str, Form | None], name: str = "events/{table}") -> None:
    """A file of each UTC day, and one file of users and of series, written after the last day.

    Args:
        times: how each table has its times; None: it has none.
    """
    for table, rows in tables.items():
        form = times[table]
        for (day,), part in rows.group_by(pl.col("at").dt.date().alias("d"), maintain_order=True):
            part = part.with_columns(event_time=form(pl.col("at"))) if form else part
            write(part.drop("at"), home / name.format(table=table), str(day), "jsonl.gz")
    rng = np.random.default_rng(4)
    users = {"user_id": [f"u{k}" for k in range(USERS)], "plan": ["free", "paid", "kids"] * (USERS // 3)}
    users |= {"plays_total": rng.integers(0, 90, USERS).tolist()}
    write(pl.DataFrame(users), home / "users", f"users_{LATER}", "jsonl.gz")
    series = {"series_id": [f"s{k}" for k in range(ITEMS)], "genre": [f"g{k % 5}" for k in range(ITEMS)]}
    write(pl.DataFrame(series), home / "catalog", f"series_{LATER}", "jsonl.gz")


def inited(tmp_path: Path, *more: str, **times: Form | None) -> Made:
    forms: dict[str, Form | None] = {"card_impression": zulu, "play": zulu} | times
    return made(tmp_path, lambda home: put(home, world(), forms), *more)


def rate(zone: str, day: dt.date) -> tuple[int, float]:
    """Rows of a local day, and the share of which a play came on that day."""
    shown, plays = (table.filter(table["at"].dt.convert_time_zone(zone).dt.date() == day) for table in world().values())
    return len(shown), round(len(shown.join(plays, on="impression_id", how="semi")) / len(shown), 4)


def checked(tmp_path: Path, day: dt.date) -> tuple[int, float]:
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
    assert ended.code == 0, ended.err
    found: dict[str, Any] = ended.json
    return found["rows"], found["labels"]["click_rate"]


@pytest.mark.parametrize("zone", [None, "Asia/Manila", "America/New_York"])
def test_a_side_table_of_one_dated_file_is_one_state_in_every_zone(tmp_path: Path, zone: str | None) -> None:
    """Days of Manila reach the day of the file's name, which is none of the log's all the same."""
    ended, raw, text = inited(tmp_path, *(("--timezone", zone) if zone else ()))
    assert ended.code == 0, ended.err
    data = raw["data"]
    assert ("date_column" in data["events"]) == (zone is not None), text
    assert (data["users"]["path"], data["items"]["path"]) == ("users", "catalog"), text
    assert text.count("one state for all days") >= 2
    assert "plays_total" not in {f["name"] for f in raw["features"] if f != "auto"}, text


@pytest.mark.parametrize("zone", ["Asia/Manila", "America/New_York"])
def test_what_came_of_exposures_is_of_the_days_of_the_users_too(tmp_path: Path, zone: str) -> None:
    ended, raw, text = inited(tmp_path, "--timezone", zone)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["path"], events["date_column"]) == ("events/card_impression", "event_time"), text
    joined = events["joined"]["play"]
    assert (joined["path"], joined["date_column"]) == ("events/play", "event_time"), text
    for day in (FIRST + dt.timedelta(1), FIRST + dt.timedelta(2)):
        assert checked(tmp_path, day) == rate(zone, day)


def test_files_of_one_folder_and_numbers_in_csv(tmp_path: Path) -> None:
    """Paths with `*`, and a time of another name than that of the events, which `data.types` reads."""
    tables = world()
    tables["play"] = tables["play"].with_columns(started=pl.col("at").dt.epoch("s"))

    def both(home: Path) -> None:
        for name, rows in tables.items():
            for (day,), part in rows.group_by(pl.col("at").dt.date().alias("d"), maintain_order=True):
                part = part if name == "play" else part.with_columns(event_time=zulu(pl.col("at")))
                write(part.drop("at"), home, f"{name}_{day}", "csv")

    ended, raw, text = made(tmp_path, both, "--timezone", "Asia/Manila")
    assert ended.code == 0, ended.err
    joined = raw["data"]["events"]["joined"]["play"]
    assert raw["data"]["events"]["path"] == "card_impression_*.csv", "of any month"
    assert (joined["path"], joined["date_column"]) == ("play_*.csv", "started"), text
    assert "not used: started" not in text
    day = FIRST + dt.timedelta(1)
    assert checked(tmp_path, day) == rate("Asia/Manila", day)


def test_files_of_the_days_of_the_users_stay(tmp_path: Path) -> None:
    """Beside events in one file, whose days a column tells in any case."""
    shown, plays = world().values()
    local = pl.col("at").dt.convert_time_zone("Asia/Manila").dt.date().alias("d")

    def both(home: Path) -> None:
        write(shown.select(pl.exclude("at"), event_time=zulu(pl.col("at"))), home, "card_impression", "jsonl")
        for (day,), part in plays.group_by(local, maintain_order=True):
            rows = part.select(pl.exclude("at"), event_time=zulu(pl.col("at")))
            write(rows, home / "play", str(day), "jsonl")

    ended, raw, text = made(tmp_path, both, "--timezone", "Asia/Manila")
    assert ended.code == 0, ended.err
    joined = raw["data"]["events"]["joined"]["play"]
    assert joined["path"] == "play/{day}.jsonl" and "date_column" not in joined, text


def test_rows_without_a_time_are_told_where_they_are_lost(tmp_path: Path) -> None:
    """In Manila a day begins in the file of the day before, which none reads."""
    ended, raw, text = inited(tmp_path, "--timezone", "Asia/Manila", play=None)
    assert ended.code == 0, ended.err
    joined = raw["data"]["events"]["joined"]["play"]
    assert joined["path"] == "events/play/{day}.jsonl.gz" and not {"date_column", "days_after"} & joined.keys(), text
    (line,) = (line for line in ended.out.splitlines() if line.startswith("WARNING: events/play"))
    assert "no column tells when its rows came: what came of an exposure is lost" in line


def test_rows_without_a_time_are_read_with_those_of_the_next_file(tmp_path: Path) -> None:
    """In New York a day ends in the file of the next."""
    ended, raw, text = inited(tmp_path, "--timezone", "America/New_York", play=None)
    assert ended.code == 0, ended.err
    joined = raw["data"]["events"]["joined"]["play"]
    assert joined["path"] == "events/play/{day}.jsonl.gz" and joined["days_after"] == 1, text
    assert "WARNING: events/play" not in ended.out
    day, (shown, plays) = FIRST + dt.timedelta(1), world().values()
    mine = shown.filter(shown["at"].dt.convert_time_zone("America/New_York").dt.date() == day)
    of_all = round(len(mine.join(plays, on="impression_id", how="semi")) / len(mine), 4)
    assert checked(tmp_path, day) == (len(mine), of_all)


@pytest.mark.parametrize("zone", [None, "Asia/Manila"])
def test_of_two_snapshots_the_newer_is_one_state(tmp_path: Path, zone: str | None) -> None:
    """Two of four days have a table of users: as tables of days they would leave the others without one."""

    def write_two(home: Path) -> None:
        put(home, world(), {"card_impression": zulu, "play": zulu})
        older = home / "users" / f"users_{FIRST:%Y%m%d}.jsonl.gz"
        older.write_bytes((home / f"users/users_{LATER}.jsonl.gz").read_bytes())

    ended, raw, text = made(tmp_path, write_two, *(("--timezone", zone) if zone else ()))
    assert ended.code == 0, ended.err
    newer = f"users/users_{LATER}.jsonl.gz"
    assert raw["data"]["users"]["path"] == newer and text.count("one state for all days") >= 2, text
    told = (
        f"WARNING: users/users_{{day}}.jsonl.gz has 2 days, fewer than most of the log's: {newer} alone is read, as one"
    )
    assert f"{told} state for all days" in ended.out, ended.out
    assert "plays_total" not in {f["name"] for f in raw["features"] if f != "auto"}, text
