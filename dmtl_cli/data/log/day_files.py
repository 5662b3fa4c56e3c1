"""Which files have rows of a day: found once, identified by their digest, and the same when reading has ended."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.days import folder_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.checks import SECONDS, Checked
from dmtl_cli.data.log.source import File, Store
from dmtl_cli.runs.ranks import Ranks

FULL = 256 << 20
"""bytes up to which `digest: auto` hashes all of a file"""
SUCCESS = "_SUCCESS"
"""what Spark and Hadoop write into a folder that is finished"""
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
    """data.digest: auto, footer or full"""
    identities: list[dict[str, Any]] = field(default_factory=list)
    """path below data.root, rows, bytes and digest of each file, events first"""

    @property
    def every(self) -> list[File]:
        return [*self.events, *(file for files in self.tables.values() for file in files)]

    def identify(self) -> DayFiles:
        """The same files with their identities."""
        found = [self._identity(file) for file in self.every]
        return DayFiles(self.day, self.events, self.tables, self.groups, self.digest, found)

    def check_distinct(self) -> None:
        """Raises UserError 65 where two files of a table have the same bytes; files without rows may."""
        begin = 0
        for files in (self.events, *self.tables.values()):
            identities = self.identities[begin : (begin := begin + len(files))]
            if twins := _twins(files, identities):
                one, other = twins
                raise UserError(f"{one} and {other} have the same bytes", "remove one of them, or rows count twice")

    def _identity(self, file: File) -> dict[str, Any]:
        return file.identify(full=self.digest == "full" or (self.digest == "auto" and file.size <= FULL))

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
        other = [str(f) for f, was in mine if self._identity(f) != was or f not in there]
        for found in ranks.gather_objects(other):
            if found:
                raise changed_error(found[0])


def _twins(files: Sequence[File], identities: Sequence[dict[str, Any]]) -> tuple[File, File] | None:
    """Two files with rows and the same bytes, if there are. Where digests are of footers, equal ones are a suspicion:
    all bytes decide."""
    alike: dict[tuple[str, int], list[File]] = {}
    for file, identity in zip(files, identities, strict=True):
        if identity["rows"]:
            alike.setdefault((identity["digest"], identity["bytes"]), []).append(file)
    for (digest, _), some in alike.items():
        first: dict[str, File] = {}
        for file in some if len(some) > 1 else ():
            whole = file.identify(full=True)["digest"] if digest.startswith("footer:") else digest
            if (other := first.setdefault(whole, file)) is not file:
                return other, file
    return None


def changed_error(what: str) -> UserError:
    return UserError(f"{what} changed while it was read", "retry later", Exit.NO_INPUT)


class DayFinder:
    """Looks for the files of a day below data.root.

    Every method raises UserError: 66 the day, a folder or a file is not there, or the day is not finished; 65 a day has
    two folders, or a file is there twice; 74 the storage fails.
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
        found = DayFiles(day, tuple(events), sides, groups, self.data.digest).identify()
        found.check_distinct()
        return found

    def finished(self, day: dt.date) -> list[str]:
        """Tables (events, users, items) whose folder of the day has a `SUCCESS` that the config does not look for."""
        keys = {"events": self.data.events.hive_key} | {
            name: table.partition for name in ("users", "items") if (table := getattr(self.data, name)) is not None
        }
        unused = {name: key for name, key in keys.items() if getattr(self.data, name).success_file is None}
        places = {n: self._folders(getattr(self.data, n).path, key).get(day, []) for n, key in unused.items() if key}
        return [name for name, folders in places.items() if any(self.store.is_file(f"{f}/{SUCCESS}") for f in folders)]

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
        if folders and self._is_finished(folders[0], table):
            files = self.store.files(self._only(folders, table.path))
            if files:
                return files
        return self._files(table, table.partition, day, table.path)

    def _event_files(self, day: dt.date) -> tuple[list[File], dict[File, range]]:
        """The files that may have rows of the day, and which of their row groups."""
        events = self.data.events
        files = self._files(events, events.hive_key, day, "events")
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

    def _files(self, table: Events | SideTable, key: str | None, day: dt.date, what: str) -> list[File]:
        """The files of a table: all below its path, or of the day's folder there. `what` names it in messages."""
        if not self.store.is_folder(table.path):
            hint = "set data.root and the path below it (a local one is relative to the current folder)"
            raise self._no_folder(table.path, what, "", hint)
        folder = table.path if key is None else self._day_folder(table.path, key, day, what)
        where = self.store.where(folder)
        if not self._is_finished(folder, table):
            hint = "retry when it is written"
            raise UserError(f"{what}: {where} has no {table.success_file}: not finished", hint, Exit.NO_INPUT)
        if files := self.store.files(folder):
            return files
        raise UserError(f"{what}: {where} contains no *.parquet file", "retry when it is written", Exit.NO_INPUT)

    def _day_folder(self, path: str, key: str, day: dt.date, what: str) -> str:
        by_day = self._folders(path, key)
        if day in by_day:
            return self._only(by_day[day], what)
        have, hint = f"no {key}=YYYY-MM-DD folder there", "retry when the day has arrived"
        if by_day:
            have = f"the log has {min(by_day)} .. {max(by_day)}"
        elif other := next((n for f in self.store.folders(path) if "=" in (n := PurePosixPath(f).name)), None):
            have, hint = f"{have}, but {other}", f"set partition: {other.partition('=')[0]} of this table"
        raise self._no_folder(f"{path}/{key}={day}", what, f" ({have})", hint)

    def _only(self, folders: list[str], what: str) -> str:
        """Raises UserError 65 where a day has two folders: which is right, and whether rows are in both, is unknown."""
        if len(folders) > 1:
            one, other = map(self.store.where, folders[:2])
            raise UserError(f"{what}: {one} and {other} are of one day", "keep one of them")
        return folders[0]

    def _is_finished(self, folder: str, table: Events | SideTable) -> bool:
        return table.success_file is None or self.store.is_file(f"{folder}/{table.success_file}")

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
