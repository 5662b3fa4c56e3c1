"""Pairs that are scored without an exposure: the top of a recall source for each user."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.scores import Scores
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.run import Parent
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.search import best_k, top_k

Ints = npt.NDArray[np.int64]


def candidates(
    config: Scores, day: Day, active: Ints, retriever: Parent | None, ranks: Ranks = ALONE
) -> Iterator[Rows[None]]:
    """Yields each active user's top items of the recall source in blocks of users; each rank yields its own blocks.

    The student retrieves from the day's own catalogue; popularity takes its place until there is an export.
    """
    if not config.candidates:
        return
    popular = best_k(day.item_clicks[None], config.candidates)[0]
    if retriever is not None:
        export = Export(retriever[0])
        items = export.vectors(day.items, "item")
    step = max(1, sizes.BLOCK // config.candidates)
    for k, start in enumerate(range(0, len(active), step)):
        if not ranks.mine(k):
            continue
        users = active[start : start + step]
        found = np.tile(popular, (len(users), 1))
        if retriever is not None:
            own = config.candidates if config.candidate_source == "student" else -(-config.candidates // 2)
            top = top_k(export.vectors(day.users[users], "user"), items, own)[0]
            found = np.concatenate([top, found[:, : config.candidates - own]], 1)
        both = np.unique((users[:, None] * len(day.items) + found).ravel())  # an item of both sources appears once
        user, item = np.divmod(both, len(day.items))
        yield pairs(user, item)
