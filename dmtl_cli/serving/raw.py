"""Raw values as JSON has them, as a column: each is read by itself, whatever its neighbours are (docs/export.md)."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature

_EXACT = 2.0**53  # below, a float is the integer that it was written from


def column(feature: Feature, values: list[Any]) -> pl.Series:
    """[n] values of one feature, each null, a bool, an int, a float, text, or a list of these, which may be mixed: JSON
    writes 1.0 as 1 too.

    Raises:
        UserError: 65 text with half of a surrogate pair; an id that no integer of 64 bits is; values of types that no
            column has.
    """
    types = {type(v) for value in values for v in (value if isinstance(value, list) else [value]) if v is not None}
    types.discard(list)
    try:
        if len(types) > 1 or (int in types and not feature.has_ids):
            values = [_one_type(feature, value, types) for value in values]
        return pl.Series(feature.name, values, strict=True)
    except UnicodeEncodeError:
        what = f"feature {feature.name}: text with half of a surrogate pair, which UTF-8 cannot write"
        raise UserError(what, "send whole characters") from None
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        expected = "expected values of one type that fits int64 or double"
        raise UserError(f"feature {feature.name}: {expected}", "send numbers, text, or lists of one of them") from None


def _one_type(feature: Feature, value: Any, types: set[type]) -> Any:
    if isinstance(value, list):
        return [_one_type(feature, v, types) for v in value]
    if value is None or isinstance(value, str):
        return value
    if not feature.has_ids:
        return _double(value)
    if isinstance(value, float):
        if value != value:
            return None
        if not (value.is_integer() and abs(value) < _EXACT):
            raise ValueError(value)
    if not -(2**63) <= value < 2**63:
        raise OverflowError(value)
    return str(int(value)) if str in types else int(value)


def _double(value: bool | int | float) -> float:
    """The double that is nearest; infinite where an integer is larger than any, as readers of JSON have it that keep
    doubles alone."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
