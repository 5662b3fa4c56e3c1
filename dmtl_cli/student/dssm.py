"""The student: DSSM, two towers whose dot product is the logit (Huang et al., CIKM 2013)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtl_cli.nn.batches import Batch
from dmtl_cli.nn.kernels.products import Linear
from dmtl_cli.nn.layers import Side, SideEmbedder, TowerLayers, looked_up
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.ranks import ALONE, Ranks

INIT_SCALE = 5.0  # initial scale of unit vectors: logits begin within -5 .. 5 around the bias
Vectors = tuple[Tensor, Tensor]
"""users and items, [N, d] each"""


class DSSM(nn.Module):
    """s = scale * <u, v> + bias.

    Unit vectors need a learned positive scale and a bias: sigmoid(cos) alone covers only [.269, .731]. Plain vectors
    have a scale of 1. Neither changes the order of a user's items.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        user: SideEmbedder,
        item: SideEmbedder,
        user_tower: TowerLayers,
        item_tower: TowerLayers,
        *,
        unit: bool,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        self.table, self.user, self.item = table, user, item
        self.user_tower, self.item_tower, self.unit = user_tower, item_tower, unit
        self.log_scale = nn.Parameter(torch.tensor(INIT_SCALE).log()) if unit else None
        self.bias = nn.Parameter(torch.zeros(()))
        self.auxiliary = Auxiliary(user_tower.last, item_tower.last, unit=unit) if auxiliary else None

    @property
    def soft_bias(self) -> nn.Parameter:
        """The bias of the head that learns stored scores."""
        return self.bias if self.auxiliary is None else self.auxiliary.bias

    @property
    def scale(self) -> Tensor:
        """The positive factor of served dot products; 1 for plain vectors."""
        return _scale(self.log_scale, self.bias)

    @property
    def length(self) -> int:
        """The length of its vectors."""
        return self.user_tower.last.out_features

    def user_vectors(self, side: Side) -> Tensor:
        """Encoded users -> served vectors [N, d]."""
        (e,) = looked_up(self.table, (self.user, side))
        return self._finish(self.user_tower(self.user(e, side)))

    def item_vectors(self, side: Side) -> Tensor:
        """Encoded items -> served vectors [N, d]."""
        (e,) = looked_up(self.table, (self.item, side))
        return self._finish(self.item_tower(self.item(e, side)))

    def heads(self, user: Side, item: Side, *, plain: bool = False) -> tuple[Vectors, Vectors]:
        """(user, item) vectors of the served head, and of the auxiliary one (the served ones where there is none).

        Args:
            plain: whether to compute by plain autograd, without kernels written by hand.
        """
        e_user, e_item = looked_up(self.table, (self.user, user), (self.item, item))
        x, y = self.user.parts(e_user, user), self.item.parts(e_item, item)
        if self.auxiliary is None and not plain:
            served = self._finish(self.user_tower.of_parts(x)), self._finish(self.item_tower.of_parts(y))
            return served, served
        u, v = self.user_tower.trunk(torch.cat(x, 1)), self.item_tower.trunk(torch.cat(y, 1))
        served = self._finish(self.user_tower.last(u)), self._finish(self.item_tower.last(v))
        if self.auxiliary is None:
            return served, served
        return served, (self._finish(self.auxiliary.user(u)), self._finish(self.auxiliary.item(v)))

    def _finish(self, x: Tensor) -> Tensor:
        x = x.to(self.bias.dtype)  # under bf16 only products have that type
        return F.normalize(x, dim=1) if self.unit else x

    def logits(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Row by row: [B, d] x [B, d] -> [B]."""
        return self.scale * (user_vectors * item_vectors).sum(1) + self.bias

    def soft_logits(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """The logits that learn stored scores: of the auxiliary head where there is one."""
        if self.auxiliary is None:
            return self.logits(user_vectors, item_vectors)
        scale = _scale(self.auxiliary.log_scale, self.auxiliary.bias)
        return scale * (user_vectors * item_vectors).sum(1) + self.auxiliary.bias


class Auxiliary(nn.Module):
    """A second last layer on both towers, with its own scale and bias. It shapes the towers and is not served."""

    def __init__(self, user: nn.Linear, item: nn.Linear, *, unit: bool) -> None:
        super().__init__()
        self.user = Linear(user.in_features, user.out_features)
        self.item = Linear(item.in_features, item.out_features)
        self.log_scale = nn.Parameter(torch.tensor(INIT_SCALE).log()) if unit else None
        self.bias = nn.Parameter(torch.zeros(()))


def _scale(log_scale: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones((), device=like.device) if log_scale is None else log_scale.exp()


def gathered(vectors: Vectors, batch: Batch[Any]) -> Vectors:
    """Vectors of the batch's distinct users and items -> of each row's user and item, [B, d] each."""
    return vectors[0].index_select(0, batch.user_index), vectors[1].index_select(0, batch.item_index)


def batch_heads(
    student: DSSM, batch: Batch[Any], ranks: Ranks = ALONE, *, plain: bool = False
) -> tuple[Vectors, Vectors]:
    """Vectors of the served head and of the auxiliary one: of the batch's distinct users and items, whichever rank
    computed them; `plain` as in `DSSM.heads`."""

    def whole(head: Vectors) -> Vectors:
        return ranks.gather(head[0], batch.distinct[0]), ranks.gather(head[1], batch.distinct[1])

    served, soft = student.heads(batch.user, batch.item, plain=plain)
    one = whole(served)
    return one, one if soft is served else whole(soft)
