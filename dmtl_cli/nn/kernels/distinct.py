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

    How many there are is not known on the host of another device: there as many are given as are looked up, the last
    of them again and again behind the distinct ones, at places that nothing has. So nobody waits for the device.

    Args:
        table: how many rows it has, all of `rows` below it.
    """
    if rows.device.type != "cpu":
        return _padded(rows)
    if table > _SPARSE * len(rows):
        distinct, places = torch.unique(rows, return_inverse=True)
        return distinct, places
    marked, places_of = distinct_of(rows.numpy())
    return torch.from_numpy(marked), torch.from_numpy(places_of)


def _padded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """`distinct_rows` by operators whose sizes follow from that of `rows`."""
    ascending, order = rows.sort()
    begins = torch.ones_like(ascending)
    begins[1:] = ascending[1:] != ascending[:-1]
    place = begins.cumsum(0) - 1
    distinct = ascending[-1:].expand(len(rows)).clone().scatter_(0, place, ascending)
    return distinct, torch.empty_like(place).scatter_(0, order, place)
