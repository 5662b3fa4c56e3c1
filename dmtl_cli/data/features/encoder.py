"""Raw feature values -> integer and float tables, by what the days of a chain taught about them.

Row 0 of every embedding is the out-of-vocabulary (OOV) row: null, never seen, or not admitted yet. A vocabulary only
grows and a hash is frozen, so a row keeps its meaning, its weights and its optimizer state from day to day. What one
kind of feature does is in `kinds`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.buckets import Buckets
from dmtl_cli.data.features.growth import day_values, grown, share_once
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.features.kinds.kind import Kind, Learned
from dmtl_cli.data.features.layout import Array, Encoded, FloatColumns, IdColumn, Layout, PaddedSequence
from dmtl_cli.data.features.stored import Stored, read_files, write_files
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.values import sizes


@dataclass(frozen=True)
class Encoder:
    """Every feature of one model, with what was learned about its values."""

    features: tuple[Feature, ...]
    vocabularies: dict[str, Vocabulary | Buckets] = field(default_factory=dict)
    """by embedding of ids"""
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by feature: {"edges": [...]} or {"mean", "std"}; none of one whose values were null on every day so far"""
    id_kinds: dict[str, str] = field(default_factory=dict)
    """user, item -> int64 | string"""

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """One per feature, in the order of the features."""
        return tuple(map(kind_of, self.features))

    @property
    def learned(self) -> Learned:
        return Learned(self.vocabularies, self.numbers)

    # -- shape ---------------------------------------------------------------------------------------------------------

    def features_of_side(self, side: str, per_event: bool | None = None) -> list[Feature]:
        """In column order: entity-level, then event-level; of one level alone unless `per_event` is None."""
        return [kind.feature for kind in self._kinds_of_side(side, per_event)]

    def _kinds_of_side(self, side: str, per_event: bool | None = None) -> list[Kind]:
        chosen = [k for k in self.kinds if k.feature.side == side and per_event in (None, k.feature.per_event)]
        return sorted(chosen, key=lambda kind: kind.feature.per_event)

    def layout(self, side: str) -> Layout:
        return Layout.from_parts([kind.part for kind in self._kinds_of_side(side)])

    def numeric_columns(self, side: str) -> dict[str, int]:
        """By name of the features that are a number as it is, where it is among the floats of its side."""
        parts = [(kind.feature, kind.part) for kind in self._kinds_of_side(side)]
        floats = [(f, part.width) for f, part in parts if isinstance(part, FloatColumns)]
        starts = accumulate((width for _, width in floats), initial=0)
        return {f.name: at for (f, _), at in zip(floats, starts, strict=False) if f.kind == "numeric"}

    def columns(self, name: str) -> range:
        """Where an embedded feature is in [ids, sequence, sequence, ...] of its side, [n, C + sum of L]."""
        (side,) = (f.side for f in self.features if f.name == name)
        parts = [(kind.feature.name, kind.part) for kind in self._kinds_of_side(side)]
        embedded = [(other, part) for other, part in parts if not isinstance(part, FloatColumns)]
        embedded.sort(key=lambda pair: isinstance(pair[1], PaddedSequence))
        widths = [part.length if isinstance(part, PaddedSequence) else 1 for _, part in embedded]
        k = [other for other, _ in embedded].index(name)
        return range(sum(widths[:k]), sum(widths[: k + 1]))

    def embedding_rows(self) -> dict[str, int]:
        """Rows of each embedding, the OOV row included."""
        rows = {name: v.rows for name, v in self.vocabularies.items()}
        for kind in self.kinds:
            if (own := kind.own_rows(self.learned)) is not None:
                rows[kind.embedding] = own
        return rows

    # -- learning ------------------------------------------------------------------------------------------------------

    def grow(self, days: list[Day]) -> Encoder:
        """The encoder with what these days add. Statistics are measured only where there are none yet.

        Raises:
            UserError: 65 values of a type that a feature does not read, or of another type than before.
        """
        numbers = dict(self.numbers)
        for kind in self.kinds:
            if kind.is_measured and kind.feature.name not in numbers:
                measured = kind.measure([values for day in days for values, _ in day_values(kind, day)])
                numbers |= {kind.feature.name: measured} if measured else {}
        sharing: dict[str, list[Kind]] = {}
        for kind in self.kinds:
            if kind.has_vocabulary:
                sharing.setdefault(kind.embedding, []).append(kind)
        vocabularies = dict(self.vocabularies)
        for day in days:
            for name, kinds in sharing.items():
                vocabularies[name] = grown(vocabularies.get(name), kinds, day)
        return replace(self, numbers=numbers, vocabularies=vocabularies, id_kinds=self._id_kinds(days[0]))

    def _id_kinds(self, day: Day) -> dict[str, str]:
        tables = {"user": day.users, "item": day.items}
        id_kinds = {side: "string" if t[ID].dtype == pl.String else "int64" for side, t in tables.items()}
        if self.id_kinds and self.id_kinds != id_kinds:
            hint = "give the ids their former type, or use a new workspace"
            side = next(side for side, kind in id_kinds.items() if kind != self.id_kinds[side])
            what = f"day {day.day}: {side} ids are {id_kinds[side]}, the chain so far has {self.id_kinds[side]}"
            raise UserError(what, hint)
        return id_kinds

    # -- encoding ------------------------------------------------------------------------------------------------------

    def encode(self, frame: pl.DataFrame, side: str, per_event: bool | None = None) -> Encoded:
        """Rows of raw features (columns by feature name) as numbers; a column that is not there is null in each."""
        n = len(frame)

        def raw(name: str) -> pl.Series:
            return frame[name] if name in frame.columns else pl.Series(name, [None] * n)

        kinds = self._kinds_of_side(side, per_event)
        return Encoded.from_parts(n, ((k.part, k.encode(raw(k.feature.name), self.learned)) for k in kinds))

    def replaced(self, encoded: Encoded, side: str, given: pl.DataFrame, *, nulls: bool) -> Encoded:
        """The encoded rows [n] with some raw features [n] in place of theirs, of types of their own.

        Args:
            nulls: whether a null is given too, as unknown; else it leaves what there is.
        """
        kinds = {kind.feature.name: kind for kind in self._kinds_of_side(side)}
        parts = dict(zip(kinds, encoded.parts(kind.part for kind in kinds.values()), strict=True))
        for name in (name for name in given.columns if name in kinds):
            there = given[name].is_not_null() | nulls
            parts[name] = parts[name].copy()
            parts[name][there.to_numpy()] = kinds[name].encode(given[name].filter(there), self.learned)
        return Encoded.from_parts(len(encoded), ((kind.part, parts[name]) for name, kind in kinds.items()))

    def entities(self, day: Day, side: str, per_event: bool | None = False) -> Encoded:
        """The day's users or items as numbers, row by row of the day's table; those of a table that lies in a file lie
        in files beside the day's spool."""
        table = day.users if side == "user" else day.items
        if len(table) <= sizes.HELD:
            return self.encode(table, side, per_event)
        parts = (self.encode(part, side, per_event) for part in table.iter_slices(sizes.SLICE))
        return Encoded.in_files(day.spool.file.parent, parts)

    def reordered(self, encoded: Encoded, side: str, name: str, order: Array) -> Encoded:
        """The encoded rows [n] of a side with one feature's values taken from the rows [n] that `order` names."""
        kinds = self._kinds_of_side(side)
        (k,) = (k for k, kind in enumerate(kinds) if kind.feature.name == name)
        mine, before = kinds[k].part, [kind.part for kind in kinds[:k]]
        ids, sequences, floats = encoded.ids.copy(), list(encoded.sequences), encoded.floats.copy()
        at = sum(isinstance(part, type(mine)) for part in before)
        if isinstance(mine, IdColumn):
            ids[:, at] = ids[order, at]
        elif isinstance(mine, PaddedSequence):
            sequences[at] = sequences[at][order]
        else:
            first = sum(part.width for part in before if isinstance(part, FloatColumns))
            columns = slice(first, first + mine.width)
            floats[:, columns] = floats[order, columns]
        return Encoded(ids, tuple(sequences), floats)

    # -- facts ---------------------------------------------------------------------------------------------------------

    def seen_once(self, days: list[Day]) -> dict[str, float]:
        """By categorical feature the share of the days' events whose value these days had once, and none before.

        Features that admit no such value, or have no vocabulary, are left out.

        Args:
            days: the last ones that it grew by.
        """
        out: dict[str, float] = {}
        for kind in self.kinds:
            f = kind.feature
            vocabulary = self.vocabularies.get(kind.embedding)
            if f.kind == "categorical" and f.min_count == 1 and isinstance(vocabulary, Vocabulary):
                out[f.name] = share_once(kind, vocabulary, days)
        return out

    def describe(self, day: Day, name: str) -> dict[str, Any]:
        """What `check` says of one feature: name, side, kind, its column where that is called otherwise, the rows of
        its embedding, the share of the day's active users, items or events that have no known value, and further facts
        of its kind."""
        (kind,) = (k for k in self.kinds if k.feature.name == name)
        f = kind.feature
        facts: dict[str, Any] = {"name": name, "side": f.side, "kind": f.kind}
        facts |= {"column": f.source} if f.profile is None and f.source != name else {}
        if not isinstance(kind.part, FloatColumns):
            facts |= {"embedding": kind.embedding, "embedding_rows": self.embedding_rows()[kind.embedding]}
        if not f.per_event:
            values = pl.concat([values for values, _ in day_values(kind, day)])
            return facts | kind.describe(values, kind.encode(values, self.learned))
        nulls = total = 0
        for values in day.values(name):
            nulls, total = nulls + values.null_count(), total + len(values)
        return facts | {"unknown_share": round(nulls / max(1, total), 4)}

    # -- at rest -------------------------------------------------------------------------------------------------------

    def write(self, folder: Path, more: dict[str, Any] | None = None, key: str = "") -> None:
        """features.json and vocabularies.parquet: how raw values become a model's inputs.

        Args:
            more: JSON values that features.json has beside its own.
            key: the run's, where the files are to carry it.
        """
        layouts = {side: self.layout(side) for side in ("user", "item")}
        facts = {
            "embedding_rows": self.embedding_rows(),
            "layouts": {
                side: {"ids": list(lay.ids), "sequences": [list(s) for s in lay.sequences], "floats": lay.floats}
                for side, lay in layouts.items()
            },
        }
        write_files(folder, Stored(self.features, self.learned, self.id_kinds), facts | (more or {}), key)

    @staticmethod
    def read(folder: Path, *, lazily: bool = False) -> Encoder:
        """What `write` wrote; `lazily` without reading vocabularies, whose values are looked up in their file."""
        features, learned, id_kinds = read_files(folder, lazily=lazily)
        return Encoder(features, learned.vocabularies, learned.numbers, id_kinds)

    @staticmethod
    def stored(folder: Path, features: tuple[Feature, ...]) -> Encoder:
        """The encoder of a published model, which must read the features that the config names today.

        Raises:
            UserError: 65 they differ; a model would read null for a feature that it does not find.
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
