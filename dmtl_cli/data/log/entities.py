"""The users and items of a day: the ids of its events and of its side tables, with their raw features."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

import numpy as np
import polars as pl

from dmtl_cli.config.data import Data
from dmtl_cli.config.days import Moment
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.checks import Checked, Together
from dmtl_cli.data.log.checked.day import ID, TIME
from dmtl_cli.data.log.checked.firsts import AT
from dmtl_cli.data.log.files.rows import TableRows
from dmtl_cli.data.log.files.table import Table

_VERSION, _ENDED = ":version", ":ended"
_LATE = 0.01  # of the first events may come on another day than that of their folder


class Entities:
    """The users, or the items, of a day.

    Args:
        side: user or item.
        table: the side table; None: ids and features are those of the events.
        features: all that the log reads.
        day: as whose morning the side table is read.
        at: the moment as of which it is read; default the midnight that begins the day.
        zoneless: whether the events' times are of texts that name no zone: see `Table.is_zoneless`.
    """

    def __init__(
        self,
        data: Data,
        side: str,
        table: Table | None,
        features: Sequence[Feature],
        day: dt.date,
        zoneless: bool = False,
        at: Moment | None = None,
    ) -> None:
        self.at = at or Moment.begin(day, data.timezone)
        self.side, self.table, self.day, self.timezone = side, table, day, data.timezone
        self.features = [f for f in features if f.side == side]
        self.keys = [data.events.user if side == "user" else data.events.item]
        self.version: str | None = None
        self.until: str | None = None
        self._only_orders = False
        self._version_zone = data.timezone
        self._zoneless = {TIME: zoneless}
        self._of_events = data.clocks_of_events
        if (beside := data.users if side == "user" else data.items) is not None:
            self.keys.append(beside.key)
            self.version, self._version_zone = beside.version, beside.version_timezone or data.timezone
            self._only_orders = beside.version_only_orders
            self._zoneless[_VERSION] = bool(data.is_zoneless(beside, beside.version))
            self.until, self._is_last_day = beside.until, beside.until_is_last_day
            self._zoneless[_ENDED] = bool(data.is_zoneless(beside, beside.until))

    @property
    def columns(self) -> set[str]:
        """Those that the side table is asked for."""
        named = {self.keys[-1], *(f.source for f in self.features)}
        return named | self._told

    @property
    def is_timed(self) -> bool:
        """Whether a time within the day may tell since when a row is there."""
        return self.version is not None and not self._only_orders

    @property
    def _told(self) -> set[str]:
        """The columns that tell which rows a morning knows."""
        return {c for c in (self.version, self.until) if c}

    def join(self, seen: pl.DataFrame, known: pl.Series | None = None) -> tuple[pl.DataFrame, float]:
        """All of the day, sorted by id, and the share of those seen in events that the side table has. What has ended
        as the day begins is of it where it is seen in events.

        Args:
            seen: `:id` and `:at` of each id in the events; with `_time`, of the first event, ids that the table's
                versions do not know as the day begins have their first one if it was there before.
            known: distinct ids that belong to the day whether or not its events or table have them.

        Returns:
            `:id`, `:at` (null of one that is in the side table alone), and the side table's features by name.

        Raises:
            UserError: 65 an id or a value does not fit, an id appears twice, ids are not of the type in the events.
        """
        if known is not None:
            known = self._same_type(known, seen)
        if self.table is None:
            whole = seen if known is None else pl.DataFrame({ID: known}).join(seen, on=ID, how="full", coalesce=True)
            return whole.sort(ID), 1.0
        table = self._rows(self._named, seen.select(ID, TIME) if TIME in seen.columns else None)
        seen = seen.select(ID, AT)
        if table[ID].dtype != seen[ID].dtype:
            in_events = f"{self.keys[0]} of the events is {_id_kind(seen[ID].dtype)}"
            in_table = f"{self.table.where}: {self.side} ids in column {self.keys[-1]} are {_id_kind(table[ID].dtype)}"
            raise UserError(
                f"{in_table}, but {in_events}: expected one type", "write both as integers, or both as text"
            )
        rate = len(seen.join(table, on=ID, how="semi")) / max(1, len(seen))
        if self.until:
            table = table.filter(~pl.col(_ENDED) | pl.col(ID).is_in(seen[ID].implode())).drop(_ENDED)
        if known is not None:
            table = table.join(pl.DataFrame({ID: known}), on=ID, how="full", coalesce=True)
        return table.join(seen, on=ID, how="full", coalesce=True).sort(ID), rate

    def listed(self, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
        """The side table without what has ended as the day begins: `:id`, and features by name (but for the key).

        Args:
            columns: in place of features, by the names that they are given.

        Raises:
            UserError: 65 as `join` does of a table.
        """
        found = self._rows(self._named if columns is None else columns)
        return found.filter(~found[_ENDED]).drop(_ENDED) if self.until else found

    def ended(self) -> tuple[pl.Series, int]:
        """(ids of the side table that have ended as the day begins, how many it has), of a table with `until`. Raises
        as `listed`."""
        found = self._rows({})
        return found[ID].filter(found[_ENDED]), len(found)

    def coming(self) -> tuple[pl.Series, int]:
        """(ids of the side table that are not there yet, how many it has), of a table with `version`. Raises as
        `listed`."""
        assert self.table is not None
        there, key = self._rows({})[ID], self.keys[-1]
        ids = pl.concat(rows.ids(key) for rows in TableRows(self.table, types={}).held({key})).unique()
        return ids.filter(~ids.is_in(there.implode())), len(ids)

    @property
    def _named(self) -> dict[str, str]:
        """The columns of features that the side table has, by the features' names."""
        table, key = self.table, self.keys[-1]
        assert table is not None
        read = [f for f in self.features if not f.per_event and table.has(f.source) and f.source != key]
        return {f.name: f.source for f in read}

    def _same_type(self, known: pl.Series, seen: pl.DataFrame) -> pl.Series:
        """Raises UserError 65 where ids known before are integers and those of the events text, or the reverse."""
        if known.dtype != seen[ID].dtype:
            now, before = _id_kind(seen[ID].dtype), _id_kind(known.dtype)
            what = f"{self.keys[0]} of the events is {now}, but {self.side} ids of earlier days are {before}"
            raise UserError(what, "give the ids their former type, or use a new workspace")
        return known

    def complete(self, joined: pl.DataFrame, firsts: pl.DataFrame) -> pl.DataFrame:
        """`:id` and all features by name, in the config's order.

        Args:
            joined: as `join` gives them, or rows of that one after the other.
            firsts: inline features of the ids in the events, in the order of their first events.
        """
        if inline := [c for c in firsts.columns if c not in joined.columns]:
            place = _order_of(joined[AT])
            joined = joined.with_columns(firsts.select(pl.col(inline).gather(place)))
        columns = [joined[ID]]
        for f in self.features:  # the id itself is a feature under its key's name, known for every row
            columns.append((joined[ID] if f.source in self.keys and not f.per_event else joined[f.name]).alias(f.name))
        return pl.DataFrame(columns)

    def read(self, columns: Mapping[str, str], *, whole_day: bool = False) -> pl.DataFrame:
        """The side table with what has ended too: `:id`, and columns of it by the names that they are given. Raises as
        `listed`.

        Args:
            whole_day: whether an id that no version knows as the day begins has the first one of the day.
        """
        return self._rows(columns, whole_day=whole_day).drop(_ENDED, strict=False)

    def _rows(
        self, columns: Mapping[str, str], seen: pl.DataFrame | None = None, *, whole_day: bool = False
    ) -> pl.DataFrame:
        """As `read`, with `:ended` where the config tells when an id ends.

        Args:
            seen: `:id` and `_time` of the first event: see `join`.
        """
        assert self.table is not None
        table, key = self.table, self.keys[-1]
        for column in columns.values():
            table.require(column, f"data.{self.side}s expects")
        named = {*columns.values()} | self._told
        types = {c: table.type(c) for c in sorted(named - {key})}
        blocks, frames = TableRows(table, types=types).held({*types, key}), []
        for rows in blocks:
            told = {_VERSION: self.version, _ENDED: self.until}
            version = [rows.frame[column].alias(name) for name, column in told.items() if column]
            read = [rows.frame[column].alias(name) for name, column in columns.items()]
            frames.append(pl.DataFrame([rows.ids(key).alias(ID), *version, *read]))
        whole = pl.concat(frames)
        if self.until:
            until = Together(whole.select(pl.col(_ENDED).alias(self.until)), blocks)
            whole = whole.with_columns(self._has_ended(until, self.until).alias(_ENDED))
        place = f"{table.files[0].parent if len(table.files) > 1 else table.files[0]}: key {key}"
        if self.version:
            return self._newest(whole, blocks, place, seen, whole_day)
        if (twice := whole[ID].is_duplicated()).any():
            hint = f"write one row per id and day, or name what tells them apart in data.{self.side}s.version"
            raise UserError(f"{place} = {whole[ID].filter(twice)[0]!r} appears twice", hint)
        return whole

    def _has_ended(self, until: Together, column: str) -> pl.Series:
        zone, zoneless, last = self._version_zone, self._zoneless[_ENDED], self._is_last_day
        return until.ended(column, self.timezone, self.at, is_last_day=last, zoneless=zoneless, zone=zone)

    def _newest(
        self,
        whole: pl.DataFrame,
        blocks: Sequence[Checked],
        place: str,
        seen: pl.DataFrame | None,
        whole_day: bool,
    ) -> pl.DataFrame:
        """The row of each id with its greatest version of those that are there as the day begins; see `join` and `read`
        of those that have none.

        Args:
            blocks: where the rows were read.
        """
        assert self.version is not None
        versions = Together(pl.DataFrame({self.version: whole[_VERSION]}), blocks)
        zoneless, zone = self._zoneless[_VERSION], self._version_zone
        timezone = self.timezone or ("UTC" if self._only_orders else None)
        order, there = versions.version(self.version, timezone, self.at, zoneless=zoneless, zone=zone)
        there = there | self._only_orders
        whole = whole.with_columns(order.alias(_VERSION))
        newest = self._one_of(whole.filter(there), "last", place)
        if whole_day and order.dtype == pl.Datetime:
            today = order.dt.convert_time_zone(self.timezone or "UTC").dt.date() == self.day
            mine = whole.filter(today & ~there).join(newest, on=ID, how="anti")
            newest = pl.concat([newest, self._one_of(mine, "first", place)])
        if seen is not None and order.dtype == pl.Datetime and (came := self._moments(seen)) is not None:
            mine = whole.filter(~there).join(newest, on=ID, how="anti").join(came, on=ID)
            mine = mine.filter(pl.col(_VERSION) <= pl.col(TIME)).drop(TIME)
            newest = pl.concat([newest, self._one_of(mine, "first", place)])
        return newest.drop(_VERSION)

    def _one_of(self, rows: pl.DataFrame, keep: Literal["first", "last"], place: str) -> pl.DataFrame:
        """The row of each id with its least or greatest version. Raises UserError 65 where two are of one version."""
        known = rows.sort(_VERSION, maintain_order=True)
        one = known.unique(ID, keep=keep, maintain_order=True)
        alike = known.join(one, on=[ID, _VERSION], how="semi", nulls_equal=True)
        if len(alike) > len(one):
            who = alike.filter(alike[ID].is_duplicated())[0]
            what = f"{place} = {who[ID][0]!r} appears twice with version {self.version} = {who[_VERSION][0]}"
            raise UserError(what, "write one row per id and version")
        return one

    def _moments(self, seen: pl.DataFrame) -> pl.DataFrame | None:
        """`:id` and the instant of its first event, of those that come on the local day; None where the log's time only
        orders rows. What is on another day by its number is no instant: an offset, or a time since midnight.

        Times that name no zone are read so that most come on the day, or, where both readings do, as the earlier of
        them: nothing is known before it was.
        """
        times = Checked(seen.select(TIME), "events", 0)
        with suppress(UserError):
            readings = [times.local(TIME, z, zoneless=self._zoneless[TIME]) for z in self._of_events]
            if readings[0].dtype == pl.Datetime:
                came = [len(self._of_the_day(at.alias(TIME).to_frame())) for at in readings]
                fit = [at for at, n in zip(readings, came, strict=True) if n >= (1 - _LATE) * max(came)]
                return self._of_the_day(seen.select(ID, pl.min_horizontal(fit).alias(TIME)))
        return None

    def _of_the_day(self, came: pl.DataFrame) -> pl.DataFrame:
        """The rows whose `_time`, an instant, is on the local day; in an hour that comes twice it is of the first."""
        noon, zone = dt.datetime.combine(self.day, dt.time(12), dt.UTC), self.timezone or "UTC"
        near = dt.timedelta(days=2)  # zones are not known of every year that a number may be
        came = came.filter(pl.col(TIME).is_between(noon - near, noon + near))
        wall = came[TIME].dt.convert_time_zone(zone).dt.replace_time_zone(None)
        first = wall.dt.replace_time_zone(zone, ambiguous="earliest").dt.convert_time_zone("UTC")
        return came.with_columns(first.alias(TIME)).filter(wall.dt.date() == self.day)


def _order_of(at: pl.Series) -> pl.Series:
    """The place of each position among all of them; null for null."""
    if at.null_count():
        return at.rank("ordinal") - 1
    place = np.empty(len(at), np.int64)
    place[np.argsort(at.to_numpy())] = np.arange(len(at))
    return pl.Series(place)


def _id_kind(dtype: pl.DataType) -> str:
    return "int64" if dtype == pl.Int64 else "string"
