"""What is not plain Parquet, and what is one file of all days, as Parquet a file a day: converted once into a folder,
again where its source changes.

    TABLE/day=2026-01-31/PATH.parquet   rows of a day of the source that lies at PATH below data.root
    TABLE/all/PATH.parquet              a table of all days
    .../.stamps/PATH.json               what the source was when it was converted, and what was made of it

A source is read once from begin to end, whatever its size: rows wait by day in memory, or, above `WAITING` bytes, in
files. The bytes of a day's file depend on that day's rows alone. So the day's identity stays where a source grows by
other days, and a file whose bytes would be the same is left as it is, for those who read it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import filecmp
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.table import Joined
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.data.log.checked.invalid import DAY, LINE, MOST, UNSET, is_unset, remedies, require_most
from dmtl_cli.data.log.formats import lake
from dmtl_cli.data.log.formats.avro import AvroFile
from dmtl_cli.data.log.formats.source import File, Store
from dmtl_cli.data.log.formats.sources import Opened, Source, TextFile
from dmtl_cli.data.log.formats.text_rows import Rows, unfinished
from dmtl_cli.data.log.formats.waiting import Waiting
from dmtl_cli.data.log.values.types import remedies_of, types_of
from dmtl_cli.runs.disk import creating, make_dirs, sync_dir, write_text
from dmtl_cli.runs.scratch import remove_dead, scratch_folder

JOINED = "events.joined."
"""before the name of a table of what came of exposures, where tables are named"""
FOLDER = "converted"
"""below a workspace"""
_VERSION = 4  # of what conversions are: another one converts everything again
_ALL = "all"


def conversions(workspace: str) -> Path:
    """Where a workspace, and those of its comparisons, have what is converted."""
    return Path(workspace) / FOLDER


@contextlib.contextmanager
def provisional(workspace: str) -> Iterator[Path]:
    """Where one who may be wrong, and makes no workspace then, has what it converts.

    That is the workspace's own folder, or, while there is no workspace, a hidden one above it that moves there when the
    block ends without an error and is gone otherwise, if need be when the next one begins. Where nothing can be written
    it is kept nowhere.
    """
    root, place, prefix = Path(workspace), conversions(workspace), f".{Path(workspace).name}-check-"
    above = next((folder for folder in root.absolute().parents if folder.is_dir()), root)
    if root.exists() and os.access(root, os.W_OK):
        remove_dead(prefix, above)
        yield place
        return
    beside = above if not root.exists() and os.access(above, os.W_OK) else None
    with scratch_folder(prefix, beside) as scratch:
        made = scratch / FOLDER
        yield made
        if beside and made.is_dir():
            with contextlib.suppress(OSError):  # another command converts there by now
                make_dirs(root)
                made.rename(place)


@dataclass
class Made:
    """What was made of a source."""

    bytes: dict[str, int] = field(default_factory=dict)
    """of each file, by its folder"""
    lost: dict[str, int] = field(default_factory=dict)
    """lines that do not parse and were left out, by the folder of the rows that they stand among"""
    dayless: dict[str, dict[str, int]] = field(default_factory=dict)
    """rows of no day by reason, by the same folders"""
    zoneless: list[str] = field(default_factory=list)
    """columns of type datetime in which a text of the source names no zone"""


class Converted:
    """The conversions of a log. Two commands may use one folder at once: one converts, the other waits for it.

    Every method raises UserError: 65 a value or row does not fit, 66 a source is empty, gone or changed, 73 or 74 the
    folder or the storage fails.
    """

    def __init__(self, data: Data, log: Store, folder: Path) -> None:
        self.data, self.log, self.folder = data, log, folder
        self.store = Store(str(folder))

    def files(
        self, name: str, table: Events | SideTable | Joined, files: Sequence[File], day: dt.date
    ) -> tuple[list[File], Mapping[str, int]]:
        """What has rows of a day of these files of a table, and how many lines of the day do not parse, or have no day,
        and are left out, by reason; such a line in a file of several days is of the day of the row before it."""
        kind = self.data.format_of(table)
        typed: Sequence[Source] = [AvroFile(f) if kind == "avro" else lake.ParquetFile(f) for f in files]
        sources = self._texts(name, table, files) if kind in ("csv", "json") else self._opened(table, typed)
        column = table.date_column if isinstance(table, Events | Joined) else None
        of = day if column or table.hive_key or table.is_dated else None
        found, lost = self._cut(name, sources, column, day) if column else self._whole(name, sources, of)
        if lost.get(LINE) and not isinstance(table, Events):  # of a day's events who reads them decides
            kept = sum(pq.read_metadata(self.folder / file.path).num_rows for file in found)
            require_most(of, kept, {LINE: lost[LINE]}, name)
        return found, lost

    def _opened(self, table: Events | SideTable | Joined, sources: Sequence[Source]) -> Sequence[Source]:
        objects = self.data.objects_of(table)
        return [Opened(source, objects) for source in sources] if objects else sources

    def _texts(self, name: str, table: Events | SideTable | Joined, files: Sequence[File]) -> list[TextFile]:
        options = (table.csv or self.data.csv) if self.data.format_of(table) == "csv" else None
        types, remedies = types_of(self.data, table), remedies_of(name, table, options is not None)
        finished = table.success_file is not None
        nulls = self.data.null_values
        invalid = self.data.events.invalid_rows  # of every table: one line that was cut off stops no day
        return [TextFile(file, options, types, remedies, finished, nulls, invalid) for file in files]

    def lake(self, name: str, table: Events | SideTable | Joined, day: dt.date) -> tuple[list[File], Mapping[str, int]]:
        """The same of a Delta or Iceberg table. Raises UserError 66 too where there is none."""
        live = lake.files_of(self.data.format_of(table), self.data.root, self.log, table.path)
        sources = self._opened(table, live)
        column = (table.date_column if isinstance(table, Events | Joined) else None) or table.hive_key
        found, lost = self._cut(name, sources, column, day) if column else self._whole(name, sources, None)
        if not found:
            where = f"{self.log.where(table.path)} has no rows{f' with a {column} of day {day}' if column else ''}"
            raise UserError(f"{name}: {where}", "retry when the day has arrived", Exit.NO_INPUT)
        return found, lost

    def _whole(self, name: str, sources: Sequence[Source], day: dt.date | None) -> tuple[list[File], Mapping[str, int]]:
        home = f"day={day}" if day else _ALL
        with locked(self.folder):
            made = [self._ensure(f"{name}/{home}", source, None, ".") for source in sources]
            if day is None:
                self._prune(f"{name}/{home}", sources)
            lost = _left_out(made, ".")
            for source, one in zip(sources, made, strict=True):
                if not (one.bytes or one.lost) and isinstance(source, TextFile) and not source.finished:
                    raise unfinished(source.file)  # it was converted when a config said that it was
            if not any(one.bytes for one in made):
                require_most(day, 0, lost, name)
                where = f"{sources[0].where}{f' and {len(sources) - 1} more' if len(sources) > 1 else ''}"
                raise UserError(f"{name}: {where}: empty", "retry when there is a row", Exit.NO_INPUT)
            files = [
                self._file(
                    f"{name}/{home}/{_safe(source.path)}.parquet",
                    source,
                    one,
                    source.first_row if isinstance(source, TextFile) and not one.lost else None,
                )
                for source, one in zip(sources, made, strict=True)
                if one.bytes
            ]
            return files, lost

    def _cut(
        self, name: str, sources: Sequence[Source], column: str, day: dt.date
    ) -> tuple[list[File], Mapping[str, int]]:
        """The files of a day, of sources of several days."""
        part = f"day={day}"
        with locked(self.folder):
            made = [self._ensure(name, source, column, part) for source in sources]
            self._prune(name, sources)
            files = [
                self._file(f"{name}/{part}/{_safe(source.path)}.parquet", source, one)
                for source, one in zip(sources, made, strict=True)
                if part in one.bytes
            ]
            return files, _left_out(made, part)

    def _file(self, path: str, source: Source, made: Made, first_row: int | None = None) -> File:
        found, zoneless = self.store.file(path), frozenset(made.zoneless)
        return File(self.store, path, found.size, found.modified_ns, source.where, first_row, zoneless)

    def days(self, name: str) -> list[dt.date]:
        """The days that were found in the sources of a table, sorted."""
        return sorted({day for days in self.days_of_each(name) for day in days})

    def days_of_each(self, name: str) -> list[list[dt.date]]:
        """The days that were found in each of them."""
        parts = [_bytes(stamp) for stamp in (self.folder / name / ".stamps").rglob("*.json")]
        return [[dt.date.fromisoformat(x.removeprefix("day=")) for x in some if x.startswith("day=")] for some in parts]

    # -- one source ----------------------------------------------------------------------------------------------------

    def _ensure(self, home: str, source: Source, column: str | None, wanted: str) -> Made:
        """Converts a source where that has not been done, or what was made of it is not there.

        Args:
            home: folder of what is made.
            column: tells the day of a row; None: all rows are of one file.
            wanted: the folder below `home` that is needed, as far as the source has rows of it.
        """
        stamp = self.folder / home / ".stamps" / f"{_safe(source.path)}.json"
        now = [_VERSION, source.stamp, column, self._days_of if column else None]
        made = _read(stamp, now)
        if made is None or (wanted in made.bytes and self._size(home, wanted, source) != made.bytes[wanted]):
            with creating(self.folder):
                made = self._convert(home, source, column)
                if [_VERSION, source.stamp, *now[2:]] != now:
                    what = f"{source.where}: changed while it was converted"
                    raise UserError(what, "retry when it is written", Exit.NO_INPUT)
                self._publish(home, source, made, stamp, now)
        return made

    @property
    def _days_of(self) -> str | None:
        """What cuts rows into days, as stamps name it."""
        return self.data.timezone if self.data.naive_times == "utc" else f"{self.data.timezone} as naive times"

    def _size(self, home: str, part: str, source: Source) -> int | None:
        with contextlib.suppress(OSError):
            return self._place(home, part, source).stat().st_size
        return None

    def _place(self, home: str, part: str, source: Source) -> Path:
        return self.folder / home / part / f"{_safe(source.path)}.parquet"

    def _convert(self, home: str, source: Source, column: str | None) -> Made:
        """Writes into scratch, by folder below `home`. Raises UserError 65 where most lines of a source that is cut
        into days do not parse: they are of no day that would be refused for them."""
        scratch = self.folder / ".scratch"
        shutil.rmtree(scratch, ignore_errors=True)  # of who died: the lock is ours
        scratch.mkdir(parents=True)
        waiting, lost, kept, dayless = Waiting(scratch), list[tuple[str, str]](), 0, Counter[tuple[str, str]]()
        first = last = ""  # of the days of rows so far
        nulls = home.startswith(JOINED) or (home == "events" and self.data.events.invalid_rows == "drop")
        for rows in source.rows():
            try:
                days = None if column is None else _days(rows, column, self.data, source, nulls=nulls)
                for part, frame in _by_day(rows, days):
                    waiting.add(part, frame)
                of = None if days is None else _around(days, is_first=not last)
                for one in rows.lost:
                    lost.append((_part(of, one.before) or last, one.why))
                for part, reason, n in [] if days is None or of is None else _dayless(days, of):
                    dayless[part or last, reason] += n
                kept, last = kept + len(rows.frame), _part(of, len(rows.frame)) or last
                first = first or last
            except pl.exceptions.SchemaError as e:
                what = f"{source.where}: from row {rows.first} on a column has values of another type: {e}"
                raise UserError(what, "write one type in all rows") from None
        if column is not None and len(lost) > MOST * (kept + len(lost)):
            what = f"{lost[0][1]}; {len(lost):,} of {kept + len(lost):,} lines do not parse"
            raise UserError(what, "is data.csv, or the format, as the file is written?")
        written = {part: waiting.write(part, scratch / f"{k}.parquet") for k, part in enumerate(waiting.parts)}
        zoneless = sorted(source.zoneless) if isinstance(source, TextFile) else []
        made = Made(written, dict(Counter(part or first for part, _ in lost)), {}, zoneless)
        for (part, reason), n in dayless.items():
            mine = made.dayless.setdefault(part or first, {})
            mine[reason] = mine.get(reason, 0) + n
        return made

    def _publish(self, home: str, source: Source, made: Made, stamp: Path, now: list[Any]) -> None:
        """Puts what is in scratch in its place. The stamp goes first and comes last: between, nothing is believed."""
        old = _bytes(stamp).keys() - made.bytes.keys()
        stamp.unlink(missing_ok=True)
        for part in old:
            self._place(home, part, source).unlink(missing_ok=True)
        for k, part in enumerate(made.bytes):
            new, place = self.folder / ".scratch" / f"{k}.parquet", self._place(home, part, source)
            make_dirs(place.parent)
            if not (place.is_file() and filecmp.cmp(new, place, shallow=False)):
                new.replace(place)
                sync_dir(place.parent)
        make_dirs(stamp.parent)
        draft = self.folder / ".scratch" / "stamp"
        stored = {"source": now, "made": made.bytes, "lost": made.lost, "zoneless": made.zoneless}
        stored |= {"dayless": made.dayless} if made.dayless else {}
        write_text(draft, json.dumps(stored))
        draft.replace(stamp)
        shutil.rmtree(self.folder / ".scratch")

    def _prune(self, home: str, sources: Sequence[Source]) -> None:
        """Removes what was made of sources that are gone, as files of a table that was rewritten."""
        stamps, known = self.folder / home / ".stamps", {f"{_safe(source.path)}.json" for source in sources}
        for stamp in sorted(stamps.rglob("*.json")):
            name = str(stamp.relative_to(stamps))
            if name not in known:
                with creating(stamp):
                    made = _bytes(stamp)
                    stamp.unlink()
                    for part in made:
                        (self.folder / home / part / f"{name.removesuffix('.json')}.parquet").unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder of conversions, waiting for who holds it. Raises UserError 73, 74."""
    lock = folder.with_name(f".{folder.name}.lock")
    with creating(lock):
        make_dirs(folder)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with creating(lock):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _bytes(stamp: Path) -> dict[str, int]:
    """The bytes of what was made, by folder."""
    made = _read(stamp, None)
    return made.bytes if made else {}


