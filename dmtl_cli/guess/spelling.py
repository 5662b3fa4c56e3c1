"""Ids of two tables that are the same but for how they are written: case, leading zeros, spaces."""

from __future__ import annotations

import json
from collections.abc import Callable

import polars as pl

from dmtl_cli.guess.values import is_id, within

JOINED = 0.05
"""share of the ids of events that a side table has at least"""
_MORE = 0.05  # of the ids are in the table once they are written alike


def told(
    name: str, ids: pl.Series, key: pl.Series, joined: float, whose: str = "the sample's"
) -> tuple[float, str] | None:
    """The share of the events' ids that a side table's key would have, and what is to be written for it, with a line of
    polars; None where that adds less than a twentieth of the ids.

    Args:
        name: of the table: users or items.
        joined: share of the distinct ids that are in the key as it is.
        whose: the ids are.
    """
    if not (is_id(ids) and (is_id(key) or key.n_unique() == len(key))):
        return None
    best: tuple[float, str] | None = None
    for how, table_way, events_way in _ways(ids):
        try:
            mine, other = _written(ids, events_way), _written(key, table_way)
        except pl.exceptions.PolarsError:
            continue
        share = within(mine, other)
        if share >= max(JOINED, joined + _MORE) and (best is None or share > best[0]):
            lines = [_line(name, key.name, table_way)] if table_way else []
            lines += [_line("log", ids.name, events_way)] if events_way else []
            so = f"{key.name} has {share:.0%} of {whose} {name} {how}"
            best = share, f"{so}: write it so, in polars {' and '.join(lines)}"
    return best


_Way = tuple[str, Callable[[pl.Expr], pl.Expr]]
"""what stands behind a column in polars, and the same as it is computed"""


def _ways(ids: pl.Series) -> list[tuple[str, _Way | None, _Way | None]]:
    """(in words, what to do with the key, with the ids of the events), the first where ids may stay as they are."""
    lower: _Way = ".str.to_lowercase()", lambda e: e.str.to_lowercase()
    upper: _Way = ".str.to_uppercase()", lambda e: e.str.to_uppercase()
    bare: _Way = '.cast(pl.String).str.replace("^0+(.)", "$1")', lambda e: e.cast(pl.String).str.replace("^0+(.)", "$1")
    strip: _Way = ".str.strip_chars()", lambda e: e.str.strip_chars()
    if ids.dtype.is_integer():
        return [("as integers", (".cast(pl.Int64, strict=False)", lambda e: e.cast(pl.Int64, strict=False)), None)]
    width = ids.drop_nulls().str.len_chars().mode()
    out: list[tuple[str, _Way | None, _Way | None]] = [
        ("in lower case", lower, None), ("in upper case", upper, None), ("without the spaces around it", strip, None),
    ]  # fmt: skip
    if len(width):
        n = int(width.sort()[-1])
        padded: _Way = f".cast(pl.String).str.zfill({n})", lambda e: e.cast(pl.String).str.zfill(n)
        out.append((f"with leading zeros, {n} characters long", padded, None))
    return [
        *out, ("without leading zeros", bare, None), ("in lower case, as the log's then", lower, lower),
        ("without leading zeros, as the log's then", bare, bare),
    ]  # fmt: skip


def _written(s: pl.Series, way: _Way | None) -> pl.Series:
    return s if way is None else s.to_frame().select(way[1](pl.col(s.name))).to_series()


def _line(table: str, column: str, way: _Way) -> str:
    outer, *fields = column.split(".")
    path = f"pl.col({_quoted(outer)})" + "".join(f".struct.field({_quoted(f)})" for f in fields)
    return f"{table}.with_columns({path}{way[0]})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
