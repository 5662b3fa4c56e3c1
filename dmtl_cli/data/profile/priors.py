"""The mean of a rate and how many events it counts for, fitted to all users or items: empirical Bayes.

Rates k_i / n_i are taken as binomial draws around means that are drawn from a beta distribution (G. Casella, An
introduction to empirical Bayes data analysis, The American Statistician 39, 1985). Its mean and strength (alpha + beta)
are fitted by moments with weights n_i (J. C. Kleinman, Proportions with extraneous variance, JASA 68, 1973):

    m = sum k / n,   n = sum n_i,   S = sum n_i (k_i / n_i - m)**2,   C = sum n_i / e_i (1 - n_i / n)
    gamma = (S - m (1 - m) C) / (m (1 - m) (n - sum n_i**2 / n - C)),   strength = 1 / gamma - 1

The noise of a rate is that of e_i events. Of decayed ones, with weights w, these are (sum w)**2 / sum w**2 (L. Kish,
Survey sampling, 1965), where sum w**2 is the counter with half of the half-life; without decay e_i = n_i.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from dmtl_cli.data.profile.columns import decayed
from dmtl_cli.data.profile.plan import Rate

STRENGTHS = (1.0, 1e4)
"""events that a mean counts for, at least and at most"""


@dataclass(frozen=True)
class Prior:
    mean: float
    strength: float

    def smoothed(self, rate: Rate, strength: float | None, as_of: dt.date) -> pl.Expr:
        """(count + strength * mean) / (count of + strength) of stored rows. `strength`: None for the fitted one."""
        a = self.strength if strength is None else strength
        k, n = (decayed(event, rate.half_life_days, as_of) for event in (rate.event, rate.base))
        return (k + a * self.mean) / (n + a)


class Fit:
    """Sums over a side's rows, from which the priors of its rates follow."""

    def __init__(self, rates: Sequence[Rate], day: dt.date) -> None:
        self.rates, self.day = rates, day
        self._sums = np.zeros((len(rates), 6))

    def add(self, rows: pl.DataFrame) -> None:
        """Stored rows as they are when the day ends."""
        for sums, r in zip(self._sums, self.rates, strict=True):
            counters = ((r.event, r.half_life_days), (r.base, r.half_life_days), (r.base, r.squares))
            frame = rows.select(decayed(*one, self.day).alias(name) for name, one in zip("knw", counters, strict=True))
            k, n, squares = frame.filter(pl.col("n") > 0).to_numpy().T
            sums += k.sum(), n.sum(), (k * k / n).sum(), (n * n).sum(), (squares / n).sum(), squares.sum()

    def priors(self) -> dict[Rate, Prior]:
        return {rate: _prior(*sums.tolist()) for rate, sums in zip(self.rates, self._sums, strict=True)}


def _prior(k: float, n: float, kk_n: float, nn: float, squares_n: float, squares: float) -> Prior:
    """From sums over rows. Strength: the least where no row tells anything, the most where rates differ by chance."""
    mean = k / n if n else 0.0
    noise = mean * (1 - mean)
    if noise <= 0:
        return Prior(mean, STRENGTHS[0])
    chance = squares_n - squares / n
    beyond = kk_n - k * mean - noise * chance
    told = noise * (n - nn / n - chance)
    if beyond <= 0 or told <= 0:
        return Prior(mean, STRENGTHS[1])
    return Prior(mean, float(np.clip(told / beyond - 1, *STRENGTHS)))
