"""What kind of feature the values of a column make, or why they make none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.listed import lists_in_text
from dmtl_cli.guess.types import formats_of
from dmtl_cli.guess.values import FEW, decimals, has_long_tail, mean, share, span, time_unit, with_units, within

SEPARATORS = (" | ", "|", "; ", ";", ", ", ",")
_EMPTY, _OWN = 0.95, 0.9
_ALONE = 0.95  # of the pieces of texts are whole texts elsewhere
ITEMS = 0.2
"""share of the values of lists that are items, where they are histories"""
_FEW_CODES, _LONGEST, _FEW = 50, 50, 30
_EACH, _FILLED, _SMOOTH, _EDGE = 5, 0.5, 0.6, 0.05
"""of numbers that are spread like a measure: rows a value, share of the numbers between least and greatest, correlation
of the counts of neighbours, and how far from the ends the most frequent one is"""
_DAYS = (
    r"^(?:[12][0-9]{3}[-/.年][0-9]{1,2}[-/.月][0-9]{1,2}日?|[0-3]?[0-9][-/.][0-3]?[0-9][-/.][12][0-9]{3}"
    r"|[0-3][0-9][-/.][0-1][0-9][-/.][0-9]{2}|[0-3]?[0-9]\.? +\p{L}{3,9}\.? +[12][0-9]{3}"
    r"|20[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01]))(?P<clock>[T ,]+[0-9]{1,2}:[0-9]{2}.*)?$"
)
"""days as text, alone or before a clock"""
_CLOCK = r"[0-9]:[0-9]{2}"
_DATED = 0.95  # of the texts are such


def refusal(s: pl.Series, own: bool, is_time: bool) -> str | None:
    """Why a column is no feature."""
    c, known = s.name, s.drop_nulls()
    if len(known) < (1 - _EMPTY) * len(s) or not len(known):
        return f"{1 - len(known) / max(1, len(s)):.0%} of it is empty"
    if known.dtype.is_nested():
        return None if known.list.len().max() and len(values_in(s)) else "all its lists are empty"
    if known.n_unique() == 1 and not s.null_count():
        return "one value alone"
    if (written := lists_in_text(s)) is not None:
        return written
    if decimals(s) is not None:
        return "numbers with a decimal comma are text: write them with a point where they are to be a feature"
    if s.dtype.is_temporal() or is_time:
        return "a time: a tower cannot read it (profiles know the age of items)"
    text = s.dtype == pl.String
    if text and (dated := _as_days(known)) is not None:
        return dated
    own_value = (text or s.dtype.is_integer()) and len(known) > _FEW and known.n_unique() > _OWN * len(known)
    if own_value and not words.says(c, words.NUMBER) and not (text and separator_in(c, known)):
        return f"nearly a value of its own for every {'id' if own else 'row'}"
    return None


def kind_of(c: str, s: pl.Series, items: pl.Series | None) -> tuple[str, dict[str, Any], str]:
    """Kind, options and reason of a column; kind "" where there is none."""
    known = s.drop_nulls()
    if s.dtype == pl.List:
        return _of_lists(s, items)
    if s.dtype == pl.String:
        if (measured := with_units(known)) is not None:
            return (
                "categorical",
                {},
                f"{measured}, each a class of its own: write the number alone for a numeric feature",
            )
        if (separator := separator_in(c, known)) is not None:
            pieces = known.str.split(separator)
            kind, options, why = _of_lists(pieces, items)
            return kind, {"separator": separator, **options}, f"texts cut at {separator!r}: {why}"
        whole = "; lists as text, each taken as one value: write them as lists" if _is_bracketed(known) else ""
        return "categorical", {}, f"{known.n_unique():,} texts{whole}"
    if s.dtype == pl.Boolean:
        return "categorical", {}, "yes or no"
    if s.dtype.is_numeric():
        return _of_numbers(c, known.cast(pl.Float64), whole=s.dtype.is_integer(), codes=not s.dtype.is_decimal())
    return "", {}, f"of type {s.dtype}, which no kind of feature reads"


def _of_lists(s: pl.Series, items: pl.Series | None) -> tuple[str, dict[str, Any], str]:
    lengths, inner = s.list.len(), values_in(s).drop_nulls()
    if inner.dtype.is_float():
        least, most = (int(n) for n in span(lengths))
        if least == most >= 2:
            return "vector", {"dim": most}, f"lists of {most} numbers each"
        return "", {}, "lists of numbers of several lengths, which no kind of feature reads"
    if not (inner.dtype.is_integer() or inner.dtype in (pl.String, pl.Boolean)):
        return "", {}, f"lists of {inner.dtype}, which no kind of feature reads"
    long = int(lengths.quantile(0.95) or 1)
    options: dict[str, Any] = {"max_length": min(_LONGEST, max(2, long))}
    if items is not None and (there := within(inner, items)) >= ITEMS:
        return "sequence", {"embedding_name": ":item", **options}, f"lists of items ({there:.0%} are in the sample)"
    return "sequence", options, f"lists of {inner.n_unique():,} values, {mean(lengths):.1f} on average"


def has_days(s: pl.Series) -> bool:
    """Whether texts are days or times as people write them."""
    return s.dtype == pl.String and share(s.drop_nulls().str.contains(_DAYS)) >= _DATED


def times_unread(frame: pl.DataFrame, *, text: bool, days: bool = False) -> str | None:
    """The first column of texts of times that are not written as dmtl reads them, with what to write; None where there
    is none.

    Args:
        text: whether they are of CSV or JSON, where a format may be named.
        days: whether days without a clock count too.
    """
    for c in frame.columns:
        known = frame[c].drop_nulls()
        both = formats_of(known) if text else []
        if len(both) > 1 and (days or both[0].startswith("datetime")):
            seen = f"{c} has {'times' if both[0].startswith('datetime') else 'days'} such as {known[0]!r}"
            which = "no value above 12 tells whether the day or the month is first"
            return f"{seen}, and {which}: write {c}: {both[0]}, or {both[1]}, in data.types and name it"
        if has_days(known) and share(known.str.contains(_CLOCK)) >= _DATED and time_unit(known) is None:
            return f"{c} has times such as {known[0]!r}: write 2026-01-31 09:15:00 where they are to be read"
    return None


def _as_days(known: pl.Series) -> str | None:
    """What texts of days or times are, and what to write in their place; None where they are none."""
    if not has_days(known):
        return None
    clock = share(known.str.contains(_CLOCK)) > 0.5
    what = f"texts of {'times' if clock else 'days'} such as {known[0]!r}"
    return f"{what}: to be a feature it must be a number, such as the days from then to the day of the row"


def _of_numbers(c: str, x: pl.Series, *, whole: bool, codes: bool) -> tuple[str, dict[str, Any], str]:
    distinct, (low, high) = x.n_unique(), span(x)
    whole = whole or bool((x.fill_nan(0) % 1 == 0).all())
    counted, few = words.says(c, words.NUMBER), distinct <= _FEW_CODES
    spread = "" if counted or few or words.says(c, words.CODE) or not is_measured(x) else ", spread as a measure is"
    if codes and whole and ((few and not words.says(c, words.SKEWED)) or not (counted or spread)):
        return "categorical", {}, f"{distinct:,} whole numbers, taken as codes"
    skewed = low >= 0 and words.says(c, words.SKEWED) and has_long_tail(x)
    options: dict[str, Any] = {"transform": "log1p"} if skewed else {"num_buckets": 20}
    tail = ", with a long tail" if skewed else ""
    return "numeric", options, f"numbers from {low:,.6g} to {high:,.6g}{tail}{spread}"


def is_measured(x: pl.Series) -> bool:
    """Whether whole numbers are spread as a measure is and codes are not: most numbers of the range are there, each
    about as often as its neighbours (rank correlation of .6), and the most frequent ones are not at an end of it, as
    those of codes that were given by how frequent they are."""
    known = x.filter(x.is_finite())
    low, size = span(known)[0], span(known)[1] - span(known)[0] + 1
    if len(known) < _EACH * _FILLED * size:
        return False
    counts = np.bincount((known - low).cast(pl.Int64).to_numpy())
    if (counts > 0).mean() < _FILLED or len(known) < _EACH * (counts > 0).sum():
        return False
    near = np.convolve(counts, np.ones(3), "same")
    edge = _EDGE * size
    ranks = pl.DataFrame({"a": counts[:-1], "b": counts[1:]})
    found = ranks.select(pl.corr("a", "b", method="spearman")).item()
    return bool(found >= _SMOOTH and edge <= near.argmax() < size - edge)


def _is_bracketed(s: pl.Series) -> bool:
    return bool(s.head(100).str.contains(r"^\[.*\]$").all())


def separator_in(c: str, s: pl.Series) -> str | None:
    """What cuts texts into pieces that repeat; None where they are not lists."""
    if c.endswith(":token_seq"):  # RecBole's
        return " "
    for separator in SEPARATORS:
        if share(s.str.contains(separator, literal=True)) >= 0.2:
            pieces = s.head(10_000).str.split(separator).explode()
            plain = re.sub(r"\W", "", "".join(pieces.head(100).drop_nulls()))
            repeat = pieces.n_unique() <= min(0.5 * len(pieces), s.head(10_000).n_unique())
            if plain and repeat and share(pieces.str.contains(r"^ |^[(\[]|[)\]]$")) < 0.2:
                return separator
        if _are_alone_elsewhere(s, separator):
            return separator
    return None


def _are_alone_elsewhere(s: pl.Series, separator: str) -> bool:
    """Whether the pieces of the few texts that a separator cuts are whole texts of other rows, as those of
    `phone|desktop` are, and those of `Paris, France` are not."""
    cut = s.str.contains(separator, literal=True).fill_null(False)
    pieces = s.filter(cut).str.split(separator).explode()
    if cut.sum() < FEW or pieces.n_unique() < 2:
        return False
    return share(pieces.is_in(s.filter(~cut).unique().implode())) >= _ALONE


def values_in(s: pl.Series) -> pl.Series:
    """The values of lists."""
    return s.drop_nulls().explode(empty_as_null=False, keep_nulls=False)
