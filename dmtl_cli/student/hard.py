"""Hard losses: what a student may learn from labels. Each defines the rows it learns from, their number, and its loss.

A new one needs a class here and its name in the config.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dmtl_cli.config.student import Hard, Student
from dmtl_cli.data.log.checked.day import Block, Day
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import in_lists
from dmtl_cli.nn.kernels.distinct import distinct_rows
from dmtl_cli.nn.kernels.softmax import in_batch_softmax, in_batch_softmax_plain
from dmtl_cli.nn.losses import bce, weighted_mean
from dmtl_cli.student.dssm import DSSM, Vectors
from dmtl_cli.student.labels import StudentBatch, StudentRows, labelled_rows

Array = npt.NDArray[Any]


class HardLoss(Protocol):
    """One way to learn from labels."""

    @staticmethod
    def count(config: Hard, day: Day, threshold: float | None) -> int:
        """Rows that a day gives."""

    @staticmethod
    def rows(config: Hard, label: Array, known: Array) -> Array:
        """[n] bool: logged rows that are learned."""

    @staticmethod
    def draws(config: Hard) -> int:
        """Negatives drawn per row."""

    @staticmethod
    def loss(student: DSSM, served: Vectors, rows: Vectors, batch: StudentBatch, log_q: Tensor, plain: bool) -> Tensor:
        """The loss of a batch.

        Args:
            served: vectors of the batch's distinct users and items.
            rows: those of each row's user and item.
            log_q: [rows of the stacked items] log of an item's chance of being in a batch as a positive.
            plain: whether to compute by plain autograd, without kernels written by hand.
        """


class SampledSoftmax:
    """In-batch softmax with the logQ correction (Yi et al., RecSys 2019): every row's item is a negative of the others,
    so only positives are learned."""

    @staticmethod
    def count(config: Hard, day: Day, threshold: float | None) -> int:
        return sum(int(positives(config, b, threshold).sum()) for b in day.blocks())

    @staticmethod
    def rows(config: Hard, label: Array, known: Array) -> Array:
        return known & label

    @staticmethod
    def draws(config: Hard) -> int:
        return 0

    @staticmethod
    def loss(student: DSSM, served: Vectors, rows: Vectors, batch: StudentBatch, log_q: Tensor, plain: bool) -> Tensor:
        weight = batch.labels.hard_weight
        positive = torch.nonzero(weight * batch.labels.label > 0).squeeze(1)
        users, user = distinct_rows(batch.user_index[positive], batch.distinct[0])
        items, item = distinct_rows(batch.item_index[positive], batch.distinct[1])
        # all hard rows belong to one day, where an item has one row
        q = log_q.new_zeros(len(items)).index_copy(0, item, log_q[batch.item_row[positive]])
        return sampled_softmax(
            served[0][users], served[1][items], student.scale, q, user, item, weight[positive], plain=plain
        )


class Pointwise:
    """Binary cross entropy of the served logit, over the log's rows and drawn negatives."""

    @staticmethod
    def count(config: Hard, day: Day, threshold: float | None) -> int:
        return len(day) * (1 + config.negatives)

    @staticmethod
    def rows(config: Hard, label: Array, known: Array) -> Array:
        return known

    @staticmethod
    def draws(config: Hard) -> int:
        return config.negatives

    @staticmethod
    def loss(student: DSSM, served: Vectors, rows: Vectors, batch: StudentBatch, log_q: Tensor, plain: bool) -> Tensor:
        return pointwise(student.logits(*rows), batch.labels.label, batch.labels.hard_weight)


HARD: dict[str, HardLoss] = {"sampled_softmax": SampledSoftmax(), "pointwise": Pointwise()}


def positives(config: Hard, block: Block, threshold: float | None) -> Array:
    """[n] bool: rows whose label, a click or a long read, is true."""
    return block.click if config.label == "click" else block.labels(threshold)[0]


def hard_rows(
    day: Day, threshold: float | None, config: Student, users: int, items: int, rng: np.random.Generator
) -> Iterator[StudentRows]:
    """Labelled rows of a day. A row whose label is unknown is left out.

    Args:
        users, items: offset of the day's tables in the model's stacked ones.
    """
    uniform, hard, loss = Negatives(day, 0.0), config.hard, HARD[config.hard.loss]
    for block in day.blocks(rng):
        converted, known = block.labels(threshold)
        label, known = (block.click, np.ones_like(known)) if hard.label == "click" else (converted, known)
        weight = _weight(hard, day, block)
        keep = np.flatnonzero(loss.rows(hard, label, known))
        user, item = block.user[keep].astype(np.int64), block.item[keep].astype(np.int64)
        parts = [(user, item, label[keep], weight[keep])]
        for _ in range(loss.draws(hard)):
            drawn, valid = uniform.draw(user, rng)
            parts.append((user[valid], drawn[valid], np.zeros(int(valid.sum()), np.bool_), block.weight[keep][valid]))
        for u, i, y, w in parts:
            rows = labelled_rows(u + users, i + items, y, w, len(config.distill.targets))
            yield in_lists(rows, np.arange(len(u)), 2, rng) if config.rows_together > 1 else rows


def _weight(config: Hard, day: Day, block: Block) -> Array:
    """[n] of each row; where durations weigh, that of a click is in mean durations of the day, and 0 without one."""
    if not config.duration_weighted:
        return block.weight
    mean = np.float32(day.facts["duration_sum"] / max(1.0, day.facts["duration_rows"]) or 1.0)
    return np.where(block.click, block.weight * np.nan_to_num(block.duration / mean), block.weight)


def log_q(day: Day, threshold: float | None, config: Hard, offset: int, items: int) -> npt.NDArray[np.float32]:
    """[items] log of the share that each item has of the positives of the loss, which have a weight: its chance of
    being in a batch.

    Args:
        offset: of the day's items in the model's stacked ones, of which there are `items`.
    """
    counts = np.zeros(items, np.int64)
    for block in day.blocks() if config.w_hard else ():
        learned = positives(config, block, threshold) & (_weight(config, day, block) > 0)
        counts += np.bincount(offset + block.item[learned], minlength=items)
    out: npt.NDArray[np.float32] = np.log(np.maximum(counts, 1) / max(1, counts.sum())).astype(np.float32)
    return out


def sampled_softmax(
    user_vec: Tensor,
    item_vec: Tensor,
    scale: Tensor | float,
    log_q: Tensor,
    user: Tensor,
    item: Tensor,
    weight: Tensor,
    log_own: Tensor | None = None,
    *,
    plain: bool = False,
) -> Tensor:
    """`in_batch_softmax` of scaled dot products; 0, with gradients of 0, without rows."""
    if not len(item):
        return (user_vec.sum() + item_vec.sum()) * 0.0
    softmax = in_batch_softmax_plain if plain else in_batch_softmax
    return softmax(scale * user_vec, item_vec, log_q, user, item, weight, log_own)


def pointwise(s: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Binary cross entropy of logits s [B] against labels y [B] in 0..1."""
    return weighted_mean(bce(s, y.to(s.dtype)), weight)
