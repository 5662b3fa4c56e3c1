"""Raw feature values -> integer and float tables, through vocabularies that grow day by day or buckets of a hash.

Row 0 of every embedding is the unknown row: null, never seen, or not admitted yet. A vocabulary only grows and a hash
is frozen, so a row keeps its meaning, its weights and its optimizer state from day to day. Numeric statistics
(quantile edges, mean and deviation) are measured on the chain's first window and then carried, so that an encoded
number keeps its meaning too.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Feature
from dmtl_cli.data.log.day import ID, Day
from dmtl_cli.data.log.hashing import blake2b64, splitmix64

FORMAT = 1
_SAMPLE = 1_000_000  # events whose event-level numbers are measured
_SEARCHED = 32  # values known for each one asked for, above which a search costs less than the hash table of a join
_HASHES = {"splitmix64": pl.Int64(), "blake2b64": pl.String()}  # as features.json names them, and what each hashes


@dataclass(frozen=True)
class Layout:
    """Which columns an encoded side has, in order; what a model needs to know of it."""

    ids: tuple[str, ...]
    """embedding name of each integer column"""
    dropped: tuple[bool, ...]
    """of each integer column: whether it is an id (replaced by unknown now and then), not a numeric bucket"""
    sequences: tuple[tuple[str, int], ...]
    """(embedding name, length) of each padded sequence"""
    floats: int
    """float columns"""

    @property
    def embeddings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.ids, *(name for name, _ in self.sequences)]))

    def width(self, embedding_dim: int) -> int:
        """Length of the dense vector made of one row."""
        return (len(self.ids) + len(self.sequences)) * embedding_dim + self.floats


@dataclass(frozen=True)
class Encoded:
    """n rows of one side as numbers. A sequence is padded with 0 on the right; 0 is masked."""

    ids: npt.NDArray[np.int32]
    """[n, C] rows within each column's embedding"""
    sequences: tuple[npt.NDArray[np.int32], ...]
    """[n, L] each"""
    floats: npt.NDArray[np.float32]
    """[n, F]"""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[Any]) -> Encoded:
        return Encoded(self.ids[rows], tuple(s[rows] for s in self.sequences), self.floats[rows])

    @staticmethod
    def concat(parts: list[Encoded]) -> Encoded:
        return Encoded(
            np.concatenate([p.ids for p in parts]),
            tuple(np.concatenate(s) for s in zip(*(p.sequences for p in parts), strict=True)),
            np.concatenate([p.floats for p in parts]),
        )


