"""`init` on marks of who is no user: no features, and their rows are left out by what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.guess.columns import words

USERS = unseen.USERS
STAFF = np.arange(USERS) % 10 == 3


@pytest.mark.parametrize("name", ["is_test", "isStaff", "is_internal", "ErIntern", "bot", "employee_flag", "is_qa"])
def test_names_of_who_is_no_user(name: str) -> None:
    assert words.says_all(name, words.STAFF)


@pytest.mark.parametrize("name", ["test_group", "staff_pick", "is_tested", "internal_rating", "robots", "testimonial"])
def test_other_names(name: str) -> None:
    assert not words.says_all(name, words.STAFF)


@pytest.mark.parametrize("form", ["parquet", "csv", "numbers"])
def test_rows_of_staff_are_left_out(tmp_path: Path, form: str) -> None:
    test = pl.Series(np.random.default_rng(0).random(unseen.ROWS) < 0.1)
    flags: dict[str, Any] = {"is_test": test, "is_staff": pl.Series(STAFF)}
    flags = {c: s.cast(pl.Int64) if form == "numbers" else s for c, s in flags.items()}
    log = frame(is_test=flags["is_test"])

    def write(home: Path) -> None:
        users = pl.DataFrame({"user_id": np.arange(USERS), "plan": np.arange(USERS) % 3, "is_staff": flags["is_staff"]})
        if form == "csv":
            log.write_csv(home / "events.csv")
            users.write_csv(home / "users.csv")
        else:
            daily(log)(home)
            users.write_parquet(home / "users.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and not {"is_test", "is_staff"} & {*features(raw)}, ended.err
    assert (
        raw["data"]["events"]["where"].count("COALESCE(") == 2
        and "is_staff, is_test: not used: a mark of who is no user: their rows are left out" in text
    )
    day = max(unseen.days_of(unseen.drawn(0)))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
    assert found.code == 0, found.err
    of_day = log.filter(
        pl.Series(unseen.days_of(unseen.drawn(0))) == day, ~test, ~pl.col("user_id").is_in(np.flatnonzero(STAFF))
    )
    assert found.json["rows"] == len(of_day) < unseen.ROWS // 3


def test_a_mark_that_a_person_has_left_out_needs_no_advice(tmp_path: Path) -> None:
    ended, raw, text = made(
        tmp_path, daily(frame(is_test=pl.Series(np.arange(unseen.ROWS) % 9 == 0))), "--where", "NOT is_test"
    )
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "NOT is_test"
    assert "is_test: not used: a mark of who is no user: no row that counts has it" in text
