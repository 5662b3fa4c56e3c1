"""Outcomes that lie in a table of their own: which table beside the events has rows by an exposure's id, and which
aggregates make columns of the events of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import polars as pl

from dmtl_cli.config.expressions import aggregated_roots_of, sources_of
from dmtl_cli.guess import words
from dmtl_cli.guess.exploding import elements, parallel
from dmtl_cli.guess.rewrites import sql_column
from dmtl_cli.guess.roles import Roles
from dmtl_cli.guess.tables import Table
from dmtl_cli.guess.values import FEW, free, is_binary, is_id, share, time_unit, within

_OWN = 0.99  # of the rows of the events have an id of their own
_THERE = 0.05  # of the table's ids are exposures of the sample, which may have other rows
_ALL = 0.9  # of the exposures have a row: a row says nothing by itself then
_MET = 0.5  # of the ids that a log names are a table's
_STATES = 20  # values of a text that says how far an order is
_SEVERAL = 0.1  # of an exposure's ids with several rows may have several users


@dataclass(frozen=True)
class Outcomes:
    """A table of what came of exposures."""

    name: str
    table: Table
    key: str
    event_key: str
    columns: dict[str, str]
    """expressions by the name of the column that they make"""
    left: tuple[str, ...]
    """columns of the table that none is made of"""
    why: str
    good: tuple[tuple[int, str, str], ...] = ()
    """(rank, column, why) of those that may tell a good click, the best first"""
    computed: tuple[str, str] | None = None
    """the expressions by which the events and the table have the key, where no column has it"""
    once: bool = False
    """whether several exposures have one key, of which one is to be read"""

    @property
    def sources(self) -> set[str]:
        """The table's columns that are read."""
        keys = sources_of(self.computed[1]) if self.computed else [self.key]
        return {*keys, *(c for text in self.columns.values() for c in aggregated_roots_of(text))}

    @property
    def event_sources(self) -> set[str]:
        """The events' columns that are read for it."""
        return {*sources_of(self.computed[0])} if self.computed else {self.event_key}


def is_listed(table: Table, logs: Iterable[tuple[Table, Roles]]) -> bool:
    """Whether a table is a catalogue of another one, which has a user, a click and a time: each of its rows has an id
    of its own, which the other table's rows name for several users, or it is the id of the user."""
    own = [c for c in table.frame.columns if _is_own(table.frame[c])]
    for log, roles in logs:
        if log is table or roles.user is None or roles.click is None or roles.time is None:
            continue
        user, frame = roles.user.column, log.frame
        for c in own:
            for key in {c, user, *((roles.item.column,) if roles.item else ())} & {*frame.columns}:
                if not is_id(frame[key]) or within(frame[key], table.frame[c]) < _MET:
                    continue
                if _has_several(frame, key, user) or (key == user and frame[key].n_unique() <= _OWN * len(frame)):
                    return True
    return False


def outcomes_of(events: Table, others: Sequence[tuple[Table, Roles]], roles: Roles) -> list[Outcomes]:
    """The tables that have rows by a column of the events of which nearly each row has a value of its own, and which is
    neither the user nor the item; none where these are not known.

    Args:
        others: tables beside the events, each with the roles of its own columns: the rows of an exposure have one user.
    """
    if roles.user is None or roles.item is None:
        return []
    ids = {roles.user.column, roles.item.column}
    own = [c for c in events.frame.columns if c not in ids and _is_own(events.frame[c])]
    found: list[Outcomes] = []
    for table, beside in others:
        taken = {*events.frame.columns, *(c for one in found for c in one.columns)}
        name = free(_name(table), {one.name for one in found})
        one = _outcomes(events, table, own, roles, taken, name)
        user = beside.user.column if beside.user else None
        if one is not None and (user in (None, one.key) or not _has_several(table.frame, one.key, str(user))):
            found.append(one)
    return found


