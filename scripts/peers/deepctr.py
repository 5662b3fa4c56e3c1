"""deepctr-torch: its MMOE with Adam and its defaults. Its `fit` takes arrays and has no workers; it has no DSSM."""

from __future__ import annotations

import numpy as np
from benchmark.sizes import DIM, EXPERT_UNITS, EXPERTS, HISTORY, TOWER_UNITS
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr_torch.models.multitask.mmoe import MMOE

from peers.rows import CATEGORICAL, LABELS, NUMERIC, Options, Rows, Training

DISTRIBUTION = "deepctr-torch"


def mmoe(rows: Rows, sizes: dict[str, int], o: Options) -> Training:
    items = SparseFeat("hist", sizes["item_id"], DIM, embedding_name="item_id")
    columns = [SparseFeat(name, sizes[name], DIM) for name in CATEGORICAL]
    columns += [VarLenSparseFeat(items, maxlen=HISTORY, combiner="mean"), *(DenseFeat(name, 1) for name in NUMERIC)]
    model = MMOE(
        columns,
        num_experts=EXPERTS,
        expert_dnn_hidden_units=EXPERT_UNITS,
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=TOWER_UNITS,
        task_types=["binary"] * 2,
        task_names=list(LABELS),
        seed=o.seed,
        device="cpu",
    )
    model.compile("adam", loss=["binary_crossentropy"] * 2, metrics=[])
    return Training(
        model,
        lambda: model.fit(rows.x, rows.y, batch_size=o.batch, epochs=1, verbose=0),
        lambda held_out: np.asarray(model.predict(held_out.x, o.batch)),
    )
