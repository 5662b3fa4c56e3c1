"""What logs have that no one expects: `init` neither ends in a traceback nor reads it as something else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
from initiated import daily, frame, made
from unseen import USERS, days_of, drawn

from dmtl_cli.guess import states
from dmtl_cli.guess.files import paths_of
from dmtl_cli.guess.objects import opened
from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.rules import rows_that_count
from dmtl_cli.guess.tables import tables
from dmtl_cli.guess.units import as_number

DEEP = "[" * 5_000 + "]" * 5_000


def test_codes_of_users_of_which_most_are_no_number(tmp_path: Path) -> None:
    """NaN, as of numpy, is none of them."""
    level = np.array([np.nan if k % 10 < 7 else float(k % 3) for k in range(USERS)])
    ended, _, _ = made(tmp_path, daily(frame(level=level[drawn(0)["user"]])))
    assert ended.code == 0, ended.err
    assert "--feature level=nan" not in ended.out and "level=" in ended.out


def test_two_zeros_of_a_state() -> None:
    s = pl.Series("state", [0.0, -0.0, 1.0, 2.0] * 50)
    gone = states.withdrawn(s, lambda: (np.full(200, 90), np.array([0, 0, 30, 30] * 50)))
    assert gone is not None and {*gone.still} == {1.0, 2.0}


def test_texts_of_objects_that_are_too_deep() -> None:
    rows = pl.DataFrame({"about": [f'{{"k": {k}, "v": {DEEP}}}' for k in range(60)]})
    assert opened(rows, None, "log")[0].equals(rows)


def test_lengths_of_time_beyond_any_number() -> None:
    assert as_number(pl.Series("c", [f"{k}h {k % 60}m" for k in range(59)] + ["99999999999999999999h 5m"])) is None


def test_lines_of_files_named_by_the_month_first_are_looked_at(tmp_path: Path) -> None:
    rows, days = frame(), pl.Series(days_of(drawn(0)))
    for day in sorted({*days}):
        name = dt.date.fromisoformat(day).replace(day=dt.date.fromisoformat(day).day + 20).strftime("%m-%d-%Y")
        rows.filter(days == day).write_csv(tmp_path / f"{name}.csv")
    (table,) = tables(str(tmp_path)).tables
    first, last = min(d for d, _ in table.files.days), max(d for d, _ in table.files.days)
    assert len(paths_of(table.files, (first, last))) == len({*days}) == 3
    assert len(paths_of(table.files, (last, last))) == 1


def test_rows_that_do_not_count_are_gone_of_each_day(tmp_path: Path) -> None:
    daily(frame(plan=["x" if u % 3 == 0 else "y" for u in drawn(0)["user"]]))(tmp_path)
    (table,) = tables(str(tmp_path)).tables
    _, left = rows_that_count("plan = 'x'", table, Roles(), {})
    days = pl.Series(days_of(drawn(0))).filter(pl.Series(drawn(0)["user"] % 3 == 0))
    for day, n in zip(*np.unique(days.to_numpy(), return_counts=True), strict=True):
        rows = left.of_day(dt.date.fromisoformat(str(day)))
        assert rows is not None and len(rows) == n and (rows["plan"] == "x").all()
    assert left.days is not None and len(left.days) == len(left.frame) == len(days)
    assert left.on(None).equals(left.frame) and left.on(dt.date(2020, 1, 1)).equals(left.frame)
