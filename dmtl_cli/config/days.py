"""Days as the command line and the folders write them."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import suppress
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from dmtl_cli.config.errors import Exit, UserError

EARLIEST = dt.date(1900, 1, 1)
"""a day before it is a writer's mistake: none is accepted"""


@dataclass(frozen=True)
class Calendar:
    """Which day an instant is of.

    Args:
        timezone: in which days begin and end; None: not known.
        is_local: whether times that name no zone are of its clock; else they are of UTC.
    """

    timezone: str | None = None
    is_local: bool = False


@dataclass(frozen=True)
class Moment:
    """When it is asked what is there: an instant, and the clock of data.timezone then."""

    instant: dt.datetime
    """in UTC"""
    clock: dt.datetime
    """without a zone"""

    @property
    def day(self) -> dt.date:
        return self.clock.date()

    @staticmethod
    def at(instant: dt.datetime, timezone: str | None) -> Moment:
        """An instant with a zone. Without a timezone days are of UTC."""
        instant = instant.astimezone(dt.UTC)
        return Moment(instant, instant.astimezone(ZoneInfo(timezone or "UTC")).replace(tzinfo=None))

    @staticmethod
    def begin(day: dt.date, timezone: str | None) -> Moment:
        """The midnight that begins a day."""
        midnight = dt.datetime.combine(day, dt.time())
        return Moment(midnight.replace(tzinfo=ZoneInfo(timezone or "UTC")).astimezone(dt.UTC), midnight)


def parse_moment(text: str, timezone: str | None, where: str) -> Moment:
    """`now`, or a time until now as `2026-01-31T10:00`, of data.timezone where it names no zone. Raises UserError
    (usage)."""
    now = Moment.at(dt.datetime.now(dt.UTC), timezone)
    if text == "now":
        return now
    with suppress(ValueError, OverflowError):
        time = dt.datetime.fromisoformat(text if len(text) > len("2026-01-31") else "")
        found = Moment.at(time if time.tzinfo else time.replace(tzinfo=ZoneInfo(timezone or "UTC")), timezone)
        if found.day >= EARLIEST and found.instant <= now.instant:
            return found
    what = f"{where}: expected now, or a time until now as 2026-01-31T10:00, from {EARLIEST} on, got {text!r}"
    raise UserError(what, code=Exit.USAGE)


def parse_day(text: str, where: str = "--day") -> dt.date:
    """`YYYY-MM-DD` -> date. Raises UserError (usage) for anything else, and for a day before `EARLIEST`."""
    day = _day(text, r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
    if day is None:
        raise UserError(f"{where}: expected a day as YYYY-MM-DD, from {EARLIEST} on, got {text!r}", code=Exit.USAGE)
    return day


def folder_day(text: str) -> dt.date | None:
    """The day a partition folder names: `2026-01-31` or `20260131`; None for any other text."""
    return _day(text, r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}")


def _day(text: str, form: str) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(text) if re.fullmatch(form, text) else None
    except ValueError:
        return None
    return day if day and day >= EARLIEST else None


def before(day: dt.date, days: int = 1) -> dt.date:
    """The day so many days before, or after where `days` is negative. Raises UserError (usage): a calendar has none."""
    try:
        return day - dt.timedelta(days=days)
    except OverflowError:
        raise UserError(f"day {day}: expected one with {abs(days)} more beside it", code=Exit.USAGE) from None


def window(last: dt.date, days: int) -> list[dt.date]:
    """The `days` days that end at `last`, oldest first."""
    return [before(last, k) for k in range(days - 1, -1, -1)]


def between(first: dt.date, last: dt.date) -> list[dt.date]:
    """Every day from `first` to `last`, both included."""
    return window(last, (last - first).days + 1)
