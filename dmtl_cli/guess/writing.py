"""Guesses as the text of a config: one line each, with its reason in a comment. What could not be guessed is a line
too, as a comment that says EDIT."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace

from dmtl_cli.config.errors import printable
from dmtl_cli.data.log.files.day_files import SUCCESS
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.formats import times_unread
from dmtl_cli.guess.columns.roles import Guess
from dmtl_cli.guess.columns.sql import comment, quoted, scalar, sql_name, where_of
from dmtl_cli.guess.columns.values import DAYS, free, mean
from dmtl_cli.guess.columns.zones import AS_SAID, is_naive
from dmtl_cli.guess.exposures.doubts import from_floats, invalid_rows, unknown_clicks
from dmtl_cli.guess.exposures.guests import lines_of as guest_lines
from dmtl_cli.guess.exposures.ids import candidates, floats_named, times_of
from dmtl_cli.guess.exposures.labels import GOOD
from dmtl_cli.guess.feature_lines import feature_lines, indented, joined_lines
from dmtl_cli.guess.features.goals import by_length, goal_lines
from dmtl_cli.guess.findings.left_out import condition_of
from dmtl_cli.guess.findings.unclicked import acted
from dmtl_cli.guess.known import Log, instants_of, timezone_of
from dmtl_cli.guess.outcomes.state_lines import state_lines
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.reading.arrival import BY_TIME
from dmtl_cli.guess.reading.files import CSV, JSON, PARQUET
from dmtl_cli.guess.reading.rewrites import list_of_shown
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.reading.texts import Text
from dmtl_cli.guess.sides.births import naive, of_sample
from dmtl_cli.guess.sides.side_tables import Side
from dmtl_cli.guess.text_lines import Types, alone, csv_keys, csv_lines, encoded, tables_of, types_of

EDIT = "EDIT"
"""begins the comment of a line that a person has to write"""
_MOST = 8  # columns that a comment lists
_LONG_READ = "seconds above which a click is a long read, in place of the mean of clicks"
_SHARE = "Or by the share of an item that was read, in data.events in place of duration and duration_unit:"


def written(log: Log, workspace: str, about: list[str]) -> tuple[str, list[tuple[int, str, str]]]:
    """The config of a log, and (line, key, what to do) of what a person has to write before it is one.

    Args:
        workspace: where it publishes.
        about: comments at the top.
    """
    lines = [f"# {line}" for line in (*map(printable, about), *(f"WARNING: {comment(line)}" for line in log.warnings))]
    lines += [f"workspace: {scalar(workspace)}", "seed: 1", "threads: 1  # more is faster, where there are cores", ""]
    lines += ["data:", *indented(_data(log)), "", *feature_lines(log.roles, log.inputs)]
    if log.roles.long_read is not None and log.roles.duration:
        what = "a rating" if words.by_name(log.roles.duration.column, words.RATING) else "a share of an item"
        share = f"{what} above it is a good one: {log.roles.duration.why}"
        lines += ["", "labels:", f"  long_read: {log.roles.long_read:g}  # {share}"]
    elif log.roles.duration is not None:
        lines += ["", f"# labels: {{long_read: 30}}  # {_LONG_READ}"]
        if (line := by_length(log.events.frame, log.roles)) is not None:
            name = free("watched_share", log.events.frame.columns)
            lines += [f"# {_SHARE}", f"#   duration: {name}", f"#   computed: {{{name}: {quoted(line)}}}"]
            lines += ["# with labels: {long_read: 0.5}, half of it"]
    lines += ["", *log.inputs.served.lines] if log.inputs.served.lines else []
    text = "\n".join(lines) + "\n"
    marked = re.compile(rf"\s*# (\w+): .*?# {EDIT}: (.*)")
    edits = [(k, found[1], found[2]) for k, line in enumerate(lines, 1) if (found := marked.match(line))]
    return text, edits


# -- data --------------------------------------------------------------------------------------------------------------


def _data(log: Log) -> list[str]:
    files, roles, types = log.events.files, log.roles, types_of(log)
    lines = [f"root: {scalar(log.events.root)}"]
    if files.form != PARQUET:
        lines.append(f"format: {files.form}")
    lines += csv_lines(log.events)
    of_json = [table.written for table in tables_of(log) if table.files.form == JSON]
    if nulls := sorted({null for text in of_json for null in text.nulls}):
        told = "".join(map(alone, of_json))
        lines.append(
            f"null_values: [{', '.join(map(quoted, nulls))}]  # texts that stand for none, in every column{told}"
        )
    lines += types.lines
    lines += _zone(log)
    lines += ["events:", *indented(_events(log, types))]
    for one in log.inputs.perhaps:
        place = ", ".join(_place(one.table, log.events, types))
        key = f"key: {scalar(one.key.column)}"
        lines.append(f"# users or items: {{{place}, {key}}}  # a table of one of them? {comment(one.key.why)}")
    for name in ("users", "items") if roles.user and roles.item else ():
        if (side := log.inputs.sides.get(name)) is not None:
            lines += _side(log, name, side, types)
        else:
            lines.append(f"# {name}: {{path: FOLDER, key: COLUMN}}  # no table of {name} was found beside the events")
    lines += [f"# {comment(path)}: not used: {comment(why)}" for path, why in log.inputs.other]
    return lines


def _side(log: Log, name: str, side: Side, types: Types) -> list[str]:
    """A table of users or items: one line, but a line each of what says since and until when its rows are there."""
    keys = [*_place(side.table, log.events, types), f"key: {scalar(side.key.column)}"]
    keys += [f"lag_days: {side.lag}"] if side.late else []
    keys += [f"success_file: {SUCCESS}"] if name in log.sides else []
    mine = [i for i in (*log.inputs.used, *log.inputs.held) if i.computed_as and f"{i.side}s" == name]
    made = ", ".join(f"{scalar(i.computed_as)}: {quoted(sql_name(i.column))}" for i in mine if i.computed_as)
    keys += [f"computed: {{{made}}}"] if made else []
    zone = of_sample(side, log.events.frame, log.roles, days) if (days := timezone_of(log)) else None
    read = f", so day D reads that of D-{side.lag} (lag_days: 0 if it is a table of the morning)" if side.late else ""
    texts = alone(side.table.written) if side.table.files.form == CSV else ""
    told = side.key.why, side.caveat, encoded(side.table.written)
    why = comment("; ".join(filter(None, told)) + read + texts)
    if side.version is None and side.until is None:
        return [f"{name}: {{{', '.join(keys)}}}  # {why}"]
    lines = [f"{name}:  # {why}", *(f"  {key}" for key in keys)]
    for role, one in (("version", side.version), ("until", side.until)):
        if one is not None:
            why = one.why.removeprefix(f"{one.column}: ")
            lines.append(f"  {role}: {scalar(one.column)}  # {comment(why)}")
    lines += ["  version_only_orders: true"] if side.version and side.version.only_orders else []
    lines += ["  until_is_last_day: true"] if side.until and side.until.is_last_day else []
    zoneless = None if zone else _zoneless(side)
    if zoneless and log.lives:  # nobody is asked again
        zone = _said(log, side)
    elif zoneless:
        lines.append(f"  # {zoneless}")
    return [*lines, *([f"  version_timezone: {zone[0]}  # {comment(zone[1])}"] if zone else [])]


def _said(log: Log, side: Side) -> tuple[str, str] | None:
    """The zone of a version's times that name none, as that of the users; None where those of the events are of it too,
    or the type of the events' time reads them."""
    days, time = timezone_of(log), log.roles.time
    typed = time is not None and side.version is not None and side.version.column == time.column
    if days is None or days.name != log.lives or days.is_local or typed:
        return None
    return days.name, f"its times name no zone: {AS_SAID}"


