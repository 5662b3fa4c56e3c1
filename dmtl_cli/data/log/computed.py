"""Columns of a table that a config computes from others of their row: SQL expressions, by Polars.

An expression names columns of the files, and fields of objects as `outcome.scroll`, quoted or not. One of the events
also names columns of the side tables, as `items.length`: what they say of the row's user or item on that day.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import pyarrow as pa

from dmtl_cli.config.errors import UserError, did_you_mean
from dmtl_cli.config.expressions import roots_of

_ALONE = 8  # rows of a block that are computed by themselves too, to see that no other row matters
_QUOTES = "names are as the file has them, in double quotes where they have other signs than letters, digits and _"
_TYPES = "columns of csv are text until data.types names another type; CAST(x AS DOUBLE) makes a number of text"


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
        name: of the config's section, for messages: data.events.computed.
        expressions: by the column's name, each naming at least one column.
        beside: side tables by the name that expressions have for them, users and items.
    """

    def __init__(self, name: str, expressions: Mapping[str, str], beside: Mapping[str, Beside] | None = None) -> None:
        self.name, self._beside = name, beside or {}
        self.expressions = {column: pl.sql_expr(text).alias(column) for column, text in expressions.items()}
        self._roots = {column: roots_of(text) for column, text in expressions.items()}
        self._fields: dict[str, list[str]] = {}
        for roots in self._roots.values():
            for root, fields in roots.items():
                self._fields[root] = list(dict.fromkeys([*self._fields.get(root, []), *fields]))

    def stored(self, columns: Collection[str]) -> list[str]:
        """The files' columns that these need, in the order of their first use."""
        return list(dict.fromkeys(c for column in columns for c in self._sources(column)))

    def _sources(self, column: str) -> list[str]:
        if column not in self._roots:
            return [column]
        out = []
        for root, fields in self._roots[column].items():
            looked_up = fields and root in self._beside
            out += [self._beside[root].key] if looked_up else [f"{root}.{f}" for f in fields] or [root]
        return out

    def schema(self, stored: pa.Schema, file: object) -> pa.Schema:
        """The columns of a file, and behind them those that are computed of it.

        Raises:
            UserError: 65 it lacks one that is needed, has one of a name that is computed, or of a type that does not
                fit.
        """
        for column in self.expressions:
            if column in stored.names:
                what = f"{file}: {self.name}.{column}: the file has a column of that name"
                raise UserError(what, "give the computed one another name")
            if absent := [c for c in self._sources(column) if c not in stored.names]:
                meant = did_you_mean(absent[0], stored.names)
                raise UserError(f"{file}: {self.name}.{column} expects column {absent[0]}{meant}", _QUOTES)
        every = list(self.expressions)
        return pa.schema([*stored, *self.of(stored.empty_table(), every, file).schema])

    def of(self, rows: Any, columns: Collection[str], file: object) -> Any:
        """Columns, computed or stored, of a table or batch that has those that they need.

        Raises:
            UserError: 65 a value does not fit, or what is computed of a row depends on others.
        """
        mine = [c for c in columns if c in self.expressions]
        if not mine:
            return rows
        frame = self._with_fields(pl.DataFrame({c: pl.Series(rows.column(c)) for c in self.stored(mine)}), mine, file)
        arrays = [self._made(frame, c, file) if c in mine else rows.column(c) for c in columns]
        return type(rows).from_arrays(arrays, list(columns))

    def _with_fields(self, frame: pl.DataFrame, columns: Collection[str], file: object) -> pl.DataFrame:
        """With a struct for each object and side table whose fields these columns name."""
        for root in dict.fromkeys(root for c in columns for root, fields in self._roots[c].items() if fields):
            if root not in self._beside:
                here = [f for f in self._fields[root] if f"{root}.{f}" in frame.columns]
                frame = frame.with_columns(pl.struct(pl.col(f"{root}.{f}").alias(f) for f in here).alias(root))
                continue
            key, table = self._beside[root].key, self._tables[root]
            ids = frame[key].cast(pl.Int64 if frame[key].dtype.is_integer() else pl.String)
            if table[key].dtype != ids.dtype:
                what = f"{file}: {self.name}: {key} is {ids.dtype}, but the ids of data.{root} are {table[key].dtype}"
                raise UserError(what, "write both as integers, or both as text")
            found = pl.DataFrame({key: ids}).join(table, on=key, how="left", maintain_order="left")
            frame = frame.with_columns(found[root])
        return frame

    @cached_property
    def _tables(self) -> dict[str, pl.DataFrame]:
        """By the name of a side table the events' id and a struct of the columns that are named."""
        out = {}
        for root, beside in self._beside.items():
            if fields := self._fields.get(root):
                ids, table = beside.read(fields)
                out[root] = pl.DataFrame([ids.alias(beside.key), table.to_struct(root)])
        return out

    def _made(self, frame: pl.DataFrame, column: str, file: object) -> pa.Array:
        expression, few = self.expressions[column], range(min(_ALONE, len(frame)))
        try:
            made = frame.select(expression)[column]
            alone = [frame[k : k + 1].select(expression)[column] for k in few]
        except pl.exceptions.PolarsError as e:
            raise UserError(f"{file}: {self.name}.{column}: {str(e).strip().splitlines()[0]}", _TYPES) from None
        if len(made) != len(frame) or (alone and not pl.concat(alone).equals(made[: len(few)], null_equal=True)):
            what = f"{file}: {self.name}.{column}: expected a value of each row that depends on this row alone"
            raise UserError(what, "use no function over several rows, such as SUM, AVG, LAG or OVER")
        return made.to_arrow(compat_level=pl.CompatLevel.oldest())
