"""Which rows a model learns from, and only that: pairs of row numbers with labels, targets and weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config import Hard, Teacher
from dmtl_cli.data.log import Block, Day
from dmtl_cli.data.negatives import Negatives

_POOL = 1 << 18  # rows of several streams shuffled together


@dataclass(frozen=True)
class Rows:
    """Pairs to learn. `user` and `item` number rows of the model's stacked tables."""

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[Any]]
    features: pl.DataFrame | None = None
    """event-level raw features; None where a row has no event of its own"""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[Any] | slice) -> Rows:
        columns = {k: v[rows] for k, v in self.columns.items()}
        return Rows(self.user[rows], self.item[rows], columns, None if self.features is None else self.features[rows])

    @staticmethod
    def concat(parts: Sequence[Rows]) -> Rows:
        names = dict.fromkeys(k for p in parts for k in p.columns)
        columns = {k: np.concatenate([p.columns[k] for p in parts]) for k in names}
        framed = [p.features for p in parts if p.features is not None]
        return Rows(
            np.concatenate([p.user for p in parts]),
            np.concatenate([p.item for p in parts]),
            columns,
            pl.concat(framed) if framed else None,
        )


def held_out(block: Block, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """The share of events kept for calibration: a fixed hash of an event's place (splitmix64), so that the same events
    are held out in every epoch and whatever the order of reading."""
    with np.errstate(over="ignore"):
        x = block.position.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53 < share


def teacher_rows(
    days: list[Day],
    threshold: float | None,
    config: Teacher,
    calibration_share: float,
    seed: int,
    rng: np.random.Generator,
) -> Iterator[Rows]:
    """One epoch, day after day.

    - exposed: the log's rows (clicks are positives, what was shown and not clicked is a negative).
    - mixed: the same, and `negatives` drawn a row.
    - sampled (DMTL's): clicks, and `negatives` drawn a click; exposed but unclicked rows are not negatives.

    A drawn negative copies the user and the context of the row it is drawn for.

    Yields:
        Rows with columns click, converted, known (bool) and weight (float32); row numbers are offset by the tables of
        the days before.
    """
    users = items = 0
    for day in days:
        negatives = Negatives(day, config.alpha)
        for block in day.blocks(rng):
            keep = ~held_out(block, calibration_share, seed)
            if config.samples == "sampled":
                keep &= block.click
            converted, known = block.labels(threshold)
            logged = Rows(
                block.user.astype(np.int64),
                block.item.astype(np.int64),
                {"click": block.click, "converted": converted, "known": known, "weight": block.weight},
                block.features,
            ).take(np.flatnonzero(keep))
            parts = [logged]
            for _ in range(config.negatives if config.samples != "exposed" else 0):
                item, valid = negatives.draw(logged.user, rng)
                drawn = as_negatives(logged, item)
                parts.append(drawn.take(np.flatnonzero(valid)))
            rows = Rows.concat(parts)
            shifted = Rows(rows.user + users, rows.item + items, rows.columns, rows.features)
            yield shifted.take(rng.permutation(len(shifted)))
        users += len(day.users)
        items += len(day.items)


def as_negatives(rows: Rows, item: npt.NDArray[np.int64]) -> Rows:
    """The same users in the same context beside other items, which they did not click."""
    no = np.zeros(len(rows), np.bool_)
    labels = {"click": no, "converted": no, "known": ~no}
    return Rows(rows.user, item, rows.columns | labels, rows.features)


def hard_rows(
    day: Day, threshold: float | None, config: Hard, users: int, items: int, rng: np.random.Generator
) -> Iterator[Rows]:
    """Labelled rows of a day for a student's hard loss.

    sampled_softmax learns from positives alone (its negatives are the batch's other items); pointwise from the log's
    rows and drawn negatives. A row whose label is unknown is left out.

    Args:
        users, items: offset of the day's tables in the model's stacked ones.

    Yields:
        Rows with columns label and hard_weight, and nothing to distill (target NaN).
    """
    uniform = Negatives(day, 0.0)
    for block in day.blocks(rng):
        converted, known = block.labels(threshold)
        label, known = (block.click, np.ones_like(known)) if config.label == "click" else (converted, known)
        keep = np.flatnonzero(known & label if config.loss == "sampled_softmax" else known)
        user, item = block.user[keep].astype(np.int64), block.item[keep].astype(np.int64)
        parts = [(user, item, label[keep], block.weight[keep])]
        for _ in range(config.negatives if config.loss == "pointwise" else 0):
            drawn, valid = uniform.draw(user, rng)
            parts.append((user[valid], drawn[valid], np.zeros(int(valid.sum()), np.bool_), block.weight[keep][valid]))
        for u, i, y, w in parts:
            yield student_rows(u + users, i + items, label=y, hard_weight=w)


def student_rows(
    user: npt.NDArray[np.int64],
    item: npt.NDArray[np.int64],
    *,
    target: npt.NDArray[np.float64] | None = None,
    kd_weight: npt.NDArray[np.float32] | None = None,
    label: npt.NDArray[np.bool_] | None = None,
    hard_weight: npt.NDArray[np.float32] | None = None,
) -> Rows:
    """Rows for a student: target (teacher logit, NaN where there is none) and label, each with its weight."""
    n = len(user)
    columns: dict[str, npt.NDArray[Any]] = {
        "target": np.full(n, np.nan) if target is None else target,
        "kd_weight": np.zeros(n, np.float32) if kd_weight is None else kd_weight,
        "label": np.zeros(n, np.bool_) if label is None else label,
        "hard_weight": np.zeros(n, np.float32) if hard_weight is None else hard_weight,
    }
    return Rows(user, item, columns)


def mix(streams: list[tuple[Iterator[Rows], int]], rng: np.random.Generator) -> Iterator[Rows]:
    """Several streams (with their row counts) as one, each in its proportion throughout, shuffled pool by pool."""
    total = sum(n for _, n in streams)
    pools = max(1, -(-total // _POOL))
    takers = [(_Taker(rows), -(-n // pools)) for rows, n in streams if n]
    while parts := [p for taker, share in takers for p in taker.take(share)]:
        pool = Rows.concat(parts)
        yield pool.take(rng.permutation(len(pool)))


class _Taker:
    """Takes a given number of rows from a stream of blocks, as long as there are some."""

    def __init__(self, rows: Iterator[Rows]) -> None:
        self.rows, self.left = rows, None

    left: Rows | None

    def take(self, n: int) -> list[Rows]:
        out: list[Rows] = []
        while n > 0:
            block = self.left if self.left is not None else next(self.rows, None)
            self.left = None
            if block is None:
                break
            out.append(block.take(slice(0, n)))
            if len(block) > n:
                self.left = block.take(slice(n, None))
            n -= len(out[-1])
        return out
