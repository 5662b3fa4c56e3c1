"""The export: both towers as ONNX and torch.export programs, item vectors, users, and how raw values become inputs.

One run id for all of it, so that towers of two versions are never mixed. The same student gives the same bytes: paths
and stack traces, which exporters note, are removed.
"""

from __future__ import annotations

import datetime as dt
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from dmtl_cli.data.features.encoder import Encoded, Encoder, Layout
from dmtl_cli.data.log.day import ID, Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.batches import inputs
from dmtl_cli.nn.layers import EmbeddingTable, SideEmbedder
from dmtl_cli.nn.sharded import TableOf
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Result, Run
from dmtl_cli.serving.export import input_names
from dmtl_cli.student.build import build_student
from dmtl_cli.student.dssm import DSSM

_BLOCK = 65_536  # items encoded at a time


class Tower(nn.Module):
    """One side of a student, alone: encoded rows -> vectors [N, d]. Holds the embeddings of its side only.

    Inputs that a side lacks (no floats, say) are not arguments at all.
    """

    def __init__(self, student: DSSM, side: str, layout: Layout) -> None:
        super().__init__()
        self.layout, self.unit = layout, student.unit
        table = EmbeddingTable({n: student.table.rows[n] for n in layout.embeddings}, student.table.dim, sparse=False)
        with torch.no_grad():
            for name in layout.embeddings:
                table.weight[table.part(name)] = student.table.weight[student.table.part(name)]
        self.table = table
        self.embedder = SideEmbedder(table, layout.ids, layout.sequences)
        self.tower = student.user_tower if side == "user" else student.item_tower

    def forward(self, *given: Tensor) -> Tensor:
        named = dict(zip(input_names(self.layout), given, strict=True))
        n = given[0].shape[0]
        ids = named.get("ids", torch.zeros(n, 0, dtype=torch.int64))
        floats = named.get("floats", torch.zeros(n, 0))
        sequences = tuple(named[f"sequence_{k}"] for k in range(len(self.layout.sequences)))
        side = ids, sequences, floats
        (e,) = self.table(self.embedder.rows(side))
        x = self.tower(self.embedder(e, side))
        return torch.nn.functional.normalize(x, dim=1) if self.unit else x


def arguments(encoded: Encoded, layout: Layout) -> tuple[Tensor, ...]:
    """A tower's arguments, in the order of its inputs."""
    side = inputs(encoded, torch.device("cpu"))
    every = {"ids": side.ids, "floats": side.floats} | {f"sequence_{k}": s for k, s in enumerate(side.sequences)}
    return tuple(every[name] for name in input_names(layout))


