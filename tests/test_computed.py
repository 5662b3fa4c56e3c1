"""Columns that a config computes from others: the log is read as if its files had them, and what is wrong is told."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import DAY, put, rows
from worlds import Project, dmtl

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.computed import Beside, Computed

COMPUTED = {
    "person": "firm || '/' || CAST(desk AS VARCHAR)",
    "good": "COALESCE(scroll >= 75, FALSE) OR kept = 'J'",
    "slot": "CASE WHEN place < 3 THEN 'top' ELSE 'below' END",
}
FEATURES = (
    Feature(name="person", side="user", kind="categorical"),
    Feature(name="doc", side="item", kind="categorical"),
    Feature(name="age", side="item", kind="numeric"),
    Feature(name="slot", side="context", kind="categorical"),
)


def log(n: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    opened = rng.random(n) < 0.4
    return pl.DataFrame(
        {
            "firm": [f"K{k}" for k in rng.integers(20, size=n)],
            "desk": rng.integers(3, size=n),
            "doc": [f"d{k}" for k in rng.integers(30, size=n)],
            "opened": opened,
            "scroll": [int(s) if o else None for s, o in zip(rng.integers(0, 101, n), opened, strict=True)],
            "kept": rng.choice(["J", "N"], n),
            "place": rng.integers(9, size=n),
        }
    )


def written_out(frame: pl.DataFrame) -> pl.DataFrame:
    """What the expressions say, by Polars' own expressions."""
    return frame.with_columns(
        person=pl.col("firm") + "/" + pl.col("desk").cast(pl.String),
        good=(pl.col("scroll") >= 75).fill_null(False) | (pl.col("kept") == "J"),
        slot=pl.when(pl.col("place") < 3).then(pl.lit("top")).otherwise(pl.lit("below")),
    )


ITEMS = pl.DataFrame({"doc": [f"d{k}" for k in range(30)], "year": [1990 + k for k in range(30)]})


def read(root: Path, computed: bool, kind: str = "parquet", **more: Any) -> pl.DataFrame:
    columns = {"user": "person", "item": "doc", "click": "opened", "conversion": "good"}
    given: dict[str, Any] = {"path": f"events.{kind}" if kind != "parquet" else "events", **columns, **more}
    items: dict[str, Any] = {"path": "items.parquet", "key": "doc", "format": "parquet"}
    if computed:
        given["computed"], items["computed"] = COMPUTED, {"age": "2026 - year"}
    fmt: Any = kind.partition(".")[0]
    day = Log(
        Data(root=str(root), format=fmt, events=Events(**given), items=SideTable(**items)),
        FEATURES,
        converted=root / "converted",
    ).read(DAY, root)
    ages = day.items.select(pl.col(ID).alias("item"), "age")
    return rows(day).join(ages, on="item", how="left").sort("position")


@pytest.fixture
def plain(tmp_path: Path) -> pl.DataFrame:
    """The rows of a log that has the columns in its files."""
    put(tmp_path / "plain", written_out(log()).to_dict())
    ITEMS.with_columns(age=2026 - pl.col("year")).write_parquet(tmp_path / "plain/items.parquet")
    return read(tmp_path / "plain", computed=False)


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [7, sizes.BLOCK])
def test_parquet_is_read_as_if_it_had_them(
    tmp_path: Path, plain: pl.DataFrame, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "log", log().to_dict())
    ITEMS.write_parquet(tmp_path / "log/items.parquet")
    monkeypatch.setattr(sizes, "BLOCK", block)
    assert read(tmp_path / "log", computed=True).equals(plain)


@pytest.mark.parametrize("kind", ["csv", "json.gz"])
def test_text_is_read_as_if_it_had_them(tmp_path: Path, plain: pl.DataFrame, kind: str) -> None:
    write(log(), tmp_path / "log", "events", kind)
    ITEMS.write_parquet(tmp_path / "log/items.parquet")
    types = {"scroll": "int64", "place": "int64"} if kind == "csv" else {}
    (tmp_path / "log" / f"events.{kind}").rename(tmp_path / "log" / f"events_{DAY}.{kind}")
    found = read(tmp_path / "log", computed=True, kind=kind, types=types, path=f"events_{{day}}.{kind}")
    assert found.drop("position").equals(plain.drop("position"))


