"""Negatives drawn at random from a day's catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.data.log.checked.day import Day

_TRIES = 16  # for an item that the user did not click


@dataclass(frozen=True)
class Negatives:
    """Draws items of a day's catalogue, each with a probability proportional to its clicks of the day to the power of
    alpha: 1 as in DMTL (arXiv 2102.07142), 0.75 as in word2vec (arXiv 1310.4546), 0 uniform."""

    day: Day
    alpha: float
    shown: bool = False
    """whether an item's exposures count in place of its clicks"""

    @cached_property
    def cumulative(self) -> npt.NDArray[np.float64]:
        counts = (self.day.item_events if self.shown else self.day.item_clicks).astype(np.float64)
        if self.alpha == 0 or not counts.any():
            counts = np.ones_like(counts)
        share = counts ** (self.alpha or 1.0)
        return np.cumsum(share / share.sum())

    def draw(
        self, user: npt.NDArray[Any], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Draws an item row for each user row, [n]: one that the user did not click that day.

        Returns:
            item rows [n], and whether each is valid [n]: users who clicked (nearly) everything may get none that is.
        """
        item = self._any(len(user), rng)
        hit = self.day.has_clicked(user, item)
        for _ in range(_TRIES):
            again = np.flatnonzero(hit)
            if not len(again):
                break
            item[again] = self._any(len(again), rng)
            hit[again] = self.day.has_clicked(user[again], item[again])
        return item, ~hit

    def _any(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        at = np.searchsorted(self.cumulative, rng.random(n), side="right")
        return np.minimum(at, len(self.cumulative) - 1)
