"""The user and the item of events where no name tells them: by the tables beside them, and by how rows follow one
another, as a request has one user and several items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.pieces import cut_into
from dmtl_cli.guess.columns.roles import Guess, Roles, count_of
from dmtl_cli.guess.columns.values import FEW, is_constant, is_id, returning, share, within
from dmtl_cli.guess.exposures.ids import candidates, is_quantity, may_be_ids
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.outcomes.tables import named_after
from dmtl_cli.guess.reading.tables import Table

_IN = 0.9  # of the ids of events are in the table
_UNIQUE = 0.8  # of the rows of a table have an id of their own, as a state may be written twice
_USED = 0.2  # of the table's ids are in events, where the columns have different names: not the first numbers alone
_FAR = 3  # times as many ids as any other table of the same role
_ONE_EACH = 0.9  # of the rows of a day have an id of their own
_PHRASES = 0.2  # of the texts of a column of phrases have several words
_AGAIN = 0.05  # of the ids of users and items come again on another day, at least
_VISITS = 5  # of a person within a sample, on average, at most
_STAYS, _CHANGES = 0.5, 0.1  # of the rows follow one of the same user at least, of the same item at most
_STAYS_SOME = 0.2  # where another id is the item
_PATTERNS = {"user": words.USER, "item": words.ITEM}


def roles_beside(table: Table, others: Sequence[Table], given: Mapping[str, str]) -> Roles:
    """The roles of its columns, by the other tables too. See `labels.roles_of` and `by_tables`."""
    roles = roles_of(table.frame, given)
    ids = by_tables(table, others, roles)
    return roles_of(table.frame, given, ids) if ids else roles


def by_tables(events: Table, others: Sequence[Table], roles: Roles) -> dict[str, Guess]:
    """The roles of user and item that no column has yet but as what is left, by tables whose ids nearly all of a
    column's are: by the table's name, by how rows follow one another, or as the other table's is decided. Of several
    tables for one role, as a star schema has, that of most ids. A user that is a visit gives way to a table's."""
    open_ = [role for role in _PATTERNS if (g := getattr(roles, role)) is None or g.is_left_over]
    visit = _visit(events.frame, roles)
    open_ += ["user"] if visit and "user" not in open_ else []
    keys = [key for table in others if open_ and (key := _key(events.frame, table, others, roles)) is not None]
    found: dict[str, Guess] = {}
    for role in open_:
        mine = _most(events.frame, [g for of, g in keys if of == role], role, roles)
        if mine and (role == "item" or not visit or _is_of_visits(events.frame, mine.column, visit, roles)):
            found[role] = mine
    if visit and "user" not in found and (person := _whose(events.frame, visit, roles)) is not None:
        found["user"] = person
    known = {role: g.column for role in _PATTERNS if (g := found.get(role) or _sure(roles, role)) is not None}
    left = [g for of, g in keys if of is None and g.column not in known.values()]
    other = next((r for r in _PATTERNS if r not in known), "")
    if len(known) == 1 and (last := _most(events.frame, left, other, roles)) is not None:
        ((role, column),) = known.items()
        if not is_constant(events.frame, column, last.column):
            found[other] = replace(last, why=f"{last.why}; {column} is the {role}")
    elif not known:
        found = _of_two(events.frame, left, roles)
    return found | _by_order(events.frame, roles, found)


def _visit(frame: pl.DataFrame, roles: Roles) -> str | None:
    """The user's column where it has a weak name, as a session, and its ids hardly come again on another day."""
    days = roles.days(frame, "UTC")
    if roles.user is None or days is None or days.n_unique() < 2:
        return None
    c = roles.user.column
    return c if words.by_name(c, words.USER) == 1 and returning(frame[c], days) < _AGAIN else None


def _is_of_visits(frame: pl.DataFrame, c: str, visit: str, roles: Roles) -> bool:
    """Whether each visit has one of these ids, and they come again on other days."""
    days = roles.days(frame, "UTC")
    return days is not None and is_constant(frame, visit, c) and returning(frame[c], days) >= _AGAIN


