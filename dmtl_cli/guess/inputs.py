"""Which side tables belong to events, and which features their columns and the events' own give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.columns import may_be_ids, times_of
from dmtl_cli.guess.kinds import ITEMS, kind_of, refusal, separator_in, values_in
from dmtl_cli.guess.layout import Table, partitions
from dmtl_cli.guess.recurring import days_of_rows, is_of_day, never_back
from dmtl_cli.guess.roles import Guess, Roles
from dmtl_cli.guess.snapshots import lagging, totals_of
from dmtl_cli.guess.spelling import JOINED, told
from dmtl_cli.guess.values import (
    is_constant,
    is_id,
    share,
    within,
)

NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""the folder that Hive and Spark write rows into whose key is null"""
_TIMED = 0.01  # of the rows of no day have a time


@dataclass(frozen=True)
class Side:
    """A side table."""

    table: Table
    key: Guess
    totals: tuple[str, ...] = ()
    """features of a table without days that later days change: those that follow the sample's own counts, or without
    any those with such names"""
    late: str | None = None
    """why the table of the day before is read: see `snapshots.lagging`"""

    @property
    def caveat(self) -> str | None:
        """What a table says of its day that a person should know: that it is written late, or is of no day."""
        if self.table.files.days:
            return self.late
        what = "a running total" if len(self.totals) == 1 else "running totals"
        named = f": {', '.join(self.totals)} may be {what}" if self.totals else ""
        return f"one state for all days, also for those before it was written{named}"


@dataclass(frozen=True)
class Input:
    """A column that is a feature."""

    column: str
    side: str
    kind: str
    options: dict[str, Any]
    why: str


@dataclass(frozen=True)
class Inputs:
    """What models can read beside ids and profiles, and what of it is left out."""

    sides: dict[str, Side]
    """by users and items"""
    used: list[Input]
    unused: list[Guess]
    other: list[tuple[str, str]]
    """tables that are neither, and why"""
    perhaps: list[Side]
    """those that have ids of the events, where it is not known which are users or items"""


def inputs_of(events: Table, roles: Roles, others: list[Table], partial: Mapping[str, str], zone: str) -> Inputs:
    """Features by the columns of all tables. A column is a user's or an item's where it does not change with events.

    Args:
        partial: which days have a column, where not all do.
        zone: in which a time gives the day, where no name does.
    """
    found = Inputs({}, [], [], [], [])
    for table in others:
        _place(table, events, roles, found)
    found.unused.extend(Guess(c, f"of type {kind}") for c, kind in events.other.items())
    why = "a key of folders, which is no column: write it into the rows where it is to be a feature"
    found.unused.extend(Guess(key, why) for key in partitions(events.files) if key not in events.frame.columns)
    if roles.user is None or roles.item is None:  # whose a column is cannot be told: an id would be a feature
        return found
    for name, beside in found.sides.items():
        key = beside.key.column
        frame = beside.table.frame.unique(key, keep="first", maintain_order=True)  # the newest day is first
        times, before = times_of(frame), len(found.used)
        for c in frame.columns:
            if c != key:
                _add(found, frame[c], name.removesuffix("s"), events, roles, times, own=True)
        found.unused.extend(Guess(c, f"of type {kind}") for c, kind in beside.table.other.items())
        totals = () if beside.table.files.days else _totals(frame, key, found.used[before:], events.frame, roles, name)
        late = lagging(beside.table, events, roles, zone)
        found.sides[name] = replace(beside, totals=totals, late=late)
    taken = {i.column for i in found.used} | {g.column for g in found.unused}
    times, days = times_of(events.frame), days_of_rows(events, roles, zone)
    for c in events.frame.columns:
        if c in roles.after - roles.taken:
            found.unused.append(Guess(c, "it says which rows have a duration: is it the click?"))
        elif c in partial and c not in roles.taken:
            found.unused.append(Guess(c, f"{partial[c]}: a feature is needed on every day that is learned"))
        elif c not in roles.taken and c not in taken:
            side, of_day = _side_of(c, events.frame, roles, days)
            _add(found, events.frame[c], side, events, roles, times, own=False)
            _look_again(found, c, events.frame, roles, days, of_day=of_day)
    return found


