"""The time zone of a log's days, as far as its times tell it: by the zone that they name, and by the hour at which
people sleep."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from dmtl_cli.data.log.types import ZONE
from dmtl_cli.guess.values import instants

ANY_ZONE = "write the zone of your users, such as Asia/Shanghai"
"""where times tell none"""
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
    far = f"; {said[0]}: if your users live there, write their zone" if said is not None and said[1] else ""
    if (named := getattr(s.dtype, "time_zone", None)) is not None:
        return named, f"the zone of the timestamps{far if named == 'UTC' else ''}"
    found = s.drop_nulls().str.extract(ZONE).drop_nulls().mode() if unit == "text" else pl.Series([], dtype=pl.String)
    offset = re.fullmatch(r"([+-])([0-9]{2}):?([0-9]{2})?", str(found[0])) if len(found) else None
    if offset and int(offset[2]) and offset[3] in (None, "00"):
        return f"Etc/GMT{'-' if offset[1] == '+' else '+'}{int(offset[2])}", f"the times end in {found[0]}"
    if len(found):
        return "UTC", f"the times end in {found[0]}{far}"
    seen = "" if said is None else f" ({said[0]})"
    if unit in ("timestamp", "text"):
        local = f"times of {s.name} name no zone: if they are local, leave UTC, and days end at their midnight"
        return "UTC", f"{local}; if they are UTC, {ANY_ZONE}{seen}"
    return "UTC", f"{ANY_ZONE}{seen}"


def _evidence(s: pl.Series, unit: str) -> tuple[str, bool] | None:
    """What times say of the zone that days end in, and whether it is another than that of the times; None where they
    are few or say nothing."""
    at = instants(s.drop_nulls(), unit)
    if at is None or len(at) < _ROWS:
        return None
    at = at.dt.convert_time_zone("UTC")
    if (ahead := _midnight(at)) is not None:
        begin = -ahead % _DAY
        ends = f"the rows begin and end at {begin // 60}:{begin % 60:02d}"
        hours, minutes = divmod(abs(ahead), 60)
        zone = f"UTC{'+' if ahead > 0 else '-'}{hours}" + (f":{minutes:02d}" if minutes else "")
        return (
            (f"{ends}, the midnight of {zone}", True) if ahead else (f"{ends}, as whole days of these times do", False)
        )
    quiet = _quietest(at)
    return None if quiet is None else (_as_at(quiet), abs(_ahead(quiet)) > _NEAR)


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
