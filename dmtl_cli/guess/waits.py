"""How long after what was shown its rows come, where they name a user and an item, and no exposure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from dmtl_cli.data.log.clocks import Came, rows_of
from dmtl_cli.guess.values import instants


@dataclass(frozen=True)
class Wait:
    """How long after what was shown its rows come."""

    shown: tuple[str, str]
    """the events' column of times, and its unit"""
    came: tuple[str, str]
    """the table's"""
    hours: int

    @property
    def within(self) -> str:
        """As `data.events.joined` has it."""
        return f"{self.hours}h"

    def pairs(self, frame: pl.DataFrame, rows: pl.DataFrame, key: str) -> pl.DataFrame:
        """Rows with the number of an exposure, `:of`, that has their key and was shown so long before them at most."""
        shown, came = (
            instants(of[c], unit).dt.convert_time_zone("UTC").dt.cast_time_unit("us")  # type: ignore[union-attr]
            for of, (c, unit) in ((frame, self.shown), (rows, self.came))
        )
        place = rows[key].unique().drop_nulls().to_frame().with_row_index(":place")
        rows = rows.with_columns(came.alias(":came")).join(place, on=key, maintain_order="left").drop_nulls(":came")
        rows = rows.sort(":place", ":came", maintain_order=True)
        at = frame.select(key).join(place, on=key, how="left", maintain_order="left")[":place"]
        places, times = rows[":place"].cast(pl.Int64).to_numpy(), rows[":came"].to_physical().to_numpy()
        window = dt.timedelta(hours=self.hours) // dt.timedelta(microseconds=1)
        of = at.cast(pl.Int64).fill_null(-1).to_numpy()
        which, row = rows_of(*Came(places, times).within(of, shown.to_physical(), window))
        made: pl.DataFrame = rows[row]
        return made.with_columns(pl.Series(":of", which, pl.UInt32))
