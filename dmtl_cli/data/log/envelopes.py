"""Rows of JSON lines that stand within what carries them: their own columns, by their own names.

DynamoDB's exports, {"Item": {"id": {"S": "a"}, "seconds": {"N": "3.5"}}}:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
Kafka Connect's {"schema": ..., "payload": {...}}, and changes of a table as Debezium writes them, {"before": {...},
"after": {...}, "source": {...}, "op": "u", "ts_ms": ...}:
https://debezium.io/documentation/reference/stable/connectors/postgresql.html
Documents of Elasticsearch as elasticdump writes them, {"_index": "shown", "_id": "1", "_source": {...}}:
https://github.com/elasticsearch-dump/elasticsearch-dump
Values of Avro's unions, {"seconds": {"long": 5}, "user": {"org.shop.User": {...}}}:
https://avro.apache.org/docs/1.12.0/specification/#json-encoding
"""

from __future__ import annotations

import re

import polars as pl
from polars.datatypes import DataTypeClass

_ITEM = "Item"
_SINGLE, _SETS = ("S", "N", "BOOL", "B"), ("SS", "NS", "BS")
_TYPES = {*_SINGLE, *_SETS, "NULL", "L", "M"}
_CHANGE, _OF_CHANGE = {"after", "op", "source"}, {"before", "ts_ms", "ts_us", "ts_ns", "transaction"}
_AVRO = {"string", "int", "long", "float", "double", "boolean", "bytes", "array", "map"}
_NAMESPACED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+"
_DOCUMENT = {"_index", "_type", "_id", "_score", "_source", "_version", "_ignored", "sort"}
_KEPT = ("op", "ts_ms")  # of a change, beside the row


def unwrapped(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that all lines carry; else the frame as it is.

    Of DynamoDB numbers are texts, as they are written, and an attribute with values of several types is text. Of a
    change the row is that after it, of a deletion that before it, with `op` and `ts_ms` of the change, where it has no
    columns of these names. Of a document its fields and `_id`. Of a union its value, as text where there are several
    types.
    """
    names, kinds = {*frame.columns}, frame.schema
    if any(map(_has_unions, kinds.values())):
        return unwrapped(frame.select(_member(pl.col(c), kind).alias(c) for c, kind in kinds.items()))
    if names == {"schema", "payload"} and isinstance(kinds["payload"], pl.Struct):
        return unwrapped(frame["payload"].struct.unnest())
    if names >= {"_id", "_source"} and names <= _DOCUMENT and isinstance(kinds["_source"], pl.Struct):
        own = frame["_source"].struct.unnest()
        return unwrapped(own if "_id" in own.columns else own.with_columns(frame["_id"]))
    if names >= _CHANGE and names <= _CHANGE | _OF_CHANGE and isinstance(kinds["source"], pl.Struct):
        return _after(frame)
    return _attributes(frame)


def _is_union(kind: pl.DataType | DataTypeClass) -> bool:
    """Whether an object has a value by the name of its type in Avro, or of a record, an enumeration or a fixed one with
    the namespace."""
    names = [f.name for f in kind.fields] if isinstance(kind, pl.Struct) else []
    return bool(names) and all(name in _AVRO or re.fullmatch(_NAMESPACED, name) for name in names)


def _has_unions(kind: pl.DataType | DataTypeClass) -> bool:
    if isinstance(kind, pl.List):
        return _has_unions(kind.inner)
    return isinstance(kind, pl.Struct) and (_is_union(kind) or any(_has_unions(f.dtype) for f in kind.fields))


def _member(e: pl.Expr, kind: pl.DataType | DataTypeClass) -> pl.Expr:
    """A value without the unions that it is in."""
    if not _has_unions(kind):
        return e
    if isinstance(kind, pl.List):
        return e.list.eval(_member(pl.element(), kind.inner))
    assert isinstance(kind, pl.Struct)
    members = [_member(e.struct.field(f.name), f.dtype) for f in kind.fields]
    if not _is_union(kind):
        return pl.struct(member.alias(f.name) for member, f in zip(members, kind.fields, strict=True))
    return members[0] if len(members) == 1 else pl.coalesce(member.cast(pl.String) for member in members)


def _after(frame: pl.DataFrame) -> pl.DataFrame:
    after, before = frame.schema["after"], frame.schema.get("before", pl.Null())
    fields = {f.name: f.dtype for kind in (before, after) if isinstance(kind, pl.Struct) for f in kind.fields}
    if not fields:
        return frame
    known = [name for name, kind in (("after", after), ("before", before)) if isinstance(kind, pl.Struct)]

    def value(name: str) -> pl.Expr:
        there = [k for k in known if any(f.name == name for f in frame.schema[k].fields)]  # type: ignore[attr-defined]
        of = {k: pl.col(k).struct.field(name).cast(fields[name], strict=False) for k in there}
        if "before" not in of:
            return of["after"]
        gone = pl.when(pl.col("after").is_null()).then(of["before"])
        return gone.otherwise(of["after"]) if "after" in of else gone

    rest = [name for name in _KEPT if name in frame.columns and name not in fields]
    return frame.select(*(value(name).alias(name) for name in fields), *rest)


def _attributes(frame: pl.DataFrame) -> pl.DataFrame:
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
