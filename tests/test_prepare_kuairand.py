"""KuaiRand as a log: days, unknowns, exact ids, and nothing of a day's outcomes in that day's users and items."""

from __future__ import annotations

import csv
import datetime as dt
import importlib.util
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from dmtl_cli.config.reading import load_config

ROOT = Path(__file__).parents[1]
RAW = Path(__file__).parents[2] / "shared/data/kuairand"
CONFIG = ROOT / "configs/kuairand.yaml"
HUGE = 2**62 + 1  # a float would lose its last digit


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


prepare = script("prepare_kuairand")

LOG = [
    *("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow", "is_comment"),
    *("is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"),
    *("is_profile_enter", "is_rand", "tab"),
]


def row(user: int, video: int, date: int, time: int, click: int, play: int, duration: int = 20_000) -> dict[str, int]:
    given = {"user_id": user, "video_id": video, "date": date, "hourmin": 1700, "time_ms": time, "is_click": click}
    return dict.fromkeys(LOG, 0) | given | {"tab": 1, "play_time_ms": play, "duration_ms": duration}


ROWS = [
    row(1, 10, 20220408, 1000, 1, 40_000),
    row(1, HUGE, 20220408, 900, 0, 35_000, 0),  # earlier, though it stands later; play time without a click
    row(1, HUGE, 20220408, 900, 0, 35_000, 0),  # an exact duplicate
    row(2, 10, 20220409, 1649433600000, 1, 30_000),  # 16:00 UTC of the 8th is midnight of the 9th in Beijing
    row(1, 11, 20220410, 3000, 1, 31_000, 60_000),
    row(1, 10, 20220410, 3000, 0, 0),
]


def write_csv(file: Path, header: list[str], rows: list[dict[str, Any]], separator: str = ",") -> None:
    with file.open("w", newline="") as f:
        out = csv.DictWriter(f, header, delimiter=separator, restval="", extrasaction="ignore")
        out.writeheader()
        out.writerows(rows)


def write_raw(raw: Path, rows: list[dict[str, int]]) -> Path:
    """The official layout: comma, two parts, no `label`."""
    raw.mkdir()
    write_csv(raw / "log_standard_4_08_to_4_21_pure.csv", LOG, rows[:3])
    write_csv(raw / "log_standard_4_22_to_5_08_pure.csv", LOG, rows[3:])
    write_csv(raw / "log_random_4_22_to_5_08_pure.csv", LOG, [row(9, 9, 20220408, 1, 1, 1)])
    users: list[dict[str, Any]] = [
        {"user_id": 1, "user_active_degree": "UNKNOWN", "is_live_streamer": -124, "onehot_feat12": "1.0"},
        {"user_id": 7, "user_active_degree": "full_active"},  # not in the log
    ]
    write_csv(raw / "user_features_pure.csv", ["user_id", *prepare.USER_TEXT, *prepare.USER_NUMBERS], users)
    videos: list[dict[str, Any]] = [{"video_id": 10, "author_id": HUGE, "music_type": "9.0", "tag": "39,68"}]
    write_csv(raw / "video_features_basic_pure.csv", ["video_id", *prepare.VIDEO_TEXT, *prepare.VIDEO_NUMBERS], videos)
    return raw


def table(log: Path, kind: str, day: int) -> pl.DataFrame:
    file = log / kind / f"day=2022-04-{day:02d}" / "part-0.parquet"
    return pl.read_parquet(file, hive_partitioning=False)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp = tmp_path_factory.mktemp("kuairand")
    assert prepare.main([str(write_raw(tmp / "raw", ROWS)), str(tmp / "deep/log")]) == 0
    assert [p.name for p in (tmp / "deep").iterdir()] == ["log"]
    return tmp / "deep/log"


def test_days_come_from_the_date_column_and_duplicates_go(log: Path) -> None:
    assert [p.name for p in sorted((log / "events").iterdir())] == [f"day=2022-04-{d:02d}" for d in (8, 9, 10)]
    first = table(log, "events", 8)
    assert first["video_id"].to_list() == [HUGE, 10]  # by time, ids exact
    assert first["play_seconds"].to_list() == [35.0, 40.0]
    assert first["hour"].to_list() == [17, 17]
    assert table(log, "events", 9)["user_id"].to_list() == [2]
    assert table(log, "events", 10)["video_id"].to_list() == [10, 11]


