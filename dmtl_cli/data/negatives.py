"""Negatives drawn at random from a day's catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.data.log.day import Day

_TRIES = 16


@dataclass(frozen=True)
class Negatives:
    """Draws items in proportion to their clicks of the day to the power of alpha.

    alpha 1 is the wording of DMTL (arXiv 2102.07142), .75 word2vec's, 0 uniform over the catalogue.
    """

    day: Day
    alpha: float

    @cached_property
    def cumulative(self) -> npt.NDArray[np.float64]:
        clicks = self.day.item_clicks.astype(np.float64)
        if self.alpha == 0 or not clicks.any():
            clicks = np.ones_like(clicks)
        share = clicks ** (self.alpha or 1.0)
        return np.cumsum(share / share.sum())

    def draw(
        self, user: npt.NDArray[Any], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """For each user row an item row that this user did not click that day.

        Returns:
            items [n] and valid [n]; a user who clicked (nearly) everything may get no valid one.
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
