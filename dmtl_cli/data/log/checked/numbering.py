"""The ids of a stream of events, decoded and hashed once: what becomes of each row waits in a scratch file.

A row's id is first a code, its place among the distinct ids of a stretch of rows. Codes and the distinct ids lie in
scratch, 4 bytes a row and side and 8 an id; once all ids are known and sorted, a table per stretch turns codes into row
numbers, so that no pass after the first decodes, hashes or joins ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.data.log.checked.firsts import Firsts
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.dictionary import encoded, places
from dmtl_cli.data.log.values.spool import SpoolWriter

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]
K = TypeVar("K", bound=np.generic)


def first_places(codes: Rows, distinct: int, time: pl.Series | None) -> Ints:
    """Place of the first row of each code 0 .. distinct - 1, [distinct]: the first by time where there is one, and of
    equal times the first of the log."""
    order = np.arange(len(codes))
    if time is not None and not time.is_sorted():
        frame = pl.DataFrame({"at": order, "time": time})
        order = frame.sort("time", maintain_order=True)["at"].to_numpy()
    at = np.empty(distinct, np.int64)
    at[codes[order[::-1]]] = order[::-1]  # of a code that is written again, the last stays
    return at


class Cursor(Generic[K]):
    """Arrays one after the other, taken in pieces of any length."""

    def __init__(self, parts: Iterator[npt.NDArray[K]]) -> None:
        self._parts = parts
        self._left: npt.NDArray[K] | None = None

    def take(self, n: int) -> npt.NDArray[K]:
        """The next n values; fewer where there are no more."""
        parts = [] if self._left is None else [self._left]
        while (not parts or sum(map(len, parts)) < n) and (more := next(self._parts, None)) is not None:
            parts.append(more)
        whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
        self._left = whole[n:]
        return whole[:n]


class Numbering:
    """The ids of one side of a stream: their first events, and in the end the row number of each event's id.

    Args:
        scratch: folder of its files.
        name: theirs, of this side.
    """

    def __init__(self, scratch: Path, name: str) -> None:
        self.firsts = Firsts()
        self._file = scratch / f"{name}.codes"
        self._file.write_bytes(b"")
        self._distinct = SpoolWriter(scratch / f"{name}.arrow", 1, 2**31)
        self._lengths: list[int] = []
        self._parts: list[tuple[pl.Series, pl.Series | None]] = []
        self._waiting = self._read = 0

    def add(self, ids: pl.Series, time: pl.Series | None) -> None:
        """Rows in log order: their ids, and where the log has one their time."""
        self._parts.append((ids, time))
        self._waiting += len(ids)
        if self._waiting >= sizes.MERGE:
            self._encode()

    def done(self) -> Firsts:
        """The first events of all ids that were added."""
        if self._waiting:
            self._encode()
        return self.firsts

    def _encode(self) -> None:
        codes, distinct = encoded(pl.concat([ids for ids, _ in self._parts]))
        times = [time for _, time in self._parts if time is not None]
        time = pl.concat(times) if times else None
        with self._file.open("ab") as file:
            file.write(codes.view(np.uint8).data)  # numpy's tofile does not say that the disk is full
        self._distinct.add(pl.DataFrame({ID: distinct}), np.zeros(len(distinct), np.int64))
        self._lengths.append(len(codes))
        at = first_places(codes, len(distinct), time)
        self.firsts.add(distinct, at + self._read, None if time is None else time.gather(at))
        self._read += len(codes)
        self._parts, self._waiting = [], 0

    def rows(self, ids: pl.Series) -> Iterator[Rows]:
        """Stretches of the stream: the place of each event's id in the sorted distinct ids. Its files are gone then."""
        spool = self._distinct.done()
        with self._file.open("rb") as file:
            for length, frame in zip(self._lengths, spool.read(spool.whole, 1), strict=True):
                yield places(ids, frame[ID]).take(np.fromfile(file, np.int32, length))
        for file_ in (self._file, spool.file):
            file_.unlink(missing_ok=True)
