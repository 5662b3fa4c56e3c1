"""Rows of one exposure that came several times, as at-least-once delivery writes them: which one of an id's is read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.runs.ranks import Ranks

_CLICK = 62  # bit of a row's order that a click has, above its place


def hashed(ids: pl.Series) -> pl.Series:
    """[n] 64 bits of each id, null of none: two of a billion ids are taken for one with a chance of 3%."""
    plain = ids.cast(pl.Int64, strict=False) if ids.dtype.is_integer() else ids.cast(pl.String)
    return pl.select(pl.when(plain.is_not_null()).then(plain.hash())).to_series()


def kept(ids: pl.Series, click: pl.Series, ranks: Ranks) -> npt.NDArray[np.bool_]:
    """[n] which of this rank's rows are read: of one id the last with a click, else the last; all without an id.

    Args:
        ids: [n] as `hashed` gives them, of rows in the order of the log.
        click: [n] int8, 1 with a click.
        ranks: those that have the rows before these and behind them.
    """
    every = ranks.gather_objects(pl.DataFrame({"id": ids, "click": click}))
    start = sum(map(len, every[: ranks.rank]))
    rows = pl.concat(every).with_row_index("at")
    order = pl.col("at").cast(pl.UInt64) | (pl.col("click").cast(pl.UInt64) * (1 << _CLICK))
    last = rows.drop_nulls("id").group_by("id").agg(order.max())["at"] & ((1 << _CLICK) - 1)
    keep = rows["id"].is_null().to_numpy(writable=True)
    keep[last.to_numpy()] = True
    return keep[start : start + len(ids)]
