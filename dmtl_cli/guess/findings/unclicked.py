"""Good rows without a click, which count for nothing, and the click that counts them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.expressions import sources_of
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.values.computed import Computed
from dmtl_cli.data.log.values.types import booleans
from dmtl_cli.data.threshold import measured_threshold
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import quoted, sql_name, sql_value, with_booleans
from dmtl_cli.guess.columns.values import clicks, free, is_flags
from dmtl_cli.guess.features.goals import flag
from dmtl_cli.guess.findings.joined import pair_of
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.reading.rows import head_of, names_of

MANY = 0.005
"""share of the good rows from which on it is said that they have no click"""
ACTED = "acted"
"""the column that is proposed as the click"""
_MANY = 0.05  # of the good rows have no click, before it is said what to do
_DWELL = 0.5  # of the rows without a click have a duration: it is how long the item was in sight


@dataclass
class _Label:
    """A label of the day's rows."""

    name: str
    column: str
    good: int = 0
    alone: int = 0
    """good ones without a click"""
    unknown: bool = False
    """whether a row without a click does not know it"""

    def add(self, good: pl.Series, click: pl.Series) -> None:
        """Counts rows. [n] each, true where a row is good, null where that is unknown."""
        self.good += int(good.sum())
        self.alone += int((good & ~click).sum())
        self.unknown |= bool((good.is_null() & ~click).any())

    @property
    def is_told(self) -> bool:
        return self.alone > MANY * self.good

    @property
    def said(self) -> str:
        return f"{self.name}: {self.alone:,} of {self.good:,} good rows ({self.alone / self.good:.1%})"


def without_click(config: Config, day: Day, schema: Schema) -> Iterator[str]:
    """A line where more than .5% of a label's good rows have no click, and what to do where 5% have; of durations only
    where most rows without a click have none. A good one that a table tells of a user and an item is that of each of
    their exposures, of which others than the clicked one have no click of their own: how many there are is said, as
    nothing is to be done."""
    events = config.data.events
    if events.click is None:
        return
    found = _labels(config, day)
    of_pairs = [label for label in found if label.alone and _is_of_pair(events, label.column)]
    for label in of_pairs:
        yield f"{label.said} are of exposures without a click ({events.click}): they count for nothing"
    if not (told := [label for label in found if label.is_told and label not in of_pairs]):
        return
    said = f"{', '.join(label.said for label in told)} have no click ({events.click}): they count for nothing"
    if all(label.alone < _MANY * label.good for label in told):
        yield said
        return
    then = "where a good one stands alone, let the click say so too"
    parts = [_flag(config.data, schema.events, events.click), *(_good(config.data, schema.events, x) for x in told)]
    if None not in parts:
        name = free(ACTED, {*names_of(schema.events), *events.computed})
        made = f"{name}: {quoted(' OR '.join(filter(None, parts)))}"
        then = f"where a good one stands alone, set data.events.click: {name} and add to data.events.computed {made}"
        heads = [head_of(schema.events, c) for c in (events.click, *(x.column for x in told)) if c != events.duration]
        if untyped := [f"{s.name}: bool" for s in heads if s is not None and _is_untyped(config.data, s)]:
            then += f", to data.types {', '.join(untyped)}"
    yield f"{said}: {then}"


def _is_of_pair(events: Events, label: str) -> bool:
    """See `_is_wider`, of a config."""
    tables = [(pair_of(events, table), table.columns) for table in events.joined.values()]
    label_of, click_of = (
        sources_of(events.computed[c]) if c in events.computed else [c] for c in (label, str(events.click))
    )
    return _is_wider(label_of, click_of, {events.user, events.item}, tables)


def _is_wider(
    label: Collection[str],
    click: Collection[str],
    ids: Set[str],
    tables: Iterable[tuple[Collection[str], Collection[str]]],
) -> bool:
    """Whether a label is of a user and an item, and the click of an exposure, by the columns that they are made of.

    Args:
        ids: the user and the item.
        tables: of each joined one the columns that its key is made of, and those that it makes.
    """
    of_pairs = {c for key, columns in tables if ids <= {*key} for c in columns}
    return not of_pairs.isdisjoint(label) and of_pairs.isdisjoint(click)