def _totals(
    frame: pl.DataFrame, key: str, used: list[Input], events: pl.DataFrame, roles: Roles, name: str
) -> tuple[str, ...]:
    """See `Side.totals`."""
    role, clicked = getattr(roles, name.removesuffix("s")), roles.clicked(events)
    every = pl.Series([True]).new_from_index(0, len(events)) if clicked is None else clicked
    measured = totals_of(frame, key, [i.column for i in used], events[role.column], every)
    named = (i.column for i in used if i.kind == "numeric" and words.says(i.column, words.TOTAL))
    return tuple(measured) or tuple(named)


def _look_again(
    found: Inputs, c: str, frame: pl.DataFrame, roles: Roles, days: pl.Series | None, *, of_day: bool
) -> None:
    """Takes back a context of codes that never come back, and says where an item's value changes from day to day."""
    if not found.used or found.used[-1].column != c:
        return
    made = found.used[-1]
    if made.side == "context" and made.kind == "categorical":
        users = frame[roles.user.column] if roles.user else None
        if (why := never_back(frame[c], days, users)) is not None:
            found.used.pop()
            found.unused.append(Guess(c, why))
    elif of_day:
        found.used[-1] = replace(made, why=f"{made.why}; one value an item and day, which another day changes")


def _place(table: Table, events: Table, roles: Roles, found: Inputs) -> None:
    """Puts a table beside the events where its key is one of their ids."""
    columns = {*events.frame.columns}
    if len(columns) > 3 and len(columns & {*table.frame.columns}) >= 0.8 * len(columns):
        found.other.append((table.files.path, _of_events(table, events, roles)))
        return
    fits: list[tuple[float, str, str, float]] = []
    for name, role, patterns in (("users", roles.user, words.USER), ("items", roles.item, words.ITEM)):
        for k, c in enumerate(table.frame.columns if role else ()):
            kind = table.frame[c].dtype
            if role is None or not (kind.is_integer() or kind == pl.String):
                continue
            named = c == role.column or words.by_name(c, patterns) > 0
            joined = within(events.frame[role.column], table.frame[c]) if named or k == 0 else 0.0
            if joined >= JOINED:
                fits.append((joined + named, name, c, joined))
    if not fits and (roles.user is None or roles.item is None) and (side := _perhaps(table, events)) is not None:
        found.perhaps.append(side)
        return
    if not fits:
        found.other.append((table.files.path, _otherwise(table.frame, events, roles)))
        return
    _, name, key, joined = max(fits)
    ids = events.frame[(roles.user if name == "users" else roles.item).column]  # type: ignore[union-attr]
    twice = None if table.files.days else _more_than_once(table.frame, name, key)
    if name in found.sides:
        found.other.append((table.files.path, f"a second table of {name}"))
    elif twice is not None:
        found.other.append((table.files.path, twice))
    else:
        why = f"{joined:.0%} of the sample's {name} are in it"
        better = told(name, ids, table.frame[key], joined)
        found.sides[name] = Side(table, Guess(key, f"{why}; {better[1]}" if better else why))


def _otherwise(frame: pl.DataFrame, events: Table, roles: Roles) -> str:
    """Why a table is not used: what is to be written, where its ids are those of the events in another writing."""
    found: list[tuple[float, str]] = []
    for name, role, patterns in (("users", roles.user, words.USER), ("items", roles.item, words.ITEM)):
        for k, c in enumerate(frame.columns if role else ()):
            named = role is not None and (c == role.column or words.by_name(c, patterns) > 0)
            if role is not None and (named or k == 0):
                so = told(name, events.frame[role.column], frame[c], 0.0)
                found += [(so[0] + named, so[1])] if so else []
    return max(found)[1] if found else "no column has the users or items of the events"


