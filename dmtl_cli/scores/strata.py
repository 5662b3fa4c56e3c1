"""Which of the pairs drawn for a row are kept, so that the teacher's whole range of scores is among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def spread(score: npt.NDArray[Any], row: npt.NDArray[Any], keep: int) -> npt.NDArray[np.int64]:
    """Numbers of the pairs that are kept, ascending: of each row `keep` at evenly spaced quantiles of its scores, the
    lowest and the highest among them; all of a row that has no more (stratified sampling: Jang et al., SIGIR 2026,
    arXiv 2604.04734).

    Args:
        score: [m] of each pair; of equal scores the earlier pair counts as the lower.
        row: [m] for which row it was drawn, in any order.
        keep: 2 or more.
    """
    order = np.lexsort((score, row))
    _, begin, size = np.unique(row[order], return_index=True, return_counts=True)
    at = np.rint(np.linspace(0, size - 1, keep)).astype(np.int64)  # [keep, rows]
    kept: npt.NDArray[np.int64] = np.unique(order[begin + at])
    return kept
