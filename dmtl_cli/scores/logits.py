"""The logit of a product of probabilities: of pctcvr = pctr * pcvr, and of any click with a conversion."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def product_logit(a: Tensor, c: Tensor) -> Tensor:
    """log p - log(1 - p) of p = sigmoid(a) sigmoid(c), exactly -logsumexp(-a, -c, -a-c): finite, with finite gradients,
    at any finite logits. [B] each."""
    return -torch.logsumexp(torch.stack([-a, -c, -a - c]), 0)


def product_logit_numpy(a: npt.NDArray[Any], c: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """`product_logit` of float64 arrays, [n] each."""
    out: npt.NDArray[np.float64] = -np.logaddexp(np.logaddexp(-a, -c), -a - c)
    return out


def log_odds(positive: npt.NDArray[np.bool_], weight: npt.NDArray[Any]) -> float:
    """Of the weighted mean, half a row added to each side. [n] each."""
    true, whole = float(weight[positive].sum()), float(weight.sum())
    return float(np.log((true + 0.5) / (whole - true + 0.5)))
