"""How a chain's first window is cut in two: what trials learn, and what they are measured on.

Progressive validation (Blum, Kalai and Langford, COLT 1999), once: what is measured comes after what is learned, as a
model's next day does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.checked.day import ID, Block, Day
from dmtl_cli.data.log.values.hashing import blake2b64_of, splitmix64
from dmtl_cli.teacher.rows import Kept

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEARNED = 2 / 3
"""of the days, of a day's time or of its users"""
MOST_MEASURED = 50_000
"""pairs that a candidate is measured on, up to chance"""


@dataclass(frozen=True)
class Cut:
    """A window in two parts."""

    days: Sequence[Day]
    by: Literal["days", "time", "users"]
    learned: Sequence[Day]
    """days with rows to learn"""
    moment: float | None = None
    """by time: the last time that is learned, as the log counts it"""
    _draws: dict[tuple[dt.date, int], Floats] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(days: Sequence[Day]) -> Cut:
        """By days where there are several, else by time where the log has one that some events come after, else by
        users."""
        if len(days) > 1:
            return Cut(days, "days", days[: max(1, round(len(days) * LEARNED))])
        times = [t for block in days[0].blocks() if (t := block.time) is not None and t.dtype != pl.String]
        at = pl.concat(times).to_physical().cast(pl.Float64) if times else pl.Series(dtype=pl.Float64)
        moment = at.quantile(LEARNED)
        if moment is None or not (at > moment).any():
            return Cut(days, "users", days)
        return Cut(days, "time", days, moment)

    def learn(self, share: float) -> Kept:
        """The events that are learned, of a share of the users."""
        last = self.learned[-1].day

        def kept(day: Day, block: Block) -> Bools:
            if day.day > last:
                return np.zeros(len(block), np.bool_)
            return self._early(day, block) & (self._sample(day)[block.user] < share)

        return kept

    def measure(self, pairs: float = 1.0) -> Kept:
        """The events that are measured, of so many users that there are some MOST_MEASURED pairs.

        Args:
            pairs: that an event is measured by: itself, and what is drawn for it.
        """
        last = self.learned[-1].day
        after = [day for day in self.days if day.day > last]
        rows = sum(map(len, after)) if after else len(self.days[-1]) * (1 - LEARNED)
        share = min(1.0, MOST_MEASURED / max(1.0, rows * pairs))

        def kept(day: Day, block: Block) -> Bools:
            if self.by == "days" and day.day <= last:
                return np.zeros(len(block), np.bool_)
            late = np.ones(len(block), np.bool_) if self.by == "days" else ~self._early(day, block)
            return late & (self._sample(day)[block.user] < share)

        return kept

    @property
    def rows(self) -> int:
        """Events that are learned, about."""
        return round(sum(map(len, self.learned)) * (1.0 if self.by == "days" else LEARNED))

    @cached_property
    def draws(self) -> Floats:
        """[users of all days, day after day] from 0 to 1, of a user the same on every day: `learn(share)` takes those
        below the share."""
        return np.concatenate([self._sample(day) for day in self.days])

    @cached_property
    def users(self) -> Ints:
        """[users of all days, day after day] a number of each, of a user the same on every day."""
        numbers: Ints = np.unique(self.draws, return_inverse=True)[1]
        return numbers

    def _early(self, day: Day, block: Block) -> Bools:
        if self.by == "days":
            return np.ones(len(block), np.bool_)
        if block.time is None or self.moment is None:
            early: Bools = self._draw(day, 1)[block.user] < LEARNED
            return early
        found: Bools = (block.time.to_physical().cast(pl.Float64) <= self.moment).to_numpy()
        return found

    def _sample(self, day: Day) -> Floats:
        return self._draw(day, 2)

    def _draw(self, day: Day, salt: int) -> Floats:
        """[users] a number from 0 to 1, by a hash of a user's id: of a user the same on every day."""
        if (day.day, salt) not in self._draws:
            ids = day.users[ID]
            hashed = splitmix64(ids.to_numpy() if ids.dtype.is_integer() else blake2b64_of(ids.to_list()))
            drawn = splitmix64(hashed + np.uint64(salt)) >> np.uint64(11)
            self._draws[day.day, salt] = drawn.astype(np.float64) / 2.0**53
        return self._draws[day.day, salt]
