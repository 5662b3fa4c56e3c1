"""What is hardly so in a log that was understood, rows that cannot be read as they are, and columns that mark who is no
user: staff, tests and programs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import polars as pl

from dmtl_cli.config.errors import Exit, UserError, short
from dmtl_cli.data.log.checked.invalid import is_of_1970
from dmtl_cli.data.log.formats.source import Store
from dmtl_cli.data.log.values.lengths import clock_seconds, not_negative
from dmtl_cli.data.log.values.types import WORDS
from dmtl_cli.data.log.values.written import floats
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import in_brackets, quoted, sql_column, sql_name, sql_value, sql_values
from dmtl_cli.guess.columns.values import RETURN, is_flags, percent, share
from dmtl_cli.guess.reading.files import CSV, JSON, paths_of
from dmtl_cli.guess.reading.rows import rows_of
from dmtl_cli.guess.reading.tables import Table

USERS = 100
"""users below which hardly anything is learned"""
_ITEMS, _ROWS = 20, 1_000  # items, and rows or requests, of a user
_CROWD = 0.01  # of all rows, that one user alone has
TIMES = 3
"""rows of the next user that one has who is hardly a person"""
_FEW = 5  # values that a message lists
_CATALOGUE = 500  # items from which on they may be all that are offered, however many users there are
_AGAIN = 1.2  # rows of an item, below which it is hardly shown twice
_SHORT = 3  # characters of any other id where 0 is none
BYTES = 256 << 20
"""of rows that are looked through"""


class Ids(NamedTuple):
    """The distinct ids of a column, and the rows of each."""

    column: str
    ids: pl.Series
    rows: pl.Series

    @staticmethod
    def of(column: pl.Series) -> Ids:
        """Those of rows, but for rows without one."""
        counts = column.drop_nulls().value_counts(name=":n")
        return Ids(column.name, counts[column.name], counts[":n"])


def warnings(user: str, item: str, users: int, items: int, rows: int, clicks: str | None) -> list[str]:
    """A line each.

    Args:
        user: the column of users, as that of items.
        users: how many there are, as of `items` and `rows`.
        clicks: the column of clicks.
    """
    out = []
    of_items = words.count(items, "item")
    seen = f"{user}: {words.count(users, 'user')} in {rows:,} rows of {of_items}"
    if users < USERS or items > _ITEMS * users or rows > _ROWS * users:
        out.append(f"{seen}: is it the user? Else name the column of their ids in data.events.user")
    elif (items < _CATALOGUE and users > _ITEMS * items) or rows < _AGAIN * items:
        seen = f"{item}: {of_items} in {rows:,} rows of {words.count(users, 'user')}"
        out.append(f"{seen}: is it the item? Else name the column of their ids in data.events.item")
    if clicks is None:
        out.append("no column of clicks (data.events.click): every row counts as a click")
    return out


def null_ids(of: Ids, *, text: bool, dropped: bool = False) -> list[str]:
    """A line for each id that is a word for none: see `words.NONE`.

    Args:
        text: whether the log is CSV or JSON.
        dropped: whether rows without an id are left out, and so those of an empty text.
    """
    if of.ids.dtype != pl.String:
        return []
    none = words.NONE[1:] if dropped else words.NONE
    found = pl.DataFrame({"id": of.ids, "rows": of.rows}).filter(pl.col("id").is_in(none)).sort("id")
    fix = "name it in data.null_values" if text else "write null in its place"
    drop = "data.events.invalid_rows: drop leaves rows without an id out"
    seen = "is an id: if it means none"
    return [f"{of.column}: {word!r}, in {n:,} rows, {seen}, {fix}; {drop}" for word, n in found.rows()]


def nameless(of: Ids) -> list[tuple[str, int, str]]:
    """(id, its rows, the condition of the other rows) of each id of a column that looks like nobody, or like no item:
    zeros, -1, 0 where no other id is short, a word such as guest or unknown, as the row of a dimension table is that
    stands for what is not in it; those with most rows first."""
    found = _counted(of)
    return [(word, n, _other_than(of, word)) for word, n in found.filter(_is_none(found["id"])).rows()]


def nobody(users: Ids, *, where: str | None = None) -> list[str]:
    """A line for each user that looks like nobody (see `nameless`), where the config asks for `where` already."""
    total = int(_counted(users)["rows"].sum())
    seen = "looks like nobody: if it stands for guests"
    return [
        f"{users.column}: {word!r}, in {n:,} rows ({n / total:.1%}), {seen}, {_without(others, where)}"
        for word, n, others in nameless(users)
    ]


def crowd(users: Ids, *, kept: bool = False, where: str | None = None) -> list[str]:
    """A line where one user has far more rows than any other, as many under one id have.

    Args:
        kept: whether the line is written where it is kept and shared, and so names no id that may be a person's.
        where: that of the config.
    """
    found = _counted(users)
    people, total = found.filter(~_is_none(found["id"])), int(found["rows"].sum())
    if len(people) < USERS:
        return []
    most, second = people["rows"].head(2)
    if most <= _CROWD * total or most < TIMES * second:
        return []
    times = f"{most / second:.1f} times as many as the next"
    who = "one id" if kept else repr(people["id"][0])
    seen = f"{users.column}: {who} alone has {most:,} rows ({most / total:.1%}), {times}: is it one person?"
    return [f"{seen} If it is guests under one id, or a program, {_without(_other_than(users, 'ID'), where)}"]


def no_item(items: Ids, users: Ids, *, where: str | None = None) -> list[str]:
    """A line for each item that looks like none (see `nameless`), with what leaves such users out too, where there are
    any, since `where`, that of the config, is one condition."""
    total, lines = int(_counted(items)["rows"].sum()), list[str]()
    named = nameless(items)
    others = [condition for _, _, condition in nameless(users)]
    mine = [condition for _, _, condition in named]
    for word, n, condition in named:
        seen = f"{items.column}: {word!r}, in {n:,} rows ({n / total:.1%}), looks like no item"
        seen = f"{seen}: if it stands for an unknown one"
        all_of = f"; with all such users and items: {quoted(both(where, ' AND '.join([*others, *mine])))}"
        lines.append(f"{seen}, {_without(condition, where)}{all_of if others else ''}")
    return lines


def _counted(of: Ids) -> pl.DataFrame:
    """[id as text, rows], those with most first; without the words for none."""
    found = pl.DataFrame({"id": of.ids.cast(pl.String), "rows": of.rows.cast(pl.Int64)}).drop_nulls()
    return found.filter(~pl.col("id").is_in(words.NONE)).sort("rows", "id", descending=[True, False])


def _is_none(ids: pl.Series) -> pl.Series:
    """[n] which of distinct ids look like nobody's: 0 too where no other one is as short as the first numbers are."""
    named = ids.str.strip_chars().str.to_lowercase().str.contains(words.NOBODY)
    others = ids.filter((ids != "0") & ~named)
    if len(others) >= USERS and (others.str.len_chars() >= _SHORT).all():
        return named | (ids == "0")
    return named


