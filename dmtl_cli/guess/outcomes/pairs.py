"""Tables of what came of exposures whose rows do not name them: they name a row of another such table, as orders name a
click, or a user and an item of the day, as files of `views`, `clicks` and `orders` do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from dmtl_cli.data.log.files.joined import BASKET
from dmtl_cli.data.log.formats.lake import LAKES
from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.remembered import remembered
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import sql_column
from dmtl_cli.guess.columns.values import FEW, Kinds, free, is_id, share, within
from dmtl_cli.guess.exposures.references import MET, THERE, Exposures, exposures_of, is_chance, is_own, reference
from dmtl_cli.guess.outcomes.aggregates import is_state
from dmtl_cli.guess.outcomes.tables import (
    ALL,
    Others,
    Outcomes,
    ids_of,
    named_after,
    of_pairs,
    of_reference,
    of_rows,
    pair_of,
    rows_or_elements,
    with_keys,
    with_rows,
)
from dmtl_cli.guess.outcomes.waits import DAY, Wait, zone_between
from dmtl_cli.guess.reading.tables import Table

_MET = 0.3  # of the rows of a user and item have one that was shown, in a sample that may lack it
_ID = ":exposure"
_BEHIND = 0.75  # of the rows of what was shown on their day come at most a day after it
_ID_OF_KIND, _FOLLOW = 0.95, 0.3  # of a kind's rows have an id; of those without are of a pair that others name
_LACK, _AS_OFTEN = 0.1, 0.5
"""of a table's rows lack an id; as often as others these are of what was shown to their user"""
_EACH, _ALL_BUT_FEW = 10, 0.8  # rows of a basket, at most; of the rows have such an id
_SOME_MET = 0.2  # of the ids of a column with the events' name are in a sample of them
_CHANCE = 0.5  # as many at most, were the items those of other rows
_SURE_MET, _SURE_CHANCE = 0.05, 0.4  # the same of a shop's orders, most of which nothing that was shown led to
_MOST = 0.01  # of the times of what was shown, at each end, may be of a wrong clock


def pairs_of_day(rows: pl.DataFrame, user: str, item: str, roles: Roles) -> pl.Series:
    """The user and item of each row that has both, and its day, where its time tells one."""
    days = roles.days(rows, "UTC")
    pairs = ids_of(rows, pair_of(user, item))
    return (pairs if days is None else pairs + "/" + days.cast(pl.String)).drop_nulls()


def were_shown(told: pl.Series, shown: pl.Series, mixed: pl.Series | None = None) -> bool:
    """Whether pairs of what followed are mostly among those of what was shown; or some of them are, and few of `mixed`,
    with the items of others."""
    met = _met(told, shown)
    if mixed is not None and _met(mixed, shown) <= _SURE_CHANCE * met:
        return met >= _SURE_MET and met * len(told) >= FEW
    return len(told) >= FEW and met >= _MET


def outcomes_through(events: Table, others: Others, roles: Roles, found: Sequence[Outcomes]) -> list[Outcomes]:
    """The tables whose rows name, by an id of its own, a row of one that was found: an order the click.

    Args:
        found: tables that name exposures by an id, or by a list and an item.
    """
    if roles.user is None or roles.item is None or not found:
        return []
    ways = [one for one in found if one.wait is None and not one.once and one.through is None]
    exposures = exposures_of(with_keys(events.frame, ways), roles.user.column, roles.item.column)
    out: list[Outcomes] = []
    left = [(table, mine) for table, mine in others if not table.has_no_path]
    while ways:  # an order names the basket that names the click
        last, ways = ways, []
        for table, mine in left:
            if (one := _named(last, table, mine, events, exposures, (*found, *out))) is not None:
                ways.append(one)
                out.append(one)
        left = [of for of in left if not any(of[0] is one.table for one in ways)]
    taken = {*events.frame.columns, *(c for one in found for c in one.columns)}
    return with_rows([*out, *_lines(exposures, others, roles.item.column, out, taken)], roles, taken, found)


