"""What the models of a day are measured on: exposed rows, negatives drawn for them, and users to retrieve for.

All three depend on the day alone, not on a run's seed, so that every model, seed and setting is measured on the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.evaluate import TOPK, Evaluate
from dmtl_cli.config.tasks import CLICK, Tasks, with_click
from dmtl_cli.data.log.checked.day import ID, Block, Day
from dmtl_cli.data.log.values.hashing import blake2b64, blake2b64_of, splitmix64
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.evaluate.budget import Pace, most
from dmtl_cli.serving.places import Places
from dmtl_cli.serving.search import Pairs

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def fixed_rng(purpose: str, day: dt.date) -> np.random.Generator:
    """A generator that depends on the purpose and the day alone."""
    return np.random.default_rng(list(f"evaluate|{purpose}|{day}".encode()))


def draw_users(day: Day) -> npt.NDArray[np.uint64]:
    """[users] a number that depends on a user's id and the date alone: the users of the smallest are measured. So each
    reading of a day has the same sample, and a larger sample has all users of a smaller one."""
    ids, purpose = day.users[ID], f"evaluate|{day.day}"
    if ids.dtype.is_integer():
        return splitmix64(splitmix64(ids.to_numpy()) ^ np.uint64(blake2b64(purpose)))
    return blake2b64_of(f"{purpose}|{text}" for text in ids)


@dataclass(frozen=True)
class Observed:
    """What the log says of n exposed rows, m of them clicked."""

    user: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    measured: dict[str, Bools]
    """by label the rows [n] that it is measured on: ctr all, X the clicked rows that know X, ctX all that know X"""
    positive: dict[str, Bools]
    """by label the rows [n] where it is true"""
    valid: dict[str, Bools]
    """by way of drawing, for each clicked row [m]: whether its negative is one, an item that the user did not click"""

    @staticmethod
    def concat(parts: Sequence[Observed]) -> Observed:
        return Observed(
            np.concatenate([p.user for p in parts]),
            np.concatenate([p.weight for p in parts]),
            concat_by_name([p.measured for p in parts]),
            concat_by_name([p.positive for p in parts]),
            concat_by_name([p.valid for p in parts]),
        )


def concat_by_name(parts: Sequence[dict[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Sample:
    """Some exposed rows of a day, and the pairs to score for them."""

    observed: Observed
    exposed: Rows[None]
    drawn: dict[str, Rows[None]]
    """by way of drawing: the clicked rows with another item each"""


@dataclass(frozen=True)
class Wanted:
    """The items of each sampled user that a retrieval should find, as `metrics.retrieval_of_each` takes them."""

    indptr: Ints
    items: Ints
    seconds: Floats | None

    def take(self, users: Ints) -> Wanted:
        """What some of the users wanted."""
        count = np.diff(self.indptr)[users]
        indptr = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        at = np.arange(indptr[-1]) + np.repeat(self.indptr[users] - indptr[:-1], count)
        return Wanted(indptr, self.items[at], None if self.seconds is None else self.seconds[at])

    def among(self, items: Ints) -> Wanted:
        """What the users wanted of some items."""
        kept = np.isin(self.items, items)
        indptr = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)[self.indptr]
        return Wanted(indptr, self.items[kept], None if self.seconds is None else self.seconds[kept])


@dataclass(frozen=True)
class SeenItems:
    """What users have seen, as an export says of them."""

    user: Ints
    """[n] rows of the day's users, ascending"""
    item: pl.Series
    """[n] ids"""

    @staticmethod
    def of(day: Day, stored: pl.DataFrame) -> SeenItems:
        """From `user_id` and `seen_items`, lists of ids, of users of the day."""
        rows = pl.Series("user", day.rows_of(stored["user_id"], "user"))
        pairs = pl.DataFrame([rows, stored["seen_items"].alias("item")]).explode("item").drop_nulls()
        pairs = pairs.sort("user", "item")
        return SeenItems(pairs["user"].to_numpy(), pairs["item"])

    def count(self, users: Ints) -> Ints:
        """[U] of user rows how many."""
        first, last = (np.searchsorted(self.user, users, side) for side in ("left", "right"))
        return last - first

    def among(self, users: Ints, ids: pl.Series) -> Pairs:
        """Of some user rows [U], ascending, and of the items [I] that are retrieved from: places of both."""
        known = ids.dtype == self.item.dtype
        pairs = Pairs(self.user, Places(ids).rows(self.item) if known else np.full(len(self.item), -1)).among(users)
        return Pairs(*(of[pairs.item >= 0] for of in pairs))


