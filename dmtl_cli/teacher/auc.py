"""How well a score orders rows, and how sure that is where rows are of users."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def auc_gain(y: Array, score: Array, other: Array | None, group: Array, weight: Array) -> tuple[float, float] | None:
    """AUC of `score` less that of `other` on the same rows, and its standard error.

    The error is DeLong's (DeLong et al., Biometrics 1988) with a user's rows as one draw (Obuchowski, Biometrics 1997),
    since rows of a user say less than as many rows of others.

    Args:
        y: [n] bool.
        score, other: [n]; without another one it is that of a score that orders nothing.
        group: [n] int >= 0, the user of each row.
        weight: [n] >= 0.

    Returns:
        None with fewer than two users or without rows of both classes.
    """
    w = weight.astype(np.float64)
    positive, negative = w @ y, w @ ~y
    users = np.count_nonzero(np.bincount(group))
    if not (positive > 0 and negative > 0 and users > 1):
        return None
    ahead = won(y, score, w) - (0.5 if other is None else won(y, other, w))
    share = np.where(y, w / positive, w / negative)
    gain = float((share * ahead)[y].sum())
    by_user = np.bincount(group, share * (ahead - gain))
    return gain, float(np.sqrt((by_user**2).sum() * users / (users - 1)))


def auc_error(y: Array, score: Array, group: Array, weight: Array) -> float | None:
    """The standard error of the AUC of a score, as that of its gain over a score that orders nothing."""
    gain = auc_gain(y, score, None, group, weight)
    return None if gain is None else gain[1]


def won(y: Array, score: Array, weight: Floats) -> Floats:
    """[n] the share of the other class's weight that a row is on the right side of; a tie counts half."""
    _, at = np.unique(score, return_inverse=True)
    out = np.zeros(len(y))
    for mine in (y, ~y):
        mass = np.bincount(at, weight * ~mine)
        below = np.cumsum(mass) - mass / 2
        right = below if mine is y else mass.sum() - below
        out[mine] = right[at[mine]] / mass.sum()
    return out
