"""Good rows without a click count for nothing: `check` says how many, and the click that it proposes counts them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from initiated import daily, frame, made
from worlds import DAYS, Project, dmtl

from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.findings.unclicked import acted
from dmtl_cli.guess.outcomes.tables import Outcomes, pair_of

N = 400
RNG = np.random.default_rng(3)
CLICK = RNG.random(N) < 0.3
ALONE = np.isin(np.arange(N), np.flatnonzero(~CLICK)[::25])
"""rows without a click that are good"""
SAVED = (CLICK & (RNG.random(N) < 0.4)) | ALONE
GOOD, LONELY = int(SAVED.sum()), int(ALONE.sum())
EVENTS: dict[str, Any] = {
    "user_id": np.arange(N) % 40, "item_id": np.arange(N) % 30, "opened": CLICK, "saved": SAVED,
    "seconds": np.where(SAVED, 60.0 + np.arange(N) % 7, 0.0),
}  # fmt: skip


def project(home: Path, change: dict[str, Any], *, form: str = "parquet", **events: Any) -> Project:
    """A log of one day, and its config."""
    folder = home / f"log/events/day={DAYS[0]}"
    folder.mkdir(parents=True)
    rows = pl.DataFrame(EVENTS | change)
    {"parquet": rows.write_parquet, "csv": rows.write_csv, "json": rows.write_ndjson}[form](folder / f"a.{form}")  # type: ignore[operator]
    made = Project.create(home, home / "log")
    made.config["data"] = {"root": str(home / "log"), "format": form, "events": {"click": "opened"} | events}
    made.config["features"] = [{"name": c, "side": c[:4], "kind": "categorical"} for c in ("user_id", "item_id")]
    made.write()
    return made


def said(made: Project) -> list[str]:
    ended = made.call("check", "--day", DAYS[0], "--json")
    assert (ended.code, ended.err) == (0, ""), ended.err
    found: list[str] = ended.json["suggestions"]
    return [line for line in found if "have no click" in line]


def counted(made: Project) -> int:
    """Good rows that count, as `check` says of the clicks."""
    labels = made.call("check", "--day", DAYS[0], "--json").json["labels"]
    known = round(labels["click_rate"] * N) - labels.get("clicks_without_conversion", 0)
    return round(labels["conversion_rate"] * known)


def follow(made: Project, line: str) -> None:
    """Writes what a line proposes."""
    told = re.search(
        r"set data.events.click: (\w+) and add to data.events.computed (.*?)(?:, to data.types (.*))?$", line
    )
    assert told is not None, line
    data = made.config["data"]
    data["events"]["click"] = told[1]
    data["events"].setdefault("computed", {}).update(yaml.safe_load(told[2]))
    data.setdefault("types", {}).update(yaml.safe_load("{" + (told[3] or "") + "}"))
    if not data["types"]:
        del data["types"]
    made.write()


WORDS = {True: "J", False: "N"}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "booleans": ({}, {"conversion": "saved"}),
    "numbers": ({"opened": CLICK.astype(int), "saved": SAVED.astype(int)}, {"conversion": "saved"}),
    "words": (
        {"opened": [WORDS[bool(c)] for c in CLICK], "saved": [WORDS[bool(c)] for c in SAVED]}, {"conversion": "saved"},
    ),
    "computed": (
        {"a": SAVED, "b": [None] * N},
        {"conversion": "good", "computed": {"good": "a OR b", "seen": "opened"}, "click": "seen"},
    ),
    "time": ({"opened": [f"2026-01-01T1{k % 10}:00:00" if c else None for k, c in enumerate(CLICK)]},
             {"conversion": "saved"}),
    "nulls": ({"saved": [bool(s) if s else None for s in SAVED]}, {"conversion": "saved"}),
}  # fmt: skip


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
@pytest.mark.parametrize("way", WAYS)
def test_the_click_that_is_proposed_counts_them(tmp_path: Path, way: str, form: str) -> None:
    change, events = WAYS[way]
    if way == "time":
        at = pl.Series(change["opened"]).str.to_datetime()
        change = {"opened": at} if form == "parquet" else change
    made = project(tmp_path, change, form=form, **events)
    if way == "time" and form != "parquet":
        made.config["data"]["types"] = {"opened": "datetime"}
    if way == "computed" and form == "csv":
        made.config["data"]["types"] = dict.fromkeys(("a", "b", "opened"), "bool")
    made.write()
    (line,) = said(made)
    assert line.startswith(f"{events['conversion']}: {LONELY} of {GOOD} good rows ({LONELY / GOOD:.1%}) have no click")
    before = counted(made)
    follow(made, line)
    assert said(made) == [] and before == GOOD - LONELY and counted(made) == GOOD


def test_of_several_labels_one_click(tmp_path: Path) -> None:
    """A further conversion that stands alone, of a table of its own."""
    made = project(tmp_path, {"id": np.arange(N)}, conversion="saved", conversions={"sent": "sent"})
    sent = np.flatnonzero(~CLICK & ~SAVED)[:9]
    pl.DataFrame({"id": [*sent, *np.flatnonzero(CLICK)[:20]]}).write_parquet(tmp_path / "log/sent.parquet")
    table = {"path": "sent.parquet", "key": "id", "columns": {"sent": "COUNT(*) > 0"}}
    made.config["data"]["events"]["joined"] = {"messages": table}
    made.write()
    (line,) = said(made)
    assert f"saved: {LONELY} of {GOOD} good rows" in line and "sent: 9 of 29 good rows (31.0%) have no click" in line
    follow(made, line)
    assert said(made) == [] and counted(made) == GOOD


def of_pairs(home: Path, *, clicks: bool) -> Project:
    """What came of every fifth click, and perhaps the clicks, lie in tables by user and item."""
    made = project(home, {}, conversion="bought")
    ids, events = pl.DataFrame({c: EVENTS[c] for c in ("user_id", "item_id")}), made.config["data"]["events"]
    key = {"pair": "user_id || '/' || item_id"}
    events |= {"computed": key, "joined": {}}
    for name, rows in {"bought": np.flatnonzero(CLICK)[::5], "tapped": np.flatnonzero(CLICK)[1::5]}.items():
        ids[rows].unique().write_parquet(home / f"log/{name}.parquet")
        table = {"path": f"{name}.parquet", "key": "pair", "computed": key, "columns": {name: "COUNT(*) > 0"}}
        events["joined"] |= {name: table} if clicks or name == "bought" else {}
    events |= {"click": "tapped"} if clicks else {}
    made.write()
    return made


def test_other_exposures_of_a_user_and_item_are_no_good_ones_without_a_click(tmp_path: Path) -> None:
    """A table by user and item tells of each of them; `check` says that many share it, and asks for no other key."""
    made = of_pairs(tmp_path / "own", clicks=False)
    assert said(made) == []
    told = [x for x in made.call("check", "--day", DAYS[0]).out.splitlines() if x.startswith("data.events.joined")]
    assert len(told) == 1 and told[0].endswith(
        " exposures share their pair (user_id, item_id) with another: what came of it counts for each of them"
    )
    assert len(said(of_pairs(tmp_path / "both", clicks=True))) == 1, "where the click is theirs too, there was none"


def test_of_durations_where_most_rows_without_a_click_have_none(tmp_path: Path) -> None:
    made = project(tmp_path / "few", {}, duration="seconds")
    (line,) = said(made)
    assert line.startswith("seconds > ") and f" of {GOOD} good rows" in line and "OR COALESCE(seconds, 0) > 0" in line
    follow(made, line)
    assert said(made) == []
    dwell = np.where(SAVED, 60.0, np.where(CLICK, 0.0, 1 + np.arange(N) % 3))
    assert said(project(tmp_path / "dwell", {"seconds": dwell}, duration="seconds")) == [], "a time in sight"


def test_few_are_not_told(tmp_path: Path) -> None:
    assert said(project(tmp_path / "none", {"saved": SAVED & CLICK}, conversion="saved")) == []
    many = np.arange(N * 10)
    click = many % 2 == 0
    lone = click | (many == 1)
    rows = {"user_id": many % 40, "item_id": many % 30, "opened": click, "saved": lone, "seconds": many * 1.0}
    assert said(project(tmp_path / "one", rows, conversion="saved")) == [], "one of 2,001"
    assert said(project(tmp_path / "clicks", {"rated": SAVED}, conversion="saved", click=None)) == []
    some = {"saved": click | (many % 80 == 1)}
    (line,) = said(project(tmp_path / "some", rows | some, conversion="saved"))
    assert line == "saved: 50 of 2,050 good rows (2.4%) have no click (opened): they count for nothing", "and no advice"


def test_init_writes_the_lines(tmp_path: Path) -> None:
    rows = frame()
    lone = pl.Series((~rows["clicked"].cast(pl.Boolean)).to_numpy() & (np.arange(len(rows)) % 9 == 0))
    rows = rows.with_columns(hearted=rows["clicked"].cast(pl.Boolean) & (pl.int_range(pl.len()) % 2 == 0) | lone)
    ended, raw, text = made(tmp_path, daily(rows), "--conversion", "hearted OR watch_seconds > 1e9")
    assert ended.code == 0, ended.err
    good, alone = int(rows["hearted"].sum()), int(lone.sum())
    assert f"# good: {alone:,} of {good:,} good rows ({alone / good:.1%}) of the sample have no click" in text
    lines = [
        line.partition("#   ")[2] for line in text.splitlines() if "#   click: " in line or "#   computed: " in line
    ]
    proposed = yaml.safe_load("\n".join(lines))
    assert proposed["click"] == "acted" and proposed["computed"].keys() == {"acted", "good"}
    counts = []
    for events in ({}, proposed):
        raw["data"]["events"] |= events
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
        found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", text.partition("--day ")[2][:10], "--json")
        told = [line for line in found.json["suggestions"] if "have no click" in line]
        assert bool(told) == (not events), found.out
        counts.append(found.json["labels"]["click_rate"])
    assert counts[0] < counts[1]


def test_init_writes_no_such_lines_of_other_exposures(tmp_path: Path) -> None:
    """The same rule of good rows is of a user and item where their table is so."""
    rows = frame().with_columns(good=pl.int_range(pl.len()) % 9 == 0)
    roles = roles_of(rows, {"expression": "good OR FALSE"})
    assert roles.made_by is not None and len(acted(rows, roles, {})) == 3
    table: Any = None
    for ids, lines in ((["user_id", "item_id"], 0), (["ts", "item_id"], 3)):
        sides = (pair_of(*ids), pair_of(*ids))
        later = Outcomes("deals", table, "pair", "pair", {"good": "COUNT(*) > 0"}, (), "", (), sides)
        assert len(acted(rows, roles, {}, [later])) == lines
