"""Which side tables belong to events, and which features their columns and the events' own give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.columns import may_be_ids, times_of
from dmtl_cli.guess.layout import Table, partitions
from dmtl_cli.guess.listed import lists_in_text
from dmtl_cli.guess.roles import Guess, Roles
from dmtl_cli.guess.snapshots import lagging
from dmtl_cli.guess.spelling import JOINED, told
from dmtl_cli.guess.values import (
    FEW,
    decimals,
    has_long_tail,
    is_constant,
    is_id,
    mean,
    share,
    span,
    with_units,
    within,
)

SEPARATORS = (" | ", "|", "; ", ";", ", ", ",")
_EMPTY, _OWN = 0.95, 0.9
_ALONE = 0.95  # of the pieces of texts are whole texts elsewhere
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""the folder that Hive and Spark write rows into whose key is null"""
_TIMED = 0.01  # of the rows of no day have a time
_ITEMS = 0.2  # of the values of lists are items, where they are histories
_FEW_CODES, _LONGEST, _FEW = 50, 50, 30


@dataclass(frozen=True)
class Side:
    """A side table."""

    table: Table
    key: Guess
    totals: tuple[str, ...] = ()
    """features of a table without days that later days change, as far as names tell"""
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
        mine = [i.column for i in found.used[before:] if i.kind == "numeric" and words.says(i.column, words.TOTAL)]
        late = lagging(beside.table, events, roles, zone)
        found.sides[name] = replace(beside, totals=() if beside.table.files.days else tuple(mine), late=late)
    taken = {i.column for i in found.used} | {g.column for g in found.unused}
    times = times_of(events.frame)
    for c in events.frame.columns:
        if c in roles.after - roles.taken:
            found.unused.append(Guess(c, "it says which rows have a duration: is it the click?"))
        elif c in partial and c not in roles.taken:
            found.unused.append(Guess(c, f"{partial[c]}: a feature is needed on every day that is learned"))
        elif c not in roles.taken and c not in taken:
            side = _side_of(c, events.frame, roles)
            _add(found, events.frame[c], side, events, roles, times, own=False)
    return found


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


def _side_of(c: str, frame: pl.DataFrame, roles: Roles) -> str:
    """Whose a column of the events is: a user's or an item's where it is the same in all of their rows, a user's where
    it is a list of items; what varies for both is of the context."""
    s = frame[c]
    for side in ("item", "user") if s.dtype == pl.List else ("user", "item"):
        key = getattr(roles, side)
        if key is not None and is_constant(frame, key.column, c):
            return side
    return "user" if roles.item is not None and _has_items(s, frame[roles.item.column]) else "context"


def _has_items(s: pl.Series, items: pl.Series) -> bool:
    """Whether values are lists that have some of the items."""
    if s.dtype == pl.String and (separator := _separator(s.name, s.drop_nulls())) is not None:
        s = s.drop_nulls().str.split(separator)
    return s.dtype == pl.List and not _inner(s).dtype.is_float() and within(_inner(s), items) >= _ITEMS


def _inner(s: pl.Series) -> pl.Series:
    return s.drop_nulls().explode(empty_as_null=False, keep_nulls=False)


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
    refused = _refusal(s, own, c in times)
    if refused is not None:
        found.unused.append(Guess(c, refused))
        return
    items = events.frame[roles.item.column] if roles.item else None
    kind, options, why = _kind(c, s, items if side == "user" else None)
    if kind == "":
        found.unused.append(Guess(c, why))
        return
    if side == "user" and not own and not is_constant(events.frame, roles.user.column, c):  # type: ignore[union-attr]
        options = {"level": "event", **options}
    found.used.append(Input(c, side, kind, options, why))


def _refusal(s: pl.Series, own: bool, is_time: bool) -> str | None:
    """Why a column is no feature."""
    c, known = s.name, s.drop_nulls()
    if len(known) < (1 - _EMPTY) * len(s) or not len(known):
        return f"{1 - len(known) / max(1, len(s)):.0%} of it is empty"
    if known.dtype.is_nested():
        return None if known.list.len().max() and len(_inner(s)) else "all its lists are empty"
    if known.n_unique() == 1 and not s.null_count():
        return "one value alone"
    if (written := lists_in_text(s)) is not None:
        return written
    if decimals(s) is not None:
        return "numbers with a decimal comma are text: write them with a point where they are to be a feature"
    if s.dtype.is_temporal() or is_time:
        return "a time: a tower cannot read it (profiles know the age of items)"
    text = s.dtype == pl.String
    own_value = (text or s.dtype.is_integer()) and len(known) > _FEW and known.n_unique() > _OWN * len(known)
    if own_value and not words.says(c, words.NUMBER) and not (text and _separator(c, known)):
        return f"nearly a value of its own for every {'id' if own else 'row'}"
    return None


