"""Which tables lie in a place, some rows of each, and which of their days have what."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

import polars as pl

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.formats.lake import LAKES, files_of
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import OBJECT, is_field, nulls_of, opened
from dmtl_cli.guess.columns.values import FEW, Kinds
from dmtl_cli.guess.reading.ddl import Declared, declared_in
from dmtl_cli.guess.reading.exploding import elements, lists_of
from dmtl_cli.guess.reading.files import (
    JSON,
    Files,
    base_of,
    complete_day,
    glob_of,
    group,
    joined_path,
    listed_in,
    may_be_rows,
    one_state,
    root_of,
)
from dmtl_cli.guess.reading.rows import ALIKE, are_alike, are_of, as_text, first, form_of, hashes_in, head, is_followed
from dmtl_cli.guess.reading.texts import Text, guessed, is_deep, joined, of_elements, plain, settled, timed

ROWS, ENOUGH = 200_000, 5_000
"""rows of a sample at most, and at least where there are as many: keys of tables are compared"""
T = TypeVar("T")
_MOST, _AWAY = 8, 6_000  # files of a sample's day; rows of a file of the first day, and of one between
_UNTIMED = 0.02  # of the rows lack a time, from which on they were not shown
_HOLDS = ":holds"
BRACES = "no path of a config has { or }, which stand for a day there: give it another name"


@dataclass(frozen=True)
class Table:
    """A table with some of its rows."""

    files: Files
    frame: pl.DataFrame
    text: Text | None
    """how it is written, where it is a CSV or JSON lines"""
    day: dt.date | None
    """the newest complete day, of which most rows are, where folders or names have days"""
    root: str = ""
    """the folder that its files are below"""
    other: dict[str, str] = field(default_factory=dict)
    """types of the columns that are not in `frame`, as nothing can be guessed of them: see `texts.plain`"""
    pieces: tuple[tuple[dt.date, frozenset[str], int], ...] = ()
    """(day, columns that have values, rows) of the rows of each day, where folders or names have days"""
    objects: tuple[str, ...] = ()
    """columns whose texts are JSON objects, in place of which `frame` has their fields"""
    explode: tuple[str, ...] = ()
    """lists whose elements are the rows: see `shown.as_events`"""
    place: str | None = None
    """the further column of an element's place in its list, from 1, where what was clicked is told by it"""
    kinds: Kinds | None = None
    """the kinds of rows that it has of a file: see `streams.parted`"""
    only_of_others: tuple[str, ...] = ()
    """columns that only other rows of the file have, which are not in `frame`"""
    of_files: tuple[str, ...] = ()  # all columns of the files, where `frame` has others
    only_with: str | None = None
    """a column of times that a person names, without which rows were not shown: `frame` has none of these"""
    hashes: tuple[str, ...] = ()
    """integers beyond int64, which `frame` has as text"""
    yes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """texts of columns that `frame` has as true, where files have types and these columns texts"""
    deep: pl.DataFrame = field(default_factory=pl.DataFrame, compare=False)
    """lists of lists of the rows that were read, of which nothing can be guessed until the outer ones are exploded"""

    def with_deep(self, names: Sequence[str]) -> pl.DataFrame:
        """Its rows with the lists of lists that lie within these lists, as long as they are the rows that were read."""
        if len(self.deep) != len(self.frame):
            return self.frame
        within = tuple(f"{name}." for name in names)
        return self.frame.hstack(self.deep.select(c for c in self.deep.columns if c.startswith(within)))

    def asked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Of rows of the files those that it has."""
        return frame if self.kinds is None else self.kinds.of(frame).drop(self.only_of_others, strict=False)

    @property
    def path(self) -> str:
        """As the config names it: with days in it, a folder that has nothing else, a pattern or one file."""
        files = self.files
        first = files.files[0][0]
        if files.pattern is not None:
            return files.pattern
        if files.partition is not None or files.form in LAKES or len(files.files) > 1:
            return files.path if files.partition or files.glob is None else files.glob
        folder = first.rpartition("/")[0]
        return folder if folder and not files.together else first

    @property
    def has_no_path(self) -> bool:
        """Whether its files lie among those of other tables, and no path means them alone."""
        of = self.files
        return of.together and len(of.files) > 1 and not (of.pattern or of.partition or of.glob or of.form in LAKES)

    @property
    def written(self) -> Text:
        """How its texts are written; of one without text as if plain."""
        return self.text or Text()

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the columns, where the files have no header with them."""
        return None if self.written.header else self.of_files or self.written.names or tuple(self.frame.columns)

    def beside(self, days: Collection[dt.date]) -> Table:
        """A table of users or items as events of these days read it, whatever tells their days: of one day, where they
        have others, it is of all days; of two that are few of theirs the newer one is, as it is written alone."""
        mine = {day for day, _ in self.files.days}
        newer = self._newer() if len(mine) == 2 and 2 * len(mine & {*days}) <= len(days) > 2 else None
        if newer is not None:
            return newer
        of_all = len(mine) == 1 and not {*days} <= mine
        return replace(self, files=one_state(self.files), day=None, pieces=()) if of_all else self

    def _newer(self) -> Table | None:
        """The newer of two days as a table without days; None where it is far smaller, as one of changes is, or no path
        means its files alone."""
        files, ((_, before), (day, size)) = self.files, self.files.days
        frame = None if files.form in LAKES or 2 * size < before else self.of_day(day)
        if frame is None:
            return None
        mine = tuple(one for one in files.files if files.day_of(one[0]) == day)
        alone = Files(mine[0][0] if len(mine) == 1 else files.path, files.form, mine, together=True)
        if len(mine) > 1:
            alone = replace(alone, glob=glob_of(alone, [path for path, _ in files.files if files.day_of(path) != day]))
        read = replace(self, files=alone, frame=frame, day=None, pieces=())
        return None if read.has_no_path else read

    def of_day(self, day: dt.date) -> pl.DataFrame | None:
        """The rows of a day; None where there are none. The newest day is first in `frame`."""
        at = 0
        for other, _, rows in reversed(self.pieces):
            if other == day:
                return self.frame.slice(at, rows)
            at += rows
        return None

    def on(self, day: dt.date | None) -> pl.DataFrame:
        """The rows of a day; all where there are none of it."""
        rows = None if day is None else self.of_day(day)
        return self.frame if rows is None else rows

    @property
    def flags(self) -> set[str]:
        """Columns that the config has as true or false; those that files have as texts are none."""
        return {s.name for s in self.frame if s.dtype == pl.Boolean} - self.yes.keys()

    @property
    def days(self) -> pl.Series | None:
        """Of each row; None where no folder or name tells it, or the rows are others than those of the files."""
        if not self.pieces or sum(n for *_, n in self.pieces) != len(self.frame):
            return None
        return pl.concat([pl.repeat(d, n, dtype=pl.Date, eager=True) for d, _, n in reversed(self.pieces)])

    def on_days_of(self, other: Table) -> Table:
        """The rows of the days of which another sample has rows too; all where names tell no days that both have."""
        both = {day for day, _, n in other.pieces if n} & {day for day, _, n in self.pieces if n}
        return self.where(self.days.is_in(both)) if both and self.days is not None else self

    def only(self, keep: Callable[[pl.DataFrame], pl.DataFrame]) -> Table:
        """The rows that `keep` leaves of any."""
        parts = [(day, keep(rows)) for day, _, _ in self.pieces if (rows := self.of_day(day)) is not None]
        pieces = tuple((day, filled(rows), len(rows)) for day, rows in parts)
        return replace(self, frame=keep(self.frame), pieces=pieces)

    def where(self, holds: pl.Series) -> Table:
        """The rows for which a condition [rows] holds."""
        told = replace(self, frame=self.frame.with_columns(holds.alias(_HOLDS)))
        return told.only(lambda rows: rows.filter(_HOLDS).drop(_HOLDS))


