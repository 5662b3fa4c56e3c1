"""The bench's log as arrays, which is what every peer's loader takes, and what a peer's script gives to be run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from benchmark.sizes import HISTORY, LONG_READ, OF_ITEM, OF_USER
from torch import nn

Array = npt.NDArray[Any]

USER, ITEM = ("user_id", *OF_USER), ("item_id", *OF_ITEM)
CATEGORICAL = (*USER, *ITEM)
USER_NUMBER, CONTEXT_NUMBER = NUMERIC = ("d0", "d1")
LABELS = ("click", "click_read")


@dataclass(frozen=True)
class Rows:
    """n rows.

    Args:
        x: by name a categorical feature [n] int32 (0: unknown), `hist` [n, 50] int32 (0: padding), or a number [n]
            float32.
        y: [n, 2] float32, a click and a click with a long read.
    """

    x: dict[str, Array]
    y: Array

    def __len__(self) -> int:
        return len(self.y)

    def take(self, at: Array) -> Rows:
        """Rows at some places, or where a mask is true."""
        return Rows({name: values[at] for name, values in self.x.items()}, self.y[at])

    def clicked(self) -> Rows:
        """The rows with a click, of which an in-batch softmax learns."""
        return self.take(self.y[:, 0] == 1)

    def with_items(self, at: Array) -> Rows:
        """The same users and contexts, each with the item of another row; nobody knows the labels: 0."""
        return Rows(self.x | {name: self.x[name][at] for name in ITEM}, np.zeros_like(self.y))

    @property
    def labels(self) -> dict[str, Array]:
        return dict(zip(LABELS, self.y.T, strict=True))


class Vocabularies:
    """Distinct values of each categorical feature; the k-th of n has id k + 1, an unknown one 0."""

    def __init__(self, log: pl.DataFrame) -> None:
        self.values = {name: log[name].unique() for name in CATEGORICAL}

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of an embedding table."""
        return {name: len(values) + 1 for name, values in self.values.items()}

    def ids(self, name: str, column: pl.Series) -> Array:
        """[n] int32"""
        known = self.values[name]
        ids = pl.int_range(1, len(known) + 1, dtype=pl.Int32, eager=True)
        return column.replace_strict(known, ids, default=0, return_dtype=pl.Int32).to_numpy()

    def rows(self, log: pl.DataFrame) -> Rows:
        x = {name: self.ids(name, log[name]) for name in CATEGORICAL}
        lengths = log["hist"].list.len().to_numpy()
        x["hist"] = np.zeros((len(log), HISTORY), np.int32)
        x["hist"][np.arange(HISTORY) < lengths[:, None]] = self.ids("item_id", log["hist"].explode().drop_nulls())
        x |= {name: log[name].to_numpy() for name in NUMERIC}
        click = log["click"].to_numpy() == 1
        labels = [click, click & (log["duration"].to_numpy() > LONG_READ)]
        return Rows(x, np.stack(labels, 1).astype(np.float32))


def read(folder: Path, rows: int | None = None) -> pl.DataFrame:
    """A folder of days, or of one day, at most so many rows of it."""
    files = sorted(folder.rglob("*.parquet"))
    return pl.read_parquet(files, n_rows=rows, hive_partitioning=False)


@dataclass(frozen=True)
class Options:
    """How a peer trains; `scratch` is a folder that may be written to."""

    batch: int
    workers: int
    seed: int
    scratch: Path


@dataclass(frozen=True)
class Training:
    """A model that is ready to learn: `fit` trains it for an epoch, `scores` gives [n, 2] of other rows by label,
    `vectors` [n, 64] of their users or items, as the side `user` or `item` says."""

    model: nn.Module
    fit: Callable[[], Any]
    scores: Callable[[Rows], Array] | None = None
    vectors: Callable[[Rows, str], Array] | None = None
