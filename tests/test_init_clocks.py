"""Which of several times is that of the rows, whose clock it is, and what becomes of clocks that were never set."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from initiated import features, frame, made
from worlds import dmtl

from dmtl_cli.data.log.checked.invalid import is_of_1970
from dmtl_cli.guess.columns.zones import of_users
from dmtl_cli.guess.exposures.labels import roles_of

N = 4_000
RNG = np.random.default_rng(7)
BEGIN = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def rows(**times: list[dt.datetime]) -> pl.DataFrame:
    ids = {"user_id": [f"u{k % 90}" for k in range(N)], "item_id": [f"i{k % 71}" for k in range(N)]}
    return pl.DataFrame(ids | times | {"click": [k % 3 == 0 for k in range(N)]})


def shown() -> list[dt.datetime]:
    return [BEGIN + dt.timedelta(seconds=60 * k) for k in range(N)]


def found(frame: pl.DataFrame) -> str:
    time = roles_of(frame, {}).time
    assert time is not None
    return time.column


@pytest.mark.parametrize("unset", [0, 3])
def test_a_time_at_which_rows_were_written_at_once_is_not_theirs(unset: int) -> None:
    """Whatever it is called, and though a few clocks were never set: thousands of rows have one and the same."""
    at = [dt.datetime(1970, 1, 1, tzinfo=dt.UTC) if k < unset else t for k, t in enumerate(shown())]
    written = [t.replace(hour=9, minute=0, second=0) + dt.timedelta(days=1) for t in shown()]
    assert found(rows(entrada=written, momento=at)) == "momento"
    assert found(rows(momento=at, entrada=written)) == "momento"


def test_a_clock_by_the_hour_is_that_of_the_rows() -> None:
    """Thousands of rows have one and the same, of which a day has 24."""
    n = 60_000
    hour = [BEGIN + dt.timedelta(hours=k * 48 // n) for k in range(n)]
    before = [BEGIN - dt.timedelta(seconds=int(s)) for s in RNG.integers(0, 900_000, n)]
    ids = {"user_id": [f"u{k % 9_000}" for k in range(n)], "item_id": [f"i{k % 71}" for k in range(n)]}
    assert found(pl.DataFrame(ids | {"stunde": hour, "frueher": before, "click": [k % 3 == 0 for k in range(n)]})) == (
        "stunde"
    )


@pytest.mark.parametrize(("server", "client", "taken"), [(2, 40, "ts"), (40, 2, "client_ts"), (2, 3, "ts")])
def test_the_time_of_which_fewest_are_far_off_is_the_rows(server: int, client: int, taken: str) -> None:
    """A server writes 1970 in a few rows, phones are a month ahead in some."""
    past, ahead = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(days=30)
    ts = [past if k < server else t for k, t in enumerate(shown())]
    client_ts = [t + ahead if k < client else t for k, t in enumerate(shown())]
    assert found(rows(ts=ts, client_ts=client_ts)) == taken


@pytest.mark.parametrize(
    ("other", "taken"), [("seen_at", "seen_at"), ("updated_at", "session_start"), (None, "session_start")]
)
def test_a_sessions_time_gives_way_to_the_rows_own_alone(other: str | None, taken: str) -> None:
    """Not to one of when rows were written, which is no more theirs."""
    start = [t - dt.timedelta(seconds=300) for t in shown()]
    assert found(rows(session_start=start, **({} if other is None else {other: shown()}))) == taken


# -- whose clock it is -------------------------------------------------------------------------------------------------


def beside(hours: float, late: float = 4.0) -> pl.DataFrame:
    """A clock, and instants of when its rows were received, which it is some hours ahead of."""
    at = [BEGIN.replace(tzinfo=None) + dt.timedelta(seconds=int(s)) for s in np.sort(RNG.integers(0, 250_000, N))]
    lag = [dt.timedelta(seconds=float(x)) for x in RNG.exponential(late, N)]
    came = [(t + lag - dt.timedelta(hours=hours)).replace(tzinfo=dt.UTC) for t, lag in zip(at, lag, strict=True)]
    return rows(event_time=at).with_columns(received_at=pl.Series(came))


@pytest.mark.parametrize(
    ("hours", "zone", "said"),
    [
        (3, "UTC", "most times are UTC+3 of received_at beside them"),
        (0, "Africa/Nairobi", "most times are those of received_at in UTC"),
        (
            5,
            "UTC",
            "names no zone and is of its clock; written in UTC? naive_times: utc",
        ),  # neither: who knows is asked
    ],
)
def test_instants_beside_a_clock_tell_whose_it_is(hours: float, zone: str, said: str) -> None:
    log = beside(hours)
    got = of_users(log["event_time"], "timestamp", "Africa/Nairobi", log, "user_id")
    assert (got.name, got.as_read) == ("Africa/Nairobi", zone) and got.why.endswith(said), got


@pytest.mark.parametrize("hours", [0, 3])
def test_a_number_that_is_made_of_the_clock_tells_nothing(hours: int) -> None:
    """As pandas makes seconds since 1970 of a local clock: it is the clock to the second."""
    log = beside(0)
    made = log["event_time"].dt.epoch("s") - 3_600 * hours
    log = log.drop("received_at").with_columns(made.alias("unix_time"))
    found = of_users(log["event_time"], "timestamp", "Africa/Nairobi", log, "user_id")
    assert found.is_local and "unix_time" not in found.why


def test_instants_that_are_hours_late_tell_nothing() -> None:
    log = beside(0, late=9_000)
    assert of_users(log["event_time"], "timestamp", "Africa/Nairobi", log, "user_id").is_local


@pytest.mark.parametrize(("quiet", "zone"), [((1, 2, 3), "UTC"), ((0, 1, 2), "Africa/Nairobi"), ((3, 4, 5), "UTC")])
def test_a_quietest_hour_of_the_night_may_be_anybodys(quiet: tuple[int, ...], zone: str) -> None:
    """Two o'clock is five in Nairobi: people sleep at either."""
    hours = [h for h in range(24) for _ in range(5 if h in quiet else 60)]
    times = [dt.datetime(2026, 1, 1 + k % 5, h, k % 60) for k, h in enumerate(hours)]
    at = pl.Series("t", [t for t in times if t >= dt.datetime(2026, 1, 1, 7, 10)])
    assert of_users(at, "timestamp", "Africa/Nairobi").as_read == zone


