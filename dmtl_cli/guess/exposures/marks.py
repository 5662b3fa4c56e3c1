"""Columns that mark who is no user: staff, tests and programs."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess
from dmtl_cli.guess.columns.sql import quoted, sql_column, sql_name, sql_values
from dmtl_cli.guess.columns.values import is_flags
from dmtl_cli.guess.reading.files import CSV, JSON
from dmtl_cli.guess.reading.tables import Table


@dataclass(frozen=True)
class Mark(Guess):
    """A column that marks who is no user."""

    side: str | None = None
    """of the table that has it, user or item; None: the events'"""
    condition: str = ""
    """of the rows without the mark"""
    is_typed: bool = False
    """whether the config has to name the types of what the condition reads"""


def mark_of(s: pl.Series, side: str | None, table: Table) -> Mark | None:
    """A column of flags that is named like a mark of who is no user."""
    c = s.name
    if not (is_flags(s.drop_nulls()) and words.says_all(c, words.STAFF)):
        return None
    parts = [sql_column(part) for part in c.split(".")] if side else []  # of a table's object its field
    name = f"{side}s.{'.'.join(parts)}" if side else sql_name(c)
    is_typed = table.files.form in (CSV, JSON)  # of others a text is what it says
    if s.dtype != pl.Boolean:
        without = f"COALESCE({name}, 0) = 0"
    elif yes := () if is_typed else table.yes.get(c, ()):
        without = f"NOT COALESCE({name}, '') {sql_values(yes)}"
    else:
        without = f"NOT COALESCE({name}, FALSE)"
    return Mark(c, way_to_leave_out(without), side=side, condition=without, is_typed=is_typed)


def way_to_leave_out(condition: str) -> str:
    return f"a mark of who is no user; to leave their rows out: data.events.where: {quoted(condition)}"
