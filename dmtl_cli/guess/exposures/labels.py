"""The roles of all columns of an event table: after those of `roles` the click, and what follows an exposure."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.config.expressions import sources_of
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import object_of
from dmtl_cli.guess.columns.remembered import remembered
from dmtl_cli.guess.columns.roles import Guess, Roles, best, count_of, mean_of, share_of
from dmtl_cli.guess.columns.values import (
    FEW,
    clicks,
    free,
    has_long_tail,
    is_binary,
    is_constant,
    is_flags,
    is_there,
    is_time_or_null,
    is_unclicked_empty,
    middle,
    numbers,
    share,
    span,
    time_unit,
)
from dmtl_cli.guess.exposures.after import outcomes
from dmtl_cli.guess.exposures.funnel import by_what_follows
from dmtl_cli.guess.exposures.ids import find_ids, find_request, find_time, time_of
from dmtl_cli.guess.reading.rewrites import behaviour_of

EXPRESSION = "expression"
CLICK_EXPRESSION = "click expression"
CLICK_WHY = "click why"
ITEM_WHY = "item why"
PLACE = "place"
GOOD_WHY = "good why"
"""what told the expression of a click, the item, and the expression of a good one, where no person did"""
GOOD = "good"
"""the column that an expression of --conversion makes"""
_EVIDENCE = {
    "user": count_of,
    "item": count_of,
    "time": time_of,
    "click": share_of,
    "duration": mean_of,
    "conversion": share_of,
}
RARE = 0.002
"""share of ones below which a conversion is too rare to be a task"""
_LONG = 1500.0  # a middle duration above it is milliseconds: hardly anything is read for 25 minutes
_GOOD = 0.3  # the share of ratings that should count as good at least
_SURE = 4  # of a conversion's name: an order, which is a better label than a number that may be a duration
_WITHOUT = 0.5  # of a conversion's rate among clicks: a button beside the item is pressed without a click too
_BROKEN = 0.02  # of the durations may be below 0, as players report them
_WHOLE = 100  # percent
_MS, _S = words.any_of("ms msec msecs millis milliseconds"), words.any_of("s sec secs seconds second")
_LEVELS = (0.9, 0.75, 0.5, 0.25)  # of an item, above which it was read: the first that enough clicks are above
_PLAYED = 0.05  # of the rows without a click may have a duration, as videos start by themselves
_SAME = 0.98  # of the rows with either have the other
_RARE, _OFTEN = 0.01, 0.7  # of the rows are clicks
_SOME = 0.4  # of the rows, at most, say that something was opened: of more it is what is open
_MORE, _WITHIN = 1.05, 0.9  # times as many rows have a duration; of the rows of a flag are among them
_SKEWED = 1.0  # that of a uniform or normal distribution is 0, of an exponential one 2


def roles_of(frame: pl.DataFrame, given: Mapping[str, str], known: Mapping[str, Guess] | None = None) -> Roles:
    """The roles of a table's columns, by its first rows.

    Args:
        given: columns of user, item, time, click, duration or conversion that need no guess; those of another table,
            and those of a type that the role cannot have, are left out. EXPRESSION: of SQL, which makes the conversion;
            CLICK_EXPRESSION: the one that made the column of the click. PLACE: the column of places in a list, if any.
        known: the user and the item, as `keys.by_tables` tells them.
    """
    found = _roles_of(frame, tuple(given.items()), tuple((known or {}).items()))
    return copy.deepcopy(found)  # who asks adds to it


@remembered
def _roles_of(frame: pl.DataFrame, said: tuple[tuple[str, str], ...], known: tuple[tuple[str, Guess], ...]) -> Roles:
    frame, given = _without_marks(frame), dict(said)
    roles = Roles(**dict(known))  # type: ignore[arg-type]
    for role, c in given.items():
        if c in frame.columns and _can_be(role, frame[c]):
            why = f"as --{role} says"
            if role == "click":
                rule = given.get(CLICK_EXPRESSION)
                why = given.get(CLICK_WHY, f"{why}: {rule}" if rule else why)
            elif role == "item":
                why = given.get(ITEM_WHY, why)
            setattr(roles, role, Guess(c, f"{why}: {_EVIDENCE[role](frame[c])}"))
    if (made := given.get(EXPRESSION)) is not None:
        name = free(GOOD, frame.columns)
        roles.conversion, roles.made_by = Guess(name, given.get(GOOD_WHY, f"as --conversion says: {made}")), made
    if roles.click is not None and roles.click.column == given.get("click"):
        roles.clicked_by = given.get(CLICK_EXPRESSION)
    roles.place = given.get(PLACE)
    find_ids(frame, roles)
    find_time(frame, roles)
    find_request(frame, roles)
    _click(frame, roles)
    told = roles.duration, roles.conversion
    reading(frame, roles)
    if started(frame, roles):  # which rows are clicks tells durations and conversions better
        roles.duration, roles.conversion = told
        roles.further = {}
        reading(frame, roles)
    flags(frame, roles)
    outcomes(frame, roles)
    return roles


def _can_be(role: str, s: pl.Series) -> bool:
    if role in ("user", "item"):
        return s.dtype == pl.String or s.dtype.is_integer()
    if role == "duration":
        return s.dtype.is_numeric()
    if role == "time":
        return time_unit(s) is not None
    return is_flags(s) or (role == "click" and time_unit(s) is not None)


def _clicked_at(frame: pl.DataFrame, roles: Roles) -> Guess | None:
    """The time of the click, empty without one; of an object that is there with one alone, as tap.at."""
    times = [c for c in frame.columns if c not in roles.taken and is_time_or_null(frame[c])]
    named = [c for c in times if any(words.says_all(name, words.CLICK_TIME) for name in _endings(c))]
    return Guess(named[0], share_of(frame[named[0]]), tuple(named[1:])) if named else None


def _endings(c: str) -> list[str]:
    """A column's name, and of a field of objects those of the inner ones; without what MongoDB calls a type."""
    parts = c.removesuffix(".$date").split(".")
    return [".".join(parts[k:]) for k in range(len(parts))]


