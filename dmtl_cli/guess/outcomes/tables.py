"""Outcomes that lie in a table of their own: which table beside the events has rows by an exposure's id, and which
aggregates make columns of the events of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import polars as pl

from dmtl_cli.config.expressions import aggregated_roots_of, sources_of
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess, Roles, share_of
from dmtl_cli.guess.columns.sql import sql_column
from dmtl_cli.guess.columns.values import FEW, free, has_several, is_id, share, time_unit, within
from dmtl_cli.guess.exposures.references import MET, THERE, Exposures, exposures_of, is_own, reference
from dmtl_cli.guess.outcomes.aggregates import are_codes, is_state, number_of, states_of
from dmtl_cli.guess.outcomes.waits import Wait
from dmtl_cli.guess.reading.exploding import elements, parallel
from dmtl_cli.guess.reading.rewrites import rank_of
from dmtl_cli.guess.reading.tables import Table

ALL = 0.9
"""of the exposures have a row: a row says nothing by itself then"""
_AGAIN = 0.01  # of the rows are of an exposure that has another one
_NEARLY = 0.9  # of the exposures with rows have one of a kind
_FEW = 4  # kinds of rows that are named
_ROWS_EACH, _ONCE = 1.2, 0.95  # rows a list at least; of the rows of lists have an item for the first time
ROW = "COUNT(*) > 0"
"""makes the column that tells whether an exposure has a row"""
_COUNTED = re.compile(r"COUNT\((?:\*|CASE WHEN (.*) THEN 1 END)\) > 0")
_MONTH = "(?:0[1-9]|1[0-2])"
_REST = r"(?:[._-](?:\d\d[._-]?)?\d\d(?![._-]?\d))?"  # of the last day of a span
_DATES = re.compile(rf"[._-]*(?<!\d)(?:19|20)\d\d[._-]?(?:{_MONTH}[._-]?\d\d{_REST}|[wW]\d\d|{_MONTH})(?![^\W_])")
_ID = ":id"
_NAMED = ", named like "  # of what `roles.best` says
_ANY = words.any_of("all data part export full dump rows out file table alle todo tutti tout")
"""names of files that say nothing"""


@dataclass(frozen=True)
class Outcomes:
    """A table of what came of exposures."""

    name: str
    table: Table
    key: str
    event_key: str
    columns: dict[str, str] = field(default_factory=dict)
    """expressions by the name of the column that they make"""
    left: tuple[str, ...] = ()
    """columns of the table that none is made of"""
    why: str = ""
    good: tuple[tuple[int, str, str], ...] = ()
    """(rank, column, why) of those that may tell a good click, the best first"""
    computed: tuple[str, str] | None = None
    """the expressions by which the events and the table have the key, where no column has it"""
    once: bool = False
    """whether several exposures have one key, of which one is to be read"""
    states: dict[str, dict[str, str]] = field(default_factory=dict)
    """by each column of few texts of which an exposure may have several, the flag of each"""
    rate: float = 1.0
    """share of the sample's exposures that have a row"""
    through: str | None = None
    """TABLE.COLUMN of what `key` names in place of an exposure, as `data.events.joined` has it"""
    item: tuple[str, str] | None = None
    """the events' column of items and its rows', of whose exposures alone they are then, where their `through` names
    several"""
    of_user: bool = False
    """whether `key` is the user: a row is of all that was shown to them, for rows of another table to go through"""
    mapped: pl.DataFrame | None = field(default=None, compare=False)
    """the table's rows with the exposure's id for `key` then"""
    wait: Wait | None = None
    """when exposures were shown and rows came, where an id is of no single exposure"""
    dated: str | None = None
    """the column that tells the day of its rows, where its files do not and the key is of a day"""
    said_of_days: str = ""
    """what a person should know of rows in later days' files"""
    copies: Guess | None = None
    """the id of its rows, of which some come twice"""
    reaches: int = 0
    """how many days' files after its own a day reads, as one of the users lies in these, or what came of it"""

    @property
    def days_after(self) -> int:
        """How many days' files after its own a day reads too."""
        return max(self.reaches, self.wait.days_after if self.wait else 0)

    @property
    def rows(self) -> pl.DataFrame:
        """Those of the table's sample, by the exposure's id."""
        return self.table.frame if self.mapped is None else self.mapped

    def ids(self, rows: pl.DataFrame) -> pl.Series:
        """Of such rows those by which they are of an exposure."""
        return rows[self.key] if self.computed is None else ids_of(rows, self.computed[1])

    @property
    def sources(self) -> set[str]:
        """The columns that are read, of the table and of one that it names."""
        keys = sources_of(self.computed[1]) if self.computed else [self.key]
        keys += [self.through.partition(".")[2]] if self.through else []
        keys += [self.wait.came[0]] if self.wait else []
        keys += [self.item[1]] if self.item else []
        return {*keys, *(c for text in self.columns.values() for c in aggregated_roots_of(text))}

    @property
    def event_sources(self) -> set[str]:
        """The events' columns that are read for it."""
        return {*sources_of(self.computed[0])} if self.computed else {self.event_key}


