"""The threshold of a long read, which a chain measures once, and the refusal of days without labels to learn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.labels import Quantile
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.day import Day
from dmtl_cli.runs.run import Parent

LEAST = 200
"""clicks with a duration below which their tail is not judged"""
MOST_OF_TOP = 1 / 3
"""of all seconds, in the longest 1% of reads: exponential ones hold 6% there, lognormal ones of sigma 1.9 a third"""


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
        raise UserError(what, "check data.events.click")
    threshold = carried_threshold(before, config) if before else _measured(config, days)
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


def _measured(config: Config, days: Sequence[Day]) -> float | None:
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
    total = float(known.sum(dtype=np.float64))
    if len(known) < LEAST or not total:
        return []
    median, p90, p99 = (_quantile(known, q) for q in (0.5, 0.9, 0.99))
    mean, top = total / len(known), float(known[-(len(known) // 100) :].sum(dtype=np.float64)) / total
    if mean <= p90 and top <= MOST_OF_TOP:
        return []
    cap = float(f"{p99:.2g}")
    seen = f"the mean of {mean:,.0f} s is that of a few: the longest 1% of reads hold {top:.0%} of all seconds"
    long = f"90% last up to {p90:,.0f} s, and labels.long_read: mean calls {(known > mean).mean():.1%} of clicks long"
    capped = float(np.minimum(known, np.float32(cap)).mean(dtype=np.float64))
    fix = f"set data.events.max_duration: {cap:g} (the mean is then {capped:,.0f} s)"
    return [f"{events.duration}: {seen}; {long}: {fix}, or labels.long_read: {{quantile: 0.5}} ({median:,.0f} s)"]


def _known_seconds(days: Sequence[Day]) -> npt.NDArray[np.float32]:
    """The durations of clicks that have one, sorted; 8 bytes each while they are put together."""
    found = [np.zeros(0, np.float32)]
    for block in (b for d in days for b in d.blocks()):
        seconds = block.duration[block.click]
        found.append(seconds[~np.isnan(seconds)])
    known = np.concatenate(found)
    known.sort()
    return known


def _quantile(known: npt.NDArray[np.float32], q: float) -> float:
    """As `np.quantile` of them as float64, which would copy them."""
    place = (len(known) - 1) * q
    around = known[[math.floor(place), math.ceil(place)]].astype(np.float64)
    return float(np.quantile(around, place - math.floor(place)))


def carried_threshold(before: Parent, config: Config) -> float | None:
    """The threshold of the chain. Raises UserError 65: the config asks for another one."""
    threshold: float | None = before[1].facts["threshold_seconds"]
    rule = config.labels.long_read
    if threshold is not None and isinstance(rule, float) and rule != threshold:
        what = f"labels.long_read is {rule:g} s, the chain's is {threshold:g} s ({before[0]})"
        raise UserError(what, "use a new workspace for another label")
    return threshold
