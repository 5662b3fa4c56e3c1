"""A log that nobody has seen, understood: which of its tables are the events, what came of them and what lies beside
them, who saw what when, and what a person should know of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import polars as pl

from dmtl_cli.config.days import before
from dmtl_cli.config.expressions import sources_of
from dmtl_cli.data.first_window import FEW
from dmtl_cli.data.log.formats.lake import LAKES
from dmtl_cli.data.log.values.lengths import clock_seconds, not_negative
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import OBJECT
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import DAYS, is_clock, local_days
from dmtl_cli.guess.columns.zones import Zone, of_users, zone_of
from dmtl_cli.guess.exposures.doubts import Ids, crowd, invalid_rows, no_item, nobody, null_ids, sessions, warnings
from dmtl_cli.guess.exposures.ids import fits_events, is_catalogue, visits_again, with_names
from dmtl_cli.guess.exposures.labels import CLICK_WHY, EXPRESSION, roles_of
from dmtl_cli.guess.exposures.references import is_listed
from dmtl_cli.guess.features.inputs import Inputs
from dmtl_cli.guess.features.kinds import inputs_of
from dmtl_cli.guess.features.requests import outcomes_of_requests
from dmtl_cli.guess.findings.left_out import LeftOut, condition_of
from dmtl_cli.guess.findings.repeats import copies_of, unique_of
from dmtl_cli.guess.given import (
    below_zero,
    click_columns,
    names_in_rules,
    of_events,
    refuse_expression,
    refuse_given,
    refuse_label,
    told_of,
    whole_names,
    with_clicks,
    with_grades,
)
from dmtl_cli.guess.known import Log
from dmtl_cli.guess.outcomes.asked import with_asked, without_rows
from dmtl_cli.guess.outcomes.dated import by_own_times
from dmtl_cli.guess.outcomes.keys import by_tables, roles_beside
from dmtl_cli.guess.outcomes.lengths import with_lengths, with_none
from dmtl_cli.guess.outcomes.pairs import outcomes_by_day, outcomes_through, rather_by_pair
from dmtl_cli.guess.outcomes.seen import of_what_was_seen, unseen
from dmtl_cli.guess.outcomes.shown import as_events, of_lone_lists, with_clicked_lists
from dmtl_cli.guess.outcomes.streams import again, by_kinds, parted
from dmtl_cli.guess.outcomes.tables import (
    Others,
    Outcomes,
    named_after,
    outcomes_by_pairs,
    outcomes_of,
    tell_made,
    with_outcomes,
)
from dmtl_cli.guess.outcomes.windows import with_clicks_apart, with_days_after, with_windows
from dmtl_cli.guess.reading.arrival import BY_TIME, Arrival, arrival, by_times
from dmtl_cli.guess.reading.exploding import parallel
from dmtl_cli.guess.reading.files import CSV, JSON, Files, complete_day, usual
from dmtl_cli.guess.reading.partial import partial_columns
from dmtl_cli.guess.reading.rows import BYTES, NOT_UTF8
from dmtl_cli.guess.reading.tables import BRACES, ROWS, Found, Table, tables, with_time
from dmtl_cli.guess.reading.texts import in_seconds
from dmtl_cli.guess.reading.whole import by_days, read_whole
from dmtl_cli.guess.rules import WHERE, Rules, ruled
from dmtl_cli.guess.sides.beside import named_beside
from dmtl_cli.guess.sides.side_tables import days_of_rows

_FILES = 8  # of a day that a sample reads: with fewer rows than one may give, all are there
_NEWEST = 3  # days of which one is to be the last that is marked as finished


def understood(root: str, given: Mapping[str, str], rules: Rules) -> Log:
    """The tables below a root, the one that looks most like events and what lies beside it.

    Args:
        root: a folder or a file; local or s3://.
        given: columns of user, item, click, duration or conversion that are not to be guessed.
        rules: what a person says beside these.

    Raises:
        UserError: 2 no table has a given column; 66 nothing of a known format is there; 65 a file is damaged.
    """
    found = tables(root)
    rows, given = with_clicked_lists(found.tables, _of_rows(found.tables, given), given)
    rules = rules.whole(rows)
    shown = _shown(found, rows, given, rules)
    events, roles, later, days, zone = shown.events, shown.roles, shown.later, shown.days, shown.zone
    whole = [by_days(table, roles, zone) for table in shown.others]
    others = [table.beside(days) for table in whole]
    once = unique_of(events.frame, roles, later)
    if once is not None and not later and visits_again(events.frame.unique(once.column), roles):
        roles.request = None  # each exposure has an id of its own, and each of its clicks counts
    inputs = inputs_of(events, roles, others, partial_columns(events, roles, zone), zone)
    if once is not None:
        inputs.unused = [g for g in inputs.unused if g.column != once.column]
    given, roles, rules = _named_beside(shown.given, roles, rules, events, inputs)
    refuse_expression("--conversion", given.get(EXPRESSION), events, inputs, roles, others)
    refuse_label(events, roles, inputs)
    rules.leave_out(events, inputs, later, others)
    refuse_expression(WHERE, rules.where, events, inputs, roles, others)
    rules.refuse_late(roles, later)
    rules.refuse_within(later)
    inputs.other.extend(found.unreadable)
    inputs.told.extend([*_told(shown, roles), *below_zero(given.get(EXPRESSION), events.frame, roles)])
    inputs.told.extend(_of_files(found, events, whole, inputs))
    newest = _newest(events, later, days)
    marked = _marked(found, events, days, newest)
    came = {one.name: until for one in later if (until := _marked(found, one.table, days, newest)) is not None}
    day = min((d for d in (marked, *came.values()) if d is not None), default=newest)
    left, events = ruled(rules, events, roles, inputs, newest)
    told = [line for line in (inputs.served.warning,) if line is not None]
    told += _warnings(events, roles, left) + _sessions(events, roles, days, newest, zone)
    cut = {n: side.table.files for n, side in inputs.sides.items() if side.table.files.form not in LAKES}
    sides = frozenset(n for n, files in cut.items() if day and found.is_marked(files, day))
    sides |= {f"joined.{name}" for name in came}
    return Log(
        events=events,
        roles=roles,
        inputs=inputs,
        days=days,
        day=day,
        warnings=told,
        marked=marked is not None,
        sides=sides,
        zone=shown.fits,
        lives=rules.lives,
        arrival=shown.late,
        later=later,
        left=left,
    )


@dataclass(frozen=True)
class _Shown:
    """What was shown to whom, and what came of it."""

    events: Table
    roles: Roles
    later: list[Outcomes]
    others: list[Table]
    """the tables beside the events, of which nothing is known yet"""
    days: dict[dt.date, int]
    """rows by day"""
    zone: str
    """as which times are read"""
    fits: Zone | None
    """that of the days, where folders or a person tell it"""
    late: Arrival | None
    lost: list[str]
    """lines on rows of `later` that are of no exposure"""
    given: Mapping[str, str]


def _shown(found: Found, rows: list[Table], given: Mapping[str, str], rules: Rules) -> _Shown:
    """The table that looks most like events, of all its days, with what came of its rows. Raises as `understood`."""
    named, later = _joined(rows, asked := whole_names(given, rows), rules)
    given = told_of(asked, named, later)
    if rules.click_within is not None and later:
        bare = replace(named[0], frame=named[0].frame.drop([c for one in later for c in one.columns]))
        later = _apart(later, bare, given, rules)
        named = [with_outcomes(bare, later), *named[1:]]
    named = [with_clicks(table, given) for table in named]
    likeliest = _likeliest(named, given)
    given = of_events(given, likeliest.frame.columns)
    events = with_time(likeliest, given.get("time"))
    roles = roles_of(events.frame, given)
    refuse_given(given, events, roles, found.tables)
    others, later = [table for table in named if table is not likeliest], later if likeliest is named[0] else []
    if ids := by_tables(events, others, roles):
        roles = roles_of(events.frame, given, ids)
    events, roles, given = with_grades(events, roles, given, ids)
    late = arrival(events, roles, others, rules.lives, asked=rules.by_time)
    if late is not None and late.is_of_events:
        events = by_times(events, late.place or "")
    fits = _zone(events, roles, late, rules.lives)
    days, zone = dict(events.files.days), fits.as_read if fits else "UTC"
    if not days and roles.time is not None and roles.time_unit is not None:
        zone = (fits or zone_of(events.frame[roles.time.column], roles.time_unit)).as_read
        every, days = _every(events, later, roles, zone)
        before, (events, later) = later, again(_timed(every, given), events, later, others, given)
        if later is not before:
            later = _settled(later, events, replace(roles, lives=rules.lives), asked, rules)
            later = _apart(later, events, given, rules)
        events = with_time(with_clicks(with_outcomes(events, later), given), given.get("time"))
        roles = replace(roles_of(events.frame, given, ids), grades=roles.grades)
    living = replace(roles, lives=rules.lives)
    later, lost = (later, []) if events.files.days else by_own_times(later, events, living, others, zone, late)
    events, roles = of_what_was_seen(events, roles, later, given, ids)
    _settle(roles, events, later, given, zone)
    roles.outcomes.extend(rules.outcomes_of(events, roles))
    later = [replace(one, copies=copies_of(one)) for one in later]
    return _Shown(events, roles, later, others, days, zone, fits, late, [*lost], given)


def _named_beside(
    given: Mapping[str, str], roles: Roles, rules: Rules, events: Table, inputs: Inputs
) -> tuple[Mapping[str, str], Roles, Rules]:
    """What a person gives, with columns of the tables beside the events as the config names them."""
    if EXPRESSION in given and roles.made_by is not None:
        given = {**given, EXPRESSION: named_beside(given[EXPRESSION], events, inputs.sides)}
        roles = replace(roles, made_by=named_beside(roles.made_by, events, inputs.sides))
    if roles.clicked_by is not None:
        roles = replace(roles, clicked_by=named_beside(roles.clicked_by, events, {}))
    return given, roles, rules.beside(events, inputs.sides)


def _told(shown: _Shown, roles: Roles) -> Iterator[str]:
    """What a person should know of days and of what came of exposures, a line each."""
    yield from _of_days(shown.days, shown.late if len(shown.events.files.files) > 1 else None)
    yield from shown.lost
    yield from unseen(shown.events, roles)
    for one in shown.later:
        if one.said_of_days and not one.reaches:
            yield f"joined.{one.name}: {one.said_of_days}"
        if one.wait is None and one.through is None and any(other.wait and other.wait.given for other in shown.later):
            yield f"joined.{one.name}: --within is of another table: this one names exposures, or has no time"


def _of_files(found: Found, events: Table, whole: Sequence[Table], inputs: Inputs) -> Iterator[str]:
    """What a person should know of files that are not read, or in part, a line each.

    Args:
        whole: the tables beside the events, with all their days.
    """
    read = [side.table.files for side in inputs.sides.values()]
    yield from (_of_few(table, files) for table in whole for files in read if {*files.files} < {*table.files.files})
    yield from (f"{c}: {kind}" for c, kind in events.other.items() if kind.startswith(OBJECT))
    yield from (f"{path}: not used: {why}" for path, why in found.unreadable if NOT_UTF8 in why or why == BRACES)


def _newest(events: Table, later: Sequence[Outcomes], days: Mapping[dt.date, int]) -> dt.date | None:
    """The newest day that is complete, with what came of its exposures."""
    came_of = days_of(later, events, days)
    return complete_day((day, n) for day, n in days.items() if all(day in of for of in came_of))


def _marked(found: Found, table: Table, days: Mapping[dt.date, int], newest: dt.date | None) -> dt.date | None:
    """The last of the newest days up to which each folder of a table is marked as finished; None where none is."""
    last = [d for d in sorted(days)[-_NEWEST:] if newest and d <= newest and found.is_marked(table.files, d)]
    return last[-1] if last else None


def _of_rows(found: Sequence[Table], given: Mapping[str, str]) -> list[Table]:
    """The tables with names of columns, and an element of a list of what was shown as a row."""
    named = [t if t.written.header or t.written.names else _with_names(t) for t in found]
    return [_timed(t if _is_stream(t, named, given) else as_events(t, named, given), given) for t in named]


def _likeliest(named: list[Table], given: Mapping[str, str]) -> Table:
    """The table that looks most like events. A rule of a good click makes one of no table that lacks its columns."""
    rule = given.get(EXPRESSION)
    theirs = {role: c for role, c in given.items() if role != EXPRESSION}
    has = [not rule or not {*sources_of(rule)}.isdisjoint(table.frame.columns) for table in named]
    known = [(roles_of(t.frame, given if its else theirs), t) for t, its in zip(named, has, strict=True)]
    logs = [(table, roles) for roles, table in known]

    def likeness(of: tuple[Roles, Table]) -> tuple[int, bool, int, bool, int, bool, int]:
        roles, table = of
        named, fits = sum(c in table.frame.columns for c in given.values()), fits_events(roles)
        listed = is_catalogue(table.on(table.day), roles)
        dated = bool(table.files.days) and roles.user is not None and roles.time is not None and not listed
        sure = 0 if listed or is_listed(table, logs) else fits
        clicked = roles.click is not None
        return named, not table.has_no_path, sure, dated, 0 if listed else fits, clicked, table.files.bytes

    return max(known, key=likeness)[1]


def _zone(events: Table, roles: Roles, late: Arrival | None, lives: str | None) -> Zone | None:
    """The zone of the log's days and why, where folders of days tell it, or a person."""
    open_ = late is None or late.of_several
    if lives and open_ and roles.time is not None and roles.time_unit not in (None, *DAYS):
        user = roles.user.column if roles.user else None
        return of_users(events.frame[roles.time.column], str(roles.time_unit), lives, events.frame, user)
    return late.zone if late and not late.of_several else None