def _named(
    ways: Sequence[Outcomes], table: Table, mine: Roles, events: Table, exposures: Exposures, found: Sequence[Outcomes]
) -> Outcomes | None:
    """A table whose rows name those of one of some ways to an exposure, with what it says of these; None where they do
    not.

    Args:
        mine: the roles of its own columns.
        found: whose names and columns are taken.
    """
    taken = {*events.frame.columns, *(c for one in found for c in one.columns)}
    name = free(named_after(table), {one.name for one in found})
    for one, c, key in ((way, *ids) for way in ways for ids in _ways(way, table, exposures)):
        rows = of_exposures(table, key, one, c)
        met = reference(exposures, rows)
        chance = met is not None and not met[2] and is_chance(one.rows[c], table.frame[key])
        if met is None or met[:2] != (one.event_key, key) or chance:
            continue
        user = mine.user.column if mine.user else None
        if (made := of_reference(exposures, replace(table, frame=rows), user, taken, name)) is not None:
            if not is_own(one.rows[c]):  # a basket's sums are those of several exposures
                sums = {x for x, text in made.columns.items() if text.startswith("SUM(")}
                columns = {x: text for x, text in made.columns.items() if x not in sums}
                made = replace(made, columns=columns, left=(*made.left, *sorted(sums)))
            why = f"{made.why} of the row of {one.name} that its {key} names"
            return replace(made, table=table, mapped=rows, through=f"{one.name}.{c}", why=why)
    return None


def _lines(
    events: Exposures, others: Others, item: str, out: Sequence[Outcomes], taken: set[str]
) -> Iterator[Outcomes]:
    """Tables whose rows name, by an id of its own, a row of a table of baskets, and an item: of an order the lines,
    each of the exposures of its item alone.

    Args:
        out: tables of what came of exposures through another.
        taken: columns of the events and of other tables.
    """
    left = [table for table, _ in others if not any(table is one.table for one in out) and not table.has_no_path]
    for one, table in ((one, table) for one in out for table in left):
        items = _names(table.frame, events.frame[item], words.ITEM)
        mine = [c for c in one.table.frame.columns if c != one.key and is_own(one.table.frame[c])]
        keys = [c for c in _ids_of_several(table.frame) if c not in items and words.is_named_id(c)] if items else []
        for c, key in ((c, key) for key in keys for c in mine):
            if within(table.frame[key], one.table.frame[c]) < MET:
                continue
            rows = of_exposures(table, key, one, c)
            shown = events.frame.select(pl.col(one.event_key).alias(key), pl.col(item).alias(items[0]))
            rows = rows.join(shown.drop_nulls().unique(), on=[key, items[0]], how="semi", maintain_order="left")
            names = {*taken, *(c for each in out for c in each.columns)}
            name = free(named_after(table), {each.name for each in out})
            if (made := of_reference(events, replace(table, frame=rows), None, names, name)) is None:
                continue
            why = f"{made.why} of the row of {one.name} that its {key} names, and its {items[0]}"
            through = f"{one.name}.{c}"
            yield replace(made, table=table, mapped=rows, through=through, item=(item, items[0]), why=why)
            return


def of_exposures(table: Table, key: str, one: Outcomes, column: str) -> pl.DataFrame:
    """The rows of a table with the exposure's id in place of that of the row of another table that they name; one that
    names several is there for each."""
    named = pl.DataFrame([one.rows[column].alias(key), one.ids(one.rows).alias(_ID)]).drop_nulls().unique()
    named = named.filter(pl.len().over(key) <= BASKET)
    rows = table.frame.join(named, on=key, how="left", maintain_order="left")
    return rows.drop(key).rename({_ID: key}).select(table.frame.columns)


def _ways(one: Outcomes, table: Table, events: Exposures) -> Iterator[tuple[str, str]]:
    """(column of the ids of its rows, column of another table that has half of its ids, at least, among them); or of
    ids that some of its rows share, as a basket's, of which the other table has one row each: no session's, and none
    that the events have, as a user or an item.
    """

    def shows(c: str) -> bool:
        alike = (x for x, *_ in events.roles if events.frame.schema[x] == one.rows.schema[c])
        return c in events.frame.columns or any(within(one.rows[c], events.frame[x]) >= MET for x in alike)

    ids = [c for c in one.rows.columns if c != one.key and is_id(one.rows[c])]
    own = [c for c in ids if is_own(one.rows[c])]
    shared = [c for c in ids if c not in own and not words.says(c, languages.SESSION) and not shows(c)]
    shared = [c for c in shared if _of_few(one.rows[c].drop_nulls())]
    for key in (key for key in table.frame.columns if ids and is_id(table.frame[key])):
        if one.key == key or not words.is_named_id(key):
            continue
        for c in (*own, *(shared if is_own(table.frame[key]) else ())):
            alike = one.rows.schema[c] == table.frame.schema[key]
            if alike and within(table.frame[key], one.rows[c]) >= MET:
                yield c, key


