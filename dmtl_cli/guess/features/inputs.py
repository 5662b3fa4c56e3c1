"""What models can read of a new log beside ids and profiles, what may know too much, as later days change it, and what
is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.alike import second_names, shared_values
from dmtl_cli.guess.columns.objects import object_of
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.exposures.guests import Guests
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.sides import states
from dmtl_cli.guess.sides.late import totals_of
from dmtl_cli.guess.sides.served import Served
from dmtl_cli.guess.sides.side_tables import Beside

_SECOND = "a second name of {}: each has one of the other"
_SHARES = "; these are values of {}: one embedding"
_READ = 3  # of a duration's name: avg_dwell_sec
_TOTALS = 2
"""running totals of an object, at least, whose other whole numbers are such too where half of all are"""


@dataclass(frozen=True)
class Input:
    """A column that is a feature."""

    column: str
    side: str
    kind: str
    options: dict[str, Any]
    why: str
    of_request: bool = False
    """whether it has one value a request, of the context: known before it"""
    computed_as: str | None = None
    """of a table of users or items, where an outcome of the events has its name: that by which features read it"""

    @property
    def source(self) -> str:
        """The column as features name it."""
        return self.computed_as or self.column


@dataclass(frozen=True)
class Shown:
    """A column of the events that has what held as an item was shown."""

    column: str
    side: str | None
    """whose it is, by the table that has one of its name, where a day has one value of each; None: rows tell it"""


@dataclass
class Inputs(Beside):
    """What models can read beside ids and profiles, and what of it is left out."""

    used: list[Input] = field(default_factory=list)
    held: list[Input] = field(default_factory=list)
    """those that may know what came later, with the reason"""
    unused: list[Guess] = field(default_factory=list)
    second: list[tuple[Input, str]] = field(default_factory=list)
    """those that are left out as each says what another column says in other words, and that column"""
    shown: dict[str, Shown] = field(default_factory=dict)
    """columns of the events by names of their own, as a table has one of their name: see `sides`"""
    served: Served = field(default_factory=Served)
    """which items may be served, by the columns of their table"""
    guests: Guests | None = None
    """a second id of the user, which is no feature"""
    said: list[str] = field(default_factory=list)
    """columns of tables beside the events that a person says are outcomes"""

    def add(self, made: Input | Guess) -> None:
        """Puts a column among the features, or among what is left out."""
        if isinstance(made, Input):
            self.used.append(made)
        else:
            self.unused.append(made)

    def leave_out(self, columns: Collection[str], why: str, side: str | None = None) -> None:
        """Takes columns, of one side or any, out of the features; what shares the embedding of one has its own then."""
        for i in [i for i in (*self.used, *self.held) if i.column in columns and side in (None, i.side)]:
            (self.used if i in self.used else self.held).remove(i)
            self.unused.append(Guess(i.column, why))
            if i.side == "item":
                self.used, self.held = ([_alone(of, i.column) for of in some] for some in (self.used, self.held))

    def hold(self, column: str, side: str, why: str, *, counts: bool = True) -> None:
        """Takes a column that is among the features out of them, for a person to decide.

        Args:
            counts: whether whole numbers that were taken as codes are a count.
        """
        (made,) = (i for i in self.used if (i.column, i.side) == (column, side))
        self.used.remove(made)
        tailed = counts and made.kind == "categorical" and made.side in ("user", "item")
        kind = {"kind": "numeric", "options": {"transform": "log1p"}} if tailed else {}
        self.held.append(replace(made, why=why, **kind))  # type: ignore[arg-type]

    def leave_second_names(self, frame: pl.DataFrame, begin: int, side: str | None = None) -> None:
        """Of columns that say the same in other words leaves one among the features.

        Args:
            frame: one row an id.
            begin: place of the first feature that is looked at.
            side: whose they are, where others are among them.
        """
        kinds = ("categorical", "sequence")
        mine = [i for i in self.used[begin:] if i.kind in kinds and side in (None, i.side)]
        of = [i for i in mine if "embedding_name" not in i.options]  # lists of items are what they are by their ids
        cut = {i.column: i.options["separator"] for i in of if "separator" in i.options}
        texts = [frame[c].str.split(sign) for c, sign in cut.items() if frame.schema[c] == pl.String]
        twice = second_names(frame.with_columns(texts), {i.column: words.is_named_id(i.column) for i in of})
        self.second += [(i, twice[i.column]) for i in of if i.column in twice]
        self.used = [i for i in self.used if i not in of or i.column not in twice]
        self.unused += [Guess(c, _SECOND.format(first)) for c, first in twice.items()]

    def prefer(self, other: Input, first: str) -> None:
        """Has a column that was left out as a second name be the feature in place of the first one."""
        n = next(n for n, i in enumerate(self.used) if (i.column, i.side) == (first, other.side))
        self.used[n] = other
        self.unused[self.unused.index(Guess(other.column, _SECOND.format(first)))] = Guess(
            first, _SECOND.format(other.column)
        )


def _alone(one: Input, column: str) -> Input:
    """A feature, without the embedding of a column of the items that is none."""
    if one.options.get("embedding_name") != column:
        return one
    options = {name: value for name, value in one.options.items() if name != "embedding_name"}
    return replace(one, options=options, why=one.why.removesuffix(_SHARES.format(column)))


def hold_prices(found: Inputs) -> None:
    """Takes the prices of tables that are one state for all days out of the features where the events have that of the
    moment."""
    prices = [i for i in found.used if i.kind == "numeric" and words.says(i.column, words.PRICE)]
    beside = {i.column for i in prices if (s := found.sides.get(f"{i.side}s")) and i.column in s.table.frame.columns}
    moment = [i.column for i in prices if i.column not in beside]
    for i in prices if moment else ():
        if i.column in beside and found.sides[f"{i.side}s"].is_one_state:
            found.hold(i.column, i.side, f"that of the end of the log; {moment[0]} of the events is that of the moment")


def share_embeddings(found: Inputs, events: Table, roles: Roles) -> None:
    """Has a user's features read the embedding of an item's where their texts are those of the item's; of a column's
    names in several words those are the feature that the other side has too."""
    columns: dict[str, dict[str, pl.Series]] = {"user": {}, "item": {}}
    for i in (*found.used, *(i for i, _ in found.second)):
        beside = found.sides.get(f"{i.side}s")
        if i.side in columns and i.kind in ("categorical", "sequence") and "embedding_name" not in i.options:
            key = roles.user if i.side == "user" else roles.item
            frame = events.frame.unique(key.column) if key else events.frame
            if beside is not None and i.column in beside.table.frame.columns:
                frame = beside.table.frame.unique(beside.key.column)
            s = frame[i.column]
            cut = i.options.get("separator")
            columns[i.side][i.column] = s.str.split(cut) if cut and s.dtype == pl.String else s
    of = shared_values(columns["user"], columns["item"])
    for i, first in found.second:
        shared = {*(of if i.side == "user" else of.values())}
        is_left = any((u.column, u.side) == (first, i.side) for u in found.used)
        if is_left and i.column in shared and first not in shared:
            found.prefer(i, first)
    there = {i.column for i in found.used if i.side == "item"}
    for n, i in enumerate(found.used):
        if i.side == "user" and (item := of.get(i.column)) in there:
            why = f"{i.why}{_SHARES.format(item)}"
            found.used[n] = replace(i, options={"embedding_name": item, **i.options}, why=why)


def by_window(s: pl.Series) -> str | None:
    """Why a number counts what came in some days, by its name."""
    if s.dtype.is_numeric() and words.says(s.name, words.WINDOW):
        return f"named like what some days count: {states.LATE}"
    return None


def hold_totals(
    frame: pl.DataFrame, key: str, found: Inputs, before: int, events: pl.DataFrame, roles: Roles, side: str
) -> None:
    """Holds back the features of a table that is one state for all days which later days change: those that follow the
    sample's counts, those with such names, and a user's lists of items."""
    used = found.used[before:]
    ids = events[getattr(roles, side).column]
    for c in totals_of(frame, key, [i.column for i in used], ids, states.clicks_of(events, roles)):
        found.hold(c, side, f"it follows the log's own counts: {states.LATE}")
    for i, why in [(i, why) for i in found.used[before:] if (why := by_window(frame[i.column])) is not None]:
        found.hold(i.column, side, why)
    for i in [i for i in found.used[before:] if i.kind == "numeric"]:
        read = words.by_name(i.column, words.DURATION) >= _READ  # by its readers, and no length of its own
        if words.says(i.column, words.TOTAL) and (read or not states.is_measure(i.column)):
            found.hold(i.column, side, f"named like what later days change: {states.LATE}")
    totals = {
        i.column: frame[i.column] for i in found.held if i.side == side and i.column in frame and "total" in i.why
    }
    for i, why in [(i, states.goes_with(frame[i.column], totals)) for i in found.used[before:]]:
        if why is not None:
            found.hold(i.column, side, why)
    whole = Counter(object_of(c) for c, kind in frame.schema.items() if kind.is_integer())
    counted = Counter(object_of(c) for c in totals)
    for i in [i for i in found.used[before:] if frame.schema[i.column].is_integer()]:
        of, code = object_of(i.column), words.says(i.column, words.CODE) or words.is_named_id(i.column)
        measured = i.kind == "numeric" and states.is_measure(i.column)
        if of and counted[of] >= max(_TOTALS, whole[of] / 2) and not (code or measured):
            found.hold(i.column, side, f"beside running totals in one object: {states.LATE}")
    for i in [i for i in found.used[before:] if side == "user" and i.options.get("embedding_name") == ":item"]:
        found.hold(i.column, side, f"{i.why}; a list of the end of the log may have what came of its own exposures")
