"""Which tables belong to events as those of users or items, and what would make their ids fit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from dmtl_cli.config.errors import such_as
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.ends import End, ends_of
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import polars_column, quoted, sql_column
from dmtl_cli.guess.columns.values import has_several, is_id, share, within
from dmtl_cli.guess.exposures.ids import may_be_ids
from dmtl_cli.guess.outcomes.tables import named_after
from dmtl_cli.guess.reading.rows import whole as whole_column
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.sides.versions import Version, birth, newest_first, one_row, version_of

NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""the folder that Hive and Spark write rows into whose key is null"""
_TIMED = 0.01  # of the rows of no day have a time
JOINED = 0.05
"""share of the ids of events that a side table has at least"""
_OWN = ("_id", "_id.$oid", "id", "after.id")  # of a document or a changed row, wherever it stands among the columns
_CODED = 0.9  # of the codes of a column are in the table that has its name
_NONE = "no column has the users or items of the events"
_SCATTERED = "its files lie among those of other tables, and no path means them alone: move them into their own folder"
_MORE = 0.05  # of the ids are in the table once they are written alike
_COMPARED, _SLICE = 500_000, 1_000_000  # ids that are written in each way; those that are looked at for it at a time
_Way = tuple[str, Callable[[pl.Expr], pl.Expr]]
"""what stands behind a column in polars, and the same as it is computed"""
_USERS = 0.9  # of the pairs of ids of the events are in a table of such
_MOSTLY = 0.5
"""share of the day's ids that a side table should have"""
_USED = 0.2  # of a table's ids are in events, where their columns have other names: not the first numbers alone


@dataclass(frozen=True)
class Side:
    """A side table."""

    table: Table
    key: Guess
    late: str | None = None
    """why the table of a day before is read: see `late.lagging`"""
    lag: int = 0
    """how many days before, where it is late"""
    version: Version | None = None
    """what tells several rows of an id apart"""
    until: End | None = None
    """when an item ends"""
    further: tuple[End, ...] = ()
    """other columns by which it may end before"""

    @property
    def told_by(self) -> list[str]:
        """The columns that tell which of its rows a day knows: no features."""
        return [told.column for told in (self.version, self.until) if told]

    @property
    def instants(self) -> list[str]:
        """Those of version and until of which data.timezone decides which day knows them."""
        told = {"version": self.version, "until": self.until}
        return [key for key, one in told.items() if one and one.is_instant]

    @property
    def is_one_state(self) -> bool:
        """Whether no row says of which days its values are."""
        return not self.table.files.days and not (self.version and self.version.is_of_days)

    @property
    def caveat(self) -> str | None:
        """What a table says of its day that a person should know: that it is written late, or is of no day."""
        return "one state for all days" if self.is_one_state else self.late


@dataclass
class Beside:
    """The tables beside the events."""

    sides: dict[str, Side] = field(default_factory=dict)
    """by users and items"""
    other: list[tuple[str, str]] = field(default_factory=list)
    """tables that are neither, and why"""
    perhaps: list[Side] = field(default_factory=list)
    """those that have ids of the events, where it is not known which are users or items"""
    told: list[str] = field(default_factory=list)
    """what a person is to do about tables that are not used, a line each"""