def _of_few(ids: pl.Series) -> bool:
    """Whether nearly each row has an id that few others have."""
    counts = ids.value_counts(name=":n")[":n"]
    return int(counts.filter(counts <= _EACH).sum()) >= _ALL_BUT_FEW * len(ids)


def outcomes_by_day(
    events: Table, others: Others, roles: Roles, later: Sequence[Outcomes] = (), asked: Collection[str] = ()
) -> list[Outcomes]:
    """The tables whose rows, or the elements of whose lists, are of a user and an item that was shown to them on that
    day, far more often than by chance. Where no column tells the click a row of one of them is, and of a user and item
    one exposure a day is read.

    Args:
        later: tables that were found by an id, or by lists.
        asked: names in what a person says of clicks; of a table that is called so chance is not asked, as where users
            are few and each sees much of what there is.
    """
    if roles.user is None or roles.item is None or roles.time is None:
        return []
    every = {*events.frame.columns, *(c for one in later for c in (*one.columns, one.event_key))}
    beside = {c for table, _ in others for c in table.frame.columns}
    found: list[Outcomes] = []
    for other, mine in others:
        if other.has_no_path or other.files.form in LAKES or mine.time is None:
            continue
        for table in rows_or_elements(other):
            taken = {*every, *beside, *(c for one in found for c in one.columns)}
            is_asked = named_after(other) in asked
            if (met := _by_day(table, mine, events, roles, taken, is_asked=is_asked)) is not None:
                one, is_of_day = met
                once = roles.click is None and not later
                wait = None if once else wait_of(one, table, mine, events, roles)
                if wait is None and not is_of_day:  # nor does a time tell what was shown before its rows
                    continue
                found.append(replace(waiting(one, wait, other, mine), once=once))
                break
    rest = [of for of in others if not any(of[0].files is one.table.files for one in (*later, *found))]
    taken = {*every, *beside, *(c for one in found for c in one.columns)}
    return with_rows([*found, *_of_orders(events, rest, roles, taken)], roles, every, later)


class _Orders(NamedTuple):
    """Two tables: one names a user and has an id of its own, and rows of the other name that id and an item."""

    orders: Table
    roles: Roles
    """of the orders, which have a time"""
    own: str
    """their column of ids"""
    user: str
    """theirs of users"""
    lines: Table
    key: str
    """the lines' column of orders"""
    item: str
    """theirs of items"""


def _orders_among(events: Table, others: Others, roles: Roles) -> Iterator[_Orders]:
    """Every two tables that are orders and their lines, as far as their rows say it."""
    assert roles.user is not None and roles.item is not None
    user, item = events.frame[roles.user.column], events.frame[roles.item.column]
    tables = [(table, mine) for table, mine in others if not table.has_no_path]
    for orders, mine in tables:
        users = _names(orders.frame, user, words.USER) if mine.time else []
        own = [c for c in orders.frame.columns if users and is_own(orders.frame[c])]
        for lines, c, key in (
            (t, c, key) for t, _ in tables if t is not orders for c in own for key in t.frame.columns
        ):
            of, ids = lines.frame[key], orders.frame[c]
            items = [i for i in _names(lines.frame, item, words.ITEM) if i != key]
            if is_id(of) and items and within(of, ids) >= MET and within(ids, of) >= THERE:
                yield _Orders(orders, mine, c, users[0], lines, key, items[0])


