"""Side tables that are snapshots of the end of their day: `lag_days` takes that of an earlier day, for all who read."""

from __future__ import annotations

import copy
import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import formats
import numpy as np
import polars as pl
import pytest
from initiated import made
from polars.testing import assert_frame_equal
from worlds import BASE, DAYS, Project, dmtl

from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.guess.sides.late import clocks, written_late
from dmtl_cli.synth.generate import generate

FEATURES = [
    *BASE["features"],
    {"name": "last_clicks", "side": "user", "kind": "sequence", "profile": {"history": "click"}},
]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By lag one log of four days: the same tables, as of the morning, and in the folder of the day before."""
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=900, seed=1)
    late = tmp_path_factory.mktemp("late") / "log"
    shutil.copytree(out / "log", late)
    for table in ("users", "items"):
        shutil.rmtree(late / table)
        for day in DAYS:
            eve = dt.date.fromisoformat(day) - dt.timedelta(1)
            shutil.copytree(out / "log" / table / f"day={day}", late / table / f"day={eve}")
    return {0: out / "log", 1: late}


def project(home: Path, log: Path, lag: int) -> Project:
    config = copy.deepcopy(BASE)
    config["features"] = FEATURES
    config["evaluate"]["max_users"] = 30
    for table in ("users", "items"):
        config["data"][table] |= {"lag_days": lag} if lag else {}
    return Project.create(home, log, config=config)


def test_every_stage_reads_the_snapshot_of_the_day_before(worlds: dict[int, Path], tmp_path: Path) -> None:
    """Models, scores, metrics and what is served are the same as of a log whose tables lie a day later."""
    found: dict[int, dict[str, Any]] = {}
    for lag, log in worlds.items():
        chain = project(tmp_path / str(lag), log, lag)
        for day in (1, 2, 3):
            assert (ended := chain.call("run", "--day", DAYS[day - 1])).code == 0, ended.err
        served = Path(chain.call("status", "--json").json["served"])
        stages = ("teacher", "scores", "student", "export", "evaluation")
        manifests = [p for stage in stages for p in sorted((chain.ws / stage).rglob("manifest.json"))]
        assert len(manifests) >= 10
        told = [json.loads(p.read_text()) for p in manifests]
        found[lag] = {
            "metrics": [(m["stage"], m["day"], m["rows"], m["metrics"]) for m in told],
            "vectors": pl.read_parquet(served / "item_vectors.parquet"),
            "items": pl.read_parquet(served / "items.parquet"),
            "users": pl.read_parquet(served / "users.parquet"),
        }
        paths = {one["path"] for m in told if m["day"] == DAYS[1] and m["stage"] == "teacher" for one in m["inputs"]}
        assert {p.split("/")[1] for p in paths if p.startswith("items/")} == {f"day={DAYS[1 - lag]}"}
    assert found[0]["metrics"] == found[1]["metrics"]
    for table in ("vectors", "items", "users"):
        assert_frame_equal(found[0][table], found[1][table])


def test_the_first_day_has_no_snapshot_before_it(worlds: dict[int, Path], tmp_path: Path) -> None:
    log = tmp_path / "log"
    shutil.copytree(worlds[0], log)
    chain = project(tmp_path, log, 1)
    for command in ("check", "train-teacher", "run"):
        ended = chain.call(command, "--day", DAYS[0])
        assert ended.code == 66
        assert f"which day {DAYS[0]} reads (data.users.lag_days: 1); begin with day {DAYS[1]}" in ended.err
    assert chain.call("check", "--day", DAYS[1]).code == 0
    assert chain.call("run", "--day", DAYS[1]).code == 0, "the chain begins with the day that has one"
    shutil.rmtree(log / "items" / f"day={DAYS[1]}")
    ended = chain.call("run", "--day", DAYS[2])
    assert ended.code == 66 and f"which day {DAYS[2]} reads (data.items.lag_days: 1); retry when" in ended.err


def test_a_lag_needs_days(worlds: dict[int, Path], tmp_path: Path) -> None:
    chain = project(tmp_path, worlds[0], 1)
    del chain.config["data"]["users"]["partition"]
    chain.write()
    ended = chain.call("check", "--day", DAYS[1])
    assert ended.code == 78 and "lag_days has no effect on one table for all days" in ended.err


# -- who says so -------------------------------------------------------------------------------------------------------

ITEMS, USERS, ROWS = 60, 40, 2_000


def write_log(home: Path, hour: float, *, days: int = 4, column: str = "updated_at", soon: bool = False) -> None:
    """Days of events around the clock beside a table of items that was written at an hour of each day."""
    totals = np.random.default_rng(9).integers(0, 9_999, ITEMS)
    for k, day in enumerate(DAYS[:days]):
        rng = np.random.default_rng(k)
        midnight = dt.datetime.fromisoformat(day)
        at = midnight + np.sort(rng.integers(0, 86_400, ROWS)) * np.timedelta64(1, "s").astype(dt.timedelta)
        item = np.minimum(rng.integers(0, ITEMS, ROWS), rng.integers(0, ITEMS, ROWS))
        click = rng.integers(0, 4, ROWS) == 0
        events = {
            "user_id": rng.integers(0, USERS, ROWS) + 10**6, "item_id": item + 5, "event_time": list(at),
            "clicked": click.astype(int), "read_seconds": np.where(click, rng.exponential(40.0, ROWS), 0.0),
        }  # fmt: skip
        end = midnight + dt.timedelta(hours=hour)
        today = np.bincount(item, minlength=ITEMS)
        totals += today if hour > 12 else rng.integers(0, 99, ITEMS)
        items = {
            "item_id": np.arange(ITEMS) + 5, "shown_today": today if hour > 12 else rng.integers(0, 99, ITEMS),
            "views_total": totals, "words": rng.integers(100, 900, ITEMS),
            column: [end + dt.timedelta(days=9 * soon, seconds=-int(j)) for j in range(ITEMS)],
        }  # fmt: skip
        items |= {column: [midnight.date()] * ITEMS} if column == "made_on" else {}
        for name, table in (("events", events), ("items", items)):
            folder = home / name / f"day={day}"
            folder.mkdir(parents=True)
            pl.DataFrame(table).write_parquet(folder / "a.parquet")


def test_init_and_check_see_a_table_that_is_written_at_the_end_of_its_day(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, lambda home: write_log(home, 23.8))
    assert ended.code == 0, ended.err
    assert raw["data"]["items"] == {"path": "items", "partition": "day", "key": "item_id", "lag_days": 1}
    line = next(x for x in text.splitlines() if x.startswith("  items:"))
    assert "written when its day has passed: its updated_at of 2026-01-04 reaches 2026-01-04 23:48 UTC" in line
    assert line.endswith(", so day D reads that of D-1 (lag_days: 0 if it is a table of the morning)")
    assert "lag_days: 1, as it is written when its day has passed: its updated_at" in ended.out
    assert "knows what it is to predict" not in ended.out, "check had no doubt about the lagged table"
    assert f"backfill --config {tmp_path}/mine.yaml --from {DAYS[1]} --to {DAYS[3]}" in ended.out
    (tmp_path / "mine.yaml").write_text(text.replace(", lag_days: 1", ""))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[3], "--json").json["suggestions"]
    (said,) = (x for x in found if "lag_days" in x)
    assert said == (
        "updated_at: the table of items has times up to 2026-01-04 23:48 UTC, after 99% of the day's events: it knows "
        "what it is to predict: set data.items.lag_days: 1, and a day reads the table of the day before"
    )


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
@pytest.mark.parametrize("events", ["parquet", "lake"])
@pytest.mark.parametrize("day", ["date", "text", "number"])
@pytest.mark.parametrize(("hour", "late"), [(23.8, True), (4.0, False)])
def test_a_lake_table_has_days_in_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, events: str, day: str, hour: float, late: bool
) -> None:
    """The same rows as of Parquet: the column is the partition, and the table's times say when it was written."""
    monkeypatch.chdir(tmp_path)  # what is converted is kept in the working folder
    pytest.importorskip("deltalake" if kind == "delta" else "pyiceberg")
    form = {"date": pl.col("dt"), "text": pl.col("dt").cast(pl.String), "number": pl.col("dt").dt.strftime("%Y%m%d")}
    column = form[day].cast(pl.Int64) if day == "number" else form[day]

    def put(home: Path) -> None:
        write_log(tmp_path / "old", hour)
        for name in ("events", "items"):
            days = [pl.read_parquet(tmp_path / f"old/{name}/day={d}/a.parquet") for d in DAYS]
            if name == "events" and events == "parquet":
                shutil.copytree(tmp_path / "old/events", home / "events")
                continue
            each = [f.with_columns(dt=pl.lit(dt.date.fromisoformat(d))) for f, d in zip(days, DAYS, strict=True)]
            frame = pl.concat(each).with_columns(column.alias("dt")) if name == "items" else pl.concat(each).drop("dt")
            formats.write(frame.sample(fraction=1.0, shuffle=True, seed=1), home, name, kind)

    ended, raw, text = made(tmp_path, put)
    assert ended.code == 0, ended.err
    items = raw["data"]["items"]
    assert {k: items.get(k) for k in ("path", "partition", "key")} == {
        "path": "items", "partition": "dt", "key": "item_id",
    }  # fmt: skip
    assert items.get("lag_days") == (1 if late else None)
    assert ("its updated_at of 2026-01-04 reaches 2026-01-04 23:48 UTC" in text) == late
    assert "success_file" not in items and "dt" not in {
        f.get("column", f["name"]) for f in raw["features"] if f != "auto"
    }
    assert "the table of items has" not in ended.out and "lag_days: " not in ended.out.split("day 2026")[1]


