"""The columns of the events that the config computes, of the files' or of what came of exposures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from dmtl_cli.config.errors import UserError, did_you_mean
from dmtl_cli.config.table import WHERE
from dmtl_cli.data.log.files.joined import Outcomes
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.values.computed import Beside, Computed, plain


class Joined(Computed):
    """The columns of the events that the config computes, of files or of tables of what came of exposures.

    Args:
        tables: those tables, whose columns have distinct names.
    """

    def __init__(
        self, expressions: Mapping[str, str], beside: Mapping[str, Beside], tables: Sequence[Outcomes]
    ) -> None:
        super().__init__("data.events", expressions, beside)
        self._tables_of = {column: table for table in tables for column in table.section.columns}

    def makes(self, column: str) -> bool:
        return column in self._tables_of or super().makes(column)

    def asked(self, column: str) -> str:
        table = self._tables_of.get(column)
        return f"{table.name} expects" if table else super().asked(column)

    def stored(self, columns: Collection[str]) -> list[str]:
        files = {c: self._needed_by(table) for c, table in self._tables_of.items()}
        return list(dict.fromkeys(source for c in self._named(columns) for source in files.get(c, [c])))

    def _ids_of(self, table: Outcomes) -> list[str]:
        """The files' columns of the ids that a table has, or of which these are computed."""
        return self._sources(table.section.id_column)

    def _needed_by(self, table: Outcomes) -> list[str]:
        """The files' columns of its `event_columns`."""
        return [source for c in table.event_columns for source in self._sources(c)]

    def schema(self, stored: pa.Schema, file: object) -> pa.Schema:
        for column, table in self._tables_of.items():
            if column in stored.names:
                what = f"{file}: {table.name}.columns.{column}: the file has a column of that name"
                raise UserError(what, "give the joined one another name")
        fields = [table.schema.field(column) for column, table in self._tables_of.items()]
        return super().schema(pa.schema([*stored, *fields]), file)

    def refusal(self, column: str, source: str, names: Collection[str], where: object) -> UserError:
        table = next((t for t in self._tables_of.values() if source in self._ids_of(t)), None)
        if table is not None and super().makes(table.section.id_column):
            return super().refusal(table.section.id_column, source, names, where)
        if table is None:
            return super().refusal(column, source, names, where)
        meant = did_you_mean(source, [name for name in names if not self.makes(name)])
        what = f"{where}: {table.name} expects column {source}{meant}"
        return UserError(what, "event_key names the events' column of the ids that the table has")

    def of(self, rows: Any, columns: Collection[str], file: Any) -> Any:
        asked = [c for c in self._named(columns) if c in self._tables_of and c not in rows.schema.names]
        names, arrays = [*rows.schema.names], [*rows.columns]
        for table in dict.fromkeys(self._tables_of[c] for c in asked):
            mine = [c for c in asked if self._tables_of[c] is table]
            exposures = pl.DataFrame([self._column(rows, c, columns, file) for c in table.event_columns])
            values = table.values(exposures, mine, file)
            names += mine
            arrays += [values[c].to_arrow(compat_level=pl.CompatLevel.oldest()) for c in mine]
        rows = super().of(type(rows).from_arrays(arrays, names), columns, file)
        return rows if [*columns] == rows.schema.names else rows.select([*columns])

    def _column(self, rows: Any, column: str, columns: Collection[str], file: File) -> pl.Series:
        """[n] a column of the files, null where they lack it, or one that is computed of these."""
        if super().makes(column):  # of rows that `where` leaves out nothing is computed
            made = super().of(rows, [column, *({WHERE} & {*columns})], file).column(column)
        elif column in rows.schema.names:
            made = rows.column(column)
        else:
            return pl.Series(column, [None]).new_from_index(0, len(rows))
        return plain(pl.Series(column, made))