def _of_orders(events: Table, others: Others, roles: Roles, taken: set[str]) -> list[Outcomes]:
    """Orders and their lines, which are of what was shown of their item to the user of their order on its day.

    Args:
        taken: columns of the events and of other tables.
    """
    assert roles.user is not None and roles.item is not None
    user, item = roles.user.column, roles.item.column
    for one in _orders_among(events, others, roles):
        orders, lines, key = one.orders, one.lines, one.key
        assert one.roles.time is not None
        of_order = dict.fromkeys((one.user, one.roles.time.column))  # once, where one column is both
        head = orders.frame.select(pl.col(one.own).alias(key), *of_order).unique(key)
        rows = lines.frame.drop({*head.columns} - {key}, strict=False)
        whole = replace(lines, frame=rows.join(head, on=key, how="left", maintain_order="left"))
        if (met := _by_day(whole, one.roles, events, roles, taken, is_asked=False)) is None:
            continue
        rows = whole.frame.select(*rows.columns, one.user).drop_nulls([one.user, one.item]).drop(key)
        made = of_pairs(lines, rows, (user, item), (one.user, one.item), met[0].rate, {*taken, *orders.frame.columns})
        names = {*taken, *made.columns, made.name}
        first = waiting(_whose(orders, one.own, user, one.user, names), None, orders, one.roles)
        why = f"{made.why}, of the row of {first.name} that its {key} names"
        through, mapped = f"{first.name}.{one.own}", rows.rename({one.user: key})
        of_orders = replace(made, key=key, event_key=user, computed=None, through=through, why=why)
        return [first, replace(of_orders, item=(item, one.item), mapped=mapped)]
    return []


def _whose(orders: Table, own: str, user: str, named: str, taken: set[str]) -> Outcomes:
    """A table of orders by their user alone, for their lines to go through, with what it says of those of a day.

    Args:
        own: its column of ids that the lines name.
        user, named: the column of the user, of the events and of the table.
    """
    day = orders.on(orders.day).drop_nulls(named)
    names = {*taken, *orders.frame.columns}
    columns, left, states = of_rows(day.drop(named, own), day[named], names, orders.written.clocks, plain=False)
    sums = [c for c, text in columns.items() if text.startswith("SUM(")]  # are those of all that was shown
    columns = {c: text for c, text in columns.items() if c not in sums}
    columns = columns or {free(f"its_{own}", names): f"MAX({sql_column(own)})"}
    why = f"whose {own} the lines have"
    name = free(named_after(orders), names)
    return Outcomes(name, orders, named, user, columns, tuple(left), why, states=states, of_user=True)


def rather_by_pair(
    events: Table, others: Others, roles: Roles, found: Sequence[Outcomes], beside: Sequence[Outcomes] = ()
) -> list[Outcomes]:
    """What was found, but a table whose rows name exposures by an id that many of them lack by the user and the item of
    what was shown before them, where those without an id mostly are of what was shown to their user: a booking at the
    desk names no card, what began at a bookshelf or in a search was no exposure's. Where only kinds of rows have an id,
    as an installation has and a session after it has not, the others are read by user and item beside them.

    Args:
        beside: other tables that were found, with the click perhaps.
    """
    out = list[Outcomes]()
    for k, one in enumerate(found):
        mine = next((mine for table, mine in others if table is one.table), None)
        lack = share(one.table.frame[one.key].is_null()) if one.computed is None else 0.0
        if lack < _LACK or mine is None or mine.time is None or roles.time is None:
            out.append(one)
            continue
        rest = [*beside, *out, *found[k + 1 :]]
        taken = {*events.frame.columns, *(c for each in rest for c in (*each.columns, each.event_key))}
        pair = _of_pair(one.table, events, roles, taken)
        wait = None if pair is None else wait_of(pair, one.table, mine, events, roles, behind=0.0)
        if pair is None or wait is None or not _meet_too(pair, wait, one, events):
            out += _by_kinds(one, events, roles, mine, taken | {*one.columns}, {each.name for each in rest})
            continue
        made = waiting(pair, wait, one.table, mine)
        why = f"{made.why}; {lack:.0%} of its rows have no {one.key}"
        out += with_rows([replace(made, name=one.name, why=why)], roles, taken, rest)
    return out


def _by_kinds(
    one: Outcomes, events: Table, roles: Roles, mine: Roles, taken: set[str], names: set[str]
) -> list[Outcomes]:
    """A table, and its kinds of rows that have no id by user and item, where these are of pairs that others name.

    Args:
        taken: names of columns.
        names: of other tables.
    """
    kinds = None if one.table.kinds is not None else _kinds_without(one.table.frame, one.key)
    if kinds is None:
        return [one]
    named, rest = (replace(one.table, kinds=replace(kinds, among=among)) for among in (False, True))
    named, rest = (table.only(table.asked) for table in (named, rest))
    pair = _of_pair(rest, events, roles, taken)
    wait = None if pair is None else wait_of(pair, rest, mine, events, roles, behind=0.0)
    if pair is None or wait is None or pair.computed is None:
        return [one]
    of, met = (ids_of(rows, pair.computed[1]) for rows in (named.frame, pair.table.frame))
    if share(met.is_in(of.drop_nulls().unique().implode())) < _FOLLOW:
        return [one]
    why = f"{', '.join(kinds.values)} of the same files, which have no {one.key}, {pair.why}"
    made = replace(waiting(replace(pair, why=why), wait, rest, mine), name=free(f"{one.name}_later", names))
    return [replace(one, table=named), made]


