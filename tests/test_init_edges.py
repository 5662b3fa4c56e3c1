"""`init` on tables and values that look like others: none is read as what it is not, and none is lost."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from initiated import features, made
from test_init_exports import put, rows
from worlds import dmtl

from dmtl_cli.config.table import Csv
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.data.log.formats.text_rows import csv_rows
from dmtl_cli.guess.reading.ddl import declared
from dmtl_cli.guess.reading.rows import dialect
from dmtl_cli.guess.reading.texts import joined

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]


def days() -> dict[str, pl.DataFrame]:
    """Exposures with a key, by day."""
    found = rows().with_row_index("shown_id")
    return {day: found.filter(pl.col("shown_at").str.starts_with(day)) for day in DAYS}


# -- tables of one day -------------------------------------------------------------------------------------------------


def clicks_of_one(home: Path) -> None:
    for day, found in days().items():
        put(home / f"shown/dt={day}/p.csv", found.drop("clicked", "read_seconds").write_csv())
        if day == DAYS[-1]:
            came = found.filter(pl.col("clicked") == 1).select("shown_id", "read_seconds")
            put(home / f"clicks/dt={day}/p.csv", came.write_csv())


def events_of_one(home: Path) -> None:
    put(home / f"shown/dt={DAYS[-1]}/p.csv", days()[DAYS[-1]].write_csv())
    for day in DAYS:
        listed = "".join(f"i{k},{'xyz'[k % 3]},{'a long text ' * 9}{k}\n" for k in range(999))
        put(home / f"items/dt={day}/p.csv", f"item_id,topic,text\n{listed}")


def test_a_day_of_events_or_of_clicks_is_no_state_of_all_days(tmp_path: Path) -> None:
    """Later days would be lost; a table of items is one: see `test_hives_text_is_read_by_its_ddl`."""
    for name, write in (("clicks", clicks_of_one), ("events", events_of_one)):
        ended, raw, _ = made(tmp_path / name, write)
        assert ended.code == 0, ended.err
        events = raw["data"]["events"]
        assert (events["path"], events["partition"]) == ("shown", "dt"), name
        if name == "clicks":
            (joined,) = events["joined"].values()
            assert (joined["path"], joined["partition"]) == ("clicks", "dt")
    assert raw["data"]["items"]["partition"] == "dt"


# -- names that stand for others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "form"), [(n, f) for n in ("*", "^.*$", "") for f in ("json", "parquet", "csv") if n or f != "csv"]
)
def test_a_name_that_stands_for_other_columns_is_not_used(tmp_path: Path, name: str, form: str) -> None:
    """Nor a column without one. What the check of the day reads beside has none of them either."""

    def write(home: Path) -> None:
        for day, found in days().items():
            more = found.with_columns(pl.Series(name, [str(k % 3) for k in range(len(found))]))
            getattr(more, {"json": "write_ndjson"}.get(form, f"write_{form}"))(home / f"{day}.{form}")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["click"] == "clicked"
    assert not {name, "column_6"} & {*features(raw)}
    assert f"# {name}: not used: of type whatever it is: it" in text


@pytest.mark.parametrize("name", ["{x}", "{day}", "a}"])
def test_files_that_no_path_can_name_are_told(tmp_path: Path, name: str) -> None:
    """Beside others they are not used; alone there is nothing to read."""

    def write(home: Path) -> None:
        for day, found in days().items():
            put(home / f"shown_{day}.csv", found.write_csv())
            put(home / f"{name}/shown_{day}.csv", found.write_csv())

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["path"] == "shown_{day}.csv"
    assert f"{name}/shown_2026-01-01.csv and 2 more: not used: no path of a config has {{ or }}" in text
    assert f"WARNING: {name}/shown_2026-01-01.csv and 2 more: not used" in " ".join(ended.out.split())
    alone = dmtl("init", tmp_path / "log" / name, "-o", tmp_path / "other.yaml")
    assert alone.code == 0, "a root may have any name"
    for file in (tmp_path / "log").glob("*.csv"):
        file.unlink()
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--force")
    assert ended.code == 66 and "no path of a config has { or }, which stand for a day there" in ended.err


def test_a_time_of_a_change_is_not_that_of_its_row(tmp_path: Path) -> None:
    """A snapshot of Debezium reads all rows at one time; what became of a row is no outcome."""

    def write(home: Path) -> None:
        for day, found in days().items():
            around = {"before": None, "source": {"db": "x"}, "ts_ms": 1_767_500_000_000}
            lines = [around | {"op": "cr"[n % 2], "after": row} for n, row in enumerate(found.to_dicts())]
            put(home / f"{day}.json", "".join(json.dumps(line) + "\n" for line in lines))

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["time"] == "shown_at"
    assert not {"__op", "__updated_ts_ms"} & {*features(raw)}


# -- files and texts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_value_that_ends_in_a_backslash_ends_before_the_separator(separator: str) -> None:
    lines = [separator.join(["user_id", "folder", "item_id"])]
    lines += [separator.join([f"u{k}", "C:\\data\\" if k % 3 == 0 else "home", f"i{k}"]) for k in range(40)]
    assert dialect("\n".join(lines).encode()).separator == separator


def test_a_file_that_is_none_and_a_table_without_a_value_stop_nothing(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        for day, found in days().items():
            put(home / f"shown/{day}.csv", found.write_csv())
        put(home / "backup2.gz", "this is no gzip")
        put(home / "notes/n.jsonl", '{"shown_id": null}\n')

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["click"] == "clicked"
    assert "notes/n.jsonl: no column has a value" in text


def test_tables_of_other_columns_are_several_whatever_day_each_has(tmp_path: Path) -> None:
    """Three words on three weekdays are one table where the columns are the same."""

    def write(home: Path) -> None:
        put(home / f"users_{DAYS[0]}.csv", "user_id,land\n" + "".join(f"u{k},{'xyz'[k % 3]}\n" for k in range(110)))
        put(home / f"items_{DAYS[1]}.csv", "item_id,topic\n" + "".join(f"i{k},{'xyz'[k % 3]}\n" for k in range(120)))
        put(home / f"clicks_{DAYS[2]}.csv", days()[DAYS[2]].write_csv())

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert [raw["data"][n]["path"] for n in ("events", "users", "items")] == [
        "clicks_{day}.csv", f"users_{DAYS[0]}.csv", f"items_{DAYS[1]}.csv"
    ]  # fmt: skip

    def weekdays(home: Path) -> None:
        for word, (day, found) in zip(("jeu", "ven", "sam"), days().items(), strict=True):
            put(home / f"reco {word} {day}.csv", found.write_csv())

    ended, raw, _ = made(tmp_path / "one", weekdays)
    assert raw["data"]["events"]["path"] == "reco * {day}.csv", ended.err


def test_rows_of_files_whose_columns_do_not_fit_are_joined() -> None:
    """A column of lists in one file and of objects in another has no type for both."""
    both = joined([pl.DataFrame({"a": [[1]], "b": [1]}), pl.DataFrame({"a": [{"x": 1}], "b": [2]})])
    assert both.to_dicts() == [{"a": [1], "b": 1}, {"a": None, "b": 2}]


def test_a_null_behind_a_backslash_that_is_a_value(tmp_path: Path) -> None:
    """A value that is an escaped separator and N is no null."""
    put(tmp_path / "x.csv", "a|b|c\nx\\\\|\\N|1\ny|\\N|\\N\nz\\|\\N|2|\\N\n\\N|p\\|q\\\\|3\n")
    read = csv_rows(Store(str(tmp_path)).file("x.csv"), Csv(separator="|", quote_char=None, escape_char="\\"),
                    lambda frame, _: frame)  # fmt: skip
    assert next(iter(read)).frame.rows() == [
        ("x\\", None, "1"), ("y", None, None), ("z|N", "2", None), (None, "p|q\\", "3")
    ]  # fmt: skip


def test_columns_called_as_the_rules_of_a_table() -> None:
    text = "CREATE TABLE t (key STRING, index INT, check CHAR(3), a INT, KEY (a), INDEX i (a), CHECK (a > 0))"
    assert [one.columns for one in declared(text)] == [("key", "index", "check", "a")]


def test_a_file_of_an_hour_in_which_nothing_was_shown_has_no_exposures(tmp_path: Path) -> None:
    """JSON lines of another kind alone, which do not name the list; where no file of a day does, it is refused."""
    log = tmp_path / "log"
    lists = [
        {"kind": "list", "user_id": f"u{k % 20}", "ts": 1_767_225_600 + 60 * k, "shown": [f"i{k % 7}", f"i{k % 5 + 7}"]}
        for k in range(60)
    ]
    opened = [{"kind": "start", "user_id": f"u{k}", "ts": 1_767_225_700 + k} for k in range(9)]
    put(log / "2026-01-01_10.json", "".join(json.dumps(r) + "\n" for r in lists))
    put(log / "2026-01-01_11.json", "".join(json.dumps(r) + "\n" for r in opened))
    other = lists[:3] + [{**r, "hits": ["i1"]} for r in opened]
    put(log / "2026-01-03_10.json", "".join(json.dumps(r) + "\n" for r in other[:3]))
    put(log / "2026-01-03_11.json", "".join(json.dumps(r) + "\n" for r in other[3:]))
    put(log / "2026-01-02_10.json", "".join(json.dumps(r) + "\n" for r in opened[:5]))
    config = tmp_path / "mine.yaml"
    events = {"path": "{day}_*.json", "explode": "shown", "where": "kind = 'list'", "user": "user_id", "item": "shown"}
    events |= {"time": "ts", "conversion": "good", "computed": {"good": "shown = 'i1'"}}
    data = {"root": str(log), "format": "json", "types": {"ts": "int64"}, "events": events}
    config.write_text(json.dumps({"workspace": "work", "data": data, "features": "auto"}))
    found = dmtl("check", "--config", config, "--day", "2026-01-01", "--json")
    assert found.code == 0 and found.json["rows"] == 120, found.err
    for day in ("2026-01-02", "2026-01-03"):  # on the third a file calls its list otherwise
        ended = dmtl("check", "--config", config, "--day", day)
        assert ended.code == 65 and "data.events.explode expects column shown" in ended.err, ended.err
