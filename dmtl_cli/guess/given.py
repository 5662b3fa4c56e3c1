"""What a person gives in place of guesses, and why it cannot be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import PurePosixPath

import polars as pl

from dmtl_cli.config.commands import typed
from dmtl_cli.config.errors import Exit, UserError, did_you_mean, folded
from dmtl_cli.config.expressions import (
    TABLES,
    aggregated_of,
    as_own,
    looked_up,
    renamed,
    sources_of,
    unquoted,
    with_quotes,
)
from dmtl_cli.data.log.checked.checks import Checked
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import shortened
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import sql_column
from dmtl_cli.guess.columns.values import free, is_flags, is_id, percent, time_unit, within
from dmtl_cli.guess.exposures.doubts import unfit
from dmtl_cli.guess.exposures.graded import graded
from dmtl_cli.guess.exposures.labels import (
    CLICK_EXPRESSION,
    CLICK_WHY,
    EXPRESSION,
    GOOD,
    GOOD_WHY,
    ITEM_WHY,
    PLACE,
    roles_of,
)
from dmtl_cli.guess.features.goals import example
from dmtl_cli.guess.features.inputs import Inputs
from dmtl_cli.guess.outcomes.asked import by_aggregates, by_rows, refuse_aggregates
from dmtl_cli.guess.outcomes.keys import roles_beside
from dmtl_cli.guess.outcomes.tables import ROW, Outcomes, named_after
from dmtl_cli.guess.reading.rewrites import is_list_of_ids
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.sides.beside import columns_named, no_flags, told_by, with_elements, with_presence
from dmtl_cli.guess.sides.side_tables import told as written_otherwise

_KIND = re.compile(r"COUNT\(CASE WHEN ([^=]+) = '([^']+)' THEN 1 END\) > 0")  # whether there is a row of one kind
_LIKE = 0.45  # of two names are the same letters
_MET = 0.5  # of the ids that a table has are the events'
_LABEL = "such as 'scroll >= 75'"
_BOTH = "--conversion: --duration is given too", "one of them tells a good click"


def told_of(given: Mapping[str, str], named: list[Table], later: Sequence[Outcomes]) -> dict[str, str]:
    """What is given, with the conversion, or the click, as an expression where no table has such a column, and it is no
    name alone. Of `items.read.ms`, a column of the events that no table of items has as `read.ms`, it is in quotes. A
    click that is one has a column in `with_clicks`.

    Args:
        later: what came of exposures: of a column of theirs alone what is made of it is meant, and of a value of one,
            as `saved`, that an exposure has it; `SUM(ms)` is what `with_asked` made of it. A last name, as `seconds`,
            is that of the one column that ends so, as `shown.seconds`.

    Raises:
        UserError: 2 it is neither.
    """
    own = {c for table in named for c in table.frame.columns}
    made = {c: name for c, name in _made_of(later).items() if c != name and c not in own}
    made |= {short: made.get(c, c) for short, c in shortened({*own, *made}).items()}
    made |= {c: name for c, name in _by_table(later).items() if c not in own}
    values = _values_of(later, {*own, *made})
    labels = {name: c for name, c in _rows_of(later).items() if name not in {*own, *made, *values}} | made
    of_rows = {
        role: by_rows(text, later, named[0].frame.columns) for role, text in given.items() if _is_rule(role, text)
    }
    given = {**given, **{role: by_aggregates(text, later) for role, text in of_rows.items()}}
    for role in {"click", "conversion"} & given.keys():
        refuse_aggregates(f"--{role}", given[role] if _is_rule(role, given[role]) else "", later)
        given[role] = values.get(given[role], given[role])  # a kind of what came alone, as a rule names it
    out = {role: (labels if role in ("click", "conversion") else made).get(c, c) for role, c in given.items()}
    out |= {role: with_quotes(_by_values(c, values)) for role, c in out.items() if _is_rule(role, given[role])}
    mine = named[0].frame.columns  # the events, where anything came of them
    states = _states_of(later, mine)
    for role, key in (("conversion", EXPRESSION), ("click", CLICK_EXPRESSION)):
        if role in out:
            out[role] = _by_flags(out[role], states)
        text = renamed(out.get(role, ""), {c: sql_column(name) for c, name in labels.items()})
        if re.fullmatch(r"[\w.:-]*", text) or text in own:
            continue
        if not columns_named(f"--{role}", text, _LABEL) and role == "click":
            raise UserError(f"--click: {text} names no column", "such as 'dwell_ms > 2000'", Exit.USAGE)
        if role == "conversion" and "duration" in given:
            raise UserError(*_BOTH, Exit.USAGE)
        beside = looked_up(text)
        out[key] = as_own(text, {c for name, column in beside if _is_own(c := f"{name}.{column}", column, named)})
        del out[role]
    if CLICK_EXPRESSION in out:
        out.setdefault("click", free("clicked", own))
    return out


def _values_of(later: Iterable[Outcomes], columns: Collection[str]) -> dict[str, str]:
    """The flags of values that one column alone of what came of exposures has, and no column is called so."""
    later = [*later]
    flags = [(v, flag) for one in later for by in one.states.values() for v, flag in by.items()]
    flags += [(of[2], c) for one in later for c, text in one.columns.items() if (of := _KIND.fullmatch(text))]
    flags = [*dict.fromkeys(flags)]
    each = Counter(v for v, _ in flags)
    whole = [one for one in later if one.name not in TABLES]
    dotted = {f"{one.name}.{v}": flag for one in whole for by in one.states.values() for v, flag in by.items()}
    return dotted | {v: flag for v, flag in flags if each[v] == 1 and v not in columns}


def _states_of(later: Iterable[Outcomes], own: Collection[str]) -> dict[str, dict[str, str]]:
    """The flags of texts, and of kinds, of what came of exposures, by the column that tells these, and by TABLE.COLUMN.
    Of two tables that have a value the first; `own`: the events' columns, which are not meant."""
    out = dict[str, dict[str, str]]()
    for one in later:
        kinds = [(of[1].strip('"'), of[2], c) for c, text in one.columns.items() if (of := _KIND.fullmatch(text))]
        flags = [(c, v, flag) for c, by in one.states.items() for v, flag in by.items()]
        for c, value, flag in [*flags, *kinds]:
            for name in [*([] if c in own else [c]), *([] if one.name in TABLES else [f"{one.name}.{c}"])]:
                out.setdefault(name, {}).setdefault(value, flag)
    return out


