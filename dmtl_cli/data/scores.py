"""The contract between teacher and student: a table with one row a scored pair.

| column | type | meaning |
|---|---|---|
| user_id, item_id | the log's own | the pair |
| day | date | the log's day it was scored on |
| pair_source | text | exposed: a row of the log; negative: drawn beside one; candidate: retrieved for the user |
| group | int64 | the request of an exposed row, where the log has requests; else a negative hash of user and day |
| rank | int32 | 1 = best by pctcvr within group and pair_source, ties by item_id |
| ctr_logit, cvr_logit | float32 | as trained |
| pctr, pcvr, pctcvr | float32 | calibrated, inside (0, 1); pctcvr = pctr * pcvr |
| X_logit, pX, pctX | float32 | of a further conversion X: as trained, calibrated, pctr * pX |
| pfused | float32 | product of p ** exponent, where the config gives exponents |

Sorted by (group, pair_source, rank); a Parquet row group ends where a group ends. The manifest holds what is true
of every row: the teacher's run, the threshold, the sampling, the calibration and the exponents.
"""

from __future__ import annotations

import datetime as dt
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

from dmtl_cli.calibrate import Calibration, factors_of, target_logit
from dmtl_cli.config import Distill
from dmtl_cli.data.hashing import blake2b64
from dmtl_cli.data.log import BLOCK, ID, NO_REQUEST, POOL, Day
from dmtl_cli.data.samples import SOURCES, Rows, in_lists, student_rows
from dmtl_cli.errors import UserError

_FIRST = ("user_id", "item_id", "day", "pair_source", "group", "rank")
_PART = 2_000_000  # rows sorted in memory at a time
_LARGEST = np.nextafter(np.float32(1), np.float32(0))
_SMALLEST = np.float32(1e-37)


def score_columns(tasks: Iterable[str], *, fused: bool) -> tuple[str, ...]:
    """Names of the score columns of a dump, in order."""
    further = [x for x in tasks if x not in ("ctr", "cvr")]
    base = ("ctr_logit", "cvr_logit", "pctr", "pcvr", "pctcvr")
    return (*base, *(c for x in further for c in (f"{x}_logit", f"p{x}", f"pct{x}")), *(["pfused"] if fused else []))


def probabilities(
    logits: dict[str, npt.NDArray[np.float32]], calibration: dict[str, Calibration], fusion: dict[str, float]
) -> dict[str, npt.NDArray[Any]]:
    """Score columns of logits [n] by task, strictly inside (0, 1) and with pctX = pctr * pX in float32."""
    log_p = {task: calibration[task].log_prob(x) for task, x in logits.items()}
    # the floor is above the square root of the smallest normal float32, so that a product stays inside too
    p = {task: np.clip(np.exp(x).astype(np.float32), np.float32(1e-18), _LARGEST) for task, x in log_p.items()}
    out: dict[str, npt.NDArray[Any]] = {}
    for task in logits:
        out |= {f"{task}_logit": logits[task], f"p{task}": p[task]}
        if task != "ctr":
            out[f"pct{task}"] = p["ctr"] * p[task]
    if fusion:
        whole = sum(a * log_p[task] for task, a in factors_of("pfused", fusion).items())
        out["pfused"] = np.clip(np.exp(whole).astype(np.float32), _SMALLEST, _LARGEST)
    return {name: out[name] for name in score_columns(logits, fused=bool(fusion))}


def user_groups(day: Day) -> npt.NDArray[np.int64]:
    """[users] a negative number for each user of the day, another one on another day: a hash of id and day."""
    hashed = (blake2b64(f"{day.day}|{user}") >> 1 for user in day.users[ID].to_list())
    return -1 - np.fromiter(hashed, np.int64, len(day.users))


