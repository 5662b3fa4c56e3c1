"""Distinct row numbers, by marking them instead of sorting: ten times as fast where a table is not far larger than what
is looked up in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]

_SPARSE = 8  # a table of more rows than so many times those looked up is sorted faster by torch


def distinct_of(rows: Ints) -> tuple[Ints, Ints]:
    """np.unique of row numbers with its inverse, by marking instead of sorting where they are small enough for that."""
    span = int(rows.max(initial=0)) + 1
    if span > 64 * len(rows) + 1024:
        distinct, index = np.unique(rows, return_inverse=True)
        return distinct, index
    there = np.zeros(span, np.bool_)
    there[rows] = True
    distinct = np.flatnonzero(there)
    place = np.empty(span, np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[rows]


def distinct_rows(rows: Tensor, table: int) -> tuple[Tensor, Tensor]:
    """torch.unique of rows [n] of a table with its inverse [n].

    Args:
        table: how many rows it has, all of `rows` below it.
    """
    if rows.device.type != "cpu" or table > _SPARSE * len(rows):
        distinct, places = torch.unique(rows, return_inverse=True)
        return distinct, places
    marked, places_of = distinct_of(rows.numpy())
    return torch.from_numpy(marked), torch.from_numpy(places_of)
