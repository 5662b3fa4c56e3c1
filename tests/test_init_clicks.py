"""`init` on logs without a column of clicks, where a person says by an expression what one is; what it takes for the
duration of a click, the moment of a row and the person behind its sessions."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.guess.columns.alike import are_same, offers
from dmtl_cli.guess.columns.values import within

X = unseen.drawn(0)
OPENED = "dwell_ms > 2000 OR unfolded = 1"
DAY = "2026-03-02"


def feed(**more: Any) -> pl.DataFrame:
    """A feed: how long each item was in view, which was unfolded; some times were not measured."""
    rng = np.random.default_rng(3)
    dwell = rng.exponential(900, len(X["at"])).astype(int) + 5_000 * X["click"]
    read = [None if k % 40 == 0 else int(ms) for k, ms in enumerate(dwell)]
    unfolded = ((rng.random(len(dwell)) < 0.5) & (X["click"] == 1)).astype(int)
    liked = ((rng.random(len(dwell)) < 0.4) & (X["click"] == 1)).astype(int)
    return frame(drop=("clicked", "watch_seconds"), **{"dwell_ms": read, "unfolded": unfolded, "liked": liked} | more)


def clicks_of(checked: dict[str, Any]) -> int:
    """Of a day, those of a user and item that repeat in a request too."""
    labels = checked["labels"]
    return round(labels["click_rate"] * checked["rows"]) + int(labels["repeated_clicks"])


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_a_click_may_be_an_expression(tmp_path: Path, form: str) -> None:
    log = feed()

    def write(home: Path) -> None:
        if form == "csv":
            log.write_csv(home / "feed.csv")
        elif form == "json":
            log.write_ndjson(home / "feed.jsonl")
        else:
            daily(log)(home)

    ended, raw, text = made(tmp_path, write, "--click", OPENED, "--conversion", "liked = 1")
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["click"] == "clicked" and events["computed"] == {"clicked": OPENED, "good": "liked = 1"}
    assert events["null_click"] == "no_click" and "clicked" not in raw["data"].get("types", {})
    assert {"dwell_ms", "unfolded", "liked"} <= set(events["outcomes"])
    assert not {"dwell_ms", "unfolded", "liked"} & {f.get("column", name) for name, f in features(raw).items()}
    assert "the click is made of it" in text
    true = log.select(pl.sql_expr(OPENED).fill_null(False)).to_series()
    shown = pl.Series(unseen.days_of(X)) == DAY
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json")
    assert found.code == 0 and clicks_of(found.json) == int((true & shown).sum()), found.err


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("dwel_ms > 2000", 2, "--click: events has no column dwel_ms; it has dwell_ms, "),
        ("ms_dwell_sum > 2000", 2, "--click: events has no column ms_dwell_sum; it has dwell_ms, "),
        ("dwell_ms >> 2", 2, "--click: "),
        ("dwell_ms + 1", 2, "--click: expected true or false of each row, got Int64 by dwell_ms + 1"),
        ("'x' = 'x'", 2, "--click: 'x' = 'x' names no column"),
        ("dwell_ms LIKE 'a'", 2, "--click: cannot compare string with numeric type"),
    ],
)
def test_a_click_that_is_no_expression_is_refused(tmp_path: Path, text: str, code: int, said: str) -> None:
    (tmp_path / "log").mkdir()
    daily(feed())(tmp_path / "log")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--click", text, "--conversion", "liked")
    assert ended.code == code and said in ended.err and "bug" not in ended.err, ended.err
    assert not (tmp_path / "mine.yaml").exists()


def test_a_good_click_without_a_click_is_told_beside_an_expression(tmp_path: Path) -> None:
    """The lines that `init` proposes are a config that is read."""
    liked = [int(k % 9 == 0) for k in range(len(X["at"]))]
    ended, raw, text = made(tmp_path, daily(feed(liked=liked)), "--click", OPENED, "--conversion", "liked = 1")
    assert ended.code == 0, ended.err
    lines = [line.strip("# ") for line in text.splitlines() if line.strip().startswith(("#   click:", "#   computed:"))]
    raw["data"]["events"] |= yaml.safe_load("\n".join(lines))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json")
    good = feed(liked=liked).select(pl.sql_expr(f"{OPENED} OR liked = 1").fill_null(False)).to_series()
    shown = pl.Series(unseen.days_of(X)) == DAY
    assert found.code == 0 and clicks_of(found.json) == int((good & shown).sum()), found.err


def test_of_two_durations_the_one_that_a_click_has_is_taken(tmp_path: Path) -> None:
    """How long an item was in view is there for every row."""
    seen = np.random.default_rng(1).exponential(3_000, len(X["at"])).astype(int)
    dwell = [float(s) if c else None for s, c in zip(X["seconds"], X["click"], strict=True)]
    log = frame(drop=("watch_seconds",), view_ms=seen, viewable=seen > 1_000, dwell_s=dwell)
    ended, raw, text = made(tmp_path, daily(log))
    assert ended.code == 0 and raw["data"]["events"]["duration"] == "dwell_s", ended.err
    assert "or view_ms" in text and {"view_ms", "viewable"} <= set(raw["data"]["events"]["outcomes"])


def test_in_place_of_a_day_its_clock_is_the_time(tmp_path: Path) -> None:
    """Of two clocks the one that tells when a row was written comes last."""
    at = [dt.datetime.fromtimestamp(int(t), dt.UTC) for t in X["at"]]
    times = {
        "event_date": [t.date() for t in at],
        "inserted_at": [t + dt.timedelta(seconds=40) for t in at],
        "gezeigt": at,
    }
    _, raw, text = made(tmp_path, lambda home: frame(drop=("ts",), **times).write_parquet(home / "log.parquet"))
    assert raw["data"]["events"]["time"] == "gezeigt", text
    assert raw["data"]["events"]["date_column"] == "gezeigt"
    born = [dt.datetime(2024, 1, 1) + dt.timedelta(days=int(i)) for i in X["item"]]
    other = frame(drop=("ts",), event_date=times["event_date"], gezeigt=born)
    _, raw, text = made(tmp_path / "other", lambda home: other.write_parquet(home / "log.parquet"))
    assert raw["data"]["events"]["time"] == "event_date", "a clock of other days is none of the row's"


def test_the_user_is_who_is_named_so_and_no_place_of_their_sessions(tmp_path: Path) -> None:
    sessions = [f"s{k // 10}" for k in range(len(X["at"]))]
    log = frame(drop=("user_id",), session_id=sessions, klient=X["user"] + 7_000, kanal=X["user"] % 3)
    ended, raw, _ = made(tmp_path, daily(log))
    assert ended.code == 0 and raw["data"]["events"]["user"] == "klient", ended.err
    alone = log.drop("klient").with_columns(store_id=pl.Series([f"store {u % 30}" for u in X["user"]]))
    _, raw, _ = made(tmp_path / "alone", daily(alone))
    assert raw["data"]["events"]["user"] == "session_id", "nothing else is a person"


@pytest.mark.parametrize("device", ["device", "gadget"])
def test_of_a_session_the_device_is_the_user(tmp_path: Path, device: str) -> None:
    """Devices come again on other days and have a session each time; so do cities, of which there are few."""
    days = unseen.days_of(X)
    sessions = [f"s{u}-{d}-{k // 5}" for k, (u, d) in enumerate(zip(X["user"], days, strict=True))]
    whose = {
        "session_id": sessions,
        device: [f"{u * 7919:08x}" for u in X["user"]],
        "town": [f"t{u % 22}" for u in X["user"]],
    }
    log = frame(drop=("user_id",), **whose)
    ended, raw, text = made(tmp_path, daily(log), "--conversion", "watch_seconds >= 30")
    assert ended.code == 0 and raw["data"]["events"]["user"] == device, text
    assert "each session_id has one, and they come again on other days" in text
    ended, raw, _ = made(tmp_path / "town", daily(log.drop(device)), "--conversion", "watch_seconds >= 30")
    assert raw["data"]["events"]["user"] == "session_id", "a town is no person"


def test_what_was_chosen_of_is_no_history(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    others = rng.integers(0, unseen.ITEMS, (len(X["at"]), 3))
    offered = [
        [{"id": int(i), "score": float(s)} for i, s in zip([x, *o], rng.random(4), strict=True)]
        for x, o in zip(X["item"], others, strict=True)
    ]
    read = [[int(i) for i in o] for o in others]
    ended, raw, text = made(tmp_path, daily(frame(candidates=offered, read_before=read)))
    assert ended.code == 0 and "read_before" in features(raw), ended.err
    assert not [name for name in features(raw) if "candidates" in name]
    assert "# candidates.id: not used: lists that have the row's own item" in text
    assert "# candidates.score: not used: of the lists of candidates.id" in text


def test_a_list_that_a_click_is_written_into_is_no_history(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    recent = [
        [int(i), *([int(x)] if c else [])]
        for i, x, c in zip(rng.integers(0, unseen.ITEMS, len(X["at"])), X["item"], X["click"], strict=True)
    ]
    ended, raw, text = made(tmp_path, daily(frame(recent=recent)))
    assert ended.code == 0 and "recent" not in features(raw), ended.err
    assert "# recent: not used: lists that have the row's own item where it was clicked alone" in text


def test_offers_need_the_own_item_in_nearly_all_rows() -> None:
    rows = pl.DataFrame({"i": [1, 2, 3, 4], "of": [[1, 9], [2], [3], [4, 5]], "was": [[1], [9], [9], [9]]})
    assert {*offers(rows, "i")} == {"of"} and offers(rows.with_columns(of=pl.Series([["1"]] * 4)), "i") == {}
    texts = pl.DataFrame(
        {"i": ["a1", "b2", "c3"], "page": ["a1|b2|c3"] * 3, "same": ["a1", "b2", "c3"], "was": ["b2|c3", "c3", ""]}
    )
    assert {*offers(texts, "i")} == {"page"}, "of several ids in one text, and not the id itself"


def test_names_of_a_tests_groups_are_no_features(tmp_path: Path) -> None:
    group = X["user"] % 2
    versions = [["v3", "v4"][k] for k in group]
    ended, raw, text = made(tmp_path, daily(frame(exp_bucket=group, model_version=versions, plan=X["user"] % 3)))
    assert ended.code == 0 and {"exp_bucket", "model_version"} & {*features(raw)} == set(), ended.err
    assert "plan" in features(raw) and "model_version: not used: a second name of exp_bucket" in text
    a = pl.Series(["x", "y"] * 100)
    assert are_same(a, pl.Series([1, 2] * 100)) and not are_same(a, pl.Series([1, 2, 2, 1] * 50))
    assert not are_same(a.head(10), pl.Series([1, 2] * 5)), "of few rows nothing is concluded"


def test_a_total_that_all_rows_of_a_user_have_is_of_the_end(tmp_path: Path) -> None:
    clicks = np.bincount(X["user"], X["click"], unseen.USERS).astype(int)
    now = np.zeros(len(X["at"]), dtype=int)
    for u in range(unseen.USERS):
        mine = X["user"] == u
        now[mine] = np.cumsum(X["click"][mine]) - X["click"][mine]
    log = frame(user_clicks_total=clicks[X["user"]], clicks_so_far=now, birth_year=1950 + X["user"] % 40)
    ended, raw, text = made(tmp_path, daily(log))
    assert ended.code == 0 and "user_clicks_total" not in features(raw) and "birth_year" in features(raw), ended.err
    assert "clicks_so_far" in features(raw), "what was so at that moment is known before it"
    (line,) = (line for line in text.splitlines() if line.startswith("  # - {name: user_clicks_total, "))
    assert "the same in all rows of a user" in line


def test_ids_of_64_bits_without_a_sign(tmp_path: Path) -> None:
    """`init` writes that they are text, also of a request; without that the day is refused, and says so."""
    large = (X["user"].astype(np.uint64) + np.uint64(2**63)).tolist()
    log = frame(drop=("user_id",), request_id=pl.Series([2**63 + int(r) for r in X["request"]], dtype=pl.UInt64))
    log = log.with_columns(pl.Series("user_id", large, dtype=pl.UInt64))
    assert within(log["user_id"], pl.Series([2**63 + 1], dtype=pl.UInt64)) > 0
    assert within(pl.Series([1, 2]), log["user_id"]) == 0
    ended, raw, _ = made(tmp_path, daily(log))
    assert ended.code == 0 and raw["data"]["types"] == {"user_id": "text", "request_id": "text"}, ended.err
    bare = raw["data"] | {"types": {"request_id": "text"}}
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(raw | {"features": "auto", "data": bare}))
    found = dmtl("check", "--config", tmp_path / "bare.yaml", "--day", DAY)
    assert found.code == 65 and "expected an id within int64, got 92" in found.err
    assert "set data.types.user_id: text" in found.err
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json")
    read = found.json["rows"] + found.json["labels"]["repeated_clicks"]
    assert found.code == 0 and read == unseen.days_of(X).count(DAY), found.err
