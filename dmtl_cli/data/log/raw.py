"""The checked rows of a day's event files, block by block, in the columns that a pass over them needs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence

import polars as pl

from dmtl_cli.config.data import Data
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.data.log.checked.day import FEATURE, ID, TIME
from dmtl_cli.data.log.checked.labels import read_labels
from dmtl_cli.data.log.files.rows import Groups, Selection, TableRows
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.runs.ranks import ALONE, Ranks


class RawEvents:
    """A day's events. Every method raises UserError as `TableRows`.

    Args:
        selection: of the day's rows, as far as it is known.
    """

    def __init__(self, data: Data, day: dt.date, schema: Schema, selection: Selection | None = None) -> None:
        self.events, self.day, self.schema = data.events, day, schema
        self._rows = TableRows(schema.events, data.events, schema.event_types, (day, day), data.calendar, selection)

    @property
    def selection(self) -> Selection:
        """Of the rows of the last pass that has ended, and what it was made with before."""
        return self._rows.selection

    def decide(self, groups: Groups, ranks: Ranks = ALONE) -> None:
        """See `TableRows.decide`."""
        self._rows.decide(groups, ranks)

    def asked(self, groups: Groups) -> float:
        """Share of the rows in these groups that `data.events.where` does not leave out."""
        if self.selection.groups != groups:
            for _ in self._rows.blocks((), groups):
                pass
        return self.selection.asked / max(1, self.selection.rows)

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

        named = {e.click, e.duration, e.conversion, e.weight, e.request, *e.conversions.values(), *features}
        named |= {e.user, e.item} if ids else set()
        return self._blocks(groups, named | ({e.time} if timed else set()), columns)

    def newest(self, groups: Groups, named: Sequence[str]) -> pl.DataFrame:
        """`:id` and columns of the newest row of each item; without a time, the last one. No columns where there is no
        row."""
        e, found, more, rows = self.events, list[pl.DataFrame](), list[pl.DataFrame](), 0

        def columns(rows: Checked) -> list[pl.Series]:
            at = [rows.time(e.time).alias(TIME)] if e.time else []
            mine = [_without_dictionary(rows.frame[c].alias(FEATURE + c)) for c in named]
            return [rows.ids(e.item).alias(ID), *at, *mine]

        def newest_of(blocks: list[pl.DataFrame]) -> list[pl.DataFrame]:
            both = pl.concat(blocks)
            both = both.sort(TIME, maintain_order=True) if e.time else both
            return [both.unique(ID, keep="last", maintain_order=True)]

        for block in self._blocks(groups, {e.item, e.time, *named}, columns):
            more.append(block)
            rows += len(block)
            if rows > len(found[0] if found else ()):  # as many rows as items: each is sorted a few times at most
                found, more, rows = newest_of([*found, *more]), [], 0
        if not (blocks := [*found, *more]):
            return pl.DataFrame()
        return newest_of(blocks)[0].select(ID, *(pl.col(FEATURE + c).alias(c) for c in named))

    def _ids(self, rows: Checked) -> list[pl.Series]:
        return [rows.ids(self.events.user).alias("user"), rows.ids(self.events.item).alias("item")]

    def _blocks(
        self, groups: Groups, named: set[str | None], columns: Callable[[Checked], list[pl.Series]]
    ) -> Iterator[pl.DataFrame]:
        for rows in self._rows.blocks({c for c in named if c}, groups):
            if len(rows.frame):
                yield pl.DataFrame(columns(rows))


def _time(rows: Checked, column: str) -> pl.Series:
    """The time column, checked, of the type that it has in the files."""
    rows.time(column)
    return rows.frame[column].alias(TIME)


def _without_dictionary(s: pl.Series) -> pl.Series:
    """Text as text: a dictionary differs from batch to batch, and the spool's format has one for all."""
    return s.cast(pl.String) if s.dtype in (pl.Categorical, pl.Enum) else s
