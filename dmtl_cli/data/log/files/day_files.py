"""Which files have rows of a day: found once, identified by their digest, and the same when reading has ended."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.data import Data, SideTable
from dmtl_cli.config.days import Calendar, before
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.table import Joined
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.data.log.checked.invalid import LINE
from dmtl_cli.data.log.files.converted import JOINED, Converted
from dmtl_cli.data.log.files.places import Places, span
from dmtl_cli.data.log.formats.exploded import Exploded
from dmtl_cli.data.log.formats.lake import LAKES
from dmtl_cli.data.log.formats.parquet import Parquet
from dmtl_cli.data.log.formats.source import File, Store
from dmtl_cli.data.log.values.column_types import is_list
from dmtl_cli.data.log.values.computed import Computed
from dmtl_cli.data.log.values.types import unit_of
from dmtl_cli.runs.ranks import Ranks

FULL = 256 << 20
"""bytes up to which `digest: auto` hashes all of a file"""
SUCCESS = "_SUCCESS"
"""what Spark and Hadoop write into a folder that is finished"""
TABLES = ("events", "users", "items")
SIDES = {"users": "user", "items": "item"}
_ZONES = dt.timedelta(2)  # between texts of one order in zones that are furthest apart


@dataclass(frozen=True)
class _Span:
    """The days of a row group's rows: none is outside of `first` and `last`."""

    first: dt.date
    last: dt.date
    known: tuple[dt.date, dt.date] | None
    """the first and last day that there are rows of; None: these are not known"""

    def may_have(self, day: dt.date) -> bool:
        return self.first <= day <= self.last

    def is_known_to_have(self, day: dt.date) -> bool:
        return self.known is not None and day in self.known


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
    lost: Mapping[str, int] = field(default_factory=dict)
    """lines of events that do not parse, and rows of no day, that were left out as the files were converted, by
    reason (`invalid.REASONS`)"""
    lost_beside: Mapping[str, int] = field(default_factory=dict)
    """lines that do not parse of the tables beside the events, left out as these were converted, by the table's name"""
    joined: dict[str, tuple[File, ...]] = field(default_factory=dict)
    """files of the tables of what came of exposures, by name"""
    joined_groups: dict[File, range] = field(default_factory=dict)
    """as `groups`, of these files"""

    @property
    def every(self) -> list[File]:
        beside = (*self.tables.values(), *self.joined.values())
        return [*self.events, *(file for files in beside for file in files)]

    def identify(self) -> DayFiles:
        """The same files with their identities."""
        found = [self._identity(file) for file in self.every]
        return replace(self, identities=found)

    def check_distinct(self) -> None:
        """Raises UserError 65 where two files of a table have the same bytes; files without rows may."""
        begin = 0
        for files in (self.events, *self.tables.values(), *self.joined.values()):
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

    def changed(self, ranks: Ranks) -> list[str]:
        """The files that differ from what was identified: size, time of change, rows or digest. Each rank looks at a
        share."""
        mine = [pair for k, pair in enumerate(zip(self.every, self.identities, strict=True)) if ranks.mine(k)]
        return [str(f) for f, was in mine if self._identity(f) != was or f.store.file(f.path) != f]

    def check_unchanged(self, ranks: Ranks, changed: list[str]) -> None:
        """Raises UserError 66 where any rank found one that has `changed`."""
        for found in ranks.gather_objects(changed):
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


def _names(file: File) -> list[str]:
    """Columns of a file, by its footer, but for lists that are empty in all rows and so have no fields."""
    with file.open() as parquet:
        return [f.name for f in parquet.schema_arrow if not (is_list(f.type) and pa.types.is_null(f.type.value_type))]


def _with_lists(files: list[File], explode: Exploded) -> list[File]:
    """The files but those of JSON that lack the lists, or have empty ones, and have columns of the others alone, in
    which nothing was shown: one with other columns may call its lists otherwise, which reading it refuses."""
    names = {file: _names(file) for file in files}
    kept = [file for file in files if not file.origin or explode.is_in(names[file])]
    known = {name for file in kept for name in names[file]}
    return [file for file in files if file in kept or not known.issuperset(names[file])] if kept else files


def _elements(file: File) -> int:
    """Rows of a file whose lists are exploded, by its footer."""
    with file.open() as parquet:
        return sum(parquet.rows)


def changed_error(what: str) -> UserError:
    return UserError(f"{what} changed while it was read", "retry later", Exit.NO_INPUT)


