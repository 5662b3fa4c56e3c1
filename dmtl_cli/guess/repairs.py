"""Why rows of a log could not be read as they are: what the config's keys for such rows are written with."""

from __future__ import annotations

import polars as pl

from dmtl_cli.data.log.types import WORDS, clock_seconds, floats
from dmtl_cli.guess.broken import Broken
from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.values import is_flags, share

_FEW = 5  # values that a message lists


def unknown_clicks(click: pl.Series) -> str | None:
    """What nulls a column of clicks has (`null_click`); None where it has none, or where it is a date or timestamp, of
    which a null is no click without a word."""
    if not click.null_count() or (not click.dtype.is_numeric() and click.dtype != pl.Boolean):
        return None
    return f"{_percent(share(click.is_null()))} of {click.name} is empty: no click{'s?' if is_flags(click) else ''}"


def invalid_rows(frame: pl.DataFrame, roles: Roles, broken: Broken | None) -> str | None:
    """Which rows cannot be read (`invalid_rows`): lines that do not parse, rows without a user, item or time, or with a
    duration below 0."""
    why = [broken.why] if broken and broken.why else []
    for guess in (roles.user, roles.item, roles.time):
        if guess is None:
            continue
        s = frame[guess.column]
        if empty := share(s.is_null() | (s == "") if s.dtype == pl.String else s.is_null()):
            why.append(f"{_percent(empty)} of rows have no {guess.column}")
    if (x := _durations(frame, roles)) is not None and (below := share(x < 0)):
        why.append(f"{_percent(below)} of clicks have a {x.name} below 0")
    return "; ".join(why) or None


def unfit(role: str, s: pl.Series) -> tuple[str, str]:
    """What is said of a column that cannot have the role that it is given, with a value that does not fit, and what
    would help."""
    flags, known = "0 and 1, or yes and no as one pair (J and N, oui and non)", s.drop_nulls()
    needed = {"click": f"{flags}, or of times", "duration": "numbers, or 3:45", "conversion": flags}.get(role, "ids")
    bad, hint = known, "name another"
    if known.dtype == pl.String and needed != "ids":
        fits = clock_seconds(known).is_not_null() | floats(known).is_not_null() if role == "duration" else _words(known)
        bad = known if fits.all() else known.filter(~fits)
        values = known.unique(maintain_order=True).head(_FEW + 1).to_list()
        only = "only " * (len(values) == 1)
        have = (
            only + ", ".join(map(_short, values))
            if len(values) <= _FEW
            else f"{len(bad):,} such of {len(known):,} values"
        )
        hint = f"it has {have}: write {'seconds' if role == 'duration' else '0 and 1'} in their place, or name another"
    elif known.dtype.is_numeric() and role in ("click", "conversion"):
        bad = known.filter(~known.cast(pl.Float64).is_in([0.0, 1.0]))
    kind = f"{s.dtype}, such as {_short(str(bad.head(1).to_list()[0]))}" if len(bad) else "empty"
    return f"--{role}: expected a column of {needed}, {s.name} is {kind}", hint


def _words(known: pl.Series) -> pl.Series:
    return known.str.to_lowercase().is_in(WORDS)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _durations(frame: pl.DataFrame, roles: Roles) -> pl.Series | None:
    """Those of clicks."""
    if roles.duration is None:
        return None
    x, clicked = frame[roles.duration.column].cast(pl.Float64).fill_nan(None), roles.clicked(frame)
    return (x if clicked is None else x.filter(clicked)).drop_nulls()


def _percent(part: float) -> str:
    return f"{part:.0%}" if part >= 0.01 else f"{part:.2%}"
