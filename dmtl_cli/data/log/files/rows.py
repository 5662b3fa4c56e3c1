"""The rows of a table's files, block by block in the order of the files: who reads rows of the log has them from here.

    decoded (lists exploded, columns computed) -> types -> where -> date_column -> invalid_rows -> unique -> who asked

A step sees the rows that the one before it left, and of a row that is left out nothing more is looked at. Which rows
are read is decided by the first pass over them and kept, a bit a row: a later one decodes what it asks for alone.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dmtl_cli.config.data import Events
from dmtl_cli.config.days import Calendar
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.table import WHERE, Joined
from dmtl_cli.config.table import Table as Section
from dmtl_cli.data.log.checked import invalid
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.data.log.checked.labels import read_click
from dmtl_cli.data.log.checked.numbering import Cursor
from dmtl_cli.data.log.checked.unique import hashed, kept
from dmtl_cli.data.log.files.day_files import changed_error
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.spool import frame_of
from dmtl_cli.runs.ranks import ALONE, Ranks

_UNSAID = Calendar()
Bools = npt.NDArray[np.bool_]
Groups = list[tuple[File, range]]
"""row groups of files, in the order of the log"""
REPEATED = "unique"
"""why a row is left out of which another with its id is read; the other reasons are WHERE and `invalid.REASONS`"""


class Selection:
    """Which rows of some row groups are read, and how many are left out by reason."""

    def __init__(self) -> None:
        self.groups: Groups | None = None
        """that it is of; None before a pass over all of them has ended"""
        self.left_out = Counter[str]()
        self.rows = self.asked = 0
        """all rows, and those that `where` does not leave out, whatever their day"""
        self._parts: list[tuple[npt.NDArray[np.uint8], int]] = []

    def add(self, keep: Bools) -> None:
        self._parts.append((np.packbits(keep), len(keep)))

    def masks(self) -> Iterator[Bools]:
        """What was added, in parts of any length."""
        return (np.unpackbits(bits, count=n).view(np.bool_) for bits, n in self._parts)

    def narrow(self, keep: Bools) -> None:
        """Leaves out further rows: `keep` has one value for each that is read."""
        masks, at = list(self.masks()), 0
        self._parts = []
        for mask in masks:
            places = np.flatnonzero(mask)
            mask = mask.copy()
            mask[places] = keep[at : at + len(places)]
            at += len(places)
            self.add(mask)
        self.left_out[REPEATED] += int((~keep).sum())


class TableRows:
    """The rows of a table that are read.

    Args:
        section: of the config, which says which rows these are; None: all but those that `where` leaves out.
        types: that columns are to have in all files; others are as each file has them.
        days: the first and the last one whose rows are read, where a column tells the day.
        selection: of the same rows, where it is known.

    Every method raises UserError: 65 a value does not fit its column, with file and row; 66 a file changed or is gone;
    74 the storage fails.
    """

    def __init__(
        self,
        table: Table,
        section: Section | None = None,
        types: Mapping[str, pa.DataType] | None = None,
        days: tuple[dt.date, dt.date] = (dt.date.min, dt.date.max),
        calendar: Calendar = _UNSAID,
        selection: Selection | None = None,
    ) -> None:
        self.table, self.types, self._days, self._calendar = table, types or {}, days, calendar
        self.selection = selection or Selection()
        self._where = table.has(WHERE)
        self._events = section if isinstance(section, Events) else None
        of_rows = section if isinstance(section, Events | Joined) else None
        self._date, self._unique = (of_rows.date_column, of_rows.unique) if of_rows else (None, None)
        self._remedies = invalid.remedies(self._events) if self._events else {}
        judged = invalid.columns(self._events) if self._events else set()
        self._needed = judged | ({WHERE} if self._where else set()) | ({self._date} if self._date else set())

    def blocks(
        self, columns: Collection[str], groups: Groups | None = None, size: int | None = None
    ) -> Iterator[Checked]:
        """Columns of the rows that are read; a column that a file lacks is null. A block may be without rows.

        Args:
            groups: in place of all of the table's.
            size: of a block before rows are left out of it; absent: sizes.BLOCK.
        """
        groups, size = self._groups if groups is None else groups, size or sizes.BLOCK
        if self._unique and self.selection.groups != groups:
            self.decide(groups)
        if not self._needed and not self._unique:
            yield from self._decoded(columns, groups, size)
        elif self.selection.groups == groups:
            nothing = np.zeros(0, np.bool_)  # a cursor has to have a part
            keep = Cursor(itertools.chain([nothing], self.selection.masks()))
            computed = self._where and any(map(self.table.makes, columns))  # of what `where` leaves out nothing is
            for rows in self._decoded({*columns, *([WHERE] if computed else [])}, groups, size):
                if len(mask := keep.take(len(rows.frame))) < len(rows.frame):
                    raise changed_error(str(rows.file))
                yield rows.only(pl.Series(mask))
        else:
            yield from self._chosen(columns, groups, size)

    def held(self, columns: Collection[str], groups: Groups | None = None) -> list[Checked]:
        """All rows, as `blocks` gives them; one block is there at least."""
        found = [rows for rows in self.blocks(columns, groups, sizes.MERGE) if len(rows.frame)]
        if not found:
            kinds = {c: self.types[c] if c in self.types else self.table.type(c) for c in columns}
            found = [Checked(frame_of(pa.Table.from_batches([], pa.schema([*kinds.items()]))), self.table.files[0], 0)]
        return found

    def decide(self, groups: Groups, ranks: Ranks = ALONE) -> None:
        """Finds by a pass of its own which rows of an id are read, of events which of an id and an item, where `unique`
        names one; without this call `blocks` does it, as one rank.

        Args:
            groups: of this rank, those of the others before and behind them.
        """
        if self._unique is None or (ranks.size == 1 and self.selection.groups == groups):
            return
        more = {self._events.item, *filter(None, [self._events.click])} if self._events else set()
        found = [pl.DataFrame({"id": [], "click": []}, schema={"id": pl.UInt64, "click": pl.Int8})]
        for rows in self._chosen({self._unique} | more, groups, sizes.BLOCK):
            if n := len(rows.frame):
                order = read_click(rows, self._events) if self._events else pl.zeros(n, pl.Int8, eager=True)
                ids = hashed(rows.frame[self._unique], rows.frame[self._events.item] if self._events else None)
                found.append(pl.DataFrame([ids.alias("id"), order.alias("click")]))
        every = pl.concat(found)
        self.selection.narrow(kept(every["id"], every["click"], ranks))

    @property
    def _groups(self) -> Groups:
        return [(file, range(len(footer.rows))) for file, footer in self.table.footers.items()]

    # -- which rows ----------------------------------------------------------------------------------------------------

    def _chosen(self, columns: Collection[str], groups: Groups, size: int) -> Iterator[Checked]:
        """Decides which rows are read, and keeps it once all are decoded."""
        made = Selection()
        for block in self._decoded({*columns, *self._needed}, groups, size):
            rows = self._asked(block, made)
            if self._date is not None and len(rows.frame):
                rows = self._of_the_days(rows, made)
            if self._events and len(rows.frame):
                rows = invalid.valid(rows, self._events, made.left_out)
            made.add(rows.mask(len(block.frame)))
            yield rows
        made.groups, self.selection = groups, made

    def _asked(self, block: Checked, made: Selection) -> Checked:
        rows = block.only(block.frame[WHERE]) if self._where else block
        made.rows, made.asked = made.rows + len(block.frame), made.asked + len(rows.frame)
        if others := len(block.frame) - len(rows.frame):
            if self._date is not None:
                try:
                    mine = block.of(block.frame.select(self._date)).only(~block.frame[WHERE])
                    others = int(self._is_of_the_days(mine.date(self._date, self._calendar, nulls=True)).sum())
                except UserError:  # nothing of them has to be right
                    others = 0
            made.left_out[WHERE] += others
        return rows

    def _of_the_days(self, rows: Checked, made: Selection) -> Checked:
        assert self._date is not None
        drop = self._events is None or self._events.invalid_rows == "drop"
        days = rows.date(self._date, self._calendar, nulls=drop)
        mine = self._is_of_the_days(days).fill_null(False)
        made.left_out[invalid.DAY] += days.null_count()
        made.left_out[invalid.UNSET] += int((invalid.is_unset(days) & ~mine).sum())
        return rows.only(mine)

    def _is_of_the_days(self, days: pl.Series) -> pl.Series:
        first, last = self._days
        return days == first if first == last else days.is_between(first, last)

    # -- decoding ------------------------------------------------------------------------------------------------------

    def _decoded(self, columns: Collection[str], groups: Groups, size: int) -> Iterator[Checked]:
        wanted, table = sorted(columns), self.table
        for file, some in groups:
            row = sum(table.footers[file].rows[: some.start])
            lists = table.lists_in(file, wanted)
            others = [c for c in wanted if c not in lists]
            if lists and any(table.has_in(file, c) for c in others):  # lists take about as long as all others
                apart = (self._frames(file, some, part, size) for part in (others, lists))
                frames = _beside(next(apart), next(apart), size)
            else:
                frames = self._frames(file, some, wanted, size)
            for frame in frames:
                yield Checked(frame, file, row, self._remedies)
                row += len(frame)

    def _frames(self, file: File, groups: range, wanted: list[str], size: int) -> Iterator[pl.DataFrame]:
        table = self.table
        kinds = {c: self.types[c] for c in wanted if c in self.types}
        here = [c for c in wanted if table.has_in(file, c)]
        kinds |= {c: pa.null() for c in wanted if c not in here and c not in kinds}
        row = sum(table.footers[file].rows[: groups.start])
        with table.open(file) as parquet:
            try:
                for batch in parquet.iter_batches(size, list(groups), here, use_threads=False):
                    frame = frame_of(table.fit(pa.Table.from_batches([batch]), kinds, file))
                    yield frame
                    row += len(frame)
            except (pa.ArrowException, OSError) as e:
                raise file.refusal(e, f"damaged Parquet after row {row}") from None


def frames(
    table: Table, file: File, columns: list[str], size: int, groups: range | None = None
) -> Iterator[pl.DataFrame]:
    """Columns of one of the files as they are, at most so many rows at a time; without what `where` leaves out.

    Args:
        columns: that the file has.
        groups: its row groups; None: all.

    Raises:
        UserError: as `TableRows`.
    """
    some = range(len(table.footers[file].rows)) if groups is None else groups
    return (rows.frame.select(columns) for rows in TableRows(table).blocks(columns, [(file, some)], size))


def asked(table: Table) -> Table:
    """Of the files those with rows that `where` does not leave out."""
    few = copy(table)
    footers = table.footers.items()
    few.footers = {f: it for f, it in footers if any(map(len, frames(table, f, [WHERE], sizes.BLOCK)))}
    return few


def ahead(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same frames, each decoded on another thread while the one before it is used: two are in memory at once."""
    with ThreadPoolExecutor(1, "decode") as thread:
        coming = thread.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = thread.submit(next, frames, None)
            yield frame


def _beside(frames: Iterator[pl.DataFrame], more: Iterator[pl.DataFrame], size: int) -> Iterator[pl.DataFrame]:
    """Frames of the same rows, which may be cut differently, with the columns of both; the second are decoded on
    another thread."""
    pairs = zip(*(sizes.reblocked(x, size, 0) for x in (frames, ahead(more))), strict=True)
    return (some.hstack(others) for some, others in pairs)
