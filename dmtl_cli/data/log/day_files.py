"""Which files have rows of a day: found once, identified by their digest, and the same when reading has ended."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.data import Data, SideTable
from dmtl_cli.config.days import folder_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.checks import SECONDS, Checked
from dmtl_cli.data.log.source import File, Store
from dmtl_cli.runs.ranks import Ranks

_Span = tuple[dt.date, dt.date]


@dataclass(frozen=True)
class DayFiles:
    """The files of a day as a stage found them. They are what its key names, and what it reads."""

    day: dt.date
    events: tuple[File, ...]
    tables: dict[str, tuple[File, ...]]
    """files of the side tables, by side (user, item); a side without a table is absent"""
    groups: dict[File, range]
    """row groups that may have rows of the day, by file; a file not named (all, without a date column) is read whole"""
    digest: str
    """data.digest: footer or full"""
    identities: list[dict[str, Any]] = field(default_factory=list)
    """path below data.root, rows, bytes and digest of each file, events first"""

    @property
    def every(self) -> list[File]:
        return [*self.events, *(file for files in self.tables.values() for file in files)]

    def identify(self) -> DayFiles:
        """The same files with their identities."""
        full = self.digest == "full"
        found = [file.identify(full) for file in self.every]
        return DayFiles(self.day, self.events, self.tables, self.groups, self.digest, found)

    def check_same(self, ranks: Ranks) -> None:
        """Raises UserError 66 where the ranks of a run found different files."""
        every = ranks.gather_objects(self.identities)
        if any(found != every[0] for found in every):
            raise changed_error(f"events: day {self.day}")

    def check_unchanged(self, ranks: Ranks) -> None:
        """Raises UserError 66 where a file differs from what was identified: size, time of change, rows or digest.
        Each rank looks at a share."""
        mine = [pair for k, pair in enumerate(zip(self.every, self.identities, strict=True)) if ranks.mine(k)]
        folders = {str(PurePosixPath(file.path).parent): file.store for file, _ in mine}
        there = {file for folder, store in folders.items() for file in store.files(folder)}
        other = [str(f) for f, was in mine if f.identify(self.digest == "full") != was or f not in there]
        for found in ranks.gather_objects(other):
            if found:
                raise changed_error(found[0])


def changed_error(what: str) -> UserError:
    return UserError(f"{what} changed while it was read", "retry later", Exit.NO_INPUT)


class DayFinder:
    """Looks for the files of a day below data.root.

    Every method raises UserError: 66 the day, a folder or a file is not there, 74 the storage fails.
    """

    def __init__(self, data: Data) -> None:
        self.data, self.store = data, Store(data.root)
        self._spans: dict[File, list[_Span | None]] = {}

    def find(self, day: dt.date, tables: dt.date | None = None) -> DayFiles:
        """The day's files as they are now, identified.

        Args:
            tables: the day whose side tables to take where they are there; else, and by default, those of `day`.
        """
        events, groups = self._event_files(day)
        named = {"user": self.data.users, "item": self.data.items}
        sides = {s: tuple(self._table_files(t, day, tables)) for s, t in named.items() if t is not None}
        return DayFiles(day, tuple(events), sides, groups, self.data.digest).identify()

    def rows(self, found: DayFiles) -> int:
        """Rows of a day that was found, by footers alone: a file of several days has as many of each."""
        total = 0.0
        for file, identity in zip(found.events, found.identities, strict=False):
            total += identity["rows"] * self._share(file, found.groups[file]) if found.groups else identity["rows"]
        return round(total)

    def _share(self, file: File, groups: range) -> float:
        """A day's share of a file's rows, if its row groups are alike and so are the days of one."""
        spans = self._spans[file]
        known = [span for k in groups if (span := spans[k]) is not None]
        days = (max(b for _, b in known) - min(a for a, _ in known)).days + 1 if known else 1
        return len(groups) / len(spans) / days

    def _table_files(self, table: SideTable, day: dt.date, other: dt.date | None) -> list[File]:
        folders = self._folders(table.path, table.partition).get(other, []) if other else []
        files = [f for folder in folders for f in self.store.files(folder)]
        return files or self._files(table.path, table.partition, day, table.path)

    def _event_files(self, day: dt.date) -> tuple[list[File], dict[File, range]]:
        """The files that may have rows of the day, and which of their row groups."""
        events = self.data.events
        files = self._files(events.path, events.hive_key, day, "events")
        if events.date_column is None:
            return files, {}
        groups = {file: self._groups(file, day, events.date_column) for file in files}
        groups = {file: some for file, some in groups.items() if some}
        if not groups:
            where = f"no file of {self.store.where(events.path)} has a {events.date_column} of day {day}"
            raise UserError(f"events: {where}", "retry when the day has arrived", Exit.NO_INPUT)
        return list(groups), groups

    def _groups(self, file: File, day: dt.date, column: str) -> range:
        """The file's row groups from the first to the last that may have rows of the day."""
        if file not in self._spans:
            with file.open() as parquet:
                self._spans[file] = _spans(parquet, file, column, self.data.timezone)
        may = [k for k, span in enumerate(self._spans[file]) if span is None or span[0] <= day <= span[1]]
        return range(may[0], may[-1] + 1) if may else range(0)

    def _folders(self, path: str, key: str | None) -> dict[dt.date, list[str]]:
        found: dict[dt.date, list[str]] = {}
        for folder in self.store.folders(path) if key else []:
            name, _, value = PurePosixPath(folder).name.partition("=")
            if name == key and (day := folder_day(value)) is not None:
                found.setdefault(day, []).append(folder)
        return found

    def _files(self, path: str, key: str | None, day: dt.date, what: str) -> list[File]:
        """The files of a table: all below `path`, or of the day's folder there. `what` names the table in messages."""
        if not self.store.is_folder(path):
            hint = "set data.root and the path below it (a local one is relative to the current folder)"
            raise self._no_folder(path, what, "", hint)
        folders = [path]
        if key is not None:
            by_day = self._folders(path, key)
            if day not in by_day:
                have, hint = f"no {key}=YYYY-MM-DD folder there", "retry when the day has arrived"
                if by_day:
                    have = f"the log has {min(by_day)} .. {max(by_day)}"
                elif other := next((n for f in self.store.folders(path) if "=" in (n := PurePosixPath(f).name)), None):
                    have, hint = f"{have}, but {other}", f"set partition: {other.partition('=')[0]} of this table"
                raise self._no_folder(f"{path}/{key}={day}", what, f" ({have})", hint)
            folders = by_day[day]
        files = [f for folder in folders for f in self.store.files(folder)]
        if not files:
            where = self.store.where(folders[0])
            raise UserError(f"{what}: {where} contains no *.parquet file", "retry when it is written", Exit.NO_INPUT)
        return files

    def _no_folder(self, path: str, what: str, have: str, hint: str) -> UserError:
        if file := self.store.file_in_place_of(path):
            said = f"{what}: {file} is a file, expected a folder of *.parquet files"
            return UserError(said, "name the folder that contains it", Exit.NO_INPUT)
        return UserError(f"{what}: no folder {self.store.where(path)}{have}", hint, Exit.NO_INPUT)


