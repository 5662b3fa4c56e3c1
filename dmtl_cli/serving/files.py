"""Files of an export, read back: what does not fit the others is 65, as a server must not start with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dmtl_cli.data.features.layout import Layout
from dmtl_cli.runs.contents import decoding
from dmtl_cli.serving.search import Floats


def input_names(layout: Layout) -> tuple[str, ...]:
    """Inputs of a tower: ids [N, C], sequence_k [N, L_k], floats [N, F]; only those that the side has."""
    names = ["ids"] if layout.ids else []
    names += [f"sequence_{k}" for k in range(len(layout.sequences))]
    return tuple(names + (["floats"] if layout.floats else []))


def check_described(described: dict[str, Any]) -> None:
    """Raises ValueError or KeyError where features.json has no scale and bias, or blocks that are no columns."""
    for name in ("scale", "bias", "kappa"):
        number = described.get(name, 0.0) if name == "kappa" else described[name]
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{name}: expected a number, got {number!r}")
    for name, span in described.get("blocks", {}).items():
        if len(span) != 2 or not all(isinstance(at, int | None) for at in span):
            raise ValueError(f"blocks: {name}: expected the first and the last column, got {span!r}")


def open_tower(folder: Path, side: str, layout: Layout) -> Any:
    """A session of onnxruntime. Raises UserError 65: it is damaged, or its inputs are not the layout's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the same sums in the same order on every machine
    options.log_severity_level = 4  # what is wrong with a file is raised, not printed
    path = folder / f"{side}_tower.onnx"
    with decoding(path):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs = {given.name for given in session.get_inputs()}
        if inputs != {*input_names(layout)}:
            raise ValueError(f"expected the inputs {', '.join(input_names(layout))}, got {', '.join(sorted(inputs))}")
        return session


def read_vectors(folder: Path, ids: pl.DataType) -> tuple[pl.Series, Floats]:
    """(item ids [I], vectors [I, d]). Raises UserError 65: other columns, no item, one twice, or not finite."""
    path = folder / "item_vectors.parquet"
    with decoding(path):
        frame = pl.read_parquet(path, use_pyarrow=False)
        _check_id(frame, "item_id", ids)
        kind = frame.schema["vector"]
        if not isinstance(kind, pl.Array) or kind.inner != pl.Float32 or frame["vector"].null_count():
            raise ValueError(f"vector: expected lists of one length of float32, got {kind}")
        if not len(frame):
            raise ValueError("it has no item")
        vectors = np.ascontiguousarray(frame["vector"].to_numpy())
        if vectors.dtype != np.float32 or not np.isfinite(vectors).all():
            raise ValueError("vector: expected finite numbers")
        return frame["item_id"], vectors


def read_users(folder: Path, ids: pl.DataType, items: pl.DataType, features: Sequence[str]) -> pl.DataFrame:
    """users.parquet. Raises UserError 65: a column is missing or of another type, no user, or one twice."""
    path = folder / "users.parquet"
    with decoding(path):
        frame = pl.read_parquet(path)
        _check_id(frame, "user_id", ids)
        if frame.schema["seen_items"] != pl.List(items):
            raise ValueError(f"seen_items: expected lists of {items}, got {frame.schema['seen_items']}")
        if not len(frame):
            raise ValueError("it has no user")
        if missing := [name for name in features if f"feature.{name}" not in frame.columns]:
            raise ValueError(f"no column feature.{missing[0]}")
        return frame


def _check_id(frame: pl.DataFrame, name: str, kind: pl.DataType) -> None:
    """Raises ValueError or KeyError unless ids are of their type, distinct and not null."""
    ids = frame[name]
    if ids.dtype != kind:
        raise ValueError(f"{name}: expected {kind}, got {ids.dtype}")
    if ids.null_count() or ids.n_unique() < len(ids):
        raise ValueError(f"{name}: expected each once, and no null")
