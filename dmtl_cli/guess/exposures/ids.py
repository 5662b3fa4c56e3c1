"""Who saw what, when, and in which request: the ids of an event table, each with its reason and what else it could be,
and the time of its rows, which is not when they were written, nor that of a clock that is wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.remembered import remembered
from dmtl_cli.guess.columns.roles import Guess, Roles, best, count_of
from dmtl_cli.guess.columns.values import (
    DAYS,
    FEW,
    RETURN,
    has_days,
    has_long_tail,
    instants,
    is_binary,
    is_constant,
    is_id,
    local_days,
    returning,
    share,
    span,
    time_unit,
)

_BEHAVIOURS = {
    "pv", "view", "click", "cart", "fav", "buy", "purchase", "addtocart", "transaction", "impression", "like"
}  # fmt: skip
_VISIT = dt.timedelta(hours=6)
"""the longest time between rows of one visit"""
_MOMENT = dt.timedelta(minutes=1)
"""that between rows of one request, which are shown together"""
_BRIEF = 0.9  # of the requests last no longer
_OF_ONE = 0.98  # of the rows of a request have one user
_SEVERAL = 1.2  # rows a request
_SURELY = 3  # of a name of a request
_AGAIN = 0.02  # of the clicks of a list may be on what was clicked before, as on a row that is delivered twice
_OWN = 0.9  # of the rows have a value of their own: no user or item
_EACH_OWN = 3  # rows an id, from which on it is another one of the user's where it is of one user
_ZEROS = 0.1  # of the rows may have one id
_ALONE = 0.01  # of the rows may be of no request
_OF_ROW = ("id", "uuid")  # names of a document's own id, as _id
_IDS = ("id", "编号", " nr", " sk", " key")  # ends of names
_COARSE = 5  # ids of another column for each of a weak name
_SHARED = 1.2  # ids a title, at most, of a column that no name says is one: several editions have one title
_ROWS = 1_000  # from which on a user has more than FEW values, unless its name is surely a user's
_UNTIMED = 0.2  # of the rows may lack the time of the row
_OLD, _LATER = 3 * 365 * 86_400, 86_400  # seconds before and after nearly all others
_STRAY = 0.002  # of the times are far off before another column is the time for it
_AT_ONCE, _LOADS = 1_000, 4  # rows of one time, of those that are written at once; such times of a day
_MOST, _HALF = 0.98, 0.5
"""of the rows of a clock are within a day of another column's, and of its day in another zone, at least"""
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


def fits_events(roles: Roles) -> int:
    """How much a table with these roles looks like events: both ids, then whatever else events have."""
    if roles.user is None or roles.item is None:
        return 0
    return 1 + len(roles.named)


def is_catalogue(frame: pl.DataFrame, roles: Roles) -> bool:
    """Whether it is a table of items: no row says what came of it, and each has an id of its own, of the item or (what
    looks like a duration may be an item's length) in the first column."""
    if roles.item is None or any((roles.click, roles.conversion, roles.behaviour)):
        return False
    first = frame.columns[0]
    own = frame[roles.item.column].n_unique() >= _OWN * len(frame) and roles.duration is None
    return own or (is_id(frame[first]) and frame[first].n_unique() == len(frame))


