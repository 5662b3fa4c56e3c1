"""Rows of no day, where a time gives the day: without one, or with that of 1970 of a clock that was never set."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from worlds import dmtl

from dmtl_cli.config.data import Data, Events
from dmtl_cli.data.log.files.converted import Converted
from dmtl_cli.data.log.formats.source import Store

DAYS, ROWS = [dt.date(2026, 1, k) for k in (1, 2, 3)], 600
UNSET, NONE = 12, 7  # rows of each day


def log_of(kind: str) -> pl.DataFrame:
    """Rows in order of their days; of each day some have the first second of 1970, others no time."""
    rng, parts = np.random.default_rng(0), []
    for day in DAYS:
        at = [dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=144 * k) for k in range(ROWS)]
        no = rng.choice(np.arange(1, ROWS), UNSET + NONE, replace=False)
        unset, none = {*no[:UNSET].tolist()}, {*no[UNSET:].tolist()}
        at = [dt.datetime(1970, 1, 1, 0, 0, 1) if k in unset else None if k in none else t for k, t in enumerate(at)]
        click = rng.random(ROWS) < 0.3
        ids = {"u": [f"u{k}" for k in rng.integers(0, 90, ROWS)], "i": [f"i{k}" for k in rng.integers(0, 50, ROWS)]}
        parts.append(pl.DataFrame({**ids, "at": at, "click": click, "good": click & (rng.random(ROWS) < 0.5)}))
    frame = pl.concat(parts)
    text = pl.col("at").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
    return frame.with_columns(pl.col("at").dt.replace_time_zone("UTC") if kind in ("parquet", "delta") else text)


def config(home: Path, path: str, kind: str, **events: Any) -> Path:
    roles = {"user": "u", "item": "i", "time": "at", "click": "click", "conversion": "good"}
    types = {"types": {"at": "datetime", "click": "bool", "good": "bool"}} if kind in ("csv", "json") else {}
    section = {"path": path, "date_column": "at", "invalid_rows": "drop", **roles, **events}
    data = {"root": f"{home}/log", "format": kind, "timezone": "UTC", **types, "events": section}
    out = home / "mine.yaml"
    out.write_text(
        yaml.safe_dump({"workspace": f"{home}/ws", "seed": 1, "threads": 1, "data": data, "features": "auto"})
    )
    return out


@pytest.mark.parametrize("kind", ["parquet", "folder", "csv", "json", "delta"])
def test_rows_of_no_day_are_counted(tmp_path: Path, kind: str) -> None:
    """Each is of the day of the row before it; a folder of Parquet is read a group of rows at a time, here all of
    them."""
    if kind == "folder":
        write(log_of("parquet"), tmp_path / "log/events", "part-0", "parquet")
        made = config(tmp_path, "events", "parquet")
    else:
        made = config(tmp_path, write(log_of(kind), tmp_path / "log", "events", kind), kind)
    ended = dmtl("check", "--config", made, "--day", DAYS[1], "--json")
    assert ended.code == 0, ended.err
    found, n = ended.json, len(DAYS) if kind == "folder" else 1
    assert found["rows"] == ROWS - UNSET - NONE
    assert found["left_out"] == {"day": n * NONE, "unset": n * UNSET}
    said = dmtl("check", "--config", made, "--day", DAYS[1]).out
    assert f"{n * NONE} with no day, {n * UNSET} with a time of 1970, as of a clock that was never set" in said
    again = dmtl("check", "--config", made, "--day", DAYS[1], "--json").json
    assert again["left_out"] == found["left_out"], "of what is converted already"


def test_files_of_arrival(tmp_path: Path) -> None:
    """Folders are days of arrival. A later file with a row of 1970 is read for a day, and counted."""
    frame = log_of("parquet").drop_nulls("at")
    for k, day in enumerate(DAYS):
        rows = frame.slice(k * (ROWS - NONE), ROWS - NONE)
        write(rows, tmp_path / f"log/events/dt={day}", "part-0", "parquet")
    made = config(tmp_path, "events/*", "parquet", invalid_rows="refuse")
    for k, day in enumerate(DAYS):
        found = dmtl("check", "--config", made, "--day", day, "--json").json
        assert found["rows"] == ROWS - UNSET - NONE and found["left_out"] == {"unset": (3 - k) * UNSET}


def test_lines_among_rows_of_no_day_are_of_the_day_around_them(tmp_path: Path) -> None:
    lines = [
        "u,i,at",
        "a,b,1970-01-01",
        "a,b,",
        "a,b,2026-01-01",
        "a,b,1970-01-01",
        "a,b,c,d",
        "a,b,2026-01-02",
        "a,b,",
    ]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    events = Events(
        path="x.csv", date_column="at", user="u", item="i", conversion="g", types={"at": "date"}, invalid_rows="drop"
    )
    data = Data(root=str(tmp_path), format="csv", timezone="UTC", events=events)
    log = Store(str(tmp_path))
    left = [
        Converted(data, log, tmp_path / "made").files("events", events, [log.file("x.csv")], day)[1] for day in DAYS[:2]
    ]
    assert left == [{"line": 1, "unset": 2, "day": 1}, {"line": 0, "day": 1}], "at the begin those of the first day"
