"""init: a log that nobody has seen becomes a config, each guess with its reason beside it."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from dmtl_cli.config.commands import command
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.first_window import FEW, days_proposed
from dmtl_cli.data.log.hashing import blake2b64
from dmtl_cli.data.log.types import clock_seconds
from dmtl_cli.guess import words
from dmtl_cli.guess.arrival import Arrival, arrival, by_times
from dmtl_cli.guess.doubts import TIMES, broken_lines, invalid_rows, no_item, nobody, null_ids, sessions, warnings
from dmtl_cli.guess.exploding import parallel
from dmtl_cli.guess.feature_lines import guest
from dmtl_cli.guess.features import days_of_rows, inputs_of
from dmtl_cli.guess.files import CSV, JSON, complete_day, usual
from dmtl_cli.guess.given import refuse_expression, refuse_given, told_of, with_clicks, with_grades
from dmtl_cli.guess.keys import by_tables
from dmtl_cli.guess.labels import EXPRESSION, roles_of
from dmtl_cli.guess.objects import OBJECT
from dmtl_cli.guess.outcomes import (
    ROW,
    Outcomes,
    is_listed,
    outcomes_by_pairs,
    outcomes_of,
    with_outcomes,
    without_rows,
)
from dmtl_cli.guess.pairs import outcomes_by_day, outcomes_through
from dmtl_cli.guess.partial import partial_columns
from dmtl_cli.guess.printed import told_roles, unchanged
from dmtl_cli.guess.repeats import unique_of
from dmtl_cli.guess.requests import outcomes_of_requests
from dmtl_cli.guess.roles import Guess, Roles, fits_events, is_catalogue, with_names
from dmtl_cli.guess.rows import BYTES, NOT_UTF8
from dmtl_cli.guess.shown import as_events, of_lone_lists
from dmtl_cli.guess.steps import check_of, edits_of, goals_of, is_label, named_again, steps
from dmtl_cli.guess.streams import again, by_kinds, parted
from dmtl_cli.guess.tables import LAKES, ROWS, Table, tables
from dmtl_cli.guess.texts import in_seconds
from dmtl_cli.guess.values import DAYS, local_days
from dmtl_cli.guess.whole import by_days, read_whole
from dmtl_cli.guess.words import count
from dmtl_cli.guess.writing import Log, path_of, written
from dmtl_cli.guess.zones import of_users, zone_of

_TYPED = 64  # users that may be the example, and characters of their id
_FILES = 8  # of a day that a sample reads: with fewer rows than one may give, all are there
NEWEST = 3
"""days of which one is to be the last that is marked as finished"""
DAY = dt.timedelta(1)
_ABOUT = re.compile(r"(?i)(readme|licen[cs]e|notes?)\b")  # names of files that people wrote for people


def init(
    root: str, out: Path, given: Mapping[str, str], *, lives: str | None = None, force: bool = False
) -> dict[str, Any]:
    """Writes a config for the log at `root`, and returns what was guessed.

    Args:
        root: a folder or a file; local or s3://.
        given: columns of user, item, click, duration or conversion that are not to be guessed.
        lives: the time zone of the users, by which days are cut.
        force: whether to write over a file that a person may have edited.

    Raises:
        UserError: 2 no table has a given column, or a path is no UTF-8; 66 nothing of a known format is there; 65 a
            file is damaged; 73 `out` exists; 74 storage fails.
    """
    for path in (root, str(out)):
        if any("\ud800" <= sign <= "\udfff" for sign in path):
            raise UserError(f"{path}: the name is no UTF-8, which a config is", "rename it, or link to it", Exit.USAGE)
    before = ""
    if out.exists() and not force:
        if not _is_as_written(out, root):
            raise _exists(out)
        force, before = True, out.read_text(encoding="utf-8")
    log = _log(root, given, lives)
    day = log.day
    first, someone, known = _first(log, day), _someone(log), guest(log.roles, log.inputs, log.events.frame)
    time = log.roles.time.column if log.roles.time else None
    if (broken := broken_lines(log.root, log.events, (first, day) if first and day else None, time)) is not None:
        log.broken, log.events = broken, broken.among_nulls(log.events)
        log.warnings += broken.warnings
    # a config is kept and shared: it names nobody
    about = _about(log, root, check_of(out, day), steps(out, first, day, "ID", known, log.inputs)[0])
    config = written(log, f"work/{out.stem}", about)
    before = before if before != _marked(config.text) else ""
    again, catalogue = named_again(log, root, out, given), _catalogue(log) if config.edits else None
    is_told = bool({"duration", "conversion"} & given.keys())
    _write(out, _marked(config.text), force=force)
    return {
        "config": str(out),
        "root": log.root,
        "events": path_of(log.events),
        "format": log.events.files.form,
        "day": str(day) if day else None,
        "days": len(log.days),
        "warnings": log.warnings + log.inputs.told,
        "first": edits_of(out, config.edits, day, None if catalogue and is_label(config.edits) else again),
        "goals": goals_of(log) if (is_label(config.edits) or not config.edits) and not is_told else [],
        "next": [] if config.edits else steps(out, first, day, someone, known, log.inputs),
        "roles": told_roles(log, config.text, before),
        "as_before": unchanged(log, before),
        "tables_not_used": [(path, why) for path, why in log.inputs.other if not _ABOUT.match(path)],
        "catalogue": catalogue,
        "edits": [{"line": line, "key": key, "what": what} for line, key, what in config.edits],
    }


def _catalogue(log: Log) -> str | None:
    """What is said where no table has events, and the one that is taken for them has a row an item."""
    if not is_catalogue(log.events.frame, log.roles):
        return None
    return f"{path_of(log.events)} has a row an item and says nothing of clicks: is the log of events elsewhere?"


def _log(root: str, given: Mapping[str, str], lives: str | None) -> Log:
    """The tables below a root, the one that looks most like events and what lies beside it."""
    found = tables(root)
    named = [t if t.written.header or t.written.names else _with_names(t) for t in found.tables]
    named = [
        _timed(table if _is_stream(table, named, given) else as_events(table, named, given), given) for table in named
    ]
    named, apart = _joined(named, given)
    given = told_of(given, named, [one for found in apart.values() for one in found])
    named = [with_clicks(table, given) for table in named]
    known = [(roles_of(table.frame, given), table) for table in named]
    logs = [(table, roles) for roles, table in known]

    def likeness(of: tuple[Roles, Table]) -> tuple[int, bool, int, bool, int, int]:
        roles, table = of
        named, fits = sum(c in table.frame.columns for c in given.values()), fits_events(roles)
        dated = bool(table.files.days) and roles.user is not None and roles.time is not None
        sure = 0 if is_catalogue(table.frame, roles) or is_listed(table, logs) else fits
        return named, not table.has_no_path, sure, dated, fits, table.files.bytes

    roles, events = max(known, key=likeness)
    refuse_given(given, events, roles, found.tables)
    others = [table for table in named if table is not events]
    later = apart.get(events.files.path, [])
    if ids := by_tables(events, others, roles):
        roles = roles_of(events.frame, given, ids)
    events, roles, given = with_grades(events, roles, given, ids)
    late = arrival(found.root, events, roles, others, lives)
    if late is not None and late.is_of_events:
        events = by_times(events, late.place or "")
    days, zone, fits = dict(events.files.days), "UTC", late.zone if late and not late.of_several else None
    open_ = late is None or late.of_several
    if lives and open_ and roles.time is not None and roles.time_unit not in (None, *DAYS):
        fits = of_users(events.frame[roles.time.column], str(roles.time_unit), lives)
    if not days and roles.time is not None and roles.time_unit is not None:
        zone, _ = fits or zone_of(events.frame[roles.time.column], roles.time_unit)
        whole = later[0].table.explode if events.kinds else events.explode  # lists may be of what was shown alone
        every = replace(events, kinds=None, only_of_others=(), explode=whole)
        every, days = read_whole(found.root, every, roles.time.column, roles.time_unit, zone)
        events, later = again(_timed(every, given), events, later, others, given)
        events = with_clicks(with_outcomes(events, later), given)
        roles = replace(roles_of(events.frame, given, ids), grades=roles.grades)
    if roles.duration and roles.duration.column in events.written.clocks and roles.unit == "ms":
        why = roles.duration.why.rpartition("; ")[0]
        roles.unit, roles.duration = "s", replace(roles.duration, why=f"{why}; texts of lengths of time")
    if not {"duration", "conversion"} & given.keys():
        by_kinds(roles, later)
    roles.made_by = without_rows(roles.made_by, events.frame, later)
    made = [Guess(c, f"of {one.table.files.path}") for one in later for c in one.columns]
    roles.rows = {c for one in later for c, text in one.columns.items() if text == ROW}
    roles.outcomes.extend(g for g in made if g.column not in roles.taken)
    roles.outcomes.extend(outcomes_of_requests(events.frame, roles, days_of_rows(events, roles, zone)))
    others = [by_days(found.root, table, roles, zone) for table in others]
    inputs = inputs_of(events, roles, others, partial_columns(found.root, events, roles, zone), zone)
    if (once := unique_of(events.frame, roles, later)) is not None:
        inputs.unused = [g for g in inputs.unused if g.column != once.column]
    refuse_expression(given.get(EXPRESSION), events, inputs, roles)
    inputs.other.extend(found.unreadable)
    inputs.told.extend(_of_days(days, late))
    inputs.told.extend(f"{c}: {kind}" for c, kind in events.other.items() if kind.startswith(OBJECT))
    inputs.told.extend(f"{path}: not used: {why}" for path, why in found.unreadable if NOT_UTF8 in why)
    newest = complete_day((day, n) for day, n in days.items() if all(day in of for of in _days_of(later, events)))
    marked = [d for d in sorted(days)[-NEWEST:] if newest and d <= newest and found.is_marked(events.files, d)]
    day = marked[-1] if marked else newest
    told = _warnings(events, roles) + _sessions(events, roles, days, newest, zone)
    cut = {n: side.table.files for n, side in inputs.sides.items() if side.table.files.form not in LAKES}
    sides = frozenset(n for n, files in cut.items() if day and found.is_marked(files, day))
    return Log(found.root, events, roles, inputs, days, day, told, bool(marked), sides, None, fits, lives, late, later)


def _is_stream(table: Table, named: Sequence[Table], given: Mapping[str, str]) -> bool:
    """Whether rows with lists are of several kinds, of which only some have them: `parted` tells these apart first."""
    return bool(parallel(table.frame)) and parted(table, named, given) is not None


def _joined(named: list[Table], given: Mapping[str, str]) -> tuple[list[Table], dict[str, list[Outcomes]]]:
    """The tables, those of events with what came of their exposures where that is a table of its own, which is none of
    them then; and such tables by the path of the events. Events have the given users and items, where a table has them,
    and are not what came of the rows of another table."""

    @cache
    def of(k: int) -> Roles:
        roles, table = roles_of(named[k].frame, given), named[k]
        ids = by_tables(table, [other for other in named if other is not table], roles)
        return roles_of(table.frame, given, ids) if ids else roles

    ids = {c for role, c in given.items() if role in ("user", "item")}
    told = [len(ids.intersection(table.frame.columns)) for table in named]
    first = [k for k, table in enumerate(named) if told[k] == max(told) and not table.has_no_path]
    others = {k: [(other, of(n)) for n, other in enumerate(named) if n != k] for k in first if len(named) > 1}
    listed = {k for k in others if is_listed(named[k], others[k])}
    found = {k: [] if k in listed else outcomes_of(named[k], others[k], of(k)) for k in others}
    by_day = {k: outcomes_by_day(named[k], others[k], of(k)) for k in others if k not in listed}
    came = {id(one.table) for mine in (*found.values(), *by_day.values()) for one in mine}
    for k in sorted(first, key=lambda k: id(named[k]) in came):
        table = named[k]
        if (parts := None if id(table) in came else parted(table, named, given)) is not None:
            events, later = parts
        elif k in listed or k not in others:
            continue
        else:
            events, later = _came_of(table, of(k), found[k], others[k], given)
        if later:
            gone = {table.files.path, *(one.table.files.path for one in later)}
            left = [t for t in named if t.files.path not in gone]
            return [with_outcomes(events, later), *left], {table.files.path: later}
    return named, {}


def _came_of(
    table: Table,
    roles: Roles,
    found: list[Outcomes],
    others: Sequence[tuple[Table, Roles]],
    given: Mapping[str, str],
) -> tuple[Table, list[Outcomes]]:
    """The events, and the tables of what came of them: those found by an id, then those by lists and by days.

    Args:
        others: tables beside it, each with its roles.
    """

    def rest(later: Sequence[Outcomes]) -> list[tuple[Table, Roles]]:
        return [of for of in others if not any(of[0].files is one.table.files for one in later)]

    later = [*found, *outcomes_through(table, rest(found), roles, found)]
    later += outcomes_by_pairs(table, [other for other, _ in rest(later)], roles, later)
    later += outcomes_by_day(table, rest(later), roles, later)
    for shown, mine in of_lone_lists(table, given) if others and not later else ():
        if came_of := outcomes_by_pairs(shown, [other for other, _ in others], mine):
            return shown, came_of
    return table, later


def _of_days(days: Mapping[dt.date, int], late: Arrival | None) -> Iterator[str]:
    """What a person should know of the days, a line each: of those with few rows as far as they would be proposed."""
    there = [day for day, _ in usual(days.items())]
    if few := sorted(day for day in days if there and (day > there[-1] or (day < there[0] and len(there) < FEW))):
        has = "has" if len(few) == 1 else "have"
        yield f"{', '.join(map(str, few))} {has} less than a tenth of a usual day: left out of what is proposed"
    if late is not None and late.is_told:
        then = "date_column and timezone are written" if late.is_of_events else "see the comments beside path"
        yield f"{late.why}: {then}"


def _timed(table: Table, given: Mapping[str, str]) -> Table:
    """The table with texts such as 3:45 of the given duration as seconds."""
    c = given.get("duration")
    if c not in table.frame.columns or table.frame[c].dtype != pl.String:
        return table
    known = table.frame[c].filter(table.frame[c] != "")
    if not len(known) or clock_seconds(known).null_count():
        return table
    text = replace(table.written, clocks=table.written.clocks | {c})
    return replace(table, frame=in_seconds(table.frame, [c]), text=text)


def _warnings(events: Table, roles: Roles) -> list[str]:
    words = list[str]()
    if not (events.written.header or events.written.source):
        where = "write the right ones into data.csv.columns, or lay a file with CREATE TABLE beside the log"
        words.append(f"{path_of(events)} has no header: names of its columns are guesses by their place: {where}")
    if roles.user is None or roles.item is None or roles.behaviour is not None:
        return words
    ids = [(g.column, events.frame[g.column].drop_nulls().value_counts()) for g in (roles.user, roles.item)]
    users, items = (len(counts) for _, counts in ids)
    click = roles.click.column if roles.click else None
    text = events.files.form in (CSV, JSON)
    dropped = invalid_rows(events.frame, roles, None) is not None  # as is then written
    words += [line for c, counts in ids for line in null_ids(c, counts[c], counts["count"], text=text, dropped=dropped)]
    (user, _), (item, _) = ids
    (people, n), (goods, m) = ((counts[c], counts["count"]) for c, counts in ids)
    words += nobody(user, people, n, kept=True) + no_item(item, goods, m, user, people, n)
    return [*warnings(user, item, users, items, len(events.frame), click), *words]


def _sessions(events: Table, roles: Roles, days: Mapping[dt.date, int], newest: dt.date | None, zone: str) -> list[str]:
    """See `doubts.sessions`; nothing where the sample may lack users of the newest complete day."""
    if roles.user is None or newest is None:
        return []
    frame, files = events.frame, events.files
    ids = frame[roles.user.column]
    if not files.days and (of := roles.days(frame, zone)) is not None:
        mine, whole = (of == newest).fill_null(False), sum(days.values()) <= len(frame)
        return sessions(roles.user.column, ids.filter(mine), ids.filter(~mine)) if whole else []
    rows = next((rows for day, _, rows in events.pieces if day == newest), 0)
    if not 0 < rows < ROWS // _FILES or frame.estimated_size() >= BYTES:
        return []
    return sessions(roles.user.column, ids.head(rows), ids.slice(rows))


def _with_names(table: Table) -> Table:
    frame, text = with_names(table.frame), table.text
    names = dict(zip(table.frame.columns, frame.columns, strict=True))
    if text is not None:
        formats = {names[c]: kind for c, kind in text.formats.items()}
        text = replace(text, clocks=frozenset(names[c] for c in text.clocks), formats=formats)
    return replace(table, frame=frame, text=text)


def _someone(log: Log) -> str:
    """The user with most rows of the sample's newest complete day, but for one id that is hardly a person's (see
    `doubts`); ID where nobody's id could be typed."""
    roles, frame = log.roles, log.events.frame
    if roles.user is None:
        return "ID"
    if log.events.files.days and log.day is not None:
        of_day = log.events.of_day(log.day)
        frame = frame if of_day is None else of_day
    elif log.day is not None and roles.time is not None and roles.time_unit is not None:
        times = frame[roles.time.column]
        zone, _ = log.zone or zone_of(times, roles.time_unit)
        days = local_days(times, roles.time_unit, zone)
        frame = frame.filter((days == log.day).fill_null(False))
    ids = frame.select(pl.col(roles.user.column).cast(pl.String).alias("id")).drop_nulls()
    ids = ids.filter(~pl.col("id").str.strip_chars().str.to_lowercase().str.contains(words.NOBODY))
    ranked = ids.group_by("id", maintain_order=True).len().sort("len", descending=True, maintain_order=True)
    rows = ranked["len"].head(2).to_list()
    people = ranked["id"].slice(int(len(rows) == 2 and rows[0] >= TIMES * rows[1])).head(_TYPED)
    return next((user for user in people if user.isprintable() and 0 < len(user) <= _TYPED), "ID")


