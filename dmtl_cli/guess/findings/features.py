"""What is doubtful about the values that a day has for its features."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import FEATURE, Day
from dmtl_cli.data.log.files.day_files import DayFiles
from dmtl_cli.data.log.files.shares import share_groups
from dmtl_cli.data.log.raw import RawEvents
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.columns.sql import sql_column, sql_value
from dmtl_cli.guess.columns.values import ONE
from dmtl_cli.runs.ranks import ALONE

_LATER = 0.05  # of the users or items lack a value in their first row alone, before it is said
_CHANGED = 2 * (1 - ONE)
"""share of the rows with another value than their item's first, before it is said: twice that of a column which `init`
takes for an item's, as where a value that few rows have is the first one, all others differ from it"""
_CHANCE = 1e-6  # with which no item of another value is shown, before it is said


def _active(f: Feature, day: Day) -> pl.Series:
    """The feature's values of the users, or items, that have an event."""
    table, events = (day.users, day.user_events) if f.side == "user" else (day.items, day.item_events)
    return table[f.name].filter(pl.Series(events > 0))


def values_after_the_first(
    log: Log, files: DayFiles, raw: RawEvents, day: Day
) -> tuple[dict[str, int], dict[str, int]]:
    """By the name of an inline feature: items with several values within the day, of which the first alone is read,
    where many rows have another one; and users or items whose first row has none and a later one has.

    It takes one more pass over a day that was read, and raises the same UserErrors as reading it.
    """
    tables = {"user": day.users, "item": day.items}
    ids = {log.data.events.user, log.data.events.item}
    inline = [(side, f) for side, some in raw.schema.inline.items() for f in some if f.source not in ids]
    changing, late = ({f.name: np.zeros(len(tables[side]), np.bool_) for side, f in inline} for _ in range(2))
    other, known = (dict.fromkeys(changing, 0) for _ in range(2))
    for block in raw.rows(share_groups(raw.schema.events, files.groups, ALONE)) if inline else ():
        rows = {side: day.rows_of(block[side], side) for side in {side for side, _ in inline}}
        for side, f in inline:
            first, value = tables[side][f.name].gather(rows[side]), block[FEATURE + f.source]
            if side == "item":
                differ = first.ne(value)
                changing[f.name][rows[side][differ.fill_null(False).to_numpy()]] = True
                other[f.name] += int(differ.sum())
                known[f.name] += differ.count()
            late[f.name][rows[side][(first.is_null() & value.is_not_null()).to_numpy()]] = True
    of_items = {f.name for side, f in inline if side == "item"}
    several = {n: int(changing[n].sum()) for n in sorted(of_items) if other[n] > _CHANGED * known[n]}
    return several, {name: int(ids.sum()) for name, ids in late.items()}


def doubts_of(f: Feature, day: Day, changing: dict[str, int], late: dict[str, int]) -> dict[str, Any]:
    """Doubts about a feature: one value for all users or items, items with several values within the day, users or
    items without one in their first row alone. What a profile gives is not doubted: on the second day of a chain all
    items may have one age."""
    out: dict[str, Any] = {"profile": True} if f.profile else {}
    if not f.per_event and f.profile is None:
        values = _active(f, day)
        if len(values) > 1 and not values.null_count() and values.n_unique() == 1:
            out["one_value"] = True
    of_items = int((day.item_events > 0).sum())
    if changing.get(f.name):
        out |= {"items_that_change": changing[f.name], "items_seen": of_items}
    if late.get(f.name) and f.kind != "sequence":  # a history begins with none
        seen = int((day.user_events > 0).sum()) if f.side == "user" else of_items
        if late[f.name] > _LATER * seen:
            out |= {"known_later": late[f.name], "seen": seen} | ({"per_event": True} if f.per_event else {})
    return out


def never_shown(config: Config, f: Feature, day: Day) -> dict[str, Any]:
    """Of a feature with one value for all items that were shown, how many of their table have another one, as those
    that are sold out, and the condition that serves the others alone; nothing where chance may be why none was shown,
    or the condition of what is served names the column."""
    if f.side != "item" or f.per_event or f.profile or f.source in config.export.columns:
        return {}
    values, shown = day.items[f.name], pl.Series(day.item_events > 0)
    known = values.filter(shown)
    if known.dtype.is_nested() or known.drop_nulls().n_unique() != 1:
        return {}
    value, unknown = known.drop_nulls()[0], known.has_nulls()
    mine = values.eq_missing(value) | (values.is_null() if unknown else False)
    others = int((~mine).sum())
    never = (int((mine & ~shown).sum()) + 1) / (int(mine.sum()) + 1)
    if never**others > _CHANCE:
        return {}
    column = sql_column(f.source)
    served = f"{column} = {sql_value(value)}" + (f" OR {column} IS NULL" if unknown else "")
    return {"never_shown": others, "served_by": served}
