"""The time zone of a log's days, as far as its times tell it: by the zone that they name, by a column beside them that
has the users' hour, and by the hour at which people sleep."""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from dmtl_cli.data.log.values.types import ZONE, localized
from dmtl_cli.guess.columns.values import DAYS, FEW, instants, share, time_unit

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
_FAR = 180  # minutes from it at which nobody's own clock is quietest
_QUARTER, _LAG = 900, 300  # seconds: what zones differ by, and about as late as a row is received
_QUIET = 0.4  # of the rows of a usual hour, in the quietest one
_CLOCK, _OF_ONE, _OF_EACH = 12, 0.9, 0.8  # hours that a column of hours has; rows of one distance; of each user's own
_SOME = 0.05  # of the rows have a distance that is one of theirs
_HOURS, _ROWS = 22, 1_000  # that have rows, and rows, for it to be told


class Zone(NamedTuple):
    """The time zone of a log's days."""

    name: str
    why: str
    is_local: bool = False
    """whether times of events, which name none, are of its clock; else they are of UTC"""

    @property
    def as_read(self) -> str:
        """The zone in which these times are of its days where those that name none are read as UTC's."""
        return "UTC" if self.is_local else self.name


def zone_of(s: pl.Series, unit: str, rows: pl.DataFrame | None = None, user: str | None = None) -> Zone:
    """The zone that times tell, and why.

    Args:
        unit: see `values.time_unit`.
        rows: of these times, with other columns that may tell the users' hour.
        user: the column of users in them.
    """
    said = _evidence(s, unit, rows, user)
    far = f"; {said.text}: if your users live there, write their zone" if said is not None and said.is_another else ""
    if (named := getattr(s.dtype, "time_zone", None)) is not None:
        return Zone(named, f"the zone of the timestamps{far if named == 'UTC' else ''}")
    carried = s.str.extract(ZONE) if unit == "text" else pl.Series([], dtype=pl.String)
    found = carried.drop_nulls().mode().sort()
    offset = re.fullmatch(r"([+-])([0-9]{2}):?([0-9]{2})?", str(found[0])) if len(found) else None
    at = instants(s.filter(carried == found[0]), unit) if offset else None
    if offset and at is not None and (ahead := int(offset[2]) * 60 + int(offset[3] or 0)):
        name, named, guess = zone_ahead(-ahead if offset[1] == "-" else ahead, at)
        most = "the" if (carried.drop_nulls() == found[0]).all() else "most"
        return Zone(name, f"{named}: {most} times end in {found[0]}{guess}")
    if len(found):
        return Zone("UTC", f"the times end in {found[0]}{far}")
    seen = "" if said is None else f" ({said.text})"
    own = f"days end at midnight of {s.name}'s own times, which"
    if said is not None and said.by_hours:
        return Zone("UTC", f"{own} are hardly your users' clock{seen}; {ANY_ZONE}")
    if unit in ("timestamp", "text"):
        local = f"{own} name no zone and are taken for your users' clock"
        return Zone("UTC", f"{local}; if they were written in UTC, {ANY_ZONE}{seen}")
    return Zone("UTC", f"days end at midnight of UTC, as numbers name no zone; {ANY_ZONE}{seen}")


def is_naive(s: pl.Series, unit: str) -> bool:
    """Whether times are those of a clock, of which no zone is named."""
    if unit == "text":
        return bool(s.str.extract(ZONE).null_count() == len(s))
    return unit == "timestamp" and getattr(s.dtype, "time_zone", None) is None


def in_utc(s: pl.Series, unit: str, zone: str) -> pl.Series | None:
    """Times as instants in UTC, those that name no zone of this one, as the reader has them; None where they have no
    clock."""
    if (found := instants(s, unit)) is None:
        return None
    found = found.dt.convert_time_zone("UTC")
    return localized(found.dt.replace_time_zone(None), zone) if is_naive(s, unit) else found


