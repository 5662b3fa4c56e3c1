"""An id as text, which a request, an option and a file mean alike: docs/export.md, Ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

_WHOLE = re.compile("[+-]?[0-9]+")


def is_integer(text: str) -> bool:
    """Whether it is one, however large."""
    return _WHOLE.fullmatch(text) is not None


def integers(texts: pl.Series) -> pl.Series:
    """[n] the integers that some texts are; null of one that is none, or beyond int64."""
    return texts.cast(pl.Int64, strict=False)


def column_of_ids(values: pl.Series, kind: pl.DataType) -> pl.Series | None:
    """[n] a file's column in the type of the log's ids, null of what is no id; None where its type has none. Every
    integer of a log is int64."""
    if values.dtype in (kind, pl.Null):
        return values.cast(kind)
    if kind == pl.String:
        texts = values.dtype.is_integer() or values.dtype in (pl.Categorical, pl.Enum)
        return values.cast(pl.String) if texts else None
    if values.dtype == pl.String:
        return integers(values)
    return values.cast(kind, strict=False) if values.dtype.is_integer() else None


def read_csv(file: Path, *ids: str) -> pl.DataFrame:
    """A CSV's columns: numbers where all values of a column are; a column with a value such as 007 is of text, and so
    is the first there is of some names of ids.

    Raises what polars raises.
    """
    text = pl.read_csv(file, infer_schema=False, glob=False)
    overrides = dict.fromkeys([name for name in ids if name in text.columns][:1], pl.String)
    found = pl.read_csv(file, schema_overrides=overrides, infer_schema_length=None, glob=False)
    whole = [c for c in found.columns if found[c].dtype.is_integer()]
    return found.with_columns(text[c] for c in whole if (found[c].cast(pl.String) != text[c]).any())


def typed_ids(texts: Sequence[str], kind: pl.DataType) -> pl.Series:
    """[n] ids in the type of the log's, Int64 or String; null of an integer beyond int64, which nobody has.

    Raises:
        ValueError: one is no integer, or half of a surrogate pair is in it.
    """
    if kind == pl.Int64 and (wrong := [text for text in texts if not is_integer(text)]):
        raise ValueError(f"expected integers as text, got {wrong[0][:40]!r}")
    try:
        found = pl.Series(texts, dtype=pl.String)
    except UnicodeEncodeError:
        raise ValueError("text with half of a surrogate pair, which UTF-8 cannot write") from None
    return integers(found) if kind == pl.Int64 else found