def test_fields_of_objects_are_named_in_quotes(tmp_path: Path, plain: pl.DataFrame) -> None:
    nested = log().select("firm", "desk", "doc", "opened", "place", outcome=pl.struct("scroll", "kept"))
    put(tmp_path / "log", nested.to_dict())
    ITEMS.write_parquet(tmp_path / "log/items.parquet")
    good = """COALESCE("outcome.scroll" >= 75, FALSE) OR "outcome.kept" = 'J'"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPUTED, "good", good)
        assert read(tmp_path / "log", computed=True).equals(plain)


def test_fields_of_objects_are_named_without_quotes(tmp_path: Path, plain: pl.DataFrame) -> None:
    nested = log().select("firm", "desk", "doc", "opened", "place", outcome=pl.struct("scroll", "kept"))
    put(tmp_path / "log", nested.to_dict())
    ITEMS.write_parquet(tmp_path / "log/items.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPUTED, "good", "COALESCE(outcome.scroll >= 75, FALSE) OR outcome.kept = 'J'")
        assert read(tmp_path / "log", computed=True).equals(plain)


@pytest.mark.parametrize("block", [7, sizes.BLOCK])
def test_side_tables_say_what_a_row_is_compared_with(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label by the length of the item as the day knew it, 30 of an item that is not in the table."""
    put(tmp_path, log().to_dict())
    since = [DAY + dt.timedelta(k) for k in (-1, 0, 1)]
    length = pl.DataFrame(
        {
            "doc": [f"d{k}" for k in range(25) for _ in since],
            "pages": [10 * (k + 1) for k in range(25) for _ in since],
            "since": since * 25,
        }
    )
    length = length.with_columns(pages=pl.when(pl.col("since") == since[1]).then("pages").otherwise(1))
    length.write_parquet(tmp_path / "items.parquet")
    monkeypatch.setattr(sizes, "BLOCK", block)
    made = Log(
        Data(
            root=str(tmp_path),
            events=Events(
                user="desk",
                item="doc",
                click="opened",
                conversion="good",
                computed={"good": "scroll > COALESCE(items.pages, 30)", "slot": "items.pages / 10"},
            ),
            items=SideTable(path="items.parquet", key="doc", version="since"),
        ),
        FEATURES[3:],
    )
    found = rows(made.read(DAY, tmp_path)).sort("position")
    pages = [10 * (int(d[1:]) + 1) if int(d[1:]) < 25 else None for d in log()["doc"]]
    good = [-1 if s is None else int(s > (p or 30)) for s, p in zip(log()["scroll"], pages, strict=True)]
    assert found["conversion"].to_list() == good and good.count(1) > 20, "null is unknown"
    assert found["slot"].to_list() == [p and p // 10 for p in pages]


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.none() | st.floats(allow_nan=True), min_size=1, max_size=30),
    cut=st.integers(0, 30),
)
def test_a_row_has_its_value_whatever_block_it_is_in(values: list[float | None], cut: int) -> None:
    frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.Float64)})
    computed = Computed("data.events.computed", {"b": "a >= 3 OR a IS NULL", "c": "COALESCE(a, 90) * 2"})
    whole = computed.of(frame.to_arrow(), ["c", "a", "b"], "x")
    parts = [computed.of(part.to_arrow(), ["c", "a", "b"], "x") for part in (frame[:cut], frame[cut:])]
    assert whole.column_names == ["c", "a", "b"] and parts[0].schema == whole.schema
    assert pl.concat([pl.from_arrow(x) for x in parts]).equals(pl.from_arrow(whole), null_equal=True)  # type: ignore[arg-type,type-var]
    known = [None if x is None or np.isnan(x) else x for x in values]
    assert whole["c"].to_pylist() == pytest.approx([2 * (90 if x is None else x) for x in known])


