"""What looks mistaken about a day that was read: a line each, with the column, what was seen and what to write."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial

import polars as pl
import pyarrow as pa

from dmtl_cli.config.days import before
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import ID, TIME, Block, Day
from dmtl_cli.data.log.files.places import SUFFIXES, Places
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.formats.objects import with_fields
from dmtl_cli.data.log.formats.source import File, Store
from dmtl_cli.data.log.formats.text_rows import separator_of
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.types import formatted
from dmtl_cli.data.threshold import heavy_tail
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.alike import offers
from dmtl_cli.guess.columns.sql import quoted, sql_column, sql_value
from dmtl_cli.guess.columns.values import (
    LEAK,
    auc_of,
    is_binary,
    is_unclicked_empty,
    local_days,
    mean,
    numbers,
    share,
    time_unit,
    within,
)
from dmtl_cli.guess.columns.zones import is_naive, is_night
from dmtl_cli.guess.exposures.after import measured
from dmtl_cli.guess.exposures.doubts import both
from dmtl_cli.guess.features.requests import is_known_with_request
from dmtl_cli.guess.features.same_day import made_of_the_day, read_seconds
from dmtl_cli.guess.features.telling import telling, unchosen
from dmtl_cli.guess.features.units import as_number, with_units
from dmtl_cli.guess.findings.unclicked import without_click
from dmtl_cli.guess.reading.files import AVRO, PARQUET, format_of
from dmtl_cli.guess.reading.partial import turn
from dmtl_cli.guess.reading.rows import first_rows, first_values, head_of, names_of
from dmtl_cli.guess.reading.texts import Text, typed
from dmtl_cli.guess.sides.births import of_day
from dmtl_cli.guess.sides.late import late_tables
from dmtl_cli.guess.sides.side_tables import joins

MANY = 1_000_000
"""rows of an embedding above which hash buckets are worth it"""
LONG, SHORT = 7_200.0, 0.5
"""seconds of a mean read that are hardly seconds: two hours, or half a second"""
FEWER, FAR_FEWER = 0.4, 0.2
"""of the smaller day beside it, or of the only one"""
_EMPTY = 0.2
"""share of rows without a duration from which on these rows are hardly clicks"""
_ROWS, _FIRST = 20_000, 2_000  # of an unused column or another day's users, and of a file of another day


def suggestions(
    config: Config, log: Log, day: Day, schema: Schema, embeddings: Mapping[str, int], *, lives: bool
) -> list[str]:
    """All that is found, in the order in which one would mend it.

    Args:
        day: as `log` reads it, with what profiles give.
        schema: of the day's files.
        embeddings: rows of each embedding.
        lives: whether a person has just said where the users live, and is not asked again.
    """
    return [
        *_labels(config, day),
        *heavy_tail(config, [day]),
        *_unnamed_click(config, schema),
        *without_click(config, day, schema),
        *_zone(config, day, schema, lives=lives),
        *joins(config, log, day, schema),
        *_neighbours(log, day),
        *_older(config, day),
        *late_tables(config, log, day, schema),
        *_leaks(config, day),
        *made_of_the_day(config, log, day, schema),
        *_many(config, embeddings),
        *_measured(config, day),
        *_unused(config, day, schema),
    ]


def unchosen_rows(config: Config, day: Day) -> Iterator[str]:
    """A line for each feature of the events with a value all of whose rows are clicks, with what leaves these rows out:
    counters and histories would take what plays by itself for what users like."""
    block = next(iter(day.blocks()), None)
    if block is None or not config.data.events.click:
        return
    for f in config.features:
        if not f.per_event or (found := unchosen(x := _values(f, day, block), pl.Series(block.click))) is None:
            continue
        value, n, others = found
        column, written = sql_column(f.source), sql_value(value) if x.dtype == pl.String else value.upper()
        condition = f"{column} <> {written}"
        condition = f"({condition} OR {column} IS NULL)" if x.null_count() else condition
        seen = f"{f.source}: the {n:,} rows with {value} are all clicks, {others:.1%} of the others: where nobody chose"
        seen += " these items, as what plays by itself, their rows are no exposures:"
        yield f"{seen} set {quoted(both(config.data.events.where, condition))} as data.events.where"


def _labels(config: Config, day: Day) -> Iterator[str]:
    events, facts = config.data.events, day.facts
    rows, clicks = int(facts["rows"]), int(facts["clicks"])
    if events.click and clicks in (0, rows):
        said = "no row is a click" if not clicks else "every row is a click"
        fix = "name another column, or leave data.events.click out where every row is one"
        yield f"{events.click}: {said} of {rows:,}: {fix}"
    if events.duration and clicks and not facts["duration_rows"]:
        yield f"{events.duration}: no click has a duration: is it the right column for data.events.duration?"
    elif events.duration and clicks:
        mean = facts["duration_sum"] / facts["duration_rows"]
        if mean > LONG and events.duration_unit == "s":
            seen = f"a click is read for {mean:,.0f} seconds on average, {mean / 3600:,.1f} hours"
            yield f"{events.duration}: {seen}: if it is milliseconds, set data.events.duration_unit: ms"
        if 0 < mean < SHORT and events.duration_unit == "ms":
            seen = f"a click is read for {1000 * mean:,.0f} milliseconds on average"
            yield f"{events.duration}: {seen}: if it is seconds, set data.events.duration_unit: s"
    if events.conversion and clicks:
        known = good = 0
        for block in day.blocks():
            z, there = block.labels(None)
            known, good = known + int((there & block.click).sum()), good + int((z & there).sum())
        if good in (0, known):
            seen = "no click" if not good else "every click"
            of = f"{clicks:,}" if known == clicks else f"the {known:,} where it is known (not null), of {clicks:,},"
            fix = "name another column in data.events.conversion" + ("" if known == clicks else ", or write 0 for a no")
            yield f"{events.conversion}: {seen} of {of} has it: {fix}"


def _unnamed_click(config: Config, schema: Schema) -> Iterator[str]:
    """A column of 0 and 1 that says which rows have a duration, where every row counts as a click."""
    events, table = config.data.events, schema.events
    if events.click is not None or events.duration is None:
        return
    read = {events.duration, events.user, events.item, events.time}
    frame = first_rows(table, sorted(names_of(table) - read - {None}), events.duration)
    frame = None if frame is None else typed(frame)
    if frame is None or not frame[events.duration].dtype.is_numeric():
        return
    duration = numbers(frame[events.duration]).fill_null(0)
    empty = share(duration == 0)
    for c in frame.columns if empty >= _EMPTY else ():
        if c != events.duration and is_binary(frame[c]) and is_unclicked_empty(duration, frame[c]):
            there = 1 - empty
            seen = f"it is 1 in {mean(frame[c]):.0%} of rows, and only these have a {events.duration} ({there:.0%})"
            yield f"{c}: {seen}, yet every row counts as a click: set data.events.click: {c}"


def _zone(config: Config, day: Day, schema: Schema, *, lives: bool) -> Iterator[str]:
    """A timestamp without a zone is UTC where nobody says that it is local, and a zone then moves rows to another day,
    unless the hour at which people sleep says that it is UTC; one since which a row of a side table holds is of the
    zone."""
    data, column, zone = config.data, config.data.events.date_column, config.data.timezone
    if zone is None:
        return
    told, is_told = of_day(data, day, schema, zone)
    is_local = data.calendar.is_local
    if told and data.items:
        read = f"times without a zone are read as those of {data.items.version_timezone or zone}, yet {told[1]}"
        yield f"{data.items.version}: {read}: set data.items.version_timezone: {told[0]}"
    for side, table in schema.sides.items() if zone != "UTC" else ():
        named = data.users if side == "user" else data.items
        since = named.version if named and not named.version_only_orders else None
        if named is None or since is None or not table.has(since) or named.version_timezone:
            continue
        known = table.type(since)
        naive = data.is_zoneless(named, since) or (pa.types.is_timestamp(known) and known.tz is None)
        if naive and not is_local and not (side == "item" and is_told):
            seen = f"times without a zone are read as those of {zone}"
            yield f"{since}: {seen}: if they are UTC, set data.{side}s.version_timezone: UTC"
    if column is None or zone == "UTC" or lives or is_local:
        return
    kind = schema.events.type(column)
    if pa.types.is_timestamp(kind) and kind.tz is None and not (column == data.events.time and _is_night(day, zone)):
        fix = f"if they are local times of {zone} already, set data.naive_times: local"
        yield f"{column}: timestamps without a zone are read as UTC, and days are cut in {zone}: {fix}"


def _is_night(day: Day, zone: str) -> bool:
    """See `zones.is_night`, of the day's rows."""
    parts = day.spool.read(day.spool.whole, sizes.BLOCK, [TIME])
    return is_night(pl.concat([part[TIME].cast(pl.Datetime("us")).dt.replace_time_zone("UTC") for part in parts]), zone)


