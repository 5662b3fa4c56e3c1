"""Which column of times is that of the rows, and not of when they were written, or of a clock that is wrong."""

from __future__ import annotations

import polars as pl

from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.values import DAYS, instants, local_days, share, time_unit
from dmtl_cli.guess.exposures.ids import times_of

_UNTIMED = 0.2  # of the rows may lack the time of the row
_OLD, _LATER = 3 * 365 * 86_400, 86_400  # seconds before and after nearly all others
_STRAY = 0.002  # of the times are far off before another column is the time for it
_AT_ONCE, _LOADS = 1_000, 4  # rows of one time, of those that are written at once; such times of a day
_MOST, _HALF = (
    0.98,
    0.5,
)  # of the rows of a clock are within a day of another column's, and of its day in another zone, at least
_QUARTER = 15 * 60  # seconds: midnights of all zones are at quarters of an hour in UTC
_TIMES = {
    "s": "seconds since 1970, such as {}",
    "ms": "milliseconds since 1970, such as {}",
    "us": "microseconds since 1970, such as {}",
    "ns": "nanoseconds since 1970, such as {}",
    "timestamp": "timestamps, such as {}",
    "text": "text such as {}",
    "date": "days, such as {}",
    "day": "days as text, such as {}",
    "yyyymmdd": "days as yyyymmdd, such as {}",
}


def find_time(frame: pl.DataFrame, roles: Roles) -> None:
    """The given column of times, else the one that is named like the row's, else any that is none of a user or item,
    one of a session after those of what is in it, one of when the rows were written, many at once, last, before it
    integers that no name calls a time, as an order's number may be one by its size, and clocks more of which are far
    off, as those of devices are; in place of a day alone the clock of that day."""
    if roles.time is not None:
        roles.time_unit = time_unit(frame[roles.time.column])
        return
    units = {c: unit for c, unit in times_of(frame).items() if c not in roles.taken}
    units = {c: unit for c, unit in units.items() if frame[c].null_count() <= _UNTIMED * len(frame)}
    units = {c: unit for c, unit in units.items() if unit in DAYS or not _is_stamp(frame[c], unit)}
    owned = {c for c in units if roles.owns(frame, c)}
    off = {c: int(_far_off(frame[c], units[c]) / _STRAY) for c in units}

    others = (languages.SESSION, words.WRITTEN)
    any_own = any(not any(words.says(c, of) for of in others) for c in units if c not in owned)

    def score(c: str) -> tuple[bool, int, bool, bool, bool, bool, int, int]:
        named, clock = words.by_name(c, words.TIME), units[c] not in DAYS
        sure = bool(named) or not frame[c].dtype.is_integer()  # an order's number may be a time by its size
        written = words.says(c, words.WRITTEN) or (clock and _is_at_once(frame[c], units[c]))
        of_its_own = not any_own or not words.says(c, languages.SESSION)
        return of_its_own, named, clock, c not in owned, not written, sure, -off[c], -frame.columns.index(c)

    ranked = sorted((c for c in units if c not in owned or score(c)[1]), key=score, reverse=True)
    if not ranked:
        return
    if units[ranked[0]] in DAYS:
        day = local_days(frame[ranked[0]], units[ranked[0]], "UTC")
        clocks = [c for c in ranked if units[c] not in DAYS and c not in owned and _is_of_day(frame[c], units[c], day)]
        ranked = [*clocks, *(c for c in ranked if c not in clocks)]
    found = ranked[0]
    roles.time_unit = units[found]
    roles.time = Guess(found, time_of(frame[found]), tuple(ranked[1:]))


def time_of(s: pl.Series) -> str:
    """What a column of times is, with one of them."""
    return _TIMES[str(time_unit(s))].format(s.drop_nulls()[0])


def _is_stamp(s: pl.Series, unit: str) -> bool:
    """Whether many rows have one time, as that of an export, and it is no midnight of any zone, as which days are
    written too."""
    known = s.drop_nulls()
    if len(known) < _AT_ONCE or known.n_unique() > 1 or (at := instants(known.head(1), unit)) is None:
        return False
    return bool((at.dt.epoch("s") % _QUARTER != 0).fill_null(False).all())


def _is_at_once(s: pl.Series, unit: str) -> bool:
    """Whether thousands of rows have one time, of which a day has a few: a clock by the hour has more."""
    many, days = s.n_unique(), local_days(s, unit, "UTC").n_unique()
    return len(s) >= _AT_ONCE * many and many <= _LOADS * days


def _far_off(s: pl.Series, unit: str) -> float:
    """The share of times that are years before the others, as of a device whose clock was never set, or well after
    nearly all, as of one that is set wrong: of a server's own clock there are next to none."""
    if unit in DAYS or (at := instants(s, unit)) is None or not len(known := at.drop_nulls()):
        return 0.0
    t = known.dt.epoch("s")
    first, usual, last = (t.quantile(q) or 0 for q in (0.05, 0.5, 0.95))
    return share((t < usual - _OLD) | (t > last + _LATER + (last - first) / 5))


def _is_of_day(s: pl.Series, unit: str, day: pl.Series) -> bool:
    """Whether a clock is of the day that another column says, in some zone."""
    apart = (local_days(s, unit, "UTC") - day).dt.total_days().drop_nulls()
    return len(apart) > 0 and share(apart.abs() <= 1) >= _MOST and share(apart == 0) >= _HALF
