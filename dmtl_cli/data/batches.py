"""Where numpy and polars meet torch, and nowhere else.

In a batch the user side is held once per distinct user and the item side once per distinct item, with an index from
each row to its user and its item: towers and first layers then compute each of them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from dmtl_cli.data.encode import Encoded, Encoder
from dmtl_cli.data.samples import Rows


@dataclass(frozen=True)
class Inputs:
    """n encoded rows of one side as tensors: ids [n, C], sequences [n, L] each (0: padding), floats [n, F]."""

    ids: Tensor
    sequences: tuple[Tensor, ...]
    floats: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]


@dataclass(frozen=True)
class Batch:
    """B rows: the distinct users and items, each row's place among them, and per-row columns [B]."""

    user: Inputs
    item: Inputs
    context: Inputs
    user_index: Tensor
    item_index: Tensor
    columns: dict[str, Tensor]
    item_row: Tensor
    """row of the stacked item table: tells items apart"""

    def __len__(self) -> int:
        return self.user_index.shape[0]


@dataclass(frozen=True)
class Tables:
    """The users and items of one or more days, encoded, stacked in order of the days."""

    users: Encoded
    items: Encoded


def on(device: torch.device, array: npt.NDArray[Any]) -> Tensor:
    """An array as a tensor there. On a GPU the copy runs beside what the device is doing."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def inputs(encoded: Encoded, device: torch.device) -> Inputs:
    move = partial(on, device)
    return Inputs(
        move(encoded.ids.astype(np.int64)),
        tuple(move(s.astype(np.int64)) for s in encoded.sequences),
        move(encoded.floats),
    )


class Batcher:
    """Makes batches of rows over encoded tables.

    Args:
        unknown_share: share of ids replaced by the unknown row (training only), so that row 0 is trained.
    """

    def __init__(
        self,
        encoder: Encoder,
        tables: Tables,
        device: torch.device,
        *,
        unknown_share: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.encoder, self.tables, self.device = encoder, tables, device
        self.unknown_share, self.rng = unknown_share, rng
        self.user_events = bool(encoder.of("user", True)) and not _covers(encoder, tables)
        self.dropped = {s: np.asarray(encoder.layout(s).dropped, np.bool_) for s in ("user", "item", "context")}

    def batches(self, rows: Iterable[Rows], batch_size: int) -> Iterator[Batch]:
        return map(self.batch, self.cut(rows, batch_size))

    @staticmethod
    def cut(rows: Iterable[Rows], batch_size: int) -> Iterator[Rows]:
        """Batches of `batch_size` rows, the last one smaller; with lists, as many whole lists as fit, at least one.

        A list does not go on in the next block.
        """
        held: list[Rows] = []
        n = 0
        for block in rows:
            held.append(block)
            n += len(block)
            if n >= batch_size:
                whole = Rows.concat(held)
                cuts, start = whole.cuts, 0
                while n - start >= batch_size:
                    fits = int(np.searchsorted(cuts, start + batch_size, side="right"))
                    end = int(cuts[fits - 1]) if fits and cuts[fits - 1] > start else int(cuts[fits])
                    yield whole.take(slice(start, end))
                    start = end
                held, n = ([whole.take(slice(start, None))] if n > start else []), n - start
        if n:
            yield Rows.concat(held)

    def batch(self, rows: Rows) -> Batch:
        n = len(rows)
        features = rows.features if rows.features is not None else pl.DataFrame({"": np.zeros(n)})
        if self.user_events:  # part of the user changes with the event: no two rows share it
            user, user_index = self.tables.users.take(rows.user), np.arange(n)
            now = self.encoder.encode(features, "user", True)
            user = Encoded(
                np.concatenate([user.ids, now.ids], 1),
                user.sequences + now.sequences,
                np.concatenate([user.floats, now.floats], 1),
            )
        else:
            distinct, user_index = np.unique(rows.user, return_inverse=True)
            user = self.tables.users.take(distinct)
        distinct, item_index = np.unique(rows.item, return_inverse=True)
        item = self.tables.items.take(distinct)
        context = self.encoder.encode(features, "context")
        columns = {k: on(self.device, v) for k, v in rows.columns.items()}
        return Batch(
            self._inputs(user, "user"),
            self._inputs(item, "item"),
            self._inputs(context, "context"),
            on(self.device, user_index),
            on(self.device, item_index),
            columns,
            on(self.device, rows.item),
        )

    def _inputs(self, encoded: Encoded, side: str) -> Inputs:
        if self.unknown_share and self.rng is not None and encoded.ids.size:
            lost = (self.rng.random(encoded.ids.shape) < self.unknown_share) & self.dropped[side]
            encoded = Encoded(np.where(lost, 0, encoded.ids), encoded.sequences, encoded.floats)
        return inputs(encoded, self.device)


def _covers(encoder: Encoder, tables: Tables) -> bool:
    """Whether the users' table already holds the event-level features (a day's first values)."""
    layout = encoder.layout("user")
    shape = tables.users.ids.shape[1], len(tables.users.sequences), tables.users.floats.shape[1]
    return shape == (len(layout.ids), len(layout.sequences), layout.floats)
