"""`init` on what came of lists: a table that names the list or screen and the item, whichever column names the list;
what is no exposure, no act and no running total."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from initiated import made
from worlds import dmtl

ITEMS, USERS, SCREENS, SHOWN = 80, 120, 500, 8
FIRST = dt.datetime(2026, 10, 5)
DAY = "2026-10-06"


def screens(seed: int = 3) -> list[dict[str, Any]]:
    """Screens of two days, each with cards, and which of them were opened and how far they were read."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(SCREENS):
        at = FIRST + dt.timedelta(minutes=int(k * 2 * 1_440 / SCREENS))
        cards = [f"a{i}" for i in rng.choice(ITEMS, SHOWN, replace=False)]
        opened = [(i, int(rng.integers(5, 101)), int(rng.exponential(40_000))) for i in cards if rng.random() < 0.25]
        out.append({"id": f"s{k:04d}", "user": f"u{rng.integers(USERS)}", "at": at, "cards": cards, "opened": opened})
    return out


def documents(home: Path) -> None:
    """Two indices as elasticdump writes them: a document's own id is of no use to the other index."""
    by_day: dict[str, list[str]] = {}
    reads = []
    for n, s in enumerate(screens()):
        at = f"{s['at']:%Y-%m-%dT%H:%M:%S}.000Z"
        cards = [{"article": a, "rank": k + 1} for k, a in enumerate(s["cards"])]
        screen = {"id": s["id"], "name": ["home", "end"][n % 2], "left_by": "card" if s["opened"] else "close"}
        source = {"@timestamp": at, "screen": screen, "reader": {"id": s["user"]}, "cards": cards}
        line = {"_index": "feed", "_id": f"doc{n}", "_score": 1, "_source": source}
        by_day.setdefault(f"{s['at']:%Y.%m.%d}", []).append(json.dumps(line))
        for a, depth, ms in s["opened"]:
            read = {"@timestamp": at, "article": a, "reader": {"id": s["user"]}, "from": {"screen": s["id"]}}
            read |= {"depth_pct": depth, "active_ms": ms}
            reads.append(json.dumps({"_index": "reads", "_id": f"r{len(reads)}", "_score": 1, "_source": read}))
    for day, lines in by_day.items():
        with gzip.open(home / f"feed-{day}.json.gz", "wt") as out:
            out.write("\n".join(lines) + "\n")
    (home / "reads-2026.10.json").write_text("\n".join(reads) + "\n")


def lists(home: Path) -> None:
    """A row a list of plain ids, in Parquet, and plays that name the list within an object."""
    shown = [
        {"event_id": f"e{n}", "event_ts": s["at"], "user_id": s["user"], "list_id": s["id"], "track_ids": s["cards"]}
        for n, s in enumerate(screens())
    ]
    plays = [
        {"play_id": f"p{n}{a}", "started_ts": s["at"], "user_id": s["user"], "track_id": a, "ms_played": ms}
        | {"source": {"list_id": s["id"], "index": s["cards"].index(a)}}
        for n, s in enumerate(screens())
        for a, _, ms in s["opened"]
    ]
    for name, rows in (("shown", shown), ("plays", plays)):
        frame = pl.DataFrame(rows)
        at = "event_ts" if name == "shown" else "started_ts"
        for (day,), part in frame.group_by(pl.col(at).dt.date(), maintain_order=True):
            (home / f"{name}/dt={day}").mkdir(parents=True)
            part.write_parquet(home / f"{name}/dt={day}/0.parquet")


@pytest.mark.parametrize(
    ("write", "rule", "least"),
    [
        (documents, "its_depth_pct >= 80 AND its_active_ms >= 20000", lambda depth, ms: depth >= 80 and ms >= 20_000),
        (lists, "its_ms_played >= 20000", lambda _, ms: ms >= 20_000),
    ],
    ids=["documents", "lists"],
)
def test_what_came_of_a_list_is_found_by_the_list_and_the_item(
    tmp_path: Path, write: Any, rule: str, least: Any
) -> None:
    ended, raw, _ = made(tmp_path, write, "--conversion", rule)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    (one,) = events["joined"].values()
    assert events["click"] == "clicked" and one["columns"]["clicked"] == "COUNT(*) > 0" and "explode" in events
    assert events["request"] != "_id", "a document's own id comes after the screen's"
    mine = [s for s in screens() if str(s["at"].date()) == DAY]
    came = [(depth, ms) for s in mine for _, depth, ms in s["opened"]]
    clicks, good = len(came), sum(least(depth, ms) for depth, ms in came)
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json").json
    assert found["rows"] == SHOWN * len(mine)
    assert round(found["labels"]["click_rate"] * found["rows"]) == clicks
    assert round(found["labels"]["conversion_rate"] * clicks) == good


