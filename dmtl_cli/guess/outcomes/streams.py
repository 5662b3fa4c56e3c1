"""A table of events of several kinds, a row each, in which what follows names by an id what was shown: as a table of
what was shown, and one of what came of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.values import FEW, Kinds, free, is_id, share, time_unit, within
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.outcomes.followers import (
    NAME,
    THERE,
    Followers,
    first_kind,
    is_own_of,
    keys_of,
    named_kinds,
    ways,
    with_made,
    without_followers,
)
from dmtl_cli.guess.outcomes.keys import by_tables, roles_beside
from dmtl_cli.guess.outcomes.pairs import of_exposures, pairs_of_day, wait_of, waiting, were_shown
from dmtl_cli.guess.outcomes.shown import as_events, by_elements
from dmtl_cli.guess.outcomes.tables import Outcomes, as_written, ids_of, pair_of, requests_of
from dmtl_cli.guess.reading.exploding import elements, parallel
from dmtl_cli.guess.reading.rewrites import Behaviours, is_click, is_seen, rank_of, values_of, with_click
from dmtl_cli.guess.reading.tables import Table

_FEW = 0.02  # of the rows of what follows may be of kinds that tell nothing
_FILLED = 0.9  # of the rows of a kind have a list


def parted(table: Table, others: Sequence[Table], given: Mapping[str, str]) -> tuple[Table, list[Outcomes]] | None:
    """The rows of what was shown, without columns that only others have, and the others by the id that they name, else
    by user and item; None where the rows are of one kind, or are not of what was shown.

    Args:
        others: tables beside it, of which some may tell the user or the item.
    """
    mine = {role: c for role, c in given.items() if c in table.frame.columns}
    is_listed = isinstance(table.frame.schema.get(mine.get("item", "")), pl.List)
    of_lists = {"item": mine.pop("item")} if is_listed else {}
    beside = [other for other in others if other is not table]
    roles = roles_beside(table, beside, mine)
    if (user := roles.user) is None:
        return None
    if roles.item is None and roles.behaviour is not None:
        roles = replace(
            roles, item=_of_shown(table, values_of(table.frame, roles.behaviour.column, roles), beside, mine)
        )
    groups = parallel(table.frame) if roles.item is None or roles.item.is_left_over else []
    if roles.behaviour is None or (roles.item is None and not groups):
        return _by_list(table, None, roles)
    if groups and _all_have(table.frame, roles.behaviour.column, groups[0][1]):
        return None
    values = values_of(table.frame, roles.behaviour.column, roles)
    if values is None:
        return _by_list(table, None, roles)
    values = without_followers(table.frame, values, roles) if roles.item else values
    values = values if values.click else with_click(table.frame, values, roles)
    kinds = Kinds(values.column, values.exposure, True)
    rest = replace(kinds, among=False)
    shown, follow = kinds.of(table.frame), rest.of(table.frame)
    later = [c for c in follow.columns if shown[c].null_count() == len(shown) and follow[c].null_count() < len(follow)]
    mine_alone = replace(table, kinds=kinds, only_of_others=(*later, values.column), of_files=(*table.frame.columns,))
    events = mine_alone.only(mine_alone.asked)
    of_lists["user"] = user.column
    lists = events if table.explode else as_events(events, beside, of_lists)
    item = roles.item if (same := lists.explode == table.explode) else roles_beside(lists, beside, of_lists).item
    whole = same and roles.item is not None
    of = Followers(replace(table, frame=follow, kinds=rest), values, roles, later)
    named = _by_id(events, shown, of) or _by_requests(events, of) if whole else []
    if not same and item is not None and (found := _by_elements(lists, item.column, of)):
        events, named, of = lists, [found[1]], replace(of, roles=replace(roles, item=found[0]))
    named += _beside(table, events, item.column, named, of) if named and item else []
    lost = {*values.better}.difference(*map(_kinds_in, named))
    if named and int(follow[values.column].is_in(lost).sum()) <= _FEW * len(follow):
        return events, named
    if item is not None and (pairs := _by_pairs(lists, item.column, of)):
        return lists, pairs
    return (events, named) if named else _by_list(table, values, roles)


def _of_shown(
    table: Table, values: Behaviours | None, beside: Sequence[Table], mine: Mapping[str, str]
) -> Guess | None:
    """The item that rows of what was shown have and other kinds lack, of which a table beside them tells; a list of
    theirs is then of what was seen before."""
    if values is None:
        return None
    rows = Kinds(values.column, values.exposure, True).of(table.frame)
    return by_tables(replace(table, frame=rows), beside, roles_of(rows, mine)).get("item")


def _all_have(frame: pl.DataFrame, kind: str, lists: Sequence[str]) -> bool:
    """Whether rows of each kind have elements in one of these lists, as shelves of several names have: what is done
    with what was shown has none."""
    some = pl.any_horizontal(pl.col(c).list.len() > 0 for c in lists).fill_null(False)
    each = frame.drop_nulls(kind).group_by(kind).agg(some.mean().alias(":some"))
    return bool(len(each)) and float(each[":some"].min()) >= _FILLED  # type: ignore[arg-type]


def _by_id(events: Table, shown: pl.DataFrame, of: Followers) -> list[Outcomes]:
    """What came of exposures that rows of clicks and of what is better name by an id, or rows of clicks alone; and what
    came of these, where rows name the click.

    Args:
        shown: rows of what was shown, with all columns of the files.
    """
    follow, kind = of.table.frame, of.values.column
    for kinds, least in ways(of.values):
        if (keys := keys_of(shown, follow.filter(pl.col(kind).is_in(kinds)), of.roles, least)) is None:
            continue
        key, event_key = keys
        of = replace(of, values=first_kind(of.values, follow[key], follow[kind]))
        mine = follow.filter(pl.col(kind).is_in(named_kinds(follow[kind], follow[key])))
        taken = {*events.frame.columns, *follow.columns, *of.table.other}
        told = f"of the same files, by {event_key} of what was shown: {_named(mine.drop_nulls(key)[kind])}"
        first = with_made(Outcomes("later", of.table, key, event_key, why=told), mine, (key,), of, taken)
        return [first, *_through(first, of, {*taken, *first.columns})]
    return []


def _kinds_in(one: Outcomes) -> list[str]:
    """The kinds of which it has enough rows."""
    assert one.table.kinds is not None
    return named_kinds(one.rows[one.table.kinds.column], one.ids(one.rows))


def _through(first: Outcomes, of: Followers, taken: set[str]) -> list[Outcomes]:
    """What came of clicks, of rows of the same files that name no exposure and have an id that each click has for
    itself: a game that ends names the play that a click began.

    Args:
        first: the rows that name exposures.
    """
    every, kind = of.table.frame, of.values.column
    named = first.ids(every).is_not_null()
    clicks, rest = every.filter(named), every.filter(~named)
    rest = rest.filter(~pl.col(kind).is_in(of.values.click))
    ids = [c for c in rest.columns if rest[c].count() >= FEW and is_id(rest[c].drop_nulls())]
    parts = ((rest.drop_nulls(c), c) for c in ids)
    met = ((len(rows), c, keys_of(clicks, rows.drop_nulls(kind), of.roles, NAME, some=True)) for rows, c in parts)
    found = [(n, c, keys[1]) for n, c, keys in met if keys is not None and keys[0] == c]
    if not found:
        return []
    _, key, c = max(found)
    rows = rest.drop_nulls(key)
    kinds_of = Kinds(kind, tuple(sorted(rows[kind].drop_nulls().unique())), True)
    table = replace(first.table, frame=rows, kinds=kinds_of)
    mapped = of_exposures(table, key, first, c)
    why = f"of the same files, by {c} of the row of {first.name} that their {key} names: {_named(rows[kind])}"
    through = f"{first.name}.{c}"
    one = Outcomes("after_clicks", table, key, first.event_key, why=why, through=through, mapped=mapped)
    return [with_made(one, mapped, (key,), of, taken, clicks=False)]


def _by_requests(events: Table, of: Followers) -> list[Outcomes]:
    """What came of an item in a request, or list or screen, that later rows name as what was shown does; none where no
    column is so."""
    assert of.roles.item is not None
    item, others = of.roles.item.column, of.table.frame
    requests = [c for c in requests_of(events.frame, of.user, item) if c in others.columns]
    of_items = replace(of, table=replace(of.table, frame=others.drop_nulls(item)))
    if (found := _by_two(events.frame, item, [(c, c, item) for c in requests], of_items)) is None:
        return []
    one, values, _ = found
    taken = {*events.frame.columns, *others.columns, *of.table.other, *one.columns, one.key}
    return [one, *_through(one, replace(of, values=values), taken)]


def _by_elements(lists: Table, item: str, of: Followers) -> tuple[Guess, Outcomes] | None:
    """What came of an element of a list that later rows name by the id of the list and that of the element, each in a
    column of any name, and this column of elements.

    Args:
        lists: a row for each element that was shown.
        item: their column of items.
    """
    frame, follow = lists.frame, of.table.frame
    ids = [c for c in follow.columns if c != of.user and is_id(follow[c].drop_nulls())]
    items = [c for c in ids if as_written(follow[c], frame[item]) >= THERE]
    requests = requests_of(frame, of.user, item) if items else []
    named = [(r, c, i) for r in requests for c in ids for i in items if c != i and within(follow[c], frame[r]) >= THERE]
    found = _by_two(frame, item, named, of)
    return None if found is None else (Guess(found[2], found[0].why), found[0])


def _by_two(
    frame: pl.DataFrame, item: str, ids: list[tuple[str, str, str]], of: Followers
) -> tuple[Outcomes, Behaviours, str] | None:
    """What came of items in lists that rows name by the ids of both, the kinds of these rows, and their column of
    items; None where no columns are so.

    Args:
        ids: columns that may be so: of lists in what was shown and in the rows, and of items in these.
    """
    kind, taken = of.values.column, {*frame.columns, *of.table.frame.columns, *of.table.other}
    key = free("exposure", taken)
    for (request, c, i), (kinds, least) in itertools.product(ids, ways(of.values)):
        follows = of.table.frame.filter(pl.col(kind).is_in(kinds))
        named = follows.drop_nulls([c, i])
        if len(named) < max(FEW, least * len(follows)):
            continue
        pairs = pair_of(request, item), pair_of(c, i)
        shown, told = map(ids_of, (frame, named), pairs)
        if share(told.is_in(shown.drop_nulls().unique().implode())) >= THERE:
            rows = of.table.frame.drop_nulls([c, i])
            values = first_kind(of.values, ids_of(rows, pairs[1]), rows[kind])
            why = f"of the same files, by {request} and {item} of what was shown: {_named(rows[kind])}"
            one = Outcomes("later", replace(of.table, frame=rows), key, key, why=why, computed=pairs)
            return with_made(one, rows, (c, i), replace(of, values=values), taken), values, i
    return None


def _beside(every: Table, events: Table, shown: str, named: list[Outcomes], of: Followers) -> list[Outcomes]:
    """What came of a user and an item after these were shown, of kinds of rows that name no exposure: what was bought
    of a basket, where clicks name what was shown. Of kinds in words that nobody knows those that follow clicks.

    Args:
        every: rows of all kinds.
        shown: the events' column of items; that of the rows is of the roles.
        named: by rows of other kinds.
    """
    assert of.roles.item is not None
    kind, user, item, roles = of.values.column, of.user, of.roles.item.column, of.roles
    told = [kind, user, item, *([roles.time.column] if roles.time else [])]
    clicks = pl.concat([one.rows.filter(one.ids(one.rows).is_not_null()).select(told) for one in named])
    there = {v for one in named for v in _kinds_in(one)}
    clicked = pairs_of_day(clicks, user, item, roles).unique().implode()
    parts = {v: of.table.frame.filter(pl.col(kind) == v) for v in of.values.left if v not in there}
    follow = [v for v, rows in parts.items() if share(pairs_of_day(rows, user, item, roles).is_in(clicked)) >= THERE]
    kinds = (*(v for v in of.values.better if v not in there), *follow)
    part = replace(every, kinds=Kinds(kind, kinds, True))
    part = part.only(part.asked)
    if roles.time is None or len(part.frame) < FEW:
        return []
    found = _by_pairs(events, shown, replace(of, table=part, values=replace(of.values, click=())), named)
    timed = ((one, wait_of(one, one.table, roles, events, roles)) for one in found[:1])
    return [replace(waiting(one, wait, one.table, roles), once=False) for one, wait in timed if wait is not None]


def _by_pairs(events: Table, item: str, of: Followers, named: Sequence[Outcomes] = ()) -> list[Outcomes]:
    """What came of a user and item on a day, where rows name no exposure: none where these are mostly of items that
    were not shown to their user.

    Args:
        item: the events' column of items.
        named: what came of exposures by their ids, the click among it.
    """
    files, others, user = of.table, of.table.frame, of.user
    taken = {*events.frame.columns, *others.columns, *files.other}
    taken |= {c for one in named for c in (*one.columns, one.key, one.event_key)}
    key = free("exposure", taken)
    shown_pairs = pairs_of_day(events.frame, user, item, of.roles)
    parts = [files]
    if events.explode != files.explode and item in others.columns:  # a list of what was bought, as of what was shown
        rows = elements(others.filter(pl.col(item).list.len() > 0), events.explode)
        parts.append(replace(files, explode=events.explode, frame=rows))
    found: list[Outcomes] = []
    for table in parts:
        rows = table.frame
        names = [item] if table.explode == events.explode else _names_items(rows, user, events.frame[item])
        told = ((c, pairs_of_day(rows, user, c, of.roles)) for c in names)
        if (c := next((c for c, pairs in told if were_shown(pairs, shown_pairs)), None)) is None:
            continue
        rows = rows.filter(pl.col(c).is_not_null())
        viewed = not events.explode and all(map(is_seen, of.values.exposure))
        why = f"of the same files, by user and item of a day: {_named(rows[of.values.column])}"
        computed = pair_of(user, item), pair_of(user, c)
        name = "beside" if named else "later_lists" if found else "later"
        one = Outcomes(name, replace(table, frame=rows), key, key, why=why, computed=computed, once=True)
        found.append(with_made(one, rows, (user, c), of, taken, clicks=not (found or viewed or named)))
        taken |= {*found[-1].columns}
    return found


def _by_list(table: Table, values: Behaviours | None, roles: Roles) -> tuple[Table, list[Outcomes]] | None:
    """As `parted`, where rows of a kind have a list of what was shown and an id of their own, and those of other kinds
    name that id and an element; None where no list is so.

    Args:
        values: the kinds, where words tell them.
    """
    frame = table.frame
    lists = [c for c, of in frame.schema.items() if isinstance(of, pl.List)]
    texts = [s.name for s in frame if lists and s.dtype == pl.String and 1 < s.drop_nulls().n_unique() <= FEW]
    behaviour = [roles.behaviour.column] if roles.behaviour else texts
    for shown, kind in ((shown, kind) for shown in lists for kind in behaviour):
        rows = frame.filter(pl.col(shown).list.len() > 0)
        kinds = rows[kind].drop_nulls().unique()
        others = frame.filter(~pl.col(kind).is_in(kinds.implode()))
        if not len(kinds) or len(others) < FEW or not (met := _of_elements(rows, others, shown, roles)):
            continue
        request, item, followed = met
        later = [c for c in frame.columns if not rows[c].count() and others[c].count()]
        mine = Kinds(kind, tuple(sorted(kinds)), True)
        alone = replace(table, kinds=mine, only_of_others=(*later, kind), of_files=(*frame.columns,))
        told, taken = _kinds_of(followed[kind], mine.values, values), {*frame.columns, *table.other}
        why = f"of the same files, by {request} and {shown} of what was shown: {_named(followed[kind])}"
        key, rest = free("exposure", taken), replace(table, frame=others, kinds=replace(mine, among=False))
        computed = pair_of(request, shown), pair_of(request, item)
        one = Outcomes("later", rest, key, key, why=why, computed=computed)
        whole = next((names for names, columns in parallel(rows) if shown in columns), (shown,))
        events = by_elements(alone.only(alone.asked), whole)
        return events, [with_made(one, followed, (request, item), Followers(rest, told, roles, later), taken)]
    return None


def _kinds_of(followed: pl.Series, shown: tuple[str, ...], values: Behaviours | None) -> Behaviours:
    """The kinds of what follows: clicks are those that words tell, else the kind of most rows."""
    every = tuple(followed.drop_nulls().value_counts(sort=True, name=":n")[followed.name].to_list())
    clicks = tuple(v for v in (values.click if values else ()) if v in every and is_click(v)) or every[:1]
    named = values.good.items() if values else ()
    good = {name: kept for name, of in named if (kept := tuple(v for v in of if v in every and v not in clicks))}
    left = tuple(v for v in every if v not in clicks and not any(v in of for of in good.values()))
    return Behaviours(followed.name, shown, clicks, good, left)


def _of_elements(
    rows: pl.DataFrame, others: pl.DataFrame, shown: str, roles: Roles
) -> tuple[str, str, pl.DataFrame] | None:
    """(column of a list's id, column that names an element, rows that name both) of rows of other kinds."""
    pairs = rows.explode(shown)
    items = [c for c in others.columns if is_id(others[c].drop_nulls()) and c in rows.columns]
    items = [c for c in items if rows[c].null_count() == len(rows) and within(others[c], pairs[shown]) >= NAME]
    requests = [c for c in rows.columns if is_own_of(rows[c]) and time_unit(rows[c]) is None]
    for item in sorted(items, key=lambda c: roles.item is None or c != roles.item.column):
        for request in requests:
            named = others.filter(pl.col(request).is_not_null() & pl.col(item).is_not_null())
            if within(named[request], rows[request]) < THERE:
                continue
            known = pairs.select(pl.struct(pl.col(request, shown).cast(pl.String)).hash())[request]
            told = named.select(pl.struct(pl.col(request, item).cast(pl.String)).hash())[request]
            followed = named.filter(told.is_in(known.implode()))
            if len(followed) >= max(FEW, THERE * len(named)):
                return request, item, followed
    return None


def _names_items(rows: pl.DataFrame, user: str, items: pl.Series) -> list[str]:
    """The columns that may name items, the one of their name first."""
    ids = [c for c in rows.columns if c != user and is_id(rows[c]) and as_written(rows[c], items) >= THERE]
    return sorted(ids, key=lambda c: c != items.name)


def _named(kinds: pl.Series) -> str:
    """The kinds of some rows, those of most rows first."""
    return ", ".join(map(str, kinds.value_counts(sort=True, name=":n")[kinds.name]))


def again(
    every: Table, events: Table, later: list[Outcomes], others: Sequence[Table], given: Mapping[str, str]
) -> tuple[Table, list[Outcomes]]:
    """The events, and what came of them, of another sample of the files, with what follows beside what was shown.

    Args:
        every: rows of all kinds.
        events: of the sample before, with `later`.
    """
    if events.kinds is None:
        return every, later
    if (parts := parted(every, others, given)) is not None:
        files = later[0].table.files  # by days, where the events are by their times
        beside = [one for one in later if one.table.files is not files]
        return parts[0], [*(replace(one, table=replace(one.table, files=files)) for one in parts[1]), *beside]
    kept = replace(every, kinds=events.kinds, only_of_others=events.only_of_others)
    return replace(kept, frame=kept.asked(every.frame)), later


def by_kinds(roles: Roles, later: Sequence[Outcomes]) -> None:
    """Takes the best kind of event that followed for the conversion, where nothing tells how long a click lasted: of a
    column that is named like one, where that is wanted less, as what lay in a basket beside what was bought."""
    good, named = sorted(g for one in later for g in one.good), roles.conversion
    kinds = {c: Guess(c, why) for _, c, why in good}
    if roles.duration is not None or not kinds:
        return
    rank = None if named is None or named.column in kinds else rank_of(named.column)
    if named is None or named.column in kinds or (rank is not None and good[0][0] < rank):
        best, *others = kinds
        beside = {} if rank is None or named is None else {named.column: named}
        roles.conversion, roles.further = kinds[best], {c: kinds[c] for c in others} | beside
