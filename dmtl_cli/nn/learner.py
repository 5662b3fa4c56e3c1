"""A model in training: its start, its batches and its files, for teacher, student and joint training alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import torch

from dmtl_cli.config.features import Feature
from dmtl_cli.config.training import Training
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.batches import Batcher, Tables, stacked
from dmtl_cli.nn.optimizers import Optimizers, forget_untouched
from dmtl_cli.nn.sharded import TableOf, table_of
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.run import Parent, Run

M = TypeVar("M", bound=torch.nn.Module)


def grown_encoder(
    features: tuple[Feature, ...],
    days: Sequence[Day],
    before: Parent | None,
    folder: str = "",
    passed_over: Collection[dt.date] = (),
) -> Encoder:
    """The previous model's encoder (in `folder` of its run), grown by the days since; without such a model a new one.

    Args:
        passed_over: earlier days by which the previous model's encoder has not grown.

    Raises:
        UserError: 65 the previous model reads other features.
    """
    if before is None:
        return Encoder(features).grow(list(days))
    new = [d for d in days if d.day > before[1].day or d.day in passed_over]
    return Encoder.stored(before[0] / folder, features).grow(new)


@dataclass(frozen=True)
class Learner(Generic[M]):
    """A model, its encoder and its optimizers."""

    config: Training
    encoder: Encoder
    model: M
    table: EmbeddingTable
    optimizers: Optimizers

    @staticmethod
    def build(run: Run, config: Training, encoder: Encoder, make: Callable[[TableOf], M]) -> Learner[M]:
        """An untrained model on the run's device; `make` builds it around a table of that kind."""
        model = make(table_of(run.ranks, run.device, config.table_rate)).to(run.device)
        table = model.table
        assert isinstance(table, EmbeddingTable)
        return Learner(config, encoder, model, table, Optimizers.build(model, table, config))

    def warm_start(self, folder: Path) -> None:
        """Continues from a published model and its optimizers. Raises UserError 65 if it has another shape."""
        checkpoint.load(folder, self.model, self.table, self.optimizers)

    def state(self) -> dict[str, torch.Tensor]:
        """Weights as `weight.NAME`, the optimizers' state of each as `STATE.NAME`, and running statistics as
        `buffer.NAME`."""
        out = {f"buffer.{name}": buffer for name, buffer in checkpoint.buffers(self.model).items()}
        for name, p in self.model.named_parameters():
            out |= {f"{key}.{name}": value for key, value in self.optimizers.state_of(p).items()}
            out[f"weight.{name}"] = p.detach()
        return out

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over what `state` of the same model gave, bit by bit."""
        for name, buffer in checkpoint.buffers(self.model).items():
            buffer.copy_(state[f"buffer.{name}"])
        for name, p in self.model.named_parameters():
            mine = {k.removesuffix(f".{name}"): v for k, v in state.items() if k.partition(".")[2] == name}
            p.data.copy_(mine.pop("weight"))
            if mine:
                self.optimizers.restore(p, mine)

    def batcher(
        self,
        run: Run,
        days: Sequence[Day],
        rng: np.random.Generator,
        *,
        by: Literal["rows", "sides"],
        event_features: bool,
        context_dropout: float = 0.0,
        tables: Tables | None = None,
    ) -> Batcher:
        """Makes batches over the days' users and items.

        Args:
            by: what of a batch several ranks divide among themselves.
            event_features: whether a user's event-level features are part of the user, as in a tower.
            context_dropout: share of rows whose context is hidden.
            tables: the users and items, where they are encoded already.
        """
        return Batcher(
            self.encoder,
            tables or stacked(self.encoder, days, event_features=event_features),
            run.device,
            unknown_share=self.config.unknown_share,
            context_dropout=context_dropout,
            rng=rng,
            ranks=run.ranks,
            by=by,
        )

    def finish(self, run: Run, folder: Path, scratch: Path) -> dict[str, float]:
        """Ends training and writes model, optimizer and encoder into a folder.

        Args:
            scratch: a folder that all ranks see.

        Returns:
            Sizes of the table, as metrics.
        """
        if run.ranks.first:
            self.encoder.write(folder)
        return self.save(run, folder, scratch)

    def save(self, run: Run, folder: Path, scratch: Path) -> dict[str, float]:
        """`finish` for a model whose encoder another one writes."""
        untouched = forget_untouched(self.table, self.optimizers.table, run.ranks)
        checkpoint.save(folder, self.model, self.table, self.optimizers, scratch)
        return {"embedding.rows": sum(self.table.rows.values()), "embedding.untouched": untouched}
