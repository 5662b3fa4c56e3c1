"""`init` says which column a feature reads where the events and a table of their users or items both have it."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import daily, features, frame, made
from worlds import dmtl

LEVELS = pl.Series(["basic", "silver", "gold"])


def users() -> pl.DataFrame:
    level = LEVELS.gather(np.arange(unseen.USERS) % 3)
    return pl.DataFrame({"user_id": range(unseen.USERS), "card": level, "town": ["a", "b", "c", "d"] * 15})


def written(home: Path, rows: Any, ending: str = "parquet") -> tuple[Any, dict[str, Any], str]:
    def write(place: Path) -> None:
        daily(frame(card=rows))(place)
        if ending == "parquet":
            users().write_parquet(place / "users.parquet")
        else:
            users().write_csv(place / "users.csv")

    ended, raw, text = made(home, write)
    assert ended.code == 0, ended.err
    return ended, raw, text


@pytest.mark.parametrize("lacking", [0.0, 0.05])
def test_where_both_say_the_same_the_tables_is_read_and_said(tmp_path: Path, lacking: float) -> None:
    x, rng = unseen.drawn(0), np.random.default_rng(2)
    level = users()["card"].gather(x["user"]).set(pl.Series(rng.random(unseen.ROWS) < lacking), None)
    _, raw, text = written(tmp_path, level)
    (line,) = (line for line in text.splitlines() if "{name: card," in line)
    said = "that of the table of users; the events have one too, the same in 100.0% of rows"
    assert re.search(rf"# 3 texts \([^()]+, [^()]+, [^()]+\); {said}$", line)
    assert "computed" not in raw["data"]["events"] and "town" in features(raw)
    (town,) = (line for line in text.splitlines() if "{name: town," in line)
    assert town.endswith("# 4 texts (a, b, c, d)")


def test_of_one_that_changed_within_the_log_that_of_the_moment_is_read(tmp_path: Path) -> None:
    """Every third user was basic on the first days: a table of the end of the log does not know it."""
    x = unseen.drawn(0)
    early = pl.Series((x["at"] < x["at"].min() + 86_400) & (x["user"] % 3 == 2))
    ended, raw, text = written(tmp_path, users()["card"].gather(x["user"]).set(early, "basic"))
    assert raw["data"]["events"]["computed"] == {"card_shown": "card"}
    mine = features(raw)
    assert mine["card_shown"] == {"name": "card_shown", "side": "user", "kind": "categorical"} and "card" not in mine
    assert "card_shown" in text and "features  " in ended.out
    (line,) = (line for line in text.splitlines() if line.startswith("  # - {name: card,"))
    assert "that of the end of the log; card_shown is that of the moment" in line
    checked = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-01")
    assert checked.code == 0 and "card_shown" in checked.out, checked.err


def test_of_another_thing_of_that_name_the_tables_is_read(tmp_path: Path) -> None:
    other = pl.Series(["top", "side", "end"]).gather(np.random.default_rng(4).integers(0, 3, unseen.ROWS))
    _, raw, text = written(tmp_path, other, "csv")
    assert features(raw)["card"]["side"] == "user" and "computed" not in raw["data"]["events"]
    assert "the events have one too, the same in 0.0% of rows" in text


def test_of_a_table_of_each_day_the_newest_is_no_measure(tmp_path: Path) -> None:
    """Everybody's level changes daily, in the table as in the rows: of two days of three the newest says nothing."""
    x = unseen.drawn(0)
    day = (x["at"] - int(unseen.START.timestamp())) // 86_400

    def write(place: Path) -> None:
        daily(frame(card=LEVELS.gather((x["user"] + day) % 3)))(place)
        for k in range(unseen.DAYS):
            folder = place / "users" / f"day={unseen.START.date() + dt.timedelta(k)}"
            folder.mkdir(parents=True)
            levels = LEVELS.gather((np.arange(unseen.USERS) + k) % 3)
            users().with_columns(card=levels).write_parquet(folder / "x.parquet")

    ended, _, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    (line,) = (line for line in text.splitlines() if "{name: card," in line)
    assert line.endswith("that of the table of users; the events have one too")


# -- by another name ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "listed", "left"),
    [("same", 1.0, True), ("other", 1.0, False), ("same", 0.8, False), ("hardly", 1.0, False)],
)
def test_what_the_table_says_by_another_name_is_read_once(tmp_path: Path, rows: str, listed: float, left: bool) -> None:
    """`film.kind` and `genre`, where the table lists nearly all items; not what few have and others have otherwise."""
    x, n = unseen.drawn(0), unseen.ITEMS
    rng = np.random.default_rng(6)
    rare = pl.Series([f"g{k % 6}" if rows != "hardly" or k < 3 else "g0" for k in range(n)])
    own = {"same": rare, "other": pl.Series([f"g{k}" for k in rng.integers(0, 6, n)]), "hardly": rare}[rows]
    table = pl.DataFrame({"item_id": range(n), "genre": rare, "maker": [f"m{k % 11}" for k in range(n)]})
    events = frame(kind=own.gather(x["item"]), minutes=pl.Series(np.arange(n) % 40 + 60.5).gather(x["item"]))

    def write(home: Path) -> None:
        daily(events)(home)
        of = table.with_columns(length=pl.Series(np.arange(n) % 40 + 60.5))
        of.head(round(listed * n)).write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert ("kind" not in features(raw)) == left and "genre" in features(raw), text
    assert ("# kind: not used: genre of the table of items, by another name" in text) == left
    assert ("minutes" not in features(raw)) == (listed == 1) and "length" in features(raw)


