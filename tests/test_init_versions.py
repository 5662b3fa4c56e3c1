"""`init` on side tables with several rows of an id: the column that tells them apart, or what to do where none does."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import unseen
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.config.reading import load_config
from dmtl_cli.data.days import columns
from dmtl_cli.data.log.files.converted import provisional
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.sides.versions import version_of

DAY = dt.date(2026, 3, 3)
AGAIN = 5  # ids with a second row


def twice(**second: Any) -> pl.DataFrame:
    """A row of each item, with a level; then one of the first five again.

    Args:
        second: by column, its values of the first rows and of the second.
    """
    ids = [*range(unseen.ITEMS), *range(AGAIN)]
    levels = [f"a{i % 4}" for i in range(unseen.ITEMS)] + [f"b{i % 4}" for i in range(AGAIN)]
    more = {c: [one] * unseen.ITEMS + [other] * AGAIN for c, (one, other) in second.items()}
    return pl.DataFrame({"item_id": ids, "level": levels} | more)


def with_items(table: pl.DataFrame, name: str = "items.parquet") -> Any:
    def write(home: Path) -> None:
        daily(frame())(home)
        if name.endswith(".csv"):
            table.write_csv(home / name)
        else:
            table.write_parquet(home / name)

    return write


def level_of(config: Path, item: int, day: dt.date, scratch: Path) -> str | None:
    known = load_config(config)
    scratch.mkdir()
    with provisional(known.workspace) as place:
        items = Log(known.data, columns(known.features), timed=True, converted=place).read(day, scratch).items
    found: str | None = items.filter(pl.col(":id") == item)["level"][0]
    return found


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("name", "old", "new", "zone"),
    [
        ("updated_at", dt.datetime(2026, 2, 1, 9), dt.datetime(2026, 3, 2, 9), "UTC"),
        ("valid_from", dt.date(2026, 2, 1), DAY, None),
        ("gueltig_ab", "2026-02-01", "2026-03-03", None),
        ("changed_ms", 1_769_900_000_000, 1_772_442_000_000, "UTC"),
    ],
)
def test_a_time_tells_the_rows_apart(
    tmp_path: Path, form: str, name: str, old: Any, new: Any, zone: str | None
) -> None:
    """A day reads the second row from the morning after on, and the first before it."""
    write = with_items(twice(rev=(1, 2), **{name: (old, new)}), f"items.{form}")
    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["items"]["version"] == name and raw["data"].get("timezone") == zone
    assert f"5 of its 40 ids have several rows, with another {name} in each" in text
    assert "one state for all days" not in text and "level" in features(raw) and name not in features(raw)
    assert level_of(tmp_path / "mine.yaml", 3, dt.date(2026, 3, 2), tmp_path / "x") == "a3"
    assert level_of(tmp_path / "mine.yaml", 3, DAY, tmp_path / "y") == "b3"


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_revision_tells_them_apart(tmp_path: Path, form: str) -> None:
    """Beside a date that is the same, and one that ends a state."""
    until = (dt.date(2026, 3, 1), dt.date(2026, 4, 1))
    table = twice(born=(dt.date(2025, 1, 1),) * 2, valid_until=until, rev=(1, 2), price=(7, 3))
    ended, raw, text = made(tmp_path, with_items(table, f"items.{form}"))
    assert ended.code == 0, ended.err
    assert raw["data"]["items"]["version"] == "rev" and "timezone" not in raw["data"]
    assert "with another rev in each: the greatest one counts, on every day" in text and "one state for all" in text
    assert level_of(tmp_path / "mine.yaml", 3, dt.date(2026, 3, 2), tmp_path / "x") == "b3"


@pytest.mark.parametrize(
    "second",
    [
        {"price": (7, 3)},
        {"ended": (dt.datetime(2027, 6, 1), dt.datetime(2027, 7, 1))},
        {"valid_until": (dt.date(2026, 2, 1), dt.date(2026, 2, 7))},
        {"rev": (1, 1)},
    ],
    ids=["any number", "far after the log", "an end", "the same"],
)
def test_what_does_not_tell_them_apart_is_said_with_a_line_that_does(tmp_path: Path, second: Any) -> None:
    table = twice(**second)
    ended, raw, text = made(tmp_path, with_items(table))
    (line,) = (line for line in ended.out.splitlines() if line.startswith("WARNING: items.parquet: not used: "))
    assert "items" not in raw["data"] and "5 of its 40 items have several rows" in line and "not used: 5 of" in text
    code = line.partition("in polars ")[2].partition(", and it is")[0]
    kept = eval(code, {"table": table})
    assert sorted(kept["item_id"]) == [*range(unseen.ITEMS)] and kept.filter(item_id=3)["level"][0] == "b3"
    kept.write_parquet(tmp_path / "log/items.parquet")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "again.yaml")
    assert ended.code == 0 and "items table" in ended.out and "not used: 5" not in ended.out


def at(day: int, hour: int = 3) -> dt.datetime:
    return dt.datetime(2026, 3, day, hour)


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("updated_at", at(4), at(4, 5)), ("skrevet", at(4), at(4, 5)), ("updated_at", at(3), at(3, 5))],
    ids=["after the log", "under any name", "after the items were shown"],
)
def test_of_a_catalogue_as_it_is_now_each_day_reads_the_newest_row(
    tmp_path: Path, form: str, name: str, old: dt.datetime, new: dt.datetime
) -> None:
    """A plain version would hide the items whose row was written after the day."""
    write = with_items(twice(**{name: (old, new)}), f"items.{form}")
    ended, raw, text = made(tmp_path, write)
    items = raw["data"]["items"]
    assert ended.code == 0, ended.err
    assert (items["version"], items["version_only_orders"]) == (name, True) and "one state for all days" in text
    assert "each day reads the newest row" in text and "timezone" not in raw["data"]
    for day in (1, 3):
        of = [level_of(tmp_path / "mine.yaml", i, dt.date(2026, 3, day), tmp_path / f"{day}-{i}") for i in (3, 30)]
        assert of == ["b3", "a2"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_line_that_keeps_a_row_of_each_sorts_by_when_they_were_written(tmp_path: Path, order: int) -> None:
    """Of one id two rows have one time, so it is no version; the others' newest rows may come first in the file."""
    table = twice(updated_at=(at(1), at(2)), valid_until=(at(9), at(9)))
    table = table.with_columns(pl.when(item_id=0).then(pl.lit(at(1))).otherwise("updated_at").alias("updated_at"))
    ended, _, _ = made(tmp_path, with_items(table[::order]))
    code = ended.out.partition("in polars ")[2].partition(", and it is")[0]
    assert code.startswith('table.sort("updated_at").unique("item_id", keep="last"')
    kept = eval(code, {"table": table[::order]})
    assert len(kept) == unseen.ITEMS and kept.filter(item_id=3)["level"][0] == "b3"


def test_a_log_of_orders_is_no_table_of_users(tmp_path: Path) -> None:
    """Most users have several rows, of times that are no state's."""
    x = unseen.drawn(3)
    orders = pl.DataFrame({"user_id": x["user"], "paid": x["seconds"], "ordered": x["at"] + range(len(x["at"]))})

    def write(home: Path) -> None:
        daily(frame())(home)
        orders.write_parquet(home / "orders.parquet")

    _, raw, text = made(tmp_path, write)
    assert "users" not in raw["data"] and "orders.parquet: not used: 51 of its 51 users have several rows" in text


def test_of_two_rows_with_one_time_nothing_is_told() -> None:
    table = pl.DataFrame({"k": [1, 1, 2, 2, 3, 4, 5], "updated": [dt.date(2026, 1, d) for d in (1, 1, 1, 2, 3, 4, 5)]})
    assert version_of(table, "k", DAY) is None
    found = version_of(table[1:], "k", DAY)
    assert found is not None and found.column == "updated" and not found.is_instant
