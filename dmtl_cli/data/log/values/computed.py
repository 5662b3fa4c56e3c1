"""Columns of a table that a config computes from others of their row: SQL expressions, by Polars.

An expression names columns of the files, and fields of objects as `outcome.scroll`. One of the events also
names columns of the side tables, as `items.length`: what they say of the row's user or item on that day.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import pyarrow as pa

from dmtl_cli.config.errors import UserError, did_you_mean
from dmtl_cli.config.expressions import roots_of, texts_beside, unquoted
from dmtl_cli.config.table import SERVED, WHERE

_QUOTES = "names are as the file has them, in double quotes where they have other signs than letters, digits and _"
_FILES = "it is computed itself, and columns are made of those of the files alone: write out what it is made of"
_CONDITIONS = {WHERE: "event = 'impression'", SERVED: "active = 1"}
"""an example of each"""
_NUMBER = "CAST(x AS DOUBLE) makes a number of text, CAST(REPLACE(x, '%', '') AS DOUBLE) of one with a sign"
_TEXTS = {
    r"\.(json|jsonl|ndjson)(\.gz|\.zst)?$": "values of json in quotes are text until data.types names another type",
    r"\.parquet$": "",
    "": "columns of csv are text until data.types names another type",
}
"""what is text of files with such names"""


_TRUE = "what is true or false is compared with these: COLUMN = true"


def of_types(where: object) -> str:
    """What to do where an expression does not fit the types of a file's columns."""
    said = next(said for form, said in _TEXTS.items() if re.search(form, str(where).lower()))
    return f"{said}; {_NUMBER}" if said else _NUMBER


@dataclass(frozen=True)
class Beside:
    """A side table, to be looked up by an id of the events."""

    key: str
    """the events' column of the id"""
    read: Callable[[Sequence[str]], tuple[pl.Series, pl.DataFrame]]
    """the table's ids, and columns of it by name"""


