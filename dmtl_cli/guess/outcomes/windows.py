"""Within how long of what was shown its rows are read: as a person says, or, where they name a user and an item, nearly
all that come of it, by how many more there are than by chance; and how many days' files a day reads."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.days import before
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.expressions import TABLES, sources_of
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import sql_column
from dmtl_cli.guess.columns.values import DAYS, clicks, free, local_days, share
from dmtl_cli.guess.columns.words import count
from dmtl_cli.guess.columns.zones import is_naive
from dmtl_cli.guess.outcomes.dated import clock_of, is_moved
from dmtl_cli.guess.outcomes.tables import Outcomes, ids_of
from dmtl_cli.guess.outcomes.waits import DAY, LONGEST, UNREAD, Length, Wait, zone_between
from dmtl_cli.guess.reading.tables import ROWS, Table, rows_of_day

WINDOWS = (1, 6, DAY, 3 * DAY, 7 * DAY)
"""hours"""
_ALL = 0.98  # of the rows that come of what was shown are within the window
_LATER = 0.1  # of them are later, than a day or in later days' files, before the served model is to wait for them
_SOME = 0.02  # of them, before it is told
_TOLD = 0.0005  # of what came of a day's exposures
_AFTER, _WEEK = 3, 5  # days' files after its own that a day may read; days that are looked at for them
_DAYS, _FILES, _ROWS = 10, 48, 100_000
"""that are read, files (of half hours) and rows of each: of larger ones a part would lack what was shown before"""
_BYTES, _FEW_FILES = 64 << 20, 8  # of a day's files: no large log is read for it; of few files the rows tell it
_LEAST = 100  # rows that are more than chance
_MIXED = 4  # times that items are given to other rows
_SURE = 2  # standard errors
_HOUR = 3_600_000_000  # microseconds
_DAY = ":day"


@dataclass(frozen=True)
class _Waits:
    """Rows by how long they come after the last exposure of their user and item."""

    by_hours: dict[int, float]
    """how many come at most so long after it, less those by chance"""
    error: float
    """the standard error of the last one"""
    met: int
    late: int
    """rows that come after one at all, and so later than a day, those by chance too"""

    @property
    def later(self) -> float:
        """Those later than a day, where these are surely more than chance."""
        more = self.by_hours[max(self.by_hours)] - self.by_hours[DAY]
        return more if more > _SURE * self.error else 0.0

    @property
    def total(self) -> float:
        return self.by_hours[DAY] + self.later

    @property
    def is_enough(self) -> bool:
        return self.total >= max(_LEAST, 2 * _SURE * self.error)


def with_windows(
    found: Sequence[Outcomes], events: Table, roles: Roles, click: str | None, within: Length | None
) -> list[Outcomes]:
    """The tables, each that waits with the window that its rows tell, as far as they do, or a person: theirs is of rows
    of a user and an item, and where there are none, of those that name what was shown.

    Args:
        click: its column of clicks, where it has one.
    """
    if within is not None and not any(one.wait for one in found):
        ways = {(one.through or "").partition(".")[0] for one in found}
        found = [one if one.name in ways else _with_own(one, events, roles, within) for one in found]
    return [_told(one, events, click, within, roles.lives) if one.wait else one for one in found]


def with_clicks_apart(
    found: Sequence[Outcomes], events: Table, roles: Roles, click: Collection[str], within: Length
) -> list[Outcomes]:
    """The tables, with what tells a click within a window of its own: a table of nothing else has that one, of another
    the click is read by a further one of the same rows.

    Args:
        click: the columns by which it is told.
    """
    names, out = {*TABLES, *(one.name for one in found)}, list[Outcomes]()
    for one in found:
        mine = {c: text for c, text in one.columns.items() if c in click}
        rest = {c: text for c, text in one.columns.items() if c not in click}
        if not mine or one.wait is None:
            out.append(one)
            continue
        wait = replace(one.wait, days_after=0, told="", beyond=0.0)
        alone = replace(_waiting(one, wait), columns=mine)
        if rest:
            why = f"what tells a click, of the same rows, {wait.said}"
            alone = replace(alone, name=free("clicks", names), left=(), good=(), states={}, why=why)
            out.append(replace(one, columns=rest, good=tuple(g for g in one.good if g[1] not in mine)))
        (made,) = with_windows([alone], events, roles, None, within)
        waits = min(one.days_after, within.days)
        if rest and made.wait and made.wait.beyond and waits:  # a day waits for these files anyway
            made = _waiting(made, replace(made.wait, days_after=waits, beyond=0.0))
        out.append(made)
    return out


def _waiting(one: Outcomes, wait: Wait) -> Outcomes:
    """A table with another window than it has."""
    assert one.wait is not None
    return replace(one, wait=wait, why=one.why.replace(one.wait.said, wait.said))


def with_days_after(found: Sequence[Outcomes], events: Table, roles: Roles, within: Length | None) -> list[Outcomes]:
    """The tables of days whose rows name what was shown, each with the number of later days' files in which a tenth of
    what came of a day lies, at least, three at most: mails are read on the next day. Where a person says a window of a
    day or more a fiftieth is enough, within these days. Where they say a zone days are its own, whatever those of the
    files are. Arguments as of `with_windows`."""
    out, read = dict[str, Outcomes](), _Days(sorted(_days(events)[:_WEEK]), roles.lives or "UTC")
    least, days = (_SOME, within.days) if within and within.hours >= DAY else (_LATER, _AFTER)
    for one in found:
        made = _over_days(one, read, events, roles, out, least, days) if one.wait is None else one
        way = out.get((one.through or "").partition(".")[0])
        if way is not None and way.reaches:  # what names a row of a later file lies there too, or still later
            made = replace(made, reaches=made.reaches + way.reaches)
        out[one.name] = made
    return [*out.values()]


def _with_own(one: Outcomes, events: Table, roles: Roles, within: Length) -> Outcomes:
    """A table whose rows name what was shown, with a person's window, where it has times as the events have them."""
    came = clock_of(one, events, roles) if one.through is None else None
    if came is None or roles.time is None or roles.time.column not in events.frame.columns:
        return one
    at = roles.time.column, str(roles.time_unit)
    zone = zone_between((events.frame[at[0]], at[1]), (one.table.frame[came[0]], came[1]), roles.lives)
    wait = Wait(at, came, within.hours, given=within, zone=zone or "UTC")
    left = tuple(c for c in one.left if c != came[0])
    return replace(one, once=False, wait=wait, left=left, why=f"{one.why}, {wait.said}")


