"""What a row teaches a student."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.batches import Batch
from dmtl_cli.scores.reader import ScoredPairs

A = TypeVar("A")
Array = npt.NDArray[Any]


class StudentLabels(NamedTuple, Generic[A]):
    """The labels of n rows, as arrays or tensors."""

    targets: A
    """[n, K] float64 teacher logits of the K scores that `distill.targets` names; NaN: the row has no score"""
    source: A
    """[n] int8 place in SOURCES"""
    kd_weight: A
    """[n] float32 weight of the distillation loss"""
    label: A
    """[n] bool, of the hard loss"""
    hard_weight: A
    """[n] float32 weight of the hard loss"""


StudentRows = Rows[StudentLabels[Array]]
StudentBatch = Batch[StudentLabels[Tensor]]


def scored_rows(pairs: ScoredPairs, users: int, items: int) -> StudentRows:
    """Scored pairs as rows without a hard label.

    Args:
        users, items: offset of the pairs' day in the model's stacked tables.
    """
    n = len(pairs.user)
    no, none = np.zeros(n, np.bool_), np.zeros(n, np.float32)
    labels: StudentLabels[Array] = StudentLabels(pairs.targets, pairs.source, pairs.weight, no, none)
    return Rows(pairs.user + users, pairs.item + items, labels)


def labelled_rows(user: Array, item: Array, label: Array, weight: Array, targets: int) -> StudentRows:
    """Labelled pairs as rows without scores.

    Args:
        targets: number K of scores that other rows have.
    """
    n = len(user)
    unscored, source, none = np.full((n, targets), np.nan), np.zeros(n, np.int8), np.zeros(n, np.float32)
    labels: StudentLabels[Array] = StudentLabels(unscored, source, none, label, weight)
    return Rows(user, item, labels)