def _neighbours(log: Log, day: Day) -> Iterator[str]:
    """A day that is much smaller than those beside it may still be being written."""
    rows: dict[dt.date, int] = {}
    for other in (before(day.day), before(day.day, -1)):
        with suppress(UserError):  # not there, or being written as this is read
            rows[other] = log.rows(other)
    least = min((n for n in rows.values() if n), default=0)
    if len(day) < (FEWER if len(rows) == 2 else FAR_FEWER) * least:
        shown = " and ".join(f"{n:,} on {other}" for other, n in rows.items())
        yield f"rows: {len(day):,} this day, {shown}: is it complete? success_file keeps dmtl from reading it too early"


def _older(config: Config, day: Day) -> Iterator[str]:
    """Features of columns that the first day of the log lacks in its first rows."""
    events, data = config.data.events, config.data
    places = Places(Store(data.root), "events", events, data.format_of(events))
    days = sorted(d for d in places.days() if d <= day.day)
    sides = {side for side in ("user", "item") if getattr(data, f"{side}s") is not None}
    mine = [f for f in config.features if not f.profile and (f.per_event or f.side not in sides)]
    if len(days) < 2 or (data.csv.columns or (events.csv and events.csv.columns)):
        return
    known: dict[dt.date, set[str]] = {}

    def has(column: str, of: dt.date) -> bool:
        if of not in known:
            with suppress(UserError):  # nothing there, or damaged: its own check says so
                files = places.files(of)
                known[of] = {c for file in {files[0], files[-1]} for c in _filled(file, config)}
        return column in known.get(of, {column})

    for f in mine:
        if has(f.source, days[-1]) and not has(f.source, days[0]):
            since = days[turn(days, partial(has, f.source))]
            fix = f"leave {f.name} out, or run the days from {since} on"
            yield f"{f.source}: from {since} on only, the log has {days[0]}: a day without the column is refused: {fix}"


