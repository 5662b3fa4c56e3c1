"""Rows that are of nobody, or of nothing, and so left out of the events: those of an id that stands for guests or for
an unknown item, and those of staff, of tests and of programs that a column marks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from dmtl_cli.config.expressions import sources_of
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import sql_column, where_of
from dmtl_cli.guess.columns.values import mean
from dmtl_cli.guess.exposures.doubts import Ids, Mark, both, mark_of, nameless, way_to_leave_out
from dmtl_cli.guess.features.inputs import Inputs
from dmtl_cli.guess.outcomes.seen import undone
from dmtl_cli.guess.reading.tables import Table

_MOST = 0.2  # of the rows: of more a person decides


@dataclass(frozen=True)
class LeftOut:
    """Rows that are left out."""

    condition: str
    """of all others, in SQL"""
    what: str
    """which rows they are, and why"""
    column: str
    """of the ids or marks that the condition is about"""
    id: str | None = None
    """of that column; None: it has marks"""
    is_typed: bool = False
    """whether the config has to name the types of what the condition reads"""

    @property
    def columns(self) -> list[str]:
        """All that the condition reads, of whatever table."""
        return [re.sub(r"^(users|items)\.", "", c) for c in sources_of(self.condition)]


def left_out(events: Table, roles: Roles, inputs: Inputs, rule: str | None = None) -> list[LeftOut]:
    """What is left out: of ids that look like nobody or like no item, and of marks, each that has few of the rows. The
    marks are told as left out then, in place of how to do so.

    Args:
        rule: the condition that a person gives beside these.
    """
    if roles.user is None or roles.item is None or roles.behaviour is not None:
        return []
    found = [*_nameless(events.frame, roles.user, "user"), *_nameless(events.frame, roles.item, "item")]
    marks = [g for g in inputs.unused if isinstance(g, Mark)]
    told = {mark.column for mark in marks if mark.side is None}
    own = (mark_of(s, None, events) for s in events.frame if s.name not in roles.taken | told)
    marks += [mark for mark in own if mark is not None]  # a table of users may have one of the same name
    many, gone = list[Mark](), list[Mark]()
    for mark in marks:
        part = _marked(events.frame, roles, inputs, mark)
        if 0 < part <= _MOST:
            what = f"{mark.column}, a mark of who is no user ({part:.1%} of rows)"
            found.append(LeftOut(mark.condition, what, mark.column, is_typed=mark.is_typed))
        else:
            (gone if rule and not part else many).append(mark)
    asked = condition_of(events, roles, found)
    where = asked[0] if asked else None
    where = both(where, rule) if rule else where
    for k, one in enumerate(inputs.unused):
        if isinstance(one, Mark) and one in gone:
            inputs.unused[k] = Guess(one.column, "a mark of who is no user: no row that counts has it")
        elif isinstance(one, Mark) and one in many:
            inputs.unused[k] = replace(one, why=way_to_leave_out(both(where, one.condition)))
        elif isinstance(one, Mark):
            inputs.unused[k] = Guess(one.column, "a mark of who is no user: their rows are left out (where)")
    return found


def _nameless(frame: pl.DataFrame, of: Guess, role: str) -> Iterator[LeftOut]:
    for word, n, condition in nameless(Ids.of(frame[of.column])):
        if n <= _MOST * len(frame):
            what = f"{of.column} {word!r}, which looks like no {role} ({n / len(frame):.1%} of rows)"
            yield LeftOut(condition, what, of.column, word)


def _marked(frame: pl.DataFrame, roles: Roles, inputs: Inputs, mark: Mark) -> float:
    """The share of rows with a mark."""
    if mark.side is None:
        return mean(_is_set(frame[mark.column]))
    side = inputs.sides.get(f"{mark.side}s")
    of = roles.user if mark.side == "user" else roles.item
    if side is None or of is None:
        return 0.0
    table = side.table.frame
    ids = table.filter(_is_set(table[mark.column]))[side.key.column].drop_nulls().cast(pl.String)
    return mean(frame[of.column].cast(pl.String).is_in(ids.unique().implode()).fill_null(False))


def _is_set(flags: pl.Series) -> pl.Series:
    return (flags.cast(pl.Float64) != 0).fill_null(False)


def condition_of(events: Table, roles: Roles, left: Sequence[LeftOut]) -> tuple[str, str] | None:
    """The SQL condition of the rows of the files that are the events, and why; None where all are."""
    kinds, seen = events.kinds, roles.seen
    found = [] if kinds is None else [(where_of(kinds), "what was shown: rows of other kinds are below")]
    found += [] if seen is None else [(str(roles.where), f"{seen.column}: {seen.why}; {undone(events)}")]
    if (at := events.only_with) is not None:
        found.append((f"{sql_column(at)} IS NOT NULL", f"{at}: rows without the time that --time names were not shown"))
    found += [(one.condition, f"without {one.what}") for one in left]
    if not found:
        return None
    return " AND ".join(text for text, _ in found), "; ".join(why for _, why in found)