Others = Sequence[tuple[Table, Roles]]
"""tables beside the events, each with the roles of its own columns"""


def outcomes_of(events: Table, others: Others, roles: Roles) -> list[Outcomes]:
    """The tables that have rows by a column of the events of which nearly each row has a value of its own, and which is
    neither the user nor the item; none where these are not known. Where no column tells the click, a row of one of them
    is: of the one that is named so, else of that which most exposures have. The rows of an exposure have one user."""
    if roles.user is None or roles.item is None:
        return []
    exposures = exposures_of(events.frame, roles.user.column, roles.item.column)
    found: list[Outcomes] = []
    for table, beside in others if exposures.own else ():
        if table.has_no_path:
            continue
        taken = {*events.frame.columns, *(c for one in found for c in one.columns)}
        name = free(named_after(table), {one.name for one in found})
        user = beside.user.column if beside.user else None
        if (one := of_reference(exposures, table, user, taken, name)) is not None:
            found.append(one)
    return with_rows(found, roles, {*events.frame.columns})


def with_rows(
    found: Sequence[Outcomes], roles: Roles, taken: set[str], later: Sequence[Outcomes] = ()
) -> list[Outcomes]:
    """Each with a column that tells whether there is a row, where that says something; one of these is the click where
    no column is named so, or a flag of the rows that say it.

    Args:
        taken: columns of the events and of `later`.
        later: other tables of what came of them, whose columns may be the click.
    """
    flags = {(k, flag): v for k, one in enumerate(found) for by in one.states.values() for v, flag in by.items()}
    told = any(
        words.by_name(c, words.CLICK) > (2 if (k, c) in flags else 1)
        for k, one in enumerate([*found, *later])
        for c in one.columns
    )
    open_ = roles.click is None and not told
    says = next((at for at, v in flags.items() if open_ and _says_clicks(v)), None)
    rows = [one for one in found if one.rate <= ALL] if open_ and says is None else []
    click = max(rows, key=lambda one: (_says_clicks(one.name), one.rate), default=None)
    if click is not None and not _says_clicks(click.name) and (flag := _of_nearly_all(click)) is not None:
        says, click = (found.index(click), flag), None
    out: list[Outcomes] = []
    for k, one in enumerate(found):
        names = {*taken, *(c for each in (*found, *out) for c in each.columns)}
        if says is not None and says[0] == k:
            named = {c: free("clicked", names) if c == says[1] else c for c in one.columns}
            states = {c: {v: named[flag] for v, flag in by.items()} for c, by in one.states.items()}
            one = replace(one, columns={named[c]: text for c, text in one.columns.items()}, states=states)
        if one.rate <= ALL:
            name, rank = free("clicked" if one is click else one.name, names), rank_of(one.name)
            good = ((rank, name, f"whether there is a row of {one.name}"),) if rank is not None else ()
            is_whole = one is not click and not one.states
            one = replace(one, columns={name: ROW, **one.columns}, good=good if is_whole else one.good)
        out.append(one)
    return out


def _of_nearly_all(one: Outcomes) -> str | None:
    """The flag of a kind of rows that nearly each exposure with rows has, and not all, as what was opened and sometimes
    saved without it; None where there is none, or several."""
    rows = one.rows.with_columns(one.ids(one.rows).alias(_ID)).drop_nulls(_ID)
    flags = [
        (pl.col(c).cast(pl.String) == v).any().alias(flag) for c, by in one.states.items() for v, flag in by.items()
    ]
    if not flags or not len(rows):
        return None
    shares = rows.group_by(_ID).agg(flags).drop(_ID).mean().row(0, named=True)
    most = [flag for flag, n in shares.items() if n >= _NEARLY]
    return most[0] if len(most) == 1 and shares[most[0]] < 1 else None


