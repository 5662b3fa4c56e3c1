"""Side tables whose numbers count what they are to predict: the day's own events, or those of all days."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.data import SideTable
from dmtl_cli.config.days import before
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.day import ID, Day
from dmtl_cli.data.log.raw import RawEvents
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.schema import Schema, Table
from dmtl_cli.data.log.shares import share_groups
from dmtl_cli.guess import raw_columns, snapshots
from dmtl_cli.guess.values import instants, share, time_unit
from dmtl_cli.runs.ranks import ALONE

Counts = dict[str, npt.NDArray[np.int64]]
"""how many events of the user or item in each row of a day, and how many clicks where a column tells them"""
SUSPECT = 0.6
"""correlation with the counts of one day, from which on other days are counted too"""
_DAYS, _MOST_ROWS = 7, 2_000_000  # before and after the day, and rows of all of them


def late_tables(config: Config, log: Log, day: Day, schema: Schema) -> Iterator[str]:
    """A line for each table that knows what it is to predict, or each column of it that does."""
    for name, side in (("users", "user"), ("items", "item")):
        table: SideTable | None = getattr(config.data, name)
        if table is None:
            continue
        of_table = (f for f in config.features if f.side == side and not (f.profile or f.per_event))
        mine = [f for f in of_table if schema.sides[side].has(f.source) and f.source != table.key]
        if table.is_daily:
            yield from _of_day(config, log, day, schema.sides[side], side, mine)
        else:
            yield from _of_all_days(config, log, day, side, mine)


def _of_day(config: Config, log: Log, day: Day, table: Table, side: str, features: list[Feature]) -> Iterator[str]:
    """Of a table that was written when its day had passed, by its own times or the day's counts."""
    lag = getattr(config.data, f"{side}s").lag_days + 1
    eve = "the day before" if lag == 1 else f"{lag} days before"
    fix = f"set data.{side}s.lag_days: {lag}, and a day reads the table of {eve}"
    if (found := _last_written(table, day)) is not None:
        column, at, gone = found
        seen = f"the table of {side}s has times up to {snapshots.said(at)}, after {gone:.0%} of the day's events"
        yield f"{column}: {seen}: it knows what it is to predict: {fix}"
        return
    for column, counted in _counted(config, log, day, side, features):
        yield f"{column}: {counted}, which no morning knows: {fix}"


def _counted(config: Config, log: Log, day: Day, side: str, features: list[Feature]) -> Iterator[tuple[str, str]]:
    """(feature, what it counts) of numbers of a side table that count the day's own events."""
    whole = _whole(day, side)
    mine = tuple(f for f in features if whole[f.name].dtype.is_numeric())
    if not mine:
        return
    counts, old = _counts(config, day, side), whole.select(ID)
    with suppress(UserError):  # the log's first day, or one that cannot be read
        if (table := log.attributes(side, before(day.day), features=mine)) is not None:
            old = old.join(table, on=ID, how="left", maintain_order="left") if table[ID].dtype == old[ID].dtype else old

    @cache
    def on_the_eve() -> Counts | None:
        return _counts_of(config, log, before(day.day), day, side)

    for f in mine:
        value = _numbers(whole[f.name])
        ways = {"it": value}
        if f.name in old.columns and old[f.name].dtype.is_numeric():
            ways["its growth since the table of the day before"] = value - _numbers(old[f.name])
        found: list[snapshots.Counted] = []
        for (way, x), (what, n) in itertools.product(ways.items(), counts.items()):

            def earlier(what: str = what) -> npt.NDArray[np.int64] | None:
                known = on_the_eve()
                return None if known is None else known[what]

            if (one := snapshots.counted(x, n, earlier, what, f"{side}s")) is not None:
                found.append(one.by(way))
        if found:
            yield f.name, max(found, key=lambda one: one.strength).said


