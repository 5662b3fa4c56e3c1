"""`init` on what warehouses and databases export: text without a header beside its DDL, typed values, names of days."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from initiated import config_of, made
from worlds import dmtl

from dmtl_cli.config.table import Csv
from dmtl_cli.data.log.formats.envelopes import unwrapped
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.data.log.formats.text_rows import csv_rows, json_rows
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.reading.ddl import declared
from dmtl_cli.guess.reading.files import group, listed_in
from dmtl_cli.guess.reading.rows import has_escapes

ROWS, ITEMS = 2_000, 120
FIRST = dt.date(2026, 1, 1)


def rows(seed: int = 1) -> pl.DataFrame:
    """Exposures of four days under names that say nothing by their place: a time first, then ids."""
    rng = np.random.default_rng(seed)
    click = rng.integers(0, 3, ROWS) == 0
    at = dt.datetime(2026, 1, 1) + np.arange(ROWS) * dt.timedelta(seconds=170)
    return pl.DataFrame({
        "shown_at": [str(t) for t in at.astype("datetime64[s]").astype(dt.datetime)],
        "item_id": [f"i{k}" for k in rng.integers(0, ITEMS, ROWS)],
        "user_id": [f"u{k}" for k in rng.integers(0, 110, ROWS)],
        "clicked": click.astype(int),
        "read_seconds": np.where(click, rng.exponential(40.0, ROWS).round(2), 0.0),
    })  # fmt: skip


def items(k: int) -> list[str]:
    return [
        f"i{k}",
        f"{'Part | ' * (k % 7 == 0)}Title {k}",
        ["drama\x02war", "noir", "kids\x02noir", "war\x02kids", "war"][k % 5],
        "\\N",
    ]


def lines(frame: Sequence[Sequence[Any]], separator: str, escape: bool = False) -> str:
    def value(v: Any) -> str:
        text = str(v).replace("\\", "\\\\") if escape and v != "\\N" else str(v)
        return text.replace(separator, "\\" + separator) if escape else text

    return "".join(separator.join(map(value, row)) + "\n" for row in frame)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def checked(home: Path, day: str = "2026-01-03") -> None:
    ended = dmtl("check", "--config", home / "mine.yaml", "--day", day, "--set", f"workspace={home}/ws")
    assert ended.code == 0, ended.err


# -- files without a header, beside their DDL --------------------------------------------------------------------------

HIVE = """-- exported
CREATE EXTERNAL TABLE IF NOT EXISTS dw.`shown_di` (
  `shown_at` string COMMENT 'when, (local), it was shown; CREATE TABLE x (a int)',
  item_id string, `user_id` string, clicked int, read_seconds decimal(10,2),
  PRIMARY KEY (item_id) DISABLE
) COMMENT 'exposures' PARTITIONED BY (`dt` string)
ROW FORMAT DELIMITED FIELDS TERMINATED BY '\\001' NULL DEFINED AS '\\N' STORED AS TEXTFILE;
CREATE TABLE dim_items (item_id string, title string, tags array<string>, m map<string,string>)
PARTITIONED BY (dt string) ROW FORMAT DELIMITED FIELDS TERMINATED BY '\\001';
"""


def hive(home: Path) -> None:
    put(home / "schema.hql", HIVE)
    for k, (day, part) in enumerate(rows().group_by(pl.col("shown_at").str.head(10), maintain_order=True)):
        for n in range(2):
            put(home / f"shown_di/dt={day[0]}/00000{n}_0", lines(part[n::2].rows(), "\x01"))
        put(home / f"shown_di/dt={day[0]}/_SUCCESS", "") if k > 9 else None
    put(home / "dim_items/dt=2026-01-03/000000_0", lines([items(k) for k in range(ITEMS)], "\x01"))


def test_hives_text_is_read_by_its_ddl(tmp_path: Path) -> None:
    """^A between values, ^B in arrays, files without an ending, a snapshot of one day."""
    ended, raw, text = made(tmp_path, hive)
    assert ended.code == 0, ended.err
    data = raw["data"]
    assert data["csv"]["separator"] == "\x01" and data["csv"]["quote_char"] is None
    assert data["csv"]["columns"] == ["shown_at", "item_id", "user_id", "clicked", "read_seconds"]
    assert "the files have no header: those of schema.hql" in text
    events = data["events"]
    assert [events[k] for k in ("path", "user", "item", "time", "click", "duration")] == [
        "shown_di/dt={day}/*_*", "user_id", "item_id", "shown_at", "clicked", "read_seconds"
    ]  # fmt: skip
    side = data["items"]
    assert side["path"] == "dim_items/dt=2026-01-03/000000_0" and "partition" not in side
    assert side["csv"]["columns"] == ["item_id", "title", "tags", "m"]
    tags = next(f for f in raw["features"] if f != "auto" and f["name"] == "tags")
    assert tags["kind"] == "sequence" and tags["separator"] == "\x02"
    (tmp_path / "ws").mkdir()
    checked(tmp_path)
    assert config_of(tmp_path).data.csv.separator == "\x01"


def test_names_in_other_languages_are_users_and_items() -> None:
    users, items_ = ("yonghu_id", "pengguna", "uzytkownikId", "kund_nr"), ("wenzhang_id", "oferta.id", "ürün_no")
    assert all(words.by_name(name, words.USER) >= 2 for name in users)
    assert all(words.by_name(name, words.ITEM) >= 2 for name in items_)


UNLOAD = """CREATE TABLE IF NOT EXISTS music.shown (
    shown_at TIMESTAMP NOT NULL ENCODE az64, item_id VARCHAR(16), user_id VARCHAR(8), clicked SMALLINT,
    read_seconds DECIMAL(10,2)
) DISTSTYLE KEY DISTKEY (user_id);
CREATE TABLE music.items (item_id VARCHAR(8), title VARCHAR(64), tags VARCHAR(64), gone CHAR(1));
"""


def test_what_redshift_unloads_is_read_by_its_ddl(tmp_path: Path) -> None:
    """Slices without an ending, a separator behind a backslash, manifests that are no table."""

    def unload(home: Path) -> None:
        put(home / "ddl.sql", UNLOAD)
        for n in range(3):
            put(home / f"shown/shown_000{n}_part_00", lines(rows()[n::3].rows(), "|", escape=True))
            mine = [[v.replace("\x02", ",") for v in items(k)] for k in range(n, ITEMS, 3)]
            put(home / f"items/items_000{n}_part_00", lines(mine, "|", escape=True))
        for name in ("shown", "items"):
            put(home / f"{name}/{name}_manifest", json.dumps({"entries": [{"url": f"s3://x/{name}_0000_part_00"}]}))

    ended, raw, _ = made(tmp_path, unload)
    assert ended.code == 0, ended.err
    assert "manifest" not in ended.out
    data = raw["data"]
    assert data["events"]["path"] == "shown/shown_*_part_*" and data["events"]["date_column"] == "shown_at"
    assert data["items"]["csv"] == {
        "separator": "|", "escape_char": "\\", "columns": ["item_id", "title", "tags", "gone"]
    }  # fmt: skip
    (tmp_path / "ws").mkdir()
    checked(tmp_path)
    table = pl.concat(map(pl.read_parquet, sorted((tmp_path / "ws/converted/items").rglob("*.parquet"))))
    titles = dict(table.select("item_id", "title").iter_rows())
    assert titles == {f"i{k}": items(k)[1] for k in range(ITEMS)}


def test_names_of_a_ddl_are_those_of_the_table_that_has_as_many_columns(tmp_path: Path) -> None:
    """A declared table of another number of columns says nothing; a header stays one."""

    def plain(home: Path) -> None:
        put(home / "schema.sql", "CREATE TABLE events (a int, b text);")
        rows().write_csv(home / "events.csv")

    _, raw, text = made(tmp_path, plain)
    assert raw["data"]["events"]["user"] == "user_id" and "schema.sql" not in text
    home = tmp_path / "second"

    def renamed(log: Path) -> None:
        put(log / "schema.sql", "CREATE TABLE other (shown_at text, item_id text, user_id text, clicked int, len real)")
        rows().write_csv(log / "events.csv", include_header=False)

    _, raw, text = made(home, renamed)
    assert raw["data"]["csv"]["columns"] == ["shown_at", "item_id", "user_id", "clicked", "len"]
    assert "schema.sql" in text


@pytest.mark.parametrize(
    ("text", "name", "columns", "separator"),
    [
        ('CREATE TABLE "s"."Log" ("User Id" bigint, b numeric(3,1) DEFAULT (1), CONSTRAINT k UNIQUE (b))', "Log",
         ("User Id", "b"), None),
        ("create table [dbo].[Log] ([a] int not null, [b] varchar(9)) -- ) , c int", "Log", ("a", "b"), None),
        ("CREATE TABLE `log` (`a` int, `b` struct<x:int,y:string>, KEY `k` (`a`)) COMMENT='a, (b'", "log",
         ("a", "b"), None),
        ("CREATE TABLE t (a int) ROW FORMAT DELIMITED FIELDS TERMINATED BY '\\t'", "t", ("a",), "\t"),
        ("CREATE EXTERNAL TABLE t (a int /* , z int */) FIELDS TERMINATED BY '|'", "t", ("a",), "|"),
    ],
)  # fmt: skip
def test_create_table_names_columns(text: str, name: str, columns: tuple[str, ...], separator: str | None) -> None:
    assert [(one.name, one.columns, one.separator) for one in declared(text)] == [(name, columns, separator)]


def test_what_declares_no_columns_is_none() -> None:
    assert declared("CREATE TABLE t AS SELECT f(x) FROM u; CREATE INDEX i ON t (a); CREATE TABLE v;") == []


# -- escapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quote", [None, '"'])
def test_escapes_are_read_as_python_reads_them(tmp_path: Path, quote: str | None, monkeypatch: Any) -> None:
    """Separators, newlines, escapes and quotes that are of a value, in slices that end anywhere."""
    monkeypatch.setattr("dmtl_cli.data.log.formats.text_rows.SLICE", 64)
    rng = np.random.default_rng(3)
    pieces = ["a", "|", "\n", "\\", '"', "b c", "ä", "1"]
    values = [["".join(rng.choice(pieces, 4)) or "x" for _ in range(3)] for _ in range(300)]
    out = io.StringIO()
    quoting = csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL
    write = csv.writer(
        out, delimiter="|", quotechar=quote or '"', quoting=quoting, escapechar="\\", doublequote=False,
        lineterminator="\n",
    )  # fmt: skip
    write.writerows(values)
    text = out.getvalue() if quote else "\n".join(
        "|".join(v.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "\\\n") for v in row) for row in values
    )  # fmt: skip
    (tmp_path / "x.csv").write_text(text)
    options = Csv(separator="|", quote_char=quote, escape_char="\\", columns=("a", "b", "c"))
    read = [part.frame for part in csv_rows(Store(str(tmp_path)).file("x.csv"), options, lambda f, _: f)]
    assert len(read) > 10 and [list(row) for row in pl.concat(read).rows()] == values


def test_a_null_of_databases_is_one_beside_escapes(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a|b\n\\N|\\\\N\nx\\|y|\\N\n\\N|\\N\n")
    options = Csv(separator="|", quote_char=None, escape_char="\\")
    (part,) = csv_rows(Store(str(tmp_path)).file("x.csv"), options, lambda f, _: f)
    assert part.frame.rows() == [(None, "\\N"), ("x|y", None), (None, None)]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b\nx\\|y|2\n", True), ("a|b\nx\\|y\nz|1\n", False), ("a|b\nC:\\|2\n", False), ("a|b\nx\\\ny|2\n", True),
        ("a|b\nx\\\\|2\n", False),
    ],
)  # fmt: skip
def test_a_backslash_before_a_separator_is_an_escape_where_lines_say_so(
    tmp_path: Path, text: str, escaped: bool
) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert has_escapes(Store(str(tmp_path)).file("x.csv"), "|") is escaped


def test_an_escape_is_another_sign(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="escape_char: expected another character"):
        Csv(separator="|", escape_char="|")


# -- DynamoDB ----------------------------------------------------------------------------------------------------------


def typed(value: Any) -> dict[str, Any]:
    """A value as DynamoDB writes it."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float):
        return {"N": str(value)}
    if isinstance(value, dict):
        return {"M": {k: typed(v) for k, v in value.items()}}
    if isinstance(value, set):
        return {"SS": sorted(value)}
    return {"L": [typed(v) for v in value]} if isinstance(value, list) else {"S": value}


