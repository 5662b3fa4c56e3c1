"""The first rows of a file in any format, with values as precise as the text says and no more."""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from dmtl_cli.config.errors import Exit, UserError

BYTES = 8 << 20
"""of a text file's beginning"""
PARQUET, CSV, JSON, DELTA, ICEBERG = "parquet", "csv", "json", "delta", "iceberg"
_EXTENSIONS = {
    **dict.fromkeys((".parquet", ".pq"), PARQUET),
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt", ".dat", ".inter", ".item", ".user"), CSV),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), JSON),
}
_INTEGER, _NUMBER = r"^-?(0|[1-9][0-9]{0,17})$", r"^-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_UNKNOWN = ("", "NULL", "null", "NA", "N/A", "nan", "NaN", "None", "\\N")


@dataclass(frozen=True)
class Text:
    """How a CSV is written."""

    separator: str = ","
    header: bool = True


def format_of(name: str) -> str | None:
    """The format that a file's name says, compressed or not; None: none that is known."""
    parts = re.findall(r"\.[a-z0-9]+", name.lower())
    ends = parts[-2:-1] if parts and parts[-1] in (".gz", ".zst") else parts[-1:]
    return _EXTENSIONS.get(ends[0]) if ends else None


def head(files: fs.FileSystem, path: str, rows: int, text: Text | None = None) -> tuple[pl.DataFrame, Text | None]:
    """The first rows of a file, and how it is written where it is a CSV.

    Args:
        text: how a CSV is written; None: as its first lines look.

    Raises:
        UserError: 65 it is not what its name says; 74 the storage fails.
    """
    form = format_of(path)
    try:
        if form == PARQUET:
            return _parquet(files, path, rows), None
        content = _beginning(files, path)
        if form == JSON:
            return _json_lines(content, rows), None
        text = text or dialect(content)
        return typed(_table(content, text, rows)), text
    except (pa.ArrowException, pl.exceptions.PolarsError, UnicodeDecodeError, csv.Error, ValueError, zlib.error) as e:
        raise UserError(f"{path}: not readable as {form}: {str(e).splitlines()[0]}", "is it damaged?") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e}", "check the path and the credentials", Exit.IO) from None


def delta(uri: str, rows: int, options: dict[str, str]) -> pl.DataFrame:
    """The first rows of a Delta table."""
    try:
        from deltalake import DeltaTable
    except ImportError:
        raise _extra("delta", "Delta", uri) from None
    return _frame(DeltaTable(uri, storage_options=options or None).to_pyarrow_dataset().head(rows))


def iceberg(metadata: str, rows: int, options: dict[str, str]) -> pl.DataFrame:
    """The first rows of an Iceberg table, by the file of its metadata."""
    try:
        from pyiceberg.table import StaticTable
    except ImportError:
        raise _extra("iceberg", "Iceberg", metadata) from None
    return _frame(StaticTable.from_metadata(metadata, dict(options)).scan(limit=rows).to_arrow())


def dialect(content: bytes) -> Text:
    """Separator and header of a CSV, by its first lines.

    A header has no number and no value of another line where the other lines have numbers.
    """
    lines = [line for line in content.decode("utf-8-sig", "replace").splitlines()[:50] if line.strip()]
    separator = max(",\t;|", key=lambda s: (_even(lines, s), s == ","))
    first, *rest = list(csv.reader(lines, delimiter=separator)) or [[]]
    numbers = any(_is_number(cell) for cell in first)
    distinct = len({cell.strip() for cell in first}) == len(first) and all(cell.strip() for cell in first)
    repeated = any(cell in {row[k] for row in rest if k < len(row)} for k, cell in enumerate(first))
    return Text(separator, distinct and not numbers and not repeated)


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Text columns as what all their values are: integers, numbers or booleans; an id such as 007 stays text."""
    return frame.with_columns([_typed(frame[c]) for c in frame.columns])


def _typed(s: pl.Series) -> pl.Series:
    text = s.str.strip_chars()
    text = text.set(text.is_in(list(_UNKNOWN)), None)
    known = text.drop_nulls()
    if not len(known):
        return text
    if known.str.contains(_INTEGER).all():
        return text.cast(pl.Int64)
    if known.str.contains(_NUMBER).all() and not known.str.contains(r"^-?[0-9]{19,}$").any():
        return text.cast(pl.Float64)
    if set(known.str.to_lowercase().unique()) <= {"true", "false"}:
        return text.str.to_lowercase() == "true"
    return text


def _is_number(cell: str) -> bool:
    return bool(cell.strip()) and re.match(_NUMBER, cell.strip()) is not None


def _even(lines: Sequence[str], separator: str) -> int:
    """Columns where all lines have as many, else 0."""
    counts = [len(row) for row in csv.reader(lines, delimiter=separator)]
    return counts[0] if counts and counts[0] > 1 and counts.count(counts[0]) >= 0.9 * len(counts) else 0


def _beginning(files: fs.FileSystem, path: str) -> bytes:
    """Whole lines of a file's beginning, without its compression."""
    with files.open_input_stream(path, compression="detect") as raw:
        content: bytes = raw.read(BYTES)
    whole = content.rfind(b"\n") + 1 if len(content) == BYTES else len(content)
    return content[:whole] if whole else content


def _table(content: bytes, text: Text, rows: int) -> pl.DataFrame:
    quoted = {"separator": text.separator, "has_header": text.header, "infer_schema_length": 0}
    frame = pl.read_csv(io.BytesIO(content), n_rows=rows, encoding="utf8-lossy", **quoted)  # type: ignore[arg-type]
    return frame.rename({c: c.lstrip("\ufeff").strip() for c in frame.columns})


def _json_lines(content: bytes, rows: int) -> pl.DataFrame:
    lines = [line for line in content.splitlines()[:rows] if line.strip()]
    if lines and lines[0].lstrip().startswith(b"["):
        raise ValueError("a list, expected one object a line")
    return pl.DataFrame(_flat([json.loads(line) for line in lines]), infer_schema_length=None, strict=False)


def _flat(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keys of nested objects as a.b."""

    def flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in record.items():
            out |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
        return out

    return [flat(record) for record in records]


def _parquet(files: fs.FileSystem, path: str, rows: int) -> pl.DataFrame:
    with files.open_input_file(path) as raw:
        parquet = pq.ParquetFile(raw, pre_buffer=False)
        batches, have = [], 0
        for batch in parquet.iter_batches(min(rows, 65_536), use_threads=False):
            batches.append(batch)
            have += len(batch)
            if have >= rows:
                break
        return _frame(pa.Table.from_batches(batches, parquet.schema_arrow)).head(rows)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _extra(name: str, what: str, where: str) -> UserError:
    return UserError(f"{where}: a {what} table needs a library", f"pip install 'dmtl[{name}]'", Exit.CONFIG)
