"""Which zone `init` writes for the days of a log, and what it says of it."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from dmtl_cli.guess.zones import zone_ahead, zone_of

WINTER, SUMMER = dt.datetime(2025, 1, 10, tzinfo=dt.UTC), dt.datetime(2025, 7, 10, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("minutes", "begin", "zone"),
    [
        (480, WINTER, "Asia/Shanghai"),
        (540, SUMMER, "Asia/Tokyo"),
        (420, WINTER, "Asia/Bangkok"),
        (330, SUMMER, "Asia/Kolkata"),
        (180, WINTER, "Europe/Istanbul"),
        (-180, SUMMER, "America/Sao_Paulo"),
        (-210, WINTER, "America/St_Johns"),
        (825, WINTER, "Pacific/Chatham"),
        (0, SUMMER, "UTC"),
    ],
)
def test_a_zone_is_named_that_is_so_far_ahead_on_the_days_of_the_log(
    minutes: int, begin: dt.datetime, zone: str
) -> None:
    at = pl.Series([begin, begin + dt.timedelta(days=6)])
    named, told, guess = zone_ahead(minutes, at)
    assert (named, guess) == (zone, "") and begin.astimezone(ZoneInfo(named)).utcoffset() == dt.timedelta(
        minutes=minutes
    )
    assert told == {480: "UTC+8", 330: "UTC+5:30", -180: "UTC-3", -210: "UTC-3:30", 0: "UTC"}.get(minutes, told)


@pytest.mark.parametrize(
    ("minutes", "begin", "zone", "such_as"),
    [
        (60, WINTER, "Etc/GMT-1", "Europe/Berlin"),
        (60, SUMMER, "Etc/GMT-1", "Europe/London"),
        (-300, WINTER, "Etc/GMT+5", "America/New_York"),
        (-300, SUMMER, "Etc/GMT+5", "America/Chicago"),
    ],
)
def test_where_clocks_may_change_a_person_is_asked(minutes: int, begin: dt.datetime, zone: str, such_as: str) -> None:
    named, told, guess = zone_ahead(minutes, pl.Series([begin]))
    assert named == zone and told == f"UTC{minutes // 60:+d}, whose sign Etc has the other way round"
    assert guess == f"; where clocks change in summer write your zone, such as {such_as}"


def test_a_zone_that_was_elsewhere_then_is_not_named() -> None:
    """Istanbul was two hours ahead in the winter of 2012."""
    named, _, _ = zone_ahead(180, pl.Series([dt.datetime(2012, 1, 10, tzinfo=dt.UTC)]))
    assert named == "Etc/GMT-3"


def test_an_offset_that_all_times_carry_is_sure() -> None:
    at = [f"2025-11-15T{k:02d}:01:48.728+05:30" for k in range(20)]
    assert zone_of(pl.Series("t", at), "text") == ("Asia/Kolkata", "UTC+5:30: the times end in +05:30")
    some = [*at, *at, "2025-11-15T00:01:48.728+08:00"]
    assert zone_of(pl.Series("t", some), "text") == ("Asia/Kolkata", "UTC+5:30: most times end in +05:30")
