"""PyTorch as tutorials write it: a Dataset of rows, a DataLoader, an embedding a feature, experts in a list, Adam."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from benchmark.sizes import DIM, EXPERT_UNITS, EXPERTS, OF_ITEM, OF_USER, TOWER_UNITS, VECTOR_UNITS, WIDTH
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from peers.rows import CATEGORICAL, ITEM, NUMERIC, USER, Array, Options, Rows, Training

DISTRIBUTION = "torch"
TEMPERATURE = 0.05
Batch = dict[str, Tensor]


class RowDataset(Dataset[Batch]):
    """A row at an index: ids [14], hist [50], numbers [2], labels [2]."""

    def __init__(self, rows: Rows) -> None:
        self.columns = {
            "ids": torch.from_numpy(np.stack([rows.x[name] for name in CATEGORICAL], 1)).long(),
            "hist": torch.from_numpy(rows.x["hist"]).long(),
            "numbers": torch.from_numpy(np.stack([rows.x[name] for name in NUMERIC], 1)),
            "labels": torch.from_numpy(rows.y),
        }

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, index: int) -> Batch:
        return {name: values[index] for name, values in self.columns.items()}


def layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(*[m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())])


class Embeddings(nn.Module):
    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.e = nn.ModuleDict({name: nn.Embedding(n, DIM, padding_idx=0) for name, n in sizes.items()})

    def of(self, names: Sequence[str], b: Batch) -> Tensor:
        """[B, len(names) DIM]"""
        return torch.cat([self.e[name](b["ids"][:, CATEGORICAL.index(name)]) for name in names], 1)

    def users(self, b: Batch) -> Tensor:
        """Ids, the mean of what is known of the history, and the user's number, [B, 8 DIM + 1]."""
        known = (b["hist"] > 0).float().unsqueeze(2)
        history = (self.e["item_id"](b["hist"]) * known).sum(1) / known.sum(1).clamp_min(1)
        return torch.cat([self.of(USER, b), history, b["numbers"][:, :1]], 1)


class MMoE(Embeddings):
    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(sizes)
        self.experts = nn.ModuleList(layers(WIDTH, *EXPERT_UNITS) for _ in range(EXPERTS))
        self.gates = nn.ModuleList(nn.Linear(WIDTH, EXPERTS) for _ in range(2))
        towers = [nn.Sequential(layers(EXPERT_UNITS[-1], *TOWER_UNITS), nn.Linear(TOWER_UNITS[-1], 1)) for _ in "ab"]
        self.towers = nn.ModuleList(towers)

    def forward(self, b: Batch) -> Tensor:
        """Logits [B, 2]"""
        x = torch.cat([self.users(b), self.of(ITEM, b), b["numbers"][:, 1:]], 1)
        h_BEH = torch.stack([expert(x) for expert in self.experts], 1)
        mixed = [(torch.softmax(gate(x), 1).unsqueeze(2) * h_BEH).sum(1) for gate in self.gates]
        return torch.cat([tower(h) for tower, h in zip(self.towers, mixed, strict=True)], 1)

    def loss(self, b: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(self(b), b["labels"])


class DSSM(Embeddings):
    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(sizes)
        hidden, out = VECTOR_UNITS
        user, item = (len(OF_USER) + 2) * DIM + 1, (len(OF_ITEM) + 1) * DIM
        self.user, self.item = (nn.Sequential(layers(n, hidden), nn.Linear(hidden, out)) for n in (user, item))

    def vectors(self, b: Batch, side: str) -> Tensor:
        """[B, 64], of length 1."""
        return F.normalize(self.user(self.users(b)) if side == "user" else self.item(self.of(ITEM, b)), dim=1)

    def loss(self, b: Batch) -> Tensor:
        """Softmax over the batch's items."""
        u, v = self.vectors(b, "user"), self.vectors(b, "item")
        return F.cross_entropy(u @ v.T / TEMPERATURE, torch.arange(len(u)))


def fitting(model: MMoE | DSSM, rows: Rows, o: Options) -> Callable[[], None]:
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    loader = DataLoader(RowDataset(rows), o.batch, shuffle=True, num_workers=o.workers)

    def fit() -> None:
        for b in loader:
            adam.zero_grad()
            model.loss(b).backward()  # type: ignore[no-untyped-call]
            adam.step()

    return fit


def mmoe(rows: Rows, sizes: dict[str, int], o: Options) -> Training:
    model = MMoE(sizes)

    @torch.no_grad()
    def scores(held_out: Rows) -> Array:
        model.eval()
        loader = DataLoader(RowDataset(held_out), o.batch, num_workers=o.workers)
        return torch.cat([model(b) for b in loader]).numpy()

    return Training(model, fitting(model, rows, o), scores)


def dssm(rows: Rows, sizes: dict[str, int], o: Options) -> Training:
    model = DSSM(sizes)

    @torch.no_grad()
    def vectors(of: Rows, side: str) -> Array:
        model.eval()
        loader = DataLoader(RowDataset(of), o.batch, num_workers=o.workers)
        return torch.cat([model.vectors(b, side) for b in loader]).numpy()

    return Training(model, fitting(model, rows, o), vectors=vectors)
