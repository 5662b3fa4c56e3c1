"""The threshold of a long read, which a chain measures once, and the refusal of days without labels to learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.labels import Quantile
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.runs.run import Parent

LEAST = 200
"""clicks with a duration below which their tail is not judged"""
MOST_OF_TOP = 1 / 3
"""of all seconds, in the longest 1% of reads: exponential ones hold 6% there, lognormal ones of sigma 1.9 a third"""
_MINUTE, _HOUR = 60, 3600
PLAIN = (
    1, 2, 5, 10, 20, 30,
    *(n * _MINUTE for n in (1, 2, 3, 5, 10, 15, 20, 30)),
    *(n * _HOUR for n in (1, 2, 3, 4, 6, 12, 24)),
)  # fmt: skip
"""seconds that a person would take for the longest read"""
Floats = npt.NDArray[np.floating[Any]]


def long_read_threshold(config: Config, days: Sequence[Day], before: Parent | None) -> float | None:
    """Seconds above which a clicked row is a long read; None where a conversion column is the label.

    The chain's first days measure it, and every later model carries it.

    Raises:
        UserError: 65 no row is a click, none can be measured, no row is a long read, or the config asks for another
            threshold than the chain's: a label must not move.
    """
    clicks = sum(int(d.facts["clicks"]) for d in days)
    if clicks == 0:  # a model without positives would publish nonsense
        what = f"day {days[-1].day}: not one of {sum(map(len, days))} rows is a click"
        raise UserError(
            what, "check data.events.click; a day that truly has none is left out: run the next with --allow-gap"
        )
    threshold = carried_threshold(before, config) if before else measured_threshold(config, days)
    if not any((b.labels(threshold)[0] & (b.weight > 0)).any() for d in days for b in d.blocks()):
        label = "conversion" if threshold is None else f"long read (over {threshold:.1f} s)"
        what = f"day {days[-1].day}: not one of {clicks} clicks is a {label} of positive weight"
        hint = (
            "check data.events.conversion"
            if threshold is None
            else "lower labels.long_read, or check data.events.duration"
        )
        raise UserError(what, hint)
    return threshold


def measured_threshold(config: Config, days: Sequence[Day]) -> float | None:
    """What `labels.long_read` is in seconds on these days; None where a conversion column is the label.

    Raises:
        UserError: 65 no clicked row has a duration.
    """
    if config.data.events.duration is None:
        return None
    rule = config.labels.long_read
    if isinstance(rule, float):
        return rule
    if sum(d.facts["duration_rows"] for d in days) == 0:
        raise UserError(
            f"day {days[-1].day}: no clicked row has a duration, so labels.long_read cannot be measured",
            "set data.events.duration to the right column, or labels.long_read to seconds",
        )
    if isinstance(rule, Quantile):
        return _quantile(_known_seconds(days), rule.quantile)
    return float(sum(d.facts["duration_sum"] for d in days) / sum(d.facts["duration_rows"] for d in days))


def heavy_tail(config: Config, days: Sequence[Day]) -> list[str]:
    """A line where the mean of durations says little of what a read is: it is above nine tenths of them, or the longest
    1% hold more than a third of all seconds. Empty where another rule than the mean is asked for."""
    events = config.data.events
    if events.duration is None or config.labels.long_read != "mean":
        return []
    known = _known_seconds(days)
    if len(known) < LEAST or not _is_of_a_few(known):
        return []
    mean, (median, p90) = _mean(known), (_quantile(known, q) for q in (0.5, 0.9))
    seen = f"the mean of {mean:,.0f} s is that of a few: the longest 1% of reads hold {_top(known):.0%} of all seconds"
    long = f"90% last up to {p90:,.0f} s, and labels.long_read: mean calls {(known > mean).mean():.1%} of clicks long"
    fix = f"labels.long_read: {{quantile: 0.5}} ({median:,.0f} s)"
    if (cap := longest_read(known)) is not None:
        above, mean = int((known > cap).sum()), _mean(np.minimum(known, np.float32(cap)))
        gives = f"{above:,} clicks ({above / len(known):.1%}) last longer, the mean is then {mean:,.0f} s"
        fix = f"set data.events.max_duration: {cap} ({in_words(cap)}: {gives}), or {fix}"
    return [f"{events.duration}: {seen}; {long}: {fix}"]


def longest_read(seconds: Floats) -> int | None:
    """A plain number of seconds, minutes or hours above which a read is hardly one; None where no such number makes the
    mean that of most reads.

    It is the first of PLAIN from the fence of the logarithms on, Q3 + 1.5 (Q3 - Q1) (Tukey, Exploratory Data Analysis,
    1977), as durations are skewed, or from the 99th percentile where that is less; a shorter one, not below nine tenths
    of the reads, where the mean would still be that of a few.

    Args:
        seconds: [n] of all clicks that have them, sorted.
    """
    read = seconds[seconds > 0]
    q1, q3 = (_quantile(read, q) for q in (0.25, 0.75))
    p90, p99 = (_quantile(seconds, q) for q in (0.9, 0.99))
    fence = min(q3 * (q3 / q1) ** 1.5, p99)
    above = next((k for k, plain in enumerate(PLAIN) if plain >= fence), len(PLAIN) - 1)
    fits = (
        c for c in reversed(PLAIN[: above + 1]) if c >= p90 and not _is_of_a_few(np.minimum(seconds, np.float32(c)))
    )
    return next(fits, None)


def _is_of_a_few(known: Floats) -> bool:
    """Whether the mean of sorted durations says little of most of them."""
    mean = _mean(known)
    return bool(mean) and bool(mean > _quantile(known, 0.9) or _top(known) > MOST_OF_TOP)


def _top(known: Floats) -> float:
    """The share of all seconds in the longest 1% of sorted durations."""
    last = known[-(len(known) // 100) :]
    return float(last.sum(dtype=np.float64) / known.sum(dtype=np.float64))


def in_words(seconds: int) -> str:
    """1800 -> 30 minutes."""
    for unit, of in (("hour", 3600), ("minute", 60)):
        if seconds % of == 0:
            return f"{seconds // of} {unit}{'s' if seconds > of else ''}"
    return f"{seconds} second{'s' if seconds > 1 else ''}"


def _known_seconds(days: Sequence[Day]) -> Floats:
    """The durations of clicks that have one, sorted; 8 bytes each while they are put together."""
    found = [np.zeros(0, np.float32)]
    for block in (b for d in days for b in d.blocks()):
        seconds = block.duration[block.click]
        found.append(seconds[~np.isnan(seconds)])
    known = np.concatenate(found)
    known.sort()
    return known


def _mean(known: Floats) -> float:
    return float(known.mean(dtype=np.float64))


def _quantile(known: Floats, q: float) -> float:
    """As `np.quantile` of them as float64, which would copy them."""
    place = (len(known) - 1) * q
    around = known[[math.floor(place), math.ceil(place)]].astype(np.float64)
    return float(np.quantile(around, place - math.floor(place)))


def carried_threshold(before: Parent, config: Config) -> float | None:
    """The threshold of the chain. Raises UserError 65: the config asks for another label."""
    folder, manifest = before
    threshold: float | None = manifest.facts["threshold_seconds"]
    rule, of_chain = config.labels.long_read, "a conversion" if threshold is None else f"{threshold:g} s"
    what = ""
    if (threshold is None) != (config.data.events.duration is None):
        mine = "data.events.conversion" if threshold is not None else "labels.long_read"
        what = f"the config's label is {mine}, the chain's is {of_chain}"
    elif isinstance(rule, float):
        if threshold is not None and rule != threshold:
            what = f"labels.long_read is {rule:g} s, the chain's is {of_chain}"
    elif threshold is not None and (earlier := _rule(manifest.config, rule)) != rule:
        what = f"labels.long_read is {_said(rule)}, the chain's is {_said(earlier)}, which was {of_chain}"
    if what:
        raise UserError(f"{what} ({folder})", "use a new workspace for another label")
    return threshold


_Rule = Literal["mean"] | float | Quantile


def _rule(stored: Mapping[str, Any], default: _Rule) -> _Rule:
    """`labels.long_read` of a published run; the default where it does not say."""
    found = stored.get("labels", {}).get("long_read", default)
    return Quantile(**found) if isinstance(found, Mapping) else found


def _said(rule: _Rule) -> str:
    if isinstance(rule, Quantile):
        return f"the quantile {rule.quantile:g}"
    return f"{rule:g} s" if isinstance(rule, float) else rule
