"""What a conversion keeps: any text, rows in order, nothing half."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from formats import FIRST, HEAD, SECOND, encoded, finder, rows, table, write
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import DAYS, Project

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.table import Csv
from dmtl_cli.data.log.files import converted
from dmtl_cli.data.log.formats import sources, text_rows, waiting
from dmtl_cli.data.log.formats.sources import TextFile
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.stages.forget import _remove_conversions
from dmtl_cli.stages.gc import _conversions, _remove

# -- what is read ------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6) | st.sampled_from(
    ['"', '""', "\n", ",", '",\n"']
)
columns = st.lists(
    st.tuples(st.integers(1, 3), st.none() | texts, st.none() | texts, st.none() | st.integers(-9, 9)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(given_rows=columns, kind=st.sampled_from(["csv", "csv.gz", "json"]), size=st.integers(40, 400))
def test_any_text_comes_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[tuple[int, Any, Any, Any]], kind: str, size: int
) -> None:
    """Whatever the size of slices, and of what waits in memory."""
    root = tmp_path_factory.mktemp("any")
    whole = pl.DataFrame(given_rows, {"day": pl.Int64, "a": pl.String, "b": pl.String, "n": pl.Int64}, orient="row")
    whole = whole.with_columns(d=pl.format("2026-01-0{}", "day"))
    write(whole, root, "e", kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_rows, "SLICE", size)
        patch.setattr(waiting, "WAITING", size)
        found = finder(
            root,
            kind.partition(".")[0],
            events={"path": f"e.{kind}"},
            types={"n": "int64", "day": "int64", "a": "text", "b": "text"},
        )
        for day in whole["day"].unique():
            expected = whole.filter(pl.col("day") == day)
            got = table(found, dt.date(2026, 1, day))
            assert got.select(pl.col(c).cast(k) for c, k in expected.schema.items()).equals(expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "user_id,item_id,d,click,seconds\r\n1,\"a\r\nb\",2026-01-01,1,\r\n"),
        ({"separator": "|"}, 'user_id|item_id|d|click|seconds\n1|"a\nb"|2026-01-01|TRUE|NULL\n'),
        ({"columns": ("user_id", "item_id", "d", "click", "seconds")}, '1,"a\nb","2026-01-01","true",""'),
        ({"separator": ";", "quote_char": "'"}, "\ufeff'user_id';item_id;d;click;seconds\n1;'a\nb';20260101;1;\\N\n"),
    ],
)  # fmt: skip
def test_ways_to_write_a_csv(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    (tmp_path / "e.csv").write_bytes(text.encode())
    got = table(finder(tmp_path, csv=Csv(**options, null_values=("NULL", "\\N"))))
    assert got["item_id"].str.replace("\r", "").to_list() == ["a\nb"]
    assert (got["user_id"][0], got["click"][0], got["seconds"][0]) == ("1", True, None)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-16-le", "utf-8-sig", "shift_jis", "UTF8"])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_encodings(tmp_path: Path, encoding: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a slice ends within a character."""
    monkeypatch.setattr(text_rows, "SLICE", size)
    word = "日本,語" if encoding == "shift_jis" else 'Käse, "Brôt"\nÜ'
    text = HEAD + '1,"' + word.replace('"', '""') + '",2026-01-01,1,2\n'
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(text.encode(encoding)))
    found = table(finder(tmp_path, events={"path": "e.csv.gz"}, csv=Csv(encoding=encoding)))
    assert found["item_id"].to_list() == [word] and found.columns[0] == "user_id"


def test_unquoted_values_and_tabs(tmp_path: Path) -> None:
    (tmp_path / "e.tsv").write_text(
        'user_id\titem_id\td\tclick\tseconds\n1\t5" wide\t2026-01-01\t1\t2\n1\t"x\t2026-01-01\t1\t2\n'
    )
    found = finder(tmp_path, csv=Csv(quote_char=None), events={"path": "e.tsv"})
    assert table(found)["item_id"].to_list() == ['5" wide', '"x']