def place(table: Table, events: Table, roles: Roles, found: Beside) -> None:
    """Puts a table beside the events where its key is one of their ids."""
    columns = {*events.frame.columns}
    if len(columns) > 3 and len(columns & {*table.frame.columns}) >= 0.8 * len(columns):
        found.other.append((table.files.name, _of_events(table, events, roles)))
        return
    if table.has_no_path:
        first, *more = (path for path, _ in table.files.files)
        found.other.append((f"{first} and {len(more)} more", _SCATTERED))
        found.told.append(f"{first} and {len(more)} more: not used: {_SCATTERED}")
        return
    if (why := _of_acts(table, events, roles) or _of_codes(table, events, roles, found)) is not None:
        found.other.append((table.files.name, why))
        return
    fits: list[tuple[float, str, str, float]] = []
    for name, of_events, s, named in _keys(table.frame, events, roles):
        if (s.dtype.is_integer() or s.dtype == pl.String) and (joined := within(of_events, s)) >= JOINED:
            fits.append((joined + named, name, s.name, joined))
    if not fits and (roles.user is None or roles.item is None) and (side := _perhaps(table, events)) is not None:
        found.perhaps.append(side)
        return
    if not fits:
        found.other.append((table.files.name, _otherwise(table.frame, events, roles)))
        return
    _, name, key, joined = max(fits)
    if key.startswith("after."):  # of a change stream: what else is there tells of the change
        around = [c for c in table.frame.columns if not c.startswith("after.") and c != "ts_ms"]
        table = replace(table, frame=table.frame.drop(around))
    ids = events.frame[(roles.user if name == "users" else roles.item).column]  # type: ignore[union-attr]
    if name == "users" and (line := _of_two_ids(table, key, events, ids.name)) is not None:
        found.told.append(line)
    if name in found.sides:
        is_chance = key != ids.name and within(table.frame[key], ids) < _USED
        second = f"a second table of {name}, beside {found.sides[name].table.files.name}"
        found.other.append((table.files.name, _NONE if is_chance else second))
        return
    made = _side_of(table, name, key, ids, joined, events, roles)
    if isinstance(made, Side):
        found.sides[name] = made
    else:
        found.other.append((table.files.name, made))
        found.told.append(f"{table.files.name}: not used: {made}")


def _side_of(
    table: Table, name: str, key: str, ids: pl.Series, joined: float, events: Table, roles: Roles
) -> Side | str:
    """A table of users or items, with what tells which of its rows a day knows; why it is not used, where an id has
    several rows and nothing tells these apart. `joined`: share of the events' ids that are in its key."""
    frame, days = table.on(table.day), days_of_rows(events, roles, "UTC")
    of_all_days = name == "items" and not table.files.days
    version = None
    if frame[key].drop_nulls().is_duplicated().any():
        shown = None if name == "users" or days is None else (ids, days)
        version = version_of(frame, key, _newest(events, roles), shown)
        if version is None:
            coded = "" if (e := table.written.encoding) == "utf-8" else f"; its text is in {e}"
            return _more_than_once(frame, name, key) + coded
        if not table.files.days:  # of a table a day, the newest day's rows are the first
            table = replace(table, frame=newest_first(table.frame, version))
    elif of_all_days:
        version = birth(frame, key, ids, days)
    ends = list[End]()
    if of_all_days:
        ends += ends_of(table.frame.unique(key, keep="first", maintain_order=True), key, ids, days)
    why = f"{joined:.0%} of the sample's {name} are in it"
    better = told(name, ids, table.frame[key], joined)
    by = Guess(key, f"{why}; {better[1]}" if better else why)
    return Side(table, by, version=version, until=next(iter(ends), None), further=tuple(ends[1:]))


def days_of_rows(events: Table, roles: Roles, zone: str) -> pl.Series | None:
    """The day of each row of the sample, by names of files or the rows' times; None where neither tells it."""
    return roles.days(events.frame, zone) if events.days is None else events.days


def _newest(events: Table, roles: Roles) -> dt.date | None:
    if events.day is not None:
        return events.day
    days = roles.days(events.frame, "UTC")
    newest = None if days is None else days.max()
    return newest if isinstance(newest, dt.date) else None


def _keys(frame: pl.DataFrame, events: Table, roles: Roles) -> Iterator[tuple[str, pl.Series, pl.Series, bool]]:
    """(users or items, ids of the events, column, whether its name says so) of what may be a table's key: its first
    column, or a document's own id, unless that is the other role's, and those that are named like these ids."""
    for name, role, patterns in (("users", roles.user, words.USER), ("items", roles.item, words.ITEM)):
        for k, c in enumerate(frame.columns if role else ()):
            named = role is not None and (c == role.column or words.by_name(c, patterns) > 0)
            if role is not None and (named or ((k == 0 or c in _OWN) and c not in roles.ids)):
                yield name, events.frame[role.column], frame[c], named


def _otherwise(frame: pl.DataFrame, events: Table, roles: Roles) -> str:
    """Why a table is not used: what is to be written, where its ids are those of the events in another writing."""
    keys = _keys(frame, events, roles)
    found = [(so[0] + named, so[1]) for name, ids, key, named in keys if (so := told(name, ids, key, 0.0)) is not None]
    return max(found)[1] if found else _NONE


