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
from collections.abc import Iterator

import polars as pl
from polars.datatypes import DataTypeClass

_ITEM = "Item"
_SINGLE, _SETS = ("S", "N", "BOOL", "B"), ("SS", "NS", "BS")
_TYPES = {*_SINGLE, *_SETS, "NULL", "L", "M"}
_CHANGE, _OF_CHANGE = {"after", "op", "source"}, {"before", "ts_ms", "ts_us", "ts_ns", "transaction"}
_AVRO = {"string", "int", "long", "float", "double", "boolean", "bytes", "array", "map"}
_NAMESPACED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+"
_DOCUMENT = {"_index", "_type", "_id", "_score", "_source", "_version", "_ignored", "sort"}
_SOURCE = {"db", "table", "connector", "schema"}  # of which a change tells one at least
OP = "__op"
"""what became of a row, as `op` of a change tells it: c, u, d, r"""
_Path = tuple[str, ...]
_KEPT = {"op": OP, "ts_ms": "__updated_ts_ms"}  # of a change, beside the row, and their columns


def unwrapped(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that all lines carry; else the frame as it is.

    Of DynamoDB numbers are texts, as they are written, and an attribute with values of several types is text. Of a
    change the row is that after it, of a deletion that before it, with `op` and `ts_ms` of the change as `__op` and
    `__updated_ts_ms`, which no row calls so. Of a document its fields and `_id`. Of a union its value, as text where
    there are several types.
    """
    names, kinds = {*frame.columns}, frame.schema
    if unions := {path for s in frame for path in _unions(s, (s.name,))}:
        made = [s.to_frame("x").select(_member(pl.col("x"), s.dtype, (s.name,), unions)).to_series() for s in frame]
        return unwrapped(pl.DataFrame([one.rename(s.name) for one, s in zip(made, frame, strict=True)]))
    if names == {"schema", "payload"} and isinstance(kinds["payload"], pl.Struct):
        return unwrapped(frame["payload"].struct.unnest())
    if names >= {"_id", "_source"} and names <= _DOCUMENT and isinstance(kinds["_source"], pl.Struct):
        own = frame["_source"].struct.unnest()
        return unwrapped(own if "_id" in own.columns else own.with_columns(frame["_id"]))
    if names >= _CHANGE and names <= _CHANGE | _OF_CHANGE and isinstance(kinds["source"], pl.Struct):
        return _after(frame) if _SOURCE & {*frame["source"].struct.fields} else frame
    return _attributes(frame)


def _is_union(s: pl.Series) -> bool:
    """Whether objects have a value by the name of its type in Avro, at most one each; or all by the one name, with the
    namespace, of a record, an enumeration or a fixed one. Several names with points are those of attributes."""
    fields = s.struct.fields if s.dtype == pl.Struct else []
    if len(fields) == 1 and re.fullmatch(_NAMESPACED, fields[0]):
        return s.struct.schema[fields[0]] in (pl.Struct, pl.String)
    if not fields or not {*fields} <= _AVRO:
        return False
    there = pl.DataFrame([value.is_not_null().cast(pl.UInt8) for value in s.struct.unnest()])
    return not (there.sum_horizontal() > 1).any()


def _unions(s: pl.Series, path: _Path) -> Iterator[_Path]:
    """Where unions are in values, of lists and fields the names that lead there."""
    if isinstance(s.dtype, pl.List) and s.dtype.inner.is_nested():
        yield from _unions(s.explode(), (*path, "[]"))
    elif s.dtype == pl.Struct:
        if _is_union(s):
            yield path
        for field in s.struct.unnest():
            yield from _unions(field, (*path, field.name))


def _member(e: pl.Expr, kind: pl.DataType | DataTypeClass, path: _Path, unions: set[_Path]) -> pl.Expr:
    """A value without the unions that it is in."""
    if not any(union[: len(path)] == path for union in unions):
        return e
    if isinstance(kind, pl.List):
        return e.list.eval(_member(pl.element(), kind.inner, (*path, "[]"), unions))
    assert isinstance(kind, pl.Struct)
    members = [_member(e.struct.field(f.name), f.dtype, (*path, f.name), unions) for f in kind.fields]
    if path not in unions:
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

    rest = [pl.col(name).alias(c) for name, c in _KEPT.items() if name in frame.columns and c not in fields]
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
