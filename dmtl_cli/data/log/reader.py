"""A day of the click log as three tables: users, items, and events that are row numbers and a few labels.

Two passes over the raw Parquet. The first reads ids alone, and finds where each stands first. The second checks every
row, takes each inline feature's first value of the day (a later one could know what the user did in between), and
writes the spool, an Arrow file in the stage's scratch directory, which everything after reads block by block. Of a
large day the spool is cut into buckets of whole users: memory is the two tables and one bucket, whatever the number of
events.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.data import Data, SideTable
from dmtl_cli.config.days import folder_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.hashing import blake2b64
from dmtl_cli.data.log.source import File, Store
from dmtl_cli.data.log.spool import Spool, SpoolWriter, bucket_of, frame_of
from dmtl_cli.runs.ranks import ALONE, Ranks

Ints = npt.NDArray[np.int64]
BLOCK = 65_536  # rows of a record batch in the spool
ID = ":id"  # the id column of users and items: no feature can be called that
AT = ":at"  # position of an id's first row
NO_REQUEST = -(2**63)  # of an event, in a log without requests
POOL = 8  # full record batches that are shuffled together: as many rows as a bucket should have
MERGE = 1_000_000  # values held before they are merged into the distinct ones
_Span = tuple[dt.date, dt.date]
_ID_KINDS = {"int64": pl.Int64(), "string": pl.String()}


@dataclass(frozen=True)
class Block:
    """Some events of one day, as arrays of one length."""

    position: Ints
    """place in the day's log: names an event whatever the order of reading"""
    user: npt.NDArray[np.int32]
    """row in the day's users"""
    item: npt.NDArray[np.int32]
    """row in the day's items"""
    click: npt.NDArray[np.bool_]
    duration: npt.NDArray[np.float32]
    """seconds; NaN where the log has none"""
    conversion: npt.NDArray[np.int8]
    """-1 where the log has none"""
    weight: npt.NDArray[np.float32]
    request: Ints
    """NO_REQUEST where the log has none"""
    features: pl.DataFrame | None
    """raw event-level feature columns, by feature name; None where no feature is"""
    further: dict[str, npt.NDArray[np.int8]]
    """further conversions by name, -1 where unknown"""

    def __len__(self) -> int:
        return len(self.user)

    def labels(self, threshold: float | None) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """(converted, known): z = clicked AND deeply read, and where that is known.

        An unclicked row is a known negative even where it carries a duration; a clicked one without a duration is
        unknown. `threshold` is in seconds; None: the conversion column is the label.
        """
        if threshold is None:
            deep, known = self.conversion == 1, self.conversion >= 0
        else:
            deep, known = self.duration > threshold, ~np.isnan(self.duration)
        return self.click & deep, ~self.click | known

    def conversions(self, threshold: float | None) -> dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
        """(converted, known) of every conversion task: cvr, and the log's further ones. Each counts with a click."""
        further = {x: (self.click & (v == 1), ~self.click | (v >= 0)) for x, v in self.further.items()}
        return {"cvr": self.labels(threshold), **further}


