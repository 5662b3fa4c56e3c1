"""A side of a day as its table: ids, what a side table says of them, and the inline features of their first events.

A side of more than HELD ids never is in memory as a whole. The first events come in the order of the log, so they go to
the spool in buckets of the table's rows; then bucket after bucket is completed and written where the table lies.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.firsts import AT, Taken
from dmtl_cli.data.log.entities import Entities
from dmtl_cli.data.log.files.shares import Share
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.mapped import TableFile
from dmtl_cli.data.log.values.spool import Spool, SpoolWriter


class Inline:
    """Inline features of those events of a stream that are an id's first.

    Args:
        file: a path in scratch, of this rank and side.
        joined: as `Entities.join` gives the side.
        features: those to take from each first event.
        share: the stream.
    """

    def __init__(self, file: Path, joined: pl.DataFrame, features: list[Feature], share: Share) -> None:
        self._file, self._ranks = file, share.ranks
        self._taken = Taken(joined[AT], features, share.start)
        self._large = len(joined) > sizes.HELD
        self._firsts = pl.DataFrame()
        if self._large:
            at = joined[AT].to_numpy() if not joined[AT].null_count() else joined[AT].fill_null(-1).to_numpy()
            here = np.flatnonzero(at >= share.start)  # of ranks after this one too, whose events come later
            self._bucket = (here[np.argsort(at[here])] // sizes.SLICE).astype(np.int32)
            self._waiting: list[pl.DataFrame] = []
            self._count = 0
            self._writer = SpoolWriter(file, -(-len(joined) // sizes.SLICE), sizes.SLICE)

    def add(self, block: pl.DataFrame) -> None:
        """Rows in log order."""
        self._taken.add(block)
        if self._large and (taken := self._taken.drain()) is not None:
            self._waiting.append(taken)
            self._count += len(taken)
            if self._count >= sizes.SLICE:
                self._write()

    def _write(self) -> None:
        if self._waiting:
            self._firsts = self._waiting[0].clear()
            bucket, self._bucket = np.split(self._bucket, [self._count])
            self._writer.add(pl.concat(self._waiting), bucket.astype(np.int64))
            self._waiting, self._count = [], 0

    def gather(self) -> Inline:
        """What the streams of all ranks had, to be called once after the last row."""
        if not self._large:
            self._firsts = self._taken.gather(self._ranks)
            return self
        self._write()
        every = self._ranks.gather_objects((self._writer.done(), self._firsts))
        self._spool = Spool.concat([spool for spool, _ in every])
        self._firsts = next((like for _, like in every if like.width), self._firsts)
        return self

    def table(self, entities: Entities, joined: pl.DataFrame) -> pl.DataFrame:
        """As `Entities.complete` makes it of `joined`; of more than HELD rows, it lies in a file without a name."""
        if not self._large:
            return entities.complete(joined, self._firsts)
        table = TableFile(self._file.with_suffix(".table"))
        for k, start in enumerate(range(0, len(joined), sizes.SLICE)):
            firsts = self._spool.bucket(k)
            table.add(
                entities.complete(joined[start : start + sizes.SLICE], self._firsts if firsts is None else firsts)
            )
        if self._ranks.size == 1:
            self._file.unlink(missing_ok=True)
        return table.done()
