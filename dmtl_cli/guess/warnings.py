"""What is hardly so in a log that was understood: said aloud by `init` and by `check`."""

from __future__ import annotations

import polars as pl

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
    """A line for each id that is a word for none.

    Args:
        ids: distinct ids of a column.
        rows: of each.
        text: whether the log is CSV or JSON.
    """
    if ids.dtype != pl.String:
        return []
    found = pl.DataFrame([ids.alias("id"), rows.alias("rows")]).filter(pl.col("id").is_in(_NONE)).sort("id")
    fix = "name it in data.null_values" if text else "write null in its place"
    drop = "data.events.invalid_rows: drop leaves rows without an id out"
    return [f"{column}: {word!r}, in {n:,} rows, is an id: if it means none, {fix}; {drop}" for word, n in found.rows()]


_NONE = ["", "NULL", "Null", "null", "\\N", "None", "none", "N/A", "n/a", "NA", "NaN", "nan", "-", "undefined"]
