"""Turns a folder of KuaiRand CSV files into a log that configs/kuairand.yaml reads.

    python scripts/prepare_kuairand.py RAW [OUT=data/kuairand]

RAW holds `log_standard_*.csv` (the official layouts; all parts are read) or `processed_standard_*.csv` (the subset of
liked and hated exposures), `user_features*.csv` and `video_features_basic*.csv`; comma or TAB. Other files are left
alone: `log_random_*` is another policy, `video_features_statistic_*` is counted over the whole period, the days to be
predicted included. Tested on the subset and on small files with the official column names.

OUT appears whole (a scratch folder, then a rename) and replaces the log of an earlier run:

    events/day=D/part-0.parquet  exposures of day D (Beijing time: the column `date`), in order of time, user, video
    users/day=D/part-0.parquet   users of the log (no others), known features and what they did BEFORE day D
    items/day=D/part-0.parquet   videos seen up to day D, known features and what was done with them BEFORE day D

Unknown values (-124, UNKNOWN, an empty cell, a duration of 0) are null, and so is the history of who has none. Exact
duplicates are dropped. Rates are shrunk towards the log's rate before day D as if by `SHRINK` further exposures.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import sys
from pathlib import Path

import polars as pl

from dmtl_cli.errors import Exit, UserError

SHRINK = 8
RECENT = 30
READ_SECONDS = 30
LENGTHS = {"still": (0, 0), "short": (0, 12), "middle": (12, 50), "long": (50, 10**6)}
"""classes of videos by seconds, (above, up to); `still`: no duration is known, pictures mostly"""

REQUIRED = ("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "long_view", "play_time_ms", "duration_ms")
OPTIONAL = ("tab", "is_like", "is_hate", "label", "is_follow", "is_comment", "is_forward", "is_profile_enter")
USER_TEXT = ("user_active_degree", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range")
USER_NUMBERS = (
    *("register_days", "follow_user_num", "fans_user_num", "friend_user_num"),
    *("is_live_streamer", "is_video_author", *(f"onehot_feat{k}" for k in range(18))),
)
VIDEO_TEXT = ("video_type", "upload_type", "tag")
VIDEO_NUMBERS = ("author_id", "music_type")


def files(raw: Path, *patterns: str) -> list[Path]:
    """Files of the first pattern that has any."""
    for pattern in patterns:
        if found := sorted(raw.glob(pattern)):
            return found
    raise UserError(f"{raw}: no {' or '.join(patterns)}", "RAW is the folder with KuaiRand's CSV files", Exit.NO_INPUT)


def read(file: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> pl.DataFrame:
    """Columns as text, so that every id is exact; cells that say `unknown` are null."""
    with file.open(encoding="utf-8-sig") as f:
        header = f.readline().rstrip("\r\n")
    separator = "\t" if "\t" in header else ","
    names = header.split(separator)
    if missing := [c for c in required if c not in names]:
        raise UserError(f"{file}: no column {missing[0]}, it has {', '.join(names[:30])}")
    wanted = [c for c in (*required, *optional) if c in names]
    try:
        return pl.read_csv(
            file,
            separator=separator,
            columns=wanted,
            infer_schema=False,
            null_values=["", "-124", "-124.0", "UNKNOWN"],
        ).select(wanted)
    except pl.exceptions.PolarsError as e:
        raise UserError(f"{file}: not a CSV file: {e}") from None


def integers(table: pl.DataFrame, columns: tuple[str, ...], file: Path, needed: bool = False) -> pl.DataFrame:
    """These text columns as int64 (`4.0` is 4). Raises UserError for other text, and for nulls if `needed`."""
    for c in [c for c in columns if c in table.columns]:
        whole = table[c].str.replace(r"\.0$", "").cast(pl.Int64, strict=False)
        bad = whole.is_null() & (table[c].is_not_null() | needed)
        if bad.any():
            at = int(bad.arg_true()[0])
            raise UserError(f"{file}: column {c}, row {at + 1}: expected a whole number, got {table[c][at]!r}")
        table = table.with_columns(whole.alias(c))
    return table


def read_events(raw: Path) -> pl.DataFrame:
    """Every exposure once, in order; labels `like` and `hate` under their official names."""
    parts = []
    for file in files(raw, "log_standard_*.csv", "processed_standard*.csv"):
        part = integers(read(file, REQUIRED, OPTIONAL), REQUIRED, file, needed=True)
        part = integers(part, OPTIONAL, file)
        day = part["date"].cast(pl.String).str.to_date("%Y%m%d", strict=False)
        if day.is_null().any():
            at = int(day.is_null().arg_true()[0])
            raise UserError(f"{file}: column date, row {at + 1}: expected YYYYMMDD, got {part['date'][at]}")
        if "label" in part.columns:
            part = part.with_columns(is_like=pl.col("label"), is_hate=1 - pl.col("label")).drop("label")
        parts.append(part.with_columns(day=day))
    log = pl.concat(parts, how="diagonal").unique()
    if not len(log):
        raise UserError(f"{raw}: the log has no rows", code=Exit.NO_INPUT)
    return log.select(
        "day",
        "user_id",
        "video_id",
        "time_ms",
        (pl.col("hourmin") // 100).cast(pl.Int32).alias("hour"),
        *([pl.col("tab").cast(pl.Int32)] if "tab" in log.columns else []),
        pl.col("is_click").cast(pl.Int8),
        (pl.col("play_time_ms") / 1000).alias("play_seconds"),
        *(pl.col(c).cast(pl.Int8) for c in ("long_view", *OPTIONAL) if c in log.columns and c != "tab"),
        "play_time_ms",
        "duration_ms",
    ).sort("time_ms", "user_id", "video_id", pl.all())


def read_features(raw: Path, pattern: str, key: str, text: tuple[str, ...], numbers: tuple[str, ...]) -> pl.DataFrame:
    parts = []
    for file in files(raw, pattern):
        part = read(file, (key, *text, *numbers))
        parts.append(integers(integers(part, (key,), file, needed=True), numbers, file))
    return pl.concat(parts).unique(key, keep="first", maintain_order=True)


def main() -> None:
    pass
