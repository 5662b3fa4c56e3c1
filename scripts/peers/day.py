"""A day's work with a library in one script: what `dmtl run` does of a day, as far as the library goes.

It learns the day's rows with the library's MMoE, scores them and as many drawn pairs as dmtl's dump does, learns the
day's clicks with its DSSM and in-batch softmax, and writes what it has scored and the vectors of the day's users and
items as Parquet.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
from benchmark.sizes import NEGATIVES

from peers.rows import Array, Options, Rows, Training, Vocabularies, read

STEPS = ("read", "teacher", "scores", "student", "vectors")
IDS = {"user": "user_id", "item": "item_id"}


class Work:
    """The steps of a day, in the order of STEPS, each with the seconds that it took.

    Args:
        peer: a module with `mmoe` and `dssm` whose trainings give scores and vectors.
        folder: the day's folder of Parquet.
    """

    def __init__(self, peer: ModuleType, folder: Path, o: Options) -> None:
        self.peer, self.folder, self.options = peer, folder, o
        self.rng = np.random.default_rng(o.seed)
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        for name in STEPS:
            start = time.perf_counter()
            getattr(self, name)()
            self.seconds[name] = time.perf_counter() - start

    def read(self) -> None:
        """From Parquet to arrays."""
        log = read(self.folder)
        self.vocabularies = Vocabularies(log)
        self.rows = self.vocabularies.rows(log)
        self.ids = {side: log[column].to_numpy() for side, column in IDS.items()}
        self.first = {side: np.unique(ids, return_index=True)[1] for side, ids in self.ids.items()}
        """places of the first row of each user and of each item"""

    def teacher(self) -> None:
        self.ranker: Training = self.peer.mmoe(self.rows, self.vocabularies.sizes, self.options)
        self.ranker.fit()

    def scores(self) -> None:
        """The day's rows, and NEGATIVES times these users with items drawn uniformly from the day's."""
        self.store_scores(0, self.rows, np.arange(len(self.rows)))
        for k in range(NEGATIVES):
            drawn = self.rng.choice(self.first["item"], len(self.rows))
            self.store_scores(k + 1, self.rows.with_items(drawn), drawn)

    def store_scores(self, part: int, rows: Rows, items: Array) -> None:
        assert self.ranker.scores
        found = np.asarray(self.ranker.scores(rows), np.float32)
        columns = {"user_id": self.ids["user"], "item_id": self.ids["item"][items]}
        columns |= {"click": found[:, 0], "click_read": found[:, 1]}
        pl.DataFrame(columns).write_parquet(self.options.scratch / f"scores-{part}.parquet")

    def student(self) -> None:
        self.retriever: Training = self.peer.dssm(self.rows.clicked(), self.vocabularies.sizes, self.options)
        self.retriever.fit()

    def vectors(self) -> None:
        assert self.retriever.vectors
        for side, first in self.first.items():
            found = np.asarray(self.retriever.vectors(self.rows.take(first), side), np.float32)
            stored = pl.DataFrame({IDS[side]: self.ids[side][first], "vector": found})
            stored.write_parquet(self.options.scratch / f"{side}_vectors.parquet")
