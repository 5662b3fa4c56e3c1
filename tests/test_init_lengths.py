"""init: lengths of time as text in a table of what came of exposures, whatever the column is called."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from test_init_joined import DAYS, shown
from worlds import dmtl

from dmtl_cli.guess.outcomes.lengths import are_lengths

PLAYS = 400


def clock(x: int) -> str:
    return f"{x // 3600:02}:{x // 60 % 60:02}:{x % 60:02}"


def with_days(x: int) -> str:
    return f"{x // 86_400}.{clock(x % 86_400)}" if x >= 86_400 else clock(x)


def iso(x: int) -> str:
    return f"PT{x // 60}M{x % 60}S"


WAYS: list[Callable[[int], str]] = [clock, with_days, iso]


def plays(day: str) -> pl.DataFrame:
    """Some exposures are played in several parts."""
    rng = np.random.default_rng(10 + int(day[-1]))
    seconds = np.round(rng.lognormal(6.5, 1, PLAYS)).astype(int)
    seconds[::90] += 90_000
    of = shown(day).sample(PLAYS, with_replacement=True, seed=1)
    at = of["shown_at"].str.to_datetime("%Y-%m-%dT%H:%M:%SZ") + dt.timedelta(seconds=20)
    device = rng.choice(["a", "b"], PLAYS)
    return of.select("impression_id", begun=at.dt.strftime("%H:%M:%S"), tid=pl.Series(seconds), enhed=pl.Series(device))


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("way", WAYS)
def test_lengths_of_plays_are_added_up(tmp_path: Path, kind: str, way: Callable[[int], str]) -> None:
    for day in DAYS:
        texts = plays(day).with_columns(pl.col("tid").map_elements(way, pl.String).alias("LyttetTid")).drop("tid")
        write(shown(day), tmp_path / "log/shown", day, kind)
        write(texts, tmp_path / "log/plays", f"plays_{day}", kind)
    out = tmp_path / "mine.yaml"
    ended = dmtl("init", tmp_path / "log", "-o", out, "--conversion", "LyttetTid >= 1200")
    assert ended.code == 0, ended.err
    data = yaml.safe_load(out.read_text())["data"]
    (one,) = data["events"]["joined"].values()
    assert one["columns"]["LyttetTid"] == "SUM(LyttetTid)" and "begun" not in one["columns"]
    assert (data.get("types", {}) | one.get("types", {}))["LyttetTid"] == "clock"
    whole = plays(DAYS[0]).group_by("impression_id").agg(pl.col("tid").sum())
    found = dmtl("check", "--config", out, "--day", DAYS[0], "--json").json["labels"]
    assert found["conversion_rate"] == pytest.approx((whole["tid"] >= 1200).mean(), abs=1e-4)
    assert dmtl("init", tmp_path / "log", "-o", out, "--force").code == 0
    assert yaml.safe_load(out.read_text())["data"]["events"]["duration"] == "LyttetTid"


def test_lengths_of_rows_of_a_user_and_item(tmp_path: Path) -> None:
    """Of one item in each play the same: its own, which is not added up; beside one that is."""
    for day in DAYS:
        frame = shown(day).with_columns(clicked=pl.Series(np.random.default_rng(1).random(1500) < 0.3).cast(pl.Int8))
        write(frame.drop("impression_id"), tmp_path / "log/shown", day, "csv")
        of = plays(day).join(frame, on="impression_id")
        own = (60 * 1.1 ** of["item_id"].str.slice(1).cast(pl.Int64)).cast(pl.Int64)
        lengths: dict[str, Any] = {"spilletid": own, "afspillet": of["tid"]}
        texts = {c: s.map_elements(clock, pl.String) for c, s in lengths.items()}
        rows = of.select("user_id", "item_id", begun="shown_at").with_columns(**texts)
        write(rows, tmp_path / "log/plays", f"plays_{day}", "csv")
    out = tmp_path / "mine.yaml"
    dmtl("init", tmp_path / "log", "-o", out)
    (one,) = yaml.safe_load(out.read_text())["data"]["events"]["joined"].values()
    assert one["columns"]["its_afspillet"] == "SUM(afspillet)", one
    assert one["columns"]["its_spilletid"] == "MAX(spilletid)", one


def test_a_time_of_day_is_no_length() -> None:
    """Also where most rows are of the night: by a time that says the same; in any zone, with seconds or without."""
    rng = np.random.default_rng(0)
    seconds = np.minimum(rng.exponential(7_000, 400), 80_000).astype(int)
    night = pl.Series("at", [dt.datetime(2026, 1, 1) + dt.timedelta(seconds=int(s)) for s in seconds])
    texts = pl.Series("kl", [clock(int(s)) for s in seconds])
    assert are_lengths(texts, [])
    for zone in (0, 60, -330):
        assert not are_lengths(texts, [night + dt.timedelta(minutes=zone, seconds=2)])
        assert not are_lengths(texts.str.slice(0, 5), [night + dt.timedelta(minutes=zone, seconds=2)])
    other = night.gather(rng.permutation(400))
    assert are_lengths(texts, [other]), "of other rows"
    day = pl.Series([clock(int(s)) for s in rng.integers(0, 86_400, 400)])
    assert not are_lengths(day, []) and not are_lengths(pl.Series(["a", "b"]), [])
    assert not are_lengths(pl.Series([1, 2]), []) and not are_lengths(pl.Series(["0:01"] * 400), [])
