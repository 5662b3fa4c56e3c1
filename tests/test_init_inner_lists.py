"""What came of an item in a list within the elements of the list that was shown, as a Spark job gathers it, and rows of
what came that are delivered twice."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from initiated import features, made
from worlds import dmtl

from dmtl_cli.guess.outcomes.streams import parted
from dmtl_cli.guess.reading.tables import tables
from dmtl_cli.guess.sides.beside import with_elements

DAYS = [dt.date(2026, 3, 1) + dt.timedelta(days=k) for k in range(4)]
DONE = pl.List(pl.Struct({"kind": pl.String, "ms": pl.Int64}))
OF_COVERS = {
    "place": pl.Int64,
    "title": pl.String,
    "tapped": pl.Datetime("ms"),
    "done": DONE,
    "tags": pl.List(pl.String),
}
COVER = pl.Struct(OF_COVERS)
WHOLE = "ARRAY_CONTAINS(covers.done.kind, 'loan') OR ARRAY_SUM(covers.done.ms) >= 250000"


def shelves(seed: int = 3) -> tuple[pl.DataFrame, dict[dt.date, list[tuple[bool, bool]]]]:
    """Shelves of several names, each with covers, and of each cover by its day whether it was tapped, and well."""
    rng = np.random.default_rng(seed)
    rows, truth = [], dict[dt.date, list[tuple[bool, bool]]]()
    for day in DAYS:
        for k in range(220):
            at = dt.datetime.combine(day, dt.time(8)) + dt.timedelta(seconds=int(rng.integers(0, 40_000)))
            covers: list[dict[str, Any]] = []
            titles = rng.choice(60, 5, replace=False)  # each once a shelf
            for place in range(5):
                tapped = rng.random() < 0.25
                loan, pieces = rng.random() < 0.3, int(rng.integers(0, 4))
                kinds = ["loan"] * (tapped and loan) + ["reading"] * (pieces * tapped)
                done = [
                    {"kind": kind, "ms": None if kind == "loan" else int(rng.integers(1, 200_000))} for kind in kinds
                ]
                read = sum(one["ms"] or 0 for one in done)
                truth.setdefault(day, []).append((tapped, tapped and ("loan" in kinds or read >= 250_000)))
                covers.append({
                    "place": place + 1, "title": f"t{titles[place]}", "tags": ["new"] if rng.random() < 0.3 else [],
                    "tapped": at + dt.timedelta(seconds=9) if tapped else None, "done": done if tapped else None,
                })  # fmt: skip
            began = at - dt.timedelta(seconds=int(rng.integers(0, 900)))
            shelf = {"code": ["top", "new", "for_you"][k % 3], "rank": k % 3}
            rows.append({
                "day": day, "view": f"v{day:%d}{k}", "page": f"p{day:%d}{k // 3}", "session": {"start": began},
                "patron": f"u{k % 70}", "seen_at": at, "shelf": shelf, "covers": covers,
            })  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"covers": pl.List(COVER)}), truth


def write(home: Path, form: str) -> None:
    frame, _ = shelves()
    for (day,), part in frame.group_by("day", maintain_order=True):
        place = home / f"shelves/day={day}"
        place.mkdir(parents=True)
        rows = part.drop("day")
        rows.write_parquet(place / "0.parquet") if form == "parquet" else rows.write_ndjson(place / "0.jsonl")
    titles = pl.DataFrame({"title": [f"t{k}" for k in range(60)], "genre": [f"g{k % 7}" for k in range(60)]})
    patrons = pl.DataFrame({"patron": [f"u{k}" for k in range(70)], "town": [f"o{k % 5}" for k in range(70)]})
    for name, table in (("titles", titles), ("patrons", patrons)):
        (home / name).mkdir()
        table.write_parquet(home / name / "0.parquet") if form == "parquet" else table.write_ndjson(
            home / name / "0.jsonl"
        )


@pytest.mark.parametrize("form", ["parquet", "json"])
@pytest.mark.parametrize("rule", ["loan OR SUM(ms) >= 250000", WHOLE])
def test_a_list_within_the_elements_tells_the_good_ones(tmp_path: Path, form: str, rule: str) -> None:
    """Shelves of several names are no kinds of events, and a session's start is no time of its shelves."""
    ended, raw, text = made(tmp_path, lambda home: write(home, form), "--conversion", rule, "--timezone", "UTC")
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    named = [events[role] for role in ("explode", "item", "user", "time")]
    assert named == ["covers", "covers.title", "patron", "seen_at"], text
    assert events["click"] == "covers.tapped" and "joined" not in events and "where" not in events
    good = events["computed"]["good"].replace('"', "")
    assert WHOLE in good
    assert {"covers.done.kind", "covers.done.ms"} <= {*events["outcomes"]}
    assert not [name for name in features(raw) if "done" in name]
    day = DAYS[2]
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
    assert found.code == 0, found.err
    _, truth = shelves()
    tapped, well = (sum(one[k] for one in truth[day]) for k in (0, 1))
    labels = found.json["labels"]
    assert found.json["rows"] == len(truth[day]) and labels["click_rate"] == pytest.approx(
        tapped / len(truth[day]), abs=1e-4
    )
    assert labels["conversion_rate"] == pytest.approx(well / tapped, abs=1e-4)


