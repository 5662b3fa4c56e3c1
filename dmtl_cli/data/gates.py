"""What is judged of a day's log before anything learns it, and of the features that a model reads of it.

The checks of TFX Data Validation (Breck et al., MLSys 2019) and the unit tests of data of Deequ (Schelter et al., VLDB
2018), over one pass of a day that is read: memory is that of one bucket of users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.day import Block, Day, Ints
from dmtl_cli.data.profile.update import Updated
from dmtl_cli.runs.gates import Measure

_WIDEST = 8.0
"""a mean and a quantile of seconds are known to an eighth at least, else a day of few clicks could have any unit"""
_BINS = 1 << 15
_ROUNDED = 16  # bits of a float32 that a bin leaves out: a bin is at most 0.8% wide


def day_measures(
    day: Day, threshold: float | None, exposures: bool, done: Mapping[str, Updated] | None
) -> list[Measure]:
    """A day's size, rates, seconds, duplicates and new ids, each `inputs.*`.

    Args:
        day: without features; with times, where the log has them and duplicates are to be told by them.
        threshold: seconds of a long read, None where a conversion is the label.
        exposures: whether the log has rows that are no click.
        done: by side what its profile did; None where it is the first, whose ids are all new and counts no baseline.
    """
    rows, tally = len(day), _Tally(threshold)
    for block in day.blocks(by_user=True):
        tally.add(block)
    counts, out = {"rows": rows}, list[Measure]()
    for side, events in (("users", day.user_events), ("items", day.item_events)):
        hint = f"nearly all rows are of one of the {side}: look at data.events and the day"
        counts[side] = int((events > 0).sum())
        out += share(f"inputs.largest.{side}", int(events.max(initial=0)), rows, hint)
    if done is not None:  # the first day of a log is often a part of one: it is no baseline
        out += [_count(f"inputs.{name}", n) for name, n in counts.items()]
    if exposures:
        hint = "look at data.events.click; a log of clicks alone has none"
        out += share("inputs.click_rate", tally.clicks, rows, hint)
    for name, (true, known) in tally.conversions.items():
        out += share(f"inputs.conversion_rate.{name}", true, known, "look at the day's labels")
    every, hint = rows + len(day.repeated), "rows are there twice: was the day delivered twice?"
    out += share("inputs.duplicates", tally.duplicates + every - rows, every, hint)
    hint = "ids are new: have they changed their meaning?"
    for side, of in (done or {}).items():
        out += share(f"inputs.new_share.{side}s", of.new, of.known + of.new, hint)
    return out + tally.seconds.measures()


def window_measures(days: Iterable[Day]) -> list[Measure]:
    """The seconds of the days whose mean or quantile is to be the chain's threshold of a long read, named by day."""
    out = []
    for day in days:
        seconds = Seconds()
        for block in day.blocks():
            seconds.add(block)
        out += seconds.measures(f".{day.day}")
    return out


def null_shares(day: Day, features: Sequence[Feature]) -> list[Measure]:
    """The share of a day's rows whose user, item or event has no value of a feature.

    Args:
        features: of `day`, those that columns give.
    """
    nulls = {f.name: 0 for f in features if f.per_event}
    for block in day.blocks() if nulls else ():
        assert block.features is not None
        for name in nulls:
            nulls[name] += int(_empty(block.features[name]).sum())
    out = [(name, float(n), float(len(day))) for name, n in nulls.items()]
    for side, table, events in (("user", day.users, day.user_events), ("item", day.items, day.item_events)):
        rows = float(events.sum() ** 2 / max(1.0, np.square(events, dtype=np.float64).sum()))  # that count as one draw
        for f in features:
            if f.side == side and not f.per_event:
                null = float(events[_empty(table[f.name])].sum() / max(1, events.sum()))
                out.append((f.name, null * rows, rows))
    hint = "a column or a table is empty, or lacks rows: look at the day's files"
    return [m for name, n, rows in out for m in share(f"inputs.null_share.{name}", n, rows, hint)]


