"""Which items may be served: those for which the condition of `export.items` holds, by their table, or by the newest
rows of the events where there is no table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from dmtl_cli.config.data import Data
from dmtl_cli.config.days import before
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.expressions import as_of, reads_clock, sources_of, timed_of
from dmtl_cli.config.table import SERVED
from dmtl_cli.config.table import Table as Section
from dmtl_cli.data.log import memory
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.data.log.files.shares import share_groups
from dmtl_cli.data.log.files.table import Table, missing
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values.computed import Computed
from dmtl_cli.data.log.values.types import types_of
from dmtl_cli.runs.ranks import ALONE

_ASKED = "export.items expects"
_DAYS = 7  # whose events tell of an item what it is when the last of them is over


@dataclass(frozen=True)
class Chosen:
    """The items of which something is told, and those of them for which a condition holds."""

    condition: str
    listed: pl.Series
    """ids of the items that the table has and that have not ended, or that the events of the last days have"""
    ids: pl.Series
    """of these, those for which it holds: one at least"""
    place: str
    """what tells it, in words"""

    @property
    def told(self) -> str:
        """A line of how many these are."""
        many = f"{len(self.ids):,} of {len(self.listed):,} items of {self.place}"
        return f"export.items: {self.condition}: holds for {many}: no other is served"


def chosen(log: Log, day: dt.date, condition: str) -> Chosen:
    """What a condition says of the items when a day is over: of their table, as an export reads it then, the newest row
    of each that is known, of the next morning's table where that is there; without a table the newest row of each in
    the events of `days_told`.

    Raises:
        UserError: 65 the table, or the events, lack a column, or values do not fit each other; what is told of an item
            is not true or false; it holds for no item. 66 the table is not there.
    """
    text = as_of(condition, log.at(before(day, -1)).clock)
    columns = sources_of(text)
    if log.data.items is None:
        days = days_told(log, day)
        place = "the day's events" if len(days) == 1 else f"the events of {len(days)} days"
        rows, file = _of_events(log, days, columns), log.find(day).events[0]
        rows = _by_clock(condition, rows, file, log.data, log.data.events, log.data.clocks_of_events[0])
        return _chosen(condition, text, rows, file, place)
    entities = log.beside("item", day, before(day, -1), ())
    assert entities is not None and entities.table is not None, "a config with a condition has the table"
    table = entities.table
    _require(table, columns, _of_json(log.data))
    there = [c for c in columns if table.has(c)]
    memory.check_table(table, {*entities.columns, *there}, limit=log.max_memory)
    rows, file = entities.listed({c: c for c in there}), table.files[0]
    zone = log.data.items.version_timezone or log.data.timezone
    rows = _by_clock(condition, rows, file, log.data, log.data.items, zone)
    return _chosen(condition, text, rows, file, "the table of items")


def days_told(log: Log, day: dt.date) -> list[dt.date]:
    """The days whose events tell what an item is when the last of them is over, that one first; none where a table
    does."""
    if log.data.items is not None:
        return []
    return [day, *(d for k in range(1, _DAYS) if log.has(d := before(day, k)))]


def _of_events(log: Log, days: list[dt.date], columns: list[str]) -> pl.DataFrame:
    """`:id` and columns of the newest row of each item on some days, the newest first; a column that an earlier one
    lacks is unknown there."""
    rows = pl.DataFrame({name: [] for name in (ID, *columns)})
    for day in days:
        found, raw = log.open(day)
        events = raw.schema.events
        for column in columns if day == days[0] else ():
            events.require(column, _ASKED)
        there = [c for c in columns if events.has(c)]
        newest = raw.newest(share_groups(events, found.groups, ALONE), there)
        if not newest.width:  # files of several days need not have rows of each
            continue
        try:
            both = pl.concat([rows, newest], how="diagonal_relaxed") if len(rows) else newest
        except pl.exceptions.PolarsError:
            what = f"{events.where}: {', '.join(columns)}: of other types than on {days[0]}"
            raise UserError(what, "write one type on all days") from None
        rows = both.unique(ID, keep="first", maintain_order=True)
    return rows


def _by_clock(
    condition: str, rows: pl.DataFrame, file: File, data: Data, section: Section, zone: str | None
) -> pl.DataFrame:
    """Rows with what a condition compares with the clock as that of data.timezone shows it; those of one that asks no
    clock as they are.

    Args:
        zone: of times that name none.

    Raises:
        UserError: 65 it is no time; 78 there are instants, and no data.timezone.
    """
    timed = [c for c in timed_of(condition) if c in rows.columns] if reads_clock(condition) else []
    checked, zoneless = Checked(rows, file, 0), {c: bool(data.is_zoneless(section, c)) for c in timed}
    return rows.with_columns(checked.on_clock(c, data.timezone, zoneless=zoneless[c], zone=zone) for c in timed)


def _chosen(condition: str, text: str, rows: pl.DataFrame, file: File, place: str) -> Chosen:
    """Those of some items, a row each, for which a condition holds. `text`: the condition as of then."""
    as_stored = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    made = Computed("export", {SERVED: text}).of(as_stored, [SERVED], file)
    holds = pl.Series(made.column(SERVED)).cast(pl.Boolean)  # of no row it is of no type
    found = Chosen(condition, rows[ID], rows[ID].filter(holds), place)
    if not len(found.ids):
        what = f"export.items: {condition}: holds for none of the {len(rows):,} items of {place}, such as {file}"
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