def _zoneless(side: Side) -> str | None:
    """In which zone the times of a version are read that name none."""
    if side.version is None or not side.version.is_instant or naive(side.table.frame[side.version.column]) is None:
        return None
    return "its times name no zone: they are read as those of data.timezone (of another: version_timezone)"


def _has_naive(log: Log) -> bool:
    """Whether a table of a day has times that name no zone, beside events whose times do: check asks when it was
    written."""
    time = log.roles.time
    if time is None or is_naive(log.events.frame[time.column], str(log.roles.time_unit)):
        return False
    tables = [side.table for side in log.inputs.sides.values() if side.table.files.days]
    return any(is_naive(t.frame[c], unit) for t in tables for c, unit in times_of(t.frame).items())


def _zone(log: Log) -> list[str]:
    """data.timezone where a time gives the day, of the events or of what came of them, or tells since when a row of a
    side table holds, as far as values tell it; and where a person names it."""
    if (zone := timezone_of(log)) is None:
        return []
    dated = bool(log.events.files.days) or log.roles.time_unit in DAYS
    if dated and not (instants_of(log) or log.lives or (zone.name != "UTC" and _has_naive(log))):
        return []
    why = zone.why if dated else f"{zone.why}: it decides which day a row is of"
    clock = ["naive_times: local  # times that name no zone are of this one; written in UTC? utc"]
    return [f"timezone: {zone.name}  # {comment(why)}", *(clock if zone.is_local else [])]


