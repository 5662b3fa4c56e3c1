"""A stage reads the files that its key names, whatever is written beside or over them; and a day's files agree on a
schema, or one line says which do not. Through the command line."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import DAYS, Ended, Project, events

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log import reader
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.synth.generate import generate

FOLDER = f"events/day={DAYS[0]}"


@pytest.fixture(scope="session")
def tiny_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One day. Read only."""
    out = tmp_path_factory.mktemp("tiny")
    generate(out, 1, start=dt.date(2026, 1, 1), users=60, items=40, events_per_day=800, seed=1)
    return out / "log"


@pytest.fixture
def own(tiny_log: Path, tmp_path: Path) -> Project:
    """A project over a copy of the log, its events in two files."""
    shutil.copytree(tiny_log, tmp_path / "log")
    frame = events(tmp_path / "log", DAYS[0])
    for name, part in (("part-0", frame[:500]), ("part-1", frame[500:])):
        part.write_parquet(tmp_path / "log" / FOLDER / f"{name}.parquet")
    return Project.create(tmp_path, tmp_path / "log")


# -- the files that the key names are the files that are read ----------------------------------------------------------


def between(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Changes the log after a stage made its key, before it reads."""
    read = Log.read

    def late(log: Log, *arguments: Any, **named: Any) -> Day:
        change()
        return read(log, *arguments, **named)

    monkeypatch.setattr(Log, "read", late)


def test_a_file_that_arrives_after_the_key_was_made_is_not_read(own: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own.home / "log" / FOLDER
    between(monkeypatch, lambda: shutil.copy(folder / "part-0.parquet", folder / "part-2.parquet"))
    late = own.done("train-teacher", 1)
    (folder / "part-2.parquet").unlink()
    monkeypatch.undo()
    alone = own.call("train-teacher", "--day", DAYS[0], "--json", workspace=own.home / "again").json
    assert late["rows"] == alone["rows"] and late["key"] == alone["key"]
    found = json.loads((Path(late["path"]) / "manifest.json").read_text())
    inputs = [i["path"] for i in found["inputs"]]
    assert inputs[:2] == [f"{FOLDER}/part-0.parquet", f"{FOLDER}/part-1.parquet"] and len(inputs) == 4


@pytest.mark.parametrize("what", ["events", "users"])
@pytest.mark.parametrize("change", ["other rows", "other footer", "other size", "removed"])
def test_a_file_that_is_not_any_more_what_the_key_names(
    own: Project, monkeypatch: pytest.MonkeyPatch, what: str, change: str
) -> None:
    file = next((own.home / "log" / what / f"day={DAYS[0]}").glob("*.parquet"))
    table = pq.read_table(file, partitioning=None)

    def write(rows: pa.Table) -> None:
        told = change != "other rows"  # else both have one footer
        pq.write_table(rows, file, compression="none", use_dictionary=False, write_statistics=told)

    write(table)
    before = file.stat()

    def replace() -> None:
        if change == "removed":
            file.unlink()
        elif change == "other size":
            write(table.slice(1))
        else:
            users = table["user_id"].to_pylist()
            other = users[::-1] if change == "other rows" else [u + 1000 for u in users]
            write(table.set_column(table.schema.get_field_index("user_id"), "user_id", pa.array(other)))
            if change == "other footer":
                os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    between(monkeypatch, replace)
    ended = own.stage("train-teacher", 1)
    words = "not there any more" if change == "removed" else "changed while it was read"
    assert ended.code == 66 and str(file) in ended.err and words in ended.err and "retry later" in ended.err
    assert own.published() == {} and own.scratch_left() == []
    if change in ("other rows", "other footer"):
        assert file.stat().st_size == before.st_size, "or its size would tell"


def test_what_is_read_twice_is_read_of_the_same_files(own: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is replaced after its rows were read is noticed as well."""
    spool = reader.Log._spool

    def late(*arguments: Any) -> Any:
        made = spool(*arguments)
        file = own.home / "log" / FOLDER / "part-1.parquet"
        events(own.home / "log", DAYS[0])[:7].write_parquet(file)
        return made

    monkeypatch.setattr(reader.Log, "_spool", late)
    ended = own.stage("train-teacher", 1)
    assert ended.code == 66 and "part-1.parquet" in ended.err and "changed while it was read" in ended.err
    assert own.published() == {}


def test_files_that_the_config_names_may_begin_as_hidden_ones(own: Project) -> None:
    """They are looked at again when reading has ended, as any."""
    log = own.home / "log"
    events(log, DAYS[0]).write_parquet(log / f"_events_{DAYS[0]}.parquet")
    next((log / f"items/day={DAYS[0]}").glob("*.parquet")).rename(log / ".items.parquet")
    own.config["data"]["events"] |= {"path": "_events_{day}.parquet", "partition": None}
    own.config["data"]["items"] |= {"path": ".items.parquet", "partition": None}
    own.write()
    own.done("train-teacher", 1)


# -- one schema of a day's files ---------------------------------------------------------------------------------------

N = 6
COLUMNS: dict[str, Any] = {
    "user_id": [1, 1, 2, 2, 3, 3],
    "item_id": ["a", "b", "a", "c", "a", "b"],
    "click": [1, 0, 1, 1, 0, 0],
    "seconds": [50.0, 99.0, None, 5.0, None, None],
}
NUMERIC = {"name": "x", "side": "item", "kind": "numeric"}
CATEGORICAL = {"name": "x", "side": "item", "kind": "categorical"}
SEQUENCE = {"name": "x", "side": "user", "kind": "sequence"}
CONTEXT = {"name": "x", "side": "context", "kind": "categorical"}


def columns(**more: Any) -> dict[str, Any]:
    return {k: v for k, v in (COLUMNS | more).items() if v is not None}


def checked(home: Path, files: list[dict[str, Any]], *features: dict[str, Any], **more: Any) -> Ended:
    """`check` of a day of these files; `more` belongs to data."""
    folder = home / "log" / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for k, frame in enumerate(files):
        table = frame if isinstance(frame, pa.Table) else pl.DataFrame(frame).to_arrow()
        pq.write_table(table, folder / f"{k}.parquet")
    made = Project.create(home, home / "log")
    named = {"click": "click", "duration": "seconds"} | more.pop("events", {})
    made.config["data"] = {"root": str(home / "log"), "events": named, **more}
    made.config["features"] = [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "item_id", "side": "item", "kind": "categorical"},
        *features,
    ]
    made.write()
    return made.call("check", "--day", DAYS[0], "--json")


