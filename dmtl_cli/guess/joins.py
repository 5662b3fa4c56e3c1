"""How the ids of a side table and those of the events fit: which are not there, and what would make them fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.day import ID, Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.schema import Schema

JOINED = 0.5
"""share of the day's ids that a side table should have"""
MORE = 0.05
"""of the day's ids, from which on it is said that they would fit if they were written alike"""
_ALIKE: dict[str, Callable[[pl.Series], pl.Series]] = {
    "without spaces around it": lambda s: s.str.strip_chars(),
    "in lower case": lambda s: s.str.to_lowercase(),
    "with leading zeros": lambda s: s.str.strip_chars_start("0"),
}


def joins(config: Config, log: Log, day: Day, schema: Schema) -> Iterator[str]:
    """A line for each side table that lacks ids of the day."""
    for name, side in (("users", "user"), ("items", "item")):
        table, joined = getattr(config.data, name), day.facts[f"{name}_joined"]
        if table is None or joined == 1:
            continue
        whole, events = (day.users, day.user_events) if side == "user" else (day.items, day.item_events)
        alike = (
            None
            if (listed := log.listed(side, day.day)) is None
            else fit(whole[ID].filter(pl.Series(events > 0)), listed)
        )
        if joined < JOINED or alike:
            fix = alike or f"is data.{name}.key the id that the events have, and the table of this day?"
            seen = f"the table of {name}, {schema.sides[side].where}, has {joined:.1%} of the day's {name}"
            yield f"{table.key}: {seen}: {fix}"
        elif name == "items" and "items" not in config.export.model_fields_set:
            seen_items = int((day.item_events > 0).sum())
            lost = (
                f"{round((1 - joined) * seen_items):,} of the day's {seen_items:,} items are not in the table of items"
            )
            hint = "set export.items: listed to serve those of the table alone, or all"
            yield f"{table.key}: {lost}, and are served all the same: {hint}"


def fit(ids: pl.Series, listed: pl.Series) -> str | None:
    """How ids would be those of a table, with an example; None where no way of writing makes more of them fit.

    Args:
        ids: distinct ids of events.
        listed: those of the table.
    """
    if ids.dtype != pl.String or listed.dtype != pl.String:
        return None
    lost, free = ids.filter(~ids.is_in(listed.implode())), listed.filter(~listed.is_in(ids.implode()))
    for way, alike in _ALIKE.items():
        table = pl.DataFrame({"key": alike(free), "listed": free}).unique("key", keep="first", maintain_order=True)
        found = pl.DataFrame({"key": alike(lost), "id": lost}).join(table, on="key", maintain_order="left")
        if len(found) >= max(1.0, MORE * len(ids)):
            one, other = found["id"][0], found["listed"][0]
            example = f"{one!r} of the events is {other!r} there"
            return f"{len(found) / len(ids):.1%} more would match {way} ({example}): write ids alike in both"
    return None
