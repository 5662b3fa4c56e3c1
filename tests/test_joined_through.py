"""Outcomes whose rows name a row of another table of outcomes, as an order names a click: they are of its exposure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from formats import write
from pydantic import ValidationError
from test_init_by_day import DAYS, world
from test_joined import COLUMNS, DAY, by_hand, clicks, read, shown
from worlds import dmtl

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.findings.joined import joined_rows

THROUGH = {"key": "click", "event_key": "shown_id", "through": "clicks.click_id"}
DEEDS = {c: text for c, text in COLUMNS.items() if c != "clicked"}


def tables(home: Path, **changes: pl.Expr) -> None:
    """The rows of `clicks` with an id of their own, and what came of them by it; one deed is of a click of no table."""
    came = clicks().with_row_index("click_id")
    deeds = came.select(pl.col("click_id").cast(pl.Int64).alias("click"), "spent", "cook")
    nowhere = pl.DataFrame({"click": [10_000, None], "spent": [7, 7], "cook": [1, 1]}, schema=deeds.schema)
    write(shown(), home / "events", str(DAY), "parquet")
    write(came.select("click_id", "shown_id"), home / "clicks", str(DAY), "parquet")
    write(pl.concat([deeds, nowhere]).with_columns(**changes), home / "deeds", str(DAY), "parquet")


def joined(**more: Any) -> dict[str, Any]:
    opened = {"path": "clicks/{day}.parquet", "key": "shown_id", "columns": {"clicked": COLUMNS["clicked"]}}
    return {"clicks": opened, "deeds": {"path": "deeds/{day}.parquet", **THROUGH, "columns": DEEDS, **more}}


def test_the_log_is_read_as_if_deeds_named_the_exposure(tmp_path: Path) -> None:
    write(by_hand(shown(), clicks()), tmp_path / "flat/events", str(DAY), "parquet")
    flat = read(tmp_path / "flat", {})
    tables(tmp_path / "log")
    found = read(tmp_path / "log", {"joined": joined()})
    assert found.equals(flat) and found["click"].any()


def test_rows_of_no_click_are_counted(tmp_path: Path) -> None:
    """Four clicks name no exposure of the day, one of them nothing at all; a deed names a click that is not there."""
    tables(tmp_path)
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "cooked", "joined": joined()}
    log = Log(
        Data(root=str(tmp_path), events=Events(path="events/{day}.parquet", **roles)), (), converted=tmp_path / "c"
    )  # type: ignore[arg-type]
    found = log.find(DAY)
    said = joined_rows(log, found, Table(found.events, found.groups))["joined"]
    assert (said["clicks"]["unmatched"], said["clicks"]["without_id"]) == (3, 1)
    assert (said["deeds"]["unmatched"], said["deeds"]["without_id"], said["deeds"]["rows"]) == (5, 1, 106)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"through": "orders.id"},
            "joined.deeds.through: expected a table that is named before it: clicks, got orders",
        ),
        ({"through": "deeds.click"}, "expected a table that is named before it: clicks, got deeds"),
        ({"through": "clicks"}, "String should match pattern"),
        ({"event_key": None}, "joined.deeds.event_key: expected shown_id, as joined.clicks has"),
    ],
)
def test_what_cannot_be_gone_through(more: dict[str, Any], said: str) -> None:
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "cooked"}
    with pytest.raises(ValidationError, match=re.escape(said)):
        Events(path="events", **roles, joined=joined(**more))  # type: ignore[arg-type]


def test_a_column_that_is_not_there_and_ids_of_another_type(tmp_path: Path) -> None:
    tables(tmp_path)
    with pytest.raises(UserError, match=r"clicks.*: data.events.joined.deeds.through expects column tap_id"):
        read(tmp_path, {"joined": joined(through="clicks.tap_id")})
    tables(tmp_path / "text", click=pl.col("click").cast(pl.String))
    with pytest.raises(UserError, match=r"click of .* are text, but click_id of .* integers") as refused:
        read(tmp_path / "text", {"joined": joined()})
    assert refused.value.hint == "write both as integers, or both as text"


@pytest.mark.parametrize("kind", [pl.Null, pl.Int64, pl.String, pl.Float64])
@pytest.mark.parametrize("texts", [False, True])
def test_a_day_without_clicks(tmp_path: Path, kind: type[pl.DataType], texts: bool) -> None:
    """Files of no rows have whatever types their writer gives to nothing."""
    tables(tmp_path, **({"click": pl.format("c{}", "click")} if texts else {}))
    nothing = pl.DataFrame({"click_id": pl.Series([], dtype=kind), "shown_id": pl.Series([], dtype=pl.Null)})
    write(nothing, tmp_path / "clicks", str(DAY), "parquet")
    found = read(tmp_path, {"joined": joined()})
    assert len(found) == len(shown()) and not found["click"].any()


def test_init_finds_orders_that_name_the_click(tmp_path: Path) -> None:
    """By values: whatever they are called; users agree. The rates are those of the exposures."""
    home, of = tmp_path / "log", world()
    exposures = of["shown"].with_row_index("vis").with_columns(pl.col("vis") + 70_000)
    pressed = (
        exposures.gather_every(4)
        .with_row_index("tap")
        .with_columns(pl.col("tap") + 4_100, pl.col("ts") + pl.duration(seconds=7))
    )
    bought = pressed.gather_every(3).with_columns(pl.col("ts") + pl.duration(days=1))
    for name, table in {
        "shown": exposures.select("vis", "ts", "user_id", "item_id"),
        "taps": pressed.select("tap", "vis", "ts"),
        "deals": bought.select(pl.col("tap").alias("of_tap_id"), "ts", "user_id"),
    }.items():
        write(table.with_columns(pl.col(pl.UInt32).cast(pl.Int64)), home, name, "csv")
    out = tmp_path / "mine.yaml"
    ended = dmtl("init", home, "-o", out, "--conversion", "deals")
    assert ended.code == 0, ended.err
    deals = yaml.safe_load(out.read_text())["data"]["events"]["joined"]["deals"]
    assert {k: deals[k] for k in ("key", "event_key", "through")} == {
        "key": "of_tap_id", "event_key": "vis", "through": "taps.tap",
    }  # fmt: skip
    last = exposures.filter(pl.col("day") == DAYS[-1])
    clicked, good = (len(last.join(t, on="vis")) for t in (pressed, bought))
    assert f"{clicked / len(last):.1%} of rows are clicks" in ended.out
    assert f"{good / clicked:.1%} of clicks are good" in ended.out, "a day later, and yet of the exposure's day"
