"""NextRec: its MMOE and DSSM over its in-memory loader, which shuffles; its streaming mode ignores `shuffle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from benchmark.sizes import DIM, EXPERT_UNITS, EXPERTS, HISTORY, TOWER_UNITS, VECTOR_UNITS
from nextrec.basic.features import DenseFeature, SequenceFeature, SparseFeature
from nextrec.models.matching.dssm import DSSM
from nextrec.models.multitask.mmoe import MMOE

from peers.rows import CATEGORICAL, ITEM, LABELS, NUMERIC, USER, USER_NUMBER, Array, Options, Rows, Training

DISTRIBUTION = "nextrec"


def features(names: tuple[str, ...], sizes: dict[str, int]) -> list[SparseFeature]:
    return [SparseFeature(name, sizes[name], embedding_dim=DIM) for name in names]


def history(sizes: dict[str, int]) -> list[SequenceFeature]:
    shared = {"embedding_name": "item_id", "embedding_dim": DIM, "padding_idx": 0}
    return [SequenceFeature("hist", sizes["item_id"], max_len=HISTORY, combiner="mean", **shared)]


def fitting(model: Any, data: dict[str, Array], o: Options, **compiled: Any) -> Callable[[], Any]:
    model.compile(optimizer="adam", optimizer_params={"lr": 1e-3, "weight_decay": 1e-5}, **compiled)
    loader = model.prepare_data_loader(data, o.batch, shuffle=True, num_workers=o.workers)
    said = {"metrics": ["auc"], "use_tensorboard": False, "summary_sections": []}
    return lambda: model.fit(loader, epochs=1, batch_size=o.batch, num_workers=o.workers, **said)


def mmoe(rows: Rows, sizes: dict[str, int], o: Options) -> Training:
    model = MMOE(
        dense_features=[DenseFeature(name) for name in NUMERIC],
        sparse_features=features(CATEGORICAL, sizes),
        sequence_features=history(sizes),
        expert_mlp_params={"hidden_dims": list(EXPERT_UNITS)},
        num_experts=EXPERTS,
        tower_mlp_params_list=[{"hidden_dims": list(TOWER_UNITS)} for _ in LABELS],
        target=list(LABELS),
        task=["binary"] * 2,
        device="cpu",
    )
    return Training(
        model,
        fitting(model, rows.x | rows.labels, o, loss=["bce", "bce"]),
        lambda held_out: np.asarray(model.predict(held_out.x, o.batch, return_dataframe=False)),
    )


def dssm(rows: Rows, sizes: dict[str, int], o: Options) -> Training:
    hidden, out = VECTOR_UNITS
    model = DSSM(
        user_dense_features=[DenseFeature(USER_NUMBER)],
        user_sparse_features=features(USER, sizes),
        user_sequence_features=history(sizes),
        item_sparse_features=features(ITEM, sizes),
        user_mlp_params={"hidden_dims": [hidden]},
        item_mlp_params={"hidden_dims": [hidden]},
        embedding_dim=out,
        temperature=0.05,
        training_mode="listwise",
        sampling_mode="inbatch",
        num_negative_samples=0,  # all
        target="click",
        device="cpu",
    )
    # Without labels: with them its `fit` asks a dictionary for `dim` and fails.
    return Training(model, fitting(model, rows.x, o, loss="ce"))
