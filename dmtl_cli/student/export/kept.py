"""What is kept of exact search when item vectors are stored in fewer bits, or found by an index."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmtl_cli.config.evaluate import TOPK
from dmtl_cli.config.export import Export
from dmtl_cli.config.extras import has, install
from dmtl_cli.runs.gates import Measure
from dmtl_cli.serving import index
from dmtl_cli.serving.search import Floats, top_k

USERS = 500
"""whose lists are compared, evenly from those of the day"""


class Kept(NamedTuple):
    metrics: dict[str, float]
    measures: list[Measure]
    warnings: list[str]


def write_index(
    folder: Path, settings: Export, users: Floats, exact: Floats, stored: Floats, key: str = "", k: int = TOPK[0]
) -> Kept:
    """Writes index.faiss where the settings want one, and measures Recall@K against exact search.

    Args:
        users: [U, d] of the day.
        exact: [I, d] as the tower made them.
        stored: [I, d] what the stored ones stand for.
    """
    some = users[np.linspace(0, len(users) - 1, min(len(users), USERS)).astype(np.int64)]
    out = Kept({}, [], [])
    kind = settings.index_of(len(stored))
    if not len(some) or not len(stored):
        return out
    lists = top_k(some, stored, max(k, index.FIRST))[0]
    first, lists = lists[:, : index.FIRST], lists[:, :k]
    if settings.vectors != "float32":
        out.metrics[f"vectors.recall@{k}"] = float(index.recall(top_k(some, exact, k)[0], lists).mean())
    if kind == "exact":
        return out
    if not has("faiss"):
        said = f"{len(stored)} items are searched exactly, as faiss is not installed: {install('faiss')}"
        return Kept(out.metrics, [], [f"export.index: auto: {said}, or set export.index: exact"])
    index.write(folder, stored, kind, some, first, key)
    written = index.Index(folder, *stored.shape)
    reach = int(written.reach(np.array([k]))[0])
    shares = index.recall(lists, written.search(some, reach)[0][:, :k] if reach else lists)
    out.metrics[f"index.recall@{k}"] = share = float(shares.mean())
    error = float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    hint = "set export.index: exact, or the other kind of index"
    return Kept(out.metrics, [Measure("export.index_recall", share, error, hint=hint)], [])