@dataclass(frozen=True)
class Found:
    """What lies in a place."""

    tables: list[Table]
    """the largest first"""
    unreadable: list[tuple[str, str]]
    """(path, why): smaller than a table that is one, such as an about.txt"""
    marked: frozenset[str] = frozenset()
    """folders with a `SUCCESS`"""

    def is_marked(self, files: Files, until: dt.date) -> bool:
        """Whether the folder of every day up to one has a `SUCCESS`."""
        place = files.pattern or f"{files.path}/{files.partition}={{day}}"
        deep = len(PurePosixPath(place).parts)
        folders = {
            joined_path(PurePosixPath(f).parts[:deep]) for f, _ in files.files if (files.day_of(f) or until) <= until
        }
        return bool(folders) and folders <= self.marked


def tables(root: str) -> Found:
    """The tables in a place.

    Args:
        root: a folder or a file; local or s3://.

    Raises:
        UserError: 66 there is nothing, or nothing of a known format; 65 the largest table is damaged; 74 the storage
            fails.
    """
    root, one = root_of(given := root)
    store = Store(root)
    every, marked = listed_in(store)
    asked = [f for f in every if one is None or f[0] == one]
    braced = {path: BRACES for path, _ in asked if "{" in path or "}" in path}
    listed = [file for file in asked if file[0] not in braced]
    unnamed = [path for path, size in listed if size and may_be_rows(path)]
    forms = {path: form for path in unnamed if (form := form_of(store.file(path)))}
    found = group(listed, forms, partial(are_alike, store.file), partial(is_followed, store.file))
    ddl = declared_in(store, [path for path, _ in every])
    if not found:
        known = f"no Parquet, CSV, JSON lines, Avro, Delta or Iceberg{' in it' * (not one)}"
        known = known if listed else f"{next(iter(braced))}: {BRACES}" if braced else "nothing there"
        raise UserError(f"{given}: {known}", "name the folder or the file of the log", Exit.NO_INPUT)
    read: list[Table] = []
    more = f" and {len(braced) - 1} more" if len(braced) > 1 else ""
    unreadable = [(f"{path}{more}", why) for path, why in [*braced.items()][:1]]
    for files in sorted(found, key=lambda f: (-f.bytes, f.path)):
        try:
            table = _read(root, store, files, ddl)
            if not table.frame.width:
                raise UserError(f"{files.name}: no column has a value that could be used")
            read.append(table)
        except UserError as e:
            if not read or e.code not in (Exit.DATA, Exit.NO_INPUT):
                raise
            unreadable.append((files.name, e.message))
    read.sort(key=lambda t: t.files.path)
    largest = sorted(_united(read), key=lambda t: (-t.files.bytes, t.files.path))
    return Found(largest, unreadable, marked)


