"""Which rows a model learns from, and only that: pairs of row numbers with labels, targets and weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.schema import Student, Teacher
from dmtl_cli.data.log.day import Block, Day
from dmtl_cli.data.log.hashing import GAMMA, splitmix64
from dmtl_cli.data.negatives import Negatives

SOURCES = ("exposed", "negative", "candidate")
_LABELS = ("click", "converted", "known")
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

    def shuffled(self, rng: np.random.Generator) -> Rows:
        """In random order; rows of one list stay together."""
        if "list" in self.columns:
            _, at = np.unique(self.columns["list"], return_inverse=True)
            order = rng.permutation(at.max(initial=-1) + 1)
            return self.take(np.argsort(order[at], kind="stable"))
        return self.take(rng.permutation(len(self)))

    @property
    def cuts(self) -> npt.NDArray[np.int64]:
        """Places where the rows may be cut, the end included: anywhere, or between lists."""
        if "list" not in self.columns:
            return np.arange(1, len(self) + 1)
        lists = self.columns["list"]
        return np.append(np.flatnonzero(lists[1:] != lists[:-1]) + 1, len(lists))

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
    state = block.position.astype(np.uint64) + np.uint64(seed * GAMMA % 2**64)
    return (splitmix64(state) >> np.uint64(11)).astype(np.float64) / 2.0**53 < share


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

    A drawn negative copies the user and the context of the row it is drawn for. With `user_rows` above 1 rows are
    lists of a user's, which batches keep whole.

    Yields:
        Rows with columns click, for each conversion task X converted.X and known.X (bool), and weight (float32); row
        numbers are offset by the tables of the days before.
    """
    users = items = 0
    for day in days:
        negatives = Negatives(day, config.alpha)
        for block in day.blocks(rng, by_user=config.user_rows > 1):
            keep = ~held_out(block, calibration_share, seed)
            if config.samples == "sampled":
                keep &= block.click
            columns: dict[str, npt.NDArray[Any]] = {"click": block.click, "weight": block.weight}
            for task, (converted, known) in block.conversions(threshold).items():
                columns |= {f"converted.{task}": converted, f"known.{task}": known}
            user, item = block.user.astype(np.int64), block.item.astype(np.int64)
            logged = Rows(user, item, columns, block.features).take(np.flatnonzero(keep))
            parts = [logged]
            for _ in range(config.negatives if config.samples != "exposed" else 0):
                item, valid = negatives.draw(logged.user, rng)
                drawn = as_negatives(logged, item, config.negative_weight)
                parts.append(drawn.take(np.flatnonzero(valid)))
            rows = Rows.concat(parts)
            shifted = Rows(rows.user + users, rows.item + items, rows.columns, rows.features)
            if config.user_rows == 1:
                yield shifted.shuffled(rng)
            else:  # the log's rows came user by user
                lists = in_runs if len(parts) == 1 else in_lists
                yield lists(shifted, shifted.user, config.user_rows, rng)
        users += len(day.users)
        items += len(day.items)


def as_negatives(rows: Rows, item: npt.NDArray[np.int64], weight: float) -> Rows:
    """The same users in the same context beside other items, which they did not click; `weight` times their weight."""
    no = np.zeros(len(rows), np.bool_)
    labels = {k: ~no if k.startswith("known.") else no for k in rows.columns if k.split(".")[0] in _LABELS}
    weights = {"weight": rows.columns["weight"] * np.float32(weight)}
    return Rows(rows.user, item, rows.columns | labels | weights, rows.features)


def in_lists(rows: Rows, group: npt.NDArray[np.int64], size: int, rng: np.random.Generator) -> Rows:
    """The rows list by list: those of a group, cut at random into lists of at most `size`, in random order.

    Adds the column `list`: a random number of 62 bits, so that lists of any source can be told apart.
    """
    order = rng.permutation(len(rows))
    order = order[np.argsort(group[order], kind="stable")]
    return in_runs(rows.take(order), group[order], size, rng).shuffled(rng)


