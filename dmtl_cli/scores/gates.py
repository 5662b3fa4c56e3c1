"""Whether a score table holds what it promises: measured by the stage that wrote it, and before it is learned."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.tasks import CLICK, FUSED, logit_column, score_of, with_click
from dmtl_cli.runs.gates import Measure, exactly
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.scores.columns import SOURCES, column_names
from dmtl_cli.scores.reader import RERUN, Reader

LARGEST = 100.0
"""of a logit: exp(-100) is no probability that a log could tell"""
QUANTILES = {"p01": 0.01, "p50": 0.5, "p99": 0.99}
_STEP = 0.01  # width of a bin of logits: the precision of a quantile
_BINS = 2 * round(LARGEST / _STEP) + 1
_KEYS = ["user_id", "item_id", "day", "pair_source", "group", "rank"]
_KINDS = ("keys", "logits", "probabilities", "calibration", "products", "order")
Bools = npt.NDArray[np.bool_]
Fault = tuple[str, str, Bools]
"""its kind, the column, the rows [n] that have it"""


@dataclass
class Audit:
    """What all rows of a table say of it."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))
    """by pair source"""
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    """broken promises by kind"""
    first: str = ""
    """the first one: file, row, column, value"""
    logits: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """by task, how many of the exposed pairs' logits are in each bin of _STEP from -LARGEST on"""

    def measures(self, expected: dict[str, int]) -> list[Measure]:
        """Integrity: no promise is broken and the rows are as many as were scored, by source. Quality: quantiles of the
        exposed pairs' logits."""
        found = self.first and f"{self.first}; run it again, and report it if that does not help"
        out = [exactly(f"scores.wrong.{kind}", n, 0, found) for kind, n in self.faults.items()]
        out += [exactly(f"scores.rows.{source}", n, expected.get(source, 0)) for source, n in self.rows.items()]
        for task, counts in self.logits.items():
            for name, q in QUANTILES.items():
                if counts.any():
                    out.append(Measure(f"scores.{name}.{task}", *_quantile(counts, q)))
        return out


def audit(reader: Reader, day: dt.date) -> Audit:
    """Reads a table once, row group by row group.

    Args:
        day: the day that its pairs are of.
    """
    out = Audit(logits={task: np.zeros(_BINS, np.int64) for task in reader.tasks.names})
    columns = column_names(reader.tasks, fused=bool(reader.fusion))
    before: tuple[int, int, int] | None = None  # group, source and rank of the row before
    for part, row, frame in reader.row_groups([*_KEYS, *columns]):
        source = frame["pair_source"].replace_strict(SOURCES, range(len(SOURCES)), default=-1, return_dtype=pl.Int8)
        codes = source.fill_null(-1).to_numpy()
        faults = [*_keys(frame, codes, day), *_scores(frame, reader)]
        group, rank = (frame[c].fill_null(0).to_numpy().astype(np.int64) for c in ("group", "rank"))
        order = np.array([sorted(SOURCES).index(s) for s in SOURCES] + [-1])[codes]
        faults.append(("order", "rank", _out_of_order(group, order, rank, before)))
        before = (group[-1], order[-1], rank[-1]) if len(frame) else before
        _count(out, faults, part, row, frame)
        for k, name in enumerate(SOURCES):
            out.rows[name] += int((codes == k).sum())
        for task, counts in out.logits.items():
            counts += _histogram(frame[logit_column(task)].to_numpy()[codes == SOURCES.index("exposed")])
    return out


def refuse_broken(reader: Reader, manifest: Manifest, log_rows: int | None) -> None:
    """Reads a published table before anything is learned from it.

    Args:
        log_rows: rows of the log's day that it scored; None where that is not known.

    Raises:
        UserError: 65 with file and row of what breaks a promise, or the numbers of rows that differ.
    """
    found = audit(reader, manifest.day)
    if found.first:
        raise UserError(found.first, RERUN)
    for source, rows in found.rows.items():
        if rows != manifest.rows.get(source, 0):
            what = f"expected {manifest.rows.get(source, 0)} {source} pairs as its manifest says, got {rows}"
            raise UserError(f"{reader.folder}: {what}", RERUN)
    exposed = found.rows["exposed"]
    if log_rows is not None and exposed != log_rows:
        what = f"expected an exposed pair for each of the {log_rows} rows of day {manifest.day}, got {exposed}"
        raise UserError(f"{reader.folder}: {what}", RERUN)