def with_time(table: Table, c: str | None) -> Table:
    """The rows that have a time which a person names, where enough lack it, as mails that nobody opened: these were not
    shown. Of fewer a clock is broken."""
    if c not in table.frame.columns or not _UNTIMED <= table.frame[c].null_count() / max(1, len(table.frame)) < 1:
        return table
    return replace(table.only(lambda rows: rows.drop_nulls(c)), only_with=c)


def _united(read: list[Table]) -> list[Table]:
    """Files of one folder with the same columns are one table, whatever they are called, but for clicks.csv and
    orders.csv beside other tables: names of a word that no path means together."""
    out: dict[tuple[object, ...], Table] = {}
    parts: dict[tuple[object, ...], list[Table]] = {}
    for k, table in enumerate(read):
        files = table.files
        same = files.form, tuple(table.frame.columns), base_of(files), None if not files.days else k
        if (first := out.get(same)) is not None:
            every = tuple(sorted(first.files.files + files.files))
            table = replace(first, files=replace(first.files, path=base_of(first.files), files=every))
        out[same] = table
        parts.setdefault(same, []).append(read[k])
    united = list(out.values())
    folders = [base_of(t.files) for t in united]
    shared = [
        any(k != n and (other == folder or other.startswith(f"{folder}/")) for n, other in enumerate(folders))
        for k, folder in enumerate(folders)
    ]
    found: list[Table] = []
    for table, of, is_shared in zip(united, parts.values(), shared, strict=True):
        apart = replace(table, files=_apart(table.files, united)) if is_shared else table
        many = is_shared and len(apart.files.files) > 1 and apart.files.glob is None
        names = [PurePosixPath(t.files.files[0][0]).name.partition(".")[0] for t in of]
        if len(of) > 1 and all(map(str.isalpha, names)) and (many or _is_followed(of)):
            found += [replace(t, files=_apart(t.files, united)) for t in of]
        else:  # the folder is the path where the others in it are of this table, with more or fewer columns
            found.append(table if many and not _others_than(table, united) else apart)
    return found


