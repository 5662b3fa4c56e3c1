"""Whether the tables of what came of exposures fit a day's events: which of their rows name none of its exposures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.data import Events
from dmtl_cli.config.days import before
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.expressions import sources_of
from dmtl_cli.config.table import Joined
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.data.log.files.day_files import DayFiles
from dmtl_cli.data.log.files.joined import Outcomes
from dmtl_cli.data.log.files.rows import frames
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.computed import plain

_MOST = 0.9  # of the rows of a table without an exposure are hardly what came of exposures
_FEW = 0.05  # as many exposures of one id as this share of the rows, by chance
Ints = npt.NDArray[np.int64]


def pair_of(events: Events, table: Joined) -> list[str]:
    """The events' columns that their key of a table is made of, as a user and an item; none where it is one column."""
    text = events.computed.get(table.id_column)
    made = [] if text is None else sorted(sources_of(text), key=text.find)
    return made if len(made) > 1 else []


def joined_rows(log: Log, found: DayFiles, events: Table) -> dict[str, Any]:
    """`joined`, where the log has such tables, by the name of each: its `rows`, those `without_id` (see `Outcomes`), of
    a table of days those `unmatched` with the id of no exposure of the day; the exposures with `shared` ids,
    that another has too and a row, and the `pair` of columns that such an id is made of, where it is; and the rows of
    the day after those that are read, `later`, that are of this day's exposures.

    Raises:
        UserError: what reading these tables raises.
    """
    out, tables = {}, dict(zip(found.joined, log.outcomes(found), strict=True))
    by_item = {t.section.way[0] for t in tables.values() if t.section.way and t.section.item}
    for name, table in tables.items():
        times, spans = _times(log, found, events, table)
        # of each id one exposure is read, or the lines of an order tell which
        once = log.data.events.unique == table.section.id_column or name in by_item
        shared = 0 if once else _shared(times, *spans) if table.clocks else int(times[times > 1].sum())
        pair = pair_of(log.data.events, table.section)
        said: dict[str, Any] = {"days_after": table.section.days_after, "rows": table.read_rows, "shared": shared}
        if table.section.is_daily:
            said["unmatched"] = table.unmatched(times)
            if table.section.within or log.data.events.user not in pair:  # a pair may come again on the next day
                said["later"] = _later(log, found, events, name, tables)
        said |= {"without_id": table.without_id} if table.without_id else {}
        said |= {"within": table.section.within} if table.section.within else {}
        said |= {"timeless": table.timeless} if table.timeless else {}
        said |= {"pair": pair} if pair else {}
        out[name] = said | ({"repeated": table.repeated} if table.section.unique else {})
    return {"joined": out} if out else {}


def _times(log: Log, found: DayFiles, events: Table, table: Outcomes) -> tuple[Ints, tuple[Ints, Ints]]:
    """([units] exposures of the day that have each id of the table, or each of its rows; of a table with a clock where
    the rows of each exposure that has some begin, and end)."""
    column, date = table.section.id_column, log.data.events.date_column
    unique, item = log.data.events.unique, log.data.events.item
    spans, change = [np.zeros((2, 0), np.int64)], np.zeros(len(table.units) + 1, np.int64)
    for file in (file for file in events.files if events.has_in(file, column)):
        once = [unique, item] if unique and events.has_in(file, unique) and events.has_in(file, item) else []
        dated = [date] if date and events.has_in(file, date) else []
        wanted = list(dict.fromkeys([*table.event_columns, *dated, *once]))
        for frame in frames(events, file, wanted, sizes.BLOCK, found.groups.get(file)):
            rows = frame
            if date:
                days = Checked(frame, file, 0).date(date, log.data.calendar, nulls=True)
                rows = frame.filter((days == found.day).fill_null(False))
            if once:  # one of an id and an item that was delivered twice is read
                rows = rows.filter(pl.col(once[0]).is_null() | pl.struct(once).is_first_distinct())
            begin, end = table.spans(rows.select(plain(rows[c]) for c in table.event_columns), file)
            some = end > begin
            change += np.bincount(begin[some], minlength=len(change)) - np.bincount(end[some], minlength=len(change))
            spans += [np.stack([begin, end])[:, some]] if table.clocks else []
    begin, end = np.concatenate(spans, axis=1)
    return np.cumsum(change)[:-1], (begin, end)


