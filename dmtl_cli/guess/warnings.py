"""What is hardly so in a log that was understood: said aloud by `init` and by `check`."""

from __future__ import annotations

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