def other_rows(config: Config, day: dt.date, column: str) -> pl.Series | None:
    """A column in the first rows of the day before, or of another day; None where there are none to look at."""
    events, data = config.data.events, config.data
    form, csv = data.format_of(events), events.csv or data.csv
    if form not in SUFFIXES or csv.columns:
        return None
    places = Places(Store(data.root), "events", events, form)
    with suppress(UserError):  # nothing there, or damaged: its own check says so
        by_day = sorted(d for d in places.days() if d != day)
        other = next((d for d in reversed(by_day) if d < day), by_day[0] if by_day else None)
        if other is None and events.date_column is None:
            return None
        files = places.files(other or day)
        ends = {file.path: file for file in (files[0], files[-1])}.values()
        frames = [frame for file in ends if column in (frame := _rows_of(file, config, _ROWS)).columns]
        if other is None:
            frames = [_of_others(frame, config, day) for frame in frames]
        return pl.concat([frame[column].cast(pl.String) for frame in frames]) if frames else None
    return None


def _of_others(frame: pl.DataFrame, config: Config, day: dt.date) -> pl.DataFrame:
    """The rows that are of another day than one, by the column that gives it."""
    data, time = config.data, config.data.events.date_column
    if time is None or time not in frame.columns:
        return frame.head(0)
    kind = (data.types | data.events.types).get(time, "")
    at = formatted(frame[time], kind) if ":" in kind else frame[time]
    unit = time_unit(at)
    if unit is None:
        return frame.head(0)
    zone = "UTC" if data.calendar.is_local and is_naive(at, unit) else data.timezone or "UTC"
    return frame.filter((local_days(at, unit, zone) != day).fill_null(False))


