"""The time zone of a log's days, as far as its times tell it: by the zone that they name, and by the hour at which
people sleep."""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from dmtl_cli.data.log.types import ZONE
from dmtl_cli.guess.values import instants

ANY_ZONE = "write the zone of your users, such as Asia/Shanghai"
"""where times tell none"""
AS_SAID = "as --timezone says"
_ALL_YEAR = {
    -180: "America/Sao_Paulo", 180: "Europe/Istanbul", 210: "Asia/Tehran", 240: "Asia/Dubai", 270: "Asia/Kabul",
    300: "Asia/Karachi", 330: "Asia/Kolkata", 345: "Asia/Kathmandu", 360: "Asia/Dhaka", 390: "Asia/Yangon",
    420: "Asia/Bangkok", 480: "Asia/Shanghai", 540: "Asia/Tokyo", 570: "Australia/Darwin",
}  # fmt: skip
"""zones without summer time in recent years, by minutes ahead of UTC: of most people who live so"""
_BY_SEASON = (
    *("Europe/Berlin", "Europe/London", "Europe/Athens", "America/New_York", "America/Chicago", "America/Denver"),
    *("America/Los_Angeles", "America/Halifax", "America/St_Johns", "Australia/Sydney", "Australia/Adelaide"),
    *("Australia/Lord_Howe", "Pacific/Auckland", "Pacific/Chatham"),
)
_ASLEEP = 4  # o'clock, at which fewest people do anything
_DAY, _HALF_HOUR, _MINUTES = 1_440, 30, 14  # minutes; from a half hour, within which a log begins and ends
_NEAR = 1  # hours from it that are as usual
_QUIET = 0.4  # of the rows of a usual hour, in the quietest one
_HOURS, _ROWS = 22, 1_000  # that have rows, and rows, for it to be told


def zone_of(s: pl.Series, unit: str) -> tuple[str, str]:
    """A time zone's name, and why.

    Args:
        s: times.
        unit: see `values.time_unit`.
    """
    said = _evidence(s, unit)
    far = f"; {said.text}: if your users live there, write their zone" if said is not None and said.is_another else ""
    if (named := getattr(s.dtype, "time_zone", None)) is not None:
        return named, f"the zone of the timestamps{far if named == 'UTC' else ''}"
    carried = s.str.extract(ZONE) if unit == "text" else pl.Series([], dtype=pl.String)
    found = carried.drop_nulls().mode().sort()
    offset = re.fullmatch(r"([+-])([0-9]{2}):?([0-9]{2})?", str(found[0])) if len(found) else None
    at = instants(s.filter(carried == found[0]), unit) if offset else None
    if offset and at is not None and (ahead := int(offset[2]) * 60 + int(offset[3] or 0)):
        name, named, guess = zone_ahead(-ahead if offset[1] == "-" else ahead, at)
        most = "the" if (carried.drop_nulls() == found[0]).all() else "most"
        return name, f"{named}: {most} times end in {found[0]}{guess}"
    if len(found):
        return "UTC", f"the times end in {found[0]}{far}"
    seen = "" if said is None else f" ({said.text})"
    if unit in ("timestamp", "text"):
        local = f"days end at midnight of {s.name}'s own times, which name no zone and are taken for your users' clock"
        return "UTC", f"{local}, which timezone: UTC leaves as it stands; if they were written in UTC, {ANY_ZONE}{seen}"
    return "UTC", f"days end at midnight of UTC, as numbers name no zone; {ANY_ZONE}{seen}"


def is_naive(s: pl.Series, unit: str) -> bool:
    """Whether times are those of a clock, of which no zone is named."""
    if unit == "text":
        return bool(s.str.extract(ZONE).null_count() == len(s))
    return unit == "timestamp" and getattr(s.dtype, "time_zone", None) is None


def of_users(s: pl.Series, unit: str, zone: str) -> tuple[str, str]:
    """The time zone by which the days of users are cut who live in `zone`, and why: times of a clock are theirs, unless
    they themselves say that they are of UTC."""
    if zone == "UTC" or not is_naive(s, unit):
        return zone, AS_SAID
    said = _evidence(s, unit)
    at = instants(s.drop_nulls(), unit)
    if said is not None and said.is_another and at is not None and _is_near(cast(dt.datetime, at.min()), said, zone):
        return zone, f"{AS_SAID}: {s.name} names no zone and is taken for UTC, as {said.text}"
    clock = f"{s.name} without a zone is the clock of {zone}, which timezone: UTC leaves as it stands"
    return "UTC", f"{AS_SAID}: {clock}" + (f"; yet {said.text}" if said is not None and said.is_another else "")