@dataclass
class _Days:
    """Rows of whole days, those of files that several tables have read once."""

    days: list[dt.date]
    zone: str
    """in which days are cut where the clocks of rows tell them"""
    known: dict[tuple[object, ...], pl.DataFrame] = field(default_factory=dict)

    def ids(
        self, table: Table, text: str, columns: Sequence[str], clock: tuple[str, str] | None
    ) -> list[pl.Series] | None:
        """What an expression of some columns makes of each day, without nulls; None where one cannot be read whole.

        Args:
            clock: the column that tells a row's day, and its unit; None: its file does.
        """
        every, of = replace(table, kinds=None, only_of_others=()), table.files
        ids, on = list[pl.Series](), list[pl.Series]()
        for day in self.days:
            sizes = [size for path, size in of.files if of.day_of(path) == day]
            key = (of.files, table.explode, day)
            if not 0 < len(sizes) <= _FILES or sum(sizes) > _BYTES:
                return None
            if key not in self.known:
                self.known[key] = rows_of_day(every, day, _ROWS, _FILES)
            rows = table.asked(self.known[key])
            if len(self.known[key]) >= _ROWS or not {*columns, *(clock or ())[:1]} <= {*rows.columns}:
                return None
            ids.append(ids_of(rows, text))
            on.append(_days_of(rows, clock, self.zone) if clock else pl.repeat(day, len(rows), eager=True))
        if len(ids) < 2 or len({s.dtype for s in ids}) > 1:
            return None
        every_id, every_day = pl.concat(ids), pl.concat(on)
        return [every_id.filter(every_day == day).drop_nulls().unique() for day in self.days]


