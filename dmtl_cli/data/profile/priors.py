"""The mean of a rate and how many events it counts for, fitted to all users or items: empirical Bayes.

Rates k_i / n_i are taken as binomial draws around means that are drawn from a beta distribution (G. Casella, An
introduction to empirical Bayes data analysis, The American Statistician 39, 1985). Its mean and strength (alpha + beta)
are fitted by moments with weights n_i (J. C. Kleinman, Proportions with extraneous variance, JASA 68, 1973):

    m = sum k / sum n,  S = sum n_i (k_i / n_i - m)**2,  with R rows
    gamma = (S - m (1 - m) (R - 1)) / (m (1 - m) (sum n - sum n**2 / sum n - (R - 1))),  strength = 1 / gamma - 1
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
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
        k, n = (decayed(event, rate.half_life_days, as_of) for event in (rate.event, rate.of))
        return (k + a * self.mean) / (n + a)


class Fit:
    """Sums over a side's rows, from which the priors of its rates follow."""

    def __init__(self, rates: Sequence[Rate], day: dt.date) -> None:
        self.rates, self.day = rates, day
        self._sums = np.zeros((len(rates), 7))

    def add(self, rows: pl.DataFrame) -> None:
        """Stored rows as they are when the day ends."""
        for sums, r in zip(self._sums, self.rates, strict=True):
            k, n = (
                rows.select(decayed(event, r.half_life_days, self.day)).to_series().to_numpy()
                for event in (r.event, r.of)
            )
            sums[:2] += k[n > 0].sum(), n.sum()
            # A decayed count below 1 may be one old event, whose rate is 0 or 1: binomial noise is not m (1 - m) / n.
            k, n = k[n >= 1], n[n >= 1]
            sums[2:] += len(n), k.sum(), n.sum(), (k * k / n).sum(), (n * n).sum()

    def priors(self) -> dict[Rate, Prior]:
        return {
            rate: Prior(_mean(*sums[:2]), _strength(sums[2:]))
            for rate, sums in zip(self.rates, self._sums, strict=True)
        }


def _mean(k: float, n: float) -> float:
    return float(k / n) if n else 0.0


def _strength(sums: npt.NDArray[np.float64]) -> float:
    """The least where no row tells anything, the most where rates differ no more than by chance."""
    rows, k, n, kk_n, nn = sums.tolist()
    m = _mean(k, n)
    noise = m * (1 - m)
    if noise <= 0:
        return STRENGTHS[0]
    beyond = kk_n - k * m - noise * (rows - 1)
    told = noise * (n - nn / n - (rows - 1))
    if beyond <= 0 or told <= 0:
        return STRENGTHS[1]
    return float(np.clip(told / beyond - 1, *STRENGTHS))
