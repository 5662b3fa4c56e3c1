"""What a person's rule of a click or a good one asks of the rows that came of an exposure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.config.errors import Exit, UserError, did_you_mean
from dmtl_cli.config.expressions import aggregated_of, renamed, sources_of, with_quotes
from dmtl_cli.guess.columns.objects import shortened
from dmtl_cli.guess.columns.sql import Aggregate, sql_column, with_aggregates, with_booleans
from dmtl_cli.guess.columns.values import free, share
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.reading.tables import Table

_OF_LISTS = re.compile(
    r"""\bARRAY_(?:CONTAINS\s*\(\s*"?(?P<texts>[\w.]+)"?\s*,\s*'(?P<value>(?:[^']|'')*)'"""
    r"""|SUM\s*\(\s*"?(?P<numbers>[\w.]+)"?\s*)\s*\)""",
    re.IGNORECASE,
)
_SEVERAL = re.compile(r"COUNT\(CASE WHEN (.+) IN \(('.*')\) THEN 1 END\) > 0")
_COMPARED = r"""\s*(?:=|<>|!=)\s*'(?:[^']|'')*'|\s+(?:NOT\s+)?(?:IN\s*\([^()]*\)|LIKE\s+'(?:[^']|'')*')"""
_WORDS = {"SUM": "total", "MAX": "most", "MIN": "least", "AVG": "mean", "COUNT": "number"}
_SUCH = "such as SUM(ms) >= 60000 or MAX(CASE WHEN kind = 'play' THEN ms END) >= 60000"
_UNKNOWN = 0.5  # of the clicks a rule is null, or a flag of it: then null is no


def with_asked(events: Table, found: Sequence[Outcomes], given: Mapping[str, str]) -> list[Outcomes]:
    """The same, with one value of several rows where a person's rule of a good click says so, as `SUM(ms) >= 60000` and
    `MAX(CASE WHEN kind = 'play' THEN ms END) >= 60000`, the former in place of what was made of the column; with what
    such a rule says of lists of theirs; with the greatest value of each other column that a rule names, the events
    lack, and nothing was made of, as when somebody applied; and with flags of kinds of rows that rules name.

    Args:
        events: what was shown.
        given: what a person gives, as they typed it but for whole names: `conversion` and `click`.

    Raises:
        UserError: 2 such a value does not fit the types of its columns.
    """
    rule, click = (by_rows(given.get(role, ""), found, events.frame.columns) for role in ("conversion", "click"))
    short, own = shortened({c for one in found for c in one.rows.columns}), {*events.frame.columns}
    found = [_with_kinds(one, click, rule, own.union(*(one.columns for one in found))) for one in found]
    calls = {call: _made_by(call, found, short) for text in (rule, click) for call in Aggregate.all_in(text)}
    for option, text in (("--conversion", rule), ("--click", click)):
        _refuse_unfit(option, [of for call in Aggregate.all_in(text) if (of := calls[call]) is not None])
    lists = {(short.get(c, c), value) for c, value in map(_list_of, _OF_LISTS.finditer(rule)) if c not in own}
    bare = _bare(rule) - {c for c, _ in lists}
    out, taken = list[Outcomes](), own.union(*(one.columns for one in found))
    asked = bare - taken
    plain = {call for call in Aggregate.all_in(rule) if call.column is not None}
    for one in found:
        mine = {call: of[1] for call, of in calls.items() if of is not None and of[0] is one}
        named = {c for call, text in mine.items() if call in plain for c in aggregated_of(text)}
        kept = {name: text for name, text in one.columns.items() if not _is_made_of(text, named - bare - _bare(click))}
        made, taken = dict[str, str](), taken.difference(one.columns.keys() - kept.keys())
        for text in dict.fromkeys(text for text in mine.values() if text not in kept.values()):
            made[free(_name_of(text), taken | made.keys())] = text
        for c, value in sorted(of for of in lists if of[0] in one.left):
            made[free(_name_of_list(c, value), taken | made.keys())] = _of_list(c, value)
            lists.remove((c, value))
        more = {c: f"MAX({sql_column(c)})" for c in one.left if c in asked}
        asked -= more.keys()
        taken = taken.union(made, more)
        left = tuple(c for c in one.left if c not in (*more, *named))
        out.append(replace(one, columns=kept | made | more, left=left))
    return out


def _bare(rule: str) -> set[str]:
    """The columns that a rule names beside values of several rows; none of what is no rule, as is said elsewhere."""
    try:
        return {*sources_of(with_aggregates(rule or "1", lambda _: "1"))}
    except ValueError:
        return set()


def _refuse_unfit(option: str, asked: Iterable[tuple[Outcomes, str]]) -> None:
    """Raises UserError 2 where a value of several rows does not fit the types of their columns, or is a list."""
    for one, text in asked:
        try:
            kind = one.rows.select(pl.sql_expr(text)).to_series().dtype
        except pl.exceptions.PolarsError as e:
            raise UserError(f"{option}: {text}: {str(e).splitlines()[0]}", _SUCH, Exit.USAGE) from None
        if kind.is_nested():
            raise UserError(f"{option}: {text}: expected one value of all rows, got {kind}", _SUCH, Exit.USAGE)


