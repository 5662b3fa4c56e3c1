"""When rows of two tables are, by their clocks: what of one came so long after what of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.values.column_types import words_of
from dmtl_cli.data.log.values.types import ZONE, instants, localized

Ints = npt.NDArray[np.int64]
_SECOND = 1_000_000  # microseconds


@dataclass(frozen=True)
class Clock:
    """A table's column of times.

    Args:
        timezone: of times that name no zone, beside others that name one; None: UTC.
        zoneless: whether the texts that times were read of name none.
    """

    column: str
    timezone: str | None
    zoneless: bool

    def of(self, frame: pl.DataFrame, file: File, asked: str) -> pl.Series:
        """[n] microseconds: instants in UTC, or times as they stand where none names a zone; null where there is no
        time.

        Args:
            asked: the key of the config that asks for them, for messages.

        Raises:
            UserError: 65 the column has days, or what are no times.
        """
        s = frame[self.column]
        if s.null_count() == len(s):
            return pl.Series(self.column, [None], pl.Datetime("us", "UTC")).new_from_index(0, len(s))
        if s.dtype == pl.String:
            naive = s.str.extract(ZONE).null_count() == len(s) and not s.str.contains(r"^\s*[0-9]+\s*$").any()
            at = instants(s) if naive else instants(s, zone=self.timezone or "UTC")
        elif s.dtype.is_numeric():
            at, naive = instants(s), False
        elif isinstance(s.dtype, pl.Datetime):
            at, naive = s, s.dtype.time_zone is None or self.zoneless
        else:
            what = f"{file}: {asked} expects a time of day, column {self.column} has {words_of(s)}"
            raise UserError(what, "name a column of times, or leave time and within out: all of a pair then")
        if naive:
            return at.dt.replace_time_zone(None).dt.cast_time_unit("us")
        at = at if at.dtype.time_zone else at.dt.replace_time_zone("UTC")  # type: ignore[attr-defined]
        return at.dt.convert_time_zone("UTC").dt.cast_time_unit("us")


def aware(at: pl.Series, timezone: str | None) -> pl.Series:
    """[n] instants: times that name no zone are of this one; None: UTC."""
    named = isinstance(at.dtype, pl.Datetime) and at.dtype.time_zone is not None
    return at if named else localized(at, timezone or "UTC")


class Came:
    """Rows of ids at their times, sorted once, of which exposures ask for those that came after them.

    Args:
        place: [m] a number of each row's id; rows are in order of it and of the time.
        came: [m] microseconds.
    """

    def __init__(self, place: Ints, came: Ints) -> None:
        self._times = np.unique(came)
        self._keys = place * (len(self._times) + 1) + np.searchsorted(self._times, came)
        self._of_seconds = bool(len(came)) and not (came % _SECOND).any()

    def within(self, at: Ints, shown: pl.Series, window: int) -> tuple[Ints, Ints]:
        """([n] begin, [n] end) of the rows that are of each exposure: of its id, and that came at most so long after
        it. Memory is that of both, however many rows an exposure has. Where all rows are of whole seconds, and
        exposures are not, a row of the exposure's second came after it.

        Args:
            at: [n] the number of each exposure's id; -1 is that of no row.
            shown: [n] microseconds; null is before no row.
            window: microseconds.
        """
        known = shown.is_not_null().to_numpy() & (at >= 0)
        since = shown.fill_null(0).to_numpy().astype(np.int64)
        since = since // _SECOND * _SECOND if self._of_seconds else since
        first = np.searchsorted(self._times, since)
        last = np.searchsorted(self._times, since + window, "right")
        begin, end = (np.searchsorted(self._keys, at * (len(self._times) + 1) + time) for time in (first, last))
        return np.where(known, begin, 0), np.where(known, end, 0)


def rows_of(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """([k] the exposure, [k] the row) of all rows that exposures have, one exposure after the other."""
    n = end - begin
    return np.repeat(np.arange(len(n)), n), np.arange(n.sum()) + np.repeat(begin - np.cumsum(n) + n, n)
