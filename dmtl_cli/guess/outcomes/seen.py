"""Rows of cards that were never in view: no exposures, though a log has them, where a flag by its name and by its
values tells them from others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import polars as pl

from dmtl_cli.config.expressions import sources_of
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import quoted, where_of
from dmtl_cli.guess.columns.values import FEW, share
from dmtl_cli.guess.exposures.after import Needed, is_of_ids, needed
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.reading.partial import partial_columns, rows_of
from dmtl_cli.guess.reading.tables import Table, spread

_DAYS = 31  # of which first rows are read
_LEFT = "the card was not seen, and is no exposure"


def of_what_was_seen(
    events: Table, roles: Roles, later: Sequence[Outcomes], given: Mapping[str, str], ids: Mapping[str, Guess]
) -> tuple[Table, Roles]:
    """The events without the rows of what was never in view, and their roles, with `seen` and `where`; as they are
    where no flag tells such rows.

    Args:
        later: tables of what came of exposures, whose columns tell no row of the events from another.
    """
    if (found := _flag(events, roles, {c for one in later for c in one.columns})) is None:
        return events, roles
    column, flag = found
    seen = Guess(column, f"{flag.why}: {_LEFT}")
    narrowed = events.where(flag.rows)
    told = roles_of(narrowed.frame, given, {**ids, "seen": seen})
    if told.click is None or roles.click is None or told.click.column != roles.click.column:
        return events, roles
    request = roles.request  # of whole lists
    told.outcomes = [g for g in told.outcomes if request is None or g.column != request.column]
    return narrowed, replace(told, request=request, where=flag.condition, grades=roles.grades)


def unseen(events: Table, roles: Roles) -> Iterator[str]:
    """A line, where rows are left out as nobody saw their card."""
    if roles.seen is not None:
        yield f"{roles.seen.column}: {roles.seen.why}: left out (data.events.where); {undone(events)}"


def undone(events: Table) -> str:
    """How all rows are read."""
    kinds = "null" if events.kinds is None else quoted(where_of(events.kinds))
    return f"to read such rows too, set data.events.where: {kinds}"


def _flag(events: Table, roles: Roles, joined: set[str]) -> tuple[str, Needed] | None:
    """Of the flags that say in view, and without which there is no click, that of most rows."""
    clicked, frame = roles.clicked(events.frame), events.frame
    if clicked is None or roles.user is None or roles.item is None or roles.behaviour is not None:
        return None
    labels = {c for text in roles.made.values() for c in sources_of(text)}
    free = labels | joined | {g.column for g in (*roles.named.values(), *roles.further.values())}
    named = [c for c in frame.columns if c not in free and words.is_of_sight(c)]
    found = {c: flag for c in named if (flag := needed(frame[c], clicked, events.yes.get(c, ()))) is not None}
    of = {"item": frame[roles.item.column]}
    if found and (days := roles.days(frame, "UTC")) is not None:
        of["day"] = days
    found = {c: flag for c, flag in found.items() if not is_of_ids(frame[c], of, ["item"], ["item", "day"])}
    if found:
        some = partial_columns(events, roles, "UTC")  # days without it would be refused
        found = {c: flag for c, flag in found.items() if c not in some}
        found = {c: flag for c, flag in found.items() if _is_set_each_day(events, of.get("day"), flag)}
    return max(found.items(), key=lambda one: share(one[1].rows), default=None)


def _is_set_each_day(events: Table, days: pl.Series | None, flag: Needed) -> bool:
    """Whether a flag is set in some of the first rows of each day, as far as they are read: a day of which no row is
    left would be refused."""
    if not events.files.days:
        rows = pl.DataFrame([days.alias("day"), flag.rows.alias(":on")]) if days is not None else pl.DataFrame()
        by = rows.group_by("day").agg(pl.len(), pl.col(":on").any()) if len(rows) else rows
        return bool(len(by) == 0 or by.filter(pl.col("len") >= FEW)[":on"].all())
    there = [day for day, _ in events.files.days]
    sampled = {day for day, _, _ in events.pieces}
    for day in spread([day for day in there if day not in sampled and day <= max(sampled, default=day)], _DAYS):
        if (frame := rows_of(events, day)) is None:
            continue
        with suppress(pl.exceptions.PolarsError):  # of another type, as files of text have it
            if not frame.select(pl.sql_expr(flag.condition).any())[0, 0] and len(frame) >= FEW:
                return False
    return True
