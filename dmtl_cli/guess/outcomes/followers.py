"""Rows of several kinds of one table: which of them name by an id what was shown, which kind is the click, and what is
made of the rows of an id."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import polars as pl

from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import sql_column, sql_values
from dmtl_cli.guess.columns.values import FEW, free, is_id, share, time_unit, within
from dmtl_cli.guess.exposures.references import is_chance
from dmtl_cli.guess.outcomes.aggregates import is_state, number_of, states_of
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.reading.rewrites import BEST, Behaviours, is_click
from dmtl_cli.guess.reading.tables import Table

OWN = 0.95
"""of the rows of what was shown have an id of their own; others came twice"""
NAME, SOME = 0.8, 0.3
"""of the rows of what follows name one; of clicks alone, which may begin elsewhere"""
THERE = 0.5
"""of these ids are in the sample, which begins and ends within a session"""
_SAME = 0.95  # of them are of the same user
_MORE = 1.2  # as many exposures have what comes before a click
_SEEN = 0.5  # of the exposures, at most, are opened: what more of them have is that they were in view


def without_followers(frame: pl.DataFrame, values: Behaviours, roles: Roles) -> Behaviours:
    """The kinds, where those that are exposures by their words and yet name one, as a view of what was shown does, are
    clicks, if no others are or these only say that something was opened and name nothing."""
    rows = {v: frame.filter(pl.col(values.column) == v) for v in values.exposure}
    found: list[str] = []
    for v in reversed(rows):  # the rarest first: what follows is of some of what was shown
        others = [rows[first] for first in rows if first != v and first not in found]
        if any(keys_of(shown, rows[v], roles, SOME) for shown in others):
            found.append(v)
    if not found:
        return values
    exposure = tuple(v for v in values.exposure if v not in found)
    shown, clicks = (frame.filter(pl.col(values.column).is_in(of)) for of in (exposure, values.click))
    seen = sum(len(rows[v]) for v in found) > _SEEN * len(shown)
    sure = seen or any(map(is_click, values.click)) or keys_of(shown, clicks, roles, SOME)
    click, left = (values.click, tuple(found)) if values.click and sure else (tuple(found), values.click)
    return replace(values, exposure=exposure, click=click, left=(*left, *values.left))


def ways(values: Behaviours) -> list[tuple[list[str], float]]:
    """The kinds of rows, and what share of them, that are to name what was shown: clicks and what is better, clicks
    alone, or what is neither by its word, where no word says a click for sure."""
    found = [([*values.click, *values.better], NAME), ([*values.click], SOME)]
    return found if any(map(is_click, values.click)) else [*found, ([*values.left[:1]], SOME)]


def first_kind(values: Behaviours, ids: pl.Series, kinds: pl.Series) -> Behaviours:
    """The kinds, where no word says a click for sure, and one in words that nobody knows is there for nearly all that
    may be one, as an exercise is started before its hint is opened, and for more exposures: that is the click.

    Args:
        ids, kinds: [n] of what followed, the exposure and what it is.
    """
    of = {v: ids.filter(kinds == v).drop_nulls().unique() for v in (*values.click, *values.left)}
    clicked = pl.concat([ids.clear(), *(of[v] for v in values.click)]).unique()
    first = max(values.left, key=lambda v: len(of[v]), default=None)
    if first is None or any(map(is_click, values.click)) or len(of[first]) < max(FEW, _MORE * len(clicked)):
        return values
    if len(clicked) and share(clicked.is_in(of[first].implode())) < OWN:
        return values
    return replace(values, click=(first,), left=tuple(v for v in (*values.click, *values.left) if v != first))


def named_kinds(kinds: pl.Series, ids: pl.Series) -> list[str]:
    """The kinds of which enough rows have an id of an exposure."""
    rows = pl.DataFrame({"v": kinds, "has": ids.is_not_null()}).drop_nulls("v")
    each = rows.group_by("v").agg(pl.col("has").mean())
    return sorted(each.filter(pl.col("has") >= SOME)["v"])


def keys_of(
    shown: pl.DataFrame, follows: pl.DataFrame, roles: Roles, least: float, *, some: bool = False
) -> tuple[str, str] | None:
    """The column by which rows of what follows, a share of them at least, name what was shown, and the one of its id.

    Args:
        some: whether only some of what was shown may have an id of its own, as clicks that began something.
    """
    assert roles.user is not None and roles.item is not None
    ids = {g.column for g in (roles.user, roles.item, roles.time) if g is not None}
    if len(follows) < FEW:
        return None
    known = {c: shown[c].drop_nulls() if some else shown[c] for c in shown.columns if c not in ids}
    own = [c for c, s in known.items() if len(s) >= FEW and is_own_of(s)]
    fits: list[tuple[bool, float, str, str]] = []
    for key in follows.columns:
        if key in ids or not is_id(follows[key]) or share(follows[key].is_not_null()) < least:
            continue
        there = [(within(follows[key], shown[c]), c) for c in own]
        there = [(rate, c) for rate, c in there if rate >= THERE and _of_same_user(follows, shown, key, c, roles)]
        fits += [(time_unit(shown[c]) is None, rate, key, c) for rate, c in there]
    if not fits:
        return None
    *_, key, c = max(fits)
    return key, c


def is_own_of(s: pl.Series) -> bool:
    """Whether nearly each row has an id, and one of its own; of two fits one that is a time is the worse."""
    return is_id(s) and s.null_count() <= (1 - OWN) * len(s) and s.n_unique() >= OWN * len(s)


def _of_same_user(follows: pl.DataFrame, shown: pl.DataFrame, key: str, c: str, roles: Roles) -> bool:
    """Whether what follows is of the user of what it names, as a number that is there by chance is not. Where no row
    has a user, as what was shown tells them, the ids are to be of one column, or no running numbers."""
    assert roles.user is not None
    user = pl.col(roles.user.column)
    one = shown.select(pl.col(c).cast(pl.String).alias(":k"), user.alias("of")).unique(":k", keep="first")
    met = follows.select(pl.col(key).cast(pl.String).alias(":k"), user.alias("u")).join(one, on=":k")
    if not met["u"].count() and met["of"].count():
        return key == c or not is_chance(shown[c], follows[key])
    met = met.filter(pl.col("u").is_not_null() | pl.col("of").is_not_null())  # of guests it says nothing
    return len(met) > 0 and share(met["u"] == met["of"]) >= _SAME


@dataclass(frozen=True)
class Followers:
    """Rows of a table that are of what followed, and what is known of them."""

    table: Table
    """these rows"""
    values: Behaviours
    """the kinds of all of the table's rows"""
    roles: Roles
    """of the same, with a user"""
    later: list[str]
    """columns that only such rows have"""

    @property
    def user(self) -> str:
        """The column of users."""
        assert self.roles.user is not None
        return self.roles.user.column