def _whose(frame: pl.DataFrame, visit: str, roles: Roles) -> Guess | None:
    """The ids whose visits these are, as those of devices: each visit has one, and they come again on other days; they
    are many, as cities and shops are not, and of several the one that most rows have."""
    ids = [c for c in may_be_ids(frame) if c not in roles.taken and not is_quantity(frame[c])]
    many = frame[visit].n_unique()
    ids = [c for c in ids if many <= _VISITS * frame[c].n_unique() and not _is_phrase(frame[c])]
    mine = [c for c in ids if _is_of_visits(frame, c, visit, roles)]
    person = max(mine, key=lambda c: (frame[c].count(), frame[c].n_unique()), default=None)
    if person is None:
        return None
    why = f"{count_of(frame[person])}; each {visit} has one, and they come again on other days"
    return Guess(person, why, (*(c for c in mine if c != person), visit))


def _of_two(frame: pl.DataFrame, keys: Sequence[Guess], roles: Roles) -> dict[str, Guess]:
    """The user and the item where two columns have a table each, by which of them stays far more often from row to row,
    as in a stream that several writers write at once."""
    why = {key.column: key.why for key in keys}
    follows = {c: stays(frame, c, roles) for c in why}
    if len(why) != 2:
        return {}
    item, user = sorted(why, key=lambda c: follows[c])
    if follows[user] < _STAYS_SOME or follows[item] > _CHANGES:
        return {}
    if is_constant(frame, user, item) or is_constant(frame, item, user):
        return {}
    return {
        "user": Guess(user, f"{why[user]}; rows of one follow each other more often than those of {item}"),
        "item": Guess(item, f"{why[item]}; rows of one hardly follow each other"),
    }


def _by_order(frame: pl.DataFrame, roles: Roles, found: dict[str, Guess]) -> dict[str, Guess]:
    """The user and the item that are still open, by what is so of them under any name: both come again on other days,
    as requests and visits do not; rows of a user follow one another, and what else does belongs to them, as their city;
    rows of an item do not, and what else does not belongs to it, as its author."""
    known = {role: g for role in _PATTERNS if (g := found.get(role) or getattr(roles, role)) is not None}
    days = roles.days(frame, "UTC")
    if len(known) == len(_PATTERNS) or days is None or days.n_unique() < 2:
        return {}
    taken = {g.column for g in known.values()}
    left = [c for c in candidates(frame, roles) if c not in taken and not is_quantity(frame[c])]
    left = [c for c in left if not (_is_phrase(frame[c]) or words.by_name(c, words.REQUEST))]
    texts = [c for c in left if frame[c].dtype == pl.String]  # a user's last items in one text are neither
    ids = [*texts, *(c for c in taken if c in frame)]
    left = [c for c in left if c not in texts or not any(cut_into(frame[c], frame[x]) for x in ids if x != c)]
    # numbers that begin anew each day, one a row, are of no user or item
    left = [c for c in left if pl.DataFrame([days.alias(":day"), frame[c]]).n_unique() < _ONE_EACH * len(frame)]
    left = [c for c in left if returning(frame[c], days) >= _AGAIN]
    out: dict[str, Guess] = {}
    if "user" not in known:
        follow = [c for c in left if stays(frame, c, roles) >= _STAYS]
        whole = [c for c in follow if _is_whole(frame, c, [x for x in follow if x != c])]
        if len(whole) == 1:
            why = f"{count_of(frame[whole[0]])}; rows of one follow each other, on several days"
            out["user"] = known["user"] = Guess(whole[0], why, tuple(c for c in follow if c != whole[0]))
    if "item" not in known and "user" in known:
        user = known["user"].column
        rest = [c for c in left if c != user and not is_constant(frame, user, c) and not is_constant(frame, c, user)]
        rest = [c for c in rest if stays(frame, c, roles) <= _CHANGES]
        rest = [c for c in rest if _is_whole(frame, c, [x for x in rest if x != c])]
        if len(rest) == 1:
            why = "rows of one hardly follow each other, on several days"
            out["item"] = Guess(rest[0], f"{count_of(frame[rest[0]])}; {why}")
    return out


