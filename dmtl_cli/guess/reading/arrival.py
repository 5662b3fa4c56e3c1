"""Whether the day of a folder is that of its events, in the zone in which most are, or that of their arrival."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import polars as pl

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.pattern import DayPattern
from dmtl_cli.data.log.formats.lake import LAKES
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import FEW, instants, time_unit
from dmtl_cli.guess.columns.zones import ANY_ZONE, Zone, of_users, zone_ahead
from dmtl_cli.guess.reading.files import Files, is_of_span, usual
from dmtl_cli.guess.reading.tables import Table, rows_of_day

_MINUTES = sorted(
    [60 * h for h in range(-12, 15)] + [-210, 210, 270, 330, 345, 390, 570, 630, 765], key=lambda m: (abs(m), m)
)
"""ahead of UTC, of the zones that there are (without summer time)"""
_SUMMER = 60  # minutes by which a day may differ from the others
_OFF, _LEAST = 0.001, 10  # of the rows, and rows, are of another day before it is said
_LATE, _MOSTLY = 14, 0.95  # days after which a row arrives at most; of the rows of another day do so
_OF_FILE = 0.2  # of the rows of files of several days are of another day than the one in the name
_UNSET = 1970  # the year of a clock that was never set
_ROWS, _ENDS = 20_000, 3  # rows of a day far smaller than the others, and days at each end
BY_TIME = "--days-by-time"
"""the option of a person who says that folders are days of arrival"""


@dataclass(frozen=True)
class Arrival:
    """What the times of events say of the folders in which they lie."""

    zone: Zone
    """the time zone in which most rows are of their folder's day, the nearest to UTC of several, and why"""
    column: str
    rows: int
    other: int
    """rows of the sample whose time is of another day than their folder"""
    spread: bool
    """whether rows of a day lie in three folders or more, later ones: a folder is the day of arrival"""
    of_several: bool
    """whether files have rows of several days each, as by two days in their names or as there is one file alone"""
    place: str | None
    """the folder of all days, or where other tables are in it their files, with `*` for the day; None: those are others
    too"""

    moved: int = 0
    """rows that are of another day than their folder where the users live, if a person says where"""
    begun: int = 0
    """those of them whose folder is of a day before theirs: a day of the users begins in it"""
    asked: bool = False
    """whether a person says that folders are days of arrival"""

    @property
    def is_told(self) -> bool:
        return is_late(max(self.other, self.moved), self.rows)

    @property
    def is_of_events(self) -> bool:
        """Whether the time is to give the day in place of the folder."""
        whole = self.spread or self.of_several or self.moved > self.other
        return (self.asked or (self.is_told and whole)) and self.place is not None

    @property
    def why(self) -> str:
        seen = f"{self.other:,} of {self.rows:,} rows of the sample ({self.other / self.rows:.1%})"
        told = f"{seen} have a {self.column} of another day than their folder in every time zone"
        if self.asked:
            return f"as {BY_TIME} says"
        if self.moved > self.other:
            part = f"{self.moved:,} of {self.rows:,} rows of the sample ({self.moved / self.rows:.1%})"
            return f"{part} have a {self.column} of another day than their folder in {self.zone.name}"
        if self.of_several and not self.spread:
            return f"{seen} have a {self.column} of another day than their file's name: a file has rows of several days"
        return (
            f"{told}, and rows of a day lie in three folders or more: folders are days of arrival" * self.spread or told
        )


def is_late(other: int, rows: int) -> bool:
    """Whether so many rows of another day than their folder are worth a word."""
    return other > max(_OFF * rows, _LEAST)


def arrival(events: Table, roles: Roles, others: Sequence[Table], lives: str | None, *, asked: bool) -> Arrival | None:
    """None where days do not lie in names, or no column has times with a clock.

    Args:
        lives: the zone of the users, where a person names it.
        asked: whether a person says that folders are days of arrival.

    Raises:
        UserError: 2 it is asked and cannot be; else what `tables` raises.
    """
    found = _arrival(events, roles, others, lives)
    if not asked or (found is None and not events.files.days):  # a column tells the day as it is
        return found
    path = events.files.path
    if events.files.form in LAKES:
        what, fix = f"{path} is a table of {events.files.form}, which has its days in a column", "leave the option out"
    elif found is None:
        what = f"expected a column of times with a clock in {path}, beside days in its names"
        fix = "name one with --time COLUMN"
    elif found.place is None:
        what, fix = f"{path}: other files lie in the folder of the events", "put the events into a folder of their own"
    else:
        return replace(found, asked=True)
    raise UserError(f"{BY_TIME}: {what}", fix, Exit.USAGE)


