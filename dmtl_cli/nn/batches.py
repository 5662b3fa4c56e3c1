"""Batches: encoded rows as tensors.

A batch has each distinct user and each distinct item once, with an index from each row to its user and its item, so
that towers and first layers compute each of them once.

Several ranks all cut the same batches, and each encodes only its share of a batch: a share of the rows for a model that
computes pairs, or of the users and items for two towers. What a loss needs covers the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any, Generic, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import L, Rows, map_labels
from dmtl_cli.nn.kernels.distinct import distinct_of
from dmtl_cli.nn.layers import Known, Side
from dmtl_cli.runs.ranks import ALONE, Ranks

Ints = npt.NDArray[np.int64]
AT_ONCE = 4_096
"""rows whose events' values are encoded at once: for a few rows that takes as long as for thousands"""


@dataclass(frozen=True)
class Batch(Generic[L]):
    """B rows: the distinct users and items, each row's place among them, and the labels of each row.

    Where several ranks share a batch by rows, a rank has the inputs and places of its own rows. Where they share it by
    sides, it has its own share of the distinct users and items, and the places of every row among all of them.
    """

    user: Side
    """N distinct users"""
    item: Side
    """N distinct items"""
    context: Side
    """B rows"""
    user_index: Tensor
    """[B] place of each row's user"""
    item_index: Tensor
    """[B] place of each row's item"""
    labels: L
    """tensors [B, ...]"""
    item_row: Tensor
    """[B] row of the stacked item table: tells items apart"""
    lists: Tensor | None
    """[B] number of each row's list"""
    distinct: tuple[int, int]
    """users and items of the whole batch"""

    def __len__(self) -> int:
        return self.item_row.shape[0]


@dataclass(frozen=True)
class Tables:
    """The users and items of one or more days, encoded, stacked in order of the days."""

    users: Encoded
    items: Encoded


def stacked(encoder: Encoder, days: Sequence[Day], *, event_features: bool) -> Tables:
    """The users and items of days, encoded.

    Args:
        event_features: whether a user's event-level features are part of the user, as in a tower.
    """
    per_event = None if event_features else False
    users, items = (Encoded.concat([encoder.entities(d, side, per_event) for d in days]) for side in ("user", "item"))
    return Tables(users, items)


