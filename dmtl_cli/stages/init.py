"""init: a log that nobody has seen becomes a config, each guess with its reason beside it."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from dmtl_cli.config.commands import command
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.first_window import days_proposed
from dmtl_cli.data.log.values.hashing import blake2b64
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.values import local_days
from dmtl_cli.guess.columns.words import count
from dmtl_cli.guess.columns.zones import zone_of
from dmtl_cli.guess.exposures.doubts import Broken, broken_lines
from dmtl_cli.guess.exposures.ids import is_catalogue
from dmtl_cli.guess.feature_lines import guest
from dmtl_cli.guess.known import Log
from dmtl_cli.guess.printed import told_roles, unchanged
from dmtl_cli.guess.reading.files import complete_day, usual
from dmtl_cli.guess.rules import NONE, Rules
from dmtl_cli.guess.steps import check_of, edits_of, goals_of, is_label, named_again, steps, title_of
from dmtl_cli.guess.understood import days_of, understood
from dmtl_cli.guess.writing import written

_TYPED = 64  # users that may be the example, and characters of their id
DAY = dt.timedelta(1)
_ABOUT = re.compile(r"(?i)(readme|licen[cs]e|notes?)\b")  # names of files that people wrote for people


def init(
    root: str,
    out: Path,
    given: Mapping[str, str],
    *,
    rules: Rules = NONE,
    force: bool = False,
) -> dict[str, Any]:
    """Writes a config for the log at `root`, and returns what was guessed.

    Args:
        root: a folder or a file; local or s3://.
        given: columns of user, item, click, duration or conversion that are not to be guessed.
        rules: which rows count and which items may be served, beside what is guessed.
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
    log = understood(root, given, rules)
    day = log.day
    first, someone, known = _first(log), _someone(log), guest(log.roles, log.inputs, log.events.frame)
    _add_broken(log, first)
    # a config is kept and shared: it names nobody
    about = _about(log, root, check_of(out, day), steps(out, first, day, "ID", known)[0])
    config, edits = written(log, f"work/{out.stem}", about)
    before = before if before != _marked(config) else ""
    again, catalogue = named_again(log, root, out, given, rules), _catalogue(log) if edits else None
    is_told = bool({"duration", "conversion"} & given.keys())
    has_history = first is not None and any(d < first for d in log.days)
    told = {"has_history": has_history, "leaves_out_seen": rules.seen_days is not None}
    _write(out, _marked(config), force=force)
    return {
        "config": str(out),
        "root": log.events.root,
        "events": log.events.path,
        "format": log.events.files.form,
        "day": str(day) if day else None,
        "days": len(log.days),
        "warnings": log.warnings + log.inputs.told,
        "first": edits_of(out, edits, day, None if catalogue and is_label(edits) else again),
        "goals": goals_of(log) if (is_label(edits) or not edits) and not is_told else [],
        "next": [] if edits else steps(out, first, day, someone, known, title_of(log), **told),
        "waiting": _waiting(log),
        "roles": told_roles(log, config, before),
        "as_before": unchanged(log, before),
        "tables_not_used": [(path, why) for path, why in log.inputs.other if not _ABOUT.match(path)],
        "catalogue": catalogue,
        "edits": [{"line": line, "key": key, "what": what} for line, key, what in edits],
    }


def _waiting(log: Log) -> str | None:
    """What is said of newest days that are left off, as what comes of them lies in the files of days after."""
    newest, one = complete_day(log.days.items()), max(log.later, key=lambda one: one.days_after, default=None)
    if log.day is None or newest is None or newest <= log.day or one is None or not one.days_after:
        return None
    first = log.day + DAY
    span = f"{first} waits" if first == newest else f"{first} .. {newest} wait"
    files = f"{span} for {count(one.days_after, 'further day')} of {one.table.path}"
    return f"{files} (joined.{one.name}.days_after); to learn of what came by a day's own end, write days_after: 0"