def _by_values(text: str, values: Mapping[str, str]) -> str:
    """A rule in which a value that stands where a column does, `saved OR printed`, is its flag: no word of SQL is."""
    try:
        named = sources_of(with_quotes(text))
    except ValueError:  # which is said of it as it is typed
        return text
    return renamed(text, {c: values[c] for c in named if c in values})


def _is_rule(role: str, text: str) -> bool:
    """Whether what is given may be an expression and is no name."""
    return role in ("click", "conversion") and re.fullmatch(r"[\w.:-]*", text) is None


def _by_flags(text: str, states: Mapping[str, Mapping[str, str]]) -> str:
    """A rule in which `state = 'paid'` and `state IN (3, 4)`, of a column of which an exposure may have several values,
    are the flags of these values."""
    for c, by in states.items():
        named, value = rf'(?<![\w.])(?:"{re.escape(c)}"|{re.escape(c)})', r"(?:'[^']*'|-?[0-9]+)"

        def flags(found: re.Match[str], by: Mapping[str, str] = by) -> str:
            values = [v.strip("'") for v in re.findall(value, found[1] or found[2])]  # noqa: B023
            if not {*values} <= by.keys():
                return found[0]
            told = " OR ".join(sql_column(by[v]) for v in values)
            return f"({told})" if len(values) > 1 else told

        text = re.sub(rf"{named}\s*(?:=\s*({value})|IN\s*\(([^()]*)\))(?![\w.])", flags, text, flags=re.IGNORECASE)
    return text