def unknown(ended: Ended) -> float:
    """Share of users, items or events without a known value of feature x."""
    assert (ended.code, ended.err) == (0, "")
    (share,) = (f["unknown_share"] for f in ended.json["features"] if f["name"] == "x")
    return float(share)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("feature", "one", "other", "shares"),
    [
        pytest.param(NUMERIC, None, [1.5] * N, (1, 0), id="a column of one file alone"),
        pytest.param(CONTEXT, None, list("abcabc"), (0.5, 0.5), id="an event's column of one file alone"),
        pytest.param(NUMERIC, [None] * N, [1] * N, (1, 0), id="a column of Null type"),
        pytest.param(CONTEXT, [None] * N, list("abcabc"), (0.5, 0.5), id="an event's column of Null type"),
        pytest.param(NUMERIC, [1] * N, [1.5] * N, (0, 0), id="integers and floats"),
        pytest.param(NUMERIC, [2**53 + 1] * N, [1.5] * N, (0, 0), id="large integers and floats, read as numbers"),
        pytest.param(NUMERIC, [2**63 + 1] * N, [-1] * N, (0, 0), id="more than int64 and below 0, read as numbers"),
        pytest.param(
            NUMERIC, pl.Series([Decimal("1.25")] * N, dtype=pl.Decimal(10, 2)), [1] * N, (0, 0), id="decimals"
        ),
        pytest.param(CATEGORICAL, [True, False] * 3, [1, 0] * 3, (0, 0), id="booleans and integers"),
        pytest.param(CATEGORICAL, [1, 2, 1, 4, 1, 2], [1.0, None, 1.0, 4.0, 1.0, None], (0, 0.3333), id="nulls"),
        pytest.param(CONTEXT, pl.Series([1] * N, dtype=pl.Int8), [2**40] * N, (0, 0), id="integers of two widths"),
        pytest.param(CONTEXT, pl.Series(["a"] * N, dtype=pl.Categorical), ["b"] * N, (0, 0), id="dictionary and text"),
        pytest.param(
            CONTEXT | {"kind": "sequence"}, [[1]] * N, pl.Series([[2, 3]] * N, dtype=pl.Array(pl.Int16, 2)), (0, 0),
            id="lists and arrays",
        ),
        pytest.param(SEQUENCE, [[]] * N, [["a"]] * N, (1, 0), id="lists of nothing"),
    ],
)  # fmt: skip
def test_files_that_one_schema_can_hold(
    tmp_path: Path, order: int, feature: dict[str, Any], one: Any, other: Any, shares: tuple[float, float]
) -> None:
    """The first event tells of users and items, and it lies in the file that is read first."""
    files = [columns(x=one), columns(x=other)][::order]
    assert unknown(checked(tmp_path, files, feature)) == shares[order == -1]


