"""Values of which far more rows are clicks, or good clicks, than of the others: more than what was known before an item
was shown tells, as a shelf does that items are put on once they were read; or all of them are, as of what plays by
itself."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, sqrt

import polars as pl

from dmtl_cli.guess.columns.values import is_there
from dmtl_cli.guess.features.rates import CODES, text_codes

ODDS = 8.0
"""times those of other rows, from which on the odds of a click, or of a good one among clicks, are doubted. The first
place of a list has twice those of the others, a place on the page up to four times; what follows a click 14 and more"""
_SIGMAS = 4.0  # standard errors of the logarithm that the odds lie above it
_ROWS = 20  # of a value, and rows of it with the label
_MANY, _ALL = 100, 0.99  # rows of a value of which all are clicks: nobody had a choice
QUESTION = "known before the item was shown? Else name it in data.events.outcomes"


def telling(x: pl.Series, labels: Mapping[str, pl.Series]) -> str | None:
    """The value, of a few, or whether there is one, by which rows have a label far more often than others; None where
    there is none. Odds ratio with 1/2 added to each count (Haldane 1956, Anscombe 1956) and Woolf's standard error.

    Args:
        x: [n] a value each row; null is a value too.
        labels: [n] by what rows with it are called: whether a row has it, null where that is not asked.
    """
    codes = text_codes(x) if x.n_unique() <= CODES or not x.dtype.is_numeric() else _there(x)
    if codes is None:
        return None
    for what, label in labels.items():
        rows = pl.DataFrame({"v": codes, "y": label.cast(pl.Int64)}).drop_nulls("y")
        every, all_ = len(rows), int(rows["y"].sum())
        by = rows.group_by("v").agg(pl.len().cast(pl.Int64).alias("n"), pl.col("y").sum().alias("k"))
        for value, n, k in by.sort("k", "v", descending=[True, False]).iter_rows():
            if k < _ROWS or every - n < _ROWS or _least(k, n, all_ - k, every - n) < ODDS:
                continue
            others = (all_ - k) / (every - n)
            return f"{k / n:.0%} of the {n:,} rows with {value} are {what}, {others:.1%} of the others: {QUESTION}"
    return None


def unchosen(x: pl.Series, clicked: pl.Series) -> tuple[str, int, float] | None:
    """(the value, of a few, all of whose rows are clicks, its rows, the share of clicks of the others) where these are
    not: as of what plays by itself, or is written down as somebody opened it alone. None where there is none."""
    codes = text_codes(x)
    if codes is None:
        return None
    rows = pl.DataFrame({"v": codes, "y": clicked.cast(pl.Int64)}).filter(pl.Series(x.is_not_null()))
    every, all_ = len(rows), int(rows["y"].sum())
    by = rows.group_by("v").agg(pl.len().cast(pl.Int64).alias("n"), pl.col("y").sum().alias("k"))
    for value, n, k in by.sort("k", "v", descending=[True, False]).iter_rows():
        if n < _MANY or k < _ALL * n or every == n:
            continue
        others = all_ - k, every - n
        if _odds(k, n, *others) >= ODDS and _least(k, n, *others) > 1:  # of some hundred rows no more is sure
            return value, n, others[0] / others[1]
    return None


def _there(x: pl.Series) -> pl.Series:
    """Whether a number is known and not 0, in words."""
    return pl.select(pl.when(is_there(x)).then(pl.lit("a value")).otherwise(pl.lit("none"))).to_series()


def _odds(k: int, n: int, k_other: int, n_other: int) -> float:
    """The odds ratio of k of n and of the others."""
    return (k + 0.5) * (n_other - k_other + 0.5) / ((n - k + 0.5) * (k_other + 0.5))


def _least(k: int, n: int, k_other: int, n_other: int) -> float:
    """What an odds ratio is surely above."""
    error = sqrt(sum(1 / (cell + 0.5) for cell in (k, n - k, k_other, n_other - k_other)))
    return exp(log(_odds(k, n, k_other, n_other)) - _SIGMAS * error)