def _place(table: Table, events: Table, types: Types) -> list[str]:
    """Where a side table is, in keys of a flow mapping."""
    files = table.files
    keys = [f"path: {scalar(table.path)}"]
    if files.partition:
        keys.append(f"partition: {files.partition}")
    if files.form != events.files.form:
        keys.append(f"format: {files.form}")
    usual = events.written if events.files.form == CSV else Text()
    if files.form == CSV and (table.written != usual or not table.written.header):
        keys.append(f"csv: {{{', '.join(key for key, _ in csv_keys(table))}}}")
    keys += types.keys(table)
    keys += [f"explode: {_exploded(table)}"] if table.explode else []
    return [*keys, *([f"where: {quoted(where_of(table.kinds))}"] if table.kinds else [])]


def _exploded(table: Table) -> str:
    names = table.explode
    return scalar(names[0]) if len(names) == 1 else f"[{', '.join(map(scalar, names))}]"


def _events(log: Log, types: Types) -> list[str]:
    files, roles, lines = log.events.files, log.roles, []
    span = f"  # {_span(files.days)}" if files.days else ""
    lines.append(f"path: {scalar(log.events.path)}{span}")
    if files.partition:
        lines.append(f"partition: {files.partition}")
    if (late := log.arrival) is not None and late.is_told and not late.is_of_events:
        then = f"if folders are days of arrival, init {BY_TIME} reads each row on the day of its time"
        none = "a folder of the events alone would let a column give the day (date_column)"
        lines.append(f"# {comment(late.why)}: {none if late.place is None else then}")
    elif not files.days and not files.partition:
        lines.append(_date_column(log))
    if log.marked:
        lines.append(
            f"success_file: {SUCCESS}  # each day's folder has one: a day that is still being written is not read"
        )
    objects = "  # objects: their fields are columns" if log.events.objects else ""
    lines += [f"{key}{objects}" for key in types.keys(log.events)]
    if log.events.explode:
        is_alone = log.events.explode[0] in log.events.frame.columns and len(log.events.explode) == 1
        alike = f"{'a list' if is_alone else 'lists as long as each other in every row'}: an element is an event"
        lines.append(f"explode: {_exploded(log.events)}  # {alike}")
    if log.events.place is not None:
        lines.append(f"explode_position: {log.events.place}  # an element's place in its list, from 1")
    if (asked := condition_of(log.events, roles, log.left)) is not None:
        lines.append(f"where: {quoted(asked[0])}  # {comment(asked[1])}")
    for role in ("user", "item"):
        lines.append(_role(log, role, f"name the column of the {role}'s id"))
        if role == "user" and log.inputs.guests is not None:
            lines += map(comment, guest_lines(log.inputs.guests, log.events.frame.columns))
    if roles.time is not None:
        lines.append(_line("time", roles.time))
    else:
        told = times_unread(log.events.frame, text=files.form in (CSV, JSON))
        unread = f" ({comment(told)})" if told else ""
        none = f"no column looks like a time{unread}: rows count in the order of the files"
        lines.append(f"# time: COLUMN  # {none}")
    pairs = {one.key: one.computed[0] for one in log.later if one.computed}
    once = dict.fromkeys(one.key for one in log.later if one.once)
    lines += [f"unique: {key}  # of a user and item one exposure a day: what follows names none" for key in once]
    lines += [_line("unique", log.once)] if log.once is not None else []
    lines += _labels(log)
    made = pairs | roles.made | {name: sql_name(one.column) for name, one in log.inputs.shown.items()}
    computed = ", ".join(f"{c}: {quoted(text)}" for c, text in made.items())
    lines += [f"computed: {{{computed}}}"] if computed else []
    lines += acted(log.events.frame, roles, pairs, log.later) if roles.made_by else []
    if (why := invalid_rows(log.events.frame, roles, log.broken)) is not None:
        lines.append(f"invalid_rows: drop  # {comment(why)}: such rows are left out")
    if roles.request is not None:
        lines.append(_line("request", roles.request))
    else:
        lines.append("# request: COLUMN  # no column looks like a request (one served list)")
    return lines + joined_lines(log.later, lambda one: _place_of(log, one, types)) + _later(log)


