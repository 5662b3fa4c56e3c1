"""Turns a folder of KuaiRand files into a log that configs/kuairand.yaml or configs/kuairand_pure.yaml reads.

    python scripts/prepare_kuairand.py RAW [OUT=data/kuairand] [--features FOLDER=RAW]

RAW holds the log, the first of these that is there, all its files together:

    log_standard_*.csv                           the official layouts
    processed_standard*.csv                      the subset of liked and hated exposures
    train.parquet, val.parquet, test.parquet     official columns split by day, those of KuaiRand-Pure

FOLDER holds `user_features*.csv` and `video_features_basic*.csv`. CSV files have comma or TAB. Other files are not
read: `log_random_*` is another policy, `video_features_statistic_*` is counted over the whole period, the days to be
predicted included. Of a split only the official columns are read: those it adds repeat outcomes (watch_ratio, finish,
like, long_watch, is_positive) or the video table. Tested on the subset, on val and test of KuaiRand-Pure, and on small
files with the official column names.

OUT appears whole (a scratch folder, then a rename) and replaces the log of an earlier run:

    events/day=D/part-0.parquet  exposures of day D (Beijing time: the column `date`), in order of time, user, video
    users/part-0.parquet         users of the log (no others) and what is known of them, the same on all days
    items/day=D/part-0.parquet   videos seen up to day D: their known features, and how long they are

What users and videos did before a day (histories, counts, rates) is not here: the pipeline's profiles make it of the
events. KuaiRand does not say when most videos were uploaded, so a video joins the catalogue on the first day that shows
it. Being new in it therefore tells that it will be shown that day, which a real catalogue would not tell.

Unknown values (-124, UNKNOWN, an empty cell, a duration of 0) are null. Exact duplicates are dropped.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import sys
from pathlib import Path

import polars as pl

from dmtl_cli.config.errors import Exit, UserError

REQUIRED = ("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "long_view", "play_time_ms", "duration_ms")
APART = ("comment_stay_time", "profile_stay_time", "is_rand")
"""read only to tell exact duplicates from rows that differ here"""
OPTIONAL = ("tab", "is_like", "is_hate", "label", "is_follow", "is_comment", "is_forward", "is_profile_enter")
USER_TEXT = ("user_active_degree", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range")
USER_NUMBERS = (
    *("register_days", "follow_user_num", "fans_user_num", "friend_user_num"),
    *("is_live_streamer", "is_video_author", *(f"onehot_feat{k}" for k in range(18))),
)
VIDEO_TEXT = ("video_type", "upload_type", "tag")
VIDEO_NUMBERS = ("author_id", "music_type")
SPLITS = ("train.parquet", "val.parquet", "test.parquet")
UNKNOWN = ("-124", "-124.0", "UNKNOWN")
RAW_IS = "RAW is the folder with KuaiRand's files"


def files(folder: Path, *patterns: str, hint: str) -> list[Path]:
    """Files of the first pattern that has any."""
    for pattern in patterns:
        if found := sorted(folder.glob(pattern)):
            return found
    raise UserError(f"{folder}: no {' or '.join(patterns)}", hint, Exit.NO_INPUT)


def log_files(raw: Path) -> list[Path]:
    """Files of the log in the first layout that is there."""
    tables = ("log_standard_*.csv", "processed_standard*.csv")
    splits = [raw / name for name in SPLITS if (raw / name).is_file()]
    if splits and not any(file for pattern in tables for file in raw.glob(pattern)):
        return splits
    return files(raw, *tables, hint=f"{RAW_IS}; splits are {', '.join(SPLITS)}")


def read(file: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> pl.DataFrame:
    """Columns as text, so that every id is exact; cells that say `unknown` are null."""
    if file.suffix == ".parquet":
        return read_split(file, required, optional)
    with file.open(encoding="utf-8-sig") as f:
        header = f.readline().rstrip("\r\n")
    separator = "\t" if "\t" in header else ","
    wanted = wanted_columns(file, header.split(separator), required, optional)
    try:
        return pl.read_csv(
            file, separator=separator, columns=wanted, infer_schema=False, null_values=["", *UNKNOWN]
        ).select(wanted)
    except pl.exceptions.PolarsError as e:
        raise UserError(f"{file}: not a CSV file: {e}") from None


def read_split(file: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> pl.DataFrame:
    """Columns of a Parquet file as `read` gives those of a CSV file."""
    try:
        wanted = wanted_columns(file, list(pl.read_parquet_schema(file)), required, optional)
        text = pl.col(wanted).cast(pl.String)
        return pl.read_parquet(file, columns=wanted).select(pl.when(~text.is_in(UNKNOWN)).then(text))
    except pl.exceptions.PolarsError as e:
        raise UserError(f"{file}: not a Parquet file of numbers and text: {str(e).splitlines()[0]}") from None


def wanted_columns(file: Path, names: list[str], required: tuple[str, ...], optional: tuple[str, ...]) -> list[str]:
    """The columns to read. Raises UserError if a required one is missing."""
    if missing := [c for c in required if c not in names]:
        raise UserError(f"{file}: no column {missing[0]}, it has {', '.join(names[:30])}")
    return [c for c in (*required, *optional) if c in names]


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
    for file in log_files(raw):
        part = integers(read(file, REQUIRED, (*OPTIONAL, *APART)), REQUIRED, file, needed=True)
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
        "duration_ms",
    ).sort("time_ms", "user_id", "video_id", pl.all())


def read_features(
    folder: Path, pattern: str, key: str, text: tuple[str, ...], numbers: tuple[str, ...]
) -> pl.DataFrame:
    parts = []
    for file in files(folder, pattern, hint=f"{RAW_IS}; if the tables are elsewhere, give --features FOLDER"):
        part = read(file, (key, *text, *numbers))
        parts.append(integers(integers(part, (key,), file, needed=True), numbers, file))
    return pl.concat(parts).unique(key, keep="first", maintain_order=True)


def users_of(log: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Every user of the log."""
    return log.select(pl.col("user_id").unique().sort()).join(features, on="user_id", how="left", maintain_order="left")


