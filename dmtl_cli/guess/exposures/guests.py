"""Two ids of a user in one table: a cookie that all rows have, and the id of who is signed in, which some lack."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.pieces import are_lists
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import quoted, sql_name, sql_value
from dmtl_cli.guess.columns.values import FEW, RETURN, free, has_days, is_constant, is_id, returning, share
from dmtl_cli.guess.exposures.ids import times_of

_SOME = (0.01, 0.9)  # of the rows lack the id of who is signed in
_WHOLE = 0.001  # of the rows may lack a cookie
_MANY = 200  # values of an id that no name tells
_EACH = 2.0  # cookies of a member; of a household or a firm there are more users
VISITOR = "visitor"
"""the column that a computed user is"""


@dataclass(frozen=True)
class Guests:
    """The two columns, and how they go together."""

    cookie: str
    member: str
    expression: str
    """the SQL that makes the user of both"""
    why: str
    """what it means to take either"""

    def other_than(self, user: str) -> str:
        """The one of both that is not the user."""
        return self.member if user == self.cookie else self.cookie


def guests_of(frame: pl.DataFrame, roles: Roles) -> Guests | None:
    """None where the user has no such second id."""
    if roles.user is None:
        return None
    user, times = roles.user.column, times_of(frame)
    gone = _nobody(frame[user])
    for c in frame.columns:
        known = frame[c].drop_nulls()
        if c in roles.taken or c in times or not is_id(known) or known.n_unique() <= FEW:
            continue
        if not words.is_named_id(c) and are_lists(known):  # what they follow, and no id
            continue
        mine, other = share(gone), share(lacks := _nobody(frame[c]))
        if mine <= _WHOLE and _SOME[0] <= other <= _SOME[1] and _may_be_member(known):
            pair = (user, c, lacks)
        elif other <= _WHOLE and _SOME[0] <= mine <= _SOME[1]:
            pair = (c, user, gone)
        else:
            continue
        if (found := _together(frame, *pair, roles)) is not None:
            return found
    return None


def _may_be_member(known: pl.Series) -> bool:
    """Whether values may be ids of those who are signed in: by their name, or by as many as no number of a person
    has."""
    if words.by_name(known.name, words.USER) > 0 or words.is_named_id(known.name):
        return True
    return known.n_unique() >= _MANY and not words.says(known.name, words.NUMBER) and not has_days(known)


def _nobody(s: pl.Series) -> pl.Series:
    """[rows] where an id is none, 0, -1 or a word such as guest."""
    text = s.cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase()
    return (text == "") | (text == "0") | text.str.contains(words.NOBODY)


def _together(frame: pl.DataFrame, cookie: str, member: str, lacks: pl.Series, roles: Roles) -> Guests | None:
    """The pair where a cookie is of one member, as far as it has one, and a member hardly has several cookies."""
    known = frame.select(cookie, member).filter(~lacks).drop_nulls()
    many = known[member].n_unique()
    if many <= FEW or known[cookie].n_unique() > _EACH * many or not is_constant(known, cookie, member):
        return None
    if _is_of_visits(frame.filter(~lacks), cookie, member, roles):
        return None
    rows = frame.select(pl.col(cookie).alias("c"), pl.col(member).alias("m"), lacks.alias("lacks"))
    of = (
        rows.drop_nulls("c")
        .group_by("c")
        .agg(pl.col("lacks").any().alias("guest"), (~pl.col("lacks")).any().alias("in"))
    )
    both = int((of["guest"] & of["in"]).sum())
    several = known.unique().group_by(member).len()["len"]
    none = {str(v) for v in frame[member].filter(lacks).drop_nulls().unique()}
    none |= {""} if frame[member].dtype == pl.String else set()  # a CSV has it for null
    name, whole = sql_name(member), frame[member].dtype.is_integer()
    for word in sorted(none)[:FEW]:
        name = f"NULLIF({name}, {word if whole else sql_value(word)})"
    text = sql_name(cookie) if frame[cookie].dtype == pl.String else f"CAST({sql_name(cookie)} AS VARCHAR)"
    expression = f"COALESCE(CAST({name} AS VARCHAR), 'cookie/' || {text})"
    split = f"cuts a person in two as they sign in, as {both:,} of {len(of):,} {cookie} have rows of both"
    joined = (
        f"{member} makes one user of a member's several {cookie}, which {int((several > 1).sum()):,} of {many:,} have"
    )
    return Guests(cookie, member, expression, f"{joined}, and {split}; {cookie} alone does neither")


def _is_of_visits(frame: pl.DataFrame, cookie: str, member: str, roles: Roles) -> bool:
    """Whether members come again on other days, and their cookies do not: these are visits, or lists of what was
    shown."""
    days = roles.days(frame, "UTC")
    return days is not None and returning(frame[cookie], days) < RETURN <= returning(frame[member], days)


def lines_of(found: Guests, columns: list[str]) -> list[str]:
    """What the config says of it, as comments.

    Args:
        columns: names that the computed column must not have.
    """
    name = free(VISITOR, columns)
    return [
        f"# Or a user of {found.member} where there is one, else of {found.cookie}: {found.why}",
        f"#   user: {name}",
        f"#   computed: {{{name}: {quoted(found.expression)}}}",
    ]