def _every(events: Table, later: Sequence[Outcomes], roles: Roles, zone: str) -> tuple[Table, dict[dt.date, int]]:
    """A sample of all rows of files of which each has all days, and how many each day has."""
    assert roles.time is not None and roles.time_unit is not None
    whole = later[0].table.explode if events.kinds else events.explode  # lists may be of what was shown alone
    every = replace(events, kinds=None, only_of_others=(), explode=whole)
    return read_whole(every, roles.time.column, roles.time_unit, zone)


def _settle(roles: Roles, events: Table, later: Sequence[Outcomes], given: Mapping[str, str], zone: str) -> None:
    """What all rows tell of the label, and of what is known only after an exposure."""
    if roles.duration and roles.duration.column in events.written.clocks and roles.unit == "ms":
        why = roles.duration.why.rpartition("; ")[0]
        roles.unit, roles.duration = "s", replace(roles.duration, why=f"{why}; texts of lengths of time")
    if not {"duration", "conversion"} & given.keys():
        by_kinds(roles, later)
    roles.made_by = without_rows(roles.made_by, events.frame, later, roles.clicked(events.frame))
    tell_made(roles, events, later)
    roles.outcomes.extend(outcomes_of_requests(events.frame, roles, days_of_rows(events, roles, zone)))