def _place_of(log: Log, one: Outcomes, types: Types) -> list[str]:
    """Where a joined table is, and the column of its days: of the events' files they are told as the events' are."""
    files, time, table = log.events.files, log.roles.time, one.table
    if table.files.files != files.files:
        more = [f"date_column: {scalar(one.dated)}"] if one.dated else []
        more += [f"success_file: {SUCCESS}"] if f"joined.{one.name}" in log.sides else []
        return [*_place(table, log.events, types), *more]
    dated = time is not None and not files.days and not files.partition
    more = [f"date_column: {scalar(time.column)}"] if dated and time is not None else []
    more += [f"success_file: {SUCCESS}"] if log.marked else []
    return [*_place(replace(table, files=files), log.events, types), *more]


def _span(days: tuple[tuple[dt.date, int], ...]) -> str:
    first, last = days[0][0], days[-1][0]
    return words.count(len(days), "day") + (f", {first} .. {last}" if len(days) > 1 else f", {first}")


def _role(log: Log, role: str, todo: str) -> str:
    guess = getattr(log.roles, role)
    if guess is not None:
        return _line(role, guess)
    columns, left = log.events.frame.columns, candidates(log.events.frame, log.roles)
    if role == "item" and (shown := list_of_shown(log.events.frame, left)) is not None:
        long = f"{mean(log.events.frame[shown].list.len()):.0f}"
        seen = f"{shown} has lists of {long}, each of whose elements is a row then"
        return f"# {role}: COLUMN  # {EDIT}: {todo}, or give init --{role} COLUMN: {comment(seen)}"
    if (odd := floats_named(log.events.frame, role)) is not None:
        why = f"{odd.name} is named like one, and has floats ({odd.drop_nulls()[0]}), which are no ids"
        return f"# {role}: COLUMN  # {EDIT}: {todo}; {comment(why)}: {from_floats(role, odd)}"
    if left:
        return f"# {role}: COLUMN  # {EDIT}: {todo}, or give init --{role} COLUMN: {comment(_few(left))}"
    return f"# {role}: COLUMN  # {EDIT}: {todo}; no column is named like one: {comment(_few(columns))}"