def outcomes_by_pairs(events: Table, others: Iterable[Table], roles: Roles) -> list[Outcomes]:
    """The tables whose rows, or the elements of whose lists, name an item and the request that it was shown in: of an
    order the lines, each with the list it came from."""
    if roles.item is None or roles.request is None:
        return []
    request, item = roles.request.column, roles.item.column
    pairs = events.frame.select(pl.sql_expr(pair_of(request, item)).alias("k"))["k"].drop_nulls()
    found: list[Outcomes] = []
    for other in others:
        ways = [
            replace(other, explode=names, frame=elements(other.frame, names)) for names, _ in parallel(other.frame, 1)
        ]
        for table in (other, *ways):
            taken = {*events.frame.columns, *(c for one in found for c in one.columns)}
            if (one := _by_pair(table, events, request, item, pairs, taken)) is not None:
                found.append(one)
                break
    return found


def _by_pair(
    table: Table, events: Table, request: str, item: str, pairs: pl.Series, taken: set[str]
) -> Outcomes | None:
    frame = table.frame
    ids = [c for c in frame.columns if is_id(frame[c]) and frame[c].n_unique() > FEW]
    requests = [c for c in ids if within(frame[c], events.frame[request]) >= _THERE]
    items = [c for c in ids if not _is_own(frame[c]) and within(frame[c], events.frame[item]) >= _MET]
    for c, i in ((c, i) for c in requests for i in items if i != c):
        rows = frame.filter(pl.col(c).is_in(events.frame[request].unique().implode()))
        met = rows.select(pl.sql_expr(pair_of(c, i)).alias("k"))["k"].drop_nulls()
        if len(met) < FEW or share(met.is_in(pairs.unique().implode())) < _MET:
            continue
        key, name = free("exposure", {*taken, *frame.columns}), free(_name(table), taken)
        columns, left = _of_lines(frame.drop(c, i), {*taken, *frame.columns, name})
        rate = share(pairs.is_in(met.implode()))
        why = f"{rate:.0%} of the sample's exposures have a row, by {request} and {item}"
        computed = pair_of(request, item), pair_of(c, i)
        return Outcomes(name, table, key, key, {name: _ROW, **columns}, tuple(left), why, (), computed)
    return None


def _of_lines(frame: pl.DataFrame, taken: set[str]) -> tuple[dict[str, str], list[str]]:
    """As `_aggregates`, and of texts with few values the last one in their order, by names without a point."""
    columns, left = dict[str, str](), list[str]()
    for s in frame:
        text = s.dtype == pl.String and time_unit(s) is None and s.drop_nulls().n_unique() <= _STATES
        if (made := f"MAX({sql_column(s.name)})" if text else aggregate_of(s)) is None:
            left.append(s.name)
        else:
            columns[free(f"its_{s.name.replace('.', '_').replace('$', '')}", {*taken, *columns})] = made
    return columns, left


def pair_of(one: str, other: str) -> str:
    """Two ids of a row as one value, in SQL."""
    return f"{sql_column(one)} || '/' || {sql_column(other)}"


def _has_several(frame: pl.DataFrame, key: str, user: str) -> bool:
    """Whether an id has rows of several users, as an item's has and an exposure's has not."""
    if key == user:
        return False
    rows = frame.select(pl.col(key).alias("k"), pl.col(user).alias("u")).drop_nulls()
    several = rows.group_by("k").agg(pl.len().alias("n"), pl.col("u").n_unique()).filter(pl.col("n") > 1)
    return len(several) >= FEW and share(several["u"] > 1) > _SEVERAL


def with_outcomes(events: Table, found: Iterable[Outcomes]) -> Table:
    """The events with these columns, of the rows of the tables' samples."""
    frame = events.frame
    for one in found:
        made = [pl.sql_expr(text).alias(c) for c, text in one.columns.items()]
        rows = one.table.frame
        if one.computed:
            mine, others = (pl.sql_expr(text).alias(one.key) for text in one.computed)
            frame, rows = frame.with_columns(mine), rows.with_columns(others)
        rows = rows.filter(pl.col(one.key).is_not_null())
        by_id = rows.group_by(one.key, maintain_order=True).agg(made).rename({one.key: one.event_key})
        frame = frame.join(by_id, on=one.event_key, how="left", maintain_order="left")
        counts = [c for c, text in one.columns.items() if text.startswith(("COUNT(", "COALESCE("))]
        frame = frame.with_columns(pl.col(c).fill_null(False) for c in counts)
        frame = frame.drop(one.event_key) if one.computed else frame
    return replace(events, frame=frame)


