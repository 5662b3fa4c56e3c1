"""What an ONNX file says of itself, read without its weights and without the package onnx: the shapes of its weights,
and the words that were put beside its graph.

Field numbers are those of onnx.proto3; the encoding is that of protobuf: a key of field and wire type, then a number or
a length and so many bytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_GRAPH, _METADATA = 7, 14  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_DIMS, _NAME = 1, 8  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_NUMBER, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


class Parts(NamedTuple):
    weights: dict[str, tuple[int, ...]]
    """shapes by name"""
    words: dict[str, str]
    """`metadata_props`"""


def read(path: Path) -> Parts:
    """Raises ValueError: the file is no protobuf; OSError."""
    weights: dict[str, tuple[int, ...]] = {}
    words: dict[str, str] = {}
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        for field, span in _fields(raw, 0, len(raw)):
            if field == _METADATA:
                entry = {f: raw[slice(*at)].decode() for f, at in _fields(raw, *span)}
                words[entry[_KEY]] = entry[_VALUE]
            elif field == _GRAPH:
                tensors = (at for f, at in _fields(raw, *span) if f == _INITIALIZER)
                weights.update(_weight(raw, *at) for at in tensors)
    return Parts(weights, words)


def _weight(raw: mmap.mmap, start: int, end: int) -> tuple[str, tuple[int, ...]]:
    name, shape = "", []
    for field, span in _fields(raw, start, end):
        if field == _NAME:
            name = raw[slice(*span)].decode()
        elif field == _DIMS:
            at = span[0]
            while at < span[1]:
                size, at = _varint(raw, at, span[1])
                shape.append(size)
    return name, tuple(shape)


def _fields(raw: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Numbers of the fields of a message, and where their bytes are."""
    while start < end:
        key, at = _varint(raw, start, end)
        kind = key & 7
        if kind == _NUMBER:
            start = _varint(raw, at, end)[1]
        elif kind == _BYTES:
            length, at = _varint(raw, at, end)
            start = at + length
        elif kind in (_FIXED64, _FIXED32):
            start = at + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"no protobuf: wire type {kind}")
        if start > end:
            raise ValueError("no protobuf: a field ends behind its message")
        yield key >> 3, (at, start)


def _varint(raw: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while at < end and shift < 64:
        byte = raw[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("no protobuf: a number without end")
