"""Outcomes of a user and an item that name no exposure: a row is of those shown so long before it, and of no other."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from formats import write
from pydantic import ValidationError
from test_joined import DAY, read
from test_log import rows

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.files import joined as outcomes
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.formats.clocks import Came, rows_of
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.guess.findings.joined import joined_lines, joined_rows

NOON = dt.datetime(2026, 1, 1, 12)
HOUR = 3600
PAIR = "person || '/' || doc"
COLUMNS = {"clicked": "COUNT(*) > 0", "seconds": "SUM(spent)", "cooked": "MAX(cook) = 1", "openings": "COUNT(spent)"}


def shown(n: int = 400) -> pl.DataFrame:
    """Of few users and items, so that most pairs are shown several times over a day."""
    rng = np.random.default_rng(1)
    who = {"person": [f"u{k}" for k in rng.integers(6, size=n)], "doc": [f"d{k}" for k in rng.integers(8, size=n)]}
    return pl.DataFrame({**who, "at": np.sort(rng.integers(0, 86_400, n))})


def orders(n: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    who = {"person": [f"u{k}" for k in rng.integers(7, size=n)], "doc": [f"d{k}" for k in rng.integers(9, size=n)]}
    spent = [None if x < 20 else int(x) for x in rng.integers(0, 120, n)]
    return pl.DataFrame(
        {**who, "came": rng.integers(0, 86_400 + 7_200, n), "spent": spent, "cook": rng.integers(2, size=n)}
    )


def by_hand(exposures: pl.DataFrame, table: pl.DataFrame, window: int) -> pl.DataFrame:
    """The flat log, by loops over rows."""
    found: dict[str, list[Any]] = {c: [] for c in COLUMNS}
    for person, doc, at in exposures.select("person", "doc", "at").iter_rows():
        mine = [
            (spent, cook) for who, what, came, spent, cook in table.iter_rows()
            if (who, what) == (person, doc) and at <= came <= at + window
        ]  # fmt: skip
        known = [spent for spent, _ in mine if spent is not None]
        found["clicked"].append(bool(mine))
        found["seconds"].append(sum(known) if known else None)
        found["cooked"].append(max(cook for _, cook in mine) == 1 if mine else None)
        found["openings"].append(len(known))
    return exposures.hstack(pl.DataFrame(found, schema_overrides={"seconds": pl.Int64}))


def joined(**more: Any) -> dict[str, Any]:
    table = {"path": "orders/{day}.parquet", "computed": {"pair": PAIR}, "key": "pair", "time": "came", "within": "3h"}
    return {"joined": {"orders": {**table, "columns": COLUMNS, **more}}, "computed": {
        "pair": PAIR, "good": "seconds >= 90 OR cooked"}}  # fmt: skip


FORMS = {
    "seconds": pl.col("x") + 1_767_225_600,
    "milliseconds": (pl.col("x") + 1_767_225_600) * 1_000,
    "instants": pl.from_epoch(pl.col("x") + 1_767_225_600, time_unit="s").dt.replace_time_zone("UTC"),
    "naive": pl.from_epoch(pl.col("x") + 1_767_225_600, time_unit="s").dt.cast_time_unit("ns"),
    "text": pl.from_epoch(pl.col("x") + 1_767_225_600, time_unit="s").dt.to_string("%Y-%m-%d %H:%M:%S"),
}


def in_form(frame: pl.DataFrame, column: str, form: str) -> pl.DataFrame:
    return frame.with_columns(frame.select(pl.col(column).alias("x")).select(FORMS[form].alias(column))[column])


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    home = tmp_path_factory.mktemp("flat")
    write(in_form(by_hand(shown(), orders(), 3 * HOUR), "at", "seconds"), home / "events", str(DAY), "parquet")
    found = read(home, {})
    assert 50 < found["click"].sum() < 350, "some pairs have rows in time, others have not"
    return found


@pytest.mark.parametrize("block", [7, sizes.BLOCK])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", ["seconds", "instants"])
def test_a_row_is_of_what_was_shown_before_it(
    tmp_path: Path, flat: pl.DataFrame, form: str, other: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "BLOCK", block)
    write(in_form(shown(), "at", form), tmp_path / "events", str(DAY), "parquet")
    write(in_form(orders(), "came", other), tmp_path / "orders", str(DAY), "parquet")
    drop = [c for c in flat.columns if "time" in c or c == "at"]
    assert read(tmp_path, joined()).drop(drop, strict=False).equals(flat.drop(drop, strict=False))


def test_any_time_is_more_and_a_second_is_next_to_none(tmp_path: Path, flat: pl.DataFrame) -> None:
    write(in_form(shown(), "at", "seconds"), tmp_path / "events", str(DAY), "parquet")
    write(in_form(orders(), "came", "seconds"), tmp_path / "orders", str(DAY), "parquet")
    clicks = {w: read(tmp_path, joined(within=w))["click"].sum() for w in ("1s", "3h", "180m", "10800s", "2d")}
    assert clicks["1s"] < clicks["3h"] < clicks["2d"] and clicks["3h"] == clicks["180m"] == clicks["10800s"]
    whole = read(tmp_path, joined(within=None, time=None))["click"].sum()
    assert whole > clicks["2d"], "without a time rows that came before an exposure are of it too"


def test_check_counts_rows_by_time(tmp_path: Path) -> None:
    exposures, table = shown(), orders()
    write(in_form(exposures, "at", "seconds"), tmp_path / "events", str(DAY), "parquet")
    write(in_form(table, "came", "seconds"), tmp_path / "orders", str(DAY), "parquet")
    write(in_form(table.with_columns(pl.col("came") + 86_400), "came", "seconds"), tmp_path / "orders",
          str(DAY + dt.timedelta(1)), "parquet")  # fmt: skip
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "good", "time": "at"}
    log = Log(
        Data(root=str(tmp_path), events=Events(path="events/{day}.parquet", **roles, **joined())), (),
        converted=tmp_path / "c",
    )  # type: ignore[arg-type]  # fmt: skip
    found, _ = log.open(DAY)
    made = joined_rows(log, found, Table(found.events, found.groups))
    of = [
        [k for k, e in enumerate(exposures.iter_rows()) if e[:2] == row[:2] and e[2] <= row[2] <= e[2] + 3 * HOUR]
        for row in table.iter_rows()
    ]
    late = [(*row[:2], row[2] + 86_400) for row in table.iter_rows()]
    seen = [*exposures.iter_rows()]
    after = [row for row in late if any(e[:2] == row[:2] and e[2] <= row[2] <= e[2] + 3 * HOUR for e in seen)]
    said = made["joined"]["orders"]
    assert said["rows"] == len(table) and said["unmatched"] == sum(not ks for ks in of)
    assert said["shared"] == len({k for ks in of if len(ks) > 1 for k in ks})
    assert said["later"] == len(after) > 0, "of the day after, shortly after midnight"
    assert any("days_after: 1 reads them too" in line for line in joined_lines(made))


def test_a_time_that_is_not_there_is_of_no_exposure(tmp_path: Path) -> None:
    write(in_form(shown(), "at", "seconds"), tmp_path / "events", str(DAY), "parquet")
    table = in_form(orders(), "came", "seconds").with_columns(came=pl.lit(None, pl.Int64))
    write(table, tmp_path / "orders", str(DAY), "parquet")
    assert not read(tmp_path, joined())["click"].any()


@pytest.mark.parametrize("empty", [False, True])
def test_days_alone_and_days_without_rows(tmp_path: Path, empty: bool) -> None:
    write(in_form(shown(), "at", "seconds"), tmp_path / "events", str(DAY), "parquet")
    table = orders().with_columns(came=pl.lit(DAY))
    write(table.clear() if empty else table, tmp_path / "orders", str(DAY), "parquet")
    if empty:
        assert not read(tmp_path, joined())["click"].any()
        return
    with pytest.raises(UserError, match=r"orders.*: data.events.joined.orders.time expects a time of day, column came"):
        read(tmp_path, joined())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"within": None}, "time has no effect without within"),
        ({"time": None}, "within has no effect without time"),
        ({"within": "3 hours"}, "String should match pattern"),
        ({"within": "0h"}, "String should match pattern"),
        ({"through": "clicks.id"}, "within has no effect beside through"),
    ],
)
def test_what_is_no_window(more: dict[str, Any], said: str) -> None:
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "good", "time": "at"}
    with pytest.raises(ValidationError, match=re.escape(said)):
        Events(path="events", **roles, **joined(**more))


def test_a_window_needs_when_exposures_were_shown() -> None:
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "good"}
    with pytest.raises(ValidationError, match=re.escape("joined.orders.within: it needs data.events.time")):
        Events(path="events", **roles, **joined())


def spent(home: Path, exposures: pl.DataFrame, table: pl.DataFrame, zone: str | None, within: str = "2h") -> list[bool]:
    """Which exposures have a row."""
    write(exposures, home / "events", str(DAY), "parquet")
    write(table, home / "orders", str(DAY), "parquet")
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "clicked", "time": "at"}
    columns = {"clicked": "COUNT(*) > 0"}
    given = {**joined(within=within, columns=columns), **roles, "computed": {"pair": PAIR}}
    events = Events(path="events/{day}.parquet", **given)  # type: ignore[arg-type]
    day = Log(Data(root=str(home), events=events, timezone=zone), (), converted=home / "converted").read(DAY, home)
    return rows(day).sort("position")["click"].cast(pl.Boolean).to_list()


@pytest.mark.parametrize(
    ("shown_zone", "came_zone", "hours"),
    [(None, None, 0), ("UTC", "UTC", 0), ("UTC", "Asia/Tokyo", 0), ("UTC", None, 2), (None, "UTC", 0)],
)
def test_times_without_a_zone(tmp_path: Path, shown_zone: str | None, came_zone: str | None, hours: int) -> None:
    """Of both they are of one clock; beside those that name one, exposures are of UTC and the table's of the config."""
    at = pl.Series([NOON] * 4)
    came = at + pl.Series([dt.timedelta(minutes=m) for m in (-30, 30, 119, 121)]) + dt.timedelta(hours=hours)
    who = {"person": list("abcd"), "doc": ["x"] * 4}

    def of(s: pl.Series, zone: str | None) -> pl.Series:
        return s if zone is None else s.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)

    exposures = pl.DataFrame({**who, "at": of(at, shown_zone)})
    table = pl.DataFrame({**who, "came": of(came, came_zone)})
    assert spent(tmp_path, exposures, table, "Europe/Helsinki") == [False, True, True, False]


