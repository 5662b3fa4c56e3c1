"""Values that share the rows of an embedding by a frozen hash; only their type is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.values.hashing import blake2b64, splitmix64

HASHES = {"splitmix64": pl.Int64(), "blake2b64": pl.String()}
"""the hashes, as features.json names them, and the type that each hashes"""


@dataclass(frozen=True)
class Buckets:
    """Rows of one embedding by a frozen hash: 1 + hash mod `size`. Values may share a row, and none has to be kept."""

    size: int
    dtype: pl.DataType | None
    """Int64 or String, whose hashes differ (of 5 and "5" too); None until a day has a value"""

    @property
    def rows(self) -> int:
        """Rows of the embedding, the out-of-vocabulary (OOV) row included."""
        return 1 + self.size

    @property
    def hash(self) -> str | None:
        """splitmix64 or blake2b64."""
        return next((name for name, dtype in HASHES.items() if dtype == self.dtype), None)

    def lookup(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """Row of each value, [n]; 0 for null and for empty text."""
        if self.dtype is None:
            return np.zeros(len(values), np.int32)
        values = values.cast(self.dtype, strict=False)
        if self.dtype == pl.Int64:
            return np.where(values.is_null(), np.int32(0), self._rows(splitmix64(values.fill_null(0).to_numpy())))
        distinct = values.filter(values != "").unique()
        rows = self._rows(np.fromiter(map(blake2b64, distinct), np.uint64, len(distinct)))
        return values.replace_strict(distinct, pl.Series(rows), default=0, return_dtype=pl.Int32).to_numpy()

    def _rows(self, hashed: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        return (1 + hashed % np.uint64(self.size)).astype(np.int32)
