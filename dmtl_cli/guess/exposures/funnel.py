"""The click by what follows it, whatever it is called: a flag with a time of its own just where it is set, such a time
alone, or a flag that is set wherever rarer outcomes are, as all that comes of an exposure comes after its click."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess, Roles, share_of
from dmtl_cli.guess.columns.values import (
    clicks,
    instants,
    is_binary,
    is_constant,
    is_there,
    is_time_or_null,
    share,
    time_unit,
)

_RARE, _OFTEN = 0.002, 0.7  # of the rows are clicks
_SAME, _STRAY = 0.98, 0.002  # of the rows with either have the other; of the rows without a flag may have what follows
_SOON = dt.timedelta(hours=6)  # from the exposure to its click
_OWN = 0.3  # of the times of clicks are of one alone: a promotion ends at one time for all
_ROWS = 30  # of what follows, by which it is told
_DEEPER = 0.9  # of a flag's rows have what is deeper, at most
_CHANCE = 10  # rows outside of a flag that would have it by chance


@dataclass(frozen=True)
class _Flag:
    """A column of 0 and 1 that may be the click."""

    column: str
    set: pl.Series
    time: str | None
    """a column of times just where it is set, soon after the row's own"""
    deeper: tuple[str, ...]
    """flags and numbers that are set in some of its rows and in no other"""


def by_what_follows(frame: pl.DataFrame, roles: Roles) -> Guess | None:
    """The flag that all others that look like a click are within; None where none does, or two are side by side."""
    if roles.user is None or roles.item is None:
        return None
    marks = _marks(frame, roles)
    found = [flag for c, there in marks.items() if (flag := _flag(frame, c, there, marks, roles)) is not None]
    whole = _times(frame, marks, roles)  # around all that the flags say
    found += [one for one in whole if all(share(one.set.filter(flag.set)) >= _SAME for flag in found)]
    if not found:
        return None
    widest = max(found, key=lambda flag: share(flag.set))
    if any(share(widest.set.filter(flag.set)) < _SAME for flag in found):
        return None
    its_own, there = widest.time == widest.column, "it is 1" if widest.time != widest.column else "there is one"
    what = ["soon after the row's own" if its_own else f"{widest.time} has a time just where it is 1"] * bool(
        widest.time
    )
    what += [f"{', '.join(widest.deeper)} only where {there}"] if widest.deeper else []
    return Guess(widest.column, f"{share_of(frame[widest.column])}; {', and '.join(what)}")


def _marks(frame: pl.DataFrame, roles: Roles) -> dict[str, pl.Series]:
    """[rows] where flags are set, and where numbers are that most rows lack: what varies within users, items and
    requests."""
    out: dict[str, pl.Series] = {}
    for c in frame.columns:
        s = frame[c]
        if c in roles.before or not (s.dtype.is_numeric() or s.dtype == pl.Boolean) or time_unit(s) is not None:
            continue
        there = clicks(s) if is_binary(s) else is_there(s)
        if not _RARE <= share(there) <= _OFTEN or int(there.sum()) < _ROWS:
            continue
        keys = [g.column for g in (roles.user, roles.item, roles.request) if g]
        of = frame.select(*keys, there.alias(":there"))
        if not any(is_constant(of, key, ":there") for key in keys):
            out[c] = there
    return out


def _flag(frame: pl.DataFrame, c: str, there: pl.Series, marks: dict[str, pl.Series], roles: Roles) -> _Flag | None:
    if not is_binary(frame[c]) or words.by_name(c, words.CONVERSION) > 1 or words.says(c, words.NOT_GOOD):
        return None
    if words.is_of_sight(c):  # all that comes of a card is within those that were seen
        return None
    time = next((t for t in frame.columns if t not in roles.taken and _is_time_of(frame[t], there, frame, roles)), None)
    deeper = tuple(d for d, within in marks.items() if d != c and _is_deeper(within, there))
    told = [d for d in deeper if is_binary(frame[d]) and words.by_name(d, words.CONVERSION) > 1]
    steps = any(_is_deeper(marks[a], marks[b]) for a in deeper for b in deeper)
    return _Flag(c, there, time, deeper) if time is not None or told or (steps and len(deeper) > 1) else None


def _times(frame: pl.DataFrame, marks: dict[str, pl.Series], roles: Roles) -> list[_Flag]:
    """Columns of times in some rows, soon after the rows' own: of no deeper outcome by their names, within no flag."""
    out = []
    for c in (c for c in frame.columns if c not in roles.taken and is_time_or_null(frame[c])):
        there = clicks(frame[c])
        if not _RARE <= share(there) <= _OFTEN or int(there.sum()) < _ROWS or roles.time is None:
            continue
        if any(is_binary(frame[f]) and share(flag.filter(there)) >= _SAME for f, flag in marks.items()):
            continue
        if _is_time_of(frame[c], there, frame, roles) and words.by_name(c, words.CONVERSION) < 1:
            deeper = tuple(d for d, within in marks.items() if _is_deeper(within, there))
            out.append(_Flag(c, there, c, deeper))
    return out


def _is_deeper(within: pl.Series, flag: pl.Series) -> bool:
    """Whether something is there in some of a flag's rows and in no other, where it would be by chance."""
    rate, rows = share(flag), int(within.sum())
    if rows * (1 - rate) < _CHANCE or rows > _DEEPER * int(flag.sum()):
        return False
    return share(within.filter(~flag)) <= min(_STRAY, share(within.filter(flag)) / 10)


def _is_time_of(s: pl.Series, flag: pl.Series, frame: pl.DataFrame, roles: Roles) -> bool:
    """Whether times are there just where a flag is set, soon after the rows' own, and hardly one for several."""
    if not is_time_or_null(s):
        return False
    there = clicks(s)
    if min(share(there.filter(flag)), share(flag.filter(there))) < _SAME:
        return False
    known = s.filter(there)
    if known.n_unique() < _OWN * len(known):
        return False
    at, shown = instants(s, time_unit(s) or ""), roles.instants(frame)
    if at is None or shown is None:
        return shown is None
    late = (at.dt.convert_time_zone("UTC") - shown.dt.convert_time_zone("UTC")).filter(there).drop_nulls()
    return share((late >= dt.timedelta(0)) & (late <= _SOON)) >= _SAME