def to_device(device: torch.device, array: npt.NDArray[Any]) -> Tensor:
    """Copies an array to a device. A GPU goes on computing meanwhile."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def side_of(encoded: Encoded, device: torch.device) -> Side:
    """Encoded rows of one side as tensors."""
    move = partial(to_device, device)
    return Side(
        move(encoded.ids.astype(np.int64)),
        tuple(move(s.astype(np.int64)) for s in encoded.sequences),
        move(encoded.floats),
        tuple(known_of(s, device) for s in encoded.sequences),
    )


def known_of(sequence: npt.NDArray[np.integer[Any]], device: torch.device) -> Known:
    """The known values of a padded sequence [N, L] as tensors."""
    there, move = sequence != 0, partial(to_device, device)
    count = np.count_nonzero(there, axis=1)
    row = np.repeat(np.arange(len(count)), count)
    return Known(move(row), move(sequence[there].astype(np.int64)), move(count.astype(np.float32)))


class _Events(NamedTuple):
    """What events say of n rows, encoded."""

    context: Encoded | None
    """None: the rows have no events"""
    user: Encoded | None
    """None: users do not change with an event"""


class Batcher:
    """Makes batches of rows over encoded tables.

    Args:
        unknown_share: share of ids replaced by the out-of-vocabulary row (training only), so that row 0 is trained.
        context_dropout: share of rows whose context is hidden (training only).
        ranks: the processes that share each batch.
        by: what they divide among themselves.
    """

    def __init__(
        self,
        encoder: Encoder,
        tables: Tables,
        device: torch.device,
        *,
        unknown_share: float = 0.0,
        context_dropout: float = 0.0,
        rng: np.random.Generator | None = None,
        ranks: Ranks = ALONE,
        by: Literal["rows", "sides"] = "rows",
    ) -> None:
        self.encoder, self.tables, self.device = encoder, tables, device
        self.ranks, self.by = ranks, by
        self.unknown_share, self.context_dropout, self.rng = unknown_share, context_dropout, rng
        self.user_events = bool(encoder.features_of_side("user", True)) and not _covers(encoder, tables)
        self.is_id = {s: np.asarray(encoder.layout(s).is_id, np.bool_) for s in ("user", "item", "context")}

    def without_events(self, days: Sequence[Day]) -> Batcher:
        """Of pairs that have no event, in no training: event-level features of a user are the first of their day.

        Args:
            days: those of the tables, in their order.
        """
        tables = self.tables
        if self.user_events:
            users = Encoded.concat([self.encoder.entities(day, "user", None) for day in days])
            tables = Tables(users, tables.items)
        return Batcher(self.encoder, tables, self.device, ranks=self.ranks, by=self.by)

    def batches(self, rows: Iterable[Rows[Any]], batch_size: int) -> Iterator[Batch[Any]]:
        """Batches as `cut` cuts them."""
        for some in self._cut_together(rows, batch_size):
            for one, events in zip(some, self._events(some), strict=True):
                yield self._batch(one, events)

    @staticmethod
    def cut(rows: Iterable[Rows[L]], batch_size: int) -> Iterator[Rows[L]]:
        """Batches of `batch_size` rows, the last one smaller; with lists, as many whole lists as fit, at least one.

        A list never continues in the next block.
        """
        return chain.from_iterable(Batcher._cut_together(rows, batch_size))

    @staticmethod
    def _cut_together(rows: Iterable[Rows[L]], batch_size: int) -> Iterator[list[Rows[L]]]:
        """The batches of `cut`, several at a time where they are small. No block is read before all batches of those
        before it are taken: both may draw from one generator."""
        waiting: list[Rows[L]] = []
        n = 0
        for block in rows:
            waiting.append(block)
            n += len(block)
            if n >= batch_size:
                whole = Rows.concat(waiting)
                cuts, start, some, held = whole.cuts, 0, list[Rows[L]](), 0
                while n - start >= batch_size:
                    fits = int(np.searchsorted(cuts, start + batch_size, side="right"))
                    end = int(cuts[fits - 1]) if fits and cuts[fits - 1] > start else int(cuts[fits])
                    some.append(whole.take(slice(start, end)))
                    held, start = held + end - start, end
                    if held >= AT_ONCE or n - start < batch_size:
                        yield some
                        some, held = [], 0
                waiting, n = ([whole.take(slice(start, None))] if n > start else []), n - start
        if n:
            yield [Rows.concat(waiting)]

    def batch(self, rows: Rows[Any]) -> Batch[Any]:
        """The rows as tensors, with labels of the same type."""
        return self._batch(rows, *self._events([rows]))

    def _batch(self, rows: Rows[Any], events: _Events) -> Batch[Any]:
        move, side = partial(to_device, self.device), partial(side_of, device=self.device)
        share = self._share(len(rows))
        user, user_index, users = self._users(rows, events.user, share)
        items, item_index, mine = self._distinct(rows.item, share)
        item = self._with_oov(self.tables.items.take(items[mine]), "item", len(items), mine)
        context = self._context(events.context, len(rows), share)
        return Batch(
            side(user),
            side(item),
            side(context),
            move(user_index),
            move(item_index),
            map_labels(move, rows.labels),
            move(rows.item),
            None if rows.lists is None else move(rows.lists),
            (users, len(items)),
        )

    def _share(self, n: int) -> slice:
        """This rank's rows of a batch of n."""
        return self.ranks.slice(n) if self.by == "rows" else slice(0, n)

    def _events(self, some: Sequence[Rows[Any]]) -> Iterator[_Events]:
        """What events say of this rank's share of each batch's rows; all of these batches have events, or none has."""
        shares = [self._share(len(rows)) for rows in some]
        framed = [rows.features[share] for rows, share in zip(some, shares, strict=True) if rows.features is not None]
        sizes = [share.stop - share.start for share in shares]
        frame = pl.concat(framed) if framed else pl.DataFrame({"": np.zeros(sum(sizes))})
        context = self.encoder.encode(frame, "context") if framed else None
        user = self.encoder.encode(frame, "user", True) if self.user_events else None
        for end, n in zip(np.cumsum(sizes), sizes, strict=True):
            yield _Events(*(None if x is None else x.slice(slice(end - n, end)) for x in (context, user)))

    def _users(self, rows: Rows[Any], now: Encoded | None, share: slice) -> tuple[Encoded, Ints, int]:
        """The users that this rank encodes, each row's place among the batch's, and how many the batch has.

        Args:
            now: what events say of the users of this rank's rows, which no two rows share.
        """
        user = rows.user
        if now is None:
            users, index, mine = self._distinct(user, share)
            return self._with_oov(self.tables.users.take(users[mine]), "user", len(users), mine), index, len(users)
        entity = self.tables.users.take(user[share])
        joined = Encoded(
            np.concatenate([entity.ids, now.ids], 1),
            entity.sequences + now.sequences,
            np.concatenate([entity.floats, now.floats], 1),
        )
        return self._with_oov(joined, "user", len(user), share), np.arange(share.stop - share.start), len(user)

    def _context(self, context: Encoded | None, n: int, share: slice) -> Encoded:
        """What each row of this rank's share has beside its user and its item; hidden where it has no event, and where
        training drops it."""
        if context is None:
            return self._hidden.take(np.zeros(share.stop - share.start, np.int64))
        encoded = self._with_oov(context, "context", n, share)
        known = np.ones(len(encoded), np.bool_)
        if self.context_dropout and self.rng is not None and has_context(self.encoder):
            known = (self.rng.random(n) >= self.context_dropout)[share]
        return with_known(encoded, known)

    @cached_property
    def _hidden(self) -> Encoded:
        """One row's context that is not known."""
        return hidden_context(self.encoder, 1)

    def _distinct(self, rows: Ints, share: slice) -> tuple[Ints, Ints, slice | Ints]:
        """The batch's distinct values; each row's place among those of this rank; which of them are this rank's."""
        distinct, index = distinct_of(rows)
        if self.by == "sides" or self.ranks.size == 1:
            return distinct, index, self.ranks.slice(len(distinct))
        mine, index = distinct_of(index[share])
        return distinct, index, mine

    def _with_oov(self, encoded: Encoded, side: str, n: int, mine: slice | Ints) -> Encoded:
        """The ids with some of them out of vocabulary; drawn for all n of the batch, of which `encoded` has `mine`."""
        if not self.unknown_share or self.rng is None or not n * encoded.ids.shape[1]:
            return encoded
        lost = (self.rng.random((n, encoded.ids.shape[1])) < self.unknown_share)[mine] & self.is_id[side]
        return Encoded(np.where(lost, 0, encoded.ids), encoded.sequences, encoded.floats)