def _first(log: Log, last: dt.date | None) -> dt.date | None:
    """The first of a few days (see `days_proposed`) that end with the last one and lie one after the other in the log;
    where there are three, not the first day of the log, of which no profile knows anything; and none before which a
    table that is written late has no day."""
    late = [{day for day, _ in side.table.files.days} for side in log.inputs.sides.values() if side.late]
    known = {day for day, _ in usual(log.days.items())}
    came = _days_of(log.later, log.events)
    there = [day for day in known if all(day - DAY in days for days in late) and all(day in days for days in came)]
    first = last
    many = days_proposed(_rows_of_day(log))
    while first is not None and first - DAY in there and last is not None and (last - first).days < many - 1:
        first -= DAY
    spare = first is not None and last is not None and (last - first).days >= 2
    return first + DAY if first is not None and spare and first == min(known) else first


def _days_of(later: Sequence[Outcomes], events: Table) -> list[set[dt.date]]:
    """The days of each table of what came of exposures that has files of its own by day: the others are waited for."""
    apart = [one.table.files for one in later if one.table.files.files != events.files.files]
    return [{day for day, _ in files.days} for files in apart if files.days]


def _rows_of_day(log: Log) -> int:
    """Rows of the newest complete day, as far as a sample has them."""
    if log.events.files.days and log.day is not None:
        of_day = log.events.of_day(log.day)
        return len(log.events.frame if of_day is None else of_day)
    return log.days.get(log.day, 0) if log.day else 0