def of_users(s: pl.Series, unit: str, zone: str, rows: pl.DataFrame | None = None, user: str | None = None) -> Zone:
    """The zone of users who live in `zone`, and why: times of a clock are theirs, unless they themselves, or a column
    beside them, say that they are of UTC: instants tell it first. See `zone_of`."""
    if zone == "UTC" or not is_naive(s, unit):
        return Zone(zone, AS_SAID)
    said, at = _evidence(s, unit, rows, user), instants(s.drop_nulls(), unit)
    beside = None if rows is None else _of_instants(s, unit, rows)
    utc = f"{AS_SAID}: {s.name} names no zone and is taken for UTC, as "
    clock = f"{AS_SAID}: {s.name} names no zone and is of its clock"
    if beside is not None and at is not None and beside[1] in (0, _offset(cast(dt.datetime, at.max()), zone)):
        of = f"most times are {_utc(beside[1])} of {beside[0]} beside them"
        if beside[1]:
            return Zone(zone, f"{clock}: {of}", is_local=True)
        return Zone(zone, utc + f"most times are those of {beside[0]} in UTC")
    if said is None:
        return Zone(zone, f"{clock}; written in UTC? naive_times: utc", is_local=True)
    if not said.is_another or (said.by_sleep and abs(said.ahead) < _FAR):
        return Zone(zone, clock, is_local=True)
    if at is not None and _is_near(cast(dt.datetime, at.min()), said, zone):
        return Zone(zone, utc + said.text)
    return Zone(zone, f"{clock}; yet {said.text}: written in UTC? naive_times: utc", is_local=True)


def is_night(at: pl.Series, zone: str) -> bool:
    """Whether fewest rows come at an hour of the night of a zone that is hours away from UTC.

    Args:
        at: of a day's rows, as UTC has them: they begin and end where that day does, which tells nothing.
    """
    said = _asleep(at) if len(at) >= _ROWS else None
    return said is not None and said.is_another and _is_near(cast(dt.datetime, at.min()), said, zone)


def _is_near(at: dt.datetime, said: _Said, zone: str) -> bool:
    """Whether a zone is as far ahead of UTC as times say."""
    return any(abs(_offset(at, zone) - ahead) <= 60 * _NEAR for ahead in (said.ahead, *said.by_hours))


def _offset(at: dt.datetime, zone: str) -> int:
    """Minutes that a zone is ahead of UTC then."""
    return round((at.astimezone(ZoneInfo(zone)).utcoffset() or dt.timedelta()).total_seconds() / 60)


def _of_instants(s: pl.Series, unit: str, rows: pl.DataFrame) -> tuple[str, int] | None:
    """A column of instants, which say their zone, and by how many minutes times of a clock are mostly ahead of them, in
    quarters of an hour; None where there is none that nearly all rows are that far from."""
    clock = instants(s, unit)
    for c in rows.columns:
        other = time_unit(rows[c]) if c != s.name else None
        if clock is None or other is None or other in DAYS or is_naive(rows[c], other):
            continue
        if (at := instants(rows[c], other)) is None:
            continue
        apart = (clock.dt.epoch("s") - at.dt.epoch("s")).drop_nulls()
        by = (apart / _QUARTER).round().cast(pl.Int64).mode().sort()
        if len(by) and share(apart == by[0] * _QUARTER) >= _OF_ONE:
            continue  # made of the clock, by whatever zone
        if len(apart) >= _OF_ONE * len(s) and len(by) and share((apart - by[0] * _QUARTER).abs() <= _LAG) >= _OF_ONE:
            return c, int(by[0]) * _QUARTER // 60
    return None


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
    by_hours: tuple[int, ...] = ()
    """minutes by which users are ahead, where a column has their hours"""
    by_sleep: bool = False
    """whether the quietest hour alone says so"""


