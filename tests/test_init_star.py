"""`dmtl init` on a star schema: a table of facts with surrogate keys, and tables of what they stand for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from initiated import Made, features, made

from dmtl_cli.config.data import Events
from dmtl_cli.guess.exposures.doubts import Ids, no_item, nobody, warnings

USERS, ITEMS, ROWS = 400, 300, 6_000
FIRST = dt.datetime(2026, 3, 2, 9)


def facts(seed: int = 0) -> dict[str, Any]:
    """Requests of ten dishes, 1% of them unknown, of cooks some of them not signed in; a batch of a load an hour."""
    rng = np.random.default_rng(seed)
    requests = ROWS // 10
    minutes = np.sort(rng.integers(0, 3 * 24 * 60, requests)).repeat(10)
    cook = rng.integers(1, USERS + 1, requests).repeat(10)
    click = rng.random(ROWS) < 0.3
    return {
        "showing_sk": np.arange(ROWS) + 10**7,
        "date_sk": 8_100 + minutes // 1440,
        "cook_sk": np.where(rng.random(requests).repeat(10) < 0.06, -1, cook),
        "dish_sk": np.where(rng.random(ROWS) < 0.01, -1, rng.integers(1, ITEMS + 1, ROWS)),
        "kitchen_sk": rng.integers(1, 41, requests).repeat(10),
        "surface_sk": rng.integers(1, 4, requests).repeat(10),
        "shown_at": [FIRST + dt.timedelta(minutes=int(m)) for m in minutes],
        "sitting_no": np.arange(requests).repeat(10) + 500,
        "click_cnt": click.astype(int),
        "read_sec": np.where(click, np.round(rng.exponential(60, ROWS), 1) + 1, 0),
        "completion_cnt": (click & (rng.random(ROWS) < 0.4)).astype(int),
        "etl_batch_id": 1 + minutes // 30,
    }


def dimensions(seed: int = 1) -> dict[str, pl.DataFrame]:
    """With a row -1 for what is not known, and keys of all tables from 1 on."""
    rng = np.random.default_rng(seed)

    def of(key: str, n: int, **more: Any) -> pl.DataFrame:
        return pl.DataFrame({key: [-1, *range(1, n + 1)], **{c: x[: n + 1] for c, x in more.items()}})

    chefs = [-1, *rng.integers(1, 151, ITEMS)]
    kinds = ["unknown", *rng.choice(["soup", "cake", "fish"], ITEMS)]
    return {
        "dim_cook": of("cook_sk", USERS, region=["unknown", *rng.choice(["n", "s"], USERS)]),
        "dim_dish": of("dish_sk", ITEMS, kind=kinds, chef_sk=chefs, cooked_total=[0, *rng.integers(0, 900, ITEMS)]),
        "dim_kitchen": of("kitchen_sk", 40, city=["unknown", *rng.choice(["a", "b", "c"], 40)]),
        "dim_surface": of("surface_sk", 3, surface=["unknown", "home", "search", "end"]),
        "dim_chef": of("chef_sk", 150, since=[None, *rng.integers(1990, 2025, 150)]),
        "dim_date": pl.DataFrame({"date_sk": [8_100, 8_101, 8_102, 8_103], "weekday": [0, 1, 2, 3]}),
    }


def initiated(home: Path, **rename: str) -> Made:
    def write(place: Path) -> None:
        for name, table in {"fact_showing": pl.DataFrame(facts()), **dimensions()}.items():
            mine = {c: rename[c] for c in table.columns if c in rename}
            table.rename(mine).write_parquet(place / f"{name}.parquet")

    return made(home, write)


@pytest.mark.parametrize("ends", ["sk", "key", "id"])
def test_the_item_is_the_key_of_a_table_and_no_batch_of_a_load(tmp_path: Path, ends: str) -> None:
    names = {f"{c}_sk": f"{c}_{ends}" for c in ("cook", "dish", "kitchen", "surface", "chef", "date", "showing")}
    ended, raw, text = initiated(tmp_path, **names)
    assert ended.code == 0, ended.err
    events, data, found = raw["data"]["events"], raw["data"], features(raw)
    assert (events["user"], events["item"], events["request"]) == (f"cook_{ends}", f"dish_{ends}", "sitting_no")
    assert (data["users"]["path"], data["items"]["path"]) == ("dim_cook.parquet", "dim_dish.parquet")
    assert (found[f"chef_{ends}"]["side"], found[f"chef_{ends}"]["kind"]) == ("item", "categorical")
    assert found[f"surface_{ends}"]["side"] == found[f"kitchen_{ends}"]["side"] == "context"
    assert f"date_{ends}" not in found and "etl_batch_id" not in found
    assert f"# date_{ends}: not used: the key of a day" in text
    assert f"dim_chef.parquet: its chef_{ends} is a code of the table of items" in ended.out
    assert f"dim_surface.parquet: its surface_{ends} is a code of the events" in ended.out


def test_what_is_named_like_a_total_is_a_comment_and_nowhere_a_warning(tmp_path: Path) -> None:
    ended, raw, text = initiated(tmp_path)
    assert "cooked_total" not in features(raw) and "# - {name: cooked_total, side: item, kind: numeric" in text
    assert "WARNING: dim_dish" not in ended.out
    assert "known late       1                         cooked_total" in ended.out


def test_two_columns_of_one_name_are_told_with_their_tables(tmp_path: Path) -> None:
    def write(place: Path) -> None:
        tables = {"fact_showing": pl.DataFrame(facts()), **dimensions()}
        totals = pl.Series("cooked_total", [0, *np.random.default_rng(4).integers(0, 900, USERS)])
        tables["dim_cook"] = tables["dim_cook"].with_columns(totals)
        for name, table in tables.items():
            table.write_parquet(place / f"{name}.parquet")

    ended, _, _ = made(tmp_path, write)
    line = next(x for x in ended.out.splitlines() if x.startswith("known late"))
    assert {*line.split("2", 1)[1].strip().split(", ")} == {"users.cooked_total", "items.cooked_total"}


def test_a_flag_that_says_it_is_done_is_a_goal_alone(tmp_path: Path) -> None:
    _, _, text = initiated(tmp_path)
    assert text.index('{good: "completion_cnt = 1"}') < text.index('{good: "read_sec >= 30 OR completion_cnt = 1"}')


def test_users_and_items_that_stand_for_none_are_left_out_by_one_condition(tmp_path: Path) -> None:
    ended, raw, _ = initiated(tmp_path)
    where = raw["data"]["events"]["where"]
    assert where == "COALESCE(cook_sk <> -1, TRUE) AND COALESCE(dish_sk <> -1, TRUE)"
    assert "'-1'" in next(line for line in ended.out.splitlines() if line.startswith("left out  "))
    assert "looks like no item: if" not in ended.out and Events(duration="read_sec", where=where).where == where


def test_check_tells_of_both_in_one_condition() -> None:
    users = Ids("cook", pl.Series([-1, 5, 6]), pl.Series([2, 3, 4]))
    items = Ids("dish", pl.Series([-1, 8, 9]), pl.Series([1, 4, 4]))
    (line,) = no_item(items, users, where="a OR b")
    both = yaml.safe_load(line.rpartition("with all such users and items: ")[2])
    assert both == "(a OR b) AND COALESCE(cook <> -1, TRUE) AND COALESCE(dish <> -1, TRUE)"


def test_zero_is_none_where_no_other_id_is_as_short() -> None:
    ids, rows = pl.Series([0, *range(1_000, 1_200)]), pl.Series([3] * 201)
    assert [line.split(",")[0] for line in nobody(Ids("uid", ids, rows))] == ["uid: '0'"]
    assert nobody(Ids("uid", pl.Series([0, *range(1, 201)]), rows)) == [], "the first of all"
    assert nobody(Ids("uid", ids.head(50), rows.head(50))) == [], "of few ids it may be so by chance"
    (line,) = no_item(Ids("sku", ids.cast(pl.String), rows), Ids("uid", pl.Series(["u1"]), pl.Series([1])))
    assert line.endswith("set data.events.where: \"COALESCE(sku <> '0', TRUE)\", which leaves such rows out"), (
        "no such user"
    )


def test_a_few_items_of_many_users_are_doubted() -> None:
    def told(users: int, items: int, rows: int) -> list[str]:
        return warnings("uid", "thing", users, items, rows, "clicked")

    assert told(2_112, 24, 36_679) == [
        "thing: 24 items in 36,679 rows of 2,112 users: is it the item? "
        "Else name the column of their ids in data.events.item"
    ]
    assert told(500, 24, 36_679)[0].startswith("thing: 24 items"), "more than 20 users an item"
    assert told(480, 24, 36_679) == [] and told(90_000, 600, 10**6) == []
    assert told(5_000, 4_000, 4_500)[0].startswith("thing: 4,000 items"), "hardly one is shown twice"
    assert told(5_000, 4_000, 5_000) == []
