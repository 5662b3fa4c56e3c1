"""How texts are read, as lines of the config with their reasons: how a CSV is written, and the types of columns, those
of all tables and a table's own where one of its columns has the name of another table's and other values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from dmtl_cli.config.expressions import sources_of
from dmtl_cli.config.table import OBJECT, TEXT
from dmtl_cli.data.log.formats.text_rows import separator_of
from dmtl_cli.data.log.values.types import LISTS
from dmtl_cli.guess.columns.objects import is_field
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import comment, quoted, scalar
from dmtl_cli.guess.columns.values import is_flags, time_unit
from dmtl_cli.guess.exposures.doubts import Mark
from dmtl_cli.guess.known import Log
from dmtl_cli.guess.reading.files import CSV, JSON, FileKey
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.reading.texts import Text

_MONTHS = 12
_OF = {"cp1252": "western Europe", "cp1250": "central Europe", "cp1254": "Turkey"}
_TEXTS = (CSV, JSON)
_ELEMENTS = {inner: kind.removeprefix("list<").removesuffix(">") for kind, (inner, _) in LISTS.items()}
"""what the lists of JSON hold, whose type is that of an element"""
_LONE = "a value begins with a quote that does not end it, yet all lines have as many values: quotes are text"


@dataclass
class Types:
    """The types of a log's columns."""

    of_all: dict[str, str] = field(default_factory=dict)
    """by the column, of whatever table; with a comment, where one is needed"""
    own: dict[FileKey, dict[str, str]] = field(default_factory=dict)
    """by the files of a table, those of its columns that are of another type than `of_all` says"""
    rest: str = ""
    """what a column is that is not named"""

    @property
    def lines(self) -> list[str]:
        """`data.types`."""
        body = [f"  {scalar(c)}: {kind}" for c, kind in self.of_all.items()]
        return [f"types:  # {self.rest}", *body] if body else []

    def keys(self, table: Table) -> list[str]:
        """`types` of a table: objects are what its own files have."""
        mine = dict.fromkeys(table.objects, OBJECT) | self.own.get(table.files.files, {})
        return [f"types: {{{', '.join(f'{scalar(c)}: {scalar(kind)}' for c, kind in mine.items())}}}"] if mine else []


def tables_of(log: Log) -> list[Table]:
    """Those that the config reads."""
    later = (one.table for one in log.later)
    return [log.events, *(side.table for side in log.inputs.sides.values()), *later]


def types_of(log: Log) -> Types:
    """The types of all columns of text files that the config names, of which the first table with one decides, and of
    those that another table has under such a name and would not be read so."""
    tables = tables_of(log)
    asked = _asked(log)
    used, made = _used(log) | asked, {*log.roles.made, *(c for one in log.later for c in one.columns)}
    found, first, forms = dict[str, str](), dict[str, Table](), {table.files.form for table in tables}
    texts = [table for table in tables if table.files.form in _TEXTS]
    for table in texts:
        for c in (c for c in table.frame.columns if c in used and (table is not log.events or c not in made)):
            kind = type_of(c, table, log.roles)
            kind = "text" if kind is None and c in asked and table.frame.schema[c] == pl.String else kind
            if kind is not None:
                first.setdefault(c, table)
                found.setdefault(c, f"{kind}{order_of(kind, table.frame[c])}")
    own = _own(log, texts, found, first, made)
    for table in tables:  # of all tables, unless one has a column of that name that is no hash
        for c in (c for c in table.hashes if c in used):
            if all(c in one.hashes for one in tables if c in one.frame.columns and one.files.form not in _TEXTS):
                found[c] = f"{TEXT}  # integers beyond int64"
            else:
                own.setdefault(table.files.files, {})[c] = TEXT
    if forms == {CSV}:  # what is read as text anyway; labels are not
        labels = (log.roles.click, log.roles.duration, log.roles.conversion, *log.roles.further.values())
        kept = {g.column for g in labels if g}
        found = {c: kind for c, kind in found.items() if kind != "text" or c in kept}
    as_ids = "text, as ids like 007 must be" if CSV in forms else "keeps the type that it has"
    return Types(found, own, f"what is not here {'is ' * (CSV in forms)}{as_ids}")


def _used(log: Log) -> set[str]:
    """The columns that the config names."""
    used = {g.column for g in log.roles.named.values()} | {g.column for g in log.roles.further.values()}
    for text in (*log.roles.made.values(), *(one.expression for one in log.goals)):
        named = sources_of(text)
        used |= {*named, *(re.sub(r"^(users|items)\.", "", c) for c in named)}
    used |= {i.column for i in (*log.inputs.used, *log.inputs.held)}
    used |= {c for one in log.left if one.is_typed for c in one.columns}
    used |= {g.column for g in log.inputs.unused if isinstance(g, Mark) and g.is_typed}
    used |= {log.inputs.guests.member, log.inputs.guests.cookie} if log.inputs.guests else set()
    sides = log.inputs.sides.values()
    used |= {c.column for side in sides for c in (side.key, side.version, side.until) if c}
    used |= {one.dated for one in log.later if one.dated}
    return used | {c for one in log.later for c in (*one.event_sources, *one.sources)}


def _asked(log: Log) -> set[str]:
    """The columns that `export.items` compares with a number, a time, or yes and no; of JSON, which writes none where
    no row has a value, all that it names, and all that are read of what came of exposures."""
    came = {c for one in log.later if one.table.files.form == JSON for c in one.sources}
    items = log.inputs.sides.get("items")
    table = log.events if items is None else items.table  # without a table of items their events tell it
    schema, is_json = table.frame.schema, table.files.form == JSON
    named = [c for c in log.inputs.served.names if c in schema]
    return came | {c for c in named if is_json or (not schema[c].is_nested() and schema[c] != pl.String)}


