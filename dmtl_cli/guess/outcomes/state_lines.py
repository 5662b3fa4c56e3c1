"""The states of what came of exposures that a rule of a good click may name."""

from __future__ import annotations

from collections.abc import Iterable, Set

import polars as pl

from dmtl_cli.config.commands import typed
from dmtl_cli.config.expressions import sources_of
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import sql_column, sql_value
from dmtl_cli.guess.columns.values import FEW, is_constant, share
from dmtl_cli.guess.outcomes.aggregates import is_state
from dmtl_cli.guess.outcomes.tables import ROW, Outcomes
from dmtl_cli.guess.reading.rewrites import is_no_more, rank_of

_SURE = 0.98  # of the rows of a state are clicks, or are none
_HALF = 0.5  # of the clicks have a state: it is what a click alone makes
_ALL = 0.9  # of them have any


def state_lines(
    events: pl.DataFrame,
    roles: Roles,
    later: Iterable[Outcomes],
    *,
    by_name: bool = False,
    without: Set[str] = frozenset(),
) -> list[str]:
    """Comments that tell which states of what came of exposures a rule may name, of these tables and of the events'
    own columns, with the share of clicks that each has.

    Args:
        events: a sample, with the columns of these tables.
        by_name: whether of the tables only columns that are named like a state are told of.
        without: columns of tables that are not told of.
    """
    clicked = roles.clicked(events)
    rows, of = (events, "rows") if clicked is None else (events.filter(clicked), "clicks")
    lines, later = list[str](), list(later)
    ways = {str(one.through).partition(".")[0]: one.columns for one in later if one.item}
    bought = {way: c for way, columns in ways.items() for c, text in columns.items() if text == ROW}
    for one in (one for one in later if without.isdisjoint(one.columns)):
        for c, text in one.columns.items():
            if by_name and not words.says(c, words.STATE):
                continue
            if text.startswith("MAX(") and events[c].dtype == pl.String:
                flag = bought.get(one.name)  # an order's state is that of its lines
                mine = rows if flag is None else rows.filter(rows[flag])
                lines += _state_line(
                    mine[c], f"{of} with {flag}" if flag else of, f"{sql_column(flag)} AND " if flag else ""
                )
        for c, by in one.states.items():
            shares = _shares([(flag, int(rows[flag].sum())) for flag in by.values()], len(rows))
            lines.append(f"# {c} of {of}, each a column: {', '.join(f'{flag} {rate}' for flag, rate in shares)}")
    if clicked is not None:
        known = {c for one in later for c in one.columns}.union(*map(sources_of, roles.made.values()))
        own = [g.column for g in roles.outcomes if g.column in events.columns and g.column not in known]
        lines += [line for c in own if _is_stage(events[c], clicked) for line in _state_line(rows[c], of)]
        lists = [c for c in own if isinstance(events.schema[c], pl.List) and not _is_of_request(events, c, roles)]
        lines += [line for c in lists for line in _listed(rows[c], of)]
    return lines


def _listed(s: pl.Series, of: str) -> list[str]:
    """A comment of the texts in lists of what was done with what was clicked; empty where they are many, or none."""
    texts = s.drop_nulls().explode().drop_nulls()
    if texts.dtype != pl.String or not 0 < texts.n_unique() <= FEW:
        return []
    has = [(v, int(s.list.contains(v).sum())) for v in texts.unique().sort()]
    shares = _shares(has, len(s))
    left = [v for v, _ in shares if not words.says(v, words.NOT_GOOD)] or [v for v, _ in shares]
    rule = f"ARRAY_CONTAINS({sql_column(s.name)}, {sql_value(left[0])})"
    named = ", ".join(f"{sql_value(v)} {rate}" for v, rate in shares)
    return [f"# lists of {s.name} of {of}: {named}; name those that are good: --conversion {typed(rule)}"]


def _is_of_request(events: pl.DataFrame, c: str, roles: Roles) -> bool:
    """Whether all that was shown at once has one list, as of a mail's clicks, which are of none of its items alone."""
    if roles.request is None:
        return False
    request, lists = roles.request.column, events[c].cast(pl.List(pl.String), strict=False).list.join("\0")
    return is_constant(pl.DataFrame({request: events[request], c: lists}), request, c)


def _is_stage(s: pl.Series, clicked: pl.Series) -> bool:
    """Whether texts say how far an exposure came: several of them are of clicks alone, and any other is of other rows
    alone, or nearly each click has one, of which some say what is good, or the column is named like a state."""
    if not is_state(s):
        return False
    rows = pl.DataFrame({"v": s, "clicked": clicked}).drop_nulls()
    of_values = rows["v"].unique().to_list()
    each = rows.group_by("v").agg(pl.len(), pl.col("clicked").mean().alias("rate"))
    of_clicks, of_others = (each.filter(by)["len"] for by in (pl.col("rate") >= _SURE, pl.col("rate") <= 1 - _SURE))
    if len(of_clicks) < 2 or int(of_clicks.sum()) + int(of_others.sum()) < _SURE * len(rows):
        return False
    good = any(rank_of(v) is not None for v in of_values)
    every = good and share(s.filter(clicked).is_not_null()) >= _SURE
    return len(of_others) > 0 or every or words.says(s.name, words.STATE)


def _state_line(s: pl.Series, of: str, beside: str = "") -> list[str]:
    """A comment of the states that such rows have, with a rule of the most frequent two. Hardly good are that of most
    rows, where all have one, as a click alone makes it, a click by its word, and a draft. Empty where none has one.

    Args:
        beside: the condition, with AND, of which these are the rows: no state is hardly good then for being usual.
    """
    shares = _shares(s.drop_nulls().value_counts(name=":n").rows(), len(s))
    named = ", ".join(f"{sql_value(v)} {rate}" for v, rate in shares)
    every = not beside and s.null_count() <= (1 - _ALL) * len(s)
    is_usual = every and len(shares) > 1 and int((s == shares[0][0]).sum()) > _HALF * len(s)
    left = [v for v, _ in shares[is_usual:] if not (words.says(v, words.DRAFT) or is_no_more(v))]
    left = left or [v for v, _ in shares[is_usual:]]
    some = ", ".join(map(sql_value, left[:2]))
    rule = f'name those that are good: --conversion "{beside}{sql_column(s.name)} IN ({some})"'
    return [f"# {s.name} of {of}: {named}; {rule}"] if shares else []


def _shares(counts: Iterable[tuple[str, int]], rows: int) -> list[tuple[str, str]]:
    """The share of so many rows, the largest first."""
    found = sorted(counts, key=lambda of: (-of[1], of[0]))
    return [(name, f"{n / max(1, rows):.1%}") for name, n in found]
