"""What each rank of a run reads of a day, and how runs of rows that two ranks share a part of are completed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dmtl_cli.data.log.files.rows import Groups
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.runs.ranks import Ranks


def share_groups(events: Table, groups: dict[File, range], ranks: Ranks) -> Groups:
    """The row groups of this rank: all ranks' together are the day's, in its order, about as many rows each.

    Args:
        groups: row groups that may have rows of the day, by file; a file not named is read whole.
    """
    parts = []
    for file, footer in events.footers.items():
        some = groups.get(file, range(len(footer.rows)))
        parts.append((file, some, footer.rows[some.start : some.stop]))
    total = max(1, sum(sum(rows) for *_, rows in parts))
    out, before = [], 0
    for file, some, rows in parts:
        begins = before + np.cumsum([0, *rows])[:-1]
        before += sum(rows)
        here = np.flatnonzero(begins * ranks.size // total == ranks.rank)
        if len(here):
            out.append((file, some[here[0] : here[-1] + 1]))
    return out


@dataclass(frozen=True)
class Share:
    """What a rank reads of a day."""

    ranks: Ranks
    groups: Groups
    start: int
    """position of its first row"""
    head: Path
    """file for the rows that complete a run of the rank before"""

    def runs(self, frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
        """Frames that begin at a multiple of `rows`, completed by what the ranks after this one read of the last.

        Args:
            frames: up to `rows` rows each; the first may begin elsewhere, and then ends at a multiple.
        """
        if self.ranks.size == 1:
            yield from frames
            return
        head: Path | None = None
        last: pl.DataFrame | None = None
        for frame in frames:
            if frame["position"][0] % rows:
                head = self.head
                frame.write_ipc(head, compression="lz4")
                continue
            if last is not None:
                yield last
            last = frame
        after = self.ranks.gather_objects((head, last is not None))[self.ranks.rank + 1 :]
        if last is None:
            return
        parts = [last]
        for theirs, begins in after:
            if theirs is not None:
                parts.append(pl.scan_ipc(theirs, glob=False).collect())
            if begins:
                break
        yield pl.concat(parts, rechunk=True)
