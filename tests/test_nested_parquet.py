"""A Parquet log whose columns are objects is the log of their fields as columns, `track.id`."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import unseen
from formats import write
from initiated import features, made
from worlds import DAYS, Project, assert_one_line, dmtl

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.formats.parquet import Parquet, flat
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
    users = pl.DataFrame(
        {"profile.key": range(1, 40), "home.town": [None if k % 4 == 0 else f"c{k % 6}" for k in range(39)]}
    )
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
    encoder = Encoder(FEATURES).grow([day])
    return {k: v.frame.to_dicts() for k, v in encoder.vocabularies.items() if isinstance(v, Vocabulary)}


def test_the_same_day(tmp_path: Path) -> None:
    events, users = flat_log(np.random.default_rng(3))
    put(tmp_path / "flat", events, users)
    put(tmp_path / "nested", nested(events), nested(users))
    table = pq.read_table(tmp_path / "nested/events" / FOLDER / "0.parquet", partitioning=None)
    assert sorted(table.column_names) == ["meta", "seen", "track", "who"]
    assert 0 < pc.struct_field(table["track"], "album").null_count < len(table), "an object that is null"
    one, other = read(tmp_path / "flat"), read(tmp_path / "nested")
    assert_same(one, other)
    assert one.items["year"].null_count() > 0 and one.items["genres"].null_count() > 0
    assert vocabularies(one) == vocabularies(other) and len(vocabularies(one)["label"]) > 2


def test_one_file_of_objects_beside_one_of_columns(tmp_path: Path) -> None:
    events, users = flat_log(np.random.default_rng(4))
    put(tmp_path / "flat", events, users)
    put(tmp_path / "mixed", events, users)
    half = tmp_path / "mixed/events" / FOLDER / "1.parquet"
    nested(pl.read_parquet(half)).write_parquet(half)
    assert_same(read(tmp_path / "flat"), read(tmp_path / "mixed"))


def test_fields_that_may_not_be_null_of_objects_that_may(tmp_path: Path) -> None:
    """The rows of a null object are null; those of an object that is there are what they were."""
    never = pa.struct([pa.field("id", pa.int64(), nullable=False)])
    kind = pa.struct([pa.field("inner", never), pa.field("at", pa.list_(pa.string()))])
    rows = [{"inner": {"id": 7}, "at": ["a"]}, None, {"inner": None, "at": []}, {"inner": {"id": 9}, "at": None}]
    pq.write_table(pa.table({"a": pa.array(rows, kind), "b": [1, 2, 3, 4]}), tmp_path / "x.parquet", row_group_size=3)
    with pq.ParquetFile(tmp_path / "x.parquet") as file:
        read = Parquet(file, tmp_path)
        assert read.schema_arrow.names == ["a.inner.id", "a.at", "b"]
        found = read.read()
        assert found.schema.equals(read.schema_arrow) and read.schema_arrow.field("a.inner.id").nullable
        assert found["a.inner.id"].to_pylist() == [7, None, None, 9]
        assert found["a.at"].to_pylist() == [["a"], None, [], None]
        assert pa.Table.from_batches(read.iter_batches(2), read.schema_arrow).equals(found)
        assert read.read(["a.at"]).column_names == ["a.at"]
        assert read.read_row_group(1, columns=["b", "a.inner.id"]).to_pydict() == {"a.inner.id": [9], "b": [4]}


def test_rows_without_objects_are_not_copied() -> None:
    table = pa.table({"a.b": [1], "c": [[[2]]]})
    assert flat(table) is table


def test_lists_of_one_length_are_lists(tmp_path: Path) -> None:
    """As polars' Array is written: their objects and decimals too are columns of lists and numbers."""
    rows: dict[str, list[Any]] = {
        "shown": [[{"item": "a"}, {"item": None}], None, [{"item": "b"}, None]],
        "price": [[Decimal("1.50"), None], None, [Decimal("2.25"), Decimal(3)]],
    }
    types = pa.struct([("item", pa.string())]), pa.decimal128(9, 2)
    for size in (-1, 2):
        columns = [pa.array(values, pa.list_(of, size)) for values, of in zip(rows.values(), types, strict=True)]
        pq.write_table(pa.table(columns, list(rows)).slice(1), tmp_path / f"{size}.parquet")
    variable, fixed = (Parquet(pq.ParquetFile(tmp_path / f"{size}.parquet"), "x") for size in (-1, 2))
    assert fixed.read().equals(variable.read()) and fixed.schema_arrow.names == ["shown.item", "price"]


@pytest.mark.parametrize("kind", ["parquet", "delta", "iceberg"])
def test_a_field_tells_the_day(tmp_path: Path, kind: str) -> None:
    """Of tables of two days in one; of Parquet by the footer's statistics."""
    events, users = flat_log(np.random.default_rng(5))
    before = events.with_columns(pl.col("meta.at") - pl.duration(days=1))
    put(tmp_path / "flat", events, users)
    both = tmp_path / "both"
    path = write(nested(pl.concat([before, events])), both, "events", kind)
    config = data(both, path=path, date_column="meta.at").model_copy(update={"format": kind, "users": None})
    plain = data(tmp_path / "flat").model_copy(update={"users": None})
    features = [f for f in FEATURES if f.name != "town"]
    log = Log(config, tuple(features), timed=True, converted=tmp_path / "converted")
    assert_same(Log(plain, tuple(features), timed=True).read(DAY, tmp_path / "flat"), log.read(DAY, both))
    log.read(DAY - dt.timedelta(1), both)
    with pytest.raises(UserError) as missing:
        log.find(DAY + dt.timedelta(1))
    words = "2026-01-30 .. 2026-01-31" if kind == "parquet" else "meta.at of day 2026-02-01"
    assert missing.value.code == Exit.NO_INPUT and words in missing.value.message


