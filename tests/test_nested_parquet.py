"""A Parquet log whose columns are objects is the log of their fields as columns, `track.id`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import unseen
from formats import write
from initiated import features, made
from worlds import BASE, DAYS, Project, dmtl

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.log.day import Day
from dmtl_cli.data.log.reader import Log

DAY, ROWS = dt.date(2026, 1, 31), 400
FOLDER = f"day={DAY}"
FLAT = ("track.id", "track.artist", "track.genres", "track.album.year", "track.album.label.name")
FEATURES = (
    Feature(name="user", column="who.id", side="user", kind="categorical"),
    Feature(name="town", column="home.town", side="user", kind="categorical"),
    Feature(name="track", column="track.id", side="item", kind="categorical"),
    Feature(name="artist", column="track.artist", side="item", kind="categorical"),
    Feature(name="genres", column="track.genres", side="item", kind="sequence", max_length=3),
    Feature(name="year", column="track.album.year", side="item", kind="numeric"),
    Feature(name="label", column="track.album.label.name", side="context", kind="categorical"),
)


def flat_log(rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and a table of users under dotted names; rows of a track without an album, and of an album without a
    label."""
    item = rng.integers(0, 30, ROWS)
    seconds = int(dt.datetime(2026, 1, 31, tzinfo=dt.UTC).timestamp()) + np.sort(rng.integers(0, 86_400, ROWS))
    frame = pl.DataFrame(
        {
            "track.id": [f"t{i}" for i in item],
            "track.artist": [None if i % 7 == 0 else f"a{i % 5}" for i in item],
            "track.genres": [None if i % 5 == 0 else ["x", "y", "z"][: i % 4] for i in item],
            "track.album.year": pl.Series([None if i % 3 == 0 else 1990 + int(i) for i in item], dtype=pl.Int32),
            "track.album.label.name": [None if i % 3 == 0 or k % 2 else f"l{i % 4}" for k, i in enumerate(item)],
            "who.id": rng.integers(1, 40, ROWS),
            "meta.at": pl.Series(seconds * 1_000_000).cast(pl.Datetime("us", "UTC")),
            "seen.click": rng.random(ROWS) < 0.5,
            "seen.seconds": [float(x) if x > 20 else None for x in rng.integers(0, 90, ROWS)],
        }
    )
    users = pl.DataFrame({"profile.key": range(1, 40), "home.town": [None if k % 4 == 0 else f"c{k % 6}" for k in range(39)]})
    return frame, users


def nested(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns `a.b` as objects; one whose fields are all null is null itself."""
    while dotted := [c for c in frame.columns if "." in c]:
        deepest = max(c.count(".") for c in dotted)
        above = sorted({c.rpartition(".")[0] for c in dotted if c.count(".") == deepest})
        for name in above:
            parts = [c for c in frame.columns if c.rpartition(".")[0] == name]
            whole = pl.struct(pl.col(c).alias(c.rpartition(".")[2]) for c in parts)
            there = pl.any_horizontal(pl.col(c).is_not_null() for c in parts)
            frame = frame.with_columns(pl.when(there).then(whole).alias(name)).drop(parts)
    return frame


def data(root: Path, **events: Any) -> Data:
    roles = {"user": "who.id", "item": "track.id", "time": "meta.at", "click": "seen.click", "duration": "seen.seconds"}
    users = SideTable(path="users", key="profile.key")
    return Data(root=str(root), timezone="UTC", events=Events(**roles | events), users=users)


def put(root: Path, events: pl.DataFrame, users: pl.DataFrame, at: str = FOLDER) -> None:
    """Events in two files of several row groups."""
    for k, part in enumerate(events.iter_slices(-(-len(events) // 2))):
        place = root / "events" / at
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(part.to_arrow(compat_level=pl.CompatLevel.oldest()), place / f"{k}.parquet", row_group_size=70)
    (root / "users").mkdir()
    users.write_parquet(root / "users" / "all.parquet")


def read(root: Path, **events: Any) -> Day:
    return Log(data(root, **events), FEATURES, timed=True).read(DAY, root)


def assert_same(one: Day, other: Day) -> None:
    assert one.users.equals(other.users) and one.items.equals(other.items) and one.facts == other.facts
    mine, theirs = ([*d.spool.read(d.spool.whole, 1 << 20)] for d in (one, other))
    assert len(mine) == len(theirs) > 0 and all(a.equals(b) for a, b in zip(mine, theirs, strict=True))


def vocabularies(day: Day) -> dict[str, list[Any]]:
    encoder = Encoder.build(FEATURES, [day])
    return {name: v.values.to_list() for name, v in encoder.vocabularies.items() if isinstance(v, Vocabulary)}


def test_the_same_day(tmp_path: Path) -> None:
    events, users = flat_log(np.random.default_rng(3))
    put(tmp_path / "flat", events, users)
    put(tmp_path / "nested", nested(events), nested(users))
    schema = pq.read_schema(tmp_path / "nested/events" / FOLDER / "0.parquet")
    assert sorted(schema.names) == ["meta", "seen", "track", "who"]
    assert pq.read_table(tmp_path / "nested/events" / FOLDER / "0.parquet", partitioning=None)["track"].type.field("album")
    one, other = read(tmp_path / "flat"), read(tmp_path / "nested")
    assert_same(one, other)
    assert one.items["year"].null_count() > 0 and one.items["genres"].null_count() > 0
    assert vocabularies(one) == vocabularies(other)