def _other_than(of: Ids, one: str) -> str:
    """The condition of rows with another id, or with none: those are counted as invalid, and not as asked for."""
    return f"COALESCE({sql_column(of.column)} <> {sql_value(one) if of.ids.dtype == pl.String else one}, TRUE)"


def _without(condition: str, where: str | None) -> str:
    """What leaves the rows of an id out, where the config asks for `where` already."""
    return f"set data.events.where: {quoted(both(where, condition))}, which leaves such rows out"


def both(where: str | None, condition: str) -> str:
    """The SQL condition of the rows for which two hold."""
    return f"{in_brackets(where)} AND {condition}" if where else condition


def sessions(user: str, of_day: pl.Series, others: pl.Series) -> list[str]:
    """A line where no user, or almost none, returns: a request or a session was taken for the user.

    Args:
        of_day: the users of a day, all of them.
        others: users of some rows of other days.
    """
    some = others.drop_nulls().cast(pl.String).unique()
    if len(some) < USERS:
        return []
    back = share(some.is_in(of_day.drop_nulls().cast(pl.String).unique().implode()))
    if back >= RETURN:
        return []
    seen = (
        f"{back:.1%} of {len(some):,} ids of other days are there on this one" if back else "no id is there on two days"
    )
    return [f"{user}: {seen}: is it a request or a session? Else name the column of the users' ids in data.events.user"]


def unknown_clicks(click: pl.Series) -> str | None:
    """What nulls a column of clicks has (`null_click`); None where it has none, or where it is a date or timestamp, of
    which a null is no click without a word."""
    if not click.null_count() or (not click.dtype.is_numeric() and click.dtype != pl.Boolean):
        return None
    return f"{percent(share(click.is_null()))} of {click.name} is empty: no click{'s?' if is_flags(click) else ''}"


