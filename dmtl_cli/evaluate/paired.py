"""How much better one score orders the same rows than another, and how sure a mean over users is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.teacher.gates import won

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


def mean_error(values: Floats) -> float | None:
    """The standard error of the mean of some users' numbers [U]; NaN is a user who has none.

    Where all are alike (a few users of whom nobody found anything) their spread says nothing of the next user's: then
    it is what one user counts.

    Returns:
        None with fewer than two users who have one.
    """
    there = values[~np.isnan(values)]
    if len(there) < 2:
        return None
    if np.allclose(there, there[0], rtol=1e-9, atol=1e-12):  # a mean is off in its last digit
        return 1 / len(there)
    return float(there.std(ddof=1) / np.sqrt(len(there)))
