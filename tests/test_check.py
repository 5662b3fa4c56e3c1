"""`check` says what training would make of a day, and what looks like a mistake in it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from worlds import DAYS, Project

from dmtl_cli.data import first_window
from dmtl_cli.data.log.files import table
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.values import sizes
from dmtl_cli.student import exportable
from dmtl_cli.student.export import onnx_file

EVENTS: dict[str, Any] = {
    "user_id": [1, 1, 2, 2, 3, 3],
    "item_id": [10, 11, 10, 12, 10, 11],
    "click": [1, 0, 1, 1, 0, 0],
    "seconds": [50.0, 99.0, None, 5.0, None, None],
    "age": [20, 20, 30, 30, 40, 40],
    "price": [1.0, 2.0, 1.0, 3.0, 1.0, 2.0],
}


def project(home: Path, frame: dict[str, Any], *features: dict[str, Any]) -> Project:
    folder = home / f"log/events/day={DAYS[0]}"
    folder.mkdir(parents=True)
    pl.DataFrame(EVENTS | frame).write_parquet(folder / "a.parquet")
    made = Project.create(home, home / "log")
    made.config["data"] = {"root": str(home / "log"), "events": {"click": "click", "duration": "seconds"}}
    made.config["features"] = [
        {"name": "age", "side": "user", "kind": "numeric"},
        {"name": "price", "side": "item", "kind": "numeric"},
        *features,
    ]
    made.write()
    return made


def said(made: Project, name: str) -> list[str]:
    """The lines of check about a feature, beside its row in the table."""
    ended = made.call("check", "--day", DAYS[0])
    assert (ended.code, ended.err) == (0, "")
    return [line for line in ended.out.splitlines() if line.startswith(f"{name}: ")]


LATER = (
    "{name}: {seen} have none in their first row of this day and one later: it stays unknown, as a later one may tell "
    "what happened meanwhile; write it in all rows, or in a table of {side}s"
)
AUTHOR = {"name": "author", "side": "item", "kind": "categorical", "column": "by"}


@pytest.mark.parametrize(
    ("values", "items"),
    [
        (["a", "b", "a", "c", "a", "b"], 0),
        (["a", "b", "x", "c", "a", "b"], 1),
        (["a", "b", "x", "c", "y", "z"], 2),
        (["a", None, "a", "c", "a", "b"], 0),
        ([[1], [2], [1], [3], [1], [2, 3]], 1),
    ],
)
def test_an_item_feature_that_changes_within_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[Any], items: int
) -> None:
    monkeypatch.setattr(sizes, "BLOCK", 2)
    kind = "sequence" if isinstance(values[0], list) else "categorical"
    made = project(tmp_path, {"by": values}, AUTHOR | {"kind": kind})
    expected = (
        f"author: {items} of 3 items have several values this day; the first is taken "
        "(an item's own attribute does not change: side table, or side: context)"
    )
    none = [] if values[1] is not None else [LATER.format(name="author", seen="1 of 3 items", side="item")]
    assert said(made, "author") == [*([expected] if items else []), *none]
    assert said(made, "price") == said(made, "age") == []
    (found,) = (f for f in made.stage("check", 1).json["features"] if f["name"] == "author")
    assert found.get("items_that_change", 0) == items


def test_a_user_feature_may_change(tmp_path: Path) -> None:
    made = project(
        tmp_path, {"mood": list("ababcc")}, {"name": "mood", "side": "user", "kind": "categorical"},
        {"name": "now", "side": "context", "kind": "categorical", "column": "mood"},
    )  # fmt: skip
    assert said(made, "mood") == said(made, "now") == []


def test_a_user_feature_that_is_known_later(tmp_path: Path) -> None:
    """The first row of each user has none; the day's value stays null, as it could be that of the first click."""
    mood = {"name": "mood", "side": "user", "kind": "categorical"}
    made = project(tmp_path, {"mood": [None, "a", None, "b", None, None]}, mood)
    assert said(made, "mood") == [LATER.format(name="mood", seen="2 of 3 users", side="user")]
    (found,) = (f for f in made.stage("check", 1).json["features"] if f["name"] == "mood")
    assert (found["known_later"], found["seen"], found["unknown_share"]) == (2, 3, 1.0)
    history = mood | {"kind": "sequence"}
    assert said(project(tmp_path / "history", {"mood": [None, ["a"], None, ["b"], None, None]}, history), "mood") == []
    side = project(tmp_path / "event", {"mood": [None, "a", None, "b", None, None]}, mood | {"level": "event"})
    seen = "mood: 2 of 3 users have none in their first row of this day and one later"
    each = "a teacher reads each row's own value, none is one too"
    student = "a student has the first of the day in all rows, and serves the one that is asked with"
    assert said(side, "mood") == [f"{seen}: {each}; {student}"]


