"""Calibrates a teacher on exposures that it did not learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.day import Day
from dmtl_cli.data.rows import pairs
from dmtl_cli.runs.run import Parent, Run
from dmtl_cli.scores import calibration
from dmtl_cli.scores.calibration import Calibration
from dmtl_cli.teacher.frozen import Scorer
from dmtl_cli.teacher.labels import HeldOut, labelled
from dmtl_cli.teacher.model import Teacher
from dmtl_cli.teacher.rows import HoldOut

Array = npt.NDArray[Any]


def held_out_logits(
    run: Run, encoder: Encoder, model: Teacher, days: Sequence[Day], hold_out: HoldOut, threshold: float | None
) -> dict[str, HeldOut]:
    """The held-out exposures of each task, which training did not see."""
    parts: dict[str, list[tuple[Array, Array, Array]]] = {task: [] for task in run.config.tasks.names}
    for day in days:
        scorer = Scorer(encoder, model, day, run.device, run.ranks, kept_bytes=0)  # for a few rows
        for block in day.blocks():
            rows = labelled(block, threshold).take(np.flatnonzero(hold_out.held(day, block)))
            click, converted, known, weight = rows.labels
            logits = scorer.pairs(pairs(rows.user, rows.item, rows.features))
            for k, task in enumerate(parts):
                label, kept = (converted[:, k - 1], click & known[:, k - 1]) if k else (click, slice(None))
                parts[task].append((logits[kept, k], label[kept], weight[kept]))
    return {k: HeldOut(*(np.concatenate(x) for x in zip(*v, strict=True))) for k, v in parts.items()}


def calibrated(run: Run, held_out: dict[str, HeldOut], before: Parent | None) -> dict[str, Calibration]:
    """One calibration per task, with the previous teacher's as prior; the identity in a log without exposures."""
    if run.config.data.events.click is None:
        return dict.fromkeys(held_out, Calibration())
    earlier = {k: Calibration.from_dict(v) for k, v in before[1].facts["calibration"].items()} if before else {}
    weak = calibration.LEVEL if run.config.teacher.samples == "exposed" else calibration.WEAK
    return {k: calibration.fit(x.logit, x.label, x.weight, earlier.get(k), weak=weak) for k, x in held_out.items()}