def test_numbers_of_integers_and_floats_are_exact(tmp_path: Path) -> None:
    """What was int64 in the first file is not cut: 1.5 stays 1.5."""
    checked(tmp_path, [columns(x=[1] * N), columns(x=[1.5] * N, user_id=[4] * N, item_id=["d"] * N)], NUMERIC)
    log = Project(tmp_path, {}).file
    from dmtl_cli.config.reading import load_config

    config = load_config(log)
    day = Log(config.data, config.features).read(dt.date.fromisoformat(DAYS[0]), tmp_path)
    assert dict(day.items.select(":id", "x").rows()) == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.5}


@pytest.mark.parametrize("order", [1, -1])
def test_labels_of_null_type_are_unknown(tmp_path: Path, order: int) -> None:
    files = [columns(seconds=[None] * N, liked=[None] * N), columns(liked=[True] * N)][::order]
    ended = checked(tmp_path, files, events={"conversions": {"like": "liked"}})
    assert (ended.code, ended.err) == (0, "") and ended.json["labels"]["clicks_without_duration"] == 4


@pytest.mark.parametrize("order", [1, -1])
def test_an_empty_file_says_nothing_of_types(tmp_path: Path, order: int) -> None:
    empty = pa.table({c: pa.nulls(0) for c in (*COLUMNS, "x")})
    assert unknown(checked(tmp_path, [columns(x=[1] * N), empty][::order], CONTEXT)) == 0


def test_a_side_table_of_parts_that_lack_a_column(tmp_path: Path) -> None:
    users = tmp_path / "log/users"
    users.mkdir(parents=True)
    pl.DataFrame({"id": [1, 2], "x": [7, 8]}).write_parquet(users / "a.parquet")
    pl.DataFrame({"id": [3]}).write_parquet(users / "b.parquet")
    pl.DataFrame({"id": [4], "x": [None]}).write_parquet(users / "c.parquet")
    pl.DataFrame({"id": pl.Series([5], dtype=pl.UInt16), "x": [1.5]}).write_parquet(users / "d.parquet")
    feature = {"name": "x", "side": "user", "kind": "numeric"}
    side = {"users": {"path": "users", "key": "id"}}
    assert unknown(checked(tmp_path, [columns()], feature, **side)) == pytest.approx(1 / 3, abs=1e-3)
    pl.DataFrame({"id": [5], "x": ["a lot"]}).write_parquet(users / "d.parquet")
    ended = checked(tmp_path, [columns()], feature, **side)
    assert ended.code == 65 and f"{users / 'd.parquet'}: column x is " in ended.err
    assert f"int64 in {users / 'a.parquet'}" in ended.err
    pl.DataFrame({"id": ["5"], "x": [1]}).write_parquet(users / "d.parquet")
    ended = checked(tmp_path, [columns()], feature, **side)
    assert ended.code == 65 and f"{users / 'd.parquet'}: column id is " in ended.err
    pl.DataFrame({"x": [1]}).write_parquet(users / "d.parquet")
    ended = checked(tmp_path, [columns()], feature, **side)
    assert ended.code == 65 and f"{users / 'd.parquet'}: expected key column id" in ended.err


