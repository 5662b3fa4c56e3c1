"""Calibration of logits, and the teacher's logit that a student learns from. All float64.

Sampling shifts a teacher's logits; an intercept and a slope per task, fitted on held-out real exposures, bring them
back (Platt, 1999): log p = log sigmoid(slope x + intercept).

A choice of this project: the fit starts from the day before. Its Gaussian prior is yesterday's estimate with half of
the evidence that has been gathered so far, so a large day overrides it and a small day relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.scores.logits import product_logit_numpy

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Matrix = tuple[tuple[float, float], tuple[float, float]]

SLOPE_SD, INTERCEPT_SD = 0.3, 10.0  # of the prior of a chain's first fit, whose mean is slope 1, intercept 0
WEAK: Matrix = ((SLOPE_SD**-2, 0.0), (0.0, INTERCEPT_SD**-2))
LEVEL: Matrix = ((SLOPE_SD**-2, 0.0), (0.0, 0.1**-2))
"""the same of a teacher that learned rows as they were shown: its level is right but for what it learned by heart, and
a few hundred held-out rows know the level less well"""
DECAY = 0.5  # share of the evidence so far that a new day's prior keeps
MIN_SLOPE = 0.05  # a slope of 0 or less would lose or reverse the teacher's order


def log_sigmoid(x: Array) -> Floats:
    """log(1 / (1 + exp(-x))), finite for any finite x."""
    x = np.asarray(x, np.float64)
    out: Floats = np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))
    return out


def log_loss(logit: Array, y: Array) -> Floats:
    """-y log p - (1 - y) log(1 - p) of p = sigmoid(logit), [n] each; y is 0 or 1."""
    out: Floats = (1 - y) * np.asarray(logit, np.float64) - log_sigmoid(logit)
    return out


def log1mexp(x: Array) -> Floats:
    """log(1 - exp(x)) for x <= 0, in the two branches of Mächler (2012); -inf at 0.

    Raises:
        ValueError: x > 0 or NaN.
    """
    x = np.asarray(x, np.float64)
    if not (x <= 0).all():
        raise ValueError("log1mexp: expected numbers <= 0")
    near = x > -np.log(2)
    with np.errstate(divide="ignore"):
        out: Floats = np.where(near, np.log(-np.expm1(x)), np.log1p(-np.exp(np.where(near, -1.0, x))))
    return out


@dataclass(frozen=True)
class Calibration:
    """Slope and intercept of one task. The default is the identity with the precision of the weak prior.

    precision: [2][2] inverse covariance of (slope, intercept): the evidence so far, older days decayed.
    rows: of the last fit; 0 where there was nothing to fit.
    """

    slope: float = 1.0
    intercept: float = 0.0
    precision: Matrix = WEAK
    rows: int = 0

    def apply(self, logit: Array) -> Floats:
        """The calibrated logit."""
        out: Floats = self.slope * np.asarray(logit, np.float64) + self.intercept
        return out

    def log_prob(self, logit: Array) -> Floats:
        """The logarithm of the calibrated probability."""
        return log_sigmoid(self.apply(logit))

    def to_dict(self) -> dict[str, Any]:
        """JSON numbers and lists."""
        return {
            "slope": self.slope,
            "intercept": self.intercept,
            "precision": [list(row) for row in self.precision],
            "rows": self.rows,
        }

    @staticmethod
    def from_dict(d: Mapping[str, Any]) -> Calibration:
        (a, b), (c, e) = d["precision"]
        precision = ((float(a), float(b)), (float(c), float(e)))
        return Calibration(float(d["slope"]), float(d["intercept"]), precision, int(d["rows"]))


def fit(
    logit: Array,
    y: Array,
    weight: Array | None = None,
    prior: Calibration | None = None,
    weak: Matrix = WEAK,
) -> Calibration:
    """The most probable slope and intercept (Platt scaling under a Gaussian prior, by Newton's method).

    The prior's mean is the previous estimate. Its precision is DECAY * previous + (1 - DECAY) * the weak one's: a chain
    of small days never knows less than a first fit. Without a previous estimate the prior is the weak one. A slope
    below MIN_SLOPE is set to it and the intercept fitted with it.

    Args:
        logit: [n] as trained.
        y: [n] bool or 0/1.
        weight: [n] >= 0: a row of weight 2 is two rows of evidence.
        prior: the previous day's estimate.
        weak: precision of the weak prior.

    Returns:
        The estimate; its precision is the prior's plus this day's. Without rows, or with one class, the prior as it is.

    Raises:
        ValueError: lengths that differ, numbers that are not finite, labels other than 0 and 1, weights below 0.
    """
    x, y = np.asarray(logit, np.float64), np.asarray(y, np.float64)
    w = np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)
    if not len(x) == len(y) == len(w):
        raise ValueError(f"lengths differ: {len(x)} logits, {len(y)} labels, {len(w)} weights")
    if not (np.isfinite(x).all() and ((y == 0) | (y == 1)).all() and np.isfinite(w).all() and (w >= 0).all()):
        raise ValueError("expected finite logits, labels 0 and 1, and weights >= 0")
    before = prior or Calibration(precision=weak)
    mean = np.array([before.slope, before.intercept])
    if not _has_both(y, w):
        return Calibration(before.slope, before.intercept, before.precision)
    precision = DECAY * np.array(before.precision) + (1 - DECAY) * np.array(weak)

    theta, hessian = _rising(np.stack([x, np.ones(len(x))], 1), y, w, mean, precision)
    (a, b), (c, d) = hessian.tolist()
    return Calibration(float(theta[0]), float(theta[1]), ((a, b), (c, d)), int((w > 0).sum()))


def fitted_loss(logit: Array, y: Array, weight: Array) -> Floats:
    """The log loss of each row, [n], after the intercept and slope that fit these rows best: what a score tells,
    whatever its level. The weights count for the fit alone. Of one class it is 0: such rows would tell levels alone."""
    if not _has_both(np.asarray(y, np.float64), np.asarray(weight, np.float64)):
        return np.zeros(len(y))
    return log_loss(fit(logit, y, weight).apply(logit), y)


def joint_loss(logits: Sequence[Array], y: Array, weight: Array) -> Floats:
    """`fitted_loss` of several scores together, [n]: a slope for each, none below MIN_SLOPE."""
    k, w = len(logits), np.asarray(weight, np.float64)
    x = np.stack([np.asarray(z, np.float64) for z in (*logits, np.ones(len(y)))], 1)
    mean, labels = np.array([1 / k] * k + [0.0]), np.asarray(y, np.float64)
    if not _has_both(labels, w):
        return np.zeros(len(labels))
    theta, _ = _rising(x, labels, w, mean, np.diag([SLOPE_SD**-2] * k + [INTERCEPT_SD**-2]))
    return log_loss(x @ theta, labels)


def _has_both(y: Floats, w: Floats) -> bool:
    """Whether rows with a weight have both labels."""
    return bool(0 < (w * y).sum() < w.sum())


def _rising(x: Floats, y: Floats, w: Floats, mean: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """As `_newton` from the prior's mean, a slope below MIN_SLOPE being set to it and the others fitted with it."""
    free = np.ones(x.shape[1], np.bool_)
    theta, hessian = _newton(x, y, w, mean, precision, mean, free)
    while (wrong := (theta[:-1] < MIN_SLOPE) & free[:-1]).any():
        free[:-1] &= ~wrong
        theta[:-1][wrong] = MIN_SLOPE
        theta, hessian = _newton(x, y, w, mean, precision, theta, free)
    return theta, hessian


def _newton(
    x: Floats, y: Floats, w: Floats, mean: Floats, precision: Floats, start: Floats, free: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Minimises sum w BCE(x theta, y) + (theta - mean)' precision (theta - mean) / 2 over the free ones.

    Args:
        x: [n, k], its last column 1 for the intercept.

    Returns:
        theta [k] and the full Hessian [k, k] there. The objective is strictly convex, so halved steps converge.
    """

    def objective(theta: Floats) -> float:
        off = theta - mean
        return float((w * log_loss(x @ theta, y)).sum() + off @ precision @ off / 2)

    def slopes(theta: Floats) -> tuple[Floats, Floats]:
        p = np.exp(log_sigmoid(x @ theta))
        r, v = w * (p - y), w * p * (1 - p)
        return r @ x + precision @ (theta - mean), precision + (x * v[:, None]).T @ x

    theta, value = start, objective(start)
    for _ in range(100):
        gradient, hessian = slopes(theta)
        step = np.zeros(len(theta))
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        if np.abs(step).max() < 1e-8:  # the error left is of the order of its square
            theta = theta - step
            break
        while (reached := objective(theta - step)) > value + 1e-12 * abs(value):
            step /= 2
        theta, value = theta - step, reached
    return theta, slopes(theta)[1]


def target_logit(
    logits: Mapping[str, Array], calibration: Mapping[str, Calibration], exponents: Mapping[str, float]
) -> Floats:
    """Teacher logit t = log p - log(1 - p) of p = product of p_k ** a_k, [n] float64, from logits as trained.

    For one task it is the calibrated logit itself; for a product of tasks `product_logit` task by task, finite at any
    finite logits. Never the logit of a rounded probability.

    Args:
        logits, calibration: by task.
        exponents: a_k by task (`Tasks.factors`).
    """
    calibrated = {task: calibration[task].apply(logits[task]) for task in exponents}
    if set(exponents.values()) == {1.0}:
        a, *more = calibrated.values()
        for c in more:
            a = product_logit_numpy(a, c)
        return a
    log_p = sum((a * log_sigmoid(calibrated[task]) for task, a in exponents.items()), np.zeros(()))
    log_p = np.minimum(np.asarray(log_p, np.float64), -np.finfo(np.float64).tiny)  # at 0 the odds have no logarithm
    out: Floats = log_p - log1mexp(log_p)
    return out
