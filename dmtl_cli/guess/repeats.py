"""The id of an exposure of which a log has several rows, and the lines of polars that keep one of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.places import Places
from dmtl_cli.data.log.schema import Table
from dmtl_cli.data.log.source import Store
from dmtl_cli.data.log.types import booleans
from dmtl_cli.guess.rewrites import polars_column, quoted
from dmtl_cli.guess.rows import first_rows, head, names_of

_OWN = 0.5  # of the rows have an id of their own
_SAME = 0.98  # of the ids that repeat are of one user and item
_MOST, _BLOCK = 5_000_000, 65_536  # rows that are looked at, and at a time
_WORDS = 2_000  # rows of a CSV by which the words of clicks are told


def repeated_ids(config: Config, day: dt.date, table: Table, unread: Iterable[str]) -> dict[str, Any] | None:
    """The column that has an id of nearly every row, some of which have several rows of one user and item: its name
    (`column`), how many rows repeat an earlier one (`repeats`), of how many (`rows`), and the lines that keep of each
    id the row with the click, else the latest (`polars`). None where no column is so.

    Args:
        table: of the day's events; where a column tells the day, its files may have other days too.
        unread: columns that nothing reads.
    """
    events, names = config.data.events, names_of(table)
    if not {events.user, events.item} <= names:
        return None
    best: dict[str, Any] | None = None
    for c in unread:
        if c in names and _may_be_one(table, c) and (found := _repeats(table, c, [events.user, events.item])):
            repeats, rows = found
            if best is None or repeats > best["repeats"]:
                best = {"column": c, "repeats": repeats, "rows": rows}
    return None if best is None else best | {"polars": _lines(config, day, table, best["column"])}


def _may_be_one(table: Table, c: str) -> bool:
    frame = first_rows(table, (), c)
    if frame is None or not (frame[c].dtype.is_integer() or frame[c].dtype == pl.String):
        return False
    return frame[c].n_unique() > _OWN * len(frame)


def _repeats(table: Table, c: str, ids: list[str]) -> tuple[int, int] | None:
    """(rows that repeat an earlier one's id, rows with one); None where the ids that repeat are not of one user and
    item, so that it is no exposure's."""
    parts, seen = [], 0
    for file in table.files:
        if seen >= _MOST or not all(table.has_in(file, name) for name in (c, *ids)):
            continue
        for frame in table.frames(file, [c, *ids], _BLOCK):
            pair = frame.select(pl.struct(pl.col(ids).cast(pl.String)).hash().alias("pair"))
            named = pair.with_columns(frame[c].cast(pl.String).hash().alias("id"))
            parts.append(named.filter(frame[c].is_not_null()))
            if (seen := seen + len(frame)) >= _MOST:
                break
    rows = pl.concat(parts)
    each = rows.group_by("id").agg(pl.len().alias("n"), pl.col("pair").n_unique().alias("pairs"))
    twice = each.filter(pl.col("n") > 1)
    if len(each) <= _OWN * len(rows) or not len(twice) or (twice["pairs"] == 1).sum() < _SAME * len(twice):
        return None
    return len(rows) - len(each), len(rows)


def _lines(config: Config, day: dt.date, table: Table, c: str) -> list[str]:
    """Of `log`, a frame of the rows of all days in the order of the files."""
    order = [*_clicks(config, day, table), *_time(config, table), '"row"']
    nested = "." in c
    made = f".with_columns(exposure={polars_column(c)})" if nested else ""
    key = quoted("exposure" if nested else c)
    kept = f'kept = log.with_row_index("row"){made}.sort({", ".join(order)}).unique({key}, keep="last")'
    return [kept, f'log = kept.sort("row").drop({", ".join([quoted("row"), *[key] * nested])})']


def _clicks(config: Config, day: dt.date, table: Table) -> list[str]:
    """What sorts a row with a click behind one without."""
    click = config.data.events.click
    if click is None or not table.has(click):
        return []
    column = polars_column(click)
    if table.is_time(click):
        return [f"{column}.is_not_null()"]
    if config.data.format_of(config.data.events) != "csv":
        return [column]
    words = _said(config, day, click)
    return [f"{column}.cast(pl.String).str.to_lowercase().is_in([{', '.join(map(quoted, words))}])"] if words else []


def _said(config: Config, day: dt.date, click: str) -> list[str]:
    """The words of a CSV that are clicks."""
    events = config.data.events
    with suppress(UserError):
        files = Places(Store(config.data.root), "events", events, "csv").files(day)
        frame, _ = head(files[0], _WORDS)
        if click in frame.columns:
            text = frame[click].cast(pl.String).str.strip_chars().str.to_lowercase().drop_nulls()
            return sorted(text.filter(booleans(text).fill_null(False)).unique())
    return []


def _time(config: Config, table: Table) -> list[str]:
    time = config.data.events.time
    if time is None or not table.has(time) or ":" in config.data.types.get(time, ""):
        return []  # text such as 27.03.2026 does not sort
    return [polars_column(time)]