def names_in_rules(given: Mapping[str, str]) -> set[str]:
    """The names in what a person says of clicks and good ones, those of tables among them: `orders`, `orders.state`."""
    names = set[str]()
    for role in {"click", "conversion"} & given.keys():
        with suppress(ValueError):  # which is said of it as it is typed
            names |= {given[role], *sources_of(with_quotes(given[role]))}
    return names | {name.partition(".")[0] for name in names}


def whole_names(given: Mapping[str, str], tables: Sequence[Table]) -> dict[str, str]:
    """What is given, with the whole names of columns within objects that are named by their last parts, and as
    `with_presence` and `with_elements` have it."""
    short = shortened({c for table in tables for c in table.frame.columns})
    whole = {role: short.get(c, c) for role, c in given.items()}
    rules = {role: with_presence(c, tables) for role, c in whole.items() if _is_rule(role, c)}
    labels = {role: c for role, c in whole.items() if role in ("click", "conversion") and role not in rules}
    rules |= {role: c for role, c in labels.items() if _is_word(c, tables)}
    return whole | {role: with_elements(c, tables) for role, c in rules.items()}


def _is_word(text: str, tables: Sequence[Table]) -> bool:
    """Whether what is given may be a word in lists alone: no table, column or kind of rows is called so."""
    if any(text in table.frame.columns or text == named_after(table) for table in tables):
        return False
    return not any((s == text).any() for table in tables for s in table.frame if s.dtype == pl.String)


def _made_of(later: Iterable[Outcomes]) -> dict[str, str]:
    """The columns that are made of one column of what came of exposures, by that one, its flags aside."""
    found: dict[str, str] = {}
    for one in later:
        for name, text in one.columns.items():
            read = aggregated_of(text)
            if len(read) == 1 and not text.startswith("COUNT("):
                found.setdefault(read[0], name)
    return found


def _rows_of(later: Iterable[Outcomes]) -> dict[str, str]:
    """The columns that tell whether there is a row, by the name of the table, or of a folder that no other is in."""
    rows = [(one, c) for one in later for c, text in one.columns.items() if text == ROW and one.name not in TABLES]
    folders = Counter(folder for one, _ in rows for folder in _folders(one))
    alone = {folder: c for one, c in rows for folder in _folders(one) if folders[folder] == 1}
    return alone | {one.name: c for one, c in rows}


def _folders(one: Outcomes) -> list[str]:
    """The names of the folders of a table's files, those of days aside."""
    folders = PurePosixPath(one.table.files.pattern or one.table.files.path).parts[:-1]
    return [name for name in folders if name.isidentifier()]


def _by_table(later: Iterable[Outcomes]) -> dict[str, str]:
    """The same, by `orders.status`."""
    named = (one for one in later if one.name not in TABLES)
    return {f"{one.name}.{c}": name for one in named for c, name in _made_of([one]).items()}


def click_columns(given: Mapping[str, str], roles: Roles, later: Sequence[Outcomes]) -> set[str]:
    """The columns of what came of exposures by which a click is told.

    Raises:
        UserError: 2 none is, within a time of what was shown, or one tells a good click too.
    """
    guess, length = roles.click, roles.duration
    text, label = given.get(CLICK_EXPRESSION), given.get(EXPRESSION)
    click = {*sources_of(text)} if text else {guess.column} if guess else set[str]()
    mine = click.intersection(c for one in later if one.wait is not None for c in one.columns)
    good = {*sources_of(label)} if label else {given.get("conversion", length.column if length else "")}
    how = "give one length of time, and edit within in the config"
    if not mine:
        raise UserError("--within: what tells a click is not read within a time of what was shown", how, Exit.USAGE)
    if both := sorted(mine & good):
        raise UserError(f"--within: {both[0]} tells a click and a good one: it has one window", how, Exit.USAGE)
    return mine


