"""What a person says beside columns: which rows of the events count, which items may be served, and within how long of
what was shown a good click comes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from dmtl_cli.config.days import before
from dmtl_cli.config.errors import Exit, UserError, did_you_mean
from dmtl_cli.config.expressions import (
    as_of,
    reads_clock,
    sources_of,
    sources_with_clock,
    timed_of,
    with_clock,
    with_quotes,
)
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.guess.columns.objects import shortened
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import in_brackets
from dmtl_cli.guess.columns.values import FEW, mean
from dmtl_cli.guess.features.inputs import Inputs
from dmtl_cli.guess.findings.left_out import LeftOut, left_out
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.outcomes.waits import DAY, Length
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.sides.beside import as_read, columns_named, named_beside, no_flags, told_by, with_presence
from dmtl_cli.guess.sides.served import without_way
from dmtl_cli.guess.sides.side_tables import Side

_LEFT = "what --where leaves out"
_MOSTLY = 0.5  # of what has ended has values that nothing else has
_STATES = 8  # values of a state, of what is there and of what has ended
_AS_SAID = "as --outcomes says"
_SUCH = "such as \"plan <> 'staff'\""
_IN_QUOTES = "now and today are the moment: a column of such a name stands in double quotes"
WHERE, ITEMS, WITHIN, OUTCOMES = "--where", "--export-items", "--within", "--outcomes"


@dataclass(frozen=True)
class Rules:
    """What a person gives; None: nothing."""

    where: str | None = None
    """SQL condition of the events' rows that count: `data.events.where`"""
    items: str | None = None
    """SQL condition of the items that may be served: `export.items`"""
    outcomes: tuple[str, ...] = ()
    """columns that no feature may read: of the events `data.events.outcomes`"""
    seen_days: int | None = None
    """days whose clicks are left out for who clicked: `export.seen_days`"""
    by_time: bool = False
    """whether a row is of the day of its time, where folders are days of arrival: `data.events.date_column`"""
    within: Length | None = None
    """how long after what was shown a row of its user and item is of it: `data.events.joined.TABLE.within`"""
    click_within: Length | None = None
    """the same of what tells a click, where it is another"""
    lives: str | None = None
    """the zone of the users, by which days are cut"""

    @staticmethod
    def of(
        where: str | None,
        items: str | None,
        within: str | None,
        outcomes: str | None = None,
        *,
        by_time: bool = False,
        seen_days: int | None = None,
        lives: str | None = None,
    ) -> Rules:
        """Rules as a person types them, before a log is read. Raises UserError 2 where one is none."""
        items = None if items is None else with_clock(items)
        where, items = (None if text is None else with_quotes(text) for text in (where, items))
        try:
            later = tuple(dict.fromkeys(name for name in map(str.strip, (outcomes or "").split(",")) if name))
            lengths = [] if within is None else [Length.of(text.strip()) for text in within.split(",", 1)]
        except ValueError as e:
            hint = "such as 30m, 24h or 2d, or 30m,24h of clicks and of all else"
            raise UserError(f"{WITHIN}: {e}", hint, Exit.USAGE) from None
        length, of_clicks = lengths[-1] if lengths else None, lengths[0] if len(lengths) > 1 else None
        rules = Rules(where, items, later, seen_days, by_time, length, of_clicks, lives)
        for option, text in ((WHERE, rules.where), (ITEMS, rules.items)):
            if text is None:
                continue
            if not columns_named(option, text, _SUCH, sources_with_clock if option == ITEMS else sources_of):
                hint = _IN_QUOTES if option == ITEMS and reads_clock(text) else _SUCH
                raise UserError(f"{option}: {text} names no column", hint, Exit.USAGE)
        return rules

    def beside(self, events: Table, sides: Mapping[str, Side]) -> Rules:
        """The same, as the config has them: see `named_beside`."""
        where = None if self.where is None else named_beside(self.where, events, sides)
        of_items = sides["items"].table if "items" in sides else events
        return replace(self, where=where, items=self.items and as_read(self.items, {"": of_items}))

    def whole(self, tables: Sequence[Table]) -> Rules:
        """The same, with the whole names of columns within objects among `outcomes`, and `with_presence`."""
        short = shortened({c for table in tables for c in table.frame.columns})
        where, items = (text and with_presence(text, tables) for text in (self.where, self.items))
        return replace(self, where=where, items=items, outcomes=tuple(short.get(c, c) for c in self.outcomes))

    def outcomes_of(self, events: Table, roles: Roles) -> list[Guess]:
        """The events' columns among `outcomes` which are none yet. Raises UserError 2: one has another role."""
        mine = [c for c in self.outcomes if c in events.frame.columns and c not in {g.column for g in roles.outcomes}]
        if role := next((f"{c} is the {name}" for name, g in roles.named.items() for c in mine if c == g.column), None):
            raise UserError(f"{OUTCOMES}: {role}", "which is known, or an outcome already", Exit.USAGE)
        return [Guess(c, _AS_SAID) for c in mine]

    def leave_out(self, events: Table, inputs: Inputs, later: Sequence[Outcomes], others: Sequence[Table]) -> None:
        """Takes those among `outcomes` of side tables out of the features; those of `later`, and of tables that are not
        used, are none. Raises UserError 2: no table has one."""
        tables = [events.frame, *(table.frame for table in others), *(one.rows for one in later)]
        known = [*events.other, *(c for frame in tables for c in frame.columns)]
        if absent := [c for c in self.outcomes if c not in known]:
            what = f"{OUTCOMES}: no table has a column {absent[0]}{did_you_mean(absent[0], known)}"
            raise UserError(what, f"it is one of {', '.join(dict.fromkeys(known))}", Exit.USAGE)
        inputs.leave_out(self.outcomes, _AS_SAID)
        inputs.said = [c for c in self.outcomes if c not in events.frame.columns]

    def refuse_late(self, roles: Roles, later: Sequence[Outcomes]) -> None:
        """Raises UserError 2 where `where` names what is known only after an item is shown. Of a log without clicks a
        column of its own may say what one is."""
        late = {c for one in later for c in one.columns}
        if roles.click is not None:
            known = (roles.click, roles.duration, roles.conversion, *roles.outcomes)
            late |= {g.column for g in known if g is not None}
        if one := next((c for c in sources_of(self.where or "TRUE") if c in late), None):
            what = f"{WHERE}: {one} is known only after the item is shown: a morning cannot tell such rows from others"
            hint = "--click and --conversion say what came of what was shown"
            if one in {g.column for g in roles.outcomes}:  # a guess, which may be wrong
                hint += "; was it known before? leave the option out, take it from outcomes and write where by hand"
            raise UserError(what, hint, Exit.USAGE)

    def refuse_within(self, later: Sequence[Outcomes]) -> None:
        """Raises UserError 2 where `within` is said of no table: of what has no time it says in how many later days'
        files it may lie."""
        long = self.within is not None and self.within.hours >= DAY
        if self.within is None or any(one.wait or (one.reaches and long) for one in later):
            return
        what = f"{WITHIN}: no table was found whose rows come of what was shown, and have a time of the same clock"
        first = "give --timezone where the times of one name no zone"
        if self.lives is not None:
            first = "see what init takes for what was shown without it: another table or list is named by its --item"
        raise UserError(what, f"{first}, else leave it out", Exit.USAGE)


