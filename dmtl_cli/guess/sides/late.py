"""Side tables that know what they are to predict: written when their day has passed, or counting its events."""

from __future__ import annotations

import copy
import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.data import SideTable
from dmtl_cli.config.days import Calendar, before
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.files.shares import share_groups
from dmtl_cli.data.log.files.table import Table as LogTable
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import FEW, numbers, share, short, time_unit
from dmtl_cli.guess.columns.zones import in_utc, is_naive
from dmtl_cli.guess.exposures.ids import times_of
from dmtl_cli.guess.reading.rows import head_of, names_of, whole
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.sides.served import told
from dmtl_cli.guess.sides.states import LOOSELY, Shown, rank_correlation, total, withdrawn
from dmtl_cli.runs.ranks import ALONE

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
FOLLOWS = 0.9
"""correlation with the log's own counts, from which on a column is one of them"""
_IN_SAMPLE = 0.8  # as much in some rows of a log
NIGHT = dt.timedelta(hours=6)
"""after the day's first events, in which a table of the morning is written"""
_A_DAY, _LONGEST = dt.timedelta(days=1), 3  # days that a table may lag
_SOON = dt.timedelta(days=2)  # after them; a later time is one that is yet to come, such as when an offer ends
_STRAY = 0.01  # of the events may be earlier ones that came late
_EQUAL = 0.9  # of the ids have the day's very count
_HALF, _LOOSELY = 0.5, 0.5  # of the ids, and of what a count does not explain; rank correlation of any count
Counts = dict[str, npt.NDArray[np.int64]]
"""how many events of the user or item in each row of a day, and how many clicks where a column tells them"""
SUSPECT = 0.6
"""correlation with the counts of one day, from which on other days are counted too"""
_DAYS, _MOST_ROWS = 7, 2_000_000  # before and after the day, and rows of all of them
_EVES, _APART = 3, 0.3  # days before it, of items that stop; shares of a value's items that are shown


def written_late(times: Mapping[str, pl.Series], at: pl.Series) -> tuple[str, dt.datetime] | None:
    """(column, its newest time) where a table's own times say that it was written long after its day had begun.

    A table of the morning may have times of tomorrow, which are no times of writing: a column with a time beyond the
    day after says nothing.

    Args:
        times: instants of the table's columns of times, by name; nulls are allowed.
        at: instants of the day's events.
    """
    events = at.drop_nulls().sort()
    if len(events) < FEW:
        return None
    begin = events[int(_STRAY * len(events))]
    newest = {c: end for c, s in times.items() if isinstance(end := s.max(), dt.datetime)}
    late = {c: end for c, end in newest.items() if begin + NIGHT <= end <= begin + _SOON}
    return max(late.items(), key=lambda one: one[1]) if late else None


def clocks(frame: pl.DataFrame, zone: str) -> dict[str, pl.Series]:
    """The instants of a table's columns of times; a day without a clock does not say when in it a table was written.

    Args:
        zone: of times that name none.
    """
    found = {c: _instants(frame[c], zone) for c in times_of(frame)}
    return {c: s for c, s in found.items() if s is not None}


def lagging(table: Table, events: Table, roles: Roles, zone: str) -> tuple[int, str] | None:
    """(how many days before a day the side table is that it may read, why) of one that must not be the day's own; None
    where nothing says so, or there is none of that day."""
    at = roles.instants(events.frame)
    if at is None:
        return None
    of = None if events.files.days else roles.days(events.frame, zone)
    assert roles.time is not None
    local = "UTC" if is_naive(events.frame[roles.time.column], str(roles.time_unit)) else zone
    for day, _, _ in reversed(table.pieces):
        rows = table.of_day(day)
        if of is None:
            known = events.of_day(day)
            there = None if known is None else roles.instants(known)
        else:
            there = at.filter((of == day).fill_null(False))
        if rows is None or there is None or before(day) not in dict(table.files.days):
            continue
        if (found := written_late(clocks(rows, local), there)) is not None:
            lag = _lag(table, day, there, found, local)
            why = f"it is written when its day has passed: its {found[0]} of {day} reaches {said(found[1])}"
            return lag, why + " and events of the next have come" * (lag > 1)
    return None


def _lag(table: Table, day: dt.date, at: pl.Series, written: tuple[str, dt.datetime], zone: str) -> int:
    """How many days before a day its side table is that was written before the day's events, as `check` asks it too: a
    table of yesterday may be written when half of today is over.

    Args:
        at: instants of the day's events.
        written: column and newest time of the day's own table, which stand for those of days that no sample has.
        zone: of times that name none.
    """
    there = dict(table.files.days)
    for lag in range(1, _LONGEST):
        rows = table.of_day(before(day, lag))
        shifted = {written[0]: pl.Series([written[1] - lag * _A_DAY])}
        if before(day, lag + 1) not in there or not written_late(shifted if rows is None else clocks(rows, zone), at):
            return lag
    return _LONGEST


