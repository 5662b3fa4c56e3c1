"""`init` on requests with a list of what was shown and a column beside it that says which of it was clicked: by its id,
or by its place, counted from 1 or from 0."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from initiated import features, made
from worlds import dmtl

START = dt.datetime(2026, 3, 1)
DAYS, REQUESTS, USERS, ITEMS = 3, 400, 50, 70
Clicked = Callable[[list[str], list[int]], dict[str, Any]]
"""the columns of a request beside what it shows: of the items, and of the places from 0 that were clicked"""


def requests(told: Clicked, most: int = 1, *, prices: bool = False) -> Callable[[Path], None]:
    """A log of requests, a folder a day; of each at most so many items are clicked."""

    def write(home: Path) -> None:
        rng = np.random.default_rng(5)
        for d in range(DAYS):
            rows = list[dict[str, Any]]()
            for second in np.sort(rng.integers(0, 86_000, REQUESTS)):
                shown = [f"i{x}" for x in rng.choice(ITEMS, rng.integers(4, 9), replace=False)]
                clicked = [k for k in range(len(shown)) if rng.random() < 0.12][:most]
                row = {"user_id": f"u{rng.integers(USERS)}", "ts": START + dt.timedelta(days=d, seconds=int(second))}
                row |= {"shown": shown} | ({"prices": [float(x[1:]) for x in shown]} if prices else {})
                row |= {"dwell_seconds": float(rng.exponential(60)) if clicked else None}
                rows.append(row | told(shown, clicked))
            folder = home / f"{START + dt.timedelta(days=d):%Y-%m-%d}"
            folder.mkdir(parents=True)
            pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "part.parquet")

    return write


def counts(home: Path) -> tuple[int, int]:
    """(rows, clicks) that the config reads of the second day, and that the log has."""
    checked = dmtl("check", "--config", home / "mine.yaml", "--day", "2026-03-02", "--json").json
    return checked["rows"], checked["labels"]["clicks"]


def of_log(home: Path, clicked: str) -> tuple[int, int]:
    """The same, by an expression over the requests that counts their clicks."""
    rows = pl.read_parquet(next(home.rglob("2026-03-02/part.parquet")))
    return int(rows["shown"].list.len().sum()), int(rows.select(pl.sql_expr(clicked).sum()).item())


PLACES = [
    ("click_pos", lambda at: at[0] + 1 if at else None, "click_pos = position", "click_pos IS NOT NULL"),
    ("clicked_rank", lambda at: at[0] + 1 if at else 0, "clicked_rank = position", "clicked_rank > 0"),
    ("clicked_index", lambda at: at[0] if at else None, "clicked_index = position - 1", "clicked_index IS NOT NULL"),
    ("click_slot", lambda at: at[0] if at else -1, "click_slot = position - 1", "click_slot >= 0"),
    ("clicked_positions", lambda at: [k + 1 for k in at], "ARRAY_CONTAINS(clicked_positions, position)", ""),
    ("clicks", lambda at: at, "ARRAY_CONTAINS(clicks, position - 1)", ""),
]


@pytest.mark.parametrize(("name", "value", "rule", "counted"), PLACES, ids=[one[0] for one in PLACES])
def test_a_place_beside_what_was_shown_tells_the_click(
    name: str, value: Callable[[list[int]], Any], rule: str, counted: str, tmp_path: Path
) -> None:
    """And the place of each element is a feature, as it is known with what was shown."""
    many = 1 if counted else 3
    ended, raw, _ = made(tmp_path, requests(lambda _, at: {name: value(at)}, many))
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["explode"] == events["item"] == "shown" and events["explode_position"] == "position"
    assert events["computed"] == {"clicked": f"COALESCE({rule}, FALSE)"} and events["outcomes"] == [name]
    assert features(raw)["position"]["side"] == "context"
    assert counts(tmp_path) == of_log(tmp_path, counted or f"ARRAY_LENGTH({name})")


@pytest.mark.parametrize("prices", [False, True])
def test_the_id_of_what_was_clicked_of_a_list_is_no_item_of_the_row(prices: bool, tmp_path: Path) -> None:
    """Else every row is a click, of the one item."""
    write = requests(lambda shown, at: {"clicked_item": shown[at[0]] if at else None}, prices=prices)
    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["item"] == "shown" and events["explode"] == (["shown", "prices"] if prices else "shown")
    assert events["computed"] == {"clicked": "COALESCE(clicked_item = shown, FALSE)"}
    assert events["outcomes"] == ["clicked_item"] and not {"clicked_item", "position"} & features(raw).keys()
    assert counts(tmp_path) == of_log(tmp_path, "clicked_item IS NOT NULL")


def test_what_was_bought_of_a_list_is_the_good_click(tmp_path: Path) -> None:
    def told(shown: list[str], at: list[int]) -> dict[str, Any]:
        bought = shown[at[0]] if at and int(shown[at[0]][1:]) % 3 == 0 else None
        return {"clicked_item": shown[at[0]] if at else None, "purchased_item": bought, "dwell_seconds": None}

    ended, raw, _ = made(tmp_path, requests(told))
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["conversion"] == "good"
    assert raw["data"]["events"]["computed"]["good"] == "COALESCE(purchased_item = shown, FALSE)"


def test_a_number_of_clicks_is_no_place(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, requests(lambda _, at: {"clicks": len(at)}, 3), "--item", "shown")
    assert "clicked" not in raw["data"]["events"].get("computed", {}), ended.out


def test_an_item_that_is_given_stays_one(tmp_path: Path) -> None:
    write = requests(lambda shown, at: {"clicked_item": shown[at[0]] if at else None})
    ended, raw, _ = made(tmp_path, write, "--item", "clicked_item")
    assert raw["data"]["events"]["item"] == "clicked_item" and "explode" not in raw["data"]["events"], ended.err
