"""What one value of an id is made of by its rows: numbers, and texts that say how far something came."""

from __future__ import annotations

import re

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.sql import sql_column, sql_value
from dmtl_cli.guess.columns.values import FEW, free, is_binary, is_constant, share, time_unit

_FALLS, _RISES = 0.05, 0.5  # of the steps from row to row of an id, at most and at least
_STATES = 20  # values of a text that says how far an order is
_FLAGS = 8  # of these, where an exposure may have several
_ONE = 0.01  # of the exposures may have several values of a text that has one each
_KIND = r"^[\pL\pN_:/.+-]{1,40}( [\pL\pN_:/.+-]{1,40}){0,2}$"


def states_of(s: pl.Series, by: pl.Series, names: set[str], *, plain: bool) -> tuple[dict[str, str], dict[str, str]]:
    """The columns that texts, or codes, with few values make: the one that an id has, or where it has several a flag of
    each value; and these flags by the value. None where these are too many, or say no more than that there is a row.

    Args:
        by: [n] the id of each row, none of them null.
        names: that are taken.
        plain: whether that of an object has its last name alone.
    """
    last = s.name.rpartition(".")[2].replace("$", "")
    values, most = sorted(s.drop_nulls().unique()), _values_of(by, s)
    columns, flags = dict[str, str](), dict[str, str]()
    if share(most > 1) <= _ONE:
        name = f"its_{last if plain else s.name.replace('.', '_').replace('$', '')}"
        columns[free(name, names)] = f"MAX({sql_column(s.name)})"
    elif len(values) <= _FLAGS and share(most < len(values)) > _ONE:
        for v in values:
            flag = free(re.sub(r"\W+", "_", f"{last}_{v}").strip("_"), {*names, *columns})
            flags[f"{v}"] = flag
            columns[flag] = f"COUNT(CASE WHEN {sql_column(s.name)} = {sql_value(v)} THEN 1 END) > 0"
    return columns, flags


def is_state(s: pl.Series) -> bool:
    """Whether texts are of few kinds, each a name of few words, as those that say how far an order is."""
    if s.dtype != pl.String or time_unit(s) is not None:
        return False
    values = s.drop_nulls().unique()
    return 1 < len(values) <= _STATES and values.str.contains(_KIND).all()


def are_codes(s: pl.Series, by: pl.Series) -> bool:
    """Whether whole numbers are codes of what was done: few, of which an id has several, in no order, and that are
    neither named like a number nor like how long or how good something was."""
    if (
        not s.dtype.is_integer()
        or is_binary(s)
        or time_unit(s) is not None
        or not 2 < s.drop_nulls().n_unique() <= _FLAGS
    ):
        return False
    measured = words.says(s.name, words.NUMBER) or words.by_name(s.name, words.DURATION + words.RATING)
    return not measured and share(_values_of(by, s) > 1) > _ONE and not grows(by, s)


def _values_of(by: pl.Series, s: pl.Series) -> pl.Series:
    """How many values the rows of each id have."""
    return pl.DataFrame({"k": by, "v": s}).drop_nulls().group_by("k").agg(pl.col("v").n_unique())["v"]


def grows(by: pl.Series, s: pl.Series) -> bool:
    """Whether a number of an id grows from row to row, as one that is written again while it lasts; hardly ever does it
    fall, as where a row came late."""
    rows = pl.DataFrame({"k": by, "v": s}).drop_nulls()
    step = pl.col("v").cast(pl.Float64).diff()
    steps = rows.group_by("k", maintain_order=True).agg(step.drop_nulls()).filter(pl.col("v").list.len() > 0)["v"]
    each = steps.explode()
    return len(steps) >= FEW and share(each < 0) <= _FALLS and share(each > 0) >= _RISES


def number_of(s: pl.Series, by: pl.Series, *, is_length: bool) -> str | None:
    """The same as `aggregate_of` of a column that has no parts of one number: the greatest where the number grows from
    row to row of an id, or is a length of the id itself, which all of its rows have.

    Args:
        by: [n] the id of each row.
    """
    made = aggregate_of(s, is_length=is_length)
    if made is None or not made.startswith("SUM"):
        return made
    rows, named = pl.DataFrame({"k": by, "v": s}), aggregate_of(s) == made
    if named:  # a heartbeat is as long as another, and a price as high: only what differs between ids is theirs
        rows = rows.filter(by.is_duplicated() & s.is_not_null())
    alike = named and (rows["v"].n_unique() <= FEW or words.says(s.name, words.PRICE))
    own = not alike and is_constant(rows, "k", "v")
    return made.replace("SUM", "MAX", 1) if own or grows(by, s) else made


def aggregate_of(s: pl.Series, *, is_length: bool = False) -> str | None:
    """What one value of an id's rows is made by: the sum of what lasts, the greatest of another number, of yes and no
    whether there is a yes, which without a row there is not; None of what is none of these.

    Args:
        is_length: whether it is known to be a length of time, whatever it is called.
    """
    if not (s.dtype.is_numeric() or s.dtype == pl.Boolean) or time_unit(s) is not None or s.null_count() == len(s):
        return None
    if words.is_named_id(s.name):
        return None
    if s.dtype == pl.Boolean:
        return f"COALESCE(MAX({sql_column(s.name)}), FALSE)"
    named = words.by_name(s.name, words.DURATION) or words.says(s.name, words.SPENT)
    lasts = is_length or (named and not is_binary(s) and not words.says(s.name, words.RATIO))
    return f"{'SUM' if lasts else 'MAX'}({sql_column(s.name)})"