def test_the_example_of_the_docs_is_what_it_says() -> None:
    text = (Path(__file__).parent.parent / "docs/logs.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"### Computed columns\n```yaml\n(.*?)```", text, re.S)
    events = Events(**yaml.safe_load(block)["data"]["events"])
    raw = {"firm": "K7", "desk": 2, "outcome.scroll_pct": None, "saved": "J"}
    raw |= {"shown": "27.03.2026 00:01:28", "play_ms": 2000, "length_ms": 8000, "item_id": 5}
    rows = pl.DataFrame([raw, raw | {"saved": "N", "length_ms": 0}]).to_arrow()
    items = Beside("item_id", lambda columns: (pl.Series([5, 6]), pl.DataFrame({columns[0]: [2, 9]})))
    made = Computed("computed", events.computed, {"items": items}).of(rows, list(events.computed), "x").to_pydict()
    assert made["person"] == ["K7/2", "K7/2"] and made["good"] == [True, False]
    assert made["shown_at"][0] == dt.datetime(2026, 3, 27, 0, 1, 28) and made["watched_share"] == [0.25, None]
    assert made["read_enough"] == [True, True]


def made(frame: pl.DataFrame, expression: str, **beside: Beside) -> list[Any]:
    computed = Computed("data.events.computed", {"x": expression}, beside)
    return computed.of(frame.to_arrow(), ["x"], "f")["x"].to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("SUBSTR(t, 1, 2)", "27"), ("LENGTH(t) > 3", True), ("a IN (1, 2)", True), ("EXTRACT(month FROM d)", 3),
        ("ARRAY_LENGTH(l)", 2), ("SPLIT_PART(t, '.', 2)", "03"), ("t LIKE '27%'", True), ("GREATEST(a, 5)", 5),
        ("ARRAY_CONTAINS(l, 'x')", True), ("CAST(a AS VARCHAR) || t", "127.03"), ("NULLIF(a, 1) IS NULL", True),
    ],
)  # fmt: skip
def test_what_looks_at_one_row_is_no_function_of_several(expression: str, found: object) -> None:
    frame = pl.DataFrame({"t": ["27.03"], "a": [1], "d": [dt.date(2026, 3, 27)], "l": [["x", "y"]]})
    assert made(frame, expression) == [found]


def test_numbers_do_not_wrap_and_nan_is_unknown() -> None:
    small = pl.DataFrame({"a": pl.Series([120, 3], dtype=pl.Int8), "b": pl.Series([3_000_000, 5], dtype=pl.UInt32)})
    assert made(small, "a + a >= 200") == [True, False] and made(small, "b * 1000 - 1") == [2_999_999_999, 4_999]
    assert made(small, "a - b") == [120 - 3_000_000, -2]
    assert made(pl.DataFrame({"a": [float("nan"), 80.0, None]}), "a >= 75") == [None, True, None]


def test_texts_are_texts_however_they_are_stored() -> None:
    frame = pl.DataFrame({"a": pl.Series(["x", "y", None], dtype=pl.Categorical), "n": [None, None, None]})
    assert made(frame, "UPPER(a) || '!'") == ["X!", "Y!", None]
    assert made(frame, "UPPER(n) || a") == [None, None, None], "a column without a value has no type"


def test_names_of_any_kind() -> None:
    frame = pl.DataFrame({"o.deep.x": [1, 2], "o.y": [3, 4], 'a "b"': ["o.z", "q"], "items": [7, 8]})
    assert made(frame, "o.deep.x + o.y") == [4, 6] and made(frame, '"o"."deep"."x" * 2') == [2, 4]
    assert made(frame, """"a ""b""\" = 'o.z'""") == [True, False], "a text is no field"
    ids = Beside("items", lambda columns: (pl.Series([8, 9]), pl.DataFrame({c: [80, 90] for c in columns})))
    assert made(frame, "items.long", items=ids) == [None, 80], "the id's own name"