# -- what is refused ---------------------------------------------------------------------------------------------------

ODD: dict[str, tuple[pa.Array, str]] = {
    "parts.id": (pa.array([[[{"id": 1}]]] * 3), "column a.parts.id is lists of lists of int64, kind {kind} "),
    "map": (pa.array([[("k", 1)]] * 3, pa.map_(pa.string(), pa.int64())), "column a.map is map<string, int64"),
}


def project(home: Path, table: pa.Table, *features: dict[str, Any]) -> Project:
    folder = home / "log/events" / f"day={DAYS[0]}"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "0.parquet")
    made = Project.create(home, home / "log")
    made.config["data"] = {"root": str(home / "log"), "events": {"user": "u.id", "item": "i.id", "duration": "s"}}
    made.config["features"] = [
        {"name": "user", "column": "u.id", "side": "user", "kind": "categorical"},
        {"name": "item", "column": "i.id", "side": "item", "kind": "categorical"},
        *features,
    ]
    made.write()
    return made


def objects(**more: Any) -> pa.Table:
    users, items = ([{"id": k} for k in some] for some in ((1, 2, 3), (4, 5, 6)))
    return pa.table({"s": [1.0, 2.0, 90.0], "u": users, "i": items} | more)


def assert_refused(made: Project, *words: str) -> None:
    ended = made.call("check", "--day", DAYS[0])
    assert ended.code == Exit.DATA, ended.err
    assert_one_line(ended.err)
    for word in words:
        assert word in ended.err, ended.err


@pytest.mark.parametrize("kind", ["categorical", "sequence", "numeric"])
@pytest.mark.parametrize("name", ODD)
def test_lists_of_objects_and_maps(tmp_path: Path, name: str, kind: str) -> None:
    values, words = ODD[name]
    feature = {"name": "x", "column": f"a.{name}", "side": "context", "kind": kind}
    table = objects(a=pa.StructArray.from_arrays([values], [name.partition(".")[0]]))
    hint = "name the outer lists in data.events.explode" if name == "parts.id" else ""
    assert_refused(project(tmp_path, table, feature), words.format(kind=kind), f"kind {kind} expects ", hint)


def test_a_field_beside_a_column_of_its_name(tmp_path: Path) -> None:
    table = objects(a=[{"b": 1}] * 3).append_column("a.b", pa.array([1, 2, 3]))
    made = project(tmp_path, table)
    assert_refused(made, f"{DAYS[0]}/0.parquet: column a.b and a field of that name; give one of them another name")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml")
    assert ended.code == Exit.DATA and "column a.b and a field of that name" in ended.err
    assert_one_line(ended.err)


def test_a_field_beside_a_column_of_its_name_in_a_delta_table(tmp_path: Path) -> None:
    """Iceberg has no such table: its own names are dotted."""
    write(pl.DataFrame({"a": [{"b": 1}], "a.b": [2]}), tmp_path, "events", "delta")
    config = data(tmp_path, path="events", date_column="meta.at").model_copy(update={"format": "delta", "users": None})
    with pytest.raises(UserError, match=r"\.parquet: column a\.b and a field of that name") as refused:
        Log(config, (), converted=tmp_path / "converted").find(DAY)
    assert refused.value.code == Exit.DATA


def test_an_object_is_no_column(tmp_path: Path) -> None:
    made = project(tmp_path, objects())
    assert made.call("check", "--day", DAYS[0]).code == 0
    made.config["data"]["events"]["item"] = "i"
    made.write()
    assert_refused(made, "expects column i, which has fields: name one, as i.id (columns: i.id, s, u.id)")


def test_a_value_of_a_field_is_refused_by_its_name(tmp_path: Path) -> None:
    table = objects().set_column(2, "i", pa.array([{"id": 4}, None, {"id": 6}]))
    assert_refused(project(tmp_path, table), "0.parquet: column i.id, row 1: expected an id")


# -- init --------------------------------------------------------------------------------------------------------------


def plays(home: Path) -> None:
    """Folders of hours below those of days; what is known of a track is in an object."""
    x, rng = unseen.drawn(21), np.random.default_rng(21)
    genres = [["rock", "pop", "jazz"][: 1 + k % 3] for k in range(unseen.ITEMS)]
    frame = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in x["user"]],
            "playlist_id": [f"p{k}" for k in rng.integers(0, 300, unseen.ROWS)],
            "track": [{"id": f"t{i}", "artist": f"a{i % 7}", "genres": genres[i]} for i in x["item"]],
            "parts": [[{"n": 1}]] * unseen.ROWS,
            "ts": pl.Series(x["at"] * 1000).cast(pl.Datetime("ms", "UTC")),
            "clicked": x["click"] == 1,
            "play_ms": (x["seconds"] * 1000).astype(np.int64),
        }
    )
    folder = pl.col("ts").dt.strftime("date=%Y-%m-%d/hour=%H").alias(":at")
    for (at,), part in frame.with_columns(folder).group_by(":at", maintain_order=True):
        (home / "plays" / str(at)).mkdir(parents=True)
        part.drop(":at").write_parquet(home / "plays" / str(at) / "0.parquet")


def test_init_finds_the_item_in_an_object(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, plays)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["path"], events["partition"], events["item"]) == ("plays", "date", "track.id")
    read = features(raw)
    assert (
        read["track_artist"] | {"column": "track.artist", "side": "item", "kind": "categorical"} == read["track_artist"]
    )
    assert read["track_genres"] | {"column": "track.genres", "side": "item", "kind": "sequence"} == read["track_genres"]
    assert read["playlist_id"]["side"] == "context"
    assert read["parts_n"]["column"] == "parts.n"
    assert "day 2026-03-03:" in ended.out, "check was run"
