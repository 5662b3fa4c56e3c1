"""The plain reference: an embedding a feature, autograd, dense Adam, every row computed on its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.sizes import DIM, EXPERT_UNITS, EXPERTS, OF_ITEM, OF_USER, TOWER_UNITS, VECTOR_UNITS, WIDTH
from dmtl_cli.nn.batches import Batch
from dmtl_cli.student.dssm import INIT_SCALE
from dmtl_cli.teacher.labels import TeacherLabels


class Plain(nn.Module):
    """What both models share: separate embeddings, and rows of one side as one vector.

    Shapes: B rows, C ids of a side, L length of a history.
    """

    def __init__(self, rows: dict[str, int], more_rows: int = 0) -> None:
        super().__init__()
        more = {"user_id": more_rows}
        self.e = nn.ModuleDict({n: nn.Embedding(k + more.get(n, 0), DIM) for n, k in rows.items()})

    def side(self, names: Iterable[str], ids: Tensor, history: Tensor | None, numbers: Tensor | None) -> Tensor:
        """ids [B, C], history [B, L] (0: padding), numbers [B, n] -> [B, C DIM + DIM + n]"""
        parts = [self.e[name](column) for name, column in zip(names, ids.unbind(1), strict=True)]
        if history is not None:
            known = (history > 0).float().unsqueeze(2)
            parts.append((self.e["item_id"](history) * known).sum(1) / known.sum(1).clamp_min(1))
        return torch.cat([*parts, *([] if numbers is None else [numbers])], 1)


@dataclass(frozen=True)
class Flat:
    """A batch with nothing shared: each row with all that belongs to its user, its item and itself."""

    user: Tensor
    history: Tensor
    user_numbers: Tensor
    item: Tensor
    context: Tensor
    labels: Tensor
    """[B, 2] click, click with a long read"""

    @staticmethod
    def from_batch(batch: Batch[Any]) -> Flat:
        """A teacher's batch with its labels; another one's labels are zeros."""
        u, i, y = batch.user_index, batch.item_index, batch.labels
        of_user = (batch.user.ids[u], batch.user.sequences[0][u], batch.user.floats[u])
        labels = [y.click.float(), y.converted[:, 0].float()] if isinstance(y, TeacherLabels) else [torch.zeros(len(u))]
        number = batch.context.floats[:, :1]  # and that it is known, which it is in every row
        return Flat(*of_user, batch.item.ids[i], number, torch.stack(labels, 1))


def layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(*[m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())])


class PlainTeacher(Plain):
    """The MMoE as tutorials write it."""

    def __init__(self, rows: dict[str, int], more_rows: int = 0) -> None:
        super().__init__(rows, more_rows)
        self.experts = nn.ModuleList(layers(WIDTH, *EXPERT_UNITS) for _ in range(EXPERTS))
        self.gates = nn.ModuleList(nn.Linear(WIDTH, EXPERTS) for _ in range(2))
        self.towers = nn.ModuleList(
            nn.Sequential(layers(EXPERT_UNITS[-1], *TOWER_UNITS), nn.Linear(TOWER_UNITS[-1], 1)) for _ in range(2)
        )

    def forward(self, b: Flat) -> Tensor:
        """Logits [B, 2] of a click, and of a long read given one."""
        user = self.side(("user_id", *OF_USER), b.user, b.history, b.user_numbers)
        x = torch.cat([user, self.side(("item_id", *OF_ITEM), b.item, None, None), b.context], 1)
        h_BEH = torch.stack([expert(x) for expert in self.experts], 1)
        mixed = [(torch.softmax(g(x), 1).unsqueeze(2) * h_BEH).sum(1) for g in self.gates]
        return torch.cat([tower(h) for tower, h in zip(self.towers, mixed, strict=True)], 1)

    def loss(self, b: Flat) -> Tensor:
        """ESMM's: BCE of a click and of a click with a long read."""
        a, c = self(b).unbind(1)
        both = -torch.logsumexp(torch.stack([-a, -c, -a - c]), 0)
        return F.binary_cross_entropy_with_logits(a, b.labels[:, 0]) + F.binary_cross_entropy_with_logits(
            both, b.labels[:, 1]
        )


class PlainStudent(Plain):
    """The DSSM, its in-batch softmax as a B x B cross entropy."""

    def __init__(self, rows: dict[str, int]) -> None:
        super().__init__(rows)
        width, last = (len(OF_USER) + 2) * DIM + 1, VECTOR_UNITS[-1]
        self.user = nn.Sequential(layers(width, VECTOR_UNITS[0]), nn.Linear(VECTOR_UNITS[0], last))
        self.item = nn.Sequential(layers((len(OF_ITEM) + 1) * DIM, VECTOR_UNITS[0]), nn.Linear(VECTOR_UNITS[0], last))
        self.log_scale, self.bias = nn.Parameter(torch.tensor(INIT_SCALE).log()), nn.Parameter(torch.zeros(()))

    def loss(self, b: Flat, target: Tensor, log_q: Tensor, item_row: Tensor) -> Tensor:
        """KL to the teacher's probability, and softmax over the batch's items with logQ, less accidental hits."""
        u = F.normalize(self.user(self.side(("user_id", *OF_USER), b.user, b.history, b.user_numbers)), dim=1)
        v = F.normalize(self.item(self.side(("item_id", *OF_ITEM), b.item, None, None)), dim=1)
        scale, p = self.log_scale.exp(), torch.sigmoid(target)
        s = scale * (u * v).sum(1) + self.bias
        kl = (F.binary_cross_entropy_with_logits(s, p) - F.binary_cross_entropy_with_logits(target, p)).mean()
        same = (item_row[:, None] == item_row) & ~torch.eye(len(item_row), dtype=torch.bool)
        logits = (scale * u @ v.T - log_q).masked_fill(same, -torch.inf)
        return kl + F.cross_entropy(logits, torch.arange(len(u)))
