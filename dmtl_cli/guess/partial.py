"""Columns that only some of a log's days have: a feature of one would be refused on the others."""

from __future__ import annotations

import datetime as dt

from dmtl_cli.guess.layout import Table, columns_of
from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.values import FEW, local_days, share

_OFTEN = 0.1  # of the rows have a value where a column is not just rarely filled


def partial_columns(root: str, events: Table, roles: Roles, zone: str) -> dict[str, str]:
    """Which days have a column, where the first or the newest complete one lacks it. Raises what `layout.tables` does.

    Args:
        zone: in which a time gives the day, where no name does.
    """
    often = [c for c in events.frame.columns if share(events.frame[c].is_not_null()) >= _OFTEN]
    if events.files.days:
        return _by_names(root, events, often)
    if roles.time is None or roles.time_unit is None:
        return {}
    days = local_days(events.frame[roles.time.column], roles.time_unit, zone)
    first, last = days.min(), days.max()
    if not isinstance(first, dt.date) or not isinstance(last, dt.date) or min((days == first).sum(), len(days)) < FEW:
        return {}
    out = {}
    for c in often:
        there = days.filter(events.frame[c].is_not_null())
        since, until = str(there.min()), str(there.max())
        if since != str(first):
            out[c] = f"from {since} on only"
        elif until != str(last) and (days == last).sum() >= FEW:
            out[c] = f"until {until} only"
    return out


def _by_names(root: str, events: Table, often: list[str]) -> dict[str, str]:
    """By the samples of the first and the newest complete day, then by the first rows of days between them."""
    if len(events.pieces) < 2 or events.pieces[0][2] < FEW:
        return {}
    (first, early, _), (newest, late, _) = events.pieces[0], events.pieces[-1]
    days = [day for day, _ in events.files.days if first <= day <= newest]
    known = {first: early, newest: late}
    out = {}
    for c in often:
        if (c in early) == (c in late):
            continue
        low, high = 0, len(days) - 1  # the first has what c is in `early`, the last what it is in `late`
        while high - low > 1:
            middle = (low + high) // 2
            if days[middle] not in known:
                known[days[middle]] = columns_of(root, events.files, days[middle], events.text)
            low, high = (low, middle) if (c in known[days[middle]]) == (c in late) else (middle, high)
        out[c] = f"from {days[high]} on only" if c in late else f"until {days[low]} only"
    return out
