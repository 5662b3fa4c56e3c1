"""Exact search: the k items of the largest dot products or scores, ties in the order of the items."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_PRODUCTS = 1 << 24  # dot products in memory at a time: 64 MB
_BLOCK = 16  # scores whose largest is looked at first, where there are many


class Pairs(NamedTuple):
    """Items that some users must not get."""

    user: Ints
    """[n] rows of users, ascending"""
    item: Ints
    """[n] rows of items"""

    def of(self, start: int, stop: int) -> Pairs:
        """Those of users from `start` to `stop`, counted from `start`."""
        first, last = np.searchsorted(self.user, [start, stop])
        return Pairs(self.user[first:last] - start, self.item[first:last])

    def among(self, users: Ints) -> Pairs:
        """Those of some users [m], ascending, counted by their place there."""
        mine = np.isin(self.user, users)
        return Pairs(np.searchsorted(users, self.user[mine]), self.item[mine])


def top_k(
    users: Floats, items: Floats, k: int, barred: Pairs | None = None, among: npt.NDArray[np.bool_] | None = None
) -> tuple[Ints, Floats]:
    """Exact search: for vectors [U, d] and [I, d] the k largest dot products of each user, best first.

    Args:
        barred: what users must not get.
        among: [I] whether an item may be found.

    Returns:
        item rows [U, k] and dot products [U, k]; ties go to the smaller row. A user who may get fewer than k has -1 and
        -inf behind them.

    Raises:
        ValueError: a dot product is not finite.
    """
    k = min(k, len(items))
    rows, dots = [], []
    step = max(1, _PRODUCTS // max(1, len(items)))
    for start in range(0, max(1, len(users)), step):
        dot = users[start : start + step] @ items.T
        if not np.isfinite(dot.sum(dtype=np.float64)):
            raise ValueError("vectors are not finite")
        if among is not None:
            dot[:, ~among] = -np.inf
        if barred is not None:
            mine = barred.of(start, start + len(dot))
            dot[mine.user, mine.item] = -np.inf
        best = best_k(dot, k)
        found = np.take_along_axis(dot, best, 1)
        rows.append(np.where(np.isneginf(found), -1, best))
        dots.append(found)
    return np.concatenate(rows), np.concatenate(dots)


def best_k(scores: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Columns [U, k] of the k largest values of each row [U, I], best first; ties go to the smaller column.
    None is NaN."""
    k = min(k, scores.shape[1])
    if not k:
        return np.zeros((len(scores), 0), np.int64)
    if scores.shape[1] >= 2 * k * _BLOCK:
        return _best_of_many(scores, k)
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    least = np.take_along_axis(scores, part[:, k - 1 :], 1)
    for row in np.flatnonzero((scores >= least).sum(1) > k):  # equal to the last kept, but left out
        part[row] = np.argsort(-scores[row], kind="stable")[:k]
    part = np.sort(part, 1)
    order = np.argsort(-np.take_along_axis(scores, part, 1), axis=1, kind="stable")
    return np.take_along_axis(part, order, 1).astype(np.int64)


def _best_of_many(scores: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """`best_k` of many columns, 2 to 10 times as fast: k blocks of a row have a score of at least the k-th largest of
    the blocks' largest, so no smaller one is among the best. All rows at once, as threads wait for each other in many
    small calls."""
    users, items = scores.shape
    blocks = items // _BLOCK
    # a block is a column of these: larger by whole vectors
    most = scores[:, : blocks * _BLOCK].reshape(users, _BLOCK, blocks).max(1)
    there = np.flatnonzero(scores >= np.partition(most, blocks - k)[:, blocks - k, None])
    user, item = np.divmod(there, items)
    order = np.lexsort((-scores.ravel()[there], user))
    first = np.searchsorted(user, np.arange(users))
    best: npt.NDArray[np.int64] = item[order[first[:, None] + np.arange(k)]]
    return best
