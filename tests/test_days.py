"""Days as models read them: what profiles give is of the days before, and who belongs to a day."""

from __future__ import annotations

import copy
import datetime as dt
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from threadpoolctl import threadpool_info, threadpool_limits
from worlds import BASE, DAYS, Project

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.reading import load_config
from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Run

DATES = [dt.date.fromisoformat(day) for day in DAYS]
EVENTS = {"time": "time", "click": "click", "duration": "seconds"}
IDS: list[dict[str, Any]] = [
    {"name": "user_id", "side": "user", "kind": "categorical"},
    {"name": "item_id", "side": "item", "kind": "categorical"},
]
PROFILED: list[dict[str, Any]] = [
    {"name": "last", "side": "user", "kind": "sequence", "profile": {"history": "click"}, "embedding_name": "item_id"},
    {"name": "shown", "side": "user", "kind": "numeric", "profile": {"count": "exposure"}},
    {"name": "clicks_0d", "side": "item", "kind": "numeric", "profile": {"count": "click", "half_life_days": 0.0}},
    {"name": "clicks_1d", "side": "item", "kind": "numeric", "profile": {"count": "click", "half_life_days": 1.0}},
    {"name": "age", "side": "item", "kind": "numeric", "profile": {"age": "first_seen"}},
]


def rows_of(day: int, text: bool = False) -> pl.DataFrame:
    """Sixty rows; users and items 10 * day and above appear on this day alone."""
    rng = random.Random(day)
    users = [rng.choice([1, 2, 3, 4, 10 * day]) for _ in range(60)]
    items = [rng.choice([1, 2, 3, 4, 5, 10 * day, 10 * day + 1]) for _ in range(60)]
    named = (lambda side, k: f"{side}{k}") if text else (lambda side, k: k)
    clicks = [rng.random() < 0.5 for _ in range(60)]
    return pl.DataFrame(
        {
            "user_id": [named("u", k) for k in users],
            "item_id": [named("i", k) for k in items],
            "time": [1000 * day + k for k in range(60)],
            "click": clicks,
            "seconds": [rng.choice([10.0, 30.0]) if click else None for click in clicks],
        }
    )


def put(log: Path, day: int, rows: pl.DataFrame, table: str = "events") -> None:
    folder = log / table / f"day={DAYS[day - 1]}"
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "part-0.parquet")


def project_of(home: Path, features: list[dict[str, Any]] | str = [*IDS, *PROFILED], **data: Any) -> Project:  # noqa: B006
    config = copy.deepcopy(BASE)
    config["data"] = {"events": dict(EVENTS), **data}
    config["labels"] = {"long_read": 20.0}
    config["features"] = features
    return Project.create(home, home / "log", config=config)


@pytest.fixture
def made(tmp_path: Path) -> Project:
    """A log of three days and its profiles."""
    for day in (1, 2, 3):
        put(tmp_path / "log", day, rows_of(day))
    project = project_of(tmp_path)
    build(project, 1, 2, 3)
    return project


def build(project: Project, *days: int) -> None:
    for day in days:
        assert project.stage("build-profile", day).code == 0


def read(project: Project, day: int, end: bool = False) -> Day:
    run = Run.start(load_config(project.file), RunLog())
    days, scratch = Days(run, run.config.features), project.home / f"scratch{len(list(project.home.iterdir()))}"
    scratch.mkdir()
    return days.read_end(DATES[day - 1], scratch) if end else days.read(DATES[day - 1], scratch)


def clicks_of(*days: int) -> pl.DataFrame:
    return pl.concat([rows_of(day) for day in days]).filter("click")


