"""The roles of an event table's columns, each with its reason and what else it could be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.values import (
    clicks,
    instants,
    is_constant,
    local_days,
    mean,
    numbers,
    percent,
    share,
    span,
)


@dataclass(frozen=True)
class Guess:
    """A column of a role."""

    column: str
    why: str
    others: tuple[str, ...] = ()
    """columns that fit the role too, the best first"""
    is_left_over: bool = False
    """whether nothing tells it but that no other id is left: a table beside the events knows better"""


@dataclass
class Roles:
    """The roles of an event table's columns; None: no column looks like it."""

    user: Guess | None = None
    item: Guess | None = None
    time: Guess | None = None
    time_unit: str | None = None
    """see `values.time_unit`"""
    click: Guess | None = None
    clicked_by: str | None = None
    """the SQL expression that makes the click, which is no column of the log then"""
    place: str | None = None
    """the column of an item's place in a list of what was shown, which is known with it, though it tells the click"""
    grades: tuple[tuple[str, float], ...] = ()
    """(SQL expression, share of clicks) of what may be a good click, where a column has the grades of a label"""
    flags: list[Guess] = field(default_factory=list)
    """columns of 0 and 1 that may be the click where none is named like one, the likeliest first"""
    after: set[str] = field(default_factory=set)
    """those of `flags` that say which rows have a duration: none is known before the exposure"""
    duration: Guess | None = None
    unit: str = "s"
    long_read: float | None = None
    """of a rating in place of a duration: above it a row is a good one"""
    conversion: Guess | None = None
    made_by: str | None = None
    """the SQL expression that makes the conversion, which is no column of the log then"""
    further: dict[str, Guess] = field(default_factory=dict)
    """conversions beside the one that is learned, by name"""
    request: Guess | None = None
    outcomes: list[Guess] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)
    """those of `outcomes` that say whether a table of what came of exposures has a row"""
    behaviour: Guess | None = None
    """says what each row is: one row a behaviour, which is no exposure with its outcomes"""
    seen: Guess | None = None
    """says of which rows the card was in view: the others are left out"""
    where: str | None = None
    """the SQL condition of these rows"""
    lives: str | None = None
    """the time zone of the users, where a person says it"""

    @property
    def named(self) -> dict[str, Guess]:
        """Those that a column was found for."""
        every = ("user", "item", "time", "click", "duration", "conversion", "request", "behaviour", "seen")
        return {role: guess for role in every if (guess := getattr(self, role)) is not None}

    @property
    def made(self) -> dict[str, str]:
        """The SQL expressions that make the click and the conversion, by the columns that they make."""
        labels = (self.click, self.clicked_by), (self.conversion, self.made_by)
        return {g.column: text for g, text in labels if g is not None and text}

    def clicked(self, frame: pl.DataFrame) -> pl.Series | None:
        """Which rows are clicks; None where no column tells."""
        return None if self.click is None else clicks(frame[self.click.column])

    def durations(self, frame: pl.DataFrame) -> pl.Series | None:
        """The known durations of clicks; None where no column has any."""
        return None if self.duration is None else self.of_clicks(frame, self.duration.column)

    def of_clicks(self, frame: pl.DataFrame, column: str) -> pl.Series:
        """The known numbers of a column in rows that are clicks."""
        x, clicked = numbers(frame[column]), self.clicked(frame)
        return (x if clicked is None else x.filter(clicked)).drop_nulls()

    def owns(self, frame: pl.DataFrame, c: str) -> bool:
        """Whether a column belongs to the user or the item: see `values.is_constant`."""
        return any(key is not None and is_constant(frame, key.column, c) for key in (self.user, self.item))

    def instants(self, frame: pl.DataFrame) -> pl.Series | None:
        """The instant of each row; None where no column has a clock."""
        return None if self.time is None else instants(frame[self.time.column], self.time_unit or "")

    def days(self, frame: pl.DataFrame, zone: str) -> pl.Series | None:
        """The day of each row, null where it has none; None where no column tells it."""
        if self.time is None or self.time_unit is None or self.time.column not in frame.columns:
            return None
        return local_days(frame[self.time.column], self.time_unit, zone)

    @property
    def perhaps_clicks(self) -> str:
        """`flags` in words."""
        return ", ".join(f"{g.column} ({g.why})" for g in self.flags)

    @property
    def ids(self) -> set[str]:
        """Columns of the user and the item."""
        return {g.column for g in (self.user, self.item) if g is not None}

    @property
    def before(self) -> set[str]:
        """Columns that are there for every row, whatever comes of it."""
        return self.ids | {g.column for g in (self.time, self.request) if g is not None}

    @property
    def taken(self) -> set[str]:
        return {g.column for g in (*self.named.values(), *self.further.values(), *self.outcomes)}

    @property
    def known_later(self) -> set[str]:
        """Those of them that no feature of the events may read, but for the click."""
        labels = (g for g in (self.duration, self.conversion) if g is not None)
        return {g.column for g in (*labels, *self.further.values(), *self.outcomes)}


def best(
    frame: pl.DataFrame,
    columns: Iterable[str],
    patterns: words.Patterns,
    what: str,
    evidence: Callable[[pl.Series], str] | None = None,
) -> Guess | None:
    """The column whose name fits best, with its reason; of equal ones the first that has not far
    fewer values."""
    scores = {c: score for c in columns if (score := words.by_name(c, patterns))}
    if not scores:
        return None
    many = {c: frame[c].n_unique() for c in scores}
    far_fewer = {c: many[c] < max(n for x, n in many.items() if scores[x] == scores[c]) / 10 for c in scores}
    ranked = sorted(scores, key=lambda c: (-scores[c], far_fewer[c], frame.columns.index(c)))
    ranked = [c for c in ranked if scores[c] >= scores[ranked[0]] - 1]
    seen = (evidence or count_of)(frame[ranked[0]])
    return Guess(ranked[0], f"{seen}, named like {what}", tuple(ranked[1:]))


def count_of(s: pl.Series) -> str:
    kind = "integers" if s.dtype.is_integer() else "texts"
    return f"{s.drop_nulls().n_unique():,} {kind}"


def share_of(s: pl.Series) -> str:
    """Of 0 and 1, or (`click` as a time) of what is there and what is not."""
    shown, none = percent(share(clicks(s))), s.null_count() / max(1, len(s))
    if not (s.dtype.is_numeric() or s.dtype == pl.Boolean) or span(s)[1] > 1:
        return f"a time in {shown} of rows, empty in the others"
    known = "1 or empty" if none and span(s)[0] == 1 else "0/1"
    return f"{known}, {shown} ones" + (f", {none:.0%} empty" if none and known == "0/1" else "")


def mean_of(s: pl.Series) -> str:
    return f"{mean(s):,.1f} on average"
