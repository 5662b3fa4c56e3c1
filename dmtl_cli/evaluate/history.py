"""Classic recommenders that retrieve by the long reads of earlier days: EASE and implicit ALS."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.evaluate.rankers import Ints
from dmtl_cli.serving.search import best_k

Floats = npt.NDArray[np.float32]

EASE, IALS = "ease", "ials"
DECAY = 0.7
"""what a long read counts for, compared with one a day younger"""
MOST_ITEMS = 8_000
"""items that EASE knows, the most read: its matrix of 8,000 x 8,000 takes 256 MB, and inverting it some 10 s a core"""
STRENGTH = 100.0
"""lambda of EASE: Steck's data sets want 200 to 1000 with 100,000 users and more; a day's log has fewer, and weights
that decay"""
FACTORS, ALPHA = 64, 40.0
"""of implicit ALS: a usual size, and the confidence of one long read as Hu et al. set it; other settings are the
library's"""
_SCORES = 1 << 22  # in memory at a time: 16 MB


# -- long reads --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reads:
    """What N users read long, some of I items: sparse [N, I]."""

    users: pl.Series
    """ids [N], sorted"""
    items: pl.Series
    """ids [I], sorted"""
    indptr: Ints
    item: Ints
    """places in `items`: user u read item[indptr[u]:indptr[u + 1]], sorted"""
    weight: Floats
    """of each: the sum of DECAY ** age over the days with a long read of it, yesterday's age being 0"""

    @staticmethod
    def of(frame: pl.DataFrame) -> Reads:
        """From `user`, `item` (ids) and `weight`, one row a pair."""
        frame = frame.sort("user", "item")
        users, items = (frame[side].unique().sort() for side in ("user", "item"))
        places = {side: ids.search_sorted(frame[side]).to_numpy() for side, ids in (("user", users), ("item", items))}
        indptr = np.concatenate([[0], np.cumsum(np.bincount(places["user"], minlength=len(users)))])
        weight = frame["weight"].to_numpy().astype(np.float32)
        return Reads(users, items, indptr.astype(np.int64), places["item"].astype(np.int64), weight)

    @property
    def item_weight(self) -> npt.NDArray[np.float64]:
        """[I] sum over users."""
        return np.bincount(self.item, weights=self.weight, minlength=len(self.items)).astype(np.float64)

    def most_read(self, n: int) -> Reads:
        """Those of the n items of the largest weight, and the users who have some of them."""
        if n >= len(self.items):
            return self
        kept = self.items.gather(best_k(self.item_weight[None], n)[0])
        user = self.users.gather(np.repeat(np.arange(len(self.users)), np.diff(self.indptr)))
        frame = pl.DataFrame({"user": user, "item": self.items.gather(self.item), "weight": self.weight})
        return Reads.of(frame.filter(pl.col("item").is_in(kept.implode())))

    def of_user(self, user: int) -> tuple[Ints, Floats]:
        """(items, weights) of the user at a place."""
        at = slice(self.indptr[user], self.indptr[user + 1])
        return self.item[at], self.weight[at]


@dataclass(frozen=True)
class PastReads:
    """The long reads of a log's days, each day read once."""

    log: Log
    days: dict[dt.date, pl.DataFrame] = field(default_factory=dict)

    def before(self, day: dt.date, days: Sequence[dt.date], threshold: float | None, scratch: Path) -> Reads:
        """The long reads of earlier `days`, as of the morning of `day`.

        Args:
            threshold: seconds above which a read is a long read, the chain's; None where a column says so.

        Raises:
            UserError: as `Log.read` does.
        """
        parts = []
        for d in days:
            if d not in self.days:
                self.days[d] = _long_reads(self.log.read(d, scratch), threshold)
            weight = DECAY ** ((day - d).days - 1)
            parts.append(self.days[d].with_columns(weight=pl.lit(weight, pl.Float64)))
        return Reads.of(pl.concat(parts).group_by("user", "item").agg(pl.col("weight").sort().sum()))


