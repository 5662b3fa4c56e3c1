"""Columns of the types that the config names, from text or from what JSON has."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import polars as pl

from dmtl_cli.config.data import Data, Events, Table, Type
from dmtl_cli.config.errors import UserError

BOOLEANS = dict.fromkeys(("true", "yes", "y", "t", "1"), True) | dict.fromkeys(("false", "no", "n", "f", "0"), False)
"""what a text of yes or no means, in any case of its letters"""
_SAID = {
    "bool": "true, false, yes, no, Y, N, 1 or 0",
    "date": "a date as 2026-01-31",
    "datetime": "a time as 2026-01-31T23:59:59Z",
    "list<text>": 'a list as ["a", "b"]',
    "list<int64>": "a list as [1, 2]",
    "list<float64>": "a list as [0.1, 2]",
}
_WORD = re.compile(r"[^0-9\[\]{}]{1,20}")  # may stand for null, as n/a does
LISTS: dict[Type, tuple[pl.DataType, tuple[type, ...]]] = {
    "list<text>": (pl.String(), (str,)),
    "list<int64>": (pl.Int64(), (int,)),
    "list<float64>": (pl.Float64(), (float, int)),
}
"""types of what a list holds, and what Python calls its values"""


def types_of(data: Data, table: Table) -> dict[str, Type]:
    """The types of a table's columns: in a CSV file labels have one of their own."""
    given = data.types | table.types
    if not isinstance(table, Events) or data.format_of(table) != "csv":
        return given
    flags = [c for c in (table.click, table.conversion, *table.conversions.values()) if c]
    numbers = [c for c in (table.duration, table.weight) if c]
    own: dict[str, Type] = {**dict.fromkeys(flags, "bool"), **dict.fromkeys(numbers, "float64")}
    return own | given


def remedies_of(table: Table, csv: bool) -> dict[str, str]:
    """What to do with a value that does not parse, by column: of labels and times, which text would not serve. By
    `COLUMN?`, and `?` for those without one, with a text that may stand for null."""
    key = f"data.{'csv.' if csv else ''}null_values"
    null = f"correct it, or where it means unknown name it in {key}"
    if not isinstance(table, Events):
        return {"?": null}
    row = "correct it, or leave the row out"
    optional = (table.duration, table.conversion, *table.conversions.values())
    required = (table.weight, table.time, table.date_column)
    found = {"?": null} | {c: null for c in optional if c} | {c: row for c in required if c}
    if table.click:
        no_click = " and set data.events.null_click: no_click" if table.null_click == "refuse" else ""
        found[f"{table.click}?"] = f"correct it, or where it means no click name it in {key}{no_click}"
        found[table.click] = f"correct it, or set data.types.{table.click}: datetime, if it is the time of the click"
    return found


def without(frame: pl.DataFrame, nulls: Sequence[str]) -> pl.DataFrame:
    """The frame with null for each text that stands for it."""
    texts = [c for c, kind in frame.schema.items() if kind == pl.String] if nulls else []
    return frame.with_columns(frame[c].set(frame[c].is_in(list(nulls)), None) for c in texts)


def typed(
    frame: pl.DataFrame,
    numbers: Sequence[int],
    types: Mapping[str, Type],
    nulls: Sequence[str],
    where: str,
    remedies: Mapping[str, str],
) -> pl.DataFrame:
    """The frame with its columns of the types that are named.

    Args:
        numbers: of its rows, for messages.
        nulls: texts that mean null where the type is not text.
        where: the file, for messages.
        remedies: as `remedies_of` gives them.

    Raises:
        UserError: 65 a value is none of its type.
    """
    return frame.with_columns(
        _typed(frame[c], kind, nulls, numbers, where, remedies) for c, kind in types.items() if c in frame
    )


def _typed(
    given: pl.Series, kind: Type, nulls: Sequence[str], numbers: Sequence[int], where: str, remedies: Mapping[str, str]
) -> pl.Series:
    values = given
    if kind != "text" and values.dtype == pl.String:
        values = values.set(values.is_in(["", *nulls]), None)
    try:
        out = _CASTS[kind](values) if values.dtype != pl.Null else values
    except pl.exceptions.PolarsError:  # a list, or a number where a date is named
        out = pl.Series(given.name, [None] * len(values))
    bad = (out.is_null() & values.is_not_null()).arg_true()
    if len(bad):
        at, expected = int(bad[0]), _SAID.get(kind, kind)
        what = f"{where}: row {numbers[at]}, column {given.name}: expected {expected}, got {given[at]!r}"
        raise UserError(what, _remedy(given.name, given[at], remedies))
    return out