def with_made(
    one: Outcomes, rows: pl.DataFrame, ids: tuple[str, ...], of: Followers, taken: set[str], *, clicks: bool = True
) -> Outcomes:
    """The table with what is made of rows of an id, or of several together, by names that no column of the files has:
    whether somebody clicked or did what is better, a flag for each other kind, and numbers and states that only such
    rows have.

    Args:
        ids: the columns of the ids; a row without the last is of none.
        clicks: whether a click is made of them where no kind says it, of what is better.
    """
    values, kind, rows = of.values, sql_column(of.values.column), rows.drop_nulls(ids[-1])
    there = {*rows[values.column].to_list()}
    good = [v for some in values.good.values() for v in some if v in there]
    columns, flags = dict[str, str](), dict[str, str]()
    if clicks or there.intersection(values.click):
        columns[free("clicked", taken)] = _counted(kind, [*values.click, *good])
    for v in dict.fromkeys([*good, *(v for v in values.left if v in there)]):
        name = re.sub(r"\W+", "_", v).strip("_") or "other"
        flags[v] = free(name, {*taken, *columns})
        columns[flags[v]] = _counted(kind, [v])
    left, by, states = list[str](), rows.select(pl.struct(ids)).to_series(), dict[str, dict[str, str]]()
    for c in (c for c in of.later if c not in ids and rows[c].null_count() < len(rows)):
        if is_state(rows[c]):
            made_of, each = states_of(rows[c], by, {*taken, *columns}, plain=True)
            columns |= made_of
            states |= {c: each} if each else {}
            left += [] if made_of else [c]
        elif (made := number_of(rows[c], by, is_length=c in one.table.written.clocks)) is None:
            left.append(c)
        else:
            word = "total" if made.startswith("SUM") else "most"
            columns[free(f"{word}_{c.replace('.', '_')}", {*taken, *columns})] = made
    best = [(k, v) for k, name in enumerate(BEST) for v in values.good.get(name, ()) if v in flags]
    told = tuple((k, flags[v], f"whether there is a row of {v}") for k, v in best)
    return replace(one, columns=columns, left=tuple(left), good=told, states=states)


def _counted(kind: str, values: list[str]) -> str:
    """Whether there is a row of one of these kinds."""
    return f"COUNT(CASE WHEN {kind} {sql_values(values)} THEN 1 END) > 0"
