"""Logs as they are: guests, nulls for no click, sentinels for durations, empty hours; through the CLI."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import DAYS, Project

from dmtl_cli.data.threshold import PLAIN, longest_read
from dmtl_cli.runs.manifest import MANIFEST
from dmtl_cli.synth.generate import generate

BASE: dict[str, Any] = {
    "user_id": [1, 1, 2, 2, 3, 3],
    "item_id": [10, 11, 10, 12, 10, 12],
    "click": [1, 0, 1, 1, 0, 0],
    "seconds": [50.0, 9.0, None, 5.0, 3.0, None],
}
IDS = [
    {"name": "user_id", "side": "user", "kind": "categorical"},
    {"name": "item_id", "side": "item", "kind": "categorical"},
]


def project(home: Path, *frames: dict[str, Any], **events: Any) -> Project:
    """A log of one day, a file a frame."""
    for k, frame in enumerate(frames):
        file = home / f"log/events/day={DAYS[0]}/{k}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(frame).write_parquet(file)
    made = Project.create(home, home / "log")
    made.config["data"] = {"root": str(home / "log"), "events": {"click": "click", "duration": "seconds"} | events}
    made.config["features"] = IDS
    made.write()
    return made


def refused(made: Project, code: int = 65) -> str:
    ended = made.call("check", "--day", DAYS[0])
    assert ended.code == code, ended.err
    return ended.err


def checked(made: Project) -> dict[str, Any]:
    ended = made.call("check", "--day", DAYS[0], "--json")
    assert ended.code == 0, ended.err
    found: dict[str, Any] = ended.json
    return found


def changed(column: str, value: Any, row: int = 4) -> dict[str, Any]:
    return BASE | {column: [value if k == row else v for k, v in enumerate(BASE[column])]}


DROP = "set data.events.invalid_rows: drop"


@pytest.mark.parametrize(
    ("frame", "hint"),
    [
        (changed("user_id", None), DROP),
        (changed("item_id", None), DROP),
        (changed("seconds", -1.0), DROP),
        (changed("seconds", float("inf"), 0), DROP),
        (changed("click", None), "set data.events.null_click: no_click"),
        (BASE | {"user_id": ["a", "a", "b", "", "c", "c"]}, DROP),
    ],
)
def test_a_refusal_names_the_key_that_helps(tmp_path: Path, frame: dict[str, Any], hint: str) -> None:
    said = refused(project(tmp_path, frame))
    assert hint in said and re.search(r"0\.parquet: column \w+, row \d", said), said


def test_a_click_that_is_none_of_both_is_not_helped(tmp_path: Path) -> None:
    said = refused(project(tmp_path, changed("click", 3), null_click="no_click", invalid_rows="drop"))
    assert "expected 0 or 1, got 3" in said and "null_click" not in said


def test_a_null_click_is_no_click_where_the_config_says_so(tmp_path: Path) -> None:
    found = checked(project(tmp_path, changed("click", None), null_click="no_click"))
    assert (found["rows"], found["labels"]["click_rate"]) == (6, 0.5)


MORNING = dt.datetime(2026, 1, 1, 8)
INSTANTS: list[dt.datetime | None] = [MORNING, None, MORNING, MORNING, None, None]


@pytest.mark.parametrize(
    ("times", "events"),
    [
        (INSTANTS, {}),
        ([t and t.date() for t in INSTANTS], {}),
        ([t and int(t.timestamp() * 1000) for t in INSTANTS], {"null_click": "no_click"}),
        ([t and int(t.timestamp()) for t in INSTANTS], {"null_click": "no_click"}),
        ([float(int(t.timestamp() * 1000)) if t else float("nan") for t in INSTANTS], {"null_click": "no_click"}),
    ],
)
def test_the_time_of_a_click_is_a_click(tmp_path: Path, times: list[Any], events: dict[str, Any]) -> None:
    """A second file has no click: its column has no type, or is all null."""
    night = BASE | {"clicked_at": [None] * 6}
    found = checked(project(tmp_path, BASE | {"clicked_at": times}, night, click="clicked_at", **events))
    assert (found["rows"], found["labels"]["click_rate"]) == (12, 0.25)


def test_text_that_is_the_time_of_a_click_needs_its_type(tmp_path: Path) -> None:
    made = project(tmp_path, click="clicked_at")
    times = ["2026-01-01T08:00:00Z", None, "2026-01-01T08:00:00Z", "2026-01-01T08:00:00Z", None, None]
    file = tmp_path / f"log/events/day={DAYS[0]}/a.jsonl"
    file.parent.mkdir(parents=True)
    pl.DataFrame(BASE | {"clicked_at": times}).write_ndjson(file)
    made.config["data"]["format"] = "json"
    made.write()
    assert "set data.types.clicked_at: bool, or datetime" in refused(made)
    made.config["data"]["types"] = {"clicked_at": "datetime"}
    made.write()
    assert checked(made)["labels"]["click_rate"] == 0.5


def test_rows_that_are_no_events_are_left_out_and_counted(tmp_path: Path) -> None:
    """Beside each sound row there may be one that is none; the day is that of the sound rows alone."""
    sound = {k: [*v, *v] for k, v in BASE.items()} | {"at": [MORNING] * 12}
    rows = pl.DataFrame(sound)
    wrong = pl.DataFrame(
        {
            "user_id": [None, 1, 1, 1, None],
            "item_id": [10, None, 10, 10, None],
            "click": [1, 0, 1, 1, 0],
            "seconds": [5.0, 5.0, -1.0, float("inf"), 5.0],
            "at": [MORNING] * 5,
        }
    )
    late = rows[:1].with_columns(pl.lit(None, pl.Datetime("us")).alias("at"))
    sentinel = rows[1:2].with_columns(seconds=pl.lit(-1.0))  # not clicked: the event is one, its duration unknown
    mixed = pl.concat([wrong[:2], rows[:7], wrong[2:], late, rows[7:], sentinel])
    plain = checked(
        project(tmp_path / "plain", pl.concat([rows, sentinel.with_columns(seconds=None)]).to_dict(), time="at")
    )
    made = project(tmp_path / "drop", mixed.to_dict(), time="at", invalid_rows="drop")
    found = checked(made)
    assert found.pop("left_out") == {"user": 2, "item": 1, "time": 1, "duration": 2}
    for name in ("rows", "users", "items", "labels", "with_events"):
        assert found[name] == plain[name], name
    shown = made.call("check", "--day", DAYS[0]).out
    assert "6 of 19 rows are left out (31.6%): 2 with no user id that can be one, 1 with no item id" in shown


def test_a_day_that_would_lose_most_rows_is_refused(tmp_path: Path) -> None:
    users = [None, None, None, None, 3, 3]
    said = refused(project(tmp_path, BASE | {"user_id": users}, invalid_rows="drop"))
    assert "4 of 6 rows are left out (66.7%)" in said and "at most 50% may be left out" in said


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_row_without_a_day_is_of_no_day(tmp_path: Path, kind: str) -> None:
    """A file of two days, whose rows without a day are in the middle."""
    days = ["2026-01-01", "2026-01-01", None, "2026-01-02", "2026-01-02", "2026-01-02"]
    made = project(tmp_path, date_column="d", path="e", invalid_rows="drop")
    file = tmp_path / f"log/e/a.{kind}"
    file.parent.mkdir(parents=True)
    frame = pl.DataFrame(BASE | {"d": days})
    frame.write_csv(file) if kind == "csv" else frame.write_parquet(file)
    made.config["data"] |= {"format": kind} | ({"types": {"item_id": "int64"}} if kind == "csv" else {})
    made.write()
    rows = [made.call("check", "--day", f"2026-01-0{k}", "--json").json["rows"] for k in (1, 2)]
    assert rows == [2, 3]
    said = made.call("check", "--day", "2026-01-01", "--set", "data.events.invalid_rows=refuse").err
    assert kind == "csv" or DROP in said  # the CSV was cut into days before


def test_a_csv_without_a_day_says_which_key_helps(tmp_path: Path) -> None:
    made = project(tmp_path, date_column="d", path="e")
    file = tmp_path / "log/e/a.csv"
    file.parent.mkdir(parents=True)
    pl.DataFrame(BASE | {"d": ["2026-01-01", None, *["2026-01-01"] * 4]}).write_csv(file)
    made.config["data"]["format"] = "csv"
    made.write()
    assert DROP in refused(made)


def test_keys_without_effect_are_refused(tmp_path: Path) -> None:
    made = project(tmp_path, BASE)
    for drop, key, value in (("click", "null_click", "no_click"), ("duration", "max_duration", "60")):
        said = made.call(
            "check",
            "--day",
            DAYS[0],
            "--set",
            f"data.events.{drop}=null",
            "--set",
            f"data.events.{key}={value}",
            *(["--set", "data.events.conversion=click"] if drop == "duration" else []),
        )
        assert said.code == 78 and f"{key} has no effect without {drop}" in said.err, said.err


# -- empty hours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("packed", [True, False])
def test_an_hour_without_rows_of_a_finished_day(tmp_path: Path, kind: str, packed: bool) -> None:
    made = project(tmp_path)
    made.config["data"]["format"] = "csv" if kind == "csv" else "json"
    made.write()
    folder = tmp_path / f"log/events/day={DAYS[0]}"
    folder.mkdir(parents=True)
    frame = pl.DataFrame(BASE)
    (frame.write_csv if kind == "csv" else frame.write_ndjson)(folder / f"part-00.{kind}")
    empty = folder / f"part-01.{kind}{'.gz' if packed else ''}"
    empty.write_bytes(gzip.compress(b"") if packed else b"")
    assert f"{empty}: empty" in (said := refused(made, 66)) and "success_file" in said
    finished = ("--set", "data.events.success_file=_SUCCESS")
    assert "has no _SUCCESS" in made.call("check", "--day", DAYS[0], *finished).err
    (folder / "_SUCCESS").touch()
    assert made.call("check", "--day", DAYS[0], "--json", *finished).json["rows"] == 6
    assert f"{empty}: empty" in refused(made, 66), "whatever was converted before"
    (folder / f"part-00.{kind}").unlink()
    ended = made.call("check", "--day", DAYS[0], *finished)
    assert ended.code == 66 and f"{empty}: empty" in ended.err, "a day of empty hours is none"


# -- heavy tails -------------------------------------------------------------------------------------------------------


def tailed(home: Path, scale: float = 1.0, **events: Any) -> Project:
    """1,000 clicks of 10 to 59 s, of which 10 were left open for ten hours."""
    n = 1_000
    seconds = 10.0 + np.arange(n) % 50
    seconds[::100] = 36_000
    seconds *= scale
    frame = {"user_id": np.arange(n) % 40, "item_id": np.arange(n) % 30, "click": [1, 1, 1, 1, 0] * (n // 5)}
    return project(home, frame | {"seconds": seconds}, **events)


def test_a_mean_above_what_people_read_is_said(tmp_path: Path) -> None:
    made = tailed(tmp_path)
    (said,) = [line for line in checked(made)["suggestions"] if "labels.long_read" in line]
    clicked = pl.read_parquet(tmp_path / f"log/events/day={DAYS[0]}/0.parquet").filter(pl.col("click") == 1)["seconds"]
    assert f"the mean of {clicked.mean():,.0f} s is that of a few" in said
    cap, above = 180, (clicked > 180).sum()  # quartiles of 22 and 47 s: the fence is 147 s
    longer = f"3 minutes: {above} clicks ({above / len(clicked):.1%}) last longer"
    mean = clicked.clip(upper_bound=cap).mean()
    assert f"set data.events.max_duration: {cap} ({longer}, the mean is then {mean:,.0f} s), or labels." in said
    assert f"{{quantile: 0.5}} ({clicked.median():,.0f} s)" in said
    assert not any(
        "labels.long_read" in line for line in checked(tailed(tmp_path / "b", max_duration=60.0))["suggestions"]
    )


@pytest.mark.parametrize("middle", [2.0, 30.0, 45.0, 400.0])
@pytest.mark.parametrize("spread", [0.5, 1.0, 1.5, 2.0, 2.5])
@pytest.mark.parametrize("left_open", [0.0, 0.03, 0.2])
def test_the_longest_read_is_a_plain_number_that_ends_the_doubt(middle: float, spread: float, left_open: float) -> None:
    """Lognormal reads, of which some stay open for half a day: what is suggested is one of PLAIN, leaves nine tenths as
    they are and ends the doubt; where few were left open and reads are minutes at most, these are cut."""
    rng = np.random.default_rng(1)
    read = middle * np.exp(spread * rng.standard_normal(20_000))
    known = np.sort(np.where(rng.random(len(read)) < left_open, 43_200.0 + rng.random(len(read)), read))
    cap = longest_read(known)
    if cap is None:
        assert left_open > 0.1, "more than a tenth was left open: nine tenths of the reads last as long"
        return
    assert cap in PLAIN and np.quantile(known, 0.9) <= cap
    capped = np.minimum(known, cap)
    assert capped.mean() <= np.quantile(capped, 0.9) and capped[-200:].sum() <= capped.sum() / 3
    if left_open == 0.03 and middle < 100 and spread <= 1.5:
        assert cap <= 3_600 and (known > cap).mean() < 0.05, "not the p99, which is half a day"
    if not left_open and (known > cap).mean() > 0.01 and cap < PLAIN[-1]:
        more = np.minimum(known, PLAIN[PLAIN.index(cap) + 1])
        assert more.mean() > np.quantile(more, 0.9) or more[-200:].sum() > more.sum() / 3, "no more is cut than must be"


def test_the_first_training_says_it_too(tmp_path: Path) -> None:
    for k, events in enumerate(({}, {"max_duration": 60.0})):
        made = tailed(tmp_path / str(k), **events)
        made.config["auto"] = {"budget": 0}
        made.write()
        assert made.call("train-teacher", "--day", DAYS[0], "--set", "gates.quality=false").code == 0
        assert ("the longest 1% of reads hold" in made.call("status").out) == (not events)


@pytest.mark.parametrize(("scale", "unit"), [(1.0, "s"), (1000.0, "ms")])
def test_a_duration_counts_up_to_its_most_in_seconds(tmp_path: Path, scale: float, unit: str) -> None:
    found = checked(tailed(tmp_path, scale, max_duration=60.0, duration_unit=unit))["labels"]
    clicked = pl.read_parquet(tmp_path / f"log/events/day={DAYS[0]}/0.parquet").filter(pl.col("click") == 1)["seconds"]
    capped = (clicked / scale).clip(upper_bound=60.0)
    assert found["duration_seconds"]["mean"] == pytest.approx(capped.mean(), abs=0.01)


def test_rows_that_are_there_twice_are_told(tmp_path: Path) -> None:
    twice = {k: [*v, *v[:2]] for k, v in BASE.items()} | {"at": [*range(6), 0, 1], "r": [1, 1, 2, 2, 3, 3, 1, 1]}
    found = checked(made := project(tmp_path, twice, time="at", request="r"))
    assert (found["duplicate_rows"], found["labels"]["repeated_clicks"], found["rows"]) == (2, 1, 7)
    shown = made.call("check", "--day", DAYS[0]).out
    assert "2 of 8 rows (25.0%) repeat another" in shown
    assert "; 1 further click of one item in one r is dropped; " in shown
    assert "duplicate_rows" not in checked(project(tmp_path / "b", BASE)), "nothing tells a row from its twin"
    apart = twice | {"at": list(range(8))}
    assert checked(project(tmp_path / "c", apart, time="at", request="r"))["duplicate_rows"] == 0


def test_repeats_that_differ_are_told(tmp_path: Path) -> None:
    """An exposure that is sent before it is clicked, and again after it; one the other way round; one that is the
    same."""
    log = {"user_id": [1, 1, 2, 2, 3, 3, 4], "item_id": [5] * 7, "click": [0, 1, 1, 0, 0, 0, 1], "seconds": [9.0] * 7}
    made = project(tmp_path, log | {"at": [7] * 7}, time="at")
    found = checked(made)
    assert (found["duplicate_rows"], found["repeated_exposures"], found["clicked_later"]) == (3, 3, 1)
    line = "of 3 repeated exposures 1 were first without a click and then with one: keep the row with the click alone"
    assert line in made.call("check", "--day", DAYS[0]).out
    same = project(tmp_path / "same", log | {"click": [1, 1, 0, 0, 0, 0, 1], "at": [7] * 7}, time="at")
    assert "clicked_later" not in checked(same) and "repeated exposure" not in same.call("check", "--day", DAYS[0]).out


def test_clicks_that_repeat_are_not_lost_rows(tmp_path: Path) -> None:
    """Nine clicks of one user on one thing, as where a playlist was taken for the item; and a guest."""
    frame = {"user_id": [1] * 10 + [None], "item_id": [10] * 10 + [11], "click": [1] * 9 + [0, 1]}
    frame |= {"seconds": [5.0] * 11, "r": [1] * 11}
    made = project(tmp_path, frame, request="r", invalid_rows="drop")
    found = checked(made)
    assert (found["rows"], found["labels"]["repeated_clicks"], found["left_out"]) == (2, 8, {"user": 1})
    said = "89% of clicks repeat an earlier one of the same user, item and request: is item_id the item?"
    assert any(line.startswith(said) for line in found["warnings"])
    shown = made.call("check", "--day", DAYS[0]).out
    assert "1 of 11 rows are left out (9.1%)" in shown and f"WARNING: {said}" in shown
    assert "; 8 further clicks of one item in one r are dropped; " in shown
    once = project(tmp_path / "once", frame | {"r": list(range(11))}, request="r", invalid_rows="drop")
    assert not any("repeat" in line for line in checked(once)["warnings"])


# -- a chain -----------------------------------------------------------------------------------------------------------


def test_a_chain_with_guests_is_that_of_the_others(tmp_path: Path) -> None:
    """Every fifth row is a guest's: the models are those of a log without these rows, and manifests count them."""
    generate(tmp_path / "world", 2, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=900, seed=1)
    made: dict[str, Project] = {}
    for name in ("plain", "guests"):
        home = tmp_path / name
        shutil.copytree(tmp_path / "world" / "log", home / "log")
        for file in (home / "log" / "events").rglob("*.parquet") if name == "guests" else ():
            rows = pl.read_parquet(file, hive_partitioning=False)
            guests = rows[::5].with_columns(pl.lit(None, rows.schema["user_id"]).alias("user_id"))
            at = [*range(len(rows)), *range(0, len(rows), 5)]
            pl.concat([rows, guests])[np.argsort(at, kind="stable")].write_parquet(file)
        made[name] = Project.create(home, home / "log")
        made[name].config["data"]["events"]["invalid_rows"] = "drop"
        made[name].write()
        assert made[name].call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
    shown = {name: made[name].call("status").out for name in made}
    assert "rows left out" in shown["guests"] and "left out" not in shown["plain"]
    for stage in ("teacher", "student", "export"):
        plain, guests = (manifest(made[name], stage) for name in ("plain", "guests"))
        assert plain["metrics"] == guests["metrics"], stage
        assert "left_out" not in plain["facts"]
    found = manifest(made["guests"], "teacher")
    assert found["facts"]["left_out"]["user"] >= found["rows"]["log"] // 5
    ended = made["guests"].call("run", "--day", DAYS[1], "--set", "data.events.invalid_rows=refuse")
    assert ended.code == 65 and DROP in ended.err


def manifest(made: Project, stage: str) -> dict[str, Any]:
    place = Path(made.call("path", stage, "--day", DAYS[1]).out.strip())
    found: dict[str, Any] = json.loads((place / MANIFEST).read_text())
    return found
