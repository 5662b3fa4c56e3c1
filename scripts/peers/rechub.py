"""torch-rechub: its feature classes, generators and trainers. Its layers normalise batches, which no option changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from benchmark.sizes import DIM, EXPERT_UNITS, EXPERTS, TOWER_UNITS, VECTOR_UNITS
from torch.utils.data import DataLoader
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
from torch_rechub.models.matching import DSSM
from torch_rechub.models.multi_task import MMOE
from torch_rechub.trainers import MatchTrainer, MTLTrainer
from torch_rechub.utils.data import DataGenerator, MatchDataGenerator, PredictDataset

from peers.rows import CONTEXT_NUMBER, ITEM, USER, USER_NUMBER, Array, Options, Rows, Training

DISTRIBUTION = "torch-rechub"


def features(names: tuple[str, ...], sizes: dict[str, int]) -> list[SparseFeature]:
    return [SparseFeature(name, sizes[name], DIM) for name in names]


def of_users(sizes: dict[str, int]) -> list[Any]:
    history = SequenceFeature("hist", sizes["item_id"], DIM, pooling="mean", shared_with="item_id", padding_idx=0)
    return [*features(USER, sizes), history, DenseFeature(USER_NUMBER)]


def mmoe(rows: Rows, sizes: dict[str, int], o: Options) -> Training:
    kinds = ["classification"] * 2
    towers = [{"dims": list(TOWER_UNITS)} for _ in kinds]
    all_features = [*of_users(sizes), *features(ITEM, sizes), DenseFeature(CONTEXT_NUMBER)]
    model = MMOE(all_features, kinds, EXPERTS, {"dims": list(EXPERT_UNITS)}, towers)
    trainer = MTLTrainer(model, kinds, n_epoch=1)
    other = {"x_val": rows.x, "y_val": rows.y, "x_test": rows.x, "y_test": rows.y}  # it wants them; they are not used
    loader, *_ = DataGenerator(rows.x, rows.y).generate_dataloader(**other, batch_size=o.batch, num_workers=o.workers)

    def scores(held_out: Rows) -> Array:
        return np.array(trainer.predict(model, DataLoader(PredictDataset(held_out.x), o.batch, num_workers=o.workers)))

    return Training(model, lambda: trainer.train_one_epoch(loader), scores)


def dssm(rows: Rows, sizes: dict[str, int], o: Options) -> Training:
    tower = {"dims": list(VECTOR_UNITS)}
    model = DSSM(of_users(sizes), features(ITEM, sizes), tower, tower)
    trainer = MatchTrainer(model, mode=0, in_batch_neg=True, n_epoch=1)
    generator = MatchDataGenerator(rows.x, rows.y[:, 0])
    loader, *_ = generator.generate_dataloader(rows.x, rows.x, o.batch, num_workers=o.workers)

    def vectors(of: Rows, side: str) -> Array:
        torch.save(model.state_dict(), o.scratch / "model.pth")  # its `fit` does, and it reads them from there
        _, *loaders = generator.generate_dataloader(of.x, of.x, o.batch, num_workers=o.workers)
        found = trainer.inference_embedding(model, side, loaders[side == "item"], str(o.scratch))
        return np.asarray(found)

    return Training(model, lambda: trainer.train_one_epoch(loader), vectors=vectors)