def test_items_of_dynamodb_are_read_as_what_they_say(tmp_path: Path) -> None:
    first = {"a": "x", "n": 1.5, "b": True, "none": None, "tags": {"p", "q"}, "more": ["s", "t"],
             "in": {"k": "v", "deep": {"z": 3}}, "mixed": 1, "rows": [{"u": "1"}, {"u": "2"}]}  # fmt: skip
    second = {"a": None, "mixed": "t", "more": [], "rows": []}
    put(tmp_path / "x.json", "".join(json.dumps({"Item": {k: typed(v) for k, v in one.items()}}) + "\n"
                                      for one in (first, second)))  # fmt: skip
    (part,) = json_rows(Store(str(tmp_path)).file("x.json"), lambda f, _: f)
    assert part.frame.to_dicts() == [
        {"a": "x", "n": "1.5", "b": True, "none": None, "tags": ["p", "q"], "more": ["s", "t"], "in.k": "v",
         "in.deep.z": "3", "mixed": "1", "rows.u": ["1", "2"]},
        {"a": None, "n": None, "b": None, "none": None, "tags": None, "more": [], "in.k": None, "in.deep.z": None,
         "mixed": "t", "rows.u": []},
    ]  # fmt: skip


def test_another_object_of_that_name_stays_as_it_is() -> None:
    for other in ({"Item": [{"S": "a"}]}, {"Item": [{"id": "a"}]}, {"Item": [{"id": {"S": "a"}}], "x": [1]}):
        frame = pl.DataFrame(other)
        assert unwrapped(frame).equals(frame)