@pytest.mark.parametrize(
    ("one", "other", "feature", "words"),
    [
        ({"x": [1] * N}, {"x": ["a"] * N}, CATEGORICAL, ("1.parquet: column x is", "text", "int64 in", "0.parquet")),
        ({"x": [1] * N}, {"x": [[1]] * N}, CONTEXT, ("1.parquet: column x is", "list", "int64 in", "0.parquet")),
        ({}, {"user_id": [1.0] * N}, None, ("1.parquet: column user_id is double", "int64 in", "0.parquet")),
        ({}, {"item_id": [1] * N}, None, ("1.parquet: column item_id is int64", "text in", "0.parquet")),
        ({}, {"seconds": None}, None, ("1.parquet: data.events.duration expects column seconds, which is not in it",)),
        ({}, {"user_id": None}, None, ("1.parquet: data.events.user expects column user_id, which is not in it",)),
        (
            {}, {"click": [1] * N}, CATEGORICAL,
            ("0.parquet and 1 more: feature x expects column x (columns: ", "(columns: click,"),
        ),
        ({"x": [2**53 + 1] * N}, {"x": [1.0] * N}, CATEGORICAL, ("0.parquet: column x: ", "double over all files")),
    ],
)  # fmt: skip
def test_files_that_no_schema_can_hold(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], feature: dict[str, Any] | None, words: tuple[str, ...]
) -> None:
    ended = checked(tmp_path, [columns(**one), columns(**other)], *([feature] if feature else []))
    assert ended.code == 65, ended.err
    for word in words:
        assert word in ended.err


# -- what a message says of columns and folders ------------------------------------------------------------------------


def test_a_misspelt_column_among_many(tmp_path: Path) -> None:
    frame = columns(**{f"a_column_of_no_use_{k}": [1] * N for k in range(60)})
    ended = checked(tmp_path, [frame], events={"user": "user_idd"})
    assert ended.code == 65
    assert "data.events.user expects column user_idd, did you mean user_id? (64 columns are there)" in ended.err
    ended = checked(tmp_path, [frame | {"age": [1] * N}], {"name": "agee", "side": "user", "kind": "numeric"})
    assert (
        ended.code == 65 and "feature agee expects column agee, did you mean age? (65 columns are there)" in ended.err
    )


def test_a_misspelt_column_of_a_side_table(tmp_path: Path) -> None:
    (tmp_path / "log/users").mkdir(parents=True)
    pl.DataFrame({"user_id": [1], "age": [7]}).write_parquet(tmp_path / "log/users/a.parquet")
    feature = {"name": "agee", "side": "user", "kind": "numeric"}
    ended = checked(tmp_path, [columns()], feature, users={"path": "users", "key": "user_id"})
    assert ended.code == 65 and "feature agee expects column agee, did you mean age?" in ended.err
    assert "events" in ended.err and "users/a.parquet" in ended.err
    ended = checked(tmp_path, [columns()], users={"path": "users", "key": "user_i"})
    assert ended.code == 65 and "expected key column user_i, did you mean user_id?" in ended.err


@pytest.mark.parametrize("part", [".", "events", FOLDER, "users"])
def test_a_file_where_a_folder_is_expected(own: Project, part: str) -> None:
    place = Path(os.path.normpath(own.home / "log" / part))
    shutil.rmtree(place)
    place.write_bytes(b"no folder")
    ended = own.stage("check", 1)
    assert ended.code == 66 and f"{place} is a file, expected a folder" in ended.err


LISTS, TEXT = [[1, 2]] * N, list("abcabc")


