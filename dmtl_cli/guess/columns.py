"""What the columns of an event table are: each role by name, type and values, with the reason and what else it could
be."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.values import (
    FEW,
    LEAK,
    auc_of,
    instants,
    is_binary,
    is_constant,
    is_id,
    is_unclicked_empty,
    mean,
    middle,
    share,
    span,
    time_unit,
)

_BEHAVIOURS = {
    "pv",
    "view",
    "click",
    "cart",
    "fav",
    "buy",
    "purchase",
    "addtocart",
    "transaction",
    "impression",
    "like",
}
_LONG = 1500.0  # a middle duration above it is milliseconds: hardly anything is read for 25 minutes
RARE = 0.002
"""share of ones below which a conversion is too rare to be a task"""
_VISIT = dt.timedelta(hours=6)
"""the longest time between rows of one request, or one visit"""
_GOOD = 0.3  # the share of ratings that should count as good at least


@dataclass(frozen=True)
class Guess:
    """A column of a role."""

    column: str
    why: str
    others: tuple[str, ...] = ()
    """columns that fit the role too, the best first"""


@dataclass
class Roles:
    """The roles of an event table's columns; None: no column looks like it."""

    user: Guess | None = None
    item: Guess | None = None
    time: Guess | None = None
    time_unit: str | None = None
    """see `values.time_unit`"""
    click: Guess | None = None
    flags: list[Guess] = field(default_factory=list)
    """columns of 0 and 1 that may be the click where none is named like one, the likeliest first"""
    after: set[str] = field(default_factory=set)
    """those of `flags` that say which rows have a duration: none is known before the exposure"""
    duration: Guess | None = None
    unit: str = "s"
    long_read: float | None = None
    """of a rating in place of a duration: above it a row is a good one"""
    conversion: Guess | None = None
    further: dict[str, Guess] = field(default_factory=dict)
    """conversions beside the one that is learned, by name"""
    request: Guess | None = None
    outcomes: list[Guess] = field(default_factory=list)
    behaviour: Guess | None = None
    """says what each row is: one row a behaviour, which is no exposure with its outcomes"""

    @property
    def named(self) -> dict[str, Guess]:
        """Those that a column was found for."""
        every = ("user", "item", "time", "click", "duration", "conversion", "request", "behaviour")
        return {role: guess for role in every if (guess := getattr(self, role)) is not None}

    @property
    def perhaps_clicks(self) -> str:
        """`flags` in words."""
        return ", ".join(f"{g.column} ({g.why})" for g in self.flags)

    @property
    def taken(self) -> set[str]:
        return {g.column for g in (*self.named.values(), *self.further.values(), *self.outcomes)}


def roles_of(frame: pl.DataFrame, given: Mapping[str, str]) -> Roles:
    """The roles of a table's columns, by its first rows.

    Args:
        given: columns of user, item, click or duration that need no guess; those of another table, and those of a type
            that the role cannot have, are left out.
    """
    roles = Roles()
    for role, c in given.items():
        if c in frame.columns and _can_be(role, frame[c].dtype):
            setattr(roles, role, Guess(c, f"as --{role} says: {_EVIDENCE[role](frame[c])}"))
    _entities(frame, roles)
    _time(frame, roles)
    _request(frame, roles)
    _click(frame, roles)
    _reading(frame, roles)
    _flags(frame, roles)
    _outcomes(frame, roles)
    return roles


def fits_events(roles: Roles) -> int:
    """How much a table with these roles looks like events: both ids, then whatever else events have."""
    if roles.user is None or roles.item is None:
        return 0
    return 1 + len(roles.named)


def _can_be(role: str, kind: pl.DataType) -> bool:
    if role in ("user", "item"):
        return not kind.is_nested()
    return kind.is_numeric() or (role == "click" and kind == pl.Boolean)


