"""Numbers of numpy as Arrow's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def arrow(values: npt.NDArray[Any]) -> pa.Array:
    """Numbers [n] as an Arrow array of their type; without a copy where they lie one after the other in memory.

    `pyarrow.array` imports pandas, where it is installed, to see whether the numbers are pandas': half a second of a
    processor.
    """
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])
