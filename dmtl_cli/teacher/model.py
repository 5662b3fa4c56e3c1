"""The teacher: embeddings, a multi-task network, and a factorization machine beside it.

Shapes: B rows, N distinct users or items, T tasks, H logits a row, E experts, K outputs of the network's first layer,
D embedding_dim, F factor_dim, X crosses, L values of all crosses' features of a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dmtl_cli.nn.batches import Batch
from dmtl_cli.nn.layers import FirstInput, FirstLayer, Side, SideEmbedder, looked_up
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.teacher.networks.network import Network

USER, ITEM, ROW = 0, 1, 2
"""parts of the input of the network's first layer; ROW: context and crosses, which no rows share"""


class SideInput(NamedTuple):
    """What rows share of N users or items, before the network."""

    x: Tensor
    """[N, V] what the network's first layer reads"""
    wide: Tensor
    """[N, T, F + 1] each task's factors, then its bias; [N, T, 0] in a teacher without factors"""
    crossed: Tensor
    """[N, L] rows, in their embeddings, of the values that crosses compare; a user's out-of-vocabulary values are -1"""


class SideOutput(NamedTuple):
    """`SideInput` of a frozen teacher, through the network's first layer."""

    part: Tensor
    """[N, K] added to the first layer's sums; an item's includes the bias"""
    wide: Tensor
    crossed: Tensor


Half = SideInput | SideOutput


