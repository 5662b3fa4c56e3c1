"""Which side tables belong to events, and which features their columns and the events' own give."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.columns import Guess, Roles, may_be_ids
from dmtl_cli.guess.layout import Table
from dmtl_cli.guess.values import has_long_tail, is_constant, is_id, mean, share, span, time_unit, within

SEPARATORS = ("|", ";", ",")
_JOINED, _EMPTY, _OWN = 0.05, 0.95, 0.9
_LIST = r"^\s*\[\s*-?[0-9.]+([eE][+-]?[0-9]+)?(\s*,\s*-?[0-9.]+([eE][+-]?[0-9]+)?)+\s*\]\s*$"
_FEW_CODES, _LONGEST, _FEW = 50, 50, 30


@dataclass(frozen=True)
class Side:
    """A side table."""

    table: Table
    key: Guess


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


def inputs_of(events: Table, roles: Roles, others: list[Table]) -> Inputs:
    """Features by the columns of all tables. A column is a user's or an item's where it does not change with events."""
    found = Inputs({}, [], [], [], [])
    for table in others:
        _place(table, events, roles, found)
    if roles.user is None or roles.item is None:  # whose a column is cannot be told: an id would be a feature
        return found
    for name, beside in found.sides.items():
        key = beside.key.column
        frame = beside.table.frame.unique(key, keep="first", maintain_order=True)  # the newest day is first
        for c in frame.columns:
            if c != key:
                _add(found, c, frame[c], name.removesuffix("s"), events, roles, own=True)
    taken = {i.column for i in found.used} | {g.column for g in found.unused}
    for c in events.frame.columns:
        if c in roles.after - roles.taken:
            found.unused.append(Guess(c, "it says which rows have a duration: is it the click?"))
        elif c not in roles.taken and c not in taken:
            side = _side_of(c, events.frame, roles)
            _add(found, c, events.frame[c], side, events, roles, own=False)
    return found


def _place(table: Table, events: Table, roles: Roles, found: Inputs) -> None:
    """Puts a table beside the events where its key is one of their ids."""
    fits: list[tuple[float, str, str, float]] = []
    for name, role, patterns in (("users", roles.user, words.USER), ("items", roles.item, words.ITEM)):
        for k, c in enumerate(table.frame.columns if role else ()):
            kind = table.frame[c].dtype
            if role is None or kind.is_nested() or kind.is_float() or kind.is_temporal():
                continue
            named = c == role.column or words.by_name(c, patterns) > 0
            joined = within(events.frame[role.column], table.frame[c]) if named or k == 0 else 0.0
            if joined >= _JOINED:
                fits.append((joined + named, name, c, joined))
    if not fits and (roles.user is None or roles.item is None) and (side := _perhaps(table, events)) is not None:
        found.perhaps.append(side)
        return
    if not fits:
        found.other.append((table.files.path, "no column has the users or items of the events"))
        return
    _, name, key, joined = max(fits)
    once = table.frame[key].n_unique() / len(table.frame)
    if name in found.sides:
        found.other.append((table.files.path, f"a second table of {name}"))
    elif once < 1 and not table.files.days:
        found.other.append((table.files.path, f"{name} appear in it more than once"))
    else:
        found.sides[name] = Side(table, Guess(key, f"{joined:.0%} of the sample's {name} are in it"))


def _perhaps(table: Table, events: Table) -> Side | None:
    """A table with a row for each id of some column of the events."""
    fits: list[tuple[float, str, str]] = []
    for k, key in enumerate(table.frame.columns):
        s = table.frame[key]
        if not is_id(s) or (s.n_unique() < len(s) and not table.files.days):
            continue
        for c in may_be_ids(events.frame):
            if (c == key or k == 0) and (joined := within(events.frame[c], s)) >= _JOINED:
                fits.append((joined + (c == key), c, key))
    if not fits:
        return None
    joined, c, key = max(fits)
    return Side(table, Guess(key, f"{joined - (c == key):.0%} of the sample's {c} are in it"))


def _side_of(c: str, frame: pl.DataFrame, roles: Roles) -> str:
    first = words.words(c).split(" ")[0] if words.words(c) else ""
    if frame[c].dtype in (pl.List, pl.Array):
        of_item = roles.item is not None and is_constant(frame, roles.item.column, c)
        return "item" if of_item else "user"
    for side in ("user", "item"):
        key = getattr(roles, side)
        if key is not None and (is_constant(frame, key.column, c) or first == side):
            return side
    return "context"


def _add(found: Inputs, c: str, s: pl.Series, side: str, events: Table, roles: Roles, *, own: bool) -> None:
    """Puts a column among the features, or among what is left out.

    Args:
        own: whether it is of a side table.
    """
    if own and c in roles.taken:
        found.unused.append(Guess(c, "it has the name of a column of the events with another role"))
        return
    refused = _refusal(c, s, own)
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


def _refusal(c: str, s: pl.Series, own: bool) -> str | None:
    """Why a column is no feature."""
    known = s.drop_nulls()
    if len(known) < (1 - _EMPTY) * len(s) or not len(known):
        return f"{1 - len(known) / max(1, len(s)):.0%} of it is empty"
    if known.dtype.is_nested():
        return None if known.list.len().max() else "all its lists are empty"
    if known.n_unique() == 1 and not s.null_count():
        return "one value alone"
    if (numbers := _numbers_in_text(known)) is not None:
        return f"{numbers} as text; write it as Parquet lists"
    if s.dtype.is_temporal() or time_unit(s) is not None:
        return "a time: a tower cannot read it (profiles know the age of items)"
    text = s.dtype in (pl.String, pl.Categorical, pl.Enum)
    own_value = (text or s.dtype.is_integer()) and len(known) > _FEW and known.n_unique() > _OWN * len(known)
    if own_value and not words.says(c, words.NUMBER) and not (text and _separator(c, known)):
        return f"nearly a value of its own for every {'id' if own else 'row'}"
    return None


def _numbers_in_text(s: pl.Series) -> str | None:
    """What texts such as [0.1, 0.2] are; None where they are no lists of numbers."""
    if s.dtype != pl.String or not s.head(100).str.contains(_LIST).all():
        return None
    lengths = (s.head(100).str.count_matches(",", literal=True) + 1).unique().to_list()
    return f"a list of {lengths[0]} numbers" if len(lengths) == 1 else "a list of numbers"


def _kind(c: str, s: pl.Series, items: pl.Series | None) -> tuple[str, dict[str, Any], str]:
    """Kind, options and reason of a column; kind "" where there is none."""
    known = s.drop_nulls()
    if s.dtype in (pl.List, pl.Array):
        return _of_lists(s.cast(pl.List(s.dtype.inner)), items)  # type: ignore[attr-defined]
    if s.dtype in (pl.String, pl.Categorical, pl.Enum):
        known = known.cast(pl.String)
        if (separator := _separator(c, known)) is not None:
            pieces = known.str.split(separator)
            kind, options, why = _of_lists(pieces, items)
            return kind, {"separator": separator, **options}, f"texts cut at {separator!r}: {why}"
        return "categorical", {}, f"{known.n_unique():,} texts"
    if s.dtype == pl.Boolean:
        return "categorical", {}, "yes or no"
    if s.dtype.is_numeric():
        return _of_numbers(c, known.cast(pl.Float64), whole=s.dtype.is_integer())
    return "", {}, f"of type {s.dtype}, which no kind of feature reads"


def _of_lists(s: pl.Series, items: pl.Series | None) -> tuple[str, dict[str, Any], str]:
    lengths = s.list.len()
    inner = s.explode().drop_nulls()
    if inner.dtype.is_float():
        least, most = (int(n) for n in span(lengths))
        if least == most >= 2:
            return "vector", {"dim": most}, f"lists of {most} numbers each"
        return "", {}, "lists of numbers of several lengths, which no kind of feature reads"
    if inner.dtype.is_nested():
        return "", {}, f"lists of {inner.dtype}, which no kind of feature reads"
    long = int(lengths.quantile(0.95) or 1)
    options: dict[str, Any] = {"max_length": min(_LONGEST, max(2, long))}
    if items is not None and within(inner, items) >= 0.2:
        share = within(inner, items)
        return "sequence", {"embedding_name": ":item", **options}, f"lists of items ({share:.0%} are in the sample)"
    return "sequence", options, f"lists of {inner.n_unique():,} values, {mean(lengths):.1f} on average"


def _of_numbers(c: str, x: pl.Series, *, whole: bool) -> tuple[str, dict[str, Any], str]:
    distinct, (low, high) = x.n_unique(), span(x)
    whole = whole or bool((x.fill_nan(0) % 1 == 0).all())
    counted = words.says(c, words.NUMBER)
    if whole and ((distinct <= _FEW_CODES and not words.says(c, words.SKEWED)) or not counted):
        return "categorical", {}, f"{distinct:,} whole numbers, taken as codes"
    skewed = low >= 0 and words.says(c, words.SKEWED) and has_long_tail(x)
    options: dict[str, Any] = {"transform": "log1p"} if skewed else {"num_buckets": 20}
    return "numeric", options, f"numbers from {low:,.6g} to {high:,.6g}{', with a long tail' if skewed else ''}"


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
    return None
