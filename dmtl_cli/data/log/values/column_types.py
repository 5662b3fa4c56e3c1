"""Which column types a kind of feature can be read from. A kind that is not named here takes any."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import types

from dmtl_cli.config.features import Feature

if TYPE_CHECKING:  # a command that only looks for files has no use for it
    import polars as pl


def refusal(feature: Feature, column: pa.DataType) -> tuple[str, str] | None:
    """(what the feature's kind takes, what to do) where it cannot take the column's type, else None."""
    takes = _TAKES.get(feature.kind)
    found = takes(feature, column) if takes and not types.is_null(column) else None
    if found and is_list(column) and is_list(column.value_type):  # no kind reads them
        return found[0], "name the outer lists in data.events.explode, or write one list a row"
    return found


def in_words(kind: pa.DataType) -> str:
    """A type for messages: text and objects by these words, whatever their layout."""
    if is_list(kind):
        return f"lists of {in_words(kind.value_type)}"
    return "text" if _is_text(kind) else "objects" if types.is_struct(kind) else str(kind)


def words_of(values: pl.Series) -> str:
    """The type of a column's values: see `in_words`."""
    return in_words(values.head(0).to_arrow().type)


def is_list(column: pa.DataType) -> bool:
    """Whether its values are lists, of whatever layout."""
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(is_one(column) for is_one in lists)


def _is_text(column: pa.DataType) -> bool:
    return any(is_one(column) for is_one in (types.is_string, types.is_large_string, types.is_string_view))


def is_number(column: pa.DataType) -> bool:
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    return any(is_one(column) for is_one in numbers)


def _is_single(column: pa.DataType) -> bool:
    """Whether values can be looked up in a vocabulary: integers (whole floats too), booleans, text."""
    if types.is_dictionary(column):
        return _is_single(column.value_type)
    return types.is_null(column) or _is_text(column) or (is_number(column) and not types.is_decimal(column))


def _categorical(_: Feature, column: pa.DataType) -> tuple[str, str] | None:
    if _is_single(column):
        return None
    return "integers, booleans or text", "give kind: sequence" if is_list(column) else "write it as integers or text"


def _sequence(feature: Feature, column: pa.DataType) -> tuple[str, str] | None:
    if is_list(column):
        fits = _is_single(column.value_type)
        return None if fits else ("lists of integers or text", "write its elements as integers or text")
    if _is_text(column) or (types.is_dictionary(column) and _is_text(column.value_type)):
        return None if feature.separator is not None else ("lists", "give separator, e.g. '|'")
    return "lists", "give kind: categorical" if _is_single(column) else "write it as lists"


def _numeric(_: Feature, column: pa.DataType) -> tuple[str, str] | None:
    if is_number(column):
        return None
    if is_list(column):
        return "numbers", "give kind: vector (with dim) or kind: sequence"
    return "numbers", "give kind: categorical" if _is_single(column) else "write it as a number"


def _vector(feature: Feature, column: pa.DataType) -> tuple[str, str] | None:
    if is_list(column):
        return None
    return f"lists of {feature.dim} numbers", "give kind: numeric" if is_number(column) else "write it as lists"


_TAKES: dict[str, Callable[[Feature, pa.DataType], tuple[str, str] | None]] = {
    "categorical": _categorical,
    "sequence": _sequence,
    "numeric": _numeric,
    "vector": _vector,
}
