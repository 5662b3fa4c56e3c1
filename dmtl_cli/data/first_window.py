"""The days that a chain learns first."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.config.days import before, window
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.reader import Log

ENOUGH = 20_000  # rows: some hundred steps, and thousands of clicks to be measured on
MOST = 60  # days


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
