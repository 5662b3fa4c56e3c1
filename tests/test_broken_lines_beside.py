"""Lines of the tables beside the events that do not parse: refused, or left out and counted as those of events are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from initiated import made as made_by_init
from worlds import Ended, Project, dmtl

from dmtl_cli.data.log.formats import text_rows
from dmtl_cli.guess.exposures import doubts

DROP = "set data.events.invalid_rows: drop, which leaves out and counts lines that do not parse"
DAY, NEXT = "2026-01-01", "2026-01-02"
COLUMNS = {"clicked": "COUNT(*) > 0", "seconds": "SUM(spent)"}
BROKEN = {"csv": "s1;4;u", "json": '{"shown_id": "s1", "spe'}
CLICKS = "events.joined.clicks"


def text_of(kind: str, rows: list[dict[str, Any]]) -> list[str]:
    """A line a row, of a CSV without that of the names."""
    return [json.dumps(row) if kind == "json" else ";".join(map(str, row.values())) for row in rows]


def put(file: Path, names: str, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*([names] if file.suffix == ".csv" else []), *lines]) + "\n")


def shown(day: str = DAY) -> list[dict[str, Any]]:
    return [{"shown_id": f"{day}-{k}", "user_id": f"u{k % 7}", "item_id": f"i{k % 5}"} for k in range(40)]


def clicks(day: str = DAY) -> list[dict[str, Any]]:
    return [{"shown_id": f"{day}-{k}", "spent": k} for k in range(0, 40, 4)]


def project(home: Path, kind: str, *, drop: bool = True, **table: Any) -> Project:
    """Exposures of two days, ten clicks of each in a table of their own, and a table of items."""
    for day in (DAY, NEXT):
        put(home / f"log/shown_{day}.{kind}", "shown_id;user_id;item_id", text_of(kind, shown(day)))
        put(home / f"log/clicks_{day}.{kind}", "shown_id;spent", text_of(kind, clicks(day)))
    items = [{"item_id": f"i{k}", "title": f"t{k}"} for k in range(5)]
    put(home / f"log/items.{kind}", "item_id;title", text_of(kind, items))
    joined = {"path": f"clicks_{{day}}.{kind}", "key": "shown_id", "columns": COLUMNS} | table
    events = {"path": f"shown_{{day}}.{kind}", "click": "clicked", "duration": "seconds", "joined": {"clicks": joined}}
    data = {
        "root": str(home / "log"), "format": kind, "items": {"path": f"items.{kind}", "key": "item_id"},
        "types": {"spent": "int64"}, "events": events | ({"invalid_rows": "drop"} if drop else {}),
        **({"csv": {"separator": ";"}} if kind == "csv" else {}),
    }  # fmt: skip
    made = Project.create(home, home / "log")
    made.config["data"], made.config["features"] = data, "auto"
    made.write()
    return made


def cut(file: Path, *places: int) -> None:
    """Puts a broken line before lines of a file."""
    lines = file.read_text().splitlines()
    for place in sorted(places, reverse=True):
        lines[place:place] = [BROKEN[file.suffix[1:]]]
    file.write_text("\n".join(lines) + "\n")


def check(made: Project, *more: str, day: str = DAY) -> Ended:
    return made.call("check", "--day", day, *more)


@pytest.mark.parametrize("kind", BROKEN)
def test_lines_of_a_joined_table_are_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    """The day is that of the other lines, also once it is converted; `check` and the manifests have the count."""
    plain, made = project(tmp_path / "plain", kind), project(tmp_path / "made", kind)
    cut(tmp_path / f"made/log/clicks_{DAY}.{kind}", 3, 7)
    expected = check(plain, "--json").json
    assert "lines_left_out" not in expected
    for _ in range(2):
        found = check(made, "--json").json
        assert found.pop("lines_left_out") == {CLICKS: 2} and "left_out" not in found
        for name in ("rows", "users", "items", "labels", "joined"):
            assert found[name] == expected[name], name
    assert f"data.{CLICKS}: 2 lines that do not parse are left out" in check(made).out
    assert "lines_left_out" not in check(made, "--json", day=NEXT).json, "it is another day's"
    ended = made.call("build-profile", "--day", DAY)
    assert ended.code == 0, ended.err
    facts = json.loads((Path(made.call("path", "profile", "--day", DAY).out.strip()) / "manifest.json").read_text())
    assert facts["facts"]["lines_left_out"] == {CLICKS: 2} and "left_out" not in facts["facts"]


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("table", [f"clicks_{DAY}", "items"])
def test_they_are_refused_with_the_key(tmp_path: Path, kind: str, table: str) -> None:
    made = project(tmp_path, kind, drop=False)
    cut(tmp_path / f"log/{table}.{kind}", 3)
    said = "row 4: expected 2 values, got 3" if kind == "csv" else "line 4: expected a JSON object"
    for _ in range(2):
        ended = check(made)
        assert ended.code == 65 and f"{table}.{kind}: {said}" in ended.err and DROP in ended.err, ended.err
        assert check(made, "--set", "data.events.invalid_rows=drop").code == 0


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("good", [0, 3])
def test_a_table_of_which_most_lines_do_not_parse_is_refused(tmp_path: Path, kind: str, good: int) -> None:
    made = project(tmp_path, kind)
    for table, name, rows in (
        (f"clicks_{DAY}", CLICKS, clicks()),
        ("items", "items", [{"item_id": 1, "title": 2}] * 3),
    ):
        file = tmp_path / f"log/{table}.{kind}"
        before = file.read_text()
        put(file, before.splitlines()[0], [*text_of(kind, rows)[:good], *[BROKEN[kind]] * 4])
        ended = check(made)
        assert ended.code == 65, ended.err
        day = f"day {DAY}: " if name == CLICKS else ""
        said = f"{name}: {day}4 of {4 + good} rows are left out ({4 / (4 + good):.1%}): 4 lines that do not parse"
        assert said in ended.err and "at most 50% may be left out" in ended.err, ended.err
        file.write_text(before)


def test_a_table_of_items_with_a_cut_line_stops_no_day(tmp_path: Path) -> None:
    made = project(tmp_path, "json")
    cut(tmp_path / "log/items.json", 5)
    cut(tmp_path / f"log/clicks_{DAY}.json", 1)
    ended = check(made)
    assert ended.code == 0 and "data.items: 1 line that does not parse is left out" in ended.out, ended.err
    assert check(made, "--json").json["lines_left_out"] == {"items": 1, CLICKS: 1}
    assert made.call("run", "--day", DAY).code == 0


def test_files_of_the_days_after(tmp_path: Path) -> None:
    made = project(tmp_path, "json", days_after=1)
    cut(tmp_path / f"log/clicks_{DAY}.json", 1)
    cut(tmp_path / f"log/clicks_{NEXT}.json", 1, 2)
    assert check(made, "--json").json["lines_left_out"] == {CLICKS: 3}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("size", [40, 1 << 20])
def test_a_joined_table_of_several_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: int) -> None:
    """A line is of the day of the row before it."""
    monkeypatch.setattr(text_rows, "SLICE", size)
    made = project(tmp_path, kind, path=f"all.{kind}", date_column="d")
    rows = [row | {"d": day} for day in (DAY, NEXT) for row in clicks(day)]
    file = tmp_path / f"log/all.{kind}"
    put(file, "shown_id;spent;d", text_of(kind, rows))
    lines, head = file.read_text().splitlines(), int(kind == "csv")
    broken = "x" if kind == "csv" else "{"
    file.write_text("\n".join([*lines[: head + 2], broken, *lines[head + 2 :], broken, broken]) + "\n")
    found = [check(made, "--json", day=day).json["lines_left_out"] for day in (DAY, NEXT)]
    assert found == [{CLICKS: 1}, {CLICKS: 2}]


def test_rows_of_the_files_of_the_events_are_counted_once(tmp_path: Path) -> None:
    """A stream of exposures and clicks: its lines are counted as those of events."""
    path = "all_{day}.json"
    made = project(tmp_path, "json", path=path, where="spent IS NOT NULL")
    made.config["data"]["events"] |= {"path": path, "where": "user_id IS NOT NULL"}
    made.write()
    put(tmp_path / f"log/all_{DAY}.json", "", [*text_of("json", [*shown(), *clicks()]), BROKEN["json"]])
    found = check(made, "--json").json
    assert found["left_out"] == {"line": 1} and "lines_left_out" not in found


# -- init --------------------------------------------------------------------------------------------------------------


def five_days(home: Path, kind: str, broken: dict[str, int]) -> None:
    """Days of exposures and of what came of them; of days that are named, so many lines of the latter are cut off."""
    for day in (f"2026-01-0{k}" for k in range(1, 6)):
        rows = [
            {"impression_id": f"{day}-{k}", "user_id": f"u{k % 120}", "item_id": f"i{k % 30}",
             "shown_at": f"{day}T{k // 60 % 24:02}:{k % 60:02}:00Z"}
            for k in range(1200)
        ]  # fmt: skip
        came = [{"impression_id": f"{day}-{k}", "time_on_page": 5 + k % 90} for k in range(0, 1200, 5)]
        put(home / f"impressions/{day}.{kind}", ",".join(rows[0]), _lines(kind, rows))
        lines = _lines(kind, came)
        lines[100:100] = ["x" if kind == "csv" else lines[0][:-9]] * broken.get(day, 0)
        put(home / f"clicks/{day}.{kind}", ",".join(came[0]), lines)


def _lines(kind: str, rows: list[dict[str, Any]]) -> list[str]:
    return [line.replace(";", ",") for line in text_of(kind, rows)]


@pytest.mark.parametrize("kind", BROKEN)
def test_init_looks_through_joined_tables_of_the_days_that_it_proposes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, raw, text = made_by_init(tmp_path / "a", lambda home: five_days(home, kind, {"2026-01-03": 2}))
    assert ended.code == 0 and [*raw["data"]["events"]["joined"]] == ["clicks"], ended.err
    (line,) = (x for x in text.splitlines() if "invalid_rows: drop" in x)
    place = "row 102: expected 2 values" if kind == "csv" else "line 101: expected a JSON object"
    assert re.search(
        rf"2 lines do not parse of [\d,]+ in \d files?, such as clicks/2026-01-03.{kind}: {place}", line
    ), line
    assert raw["data"]["events"]["invalid_rows"] == "drop"
    ended = dmtl("check", "--config", tmp_path / "a/mine.yaml", "--day", "2026-01-03", "--json")
    assert ended.json["lines_left_out"] == {CLICKS: 2} and ended.json["rows"] == 1200
    _, raw, _ = made_by_init(tmp_path / "b", lambda home: five_days(home, kind, {"2026-01-01": 1}))
    assert "invalid_rows" not in raw["data"]["events"], "no proposed day needs it"


@pytest.mark.parametrize("kind", BROKEN)
def test_init_looks_through_tables_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Of which one line is cut off: what it writes is what `check` takes."""
    monkeypatch.chdir(tmp_path)

    def write(home: Path) -> None:
        five_days(home, kind, {})
        items = [{"item_id": f"i{k}", "genre": f"g{k % 4}"} for k in range(30)]
        put(
            home / f"items.{kind}", "item_id,genre", [*_lines(kind, items), "x" if kind == "csv" else '{"item_id": "i9']
        )

    ended, raw, text = made_by_init(tmp_path, write)
    assert ended.code == 0 and raw["data"]["items"]["path"] == f"items.{kind}", ended.err
    (line,) = (x for x in text.splitlines() if "invalid_rows: drop" in x)
    assert f"1 line does not parse of 31 in 1 file, such as items.{kind}: " in line, line
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-01-03")
    assert ended.code == 0 and "data.items: 1 line that does not parse is left out" in ended.out, ended.err


def test_init_tells_of_which_table_it_did_not_see_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doubts, "BYTES", 1 << 8)  # less than a file has
    ended, _, _ = made_by_init(tmp_path, lambda home: five_days(home, "csv", {}))
    assert "lines that do not parse were looked for in 0 of 4 files, the newest first" in ended.out, ended.out
    assert "looked for in 0 of 4 files of clicks/{day}.csv, the newest first" in ended.out