def _of_all_days(config: Config, log: Log, day: Day, side: str, features: list[Feature]) -> Iterator[str]:
    """Of a table that is one for all days: numbers that follow the log's own counts."""
    whole = _whole(day, side)
    values = {f.name: _numbers(whole[f.name]) for f in features if whole[f.name].dtype.is_numeric()}
    if not values:
        return
    counts = _counts(config, day, side)
    suspects = {c: x for c, x in values.items() if any(snapshots.follows(x, n) >= SUSPECT for n in counts.values())}
    if not suspects:
        return
    counts, days = _over_days(config, log, day, side, counts)
    for column, x in suspects.items():
        what, r = max(((what, snapshots.follows(x, n)) for what, n in counts.items()), key=lambda one: one[1])
        if r >= snapshots.FOLLOWS:
            read = f"the {what} of the {days:,} days that were read" if days > 1 else f"the day's {what}"
            seen = f"{column}: in a table of {side}s that is one for all days it follows {read}"
            why = f"correlation {snapshots.short(r)}: if it was counted after them, it knows what it is to predict"
            yield f"{seen} ({why}): leave it out, or write a table a day (data.{side}s.partition)"


def _numbers(s: pl.Series) -> pl.Series:
    return s.cast(pl.Float64).fill_nan(None)


def _whole(day: Day, side: str) -> pl.DataFrame:
    return day.users if side == "user" else day.items


def _counts(config: Config, day: Day, side: str) -> Counts:
    """Those of the day."""
    found = {"events": day.user_events if side == "user" else day.item_events}
    if config.data.events.click is None:
        return found
    if side == "item":
        return found | {"clicks": day.item_clicks}
    clicks = np.zeros(len(day.users), np.int64)
    for block in day.blocks():
        clicks += np.bincount(block.user[block.click], minlength=len(clicks))
    return found | {"clicks": clicks}


def _counts_of(config: Config, log: Log, other: dt.date, day: Day, side: str) -> Counts | None:
    """Those of another day, of the users or items of this one; None where it is not there or cannot be read."""
    n = len(_whole(day, side))
    found = {"events": np.zeros(n, np.int64)}
    if config.data.events.click is not None:
        found["clicks"] = np.zeros(n, np.int64)
    with suppress(UserError):
        files = log.find(other)
        raw = RawEvents(config.data, other, Schema.unify(files, config.data, ()))
        for block in raw.rows(share_groups(raw.schema.events, files.groups, ALONE)):
            rows, clicked = day.rows_of(block[side], side), block["click"].to_numpy() == 1
            kinds = {"events": rows >= 0, "clicks": (rows >= 0) & clicked}
            for what in found:
                found[what] += np.bincount(rows[kinds[what]], minlength=n)
        return found
    return None


def _over_days(config: Config, log: Log, day: Day, side: str, counts: Counts) -> tuple[Counts, int]:
    """(counts of the day and of those near it, how many days these are), as far as rows are not too many."""
    rows, days = len(day), 1
    for other in (before(day.day, sign * k) for k in range(1, _DAYS + 1) for sign in (1, -1)):
        with suppress(UserError):
            many = log.rows(other)
            if rows + many <= _MOST_ROWS and (more := _counts_of(config, log, other, day, side)) is not None:
                rows, days = rows + many, days + 1
                counts = {what: n + more[what] for what, n in counts.items()}
    return counts, days


def _last_written(table: Table, day: Day) -> tuple[str, dt.datetime, float] | None:
    """(column, its newest time, share of the day's events before it) where a table's times say that it was written when
    the day had passed."""
    times = [block.time for block in day.blocks() if block.time is not None]
    at = _instants(pl.concat(times)) if times else None
    if at is None:
        return None
    columns = sorted(raw_columns.names_of(table))
    heads = {c: s for c in columns if (s := raw_columns.head_of(table, c)) is not None and not s.dtype.is_nested()}
    clocks = {c: _instants(raw_columns.whole(table, c)) for c, s in heads.items() if _instants(s) is not None}
    found = snapshots.written_late({c: s for c, s in clocks.items() if s is not None}, at)
    return None if found is None else (*found, share(at < found[1]))


def _instants(s: pl.Series) -> pl.Series | None:
    """Times as instants in UTC; None for what has no clock."""
    unit = time_unit(s)
    found = None if unit is None else instants(s, unit)
    return None if found is None else found.dt.convert_time_zone("UTC")
