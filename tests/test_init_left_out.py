"""Rows of nobody and of nothing: `init` leaves them out by `where`, tells so, and leaves many of them to a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import daily, frame, made
from worlds import dmtl

from dmtl_cli.guess.exposures.doubts import both
from dmtl_cli.guess.findings.programs import programs_line

ROWS = unseen.ROWS


def with_items(part: float, word: str = "unknown") -> pl.DataFrame:
    """A log of which a part of the rows have an item that is none."""
    none = pl.Series(np.random.default_rng(1).random(ROWS) < part)
    log = frame()
    item = pl.Series([f"i{i}" for i in log["item_id"]])
    return log.with_columns(pl.when(none).then(pl.lit(word)).otherwise(item).alias("item_id"))


def test_an_item_that_is_none_is_left_out_and_told(tmp_path: Path) -> None:
    log = with_items(0.02)
    ended, raw, text = made(tmp_path, daily(log))
    where = raw["data"]["events"]["where"]
    assert where == "COALESCE(item_id <> 'unknown', TRUE)" and "looks like no item: if" not in ended.out + text
    (line,) = (line for line in ended.out.splitlines() if line.startswith("left out  "))
    assert "item_id 'unknown', which looks like no item (1.4% of rows)" in line
    day = max(unseen.days_of(unseen.drawn(0)))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    of_day = log.filter(pl.Series(unseen.days_of(unseen.drawn(0))) == day)
    assert found["rows"] == (of_day["item_id"] != "unknown").sum() < len(of_day)
    assert not any("item_id" in line for line in found["warnings"])


def test_of_many_rows_a_person_decides(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, daily(with_items(0.3)))
    assert "where" not in raw["data"]["events"] and "WARNING: item_id: 'unknown', in " in ended.out


def test_rows_without_an_id_are_no_rows_of_nobody(tmp_path: Path) -> None:
    """They are counted as rows without an id, of which a day may have too many."""
    log = with_items(0.02).with_columns(
        pl.when(pl.Series(np.arange(ROWS) % 50 == 0)).then(None).otherwise("item_id").alias("item_id")
    )
    made(tmp_path, daily(log))
    day = max(unseen.days_of(unseen.drawn(0)))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    of_day = log.filter(pl.Series(unseen.days_of(unseen.drawn(0))) == day)["item_id"]
    assert sum(found["left_out"].values()) == of_day.null_count() > 0
    assert found["not_asked"] == (of_day == "unknown").sum() > 0


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_marks_and_ids_are_one_condition(tmp_path: Path, form: str) -> None:
    log = with_items(0.02).with_columns(
        pl.Series("is_test", (np.random.default_rng(2).random(ROWS) < 0.05).astype(int))
    )

    def write(home: Path) -> None:
        if form == "csv":
            log.write_csv(home / "events.csv")
        else:
            daily(log)(home)

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "COALESCE(item_id <> 'unknown', TRUE) AND COALESCE(is_test, 0) = 0"
    day = max(unseen.days_of(unseen.drawn(0)))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    kept = log.filter(
        pl.Series(unseen.days_of(unseen.drawn(0))) == day, pl.col("is_test") == 0, pl.col("item_id") != "unknown"
    )
    assert found["rows"] == len(kept)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
@pytest.mark.parametrize("words", [("Y", "N"), ("ja", "nein"), ("true", "false")])
def test_marks_that_are_texts(tmp_path: Path, form: str, words: tuple[str, str]) -> None:
    """Of the events and of their users, by one name: what is told to be left out is."""
    rng, log = np.random.default_rng(3), frame()
    test, staff = rng.random(ROWS) < 0.08, np.arange(unseen.USERS) % 12 == 5
    says = {name: [words[0] if x else words[1] for x in of] for name, of in (("test", test), ("staff", staff))}
    log = log.with_columns(pl.Series("is_staff", says["test"]))
    users = pl.DataFrame({"user_id": np.arange(unseen.USERS), "plan": np.arange(unseen.USERS) % 3})
    users = users.with_columns(pl.Series("is_staff", says["staff"]))

    def write(home: Path) -> None:
        if form == "parquet":
            daily(log)(home)
            users.write_parquet(home / "users.parquet")
        elif form == "csv":
            log.write_csv(home / "events.csv")
            users.write_csv(home / "users.csv")
        else:
            log.write_ndjson(home / "events.jsonl")
            users.write_ndjson(home / "users.jsonl")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    where = raw["data"]["events"]["where"]
    assert "users.is_staff" in where and where.count("is_staff") == 2, where
    (line,) = (line for line in ended.out.splitlines() if line.startswith("left out  "))
    assert line.count("is_staff, a mark") == 2
    day = max(unseen.days_of(unseen.drawn(0)))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
    assert found.code == 0, found.err
    kept = log.filter(
        pl.Series(unseen.days_of(unseen.drawn(0))) == day,
        pl.Series(~test),
        ~pl.col("user_id").is_in(np.flatnonzero(staff)),
    )
    assert found.json["rows"] == len(kept)


def test_a_mark_within_an_object_of_users(tmp_path: Path) -> None:
    staff = [{"is_staff": bool(u % 12 == 5), "n": u % 3} for u in range(unseen.USERS)]

    def write(home: Path) -> None:
        daily(frame())(home)
        pl.DataFrame({"user_id": np.arange(unseen.USERS), "flags": staff}).write_parquet(home / "users.parquet")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "NOT COALESCE(users.flags.is_staff, FALSE)"


def test_a_second_print_says_as_before(tmp_path: Path) -> None:
    """Also where the condition has quotes of its own."""
    log = with_items(0.02).rename({"user_id": "user"}).with_columns(pl.col("user").cast(pl.String))
    log = log.with_columns(user=pl.when(pl.Series(np.arange(ROWS) % 40 == 0)).then(pl.lit("guest")).otherwise("user"))
    first = made(tmp_path, daily(log))[0]
    assert "\nleft out  " in first.out and first.code == 0, first.err
    said = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--timezone", "Asia/Tokyo").out
    assert "\nleft out  " not in said and "left out" in said.partition("as before")[2].splitlines()[0]


def test_what_leaves_more_out_keeps_what_is_asked_already() -> None:
    rows, clicks, good = (pl.Series([one, *[of_others] * 199]) for one, of_others in ((900, 20), (0, 4), (0, 0)))
    of_each = pl.Series([f"u{k}" for k in range(200)]), rows, clicks, good
    (line,) = programs_line("uid", *of_each, where="kind = 'shown' OR kind IS NULL")
    said = yaml.safe_load(line.partition("If they are, set ")[2].partition(" as data.events.where")[0])
    assert said == "(kind = 'shown' OR kind IS NULL) AND uid NOT IN ('u0')"
    (line,) = programs_line("uid", *of_each, where="kind = 'shown'")
    assert line.endswith("If they are, add AND uid NOT IN ('u0') to data.events.where")
    (line,) = programs_line("uid", *of_each, where=None)
    assert line.endswith("If they are, set \"uid NOT IN ('u0')\" as data.events.where")
    assert both(None, "a = 1") == "a = 1" and both("b = 2", "a = 1") == "b = 2 AND a = 1"
