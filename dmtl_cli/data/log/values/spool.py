"""Rows on disk by bucket: written in the order they come, read bucket by bucket."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dmtl_cli.data.log.values.hashing import splitmix64

Ints = npt.NDArray[np.int64]


def bucket_of(key: npt.NDArray[Any], buckets: int) -> Ints:
    """[n] a bucket 0 .. buckets - 1 for each integer: a fixed random draw, the same wherever it is drawn."""
    return (splitmix64(key) % np.uint64(buckets)).astype(np.int64)


@dataclass(frozen=True)
class Spool:
    """An Arrow file in which each record batch has rows of one bucket, in the order they were written."""

    file: Path
    batches: tuple[Ints, ...]
    """numbers of the record batches of each bucket, ascending"""
    further: tuple[tuple[int, Path], ...] = ()
    """files of the ranks after this one, which go on where it ends, each with the number of its first record batch"""

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def whole(self) -> Ints:
        """Numbers of all record batches, in the order they were written."""
        return np.arange(sum(map(len, self.batches)))

    @staticmethod
    def concat(parts: Sequence[Spool]) -> Spool:
        """The rows of one spool after those of another."""
        starts = list(itertools.accumulate((len(part.whole) for part in parts), initial=0))
        batches = (
            np.concatenate([b + at for b, at in zip(each, starts, strict=False)])
            for each in zip(*(part.batches for part in parts), strict=True)
        )
        files = [(at, part.file) for at, part in zip(starts, parts, strict=False) if len(part.whole)]
        return Spool(files[0][1], tuple(batches), tuple(files[1:])) if files else parts[0]

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in (self.file, *(f for _, f in self.further)))

    def read(self, batches: Ints, rows: int, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        """Record batches one after the other, as frames of as many of them as it takes to have `rows` rows."""
        if not len(batches):
            return
        parts: list[pa.RecordBatch] = []
        count = 0
        options = pa.ipc.IpcReadOptions()
        with ExitStack() as stack:

            @functools.cache
            def reader(file: Path) -> pa.RecordBatchFileReader:
                source = stack.enter_context(pa.OSFile(str(file)))
                fields = options
                if columns is not None:
                    schema = pa.ipc.open_file(source).schema
                    fields = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(c) for c in columns])
                return stack.enter_context(pa.ipc.open_file(source, options=fields))

            for k in batches:
                start, file = max((f for f in self.further if f[0] <= k), default=(0, self.file))
                parts.append(reader(file).get_batch(int(k) - start))
                count += len(parts[-1])
                if count >= rows:
                    yield frame_of(pa.Table.from_batches(parts))
                    parts, count = [], 0
        if parts:
            yield frame_of(pa.Table.from_batches(parts))

    def bucket(self, k: int, columns: list[str] | None = None) -> pl.DataFrame | None:
        """All rows of a bucket; None where it has none."""
        return next(self.read(self.batches[k], 2**63, columns), None)


class SpoolWriter:
    """Writes rows into the buckets of a file. A caller that brings many rows at once gets large record batches.

    Args:
        buckets: how many there are.
        rows: at most so many in a record batch.
    """

    def __init__(self, file: Path, buckets: int, rows: int) -> None:
        self.file, self.rows = file, rows
        self._batches: list[list[int]] = [[] for _ in range(buckets)]
        self._written = 0
        self._writer: pa.RecordBatchFileWriter | None = None

    def add(self, frame: pl.DataFrame, bucket: Ints) -> None:
        """Rows and the bucket of each, [n]; the columns are the same each time."""
        counts = np.bincount(bucket, minlength=len(self._batches))
        if counts.max(initial=0) < len(frame):
            frame = frame[np.argsort(bucket, kind="stable")]
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._sink, self._schema = pa.OSFile(str(self.file), "wb"), table.schema
            self._writer = pa.ipc.new_file(self._sink, table.schema, options=options)
        table = table.cast(self._schema)
        end = 0
        for k in np.flatnonzero(counts):
            start, end = end, end + int(counts[k])
            for at in range(start, end, self.rows):
                self._writer.write_table(table.slice(at, min(self.rows, end - at)))
                self._batches[k].append(self._written)
                self._written += 1

    def done(self) -> Spool:
        """What was written; there is no file where no row was."""
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
        return Spool(self.file, tuple(np.array(b, np.int64) for b in self._batches))


def frame_of(table: pa.Table) -> pl.DataFrame:
    """The same columns, without a copy where both have one layout."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