def _kinds_without(frame: pl.DataFrame, key: str) -> Kinds | None:
    """The kinds of rows of which none has an id that nearly all rows of the others have; None where no column is so."""
    for c in (c for c in frame.columns if c != key and is_state(frame[c])):
        each = frame.drop_nulls(c).group_by(c).agg(pl.col(key).is_not_null().mean().alias(":there")).sort(c)
        none = each.filter(pl.col(":there") <= 1 - _ID_OF_KIND)[c].to_list()
        some = each.filter(pl.col(":there") >= _ID_OF_KIND)
        if none and len(some) and len(none) + len(some) == len(each):
            return Kinds(c, tuple(none), among=True)
    return None


def waiting(one: Outcomes, wait: Wait | None, table: Table, mine: Roles) -> Outcomes:
    """A table by user and item, with how its rows wait, and the column of their days where its files have none."""
    assert mine.time is not None
    dated = None if table.files.days or table.files.partition else mine.time.column
    if wait is None:
        return replace(one, dated=dated)
    left = tuple(c for c in one.left if c != wait.came[0])
    return replace(one, dated=dated, wait=wait, left=left, why=f"{one.why}, {wait.said}")


def _of_pair(table: Table, events: Table, roles: Roles, taken: set[str]) -> Outcomes | None:
    """A table that is known to be of exposures, by its user and item."""
    assert roles.user is not None and roles.item is not None
    user, item = roles.user.column, roles.item.column
    found = [
        [c] if c in table.frame.columns and within(table.frame[c], events.frame[c]) >= _SOME_MET
        else _names(table.frame, events.frame[c], names)
        for c, names in ((user, words.USER), (item, words.ITEM))
    ]  # fmt: skip
    named = [(u, i) for u in found[0] for i in found[1] if u != i]
    if not named:
        return None
    rows = table.frame.drop_nulls([*named[0]])
    ids = [ids_of(f, pair_of(*of)) for f, of in ((events.frame, (user, item)), (rows, named[0]))]
    return of_pairs(table, rows, (user, item), named[0], _met(*ids), taken)


def _meet_too(pair: Outcomes, wait: Wait, one: Outcomes, events: Table) -> bool:
    """Whether the rows that name no exposure are of one of their pair nearly as often as those that name one."""
    assert pair.computed is not None
    frames = (events.frame, pair.table.frame.with_row_index(":row"))
    shown, came = (f.with_columns(pl.sql_expr(t).alias(_ID)) for f, t in zip(frames, pair.computed, strict=True))
    met = pl.int_range(len(came), eager=True).is_in(wait.pairs(shown, came, _ID)[":row"].implode())
    lacks = one.table.frame[one.key].is_null()
    return share(met.filter(lacks)) >= _AS_OFTEN * share(met.filter(~lacks))


def _by_day(
    table: Table, mine: Roles, events: Table, roles: Roles, taken: set[str], *, is_asked: bool
) -> tuple[Outcomes, bool] | None:
    """A table's outcomes by user and item, and whether most of its rows are of what was shown on their day."""
    assert roles.user is not None and roles.item is not None
    user, item = roles.user.column, roles.item.column
    users = _names(table.frame, events.frame[user], words.USER)
    items = _names(table.frame, events.frame[item], words.ITEM)
    named = next(((u, i) for u in users for i in items if u != i), None)
    if named is None:
        return None
    day = _shared_day(table, events)
    frame = events.on(day)
    rows = _while(table.on(day), mine, frame, roles)
    shown, told, mixed = (
        pairs_of_day(frame, user, item, roles),
        *(pairs_of_day(of, *named, mine) for of in (rows, _mixed(rows, named[1]))),
    )
    # what came of what was shown is less, and more than it is something else, as lists of what was shown are
    smaller = len(rows) < len(frame) and not table.explode
    is_of_day = were_shown(told, shown, mixed if smaller else None)
    if not (is_of_day or table.files.days):  # a stay may be booked a day or two later
        shown = ids_of(events.frame, pair_of(user, item)).drop_nulls()
        both = (table.frame, _mixed(table.frame, named[1]))
        told, mixed = (ids_of(of, pair_of(*named)).drop_nulls() for of in both)
    rate, met = _met(shown, told), _met(told, shown)
    by_chance = 0.0 if is_asked else _met(mixed, shown)
    if not were_shown(told, shown, mixed if smaller else None) or met <= rate or by_chance > _CHANCE * met:
        return None
    one = of_pairs(table, table.frame.drop_nulls([*named]), (user, item), named, rate, taken)
    if rate > ALL and not any(words.by_name(c, words.CLICK + words.DURATION) for c in one.columns):
        return None  # what is there for every exposure may be known before it
    return one, is_of_day


