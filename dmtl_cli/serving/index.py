"""An index of item vectors by faiss: the file that an export has, how it is built and what it finds.

Vectors have one number more than those they stand for, which makes all equally long: sqrt(L ** 2 - |v| ** 2), L being
the longest. A user's has 0 there, so that inner products are the same. Without it a graph by inner product leads to the
longest vectors alone: of KuaiRand's, whose lengths are 2 to 9, it finds .67 where this finds .987 (Bachrach et al.,
Speeding up the Xbox recommender system using a Euclidean transformation for inner-product spaces, RecSys 2014).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.extras import has
from dmtl_cli.runs.contents import decoding
from dmtl_cli.runs.keyed import append_key
from dmtl_cli.serving.search import Floats, Ints

FILE = "index.faiss"
Kind = Literal["hnsw", "ivf"]
_LINKS, _BUILD_DEPTH = 32, 100  # of HNSW: M, efConstruction
_PER_CENTROID = 64  # vectors that IVF learns a centroid from
_DEPTHS = {"hnsw": (64, 128, 256, 512, 1_024), "ivf": (8, 16, 32, 64, 128, 256)}
ENOUGH = 0.98
"""the Recall@FIRST on a day's users at which a search is deep enough"""
FIRST = 50
_HELD = 64  # up to as many items of a user are found at the depth in the file; for twice as many it is twice that
_MOST = 1_024  # items that an index is asked for: as far as it was measured


def _faiss() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the wrapper that SWIG made
        import faiss
    module: ModuleType = faiss
    return module


def write(folder: Path, vectors: Floats, kind: Kind, users: Floats, expected: Ints, key: str = "") -> None:
    """Writes index.faiss over vectors [I, d], by inner product; on one thread, so that the same vectors give the same
    bytes.

    HNSW has 32 links an item, found by looking at 100; IVF has about 4 sqrt(I) lists. How deep a search goes (efSearch,
    nprobe) is stored in the file: the least of a few depths at which the users find `ENOUGH`, else the largest.

    Args:
        users: [U, d]
        expected: [U, FIRST] the rows that exact search finds; fewer columns where there are fewer items.
    """
    faiss = _faiss()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index = _hnsw(faiss, as_long(vectors)) if kind == "hnsw" else _ivf(faiss, as_long(vectors))
        for depth in _DEPTHS[kind]:
            if kind == "hnsw":
                index.hnsw.efSearch = depth
            else:
                index.nprobe = min(depth, index.nlist)
            found: Ints = index.search(_with_zero(users), expected.shape[1])[1]
            if recall(expected, found).mean() >= ENOUGH:
                break
        faiss.write_index(index, str(folder / FILE))
    finally:
        faiss.omp_set_num_threads(threads)
    append_key(folder / FILE, key)


def as_long(vectors: Floats) -> Floats:
    """Vectors [I, d] with a number more, [I, d + 1], so that all have the length of the longest."""
    squared = np.square(vectors, dtype=np.float64).sum(1)
    more = np.sqrt(np.maximum(squared.max(initial=0.0) - squared, 0))
    return np.concatenate([vectors, more[:, None].astype(np.float32)], 1)


def _with_zero(users: Floats) -> Floats:
    return np.concatenate([users, np.zeros((len(users), 1), np.float32)], 1)


def recall(expected: Ints, found: Ints) -> npt.NDArray[np.float64]:
    """[U] the share of each user's expected rows [U, K] that were found."""
    return np.array([np.isin(e, f).mean() for e, f in zip(expected, found, strict=True)])


def _hnsw(faiss: ModuleType, vectors: Floats) -> Any:
    index = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _BUILD_DEPTH
    index.add(vectors)
    return index


def _ivf(faiss: ModuleType, vectors: Floats) -> Any:
    items, width = vectors.shape
    lists = max(1, min(round(4 * math.sqrt(items)), items // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(vectors[:: max(1, items // (_PER_CENTROID * lists))])
    index.add(vectors)
    return index


class Index:
    """index.faiss of an export.

    Raises UserError 65: it is no index, or one of other vectors.
    """

    def __init__(self, folder: Path, rows: int, width: int) -> None:
        faiss = _faiss()
        self.path = folder / FILE
        with decoding(self.path):
            self._index = faiss.read_index(str(self.path), faiss.IO_FLAG_MMAP_IFC)
            found = self._index.ntotal, self._index.d, self._index.metric_type
            if found != (rows, width + 1, faiss.METRIC_INNER_PRODUCT):
                raise ValueError(f"expected {rows} vectors of {width + 1} numbers by inner product, got {found[:2]}")
            # deeper than `deepest` it takes longer than to compare all items
            self._by: Callable[[int], Any]
            if isinstance(self._index, faiss.IndexHNSW):
                self._depth, deepest = self._index.hnsw.efSearch, rows // 128
                self._by = lambda depth: faiss.SearchParametersHNSW(efSearch=depth)
            else:
                self._depth, deepest = self._index.nprobe, self._index.nlist // 4
                self._by = lambda depth: faiss.SearchParametersIVF(nprobe=depth)
            self._times = max(1, deepest // self._depth)

    @staticmethod
    def usable(folder: Path) -> bool:
        """Whether the export has an index and this machine the library."""
        return (folder / FILE).is_file() and has("faiss")

    def reach(self, asked: Ints) -> Ints:
        """How many items [U] to search for where so many [U] are needed: the next power of two; 0 where all items are
        better compared. A user's is of their own number alone, so that their list does not depend on others'."""
        reach = 1 << np.ceil(np.log2(np.maximum(asked, 1))).astype(np.int64)
        return np.where(reach <= min(_HELD * self._times, _MOST), reach, 0)

    def search(self, users: Floats, k: int) -> tuple[Ints, Floats]:
        """Rows [U, k] and dot products [U, k], best first, ties by row; where fewer were found -1 and -inf. Of n times
        64 items the search is n times as deep as the file says."""
        with decoding(self.path):
            by = self._by(self._depth * (k // _HELD)) if k > _HELD else None
            dots, rows = self._index.search(_with_zero(users), k, params=by)
        dots = np.where(rows < 0, -np.inf, dots).astype(np.float32)
        order = np.lexsort((rows, -dots), axis=1)
        return np.take_along_axis(rows, order, 1), np.take_along_axis(dots, order, 1)
