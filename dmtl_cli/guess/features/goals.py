"""What else may tell a good click: other outcomes than the label, as expressions for `data.events.computed`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from dmtl_cli.config.errors import printable
from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import quoted, sql_column, sql_name, sql_value
from dmtl_cli.guess.columns.values import clicks, is_binary, is_constant, is_there, middle, numbers, share
from dmtl_cli.guess.features.requests import is_of_request
from dmtl_cli.guess.sides.side_tables import Side

_WHOLE = 100  # percent
_PERCENTS = 20  # distinct values of a percentage that no name tells
_BROKEN = 0.02  # of the values may be outside of a share's range
_LEVELS = (0.9, 0.75, 0.5, 0.25)  # of an item, above which it was read: the first that enough clicks are above
_GOOD = 0.3  # of the clicks are enough
_EACH = 0.98  # of the clicks have it: it tells none apart
_FEWEST, _USUAL = 0.005, 0.7  # of the clicks have what may be a label
_LEAST, _MOST = 0.05, 2.0  # that the middle one of a click is, of an item's length in the same unit
_SECONDS = 30  # of a read that may be long
_SHOWN = 3  # goals that are said, beside a flag alone
_DONE = 2  # of a conversion's name: an item was bought, saved or finished, not shared
_UNITS = (1.0, 1_000.0, 0.001)  # a length in the duration's unit: the same, seconds beside ms, ms beside seconds


@dataclass(frozen=True)
class Goal:
    """A label that other columns make."""

    expression: str
    why: str
    alone: int = 0
    """of a flag without a duration beside it: 2 where it is named like a conversion, or is a row of a table, else 1"""


def goals(frame: pl.DataFrame, roles: Roles, items: Side | None, *, text: bool) -> list[Goal]:
    """The likeliest ones beside the label that was guessed, which is no share of an item itself: how much of one was
    read, a length of the items that the duration can be compared with, and flags beside the duration; before them the
    grades of a label.

    Args:
        text: whether `data.types` tells the types of the log, of which flags that are conversions are bool.
    """
    if roles.user is None or roles.item is None or roles.long_read is not None:
        return []
    flags = list(_flags(frame, roles, text))
    alone = sorted((one for one in flags if one.alone), key=lambda one: -one.alone)[:1]
    beside = [one for one in flags if not one.alone]
    others = [*_shares(frame, roles), *_lengths(frame, roles, items), *beside, *_deeper(frame, roles)]
    grades = [Goal(text, f"{part:.0%} of clicks") for text, part in roles.grades]
    return [*grades, *alone, *others[:_SHOWN]]


def goal_lines(found: Sequence[Goal], name: str) -> list[str]:
    """Comments with the expressions that may be the conversion, of this name."""
    if not found:
        return []
    how = "# Or init --conversion 'EXPRESSION', which writes the first line and one of the others:"
    made = [f"#   computed: {{{name}: {quoted(one.expression)}}}  # {printable(one.why)}" for one in found]
    return [how, f"#   conversion: {name}", *made]


def _shares(frame: pl.DataFrame, roles: Roles) -> Iterator[Goal]:
    for c in _outcomes(frame, roles):
        s = frame[c]
        if not s.dtype.is_numeric() or is_binary(s):
            continue
        x = roles.of_clicks(frame, c)
        named = words.by_name(c, words.PORTION) or words.says(c, words.RATIO) or words.says(c, languages.PORTION)
        if not (named or _is_percent(x)):
            continue
        usual = middle(x.filter(x > 0))
        if not 0 < usual <= _WHOLE or share(x > 2 * _WHOLE) > _BROKEN or share(x < 0) > _BROKEN:
            continue
        of = 1 if usual <= 1 and s.dtype.is_float() else _WHOLE
        least = next((of * level for level in _LEVELS if share(x >= of * level) >= _GOOD), of * _LEVELS[-1])
        yield Goal(f"{sql_name(c)} >= {least:g}", f"{share(x >= least):.0%} of clicks")


def _is_percent(x: pl.Series) -> bool:
    """Whether numbers of clicks are how much of something in percent, whatever they are called: many, up to 100."""
    known = x.drop_nulls()
    return known.n_unique() >= _PERCENTS and known.min() == 0 and known.max() == _WHOLE


def _lengths(frame: pl.DataFrame, roles: Roles, items: Side | None) -> Iterator[Goal]:
    if roles.duration is None or roles.item is None or items is None:
        return
    key, table = items.key.column, items.table.frame
    table = table.unique(key, keep="first", maintain_order=True).filter(pl.col(key).is_not_null())
    rows = pl.DataFrame({"id": frame[roles.item.column], "x": numbers(frame[roles.duration.column])})
    kind = pl.Int64 if rows["id"].dtype.is_integer() and table[key].dtype.is_integer() else pl.String
    for c in table.columns:
        named = words.by_name(c, words.DURATION) or words.says(c, words.SPENT)
        if c == key or not named or not table[c].dtype.is_numeric() or words.says(c, words.TOTAL):
            continue
        mine = table.select(pl.col(key).cast(kind).alias("id"), pl.col(c).cast(pl.Float64).alias("length"))
        both = rows.with_columns(pl.col("id").cast(kind)).join(mine, on="id", how="inner")
        by = fits((both["x"] / both["length"]).filter((both["x"] > 0) & (both["length"] > 0)))
        if by is not None:
            half = f"{sql_name(roles.duration.column)} >= items.{sql_column(c)} * {0.5 / by:g}"
            yield Goal(half, f"half of the item's {c}")


def _flags(frame: pl.DataFrame, roles: Roles, text: bool) -> Iterator[Goal]:
    """Flags, alone or beside a long read. A label that is a flag itself has its further ones in `conversions`."""
    if roles.duration is None:
        return
    of_second = 1000 if roles.unit == "ms" else 1 / 60 if words.says(roles.duration.column, languages.MINUTES) else 1
    long = f"{sql_name(roles.duration.column)} >= {_SECONDS * of_second:g}"
    lasts = numbers(frame[roles.duration.column]).fill_null(0) > 0
    for c in _outcomes(frame, roles):
        s = frame[c]
        typed = text and c in {g.column for g in roles.further.values()}
        told = sql_name(c) if typed else flag(s)
        of_request = roles.request is not None and is_of_request(s, frame[roles.request.column])
        if told is not None and not words.says(c, words.NOT_GOOD) and not of_request:
            there = clicks(s) if is_binary(s) else is_there(s)
            if roles.click is not None and share(there.filter(clicks(frame[roles.click.column]))) >= _EACH:
                continue  # it is the click itself
            of_all = share(there.filter(lasts)) >= _EACH
            if of_all and share(lasts.filter(there)) >= _EACH:
                continue  # it is that there is a duration
            many = f"{share(there):.1%} of rows"
            named = words.by_name(c, words.CONVERSION) >= _DONE or c in roles.rows
            if named or is_binary(s):
                yield Goal(told, f"{c} alone, {many}", alone=1 + named)
            if not of_all:  # else all long reads have it
                yield Goal(f"{long} OR {told}", f"{_SECONDS} s, or {c} ({many})")


def _deeper(frame: pl.DataFrame, roles: Roles) -> Iterator[Goal]:
    """What fewer clicks have than the label, where that is a flag or none is known: an order's number, amount or time
    beside a basket. Those named like a conversion first, then what more clicks have; of columns that are there in the
    same rows one."""
    label = roles.conversion.column if roles.conversion else None
    if roles.duration is not None or roles.click is None or (label is not None and label not in frame.columns):
        return
    seen = [] if label is None else [clicks(frame[label])]
    clicked = clicks(frame[roles.click.column])
    left = [c for c in _outcomes(frame, roles) if not words.says(c, words.NOT_GOOD)]
    there = {c: clicks(frame[c]) if is_binary(frame[c]) else is_there(frame[c]) for c in left}
    rates = {c: rate for c, x in there.items() if _FEWEST <= (rate := share(x.filter(clicked))) <= _USUAL}
    for c in sorted(rates, key=lambda c: (-words.by_name(c, words.CONVERSION), -rates[c])):
        mine = there[c]
        if any(int((x != mine).sum()) <= _BROKEN * int(mine.sum()) for x in seen):
            continue
        if (is_it := flag(frame[c]) or _presence(frame[c])) is not None:
            seen.append(mine)
            yield Goal(is_it, f"{share(mine):.1%} of rows, {rates[c]:.0%} of clicks")


def _presence(s: pl.Series) -> str | None:
    """The expression that is true where there is a time or an id, or a number above 0; None of what is none of these,
    or always there."""
    if s.dtype.is_nested():
        return None
    name, nulls = sql_name(s.name), bool(s.null_count())
    if s.dtype.is_numeric() and s.min() == 0:
        return f"COALESCE({name}, 0) > 0" if nulls else f"{name} > 0"
    if s.dtype == pl.String and (s == "").any():
        return f"COALESCE({name}, '') <> ''" if nulls else f"{name} <> ''"
    return f"{name} IS NOT NULL" if nulls else None


def _outcomes(frame: pl.DataFrame, roles: Roles) -> list[str]:
    label = {g.column for g in (roles.click, roles.duration, roles.conversion) if g}
    found = [g.column for g in (*roles.outcomes, *roles.further.values())]
    found = [c for c in found if not words.is_of_sight(c)]  # what comes before a click is no good one
    return [c for c in dict.fromkeys(found) if c in frame.columns and c not in label]


def flag(s: pl.Series) -> str | None:
    """The expression that is true where a column of 0 and 1, or of one word and nothing, is set; None of any other."""
    if s.dtype == pl.Boolean:
        return sql_name(s.name)
    if is_binary(s):
        return f"{sql_name(s.name)} = 1"
    if s.dtype != pl.String or is_there(s).all():
        return None
    there = s.filter(is_there(s)).unique()
    return f"{sql_name(s.name)} = {sql_value(str(there[0]))}" if len(there) == 1 else None


def example(s: pl.Series) -> str | None:
    """An expression of 0 and 1 that a column makes which has neither; None where none is at hand."""
    if (told := flag(s)) is not None:
        return told
    if not s.dtype.is_numeric():
        return None
    x = numbers(s).drop_nulls()
    most = float(x.max() or 0)  # type: ignore[arg-type]
    level = 75.0 if 1 < most <= _WHOLE else 0.75 if most <= 1 else middle(x.filter(x > 0))
    return f"{sql_name(s.name)} >= {level:g}"


def fits(ratios: pl.Series) -> float | None:
    """What makes the middle one of a click's duration by a length a share of an item: units that differ; None where
    nothing does."""
    usual = middle(ratios)
    return next((by for by in _UNITS if _LEAST <= usual * by <= _MOST), None)


def by_length(frame: pl.DataFrame, roles: Roles) -> str | None:
    """The expression that tells how much of an item was read, where its length is beside the duration; None where no
    column has it."""
    if roles.duration is None or roles.item is None or roles.long_read is not None:
        return None
    x = numbers(frame[roles.duration.column])
    for c in frame.columns:
        named = words.by_name(c, words.DURATION) or words.says(c, words.SPENT)
        if c == roles.duration.column or not named or not frame[c].dtype.is_numeric():
            continue
        length = numbers(frame[c])
        by = fits((x / length).filter((x > 0) & (length > 0)))
        if by is None or not is_constant(frame, roles.item.column, c):
            continue
        one, other = sql_column(roles.duration.column), sql_column(c)
        unit = "" if by == 1 else f" * {by:g}"
        return f"CAST({one} AS DOUBLE) / NULLIF({other}, 0){unit}"
    return None