def _of_codes(table: Table, events: Table, roles: Roles, found: Beside) -> str | None:
    """What is said of a table whose key, its first column, is by its name a code of the events or of a table of users
    or items, and none of their ids; None of any other."""
    key = table.frame.columns[0]
    s = table.frame[key]
    if roles.user is None or roles.item is None:  # it may be a table of either
        return None
    if key in roles.ids or not is_id(s) or s.n_unique() < len(s):
        return None
    mine = [table.frame[g.column] for g in (roles.user, roles.item) if g.column in table.frame.columns]
    if any(is_id(ids) and ids.n_unique() == len(ids) for ids in mine):  # a second id of theirs comes first
        return None
    sides = {f"the table of {name}": x.table.frame for name, x in found.sides.items() if x.key.column != key}
    for whose, frame in {"the events": events.frame, **sides}.items():
        if key in frame.columns and is_id(frame[key]) and within(frame[key], s) >= _CODED:
            return f"its {key} is a code of {whose}, which is a feature as it is"
    return None


def by_likeness(others: Sequence[Table], events: Table, roles: Roles) -> list[Table]:
    """The tables whose rows each have an id of the events' users or items of their own, as a catalogue has, those that
    have most of them first, as orders of a day may have a user each; then those that have their ids by the same names,
    those of most ids that are the same first."""

    def order(table: Table) -> tuple[int, bool, float]:
        named, frame = bool(roles.ids & {*table.frame.columns}), table.on(table.day)
        best, whole = 0.0, 0.0
        for _, of_events, s, _ in _keys(frame, events, roles):
            if is_id(s) and (there := within(of_events, s)) >= JOINED:
                used = within(s, of_events)
                own = s.n_unique() == len(s) and there >= _MOSTLY and (used >= _USED or s.name in roles.ids)
                best, whole = max(best, there * used), max(whole, round(there, 1) if own else 0.0)
        return 0 if whole else 1 if named else 2, not named, -(whole or best)

    return sorted(others, key=order)


def _of_acts(table: Table, events: Table, roles: Roles) -> str | None:
    """What is said of a table of what users did with items, which is none of users or items: an item has rows of
    several users, and a user of several items."""
    if roles.user is None or roles.item is None:
        return None
    frame, found = table.on(table.day), list[str]()
    for g in (roles.user, roles.item):
        ids = events.frame[g.column]
        there = {c: within(frame[c], ids) for c in frame.columns if is_id(frame[c].drop_nulls()) and c not in found}
        fits = [c for c, rate in there.items() if rate >= _MOSTLY]
        if not fits:
            return None
        found.append(max(fits, key=lambda c: (c == g.column, there[c])))
    user, item = found
    if not (has_several(frame, item, user) and has_several(frame, user, item)):
        return None
    what = f"its rows look like what users did ({user}, {item}) and name no exposure"
    how = (
        f"init --conversion {named_after(table)} reads them by user and item, as what is good of what was shown before"
    )
    return f"{what}: {how}; data.events.joined by an exposure's id too (docs/logs.md)"


def _of_events(table: Table, events: Table, roles: Roles) -> str:
    """What is to be done with a table that has the columns of the events."""
    if NO_PARTITION not in table.files.path or not events.files.days:
        to = f"if they are, put its files beside those of {events.files.path}"
        return f"it has the columns of the events: are its rows events too? {to}"
    rows = "rows of events for which the writer had no day: dmtl reads a day by its name, so they are left out"
    time = roles.time.column if roles.time else None
    if time is None or time not in table.frame.columns:
        return rows
    there = share(table.frame[time].is_not_null())
    if there < _TIMED:
        return f"{rows}; {1 - there:.0%} of them have no {time} either"
    return f"{rows}; {there:.0%} of them have a {time}: write them into the folder of the day that it tells, then init"