def test_unknown_is_null_and_users_are_those_of_the_log(log: Path) -> None:
    users = table(log, "users", 8)
    assert users["user_id"].to_list() == [1, 2]
    assert users["user_active_degree"].to_list() == [None, None]
    assert users["is_live_streamer"].to_list() == [None, None]
    assert users["onehot_feat12"].to_list() == [1, None]
    items = table(log, "items", 8)
    assert items["video_id"].to_list() == [10, HUGE]  # 11 is not known before the 10th
    assert items["duration_seconds"].to_list() == [20.0, None]
    assert items["author_id"].to_list() == [HUGE, None]
    assert items["tag"].to_list() == ["39,68", None]
    assert items["music_type"].to_list() == [9, None]


def test_history_is_of_earlier_days_only(log: Path) -> None:
    for kind in ("users", "items"):
        first, last = table(log, kind, 8), table(log, kind, 10)
        history = [c for c in first.columns if c.startswith("recent_") or "exposures" in c or "_rate" in c]
        assert len(history) > 2 and first.select(pl.col(history).is_null().all()).row(0) == (True,) * len(history)
        assert first.schema == last.schema
    user = table(log, "users", 10).row(0, named=True)
    assert user["recent_clicks"] == [10]
    assert user["recent_long_reads"] == [10]
    assert user["user_exposures"] == 2
    assert user["user_click_rate"] == pytest.approx((1 + 8 * 2 / 3) / (2 + 8))  # 2 of 3 exposures before the 10th
    assert user["user_read_rate"] == pytest.approx((1 + 8 * 1 / 3) / (2 + 8))  # 30.0 s is not above 30 s
    assert user["user_click_rate_still"] == pytest.approx((0 + 8 * 0) / (1 + 8))
    assert user["user_click_rate_long"] is None
    item = table(log, "items", 10).row(0, named=True)
    assert (item["video_id"], item["item_exposures"]) == (10, 2)
    assert item["item_click_seconds"] == pytest.approx((70 + 8 * 35) / (2 + 8))
    assert item["item_completion"] == pytest.approx(1)
    assert table(log, "items", 10)["item_exposures"].to_list() == [2, None, 1]  # 10, 11 (new that day), HUGE


def test_outcomes_of_a_day_never_reach_its_tables(log: Path, tmp_path: Path) -> None:
    """The whole of the last day turned over leaves its users and items as they were."""
    outcomes = ("is_click", "long_view", "is_like")
    turned = [
        r | {c: 1 - r[c] for c in outcomes} | {"play_time_ms": 99_000} if r["date"] == 20220410 else r for r in ROWS
    ]
    assert prepare.main([str(write_raw(tmp_path / "raw", turned)), str(tmp_path / "log")]) == 0
    assert not table(tmp_path / "log", "events", 10).equals(table(log, "events", 10))
    for day in (8, 9, 10):
        for kind in ("users", "items"):
            assert table(tmp_path / "log", kind, day).equals(table(log, kind, day))


def test_the_subset_layout_and_a_second_run(tmp_path: Path) -> None:
    """TAB separated, `label` in place of is_like and is_hate; the second run replaces the first."""
    raw = write_raw(tmp_path / "raw", ROWS)
    for file in raw.glob("log_*"):
        file.unlink()
    header = [c for c in LOG if c not in ("is_like", "is_hate", "tab", "is_rand")]
    labelled = [r | {"label": k % 2} for k, r in enumerate(ROWS[:2] + ROWS[3:])]
    write_csv(raw / "processed_standard_kcore_15.csv", [*header, "label"], labelled, "\t")
    assert prepare.main([str(raw), str(tmp_path / "log")]) == 0
    first = table(tmp_path / "log", "events", 8)
    assert (first["is_like"].to_list(), first["is_hate"].to_list()) == ([1, 0], [0, 1])
    assert "label" not in first.columns and "tab" not in first.columns
    before = {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "log").rglob("*.parquet")}
    (tmp_path / "log/events/day=2022-03-01").mkdir()
    assert prepare.main([str(raw), str(tmp_path / "log")]) == 0
    assert not (tmp_path / "log/events/day=2022-03-01").exists()
    assert before == {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "log").rglob("*.parquet")}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "raw"]


def _no_users(raw: Path) -> None:
    (raw / "user_features_pure.csv").unlink()


def _no_column(raw: Path) -> None:
    write_csv(raw / "log_standard_4_22_to_5_08_pure.csv", [c for c in LOG if c != "long_view"], ROWS[3:])


def _text(raw: Path) -> None:
    write_csv(raw / "log_standard_4_22_to_5_08_pure.csv", LOG, [ROWS[3] | {"time_ms": "noon"}])


def _no_rows(raw: Path) -> None:
    for file in raw.glob("log_standard_*"):
        write_csv(file, LOG, [])