@pytest.mark.parametrize("letters", [8, 31, 90])
def test_long_names_stay_apart_from_what_follows(tmp_path: Path, letters: int) -> None:
    name = "m" * letters
    made = project(
        tmp_path, {"mood": list("ababcc")}, {"name": name, "side": "context", "kind": "categorical", "column": "mood"}
    )
    rows = made.call("check", "--day", DAYS[0]).out.splitlines()
    (head,) = (row for row in rows if row.startswith("feature "))
    (row,) = (row for row in rows if row.startswith(f"{name} "))
    assert row.split()[1:4] == ["context", "categorical", name]
    assert letters > 48 or row.index("context") == head.index("side")


def test_a_feature_of_one_value(tmp_path: Path) -> None:
    country = {"name": "country", "side": "user", "kind": "categorical"}
    made = project(tmp_path / "one", {"country": ["fr"] * 6}, country)
    assert said(made, "country") == ["country: one value for all users of this day: it tells nothing of them"]
    made = project(tmp_path / "two", {"country": ["fr"] * 4 + [None] * 2}, country)
    assert said(made, "country") == [], "where it is known tells something"
    made = project(tmp_path / "item", {"by": ["x"] * 6}, AUTHOR)
    assert said(made, "author") == ["author: one value for all items of this day: it tells nothing of them"]


@pytest.mark.parametrize("first", ["هست", None])
@pytest.mark.parametrize("many", [2, 40])
def test_a_state_of_which_no_item_was_shown(tmp_path: Path, many: int, first: str | None) -> None:
    """What is sold out, in words that nobody knows; of a few items chance may have it so. One item may have none."""
    made = project(tmp_path, {}, {"name": "state", "side": "item", "kind": "categorical", "column": "عرضه"})
    ids = [10, 11, 12, *range(100, 100 + many)]
    folder = tmp_path / f"log/items/day={DAYS[0]}"
    folder.mkdir(parents=True)
    rows = {"item_id": ids, "price": [1.0] * len(ids), "عرضه": [first, "هست", "هست"] + ["نیست"] * many}
    pl.DataFrame(rows).write_parquet(folder / "a.parquet")
    made.config["data"]["items"] = {"path": "items", "key": "item_id", "partition": "day"}
    made.write()
    one, nothing = "state: one value for all items of this day", "it tells nothing of them"
    others = "40 of their table have another one and none was shown: if these are not to be served, set export.items: "
    rule = "\"عرضه\" = 'هست'"
    if first is None:
        one, rule = one.replace("value", "value, or none,"), f'{rule} OR "عرضه" IS NULL'
    lines = said(made, "state")
    if first is None and many == 2:
        assert lines == [], "where it is known tells something"
        return
    (line,) = lines
    assert line.startswith(f"{one}: {others if many == 40 else nothing}"), line
    if many == 40:
        assert yaml.safe_load(line.partition("export.items: ")[2]) == rule
    made.config["export"] = {"items": rule}
    made.write()
    assert said(made, "state") == ([f"{one}: {nothing}"] if first else [])


def test_a_student_that_cannot_be_exported_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project(tmp_path, {})
    assert made.stage("check", 1).code == 0
    monkeypatch.delitem(onnx_file._NODES, "aten.relu.default")
    exportable._refuse.cache_clear()  # it was asked already, and could be exported
    for command in ("check", "train-teacher", "train-student"):
        ended = made.stage(command, 1)
        assert ended.code == 78
        assert "what it describes cannot be exported: a tower with aten.relu.default" in ended.err
    assert not made.ws.exists() or made.ws.joinpath("teacher").exists() is False, "nothing was trained"