# -- an outcome's name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["events", "joined"])
@pytest.mark.parametrize("kind", ["repeated", "its own", "a mean"])
def test_a_tables_column_with_an_outcomes_name(tmp_path: Path, where: str, kind: str) -> None:
    """How long a film is, which its plays repeat, is a feature; what may be made of the plays a person decides."""
    x, n = unseen.drawn(0), unseen.ITEMS
    long = pl.Series(60_000 + 7_919 * (np.arange(n) % 41), dtype=pl.Int64)
    watched = pl.Series((x["seconds"] * 1_000).astype(np.int64))
    lasted = long.gather(x["item"]) if kind == "repeated" else watched
    if kind == "a mean":
        mean = pl.DataFrame({"i": x["item"], "w": watched, "c": x["click"]}).filter(pl.col("c") == 1)
        of = mean.group_by("i").agg(pl.col("w").mean().round().cast(pl.Int64))
        long = pl.DataFrame({"i": range(n)}).join(of, on="i", how="left", maintain_order="left")["w"]
    log = frame(drop=("watch_seconds",)).with_columns(show_id=pl.Series([f"s{k}" for k in range(unseen.ROWS)]))
    clicked = pl.Series(x["click"] == 1)
    came = log.select("show_id").with_columns(duration_ms=lasted, ms_watched=watched)

    def write(home: Path) -> None:
        if where == "events":
            there = came.with_columns(pl.when(clicked).then(c).alias(c) for c in ("duration_ms", "ms_watched"))
            daily(log.hstack(there.drop("show_id")))(home)
        else:
            log.drop("clicked").write_parquet(home / "shown.parquet")
            came.filter(clicked).write_parquet(home / "plays.parquet")
        table = pl.DataFrame({"item_id": range(n), "duration_ms": long, "genre": [f"g{k % 7}" for k in range(n)]})
        table.write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write, "--conversion", "ms_watched >= 45000", "--timezone", "UTC")
    assert ended.code == 0, ended.err
    is_of_the_film = where == "events" and kind == "repeated"  # all rows of a film have one: no outcome at all
    assert ("duration_ms" in features(raw)) == is_of_the_film
    if not is_of_the_film:
        assert raw["data"]["items"]["computed"] == {"duration_ms_of_item": "duration_ms"}, text
        named = "{name: duration_ms_of_item, side: item, kind: numeric"
        assert ("duration_ms_of_item" in features(raw)) == (kind == "repeated"), text
        assert (f"  # - {named}" in text) == (kind != "repeated")
    day = "2026-03-02"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    mine = np.array([d == day for d in unseen.days_of(x)])
    good = (x["seconds"] * 1_000).astype(np.int64)[mine & (x["click"] == 1)] >= 45_000
    assert found["labels"]["conversion_rate"] == pytest.approx(good.mean(), abs=0.01), found["labels"]


def test_a_name_that_yaml_has_signs_of_its_own_for(tmp_path: Path) -> None:
    n, odd = unseen.ITEMS, "dwell #1 [s]: a"
    own, lasted = pl.Series(60 + np.arange(n) % 13), pl.Series(np.random.default_rng(2).integers(50, 90, unseen.ROWS))
    log = frame().with_columns(pl.when(pl.col("clicked") == 1).then(lasted).alias(odd))

    def write(home: Path) -> None:
        daily(log)(home)
        pl.DataFrame({"item_id": range(n), odd: own, "genre": ["a", "b"] * (n // 2)}).write_parquet(
            home / "items.parquet"
        )

    ended, raw, text = made(tmp_path, write, "--conversion", f'"{odd}" >= 66', "--timezone", "UTC")
    assert ended.code == 0, ended.err
    assert raw["data"]["items"]["computed"] == {f"{odd}_of_item": f'"{odd}"'}, text


def test_a_double_that_few_items_of_the_table_have_stays(tmp_path: Path) -> None:
    """The table has the genre of one film in three: the rest is in the rows alone."""
    x, n = unseen.drawn(0), unseen.ITEMS
    kind = pl.Series([f"g{k % 6}" for k in range(n)])
    some = kind.set(pl.Series(np.arange(n) % 3 != 0), None)

    def write(home: Path) -> None:
        daily(frame(kind=kind.gather(x["item"])))(home)
        pl.DataFrame({"item_id": range(n), "genre": some, "maker": [f"m{k % 11}" for k in range(n)]}).write_parquet(
            home / "items.parquet"
        )

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0 and "kind" in features(raw), ended.err
