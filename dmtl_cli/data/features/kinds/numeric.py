"""kind: numeric. A number per row, standardized or as a bucket that has a row of an embedding.

Edges, mean and deviation are measured on the chain's first window and then carried, so that an encoded number keeps its
meaning from day to day.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.kinds.kind import Kind, Learned, share
from dmtl_cli.data.features.layout import Array, FloatColumns, IdColumn
from dmtl_cli.data.log.values.column_types import words_of

_SAMPLE = 1_000_000  # events whose event-level numbers are measured
_LARGEST = 10  # deviations from the mean
_SENTINEL = 1e150  # from here on a number is not measured, as DBL_MAX, which stands for none: no float64 is its square


class Numeric(Kind):
    is_measured = True

    @property
    def part(self) -> IdColumn | FloatColumns:
        return IdColumn(self.embedding, is_id=False) if self.feature.is_bucketed else FloatColumns(1)

    def encode(self, values: pl.Series, learned: Learned) -> Array:
        """Row 1 + the number of edges at or below each value, or (value - mean) / deviation; 0 for null, and for every
        value of a feature that has not been measured yet."""
        x = self._numbers(values)
        known = learned.numbers.get(self.feature.name)
        if known is None:
            x, known = np.full(len(x), np.nan), {"edges": [], "mean": 0.0, "std": 1.0}
        if self.feature.is_bucketed:
            edges = np.asarray(known["edges"])
            return np.where(np.isnan(x), 0, 1 + np.searchsorted(edges, x, side="right")).astype(np.int32)
        x = (x - known["mean"]) / known["std"]
        floats: npt.NDArray[np.float32] = np.clip(x, -_LARGEST, _LARGEST).astype(np.float32)
        floats[np.isnan(floats)] = 0.0
        return floats[:, None]

    def measure(self, values: list[pl.Series]) -> dict[str, Any]:
        """`edges`, or `mean` and `std`; empty where no value is known, unless the edges are given."""
        f = self.feature
        x = np.concatenate([self._numbers(v) for v in values])
        x = np.sort(x[np.abs(x) < _SENTINEL])  # sorted: sums then do not depend on the order of reading
        if f.boundaries is not None:
            return {"edges": list(f.boundaries)}
        if not len(x):
            return {}
        if f.num_buckets is not None:
            return {"edges": np.unique(np.quantile(x, np.arange(1, f.num_buckets) / f.num_buckets)).tolist()}
        if x[0] == x[-1]:  # the deviation of equal numbers is rounding, not 0
            return {"mean": float(x[0]), "std": 1.0}
        return {"mean": float(x.mean()), "std": float(x.std()) or 1.0}

    def check(self, measured: dict[str, Any]) -> None:
        names = ["edges"] if self.feature.is_bucketed else ["mean", "std"]
        if sorted(measured) != names:
            raise ValueError(f"feature {self.feature.name}: expected {', '.join(names)}, got {', '.join(measured)}")
        numbers = measured["edges"] if self.feature.is_bucketed else [measured["mean"], measured["std"]]
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
            raise ValueError(f"feature {self.feature.name}: expected finite numbers, got {numbers}")
        if not numbers or numbers != sorted(numbers) if self.feature.is_bucketed else measured["std"] <= 0:
            raise ValueError(f"feature {self.feature.name}: expected edges in order, or a std above 0, got {numbers}")

    def own_rows(self, learned: Learned) -> int | None:
        """A bucket more than there are edges, and the OOV row."""
        edges = learned.numbers.get(self.feature.name, {}).get("edges", ())
        return len(edges) + 2 if self.feature.is_bucketed else None

    def enough(self, rows: int, block: pl.Series) -> bool:
        return rows >= _SAMPLE

    def describe(self, values: pl.Series, encoded: Array) -> dict[str, Any]:
        if self.feature.is_bucketed:  # what is not finite is unknown too
            return {"unknown_share": share(encoded == 0)}
        return super().describe(values, encoded)

    def _numbers(self, values: pl.Series) -> npt.NDArray[np.float64]:
        """[n], NaN for what is null or not finite; log1p applied."""
        if values.dtype == pl.Null:
            return np.full(len(values), np.nan)
        if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
            raise UserError(
                f"feature {self.feature.name}: expected numbers, got {words_of(values)}", _hint(values.dtype)
            )
        x = values.cast(pl.Float64).to_numpy()
        if not (finite := np.isfinite(x)).all():
            x = np.where(finite, x, np.nan)
        return np.sign(x) * np.log1p(np.abs(x)) if self.feature.transform == "log1p" else x


def _hint(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List | pl.Array):
        return "kind: vector with dim, or kind: sequence for a list of ids"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "kind: categorical, or make it numbers"
    return "make it numbers"
