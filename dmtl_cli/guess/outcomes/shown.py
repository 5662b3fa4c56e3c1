"""A table whose rows are requests with lists of what was shown, as one of events, and which of it was clicked, where a
column beside it says so."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import sql_column
from dmtl_cli.guess.columns.values import free, share, within
from dmtl_cli.guess.exposures.labels import CLICK_EXPRESSION, CLICK_WHY, GOOD_WHY, ITEM_WHY, PLACE, roles_of
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


@dataclass(frozen=True)
class _Chosen:
    """A column that says which elements of a list were clicked, or came to something good: by their ids or places."""

    column: str
    is_list: bool
    first: int | None
    """which place the first element has: 0 or 1; None where it has ids"""

    @property
    def what(self) -> str:
        """What it has, for messages."""
        if self.first is None:
            return f"{'a list of ' * self.is_list}what was clicked of those shown"
        return f"the {'places' if self.is_list else 'place'} of what was clicked of those shown, from {self.first}"

    def rule(self, item: str, place: str) -> str:
        """Whether a row's item is such a one, in SQL.

        Args:
            place: the column of its place, from 1.
        """
        c, mine = sql_column(self.column), sql_column(item if self.first is None else place)
        mine = f"{mine} - 1" if self.first == 0 else mine
        return f"COALESCE({f'ARRAY_CONTAINS({c}, {mine})' if self.is_list else f'{c} = {mine}'}, FALSE)"


def as_events(table: Table, others: Sequence[Table], given: Mapping[str, str]) -> Table:
    """The table with a row for each element of its lists where these have the items, and its rows have a user and a
    time but no item that is named like one, or that a table beside it lists where none lists the elements and nothing
    says what was clicked of these; else as it is. What was clicked of a list is no item of the row."""
    groups = parallel(table.frame) + [((c,), (c,)) for c in _lone(table.frame) if _is_chosen_of(table, c, given)]
    if not groups:
        return table
    mine = {role: c for role, c in given.items() if c in table.frame.columns}
    whole, table = table, _without_clicked(table, mine)
    if not any(mine.get("item") in columns for _, columns in groups) and _has_item(table, mine):
        return whole
    beside = [t for t in others if t is not whole]
    for names, columns in groups:
        made = by_elements(table, names)
        alone = {} if columns[1:] or mine.get("item") else {"item": columns[0]}
        roles = roles_beside(made, beside, {**mine, **alone})
        if not _are_events(table, roles, columns):
            continue
        told = any(role is not None and role.column in columns for role in (roles.click, roles.duration))
        if alone or told or mine.get("item") in columns or _is_listed(made, roles, beside):
            return by_elements(whole, names)
        flat = roles_beside(table, beside, mine)
        if flat.user is None or not _is_listed(table, flat, beside):
            return by_elements(whole, names)
    return whole


def _lone(frame: pl.DataFrame) -> list[str]:
    """The lists of ids that no other one runs in parallel with."""
    others = {c for _, columns in parallel(frame) for c in columns}
    return [c for c in _ids_in(frame) if c not in others]


def _ids_in(frame: pl.DataFrame) -> list[str]:
    """The columns of lists of ids."""
    return [c for c, kind in frame.schema.items() if kind in _OF_IDS]


def _without_clicked(table: Table, given: Mapping[str, str]) -> Table:
    """The table without the columns of an id of what was clicked of a list, but for what is given."""
    found = (_clicked_of(table.frame, c) for c in _ids_in(table.frame))
    ids = {one.column for one in found if one is not None and one.first is None and not one.is_list}
    return replace(table, frame=table.frame.drop(ids - {*given.values()}))


def _is_chosen_of(table: Table, c: str, given: Mapping[str, str]) -> bool:
    """Whether a person says that a list has the items, or another column says which of it was clicked."""
    return given["item"] == c if "item" in given else _clicked_of(table.frame, c) is not None


def _clicked_of(frame: pl.DataFrame, shown: str) -> _Chosen | None:
    """The column, named like a click, of some of what a list has: of several that of most, of places where none has
    ids."""
    for found in (_some_of(frame, shown), _places_in(frame, shown)):
        if named := {one: many for one, many in found.items() if is_clicked(one.column)}:
            return max(named, key=lambda one: named[one])
    return None


def _good_of(frame: pl.DataFrame, shown: str, clicked: _Chosen) -> _Chosen | None:
    """The column that is named most like a conversion, of some of what was shown: of several the first."""
    found = [one for one in _some_of(frame, shown) if one != clicked and not words.says(one.column, words.NOT_GOOD)]
    named = {one: score for one in found if (score := words.by_name(one.column, words.CONVERSION))}
    return max(named, key=lambda one: named[one], default=None)


def _some_of(frame: pl.DataFrame, shown: str) -> dict[_Chosen, int]:
    """The lists, and columns of ids, that have hardly anything but what another list has in the same row, and less,
    with how many."""
    kind, long, found = frame.schema[shown], int(frame[shown].list.len().sum()), dict[_Chosen, int]()
    for c, mine in frame.schema.items():
        is_list = mine == kind
        if c == shown or not (is_list or pl.List(mine) == kind):
            continue
        clicked = pl.col(c) if is_list else pl.when(pl.col(c).is_not_null()).then(pl.concat_list(c))
        rows = frame.select(shown=shown, clicked=clicked.list.unique()).drop_nulls()
        many = int(rows["clicked"].list.len().sum())
        met = rows.select(pl.col("clicked").list.set_intersection("shown").list.len().sum()).item()
        if 0 < many < long and met >= _CLICKED * many:
            found[_Chosen(c, is_list, None)] = many
    return found


def _places_in(frame: pl.DataFrame, shown: str) -> dict[_Chosen, int]:
    """The columns of places in a list, or lists of these, with how many: numbers of at most its length, which are named
    like places where they are no lists; below the first one stands for none."""
    long, found = int(frame[shown].list.len().sum()), dict[_Chosen, int]()
    for c, mine in frame.schema.items():
        is_list, inner = isinstance(mine, pl.List), mine.inner if isinstance(mine, pl.List) else mine
        if c == shown or not inner.is_integer() or not (is_list or words.says(c, words.PLACES)):
            continue
        rows = frame.select(pl.col(shown).list.len().cast(pl.Int64).alias("most"), at=c)
        rows = rows.explode("at", empty_as_null=False, keep_nulls=False) if is_list else rows
        known = rows.drop_nulls()
        places = known.filter(pl.col("at") >= 0)
        none = len(known) < len(rows) or len(places) < len(known)
        is_last, zeros = (places["at"] == places["most"]).any(), int((places["at"] == 0).sum())
        first = 0 if zeros and not is_last and (is_list or none or 2 * zeros < len(places)) else 1
        places = places.filter(pl.col("at") >= first)
        if 0 < len(places) < long and share(places["at"] < places["most"] + first) >= _CLICKED:
            found[_Chosen(c, is_list, first)] = len(places)
    return found


def with_clicked_lists(
    tables: Sequence[Table], rows: Sequence[Table], given: Mapping[str, str]
) -> tuple[list[Table], Mapping[str, str]]:
    """The tables as rows, with a column of clicks where another column has what was clicked of a list that was shown,
    and what is given, with that click as an expression, and the items where nothing else says so.

    Args:
        tables: as they are written; rows: each as `as_events` has it.
    """
    for k, (flat, made) in enumerate(zip(tables, rows, strict=True)):
        if "click" in given or not made.explode or flat.explode:
            continue
        is_lone = "item" not in given and len(made.explode) == 1 and made.explode[0] in made.frame.columns
        alone = {"item": made.explode[0]} if is_lone else {}
        mine = {role: c for role, c in {**given, **alone}.items() if c in made.frame.columns}
        ids = {*flat.frame.columns} - {*_without_clicked(flat, mine).frame.columns}
        bare = replace(made, frame=made.frame.drop(ids))
        roles = roles_beside(bare, [other for other in rows if other is not made], mine)
        if roles.item is None or roles.click is not None or roles.item.column not in flat.frame.columns:
            continue
        item = roles.item.column
        if (clicked := _clicked_of(flat.frame, item)) is not None:
            place = free("position", made.frame.columns)
            name = free("clicked", made.frame.columns)
            rule = clicked.rule(item, place)
            why = f"{clicked.column} has it, {clicked.what}"
            is_named = is_lone or (ids and "item" not in given)
            told = {"item": item, ITEM_WHY: f"what {clicked.column} is of"} if is_named else {}
            if clicked.first is not None:
                made = by_elements(replace(flat, place=place), made.explode)
                told[PLACE] = place
            labelled = roles.duration or roles.conversion or {"duration", "conversion"} & given.keys()
            if not labelled and (good := _good_of(flat.frame, item, clicked)) is not None:
                why_good = f"{good.column} has it, {'a list ' * good.is_list}named like a conversion"
                told |= {"conversion": good.rule(item, place), GOOD_WHY: why_good}
            made = replace(made, frame=made.frame.with_columns(pl.sql_expr(rule).alias(name)))
            whole = [*rows[:k], made, *rows[k + 1 :]]
            return whole, {**given, **told, "click": name, CLICK_EXPRESSION: rule, CLICK_WHY: why}
    return [*rows], given


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
