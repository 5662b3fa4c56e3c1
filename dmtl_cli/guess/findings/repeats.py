"""The id of an exposure of which a log, or a sample of it, has several rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from dmtl_cli.config.expressions import sources_of
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.files.rows import frames
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import object_of
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.values import FEW, time_unit
from dmtl_cli.guess.columns.words import count
from dmtl_cli.guess.outcomes.tables import Outcomes, with_keys
from dmtl_cli.guess.reading.rows import first_rows, names_of

_OWN = 0.5  # of the rows have an id of their own
_SAME = 0.98  # of the ids that repeat are of one user and item
_IDENTICAL = 0.9  # of the rows that repeat a list and an item are the same in all columns
_SENT_AGAIN = 0.1  # of the ids, at most, where rows have times of their own
_AT_ONCE = 0.5  # of the ids that repeat have one time: not each exposure of a user and item has the same id
_READ = "one of each is read, the last with a click, else the last"
_MOST, _BLOCK = 5_000_000, 65_536  # rows that are looked at, and at a time


def repeated_ids(config: Config, table: Table, unread: Iterable[str]) -> dict[str, Any] | None:
    """The column that has an id of nearly every row, some of which have several rows of one user and item: its name
    (`column`), how many rows repeat an earlier one (`repeats`), of how many (`rows`). None where no column is so.

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
    return best


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
        for frame in frames(table, file, [c, *ids], _BLOCK):
            pair = frame.select(pl.struct(pl.col(ids).cast(pl.String)).hash().alias("pair"))
            named = pair.with_columns(frame[c].cast(pl.String).hash().alias("id"))
            parts.append(named.filter(frame[c].is_not_null()))
            if (seen := seen + len(frame)) >= _MOST:
                break
    return _again(pl.concat(parts))


def _again(rows: pl.DataFrame) -> tuple[int, int] | None:
    """As `_repeats`, of `id` and `pair` of each row."""
    each = rows.group_by("id").agg(pl.len().alias("n"), pl.col("pair").n_unique().alias("pairs"))
    twice = each.filter(pl.col("n") > 1)
    if len(each) <= _OWN * len(rows) or not len(twice) or (twice["pairs"] == 1).sum() < _SAME * len(twice):
        return None
    return len(rows) - len(each), len(rows)


def unique_of(frame: pl.DataFrame, roles: Roles, later: Iterable[Outcomes] = ()) -> Guess | None:
    """The column of a sample that has an exposure's id, or that of a list and an item, of which some rows repeat one of
    their user and item, most at the same time, else that by which what came of exposures names them; None where no
    column is so, or the rows are behaviours."""
    if roles.user is None or roles.item is None or roles.time is None or roles.behaviour is not None:
        return None
    pair = pl.struct(pl.col(g.column).cast(pl.String) for g in (roles.user, roles.item)).hash().alias("pair")
    best: tuple[int, Guess] | None = None
    later = list(later)
    both = {roles.user.column, roles.item.column}  # which are of no exposure of their own
    made = [one for one in later if one.computed and not one.once and {*sources_of(one.computed[0])} != both]
    of_lists, frame = {one.event_key for one in made}, with_keys(frame, made)
    for c, kind in frame.schema.items():
        if c in roles.taken or not (kind.is_integer() or kind == pl.String):
            continue
        rows = frame.select(pair, pl.col(c).alias("id"), pl.col(roles.time.column).alias("at")).drop_nulls("id")
        if (found := _again(rows)) is None or (best is not None and found[0] <= best[0]):
            continue
        times = rows.filter(rows["id"].is_duplicated()).group_by("id").agg(pl.col("at").n_unique())["at"]
        if c in of_lists or (times == 1).sum() > _AT_ONCE * len(times):
            names = next(
                (" and ".join(sources_of(one.computed[0])) for one in made if one.computed and one.event_key == c), c
            )
            why = f"{found[0]:,} of {found[1]:,} rows have the {names} of another one of their user and item: {_READ}"
            best = found[0], Guess(c, why)
    if best is not None:
        return best[1]
    mine = (one for one in later if one.computed is None and not one.of_user and one.event_key not in both)
    named = next((one.event_key for one in mine), None)
    why = "what came of exposures names them by it: a row that comes twice is read once"
    return None if named is None else Guess(named, why)


