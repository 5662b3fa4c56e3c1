"""The columns of a stored profile, and a counter as it is some days later.

A counter of an event with half-life h is c(N) = c(M) * 0.5 ** ((N - M) / h) + the events of day N, where M is the day
on which the user or item was last seen before. It is stored as of the last day seen, so a row without events stays as
it is.
"""

from __future__ import annotations

import datetime as dt

import polars as pl

ID = "id"
FIRST, LAST = "first_seen", "last_seen"
COUNT, HISTORY = "count.", "history."
TODAY = "today."
"""begins the names of what a day adds"""
Dtype = pl.DataType | type[pl.DataType]


def count_column(event: str, half_life_days: float | None) -> str:
    """`count.click.7`; `count.click.all` without a half-life."""
    return f"{COUNT}{event}.{'all' if half_life_days is None else repr(float(half_life_days)).removesuffix('.0')}"


def history_column(event: str) -> str:
    return f"{HISTORY}{event}"


def time_column(event: str) -> str:
    """Times of a history's events: see `today.instants`."""
    return f"time.{event}"


def decayed(event: str, half_life_days: float | None, as_of: dt.date) -> pl.Expr:
    """float64: a stored counter as it is when day `as_of` ends, on or after the last day seen.

    Half-life 0: the events of `as_of` alone. None: all count the same.
    """
    count = pl.col(count_column(event, half_life_days)).cast(pl.Float64)
    days = days_since(LAST, as_of)
    if half_life_days is None:
        return count
    if half_life_days == 0:
        return pl.when(days == 0).then(count).otherwise(0.0)
    return count * pl.lit(0.5).pow(days / half_life_days)


def days_since(column: str, as_of: dt.date) -> pl.Expr:
    return (pl.lit(as_of) - pl.col(column)).dt.total_days()
