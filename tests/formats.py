"""One log in every format: frames written as Parquet, CSV, JSON lines, Avro, Delta and Iceberg tables."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import uuid
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import update_table_metadata

from dmtl_cli.config.data import Data, Events
from dmtl_cli.data.log.files.day_files import DayFinder

FORMATS = ("parquet", "csv", "csv.gz", "csv.zst", "json", "json.gz", "avro", "delta", "iceberg")


def write(frame: pl.DataFrame, root: Path, name: str, kind: str) -> str:
    """Writes a table below root; its path below root, a file or, of Delta and Iceberg, a folder."""
    root.mkdir(parents=True, exist_ok=True)
    if kind == "delta":
        from deltalake import write_deltalake

        write_deltalake(str(root / name), frame.to_arrow(compat_level=pl.CompatLevel.oldest()), mode="append")
        return name
    if kind == "iceberg":
        IcebergTable(root / name).append(frame)
        return name
    place = root / f"{name}.{kind}"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(encoded(frame, kind))
    return f"{name}.{kind}"


def encoded(frame: pl.DataFrame, kind: str) -> bytes:
    """The bytes of a file: parquet, avro, csv or json, the last two also with .gz or .zst."""
    if kind == "avro":
        return avro([(name, _avro_type(of, name)) for name, of in frame.schema.items()], frame.to_dicts())
    raw = io.BytesIO()
    plain, _, codec = kind.partition(".")
    if plain == "parquet":
        frame.write_parquet(raw)
    elif plain == "csv":
        frame.write_csv(raw)
    else:
        frame.write_ndjson(raw)
    if codec == "gz":
        return gzip.compress(raw.getvalue())
    return pa.compress(raw.getvalue(), "zstd", asbytes=True) if codec == "zst" else raw.getvalue()


def avro(fields: list[tuple[str, Any]], rows: list[dict[str, Any]], codec: str = "deflate", **more: Any) -> bytes:
    """The bytes of an Avro file of records with these fields (name, schema)."""
    raw = io.BytesIO()
    named = [{"name": name, "type": kind} for name, kind in fields]
    fastavro.writer(raw, {"type": "record", "name": "Row", "fields": named}, rows, codec=codec, **more)
    return raw.getvalue()


def _avro_type(kind: pl.DataType, name: str) -> Any:
    """A type as writers declare it: every field may be null."""
    if isinstance(kind, pl.List):
        return ["null", {"type": "array", "items": _avro_type(kind.inner, name)}]  # type: ignore[arg-type]
    if isinstance(kind, pl.Struct):
        fields = [{"name": f.name, "type": _avro_type(f.dtype, f"{name}_{f.name}")} for f in kind.fields]  # type: ignore[arg-type]
        return ["null", {"type": "record", "name": f"{name}_row", "fields": fields}]
    if isinstance(kind, pl.Datetime):
        unit = {"ms": "millis", "us": "micros"}[kind.time_unit]
        zone = "" if kind.time_zone else "local-"
        return ["null", {"type": "long", "logicalType": f"{zone}timestamp-{unit}"}]
    plain = {pl.Int64: "long", pl.Int32: "int", pl.Float64: "double", pl.Float32: "float", pl.Boolean: "boolean"}
    return ["null", {"type": "int", "logicalType": "date"} if kind == pl.Date else plain.get(type(kind), "string")]


class IcebergTable(NoopCatalog):
    """An Iceberg table in a folder, as a catalogue would write it: metadata/ and data/."""

    def __init__(self, folder: Path) -> None:
        super().__init__("test")
        self.folder, self.io = folder, PyArrowFileIO()
        self.table: Table | None = None

    def append(self, frame: pl.DataFrame, **partition: Any) -> None:
        rows = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self.table is None:
            schema = Catalog._convert_schema_if_needed(rows.schema)
            metadata = new_table_metadata(
                schema,
                UNPARTITIONED_PARTITION_SPEC,
                UNSORTED_SORT_ORDER,
                f"file://{self.folder}",
                {"format-version": "2"},
            )
            self.table = self._at(metadata, 0)
        self.table.append(rows)

    def _at(self, metadata: Any, version: int) -> Table:
        place = f"file://{self.folder}/metadata/{version:05}-{uuid.uuid4()}.metadata.json"
        ToOutputFile.table_metadata(metadata, self.io.new_output(place))
        return Table(("test", "table"), metadata, place, self.io, self)

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:
        metadata = update_table_metadata(table.metadata, updates)
        version = int(Path(table.metadata_location).name[:5]) + 1
        self.table = self._at(metadata, version)
        return CommitTableResponse(metadata=metadata, metadata_location=self.table.metadata_location)


FIRST, SECOND = dt.date(2026, 1, 1), dt.date(2026, 1, 2)
HEAD = "user_id,item_id,d,click,seconds\n"


def finder(root: Path, kind: str = "csv", **more: Any) -> DayFinder:
    """The files of a log of one file, whose rows have the columns of HEAD, as they are converted."""
    events = Events(
        **{"path": f"e.{kind}", "date_column": "d", "click": "click", "duration": "seconds"} | more.pop("events", {})
    )
    return DayFinder(Data(root=str(root), format=kind, timezone="UTC", events=events, **more), root / "ws/converted")  # type: ignore[arg-type]


def rows(*days: int, user: int = 1) -> str:
    """Lines below HEAD, one for each day of January."""
    return "".join(f"{user},i{k},2026-01-0{day},true,1.5\n" for k, day in enumerate(days))


def table(found: DayFinder, day: dt.date = FIRST) -> pl.DataFrame:
    """What was converted of a day."""
    return pl.concat([pl.read_parquet(found._converted.folder / f.path) for f in found.find(day).events])  # type: ignore[union-attr]
