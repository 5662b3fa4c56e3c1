"""Which rows a teacher learns from, and which are held out to calibrate it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.schema import Config
from dmtl_cli.config.teacher import Teacher
from dmtl_cli.data.log.checked.day import Block, Day
from dmtl_cli.data.log.values.hashing import GAMMA, splitmix64
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Ints, Rows, begins, in_lists, in_runs
from dmtl_cli.teacher.labels import TeacherLabels, TeacherRows, labelled

MAX_HELD_OUT = 1_000_000  # rows: enough for two numbers per task, and they are kept in memory


Kept = Callable[[Day, Block], npt.NDArray[np.bool_]]
"""which events of a block of a day are learned, [n] bool"""


@dataclass(frozen=True)
class HoldOut:
    """Which events are kept from training: whole requests, or where the log has none what a user saw in a day.

    Rows of one request share what no feature says, so single rows of it would be easier to predict than the next day's.

    Args:
        share: of the requests (users), up to chance.
    """

    share: float
    seed: int

    @staticmethod
    def of(config: Config, rows: int) -> HoldOut:
        """For `rows` logged rows; nothing in a log of clicks alone, which cannot calibrate."""
        exposures = config.data.events.click is not None
        share = min(config.teacher.calibration_share, MAX_HELD_OUT / rows) if exposures else 0.0
        return HoldOut(share, config.seed)

    def held(self, day: Day, block: Block) -> npt.NDArray[np.bool_]:
        """[n] bool, by a fixed hash (splitmix64) of day, user and request: the same events are held out in every epoch
        and whatever the order of reading, and of a user other days."""
        seed = np.int64((self.seed * GAMMA + day.day.toordinal()) % 2**63)
        state = splitmix64(block.user.astype(np.int64) + splitmix64(block.request ^ seed).astype(np.int64))
        return (splitmix64(state) >> np.uint64(11)).astype(np.float64) / 2.0**53 < self.share

    def kept(self, day: Day, block: Block) -> npt.NDArray[np.bool_]:
        return ~self.held(day, block)


@dataclass(frozen=True)
class Window:
    """The days of a teacher: what it learns of them, and what is held out."""

    days: list[Day]
    threshold: float | None
    """seconds of a long read"""
    hold_out: HoldOut
    known: dt.date | None = None
    """day of the teacher before: what adds up day by day knows of it and of the days before already"""

    def rows(self, config: Teacher, rng: np.random.Generator) -> Iterator[TeacherRows]:
        """The rows of one epoch (`teacher_rows`)."""
        return teacher_rows(self.days, self.threshold, config, self.hold_out.kept, rng)

    def new_rows(self, config: Teacher, rng: np.random.Generator) -> Iterator[TeacherRows]:
        """`rows` of the days after `known`."""
        return teacher_rows(self.days, self.threshold, config, self.hold_out.kept, rng, self.known)

    def held_out(self, day: Day) -> Iterator[TeacherRows]:
        """The held-out exposures of one of the days, block by block; none up to `known`, as calibration adds up too."""
        for block in day.blocks() if self._is_new(day) else ():
            yield labelled(block, self.threshold).take(np.flatnonzero(self.hold_out.held(day, block)))

    def with_held_out(self, rows: int) -> Window:
        """The same days, of which about so many rows are held out, or as many as there are."""
        share = rows / max(1, sum(len(day) for day in self.days if self._is_new(day)))
        return replace(self, hold_out=replace(self.hold_out, share=min(self.hold_out.share, share)))

    def _is_new(self, day: Day) -> bool:
        return self.known is None or day.day > self.known


def rows_per_epoch(days: Sequence[Day], config: Teacher) -> int:
    """Rows that an epoch of `teacher_rows` has, the held-out ones included."""
    if config.samples == "sampled":
        return sum(int(d.facts["clicks"]) for d in days) * (1 + config.negatives)
    return sum(len(d) for d in days) * (1 + config.negatives if config.samples == "mixed" else 1)


def teacher_rows(
    days: Sequence[Day],
    threshold: float | None,
    config: Teacher,
    kept: Kept,
    rng: np.random.Generator,
    after: dt.date | None = None,
) -> Iterator[TeacherRows]:
    """The rows of one epoch, day after day; row numbers are offset by the tables of the days before.

    - exposed: the log's rows (clicks are positives, what was shown and not clicked is a negative).
    - mixed: the same, and `negatives` drawn per row.
    - sampled (DMTL's): clicks, and `negatives` drawn per click; exposed but unclicked rows are not negatives.

    A drawn negative copies the user and the context of the row it is drawn for. With `user_rows` above 1 a list is rows
    of one user, which batches keep whole.

    Args:
        kept: which events are learned; the others are as if they were not in the log.
        after: the last day whose rows are left out.
    """
    for day, users, items in begins(days):
        if after is not None and day.day <= after:
            continue
        negatives = Negatives(day, config.alpha)
        for block in day.blocks(rng, by_user=config.user_rows > 1):
            keep = kept(day, block)
            if config.samples == "sampled":
                keep = keep & block.click
            logged = labelled(block, threshold).where(keep)
            parts = [logged]
            for _ in range(config.negatives if config.samples != "exposed" else 0):
                item, valid = negatives.draw(logged.user, rng)
                parts.append(as_negatives(logged, item, config.negative_weight).take(np.flatnonzero(valid)))
            rows = Rows.concat(parts).shifted(users, items)
            if config.user_rows == 1:
                yield rows.shuffled(rng)
            else:  # the log's rows came user by user
                lists = in_runs if len(parts) == 1 else in_lists
                yield lists(rows, rows.user, config.user_rows, rng)


def as_negatives(rows: TeacherRows, item: Ints, weight: float) -> TeacherRows:
    """The same users in the same context with other items, which they did not click; `weight` times their weight."""
    click, converted, known, weights = rows.labels
    labels = TeacherLabels(
        np.zeros_like(click), np.zeros_like(converted), np.ones_like(known), weights * np.float32(weight)
    )
    return Rows(rows.user, item, labels, rows.features, rows.lists)