def has_context(encoder: Encoder) -> bool:
    """Whether a row has anything beside its user and its item."""
    return bool(encoder.features_of_side("context"))


def with_known(context: Encoded, known: npt.NDArray[np.bool_]) -> Encoded:
    """Encoded contexts with a last float column that says whether they are known [n]; those that are not are hidden.
    Where there is no context, nothing."""
    if not context.ids.shape[1] + len(context.sequences) + context.floats.shape[1]:
        return context
    shown = known[:, None]
    floats = np.concatenate([context.floats * shown, shown.astype(np.float32)], 1)
    return Encoded(context.ids * shown, tuple(x * shown for x in context.sequences), floats)


def hidden_context(encoder: Encoder, n: int) -> Encoded:
    """n rows whose context is not known."""
    one = with_known(encoder.encode(pl.DataFrame({"": [0]}), "context"), np.zeros(1, np.bool_))
    return one.take(np.zeros(n, np.int64))


def _covers(encoder: Encoder, tables: Tables) -> bool:
    """Whether the users' table already has the event-level features (a day's first values)."""
    layout = encoder.layout("user")
    shape = tables.users.ids.shape[1], len(tables.users.sequences), tables.users.floats.shape[1]
    return shape == (len(layout.ids), len(layout.sequences), layout.floats)
