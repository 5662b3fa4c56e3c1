"""kind: categorical. One id or class per row, through a vocabulary or hash buckets."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.kinds.kind import Kind, Learned, share
from dmtl_cli.data.features.layout import Array, IdColumn
from dmtl_cli.data.log.values.column_types import words_of

_EXACT = 2.0**53  # from here on a float may be another integer than it was read from: 2 ** 53 + 1 is read as 2 ** 53


class Categorical(Kind):
    has_vocabulary = True

    @property
    def part(self) -> IdColumn:
        return IdColumn(self.embedding, is_id=True)

    def encode(self, values: pl.Series, learned: Learned) -> Array:
        return learned.vocabularies[self.embedding].lookup(self._single(values))

    def vocabulary_values(self, values: pl.Series, events: pl.Series) -> pl.DataFrame:
        return pl.DataFrame({"value": self._single(values), "count": events})

    def describe(self, values: pl.Series, encoded: Array) -> dict[str, Any]:
        """With buckets also how many values there are, and how many buckets they fall into."""
        known = encoded > 0
        facts: dict[str, Any] = {"unknown_share": share(~known)}
        if self.feature.hash_bucket_size:
            facts["values"] = values.filter(pl.Series(known)).n_unique()
            facts["buckets"] = len(np.unique(encoded[known]))
        return facts

    def _single(self, values: pl.Series) -> pl.Series:
        nested = isinstance(values.dtype, pl.List | pl.Array)
        hint = "kind: sequence" if nested else "make it text"
        return as_ids(self.feature.name, values, hint, "kind: numeric, or make it text")


def as_ids(name: str, values: pl.Series, type_hint: str, fraction_hint: str) -> pl.Series:
    """Values as Int64 or String (Null where there are none): NaN and empty text are null, and a whole float is the
    integer it was read from, since a null made the column float.

    Args:
        name: the feature, for errors.
        type_hint: what to do about values that are neither numbers nor text.
        fraction_hint: what to do about fractions.

    Raises:
        UserError: 65 values that are no ids.
    """
    if values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        if whole.null_count() > values.null_count():
            raise UserError(f"feature {name}: expected values within int64, got {values.max()!r}", "make it text")
        return whole
    if values.dtype == pl.Boolean:
        return values.cast(pl.Int64)
    if values.dtype.is_float():
        whole = values.fill_nan(None)
        if (bad := (whole != whole.floor()) | (whole.abs() >= _EXACT)).any():
            first = whole.filter(bad.fill_null(False))[0]
            raise UserError(f"feature {name}: a categorical value is not whole (below 2^53): {first!r}", fraction_hint)
        return whole.cast(pl.Int64)
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = values.cast(pl.String)
        return text.set(text == "", None)
    if values.dtype == pl.Null:
        return values
    raise UserError(f"feature {name}: expected integers or text, got {words_of(values)}", type_hint)
