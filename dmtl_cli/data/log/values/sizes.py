"""How many rows a day's events are cut into: constants that reading and the score table share."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

BLOCK = 65_536
"""rows of a record batch in the spool, at most"""
POOL = 8
"""full record batches that are shuffled together; POOL * BLOCK rows are what a bucket should have"""
MERGE = 1_000_000
"""values that are collected before they are merged into the distinct ones"""
HELD = 1 << 20
"""users or items of a day whose tables are in memory; where there are more, these lie in files"""
SLICE = 1 << 18
"""rows of such a table that are made at a time"""


def reblocked(frames: Iterator[pl.DataFrame], rows: int, first: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of `rows` rows (the first of `first` where that is not 0; the last may have fewer)."""
    parts: list[pl.DataFrame] = []
    count, wanted = 0, first or rows
    for frame in frames:
        if not count and len(frame) == wanted:  # as it is, without a copy
            yield frame
            wanted = rows
            continue
        parts.append(frame)
        count += len(frame)
        while count >= wanted:
            whole = pl.concat(parts, rechunk=True)
            yield whole[:wanted]
            parts, count, wanted = [whole[wanted:]], count - wanted, rows
    if count:
        yield pl.concat(parts, rechunk=True)