def test_a_table_of_dynamodb_is_one_by_folder(tmp_path: Path) -> None:
    """Names of hashes, manifests beside them, attributes that are not there where they are not set."""

    def export(home: Path) -> None:
        place = home / "prod-shown/AWSDynamoDB/01791252000000-5f0c3a9e"
        put(place / "manifest-files.json", '{"itemCount": 1}\n')
        put(place / "_started", "")
        for n, name in enumerate(
            ["a800847c73ecd508452fd50dda", "9f2b20261001624c17cb6652fc", "7eos7ccsqqy5vmmsj5lqnywkbi"]
        ):
            (place / "data").mkdir(parents=True, exist_ok=True)
            found = rows()[n::3].with_columns(pl.col("clicked").cast(pl.Boolean))
            mine = [{k: v for k, v in row.items() if row["clicked"] or k != "read_seconds"} for row in found.to_dicts()]
            with gzip.open(place / f"data/{name}.json.gz", "wt") as out:
                out.writelines(json.dumps({"Item": {k: typed(v) for k, v in one.items()}}) + "\n" for one in mine)

    ended, raw, _ = made(tmp_path, export)
    assert ended.code == 0, ended.err
    assert "not used" not in ended.out.split("day 2026")[0].replace("not used  ", "")
    events = raw["data"]["events"]
    assert events["path"] == "prod-shown/AWSDynamoDB/01791252000000-5f0c3a9e/data"
    assert [events[k] for k in ("user", "item", "time", "click", "duration")] == [
        "user_id", "item_id", "shown_at", "clicked", "read_seconds"
    ]  # fmt: skip


