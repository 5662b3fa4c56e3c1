"""Days as the command line and the folders write them."""

import datetime as dt
import re
from dataclasses import dataclass

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
