"""Avro object container files: their rows, a piece at a time. No other module imports its library."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import polars as pl
import pyarrow as pa

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.extras import install, require
from dmtl_cli.data.log.formats.parquet import flat, with_numbers
from dmtl_cli.data.log.formats.source import OfFile
from dmtl_cli.data.log.formats.text_rows import Rows
from dmtl_cli.data.log.values.spool import frame_of

STEP = 8_192
"""rows of a piece: they are Python objects before they are columns, many times as large"""
MAGIC = b"Obj\x01"
"""begins a file"""
_PLAIN = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "fixed": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
}
_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
} | {
    ("long", f"{begin}timestamp-{word}"): pa.timestamp(unit, zone)
    for begin, zone in (("", "UTC"), ("local-", None))
    for word, unit in (("millis", "ms"), ("micros", "us"), ("nanos", "ns"))
}
_Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class AvroFile(OfFile):
    """An Avro file; the schema in it says its columns."""

    @property
    def stamp(self) -> list[Any]:
        return [*super().stamp, "avro"]

    def rows(self) -> Iterator[Rows]:
        """Its rows, flat as those of Parquet; of a file without rows one piece that has the columns. The first row is
        row 1.

        Raises:
            UserError: 78 the library is not there; 65 it is damaged, not Avro, or of a codec that is not installed; 66
                gone or changed; 74 the storage fails.
        """
        require("fastavro", "data.format: avro")
        import fastavro

        done = 0
        with self.file.stream() as raw:
            with self._read("not a readable Avro file"):
                reader = fastavro.reader(raw)
                kind = _Kinds().of(reader.writer_schema)
                _as_stored(reader.writer_schema)
            if not pa.types.is_struct(kind.type):
                raise UserError(f"{self.file}: expected records, got {kind.type}", "write a record a row")
            while True:
                with self._read(f"damaged Avro after row {done}", reader.codec):
                    frame = self._frame(list(itertools.islice(reader, STEP)), kind)
                if len(frame) or not done:
                    yield Rows(frame, range(done + 1, done + 1 + len(frame)))
                if not len(frame):
                    return
                done += len(frame)

    def _frame(self, records: list[Any], kind: _Kind) -> pl.DataFrame:
        if kind.convert is not None:
            records = [*map(kind.convert, records)]
        batch = pa.RecordBatch.from_struct_array(pa.array(records, kind.type))
        return frame_of(pa.Table.from_batches([with_numbers(flat(batch), self.file)]))

    @contextlib.contextmanager
    def _read(self, damage: str, codec: str = "") -> Iterator[None]:
        """Raises UserError in place of what the library raises."""
        try:
            yield
        except UserError:
            raise
        except (pa.ArrowException, OSError) as e:
            raise self.file.refusal(e, damage) from None
        except Exception as e:  # damaged bytes fail in as many ways as there are types and codecs
            if codec and str(e).lower().startswith((f"{codec} codec", "unrecognized codec")):
                hint = f"write it as null or deflate, or install what reads it: {install('fastavro')}"
                raise UserError(f"{self.file}: of codec {codec}, which is not installed", hint) from None
            raise UserError(f"{self.file}: {damage}: {e or type(e).__name__}", "write the file again") from None


class _Kind(NamedTuple):
    """What values of a schema become."""

    type: pa.DataType
    convert: _Convert | None = None
    """of a value that is not null, before it is of the type"""


class _Kinds:
    """Arrow's types of a schema and of those in it, as the library parsed it: names are full names."""

    def __init__(self) -> None:
        self._named: dict[str, Any] = {}
        self._above: list[str] = []
        """records that what is looked at is in"""

    def of(self, schema: Any) -> _Kind:
        if isinstance(schema, list):
            return self._of_union([self._resolved(one) for one in schema])
        schema = self._resolved(schema)
        kind, logical = schema["type"], schema.get("logicalType")
        if kind in ("record", "error"):
            return self._of_records([schema])
        if kind == "array":
            inner = self.of(schema["items"])
            return _Kind(pa.list_(inner.type), inner.convert and _each(inner.convert))
        if kind == "map":
            inner = self.of(schema["values"])
            return _Kind(pa.map_(pa.string(), inner.type), inner.convert and _each_value(inner.convert))
        if kind in ("bytes", "fixed") and logical == "decimal":
            many = schema["precision"]
            return _Kind((pa.decimal128 if many <= 38 else pa.decimal256)(many, schema.get("scale", 0)))
        if kind == "fixed" and logical == "uuid":
            return _Kind(pa.string(), lambda value: str(UUID(bytes=value)))
        return _Kind(_LOGICAL.get((kind, logical), _PLAIN[kind]))

    def _resolved(self, schema: Any) -> dict[str, Any]:
        """A schema in place of its name; it is known by then, as it is before the names of it."""
        if isinstance(schema, str):
            return self._named.get(schema, {"type": schema})  # type: ignore[no-any-return]
        if "name" in schema:
            self._named[schema["name"]] = schema
        return schema  # type: ignore[no-any-return]

    def _of_union(self, schemas: list[dict[str, Any]]) -> _Kind:
        """One type for values of several: of records their fields together, of numbers a number, else text, in which
        what is none is JSON."""
        schemas = [one for one in schemas if one["type"] != "null"]
        if schemas and all(one["type"] in ("record", "error") for one in schemas):
            return self._of_records(schemas)
        kinds = [self.of(one) for one in schemas] or [_Kind(pa.null())]
        if len({kind.type for kind in kinds}) == 1:
            return next((kind for kind in kinds if kind.convert), kinds[0])
        if all(pa.types.is_integer(kind.type) for kind in kinds):
            return _Kind(pa.int64())
        if all(pa.types.is_integer(kind.type) or pa.types.is_floating(kind.type) for kind in kinds):
            return _Kind(pa.float64(), float)
        return _Kind(pa.string(), _text)

    def _of_records(self, schemas: list[dict[str, Any]]) -> _Kind:
        """An object with the fields of several records; a record within itself is text, as no type holds it."""
        names = [one["name"] for one in schemas]
        if any(name in self._above for name in names):
            return _Kind(pa.string(), _text)
        self._above += names
        fields: dict[str, list[Any]] = {}
        for field in (field for one in schemas for field in one["fields"]):
            some = field["type"] if isinstance(field["type"], list) else [field["type"]]
            fields.setdefault(field["name"], []).extend(some)
        kinds = {name: self.of(some) for name, some in fields.items()}
        del self._above[-len(names) :]
        converts = {name: kind.convert for name, kind in kinds.items() if kind.convert is not None}
        made = pa.struct([pa.field(name, kind.type) for name, kind in kinds.items()])
        return _Kind(made, _each_field(converts) if converts else None)


def _each(convert: _Convert) -> _Convert:
    return lambda values: [value if value is None else convert(value) for value in values]


def _each_value(convert: _Convert) -> _Convert:
    return lambda values: {key: value if value is None else convert(value) for key, value in values.items()}


def _each_field(converts: dict[str, _Convert]) -> _Convert:
    def converted(record: dict[str, Any]) -> dict[str, Any]:
        made = {name: convert(record[name]) for name, convert in converts.items() if record.get(name) is not None}
        return record | made

    return converted


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, (str, Decimal)):
        return str(value)
    return json.dumps(value, default=_text, ensure_ascii=False)


def _as_stored(schema: Any) -> None:
    """Has values read as the numbers and texts that they are stored as, which Arrow's types take faster than Python's
    objects of time, and of any year and nanosecond; but for decimals."""
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _as_stored(inner)
    if isinstance(schema, dict) and schema.get("logicalType") != "decimal":
        schema.pop("logicalType", None)
