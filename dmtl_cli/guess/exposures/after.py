"""Columns of events that are known only after the exposure: by their names, as they lie in a label's struct, because
they tell the click by themselves, or as lengths of time that were measured in each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from dmtl_cli.config.expressions import sources_of
from dmtl_cli.data.log.values.types import booleans
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import object_of
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import quoted, sql_column, sql_values
from dmtl_cli.guess.columns.values import (
    FEW,
    LEAK,
    auc_of,
    clicks,
    is_binary,
    is_constant,
    is_there,
    is_time_or_null,
    is_unclicked_empty,
    says_yes_or_no,
    share,
    span,
    time_unit,
)

_SURE = 3  # of the name of a click
_BEFORE = ["user"], ["item"], ["request"], ["user", "item"], ["item", "day"]
"""of which a column with one value each was known before"""
_HARDLY, _NONE = 0.05, 0.01
"""of the rate of clicks of the rows with a flag those without it have at most: where a name says in view, and else"""
_OFTEN = 0.7  # of the rows with a flag are clicks at most: more often it is the click itself
_SEEN = 0.15  # of the rows without a click have a flag that says seen at least: fewer, and the click sets it


def outcomes(frame: pl.DataFrame, roles: Roles) -> None:
    """Columns that are known only after the exposure: by their names, as they lie in a label's struct, or because they
    tell the click by themselves; where every row is a click, the label. Rows of nobody tell nothing: a click that names
    its user is of none of them."""
    frame = frame.drop_nulls([g.column for g in (roles.user, roles.item) if g and g.column in frame.columns])
    clicked, label, structs = *_told(frame, roles), _structs(roles)
    made = {"conversion": roles.made_by, "click": roles.clicked_by}
    ids = _ids(frame, roles)
    sources = {role: sources_of(text) for role, text in made.items() if text}
    for c in frame.columns:
        if c in {g.column for g in roles.named.values()} or c in roles.after or c == roles.place:
            continue
        is_label = is_binary(frame[c]) and words.says_all(c, words.LABEL)
        if is_label and (words.says(c, words.LEARNED) or not roles.owns(frame, c)):  # of items mostly liked it has one
            roles.outcomes.append(Guess(c, "0/1, named like a label"))
            continue
        after = clicked is not None and not frame[c].dtype.is_nested() and is_unclicked_empty(frame[c], clicked)
        is_told = (
            after or _is_a_click(frame[c], label) or words.is_measured(c) or any(c in of for of in sources.values())
        )
        if roles.owns(frame, c) or (words.is_history(c) and not is_told):
            continue
        beside = [struct for struct in structs if c.startswith(f"{struct}.")]
        why = f"in {beside[0]}, as a label is" if beside else _step(frame[c], clicked, label, ids, roles)
        why = why or _why_after(c, frame[c], clicked, label) or measured(frame[c], ids)
        why = next((f"the {role} is made of it" for role, named in sources.items() if c in named), why)
        if why:
            roles.outcomes.append(Guess(c, why))


def _structs(roles: Roles) -> list[str]:
    """Structs of labels, which have what came of an exposure; not one that has who saw what, or when, too."""
    labels = [roles.click, roles.duration, roles.conversion, *roles.further.values()]
    found = {object_of(g.column) for g in labels if g} - {""}
    return sorted(x for x in found if not any(c.startswith(f"{x}.") for c in roles.before))


def _told(frame: pl.DataFrame, roles: Roles) -> tuple[pl.Series | None, str]:
    """Which rows are clicks, else which have the label, and what that is called."""
    if (clicked := roles.clicked(frame)) is not None:
        return clicked, "click"
    if roles.conversion is not None and roles.conversion.column in frame.columns:
        return clicks(frame[roles.conversion.column]), roles.conversion.column
    if roles.duration is not None:
        return is_there(frame[roles.duration.column]), roles.duration.column
    return None, ""


def _why_after(c: str, s: pl.Series, clicked: pl.Series | None, label: str) -> str | None:
    if words.is_known_after(c) and not s.dtype.is_nested():
        return "named like what follows an exposure"
    if _is_a_click(s, label):
        return "named like a click"
    if clicked is None:
        return None
    if is_unclicked_empty(s, clicked):
        return f"0 or empty wherever there was no {label}"
    found = auc_of(s, clicked)
    told = "clicks" if label == "click" else label
    return f"alone it tells {told} with an AUC of {found:.2f}" if found is not None and found > LEAK else None


def _is_a_click(s: pl.Series, label: str) -> bool:
    """Whether a flag beside the click, which another column tells, has nothing but the name of one."""
    return label == "click" and is_binary(s) and words.by_name(s.name, words.CLICK) >= _SURE


def measured(s: pl.Series, of: Mapping[str, pl.Series]) -> str | None:
    """Why a number of the events is a length of time, or a share in view, that was measured in each row; None where its
    name says no such thing, or where it has one value a user, an item, both of them, an item and day, or a request: it
    was known as the row came then.

    Args:
        of: [n] `user`, `item`, `request` and `day` of each row, as far as they are known.
    """
    if not s.dtype.is_numeric() or s.n_unique() <= FEW or span(s)[0] < 0:
        return None
    if not words.is_measured(s.name) or time_unit(s) is not None or is_of_ids(s, of, *_BEFORE):
        return None
    return "its name says a length of time, or a share in view, that is measured once an item is shown"


def is_of_ids(s: pl.Series, of: Mapping[str, pl.Series], *keys: list[str]) -> bool:
    """Whether a column has one value for each of some ids, as those of an item and day.

    Args:
        of: [n] `user`, `item`, `request` and `day` of each row, as far as they are known.
    """
    for ids in keys:
        if of.keys() >= {*ids}:
            key = pl.DataFrame({name: of[name] for name in ids}).hash_rows()
            if is_constant(pl.DataFrame({"of": key, "x": s}), "of", "x"):
                return True
    return False


# -- flags without which nothing is clicked ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Needed:
    """A flag without which there is no click, or next to none, where by chance there would be many."""

    condition: str
    """is true of the rows with the flag, in SQL"""
    none: str
    """what the others have"""
    rows: pl.Series
    """[n] which rows are with it"""
    clicks: int
    """of the others"""

    @property
    def why(self) -> str:
        few = f"{self.clicks:,} of them clicked" if self.clicks else "none of them clicked"
        return f"{1 - share(self.rows):.0%} of rows have {self.none}, {few}"


def needed(s: pl.Series, clicked: pl.Series, yes: Sequence[str] = ()) -> Needed | None:
    """Whether a column of 0 and 1, of yes and no, or of times that many rows lack is such a flag. Rows in which nothing
    stands are with it where others have 0 and these are clicked.

    Args:
        yes: texts that the log has where these are true; none: they are no texts there.
    """
    if (told := _flag(s, yes)) is None:
        return None
    on, condition, none = told
    off = ~on.fill_null(True)
    most = _HARDLY if words.is_of_sight(s.name) else _NONE

    def is_unclicked(rows: pl.Series) -> bool:
        return share(clicked.filter(rows)) <= most * share(clicked.filter(on.fill_null(False)))

    if share(clicked.filter(on.is_not_null())) * int(off.sum()) < FEW or not is_unclicked(off):
        return None
    if share(clicked.filter(on.fill_null(False))) > _OFTEN:
        return None
    if words.is_of_sight(s.name) and share(on.filter(~clicked.cast(pl.Boolean))) < _SEEN:
        return None
    if on.null_count() and not is_unclicked(on.is_null()):
        on, condition = on.fill_null(True), f"({condition} OR {sql_column(s.name)} IS NULL)"
    rows = on.fill_null(False)
    return Needed(condition, none, rows, int(clicked.filter(~rows).sum()))


def _flag(s: pl.Series, yes: Sequence[str]) -> tuple[pl.Series, str, str] | None:
    """Where a flag is set (null: nothing stands there), the condition of these rows, and what others have."""
    name, known = sql_column(s.name), s.drop_nulls()
    if is_binary(s):
        on, condition = s.cast(pl.Int8) == 1, name if s.dtype == pl.Boolean else f"{name} = 1"
        condition = f"{name} {sql_values(yes)}" if yes else condition
        if on.all():
            return on.fill_null(False), condition, "nothing"
        return on, condition, "false" if s.dtype == pl.Boolean else "0"
    if s.dtype == pl.String and known.n_unique() > 1 and says_yes_or_no(known):
        on = booleans(s)
        return on, f"{name} {sql_values(sorted(s.filter(on.fill_null(False)).unique()))}", "another text"
    if is_time_or_null(s) and words.is_of_sight(s.name):
        return s.is_not_null(), f"{name} IS NOT NULL", "nothing"
    return None


def _step(s: pl.Series, clicked: pl.Series | None, label: str, of: Mapping[str, pl.Series], roles: Roles) -> str | None:
    """Why a flag is a step between an exposure and its click; None of what was known as the row came."""
    if clicked is None or label != "click" or (found := needed(s, clicked)) is None or is_of_ids(s, of, *_BEFORE):
        return None
    few = f"hardly a row without it is clicked ({found.clicks:,})" if found.clicks else "no row without it is clicked"
    if roles.seen is not None:
        return few
    return f"{few}: if it says that the card was seen, write where: {quoted(found.condition)} in place of this line"


def _ids(frame: pl.DataFrame, roles: Roles) -> dict[str, pl.Series]:
    """As `measured` takes them."""
    ids = {role: frame[g.column] for role in ("user", "item", "request") if (g := getattr(roles, role)) is not None}
    days = roles.days(frame, "UTC")
    return ids if days is None else ids | {"day": days}