@dataclass(frozen=True)
class Day:
    """One day of the log. Rows of users and items are sorted by id."""

    day: dt.date
    users: pl.DataFrame
    """column `:id`, then one raw column a feature, by feature name"""
    items: pl.DataFrame
    spool: Spool
    """events by bucket of their user; a day of up to POOL * BLOCK rows has one"""
    clicked: Ints
    """sorted distinct user * len(items) + item of the day's clicks"""
    repeated: Ints
    """positions in the spool of clicks that repeat one of the same pair and request"""
    user_events: Ints
    item_events: Ints
    item_clicks: Ints
    inputs: tuple[dict[str, Any], ...]
    facts: dict[str, float]
    """rows, clicks, join rates, repeated clicks: what `check` shows"""

    def __len__(self) -> int:
        return int(self.facts["rows"])

    def blocks(self, rng: np.random.Generator | None = None, by_user: bool = False) -> Iterator[Block]:
        """The day's events, once each.

        As they lie in the spool (a day of one bucket: in log order), BLOCK rows a block; with rng record batches in
        random order, pooled to POOL * BLOCK rows and shuffled. By user: a block a bucket, the rows of a user one after
        the other; with rng buckets, users and the rows of each in random order.
        """
        if by_user:
            buckets = np.arange(len(self.spool))
            for k in buckets if rng is None else rng.permutation(buckets):
                if (frame := self.spool.bucket(int(k))) is not None:
                    yield _block(_user_by_user(self._counted(frame), rng))
        else:
            yield from self._blocks(self.spool.whole, rng)

    def bucket(self, k: int, rng: np.random.Generator | None = None) -> Iterator[Block]:
        """The events of one bucket, as `blocks` gives those of the day."""
        return self._blocks(self.spool.batches[k], rng)

    def bucket_of(self, user: npt.NDArray[Any]) -> Ints:
        """Bucket of the events of each user row: a fixed random draw of the row."""
        return bucket_of(user, len(self.spool))

    def _blocks(self, batches: Ints, rng: np.random.Generator | None) -> Iterator[Block]:
        order, rows = (batches, BLOCK) if rng is None else (rng.permutation(batches), POOL * BLOCK)
        for whole in self.spool.read(order, rows):
            frame = self._counted(whole)
            yield _block(frame if rng is None else frame[rng.permutation(len(frame))])

    def _counted(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Without repeated clicks."""
        if not len(self.repeated):
            return frame
        position = frame["position"].to_numpy()
        return frame.filter(np.append(self.repeated, -1)[np.searchsorted(self.repeated, position)] != position)

    def has_clicked(self, user: npt.NDArray[Any], item: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Whether each (user row, item row) is a click of this day."""
        pair = user.astype(np.int64) * len(self.items) + item
        at = np.searchsorted(self.clicked, pair)
        return np.append(self.clicked, -1)[at] == pair  # type: ignore[no-any-return]

    @cached_property
    def user_rows(self) -> pl.DataFrame:
        return self.users.select(ID).with_row_index("row")

    @cached_property
    def item_rows(self) -> pl.DataFrame:
        return self.items.select(ID).with_row_index("row")

    def rows_of(self, ids: pl.Series, side: str) -> Ints:
        """Row of each id in the day's users or items; -1 where it has none."""
        table = self.user_rows if side == "user" else self.item_rows
        if ids.dtype != table[ID].dtype:
            return np.full(len(ids), -1, np.int64)
        found = pl.DataFrame({ID: ids}).join(table, on=ID, how="left", maintain_order="left")["row"]
        return found.cast(pl.Int64).fill_null(-1).to_numpy()


def _block(frame: pl.DataFrame) -> Block:
    raw = {c[2:]: frame[c] for c in frame.columns if c.startswith("x:")}
    further = {c[2:]: frame[c].to_numpy() for c in frame.columns if c.startswith("y:")}
    base = {c: frame[c].to_numpy() for c in ("position", "user", "item", "duration", "conversion", "weight", "request")}
    features = pl.DataFrame(raw) if raw else None
    return Block(click=frame["click"].to_numpy() == 1, features=features, further=further, **base)


def _user_by_user(frame: pl.DataFrame, rng: np.random.Generator | None) -> pl.DataFrame:
    users, user = np.unique(frame["user"].to_numpy(), return_inverse=True)
    if rng is None:
        return frame[np.argsort(user, kind="stable")]
    order = rng.permutation(len(frame))
    return frame[order[np.argsort(rng.permutation(len(users))[user[order]], kind="stable")]]


class Log:
    """The raw log that a config describes."""

    def __init__(self, data: Data, features: tuple[Feature, ...]) -> None:
        self.data, self.features = data, features
        self.store = Store(data.root)
        self._known: dict[File, list[_Span | None]] = {}

    # -- which files ---------------------------------------------------------------------------------------------------

    def days(self) -> list[dt.date]:
        """Days that have a folder (empty for a log whose days stand in a column)."""
        return sorted(self._folders(self.data.events.path, self.data.events.hive_key))

    def event_files(self, day: dt.date) -> list[File]:
        """The files that hold the day; of a log with a date column, those whose footers do not rule it out."""
        events = self.data.events
        files = self._files(events.path, events.hive_key, day, "events")
        if events.date_column is not None:
            files = [f for f in files if self._groups(f, day)]
            if not files:
                where = f"no file of {self.store.where(events.path)} has a {events.date_column} of day {day}"
                raise UserError(f"events: {where}", "retry when the day has arrived", Exit.NO_INPUT)
        return files

    def _groups(self, file: File, day: dt.date) -> range:
        """The file's row groups from the first to the last that may hold the day."""
        column = self.data.events.date_column
        assert column is not None
        if file not in self._known:
            with file.open() as parquet:
                self._known[file] = _spans(parquet, file, column, self.data.timezone)
        may = [k for k, span in enumerate(self._known[file]) if span is None or span[0] <= day <= span[1]]
        return range(may[0], may[-1] + 1) if may else range(0)

    def _folders(self, path: str, key: str | None) -> dict[dt.date, list[str]]:
        found: dict[dt.date, list[str]] = {}
        for folder in self.store.folders(path) if key else []:
            name, _, value = PurePosixPath(folder).name.partition("=")
            if name == key and (day := folder_day(value)) is not None:
                found.setdefault(day, []).append(folder)
        return found

    def _files(self, path: str, key: str | None, day: dt.date, what: str) -> list[File]:
        if not self.store.is_folder(path):
            hint = "set data.root and the path below it (a local one is relative to the current folder)"
            raise UserError(f"{what}: no folder {self.store.where(path)}", hint, Exit.NO_INPUT)
        folders = [path]
        if key is not None:
            by_day = self._folders(path, key)
            if day not in by_day:
                have = f"the log has {min(by_day)} .. {max(by_day)}" if by_day else f"no {key}=YYYY-MM-DD folder there"
                hint = "retry when the day has arrived"
                raise UserError(f"{what}: no folder {self.store.where(path)}/{key}={day} ({have})", hint, Exit.NO_INPUT)
            folders = by_day[day]
        files = [f for folder in folders for f in self.store.files(folder)]
        if not files:
            where = self.store.where(folders[0])
            raise UserError(f"{what}: {where} holds no *.parquet file", "retry when it is written", Exit.NO_INPUT)
        return files

    def inputs(self, day: dt.date) -> list[dict[str, Any]]:
        """What a stage reads of this day: path below data.root, rows, bytes and digest of each file."""
        files = self.event_files(day)
        for side in (self.data.users, self.data.items):
            if side is not None:
                files += self._files(side.path, side.partition, day, side.path)
        return [f.identify(full=self.data.digest == "full") for f in files]

    # -- a day ---------------------------------------------------------------------------------------------------------

    def read(self, day: dt.date, scratch: Path, ranks: Ranks = ALONE) -> Day:
        """Checks a day and spools its events.

        Args:
            scratch: directory for the spool, of this rank and seen by all.
            ranks: the processes that read a share of the row groups each. All have the same day, the one of one rank.

        Raises:
            UserError: 66 a day or table is not there or has no row; 65 a column is missing or of the wrong type, an id
                is null or a float, a label is out of range; with file, column and row.
        """
        files = self.event_files(day)
        inputs = tuple(self.inputs(day))
        columns = self._schema(files[0])
        tables = {s: self._side_table(t, day) for s, t in (("user", self.data.users), ("item", self.data.items)) if t}
        inline: dict[str, list[Feature]] = {"user": [], "item": []}
        for f in self.features:
            if not f.per_event and not (f.side in tables and f.source in tables[f.side].columns):
                self._require(f.source, columns, files[0], f"feature {f.name}", tables.get(f.side))
                inline[f.side].append(f)
            elif f.per_event:
                self._require(f.source, columns, files[0], f"feature {f.name}", None)
                if f.side == "user":  # for rows that have no event of their own: the day's first value
                    inline["user"].append(f)

        firsts = {side: _Firsts() for side in inline}
        share = self._share(files, day, ranks)
        mine = 0
        for frame in self._raw(files, day, share, self._kinds(files, day, ranks, True), ids_alone=True):
            for side, first in firsts.items():
                first.add(frame.select(pl.col(side).alias(ID), pl.col("^_time$")))
            mine += len(frame)
        counts = ranks.gather_objects(mine)
        starts = list(itertools.accumulate(counts, initial=0))
        rows, start = starts[-1], starts[ranks.rank]
        if rows == 0:
            raise UserError(f"events: day {day} has no rows in {files[0].parent}", "retry later", Exit.NO_INPUT)
        entities, rates = {}, {}
        for side, first in firsts.items():
            seen = first.frame() if ranks.size == 1 else first.of_all(ranks, starts)
            entities[side], rates[f"{side}s_joined"] = self._entities(side, seen, tables.get(side))
        share_of = _Share(ranks, share, start, scratch / f"head-{day}.arrow")
        return self._spool(files, day, scratch, rows, entities, inline, inputs, rates, share_of)

    def _share(self, files: list[File], day: dt.date, ranks: Ranks) -> list[tuple[File, range]]:
        """The row groups of this rank: all ranks' together are the day's, in its order, about as many rows each."""
        held: list[tuple[File, range, list[int]]] = []
        for file in files:
            with file.open() as parquet:
                groups = self._groups(file, day) if self.data.events.date_column else range(parquet.num_row_groups)
                held.append((file, groups, [parquet.metadata.row_group(g).num_rows for g in groups]))
        total = max(1, sum(sum(rows) for *_, rows in held))
        out, before = [], 0
        for file, groups, rows in held:
            begins = before + np.cumsum([0, *rows])[:-1]
            before += sum(rows)
            here = np.flatnonzero(begins * ranks.size // total == ranks.rank)
            if len(here):
                out.append((file, groups[here[0] : here[-1] + 1]))
        return out

    def _schema(self, file: File) -> dict[str, pa.DataType]:
        with file.open() as parquet:
            schema = parquet.schema_arrow
        columns = {name: schema.field(name).type for name in schema.names}
        events = self.data.events
        named = {
            k: getattr(events, k)
            for k in ("user", "item", "time", "click", "duration", "conversion", "weight", "request")
        }
        further = {f"conversions.{name}": column for name, column in events.conversions.items()}
        for what, column in {**named, **further, "date_column": events.date_column}.items():
            if column is not None:
                self._require(column, columns, file, f"data.events.{what}", None)
        return columns

    def _require(
        self, column: str, columns: dict[str, pa.DataType], file: File, what: str, table: pl.DataFrame | None
    ) -> None:
        if column not in columns:
            beside = f" nor the side table's ({', '.join(table.columns[:12])})" if table is not None else ""
            have = ", ".join(sorted(columns)[:12])
            raise UserError(f"{file}: {what} expects column {column}, not among its columns ({have}){beside}")

    def _kinds(self, files: list[File], day: dt.date, ranks: Ranks, ids_alone: bool = False) -> pl.Schema | None:
        """Types of the day's first block, for a rank that does not read it."""
        if ranks.first:
            return None
        return next((f.schema for f in self._raw(files, day, self._share(files, day, ALONE), None, ids_alone)), None)

    def _raw(
        self,
        files: list[File],
        day: dt.date,
        share: list[tuple[File, range]],
        kinds: pl.Schema | None,
        ids_alone: bool = False,
    ) -> Iterator[pl.DataFrame]:
        """Checked blocks of a share of the day's row groups: user, item, click, duration, conversion, y:NAME of further
        ones, weight, request, and feature columns; or user, item and _time. All of one type: `kinds`, else the first's.
        """
        events = self.data.events
        named = {events.user, events.item, events.date_column}
        if ids_alone:
            named |= {events.time}
        else:
            named |= {events.click, events.duration, events.conversion, events.weight, events.request}
            named |= {*events.conversions.values(), *(f.source for f in self.features)}
        first = set(self._schema(files[0]))
        for file, groups in share:
            with file.open() as parquet:
                have = set(parquet.schema_arrow.names)
                here = self._schema(file)
                for f in self.features:
                    if f.source in first:
                        self._require(f.source, here, file, f"feature {f.name}", None)
                columns = sorted(c for c in named if c is not None and c in have)
                row = sum(parquet.metadata.row_group(k).num_rows for k in range(groups.start))
                try:
                    for batch in parquet.iter_batches(BLOCK, list(groups), columns, use_threads=False):
                        raw = pl.from_arrow(batch)
                        assert isinstance(raw, pl.DataFrame)
                        checked = _Checked(raw, file, row)
                        row += len(raw)
                        frame = self._ids(checked) if ids_alone else self._columns(checked, raw)
                        if events.date_column is not None:
                            frame = frame.filter(checked.date(events.date_column, self.data.timezone) == day)
                        if len(frame):
                            kinds = kinds or frame.schema
                            yield self._alike(frame, kinds, file)
                except (pa.ArrowException, OSError) as e:
                    raise file.refusal(e, f"damaged Parquet after row {row}") from None

    def _ids(self, checked: _Checked) -> pl.DataFrame:
        e = self.data.events
        ids = [checked.ids(e.user).alias("user"), checked.ids(e.item).alias("item")]
        return pl.DataFrame([*ids, checked.time(e.time).alias("_time")] if e.time else ids)

    def _columns(self, checked: _Checked, raw: pl.DataFrame) -> pl.DataFrame:
        e = self.data.events
        n = len(raw)
        out = [checked.ids(e.user).alias("user"), checked.ids(e.item).alias("item")]
        out.append(
            checked.flag(e.click, nulls=False).alias("click") if e.click else pl.Series("click", np.ones(n, np.int8))
        )
        duration = checked.number(e.duration) if e.duration else pl.Series("duration", [None] * n, pl.Float32)
        out.append(
            (duration / 1000.0 if e.duration_unit == "ms" and e.duration else duration)
            .cast(pl.Float32)
            .alias("duration")
        )
        conversion = checked.flag(e.conversion, nulls=True) if e.conversion else pl.Series(np.full(n, -1, np.int8))
        out.append(conversion.alias("conversion"))
        out += [checked.flag(column, nulls=True).alias(f"y:{name}") for name, column in e.conversions.items()]
        weight = checked.number(e.weight, nulls=False) if e.weight else pl.Series(np.ones(n, np.float32))
        out.append(weight.cast(pl.Float32).alias("weight"))
        request = checked.request(e.request) if e.request else pl.Series(np.full(n, NO_REQUEST, np.int64))
        out.append(request.alias("request"))
        read = {f.source for f in self.features} & set(raw.columns)
        # text stays text: a dictionary differs from batch to batch, and the spool's format holds one
        whole = {
            c: raw[c].cast(pl.String) if raw[c].dtype in (pl.Categorical, pl.Enum) else raw[c] for c in sorted(read)
        }
        return pl.DataFrame(out + [s.alias(f"x:{c}") for c, s in whole.items()])

    def _alike(self, frame: pl.DataFrame, kinds: pl.Schema, file: File) -> pl.DataFrame:
        """The block with the types of the day's first one."""
        if frame.schema == kinds:
            return frame
        for name, kind in frame.schema.items():
            was = kinds[name]
            wider = (kind.is_numeric() and was.is_numeric() and not (kind.is_float() and was.is_integer())) or (
                kind.is_nested() and was.is_nested()
            )
            if kind not in (was, pl.Null()) and not wider:
                column = {"user": self.data.events.user, "item": self.data.events.item, "_time": self.data.events.time}
                shown = column.get(name, name.removeprefix("x:"))
                raise UserError(f"{file}: column {shown}: expected {was} as in the day's first rows, got {kind}")
        try:
            return frame.cast(dict(kinds))  # type: ignore[arg-type]
        except pl.exceptions.PolarsError as e:
            raise UserError(f"{file}: types differ from the day's first rows: {e}") from None

    def _side_table(self, table: SideTable, day: dt.date) -> pl.DataFrame:
        files = self._files(table.path, table.partition, day, table.path)
        frames = []
        for file in files:
            with file.open() as parquet:
                names = set(parquet.schema_arrow.names)
                if table.key not in names:
                    have = ", ".join(sorted(names)[:12])
                    raise UserError(f"{file}: expected key column {table.key}, not among its columns ({have})")
                side = "user" if table is self.data.users else "item"
                wanted = {f.source for f in self.features if f.side == side and not f.per_event} | {table.key}
                try:
                    frame = pl.from_arrow(parquet.read(sorted(names & wanted), use_threads=False))
                except (pa.ArrowException, OSError) as e:
                    raise file.refusal(e, "damaged Parquet") from None
            assert isinstance(frame, pl.DataFrame)
            frames.append(frame.with_columns(_Checked(frame, file, 0).ids(table.key).alias(ID)))
        whole = pl.concat(frames, how="vertical_relaxed")
        if (twice := whole[ID].is_duplicated()).any():
            one = whole[ID].filter(twice)[0]
            raise UserError(f"{files[0].parent}: key {table.key} = {one!r} stands twice", "one row an id and day")
        return whole

    def _entities(self, side: str, seen: pl.DataFrame, table: pl.DataFrame | None) -> tuple[pl.DataFrame, float]:
        """All users or items of the day, sorted by id, with `:at` (null of one that is in the table alone) and
        the table's features by name; and the share of seen ids the table holds."""
        if table is None:
            return seen.sort(ID), 1.0
        if table[ID].dtype != seen[ID].dtype:
            kinds = f"{_kind(seen[ID].dtype)} in the events and {_kind(table[ID].dtype)} in the table"
            raise UserError(f"{side} ids are {kinds}: expected one type", "cast one of them")
        rate = len(seen.join(table, on=ID, how="semi")) / max(1, len(seen))
        features = [f for f in self.features if f.side == side]
        aliases = [pl.col(f.source).alias(f.name) for f in features if f.source in table.columns]
        return table.select(ID, *aliases).join(seen, on=ID, how="full", coalesce=True).sort(ID), rate

    def _features(self, side: str, entities: pl.DataFrame, firsts: pl.DataFrame) -> pl.DataFrame:
        """The users or items with all features; `firsts`: inline ones of the ids in the log, in log order."""
        features = [f for f in self.features if f.side == side]
        key = self.data.events.user if side == "user" else self.data.events.item
        table = self.data.users if side == "user" else self.data.items
        if inline := [c for c in firsts.columns if c not in entities.columns]:
            place = entities[AT].rank("ordinal") - 1
            entities = entities.with_columns(firsts.select(pl.col(inline).gather(place)))
        for f in features:  # the id itself is a feature under its key's name, known for every row
            if f.source == key or (table is not None and f.name in entities.columns and f.source == table.key):
                entities = entities.with_columns(pl.col(ID).alias(f.name))
        return entities.select(ID, *(f.name for f in features))

    def _spool(
        self,
        files: list[File],
        day: dt.date,
        scratch: Path,
        rows: int,
        entities: dict[str, pl.DataFrame],
        inline: dict[str, list[Feature]],
        inputs: tuple[dict[str, Any], ...],
        rates: dict[str, float],
        share: _Share,
    ) -> Day:
        """The second pass; `entities` as `_entities` gives them."""
        buckets = -(-rows // (POOL * BLOCK))
        tally = _Tally(len(entities["user"]), len(entities["item"]))
        taken = {side: _Taken(entities[side][AT], features, share.start) for side, features in inline.items()}
        writer = SpoolWriter(scratch / f"events-{day}.arrow", buckets, BLOCK)
        changed = UserError(
            f"events: the files of day {day} changed while they were read", "retry later", Exit.NO_INPUT
        )
        for run in self._numbered(files, day, entities, list(taken.values()), share):
            if run["user"].null_count() or run["item"].null_count():
                raise changed
            for block in run.iter_slices(BLOCK):
                tally.add(block)
            writer.add(run, bucket_of(run["user"].to_numpy(), buckets))
        ranks = share.ranks
        spool = Spool.concat(ranks.gather_objects(writer.done()))
        if sum(ranks.gather_objects(tally.rows)) != rows:
            raise changed
        repeated = np.zeros(0, np.int64)
        if self.data.events.request:
            repeated = np.sort(np.concatenate(ranks.gather_objects(tally.drop_repeated(spool, ranks))))
        tally = _Tally.sum(ranks.gather_objects(tally))
        firsts = {side: of.of_all(ranks) for side, of in taken.items()}
        users, items = (self._features(side, entities[side], firsts[side]) for side in ("user", "item"))
        facts = {
            "rows": tally.rows,
            "clicks": tally.clicks,
            "clicks_without_duration": tally.unknown if self.data.events.duration else 0,
            "repeated_clicks": len(repeated),
            "duration_sum": tally.total_seconds,
            "duration_rows": float(tally.known),
            **rates,
        }
        return Day(
            day, users, items, spool, tally.pairs.merged(), repeated,
            tally.user_events, tally.item_events, tally.item_clicks, inputs, facts,
        )  # fmt: skip

    def _numbered(
        self, files: list[File], day: dt.date, entities: dict[str, pl.DataFrame], taken: list[_Taken], share: _Share
    ) -> Iterator[pl.DataFrame]:
        """The day's events as the spool holds them, POOL * BLOCK at a time: positions, row numbers for ids, event
        features by name; of the runs that begin in this rank's share."""
        labels = ["click", "duration", "conversion", "weight", "request"]
        labels += [f"y:{name}" for name in self.data.events.conversions]
        features = [pl.col(f"x:{f.source}").alias(f"x:{f.name}") for f in self.features if f.per_event]

        def events() -> Iterator[pl.DataFrame]:
            for block in self._raw(files, day, share.groups, self._kinds(files, day, share.ranks)):
                for side in taken:
                    side.add(block)
                yield block.select("user", "item", *labels, *features)

        index = {s: t.select(pl.col(ID).alias(s)).with_row_index(f"{s}_row") for s, t in entities.items()}

        def numbered() -> Iterator[pl.DataFrame]:
            rows = share.start
            for run in _reblocked(events(), POOL * BLOCK, -share.start % (POOL * BLOCK)):
                for side, ids in index.items():
                    run = run.join(ids, on=side, how="left", maintain_order="left")
                yield run.select(
                    pl.Series("position", np.arange(rows, rows + len(run))),
                    pl.col("user_row").cast(pl.Int32).alias("user"),
                    pl.col("item_row").cast(pl.Int32).alias("item"),
                    "click",
                    pl.col("duration").fill_null(float("nan")),
                    pl.exclude("user", "item", "user_row", "item_row", "click", "duration"),
                )
                rows += len(run)

        return share.runs(numbered(), POOL * BLOCK)


@dataclass(frozen=True)
class _Share:
    """What a rank reads of a day: row groups, and the position of their first row."""

    ranks: Ranks
    groups: list[tuple[File, range]]
    start: int
    head: Path
    """where to leave rows that complete a run of the rank before"""

    def runs(self, frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
        """Frames that begin at a multiple of `rows`, completed by what the ranks after this one hold of the last."""
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
        held = [last]
        for theirs, begins in after:
            if theirs is not None:
                held.append(pl.read_ipc(theirs))
            if begins:
                break
        yield pl.concat(held, rechunk=True)


class _Tally:
    """What a day's blocks add up to; a click that repeats one of its pair and request can be taken out again."""

    def __init__(self, users: int, items: int) -> None:
        self.user_events, self.item_events = np.zeros(users, np.int64), np.zeros(items, np.int64)
        self.item_clicks = np.zeros(items, np.int64)
        self.rows = self.clicks = self.known = self.unknown = 0
        self.seconds: list[float] = []  # block by block, to be added in one order whoever counted them
        self.dropped: dict[int, float] = {}  # by bucket
        self.pairs = _Distinct()

    @staticmethod
    def sum(parts: list[_Tally]) -> _Tally:
        """The tallies of all ranks as one."""
        if len(parts) == 1:
            return parts[0]
        whole = _Tally(len(parts[0].user_events), len(parts[0].item_events))
        for part in parts:
            for name in ("user_events", "item_events", "item_clicks", "rows", "clicks", "known", "unknown"):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            whole.seconds += part.seconds
            whole.dropped |= part.dropped
            whole.pairs.add(part.pairs.merged())
        return whole

    @property
    def total_seconds(self) -> float:
        total = 0.0
        for seconds in (*self.seconds, *(-self.dropped[k] for k in sorted(self.dropped))):
            total += seconds
        return total

    def add(self, block: pl.DataFrame) -> None:
        self._count(block, +1)
        clicks = block.filter(pl.col("click") == 1)
        self.seconds.append(self._count_clicks(clicks, +1))
        self.pairs.add(self._pairs(clicks))

    def _pairs(self, frame: pl.DataFrame) -> Ints:
        user, item = (frame[side].to_numpy().astype(np.int64) for side in ("user", "item"))
        return user * len(self.item_clicks) + item

    def _count(self, block: pl.DataFrame, sign: int) -> None:
        self.rows += sign * len(block)
        np.add.at(self.user_events, block["user"].to_numpy(), sign)
        np.add.at(self.item_events, block["item"].to_numpy(), sign)

    def _count_clicks(self, clicks: pl.DataFrame, sign: int) -> float:
        """Returns their seconds."""
        seconds = clicks["duration"].to_numpy()
        known = ~np.isnan(seconds)
        self.clicks += sign * len(clicks)
        np.add.at(self.item_clicks, clicks["item"].to_numpy(), sign)
        self.known += sign * int(known.sum())
        self.unknown += sign * int((~known).sum())
        return float(seconds[known].sum(dtype=np.float64))

    def drop_repeated(self, spool: Spool, ranks: Ranks) -> Ints:
        """Takes the repeated clicks of this rank's buckets out of the counts; their positions. Clicks of a pair lie in
        one bucket."""
        dropped = [np.zeros(0, np.int64)]
        for k in filter(ranks.mine, range(len(spool))):
            frame = spool.bucket(k, ["position", "user", "item", "click", "duration", "request"])
            if frame is not None:
                clicks = frame.filter(pl.col("click") == 1)
                pair, request = self._pairs(clicks), clicks["request"].to_numpy()
                order = np.lexsort((request, pair))  # stable: of equal ones the log's first comes first
                pair, request = pair[order], request[order]
                again = clicks[order[1:][(pair[1:] == pair[:-1]) & (request[1:] == request[:-1])]]
                self._count(again, -1)
                self.dropped[k] = self._count_clicks(again, -1)
                dropped.append(again["position"].to_numpy())
        return np.concatenate(dropped)


class _Distinct:
    """Distinct values of a stream, merged now and then."""

    def __init__(self) -> None:
        self._held: list[Ints] = [np.zeros(0, np.int64)]
        self._rows = 0

    def add(self, values: Ints) -> None:
        self._held.append(values)
        self._rows += len(values)
        if self._rows > max(MERGE, len(self._held[0])):
            self.merged()

    def merged(self) -> Ints:
        """The values so far, sorted."""
        whole = np.concatenate(self._held)
        self._held, self._rows = [], 0
        whole.sort()
        self._held = [whole[np.append(True, whole[1:] != whole[:-1])] if len(whole) else whole]
        return self._held[0]


class _Firsts:
    """Where each id of a stream stands first (by time where there is one, else by place), in O(ids) memory."""

    def __init__(self) -> None:
        self._held: list[pl.DataFrame] = []
        self._rows = self._kept = self._read = 0

    def add(self, block: pl.DataFrame) -> None:
        """Rows with `:id` and perhaps `_time`, in log order."""
        at = pl.int_range(self._read, self._read + len(block), eager=True).alias(AT)
        self._held.append(block.with_columns(at))
        self._read += len(block)
        self._rows += len(block)
        if self._rows > max(MERGE, 2 * self._kept):
            self._held = [self._merged()]
            self._rows = self._kept = len(self._held[0])

    def frame(self) -> pl.DataFrame:
        """`:id` and `:at` of each id."""
        return self._merged().select(ID, AT)

    def of_all(self, ranks: Ranks, starts: list[int]) -> pl.DataFrame:
        """The same over the streams of all ranks; `starts`: where each begins."""
        mine = self._merged() if self._held else None
        parts = zip(ranks.gather_objects(mine), starts, strict=False)
        self._held = [part.with_columns(pl.col(AT) + at) for part, at in parts if part is not None]
        return self.frame()

    def _merged(self) -> pl.DataFrame:
        whole = pl.concat(self._held)
        if "_time" in whole.columns:
            whole = whole.sort("_time", maintain_order=True)
        return _compact(whole.unique(ID, keep="first", maintain_order=True))


class _Taken:
    """Inline features of those rows of a stream that are an id's first."""

    def __init__(self, at: pl.Series, features: list[Feature], start: int) -> None:
        self._at = np.sort(at.drop_nulls().to_numpy())
        self._features = [pl.col(f"x:{f.source}").alias(f.name) for f in features]
        self._held: list[pa.Table] = []
        self._read = start

    def add(self, block: pl.DataFrame) -> None:
        """Rows in log order."""
        if self._features:
            here = slice(*np.searchsorted(self._at, [self._read, self._read + len(block)]))
            first = block.select(self._features)[self._at[here] - self._read]
            self._held.append(first.to_arrow(compat_level=pl.CompatLevel.oldest()))
        self._read += len(block)

    def of_all(self, ranks: Ranks) -> pl.DataFrame:
        """A row an id, in log order, over the streams of all ranks."""
        mine = frame_of(pa.concat_tables(self._held)) if self._held else None
        parts = [part for part in ranks.gather_objects(mine) if part is not None]
        return pl.concat(parts) if parts else pl.DataFrame()


def _compact(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows in memory of their own: text from Arrow keeps all of the batch it came in."""
    return frame_of(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))


class _Checked:
    """Columns of one block, each as the type the rest relies on; a value that does not fit names its file and row."""

    def __init__(self, frame: pl.DataFrame, file: File, first_row: int) -> None:
        self.frame, self.file, self.first = frame, file, first_row

    def _refuse(self, column: str, bad: pl.Series, expected: str, hint: str = "") -> None:
        at = bad.arg_true()
        if len(at):
            value = self.frame[column][int(at[0])]
            raise UserError(
                f"{self.file}: column {column}, row {self.first + int(at[0])}: expected {expected}, got {value!r}", hint
            )

    def _type(self, column: str, expected: str, hint: str = "") -> UserError:
        return UserError(f"{self.file}: column {column}: expected {expected}, got {self.frame[column].dtype}", hint)

    def ids(self, column: str) -> pl.Series:
        """int64 or text, exact, never null: a float cannot hold a large id."""
        s = self.frame[column]
        if s.dtype.is_integer():
            out = s.cast(pl.Int64, strict=False)
            self._refuse(column, out.is_null(), "an id within int64, never null")
            return out
        if s.dtype in (pl.String, pl.Categorical, pl.Enum):
            self._refuse(column, s.is_null() | (s.cast(pl.String) == ""), "an id, never null or empty")
            return s.cast(pl.String)
        raise self._type(column, "ids as integers or text", "a float loses ids above 2**53")

    def flag(self, column: str, nulls: bool) -> pl.Series:
        s = self.frame[column]
        if not (s.dtype == pl.Boolean or s.dtype.is_numeric()):
            raise self._type(column, "a boolean or 0/1")
        if s.dtype.is_float():
            s = s.fill_nan(None)
        bad = ~s.cast(pl.Float64).is_in([0.0, 1.0])
        self._refuse(column, bad.fill_null(not nulls), "0 or 1")
        return s.cast(pl.Int8).fill_null(-1)

    def number(self, column: str, nulls: bool = True) -> pl.Series:
        s = self.frame[column]
        if not s.dtype.is_numeric():
            raise self._type(column, "a number")
        s = s.cast(pl.Float64).fill_nan(None)
        self._refuse(column, ((s < 0) | s.is_infinite()).fill_null(not nulls), "a finite number, not negative")
        return s

    def request(self, column: str) -> pl.Series:
        s = self.ids(column)
        if s.dtype == pl.Int64:
            return s
        distinct = s.unique()
        hashed = [blake2b64(v) >> 1 for v in distinct]
        return s.replace_strict(distinct, pl.Series(hashed, dtype=pl.Int64), return_dtype=pl.Int64)

    def time(self, column: str) -> pl.Series:
        s = self.frame[column]
        if s.dtype.is_temporal() or s.dtype.is_numeric():
            self._refuse(column, s.is_null(), "a time, never null")
            return s.to_physical() if s.dtype.is_temporal() else s
        if s.dtype == pl.String:
            return s
        raise self._type(column, "a time: timestamp, number or text that sorts")

    def date(self, column: str, timezone: str | None) -> pl.Series:
        """The local day of each row: a date, yyyymmdd, YYYY-MM-DD text, or an instant seen in data.timezone."""
        s = self.frame[column]
        if s.dtype == pl.Date:
            self._refuse(column, s.is_null(), "a day, never null")
            return s
        if s.dtype == pl.String:
            out = s.str.replace_all("-", "").str.to_date("%Y%m%d", strict=False)
            self._refuse(column, out.is_null(), "a day as YYYY-MM-DD or YYYYMMDD")
            return out
        if s.dtype.is_integer() and len(s) and int(s.max() or 0) < 100_000_000:  # type: ignore[arg-type]
            out = s.cast(pl.String).str.to_date("%Y%m%d", strict=False)
            self._refuse(column, out.is_null(), "a day as YYYYMMDD")
            return out
        if s.dtype.is_integer():
            s = s.cast(pl.Int64)
            s = pl.select(pl.when(s > 100_000_000_000).then(s).otherwise(s * 1000).cast(pl.Datetime("ms"))).to_series()
        if not isinstance(s.dtype, pl.Datetime):
            raise self._type(column, "a date, a timestamp, yyyymmdd or epoch seconds / milliseconds")
        if timezone is None:
            raise UserError(
                f"{self.file}: column {column} is an instant",
                "say whose day: data.timezone, e.g. Asia/Shanghai",
                Exit.CONFIG,
            )
        self._refuse(column, s.is_null(), "an instant, never null")
        aware = s.dt.replace_time_zone("UTC") if s.dtype.time_zone is None else s
        return aware.dt.convert_time_zone(timezone).dt.date()


def _reblocked(frames: Iterator[pl.DataFrame], rows: int, first: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of `rows` rows (the first of `first` where that is not 0; the last may hold fewer)."""
    held: list[pl.DataFrame] = []
    count, wanted = 0, first or rows
    for frame in frames:
        held.append(frame)
        count += len(frame)
        while count >= wanted:
            whole = pl.concat(held, rechunk=True)
            yield whole[:wanted]
            held, count, wanted = [whole[wanted:]], count - wanted, rows
    if count:
        yield pl.concat(held, rechunk=True)


def _spans(parquet: pq.ParquetFile, file: File, column: str, timezone: str | None) -> list[_Span | None]:
    """First and last day of each row group by its statistics; None where they do not tell."""
    meta = parquet.metadata
    at = next((k for k in range(meta.num_columns) if meta.schema.column(k).path == column), None)
    if at is None:
        return [None] * meta.num_row_groups
    kind = parquet.schema_arrow.field(column).type
    found = (meta.row_group(g).column(at).statistics for g in range(meta.num_row_groups))
    return [_span(s, kind, file, column, timezone) if s is not None and s.has_min_max else None for s in found]


def _span(stats: pq.Statistics, kind: pa.DataType, file: File, column: str, timezone: str | None) -> _Span | None:
    try:
        if pa.types.is_timestamp(kind):  # as a Python datetime, nanoseconds do not fit
            ends = pa.array([stats.min_raw, stats.max_raw], pa.int64())
        else:
            ends = pa.array([stats.min, stats.max])
        frame = pl.DataFrame({column: pl.from_arrow(ends.cast(kind))})
        first, last = _Checked(frame, file, 0).date(column, timezone)
    except (UserError, pa.ArrowException, pl.exceptions.PolarsError, ValueError, OverflowError):
        return None  # reading the file says what is wrong, and in which row
    low, high = frame[column]
    if isinstance(low, int) and low <= 100_000_000_000 < high:
        return None  # seconds and milliseconds: not in order of time
    if isinstance(low, str) and (len(low) != len(high) or low[:4] != high[:4]):  # 2026-12-31 sorts before 20260101
        return first.replace(month=1, day=1), last.replace(month=12, day=31)
    return first, last


def _kind(dtype: pl.DataType) -> str:
    return next((k for k, v in _ID_KINDS.items() if v == dtype), str(dtype))
