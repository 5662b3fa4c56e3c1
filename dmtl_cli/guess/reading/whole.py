"""All of a table in one pass: the rows of each day, and a sample of rows from all of its places."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import polars as pl
import pyarrow as pa

from dmtl_cli.data.log.formats import lake
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.data.log.values.types import formatted
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import is_field, opened
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import DAYS, is_id, local_days, time_unit
from dmtl_cli.guess.reading.files import PARQUET
from dmtl_cli.guess.reading.rows import as_text, hashes_in, of_group, parts
from dmtl_cli.guess.reading.tables import ROWS, Table, filled, looked_at
from dmtl_cli.guess.reading.texts import joined

_PLACES = 16  # of a sample
_DAY = ":day"
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")  # that data.users.partition takes
_Piece = Callable[[int], pl.DataFrame]  # at most so many rows of one place


def read_whole(table: Table, time: str, unit: str, zone: str) -> tuple[Table, dict[dt.date, int]]:
    """The table with rows of up to 16 places, and the rows of each day.

    One pass: of Parquet only the column of times is read beside the sample, of others every row.

    Args:
        time: the column that tells the day, with its `values.time_unit` and the zone in which days are cut.

    Raises:
        UserError: 65 a file is damaged; 66 one is gone; 74 the storage fails.
    """
    sampled, days, formats = _Sample(), dict[dt.date, int](), table.written.formats
    of_groups = table.files.form == PARQUET and not is_field(time, table.objects)
    for times, piece in (_parquet if of_groups else _rows)(table, time):
        if times is not None:
            known = _days(times, unit, zone, formats.get(time)).drop_nulls()
            for day, rows in known.value_counts(name=":n").iter_rows():
                days[day] = days.get(day, 0) + rows
        sampled.take(piece)
    pieces = sampled.pieces
    if not pieces:
        return table, days
    frames = [piece(max(1, ROWS // len(pieces))) for piece in pieces]
    hashes = tuple(dict.fromkeys((*table.hashes, *hashes_in(frames))))
    rows = joined([as_text(frame, hashes) for frame in frames])
    return looked_at(replace(table, frame=rows, hashes=hashes)), dict(sorted(days.items()))


def _days(times: pl.Series, unit: str, zone: str, kind: str | None) -> pl.Series:
    """The day of each time as the file has it.

    Args:
        kind: the type that reads it, where it is text in a format of its own.
    """
    if kind is not None:
        times = formatted(times, kind)
    elif times.dtype == pl.String and unit not in ("text", "day", "yyyymmdd"):
        times = times.cast(pl.Float64, strict=False)
    return local_days(times, unit, zone)


def by_days(table: Table, roles: Roles, zone: str) -> Table:
    """A Delta or Iceberg table in which a column of days tells the rows of a user or an item apart, as one of days; any
    other table as it is. Days hold the number of their rows in place of bytes. Raises what `read_whole` does."""
    column = _day_of_rows(table.frame, roles) if table.files.form in lake.LAKES else None
    unit = None if column is None else time_unit(table.frame[column])
    if column is None or unit is None:
        return table
    found, days = read_whole(table, column, unit, zone)
    day = local_days(found.frame[column], unit, zone).alias(_DAY)
    frame = found.frame.with_columns(day).drop_nulls(_DAY).sort(_DAY, descending=True, maintain_order=True)
    pieces = [
        (of, filled(part.drop(column, _DAY)), len(part)) for (of,), part in frame.group_by(_DAY, maintain_order=True)
    ]
    files = replace(found.files, partition=column, days=tuple(days.items()))
    return replace(found, files=files, frame=frame.drop(column, _DAY), day=max(days), pieces=tuple(reversed(pieces)))


def _day_of_rows(frame: pl.DataFrame, roles: Roles) -> str | None:
    """The column of days of which an id has one row each, where an id has several rows."""
    named = words.USER + words.ITEM
    keys = [c for c in frame.columns if is_id(frame[c]) and (c in roles.ids or words.by_name(c, named))]
    days = [c for c in frame.columns if time_unit(frame[c]) in DAYS and not frame[c].null_count()]
    days = [c for c in days if _NAME.fullmatch(c)]
    for day in sorted(days, key=lambda c: -words.by_name(c, words.TIME)):
        for key in keys:
            rows = frame.select(key, day).drop_nulls()
            if rows[key].n_unique() < len(rows) == rows.n_unique():
                return day
    return None


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


def _rows(table: Table, time: str) -> Iterator[tuple[pl.Series | None, _Piece]]:
    """(times, rows) of each part of files of which all columns are read at once."""
    store, files = Store(table.root), table.files
    if files.form == PARQUET:
        frames = (rows.frame for path, _ in files.files for rows in lake.batches(store.file(path)))
    elif files.form in lake.LAKES:
        live = lake.files_of(files.form, table.root, store, files.path)
        frames = (rows.frame for file in live for rows in file.rows())
    else:
        names = table.names
        frames = (part for path, _ in files.files for part in parts(store.file(path), table.written, names))
    for frame in frames:
        whole = opened(frame, table.objects, files.name, words.DATABASES)[0] if is_field(time, table.objects) else frame
        yield whole[time] if time in whole.columns else None, frame.head


def _parquet(table: Table, time: str) -> Iterator[tuple[pl.Series | None, _Piece]]:
    """(times, first rows) of each row group. Rows are read where the sample takes them."""
    store = Store(table.root)
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
                yield times, partial(of_group, file, group)
