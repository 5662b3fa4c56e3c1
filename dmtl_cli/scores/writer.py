"""Writes a score table: pairs in any order, sorted out of core."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.tasks import READ, logit_column, score_of, with_click
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.spool import SpoolWriter
from dmtl_cli.scores.columns import SOURCES
from dmtl_cli.scores.groups import pair_groups, user_groups

SORTED = 2_000_000  # rows sorted in memory at a time
AT_ONCE = 1 << 20  # pairs scored at a time: 60 MB
_SORTED = sorted(SOURCES)
_RANKED_BY = score_of(with_click(READ))
_LOGIT = logit_column("")  # what the names of logit columns end with
Ints = npt.NDArray[np.int64]


@dataclass
class Chunks:
    """Files of scored pairs that are not sorted yet, with a sample of the groups of each."""

    files: list[Path] = field(default_factory=list)
    sample: list[npt.NDArray[np.int64]] = field(default_factory=list)
    rows: int = 0
    sources: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def sum(parts: Iterable[Chunks]) -> Chunks:
        whole = Chunks()
        for part in parts:
            whole.add(part)
        return whole

    def add(self, part: Chunks) -> None:
        self.files += part.files
        self.sample += part.sample
        self.rows += part.rows
        for source, rows in part.sources.items():
            self.sources[source] = self.sources.get(source, 0) + rows


class Writer:
    """Takes scored pairs in any order, then writes them sorted, out of core: one part is in memory, not the day."""

    def __init__(self, scratch: Path, day: Day, columns: tuple[str, ...]) -> None:
        self.scratch, self.day, self.columns = scratch, day, columns
        self.user_groups = user_groups(day)
        self.chunks = Chunks()

    def add(
        self, user: Ints, item: Ints, source: str, scores: dict[str, npt.NDArray[Any]], request: Ints | None = None
    ) -> None:
        """Adds pairs of row numbers with their scores by column name; exposed pairs come with their request."""
        group = self.user_groups[user] if request is None else pair_groups(self.user_groups, user, request)
        frame = pl.DataFrame({"user": user, "item": item, "group": group, **scores}).with_columns(
            pl.col("user", "item").cast(pl.Int32), pl.lit(_SORTED.index(source), pl.Int8).alias("source")
        )
        chunk = self.scratch / f"chunk-{len(self.chunks.files):05d}.arrow"
        frame.write_ipc(chunk, compression="lz4")
        sample = np.sort(group)[:: max(1, len(group) // 256)].copy()  # a view would keep the whole group
        self.chunks.add(Chunks([chunk], [sample], len(frame), {source: len(frame)}))

    def finish(self, folder: Path) -> None:
        """Writes part-*.parquet."""
        parts = max(1, -(-self.chunks.rows // SORTED))
        sample = np.sort(np.concatenate(self.chunks.sample)) if self.chunks.sample else np.zeros(0, np.int64)
        cuts = np.unique(sample[np.arange(1, parts) * len(sample) // parts]) if len(sample) else sample
        for k, frame in enumerate(self._parts(cuts)):
            self._write(folder / f"part-{k:05d}.parquet", frame)

    def _parts(self, cuts: npt.NDArray[np.int64]) -> Iterator[pl.DataFrame]:
        """The rows between each two cuts of the groups."""
        if not len(cuts):
            yield self._read(self.chunks.files)
            return
        writer = SpoolWriter(self.scratch / "parts.arrow", len(cuts) + 1, sizes.BLOCK)
        for start in range(0, len(self.chunks.files), sizes.POOL):
            frame = self._read(self.chunks.files[start : start + sizes.POOL])
            writer.add(frame, np.searchsorted(cuts, frame["group"].to_numpy(), side="right"))
        spool = writer.done()
        for k in range(len(spool)):
            part = spool.bucket(k)
            yield self._read([]) if part is None else part.rechunk()

    def _read(self, chunks: list[Path]) -> pl.DataFrame:
        kinds: dict[str, pl.DataType] = {"user": pl.Int32(), "item": pl.Int32(), "group": pl.Int64()}
        kinds |= {**dict.fromkeys(self.columns, pl.Float32()), "source": pl.Int8()}
        frames = [pl.scan_ipc(c, glob=False).collect() for c in chunks]
        return pl.concat([pl.DataFrame(schema=kinds), *frames], rechunk=True)

    def _write(self, file: Path, frame: pl.DataFrame) -> None:
        """Writes rows of whole groups, sorted. A day's users and items are in the order of their ids."""
        logits = [c for c in self.columns if c.endswith(_LOGIT)]  # where they are equal all scores are
        keys = ["group", "source", _RANKED_BY, "item", "user", *logits]
        order = frame.select(pl.arg_sort_by(keys, descending=[k == _RANKED_BY for k in keys])).to_series()
        group, source = (frame[c].gather(order).to_numpy() for c in ("group", "source"))
        rank = ranks(group, source)
        with part_writer(file, self._table(frame[:0], rank[:0]).schema) as writer:
            for start, end in itertools.pairwise(_cuts(group)):
                table = self._table(frame[order[start:end]], rank[start:end])
                writer.write_table(table, row_group_size=end - start)

    def _table(self, frame: pl.DataFrame, rank: npt.NDArray[np.int32]) -> pa.Table:
        return frame.select(
            self.day.users[ID].gather(frame["user"]).alias("user_id"),
            self.day.items[ID].gather(frame["item"]).alias("item_id"),
            pl.lit(self.day.day).alias("day"),
            pl.Series(_SORTED).gather(frame["source"]).alias("pair_source"),
            "group",
            pl.Series("rank", rank),
            *self.columns,
        ).to_arrow(compat_level=pl.CompatLevel.oldest())


def ranks(group: Ints, source: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """[n] the place of each sorted row within its group and source, from 1."""
    begins = np.flatnonzero(np.append(True, (group[1:] != group[:-1]) | (source[1:] != source[:-1]))[: len(group)])
    lengths = np.diff(np.append(begins, len(group)))
    return (1 + np.arange(len(group)) - np.repeat(begins, lengths)).astype(np.int32)


def part_writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Of a score table's part: whoever writes one gives it the same bytes."""
    repeated = ("user_id", "item_id", "day", "pair_source", "group")
    scores = [name for name in schema.names if name not in (*repeated, "rank")]
    encoding = dict.fromkeys(scores, "BYTE_STREAM_SPLIT")
    return pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=[*repeated], column_encoding=encoding)


def _cuts(group: npt.NDArray[np.int64]) -> list[int]:
    """Where row groups of about BLOCK rows begin, and the end: never inside a group."""
    begins = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else np.zeros(0, np.int64)
    at = np.searchsorted(begins, np.arange(0, len(group), sizes.BLOCK))
    return [*np.unique(begins[at[at < len(begins)]]).tolist(), len(group)]