def wait_of(
    one: Outcomes, table: Table, mine: Roles, events: Table, roles: Roles, behind: float = _BEHIND
) -> Wait | None:
    """How long rows of a user and an item are of what was shown before them; None where times do not tell it, as of
    those of a shop's clock beside those of a phone, or rows come before what was shown.

    Args:
        behind: share of the rows of what was shown on their day that are to come after it.
    """
    assert one.computed is not None
    day = _shared_day(table, events)
    frame, rows = events.on(day), table.on(day)
    if any(_instants(of, each) is None for of, each in ((frame, roles), (rows, mine))):
        return None
    assert roles.time is not None and mine.time is not None
    at, since = (roles.time.column, str(roles.time_unit)), (mine.time.column, str(mine.time_unit))
    zone = zone_between((frame[at[0]], at[1]), (rows[since[0]], since[1]), roles.lives)
    if zone is None:  # those without a zone may be of another one
        return None
    wait = Wait(at, since, DAY, zone=zone)
    shown, came = (
        of.with_columns(pl.sql_expr(text).alias(_ID)) for of, text in zip((frame, rows), one.computed, strict=True)
    )
    came = _while(came, mine, shown, roles).with_row_index(":row")
    met = came.filter(came[_ID].is_in(shown[_ID].unique().implode()))
    after = wait.pairs(shown, met, _ID)[":row"].n_unique()
    return wait if len(met) >= FEW and after >= behind * len(met) else None


def _names(frame: pl.DataFrame, ids: pl.Series, names: words.Patterns) -> list[str]:
    """The columns that may name users, or items, the one named so first."""
    fits = [c for c in _ids_of_several(frame) if within(frame[c], ids) >= MET]
    return sorted(fits, key=lambda c: (c != ids.name, -words.by_name(c, names)))


@remembered
def _ids_of_several(frame: pl.DataFrame) -> Sequence[str]:
    """Columns of ids that are not of a row each; any part of the rows may have one, as few lines of a till have a
    coupon."""
    known = {c: frame[c].drop_nulls() for c in frame.columns}
    return [c for c, s in known.items() if len(s) >= FEW and is_id(s) and not is_own(s)]


def _shared_day(table: Table, events: Table) -> dt.date | None:
    """The newest day of which both samples have rows, else that of which most of the events' are."""
    mine, theirs = ({day for day, _, rows in of.pieces if rows} for of in (table, events))
    return max(mine & theirs, default=events.day)


def _while(rows: pl.DataFrame, mine: Roles, shown: pl.DataFrame, roles: Roles) -> pl.DataFrame:
    """The rows of the time in which a sample of what was shown lies, which may end before theirs."""
    at, of = (_instants(frame, of) for frame, of in ((rows, mine), (shown, roles)))
    if at is None or of is None:
        return rows
    return rows.filter(at.is_between(of.quantile(_MOST), of.quantile(1 - _MOST)))


def _instants(frame: pl.DataFrame, roles: Roles) -> pl.Series | None:
    """The instant of each row; None where times have no clock."""
    at = roles.instants(frame)
    return None if at is None else at.dt.convert_time_zone("UTC").dt.cast_time_unit("us")


def _mixed(rows: pl.DataFrame, item: str) -> pl.DataFrame:
    """The rows with the items of others."""
    return rows.with_columns(rows[item].gather(np.random.default_rng(0).permutation(len(rows))))


def _met(told: pl.Series, shown: pl.Series) -> float:
    return share(told.is_in(shown.unique().implode()))