def with_clicks(table: Table, given: Mapping[str, str]) -> Table:
    """A table that has the columns of a click that is an expression, with the column that it makes.

    Raises:
        UserError: 2 it does not fit the types of the columns.
    """
    made = given.get(CLICK_EXPRESSION)
    if made is None or not {*sources_of(made)} <= {*table.frame.columns}:
        return table
    values = told_by("--click", made, table, Roles(), {})
    assert values is not None, "the table has all that it names"
    if not (is_flags(values) or time_unit(values) is not None or values.null_count() == len(values)):
        raise no_flags("--click", made, values, "such as 'dwell_ms > 2000'")
    return replace(table, frame=table.frame.with_columns(values.alias(given["click"])))


def with_grades(
    events: Table, roles: Roles, given: Mapping[str, str], ids: Mapping[str, Guess]
) -> tuple[Table, Roles, Mapping[str, str]]:
    """The events with a click where a column has the grades of a label, their roles, and what is given then; as they
    are where none has."""
    if (found := graded(events.frame, roles)) is None:
        return events, roles, given
    click = {"click": free("clicked", events.frame.columns), CLICK_EXPRESSION: found.clicked, CLICK_WHY: found.why}
    given = {**given, **click}
    events = with_clicks(events, given)
    roles = roles_of(events.frame, given, ids)
    roles.grades = found.grades
    return events, roles, given


def _is_own(whole: str, column: str, named: list[Table]) -> bool:
    """Whether a table has a column of the whole name, and none the one that would be looked up in a side table."""
    every = [{*table.frame.columns, *table.other} for table in named]
    return any(whole in columns for columns in every) and not any(column in columns for columns in every)


def of_events(given: Mapping[str, str], columns: Collection[str]) -> Mapping[str, str]:
    """What is given, with the events' one column within objects that ends so in place of a name that they lack, as
    where a table beside them has it."""
    ends = {c: [name for name in columns if name.endswith(f".{c}")] for c in given.values() if c not in columns}
    return {role: ends[c][0] if len(ends.get(c, ())) == 1 else c for role, c in given.items()}


def refuse_given(given: Mapping[str, str], events: Table, roles: Roles, every: Sequence[Table]) -> None:
    """Raises UserError 2 where a given column is not there, or cannot be what it is given as.

    Args:
        every: all tables, of which others may have the column.
    """
    columns = events.frame.columns
    if {"duration", "conversion"} <= given.keys():
        raise UserError(*_BOTH, Exit.USAGE)
    for role, column in given.items():
        if role in (EXPRESSION, CLICK_EXPRESSION, CLICK_WHY, GOOD_WHY, ITEM_WHY, PLACE):
            continue
        if role == "click" and column not in columns and (made := given.get(CLICK_EXPRESSION)):
            absent = next(c for c in sources_of(made) if c not in columns)
            _refuse_unread("--click", absent, events)
            what = f"--click: {events.path} has no column {absent}"
            raise UserError(what, _which(absent, columns), Exit.USAGE)
        _refuse_unread(f"--{role}", column, events)
        if column not in columns:
            others = [table for table in every if table.path != events.path]
            mine = roles_beside(events, others, {r: c for r, c in given.items() if c in columns})
            unjoined = _unjoined(f"--{role}", column, events, mine, others) if role in ("click", "conversion") else None
            if unjoined is not None:
                raise unjoined
            there = [t.path for t in others if column in t.frame.columns]
            which = f", {' and '.join(there)} {'have' if len(there) > 1 else 'has'} one" if there else ""
            what = f"--{role}: {events.path} has no column {column}{which}"
            raise UserError(what, _which(column, columns), Exit.USAGE)
        if [*given.values()].count(column) > 1:
            raise UserError(f"--{role}: {column} is given twice", "a column has one role", Exit.USAGE)
        guess = getattr(roles, role)
        if guess is None or guess.column != column:
            if role == "item" and is_list_of_ids(events.frame[column]):
                what = (
                    f"--item: {column} has lists, whose elements are rows where a user and a time are known beside them"
                )
                raise UserError(what, "give --user COLUMN and --time COLUMN too", Exit.USAGE)
            what, hint = unfit(role, events.frame[column])
            if role == "conversion" and (told := example(events.frame[column])) is not None:
                hint = f"give an expression: --conversion {typed(told)}"
            raise UserError(what, hint, Exit.USAGE)


