"""A frozen teacher at work: logits of pairs, and of a user's whole catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from dmtl_cli import checkpoint
from dmtl_cli.artifact import Manifest
from dmtl_cli.calibrate import Calibration
from dmtl_cli.config import Feature
from dmtl_cli.data.batches import Batch, Batcher, Inputs, Tables, inputs
from dmtl_cli.data.encode import Encoder
from dmtl_cli.data.log import Day
from dmtl_cli.data.samples import Rows
from dmtl_cli.models import build_teacher
from dmtl_cli.models.mmoe import Side, Teacher

_ITEMS = 4_096  # of a catalogue scored at a time: below 32 MiB a tensor, above which malloc returns every page


def side(x: Inputs) -> Side:
    return x.ids, x.sequences, x.floats


def forward(model: Teacher, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [B, T] and gates [B, T, E] of a batch."""
    out: tuple[torch.Tensor, torch.Tensor] = model(
        side(batch.user), side(batch.item), side(batch.context), batch.user_index, batch.item_index
    )
    return out


def teacher_of(encoder: Encoder, config: dict[str, Any]) -> Teacher:
    """An untrained teacher of a config's `teacher` section."""
    return build_teacher(
        encoder,
        embedding_dim=config["embedding_dim"],
        num_experts=config["num_experts"],
        expert_hidden_units=tuple(config["expert_hidden_units"]),
        tower_hidden_units=tuple(config["tower_hidden_units"]),
        gate_dropout=config["gate_dropout"],
    )


class FrozenTeacher:
    """A published teacher: its encoder, network and calibration."""

    def __init__(self, folder: Path, manifest: Manifest, device: torch.device, features: tuple[Feature, ...]) -> None:
        self.encoder = Encoder.stored(folder, features)
        self.model = teacher_of(self.encoder, manifest.config["teacher"])
        checkpoint.load(folder, self.model, self.model.table)
        self.model.to(device).eval()
        self.device = device
        self.calibration = {k: Calibration.from_dict(v) for k, v in manifest.facts["calibration"].items()}
        self.threshold: float | None = manifest.facts["threshold_seconds"]

    def on(self, day: Day) -> Scorer:
        return Scorer(self.encoder, self.model, day, self.device)


class Scorer:
    """A teacher over the users and items of one day."""

    def __init__(self, encoder: Encoder, model: Teacher, day: Day, device: torch.device) -> None:
        self.encoder, self.model, self.device = encoder, model, device
        self.tables = Tables(encoder.entities(day, "user"), encoder.entities(day, "item"))
        self.batcher = Batcher(encoder, self.tables, device)
        self.day = day

    @torch.no_grad()
    def pairs(self, rows: Rows, batch_size: int = 4_096) -> npt.NDArray[np.float32]:
        """Logits [n, 2] of pairs in their context."""
        batches = self.batcher.batches(iter([Rows(rows.user, rows.item, {}, rows.features)]), batch_size)
        out = [forward(self.model, batch)[0].float().cpu().numpy() for batch in batches]
        return np.concatenate(out) if out else np.zeros((0, 2), np.float32)

    @torch.no_grad()
    def catalogue(self, users: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.float32]]:
        """For each user row the logits [I, 2] of the day's whole catalogue.

        A catalogue has no event: event-level features of a user are his first of the day, context is unknown.
        """
        encoded = self.encoder.encode(self.day.users[users], "user")
        u_UK = self.model.user_part(side(inputs(encoded, self.device)))
        nowhere = self.encoder.encode(pl.DataFrame({"": [0]}), "context")
        u_UK = u_UK + self.model.context_part(side(inputs(nowhere, self.device)))
        starts = range(0, len(self.tables.items), _ITEMS)
        blocks = [np.arange(s, min(s + _ITEMS, len(self.tables.items))) for s in starts]
        parts = [self.model.item_part(side(inputs(self.tables.items.take(b), self.device))) for b in blocks]
        for u_K in u_UK:
            logits = [self.model.mmoe.rest(u_K + i_NK)[0] for i_NK in parts]
            yield torch.cat(logits).float().cpu().numpy()
