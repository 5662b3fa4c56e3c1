"""init: ids whose names say nothing, or the wrong thing: tables beside the events tell them, also within objects and
lists; a person's rule names the columns of their log, whichever table they lie in."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from worlds import dmtl

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
LONG, PAGES = 8, 150


def init(root: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    out = root.parent / "made.yaml"
    ended = dmtl("init", root, "-o", out, "--force", *more)
    return ended.code, yaml.safe_load(out.read_text())["data"] if out.exists() else {}, ended.out + ended.err


# -- a tracker's events, whose own id is of no item --------------------------------------------------------------------


def tracked(root: Path, user: str = "distinct_id") -> Path:
    """Covers shown, tapped and read, with starts of the app among them, as objects; and a table of the comics."""
    rng, number = np.random.default_rng(0), 0
    for day in DAYS:
        start, rows = dt.datetime.fromisoformat(f"{day}T00:00:00+00:00"), list[dict[str, Any]]()

        def put(at: int, who: str, event: str, properties: dict[str, Any]) -> None:
            nonlocal number
            number += 1
            when = int((start + dt.timedelta(seconds=at)).timestamp() * 1000)  # noqa: B023
            row = {"_track_id": number * 7919 % 1_000_003, "time": when, user: who, "event": event}
            rows.append(row | {"properties": {"$os": "ios" if who < "r5" else "android"} | properties})  # noqa: B023

        for page in range(PAGES):
            who, at = f"r{rng.integers(90)}", 560 * page
            put(at, who, "$AppStart", {"$resumed": bool(page % 2)})
            for place, comic in enumerate(rng.choice(60, LONG, replace=False).tolist()):
                mine = {"exposure_id": f"{day}-{page}-{place}", "comic_id": f"mh{comic}", "place": place}
                put(at + 1, who, "ComicExposure", mine)
                if rng.random() < 0.3:
                    put(at + 9, who, "ComicClick", mine)
                    read = {"exposure_id": mine["exposure_id"], "comic_id": mine["comic_id"]}
                    put(at + 200, who, "ComicRead", read | {"read_ms": int(rng.exponential(6e4))})
        folder = root / f"events/dt={day}"
        folder.mkdir(parents=True)
        rows.sort(key=lambda row: row["time"])
        (folder / "part.json").write_text("\n".join(map(json.dumps, rows)) + "\n")
    comics = [{"comic_id": f"mh{k}", "genre": f"g{k % 4}", "pages": 20 + k} for k in range(60)]
    (root / "comics.jsonl").write_text("\n".join(map(json.dumps, comics)) + "\n")
    return root


RULE = "properties.read_ms >= 60000"


@pytest.mark.parametrize(("user", "rule"), [("distinct_id", RULE), ("zuno", RULE), ("zuno", "read_ms >= 60000")])
def test_the_id_of_a_tracker_is_no_item(tmp_path: Path, user: str, rule: str) -> None:
    """One command, with the rule in the names of the log: user and item are found under any name."""
    code, data, said = init(tracked(tmp_path / "log", user), "--conversion", rule)
    events = data["events"]
    assert code == 0 and (events["user"], events["item"]) == (user, "properties.comic_id"), said
    assert data["items"]["key"] == "comic_id" and events["where"] == "event = 'ComicExposure'"
    made = events["joined"]["later"]["columns"]
    assert made["total_properties_read_ms"] == 'SUM("properties.read_ms")'
    assert events["computed"]["good"] == "COALESCE(total_properties_read_ms >= 60000, FALSE)"
    assert not any("resumed" in name for name in made), "a start of the app comes of no exposure"


def test_the_duration_may_be_of_what_follows(tmp_path: Path) -> None:
    code, data, said = init(tracked(tmp_path / "log"), "--duration", "properties.read_ms")
    assert code == 0 and data["events"]["duration"] == "total_properties_read_ms", said


def test_a_column_that_nothing_has_is_refused_as_before(tmp_path: Path) -> None:
    code, _, said = init(tracked(tmp_path / "log"), "--conversion", "properties.red_ms >= 60000")
    assert code == 2 and "has no column properties.red_ms" in said


def test_a_last_name_of_two_columns_is_refused_with_both(tmp_path: Path) -> None:
    """`place` may be either of them: which one is not guessed."""
    days = [
        {"user_id": f"u{k % 40}", "item_id": f"i{k % 31}", "ts": f"2026-01-0{d}T10:{k % 60:02}:00Z"}
        for d in (1, 2)
        for k in range(300)
    ]
    rows = [row | {"a": {"place": k % 3}, "b": {"place": k % 5}, "click": k % 2} for k, row in enumerate(days)]
    (tmp_path / "log").mkdir()
    (tmp_path / "log/events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, said = init(tmp_path / "log", "--conversion", "place >= 2")
    assert code == 2 and "has no column place" in said and "write one of a.place, b.place" in said, said


# -- lists of objects whose ids are those of a table -------------------------------------------------------------------


def library(root: Path) -> Path:
    """Rows of titles on a screen, loans by what was shown, and tables of titles and members, in words nobody knows."""
    rng, loans = np.random.default_rng(1), list[dict[str, Any]]()
    for day in DAYS:
        start, rows = dt.datetime.fromisoformat(f"{day}T00:00:00+00:00"), list[dict[str, Any]]()
        for page in range(PAGES):
            who, at = f"00{rng.integers(90)}", start + dt.timedelta(seconds=560 * page)
            for shelf in ("uno", "duo"):
                shown = []
                for place, code in enumerate(rng.choice(60, LONG // 2, replace=False).tolist()):
                    opened = bool(rng.random() < 0.3)
                    own = {"glim_id": f"{day}-{page}-{shelf}-{place}", "kwx": f"{code}X", "place": place}
                    shown.append(own | {"opened": opened, "seen_ms": int(rng.exponential(3e4)) if opened else None})
                    if opened and rng.random() < 0.4:
                        loans.append(
                            {"taken_id": f"t{len(loans)}", "zib": who, "kwx": f"{code}X"}
                            | {"at": at, "glim_id": own["glim_id"]}
                        )
                visit = f"v{day}-{page}"
                rows.append({"screen": f"{visit}-{shelf}", "zib": who, "moment": at, "visit": visit, "shown": shown})
        folder = root / f"screens/day={day}"
        folder.mkdir(parents=True)
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "0.parquet")
    pl.DataFrame(loans).write_parquet(root / "taken.parquet")
    pl.DataFrame({"zib": [f"00{k}" for k in range(90)], "age": [f"a{k % 5}" for k in range(90)]}).write_parquet(
        root / "zibs.parquet"
    )
    stock = {"kwx": [f"{k}X" for k in range(60)], "sort": [f"s{k % 4}" for k in range(60)]}
    pl.DataFrame(stock).write_parquet(root / "stock.parquet")
    return root


@pytest.mark.parametrize("rule", [(), ("--conversion", "taken"), ("--conversion", "seen_ms >= 30000")])
def test_what_was_shown_is_in_lists_whose_ids_a_table_has(tmp_path: Path, rule: tuple[str, ...]) -> None:
    code, data, said = init(library(tmp_path / "log"), *rule)
    events = data["events"]
    assert code == 0 and (events["user"], events["item"]) == ("zib", "shown.kwx"), said
    assert events["explode"] == "shown" and (data["users"]["key"], data["items"]["key"]) == ("zib", "kwx")
    assert events["joined"]["taken"]["key"] == "glim_id" and events["click"] == "shown.opened"
    if rule:
        assert events.get("conversion") == ("taken" if rule[1] == "taken" else "good")
    else:
        assert "--conversion taken  # taken alone" in said, "a table of what came of it may be the label alone"


# -- kinds and files in words nobody knows -----------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_what_comes_before_the_others_is_what_was_shown(tmp_path: Path, named: bool) -> None:
    """Where words tell a click and what follows, but not the exposure; by its id, else by user and item of a day."""
    rng, rows, truth = np.random.default_rng(2), list[dict[str, Any]](), 0
    for d, day in enumerate(DAYS):
        start = dt.datetime.fromisoformat(f"{day}T00:00:00+00:00")
        for page in range(PAGES):
            who, at = f"u{rng.integers(90)}", start + dt.timedelta(seconds=560 * page)
            for place, item in enumerate(rng.choice(60, LONG, replace=False).tolist()):
                own = {"glim": f"{d}-{page}-{place}"} if named else {}
                base = {"user_id": who, "item_id": f"i{item}", "jenis": "glimmed", **own, "at": at}
                rows.append(base)
                if rng.random() < 0.3:
                    rows.append(base | {"jenis": "click", "at": at + dt.timedelta(seconds=5)})
                    truth += day == DAYS[1]
                    if rng.random() < 0.4:
                        rows.append(base | {"jenis": "order", "at": at + dt.timedelta(seconds=60)})
    (tmp_path / "log").mkdir()
    pl.DataFrame(rows).sort("at", maintain_order=True).write_parquet(tmp_path / "log/all.parquet")
    code, data, said = init(tmp_path / "log")
    events = data["events"]
    assert code == 0 and events["where"] == "jenis = 'glimmed'" and events["conversion"] == "order", said
    assert events["joined"]["later"].get("key") == ("glim" if named else "exposure")
    ended = dmtl("check", "--config", tmp_path / "made.yaml", "--day", DAYS[1], "--json")
    assert abs(ended.json["labels"]["click_rate"] * ended.json["rows"] - truth) < (0.01 if named else 0.1) * truth, (
        "of a day some came twice"
    )


@pytest.mark.parametrize("folder", ["{}", "dt={}", "log/{}", "log/dt={}"])
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_folder_a_day_may_have_a_file_of_each_table(tmp_path: Path, folder: str, form: str) -> None:
    rng, truth = np.random.default_rng(3), 0
    for day in DAYS:
        ids = [f"{day}-{k}" for k in range(PAGES * LONG)]
        clicked = [x for x in ids if rng.random() < 0.3]
        shown = {"glim_id": ids, "user_id": [f"u{k}" for k in rng.integers(90, size=len(ids))]}
        shown |= {"item_id": [f"i{k}" for k in rng.integers(60, size=len(ids))], "at": [f"{day} 10:00:00"] * len(ids)}
        taps = {"glim_id": clicked, "stay_seconds": np.round(rng.exponential(40.0, len(clicked)) + 1, 1)}
        place = tmp_path / "root" / folder.format(day)
        place.mkdir(parents=True)
        for name, table in (("glims", shown), ("taps", taps)):
            frame = pl.DataFrame(table)
            frame.write_csv(place / f"{name}.csv") if form == "csv" else frame.write_parquet(place / f"{name}.parquet")
        truth = len(clicked)
    code, data, said = init(tmp_path / "root")
    events = data["events"]
    assert code == 0 and events["path"] == f"{folder.format('{day}')}/glims.{form}", said
    assert events["joined"]["taps"]["path"] == f"{folder.format('{day}')}/taps.{form}"
    ended = dmtl("check", "--config", tmp_path / "made.yaml", "--day", DAYS[2], "--json")
    assert round(ended.json["labels"]["click_rate"] * PAGES * LONG) == truth, ended.err


def test_a_number_that_begins_anew_each_day_is_no_item(tmp_path: Path) -> None:
    """It comes again on other days, but each row of a day has its own."""
    rng = np.random.default_rng(4)
    for day in DAYS:
        n = PAGES * LONG
        who = np.repeat([f"u{k}" for k in rng.integers(90, size=PAGES)], LONG)
        rows = {"user_id": who, "at": [f"{day} 10:{k * 60 // n:02d}:00" for k in range(n)], "blib": np.arange(n) + 500}
        place = tmp_path / f"log/day={day}"
        place.mkdir(parents=True)
        pl.DataFrame(rows | {"clicked": (rng.random(n) < 0.3).astype(int)}).write_parquet(place / "0.parquet")
    code, data, said = init(tmp_path / "log")
    assert code == 78 and "item" not in data["events"] and data["events"]["user"] == "user_id", said
