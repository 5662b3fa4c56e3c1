"""Which items of their table may be served: those for which the condition of `export.items` holds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from dmtl_cli.config.data import Data
from dmtl_cli.config.days import before
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.expressions import sources_of
from dmtl_cli.config.table import SERVED
from dmtl_cli.data.log import memory
from dmtl_cli.data.log.computed import Computed
from dmtl_cli.data.log.day import ID
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.table import Table, missing
from dmtl_cli.data.log.types import types_of

_ASKED = "export.items expects"


@dataclass(frozen=True)
class Chosen:
    """The items of a table, and those of them for which a condition holds."""

    condition: str
    listed: pl.Series
    """ids of the items that the table has and that have not ended"""
    ids: pl.Series
    """of these, those for which it holds: one at least"""

    @property
    def told(self) -> str:
        """A line of how many these are."""
        many = f"{len(self.ids):,} of {len(self.listed):,} items of the table of items"
        return f"export.items: {self.condition}: holds for {many}: no other is served"


def chosen(log: Log, day: dt.date, condition: str) -> Chosen:
    """What a condition says of the items as an export reads their table when a day is over: the newest row of each that
    is known then, of the next morning's table where that is there.

    Raises:
        UserError: 65 the table lacks a column, or values do not fit each other; what is told of an item is not true or
            false; it holds for no item. 66 the table is not there.
    """
    entities = log.beside("item", day, before(day, -1), ())
    assert entities is not None and entities.table is not None, "a config with a condition has the table"
    table, columns = entities.table, sources_of(condition)
    _require(table, columns, _of_json(log.data))
    there = [c for c in columns if table.has(c)]
    memory.check_table(table, {*entities.columns, *there}, limit=log.max_memory)
    rows = entities.listed({c: c for c in there})
    as_stored = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    made = Computed("export", {SERVED: condition}).of(as_stored, [SERVED], table.files[0])
    found = Chosen(condition, rows[ID], rows[ID].filter(pl.Series(made.column(SERVED))))
    if not len(found.ids):
        what = f"export.items: {condition}: holds for none of the {len(rows):,} items of {table.where}"
        raise UserError(what, "is it right? else set export.items: all")
    return found


def _of_json(data: Data) -> Collection[str] | None:
    """Of a table of JSON, which writes no column of what is not there, the columns that the config gives a type; None
    of another table."""
    items = data.items
    return None if items is None or data.format_of(items) != "json" else types_of(data, items)


def _require(table: Table, columns: list[str], declared: Collection[str] | None) -> None:
    """Raises UserError 65 where one of the table's files lacks a column: none of its items would be served.

    Args:
        declared: as `_of_json` has them: a column of JSON may lack in some files, and such a one in all.
    """
    for column in columns:
        if declared is not None and (column in declared or table.has(column)):
            continue
        if not table.has(column):
            short = column.removeprefix("items.")
            own = f"columns are named as the table has them: {short}" if short != column else ""
            hint = own or "expected all, listed, or a condition over columns of data.items such as active = 1"
            raise UserError(f"{table.where}: {missing(column, _ASKED, [table])}", hint)
        table.require_everywhere(column, _ASKED)
