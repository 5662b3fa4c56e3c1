"""Where ids are in a table."""

from __future__ import annotations

import numpy as np
import polars as pl

from dmtl_cli.serving.search import Ints


class Places:
    """The row of each id of a column [n] without repetition; found by bisection, so that nothing is kept but order."""

    def __init__(self, ids: pl.Series) -> None:
        self._order: Ints = ids.arg_sort().to_numpy().astype(np.int64)
        self._sorted = ids.gather(self._order).rechunk()
        self._numbers = self._sorted.to_numpy() if ids.dtype == pl.Int64 else None

    def rows(self, wanted: pl.Series) -> Ints:
        """[m] the row of each of some ids of the column's type, -1 where it is not there, or null."""
        if not len(self._order) or not len(wanted):
            return np.full(len(wanted), -1, np.int64)
        known = ~wanted.is_null().to_numpy()
        if self._numbers is not None:
            numbers = wanted.fill_null(0).to_numpy()
            at = np.minimum(np.searchsorted(self._numbers, numbers), len(self._order) - 1)
            found = self._numbers[at] == numbers
        else:
            texts = wanted.fill_null("")
            at = np.minimum(self._sorted.search_sorted(texts).to_numpy(), len(self._order) - 1)
            found = (self._sorted.gather(at) == texts).to_numpy()
        return np.where(found & known, self._order[at], -1)
