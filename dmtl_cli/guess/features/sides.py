"""Whose a column of the events is, the user's, the item's or the context's, and which codes never come back; and of a
column that the events and a table of their users or items both have, by one name or two, which of the two is read.

A feature of a user or an item is read from the table where that has the column. Where a table of one state for all days
says otherwise than the rows, it says what holds at the end of the log, and the rows what held as an item was shown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.pieces import ITEMS, separator_in
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import FEW, free, is_constant, share, values_in, within
from dmtl_cli.guess.features.inputs import Input, Inputs, Shown
from dmtl_cli.guess.reading.tables import Table

_SEEN = 0.05  # of the rows of other days have a code of the day with most rows, or of another one
_ROWS = 100  # of other days than that with most, below which nothing is concluded
_OF_ONE = 0.98  # of the rows of a code have one user
_TIMES = 1.5  # as many codes as users
_EACH = 3  # rows of an item, which all have its value
_LISTED = 0.95  # of the ids are in the table, for the events' own column to be of no use
_SAME, _RELATED = 0.99, 0.5
"""share of the rows with the table's value, from which on the two say one thing; below which they are of two things"""


def side_of(c: str, frame: pl.DataFrame, roles: Roles, days: pl.Series | None) -> tuple[str, bool]:
    """Whose a column of the events is, and whether it is an item's value of a day alone, as a price is: a user's or an
    item's where it is the same in all of their rows, a user's where it is a list of items; what varies for both is of
    the context."""
    s, item = frame[c], roles.item
    for side in ("item", "user") if s.dtype == pl.List else ("user", "item"):
        key = getattr(roles, side)
        if key is not None and is_constant(frame, key.column, c):
            return side, False
    if item is not None and _has_items(s, frame[item.column]):
        return "user", False
    if item is not None and is_of_day(frame, item.column, c, days):
        return "item", True
    return "context", False


def is_another(c: str, of_tables: Sequence[Input], events: Table, roles: Roles, days: pl.Series | None) -> bool:
    """Whether a column of the events with the name of one of a table beside them is of somebody else: the user's city
    beside that of an item. One of the context is hardly: an item's own value changes too."""
    side, _ = side_of(c, events.frame, roles, days)
    same = {i.side for i in of_tables if i.column == c}
    return side != "context" and bool(same) and side not in same


def _has_items(s: pl.Series, items: pl.Series) -> bool:
    """Whether values are lists that have some of the items."""
    if s.dtype == pl.String and (separator := separator_in(s.name, s.drop_nulls(), items)) is not None:
        s = s.drop_nulls().str.split(separator)
    return s.dtype == pl.List and not values_in(s).dtype.is_float() and within(values_in(s), items) >= ITEMS


def never_back(s: pl.Series, days: pl.Series | None, users: pl.Series | None) -> str | None:
    """Why codes are those of requests, sessions or rows, whatever they are called; None where they may be a feature.

    Such codes do not come back on another day. Of rows of one day, they are told by their name or because each has one
    user, of whom many have several.

    Args:
        days: of the rows, as users are; null where unknown.
    """
    if s.n_unique() <= FEW:
        return None
    seen = pl.DataFrame({"v": s, "d": days}).drop_nulls() if days is not None else pl.DataFrame({"v": [], "d": []})
    most: pl.Series = seen["d"].mode().sort().head(1)
    other = seen.filter(pl.col("d") != most[0]) if len(most) else seen
    if len(other) >= _ROWS:
        on = seen.group_by("v").agg(pl.col("d").n_unique() > 1)
        back = share(other.join(on.rename({"d": "back"}), on="v", how="left")["back"])
        if back >= _SEEN:
            return None
        few = f"{back:.0%} of them are" if back else "none of them is"
        return f"{s.n_unique():,} codes, {few} there on another day: a request's, session's or row's"
    if words.by_name(s.name, words.REQUEST):
        return "named like a request or session"
    if users is None or s.n_unique() < _TIMES * users.n_unique():
        return None
    of_one = is_constant(pl.DataFrame({"v": s, "u": users}), "v", "u", _OF_ONE)
    return "codes of one user each, of whom many have several: a request's or session's" if of_one else None


def is_of_day(frame: pl.DataFrame, key: str, column: str, days: pl.Series | None) -> bool:
    """Whether a column has one value an id and day, in nearly all rows of the day with most rows."""
    if days is None or not days.count():
        return False
    most = days.drop_nulls().mode().sort()
    return is_constant(frame.filter((days == most[0]).fill_null(False)), key, column)