def _is_phrase(s: pl.Series) -> bool:
    """Whether texts are of several words, as what was searched is, and no ids."""
    return s.dtype == pl.String and share(s.drop_nulls().str.contains(r"\S\s+\S")) > _PHRASES


def _sure(roles: Roles, role: str) -> Guess | None:
    guess: Guess | None = getattr(roles, role)
    return None if guess is None or guess.is_left_over else guess


def _most(frame: pl.DataFrame, keys: Sequence[Guess], role: str, roles: Roles) -> Guess | None:
    """The column that has by far most ids, or the finer one: each class is of one studio, and a studio has several
    classes, as an account has profiles that come again on other days; None where there is none."""
    many = {key.column: frame[key.column].n_unique() for key in keys}
    if not many:
        return None
    first, *rest = sorted(many, key=lambda c: -many[c])
    is_finest = (
        all(_is_finer(frame, first, c) for c in rest) if role == "item" else _comes_again(frame, first, rest, roles)
    )
    if rest and not is_finest and many[first] < _FAR * many[rest[0]]:
        return None
    why = next(key.why for key in keys if key.column == first)
    if rest and is_finest:
        listed = " and ".join(rest)
        has = "has a table" if len(rest) == 1 else "have tables"
        why += f"; {listed} {has} too, and each {first} has one {rest[0]}: --{role} {rest[0]} takes it in its place"
    return Guess(first, why, () if is_finest else tuple(rest))


def _is_finer(frame: pl.DataFrame, c: str, than: str) -> bool:
    """Whether each id of one column has one of the other, and not the other way round."""
    return is_constant(frame, c, than) and not is_constant(frame, than, c)


def _comes_again(frame: pl.DataFrame, c: str, rest: Sequence[str], roles: Roles) -> bool:
    """Whether each id has one of all others, and comes again on other days, which a visit does not."""
    days = roles.days(frame, "UTC")
    again = days is not None and returning(frame[c], days) >= _AGAIN
    return again and _is_whole(frame, c, rest)


def _is_whole(frame: pl.DataFrame, c: str, rest: Sequence[str]) -> bool:
    return all(is_constant(frame, c, x) for x in rest)


def _key(frame: pl.DataFrame, table: Table, others: Sequence[Table], roles: Roles) -> tuple[str | None, Guess] | None:
    """A column of which a table has a row for each id, and its role; None where there is none."""
    sure = {g.column for g in roles.named.values() if not g.is_left_over}
    after = {g.column for g in roles.outcomes}
    fits: list[tuple[bool, bool, float, bool, bool, str, str]] = []
    rows = table.on(table.day)  # over several days an item has several prices, as if a price were the finer id
    for k, key in enumerate(rows.columns):
        s = rows[key]
        if not (_is_key(s) or (table.files.days and is_id(s))):
            continue
        for c in may_be_ids(frame):
            same = c.rpartition(".")[2] == key.rpartition(".")[2]  # of `shown.item_id` too
            if not (same or (k == 0 and not _is_of_another(c, key, table, others))):
                continue
            if c in sure or frame[c].n_unique() <= FEW or (not same and (c in after or words.says(c, words.PIPELINE))):
                continue
            joined = within(frame[c], table.frame[key])
            if joined >= _IN and (same or within(s, frame[c]) >= _USED):
                # of accounts and profiles each row has a profile of its own, and some have one account
                fits.append((same, s.n_unique() == len(s), joined, _says(key, table), k == 0, c, key))
    if not fits:
        return None
    # of two, a row of the table is of the finer one: it has the other as an attribute
    finest = [one for one in fits if not any(_is_finer(rows, other[-1], one[-1]) for other in fits)]
    _, _, joined, _, _, c, _ = max(finest)
    path = table.files.path if table.files.days else table.files.files[0][0]
    why = f"{joined:.0%} of its {frame[c].n_unique():,} ids are in {path}"
    if (named := _named(table)) is not None:
        return named, Guess(c, f"{why}, which is named like a table of {named}s")
    role, how = _turn(frame, c, roles)
    return role, Guess(c, f"{why}; {how}" if how else why)