def is_night(at: pl.Series, zone: str) -> bool:
    """Whether fewest rows come at an hour of the night of a zone that is hours away from UTC.

    Args:
        at: of a day's rows, as UTC has them: they begin and end where that day does, which tells nothing.
    """
    quiet = _quietest(at) if len(at) >= _ROWS else None
    said = None if quiet is None else _as_slept(quiet)
    return said is not None and said.is_another and _is_near(cast(dt.datetime, at.min()), said, zone)


def _is_near(at: dt.datetime, said: _Said, zone: str) -> bool:
    """Whether a zone is as far ahead of UTC as times say."""
    there = at.astimezone(ZoneInfo(zone)).utcoffset() or dt.timedelta()
    return abs(there.total_seconds() / 60 - said.ahead) <= 60 * _NEAR


def zone_ahead(minutes: int, at: pl.Series) -> tuple[str, str, str]:
    """A zone that is so far ahead of UTC at all of these times, `UTC+8`, and what to write where it is no more than a
    guess: at another time of the year the same people may be at another distance.

    Args:
        at: instants, of which the first and the last are looked at.
    """
    if not minutes:
        return "UTC", "UTC", ""
    ends = [cast(dt.datetime, t) for t in (at.min(), at.max()) if t is not None]
    named = _utc(minutes)
    if (common := _ALL_YEAR.get(minutes)) is not None and _is_ahead(common, minutes, ends):
        return common, named, ""
    near = next((zone for zone in _BY_SEASON if _is_ahead(zone, minutes, ends)), None)
    if minutes % 60:  # no name without a place
        return (near, named, "") if near else ("UTC", named, f"; {ANY_ZONE}")
    then = f"; where clocks change in summer write your zone, such as {near}" if near else ""
    return f"Etc/GMT{-minutes // 60:+d}", f"{named}, whose sign Etc has the other way round", then


def _is_ahead(zone: str, minutes: int, at: list[dt.datetime]) -> bool:
    return all(t.astimezone(ZoneInfo(zone)).utcoffset() == dt.timedelta(minutes=minutes) for t in at)


def _utc(minutes: int) -> str:
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes > 0 else '-'}{hours}" + (f":{rest:02d}" if rest else "")


class _Said(NamedTuple):
    """What times say of the zone that days end in."""

    text: str
    ahead: int
    """minutes by which it is ahead of the times' own"""
    is_another: bool


def _evidence(s: pl.Series, unit: str) -> _Said | None:
    """None where times are few or say nothing."""
    at = instants(s.drop_nulls(), unit)
    if at is None or len(at) < _ROWS:
        return None
    at = at.dt.convert_time_zone("UTC")
    if (ahead := _midnight(at)) is not None:
        begin = -ahead % _DAY
        ends = f"the rows begin and end at {begin // 60}:{begin % 60:02d}"
        if not ahead:
            return _Said(f"{ends}, as whole days of these times do", 0, False)
        return _Said(f"{ends}, the midnight of {_utc(ahead)}", ahead, True)
    quiet = _quietest(at)
    return None if quiet is None else _as_slept(quiet)


def _as_slept(quiet: int) -> _Said:
    return _Said(_as_at(quiet), 60 * _ahead(quiet), abs(_ahead(quiet)) > _NEAR)


def _quietest(at: pl.Series) -> int | None:
    """The hour around which fewest rows come; None where no hour has far fewer than others, or not all have some."""
    rows = np.bincount(at.dt.hour().drop_nulls().to_numpy(), minlength=24)
    if (rows > 0).sum() < _HOURS:
        return None
    near = (rows + np.roll(rows, 1) + np.roll(rows, -1)) / 3
    return int(near.argmin()) if near.min() <= _QUIET * rows.mean() else None


def _midnight(at: pl.Series) -> int | None:
    """How many minutes a zone is ahead whose midnight is when the log begins and ends, as one of whole days; None where
    it does not begin and end at the same time of day, within minutes of a half hour."""
    first, last = (t.hour * 60 + t.minute for t in (at.min(), at.max()))  # type: ignore[union-attr]
    begin = round(first / _HALF_HOUR) * _HALF_HOUR
    around = [(x - begin + _DAY // 2) % _DAY - _DAY // 2 for x in (first, last)]
    return None if max(map(abs, around)) > _MINUTES else (_DAY // 2 - begin) % _DAY - _DAY // 2


def _ahead(hour: int) -> int:
    """How many hours a zone is ahead in which it is night then."""
    return (_ASLEEP - hour + 11) % 24 - 11


def _as_at(hour: int) -> str:
    ahead = _ahead(hour)
    where = "of local times" if abs(ahead) <= _NEAR else f"at {_ASLEEP}:00 of UTC{ahead:+d}"
    return f"fewest rows come at {hour}:00, as {where}"
