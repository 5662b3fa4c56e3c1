"""Whether a day's side tables have the ids of its events, and what would make them fit."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.day import ID, Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.schema import Schema
from dmtl_cli.guess import spelling

JOINED = 0.5
"""share of the day's ids that a side table should have"""


def joins(config: Config, log: Log, day: Day, schema: Schema) -> Iterator[str]:
    """A line for each side table that lacks ids of the day."""
    for name, side in (("users", "user"), ("items", "item")):
        table, joined = getattr(config.data, name), day.facts[f"{name}_joined"]
        if table is None or joined == 1:
            continue
        whole, events = (day.users, day.user_events) if side == "user" else (day.items, day.item_events)
        alike, listed = None, log.listed(side, day.day)
        if listed is not None:
            ids = whole[ID].filter(pl.Series(events > 0)).rename(getattr(config.data.events, side))
            alike = spelling.told(name, ids, listed.rename(table.key), joined, "the day's")
        if joined < JOINED or alike:
            fix = alike[1] if alike else f"is data.{name}.key the id that the events have, and the table of this day?"
            seen = f"the table of {name}, {schema.sides[side].where}, has {joined:.1%} of the day's {name}"
            yield f"{table.key}: {seen}: {fix}"
        elif name == "items" and "items" not in config.export.model_fields_set:
            seen_items = int((day.item_events > 0).sum())
            lost = round((1 - joined) * seen_items)
            what = f"{lost:,} of the day's {seen_items:,} items are not in the table of items"
            hint = "set export.items: listed to serve those of the table alone, or all"
            yield f"{table.key}: {what}, and are served all the same: {hint}"
