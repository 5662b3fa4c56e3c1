"""The section about features: how each is spread over the day's events, beside the days before."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.report.blocks import Cell, Chart, Charts, Section, Table, number, share
from dmtl_cli.report.charts import beside
from dmtl_cli.report.facts import Facts
from dmtl_cli.runs.workspace import Workspace

LARGE = 0.1
"""a PSI from which on a shift is usually looked at (Siddiqi, Credit Risk Scorecards, 2006)"""
_SMALLEST = 0.01  # share of the days before, below which a value is counted with the others
_DRAWN, _GROUPS = 3, 12
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """One feature of the day beside the days before that have it in the same groups."""

    name: str
    now: Mapping[str, Any]
    then: Sequence[Mapping[str, Any]]

    def before(self, key: str) -> float | None:
        """The mean of the days before."""
        known = [float(day[key]) for day in self.then if key in day]
        return sum(known) / len(known) if known else None

    @cached_property
    def merged(self) -> tuple[list[list[int]], Floats, Floats] | None:
        """(rows of each group [B], its share of the day [B] and of the days before [B]): groups of numbers are joined
        with those beside them, small ones of values with each other."""
        if "groups" not in self.now or not any("groups" in day for day in self.then):
            return None
        every = [np.array(day["groups"], np.float64) for day in [self.now, *self.then] if "groups" in day]
        size = max(map(len, every))  # a vocabulary has grown
        p, *others = [np.pad(groups, (0, size - len(groups))) / max(groups.sum(), 1.0) for groups in every]
        q = np.mean(others, axis=0)
        joined = _neighbours(q) if "edges" in self.now else _small_ones(q)
        now, then = (np.array([x[rows].sum() for rows in joined]) for x in (p, q))
        return joined, now, then

    @cached_property
    def psi(self) -> tuple[float, float] | None:
        """See `psi`; None where there are no groups to compare."""
        if self.merged is None or len(self.merged[0]) < 2:
            return None
        return psi(self.merged[1], self.merged[2], self.now["rows"], sum(day["rows"] for day in self.then))

    @property
    def moved(self) -> bool:
        """Whether the spread of values, or the share without a known one, has moved by more than chance explains."""
        if self.psi is not None and self.psi[0] > max(LARGE, 2 * self.psi[1]):
            return True
        return any(self.has_risen(key) for key in ("null", "unknown"))

    def has_risen(self, key: str) -> bool:
        """Whether a share is 5 points, and 4 standard errors, above that of the days before."""
        before = self.before(key)
        if before is None or key not in self.now:
            return False
        error = math.sqrt(max(before * (1 - before), 1 / self.now["rows"]) / self.now["rows"])
        return bool(self.now[key] - before > max(0.05, 4 * error))


def psi(p: Floats, q: Floats, n: float, m: float) -> tuple[float, float]:
    """(population stability index sum (p - q) ln(p / q), its mean (B - 1)(1/n + 1/m) where both are draws of one
    distribution: Yurdakul, Statistical Properties of Population Stability Index, 2018). Half a row is added to each
    group, so that an empty one is finite.

    Args:
        p, q: [B] shares of n and of m rows.
    """
    size = len(p)
    p, q = (p * n + 0.5) / (n + 0.5 * size), (q * m + 0.5) / (m + 0.5 * size)
    return float(((p - q) * np.log(p / q)).sum()), (size - 1) * (1 / n + 1 / m)


def _neighbours(q: Floats) -> list[list[int]]:
    """Group 0, which has no value, then runs of groups of a tenth of the rest each at least."""
    out: list[list[int]] = [[]]
    for k in range(1, len(q)):
        out[-1].append(k)
        if q[out[-1]].sum() >= 0.1 * (1 - q[0]):
            out.append([])
    if len(out) > 1 and (not out[-1] or q[out[-1]].sum() < 0.1 * (1 - q[0])):  # of no value at all each is enough
        last = out.pop()
        out[-1] += last
    return [[0], *out]


def _small_ones(q: Floats) -> list[list[int]]:
    """Group 0, which has no known value, values by their share, and all rare ones together."""
    order = sorted(range(1, len(q)), key=lambda k: -q[k])
    rare = [k for k in order if q[k] < _SMALLEST]
    return [[0], *([k] for k in order if q[k] >= _SMALLEST), *([rare] if rare else [])]


def drifts(facts: Facts) -> list[Drift]:
    """Of every feature that the day's evaluation counted, the one that moved most first."""
    found: Mapping[str, Mapping[str, Any]] = (facts.curves or {}).get("features", {})
    out = []
    for name, now in found.items():
        days = [day["features"][name] for day in facts.curves_before if name in day.get("features", {})]
        out.append(Drift(name, now, [day for day in days if day.get("edges") == now.get("edges")]))
    return sorted(out, key=lambda d: (not d.moved, -(d.psi or (0.0, 0.0))[0], d.name))


