"""Days as the command line and the folders write them."""

import datetime as dt

from dmtl_cli.config.errors import Exit, UserError


def parse_day(text: str, where: str = "--day") -> dt.date:
    """`YYYY-MM-DD` -> date. Raises UserError (usage) for anything else."""
    try:
        if len(text) != 10:
            raise ValueError
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"{where}: expected a day as YYYY-MM-DD, got {text!r}", code=Exit.USAGE) from None


def folder_day(text: str) -> dt.date | None:
    """The day a partition folder names: `2026-01-31` or `20260131`; None for any other text."""
    try:
        return dt.date.fromisoformat(text) if len(text) in (8, 10) else None
    except ValueError:
        return None


def before(day: dt.date, days: int = 1) -> dt.date:
    return day - dt.timedelta(days=days)


def window(last: dt.date, days: int) -> list[dt.date]:
    """The `days` days that end at `last`, oldest first."""
    return [before(last, k) for k in range(days - 1, -1, -1)]


def between(first: dt.date, last: dt.date) -> list[dt.date]:
    """Every day from `first` to `last`, both included."""
    return window(last, (last - first).days + 1)
