"""Regressions of the early part of a window: what trials blend a candidate's network with, as its teacher will be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.schema import Config
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.nn.batches import Tables
from dmtl_cli.runs.run import Run
from dmtl_cli.teacher.blend import Blend
from dmtl_cli.teacher.factors import Factors
from dmtl_cli.teacher.labels import HeldOut, TeacherRows
from dmtl_cli.teacher.regression import OnDay, Regression, learn
from dmtl_cli.teacher.rows import teacher_rows
from dmtl_cli.tune.cut import Cut
from dmtl_cli.tune.shares import of_tasks, shares_of

Floats = npt.NDArray[np.float64]
Logits = dict[str, Floats]
"""by label [n]"""


@dataclass
class Regressions:
    """Regressions of shares of the users, each learned once, however many candidates read what it reads.

    Args:
        measured: the rows of which their logits are told.
        threshold: seconds above which a read is long.
    """

    run: Run
    cut: Cut
    threshold: float | None
    measured: TeacherRows
    _known: dict[tuple[int, float], tuple[Logits, Logits | None]] = field(default_factory=dict, repr=False)
    """by encoder, which `Encodings` keeps, and share"""

    def factors(
        self, logits: npt.NDArray[np.float32], config: Config, encoder: Encoder, tables: Tables, share: float
    ) -> Factors | None:
        """Of a candidate, the shares that it would have beside the regression: see `tune.shares`.

        Args:
            logits: [n, H] of the measured rows.
            config: the candidate's.
            tables: of the window's days, encoded.
            share: of the users, whose rows both have learned.
        """
        whole, _ = self._logits(config, encoder, tables, share)
        return shares_of(config, logits, self.measured, self._rows(config, whole))

    def blended(
        self, model: npt.NDArray[np.float32], config: Config, encoder: Encoder, tables: Tables, share: float
    ) -> npt.NDArray[Any]:
        """A model's logits of the measured rows [n, T] with those of the regression, in the shares that fit these rows
        best.

        Args:
            config, tables, share: as `factors` takes them.
        """
        whole, alone = self._logits(config, encoder, tables, share)
        mine = dict(zip(config.tasks.names, model.astype(np.float64).T, strict=True))
        rows = self._rows(config, mine), self._rows(config, whole)
        blend = Blend.fit(*rows, None, self._rows(config, alone) if alone else None)
        parts = [blend.apply(t, x, whole[t], alone[t] if alone else None) for t, x in mine.items()]
        return np.stack(parts, 1)

    def _rows(self, config: Config, by_task: Logits) -> dict[str, HeldOut]:
        return of_tasks(config, np.stack([by_task[task] for task in config.tasks.names], 1), self.measured)

    def _logits(self, config: Config, encoder: Encoder, tables: Tables, share: float) -> tuple[Logits, Logits | None]:
        """Of the measured rows in their context, and those without conjunctions; None where there are none."""
        at = id(encoder), share
        if at not in self._known:
            rng = self.run.rng("tune", "regression")
            model = Regression.new(self.run.config.tasks)
            rows = teacher_rows(self.cut.learned, self.threshold, config.teacher, self.cut.learn(share), rng)
            learn([model], encoder, tables, rows, max(len(day.items) for day in self.cut.days))
            self._known[at] = OnDay(model, encoder, tables).with_and_without_pairs(self.measured)
        return self._known[at]
