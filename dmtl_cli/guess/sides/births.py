"""In which zone times are since which items are there, where they name none: no item is shown before it is there."""

from __future__ import annotations

import math
from contextlib import suppress

import polars as pl
import pyarrow as pa

from dmtl_cli.config.data import Data, SideTable
from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.data.log.checked.day import ID, TIME, Day
from dmtl_cli.data.log.files.rows import frames
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.types import iso_times, localized
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.words import count
from dmtl_cli.guess.columns.zones import Zone, in_utc, is_naive
from dmtl_cli.guess.sides.side_tables import Side

_LEAST = 5  # items that are shown so near to their time that zones differ
_FEW = 0.1  # of these may be shown before it, as an item that comes again
_MOST = 14  # hours that a zone is ahead of UTC
_HOUR = 3_600_000_000
_ROWS = 65_536
Told = tuple[str, str]
"""a zone's name, and why"""


def zone_told(shown: pl.Series, since: pl.Series, local: str) -> Told | None:
    """The zone in which no, or hardly an, item is shown before its time, and the first soon after it: UTC, the local
    one or, where neither is, one that is so many whole hours ahead of UTC; None where too few items tell it.

    Args:
        shown: [n] instants in UTC when items were first shown.
        since: [n] of these, times that name no zone.
        local: the zone of the log's days.
    """
    rows = pl.DataFrame({"at": shown, "since": since}).drop_nulls()
    if not len(rows):
        return None
    at, since = rows["at"].dt.convert_time_zone("UTC").dt.cast_time_unit("us"), rows["since"].dt.cast_time_unit("us")
    after = {zone: (at - localized(since, zone)).dt.total_microseconds() for zone in ("UTC", local)}
    least, *_, most = sorted([*after] * 2, key=lambda zone: float(after[zone].mean() or 0))  # type: ignore[arg-type]
    apart = after[most] - after[least]
    before, soon = after[least] < 0, (after[least] >= 0) & (after[least] < apart)
    unexplained = int((after[most] < 0).sum())
    near = int((before & (after[most] >= 0)).sum()) + int(soon.sum())
    if unexplained >= max(_LEAST, _FEW * near):
        return _ahead(after["UTC"])
    if near < _LEAST:
        return None
    early, hours = int(before.sum()), f"{float(apart.median() or 0) / _HOUR:g} hours"  # type: ignore[arg-type]
    if early <= _FEW * near:
        so = f"so {count(int(soon.sum()), 'item')} are first shown within {hours} of it"
        return least, f"{so}, {early or 'none'} before"
    if early < _LEAST:
        return None
    return most, f"in {least} {count(early, 'item')} would be shown before it, {unexplained or 'none'} so"


def _ahead(after: pl.Series) -> Told | None:
    """The zone that is ahead of UTC by the hours that items seem to be shown before their time. [n] microseconds"""
    early = -after.filter((after < 0) & (after >= -_MOST * _HOUR))
    soon = int(((after >= 0) & (after < _MOST * _HOUR)).sum())
    if len(early) < _LEAST or len(early) <= _FEW * soon or (after < -_MOST * _HOUR).sum() > _FEW * len(early):
        return None
    hours = math.ceil(float(early.max() or 0) / _HOUR)  # type: ignore[arg-type]
    seen = f"in UTC {count(len(early), 'item')} would be shown up to {hours} hours before it"
    return f"Etc/GMT-{hours}", f"{seen}, none so"


def naive(s: pl.Series) -> pl.Series | None:
    """Times that name no zone; None where a column has others."""
    if isinstance(s.dtype, pl.Datetime):
        return s if is_naive(s, "timestamp") else None
    if s.dtype != pl.String or not is_naive(s, "text"):
        return None
    found = iso_times(s)
    return None if found.null_count() == len(found) else found.dt.replace_time_zone(None)


def of_sample(side: Side, frame: pl.DataFrame, roles: Roles, zone: Zone) -> Told | None:
    """See `zone_told`: by the rows of a sample of events; None too where it is the zone of the log's days.

    Args:
        side: with a version.
        zone: of the log's days.
    """
    table, version = side.table.frame, side.version
    if version is None or not version.is_birth or roles.item is None or roles.time is None or roles.time_unit is None:
        return None
    if version.column == roles.time.column:  # a type of its name is that of the events' time too
        return None
    since = naive(table[version.column])
    at = in_utc(frame[roles.time.column], roles.time_unit, zone.name if zone.is_local else "UTC")
    if since is None or at is None:
        return None
    shown = pl.DataFrame({"id": frame[roles.item.column].cast(pl.String), "at": at})
    born = pl.DataFrame({"id": table[side.key.column].cast(pl.String), "since": since})
    told = _by_items(shown, born, zone.name)
    return None if told is None or told[0] == zone.name else told


def of_day(data: Data, day: Day, schema: Schema, zone: str) -> tuple[Told | None, bool]:
    """See `zone_told`: by a day that was read; None too where the config has this zone. And whether it could be told.

    Args:
        zone: data.timezone.
    """
    items, table = data.items, schema.sides.get("item")
    if items is None or items.version is None or items.version_only_orders or table is None:
        return None, False
    shown, born = _shown(data, day, schema, zone), _born(items, table)
    if shown is None or born is None:
        return None, False
    told = _by_items(shown, born, zone)
    return (None if told is None or told[0] == (items.version_timezone or zone) else told), told is not None


def _by_items(shown: pl.DataFrame, born: pl.DataFrame, zone: str) -> Told | None:
    first = shown.group_by("id").agg(pl.col("at").min()).join(born, on="id")
    return zone_told(first["at"], first["since"], zone)


def _shown(data: Data, day: Day, schema: Schema, zone: str) -> pl.DataFrame | None:
    """`id` and `at` of the first event of each item; None where the log's times are no instants, or it is not known in
    which of both zones they are that name none: in the right one they are of the day."""
    time = data.events.time
    if time is None:
        return None
    parts = day.spool.read(day.spool.whole, sizes.BLOCK, ["item", TIME])
    first = pl.concat([part.group_by("item").agg(pl.col(TIME).min()) for part in parts])
    first = first.group_by("item").agg(pl.col(TIME).min())
    kind = pl.Series(pa.array([], schema.events.type(time))).dtype
    times = first[TIME].cast(kind) if kind.is_temporal() else first[TIME]
    checked, zoneless = Checked(times.to_frame(), "events", 0), schema.events.is_zoneless(data, data.events, time)
    with suppress(UserError):
        readings = [checked.local(TIME, one, zoneless=zoneless) for one in data.clocks_of_events]
        if readings[0].dtype != pl.Datetime:
            return None
        mine = [int((at.dt.convert_time_zone(zone).dt.date() == day.day).sum()) for at in readings]
        if mine[0] == mine[-1] and not readings[0].equals(readings[-1]):
            return None
        ids = day.items[ID].gather(first["item"]).cast(pl.String)
        return pl.DataFrame({"id": ids, "at": readings[mine.index(max(mine))]})
    return None


def _born(items: SideTable, table: Table) -> pl.DataFrame | None:
    """`id` and `since` of each item; None where one has several rows, or times name a zone."""
    assert items.version is not None
    names = [items.key, items.version]
    parts = [frame for file in table.files for frame in frames(table, file, names, _ROWS)]
    rows = pl.concat(parts, how="vertical_relaxed")
    since = naive(rows[items.version])
    if since is None or rows[items.key].is_duplicated().any():
        return None
    return pl.DataFrame({"id": rows[items.key].cast(pl.String), "since": since})