def _arrival(events: Table, roles: Roles, others: Sequence[Table], lives: str | None) -> Arrival | None:
    if not events.pieces or events.files.form in LAKES or roles.time is None or roles.time_unit is None:
        return None
    rows = _timed(roles, [(day, events.of_day(day)) for day, _, _ in events.pieces])
    if not len(rows):
        return None
    there = {day for day, _ in usual(events.files.days)}
    few = [day for day, _ in events.files.days if day not in there]
    late = _timed(roles, [(day, _some(events, day)) for day in sorted({*few[:_ENDS], *few[-_ENDS:]})])
    zone, lags = _lags(pl.concat([rows, late]))
    other, every = (int((some != 0).sum()) for some in (lags.head(len(rows)), lags))
    later = lags.filter((lags > 0) & (lags <= _LATE))
    spread = int((later > 1).sum()) >= FEW and len(later) >= _MOSTLY * every
    whole = len(events.files.files) == 1 or all(is_of_span(path) for path, _ in events.files.files)
    of_several = whole and other >= _OF_FILE * len(rows)
    found = Arrival(zone, roles.time.column, len(rows), other, spread, of_several, place_of(events.files, others))
    if lives is None:
        return found
    user, of = roles.user.column if roles.user else None, rows["at"]
    zone = of_users(events.frame[roles.time.column], roles.time_unit, lives, events.frame, user)
    if zone.is_local:
        return replace(found, zone=zone)
    off = (of.dt.convert_time_zone(zone.name).dt.date() - rows["day"]).dt.total_days()
    return replace(found, zone=zone, moved=int((off != 0).sum()), begun=int((off > 0).sum()))


def _some(events: Table, day: dt.date) -> pl.DataFrame | None:
    """Rows of a day of which there are few; None where they cannot be read, which a run of the day says."""
    with suppress(UserError):
        return rows_of_day(events, day, _ROWS)
    return None


def _timed(roles: Roles, of: Sequence[tuple[dt.date, pl.DataFrame | None]]) -> pl.DataFrame:
    """[at, day] the instant of each row that has one, of no clock that was never set, and the day of its folder."""
    assert roles.time is not None and roles.time_unit is not None
    column, parts = roles.time.column, [pl.DataFrame(schema={"at": pl.Datetime("us", "UTC"), "day": pl.Date})]
    for day, frame in of:
        if frame is not None and column in frame.columns and time_unit(frame[column]) == roles.time_unit:
            at = instants(frame[column], roles.time_unit)
            if at is not None:
                utc = at.dt.convert_time_zone("UTC").dt.cast_time_unit("us").alias("at")
                parts.append(pl.DataFrame([utc, pl.repeat(day, len(at), dtype=pl.Date, eager=True).alias("day")]))
    return pl.concat(parts).drop_nulls().filter(pl.col("at").dt.year() > _UNSET)


def _lags(rows: pl.DataFrame) -> tuple[Zone, pl.Series]:
    """The zone in which most rows are of their folder's day, and by how many days each row's folder is later."""
    local = {m: pl.col("at").dt.offset_by(f"{m}m").dt.date() for m in _MINUTES}
    agree = rows.group_by("day", maintain_order=True).agg(
        (e == pl.col("day")).sum().alias(str(m)) for m, e in local.items()
    )
    total = {m: int(agree[str(m)].sum()) for m in _MINUTES}
    best = max(_MINUTES, key=lambda m: total[m])
    alike = sum(n == total[best] for n in total.values()) - 1
    near = [m for m in _MINUTES if abs(m - best) <= _SUMMER]
    of_day = {of["day"]: max(near, key=lambda m: (of[str(m)], m == best)) for of in agree.iter_rows(named=True)}
    ahead = rows["day"].replace_strict(of_day, return_dtype=pl.Int64)
    day = (rows["at"] + pl.Series(ahead * 60_000_000).cast(pl.Duration("us"))).dt.date()
    lags = (rows["day"] - day).dt.total_days()
    name, ahead_by, guess = zone_ahead(best, rows["at"])
    whole = total[best] == len(rows)
    seen = "all of the sample's times" if whole else f"{total[best] / len(rows):.1%} of the sample's times"
    if alike:
        guess = f", and in {alike} other zones; {ANY_ZONE}"
    return Zone(name, f"{seen} are of their folder's day in {ahead_by}{guess}"), lags


def place_of(files: Files, others: Sequence[Table]) -> str | None:
    """The folder that has the rows of all days and nothing else, or a path with `*` that means these files alone."""
    above = PurePosixPath(files.path if files.partition else (files.pattern or "").partition("{")[0] + "x")
    parts = (above if files.partition else above.parent).parts
    literal = [part for part in parts if "*" not in part]
    place = "/".join(literal)
    beside = [path for table in others for path, _ in table.files.files]
    if not place or literal != list(parts) or files.together:
        return _glob(files, beside)
    return _glob(files, beside) if any(path.startswith(f"{place}/") for path in beside) else place


def _glob(files: Files, beside: Sequence[str]) -> str | None:
    """The path of each day with `*` in place of the day; None where it means other files too."""
    if files.pattern is None or files.partition:
        return None
    parts = DayPattern(files.pattern).anywhere
    for path in beside:
        names = path.split("/")  # a folder's, or the file's
        if len(names) >= len(parts) and all(map(DayPattern.matches, parts, names)):
            return None
    return "/".join(parts)


def by_times(events: Table, place: str) -> Table:
    """The events, or what came of them, as a table whose days a column tells, its path that of files of any day."""
    any_day = place if "*" in place else None
    files = replace(events.files, path=place, partition=None, pattern=None, days=(), glob=any_day)
    return replace(events, files=files, day=None, pieces=())