class Computed:
    """What the columns of one table are computed by.

    Args:
        name: of the config's table, for messages: data.events.
        expressions: by the column's name, each naming at least one column; by WHERE that of the rows that are read, by
            SERVED that of the items that are exported.
        beside: side tables by the name that expressions have for them, users and items.
    """

    def __init__(self, name: str, expressions: Mapping[str, str], beside: Mapping[str, Beside] | None = None) -> None:
        self.name, self._beside = name, beside or {}
        self.expressions = {column: pl.sql_expr(text).alias(column) for column, text in expressions.items()}
        self._roots = {column: roots_of(text) for column, text in expressions.items()}
        self._texts = {column: texts_beside(text) for column, text in expressions.items()}
        self._fields: dict[str, list[str]] = {}
        for roots in self._roots.values():
            for root, fields in roots.items():
                self._fields[root] = list(dict.fromkeys([*self._fields.get(root, []), *fields]))

    def makes(self, column: str) -> bool:
        """Whether it is none of the files'."""
        return column in self.expressions

    def asked(self, column: str) -> str:
        """What expects the columns that one is made of, for messages."""
        return f"{self._key(column)} expects"

    def _key(self, column: str) -> str:
        """The key of the config by which a column is made, for messages."""
        own = {WHERE: f"{self.name}.where", SERVED: "export.items"}
        return own.get(column, f"{self.name}.computed.{column}")

    def stored(self, columns: Collection[str]) -> list[str]:
        """The files' columns that these need, in the order of their first use."""
        return self._named(columns)

    def _named(self, columns: Collection[str]) -> list[str]:
        """What the expressions of these columns name, and those without one themselves."""
        return list(dict.fromkeys(c for column in columns for c in self._sources(column)))

    def _sources(self, column: str) -> list[str]:
        if column not in self._roots:
            return [column]
        out = []
        for root, fields in self._roots[column].items():
            if not (fields and root in self._beside):
                out += [f"{root}.{f}" for f in fields] or [root]
                continue
            key = self._beside[root].key
            out += self._sources(key) if self._makes_key(key) else [key]
        return out

    def _makes_key(self, column: str) -> bool:
        """Whether an id is computed of the events' own columns, so that a side table is looked up by what it comes to;
        one that is computed of a side table would have to be there before it."""
        roots = self._roots.get(column)
        return roots is not None and not any(fields and root in self._beside for root, fields in roots.items())

    def schema(self, stored: pa.Schema, file: object) -> pa.Schema:
        """The columns of a file, and behind them those that are computed of it; one that it lacks is null. See
        `refusal` of one that no file has.

        Raises:
            UserError: 65 it has a column of a name that is computed, or of a type that does not fit.
        """
        for column in self.expressions:
            if column in stored.names:
                what = f"{file}: {self._key(column)}: the file has a column of that name"
                raise UserError(what, "give the computed one another name")
        every = list(self.expressions)
        nothing = pa.Table.from_batches([], stored)  # stored.empty_table() would import pandas, where it is installed
        try:
            return pa.schema([*stored, *self.of(nothing, every, file).schema])
        except UserError as e:
            fields = [f"{root}.{field}" for root in self._beside for field in self._fields.get(root, ())]
            own = next((c for c in fields if c in stored.names and f" column {c.partition('.')[2]}" in e.message), None)
            if own is None:
                raise
            raise UserError(e.message, f'"{own}" in quotes is the events\' own', e.code) from None

    def refusal(self, column: str, source: str, names: Collection[str], where: object) -> UserError:
        """What is said of a column that others are computed of and that no file has, or not every one.

        Args:
            names: of the columns that are there.
            where: the file, or files.
        """
        meant = did_you_mean(source, [name for name in names if name not in self.expressions])
        hint = _FILES if source in self.expressions else unquoted(source) or _QUOTES
        for root, fields in self._roots.get(column, {}).items():
            if fields and root in self._beside and self._beside[root].key == source and source in self.expressions:
                by = f"{root}.{fields[0]} is looked up by {source}, which is computed of a side table"
                hint = f"{by}: compute {source} of columns of the files alone, or write {fields[0]} into the events"
        return UserError(f"{where}: {self._key(column)} expects column {source}{meant}", hint)

    def of(self, rows: Any, columns: Collection[str], file: object) -> Any:
        """Columns, computed or stored, of a table or batch that has those that they need; one that it lacks is null. Of
        rows that `where` leaves out, if it is among the columns, nothing else is computed: null.

        Raises:
            UserError: 65 a value does not fit, or there are more or fewer values than rows.
        """
        mine = [c for c in columns if c in self.expressions]
        if not mine:
            return rows
        here, nothing = rows.schema.names, pl.Series([None]).new_from_index(0, len(rows))
        needed = {c: plain(pl.Series(rows.column(c))) if c in here else nothing for c in self._named(mine)}
        stored = pl.DataFrame(needed)
        frame = self._with_fields(stored, mine, file)
        made: dict[str, pa.Array] = {}
        if WHERE in mine:
            made[WHERE] = self._made(frame, WHERE, file)
            asked = pl.Series(made[WHERE])
            frame = frame if asked.all() else frame.filter(asked)
        made |= {c: self._made(frame, c, file) for c in mine if c != WHERE}
        if len(frame) < len(rows):
            place = pl.select(pl.when(asked).then(asked.cum_sum() - 1)).to_series().to_arrow()
            made |= {c: values.take(place) for c, values in made.items() if c != WHERE}
        return type(rows).from_arrays([made[c] if c in made else rows.column(c) for c in columns], list(columns))

    def _with_fields(self, frame: pl.DataFrame, columns: Collection[str], file: object) -> pl.DataFrame:
        """With a struct for each object and side table whose fields these columns name."""
        structs = []
        for root in dict.fromkeys(root for c in columns for root, fields in self._roots[c].items() if fields):
            if root in self._beside:
                by = next(c for c in columns if self._roots[c].get(root))
                keys = self._keys_of(frame, self._beside[root].key, file)
                structs.append(self._looked_up(root, keys, f"{file}: {self._key(by)}"))
            else:
                here = sorted({f for c in columns for f in self._roots[c].get(root, [])})
                structs.append(frame.select(struct_of(root, here).alias(root)).to_series())
        return frame.drop(s.name for s in structs if s.name in frame.columns).with_columns(structs)

    def _keys_of(self, frame: pl.DataFrame, key: str, file: object) -> pl.Series:
        """The ids of rows by which a side table is looked up."""
        if not self._makes_key(key):
            return frame[key]
        return plain(pl.Series(self._made(self._with_fields(frame, [key], file), key, file)))

    def _looked_up(self, root: str, keys: pl.Series, where: str) -> pl.Series:
        """What a side table says of the ids of some rows. `where`: for messages."""
        ids = keys.cast(pl.Int64, strict=False) if keys.dtype.is_integer() else keys.cast(pl.String)
        known, table = self._tables[root]
        if known.dtype != ids.dtype:
            key, kinds = self._beside[root].key, {pl.Int64: "integers", pl.String: "text"}
            mine, others = kinds[ids.dtype], kinds[known.dtype]  # type: ignore[index]
            what = f"{where}: {key} are {mine}, but the ids of data.{root} {others}"
            raise UserError(what, "write both as integers, or both as text")
        right = pl.DataFrame([known.alias("id"), table.alias("row")])
        return ids.to_frame("id").join(right, on="id", how="left", maintain_order="left")["row"].alias(root)

    @cached_property
    def _tables(self) -> dict[str, tuple[pl.Series, pl.Series]]:
        """By the name of a side table its ids and a struct of the columns that are named."""
        out = {}
        for root, beside in self._beside.items():
            if fields := self._fields.get(root):
                ids, table = beside.read(fields)
                named = pl.DataFrame([plain(s).alias(f"{root}.{s.name}") for s in table])
                out[root] = ids, named.select(struct_of(root, fields).alias(root)).to_series()
        return out

    def _made(self, frame: pl.DataFrame, column: str, file: object) -> pa.Array:
        for path, text in self._texts[column]:
            if _type_of(frame, path) == pl.Boolean and text not in ("true", "false"):  # polars: none equals it
                name = ".".join(path)
                what = f"{file}: {self._key(column)}: {name} is true or false, and compared with {text!r}"
                raise UserError(what, f"write {name} = true, or NOT {name}")
        try:
            made = frame.select(self.expressions[column])[column]
        except pl.exceptions.PolarsError as e:
            if any(frame[c].dtype == pl.Null for c in frame.columns if c in self._sources(column)):
                nothing = pl.Series([None]).new_from_index(0, len(frame))  # of columns without a value, nor a type
                return _flags(nothing) if column in _CONDITIONS else pa.nulls(len(frame))
            why = str(e).strip().splitlines()[0]
            hint = _TRUE if "Boolean values in List(String" in why else of_types(file)
            raise UserError(f"{file}: {self._key(column)}: {why}", hint) from None
        if len(made) != len(frame):
            what = f"{file}: {self._key(column)}: expected a value of each row"
            what += f", got {len(made):,} of {len(frame):,} rows"
            raise UserError(what, "use no function that makes rows, such as UNNEST")
        if column in _CONDITIONS and made.dtype not in (pl.Boolean, pl.Null):
            what = f"{file}: {self._key(column)}: expected true or false of each row, got {made.dtype}"
            raise UserError(what, f"write a condition, such as {_CONDITIONS[column]}")
        return _flags(made) if column in _CONDITIONS else made.to_arrow(compat_level=pl.CompatLevel.oldest())


