"""Columns of a table that a config computes from others of their row: SQL expressions, by Polars."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from dmtl_cli.config.errors import UserError, did_you_mean

_ALONE = 8  # rows of a block that are computed by themselves too, to see that no other row matters
_QUOTES = "names are as the file has them, in double quotes where they have other signs than letters, digits and _"
_TYPES = "columns of csv are text until data.types names another type; CAST(x AS DOUBLE) makes a number of text"


class Computed:
    """What the columns of one table are computed by.

    Args:
        name: of the config's section, for messages: data.events.computed.
        expressions: by the column's name, each naming at least one column of the files.
    """

    def __init__(self, name: str, expressions: Mapping[str, str]) -> None:
        self.name = name
        self.expressions = {column: pl.sql_expr(text).alias(column) for column, text in expressions.items()}
        self.sources = {column: sorted({*e.meta.root_names()}) for column, e in self.expressions.items()}

    def stored(self, columns: Collection[str]) -> list[str]:
        """The files' columns that these need, in the order of their first use."""
        return list(dict.fromkeys(c for column in columns for c in self.sources.get(column, [column])))

    def schema(self, stored: pa.Schema, file: object) -> pa.Schema:
        """The columns of a file, and behind them those that are computed of it.

        Raises:
            UserError: 65 it lacks one that is needed, has one of a name that is computed, or of a type that does not
                fit.
        """
        for column, sources in self.sources.items():
            if column in stored.names:
                what = f"{file}: {self.name}.{column}: the file has a column of that name"
                raise UserError(what, "give the computed one another name")
            if absent := [c for c in sources if c not in stored.names]:
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
        frame = pl.DataFrame({c: pl.Series(rows.column(c)) for c in self.stored(mine)})
        arrays = [self._made(frame, c, file) if c in mine else rows.column(c) for c in columns]
        return type(rows).from_arrays(arrays, list(columns))

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
