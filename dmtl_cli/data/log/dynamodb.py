"""Exports of DynamoDB: lines {"Item": {"id": {"S": "a"}, "seconds": {"N": "3.5"}}}, in which each value stands below
its type.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
"""

from __future__ import annotations

import polars as pl
from polars.datatypes import DataTypeClass

_ITEM = "Item"
_SINGLE, _SETS = ("S", "N", "BOOL", "B"), ("SS", "NS", "BS")

_TYPES = {*_SINGLE, *_SETS, "NULL", "L", "M"}


def attributes(frame: pl.DataFrame) -> pl.DataFrame:
    """The attributes of items as columns by their names, where all of a frame is such items; else the frame as it is.
    Numbers are texts, as they are written; an attribute with values of several types is text."""
    kind = frame.schema.get(_ITEM)
    if frame.columns != [_ITEM] or not isinstance(kind, pl.Struct) or not kind.fields:
        return frame
    if not all(_is_value(field.dtype) for field in kind.fields):
        return frame
    item = pl.col(_ITEM)
    return frame.select(_value(item.struct.field(f.name), f.dtype).alias(f.name) for f in kind.fields)


def _is_value(kind: pl.DataType | DataTypeClass) -> bool:
    return isinstance(kind, pl.Struct) and bool(kind.fields) and {field.name for field in kind.fields} <= _TYPES


def _value(e: pl.Expr, kind: pl.DataType | DataTypeClass) -> pl.Expr:
    """A value out of the field of its type; null where it is not there, or NULL."""
    if not isinstance(kind, pl.Struct):  # nothing but nulls, or an empty list
        return pl.lit(None)
    of = {field.name: field.dtype for field in kind.fields}
    single = [e.struct.field(name) for name in _SINGLE if name in of]
    if len(single) == 1:
        return single[0]
    if single:
        return pl.coalesce(one.cast(pl.String) for one in single)
    if sets := [e.struct.field(name) for name in _SETS if name in of]:
        return pl.coalesce(sets)
    if isinstance(some := of.get("L"), pl.List) and _is_value(some.inner):
        return e.struct.field("L").list.eval(_value(pl.element(), some.inner))
    if isinstance(inside := of.get("M"), pl.Struct) and inside.fields:
        object_ = e.struct.field("M")
        return pl.struct(_value(object_.struct.field(f.name), f.dtype).alias(f.name) for f in inside.fields)
    return pl.lit(None)
