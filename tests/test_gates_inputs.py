"""What is judged of a day before a profile knows it: by numbers, and bad days through the command line."""

from __future__ import annotations

import copy
import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import BASE, DAYS, Project, events

from dmtl_cli.config.reading import load_config
from dmtl_cli.data.gates import Seconds, day_measures, null_shares, share
from dmtl_cli.data.log.checked.day import NO_REQUEST, Block
from dmtl_cli.data.log.reader import Log
from dmtl_cli.runs.gates import Measure

ROWS, USERS, ITEMS = 3000, 100, 50
FEATURES = [
    {"name": "user_id", "side": "user", "kind": "categorical"},
    {"name": "item_id", "side": "item", "kind": "categorical"},
    {"name": "colour", "side": "item", "kind": "categorical"},
    {"name": "hour", "side": "context", "kind": "categorical"},
]


def a_day(number: int) -> pl.DataFrame:
    """Rows of a log whose first items are clicked 4 times in 5, and the others once in 5."""
    rng, n = np.random.default_rng(number), ROWS
    item = rng.integers(0, ITEMS, n)
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, USERS, n),
            "item_id": item,
            "time": np.arange(n),
            "click": (rng.random(n) < np.where(item < ITEMS // 2, 0.8, 0.2)).astype(np.int64),
            "read_seconds": np.exp(rng.normal(3 + item % 2, 1, n)),
            "request_id": np.arange(n) // 5,
            "colour": (item % 7).astype(str),
            "hour": rng.integers(0, 24, n),
        }
    )


def a_log(out: Path) -> Path:
    for number, day in enumerate(DAYS):
        write(out, day, a_day(number))
    return out


def write(log: Path, day: str, frame: pl.DataFrame) -> None:
    folder = log / "events" / f"day={day}"
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "part-0.parquet")


def a_config() -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    config["features"] = FEATURES
    del config["data"]["users"], config["data"]["items"]
    return config


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Days 1 and 2, served; read only."""
    home = tmp_path_factory.mktemp("chain")
    made = Project.create(home, a_log(home / "log"), config=a_config())
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert (ended.code, ended.err) == (0, ""), ended.err
    return made


@pytest.fixture
def project(chain: Project, tmp_path: Path) -> Project:
    """A copy of the chain and of its log, to be changed."""
    shutil.copytree(chain.home / "log", tmp_path / "log")
    shutil.copytree(chain.ws, tmp_path / "ws", symlinks=True)
    return Project.create(tmp_path, tmp_path / "log", config=a_config())


def change(project: Project, day: int, how: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    log = project.home / "log"
    write(log, DAYS[day - 1], how(events(log, DAYS[day - 1])))


def manifest(project: Project, stage: str, day: int) -> dict[str, Any]:
    folder = project.ws / stage / f"day={DAYS[day - 1]}"
    found: dict[str, Any] = json.loads(
        (folder / (folder / "CURRENT").read_text().strip() / "manifest.json").read_text()
    )
    return found


def rejected(project: Project, stage: str, day: int) -> str:
    """The reasons of the refused run, whose manifest is beside them."""
    (reasons,) = (project.ws / "rejected").rglob("reasons.txt")
    made = json.loads((reasons.parent / "manifest.json").read_text())
    assert (made["stage"], made["day"]) == (stage, DAYS[day - 1])
    assert [gate for gate in made["gates"] if not gate["passed"]]
    return reasons.read_text()


# -- bad days ----------------------------------------------------------------------------------------------------------

SECONDS = pl.col("read_seconds")
BAD = {
    "one duration": ("duration.max", SECONDS.map_batches(lambda s: pl.Series([1e15, *s[1:]]), pl.Float64)),
    "milliseconds": ("duration.mean", SECONDS * 1000),
    "seconds of thousands": ("duration.p50", SECONDS / 1000),
    "one user": ("largest.users", pl.lit(7).alias("user_id")),
    "one item": ("largest.items", pl.lit(7).alias("item_id")),
    "all clicks": ("click_rate", pl.lit(1).alias("click")),
    "other ids": ("new_share.users", pl.col("user_id") + 1_000_000),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_day_is_refused_and_the_next_goes_on(project: Project, name: str) -> None:
    measure, column = BAD[name]
    change(project, 3, lambda frame: frame.with_columns(column))
    served = (project.ws / "export" / "LATEST").read_text()
    ended = project.stage("run", 3)
    assert ended.code == 80 and "inputs." in ended.err, ended.err
    assert f"inputs.{measure}" in rejected(project, "profile", 3)
    assert (project.ws / "export" / "LATEST").read_text() == served
    assert not (project.ws / "profile" / f"day={DAYS[2]}" / "CURRENT").exists()
    if name == "one duration":
        ended = project.stage("run", 4)
        assert ended.code == 0 and f"day {DAYS[2]} is left out" in project.logged("run", 4), ended.err
        assert DAYS[3] in (project.ws / "export" / "LATEST").read_text()


def test_a_refused_day_stops_no_comparison(tmp_path: Path) -> None:
    """What refused its profile stands in the chain's workspace, not in those of a comparison."""
    config = a_config()
    clicks = {"name": "clicks", "side": "item", "kind": "numeric", "profile": {"count": "click"}}
    config["features"] = [*FEATURES, clicks]
    project = Project.create(tmp_path, a_log(tmp_path / "log"), config=config)
    change(project, 3, lambda frame: frame.with_columns(click=pl.lit(0)))
    assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[3]).code == 80
    ended = project.call("compare", "--day", DAYS[3], "--baselines", "click_only")
    assert ended.code == 0 and "click_only" in ended.out, ended.err


