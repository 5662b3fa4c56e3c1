"""kind: vector. A list of `dim` numbers per row, taken as they are."""

from __future__ import annotations

import numpy as np
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.kinds.kind import Kind, Learned
from dmtl_cli.data.features.layout import Array, FloatColumns
from dmtl_cli.data.log.values.column_types import words_of


class Vector(Kind):
    @property
    def dim(self) -> int:
        assert self.feature.dim is not None  # the config's checks
        return self.feature.dim

    @property
    def part(self) -> FloatColumns:
        return FloatColumns(self.dim)

    def encode(self, values: pl.Series, learned: Learned) -> Array:
        """[n, dim]; 0 for null, an empty list, and what is not finite."""
        out = np.zeros((len(values), self.dim), np.float32)
        if values.dtype == pl.Null:
            return out
        lists = self._lists(values)
        here = (lists.list.len() > 0).fill_null(False)
        flat = lists.filter(here).explode().to_numpy() if here.any() else np.zeros(0, np.float32)
        out[here.to_numpy()] = np.nan_to_num(flat.reshape(-1, self.dim), posinf=0.0, neginf=0.0)
        return out

    def _lists(self, values: pl.Series) -> pl.Series:
        """As lists of float32, each null, empty or of `dim` numbers."""
        expected = f"feature {self.feature.name}: expected"
        if not isinstance(values.dtype, pl.List | pl.Array):
            hint = "kind: numeric" if values.dtype.is_numeric() else "make it lists of numbers"
            raise UserError(f"{expected} a list of {self.dim} numbers, got {words_of(values)}", hint)
        inner = values.dtype.inner
        if not (inner.is_numeric() or inner in (pl.Boolean, pl.Null)):
            hint = "kind: sequence for a list of ids"
            raise UserError(f"{expected} lists of {self.dim} numbers, got {words_of(values)}", hint)
        lists = values.cast(pl.List(pl.Float32))
        lengths = lists.list.len()
        if len(bad := ((lengths != self.dim) & (lengths > 0)).fill_null(False).arg_true()):
            row = int(bad[0])
            raise UserError(f"{expected} {self.dim} numbers, got {lengths[row]}", "give dim: its length")
        return lists