def _of_events(table: Table, events: Table, roles: Roles) -> str:
    """What is to be done with a table that has the columns of the events."""
    if NO_PARTITION not in table.files.path or not events.files.days:
        to = f"if they are, put its files beside those of {events.files.path}"
        return f"it has the columns of the events: are its rows events too? {to}"
    rows = "rows of events for which the writer had no day: dmtl reads a day by its name, so they are left out"
    time = roles.time.column if roles.time else None
    if time is None or time not in table.frame.columns:
        return rows
    there = share(table.frame[time].is_not_null())
    if there < _TIMED:
        return f"{rows}; {1 - there:.0%} of them have no {time} either"
    return f"{rows}; {there:.0%} of them have a {time}: write them into the folder of the day that it tells, then init"


def _more_than_once(frame: pl.DataFrame, name: str, key: str) -> str | None:
    """Which ids have several rows, and in what these differ; None where each has one."""
    rows = frame.filter(pl.col(key).is_not_null())
    ids = rows.group_by(key, maintain_order=True).agg(pl.len().alias(":n"), pl.exclude(key).n_unique())
    twice = ids.filter(pl.col(":n") > 1)
    if not len(twice):
        return None
    differ = [c for c in frame.columns if c != key and (twice[c] > 1).any()]
    how = f"which differ in {', '.join(differ[:5])}" if differ else "which are the same"
    many = f"{len(twice):,} of its {len(ids):,} {name} have several rows, {how} ({key}, such as {twice[key][0]})"
    return f"{many}: keep one row of each, and it is {{key: {key}}} in data.{name}"


def _perhaps(table: Table, events: Table) -> Side | None:
    """A table with a row for each id of some column of the events."""
    fits: list[tuple[float, str, str]] = []
    for k, key in enumerate(table.frame.columns):
        s = table.frame[key]
        if not is_id(s) or (s.n_unique() < len(s) and not table.files.days):
            continue
        for c in may_be_ids(events.frame):
            if (c == key or k == 0) and (joined := within(events.frame[c], s)) >= JOINED:
                fits.append((joined + (c == key), c, key))
    if not fits:
        return None
    joined, c, key = max(fits)
    return Side(table, Guess(key, f"{joined - (c == key):.0%} of the sample's {c} are in it"))


def _side_of(c: str, frame: pl.DataFrame, roles: Roles, days: pl.Series | None) -> tuple[str, bool]:
    """Whose a column of the events is, and whether it is an item's value of a day alone, as a price is: a user's or an
    item's where it is the same in all of their rows, a user's where it is a list of items; what varies for both is of
    the context."""
    s = frame[c]
    for side in ("item", "user") if s.dtype == pl.List else ("user", "item"):
        key = getattr(roles, side)
        if key is not None and is_constant(frame, key.column, c):
            return side, False
    if roles.item is not None and _has_items(s, frame[roles.item.column]):
        return "user", False
    if roles.item is not None and is_of_day(frame, roles.item.column, c, days):
        return "item", True
    return "context", False


def _has_items(s: pl.Series, items: pl.Series) -> bool:
    """Whether values are lists that have some of the items."""
    if s.dtype == pl.String and (separator := separator_in(s.name, s.drop_nulls())) is not None:
        s = s.drop_nulls().str.split(separator)
    return s.dtype == pl.List and not values_in(s).dtype.is_float() and within(values_in(s), items) >= ITEMS


def _add(
    found: Inputs, s: pl.Series, side: str, events: Table, roles: Roles, times: Mapping[str, str], *, own: bool
) -> None:
    """Puts a column among the features, or among what is left out.

    Args:
        times: columns of the table that are times.
        own: whether it is of a side table.
    """
    c = s.name
    if own and c in roles.taken:
        found.unused.append(Guess(c, "it has the name of a column of the events with another role"))
        return
    refused = refusal(s, own, c in times)
    if refused is not None:
        found.unused.append(Guess(c, refused))
        return
    items = events.frame[roles.item.column] if roles.item else None
    kind, options, why = kind_of(c, s, items if side == "user" else None)
    if kind == "":
        found.unused.append(Guess(c, why))
        return
    if side == "user" and not own and not is_constant(events.frame, roles.user.column, c):  # type: ignore[union-attr]
        options = {"level": "event", **options}
    found.used.append(Input(c, side, kind, options, why))
