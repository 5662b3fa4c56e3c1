"""`dmtl init` where a nightly table of what is shown lies beside one of whose it is."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import Made, made

from dmtl_cli.guess.columns.ends import to_come

DAYS = [dt.date(2026, 3, 2) + dt.timedelta(k) for k in range(5)]
USERS, LESSONS, HOUSES, ROWS = 300, 400, 60, 3_000


def initiated(home: Path, *more: str, houses: int = HOUSES, hour: float = 33.2) -> Made:
    """Lessons of houses, of which each has several: a table of lessons a day, and one of houses for all days.

    Args:
        hour: after a day's begin, at which its table of lessons is written.
    """
    rng = np.random.default_rng(2)
    lesson, house = [f"les_{k * 37:05}" for k in range(LESSONS)], [f"hou_{k * 41:04}" for k in range(houses)]
    of = np.sort(rng.integers(houses, size=LESSONS))
    of[:houses] = np.arange(houses)

    def write(root: Path) -> None:
        for day in DAYS:
            begin = dt.datetime.combine(day, dt.time())
            shown = rng.integers(LESSONS, size=ROWS)
            click = rng.random(ROWS) < 0.2
            events = {
                "user_id": [f"usr_{k}" for k in np.repeat(rng.integers(USERS, size=ROWS // 5), 5)],
                "etude_id": [lesson[k] for k in shown], "house_id": [house[of[k]] for k in shown],
                "event_ts": [begin + dt.timedelta(seconds=int(s)) for s in np.sort(rng.integers(86_400, size=ROWS))],
                "clicked": click.astype(int), "dwell_ms": np.where(click, rng.integers(999, 90_000, ROWS), 0),
            }  # fmt: skip
            written = begin + dt.timedelta(hours=hour)
            lessons = {
                "etude_id": lesson, "house_id": [house[k] for k in of], "level": ["easy", "hard"] * (LESSONS // 2),
                "snapshot_ts": [written] * LESSONS,
            }  # fmt: skip
            for name, table in (("events", events), ("lessons", lessons)):
                folder = root / name / f"dt={day}"
                folder.mkdir(parents=True)
                pl.DataFrame(table).write_parquet(folder / "a.parquet")
        (root / "houses").mkdir()
        beds = rng.integers(9, size=houses)
        pl.DataFrame({"house_id": house, "beds": beds}).write_parquet(root / "houses/a.parquet")

    return made(home, write, *more)


@pytest.mark.parametrize("houses", [HOUSES, 200])
def test_the_item_is_the_finer_of_two_ids_that_a_table_has(tmp_path: Path, houses: int) -> None:
    ended, raw, _ = initiated(tmp_path, houses=houses)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["item"] == "etude_id" and raw["data"]["items"]["path"] == "lessons"
    said = " ".join(ended.out.split())
    assert "house_id has a table too, and each etude_id has one house_id: --item house_id takes it in its place" in said


def test_the_other_is_taken_where_a_person_says_so(tmp_path: Path) -> None:
    ended, raw, _ = initiated(tmp_path, "--item", "house_id")
    assert ended.code == 0 and raw["data"]["events"]["item"] == "house_id", ended.err
    assert "takes it in its place" not in ended.out


@pytest.mark.parametrize(("hour", "lag"), [(4.0, None), (25.0, 1), (33.2, 2)])
def test_a_table_lags_as_many_days_as_check_asks_for(tmp_path: Path, hour: float, lag: int | None) -> None:
    """At 9:12 of the next day, after a third of its events: a day reads the table of two days before."""
    ended, raw, text = initiated(tmp_path, hour=hour)
    assert ended.code == 0 and raw["data"]["items"].get("lag_days") == lag, ended.err
    assert "knows what it is to predict" not in ended.out
    if lag:
        assert (
            f"so day D reads that of D-{lag} (lag_days: 0" in text
            and f"lag_days: {lag}, as it is written when its day has passed" in ended.out
        )
        assert f"--from {DAYS[lag]} " in ended.out, "no day before it has a table to read"


def test_nobody_is_asked_whether_an_item_ends_as_its_table_is_written(tmp_path: Path) -> None:
    ended, _, text = initiated(tmp_path)
    assert "does an item end then" not in ended.out + text
    at = [dt.datetime(2026, 4, 1, k) for k in range(24)]
    told = to_come(pl.Series("ends", at * 9), DAYS[-1], 5)
    assert told is not None and told.endswith("does an item end then? data.items.until: ends")
    assert to_come(pl.Series("made", at[:5] * 9), DAYS[-1], 5) is None
