"""What a teacher's and a student's training have in common."""

from __future__ import annotations

import math
from typing import Literal

from dmtl_cli.config.section import Name, Positive, Rate, Section, Share

STEPS = 256  # of an epoch


def rows_a_step(rows: float) -> int:
    """Batch size, where none is given, of an epoch of that many rows: a small log must not be a handful of steps."""
    return 1 << min(12, max(6, round(math.log2(max(1, rows) / STEPS))))


class Training(Section):
    batch_size: Positive | None = None
    """rows per step; default the power of two from 64 to 4096 that makes an epoch nearest to 256 steps; a teacher's is
    chosen by trials where it is not written, see auto"""
    epochs: Positive = 1
    """passes over the rows of a run; chosen by trials where it is not written, see auto; a student of few rows then
    goes on until it is near its teacher, up to 8"""
    learning_rate: Rate = 1e-3
    """learning rate of dense weights (Adam); chosen by trials where it is not written, see auto"""
    embedding_learning_rate: Rate | None = None
    """learning rate of embedding tables; chosen by trials where it is not written, see auto; without trials 0.1. With
    embedding_optimizer: adam no trials, and that of dense weights"""
    embedding_optimizer: Literal["rowwise_adagrad", "adam"] = "rowwise_adagrad"
    """adam: to compare with; each of its steps reads and writes all rows of the tables"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """precision of matrix products in training; bf16 needs a CPU or GPU that has it. With it a teacher's training was
    up to 1.3 times as fast on CPUs, a student's 1.1. Weights, gates, a teacher's towers, sums of gradients and
    losses stay fp32"""
    embedding_dim: Positive = 16
    unknown_share: Share = 0.05
    """share of ids replaced by the out-of-vocabulary (OOV) row while training, so that a new id finds a trained one;
    chosen by trials where it is not written, see auto"""
    features: tuple[Name, ...] | None = None
    """names of the features the model reads; default all it may read"""

    @property
    def table_rate(self) -> float:
        """Learning rate of the embedding tables."""
        default = 0.1 if self.embedding_optimizer == "rowwise_adagrad" else self.learning_rate
        return self.embedding_learning_rate or default

    @property
    def averaged(self) -> bool:
        """Whether a training ends with the average of its weights."""
        return False

    def rows_a_step(self, rows: int) -> int:
        """Batch size of an epoch of that many rows."""
        return self.batch_size or rows_a_step(rows)
