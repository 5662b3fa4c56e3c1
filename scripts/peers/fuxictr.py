"""FuxiCTR: an MMoE of its own layers, since the wheel has none, over its npz loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark.sizes import DIM, EXPERT_UNITS, EXPERTS, HISTORY, TOWER_UNITS
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import MultiTaskModel
from torch import Tensor, nn

from peers.rows import CATEGORICAL, LABELS, NUMERIC, Array, Options, Rows, Training

DISTRIBUTION = "fuxictr"


def feature_map(sizes: dict[str, int], scratch: Path) -> FeatureMap:
    """What its preprocessing would write of these columns."""
    made = FeatureMap("bench", str(scratch))
    categorical = {"type": "categorical", "source": "", "padding_idx": 0}
    made.features.update({name: categorical | {"vocab_size": sizes[name]} for name in CATEGORICAL})
    made.features["hist"] = {
        "type": "sequence",
        "source": "",
        "padding_idx": 0,
        "vocab_size": sizes["item_id"],
        "max_len": HISTORY,
        "share_embedding": "item_id",
        "feature_encoder": "layers.MaskedAveragePooling()",
    }
    made.features.update({name: {"type": "numeric", "source": ""} for name in NUMERIC})
    made.labels = list(LABELS)
    made.num_fields = made.get_num_fields()
    made.set_column_index()
    return made


class MMoE(MultiTaskModel):  # type: ignore[misc]
    """As its model zoo has it, with gates of one layer, and numbers as they are rather than as embeddings."""

    def __init__(self, features: FeatureMap, scratch: Path) -> None:
        super().__init__(
            features,
            task=["binary_classification"] * 2,
            num_tasks=2,
            embedding_regularizer=1e-6,
            verbose=0,
            model_root=str(scratch),
            metrics=["AUC"],
        )
        self.embedding = FeatureEmbedding(features, DIM, not_required_feature_columns=list(NUMERIC))
        width = (len(CATEGORICAL) + 1) * DIM + len(NUMERIC)
        self.experts = nn.ModuleList(MLP_Block(width, list(EXPERT_UNITS)) for _ in range(EXPERTS))
        self.gates = nn.ModuleList(MLP_Block(width, output_dim=EXPERTS) for _ in LABELS)
        towers = [MLP_Block(EXPERT_UNITS[-1], list(TOWER_UNITS), output_dim=1) for _ in LABELS]
        self.towers = nn.ModuleList(towers)
        self.compile("adam", ["binary_crossentropy"] * 2, 1e-3)
        self.reset_parameters()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.get_inputs(inputs)
        numbers = [x[name].float().unsqueeze(1) for name in NUMERIC]
        flat = torch.cat([self.embedding(x).flatten(1), *numbers], 1)
        h_BEH = torch.stack([expert(flat) for expert in self.experts], 1)
        mixed = [(torch.softmax(gate(flat), 1).unsqueeze(2) * h_BEH).sum(1) for gate in self.gates]
        out = [act(tower(h)) for act, tower, h in zip(self.output_activation, self.towers, mixed, strict=True)]
        return {f"{label}_pred": y for label, y in zip(LABELS, out, strict=True)}

    def eval_step(self) -> None:
        """No rows to evaluate: only the checkpoint, which `fit` loads when it ends."""
        Path(self.model_dir).mkdir(parents=True, exist_ok=True)
        self.save_weights(self.checkpoint)


def mmoe(rows: Rows, sizes: dict[str, int], o: Options) -> Training:
    features = feature_map(sizes, o.scratch)
    model = MMoE(features, o.scratch)

    def loaders(which: Rows, stage: str, **options: Any) -> Any:
        """Through an npz file, as its own preprocessing writes one."""
        file = o.scratch / f"{stage}.npz"
        arrays: dict[str, Any] = which.x | which.labels
        np.savez(file, **arrays)
        return RankDataLoader(features, stage, **{f"{stage}_data": str(file)}, batch_size=o.batch, **options)

    loader, _ = loaders(rows, "train", shuffle=True, num_workers=o.workers)

    def scores(held_out: Rows) -> Array:
        found = model.predict(loaders(held_out, "test", num_workers=0))
        return np.stack([np.asarray(found[label]) for label in LABELS], 1)

    return Training(model, lambda: model.fit(loader, epochs=1), scores)
