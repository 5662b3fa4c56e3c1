"""Texts that are numbers with a unit, or with several: what they are, and how they become numbers."""

from __future__ import annotations

import polars as pl

from dmtl_cli.guess.columns.sql import quoted, sql_name
from dmtl_cli.guess.columns.values import FEW, share

_NUMBER = r"[+-]?[0-9](?:[0-9.,' \u00a0\u202f]*[0-9])?"
_UNIT = r"(?:\s*\p{Sc}|\s*%|\s*(?:kr|zł|TL|kg|g|km|m|cm|mm|l|ml|min|h|s|ms|px|MB|GB)\.?|\s+\p{L}{1,5}\.?)"
_WITH_UNIT = rf"^\s*(?:(?:[+-]?\p{{Sc}}|[A-Z]{{3}}\s)\s*{_NUMBER}{_UNIT}?|{_NUMBER}{_UNIT})\s*$"
"""a currency before a number, or a unit behind it"""
_ONE, _LETTERS = r"[0-9]+\s*\p{L}+\.?", r"\p{L}+"
_SEVERAL, _SOME = rf"^\s*{_ONE}(?:\s*{_ONE})+\s*$", rf"^\s*{_ONE}(?:\s*{_ONE})*\s*$"
"""numbers with the letters of a unit each, as 1h 20m"""
_UNITS = 6  # words of units that a column has, with those of the plural
_MEASURED = 0.95  # of the texts are such
_PAIRED = 0.1  # of them have several numbers
_SIXTIETHS = range(24, 60)
"""the largest number of minutes beside hours, or of seconds beside minutes; that of hours beside days is smaller"""


def with_units(s: pl.Series) -> str | None:
    """What texts such as € 36.62, 1.234,50 kr, 12 kg or 1 Std. 20 Min. are, with one of them; None where they are no
    numbers with units, or so few that they are classes."""
    known = s.drop_nulls() if s.dtype == pl.String else s.head(0)
    if known.n_unique() <= FEW:
        return None
    form = next((f for f in (_WITH_UNIT, _SOME) if share(known.str.contains(f)) >= _MEASURED), None)
    if form is None or (form == _SOME and not _are_measures(known)):
        return None
    example = known.filter(known.str.contains(_SEVERAL if form == _SOME else form))[0]
    what = "numbers with units" if form == _SOME else "numbers with a unit"
    return f"{known.n_unique():,} texts such as {example!r} look like {what} and are read as text"


def _are_measures(known: pl.Series) -> bool:
    """Whether several texts have several numbers, and few words are the units of all."""
    units = known.str.extract_all(_LETTERS).explode().n_unique()
    return units <= _UNITS and share(known.str.contains(_SEVERAL)) >= _PAIRED


def as_number(s: pl.Series) -> str | None:
    """The computed column that makes one number of texts such as 1h 20m, in the smaller of two units of which one has
    60 of the other, tried on these texts; None where they are others."""
    known = s.drop_nulls() if s.dtype == pl.String else s.head(0)
    if with_units(known) is None or known.str.contains(_SOME).not_().any():
        return None
    units = known.str.extract_all(_LETTERS).list.join(" ").unique().to_list()
    both = [text.split(" ") for text in units if " " in text]
    if len(both) != 1 or len(both[0]) != 2 or not {*units} <= {*both[0], " ".join(both[0])}:
        return None
    large, small = both[0]
    parts = [
        known.str.extract(rf"([0-9]+)\s*{unit}(?:\P{{L}}|$)").cast(pl.Int64, strict=False) for unit in (large, small)
    ]
    if parts[1].filter(parts[0].is_not_null()).max() not in _SIXTIETHS:
        return None
    name = sql_name(s.name)
    first = f"REGEXP_REPLACE({name}, '[^0-9]*{large}.*$', '')"
    second = f"REGEXP_REPLACE(REGEXP_REPLACE({name}, '^.*{large}[^0-9]*', ''), '[^0-9]+$', '')"
    numbers = [f"COALESCE(TRY_CAST({part} AS DOUBLE), 0)" for part in (first, second)]
    line = f"CASE WHEN {name} IS NOT NULL THEN 60 * {numbers[0]} + {numbers[1]} END"
    made = s.to_frame().select(pl.sql_expr(line).alias("made"))["made"]
    if not made.drop_nulls().equals((60 * parts[0].fill_null(0) + parts[1].fill_null(0)).cast(pl.Float64)):
        return None
    return f"computed: {{{quoted(f'{s.name}_{small}')}: {quoted(line)}}} (60 {small} to 1 {large})"
