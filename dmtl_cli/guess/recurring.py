"""What the days of an event table's rows say of a column: codes that never come back, and values of an item that change
from day to day."""

from __future__ import annotations

import datetime as dt

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.layout import Table
from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.values import FEW, is_constant, local_days, share

_SEEN = 0.05  # of the rows of other days have a code of the day with most rows, or of another one
_ROWS = 100  # of other days than that with most, below which nothing is concluded
_OF_ONE = 0.98  # of the rows of a code have one user
_TIMES = 1.5  # as many codes as users


def days_of_rows(events: Table, roles: Roles, zone: str) -> pl.Series | None:
    """The day of each row of the sample, by names of files or the rows' times; None where neither tells it."""
    if events.pieces and sum(rows for _, _, rows in events.pieces) == len(events.frame):
        days: list[dt.date] = [day for day, _, rows in reversed(events.pieces) for _ in range(rows)]
        return pl.Series("day", days, dtype=pl.Date)
    if roles.time is None or roles.time_unit is None or roles.time.column not in events.frame.columns:
        return None
    return local_days(events.frame[roles.time.column], roles.time_unit, zone)


def never_back(s: pl.Series, days: pl.Series | None, users: pl.Series | None) -> str | None:
    """Why codes are those of requests, sessions or rows, whatever they are called; None where they may be a feature.

    Such codes do not come back on another day. Of rows of one day, they are told by their name or because each has one
    user, of whom many have several.

    Args:
        days: of the rows, as users are; null where unknown.
    """
    if s.n_unique() <= FEW:
        return None
    seen = pl.DataFrame({"v": s, "d": days}).drop_nulls() if days is not None else pl.DataFrame({"v": [], "d": []})
    most: pl.Series = seen["d"].mode().sort().head(1)
    other = seen.filter(pl.col("d") != most[0]) if len(most) else seen
    if len(other) >= _ROWS:
        on = seen.group_by("v").agg(pl.col("d").n_unique() > 1)
        back = share(other.join(on.rename({"d": "back"}), on="v", how="left")["back"])
        if back >= _SEEN:
            return None
        few = f"{back:.0%} of them are" if back else "none of them is"
        return f"{s.n_unique():,} codes, {few} there on another day: a request's, session's or row's"
    if words.by_name(s.name, words.REQUEST):
        return "named like a request or session"
    if users is None or s.n_unique() < _TIMES * users.n_unique():
        return None
    of_one = is_constant(pl.DataFrame({"v": s, "u": users}), "v", "u", _OF_ONE)
    return "codes of one user each, of whom many have several: a request's or session's" if of_one else None


def is_of_day(frame: pl.DataFrame, item: str, column: str, days: pl.Series | None) -> bool:
    """Whether a column has one value an item and day, in nearly all rows of the day with most rows."""
    if days is None or not days.count():
        return False
    most = days.drop_nulls().mode().sort()
    return is_constant(frame.filter((days == most[0]).fill_null(False)), item, column)