def _click(frame: pl.DataFrame, roles: Roles) -> None:
    binary = [c for c in frame.columns if c not in roles.taken and is_binary(frame[c])]
    named = best(frame, binary, words.CLICK, "a click", share_of)
    sure = named is not None and words.by_name(named.column, words.CLICK) > 1
    at = None if sure else _clicked_at(frame, roles)
    same = (c for c in binary if at and (clicks(frame[c]) == clicks(frame[at.column])).all())
    if at and (flag := next(same, None)) is not None:
        at = Guess(flag, f"{share_of(frame[flag])}, set just where there is {at.column}", (at.column, *at.others))
    roles.click = roles.click or (named if sure else at or named)
    roles.behaviour = behaviour_of(frame, roles) if roles.click is None else None
    if roles.click is None and roles.behaviour is None and roles.item is not None:
        of_item = object_of(roles.item.column)  # a shop may be open; of an element of a list it says what was opened
        some = [c for c in binary if of_item and object_of(c) == of_item and share(clicks(frame[c])) <= _SOME]
        roles.click = best(
            frame, [c for c in some if not roles.owns(frame, c)], words.OPENED, "what was opened", share_of
        )


def reading(frame: pl.DataFrame, roles: Roles) -> None:
    """What tells a good click: a duration, else a conversion, else a rating."""
    left = [c for c in frame.columns if c not in roles.taken]
    long = _durations(frame, left, roles)
    good = [c for c in left if _may_convert(frame, c, roles)]
    conversion = roles.conversion or best(frame, good, words.CONVERSION, "a conversion", share_of)
    named = None if roles.conversion else _named_duration(frame, long, roles)
    sure = conversion is not None and (
        roles.conversion is not None or words.by_name(conversion.column, words.CONVERSION) >= _SURE
    )
    roles.duration = roles.duration or named or (None if sure else _by_values(frame, long, roles))
    if not sure:
        _portion(frame, [roles.duration.column] if roles.duration else left, roles)
    if roles.duration and roles.long_read is None:
        roles.unit, why = _unit(frame, roles.duration.column, roles)
        roles.duration = Guess(roles.duration.column, f"{roles.duration.why}; {why}", roles.duration.others)
    elif roles.duration is None and conversion is not None:
        roles.conversion = conversion
    elif roles.duration is None:
        _rating(frame, left, roles)
    also = [c for c in good if words.by_name(c, words.CONVERSION) and c not in roles.taken]
    roles.further = {
        words.words(c).removeprefix("is ").replace(" ", "_"): Guess(c, f"{share_of(frame[c])}, named like a conversion")
        for c in also
        if share(clicks(frame[c])) >= RARE
    }


