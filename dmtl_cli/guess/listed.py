"""What is to be done with lists that a log cannot be read with: of the items that a request showed, and lists in the
text of Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence

import polars as pl

from dmtl_cli.guess import samples, words
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


def lists_in_text(s: pl.Series) -> str | None:
    """What texts that are all lists of one type are, with a line of polars that makes lists of them, which was tried on
    these texts; None where they are none."""
    found = samples.as_lists(s) if s.dtype == pl.String else None
    if found is None:
        return None
    assert isinstance(found.dtype, pl.List)
    inner = found.dtype.inner
    values, lengths = "texts" if inner == pl.String else "numbers", found.drop_nulls().list.len().unique().to_list()
    what = f"lists of {f'{lengths[0]} ' if len(lengths) == 1 else ''}{values} as text; write them as lists"
    for way, made in _decoded(pl.col(s.name), inner):
        try:
            fits = s.to_frame().select(made)[s.name].equals(found)
        except pl.exceptions.PolarsError:
            continue
        if fits:
            outer, *fields = s.name.split(".")
            column = f"pl.col({_quoted(outer)})" + "".join(f".struct.field({_quoted(f)})" for f in fields)
            return f"{what}, in polars log.with_columns({column}{way})"
    return what


def _decoded(column: pl.Expr, inner: object) -> list[tuple[str, pl.Expr]]:
    """(behind the column's name, the same as it is computed): JSON, then numbers and texts as pandas writes them."""
    kind = pl.List(inner)  # type: ignore[arg-type]
    ways = [(f".str.json_decode(pl.List(pl.{inner}))", column.str.json_decode(kind))]
    if inner == pl.String:
        bare = column.str.extract_all("'[^']*'").list.eval(pl.element().str.strip_chars("'"))
        ways.append((""".str.extract_all("'[^']*'").list.eval(pl.element().str.strip_chars("'"))""", bare))
    else:
        numbers = column.str.extract_all(r"[^\s,\[\]]+").cast(kind)
        ways.append((rf""".str.extract_all(r"[^\s,\[\]]+").cast(pl.List(pl.{inner}))""", numbers))
    return ways


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
