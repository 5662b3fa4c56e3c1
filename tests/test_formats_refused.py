"""What a conversion refuses: one line for what is wrong."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pytest
from formats import FIRST, HEAD, IcebergTable, encoded, finder, rows
from worlds import DAYS, Project

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.table import Csv
from dmtl_cli.data.log.files.day_files import DayFinder
from dmtl_cli.data.log.formats import lake, text_rows
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.data.log.reader import Log

# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (HEAD + "x,y,2026-01-01,maybe,1\n", 65, r"e\.csv: row 2, column click: .*maybe.*; .*null_click: no_click"),
        (HEAD + "x,y,2026-01-01,1,long\n", 65, "row 2, column seconds: expected float64, got 'long'; .*null_values"),
        (HEAD + rows(1) + "1,2\n", 65, r"e\.csv: row 3: expected 5 values, got 2"),
        (HEAD + rows(1) + "1,2,3,4,5,6\n", 65, "row 3: expected 5 values, got 6"),
        (HEAD + rows(1) + '1,"2,3,4\n' + rows(1, 1), 65, "from row 3 on a quoted text has no end"),
        (HEAD + rows(1) + "1,caf\udce9,2026-01-01,1,1\n", 65, r"line 3: not UTF-8 \(byte 0xe9\); .*data.csv.encoding"),
        (HEAD + "1,a,01/31/2026,1,1\n", 65, "column d, row 2: expected a day as YYYY-MM-DD or .*, got '01/31/2026'"),
        ("user_id,item_id,day\n1,2,3\n", 65, r"no column d, which tells the day \(columns: user_id, item_id, day\)"),
        ("d,d\n1,2\n", 65, "column 'd' appears more than once"),
        ("d,,x\n1,2,3\n", 65, "row 1: expected names of columns"),
        ("user_id,d\r1,2\r", 65, r"e\.csv: row 1: new-line character .*; correct its first line"),
        (f"{'d' * 140_000},x\n1,2\n", 65, r"e\.csv: row 1: field larger than field limit"),
        ("", 66, r"e\.csv: empty; retry"),
        (HEAD, 66, "no file of .*e.csv has a d of day 2026-01-01"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_csv(tmp_path: Path, text: str, code: int, words: str) -> None:
    (tmp_path / "e.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(finder(tmp_path), code, words)
    assert not list((tmp_path / "ws").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("days", "words"),
    [((2,), r"\(the log has 2026-01-02 alone\)"), ((2, 9, 3), r"\(the log has 2026-01-02 \.\. 2026-01-09\)")],
)
def test_a_day_that_a_csv_lacks(tmp_path: Path, days: tuple[int, ...], words: str) -> None:
    (tmp_path / "e.csv").write_text(HEAD + rows(*days))
    refused(finder(tmp_path), 66, words)


def test_a_time_beyond_int64_is_named_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(f"{HEAD}1,a,1767225600,1,1\n1,a,{10**19 - 1},1,1\n")
    refused(
        finder(tmp_path, types={"d": "datetime"}), 65, "row 3, column d: expected a time .*, got '9999999999999999999'"
    )


NO_ID = "1,2,9\n,3,9\n1,3,9\n"


@pytest.mark.parametrize(
    ("events", "text", "words"),
    [
        (
            {"path": "{day}.csv"},
            f"user_id,item_id,s\n{NO_ID}",
            r"2026-01-01\.csv: column user_id, row 3: expected an id",
        ),
        (
            {"path": "{day}.csv", "csv": Csv(columns=("user_id", "item_id", "s"))},
            NO_ID,
            r"\.csv: column user_id, row 2: ",
        ),
        (
            {"path": "2026-01-01.csv", "date_column": "d"},
            "user_id,item_id,d,s\n,3,2026-01-01,9\n",
            "row 1 of those that",
        ),
    ],
)
def test_a_row_without_an_id_is_named_as_in_its_source(
    tmp_path: Path, events: dict[str, Any], text: str, words: str
) -> None:
    (tmp_path / "2026-01-01.csv").write_text(text)
    data = Data(root=str(tmp_path), format="csv", events=Events(duration="s", **events))
    with pytest.raises(UserError, match=words) as raised:
        Log(data, (), converted=tmp_path / "ws").read(FIRST, tmp_path)
    assert str(tmp_path / "ws") not in raised.value.message


def test_an_id_twice_in_a_side_table_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(HEAD + rows(1))
    (tmp_path / "items.csv").write_text("k,title\n7,Ran\n7,Ran\n")
    data = finder(tmp_path).data.model_copy(update={"items": SideTable(path="items.csv", key="k")})
    with pytest.raises(UserError, match=r"/items\.csv: key k = '7' appears twice"):
        Log(data, (), converted=tmp_path / "ws").read(FIRST, tmp_path)


def refused(found: DayFinder, code: int, words: str) -> None:
    with pytest.raises(UserError) as raised:
        found.find(FIRST)
    assert raised.value.code == code and re.search(words, raised.value.line()), raised.value.line()


GOOD = '{"d": "2026-01-01", "user_id": 1}\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + '{"d": "2026-01-01", "user_id": \n', "line 2: expected a JSON object: Expecting value"),
        (GOOD + "\n[1]\n", "line 3: expected a JSON object: got b'\\[1\\]'"),
        (GOOD + '{"d": "2026-01-01", "x": NaN}\n', "line 2: expected a JSON object: NaN is no JSON"),
        (GOOD + '{"d": "2026-01-01", "user_id": true}\n', "from line 1 on a column has values that no type holds"),
        (
            GOOD + '{"d": "2026-01-01", "user_id": 9223372036854775808}\n',
            "column user_id, from line 1 on: an integer beyond int64",
        ),
        (GOOD + '{"d": "2026-01-01", "user_id": [1]}\n', "e.json: "),
    ],
)
def test_what_is_wrong_in_json(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "e.json").write_text(text)
    refused(finder(tmp_path, "json"), 65, words)


@pytest.mark.parametrize(("first", "later"), [("1", "[1]"), ("[1]", "[[1]]")])
def test_a_column_of_another_type_further_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, later: str
) -> None:
    monkeypatch.setattr(text_rows, "SLICE", 16)  # a row each
    rows = [f'{{"d": "2026-01-01", "x": {x}}}\n' for x in (first, first, first, later)]
    (tmp_path / "e.json").write_text("".join(rows))
    refused(finder(tmp_path, "json"), 65, "e.json: from row [34] on a column has values of another type")


def test_a_damaged_archive(tmp_path: Path) -> None:
    whole = encoded(pl.DataFrame({"d": ["2026-01-01"] * 500, "x": range(500)}), "csv.gz")
    for damaged, words in ((whole[:-30], "damaged gzip"), (b"not zipped", "damaged gzip")):
        (tmp_path / "e.csv.gz").write_bytes(damaged)
        refused(finder(tmp_path, events={"path": "e.csv.gz"}), 65, words)


def test_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (tmp_path / "e.avro").write_bytes(b"")
    for kind in ("avro", "delta", "iceberg"):
        refused(finder(tmp_path, kind), 78, rf"pip install -e '\.\[{kind}\]'")


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    refused(finder(tmp_path, "delta"), 66, "no Delta table there")
    refused(finder(tmp_path, "iceberg"), 66, "no Iceberg table there")
    refused(finder(tmp_path, "iceberg", events={"path": "e/v1.metadata.json"}), 66, "v1.metadata.json: not there")
    (tmp_path / "v1.metadata.json").write_text("{}")
    refused(finder(tmp_path, "iceberg", events={"path": "v1.metadata.json"}), 65, "the Iceberg table cannot be read")


def test_a_disk_that_refuses_is_not_the_tables_fault(tmp_path: Path) -> None:
    """As long as no file can be opened."""
    frame = pl.DataFrame({"d": [1, 2]})
    IcebergTable(tmp_path / "i").append(frame)
    deltalake.write_deltalake(tmp_path / "e", frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
    store, root = Store(str(tmp_path)), str(tmp_path)
    (metadata,) = (f"i/metadata/{p.name}" for p in (tmp_path / "i/metadata").glob("00001-*.json"))
    (file,) = lake.iceberg_files(root, store, metadata)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for look in (
        lambda: lake.delta_files(root, store, "e"),
        lambda: lake.iceberg_files(root, store, metadata),
        lambda: [*file.rows()],
    ):
        assert look()  # a library opens files of its own once
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        try:
            with pytest.raises(UserError, match="Too many open files") as error:
                look()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert error.value.code == Exit.IO and "\x1b" not in error.value.message
    for manifest in (tmp_path / "i/metadata").glob("*.avro"):
        manifest.write_bytes(b"xx")
    with pytest.raises(UserError, match="the Iceberg table cannot be read: EOF") as error:
        lake.iceberg_files(root, store, metadata)
    assert error.value.code == Exit.DATA


@pytest.mark.parametrize(
    ("features", "configuration", "words"),
    [
        (["columnMapping"], {}, "needs columnMapping"),
        ([], {"delta.columnMapping.mode": "name"}, r"needs columnMapping \(name\)"),
        (["typeWidening"], {}, "needs typeWidening"),
        (["deletionVectors"], {}, "has deletion vectors"),
    ],
)
def test_delta_tables_that_are_not_plain(features: list[str], configuration: dict[str, str], words: str) -> None:
    class Faked:
        reader_features, min_reader_version = features, 3

        def protocol(self) -> Faked:
            return self

        def metadata(self) -> Faked:
            return self

        def deletion_vectors(self) -> pl.DataFrame:
            return pl.DataFrame({"path": ["x"]})

    Faked.configuration = configuration  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=words):
        lake._require_plain(Faked(), "s3://b/t")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"csv": {"separator": ";"}}, "data: csv has no effect: no table is of format csv"),
        ({"types": {"x": "int64"}}, "data: types has no effect: no table is of format csv or json"),
        ({"format": "csv", "csv": {"separator": "ab"}}, "or up to four signs such as :: and |~|, got 'ab'"),
        ({"format": "csv", "csv": {"separator": ";;;;;"}}, "or up to four signs such as :: and |~|, got ';;;;;'"),
        ({"format": "csv", "csv": {"separator": "::"}}, "separator: one of several signs goes with quote_char: null"),
        ({"format": "csv", "csv": {"separator": '"'}}, "separator: expected another character than quote_char"),
        ({"format": "csv", "csv": {"columns": ["a", "a"]}}, "columns: a appears twice"),
        ({"format": "orc"}, "expected 'parquet', 'csv', 'json', 'avro', 'delta' or 'iceberg'"),
        ({"events": {"path": "e/{day}", "partition": "dt"}}, "give {day} in path or partition, not both"),
        ({"events": {"path": "e/{day}", "date_column": "d"}}, "give {day} in path or date_column, not both"),
        ({"events": {"path": "e/{day:%Y}"}}, "expected year, month and day"),
        ({"events": {"path": "e/{day:%H}"}}, "expected %Y, %m, %d and %j in {day:...}, got %H"),
        ({"events": {"path": "e/*.csv"}}, "`*` stands beside {day}, or with date_column"),
        ({"events": {"path": "e/{date}"}}, "expected {day}, or a form of it"),
        ({"format": "delta", "events": {"path": "e/{day}"}}, "events.path: {day} has no effect on format: delta"),
        ({"users": {"path": "u", "key": "k", "csv": {}}}, "users.csv has no effect on format: parquet"),
    ],
)  # fmt: skip
def test_options_that_contradict(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    made = Project.create(tmp_path, tmp_path)
    data = made.config["data"]
    for name in ("users", "items"):
        del data[name]
    del data["events"]["partition"]
    data["events"] |= change.pop("events", {})
    made.config["data"] |= change
    made.write()
    ended = made.call("check", "--day", DAYS[0])
    assert ended.code == 78 and words in ended.err, ended.err


def test_bytes_that_no_encoding_has(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_bytes((HEAD + rows(1)).encode() + b"1,caf\x81,2026-01-01,1,1\n")
    with pytest.raises(UserError, match=r"e\.csv: not cp1252: .* 0x81 .*") as refused:
        finder(tmp_path, csv=Csv(encoding="cp1252")).find(FIRST)
    assert refused.value.code == 65 and "data.csv.encoding" in refused.value.hint