class DayFinder:
    """Looks for the files of a day below data.root.

    Every method raises UserError: 66 the day, a folder or a file is not there, or the day is not finished; 65 a day has
    two folders, or a file is there twice; 74 the storage fails; and what converting a file raises.

    Args:
        converted: folder of what `Converted` makes; needed where the log has such tables.
    """

    def __init__(self, data: Data, converted: Path | None = None) -> None:
        self.data, self.store = data, Store(data.root)
        self.tables = {n: t for n in TABLES if (t := getattr(data, n)) is not None}
        self.tables |= {JOINED + name: table for name, table in data.events.joined.items()}
        self._places = {n: Places(self.store, n, t, data.format_of(t)) for n, t in self.tables.items()}
        self._converted = Converted(data, self.store, converted) if converted else None
        sides = {n: t for n, t in self.tables.items() if t.made and n != "events"}  # of those see `Log.open`
        self._computed = {n: Computed(f"data.{n}", t.made) for n, t in sides.items()}
        e = data.events
        self._exploded = {"events": Exploded(e.explode, e.item, e.explode_position)} if e.explode else {}
        for name, joined in e.joined.items():
            if joined.explode:
                self._exploded[JOINED + name] = Exploded(joined.explode, joined.key, table=f"data.{JOINED}{name}")
        self._spans: dict[tuple[File, str], list[_Span | None]] = {}
        """days of row groups by the statistics of a column"""
        self._seen: dict[tuple[File, str, int], set[dt.date] | None] = {}
        """days of row groups by their rows; None where they do not say"""

    def find(self, day: dt.date, tables: dt.date | None = None) -> DayFiles:
        """The day's files as they are now, identified.

        Args:
            tables: the day whose side tables to take where they are there; else, and by default, those of `day`.
        """
        events, groups, lost = self._dated("events", day)
        beside = {n: self._beside(n, day, tables) for n in SIDES if n in self.tables}
        sides = {SIDES[n]: tuple(files) for n, (files, _) in beside.items()}
        lost_beside = {n: lines for n, (_, lines) in beside.items() if lines}
        later: dict[str, tuple[File, ...]] = {}
        parts: dict[File, range] = {}
        for name, table in self.data.events.joined.items():
            later[name], some, lines = self.joined(name, day, table.days_after)
            lost_beside |= {JOINED + name: lines} if lines else {}
            parts |= {file: _both(range_, parts.get(file)) for file, range_ in some.items()}
        found = DayFiles(day, tuple(events), sides, groups, self.data.digest, [], lost, lost_beside, later, parts)
        found = found.identify()
        found.check_distinct()
        return found

    def joined(self, name: str, day: dt.date, after: int) -> tuple[tuple[File, ...], dict[File, range], int]:
        """The files of a table of what came of exposures, of a day and so many after it, as `DayFiles` has them which
        of their row groups, and how many of their lines do not parse and are left out."""
        found, groups, lines = list[File](), dict[File, range](), 0
        for days in range(after + 1):
            try:
                files, some, lost = self._dated(JOINED + name, before(day, -days))
            except UserError as e:
                if not days or e.code != Exit.NO_INPUT:
                    raise
                asked = f"which day {day} reads (data.{JOINED}{name}.days_after: {after})"
                raise UserError(f"{e.message}, {asked}", e.hint, e.code) from None
            found, lines = found + files, lines + lost.get(LINE, 0)
            groups |= {file: _both(range_, groups.get(file)) for file, range_ in some.items()}
        return tuple(dict.fromkeys(found)), groups, lines

    def finished(self, day: dt.date) -> list[str]:
        """Tables (events, users, items) whose folder of the day has a `SUCCESS` that the config does not look for."""
        return [n for n, places in self._places.items() if places.is_marked(self._day_of(n, day), SUCCESS)]

    def rows(self, found: DayFiles) -> int:
        """Rows of a day that was found, by footers alone: a file of several days has as many of each."""
        total = 0.0
        for file, identity in zip(found.events, found.identities, strict=False):
            rows = _elements(file) if file.explode else identity["rows"]
            total += rows * self._share(file, found.groups[file]) if found.groups else rows
        return round(total)

    def _share(self, file: File, groups: range) -> float:
        """A day's share of a file's rows, if its row groups are alike and so are the days of one."""
        spans = self._spans[file, self.data.events.date_column or ""]
        known = [span for k in groups if (span := spans[k]) is not None]
        days = (max(s.last for s in known) - min(s.first for s in known)).days + 1 if known else 1
        return len(groups) / len(spans) / days

    def beside(self, name: str, day: dt.date, other: dt.date | None) -> list[File]:
        """A side table's files: those of `other` where they are there, else those of `day`; none without the table."""
        return self._beside(name, day, other)[0] if name in self.tables else []

    def _beside(self, name: str, day: dt.date, other: dt.date | None) -> tuple[list[File], int]:
        """The same of a table that is there, and how many of its lines do not parse and are left out."""
        if other is not None and self.tables[name].is_daily:
            try:
                return self._with_lines(name, other)
            except UserError as e:
                if e.code != Exit.NO_INPUT:
                    raise
        try:
            return self._with_lines(name, day)
        except UserError as e:
            if e.code == Exit.NO_INPUT and (lag := self._lag(name)):
                raise self._no_snapshot(name, day, lag, e) from None
            raise

    def _with_lines(self, name: str, day: dt.date) -> tuple[list[File], int]:
        files, lost = self._files(name, self._day_of(name, day))
        return files, lost.get(LINE, 0)

    def _lag(self, name: str) -> int:
        table = self.tables[name]
        return table.lag_days if isinstance(table, SideTable) else 0

    def _day_of(self, name: str, day: dt.date) -> dt.date:
        """The day of the table that a day reads."""
        return before(day, self._lag(name))

    def _no_snapshot(self, name: str, day: dt.date, lag: int, error: UserError) -> UserError:
        """What is said of a day whose snapshot, of an earlier day, is not there."""
        first, hint = min(self._places[name].days(), default=None), error.hint
        if first is not None and self._day_of(name, day) < first:
            hint = f"begin with day {before(first, -lag)}"
        return UserError(f"{error.message}, which day {day} reads (data.{name}.lag_days: {lag})", hint, error.code)

    def _files(self, name: str, day: dt.date) -> tuple[list[File], Mapping[str, int]]:
        """A table's files that may have rows of the day, as Parquet, and what is left out: see `DayFiles.lost`."""
        files, lost = self._parquet(name, day)
        explode = self._exploded.get(name)
        if explode is not None and any(file.origin for file in files):
            files = _with_lists(files, explode)
        made, texts = self._computed.get(name), self.data.texts_of(self.tables[name])
        return [replace(file, computed=made, explode=explode, texts=texts) for file in files], lost

    def _is_converted(self, name: str) -> bool:
        """Whether a table is read from what is made of its files in the workspace: what is not plain Parquet, and one
        Parquet file of all days, which each day would read as a whole, and which is another file once it has grown."""
        table = self.tables[name]
        if self.data.is_converted(table):
            return True
        dated = not isinstance(table, SideTable) and table.date_column is not None
        return dated and self.store.is_file(table.path)

    def _parquet(self, name: str, day: dt.date) -> tuple[list[File], Mapping[str, int]]:
        table, kind = self.tables[name], self.data.format_of(self.tables[name])
        if not self._is_converted(name):
            return self._places[name].files(day), {}
        if self._converted is None:
            raise AssertionError("what is converted of a log needs a folder")
        if kind in LAKES:
            return self._converted.lake(name, table, day)
        files = self._places[name].files(day)
        if name.startswith(JOINED) and self.data.events.has_files_of(table):  # they are converted once
            return self._converted.files("events", self.data.events, files, day)[0], {}
        return self._converted.files(name, table, files, day)

    def _dated(self, name: str, day: dt.date) -> tuple[list[File], dict[File, range], Mapping[str, int]]:
        """A table's files that may have rows of the day, which of their row groups, where a column tells the day, and
        what was left out of it, as `DayFiles.lost`.

        Nothing may have come of exposures on a day: then those of the last day before it, which have no row of it.
        """
        try:
            return self._of_day(name, day)
        except UserError as e:
            earlier = self._before(name, day) if e.code == Exit.NO_INPUT else None
            if earlier is None:
                raise
            return *self._of_day(name, earlier)[:2], {}

    def _before(self, name: str, day: dt.date) -> dt.date | None:
        """The last day before one on which something came of exposures, by a file that has later days too; None: there
        is none, and the day is waited for."""
        table = self.tables[name]
        if not isinstance(table, Joined) or table.date_column is None:
            return None
        if self._is_converted(name):
            each = self._converted.days_of_each(name) if self._converted else []
        else:
            each = [self._known(file, table.date_column) for file in self._files(name, day)[0]]
        around = [days for days in each if days and min(days) < day < max(days)]
        return max((d for days in around for d in days if d < day), default=None)

    def _known(self, file: File, column: str) -> list[dt.date]:
        """Days that a file has rows of, as far as that was told."""
        spans = self._spans.get((file, column), [])
        ends = (end for span in spans if span is not None for end in span.known or ())
        return [*ends, *(day for k in range(len(spans)) for day in self._seen.get((file, column, k)) or ())]

    def _of_day(self, name: str, day: dt.date) -> tuple[list[File], dict[File, range], Mapping[str, int]]:
        """`_dated`, of a day with rows."""
        table, (files, lost) = self.tables[name], self._files(name, day)
        column = None if isinstance(table, SideTable) else table.date_column
        if column is None:
            return files, {}, lost
        groups = {file: self._groups(file, day, column) for file in files}
        groups = {file: some for file, some in groups.items() if some}
        if not self._have_rows(groups, day, column):
            where = f"no file of {self.store.where(table.path)} has a {column} of day {day}{self._have(name, files)}"
            raise UserError(f"{name}: {where}", "retry when the day has arrived", Exit.NO_INPUT)
        return list(groups), groups, lost

    def _have_rows(self, groups: dict[File, range], day: dt.date, column: str) -> bool:
        """Whether there are rows of a day that some row groups may have; it looks at them where nothing else says it.
        All of these groups are the day's all the same, so that what its files are is told by their statistics alone."""
        spans = [self._spans[file, column][k] for file, some in groups.items() for k in some]
        if any(span is None or span.is_known_to_have(day) for span in spans):
            return True
        for file, some in groups.items():
            with file.open() as parquet:
                for k in some:
                    if (file, column, k) not in self._seen:
                        self._seen[file, column, k] = _looked_at(parquet, k, file, column, self.data.calendar)
                    if (seen := self._seen[file, column, k]) is None or day in seen:
                        return True
        return False

    def _have(self, name: str, files: Sequence[File]) -> str:
        """Which days a table has, as far as its files say it, for messages."""
        if not self._is_converted(name):
            spans = [s for (file, _), some in self._spans.items() if file in files for s in some if s]
            days = [end for s in spans for end in s.known or (s.first, s.last)]
        else:
            days = self._converted.days(name) if self._converted else []
        return f" ({span(days)})" if days else ""

    def _groups(self, file: File, day: dt.date, column: str) -> range:
        """The file's row groups from the first to the last that may have rows of the day."""
        if (file, column) not in self._spans:
            with file.open() as parquet:
                self._spans[file, column] = _spans(parquet, file, column, self.data.calendar)
        may = [k for k, span in enumerate(self._spans[file, column]) if span is None or span.may_have(day)]
        return range(may[0], may[-1] + 1) if may else range(0)


