"""Reads a published score table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.tasks import FUSED, Tasks, logit_column, score_of
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.spool import frame_of
from dmtl_cli.runs.contents import decoding
from dmtl_cli.scores.calibration import Calibration, target_logit
from dmtl_cli.scores.columns import SOURCES, column_names
from dmtl_cli.scores.groups import list_keys

Ints = npt.NDArray[np.int64]
RERUN = "run dump-logits again"


def _is_text(t: pa.DataType) -> bool:
    return bool(pa.types.is_string(t) or pa.types.is_large_string(t))


_IDS = ("int64 or text", lambda t: pa.types.is_int64(t) or _is_text(t))
_TYPES = {
    "user_id": _IDS,
    "item_id": _IDS,
    "day": ("a date", pa.types.is_date32),
    "pair_source": ("text", _is_text),
    "group": ("int64", pa.types.is_int64),
    "rank": ("int32", pa.types.is_int32),
}
_SCORE = ("float32", pa.types.is_float32)


class ScoredPairs(NamedTuple):
    """n scored pairs whose user and item have a row in a day's tables."""

    user: Ints
    """[n] rows of the day's users"""
    item: Ints
    """[n] rows of the day's items"""
    targets: npt.NDArray[np.float64]
    """[n, K] teacher logits of K scores"""
    source: npt.NDArray[np.int8]
    """[n] place in SOURCES"""
    weight: npt.NDArray[np.float32]
    """[n] weight of the distillation loss"""
    key: Ints
    """[n] number of the list that the pair belongs to, or of its user where lists are not needed"""


class Reader:
    """Published scores of one day.

    Raises:
        UserError: 65 a part is missing a column or has it in another type, or pfused is made of an absent score.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder = folder
        self.calibration = {k: Calibration.from_dict(v) for k, v in facts["calibration"].items()}
        self.tasks = Tasks.named(self.calibration)
        self.fusion: dict[str, float] = facts["fusion"]
        single = [score_of(task) for task in self.tasks.names]
        if unknown := sorted(self.fusion.keys() - set(single)):
            raise UserError(f"{folder}: {FUSED} is made of {unknown[0]}, expected {', '.join(single)}", RERUN)
        self.logits = [logit_column(task) for task in self.tasks.names]
        self.rows = 0
        self._groups: list[tuple[Path, int]] = []  # part and row group
        scores = column_names(self.tasks, fused=bool(self.fusion))
        for part in sorted(folder.glob("part-*.parquet")):
            with decoding(part), pq.ParquetFile(part) as file:
                _check_types(part, file.schema_arrow, _TYPES | dict.fromkeys(scores, _SCORE))
                self.rows += file.metadata.num_rows
                self._groups += [(part, g) for g in range(file.num_row_groups)]

    def frames(self, columns: Sequence[str], rng: np.random.Generator | None = None) -> Iterator[pl.DataFrame]:
        """Pools of POOL row groups (fewer where groups are larger than a block), in random order if `rng` is given. A
        group of the table is within one pool."""
        order = np.arange(len(self._groups)) if rng is None else rng.permutation(len(self._groups))
        pool: list[pa.Table] = []
        for n, k in enumerate(order):
            part, group = self._groups[k]
            with decoding(part), pq.ParquetFile(part, pre_buffer=False) as file:
                pool.append(file.read_row_group(group, columns=list(columns), use_threads=False))
            if len(pool) == sizes.POOL or n == len(order) - 1 or sum(map(len, pool)) >= 2 * sizes.POOL * sizes.BLOCK:
                yield frame_of(pa.concat_tables(pool))
                pool = []

    def row_groups(self, columns: Sequence[str]) -> Iterator[tuple[Path, int, pl.DataFrame]]:
        """Every row group in order, with its file and the number of its first row there."""
        at, row = None, 0
        for part, group in self._groups:
            at, row = part, row if part == at else 0
            with pq.ParquetFile(part, pre_buffer=False) as file:
                table = file.read_row_group(group, columns=list(columns), use_threads=False)
            yield part, row, frame_of(table)
            row += len(table)

    def targets(self, frame: pl.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """[n, K] teacher logits t = log p - log(1 - p) of the K scores named, in float64 from the logits as trained.

        Raises:
            UserError: 65 the dump lacks a task that a score is made of.
        """
        factors = self.tasks.factors(self.fusion)
        if missing := [n for n in names if n not in factors]:
            raise UserError(f"{self.folder}: expected score {missing[0]}, holds {', '.join(factors)}", RERUN)
        out = np.empty((len(frame), len(names)))
        for k, name in enumerate(names):
            logits = {task: frame[logit_column(task)].to_numpy() for task in factors[name]}
            out[:, k] = target_logit(logits, self.calibration, factors[name])
        return out

    def pairs(
        self,
        day: Day,
        targets: Sequence[str],
        sources: Sequence[str],
        *,
        lists: bool,
        rng: np.random.Generator,
    ) -> Iterator[ScoredPairs]:
        """Every scored pair of the sources named that has a row of `day` for its user and for its item.

        Args:
            lists: whether `key` numbers lists; else it numbers users.
        """
        for frame in self.frames(["user_id", "item_id", "pair_source", "group", *self.logits], rng):
            user, item = day_rows(day, frame)
            source = frame["pair_source"].replace_strict(SOURCES, range(len(SOURCES)), return_dtype=pl.Int8).to_numpy()
            here = np.flatnonzero((user >= 0) & (item >= 0) & frame["pair_source"].is_in(sources).to_numpy())
            user, item = user[here], item[here]
            key = list_keys(frame["group"].to_numpy()[here], user) if lists else user
            weight = np.ones(len(here), np.float32)
            yield ScoredPairs(user, item, self.targets(frame, targets)[here], source[here], weight, key)

    def coverage(self, day: Day, sources: Sequence[str]) -> tuple[int, int]:
        """Scored pairs of the sources named, and how many of them `pairs` yields."""
        offered = covered = 0
        for whole in self.frames(["user_id", "item_id", "pair_source"]):
            frame = whole.filter(pl.col("pair_source").is_in(sources))
            user, item = day_rows(day, frame)
            offered, covered = offered + len(frame), covered + int(((user >= 0) & (item >= 0)).sum())
        return offered, covered


def day_rows(day: Day, frame: pl.DataFrame) -> tuple[Ints, Ints]:
    """[n] each: the rows of a day's users and items for scored pairs; -1 where the day has none."""
    return day.rows_of(frame["user_id"], "user"), day.rows_of(frame["item_id"], "item")


def _check_types(part: Path, schema: pa.Schema, expected: dict[str, tuple[str, Any]]) -> None:
    for name, (words, fits) in expected.items():
        if name not in schema.names:
            raise UserError(f"{part}: expected score column {name}", RERUN)
        if not fits(schema.field(name).type):
            raise UserError(f"{part}: column {name}: expected {words}, got {schema.field(name).type}", RERUN)