# -- clocks that were never set ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "unset"),
    [
        ([0, 1_767_225_600, 1_767_225_700, 1_767_225_701], [0]),
        ([1_767_225_600_000, 3, 1_767_225_700_000], [1]),
        ([0, 10, 20, 23], []),  # of another clock
        (["1970-01-01 03:00:00", *["2026-01-01 03:00:00"] * 2], [0]),
        ([dt.datetime(1970, 1, 1, 5), *[dt.datetime(2026, 1, 1)] * 2, None], [0]),
        ([dt.date(1969, 12, 31), *[dt.date(2026, 1, 1)] * 2], [0]),
        ([dt.datetime(1970, 1, 1, 5), dt.datetime(1970, 1, 1, 9), dt.datetime(2026, 1, 1)], []),  # the times of a day
        ([dt.time(1), None], []),
        ([None, None], []),
    ],
)
def test_what_is_of_1970(values: list[Any], unset: list[int]) -> None:
    assert is_of_1970(pl.Series(values)).arg_true().to_list() == unset


@pytest.mark.parametrize("kind", ["seconds", "timestamp", "text"])
def test_rows_of_1970_are_left_out_where_folders_are_the_days(tmp_path: Path, kind: str) -> None:
    """They would be the first events of their items, before these are there."""
    log = frame()
    at = log["ts"].cast(pl.Int64)
    wrong = pl.Series([k % 150 == 7 for k in range(len(at))])
    unset = at.set(wrong, 0)
    times = {
        "seconds": unset,
        "timestamp": pl.from_epoch(unset, "s"),
        "text": pl.from_epoch(unset, "s").dt.to_string("%Y-%m-%d %H:%M:%S"),
    }[kind]
    ended, raw, text = made(
        tmp_path, lambda home: daily_at(log.with_columns(times.alias("ts")), at)(home), "--timezone", "UTC"
    )
    assert ended.code == 0 and raw["data"]["events"]["invalid_rows"] == "drop", ended.err
    assert "of rows have a ts of 1970, as of a clock that was never set" in text
    told = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json")
    of_day = (at // 86_400 == at[0] // 86_400 + 1) & wrong
    assert told.code == 0 and told.json["left_out"]["unset"] == of_day.sum() > 0
    assert (
        f"{of_day.sum()} with a time of 1970"
        in dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02").out
    )


def daily_at(log: pl.DataFrame, at: pl.Series) -> Any:
    """Folders by the true times, whatever the column says."""

    def write(home: Path) -> None:
        days = pl.from_epoch(at, "s").dt.to_string("%Y-%m-%d")
        for (day,), part in log.with_columns(days.alias(":d")).group_by(":d", maintain_order=True):
            folder = home / "events" / f"day={day}"
            folder.mkdir(parents=True)
            part.drop(":d").write_parquet(folder / "part-0.parquet")

    return write


def test_a_column_since_some_day_is_seen_beside_days_of_a_few_rows(tmp_path: Path) -> None:
    """Clocks that were never set make a day of some rows, which is not the log's first."""
    log = frame()
    at = log["ts"].cast(pl.Int64)
    day = (at - at.min()) // 86_400  # type: ignore[operator]
    why = [["new", "again"][k % 2] if d >= 1 else None for k, d in enumerate(day)]
    unset = at.set(pl.Series([k in (5, 600, 1_100) for k in range(len(at))]), 0)
    log = log.with_columns(unset.alias("ts"), pl.Series("reason", why))
    ended, raw, text = made(tmp_path, lambda home: log.write_parquet(home / "all.parquet"))
    assert ended.code == 0 and "reason" not in features(raw), ended.err
    assert "reason: not used: from 2026-03-02 on only" in text