def _long_reads(day: Day, threshold: float | None) -> pl.DataFrame:
    """`user` and `item` ids of a day's distinct long reads."""
    parts = []
    for block in day.blocks():
        read, _ = block.labels(threshold)
        parts.append(pl.DataFrame({"user": block.user[read], "item": block.item[read]}))
    pairs = pl.concat(parts).unique()
    return pl.DataFrame({"user": day.users[ID].gather(pairs["user"]), "item": day.items[ID].gather(pairs["item"])})


# -- models ------------------------------------------------------------------------------------------------------------


class Model(Protocol):
    """Scores of all items for users with a history."""

    def scores(self, users: Ints) -> Floats:
        """[n, I] for places [n] in the users of the reads that it was made from."""


@dataclass(frozen=True)
class Ease:
    """Scores X B, B the item weights [I, I] that reconstruct X with a zero diagonal (Steck, WWW 2019)."""

    reads: Reads
    weights: Floats

    @staticmethod
    def fit(reads: Reads, strength: float = STRENGTH) -> Ease:
        """With P = (X'X + strength * 1)^-1: B_ij = -P_ij / P_jj off the diagonal (equation 8)."""
        gram = np.zeros((len(reads.items), len(reads.items)), np.float32)
        np.fill_diagonal(gram, strength)
        for user in range(len(reads.users)):
            items, weight = reads.of_user(user)
            gram[np.ix_(items, items)] += np.outer(weight, weight)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(torch.from_numpy(gram))).numpy()
        weights = np.asarray(inverse / -np.diag(inverse), np.float32)
        np.fill_diagonal(weights, 0)
        return Ease(reads, weights)

    def scores(self, users: Ints) -> Floats:
        out = np.zeros((len(users), len(self.weights)), np.float32)
        for row, user in enumerate(users):
            items, weight = self.reads.of_user(int(user))
            out[row] = weight @ self.weights[items]
        return out


@dataclass(frozen=True)
class Ials:
    """Scores <user factor, item factor> of implicit ALS (Hu, Koren & Volinsky, ICDM 2008)."""

    users: Floats
    items: Floats

    @staticmethod
    def fit(reads: Reads, seed: int) -> Ials:
        from implicit.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix

        settings: dict[str, Any] = {"factors": FACTORS, "alpha": ALPHA, "use_gpu": False}
        model = AlternatingLeastSquares(**settings, num_threads=1, random_state=seed)  # one thread: the same each time
        shape = len(reads.users), len(reads.items)
        model.fit(csr_matrix((reads.weight, reads.item, reads.indptr), shape=shape), show_progress=False)
        return Ials(np.asarray(model.user_factors), np.asarray(model.item_factors))

    def scores(self, users: Ints) -> Floats:
        return self.users[users] @ self.items.T


@dataclass(frozen=True)
class HistoryRanker:
    """A model of long reads: users with a history get its best items that they have not read yet, the others the most
    read ones."""

    model: Model
    reads: Reads
    """those that the model was made from"""
    day: Day
    slow = False

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        ids = self.day.users[ID].gather(users)
        known = pl.DataFrame({ID: self.reads.users}).with_row_index("place")
        place = np.full(len(users), -1, np.int64)
        if ids.dtype == self.reads.users.dtype:
            joined = pl.DataFrame({ID: ids}).join(known, on=ID, how="left", maintain_order="left")["place"]
            place = joined.cast(pl.Int64).fill_null(-1).to_numpy()
        out = np.tile(best_k(self.reads.item_weight[None], k), (len(users), 1))
        mine = np.flatnonzero(place >= 0)
        step = max(1, _SCORES // max(1, len(self.reads.items)))
        for start in range(0, len(mine), step):
            rows = mine[start : start + step]
            out[rows] = self._best(place[rows], k)
        return out, self.reads.items

    def _best(self, users: Ints, k: int) -> Ints:
        """Top k [n, k] of users with a history; -1 where there is nothing left that they have not read."""
        scores = self.model.scores(users)
        for row, user in enumerate(users):
            scores[row, self.reads.of_user(int(user))[0]] = -np.inf
        best = best_k(scores, k)
        return np.where(np.isneginf(np.take_along_axis(scores, best, 1)), -1, best)
