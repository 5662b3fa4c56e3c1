"""Ids beyond int64, as hashes without a sign are: `data.types: text` reads them, and `init` writes it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import unseen
from initiated import made
from pydantic import ValidationError
from worlds import dmtl

from dmtl_cli.config.data import Data
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.reader import Log

DAY = dt.date(2026, 3, 1)
FEATURES = (
    Feature(name="UserID", side="user", kind="categorical"),
    Feature(name="BannerID", side="item", kind="categorical"),
    Feature(name="seen", side="context", kind="sequence", max_length=5),
    Feature(name="Place", side="item", kind="categorical"),
)
_ODD = 0x9E3779B97F4A7C15


def hashed(numbers: pl.Series) -> pl.Series:
    """Distinct hashes of small numbers, half of them beyond int64."""
    return pl.Series(numbers.name, [(int(x) + 1) * _ODD % 2**64 for x in numbers], dtype=pl.UInt64)


def shown() -> pl.DataFrame:
    x = unseen.drawn(3)
    user, item = hashed(pl.Series("UserID", x["user"])), hashed(pl.Series("BannerID", x["item"]))
    frame = pl.DataFrame(
        {
            "HitID": hashed(pl.Series("HitID", range(unseen.ROWS))),
            "UserID": user,
            "BannerID": item,
            "EventTime": pl.Series(x["at"] * 1000).cast(pl.Datetime("ms")),
            "IsClick": x["click"],
            "Seconds": x["seconds"],
            "day": unseen.days_of(x),
        }
    )
    last = [item.slice(max(0, k - 3), min(k, 3)).to_list() for k in range(len(item))]
    return frame.with_columns(pl.Series("seen", last, dtype=pl.List(pl.UInt64)))


def banners() -> pl.DataFrame:
    number = pl.Series("BannerID", range(unseen.ITEMS))
    return pl.DataFrame({"BannerID": hashed(number), "Place": (number % 7).cast(pl.UInt8)})


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        pl.col(pl.UInt64).cast(pl.String), *(pl.col(c).cast(pl.List(pl.String)) for c in frame.columns if c == "seen")
    )


def put(home: Path, frame: pl.DataFrame, items: pl.DataFrame, clicks: pl.DataFrame | None = None) -> Path:
    for (day,), part in frame.group_by("day", maintain_order=True):
        for name, rows in (("hits", part), ("clicks", None if clicks is None else clicks.filter(day=day))):
            if rows is not None:
                (home / name).mkdir(parents=True, exist_ok=True)
                rows.drop("day").write_parquet(home / name / f"{day}.parquet")
    items.write_parquet(home / "banners.parquet")
    return home


def read(home: Path, types: dict[str, str], **events: Any) -> Day:
    roles = {"user": "UserID", "item": "BannerID", "time": "EventTime", "click": "IsClick", "duration": "Seconds"}
    data = Data(
        root=str(home),
        types=types,
        events={"path": "hits/{day}.parquet", **roles, **events},
        items={"path": "banners.parquet", "key": "BannerID"},
    )
    (home / "scratch").mkdir(exist_ok=True)
    return Log(data, FEATURES).read(DAY, home / "scratch")


IDS = {"UserID": "text", "BannerID": "text", "seen": "text"}


def test_they_are_read_as_the_same_ids_in_text_are(tmp_path: Path) -> None:
    """Of the events, of a table beside them and within lists."""
    one = read(put(tmp_path / "hashes", shown(), banners()), IDS)
    other = read(put(tmp_path / "texts", as_text(shown()), as_text(banners())), {})
    assert one.users.equals(other.users) and one.items.equals(other.items) and one.users[ID].dtype == pl.String
    assert one.items["Place"].null_count() == 0, "the table has them"
    assert one.users[ID].str.len_chars().max() == 20, "beyond int64"
    for mine, its in zip(one.blocks(), other.blocks(), strict=True):
        assert mine.user.tolist() == its.user.tolist() and mine.item.tolist() == its.item.tolist()


def test_what_came_of_exposures_names_them(tmp_path: Path) -> None:
    frame = shown()
    came = frame.filter(pl.col("IsClick") == 1).select("HitID", "day")
    table = {"path": "clicks/{day}.parquet", "key": "HitID", "columns": {"came": "COUNT(*) > 0"}}
    home = put(tmp_path, frame, banners(), came)
    day = read(home, IDS | {"HitID": "text"}, joined={"clicks": table}, click="came")
    mine = frame.filter(pl.col("day") == str(DAY))["IsClick"].sum()
    assert sum(int(block.click.sum()) for block in day.blocks()) == mine > 0


@pytest.mark.parametrize("objects", [False, True])
def test_init_writes_it_and_check_passes(tmp_path: Path, objects: bool) -> None:
    """Also where other columns are texts of objects, whose table is converted."""
    more = [pl.concat_str(pl.lit('{"os": "'), pl.col("UserID") % 3, pl.lit('"}')).alias("device")] if objects else []

    def write(log: Path) -> None:
        put(log, shown().drop("seen").with_columns(*more), banners())

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert {"UserID": "text", "BannerID": "text"}.items() <= raw["data"]["types"].items()
    assert "UserID: text  # integers beyond int64" in text
    assert raw["data"]["events"]["user"] == "UserID" and raw["data"]["items"]["key"] == "BannerID"
    assert "of items Place; " in " ".join(ended.out.split()), ended.out


def test_without_it_the_line_to_write_is_said(tmp_path: Path) -> None:
    ended, _, text = made(tmp_path, lambda log: put(log, shown(), banners()) and None)
    assert ended.code == 0
    config = tmp_path / "mine.yaml"
    config.write_text("\n".join(line for line in text.splitlines() if "UserID: text" not in line))
    ended = dmtl("check", "--config", config, "--day", "2026-03-02")
    assert ended.code == 65 and "expected an id within int64" in ended.err
    assert "set data.types.UserID: text" in ended.err


def test_a_newest_file_of_small_ids(tmp_path: Path) -> None:
    """int64 since yesterday: the days before it have hashes."""

    def write(log: Path) -> None:
        put(log, shown().drop("seen"), banners())
        newest = log / "hits/2026-03-03.parquet"
        pl.read_parquet(newest).with_columns(pl.col("UserID").hash().mod(10**6).cast(pl.Int64)).write_parquet(newest)

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["types"]["UserID"] == "text", ended.err
    assert dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-01").code == 0


def test_a_hash_of_one_table_leaves_that_name_of_others_alone(tmp_path: Path) -> None:
    """`id` is an exposure's in the events and a banner's in the table of these."""

    def write(log: Path) -> None:
        frame = shown().drop("seen", "IsClick").rename({"HitID": "id"})
        frame = frame.with_columns(UserID=pl.col("UserID") % 1000, BannerID=pl.col("BannerID") % 9973)
        came = shown().filter(pl.col("IsClick") == 1).select(pl.col("HitID").alias("event_id"), "Seconds", "day")
        items = banners().with_columns(pl.col("BannerID") % 9973).rename({"BannerID": "id"})
        put(log, frame.drop("Seconds"), items, came)

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["types"] == {"id": "text"} and "id" not in raw["data"].get("types", {}), text
    assert raw["data"]["items"]["key"] == "id"


def test_other_types_have_no_effect_on_parquet() -> None:
    events = {"user": "u", "item": "i", "click": "c", "duration": "d"}
    assert Data(root="log", types={"u": "text"}, events=events).types == {"u": "text"}
    with pytest.raises(ValidationError, match="types has no effect"):
        Data(root="log", types={"u": "text", "c": "int64"}, events=events)
