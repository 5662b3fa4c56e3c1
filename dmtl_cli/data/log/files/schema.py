"""A day's schema: what the footers of its files say together, before a row is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.files.day_files import DayFiles
from dmtl_cli.data.log.files.rows import asked
from dmtl_cli.data.log.files.table import Table, missing, require_condition
from dmtl_cli.data.log.values import column_types
from dmtl_cli.data.log.values.types import types_of


@dataclass(frozen=True)
class Schema:
    """Where each feature of a day is read, and of what type."""

    events: Table
    sides: dict[str, Table]
    """side tables by side, user and item"""
    inline: dict[str, list[Feature]]
    """by side: features that no side table has, read from an id's first event of the day"""
    feature_columns: list[str]
    """sorted event columns that features are read from"""
    event_types: dict[str, pa.DataType]
    """types of the event columns that need one over all files: those of features, the time, and that of a click"""

    @staticmethod
    def unify(found: DayFiles, data: Data, features: Sequence[Feature]) -> Schema:
        """Raises UserError 65: a column is not there, or of types that do not fit each other or the feature's kind."""
        kinds = {f.source: {g.kind for g in features if g.source == f.source} for f in features}
        numbers = [column for column, those in kinds.items() if those == {"numeric"}]
        events = Table(found.events, numbers)
        declared = types_of(data, data.events) if data.format_of(data.events) == "json" else ()
        require_condition(events, data.events, "events", declared)
        try:
            _require_named(events, data.events)
        except UserError:  # a file of other events alone may lack what those that are asked for have
            few = asked(events) if data.events.where else events
            if len(few.files) in (0, len(events.files)):
                raise
            _require_named(few, data.events)
        sides = {side: Table(files, numbers) for side, files in found.tables.items()}
        for side, table in sides.items():
            named = _side_of(data, side)
            table.require_everywhere(named.key, "expected key")
            require_condition(table, named, f"{side}s")
            table.require_ids(named.key)
            if named.version:
                table.require_everywhere(named.version, f"data.{side}s.version expects")
            if named.until:
                table.require_everywhere(named.until, f"data.{side}s.until expects")
        inline: dict[str, list[Feature]] = {"user": [], "item": []}
        for f in features:
            table = events
            if not f.per_event and f.side in sides and sides[f.side].has(f.source):
                table = sides[f.side]
            elif not f.per_event or f.side == "user":  # for rows without an event of their own: the day's first value
                inline[f.side].append(f)
            beside = [sides[f.side]] if f.side in sides and not f.per_event else []
            _require_feature(f, table, beside)
        from_events = {f.source for f in features if f.per_event or f in inline[f.side]}
        time = [data.events.time] if data.events.time else []
        clicked = [data.events.click] if data.events.click and events.is_time(data.events.click) else []
        kinds_of = {c: events.type(c) for c in sorted({*from_events, *time, *clicked})}
        return Schema(events, sides, inline, sorted(from_events), kinds_of)


def _side_of(data: Data, side: str) -> SideTable:
    table = data.users if side == "user" else data.items
    assert table is not None
    return table


def _require_named(table: Table, events: Events) -> None:
    """The columns that data.events names, in every file."""
    roles = ("user", "item", "time", "click", "duration", "conversion", "weight", "request")
    named = {role: getattr(events, role) for role in roles}
    named |= {f"conversions.{name}": column for name, column in events.conversions.items()}
    for role, column in {**named, "date_column": events.date_column}.items():
        if column is not None:
            table.require_everywhere(column, f"data.events.{role} expects")
    if events.unique:
        table.require_everywhere(events.unique, "data.events.unique expects")
        table.require_ids(events.unique)
    table.require_ids(events.user)
    table.require_ids(events.item)


def _require_feature(f: Feature, table: Table, beside: list[Table]) -> None:
    if not table.has(f.source):
        also = f" and {beside[0].where}" if beside else ""
        asked = missing(f.source, f"feature {f.name} expects", [table, *beside])
        raise UserError(f"{table.where}{also}: {asked}")
    table.require(f.source, f"feature {f.name} expects")
    kind = table.type(f.source)
    if refused := column_types.refusal(f, kind):
        takes, hint = refused
        file = table.first_with(f.source)
        if file.origin and types.is_large_string(kind):
            hint = f"set data.types.{f.source}, or {hint}"
        where = f"{file}: feature {f.name}: column {f.source} is {column_types.in_words(kind)}"
        raise UserError(f"{where}, kind {f.kind} expects {takes}", hint)