@dataclass(frozen=True)
class Vocabulary:
    """Values of one embedding in their order: `value`, `row` (0: waiting for admission), `count`, `last_seen`."""

    frame: pl.DataFrame

    @staticmethod
    def empty(dtype: pl.DataType) -> Vocabulary:
        return Vocabulary(
            pl.DataFrame(schema={"value": dtype, "row": pl.Int32, "count": pl.Int64, "last_seen": pl.Date})
        )

    @property
    def rows(self) -> int:
        """Rows of the embedding, the unknown one included."""
        return 1 + int((self.frame["row"] > 0).sum())

    @property
    def dtype(self) -> pl.DataType | None:
        """Int64 or String; None until a day has a value."""
        return self.frame["value"].dtype if len(self.frame) else None

    def lookup(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """Row of each value, [n]; 0 where it has none."""
        known = self.frame.select("value", "row")
        asked = values.cast(known["value"].dtype, strict=False).alias("value")
        if len(asked) * _SEARCHED < len(known):  # one user served, a batch's events
            found = known[known["value"].search_sorted(asked).clip(upper_bound=len(known) - 1)]
            return np.where((found["value"] == asked).fill_null(False), found["row"], np.int32(0))
        rows = asked.to_frame().join(known, on="value", how="left", maintain_order="left")["row"]
        return rows.fill_null(0).to_numpy()

    def grow(self, seen: pl.DataFrame, day: dt.date, min_count: int) -> Vocabulary:
        """With the day's values (`value`, `count`): counts add up, new rows in order of value once admitted."""
        seen = seen.filter(pl.col("value").is_not_null()).group_by("value").agg(pl.col("count").sum())
        both = self.frame.join(seen, on="value", how="full", coalesce=True, suffix="_now")
        both = both.select(
            "value",
            pl.col("row").fill_null(0),
            (pl.col("count").fill_null(0) + pl.col("count_now").fill_null(0)).alias("count"),
            pl.when(pl.col("count_now").is_not_null()).then(pl.lit(day)).otherwise("last_seen").alias("last_seen"),
        ).sort("value")
        new = (both["row"] == 0) & (both["count"] >= min_count)
        rows = both["row"].to_numpy().copy()
        rows[new.to_numpy()] = np.arange(self.rows, self.rows + int(new.sum()))
        return Vocabulary(both.with_columns(pl.Series("row", rows, dtype=pl.Int32)))


@dataclass(frozen=True)
class Buckets:
    """Rows of one embedding by a frozen hash: 1 + hash mod `size`. Values may share a row, and none has to be kept."""

    size: int
    dtype: pl.DataType | None
    """Int64 or String, whose hashes differ (of 5 and "5" too); None until a day has a value"""

    @property
    def rows(self) -> int:
        """Rows of the embedding, the unknown one included."""
        return 1 + self.size

    @property
    def hash(self) -> str | None:
        """splitmix64 or blake2b64."""
        return next((name for name, dtype in _HASHES.items() if dtype == self.dtype), None)

    def lookup(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """Row of each value, [n]; 0 of null and of empty text."""
        if self.dtype is None:
            return np.zeros(len(values), np.int32)
        values = values.cast(self.dtype, strict=False)
        if self.dtype == pl.Int64:
            return np.where(values.is_null(), np.int32(0), self._rows(splitmix64(values.fill_null(0).to_numpy())))
        distinct = values.filter(values != "").unique()
        rows = self._rows(np.fromiter(map(blake2b64, distinct), np.uint64, len(distinct)))
        return values.replace_strict(distinct, pl.Series(rows), default=0, return_dtype=pl.Int32).to_numpy()

    def _rows(self, hashed: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        return (1 + hashed % np.uint64(self.size)).astype(np.int32)


@dataclass(frozen=True)
class Encoder:
    """Every feature of one model, with what was learned about its values."""

    features: tuple[Feature, ...]
    vocabularies: dict[str, Vocabulary | Buckets] = field(default_factory=dict)
    """by embedding of ids"""
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by feature: {"edges": [...]} or {"mean", "std"}"""
    id_kinds: dict[str, str] = field(default_factory=dict)
    """user, item -> int64 | string"""

    # -- shape ---------------------------------------------------------------------------------------------------------

    def of(self, side: str, per_event: bool | None = None) -> list[Feature]:
        """Features of a side in column order: entity-level, then event-level."""
        chosen = [f for f in self.features if f.side == side and per_event in (None, f.per_event)]
        return sorted(chosen, key=lambda f: f.per_event)

    def layout(self, side: str, per_event: bool | None = None) -> Layout:
        features = self.of(side, per_event)
        single = [f for f in features if f.embedding and f.kind != "sequence"]
        return Layout(
            tuple(f.embedding or "" for f in single),
            tuple(f.kind == "categorical" for f in single),
            tuple((f.embedding or "", f.max_length) for f in features if f.kind == "sequence"),
            sum(f.dim or 1 for f in features if not f.embedding),
        )

    def columns(self, name: str) -> range:
        """Where an embedded feature stands in [ids, sequence, sequence, ...] of its side, [n, C + sum of L]."""
        (side,) = (f.side for f in self.features if f.name == name)
        embedded = sorted((f for f in self.of(side) if f.embedding), key=lambda f: f.kind == "sequence")
        widths = [f.max_length if f.kind == "sequence" else 1 for f in embedded]
        k = [f.name for f in embedded].index(name)
        return range(sum(widths[:k]), sum(widths[: k + 1]))

    def embedding_rows(self) -> dict[str, int]:
        """Rows of each embedding, the unknown one included."""
        rows = {name: v.rows for name, v in self.vocabularies.items()}
        for f in self.features:
            if f.kind == "numeric" and f.embedding:
                rows[f.embedding] = len(self.numbers[f.name]["edges"]) + 2
        return rows

    # -- learning ------------------------------------------------------------------------------------------------------

    def grow(self, days: list[Day]) -> Encoder:
        """What these days add. Numeric statistics are measured only where there are none yet."""
        numbers = dict(self.numbers)
        for f in self.features:
            if f.kind == "numeric" and f.name not in numbers:
                numbers[f.name] = _measure(f, [_seen(f, day)["value"] for day in days])
        vocabularies = dict(self.vocabularies)
        for day in days:
            for name in dict.fromkeys(f.embedding for f in self.features if f.kind in ("categorical", "sequence")):
                assert name is not None
                sharing = [f for f in self.features if f.embedding == name]
                vocabularies[name] = _grown(vocabularies.get(name), name, sharing, day)
        kinds_of = {"user": days[0].users, "item": days[0].items}
        id_kinds = {s: "string" if t[ID].dtype == pl.String else "int64" for s, t in kinds_of.items()}
        if self.id_kinds and self.id_kinds != id_kinds:
            raise UserError(f"day {days[0].day}: ids are {id_kinds}, the chain so far has {self.id_kinds}")
        return replace(self, numbers=numbers, vocabularies=vocabularies, id_kinds=id_kinds)

    # -- encoding ------------------------------------------------------------------------------------------------------

    def encode(self, frame: pl.DataFrame, side: str, per_event: bool | None = None) -> Encoded:
        """Rows of raw features (columns by feature name) as numbers; a column that is not there is all unknown."""
        n = len(frame)
        ids: list[npt.NDArray[np.int32]] = []
        sequences: list[npt.NDArray[np.int32]] = []
        floats: list[npt.NDArray[np.float32]] = []
        for f in self.of(side, per_event):
            values = frame[f.name] if f.name in frame.columns else pl.Series(f.name, [None] * n)
            if f.kind == "categorical":
                ids.append(self.vocabularies[f.embedding or ""].lookup(_scalar(f, values)))
            elif f.kind == "sequence":
                sequences.append(_padded(f, values, self.vocabularies[f.embedding or ""]))
            elif f.kind == "vector":
                floats.append(_vector(f, values))
            elif f.embedding:
                x = _number(f, values)
                edges = np.asarray(self.numbers[f.name]["edges"])
                ids.append(np.where(np.isnan(x), 0, 1 + np.searchsorted(edges, x, side="right")).astype(np.int32))
            else:
                known = self.numbers[f.name]
                x = (_number(f, values) - known["mean"]) / known["std"]
                floats.append(np.nan_to_num(np.clip(x, -10, 10), nan=0.0).astype(np.float32)[:, None])
        return Encoded(
            np.stack(ids, 1) if ids else np.zeros((n, 0), np.int32),
            tuple(sequences),
            np.concatenate(floats, 1) if floats else np.zeros((n, 0), np.float32),
        )

    def entities(self, day: Day, side: str, per_event: bool | None = False) -> Encoded:
        """The day's users or items as numbers, row by row of the day's table."""
        return self.encode(day.users if side == "user" else day.items, side, per_event)

    # -- at rest -------------------------------------------------------------------------------------------------------

    def write(self, folder: Path, more: dict[str, Any] | None = None) -> None:
        """features.json and vocabularies.parquet: how raw values become a model's inputs."""
        hashes = {n: {"hash": v.hash} for n, v in self.vocabularies.items() if isinstance(v, Buckets) and v.hash}
        described = {
            "format": FORMAT,
            "id_kinds": self.id_kinds,
            "features": [
                f.model_dump(mode="json", exclude_none=True)
                | self.numbers.get(f.name, {})
                | hashes.get(f.embedding or "", {})
                for f in self.features
            ],
            "embedding_rows": self.embedding_rows(),
            "layouts": {
                side: {"ids": list(lay.ids), "sequences": [list(s) for s in lay.sequences], "floats": lay.floats}
                for side in ("user", "item")
                if (lay := self.layout(side))
            },
            **(more or {}),
        }
        (folder / "features.json").write_text(json.dumps(described, indent=1, sort_keys=True, allow_nan=False) + "\n")
        columns = {"embedding": pl.String, "int_value": pl.Int64, "text_value": pl.String}
        frames = []
        for name, vocabulary in sorted(self.vocabularies.items()):
            if isinstance(vocabulary, Buckets):
                continue
            text = vocabulary.frame["value"].dtype == pl.String
            held = vocabulary.frame.rename({"value": "text_value" if text else "int_value"})
            missing = pl.lit(None, pl.Int64 if text else pl.String).alias("int_value" if text else "text_value")
            frames.append(held.with_columns(pl.lit(name).alias("embedding"), missing))
        order = [*columns, "row", "count", "last_seen"]
        schema = columns | {"row": pl.Int32, "count": pl.Int64, "last_seen": pl.Date}
        whole = pl.concat([f.select(order) for f in frames]) if frames else pl.DataFrame(schema=schema)
        pq.write_table(
            whole.to_arrow(compat_level=pl.CompatLevel.oldest()), folder / "vocabularies.parquet", compression="zstd"
        )

    @staticmethod
    def stored(folder: Path, features: tuple[Feature, ...]) -> Encoder:
        """The encoder of a published model, which must read the features that the config names today.

        Raises:
            UserError: 65 they differ; a model would take what it does not find for unknown.
        """
        encoder = Encoder.read(folder)
        then = {f.name: f.model_dump() for f in encoder.features}
        now = {f.name: f.model_dump() for f in features}
        if then != now:
            changed = next(n for n in (*then, *now) if then.get(n) != now.get(n))
            what = "is gone from" if changed not in now else "is new in" if changed not in then else "differs in"
            hint = "use a new workspace for other features"
            raise UserError(f"{folder}: the model's features are not the config's: {changed} {what} the config", hint)
        return encoder

    @staticmethod
    def read(folder: Path) -> Encoder:
        described = json.loads((folder / "features.json").read_text())
        if described["format"] != FORMAT:
            raise UserError(f"{folder}/features.json: format {described['format']}, this dmtl reads {FORMAT}")
        fields = set(Feature.model_fields)
        features, numbers, hashes = [], {}, {}
        for f in described["features"]:
            raw = {k: tuple(v) if isinstance(v, list) else v for k, v in f.items() if k in fields}
            features.append(Feature.model_validate(_only_set(raw)))
            rest = {k: v for k, v in f.items() if k not in fields}
            hashes[features[-1].embedding] = _HASHES.get(rest.pop("hash", ""))
            if rest:
                numbers[f["name"]] = rest
        whole = pl.from_arrow(pq.read_table(folder / "vocabularies.parquet"))
        assert isinstance(whole, pl.DataFrame)
        vocabularies: dict[str, Vocabulary | Buckets] = {}
        sizes = {f.embedding: f.hash_bucket_size for f in features if f.kind in ("categorical", "sequence")}
        for name, size in sizes.items():
            assert name is not None
            if size:
                vocabularies[name] = Buckets(size, hashes[name])
                continue
            held = whole.filter(pl.col("embedding") == name)
            value = "int_value" if held["int_value"].null_count() == 0 and len(held) else "text_value"
            vocabularies[name] = Vocabulary(held.select(pl.col(value).alias("value"), "row", "count", "last_seen"))
        return Encoder(tuple(features), vocabularies, numbers, described["id_kinds"])


def _only_set(raw: dict[str, Any]) -> dict[str, Any]:
    """A dumped feature without defaults that are refused on other kinds."""
    defaults = {name: info.default for name, info in Feature.model_fields.items()}
    return {k: v for k, v in raw.items() if k in ("name", "side", "kind") or v != defaults[k]}


# ---------------------------------------------------------------------------------------------------------------------
# Values of one column


def _scalar(f: Feature, values: pl.Series) -> pl.Series:
    """Categorical values as int64 or text; a whole float is the integer it was read from (null made it a float)."""
    if values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        if whole.null_count() > values.null_count():
            raise UserError(f"feature {f.name}: expected values within int64, got {values.max()!r}", "make it text")
        return whole
    if values.dtype == pl.Boolean:
        return values.cast(pl.Int64)
    if values.dtype.is_float():
        whole = values.fill_nan(None)
        if ((whole != whole.floor()) | (whole.abs() > 2.0**53)).any():
            raise UserError(f"feature {f.name}: a categorical value is not whole", "kind: numeric, or make it text")
        return whole.cast(pl.Int64)
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        return values.cast(pl.String)
    if values.dtype == pl.Null:
        return values
    raise UserError(f"feature {f.name}: expected integers or text, got {values.dtype}")


def _listed(f: Feature, values: pl.Series) -> pl.Series:
    if values.dtype == pl.String and f.separator is not None:
        return values.str.split(f.separator).list.eval(pl.element().filter(pl.element() != ""))
    if values.dtype == pl.Null:
        return values.cast(pl.List(pl.Int64))
    if isinstance(values.dtype, pl.Array):
        return values.arr.to_list()
    if not isinstance(values.dtype, pl.List):
        hint = "" if values.dtype != pl.String else "give separator, e.g. '|'"
        raise UserError(f"feature {f.name}: expected a list of values, got {values.dtype}", hint)
    return values


def _padded(f: Feature, values: pl.Series, vocabulary: Vocabulary | Buckets) -> npt.NDArray[np.int32]:
    """[n, max_length]: the last known values of each list, in order, padded with 0 on the right."""
    lists = _listed(f, values)
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    flat = lists.filter(pl.Series(lengths > 0)).explode() if lengths.any() else pl.Series([], dtype=pl.Int64)
    rows = vocabulary.lookup(_scalar(f, flat)) if len(flat) else np.zeros(0, np.int32)
    owner = np.repeat(np.arange(len(lengths)), lengths)[rows > 0]
    rows = rows[rows > 0]
    kept = np.bincount(owner, minlength=len(lengths))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(kept) - kept, kept)
    place -= np.repeat(np.maximum(kept - f.max_length, 0), kept)
    out = np.zeros((len(lengths), f.max_length), np.int32)
    out[owner[place >= 0], place[place >= 0]] = rows[place >= 0]
    return out


def _vector(f: Feature, values: pl.Series) -> npt.NDArray[np.float32]:
    out = np.zeros((len(values), f.dim or 0), np.float32)
    if values.dtype == pl.Null:
        return out
    if not isinstance(values.dtype, pl.List | pl.Array):
        raise UserError(f"feature {f.name}: expected a list of {f.dim} numbers, got {values.dtype}")
    lists = values.cast(pl.List(pl.Float32))
    lengths = lists.list.len()
    if len(bad := (lengths != f.dim).fill_null(False).arg_true()):
        raise UserError(f"feature {f.name}: expected {f.dim} numbers, got {lengths[int(bad[0])]} in row {int(bad[0])}")
    here = lists.is_not_null()
    flat = lists.filter(here).explode().to_numpy() if here.any() else np.zeros(0, np.float32)
    out[here.to_numpy()] = np.nan_to_num(flat.reshape(-1, f.dim or 1), posinf=0.0, neginf=0.0)
    return out


def _number(f: Feature, values: pl.Series) -> npt.NDArray[np.float64]:
    """As float64, NaN for null; log1p applied."""
    if values.dtype == pl.Null:
        return np.full(len(values), np.nan)
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        raise UserError(f"feature {f.name}: expected numbers, got {values.dtype}")
    x = values.cast(pl.Float64).to_numpy()
    x = np.where(np.isfinite(x), x, np.nan)
    return np.sign(x) * np.log1p(np.abs(x)) if f.transform == "log1p" else x


def _measure(f: Feature, values: list[pl.Series]) -> dict[str, Any]:
    x = np.concatenate([_number(f, v) for v in values])
    x = np.sort(x[~np.isnan(x)])  # sorted: sums then do not depend on the order of reading
    if f.boundaries is not None:
        return {"edges": list(f.boundaries)}
    if f.num_buckets is not None:
        if not len(x):
            return {"edges": []}
        return {"edges": np.unique(np.quantile(x, np.arange(1, f.num_buckets) / f.num_buckets)).tolist()}
    if not len(x) or x[0] == x[-1]:  # the deviation of equal numbers is rounding, not 0
        return {"mean": float(x[0]) if len(x) else 0.0, "std": 1.0}
    return {"mean": float(x.mean()), "std": float(x.std()) or 1.0}


def _grown(old: Vocabulary | Buckets | None, name: str, sharing: list[Feature], day: Day) -> Vocabulary | Buckets:
    """With what a day's events hold of the features that share an embedding; of buckets that is their type alone."""
    seen = [_seen(f, day) for f in sharing]
    told = {f.name: s["value"].dtype for f, s in zip(sharing, seen, strict=True) if s["value"].null_count() < len(s)}
    if len(set(told.values())) > 1:
        names = " and ".join(f"{feature} ({dtype})" for feature, dtype in told.items())
        raise UserError(f"features {names} share embedding {name}: expected values of one type")
    before = old.dtype if old is not None else None
    dtype = next(iter(told.values()), before)
    if before not in (None, dtype):  # before any value, a type is not known
        raise UserError(f"day {day.day}: values of {name} are {dtype}, before {before}")
    if size := sharing[0].hash_bucket_size:
        return Buckets(size, dtype)
    if not isinstance(old, Vocabulary) or before is None:
        old = Vocabulary.empty(dtype or pl.String())
    values = pl.concat([s.with_columns(pl.col("value").cast(old.frame["value"].dtype)) for s in seen])
    return old.grow(values, day.day, max(f.min_count for f in sharing))


def _seen(f: Feature, day: Day) -> pl.DataFrame:
    """Values of a feature in the day's events: `value`, `count` (events that have it). Users and items without events
    do not count: an embedding grows by what training will touch. Reading ends where enough is known: of numbers to
    measure them, of hashed values to tell their type."""
    if f.per_event:
        parts: list[pl.Series] = []
        rows = 0
        for block in day.blocks():
            assert block.features is not None
            parts.append(block.features[f.name])
            rows += len(block)
            if f.kind == "numeric" and rows >= _SAMPLE:
                break
            if f.hash_bucket_size and _flat(f, parts[-1]).drop_nulls().len():
                break
        values, counts = pl.concat(parts), None
    else:
        table, events = (day.users, day.user_events) if f.side == "user" else (day.items, day.item_events)
        active = pl.Series(events > 0)
        values, counts = table[f.name].filter(active), pl.Series("count", events[events > 0])
    if f.kind == "numeric":
        return pl.DataFrame({"value": values})
    flat = _flat(f, values)
    if counts is None or f.kind == "sequence":
        counts = pl.Series("count", np.ones(len(flat), np.int64))
    return pl.DataFrame({"value": flat, "count": counts})


def _flat(f: Feature, values: pl.Series) -> pl.Series:
    """Single values, as `_scalar` gives them; of lists one after the other."""
    if f.kind == "categorical":
        return _scalar(f, values)
    lists = _listed(f, values)
    flat = lists.filter(lists.list.len() > 0).explode() if len(lists) else lists
    return _scalar(f, flat) if len(flat) else pl.Series([], dtype=pl.Null)
