"""What a newcomer reads: the prints of `init` and the commands in them, in a shop of CSV files."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import polars as pl
from initiated import frame, made
from unseen import days_of, drawn
from worlds import dmtl

WORDS = ("oak", "blue", "steel", "mini", "lamp", "pan", "drone")


def shop(home: Path) -> None:
    """Exposures a day, and products of which some cannot be bought, by two columns; some are not listed."""
    x, rows = drawn(0), frame()
    days = pl.Series(days_of(x))
    for day in sorted({*days}):
        rows.filter(days == day).write_csv(home / f"events_{day}.csv")
    ids = rows["item_id"].unique().sort()
    n = np.arange(len(ids))
    pl.DataFrame(
        {
            "item_id": ids,
            "product": [f"{WORDS[k % 7]} {WORDS[k % 5]} {k}" for k in n],
            "text": [" ".join(WORDS * 3) + f" {k}" for k in n],
            "topic": [f"t{k % 9}" for k in n],
            "availability": ["sold out" if k % 9 == 1 else "in stock" for k in n],
            "is_deleted": ["True" if k % 10 == 3 else "False" for k in n],
        }
    )[4:].write_csv(home / "products.csv")


def test_the_printed_recommend_is_of_what_may_be_served_by_its_name(tmp_path: Path) -> None:
    ended, _, _ = made(tmp_path, shop)
    assert ended.code == 0, ended.err
    (for_user,) = (line for line in ended.out.splitlines() if line.startswith("  dmtl recommend"))
    assert for_user.endswith(" --filter 'availability=in stock' --filter is_deleted=false --columns product")
    (days,) = (shlex.split(line, comments=True) for line in ended.out.splitlines() if line.startswith("  dmtl back"))
    ran = dmtl(*days[1:], "--set", "auto.budget=0")
    assert ran.code == 0, ran.err
    answered = dmtl(*shlex.split(for_user)[1:], "-k", 1000)
    assert (answered.code, answered.err) == (0, "")
    names = [line.split("\t")[2] for line in answered.out.splitlines()]
    table = pl.read_csv(tmp_path / "log/products.csv", infer_schema=False)
    sold = table.filter((pl.col("availability") == "in stock") & (pl.col("is_deleted") == "False"))["product"]
    assert names and {*names} <= {*sold}
