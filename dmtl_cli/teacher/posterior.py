"""The most probable weights of a logistic regression after some rows, and how sure they are: see `posterior`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dmtl_cli.nn.eager import EagerLbfgs
from dmtl_cli.nn.kernels.chunks import one_thread
from dmtl_cli.teacher.hashed import Design, Floats

Array = npt.NDArray[Any]

_STEPS = 50  # of L-BFGS; a batch takes some 20
_NEAR = 0.1  # largest slope, of weights scaled to a curvature of 1, at which L-BFGS stops


def posterior(
    x: Design, squared: Design, positive: Array, weight: Array, mean: Floats, precision: Floats, start: Floats
) -> tuple[Floats, Floats]:
    """The mean and the precision of S weights after some rows, from those before them.

    By L-BFGS over weights that are scaled by their curvature at `start`.
    """
    c, width = weight.astype(np.float64), len(mean)
    positives = c * positive

    def with_curvature(z: Floats) -> Floats:
        p = probability(z)
        return precision + squared.summed(c * p * (1 - p), width)

    scale = 1 / np.sqrt(with_curvature(x.times(start)))
    moved = torch.zeros(width, dtype=torch.float64, requires_grad=True)
    solver = EagerLbfgs([moved], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=_NEAR)

    def loss() -> float:
        weights = start + moved.detach().numpy() * scale
        z, off = x.times(weights), weights - mean
        pull = precision * off
        gradient = x.summed(c * probability(z) - positives, width) + pull
        moved.grad = torch.from_numpy(gradient * scale)
        return dot(c, _softplus(z)) - dot(positives, z) + dot(pull, off) / 2

    with one_thread():
        solver.step(loss)  # type: ignore[no-untyped-call]
    found = start + moved.detach().numpy() * scale
    return found, with_curvature(x.times(found))


def probability(z: Floats) -> Floats:
    return torch.sigmoid(torch.from_numpy(z)).numpy()


def _softplus(z: Floats) -> Floats:
    """log(1 + exp(z)), seven times as fast as numpy's logaddexp."""
    return F.softplus(torch.from_numpy(z), threshold=40).numpy()  # above it the two differ by less than a rounding


def dot(a: Floats, b: Floats) -> float:
    """By torch, on its threads alone: numpy's may take more, and sum otherwise with another number of them."""
    return float(torch.dot(torch.from_numpy(a), torch.from_numpy(b)))
