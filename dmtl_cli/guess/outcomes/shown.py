"""A table whose rows are requests with lists of what was shown, as one of events."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import within
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.exposures.references import is_own
from dmtl_cli.guess.outcomes.keys import roles_beside
from dmtl_cli.guess.reading.exploding import elements, parallel
from dmtl_cli.guess.reading.tables import ROWS, Table, exploded, filled

_OWN = 0.9  # of the rows have a user of their own: a table of users
_SURE = 2  # of the name of an item
_LISTED = 0.9  # of the ids are in a table of items


def as_events(table: Table, others: Sequence[Table], given: Mapping[str, str]) -> Table:
    """The table with a row for each element of its lists where these have the items, and its rows have a user and a
    time but no item that is named like one, or that a table beside it lists where none lists the elements and nothing
    says what was clicked of these; else as it is."""
    groups = parallel(table.frame)
    if not groups:
        return table
    mine = {role: c for role, c in given.items() if c in table.frame.columns}
    if not any(mine.get("item") in columns for _, columns in groups) and _has_item(table, mine):
        return table
    beside = [t for t in others if t is not table]
    for names, columns in groups:
        made = by_elements(table, names)
        roles = roles_beside(made, beside, mine)
        if not _are_events(table, roles, columns):
            continue
        told = any(role is not None and role.column in columns for role in (roles.click, roles.duration))
        if told or mine.get("item") in columns or _is_listed(made, roles, beside):
            return made
        flat = roles_beside(table, beside, mine)
        if flat.user is None or not _is_listed(table, flat, beside):
            return made
    return table


def _is_listed(table: Table, roles: Roles, beside: Sequence[Table]) -> bool:
    """Whether nearly each row has an item of which a table beside it has a row each."""
    if roles.item is None or roles.item.column not in table.frame:
        return False
    ids = table.frame[roles.item.column]
    keys = (s for t in beside for s in t.frame if s.dtype == ids.dtype and is_own(s))
    return ids.count() >= _LISTED * len(ids) and any(within(ids, key) >= _LISTED for key in keys)


def of_lone_lists(table: Table, given: Mapping[str, str]) -> Iterator[tuple[Table, Roles]]:
    """The table with a row for each element of a list that is alone and may be what was shown, and the roles of its
    columns: whether it is tells what names a list and an element of it."""
    mine = {role: c for role, c in given.items() if c in table.frame.columns}
    lists = [c for c, kind in table.frame.schema.items() if kind in (pl.List(pl.String), pl.List(pl.Int64))]
    for c in lists if not table.explode else ():
        made = by_elements(table, (c,))
        roles = roles_of(made.frame, {"item": c, **mine})
        if _are_events(table, roles, [c]):
            yield made, roles


def _has_item(table: Table, given: Mapping[str, str]) -> bool:
    item = roles_of(table.frame, given).item
    return item is not None and words.by_name(item.column, words.ITEM) >= _SURE


def _are_events(table: Table, roles: Roles, lists: Sequence[str]) -> bool:
    if roles.user is None or roles.item is None or roles.time is None:
        return False
    user = table.frame[roles.user.column] if roles.user.column in table.frame.columns else pl.Series([])
    beside = roles.user.column not in lists and roles.time.column not in lists
    return beside and roles.item.column in lists and user.n_unique() < _OWN * len(user)


def by_elements(table: Table, names: tuple[str, ...]) -> Table:
    """The table with a row for each element of these lists, about as many as a sample has."""
    table = replace(table, frame=table.with_deep(names))
    pieces, frames = list[tuple[dt.date, frozenset[str], int]](), []
    for day, frame in _of_days(table):
        frames.append(frame)
        if day is not None:
            rows = elements(frame, names)
            pieces.append((day, filled(rows), len(rows)))
    return exploded(replace(table, pieces=tuple(sorted(pieces)), explode=names), frames)


def _of_days(table: Table) -> Iterator[tuple[dt.date | None, pl.DataFrame]]:
    """(day, first rows) of each day of a sample, the newest first; else rows from all of it."""
    lists = [c for c, kind in table.frame.schema.items() if isinstance(kind, pl.List)]
    many = max(int(table.frame[c].list.len().sum() or 0) for c in lists)
    if not table.pieces:
        yield None, table.frame.gather_every(max(1, -(-many // ROWS)))
    for day, _, rows in reversed(table.pieces):
        of = table.of_day(day)
        assert of is not None
        yield day, of.head(max(1, rows * ROWS // max(many, ROWS)))