def _says_clicks(name: str) -> bool:
    return words.by_name(name, words.CLICK) > 2 or words.by_name(name, words.CLICKED) > 1


def outcomes_by_pairs(
    events: Table, others: Iterable[Table], roles: Roles, later: Sequence[Outcomes] = ()
) -> list[Outcomes]:
    """The tables whose rows, or the elements of whose lists, name an item and the list or screen that it was shown in:
    of an order the lines, each with the list it came from. Where no column tells the click, a row of one of them is.

    Args:
        later: tables that were found by one id, with a click perhaps.
    """
    if roles.user is None or roles.item is None:
        return []
    found: list[Outcomes] = []
    requests = requests_of(events.frame, roles.user.column, roles.item.column)
    for other in (table for table in others if requests and not table.has_no_path):
        for table in rows_or_elements(other):
            taken = {*events.frame.columns, *(c for one in (*later, *found) for c in (*one.columns, one.event_key))}
            if (one := _by_pair(table, events, requests, roles.item.column, taken)) is not None:
                found.append(one)
                break
    return with_rows(found, roles, {*events.frame.columns, *(c for one in later for c in one.columns)}, later)


def rows_or_elements(table: Table) -> Iterator[Table]:
    """A table as it is, then with a row for each element of its lists, of those beside each other or of one alone."""
    yield table
    beside = [names for names, _ in parallel(table.frame, 1)]
    alone = [(c,) for c, kind in table.frame.schema.items() if isinstance(kind, pl.List)]
    for names in (*beside, *alone):
        yield replace(table, explode=names, frame=elements(table.frame, names))


def requests_of(frame: pl.DataFrame, user: str, item: str) -> list[str]:
    """Columns of lists, screens or requests: each has several rows, of an item one; that of most values first."""
    ids = [c for c in frame.columns if is_id(frame[c]) and c not in (user, item) and time_unit(frame[c]) is None]
    many = {c: frame[c].n_unique() for c in ids}
    several = [c for c in ids if FEW < many[c] <= len(frame) / _ROWS_EACH]
    pairs = {c: frame.select(c, item).drop_nulls() for c in several}
    found = [c for c, rows in pairs.items() if len(rows) and rows.n_unique() >= _ONCE * len(rows)]
    return sorted(found, key=lambda c: (-many[c], -words.by_name(c, words.REQUEST)))


def _had(rate: float) -> str:
    """Args: rate: share of a sample of the exposures that have a row in a sample of the table, which may lack some."""
    return f"{rate:.0%} or more of exposures have a row"


def _by_pair(table: Table, events: Table, requests: Sequence[str], item: str, taken: set[str]) -> Outcomes | None:
    frame = table.frame
    ids = [c for c in frame.columns if is_id(frame[c].drop_nulls()) and frame[c].n_unique() > FEW]
    items = [c for c in ids if not is_own(frame[c]) and as_written(frame[c], events.frame[item]) >= MET]
    for request in requests if items else ():
        shown = events.frame[request].unique()
        pairs = ids_of(events.frame, pair_of(request, item)).drop_nulls()
        of = [c for c in ids if within(frame[c], shown) >= THERE]
        for c, i in ((c, i) for c in of for i in items if i != c):
            rows = frame.filter(pl.col(c).is_in(shown.implode()))
            met = ids_of(rows, pair_of(c, i)).drop_nulls()
            if len(met) >= FEW and share(met.is_in(pairs.unique().implode())) >= MET:
                both = ids_of(events.on_days_of(table).frame, pair_of(request, item)).drop_nulls()
                rate = share(both.is_in(met.implode()))
                return of_pairs(table, rows, (request, item), (c, i), rate, taken)
    return None


def as_written(ids: pl.Series, known: pl.Series) -> float:
    """Share of ids that are among the known ones, as `within` has it, where one side writes numbers as text too: a pair
    is put together as text."""
    if ids.dtype.is_integer() != known.dtype.is_integer():
        ids, known = ids.cast(pl.String), known.cast(pl.String)
    return within(ids, known)