def _evidence(s: pl.Series, unit: str, rows: pl.DataFrame | None, user: str | None) -> _Said | None:
    """None where times are few or say nothing."""
    at = instants(s.drop_nulls(), unit)
    if at is None or len(at) < _ROWS:
        return None
    there = instants(s, unit)
    if rows is not None and there is not None and is_naive(s, unit):
        users, utc = rows[user] if user else None, there.dt.convert_time_zone("UTC")
        if said := next(filter(None, (_of_hours(utc, hours, users) for hours in rows)), None):
            return said
    at = at.dt.convert_time_zone("UTC")
    if (ahead := _midnight(at)) is not None:
        begin = -ahead % _DAY
        ends = f"the rows begin and end at {begin // 60}:{begin % 60:02d}"
        if not ahead:
            return _Said(f"{ends}, as whole days of these times do", 0, False)
        return _Said(f"{ends}, the midnight of {_utc(ahead)}", ahead, True)
    return _asleep(at)


def _of_hours(at: pl.Series, hours: pl.Series, users: pl.Series | None) -> _Said | None:
    """What a column says that has the hour of the times, shifted by some hours in nearly all rows or by some of each
    user's own; None of any other, and of one that is mostly the hour itself, as that may be made of the times."""
    if not hours.dtype.is_integer() or hours.n_unique() < _CLOCK:
        return None
    if not (int(hours.min()) >= 0 and int(hours.max()) <= 23):  # type: ignore[arg-type]
        return None
    ids = pl.repeat(0, len(at), eager=True) if users is None else users
    shift = (hours.cast(pl.Int64) - at.dt.hour().cast(pl.Int64)) % 24
    found = pl.DataFrame({"user": ids, "hour": at.dt.truncate("1h"), "by": shift}).drop_nulls()
    # rows of one hour are one, as what a request has for all its rows would seem to be a shift
    found = found.unique(["user", "hour"], keep="first", maintain_order=True).sort("user", "hour")
    if len(found) < FEW:
        return None
    shares = found["by"].value_counts(normalize=True).sort("proportion", "by", descending=[True, False])
    most, part = int(shares["by"][0]), float(shares["proportion"][0])
    again = found.filter(pl.col("user") == pl.col("user").shift(1))["user"].len() if users is not None else 0
    same = found.select(((pl.col("by") == pl.col("by").shift(1)) & (pl.col("user") == pl.col("user").shift(1))).sum())
    is_of_each = again >= FEW and same.item() >= _OF_EACH * again
    if most == 0 or not (part >= _OF_ONE or is_of_each):
        return None
    ahead = [(int(by) + 11) % 24 - 11 for by in shares.filter(pl.col("proportion") >= _SOME)["by"] if by]
    what = f"{hours.name} is its hour {'plus' if ahead[0] > 0 else 'less'} {abs(ahead[0])} in {part:.0%} of rows"
    more = "" if part >= _OF_ONE else ", and in the others by as many hours as each user always has"
    return _Said(what + more, 60 * ahead[0], True, tuple(60 * a for a in ahead))


def _asleep(at: pl.Series) -> _Said | None:
    """What the hour around which fewest rows come says, as it is night then where the users live; None where no hour
    has far fewer than others, or not all have some."""
    rows = np.bincount(at.dt.hour().drop_nulls().to_numpy(), minlength=24)
    near = (rows + np.roll(rows, 1) + np.roll(rows, -1)) / 3
    if (rows > 0).sum() < _HOURS or near.min() > _QUIET * rows.mean():
        return None
    hour = int(near.argmin())
    ahead = (_ASLEEP - hour + 11) % 24 - 11
    is_another = abs(ahead) > _NEAR
    where = f"at {_ASLEEP}:00 of UTC{ahead:+d}" if is_another else "of local times"
    return _Said(f"fewest rows come at {hour}:00, as {where}", 60 * ahead, is_another, by_sleep=True)


def _midnight(at: pl.Series) -> int | None:
    """How many minutes a zone is ahead whose midnight is when the log begins and ends, as one of whole days; None where
    it does not begin and end at the same time of day, within minutes of a half hour."""
    first, last = (t.hour * 60 + t.minute for t in (at.min(), at.max()))  # type: ignore[union-attr]
    begin = round(first / _HALF_HOUR) * _HALF_HOUR
    around = [(x - begin + _DAY // 2) % _DAY - _DAY // 2 for x in (first, last)]
    return None if max(map(abs, around)) > _MINUTES else (_DAY // 2 - begin) % _DAY - _DAY // 2