def _shared(times: Ints, begin: Ints, end: Ints) -> int:
    """Exposures with a row that another has too."""
    several = np.concatenate([[0], np.cumsum(times > 1)])
    return int((several[end] > several[begin]).sum())


def _later(log: Log, found: DayFiles, events: Table, name: str, beside: Mapping[str, Outcomes]) -> int:
    """Rows of the first day that is not read any more that are of this day's exposures; 0 where it is not there."""
    section = log.data.events.joined[name]
    try:
        table = log.outcomes_of(name, before(found.day, -section.days_after - 1), beside, found.events)
    except UserError as e:
        if e.code != Exit.NO_INPUT:
            raise
        return 0
    return table.met(_times(log, found, events, table)[0])


def joined_lines(found: dict[str, Any], *, brief: bool = False) -> Iterator[str]:
    """What `check` says of them.

    Args:
        brief: whether rows that are left out, and those that count for several exposures, are told in one line where a
            person has nothing to decide of them.
    """
    for name, said in found.get("joined", {}).items():
        where, rows = f"data.events.joined.{name}", said["rows"]
        lost, nameless, timeless = (said.get(k, 0) for k in ("unmatched", "without_id", "timeless"))
        meeting = rows - lost - nameless - timeless
        is_whole = "unmatched" in said  # of a table that is no day's its rows of other days are not told
        if brief and is_whole and (lost or nameless or timeless) and meeting > (1 - _MOST) * rows:
            yield f"{where}: {meeting:,} of its {rows:,} rows are of the day's exposures that count"
        else:
            yield from _without(where, said)
        if said.get("repeated") and not brief:
            yield f"{where}: {said['repeated']:,} rows are left out: unique reads one of each id"
        if said["shared"] and not (brief and (said.get("pair") or said["shared"] < _FEW * rows)):
            pair = said.get("pair")
            of, asked = (f"pair ({', '.join(pair)})", "") if pair else ("id", "; is key the exposure's id?")
            what = f"{said['shared']:,} exposures share their {of} with another"
            yield f"{where}: {what}: what came of it counts for each of them{asked}"
        if said.get("later"):
            more = f"days_after: {said['days_after'] + 1}"
            what = f"{said['later']:,} rows of the day after are of this day's exposures"
            yield f"{where}: {what}: {more} reads them too, and a day then waits for that file"


def _without(where: str, said: dict[str, Any]) -> Iterator[str]:
    """Which rows are left out: without a time, an exposure, or an id."""
    rows = f"{said['rows']:,}"
    lost, nameless, timeless = (said.get(k, 0) for k in ("unmatched", "without_id", "timeless"))
    if timeless:
        most = "WARNING: " if timeless > _MOST * said["rows"] else ""
        yield f"{most}{where}: {timeless:,} of its {rows} rows have no time: left out"
    days = 1 + said["days_after"]  # of files, each of which has the rows of its own day's exposures too
    if lost and (window := said.get("within")):
        most = "WARNING: " if days * (said["rows"] - lost) < (1 - _MOST) * said["rows"] else ""
        asked = ": are time, data.timezone and within right?" if most else ""
        if days > 1 and not most:
            met = f"{said['rows'] - lost - nameless - timeless:,} of its {rows} rows, of {days} days,"
            yield f"{where}: {met} came within {window} of this day's exposures"
        else:
            of = f", of {days} days," if days > 1 else ""
            what = f"came within {window} of no exposure{' of this day' if days > 1 else ''}: left out"
            yield f"{most}{where}: {lost:,} of its {rows} rows{of} {what}{asked}"
    elif said["rows"] and lost + nameless == said["rows"]:
        yield f"WARNING: {where}: none of its {rows} rows has the id of an exposure: is key the exposure's id?"
        nameless = 0
    elif lost:
        most = "WARNING: " if lost > _MOST * said["rows"] else ""
        whose = "of no exposure of the day, or of a row that is left out"
        yield f"{most}{where}: {lost:,} of its {rows} rows have the id {whose}"
    if nameless:
        yield f"{where}: {nameless:,} of its {rows} rows have no value of key: left out"


def shares_in_words(join: dict[str, float]) -> list[str]:
    """A line for each side table."""
    return [f"the table of {name.removesuffix('_joined')} has {share:.1%} of the day's" for name, share in join.items()]
