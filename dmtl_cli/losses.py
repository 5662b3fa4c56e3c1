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
    logits: dict[str, Tensor],
    click: Tensor,
    conversions: dict[str, tuple[Tensor, Tensor]],
    weight: Tensor,
    weights: dict[str, float],
) -> tuple[Tensor, dict[str, Tensor]]:
    """sum of w_ctr BCE(pctr, y) and, for each conversion X, w_ctX BCE(pctr pX, z) + w_X BCE(pX, z) (ESMM: Ma et al.,
    SIGIR 2018).

    ctr: all rows; ctX: rows whose conversion is known; X: clicked rows among them. With p = sigmoid(a) sigmoid(c),
    log p - log(1 - p) = -logsumexp(-a, -c, -a-c) exactly, so ctX is a BCE on a logit: no product of sigmoids, and
    finite values and gradients at any finite logits.

    Args:
        logits: of `ctr` and of each conversion, [B] each.
        click: [B] y, bool or 0/1.
        conversions: by name (z, known), [B] each; z counts only with a click and where it is known.
        weight: [B] >= 0.
        weights: of each loss: `ctr`, `ctX`, `X`.

    Returns:
        The loss, and its detached parts before their weights, by the same names.
    """
    clicked = click.bool()
    a = logits["ctr"]
    parts = {"ctr": weighted_mean(_bce(a, clicked.to(a.dtype)), weight)}
    for name, (converted, mask) in conversions.items():
        c, known = logits[name], mask.bool()
        z = (clicked & known & (converted > 0)).to(a.dtype)
        a_and_c = -torch.logsumexp(torch.stack([-a, -c, -a - c]), 0)
        parts[f"ct{name}"] = weighted_mean(_bce(a_and_c, z), weight * known)
        parts[name] = weighted_mean(_bce(c, z), weight * (known & clicked))
    total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
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
