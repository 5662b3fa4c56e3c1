"""What a row teaches a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from dmtl_cli.data.log.checked.day import Block
from dmtl_cli.data.rows import Rows

A = TypeVar("A")
Array = npt.NDArray[Any]


class TeacherLabels(NamedTuple, Generic[A]):
    """The labels of n rows, as arrays or tensors."""

    click: A
    """[n] bool"""
    converted: A
    """[n, X] bool, a column for each conversion task: it counts with a click"""
    known: A
    """[n, X] bool: whether `converted` is known"""
    weight: A
    """[n] float32 >= 0"""

    def of_task(self, k: int) -> tuple[A, A]:
        """[n] the label of the click, 0, or of a conversion, and which rows have it: all, or those clicked ones that
        know it."""
        click, converted, known, _ = cast(tuple[Any, Any, Any, Any], self)
        return (converted[:, k - 1], click & known[:, k - 1]) if k else (click, click | True)


TeacherRows = Rows[TeacherLabels[Array]]


def labelled(block: Block, threshold: float | None) -> TeacherRows:
    """The rows of a block of events, with the labels of every task."""
    converted, known = zip(*block.conversions(threshold).values(), strict=True)
    labels = TeacherLabels(block.click, np.stack(converted, 1), np.stack(known, 1), block.weight)
    return Rows(block.user.astype(np.int64), block.item.astype(np.int64), labels, block.features)


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows of one task, [n] each: for a conversion, the clicked rows with a known label."""

    logit: Array
    label: Array
    weight: Array
    user: Array
    """its user's row in the stacked tables of the days"""