def of_pairs(
    table: Table, rows: pl.DataFrame, shown: tuple[str, str], named: tuple[str, str], rate: float, taken: set[str]
) -> Outcomes:
    """The outcomes of a table whose rows name exposures by two columns: a list, or a user, and an item.

    Args:
        rows: those that name one.
        shown, named: these columns, of the events and of the table.
        rate: share of the exposures that have a row.
    """
    key, name = free("exposure", {*taken, *table.frame.columns}), free(named_after(table), taken)
    by = rows.select(pl.struct(*named)).to_series()
    columns, left, states = of_rows(
        rows.drop(*named), by, {*taken, *table.frame.columns, name}, table.written.clocks, plain=False
    )
    why = f"{_had(rate)}, by {' and '.join(shown)}"
    computed = pair_of(*shown), pair_of(*named)
    return Outcomes(name, table, key, key, columns, tuple(left), why, (), computed, states=states, rate=rate)


def of_rows(
    frame: pl.DataFrame, by: pl.Series, taken: set[str], lengths: Collection[str], *, plain: bool = True
) -> tuple[dict[str, str], list[str], dict[str, dict[str, str]]]:
    """What is made of the rows of an id: see `aggregate_of`, and of texts, or codes, with few values the one that the
    id has, or where an id has several a flag of each; the columns of which nothing is made; and these flags.

    Args:
        by: [n] the id of each row, none of them null.
        lengths: columns of seconds whose texts are lengths of time.
        plain: whether numbers keep their names, which else begin with its_ and have no point.
    """
    columns, left, states = dict[str, str](), list[str](), dict[str, dict[str, str]]()
    for s in frame:
        if s.name in taken and plain:
            continue
        names = {*taken, *frame.columns, *columns}
        if s.name.startswith("before.") and s.name.replace("before.", "after.", 1) in frame.columns:
            left.append(s.name)  # what a change stream has of the row before
        elif is_state(s) or are_codes(s, by):
            made, flags = states_of(s, by, names, plain=plain)
            columns |= made
            states |= {s.name: flags} if flags else {}
            left += [] if made else [s.name]
        elif (text := number_of(s, by, is_length=s.name in lengths)) is None:
            left.append(s.name)
        else:
            name = s.name if plain else free(f"its_{s.name.replace('.', '_').replace('$', '')}", names)
            columns[name] = text
    return columns, left, states


def pair_of(one: str, other: str) -> str:
    """Two ids of a row as one value, in SQL."""
    return f"{sql_column(one)} || '/' || {sql_column(other)}"


def ids_of(frame: pl.DataFrame, text: str) -> pl.Series:
    """[n] what an expression, as that of `pair_of`, makes of each row."""
    return frame.select(pl.sql_expr(text).alias("k"))["k"]


def with_outcomes(events: Table, found: Sequence[Outcomes]) -> Table:
    """The events with these columns, of the rows of the tables' samples."""
    frame = with_keys(events.frame, found)
    for one in found:
        made = [pl.sql_expr(text).alias(c) for c, text in one.columns.items()]
        rows = one.rows.with_columns(one.ids(one.rows).alias(_ID)).drop_nulls(_ID)
        if one.wait is not None:
            shown = frame.with_columns(pl.col(one.event_key).alias(_ID))
            by_row = one.wait.pairs(shown, rows, _ID).group_by(":of", maintain_order=True).agg(made)
            frame = frame.with_row_index(":of").join(by_row, on=":of", how="left", maintain_order="left").drop(":of")
        else:
            ids = ([one.event_key, one.item[0]], [_ID, one.item[1]]) if one.item else ([one.event_key], [_ID])
            by_id = rows.group_by(ids[1], maintain_order=True).agg(made)
            frame = frame.join(by_id, left_on=ids[0], right_on=ids[1], how="left", maintain_order="left")
        none = rows.clear().select(made).row(0, named=True)  # what an exposure without a row has
        frame = frame.with_columns(pl.col(c).fill_null(value) for c, value in none.items() if value is not None)
    return replace(events, frame=frame.drop({one.event_key for one in found if one.computed}))


def with_keys(frame: pl.DataFrame, found: Iterable[Outcomes]) -> pl.DataFrame:
    """Events with the ids that are made of several columns."""
    made = {one.event_key: one.computed[0] for one in found if one.computed}
    return frame.with_columns(pl.sql_expr(text).alias(c) for c, text in made.items())