# -- what is known -----------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_days_before(made: Project) -> None:
    """Counted by hand from the log of the days before; a history is in order of time."""
    day = read(made, 3)
    assert day.users.columns == [ID, "user_id", "last", "shown"]
    assert day.items.columns == [ID, "item_id", "clicks_0d", "clicks_1d", "age"]
    clicks, yesterday, before = clicks_of(1, 2), clicks_of(2), clicks_of(1)
    shown = pl.concat([rows_of(1), rows_of(2)])
    for row in day.users.iter_rows(named=True):
        its = clicks.filter(pl.col("user_id") == row[ID])["item_id"].to_list()
        assert row["last"] == (its if row[ID] != 30 else None)
        assert row["shown"] == (shown["user_id"] == row[ID]).sum()
    for row in day.items.iter_rows(named=True):
        ones, twos = ((some["item_id"] == row[ID]).sum() for some in (before, yesterday))
        assert (row["clicks_0d"], row["clicks_1d"]) == (twos, ones / 2 + twos)
        assert row["age"] == {1: 1.0, 2: 0.0}.get(row[ID] // 10, 1.0 if row[ID] < 10 else None)


@pytest.mark.parametrize(("changed", "known"), [(2, False), (3, True)])
def test_a_day_knows_nothing_of_itself(made: Project, tmp_path: Path, changed: int, known: bool) -> None:
    """Another log of day 3 changes no feature of day 3; another log of day 2 does."""
    before = read(made, 3)
    rows = rows_of(changed)
    put(tmp_path / "log", changed, rows.with_columns(~pl.col("click"), seconds=pl.lit(30.0)))
    build(made, 2, 3)
    after = read(made, 3)
    for side in ("users", "items"):
        a, b = getattr(before, side), getattr(after, side)
        assert a[ID].to_list() == b[ID].to_list() and a.equals(b) == known


def test_on_the_first_day_nothing_is_known(made: Project) -> None:
    day = read(made, 1)
    for table, names in ((day.users, ("last", "shown")), (day.items, ("clicks_0d", "clicks_1d", "age"))):
        assert len(table) and all(table[name].null_count() == len(table) for name in names)


def test_after_a_gap_an_older_profile_is_known_decayed(tmp_path: Path) -> None:
    for day in (1, 2, 4):
        put(tmp_path / "log", day, rows_of(day))
    project = project_of(tmp_path)
    build(project, 1, 2)
    day = read(project, 4)
    ones, twos = (dict(clicks_of(k)["item_id"].value_counts().iter_rows()) for k in (1, 2))
    for row in day.items.iter_rows(named=True):
        assert row["clicks_0d"] == 0, "yesterday there was none"
        assert row["clicks_1d"] == ones.get(row[ID], 0) / 4 + twos.get(row[ID], 0) / 2
    build(project, 4)
    at_end = read(project, 4, end=True).items.filter(pl.col(ID) == 40)
    assert at_end["clicks_0d"][0] == (clicks_of(4)["item_id"] == 40).sum() and at_end["age"][0] == 0


def test_a_forgotten_profile_is_named(made: Project) -> None:
    for gone, day in ((2, 3), (3, 4)):
        put(made.home / "log", 4, rows_of(4))
        shutil.rmtree(made.ws / f"profile/day={DAYS[gone - 1]}")
        ended = made.stage("train-teacher", day)
        assert ended.code == 66 and f"run dmtl build-profile --day {DAYS[gone - 1]}" in ended.err
        build(made, gone)
    with pytest.raises(UserError, match="no published profile of day"):
        read(made, 4, end=True)


def test_a_profile_forgotten_before_a_gap_is_named(made: Project) -> None:
    """The log has no day 3, and nobody made the profile of day 2."""
    put(made.home / "log", 4, rows_of(4))
    shutil.rmtree(made.home / f"log/events/day={DAYS[2]}")
    for day in DAYS[1:3]:
        shutil.rmtree(made.ws / f"profile/day={day}")
    ended = made.stage("train-teacher", 4)
    assert ended.code == 66 and f"run dmtl build-profile --day {DAYS[1]}" in ended.err


def test_without_a_profile_the_chain_does_not_begin(tmp_path: Path) -> None:
    put(tmp_path / "log", 1, rows_of(1))
    ended = project_of(tmp_path).stage("train-teacher", 1)
    assert ended.code == 66 and f"run dmtl build-profile --day {DAYS[0]}" in ended.err
    assert project_of(tmp_path, IDS).stage("train-teacher", 1).code == 0, "no feature reads one"


# -- who belongs to a day ----------------------------------------------------------------------------------------------


def drawn(day: Day) -> set[Any]:
    """Items that are drawn as negatives, uniformly."""
    items, _ = Negatives(day, 0.0).draw(np.zeros(2000, np.int64), np.random.default_rng(1))
    return set(day.items[ID].gather(items).to_list())


def test_without_an_item_table_the_catalogue_is_what_is_known(made: Project) -> None:
    day = read(made, 3)
    shown, known = set(rows_of(3)["item_id"]), {*rows_of(1)["item_id"], *rows_of(2)["item_id"]}
    assert set(day.items[ID]) == shown | known and known - shown
    assert set(day.users[ID]) == set(rows_of(3)["user_id"]), "users are those of the day"
    assert drawn(day) >= known - shown and (day.item_events == 0).sum() == len(known - shown)
    at_end = read(made, 3, end=True)
    assert set(at_end.items[ID]) == shown | known
    assert set(at_end.users[ID]) == {*rows_of(1)["user_id"], *rows_of(2)["user_id"], *rows_of(3)["user_id"]}


def test_all_known_users_are_there_at_the_end_though_a_feature_is_read_from_events(tmp_path: Path) -> None:
    for day in (1, 2):
        put(tmp_path / "log", day, rows_of(day).with_columns(device=pl.lit("phone"), genre=pl.lit("g")))
    inline = [("device", "user"), ("genre", "item")]
    features = [*IDS, *PROFILED, *({"name": n, "side": side, "kind": "categorical"} for n, side in inline)]
    project = project_of(tmp_path, features)
    build(project, 1, 2)
    day = read(project, 2, end=True)
    now, before = set(rows_of(2)["user_id"]), set(rows_of(1)["user_id"])
    assert before - now and set(day.users[ID]) == now | before
    assert set(day.users.filter(pl.col("device").is_null())[ID]) == before - now, "null, as nothing is known today"
    assert set(day.items[ID]) == set(rows_of(2)["item_id"]), "no item without its content"


def test_with_an_item_table_the_catalogue_is_the_table(tmp_path: Path) -> None:
    for day in (1, 2, 3, 4):
        if day < 4:
            put(tmp_path / "log", day, rows_of(day))
        put(tmp_path / "log", day, pl.DataFrame({"item_id": [1, 2, 100 + day]}), "items")
    table = {"path": "items", "key": "item_id", "partition": "day"}
    project = project_of(tmp_path, items=table)
    build(project, 1, 2, 3)
    shown = set(rows_of(3)["item_id"])
    day = read(project, 3)
    assert set(day.items[ID]) == shown | {1, 2, 103} and drawn(day) <= shown | {1, 2, 103}
    assert set(read(project, 3, end=True).items[ID]) == shown | {1, 2, 104}, "the table of the next morning"


def test_items_are_those_of_the_day_where_events_tell_of_them(tmp_path: Path) -> None:
    """An item that is only known has no value of a feature that is read from events."""
    for day in (1, 2):
        put(tmp_path / "log", day, rows_of(day).with_columns(topic=pl.col("item_id") % 3))
    topic = {"name": "topic", "side": "item", "kind": "categorical"}
    project = project_of(tmp_path, [*IDS, *PROFILED, topic])
    build(project, 1, 2)
    for end in (False, True):
        day = read(project, 2, end=end)
        assert set(day.items[ID]) == set(rows_of(2)["item_id"]) and day.items["topic"].null_count() == 0
    assert set(day.users[ID]) == {*rows_of(1)["user_id"], *rows_of(2)["user_id"]}, "of users nothing is inline"


def test_a_day_has_the_same_items_whatever_a_model_reads(made: Project) -> None:
    """Scores of drawn pairs are of items that the student's day has too."""
    topic = {"name": "topic", "side": "item", "kind": "categorical"}
    for k in (1, 2, 3):
        put(made.home / "log", k, rows_of(k).with_columns(topic=pl.col("item_id") % 3))
    for more, known in (([], {10, 11, 20, 21}), ([topic], set())):
        made.config["features"] = [*IDS, *PROFILED, *more]
        made.write()
        run = Run.start(load_config(made.file), RunLog())
        every, bare = (Days(run, some) for some in (run.config.features, run.config.features[:2]))
        for name, days in {"every": every, "bare": bare}.items():
            (scratch := made.home / f"{name}{len(more)}").mkdir()
            assert set(days.read(DATES[2], scratch).items[ID]) - set(rows_of(3)["item_id"]) == known, name
            assert [p[1].day for p in days.parents([DATES[2]])] == [DATES[1]]
        assert bare.with_profile(DATES[:3]) == DATES[:3] and every.with_profile(DATES[:3]) == DATES[1:3]


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_text_ids_are_known_like_integers(made: Project, tmp_path: Path) -> None:
    for day in (1, 2, 3):
        put(tmp_path / "text/log", day, rows_of(day, text=True))
    project = project_of(tmp_path / "text")
    build(project, 1, 2)
    whole, text = read(made, 3), read(project, 3)

    def named(table: pl.DataFrame, side: str) -> pl.DataFrame:
        names = ((side + pl.col(c).cast(pl.String)).alias(c) for c in (ID, "user_id", "item_id") if c in table.columns)
        out = table.with_columns(names)
        if "last" in out.columns:
            out = out.with_columns(pl.col("last").list.eval("i" + pl.element().cast(pl.String)))
        return out.sort(ID)

    assert_frame_equal(named(whole.users, "u"), text.users)
    assert_frame_equal(named(whole.items, "i"), text.items)


@pytest.mark.parametrize("side", ["user", "item"])
def test_ids_of_another_type_are_refused(made: Project, side: str) -> None:
    put(made.home / "log", 3, rows_of(3).cast({f"{side}_id": pl.String}))
    for command in ("build-profile", "train-teacher"):
        ended = made.stage(command, 3)
        assert ended.code == 65 and side in ended.err and "give the ids their former type" in ended.err, ended.err


# -- statistics of features that nobody had yet ------------------------------------------------------------------------


def test_numbers_unknown_on_the_first_day_are_measured_later(tmp_path: Path) -> None:
    """And the table grows by their buckets; what was published before can still be read."""
    for day in (1, 2, 3):
        put(tmp_path / "log", day, rows_of(day))
    count = {"count": "click", "half_life_days": 7.0}
    bucket = {"name": "bucket", "side": "item", "kind": "numeric", "profile": count, "num_buckets": 4}
    project = project_of(tmp_path, [*IDS, *PROFILED, bucket])
    made = []
    for day in (1, 2, 3):
        build(project, day)
        made.append(project.done("train-teacher", day))
    encoders = [Encoder.read(Path(one["path"])) for one in made]
    numeric = {"shown", "clicks_0d", "clicks_1d", "age", "bucket"}
    assert [set(e.numbers) & numeric for e in encoders] == [set(), numeric, numeric]
    assert encoders[1].numbers == encoders[2].numbers, "measured once"
    first, second = (
        json.loads((Path(one["path"]) / "features.json").read_text())["embedding_rows"] for one in made[:2]
    )
    edges = encoders[1].numbers["bucket"]["edges"]
    assert first["bucket"] == 2 and second["bucket"] == len(edges) + 2 > 3
    frame = pl.DataFrame({"item_id": [1, 2], "clicks_1d": [3.0, None], "bucket": [9.0, None]})
    encoded = encoders[0].encode(frame, "item")
    assert np.isfinite(encoded.floats).all() and encoded.ids.max() < sum(first.values())
    shown = np.array([(rows_of(1)["user_id"] == user).sum() for user in set(rows_of(2)["user_id"])])
    assert encoders[1].numbers["shown"] == {"mean": pytest.approx(shown.mean()), "std": pytest.approx(shown.std())}


@pytest.mark.parametrize("threads", [1, 2])
def test_numpy_has_the_threads_of_the_config(tmp_path: Path, threads: int) -> None:
    """Its sums differ by them in their last digits, and a run's key has the config's alone."""
    config = load_config(Project.create(tmp_path, tmp_path / "log").file, [f"threads={threads}"])
    with threadpool_limits(3, user_api="blas"):
        Run.start(config, RunLog())
        assert {x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"} == {threads}
