"""Rows that are no events: which are left out of a day where the config says so, and why."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence

import polars as pl

from dmtl_cli.config.data import Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.checked.labels import read_click
from dmtl_cli.data.log.values.types import instants

DAY, LINE, UNSET = "day", "line", "unset"
FACT = "left_out."
"""begins the name of a fact of a day: rows left out for a reason"""
BESIDE = "lines_left_out"
"""lines of the tables beside the events that do not parse, by the table, in `check` and in a manifest's facts"""
MOST = 0.5
"""of a day's rows"""
REASONS = {
    LINE: "line{s} that do{es} not parse",
    "user": "with no user id that can be one",
    "item": "with no item id that can be one",
    "time": "with no time",
    "duration": "with a negative or infinite duration of a click",
    DAY: "with no day",
    UNSET: "with a time of 1970, as of a clock that was never set",
}
"""why, in the order in which a row is looked at: it counts for the first"""


_OF_NO_DAY = (DAY, UNSET)
_UNSET = dt.date(1969, 12, 31), dt.date(1970, 1, 1)  # in any zone


def is_unset(days: pl.Series) -> pl.Series:
    """Whether a day is that of a clock that was never set: it is none of the log's."""
    return days.is_between(*_UNSET).fill_null(False)


def is_of_1970(times: pl.Series) -> pl.Series:
    """Whether a time is of 1970 among more that are not, as of a clock that was never set: a timestamp, ISO text, or a
    number since 1970. Where most are, they are the times of a day, or of another clock."""
    none = pl.repeat(False, len(times), eager=True)
    if times.dtype in (pl.Date, pl.Datetime):
        unset = is_unset(times.cast(pl.Date))
    elif times.dtype == pl.String:
        unset = (times.str.starts_with("1970-01-01") | times.str.starts_with("1969-12-31")).fill_null(False)
    elif times.dtype.is_numeric() and 2 * instants(times).count() > len(times):
        unset = is_unset(instants(times, least=None).dt.date())
    else:
        return none
    return unset if 2 * unset.sum() < times.count() else none


def remedies(events: Events) -> dict[str, str]:
    """What to do with a value that does not fit, as `Checked` takes it."""
    drop = "correct it, or set data.events.invalid_rows: drop, which leaves out and counts such rows"
    found = {c: drop for c in (events.user, events.item, events.duration) if c}
    found |= {f"{c}?": drop for c in (events.time, events.date_column) if c}
    if events.click:
        found[f"{events.click}?"] = "set data.events.null_click: no_click, if null says that there was no click"
    return found


def columns(events: Events) -> set[str]:
    """Those that decide whether a row is left out; none where none is."""
    if events.invalid_rows == "refuse":
        return set()
    return {c for c in (events.user, events.item, events.time, events.click, events.duration) if c}


def valid(rows: Checked, events: Events, left_out: Counter[str]) -> Checked:
    """The rows that are events; the others, where the config leaves them out, are counted by reason. Raises UserError
    65."""
    if events.invalid_rows == "refuse":
        return rows
    good = {"user": rows.has_id(events.user), "item": rows.has_id(events.item)}
    if events.time:
        good["time"] = rows.frame[events.time].is_not_null()
        good[UNSET] = ~is_of_1970(rows.frame[events.time])
    if events.duration:
        good["duration"] = (read_click(rows, events) == 0) | rows.is_number(events.duration)
    keep = pl.Series([True]).new_from_index(0, len(rows.frame))
    for reason, fits in good.items():
        left_out[reason] += int((keep & ~fits).sum())
        keep &= fits
    return rows.only(keep)


def require_most(day: dt.date | None, kept: int, left_out: Mapping[str, int], table: str = "events") -> None:
    """Raises UserError 65 where more rows of a day were left out than kept for what is wrong with them; those of no day
    are not the day's.

    Args:
        day: None: the table is one for all days.
    """
    found = {reason: left_out[reason] for reason in REASONS if reason not in _OF_NO_DAY and left_out.get(reason)}
    gone = sum(found.values())
    if gone > MOST * (kept + gone):
        what = f"{table}: {f'day {day}: ' if day else ''}{in_words(kept, left_out)}"
        lines = 2 * left_out.get(LINE, 0) > gone
        look = "is the format (data.csv) as the files are written?" if lines else "look at the columns of data.events"
        raise UserError(what, f"{look}: at most {MOST:.0%} may be left out")


def facts_of(left_out: Mapping[str, int], beside: Mapping[str, int]) -> dict[str, float]:
    """Facts of a day, by reasons that there were.

    Args:
        beside: lines that do not parse by the table beside the events that has them.
    """
    facts = {FACT + reason: float(left_out[reason]) for reason in REASONS if left_out.get(reason)}
    return facts | {f"{BESIDE}.{table}": float(n) for table, n in beside.items() if n}


def left_out(days: Sequence[Day]) -> dict[str, dict[str, int]]:
    """`left_out` of a manifest's facts: rows that were left out of days, by reason; and `BESIDE`: of each table the
    lines of the day that has most, as one table may be that of all days. Nothing where none was."""
    found, beside = Counter[str](), Counter[str]()
    for day in days:
        found.update(reasons(day.facts))
        beside |= Counter(lines_beside(day.facts))
    return ({"left_out": dict(found)} if found else {}) | ({BESIDE: dict(beside)} if beside else {})


def reasons(facts: Mapping[str, float]) -> dict[str, int]:
    """Rows left out by reason, of a day's facts."""
    return {name.removeprefix(FACT): int(n) for name, n in facts.items() if name.startswith(FACT)}


def lines_beside(facts: Mapping[str, float]) -> dict[str, int]:
    """Lines that do not parse of the tables beside the events, by table, of a day's facts."""
    return {name.removeprefix(f"{BESIDE}."): int(n) for name, n in facts.items() if name.startswith(f"{BESIDE}.")}


def in_words(kept: int, left_out: Mapping[str, int]) -> str:
    """`12 of 5,000 rows are left out (0.2%): 10 with no user id that can be one, 2 with no time`."""
    gone, why = sum(left_out.values()), ", ".join(parts_in_words(left_out))
    return f"{gone:,} of {kept + gone:,} rows are left out ({gone / max(1, kept + gone):.1%}): {why}"


def parts_in_words(left_out: Mapping[str, int]) -> list[str]:
    """`10 with no user id that can be one`, `2 with no time`."""
    some = {words: n for reason, words in REASONS.items() if (n := left_out.get(reason))}
    return [f"{n:,} {w.format(s='s' * (n > 1), es='es' * (n == 1))}" for w, n in some.items()]
