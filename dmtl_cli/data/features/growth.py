"""What the events of a day add to what a chain has learned of its features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.buckets import Buckets
from dmtl_cli.data.features.kinds.kind import Kind
from dmtl_cli.data.features.vocabulary import Vocabulary, added_up
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.dictionary import encoded, places


def day_values(kind: Kind, day: Day) -> Iterator[tuple[pl.Series, pl.Series]]:
    """Raw values of a feature in the day's events, and how many events (int64) each counts for, a part at a time.

    Users and items without events do not count: an embedding grows by what training will touch. An event-level feature
    is read until its kind has seen enough.
    """
    f = kind.feature
    if not f.per_event:
        table, events = (day.users, day.user_events) if f.side == "user" else (day.items, day.item_events)
        for start in range(0, max(1, len(table)), sizes.SLICE):
            here = events[start : start + sizes.SLICE]
            values = table[f.name][start : start + sizes.SLICE]
            yield values.filter(pl.Series(here > 0)), pl.Series("count", here[here > 0])
        return
    blocks: list[pl.Series] = []
    rows = 0
    for values in day.values(f.name):
        blocks.append(values)
        rows += len(values)
        if kind.enough(rows, values):
            break
        if sum(map(len, blocks)) >= sizes.MERGE:
            yield _counted_once(blocks)
            blocks = []
    if blocks:
        yield _counted_once(blocks)


def _counted_once(blocks: list[pl.Series]) -> tuple[pl.Series, pl.Series]:
    values = pl.concat(blocks)
    return values, pl.Series("count", np.ones(len(values), np.int64))


def grown(old: Vocabulary | Buckets | None, sharing: list[Kind], day: Day) -> Vocabulary | Buckets:
    """The rows of an embedding, grown by a day's values of its features; of buckets only the type of values is learned.

    Raises:
        UserError: 65 values of two types.
    """
    seen = [_seen(kind, day) for kind in sharing]
    dtype = _type_of_values(old.dtype if old is not None else None, sharing, seen, day)
    if size := sharing[0].feature.hash_bucket_size:
        return Buckets(size, dtype)
    old = old if isinstance(old, Vocabulary) else Vocabulary.empty(pl.String())
    if old.dtype is None:
        old = old.of_type(dtype or pl.String())
    values = pl.concat([s.with_columns(pl.col("value").cast(old.frame["value"].dtype)) for s in seen])
    return old.grow(values, day.day, max(kind.feature.min_count for kind in sharing))


def _seen(kind: Kind, day: Day) -> pl.DataFrame:
    """The distinct values of a feature in the day's events in their order, no null, and the events that have each."""
    parts: list[pl.DataFrame] = []
    rows = 0
    for some in day_values(kind, day):
        parts.append(added_up(kind.vocabulary_values(*some)))
        rows += len(parts[-1])
        if rows > max(sizes.MERGE, 2 * len(parts[0])):
            parts = [_together(parts)]
            rows = len(parts[0])
    return _together(parts)


def _together(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """As `added_up` of all parts; the values of one without any have no type."""
    some = [part for part in parts if len(part)] or parts[:1]
    return some[0] if len(some) == 1 else added_up(pl.concat(some))


def share_once(kind: Kind, vocabulary: Vocabulary, days: list[Day]) -> float:
    """Share of the days' events whose value of a feature counts once in the vocabulary, which has grown by them."""
    known, once = vocabulary.frame["value"], np.append(vocabulary.frame["count"].to_numpy() == 1, False)
    if not once.any():
        return 0.0
    found = events = 0
    for day in days:
        for some in day_values(kind, day):
            seen = kind.vocabulary_values(*some)
            events += int(seen["count"].sum())
            # of a value that counts once only one event, so that a row each is enough
            values = seen.filter(pl.col("count") == 1)["value"].drop_nulls()
            if len(values):
                codes, distinct = encoded(values)
                found += int(once[places(known, distinct)][codes].sum())
    return found / max(1, events)


def _type_of_values(
    before: pl.DataType | None, sharing: list[Kind], seen: list[pl.DataFrame], day: Day
) -> pl.DataType | None:
    """Int64 or String; before any value, a type is not known."""
    name = sharing[0].embedding
    types = {kind.feature.name: s["value"].dtype for kind, s in zip(sharing, seen, strict=True) if len(s)}
    if len(set(types.values())) > 1:
        names = " and ".join(f"{feature} ({dtype})" for feature, dtype in types.items())
        hint = "give them different embedding_names, or make both one type"
        raise UserError(f"features {names} share embedding {name}: expected values of one type", hint)
    dtype = next(iter(types.values()), before)
    if before not in (None, dtype):
        hint = f"make the column {before} again, or use a new workspace"
        raise UserError(f"day {day.day}: values of {name} are {dtype}, before {before}", hint)
    return dtype