def refuse_expression(
    option: str, text: str | None, events: Table, inputs: Inputs, roles: Roles, others: Sequence[Table]
) -> None:
    """Raises UserError 2 where an expression of an option names no column, or one of the events or of a side table
    that is not there.

    Args:
        others: tables beside the events, also those that are not used.
    """
    if text is None:
        return
    found, columns = sources_of(text), events.frame.columns
    beside = {f"{name}.{column}" for name, column in looked_up(text)}
    absent = [c for c in found if c not in columns and c not in beside]
    if fields := [c for c in columns if absent and f".{absent[0]}." in f".{c}"]:
        what = f"{option}: {events.path} has no column {absent[0]}, which is an object of {', '.join(fields)}"
        raise UserError(what, f"such as {absent[0]} IS NOT NULL", Exit.USAGE)
    if not found:
        raise UserError(f"{option}: {text} names no column", _which("", columns), Exit.USAGE)
    if absent:
        _refuse_unread(option, absent[0], events)
        raise _absent(option, absent[0], events, inputs, roles, others)
    _refuse_looked_up(option, text, events, inputs)


def _absent(
    option: str, column: str, events: Table, inputs: Inputs, roles: Roles, others: Sequence[Table]
) -> UserError:
    """What is said of a column that the events lack, with where it may be."""
    what, user, item = f"{option}: {events.path} has no column {column}", roles.user, roles.item
    sides = [name for name, side in inputs.sides.items() if column in side.table.frame.columns]
    hint = unquoted(column) or "; ".join(f"the table of {name} has it: write {name}.{column}" for name in sides)
    elsewhere = next((table for table in others if column in table.frame.columns), None)
    if not hint and (user is None or item is None):
        what = f"{what}, and which ones name the user and the item is not known"
        hint = "kinds of events and other tables are looked for by these: give --user COLUMN and --item COLUMN too"
    elif not hint and elsewhere is not None and user is not None and item is not None:
        named, hint = _named_in(elsewhere, events, user, item)
        what = f"{what}; {elsewhere.path} has it, and its rows name {named}"
    elif not hint and (unjoined := _unjoined(option, column, events, roles, others)) is not None:
        return unjoined
    root, _, field = column.partition(".")
    unused = [(path, why) for path, why in inputs.other if field and PurePosixPath(path).name.split(".")[0] == root]
    hint = hint or "; ".join(f"{path} is not used: {why}" for path, why in unused)
    return UserError(what, hint or _which(column, events.frame.columns), Exit.USAGE)


def _unjoined(option: str, name: str, events: Table, roles: Roles, others: Sequence[Table]) -> UserError | None:
    """What is said where a rule names a table that tells nothing of what was shown; None where none is called so."""
    table = next((table for table in others if name == named_after(table)), None)
    if table is None or roles.user is None or roles.item is None:
        return None
    named, hint = _named_in(table, events, roles.user, roles.item)
    return UserError(f"{option}: {table.path} tells nothing of what was shown: its rows name {named}", hint, Exit.USAGE)


def _named_in(table: Table, events: Table, user: Guess, item: Guess) -> tuple[str, str]:
    """What the rows of a table that came of no exposure name of the events, in words, and what would change it."""
    named = {c: s.drop_nulls() for c in table.frame.columns if is_id(s := table.frame[c])}
    there, fixes, lacks = list[str](), list[str](), list[str]()
    for name, g in (("users", user), ("items", item)):
        ids = events.frame[g.column]
        c = max(named, key=lambda c: within(named[c], ids), default=None)
        if c is not None and within(named[c], ids) >= _MET:
            several = ", each in several rows" if named[c].n_unique() < len(named[c]) else ""
            there.append(f"{name} ({c}{several})")
            continue
        lacks.append(g.column)
        ways = [way for s in named.values() if (way := written_otherwise(name, ids, s, within(ids, s))) is not None]
        fixes += [line for _, line in sorted(ways, reverse=True)[:1]]
    asked = f"is the user {user.column}, and the item {item.column}? Else give --user COLUMN and --item COLUMN too"
    if len(there) == 1:
        return f"{there[0]} alone", "; ".join(fixes) or f"write {lacks[0]} into them, or keep one row of each"
    return " and ".join(there) or "nothing that the others do", "; ".join(fixes) or asked