def _keys(frame: pl.DataFrame, codes: npt.NDArray[np.int8], day: dt.date) -> Iterator[Fault]:
    for name in _KEYS:
        yield "keys", name, frame[name].is_null().to_numpy()
    yield "keys", "day", (frame["day"] != day).fill_null(True).to_numpy()
    yield "keys", "pair_source", codes < 0


def _scores(frame: pl.DataFrame, reader: Reader) -> Iterator[Fault]:
    """What is wrong with logits and probabilities; a null is NaN here."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        value = {c: frame[c].to_numpy() for c in column_names(reader.tasks, fused=bool(reader.fusion))}
        for task in reader.tasks.names:
            name, logit = logit_column(task), value[logit_column(task)]
            yield "logits", name, ~(np.abs(logit) <= LARGEST)
            # as written: the probability of the calibrated logit, not below the floor of columns.py
            p = np.maximum(np.exp(reader.calibration[task].log_prob(logit)), 1e-18)
            yield "calibration", score_of(task), ~_close(value[score_of(task)], p)
        single = [score_of(task) for task in reader.tasks.names]
        products = {score_of(with_click(x)): score_of(x) for x in reader.tasks.conversions}
        for name in [*single, *products, *([FUSED] if reader.fusion else [])]:
            yield "probabilities", name, ~((value[name] > 0) & (value[name] < 1))
        for name, factor in products.items():
            yield "products", name, ~_close(value[name], value[score_of(CLICK)] * value[factor])


def _close(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Bools:
    """Whether float32 numbers are those that were computed: within a few roundings; a NaN never is."""
    out: Bools = np.abs(x.astype(np.float64) - y) <= 1e-5 * np.abs(y)
    return out


def _out_of_order(
    group: npt.NDArray[np.int64],
    source: npt.NDArray[Any],
    rank: npt.NDArray[np.int64],
    before: tuple[int, int, int] | None,
) -> Bools:
    """Rows [n] that do not follow the one before: ranks count from 1 in a group and source, which ascend."""
    first = before or (np.iinfo(np.int64).min, -2, 0)
    g, s, r = (np.concatenate([[x], y]) for x, y in zip(first, (group, source, rank), strict=True))
    same = (g[1:] == g[:-1]) & (s[1:] == s[:-1])
    later = (g[1:] > g[:-1]) | ((g[1:] == g[:-1]) & (s[1:] > s[:-1]))
    out: Bools = ~np.where(same, r[1:] == r[:-1] + 1, later & (r[1:] == 1))
    return out


def _count(out: Audit, faults: list[Fault], part: Path, row: int, frame: pl.DataFrame) -> None:
    """Adds the faults of one row group, whose first row is `row` of the file."""
    for kind, _, wrong in faults:
        out.faults[kind] += int(wrong.sum())
    found = [(int(wrong.argmax()), kind, column) for kind, column, wrong in faults if wrong.any()]
    if found and not out.first:
        at, kind, column = min(found, key=lambda f: (f[0], _KINDS.index(f[1])))
        expected = {
            "keys": "a value of the table's day and sources",
            "logits": f"a number from {-LARGEST:g} to {LARGEST:g}",
            "probabilities": "a number inside (0, 1)",
            "calibration": "the probability of its calibrated logit",
            "products": f"{score_of(CLICK)} times its conversion's",
            "order": "ranks from 1 within group and pair_source, ascending",
        }[kind]
        value = frame[column][at]
        came = f"{value:g}" if isinstance(value, float) else value
        out.first = f"{part}: row {row + at}: {column}: expected {expected}, got {came}"


def _histogram(logits: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """How many logits are in each bin. What is no number of a sane size is a fault, and not counted here."""
    sane = logits[np.abs(logits) <= LARGEST].astype(np.float64)
    return np.bincount(np.rint((sane + LARGEST) / _STEP).astype(np.int64), minlength=_BINS).astype(np.int64)


def _quantile(counts: npt.NDArray[np.int64], q: float) -> tuple[float, float]:
    """A quantile of binned logits and its standard error, half the span of the quantiles a standard error around q."""
    n, whole = int(counts.sum()), np.cumsum(counts)

    def at(share: float) -> float:
        return float(np.searchsorted(whole, max(1, math.ceil(min(1.0, share) * n)))) * _STEP - LARGEST

    off = math.sqrt(q * (1 - q) / n)
    return round(at(q), 2), (at(q + off) - at(q - off)) / 2