def _kind(c: str, s: pl.Series, items: pl.Series | None) -> tuple[str, dict[str, Any], str]:
    """Kind, options and reason of a column; kind "" where there is none."""
    known = s.drop_nulls()
    if s.dtype == pl.List:
        return _of_lists(s, items)
    if s.dtype == pl.String:
        if (measured := with_units(known)) is not None:
            return (
                "categorical",
                {},
                f"{measured}, each a class of its own: write the number alone for a numeric feature",
            )
        if (separator := _separator(c, known)) is not None:
            pieces = known.str.split(separator)
            kind, options, why = _of_lists(pieces, items)
            return kind, {"separator": separator, **options}, f"texts cut at {separator!r}: {why}"
        whole = "; lists as text, each taken as one value: write them as lists" if _is_bracketed(known) else ""
        return "categorical", {}, f"{known.n_unique():,} texts{whole}"
    if s.dtype == pl.Boolean:
        return "categorical", {}, "yes or no"
    if s.dtype.is_numeric():
        return _of_numbers(c, known.cast(pl.Float64), whole=s.dtype.is_integer(), codes=not s.dtype.is_decimal())
    return "", {}, f"of type {s.dtype}, which no kind of feature reads"


def _of_lists(s: pl.Series, items: pl.Series | None) -> tuple[str, dict[str, Any], str]:
    lengths, inner = s.list.len(), _inner(s).drop_nulls()
    if inner.dtype.is_float():
        least, most = (int(n) for n in span(lengths))
        if least == most >= 2:
            return "vector", {"dim": most}, f"lists of {most} numbers each"
        return "", {}, "lists of numbers of several lengths, which no kind of feature reads"
    if not (inner.dtype.is_integer() or inner.dtype in (pl.String, pl.Boolean)):
        return "", {}, f"lists of {inner.dtype}, which no kind of feature reads"
    long = int(lengths.quantile(0.95) or 1)
    options: dict[str, Any] = {"max_length": min(_LONGEST, max(2, long))}
    if items is not None and (there := within(inner, items)) >= _ITEMS:
        return "sequence", {"embedding_name": ":item", **options}, f"lists of items ({there:.0%} are in the sample)"
    return "sequence", options, f"lists of {inner.n_unique():,} values, {mean(lengths):.1f} on average"


def _of_numbers(c: str, x: pl.Series, *, whole: bool, codes: bool) -> tuple[str, dict[str, Any], str]:
    distinct, (low, high) = x.n_unique(), span(x)
    whole = whole or bool((x.fill_nan(0) % 1 == 0).all())
    counted = words.says(c, words.NUMBER)
    if codes and whole and ((distinct <= _FEW_CODES and not words.says(c, words.SKEWED)) or not counted):
        return "categorical", {}, f"{distinct:,} whole numbers, taken as codes"
    skewed = low >= 0 and words.says(c, words.SKEWED) and has_long_tail(x)
    options: dict[str, Any] = {"transform": "log1p"} if skewed else {"num_buckets": 20}
    return "numeric", options, f"numbers from {low:,.6g} to {high:,.6g}{', with a long tail' if skewed else ''}"


def _is_bracketed(s: pl.Series) -> bool:
    return bool(s.head(100).str.contains(r"^\[.*\]$").all())


def _separator(c: str, s: pl.Series) -> str | None:
    """What cuts texts into pieces that repeat; None where they are not lists."""
    if c.endswith(":token_seq"):  # RecBole's
        return " "
    for separator in SEPARATORS:
        if share(s.str.contains(separator, literal=True)) >= 0.2:
            pieces = s.head(10_000).str.split(separator).explode()
            plain = re.sub(r"\W", "", "".join(pieces.head(100).drop_nulls()))
            repeat = pieces.n_unique() <= min(0.5 * len(pieces), s.head(10_000).n_unique())
            if plain and repeat and share(pieces.str.contains(r"^ |^[(\[]|[)\]]$")) < 0.2:
                return separator
        if _are_alone_elsewhere(s, separator):
            return separator
    return None


def _are_alone_elsewhere(s: pl.Series, separator: str) -> bool:
    """Whether the pieces of the few texts that a separator cuts are whole texts of other rows, as those of
    `phone|desktop` are, and those of `Paris, France` are not."""
    cut = s.str.contains(separator, literal=True).fill_null(False)
    pieces = s.filter(cut).str.split(separator).explode()
    if cut.sum() < FEW or pieces.n_unique() < 2:
        return False
    return share(pieces.is_in(s.filter(~cut).unique().implode())) >= _ALONE