# -- Kafka -------------------------------------------------------------------------------------------------------------


def change(op: str, before: dict[str, Any] | None, after: dict[str, Any] | None, at: int) -> dict[str, Any]:
    """A line of Debezium."""
    source = {"version": "2.7.0", "table": "items", "ts_ms": at}
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": at, "transaction": None}


def test_changes_of_a_table_are_rows_of_it(tmp_path: Path) -> None:
    """The row after a change, before a deletion; with a schema around it or without."""
    rows = [
        change("c", None, {"id": 1, "tags": ["a"], "at": {"x": 1.5}}, 5),
        change("u", {"id": 1, "tags": ["a"], "at": {"x": 1.5}}, {"id": 1, "tags": ["b"], "at": {"x": 2.0}}, 6),
        change("d", {"id": 1, "tags": ["b"], "at": {"x": 2.0}}, None, 7),
        change("r", None, {"id": 2, "tags": None, "at": None}, 8),
    ]
    put(tmp_path / "x.json", "".join(json.dumps(row) + "\n" for row in rows))
    put(tmp_path / "y.json", "".join(json.dumps({"schema": {"type": "struct"}, "payload": r}) + "\n" for r in rows))
    for name in ("x", "y"):
        (part,) = json_rows(Store(str(tmp_path)).file(f"{name}.json"), lambda f, _: f)
        read = part.frame.select("id", "tags", "at.x", "__op", "__updated_ts_ms").rows()
        assert read == [
            (1, ["a"], 1.5, "c", 5),
            (1, ["b"], 2.0, "u", 6),
            (1, ["b"], 2.0, "d", 7),
            (2, None, None, "r", 8),
        ]
        assert part.frame.width == 5


