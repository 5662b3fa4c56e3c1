"""A bare log: five columns, ten lines of config, no side table. The pipeline makes histories, counters and rates."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from worlds import DAYS, dmtl

from dmtl_cli.config.reading import load_config
from dmtl_cli.synth.generate import generate

CONFIG = """\
workspace: {home}/ws
features: auto
data:
  root: {home}/log
  events:
    user: who
    item: what
    time: at
{label}
"""
WITH_CLICKS, CLICKS_ALONE = "    click: clicked\n    duration: seconds", "    duration: seconds"
CONVERSION = "    conversion: liked"
SMALL = {
    "teacher.epochs": 1,
    "teacher.batch_size": 512,
    "student.epochs": 1,
    "auto.budget": 0,
    "evaluate.max_users": 40,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[pl.DataFrame]:
    """Four days of events, in the five columns."""
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=60, events_per_day=1500, seed=1)
    raw = [pl.read_parquet(out / f"log/events/day={day}/part-0.parquet", hive_partitioning=False) for day in DAYS]
    names = {"user_id": "who", "item_id": "what", "time": "at", "click": "clicked", "read_seconds": "seconds"}
    return [frame.select(pl.col(old).alias(new) for old, new in names.items()) for frame in raw]


def clicks(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("clicked") == 1).drop("clicked")


def liked(frame: pl.DataFrame) -> pl.DataFrame:
    return clicks(frame).select("who", "what", "at", liked=pl.col("seconds") > 30)


def texts(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(("é" + pl.col(c).cast(pl.String)).alias(c) for c in ("who", "what"))


@pytest.mark.parametrize(
    ("label", "change"),
    [
        (WITH_CLICKS, lambda frame: frame),
        (WITH_CLICKS, texts),
        (CLICKS_ALONE, clicks),
        (CONVERSION, liked),
    ],
    ids=["exposures", "text ids", "clicks alone", "clicks and a conversion"],
)
def test_a_bare_log_is_served(tmp_path: Path, world: list[pl.DataFrame], label: str, change: Any) -> None:
    text = CONFIG.format(home=tmp_path, label=label)
    assert len(text.splitlines()) <= 10
    file = tmp_path / "config.yaml"
    file.write_text(text)
    frames = [change(frame) for frame in world]
    for day, frame in zip(DAYS, frames, strict=True):
        folder = tmp_path / "log/events" / f"day={day}"
        folder.mkdir(parents=True)
        frame.write_parquet(folder / "part-0.parquet")
    sets = [a for key, value in SMALL.items() for a in ("--set", f"{key}={value}")]
    ended = dmtl("backfill", "--config", file, "--from", DAYS[0], "--to", DAYS[2], "--json", *sets)
    assert (ended.code, ended.err) == (0, "")
    measured = dmtl("evaluate", "--config", file, "--day", DAYS[3], "--json", *sets)
    assert measured.code == 0, measured.err
    metrics = measured.json["metrics"]
    assert metrics["student.read.recall@50"] > 0 and all(map(math.isfinite, metrics.values()))
    assert metrics["student.click.ceiling"] >= metrics["student.click.recall@100"]

    export = Path(dmtl("path", "export", "--config", file).out.strip())
    users = pl.read_parquet(export / "users.parquet")
    whole = pl.concat(frames[:3])
    assert set(users["user_id"]) == set(whole["who"]), "whoever had an event"
    vectors = pl.read_parquet(export / "item_vectors.parquet")
    assert set(vectors["item_id"]) == set(whole["what"]), "and whatever had one"
    history = dict(users.select("user_id", "feature.user_click_history").iter_rows())
    positives = whole.filter(pl.col("clicked") == 1) if "clicked" in whole.columns else whole
    for user, rows in positives.group_by("who"):
        its = rows.sort("at", maintain_order=True)["what"].to_list()[-50:]
        assert history[user[0]] == its or sorted(history[user[0]]) == sorted(its), "equal times may change places"
    user = users["user_id"][0]
    top = dmtl("recommend", "--config", file, "--user", user, "-k", 5, "--json")
    assert top.code == 0 and {i["item_id"] for i in json.loads(top.out)["items"]} <= set(map(str, whole["what"]))
    events = {f.profile.events[0] for f in load_config(file).features if f.profile and f.profile.events}
    assert ("exposure" in events) == (label == WITH_CLICKS), "a log of clicks alone does not count what was shown"


def test_check_shows_what_profiles_give(tmp_path: Path, world: list[pl.DataFrame]) -> None:
    """Before there is one all is unknown, and no reason to doubt the log."""
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(home=tmp_path, label=WITH_CLICKS))
    known = set(world[0]["what"])
    frames = [world[0], world[1].filter(pl.col("what").is_in(known)), world[1]]
    for day, frame in zip(DAYS[:3], frames, strict=True):
        folder = tmp_path / "log/events" / f"day={day}"
        folder.mkdir(parents=True)
        frame.write_parquet(folder / "part-0.parquet")

    def unknown(day: str) -> dict[str, float]:
        found = dmtl("check", "--config", file, "--day", day, "--json")
        assert (found.code, found.err) == (0, "")
        return {f["name"]: f["unknown_share"] for f in found.json["features"]}

    given = ("user_click_history", "item_clicks_1d", "item_click_rate", "item_age")
    assert [unknown(DAYS[1])[name] for name in given] == [1.0] * 4
    assert dmtl("build-profile", "--config", file, "--day", DAYS[0]).code == 0
    assert "one value" not in dmtl("check", "--config", file, "--day", DAYS[1]).out
    first, second = (dmtl("check", "--config", file, "--day", day).out for day in DAYS[:2])
    line = "features of profiles (user_click_history .. item_age): no profile of an earlier day, so unknown until there"
    assert line in first and "\nitem_click_rate" not in first, "not a line each"
    assert "of profiles" not in second and "\nitem_click_rate" in second
    assert unknown(DAYS[1])["item_age"] == 0, "all one day old"
    shares = unknown(DAYS[2])
    assert shares["item_clicks_1d"] == shares["item_click_rate"] == 0
    new = set(world[1]["what"]) - known
    assert new and shares["item_age"] == pytest.approx(len(new) / world[1]["what"].n_unique(), abs=1e-4)
    assert shares["user_click_history"] < 0.5
