"""Columns that the events and a table of their users or items both have, by one name or two: which of the two a feature
reads.

A feature of a user or an item is read from the table where that has the column. Where a table of one state for all days
says otherwise than the rows, it says what holds at the end of the log, and the rows what held as an item was shown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import polars as pl

from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import FEW, free, share, within
from dmtl_cli.guess.features.inputs import Inputs, Shown
from dmtl_cli.guess.features.sides import is_another, is_of_day
from dmtl_cli.guess.reading.tables import Table

_ROWS = 3  # of an item, which all have its value
_LISTED = 0.95  # of the ids are in the table, for the events' own column to be of no use
_SAME, _RELATED = 0.99, 0.5
"""share of the rows with the table's value, from which on the two say one thing; below which they are of two things"""


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
        if len(rows) >= _ROWS * rows[ids].n_unique() and same is not None and same >= _SAME:
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