@dataclass(frozen=True)
class Exam:
    """One day and the part of it that models are measured on."""

    day: Day
    threshold: float | None
    """seconds above which a read is a long read; None where a column of the log says so"""
    tasks: Tasks
    exposures: bool
    """whether the log has unclicked rows: without them exposed-row metrics of ctr and ctX are undefined"""
    row_users: Bools
    """[users] whose rows are measured: all, or of a large day a sample of whole users, so that memory is bounded and a
    user's rows stay together, as GAUC and tau need them"""
    users: Ints
    """users [U] to retrieve for, sorted: all with events, or a sample of them"""
    few: Ints
    """places in `users`, sorted, of those for whom a ranker retrieves that scores every pair"""
    seen: Bools | None
    """[items] whether an event before the day had the item; None where that is not known"""
    new_users: Bools | None = None
    """[users] whether the user had no event before the day; None where that is not known"""
    topk: tuple[int, ...] = TOPK
    """as `evaluate.topk`"""
    exclude_seen: bool = False
    """as `evaluate.exclude_seen`"""
    seen_items: SeenItems | None = None
    """by the export of that morning; None where there was none"""

    @property
    def excluded(self) -> SeenItems | None:
        """What is not retrieved for users; None: nothing is left out."""
        return self.seen_items if self.exclude_seen else None

    @property
    def k(self) -> int:
        """The K of tables, charts and gates."""
        return self.topk[0]

    @property
    def ks(self) -> tuple[int, ...]:
        """Every K that is measured, the smallest first."""
        return tuple(sorted({*self.topk}))

    @staticmethod
    def draw(
        day: Day,
        threshold: float | None,
        tasks: Tasks,
        exposures: bool,
        settings: Evaluate,
        seen: pl.Series | None = None,
        known: pl.Series | None = None,
        *,
        pace: Pace | None = None,
        clicked_first: bool = True,
    ) -> Exam:
        """What is measured of a day.

        Args:
            seen: ids of the items with an event before the day, as far as that is known.
            known: ids of the users with one.
            pace: what a day's work costs, of which `settings.share` is measured; without it no more bounds than those
                that `settings` names.
            clicked_first: whether a sample to retrieve for is of users who clicked, as long as there are some: no
                recall is of others. Not where all users count, as in the worth of a known truth.
        """
        bounds = pace.bounds(day, settings) if pace else most(day, settings)
        users = np.flatnonzero(day.user_events > 0)
        few, row_users = np.arange(min(len(users), bounds.users)), np.ones(len(day.users), np.bool_)
        if bounds.rows < 1 or min(bounds[1:]) < len(users):
            number = draw_users(day)
            row_users = number.astype(np.float64) < bounds.rows * 2.0**64
            row_users[users[np.argmin(number[users])]] = True  # a day has the metrics of rows, of however few
            clicked = np.zeros(len(day.users), np.bool_)
            clicked[day.clicked // len(day.items)] = clicked_first
            users = np.sort(users[np.lexsort((number[users], ~clicked[users]))[: bounds.users]])
            few = np.sort(np.lexsort((number[users], ~clicked[users]))[: bounds.few])
        old = None if seen is None else _among(day, seen, "item")
        new = None if known is None else ~_among(day, known, "user")
        return Exam(
            day, threshold, tasks, exposures, row_users, users, few, old, new, settings.topk, settings.exclude_seen
        )

    def samples(self) -> Iterator[Sample]:
        """The measured exposed rows, block by block."""
        rng = fixed_rng("negatives", self.day.day)
        ways = {"uniform": (Negatives(self.day, 0.0), rng), "popular": (Negatives(self.day, 1.0), rng)}
        if self.exposures:
            ways["shown"] = Negatives(self.day, 1.0, shown=True), fixed_rng("shown", self.day.day)
        for block in self.day.blocks():
            rows = np.flatnonzero(self.row_users[block.user])
            exposed = pairs(block.user, block.item, block.features).take(rows)
            clicked = exposed.take(np.flatnonzero(block.click[rows]))
            drawn = {way: negatives.draw(clicked.user, rng) for way, (negatives, rng) in ways.items()}
            measured, positive = self._labels(block)
            observed = Observed(
                block.user[rows],
                block.weight[rows],
                {label: here[rows] for label, here in measured.items()},
                {label: true[rows] for label, true in positive.items()},
                {way: valid for way, (_, valid) in drawn.items()},
            )
            others = {way: pairs(clicked.user, item, clicked.features) for way, (item, _) in drawn.items()}
            yield Sample(observed, exposed, others)

    def _labels(self, block: Block) -> tuple[dict[str, Bools], dict[str, Bools]]:
        """By label the rows of a block that it is measured on, and those where it is true."""
        measured, positive = {CLICK: np.ones_like(block.click)}, {CLICK: block.click}
        conversions = block.conversions(self.threshold)
        for x in self.tasks.conversions:
            converted, known = conversions[x]
            measured |= {x: block.click & known, with_click(x): known}
            positive |= {x: converted, with_click(x): converted}
        return measured, positive

    @cached_property
    def wanted(self) -> dict[str, Wanted]:
        """What the users to retrieve for clicked and, of that, their long reads (`click`, `read`); clicks with their
        seconds where the log has some."""
        place = np.full(len(self.day.users), -1)
        place[self.users] = np.arange(len(self.users))
        found: dict[str, list[pl.DataFrame]] = {"click": [], "read": []}
        for block in self.day.blocks():
            who = place[block.user]
            converted, _ = block.labels(self.threshold)
            for name, hit in (("click", block.click), ("read", converted)):
                keep = hit & (who >= 0)
                seconds = np.nan_to_num(block.duration[keep])
                columns = {"user": who[keep], "item": block.item[keep].astype(np.int64), "seconds": seconds}
                found[name].append(pl.DataFrame(columns))
        timed = self.threshold is not None
        return {
            name: _distinct(pl.concat(parts, rechunk=True), len(self.users), timed=timed and name == "click")
            for name, parts in found.items()
        }


def _among(day: Day, ids: pl.Series, side: str) -> Bools:
    """Whether each of the day's users, or items, is one of the ids."""
    out = np.zeros(len(day.users if side == "user" else day.items), np.bool_)
    rows = day.rows_of(ids, side)
    out[rows[rows >= 0]] = True
    return out


def _distinct(hits: pl.DataFrame, users: int, *, timed: bool) -> Wanted:
    """Hits (user, item, seconds) with the seconds of one pair added up."""
    seconds = pl.col("seconds").cast(pl.Float64).sort().sum()  # sorted: the sum does not depend on the log's order
    frame = hits.group_by("user", "item").agg(seconds).sort("user", "item")
    counts = np.bincount(frame["user"].to_numpy(), minlength=users)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Wanted(indptr, frame["item"].to_numpy(), frame["seconds"].to_numpy() if timed else None)
