"""The contract between teacher and student: a table with one row a scored pair.

| column | type | meaning |
|---|---|---|
| user_id, item_id | the log's own | the pair |
| day | date | the log's day it was scored on |
| pair_source | text | exposed: a row of the log; negative: drawn beside one |
| group | int64 | the request of an exposed row, where the log has requests; else a negative hash of user and day |
| rank | int32 | 1 = best by pctcvr within group and pair_source, ties by item_id |
| ctr_logit, cvr_logit | float32 | as trained |
| pctr, pcvr, pctcvr | float32 | calibrated, inside (0, 1); pctcvr = pctr * pcvr |

Sorted by (group, pair_source, rank). The manifest's facts hold what is true of every row: the teacher's run, the
threshold, the sampling and the calibration.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.calibrate import Calibration, target_logit
from dmtl_cli.config import SourceWeights
from dmtl_cli.data.log import BLOCK, ID, NO_REQUEST, POOL, Day
from dmtl_cli.data.samples import Rows, student_rows
from dmtl_cli.errors import UserError

SCORES = ("ctr_logit", "cvr_logit", "pctr", "pcvr", "pctcvr")
COLUMNS = ("user_id", "item_id", "day", "pair_source", "group", "rank", *SCORES)
_PART = 2_000_000  # rows sorted in memory at a time
_LARGEST = np.nextafter(np.float32(1), np.float32(0))


def probabilities(logits: npt.NDArray[np.float32], calibration: dict[str, Calibration]) -> dict[str, npt.NDArray[Any]]:
    """Score columns of logits [n, 2], strictly inside (0, 1) and with pctcvr = pctr * pcvr in float32."""
    out: dict[str, npt.NDArray[Any]] = {"ctr_logit": logits[:, 0], "cvr_logit": logits[:, 1]}
    for k, task in enumerate(("ctr", "cvr")):
        p = np.exp(calibration[task].log_prob(logits[:, k]))
        # the floor is above the square root of the smallest normal float32, so that the product stays inside too
        out[f"p{task}"] = np.clip(p.astype(np.float32), np.float32(1e-18), _LARGEST)
    out["pctcvr"] = out["pctr"] * out["pcvr"]
    return out


def user_groups(day: Day) -> npt.NDArray[np.int64]:
    """[users] a negative number for each user of the day, another one on another day: a hash of id and day."""
    whole = (f"{day.day}|{user}".encode() for user in day.users[ID].to_list())
    hashed = (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1 for text in whole)
    return -1 - np.fromiter(hashed, np.int64, len(day.users))


class Writer:
    """Takes scored pairs in any order, then writes them sorted, out of core: bounded by one part, not by the day."""

    def __init__(self, scratch: Path, day: Day) -> None:
        self.scratch, self.day = scratch, day
        self.user_groups = user_groups(day)
        self.chunks: list[Path] = []
        self.sample: list[npt.NDArray[np.int64]] = []
        self.rows = 0
        self.sources: dict[str, int] = {}

    def add(self, rows: Rows, source: str, scores: dict[str, npt.NDArray[Any]]) -> None:
        """Rows with a column request; scores by column name."""
        request = rows.columns["request"]
        alone = (request == NO_REQUEST) | (source != "exposed")
        group = np.where(alone, self.user_groups[rows.user], request)
        frame = pl.DataFrame({"user": rows.user, "item": rows.item, "group": group, **scores}).with_columns(
            pl.lit(source).alias("pair_source")
        )
        chunk = self.scratch / f"chunk-{len(self.chunks):05d}.arrow"
        frame.write_ipc(chunk, compression="lz4")
        self.chunks.append(chunk)
        self.sample.append(np.sort(group)[:: max(1, len(group) // 256)])
        self.rows += len(frame)
        self.sources[source] = self.sources.get(source, 0) + len(frame)

    def finish(self, folder: Path) -> None:
        """Writes part-*.parquet."""
        parts = max(1, -(-self.rows // _PART))
        sample = np.sort(np.concatenate(self.sample)) if self.sample else np.zeros(0, np.int64)
        cuts = np.unique(sample[np.arange(1, parts) * len(sample) // parts]) if len(sample) else sample
        bounds = [np.iinfo(np.int64).min, *cuts.tolist(), None]
        scanned = pl.concat([pl.scan_ipc(c) for c in self.chunks]) if self.chunks else pl.LazyFrame(_EMPTY)
        for k, (low, high) in enumerate(itertools.pairwise(bounds)):
            inside = pl.col("group") >= low if high is None else (pl.col("group") >= low) & (pl.col("group") < high)
            table = self._sorted(scanned.filter(inside).collect()).to_arrow(compat_level=pl.CompatLevel.oldest())
            pq.write_table(
                table,
                folder / f"part-{k:05d}.parquet",
                compression="zstd",
                use_dictionary=["user_id", "item_id", "day", "pair_source", "group"],
                column_encoding=dict.fromkeys(SCORES, "BYTE_STREAM_SPLIT"),
                row_group_size=BLOCK,
            )

    def _sorted(self, frame: pl.DataFrame) -> pl.DataFrame:
        users, items = self.day.users[ID], self.day.items[ID]
        whole = frame.with_columns(
            users.gather(frame["user"]).alias("user_id"),
            items.gather(frame["item"]).alias("item_id"),
            pl.lit(self.day.day).alias("day"),
        ).sort(
            ["group", "pair_source", "pctcvr", "item_id", "user_id", *SCORES],
            descending=[False, False, True, False, False] + [False] * len(SCORES),
        )
        rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("group", "pair_source").alias("rank")
        return whole.with_columns(rank).select(COLUMNS)


_EMPTY = pl.DataFrame(
    schema={"user": pl.Int64, "item": pl.Int64, "group": pl.Int64, "pair_source": pl.String}
    | dict.fromkeys(SCORES, pl.Float32)
)


class Reader:
    """Published scores of one day.

    Raises:
        UserError: a part is missing a column or is of another type (65).
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.parts = sorted(folder.glob("part-*.parquet"))
        self.calibration = {k: Calibration.from_dict(v) for k, v in facts["calibration"].items()}
        self.rows = 0
        for part in self.parts:
            metadata = pq.ParquetFile(part)
            if missing := [c for c in COLUMNS if c not in metadata.schema_arrow.names]:
                raise UserError(f"{part}: expected score column {missing[0]}", "run dump-logits again")
            self.rows += metadata.metadata.num_rows
            metadata.close()

    def frames(self, columns: list[str], rng: np.random.Generator | None = None) -> Iterator[pl.DataFrame]:
        """Pools of row groups; in random order and shuffled within when rng is given."""
        groups = [(p, g) for p in self.parts for g in range(pq.ParquetFile(p).metadata.num_row_groups)]
        order = np.arange(len(groups)) if rng is None else rng.permutation(len(groups))
        for start in range(0, len(order), POOL):
            tables = []
            for k in order[start : start + POOL]:
                part, group = groups[int(k)]
                with pq.ParquetFile(part, pre_buffer=False) as file:
                    tables.append(file.read_row_group(group, columns=columns, use_threads=False))
            frame = pl.from_arrow(pa.concat_tables(tables))
            assert isinstance(frame, pl.DataFrame)
            yield frame if rng is None else frame[rng.permutation(len(frame))]

    def targets(self, frame: pl.DataFrame, target: str) -> npt.NDArray[np.float64]:
        """Teacher logits t = log p - log(1 - p), in float64 from the logits as trained and the calibration."""
        a, c = (frame[x].to_numpy() for x in ("ctr_logit", "cvr_logit"))
        return target_logit(a, c, self.calibration, target)

    def distilled(
        self, day: Day, target: str, weights: SourceWeights, users: int, items: int, rng: np.random.Generator
    ) -> Iterator[Rows]:
        """Every scored pair as a row to distill, its features taken from `day`; pairs without a row there are dropped.

        Args:
            users, items: offset of the day's tables in the model's stacked ones.
        """
        for frame in self.frames(["user_id", "item_id", "pair_source", "ctr_logit", "cvr_logit"], rng):
            user, item = day.rows_of(frame["user_id"], "user"), day.rows_of(frame["item_id"], "item")
            weight = frame["pair_source"].replace_strict(weights.model_dump(), return_dtype=pl.Float32).to_numpy()
            here = np.flatnonzero((user >= 0) & (item >= 0) & (weight > 0))
            yield student_rows(
                user[here] + users,
                item[here] + items,
                target=self.targets(frame, target)[here],
                kd_weight=weight[here],
            )

    def known(self, day: Day) -> int:
        """Scored pairs whose user and item both have a row in `day`."""
        n = 0
        for frame in self.frames(["user_id", "item_id"]):
            user, item = day.rows_of(frame["user_id"], "user"), day.rows_of(frame["item_id"], "item")
            n += int(((user >= 0) & (item >= 0)).sum())
        return n


