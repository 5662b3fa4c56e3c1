"""Which items may be served, by the columns of their table that tell what was withdrawn: the condition that
`export.items` is then."""

from __future__ import annotations

import datetime as dt
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from dmtl_cli.config.expressions import reads_clock, sources_with_clock, timed_of
from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.ends import End, ended
from dmtl_cli.guess.columns.roles import Guess
from dmtl_cli.guess.columns.sql import comment, in_brackets, quoted, sql_name, sql_value, sql_values
from dmtl_cli.guess.columns.values import FEW, share
from dmtl_cli.guess.sides.side_tables import Side
from dmtl_cli.guess.sides.states import Shown, Withdrawn

_LEFT = 4  # values of which a comment tells how many items have them
_WAY = " (export.items: "
_WITHDRAWN, _ENDED, _UNBORN = "what was withdrawn", "what has ended", "what is not there yet"
"""by a state, which past days did not know; by times"""
_CHANCE = 0.05  # with which items of a few might not be shown
_HALF = 0.5
"""of what was shown last may be left out, before it says something else; and of the items have none in stock"""


@dataclass(frozen=True)
class Live:
    """A column that tells which items may be served."""

    column: str
    condition: str
    left: str
    """the values of the others, each with the share of the items that have it"""
    shown: float
    """the share that what may be served has of what was shown last"""
    holds: pl.Series = field(compare=False)
    """[items] for which it may be served"""
    tells: str = _WITHDRAWN
    """of the items that are left out"""

    @property
    def is_sure(self) -> bool:
        """Whether most of what was shown last may be served: else the column says something else."""
        return self.shown >= _HALF


@dataclass(frozen=True)
class Stock:
    """A column that counts how many are left of an item."""

    column: str
    none: float
    """the share of the items of which none is"""

    @property
    def condition(self) -> str:
        return f"{sql_name(self.column)} >= 1"


def live(s: pl.Series, gone: Withdrawn, shown: Shown | None) -> Live | None:
    """Which items a column of theirs leaves to be served; None where it is not certain, or it leaves none.

    Args:
        s: its values, one an item.
        shown: rows of the items before the last day and on it; None where these are not known.
    """
    if (condition := condition_of(gone)) is None:
        return None
    known = [v for v in gone.still if v is not None]
    holds = s.is_null() if None in gone.still else pl.Series([False]).new_from_index(0, len(s))
    for value in known:
        holds = holds | (s == value).fill_null(False)
    if not holds.any():
        return None
    last = 1.0
    if shown is not None and (rows := shown[1] if shown[1].sum() else shown[0]).sum():
        last = float(rows[holds.to_numpy()].sum() / rows.sum())
    return Live(s.name, condition, _values(s, ~holds), last, holds, _ENDED if gone.is_time else _WITHDRAWN)


def unborn(s: pl.Series, shown: Shown | None) -> Live | None:
    """Which items have no time of theirs since which they are there, and are shown by none of their rows where most
    others are: drafts. None where some are shown, or so few that none might be by chance.

    Args:
        s: the times, one an item; shown: as `live` takes it.
    """
    if shown is None:
        return None
    rows, lacks = pl.Series(shown[0] + shown[1]), s.is_null()
    never = share(rows.filter(~lacks) == 0)
    if rows.filter(lacks).sum() or never ** int(lacks.sum()) > _CHANCE or never >= _HALF:
        return None
    return Live(s.name, f"{sql_name(s.name)} IS NOT NULL", f"none: {part(share(lacks))}", 1.0, ~lacks, _UNBORN)


def not_ended(s: pl.Series, end: End, newest: dt.date) -> Live | None:
    """Which items have not ended by a further column that tells it, of each day as it was.

    Args:
        s: the times, one an item.
    """
    gone, column = ended(s, newest), sql_name(s.name)
    if gone is None:
        return None
    never = f" OR {column} <= 0" if s.dtype.is_numeric() else ""
    there = f"{column} {'>= CURRENT_DATE' if end.is_last_day else '> NOW()'}"
    return Live(s.name, f"({column} IS NULL{never} OR {there})", f"by then: {part(share(gone))}", 1.0, ~gone, _ENDED)


def condition_of(gone: Withdrawn) -> str | None:
    """The SQL condition of what was not withdrawn; None where it is not certain what that is."""
    column, known = sql_name(gone.column), [v for v in gone.still if v is not None]
    if gone.is_time and gone.still == (None,):
        return f"({column} IS NULL OR {column} > NOW())"
    if gone.yes and len(known) == 1 and isinstance(known[0], bool):
        there = f"{'' if known[0] else 'NOT '}{column} {sql_values(gone.yes)}"
    else:
        there = f"{column} {sql_values(known)}" if known else ""
    if None not in gone.still:
        return there or None
    return f"({there} OR {column} IS NULL)" if there else f"{column} IS NULL"


def told(gone: Withdrawn, side: str) -> str:
    """Why a column is no feature, and for items how what was withdrawn is left out of what is served."""
    condition = condition_of(gone) if side == "item" else None
    return gone.why if condition is None else f"{gone.why}{_WAY}{condition} leaves it out of what is served)"