def in_runs(rows: Rows, group: npt.NDArray[np.int64], size: int, rng: np.random.Generator) -> Rows:
    """Rows whose groups stand together, as they stand; each group cut into lists of at most `size`: see `in_lists`."""
    new = np.append(True, group[1:] != group[:-1]) if len(group) else np.zeros(0, np.bool_)
    begin = np.flatnonzero(new)
    place = np.arange(len(group)) - np.repeat(begin, np.diff(np.append(begin, len(group))))
    new |= place % size == 0
    number = rng.integers(2**62, size=int(new.sum()))[np.cumsum(new) - 1]
    return Rows(rows.user, rows.item, rows.columns | {"list": number}, rows.features)


def hard_rows(
    day: Day,
    threshold: float | None,
    config: Student,
    users: int,
    items: int,
    rng: np.random.Generator,
) -> Iterator[Rows]:
    """Labelled rows of a day for a student's hard loss.

    sampled_softmax learns from positives alone (its negatives are the batch's other items); pointwise from the log's
    rows and drawn negatives. A row whose label is unknown is left out.

    Args:
        users, items: offset of the day's tables in the model's stacked ones.

    Yields:
        Rows with columns label and hard_weight, and nothing to distill (targets NaN).
    """
    uniform, hard = Negatives(day, 0.0), config.hard
    mean = day.facts["duration_sum"] / max(1.0, day.facts["duration_rows"]) or 1.0
    for block in day.blocks(rng):
        converted, known = block.labels(threshold)
        label, known = (block.click, np.ones_like(known)) if hard.label == "click" else (converted, known)
        weight = block.weight
        if hard.duration_weighted:  # a clicked row that was not timed counts nothing
            weight = np.where(block.click, weight * np.nan_to_num(block.duration / np.float32(mean)), weight)
        keep = np.flatnonzero(known & label if hard.loss == "sampled_softmax" else known)
        user, item = block.user[keep].astype(np.int64), block.item[keep].astype(np.int64)
        parts = [(user, item, label[keep], weight[keep])]
        for _ in range(hard.negatives if hard.loss == "pointwise" else 0):
            drawn, valid = uniform.draw(user, rng)
            parts.append((user[valid], drawn[valid], np.zeros(int(valid.sum()), np.bool_), block.weight[keep][valid]))
        for u, i, y, w in parts:
            nothing = dict.fromkeys(config.distill.targets, np.full(len(u), np.nan))
            rows = student_rows(u + users, i + items, targets=nothing, label=y, hard_weight=w)
            yield in_lists(rows, np.arange(len(u)), 2, rng) if config.rows_together > 1 else rows


def student_rows(
    user: npt.NDArray[np.int64],
    item: npt.NDArray[np.int64],
    *,
    targets: dict[str, npt.NDArray[np.float64]],
    source: npt.NDArray[np.int8] | None = None,
    kd_weight: npt.NDArray[np.float32] | None = None,
    label: npt.NDArray[np.bool_] | None = None,
    hard_weight: npt.NDArray[np.float32] | None = None,
) -> Rows:
    """Rows for a student: `target.NAME` (teacher logit, NaN where there is none), where its pair came from (place in
    SOURCES), and label, each with its weight."""
    n = len(user)
    columns: dict[str, npt.NDArray[Any]] = {
        **{f"target.{name}": t for name, t in targets.items()},
        "source": np.zeros(n, np.int8) if source is None else source,
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
        yield Rows.concat(parts).shuffled(rng)


class _Taker:
    """Takes a given number of rows from a stream of blocks, as long as there are some; lists are taken whole."""

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
            if not len(block):
                continue
            cut = int(block.cuts[min(len(block.cuts) - 1, int(np.searchsorted(block.cuts, n)))])
            out.append(block.take(slice(0, cut)))
            if len(block) > cut:
                self.left = block.take(slice(cut, None))
            n -= cut
        return out