def test_ids_that_cannot_be_are_in_no_table() -> None:
    frame = pl.DataFrame({"i": pl.Series([2**63 + 1, 8], dtype=pl.UInt64)})
    ids = Beside("i", lambda columns: (pl.Series([8, 9]), pl.DataFrame({c: [80, 90] for c in columns})))
    assert made(frame, "items.long", items=ids) == [None, 80]


# -- through the command line ------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Project:
    put(tmp_path / "log", log().to_dict(), "events/day=2026-01-01/a.parquet")
    events = {"user": "person", "item": "doc", "click": "opened", "conversion": "good", "computed": dict(COMPUTED)}
    features = [
        {"name": "person", "side": "user", "kind": "categorical"},
        {"name": "doc", "side": "item", "kind": "categorical"},
        {"name": "slot", "side": "context", "kind": "categorical"},
    ]
    config = {"seed": 1, "threads": 1, "auto": {"budget": 0}, "data": {"events": events}, "features": features}
    return Project.create(tmp_path, tmp_path / "log", config=config)


@pytest.mark.parametrize("expression", ["on <> 'N'", "'S' = on", "place > 1 AND NOT a.b = 'N'"])
def test_true_and_false_are_compared_with_no_text(expression: str) -> None:
    """polars finds it different from each text, and nothing would be left out."""
    rows = pl.DataFrame({"on": [True, False], "place": [1, 2], "a.b": [False, None]}).to_arrow()
    with pytest.raises(
        UserError, match=r"data.events.computed.good: (on|a.b) is true or false, and compared with '[NS]'"
    ):
        Computed("data.events", {"good": expression}).of(rows, ["good"], "f")
    for same, found in (("on = true", [True, False]), ("on = 'true'", [True, False]), ("on = 1", [True, False])):
        made = Computed("data.events", {"good": same}).of(rows, ["good"], "f")
        assert made.column("good").to_pylist() == found


def test_a_day_of_them_is_trained_and_check_has_no_complaint_of_their_sources(project: Project) -> None:
    checked = project.call("check", "--day", "2026-01-01")
    assert checked.code == 0, checked.err
    nothing = [line for line in checked.out.splitlines() if "nothing reads" in line]
    assert not any(name in line for line in nothing for name in ("firm", "desk", "scroll", "kept", "place"))
    teacher = project.done("train-teacher", 1)
    assert teacher["rows"]["log"] == 400
    assert teacher["metrics"]["embedding.rows"] > 50, "persons, documents and slots have rows"


def test_a_config_without_them_has_no_word_of_them() -> None:
    """So that the runs of earlier configs keep their keys."""
    plain = Data(root="x", events=Events(duration="d"), items=SideTable(path="i", key="k"))
    assert "computed" not in str(plain.model_dump())


