"""Numbers as text, as people and databases write them."""

from __future__ import annotations

import re

import polars as pl


def ungrouped(values: pl.Series, decimal: str, thousands: str) -> pl.Series:
    """Texts of numbers without what stands between their thousands: 1.494,90 as 1494,90; null where it does not stand
    between groups of three digits before the decimals."""
    if values.dtype != pl.String:
        return values
    if thousands == " ":
        values = values.str.strip_chars().str.replace(r"\s*%$", "").str.replace_all("[\u00a0\u202f\u2009]", " ")
    grouped = values.str.contains(thousands, literal=True)
    if not grouped.any():
        return values
    fits = values.str.contains(grouped_number(decimal, thousands))
    return values.set(grouped & ~fits, None).str.replace_all(thousands, "", literal=True)


def grouped_number(decimal: str, thousands: str, decimals: str = "?") -> str:
    """The regular expression of a number with signs between its thousands.

    Args:
        decimals: how often there are some, in it.
    """
    sign, point = re.escape(thousands), re.escape(decimal)
    return rf"^\s*-?[0-9]{{1,3}}(?:{sign}[0-9]{{3}})+(?:{point}[0-9]+){decimals}\s*%?\s*$"


def floats(values: pl.Series, decimal: str = ".", thousands: str | None = None) -> pl.Series:
    """Texts as numbers, null where one is none. A % behind a number is left out: 91.0% is 91, not .91."""
    if values.dtype != pl.String:
        return values.cast(pl.Float64, strict=False)
    if thousands is not None:
        values = ungrouped(values, decimal, thousands)
    if decimal != ".":
        values = values.set(values.str.contains(".", literal=True), None).str.replace(decimal, ".", literal=True)
    out = values.cast(pl.Float64, strict=False)
    if out.null_count() > values.null_count():
        out = out.fill_null(values.str.replace(r"\s*%$", "").cast(pl.Float64, strict=False))
    return out
