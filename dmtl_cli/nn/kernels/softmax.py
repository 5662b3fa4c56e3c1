"""In-batch softmax over the distinct users and items of a batch: written by hand, and by plain autograd.

Shapes: B rows, U users, I items, d length of a vector.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmtl_cli.nn.kernels.chunks import Spans, side_by_side
from dmtl_cli.nn.kernels.products import across, even, product

_USERS = 256  # users per chunk: with some thousand items its logits stay in a core's cache


def in_batch_softmax(
    user_vec: Tensor,
    item_vec: Tensor,
    log_q: Tensor,
    user: Tensor,
    item: Tensor,
    weight: Tensor,
    log_own: Tensor | None = None,
) -> Tensor:
    """Weighted mean over rows of -log softmax of the row's own item among the items of all other rows.

    Logits are <u, v> - log q, the own one's included. Each row's item is a negative of every other row, as often as it
    appears in the batch, but for rows of the same item (accidental hits). With l = user_vec item_vec' and c_j rows of
    item j, a row (u, i) adds log Z - (l_ui - log q_i), Z = sum over j of c_j e^(l_uj - log q_j), less c_i - 1 times i's
    own term. There are U I logits for B rows, and they exist chunk by chunk only.

    Args:
        user_vec, item_vec: [U, d], scaled, and [I, d].
        log_q: [I] log of the chance that a row has the item.
        user, item: [B] places of the rows' users and items.
        weight: [B] >= 0; a row of weight 0 has no loss but is still a negative.
        log_own: [I] log of how often a row's own item counts in its Z; default 0, once. With the number of times that a
            batch is expected to have it, Z is an unbiased estimate (Khrylchenko et al., arXiv 2507.09331).
    """
    once = torch.zeros_like(log_q) if log_own is None else log_own
    loss: Tensor = _InBatch.apply(user_vec, item_vec, log_q, user, item, weight, once)  # type: ignore[no-untyped-call]
    return loss


def in_batch_softmax_plain(
    user_vec: Tensor,
    item_vec: Tensor,
    log_q: Tensor,
    user: Tensor,
    item: Tensor,
    weight: Tensor,
    log_own: Tensor | None = None,
) -> Tensor:
    """`in_batch_softmax` by plain autograd, which keeps B I logits."""
    weight = weight.to(user_vec.dtype)
    count = torch.bincount(item, minlength=len(item_vec))
    log_count = torch.where(count > 0, count.clamp(min=1).to(user_vec.dtype).log(), -torch.inf)
    x_UI = user_vec @ item_vec.T - log_q
    own_B1 = x_UI[user, item].unsqueeze(1)
    in_z_B1 = own_B1 if log_own is None else own_B1 + log_own[item].unsqueeze(1)
    others_BI = (x_UI + log_count)[user].scatter(1, item.unsqueeze(1), in_z_B1)
    loss = torch.logsumexp(others_BI, 1) - own_B1.squeeze(1)
    total = weight.sum()
    return (weight * loss).sum() / torch.where(total > 0, total, 1.0)


class _InBatch(torch.autograd.Function):
    """The gradient on l_uj is c_j e^(l_uj - log q_j) sum over u's rows of w_r / Z_r, and less than that at a row's own
    item. It is computed with the loss, so that none of the U I logits is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        user_vec: Tensor,
        item_vec: Tensor,
        log_q: Tensor,
        user: Tensor,
        item: Tensor,
        weight: Tensor,
        log_own: Tensor,
    ) -> Tensor:
        weight = weight.to(user_vec.dtype)
        weight = weight / torch.where(weight.sum() > 0, weight.sum(), 1.0)
        order = user.argsort(stable=True)
        user, item, weight = user[order], item[order], weight[order]
        ctx.sizes = len(user_vec), len(item_vec)
        user_vec, item_vec = even(user_vec), even(item_vec)  # what is added has no row: no loss, and 0 in every sum
        log_q, log_own = (F.pad(x, (0, len(item_vec) - len(x))) for x in (log_q, log_own))
        count = torch.bincount(item, minlength=len(item_vec))
        log_count = count.clamp(min=1).to(user_vec.dtype).log()
        # an item without a row is never a negative
        shift = torch.where(count > 0, log_count - log_q, -torch.inf)
        ends = torch.searchsorted(user, torch.arange(len(user_vec) + 1, device=user.device)).tolist()
        d_user = torch.empty_like(user_vec)

        def work(spans: Spans) -> tuple[Tensor, Tensor]:
            """The loss and the gradient of items, [d, I], of some users."""
            loss, d_item = user_vec.new_zeros(()), item_vec.new_zeros(item_vec.shape[::-1])
            for a, b in spans:
                rows = slice(ends[a], ends[b])
                u, i, w = user[rows] - a, item[rows], weight[rows]
                x = product(user_vec[a:b], item_vec, shift)
                top = x.amax(1, keepdim=True)
                own = u * len(item_vec) + i
                x.sub_(top)
                at_own = x.view(-1)[own] - log_count[i]
                x.exp_()
                theirs, e = x.view(-1)[own], (at_own + log_own[i]).exp()
                # in float64: where one item is most of a batch, little is left of the sum
                z = ((x.sum(1, dtype=torch.float64)[u] - theirs) + e).to(x.dtype)
                loss += (w * (z.log() - at_own)).sum()
                w_z = w / z
                x.mul_(x.new_zeros(b - a).index_add_(0, u, w_z).unsqueeze(1))
                x.view(-1).index_add_(0, own, w_z * (e - theirs) - w)
                d_user[a:b] = product(x, item_vec.T)
                d_item += across(user_vec[a:b], x)
            return loss, d_item

        (loss, d_item), *others = side_by_side(len(user_vec), _USERS, work, user_vec.device)
        for more, d in others:
            loss, d_item = loss + more, d_item + d
        ctx.save_for_backward(d_user, d_item.t().contiguous())
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        d_user, d_item = (g * d[:n] for d, n in zip(ctx.saved_tensors, ctx.sizes, strict=True))
        return d_user, d_item, None, None, None, None, None