# -- what a footer says of a date column -------------------------------------------------------------------------------


def _spans(parquet: pq.ParquetFile, file: File, column: str, timezone: str | None) -> list[_Span | None]:
    """First and last day of each row group by its statistics; None where they do not say."""
    meta = parquet.metadata
    at = next((k for k in range(meta.num_columns) if meta.schema.column(k).path == column), None)
    if at is None:
        return [None] * meta.num_row_groups
    kind = parquet.schema_arrow.field(column).type
    found = (meta.row_group(g).column(at).statistics for g in range(meta.num_row_groups))
    return [_span(s, kind, file, column, timezone) if s is not None and s.has_min_max else None for s in found]


def _span(stats: pq.Statistics, kind: pa.DataType, file: File, column: str, timezone: str | None) -> _Span | None:
    try:
        if pa.types.is_timestamp(kind):  # as a Python datetime, nanoseconds do not fit
            ends = pa.array([stats.min_raw, stats.max_raw], pa.int64())
        else:
            ends = pa.array([stats.min, stats.max])
        frame = pl.DataFrame({column: pl.from_arrow(ends.cast(kind))})
        first, last = Checked(frame, file, 0).date(column, timezone)
    except (UserError, pa.ArrowException, pl.exceptions.PolarsError, ValueError, OverflowError):
        return None  # reading the file says what is wrong, and in which row
    low, high = frame[column]
    if isinstance(low, int) and low <= SECONDS < high:
        return None  # seconds and milliseconds: not in order of time
    if isinstance(low, str) and (len(low) != len(high) or low[:4] != high[:4]):  # 2026-12-31 sorts before 20260101
        return first.replace(month=1, day=1), last.replace(month=12, day=31)
    return first, last