def _named_duration(frame: pl.DataFrame, columns: list[str], roles: Roles) -> Guess | None:
    """The column that is named most like a duration; before all others one that has none without a click, as how long
    an item was in view has."""
    clicked = roles.clicked(frame)
    of_clicks = [c for c in columns if clicked is not None and is_unclicked_empty(frame[c], clicked)]
    first = best(frame, of_clicks, words.DURATION, "a duration", mean_of)
    every = best(frame, columns, words.DURATION, "a duration", mean_of)
    if first is None or every is None or first.column == every.column:
        return every
    others = tuple(c for c in dict.fromkeys((*first.others, every.column, *every.others)) if c != first.column)
    return replace(first, others=others)


def started(frame: pl.DataFrame, roles: Roles) -> bool:
    """Finds the click by the label where no name tells it: the flag that is true just where there is a duration, else
    one without which there is no label, in the label's own struct or named like a start."""
    rated = roles.long_read is not None and roles.duration and words.by_name(roles.duration.column, words.RATING)
    if roles.click or roles.behaviour or rated:
        return False
    left = [c for c in frame.columns if c not in roles.taken]
    found = by_duration(frame, roles, _durations(frame, left, roles)) or _before_label(frame, roles)
    roles.click = found or by_what_follows(frame, roles)
    return roles.click is not None


def _before_label(frame: pl.DataFrame, roles: Roles) -> Guess | None:
    label = roles.duration or roles.conversion
    named = sources_of(roles.made_by) if roles.made_by else [label.column] if label else []
    if not (told := [c for c in named if c in frame.columns]):
        return None
    struct = object_of(told[0])
    for c in frame.columns:
        is_other = words.by_name(c, words.CONVERSION) or words.is_of_sight(c)
        if c in roles.taken or c in told or not is_binary(frame[c]) or is_other:
            continue
        if not (struct and object_of(c) == struct) and not words.by_name(c, words.STARTED):
            continue
        for x in told:
            if is_unclicked_empty(frame[x], clicks(frame[c])):
                return Guess(c, f"{share_of(frame[c])}; where it is 0 there is no {x}")
    return None


def flags(frame: pl.DataFrame, roles: Roles) -> None:
    """What may be the click: a column that says which rows have a duration, then any other of 0 and 1."""
    if roles.click or roles.behaviour:
        return
    duration = frame[roles.duration.column] if roles.duration else None
    for c in frame.columns:
        timed = is_time_or_null(frame[c])
        if c in roles.taken or not (is_binary(frame[c]) or timed):
            continue
        said = ""
        if roles.duration and duration is not None and is_unclicked_empty(duration, clicks(frame[c])):
            said = f"; where it is {'empty' if timed else 0} there is no {roles.duration.column}"
            roles.after.add(c)
        if said or not timed:
            roles.flags.append(Guess(c, share_of(frame[c]) + said))
    roles.flags.sort(key=lambda g: g.column not in roles.after)


def _without_marks(frame: pl.DataFrame) -> pl.DataFrame:
    """With null for -1 in numbers that are never below 0 otherwise and are -1 in many rows: no value stands there."""
    signed = [s for s in frame if s.dtype.is_signed_integer() or s.dtype.is_float()]
    some = [s for s in signed if share(s == -1) > _BROKEN]
    marked = [s.name for s in some if share(s < 0) == share(s == -1) and s.max() != 0]
    if not marked:
        return frame  # of which much is remembered
    return frame.with_columns(frame[c].set(frame[c] == -1, None) for c in marked)


def _durations(frame: pl.DataFrame, columns: Iterable[str], roles: Roles) -> list[str]:
    """Numbers that differ within an item: how long one is says nothing of how long it was read, nor how long it was in
    view, which rows without a click have too."""
    item, clicked = roles.item.column if roles.item else None, roles.clicked(frame)
    lasting = [c for c in columns if _may_last(frame, c) and not (item is not None and is_constant(frame, item, c))]
    if clicked is None:
        return lasting
    return [c for c in lasting if not words.is_of_sight(c) or is_unclicked_empty(frame[c], clicked)]