def _read(stamp: Path, now: list[Any] | None) -> Made | None:
    """What was made; None where it is not known, or was made of another source than `now`."""
    try:
        found = json.loads(stamp.read_bytes())
        sizes, lost = found["made"], found.get("lost", {})  # a stamp of an earlier version has no lost lines
        made_of, lost = ({str(part): int(n) for part, n in some.items()} for some in (sizes, lost))
        dayless = {str(part): {str(r): int(n) for r, n in of.items()} for part, of in found.get("dayless", {}).items()}
        made = Made(made_of, lost, dayless, [str(c) for c in found.get("zoneless", [])])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return made if now is None or found.get("source") == json.loads(json.dumps(now)) else None


def _days(rows: Rows, column: str, data: Data, source: Source, *, nulls: bool) -> pl.Series:
    """The day of each row. A row without one is of no day where `nulls` are allowed, as the config leaves such rows out
    or they are of what came of exposures; else it is refused."""
    if not len(rows.frame):
        return pl.Series([], dtype=pl.Date)
    if column not in rows.frame:
        names = ", ".join(rows.frame.columns[:12])
        raise UserError(f"{source.where}: no column {column}, which tells the day (columns: {names})")
    zoneless = isinstance(source, TextFile) and column in source.zoneless  # no file has these rows yet
    try:
        places = None if isinstance(rows.numbers, range) else pl.Series(rows.numbers) - rows.first
        checked = Checked(rows.frame, source.where, rows.first, remedies(data.events), places)
        days = checked.date(column, data.calendar, nulls=nulls, zoneless=zoneless)
    except UserError as e:
        untyped = rows.frame[column].dtype == pl.String
        remedy = f"set data.types.{column}: datetime, date or int64" if untyped else "correct it, or leave the row out"
        raise UserError(e.message, e.hint or remedy, e.code) from None
    if 2 * days.null_count() > len(days):
        what = f"{source.where}: from row {rows.first} on more than half of the rows have no {column}"
        raise UserError(what, "which tells the day: is it the right column?")
    return days


