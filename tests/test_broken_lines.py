"""Lines that do not parse: refused, or left out and counted where `data.events.invalid_rows` says so."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from initiated import made as made_by_init
from worlds import Project, dmtl

from dmtl_cli.data.log.formats import text_rows
from dmtl_cli.guess.exposures import doubts

HEAD = "user_id;item_id;click;seconds\n"
ROWS = [f"u{k % 3};i{k % 4};{k % 2};{k}.5" for k in range(12)]
DROP = "set data.events.invalid_rows: drop, which leaves out and counts lines that do not parse"
DAY = "2026-01-01"


def project(home: Path, kind: str, **events: Any) -> Project:
    """A log of text files, {day} in their names."""
    made = Project.create(home, home / "log")
    (home / "log").mkdir(parents=True)
    data: dict[str, Any] = {
        "root": str(home / "log"), "format": kind.partition(".")[0],
        "events": {"path": f"{{day}}.{kind}", "click": "click", "duration": "seconds", "conversions": {}} | events,
    }  # fmt: skip
    if kind == "csv":
        data["csv"] = {"separator": ";"}
    made.config["data"], made.config["features"] = data, "auto"
    made.write()
    return made


def lines_of(kind: str) -> list[str]:
    if kind == "csv":
        return ROWS
    values = [row.split(";") for row in ROWS]
    return [json.dumps({"user_id": u, "item_id": i, "click": int(c), "seconds": float(s)}) for u, i, c, s in values]


def put(made: Project, kind: str, lines: list[str], day: str = DAY) -> None:
    content = ((HEAD if kind == "csv" else "") + "\n".join(lines)).encode()
    packed = gzip.compress(content, mtime=0) if kind.endswith(".gz") else content
    (made.home / f"log/{day}.{kind}").write_bytes(packed)


BROKEN = {"csv": ["7758961;28.03.2026 19:26:18", "a;b;c;d;e"], "json": ['{"user_id": "u1", "it', "[1]"]}
BROKEN["json.gz"] = BROKEN["json"]


@pytest.mark.parametrize("kind", BROKEN)
def test_lines_that_do_not_parse_are_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    """The day is that of the other lines; `check` and a stage's manifest have the count."""
    good, (one, other) = lines_of(kind), BROKEN[kind]
    put(plain := project(tmp_path / "plain", kind), kind, good)
    put(made := project(tmp_path / "made", kind, invalid_rows="drop"), kind, [*good[:4], one, *good[4:], other])
    found, expected = (p.call("check", "--day", DAY, "--json").json for p in (made, plain))
    assert found.pop("left_out") == {"line": 2}
    for name in ("rows", "users", "items", "labels", "with_events"):
        assert found[name] == expected[name], name
    said = made.call("check", "--day", DAY).out
    assert "2 of 14 rows are left out (14.3%): 2 lines that do not parse" in said
    ended = made.call("build-profile", "--day", DAY)
    assert ended.code == 0, ended.err
    facts = json.loads((Path(made.call("path", "profile", "--day", DAY).out.strip()) / "manifest.json").read_text())
    assert facts["facts"]["left_out"] == {"line": 2}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("csv", r"2026-01-01.csv: row 6: expected 4 values, got 2; .*"),
        ("json", r"2026-01-01.json: line 5: expected a JSON object: .*"),
    ],
)
def test_a_line_that_does_not_parse_is_refused_with_the_key(tmp_path: Path, kind: str, said: str) -> None:
    good = lines_of(kind)
    put(made := project(tmp_path, kind), kind, [*good[:4], BROKEN[kind][0], *good[4:]])
    ended = made.call("check", "--day", DAY)
    assert ended.code == 65
    assert re.search(said, ended.err) and DROP in ended.err, ended.err
    ended = made.call("check", "--day", DAY, "--set", "data.events.invalid_rows=drop")
    assert ended.code == 0 and "1 line that does not parse" in ended.out
    assert made.call("check", "--day", DAY).code == 65, "what was converted with another key is not believed"


def test_a_line_of_too_many_objects_within_each_other(tmp_path: Path) -> None:
    """Reading it would end the process. Brackets within texts are none."""
    good = lines_of("json")

    def nested(inner: int) -> str:
        text = json.dumps({"said": r"]}\\" * 300 + "[{" * 300 + '"'})
        return good[0][:-1] + ', "x": ' + '{"a": ' * inner + text + "}" * inner + "}"

    put(made := project(tmp_path, "json", invalid_rows="drop"), "json", [*good, nested(98)])
    found = made.call("check", "--day", DAY, "--json").json
    assert found["rows"] == 13 and "left_out" not in found
    put(made, "json", [*good, nested(99)])
    found = made.call("check", "--day", DAY, "--json").json
    assert (found["left_out"], found["rows"]) == ({"line": 1}, 12)
    put(made, "json", [*good, nested(990)])
    ended = made.call("check", "--day", DAY, "--set", "data.events.invalid_rows=refuse")
    said = "2026-01-01.json: line 13: expected a JSON object: more than 100 objects and lists within each other"
    assert ended.code == 65 and said in ended.err and DROP in ended.err, ended.err


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("good", [0, 5])
def test_a_day_of_which_most_lines_do_not_parse_is_refused(tmp_path: Path, kind: str, good: int) -> None:
    put(made := project(tmp_path, kind, invalid_rows="drop"), kind, lines_of(kind)[:good] + BROKEN[kind] * 3)
    ended = made.call("check", "--day", DAY)
    assert ended.code == 65 and f"6 of {6 + good} rows are left out" in ended.err, ended.err
    assert "6 lines that do not parse" in ended.err and "as the files are written?" in ended.err