def without_way(why: str) -> str:
    """The reason that `told` gives, where a person says what of the column is served."""
    return why.partition(_WAY)[0]


def _values(s: pl.Series, left: pl.Series) -> str:
    """The most frequent values of some items, each with the share that it has of all; of a time that it is there."""
    mine = s.filter(left)
    if mine.dtype.is_temporal() or mine.n_unique() > _LEFT:
        return f"a value: {part(len(mine) / len(s))}" if len(mine) else "none"
    counts = mine.value_counts(name=":n").sort(":n", s.name, descending=[True, False])
    each = [f"{'none' if v is None else sql_value(v)}: {part(n / len(s))}" for v, n in counts.iter_rows()]
    return ", ".join(each) or "none"


def part(x: float) -> str:
    """A share in percent, which is 0% and 100% of none and of all alone."""
    return f"{x:.0%}" if x in (0, 1) or 0.01 <= x <= 0.99 else f"{min(max(x, 1e-4), 0.9999):.2%}"


def stock_of(s: pl.Series) -> Stock | None:
    """What a column counts, where by its name that is how many of an item are left, and none of a few."""
    if not s.dtype.is_numeric() or not words.says_all(s.name, languages.STOCK):
        return None
    none = share(s <= 0)
    return Stock(s.name, none) if 0 < none < _HALF else None