def _may_last(frame: pl.DataFrame, c: str) -> bool:
    s = frame[c]
    if not s.dtype.is_numeric() or is_binary(s) or time_unit(s) is not None or words.says(c, words.RATIO):
        return False
    return share(s < 0) <= _BROKEN and s.n_unique() > 2


def _may_convert(frame: pl.DataFrame, c: str, roles: Roles) -> bool:
    """Whether a column of 0 and 1 may be an outcome: far more of the clicks have it than of the other rows, and it is
    no attribute of a user or item."""
    if not is_binary(frame[c]) or words.says(c, words.NOT_GOOD):
        return False
    ones, clicked = clicks(frame[c]), roles.clicked(frame)
    if clicked is not None and clicked.any() and not clicked.all():
        rates = share(ones.filter(clicked)), share(ones.filter(~clicked))
        if rates[1] > rates[0] * _WITHOUT:
            return False
    return not roles.owns(frame, c)


def _by_values(frame: pl.DataFrame, columns: Iterable[str], roles: Roles) -> Guess | None:
    """A number that no name tells: most clicks have one, hardly any other row, and a few are far larger than most; it
    need not be as uneven where it has a value just where there is a click. What is named after the click, as
    `klik_po_ms`, is hardly how long it lasted, but how long it took: the last of several."""
    clicked = roles.clicked(frame)
    if clicked is None:
        return None
    found: list[tuple[str, str]] = []
    for c in columns:
        s = frame[c]
        if words.says(c, words.PRICE) or words.by_name(c, words.POSITION):
            continue
        there = is_there(s)
        with_one = s.filter(clicked & there)
        rates = share(there.filter(clicked)), share(there.filter(~clicked))
        told = f"{rates[0]:.0%} of clicks have one, {rates[1]:.1%} of other rows"
        if rates[0] >= 0.5 and rates[1] <= _PLAYED and with_one.n_unique() > FEW and has_long_tail(with_one):
            found.append((c, f"{told}, with a long tail"))
        elif just_where(s, clicked) and is_spread(with_one):
            found.append((c, told))
    click = roles.click.column.rpartition(".")[2].lower() if roles.click else ""
    named = {c: words.words(c.rpartition(".")[2]).split() for c, _ in found}
    units = {c: words.says(c, _MS) or words.says(c, _S) for c in named}
    found.sort(key=lambda one: click in named[one[0]] and len(named[one[0]]) > 1 + units[one[0]])
    return Guess(found[0][0], found[0][1], tuple(c for c, _ in found[1:])) if found else None


def _portion(frame: pl.DataFrame, columns: Iterable[str], roles: Roles) -> None:
    """How much of an item was read, as a duration: above some share of the item a click is a good one."""
    item = roles.item.column if roles.item else None
    for c in (c for c in columns if words.by_name(c, words.PORTION)):
        s = frame[c]
        if not s.dtype.is_numeric() or is_binary(s) or (item is not None and is_constant(frame, item, c)):
            continue
        x = roles.of_clicks(frame, c)
        usual = middle(x.filter(x > 0))
        if usual == 0 or usual > _WHOLE or share(x < 0) > _BROKEN or share(frame[c] > 2 * _WHOLE) > _BROKEN:
            continue
        of = 1 if usual <= 1 and s.dtype.is_float() else _WHOLE
        above = next((of * level for level in _LEVELS if share(x > of * level) >= _GOOD), of * _LEVELS[-1])
        roles.long_read = above
        good = f"{share(x > above):.0%} of clicks are above {above:g}"
        given = f"{roles.duration.why}; " if roles.duration else ""
        roles.duration = Guess(c, f"{given}how much of an item was read, of {of}; {good}")
        return


def _unit(frame: pl.DataFrame, name: str, roles: Roles) -> tuple[str, str]:
    """s or ms, and why."""
    x = roles.of_clicks(frame, name)
    usual = middle(x.filter(x > 0))
    said = words.words(name)
    if words.says(name, _MS) or "毫秒" in said:
        return "ms", "its name says milliseconds"
    if words.says(name, _S) or "秒" in said:
        return "s", f"its name says seconds; the middle one of a click is {usual:,.1f}"
    if usual > _LONG:
        return "ms", f"the middle one of a click is {usual:,.0f}: as seconds that would be {usual / 60:,.0f} minutes"
    return "s", f"the middle one of a click is {usual:,.1f}, which fits seconds"