def tell_made(roles: Roles, events: Table, later: Sequence[Outcomes]) -> None:
    """Tells the roles of the events' columns that these tables make: all are outcomes, some say whether there is a row;
    of a label that is one of those the name is none of the log's, so what it is stands in place of what its name
    says."""
    roles.rows = {c for one in later for c, text in one.columns.items() if text == ROW}
    tables = [(one.table, one.columns) for one in later]
    places = {c: (of.files.pattern or of.files.path, text) for of, columns in tables for c, text in columns.items()}
    made_of = {c: of for of, columns in tables for c in columns}
    for role in ("click", "conversion"):
        guess = getattr(roles, role)
        where, text = places.get(guess.column, ("", "")) if guess else ("", "")
        if (found := _COUNTED.fullmatch(text)) and _NAMED in guess.why:
            of = f" where {found[1]}" if found[1] else ""
            frame = events.on_days_of(made_of[guess.column]).frame
            why = f"{share_of(frame[guess.column])}, whether there is a row in {where}{of}"
            states = [by for one in later if guess.column in one.columns for by in one.states.values()]
            rows = frame.filter(frame[guess.column])
            flags = [c for by in states for c in by.values() if c != guess.column and c in rows]
            always = [c for c in flags if rows[c].all()]
            setattr(roles, role, replace(guess, why=f"{why}; each has {' and '.join(always)}" if always else why))
    if roles.made_by and roles.conversion and (sums := _added_up(roles.made_by, later)):
        roles.conversion = replace(roles.conversion, why="; ".join([roles.conversion.why, *sums]))
    roles.outcomes.extend(Guess(c, f"of {where}") for c, (where, _) in places.items() if c not in roles.taken)


def _added_up(rule: str, later: Iterable[Outcomes]) -> list[str]:
    """What is said of the columns of a rule that add up those of rows, under their name, of which exposures have
    several."""
    asked, out = sources_of(rule), list[str]()
    for one in later:
        if share(one.ids(one.rows).drop_nulls().is_duplicated()) <= _AGAIN:
            continue
        told = [*one.states, *([one.table.kinds.column] if one.table.kinds else [])]
        for c in (c for c, text in one.columns.items() if c in asked and text == f"SUM({sql_column(c)})"):
            each = (one.rows.filter(pl.col(c) > 0)[kind].drop_nulls().unique().sort() for kind in told)
            kinds = next((f", of {' and '.join(map(str, each))} alike" for each in each if 1 < len(each) <= _FEW), "")
            out.append(f"{c} is the sum of an exposure's rows{kinds}, MAX({c}) the greatest")
    return out


def of_reference(events: Exposures, table: Table, user: str | None, taken: set[str], name: str) -> Outcomes | None:
    """The outcomes of a table that names exposures by an id, without the column that tells whether there is a row; None
    where it names none."""
    if (met := reference(events, table.frame)) is None:
        return None
    c, key, agrees = met
    if not agrees and user not in (None, key) and has_several(table.frame, key, str(user)):
        return None
    rows = table.frame.filter(pl.col(key).is_not_null())
    columns, left, states = of_rows(rows.drop(key), rows[key], taken, table.written.clocks)
    left += [x for x in rows.columns if x in taken and x not in events.frame.columns]  # another such table has it
    rate = share(events.frame[c].is_in(table.frame[key].unique().implode()))
    if rate > ALL and not any(words.by_name(x, words.CLICK + words.DURATION) for x in columns):
        return None  # what is there for every exposure may be known before it
    why = f"{_had(rate)}, by {c}"
    return Outcomes(name, table, key, c, columns, tuple(left), why, states=states, rate=rate)


def named_after(table: Table) -> str:
    """A name for messages: that of the folder or file, without the day."""
    files = table.files
    path = PurePosixPath(re.sub(r"\{[^}]*\}", "", files.pattern or files.path))
    if not path.parts:  # files of several tables, here
        path = PurePosixPath(re.sub(r"[\W\d_]+$", "", PurePosixPath(files.files[0][0]).name.partition(".")[0]))
    is_file = files.pattern is not None or files.path == files.files[0][0]
    parts = [part for part in path.parts if "=" not in part]
    if is_file and len(parts) > 1 and words.says(PurePosixPath(parts[-1]).stem, _ANY):
        parts = parts[:-1]  # orders/all.csv
        is_file = False
    parts = [re.sub(r"(\.\w+)+$", "", p) if is_file else re.sub(r".*\.(?=[A-Za-z_])", "", p) for p in parts]
    parts = [_DATES.sub("", part) or part for part in parts]  # orders_2026-03-01_2026-03-07
    names = [re.sub(r"\W+|_+$|^_+", "", part.replace("*", "")) for part in parts]
    named = [name for name in names if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name)]
    return named[-1] if named else "outcomes"