def _is_followed(of: Sequence[Table]) -> bool:
    """Whether of tables with the same columns one has what came of the rows of the largest."""
    first, *more = sorted(of, key=lambda t: -t.files.bytes)
    parts = ((t, max(FEW, len(first.frame) * t.files.bytes // max(1, first.files.bytes))) for t in more)
    return any(t.files.bytes < first.files.bytes and are_of(t.frame.head(n), first.frame) for t, n in parts)


def _others_than(table: Table, every: Sequence[Table]) -> bool:
    """Whether a table's folder has files of tables with other columns."""
    base, columns = f"{base_of(table.files)}/".removeprefix("./"), {*table.frame.columns}
    beside = [t.frame for t in every if f"{base_of(t.files)}/".startswith(base)]
    return any(len(columns & {*frame.columns}) < ALIKE * len(columns) for frame in beside)


def _apart(files: Files, every: Sequence[Table]) -> Files:
    """Files of a folder that has those of other tables too."""
    others = [path for t in every if t.files.files != files.files for path, _ in t.files.files]
    return replace(files, together=True, glob=glob_of(files, others) if len(files.files) > 1 else None)


def _read(root: str, store: Store, files: Files, ddl: Sequence[Declared]) -> Table:
    """The table with rows of a complete day, of the first day and one between them, or of its first and last files."""
    if files.form in LAKES:
        live = files_of(files.form, root, store, files.path)
        read = first((rows.frame for file in live for rows in file.rows()), ROWS)
        return looked_at(Table(files, read, None, None, root))
    day = complete_day(files.days)
    text: Text | None = None
    frames: list[tuple[dt.date | None, pl.DataFrame]] = []
    missing: UserError | None = None
    before = 0
    for path, of, more in _chosen(files, day):
        if not more and day is not None and before >= ENOUGH:
            continue
        try:
            frame, text = head(store.file(path), more or ROWS // _MOST, text, ddl)
        except UserError as e:  # an empty file is no reason to stop where others have rows
            if e.code != Exit.NO_INPUT:
                raise
            missing = e
            continue
        before += 0 if more and of != day else len(frame)
        frames.append((of, frame))
    if missing is not None and not frames:
        raise missing
    hashes = hashes_in(frame for _, frame in frames)
    rows = joined([as_text(frame, hashes) for _, frame in frames])
    table = looked_at(Table(files, rows, text, day, root, hashes=hashes))
    return replace(table, pieces=_pieces([(of, len(frame)) for of, frame in frames], table.frame))


def looked_at(table: Table) -> Table:
    """The table, of whose rows texts are as they stand, with the values and types in which guesses look at them."""
    text, (rows, hidden) = table.text, guessed(table.frame)
    refused = {c: why for c, why in table.other.items() if why.startswith(OBJECT)}
    nulls = set[str]()
    if text is None or text.header:  # else places are names
        found, objects, more = opened(
            rows, table.objects or None, table.files.name, () if text is None else words.DATABASES
        )
        nulls = set() if text is None else nulls_of(rows, objects)
        rows, table, refused = found, replace(table, objects=objects), refused | more
    if text is not None:
        rows, text = settled(rows, table.files.form, text, [c for c in rows.columns if is_field(c, table.objects)])
        text = replace(text, nulls=tuple(sorted({*text.nulls, *nulls})))
    frame, other = plain(rows)
    yes = {} if text is not None else {s.name: _yes(rows[s.name], s) for s in frame if s.dtype == pl.Boolean}
    deep = rows.select(c for c in other if is_deep(rows.schema[c]))
    table = replace(
        table, frame=frame.drop(refused, strict=False), text=text, other=other | hidden | refused, deep=deep
    )
    table = replace(table, yes={c: texts for c, texts in yes.items() if texts})
    table = exploded(table, [table.with_deep(table.explode)]) if table.explode else table
    return replace(table, frame=table.asked(table.frame))


def _yes(texts: pl.Series, flags: pl.Series) -> tuple[str, ...]:
    """The texts of a column whose values are looked at as flags."""
    if texts.dtype == pl.Boolean:
        return ()
    return tuple(sorted(texts.cast(pl.String).filter(flags.fill_null(False)).unique()))


def exploded(table: Table, frames: Sequence[pl.DataFrame]) -> Table:
    """The table with the elements of its lists, of some of its rows, and their texts as the values that they are."""
    lists = lists_of(table.frame, table.explode)
    frame, text = pl.concat([elements(rows, table.explode, table.place) for rows in frames]), table.text
    if text is not None and table.files.form == JSON:
        frame, text = of_elements(frame, lists, text)
        frame = plain(frame)[0]
    elif text is None:
        rows, frame = frame, plain(frame)[0]
        told = {s.name: _yes(rows[s.name], s) for s in frame if s.dtype == pl.Boolean and s.name not in table.yes}
        table = replace(table, yes=table.yes | {c: texts for c, texts in told.items() if texts})
    other = {c: kind for c, kind in table.other.items() if c not in frame}
    return replace(table, frame=frame, text=text, other=other, deep=pl.DataFrame())


def _chosen(files: Files, day: dt.date | None) -> list[tuple[str, dt.date | None, int]]:
    """(file, day, rows) of a sample, the newest day first; rows 0: only as far as there are too few rows before it."""
    if day is None:
        ends = [f for f, _ in files.files[:: max(1, len(files.files) - 1)]]
        return [(f, None, ROWS // len(ends[:2])) for f in ends[:_MOST]]
    of: dict[dt.date, list[str]] = {}
    for path, _ in files.files:
        if (found := files.day_of(path)) is not None and found <= day:
            of.setdefault(found, []).append(path)
    newest, *older = sorted(of, reverse=True)
    mine = spread(of[newest], _MOST)
    away = {older[-1], older[len(older) // 2]} if older else set[dt.date]()
    out: list[tuple[str, dt.date | None, int]] = [(f, newest, ROWS // max(2, len(mine))) for f in mine]
    for d in older:
        out += [(f, d, _AWAY if d in away else 0) for f in spread(of[d], 2 if d in away else _MOST)]
    return [chosen for k, chosen in enumerate(out) if chosen[2] or k < 8 * _MOST]


def spread(paths: list[T], most: int) -> list[T]:
    """So many of the paths, or days, the last and others evenly before it."""
    k = min(most, len(paths))
    return [paths[len(paths) - 1 - i * len(paths) // k] for i in range(k)]


def _pieces(
    read: Sequence[tuple[dt.date | None, int]], frame: pl.DataFrame
) -> tuple[tuple[dt.date, frozenset[str], int], ...]:
    """See `Table.pieces`.

    Args:
        read: (day, rows) of each file, as they follow each other in the frame.
    """
    known: dict[dt.date, tuple[frozenset[str], int]] = {}
    at = 0
    for day, rows in read:
        if day is not None:
            columns, before = known.get(day, (frozenset(), 0))
            known[day] = columns | filled(frame.slice(at, rows)), before + rows
        at += rows
    return tuple((day, columns, rows) for day, (columns, rows) in sorted(known.items()))


def filled(frame: pl.DataFrame) -> frozenset[str]:
    """The columns that have values."""
    return frozenset(s.name for s in frame if s.null_count() < len(s))


def rows_of_day(table: Table, day: dt.date, rows: int, files: int = _MOST) -> pl.DataFrame:
    """The first rows of each of some files of a day, as guesses look at them. Raises what `tables` does.

    Args:
        files: that are read at most.
    """
    store, paths = Store(table.root), spread([f for f, _ in table.files.files if table.files.day_of(f) == day], files)
    found = [as_text(head(store.file(path), rows, table.text)[0], table.hashes) for path in paths]
    frame = joined(found)
    frame = frame.rename(dict(zip(frame.columns, table.names or (), strict=False)))
    return looked_at(replace(table, frame=timed(frame, table.written))).frame
