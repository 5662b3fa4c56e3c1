"""Why rows of a log could not be read as they are: what the config's keys for such rows are written with."""

from __future__ import annotations

import polars as pl

from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.values import is_flags, share


def unknown_clicks(click: pl.Series) -> str | None:
    """What nulls a column of clicks has (`null_click`); None where it has none, or where it is a date or timestamp, of
    which a null is no click without a word."""
    if not click.null_count() or (not click.dtype.is_numeric() and click.dtype != pl.Boolean):
        return None
    return f"{_percent(share(click.is_null()))} of {click.name} is empty: no click{'s?' if is_flags(click) else ''}"


def invalid_rows(frame: pl.DataFrame, roles: Roles) -> str | None:
    """Which rows cannot be read (`invalid_rows`): they have no user, item or time, or a duration below 0."""
    why = []
    for guess in (roles.user, roles.item, roles.time):
        if guess is None:
            continue
        s = frame[guess.column]
        if empty := share(s.is_null() | (s == "") if s.dtype == pl.String else s.is_null()):
            why.append(f"{_percent(empty)} of rows have no {guess.column}")
    if (x := _durations(frame, roles)) is not None and (below := share(x < 0)):
        why.append(f"{_percent(below)} of clicks have a {x.name} below 0")
    return "; ".join(why) or None


def _durations(frame: pl.DataFrame, roles: Roles) -> pl.Series | None:
    """Those of clicks."""
    if roles.duration is None:
        return None
    x, clicked = frame[roles.duration.column].cast(pl.Float64).fill_nan(None), roles.clicked(frame)
    return (x if clicked is None else x.filter(clicked)).drop_nulls()


def _percent(part: float) -> str:
    return f"{part:.0%}" if part >= 0.01 else f"{part:.2%}"