def invalid_rows(frame: pl.DataFrame, roles: Roles, broken: Sequence[Broken]) -> str | None:
    """Which rows cannot be read (`invalid_rows`): lines that do not parse, rows without a user, item or time, with a
    time of 1970, or with a duration below 0."""
    why = [one.why for one in broken if one.why]
    for guess in (roles.user, roles.item, roles.time):
        if guess is None:
            continue
        s = frame[guess.column]
        if empty := share(s.is_null() | (s == "") if s.dtype == pl.String else s.is_null()):
            why.append(f"{percent(empty)} of rows have no {guess.column}")
        if guess is roles.time and (unset := share(is_of_1970(s))):
            why.append(f"{percent(unset)} of rows have a {guess.column} of 1970, as of a clock that was never set")
    if (x := roles.durations(frame)) is not None and (below := share(x < 0)):
        why.append(f"{percent(below)} of clicks have a {x.name} below 0")
    elif roles.duration is not None and (
        below := share(frame[roles.duration.column].cast(pl.Float64, strict=False) < 0)
    ):
        why.append(f"{percent(below)} of rows have a {roles.duration.column} below 0, none of them a click, which stay")
    return "; ".join(why) or None


def unfit(role: str, s: pl.Series) -> tuple[str, str]:
    """What is said of a column that cannot have the role that it is given, with a value that does not fit, and what
    would help."""
    flags, known = "0 and 1, or yes and no as one pair (J and N, oui and non)", s.drop_nulls()
    needed = {
        "click": f"{flags}, or of times",
        "time": "times",
        "duration": "numbers, or 3:45, or 1h 20m",
        "conversion": flags,
    }.get(role, "ids")
    bad, hint = known, from_floats(role, s) if needed == "ids" and s.dtype.is_float() else "name another"
    if role == "time" and known.dtype == pl.String:
        # most fit, and the column is right: what does not is what is to be known
        bad = _no_times(known)
        hint = "name another, or write a time in its place, or none" if len(bad) < len(known) else hint
    if known.dtype == pl.String and needed not in ("ids", "times"):
        if role == "duration":
            fits = clock_seconds(known).is_not_null() | not_negative(known).is_null() | floats(known).is_not_null()
        else:
            fits = known.str.to_lowercase().is_in(WORDS)
        bad = known if fits.all() else known.filter(~fits)
        values = known.unique(maintain_order=True).head(_FEW + 1).to_list()
        only = "only " * (len(values) == 1)
        have = f"{len(bad):,} such of {len(known):,} values"
        if len(values) <= _FEW:
            have = only + ", ".join(short(v, 40) for v in values)
        hint = f"it has {have}: write {'seconds' if role == 'duration' else '0 and 1'} in their place, or name another"
    elif known.dtype.is_numeric() and role in ("click", "conversion"):
        bad = known.filter(~known.cast(pl.Float64).is_in([0.0, 1.0]))
    kind = f"{s.dtype}, such as {short(str(bad.head(1).to_list()[0]), 40)}" if len(bad) else "empty"
    return f"--{role}: expected a column of {needed}, {s.name} is {kind}", hint


def from_floats(role: str, s: pl.Series) -> str:
    """What would help where a column of floats is to be that of a role's ids."""
    if (s.drop_nulls() % 1 != 0).any():
        return "name another"
    made = quoted(f"CAST(CAST({sql_column(s.name)} AS DOUBLE) AS BIGINT)")
    return f"write integers, or {role}: {role}_key and computed: {{{role}_key: {made}}} in data.events"


def _no_times(texts: pl.Series) -> pl.Series:
    """The texts that are written otherwise than most: all of them where they are written alike."""
    shapes = texts.str.replace_all(r"\p{L}+", "a").str.replace_all(r"\d", "9")
    usual = shapes.value_counts(sort=True, name=":n")[0, 0]
    other = texts.filter(shapes != usual)
    return other if 0 < len(other) < len(texts) / 2 else texts


@dataclass(frozen=True)
class Broken:
    """What was found in the text files of some days."""

    lines: int
    """that do not parse"""
    rows: int
    """lines that were looked at, these among them"""
    example: str
    """where the first one is, and what is wrong"""
    looked: int
    """files that were looked through to their end"""
    files: int
    refused: tuple[str, ...]
    """why files cannot be read at all"""
    zeros: tuple[str, ...] = ()
    """words for a time that is not known, as those of `words.ZERO_DATES`"""
    timeless: int = 0
    """rows whose time is one of them"""
    of: str = ""
    """the table, where it is not that of the events"""

    @property
    def why(self) -> str | None:
        """What `invalid_rows` is written with; None where every line parses and has a time."""
        zeros = f"{self.timeless:,} of {self.rows:,} rows have the time {' or '.join(self.zeros)}" if self.zeros else ""
        if not self.lines:
            return zeros or None
        plural = "s do" if self.lines > 1 else " does"
        looked = f"{self.rows:,} in {words.count(self.looked, 'file')}"
        seen = f"{self.lines:,} line{plural} not parse of {looked}, such as {self.example}"
        return f"{seen}; {zeros}" if zeros else seen

    def among_nulls(self, table: Table) -> Table:
        """The table of the events with the words for a time that is not known among those for null."""
        if table.text is None or not self.zeros:
            return table
        nulls = tuple(sorted({*table.text.nulls, *self.zeros}))
        return replace(table, text=replace(table.text, nulls=nulls))

    @property
    def warnings(self) -> list[str]:
        """A line each: what no key helps, and that not all was looked at."""
        out = [f"{why}: a run of its day would end there" for why in self.refused]
        if self.looked < self.files:
            seen = f"{self.looked:,} of {self.files:,} files{f' of {self.of}' if self.of else ''}, the newest first"
            out.append(f"lines that do not parse were looked for in {seen} ({BYTES >> 20} MiB of rows)")
        return out


