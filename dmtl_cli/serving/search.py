"""Exact search: the k items of the largest dot products or scores, ties in the order of the items."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_PRODUCTS = 1 << 24  # dot products in memory at a time: 64 MB


def top_k(users: Floats, items: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Exact search: for vectors [U, d] and [I, d] the k largest dot products of each user, best first.

    Returns:
        item rows [U, k] and dot products [U, k]; ties go to the smaller row.
    """
    k = min(k, len(items))
    rows, dots = [], []
    step = max(1, _PRODUCTS // max(1, len(items)))
    for start in range(0, len(users), step):
        dot = users[start : start + step] @ items.T
        best = best_k(dot, k)
        rows.append(best)
        dots.append(np.take_along_axis(dot, best, 1))
    return np.concatenate(rows), np.concatenate(dots)


def best_k(scores: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Columns [U, k] of the k largest values of each row [U, I], best first; ties go to the smaller column."""
    k = min(k, scores.shape[1])
    if not k:
        return np.zeros((len(scores), 0), np.int64)
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    least = np.take_along_axis(scores, part[:, k - 1 :], 1)
    for row in np.flatnonzero((scores >= least).sum(1) > k):  # equal to the last kept, but left out
        part[row] = np.argsort(-scores[row], kind="stable")[:k]
    part = np.sort(part, 1)
    order = np.argsort(-np.take_along_axis(scores, part, 1), axis=1, kind="stable")
    return np.take_along_axis(part, order, 1).astype(np.int64)
