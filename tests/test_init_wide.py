"""`init` on wide tables, lists and folders of hours as an invented firm writes them: counted exactly, as each log knows
which of its rows are clicks and which of these are good."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import Made, daily, features, frame, made
from worlds import dmtl

X = unseen.drawn(0)
CLICKS = pl.Series(X["click"] == 1)
DAY = "2026-03-02"


def csv(write: pl.DataFrame, form: Callable[[str], str] = "{}.csv".format) -> Callable[[Path], None]:
    """A CSV a day."""

    def to(home: Path) -> None:
        for (day,), part in write.with_columns(pl.Series(":d", unseen.days_of(X))).group_by(":d"):
            file = home / "events" / form(str(day))
            file.parent.mkdir(parents=True, exist_ok=True)
            part.drop(":d").write_csv(file)

    return to


def labels(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = dmtl("check", "--config", home / "mine.yaml", "--day", DAY, "--json").json
    return {"rows": found["rows"], **found["labels"]}


def of_day(flags: pl.Series) -> int:
    return int(flags.filter(pl.Series(unseen.days_of(X)) == DAY).sum())


def right(made_: Made, home: Path, good: pl.Series | None = None) -> dict[str, Any]:
    """The events of the config, which counts the clicks of a day, and the good ones of them, as they are."""
    ended, raw, _ = made_
    assert ended.code == 0, ended.err
    counted = labels(home)
    assert counted["rows"] == of_day(pl.repeat(True, len(CLICKS), eager=True)) and counted["clicks"] == of_day(CLICKS)
    assert good is None or counted["conversions"] == of_day(good)
    events: dict[str, Any] = raw["data"]["events"]
    return events


def test_flags_as_pandas_writes_them_beside_empty_ones(tmp_path: Path) -> None:
    bought = pl.Series("purchased", X["bought"]).cast(pl.Float64)
    write = frame(drop=("watch_seconds",), clicked=CLICKS.cast(pl.Float64), purchased=bought)
    events = right(made(tmp_path, csv(write)), tmp_path, bought == 1)
    assert events["click"] == "clicked" and events["conversion"] == "purchased"


def test_flags_of_0_and_1_as_text_in_parquet(tmp_path: Path) -> None:
    """As a table of Hive has them, all of whose columns are text."""
    bought = pl.Series("purchased", X["bought"]).cast(pl.String)
    write = frame(drop=("watch_seconds",), clicked=CLICKS.cast(pl.Int8).cast(pl.String), purchased=bought)
    events = right(made(tmp_path, daily(write)), tmp_path, bought == "1")
    assert events["click"] == "clicked" and events["conversion"] == "purchased"


def test_what_is_served_is_told_by_a_column_of_the_events_in_a_csv(tmp_path: Path) -> None:
    """`export.items` compares it with a number: it needs a type, though no feature reads it."""
    ended, raw, _ = made(tmp_path, csv(frame(in_stock=[int(item % 10 > 0) for item in X["item"]])))
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == "in_stock = 1" and raw["data"]["types"]["in_stock"] == "int64"


def test_nanoseconds_in_a_csv_are_a_time(tmp_path: Path) -> None:
    write = frame(drop=("ts",), ts=X["at"] * 10**9)
    ended, raw, text = made(tmp_path, lambda home: write.write_csv(home / "log.csv"))
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["date_column"] == "ts" and "nanoseconds since 1970" in text
    assert labels(tmp_path)["clicks"] == of_day(CLICKS)


@pytest.mark.parametrize(
    "form", ["{:%Y-%m-%d-%H}", "{:%Y-%m-%dT%H}", "{:%Y%m%d%H}", "dt={:%Y%m%d/hh=%H}", "{:%Y/%m/%d/%H}"]
)
def test_folders_of_hours(form: str, tmp_path: Path) -> None:
    def to(home: Path) -> None:
        hours = [form.format(dt.datetime.fromtimestamp(int(t), dt.UTC)) for t in X["at"]]
        for (hour,), part in frame().with_columns(pl.Series(":h", hours)).group_by(":h"):
            (home / "events" / str(hour)).mkdir(parents=True)
            part.drop(":h").write_parquet(home / "events" / str(hour) / "part-0.parquet")

    assert right(made(tmp_path, to), tmp_path)["click"] == "clicked"


@pytest.mark.parametrize("name", ["lesedauer_sek", "tiempo_lectura", "duracao_visita_seg", "etsuran_jikan", "閲覧時間"])
def test_a_duration_in_another_language_goes_before_an_order(name: str, tmp_path: Path) -> None:
    """As in English: `bestellt` is another goal, in a comment."""
    write = frame(drop=("watch_seconds",), **{name: X["seconds"], "bestellt": X["bought"]})
    _, raw, text = made(tmp_path, daily(write))
    assert raw["data"]["events"]["duration"] == name and "bestellt alone" in text


@pytest.mark.parametrize("name", ["is_bookmarked", "bookmark_flag", "added_to_wishlist"])
def test_what_was_kept_is_a_good_click(name: str, tmp_path: Path) -> None:
    saved = pl.Series(name, X["bought"])
    events = right(made(tmp_path, daily(frame(drop=("watch_seconds",), **{name: saved}))), tmp_path, saved == 1)
    assert events["conversion"] == name


@pytest.mark.parametrize("name", ["itm_id", "prod_id", "kiji_id", "xyz_id"])
def test_a_campaign_is_no_item_beside_far_more_ids(name: str, tmp_path: Path) -> None:
    """Also beside those whose name no list has."""
    rng = np.random.default_rng(1)
    item = rng.integers(0, 300, len(CLICKS))
    write = frame(drop=("item_id",), campaign_id=rng.integers(0, 25, len(CLICKS)), **{name: item})
    assert right(made(tmp_path, daily(write)), tmp_path)["item"] == name
    ended, raw, _ = made(tmp_path / "told", daily(write), "--item", "campaign_id")
    assert ended.code == 0 and raw["data"]["events"]["item"] == "campaign_id"


def test_a_length_of_time_as_text_in_parquet(tmp_path: Path) -> None:
    whole = [int(s) if s else None for s in X["seconds"]]
    texts = [None if s is None else f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in whole]
    write = frame(drop=("watch_seconds",), watch_time=pl.Series(texts), liked=X["bought"])
    events = right(made(tmp_path, daily(write)), tmp_path)
    assert events["duration"] == "watch_time"
    assert labels(tmp_path)["duration_seconds"]["p50"] > 1


@pytest.mark.parametrize("name", ["bookmarked", "purchased_items", "liked_ids"])
def test_a_third_list_tells_the_good_clicks(name: str, tmp_path: Path) -> None:
    """Beside lists of what was shown and of what was clicked of it."""
    rng, good = np.random.default_rng(2), list[int]()

    def to(home: Path) -> None:
        for day in range(1, 4):
            lines = []
            for second in np.sort(rng.integers(0, 86_000, 200)):
                shown = rng.permutation(400)[:8].tolist()
                clicked = [i for i in shown if rng.random() < 0.3]
                some = [i for i in clicked if rng.random() < 0.4]
                good.append(len(some) * (day == 2))
                at = dt.datetime(2026, 3, day) + dt.timedelta(seconds=int(second))
                row = {"user_id": int(rng.integers(0, 120)), "ts": at.isoformat(), "shown": shown, "clicked": clicked}
                lines.append(json.dumps(row | {name: some}))
            (home / f"feed_2026-03-0{day}.jsonl").write_text("\n".join(lines) + "\n")

    ended, raw, text = made(tmp_path, to)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["computed"]["good"] == f"COALESCE(ARRAY_CONTAINS({name}, shown), FALSE)"
    assert "a list named like a conversion" in text and name not in features(raw)
    assert labels(tmp_path)["conversions"] == sum(good)
