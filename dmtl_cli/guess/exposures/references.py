"""Which column of a table names exposures, rows of the events by an id of their own; and which tables list what a log
names, its items or its people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import FEW, has_several, is_id, returning, share, time_unit, within
from dmtl_cli.guess.reading.tables import Table

OWN = 0.99
"""of the rows of the events have an id of their own"""
THERE = 0.05
"""of a table's ids are exposures of the sample, which may have other rows"""
MET = 0.5
"""of the ids that a log names are a table's"""
_TWICE = 0.95  # where some rows came twice
_SAME = 0.9  # of the rows have the user, or the item, of the exposure that they name
_TRIED, _ROWS = 2_000, 50_000  # ids of a column, and rows, that are looked at to tell a share
_DENSE = 0.5  # of the numbers between the first and the last are there: a table's own running number
_BARE = ("id", "_id", "key", "pk")  # names that say nothing of whose they are
_RETURN = 0.2  # of the ids of people have rows on several days of the sample


def is_own(s: pl.Series, least: float = OWN) -> bool:
    """Whether nearly each row that has an id has one of its own."""
    known = s.drop_nulls()
    return is_id(s) and time_unit(s) is None and known.n_unique() >= least * len(known)


@dataclass(frozen=True)
class Exposures:
    """The events, with the values of some columns."""

    frame: pl.DataFrame
    own: dict[str, frozenset[Any]]
    """by the columns of ids that each row has for itself"""
    roles: tuple[tuple[str, frozenset[Any], words.Patterns], ...]
    """(column, ids, names that such columns have) of users and items"""


def exposures_of(frame: pl.DataFrame, user: str, item: str) -> Exposures:
    """Events with these columns of users and items. A length of time is no id, though nearly each item has its own."""
    own = [c for c in frame.columns if c not in (user, item) and is_own(frame[c], _TWICE)]
    own = [c for c in own if not words.by_name(c, words.DURATION)]
    values = {c: frozenset(frame[c].drop_nulls().to_list()) for c in (*own, *((user, item) if own else ()))}
    users, items = values.pop(user, frozenset()), values.pop(item, frozenset())
    return Exposures(frame, values, ((user, users, words.USER), (item, items, words.ITEM)))


def _some(s: pl.Series) -> list[Any]:
    """Distinct values of a column that may have ids of another table's rows, which many rows may lack; no more than are
    needed to tell what share of them something is."""
    if not (s.dtype.is_integer() or s.dtype == pl.String):
        return []
    distinct = s.drop_nulls().unique()
    return distinct.gather_every(max(1, len(distinct) // _TRIED)).to_list() if len(distinct) > FEW else []


def _there(some: Sequence[Any], known: frozenset[Any]) -> float:
    return sum(v in known for v in some) / max(1, len(some))


def reference(events: Exposures, rows: pl.DataFrame) -> tuple[str, str, bool] | None:
    """(column of the events, column of a table that names it, whether their users or items agree) of what came of
    exposures; None where no column does.

    A column with the name of the events' or the first one need have few of these ids, any other half of them or has to
    agree. Surrogate keys of all tables are the same first numbers: without users and items only a name tells them.
    """
    some = {c: values for c in rows.columns if (values := _some(rows[c]))}
    fits: list[tuple[bool, bool, bool, float, float, str, str]] = []
    for key, c in ((key, c) for key in some for c in events.own):
        usual = c == key or key == rows.columns[0]
        if (met := _there(some[key], events.own[c])) < THERE:
            continue
        if c != key and any(_there(some[key], ids) >= MET for _, ids, _ in events.roles):  # it is a user or an item
            continue
        agrees = _agrees(events, c, rows, key, some)
        chance = not (c == key and c not in _BARE) and is_chance(events.frame[c], rows[key])
        if agrees is not False and (agrees or ((usual or met >= MET) and not chance)):
            fits.append((bool(agrees), not chance, c == key, 1 - share(rows[key].is_null()), met, c, key))
    if not fits:
        return None
    agrees, *_, c, key = max(fits)
    return c, key, agrees


def is_chance(own: pl.Series, named: pl.Series) -> bool:
    """Whether the ids of exposures are small running numbers, and those that a table has may be others: they run too,
    or are not named like an id."""
    least = own.min()
    if not (own.dtype.is_integer() and isinstance(least, int) and least <= len(own)):
        return False
    low, high = int(named.min() or 0), int(named.max() or 0)  # type: ignore[arg-type]
    return named.n_unique() >= _DENSE * (high - low + 1) or not words.is_named_id(named.name)


def _agrees(events: Exposures, c: str, rows: pl.DataFrame, key: str, some: Mapping[str, Sequence[Any]]) -> bool | None:
    """Whether a table's rows have the user or the item of the exposure that they name; None where they have neither.

    Args:
        some: values of the table's columns that may be ids.
    """
    columns = [
        (x, y, names) for x, ids, names in events.roles for y in some if y != key and _there(some[y], ids) >= MET
    ]
    if not columns:
        return None
    one = events.frame.select(pl.col(c).alias(":k"), *(pl.col(x).alias(f":{x}") for x, *_ in events.roles))
    named = rows.select(pl.col(key).alias(":k"), *dict.fromkeys(y for _, y, _ in columns)).drop_nulls(":k")
    named = named.gather_every(max(1, len(named) // _ROWS)).cast({":k": one.schema[":k"]}, strict=False)
    met = named.join(one.drop_nulls(":k").unique(":k", keep="first"), on=":k")
    told: bool | None = None
    for x, y, names in columns:
        both = met.select(pl.col(y).cast(pl.String).alias("y"), pl.col(f":{x}").cast(pl.String).alias("x")).drop_nulls()
        if len(both) < FEW:
            continue
        if share(both["x"] == both["y"]) >= _SAME:
            return True
        told = False if y == x or words.by_name(y, names) else told
    return told


def is_listed(table: Table, logs: Iterable[tuple[Table, Roles]]) -> bool:
    """Whether a table is a catalogue of another one, which has a user, a time, and a click, kinds of behaviour, or how
    long something was read: each of its rows has an id of its own, which the other table's rows name for several users,
    or it is the id of the user, who has several items, as no exposure has. Where that table has none of these it is one
    of people, whom the other's rows name with several items on several days."""
    own = [c for c in table.frame.columns if is_own(table.frame[c])]
    for log, roles in logs if own else ():
        if log is table or roles.user is None or roles.time is None:
            continue
        user, frame = roles.user.column, log.frame
        is_told = any(role is not None for role in (roles.click, roles.behaviour, roles.duration))
        for c in own:
            for key in {c, user, *((roles.item.column,) if roles.item else ())} & {*frame.columns}:
                if key != c and key in table.frame.columns:  # it has that id itself: of another one it is by chance
                    continue
                if not is_id(frame[key]) or within(frame[key], table.frame[c]) < MET:
                    continue
                if not is_told and not _are_people(frame, key, roles):
                    continue
                items = roles.item.column if key == user and roles.item else None
                if has_several(frame, key, user) or (items is not None and has_several(frame, key, items)):
                    return True
    return False


def _are_people(frame: pl.DataFrame, key: str, roles: Roles) -> bool:
    """Whether many ids of a column have rows on several days, and they have several items, as no exposure has."""
    days = roles.days(frame, "UTC")
    if roles.item is None or days is None or days.n_unique() < 2:
        return False
    return has_several(frame, key, roles.item.column) and returning(frame[key], days) >= _RETURN
