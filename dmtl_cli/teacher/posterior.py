"""The most probable weights of a logistic regression after some rows, and how sure they are: see `posterior`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dmtl_cli.nn.kernels.chunks import one_thread
from dmtl_cli.teacher.hashed import Design, Floats

Array = npt.NDArray[Any]

_NEAR = 0.1  # largest slope, of weights scaled to a curvature of 1, at which the search ends
_STEPS = 100  # at most; the first rows of a log take some 4, those of a day after others 2
_PRODUCTS = 30  # with the curvature, a step; some 5 to 10
_LEFT = 0.1  # share of the slope that a step may leave: a smaller one is undone by the step after it
_FALL = 1e-4  # least share of the fall that the slope promises, of a step that is taken whole
_HALVINGS = 30


def posterior(
    x: Design, squared: Design, positive: Array, weight: Array, mean: Floats, precision: Floats, start: Floats
) -> tuple[Floats, Floats]:
    """The mean and the precision of S weights after some rows, from those before them.

    By truncated Newton from `start` (Lin, Weng and Keerthi, JMLR 2008): each step is solved by conjugate gradients, of
    weights that are scaled by their own curvature, and halved until the loss falls.
    """
    c, width = weight.astype(np.float64), len(mean)
    positives = c * positive

    def loss(z: Floats, weights: Floats) -> float:
        off = weights - mean
        return dot(c, _softplus(z)) - dot(positives, z) + dot(precision * off, off) / 2

    with one_thread():
        weights, z, steps = start, x.times(start), 0
        value = loss(z, weights)
        while True:
            p = probability(z)
            of_rows = c * p * (1 - p)
            gradient = x.summed(c * p - positives, width) + precision * (weights - mean)
            curvature = precision + squared.summed(of_rows, width)
            slope = _largest(gradient, curvature)
            if slope <= _NEAR or steps == _STEPS:
                return weights, curvature
            step = _step(x, of_rows, precision, gradient, curvature, max(_NEAR / 2, _LEFT * slope))
            of_step, promised, length = x.times(step), dot(gradient, step), 1.0
            for _ in range(_HALVINGS):
                tried = weights + length * step, z + length * of_step
                fell = loss(tried[1], tried[0])
                if fell <= value + _FALL * length * promised:
                    break
                length /= 2
            else:  # no step that could be told from none
                return weights, curvature
            (weights, z), value, steps = tried, fell, steps + 1


def _step(x: Design, of_rows: Floats, precision: Floats, gradient: Floats, curvature: Floats, near: float) -> Floats:
    """[S] d for which A d = -gradient nearly, A = X' diag(of_rows) X + diag(precision): by conjugate gradients.

    Args:
        curvature: A's diagonal, by which they are scaled.
        near: slope that the step may leave.
    """
    step, left = np.zeros_like(gradient), -gradient
    scaled = left / curvature
    towards, size = scaled, dot(left, scaled)
    for _ in range(_PRODUCTS):
        product = x.summed(of_rows * x.times(towards), len(towards)) + precision * towards
        length = size / dot(towards, product)
        step, left = step + length * towards, left - length * product
        if _largest(left, curvature) <= near:
            break
        scaled, before = left / curvature, size
        size = dot(left, scaled)
        towards = scaled + size / before * towards
    return step


def _largest(gradient: Floats, curvature: Floats) -> float:
    """Of weights scaled to a curvature of 1."""
    return float(np.abs(gradient / np.sqrt(curvature)).max())


def probability(z: Floats) -> Floats:
    return torch.sigmoid(torch.from_numpy(z)).numpy()


def _softplus(z: Floats) -> Floats:
    """log(1 + exp(z)), seven times as fast as numpy's logaddexp."""
    return F.softplus(torch.from_numpy(z), threshold=40).numpy()  # above it the two differ by less than a rounding


def dot(a: Floats, b: Floats) -> float:
    """By torch, on its threads alone: numpy's may take more, and sum otherwise with another number of them."""
    return float(torch.dot(torch.from_numpy(a), torch.from_numpy(b)))