def said(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def counted(
    values: pl.Series, counts: Ints, earlier: Callable[[], Ints | None], what: str, whose: str
) -> tuple[float, str] | None:
    """(how surely, how) a column counts the day's events, which no table of the morning knows; None where it does not.

    It is the very number of nearly all ids with several, and not all as many; or that number of at least half of them
    and less of nearly all others, as what grows by today's events and forgets those of a week ago; or it is in their
    order, and much less in that of the day before, whose events a morning does know.

    Args:
        values: [n] of ids; nulls are allowed.
        counts: [n] events of the day.
        earlier: gives those of the day before; None where it cannot be read.
        what: what these events are called.
        whose: what the ids are called.
    """
    x, known = values.to_numpy(), values.is_not_null().to_numpy()
    some = known & (counts > 1)
    if some.sum() < FEW or len(np.unique(counts[some])) < 3 or ranked(x[some], counts[some]) < _LOOSELY:
        return None
    same, not_above = float((x == counts)[some].mean()), float((x <= counts)[some].mean())
    of = f"the number of the day's {what}, for {same:.0%} of the {int(some.sum()):,} {whose} with several"
    if same >= _EQUAL:
        return 2 + same, f"is {of}"
    if same >= _HALF and not_above >= _EQUAL:
        return 1 + same, f"is {of}, and less for others, as a count of some days forgets old ones"
    active = known & (counts > 0)
    r = ranked(x[active], counts[active])
    if r < FOLLOWS or (eve := earlier()) is None:
        return None
    r_eve = ranked(x[active], eve[active])
    if 1 - r**2 > (1 - r_eve**2) * _HALF:
        return None
    return r, f"follows the day's {what} (rank correlation {short(r)}; {short(r_eve)} with those of the day before)"


def follows(values: pl.Series, counts: Ints) -> float:
    """How closely a column follows counts of events, over ids that have some: their rank correlation, or the plain one
    where a few have most of them and the others hardly enough for a rank. The latter must not be that of a single id:
    those with most are left out once.

    Args:
        values: [n] of ids; nulls are allowed.
        counts: [n] events.
    """
    some = values.is_not_null().to_numpy() & (counts > 0)
    x, n = values.to_numpy()[some].astype(np.float64), counts[some].astype(np.float64)
    if len(n) < FEW or not np.isfinite(x).all() or len(np.unique(x)) < 3:
        return 0.0
    rest = np.ones(len(n), np.bool_)
    rest[[int(x.argmax()), int(n.argmax())]] = False
    return max(ranked(x, n), min(correlation(x, n), correlation(x[rest], n[rest])))


def totals_of(frame: pl.DataFrame, key: str, columns: Iterable[str], ids: pl.Series, clicked: pl.Series) -> list[str]:
    """The columns of a table without days that follow the counts of a sample of events: see `follows`.

    Args:
        frame: one row an id in the column `key`.
        columns: those to look at.
        ids: [n] whose the events are.
        clicked: [n] which are clicks.
    """
    if ids.dtype != frame[key].dtype:
        return []
    rows = pl.DataFrame([ids.alias(key), clicked.cast(pl.Int64).alias(":clicks")])
    counts = rows.group_by(key).agg(pl.len().cast(pl.Int64).alias(":events"), pl.col(":clicks").sum())
    beside = frame.select(key, *columns).join(counts, on=key, how="left", maintain_order="left")
    known = {c: numbers(s) for c in columns if (s := beside[c]).dtype.is_numeric()}
    by_id = [beside[c].fill_null(0).to_numpy() for c in (":events", ":clicks")]
    return [c for c, x in known.items() if any(follows(x, n) >= _IN_SAMPLE for n in by_id)]


def ranked(x: Array, y: Array) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one does not vary."""
    return correlation(*(pl.Series(v).rank().to_numpy() for v in (x, y)))


def correlation(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    both = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / both if both > 0 else 0.0


def late_tables(config: Config, log: Log, day: Day, schema: Schema) -> Iterator[str]:
    """A line for each table that knows what it is to predict, or each column of it that does."""
    for name, side in (("users", "user"), ("items", "item")):
        table: SideTable | None = getattr(config.data, name)
        if table is None:
            continue
        of_table = (f for f in config.features if f.side == side and not (f.profile or f.per_event))
        mine = [f for f in of_table if schema.sides[side].has(f.source) and f.source != table.key]
        if table.is_daily:
            yield from _of_day(config, log, day, schema.sides[side], side, mine)
        else:
            yield from _of_all_days(config, log, day, side, mine, is_one_state=not _has_versions(table, schema, side))


def _has_versions(table: SideTable, schema: Schema, side: str) -> bool:
    """Whether ids have several rows, each with the time since which it holds."""
    if table.version is None or table.version_only_orders:
        return False
    if (head := head_of(schema.sides[side], table.version)) is None or time_unit(head) is None:
        return False
    return bool(whole(schema.sides[side], table.key).is_duplicated().any())


def _of_day(config: Config, log: Log, day: Day, table: LogTable, side: str, features: list[Feature]) -> Iterator[str]:
    """Of a table that was written when its day had passed, by its own times or the day's counts."""
    lag = getattr(config.data, f"{side}s").lag_days + 1
    eve = "the day before" if lag == 1 else f"{lag} days before"
    fix = f"set data.{side}s.lag_days: {lag}, and a day reads the table of {eve}"
    if (found := _last_written(table, day, config.data.calendar)) is not None:
        column, at, gone = found
        seen = f"the table of {side}s has times up to {said(at)}, after {gone:.0%} of the day's events"
        yield f"{column}: {seen}: it knows what it is to predict: {fix}"
        return
    for column, counted in _counted(log, day, side, features):
        yield f"{column}: {counted}, which no morning knows: {fix}"


def _counted(log: Log, day: Day, side: str, features: list[Feature]) -> Iterator[tuple[str, str]]:
    """(feature, what it counts) of numbers of a side table that count the day's own events."""
    whole = _whole(day, side)
    mine = tuple(f for f in features if whole[f.name].dtype.is_numeric())
    if not mine:
        return
    counts, old = _counts(log, day, side), whole.select(ID)
    with suppress(UserError):  # the log's first day, or one that cannot be read
        if (table := log.attributes(side, before(day.day), features=mine)) is not None:
            old = old.join(table, on=ID, how="left", maintain_order="left") if table[ID].dtype == old[ID].dtype else old

    @cache
    def on_the_eve() -> Counts | None:
        return _counts_of(log, before(day.day), day, side)

    for f in mine:
        value = numbers(whole[f.name])
        ways = {"it": value}
        if f.name in old.columns and old[f.name].dtype.is_numeric():
            ways["its growth since the table of the day before"] = value - numbers(old[f.name])
        found: list[tuple[float, str]] = []
        for (way, x), (what, n) in itertools.product(ways.items(), counts.items()):

            def earlier(what: str = what) -> npt.NDArray[np.int64] | None:
                known = on_the_eve()
                return None if known is None else known[what]

            if (one := counted(x, n, earlier, what, f"{side}s")) is not None:
                found.append((one[0], f"{way} {one[1]}"))
        if found:
            yield f.name, max(found, key=lambda one: one[0])[1]


def _of_all_days(
    config: Config, log: Log, day: Day, side: str, features: list[Feature], *, is_one_state: bool
) -> Iterator[str]:
    """Of a table that is one for all days: numbers that follow the log's own counts, and what is known at its end.

    Args:
        is_one_state: whether no version tells which row of an id held on a day.
    """
    whole, counts = _whole(day, side), _counts(log, day, side)
    fix = f"leave it out, or write a table a day (data.{side}s.partition)"
    events = config.data.events
    joined = [c for table in events.joined.values() for c in table.columns]
    acts = [c for c in (events.click, events.conversion, *events.conversions, *joined) if c]

    @cache
    def near() -> tuple[Counts, int]:
        return _over_days(log, day, side, counts)

    @cache
    def before_it() -> Ints | None:
        return _rows_before(log, day)

    def shown(s: pl.Series) -> Shown | None:
        if side != "item" or not _differ(s, day.item_events) or (rows := before_it()) is None:
            return None
        return rows, day.item_events.astype(np.int64)

    def of_the_end(s: pl.Series) -> str | None:
        if (gone := withdrawn(s, partial(shown, s))) is not None:
            return gone.why if s.name in config.export.columns else told(gone, side)
        return total(s, lambda s: _in_order(s, counts, near), acts=acts)

    for f in features:
        s = whole[f.name].alias(f.source)
        seen = f"{f.name}: in a table of {side}s that is one for all days"
        if s.dtype.is_numeric() and (followed := _followed(numbers(s), counts, near)) is not None:
            yield f"{seen} it follows {followed}: {fix}"
        elif is_one_state and (why := of_the_end(s)) is not None:
            yield f"{seen}, {why}: {fix}"


def _differ(s: pl.Series, events: Ints) -> bool:
    """Whether far fewer of the items with one value than with another have events this day: then other days are read.

    Args:
        s: [items] of a few values.
        events: [items] of the day.
    """
    by = pl.DataFrame({"v": s, "there": pl.Series(events > 0)}).group_by("v").agg(pl.len(), pl.col("there").mean())
    rates = by.filter(pl.col("len") >= FEW)["there"]
    return len(rates) > 1 and float(rates.max()) - float(rates.min()) >= _APART  # type: ignore[arg-type]


def _rows_before(log: Log, day: Day) -> Ints | None:
    """[items] events on the days before the day, as far as they are there and their rows are not too many."""
    out, rows = None, 0
    for other in (before(day.day, k) for k in range(1, _EVES + 1)):
        with suppress(UserError):
            many = log.rows(other)
            if rows + many <= _MOST_ROWS and (counts := _counts_of(log, other, day, "item")) is not None:
                rows, out = rows + many, counts["events"] if out is None else out + counts["events"]
    return out


def _followed(x: pl.Series, counts: Counts, near: Callable[[], tuple[Counts, int]]) -> str | None:
    """What a column counts; None where it counts nothing."""
    if not any(follows(x, n) >= SUSPECT for n in counts.values()):
        return None
    of_days, days = near()
    what, r = max(((what, follows(x, n)) for what, n in of_days.items()), key=lambda one: one[1])
    if r < FOLLOWS:
        return None
    read = f"the {what} of the {days:,} days that were read" if days > 1 else f"the day's {what}"
    return f"{read} (correlation {short(r)}: if it was counted after them, it knows what it is to predict)"


def _in_order(s: pl.Series, counts: Counts, near: Callable[[], tuple[Counts, int]]) -> float:
    """Rank correlation with the clicks of the days near the day, as far as that with the day's own is not far lower."""

    def of(known: Counts) -> float:
        return rank_correlation(s, pl.Series(known.get("clicks", known["events"])))

    own = of(counts)
    return own if own < LOOSELY / 2 else of(near()[0])


def _whole(day: Day, side: str) -> pl.DataFrame:
    return day.users if side == "user" else day.items


def _counts(log: Log, day: Day, side: str) -> Counts:
    """Those of the day."""
    found = {"events": day.user_events if side == "user" else day.item_events}
    if log.data.events.click is None:
        return found
    if side == "item":
        return found | {"clicks": day.item_clicks}
    clicks = np.zeros(len(day.users), np.int64)
    for block in day.blocks():
        clicks += np.bincount(block.user[block.click], minlength=len(clicks))
    return found | {"clicks": clicks}


def reading(log: Log, features: tuple[Feature, ...]) -> Log:
    """The same log and the files that it found, with other features."""
    other = copy.copy(log)
    other.features = features
    return other


def _counts_of(log: Log, other: dt.date, day: Day, side: str) -> Counts | None:
    """Those of another day, of the users or items of this one; None where it is not there or cannot be read."""
    n = len(_whole(day, side))
    found = {"events": np.zeros(n, np.int64)}
    if log.data.events.click is not None:
        found["clicks"] = np.zeros(n, np.int64)
    with suppress(UserError):
        files, raw = reading(log, ()).open(other)
        for block in raw.rows(share_groups(raw.schema.events, files.groups, ALONE)):
            rows, clicked = day.rows_of(block[side], side), block["click"].to_numpy() == 1
            kinds = {"events": rows >= 0, "clicks": (rows >= 0) & clicked}
            for what in found:
                found[what] += np.bincount(rows[kinds[what]], minlength=n)
        return found
    return None


def _over_days(log: Log, day: Day, side: str, counts: Counts) -> tuple[Counts, int]:
    """(counts of the day and of those near it, how many days these are), as far as rows are not too many."""
    rows, days = len(day), 1
    for other in (before(day.day, sign * k) for k in range(1, _DAYS + 1) for sign in (1, -1)):
        with suppress(UserError):
            many = log.rows(other)
            if rows + many <= _MOST_ROWS and (more := _counts_of(log, other, day, side)) is not None:
                rows, days = rows + many, days + 1
                counts = {what: n + more[what] for what, n in counts.items()}
    return counts, days


def _last_written(table: LogTable, day: Day, days: Calendar) -> tuple[str, dt.datetime, float] | None:
    """(column, its newest time, share of the day's events before it) where a table's times say that it was written when
    the day had passed."""
    times = [block.time for block in day.blocks() if block.time is not None]
    zone = days.timezone or "UTC"
    clock = zone if days.is_local else "UTC"
    at = _instants(pl.concat(times), clock) if times else None
    if at is None:
        return None
    columns = sorted(names_of(table))
    heads = {c: s for c in columns if (s := head_of(table, c)) is not None and not s.dtype.is_nested()}
    local = clock if is_naive(times[0], time_unit(times[0]) or "") else zone
    clocks = {c: _instants(whole(table, c), local) for c, s in heads.items() if _instants(s) is not None}
    found = written_late({c: s for c, s in clocks.items() if s is not None}, at)
    return None if found is None else (*found, share(at < found[1]))


def _instants(s: pl.Series, zone: str = "UTC") -> pl.Series | None:
    """See `zones.in_utc`."""
    unit = time_unit(s)
    return None if unit is None else in_utc(s, unit, zone)
