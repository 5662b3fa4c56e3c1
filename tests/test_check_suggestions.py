"""What `check` suggests: a line each, with the column, what was seen and what to write; nothing of a sound day."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import DAYS, Project

from dmtl_cli.guess.findings import suggestions

N = 400
RNG = np.random.default_rng(5)
CLICK = (RNG.random(N) < 0.3).astype(np.int64)
EVENTS: dict[str, Any] = {
    "user_id": np.arange(N) % 40,
    "item_id": np.arange(N) % 30,
    "click": CLICK,
    "seconds": np.where(CLICK, 30.0 + np.arange(N) % 7, 0.0),
    "noise": RNG.random(N),
}
IDS = [
    {"name": "user_id", "side": "user", "kind": "categorical"},
    {"name": "item_id", "side": "item", "kind": "categorical"},
]


def project(home: Path, change: dict[str, Any] | None = None, *features: dict[str, Any], **events: Any) -> Project:
    """A log of one day, and its config."""
    frame = {k: v for k, v in (EVENTS | (change or {})).items() if v is not None}
    write(home, DAYS[0], frame)
    made = Project.create(home, home / "log")
    made.config["data"] = {"root": str(home / "log"), "events": {"click": "click", "duration": "seconds"} | events}
    made.config["features"] = [*IDS, *features]
    made.write()
    return made


def write(home: Path, day: str, frame: dict[str, Any]) -> None:
    folder = home / f"log/events/day={day}"
    folder.mkdir(parents=True)
    pl.DataFrame(frame).write_parquet(folder / "a.parquet")


def said(made: Project, day: str = DAYS[0]) -> list[str]:
    ended = made.call("check", "--day", day, "--json")
    assert (ended.code, ended.err) == (0, "")
    found: list[str] = ended.json["suggestions"]
    shown = made.call("check", "--day", day).out.splitlines()
    assert all(line in shown for line in found)
    return found


def test_a_sound_day_is_not_doubted(tmp_path: Path) -> None:
    noise = {"name": "noise", "side": "context", "kind": "numeric"}
    assert said(project(tmp_path, None, noise)) == []


def test_a_history_and_a_price_that_nothing_reads(tmp_path: Path) -> None:
    lists = [[int(k + 1) % 30, int(k + 2) % 30] for k in range(N)]
    offered = [[int(k) % 30, int(k + 1) % 30] for k in range(N)]  # of which one was chosen: nothing of the user's
    words = [["a"], ["b"]] * (N // 2)
    change = {
        "seen_before": lists,
        "offered": offered,
        "tags": words,
        "unit_price": 1.0 + np.arange(N),
        "quality": np.arange(N) * 0.5,
    }
    assert said(project(tmp_path, change)) == [
        "seen_before: lists of the day's items that nothing reads: add {name: seen_before, side: user, kind: sequence, "
        "level: event, embedding_name: item_id, max_length: 50} to features, if known before these rows; else name "
        "it in data.events.outcomes",
        "unit_price: numbers named like a price that nothing reads: add {name: unit_price, side: context, "
        "kind: numeric, transform: log1p} to features",
    ]


def test_an_outcome_as_a_feature(tmp_path: Path) -> None:
    leak = {"name": "progress", "side": "context", "kind": "numeric"}
    named = {"name": "liked", "side": "context", "kind": "categorical", "column": "is_liked"}
    seen = CLICK * 0.7 + RNG.random(N) * 0.5
    first, second = said(project(tmp_path, {"progress": seen, "is_liked": np.arange(N) % 2}, leak, named))
    exact = (np.subtract.outer(seen[CLICK == 1], seen[CLICK == 0]) > 0).mean()
    assert exact > 0.9 and first.startswith(f"progress: alone it tells the day's clicks with an AUC of {exact:.2f}: ")
    assert second.startswith("liked: column is_liked is named like what follows an exposure: ")
    assert "data.events.outcomes" in first


def test_an_embedding_of_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggestions, "MANY", 35)
    (line,) = said(project(tmp_path))
    assert line.startswith("user_id: 41 values this day") and "set hash_bucket_size: 16, or min_count: 2" in line


def test_units_that_make_no_sense(tmp_path: Path) -> None:
    (line,) = said(project(tmp_path / "ms", {"seconds": EVENTS["seconds"] * 1000}))
    mean = EVENTS["seconds"][CLICK == 1].mean() * 1000
    assert f"read for {mean:,.0f} seconds on average, {mean / 3600:.1f} hours" in line
    assert "set data.events.duration_unit: ms" in line
    (line,) = said(project(tmp_path / "s", duration_unit="ms"))
    assert f"read for {mean / 1000:,.0f} milliseconds" in line and "duration_unit: s" in line


def test_labels_of_one_kind(tmp_path: Path) -> None:
    (line,) = said(project(tmp_path / "none", {"click": CLICK * 0}))
    fix = "name another column, or leave data.events.click out where every row is one"
    assert line == f"click: no row is a click of {N}: {fix}"
    (line,) = said(project(tmp_path / "all", {"click": CLICK * 0 + 1, "seconds": EVENTS["noise"] + 9}))
    assert line.startswith(f"click: every row is a click of {N}: ")
    made = project(tmp_path / "bought", {"bought": CLICK * 0})
    events = made.config["data"]["events"]
    del events["duration"]
    events["conversion"] = "bought"
    made.write()
    (line,) = said(made)
    assert line == f"bought: no click of {CLICK.sum()} has it: name another column in data.events.conversion"
    (line,) = said(project(tmp_path / "unread", {"seconds": pl.Series([None] * N, dtype=pl.Float64)}))
    assert line.startswith("seconds: no click has a duration")


def test_a_zone_that_moves_naive_times(tmp_path: Path) -> None:
    at = pl.Series([dt.datetime.fromisoformat(DAYS[0]) + dt.timedelta(hours=k % 12) for k in range(N)])
    made = project(tmp_path, {"at": at}, date_column="at")
    made.config["data"]["timezone"] = "Asia/Shanghai"
    made.write()
    (line,) = said(made)
    assert line.startswith("at: timestamps without a zone are read as UTC, and days are cut in Asia/Shanghai: ")
    made.config["data"]["timezone"] = "UTC"
    made.write()
    assert said(made) == []


def test_a_day_much_smaller_than_those_beside_it(tmp_path: Path) -> None:
    made = project(tmp_path)
    few = {name: values[: N // 10] for name, values in EVENTS.items()}
    write(tmp_path, DAYS[1], few)
    (line,) = said(made, DAYS[1])
    assert line.startswith(f"rows: {N // 10} this day, {N} on {DAYS[0]}: is it complete? ")
    assert said(made) == []


def test_a_table_of_others(tmp_path: Path) -> None:
    made = project(tmp_path)
    (tmp_path / "log/users").mkdir()
    pl.DataFrame({"user_id": np.arange(30, 90)}).write_parquet(tmp_path / "log/users/a.parquet")
    made.config["data"]["users"] = {"path": "users", "key": "user_id"}
    made.write()
    (line,) = said(made)
    shown = made.call("check", "--day", DAYS[0]).out
    assert f"day {DAYS[0]}: {N} rows of 40 users and 30 items (90 and 30 with those of the tables)" in shown
    assert line.startswith(
        f"user_id: the table of users, {tmp_path}/log/users/a.parquet, has 25.0% of the day's users: "
    )


def test_a_day_beside_it_that_is_being_written(tmp_path: Path) -> None:
    made = project(tmp_path)
    folder = tmp_path / f"log/events/day={DAYS[1]}"
    folder.mkdir()
    (folder / "a.parquet").write_bytes(b"PAR1 and no end")
    assert said(made) == [], "it is no part of this day"
