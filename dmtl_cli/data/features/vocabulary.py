"""Values that have a row of an embedding because a day had them; the rows stay, from day to day."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.values.dictionary import Range, encoded, increases, places

_SEARCHED = 32  # values known for each one asked for, above which a search costs less than a table


@dataclass(frozen=True)
class Vocabulary:
    """Values of one embedding in their order: `value`, `row` (0: waiting for admission), `count`, `last_seen`.

    A row whose value was forgotten stays, with null, so that no other value gets what it learned.
    """

    frame: pl.DataFrame

    @staticmethod
    def empty(dtype: pl.DataType) -> Vocabulary:
        return Vocabulary(
            pl.DataFrame(schema={"value": dtype, "row": pl.Int32, "count": pl.Int64, "last_seen": pl.Date})
        )

    @property
    def rows(self) -> int:
        """Rows of the embedding, the out-of-vocabulary (OOV) row included."""
        return 1 + int((self.frame["row"] > 0).sum())

    @property
    def dtype(self) -> pl.DataType | None:
        """Int64 or String; None until a day has a value."""
        return self.frame["value"].dtype if self.frame["value"].count() else None

    def of_type(self, dtype: pl.DataType) -> Vocabulary:
        """The same rows, where no value is known, for values of a type."""
        return Vocabulary(self.frame.with_columns(pl.col("value").cast(dtype)))

    def check(self, name: str) -> None:
        """Raises ValueError unless values are distinct and sorted, and rows are 0 or count from 1 without a gap.

        A value is null where its user was forgotten: it is first, and has no count.
        """
        frame = self.frame
        values, rows = frame["value"], frame["row"]
        known, forgotten = frame.filter(values.is_not_null()), frame.filter(values.is_null())
        if known.null_count().sum_horizontal().sum() or (forgotten["count"] != 0).any() or rows.null_count():
            raise ValueError(f"{name}: expected no null")
        if not values.is_sorted() or known["value"].n_unique() < len(known):
            raise ValueError(f"{name}: expected distinct values in their order")
        if not np.array_equal(np.sort(rows.filter(rows != 0).to_numpy()), np.arange(1, self.rows)):
            raise ValueError(f"{name}: expected rows that count from 1")

    def lookup(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """Row of each value, [n]; 0 where it has none."""
        known, row = self.frame["value"], self.frame["row"]
        asked = values.cast(known.dtype, strict=False)
        if len(asked) * _SEARCHED < len(known):  # one user served, a batch's events
            return _row_at(row, places(known, asked))
        if self._table is not None:
            rows = self._table.lookup(asked.fill_null(0).to_numpy())
            return np.where(asked.is_null().to_numpy(), np.int32(0), rows) if asked.null_count() else rows
        if asked.dtype == pl.Int64 and not asked.null_count() and increases(asked.to_numpy()):  # a day's own ids
            return _row_at(row, places(known, asked))
        codes, distinct = encoded(asked)
        return np.append(_row_at(row, places(known, distinct)), np.int32(0)).take(codes)

    @cached_property
    def _table(self) -> Range | None:
        """Rows by value, of integers that are close to each other."""
        if self.frame["value"].dtype != pl.Int64:
            return None
        known = self.frame[self.frame["value"].null_count() :]  # null comes first
        return Range.of(known["value"].to_numpy(), known["row"].to_numpy(), 0)

    def grow(self, seen: pl.DataFrame, day: dt.date, min_count: int) -> Vocabulary:
        """Adds the day's values (`value`, `count`): counts add up, new rows in order of value once admitted."""
        whole = added_up(seen)
        values, counts = whole["value"], whole["count"].to_numpy()
        at = places(self.frame["value"], values)
        known = at[at >= 0]
        count, last_seen = self.frame["count"].to_numpy().copy(), self.frame["last_seen"]
        count[known] += counts[at >= 0]
        seen_on = last_seen.scatter(known, last_seen.gather(known).clip(day))  # a day passed over before comes late
        old = self.frame.with_columns(pl.Series("count", count), seen_on)
        new = pl.DataFrame({"value": values.filter(pl.Series(at < 0)), "count": counts[at < 0]}).with_columns(
            pl.lit(0, pl.Int32).alias("row"), pl.lit(day).alias("last_seen")
        )
        both = old if not len(new) else new.select(old.columns)
        if len(old) and len(new):
            both = pl.concat([old, both]).sort("value", maintain_order=True)
        fresh = ((both["row"] == 0) & (both["count"] >= min_count)).to_numpy()
        rows = both["row"].to_numpy().copy()
        rows[fresh] = np.arange(self.rows, self.rows + int(fresh.sum()))
        return Vocabulary(both.with_columns(pl.Series("row", rows, dtype=pl.Int32)))


def _row_at(row: pl.Series, at: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The rows at these places, 0 at -1."""
    if not len(row):
        return np.zeros(len(at), np.int32)
    return np.where(at < 0, np.int32(0), row.to_numpy().take(at, mode="clip"))


def added_up(seen: pl.DataFrame) -> pl.DataFrame:
    """The distinct values (`value`, no null) in their order, and the sum of the counts (`count`, int64) of each."""
    if seen["value"].null_count():
        seen = seen.filter(pl.col("value").is_not_null())
    if seen["value"].dtype != pl.Int64:
        return seen.group_by("value").agg(pl.col("count").sum().cast(pl.Int64)).sort("value")
    numbers, count = seen["value"].to_numpy(), seen["count"].cast(pl.Int64).to_numpy()
    if increases(numbers):
        return seen.select("value", pl.col("count").cast(pl.Int64))
    weights = None if (count == 1).all() else count
    first = int(numbers.min())
    if int(numbers.max()) - first < len(numbers):
        place = numbers - first
        there = np.flatnonzero(np.bincount(place))
        return pl.DataFrame({"value": there + first, "count": np.bincount(place, weights).astype(np.int64)[there]})
    codes, distinct = encoded(seen["value"])
    order = np.argsort(distinct.to_numpy())
    counts = np.bincount(codes, weights).astype(np.int64)
    return pl.DataFrame({"value": distinct.gather(order), "count": counts[order]})
