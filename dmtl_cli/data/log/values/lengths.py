"""Texts of lengths of time as seconds: 3:45, 1h 20m, PT1H20M."""

from __future__ import annotations

import polars as pl

LENGTHS = "1h 20m, 90 min, PT1H20M, 1.00:23:33, 3:45 or 1:02:03"
_CLOCK = (
    r"^\s*(?:([0-9]+)\.([01][0-9]|2[0-3]):([0-5][0-9])|([0-9]+):([0-5]?[0-9])|([0-9]+)):([0-5][0-9](?:\.[0-9]+)?)\s*$"
)
"""days, hours and minutes, as .NET writes a length of a day or more; hours and minutes; or minutes"""
_NEGATIVE = r"^\s*-\s*"
_PART = r"([0-9]+(?:[.,][0-9]+)?)"
_IN_WORDS = (
    rf"(?i)^\s*(?:{_PART}\s*(?:h|hrs?|hours?)\.?\s*)?(?:{_PART}\s*(?:m|mins?|minutes?)\.?\s*)?"
    rf"(?:{_PART}\s*(?:s|secs?|seconds?)\.?\s*)?$"
)
_ISO_LENGTH = rf"(?i)^\s*P(?:{_PART}W)?(?:{_PART}D)?(?:T(?:{_PART}H)?(?:{_PART}M)?(?:{_PART}S)?)?\s*$"
"""without months and years, which have no length of their own"""
_LENGTH_FORMS = ((_IN_WORDS, (3600, 60, 1)), (_ISO_LENGTH, (604_800, 86_400, 3600, 60, 1)))
"""and the seconds of each part"""
_UNIT = r"(?i)[0-9]\s*[wdhms]"
"""is in each of these"""


def clock_seconds(values: pl.Series) -> pl.Series:
    """Lengths of time as seconds: texts such as 3:45 (minutes, which may be 60 and more, and seconds) or 1:02:03 (hours
    before them), 1.00:23:33 (days before these, as .NET writes them), 1h 20m, 90 min or 45 sec, or of ISO 8601,
    PT1H20M; null where one is no such text."""
    if values.dtype != pl.String:
        return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
    part = values.str.extract_groups(_CLOCK).struct.unnest().cast(pl.Float64)
    hours = 24 * pl.col("1").fill_null(0) + pl.coalesce("2", "4").fill_null(0)
    minutes = 60 * hours + pl.coalesce("3", "5", "6")
    out = part.select((60 * minutes + pl.col("7")).alias(values.name)).to_series()
    for form, seconds in _LENGTH_FORMS if values.str.contains(_UNIT).any() else ():
        if out.null_count() > values.null_count():
            groups = values.str.extract_groups(form).struct.unnest().get_columns()
            parts = [groups[k].str.replace(",", ".", literal=True).cast(pl.Float64) for k in range(len(seconds))]
            there = pl.any_horizontal(part.is_not_null() for part in parts)
            total = pl.sum_horizontal(part * each for part, each in zip(parts, seconds, strict=True))
            out = out.fill_null(pl.select(pl.when(there).then(total)).to_series())
    return out


def not_negative(values: pl.Series) -> pl.Series:
    """Texts without those of a length of time below 0, such as -00:00:01, which are null: two clocks made it, and how
    long it was is not known."""
    if values.dtype != pl.String or not (below := values.str.contains(_NEGATIVE).fill_null(False)).any():
        return values
    lengths = clock_seconds(values.set(~below, None).str.replace(_NEGATIVE, ""))
    return values.set(lengths.is_not_null(), None)
