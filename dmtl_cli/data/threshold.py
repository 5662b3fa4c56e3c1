"""The threshold of a long read, which a chain measures once, and the refusal of days without labels to learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.labels import Quantile
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.day import Day
from dmtl_cli.runs.run import Parent


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
        seconds = np.concatenate([b.duration[b.click] for d in days for b in d.blocks()])
        return float(np.nanquantile(seconds.astype(np.float64), rule.quantile))
    return float(sum(d.facts["duration_sum"] for d in days) / sum(d.facts["duration_rows"] for d in days))


def carried_threshold(before: Parent, config: Config) -> float | None:
    """The threshold of the chain. Raises UserError 65: the config asks for another one."""
    threshold: float | None = before[1].facts["threshold_seconds"]
    rule = config.labels.long_read
    if threshold is not None and isinstance(rule, float) and rule != threshold:
        what = f"labels.long_read is {rule:g} s, the chain's is {threshold:g} s ({before[0]})"
        raise UserError(what, "use a new workspace for another label")
    return threshold
