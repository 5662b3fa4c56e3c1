"""What refuses a run before it is published: measures of what was written, beside limits and the days before.

Two kinds, as in TFX's model validator: a floor or ceiling of the value itself, and a change against the days that were
published before.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.gates import Gates, Limit, possible
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.workspace import Workspace

Past = Mapping[str, Sequence[float]]
"""by measure, its values of the last published days"""


@dataclass(frozen=True)
class Measure:
    """A number of a run that is judged.

    Args:
        error: its standard error, by which its quality limits are widened.
        least: with `most` the limits of a measure of integrity, which holds whatever the config says.
        hint: what to do where it fails.
    """

    name: str
    value: float
    error: float = 0.0
    least: float | None = None
    most: float | None = None
    hint: str = ""

    @property
    def integrity(self) -> bool:
        return self.least is not None or self.most is not None


def exactly(name: str, value: float, expected: float, hint: str = "") -> Measure:
    """A measure of integrity that has one right value."""
    return Measure(name, value, least=expected, most=expected, hint=hint)


@dataclass(frozen=True)
class Gate:
    """A judged measure. `value` is None where it was not finite, `baseline` where there are no days before; a limit
    that no value of the measure could fail is None."""

    name: str
    value: float | None
    limit: tuple[float | None, float | None]
    baseline: float | None
    passed: bool
    integrity: bool
    hint: str = ""

    @property
    def beyond(self) -> float:
        """How far the value is beyond a limit, as a multiple of it; 0 within."""
        if self.value is None:
            return math.inf
        least, most = self.limit
        below = 0.0 if least is None else (least - self.value) / (abs(least) or 1e-9)
        above = 0.0 if most is None else (self.value - most) / (abs(most) or 1e-9)
        return max(0.0, below, above)

    def to_json(self) -> dict[str, Any]:
        """The entry of `gates` in a manifest."""
        kind = "integrity" if self.integrity else "quality"
        shown = {"name": self.name, "kind": kind, "value": self.value, "limit": list(self.limit)}
        return shown | {"passed": self.passed} | ({} if self.integrity else {"baseline": self.baseline})

    def line(self) -> str:
        """What was expected and what came."""
        least, most = self.limit
        if least is not None and least == most:
            expected = f"expected {least:.6g}"
        else:
            bounds = [
                f"at least {least:.6g}" if least is not None else "",
                f"at most {most:.6g}" if most is not None else "",
            ]
            expected = "expected " + (" and ".join(b for b in bounds if b) or "a finite number")
        median = "" if self.baseline is None else f" (median of the days before: {self.baseline:.6g})"
        return f"{self.name} is {'not finite' if self.value is None else f'{self.value:.6g}'}, {expected}{median}"


def judge(measures: Iterable[Measure], gates: Gates, past: Past) -> list[Gate]:
    """All gates of a run, sorted by name. Quality is not judged where the config turns it off.

    Raises:
        KeyError: a measure of quality that config/gates.py does not name.
    """
    judged = [_judged(m, gates, past.get(m.name, ())) for m in measures if m.integrity or gates.quality]
    return sorted(judged, key=lambda gate: gate.name)


def _judged(m: Measure, gates: Gates, past: Sequence[float]) -> Gate:
    baseline = None
    least, most = m.least, m.most
    if not m.integrity:
        limit, slack = gates.limit(m.name), gates.errors * m.error
        least = None if limit.least is None else limit.least - slack
        most = None if limit.most is None else limit.most + slack
        if len(past) >= min(limit.days, gates.days) and (limit.ratio or limit.shift or limit.rise or limit.fall):
            baseline = statistics.median(past)
            # of an even number of days both in the middle: of two, one may be a day that was forced
            low, high = _around(statistics.median_low(past), limit)[0], _around(statistics.median_high(past), limit)[1]
            least = least if low is None else _larger(least, low - slack)
            most = most if high is None else _smaller(most, high + slack)
    finite = math.isfinite(m.value)
    passed = finite and (least is None or m.value >= least) and (most is None or m.value <= most)
    if not m.integrity:
        low_end, high_end = possible(m.name)
        least = None if least is not None and least <= min(low_end, m.value) else least
        most = None if most is not None and most >= max(high_end, m.value) else most
    return Gate(m.name, m.value if finite else None, (least, most), baseline, passed, m.integrity, m.hint)


def _around(median: float, limit: Limit) -> tuple[float | None, float | None]:
    """The widest of ratio and shifts: a ratio means nothing near 0, nor a shift far from it."""
    times = () if limit.ratio is None else (median / limit.ratio, median * limit.ratio)
    lows = [*times, *(median - by for by in (limit.shift, limit.fall) if by)]
    highs = [*times, *(median + by for by in (limit.shift, limit.rise) if by)]
    return min(lows, default=None), max(highs, default=None)


def _larger(a: float | None, b: float) -> float:
    return b if a is None else max(a, b)


def _smaller(a: float | None, b: float) -> float:
    return b if a is None else min(a, b)


def past(ws: Workspace, stage: str, before: dt.date, days: int, sub: str | None = None) -> Past:
    """Values of the last `days` published days before one, by measure. Damaged runs are passed over.

    Args:
        sub: of scores the teacher's folder; a run of the same age is its predecessor.
    """
    found: dict[str, list[float]] = {}
    age = None if sub is None else before - dt.date.fromisoformat(sub.removeprefix("teacher="))
    for day in reversed([d for d in ws.days(stage) if d < before]):
        if days == 0:
            break
        try:
            run = ws.current(stage, day, None if age is None else f"teacher={day - age}")
            gates = Manifest.read(run / MANIFEST).gates if run else []
        except UserError:
            continue
        if run:
            days -= 1
        for gate in gates:
            if gate.get("value") is not None:
                found.setdefault(gate["name"], []).append(gate["value"])
    return found


def refusal(stage: str, day: dt.date, failed: Sequence[Gate]) -> UserError:
    """The error (80) of a run that is not published, with all reasons."""
    first, *rest = failed
    hint = first.hint or "look at the day; publish it in spite of this with --force-publish REASON"
    if first.integrity:
        hint = first.hint or "what was made is broken: run it again, and report it if that does not help"
    return UserError(f"{stage} {day}: {first.line()}", hint, Exit.REFUSED, tuple(gate.line() for gate in rest))


def refuse_below(value: float, floor: float, what: str, hint: str) -> None:
    """Raises UserError 80: `value` is below its floor, so that hours of work would be for nothing."""
    if value < floor:
        raise UserError(what, hint, Exit.REFUSED)