def features(facts: Facts, ws: Workspace) -> Section | None:
    """Every feature beside the days before, and those that moved most; None where no evaluation counted them."""
    found = drifts(facts)
    if not found:
        return None
    days = max(len(d.then) for d in found)
    head = ["feature", "side", "no value", "before", "unknown", "before", "mean", "before", "PSI", "by chance"]
    rows = [_row(d) for d in found]
    drawn = [d for d in found if d.psi is not None][:_DRAWN]
    names = _Names(ws, facts.day)
    charts = [chart for d in drawn if (chart := _chart(d, names))]
    lead = (
        f"Of the day's events, beside the mean of {days} {'day' if days == 1 else 'days'} before. Unknown: a value "
        "that the teacher had never met. PSI: how far the spread of values has moved; marked above .1 and twice what "
        f"chance gives with so many users or items. Drawn: those that moved most, of each {_GROUPS} groups at most."
        if days
        else "Of the day's events. Days to compare with come with the next evaluations."
    )
    blocks: list[Charts | Table] = [Charts(charts)] if charts else []
    return Section("features", "Features", lead, [*blocks, Table(head, rows)])


def _row(d: Drift) -> list[Cell]:
    index = d.psi
    mark: Cell = "–" if index is None else number(index[0])
    if index is not None and index[0] > max(LARGE, 2 * index[1]):
        mark = (number(index[0]), "note")
    shares: list[Cell] = []
    for key in ("null", "unknown"):
        now = d.now.get(key)
        shares += [(share(now), "note") if d.has_risen(key) else share(now), share(d.before(key))]
    means = [number(d.now.get("mean")), number(d.before("mean"))]
    name: Cell = (d.name, "note") if d.moved else d.name
    return [name, d.now["side"], *shares, *means, mark, "–" if index is None else number(index[1])]


def _chart(d: Drift, names: _Names) -> Chart | None:
    assert d.merged is not None
    joined, p, q = d.merged
    order = np.arange(len(joined))
    if len(order) > _GROUPS:  # those that moved most, in their order
        order = np.sort(np.argsort(-np.abs(p - q), kind="stable")[:_GROUPS])
    labels = [names.label(d, joined[k]) for k in order]
    return beside(f"values of {d.name}", labels, p[order].tolist(), q[order].tolist(), number((d.psi or (0.0,))[0]))


class _Names:
    """What groups are called: values by the vocabulary of the newest teacher up to the day, in which rows stay."""

    def __init__(self, ws: Workspace, day: dt.date) -> None:
        self.ws, self.day = ws, day
        self.values: dict[str, dict[int, str]] = {}

    @cached_property
    def encoder(self) -> Encoder | None:
        newest = self.ws.newest("teacher", self.day + dt.timedelta(days=1))
        try:
            folder = self.ws.current("teacher", newest) if newest else None
            return Encoder.read(folder, lazily=True) if folder else None
        except UserError:
            return None

    def label(self, d: Drift, rows: Sequence[int]) -> str:
        if rows == [0]:
            return "no value" if "edges" in d.now else "no known value"
        if "edges" in d.now:
            return _span(d.now["edges"], rows[0], rows[-1], whole=d.now["kind"] == "sequence")
        if len(rows) > 1:
            return f"{len(rows)} rare ones"
        return self._of(d.name).get(rows[0], f"row {rows[0]}")

    def _of(self, name: str) -> dict[int, str]:
        """Values of a feature's embedding by their row."""
        if name not in self.values and self.encoder:
            embedding = next((k.embedding for k in self.encoder.kinds if k.feature.name == name), "")
            vocabulary = self.encoder.vocabularies.get(embedding)
            if isinstance(vocabulary, Vocabulary):  # a value that was forgotten is null
                known = vocabulary.frame.filter(pl.col("value").is_not_null()).select("row", "value")
                self.values[name] = {row: str(value) for row, value in known.rows()}
        return self.values.get(name, {})


def _span(edges: Sequence[float], first: int, last: int, *, whole: bool) -> str:
    """The values of groups first to last, counted from 1: group 1 is below the first edge."""
    low = edges[first - 2] if first > 1 else None
    high = edges[last - 1] if last - 1 < len(edges) else None
    if low is None and high is None:
        return "any value"
    if whole:
        low = low or 1
        end = "" if high is None else f"{high - 1:g}"
        return f"{low:g} or more" if high is None else end if high - 1 == low else f"{low:g} to {end}"
    if low is None:
        return f"below {high:.3g}"
    return f"{low:.3g} or more" if high is None else f"{low:.3g} to {high:.3g}"
