"""The checked rows of a day's event files, block by block, in the order of the log."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dmtl_cli.config.data import Data
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.table import WHERE
from dmtl_cli.data.log import invalid, sizes
from dmtl_cli.data.log.checks import Checked
from dmtl_cli.data.log.day import FEATURE, TIME
from dmtl_cli.data.log.labels import read_click, read_labels
from dmtl_cli.data.log.schema import Schema
from dmtl_cli.data.log.source import File
from dmtl_cli.data.log.unique import hashed, kept
from dmtl_cli.runs.ranks import ALONE, Ranks

Bools = npt.NDArray[np.bool_]
Groups = list[tuple[File, range]]
"""row groups of files, in the order of the log"""


class RawEvents:
    """The checked rows of a day's files, in the columns that a pass over them needs.

    Every method raises UserError: 65 a value does not fit its column, with file and row; 66 a file changed or is gone;
    74 the storage fails.
    """

    def __init__(self, data: Data, day: dt.date, schema: Schema) -> None:
        self.events, self.timezone = data.events, data.timezone
        self.day, self.schema = day, schema
        self.left_out: Counter[str] = Counter()
        """rows by the reason for which `invalid.valid` left them out, in all passes so far"""
        self.not_asked = 0
        """rows of the day that `data.events.where` leaves out, in all passes so far"""
        self.repeated = 0
        """rows of which another with their id is read, by `data.events.unique`, found by `drop_repeated`"""
        self._kept: tuple[Groups, Bools] | None = None
        self._remedies, self._judged = invalid.remedies(data.events), invalid.columns(data.events)

    def drop_repeated(self, groups: Groups, ranks: Ranks = ALONE) -> None:
        """Finds by a pass of its own which rows of an id are read, where `data.events.unique` names one; all other
        passes over the same groups leave the others out. Without this call they look for it themselves, as one rank.

        Args:
            groups: of this rank, those of the others before and behind them.
        """
        e, before = self.events, (self.left_out.copy(), self.not_asked)
        if e.unique is None:
            return
        column = e.unique
        found = [pl.DataFrame({"id": [], "click": []}, schema={"id": pl.UInt64, "click": pl.Int8})]
        read = lambda rows: [hashed(rows.frame[column]).alias("id"), read_click(rows, e).alias("click")]  # noqa: E731
        found += self._read(groups, {column, e.click}, read)
        rows = pl.concat(found)
        keep = kept(rows["id"], rows["click"], ranks)
        self._kept, self.repeated = (groups, keep), int((~keep).sum())
        self.left_out, self.not_asked = before

    def ids(self, groups: Groups) -> Iterator[pl.DataFrame]:
        """Blocks of user, item and, where the log has a time, `_time`."""
        e = self.events

        def columns(rows: Checked) -> list[pl.Series]:
            return [*self._ids(rows), *([rows.time(e.time).alias(TIME)] if e.time else [])]

        return self._blocks(groups, {e.user, e.item, e.time}, columns)

    def rows(self, groups: Groups, timed: bool = False, ids: bool = True) -> Iterator[pl.DataFrame]:
        """Blocks of the labels (see `labels.read_labels`), request where the log has it, and x:COLUMN of the features.

        Args:
            timed: whether to give `_time` too, the time column as it is, where the log has one.
            ids: whether to give user and item too, which `ids` has decoded and checked.
        """
        e = self.events
        features = self.schema.feature_columns

        def columns(rows: Checked) -> list[pl.Series]:
            request = [rows.request(e.request).alias("request")] if e.request else []
            raw = [_without_dictionary(rows.frame[c].alias(FEATURE + c)) for c in features]
            time = [_time(rows, e.time)] if timed and e.time else []
            return [*(self._ids(rows) if ids else []), *read_labels(rows, e), *request, *time, *raw]

        named: set[str | None] = {
            e.user if ids else None,
            e.item if ids else None,
            e.click,
            e.duration,
            e.conversion,
            e.weight,
            e.request,
            e.time if timed else None,
            *e.conversions.values(),
        }
        return self._blocks(groups, named | set(features), columns)

    def _ids(self, rows: Checked) -> list[pl.Series]:
        return [rows.ids(self.events.user).alias("user"), rows.ids(self.events.item).alias("item")]

    def _blocks(
        self, groups: Groups, named: set[str | None], columns: Callable[[Checked], list[pl.Series]]
    ) -> Iterator[pl.DataFrame]:
        """As `_read`, without rows of which another with their id is read."""
        if self._kept is None or self._kept[0] != groups:
            self.drop_repeated(groups)
        if self._kept is None:
            yield from self._read(groups, named, columns)
            return
        at, keep = 0, self._kept[1]
        for frame in self._read(groups, named, columns):
            rows = frame.filter(keep[at : at + len(frame)])
            at += len(frame)
            if len(rows):
                yield rows

    def _read(
        self, groups: Groups, named: set[str | None], columns: Callable[[Checked], list[pl.Series]]
    ) -> Iterator[pl.DataFrame]:
        """Columns of the rows of the day that are events, a block at a time."""
        date, where = self.events.date_column, WHERE if self.events.where else None
        wanted = sorted(c for c in named | {date, where} | self._judged if c is not None)
        for file, some in groups:
            for rows in self._checked(file, some, wanted):
                if where is not None and not len((rows := self._asked(rows)).frame):
                    continue
                if self._judged and len(rows.frame):
                    rows = invalid.valid(rows, self.events, self.timezone, self.day, self.left_out)
                    if not len(rows.frame):
                        continue
                frame = pl.DataFrame(columns(rows))
                if date is not None:
                    frame = frame.filter(rows.date(date, self.timezone) == self.day)
                if len(frame):
                    yield frame

    def _asked(self, rows: Checked) -> Checked:
        """The rows that `data.events.where` does not leave out."""
        asked, others = rows.only(rows.frame[WHERE]), rows.only(~rows.frame[WHERE])
        of_day = len(others.frame)
        if of_day and self.events.date_column:
            try:
                of_day = int((others.date(self.events.date_column, self.timezone, nulls=True) == self.day).sum())
            except UserError:  # nothing of them has to be right
                of_day = 0
        self.not_asked += of_day
        return asked

    def _checked(self, file: File, groups: range, wanted: list[str]) -> Iterator[Checked]:
        table = self.schema.events
        row = sum(table.footers[file].rows[: groups.start])
        lists = table.lists_in(file, wanted)
        others = [c for c in wanted if c not in lists]
        if lists and any(table.has_in(file, c) for c in others):  # lists take about as long as all others
            frames = _beside(self._decoded(file, groups, others), self._decoded(file, groups, lists))
        else:
            frames = self._decoded(file, groups, wanted)
        for frame in frames:
            yield Checked(frame, file, row, self._remedies)
            row += len(frame)

    def _decoded(self, file: File, groups: range, wanted: list[str]) -> Iterator[pl.DataFrame]:
        table = self.schema.events
        unified = {c: kind for c, kind in self.schema.event_types.items() if c in wanted}
        here = [c for c in wanted if table.has_in(file, c)]
        row = sum(table.footers[file].rows[: groups.start])
        with table.open(file) as parquet:
            try:
                for batch in parquet.iter_batches(sizes.BLOCK, list(groups), here, use_threads=False):
                    frame = pl.from_arrow(table.fit(pa.Table.from_batches([batch]), unified, file))
                    assert isinstance(frame, pl.DataFrame)
                    yield frame
                    row += len(frame)
            except (pa.ArrowException, OSError) as e:
                raise file.refusal(e, f"damaged Parquet after row {row}") from None


def ahead(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same frames, each decoded on another thread while the one before it is used: two are in memory at once."""
    with ThreadPoolExecutor(1, "decode") as thread:
        coming = thread.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = thread.submit(next, frames, None)
            yield frame


def _beside(frames: Iterator[pl.DataFrame], more: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames of the same rows, which may be cut differently, with the columns of both; the second are decoded on
    another thread."""
    pairs = zip(*(sizes.reblocked(x, sizes.BLOCK, 0) for x in (frames, ahead(more))), strict=True)
    return (some.hstack(others) for some, others in pairs)


def _time(rows: Checked, column: str) -> pl.Series:
    """The time column, checked, of the type that it has in the files."""
    rows.time(column)
    return rows.frame[column].alias(TIME)


def _without_dictionary(s: pl.Series) -> pl.Series:
    """Text as text: a dictionary differs from batch to batch, and the spool's format has one for all."""
    return s.cast(pl.String) if s.dtype in (pl.Categorical, pl.Enum) else s