ROWS_OF = {
    "a twentieth": ("rows", lambda frame: frame[: ROWS // 20]),
    "twice": ("duplicates", lambda frame: pl.concat([frame, frame])),
}


@pytest.mark.parametrize("name", ROWS_OF)
def test_a_day_cut_or_doubled_is_refused(project: Project, name: str) -> None:
    measure, how = ROWS_OF[name]
    change(project, 3, how)
    ended = project.stage("build-profile", 3)
    assert ended.code == 80 and f"inputs.{measure}" in rejected(project, "profile", 3), ended.err


def test_a_forced_day_is_published_with_the_reason(project: Project) -> None:
    change(project, 3, lambda frame: frame.with_columns(click=pl.lit(1)))
    made = project.done("build-profile", 3, "--force-publish", "a day of gifts")
    assert [gate["name"] for gate in made["gates"] if not gate["passed"]] == ["inputs.click_rate"]
    assert manifest(project, "profile", 3)["facts"]["forced"] == "a day of gifts"
    assert project.done("build-profile", 3)["up_to_date"]


def test_the_reason_of_a_day_is_not_that_of_a_refused_one_before(project: Project) -> None:
    for day in (3, 4):
        change(project, day, lambda frame: frame.with_columns(click=pl.lit(1)))
    assert project.stage("build-profile", 3).code == 80
    assert project.done("build-profile", 4, "--force-publish", "a day of gifts")["day"] == DAYS[3]
    assert not (project.ws / "profile" / f"day={DAYS[2]}" / "CURRENT").exists()


def test_a_chain_begins_with_floors_alone(tmp_path: Path) -> None:
    """A first window whose first day has one long duration, which would be the threshold's."""
    project = Project.create(tmp_path, a_log(tmp_path / "log"), config=a_config())
    change(project, 1, lambda frame: frame.with_columns(BAD["one duration"][1]))
    ended = project.stage("build-profile", 2, teacher__first_window_days=2)
    assert ended.code == 80 and f"inputs.duration.max.{DAYS[0]}" in ended.err, ended.err
    made = project.done("build-profile", 2, teacher__first_window_days=1, profile__warm_days=0)
    assert {gate["baseline"] for gate in made["gates"] if gate["kind"] == "quality"} == {None}
    assert all(gate["passed"] for gate in made["gates"])


def test_a_column_without_values_is_refused_by_who_reads_it(project: Project) -> None:
    change(project, 3, lambda frame: frame.with_columns(colour=pl.lit(None, pl.String), hour=pl.lit(None, pl.Int64)))
    project.done("build-profile", 3)
    ended = project.stage("train-teacher", 3)
    reasons = rejected(project, "teacher", 3)
    assert ended.code == 80 and "null_share.colour is 1" in reasons and "null_share.hour is 1" in reasons
    assert "a column or a table is empty, or lacks rows" in ended.err


def test_good_days_pass_with_their_baselines(project: Project) -> None:
    made = project.done("build-profile", 3)
    gates = {gate["name"]: gate for gate in made["gates"]}
    rows, before = gates["inputs.rows"], manifest(project, "profile", 2)["rows"]["events"]
    assert rows["passed"] and rows["baseline"] == before
    low, high = rows["baseline"] / 8, rows["baseline"] * 8
    slack = 4 * rows["value"] ** 0.5
    assert rows["limit"] == pytest.approx([low - slack, high + slack])
    frame = a_day(2)
    assert gates["inputs.click_rate"]["value"] == frame["click"].mean()
    assert gates["inputs.duration.max"]["value"] == pytest.approx(frame["read_seconds"].max())
    mean = frame.filter(pl.col("click") == 1)["read_seconds"].mean()
    assert gates["inputs.duration.mean"]["value"] == pytest.approx(mean)
    assert gates["inputs.users"]["value"] == USERS and gates["inputs.new_share.users"]["value"] == 0


# -- numbers -----------------------------------------------------------------------------------------------------------


def a_block(seconds: list[float], click: list[int]) -> Block:
    n = len(seconds)
    row, none, duration = np.zeros(n, np.int32), np.full(n, -1, np.int8), np.array(seconds, np.float32)
    weight, request = np.ones(n, np.float32), np.full(n, NO_REQUEST)
    return Block(np.arange(n), row, row, np.array(click) == 1, duration, none, weight, request, None, {})


@given(st.lists(st.floats(0, 2.0**50, width=32, allow_subnormal=False), min_size=1, max_size=40))
def test_seconds_are_those_of_a_sort(seconds: list[float]) -> None:
    found = Seconds()
    for k in range(0, len(seconds), 7):
        found.add(a_block(seconds[k : k + 7], [1] * len(seconds[k : k + 7])))
    by_name = {m.name: m for m in found.measures()}
    assert by_name["inputs.duration.mean"].value == pytest.approx(np.mean(np.float64(seconds)), rel=1e-9)
    assert by_name["inputs.duration.max"].value == np.float32(max(seconds))
    for q, name in ((0.5, "p50"), (0.99, "p99")):
        exact = np.quantile(np.float32(seconds), q, method="lower")
        assert by_name[f"inputs.duration.{name}"].value == pytest.approx(exact, rel=1 / 128, abs=1e-37)
    assert all(m.error <= m.value / 8 for m in found.measures())


def test_seconds_of_clicks_and_the_longest_of_all() -> None:
    found = Seconds()
    found.add(a_block([2.0, 4.0, float("nan"), 900.0], [1, 1, 1, 0]))
    mean, *_, longest = found.measures()
    assert (mean.value, longest.value) == (3.0, 900.0) and mean.error == 3 / 8  # 1 / sqrt(2) is above an eighth
    assert Seconds().measures() == []


def test_a_share_has_an_error_where_all_rows_agree() -> None:
    [one] = share("inputs.click_rate", 98, 98)
    assert one.value == 1 and one.error == pytest.approx((0.99 * 0.01 / 100) ** 0.5)
    assert share("inputs.click_rate", 0, 0) == []


def test_the_first_day_may_be_a_part_of_one(tmp_path: Path) -> None:
    project = Project.create(tmp_path, a_log(tmp_path / "log"), config=a_config())
    change(project, 1, lambda frame: frame[: ROWS // 20])
    project.done("build-profile", 1)
    for day in (2, 3):
        [rows] = [gate for gate in project.done("build-profile", day)["gates"] if gate["name"] == "inputs.rows"]
        assert rows["baseline"] == (None if day == 2 else ROWS)


def test_duplicates_and_nulls_are_counted_row_by_row(tmp_path: Path) -> None:
    rows = {
        "user_id": [1, 1, 1, 2, 2, 3],
        "item_id": [1, 1, 1, 1, 2, 2],
        "time": [1, 1, 2, 3, 4, 5],
        "click": [0, 0, 0, 1, 1, 1],
        "read_seconds": [0.0, 0.0, 0.0, 1.0, None, 3.0],
        "request_id": [1, 1, 1, 2, 3, 4],
        "colour": [None, "a", "a", "a", "b", "b"],  # item 1 has none in its first row
        "hour": [1, None, 2, 3, None, 5],
    }
    write(tmp_path / "log", DAYS[0], pl.DataFrame(rows))
    project = Project.create(tmp_path, tmp_path / "log", config=a_config())
    config = load_config(project.file, [])
    features = tuple(config.features[2:])
    day = Log(config.data, features, timed=True).read(dt.date.fromisoformat(DAYS[0]), tmp_path)

    def values(measures: list[Measure]) -> dict[str, float]:
        return {m.name.removeprefix("inputs."): m.value for m in measures}

    found = values(null_shares(day, features))
    assert found == pytest.approx({"null_share.hour": 2 / 6, "null_share.colour": 4 / 6})
    found = values(day_measures(day, 2.0, exposures=True, done={}))
    assert found["duplicates"] == pytest.approx(1 / 6)
    assert found["conversion_rate.cvr"] == 1 / 2 and found["click_rate"] == 3 / 6
    assert found["largest.users"] == 3 / 6 and found["items"] == 2
