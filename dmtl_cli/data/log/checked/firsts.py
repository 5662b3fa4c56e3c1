"""An id's first event of the day, and the inline features of that event.

A later value could reflect what the user did in between, so each user and item takes its features from one event: the
first by time, or in the order of the log where it has no time. A null is taken too, though a later event has a value: a
history that is null until the first click would else tell that click.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.day import FEATURE, ID, TIME
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.spool import frame_of
from dmtl_cli.runs.ranks import Ranks

Ints = npt.NDArray[np.int64]
AT = ":at"
"""position of an id's first event"""


class Firsts:
    """Where each id of a stream has its first event, in O(ids) memory."""

    def __init__(self) -> None:
        self._parts: list[pl.DataFrame] = []
        self._rows = self._kept = 0

    def add(self, ids: pl.Series, at: Ints, time: pl.Series | None) -> None:
        """Distinct ids of a stretch of the stream, after those before it, with the place of the first event of each
        and, where the log has one, its time."""
        columns = [ids.alias(ID), *([] if time is None else [time.alias(TIME)]), pl.Series(AT, at)]
        self._parts.append(pl.DataFrame(columns))
        self._rows += len(ids)
        if self._rows > max(sizes.MERGE, 2 * self._kept):
            self._parts = [self._merged()]
            self._rows = self._kept = len(self._parts[0])

    def gather(self, ranks: Ranks, starts: list[int], timed: bool = False) -> pl.DataFrame:
        """`:id` and `:at` of each id, over the streams of all ranks.

        Args:
            starts: the position where each begins.
            timed: whether to give `_time` too.
        """
        named = [ID, AT, *([TIME] if timed else [])]
        if ranks.size == 1:
            return self._merged().select(named)
        mine = self._merged() if self._parts else None
        parts = zip(ranks.gather_objects(mine), starts, strict=False)
        self._parts = [part.with_columns(pl.col(AT) + at) for part, at in parts if part is not None]
        return self._merged().select(named)

    def _merged(self) -> pl.DataFrame:
        if len(self._parts) == 1:
            return self._parts[0]
        whole = pl.concat(self._parts)
        if TIME in whole.columns:
            whole = whole.sort(TIME, maintain_order=True)
        whole = whole.sort(ID, maintain_order=True)  # a hash table of all ids takes several times their own memory
        return _compact(whole.filter((pl.col(ID) != pl.col(ID).shift(1)).fill_null(True)))


class Taken:
    """Inline features of those events of a stream that are an id's first.

    Args:
        at: positions of the first events; null for an id that has none.
        features: those to take from each.
        start: position of the stream's first event.
    """

    def __init__(self, at: pl.Series, features: list[Feature], start: int) -> None:
        self._at = np.sort(at.drop_nulls().to_numpy())
        self._features = features
        self._parts: list[pa.Table] = []
        self._read = start

    def add(self, block: pl.DataFrame) -> None:
        """Rows in log order."""
        if self._features:
            here = slice(*np.searchsorted(self._at, [self._read, self._read + len(block)]))
            columns = [block[FEATURE + f.source].alias(f.name) for f in self._features]
            first = pl.DataFrame(columns)[self._at[here] - self._read]
            self._parts.append(first.to_arrow(compat_level=pl.CompatLevel.oldest()))
        self._read += len(block)

    def drain(self) -> pl.DataFrame | None:
        """What was taken since the last call, in log order; None without any."""
        taken, self._parts = self._parts, []
        return frame_of(pa.concat_tables(taken)) if taken else None

    def gather(self, ranks: Ranks) -> pl.DataFrame:
        """One row per id, in log order, over the streams of all ranks: columns by feature name."""
        mine = frame_of(pa.concat_tables(self._parts)) if self._parts else None
        parts = [part for part in ranks.gather_objects(mine) if part is not None]
        return pl.concat(parts) if parts else pl.DataFrame()


def _compact(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows in memory of their own: text from Arrow keeps the whole batch it came in."""
    return frame_of(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
