"""A profile at rest, and the values of features that it gives.

A folder has users.parquet and items.parquet, sorted by id, and profile.json: the day, the threshold of a long read, the
types of ids, and the prior of each rate.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.profile import FromProfile
from dmtl_cli.data.log.values.spool import frame_of
from dmtl_cli.data.profile.columns import (
    COUNT,
    FIRST,
    HISTORY,
    ID,
    LAST,
    Dtype,
    count_column,
    days_since,
    decayed,
    history_column,
)
from dmtl_cli.data.profile.plan import Rate
from dmtl_cli.data.profile.priors import Prior
from dmtl_cli.runs.contents import decoding, read_json

FORMAT = 1
GROUP = 65_536
"""rows of a row group, at most"""
_FACTS = "profile.json"
_KINDS = {"int64": pl.Int64(), "string": pl.String()}


_OTHERS = "use a new workspace for other features: days that are counted do not come back"


@dataclass(frozen=True)
class Profile:
    """What is known of users and items when a day ends. See `open`."""

    folder: Path
    day: dt.date
    threshold: float | None
    """seconds of a long read; None where a conversion is the label"""
    kinds: dict[str, pl.DataType]
    """type of ids by side"""
    priors: dict[Rate, Prior]

    @staticmethod
    def open(folder: Path) -> Profile:
        """Raises UserError: 65 it is of another format or damaged, 74 it cannot be read."""
        path = folder / _FACTS
        facts = read_json(path)
        if (found := facts.get("format")) != FORMAT:
            hint = "run dmtl build-profile of its day again, or use the dmtl that wrote it"
            raise UserError(f"{path}: format {found!r}, this dmtl reads {FORMAT}", hint)
        with decoding(path):
            priors = {Rate(*p["rate"]): Prior(float(p["mean"]), float(p["strength"])) for p in facts["priors"]}
            kinds = {side: _KINDS[facts["ids"][side]] for side in ("user", "item")}
            seconds = facts["threshold_seconds"]
            threshold = None if seconds is None else float(seconds)
            return Profile(folder, dt.date.fromisoformat(facts["day"]), threshold, kinds, priors)

    # -- reading -------------------------------------------------------------------------------------------------------

    def features(self, side: str, ids: pl.Series, features: Sequence[Feature], as_of: dt.date) -> pl.DataFrame:
        """The values of features, as they are when day `as_of` ends.

        Reads the row groups that may have one of the ids, one after the other: memory is what is returned.

        Args:
            ids: distinct, in any order.
            features: of that side, each with `profile`.
            as_of: the last day that the reader may know, on or after the profile's.

        Returns:
            [n] a column per feature by name: float32, or lists of item ids. An id that the profile does not have: a
            count is 0, a rate its prior mean, an age or a history null.

        Raises:
            UserError: 65 ids are of another type, or the profile was built without what a feature reads.
        """
        if as_of < self.day:
            raise ValueError(f"as of {as_of}, but the profile knows {self.day}")
        self.require_ids(side, ids.dtype, "the log")
        wanted = pl.DataFrame({ID: ids}).sort(ID)
        values = [self._value(f, as_of) for f in features]
        groups = self._groups(side, self._columns(side, features), wanted[ID])
        found = [_pick(rows, wanted).select(ID, *values) for rows in groups]
        whole = pl.DataFrame({ID: ids}).join(pl.concat(found), on=ID, how="left", maintain_order="left")
        unseen = self.unseen(features)
        return whole.select(pl.col(f.name).fill_null(unseen[f.name]) if f.name in unseen else f.name for f in features)

    def unseen(self, features: Sequence[Feature]) -> dict[str, float]:
        """What features of counts and rates are of an id that the profile lacks; ages and histories are null."""
        counts = {f.name: 0.0 for f in features if f.profile is not None and f.profile.count is not None}
        rates = [f for f in features if f.profile is not None and f.profile.rate is not None]
        return counts | {f.name: float(np.float32(self._prior(_rate(f)).mean)) for f in rates}

    def ids(self, side: str) -> pl.Series:
        """All ids, sorted."""
        return pl.concat([rows[ID] for rows in self._groups(side, [ID])])

    def first_seen(self, side: str) -> pl.DataFrame:
        """`id` and `first_seen`, the day of the first event, of every row, sorted by id."""
        return pl.concat([rows.select(ID, FIRST) for rows in self._groups(side, [ID, FIRST])])

    def counts(self, side: str, event: str, half_life_days: float | None, as_of: dt.date) -> pl.DataFrame:
        """`id` and `count` (float64) of every row where it is above 0, as it is when day `as_of` ends.

        Raises:
            UserError: 65 the profile was built without this counter.
        """
        column = count_column(event, half_life_days)
        self._require(side, [column])
        count = decayed(event, half_life_days, as_of).alias("count")
        rows = (group.select(ID, count) for group in self._groups(side, [ID, LAST, column]))
        return pl.concat([group.filter(pl.col("count") > 0) for group in rows])

    def rows(self, side: str, schema: Mapping[str, Dtype]) -> Iterator[pl.DataFrame]:
        """Stored rows, sorted by id, a row group at a time; a counter that is not stored is 0, a history empty."""
        here = self._schema(side)
        columns = [c for c in schema if c in here]
        missing = [
            pl.lit([] if isinstance(kind, pl.List) else 0, dtype=kind).alias(c)
            for c, kind in schema.items()
            if c not in here
        ]
        for group in self._groups(side, columns):
            if len(group):
                yield group.with_columns(missing).select(list(schema))

    def require_ids(self, side: str, kind: Dtype, where: str) -> None:
        """Raises UserError 65 where ids are of another type than the profile's."""
        if kind != self.kinds[side]:
            what = f"{where}: {side} ids are {_name(kind)}, the profile of {self.day} has {_name(self.kinds[side])}"
            raise UserError(what, "give the ids their former type, or use a new workspace")

    def _schema(self, side: str) -> list[str]:
        with decoding(_table(self.folder, side)):
            return list(pq.read_schema(_table(self.folder, side)).names)

    def _groups(self, side: str, columns: list[str], wanted: pl.Series | None = None) -> Iterator[pl.DataFrame]:
        """Row groups: the first, which tells types (one of no rows where there is none), and those that may have one of
        the wanted ids, which are sorted."""
        path = _table(self.folder, side)
        with decoding(path), pq.ParquetFile(path) as file:
            if not file.num_row_groups:
                yield frame_of(
                    file.read_row_groups([], columns)
                )  # schema.empty_table() imports pandas, where it is installed
            for k in range(file.num_row_groups):
                if k == 0 or wanted is None or _may_have(file.metadata.row_group(k).column(0).statistics, wanted):
                    yield self._checked(side, frame_of(file.read_row_group(k, columns, use_threads=False)))

    def _checked(self, side: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of a row group as they are. Raises ValueError: ids are not in order, or a column is of another type or
        has what no profile has."""
        types = {ID: self.kinds[side], FIRST: pl.Date(), LAST: pl.Date()}
        for name, column in zip(rows.columns, rows, strict=True):
            kind = types.get(name) or (pl.Float32() if name.startswith(COUNT) else column.dtype)
            if name.startswith(HISTORY):
                kind = pl.List(self.kinds["item"])
            if column.dtype != kind or column.null_count() or (kind == pl.Float32 and not column.is_finite().all()):
                raise ValueError(f"{name}: expected {kind}, no null and nothing that is not finite, got {column.dtype}")
        if not rows[ID].is_sorted():
            raise ValueError(f"{ID}: expected ids in order")
        return rows

    def _columns(self, side: str, features: Sequence[Feature]) -> list[str]:
        columns = {ID, LAST}
        for f in features:
            p = _from_profile(f)
            if p.history is not None:
                columns.add(history_column(p.history))
            elif p.age is not None:
                columns.add(p.age)
            else:
                events = [p.count] if p.count is not None else [_rate(f).event, _rate(f).base]
                columns |= {count_column(event, p.half_life_days) for event in events}
        self._require(side, sorted(columns))
        return sorted(columns)

    def _require(self, side: str, columns: list[str]) -> None:
        here = self._schema(side)
        if missing := [c for c in columns if c not in here]:
            what = f"{_table(self.folder, side)}: no column {missing[0]}: the profile was built for other features"
            raise UserError(what, _OTHERS)

    # -- values --------------------------------------------------------------------------------------------------------

    def _value(self, f: Feature, as_of: dt.date) -> pl.Expr:
        """A feature's value of stored rows."""
        p = _from_profile(f)
        if p.history is not None:
            return pl.col(history_column(p.history)).list.tail(f.max_length).alias(f.name)
        if p.count is not None:
            value = decayed(p.count, p.half_life_days, as_of)
        elif p.age is not None:
            value = days_since(p.age, as_of)
        else:
            rate = _rate(f)
            value = self._prior(rate).smoothed(rate, p.prior_strength, as_of)
        return value.cast(pl.Float32).alias(f.name)

    def _prior(self, rate: Rate) -> Prior:
        if rate not in self.priors:
            no = f"no prior of {rate.event} per {rate.of}"
            what = f"{self.folder / _FACTS}: {no}: the profile was built for other features"
            raise UserError(what, _OTHERS)
        return self.priors[rate]


def unknown(features: Sequence[Feature], ids: pl.Series) -> pl.DataFrame:
    """The columns of `Profile.features` where there is no profile yet: null in every row."""
    types = {f.name: pl.Null() if _from_profile(f).history is not None else pl.Float32() for f in features}
    return pl.DataFrame([pl.Series(name, [None] * len(ids), dtype=kind) for name, kind in types.items()])


# -- writing -----------------------------------------------------------------------------------------------------------


@contextmanager
def table_writer(folder: Path, side: str, empty: pl.DataFrame) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Writes the rows of a side, a row group a call. `empty`: a frame without rows, of their columns and types."""
    schema = _arrow(empty).schema
    with pq.ParquetWriter(_table(folder, side), schema, compression="zstd") as writer:
        yield lambda rows: writer.write_table(_arrow(rows).cast(schema), row_group_size=len(rows))


def write_facts(
    folder: Path, day: dt.date, threshold: float | None, ids: dict[str, Dtype], priors: dict[Rate, Prior]
) -> None:
    names = {side: _name(kind) for side, kind in ids.items()}
    fitted = [{"rate": [*vars(rate).values()], **vars(prior)} for rate, prior in priors.items()]
    facts = {"format": FORMAT, "day": str(day), "threshold_seconds": threshold, "ids": names, "priors": fitted}
    (folder / _FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def _arrow(frame: pl.DataFrame) -> Any:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _table(folder: Path, side: str) -> Path:
    return folder / f"{side}s.parquet"


def _name(kind: Dtype) -> str:
    return next((name for name, stored in _KINDS.items() if stored == kind), str(kind))


def _may_have(ids: pq.Statistics | None, wanted: pl.Series) -> bool:
    if ids is None or not ids.has_min_max:
        return True
    return bool(wanted.search_sorted(ids.min, side="left") < wanted.search_sorted(ids.max, side="right"))


def _pick(rows: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """The rows whose ids are wanted; both are sorted by id."""
    if not len(rows):
        return rows
    start = int(wanted[ID].search_sorted(rows[ID][0], side="left"))
    end = int(wanted[ID].search_sorted(rows[ID][-1], side="right"))
    return rows.join(wanted[start:end], on=ID, how="semi")


def _from_profile(f: Feature) -> FromProfile:
    assert f.profile is not None, f.name
    return f.profile


def _rate(f: Feature) -> Rate:
    p = _from_profile(f)
    assert p.rate is not None and p.of is not None
    return Rate(f.side, p.rate, p.of, p.half_life_days)
