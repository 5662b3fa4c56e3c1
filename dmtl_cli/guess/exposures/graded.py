"""A label of several grades in one column, as 0 shown, 1 opened, 2 bought, or KEINE REAKTION, GEOEFFNET, ABSCHLUSS:
which rows are clicks, as an SQL expression, and which of them may be good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import sql_column, sql_value
from dmtl_cli.guess.columns.values import is_there, share, span, time_unit
from dmtl_cli.guess.exposures.labels import is_spread

_FEWEST, _MOST = 3, 10  # values of a label
_RARE, _OFTEN = 0.005, 0.5  # of the rows are no plain exposures
_SAME, _STRAY = 0.95, 0.002  # of the rows above the lowest grade have what follows; of the lowest may have it
_HALF = 0.5  # of a grade's rows have what follows a click
_GOOD = 0.02  # of the clicks have a grade that may be the good one


@dataclass(frozen=True)
class Graded:
    """A column of grades, and what tells that some of them are clicks."""

    clicked: str
    """the expression of a click"""
    beside: tuple[str, ...]
    """columns that have a value just where a row is a click"""
    grades: tuple[tuple[str, float], ...]
    """(expression, share of the clicks) of the grades that may be good: of numbers from each one on, the highest first;
    of texts each one, the rarest first"""

    @property
    def why(self) -> str:
        """What tells it."""
        have = "have" if len(self.beside) > 1 else "has"
        return f"grades of a label: {', '.join(self.beside)} {have} a value in its rows alone"


def graded(frame: pl.DataFrame, roles: Roles) -> Graded | None:
    """The column of few values of which one is that of most rows, without which alone other columns have a value: of
    numbers the least one. None where there is none, the click is known, or two columns are so."""
    if roles.user is None or roles.item is None or roles.click is not None or roles.behaviour is not None:
        return None
    if (lasts := roles.duration) is not None and share(is_there(frame[lasts.column])) > _OFTEN:
        return None  # rows without a click have one
    found = [one for c in frame.columns if (one := _graded(frame, c, roles)) is not None]
    return found[0] if len(found) == 1 else None


def _graded(frame: pl.DataFrame, c: str, roles: Roles) -> Graded | None:
    s = frame[c]
    known, whole = s.drop_nulls(), s.dtype.is_integer()
    named = {g.column for g in roles.named.values()}
    if c in named or not (whole or s.dtype == pl.String) or not _FEWEST <= known.n_unique() <= _MOST:
        return None
    lowest = known.mode().sort()[0]
    above = (s != lowest).fill_null(False)
    if not _RARE <= share(above) <= _OFTEN or (whole and lowest != span(known)[0]) or roles.owns(frame, c):
        return None
    left = [d for d in frame.columns if d != c and d not in roles.before]
    there = {d: x for d in left if (x := _there(frame[d])) is not None and share(x.filter(above)) > _HALF}
    for values in _clicks(s, lowest, there):
        clicked = s.is_in(values)
        beside = [d for d, x in there.items() if _is_of(x, clicked) and not roles.owns(frame, d)]
        if beside:
            return _made(s, values, tuple(beside[:3]), whole=whole, every=len(values) == known.n_unique() - 1)
    return None


def _clicks(s: pl.Series, lowest: object, there: Mapping[str, pl.Series]) -> list[list[Any]]:
    """The values that may be clicks, the rarest first: all but the lowest, then those of which most rows have what is
    beside."""
    counts = s.drop_nulls().value_counts(sort=True, name=":n")
    every = [v for v in counts[s.name].to_list() if v != lowest][::-1]
    found = [every]
    for x in there.values():
        some = [v for v in every if share(x.filter((s == v).fill_null(False))) > _HALF]
        if some and some not in found:
            found.append(some)
    return found


def _made(s: pl.Series, values: list[Any], beside: tuple[str, ...], *, whole: bool, every: bool) -> Graded:
    name, clicked = sql_column(s.name), s.is_in(values)
    if whole and every:
        from_each = sorted(values, reverse=True)
        grades = {f"{name} >= {v}": s >= v for v in from_each}
        click = f"{name} >= {from_each[-1]}"
    else:
        grades = {f"{name} = {sql_value(v)}": s == v for v in values}
        click = f"{name} IN ({', '.join(map(sql_value, values))})"
    shares = ((text, share(rows.fill_null(False).filter(clicked))) for text, rows in grades.items())
    return Graded(click, beside, tuple((text, part) for text, part in shares if _GOOD <= part < 1))


def _there(s: pl.Series) -> pl.Series | None:
    """Where a column has a value; None of one that is neither a time nor spread as lengths of time are."""
    if time_unit(s) is not None:
        return s.is_not_null()
    if not s.dtype.is_numeric() or words.says(s.name, words.RATIO) or words.says(s.name, words.PRICE):
        return None
    there = is_there(s)
    return there if is_spread(s.filter(there)) else None


def _is_of(there: pl.Series, clicked: pl.Series) -> bool:
    return share(there.filter(~clicked.fill_null(False))) <= _STRAY and share(there.filter(clicked)) >= _SAME