def _rows_of(file: File, config: Config, rows: int) -> pl.DataFrame:
    csv = config.data.events.csv or config.data.csv
    text = Text(csv.separator or separator_of(file.path), quoted=csv.quote_char is not None, encoding=csv.encoding)
    return with_fields(
        first_values(file, rows, text), config.data.objects_of(config.data.events), range(rows), str(file)
    )


def _filled(file: File, config: Config) -> list[str]:
    """Columns of a Parquet or Avro file; of a text file those that have values in its first rows."""
    frame = _rows_of(file, config, _FIRST)
    there = format_of(file.path) in (PARQUET, AVRO)
    return [c for c, kind in frame.schema.items() if kind != pl.Null and (there or frame[c].null_count() < len(frame))]


def _leaks(config: Config, day: Day) -> Iterator[str]:
    """Features that tell a click by themselves, or a conversion where every row is a click, or are named like what
    follows one."""
    block = next(day.blocks(), None)
    fix = "if it is known only after the exposure, name it in data.events.outcomes and leave the feature out"
    events, label, told = config.data.events, None, "clicks"
    if block is not None and events.click:
        label = pl.Series(block.click)
    elif block is not None and events.conversion:
        label, told = pl.Series(block.labels(None)[0]), events.conversion
    for f in config.features:
        if f.profile or f.source in (events.user, events.item) or block is None:
            continue
        found = None if label is None else auc_of(_values(f, day, block), label)
        if found is not None and found > LEAK:
            yield f"{f.name}: alone it tells the day's {told} with an AUC of {found:.2f}: {fix}"
        elif f.per_event and words.is_known_after(f.source):
            yield f"{f.name}: column {f.source} is named like what follows an exposure: {fix}"
        elif f.per_event and (why := measured(_values(f, day, block).alias(f.source), _ids(config, block))) is not None:
            yield f"{f.name}: {why}: {fix}"
        elif f.per_event and (why := _telling(config, _values(f, day, block), day, block)) is not None:
            yield f"{f.name}: {why}"


def _ids(config: Config, block: Block) -> dict[str, pl.Series]:
    """Of each row its user, item and, where the log has them, request."""
    ids = {"user": pl.Series(block.user), "item": pl.Series(block.item)}
    return ids | ({"request": pl.Series(block.request)} if config.data.events.request else {})


def _telling(config: Config, x: pl.Series, day: Day, block: Block) -> str | None:
    """See `telling`; None of what a request has, of which more may be clicked than of another."""
    if config.data.events.request and is_known_with_request(x, pl.Series(block.request)):
        return None
    seconds = read_seconds(config, day)
    good, known = block.labels(seconds)
    of_clicks = pl.DataFrame({"z": good, "known": known & block.click}).select(pl.when("known").then("z"))["z"]
    clicked = {"clicks": pl.Series(block.click)} if config.data.events.click else {}
    what = config.data.events.conversion if seconds is None else "reads"
    return telling(x, {**clicked, f"{what}, of clicks," if clicked else str(what): of_clicks})


def _values(f: Feature, day: Day, block: Block) -> pl.Series:
    """A feature's raw values, row by row."""
    values = _table(f, day, block)[f.name]
    return values if f.per_event else values.gather(block.user if f.side == "user" else block.item)


def _table(f: Feature, day: Day, block: Block) -> pl.DataFrame:
    """What has a feature's raw values: a row an event, a user or an item."""
    if f.per_event:
        assert block.features is not None
        return block.features
    return day.users if f.side == "user" else day.items