def _about(log: Log, root: str, check: str, learn: str) -> list[str]:
    files = log.events.files
    size, rows = sum(size for _, size in files.files), len(log.events.frame)
    several = f"{count(len(files.files), 'file')}, {size / 1e6:,.1f} MB"
    return [
        f"Written by {command('init', root)}: guesses from {rows:,} rows of {path_of(log.events)} ({several}).",
        "No setting of a model is written: the log decides.",
        f"After an edit: {check}",
        f"Then: {learn.partition('  #')[0]}",
    ]


def _write(out: Path, text: str, *, force: bool) -> None:
    """The file appears whole or not at all; without `force` only where there is none, also none of another `init` that
    ends now. Raises UserError 73."""
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        if force:
            draft.replace(out)
        else:
            _link(draft, out)
    except FileExistsError:
        raise _exists(out) from None
    except OSError as e:
        hint = "name another with -o"
        raise UserError(f"{out}: cannot be written: {e.strerror or e}", hint, Exit.CANNOT_CREATE) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _link(draft: Path, out: Path) -> None:
    """Gives a file another name that nothing has. Raises FileExistsError."""
    try:
        out.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: it appears at once, and is filled
        with out.open("x", encoding="utf-8") as new:
            try:
                new.write(draft.read_text(encoding="utf-8"))
                new.flush()
            except OSError:
                out.unlink(missing_ok=True)
                raise


def _marked(text: str) -> str:
    """A config whose first line tells by a hash of the others whether it is as `init` wrote it."""
    first, _, rest = text.partition("\n")
    return f"{first} As written: {blake2b64(rest):016x}.\n{rest}"


def _is_as_written(config: Path, root: str) -> bool:
    """Whether a file is one that `init` wrote of the same log and nobody has edited since."""
    try:
        first, _, rest = config.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return False
    begins, ends = f"# Written by {command('init', root)}: ", f" As written: {blake2b64(rest):016x}."
    return first.startswith(begins) and first.endswith(ends)


def _exists(out: Path) -> UserError:
    return UserError(f"{out} exists", "name another with -o, or give --force", Exit.CANNOT_CREATE)