def of_identical(frame: pl.DataFrame, roles: Roles) -> Guess | None:
    """The request, where nearly all rows that repeat one and an item are the same in all columns but when they came, as
    what is sent twice; None where hardly a row is."""
    if roles.request is None or roles.item is None or roles.behaviour is not None:
        return None
    pair = roles.request.column, roles.item.column
    came = [c for c in frame.columns if _is_of_coming(frame[c], roles)]
    flat = frame.select(c for c, kind in frame.schema.items() if not kind.is_nested() and c not in came)
    flat = flat.drop_nulls([*pair])
    same, repeats = (len(flat) - rows.n_unique() for rows in (flat, flat.select(pair)))
    if same < FEW or same < _IDENTICAL * repeats:
        return None
    many = f"{same:,} of {len(frame):,} rows"
    but = f" but {', '.join(came)}" if came else ""
    why = f"{many} equal another of their {' and '.join(pair)} in all columns{but}: {_READ}"
    return Guess(pair[0], why)


def copies_of(one: Outcomes) -> Guess | None:
    """The id of each row of a table of what came of exposures, of which some come twice, the same in all columns but
    when they were written, or where few do but any time, as they were sent again: they would be added up twice. None
    where no column is so."""
    rows = one.rows
    flat = [c for c, kind in rows.schema.items() if not kind.is_nested() and not words.says(c, words.WRITTEN)]
    timeless = [c for c in flat if time_unit(rows[c]) is None]
    found: tuple[tuple[bool, bool, int], Guess] | None = None
    for c, kind in rows.schema.items():
        if c == one.key or not (kind.is_integer() or kind == pl.String):
            continue
        known = rows[c].drop_nulls()
        again = len(known) - known.n_unique()
        if again < FEW or len(known) < _SAME * len(rows) or again > _OWN * len(known):
            continue
        mine = timeless if again <= _SENT_AGAIN * len(known) else flat  # many rows of an id are what goes on
        twice = rows.filter(rows[c].is_duplicated() & rows[c].is_not_null()).select({*mine, c})
        likely = words.is_named_id(c), time_unit(rows[c]) is None, again  # two rows may be of one millisecond
        if len(twice) - twice.n_unique() >= _IDENTICAL * again and (found is None or likely > found[0]):
            found = likely, Guess(c, f"{again:,} of {len(rows):,} rows come twice")
    return None if found is None else found[1]


def _is_of_coming(s: pl.Series, roles: Roles) -> bool:
    """Whether a column says when a row came: a time that is named so, or another than the row's of a whole list."""
    if roles.item is None or s.name in {g.column for g in roles.named.values()}:
        return False
    element = object_of(roles.item.column)
    of_list = bool(element) and not s.name.startswith(f"{element}.")
    return (of_list or words.says(s.name, words.WRITTEN)) and time_unit(s) is not None


def repeats_in_words(found: dict[str, Any], rows: int) -> list[str]:
    """What `check` says of rows that repeat others, of so many rows."""
    if not (repeats := found.get("duplicate_rows")):
        return []
    seen = f"{repeats:,} of {rows:,} rows ({repeats / rows:.1%}) repeat another (user, item, request and time)"
    lines = [f"{seen}: a click counts once a request (repeated_clicks), other rows as often as they are there"]
    if later := found.get("clicked_later"):
        seen = f"of {count(found['repeated_exposures'], 'repeated exposure')} {later:,} were first without a click"
        fix = "keep the row with the click alone, or each counts as an exposure without one too"
        lines.append(f"{seen} and then with one: {fix}")
    if ids := found.get("repeated_ids"):
        seen = f"{ids['repeats']:,} of {ids['rows']:,} rows repeat the id of one of their user and item"
        fix = f"and each counts: data.events.unique: {ids['column']} reads one of each"
        lines.append(f"{ids['column']}: {seen}, {fix}")
    return lines