def _of_two_ids(table: Table, key: str, events: Table, user: str) -> str | None:
    """What is said of a table with a row for each user and another id, which the events have too, as each of the
    profiles of an account is somebody; None of another one."""
    frame, rows = table.on(table.day), events.frame
    if not frame[key].drop_nulls().is_duplicated().any():
        return None
    shared = [c for c in frame.columns if c not in (key, user) and c in rows.columns and is_id(frame[c])]
    for c in shared:
        mine = frame.select(pl.col(key).alias("u"), c).drop_nulls()
        told = rows.select(pl.col(user).alias("u"), c).drop_nulls().unique()
        if mine.is_duplicated().any() or mine.schema != told.schema:
            continue
        if len(told.join(mine, on=["u", c], how="semi")) < _USERS * max(1, len(told)):
            continue
        made = [f"{sql_column(x)} || '/' || CAST({sql_column(c)} AS VARCHAR)" for x in (user, key)]
        how = f"computed: {{somebody: {quoted(made[0])}}} and user: somebody in data.events"
        path = table.files.pattern or table.files.path
        also = f"{{path: {path}, key: somebody, computed: {{somebody: {quoted(made[1])}}}}} in data.users"
        what = f"{table.files.name}: it has a row for each {key} and {c}, of which some have several"
        return f"{what}: is each of these a user? Then write {how}, {also}"
    return None


def _more_than_once(frame: pl.DataFrame, name: str, key: str) -> str:
    """Which ids have several rows, in what these differ, and the line of polars that leaves one of each."""
    rows = frame.filter(pl.col(key).is_not_null())
    ids = rows.group_by(key, maintain_order=True).agg(pl.len().alias(":n"), pl.exclude(key).n_unique())
    twice = ids.filter(pl.col(":n") > 1)
    differ = [c for c in frame.columns if c != key and (twice[c] > 1).any()]
    how = f"which differ in {', '.join(differ[:5])}" if differ else "which are the same"
    many = f"{len(twice):,} of its {len(ids):,} {name} have several rows, {how} ({key}, such as {twice[key][0]})"
    kept = one_row(rows.filter(rows[key].is_duplicated()), key, same=not differ)
    told = f"{{key: {key}}} in data.{name}, or {{key: {key}, version: COLUMN}} where a column tells which holds"
    return f"{many}: keep one row of each, {kept}, and it is {told}"


def _perhaps(table: Table, events: Table) -> Side | None:
    """A table with a row for each id of some column of the events."""
    fits: list[tuple[float, str, str]] = []
    for k, key in enumerate(table.frame.columns):
        s = table.frame[key]
        if not is_id(s) or (s.n_unique() < len(s) and not table.files.days):
            continue
        for c in may_be_ids(events.frame):
            if (c == key or k == 0) and (joined := within(events.frame[c], s)) >= JOINED:
                fits.append((joined + (c == key), c, key))
    if not fits:
        return None
    joined, c, key = max(fits)
    return Side(table, Guess(key, f"{joined - (c == key):.0%} of the sample's {c} are in it"))


def told(
    name: str, ids: pl.Series, key: pl.Series, joined: float, whose: str = "the sample's"
) -> tuple[float, str] | None:
    """The share of the events' ids that a side table's key would have, and what is to be written for it, with a line of
    polars; None where that adds less than a twentieth of the ids.

    Args:
        name: of the table: users or items.
        joined: share of the distinct ids that are in the key as it is.
        whose: the ids are.
    """
    ids, key = _part(ids, key)
    if not (is_id(ids) and (is_id(key) or key.n_unique() == len(key))):
        return None
    best: tuple[float, str] | None = None
    for how, table_way, events_way in _ways(ids):
        try:
            mine, other = _written(ids, events_way), _written(key, table_way)
        except pl.exceptions.PolarsError:
            continue
        share = within(mine, other)
        if share >= max(JOINED, joined + _MORE) and (best is None or share > best[0]):
            lines = [_line(name, key.name, table_way)] if table_way else []
            lines += [_line("log", ids.name, events_way)] if events_way else []
            so = f"{key.name} has {share:.0%} of {whose} {name} {how}"
            best = share, f"{so}: write it so, in polars {' and '.join(lines)}"
    return best