def read_as_shown(
    events: Table, roles: Roles, found: Inputs, partial: Collection[str], days: pl.Series | None
) -> Table:
    """Says of each feature of a table which the events have too that they have, and how often the same. Where values of
    one state for all days differ from the rows', holds it and has the events' column be read under another name.

    Args:
        partial: columns that some days lack.

    Returns:
        The events with these columns.
    """
    first, frame = [*found.used, *found.held], events.frame
    for i in first:
        beside, key = found.sides.get(f"{i.side}s"), getattr(roles, i.side, None)
        there = beside is not None and i.column in beside.table.frame.columns and i.column in events.frame.columns
        if beside is None or key is None or not there or i.column in partial or i.computed_as:
            continue
        if is_another(i.column, first, events, roles, days):
            continue
        table = beside.table.frame.select(pl.col(beside.key.column).alias("id"), pl.col(i.column).alias("x"))
        same = _same(table, events.frame[key.column], events.frame[i.column])
        if same is None:
            continue
        seen = f"that of the table of {i.side}s; the events have one too"
        if beside.is_one_state:  # else each day's rows have that of their day, of which the newest says nothing
            seen += f", the same in {same:.1%} of rows"
        if beside.is_one_state and _RELATED <= same < _SAME:
            name = free(f"{i.column}_shown", {*frame.columns, *beside.table.frame.columns})
            if i in found.used:
                why = f"{seen}: that of the end of the log; {name} is that of the moment"
                found.hold(i.column, i.side, why, counts=False)
            side = i.side if is_of_day(events.frame, key.column, i.column, days) else None
            found.shown[name], frame = Shown(i.column, side), frame.with_columns(pl.col(i.column).alias(name))
        elif i in found.used:
            found.used[found.used.index(i)] = replace(i, why=f"{i.why}; {seen}")
    return replace(events, frame=frame)


def hold_outcomes(found: Inputs, c: str, side: str, table: pl.DataFrame, key: str, events: Table, roles: Roles) -> None:
    """Holds a feature of a table of one state that has an outcome's name: it may be made of the outcomes, as a mean of
    the log is, unless it is an item's own that the outcomes repeat, as the length of a film beside how it was played.

    Args:
        table: a row of each id of `key`.
    """
    if not any((i.column, i.side) == (c, side) and i.computed_as for i in found.used):
        return
    ids = getattr(roles, side).column
    if side == "item" and c in events.frame.columns:
        rows = events.frame.drop_nulls(c)
        same = _same(table.select(pl.col(key).alias("id"), pl.col(c).alias("x")), rows[ids], rows[c])
        if len(rows) >= _EACH * rows[ids].n_unique() and same is not None and same >= _SAME:
            return
    found.hold(c, side, "an outcome has its name: is it made of that?", counts=False)


def leave_doubles(frame: pl.DataFrame, key: str, side: str, found: Inputs, begin: int) -> None:
    """Leaves out columns of the events that say what a feature of their users' or items' table says under another name,
    as `video.lang` beside `language`.

    Args:
        frame: the events, the newest first.
        begin: place of the first feature of the events.
    """
    beside, own = found.sides.get(f"{side}s"), [i.column for i in found.used[begin:] if i.side == side]
    if beside is None or not own or within(frame[key], beside.table.frame[beside.key.column]) < _LISTED:
        return
    first = frame.unique(key, keep="first", maintain_order=True)
    theirs = [i.column for i in found.used[:begin] if i.side == side and i.column in beside.table.frame.columns]
    for c in own:
        rows = first.filter((pl.col(c) != pl.col(c).drop_nulls().mode().first()).fill_null(False))
        if len(rows) < FEW:  # of one value nearly everywhere
            continue
        for x in theirs:
            table = beside.table.frame.select(pl.col(beside.key.column).alias("id"), pl.col(x).alias("x"))
            known = within(rows[key], table.drop_nulls("x")["id"])
            if known >= _LISTED and all((_same(table, of[key], of[c]) or 0) >= _SAME for of in (rows, first, frame)):
                found.leave_out([c], f"{x} of the table of {side}s, by another name", side)
                break


def _same(table: pl.DataFrame, ids: pl.Series, values: pl.Series) -> float | None:
    """Share of the rows, of those with a value in both, that have that of their id's in the table; None where they
    cannot be compared or are few.

    Args:
        table: columns `id` and `x`, the newest rows first.
        ids: [n] of the rows, as values are.
    """
    numeric = table["x"].dtype.is_numeric() and values.dtype.is_numeric()
    if table["id"].dtype != ids.dtype or not (numeric or table["x"].dtype == values.dtype):
        return None
    one = table.unique("id", keep="first", maintain_order=True)
    rows = pl.DataFrame({"id": ids, "y": values}).join(one, on="id", how="left", maintain_order="left")
    equal = rows.filter(pl.col("x").is_not_null() & pl.col("y").is_not_null()).select(pl.col("x") == pl.col("y"))
    return share(equal.to_series()) if len(equal) >= FEW else None
