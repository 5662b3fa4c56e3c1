"""Lists that are the same for every user, from what is known of items on the morning of the measured day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.evaluate import LISTS
from dmtl_cli.config.profile import CLICK, EXPOSURE, READ
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import Rows
from dmtl_cli.evaluate.rankers import AnyLabel, Ints

POPULARITY, READ_POPULARITY, YESTERDAYS_READS, READS_OF_WEEKS, EXPOSURE_RATE, READ_RATE = LISTS
_HALF_LIFE = 1.0  # days
_RATE_HALF_LIFE = 7.0
_READS = {READ_POPULARITY: _HALF_LIFE, YESTERDAYS_READS: 0.0, READS_OF_WEEKS: _RATE_HALF_LIFE}
"""half-lives: which of them finds most differs from log to log, by how fast its items change"""
_PRIOR = 20.0  # exposures that the mean rate counts for: with fewer of its own an item's rate is mostly noise


class Counters(Protocol):
    """What is known of users and items when a day ends."""

    def counts(self, side: str, event: str, half_life_days: float, as_of: dt.date) -> pl.DataFrame:
        """`id` and `count`: how often each had the event, as of the end of a day; a half-life of 0 is that day alone.
        One row each, sorted by id."""


class ItemList:
    """One list of items for every user, best first.

    Args:
        scores: `id` and `count`, one row an item; what has a count of 0 or less is not retrieved, and equal counts are
            in the order of the rows.
        offered: items that may be retrieved; None: all.
    """

    slow = False

    def __init__(self, scores: pl.DataFrame, day: Day, offered: pl.Series | None = None) -> None:
        counted = scores.filter(pl.col("count") > 0)
        counted = counted if offered is None else counted.filter(pl.col("id").is_in(offered.implode()))
        self.ids = counted["id"]
        self.order = np.argsort(-counted["count"].to_numpy().astype(np.float64), kind="stable").astype(np.int64)
        self.by_row = np.zeros(len(day.items))
        rows = day.rows_of(scores["id"], "item")
        self.by_row[rows[rows >= 0]] = scores["count"].to_numpy()[rows >= 0]

    def probable(self, label: str) -> bool:
        return False

    def scores(self, rows: Rows[None]) -> Mapping[str, npt.NDArray[Any]]:
        return AnyLabel(self.by_row[rows.item])

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        return np.tile(self.order[:k], (len(users), 1)), self.ids


def impersonal(counters: Counters, as_of: dt.date, *, exposures: bool) -> dict[str, pl.DataFrame]:
    """By name the scores of every list that counters give, `id` and `count`.

    - read_popularity, read_popularity_0d, read_popularity_7d: long reads with a half-life of a day, of the last day
      alone, with a half-life of a week.
    - read_rate: long reads per exposure, both with a half-life of a week: (reads + 20 m) / (exposures + 20) with m the
      mean rate, of items that were shown. Not in logs of clicks alone.
    - exposure_rate: exposures with a half-life of a day x read_rate. Not in logs of clicks alone either.

    Args:
        exposures: whether the log has unclicked rows.
    """
    lists = {name: counters.counts("item", READ, days, as_of) for name, days in _READS.items()}
    if exposures:
        shown = counters.counts("item", EXPOSURE, _HALF_LIFE, as_of).rename({"count": "shown"})
        often = counters.counts("item", EXPOSURE, _RATE_HALF_LIFE, as_of).rename({"count": "often"})
        joined = shown.join(often, on="id", how="left", maintain_order="left")
        reads = lists[READS_OF_WEEKS].rename({"count": "reads"})
        joined = joined.join(reads, on="id", how="left", maintain_order="left")
        joined = joined.with_columns(pl.exclude("id").fill_null(0.0))  # not the ids, which would become floats
        mean = float(joined["reads"].sum()) / max(float(joined["often"].sum()), 1e-9)
        rated = joined.with_columns(rate=(pl.col("reads") + _PRIOR * mean) / (pl.col("often") + _PRIOR))
        lists[EXPOSURE_RATE] = rated.select("id", count=pl.col("shown") * pl.col("rate"))
        lists[READ_RATE] = rated.filter(pl.col("often") > 0).select("id", count="rate")
    return lists


def known_counts(counters: Counters, as_of: dt.date, *, exposures: bool) -> pl.DataFrame:
    """`id` and `count` of items with an event before the measured day: an exposure or, in a log of clicks alone, a
    click, with a half-life of a week."""
    return counters.counts("item", EXPOSURE if exposures else CLICK, _RATE_HALF_LIFE, as_of)


def seen_items(counters: Counters, as_of: dt.date, *, exposures: bool) -> pl.Series:
    """Ids of the items with an event before the measured day."""
    return known_counts(counters, as_of, exposures=exposures).filter(pl.col("count") > 0)["id"]
