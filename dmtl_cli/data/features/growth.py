"""What the events of a day add to what a chain has learned of its features."""

from __future__ import annotations

import numpy as np
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.buckets import Buckets
from dmtl_cli.data.features.kinds.kind import Kind
from dmtl_cli.data.features.vocabulary import Vocabulary, added_up
from dmtl_cli.data.log.day import Day


def day_values(kind: Kind, day: Day) -> tuple[pl.Series, pl.Series]:
    """Raw values of a feature in the day's events, and how many events (int64) each counts for.

    Users and items without events do not count: an embedding grows by what training will touch. An event-level feature
    is read until its kind has seen enough.
    """
    f = kind.feature
    if not f.per_event:
        table, events = (day.users, day.user_events) if f.side == "user" else (day.items, day.item_events)
        return table[f.name].filter(pl.Series(events > 0)), pl.Series("count", events[events > 0])
    blocks: list[pl.Series] = []
    rows = 0
    for values in day.values(f.name):
        blocks.append(values)
        rows += len(values)
        if kind.enough(rows, blocks[-1]):
            break
    values = pl.concat(blocks)
    return values, pl.Series("count", np.ones(len(values), np.int64))


def grown(old: Vocabulary | Buckets | None, sharing: list[Kind], day: Day) -> Vocabulary | Buckets:
    """The rows of an embedding, grown by a day's values of its features; of buckets only the type of values is learned.

    Raises:
        UserError: 65 values of two types.
    """
    seen = [kind.vocabulary_values(*day_values(kind, day)) for kind in sharing]
    dtype = _type_of_values(old.dtype if old is not None else None, sharing, seen, day)
    if size := sharing[0].feature.hash_bucket_size:
        return Buckets(size, dtype)
    old = old if isinstance(old, Vocabulary) else Vocabulary.empty(pl.String())
    if old.dtype is None:
        old = old.of_type(dtype or pl.String())
    values = pl.concat([added_up(s.with_columns(pl.col("value").cast(old.frame["value"].dtype))) for s in seen])
    return old.grow(values, day.day, max(kind.feature.min_count for kind in sharing))


def share_once(kind: Kind, vocabulary: Vocabulary, days: list[Day]) -> float:
    """Share of the days' events whose value of a feature counts once in the vocabulary, which has grown by them."""
    once = vocabulary.frame.filter(pl.col("count") == 1).select("value")
    if not len(once):
        return 0.0
    found = events = 0
    for day in days:
        seen = kind.vocabulary_values(*day_values(kind, day))
        events += int(seen["count"].sum())
        # of a value that counts once only one event, so that a row each is enough
        found += len(seen.filter(pl.col("count") == 1).join(once, on="value", how="semi"))
    return found / max(1, events)


def _type_of_values(
    before: pl.DataType | None, sharing: list[Kind], seen: list[pl.DataFrame], day: Day
) -> pl.DataType | None:
    """Int64 or String; before any value, a type is not known."""
    name = sharing[0].embedding
    types = {
        kind.feature.name: s["value"].dtype
        for kind, s in zip(sharing, seen, strict=True)
        if s["value"].null_count() < len(s)
    }
    if len(set(types.values())) > 1:
        names = " and ".join(f"{feature} ({dtype})" for feature, dtype in types.items())
        hint = "give them different embedding_names, or make both one type"
        raise UserError(f"features {names} share embedding {name}: expected values of one type", hint)
    dtype = next(iter(types.values()), before)
    if before not in (None, dtype):
        hint = f"make the column {before} again, or use a new workspace"
        raise UserError(f"day {day.day}: values of {name} are {dtype}, before {before}", hint)
    return dtype
