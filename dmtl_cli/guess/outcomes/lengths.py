"""Lengths in a table of what came of exposures: texts that are lengths of time, whatever their columns are called, and
numbers that are written again and again while something lasts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import polars as pl

from dmtl_cli.config.expressions import aggregated_of
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.sql import sql_column
from dmtl_cli.guess.columns.values import FEW, free, has_long_tail, instants, seconds_of, share
from dmtl_cli.guess.exposures.ids import times_of
from dmtl_cli.guess.outcomes.aggregates import grows, number_of
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.reading.files import CSV, JSON
from dmtl_cli.guess.reading.texts import in_seconds

_SEVERAL = 0.3  # of the exposures that have a row have another one
_OFTEN = 0.5  # of the rows say what a time beside them says
_QUARTER = 900  # seconds: zones differ by so many, or twice or four times as many
_NEAR = 60  # seconds between two clocks of one moment


def with_lengths(found: Sequence[Outcomes], taken: Iterable[str]) -> list[Outcomes]:
    """The tables, with a column of each text that is a length of time and that nothing is made of yet.

    Args:
        taken: columns of the events.
    """
    names, out = {*taken, *(c for one in found for c in one.columns)}, list[Outcomes]()
    for one in found:
        out.append(_with_lengths(one, names))
        names |= {*out[-1].columns}
    return out


def _with_lengths(one: Outcomes, taken: set[str]) -> Outcomes:
    table, rows = one.table, one.rows
    if table.text is None or table.files.form not in (CSV, JSON) or table.kinds is not None:
        return one
    times = [at for c, unit in times_of(rows).items() if (at := instants(rows[c], unit)) is not None]
    fits = [c for c in one.left if c in rows.columns and are_lengths(rows[c], times)]
    by = one.ids(rows)
    columns, made = dict(one.columns), list[str]()
    for c in fits:
        name = free(f"its_{c.replace('.', '_')}", {*taken, *table.frame.columns, *columns}) if one.computed else c
        seconds = in_seconds(rows.select(c), [c])[c].filter(by.is_not_null())
        sql = number_of(seconds, by.drop_nulls(), is_length=True)
        if sql is not None and name not in {*taken, *columns}:
            columns[name] = sql
            made.append(c)
    text = replace(table.text, clocks=table.text.clocks | {*made})
    table = replace(table, frame=in_seconds(table.frame, made), text=text)
    mapped = None if one.mapped is None else in_seconds(one.mapped, made)
    left = tuple(c for c in one.left if c not in made)
    return replace(one, table=table, columns=columns, left=left, mapped=mapped) if made else one


def with_none(found: Iterable[Outcomes]) -> list[Outcomes]:
    """The tables, in which a length that is written again and again while something is read, as a heartbeat is every
    ten seconds, is 0 without a row: who clicked and has none left before the first, and is no read of unknown length.
    Of one row a read, as it is closed, none may be a loss."""
    return [replace(one, columns={c: _or_none(one, text) for c, text in one.columns.items()}) for one in found]


def is_length_or_none(text: str) -> bool:
    """Whether an expression is one of `with_none`."""
    return text.startswith("COALESCE(") and text.endswith(", 0)")


def _or_none(one: Outcomes, text: str) -> str:
    c = next(iter(aggregated_of(text)), "")
    added_up, grown = text == f"SUM({sql_column(c)})", text == f"MAX({sql_column(c)})" and _is_named_length(c)
    if not (added_up or grown) or not one.rows[c].dtype.is_numeric():
        return text
    rows = pl.DataFrame({"k": one.ids(one.rows), "v": one.rows[c]}).drop_nulls()
    again = share(rows.group_by("k").len()["len"] > 1) >= _SEVERAL
    return f"COALESCE({text}, 0)" if again and (added_up or grows(rows["k"], rows["v"])) else text


def _is_named_length(c: str) -> bool:
    """Whether a name is that of a length of time, or of a share; a running number of rows is none."""
    by_name = words.by_name(c, words.DURATION) or words.by_name(c, words.PORTION)
    return bool(by_name) or words.is_measured(c) or words.says(c, words.RATIO)


def are_lengths(s: pl.Series, times: Iterable[pl.Series]) -> bool:
    """Whether texts are lengths of time by their values: many different ones, more of them short than long, which a
    time of day is neither by itself nor where a time of the rows says it.

    Args:
        times: instants of the same rows.
    """
    x = seconds_of(s)
    if x is None or x.n_unique() <= FEW or not has_long_tail(x, 1.0):
        return False
    return not any(_says(x * unit, at) for at in times for unit in (1, 60))  # 14:03 is read as 14 minutes


def _says(x: pl.Series, at: pl.Series) -> bool:
    """Whether seconds are those of the day of some instants, in any zone."""
    apart = (x - at.dt.epoch("s")) % _QUARTER
    return share((apart <= _NEAR) | (apart >= _QUARTER - _NEAR)) >= _OFTEN
