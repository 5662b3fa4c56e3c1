"""A table of the log as its files are: which columns they have, of which types, and what of it is missing.

A column may be missing in some files (null there), of Null type, or of types that have one in common (int32 and
int64, int64 and double); anything else is refused here, once, with file and column. Its rows: see `rows`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from dmtl_cli.config.data import Data
from dmtl_cli.config.errors import UserError, did_you_mean
from dmtl_cli.config.expressions import null_told_of
from dmtl_cli.config.table import WHERE
from dmtl_cli.config.table import Table as Section
from dmtl_cli.data.log.files.day_files import changed_error
from dmtl_cli.data.log.formats.parquet import Parquet
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.values import column_types
from dmtl_cli.data.log.values.computed import Computed

_LISTED = 12  # columns that a message lists; of more it gives the number


@dataclass(frozen=True)
class Footer:
    """The columns and row groups of a Parquet file."""

    schema: pa.Schema
    rows: tuple[int, ...]
    """rows of each row group; of lists that are exploded their elements"""
    meta: pq.FileMetaData
    paths: dict[str, tuple[str, ...]]
    """leaves of each column, as `meta` names them"""
    exploded: frozenset[str]
    """leaves of the lists that are exploded"""

    @staticmethod
    def read(file: File) -> Footer:
        """Raises UserError as `File.open`."""
        with file.open() as parquet:
            return Footer(parquet.schema_arrow, parquet.rows, parquet.metadata, parquet.paths, parquet.exploded)


class Table:
    """The columns of a table in one or more files.

    Args:
        files: at least one.
        numbers: columns that are read as numbers alone, and so may be rounded to float64.
    """

    def __init__(self, files: Sequence[File], numbers: Collection[str] = ()) -> None:
        self.footers = {file: Footer.read(file) for file in files}
        self.numbers = frozenset(numbers)

    @property
    def files(self) -> list[File]:
        return list(self.footers)

    @property
    def where(self) -> str:
        """For messages."""
        first, *more = self.footers
        return f"{first}{f' and {len(more)} more' if more else ''}"

    def has(self, column: str) -> bool:
        return any(column in footer.schema.names for footer in self.footers.values())

    def has_in(self, file: File, column: str) -> bool:
        return column in self.footers[file].schema.names

    def lists_in(self, file: File, columns: Collection[str]) -> list[str]:
        """Those of the columns that hold lists in the file."""
        schema = self.footers[file].schema
        return [c for c in columns if c in schema.names and column_types.is_list(schema.field(c).type)]

    def require(self, column: str, asked: str) -> None:
        """Raises UserError 65 where no file has the column, or one that it is computed of. `asked`: the message's
        "data.events.click expects"."""
        if not self.has(column):
            raise UserError(f"{self.where}: {missing(column, asked, [self])}")
        for source in self._sources(column):
            if self._computed.makes(source) or not self.has(source):  # type: ignore[union-attr]
                raise self._computed.refusal(column, source, self._names(), self.where)  # type: ignore[union-attr]

    @property
    def _computed(self) -> Computed | None:
        return self.files[0].computed

    def _sources(self, column: str) -> list[str]:
        """The files' columns that one is computed of; none of one that they have."""
        return self._computed.stored([column]) if self._computed and self.makes(column) else []

    def makes(self, column: str) -> bool:
        """Whether a column is computed of those of the files."""
        return self._computed is not None and self._computed.makes(column)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for footer in self.footers.values() for name in footer.schema.names))

    def require_everywhere(self, column: str, asked: str, but: Collection[str] = ()) -> None:
        """Raises UserError 65 where one of the files lacks the column, or one that it is computed of, `but` some."""
        sources = [source for source in self._sources(column) if source not in but]
        if len(sources) == len(self._sources(column)):
            self.require(column, asked)
        for source in sources:
            self.require_everywhere(source, self._computed.asked(column))  # type: ignore[union-attr]
        for file in self.footers:
            if not self.has_in(file, column):
                have = next(str(other) for other in self.footers if self.has_in(other, column))
                what = f"{file}: {asked} column {column}, which is not in it but in {have}"
                raise UserError(what, "write it in all files")

    def require_ids(self, column: str) -> None:
        """Raises UserError 65 where ids are integers in one file and something else in another."""
        first: tuple[File, pa.DataType] | None = None
        for file, kind in self._types(column):
            if first is None:
                first = file, kind
            elif _id_kind(kind) != _id_kind(first[1]):
                raise _disagree(file, column, kind, *first, "write ids as integers, or as text, in all files")

    def type(self, column: str) -> pa.DataType:
        """The type that fits the column's values in all files.

        Raises:
            UserError: 65 there is no such type.
        """
        found = list(self._types(column))
        if not found:
            return pa.null()
        first, whole = found[0]
        for file, kind in found[1:]:
            if kind != whole:
                wider = _unified(whole, kind, column in self.numbers)
                if wider is None:
                    raise _disagree(file, column, kind, first, whole, "write one type in all files")
                whole = wider
        return whole

    def is_time(self, column: str) -> bool:
        """Whether it is a date or timestamp in one of the files: another may have nulls of no type."""
        return any(types.is_date(kind) or types.is_timestamp(kind) for _, kind in self._types(column))

    def is_zoneless(self, data: Data, section: Section, column: str | None) -> bool:
        """Whether texts that a column's times were read of name no zone, by the config or, of `datetime`, by the files.
        False too of what is no text, and of text that is read as it is."""
        said = data.is_zoneless(section, column)
        return any(column in file.zoneless for file in self.files) if said is None else said

    @contextlib.contextmanager
    def open(self, file: File) -> Iterator[Parquet]:
        """Opens one of the files, as `File.open`; raises UserError 66 too where its columns have changed."""
        with file.open() as parquet:
            if not parquet.schema_arrow.equals(self.footers[file].schema):
                raise changed_error(str(file))
            yield parquet

    def fit(self, rows: pa.Table, columns: dict[str, pa.DataType], file: File) -> pa.Table:
        """Rows of one of the files, with these columns of these types; a column that the file lacks is null.

        Raises:
            UserError: 65 a value is lost in the type that the table's files have in common.
        """
        schema = rows.schema
        if all(c in schema.names and schema.field(c).type == kind for c, kind in columns.items()):
            return rows
        arrays = dict(zip(schema.names, rows.columns, strict=True))
        for column, kind in columns.items():
            if column not in arrays:
                arrays[column] = pa.nulls(len(rows), kind)
            elif arrays[column].type != kind:
                try:
                    arrays[column] = arrays[column].cast(kind, safe=column not in self.numbers)
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
                    was = f"{arrays[column].type} here, {kind} over all files"
                    raise UserError(f"{file}: column {column}: {e} ({was})", "write one type in all files") from None
        return pa.table(arrays)

    def _types(self, column: str) -> Iterator[tuple[File, pa.DataType]]:
        """(file, type) where the file has the column and its type is not Null."""
        for file, footer in self.footers.items():
            if column in footer.schema.names and not types.is_null(kind := footer.schema.field(column).type):
                yield file, kind

    def first_with(self, column: str) -> File:
        """The first file that has values of the column, else the first."""
        return next((file for file, _ in self._types(column)), self.files[0])


