"""What every kind of feature provides to the encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.buckets import Buckets
from dmtl_cli.data.features.layout import Array, Part
from dmtl_cli.data.features.vocabulary import Vocabulary


class Learned(NamedTuple):
    """What the days of a chain taught about the values of all features; a publication keeps it."""

    vocabularies: dict[str, Vocabulary | Buckets]
    """by embedding, of the kinds with `has_vocabulary`"""
    numbers: dict[str, dict[str, Any]]
    """by feature, what `Kind.measure` returned; JSON values; absent while no value is known"""


class Kind(ABC):
    """One feature: from its raw values to numbers. One subclass per kind, alone in its file.

    Each says which part of a side its feature makes and how values become numbers. What else a subclass defines is what
    it learns: values for the vocabulary of its embedding (`has_vocabulary`, `vocabulary_values`), statistics of the
    chain's first window (`is_measured`, `measure`), an embedding whose rows need no vocabulary (`own_rows`).
    """

    has_vocabulary: ClassVar[bool] = False
    """whether the embedding's rows come from a vocabulary or hash buckets, which grow with `vocabulary_values`"""
    is_measured: ClassVar[bool] = False
    """whether `measure` is called on the chain's first window"""

    def __init__(self, feature: Feature) -> None:
        self.feature = feature

    @property
    def embedding(self) -> str:
        """Name of the embedding, where the part has one."""
        return self.feature.embedding_name or self.feature.name

    @property
    @abstractmethod
    def part(self) -> Part:
        """What the feature adds to its side."""

    @abstractmethod
    def encode(self, values: pl.Series, learned: Learned) -> Array:
        """n raw values (any may be null; all of type Null where a log lacks the column) -> the array of `part`.

        Raises:
            UserError: 65 values of a type that the kind does not read.
        """

    def vocabulary_values(self, values: pl.Series, events: pl.Series) -> pl.DataFrame:
        """Raw values and the events that have each, [n] both -> `value` (Int64, String or Null) and `count`."""
        raise NotImplementedError

    def measure(self, values: list[pl.Series]) -> dict[str, Any]:
        """Raw values of the first window's days -> JSON values that encode keeps using from then on.

        Empty where no value is known: the next days that a model learns are measured instead."""
        raise NotImplementedError

    def check(self, measured: dict[str, Any]) -> None:
        """Raises ValueError where what a publication says `measure` returned is nothing it returns."""
        return

    def own_rows(self, learned: Learned) -> int | None:
        """Rows of an embedding that no vocabulary sizes, the out-of-vocabulary (OOV) row included."""
        return None

    def enough(self, rows: int, block: pl.Series) -> bool:
        """Whether reading a day's events can stop after `rows` of them, the last ones in `block`: buckets keep the type
        of their values, which the first one decides."""
        if self.feature.hash_bucket_size is None:
            return False
        once = pl.Series([1]).new_from_index(0, len(block))
        return self.vocabulary_values(block, once)["value"].count() > 0

    def describe(self, values: pl.Series, encoded: Array) -> dict[str, Any]:
        """Facts for `check` about raw values and what became of them; always the `unknown_share`."""
        return {"unknown_share": share(values.is_null().to_numpy())}


def share(mask: npt.ArrayLike) -> float:
    """Share of True, to four digits; 0 for an empty mask."""
    mask = np.asarray(mask)
    return round(float(mask.mean()), 4) if mask.size else 0.0
