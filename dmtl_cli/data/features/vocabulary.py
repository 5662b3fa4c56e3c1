"""Values that have a row of an embedding because a day had them; the rows stay, from day to day."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

_SEARCHED = 32  # values known for each one asked for, above which a search costs less than the hash table of a join


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
        known = self.frame.select("value", "row")
        asked = values.cast(known["value"].dtype, strict=False).alias("value")
        if len(asked) * _SEARCHED < len(known):  # one user served, a batch's events
            found = known[known["value"].search_sorted(asked).clip(upper_bound=len(known) - 1)]
            return np.where((found["value"] == asked).fill_null(False), found["row"], np.int32(0))
        rows = asked.to_frame().join(known, on="value", how="left", maintain_order="left")["row"]
        return rows.fill_null(0).to_numpy()

    def grow(self, seen: pl.DataFrame, day: dt.date, min_count: int) -> Vocabulary:
        """Adds the day's values (`value`, `count`): counts add up, new rows in order of value once admitted."""
        seen = seen.filter(pl.col("value").is_not_null()).group_by("value").agg(pl.col("count").sum())
        both = self.frame.join(seen, on="value", how="full", coalesce=True, suffix="_now")
        both = both.select(
            "value",
            pl.col("row").fill_null(0),
            (pl.col("count").fill_null(0) + pl.col("count_now").fill_null(0)).alias("count"),
            pl.when(pl.col("count_now").is_not_null()).then(pl.lit(day)).otherwise("last_seen").alias("last_seen"),
        ).sort("value")
        new = (both["row"] == 0) & (both["count"] >= min_count)
        rows = both["row"].to_numpy().copy()
        rows[new.to_numpy()] = np.arange(self.rows, self.rows + int(new.sum()))
        return Vocabulary(both.with_columns(pl.Series("row", rows, dtype=pl.Int32)))
