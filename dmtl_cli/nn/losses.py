"""Losses of the teacher and of the hard labels of a student.

Shapes: B rows of a batch, d length of a vector. Losses are in nats, means over rows by weight.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmtl_cli.nn.kernels.chunks import Spans, side_by_side

_SOFTMAX_USERS = 256  # a chunk of users: with some thousand items its logits stay in a core's cache


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
    user_vec: Tensor,
    item_vec: Tensor,
    scale: Tensor | float,
    log_q: Tensor,
    user_index: Tensor,
    item_index: Tensor,
    positive_weight: Tensor,
) -> Tensor:
    """In-batch softmax with the logQ correction (Yi et al., RecSys 2019): every row's item is a negative of the others.

    Logits are scale <u_i, v_j> - log q_j, the positive's own included. A negative that is the row's positive item
    (an accidental hit) is left out. Users and items stand once however many rows share them, so there are U I logits
    for B rows, and they exist chunk by chunk only.

    Args:
        user_vec, item_vec: [U, d] and [I, d].
        log_q: [I] log of the chance that a row is of the item.
        user_index, item_index: [B] the positive pairs.
        positive_weight: [B]; a row of weight 0 is no query but still a negative.
    """
    if not len(item_index):
        return (user_vec.sum() + item_vec.sum()) * 0.0
    loss: Tensor = _InBatch.apply(scale * user_vec, item_vec, log_q, user_index, item_index, positive_weight)  # type: ignore[no-untyped-call]
    return loss


class _InBatch(torch.autograd.Function):
    """Mean over rows r = (u, i) of log Z_r - (l_ui - log q_i), Z_r = sum over j of c_j e^(l_uj - log q_j), less c_i - 1
    times i's own term; l = user_vec item_vec', c_j rows of item j.

    The gradient on l_uj is c_j e^(l_uj - log q_j) sum over u's rows of w_r / Z_r, and something less at a row's own
    item. It is made with the loss: of the U I logits nothing is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, user_vec: Tensor, item_vec: Tensor, log_q: Tensor, user: Tensor, item: Tensor, weight: Tensor
    ) -> Tensor:
        weight = weight.to(user_vec.dtype)
        weight = weight / torch.where(weight.sum() > 0, weight.sum(), 1.0)
        order = user.argsort(stable=True)
        user, item, weight = user[order], item[order], weight[order]
        count = torch.bincount(item, minlength=len(item_vec))
        log_count = count.clamp(min=1).to(user_vec.dtype).log()
        # an item without a row is no negative of anybody
        shift = torch.where(count > 0, log_count - log_q, -torch.inf)
        ends = torch.searchsorted(user, torch.arange(len(user_vec) + 1, device=user.device)).tolist()
        d_user = torch.empty_like(user_vec)

        def work(spans: Spans) -> tuple[Tensor, Tensor]:
            loss, d_item = user_vec.new_zeros(()), torch.zeros_like(item_vec)
            for a, b in spans:
                rows = slice(ends[a], ends[b])
                u, i, w = user[rows] - a, item[rows], weight[rows]
                x = torch.addmm(shift, user_vec[a:b], item_vec.T)
                top = x.amax(1, keepdim=True)
                own = u * len(item_vec) + i
                x.sub_(top)
                at_own = x.view(-1)[own] - log_count[i]
                x.exp_()
                theirs, e = x.view(-1)[own], at_own.exp()
                # in float64: where one item is most of a batch, little is left of the sum
                z = ((x.sum(1, dtype=torch.float64)[u] - theirs) + e).to(x.dtype)
                loss += (w * (z.log() - at_own)).sum()
                w_z = w / z
                x.mul_(x.new_zeros(b - a).index_add_(0, u, w_z).unsqueeze(1))
                x.view(-1).index_add_(0, own, w_z * (e - theirs) - w)
                torch.mm(x, item_vec, out=d_user[a:b])
                d_item.addmm_(x.T, user_vec[a:b])
            return loss, d_item

        (loss, d_item), *others = side_by_side(len(user_vec), _SOFTMAX_USERS, work, user_vec.device)
        for more, d in others:
            loss, d_item = loss + more, d_item + d
        ctx.save_for_backward(d_user, d_item)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        d_user, d_item = ctx.saved_tensors
        return g * d_user, g * d_item, None, None, None, None


def pointwise(s: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Binary cross entropy of logits s [B] against labels y [B] in 0..1."""
    return weighted_mean(_bce(s, y.to(s.dtype)), weight)


def _bce(logit: Tensor, label: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, label, reduction="none")
