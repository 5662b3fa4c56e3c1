"""Rows of one exposure that came several times, as at-least-once delivery writes them: which one of an id's is read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.runs.ranks import Ranks


def hashed(ids: pl.Series, items: pl.Series | None = None) -> pl.Series:
    """[n] 64 bits of each id, or of an id and an item, null of no id: two of a billion are taken for one with a chance
    of 3%."""
    keys = _plain(ids)
    found = keys if items is None else pl.select(pl.struct(keys.alias("id"), _plain(items).alias("item"))).to_series()
    return pl.select(pl.when(keys.is_not_null()).then(found.hash())).to_series()


def _plain(ids: pl.Series) -> pl.Series:
    return ids.cast(pl.Int64, strict=False) if ids.dtype.is_integer() else ids.cast(pl.String)


def kept(ids: pl.Series, click: pl.Series, ranks: Ranks) -> npt.NDArray[np.bool_]:
    """[n] which of this rank's rows are read: of one id the last with a click, else the last; all without an id.

    Args:
        ids: [n] as `hashed` gives them, of rows in the order of the log.
        click: [n] int8, 1 with a click.
        ranks: those that have the rows before these and behind them.
    """
    known, hashes, clicks = ids.is_not_null().to_numpy(), ids.fill_null(0).to_numpy(), click.to_numpy()
    every = ranks.gather_objects((known, hashes, clicks))
    start, mine = sum(len(one) for one, _, _ in every[: ranks.rank]), len(ids)
    if ranks.size > 1:
        known, hashes, clicks = (np.concatenate(parts) for parts in zip(*every, strict=True))
    of_known = np.sort(hashes[known])
    twice = pl.Series(of_known[1:][of_known[1:] == of_known[:-1]])
    again = known & pl.Series(hashes).is_in(twice.implode()).to_numpy()
    at, keep = np.flatnonzero(again), ~again
    order = np.lexsort((at, clicks[at], hashes[at]))  # of the rows that repeat alone: most do not
    of = hashes[at][order]
    keep[at[order[np.append(of[1:] != of[:-1], True)[: len(of)]]]] = True
    mask: npt.NDArray[np.bool_] = keep[start : start + mine]
    return mask
