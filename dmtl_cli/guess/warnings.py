"""What is hardly so in a log that was understood: said aloud by `init` and by `check`."""

from __future__ import annotations

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.values import RETURN, share

USERS = 100
"""users below which hardly anything is learned"""
_ITEMS, _ROWS = 20, 1_000  # items, and rows or requests, of a user


def warnings(user: str, users: int, items: int, rows: int, clicks: str | None) -> list[str]:
    """A line each.

    Args:
        user: the column of users.
        users: how many there are, as of `items` and `rows`.
        clicks: the column of clicks.
    """
    out = []
    seen = f"{user}: {users:,} user{'s' if users != 1 else ''} in {rows:,} rows of {items:,} items"
    if users < USERS or items > _ITEMS * users or rows > _ROWS * users:
        out.append(f"{seen}: is it the user? Else name the column of their ids in data.events.user")
    if clicks is None:
        out.append("no column of clicks (data.events.click): every row counts as a click")
    return out


def null_ids(column: str, ids: pl.Series, rows: pl.Series, *, text: bool) -> list[str]:
    """A line for each id that is a word for none: see `words.NONE`.

    Args:
        ids: distinct ids of a column.
        rows: of each.
        text: whether the log is CSV or JSON.
    """
    if ids.dtype != pl.String:
        return []
    found = pl.DataFrame([ids.alias("id"), rows.alias("rows")]).filter(pl.col("id").is_in(words.NONE)).sort("id")
    fix = "name it in data.null_values" if text else "write null in its place"
    drop = "data.events.invalid_rows: drop leaves rows without an id out"
    return [f"{column}: {word!r}, in {n:,} rows, is an id: if it means none, {fix}; {drop}" for word, n in found.rows()]


def sessions(user: str, of_day: pl.Series, others: pl.Series) -> list[str]:
    """A line where no user, or almost none, returns: a request or a session was taken for the user.

    Args:
        of_day: the users of a day, all of them.
        others: users of some rows of other days.
    """
    some = others.drop_nulls().cast(pl.String).unique()
    if len(some) < USERS:
        return []
    back = share(some.is_in(of_day.drop_nulls().cast(pl.String).unique().implode()))
    if back >= RETURN:
        return []
    seen = (
        f"{back:.1%} of {len(some):,} ids of other days are there on this one" if back else "no id is there on two days"
    )
    return [f"{user}: {seen}: is it a request or a session? Else name the column of the users' ids in data.events.user"]