@pytest.mark.parametrize("signs", ["::", "||", "|~|", "\t\t"])
@pytest.mark.parametrize("size", [1, 9, 1 << 20])
def test_separators_of_several_signs(tmp_path: Path, signs: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of them is of a value."""
    monkeypatch.setattr(text_rows, "SLICE", size)
    names = ["12:00", 'a "b"', "x|y", "~"]
    rows = [["user_id", "item_id", "d", "click", "seconds"]]
    rows += [[f"{k}", name, "2026-01-01", "1", "2"] for k, name in enumerate(names)]
    (tmp_path / "e.csv").write_text("".join(signs.join(row) + "\n" for row in rows))
    found = table(finder(tmp_path, csv=Csv(separator=signs, quote_char=None)))
    assert found["item_id"].to_list() == names and found["click"].all()
    (tmp_path / "e.csv").write_text(signs.join(rows[0]) + "\n" + signs.join(rows[1][:3]) + "\n")
    with pytest.raises(UserError, match="row 2: expected 5 values, got 3"):
        table(finder(tmp_path, csv=Csv(separator=signs, quote_char=None)))


def test_types(tmp_path: Path) -> None:
    times = ["2026-01-01T10:00:00Z", "2026-01-01 18:00:00.5+08:00", "2026-01-01T10:00", "2026-01-01", ""]
    (tmp_path / "e.csv").write_text("d,t,f,i,b,x\n" + "".join(f"20260101,{t},1e3,-5,False,2026-01-31\n" for t in times))
    found = finder(tmp_path, types={"t": "datetime", "f": "float64", "i": "int64", "b": "bool", "x": "date"})
    got = table(found)
    ten = dt.datetime(2026, 1, 1, 10, tzinfo=dt.UTC)
    assert got["t"].to_list() == [ten, ten + dt.timedelta(seconds=0.5), ten, ten.replace(hour=0), None]
    assert got.row(0)[2:] == (1000.0, -5, False, dt.date(2026, 1, 31))


@pytest.mark.parametrize("words", ["true,FALSE", "yes,No", "Y,n", "t,F", "1,0"])
def test_words_for_yes_and_no(tmp_path: Path, words: str) -> None:
    yes, no = words.split(",")
    (tmp_path / "e.csv").write_text(f"d,b\n20260101,{yes}\n20260101,{no}\n20260101,\n")
    assert table(finder(tmp_path, types={"b": "bool"}))["b"].to_list() == [True, False, None]
    (tmp_path / "e.csv").write_text("d,b\n20260101,maybe\n")
    with pytest.raises(
        UserError, match=r"row 2, column b: expected true, false, .*, or one pair such as J and N, got 'maybe'"
    ):
        table(finder(tmp_path, types={"b": "bool"}))


def test_json_values(tmp_path: Path) -> None:
    lines = [
        '{"d": "2026-01-01", "l": [1, 2], "n": 1, "o": {"x": 1}}',
        "",
        '{"d": "2026-01-01", "l": [], "n": 1.5, "new": "é", "deep": [{"x": 1}], "deeper": [[{"x": 1}]]}',
    ]
    lines += ['{"d": "2026-01-02", "l": ["a"], "n": 3, "o": {}}']
    (tmp_path / "e.json").write_text("\n".join(lines))
    found = finder(tmp_path, "json")
    one, two = table(found), table(found, SECOND)
    assert one.schema["l"] == pl.List(pl.Int64) and two.schema["l"] == pl.List(pl.String), "of the day's rows alone"
    assert one["n"].to_list() == [1.0, 1.5] and two["n"].to_list() == [3] and "new" not in two.columns
    assert one["o.x"].to_list() == [1, None] and "o" not in one.columns and "o.x" not in two.columns
    assert one["deep.x"].to_list() == [None, [1]] and "deep" not in one.columns
    assert one.schema["deeper.x"] == pl.List(pl.List(pl.Int64)) and one["deeper.x"].to_list() == [None, [[1]]]


def test_a_field_of_an_object_that_has_the_name_of_a_column(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text('{"d": "2026-01-01", "o": {"x": {"y": 1}}, "o.x.y": 2}\n')
    with pytest.raises(UserError, match=r"e\.json: column o\.x\.y and a field of that name"):
        table(finder(tmp_path, "json"))


# -- what is converted again -------------------------------------------------------------------------------------------


def test_a_source_that_grows_makes_no_older_day_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "e.csv"
    file.write_text(HEAD + rows(1, 2, 1))
    found = finder(tmp_path)
    before = found.find(FIRST)
    with file.open("a") as more:
        more.write(rows(2, 2))
    after = found.find(FIRST)
    assert after.identities == before.identities and after.events == before.events, "the very same file"
    assert len(table(found, SECOND)) == 3
    file.write_text(HEAD + rows(1))
    assert len(table(found)) == 1
    with pytest.raises(UserError, match="of day 2026-01-02"):
        found.find(SECOND)
    reads: list[object] = []
    monkeypatch.setattr(TextFile, "rows", lambda self: reads.append(self) or iter(()))
    finder(tmp_path).find(FIRST)
    assert reads == [], "nothing has changed"
    monkeypatch.undo()
    assert finder(tmp_path, csv=Csv(null_values=("i0",))).find(FIRST).identities != before.identities
    (tmp_path / "ws/converted/events/day=2026-01-01/e.csv.parquet").unlink()
    assert finder(tmp_path).find(FIRST).identities[0]["rows"] == 1


def test_one_parquet_file_that_grows_makes_no_older_day_stale(tmp_path: Path) -> None:
    """As it is written again each night. In a folder, to which files are added, it is read in place."""
    frame = pl.DataFrame({"d": ["2026-01-01"] * 3, "user_id": [3, 1, 2]})
    more = pl.DataFrame({"d": ["2026-01-02"] * 2, "user_id": [9, 9]})
    (tmp_path / "f").mkdir()
    same = []
    for path in ("e.parquet", "f"):
        file = tmp_path / path / ("a.parquet" if path == "f" else "")
        frame.write_parquet(file)
        found = finder(tmp_path, "parquet", events={"path": path})
        before = found.find(FIRST)
        with pytest.raises(UserError, match=r"of day 2026-01-02 \(the log has 2026-01-01 alone\)"):
            found.find(SECOND)
        pl.concat([more, frame]).write_parquet(file)
        after = found.find(FIRST)
        same.append(after.identities == before.identities)
        if path != "f":
            assert table(found)["user_id"].to_list() == [3, 1, 2] and len(table(found, SECOND)) == 2
        assert len(found.find(SECOND).events) == 1
    assert same == [True, False]


def test_files_of_a_folder(tmp_path: Path) -> None:
    """One that is added is read alone, one that is gone leaves nothing."""
    (tmp_path / "e").mkdir()
    for k in (1, 2):
        (tmp_path / f"e/{k}.csv").write_text(HEAD + rows(1, 2, user=k))
    found = finder(tmp_path, events={"path": "e"})
    before = found.find(FIRST)
    (tmp_path / "e/3.csv.gz").write_bytes(encoded(pl.DataFrame({"d": ["2026-01-01"], "user_id": ["3"]}), "csv.gz"))
    assert found.find(FIRST).events[:2] == before.events and len(found.find(SECOND).events) == 2
    (tmp_path / "e/2.csv").unlink()
    assert [f.path.rpartition("/")[2] for f in found.find(FIRST).events] == ["1.csv.parquet", "3.csv.gz.parquet"]
    assert not list((tmp_path / "ws").rglob("*2.csv*"))


@pytest.mark.parametrize("name", ["write", "json.dumps", "filecmp.cmp"])
def test_a_conversion_that_dies_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file = tmp_path / "e.csv"
    file.write_text(HEAD + rows(1, 2))
    finder(tmp_path).find(FIRST)
    old = {day: finder(tmp_path).find(day).identities for day in (FIRST, SECOND)}
    stamp = file.stat()
    file.write_text(HEAD + rows(1, 2, user=7))

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        target = waiting.Waiting if name == "write" else getattr(converted, name.split(".")[0])
        patch.setattr(target, name.split(".")[-1], dies)
        with pytest.raises(KeyboardInterrupt):
            finder(tmp_path).find(SECOND)
    file.write_text(HEAD + rows(1, 2))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert {day: finder(tmp_path).find(day).identities for day in (FIRST, SECOND)} == old
    assert not (tmp_path / "ws/converted/.scratch").exists() or name == "write"


LOOK = """
import datetime, pathlib, sys
from dmtl_cli.config.data import Data
from dmtl_cli.data.log.files.day_files import DayFinder
data, folder = sys.argv[1:]
found = DayFinder(Data.model_validate_json(data), pathlib.Path(folder))
for day in (1, 2):
    print(found.find(datetime.date(2026, 1, day)).identities[0]["digest"])
"""


def test_two_commands_at_once(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(HEAD + rows(*[1, 2] * 10_000))
    here = finder(tmp_path)
    command = [sys.executable, "-c", LOOK, here.data.model_dump_json(), str(tmp_path / "ws/converted")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    found = [one.communicate(timeout=60)[0].split() for one in both]
    assert found[0] == found[1] == [here.find(day).identities[0]["digest"] for day in (FIRST, SECOND)]


# -- what goes ---------------------------------------------------------------------------------------------------------


def test_gc_and_forget_remove_conversions(tmp_path: Path) -> None:
    """gc those of days that it does not keep, forget all: they have users' rows."""
    ws = Workspace(tmp_path / "ws")
    (tmp_path / "e.csv").write_text(HEAD + rows(1, 2))
    finder(tmp_path).find(FIRST)
    gone = tmp_path / "ws/converted/events/day=2026-01-01"
    for delete in (False, True):
        found = [*_conversions(ws, SECOND)]
        assert [waste.path for waste in found] == [gone]
        if delete:
            _remove(found[0])
    assert not gone.exists() and finder(tmp_path).find(SECOND).identities[0]["rows"] == 1 and not gone.exists()
    assert finder(tmp_path).find(FIRST).identities[0]["rows"] == 1, "converted again"
    assert _remove_conversions(ws) > 1000 and not (tmp_path / "ws/converted").exists() and _remove_conversions(ws) == 0
    assert finder(tmp_path).find(FIRST).identities[0]["rows"] == 1


# -- what check converts -----------------------------------------------------------------------------------------------


def csv_log(tmp_path: Path) -> Project:
    made = Project.create(tmp_path, tmp_path)
    data = made.config["data"]
    for name in ("users", "items"):
        del data[name]
    data["format"] = "csv"
    data["events"] = {"path": "e.csv", "date_column": "d", "click": "click", "duration": "seconds"}
    made.config["features"] = [{"name": f"{s}_id", "side": s, "kind": "categorical"} for s in ("user", "item")]
    made.config["workspace"] = str(tmp_path / "not/yet/ws")
    made.write()
    (tmp_path / "e.csv").write_text(HEAD + rows(1, 1, 2))
    return made


def test_what_check_converts_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first check of a config makes the workspace's conversion, which all later commands find."""
    made, place = csv_log(tmp_path), tmp_path / "not/yet/ws"
    alone = {"e.csv", "config.yaml"}
    for wrong in ("duration=secs", "date_column=day"):
        assert made.call("check", "--day", DAYS[0], "--set", f"data.events.{wrong}").code == 65
        assert {p.name for p in tmp_path.iterdir()} == alone
    ended = made.call("check", "--day", DAYS[0], "--json")
    assert ended.code == 0 and ended.json["rows"] == 2
    assert [p.name for p in place.iterdir()] == ["converted"]
    assert {p.name for p in tmp_path.iterdir()} == alone | {"not"}
    files = {p: p.stat().st_mtime_ns for p in (place / "converted").rglob("*") if p.is_file()}
    assert len(files) == 3, "a stamp, and a file of each day"
    monkeypatch.setattr(sources, "csv_rows", None)  # whoever converts anew fails
    again = made.call("check", "--day", DAYS[1], "--json")
    assert again.code == 0 and again.json["rows"] == 1
    assert {p: p.stat().st_mtime_ns for p in (place / "converted").rglob("*") if p.is_file()} == files


def test_a_conversion_that_cannot_be_kept(tmp_path: Path) -> None:
    """Another command's is left as it is, and an error leaves nothing."""
    ws = tmp_path / "ws"
    with converted.provisional(str(ws)) as place:
        assert place.parent.parent == tmp_path and place.parent.name.startswith(".ws-check-")
        place.mkdir()
        (place / "mine").touch()
        (ws / "converted").mkdir(parents=True)
        (ws / "converted/theirs").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["ws"]
    assert [p.name for p in (ws / "converted").iterdir()] == ["theirs"]
    with converted.provisional(str(ws)) as place:
        assert place == ws / "converted"
    with pytest.raises(KeyboardInterrupt), converted.provisional(str(tmp_path / "other")) as place:
        place.mkdir()
        raise KeyboardInterrupt
    with converted.provisional(str(tmp_path / "other")):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["ws"], "what converts nothing makes no workspace"


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_null_values_of_all_text(tmp_path: Path, kind: str) -> None:
    """In text and numbers alike, of a CSV beside its own words; another list converts again, none is as it was."""
    texts = {"user_id": ["u", "NULL"], "item_id": ["-", "i"], "d": ["2026-01-01"] * 2, "click": ["1", "0"]}
    write(pl.DataFrame(texts | {"seconds": ["NULL", "1.5"]}), tmp_path, "e", kind)
    types = {"seconds": "float64", "click": "bool"}
    more = (
        {"csv": Csv(null_values=("-",)), "null_values": ("NULL",)} if kind == "csv" else {"null_values": ("NULL", "-")}
    )
    found = finder(tmp_path, kind, types=types, **more)
    assert table(found).select("user_id", "item_id", "seconds").rows() == [("u", None, None), (None, "i", 1.5)]
    before = found._converted.data.model_dump()  # type: ignore[union-attr]
    assert (
        before["null_values"]
        and "null_values"
        not in found._converted.data.model_copy(  # type: ignore[union-attr]
            update={"null_values": ()}
        ).model_dump()
    )
    plain = {k: v for k, v in types.items() if k != "seconds"} | {"seconds": "text"}
    assert table(finder(tmp_path, kind, types=plain))["user_id"].to_list() == ["u", "NULL"]
