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


@pytest.mark.parametrize("user", ["distinct_id", "zuno"])
def test_the_id_of_a_tracker_is_no_item(tmp_path: Path, user: str) -> None:
    """One command, with the rule in the names of the log: user and item are found under any name."""
    code, data, said = init(tracked(tmp_path / "log", user), "--conversion", RULE)
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


@pytest.mark.parametrize("rule", [(), ("--conversion", "taken")])
def test_what_was_shown_is_in_lists_whose_ids_a_table_has(tmp_path: Path, rule: tuple[str, ...]) -> None:
    code, data, said = init(library(tmp_path / "log"), *rule)
    events = data["events"]
    assert code == 0 and (events["user"], events["item"]) == ("zib", "shown.kwx"), said
    assert events["explode"] == "shown" and (data["users"]["key"], data["items"]["key"]) == ("zib", "kwx")
    assert events["joined"]["taken"]["key"] == "glim_id" and events["click"] == "shown.opened"
    if rule:
        assert events["conversion"] == "taken"
    else:
        assert "--conversion taken  # taken alone" in said, "a table of what came of it may be the label alone"