@pytest.mark.parametrize(
    ("column", "expression", "code", "said"),
    [
        ("good", "scroll >=", 78, "data.events.computed.good: expected an SQL expression, got 'scroll >='"),
        ("good", "user.plan = 'J'", 78, 'user.plan begins with a word of SQL: write "user.plan"'),
        ("good", "user = 'J'", 78, 'user is a word of SQL: write "user"'),
        ("good", "1 = 1", 78, "expected an SQL expression of columns, got '1 = 1'"),
        ("good", "scrol >= 75", 65, "data.events.computed.good expects column scrol, did you mean scroll?"),
        ("good", "kept >= 75", 65, "data.events.computed.good: cannot compare string with numeric type"),
        ("good", "CAST(kept AS INT) = 1", 65, "failed in column 'kept'"),
        ("good", "scroll > AVG(scroll)", 78, "expected an expression of a row alone, without functions over several"),
        ("good", "COALESCE(scroll, MAX(place)) > 5", 78, "expected an expression of a row alone"),
        ("good", "COUNT(doc) OVER (PARTITION BY firm) > 5", 78, "expected an expression of a row alone"),
        ("good", "scroll > COUNT(*)", 78, "expected an expression of a row alone"),
        ("good", "scroll > ROW_NUMBER() OVER ()", 78, "expected an expression of a row alone"),
        ("good", "kept IN ('J') AND LAG(place) OVER (ORDER BY place) > 1", 78, "expected an expression of a row alone"),
        ("good", "scroll > 5 AND NOW() > '2026-01-01'", 78, "of a row alone, which NOW is not"),
        ("good", "kept = 'NOW' AND scroll >= 75", 0, ""),
        ("good", "kept.a > 5 OR kept = 'J'", 78, "expected kept or fields of it, got both"),
        ("good", "scroll > items.pages", 65, "data.events.computed.good expects column items.pages"),
        ("slot", "outcome.kept", 65, "data.events.computed.slot expects column outcome.kept"),
        (
            "slot",
            "person || kept",
            65,
            "expects column person; it is computed itself, and columns are made of those of",
        ),
        ("doc", "firm", 65, "data.events.computed.doc: the file has a column of that name"),
        ("slot", "CASE WHEN scroll > 3 THEN 'a' ELSE 'b' END", 0, ""),
        ("slot", "CASE WHEN opened THEN 'a' ELSE 'b' END", 78, "slot is an outcome, known only after the exposure"),
    ],
)
def test_what_is_wrong_is_one_line(project: Project, column: str, expression: str, code: int, said: str) -> None:
    project.config["data"]["events"]["computed"][column] = expression
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    assert ended.code == code, ended.err
    if code:
        assert said in ended.err and len(ended.err.splitlines()) == 1 and "bug" not in ended.err


def test_of_a_side_table(project: Project, tmp_path: Path) -> None:
    config = project.config["data"]
    ITEMS.write_parquet(tmp_path / "log/items.parquet")
    config["items"] = {"path": "items.parquet", "key": "doc"}
    config["events"]["computed"]["good"] = "scroll > items.year - 1950"
    project.write()
    found = project.call("check", "--day", "2026-01-01", "--json")
    assert found.code == 0 and found.json["unread"] == ["kept"], "not year, which is looked up"
    config["events"]["computed"]["good"] = "scroll > items.years"
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    assert ended.code == 65 and "data.items expects column years, did you mean year?" in ended.err
    ITEMS.with_columns(doc=pl.int_range(30)).write_parquet(tmp_path / "log/items.parquet")
    config["events"]["computed"]["good"] = "scroll > items.year"
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    assert (
        ended.code == 65 and len(ended.err.splitlines()) == 1 and "write both as integers, or both as text" in ended.err
    )


def test_the_day_is_not_computed(project: Project) -> None:
    project.config["data"]["events"] |= {"date_column": "slot"}
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    assert ended.code == 78 and "date_column is read before columns are computed" in ended.err


# -- side tables that are looked up by a computed id -------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
def test_rows_are_asked_for_by_the_table_of_a_computed_user(project: Project, tmp_path: Path, stored: bool) -> None:
    """As if the files had the id: rows of staff are left out."""
    home, config = tmp_path / "log", project.config["data"]
    people = written_out(log())["person"].unique().sort()
    staff = pl.int_range(len(people), eager=True) % 4 == 0
    pl.DataFrame({"person": people, "is_staff": staff}).write_parquet(home / "users.parquet")
    config["users"] = {"path": "users.parquet", "key": "person"}
    config["events"]["where"] = "NOT COALESCE(users.is_staff, FALSE)"
    if stored:
        put(home, written_out(log()).drop("good", "slot").to_dict(), "events/day=2026-01-01/a.parquet")
        del config["events"]["computed"]["person"]
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    assert ended.code == 0, ended.err
    kept = written_out(log()).filter(~pl.col("person").is_in(people.filter(staff).implode()))
    assert f"{len(kept)} rows of {kept['person'].n_unique()} users" in ended.out, ended.out


