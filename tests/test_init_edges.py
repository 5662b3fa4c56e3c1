"""`init` on tables and values that look like others: none is read as what it is not, and none is lost."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from initiated import features, made
from test_init_exports import put, rows

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]


def days() -> dict[str, pl.DataFrame]:
    """Exposures with a key, by day."""
    found = rows().with_row_index("shown_id")
    return {day: found.filter(pl.col("shown_at").str.starts_with(day)) for day in DAYS}


# -- tables of one day -------------------------------------------------------------------------------------------------


def clicks_of_one(home: Path) -> None:
    for day, found in days().items():
        put(home / f"shown/dt={day}/p.csv", found.drop("clicked", "read_seconds").write_csv())
        if day == DAYS[-1]:
            came = found.filter(pl.col("clicked") == 1).select("shown_id", "read_seconds")
            put(home / f"clicks/dt={day}/p.csv", came.write_csv())


def events_of_one(home: Path) -> None:
    put(home / f"shown/dt={DAYS[-1]}/p.csv", days()[DAYS[-1]].write_csv())
    for day in DAYS:
        listed = "".join(f"i{k},{'xyz'[k % 3]},{'a long text ' * 9}{k}\n" for k in range(999))
        put(home / f"items/dt={day}/p.csv", f"item_id,topic,text\n{listed}")


def test_a_day_of_events_or_of_clicks_is_no_state_of_all_days(tmp_path: Path) -> None:
    """Later days would be lost; a table of items is one: see `test_hives_text_is_read_by_its_ddl`."""
    for name, write in (("clicks", clicks_of_one), ("events", events_of_one)):
        ended, raw, _ = made(tmp_path / name, write)
        assert ended.code == 0, ended.err
        events = raw["data"]["events"]
        assert (events["path"], events["partition"]) == ("shown", "dt"), name
        if name == "clicks":
            (joined,) = events["joined"].values()
            assert (joined["path"], joined["partition"]) == ("clicks", "dt")
    assert raw["data"]["items"]["partition"] == "dt"


# -- names that stand for others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["*", "^.*$", ""])
def test_a_name_that_stands_for_other_columns_is_not_used(tmp_path: Path, name: str) -> None:
    def write(home: Path) -> None:
        for day, found in days().items():
            lines = found.with_columns(pl.Series(name, range(len(found))) % 3).to_dicts()
            put(home / f"{day}.json", "".join(json.dumps(line) + "\n" for line in lines))

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["click"] == "clicked"
    assert not {name, "column_6"} & {*features(raw)}


def test_a_time_of_a_change_is_not_that_of_its_row(tmp_path: Path) -> None:
    """A snapshot of Debezium reads all rows at one time; what became of a row is no outcome."""

    def write(home: Path) -> None:
        for day, found in days().items():
            around = {"before": None, "source": {"db": "x"}, "ts_ms": 1_767_500_000_000}
            lines = [around | {"op": "cr"[n % 2], "after": row} for n, row in enumerate(found.to_dicts())]
            put(home / f"{day}.json", "".join(json.dumps(line) + "\n" for line in lines))

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["time"] == "shown_at"
    assert not {"__op", "__updated_ts_ms"} & {*features(raw)}
