"""A row that names several exposures, as an order a basket's, is of each of them; a line of an order of those of its
item alone."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from pydantic import ValidationError
from worlds import dmtl

from dmtl_cli.config.data import Data, Events
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.findings.joined import joined_rows

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
ROLES = {"user": "user_id", "item": "sku", "click": "added", "conversion": "bought"}
CARTS = {"path": "carts/{day}.parquet", "key": "shown_id", "columns": {"added": "COUNT(*) > 0"}}
ORDERS = {"path": "orders/{day}.parquet", "key": "cart_id", "event_key": "shown_id", "through": "carts.cart_id"}
LINES = {"path": "lines/{day}.parquet", "key": "order_no", "event_key": "shown_id", "through": "orders.order_no"}


def joined(lines: dict[str, Any] | None = None) -> dict[str, Any]:
    orders = ORDERS | {"columns": {"state": "MAX(state)"}}
    bought = LINES | {"item": "product", "columns": {"bought": "COUNT(*) > 0"}} | (lines or {})
    return {"carts": CARTS, "orders": orders, "lines": bought}


def by_hand(home: Path) -> tuple[Any, pl.DataFrame]:
    """Basket 1 has the exposures 1 and 2, of which the order has the item of 1, and one that was not shown; basket 2
    has exposure 3 and no order; the order of basket 9 names a basket that is not there."""
    tables = {
        "events": pl.DataFrame({"shown_id": [1, 2, 3, 4], "user_id": [7, 7, 8, 8], "sku": ["a", "b", "a", "c"]}),
        "carts": pl.DataFrame({"shown_id": [1, 2, 3, None], "cart_id": ["k1", "k1", "k2", "k1"]}),
        "orders": pl.DataFrame({"order_no": [11, 19], "cart_id": ["k1", "k9"], "state": ["sent", "void"]}),
        "lines": pl.DataFrame({"order_no": [11, 11, 19, 11], "product": ["a", "z", "a", None]}),
    }
    for name, table in tables.items():
        (home / name).mkdir(parents=True)
        table.write_parquet(home / name / f"{DAYS[0]}.parquet")
    events = Events(path="events/{day}.parquet", **ROLES, joined=joined())  # type: ignore[arg-type]
    day = dt.date.fromisoformat(DAYS[0])
    log = Log(Data(root=str(home), events=events), (), converted=home / "converted")
    found = log.find(day)
    (home / "scratch").mkdir()
    read = log.read(day, home / "scratch")
    rows = pl.concat(
        pl.DataFrame({"position": b.position, "click": b.click, "good": b.labels(None)[0]}) for b in read.blocks()
    )
    return joined_rows(log, found, Table(found.events, found.groups))["joined"], rows.sort("position")


def test_each_exposure_of_a_basket_has_its_order_and_a_line_is_of_its_item(tmp_path: Path) -> None:
    said, rows = by_hand(tmp_path)
    assert rows["click"].to_list() == [True, True, True, False]
    assert rows["good"].to_list() == [True, False, False, False]
    assert (said["carts"]["rows"], said["carts"]["without_id"], said["carts"]["unmatched"]) == (4, 1, 0)
    assert (said["orders"]["rows"], said["orders"]["unmatched"]) == (2, 1)  # that of basket 9
    assert (said["lines"]["rows"], said["lines"]["unmatched"]) == (4, 3)  # of another item, basket, of no item


def test_an_id_that_very_many_exposures_have_is_no_basket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `none`, or 0: each of its orders would be of each of them."""
    monkeypatch.setattr("dmtl_cli.data.log.files.joined.BASKET", 1)
    said, rows = by_hand(tmp_path)
    assert not rows["good"].any() and rows["click"].to_list() == [True, True, True, False]
    assert (said["orders"]["unmatched"], said["lines"]["unmatched"]) == (2, 4)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"through": None, "key": "shown_id"}, "item has no effect without through"),
        ({"columns": {"bought": "COUNT(*) > 0"}, "through": "lines.x"}, "expected a table that is named before it"),
    ],
)
def test_what_item_cannot_be_beside(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        Events(path="events", **ROLES, joined=joined(more))  # type: ignore[arg-type]


def test_nothing_goes_through_a_table_of_lines() -> None:
    returns = {"path": "returns", "key": "line", "event_key": "shown_id", "through": "lines.id"}
    with pytest.raises(ValidationError, match=r"joined.returns.through: lines has item"):
        Events(path="e", **ROLES, joined=joined() | {"returns": returns | {"columns": {"back": "COUNT(*) > 0"}}})  # type: ignore[arg-type]


def shop(home: Path) -> dict[str, int]:
    """A feed, baskets that name what was shown, orders that name the basket, and their lines; half of what lies in a
    basket is taken out again before it is ordered."""
    rng, truth, exposure, basket = np.random.default_rng(2), {"rows": 0, "clicks": 0, "good": 0}, 0, 0
    for day in DAYS:
        start = dt.datetime.fromisoformat(day)
        shown, carts, orders, lines = ([] for _ in range(4))
        for visit in range(160):
            user, at, taken = f"c{rng.integers(90)}", start + dt.timedelta(minutes=8 * visit), []
            basket += 1
            for slot, sku in enumerate(rng.choice(70, 8, replace=False).tolist()):
                exposure += 1
                shown.append(
                    {"impression_id": f"i{exposure}", "customer_id": user, "sku_id": sku, "ts": at, "slot": slot}
                )
                if rng.random() < 0.3:
                    taken.append(sku)
                    when = at + dt.timedelta(seconds=20)
                    of = {"cart_id": f"b{basket}", "customer_id": user, "sku_id": sku, "added_at": when}
                    carts.append(of | {"impression_id": f"i{exposure}"})
            searched = {"cart_id": f"b{basket}", "customer_id": user, "sku_id": int(rng.integers(70))}
            carts.append(searched | {"added_at": at + dt.timedelta(minutes=2), "impression_id": None})
            kept = [sku for sku in taken if rng.random() < 0.5]
            if kept:
                number, when = 5_000 + basket, at + dt.timedelta(minutes=4)
                state = "delivered" if rng.random() < 0.8 else "void"
                orders.append({"order_id": number, "cart_id": f"b{basket}", "state": state, "placed_at": when})
                lines += [{"order_id": number, "sku_id": sku, "pieces": 1} for sku in kept]
                good = len(kept) if state == "delivered" else 0
            last = day == DAYS[-1]
            truth["rows"] += 8 * last
            truth["clicks"] += len(taken) * last
            truth["good"] += (good if kept else 0) * last
        for name, rows in {"feed": shown, "carts": carts, "orders": orders, "order_lines": lines}.items():
            (home / name / f"dt={day}").mkdir(parents=True)
            pl.DataFrame(rows, infer_schema_length=None).write_parquet(home / name / f"dt={day}" / "0.parquet")
    return truth


def test_init_finds_orders_of_baskets_and_their_lines(tmp_path: Path) -> None:
    truth = shop(tmp_path / "log")
    rule = "order_lines AND its_state = 'delivered'"
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "shop.yaml", "--conversion", rule)
    assert ended.code == 0, ended.err
    tables = yaml.safe_load((tmp_path / "shop.yaml").read_text())["data"]["events"]["joined"]
    assert [*tables] == ["carts", "orders", "order_lines"]
    assert (tables["carts"]["key"], "through" in tables["carts"]) == ("impression_id", False)
    assert (tables["orders"]["key"], tables["orders"]["through"]) == ("cart_id", "carts.cart_id")
    lines = tables["order_lines"]
    assert (lines["key"], lines["through"], lines["item"]) == ("order_id", "orders.order_id", "sku_id")
    found = dmtl("check", "--config", tmp_path / "shop.yaml", "--day", DAYS[-1], "--json").json
    assert (found["rows"], found["labels"]["click_rate"]) == (
        truth["rows"],
        pytest.approx(truth["clicks"] / truth["rows"], abs=1e-4),
    )
    assert found["labels"]["conversion_rate"] == pytest.approx(truth["good"] / truth["clicks"], abs=1e-4)
