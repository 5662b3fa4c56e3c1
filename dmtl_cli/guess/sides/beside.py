"""What an expression of a person makes of the events' rows, where it may name columns of the tables beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

import polars as pl

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.expressions import as_own, is_closed, looked_up, renamed, sources_of, with_quotes
from dmtl_cli.data.log.values.computed import Computed
from dmtl_cli.guess.columns.objects import shortened
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import sql_column, sql_name, sql_value, with_aggregates, with_booleans, with_ones
from dmtl_cli.guess.columns.values import is_flags
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.sides.side_tables import Side

_MADE = ":made"
_OF_LISTS = {"SUM": "ARRAY_SUM", "AVG": "ARRAY_MEAN"}
_SQL = {word for name in ("case", "else", "end", "null", "then", "when") for word in (name, name.upper())}
_KINDS = 20  # texts of lists that say what was done


def columns_named(option: str, text: str, such: str, sources: Callable[[str], list[str]] = sources_of) -> list[str]:
    """The columns that an option's expression names, by `sources`. Raises UserError 2 where it is none, or cannot stand
    beside others; `such`: an example of one."""
    try:
        named = sources(text)
    except ValueError as e:
        raise UserError(f"{option}: {e}", such, Exit.USAGE) from None
    if not is_closed(text):
        what = f"{option}: expected a condition that can stand beside others, got {text!r}"
        raise UserError(what, "leave out comments and AS", Exit.USAGE)
    return named


def named_beside(text: str, events: Table, sides: Mapping[str, Side]) -> str:
    """An expression of a person as the config has it. A column that the events lack, and one table beside them has, is
    that one's: items.length of length; else a last name is that of the events' one column that ends so."""
    tables = {f"{name}.": side.table for name, side in sides.items()} | {"": events}
    return as_read(_named(text, events.frame, sides), tables)


def as_read(text: str, tables: Mapping[str, Table]) -> str:
    """An expression by the types that columns are read with: active = true of active = 'Y', and saved = 1 of saved
    where that is 0 and 1.

    Args:
        tables: by what stands before the names of their columns.
    """
    flags = {f"{of}{c}" for of, table in tables.items() for c in table.flags}
    numbers = {f"{of}{s.name}": s for of, table in tables.items() for s in table.frame if s.dtype.is_numeric()}
    ones = {name for name, s in numbers.items() if name in text and is_flags(s)}
    return with_ones(with_booleans(text, flags), ones)


def with_presence(text: str, tables: Sequence[Table]) -> str:
    """An expression of a person in which `offer IS NOT NULL`, of the one object of that name, is of that of its fields
    which most rows have: an object itself is no column."""
    if re.search(r"\bIS\s+(NOT\s+)?NULL\b", text, re.IGNORECASE) is None:
        return text
    fields: dict[str, list[tuple[float, str]]] = {}
    objects: dict[str, set[tuple[int, str]]] = {}
    for k, table in enumerate(tables):
        for s in (s for s in table.frame if "." in s.name):
            parts = s.name.split(".")
            for n in range(1, len(parts)):
                above = ".".join(parts[:n])
                for name in {above, parts[n - 1]}:
                    objects.setdefault(name, set()).add((k, above))
                    fields.setdefault(name, []).append((s.null_count() / max(1, len(s)), s.name))
    columns = {c for table in tables for c in table.frame.columns}
    known = {*columns, *shortened(columns), *_SQL}
    for name in [name for name, of in objects.items() if len(of) == 1 and name not in known]:
        named = rf"'(?:[^']|'')*'|(?<![\w.\"])(\"?){re.escape(name)}\1(?=\s+(?i:IS\s+(?:NOT\s+)?NULL)\b)"
        column = sql_column(min(fields[name])[1])
        text = re.sub(named, partial(_in_place, column), text)
    return text


def _in_place(column: str, found: re.Match[str]) -> str:
    """A column in place of a name, and a text in quotes as it is."""
    return found[0] if found[0].startswith("'") else column


def with_elements(text: str, tables: Sequence[Table]) -> str:
    """An expression of a person over what rows have as lists: `saved OR SUM(ms) >= 60000`, of a list of what was done,
    is `ARRAY_CONTAINS(done.kind, 'saved') OR ARRAY_SUM(done.ms) >= 60000`."""
    columns = {c for table in tables for c in table.frame.columns}
    short = shortened(columns)
    lists = {s.name: s for table in tables for s in table.frame if isinstance(s.dtype, pl.List)}

    def added(found: re.Match[str]) -> str:
        c = short.get(found[2], found[2])
        is_list = c in lists and lists[c].dtype.inner.is_numeric()  # type: ignore[attr-defined]
        return f"{_OF_LISTS[found[1].upper()]}({sql_column(c)})" if is_list else found[0]

    plain = {s.name for table in tables for s in table.frame if not isinstance(s.dtype, pl.List)}
    for c in sorted(c for c, s in lists.items() if s.dtype == pl.List(pl.String) and c not in plain):
        text = _with_values(text, c, columns)
    text = re.sub(r'\b(SUM|AVG)\s*\(\s*"?([^\s"()]+)"?\s*\)', added, text, flags=re.IGNORECASE)
    with suppress(ValueError):  # which is said of it as it is typed
        alone = with_quotes(with_aggregates(text, lambda _: "1"))
        words = {c for c in sources_of(alone) if c not in columns and c not in short}
        kinds = {c: _kinds(s) for c, s in lists.items()} if words else {}
        of = {w: [c for c, known in kinds.items() if w in known] for w in words}
        made = {w: f"ARRAY_CONTAINS({sql_column(c[0])}, {sql_value(w)})" for w, c in of.items() if len(c) == 1}
        return renamed(with_quotes(text), made) if made else text
    return text


def _with_values(text: str, column: str, columns: Collection[str]) -> str:
    """An expression in which `kind = 'saved'` and `kind IN ('saved', 'sent')`, of lists of texts, ask whether one is in
    it. The column may be named by what it alone ends in: `done.kind` of `cards.done.kind`."""
    parts, value = column.split("."), r"'(?:[^']|'')*'"
    ends = [".".join(parts[k:]) for k in range(len(parts))]
    names = [end for end in ends if [c for c in columns if f".{c}".endswith(f".{end}")] == [column]]
    named = "|".join(map(re.escape, names or [column]))
    found = rf"""{value}|(?<![\w."])"?(?:{named})"?\s*(?:=\s*({value})|IN\s*\(([^()]*)\))"""

    def has(said: re.Match[str]) -> str:
        values = re.findall(value, said[1] or said[2] or "")
        any_of = " OR ".join(f"ARRAY_CONTAINS({sql_column(column)}, {v})" for v in values)
        return said[0] if not values else f"({any_of})" if len(values) > 1 else any_of

    return re.sub(found, has, text, flags=re.IGNORECASE)


def _kinds(s: pl.Series) -> frozenset[str]:
    """The texts that lists have, where they are of few kinds."""
    texts = s.explode().drop_nulls().unique() if s.dtype == pl.List(pl.String) else pl.Series([], dtype=pl.String)
    return frozenset(texts.to_list()) if len(texts) <= _KINDS else frozenset()


def _named(text: str, events: pl.DataFrame, sides: Mapping[str, Side]) -> str:
    found, short = dict[str, str](), shortened(events.columns)
    for c in {c for c in sources_of(text) if c.isidentifier()} - {*events.columns}:
        tables = [name for name, side in sides.items() if c in side.table.frame.columns]
        if len(tables) == 1:
            found[c] = f"{tables[0]}.{c}"
        elif c in short and not tables:
            found[c] = sql_name(short[c])
    whole = renamed(text, found)
    try:
        sources_of(whole)
    except ValueError:  # a function has that name too
        return text
    return whole


def made_of(text: str, events: Table, roles: Roles, sides: Mapping[str, Side]) -> pl.Series | None:
    """[n] what an expression makes of each row, null where one does not tell it; None where it names a column beside
    them that no sample has, as one of a type that nothing reads. A row of a table beside them is the newest of its id.

    Raises:
        UserError: 65 it does not fit the types of the columns.
    """
    whole, named = events.frame, set[str]()
    for name, column in looked_up(text):
        named.add(f"{name}.{column}")
        if f"{name}.{column}" in whole.columns:  # a field of an object of the events
            continue
        side, key = sides.get(name), getattr(roles, name.removesuffix("s"))
        if side is None or column not in side.table.frame.columns:
            return None
        beside = side.table.frame.unique(side.key.column, keep="first", maintain_order=True)
        beside = beside.select(pl.col(side.key.column).alias(key.column), pl.col(column).alias(f"{name}.{column}"))
        whole = whole.join(beside, on=key.column, how="left", maintain_order="left")
    text = with_booleans(as_own(text, named), {s.name for s in whole if s.dtype == pl.Boolean})
    file = events.files.files[0][0]  # whose name says whether types are of its own
    return pl.Series(Computed("", {_MADE: text}).of(whole.to_arrow(), [_MADE], file).column(_MADE))


def told_by(option: str, text: str, events: Table, roles: Roles, sides: Mapping[str, Side]) -> pl.Series | None:
    """What `made_of` makes of an option's expression. Raises UserError 2 where that raises 65."""
    try:
        return made_of(text, events, roles, sides)
    except UserError as e:
        what = e.message.rpartition(f".computed.{_MADE}: ")[2]
        raise UserError(f"{option}: {what}", e.hint, Exit.USAGE) from None


def no_flags(option: str, text: str, values: pl.Series, hint: str) -> UserError:
    """What is said of an option's expression that makes other values than true and false."""
    return UserError(f"{option}: expected true or false of each row, got {values.dtype} by {text}", hint, Exit.USAGE)


def judged(events: Table, roles: Roles, sides: Mapping[str, Side]) -> pl.DataFrame:
    """The events with the column of good clicks that a person's rule makes; as they are where it cannot be made."""
    good, text = roles.conversion, roles.made_by
    if good is None or text is None or good.column in events.frame.columns:
        return events.frame
    with suppress(UserError):  # which is said of the rule, where it is looked at
        made = made_of(text, events, roles, sides)
        if made is not None and made.dtype == pl.Boolean:
            return events.frame.with_columns(made.cast(pl.Int64).alias(good.column))
    return events.frame