@pytest.mark.parametrize(
    "click", ["opened", "done.kind = 'opened'", "covers.done.kind IN ('opened')", "kind = 'opened'"]
)
def test_a_click_is_named_by_its_word_in_such_lists(tmp_path: Path, click: str) -> None:
    """Of cards that have no flag of clicks: what was done has it."""
    frame, truth = shelves()

    def opened(covers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = {True: [{"kind": "opened", "ms": 0}], False: []}
        kept = [{c: x for c, x in one.items() if c != "tapped"} for one in covers]
        done = [first[one["tapped"] is not None] + (one["done"] or []) for one in covers]
        return [one | {"done": mine} for one, mine in zip(kept, done, strict=True)]

    kind = pl.List(pl.Struct({c: of for c, of in OF_COVERS.items() if c != "tapped"}))

    def lay(home: Path) -> None:
        write(home, "parquet")
        told = frame.with_columns(pl.Series("covers", [opened(c) for c in frame["covers"].to_list()], kind))
        for (day,), part in told.group_by("day", maintain_order=True):
            part.drop("day").write_parquet(home / f"shelves/day={day}/0.parquet")

    ended, _, text = made(tmp_path, lay, "--click", click, "--conversion", "loan", "--timezone", "UTC")
    assert ended.code == 0, ended.err
    tapped = sum(one[0] for one in truth[DAYS[2]])
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[2])
    assert f"are clicks ({tapped:,})" in found.out, text
    said = " ".join(ended.out.replace('"', "").split())
    assert "clicked as --click says: ARRAY_CONTAINS(covers.done.kind, 'opened'): " in said


def test_of_one_file_of_all_days_too(tmp_path: Path) -> None:
    """It is read a second time, by the days of its times, when its lists are known."""

    def lay(home: Path) -> None:
        write(home, "parquet")
        frame, _ = shelves()
        for file in (home / "shelves").rglob("*.parquet"):
            file.unlink()
        frame.drop("day").write_parquet(home / "shelves.parquet")

    ended, raw, text = made(tmp_path, lay, "--conversion", "loan OR SUM(ms) >= 250000", "--timezone", "UTC")
    assert ended.code == 0, ended.err
    assert WHOLE in raw["data"]["events"]["computed"]["good"].replace('"', ""), text
    assert {"covers.done.kind", "covers.done.ms"} <= {*raw["data"]["events"]["outcomes"]}, text
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[2], "--json")
    _, truth = shelves()
    tapped, well = (sum(one[k] for one in truth[DAYS[2]]) for k in (0, 1))
    assert found.json["labels"]["conversion_rate"] == pytest.approx(well / tapped, abs=1e-4), found.err


def test_names_of_shelves_are_no_kinds_of_events(tmp_path: Path) -> None:
    write(tmp_path, "parquet")
    found = tables(str(tmp_path)).tables
    (mine,) = (table for table in found if "covers.title" in table.frame.columns)
    assert parted(mine, found, {}) is None
    assert len(mine.deep) == len(mine.frame) and "covers.done.kind" in mine.deep.columns


