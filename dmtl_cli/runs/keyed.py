"""The key of a run, in the files that leave its workspace: a run id is the hash of them and cannot stand there.

JSON has it as `key`; Parquet, safetensors and ONNX in their metadata; a .pt2 as an extra file; a file without a place
for it at its end.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

KEY = "dmtl.key"
MADE_BY = "files_key"
"""the fact that has the key which the files of a run carry, where `forget` published it again with another key"""
_HEX = 64


def with_key(schema: pa.Schema, key: str) -> pa.Schema:
    """A Parquet file's schema with the key in its metadata; as it is without a key."""
    return schema.with_metadata({**(schema.metadata or {}), KEY: key}) if key else schema


def append_key(file: Path, key: str) -> None:
    """Puts `dmtl.key` and the 64 hex digits at the end of a file, whose readers stop before. Nothing without a key."""
    if key:
        with file.open("ab") as handle:
            handle.write(KEY.encode() + key.encode())


def appended_key(file: Path) -> str | None:
    """What `append_key` put there. Raises OSError."""
    with file.open("rb") as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - _HEX - len(KEY)))
        end = handle.read()
    return end[len(KEY) :].decode("ascii", "replace") if end.startswith(KEY.encode()) else None
