"""Which whole numbers are measures, as areas, years and sums are, and which are codes: by their names, by how they are
spread, and by the other measures that they go with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.values import has_long_tail, is_measured, short, span
from dmtl_cli.guess.features.inputs import Input
from dmtl_cli.guess.sides import states
from dmtl_cli.guess.sides.late import ranked

Floats = npt.NDArray[np.float64]
_FEW_CODES = 50  # values up to which whole numbers are codes
_FEW_MEASURES = 31  # the same with a name of a measure: hours and days of a month are codes
_FEW_YEARS = 8
_YEARS = (1850, 2010, 2035)  # from, and between which the latest of them is
_ARE_YEARS = ", taken for years"
_TIME = words.any_of("age days day years year month months since alter edad idade âge età leeftijd yaş wiek ålder ikä")
_GOES_WITH = 0.5
"""rank correlation with a measure, from which on numbers may be one: prices of codes go up and down"""
_PARTS, _STEADY = 10, 0.9  # of the range; rank correlation of their medians
_IDS = 300  # of which both are known


def of_numbers(c: str, x: pl.Series, *, whole: bool, codes: bool) -> tuple[str, dict[str, Any], str]:
    """Kind, options and reason of a column of numbers.

    Args:
        x: floats without nulls.
        whole: whether the column is of whole numbers by its type.
        codes: whether it may be codes.
    """
    distinct = x.n_unique()
    whole = whole or bool((x.fill_nan(0) % 1 == 0).all())
    years = whole and _are_years(x) and not words.says(c, words.CODE)
    counted = years or _is_named(c)
    few = not years and distinct <= (_FEW_MEASURES if counted else _FEW_CODES)
    spread = "" if counted or few or words.says(c, words.CODE) or not is_measured(x) else ", spread as a measure is"
    place = words.by_name(c, words.POSITION) > 0 and distinct <= _FEW_CODES
    if codes and whole and (place or (few and not _is_skewed(c)) or not (counted or spread)):
        return "categorical", {}, f"{distinct:,} whole numbers"
    return _numeric(c, x, _ARE_YEARS if years else spread)


def of_lengths(x: pl.Series) -> tuple[str, dict[str, Any], str]:
    """The same of lengths of time, in seconds."""
    tail = has_long_tail(x)
    options: dict[str, Any] = {"transform": "log1p"} if tail else {"num_buckets": 20}
    return "numeric", options, "lengths of time, from {:,.6g} to {:,.6g} seconds".format(*span(x))


def by_company(frame: pl.DataFrame, used: Sequence[Input], side: str | None = None) -> list[Input]:
    """Features, of which codes that go with a measure of the same ids are measures too, as an area goes with a price:
    all along. Codes go with nothing, or by leaps up and down, as those of groups do.

    Args:
        frame: one row an id.
        side: whose features these are, where others are among them.
    """
    mine = [i for i in used if side in (None, i.side)]
    measures = [i.column for i in mine if i.kind == "numeric" and _is_a_measure(frame[i.column])]
    return [(_with_measures(frame, i, measures) if i in mine else None) or i for i in used]


def _is_a_measure(s: pl.Series) -> bool:
    """Whether numbers are a price, a size or a length by their name, and not how long something is there: keys that are
    given one after the other go with that too."""
    said = states.is_measure(s.name) or words.says(s.name, languages.MEASURE) or _has_unit(s.name)
    return s.dtype.is_numeric() and said and not words.says(s.name, _TIME)


def _with_measures(frame: pl.DataFrame, i: Input, measures: Sequence[str]) -> Input | None:
    """A feature of codes as one of numbers; None where it stays what it is."""
    s = frame[i.column]
    if i.kind != "categorical" or not s.dtype.is_numeric() or words.says(i.column, words.CODE):
        return None
    if words.is_named_id(i.column) or s.drop_nulls().n_unique() <= _FEW_CODES:
        return None
    for c in measures:
        both = frame.select(pl.col(i.column).alias("x"), pl.col(c).alias("y")).cast(pl.Float64).drop_nulls()
        if len(both) >= _IDS and abs(r := _goes(both["x"].to_numpy(), both["y"].to_numpy())) >= _GOES_WITH:
            why = f", which go with {c} (rank correlation {short(r)}) as a measure does"
            kind, options, told = _numeric(i.column, s.drop_nulls().cast(pl.Float64), why)
            return replace(i, kind=kind, options=options, why=told)
    return None


def _goes(x: Floats, y: Floats) -> float:
    """Rank correlation; 0 where one goes up and down with the other, by the medians of parts of the range."""
    parts = np.array_split(np.argsort(x, kind="stable"), _PARTS)
    medians = np.array([np.median(y[part]) for part in parts])
    return ranked(x, y) if abs(ranked(np.arange(_PARTS), medians)) >= _STEADY else 0.0


def _numeric(c: str, x: pl.Series, why: str) -> tuple[str, dict[str, Any], str]:
    low, high = span(x)
    skewed = low >= 0 and _is_skewed(c) and has_long_tail(x)
    options: dict[str, Any] = {"transform": "log1p"} if skewed else {"num_buckets": 20}
    tail = ", with a long tail" if skewed else ""
    form = ".0f" if why == _ARE_YEARS else ",.6g"
    return "numeric", options, f"{low:{form}} to {high:{form}}{tail}{why}"


def _is_skewed(c: str) -> bool:
    many = words.says(c, words.SKEWED) or words.says(c, languages.HOW_MANY)
    return many or (words.says_all(c, languages.CURRENCY) and not words.says(c, words.CODE))


def _is_named(c: str) -> bool:
    """Whether a name is that of a number: a count, a length, a size, an amount or a unit."""
    named = any(words.says(c, some) for some in (words.NUMBER, words.SPENT, languages.MEASURE, languages.HOW_MANY))
    return named or _has_unit(c) or words.by_name(c, words.DURATION) > 0


def _has_unit(c: str) -> bool:
    said = words.says_all(c, languages.CURRENCY) or words.says_all(c, languages.UNIT)
    return said and not words.says(c, words.CODE)


def _are_years(x: pl.Series) -> bool:
    """Whether whole numbers are years, the latest of which is not long ago."""
    (low, high), (since, recent, end) = span(x), _YEARS
    return since <= low and recent <= high <= end and x.n_unique() > _FEW_YEARS