def _left_out(made: Sequence[Made], part: str) -> dict[str, int]:
    """What was left out of the rows of a folder, by reason."""
    found = Counter({LINE: sum(one.lost.get(part, 0) for one in made)})
    for one in made:
        found.update(one.dayless.get(part, {}))
    return dict(found)


def _around(days: pl.Series, *, is_first: bool) -> pl.Series:
    """The day of each row; of one without a day, or of a clock that was never set, that of the row before it, or behind
    it where no row is before these. Null where none is."""
    of = days.set(is_unset(days), None).forward_fill()
    return of.backward_fill() if is_first else of


def _dayless(days: pl.Series, around: pl.Series) -> Iterator[tuple[str, str, int]]:
    """(folder of the rows that they stand among, reason, how many) of the rows of no day."""
    unset = is_unset(days)
    rows = pl.DataFrame({"of": around, "unset": unset}).filter(unset | days.is_null())
    for day, never, n in rows.group_by("of", "unset", maintain_order=True).len().iter_rows():
        yield "" if day is None else f"day={day}", UNSET if never else DAY, n


def _part(days: pl.Series | None, before: int) -> str:
    """The folder of the last of so many rows, or of the first row of all; "" where it is of no day."""
    if days is None:
        return "."
    day = days[max(0, before - 1)] if len(days) else None
    return "" if day is None else f"day={day}"


def _by_day(rows: Rows, days: pl.Series | None) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows by the folder that they go to; without days all of them to the one folder."""
    if days is None:
        if rows.frame.width:
            yield ".", rows.frame
        return
    distinct = days.drop_nulls().unique().sort()
    for day in distinct:
        whole = len(distinct) == 1 and not days.null_count()
        yield f"day={day}", rows.frame if whole else rows.only((days == day).fill_null(False))


def _safe(path: str) -> str:
    """A path below data.root as one below the folder of conversions."""
    return "/".join("up" if part == ".." else part for part in path.split("/") if part not in ("", "."))
