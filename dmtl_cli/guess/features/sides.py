"""Whose a column of the events is, the user's, the item's or the context's, and which codes never come back."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.pieces import ITEMS, separator_in
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import FEW, is_constant, share, values_in, within
from dmtl_cli.guess.features.inputs import Input
from dmtl_cli.guess.reading.tables import Table

_SEEN = 0.05  # of the rows of other days have a code of the day with most rows, or of another one
_ROWS = 100  # of other days than that with most, below which nothing is concluded
_OF_ONE = 0.98  # of the rows of a code have one user
_TIMES = 1.5  # as many codes as users


def side_of(c: str, frame: pl.DataFrame, roles: Roles, days: pl.Series | None) -> tuple[str, bool]:
    """Whose a column of the events is, and whether it is an item's value of a day alone, as a price is: a user's or an
    item's where it is the same in all of their rows, a user's where it is a list of items; what varies for both is of
    the context."""
    s, item = frame[c], roles.item
    for side in ("item", "user") if s.dtype == pl.List else ("user", "item"):
        key = getattr(roles, side)
        if key is not None and is_constant(frame, key.column, c):
            return side, False
    if item is not None and _has_items(s, frame[item.column]):
        return "user", False
    if item is not None and is_of_day(frame, item.column, c, days):
        return "item", True
    return "context", False


def is_another(c: str, of_tables: Sequence[Input], events: Table, roles: Roles, days: pl.Series | None) -> bool:
    """Whether a column of the events with the name of one of a table beside them is of somebody else: the user's city
    beside that of an item. One of the context is hardly: an item's own value changes too."""
    side, _ = side_of(c, events.frame, roles, days)
    same = {i.side for i in of_tables if i.column == c}
    return side != "context" and bool(same) and side not in same


def _has_items(s: pl.Series, items: pl.Series) -> bool:
    """Whether values are lists that have some of the items."""
    if s.dtype == pl.String and (separator := separator_in(s.name, s.drop_nulls(), items)) is not None:
        s = s.drop_nulls().str.split(separator)
    return s.dtype == pl.List and not values_in(s).dtype.is_float() and within(values_in(s), items) >= ITEMS


def never_back(s: pl.Series, days: pl.Series | None, users: pl.Series | None) -> str | None:
    """Why codes are those of requests, sessions or rows, whatever they are called; None where they may be a feature.

    Such codes do not come back on another day. Of rows of one day, they are told by their name or because each has one
    user, of whom many have several.

    Args:
        days: of the rows, as users are; null where unknown.
    """
    if s.n_unique() <= FEW:
        return None
    seen = pl.DataFrame({"v": s, "d": days}).drop_nulls() if days is not None else pl.DataFrame({"v": [], "d": []})
    most: pl.Series = seen["d"].mode().sort().head(1)
    other = seen.filter(pl.col("d") != most[0]) if len(most) else seen
    if len(other) >= _ROWS:
        on = seen.group_by("v").agg(pl.col("d").n_unique() > 1)
        back = share(other.join(on.rename({"d": "back"}), on="v", how="left")["back"])
        if back >= _SEEN:
            return None
        few = f"{back:.0%} of them are" if back else "none of them is"
        return f"{s.n_unique():,} codes, {few} there on another day: a request's, session's or row's"
    if words.by_name(s.name, words.REQUEST):
        return "named like a request or session"
    if users is None or s.n_unique() < _TIMES * users.n_unique():
        return None
    of_one = is_constant(pl.DataFrame({"v": s, "u": users}), "v", "u", _OF_ONE)
    return "codes of one user each, of whom many have several: a request's or session's" if of_one else None


def is_of_day(frame: pl.DataFrame, key: str, column: str, days: pl.Series | None) -> bool:
    """Whether a column has one value an id and day, in nearly all rows of the day with most rows."""
    if days is None or not days.count():
        return False
    most = days.drop_nulls().mode().sort()
    return is_constant(frame.filter((days == most[0]).fill_null(False)), key, column)
