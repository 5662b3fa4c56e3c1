"""What `check` says of side tables: numbers that count what they are to predict, and ids that are written otherwise."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import made as initiated
from scipy.stats import spearmanr
from worlds import DAYS, Project

from dmtl_cli.guess.sides import late

READERS, PLANTS, ROWS = 90, 70, 1_800
LAG = "which no morning knows: set data.users.lag_days: 1, and a day reads the table of the day before"
Days = dict[str, pl.DataFrame]


def drawn(steady: bool = False) -> Days:
    """Four days of events; readers come as often as they like, a few of the plants are shown to most; `steady`: each is
    shown to far more than the next, on all days."""
    out = {}
    weight = 0.85 ** np.arange(PLANTS) if steady else 1 / np.arange(1, PLANTS + 1)
    for k, day in enumerate(DAYS):
        rng = np.random.default_rng(40 + k)
        eager = rng.random(READERS) ** 3
        out[day] = pl.DataFrame(
            {
                "reader": [f"{u + 1:05d}" for u in rng.choice(READERS, ROWS, p=eager / eager.sum())],
                "plant": [f"P{i:03d}" for i in rng.choice(PLANTS, ROWS, p=weight / weight.sum())],
                "tapped": (rng.random(ROWS) < 0.4).astype(int),
                "secs": rng.exponential(30, ROWS),
                "at": [
                    dt.datetime.fromisoformat(day) + dt.timedelta(seconds=int(s)) for s in rng.integers(0, 86_400, ROWS)
                ],
            }
        )
    return out


def taps(days: Days, key: str, ids: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """[days, ids]"""
    counts = [d.group_by(key).agg(pl.col("tapped").sum()) for d in days.values()]
    asked = pl.DataFrame({key: ids})
    return np.stack(
        [asked.join(c, on=key, how="left", maintain_order="left")["tapped"].fill_null(0).to_numpy() for c in counts]
    )


def project(
    home: Path, days: Days, side: str, table: Callable[[int], pl.DataFrame] | pl.DataFrame, *columns: str
) -> Project:
    """A log with a table of users or items: one a day, or one for all."""
    key = {"users": "reader", "items": "plant"}[side]
    for k, (day, frame) in enumerate(days.items()):
        (home / f"log/events/day={day}").mkdir(parents=True)
        frame.write_parquet(home / f"log/events/day={day}/0.parquet")
        if not isinstance(table, pl.DataFrame):
            (home / f"log/{side}/day={day}").mkdir(parents=True)
            table(k).write_parquet(home / f"log/{side}/day={day}/0.parquet")
    if isinstance(table, pl.DataFrame):
        table.write_parquet(home / f"log/{side}.parquet")
    made = Project.create(home, home / "log")
    daily = not isinstance(table, pl.DataFrame)
    beside = {"path": side, "key": key, "partition": "day"} if daily else {"path": f"{side}.parquet", "key": key}
    events = {"user": "reader", "item": "plant", "click": "tapped", "duration": "secs", "time": "at"}
    made.config["data"] = {"root": str(home / "log"), "events": events, side: beside}
    made.config["features"] = [
        {"name": "reader", "side": "user", "kind": "categorical"},
        {"name": "plant", "side": "item", "kind": "categorical"},
        *({"name": c, "side": side.removesuffix("s"), "kind": "numeric"} for c in columns),
    ]
    made.write()
    return made


def said(made: Project, day: int = 4) -> list[str]:
    ended = made.call("check", "--day", DAYS[day - 1], "--json")
    assert (ended.code, ended.err) == (0, "")
    return [line for line in ended.json["suggestions"] if "are served all the same" not in line]


# -- a table a day -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgets", [False, True])
def test_taps_of_the_day_in_a_table_of_readers(tmp_path: Path, forgets: bool) -> None:
    """What a week before the log had is forgotten day by day."""
    days, ids = drawn(), [f"{u + 1:05d}" for u in range(READERS)]
    rng = np.random.default_rng(3)
    own = taps(days, "reader", ids)
    lost = rng.integers(1, 4, own.shape) * (rng.random(own.shape) < (0.3 if forgets else 0))
    week = 40 + np.cumsum(own - lost, 0)

    def table(k: int) -> pl.DataFrame:
        return pl.DataFrame({"reader": ids, "taps_7d": week[k], "age": rng.integers(18, 80, READERS)})

    made = project(tmp_path, days, "users", table, "taps_7d", "age")
    several = own[3] > 1
    share = (lost[3][several] == 0).mean()
    assert (share > 0.9) != forgets and share > 0.5
    counts = f"taps_7d: its growth since the table of the day before is the number of the day's clicks, for {share:.0%}"
    less = ", and less for others, as a count of some days forgets old ones" if forgets else ""
    assert said(made) == [f"{counts} of the {several.sum()} users with several{less}, {LAG}"]
    made.config["data"]["users"]["lag_days"] = 1
    made.write()
    assert said(made) == [], "the table of the day before does not know"


def test_a_morning_knows_what_is_popular(tmp_path: Path) -> None:
    """Plants are as popular on all days: what it counted yesterday is nearly today's order."""
    days, ids = drawn(steady=True), [f"P{i:03d}" for i in range(PLANTS)]
    total = 500 + np.cumsum(taps(days, "plant", ids), 0)
    grown = taps(days, "plant", ids)
    there = grown[3] > 0
    assert spearmanr(grown[2][there], grown[3][there]).statistic > 0.9

    def table(lag: int, noise: float) -> Callable[[int], pl.DataFrame]:
        rng = np.random.default_rng(8)
        counts = np.cumsum(grown * 10 + rng.normal(0, noise, grown.shape), 0) if noise else total
        return lambda k: pl.DataFrame({"plant": ids, "taps_total": (counts[k - lag] if k >= lag else counts[0] * 0)})

    assert said(project(tmp_path / "morning", days, "items", table(1, 0.0), "taps_total")) == []
    assert said(project(tmp_path / "noisy", days, "items", table(1, 1.0), "taps_total")) == []
    (line,) = said(project(tmp_path / "evening", days, "items", table(0, 1.0), "taps_total"))
    assert line.startswith("taps_total: its growth since the table of the day before follows the day's clicks (rank ")
    assert line.endswith("set data.items.lag_days: 1, and a day reads the table of the day before")
    computed = project(tmp_path / "computed", days, "items", table(0, 1.0), "taps_total")
    computed.config["data"]["events"] |= {"click": "hit", "computed": {"hit": "tapped = 1"}}
    computed.write()
    assert said(computed) == [line], "a click that is computed is counted on the day before too"


