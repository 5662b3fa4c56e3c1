"""Which tables list what a log names: its items, or its people."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import has_several, is_id, returning, within
from dmtl_cli.guess.exposures.references import MET, OWN, is_own
from dmtl_cli.guess.reading.tables import Table

_RETURN = 0.2  # of the ids of people have rows on several days of the sample


def is_listed(table: Table, logs: Iterable[tuple[Table, Roles]]) -> bool:
    """Whether a table is a catalogue of another one, which has a user, a time, and a click, kinds of behaviour, or how
    long something was read: each of its rows has an id of its own, which the other table's rows name for several users,
    or it is the id of the user. Where that table has none of these it is one of people, whom the other's rows name with
    several items on several days."""
    own = [c for c in table.frame.columns if is_own(table.frame[c])]
    for log, roles in logs if own else ():
        if log is table or roles.user is None or roles.time is None:
            continue
        user, frame = roles.user.column, log.frame
        is_told = any(role is not None for role in (roles.click, roles.behaviour, roles.duration))
        for c in own:
            for key in {c, user, *((roles.item.column,) if roles.item else ())} & {*frame.columns}:
                if not is_id(frame[key]) or within(frame[key], table.frame[c]) < MET:
                    continue
                if not is_told and not _are_people(frame, key, roles):
                    continue
                if has_several(frame, key, user) or (key == user and frame[key].n_unique() <= OWN * len(frame)):
                    return True
    return False


def _are_people(frame: pl.DataFrame, key: str, roles: Roles) -> bool:
    """Whether many ids of a column have rows on several days, and they have several items, as no exposure has."""
    days = roles.days(frame, "UTC")
    if roles.item is None or days is None or days.n_unique() < 2:
        return False
    return has_several(frame, key, roles.item.column) and returning(frame[key], days) >= _RETURN