def test_a_change_without_a_row_before_it_and_a_name_that_the_row_has(tmp_path: Path) -> None:
    """Postgres writes no row before an update: nothing but nulls; `op` of the row stays its own."""
    put(tmp_path / "x.json", json.dumps(change("c", None, {"id": 1, "op": "mine"}, 5)) + "\n")
    (part,) = json_rows(Store(str(tmp_path)).file("x.json"), lambda f, _: f)
    assert part.frame.to_dicts() == [{"id": 1, "op": "mine", "__op": "c", "__updated_ts_ms": 5}]
    mine = {"after": [{"a": 1}], "op": ["c"]}
    for other in (mine | {"source": ["web"]}, mine | {"source": [{"page": "x"}]}, {"schema": ["s"], "payload": ["p"]}):
        frame = pl.DataFrame(other)
        assert unwrapped(frame).equals(frame), "columns of these names that are none of Debezium's"


def test_topics_of_kafka_are_tables_by_folder(tmp_path: Path) -> None:
    """NAME+partition+offset.json, messages of events with their schema, changes of a table of items."""

    def dump(home: Path) -> None:
        for n in range(3):
            mine = rows()[n::3].to_dicts()
            text = "".join(json.dumps({"schema": {"type": "struct", "fields": []}, "payload": r}) + "\n" for r in mine)
            put(home / f"recs.shown/recs.shown+{n}+000000{n}.json", text)
        items_ = [change("r", None, {"item_id": f"i{k}", "genre": f"g{k % 9}"}, k) for k in range(ITEMS)]
        put(home / "public.items/public.items+0+0000.json", "".join(json.dumps(c) + "\n" for c in items_))

    ended, raw, _ = made(tmp_path, dump)
    assert ended.code == 0, ended.err
    data = raw["data"]
    assert [data["events"][k] for k in ("path", "user", "item")] == ["recs.shown", "user_id", "item_id"]
    assert (data["items"]["path"], data["items"]["key"]) == ("public.items", "item_id")
    (tmp_path / "ws").mkdir()
    checked(tmp_path)