def test_a_user_who_is_looked_up_by_what_is_looked_up_is_refused_with_what_to_do(
    project: Project, tmp_path: Path
) -> None:
    pl.DataFrame({"person": ["K1/1"], "team": ["x"]}).write_parquet(tmp_path / "log/users.parquet")
    config = project.config["data"]
    config["users"] = {"path": "users.parquet", "key": "person"}
    config["events"]["computed"]["person"] = "COALESCE(users.team, firm)"
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    said = (
        "users.team is looked up by person, which is computed of a side table: compute person of columns of the files"
    )
    assert ended.code == 65 and said in ended.err and "bug" not in ended.err, ended.err


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("csv", "columns of csv are text until data.types"),
        ("json", "values of json in quotes are text until data.types"),
    ],
)
def test_numbers_of_text_are_text_until_a_type_is_named(project: Project, tmp_path: Path, form: str, said: str) -> None:
    (tmp_path / "text").mkdir()
    file = tmp_path / f"text/2026-01-01.{form}"
    log().write_csv(file) if form == "csv" else log().cast({"scroll": str, "place": str}).write_ndjson(file)
    project.config["data"] |= {"root": str(tmp_path / "text"), "format": form}
    project.config["data"]["events"] |= {"path": f"{{day}}.{form}"}
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    assert ended.code == 65 and said in ended.err, ended.err
    project.config["data"]["types"] = {"scroll": "int64", "place": "int64"}
    project.write()
    assert project.call("check", "--day", "2026-01-01").code == 0


# -- files of one day that differ --------------------------------------------------------------------------------------


def in_two_files(root: Path, lacking: tuple[str, ...]) -> pl.DataFrame:
    """The log with some columns in the first of two files alone, as its rows are read: null in the other."""
    whole = log()
    place = put(root, whole.head(150).to_dict()).parent
    whole.slice(150).drop(lacking).write_parquet(place / "b.parquet")
    ITEMS.write_parquet(root / "items.parquet")
    late = pl.int_range(pl.len()) >= 150
    return whole.with_columns(pl.when(late).then(None).otherwise(pl.col(c)).alias(c) for c in lacking)