def _remedy(column: str, got: object, remedies: Mapping[str, str]) -> str:
    own, text = remedies.get(column), f"correct it, or set data.types.{column}: text"
    if isinstance(got, str) and _WORD.fullmatch(got):
        return remedies.get(f"{column}?") or own or remedies.get("?", text)
    return own or text


def _bool(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        return values.str.to_lowercase().replace_strict(BOOLEANS, default=None, return_dtype=pl.Boolean)
    return values.cast(pl.Float64).replace_strict({0.0: False, 1.0: True}, default=None, return_dtype=pl.Boolean)


def _int64(values: pl.Series) -> pl.Series:
    out = values.cast(pl.Int64, strict=False)
    return out if not values.dtype.is_float() else out.set(out.cast(pl.Float64) != values, None)


def _date(values: pl.Series) -> pl.Series:
    if values.dtype.is_integer():
        values = values.cast(pl.String)
    return values.str.to_date("%Y-%m-%d", strict=False).fill_null(values.str.to_date("%Y%m%d", strict=False))


def iso_times(values: pl.Series) -> pl.Series:
    """Texts in ISO 8601 as instants in UTC, null where one is not; a time that names no zone is one of UTC."""
    text = values.str.replace(" ", "T", literal=True)
    found = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"):
        if found.null_count() > text.null_count():
            naive = text.str.to_datetime(form, time_unit="us", strict=False)
            found = found.fill_null(naive.dt.replace_time_zone("UTC"))
    if found.null_count() > text.null_count():
        days = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us", "UTC"))
        found = found.fill_null(days)
    return found


def lists(values: pl.Series, kind: Type) -> pl.Series:
    """Texts that are JSON arrays, or lists as Python or numpy write them, or lists of another type, as lists of a type;
    null where a text is none, or a value is not of the type."""
    inner, known = LISTS[kind]
    if values.dtype != pl.String:
        return _cast(values, inner)
    texts = values.drop_nulls().unique(maintain_order=True)
    found = pl.Series("list", [_list(text, known) for text in texts], dtype=pl.List(inner))
    return (
        values.to_frame("text")
        .join(pl.DataFrame([texts.alias("text"), found]), on="text", how="left", maintain_order="left")["list"]
        .alias(values.name)
    )


def _cast(values: pl.Series, inner: pl.DataType) -> pl.Series:
    """Lists of any type as those of another, null where one would lose a value; numbers are no booleans."""
    x = pl.element()
    cast = x.cast(inner, strict=False)
    lost = cast.is_null()
    if inner == pl.Int64:  # a float may have decimals
        lost |= cast.cast(pl.Float64) != x.cast(pl.Float64, strict=False)
    if values.dtype == pl.List(pl.Boolean) and inner != pl.String:
        lost = x.is_not_null()
    bad = values.list.eval(x.is_not_null() & lost.fill_null(True)).list.any()
    as_lists = values.cast(pl.List(inner), strict=False)
    return pl.select(pl.when(bad).then(None).otherwise(as_lists).alias(values.name)).to_series()


def _list(text: str, known: tuple[type, ...]) -> list[Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _as_python_writes(text.strip(), known)
    if not isinstance(found, list) or not all(x is None or type(x) in known for x in found):
        return None
    try:
        "".join(x for x in found if isinstance(x, str)).encode()
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return None
    return found if all(abs(x) < 2**63 for x in found if type(x) is int) else None


def _as_python_writes(text: str, known: tuple[type, ...]) -> Any:
    """A Python list or a numpy array, as pandas writes them; an array has no commas. None where it is neither."""
    if text[:1] != "[" or text[-1:] != "]":
        return None
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python thinks of an escape is nothing that a log could mend
        if str not in known:
            return ast.literal_eval(text)
        if _TEXTS.fullmatch(text):  # Python itself would join texts without a comma between them
            return [ast.literal_eval(x) for x in re.findall(_TEXT, text, re.DOTALL)]
        return None
    with suppress(ValueError):
        return [known[0](number) for number in text[1:-1].split()]
    return None


_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|None"""
_TEXTS = re.compile(rf"\[\s*(?:(?:{_TEXT})(?:\s*,\s*|\s+|(?=\])))*\]", re.DOTALL)


_CASTS: dict[Type, Callable[[pl.Series], pl.Series]] = {
    "text": lambda values: values.cast(pl.String, strict=False),
    "int64": _int64,
    "float64": lambda values: values.cast(pl.Float64, strict=False),
    "bool": _bool,
    "date": _date,
    "datetime": iso_times,
    **{kind: partial(lists, kind=kind) for kind in LISTS},
}
