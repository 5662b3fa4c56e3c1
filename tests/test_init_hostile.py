"""What logs have that no one expects: `init` neither ends in a traceback nor reads it as something else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
from initiated import daily, frame, made
from unseen import USERS, days_of, drawn
from worlds import dmtl

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


def twice(rows: pl.DataFrame, seed: int = 1, share: float = 0.05) -> pl.DataFrame:
    """Some rows there once more, as a network sends them again."""
    again = rows.filter(pl.Series(np.random.default_rng(seed).random(len(rows)) < share))
    return pl.concat([rows, again])


def test_rows_that_are_sent_twice_without_an_id_are_read_once(tmp_path: Path) -> None:
    x = drawn(0)
    every = frame(request_id=x["request"], position=x["position"]).with_columns(day=pl.Series(days_of(x)))
    plain = every.unique(["request_id", "item_id"], keep="first", maintain_order=True)

    def write(home: Path) -> None:
        for (day,), part in twice(plain).group_by("day", maintain_order=True):
            part.drop("day").write_csv(home / f"shown_{day}.csv")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["unique"] == "exposure" and events["computed"]["exposure"] == "request_id || '/' || item_id"
    many = len(twice(plain)) - len(plain)
    said = f"{many} of {len(twice(plain)):,} rows are the same as another of their request_id and item_id"
    assert said in " ".join(ended.out.split())
    day = days_of(x)[0]
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    assert found["rows"] == len(plain.filter(pl.col("day") == day))


def test_an_item_that_is_shown_twice_in_a_list_is_no_copy(tmp_path: Path) -> None:
    x = drawn(0)
    rows = frame(request_id=x["request"], position=x["position"])
    again = rows.filter(pl.col("position") == 0).with_columns(position=pl.lit(9, dtype=rows.schema["position"]))
    ended, raw, _ = made(tmp_path, lambda home: pl.concat([rows, again]).write_csv(home / "shown.csv"))
    assert ended.code == 0 and "unique" not in raw["data"]["events"], ended.err


def test_lists_of_items_in_one_text_are_histories(tmp_path: Path) -> None:
    """Each user's own, so that the pieces of all are more than the texts."""
    x = drawn(0)
    last = ["|".join(f"i{(u * 7 + k * 3) % 40}" for k in range(5)) for u in x["user"]]
    rows = frame(item_id=[f"i{k}" for k in x["item"]], last_heard=last)
    _, raw, text = made(tmp_path, lambda home: rows.write_csv(home / "shown.csv"))
    (found,) = [f for f in raw["features"] if f != "auto" and f["name"] == "last_heard"]
    assert found["kind"] == "sequence" and found["separator"] == "|" and found["embedding_name"] == "item_id", text
