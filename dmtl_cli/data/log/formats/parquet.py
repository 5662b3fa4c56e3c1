"""A Parquet file of the log with flat columns: a field of an object (a struct) is a column of its own, `track.id`, one
of a list of objects is a column of lists, and what a config computes from others is a column too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.formats.exploded import Exploded
from dmtl_cli.data.log.values.column_types import is_list

if TYPE_CHECKING:  # it needs polars, which a command that only looks for files has no use for
    from dmtl_cli.data.log.values.computed import Computed

_EXPLODED = 16  # rows with lists are decoded so many times fewer at once


class Parquet:
    """An open Parquet file as all of the log reads it: its fields of objects are columns, `a.b.c` at any depth, null
    where an object above is null; of a list of objects each field is a column of lists, of a list of such lists one
    of lists of lists. Maps stay what they are. Where lists are exploded, their elements are the rows. Behind them are
    the computed columns. Columns are asked for by these names. Rows of a file without any of it are given as they were
    decoded.

    `metadata` is the file's own; `paths` tells its leaves of a column.

    Args:
        name: for messages.
        nested: whether objects become columns; else they stay.
        explode: which lists are exploded.
        texts: columns whose integers are text, those in their lists too.
        row_of: names a row of the file, from 0, for messages.
    """

    def __init__(
        self,
        file: pq.ParquetFile,
        name: object,
        *,
        nested: bool = True,
        computed: Computed | None = None,
        explode: Exploded | None = None,
        texts: Collection[str] = (),
        row_of: Callable[[int], str] = "row {}".format,
    ) -> None:
        schema = file.schema_arrow
        self._file, self._name, self._names, self._computed = file, name, schema.names, computed
        self._nested = nested and _has_objects(schema)
        self.metadata: pq.FileMetaData = file.metadata
        self.num_row_groups: int = file.num_row_groups
        flattened = _flat_schema(schema) if self._nested else schema
        self.paths = _paths(schema, self._nested, self.metadata)
        self._there = frozenset(flattened.names)
        self._explode, self._row_of, self._lists = explode, row_of, list[str]()
        if explode:
            self._lists = explode.lists(flattened, name)
            flattened = explode.schema(flattened, self._lists)
        self._texts = frozenset(texts)
        flattened = pa.schema([pa.field(f.name, _read_as(f, self._texts)) for f in flattened])
        self.schema_arrow: pa.Schema = computed.schema(flattened, name) if computed else flattened

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each row group; of lists that are exploded their elements, an empty list counted as one."""
        groups = [self.metadata.row_group(k) for k in range(self.num_row_groups)]
        if not self._lists or not (leaves := self.paths.get(self._lists[0])):
            return tuple(group.num_rows for group in groups)
        at = next(k for k in range(self.metadata.num_columns) if self.metadata.schema.column(k).path == leaves[0])
        return tuple(group.column(at).num_values for group in groups)

    @property
    def exploded(self) -> frozenset[str]:
        """Leaves of the lists that are exploded."""
        return frozenset(path for c in self._lists for path in self.paths.get(c, ()))

    def iter_batches(
        self,
        batch_size: int,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        *,
        use_threads: bool = True,
    ) -> Iterator[pa.RecordBatch]:
        """As `pq.ParquetFile.iter_batches`."""
        at, most = self._start(row_groups), max(1, batch_size // _EXPLODED) if self._explode else batch_size
        for batch in self._file.iter_batches(most, row_groups, self._stored(columns), use_threads=use_threads):
            rows = self._asked(batch, columns, at)
            at += len(batch)
            if len(rows) <= batch_size:
                yield rows
                continue
            for k in range(0, len(rows), batch_size):
                yield rows.slice(k, batch_size)

    def read(self, columns: Sequence[str] | None = None, *, use_threads: bool = True) -> pa.Table:
        """As `pq.ParquetFile.read`."""
        return self._asked(self._file.read(self._stored(columns), use_threads=use_threads), columns, 0)

    def read_row_group(self, group: int, columns: Sequence[str] | None = None, *, use_threads: bool = True) -> pa.Table:
        """As `pq.ParquetFile.read_row_group`."""
        rows = self._file.read_row_group(group, self._stored(columns), use_threads=use_threads)
        return self._asked(rows, columns, self._start([group]))

    def _start(self, groups: Sequence[int] | None) -> int:
        """Number of the first row of some row groups that follow each other."""
        return sum(self.metadata.row_group(k).num_rows for k in range(groups[0])) if groups else 0

    def _stored(self, columns: Sequence[str] | None) -> Sequence[str] | None:
        """What the file has of its own that these need, as it names it."""
        if columns is None:
            return None
        if self._computed is not None:
            columns = [c for c in self._computed.stored(columns) if c in self._there]
        if self._explode is not None:
            columns = self._explode.stored([c for c in columns if c in self._there], self._lists)
        return [path for c in columns for path in self.paths.get(c, (c,))] if self._nested else columns

    def _asked(self, rows: Any, columns: Sequence[str] | None, at: int) -> Any:
        """What was decoded for these columns (None: all), as they were asked for; `at`: number of the first row."""
        rows = flat(rows) if self._nested else rows
        asked = self.schema_arrow.names if columns is None else columns
        if self._explode is not None:
            rows = self._explode.of(rows, self._lists, lambda k: f"{self._name}: {self._row_of(at + k)}")
        rows = with_numbers(rows, self._name, self._texts)
        rows = self._computed.of(rows, asked, self._name) if self._computed else rows
        return rows if self._explode is None else rows.select([c for c in rows.schema.names if c in asked])

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
    """A RecordBatch or Table with the fields of its objects, and lists of those of its lists of objects, as columns of
    their own; itself where it has no objects."""
    if not _has_objects(rows.schema):
        return rows
    columns = rows.columns
    while any(_is_object(column.type) for column in columns):
        columns = [part for column in columns for part in _parts(column)]
    return type(rows).from_arrays(columns, schema=_flat_schema(rows.schema))


def with_numbers(rows: Any, where: object, texts: Collection[str] = ()) -> Any:
    """Decimals of a RecordBatch or Table as numbers, and integers of columns in `texts` as text. Raises UserError 65
    where a decimal has more than 64 bits."""
    kinds = [_read_as(f, texts) for f in rows.schema]
    if kinds == rows.schema.types:
        return rows
    columns = []
    for name, column, kind in zip(rows.schema.names, rows.columns, kinds, strict=True):
        try:
            columns.append(column.cast(kind))
        except pa.ArrowInvalid:
            what = f"{where}: column {name} is {column.type}, with numbers of more than 64 bits"
            raise UserError(what, "write them as text") from None
    return type(rows).from_arrays(columns, rows.schema.names)


def _parts(column: Any) -> list[Any]:
    if types.is_struct(column.type):
        return column.flatten()  # type: ignore[no-any-return]
    if not _is_object(column.type):
        return [column]
    if isinstance(column, pa.ChunkedArray):
        chunks = [_lists_of_fields(chunk) for chunk in column.chunks] or [_lists_of_fields(pa.array([], column.type))]
        return [pa.chunked_array(parts) for parts in zip(*chunks, strict=True)]
    return _lists_of_fields(column)


def _lists_of_fields(lists: pa.Array) -> list[pa.Array]:
    """Of lists of objects, or of such lists, lists of each field."""
    large, ends = types.is_large_list(lists.type), pc.cumulative_sum(pc.list_value_length(lists).fill_null(0))
    whole = pa.int64() if large else pa.int32()
    offsets = pa.concat_arrays([pa.array([0], whole), ends.cast(whole)])
    make = pa.LargeListArray if large else pa.ListArray
    fields = [field.type for field in _fields(pa.field("list", lists.type))]
    held = pc.list_flatten(lists)
    values = held.flatten() if types.is_struct(held.type) else _lists_of_fields(held)
    return [
        make.from_arrays(offsets, part, type=kind, mask=lists.is_null())
        for part, kind in zip(values, fields, strict=True)
    ]


def _is_object(kind: pa.DataType) -> bool:
    """Whether it is an object (a struct), a list of objects, or a list of such lists."""
    return bool(types.is_struct(kind) or (is_list(kind) and _is_object(kind.value_type)))


def _read_as(field: pa.Field, texts: Collection[str]) -> pa.DataType:
    """What a column, or what its lists hold, is read as. A decimal is a number, as warehouses write every number so:
    int64 without decimals, else float64; an integer of a column in `texts` is text; any other type is as it is."""
    kind, of_lists = field.type, is_list(field.type)
    held = kind.value_type if of_lists else kind
    if types.is_decimal(held):
        held = pa.int64() if held.scale <= 0 else pa.float64()
    if types.is_integer(held) and field.name in texts:
        held = pa.string()
    if held == (kind.value_type if of_lists else kind):
        return kind
    return (pa.large_list if types.is_large_list(kind) else pa.list_)(held) if of_lists else held


def _has_objects(schema: pa.Schema) -> bool:
    return any(map(_is_object, schema.types))


def _fields(field: pa.Field) -> list[pa.Field]:
    """The columns of an object or a list of objects; of anything else itself."""
    if types.is_struct(field.type):
        return field.flatten()  # type: ignore[no-any-return]
    if not _is_object(field.type):
        return [field]
    make = pa.large_list if types.is_large_list(field.type) else pa.list_
    parts = _fields(pa.field(field.name, field.type.value_type, nullable=True))
    return [pa.field(part.name, make(pa.field("item", part.type))) for part in parts]


def _flat_schema(schema: pa.Schema) -> pa.Schema:
    fields = list(schema)
    while any(_is_object(field.type) for field in fields):
        fields = [part for field in fields for part in _fields(field)]
    return pa.schema(fields)


def _paths(schema: pa.Schema, nested: bool, meta: pq.FileMetaData) -> dict[str, tuple[str, ...]]:
    """The leaves of each column, as the file's metadata names them: they follow the schema's order."""
    out: dict[str, tuple[str, ...]] = {}
    at = 0
    for field in _flat_schema(schema) if nested else schema:
        many = _leaves(field.type)
        if at + many > meta.num_columns:
            return {}
        out[field.name] = tuple(meta.schema.column(k).path for k in range(at, at + many))
        at += many
    return out


def _leaves(kind: pa.DataType) -> int:
    if types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    if types.is_struct(kind):
        return sum(_leaves(field.type) for field in kind)
    if is_list(kind):
        return _leaves(kind.value_type)
    return 1