def test_words_and_sums_of_lists(tmp_path: Path) -> None:
    """Of columns that are no lists, of words that several lists have, and in quotes, the rule is as it was typed."""
    write(tmp_path, "parquet")
    found = tables(str(tmp_path)).tables
    (mine,) = (table for table in found if "covers.title" in table.frame.columns)
    rows = mine.frame.head(3).select(
        pl.Series("did", [["a", "b"], ["b"], []], dtype=pl.List(pl.String)),
        pl.Series("was", [["c"], ["b"], []], dtype=pl.List(pl.String)),
        pl.Series("ms", [[1], [2], []], dtype=pl.List(pl.Int64)), n=pl.Series([1, 2, 3]),
    )  # fmt: skip
    table = replace(mine, frame=rows)
    assert with_elements("a OR n > 2", [table]).replace('"', "") == "ARRAY_CONTAINS(did, 'a') OR n > 2"
    for rule, asked in (
        ("a", "ARRAY_CONTAINS(did, 'a')"),
        ("did = 'b' OR n > 2", "ARRAY_CONTAINS(did, 'b') OR n > 2"),
        ("n = 1 AND was IN ('b', 'c')", "n = 1 AND (ARRAY_CONTAINS(was, 'b') OR ARRAY_CONTAINS(was, 'c'))"),
        ("n = 'did = 1' OR x.did = 'b'", "n = 'did = 1' OR x.did = 'b'"),
    ):
        assert with_elements(rule, [table]).replace('"', "") == asked
    other = replace(mine, frame=pl.DataFrame({"was": ["c"]}))
    assert with_elements("was = 'c'", [table, other]) == "was = 'c'", "another table has it as a text"
    assert with_elements("sum(ms) > 2", [table]).replace('"', "") == "ARRAY_SUM(ms) > 2"
    for same in ("b OR n > 2", "SUM(n) > 2", "n = 'a'", "z OR n > 1"):
        assert with_elements(same, [table]) == same


@pytest.mark.parametrize("copied", [True, False])
def test_rows_of_what_came_that_are_sent_twice_are_read_once(tmp_path: Path, copied: bool) -> None:
    """Else their lengths would be added up twice; other rows of a click, as after a pause, are all added."""
    rng = np.random.default_rng(8)
    n = 6_000
    shown = pl.DataFrame({
        "show_id": [f"s{k}" for k in range(n)], "user_id": [f"u{k}" for k in rng.integers(0, 200, n)],
        "item_id": [f"i{k}" for k in rng.integers(0, 90, n)],
        "ts": [dt.datetime(2026, 3, 1) + dt.timedelta(seconds=40 * k) for k in range(n)],
    })  # fmt: skip
    who = rng.choice(n, 900, replace=False).repeat(rng.integers(1, 4, 900))
    ids = {name: [f"{name[0]}{k}" for k in who] for name in ("show_id", "click_id")}
    ids["at_ms"] = [
        1_772_400_000_000 + 7 * (k - (k % 400 == 9)) for k in range(len(who))
    ]  # a few are of one millisecond
    lasted = {"play_id": [f"p{k}" for k in range(len(who))], "ms": rng.integers(1_000, 30_000, len(who))}
    plays = pl.DataFrame(ids | lasted | {"received_at": [dt.datetime(2026, 3, 4)] * len(who)})
    again = plays.sample(150, seed=1).with_columns(pl.col("received_at") + dt.timedelta(hours=1))

    def lay(home: Path) -> None:
        shown.write_parquet(home / "shown.parquet")
        (pl.concat([plays, again]) if copied else plays).write_parquet(home / "plays.parquet")

    ended, raw, text = made(tmp_path, lay, "--conversion", "SUM(ms) >= 30000", "--timezone", "UTC")
    assert ended.code == 0, ended.err
    (joined,) = raw["data"]["events"]["joined"].values()
    assert joined.get("unique") == ("play_id" if copied else None), text
    if copied:
        assert f"unique: play_id  # 150 of {len(who) + 150:,} rows come twice" in text
    day = "2026-03-02"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    of_day = shown.filter(pl.col("ts").dt.strftime("%Y-%m-%d") == day)
    total = plays.group_by("show_id").agg(pl.col("ms").sum()).join(of_day, on="show_id")["ms"]
    assert found["labels"]["conversion_rate"] == pytest.approx((total >= 30_000).mean(), abs=1e-4)