def without_rows(rule: str | None, events: pl.DataFrame, later: Iterable[Outcomes]) -> str | None:
    """A person's rule of a good click, so that it is false where the tables that it names have no row of the exposure
    and it would be unknown.

    Args:
        events: a sample, with the columns of these tables.
    """
    joined = {c for one in later for c in one.columns}
    if rule is None or not joined.intersection(sources_of(rule)):
        return rule
    try:
        values = events.select(pl.sql_expr(rule).alias("good"))["good"]
    except pl.exceptions.PolarsError:  # it names fields of objects, or what is not there
        return rule
    return f"COALESCE({rule}, FALSE)" if values.dtype == pl.Boolean and values.null_count() else rule


_ROW = "COUNT(*) > 0"


def _is_own(s: pl.Series) -> bool:
    known = s.drop_nulls()
    return is_id(s) and time_unit(s) is None and known.n_unique() >= _OWN * len(known)


def _outcomes(
    events: Table, table: Table, own: Sequence[str], roles: Roles, taken: set[str], name: str
) -> Outcomes | None:
    fits: list[tuple[float, str, str]] = []
    for k, key in enumerate(table.frame.columns):
        for c in own if is_id(table.frame[key]) else ():
            same = c == key
            if (same or k == 0) and (joined := within(table.frame[key], events.frame[c])) >= _THERE:
                fits.append((joined + same, c, key))
    if not fits:
        return None
    _, c, key = max(fits)
    columns, left = _aggregates(table.frame, key, taken)
    rate = share(events.frame[c].is_in(table.frame[key].unique().implode()))
    if rate <= _ALL:
        clicked = any(words.by_name(x, words.CLICK) > 1 for x in columns)
        counted = name if roles.click is not None or clicked else "clicked"
        columns = {free(counted, {*taken, *columns}): _ROW, **columns}
    elif not any(words.by_name(x, words.CLICK + words.DURATION) for x in columns):
        return None  # what is there for every exposure may be known before it
    if not columns:
        return None
    why = f"{rate:.0%} of the sample's exposures have a row, by {c}"
    return Outcomes(name, table, key, c, columns, tuple(left), why)


def _aggregates(frame: pl.DataFrame, key: str, taken: set[str]) -> tuple[dict[str, str], list[str]]:
    """The sum of what lasts, the greatest of other numbers and flags; and the columns of which nothing is made."""
    columns: dict[str, str] = {}
    left: list[str] = []
    for s in frame:
        c = s.name
        if c == key or c in taken:
            continue
        if (made := aggregate_of(s)) is None:
            left.append(c)
        else:
            columns[c] = made
    return columns, left


def aggregate_of(s: pl.Series) -> str | None:
    """What one value of an id's rows is made by: the sum of what lasts, the greatest of another number, of yes and no
    whether there is a yes, which without a row there is not; None of what is none of these."""
    if not (s.dtype.is_numeric() or s.dtype == pl.Boolean) or time_unit(s) is not None or s.null_count() == len(s):
        return None
    if words.is_named_id(s.name):
        return None
    if s.dtype == pl.Boolean:
        return f"COALESCE(MAX({sql_column(s.name)}), FALSE)"
    lasts = not is_binary(s) and (words.by_name(s.name, words.DURATION) or words.says(s.name, words.SPENT))
    return f"{'SUM' if lasts else 'MAX'}({sql_column(s.name)})"


def _name(table: Table) -> str:
    """A name for messages: that of the folder or file, without the day."""
    path = PurePosixPath(table.files.pattern or table.files.path)
    parts = [re.sub(r"\{[^}]*\}|\.\w+$|\*", "", part) for part in path.parts if "=" not in part]
    names = [re.sub(r"\W+|_+$|^_+", "", part) for part in parts]
    named = [name for name in names if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name)]
    return named[-1] if named else "outcomes"
