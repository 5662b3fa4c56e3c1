"""The contract between teacher and student: a table with one row per scored pair.

| column | type | meaning |
|---|---|---|
| user_id, item_id | the log's own | the pair |
| day | date | the log's day it was scored on |
| pair_source | text | exposed: a row of the log; negative: drawn for one; candidate: retrieved for the user |
| group | int64 | the request of an exposed row, where the log has requests; else a negative hash of user and day |
| rank | int32 | 1 = best by pctcvr within group and pair_source, ties by item_id |
| ctr_logit, cvr_logit | float32 | of the pair without a context, model and regression blended, not calibrated |
| pctr, pcvr, pctcvr | float32 | calibrated, inside (0, 1); pctcvr = pctr * pcvr |
| X_logit, pX, pctX | float32 | of a further conversion X: the same, calibrated, pctr * pX |
| pfused | float32 | product of p ** exponent, where the config gives exponents |

Sorted by (group, pair_source, rank); a Parquet row group ends where a group ends. The manifest has what is true
of every row: the teacher's run, the threshold, the sampling, the calibration and the exponents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.tasks import CLICK, FUSED, READ, Tasks, logit_column, score_of, with_click
from dmtl_cli.scores.calibration import Calibration

SOURCES = ("exposed", "negative", "candidate")
"""where a scored pair comes from"""
_LARGEST = np.nextafter(np.float32(1), np.float32(0))
_SMALLEST = np.float32(1e-37)


def column_names(tasks: Tasks, *, fused: bool) -> tuple[str, ...]:
    """Names of a table's logits and scores, in order."""
    first = [logit_column(t) for t in (CLICK, READ)] + [score_of(t) for t in (CLICK, READ, with_click(READ))]
    rest = [c for x in tasks.further for c in (logit_column(x), score_of(x), score_of(with_click(x)))]
    return (*first, *rest, *([FUSED] if fused else []))


def score_columns(
    logits: Mapping[str, npt.NDArray[np.float32]], calibration: Mapping[str, Calibration], fusion: Mapping[str, float]
) -> dict[str, npt.NDArray[Any]]:
    """Logits [n] by task -> the columns of a table, in order.

    Probabilities are strictly inside (0, 1), with pctX = pctr * pX in float32.
    """
    tasks = Tasks.named(logits)
    log_p = {task: calibration[task].log_prob(x) for task, x in logits.items()}
    # the floor is above the square root of the smallest normal float32, so that a product stays inside too
    p = {task: np.clip(np.exp(x).astype(np.float32), np.float32(1e-18), _LARGEST) for task, x in log_p.items()}
    out: dict[str, npt.NDArray[Any]] = {}
    for task in tasks.names:
        out |= {logit_column(task): logits[task], score_of(task): p[task]}
    for x in tasks.conversions:
        out[score_of(with_click(x))] = p[CLICK] * p[x]
    if fusion:
        whole = sum(a * log_p[task] for task, a in tasks.factors(fusion)[FUSED].items())
        out[FUSED] = np.clip(np.exp(whole).astype(np.float32), _SMALLEST, _LARGEST)
    return {name: out[name] for name in column_names(tasks, fused=bool(fusion))}