def with_names(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of a file without a header, named by place and values: a log mostly begins with user and item."""
    names: dict[str, str] = {}

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


def may_be_ids(frame: pl.DataFrame) -> list[str]:
    """Columns that have ids, and no times."""
    return [c for c in frame.columns if is_id(frame[c]) and time_unit(frame[c]) is None]


def _entities(frame: pl.DataFrame, roles: Roles) -> None:
    """The user and the item: by name, else the columns that end in id."""
    ids = [c for c in may_be_ids(frame) if c not in roles.taken]
    roles.user = roles.user or _best(frame, ids, words.USER, "a user")
    rest = [c for c in ids if c not in roles.taken]
    roles.item = roles.item or _best(frame, rest, words.ITEM, "an item")
    called = [c for c in ids if words.words(c).endswith(("id", "编号")) and frame[c].n_unique() > FEW]
    called = [c for c in called if not words.by_name(c, words.REQUEST) and c not in roles.taken]
    called.sort(key=lambda c: -frame[c].n_unique())
    for role in ("item", "user"):
        if getattr(roles, role) is None and called and (roles.user or roles.item):
            why = f"the id with most values that is left, {_count(frame[called[0]])}"
            setattr(roles, role, Guess(called[0], why, tuple(called[1:])))
            called = called[1:]


def _time(frame: pl.DataFrame, roles: Roles) -> None:
    units = {c: unit for c in frame.columns if c not in roles.taken and (unit := time_unit(frame[c])) is not None}
    owned = {c for c in units for key in (roles.user, roles.item) if key and is_constant(frame, key.column, c)}

    def score(c: str) -> tuple[int, bool, bool, int]:
        clock = units[c] not in ("date", "day", "yyyymmdd")
        return words.by_name(c, words.TIME), clock, c not in owned, -frame.columns.index(c)

    ranked = sorted((c for c in units if c not in owned or score(c)[0]), key=score, reverse=True)
    if ranked:
        best = ranked[0]
        roles.time_unit = units[best]
        roles.time = Guess(best, _TIMES[units[best]].format(frame[best].drop_nulls()[0]), tuple(ranked[1:]))


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


def _request(frame: pl.DataFrame, roles: Roles) -> None:
    ids = [c for c in frame.columns if c not in roles.taken and is_id(frame[c]) and words.by_name(c, words.REQUEST)]
    for c in sorted(ids, key=lambda c: -words.by_name(c, words.REQUEST)):
        size = len(frame) / frame[c].n_unique()
        if roles.user and size >= 1.2 and is_constant(frame, c, roles.user.column):
            roles.request = Guess(c, f"{size:.1f} rows each, all of one user", tuple(x for x in ids if x != c))
            return
    _visits(frame, roles)


def _visits(frame: pl.DataFrame, roles: Roles) -> None:
    """An id that no name tells: several rows each, all of one user within hours, and several of a user."""
    if roles.user is None or roles.time is None:
        return
    at, users = instants(frame[roles.time.column], roles.time_unit or ""), frame[roles.user.column].n_unique()
    for c in may_be_ids(frame) if at is not None else ():
        count = frame[c].n_unique()
        if c in roles.taken or count < max(FEW, 1.5 * users) or len(frame) / count < 1.2:
            continue
        lasts = pl.DataFrame({"k": frame[c], "t": at}).group_by("k").agg(pl.col("t").max() - pl.col("t").min())["t"]
        if share(lasts <= _VISIT) >= 0.98 and is_constant(frame, c, roles.user.column):
            roles.request = Guess(c, f"{len(frame) / count:.1f} rows each, all of one user within hours")
            return


def _click(frame: pl.DataFrame, roles: Roles) -> None:
    binary = [c for c in frame.columns if c not in roles.taken and is_binary(frame[c])]
    roles.click = roles.click or _best(frame, binary, words.CLICK, "a click", _share)
    for c in frame.columns if roles.click is None else ():
        s = frame[c]
        if c in roles.taken or s.dtype not in (pl.String, pl.Categorical, pl.Int64) or not 2 <= s.n_unique() <= 12:
            continue
        known = {str(v).lower() for v in s.drop_nulls().unique()} & _BEHAVIOURS
        if len(known) >= 2 or (words.by_name(c, words.BEHAVIOUR) and s.dtype == pl.String):
            top = s.value_counts(sort=True).head(4)
            shares = ", ".join(f"{v} {n / len(s):.0%}" for v, n in top.iter_rows())
            roles.behaviour = Guess(c, f"one row a behaviour: {shares}")
            return


def _reading(frame: pl.DataFrame, roles: Roles) -> None:
    """What tells a good click: a duration, else a conversion, else a rating."""
    left = [c for c in frame.columns if c not in roles.taken]
    long = [c for c in left if _may_last(frame, c) and not (roles.item and is_constant(frame, roles.item.column, c))]
    roles.duration = roles.duration or _best(frame, long, words.DURATION, "a duration", _mean)
    if roles.duration:
        roles.unit, why = _unit(frame[roles.duration.column], roles.duration.column, roles, frame)
        roles.duration = Guess(roles.duration.column, f"{roles.duration.why}; {why}", roles.duration.others)
    good = [c for c in left if is_binary(frame[c]) and not words.says(c, words.NOT_GOOD)]
    best = _best(frame, good, words.CONVERSION, "a conversion", _share)
    if roles.duration is None and best is not None:
        roles.conversion = best
    elif roles.duration is None:
        _rating(frame, left, roles)
    named = [c for c in good if words.by_name(c, words.CONVERSION) and c not in roles.taken]
    roles.further = {
        words.words(c).removeprefix("is ").replace(" ", "_"): Guess(c, f"{_share(frame[c])}, named like a conversion")
        for c in named
        if mean(frame[c]) >= RARE
    }


def _flags(frame: pl.DataFrame, roles: Roles) -> None:
    """What may be the click: a column that says which rows have a duration, then any other of 0 and 1."""
    if roles.click or roles.behaviour:
        return
    duration = frame[roles.duration.column] if roles.duration else None
    for c in frame.columns:
        if c in roles.taken or not is_binary(frame[c]):
            continue
        said = ""
        if roles.duration and duration is not None and is_unclicked_empty(duration, frame[c]):
            said = f"; where it is 0 there is no {roles.duration.column}"
            roles.after.add(c)
        roles.flags.append(Guess(c, _share(frame[c]) + said))
    roles.flags.sort(key=lambda g: g.column not in roles.after)


def _rating(frame: pl.DataFrame, left: Iterable[str], roles: Roles) -> None:
    """A rating in place of a duration: above some value a row is a good one."""
    for c in left:
        s = frame[c]
        if words.by_name(c, words.RATING) and s.dtype.is_numeric() and 3 <= s.n_unique() <= 101 and span(s)[0] >= 0:
            values = sorted(s.drop_nulls().unique().to_list())
            above = [v for v in values[:-1] if share(s > v) >= _GOOD] or values[:1]
            roles.long_read = float(above[-1])
            good = f"{share(s > above[-1]):.0%} are above {above[-1]:g}"
            roles.duration = Guess(c, f"a rating from {values[0]:g} to {values[-1]:g}; {good}")
            return


def _may_last(frame: pl.DataFrame, c: str) -> bool:
    s = frame[c]
    if not s.dtype.is_numeric() or is_binary(s) or time_unit(s) is not None:
        return False
    return span(s)[0] >= 0 and s.n_unique() > 2 and not words.says(c, words.RATIO)


def _mean(s: pl.Series) -> str:
    return f"{mean(s):,.1f} on average"


def _unit(s: pl.Series, name: str, roles: Roles, frame: pl.DataFrame) -> tuple[str, str]:
    """s or ms, and why."""
    x = s.cast(pl.Float64).fill_nan(None)
    if roles.click:
        x = x.filter(frame[roles.click.column].cast(pl.Int8).fill_null(0) == 1)
    usual = middle(x.filter(x > 0))
    said = words.words(name)
    if words.says(name, r"(ms|msec|msecs|millis|milliseconds)") or "毫秒" in said:
        return "ms", "its name says milliseconds"
    if words.says(name, r"(s|sec|secs|seconds|second)") or "秒" in said:
        return "s", f"its name says seconds; the middle one of a click is {usual:,.1f}"
    if usual > _LONG:
        return "ms", f"the middle one of a click is {usual:,.0f}: as seconds that would be {usual / 60:,.0f} minutes"
    return "s", f"the middle one of a click is {usual:,.1f}, which fits seconds"


def _outcomes(frame: pl.DataFrame, roles: Roles) -> None:
    """Columns that are known only after the exposure: by their names, or because they tell the click by themselves."""
    click = frame[roles.click.column] if roles.click else None
    for c in frame.columns:
        if c in {g.column for g in roles.named.values()} or frame[c].dtype.is_nested():
            continue
        owned = any(key and is_constant(frame, key.column, c) for key in (roles.user, roles.item))
        if owned or words.says(c, words.HISTORY):
            continue
        if why := _why_after(c, frame[c], click):
            roles.outcomes.append(Guess(c, why))


def _why_after(c: str, s: pl.Series, click: pl.Series | None) -> str | None:
    if words.is_known_after(c):
        return "named like what follows an exposure"
    if click is None:
        return None
    if is_unclicked_empty(s, click):
        return "0 or empty wherever there was no click"
    found = auc_of(s, click)
    return f"alone it tells clicks with an AUC of {found:.2f}" if found is not None and found > LEAK else None


def _best(
    frame: pl.DataFrame,
    columns: Iterable[str],
    patterns: tuple[tuple[str, int], ...],
    what: str,
    evidence: Callable[[pl.Series], str] | None = None,
) -> Guess | None:
    """The column whose name fits best, with its reason; of equal ones the first."""
    scores = {c: score for c in columns if (score := words.by_name(c, patterns))}
    if not scores:
        return None
    ranked = sorted(scores, key=lambda c: (-scores[c], frame.columns.index(c)))
    ranked = [c for c in ranked if scores[c] >= scores[ranked[0]] - 1]
    seen = (evidence or _count)(frame[ranked[0]])
    return Guess(ranked[0], f"{seen}, named like {what}", tuple(ranked[1:]))


def _count(s: pl.Series) -> str:
    kind = "integers" if s.dtype.is_integer() else "texts"
    return f"{s.n_unique():,} {kind}"


def _share(s: pl.Series) -> str:
    ones = mean(s)
    return f"0/1, {ones:.0%} ones" if ones >= 0.01 else f"0/1, {ones:.2%} ones"


_EVIDENCE = {"user": _count, "item": _count, "click": _share, "duration": _mean}
