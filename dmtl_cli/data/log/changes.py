"""Inline item features that change within a day, of which the first value alone is read."""

from __future__ import annotations

import numpy as np

from dmtl_cli.data.log.day import FEATURE, Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.shares import share_groups
from dmtl_cli.runs.ranks import ALONE


def items_that_change(log: Log, day: Day) -> dict[str, int]:
    """Items with several values of an inline feature, by feature name: one more pass over a day that was read.

    Raises:
        UserError: what reading the day would raise.
    """
    found, raw = log.open(day.day)
    features = [f for f in raw.schema.inline["item"] if f.source != log.data.events.item]
    changing = {f.name: np.zeros(len(day.items), np.bool_) for f in features}
    for block in raw.rows(share_groups(raw.schema.events, found.groups, ALONE)) if features else ():
        item = day.rows_of(block["item"], "item")
        for f in features:
            other = day.items[f.name].gather(item).ne_missing(block[FEATURE + f.source])
            changing[f.name][item[other.to_numpy()]] = True
    return {name: int(items.sum()) for name, items in changing.items()}
