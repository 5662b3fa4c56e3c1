"""The exposure block: which items are shown to whom, learned from every row of the student's day, whatever its label.

In-batch softmax with the logQ correction (Yi et al., RecSys 2019) over a batch's items and some drawn uniformly from
the catalogue (mixed negative sampling: Yang et al., WWW 2020), so that <u, v> is log P(item is shown | user) up to a
number of the user, and an item that was never shown is below those that were. A row's own item counts in the
denominator as often as a batch is expected to have it: counted once, an item that is much of what a user is shown would
be put too high (Khrylchenko et al., arXiv 2507.09331).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dmtl_cli.config.student import Student
from dmtl_cli.config.training import STEPS
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.batches import Batch, Batcher
from dmtl_cli.nn.precision import autocast
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.student.dssm import DSSM, batch_heads
from dmtl_cli.student.hard import sampled_softmax

A = TypeVar("A")
PASSES = 3
"""over a day's rows, at least, where each has some STEPS, as those of all but large days; of these as many steps"""


class Shown(NamedTuple, Generic[A]):
    """What a row teaches the exposure block."""

    weight: A
    """[n] float32; 0: no row of the log but a drawn item"""


ShownRows = Rows[Shown[npt.NDArray[Any]]]
ShownBatch = Batch[Shown[Tensor]]


def shown_batches(
    day: Day, negatives: int, batch_size: int, batcher: Batcher, rng: np.random.Generator
) -> Iterator[ShownBatch]:
    """The day's rows in random order, `batch_size` a batch, each batch with `negatives` drawn items beside them.

    Args:
        batcher: of the day's tables alone.
    """
    for rows in batcher.cut(_shown_rows(day, rng), batch_size):
        # an item without loss is a row of weight 0, of a user who is in the batch anyway
        drawn = rng.integers(len(day.items), size=negatives)
        beside: ShownRows = Rows(
            np.full(negatives, rows.user[0]), drawn, Shown(np.zeros(negatives, rows.labels.weight.dtype))
        )
        yield batcher.batch(Rows.concat([rows, beside]))


def _shown_rows(day: Day, rng: np.random.Generator) -> Iterator[ShownRows]:
    for block in day.blocks(rng):
        yield Rows(block.user.astype(np.int64), block.item.astype(np.int64), Shown(block.weight))


def wants_more(steps: int, epochs: int) -> bool:
    """Whether one more pass over a day's rows is worth it where trials chose how many: they choose those of the
    preference, which may need one where this block is half learned.

    Args:
        steps: of an epoch.
        epochs: passes that are done.
    """
    return epochs < PASSES and epochs * steps < PASSES * STEPS


class ExposureLoss:
    """The softmax loss of a batch of `shown_batches` of a day.

    Args:
        plain: whether to compute by plain autograd, without kernels written by hand.
    """

    def __init__(
        self,
        student: DSSM,
        config: Student,
        day: Day,
        ranks: Ranks = ALONE,
        *,
        plain: bool = False,
    ) -> None:
        self.student, self.precision, self.negatives = student, config.precision, config.exposure.negatives
        self.share = torch.from_numpy(shares(day)).to(student.bias.device)
        self.catalogue, self.ranks, self.plain = len(day.items), ranks, plain

    def __call__(self, batch: ShownBatch, look: bool) -> tuple[Tensor, dict[str, float | Tensor]]:
        with autocast(self.precision, batch.user_index.device):
            (user, item), _ = batch_heads(self.student, batch, self.ranks, plain=self.plain)
        # the rows are of one day, where an item has one row
        share = self.share.new_zeros(batch.distinct[1]).index_copy(0, batch.item_index, self.share[batch.item_row])
        rows = len(batch) - self.negatives
        log_q = mixed_log_q(share, rows, self.negatives, self.catalogue)
        places = batch.user_index, batch.item_index, batch.labels.weight
        loss = sampled_softmax(user, item, 1.0, log_q, *places, log_q + math.log(len(batch)), plain=self.plain)
        return loss, {}


def mixed_log_q(share: Tensor, rows: int, negatives: int, catalogue: int) -> Tensor:
    """[n] log of the chance that one of a batch's rows and drawn items is this item.

    Args:
        share: [n] the items' shares of the day's rows.
        rows, negatives: rows of the log, and uniformly drawn items, in the batch.
        catalogue: items that are drawn from.
    """
    return ((rows * share + negatives / catalogue) / (rows + negatives)).log()


def shares(day: Day) -> npt.NDArray[np.float32]:
    """[I] each item's share of the day's rows."""
    return (day.item_events / max(1, len(day))).astype(np.float32)