def _few(columns: list[str]) -> str:
    return ", ".join(columns[:_MOST]) + (f" and {len(columns) - _MOST} more" if len(columns) > _MOST else "")


def _date_column(log: Log) -> str:
    roles = log.roles
    if roles.time is None:
        todo = "name a column of times or days, or cut the log into folders day=YYYY-MM-DD"
        text = log.events.files.form in (CSV, JSON)
        seen = times_unread(log.events.frame, text=text, days=True) or "nothing looks like a day"
        return f"# date_column: COLUMN  # {EDIT}: {todo}; {comment(seen)}"
    late = f"; {comment(log.arrival.why)}" if log.arrival is not None and log.arrival.is_of_events else ""
    return f"date_column: {scalar(roles.time.column)}  # it gives the day; {comment(roles.time.why)}{late}"


def _labels(log: Log) -> list[str]:
    """click, and what tells a good one."""
    roles = log.roles
    if roles.behaviour is not None:
        g = roles.behaviour
        ids = "name the user and the item (init --user COLUMN --item COLUMN)"
        met = "few of the others are of a user and item that were shown: is one of the two another column?"
        todo = f"{g.why}: {met if roles.user and roles.item else ids}"
        return ["# click: COLUMN", f"# conversion: COLUMN  # {EDIT}: {comment(todo)}"]
    lines, states = [], [] if roles.made_by else state_lines(log.events.frame, roles, log.later)
    if roles.click is not None:
        lines.append(_line("click", roles.click))
        s = log.events.frame[roles.click.column]
        lines += [f"null_click: no_click  # {comment(why)}"] if (why := unknown_clicks(s)) else []
    else:
        none = "no column of 0 and 1 is named like a click: every row counts as one"
        if flags := roles.perhaps_clicks:
            none += f"; it may be (init --click COLUMN, or 'EXPRESSION'): {comment(flags)}"
        lines.append(f"# click: COLUMN  # {none}")
    if roles.duration is not None:
        lines.append(_line("duration", roles.duration))
        if roles.unit == "ms":
            lines.append("duration_unit: ms")
    elif roles.conversion is not None:
        if roles.made_by is None:
            lines.append(_line("conversion", roles.conversion))
        else:
            why = comment(roles.conversion.why.partition(": ")[0])  # the rule is below it
            lines.append(f"conversion: {roles.conversion.column}  # {why}")
    else:
        todo = "say what a good click is: init --conversion 'RULE', in SQL, or init --duration COLUMN"
        if roles.user is None or roles.item is None:
            return [*lines, "# duration: COLUMN  # init looks for it once the user and the item are known"]
        perhaps = "one of the lines below may be it" if log.goals or states else "nothing looks like one"
        lines.append(f"# duration: COLUMN  # {EDIT}: {todo}; {perhaps}")
    return [*lines, *goal_lines(log.goals, free(GOOD, log.events.frame.columns)), *map(comment, states)]


def _later(log: Log) -> list[str]:
    roles, lines = log.roles, list[str]()
    if roles.further:
        named = ", ".join(f"{name}: {scalar(g.column)}" for name, g in roles.further.items())
        lines.append(f"# conversions: {{{named}}}  # tasks beside it, where you want them predicted and fused")
    named_already = {g.column for g in roles.named.values()} | {c for one in log.later for c in one.columns}
    if outcomes := [g for g in roles.outcomes if g.column not in named_already]:
        lines.append("outcomes:  # known only after the exposure: never features")
        lines += [f"  - {scalar(g.column)}  # {comment(g.why)}" for g in outcomes]
    return lines


def _line(role: str, guess: Guess) -> str:
    others = f"; or {', '.join(guess.others[:3])}" if guess.others else ""
    return f"{role}: {scalar(guess.column)}  # {comment(guess.why + others)}"
