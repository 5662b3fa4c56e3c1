"""Columns of a day's files as they are there, also of those that no feature reads."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from dmtl_cli.data.log.schema import Table
from dmtl_cli.guess import samples

_ROWS = 20_000


def names_of(table: Table) -> set[str]:
    """All columns of a table."""
    return {name for footer in table.footers.values() for name in footer.schema.names}


def first_rows(table: Table, names: Sequence[str], beside: str) -> pl.DataFrame | None:
    """The first rows of some columns and of the one beside them, as far as its file has them."""
    file = table.first_with(beside)
    there = [c for c in (*names, beside) if table.has_in(file, c)]
    with table.open(file) as parquet:
        for batch in parquet.iter_batches(_ROWS, columns=there, use_threads=False):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            return samples.typed(frame) if isinstance(frame, pl.DataFrame) else None
    return None


def head_of(table: Table, column: str) -> pl.Series | None:
    """The first values of a column; None where there are none, or a file cannot be read."""
    file = table.first_with(column)
    if not table.has_in(file, column):
        return None
    with table.open(file) as parquet:
        for batch in parquet.iter_batches(_ROWS, columns=[column], use_threads=False):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            return frame[column].drop_nulls() if isinstance(frame, pl.DataFrame) and column in frame.columns else None
    return None


def whole(table: Table, column: str) -> pl.Series:
    """All values of a column that is in the first file with it."""
    found = []
    for file in table.files:
        if table.has_in(file, column):
            with table.open(file) as parquet:
                frame = pl.from_arrow(parquet.read([column], use_threads=False))
            if isinstance(frame, pl.DataFrame) and frame[column].dtype != pl.Null:
                found.append(frame[column])
    alike = [s for s in found if s.dtype == found[0].dtype]
    return pl.concat(alike).drop_nulls()
