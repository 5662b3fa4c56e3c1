"""Logs of a row a request, with a list of the items that it showed: what is to be done with them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.values import FEW, is_constant, mean, within

NEEDED = "one row an item shown is needed"
"""begins what is said of lists"""
_CLICKED = 0.95  # of the values of a list are of the list of what was shown


_SHOWN = (
    "(shown|displayed|exposed|impressed|impressions|served|recommended|recs|candidates|slate|items|products|videos"
    "|articles|movies)"
)


def may_be_shown(frame: pl.DataFrame, ids: Sequence[str]) -> pl.DataFrame:
    """The columns of a log without an item, of which lists may be what was shown: lists that are the same in all rows
    of an id are its tags, and where there is such an id, a list is what was shown by its name alone.

    Args:
        ids: columns that may be the item.
    """
    lists = [c for c, kind in frame.schema.items() if isinstance(kind, pl.List)]
    own = {c for c in lists if any(is_constant(frame, key, c) for key in ids)}
    unnamed = {c for c in lists if ids and not words.says(c, _SHOWN)}
    return frame.drop(own | unnamed)


def one_row_an_item(frame: pl.DataFrame, column: str | None = None) -> str | None:
    """What to write where items stand in lists, with a line of polars that does it; None where no column has such.

    Args:
        column: is taken for the items; None: the column of lists with most values.
    """
    values = {c: _values(frame[c]) for c in frame.columns if _of_ids(frame[c])}
    shown = column or max(values, key=lambda c: len(values[c]), default=None)
    if shown not in values or values[shown].n_unique() <= FEW:
        return None
    clicked = [c for c, v in values.items() if c != shown and 0 < len(v) < len(values[shown])]
    clicked = [c for c in clicked if values[c].dtype == values[shown].dtype]
    clicked = [c for c in clicked if within(values[c], values[shown]) >= _CLICKED]
    line = f'log.explode("{shown}")'
    if clicked:
        line += f'.with_columns(click=pl.col("{shown}").is_in(pl.col("{clicked[0]}")))'
    seen = f"{shown} has lists of {mean(frame[shown].list.len()):.0f}"
    return f"{NEEDED}, {seen}: explode it, in polars {line}"


def _of_ids(s: pl.Series) -> bool:
    return isinstance(s.dtype, pl.List) and (s.dtype.inner == pl.String or s.dtype.inner.is_integer())


def _values(s: pl.Series) -> pl.Series:
    return s.drop_nulls().explode(empty_as_null=False, keep_nulls=False)