def test_constant_numbers_count_nothing() -> None:
    n = np.array([2] * 95 + [3, 4, 5, 6, 7])
    assert late.counted(pl.Series([2.0] * 100), n, lambda: None, "clicks", "users") is None
    assert late.counted(pl.Series(n.astype(float)), n, lambda: None, "clicks", "users") is not None


# -- a table of all days -----------------------------------------------------------------------------------------------


def test_a_total_in_a_table_without_days(tmp_path: Path) -> None:
    days, ids = drawn(), [f"P{i:03d}" for i in range(PLANTS)]
    rng = np.random.default_rng(5)
    every = taps(days, "plant", ids).sum(0)
    frame = pl.DataFrame({"plant": ids, "taps_ever": 30 + every * 7 + rng.integers(0, 30, PLANTS)})
    frame = frame.with_columns(sharpness=rng.random(PLANTS) * 5, price=rng.exponential(9, PLANTS))
    columns = ("taps_ever", "sharpness", "price")
    (line,) = said(project(tmp_path, days, "items", frame, *columns))
    assert line.startswith(
        "taps_ever: in a table of items that is one for all days it follows the clicks of the 4 days "
    )
    assert line.endswith(": leave it out, or write a table a day (data.items.partition)")
    before = frame.with_columns(taps_ever=rng.permutation(frame["taps_ever"].to_numpy()))
    assert said(project(tmp_path / "other", days, "items", before, *columns)) == []

    def put(home: Path) -> None:
        for day, rows in days.items():
            (home / f"events/day={day}").mkdir(parents=True)
            rows.write_parquet(home / f"events/day={day}/0.parquet")
        frame.write_parquet(home / "items.parquet")

    names = ("--user", "reader", "--item", "plant", "--click", "tapped", "--duration", "secs")
    _, _, text = initiated(tmp_path / "init", put, *names)
    line = next(x for x in text.splitlines() if x.startswith("  items:"))
    assert line.endswith("one state for all days"), "it is no feature"
    (line,) = (x for x in text.splitlines() if "name: taps_ever" in x)
    assert line.startswith("  # - {") and "it follows the log's own counts" in line


def test_follows_is_a_rank_correlation_that_no_single_id_makes() -> None:
    rng = np.random.default_rng(1)
    n = rng.integers(1, 30, 200)
    x = n * 2.0 + rng.normal(0, 3, 200)
    assert late.follows(pl.Series(x), n) >= spearmanr(x, n).statistic - 1e-12 > 0.9
    one = rng.random(200)
    one[7], n[7] = 1e6, 10**6
    assert np.corrcoef(one, n)[0, 1] > 0.99 and late.follows(pl.Series(one), n) < 0.3
    assert late.follows(pl.Series([None] * 200, dtype=pl.Float64), n) == 0
    assert late.follows(pl.Series(one), n * 0) == 0, "no id has events"


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "way"),
    [(lambda s: s.str.strip_chars_start("0"), "with leading zeros, 5 characters long"), (lambda s: "x" + s, "")],
)
def test_zeros_that_were_lost(tmp_path: Path, write: Callable[[pl.Series], pl.Series], way: str) -> None:
    ids = pl.Series("reader", [f"{u + 1:05d}" for u in range(READERS)])
    frame = pl.DataFrame({"reader": write(ids), "level": np.arange(READERS) % 5})
    (line,) = said(project(tmp_path, drawn(), "users", frame, "level"))
    assert line.startswith(f"reader: the table of users, {tmp_path}/log/users.parquet, has 0.0% of the day's users: ")
    assert (f"reader has 100% of the day's users {way}: write it so, in polars users.with_columns(" in line) == bool(
        way
    )
    assert way or line.endswith("is data.users.key the id that the events have, and the table of this day?")