def test_a_quote_that_swallows_lines_is_refused(tmp_path: Path) -> None:
    """A quote that is missing joins lines, which may be good: whatever the key says."""
    swallowed = [ROWS[0], 'u1;"i1;1;2', *ROWS[1:4], 'u1;i1";1', *ROWS[4:]]
    put(made := project(tmp_path, "csv", invalid_rows="drop"), "csv", swallowed)
    ended = made.call("check", "--day", DAY)
    said = "row 3: expected 4 values, got 3, in 5 lines that a quote holds together"
    assert ended.code == 65 and said in ended.err and DROP not in ended.err, ended.err
    put(made, "csv", [*ROWS[:3], 'u1;"i1;1;2', *ROWS[3:]])
    ended = made.call("check", "--day", DAY)
    assert ended.code == 65 and "from row 5 on a quoted text has no end" in ended.err


def test_a_file_that_ends_within_a_quoted_text(tmp_path: Path) -> None:
    """Its last line alone is lost."""
    put(made := project(tmp_path, "csv"), "csv", [*ROWS, 'u1;"i'])
    ended = made.call("check", "--day", DAY)
    assert ended.code == 65 and "from row 14 on a quoted text has no end" in ended.err and DROP in ended.err
    found = made.call("check", "--day", DAY, "--json", "--set", "data.events.invalid_rows=drop").json
    assert (found["left_out"], found["rows"]) == ({"line": 1}, 12)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    put(made := project(tmp_path, "json.gz", invalid_rows="drop"), "json.gz", lines_of("json") * 50)
    file = tmp_path / f"log/{DAY}.json.gz"
    file.write_bytes(file.read_bytes()[:-40])
    ended = made.call("check", "--day", DAY)
    assert ended.code == 65 and "damaged gzip" in ended.err


def test_an_hour_of_one_cut_line_is_no_empty_file(tmp_path: Path) -> None:
    """Of several files of a day the count is that of all; one that has nothing else gives no rows."""
    made = project(tmp_path, "json", path="{day}", invalid_rows="drop")
    (tmp_path / f"log/{DAY}").mkdir()
    for name, lines in {"a": lines_of("json"), "b": ['{"user_id'], "c": [*lines_of("json")[:2], "x"]}.items():
        (tmp_path / f"log/{DAY}/{name}.json").write_text("\n".join(lines))
    for _ in range(2):  # converted, and then as it was converted
        found = made.call("check", "--day", DAY, "--json").json
        assert (found["left_out"], found["rows"]) == ({"line": 2}, 14)


@pytest.mark.parametrize("size", [40, 1 << 20])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_file_of_several_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: int) -> None:
    """A line is of the day of the row before it, one above all rows of the first day, whatever the size of slices."""
    monkeypatch.setattr(text_rows, "SLICE", size)
    made = project(tmp_path, kind, path="e", date_column="d", invalid_rows="drop")
    one, other = ([*lines_of(kind)] for _ in range(2))
    if kind == "csv":
        dated = [[f"{line};{day}" for line in lines] for lines, day in ((one, DAY), (other, "2026-01-02"))]
    else:
        dated = [
            [line[:-1] + f', "d": "{day}"}}' for line in lines] for lines, day in ((one, DAY), (other, "2026-01-02"))
        ]
    broken = "x" if kind == "csv" else "{"
    (tmp_path / "log/e").mkdir()
    lines = [broken, *dated[0][:5], broken, *dated[0][5:], broken, *dated[1], broken]
    head = HEAD.replace("\n", ";d\n") if kind == "csv" else ""
    (tmp_path / f"log/e/a.{kind}").write_text(head + "\n".join(lines) + "\n")
    found = [made.call("check", "--day", day, "--json").json for day in (DAY, "2026-01-02")]
    assert [f["left_out"] for f in found] == [{"line": 3}, {"line": 1}]
    assert [f["rows"] for f in found] == [12, 12]
    (tmp_path / f"log/e/a.{kind}").write_text(head + "\n".join([*dated[0][:3], *[broken] * 4]) + "\n")
    ended = made.call("check", "--day", DAY)
    assert ended.code == 65 and "4 of 7 lines do not parse" in ended.err


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_value_is_named_by_its_own_line(tmp_path: Path, kind: str) -> None:
    """Also below lines that were left out and blank ones."""
    good, bad = lines_of(kind), BROKEN[kind]
    wrong = good[5].replace("5.5", "long" if kind == "csv" else '"long"')
    blank = [] if kind == "csv" else ["", ""]
    made = project(tmp_path, kind, invalid_rows="drop")
    made.config["data"]["types"] = {"seconds": "float64"}
    made.write()
    put(made, kind, [bad[0], *good[:2], *blank, bad[1], *good[2:5], wrong, *good[6:]])
    ended = made.call("check", "--day", DAY)
    number = 9 if kind == "csv" else 10
    assert ended.code == 65 and f"row {number}, column seconds: expected float64, got 'long'" in ended.err, ended.err