@dataclass
class Chunks:
    """Scored pairs as files that wait to be sorted, each with a sample of its groups."""

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
    """Takes scored pairs in any order, then writes them sorted, out of core: bounded by one part, not by the day."""

    def __init__(self, scratch: Path, day: Day, columns: tuple[str, ...]) -> None:
        self.scratch, self.day, self.columns = scratch, day, columns
        self.user_groups = user_groups(day)
        self.chunks = Chunks()

    def add(self, rows: Rows, source: str, scores: dict[str, npt.NDArray[Any]]) -> None:
        """Rows (exposed ones with a column request); scores by column name."""
        group = self.user_groups[rows.user]
        if source == "exposed":
            group = np.where(rows.columns["request"] == NO_REQUEST, group, rows.columns["request"])
        frame = pl.DataFrame({"user": rows.user, "item": rows.item, "group": group, **scores}).with_columns(
            pl.lit(source).alias("pair_source")
        )
        chunk = self.scratch / f"chunk-{len(self.chunks.files):05d}.arrow"
        frame.write_ipc(chunk, compression="lz4")
        sample = np.sort(group)[:: max(1, len(group) // 256)]
        self.chunks.add(Chunks([chunk], [sample], len(frame), {source: len(frame)}))

    def finish(self, folder: Path) -> None:
        """Writes part-*.parquet."""
        parts = max(1, -(-self.chunks.rows // _PART))
        sample = np.sort(np.concatenate(self.chunks.sample)) if self.chunks.sample else np.zeros(0, np.int64)
        cuts = np.unique(sample[np.arange(1, parts) * len(sample) // parts]) if len(sample) else sample
        bounds = [np.iinfo(np.int64).min, *cuts.tolist(), None]
        empty = pl.LazyFrame(schema=dict.fromkeys(("user", "item", "group"), pl.Int64) | {"pair_source": pl.String})
        empty = empty.with_columns(pl.lit(None, pl.Float32).alias(c) for c in self.columns)
        scanned = pl.concat([pl.scan_ipc(c) for c in self.chunks.files]) if self.chunks.files else empty
        for k, (low, high) in enumerate(itertools.pairwise(bounds)):
            inside = pl.col("group") >= low if high is None else (pl.col("group") >= low) & (pl.col("group") < high)
            whole = self._sorted(scanned.filter(inside).collect())
            table = whole.to_arrow(compat_level=pl.CompatLevel.oldest())
            with pq.ParquetWriter(
                folder / f"part-{k:05d}.parquet",
                table.schema,
                compression="zstd",
                use_dictionary=["user_id", "item_id", "day", "pair_source", "group"],
                column_encoding=dict.fromkeys(self.columns, "BYTE_STREAM_SPLIT"),
            ) as writer:
                for start, end in itertools.pairwise(_cuts(whole["group"].to_numpy())):
                    writer.write_table(table.slice(start, end - start), row_group_size=max(1, end - start))

    def _sorted(self, frame: pl.DataFrame) -> pl.DataFrame:
        users, items = self.day.users[ID], self.day.items[ID]
        whole = frame.with_columns(
            users.gather(frame["user"]).alias("user_id"),
            items.gather(frame["item"]).alias("item_id"),
            pl.lit(self.day.day).alias("day"),
        ).sort(
            ["group", "pair_source", "pctcvr", "item_id", "user_id", *self.columns],
            descending=[False, False, True, False, False] + [False] * len(self.columns),
        )
        rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("group", "pair_source").alias("rank")
        return whole.with_columns(rank).select(*_FIRST, *self.columns)


def _cuts(group: npt.NDArray[np.int64]) -> list[int]:
    """Where row groups of about BLOCK rows begin, and the end: never inside a group."""
    begins = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else np.zeros(0, np.int64)
    at = np.searchsorted(begins, np.arange(0, len(group), BLOCK))
    return [*np.unique(begins[at[at < len(begins)]]).tolist(), len(group)]


class Reader:
    """Published scores of one day.

    Raises:
        UserError: a part is missing a column or is of another type (65).
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.parts = sorted(folder.glob("part-*.parquet"))
        self.calibration = {k: Calibration.from_dict(v) for k, v in facts["calibration"].items()}
        expected = (*_FIRST, *score_columns(self.calibration, fused=bool(facts["fusion"])))
        self.rows = 0
        for part in self.parts:
            metadata = pq.ParquetFile(part)
            if missing := [c for c in expected if c not in metadata.schema_arrow.names]:
                raise UserError(f"{part}: expected score column {missing[0]}", "run dump-logits again")
            self.rows += metadata.metadata.num_rows
            metadata.close()

    def frames(self, columns: list[str], rng: np.random.Generator | None = None) -> Iterator[pl.DataFrame]:
        """Pools of row groups, in random order when rng is given. A group of the table lies within one pool."""
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
            yield frame

    def targets(self, frame: pl.DataFrame, names: Iterable[str]) -> dict[str, npt.NDArray[np.float64]]:
        """Teacher logits t = log p - log(1 - p) of each score named, in float64 from the logits as trained.

        Raises:
            UserError: 65 the dump does not hold a task that a score is made of.
        """
        out = {}
        for name in names:
            of = factors_of(name, self.facts["fusion"])
            if not of or not of.keys() <= self.calibration.keys():
                have = ", ".join(
                    c
                    for c in score_columns(self.calibration, fused=bool(self.facts["fusion"]))
                    if not c.endswith("_logit")
                )
                raise UserError(f"{self.folder}: expected score {name}, holds {have}", "run dump-logits again")
            logits = {task: frame[f"{task}_logit"].to_numpy() for task in of}
            out[name] = target_logit(logits, self.calibration, of)
        return out

    @property
    def _logits(self) -> list[str]:
        return [f"{task}_logit" for task in self.calibration]

    def distilled(
        self,
        day: Day,
        config: Distill,
        list_size: int,
        users: int,
        items: int,
        rng: np.random.Generator,
    ) -> Iterator[Rows]:
        """Every scored pair as a row to distill, its features taken from `day`; pairs without a row there are dropped.

        Args:
            list_size: rows that stay together: of a list for losses over lists, else of a user.
            users, items: offset of the day's tables in the model's stacked ones.
        """
        used = used_sources(config)
        for frame in self.frames(["user_id", "item_id", "pair_source", "group", *self._logits], rng):
            user, item = day.rows_of(frame["user_id"], "user"), day.rows_of(frame["item_id"], "item")
            source = frame["pair_source"].replace_strict(SOURCES, range(len(SOURCES)), return_dtype=pl.Int8).to_numpy()
            here = np.flatnonzero((user >= 0) & (item >= 0) & frame["pair_source"].is_in(used).to_numpy())
            rows = student_rows(
                user[here] + users,
                item[here] + items,
                targets={k: t[here] for k, t in self.targets(frame, config.targets).items()},
                source=source[here],
                kd_weight=np.ones(len(here), np.float32),
            )
            group = list_keys(frame["group"].to_numpy()[here], user[here]) if config.over_lists else rows.user
            yield in_lists(rows, group, list_size, rng) if list_size > 1 else rows.shuffled(rng)

    def known(self, day: Day, config: Distill) -> tuple[int, int]:
        """Scored pairs of a source in use, and those that `distilled` gives: user and item have a row in `day`."""
        offered = known = 0
        for whole in self.frames(["user_id", "item_id", "pair_source"]):
            frame = whole.filter(pl.col("pair_source").is_in(used_sources(config)))
            user, item = day.rows_of(frame["user_id"], "user"), day.rows_of(frame["item_id"], "item")
            offered, known = offered + len(frame), known + int(((user >= 0) & (item >= 0)).sum())
        return offered, known


def used_sources(config: Distill) -> list[str]:
    """Pair sources that at least one loss learns from."""
    return [s for s in SOURCES if any(getattr(kd.source_weights, s) > 0 for kd in config.losses)]


def list_keys(group: npt.NDArray[np.int64], user: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[n] one number a list: a group of one user. Requests that a log counts anew for each user are not one list."""
    with np.errstate(over="ignore"):
        mixed: npt.NDArray[np.int64] = group ^ (user.astype(np.int64) * np.int64(-7046029254386353131))  # odd: 1 to 1
    return mixed


class Matcher:
    """Exposed scores of an earlier day, looked up by the pairs of a later day. Holds 8 bytes and 8 a target for each
    pair that both days' tables know; for losses over lists the matched rows too, as a list may lie all over a day."""

    def __init__(self, reader: Reader, day: Day, config: Distill, list_size: int) -> None:
        pairs: list[npt.NDArray[Any]] = [np.zeros(0, np.int64)]
        targets: dict[str, list[npt.NDArray[Any]]] = {name: [np.zeros(0)] for name in config.targets}
        for frame in reader.frames(["user_id", "item_id", "pair_source", *reader._logits]):
            shown = frame.filter(pl.col("pair_source") == "exposed")
            user, item = day.rows_of(shown["user_id"], "user"), day.rows_of(shown["item_id"], "item")
            here = (user >= 0) & (item >= 0)
            pairs.append((user * len(day.items) + item)[here])
            for name, t in reader.targets(shown, config.targets).items():
                targets[name].append(t[here])
        self.pairs, first = np.unique(np.concatenate(pairs), return_index=True)
        self.targets = {name: np.concatenate(parts)[first] for name, parts in targets.items()}
        self.day, self.list_size = day, list_size
        self.over_lists = config.over_lists

    def lookup(self, user: npt.NDArray[Any], item: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Place of each pair among the scored ones; -1 where it was not scored."""
        pair = user.astype(np.int64) * len(self.day.items) + item
        if not len(self.pairs):
            return np.full(len(pair), -1)
        at = np.minimum(np.searchsorted(self.pairs, pair), len(self.pairs) - 1)
        return np.where(self.pairs[at] == pair, at, -1)

    def matched(self) -> int:
        """Events of the day whose pair was scored."""
        return sum(int((self.lookup(b.user, b.item) >= 0).sum()) for b in self.day.blocks())

    def rows(self, users: int, items: int, rng: np.random.Generator) -> Iterator[Rows]:
        """The day's events that were scored the day before, as rows to distill."""
        if not self.over_lists:
            for rows, _ in self._matched(users, items, rng):
                yield in_lists(rows, rows.user, self.list_size, rng) if self.list_size > 1 else rows
        elif found := list(self._matched(users, items, rng)):
            groups, rows = user_groups(self.day), Rows.concat([r for r, _ in found])
            user, request = rows.user - users, np.concatenate([r for _, r in found])
            group = np.where(request == NO_REQUEST, groups[user], request)
            yield in_lists(rows, list_keys(group, user), self.list_size, rng)

    def _matched(
        self, users: int, items: int, rng: np.random.Generator
    ) -> Iterator[tuple[Rows, npt.NDArray[np.int64]]]:
        """Rows, and the request of each."""
        for block in self.day.blocks(rng):
            at = self.lookup(block.user, block.item)
            here = np.flatnonzero(at >= 0)
            user, item = block.user[here].astype(np.int64), block.item[here].astype(np.int64)
            rows = student_rows(
                user + users,
                item + items,
                targets={name: t[at[here]] for name, t in self.targets.items()},
                source=np.zeros(len(here), np.int8),
                kd_weight=block.weight[here],
            )
            yield rows, block.request[here]


def age(scored: dt.date, day: dt.date) -> int:
    """Days between the teacher that scored and the day that learns from it."""
    return (day - scored).days