def _is_stream(table: Table, named: Sequence[Table], given: Mapping[str, str]) -> bool:
    """Whether rows with lists are of several kinds, of which only some have them: `parted` tells these apart first."""
    return bool(parallel(table.frame)) and parted(table, named, given) is not None


def _joined(named: list[Table], given: Mapping[str, str], rules: Rules) -> tuple[list[Table], list[Outcomes]]:
    """The tables, the events first with what came of their exposures where that is a table of its own, which is none of
    them then; and such tables. Events have the given users and items, where a table has them, and are not what came of
    the rows of another table."""

    @cache
    def of(k: int) -> Roles:
        roles = roles_beside(named[k], [other for other in named if other is not named[k]], given)
        return replace(roles, lives=rules.lives)

    made = ["click"] if CLICK_WHY in given else []  # of the lists of a table, whose rows are what was shown then
    ids = {c for role, c in given.items() if role in ("user", "item", *made)}
    told = [len(ids.intersection(table.frame.columns)) for table in named]
    first = [k for k, table in enumerate(named) if told[k] == max(told) and not table.has_no_path]
    others = {k: [(other, of(n)) for n, other in enumerate(named) if n != k] for k in first if len(named) > 1}
    listed = {k for k in others if is_listed(named[k], others[k])}
    found = {k: [] if k in listed else outcomes_of(named[k], others[k], of(k)) for k in others}
    in_rules = names_in_rules(given)
    by_day = {k: outcomes_by_day(named[k], others[k], of(k), asked=in_rules) for k in others if k not in listed}
    came = _came(named, found, by_day)
    for k in sorted(first, key=lambda k: id(named[k]) in came):
        table = named[k]
        if (parts := None if id(table) in came else parted(table, named, given)) is not None:
            events, later = parts
            later = [*later, *_beside(events, later, others.get(k, []), given)]
        elif k in listed or k not in others:
            continue
        else:
            events, later = _came_of(table, of(k), found[k], others[k], given)
        if later:
            later = _settled(later, events, of(k), given, rules)
            gone = {file for t in (table, *(one.table for one in later)) for file in t.files.files}
            left = [t for t in named if gone.isdisjoint(t.files.files)]
            return [with_outcomes(events, later), *left], later
    return named, []


