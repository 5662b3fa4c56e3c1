"""The days that a chain learns first."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.config.data import Data, SideTable
from dmtl_cli.config.days import before, window
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.files.places import Places
from dmtl_cli.data.log.formats.lake import LAKES
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.data.log.reader import Log

ENOUGH = 20_000  # rows: some hundred steps, and thousands of clicks to be measured on
MOST = 60  # days
FEW, SMALL, SEVERAL = 4, 50_000, 8
"""days that a first chain is proposed to take, and, of days of at most so many rows, which take seconds each and teach
little each, so many"""


def days_proposed(rows: int) -> int:
    """How many days a first chain is proposed to take, of so many rows each."""
    return SEVERAL if rows <= SMALL else FEW


def first_proposed(data: Data, log: Log, day: dt.date) -> dt.date:
    """The first of a few days (see `days_proposed`), one after the other, up to one: those that the log has, by their
    places where these tell the days; of three or more not the log's own first, of which no profile knows anything.

    Raises:
        UserError: 66, 74 the storage fails; 65 a file is damaged.
    """
    store = Store(data.root)
    known = [there for name in ("events", "users", "items") if (there := _days(data, store, name)) is not None]

    def has(one: dt.date) -> bool:
        return all(one in there for there in known) and (data.events.date_column is None or log.has(one))

    first, many = day, days_proposed(log.rows(day))
    while (day - first).days < many - 1 and has(before(first)):
        first = before(first)
    return before(first, -1) if (day - first).days >= 2 and not has(before(first)) else first


def _days(data: Data, store: Store, name: str) -> set[dt.date] | None:
    """The days that can be read of a table, by its places; None where these tell none."""
    table = getattr(data, name)
    if table is None or data.format_of(table) in LAKES or not (table.is_dated or table.hive_key):
        return None
    lag = table.lag_days if isinstance(table, SideTable) else 0
    return {before(day, -lag) for day in Places(store, name, table, data.format_of(table)).days()}


def first_window(config: Config, log: Log, day: dt.date) -> list[dt.date]:
    """`teacher.first_window_days` days up to `day`; where that is not given the fewest that have ENOUGH rows, at most
    MOST, and none before a day that the log lacks.

    Raises:
        UserError: 66 the log has no such day, 74 the storage fails.
    """
    given = config.teacher.first_window_days
    if given or not config.auto.budget:
        return window(day, given or 1)
    days, rows = [day], log.rows(day)
    while rows < ENOUGH and len(days) < MOST and log.has(earlier := before(days[-1])):
        days.append(earlier)
        rows += log.rows(earlier)
    return sorted(days)