def share(name: str, true: float, rows: float, hint: str = "") -> list[Measure]:
    """true / rows with a binomial error, that of one row more of each kind, so that it is not 0 at a share of 0 or 1;
    nothing without rows."""
    if not rows:
        return []
    p, n = (true + 1) / (rows + 2), rows + 2
    return [Measure(name, true / rows, float(np.sqrt(p * (1 - p) / n)), hint=hint)]


def _count(name: str, n: int) -> Measure:
    """A count with a Poisson error."""
    return Measure(name, n, float(np.sqrt(n)), hint="is the day whole? look at its files")


def _empty(values: pl.Series) -> npt.NDArray[np.bool_]:
    null = values.is_null()
    return (null | values.is_nan().fill_null(True) if values.dtype.is_float() else null).to_numpy()


class _Tally:
    """What the blocks of a day, each all rows of its users, add up to."""

    def __init__(self, threshold: float | None) -> None:
        self.threshold, self.seconds = threshold, Seconds()
        self.clicks = self.duplicates = 0
        self.conversions: dict[str, tuple[int, int]] = {}
        """by task: converted clicks, clicks that know it"""

    def add(self, block: Block) -> None:
        self.clicks += int(block.click.sum())
        for name, (true, known) in block.conversions(self.threshold).items():
            here, (before, rows) = known & block.click, self.conversions.get(name, (0, 0))
            self.conversions[name] = before + int((true & here).sum()), rows + int(here.sum())
        self.duplicates += len(block) - _distinct(block)
        self.seconds.add(block)


def _distinct(block: Block) -> int:
    names = ("user", "item", "click", "duration", "conversion", "weight", "request")
    columns = {name: getattr(block, name) for name in names} | {f":{k}": v for k, v in block.further.items()}
    time = {} if block.time is None else {"time": block.time}
    return pl.DataFrame(columns | time).n_unique()


class Seconds:
    """Durations: of clicks their mean and quantiles, and the longest of all rows.

    Quantiles are of bins: the first 15 bits of a float32 that is not negative order as its values do.
    """

    def __init__(self) -> None:
        self.rows, self.total, self.squares, self.longest = 0, 0.0, 0.0, 0.0
        self.bins: Ints = np.zeros(_BINS, np.int64)

    def add(self, block: Block) -> None:
        known = ~np.isnan(block.duration)
        self.longest = max(self.longest, float(block.duration[known].max(initial=0.0)))
        seconds = np.abs(block.duration[known & block.click])  # of -0.0
        self.rows += len(seconds)
        self.total += float(seconds.sum(dtype=np.float64))
        self.squares += float(np.square(seconds, dtype=np.float64).sum())
        self.bins += np.bincount(seconds.view(np.uint32) >> _ROUNDED, minlength=_BINS)

    def measures(self, suffix: str = "") -> list[Measure]:
        """Nothing where no click has a duration."""
        if not self.rows:
            return []
        hint = "look at data.events.duration and duration_unit, and at the day's longest (data.events.max_duration)"
        mean = self.total / self.rows
        spread = self.squares / self.rows - mean * mean if np.isfinite(self.squares) else 0.0
        of = {"mean": (mean, float(np.sqrt(max(0.0, spread) / self.rows)))}
        of |= {f"p{round(100 * q)}": self.quantile(q) for q in (0.5, 0.99)}
        out = [Measure(f"inputs.duration.{k}{suffix}", v, min(e, v / _WIDEST), hint=hint) for k, (v, e) in of.items()]
        return [*out, Measure(f"inputs.duration.max{suffix}", self.longest, hint=hint)]

    def quantile(self, q: float) -> tuple[float, float]:
        """A quantile of the clicks' seconds, and half the distance of those one error of its rank to either side."""
        spread = float(np.sqrt(q * (1 - q) / self.rows))
        low, here, high = (self._at(p) for p in (q - spread, q, q + spread))
        return here, (high - low) / 2

    def _at(self, q: float) -> float:
        """The lower edge of the bin with the row of rank q."""
        rank = min(max(q, 0.0), 1.0) * (self.rows - 1)
        k = int(np.searchsorted(np.cumsum(self.bins), rank, side="right"))
        return float(np.array([min(k, _BINS - 1) << _ROUNDED], np.uint32).view(np.float32)[0])