def _settled(
    later: Sequence[Outcomes], events: Table, roles: Roles, given: Mapping[str, str], rules: Rules
) -> list[Outcomes]:
    """What came of exposures, with the windows in which it is read and what a person's rules ask of it."""
    later = with_lengths(later, events.frame.columns)
    later = with_windows(later, events, roles, _click(roles, events), rules.within)
    later = with_asked(events, with_days_after(later, events, roles, rules.within), given)
    return later if "conversion" in given else with_none(later)  # a rule says itself what an exposure without a row is


def _apart(later: list[Outcomes], events: Table, given: Mapping[str, str], rules: Rules) -> list[Outcomes]:
    """What came of exposures, with clicks in the window of their own that a person says."""
    if rules.click_within is None:
        return later
    roles = replace(roles_of(with_outcomes(events, later).frame, given), lives=rules.lives)
    return with_clicks_apart(later, events, roles, click_columns(given, roles, later), rules.click_within)


def _came(
    named: Sequence[Table], found: Mapping[int, Sequence[Outcomes]], by_day: Mapping[int, Sequence[Outcomes]]
) -> set[int]:
    """Which tables, by their place in memory, came of another. Of two of each other that one did of which fewer rows of
    the other have one, as a tenth of what was shown is clicked; where no id tells it, the smaller.

    Args:
        found, by_day: what came of tables, by their numbers: by an id, and by user and item of a day.
    """
    pairs = {(id(named[k]), id(one.table)) for mine in (found, by_day) for k in mine for one in mine[k]}
    rates = {(id(named[k]), id(one.table)): one.rate for k in found for one in found[k]}
    sizes = {id(table): table.files.bytes for table in named}

    def is_rarer(b: int, a: int) -> bool:
        there, back = rates.get((a, b)), rates.get((b, a))
        return there < back if there and back and there != back else sizes[b] <= sizes[a]

    return {b for a, b in pairs if (b, a) not in pairs or is_rarer(b, a)}


