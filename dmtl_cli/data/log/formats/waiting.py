"""Rows that wait by day until all of a source is read, and the Parquet file that a day's rows become."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.data.log.values.sizes import reblocked

WAITING = 128 << 20
"""bytes of rows that wait in memory"""
_STEP = 8_192  # rows whose bytes are counted at once
_GROUP_ROWS, _GROUP_BYTES = 131_072, 64 << 20  # of a row group, at most (but for the last step)


class Waiting:
    """Rows by part, in the order in which they came.

    Args:
        scratch: folder for those above `WAITING` bytes.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.parts: list[str] = []
        self._frames: dict[str, list[pl.DataFrame]] = {}
        self._empty: dict[str, pl.DataFrame] = {}
        self._bytes = 0

    def add(self, part: str, frame: pl.DataFrame) -> None:
        """Raises polars' SchemaError where a column has values that no type holds together."""
        if part not in self._empty:
            self.parts.append(part)
            self._empty[part] = frame.clear()
        elif self._empty[part].schema != frame.schema:
            self._empty[part] = pl.concat([self._empty[part], frame.clear()], how="diagonal_relaxed")
        self._frames.setdefault(part, []).append(frame)
        self._bytes += int(frame.estimated_size())
        if self._bytes > WAITING:
            self._spill()

    def write(self, part: str, file: Path) -> int:
        """Writes the rows of a part; the file's bytes depend on these rows alone. Returns its size in bytes."""
        schema = _arrow(self._empty[part]).schema
        with pq.ParquetWriter(file, schema, compression="zstd", store_schema=True) as writer:
            for table in _row_groups(reblocked(self._of(part), _STEP, 0)):
                writer.write_table(table.cast(schema), row_group_size=len(table))
        return file.stat().st_size

    def _of(self, part: str) -> Iterator[pl.DataFrame]:
        empty, spilled = self._empty[part], self._file(part)
        if spilled.exists():
            with pa.memory_map(str(spilled)) as raw:
                while raw.tell() < raw.size():
                    for batch in pa.ipc.open_stream(raw):
                        frame = pl.from_arrow(pa.Table.from_batches([batch]))
                        assert isinstance(frame, pl.DataFrame)
                        yield pl.concat([empty, frame], how="diagonal_relaxed")
            spilled.unlink()
        for frame in self._frames.pop(part, ()):
            yield pl.concat([empty, frame], how="diagonal_relaxed")

    def _spill(self) -> None:
        """Appends all that waits to the files of its parts, a stream of Arrow each."""
        for part, frames in self._frames.items():
            table = _arrow(pl.concat(frames, how="diagonal_relaxed"))
            with self._file(part).open("ab") as raw, pa.ipc.new_stream(raw, table.schema) as stream:
                stream.write_table(table)
        self._frames, self._bytes = {}, 0

    def _file(self, part: str) -> Path:
        return self.scratch / f"waiting-{self.parts.index(part)}.arrows"


def _row_groups(frames: Iterator[pl.DataFrame]) -> Iterator[pa.Table]:
    parts: list[pa.Table] = []
    for frame in frames:
        parts.append(_arrow(frame))
        if sum(map(len, parts)) >= _GROUP_ROWS or sum(part.nbytes for part in parts) >= _GROUP_BYTES:
            yield pa.concat_tables(parts)
            parts = []
    if parts:
        yield pa.concat_tables(parts)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
