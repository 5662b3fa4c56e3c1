"""Scores with a published teacher: logits of pairs, and of the whole catalogue for a user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dmtl_cli.config.schema import Config
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.values.order import ascending
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.batches import Batcher, Tables, hidden_context, side_of
from dmtl_cli.runs.contents import decoding
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.scores.calibration import Calibration
from dmtl_cli.teacher.blend import Blend
from dmtl_cli.teacher.build import build_teacher, refuse_other_tasks, stored_section
from dmtl_cli.teacher.factors import Factors, as_one
from dmtl_cli.teacher.hashed import has_event_features
from dmtl_cli.teacher.model import SideOutput, Teacher, batch_logits
from dmtl_cli.teacher.regression import FOLDER, OnDay, Regression

_ITEMS = 4_096  # of a catalogue at a time: below 32 MiB a tensor, above which malloc returns every page
KEPT_BYTES = 1 << 29


Beside = tuple[Regression, Blend]
"""the regression whose logits are blended with a network's, and in what shares"""


@dataclass(frozen=True)
class Finish:
    """What becomes of a model's logits."""

    calibration: dict[str, Calibration]
    """by task"""
    factors: Factors | None
    """of network and factors; None: there are no factors, or they were learned for their sum with the network"""
    beside: Beside | None

    @staticmethod
    def stored(folder: Path, facts: Mapping[str, Any], tasks: Tasks, *, context: bool) -> Finish:
        """Args: context: whether the regression reads it."""

        def stored(name: str) -> dict[str, Any]:  # a manifest sorts tasks by name
            return {task: facts[name][task] for task in tasks.names}

        calibration = {task: Calibration.from_dict(x) for task, x in stored("calibration").items()}
        factors = Factors.from_dict(stored("factors")) if "factors" in facts else None
        blend = Blend.from_dict(stored("blend")) if "blend" in facts else None
        regression = Regression.read(folder / FOLDER, tasks, context=context) if blend else None
        return Finish(calibration, factors, (regression, blend) if regression and blend else None)


class FrozenTeacher:
    """A published teacher: its encoder, its network, and what becomes of the logits of pairs in their context and of
    pairs without one.

    Raises:
        UserError: 65 its features or its tasks differ from the config's.
    """

    def __init__(self, folder: Path, manifest: Manifest, device: torch.device, config: Config) -> None:
        refuse_other_tasks(folder, manifest, config.tasks.names)
        self.encoder = Encoder.stored(folder, config.features_of("teacher"))
        self.tasks = Tasks.named(manifest.facts["tasks"])
        with decoding(folder / MANIFEST):
            section = stored_section(manifest)
        count = len(self.tasks.names)
        self.model = build_teacher(self.encoder, section, count, plain_autograd=config.plain_autograd)
        checkpoint.load(folder, self.model, self.model.table)
        self.model.to(device).eval().net.fold()
        self.device = device
        self.in_context = Finish.stored(folder, manifest.facts, self.tasks, context=True)
        hidden, reads_it = manifest.facts["no_context"], not has_event_features(self.encoder)
        self.no_context = Finish.stored(folder, hidden, self.tasks, context=reads_it)

    def on(self, day: Day) -> Scorer:
        """A scorer of the day's users and items."""
        finish = self.in_context, self.no_context
        return Scorer(self.encoder, self.model, day, self.device, finish=finish)


