"""What a side of the input looks like once it is encoded: its columns, and its rows as arrays.

Shapes: n rows, C id columns, L sequence length, F float columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Array) -> Encoded:
        """The rows of these numbers."""
        return Encoded(
            self.ids.take(rows, 0), tuple(s.take(rows, 0) for s in self.sequences), self.floats.take(rows, 0)
        )

    @staticmethod
    def concat(parts: list[Encoded]) -> Encoded:
        return Encoded(
            np.concatenate([p.ids for p in parts]),
            tuple(np.concatenate(s) for s in zip(*(p.sequences for p in parts), strict=True)),
            np.concatenate([p.floats for p in parts]),
        )