def test_a_lake_table_of_one_state_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date of an item is an attribute, and rows that no column tells apart are said."""
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("deltalake")
    write_log(tmp_path / "old", 4.0)
    items = pl.read_parquet(tmp_path / f"old/items/day={DAYS[0]}/a.parquet")
    born = pl.Series("born", [dt.date(2025, 1, 1 + k % 28) for k in range(ITEMS)])

    def put(home: Path, frame: pl.DataFrame) -> None:
        shutil.copytree(tmp_path / "old/events", home / "events")
        formats.write(frame, home, "items", "delta")

    _, raw, _ = made(tmp_path / "one", lambda home: put(home, items.with_columns(born)))
    assert raw["data"]["items"] == {"path": "items", "format": "delta", "key": "item_id"}
    twice = pl.concat([items.with_columns(born)] * 2)
    _, raw, text = made(tmp_path / "two", lambda home: put(home, twice))
    assert "items" not in raw["data"] and "60 of its 60 items have several rows, which are the same" in text


def test_a_log_of_one_day_is_read_all_the_same(tmp_path: Path) -> None:
    """No table lies before it: the guess is left to a person, and check says it."""
    ended, raw, _ = made(tmp_path, lambda home: write_log(home, 23.8, days=1))
    assert ended.code == 0 and "lag_days" not in raw["data"]["items"]
    assert "set data.items.lag_days: 1" in ended.out


def test_the_days_own_counts_are_seen_without_a_time(tmp_path: Path) -> None:
    _, _, text = made(tmp_path, lambda home: write_log(home, 23.8, column="made_on"))
    for lag in (0, 1):
        (tmp_path / "mine.yaml").write_text(text.replace("key: item_id}", f"key: item_id, lag_days: {lag}}}"))
        found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[3], "--json").json["suggestions"]
        fix = "which no morning knows: set data.items.lag_days: 1, and a day reads the table of the day before"
        told = [
            f"shown_today: it is the number of the day's events, for 100% of the 58 items with several, {fix}",
            "views_total: its growth since the table of the day before is the number of the day's events, for 100% of "
            f"the 58 items with several, {fix}",
        ]
        assert found == ([] if lag else told)


@pytest.mark.parametrize("hour", [0.1, 4.0, -3.0])
def test_a_table_of_the_morning_is_not_doubted(tmp_path: Path, hour: float) -> None:
    ended, raw, _ = made(tmp_path, lambda home: write_log(home, hour))
    assert ended.code == 0 and "lag_days" not in raw["data"]["items"] and "lag_days" not in ended.out


def test_times_that_are_yet_to_come_say_nothing(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, lambda home: write_log(home, 11.0, column="ends_at", soon=True))
    assert ended.code == 0 and "lag_days" not in raw["data"]["items"] and "lag_days" not in ended.out


@pytest.mark.parametrize("written", [dt.datetime(2026, 3, 29, 2, 30), dt.datetime(2026, 10, 25, 2, 30)])
def test_a_time_that_clocks_pass_over_or_twice_is_judged_as_it_is_read(written: dt.datetime) -> None:
    table = pl.DataFrame({"updated_at": [written]})
    read = Checked(table, "items", 0).local("updated_at", "Europe/Berlin")[0]
    of_day = pl.Series([read - dt.timedelta(hours=20)]).new_from_index(0, 60)
    assert written_late(clocks(table, "Europe/Berlin"), of_day) == ("updated_at", read)