class Scorer:
    """A teacher over the users and items of one day.

    Args:
        ranks: the processes that score each batch together, as a sharded table requires.
        kept_bytes: memory for the outputs of the day's items, so that each item is computed once.
        finish: what becomes of logits of pairs in their context, and of pairs without one; without it they are the
            model's own, [n, H].
        tables: the day's users and items, where they are encoded already.
    """

    def __init__(
        self,
        encoder: Encoder,
        model: Teacher,
        day: Day,
        device: torch.device,
        ranks: Ranks = ALONE,
        kept_bytes: int = KEPT_BYTES,
        finish: tuple[Finish, Finish] | None = None,
        tables: Tables | None = None,
    ) -> None:
        self.encoder, self.model, self.device, self.ranks = encoder, model, device, ranks
        self.kept_bytes = kept_bytes
        self.tables = tables or Tables(encoder.entities(day, "user"), encoder.entities(day, "item"))
        self.batcher = Batcher(encoder, self.tables, device, ranks=ranks)
        self.day = day
        in_context, no_context = finish or (None, None)
        self.in_context = in_context and AsOne(in_context, encoder, self.tables)
        self.no_context = no_context and AsOne(no_context, encoder, self.tables)

    @cached_property
    def no_event(self) -> Batcher:
        """Of pairs that have no event."""
        return self.batcher.without_events([self.day])

    @torch.no_grad()
    def pairs(self, rows: Rows[Any], batch_size: int = 4_096) -> npt.NDArray[np.float32]:
        """Logits [n, T] of pairs in their context."""
        found = self._scored(self.batcher, pairs(rows.user, rows.item, rows.features), batch_size)
        return self.in_context.pairs(found, rows) if self.in_context else found

    @torch.no_grad()
    def lists(self, rows: Rows[Any], batch_size: int = 4_096) -> npt.NDArray[np.float32]:
        """Logits [n, T] of pairs that have no event: event-level features of a user are the first of the day, the
        context is unknown. The user part is computed once per user and batch."""
        found = self._scored(self.no_event, pairs(rows.user, rows.item), batch_size)
        return self.no_context.pairs(found, rows) if self.no_context else found

    def _scored(self, batcher: Batcher, rows: Rows[None], batch_size: int) -> npt.NDArray[np.float32]:
        model, items = self.model, self.items
        out = np.zeros((len(rows), model.logits_a_row), np.float32)
        order = _by_user(rows, batch_size) if items else _by_rarer(rows)
        start = 0
        for batch in batcher.batches(iter([rows.take(order)] if len(rows) else []), batch_size):
            if items:
                users, context = model.user_side(batch.user), model.context_row(batch.context)
                logits, _ = model.logits(users, items, batch.user_index, batch.item_row, context)
            else:
                logits, _ = batch_logits(model, batch, self.ranks)
            out[order[start : start + len(batch)]] = logits.float().cpu().numpy()
            start += len(batch)
        return out

    @cached_property
    def items(self) -> SideOutput | None:
        """The outputs of the day's items; None if they exceed `kept_bytes`, or if ranks share each batch."""
        outputs = len(self.model.net.first.bias)
        if self.ranks.size > 1 or len(self.tables.items) * outputs * 4 > self.kept_bytes:
            return None
        whole: SideOutput | None = None
        start = 0
        with torch.no_grad():
            for block in self._item_blocks():
                whole = whole or SideOutput(*(x.new_empty(len(self.tables.items), *x.shape[1:]) for x in block))
                for into, x in zip(whole, block, strict=True):
                    into[start : start + len(x)] = x
                start += len(block.part)
        return whole

    def _item_blocks(self) -> Iterator[SideOutput]:
        for start in range(0, len(self.tables.items), _ITEMS):
            rows = np.arange(start, min(start + _ITEMS, len(self.tables.items)))
            yield self.model.item_side(side_of(self.tables.items.take(rows), self.device))

    @torch.no_grad()
    def catalogue(self, users: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.float32]]:
        """For each user row the logits [I, T] of the day's whole catalogue.

        A catalogue has no event: event-level features of a user are the first of the day, the context is unknown.
        """
        encoded = self.encoder.encode(self.day.users[users], "user")
        outputs = self.model.user_side(side_of(encoded, self.device))
        blocks = list(_cut(self.items)) if self.items else list(self._item_blocks())
        every, finish = np.arange(len(self.day.items)), self.no_context
        together = max(1, _ITEMS // max(1, len(every)))  # users of a small catalogue
        for start in range(0, len(users), together):
            some = users[start : start + together]
            of_some = torch.arange(start, start + len(some), device=self.device)
            found = torch.cat([self._every_pair(outputs, of_some, items) for items in blocks], 1).float().cpu().numpy()
            if finish:
                rows = pairs(np.repeat(some, len(every)), np.tile(every, len(some)))
                found = finish.pairs(found.reshape(len(rows), -1), rows).reshape(*found.shape[:2], -1)
            yield from found

    def _every_pair(self, user: SideOutput, rows: Tensor, item: SideOutput) -> Tensor:
        """Logits [n, N, H] of users' n `rows` with each of N items, without a context."""
        n, items = len(rows), len(item.part)
        context = self.model.context_row(side_of(hidden_context(self.encoder, 1), self.device))
        of_user, of_item = rows.repeat_interleave(items), torch.arange(items, device=self.device).repeat(n)
        logits, _ = self.model.logits(user, item, of_user, of_item, context.expand(n * items, -1))
        return logits.view(n, items, -1)


class AsOne:
    """What becomes of a day's logits of a model: factors and regression are mixed in."""

    def __init__(self, finish: Finish, encoder: Encoder, tables: Tables) -> None:
        self.tasks, self.factors = tuple(finish.calibration), finish.factors
        self.blended = Blended(*finish.beside, encoder, tables) if finish.beside else None

    def pairs(self, logits: npt.NDArray[np.float32], rows: Rows[None]) -> npt.NDArray[np.float32]:
        """Logits [n, H] of the model -> [n, T]."""
        mixed = as_one(self.factors, logits, self.tasks)
        return self.blended.pairs(mixed, rows) if self.blended else mixed


class Blended:
    """The regression's part of a day's logits."""

    def __init__(self, regression: Regression, blend: Blend, encoder: Encoder, tables: Tables) -> None:
        self.on_day, self.blend, self.tasks = OnDay(regression, encoder, tables), blend, tuple(blend.losses)

    def pairs(self, network: npt.NDArray[np.float32], rows: Rows[None]) -> npt.NDArray[np.float32]:
        """Logits [n, T] of the model -> with the regression's."""
        if self.blend.is_network_alone:
            return network
        beside, alone = self.on_day.with_and_without_pairs(rows)
        mixed = [
            self.blend.apply(task, network[:, k], beside[task], alone[task] if alone else None)
            for k, task in enumerate(self.tasks)
        ]
        return np.stack(mixed, 1).astype(np.float32)


def _cut(items: SideOutput) -> Iterator[SideOutput]:
    """Blocks small enough for a network that is not computed in chunks."""
    for start in range(0, len(items.part), 4 * _ITEMS):
        yield SideOutput(*(x[start : start + 4 * _ITEMS] for x in items))


def _by_user(rows: Rows[None], batch_size: int) -> npt.NDArray[np.int64]:
    """An order by user; within each batch by item, so that outputs of many items, which no cache holds, are read in
    the order they lie in."""
    order = ascending(rows.user)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        batch[:] = batch[ascending(rows.item[batch])]
    return order


def _by_rarer(rows: Rows[None]) -> npt.NDArray[np.int64]:
    """An order that groups rows by the side with more distinct members: each of these is then computed in one batch,
    and the fewer ones of the other side in every batch."""
    users, items = (len(np.unique(x)) for x in (rows.user, rows.item))
    return ascending(rows.user if users > items else rows.item)
