"""What the values of a column say: whether they are 0/1, a time and in which unit, of one user or item, or a leak."""

from __future__ import annotations

import numpy as np
import polars as pl

_ISO = r"^[12][0-9]{3}-[01][0-9]-[0-3][0-9]"
_CLOCK = _ISO + r"[T ][0-2][0-9]:[0-5][0-9]"
ZONE = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FROM, _TO = 946_684_800, 4_102_444_800  # 2000 and 2100, in seconds since 1970
_TAIL, _SKEW = 10.0, 2.0
FEW = 20
"""rows, users or items below which nothing is concluded"""
LEAK = 0.9
"""AUC of a single column for the click above which it is hardly known before"""


def share(mask: pl.Series) -> float:
    """Share of the rows that are true, 0 where there are none."""
    return float(mask.cast(pl.Float64).fill_null(0).to_numpy().mean()) if len(mask) else 0.0


def span(s: pl.Series) -> tuple[float, float]:
    """The least and the greatest number that is known; (0, 0) where none is."""
    x = s.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
    return (float(x.min()), float(x.max())) if len(x) else (0.0, 0.0)


def middle(s: pl.Series) -> float:
    """The median of the numbers that are known, 0 where none is."""
    x = s.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
    return float(np.median(x)) if len(x) else 0.0


def has_long_tail(s: pl.Series) -> bool:
    """Whether a few of the numbers, none below 0, are far larger than most: the 99th percentile is ten medians, or the
    skewness is above 2, that of an exponential distribution."""
    x = s.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
    if len(x) < FEW or x.std() == 0:
        return False
    p99, p50 = np.percentile(x, [99, 50])
    return bool(p99 >= _TAIL * p50 and p99 > 0) or bool((((x - x.mean()) / x.std()) ** 3).mean() > _SKEW)


def mean(s: pl.Series) -> float:
    """The mean of the numbers that are known, 0 where none is."""
    x = s.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
    return float(x.mean()) if len(x) else 0.0


def is_binary(s: pl.Series) -> bool:
    """Whether values are 0 and 1, both of them; false where text says yes and no."""
    if s.dtype == pl.Boolean:
        return s.n_unique() > 1
    if not s.dtype.is_numeric():
        return False
    found = set(s.drop_nulls().unique().to_list())
    return found == {0, 1}


def is_id(s: pl.Series) -> bool:
    """Whether values can be ids: integers or text, hardly ever null, several."""
    fits = s.dtype.is_integer() or s.dtype in (pl.String, pl.Categorical, pl.Enum)
    return fits and s.null_count() <= 0.01 * len(s) and s.n_unique() > 1 and not is_binary(s)


def time_unit(s: pl.Series) -> str | None:
    """s, ms, us or ns since 1970; timestamp, date, text (ISO with a clock), day (text) or yyyymmdd; None: no time."""
    known = s.drop_nulls()
    if not len(known):
        return None
    if isinstance(s.dtype, pl.Datetime):
        return "timestamp"
    if s.dtype == pl.Date:
        return "date"
    if s.dtype == pl.String:
        if share(known.str.contains(_CLOCK)) > 0.95:
            return "text"
        return "day" if known.str.contains(_ISO + "$").all() else None
    if not s.dtype.is_numeric() or s.dtype == pl.Boolean:
        return None
    low, high = float(known.quantile(0.01) or 0), float(known.quantile(0.99) or 0)
    if low >= 19_000_101 and high <= 21_001_231 and span(known.cast(pl.Int64, strict=False) % 100)[1] <= 31:
        return "yyyymmdd"
    return next((unit for unit, by in _UNITS.items() if _FROM * by <= low and high <= _TO * by), None)


def local_days(s: pl.Series, unit: str, zone: str) -> pl.Series:
    """The day of each value, null where it has none."""
    if unit in ("date", "day", "yyyymmdd"):
        text = s.cast(pl.String).str.replace_all("-", "")
        return text.str.to_date("%Y%m%d", strict=False)
    if unit == "text":
        aware = s.str.replace("Z$", "+00:00").str.replace(" ", "T", n=1)
        return aware.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    at = instants(s, unit)
    assert at is not None
    return at.dt.convert_time_zone(zone).dt.date()