def with_names(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of a file without a header, named by place and values: a log mostly begins with user and item; not so
    a catalogue, which has no time and begins with an id of its own for each row."""
    names: dict[str, str] = {}
    if frame[:, 0].is_unique().all() and len(frame) > 1 and not any(time_unit(s) for s in frame):
        return frame

    def give(name: str, c: str) -> None:
        names[c] = name if name not in names.values() else f"column_{frame.columns.index(c) + 1}"

    for k, c in enumerate(frame.columns):
        s = frame[c]
        low, high = span(s) if s.dtype.is_numeric() else (-1.0, -1.0)
        if time_unit(s) is not None:
            give("time", c)
        elif is_binary(s):
            give("click", c)
        elif s.dtype == pl.String and len({str(v).lower() for v in s.unique()} & _BEHAVIOURS) >= 2:
            give("behavior", c)
        elif is_id(s) and not {"user_id", "item_id"} <= set(names.values()):
            give("item_id" if "user_id" in names.values() else "user_id", c)
        elif low >= 0 and high <= 10 and s.n_unique() <= FEW:
            give("rating", c)
        elif low >= 0 and s.dtype.is_float():
            give("duration", c)
        else:
            names[c] = f"column_{k + 1}"
    return frame.rename(names)


@remembered
def times_of(frame: pl.DataFrame) -> Mapping[str, str]:
    """Columns of times with their `values.time_unit`.

    Integers that could be seconds since 1970 are ids where they come back hours apart by another clock: a time passes
    once.
    """
    units = {c: unit for c in frame.columns if (unit := time_unit(frame[c])) is not None}
    whole = [c for c in units if not frame[c].null_count()]
    clock = next((c for c in whole if units[c] == "timestamp" or words.is_when(c)), None)
    at = None if clock is None else instants(frame[clock], units[clock])
    if at is None:
        return units
    for c in [c for c in units if frame[c].dtype.is_integer() and c != clock and not words.is_when(c)]:
        lasts = _lasting(frame[c], at)
        if len(frame) >= 3 * len(lasts) and share(lasts > _VISIT) > 0.5:
            del units[c]
    return units


@remembered
def may_be_ids(frame: pl.DataFrame) -> Sequence[str]:
    """Columns that have ids, and no times."""
    times = times_of(frame)
    return [c for c in frame.columns if is_id(frame[c]) and c not in times]


def candidates(frame: pl.DataFrame, roles: Roles) -> list[str]:
    """Columns that may be the user or the item where no name says so: those with several rows an id, first those whose
    ids return on other days, as those of requests do not; numbers that look measured last; the most ids first."""
    count = {c: frame[c].n_unique() for c in may_be_ids(frame) if c not in roles.taken}
    days = roles.days(frame, "UTC")

    def rank(c: str) -> tuple[bool, bool, int]:
        return is_quantity(frame[c]), days is not None and returning(frame[c], days) < RETURN, -count[c]

    return sorted((c for c, n in count.items() if FEW < n < _OWN * len(frame)), key=rank)


def floats_named(frame: pl.DataFrame, role: str) -> pl.Series | None:
    """The column of floats, which are no ids, that is surely named like the user or the item."""
    patterns = words.USER if role == "user" else words.ITEM
    return next((s for s in frame if s.dtype.is_float() and s.count() and _is_surely(s.name, patterns)), None)


def is_quantity(s: pl.Series) -> bool:
    """Whether integers are numbers by their name or as many are 0, as durations are, and no ids."""
    named = words.says(s.name, words.NUMBER) or words.says(s.name, words.RATIO) or words.by_name(s.name, words.DURATION)
    return s.dtype.is_integer() and (bool(named) or share(s == 0) > _ZEROS or has_long_tail(s))


def find_ids(frame: pl.DataFrame, roles: Roles) -> None:
    """The user and the item: by name, else the columns that end in id, but for those of a pipeline."""
    ids = [c for c in may_be_ids(frame) if c not in roles.taken]
    users = _in_no_other(_many(frame, ids, words.USER), words.USER, words.ITEM + words.OWNER)
    roles.user = roles.user or best(frame, users, words.USER, "a user")
    rest = [c for c in ids if c not in roles.taken and not _is_device(frame, c, roles)]
    items = _in_no_other(_many(frame, rest, words.ITEM), words.ITEM, words.USER)
    item = best(frame, _finest(frame, items), words.ITEM, "an item")
    is_given = roles.item is not None
    roles.item = roles.item or _of_title(frame, rest, item, roles.user)
    named = {c: words.words(c) for c in ids}
    called = [c for c in ids if (named[c].endswith(_IDS) or named[c].startswith("id ")) and frame[c].n_unique() > FEW]
    called = [c for c in called if not words.by_name(c, words.REQUEST) and c not in roles.taken]
    called = [c for c in called if not words.says(c, words.PIPELINE)]
    called = [c for c in called if frame[c].n_unique() < _OWN * len(frame) and not _is_of_user(frame, c, roles)]
    called.sort(key=lambda c: -frame[c].n_unique())
    if roles.item is not None and not is_given and called and _is_coarse(frame, roles.item, called[0]):
        roles.item = None
    for role in ("item", "user"):
        if role == "user" and len(called) > 1 and roles.user is None and (days := _some_days(frame)) is not None:
            called.sort(key=lambda c: returning(frame[c], days) < RETURN)  # a visit is there on no other day
        if getattr(roles, role) is None and called and (roles.user or roles.item):
            why = f"the id with most values that is left, {count_of(frame[called[0]])}"
            setattr(roles, role, Guess(called[0], why, tuple(called[1:]), is_left_over=True))
            called = called[1:]


def _is_coarse(frame: pl.DataFrame, item: Guess, other: str) -> bool:
    """Whether what may be an item by its name, as a campaign, a shop or an ad may, has few ids beside those of another
    column whose name is in no list."""
    weak = words.by_name(item.column, words.ITEM) == 1 and not words.by_name(other, words.USER + words.OWNER)
    return weak and _COARSE * frame[item.column].n_unique() <= frame[other].n_unique()


def _of_title(frame: pl.DataFrame, ids: list[str], item: Guess | None, user: Guess | None) -> Guess | None:
    """The item; where its column has titles the one that has an id of each, as `lecture_id` has beside `title`: no
    visit, which is of one user."""
    if item is None or not words.says(item.column, words.TITLE):
        return item
    least = frame[item.column].n_unique()
    others = [c for c in ids if c == item.column or words.by_name(c, words.REQUEST) or words.says(c, words.PIPELINE)]
    others += [c for c in ids if words.says(c, languages.SESSION) or (user and is_constant(frame, c, user.column))]
    many = {c: frame[c].n_unique() for c in ids if c not in others}
    called = {c: n for c, n in many.items() if n < _OWN * len(frame) and (n <= _SHARED * least or words.is_named_id(c))}
    own = next((c for c, n in called.items() if n >= least and is_constant(frame, c, item.column)), None)
    why = f"{count_of(frame[own])}, each with a {item.column}" if own else ""
    return Guess(own, why, (item.column,)) if own else item


def _finest(frame: pl.DataFrame, items: list[str]) -> list[str]:
    """Those that are not what another one, named as surely, has one of: of lessons and courses the lessons."""
    sure = {c: words.by_name(c, words.ITEM) for c in items}
    several = {c: frame[c].n_unique() for c in items}
    finer = [(c, x) for c in items for x in items if c != x and several[c] > several[x] and sure[c] >= sure[x]]
    return [x for x in items if not any(x == of and is_constant(frame, c, x) for c, of in finer)]


def _is_of_user(frame: pl.DataFrame, c: str, roles: Roles) -> bool:
    """Whether the rows of an id are of one user, as those of a request are, and of several items hardly ever."""
    return roles.user is not None and is_constant(frame, c, roles.user.column, _OF_ONE)


def _is_device(frame: pl.DataFrame, c: str, roles: Roles) -> bool:
    """Whether each of an id's rows, several, are of one user, as those of a device or an account are, and no name says
    for sure that it is an item: of photos that remind of a day each is shown to one user alone too."""
    several = frame[c].n_unique() * _EACH_OWN <= len(frame)
    sure = _is_surely(c, words.ITEM)
    return several and not sure and frame[c].n_unique() > FEW and _is_of_user(frame, c, roles)


def _in_no_other(ids: list[str], patterns: words.Patterns, others: words.Patterns) -> list[str]:
    """Those with a name of the role that are in no object of another one, as `item.user_id` is, which may be the item's
    author; all of them where each is in one."""
    named = [c for c in ids if words.by_name(c, patterns)]
    return [c for c in named if not words.is_within(c, others)] or named


def _many(frame: pl.DataFrame, ids: list[str], patterns: words.Patterns) -> list[str]:
    """Those with as many values as users or items have, not one a row where other columns end in id; of the surest
    names any number of values."""
    few, own = (0, len(frame) + 1) if len(frame) < _ROWS else (FEW, _OWN * len(frame))
    return [c for c in ids if _is_surely(c, patterns) or few < frame[c].n_unique() < own]


def _is_surely(c: str, patterns: words.Patterns) -> bool:
    """Whether a name is a role's without a doubt: of letters alone, as `track_id`, where `_track_id` is a tracker's."""
    return words.by_name(c, patterns) >= 3 and c[:1].isalnum()


def _some_days(frame: pl.DataFrame) -> pl.Series | None:
    """The days of rows by the column of times that is named most like one; None where there is none."""
    units = {c: unit for c in frame.columns if (unit := time_unit(frame[c])) is not None}
    c = max(units, key=lambda c: words.by_name(c, words.TIME), default=None)
    return None if c is None else local_days(frame[c], units[c], "UTC")


def find_request(frame: pl.DataFrame, roles: Roles) -> None:
    """The smallest groups of several rows, of several items, that have one user and (nearly) one time, under any name;
    else a request by its name, else the smallest that lasts some hours at most, such as a visit."""
    if roles.user is None:
        return
    at, item = roles.instants(frame), roles.item.column if roles.item else None
    many = max(FEW, 1.5 * frame[roles.user.column].n_unique())  # of a user there are several, as of visits
    named = [c for c in frame.columns if is_id(frame[c]) and words.by_name(c, words.REQUEST)]
    ids = [c for c in (*named, *(may_be_ids(frame) if at is not None else ())) if c not in roles.taken]
    found: list[tuple[tuple[bool, bool, bool, float], Guess]] = []
    for c in dict.fromkeys(c for c in ids if frame[c].null_count() <= _ALONE * len(frame)):
        size, sure = len(frame) / frame[c].n_unique(), words.by_name(c, words.REQUEST)
        if size < _SEVERAL or has_days(frame[c]) or not (sure or frame[c].n_unique() >= many):
            continue
        lasts = None if at is None else _lasting(frame[c], at)
        brief = lasts is not None and share(lasts <= _MOMENT) >= _BRIEF
        if not sure and (lasts is None or share(lasts <= _VISIT) < _OF_ONE):
            continue
        of_item = item is not None and is_constant(frame, c, item)  # as an exposure and its click are
        if is_constant(frame, c, roles.user.column, _OF_ONE) and not of_item:
            when = " at one time" if brief else "" if sure else " within hours"
            why = f"{size:.1f} rows each, all of one user{when}"
            found.append(((not brief, sure < _SURELY, words.words(c) in _OF_ROW, size), Guess(c, why)))
    found.sort(key=lambda one: one[0])
    if found:
        others = [g.column for _, g in found[1:]]
        several = [c for c in named if frame[c].n_unique() < _OWN * len(frame)]
        others += [c for c in several if c not in (*others, found[0][1].column) and c not in roles.taken]
        roles.request = replace(found[0][1], others=tuple(others))


def visits_again(frame: pl.DataFrame, roles: Roles) -> bool:
    """Whether a request is a visit in which items are clicked more than once: of a list a click on an item counts
    once."""
    if roles.request is None or roles.item is None:
        return False
    clicked = roles.clicked(frame)
    pairs = (frame if clicked is None else frame.filter(clicked)).select(roles.request.column, roles.item.column)
    pairs = pairs.drop_nulls()
    return len(pairs) - pairs.n_unique() > _AGAIN * len(pairs)


def _lasting(ids: pl.Series, at: pl.Series) -> pl.Series:
    """How long each id lasts."""
    rows = pl.DataFrame({"k": ids, "t": at}).drop_nulls("k")
    return rows.group_by("k").agg(pl.col("t").max() - pl.col("t").min())["t"]


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