def write_towers(folder: Path, student: DSSM, encoder: Encoder) -> dict[str, Tower]:
    """Writes {user,item}_tower.{onnx,pt2}; returns the towers."""
    towers = {}
    for side in ("user", "item"):
        layout = encoder.layout(side)
        tower = Tower(student, side, layout).eval().cpu()
        example = arguments(
            Encoded(
                np.zeros((2, len(layout.ids)), np.int32),
                tuple(np.zeros((2, length), np.int32) for _, length in layout.sequences),
                np.zeros((2, layout.floats), np.float32),
            ),
            layout,
        )
        rows = torch.export.Dim("rows", min=1)
        with _quiet():
            program = torch.export.export(tower, example, dynamic_shapes=(tuple({0: rows} for _ in example),))
            _forget_origins(program)
            exported = torch.onnx.export(
                program, dynamo=True, input_names=list(input_names(layout)), output_names=["vector"], verbose=False
            )
            program.example_inputs = None  # would be the only pickle of the archive
            torch.export.save(program, folder / f"{side}_tower.pt2")
        assert exported is not None
        model = exported.model_proto
        for node in [*model.graph.node, *(n for f in model.functions for n in f.node)]:
            del node.metadata_props[:]
            node.doc_string = ""
        del model.metadata_props[:], model.graph.metadata_props[:]
        for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
            del value.metadata_props[:]
        (folder / f"{side}_tower.onnx").write_bytes(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(model)
        towers[side] = tower
    return towers


def _forget_origins(program: torch.export.ExportedProgram) -> None:
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
                    node.meta.pop(key, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk on stdout, through logging and in warnings: a stage is silent on success."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@torch.no_grad()
def vectors(tower: Tower, encoded: Encoded) -> np.ndarray[Any, np.dtype[np.float32]]:
    """[N, d]"""
    out = []
    for start in range(0, len(encoded), _BLOCK):
        part = encoded.take(np.arange(start, min(start + _BLOCK, len(encoded))))
        out.append(tower(*arguments(part, tower.layout)).numpy())
    return np.concatenate(out)


def write_items(folder: Path, ids: pl.Series, tower: Tower, encoded: Encoded) -> None:
    """item_vectors.parquet: item_id and vector, a FixedSizeList<float32>."""
    made = vectors(tower, encoded)
    flat = pa.array(made.reshape(-1), pa.float32())
    table = pa.table(
        {
            "item_id": ids.to_arrow(compat_level=pl.CompatLevel.oldest()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, made.shape[1]),
        }
    )
    pq.write_table(table, folder / "item_vectors.parquet", compression="zstd")


def write_users(folder: Path, users: pl.DataFrame, seen: pl.DataFrame) -> None:
    """users.parquet: user_id, the raw features a user is served with, and `seen_items`, what he clicked lately.

    Args:
        users: column `:id` and raw features by name.
        seen: `:id` and `seen_items`.
    """
    whole = users.join(seen, on=ID, how="left").rename({ID: ":user"}).sort(":user")
    # a feature may well be called user_id: the key is written first and only once
    features = [c for c in whole.columns if c not in (":user", "user_id", "seen_items")]
    renamed = {c: f"feature.{c}" for c in (*features, *(["user_id"] if "user_id" in whole.columns else []))}
    out = whole.rename(renamed).rename({":user": "user_id"})
    table = out.select("user_id", "seen_items", *sorted(renamed.values())).to_arrow(
        compat_level=pl.CompatLevel.oldest()
    )
    pq.write_table(table, folder / "users.parquet", compression="zstd")


def described(student: DSSM) -> dict[str, Any]:
    """What features.json says beyond features: how a score is made of two vectors."""
    return {
        "score": "scale * dot(user_vector, item_vector) + bias",
        "scale": float(student.scale.detach()),
        "bias": float(student.bias.detach()),
        "vectors": "unit" if student.unit else "plain",
    }


def student_of(encoder: Encoder, config: dict[str, Any], table_of: TableOf = EmbeddingTable) -> DSSM:
    """An untrained student of a config's `student` section."""
    return build_student(
        encoder,
        embedding_dim=config["embedding_dim"],
        hidden_units=tuple(config["hidden_units"]),
        unit=config["vectors"] == "unit",
        auxiliary=config["distill"]["head"] == "auxiliary",
        table_of=table_of,
    )


def publish_export(run: Run, day: dt.date) -> Result:
    """Exports the stored student of a day with the catalogue and the users of that day.

    Raises:
        UserError: 66 there is no student of that day.
    """
    parent = run.parent("student", day, hint=f"run dmtl train-student --day {day}")
    log = Log(run.config.data, run.config.features_of("student"))
    inputs = log.inputs(day)

    def work(publication: Publication) -> Draft:
        folder, manifest = parent
        read = log.read(day, publication.tmp)
        encoder = Encoder.stored(folder, log.features)
        student = student_of(encoder, manifest.config["student"])
        checkpoint.load(folder, student, student.table)
        facts = {
            "student": manifest.as_parent(),
            "teacher": manifest.facts["teacher"],
            "threshold_seconds": manifest.facts["threshold_seconds"],
            "predicts": manifest.facts["predicts"],
        }
        unknown = write_export(publication.path, student, encoder, read)
        rows = {"items": len(read.items), "users": len(read.users)}
        return Draft(rows=rows, metrics={"items.unknown_share": unknown}, facts=facts)

    return run.publish("export", day, run.sections("student"), inputs, [parent], work, latest=True, shared=False)


def write_export(folder: Path, student: DSSM, encoder: Encoder, day: Day) -> float:
    """All files of an export; returns the share of the catalogue that is served by content alone."""
    towers = write_towers(folder, student.eval(), encoder)
    items = encoder.entities(day, "item")
    write_items(folder, day.items[ID], towers["item"], items)
    write_users(folder, day.users, _seen(day))
    encoder.write(folder, described(student))
    return _unknown_share(encoder, items, day)


def _seen(day: Day) -> pl.DataFrame:
    """What each user clicked that day: `:id`, `seen_items`."""
    user, item = np.divmod(day.clicked, len(day.items))
    pairs = pl.DataFrame({ID: day.users[ID].gather(user), "seen_items": day.items[ID].gather(item)})
    return pairs.group_by(ID, maintain_order=True).agg("seen_items")


def _unknown_share(encoder: Encoder, items: Encoded, day: Day) -> float:
    """Share of the catalogue whose every id is the unknown row: served by content alone."""
    ids = np.asarray(encoder.layout("item").dropped, np.bool_)
    return float((items.ids[:, ids] == 0).all(1).mean()) if ids.any() and len(day.items) else 0.0
