"""A Parquet file of the log with flat columns: a field of an object (a struct) is a column of its own, `track.id`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from dmtl_cli.config.errors import UserError


class Parquet:
    """An open Parquet file as all of the log reads it: its fields of objects are columns, `a.b.c` at any depth, null
    where an object above is null. Lists of objects and maps stay what they are. Columns are asked for by these names.
    Rows of a file without objects are given as they were decoded.

    `metadata` is the file's own: the paths of its leaves are these names, further parts for the elements of lists.

    Args:
        nested: whether objects become columns; else they stay.
    """

    def __init__(self, file: pq.ParquetFile, *, nested: bool = True) -> None:
        schema = file.schema_arrow
        self._file, self._names = file, schema.names
        self._nested = nested and _has_objects(schema)
        self.metadata: pq.FileMetaData = file.metadata
        self.num_row_groups: int = file.num_row_groups
        self.schema_arrow: pa.Schema = _flat_schema(schema) if self._nested else schema

    def iter_batches(self, *args: Any, **kwargs: Any) -> Iterator[pa.RecordBatch]:
        """As `pq.ParquetFile.iter_batches`."""
        batches = self._file.iter_batches(*args, **kwargs)
        return map(flat, batches) if self._nested else batches

    def read(self, *args: Any, **kwargs: Any) -> pa.Table:
        """As `pq.ParquetFile.read`."""
        rows = self._file.read(*args, **kwargs)
        return flat(rows) if self._nested else rows

    def read_row_group(self, *args: Any, **kwargs: Any) -> pa.Table:
        """As `pq.ParquetFile.read_row_group`."""
        rows = self._file.read_row_group(*args, **kwargs)
        return flat(rows) if self._nested else rows

    def require_names(self, where: object) -> None:
        """Raises UserError 65, naming the file as `where`, where two columns have one name."""
        names = self.schema_arrow.names
        if len({*names}) == len(names):
            return
        name = min(name for name in names if names.count(name) > 1)
        if self._names.count(name) < names.count(name):
            raise UserError(f"{where}: column {name} and a field of that name", "give one of them another name")
        raise UserError(f"{where}: column {name} appears more than once", "give each column its own name")


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
