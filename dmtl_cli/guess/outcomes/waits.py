"""How long after what was shown its rows come, where they name no exposure, or a person says it."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass

import polars as pl

from dmtl_cli.data.log.formats.clocks import Came, rows_of
from dmtl_cli.guess.columns.words import count
from dmtl_cli.guess.columns.zones import in_utc, is_naive

DAY = 24
"""hours"""
LONGEST = 31
"""days' files after its own that a day reads, at most: `days_after`"""
UNREAD = "which days_after: 1 would read"


@dataclass(frozen=True)
class Length:
    """A length of time, as a person says it and `data.events.joined.TABLE.within` has it."""

    text: str

    @staticmethod
    def of(text: str) -> Length:
        """Raises ValueError where a text is none, or longer than a day can wait for."""
        if not re.fullmatch("[1-9][0-9]{0,5}[smhd]", text):
            raise ValueError(f"{text} is no length of time")
        if (length := Length(text)).days > LONGEST:
            raise ValueError(f"{text} is longer than {LONGEST} days, which a day can wait for")
        return length

    @property
    def hours(self) -> float:
        return int(self.text[:-1]) * {"s": 1 / 3600, "m": 1 / 60, "h": 1, "d": DAY}[self.text[-1]]

    @property
    def days(self) -> int:
        """How many later days' files it reaches."""
        return math.ceil(self.hours / DAY)


@dataclass(frozen=True)
class Wait:
    """How long after what was shown its rows come."""

    shown: tuple[str, str]
    """the events' column of times, and its unit"""
    came: tuple[str, str]
    """the table's"""
    hours: float
    days_after: int = 0
    """how many days' files after its own a day reads too"""
    told: str = ""
    """what a person should know of it: see `windows`"""
    given: Length | None = None
    """how long it is, where a person says it"""
    zone: str = "UTC"
    """of times that name none"""
    beyond: float = 0.0
    """share of what came of a day's exposures that lies in later days' files, which no day waits for"""

    @property
    def within(self) -> str:
        """As `data.events.joined` has it."""
        if self.given:
            return self.given.text
        return f"{self.hours}h" if self.hours <= DAY else f"{int(self.hours // DAY)}d"

    @property
    def said(self) -> str:
        if self.given:
            waits = f": a day waits for {count(self.days_after, 'day')}" if self.days_after else ""
            rest = f", {self.beyond:.1%} of them in later days' files, {UNREAD}" if self.beyond else ""
            count_those = f"of which those at most {self.given.text} after {self.shown[0]} count"
            return f"{count_those}, as --within says{waits or rest}"
        one = DAY if self.hours > DAY else 1
        return f"at most {count(int(self.hours // one), 'hour' if one == 1 else 'day')} behind"

    def times(self, frame: pl.DataFrame, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
        """[n], [m] when exposures were shown and rows came, as `microseconds` has it."""
        return microseconds(frame, *self.shown, self.zone), microseconds(rows, *self.came, self.zone)

    def pairs(self, frame: pl.DataFrame, rows: pl.DataFrame, key: str) -> pl.DataFrame:
        """Rows with the number of an exposure, `:of`, that has their key and was shown so long before them at most."""
        shown, came = self.times(frame, rows)
        place = rows[key].unique().drop_nulls().to_frame().with_row_index(":place")
        rows = rows.with_columns(came.alias(":came")).join(place, on=key, maintain_order="left").drop_nulls(":came")
        rows = rows.sort(":place", ":came", maintain_order=True)
        at = frame.select(key).join(place, on=key, how="left", maintain_order="left")[":place"]
        places, times = rows[":place"].cast(pl.Int64).to_numpy(), rows[":came"].to_numpy()
        window = dt.timedelta(hours=self.hours) // dt.timedelta(microseconds=1)
        of = at.cast(pl.Int64).fill_null(-1).to_numpy()
        which, row = rows_of(*Came(places, times).within(of, shown, window))
        made: pl.DataFrame = rows[row]
        return made.with_columns(pl.Series(":of", which, pl.UInt32))


def zone_between(shown: tuple[pl.Series, str], came: tuple[pl.Series, str], lives: str | None) -> str | None:
    """In which zone times of two tables that name none are read, each a column with its unit: where one names it and
    the other does not that of the users, as `data.events.joined` has it; None where that is not known."""
    return "UTC" if is_naive(*shown) == is_naive(*came) else lives


def microseconds(frame: pl.DataFrame, column: str, unit: str, zone: str) -> pl.Series:
    """[n] when each row is, in UTC, since 1970; null where it has no time. `zone`: of times that name none."""
    at = in_utc(frame[column], unit, zone)
    assert at is not None
    return at.dt.epoch("us")
