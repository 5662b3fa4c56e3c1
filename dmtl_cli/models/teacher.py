"""The teacher: embeddings, a network for what is deep, and a factorization machine for who likes what.

Shapes: B rows, N distinct users or items, T tasks, E experts, K outputs of the network's first layer, D embedding_dim,
F factor_dim, X crosses, L values of all crosses' features of a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dmtl_cli.models.layers import EmbeddingTable, Network, SideEmbedder

Side = tuple[Tensor, tuple[Tensor, ...], Tensor]
"""ids [N, C], sequences [N, L] each, floats [N, n]"""


class Half(NamedTuple):
    """What a user or an item brings to its rows."""

    part: Tensor
    """[N, K] added to the network's first layer"""
    factors: Tensor
    """[N, T, F]"""
    bias: Tensor
    """[N, T] added to the logits"""
    crossed: Tensor
    """[N, L] rows in their embeddings of the values that crosses compare; -1: unknown, of a user"""

    def rows(self, index: Tensor) -> Half:
        return Half(*(x.index_select(0, index) for x in self))


class Teacher(nn.Module):
    """Encoded rows in, logits of the tasks out: logit_k = network_k + b_u + b_i + <f_u, f_i>, task by task.

    The network's first layer is linear in x = [user, item, context], so its user part is computed once per distinct
    user and its item part once per distinct item. A network of sums learns slowly that two ids match; the second term
    is made for that: a factorization machine (Rendle, ICDM 2010) beside a network, as in DeepFM (Guo et al., IJCAI
    2017), over pairs of a user's and an item's feature. f and b are sums over the features of a side; each task has
    columns of its own in the table (as in STEM: Su et al., AAAI 2024), for what one clicks and what one reads differ.

    With crosses x = [user, item, context, crosses], each ln(1 + n), n the pairs of equal values of a user's and an
    item's feature: overlap features (EasyRec, TorchEasyRec), which a tower cannot read and a teacher can (privileged
    features: Xu et al., KDD 2020). They are counted, not logged, so a pair that was never shown has them too.

    Args:
        table: of D + T (F + 1) columns: the network's, then factors and a bias for each task; of D: no such term.
        crosses: of each the user's and the item's columns in [ids, sequences] of their sides.
    """

    user_columns: Tensor
    item_columns: Tensor

    def __init__(
        self,
        table: EmbeddingTable,
        user: SideEmbedder,
        item: SideEmbedder,
        context: SideEmbedder,
        net: Network,
        embedding_dim: int,
        crosses: Sequence[tuple[range, range]] = (),
    ) -> None:
        super().__init__()
        self.table, self.user, self.item, self.context, self.net = table, user, item, context, net
        self.embedding_dim, self.tasks = embedding_dim, len(net.towers)
        self.user_lengths, self.item_lengths = ([len(cross[k]) for cross in crosses] for k in (0, 1))
        for k, name in enumerate(("user_columns", "item_columns")):
            columns = torch.tensor([c for cross in crosses for c in cross[k]], dtype=torch.int64)
            self.register_buffer(name, columns, persistent=False)

    def user_side(self, side: Side) -> Half:
        half = self._half(0, self.user, side, self.user_columns)
        # row 0 is unknown or padding on both sides and must equal nothing: done here, it is done once a user
        return half._replace(crossed=half.crossed.masked_fill(half.crossed == 0, -1))

    def item_side(self, side: Side) -> Half:
        return self._half(1, self.item, side, self.item_columns)

    def context_part(self, side: Side) -> Tensor:
        """[B, K], the bias included; without any context feature the bias alone, [K]."""
        ids, sequences, floats = side
        if not ids.shape[1] + len(sequences) + floats.shape[1]:
            return self.net.first.bias
        deep = self.context.embeddings(self.table, ids, sequences)[..., : self.embedding_dim]
        return self.net.first.part(2, torch.cat([deep.flatten(1), floats], 1)) + self.net.first.bias

    def logits(self, user: Half, item: Half, context: Tensor) -> tuple[Tensor, Tensor]:
        """Row by row, or one user with each of the items -> logits [B, T], gates [B, T, E]."""
        pre_BK = user.part + item.part + context
        if self.user_lengths:
            pre_BK = self.net.first.add(3, self.crosses(user, item), pre_BK)
        deep, gates = self.net.rest(pre_BK)
        return deep + (user.factors * item.factors).sum(2) + user.bias + item.bias, gates

    def crosses(self, user: Half, item: Half) -> Tensor:
        """ln(1 + pairs of equal known values), [B, X]."""
        of_user = torch.split(user.crossed, self.user_lengths, 1)
        of_item = torch.split(item.crossed, self.item_lengths, 1)
        n_XB = [(u[:, :, None] == i[:, None]).sum((1, 2)) for u, i in zip(of_user, of_item, strict=True)]
        return torch.stack(n_XB, 1).to(user.part.dtype).log1p()

    def forward(
        self, user: Side, item: Side, context: Side, user_index: Tensor, item_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sides of N users, N items, B contexts and each row's place -> logits [B, T], gates [B, T, E]."""
        users, items = self.user_side(user).rows(user_index), self.item_side(item).rows(item_index)
        return self.logits(users, items, self.context_part(context))

    def _half(self, k: int, embedder: SideEmbedder, side: Side, columns: Tensor) -> Half:
        ids, sequences, floats = side
        e_NCW = embedder.embeddings(self.table, ids, sequences)
        part = self.net.first.part(k, torch.cat([e_NCW[..., : self.embedding_dim].flatten(1), floats], 1))
        wide_NTF = part.new_zeros(len(part), self.tasks, 1)
        if e_NCW.shape[2] > self.embedding_dim:
            wide_NTF = e_NCW[..., self.embedding_dim :].sum(1).view(len(part), self.tasks, -1)
        return Half(part, wide_NTF[..., :-1], wide_NTF[..., -1], torch.cat([ids, *sequences], 1)[:, columns])