def missing(column: str, asked: str, tables: Sequence[Table]) -> str:
    """What a message says of a column that none of these tables has."""
    every = {name for table in tables for footer in table.footers.values() for name in footer.schema.names}
    names = sorted(every - {WHERE})
    have = f"columns: {', '.join(names)}" if len(names) <= _LISTED else f"{len(names)} columns are there"
    fields = [name for name in names if name.startswith(f"{column}.")]
    meant = f", which has fields: name one, as {fields[0]}" if fields else did_you_mean(column, names)
    return f"{asked} column {column}{meant} ({have})"


def require_condition(table: Table, section: Section, name: str, declared: Collection[str] = ()) -> None:
    """Raises UserError 65 where one of the files lacks a column that `where` names: all of its rows would be left
    out, unless it says what is asked of null.

    Args:
        declared: columns that are null where a file lacks them, as one of JSON does of which no row has a value.
    """
    if section.where:
        told = {*null_told_of(section.where)} & {*declared}
        table.require_everywhere(WHERE, f"data.{name}.where expects", told)


def _disagree(file: File, column: str, kind: pa.DataType, other: File, its: pa.DataType, hint: str) -> UserError:
    words, others = column_types.in_words(kind), column_types.in_words(its)
    if words == others:
        words, others = str(kind), str(its)
    return UserError(f"{file}: column {column} is {words}, but {others} in {other}", hint)


def _id_kind(kind: pa.DataType) -> str:
    kind = _plain(kind)
    if types.is_integer(kind):
        return "integers"
    return "text" if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) else str(kind)


def _unified(one: pa.DataType, other: pa.DataType, numbers: bool) -> pa.DataType | None:
    """A type for the values of both; None where there is none.

    Args:
        numbers: whether they are read as numbers alone: of two types, float64.
    """
    if numbers and column_types.is_number(one) and column_types.is_number(other):
        return pa.float64()
    if {types.is_boolean(one), types.is_boolean(other)} == {True, False}:
        return pa.int64() if types.is_integer(one) or types.is_integer(other) else None
    schemas = [pa.schema([("column", _plain(kind))]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def _plain(kind: pa.DataType) -> pa.DataType:
    """Text and lists of it without a dictionary, in the layout that files differ in least."""
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    return kind