NONE = Rules()


def rows_that_count(condition: str, events: Table, roles: Roles, sides: Mapping[str, Side]) -> tuple[LeftOut, Table]:
    """The rows for which a condition does not hold, and how many these are, and the events without them.

    Args:
        condition: whose columns are there, in the events or in the tables beside them.

    Raises:
        UserError: 2 it is no condition.
    """
    holds = _holds(WHERE, condition, events, roles, sides)
    if holds is None:
        return LeftOut(in_brackets(condition), _LEFT, sources_of(condition)[0], is_typed=True), events
    gone, unknown = mean(~holds.fill_null(False)), mean(holds.is_null())
    why = f"; {unknown:.1%} have no value there, and are left out too: OR ... IS NULL keeps them" if unknown else ""
    what = f"{_LEFT} ({gone:.1%} of rows{why})"
    return LeftOut(in_brackets(condition), what, sources_of(condition)[0], is_typed=True), events.where(holds)


def items_to_serve(condition: str, table: Table, newest: dt.date | None, *, is_of_items: bool) -> pl.Series:
    """[items] whether a condition holds.

    Args:
        table: of items, a row of each; of a log without one, the events so.
        newest: the day at whose end it is.

    Raises:
        UserError: 2 it is no condition, or the table lacks a column.
    """
    named = sources_with_clock(condition)
    if absent := [c for c in named if c not in table.frame.columns]:
        names = table.frame.columns
        lacks = "" if is_of_items else "no table of items was found, and "
        what = f"{ITEMS}: {lacks}{table.path} has no column {absent[0]}{did_you_mean(absent[0], names)}"
        raise UserError(what, f"it has {', '.join(names)}", Exit.USAGE)
    if reads_clock(condition):
        checked = Checked(table.frame, table.path, 0)
        try:
            times = [checked.on_clock(c, "UTC") for c in timed_of(condition)]
        except UserError as e:
            raise UserError(f"{ITEMS}: {e.message}", e.hint, Exit.USAGE) from None
        table = replace(table, frame=table.frame.with_columns(times))
        condition = as_of(condition, dt.datetime.combine(before(newest or dt.date.today(), -1), dt.time()))
    holds = _holds(ITEMS, condition, table, Roles(), {})
    assert holds is not None
    return holds.fill_null(False)


def _newest_rows(table: Table, key: str) -> pl.DataFrame:
    """The first row of each id, which is the newest."""
    return table.frame.unique(key, keep="first", maintain_order=True)


