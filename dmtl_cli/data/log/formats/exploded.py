"""Rows that hold lists of what was shown, as events: an element of the lists is an event, and what else the row has is
repeated, as `explode` of Polars, Spark and pandas does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from dmtl_cli.config.errors import UserError, did_you_mean
from dmtl_cli.data.log.values.column_types import is_list


@dataclass(frozen=True)
class Exploded:
    """Which columns of the events' files are exploded.

    Args:
        names: of lists, or of what has lists: a list of objects or an object of lists, `a` of the columns `a.b`.
        counted: the column that tells how many elements a row has, where it is one of the lists; else the first.
        position: of a further column, the element's place in its list, from 1.
        table: of the config, for messages.
    """

    names: tuple[str, ...]
    counted: str
    position: str | None = None
    table: str = "data.events"

    @property
    def key(self) -> str:
        """That of the config, for messages."""
        return f"{self.table}.explode"

    def lists(self, schema: pa.Schema, file: object) -> list[str]:
        """The columns of a file that are exploded, first the one that is counted.

        Args:
            schema: of the file, flat.

        Raises:
            UserError: 65 a name is of no list; the column of places is there already.
        """
        found: list[str] = []
        for name in self.names:
            mine = [f.name for f in schema if f.name == name or f.name.startswith(f"{name}.")]
            if not mine:
                above = {n.rpartition(".")[0] for n in schema.names if "." in n}
                meant = did_you_mean(name, [*schema.names, *sorted(above)])
                raise UserError(f"{file}: {self.key} expects column {name}{meant}")
            lists = [c for c in mine if is_list(schema.field(c).type)]
            if not lists and not all(types.is_null(schema.field(c).type) for c in mine):
                what = f"{file}: {self.key}: column {name} is {schema.field(mine[0]).type}, expected lists"
                raise UserError(what, "name a list, a list of objects, or an object of lists")
            found += lists or mine
        if self.position in schema.names:
            what = f"{file}: data.events.explode_position: the file has a column {self.position}"
            raise UserError(what, "give it another name")
        return sorted(dict.fromkeys(found), key=lambda c: c != self.counted)

    def is_in(self, names: Sequence[str]) -> bool:
        """Whether a file with these columns has one of the lists: JSON lines need not name one that is empty in all of
        them, as those of an hour in which nothing was shown."""
        return any(c == name or c.startswith(f"{name}.") for c in names for name in self.names)

    def schema(self, schema: pa.Schema, lists: Sequence[str]) -> pa.Schema:
        """The columns of a file once its lists are exploded."""
        fields = [pa.field(f.name, _inner(f.type)) if f.name in lists else f for f in schema]
        return pa.schema([*fields, *([pa.field(self.position, pa.int64())] if self.position else [])])

    def stored(self, columns: Sequence[str], lists: Sequence[str]) -> list[str]:
        """The columns that have to be decoded for some: with them the lists that are counted."""
        return list(dict.fromkeys([*(c for c in columns if c != self.position), lists[0]]))

    def of(self, rows: Any, lists: Sequence[str], where: Callable[[int], str]) -> Any:
        """A RecordBatch or Table of decoded columns, with a row an element of its lists, those of a row in their order.
        A list that is null beside one with elements gives nulls.

        Args:
            lists: as `lists` gives them.
            where: the file and a row of these, for messages.

        Raises:
            UserError: 65 the lists of a row are of several lengths.
        """
        columns = {name: _whole(rows.column(name)) for name in rows.schema.names}
        lengths = _lengths(columns[lists[0]])
        parents = np.repeat(np.arange(len(lengths)), lengths)
        made = {}
        for name, values in columns.items():
            if name in lists:
                self._check(name, values, lists[0], lengths, where)
                made[name] = _elements(values, lengths)
            else:
                made[name] = values.take(pa.array(parents))
        if self.position:
            made[self.position] = pa.array(np.arange(len(parents)) - np.repeat(_starts(lengths), lengths) + 1)
        return type(rows).from_arrays(list(made.values()), schema=self.schema(rows.schema, lists))

    def _check(self, name: str, values: pa.Array, counted: str, lengths: Any, where: Callable[[int], str]) -> None:
        mine, there = _lengths(values), np.asarray(values.is_valid())
        bad = np.flatnonzero((mine != lengths) & there)
        if len(bad):
            k = int(bad[0])
            what = f"{where(k)}: {self.key}: {name} has {mine[k]} elements, but {counted} {lengths[k]}"
            lists = f"name in {self.key} the lists alone that run in parallel, as [shown.item, shown.click]"
            raise UserError(what, f"{lists}, and write as many elements in each")


def _whole(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _lengths(values: pa.Array) -> Any:
    """How many elements each list has; a null none."""
    if types.is_null(values.type):
        return np.zeros(len(values), np.int64)
    return np.asarray(pc.list_value_length(values).fill_null(0)).astype(np.int64)


def _starts(lengths: Any) -> Any:
    return np.cumsum(lengths) - lengths


def _elements(values: pa.Array, lengths: Any) -> pa.Array:
    """The elements of lists, and nulls for those of a list that is null."""
    if types.is_null(values.type):
        return pa.nulls(int(lengths.sum()))
    flat, mine = pc.list_flatten(values), _lengths(values)
    if np.array_equal(mine, lengths):
        return flat
    known = np.repeat(mine == lengths, lengths)
    return flat.take(pa.array(np.cumsum(known) - 1, mask=~known))


def _inner(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if is_list(kind) else kind
