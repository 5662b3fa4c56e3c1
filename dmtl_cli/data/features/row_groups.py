"""A few rows of a large Parquet file that is sorted by a column: only the row groups are read that may hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow.parquet as pq

from dmtl_cli.data.log.values.spool import frame_of


class _Group(NamedTuple):
    at: int
    least: Any
    most: Any
    """None with `least`: not known"""


class RowGroups:
    """Row groups of a Parquet file with the range of one column in each.

    Args:
        column: by which rows are found; the better sorted it is, the fewer are read.
        groups: those that count; default all.
    """

    def __init__(self, path: Path, column: str, groups: list[int] | None = None) -> None:
        self.path, self.column = path, column
        with pq.ParquetFile(path) as file:
            self._metadata = file.metadata
        every = range(self._metadata.num_row_groups) if groups is None else groups
        self.rows: int = sum(self._metadata.row_group(at).num_rows for at in every)
        self._groups = [_Group(at, *limits(self._metadata, at, column)) for at in every]

    def among(self, values: pl.Series, columns: list[str] | None = None) -> pl.DataFrame:
        """The rows whose value is one of some, in the order of the file.

        Args:
            values: of the column's type, without null.
            columns: default all.
        """
        wanted = values.unique().sort()
        held = [g.at for g in self._groups if g.least is None or _holds(wanted, g)]
        return self._read(held, columns).filter(pl.col(self.column).is_in(wanted.implode()))

    def first(self) -> pl.DataFrame:
        """The first row; none of a file without rows."""
        return self._read([g.at for g in self._groups[:1]], None).head(1)

    def _read(self, groups: list[int], columns: list[str] | None) -> pl.DataFrame:
        with pq.ParquetFile(self.path, metadata=self._metadata) as file:
            return frame_of(file.read_row_groups(groups, columns, use_threads=False))


def limits(metadata: pq.FileMetaData, group: int, column: str) -> tuple[Any, Any]:
    """The least and the largest value of a column in a row group; None where the file does not say.

    Raises:
        KeyError: there is no such column.
    """
    leaves = [metadata.schema.column(k).path for k in range(len(metadata.schema))]
    if column not in leaves:
        raise KeyError(f"no column {column}")
    found = metadata.row_group(group).column(leaves.index(column)).statistics
    return (found.min, found.max) if found is not None and found.has_min_max else (None, None)


def _holds(wanted: pl.Series, group: _Group) -> bool:
    at = int(wanted.search_sorted(group.least))
    return at < len(wanted) and bool(wanted[at] <= group.most)