def test_the_manifest_of_unload_names_columns(tmp_path: Path) -> None:
    """And without one a WARNING says that names are guesses by place."""
    rows = [
        (f"v{n}", s["user"], a, f"{s['at']:%Y-%m-%d %H:%M:%S}", int(a in [o for o, _, _ in s["opened"]]), 10.5 + n % 7)
        for n, s in enumerate(screens())
        for a in s["cards"]
    ]
    names = ("view_id", "user_id", "ad_id", "shown_at", "clicked", "price")
    text = "".join("|".join(map(str, row)) + "\n" for row in rows)

    def unload(home: Path, manifest: bool) -> None:
        (home / "views").mkdir(parents=True)
        with gzip.open(home / "views/0000_part_00.gz", "wt") as out:
            out.write(text)
        if manifest:
            kinds = [{"name": n, "type": {"base": "character varying"}} for n in names]
            (home / "views/manifest").write_text(json.dumps({"entries": [], "schema": {"elements": kinds}}))

    ended, raw, text_of = made(tmp_path / "with", lambda home: unload(home, True), "--conversion", "price > 12")
    assert ended.code == 0, ended.err
    assert [raw["data"]["events"][k] for k in ("user", "item", "time", "click")] == [
        "user_id",
        "ad_id",
        "shown_at",
        "clicked",
    ]
    assert "those of views/manifest" in text_of and "guesses by their place" not in ended.out
    ended, _, _ = made(tmp_path / "without", lambda home: unload(home, False))
    assert "has no header: names of its columns are guesses by their place" in ended.out


def shown_rows() -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"view_id": SHOWN * n + k + 1, "user_id": int(s["user"][1:]) * 20, "item_id": a, "ts": s["at"]}
            | {"clicked": int(a in [o for o, _, _ in s["opened"]])}
            for n, s in enumerate(screens())
            for k, a in enumerate(s["cards"])
        ]
    )


def test_ids_of_users_are_no_running_numbers_of_exposures(tmp_path: Path) -> None:
    """Users of 0, 20, 40 ... are among the numbers of the exposures too."""
    users = pl.DataFrame({"country": ["de", "fr", "it"] * 40, "age": list(range(120)), "member_id": range(0, 2400, 20)})

    def write(home: Path) -> None:
        shown_rows().write_parquet(home / "views.parquet")
        users.write_parquet(home / "users.parquet")

    ended, raw, _ = made(tmp_path, write, "--conversion", "clicked = 1")
    assert ended.code == 0 and "joined" not in raw["data"]["events"], ended.err


def test_a_snapshot_a_day_is_no_table_of_acts(tmp_path: Path) -> None:
    """Users have another last item on each day, yet a row a day each."""

    def write(home: Path) -> None:
        rng = np.random.default_rng(1)
        shown_rows().write_parquet(home / "views.parquet")
        for day in ("2026-10-05", DAY):
            last = [f"a{i}" for i in rng.integers(0, ITEMS, USERS)]
            ids = [20 * k for k in range(USERS)]
            plans = rng.choice(["a", "b"], USERS)
            table = pl.DataFrame({"user_id": ids, "plan": plans, "last_item_id": last})
            table.write_csv(home / f"users_{day}.csv")

    ended, raw, _ = made(tmp_path, write, "--conversion", "clicked = 1")
    assert ended.code == 0 and raw["data"]["users"]["path"] == "users_{day}.csv", ended.err


@pytest.mark.parametrize(("step", "way"), [(0, "SUM"), (10, "MAX")], ids=["beats of one length", "a running total"])
def test_seconds_of_beats_are_summed_and_those_that_grow_are_not(tmp_path: Path, step: int, way: str) -> None:
    rows = shown_rows()
    clicked = rows.filter(pl.col("clicked") == 1)["view_id"].to_list()
    beats = [{"view_id": v, "seconds_played": 10 + step * k} for v in clicked for k in range(1 + v % 5)]

    def write(home: Path) -> None:
        rows.drop("clicked").write_parquet(home / "views.parquet")
        pl.DataFrame(beats).write_parquet(home / "beats.parquet")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    (one,) = raw["data"]["events"]["joined"].values()
    assert one["columns"]["seconds_played"] == f"COALESCE({way}(seconds_played), 0)"
    assert raw["data"]["events"]["unique"] == "view_id", "an exposure that comes twice is one"
