"""What the features of a day are, as counts of groups that stay the same from day to day, so that days can be compared.

Groups are those of the teacher that was ready before the day: rows of its embeddings, edges that it measured on the
chain's first window. Nothing names a user, an item or a value: a row's value is known to who has the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.kinds.kind import Kind
from dmtl_cli.data.log.checked.day import Day

MOST_ROWS = 256
"""rows of an embedding, above which its values are too many to be compared one by one"""
STEPS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""deviations from the mean between which a standardized number is counted, on either side"""
LENGTHS = (1, 2, 3, 5, 9, 17, 33, 65)
"""known values of a list from which on it is in the next group"""
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def features_of(day: Day, encoder: Encoder) -> dict[str, dict[str, Any]]:
    """By feature:

    - `side`, `kind`;
    - `rows`: how many independent draws of its values tell as much, (sum w)^2 / sum w^2 of the events w that each item
      counts for, or each user: of features of events too, as a user's are in few requests;
    - `null`: the share of the day's events without a value, of a list without any;
    - `unknown`: the share with a value, none of which the encoder knows; absent of numbers and of hash buckets;
    - `mean`: of numbers as they are in the log, of a list's known values their number; absent without any;
    - `groups`: events [G] by group, the first those without a known value. Of a small vocabulary a group a row, of
      numbers their buckets or STEPS, of lists LENGTHS; absent where there are none to compare.
    - `edges`: of numbers and lists the least value [G - 2] of each group but the first two, as they are in the log.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind in (kind for kind in encoder.kinds if not kind.feature.per_event):
        f = kind.feature
        table, events = (day.users, day.user_events) if f.side == "user" else (day.items, day.item_events)
        there = pl.Series(events > 0)
        tally = _Tally(kind, encoder, _draws(events))
        tally.add(table[f.name].filter(there), events[events > 0].astype(np.float64))
        found[f.name] = tally.told()
    return found | _of_events(day, encoder)


def _of_events(day: Day, encoder: Encoder) -> dict[str, dict[str, Any]]:
    tallies = {
        kind.feature.name: _Tally(kind, encoder, _draws(day.user_events))
        for kind in encoder.kinds
        if kind.feature.per_event
    }
    for block in day.blocks() if tallies else ():
        assert block.features is not None
        for name, tally in tallies.items():
            tally.add(block.features[name], np.ones(len(block)))
    return {name: tally.told() for name, tally in tallies.items()}


def _draws(events: npt.NDArray[Any]) -> float:
    """How many users or items of as many events each tell as much as these (Kish's effective sample size)."""
    w = events.astype(np.float64)
    return float(w.sum() ** 2 / max(float(np.square(w).sum()), 1.0))


@dataclass
class _Tally:
    """One feature's values so far."""

    kind: Kind
    encoder: Encoder
    draws: float
    weight: float = 0.0
    null: float = 0.0
    unknown: float = 0.0
    total: float = 0.0
    numbers: float = 0.0
    groups: Floats | None = field(default=None)

    def add(self, values: pl.Series, events: Floats) -> None:
        """n raw values, and how many events each counts for [n]."""
        f = self.kind.feature
        encoded = self.kind.encode(values, self.encoder.learned)
        self.weight += float(events.sum())
        known, group, number = self._grouped(values, encoded)
        null = _empty(values)
        self.null += float(events[null].sum())
        if f.has_ids and f.hash_bucket_size is None:
            self.unknown += float(events[~known & ~null].sum())
        if number is not None:
            there = np.isfinite(number)
            self.total += float(events[there] @ number[there])
            self.numbers += float(events[there].sum())
        if group is not None:
            before = np.zeros(self._size()) if self.groups is None else self.groups
            self.groups = before + np.bincount(group, weights=events, minlength=self._size())

    def _grouped(self, values: pl.Series, encoded: Array) -> tuple[Array, Array | None, Floats | None]:
        """(whether a value is known [n], its group [n], its number [n]) of n values."""
        f = self.kind.feature
        if f.kind == "sequence":
            lengths = (encoded > 0).sum(1)
            return lengths > 0, np.searchsorted(LENGTHS, lengths, side="right"), lengths.astype(np.float64)
        if f.kind == "numeric":
            number = _raw(values)
            known = np.isfinite(number)
            if f.is_bucketed:
                return known, encoded, number
            return known, np.where(known, 1 + np.searchsorted(_steps(), encoded[:, 0], side="right"), 0), number
        known = (encoded > 0) if encoded.ndim == 1 else ~_empty(values)
        return known, encoded if self._size() else None, None

    def _size(self) -> int:
        """Groups; 0 where there are none to compare."""
        f = self.kind.feature
        if f.kind == "sequence":
            return len(LENGTHS) + 1
        if f.kind == "numeric" and not f.is_bucketed:
            return len(_steps()) + 2
        rows = self.encoder.embedding_rows().get(self.kind.embedding, 0)
        return rows if f.kind == "numeric" or rows <= MOST_ROWS else 0

    def told(self) -> dict[str, Any]:
        """The entry of `features_of`."""
        f, every = self.kind.feature, max(self.weight, 1.0)
        out: dict[str, Any] = {"side": f.side, "kind": f.kind, "null": self.null / every}
        out["rows"] = self.draws
        if f.has_ids and f.hash_bucket_size is None:
            out["unknown"] = self.unknown / every
        if self.numbers:
            out["mean"] = self.total / self.numbers
        if self.groups is not None:
            out["groups"] = self.groups.tolist()
        if f.kind in ("numeric", "sequence"):
            out["edges"] = [*map(float, _edges(self.kind, self.encoder))]
        return out


def _edges(kind: Kind, encoder: Encoder) -> Floats:
    f = kind.feature
    if f.kind == "sequence":
        return np.array(LENGTHS[1:], np.float64)
    learned = encoder.numbers.get(f.name, {"edges": [], "mean": 0.0, "std": 1.0})
    if f.is_bucketed:
        return np.array(learned["edges"], np.float64)
    edges: Floats = learned["mean"] + _steps() * learned["std"]
    return np.sign(edges) * np.expm1(np.abs(edges)) if f.transform == "log1p" else edges


def _steps() -> Floats:
    return np.array([*(-step for step in reversed(STEPS)), 0.0, *STEPS])


def _raw(values: pl.Series) -> Floats:
    """[n] as they are in the log; NaN for null and what is not finite."""
    if values.dtype == pl.Null:
        return np.full(len(values), np.nan)
    x = values.cast(pl.Float64).to_numpy().astype(np.float64)
    return np.where(np.isfinite(x), x, np.nan)


def _empty(values: pl.Series) -> npt.NDArray[np.bool_]:
    """[n] null, NaN, empty text or an empty list."""
    null = values.is_null()
    if values.dtype.is_float():
        null |= values.is_nan().fill_null(True)
    elif values.dtype == pl.String:
        null |= (values == "").fill_null(True)
    elif isinstance(values.dtype, pl.List):
        null |= (values.list.len() == 0).fill_null(True)
    return null.to_numpy()
