"""A Parquet file of the log with flat columns: a field of an object (a struct) is a column of its own, `track.id`, and
so is what a config computes from others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from dmtl_cli.config.errors import UserError

if TYPE_CHECKING:  # it needs polars, which a command that only looks for files has no use for
    from dmtl_cli.data.log.computed import Computed


class Parquet:
    """An open Parquet file as all of the log reads it: its fields of objects are columns, `a.b.c` at any depth, null
    where an object above is null. Lists of objects and maps stay what they are. Behind them are the computed columns.
    Columns are asked for by these names. Rows of a file without either are given as they were decoded.

    `metadata` is the file's own: the paths of its leaves are these names, further parts for the elements of lists.

    Args:
        name: for messages.
        nested: whether objects become columns; else they stay.
    """

    def __init__(
        self, file: pq.ParquetFile, name: object, *, nested: bool = True, computed: Computed | None = None
    ) -> None:
        schema = file.schema_arrow
        self._file, self._name, self._names, self._computed = file, name, schema.names, computed
        self._nested = nested and _has_objects(schema)
        self.metadata: pq.FileMetaData = file.metadata
        self.num_row_groups: int = file.num_row_groups
        flattened = _flat_schema(schema) if self._nested else schema
        self._there = frozenset(flattened.names)
        self.schema_arrow: pa.Schema = computed.schema(flattened, name) if computed else flattened

    def iter_batches(
        self,
        batch_size: int,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        *,
        use_threads: bool = True,
    ) -> Iterator[pa.RecordBatch]:
        """As `pq.ParquetFile.iter_batches`."""
        return (
            self._asked(batch, columns)
            for batch in self._file.iter_batches(batch_size, row_groups, self._stored(columns), use_threads=use_threads)
        )

    def read(self, columns: Sequence[str] | None = None, *, use_threads: bool = True) -> pa.Table:
        """As `pq.ParquetFile.read`."""
        return self._asked(self._file.read(self._stored(columns), use_threads=use_threads), columns)

    def read_row_group(self, group: int, columns: Sequence[str] | None = None, *, use_threads: bool = True) -> pa.Table:
        """As `pq.ParquetFile.read_row_group`."""
        return self._asked(self._file.read_row_group(group, self._stored(columns), use_threads=use_threads), columns)

    def _stored(self, columns: Sequence[str] | None) -> Sequence[str] | None:
        """The file's own columns that these need."""
        if columns is None or self._computed is None:
            return columns
        return [c for c in self._computed.stored(columns) if c in self._there]

    def _asked(self, rows: Any, columns: Sequence[str] | None) -> Any:
        """What was decoded for these columns (None: all), as they were asked for."""
        rows = flat(rows) if self._nested else rows
        asked = self.schema_arrow.names if columns is None else columns
        return self._computed.of(rows, asked, self._name) if self._computed else rows

    def require_names(self) -> None:
        """Raises UserError 65 where two columns have one name."""
        names = self.schema_arrow.names
        if len({*names}) == len(names):
            return
        name = min(name for name in names if names.count(name) > 1)
        if self._names.count(name) < names.count(name):
            raise UserError(f"{self._name}: column {name} and a field of that name", "give one of them another name")
        raise UserError(f"{self._name}: column {name} appears more than once", "give each column its own name")


def flat(rows: Any) -> Any:
    """A RecordBatch or Table with the fields of its objects as columns of their own; itself where it has no objects."""
    if not _has_objects(rows.schema):
        return rows
    columns = rows.columns
    while any(types.is_struct(column.type) for column in columns):
        columns = [part for c in columns for part in (c.flatten() if types.is_struct(c.type) else [c])]
    return type(rows).from_arrays(columns, schema=_flat_schema(rows.schema))


def _has_objects(schema: pa.Schema) -> bool:
    return any(types.is_struct(kind) for kind in schema.types)


def _flat_schema(schema: pa.Schema) -> pa.Schema:
    fields = list(schema)
    while any(types.is_struct(field.type) for field in fields):
        fields = [part for field in fields for part in field.flatten()]
    return pa.schema(fields)
