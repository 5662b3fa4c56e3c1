"""kind: sequence. A list of ids per row, through a vocabulary or hash buckets; the last `max_length` known count."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.kinds.categorical import as_ids
from dmtl_cli.data.features.kinds.kind import Kind, Learned, share
from dmtl_cli.data.features.layout import Array, PaddedSequence
from dmtl_cli.data.log.values.column_types import words_of


class Sequence(Kind):
    has_vocabulary = True

    @property
    def part(self) -> PaddedSequence:
        return PaddedSequence(self.embedding, self.feature.max_length)

    def encode(self, values: pl.Series, learned: Learned) -> Array:
        """[n, max_length]: the last known values of each list, in order, padded with 0 on the right."""
        lists = self._lists(values)
        lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
        rows = np.zeros(0, np.int32)
        if lengths.any():
            flat = lists.filter(pl.Series(lengths > 0)).explode()
            rows = learned.vocabularies[self.embedding].lookup(self._ids(flat))
        return _padded(rows, lengths, self.feature.max_length)

    def vocabulary_values(self, values: pl.Series, events: pl.Series) -> pl.DataFrame:
        """Each value of a list counts once, however many events have the list."""
        flat = self._flat(values)
        return pl.DataFrame({"value": flat, "count": np.ones(len(flat), np.int64)})

    def describe(self, values: pl.Series, encoded: Array) -> dict[str, Any]:
        """A row without known values is unknown."""
        known = encoded > 0
        mean_length = round(float(known.sum(1).mean()), 2) if len(known) else 0.0
        return {"mean_length": mean_length, "unknown_share": share((~known).all(1))}

    def _lists(self, values: pl.Series) -> pl.Series:
        f = self.feature
        if values.dtype == pl.String and f.separator is not None:
            return values.str.split(f.separator)
        if values.dtype == pl.Null:
            return values.cast(pl.List(pl.Int64))
        if isinstance(values.dtype, pl.Array):
            return values.arr.to_list()
        if not isinstance(values.dtype, pl.List):
            hint = (
                "give separator, e.g. '|', or kind: categorical" if values.dtype == pl.String else "kind: categorical"
            )
            raise UserError(f"feature {f.name}: expected a list of values, got {words_of(values)}", hint)
        return values

    def _flat(self, values: pl.Series) -> pl.Series:
        """The values of all lists, one list after the other."""
        lists = self._lists(values)
        flat = lists.filter(lists.list.len() > 0).explode() if len(lists) else lists
        return self._ids(flat) if len(flat) else pl.Series([], dtype=pl.Null)

    def _ids(self, flat: pl.Series) -> pl.Series:
        hint = "make it one list of integers or text"
        return as_ids(self.feature.name, flat, hint, "kind: vector with dim, or make it lists of text")


def _padded(rows: Array, lengths: Array, max_length: int) -> Array:
    """Rows of the values of n lists, one list after the other -> [n, max_length]; OOV values (row 0) leave no gap.

    Args:
        lengths: [n], sum that of `rows`.
    """
    known = rows > 0
    if not known.all():
        before = np.append(0, np.cumsum(known))
        ends = np.cumsum(lengths)
        rows, lengths = rows[known], before[ends] - before[ends - lengths]
    if lengths.max(initial=0) > max_length:
        late = np.arange(len(rows)) >= np.repeat(np.cumsum(lengths) - max_length, lengths)
        rows, lengths = rows[late], np.minimum(lengths, max_length)
    out = np.zeros((len(lengths), max_length), np.int32)
    out[np.arange(max_length) < lengths[:, None]] = rows
    return out