def _rating(frame: pl.DataFrame, left: Iterable[str], roles: Roles) -> None:
    """A rating in place of a duration: above some value a row is a good one."""
    for c in left:
        s = frame[c]
        if words.by_name(c, words.RATING) and s.dtype.is_numeric() and 3 <= s.n_unique() <= 101 and span(s)[0] >= 0:
            values = sorted(float(v) for v in s.drop_nulls().unique())
            above = [v for v in values[:-1] if share(s > v) >= _GOOD] or values[:1]
            roles.long_read = float(above[-1])
            good = f"{share(s > above[-1]):.0%} are above {above[-1]:g}"
            roles.duration = Guess(c, f"a rating from {values[0]:g} to {values[-1]:g}; {good}")
            return


def just_where(s: pl.Series, flag: pl.Series) -> bool:
    """Whether a number has a value just where a flag is true: in 98% of its rows, in hardly any other row. A value is a
    number above 0 or, where the other rows have null, any number.

    Args:
        flag: [n] of bool, without null.
    """
    known = numbers(s).is_not_null()
    ways = [is_there(s), *([] if known.all() else [known])]
    return any(
        min(share(there.filter(flag)), share(flag.filter(there)), 1 - share(there.filter(~flag))) >= _SAME
        for there in ways
    )


def is_spread(s: pl.Series) -> bool:
    """Whether numbers, none below 0, are as different as durations are: many, and more of them small than large."""
    return s.n_unique() > FEW and has_long_tail(s, _SKEWED)


def by_duration(frame: pl.DataFrame, roles: Roles, numbers: Sequence[str]) -> Guess | None:
    """The flag that is true just where a duration has a value; None where none is, or several are and no name tells
    one of them.

    Nothing is concluded of an attribute of a user or item, which is told by their ids, nor of an outcome that is deeper
    than a click: true more rarely than a duration that all its rows have.

    Args:
        numbers: columns that may be a duration where no name tells one.
    """
    if roles.user is None or roles.item is None:
        return None
    lasting = [roles.duration.column] if roles.duration else [c for c in numbers if _may_be_lasting(frame, c, roles)]
    found: dict[str, str] = {}
    for c in frame.columns if lasting else ():
        named = words.by_name(c, words.CONVERSION) or words.says(c, words.NOT_GOOD) or words.is_of_sight(c)
        if c in roles.taken or not is_binary(frame[c]) or named:
            continue
        flag = clicks(frame[c])
        if not _RARE <= share(flag) <= _OFTEN or flag.sum() < FEW or _is_deeper(frame, flag, lasting):
            continue
        beside = next((d for d in lasting if just_where(frame[d], flag)), None)
        if beside is not None and not roles.owns(frame, c):
            found[c] = beside
    scores = {c: words.by_name(c, words.CLICKED) for c in found}
    likeliest = [c for c in found if scores[c] == max(scores.values())]
    if len(likeliest) != 1:
        return None
    taken = likeliest[0]
    true = "true" if frame[taken].dtype == pl.Boolean else 1
    why = f"{share_of(frame[taken])}; {found[taken]} has a value just where it is {true}"
    return Guess(taken, why, tuple(c for c in found if c != taken))


def _may_be_lasting(frame: pl.DataFrame, c: str, roles: Roles) -> bool:
    """Whether a number that most rows lack may be a duration by its values where it has some."""
    if words.says(c, words.PRICE) or words.by_name(c, words.POSITION):
        return False
    there = is_there(frame[c])
    if not _RARE <= share(there) <= _OFTEN or not is_spread(frame[c].filter(there)):
        return False
    return not roles.owns(frame.filter(there), c)


def _is_deeper(frame: pl.DataFrame, flag: pl.Series, lasting: Sequence[str]) -> bool:
    there = [is_there(frame[c]) for c in lasting]
    return any(share(x) > _MORE * share(flag) and share(x.filter(flag)) >= _WITHIN for x in there)