def _over_days(
    one: Outcomes, read: _Days, events: Table, roles: Roles, before: Mapping[str, Outcomes], least: float, most: int
) -> Outcomes:
    """A table with what `with_days_after` says of it, after those of which it may name rows.

    Args:
        least: share of what came of a day that lies in later files, from which on they are waited for.
        most: days that are waited for.
    """
    if one.once or one.reaches or one.of_user or not (events.files.days and one.table.files.days):
        return one
    way, _, column = (one.through or "").partition(".")
    with suppress(UserError):  # a file of another day that cannot be read
        of = before.get(way)
        clocks = _clocks(one, of, events, roles)
        lags = _lags(one, read, events if of is None else of.table, column or None, clocks)
        if lags is None or lags.sum() < _LEAST:
            return one
        rest = 1 - np.cumsum(lags) / lags.sum()
        if rest[0] > least:
            wait = min(most, int((rest > least).sum()))
            behind = f"the served model is then {count(wait, 'day')} behind"
            why = f"{rest[0]:.0%} of what came of a day's exposures lies in later days' files, and {behind}"
            return replace(one, reaches=wait, said_of_days=why)
        if rest[0] > _SOME:
            why = f"{rest[0]:.0%} of what came of a day's exposures lies in later days' files"
            return replace(one, said_of_days=f"{why}: days_after: 1 reads the next one, and waits for it")
        if rest[0] > _TOLD:  # which is no doubt, but a choice
            return replace(one, why=f"{one.why}, {rest[0]:.1%} of it in later days' files, {UNREAD}")
    return one


def _clocks(
    one: Outcomes, of: Outcomes | None, events: Table, roles: Roles
) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
    """The columns that tell the days of what its rows name and of these rows, where those of the files are not the days
    of the zone that a person says (see `dated.by_own_times`)."""
    if roles.lives is None or roles.time is None or roles.time_unit in (None, *DAYS):
        return None, None
    shown, came = (roles.time.column, str(roles.time_unit)), clock_of(one, events, roles)
    if not is_moved(events, shown, roles.lives):
        return None, None
    named = shown if of is None else clock_of(of, events, roles)
    sides = (named, events if of is None else of.table), (came, one.table)
    mine, its = (clock if clock and is_moved(table, clock, str(roles.lives)) else None for clock, table in sides)
    return mine, its


def _lags(
    one: Outcomes, read: _Days, events: Table, column: str | None, clocks: Sequence[tuple[str, str] | None]
) -> npt.NDArray[np.float64] | None:
    """[_AFTER + 1] exposures of some days by how many days later the file of the last row of each is; None where days
    cannot be read whole.

    Args:
        events: what the rows name, by `column` where these are rows of another table of what came of it.
        clocks: which columns tell the days of both, or None.
    """
    columns = (
        [sorted(sources_of(text)) for text in one.computed] if one.computed else [[column or one.event_key], [one.key]]
    )
    texts = one.computed or tuple(sql_column(c) for (c,) in columns)
    known = read.ids(events, texts[0], columns[0], clocks[0])
    told = None if known is None else read.ids(one.table, texts[1], columns[1], clocks[1])
    if known is None or told is None or known[0].dtype != told[0].dtype:
        return None
    lags, out = range(min(_AFTER + 1, len(known))), np.zeros(_AFTER + 1)
    for lag in lags:  # of an id the last day on which it has a row, of days that have so many days after them
        for of, after in zip(known, range(len(known) - len(lags) + 1), strict=False):
            later = [told[after + k] for k in lags if k > lag]
            met = of.filter(of.is_in(told[after + lag].implode()))
            out[lag] += len(met) - len(met.filter(met.is_in(pl.concat(later).implode()))) if later else len(met)
    return out


def _told(one: Outcomes, events: Table, click: str | None, within: Length | None, lives: str | None) -> Outcomes:
    assert one.wait is not None
    wait = one.wait if within is None else replace(one.wait, hours=within.hours, given=within)
    with suppress(UserError):  # a file of another day that cannot be read
        if (within or len(_named(one)) == 2) and (both := _both(one, events, click, lives)) is not None:
            of = replace(one, wait=wait)
            wait = _chosen(of, *both, "clicked" if click else "shown") if within is None else _given(of, *both, events)
    return _waiting(one, wait)


