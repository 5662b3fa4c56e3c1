"""A vocabulary that stays in vocabularies.parquet: a few values are looked up there, all are read when many are."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from dmtl_cli.data.features.row_groups import RowGroups, limits
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.runs.contents import decoding

_FEW = 4_096  # values looked up at a time, above which the whole vocabulary is read and kept


class VocabularyFile(Vocabulary):
    """One embedding of a file whose row groups have one embedding each, sorted by value.

    Args:
        path: vocabularies.parquet. Of one whose row groups are shared, as earlier versions wrote it, all is read.
    """

    def __init__(self, path: Path, embedding: str) -> None:
        metadata = pq.read_metadata(path)
        ranges = [limits(metadata, at, "embedding") for at in range(metadata.num_row_groups)]
        last = [limits(metadata, at, "row")[1] for at in range(metadata.num_row_groups)]
        alone = None not in last and all(least is not None and least == most for least, most in ranges)
        mine = [at for at, (least, _) in enumerate(ranges) if least == embedding or not alone]
        whole = any(limits(metadata, at, "int_value")[0] is not None for at in mine)  # of a long text they say nothing
        column = "int_value" if whole else "text_value"
        self.__dict__ |= {
            "path": path,
            "embedding": embedding,
            "mine": mine,
            "column": column,
            "largest": max((last[at] for at in mine), default=0) if alone else None,
            "groups": RowGroups(path, column, mine) if alone else None,
        }

    path: Path
    embedding: str
    mine: list[int]
    """the row groups that it is in"""
    column: str
    largest: int | None
    """of the rows that values have, as the file's footer says"""
    groups: RowGroups | None

    @cached_property
    def frame(self) -> pl.DataFrame:
        with decoding(self.path):
            with pq.ParquetFile(self.path) as file:
                whole = pl.from_arrow(file.read_row_groups(self.mine, use_threads=False))
            assert isinstance(whole, pl.DataFrame)
            whole = whole.filter(pl.col("embedding") == self.embedding)
            value = "int_value" if whole["int_value"].count() else "text_value"
            read = Vocabulary(whole.select(pl.col(value).alias("value"), "row", "count", "last_seen"))
            read.check(self.embedding)
        return read.frame

    def check_rows(self, rows: int) -> None:
        """Raises ValueError where its values do not have the rows of the embedding, the OOV row included."""
        found = self.rows if self.largest is None else self.largest + 1
        if found != rows:
            raise ValueError(f"{self.embedding}: expected the {rows} rows of features.json, got {found}")

    def lookup(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """As `Vocabulary.lookup`. Raises UserError 65: the file makes no sense."""
        if self.groups is None or "frame" in self.__dict__ or len(values) > _FEW:
            return super().lookup(values)
        dtype = pl.String() if self.column == "text_value" else pl.Int64()
        asked = values.cast(dtype, strict=False)
        if not asked.count():
            return np.zeros(len(values), np.int32)
        with decoding(self.path):
            found = self.groups.among(asked.drop_nulls(), [self.column, "row"])
            if found["row"].null_count() or found[self.column].n_unique() < len(found):
                raise ValueError(f"{self.embedding}: expected distinct values, and a row of each")
        return Vocabulary(found.rename({self.column: "value"})).lookup(asked)