@dataclass
class Served:
    """What a log tells of the items that may be served."""

    columns: list[Live] = field(default_factory=list)
    stock: Stock | None = None
    listed: float = 1.0
    """the share of the sample's items that their table has: no other is served by a condition"""
    of_the_end: bool = False
    """whether the table is one state for all days, by which past days are measured with what was withdrawn since"""
    asked: str | None = None
    """a condition that a person gives beside those of other columns"""
    holds: pl.Series | None = None
    """[items] whether that one does"""
    until: str | None = None
    ended: pl.Series | None = None
    """[items] those that have ended by the newest day, as the column `until` of the table tells: no morning serves
    them, and each day is measured with what was there then"""
    seen_days: int | None = None
    """as a person says: `export.seen_days`"""
    whose: str = "table"
    """where items are told of: the table, or the sample of the events"""

    def add_times(self, side: Side, frame: pl.DataFrame, newest: dt.date | None, shown: Shown | None) -> None:
        """Looks at the times since and until which items are there, of a row each.

        Args:
            newest: day by which they have ended.
            shown: as `live` takes it.
        """
        if side.version is not None and side.version.is_birth:
            born = unborn(frame[side.version.column], shown)
            self.columns += [born] if born else []
        if newest is not None and side.until is not None:
            self.until, self.ended = side.until.column, ended(frame[side.until.column], newest)
            further = [not_ended(frame[end.column], end, newest) for end in side.further]
            self.columns += [one for one in further if one is not None]

    def add(self, s: pl.Series, gone: Withdrawn | None, shown: Shown | None) -> None:
        """Looks at a column of the table, as `live` takes it; of `gone` see `states.withdrawn`."""
        if gone is not None and (found := live(s, gone, shown)) is not None:
            self.columns.append(found)
        self.stock = self.stock or stock_of(s)

    @property
    def names(self) -> list[str]:
        """The columns that conditions name, written or as comments."""
        asked = sources_with_clock(self.asked) if self.asked else []
        return [one.column for one in self.columns] + ([self.stock.column] if self.stock else []) + asked

    @property
    def _sure(self) -> list[Live]:
        """Those that are written: none where most of the log's items are not in the table, or all that one leaves out
        has ended. Of states also none of which times, or a person's condition of them, leave out all that it does, and
        not a few items alone, of which that may be chance."""
        sure = [one for one in self._guessed if one.is_sure] if self.listed >= _HALF else []
        times = [one for one in sure if one.tells in (_ENDED, _UNBORN)]
        gone = [~one.holds for one in times] + [s for s in (self.ended,) if s is not None]
        gone += [~self.holds] if self.holds is not None and self.holds.any() and self._names_ends else []
        sure = [one for one in sure if not self._has_ended(one.holds)]
        return [one for one in sure if one in times or (~one.holds).sum() < FEW or not _is_covered(one.holds, gone)]

    def _has_ended(self, holds: pl.Series) -> bool:
        """Whether all items that a condition leaves out have ended."""
        return self.ended is not None and _is_covered(holds, [self.ended])

    @property
    def _guessed(self) -> list[Live]:
        """Those of columns of which a person says nothing."""
        told = sources_with_clock(self.asked) if self.asked else []
        return [one for one in self.columns if one.column not in told]

    @property
    def is_said_by_until(self) -> bool:
        """Whether a person's condition is of `until` alone, which says the same of each day as it was."""
        return self.asked is not None and sources_with_clock(self.asked) == [self.until] and self._leaves_what_ended

    @property
    def _leaves_what_ended(self) -> bool:
        """Whether a person's condition leaves something out, and all of that has ended."""
        return self.holds is not None and not self.holds.all() and self._has_ended(self.holds)

    @property
    def is_timed(self) -> bool:
        """Whether the condition asks the clock."""
        return self._asks_clock or any(one.tells == _ENDED for one in self._sure)

    @property
    def _asks_clock(self) -> bool:
        """Whether a person's condition says of each day what was there then."""
        return self.asked is not None and reads_clock(self.asked)

    @property
    def _names_ends(self) -> bool:
        """Whether a person's condition says by the clock when items end: by a column that tells it."""
        ends = {self.until, *(one.column for one in self.columns if one.tells == _ENDED)}
        return self.asked is not None and self._asks_clock and bool(ends & {*timed_of(self.asked)})

    @property
    def warning(self) -> str | None:
        """That a person's condition is needed for nothing, and past days are measured worse with it."""
        if self.is_said_by_until or self._asks_clock or not self._leaves_what_ended:
            return None
        why = f"all that it leaves out has ended ({self.until}) and is not served anyway"
        return f"--export-items: {why}: with it past days are measured without what ended later: leave it out"

    @property
    def condition(self) -> Guess | None:
        """The condition that is written, and what it serves; None where there is none, or guesses leave no item."""
        holds, asked = (None, None) if self.is_said_by_until else (self.holds, self.asked)
        every = [one.holds for one in self._sure] + ([] if holds is None else [holds])
        if not every:
            return None
        both = pl.DataFrame([one.alias(str(k)) for k, one in enumerate(every)])
        kept = share(both.select(pl.all_horizontal(pl.all())).to_series())
        why = "; ".join(filter(None, (f"{part(kept)} of the {self.whose}'s items are served", self._lacks)))
        asked_too = [in_brackets(asked)] if asked else []
        return Guess(" AND ".join([one.condition for one in self._sure] + asked_too), why) if kept or asked else None

    @property
    def _lacks(self) -> str:
        return f"{part(1 - self.listed)} of the sample's items are not in the table" * (self.listed < 1)

    @property
    def lines(self) -> list[str]:
        """The section `export` of a config, as comments what it may be beside that, and how it is measured."""
        lines, found = list[str](), self.condition
        if found is not None:
            tells = [_told(self._sure, what) for what in dict.fromkeys(one.tells for one in self._sure)]
            tells += ["as --export-items says"] if self.asked and not self.is_said_by_until else []
            serves = f"{', '.join(tells)}: {found.why.partition('; ')[0]}"
            states = [one for one in self._sure if one.tells == _WITHDRAWN]
            of_the_end = self.of_the_end and (states or (self.asked is not None and not self._asks_clock))
            other = f"or items: all{', as to measure past days' if of_the_end else ''}"
            why = "; ".join(filter(None, (serves, f"{self._lacks}, nor served" * bool(self._lacks), other)))
            lines.append(f"  items: {quoted(found.column)}  # {comment(why)}")
        if self.seen_days is not None:
            seen = "as --seen-days says: exclude_seen leaves out what a user clicked in so many days"
            seen = f"{seen}; seen: conversion: of that what was a good click"
            lines.append(f"  seen_days: {self.seen_days}  # {seen}")
        lines = ["export:", *lines] if lines else []
        if self.is_said_by_until and self.asked:
            said = f"as --export-items says, and until: {self.until} of each day as it was"
            lines.append(f"  # items: {quoted(self.asked)}  # {comment(said)}" if lines else _comment(self.asked, said))
        if self.listed < _HALF and (sure := [one for one in self._guessed if one.is_sure]):
            condition = " AND ".join(one.condition for one in sure)
            lacks = f"not written: {self._lacks}, and would not be served"
            lines.append(_comment(condition, lacks))
        if self.stock is not None and not (self.asked and self.stock.column in sources_with_clock(self.asked)):
            left = f"of {part(self.stock.none)} none is left ({self.stock.column}), which some sell on order"
            both = f"{found.column} AND {self.stock.condition}" if found else self.stock.condition
            lines.append(f"  # items: {quoted(both)}  # {comment(left)}" if lines else _comment(both, left))
        for one in [one for one in self._guessed if not one.is_sure]:
            seen = f"{part(1 - one.shown)} of what was shown last would be left out ({one.column}: {one.left})"
            lines.append(_comment(one.condition, f"not written: {seen}"))
        if self.seen_days is not None:
            lines += ["evaluate:", "  exclude_seen: true  # so that what is measured is what exclude_seen answers"]
        return lines


def _is_covered(holds: pl.Series, gone: Sequence[pl.Series]) -> bool:
    """Whether all items for which a condition does not hold are [items] among some that are gone anyway."""
    same = [s for s in gone if len(s) == len(holds)]
    return bool(same) and bool(functools.reduce(operator.or_, same, holds).all())


def _told(of: Sequence[Live], what: str) -> str:
    mine = [f"{one.column} ({one.left})" for one in of if one.tells == what]
    return f"{', '.join(mine)} tell{'s' if len(mine) == 1 else ''} {what}"


def _comment(condition: str, why: str) -> str:
    """A section that a person may write."""
    return f"# export: {{items: {quoted(condition)}}}  # {comment(why)}"