def _given(one: Outcomes, shown: pl.DataFrame, rows: pl.DataFrame, events: Table) -> Wait:
    """The window that a person gives, and as many later days' files as have nearly all of its rows."""
    assert one.wait is not None
    has_days = one.table.files.days or one.dated or one.table.files.files == events.files.files
    if not has_days:  # each day reads it whole
        return one.wait
    window = int(one.wait.hours * _HOUR)
    came = rows.select(pl.sql_expr(_keys(one)[1]).alias("k").cast(shown.schema["k"]), "t", at="t", on="d").sort("t")
    if len(_named(one)) == 1 or one.wait.hours <= DAY:  # its last row; of a pair the first, as later ones are by chance
        ends = shown.with_columns(pl.col("t") + window, begin="t")
        met = ends.join_asof(came, on="t", by="k", strategy="backward", check_sortedness=False)
        met = met.filter(pl.col("at") >= pl.col("begin"))
    else:
        met = shown.join_asof(came, on="t", by="k", strategy="forward", check_sortedness=False)
        met = met.filter(pl.col("at") - pl.col("t") <= window)
    lags = met["on"].to_physical() - met["d"].to_physical()  # days are days since 1970
    later = share(lags > 0) if len(lags) else 0.0
    if later <= _SOME:
        return replace(one.wait, beyond=later if later > _TOLD else 0.0)
    days = next(k for k in range(1, LONGEST + 1) if share(lags > k) <= _SOME or k >= int(lags.max()))  # type: ignore[arg-type]
    waits = f"a day waits for {count(days, 'day')}, and the served model is then as much behind"
    why = f"{later:.0%} of what came of a day's exposures lies in later days' files: so {waits}"
    return replace(one.wait, days_after=days, told=f"{why} (without days_after it does not wait)")


def _chosen(one: Outcomes, shown: pl.DataFrame, rows: pl.DataFrame, what: str) -> Wait:
    """The window, by the longest for which there are rows enough that had so long; a day where there are none."""
    assert one.wait is not None
    begin, end = (shown["t"][0], shown["t"][-1]) if len(shown) else (0, 0)
    told = ""
    for most in (h for h in reversed(WINDOWS) if h >= DAY and begin + (h + DAY / 2) * _HOUR <= end):
        asked = rows.filter(pl.col("t").is_between(begin + most * _HOUR, end))
        waits = _counted(asked, shown, one, most) if len(asked) else None
        if waits is not None and waits.is_enough:
            wait = _window(one.wait, waits)
            return replace(wait, told=wait.told or told)
        if waits is not None and waits.late and not told:
            many = f"{waits.late:,} of its {waits.met:,} rows of what was {what} come later than a day after it"
            told = f"{many}, those by chance too"
    return replace(one.wait, told=told)


def _window(wait: Wait, waits: _Waits) -> Wait:
    """The window that these rows tell: a day where few are later."""
    hours = next((h for h in waits.by_hours if waits.by_hours[h] >= _ALL * waits.total), max(waits.by_hours))
    if hours <= DAY or not waits.later:
        return replace(wait, hours=min(hours, DAY))
    days, share = hours // DAY, waits.later / waits.total
    behind = f"the served model is then {days} days behind"
    if share <= _LATER:
        beside = f"within: {days}d with days_after: {days} reads them, and {behind}"
        return replace(wait, told=f"{share:.0%} come later: {beside}")
    less = f"{share:.0%} come later than a day after: so a day waits for {days} days' files, and {behind}"
    return replace(wait, hours=hours, days_after=days, told=f"{less} (24h, without days_after, does not wait)")


def _both(
    one: Outcomes, events: Table, click: str | None, lives: str | None
) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """What was shown, or clicked, and the rows, each with when it was; None where these cannot be read whole."""
    assert one.wait is not None
    named, key = _named(one), _keys(one)[0]
    days, mine = _days(events), [*sources_of(key), one.wait.shown[0], *([click] if click else [])]
    shown, rows = _read(events, days, mine), _read(one.table, days, [*named, one.wait.came[0]])
    if shown is None or rows is None:
        return None
    shown = shown.filter(clicks(shown[click])) if click else shown
    at, came = one.wait.times(shown, rows)
    at = at if (came % 1_000_000 != 0).any() else at // 1_000_000 * 1_000_000
    on, since = shown[_DAY], rows[_DAY]
    if on.null_count() or (lives and is_moved(events, one.wait.shown, lives)):  # files of all days, or of other days
        on, since = (
            _days_of(f, clock, lives or "UTC") for f, clock in ((shown, one.wait.shown), (rows, one.wait.came))
        )
    elif since.null_count() and (lives or is_naive(rows[one.wait.came[0]], one.wait.came[1])):
        since = _days_of(rows, one.wait.came, lives or "UTC")
    elif since.null_count():  # in a zone that nothing tells yet: that of what was shown last
        begun = pl.DataFrame({"t": at, "d": on}).drop_nulls().sort("t")
        since = came.to_frame("t").with_row_index().sort("t").join_asof(begun, on="t").sort("index")["d"]
    shown = shown.select(pl.sql_expr(key).alias("k"), at.alias("t"), on.alias("d"))
    return shown.drop_nulls().sort("t"), rows.select(pl.col(named), came.alias("t"), since.alias("d")).drop_nulls()


