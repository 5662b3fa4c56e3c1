"""A table without days in its names, read from end to end: which days it has, and rows of several places."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import polars as pl
import pyarrow as pa

from dmtl_cli.data.log import lake
from dmtl_cli.data.log.source import Store
from dmtl_cli.guess import samples, types
from dmtl_cli.guess.layout import ROWS, Table
from dmtl_cli.guess.values import local_days

_PLACES = 16  # of a sample
_Piece = Callable[[int], pl.DataFrame]  # at most so many rows of one place


def read_whole(root: str, table: Table, time: str, unit: str, zone: str) -> tuple[Table, dict[dt.date, int]]:
    """The table with rows of up to 16 places, and the rows of each day.

    One pass: of Parquet only the column of times is read beside the sample, of text every row.

    Args:
        time: the column that tells the day, with its `values.time_unit` and the zone in which days are cut.

    Raises:
        UserError: 65 a file is damaged; 66 one is gone; 74 the storage fails.
    """
    sampled, days = _Sample(), dict[dt.date, int]()
    for times, piece in (_parquet if table.files.form == samples.PARQUET else _rows)(root, table, time):
        if times is not None:
            numbers = times.dtype == pl.String and unit not in ("text", "day", "yyyymmdd")
            found = local_days(times.cast(pl.Float64, strict=False) if numbers else times, unit, zone)
            for day, rows in found.drop_nulls().value_counts().iter_rows():
                days[day] = days.get(day, 0) + rows
        sampled.take(piece)
    pieces = sampled.pieces
    if not pieces:
        return table, days
    frames = [piece(max(1, ROWS // len(pieces))) for piece in pieces]
    frame, text, nulls, lists = types.joined(frames), table.text, table.nulls, table.lists
    if text is not None:
        frame, text = samples.as_typed(frame, text)
    elif table.files.form == samples.JSON:
        frame, nulls = samples.without_nulls(frame)
        frame, lists = samples.as_named(frame)
    frame, other = types.plain(frame)
    return replace(table, frame=frame, other=other, text=text, nulls=nulls, lists=lists), dict(sorted(days.items()))


class _Sample:
    """Evenly spread pieces of a stream of unknown length: of each 1, 2, 4... one, and the last."""

    def __init__(self) -> None:
        self._spread: list[_Piece] = []
        self._last: _Piece | None = None
        self._each, self._seen = 1, 0

    @property
    def pieces(self) -> list[_Piece]:
        return self._spread if self._last is None else [*self._spread, self._last]

    def take(self, piece: _Piece) -> None:
        taken = self._seen % self._each == 0
        if taken:
            self._spread.append(piece)
        self._last = None if taken else piece
        self._seen += 1
        if len(self._spread) > _PLACES:
            self._last = piece
            self._spread, self._each = self._spread[:-1:2], 2 * self._each


def _rows(root: str, table: Table, time: str) -> Iterator[tuple[pl.Series | None, _Piece]]:
    """(times, rows) of each part of text files, and of Delta and Iceberg tables."""
    store, files = Store(root), table.files
    if files.form in (samples.DELTA, samples.ICEBERG):
        live = lake.delta_files if files.form == samples.DELTA else lake.iceberg_files
        frames = (rows.frame for file in live(root, store, files.path) for rows in file.rows())
    else:
        names = tuple(table.frame.columns) if table.text and not table.text.header else None
        frames = (part for path, _ in files.files for part in samples.parts(store.file(path), table.text, names))
    for frame in frames:
        yield frame[time] if time in frame.columns else None, frame.head


def _parquet(root: str, table: Table, time: str) -> Iterator[tuple[pl.Series | None, _Piece]]:
    """(times, first rows) of each row group. Rows are read where the sample takes them."""
    store = Store(root)
    for path, _ in table.files.files:
        file = store.file(path)
        with file.open() as parquet:
            groups, there = parquet.num_row_groups, time in parquet.schema_arrow.names
            for group in range(groups):
                times = None
                if there:
                    try:
                        times = pl.Series(parquet.read_row_group(group, columns=[time], use_threads=False)[time])
                    except (pa.ArrowException, OSError) as e:
                        raise file.refusal(e, "damaged Parquet") from None
                yield times, partial(samples.of_group, file, group)