def instants(s: pl.Series, unit: str) -> pl.Series | None:
    """Each value as a timestamp, naive ones as UTC, those of text without their zone; None where it has no clock."""
    if unit == "timestamp":
        return s if getattr(s.dtype, "time_zone", None) else s.dt.replace_time_zone("UTC")
    if unit == "text":
        clock = s.str.slice(0, 19).str.replace(" ", "T", n=1)
        return clock.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_zone="UTC", strict=False)
    if unit not in _UNITS:
        return None
    return (s.cast(pl.Float64) * (1000 / _UNITS[unit])).cast(pl.Int64).cast(pl.Datetime("ms", "UTC"))


def is_constant(frame: pl.DataFrame, key: str, column: str) -> bool:
    """Whether nearly all ids with several rows have one value of a column, which they would not by chance; false where
    there are few such ids."""
    if key == column:
        return False
    value = frame[column]
    seen = pl.DataFrame({"k": frame[key], "v": value.hash() if value.dtype.is_nested() else value}).drop_nulls()
    if len(seen) < FEW:
        return False
    elsewhere = seen["v"].gather(np.random.default_rng(0).permutation(len(seen)))
    by = seen.with_columns(elsewhere.alias("w")).group_by("k").agg(pl.len().alias("n"), pl.col("v", "w").n_unique())
    by = by.filter(pl.col("n") > 1)
    if len(by) < FEW:
        return False
    one, chance = (share(by[name] == 1) for name in ("v", "w"))
    return one >= 0.98 and 1 - one < (1 - chance) / 5


def is_unclicked_empty(s: pl.Series, click: pl.Series) -> bool:
    """Whether a number is 0 or null wherever there was no click, and not where there was: it came after the click."""
    if not s.dtype.is_numeric() and s.dtype != pl.Boolean:
        return False
    there = (s.cast(pl.Float64).fill_nan(None).fill_null(0) != 0).to_numpy()
    clicked = click.cast(pl.Int8).fill_null(0).to_numpy() == 1
    if clicked.sum() < FEW or (~clicked).sum() < FEW or there[clicked].sum() < FEW:
        return False
    return bool(there[~clicked].mean() <= 0.002)


def auc_of(s: pl.Series, click: pl.Series) -> float | None:
    """AUC of one column for the click, in the better direction; of few words by their click rates. None: no number,
    or too few rows of either kind."""
    label = click.cast(pl.Int8).fill_null(0).to_numpy() == 1
    if label.sum() < FEW or (~label).sum() < FEW:
        return None
    if s.dtype == pl.String and 2 <= s.n_unique() <= FEW:
        rates = pl.DataFrame({"v": s, "y": label}).group_by("v").agg(pl.col("y").mean())
        s = s.replace_strict(rates["v"], rates["y"], return_dtype=pl.Float64)
    if not (s.dtype.is_numeric() or s.dtype == pl.Boolean):
        return None
    x = s.cast(pl.Float64).fill_nan(None)
    ranks = x.fill_null(span(x)[0] - 1).rank("average").to_numpy()
    n, m = int(label.sum()), int((~label).sum())
    found = float((ranks[label].sum() - n * (n + 1) / 2) / (n * m))
    return max(found, 1 - found)


def within(ids: pl.Series, known: pl.Series) -> float:
    """Share of distinct ids that are among the known ones; 0 where their types differ."""
    distinct = ids.drop_nulls().unique()
    if not len(distinct) or distinct.dtype.is_integer() != known.dtype.is_integer():
        return 0.0
    if not distinct.dtype.is_integer():
        distinct, known = distinct.cast(pl.String), known.cast(pl.String)
    else:
        distinct, known = distinct.cast(pl.Int64, strict=False), known.cast(pl.Int64, strict=False)
    return float(np.mean(distinct.is_in(known.unique().implode()).to_numpy()))