@pytest.mark.parametrize(
    ("kind", "column", "words"),
    [
        ({"kind": "categorical"}, LISTS, ("expects integers, booleans or text", "kind: sequence")),
        ({"kind": "categorical"}, [dt.date(2026, 1, 1)] * N, ("date32", "write it as integers or text")),
        ({"kind": "sequence"}, TEXT, ("expects lists", "separator")),
        ({"kind": "sequence"}, [1] * N, ("int64", "kind: categorical")),
        ({"kind": "sequence"}, [[dt.date(2026, 1, 1)]] * N, ("lists of integers or text",)),
        ({"kind": "numeric"}, TEXT, ("expects numbers", "kind: categorical")),
        ({"kind": "numeric"}, LISTS, ("expects numbers", "kind: vector")),
        ({"kind": "numeric"}, [dt.datetime(2026, 1, 1)] * N, ("timestamp", "write it as a number")),
        ({"kind": "vector", "dim": 2}, [1.0] * N, ("expects lists of 2 numbers", "kind: numeric")),
        ({"kind": "categorical"}, pl.Series(TEXT, dtype=pl.Categorical), ()),
        ({"kind": "categorical"}, [True] * N, ()),
        ({"kind": "categorical"}, [1.0] * N, ()),
        ({"kind": "categorical"}, [None] * N, ()),
        ({"kind": "sequence", "separator": "|"}, ["a|b"] * N, ()),
        ({"kind": "sequence"}, pl.Series(LISTS, dtype=pl.Array(pl.Int64, 2)), ()),
        ({"kind": "sequence"}, [["a"]] * N, ()),
        ({"kind": "sequence"}, [None] * N, ()),
        ({"kind": "numeric"}, [True] * N, ()),
        ({"kind": "numeric"}, pl.Series([1] * N).cast(pl.Decimal(10, 2)), ()),
        ({"kind": "numeric"}, [None] * N, ()),
        ({"kind": "vector", "dim": 2}, [[1.0, 2.0]] * N, ()),
        ({"kind": "vector", "dim": 2}, [None] * N, ()),
    ],
)
@pytest.mark.parametrize("where", ["events", "side table"])
def test_a_column_that_a_kind_cannot_take(
    tmp_path: Path, kind: dict[str, Any], column: Any, words: tuple[str, ...], where: str
) -> None:
    feature = {"name": "cats", "side": "user", "column": "tags", **kind}
    if where == "events":
        file, ended = tmp_path / "log" / FOLDER / "0.parquet", checked(tmp_path, [columns(tags=column)], feature)
    else:
        file = tmp_path / "log/users/a.parquet"
        file.parent.mkdir(parents=True)
        pl.DataFrame({"user_id": range(1, N + 1), "tags": column}).write_parquet(file)
        ended = checked(tmp_path, [columns()], feature, users={"path": "users", "key": "user_id"})
    assert ended.code == (65 if words else 0), ended.err
    for word in (f"{file}: feature cats: column tags is ", *words) if words else ():
        assert word in ended.err


def test_a_log_remembers_what_it_found(own: Project) -> None:
    from dmtl_cli.config.reading import load_config

    config = load_config(own.file)
    log, day = Log(config.data, config.features), dt.date.fromisoformat(DAYS[0])
    before = log.inputs(day)
    (own.home / "log" / FOLDER / "part-1.parquet").unlink()
    with pytest.raises(UserError, match="not there any more"):
        log.read(day, own.home)
    assert len(log.inputs(day)) == len(before) - 1 and len(log.read(day, own.home)) < 500


def test_a_column_that_appears_twice(tmp_path: Path) -> None:
    """Parquet allows it; which of them is meant cannot be known."""
    assert checked(tmp_path, [columns()]).code == 0
    (file,) = (tmp_path / "log").rglob("*.parquet")
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.append_column("click", table["click"]), file)
    project = Project(tmp_path, {})
    ended = project.call("check", "--day", DAYS[0])
    assert ended.code == 65 and f"{file}: column click appears more than once" in ended.err


def test_another_partition_key_is_named(own: Project) -> None:
    own.config["data"]["events"]["partition"] = "dt"
    own.write()
    ended = own.call("check", "--day", DAYS[0])
    assert ended.code == 66 and f"no dt=YYYY-MM-DD folder there, but day={DAYS[0]}" in ended.err
    assert "set partition: day of this table" in ended.err


@pytest.mark.parametrize("form", [dt.datetime.fromisoformat, str], ids=["times", "texts"])
def test_a_day_that_one_file_of_all_lacks_is_as_a_folder_that_is_not_there(
    own: Project, form: Callable[[str], Any]
) -> None:
    """The days before and after it are no sign of it: a chain goes on behind it, and begins there."""
    one = events(own.home / "log", DAYS[0])[:400]
    days = [one.with_columns(at=pl.lit(form(f"{day} 08:00:00"))) for day in (DAYS[0], DAYS[2])]
    pl.concat(days).write_parquet(own.home / "log/all.parquet")
    own.config["data"] |= {"timezone": "UTC", "users": None, "items": None}
    own.config["data"]["events"] |= {"path": "all.parquet", "partition": None, "date_column": "at"}
    own.config["features"] = [f for f in own.config["features"] if f["name"] in ("user_id", "item_id")]
    own.write()
    own.done("train-teacher", 1)
    ended = own.stage("train-teacher", 2)
    assert ended.code == 66 and f"no file of {own.home}/log/all.parquet has a at of day {DAYS[1]}" in ended.err
    own.done("train-teacher", 3)
    own.done("build-profile", 3)
