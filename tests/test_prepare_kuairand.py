"""KuaiRand as a log: days, unknowns, exact ids, and nothing of a day's outcomes in that day's users and items."""

from __future__ import annotations

import csv
import datetime as dt
import importlib.util
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
PURE = RAW.with_name("kuairand_pure")
CONFIG = ROOT / "configs/kuairand.yaml"
PURE_CONFIG = ROOT / "configs/kuairand_pure.yaml"
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


def users_of(log: Path) -> pl.DataFrame:
    return pl.read_parquet(log / "users/part-0.parquet")


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
    users = users_of(log)
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
    assert table(log, "items", 10)["video_id"].to_list() == [10, 11, HUGE]


def test_outcomes_never_reach_users_and_items(log: Path, tmp_path: Path) -> None:
    """The whole log turned over leaves users and items as they were."""
    outcomes = ("is_click", "long_view", "is_like")
    turned = [r | {c: 1 - r[c] for c in outcomes} | {"play_time_ms": 99_000} for r in ROWS]
    assert prepare.main([str(write_raw(tmp_path / "raw", turned)), str(tmp_path / "log")]) == 0
    assert not table(tmp_path / "log", "events", 10).equals(table(log, "events", 10))
    kept, turned_over = ({k: v for k, v in parts(p).items() if "events" not in k} for p in (log, tmp_path / "log"))
    assert len(kept) == 4 and kept == turned_over


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


ADDED = {"source_file": "log.csv", "watch_ratio": 0.5, "finish": 1, "like": 0, "long_watch": 1, "is_positive": 1}
ADDED |= {"author_id": 5, "tag": "unknown", "upload_dt": "2022-04-09", "upload_date": 20220409, "freshness_days": 3}


def write_splits(tmp: Path, **splits: list[dict[str, int]]) -> tuple[Path, Path]:
    """Folders of the day splits and of the feature tables; columns are added as KuaiRand-Pure's splits add them."""
    features = write_raw(tmp / "features", [])
    (raw := tmp / "splits").mkdir()
    for name, rows in splits.items():
        pl.DataFrame([r | ADDED for r in rows]).write_parquet(raw / f"{name}.parquet")
    return raw, features


def parts(log: Path) -> dict[str, bytes]:
    return {p.relative_to(log).as_posix(): p.read_bytes() for p in log.rglob("*.parquet")}


def test_splits_give_the_log_of_the_csv_files(log: Path, tmp_path: Path) -> None:
    """The answers of the tests above hold for splits too: not a byte differs. What a split adds is not read."""
    raw, features = write_splits(tmp_path, val=ROWS[:3], test=ROWS[3:])
    pl.DataFrame([row(9, 9, 20220408, 1, 1, 1)]).write_parquet(raw / "log_random.parquet")
    assert prepare.main([str(raw), str(tmp_path / "log"), "--features", str(features)]) == 0
    assert len(parts(log)) == 7 and parts(tmp_path / "log") == parts(log)
    columns = {c for kind in ("events", "items") for c in table(tmp_path / "log", kind, 10).columns}
    assert columns & ADDED.keys() == {"author_id", "tag"}
    items = table(tmp_path / "log", "items", 10)
    assert items["author_id"].to_list() == [HUGE, None, None]  # those of the video table, not of the splits (5)
    assert items["tag"].to_list() == ["39,68", None, None]


def test_a_split_with_other_types_and_csv_files_beside_it(log: Path, tmp_path: Path) -> None:
    raw, features = write_splits(tmp_path, train=ROWS[:2], val=ROWS[2:4], test=ROWS[4:])
    kept = pl.read_parquet(raw / "test.parquet")
    kept.with_columns(pl.col("date").cast(pl.String), pl.col("is_click").cast(pl.Float32)).write_parquet(
        raw / "test.parquet"
    )
    assert prepare.main([str(raw), str(tmp_path / "log"), "--features", str(features)]) == 0
    assert parts(tmp_path / "log") == parts(log)
    for file in features.glob("*.csv"):
        file.rename(raw / file.name)
    write_csv(raw / "log_standard_4_08_to_4_21_pure.csv", LOG, ROWS[:3])
    assert prepare.main([str(raw), str(tmp_path / "log")]) == 0  # CSV files go first, as they did before splits
    assert [p.name for p in (tmp_path / "log/events").iterdir()] == ["day=2022-04-08"]