def by_rows(rule: str, found: Iterable[Outcomes], own: Collection[str]) -> str:
    """A person's rule in which a text that a row of an exposure has, `status <> 'cancelled'`, of which it may have
    several, is asked of each row: `COUNT(CASE WHEN status <> 'cancelled' THEN 1 END) > 0`.

    Args:
        own: the events' own columns, which are not meant.
    """
    for one in found:
        texts = [c for c, kind in one.rows.schema.items() if kind == pl.String]
        made = {c for c in texts if f"MAX({sql_column(c)})" in one.columns.values()}
        has_several = one.ids(one.rows).drop_nulls().is_duplicated().any()
        for c in sorted(made.union(one.states).difference(own)) if has_several else ():
            rule = _of_rows(rule, c, one)
    return rule


def _of_rows(rule: str, c: str, one: Outcomes) -> str:
    """The rule with what it asks of a text of the rows; of one that flags tell `= 'paid'` is the flag of that value."""
    names = "|".join(map(re.escape, (f"{one.name}.{c}", c)))
    compared = re.compile(rf"""'(?:[^']|'')*'|(?<![\w."])"?(?:{names})"?(?P<to>{_COMPARED})""", re.IGNORECASE)

    def asked(said: re.Match[str]) -> str:
        is_flag = c in one.states and re.match(r"\s*(=|IN\b)", said["to"] or "", re.IGNORECASE)
        return said[0] if not said["to"] or is_flag else f"COUNT(CASE WHEN {sql_column(c)}{said['to']} THEN 1 END) > 0"

    parts, at = list[str](), 0
    for call in Aggregate.all_in(rule):  # which says itself of which rows it is
        parts += [compared.sub(asked, rule[at : call.begin]), rule[call.begin : call.end]]
        at = call.end
    return "".join([*parts, compared.sub(asked, rule[at:])])


def by_aggregates(rule: str, found: Iterable[Outcomes]) -> str:
    """A person's rule with the columns that `with_asked` made of SUM(ms), and of lists, in their place."""
    found = list(found)
    made = {text: name for one in found for name, text in one.columns.items()}
    short = shortened({c for one in found for c in one.rows.columns})

    def named(call: Aggregate) -> str | None:
        one, text = _made_by(call, found, short) or (None, "")
        names = [] if one is None else [name for name, made_of in one.columns.items() if made_of == text]
        return sql_column(names[-1]) if names else None

    def listed(said: re.Match[str]) -> str:
        c, value = _list_of(said)
        name = made.get(_of_list(short.get(c, c), value))
        return said[0] if name is None else sql_column(name)

    return _OF_LISTS.sub(listed, with_aggregates(rule, named))


def refuse_aggregates(option: str, rule: str, found: Sequence[Outcomes]) -> None:
    """Raises UserError 2 where a rule has a value of several rows that `by_aggregates` has no column for."""
    columns = {c for one in found for c in one.rows.columns}
    short = shortened(columns)
    for call in Aggregate.all_in(rule) if found else ():
        text = rule[call.begin : call.end]
        try:
            read = aggregated_of(with_quotes(text))
        except ValueError as e:
            raise UserError(f"{option}: {e}", _SUCH, Exit.USAGE) from None
        where = {c: next((one.name for one in found if _column_of(c, one, short)), None) for c in read}
        if absent := [c for c, name in where.items() if name is None]:
            near = did_you_mean(absent[0], sorted(columns))
            why = f"no row that came of what was shown has {absent[0]}, of {text}{near}"
        else:
            several = ", ".join(f"{c} of {name}" for c, name in where.items())
            why = f"{text} names columns of several tables: {several}" if read else f"{text} names no column"
        hint = f"a value of several rows is of the columns of one table: {', '.join(one.name for one in found)}"
        raise UserError(f"{option}: {why}", hint, Exit.USAGE)


def _made_by(call: Aggregate, found: Sequence[Outcomes], short: Mapping[str, str]) -> tuple[Outcomes, str] | None:
    """The table that a value of several rows is of, and what its `columns` have for it; of several the first whose rows
    have any such value, as of kinds that one has and another has not. None where none has all columns."""
    able = [(one, text) for one in found if (text := _text_of(call, one, short, only=len(found) == 1)) is not None]
    return next((of for of in able if len(able) > 1 and _says_any(*of)), able[0] if able else None)


def _says_any(one: Outcomes, text: str) -> bool:
    try:
        return one.rows.select(pl.sql_expr(text)).to_series().fill_null(0).cast(pl.Boolean, strict=False).any()
    except pl.exceptions.PolarsError:
        return False