def test_a_second_is_as_fine_as_a_table_has_it(tmp_path: Path) -> None:
    who = {"person": ["a", "b"], "doc": ["x", "x"]}
    exposures = pl.DataFrame({**who, "at": [NOON + dt.timedelta(milliseconds=700)] * 2})
    same, next_ = NOON, NOON + dt.timedelta(seconds=1)
    assert spent(tmp_path / "a", exposures, pl.DataFrame({**who, "came": [same, next_]}), "UTC") == [True, True]
    finer = pl.DataFrame({**who, "came": [same, next_ + dt.timedelta(milliseconds=1)]})
    assert spent(tmp_path / "b", exposures, finer, "UTC") == [False, True]


def test_one_pair_with_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found is what each exposure and row say by themselves; a guest and a hot item are such a pair."""
    rng = np.random.default_rng(0)
    place, at = np.sort(rng.integers(0, 5, 400)), rng.integers(-1, 6, 300)
    came = np.concatenate([np.sort(rng.integers(0, 10_000, n)) for n in np.bincount(place)])
    shown = pl.Series([None if k % 17 == 0 else int(v) for k, v in enumerate(rng.integers(0, 10_000, 300))])
    for window in (1, 500, 20_000):
        begin, end = Came(place, came).within(at, shown, window)
        for k, (p, t) in enumerate(zip(at, shown, strict=True)):
            mine = [] if t is None else [r for r in range(400) if place[r] == p and t <= came[r] <= t + window]
            assert [*range(begin[k], end[k])] == mine
        which, row = rows_of(begin, end)
        assert [*zip(which, row, strict=True)] == [(k, r) for k in range(300) for r in range(begin[k], end[k])]
    monkeypatch.setattr(outcomes, "_ROWS", 50)
    parts = [*outcomes._parts(end - begin)]
    assert [k for part in parts for k in range(300)[part]] == [*range(300)] and len(parts) > 3
    assert [*outcomes._parts(np.zeros(0, np.int64))] == [slice(0, 1)]


@pytest.mark.parametrize("lost", [3, 300])
def test_rows_without_a_time_are_told(tmp_path: Path, lost: int) -> None:
    write(in_form(shown(), "at", "seconds"), tmp_path / "events", str(DAY), "parquet")
    table = in_form(orders(), "came", "seconds").with_row_index()
    table = table.with_columns(came=pl.when(pl.col("index") >= lost).then("came")).drop("index")
    write(table, tmp_path / "orders", str(DAY), "parquet")
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "good", "time": "at"}
    events = Events(path="events/{day}.parquet", **roles, **joined())
    log = Log(Data(root=str(tmp_path), events=events), (), converted=tmp_path / "c")
    found, _ = log.open(DAY)
    lines = [*joined_lines(joined_rows(log, found, Table(found.events, found.groups)))]
    said = f"data.events.joined.orders: {lost} of its 300 rows have no time: left out"
    assert lines[0] == ("WARNING: " if lost == 300 else "") + said
    assert not any("is key the exposure's id?" in line for line in lines)


def test_a_column_of_times_that_is_not_there(tmp_path: Path) -> None:
    write(in_form(shown(), "at", "seconds"), tmp_path / "events", str(DAY), "parquet")
    write(in_form(orders(), "came", "seconds"), tmp_path / "orders", str(DAY), "parquet")
    with pytest.raises(UserError, match=r"data.events.joined.orders.time expects column ordered_at"):
        read(tmp_path, joined(time="ordered_at"))