def _date(raw: Path) -> None:
    write_csv(raw / "log_standard_4_22_to_5_08_pure.csv", LOG, [ROWS[3] | {"date": 20220431}])


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (_no_users, 66, "no user_features*.csv"),
        (_no_column, 65, "no column long_view"),
        (_text, 65, "column time_ms, row 1: expected a whole number, got 'noon'"),
        (_date, 65, "expected YYYYMMDD, got 20220431"),
        (_no_rows, 66, "the log has no rows"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    spoil: Callable[[Path], None], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw(tmp_path / "raw", ROWS)
    spoil(raw)
    assert prepare.main([str(raw), str(tmp_path / "log")]) == code
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_a_folder_that_is_no_log_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_raw(tmp_path / "raw", ROWS)
    assert prepare.main([str(raw), str(raw)]) == 65
    assert "will not be replaced" in capsys.readouterr().err
    assert prepare.main([str(tmp_path / "nowhere"), str(tmp_path / "log")]) == 66


def test_the_config_reads_what_is_written(log: Path) -> None:
    config = load_config(CONFIG)
    written = {
        "user": table(log, "users", 8).columns,
        "item": table(log, "items", 8).columns,
        "context": table(log, "events", 8).columns,
    }
    assert not [f.name for f in config.features if f.source not in written[f.side]]
    assert config.teacher.first_window_days == 7


def test_the_baseline_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    baseline = script("logistic_baseline")
    draw = random.Random(1)
    rows = []
    for k in range(300):
        user, video = draw.randrange(9), draw.randrange(20)
        click = int(draw.random() < (video + 1) / 21)
        rows.append(row(user, video, 20220408 + k // 100, k, click, draw.randrange(60_000), 1000 * (video + 5)))
    assert prepare.main([str(write_raw(tmp_path / "raw", rows)), str(tmp_path / "log")]) == 0
    capsys.readouterr()
    window = ["--window", "2022-04-08..2022-04-09"]
    assert baseline.main([str(tmp_path / "log"), *window, "--days", "2022-04-09..2022-04-10"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["day"], line.get("fitted")) for line in lines] == [
        ("2022-04-09", "2022-04-08..2022-04-08"),
        ("2022-04-10", "2022-04-08..2022-04-09"),
        ("mean", None),
    ]
    assert lines[1]["ctr"]["auc"] > 0.6
    late = ["--train", "2022-04-08..2022-04-10", "--test", "2022-04-10"]
    assert baseline.main([str(tmp_path / "log"), *window, *late]) == 2
    assert baseline.main([str(tmp_path / "log"), *window, "--days", "2022-05-01"]) == 66
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.skipif(not RAW.is_dir(), reason="shared/data/kuairand is not here")
def test_the_real_subset(tmp_path: Path) -> None:
    log = tmp_path / "log"
    days = prepare.prepare(RAW, log)
    assert (len(days), sum(rows for _, rows, _, _ in days)) == (14, 41_828 - 116)
    assert (days[0][0], days[-1][0]) == (dt.date(2022, 4, 8), dt.date(2022, 4, 21))
    assert len(table(log, "users", 8)) == len(table(log, "users", 21)) == 664
    assert len(table(log, "items", 21)) == 9359

    with next(RAW.glob("processed_standard*.csv")).open() as f:
        raw = {
            tuple(r.items()): {k: int(v) for k, v in r.items() if k != "timestamp"}
            for r in csv.DictReader(f, delimiter="\t")
        }
    before = sorted((r for r in raw.values() if r["date"] < 20220415), key=lambda r: (r["time_ms"], r["video_id"]))
    rate = sum(r["is_click"] for r in before) / len(before)
    for kind, key, what in (("users", "user_id", "user"), ("items", "video_id", "item")):
        counts: dict[int, int] = {}
        for r in before:
            counts[r[key]] = counts.get(r[key], 0) + 1
        most = max(counts, key=lambda k: (counts[k], k))
        mine = [r for r in before if r[key] == most]
        got = table(log, kind, 15).filter(pl.col(key) == most).row(0, named=True)
        assert got[f"{what}_exposures"] == len(mine)
        assert got[f"{what}_click_rate"] == pytest.approx(
            (sum(r["is_click"] for r in mine) + 8 * rate) / (len(mine) + 8)
        )
        if what == "user":
            assert got["recent_clicks"] == [r["video_id"] for r in mine if r["is_click"]][-30:]
            read = [r["video_id"] for r in mine if r["is_click"] and r["play_time_ms"] > 30_000]
            assert got["recent_long_reads"] == read[-30:]