def _part(ids: pl.Series, key: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The ids of both whose bare writing, without case, spaces and leading zeros, falls into one of so many parts that
    about `_COMPARED` are left: an id and its other writings fall into the same part. All where they are no more."""
    parts = (len(ids) + len(key)) // _COMPARED
    if parts < 2:
        return ids, key

    def mine(s: pl.Series) -> pl.Series:
        bare = s.cast(pl.String).str.strip_chars().str.strip_chars_start("0").str.to_lowercase()
        return s.filter((bare.hash(0) % parts == 0) | s.is_null())

    def parted(s: pl.Series) -> pl.Series:
        return pl.concat([mine(s.slice(at, _SLICE)) for at in range(0, max(1, len(s)), _SLICE)])

    return parted(ids), parted(key)


def _ways(ids: pl.Series) -> list[tuple[str, _Way | None, _Way | None]]:
    """(in words, what to do with the key, with the ids of the events), the first where ids may stay as they are."""
    lower: _Way = ".str.to_lowercase()", lambda e: e.str.to_lowercase()
    upper: _Way = ".str.to_uppercase()", lambda e: e.str.to_uppercase()
    bare: _Way = '.cast(pl.String).str.replace("^0+(.)", "$1")', lambda e: e.cast(pl.String).str.replace("^0+(.)", "$1")
    strip: _Way = ".str.strip_chars()", lambda e: e.str.strip_chars()
    if ids.dtype.is_integer():
        return [("as integers", (".cast(pl.Int64, strict=False)", lambda e: e.cast(pl.Int64, strict=False)), None)]
    width = ids.drop_nulls().str.len_chars().mode()
    out: list[tuple[str, _Way | None, _Way | None]] = [
        ("in lower case", lower, None), ("in upper case", upper, None), ("without the spaces around it", strip, None),
    ]  # fmt: skip
    if len(width):
        n = int(width.sort()[-1])
        padded: _Way = f".cast(pl.String).str.zfill({n})", lambda e: e.cast(pl.String).str.zfill(n)
        out.append((f"with leading zeros, {n} characters long", padded, None))
    return [
        *out, ("without leading zeros", bare, None), ("in lower case, as the log's then", lower, lower),
        ("without leading zeros, as the log's then", bare, bare),
    ]  # fmt: skip


def _written(s: pl.Series, way: _Way | None) -> pl.Series:
    return s if way is None else s.to_frame().select(way[1](pl.col(s.name))).to_series()


def _line(table: str, column: str, way: _Way) -> str:
    return f"{table}.with_columns({polars_column(column)}{way[0]})"


def joins(config: Config, log: Log, day: Day, schema: Schema) -> Iterator[str]:
    """A line for each side table that lacks ids of the day."""
    for name, side in (("users", "user"), ("items", "item")):
        table, joined = getattr(config.data, name), day.facts[f"{name}_joined"]
        if table is None or joined == 1:
            continue
        whole, events = (day.users, day.user_events) if side == "user" else (day.items, day.item_events)
        alike, listed = None, log.listed(side, day.day)
        absent = seen = whole[ID].filter(pl.Series(events > 0))
        if listed is not None:
            ids, absent = seen.rename(getattr(config.data.events, side)), seen.filter(~seen.is_in(listed.implode()))
            alike = told(name, ids, listed.rename(table.key), joined, "the day's")
        seen_ids = int((events > 0).sum())
        lost = round((1 - joined) * seen_ids)
        if table.version is not None and listed is not None:
            absent = _absent(seen, schema, side, table.key)
            if hidden := lost - len(absent):
                there = f"{hidden:,} of the day's {seen_ids:,} {name} are in the table of {name}, with a later"
                why = f"{there} {table.version} (data.{name}.version) than the day knows"
                yield f"{table.key}: {why}: what the table says of them is unknown on this day"
            if not len(absent):
                continue
            lost = len(absent)
        if joined < _MOSTLY or alike:
            fix = alike[1] if alike else f"is data.{name}.key the id that the events have, and the table of this day?"
            has = f"the table of {name}, {schema.sides[side].where}, has {joined:.1%} of the day's {name}"
            yield f"{table.key}: {has}: {fix}"
        elif name == "items" and "items" not in config.export.model_fields_set:
            what = f"{lost:,} of the day's {seen_ids:,} items are not in the table of items{such_as(absent.sort())}"
            yield f"{table.key}: {what}, and are served all the same: export.items: listed leaves them out"


def _absent(ids: pl.Series, schema: Schema, side: str, key: str) -> pl.Series:
    """The ids of a day that no row of a side table has, whatever its version."""
    known = whole_column(schema.sides[side], key).cast(pl.String)
    return ids.filter(~ids.cast(pl.String).is_in(known.unique().implode()))