def _click(roles: Roles, events: Table) -> str | None:
    """The column of clicks of a table that has one of its own."""
    click = roles.click.column if roles.click is not None and roles.clicked_by is None else None
    return click if click in events.frame.columns else None


def _came_of(
    table: Table, roles: Roles, found: list[Outcomes], others: Others, given: Mapping[str, str]
) -> tuple[Table, list[Outcomes]]:
    """The events, and the tables of what came of them: those found by an id, then those by lists and by days."""
    found = rather_by_pair(table, others, roles, found)
    later = [*found, *outcomes_by_pairs(table, [other for other, _ in _rest(others, found)], roles, found)]
    later += rather_by_pair(table, others, roles, outcomes_through(table, _rest(others, later), roles, later), later)
    later += outcomes_by_day(table, _rest(others, later), roles, later, names_in_rules(given))
    for shown, mine in of_lone_lists(table, given) if others and not later else ():
        if came_of := outcomes_by_pairs(shown, [other for other, _ in others], mine):
            return shown, came_of
    return table, later


def _beside(events: Table, later: list[Outcomes], others: Others, given: Mapping[str, str]) -> list[Outcomes]:
    """The tables of what came of a stream's exposures, beside its own kinds of events."""
    shown = with_outcomes(events, later)
    roles = roles_beside(shown, [other for other, _ in others], given)
    found = rather_by_pair(shown, others, roles, outcomes_of(shown, others, roles))
    rest = _rest(others, found)
    return [*found, *outcomes_by_day(shown, rest, roles, [*later, *found], names_in_rules(given))]


def _rest(others: Others, later: Sequence[Outcomes]) -> list[tuple[Table, Roles]]:
    """Those that are not among tables of what came of exposures."""
    return [of for of in others if not any(of[0].files is one.table.files for one in later)]


def _of_days(days: Mapping[dt.date, int], late: Arrival | None) -> Iterator[str]:
    """What a person should know of the days, a line each: of those with few rows as far as they would be proposed."""
    there = [day for day, _ in usual(days.items())]
    if few := sorted(day for day in days if there and (day > there[-1] or (day < there[0] and len(there) < FEW))):
        has = "has" if len(few) == 1 else "have"
        yield f"{', '.join(map(str, few))} {has} less than a tenth of a usual day: left out of what is proposed"
    if late is not None and late.is_told and not late.asked:
        then = "date_column and timezone are written" if late.is_of_events else f"are folders of arrival? {BY_TIME}"
        yield f"{late.why}: {then}"


def _of_few(table: Table, read: Files) -> str:
    """What is said of a table of few days, of which the newest alone is read."""
    few = f"{table.files.name} has {len(table.files.days)} days, fewer than most of the log's"
    return f"{few}: {read.name} alone is read, as one state for all days"