def _own(
    log: Log, tables: list[Table], of_all: Mapping[str, str], first: Mapping[str, Table], made: set[str]
) -> dict[FileKey, dict[str, str]]:
    """See `Types.own`: also of columns that nothing reads, as all columns of a file are parsed.

    Args:
        first: the tables that decided `of_all`.
        made: columns that the events have of other tables.
    """
    keys = {side.key.column for side in log.inputs.sides.values()}
    read = {i.column for i in log.inputs.used if i.kind == "numeric"} | {*log.inputs.served.names}
    codes = keys | {i.column for i in (*log.inputs.used, *log.inputs.held) if i.kind != "numeric"}
    out: dict[FileKey, dict[str, str]] = {}
    for table in tables:
        there = (s for s in table.frame if table is not log.events or s.name not in made)
        for s in (s for s in there if s.name in of_all and s.count()):
            if table.files.files == first[s.name].files.files:
                continue
            asked, kind = of_all[s.name].partition("  #")[0], type_of(s.name, table, Roles()) or _of_json(s)
            is_whole = asked == "float64" and kind == "int64" and s.name not in codes
            is_text = asked == "text" and s.name not in codes | read
            is_time = asked in ("datetime", "date") and time_unit(s) is not None
            if kind != asked and not (is_whole or is_text or is_time):
                out.setdefault(table.files.files, {}).setdefault(s.name, kind)
    return out


def _of_json(s: pl.Series) -> str:
    """The type of texts of JSON, and of lists that of what they hold."""
    inner = s.dtype.inner if isinstance(s.dtype, pl.List) else None
    return next((name for kind, name in _ELEMENTS.items() if kind == inner), "text")


def order_of(kind: str, s: pl.Series) -> str:
    """Why a format has the day before the month, or behind it, where it could be otherwise."""
    if re.search(r":%[dm][/-]%[dm]", kind) is None:
        return ""
    if (s.dt.day() > _MONTHS).any():
        return "  # numbers above 12 are days, so the others are months"
    return "  # its days follow each other so; with day and month the other way round they would be months apart"


def type_of(c: str, table: Table, roles: Roles) -> str | None:
    """Type of a column that is text, or in JSON what its values are; None for what JSON has as lists."""
    s, text = table.frame[c], table.written
    form = JSON if is_field(c, table.objects) else table.files.form
    kinds = {inner: kind for kind, (inner, _) in LISTS.items()}
    if s.dtype == pl.List:
        return kinds.get(s.dtype.inner) if form == CSV or c in text.lists else None  # type: ignore[attr-defined]
    if form == CSV and c in table.explode:  # the sample has its elements
        return kinds.get(s.dtype)
    flags = [roles.click, roles.conversion, *roles.further.values()]
    if c in {g.column for g in flags if g} and is_flags(s):
        return "bool"
    if c in text.clocks:
        return "clock"
    if c in text.formats:
        return text.formats[c]
    if roles.duration and c == roles.duration.column:
        return "float64"
    unit = roles.time_unit if roles.time and c == roles.time.column else None
    if unit in ("text", "timestamp") or (roles.click and c == roles.click.column and s.dtype == pl.String):
        return "datetime"
    if unit == "day":
        return "date"
    if s.dtype.is_integer():
        return "int64"
    if s.dtype.is_float():
        return "float64"
    return "bool" if s.dtype == pl.Boolean else "text" if form == CSV else None


def csv_lines(table: Table) -> list[str]:
    """`data.csv` of a table; nothing where it is none, or is as any CSV."""
    if table.files.form != CSV:
        return []
    separator, *more = csv_keys(table)
    keys = more if table.written.separator == separator_of(table.files.files[0][0]) else [separator, *more]
    return ["csv:", *(f"  {key}{why and f'  # {why}'}" for key, why in keys)] if keys else []


def csv_keys(table: Table) -> list[tuple[str, str]]:
    """(key and value, reason) of how a CSV is written; the separator first."""
    text = table.written
    keys = [(f"separator: {quoted(text.separator)}", "")]
    if text.encoding != "utf-8":
        keys.append((f"encoding: {text.encoding}", encoded(text)))
    if not text.quoted:
        keys.append(("quote_char: null", "" if text.separator < "\t" or len(text.separator) > 1 else _LONE))
    if text.decimal != ".":
        keys.append((f"decimal: {quoted(text.decimal)}", "numbers such as 49,8"))
    if text.thousands is not None:
        keys.append((f"thousands: {quoted(text.thousands)}", f"numbers such as 1{text.thousands}494{text.decimal}90"))
    keys += [('escape_char: "\\\\"', "it stands before a separator that is of a value")] * text.escaped
    if not text.header:
        names = ", ".join(map(scalar, table.names or ()))
        by = f"those of {comment(text.source)}" if text.source else "names by place and values, check them"
        keys.append((f"columns: [{names}]", f"the files have no header: {by}"))
    if text.nulls:
        why = f"beside numbers, in every column{alone(text)}"
        keys.append((f"null_values: [{', '.join(map(quoted, text.nulls))}]", why))
    return keys


def encoded(text: Text) -> str:
    """Why a text is in another encoding than UTF-8."""
    if text.encoding == "utf-8":
        return ""
    others = [f"{name} ({of})" for name, of in _OF.items() if name != text.encoding]
    look = f"does {comment(text.piece)!r} look right? or {', '.join(others)}"
    return f"not UTF-8; {look}" if text.piece else "not UTF-8, by its first bytes"


def alone(text: Text) -> str:
    """Why words that no list has stand for null."""
    told = sorted(text.alone.items())
    return "".join(f"; {word!r} is the one text among the numbers of {comment(c)}" for word, c in told)