def _both(some: range, others: range | None) -> range:
    """Row groups from the first to the last of both."""
    return some if others is None else range(min(some.start, others.start), max(some.stop, others.stop))


# -- what a footer says of a date column -------------------------------------------------------------------------------


def _spans(parquet: Parquet, file: File, column: str, calendar: Calendar) -> list[_Span | None]:
    """First and last day of each row group by its statistics; None where they do not say."""
    meta = parquet.metadata
    at = next((k for k in range(meta.num_columns) if meta.schema.column(k).path == column), None)
    if at is None or column not in parquet.schema_arrow.names:
        return [None] * meta.num_row_groups
    kind = parquet.schema_arrow.field(column).type
    found = (meta.row_group(g).column(at).statistics for g in range(meta.num_row_groups))
    return [_span(s, kind, file, column, calendar) if s is not None and s.has_min_max else None for s in found]


def _span(stats: pq.Statistics, kind: pa.DataType, file: File, column: str, calendar: Calendar) -> _Span | None:
    try:
        if pa.types.is_timestamp(kind):  # as a Python datetime, nanoseconds do not fit
            ends = pa.array([stats.min_raw, stats.max_raw], pa.int64())
        else:
            ends = pa.array([stats.min, stats.max])
        frame = pl.DataFrame({column: pl.from_arrow(ends.cast(kind))})
        first, last = Checked(frame, file, 0).date(column, calendar)
    except (UserError, pa.ArrowException, pl.exceptions.PolarsError, ValueError, OverflowError):
        return None  # reading the file says what is wrong, and in which row
    low, high = frame[column]
    if isinstance(low, (int, float)) and unit_of(low) != unit_of(high):
        return None  # seconds and milliseconds: not in order of time
    known = first, last
    if isinstance(low, str) and len(low) > len("2026-01-31"):  # a time: its zone is not in the order of its text
        first, last = first - _ZONES, last + _ZONES
    if isinstance(low, str) and not _in_order(low, high):
        return _Span(first.replace(month=1, day=1), last.replace(month=12, day=31), None)
    return _Span(first, last, known)


def _in_order(low: str, high: str) -> bool:
    """Whether texts of days sort as these do: 2026-12-31 is before 20260101, and 2026-10-1 before 2026-3-1."""
    padded = all(re.match(r"[0-9]{4}(-?)[0-9]{2}\1[0-9]{2}", text) for text in (low, high))
    return padded and len(low) == len(high) and low[:4] == high[:4]


def _looked_at(parquet: Parquet, group: int, file: File, column: str, calendar: Calendar) -> set[dt.date] | None:
    """The days of a row group by its rows; None where they do not say."""
    try:
        rows = pl.from_arrow(parquet.read_row_group(group, [column], use_threads=False))
        assert isinstance(rows, pl.DataFrame)
        return {*Checked(rows, file, 0).date(column, calendar, nulls=True).unique().drop_nulls()}
    except (UserError, pa.ArrowException, OSError):
        return None  # reading the file says what is wrong, and in which row