def _labels(config: Config, day: Day) -> list[_Label]:
    events = config.data.events
    named = {events.conversion: events.conversion} if events.conversion else {}
    labels = {name: _Label(name, column) for name, column in (named | events.conversions).items()}
    long, least, timed, alone = None, None, 0, 0
    if events.duration and day.facts["duration_rows"]:
        least = measured_threshold(config, [day])
        long = _Label(f"{events.duration} > {least:,.0f} s", events.duration)
    for block in day.blocks():
        click = pl.Series(block.click)
        for name, label in labels.items():
            values = pl.Series(block.conversion if name == events.conversion else block.further[name])
            label.add(values.replace_strict([1, 0, -1], [True, False, None], return_dtype=pl.Boolean), click)
        if long is not None and least is not None:
            seconds = pl.Series(block.duration).fill_nan(0)
            long.add(seconds > least, click)
            alone, timed = alone + int((~click).sum()), timed + int(((seconds > 0) & ~click).sum())
    return [*labels.values(), *([long] if long is not None and timed <= _DWELL * alone else [])]


def _good(data: Data, table: Table, label: _Label) -> str | None:
    """The expression that is true where a row is good, and false where that is unknown; None where none is at hand."""
    if label.column == data.events.duration:
        number = table.has(label.column) and pa.types.is_floating(table.type(label.column))
        number |= table.has(label.column) and pa.types.is_integer(table.type(label.column))
        return f"COALESCE({_name(data, label.column)}, 0) > 0" if number else None
    told = _flag(data, table, label.column)
    return f"COALESCE({told}, FALSE)" if told and label.unknown else told


def _name(data: Data, column: str) -> str:
    """A column in an expression: columns are made of those of the files alone."""
    made = data.events.computed.get(column)
    return sql_name(column) if made is None else f"({made})"


def _flag(data: Data, table: Table, column: str) -> str | None:
    """The expression that is true where a label is; None where its values do not tell one."""
    name, s = _name(data, column), head_of(table, column)
    if s is None or not len(s):
        return None
    if s.dtype == pl.Boolean or _is_untyped(data, s):
        return data.events.computed.get(column, name)
    if s.dtype.is_temporal():
        return f"{name} IS NOT NULL"
    if s.dtype.is_numeric():
        return f"{name} = 1" if is_flags(s) else f"{name} > 0"
    if s.dtype != pl.String:
        return None
    yes = sorted(s.filter(booleans(s).fill_null(False)).unique())
    return f"{name} IN ({', '.join(map(sql_value, yes))})" if yes else None


def _is_untyped(data: Data, s: pl.Series) -> bool:
    """Whether a flag of a text file is one because a label is, and would be text, or a number, as any other column."""
    own = {*data.types, *data.events.types, *data.events.computed, *data.events.joined_columns}
    text = data.format_of(data.events) in ("csv", "json")
    return text and s.name not in own and (s.dtype == pl.String or is_flags(s))


def _is_set(s: pl.Series) -> str | None:
    """The expression that is true where a column of 0 and 1, or of times, says a click."""
    return f"{sql_name(s.name)} IS NOT NULL" if s.dtype.is_temporal() else flag(s)


def acted(frame: pl.DataFrame, roles: Roles, computed: Mapping[str, str], later: Iterable[Outcomes] = ()) -> list[str]:
    """The lines that a config has of good rows without a click, in place of `click` and `computed`; none where few rows
    of the sample are so, or its values do not tell it, or see `without_click`.

    Args:
        frame: rows of the events.
        roles: with a click, and a conversion that an expression makes of these columns.
        computed: columns that the config has besides.
        later: the tables of what came of exposures.
    """
    made, good = roles.made_by, roles.conversion.column if roles.conversion else ""
    if made is None or roles.click is None:
        return []
    clicked_by = sources_of(roles.clicked_by) if roles.clicked_by else [roles.click.column]
    tables = [(one.event_sources, one.columns) for one in later if one.computed]
    if _is_wider(sources_of(made), clicked_by, roles.ids, tables):
        return []
    if (clicked := roles.clicked_by or _is_set(frame[roles.click.column])) is None:
        return []
    values, as_read = pl.Series([None]), with_booleans(made, {s.name for s in frame if s.dtype == pl.Boolean})
    with suppress(UserError):
        values = pl.Series(Computed("--conversion", {good: as_read}).of(frame.to_arrow(), [good], "").column(good))
    if not is_flags(values):
        return []
    label = _Label(good, good)
    label.add(values.cast(pl.Boolean), clicks(frame[roles.click.column]))
    if not label.is_told:
        return []
    told = made if values.dtype == pl.Boolean else f"({made}) = 1"
    name = free(ACTED, [*frame.columns, good])
    both = f"{clicked} OR " + (f"COALESCE({told}, FALSE)" if label.unknown else told)
    lines = ", ".join(f"{c}: {quoted(text)}" for c, text in {**computed, name: both, good: made}.items())
    return [
        f"# {label.said} of the sample have no click: they count for nothing. Where a good one stands alone:",
        f"#   click: {name}",
        f"#   computed: {{{lines}}}",
    ]
