"""The labels of an event: how they are read from the log's columns, and what counts as a conversion.

Each event has y (clicked), z (converted: clicked and a long read, or clicked and true in the conversion column), and a
further z for each of `data.events.conversions`. To change what a label means, change it here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.data import Events
from dmtl_cli.data.log.checked.checks import Checked

Bools = npt.NDArray[np.bool_]
Flags = npt.NDArray[np.int8]
FURTHER = "y:"
"""begins the name of a further conversion's column"""


def read_labels(rows: Checked, events: Events) -> list[pl.Series]:
    """The label columns of a block of raw rows, as the spool keeps them.

    Returns:
        click (int8: 0, 1; all 1 in a log of clicks), duration (float32 seconds, at most `max_duration`, null where
        unknown), where the log has them conversion (int8, -1 where unknown) and weight (float32), and y:NAME of each
        further conversion (int8, -1 where unknown).

    Raises:
        UserError: 65 a value that is no label, with file, column and row.
    """
    click = read_click(rows, events)
    duration = _seconds(rows, events, click)
    own = [rows.flag(events.conversion, nulls=True).alias("conversion")] if events.conversion else []
    if events.weight:
        own.append(rows.number(events.weight, nulls=False).cast(pl.Float32).alias("weight"))
    return [
        click.alias("click"),
        duration.cast(pl.Float32).alias("duration"),
        *own,
        *(rows.flag(column, nulls=True).alias(FURTHER + name) for name, column in events.conversions.items()),
    ]


def read_click(rows: Checked, events: Events) -> pl.Series:
    """[n] int8 1 or 0, 1 in a log of clicks. Raises UserError 65."""
    if events.click is None:
        return pl.Series(np.ones(len(rows.frame), np.int8))
    return rows.click(events.click, nulls=events.null_click == "no_click")


def _seconds(rows: Checked, events: Events, click: pl.Series) -> pl.Series:
    """[n] float, null where unknown. Raises UserError 65."""
    if events.duration is None:
        return pl.Series([None] * len(rows.frame), dtype=pl.Float32)
    if events.invalid_rows == "drop":  # those of a click are left out: of another row it is not worth the row
        blank = pl.when((click == 1) | rows.is_number(events.duration)).then(rows.frame[events.duration])
        rows = rows.of(rows.frame.select(blank.alias(events.duration)))
    clock = rows.is_text(events.duration)
    duration = rows.clock(events.duration) if clock else rows.number(events.duration)
    if events.duration_unit == "ms" and not clock:
        duration = duration / 1000.0
    return duration if events.max_duration is None else duration.clip(upper_bound=events.max_duration)


def converted(
    click: Bools, duration: npt.NDArray[np.float32], conversion: Flags, threshold: float | None
) -> tuple[Bools, Bools]:
    """(z, known), [n] each: z = clicked AND a long read, and where that is known.

    An unclicked row is a known negative even where it carries a duration; a clicked one without a duration is unknown.

    Args:
        duration: seconds, NaN where unknown.
        conversion: 1, 0, or -1 where unknown.
        threshold: seconds above which a click is a long read; None: the conversion column is the label.
    """
    if threshold is None:
        return with_click(click, conversion)
    return click & (duration > threshold), ~click | ~np.isnan(duration)


def with_click(click: Bools, conversion: Flags) -> tuple[Bools, Bools]:
    """(z, known), [n] each, from a conversion column (1, 0, or -1 where unknown): it counts only with a click."""
    return click & (conversion == 1), ~click | (conversion >= 0)