def test_a_row_of_a_side_table_that_has_too_few_values(tmp_path: Path) -> None:
    put(made := project(tmp_path, "csv", invalid_rows="drop"), "csv", ROWS)
    (tmp_path / "log/items.csv").write_text("item_id;title\ni1;a\ni2\ni3;c\n")
    made.config["data"]["items"] = {"path": "items.csv", "key": "item_id"}
    made.write()
    ended = made.call("check", "--day", DAY)
    assert ended.code == 0 and "data.items: 1 line that does not parse is left out" in ended.out, ended.err


def test_values_between_broken_lines_come_back(tmp_path: Path) -> None:
    """All rows, in order, of a file with a broken line after each."""
    made = project(tmp_path, "csv", invalid_rows="drop")
    put(made, "csv", [line for row in ROWS for line in (row, "x")][:-1])
    assert made.call("check", "--day", DAY).code == 0
    place = next(made.home.rglob("converted/events/day=*/*.parquet"))
    assert pl.read_parquet(place)["seconds"].to_list() == [k + 0.5 for k in range(12)]


# -- init --------------------------------------------------------------------------------------------------------------


def five_days(home: Path, rows: int = 300, **broken: str) -> None:
    """A file a day; of days that are named, as `d2`, with that line in the middle."""
    for day in range(1, 6):
        lines = [f"u{k % 120},i{k % 30},2026-01-0{day}T10:00:00Z,{k % 3 // 2},{k}.5" for k in range(rows)]
        lines[150:150] = [broken[f"d{day}"]] if f"d{day}" in broken else []
        head = "user_id,item_id,ts,clicked,seconds"
        (home / f"events_2026-01-0{day}.csv").write_text("\n".join([head, *lines]) + "\n")


def test_init_looks_through_the_days_that_it_proposes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of a day in the middle is told with its place, and the proposed days are read; one before them is not."""
    monkeypatch.chdir(tmp_path)
    ended, raw, text = made_by_init(tmp_path / "a", lambda home: five_days(home, d3="u1,i1", d1="x"))
    assert ended.code == 0 and "--from 2026-01-02 --to 2026-01-05" in ended.out, ended.err
    (line,) = (x for x in text.splitlines() if "invalid_rows: drop" in x)
    said = "1 line does not parse of 1,201 in 4 files, such as events_2026-01-03.csv: row 152: expected 5 values, got 2"
    assert said in line and raw["data"]["events"]["invalid_rows"] == "drop"
    ended = dmtl("check", "--config", tmp_path / "a/mine.yaml", "--day", "2026-01-03", "--json")
    assert ended.json["left_out"] == {"line": 1} and ended.json["rows"] == 300
    _, raw, _ = made_by_init(tmp_path / "b", lambda home: five_days(home, d1="x"))
    assert "invalid_rows" not in raw["data"]["events"], "no proposed day needs it"


def test_init_says_which_files_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key helps where a quote swallows lines: a day of the backfill, of which the sample has no row, would end."""
    monkeypatch.chdir(tmp_path)
    ended, raw, _ = made_by_init(tmp_path, lambda home: five_days(home, 6_000, d4='"u1,i1'))
    assert ended.code == 0 and "invalid_rows" not in raw["data"]["events"]
    assert "events_2026-01-04.csv: from row 152 on a quoted text has no end: a run of its day would end" in ended.out


def test_init_looks_at_so_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doubts, "BYTES", 1 << 14)
    ended, raw, _ = made_by_init(tmp_path, lambda home: five_days(home, d3="x"))
    assert "invalid_rows" not in raw["data"]["events"], "it was not looked at"
    assert "lines that do not parse were looked for in 1 of 4 files, the newest first (0 MiB of rows)" in ended.out
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-01-03")
    assert ended.code == 65 and DROP in ended.err


def test_a_run_says_how_many_lines_were_left_out(tmp_path: Path) -> None:
    put(made := project(tmp_path, "csv", invalid_rows="drop"), "csv", [*lines_of("csv"), "x"])
    ended = made.call("build-profile", "--day", DAY)
    assert ended.code == 0
    assert "1 rows left out" in made.call("status").out
