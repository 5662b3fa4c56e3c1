"""Tables and arrays that are too large to be held: written part by part, read from a file that is mapped into memory.

What is mapped takes memory only while the system has nothing better to do with it, and a row is read when it is asked
for. The file has no name once it is mapped, so nothing has to be cleaned up, whatever ends the process.
"""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

K = TypeVar("K", bound=np.generic)


class ArrayFile(Generic[K]):
    """Arrays [n, ...] of one type and one shape but for n, one after the other.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._rows = 0
        self._like: npt.NDArray[K] | None = None

    def add(self, array: npt.NDArray[K]) -> None:
        """Raises OSError: the disk is full."""
        left = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        while len(left):  # numpy's tofile does not say why it wrote less
            left = left[self._file.write(left) :]
        self._rows += len(array)
        self._like = np.empty((0, *array.shape[1:]), array.dtype) if self._like is None else self._like

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # else there was no room for one
            self._file.close()  # a mapping outlives its file

    def done(self) -> npt.NDArray[K]:
        """All that were added, which cannot be written to."""
        assert self._like is not None
        shape = (self._rows, *self._like.shape[1:])
        if not np.prod(shape):
            return np.zeros(shape, self._like.dtype)
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self._like.dtype).reshape(shape)


class TableFile:
    """Frames of one schema, one after the other.

    Args:
        file: is gone when the table is read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._writer: pa.RecordBatchFileWriter | None = None

    def add(self, frame: pl.DataFrame) -> None:
        """Raises OSError: the disk is full."""
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._sink: Any = pa.OSFile(str(self._file), "wb")
            self._writer, self._schema = pa.ipc.new_file(self._sink, table.schema), table.schema
        self._writer.write_table(table.combine_chunks())

    def done(self) -> pl.DataFrame:
        """All rows, in as many chunks as frames were added. At least one was."""
        assert self._writer is not None
        self._writer.close()
        self._sink.close()
        table = pa.ipc.open_file(pa.memory_map(str(self._file))).read_all()
        self._file.unlink()
        frame = pl.from_arrow(table, rechunk=False)
        assert isinstance(frame, pl.DataFrame)
        return frame
