"""How much of what is shown is served: kappa as it would have been best on a day that the student did not learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dmtl_cli.serving.search import Floats, top_k

GRID = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
UNMEASURED = 0.7
"""the kappa of a day before which there is nothing to measure it on"""


class BlockVectors(NamedTuple):
    """Users or items of both blocks; a dot product of preferences is a logit less its bias."""

    exposure: Floats
    """[N, d]"""
    preference: Floats
    """[N, e], with the student's scale for users"""


def curve(
    users: BlockVectors,
    items: BlockVectors,
    wanted: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    seconds: npt.NDArray[Any] | None = None,
    grid: Sequence[float] = GRID,
    *,
    k: int,
) -> dict[float, float]:
    """By kappa the mean over users of how much of what they wanted is in their top k items.

    Args:
        users: [U] of users who wanted something.
        items: [I] of the items that can be retrieved.
        wanted: (indptr [U + 1], items [N]): user u wanted the distinct rows items[indptr[u]:indptr[u + 1]]; a negative
            row is an item that cannot be retrieved.
        seconds: [N] what each counts; without it 1.
    """
    indptr, wanted_items = (np.asarray(x, np.int64) for x in wanted)
    gain = np.ones(len(wanted_items)) if seconds is None else np.asarray(seconds, np.float64)
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    total = np.bincount(owner, gain, len(indptr) - 1)
    side_by_side = np.concatenate(items, 1)
    pairs, there = owner * len(side_by_side) + wanted_items, wanted_items >= 0
    out: dict[float, float] = {}
    for kappa in grid:
        whole = np.concatenate([np.float32(kappa) * users.exposure, users.preference], 1)
        top, _ = top_k(whole, side_by_side, k)
        hit = there & np.isin(pairs, np.arange(len(top))[:, None] * len(side_by_side) + top)
        found = np.bincount(owner, gain * hit, len(total))
        out[kappa] = float((found[total > 0] / total[total > 0]).mean()) if (total > 0).any() else 0.0
    return out


def best(curve: Mapping[float, float]) -> float:
    """The kappa of the largest value; of equal ones the smallest kappa, as what is shown is not what is wanted."""
    return min(curve, key=lambda kappa: (-curve[kappa], kappa))
