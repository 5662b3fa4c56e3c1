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

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Distill
from dmtl_cli.data.log.day import ID, NO_REQUEST, Day
from dmtl_cli.data.log.hashing import blake2b64_of
from dmtl_cli.data.log.sizes import BLOCK, POOL
from dmtl_cli.data.log.spool import SpoolWriter, frame_of
from dmtl_cli.data.rows import SOURCES, Rows, in_lists, student_rows
from dmtl_cli.scores.calibration import Calibration, factors_of, target_logit

_FIRST = ("user_id", "item_id", "day", "pair_source", "group", "rank")
_PART = 2_000_000  # rows sorted in memory at a time
_SORTED = sorted(SOURCES)
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
    ids = day.users[ID].cast(pl.String)
    parts = [blake2b64_of(f"{day.day}|" + ids[k : k + BLOCK]) for k in range(0, len(ids), BLOCK)]
    return -1 - (np.concatenate([np.zeros(0, np.uint64), *parts]) >> np.uint64(1)).astype(np.int64)


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
            pl.col("user", "item").cast(pl.Int32), pl.lit(_SORTED.index(source), pl.Int8).alias("source")
        )
        chunk = self.scratch / f"chunk-{len(self.chunks.files):05d}.arrow"
        frame.write_ipc(chunk, compression="lz4")
        sample = np.sort(group)[:: max(1, len(group) // 256)].copy()  # a view would keep the whole group
        self.chunks.add(Chunks([chunk], [sample], len(frame), {source: len(frame)}))

    def finish(self, folder: Path) -> None:
        """Writes part-*.parquet."""
        parts = max(1, -(-self.chunks.rows // _PART))
        sample = np.sort(np.concatenate(self.chunks.sample)) if self.chunks.sample else np.zeros(0, np.int64)
        cuts = np.unique(sample[np.arange(1, parts) * len(sample) // parts]) if len(sample) else sample
        for k, frame in enumerate(self._parts(cuts)):
            self._write(folder / f"part-{k:05d}.parquet", frame)

    def _parts(self, cuts: npt.NDArray[np.int64]) -> Iterator[pl.DataFrame]:
        """The rows between one cut of the groups and the next."""
        if not len(cuts):
            yield self._read(self.chunks.files)
            return
        writer = SpoolWriter(self.scratch / "parts.arrow", len(cuts) + 1, BLOCK)
        for start in range(0, len(self.chunks.files), POOL):
            frame = self._read(self.chunks.files[start : start + POOL])
            writer.add(frame, np.searchsorted(cuts, frame["group"].to_numpy(), side="right"))
        spool = writer.done()
        for k in range(len(spool)):
            part = spool.bucket(k)
            yield self._read([]) if part is None else part.rechunk()

    def _read(self, chunks: list[Path]) -> pl.DataFrame:
        kinds: dict[str, pl.DataType] = {"user": pl.Int32(), "item": pl.Int32(), "group": pl.Int64()}
        kinds |= {**dict.fromkeys(self.columns, pl.Float32()), "source": pl.Int8()}
        frames = [pl.read_ipc(c) for c in chunks]
        return pl.concat([pl.DataFrame(schema=kinds), *frames], rechunk=True)

    def _write(self, file: Path, frame: pl.DataFrame) -> None:
        """Rows of whole groups, sorted. Rows of users and items are in the order of their ids."""
        logits = [c for c in self.columns if c.endswith("_logit")]  # of equal logits all else is equal
        keys = ["group", "source", "pctcvr", "item", "user", *logits]
        order = frame.select(pl.arg_sort_by(keys, descending=[k == "pctcvr" for k in keys])).to_series()
        group, source = (frame[c].gather(order).to_numpy() for c in ("group", "source"))
        begins = np.flatnonzero(np.append(True, (group[1:] != group[:-1]) | (source[1:] != source[:-1]))[: len(group)])
        sizes = np.diff(np.append(begins, len(group)))
        rank = (1 + np.arange(len(group)) - np.repeat(begins, sizes)).astype(np.int32)
        with pq.ParquetWriter(
            file,
            self._table(frame[:0], rank[:0]).schema,
            compression="zstd",
            use_dictionary=["user_id", "item_id", "day", "pair_source", "group"],
            column_encoding=dict.fromkeys(self.columns, "BYTE_STREAM_SPLIT"),
        ) as writer:
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
        self._groups: list[tuple[Path, int]] = []  # part and row group
        for part in self.parts:
            metadata = pq.ParquetFile(part)
            if missing := [c for c in expected if c not in metadata.schema_arrow.names]:
                raise UserError(f"{part}: expected score column {missing[0]}", "run dump-logits again")
            self.rows += metadata.metadata.num_rows
            self._groups += [(part, g) for g in range(metadata.num_row_groups)]
            metadata.close()

    def frames(self, columns: list[str], rng: np.random.Generator | None = None) -> Iterator[pl.DataFrame]:
        """Pools of POOL row groups (fewer where groups are larger than a block), in random order when rng is given. A
        group of the table lies within one pool."""
        order = np.arange(len(self._groups)) if rng is None else rng.permutation(len(self._groups))
        held: list[pa.Table] = []
        for n, k in enumerate(order):
            part, group = self._groups[k]
            with pq.ParquetFile(part, pre_buffer=False) as file:
                held.append(file.read_row_group(group, columns=columns, use_threads=False))
            if len(held) == POOL or n == len(order) - 1 or sum(map(len, held)) >= 2 * POOL * BLOCK:
                yield frame_of(pa.concat_tables(held))
                held = []

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
    """Exposed scores of an earlier day, looked up by the pairs of a later day: bucket by bucket of the later day's
    spool, so that memory is the events and scored pairs of one bucket."""

    def __init__(self, reader: Reader, day: Day, config: Distill, list_size: int, scratch: Path) -> None:
        """Puts the scored pairs that both days' tables know by bucket into a file in `scratch`."""
        self.day, self.list_size, self.over_lists = day, list_size, config.over_lists
        self.targets = config.targets
        writer = SpoolWriter(scratch / f"scored-{day.day}.arrow", len(day.spool), BLOCK)
        for frame in reader.frames(["user_id", "item_id", "pair_source", *reader._logits]):
            shown = frame.filter(pl.col("pair_source") == "exposed")
            user, item = day.rows_of(shown["user_id"], "user"), day.rows_of(shown["item_id"], "item")
            pairs = pl.DataFrame({"pair": user * len(day.items) + item, **reader.targets(shown, config.targets)})
            here = (user >= 0) & (item >= 0)
            writer.add(pairs.filter(here), day.bucket_of(user[here]))
        self.scored = writer.done()

    def matched(self) -> int:
        """Events of the day whose pair was scored."""
        return sum(len(rows) for k in range(len(self.scored)) for rows, _ in self._matched(k, 0, 0, None))

    def rows(self, users: int, items: int, rng: np.random.Generator) -> Iterator[Rows]:
        """The day's events that were scored the day before, as rows to distill."""
        groups = user_groups(self.day) if self.over_lists else None
        for k in rng.permutation(len(self.scored)):
            if groups is None:
                for rows, _ in self._matched(k, users, items, rng):
                    yield in_lists(rows, rows.user, self.list_size, rng) if self.list_size > 1 else rows
            elif found := list(self._matched(k, users, items, rng)):  # a list may lie all over its bucket
                rows, request = Rows.concat([r for r, _ in found]), np.concatenate([r for _, r in found])
                user = rows.user - users
                group = list_keys(np.where(request == NO_REQUEST, groups[user], request), user)
                yield in_lists(rows, group, self.list_size, rng)

    def _matched(
        self, k: int, users: int, items: int, rng: np.random.Generator | None
    ) -> Iterator[tuple[Rows, npt.NDArray[np.int64]]]:
        """Rows of a bucket, and the request of each."""
        scored = self.scored.bucket(k)
        if scored is None:
            scored = pl.DataFrame(schema={"pair": pl.Int64} | dict.fromkeys(self.targets, pl.Float64))
        known, first = np.unique(scored["pair"].to_numpy(), return_index=True)
        targets = {name: scored[name].to_numpy()[first] for name in self.targets}
        for block in self.day.bucket(k, rng):
            user, item = block.user.astype(np.int64), block.item.astype(np.int64)
            pair = user * len(self.day.items) + item
            at = np.searchsorted(known, pair)
            here = np.flatnonzero(np.append(known, -1)[at] == pair)
            rows = student_rows(
                user[here] + users,
                item[here] + items,
                targets={name: t[at[here]] for name, t in targets.items()},
                source=np.zeros(len(here), np.int8),
                kd_weight=block.weight[here],
            )
            yield rows, block.request[here]


def age(scored: dt.date, day: dt.date) -> int:
    """Days between the teacher that scored and the day that learns from it."""
    return (day - scored).days