@pytest.mark.parametrize("lacking", [("place",), ("place", "scroll", "kept")])
def test_a_feature_of_a_column_that_one_file_lacks_is_made_of_nulls(tmp_path: Path, lacking: tuple[str, ...]) -> None:
    """As of a file that has it without a value: the same rows in one file."""
    frame = in_two_files(tmp_path / "two", lacking)
    put(tmp_path / "one", frame.to_dict())
    ITEMS.write_parquet(tmp_path / "one/items.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPUTED, "good", "opened AND desk > 0")
        patch.setitem(COMPUTED, "unread", "scroll + 1")
        two, one = (read(tmp_path / name, computed=True) for name in ("two", "one"))
    assert two.drop("position").equals(one.drop("position")) and set(one["slot"].tail(250)) == {"below"}


def test_a_column_that_nothing_reads_may_be_made_of_one_that_no_file_has(tmp_path: Path, plain: pl.DataFrame) -> None:
    put(tmp_path / "log", log().to_dict())
    ITEMS.write_parquet(tmp_path / "log/items.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPUTED, "unread", "nowhere > 3")
        assert read(tmp_path / "log", computed=True).equals(plain)


def test_a_role_of_a_column_that_one_file_lacks_is_refused_as_a_plain_one(project: Project, tmp_path: Path) -> None:
    """A label that is null in one of the files would be a writer's mistake; a column that nothing reads is none."""
    (folder,) = (tmp_path / "log/events").glob("*")
    (file,) = folder.glob("*.parquet")
    whole = pl.read_parquet(file)
    whole.head(200).write_parquet(folder / "0.parquet")
    whole.slice(200).drop("scroll").write_parquet(folder / "1.parquet")
    file.unlink()
    project.config["data"]["events"]["computed"] |= {"unread": "scroll + 1"}
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    what = "1.parquet: data.events.computed.good expects column scroll, which is not in it but in "
    assert ended.code == 65 and what in ended.err and ended.err.endswith("0.parquet; write it in all files\n")
    project.config["data"]["events"]["computed"]["good"] = "opened AND kept = 'J'"
    project.write()
    ended = project.call("check", "--day", "2026-01-01", "--json")
    assert (ended.code, ended.json["rows"]) == (0, 400), ended.err


def test_of_a_side_table_in_two_files(tmp_path: Path, plain: pl.DataFrame) -> None:
    put(tmp_path / "log", log().to_dict())
    (tmp_path / "log/items").mkdir()
    ITEMS.head(20).write_parquet(tmp_path / "log/items/0.parquet")
    ITEMS.slice(20).drop("year").write_parquet(tmp_path / "log/items/1.parquet")
    events = Events(user="person", item="doc", click="opened", conversion="good", computed=COMPUTED)
    items = SideTable(path="items", key="doc", computed={"age": "2026 - year"})
    made = Log(Data(root=str(tmp_path / "log"), events=events, items=items), FEATURES).read(DAY, tmp_path / "log")
    first = ITEMS["doc"].head(20).to_list()
    expected = dict(plain.select("item", "age").unique().iter_rows())
    found = dict(made.items.select(ID, "age").iter_rows())
    assert found == {doc: age if doc in first else None for doc, age in expected.items()}


def test_a_field_of_an_object_of_a_side_table_is_looked_up(tmp_path: Path) -> None:
    put(tmp_path, log().to_dict())
    known = ITEMS.head(20).with_columns(
        meta=pl.struct(lang=pl.when(pl.col("year") % 2 == 0).then(pl.lit("de")), of=pl.struct(pages="year"))
    )
    known.write_parquet(tmp_path / "items.parquet")
    computed = COMPUTED | {"good": "COALESCE(items.meta.lang = 'de' AND items.meta.of.pages > 2000, FALSE)"}
    events = Events(user="person", item="doc", click="opened", conversion="good", computed=computed)
    items = SideTable(path="items.parquet", key="doc")
    day = Log(Data(root=str(tmp_path), events=events, items=items), FEATURES[:2]).read(DAY, tmp_path)
    (block,) = day.blocks()
    good = {f"d{k}" for k in range(20) if k % 2 == 0 and 1990 + k > 2000}
    assert block.conversion.tolist() == [int(doc in good) for doc in day.items[ID].gather(block.item)] and good


def test_a_label_that_looks_something_up_counts_in_profiles(tmp_path: Path) -> None:
    """Through the command line: as the label written into the events does. A profile knows the ids of events alone."""
    label, profiles = pl.col("scroll").cast(pl.Int64) >= pl.col("year") % 100, []
    for name in ("looked_up", "plain"):
        home = tmp_path / name
        both = log().join(ITEMS, on="doc", how="left").with_columns(good=(label & pl.col("opened")).fill_null(False))
        put(home / "log", (both.drop("year") if name == "plain" else log()).to_dict())
        pl.concat([ITEMS, ITEMS.head(1).with_columns(doc=pl.lit("never shown"))]).write_parquet(
            home / "log/items.parquet"
        )
        computed = {"person": COMPUTED["person"], "slot": COMPUTED["slot"]}
        if name == "looked_up":
            computed["good"] = "COALESCE(scroll >= items.year % 100 AND opened, FALSE)"
        events = {"path": "events", "partition": "day", "user": "person", "item": "doc", "click": "opened"}
        config = {
            "workspace": str(home / "ws"),
            "features": ["auto"],
            "gates": {"quality": False},
            "data": {
                "root": str(home / "log"),
                "events": events | {"conversion": "good", "computed": computed},
                "items": {"path": "items.parquet", "key": "doc"},
            },
        }
        (home / "c.yaml").write_text(yaml.safe_dump(config))
        ended = dmtl("build-profile", "--config", home / "c.yaml", "--day", DAY.isoformat(), "--json")
        assert ended.code == 0, ended.err
        (folder,) = (home / "ws/profile").glob("day=*/run-*")
        profiles.append({f.name: pl.read_parquet(f) for f in folder.glob("*.parquet")})
    one, other = profiles
    assert one.keys() == other.keys() and all(one[name].equals(other[name]) for name in one)
    assert (
        sum(frame.height for frame in one.values()) > 30
        and "never shown" not in one["items.parquet"].to_series().to_list()
    )