def _catalogue(log: Log) -> str | None:
    """What is said where no table has events, and the one that is taken for them has a row an item."""
    if not is_catalogue(log.events.frame, log.roles):
        return None
    return f"{log.events.path} has a row an item and says nothing of clicks: is the log of events elsewhere?"


def _someone(log: Log) -> str:
    """A user of the sample's newest complete day who clicked, with more rows than nine of ten of these: those with most
    may be programs. ID where nobody's id could be typed."""
    roles, frame = log.roles, log.events.frame
    if roles.user is None:
        return "ID"
    if log.events.files.days and log.day is not None:
        frame = log.events.on(log.day)
    elif log.day is not None and roles.time is not None and roles.time_unit is not None:
        times = frame[roles.time.column]
        zone = (log.zone or zone_of(times, roles.time_unit)).as_read
        days = local_days(times, roles.time_unit, zone)
        frame = frame.filter((days == log.day).fill_null(False))
    clicked = roles.clicked(frame)
    ids = frame[roles.user.column].cast(pl.String).alias("id")
    by = frame.select(ids, clicked=True if clicked is None else clicked)
    by = by.drop_nulls("id").group_by("id", maintain_order=True).agg(pl.len(), pl.col("clicked").any())
    by = by.filter(~pl.col("id").str.strip_chars().str.to_lowercase().str.contains(words.NOBODY))
    by = by.sort("clicked", "len", descending=True, maintain_order=True)
    people = by["id"].slice((int(by["clicked"].sum()) or len(by)) // 10).head(_TYPED)
    return next((user for user in people if user.isprintable() and 0 < len(user) <= _TYPED), "ID")


def _first(log: Log) -> dt.date | None:
    """The first of a few days (see `days_proposed`) that end with the newest complete one and lie one after the other
    in the log; where there are three, not the first day of the log, of which no profile knows anything; and none before
    which a table that is written late has no day. None where no day is complete."""
    if (last := log.day) is None:
        return None
    sides = [side for side in log.inputs.sides.values() if side.late]
    late = [(side.lag * DAY, {day for day, _ in side.table.files.days}) for side in sides]
    known = {day for day, _ in usual(log.days.items())}
    came = days_of(log.later, log.events, log.days)
    there = [day for day in known if all(day - lag in days for lag, days in late) and all(day in days for days in came)]
    first, many = last, days_proposed(_rows_of_day(log))
    while first - DAY in there and (last - first).days < many - 1:
        first -= DAY
    return first + DAY if (last - first).days >= 2 and first == min(known) else first


def _add_broken(log: Log, first: dt.date | None) -> None:
    """Adds the lines that do not parse, of the events and of each table that has files of its own beside them: of the
    files that the days from the first proposed one on read."""
    events, last = log.events, log.day
    tables = [(side.table, -side.lag, -side.lag) for side in log.inputs.sides.values()]
    tables += [(one.table, 0, one.days_after) for one in log.later]
    seen, found = set[object](), list[Broken]()
    for table, before, after in [(events, 0, 0), *tables]:
        if table.files.files in seen:
            continue
        seen.add(table.files.files)
        of_events, days = table is events, (first + before * DAY, last + after * DAY) if first and last else None
        time = log.roles.time.column if of_events and log.roles.time else None
        if (broken := broken_lines(table, days, time)) is not None:
            found.append(broken if of_events else replace(broken, of=table.path))
            log.events = broken.among_nulls(events) if of_events else log.events
    log.broken = found
    log.warnings += [line for one in found for line in one.warnings]


def _rows_of_day(log: Log) -> int:
    """Rows of the newest complete day, as far as a sample has them."""
    if log.events.files.days and log.day is not None:
        return len(log.events.on(log.day))
    return log.days.get(log.day, 0) if log.day else 0


def _about(log: Log, root: str, check: str, learn: str) -> list[str]:
    files = log.events.files
    size, rows = sum(size for _, size in files.files), len(log.events.frame)
    of = f"{log.events.path} ({count(len(files.files), 'file')}, {size / 1e6:,.1f} MB)"
    return [
        f"Written by {command('init', root)}: guesses from a sample of {rows:,} rows of {of}.",
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