def _type_of(frame: pl.DataFrame, path: Sequence[str]) -> Any:
    """Of a column, or a field of one; None where it has no such field."""
    found: Any = frame.schema.get(path[0])
    for name in path[1:]:
        found = {f.name: f.dtype for f in found.fields}.get(name) if isinstance(found, pl.Struct) else None
    return found


def _flags(s: pl.Series) -> pa.Array:
    """Booleans without nulls, which are false."""
    return s.cast(pl.Boolean).fill_null(False).to_arrow(compat_level=pl.CompatLevel.oldest())


def plain(s: pl.Series) -> pl.Series:
    """Integers as int64, in which a sum or product fits; NaN, which is more than any number, as null; a category as
    text."""
    if s.dtype.is_integer() and s.dtype != pl.UInt64:
        return s.cast(pl.Int64)
    if s.dtype.is_float():
        return s.fill_nan(None)
    return s.cast(pl.String) if s.dtype in (pl.Categorical, pl.Enum) else s


def struct_of(above: str, paths: Sequence[str]) -> pl.Expr:
    """Columns `above.a`, `above.b.c` as a struct of the fields a and b, which is one too."""
    inner: dict[str, list[str]] = {}
    for path in paths:
        first, _, rest = path.partition(".")
        inner.setdefault(first, []).extend([rest] if rest else [])
    fields = [
        (struct_of(f"{above}.{f}", rest) if rest else pl.col(f"{above}.{f}")).alias(f) for f, rest in inner.items()
    ]
    return pl.struct(fields)