def _split(raw: Path, change: pl.Expr) -> None:
    pl.read_parquet(raw / "test.parquet").with_columns(change).write_parquet(raw / "test.parquet")


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda raw: (raw / "val.parquet").write_bytes(b"no"), 65, "val.parquet: not a Parquet file"),
        (lambda raw: _split(raw, pl.lit([1]).alias("time_ms")), 65, "test.parquet: not a Parquet file of numbers"),
        (lambda raw: _split(raw, pl.lit(-124).alias("is_click")), 65, "is_click, row 1: expected a whole number"),
        (lambda raw: _split(raw, pl.lit(1.5).alias("user_id")), 65, "row 1: expected a whole number, got '1.5'"),
        (
            lambda raw: pl.read_parquet(raw / "val.parquet").drop("long_view").write_parquet(raw / "val.parquet"),
            *(65, "val.parquet: no column long_view"),
        ),
        (lambda raw: [f.unlink() for f in raw.iterdir()], 66, "no log_standard_*.csv or processed_standard*.csv"),
    ],
)
def test_a_mistake_in_a_split_is_one_line(
    spoil: Callable[[Path], Any], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, features = write_splits(tmp_path, val=ROWS[:3], test=ROWS[3:])
    spoil(raw)
    assert prepare.main([str(raw), str(tmp_path / "log"), "--features", str(features)]) == code
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "log").exists()


def test_splits_without_feature_tables_name_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, features = write_splits(tmp_path, val=ROWS)
    assert prepare.main([str(raw), str(tmp_path / "log")]) == 66
    error = capsys.readouterr().err
    assert "no user_features*.csv" in error and "--features FOLDER" in error
    assert prepare.main([str(raw), str(tmp_path / "log"), "--features", str(features / "no")]) == 66
    assert "features/no: no such folder" in capsys.readouterr().err


def test_the_config_of_the_splits_is_that_of_the_subset() -> None:
    ours, theirs = (load_config(c).model_dump() for c in (PURE_CONFIG, CONFIG))
    assert (ours["data"].pop("root"), theirs["data"].pop("root")) == ("data/kuairand_pure", "data/kuairand")
    features = [{f["name"]: f for f in c.pop("features")} for c in (ours, theirs)]
    assert {k: f for k, f in features[0].items() if k in features[1]} == features[1]
    more = [f for k, f in features[0].items() if k not in features[1]]
    assert len(more) == 27 and all(f["kind"] == "categorical" and f["profile"] is None for f in more), "of side tables"
    assert {k for k in ours if ours[k] != theirs[k]} == {"workspace"}


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
        "user": users_of(log).columns,
        "item": table(log, "items", 8).columns,
        "context": table(log, "events", 8).columns,
    }
    assert not [f.name for f in config.features if not f.profile and f.source not in written[f.side]]
    assert not config.teacher.model_fields_set and not config.student.model_fields_set, "the log decides"


@pytest.mark.skipif(not RAW.is_dir(), reason="shared/data/kuairand is not here")
def test_the_real_subset(tmp_path: Path) -> None:
    log = tmp_path / "log"
    days = prepare.prepare(RAW, log)
    assert (len(days), sum(rows for _, rows, _, _ in days)) == (14, 41_828 - 116)
    assert (days[0][0], days[-1][0]) == (dt.date(2022, 4, 8), dt.date(2022, 4, 21))
    assert len(users_of(log)) == 664
    assert len(table(log, "items", 21)) == 9359

    with next(RAW.glob("processed_standard*.csv")).open() as f:
        raw = [r for r in csv.DictReader(f, delimiter="\t") if r["date"] <= "20220415"]
    lengths: dict[int, float] = {}
    for r in raw:
        video = int(r["video_id"])
        lengths[video] = max(lengths.get(video, 0.0), int(r["duration_ms"]) / 1000)
    catalogue = dict(table(log, "items", 15).select("video_id", pl.col("duration_seconds").fill_null(0.0)).iter_rows())
    assert catalogue == pytest.approx(lengths)


@pytest.mark.skipif(not PURE.is_dir(), reason="shared/data/kuairand_pure is not here")
def test_the_real_splits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    days = prepare.prepare(PURE, log, RAW)
    assert [day for day, *_ in days] == [dt.date(2022, 4, 25) + dt.timedelta(k) for k in range(14)]
    counts = [rows for _, rows, _, _ in days]
    assert sum(counts) == 222_869
    raw = pl.concat([pl.read_parquet(PURE / f"{s}.parquet") for s in ("val", "test")]).unique()
    assert dict(raw["date"].value_counts().iter_rows()) == {int(f"{day:%Y%m%d}"): rows for day, rows, _, _ in days}
    users = users_of(log)
    assert len(users) == raw["user_id"].n_unique() == 25_156
    assert users["register_days"].null_count() == 0
    assert pl.read_parquet(log / "items/day=2022-05-08/part-0.parquet")["author_id"].is_not_null().sum() == 6361
