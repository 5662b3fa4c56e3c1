"""What a side of the input looks like once it is encoded: its columns, and its rows as arrays.

Shapes: n rows, C id columns, L sequence length, F float columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.data.log.values.mapped import ArrayFile

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class IdColumn:
    """One row of an embedding: int32 [n], 0 the out-of-vocabulary (OOV) row."""

    embedding: str
    is_id: bool
    """whether training replaces it by the OOV row now and then; a numeric bucket is never replaced"""


@dataclass(frozen=True)
class PaddedSequence:
    """Rows of an embedding: int32 [n, L], padded with 0 on the right; 0 is masked."""

    embedding: str
    length: int


@dataclass(frozen=True)
class FloatColumns:
    """float32 [n, width]."""

    width: int


Part = IdColumn | PaddedSequence | FloatColumns
"""what one feature adds to a side"""


@dataclass(frozen=True)
class Layout:
    """Which columns an encoded side has, in order; what a model needs to know of it."""

    ids: tuple[str, ...]
    """embedding name of each integer column"""
    is_id: tuple[bool, ...]
    """whether each integer column is an id (replaced by the OOV row now and then), not a numeric bucket"""
    sequences: tuple[tuple[str, int], ...]
    """(embedding name, length) of each padded sequence"""
    floats: int
    """float columns"""

    @staticmethod
    def from_parts(parts: list[Part]) -> Layout:
        single = [p for p in parts if isinstance(p, IdColumn)]
        return Layout(
            tuple(p.embedding for p in single),
            tuple(p.is_id for p in single),
            tuple((p.embedding, p.length) for p in parts if isinstance(p, PaddedSequence)),
            sum(p.width for p in parts if isinstance(p, FloatColumns)),
        )

    @property
    def embeddings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.ids, *(name for name, _ in self.sequences)]))

    def width(self, embedding_dim: int) -> int:
        """Length of the dense vector made of one row."""
        return (len(self.ids) + len(self.sequences)) * embedding_dim + self.floats


@dataclass(frozen=True)
class Encoded:
    """n rows of one side as numbers. A sequence is padded with 0 on the right; 0 is masked."""

    ids: npt.NDArray[np.int32]
    """[n, C] rows within each column's embedding"""
    sequences: tuple[npt.NDArray[np.int32], ...]
    """[n, L] each"""
    floats: npt.NDArray[np.float32]
    """[n, F]"""
    folder: Path | None = None
    """where the files lie that the arrays are read from; None: they are in memory"""

    @staticmethod
    def from_parts(n: int, parts: Iterable[tuple[Part, Array]]) -> Encoded:
        """Puts the features of a side together, in their order, each with what its part says."""
        parts = list(parts)
        ids = [x for part, x in parts if isinstance(part, IdColumn)]
        floats = [x for part, x in parts if isinstance(part, FloatColumns)]
        return Encoded(
            np.stack(ids, 1) if ids else np.zeros((n, 0), np.int32),
            tuple(x for part, x in parts if isinstance(part, PaddedSequence)),
            np.concatenate(floats, 1) if floats else np.zeros((n, 0), np.float32),
        )

    def parts(self, of: Iterable[Part]) -> Iterator[Array]:
        """What `from_parts` put together of features with these parts: [n], [n, L] or [n, width] of each."""
        ids, sequences, first = iter(self.ids.T), iter(self.sequences), 0
        for part in of:
            if isinstance(part, IdColumn):
                yield next(ids)
            elif isinstance(part, PaddedSequence):
                yield next(sequences)
            else:
                yield self.floats[:, first : first + part.width]
                first += part.width

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Array) -> Encoded:
        """The rows of these numbers."""
        return Encoded(
            self.ids.take(rows, 0), tuple(s.take(rows, 0) for s in self.sequences), self.floats.take(rows, 0)
        )

    def slice(self, rows: slice) -> Encoded:
        """These rows, of which nothing is copied."""
        return Encoded(self.ids[rows], tuple(s[rows] for s in self.sequences), self.floats[rows], self.folder)

    @staticmethod
    def concat(parts: list[Encoded]) -> Encoded:
        """The rows of all parts, in a file where those of one of them are."""
        if len(parts) == 1:
            return parts[0]
        if folder := next((p.folder for p in parts if p.folder), None):
            return Encoded.in_files(folder, parts)
        return Encoded(
            np.concatenate([p.ids for p in parts]),
            tuple(np.concatenate(s) for s in zip(*(p.sequences for p in parts), strict=True)),
            np.concatenate([p.floats for p in parts]),
        )

    @staticmethod
    def in_files(folder: Path, parts: Iterable[Encoded]) -> Encoded:
        """The rows of all parts, each dropped once it is in files of a folder. There is at least one part."""
        files: list[ArrayFile[Any]] = []
        for part in parts:
            arrays = (part.ids, part.floats, *part.sequences)
            files = files or [ArrayFile(folder) for _ in arrays]
            for file, array in zip(files, arrays, strict=True):
                file.add(array)
        ids, floats, *sequences = (file.done() for file in files)
        return Encoded(ids, tuple(sequences), floats, folder)