class Teacher(nn.Module):
    """Encoded rows in, logits out: H = T of a network, and T more of factors beside it, b_u + b_i + <f_u, f_i>.

    The network's first layer is linear in x = [user, item, context], so its user part is computed once per distinct
    user and its item part once per distinct item. A network of sums learns slowly that two ids match; a factorization
    machine (Rendle, ICDM 2010) over pairs of a user's and an item's feature learns it fast. f and b are sums over the
    features of a side; each task has columns of its own in the table (as in STEM: Su et al., AAAI 2024), since users
    click and read different items. How both become one is `teacher.factors`'.

    With crosses x = [user, item, context, crosses], each ln(1 + n), n the pairs of equal values of a user's and an
    item's feature: overlap features (EasyRec, TorchEasyRec), which a tower cannot read and a teacher can (privileged
    features: Xu et al., KDD 2020). They are counted from features, not from the log, so that a pair that was never
    shown has them too.

    Args:
        table: has D + T (F + 1) columns: the network's, then factors and a bias for each task; or D, without a
            factorization machine.
        crosses: the user's and the item's columns of each, in [ids, sequences] of their sides.
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
        self.logits_a_row = self.tasks * (2 if table.dim > embedding_dim else 1)
        self.user_lengths, self.item_lengths = ([len(cross[k]) for cross in crosses] for k in (USER, ITEM))
        for k, name in ((USER, "user_columns"), (ITEM, "item_columns")):
            columns = torch.tensor([c for cross in crosses for c in cross[k]], dtype=torch.int64)
            self.register_buffer(name, columns, persistent=False)

    def user_side(self, side: Side) -> SideOutput:
        """Outputs of N encoded users."""
        (e,) = looked_up(self.table, (self.user, side))
        x, *others = self._user(e, side)
        return SideOutput(self.net.first.part(USER, x), *others)

    def item_side(self, side: Side) -> SideOutput:
        """Outputs of N encoded items."""
        (e,) = looked_up(self.table, (self.item, side))
        x, *others = self._item(e, side)
        return SideOutput(self.net.first.part(ITEM, x, bias=True), *others)

    def context_row(self, side: Side) -> Tensor:
        """[B, R] the context part of x."""
        (e,) = looked_up(self.table, (self.context, side))
        return self._context(e, side)

    def logits(
        self, user: SideOutput, item: SideOutput, user_index: Tensor, item_index: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Outputs of users and items, each row's places [B] and context [B, R] -> logits [B, H], gates [B, T, E]."""
        row, weight = self._row(user, item, user_index, item_index, context), self.net.first.row_weight(ROW)
        deep = self.net.of_parts(FirstLayer(user.part, item.part, user_index, item_index, row, weight))
        return self._beside(user, item, user_index, item_index, deep)

    def crosses(self, user: Tensor, item: Tensor) -> Tensor:
        """ln(1 + pairs of equal known values) of rows' values, [B, L] each -> [B, X]."""
        users, items = torch.split(user, self.user_lengths, 1), torch.split(item, self.item_lengths, 1)
        n_XB = [(u[:, :, None] == i[:, None]).sum((1, 2)) for u, i in zip(users, items, strict=True)]
        return torch.stack(n_XB, 1).to(self.table.weight.dtype).log1p()

    def forward(
        self, user: Side, item: Side, context: Side, user_index: Tensor, item_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sides of N users, N items, B contexts and each row's place -> logits [B, H], gates [B, T, E]."""
        u, i, c = looked_up(self.table, (self.user, user), (self.item, item), (self.context, context))
        users, items = self._user(u, user), self._item(i, item)
        row = self._row(users, items, user_index, item_index, self._context(c, context))
        deep = self.net(FirstInput(users.x, items.x, user_index, item_index, row))
        return self._beside(users, items, user_index, item_index, deep)

    def _row(self, user: Half, item: Half, user_index: Tensor, item_index: Tensor, context: Tensor) -> Tensor:
        """[B, R] what no rows share: the context, then crosses."""
        if not self.user_lengths:
            return context
        return torch.cat([context, self.crosses(user.crossed[user_index], item.crossed[item_index])], 1)

    def _beside(
        self, user: Half, item: Half, user_index: Tensor, item_index: Tensor, network: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The network's logits and gates, behind the logits those of the factors."""
        deep, gates = network[0].to(user.wide.dtype), network[1]  # under bf16 only products have that type
        if not user.wide.shape[2]:
            return deep, gates
        u, i = user.wide.index_select(0, user_index), item.wide.index_select(0, item_index)
        return torch.cat([deep, (u[..., :-1] * i[..., :-1]).sum(2) + u[..., -1] + i[..., -1]], 1), gates

    def _user(self, e: Sequence[Tensor], side: Side) -> SideInput:
        users = self._input(self.user, e, side, self.user_columns)
        # row 0 is out of vocabulary or padding on both sides and must equal nothing; masked here, once per user
        return users._replace(crossed=users.crossed.masked_fill(users.crossed == 0, -1))

    def _item(self, e: Sequence[Tensor], side: Side) -> SideInput:
        return self._input(self.item, e, side, self.item_columns)

    def _context(self, e: Sequence[Tensor], side: Side) -> Tensor:
        floats = side.floats
        if not sum(self.context.widths):  # floats alone need no gradient
            return floats
        return torch.cat([self.context.embeddings(e, side)[..., : self.embedding_dim].flatten(1), floats], 1)

    def _input(self, embedder: SideEmbedder, e: Sequence[Tensor], side: Side, columns: Tensor) -> SideInput:
        e_NCW = embedder.embeddings(e, side)
        x = torch.cat([e_NCW[..., : self.embedding_dim].flatten(1), side.floats], 1)
        wide = e_NCW[..., self.embedding_dim :].sum(1)
        wide = wide.view(len(x), self.tasks, wide.shape[1] // self.tasks)
        return SideInput(x, wide, torch.cat([side.ids, *side.sequences], 1)[:, columns])


def batch_logits(model: Teacher, batch: Batch[Any], ranks: Ranks = ALONE) -> tuple[Tensor, Tensor]:
    """Logits [B, H] and gates [B, T, E] of a batch, whichever rank computed them."""
    logits, gates = model(batch.user, batch.item, batch.context, batch.user_index, batch.item_index)
    return ranks.gather(logits, len(batch)), ranks.gather(gates.detach(), len(batch))