def _text_of(call: Aggregate, one: Outcomes, short: Mapping[str, str], *, only: bool) -> str | None:
    """What a person asks as `columns` of this table have it; None where it lacks a column of it.

    Args:
        only: whether there is no other table, whose rows a value of none of their columns may be of.
    """
    if call.column is not None:
        column = _column_of(call.column, one, short)
        return None if column is None else f"{call.word}({sql_column(column)})"
    text = with_quotes(f"{call.word}({call.of.strip()})")
    try:
        names = {c: _column_of(c, one, short) for c in aggregated_of(text)}
        if None in names.values() or not (names or only):
            return None
        text = renamed(text, {c: sql_column(name) for c, name in names.items() if name is not None})
        return with_booleans(text, one.table.flags) if {*aggregated_of(text)} <= {*one.rows.columns} else None
    except ValueError:  # which is said where the rule is looked at
        return None


def _column_of(name: str, one: Outcomes, short: Mapping[str, str]) -> str | None:
    """The column of a table's rows that a rule names, by its own name, by TABLE.COLUMN or by its last part alone."""
    names = (name, name.removeprefix(f"{one.name}."), short.get(name))
    return next((c for c in names if c in one.rows.columns), None)


def _name_of(text: str) -> str:
    """A name of one value of several rows: after the column that stands last in it."""
    (call,), c = Aggregate.all_in(text), max(aggregated_of(text), key=text.rfind, default="rows")
    name = c.replace(".", "_") if call.column else c.rpartition(".")[2]
    return f"{_WORDS[call.word]}_{name}"


def _with_kinds(one: Outcomes, click: str, rule: str, taken: set[str]) -> Outcomes:
    """The table with a flag of each kind of rows that a person's rules name, of those that together are the click, as
    what is better is one; without this click where theirs is of such kinds."""
    columns = dict(one.columns)
    for c, text in one.columns.items():
        if (several := _SEVERAL.fullmatch(text)) is None:
            continue
        made = {kind: f"COUNT(CASE WHEN {several[1]} = {kind} THEN 1 END) > 0" for kind in several[2].split(", ")}
        named = {kind: [_names(of, kind[1:-1]) for of in (click, rule)] for kind in made}
        for kind, flag in made.items():
            if any(named[kind]) and flag not in columns.values():
                columns[free(re.sub(r"\W+", "_", kind[1:-1]).strip("_") or "other", {*columns, *taken})] = flag
        if any(of_click for of_click, _ in named.values()) and c != click:
            del columns[c]
    return replace(one, columns=columns)


def _names(rule: str, kind: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(kind)}(?!\w)", rule) is not None


def _list_of(said: re.Match[str]) -> tuple[str, str]:
    """(the column of lists that a part of a rule is of, the text that one has, as SQL has it, or "" for their sum)."""
    return said["texts"] or said["numbers"], said["value"] or ""


def _name_of_list(c: str, value: str) -> str:
    last = c.rpartition(".")[2]
    return re.sub(r"\W+", "_", f"{last}_{value}").strip("_") if value else f"total_{last}"


def _of_list(c: str, value: str) -> str:
    """What an exposure's rows say of their lists: whether one has a text, or all their numbers added up."""
    column = sql_column(c)
    return f"COALESCE(MAX(ARRAY_CONTAINS({column}, '{value}')), FALSE)" if value else f"SUM(ARRAY_SUM({column}))"


def _is_made_of(text: str, columns: Collection[str]) -> bool:
    """Whether an expression is one number of one of these columns."""
    return not text.startswith("COUNT(") and aggregated_of(text) in [[c] for c in columns]


def without_rows(
    rule: str | None, events: pl.DataFrame, later: Iterable[Outcomes], clicked: pl.Series | None
) -> str | None:
    """A person's rule of a good click, so that it is false where the tables that it names have no row of the exposure
    and it would be unknown; and where it is unknown of most clicks, as nothing stands where nothing was bought, or a
    list is null, as nothing was done.

    Args:
        events: a sample, with the columns of these tables.
        clicked: which of them are clicks; None: all.
    """
    if rule is None:
        return rule
    named = sources_of(rule)
    none = not {c for one in later for c in one.columns}.isdisjoint(named)
    try:
        values = events.select(pl.sql_expr(rule).alias("good"))["good"]
    except pl.exceptions.PolarsError:  # it names fields of objects, or what another table has
        is_condition = re.search(r"[<>=]|\b(AND|OR|NOT|IS|IN|LIKE|BETWEEN)\b", rule, re.IGNORECASE)
        rows = events if clicked is None else events.filter(clicked)
        flags = [c for c in named if events.schema.get(c) == pl.Boolean]  # null of who was not asked
        none |= any(share(rows[c].is_null()) > _UNKNOWN for c in flags)
        return f"COALESCE({rule}, FALSE)" if is_condition and none else rule
    if len(values) != len(events):  # it names no column
        return rule
    of_clicks = values if clicked is None else values.filter(clicked)
    none |= any(isinstance(events.schema.get(c), pl.List) for c in named) or share(of_clicks.is_null()) > _UNKNOWN
    return f"COALESCE({rule}, FALSE)" if values.dtype == pl.Boolean and values.null_count() and none else rule
