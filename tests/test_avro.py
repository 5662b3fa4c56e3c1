"""A log in Avro files is the log in Parquet; see test_formats.py for its days and layouts."""

from __future__ import annotations

import datetime as dt
import io
import re
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from formats import FIRST, SECOND, avro, encoded, finder, table
from initiated import frame, made
from worlds import DAYS, Ended, Project, assert_one_line, dmtl

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.formats import avro as reading
from dmtl_cli.data.log.formats.avro import AvroFile
from dmtl_cli.data.log.formats.source import Store

UTC = dt.UTC


def rows_of(home: Path, content: bytes) -> list[pl.DataFrame]:
    (home / "x.avro").write_bytes(content)
    return [rows.frame for rows in AvroFile(Store(str(home)).file("x.avro")).rows()]


def read(home: Path, fields: list[tuple[str, Any]], rows: list[dict[str, Any]]) -> pl.DataFrame:
    (found,) = rows_of(home, avro(fields, rows))
    return found


# -- types -------------------------------------------------------------------------------------------------------------

AT = dt.datetime(2026, 1, 31, 12, 30, 15, 123000)
ENUM = {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}


def logical(stored: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": stored, "logicalType": name, **more}


TYPES: dict[str, tuple[Any, Any, pl.DataType, Any]] = {
    "boolean": ("boolean", True, pl.Boolean(), True),
    "int": ("int", 7, pl.Int32(), 7),
    "long": ("long", -(2**63), pl.Int64(), -(2**63)),
    "float": ("float", 0.5, pl.Float32(), 0.5),
    "double": ("double", 0.1, pl.Float64(), 0.1),
    "string": ("string", "日本", pl.String(), "日本"),
    "bytes": ("bytes", b"\xff", pl.Binary(), b"\xff"),
    "fixed": ({"type": "fixed", "name": "F", "size": 2}, b"ab", pl.Binary(), b"ab"),
    "enum": (ENUM, "RED", pl.String(), "RED"),
    "uuid": (logical("string", "uuid"), str(uuid.UUID(int=7)), pl.String(), str(uuid.UUID(int=7))),
    "date": (logical("int", "date"), dt.date(2026, 1, 31), pl.Date(), dt.date(2026, 1, 31)),
    "time-millis": (logical("int", "time-millis"), dt.time(1, 2, 3), pl.Time(), dt.time(1, 2, 3)),
    "time-micros": (logical("long", "time-micros"), dt.time(1, 2, 3, 4), pl.Time(), dt.time(1, 2, 3, 4)),
    "millis": (
        logical("long", "timestamp-millis"), AT.replace(tzinfo=UTC),
        pl.Datetime("ms", "UTC"), AT.replace(tzinfo=UTC),
    ),
    "micros": (
        logical("long", "timestamp-micros"), AT.replace(tzinfo=UTC),
        pl.Datetime("us", "UTC"), AT.replace(tzinfo=UTC),
    ),
    "nanos": (
        logical("long", "timestamp-nanos"), 1_000_000_123_000,
        pl.Datetime("ns", "UTC"), dt.datetime(1970, 1, 1, 0, 16, 40, 123, tzinfo=UTC),
    ),
    "local": (logical("long", "local-timestamp-millis"), AT, pl.Datetime("ms"), AT),
    "decimal": (logical("bytes", "decimal", precision=9, scale=2), Decimal("-12.34"), pl.Float64(), -12.34),
    "whole": (logical("bytes", "decimal", precision=12), Decimal(123456789), pl.Int64(), 123456789),
    "array": ({"type": "array", "items": ["null", "long"]}, [1, None], pl.List(pl.Int64()), [1, None]),
    "map": (
        {"type": "map", "values": "long"}, {"a": 1},
        pl.Map(pl.String(), pl.Int64()), {"a": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("optional", [False, True])
def test_types(tmp_path: Path, name: str, optional: bool) -> None:
    schema, value, kind, expected = TYPES[name]
    found = read(tmp_path, [("x", ["null", schema] if optional else schema)], [{"x": value}] * 2)
    assert found.schema == {"x": kind} and found["x"].to_list() == [expected] * 2
    if optional:
        empty = read(tmp_path, [("x", ["null", schema])], [{"x": None}, {"x": value}])
        assert empty.schema == {"x": kind} and empty["x"].to_list() == [None, expected]


def record(called: str, /, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": called, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


UNIONS: dict[str, tuple[list[Any], list[Any], dict[str, Any], dict[str, list[Any]]]] = {
    "numbers": (["int", "double"], [1, 2.5], {"x": pl.Float64()}, {"x": [1.0, 2.5]}),
    "integers": (["int", "long", "null"], [1, 2**40], {"x": pl.Int64()}, {"x": [1, 2**40]}),
    "numbers and texts": (["null", "string", "long"], ["a", 7, None], {"x": pl.String()}, {"x": ["a", "7", None]}),
    "yes, no and texts": (["string", "boolean"], ["a", True], {"x": pl.String()}, {"x": ["a", "true"]}),
    "bytes and texts": (["string", "bytes"], ["a", b"\xc3\xbc"], {"x": pl.String()}, {"x": ["a", "ü"]}),
    "lists and texts": (
        ["string", {"type": "array", "items": "int"}], ["a", [1, 2]], {"x": pl.String()}, {"x": ["a", "[1, 2]"]},
    ),
    "records": (
        ["null", record("Seen", id="long", place="string"), record("Bought", id="string", price="double")],
        [{"id": 1, "place": "top"}, None, {"id": "b", "price": 2.5}],
        {"x.id": pl.String(), "x.place": pl.String(), "x.price": pl.Float64()},
        {"x.id": ["1", None, "b"], "x.place": ["top", None, None], "x.price": [None, None, 2.5]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNIONS)
def test_values_of_several_types(tmp_path: Path, name: str) -> None:
    union, values, schema, expected = UNIONS[name]
    found = read(tmp_path, [("x", union)], [{"x": value} for value in values])
    assert dict(found.schema) == schema and found.to_dict(as_series=False) == expected


def test_records_in_records_and_in_lists(tmp_path: Path) -> None:
    """Named types are used again by their name; a record within itself is text."""
    item = record("Item", id="long", color=["null", ENUM], price=["null", logical("bytes", "decimal", precision=5)])
    tree = record("Tree", name="string", below={"type": "array", "items": "Tree"})
    fields = [
        ("main", item),
        ("more", {"type": "array", "items": "Item"}),
        ("shade", ["null", "Color"]),
        ("tree", tree),
    ]
    one, two = {"id": 1, "color": "RED", "price": Decimal(3)}, {"id": 2, "color": None, "price": None}
    leaf = {"name": "b", "below": []}
    found = read(
        tmp_path, fields, [{"main": one, "more": [one, two], "shade": "BLUE", "tree": {"name": "a", "below": [leaf]}}]
    )
    assert found.to_dict(as_series=False) == {
        "main.id": [1], "main.color": ["RED"], "main.price": [3],
        "more.id": [[1, 2]], "more.color": [["RED", None]], "more.price": [[3, None]],
        "shade": ["BLUE"], "tree.name": ["a"], "tree.below": [['{"name": "b", "below": []}']],
    }  # fmt: skip


def test_a_time_of_no_calendar_and_a_fixed_uuid(tmp_path: Path) -> None:
    """Python has no such year."""
    never = 253_402_300_800_000 * 2
    schema = {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}
    fields: list[tuple[str, Any]] = [("at", logical("long", "timestamp-millis")), ("id", schema)]
    found = read(tmp_path, fields, [{"at": never, "id": uuid.UUID(int=9).bytes}])
    assert found["at"].dt.epoch("ms").to_list() == [never] and found["id"].to_list() == [str(uuid.UUID(int=9))]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard", "bzip2", "xz"])
def test_codecs(tmp_path: Path, codec: str) -> None:
    (found,) = rows_of(tmp_path, avro([("x", "long")], [{"x": k} for k in range(900)], codec))
    assert found["x"].to_list() == [*range(900)]


# -- pieces and damage -------------------------------------------------------------------------------------------------


def test_a_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows in the file is not decoded before it is asked for."""
    monkeypatch.setattr(reading, "STEP", 100)
    decoded = list[int]()
    whole = fastavro.reader

    class Counted:
        def __init__(self, raw: Any) -> None:
            self.of = whole(raw)
            self.writer_schema, self.codec = self.of.writer_schema, self.of.codec

        def __iter__(self) -> Any:
            for row in self.of:
                decoded.append(1)
                yield row

    monkeypatch.setattr(fastavro, "reader", Counted)
    (tmp_path / "x.avro").write_bytes(avro([("x", "long")], [{"x": k} for k in range(250)]))
    found = AvroFile(Store(str(tmp_path)).file("x.avro")).rows()
    first = next(found)
    assert len(decoded) == 100 and first.numbers == range(1, 101)
    assert [(len(rows.frame), rows.first) for rows in found] == [(100, 101), (50, 201)]


def test_a_file_without_rows(tmp_path: Path) -> None:
    (found,) = rows_of(tmp_path, avro([("x", "long"), ("y", record("Y", z="string"))], []))
    assert found.schema == {"x": pl.Int64(), "y.z": pl.String()} and not len(found)


def refused(home: Path, content: bytes, *words: str) -> UserError:
    with pytest.raises(UserError) as raised:
        rows_of(home, content)
    assert raised.value.code == Exit.DATA and str(home / "x.avro") in raised.value.message
    for word in words:
        assert word in raised.value.line(), raised.value.line()
    return raised.value


BLOCKS = avro([("x", "long"), ("t", "string")], [{"x": k, "t": f"text {k}"} for k in range(400)], sync_interval=1000)


def test_a_truncated_file(tmp_path: Path) -> None:
    """Cut anywhere, but for between two blocks, where nothing in the file tells it."""
    ends = {block.offset + block.size for block in fastavro.block_reader(io.BytesIO(BLOCKS))}
    begin = min(block.offset for block in fastavro.block_reader(io.BytesIO(BLOCKS)))
    for length in (0, 3, begin - 5, *range(begin + 1, begin + 40), *range(begin + 41, len(BLOCKS), 97)):
        if length not in ends:
            refused(
                tmp_path, BLOCKS[:length], "not a readable Avro file" if length < begin else "damaged Avro after row 0"
            )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PAR1 no Avro at all", "not a readable Avro file"),
        (BLOCKS[:-5] + b"wrong", "damaged Avro after row 0: expected sync marker not found; write the file again"),
        (BLOCKS[:700] + b"\xff" * 200 + BLOCKS[900:], "damaged Avro after row 0"),
        (
            BLOCKS.replace(b"deflate", b"brotli7"),
            "of codec brotli7, which is not installed; write it as null or deflate",
        ),
    ],
)
def test_what_is_wrong(tmp_path: Path, content: bytes, words: str) -> None:
    refused(tmp_path, content, words)


def test_a_codec_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> Any:
        raise ValueError("snappy codec is supported but you need to install one of the following libraries: ('x',)")

    monkeypatch.setitem(fastavro.read.BLOCK_READERS, "snappy", missing)
    content = avro([("x", "long")], [{"x": 1}], "snappy")
    refused(tmp_path, content, "of codec snappy, which is not installed", "pip install -e '.[avro]'")


def test_values_that_are_no_records(tmp_path: Path) -> None:
    raw = io.BytesIO()
    fastavro.writer(raw, {"type": "string"}, ["a"])
    refused(tmp_path, raw.getvalue(), "expected records, got string")


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "x.avro").write_bytes(BLOCKS)
    file = Store(str(tmp_path)).file("x.avro")
    (tmp_path / "x.avro").unlink()
    with pytest.raises(UserError, match="not there any more") as gone:
        next(AvroFile(file).rows())
    assert gone.value.code == Exit.NO_INPUT


# -- days --------------------------------------------------------------------------------------------------------------

FIELDS: list[tuple[str, Any]] = [
    ("user_id", "long"), ("item_id", "string"), ("click", "boolean"), ("seconds", ["null", "double"]),
]  # fmt: skip
ROW = {"user_id": 1, "item_id": "i", "click": True, "seconds": 3.0}


def test_files_of_one_table_with_other_schemas(tmp_path: Path) -> None:
    """A field more in a later file of a day is null in the rows of the others; an integer has become a long."""
    folder = tmp_path / "e" / f"day={FIRST}"
    folder.mkdir(parents=True)
    (folder / "0.avro").write_bytes(avro([("user_id", "int"), *FIELDS[1:]], [ROW]))
    (folder / "1.avro").write_bytes(avro([*FIELDS, ("place", ["null", "string"])], [ROW | {"place": "top"}]))
    (folder / "2.avro").write_bytes(avro(FIELDS, []))
    (folder / "notes.txt").write_text("no rows")
    made = Project.create(tmp_path, tmp_path)
    made.config["data"] = {"root": str(tmp_path), "format": "avro", "events": {"path": "e", "duration": "seconds"}}
    made.config["features"] = [{"name": "user", "column": "user_id", "side": "user", "kind": "categorical"}]
    made.config["features"] += [{"name": "item", "column": "item_id", "side": "item", "kind": "categorical"}]
    made.config["features"].append({"name": "place", "side": "context", "kind": "categorical"})
    made.write()
    parquet = Project.create(tmp_path / "p", tmp_path / "p")
    parquet.config = made.config | {"data": made.config["data"] | {"root": str(tmp_path / "p"), "format": "parquet"}}
    parquet.write()
    for name in ("0", "1", "2"):
        (frame,) = rows_of(tmp_path, (folder / f"{name}.avro").read_bytes())
        (tmp_path / "p/e" / folder.name).mkdir(parents=True, exist_ok=True)
        frame.write_parquet(tmp_path / "p/e" / folder.name / f"{name}.parquet")
    one, other = (project.call("check", "--day", FIRST) for project in (made, parquet))
    assert one.code == other.code == 0, (one.err, other.err)
    assert "2 rows" in one.out
    assert without_places(one) == without_places(other)


def without_places(ended: Ended) -> str:
    said = re.sub(r"\S*/(converted/events|e|config\.yaml)\b\S*", "FILE", ended.out + ended.err)
    return re.sub(r"\d+(\.\d+)? (s|MB|GB|min)\b", "N", said)


def test_one_file_of_two_days(tmp_path: Path) -> None:
    fields = [*FIELDS, ("d", logical("int", "date"))]
    rows = [ROW | {"d": day, "user_id": k} for k, day in enumerate((FIRST, SECOND, FIRST))]
    (tmp_path / "e.avro").write_bytes(avro(fields, rows))
    found = finder(tmp_path, "avro")
    assert table(found)["user_id"].to_list() == [0, 2] and table(found, SECOND)["user_id"].to_list() == [1]
    with pytest.raises(UserError, match=r"the log has 2026-01-01 \.\. 2026-01-02"):
        found.find(dt.date(2026, 1, 3))
    (tmp_path / "e.avro").write_bytes(avro(fields, rows[1:]))  # it is converted again
    assert table(finder(tmp_path, "avro"))["user_id"].to_list() == [2]


def test_types_have_no_effect(tmp_path: Path) -> None:
    made = Project.create(tmp_path, tmp_path)
    made.config["data"] = {
        "root": str(tmp_path),
        "format": "avro",
        "types": {"x": "int64"},
        "events": {"duration": "s"},
    }
    made.write()
    ended = made.call("check", "--day", DAYS[0])
    assert ended.code == 78 and "types has no effect: no table is of format csv or json" in ended.err


# -- init --------------------------------------------------------------------------------------------------------------


def put(home: Path, kind: str, rows: pl.DataFrame, place: str = "day={day}/part-0") -> None:
    day = pl.from_epoch(rows["ts"] if rows["ts"].dtype == pl.Int64 else rows["ts"].dt.epoch("s")).dt.date()
    for (at,), part in rows.with_columns(day.alias(":d")).group_by(":d", maintain_order=True):
        assert isinstance(at, dt.date)
        file = home / "clicks" / f"{place.format(day=at)}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(part.drop(":d"), kind))


def shown() -> pl.DataFrame:
    """With a record, a list of records, and a time of its own type."""
    x = unseen.drawn(7)
    rng = np.random.default_rng(7)
    rows = frame(7)
    at = pl.Series(x["at"] * 1000).cast(pl.Datetime("ms", "UTC"))
    tags = [[{"slug": f"s{t}"} for t in range(1 + i % 3)] for i in x["item"]]
    device = [
        {"os": str(os), "app": int(k)}
        for os, k in zip(rng.choice(["ios", "android"], len(at)), x["user"] % 3, strict=True)
    ]
    return rows.with_columns(at.alias("ts"), pl.Series("topics", tags), pl.Series("device", device))


def both(home: Path, rows: pl.DataFrame, place: str = "day={day}/part-0") -> list[tuple[str, str]]:
    """What init says and writes of a log in Parquet and in Avro."""
    out = []
    for kind in ("parquet", "avro"):
        ended, _, text = made(home / kind, lambda log, kind=kind: put(log, kind, rows, place))  # type: ignore[misc]
        assert ended.code == 0, ended.err
        said, written = (_plain(x, home / kind) for x in (ended.out, text))
        out.append((said, written))
    return out


def _plain(text: str, home: Path) -> str:
    """Without places and what takes time."""
    return re.sub(r"\d+(\.\d+)? (s|MB|GB|min|minutes)\b", "N", text.replace(str(home), "HOME"))


def test_init_writes_the_config_of_parquet(tmp_path: Path) -> None:
    """And `check` says the same of the day."""
    (said, text), (mine, written) = both(tmp_path, shown())
    assert "topics.slug" in text and "device.os" in text
    head, *lines = written.splitlines()
    assert head.startswith("# Written by dmtl init HOME/log: ")
    assert [line for line in lines if line not in text.splitlines()] == ["  format: avro"]
    assert mine == said.replace("clicks: parquet, ", "clicks: avro, ")
    data = yaml.safe_load(written)["data"]
    assert data["format"] == "avro" and data["events"]["path"] == "clicks"


def test_a_day_is_that_of_parquet(tmp_path: Path) -> None:
    """What is trained of it has the same bytes."""
    both(tmp_path, shown())
    found = []
    for kind in ("parquet", "avro"):
        of = ("--config", tmp_path / kind / "mine.yaml", "--set", f"workspace={tmp_path / kind / 'ws'}")
        for command in ("build-profile", "train-teacher"):
            ended = dmtl(command, *of, "--day", "2026-03-01")
            assert ended.code == 0, ended.err
        files = sorted((tmp_path / kind / "ws").rglob("*.safetensors"))
        assert files
        found.append([file.read_bytes() for file in files])
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["parquet", "avro"])
def test_check_says_which_days_lack_a_column(tmp_path: Path, kind: str) -> None:
    """One that is there and null is there."""
    put(tmp_path / "log", kind, shown())
    first, *days = sorted((tmp_path / "log").rglob(f"*.{kind}"))
    for k, file in enumerate((first, *days)):
        rows = pl.read_parquet(file) if kind == "parquet" else pl.concat(rows_of(tmp_path, file.read_bytes()))
        arm = pl.lit(None, dtype=pl.String) if k == 1 else pl.lit("a")
        rows = rows.select(["user_id", "item_id", "ts", "clicked", "watch_seconds"])
        file.write_bytes(encoded(rows.with_columns(arm.alias("arm")) if k else rows, kind))
    config = Project.create(tmp_path / "p", tmp_path / "log")
    roles = {"user": "user_id", "item": "item_id", "click": "clicked", "duration": "watch_seconds", "time": "ts"}
    config.config["data"] = {"root": str(tmp_path / "log"), "format": kind, "events": {"path": "clicks", **roles}}
    named = {"user": ("user_id", "user"), "item": ("item_id", "item"), "arm": ("arm", "context")}
    config.config["features"] = [
        {"name": name, "column": column, "side": side, "kind": "categorical"} for name, (column, side) in named.items()
    ]
    config.write()
    ended = config.call("check", "--day", "2026-03-03", "--json")
    (said,) = (x for x in ended.json["suggestions"] if x.startswith("arm: "))
    assert "from 2026-03-02 on only, the log has 2026-03-01" in said


def test_init_reads_what_kafka_connect_writes(tmp_path: Path) -> None:
    """Folders of the parts of a day, and offsets in the names."""
    rows = shown()
    place = "year={day:%Y}/month={day:%m}/day={day:%d}/hour=00/clicks+0+0000000042"
    ended, raw, _ = made(tmp_path, lambda log: put(log, "avro", rows, place))
    assert ended.code == 0, ended.err
    assert raw["data"]["format"] == "avro" and "{day:%Y/month=%m/day=%d}" in raw["data"]["events"]["path"]


def test_init_finds_avro_without_an_ending(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, lambda log: put(log, "avro", shown(), "day={day}/part-0"))
    for file in (tmp_path / "log").rglob("*.avro"):
        file.rename(file.with_suffix(""))
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "other.yaml")
    raw = yaml.safe_load((tmp_path / "other.yaml").read_text())
    assert ended.code == 0 and raw["data"]["format"] == "avro", ended.err


def test_init_reads_one_file_of_all_days_beside_a_table_of_parquet(tmp_path: Path) -> None:
    rows = shown()

    def write(log: Path) -> None:
        (log / "clicks.avro").write_bytes(encoded(rows, "avro"))
        items = pl.DataFrame({"item_id": rows["item_id"].unique(maintain_order=True)})
        items.with_columns(pl.int_range(pl.len()).mod(5).cast(pl.String).alias("genre")).write_parquet(
            log / "items.parquet"
        )

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    data = raw["data"]
    assert (data["format"], data["events"]["path"], data["events"]["date_column"]) == ("avro", "clicks.avro", "ts")
    assert data["items"]["path"] == "items.parquet" and data["items"]["format"] == "parquet"


def test_init_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "fastavro" else real(name, *more)
    )
    put(tmp_path / "log", "avro", shown())
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml")
    assert ended.code == Exit.CONFIG
    assert_one_line(ended.err)
    assert (
        "data.format: avro needs fastavro, which is not installed; in dmtl's clone, pip install -e '.[avro]'"
        in ended.err
    )


def test_init_of_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "clicks.avro").write_bytes(BLOCKS[:-9])
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml")
    assert ended.code == Exit.DATA and "damaged Avro" in ended.err
    assert_one_line(ended.err)
