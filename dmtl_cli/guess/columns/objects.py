"""Columns of texts that are JSON objects, as databases write those of a type JSON, and the columns of their fields."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence

import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.formats.objects import with_fields
from dmtl_cli.guess.columns import words

OBJECT = "text that is a JSON object, whose fields are not read"
"""begins what is said of such a column"""
_CODES = 50  # different texts at most may be codes, whatever they are
_TRIED = 100  # texts that are tried before all are
_BEGINS = r"^(\{|\[\s*[\{\]])"
_FULL = r"^\S\s*[^\s\]]"


def opened(
    rows: pl.DataFrame, known: Sequence[str] | None, where: str, nulls: Sequence[str] = ()
) -> tuple[pl.DataFrame, tuple[str, ...], dict[str, str]]:
    """(rows with the fields of objects in place of their texts, the columns that had these texts, what is said of
    those whose fields no types hold).

    Args:
        known: columns that have such texts; None: they are looked for.
        where: the table, for messages.
        nulls: texts that stand for null, as a config can name them of text files alone.
    """
    found, refused = list[str](), dict[str, str]()
    for c in _with_objects(rows, nulls) if known is None else known:
        try:
            rows = with_fields(rows, [c], range(len(rows)), where, nulls)
            found.append(c)
        except UserError as e:
            refused[c] = f"{OBJECT}: {e.message}"
    return rows, tuple(found), refused


def object_of(c: str) -> str:
    """The object that a column is a field of; "" of others."""
    return c.rpartition(".")[0]


def is_field(c: str, objects: Collection[str]) -> bool:
    """Whether a column is one of these, or a field of one."""
    return any(c == one or c.startswith(f"{one}.") for one in objects)


def nulls_of(rows: pl.DataFrame, objects: Sequence[str]) -> set[str]:
    """The texts that databases write for null in columns of objects, but for none and JSON's own null."""
    said = {text for c in objects for text in rows[c].str.strip_chars().unique() if text in words.DATABASES}
    return said - {"", "null"}


def _with_objects(rows: pl.DataFrame, nulls: Sequence[str]) -> list[str]:
    """Columns of texts that are all JSON objects or lists of them, too many to be codes."""
    texts = [s for s in rows if s.dtype == pl.String]
    return [s.name for s in texts if _are_objects(s.filter(~s.is_in(["", "null", *nulls])).str.strip_chars())]


def _are_objects(known: pl.Series) -> bool:
    if known.n_unique() <= _CODES or not known.str.contains(_BEGINS).all():
        return False
    known = known.filter(known.str.contains(_FULL))  # a request may have shown nothing: []
    try:
        return all(isinstance(json.loads(text), (dict, list)) for text in known.head(_TRIED))
    except (ValueError, RecursionError):  # of one that is too deep
        return False


def shortened(columns: Collection[str]) -> dict[str, str]:
    """The columns within objects by their last names, where no other column ends so."""
    ends = Counter(c.rpartition(".")[2] for c in columns)
    return {short: c for c in columns if (short := c.rpartition(".")[2]) != c and ends[short] == 1}
