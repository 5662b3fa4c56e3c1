"""Users who are hardly people: programs that fetch what is shown, or click it and never like it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.sql import quoted, sql_column, sql_value
from dmtl_cli.guess.exposures.doubts import USERS, both
from dmtl_cli.guess.features.same_day import read_seconds

Ints = npt.NDArray[np.int64]
_MANY, _MOST, _TIMES_MOST = 60, 0.95, 3.0  # rows of a program, at least; of most users, and as many times theirs
_EXPECTED, _HARDLY = 10.0, 0.1  # clicks by the rate of all rows, and what part of them it has
_SOME_ROWS, _GOOD = 30, 3.0  # rows of one without a good click, and good ones that it would have as others do
_HALF, _FAR = 0.4, 2.5  # of its rows are clicks, which is so many times the rate of all
_MORE, _SURELY_GOOD = 1.5, 9.0  # times the rate of all; and good clicks that nobody who does so misses by chance
_SURELY_LIKED = 30.0  # good clicks that nobody misses who sees far more and clicks as others do
_BY_CHANCE = 2  # times as many of the others as by chance have no good click
_NAMED = 20
LOOKED_AT = 5_000_000
"""rows of days that a training looks through for them: of more it would take time that nobody asked for"""


def programs_told(config: Config, days: Sequence[Day]) -> list[str]:
    """A line of the programs among the users of some days together, as what one day hides several show."""
    parts = []
    for day in days:
        there = pl.Series(day.user_events > 0)
        clicks, good = _clicks_of_users(config, day)
        counts = {"id": day.users[ID], "rows": day.user_events, "clicks": clicks, "good": good}
        parts.append(pl.DataFrame(counts).filter(there))
    sums = pl.concat(parts).group_by("id", maintain_order=True).sum()
    events = config.data.events
    return programs_line(events.user, *sums.get_columns(), where=events.where)


def _clicks_of_users(config: Config, day: Day) -> tuple[Ints, Ints]:
    """[users] how many rows of each are clicks, and how many are good ones."""
    clicks, good = (np.zeros(len(day.users), np.int64) for _ in range(2))
    seconds = read_seconds(config, day)
    for block in day.blocks():
        z, known = block.labels(seconds)
        clicks += np.bincount(block.user[block.click], minlength=len(clicks))
        good += np.bincount(block.user[block.click & known & (z > 0)], minlength=len(good))
    return clicks, good


def programs(ids: pl.Series, rows: pl.Series, clicks: pl.Series, good: pl.Series) -> pl.Series:
    """Of distinct users those that are hardly people: they see far more than nearly all others, and click next to
    nothing of it, or half of it where others do not; or they click so, or very often and more than others or of far
    more rows, and no click is a good one, where hardly anybody else's are none. None where users are few.

    Args:
        rows, clicks, good: of each, how many; of a log that says of no click whether it is good, none.
    """
    n, c = rows.to_numpy().astype(np.float64), clicks.to_numpy().astype(np.float64)
    if len(ids) < USERS or not c.sum():
        return ids.head(0)
    rate = c.sum() / n.sum()
    never = (n * rate >= _EXPECTED) & (c <= _HARDLY * rate * n)
    always = (c >= _HALF * n) & (_FAR * rate <= _HALF)
    many = n >= max(_MANY, _TIMES_MOST * float(np.quantile(n, _MOST)))
    z = good.to_numpy().astype(np.float64)
    expected = c * z.sum() / c.sum()
    found = (many & (never | always)) | (always & (n >= _SOME_ROWS) & (expected >= _GOOD) & (z == 0))
    keen = c >= _MORE * rate * n
    often = ((keen & (expected >= _SURELY_GOOD)) | (many & (expected >= _SURELY_LIKED))) & (z == 0)
    others = ~(keen | many) & (expected >= _GOOD)  # where many of these have none either, people do not
    if (z[others] == 0).sum() <= _BY_CHANCE * (1 + np.exp(-expected[others]).sum()):
        found |= often
    return ids.filter(pl.Series(found))


def programs_line(
    user: str, ids: pl.Series, rows: pl.Series, clicks: pl.Series, good: pl.Series, *, where: str | None
) -> list[str]:
    """A line of `programs`, with what leaves their rows out where the config asks for `where` already."""
    found = programs(ids, rows, clicks, good)
    if not len(found):
        return []
    mine = ids.is_in(found.implode()).to_numpy()
    of_rows, of_clicks = (float(n.to_numpy()[mine].sum() / n.to_numpy().sum()) for n in (rows, clicks))
    named = [sql_value(v) for v in found.sort().head(_NAMED)]
    more = f", the first {_NAMED} of them" if len(found) > _NAMED else ""
    many = words.count(len(found), "id")
    seen = f"{user}: {many}, with {of_rows:.1%} of rows and {of_clicks:.1%} of clicks, look like programs: far"
    seen += " more rows or clicks than others, and next to no click or hardly a good one. If they are,"
    condition = f"{sql_column(user)} NOT IN ({', '.join(named)})"
    whole = both(where, condition)
    is_added = where is not None and whole.startswith(where)  # a long one is not said again
    how = f"add AND {condition} to" if is_added else f"set {quoted(whole)} as"
    return [f"{seen} {how} data.events.where{more}"]
