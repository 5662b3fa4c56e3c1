"""A path with `*` beside a column that gives the day: the files that it means, on disk and in S3, through the CLI."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from initiated import made
from storage import Server
from worlds import Ended, Project, dmtl

ROWS = 40
FIRST = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
ITEMS = '{"item_id": 1, "colour": "red"}\n{"item_id": 2, "colour": "blue"}\n'


def line(k: int, at: dt.datetime) -> str:
    click = k % 3 == 0
    row = {"user_id": k % 7, "item_id": k % 2 + 1, "ts": int(at.timestamp() * 1000), "click": int(click)}
    return json.dumps(row | {"secs": 5.0 + k if click else 0.0}) + "\n"


def log(folder: Path, place: str = "") -> Path:
    """Files of the days on which events arrived, a few of which are of the day before, beside the items and others."""
    (folder / place).mkdir(parents=True)
    for k in range(3):
        at = [FIRST + dt.timedelta(days=k, minutes=30 * n) for n in range(ROWS)]
        late = [FIRST + dt.timedelta(days=k - 1, hours=23, minutes=n) for n in range(4)] if k else []
        text = "".join(line(n, t) for n, t in enumerate([*late, *at]))
        name = f"events-{FIRST + dt.timedelta(days=k):%Y%m%d}.jsonl.gz"
        (folder / place / name).write_bytes(gzip.compress(text.encode(), mtime=0))
    (folder / place / ".part").write_bytes(b"unfinished")
    (folder / place / "_events-20260301.jsonl.gz").write_bytes(b"unfinished")
    (folder / "items.jsonl").write_text(ITEMS)
    (folder / "README.txt").write_text("see the wiki")
    return folder


def project(home: Path, root: object, **events: Any) -> Project:
    found = Project.create(home, home)
    named = {"date_column": "ts", "click": "click", "duration": "secs", "time": "ts"}
    found.config["data"] = {
        "root": str(root), "format": "json", "timezone": "UTC", "events": named | events,
        "items": {"path": "items.jsonl", "key": "item_id"},
    }  # fmt: skip
    found.config["features"] = [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "colour", "side": "item", "kind": "categorical"},
    ]
    found.write()
    return found


def checked(found: Project, day: str, **events: Any) -> Ended:
    found.config["data"]["events"] |= events
    found.write()
    return found.call("check", "--day", day, "--json")


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("", "events-*.jsonl.gz"),
        ("", "*ents-*"),
        ("raw/a", "raw/a/events-*.gz"),
        ("raw/a", "*/*/events-*"),
        ("raw/a", "ra*"),
        ("raw/a", "raw/*/"),
    ],
)
@pytest.mark.parametrize("where", ["disk", "s3"])
def test_rows_of_a_day_are_found_in_all_files(tmp_path: Path, s3: Server, where: str, place: str, path: str) -> None:
    folder = log(tmp_path / "log", place)
    found = project(tmp_path, folder if where == "disk" else s3.upload(folder, f"globs/{tmp_path.name}"))
    for day, rows in (("2026-03-01", ROWS + 4), ("2026-03-02", ROWS + 4), ("2026-03-03", ROWS)):
        ended = checked(found, day, path=path)
        assert (ended.code, ended.json["rows"]) == (0, rows), ended.err


def test_a_file_that_comes_later_is_read_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    found = project(tmp_path, log(tmp_path / "log"), path="events-*.jsonl.gz")
    assert checked(found, "2026-03-03").json["rows"] == ROWS
    late = "".join(line(n, FIRST + dt.timedelta(days=2, hours=22, minutes=n)) for n in range(5))
    (tmp_path / "log/events-20260304.jsonl.gz").write_bytes(gzip.compress(late.encode()))
    assert checked(found, "2026-03-03").json["rows"] == ROWS + 5
    (tmp_path / "log/events-20260304.jsonl.gz").unlink()
    assert checked(found, "2026-03-03").json["rows"] == ROWS


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_nothing_that_matches_is_one_line(tmp_path: Path, s3: Server, where: str) -> None:
    folder = log(tmp_path / "log")
    root = str(folder) if where == "disk" else s3.upload(folder, f"globs/{tmp_path.name}")
    found = project(tmp_path, root)
    for path in ("evens-*.jsonl.gz", "nowhere/*/x", "events-*/part-*"):
        ended = checked(found, "2026-03-01", path=path)
        shown = f"{folder}/{path}" if where == "disk" else f"s3://bucket/globs/{tmp_path.name}/{path}"
        hint = "set data.root and the path below it, in which * is any text of a name"
        assert (ended.code, ended.err) == (66, f"dmtl: error: events: no file {shown}; {hint}\n")


def test_a_day_that_no_file_has(tmp_path: Path) -> None:
    ended = checked(project(tmp_path, log(tmp_path / "log"), path="events-*.jsonl.gz"), "2026-03-09")
    assert ended.code == 66 and "events-*.jsonl.gz has a ts of day 2026-03-09 (the log has 2026-03-01 .." in ended.err


@pytest.mark.parametrize("path", ["raw/events-*", "/raw/events-*", "raw/../raw/events-*", "ra*"])
def test_a_finished_place_is_asked_for(tmp_path: Path, path: str) -> None:
    found = project(tmp_path, log(tmp_path / "log", "raw"), path=path, success_file="_SUCCESS")
    ended = checked(found, "2026-03-01")
    assert ended.code == 66 and "has no _SUCCESS: not finished" in ended.err
    (tmp_path / "log/raw/_SUCCESS").touch()
    assert checked(found, "2026-03-01").code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"items": {"path": "items-*.jsonl", "key": "item_id", "partition": "day"}},
            "path: `*` stands beside {day}, or without partition",
        ),
        ({"items": {"path": "**/items-*", "key": "item_id"}}, "for folders in folders write */*, got '**/items-*'"),
        ({"events": {"path": "raw/**/events-*", "date_column": "ts", "duration": "secs"}}, "write */*, got 'raw/**/"),
        ({"format": "delta"}, "events.path: * has no effect on format: delta"),
    ],
)
def test_what_cannot_be_a_glob_is_refused_with_the_config(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    found = project(tmp_path, log(tmp_path / "log"), path="events-*.jsonl.gz")
    found.config["data"] |= change
    found.write()
    ended = found.call("check", "--day", "2026-03-01")
    assert ended.code == 78 and words in ended.err


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_files_of_items_beside_others(tmp_path: Path, form: str) -> None:
    """A table for all days in several files, of whatever format, in a folder that has those of other tables."""
    found = project(tmp_path, log(tmp_path / "log"), path="events-*.jsonl.gz")
    items = [json.loads(text) for text in ITEMS.splitlines()]
    for k, item in enumerate(items):
        frame = pl.DataFrame([item])
        place = tmp_path / f"log/goods-{k}"
        frame.write_parquet(f"{place}.parquet") if form == "parquet" else frame.write_ndjson(f"{place}.jsonl")
    found.config["data"]["items"] = {"path": "goods-*", "key": "item_id", "format": form}
    ended = checked(found, "2026-03-02")
    assert ended.code == 0 and ended.json["join"]["items_joined"] == 1, ended.err
    (tmp_path / f"log/goods-1.{'parquet' if form == 'parquet' else 'jsonl'}").unlink()
    assert checked(found, "2026-03-02").json["join"]["items_joined"] == 0.5


def test_init_names_the_files_where_other_tables_lie_beside_them(tmp_path: Path) -> None:
    """Rows that came a day late are told, with the option that reads them on their own day."""

    def write(home: Path) -> None:
        for k in range(4):
            at = [FIRST + dt.timedelta(days=k, seconds=60 * n) for n in range(1200)]
            late = [t - dt.timedelta(days=1) for t in at[-40:]] if k else []
            text = "".join(line(n, t) for n, t in enumerate([*late, *at]))
            name = f"events-{FIRST + dt.timedelta(days=k):%Y%m%d}.jsonl.gz"
            (home / name).write_bytes(gzip.compress(text.encode(), mtime=0))
        (home / "items.jsonl").write_text("".join(f'{{"item_id": {k}, "colour": "c{k}"}}\n' for k in range(1, 3)))

    named = ("--user", "user_id", "--item", "item_id", "--duration", "secs")
    ended, raw, text = made(tmp_path, write, *named)
    assert ended.code == 0 and raw["data"]["events"]["path"] == "events-{day}.jsonl.gz", ended.err
    assert "init --days-by-time reads each row" in text
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "ready.yaml", *named, "--days-by-time")
    data = yaml.safe_load((tmp_path / "ready.yaml").read_text())["data"]
    assert (data["events"]["path"], ended.code) == ("events-*.jsonl.gz", 0), ended.err
    found = dmtl("check", "--config", tmp_path / "ready.yaml", "--day", "2026-03-01", "--json")
    assert (found.code, found.json["rows"]) == (0, 1240), found.err
