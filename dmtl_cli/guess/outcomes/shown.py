"""A table whose rows are requests with lists of what was shown, as one of events, and which of it was clicked, where a
list beside it says so."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import sql_column
from dmtl_cli.guess.columns.values import free, within
from dmtl_cli.guess.exposures.labels import CLICK_EXPRESSION, CLICK_WHY, GOOD_WHY, ITEM_WHY, roles_of
from dmtl_cli.guess.exposures.references import is_own
from dmtl_cli.guess.outcomes.keys import roles_beside
from dmtl_cli.guess.reading.exploding import elements, parallel
from dmtl_cli.guess.reading.rewrites import is_clicked
from dmtl_cli.guess.reading.tables import ROWS, Table, exploded, filled

_OF_IDS = pl.List(pl.String), pl.List(pl.Int64)
_OWN = 0.9  # of the rows have a user of their own: a table of users
_SURE = 2  # of the name of an item
_LISTED = 0.9  # of the ids are in a table of items
_CLICKED = 0.95  # of what was clicked of a list is in it


def as_events(table: Table, others: Sequence[Table], given: Mapping[str, str]) -> Table:
    """The table with a row for each element of its lists where these have the items, and its rows have a user and a
    time but no item that is named like one, or that a table beside it lists where none lists the elements and nothing
    says what was clicked of these; else as it is."""
    groups = parallel(table.frame) + [((c,), (c,)) for c in _lone(table.frame) if _is_chosen_of(table, c, given)]
    if not groups:
        return table
    mine = {role: c for role, c in given.items() if c in table.frame.columns}
    if not any(mine.get("item") in columns for _, columns in groups) and _has_item(table, mine):
        return table
    beside = [t for t in others if t is not table]
    for names, columns in groups:
        made = by_elements(table, names)
        alone = {} if columns[1:] or mine.get("item") else {"item": columns[0]}
        roles = roles_beside(made, beside, {**mine, **alone})
        if not _are_events(table, roles, columns):
            continue
        if alone:
            return made
        told = any(role is not None and role.column in columns for role in (roles.click, roles.duration))
        if told or mine.get("item") in columns or _is_listed(made, roles, beside):
            return made
        flat = roles_beside(table, beside, mine)
        if flat.user is None or not _is_listed(table, flat, beside):
            return made
    return table


def _lone(frame: pl.DataFrame) -> list[str]:
    """The lists of ids that no other one runs in parallel with."""
    others = {c for _, columns in parallel(frame) for c in columns}
    return [c for c, kind in frame.schema.items() if kind in _OF_IDS and c not in others]


def _is_chosen_of(table: Table, c: str, given: Mapping[str, str]) -> bool:
    """Whether a person says that a list has the items, or another one says which of it was clicked."""
    return given["item"] == c if "item" in given else _clicked_of(table.frame, c) is not None


def _clicked_of(frame: pl.DataFrame, shown: str) -> str | None:
    """The list, named like a click, of some of what another one has; of several the longest."""
    found = _some_of(frame, shown)
    return max((c for c in found if is_clicked(c)), key=lambda c: found[c], default=None)


def _good_of(frame: pl.DataFrame, shown: str, clicked: str) -> str | None:
    """The list that is named most like a conversion, of some of what was shown: of several the first."""
    named = {c: words.by_name(c, words.CONVERSION) for c in _some_of(frame, shown) if c != clicked}
    named = {c: score for c, score in named.items() if score and not words.says(c, words.NOT_GOOD)}
    return max(named, key=lambda c: named[c], default=None)


def _some_of(frame: pl.DataFrame, shown: str) -> dict[str, int]:
    """The lists that have hardly anything but what another one has in the same row, and less, with how many."""
    long, found = int(frame[shown].list.len().sum()), dict[str, int]()
    for c, kind in frame.schema.items():
        if c == shown or kind != frame.schema[shown]:
            continue
        rows = frame.select(shown=shown, clicked=pl.col(c).list.unique()).drop_nulls()
        many = int(rows["clicked"].list.len().sum())
        met = rows.select(pl.col("clicked").list.set_intersection("shown").list.len().sum()).item()
        if 0 < many < long and met >= _CLICKED * many:
            found[c] = many
    return found


def with_clicked_lists(
    tables: Sequence[Table], rows: Sequence[Table], given: Mapping[str, str]
) -> tuple[list[Table], Mapping[str, str]]:
    """The tables as rows, with a column of clicks where another list has what was clicked of those that were shown, and
    what is given, with that click as an expression, and the items where nothing else says so.

    Args:
        tables: as they are written; rows: each as `as_events` has it.
    """
    for flat, made in zip(tables, rows, strict=True):
        if "click" in given or not made.explode or flat.explode:
            continue
        is_lone = "item" not in given and len(made.explode) == 1 and made.explode[0] in made.frame.columns
        alone = {"item": made.explode[0]} if is_lone else {}
        mine = {role: c for role, c in {**given, **alone}.items() if c in made.frame.columns}
        roles = roles_beside(made, [other for other in rows if other is not made], mine)
        if roles.item is None or roles.click is not None or roles.item.column not in flat.frame.columns:
            continue
        item = roles.item.column
        if (clicked := _clicked_of(flat.frame, item)) is not None:
            name = free("clicked", made.frame.columns)
            rule = _is_in(clicked, item)
            why = f"{clicked} has it, a list of what was clicked of those shown"
            told = alone | ({ITEM_WHY: f"what {clicked} is of"} if alone else {})
            labelled = roles.duration or roles.conversion or {"duration", "conversion"} & given.keys()
            if not labelled and (good := _good_of(flat.frame, item, clicked)) is not None:
                told |= {"conversion": _is_in(good, item), GOOD_WHY: f"{good} has it, a list named like a conversion"}
            frame = made.frame.with_columns(pl.sql_expr(rule).alias(name))
            whole = [replace(made, frame=frame) if one is made else one for one in rows]
            return whole, {**given, **told, "click": name, CLICK_EXPRESSION: rule, CLICK_WHY: why}
    return [*rows], given


def _is_in(listed: str, item: str) -> str:
    """Whether a list has the row's item, in SQL."""
    return f"COALESCE(ARRAY_CONTAINS({sql_column(listed)}, {sql_column(item)}), FALSE)"


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
    lists = [c for c, kind in table.frame.schema.items() if kind in _OF_IDS]
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
