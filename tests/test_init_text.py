"""`init` on text as others write it: lists in text, quotes that are no quotes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from initiated import features, made
from worlds import DAYS, dmtl

from dmtl_cli.config.table import Csv
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.data.log.formats.text_rows import csv_rows
from dmtl_cli.data.log.values.types import lists
from dmtl_cli.guess.reading import texts
from dmtl_cli.guess.reading.rewrites import lists_in_text
from dmtl_cli.guess.reading.rows import dialect, has_lone_quotes

ROWS, ITEMS = 2_000, 120
TAGS = ["drama", "action, slow", 'the "best"', "war", "noir", "kids"]


def log_of(home: Path, items: dict[str, list[Any]], tab: bool = False, **events: Any) -> None:
    """Four days of events in one CSV, and a table of items."""
    rng = np.random.default_rng(1)
    click = rng.integers(0, 3, ROWS) == 0
    frame = {
        "user_id": [f"u{k}" for k in rng.integers(0, 110, ROWS)],
        "item_id": [f"i{k}" for k in rng.integers(0, ITEMS, ROWS)],
        "ts": 1_767_225_600 + np.arange(ROWS) * 170, "clicked": click.astype(int),
        "read_seconds": np.where(click, rng.exponential(40.0, ROWS).round(2), 0.0),
    } | events  # fmt: skip
    pl.DataFrame(frame).write_csv(home / "events.csv")
    if tab:
        rows = zip(*items.values(), strict=True)
        lines = ["\t".join(["item_id", *items]), *("\t".join([f"i{k}", *row]) for k, row in enumerate(rows))]
        (home / "items.tsv").write_text("\n".join(lines) + "\n")
    else:
        pl.DataFrame({"item_id": [f"i{k}" for k in range(ITEMS)]} | items).write_csv(home / "items.csv")


def some_tags(k: int) -> list[str]:
    return [TAGS[(k + j) % 6] for j in range(k % 4)]


# -- lists -------------------------------------------------------------------------------------------------------------


def test_lists_in_text_are_read_as_lists(tmp_path: Path) -> None:
    """JSON arrays, and lists as pandas writes them, of texts and numbers; the day has the very lists."""
    numbers = [[(k + j) % 7 for j in range(1 + k % 3)] for k in range(ITEMS)]
    vectors = [[k / 8, -k / 4, 0.5] for k in range(ITEMS)]
    columns = {
        "tags": [json.dumps(some_tags(k)) for k in range(ITEMS)],
        "looks": [str(some_tags(k + 1)) for k in range(ITEMS)],
        "codes": [json.dumps(n) for n in numbers], "embedding": [json.dumps(v) for v in vectors],
    }  # fmt: skip
    history = [json.dumps([f"i{(k + j) % ITEMS}" for j in range(3)]) for k in range(ROWS)]
    ended, raw, _ = made(tmp_path, lambda home: log_of(home, columns, seen=history))
    assert ended.code == 0, ended.err
    types = raw["data"]["types"]
    assert [types[c] for c in (*columns, "seen")] == ["list<text>"] * 2 + ["list<int64>", "list<float64>", "list<text>"]
    read = features(raw)
    assert read["tags"] == {"name": "tags", "side": "item", "kind": "sequence", "max_length": 3}
    assert read["embedding"] == {"name": "embedding", "side": "item", "kind": "vector", "dim": 3}
    assert read["seen"]["level"] == "event" and read["seen"]["embedding_name"] == "item_id", "a history"
    (tmp_path / "ws").mkdir()
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[1], "--set", f"workspace={tmp_path}/ws")
    assert ended.code == 0
    table = pl.read_parquet(next((tmp_path / "ws/converted/items").rglob("*.parquet")))
    assert table["tags"].to_list() == [some_tags(k) for k in range(ITEMS)]
    assert table["looks"].to_list() == [some_tags(k + 1) for k in range(ITEMS)]
    assert table["codes"].to_list() == numbers and table["embedding"].to_list() == vectors


WRITTEN: dict[str, Callable[[Any], str]] = {
    "json": json.dumps, "python": str, "numpy": lambda v: str(np.array(v)).replace("\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("place", ["column", "field"])
def test_lists_in_the_text_of_parquet_are_told_with_what_makes_them_lists(
    tmp_path: Path, written: str, place: str
) -> None:
    """The line is one that works: the log that it makes is guessed as a CSV with the same text is."""
    wanted: dict[str, list[Any]] = {
        "tags": [[TAGS[(k + j) % 6].replace("'", "") for j in range(1 + k % 3)] for k in range(ITEMS)],
        "codes": [[(k + j) % 7 for j in range(1 + k % 3)] for k in range(ITEMS)],
        "embedding": [[k / 8, -k / 4, 0.5] for k in range(ITEMS)],
    }
    columns = {c: [WRITTEN[written](v) for v in values] for c, values in wanted.items()}

    def write(home: Path) -> None:
        log_of(home, {})
        pl.read_csv(home / "events.csv").write_parquet(home / "events.parquet")
        (home / "events.csv").unlink()
        (home / "items.csv").unlink()
        items = pl.DataFrame({"item_id": [f"i{k}" for k in range(ITEMS)]} | columns)
        if place == "field":
            items = items.select("item_id", about=pl.struct(*wanted))
        items.write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and raw["features"] == "auto", ended.err
    log = pl.read_parquet(tmp_path / "log/items.parquet")
    for c in wanted:
        name = c if place == "column" else f"about.{c}"
        (line,) = (x for x in text.splitlines() if x.startswith(f"# {name}: not used: lists of "))
        log = eval(line.partition("in polars ")[2], {"pl": pl, "log": log})
        assert log[c].to_list() == wanted[c], line
    log.select("item_id", *wanted).write_parquet(tmp_path / "log/items.parquet")
    assert dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--force").code == 0
    read = features(yaml.safe_load((tmp_path / "mine.yaml").read_text()))
    assert [read[c]["kind"] for c in wanted] == ["sequence", "sequence", "vector"]


def test_a_line_that_would_not_work_is_not_told() -> None:
    told = lists_in_text(pl.Series("x", ['["a"]', "['it\\'s']", "['b' 'c']"]))
    assert told == "lists of texts as text; write them as lists"
    assert lists_in_text(pl.Series("x", ["[a, b]", "[c]"])) is None and lists_in_text(pl.Series("x", [1])) is None


@pytest.mark.parametrize("days", [True, False])
def test_lists_in_the_text_of_json_are_read_as_lists(tmp_path: Path, days: bool) -> None:
    """`data.types` reads them; what JSON has as lists needs none."""
    tags = [some_tags(k) for k in range(ROWS)]

    def write(home: Path) -> None:
        log_of(home, {}, tags=[json.dumps(t) for t in tags])
        frame = pl.read_csv(home / "events.csv").with_columns(own=pl.Series(tags))
        (home / "events.csv").unlink()
        day = pl.from_epoch("ts").dt.date()
        for (d,), part in frame.group_by(day if days else pl.lit("all"), maintain_order=True):
            part.drop("literal", strict=False).write_ndjson(home / f"events-{d}.jsonl")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["types"]["tags"] == "list<text>", ended.err
    assert "own" not in raw["data"]["types"]
    read = features(raw)
    assert read["tags"] == read["own"] | {"name": "tags"} and read["tags"]["kind"] == "sequence"
    assert "check of" not in ended.out and f"day {DAYS[3]}: " in ended.out


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            "list<text>",
            ['["a", null]', "['it\\'s']", "[]"],
            ["a", "['it''s']", '["a"', "[1]", '{"a": 1}', '"a"', "[" * 9999],
        ),
        (
            "list<int64>",
            ["[1, -2]", "[ ]", f"[{2**63 - 1}]", "[1 -2\n 3]"],
            ["[1.5]", "[true]", '["1"]', f"[{2**63}]", "[[1]]"],
        ),
        (
            "list<float64>",
            ["[1, 0.5]", "[1e-3]", "[ 0.5 -.5\n 1. nan]"],
            ["[0.5 ... 1]", "0.5 1", '["x"]', "__import__('os')", "[__import__('os')]"],
        ),
    ],
)
def test_what_is_a_list_of_a_type(kind: Any, good: list[str], bad: list[str]) -> None:
    assert lists(pl.Series([*good, None]), kind).null_count() == 1
    assert lists(pl.Series(bad), kind).null_count() == len(bad)


def test_an_escape_that_python_doubts_is_no_warning() -> None:
    assert lists(pl.Series(["['\\d']", "[1or 2]"]), "list<text>").to_list() == [["\\d"], None]


def test_what_json_has_as_lists_is_cast() -> None:
    assert lists(pl.Series([[1, 2], None, []]), "list<float64>").to_list() == [[1.0, 2.0], None, []]


def test_a_value_that_is_no_list_is_named(tmp_path: Path) -> None:
    columns = {"tags": [json.dumps(some_tags(k)) for k in range(ITEMS)]}
    made(tmp_path, lambda home: log_of(home, columns))
    text = (tmp_path / "log/items.csv").read_text().replace("[]", "[oops", 1)
    (tmp_path / "log/items.csv").write_text(text)
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[1])
    assert ended.code == 65 and 'items.csv: row 2, column tags: expected a list as ["a", "b"], got' in ended.err


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (lambda k: "phone|desktop" if k % 5 == 0 else ("phone", "desktop", "tablet")[k % 3], "|"),
        (lambda k: "rock; pop" if k % 6 == 0 else ("rock", "pop")[k % 2], "; "),
        (lambda k: ("Paris, France", "Lyon, France", "Oslo, Norway", "Rome, Italy", "Bari, Italy")[k % 5], None),
        (lambda k: "yes, but no" if k % 6 == 0 else ("yes", "no")[k % 2], None),
    ],
)
def test_texts_whose_pieces_stand_alone_elsewhere(
    tmp_path: Path, cells: Callable[[int], str], separator: str | None
) -> None:
    _, raw, _ = made(tmp_path, lambda home: log_of(home, {"kinds": [cells(k) for k in range(ITEMS)]}))
    found = features(raw)["kinds"]
    assert found.get("separator") == separator and (found["kind"] == "sequence") == (separator is not None)


def test_sentences_with_commas_are_no_lists(tmp_path: Path) -> None:
    tales = [f"a long, slow tale of part {k % 40}, and its end" for k in range(ITEMS)]
    _, raw, text = made(tmp_path, lambda home: log_of(home, {"kinds": tales}))
    assert "kinds" not in features(raw) and "# kinds: not used: sentences, 10 words each, which no kind" in text


# -- quotes ------------------------------------------------------------------------------------------------------------

TITLES = ['"Weird Al" lives', 'a 5" screen', '"Unfinished', "plain", "it's", 'the "end"']


@pytest.mark.parametrize("place", ["items", "events"])
def test_quotes_that_are_text(tmp_path: Path, place: str) -> None:
    """A dump without quoting: `init` says so, and every row is read as it is written."""
    titles = [TITLES[k % len(TITLES)] + (f" {k}" if k % 6 else "") for k in range(ITEMS)]

    def write(home: Path) -> None:
        log_of(home, {"words": ["a b"] * ITEMS, "genre": titles}, tab=True)
        if place == "events":
            lines = (home / "events.csv").read_text().splitlines()
            lines = [f"{x},{'title' if k == 0 else TITLES[k % 6]}" for k, x in enumerate(lines)]
            (home / "events.csv").write_text("\n".join(lines))
            (home / "items.tsv").unlink()

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    if place == "events":
        assert raw["data"]["csv"] == {"quote_char": None} and "quotes are text" in text
        assert "2,000 rows" in text
    else:
        assert raw["data"]["items"]["csv"] == {"separator": "\t", "quote_char": None}
        ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[1], "--json")
        assert ended.json["join"] == {"items_joined": 1.0}, "no row was swallowed"


@pytest.mark.parametrize(
    ("rows", "lone"),
    [
        (['a,"b"', 'c,"d"'], False), (['a,"b, c"', "d,e"], False), (['a,"b\nc"', "d,e"], False),
        (['a,"b\nc,d"', "d,e"], True), (['a,"b ""c"""', 'd,""'], False), (['a,b "c" d', "d,e"], False),
        (['a,"b', "d,e"], True), (['"a,b', "d,e"], True), (['a,"b" c', "d,e"], True), (['a,"b"x", c"', "d,e"], False),
        (['a,"b', "d,e", "f,g,h"], False), (['"a', "b"], False), (["a,b", ""], False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_which_quotes_are_text(tmp_path: Path, rows: list[str], lone: bool, end: str) -> None:
    (tmp_path / "a.csv").write_bytes((end or "\n").join(rows).encode() + end.encode())
    assert has_lone_quotes(Store(str(tmp_path)).file("a.csv"), ",") == lone


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_a_dump_is_read_row_by_row(tmp_path: Path, separator: str) -> None:
    """As the guess says, there are as many rows as lines, and every cell is what lies between two separators."""
    rng = np.random.default_rng(2)
    cells = [["id", "name", "n"], *([f"k{i}", TITLES[rng.integers(0, 6)], str(i)] for i in range(300))]
    (tmp_path / "a.csv").write_text("\n".join(separator.join(row) for row in cells))
    file = Store(str(tmp_path)).file("a.csv")
    text = dialect((tmp_path / "a.csv").read_bytes(), quoted=False)
    assert (text.separator, text.header, has_lone_quotes(file, text.separator)) == (separator, True, True)
    options = Csv(separator=separator, quote_char=None)
    read = pl.concat([rows.frame for rows in csv_rows(file, options, lambda frame, _: frame)])
    assert [read.columns, *map(list, read.iter_rows())] == cells


def test_texts_of_a_numpy_array_stay_apart() -> None:
    """As pandas writes one: Python itself would join neighbours."""
    texts = ["['a' 'b']", "['a' 'b', 'c']", "['it\\'s'\n \"x, y\"]", "['a' None]", "['a''b']", "['a' b]", "[nan 'a']"]
    found = lists(pl.Series(texts), "list<text>").to_list()
    assert found == [["a", "b"], ["a", "b", "c"], ["it's", "x, y"], ["a", None], None, None, None]


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert lists(pl.Series(['["\\ud800x"]', '["\\ud83d\\ude00"]']), "list<text>").to_list() == [None, ["\U0001f600"]]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("list<int64>", [[1.0, 2.0], [1.5, 2.9], None, [], [None, 3.0]], [[1, 2], None, None, [], [None, 3]]),
        ("list<int64>", [[True]], [None]),
        ("list<float64>", [[1, 2], [None]], [[1.0, 2.0], [None]]),
        ("list<text>", [["a"], [None]], [["a"], [None]]),
        ("list<int64>", [["1", "2"], ["x"]], [[1, 2], None]),
    ],
)
def test_lists_of_another_type_lose_no_value(kind: Any, given: list[Any], expected: list[Any]) -> None:
    assert lists(pl.Series(given), kind).to_list() == expected


def test_a_list_that_is_empty_for_long_is_guessed() -> None:
    """Histories of a log's first rows are empty, and whole numbers may come before others."""
    for first, then, kind in (("[]", "[1, 2]", pl.Int64), ("[1]", "[0.5]", pl.Float64)):
        found = texts._typed(pl.Series([first] * 3_000 + [then]))
        assert found.dtype == pl.List(kind), (first, then)