def _says(key: str, table: Table) -> bool:
    """Whether a key has the name of its table, as room_id of dim_room has."""
    name = named_after(table)
    parts = {p.removesuffix("s") for p in words.words(name).split()} - {"id", "key", "sk", "part", "dt", "data"}
    return not parts.isdisjoint(p.removesuffix("s") for p in words.words(key.rpartition(".")[2]).split())


def _is_of_another(c: str, key: str, table: Table, others: Sequence[Table]) -> bool:
    """Whether an id of the events is the key of another table by its name, or a table's key is what another one refers
    to: surrogate keys of all tables are the same first numbers."""
    rest = [other.frame for other in others if other is not table]
    return any(c in frame.columns and _is_key(frame[c]) for frame in rest) or any(
        key in frame.columns and is_id(frame[key]) and not _is_key(frame[key]) for frame in rest
    )


def _is_key(s: pl.Series) -> bool:
    return is_id(s) and s.n_unique() >= _UNIQUE * len(s)


def _named(table: Table) -> str | None:
    """Whose a table is by its name, or that of its folder: users, item_master, kunden.csv."""
    place = PurePosixPath(table.files.path if table.files.days else table.files.files[0][0])
    parts = [p for name in (place.stem, place.parent.name) for p in words.words(name).split()]
    for role, patterns in _PATTERNS.items():
        if any(words.by_name(p, patterns) >= 2 or words.by_name(p.removesuffix("s"), patterns) >= 2 for p in parts):
            return role
    return None


def _turn(frame: pl.DataFrame, c: str, roles: Roles) -> tuple[str | None, str]:
    """The role that the order of rows tells, and how."""
    follows = stays(frame, c, roles)
    if follows >= _STAYS:
        return "user", "rows of one follow each other"
    if follows <= _CHANGES and any(stays(frame, x, roles) >= _STAYS for x in may_be_ids(frame) if x != c):
        return "item", "rows of one hardly follow each other"
    return None, ""


def stays(frame: pl.DataFrame, c: str, roles: Roles) -> float:
    """Share of the rows that have the id of the row before, in the order of the files or of time, above what is so by
    chance."""
    orders = [frame[c]]
    if roles.time is not None:
        orders.append(frame.sort(roles.time.column, maintain_order=True)[c])
    counts = frame[c].drop_nulls().value_counts(name=":n")[":n"].cast(pl.Float64)
    chance = float(((counts / counts.sum()) ** 2).sum()) if len(counts) else 1.0
    found = max(share((s == s.shift(1)).slice(1)) for s in orders)
    return max(0.0, (found - chance) / (1 - chance)) if chance < 1 else 0.0


def likeliest(frame: pl.DataFrame, roles: Roles) -> dict[str, str]:
    """Columns to be tried as the user and the item where none is guessed, as far as there are any."""
    left = candidates(frame, roles)
    follows = {c: stays(frame, c, roles) for c in left}
    fits = {"user": [c for c in left if follows[c] >= _STAYS], "item": [c for c in left if follows[c] <= _CHANGES]}
    out: dict[str, str] = {}
    for columns in (fits, dict.fromkeys(_PATTERNS, left)):
        for role in _PATTERNS:
            rest = [c for c in columns[role] if c not in out.values()]
            if getattr(roles, role) is None and role not in out and rest:
                out[role] = rest[0]
    return out