# -- objects in text ---------------------------------------------------------------------------------------------------


def test_objects_in_text_are_read_and_codes_are_not(tmp_path: Path) -> None:
    """A column of JSON in a CSV, as trackers write it, has fields; a few such texts are codes."""

    def log(home: Path) -> None:
        x = rows()
        event = [json.dumps({"v": 1, "data": {"card_id": k, "tags": [{"name": "t"}]}}) for k in range(ROWS)]
        few = [json.dumps({"a": k % 3}) for k in range(ROWS)]
        x.with_columns(pl.Series("event", event), pl.Series("few", few)).write_csv(home / "events.csv")

    ended, raw, text = made(tmp_path, log)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["types"] == {"event": "json"} and "event.data.card_id" in text
    assert "# WARNING: few" not in text and "name: few" in text


# -- names of files ----------------------------------------------------------------------------------------------------

WEEK = ["jeu", "ven", "sam", "dim", "lun", "mar"]


def named(text: str, days: int = 6, step: int = 1) -> list[str]:
    there = [FIRST + dt.timedelta(k * step) for k in range(days)]
    return [text.format(word=WEEK[k % 6], month=f"{day:%b}".lower(), day=day) for k, day in enumerate(there)]


def patterns(names: list[str]) -> dict[str | None, int]:
    return {files.pattern: len(files.files) for files in group([(name, 1) for name in names])}


def test_a_word_that_the_day_tells_is_no_other_table() -> None:
    weekday = named("Export reco {word} {day:%d-%m-%Y}.csv")
    assert patterns([*weekday, "clients.csv"])["Export reco * {day:%d-%m-%Y}.csv"] == 6
    assert patterns(named("reco-{month}-{day}.csv", 8, 7)) == {"reco-*-{day}.csv": 8}
    assert len(patterns(weekday[:2])) == 2, "two days of two tables"
    both = [f"{name}_{day}.csv" for name in ("shown", "clicks", "orders") for day in ("2026-01-01", "2026-01-02")]
    assert len(patterns(both)) == 3


def test_a_hash_has_no_day_and_days_beside_letters_are_days() -> None:
    hashes = ["x/9f2b20261001624c17cb6652fc.json", "x/ab7c20261001624c17cb66aafc.json"]
    assert [(f.path, len(f.files), f.days) for f in group([(name, 1) for name in hashes])] == [("x", 2, ())]
    assert patterns(["log20260101.json", "log20260102.json"]) == {"log{day}.json": 2}
    assert patterns(["impressionsofall20260101T03.json"]) == {"impressionsofall{day}T*.json": 1}


def test_descriptions_of_an_index_are_no_rows_of_it(tmp_path: Path) -> None:
    """elasticdump writes clicks_mapping.json beside clicks.json; a table of that name alone is one."""
    for name in ("clicks-1.json", "clicks-1_mapping.json", "ids_mapping.json", "manifest.json", "x.manifest"):
        put(tmp_path / name, '{"a": 1}\n')
    assert [path for path, _ in listed_in(Store(str(tmp_path)))[0]] == ["clicks-1.json", "ids_mapping.json"]


def test_columns_of_json_have_one_order(tmp_path: Path) -> None:
    """That of the first line, whatever order polars gives them in."""
    names = [f"c{k * 7 % 60}" for k in range(60)]
    put(tmp_path / "x.json", json.dumps({n: {"b": 1, "a": None} if n == "c7" else None for n in names} | {"x": 1})
        + '\n{"z": 1, "y": 2, "c7": {"c": 1}}\n')  # fmt: skip
    (part,) = json_rows(Store(str(tmp_path)).file("x.json"), lambda f, _: f)
    plain = [n for n in names if n != "c7"]
    assert part.frame.columns == [*plain, "x", "y", "z", "c7.b", "c7.a", "c7.c"]