def _days_of(frame: pl.DataFrame, clock: tuple[str, str], zone: str) -> pl.Series:
    """The day of each row; of times that name no zone that of their own clock."""
    return local_days(frame[clock[0]], clock[1], "UTC" if is_naive(frame[clock[0]], clock[1]) else zone)


def _keys(one: Outcomes) -> tuple[str, str]:
    """The expressions of the ids by which the events and its rows meet."""
    return one.computed or (sql_column(one.event_key), sql_column(one.key))


def _named(one: Outcomes) -> list[str]:
    """The columns of its rows' ids: of the user and the item, or of what was shown."""
    key = _keys(one)[1]
    return sorted(sources_of(key), key=key.find)


def _counted(rows: pl.DataFrame, shown: pl.DataFrame, one: Outcomes, most: int) -> _Waits:
    """How many rows come within each window up to one."""
    assert one.computed is not None
    rng, windows, item = np.random.default_rng(0), [h for h in WINDOWS if h <= most], _named(one)[1]
    others = (rows.with_columns(rows[item].gather(rng.permutation(len(rows)))) for _ in range(_MIXED))
    waits, *mixed = (_since(of, shown, one.computed[1]) for of in (rows, *others))
    n, *by_chance = (np.array([int((w <= h * _HOUR).sum()) for h in windows], float) for w in (waits, *mixed))
    chance = np.mean(by_chance, axis=0)
    rest = np.maximum(1 - chance / len(rows), 1 / len(rows))
    error = float(np.sqrt(chance[-1] * (1 + 1 / _MIXED)) / rest[-1])
    late = int(((waits > DAY * _HOUR) & (waits <= most * _HOUR)).sum())
    return _Waits(dict(zip(windows, ((n - chance) / rest).tolist(), strict=True)), error, int(n[-1]), late)


def _since(rows: pl.DataFrame, shown: pl.DataFrame, key: str) -> pl.Series:
    """Microseconds from the last exposure of each row's user and item to the row; null where none was before it."""
    asked = rows.select(pl.sql_expr(key).alias("k"), "t").sort("t")
    met = asked.join_asof(shown.with_columns(at="t"), on="t", by="k", strategy="backward", check_sortedness=False)
    return met["t"] - met["at"]


def _days(events: Table) -> list[dt.date]:
    """The newest complete days, one after the other."""
    there, out = {day for day, _ in events.files.days}, list[dt.date]()
    day = events.day
    while day in there and len(out) < _DAYS:
        out.append(day)
        day = before(day)
    return out


def _read(table: Table, days: Sequence[dt.date], columns: Sequence[str]) -> pl.DataFrame | None:
    """These columns of the rows of some days, with the day of their files, or of all where files have no days; None
    where not all rows are read, or those of other days are of other types."""
    of, known = table.files, table.frame.select([*dict.fromkeys(columns)])
    if not of.days:
        whole = len(of.files) <= 2 and len(known) < ROWS // 2
        return known.with_columns(pl.lit(None, pl.Date).alias(_DAY)) if whole else None
    files = Counter(of.day_of(path) for path, _ in of.files)
    there = [day for day in days if files[day]]
    if len(there) < 2 or max(files[day] for day in there) > _FILES:
        return None
    parts = list[pl.DataFrame]()
    for day in there:
        size = sum(size for path, size in of.files if of.day_of(path) == day)
        if files[day] > _FEW_FILES and size > _BYTES:
            return None
        part = rows_of_day(table, day, _ROWS, _FILES)
        if len(part) >= _ROWS or not {*columns} <= {*part.columns}:
            return None
        parts.append(part.select(known.columns))
    if any(part.schema != known.schema for part in parts):
        return None
    return pl.concat(part.with_columns(pl.lit(day).alias(_DAY)) for part, day in zip(parts, there, strict=True))