def broken_lines(table: Table, days: tuple[dt.date, dt.date] | None, time: str | None = None) -> Broken | None:
    """Looks through the files of some days, the newest first, until `BYTES` of rows were seen. None where the table is
    no CSV or JSON.

    Args:
        days: the first and the last; None: all files.
        time: the column of times, where a row may have none.

    Raises:
        UserError: 74 the storage fails.
    """
    if table.files.form not in (CSV, JSON):
        return None
    paths, store = paths_of(table.files, days), Store(table.root)
    lines, rows, size, looked, example, refused, zeros = 0, 0, 0, 0, "", list[str](), dict[str, int]()
    for path in reversed(paths):
        if size >= BYTES:
            break
        try:
            for part in rows_of(store.file(path), table.written, table.names):
                lines, rows = lines + len(part.lost), rows + len(part.frame) + len(part.lost)
                for word, n in _zero_dates(part.frame, time):
                    zeros[word] = zeros.get(word, 0) + n
                example = example or (part.lost[0].why.removeprefix(f"{store.where('')}/") if part.lost else "")
                size += int(part.frame.estimated_size())
                if size >= BYTES:
                    break
            else:
                looked += 1
        except UserError as e:
            if e.code not in (Exit.DATA, Exit.NO_INPUT):
                raise
            looked += 1
            refused += [e.message] if e.code == Exit.DATA else []  # one without rows ends no run where others have some
    return Broken(lines, rows, example, looked, len(paths), tuple(refused), tuple(sorted(zeros)), sum(zeros.values()))


def _zero_dates(rows: pl.DataFrame, time: str | None) -> list[tuple[str, int]]:
    """(word, rows) of a column of times that are text: of zeros, or without a digit, as `Invalid date` is, and in no
    other column, where it may be a value."""
    if time is None or rows.schema.get(time) != pl.String:
        return []
    zeros = rows[time].is_in(words.ZERO_DATES)
    odd = rows[time].filter(zeros | rows[time].str.strip_chars().str.contains(r"^[^\d]+$"))
    found = odd.value_counts(name=":n").rows()
    others = [s for s in rows if s.dtype == pl.String and s.name != time] if found else []
    return [(word, n) for word, n in found if word in words.SAID or not any((s == word).any() for s in others)]


@dataclass(frozen=True)
class Mark(Guess):
    """A column that marks who is no user."""

    side: str | None = None
    """of the table that has it, user or item; None: the events'"""
    condition: str = ""
    """of the rows without the mark"""
    is_typed: bool = False
    """whether the config has to name the types of what the condition reads"""


def mark_of(s: pl.Series, side: str | None, table: Table) -> Mark | None:
    """A column of flags that is named like a mark of who is no user."""
    c = s.name
    if not (is_flags(s.drop_nulls()) and words.says_all(c, words.STAFF)):
        return None
    parts = [sql_column(part) for part in c.split(".")] if side else []  # of a table's object its field
    name = f"{side}s.{'.'.join(parts)}" if side else sql_name(c)
    is_typed = table.files.form in (CSV, JSON)  # of others a text is what it says
    if s.dtype != pl.Boolean:
        without = f"COALESCE({name}, 0) = 0"
    elif yes := () if is_typed else table.yes.get(c, ()):
        without = f"NOT COALESCE({name}, '') {sql_values(yes)}"
    else:
        without = f"NOT COALESCE({name}, FALSE)"
    return Mark(c, way_to_leave_out(without), side=side, condition=without, is_typed=is_typed)


def way_to_leave_out(condition: str) -> str:
    return f"a mark of who is no user; to leave their rows out: data.events.where: {quoted(condition)}"