def refuse_label(events: Table, roles: Roles, inputs: Inputs) -> None:
    """Raises UserError 2 where an expression of --conversion does not fit the types of its columns, or makes other
    values than a label may have."""
    text = roles.made_by
    if text is None or (values := told_by("--conversion", text, events, roles, inputs.sides)) is None:
        return
    try:
        Checked(values.alias(GOOD).to_frame(), events.path, 0).flag(GOOD, nulls=True)
    except UserError:
        raise no_flags("--conversion", text, values, _LABEL) from None


def below_zero(text: str | None, frame: pl.DataFrame, roles: Roles) -> Iterator[str]:
    """A line where an expression of --conversion asks for a least number of a column, and some clicks have one and the
    same number below 0 there, as -1 stands for an unknown one, or a length of time has such: they would be bad clicks.
    Of an expression that says more than that nothing is told: it may mean it."""
    least = re.fullmatch(r'(?:"([^"]+)"|([^\s"<>=]+))\s*>=?\s*([^<>=]+)', text or "")
    more = r"\b(OR|AND|XOR|IS|NOT|IN|LIKE|BETWEEN|CASE|NULLIF|COALESCE)\b|[-&|]|^\s*0*\.?0*\s*$"
    if least is None or re.search(more, least[3], re.IGNORECASE):
        return
    c = least[1] or least[2]
    if c not in frame.columns or not frame[c].dtype.is_numeric():
        return
    clicked = roles.clicked(frame)
    mine = frame[c] if clicked is None else frame[c].filter(clicked)
    below = mine.filter(mine < 0)
    if len(below) and (below.n_unique() == 1 or words.by_name(c, words.DURATION)):
        known = typed(f"CASE WHEN {sql_column(c)} >= 0 THEN {text} END")
        have = f"{below[0]:g}" if below.n_unique() == 1 else "less than 0"
        seen = f"{c}: {percent(len(below) / len(mine))} of clicks have {have}, which makes them no good ones"
        yield f"{seen}: if it means unknown, --conversion {known}"


def _which(column: str, columns: Sequence[str]) -> str:
    """The columns that may be meant: those of that last name, else all, with names like it first, as a line is cut."""
    ends = [c for c in columns if column and c.endswith(f".{column}")]
    like = {c: SequenceMatcher(None, folded(column), folded(c)).ratio() for c in columns}
    likest = sorted(columns, key=lambda c: -like[c] if like[c] >= _LIKE else 0.0)
    return f"write one of {', '.join(ends)}" if ends else f"it has {', '.join(likest)}"


def _refuse_unread(option: str, column: str, events: Table) -> None:
    """Raises UserError 2 where a column of the events is of a type that nothing reads."""
    if (kind := events.other.get(column)) is not None:
        raise UserError(f"{option}: {column} is of type {kind}, which nothing reads", "name another", Exit.USAGE)


def _refuse_looked_up(option: str, text: str, events: Table, inputs: Inputs) -> None:
    for name, column in looked_up(text):
        source, side = f"{name}.{column}", inputs.sides.get(name)
        if source in events.frame.columns:
            continue
        if side is None:
            hint = f"it reads columns of the events alone: {', '.join(events.frame.columns)}"
            raise UserError(f"{option}: {source}: no table of {name} was found beside the events", hint, Exit.USAGE)
        columns = [*side.table.frame.columns, *side.table.other]
        if column not in columns:
            what = f"{option}: {side.table.path} has no column {column}{did_you_mean(column, columns)}"
            raise UserError(what, f"it has {', '.join(columns)}", Exit.USAGE)
