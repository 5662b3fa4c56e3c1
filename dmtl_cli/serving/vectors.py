"""Stored item vectors: item_vectors.parquet, which any tool reads, and the same numbers as item_vectors.safetensors,
which is mapped: a search begins without reading them, and processes of one machine share them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.export import Numbers
from dmtl_cli.data.log.values.numbers import arrow
from dmtl_cli.runs.contents import decoding
from dmtl_cli.runs.keyed import KEY, with_key
from dmtl_cli.serving.search import Floats

TABLE, MAPPED = "item_vectors.parquet", "item_vectors.safetensors"
_GROUP = 65_536  # rows of a row group, and those quantised at a time
_LARGEST = {"float16": float(np.finfo(np.float16).max), "int8": 127.0}
_NAMES = {"F32": np.float32, "F16": np.float16, "I8": np.int8}  # of types, in the header of safetensors


class Stored(NamedTuple):
    """Vectors as they are stored."""

    vector: npt.NDArray[Any]
    """[I, d] float32, float16 or int8"""
    scale: Floats | None
    """[I], of int8 alone: a vector is `scale` times its numbers"""

    def floats(self) -> Floats:
        """[I, d] what they stand for; float32 are not copied."""
        if self.vector.dtype == np.float32:
            return self.vector
        out = self.vector.astype(np.float32)
        if self.scale is not None:
            out *= self.scale[:, None]
        return out


def quantised(vectors: Floats, numbers: Numbers) -> Stored:
    """Vectors [I, d] in other numbers. Of int8 the largest number of each vector is 127 times its scale; of float16
    what is larger than it can tell is its largest.
    """
    if numbers == "float32":
        return Stored(vectors, None)
    if numbers == "float16":
        most = _LARGEST["float16"]
        return Stored(np.clip(vectors, -most, most).astype(np.float16), None)
    scale = np.abs(vectors).max(1, initial=0.0).astype(np.float32) / np.float32(_LARGEST["int8"])
    tiny = np.float32(np.finfo(np.float32).tiny)
    out = np.empty(vectors.shape, np.int8)
    for start in range(0, len(vectors), _GROUP):
        rows = slice(start, start + _GROUP)
        out[rows] = np.clip(np.rint(vectors[rows] / np.maximum(scale[rows], tiny)[:, None]), -127, 127)
    return Stored(out, scale)


def write(folder: Path, ids: pl.Series, stored: Stored, key: str = "") -> None:
    """Both files. The Parquet has item_id, vector (a FixedSizeList) and, of int8, scale.

    Args:
        ids: [I]
    """
    width = stored.vector.shape[1]
    flat = arrow(np.ascontiguousarray(stored.vector).reshape(-1))
    columns = {
        "item_id": ids.to_arrow(compat_level=pl.CompatLevel.oldest()),
        "vector": pa.FixedSizeListArray.from_arrays(flat, width),
    }
    columns |= {} if stored.scale is None else {"scale": arrow(stored.scale)}
    table = pa.table(columns)
    split = [] if stored.scale is not None else ["vector.list.element"]  # of one byte a number nothing is split
    pq.write_table(
        table.cast(with_key(table.schema, key)),
        folder / TABLE,
        compression="zstd",
        row_group_size=_GROUP,
        use_dictionary=False,
        use_byte_stream_split=split or False,
    )
    arrays = {"vector": stored.vector} | ({} if stored.scale is None else {"scale": stored.scale})
    _write_mapped(folder / MAPPED, arrays, key)


def _write_mapped(file: Path, arrays: dict[str, npt.NDArray[Any]], key: str) -> None:
    """A safetensors file: 8 bytes of the header's length, the header as JSON, padded to 64 bytes, the arrays."""
    header: dict[str, Any] = {"__metadata__": {KEY: key}} if key else {}
    names = {np.dtype(t): name for name, t in _NAMES.items()}
    at = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with file.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            handle.write(np.ascontiguousarray(array).data)


class MappedVectors:
    """item_vectors.safetensors, of which nothing but the header is read before it is searched.

    Raises UserError 65: it is no such file, or not of the shape that its header says.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / MAPPED
        with decoding(self.path):
            size = self.path.stat().st_size
            with self.path.open("rb") as handle:
                length = int.from_bytes(handle.read(8), "little")
                if length > min(size, 1 << 20):
                    raise ValueError(f"a header of {length} bytes")
                self.header: dict[str, Any] = json.loads(handle.read(length))
            self._start = 8 + length
            rows, self.width = self.header["vector"]["shape"]
            self.rows: int = rows
            wanted = {"vector": [rows, self.width]} | ({"scale": [rows]} if self._kind("vector") == np.int8 else {})
            found = {name: each["shape"] for name, each in self.header.items() if name != "__metadata__"}
            if (
                found != wanted
                or self._start + max(e["data_offsets"][1] for n, e in self.header.items() if n in found) != size
            ):
                raise ValueError(f"expected {', '.join(wanted)} and no more, got {', '.join(found)} in {size} bytes")
            if rows < 1 or self.width < 1:
                raise ValueError("it has no item")

    @property
    def key(self) -> str | None:
        """The run's, where the file carries one."""
        found: str | None = self.header.get("__metadata__", {}).get(KEY)
        return found

    def _kind(self, name: str) -> np.dtype[Any]:
        return np.dtype(_NAMES[self.header[name]["dtype"]])

    def _array(self, name: str) -> npt.NDArray[Any]:
        each = self.header[name]
        start, end = each["data_offsets"]
        kind, shape = self._kind(name), tuple(each["shape"])
        if end - start != kind.itemsize * int(np.prod(shape, dtype=object)):
            raise ValueError(f"{name}: {end - start} bytes of shape {shape}")
        return np.memmap(self.path, kind, "r", self._start + start, shape)

    def read(self) -> Stored:
        """All of them, mapped. Raises UserError 65."""
        with decoding(self.path):
            scale = self._array("scale") if "scale" in self.header else None
            return Stored(np.asarray(self._array("vector")), None if scale is None else np.asarray(scale))


def read_ids(folder: Path, kind: pl.DataType, rows: int) -> pl.Series:
    """item_id [I] of the table. Raises UserError 65: of another type, one twice, not as many as there are vectors."""
    path = folder / TABLE
    with decoding(path):
        with pq.ParquetFile(path) as file:  # pq.read_table would import half a second of what it does not need
            ids = pl.from_arrow(file.read(["item_id"], use_threads=False))
        assert isinstance(ids, pl.DataFrame)
        check_ids(ids, "item_id", kind)
        if len(ids) != rows:
            raise ValueError(f"expected {rows} items, as {MAPPED} has, got {len(ids)}")
        return ids["item_id"]


def check_ids(frame: pl.DataFrame, name: str, kind: pl.DataType) -> None:
    """Raises ValueError or KeyError unless ids are of their type, distinct and not null."""
    ids = frame[name]
    if ids.dtype != kind:
        raise ValueError(f"{name}: expected {kind}, got {ids.dtype}")
    if ids.null_count() or ids.n_unique() < len(ids):
        raise ValueError(f"{name}: expected each once, and no null")