def _timed(table: Table, given: Mapping[str, str]) -> Table:
    """The table with texts such as 3:45 of the given duration as seconds; of Parquet of one that is named so."""
    c = given.get("duration", _named_length(table, given))
    if c not in table.frame.columns or table.frame[c].dtype != pl.String:
        return table
    known = not_negative(table.frame[c].filter(table.frame[c] != "")).drop_nulls()
    if not len(known) or clock_seconds(known).null_count():
        return table
    text = replace(table.written, clocks=table.written.clocks | {c})
    return replace(table, frame=in_seconds(table.frame, [c]), text=text)


def _named_length(table: Table, given: Mapping[str, str]) -> str | None:
    """The column of texts such as 3:45 that says how long an item was read, of a table without types."""
    if table.text is not None or {"conversion", EXPRESSION} & given.keys():
        return None
    texts = (s for s in table.frame if s.dtype == pl.String and words.by_name(s.name, words.DURATION) > 1)
    lengths = [s.name for s in texts if is_clock(s)]
    roles = roles_of(table.frame, given) if lengths else Roles()
    found = (c for c in lengths if roles.click is not None and not roles.owns(table.frame, c))
    return next(found, None)


def _warnings(events: Table, roles: Roles, left: Sequence[LeftOut]) -> list[str]:
    lines = list[str]()
    if not (events.written.header or events.written.source):
        fix = "write the right ones into data.csv.columns, or lay a file with CREATE TABLE beside the log"
        lines.append(f"{events.path} has no header: names of its columns are guesses by their place: {fix}")
    if roles.user is None or roles.item is None or roles.behaviour is not None:
        return lines
    user, item = (Ids.of(events.frame[g.column]) for g in (roles.user, roles.item))
    click = roles.click.column if roles.click else None
    text = events.files.form in (CSV, JSON)
    dropped = invalid_rows(events.frame, roles, ()) is not None  # as is then written
    lines += [line for ids in (user, item) for line in null_ids(ids, text=text, dropped=dropped)]
    asked = condition_of(events, roles, left)
    where = None if asked is None else asked[0]
    lines += crowd(user, kept=True, where=where)
    people, goods = (_without(left, ids) for ids in (user, item))
    lines += nobody(people, where=where) + no_item(goods, people, where=where)
    told = warnings(user.column, item.column, len(user.ids), len(item.ids), len(events.frame), click)
    if click is None and roles.conversion is not None and words.by_name(roles.conversion.column, words.CLICK):
        c = roles.conversion.column
        told[-1] = f"{told[-1]}, and {c} is what a good one is: if {c} is the click, leave --conversion {c} out"
    return [*told, *lines]


def _without(left: Sequence[LeftOut], of: Ids) -> Ids:
    """Ids without those that are left out."""
    there = ~of.ids.cast(pl.String).is_in([one.id for one in left if one.column == of.column and one.id is not None])
    return Ids(of.column, of.ids.filter(there), of.rows.filter(there))


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
    """A table without a header, of which a catalogue's columns are called by its file: `data.types` knows them by name,
    whichever table has them."""
    frame, text = with_names(table.frame), table.text
    if frame.columns == table.frame.columns:
        frame = frame.rename({c: f"{named_after(table)}_{k + 1}" for k, c in enumerate(frame.columns)})
    names = dict(zip(table.frame.columns, frame.columns, strict=True))
    if text is not None:
        formats = {names[c]: kind for c, kind in text.formats.items()}
        text = replace(text, clocks=frozenset(names[c] for c in text.clocks), formats=formats)
    return replace(table, frame=frame, text=text)


def days_of(later: Sequence[Outcomes], events: Table, days: Iterable[dt.date]) -> list[set[dt.date]]:
    """The days of each table of what came of exposures that has days, in files of its own or in the events', as they
    are waited for; of one of which a day reads further days, those that have these too.

    Args:
        days: of the events.
    """
    out = list[set[dt.date]]()
    for one in later:
        files, after = one.table.files, one.days_after
        there = {*days} if files.files == events.files.files else {day for day, _ in files.days}
        if not there and after and one.wait is not None:
            there = {*local_days(one.table.frame[one.wait.came[0]], one.wait.came[1], "UTC").drop_nulls()}
        elif not there:
            continue
        out.append({day for day in there if all(before(day, -k) in there for k in range(after + 1))})
    return out
