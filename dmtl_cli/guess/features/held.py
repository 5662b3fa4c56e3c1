"""Which features of a table that is one state for all days a person has to decide on, as later days change them."""

from __future__ import annotations

from collections import Counter

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.features.inputs import Inputs
from dmtl_cli.guess.sides import states
from dmtl_cli.guess.sides.late import totals_of

_READ = 3  # of a duration's name: avg_dwell_sec
_TOTALS = 2
"""running totals of an object, at least, whose other whole numbers are such too where half of all are"""


def by_window(s: pl.Series) -> str | None:
    """Why a number counts what came in some days, by its name."""
    if s.dtype.is_numeric() and words.says(s.name, words.WINDOW):
        return f"named like what some days count: {states.LATE}"
    return None


def _object(c: str) -> str:
    """The object that a column is a field of; "" of others."""
    return c.rpartition(".")[0]


def hold_totals(
    frame: pl.DataFrame, key: str, found: Inputs, before: int, events: pl.DataFrame, roles: Roles, side: str
) -> None:
    """Holds back the features of a table that is one state for all days which later days change: those that follow the
    sample's counts, those with such names, and a user's lists of items."""
    used = found.used[before:]
    ids = events[getattr(roles, side).column]
    for c in totals_of(frame, key, [i.column for i in used], ids, states.clicks_of(events, roles)):
        found.hold(c, side, f"it follows the log's own counts: {states.LATE}")
    for i, why in [(i, why) for i in found.used[before:] if (why := by_window(frame[i.column])) is not None]:
        found.hold(i.column, side, why)
    for i in [i for i in found.used[before:] if i.kind == "numeric"]:
        read = words.by_name(i.column, words.DURATION) >= _READ  # by its readers, and no length of its own
        if words.says(i.column, words.TOTAL) and (read or not states.is_measure(i.column)):
            found.hold(i.column, side, f"named like what later days change: {states.LATE}")
    totals = {
        i.column: frame[i.column] for i in found.held if i.side == side and i.column in frame and "total" in i.why
    }
    for i, why in [(i, states.goes_with(frame[i.column], totals)) for i in found.used[before:]]:
        if why is not None:
            found.hold(i.column, side, why)
    whole = Counter(_object(c) for c, kind in frame.schema.items() if kind.is_integer())
    counted = Counter(_object(c) for c in totals)
    for i in [i for i in found.used[before:] if frame.schema[i.column].is_integer()]:
        of, code = _object(i.column), words.says(i.column, words.CODE) or words.is_named_id(i.column)
        measured = i.kind == "numeric" and states.is_measure(i.column)
        if of and counted[of] >= max(_TOTALS, whole[of] / 2) and not (code or measured):
            found.hold(i.column, side, f"beside running totals in one object: {states.LATE}")
    for i in [i for i in found.used[before:] if side == "user" and i.options.get("embedding_name") == ":item"]:
        found.hold(i.column, side, f"{i.why}; a list of the end of the log may have what came of its own exposures")
