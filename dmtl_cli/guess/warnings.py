"""What is hardly so in a log that was understood: said aloud by `init` and by `check`."""

from __future__ import annotations

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.values import RETURN, share

USERS = 100
"""users below which hardly anything is learned"""
_ITEMS, _ROWS = 20, 1_000  # items, and rows or requests, of a user
_CROWD, _TIMES = 0.01, 3  # of all rows, and of those of the next user, that one alone has


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


def null_ids(column: str, ids: pl.Series, rows: pl.Series, *, text: bool, dropped: bool = False) -> list[str]:
    """A line for each id that is a word for none: see `words.NONE`.

    Args:
        ids: distinct ids of a column.
        rows: of each.
        text: whether the log is CSV or JSON.
        dropped: whether rows without an id are left out, and so those of an empty text.
    """
    if ids.dtype != pl.String:
        return []
    none = words.NONE[1:] if dropped else words.NONE
    found = pl.DataFrame([ids.alias("id"), rows.alias("rows")]).filter(pl.col("id").is_in(none)).sort("id")
    fix = _null(text=text)
    drop = "data.events.invalid_rows: drop leaves rows without an id out"
    return [f"{column}: {word!r}, in {n:,} rows, is an id: if it means none, {fix}; {drop}" for word, n in found.rows()]


def nobody(user: str, ids: pl.Series, rows: pl.Series, *, text: bool, kept: bool = False) -> list[str]:
    """A line for each user that looks like nobody, or like many under one id: zeros, -1, a word such as guest, or one
    with far more rows than any other.

    Args:
        ids: distinct ids of the column of users.
        rows: of each.
        text: whether the log is CSV or JSON.
        kept: whether the line is written where it is kept and shared, and so names no id that may be a person's.
    """
    found = pl.DataFrame([ids.cast(pl.String).alias("id"), rows.cast(pl.Int64).alias("rows")]).drop_nulls()
    found = found.filter(~pl.col("id").is_in(words.NONE)).sort("rows", "id", descending=[True, False])
    total = int(found["rows"].sum())
    named = found["id"].str.strip_chars().str.to_lowercase().str.contains(words.NOBODY)
    lines = []
    for k in named.arg_true():
        word, n = found.row(int(k))
        seen = f"{user}: {word!r}, in {n:,} rows ({n / total:.1%}), looks like nobody: if it stands for guests"
        lines.append(f"{seen}, {_null(text=text)} and set data.events.invalid_rows: drop, which leaves such rows out")
    people = found.filter(~named)
    if len(people) < USERS:
        return lines
    most, second = people["rows"].head(2)
    if most > _CROWD * total and most >= _TIMES * second:
        times = f"{most / second:.1f} times as many as the next"
        who = "one id" if kept else repr(people["id"][0])
        seen = f"{user}: {who} alone has {most:,} rows ({most / total:.1%}), {times}: is it one person?"
        fix = f"If it is guests under one id, or a program, {_null(text=text)} and set data.events.invalid_rows: drop"
        lines.append(f"{seen} {fix}")
    return lines


def _null(*, text: bool) -> str:
    return "name it in data.null_values" if text else "write null in its place"


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