class Matcher:
    """Exposed scores of an earlier day, looked up by the pairs of a later day. Holds 16 bytes a pair that both days'
    tables know."""

    def __init__(self, reader: Reader, day: Day, target: str) -> None:
        pairs, targets = [], []
        for frame in reader.frames(["user_id", "item_id", "pair_source", "ctr_logit", "cvr_logit"]):
            shown = frame.filter(pl.col("pair_source") == "exposed")
            user, item = day.rows_of(shown["user_id"], "user"), day.rows_of(shown["item_id"], "item")
            here = (user >= 0) & (item >= 0)
            pairs.append((user * len(day.items) + item)[here])
            targets.append(reader.targets(shown, target)[here])
        self.pairs, first = np.unique(np.concatenate(pairs or [np.zeros(0, np.int64)]), return_index=True)
        self.targets = np.concatenate(targets or [np.zeros(0)])[first]
        self.day = day

    def lookup(self, user: npt.NDArray[Any], item: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Teacher logit of each pair; NaN where the pair was not scored."""
        pair = user.astype(np.int64) * len(self.day.items) + item
        at = np.minimum(np.searchsorted(self.pairs, pair), max(0, len(self.pairs) - 1))
        if not len(self.pairs):
            return np.full(len(pair), np.nan)
        return np.where(self.pairs[at] == pair, self.targets[at], np.nan)

    def matched(self) -> int:
        """Events of the day whose pair was scored."""
        return sum(int((~np.isnan(self.lookup(b.user, b.item))).sum()) for b in self.day.blocks())

    def rows(self, users: int, items: int, rng: np.random.Generator) -> Iterator[Rows]:
        """The day's events that were scored the day before, as rows to distill."""
        for block in self.day.blocks(rng):
            target = self.lookup(block.user, block.item)
            here = np.flatnonzero(~np.isnan(target))
            user, item = block.user[here].astype(np.int64), block.item[here].astype(np.int64)
            yield student_rows(user + users, item + items, target=target[here], kd_weight=block.weight[here])


def age(scored: dt.date, day: dt.date) -> int:
    """Days between the teacher that scored and the day that learns from it."""
    return (day - scored).days
