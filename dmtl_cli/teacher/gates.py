"""What is judged of a trained teacher: what it learned of its day, what it knows of held-out rows, and its files.

n rows, k rows of the rarer class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dmtl_cli.runs.gates import Measure, exactly
from dmtl_cli.scores.calibration import Calibration
from dmtl_cli.teacher.auc import auc_gain
from dmtl_cli.teacher.labels import HeldOut

_RATE = "lower or raise teacher.learning_rate and teacher.embedding_learning_rate"
_NOISE = "do the day's labels belong to its rows?"


def first_epoch(numbers: Mapping[str, float], tasks: tuple[str, ...]) -> list[Measure]:
    """By task `teacher.ne`: the loss of rows before they are learned, over that of their mean label (normalised
    entropy: He et al., ADKDD 2014), by which a day is held against the model that meets it (progressive validation:
    Blum et al., COLT 1999). 1 where it is less: a model that is better than the mean has met its own kind of day,
    however much better it was on others. And `teacher.next_auc`: AUC of pairs within a batch, before it is learned.

    Args:
        numbers: means over the first epoch, as `loss.batch_loss` reports them.
    """
    out = []
    for task in tasks:
        loss, rate = (numbers.get(f"{kind}.{task}", 0.0) for kind in ("loss", "rate"))
        rows = numbers.get("rows", 0.0) * numbers.get(f"share.{task}", 1.0)
        if rows and 0 < rate < 1:
            value = loss / -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
            # a log loss is as spread as an exponential variable; of rare labels it is known as well as their number
            error = value / math.sqrt(2 * rows * min(rate, 1 - rate))
            out.append(Measure(f"teacher.ne.{task}", max(value, 1.0), error, hint=f"{_NOISE} or {_RATE}"))
            if pairs := numbers.get(f"pairs.{task}"):
                order = numbers[f"ordered.{task}"] / pairs
                error = _hanley_mcneil(order, rows * rate, rows * (1 - rate))
                out.append(Measure(f"teacher.next_auc.{task}", order, error, hint=_NOISE))
    return out


def _hanley_mcneil(auc: float, positive: float, negative: float) -> float:
    """The standard error of an AUC (Hanley and McNeil, Radiology 1982)."""
    both, neither = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    variance = auc * (1 - auc) + (positive - 1) * both + (negative - 1) * neither
    return math.sqrt(max(0.0, variance) / (positive * negative))


def gate_loads(numbers: Mapping[str, float], tasks: tuple[str, ...]) -> list[Measure]:
    """By task the largest mean share of an expert in the last epoch; nothing for a network without gates."""
    hint = f"one expert has all of a gate: raise teacher.gate_dropout, or {_RATE}"
    loads = {task: numbers.get(f"gate.{task}.max") for task in tasks}
    return [Measure(f"teacher.gate.{task}", load, hint=hint) for task, load in loads.items() if load is not None]


def on_held_out(
    teacher: Mapping[str, HeldOut], regression: Mapping[str, HeldOut], calibration: Mapping[str, Mapping[str, Any]]
) -> list[Measure]:
    """By task, where its held-out rows have both classes and two users: AUC, AUC less the regression's, and predicted
    over observed.

    Args:
        teacher, regression: the same rows of each task; `regression` may have more.
        calibration: as `facts` of a manifest has them.
    """
    out = [_calibrated(calibration)]
    for task, rows in teacher.items():
        found, beside = auc(rows), auc(rows, regression[task])
        if found is None or beside is None:
            continue
        out.append(Measure(f"teacher.auc.{task}", *found, hint=_NOISE))
        hint = "the regression orders this day better: see dmtl tune, or teacher.blend_regression"
        out.append(Measure(f"teacher.beside_regression.{task}", *beside, hint=hint))
        y, w = rows.label.astype(np.bool_), rows.weight.astype(np.float64)
        p = np.exp(Calibration.from_dict(calibration[task]).log_prob(rows.logit.astype(np.float64)))
        ratio = float(w @ p) / float(w @ y)
        error = ratio * float(np.sqrt(w**2 @ p)) / max(float(w @ p), np.finfo(np.float64).tiny)
        out.append(Measure(f"teacher.pcoc.{task}", ratio, error, hint="calibration does not fit the held-out rows"))
    return out


def _calibrated(calibration: Mapping[str, Mapping[str, Any]]) -> Measure:
    """How many tasks have a calibration that is not finite or does not rise."""
    every = [Calibration.from_dict(c) for c in calibration.values()]
    broken = sum(not (math.isfinite(c.slope) and math.isfinite(c.intercept) and c.slope > 0) for c in every)
    return exactly("teacher.calibration.broken", broken, 0, _RATE)


def auc(rows: HeldOut, other: HeldOut | None = None) -> tuple[float, float] | None:
    """AUC, or AUC less that of the same rows with other logits, and its standard error: `auc_gain`'s, of an AUC no less
    than that of as many independent rows, since a few users may be alike by chance. To it half a row of the rarer class
    is added, since a few rows may all be on one side by chance.

    Returns:
        None with fewer than two users or without rows of both classes.
    """
    y, w = rows.label.astype(np.bool_), rows.weight.astype(np.float64)
    gain = auc_gain(y, rows.logit, None if other is None else other.logit, rows.user, w)
    if gain is None:
        return None
    counts = [float(of.sum() ** 2 / np.square(of).sum()) for of in (w[y], w[~y])]  # of weight 1 that would say as much
    half_a_row = 0.5 / min(counts)
    if other is not None:
        return gain[0], math.hypot(gain[1], half_a_row)
    found = gain[0] + 0.5
    return found, math.hypot(max(gain[1], _hanley_mcneil(found, *counts)), half_a_row)
