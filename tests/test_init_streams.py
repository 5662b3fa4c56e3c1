"""init: a file of several kinds of events, in which what follows names what was shown, is read as it is."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from worlds import dmtl

DAYS = ("2026-01-01", "2026-01-02")
Rows = list[dict[str, Any]]


def drawn(day: str) -> tuple[Rows, dict[str, int]]:
    """Events of a day in the order of their times, as objects; and what the truth is of it."""
    rng = np.random.default_rng(int(day[-1]))
    start = dt.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    rows: list[tuple[int, dict[str, Any]]] = []
    truth = {"exposures": 0, "clicks": 0, "good": 0}
    for page in range(180):
        user, at = f"u{rng.integers(120)}", 400 * page
        for rank, item in enumerate(rng.choice(50, 7, replace=False).tolist()):
            own = f"{day[-2:]}-{page}-{rank}"
            base = {"user": {"id": user, "lang": ("pt", "es")[int(user[1:]) % 2]}, "job": {"id": f"j{item}"}}
            shown = base | {"id": own, "list": {"id": f"{day}{page}", "rank": rank + 1}, "type": "impression"}
            rows.append((at, shown))
            truth["exposures"] += 1
            if rng.random() < 0.3:
                follows = base | {"impression_id": own}
                rows.append((at + 5, follows | {"id": f"c{own}", "type": "click"}))
                rows.append((at + 90, follows | {"id": f"l{own}", "type": "leave", "stay_ms": int(rng.integers(9e4))}))
                truth["clicks"] += 1
                if rng.random() < 0.4:
                    rows.append((at + 60, follows | {"id": f"a{own}", "type": "apply"}))
                    truth["good"] += 1
        if page % 9 == 0:
            rows.append((at, base | {"id": f"s{page}", "type": "search"}))
    rows.sort(key=lambda row: row[0])
    moments = [(start + dt.timedelta(seconds=at)).isoformat() for at, _ in rows]
    return [row | {"ts": moment} for moment, (_, row) in zip(moments, rows, strict=True)], truth


def same_name(rows: Rows) -> Rows:
    """What was shown has its id under the name that the others have for it."""
    own = lambda row: row.get("impression_id") or (row["id"] if row["type"] == "impression" else None)  # noqa: E731
    return [{k: v for k, v in row.items() if k != "id"} | {"impression_id": own(row)} for row in rows]


def flat(rows: Rows) -> pl.DataFrame:
    names = ("id", "impression_id", "type", "ts", "stay_ms")
    objects = {"user.id": "user_id", "user.lang": "lang", "job.id": "job_id", "list.id": "list_id", "list.rank": "rank"}
    made = []
    for row in rows:
        inner = {new: row.get(a.split(".")[0], {}).get(a.split(".")[1]) for a, new in objects.items()}
        made.append({name: row.get(name) for name in names} | inner)
    return pl.DataFrame(made, infer_schema_length=None)


def config_of(root: Path, *more: str) -> tuple[dict[str, Any], str]:
    out = root.parent / "made.yaml"
    ended = dmtl("init", root, "-o", out, "--force", *more)
    assert ended.code == 0, ended.err
    return yaml.safe_load(out.read_text())["data"]["events"], ended.out


def checked(root: Path, day: str = DAYS[1]) -> dict[str, Any]:
    ended = dmtl("check", "--config", root.parent / "made.yaml", "--day", day, "--json")
    assert ended.code == 0, ended.err
    return ended.json


def agrees(found: dict[str, Any], truth: dict[str, int]) -> None:
    assert found["rows"] == truth["exposures"]
    assert found["labels"]["click_rate"] == pytest.approx(truth["clicks"] / truth["exposures"], abs=1e-4)
    assert found["labels"]["conversion_rate"] == pytest.approx(truth["good"] / truth["clicks"], abs=1e-4)


@pytest.mark.parametrize("named", ["apart", "the same"])
def test_json_lines_of_objects(tmp_path: Path, named: str) -> None:
    (tmp_path / "log").mkdir()
    for day in DAYS:
        rows, _ = drawn(day)
        rows = rows if named == "apart" else same_name(rows)
        (tmp_path / f"log/events_{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    events, out = config_of(tmp_path / "log", "--conversion", '"apply"')
    assert (events["user"], events["item"], events["request"]) == ("user.id", "job.id", "list.id")
    assert (events["click"], events["where"]) == ("clicked", "type = 'impression'")
    (joined,) = events["joined"].values()
    key = {"key": "impression_id"} | ({"event_key": "id"} if named == "apart" else {})
    made = {
        "clicked": "COUNT(CASE WHEN type IN ('click', 'apply') THEN 1 END) > 0",
        "apply": "COUNT(CASE WHEN type = 'apply' THEN 1 END) > 0",
        "leave": "COUNT(CASE WHEN type = 'leave' THEN 1 END) > 0",
        "total_stay_ms": "SUM(stay_ms)",
    }
    assert joined == key | {"path": "events_{day}.jsonl", "where": "NOT type = 'impression'", "columns": made}
    agrees(checked(tmp_path / "log"), drawn(DAYS[1])[1])
    assert "of the same files, by" in (tmp_path / "made.yaml").read_text() and "behaviour" not in out


def test_the_item_of_what_was_shown_is_told_by_the_catalogue(tmp_path: Path) -> None:
    """Under a name that says nothing, where other kinds lack it, and beside a list of what was seen before."""
    (tmp_path / "log").mkdir()
    truth = {"exposures": 0, "clicks": 0, "good": 0}
    for day in DAYS:
        rng, rows = np.random.default_rng(int(day[-1])), []
        truth = dict.fromkeys(truth, 0)
        for page in range(240):
            at = dt.datetime.fromisoformat(f"{day}T00:00:00+04:00") + dt.timedelta(seconds=340 * page)
            base = {"user": f"u{rng.integers(150)}", "page": f"{day}{page}"}
            recent = [f"z{k}" for k in rng.choice(90, 4, replace=False)]
            for pos, film in enumerate(rng.choice(90, 6, replace=False).tolist()):
                own = {"id": f"{day}{page}-{pos}", "ts": at.isoformat(), "user": base["user"]}
                slot = {"row": f"r{pos % 2}", "pos": pos}
                rows.append(own | base | {"kind": "shown", "zzk": f"z{film}", "slot": slot, "recent": recent})
                truth["exposures"] += 1
                follows = {"user": base["user"], "shown_id": own["id"]}
                if rng.random() < 0.1:
                    later = (at + dt.timedelta(seconds=30)).isoformat()
                    rows.append(follows | {"id": f"o{own['id']}", "ts": later, "kind": "opened", "via": "poster"})
                    truth["clicks"] += 1
                    if rng.random() < 0.5:
                        play = {"watch_ms": int(rng.integers(1, 2_000_000)), "audio": "ka"}
                        rows.append(follows | {"id": f"w{own['id']}", "ts": later, "kind": "watched", "play": play})
                        truth["good"] += play["watch_ms"] >= 900_000
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"log/events_{day}.jsonl").write_text(text)
    films = [{"film_id": f"z{k}", "cast": [f"a{k % 7}"], "duration_ms": 10 * k} for k in range(90)]
    (tmp_path / "log/catalog.jsonl").write_text("".join(json.dumps(film) + "\n" for film in films))
    rule = "MAX(play.watch_ms) >= 900000"
    events, _ = config_of(tmp_path / "log", "--conversion", rule, "--timezone", "Asia/Tbilisi", "--click", "opened")
    assert (events["item"], events["where"], "explode" in events) == ("zzk", "kind = 'shown'", False)
    agrees(checked(tmp_path / "log"), truth)


@pytest.mark.parametrize("word", ["opened", "clicked", "opened OR leave"])
def test_a_click_is_named_by_the_word_of_its_kind(tmp_path: Path, word: str) -> None:
    """Whose flag has another name, and the column of users is called as SQL calls its own."""
    frame = pl.concat([flat(drawn(day)[0]) for day in DAYS]).rename({"user_id": "user"})
    frame = frame.with_columns(pl.col("type").replace({"click": "opened", "apply": "printed"}))
    write(frame, tmp_path / "log", "events", "csv")
    events, out = config_of(tmp_path / "log", "--conversion", "printed", "--click", word, "--where", "user <> 'u7'")
    assert "as --click says" in out and '"user" <> ' in events["where"]
    labels, here = checked(tmp_path / "log")["labels"], frame.filter(pl.col("ts").str.starts_with(DAYS[1]), user="u7")
    theirs = (here["type"] == "opened").sum()
    assert labels["clicks"] == drawn(DAYS[1])[1]["clicks"] - theirs


@pytest.mark.parametrize("kind", ["csv", "parquet", "avro"])
def test_one_file_of_all_days(tmp_path: Path, kind: str) -> None:
    frame = pl.concat([flat(drawn(day)[0]) for day in DAYS])
    write(frame, tmp_path / "log", "events", kind)
    events, _ = config_of(tmp_path / "log", "--conversion", '"apply"')
    assert events["date_column"] == "ts" and events["where"] == "type = 'impression'"
    agrees(checked(tmp_path / "log"), drawn(DAYS[1])[1])


def test_how_long_they_stayed_tells_a_good_one(tmp_path: Path) -> None:
    """A number that only later rows have, under a name that no column of the file has."""
    for day in DAYS:
        write(flat(drawn(day)[0]), tmp_path / "log", f"events_{day}", "parquet")
    events, _ = config_of(tmp_path / "log")
    assert (events["duration"], events["duration_unit"]) == ("total_stay_ms", "ms")
    found = checked(tmp_path / "log")
    assert found["rows"] == drawn(DAYS[1])[1]["exposures"] and found["not_asked"] > 0
    features = {f["name"] for f in found["features"]}
    assert {"lang", "rank"} <= features and not features & {"type", "stay_ms", "total_stay_ms", "id"}


def test_a_kind_that_names_no_exposure_is_of_a_user_and_item(tmp_path: Path) -> None:
    """Applications without the id: they are of what was shown to their user within some time before them."""
    for day in DAYS:
        frame = flat(drawn(day)[0]).with_columns(
            impression_id=pl.when(pl.col("type") == "apply").then(None).otherwise("impression_id")
        )
        write(frame, tmp_path / "log", f"events_{day}", "parquet")
    events, _ = config_of(tmp_path / "log", "--conversion", '"apply"')
    later, beside = events["joined"]["later"], events["joined"]["beside"]
    assert (later["key"], {"clicked", "leave"} <= later["columns"].keys()) == ("impression_id", True)
    assert (beside["where"], beside["columns"]) == (
        "type = 'apply'",
        {"apply": "COUNT(CASE WHEN type = 'apply' THEN 1 END) > 0"},
    )
    assert (beside["time"], beside["within"]) == ("ts", "1h")
    found, truth = checked(tmp_path / "log"), drawn(DAYS[1])[1]
    assert (found["rows"], found["labels"]["click_rate"]) == (
        truth["exposures"],
        pytest.approx(truth["clicks"] / truth["exposures"], abs=1e-4),
    )
    rate = truth["good"] / truth["clicks"]  # and some more, of items that were shown to their user twice in the hour
    assert rate <= found["labels"]["conversion_rate"] < 1.2 * rate


def test_numbers_that_meet_by_chance_name_nothing(tmp_path: Path) -> None:
    """A count of all rows, and another number of the rows that follow: both are in one range."""
    for day in DAYS:
        frame = flat(drawn(day)[0]).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
        rng = np.random.default_rng(1)
        other = pl.Series(rng.integers(0, len(frame), len(frame)))
        frame = frame.drop("id", "impression_id").with_columns(
            ref_id=pl.when(pl.col("type") != "impression").then(other)
        )
        write(frame, tmp_path / "log", f"events_{day}", "parquet")
    events, _ = config_of(tmp_path / "log")
    assert events["joined"]["later"]["key"] == "exposure" == events["unique"], "a user and item tell it"


def test_a_large_file_is_looked_at_with_what_came_of_it(tmp_path: Path) -> None:
    """Of a file of more rows than a sample has, what followed is taken of the places of what was shown."""
    n = 120_000
    rng = np.random.default_rng(2)
    own = pl.Series("id", [f"s{k}" for k in range(n)])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    shown = pl.DataFrame(
        {
            "id": own,
            "of": pl.Series([None] * n, dtype=pl.String),
            "event": "impression",
            "ts": pl.Series([start + dt.timedelta(seconds=k) for k in range(n)]),
            "user_id": rng.integers(0, 2000, n),
            "item_id": rng.integers(0, 300, n),
        }
    )
    clicked = shown.filter(pl.Series(rng.random(n) < 0.5))
    followed = [
        clicked.with_columns(of="id", id=pl.format("{}-{}", pl.lit(name), "id"), event=pl.lit(name))
        for name in ("click", "like", "play")
    ]
    write(pl.concat([shown, *followed]).sort("ts", maintain_order=True), tmp_path / "log", "events", "csv")
    _, out = config_of(tmp_path / "log", "--conversion", '"like"')
    assert re.search(r"click +clicked +0/1, (49|50|51)% ones", out), out


@pytest.mark.parametrize("named", ["apart", "the same"])
def test_a_view_of_what_was_shown_is_no_exposure(tmp_path: Path, named: str) -> None:
    """impression, view, purchase: a view has the word of an exposure, and names one."""
    (tmp_path / "log").mkdir()
    words = {"click": "view", "apply": "purchase"}
    for day in DAYS:
        rows = [row | {"type": words.get(row["type"], row["type"])} for row in drawn(day)[0]]
        rows = rows if named == "apart" else same_name(rows)
        (tmp_path / f"log/events_{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    events, _ = config_of(tmp_path / "log", "--conversion", "purchase")
    assert events["where"] == "type = 'impression'"
    (joined,) = events["joined"].values()
    assert joined["columns"]["clicked"] == "COUNT(CASE WHEN type IN ('view', 'purchase') THEN 1 END) > 0"
    agrees(checked(tmp_path / "log"), drawn(DAYS[1])[1])


def test_exposures_of_two_kinds_are_both_exposures(tmp_path: Path) -> None:
    for day in DAYS:
        ranked = pl.when((pl.col("type") == "impression") & (pl.col("rank") % 2 == 0)).then(pl.lit("view_search"))
        frame = flat(drawn(day)[0]).with_columns(type=ranked.otherwise("type"))
        write(frame, tmp_path / "log", f"events_{day}", "parquet")
    events, _ = config_of(tmp_path / "log", "--conversion", '"apply"')
    assert events["where"] == "type IN ('impression', 'view_search')"
    agrees(checked(tmp_path / "log"), drawn(DAYS[1])[1])


def test_guests_tell_nothing_of_what_a_row_names(tmp_path: Path) -> None:
    """What a guest did is of no user, as is what they were shown."""
    for day in DAYS:
        guest = pl.coalesce("impression_id", "id").hash() % 4 == 0
        frame = flat(drawn(day)[0]).with_columns(user_id=pl.when(~guest).then("user_id"))
        write(frame, tmp_path / "log", f"events_{day}", "parquet")
    events, _ = config_of(tmp_path / "log", "--conversion", '"apply"')
    assert events["where"] == "type = 'impression'" and events["invalid_rows"] == "drop"
    found, truth = checked(tmp_path / "log"), drawn(DAYS[1])[1]
    assert found["rows"] + sum(found["left_out"].values()) == truth["exposures"]
