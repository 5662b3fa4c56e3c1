"""What makes numbers of texts with a unit, or with several, and of dates of users: expressions of `computed`."""

from __future__ import annotations

import polars as pl

from dmtl_cli.guess.columns.sql import quoted, sql_name
from dmtl_cli.guess.columns.values import FEW, free, local_days, share

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
_BEFORE = 0.95
"""share of the users whose date is no later than their first row, from which on it is one since when they are there"""
_SECONDS = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
"""how many of a unit are a day"""


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
