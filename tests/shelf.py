"""A log whose items come and go, with the days on which they do: of known answers for tests."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

DAYS, A_DAY, ITEMS = 6, 1_500, 120
ZONE = ZoneInfo("Europe/Amsterdam")
FIRST, LAST = dt.date(2025, 9, 29), dt.date(2025, 10, 4)
CAME = [-200 + k if k % 4 else k // 4 % DAYS for k in range(ITEMS)]
"""the day of the log on which each item comes; below 0 before it"""
WENT = [k // 5 % DAYS if k % 5 == 0 and k // 5 % DAYS > max(CAME[k], 0) else None for k in range(ITEMS)]
"""the last one on which it is there"""


def day(k: int | None) -> dt.date | None:
    return None if k is None else FIRST + dt.timedelta(days=k)


def shown(seed: int = 1) -> pl.DataFrame:
    """Exposures of items that are there."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"lid_id": [], "ppn": [], "tijdstip": [], "geopend": [], "seconds": [], "day": []}
    for d in range(DAYS):
        there = [k for k in range(ITEMS) if CAME[k] <= d and d <= (DAYS if (e := WENT[k]) is None else e)]
        begin = dt.datetime.combine(FIRST + dt.timedelta(days=d), dt.time(), ZONE).astimezone(dt.UTC)
        click = rng.random(A_DAY) < 0.3
        rows["lid_id"] += [f"u{u}" for u in rng.integers(0, 100, A_DAY)]
        rows["ppn"] += [f"p{k}" for k in rng.choice(there, A_DAY)]
        rows["tijdstip"] += [begin + dt.timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, 86_000, A_DAY))]
        rows["geopend"] += click.tolist()
        rows["seconds"] += (click * rng.exponential(40.0, A_DAY)).tolist()
        rows["day"] += [str(day(d))] * A_DAY
    return pl.DataFrame(rows)


def put(home: Path, form: str = "parquet", **columns: list[Any]) -> None:
    """The events, folders of a day, and a table of items with these columns, as Parquet or CSV."""
    for (d,), part in shown().group_by("day", maintain_order=True):
        (home / f"vertoningen/datum={d}").mkdir(parents=True)
        part.drop("day").write_parquet(home / f"vertoningen/datum={d}/0.parquet")
    table = pl.DataFrame({"ppn": [f"p{k}" for k in range(ITEMS)], "genre": [f"g{k % 7}" for k in range(ITEMS)]})
    table = table.with_columns(pl.Series(c, values) for c, values in columns.items())
    (table.write_csv if form == "csv" else table.write_parquet)(home / f"titels.{form}")
