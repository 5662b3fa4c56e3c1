"""The student: DSSM, two towers whose dot product is the logit (Huang et al., CIKM 2013)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtl_cli.models.layers import EmbeddingTable, SideEmbedder
from dmtl_cli.models.mmoe import Side

INIT_SCALE = 5.0  # of unit vectors: logits within -5 .. 5 around the bias at first


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
        user_tower: nn.Sequential,
        item_tower: nn.Sequential,
        *,
        unit: bool,
    ) -> None:
        super().__init__()
        self.table, self.user, self.item = table, user, item
        self.user_tower, self.item_tower, self.unit = user_tower, item_tower, unit
        self.log_scale = nn.Parameter(torch.tensor(INIT_SCALE).log()) if unit else None
        self.bias = nn.Parameter(torch.zeros(()))

    @property
    def scale(self) -> Tensor:
        return torch.ones((), device=self.bias.device) if self.log_scale is None else self.log_scale.exp()

    def user_vectors(self, side: Side) -> Tensor:
        """[N, d]"""
        return self._finish(self.user_tower(self.user(self.table, *side)))

    def item_vectors(self, side: Side) -> Tensor:
        """[N, d]"""
        return self._finish(self.item_tower(self.item(self.table, *side)))

    def _finish(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) if self.unit else x

    def logits(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Row by row: [B, d] x [B, d] -> [B]."""
        return self.scale * (user_vectors * item_vectors).sum(1) + self.bias