def _holds(option: str, condition: str, table: Table, roles: Roles, sides: Mapping[str, Side]) -> pl.Series | None:
    """[n] bool, null where a row does not tell it; None as of `made_of`."""
    holds = told_by(option, condition, table, roles, sides)
    if holds is not None and holds.dtype != pl.Boolean:
        raise no_flags(option, condition, holds, _SUCH)
    return holds


def ruled(
    rules: Rules, events: Table, roles: Roles, inputs: Inputs, newest: dt.date | None
) -> tuple[list[LeftOut], Table]:
    """The rows that are left out, of what is guessed and of what a person says, and the events without the latter; the
    inputs then know too which items may be served as the newest day is over."""
    inputs.served.seen_days = rules.seen_days
    if rules.items:
        _ask(rules.items, events, roles, inputs, newest)
    _without_ended(inputs)
    if rules.where is None:
        return left_out(events, roles, inputs), events
    mine, events = rows_that_count(rules.where, events, roles, inputs.sides)
    _without_constants(events, roles, inputs)
    return [*left_out(events, roles, inputs, mine.condition), mine], events


def _ask(condition: str, events: Table, roles: Roles, inputs: Inputs, newest: dt.date | None) -> None:
    """Tells the inputs which items a person's condition serves. Raises as `items_to_serve`."""
    inputs.served.asked, named = condition, sources_with_clock(condition)
    inputs.unused = [replace(g, why=without_way(g.why)) if g.column in named else g for g in inputs.unused]
    if (side := inputs.sides.get("items")) is not None:
        table, key = side.table, side.key.column
    elif roles.item is not None:
        key, inputs.served.whose = roles.item.column, "sample"
        table = _newest_of(events, roles, key)
    else:
        return
    table = replace(table, frame=_newest_rows(table, key))
    inputs.served.holds = items_to_serve(condition, table, newest, is_of_items=side is not None)
    served = table.frame.filter(inputs.served.holds)
    single = [c for c in named if served[c].n_unique() == 1]
    inputs.leave_out(single, "one value of all items that are served", side="item")


def _without_ended(inputs: Inputs) -> None:
    """Leaves out columns of the items' table that tell most of those that have ended from all others, by values that
    no other has, as a state does: no earlier day knew them."""
    side, ended = inputs.sides.get("items"), inputs.served.ended
    if side is None or ended is None or not ended.any():
        return
    rows = _newest_rows(side.table, side.key.column)
    there, gone = rows.filter(~ended), rows.filter(ended)
    flat = [c for c, kind in rows.schema.items() if not kind.is_nested()] if len(there) >= FEW else []
    of_the_end = [c for c in flat if _tells_ended(there[c], gone[c])]
    why = f"most items that have ended have a value of their own ({inputs.served.until})"
    inputs.leave_out(of_the_end, why, side="item")


def _tells_ended(there: pl.Series, gone: pl.Series) -> bool:
    """Whether most of what has ended has values that nothing else has: few ones, which are no names."""
    if there.n_unique() > _STATES:
        return False
    own = gone.filter(~gone.is_in(there.unique().implode(), nulls_equal=True))
    return len(own) > _MOSTLY * len(gone) and own.n_unique() <= _STATES


def _without_constants(events: Table, roles: Roles, inputs: Inputs) -> None:
    """Leaves out what tells nothing apart once rows do not count: of `typ = 'regular'` the column itself."""
    tables = {f"{name.removesuffix('s')}.{c}" for name, of in inputs.sides.items() for c in of.table.frame.columns}
    own = [i for i in inputs.used if f"{i.side}.{i.column}" not in tables and i.column in events.frame]
    single = _single(events.frame.select([*{i.column for i in own}]))
    for i in [i for i in own if i.column in single]:
        inputs.leave_out([i.column], "one value of all rows that count", side=i.side)
    side, user = inputs.sides.get("users"), roles.user
    if side is None or user is None:
        return
    ids = events.frame[user.column].drop_nulls().cast(pl.String).unique()
    mine = side.table.frame.filter(pl.col(side.key.column).cast(pl.String).is_in(ids.implode()))
    inputs.leave_out(_single(mine), "one value of all users whose rows count", side="user")


def _single(rows: pl.DataFrame) -> list[str]:
    """The columns that have one value, or none, in all rows."""
    return [s.name for s in rows if len(s) and s.n_unique() == 1]


def _newest_of(events: Table, roles: Roles, key: str) -> Table:
    """The events with the newest row of each item alone. Items are in the order of their first rows, as the guesses of
    what was withdrawn have them."""
    if (at := roles.instants(events.frame)) is None:
        return events
    newest = events.frame[at.arg_sort(descending=True, nulls_last=True)].unique(key, keep="first", maintain_order=True)
    items = events.frame[key].unique(maintain_order=True).to_frame()
    latest = items.join(newest, on=key, how="left", maintain_order="left", nulls_equal=True)
    return replace(events, frame=latest[events.frame.columns])