def items_of(log: pl.DataFrame, day: dt.date, features: pl.DataFrame) -> pl.DataFrame:
    """Every video seen up to day `day`."""
    longest = pl.col("duration_ms").filter(pl.col("duration_ms") > 0).max() / 1000
    catalogue = log.filter(pl.col("day") <= day).group_by("video_id").agg(longest.alias("duration_seconds"))
    return catalogue.join(features, on="video_id", how="left").sort("video_id")


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write(table: pl.DataFrame, folder: Path) -> None:
    folder.mkdir(parents=True)
    table.write_parquet(folder / "part-0.parquet")


def prepare(raw: Path, out: Path, features: Path | None = None) -> list[tuple[dt.date, int, int, int]]:
    """Writes the log; returns day, rows, users and videos of each day. Feature tables are in `features`, or in `raw`.

    Raises:
        UserError: a file or column is missing, a value is not what it should be, or OUT is not a log to replace.
    """
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder", RAW_IS, Exit.NO_INPUT)
    features = features or raw
    if not features.is_dir():
        raise UserError(f"{features}: no such folder", "FOLDER is the one with user_features*.csv", Exit.NO_INPUT)
    kept = {p.name for p in out.iterdir()} - {"events", "users", "items"} if out.is_dir() else set()
    if kept or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: is not an earlier log, it will not be replaced", "give another OUT")
    log = read_events(raw)
    user_features = read_features(features, "user_features*.csv", "user_id", USER_TEXT, USER_NUMBERS)
    video_features = read_features(features, "video_features_basic*.csv", "video_id", VIDEO_TEXT, VIDEO_NUMBERS)

    table = []
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        write(users_of(log, user_features), scratch / "users")
        for day in log["day"].unique().sort():
            events = log.filter(pl.col("day") == day)
            write(events.drop("day", "duration_ms"), scratch / f"events/day={day}")
            write(items_of(log, day, video_features), scratch / f"items/day={day}")
            table.append((day, len(events), events["user_id"].n_unique(), events["video_id"].n_unique()))
        if out.exists():
            out.rename(old := out.with_name(f"{scratch.name}.old"))
            scratch.rename(out)
            shutil.rmtree(old)
        else:
            scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="KuaiRand files -> a log for configs/kuairand*.yaml")
    parser.add_argument("raw", type=Path, metavar="RAW", help="folder with the log")
    parser.add_argument("out", type=Path, metavar="OUT", nargs="?", default=Path("data/kuairand"))
    tables = "folder with user_features*.csv and video_features_basic*.csv (default: RAW)"
    parser.add_argument("--features", type=Path, metavar="FOLDER", help=tables)
    args = parser.parse_args(argv)
    try:
        days = prepare(args.raw, args.out, args.features)
    except UserError as e:
        print(e.line(), file=sys.stderr)
        return int(e.code)
    except OSError as e:
        print(UserError(f"cannot read or write: {e}").line(), file=sys.stderr)
        return int(Exit.IO)
    print(f"{'day':10}  {'rows':>8}  {'users':>8}  {'videos':>8}")
    for day, *counts in days:
        print(f"{day}  " + "  ".join(f"{n:8d}" for n in counts))
    print(f"{len(days)} days, {sum(n for _, n, _, _ in days)} rows -> {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