def _many(config: Config, embeddings: Mapping[str, int]) -> Iterator[str]:
    for name, rows in embeddings.items():
        mine = [f for f in config.features if f.embedding == name and f.has_ids]
        if mine and rows > MANY and mine[0].hash_bucket_size is None:
            size = 1 << (rows // 4).bit_length()
            why = f"{rows:,} values this day, a row of the embedding each, and more every day"
            yield f"{mine[0].name}: {why}: set hash_bucket_size: {size}, or min_count: 2"


def _measured(config: Config, day: Day) -> Iterator[str]:
    """Numbers with a unit that are read as text, each a value of its own."""
    block = next(iter(day.blocks()), None)
    for f in config.features:
        if f.profile or f.kind != "categorical" or block is None:
            continue
        values = _table(f, day, block)[f.name]
        if (what := with_units(values)) is not None:
            way = as_number(values.rename(f.source))
            made = f", or make it in the table's {way}" if way else ""
            fix = f"write the number alone and set kind: numeric{made}, or leave the feature out"
            yield f"{f.name}: {what}, a row of the embedding each: {fix}"


# -- columns that nothing reads ----------------------------------------------------------------------------------------


def unread(config: Config, schema: Schema) -> list[str]:
    """The columns of the day's tables that neither labels, outcomes nor features name."""
    data = config.data
    read = data.events.read_columns | data.events.outcome_columns | {f.source for f in config.features}
    out = sorted(names_of(schema.events) - read)
    for side, table in schema.sides.items():
        named = data.users if side == "user" else data.items
        looked_up = {c.removeprefix(f"{side}s.") for c in data.events.sources if c.startswith(f"{side}s.")}
        looked_up |= set(config.export.columns) if side == "item" else set()
        out += sorted(names_of(table) - read - looked_up - (named.read_columns if named else set()))
    return list(dict.fromkeys(out))


def _unused(config: Config, day: Day, schema: Schema) -> Iterator[str]:
    """Lists of items, and prices, that no feature reads."""
    events = config.data.events
    read = events.read_columns | events.outcome_columns | {f.source for f in config.features}
    item_ids = next((f.embedding for f in config.features if f.source == events.item and f.embedding), None)
    heads = (head_of(schema.events, c) for c in sorted(names_of(schema.events)) if words.says(c, words.PRICE))
    priced = any(s is not None and _is_price(s) for s in heads)  # of the moment: no state at the end beside it
    known = any(words.says(f.source, words.PRICE) for f in config.features)  # by another name, perhaps
    for side, table in (("user", schema.events), *schema.sides.items()):
        of_events = table is schema.events
        for c in sorted(names_of(table) - read):
            s = head_of(table, c)
            if s is None:
                continue
            listed = side == "user" and (of_events or _is_daily(config, side)) and _lists_items(s, day.items[ID])
            if listed and of_events and _is_offer(schema.events, c, events.item):
                continue
            if listed:
                level = "level: event, " if of_events else ""
                shared = f"embedding_name: {item_ids}, " if item_ids else ""
                line = f"{{name: {c}, side: user, kind: sequence, {level}{shared}max_length: 50}}"
                seen = f"{c}: lists of the day's items that nothing reads: add {line} to features"
                yield f"{seen}, if known before these rows; else name it in data.events.outcomes"
            elif _is_price(s) and not known and not (priced and not of_events and not _is_daily(config, side)):
                where = "context" if of_events else side
                line = f"{{name: {c}, side: {where}, kind: numeric, transform: log1p}}"
                yield f"{c}: numbers named like a price that nothing reads: add {line} to features"


def _is_offer(rows: Table, c: str, item: str) -> bool:
    """Whether lists have the row's own item, as those it was chosen of: no history of a user's."""
    heads = {name: head_of(rows, name) for name in (c, item)}
    frame = pl.DataFrame({name: s for name, s in heads.items() if s is not None})
    return item in frame and bool(offers(frame, item))


def _is_price(s: pl.Series) -> bool:
    return s.dtype.is_numeric() and words.says(s.name, words.PRICE) and s.n_unique() > 2


def _is_daily(config: Config, side: str) -> bool:
    table = config.data.users if side == "user" else config.data.items
    return table is not None and table.is_daily


def _lists_items(s: pl.Series, items: pl.Series) -> bool:
    """Whether values are lists that are mostly items of the day."""
    if s.dtype not in (pl.List, pl.Array):
        return False
    inner = s.explode().drop_nulls()
    return len(inner) > 0 and not inner.dtype.is_nested() and not inner.dtype.is_float() and within(inner, items) > 0.3
