"""Why rows of a log could not be read as they are: what the config's keys for such rows are written with."""

from __future__ import annotations

import polars as pl

from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.values import is_flags, share

HOUR = 3600
"""seconds: few videos, and no page, are read for longer"""
_FEW, _MUCH = 0.02, 0.25  # of the clicks are longer, and of all time they hold


def unknown_clicks(click: pl.Series) -> str | None:
    """What nulls a column of clicks has (`null_click`); None where it has none, or is the time of the click."""
    if not is_flags(click) or not click.null_count():
        return None
    return f"{_percent(share(click.is_null()))} of {click.name} is empty: no clicks?"


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


def long_durations(frame: pl.DataFrame, roles: Roles) -> str | None:
    """What few clicks of more than HOUR hold (`max_duration`); None where it is not much of all time."""
    x = _durations(frame, roles)
    if x is None or roles.long_read is not None:
        return None
    seconds = (x.filter(x > 0) / (1000 if roles.unit == "ms" else 1)).to_numpy()
    long = seconds[seconds > HOUR]
    if not len(long) or len(long) > _FEW * len(seconds) or long.sum() < _MUCH * seconds.sum():
        return None
    held = f"hold {long.sum() / seconds.sum():.0%} of all time: left open?"
    return f"{_percent(len(long) / len(seconds))} of clicks last longer and {held}"


def _durations(frame: pl.DataFrame, roles: Roles) -> pl.Series | None:
    """Those of clicks."""
    if roles.duration is None:
        return None
    x, clicked = frame[roles.duration.column].cast(pl.Float64).fill_nan(None), roles.clicked(frame)
    return (x if clicked is None else x.filter(clicked)).drop_nulls()


def _percent(part: float) -> str:
    return f"{part:.0%}" if part >= 0.01 else f"{part:.2%}"
