"""How much better one score orders the same rows than another, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def auc_gain(y: Array, score: Array, other: Array, group: Array, weight: Array) -> tuple[float, float] | None:
    """AUC of `score` less that of `other` on the same rows, and its standard error.

    The error is DeLong's (DeLong et al., Biometrics 1988) with a user's rows as one draw (Obuchowski, Biometrics 1997),
    since rows of a user say less than as many rows of others.

    Args:
        y: [n] bool.
        score, other: [n].
        group: [n] int, the user of each row.
        weight: [n] >= 0.

    Returns:
        None with fewer than two users or without rows of both classes.
    """
    w = weight.astype(np.float64)
    positive, negative = w @ y, w @ ~y
    users, at = np.unique(group, return_inverse=True)
    if not (positive > 0 and negative > 0 and len(users) > 1):
        return None
    won = _won(y, score, w) - _won(y, other, w)
    share = np.where(y, w / positive, w / negative)
    gain = float((share * won)[y].sum())
    by_user = np.bincount(at, share * (won - gain))
    return gain, float(np.sqrt((by_user**2).sum() * len(users) / (len(users) - 1)))


def _won(y: Array, score: Array, w: Floats) -> Floats:
    """[n] the share of the rows of the other class that a row is on the right side of; a tie counts half."""
    _, at = np.unique(score, return_inverse=True)
    out = np.zeros(len(y))
    for mine, sign in ((y, 1), (~y, -1)):
        mass = np.bincount(at, w * ~mine)
        below = np.cumsum(mass) - mass / 2
        right = below if sign > 0 else mass.sum() - below
        out[mine] = right[at[mine]] / mass.sum()
    return out
