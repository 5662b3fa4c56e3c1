"""Losses of the teacher and of the hard labels of a student.

Shapes: B rows of a batch, d length of a vector. Losses are in nats, means over rows by weight.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, in the two branches of Mächler (2012, the R package Rmpfr).

    x = 0 counts as the largest negative normal number, so that value and gradient are finite. A branch sees only
    arguments of its own: the other one's gradient would be NaN.
    """
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -math.log(2)
    close = torch.log(-torch.expm1(torch.where(near, x, -1.0)))
    far = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, close, far)


def weighted_mean(loss: Tensor, weight: Tensor) -> Tensor:
    """sum(w l) / sum(w) -> scalar; 0, with gradients of 0, where no row [B] has a weight above 0."""
    weight = weight.to(loss.dtype)
    total = weight.sum()
    kept = torch.where(weight > 0, loss, 0.0)
    return (weight * kept).sum() / torch.where(total > 0, total, 1.0)


def teacher_loss(
    a: Tensor,
    c: Tensor,
    click: Tensor,
    conversion: Tensor,
    conversion_mask: Tensor,
    weight: Tensor,
    w_ctr: float = 1.0,
    w_ctcvr: float = 1.0,
    w_cvr: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """w_ctr BCE(pctr, y) + w_ctcvr BCE(pctr pcvr, z) + w_cvr BCE(pcvr, z) (ESMM: Ma et al., SIGIR 2018).

    ctr: all rows; ctcvr: rows whose conversion is known; cvr: clicked rows among them. With p = sigmoid(a) sigmoid(c),
    log p - log(1 - p) = -logsumexp(-a, -c, -a-c) exactly, so ctcvr is a BCE on a logit: no product of sigmoids, and
    finite values and gradients at any finite logits.

    Args:
        a, c: [B] logits of pctr and pcvr.
        click: [B] y, bool or 0/1.
        conversion: [B] z; counted only with a click.
        conversion_mask: [B] where z is known.
        weight: [B] >= 0.

    Returns:
        The loss, and its detached parts `ctr`, `ctcvr`, `cvr` before their weights.
    """
    clicked, known = click.bool(), conversion_mask.bool()
    y = clicked.to(a.dtype)
    z = (clicked & known & (conversion > 0)).to(a.dtype)
    a_and_c = -torch.logsumexp(torch.stack([-a, -c, -a - c]), 0)
    parts = {
        "ctr": weighted_mean(_bce(a, y), weight),
        "ctcvr": weighted_mean(_bce(a_and_c, z), weight * known),
        "cvr": weighted_mean(_bce(c, z), weight * (known & clicked)),
    }
    total = w_ctr * parts["ctr"] + w_ctcvr * parts["ctcvr"] + w_cvr * parts["cvr"]
    return total, {name: part.detach() for name, part in parts.items()}


def sampled_softmax(
    user_vec: Tensor, item_vec: Tensor, scale: Tensor | float, log_q: Tensor, item_id: Tensor, positive_weight: Tensor
) -> Tensor:
    """In-batch softmax with the logQ correction (Yi et al., RecSys 2019): every row's item is a negative of the others.

    Logits are scale <u_i, v_j> - log q_j, the positive's own included. A negative that is the row's positive item
    (an accidental hit) is left out.

    Args:
        user_vec, item_vec: [B, d]; row i is a positive pair.
        log_q: [B] log of the chance that the item of a row is in a batch.
        item_id: [B] integers that tell items apart.
        positive_weight: [B]; a row of weight 0 is no query but still a negative.
    """
    logits = scale * user_vec @ item_vec.T - log_q
    itself = torch.eye(len(item_id), dtype=torch.bool, device=item_id.device)
    accidental = (item_id[:, None] == item_id) & ~itself
    logits = logits.masked_fill(accidental, -math.inf)
    return weighted_mean(torch.logsumexp(logits, 1) - logits.diagonal(), positive_weight)


def pointwise(s: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Binary cross entropy of logits s [B] against labels y [B] in 0..1."""
    return weighted_mean(_bce(s, y.to(s.dtype)), weight)


def _bce(logit: Tensor, label: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, label, reduction="none")
