"""Columns whose texts are JSON, as databases write those of a type JSON, JSONB or VARIANT: the fields of the objects as
columns of their own, as in JSON lines."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.formats.json_text import DEEPEST, is_deep, parsed
from dmtl_cli.data.log.formats.text_rows import Rows, Typed, flat_columns, paths


def with_fields(
    frame: pl.DataFrame, columns: Sequence[str], numbers: Sequence[int], where: str, nulls: Sequence[str] = ()
) -> pl.DataFrame:
    """The frame with the fields of the objects, or of the lists of objects, in place of the texts of some columns: `b`
    of the object in `a` is `a.b`. Nothing, an empty text, JSON's null and what stands for null have no object.

    Args:
        numbers: of the rows, for messages.
        where: the file, for messages.

    Raises:
        UserError: 65 a text is no JSON object or list, a field has values of several types, or the name of a column.
    """
    for c in columns:
        if c in frame.columns and frame.schema[c] == pl.String:
            frame = _opened(frame, c, numbers, where, nulls)
    return frame


def _opened(frame: pl.DataFrame, c: str, numbers: Sequence[int], where: str, nulls: Sequence[str]) -> pl.DataFrame:
    texts = frame[c].str.strip_chars()
    texts = texts.set(texts.is_in(["", "null", *nulls]), None).str.replace_all(r"[\r\n]", " ")  # a row is a line below
    first = texts.drop_nulls()
    if not len(first):
        return frame.drop(c)
    long = first.filter(first.str.len_bytes() > DEEPEST)  # a shorter one has fewer brackets
    if not first.str.contains(r"^[\[{]").all() or any(is_deep(text.encode()) for text in long):
        raise _wrong(texts, c, numbers, where)
    lines = f"{{{json.dumps(c)}:" + texts.fill_null("null") + "}"
    try:
        made = pl.read_ndjson(io.BytesIO("\n".join(lines).encode()), infer_schema_length=None)
    except pl.exceptions.PolarsError as e:
        raise _wrong(texts, c, numbers, where, e) from None
    if len(made) != len(frame) or made.columns != [c]:  # a text that goes on behind its object
        raise _wrong(texts, c, numbers, where)
    flat = flat_columns(where, made, [f"{c}.{path}" for path in paths(json.loads(first[0]))], numbers[0])
    if twice := sorted({*flat.columns} & {*frame.columns} - {c}):
        raise UserError(f"{where}: column {twice[0]} and a field of that name", "give one of them another name")
    at = frame.columns.index(c)
    return pl.DataFrame([*frame.get_columns()[:at], *flat.get_columns(), *frame.get_columns()[at + 1 :]])


def _wrong(texts: pl.Series, c: str, numbers: Sequence[int], where: str, error: object = None) -> UserError:
    """What is wrong with the first text that is no JSON object or list, else with all of them."""
    hint = f"correct it, or leave data.types.{c} out: text that is no JSON is read as it stands"
    for text, number in zip(texts, numbers, strict=True):
        try:
            found = {} if text is None else parsed(text.encode())
        except ValueError as e:
            return UserError(f"{where}: row {number}, column {c}: expected a JSON object: {e}, got {text[:40]!r}", hint)
        if not isinstance(found, (dict, list)):
            what = f"{where}: row {number}, column {c}: expected a JSON object or list, got {text[:40]!r}"
            return UserError(what, hint)
    what = f"{where}: from row {numbers[0]} on a field of {c} has values that no type holds: {error}"
    return UserError(what, f"write one type in all rows, or leave data.types.{c} out")


def as_written(frame: pl.DataFrame, _: Sequence[int]) -> pl.DataFrame:
    """Rows as they stand, until all types are given at once."""
    return frame


@dataclass(frozen=True)
class ObjectRows(Rows):
    """Rows with such columns."""

    raw: pl.DataFrame = field(kw_only=True)
    typed: Typed = field(kw_only=True)

    def only(self, mask: pl.Series) -> pl.DataFrame:
        """The rows that are true in the mask, of the types that their values alone have."""
        return self.typed(self.raw.filter(mask), list(itertools.compress(self.numbers, mask)))


def retyped(read: Iterator[Rows], typed: Typed) -> Iterator[Rows]:
    """Rows as they stand with the types that `typed` gives them."""
    for rows in read:
        yield ObjectRows(typed(rows.frame, rows.numbers), rows.numbers, rows.lost, raw=rows.frame, typed=typed)
