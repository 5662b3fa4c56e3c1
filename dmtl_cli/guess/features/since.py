"""Dates of users since which they are there, or live, as numbers that a tower reads."""

from __future__ import annotations

import polars as pl

from dmtl_cli.guess.columns.sql import quoted, sql_name
from dmtl_cli.guess.columns.values import FEW, free, local_days, share

_BEFORE = 0.95
"""share of the users whose date is no later than their first row, from which on it is one since when they are there"""
_SECONDS = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
"""how many of a unit are a day"""


def as_days(s: pl.Series, unit: str, written: str | None, firsts: pl.Series) -> str | None:
    """What to write for a date of users to be a number of days, which is as good as the age of an account: from one
    user to the other both differ by as much. None of dates that are later than a user's first row, as a last visit is,
    and of texts that no expression reads.

    Args:
        s: [users] values of a column of their table.
        unit: see `values.time_unit`.
        written: the type that reads its texts, of a CSV or JSON; None: none is needed.
        firsts: [users] the day of each one's first row, null without one.
    """
    rows = pl.DataFrame({"day": local_days(s, unit, "UTC"), "first": firsts}).drop_nulls()
    number = _days(sql_name(s.name), unit, written)
    if number is None or len(rows) < FEW or share(rows["day"] <= rows["first"]) < _BEFORE:
        return None
    name = free(f"{s.name}_day", [s.name])
    feature = f"{{name: {name}, side: user, kind: numeric, num_buckets: 20}}"
    return f"as a number of days: data.users.computed: {{{name}: {quoted(number)}}} and {feature}"


def _days(name: str, unit: str, written: str | None) -> str | None:
    kind, _, form = (written or "").partition(":")
    if unit in _SECONDS:
        return f"CAST({name} AS DOUBLE) / {_SECONDS[unit]}"
    if form and "%z" not in form:
        at = f"STRPTIME({name}, '{form}')" if kind == "datetime" else f"CAST(DATE({name}, '{form}') AS TIMESTAMP)"
    elif unit in ("day", "text"):
        at = f"CAST(DATE(SUBSTR({name}, 1, 10), '%Y-%m-%d') AS TIMESTAMP)"
    elif unit == "yyyymmdd":
        at = f"CAST(DATE(CAST({name} AS VARCHAR), '%Y%m%d') AS TIMESTAMP)"
    elif not form:
        at = f"CAST({name} AS TIMESTAMP)"
    else:
        return None
    return f"EXTRACT(epoch FROM {at}) / 86400"