@pytest.mark.parametrize("many", [4, 8])
@pytest.mark.parametrize("told", ["a folder", "a column"])
def test_a_check_ends_on_the_command_that_begins_the_chain(
    tmp_path: Path, told: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most four days without a gap, or eight of few rows, not the log's first where there are three; nothing once
    there is a chain."""
    if many == 4:
        monkeypatch.setattr(first_window, "SMALL", 0)
    made = project(tmp_path, {})
    first = dt.date.fromisoformat(DAYS[0])
    days = [first + dt.timedelta(k) for k in (*range(10), 11, 12)]
    events = tmp_path / "log/events"
    for k, day in enumerate(days):
        frame = pl.DataFrame(EVENTS).with_columns(at=pl.lit(str(day)), n=pl.lit(k))
        (events / f"day={day}").mkdir(exist_ok=True)
        frame.write_parquet(events / f"day={day}/a.parquet")
    if told == "a column":
        made.config["data"]["events"] |= {"date_column": "at"}
        made.write()

    def said(day: dt.date, *more: str) -> str | None:
        ended = made.call("check", "--day", day, *more)
        assert ended.code == 0, ended.err
        found: str | None = made.call("check", "--day", day, "--json", *more).json.get("next")
        lines = [line for line in ended.out.splitlines() if line.startswith("next: ")]
        assert lines == [f"next: {found}"] * bool(found)
        return found

    config = made.file
    for last, begin in ((9, days[10 - many]), (4, days[1]), (2, days[1]), (1, days[0]), (11, days[10])):
        expected = f"dmtl backfill --config {config} --from {begin} --to {days[last]}"
        assert said(days[last]) == expected
    assert said(days[10]) == f"dmtl run --config {config} --day {days[10]}  # a student needs a second day"
    assert f"--config {config} --set seed=7 --from" in str(said(days[4], "--set", "seed=7"))
    assert made.call("build-profile", "--day", days[0]).code == 0
    assert said(days[4]) is None


def test_the_footers_of_a_day_are_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as the day is read, once for all that looks at its columns: each is a request where storage is far."""
    made = project(tmp_path, {"by": list("abacab"), "mood": list("ababcc")}, AUTHOR)
    read, footers = table.Footer.read, list[str]()

    def counted(file: File) -> table.Footer:
        footers.append(file.path)
        return read(file)

    monkeypatch.setattr(table.Footer, "read", staticmethod(counted))
    assert made.stage("check", 1).json["unread"] == ["mood"]
    assert footers == [f"events/day={DAYS[0]}/a.parquet"] * 2


def test_a_column_in_another_script_is_named_behind_its_feature(tmp_path: Path) -> None:
    """A feature's name is of Latin letters: `item_feature` alone would not say which column it is."""
    words = ["짧은", "긴", "짧은", "긴", "짧은", "짧은"]
    feature = {"name": "item_feature", "side": "item", "kind": "categorical", "column": "글자수"}
    made = project(tmp_path, {"글자수": words, "by": words}, feature, AUTHOR)
    table = {line.split()[0]: line for line in made.call("check", "--day", DAYS[0]).out.splitlines() if line}
    assert table["item_feature"].endswith("%  글자수") and table["author"].endswith("%")
    described = {f["name"]: f for f in made.call("check", "--day", DAYS[0], "--json").json["features"]}
    assert described["author"]["column"] == "by" and "column" not in described["price"]


def test_a_long_read_is_what_the_chain_has_measured(tmp_path: Path) -> None:
    """Another day's mean is not asked for; what no run can go on with is said before one is tried."""
    made = project(tmp_path, {})
    (tmp_path / f"log/events/day={DAYS[1]}").mkdir()
    more = pl.DataFrame(EVENTS | {"seconds": [40.0, 99.0, 30.0, 5.0, None, None]})
    more.write_parquet(tmp_path / f"log/events/day={DAYS[1]}/a.parquet")
    found = made.call("check", "--day", DAYS[1], "--json").json["labels"]
    assert found["long_read_rate_at_mean"] == pytest.approx(2 / 3, abs=1e-4)
    assert "carried_threshold_seconds" not in found
    assert made.call("build-profile", "--day", DAYS[0]).code == 0
    found = made.call("check", "--day", DAYS[1], "--json").json["labels"]
    assert found["carried_threshold_seconds"] == 27.5
    assert found["long_read_rate_at_27.5"] == pytest.approx(2 / 3, abs=1e-4)
    (line,) = (x for x in made.call("check", "--day", DAYS[1]).out.splitlines() if x.startswith("labels: "))
    assert "66.7% are long reads (above the chain's 27.5)" in line
    ended = made.call("check", "--day", DAYS[1], "--set", "labels.long_read=35")
    assert "33.3% are long reads (above 35)" in ended.out
    (line,) = (x for x in ended.out.splitlines() if x.startswith("WARNING: no run"))
    assert "labels.long_read is 35 s, the chain's is 27.5 s" in line and "use a new workspace" in line
