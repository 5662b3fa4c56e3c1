"""How well a ranker orders exposed rows, tells them from drawn negatives, and predicts probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dmtl_cli.config.tasks import READ, with_click
from dmtl_cli.data.rows import Rows
from dmtl_cli.evaluate import metrics
from dmtl_cli.evaluate.exam import Exam, Observed, Sample, concat_by_name
from dmtl_cli.evaluate.on_catalogue import NEW_USERS
from dmtl_cli.evaluate.rankers import PREFERENCE, REGRESSION, Ranker
from dmtl_cli.nn.kernels.chunks import on_threads
from dmtl_cli.runs.progress import SILENT, RunLog
from dmtl_cli.teacher.auc import auc_error, auc_gain

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Scores:
    """The scores that one ranker gives."""

    exposed: dict[str, npt.NDArray[np.float64]]
    """by label, of the exposed rows [n]"""
    drawn: dict[str, dict[str, npt.NDArray[np.float32]]]
    """by way of drawing and label, of the negatives drawn for the clicked rows [m]"""

    @staticmethod
    def concat(parts: Sequence[Scores]) -> Scores:
        drawn = {way: concat_by_name([p.drawn[way] for p in parts]) for way in parts[0].drawn}
        return Scores(concat_by_name([p.exposed for p in parts]), drawn)


@dataclass(frozen=True)
class Scored:
    """The measured rows of a day, and what every ranker scores them."""

    observed: Observed
    by: dict[str, Scores]
    """by ranker"""


def score_rows(
    exam: Exam, rankers: Mapping[str, Ranker], log: RunLog = SILENT, known: Mapping[str, Scores] | None = None
) -> Scored:
    """What every ranker scores the measured rows, block by block; one that has two names once.

    Args:
        known: scores that need not be computed again, by ranker.
    """
    rows: list[Observed] = []
    known = known or {}
    rankers = {name: ranker for name, ranker in rankers.items() if name not in known}
    first = {name: next(n for n in rankers if rankers[n] is ranker) for name, ranker in rankers.items()}
    parts: dict[str, list[Scores]] = {name: [] for name in first.values()}
    events = int(exam.day.user_events[exam.row_users].sum())
    with log.progress(f"evaluation {exam.day.day}: scoring rows", events * len(parts)) as progress:
        for sample in exam.samples():
            rows.append(sample.observed)
            for name, each in parts.items():
                progress.at(name)
                each.append(_scores(rankers[name], sample))
                progress.step(len(sample.exposed))
    observed = Observed.concat(rows)
    scores = {name: Scores.concat(each) for name, each in parts.items()}
    return Scored(observed, {name: scores[one] for name, one in first.items()} | dict(known))


def on_rows(exam: Exam, rankers: Mapping[str, Ranker], scored: Scored) -> dict[str, float]:
    """AUC, GAUC, logloss, NE and PCOC of every ranker and label on exposed rows, and its AUC against drawn negatives.

    Args:
        scored: what `score_rows` gives of the same rankers.

    Returns:
        `<ranker>.<label>.<metric>`; what is undefined is absent.
    """
    observed, scores = scored.observed, scored.by
    found: dict[str, float | None] = {}
    each = [(name, label) for name in rankers for label in exam.tasks.labels]

    def measured(one: tuple[str, str]) -> dict[str, float | None]:
        name, label = one
        return _label_metrics(exam, observed, scores[name], label, rankers[name].probable(label))

    for (name, label), values in zip(each, on_threads(each, measured, torch.device("cpu")), strict=True):
        found |= {f"{name}.{label}.{metric}": value for metric, value in values.items()}
    if {"student", "student_teacher"} <= set(rankers):
        taught = PREFERENCE if PREFERENCE in rankers else "student"
        one, other = (scores[name].exposed[with_click(READ)] for name in (taught, "student_teacher"))
        found["student.kendall_tau"] = metrics.kendall_tau(one, other, observed.user)
    if exam.exposures and {REGRESSION, "teacher"} <= set(rankers):
        found |= _beside(exam, observed, scores[REGRESSION], scores["teacher"])
    return {name: value for name, value in found.items() if value is not None and np.isfinite(value)}


def _beside(exam: Exam, observed: Observed, regression: Scores, teacher: Scores) -> dict[str, float]:
    """How far the regression is ahead of the teacher in the labels of all rows, with the standard error of that."""
    out: dict[str, float] = {}
    for label in (x for x in exam.tasks.labels if x not in exam.tasks.conversions):
        rows = observed.measured[label]
        one, other = (scores.exposed[label][rows] for scores in (regression, teacher))
        gain = auc_gain(observed.positive[label][rows], one, other, observed.user[rows], observed.weight[rows])
        if gain:
            out |= {f"{REGRESSION}.{label}.auc_ahead": gain[0], f"{REGRESSION}.{label}.auc_ahead.se": gain[1]}
    return out


def _scores(ranker: Ranker, sample: Sample) -> Scores:
    # all at once, as they share users and items
    scores = ranker.scores(Rows.concat([sample.exposed, *sample.drawn.values()]))
    ends = np.cumsum([len(sample.exposed), *map(len, sample.drawn.values())])
    parts = {label: np.split(scores[label], ends[:-1]) for label in sample.observed.measured}
    return Scores(
        {label: part[0].astype(np.float64) for label, part in parts.items()},
        {way: {x: p[1 + k].astype(np.float32) for x, p in parts.items()} for k, way in enumerate(sample.drawn)},
    )


def _label_metrics(
    exam: Exam, observed: Observed, scores: Scores, label: str, probable: bool
) -> dict[str, float | None]:
    """The metrics of one ranker and label; a score given a click says nothing of items that were not shown."""
    rows, positive, score = observed.measured[label], observed.positive[label], scores.exposed[label]
    given_click = label in exam.tasks.conversions
    out: dict[str, float | None] = {}
    if exam.exposures or given_click:
        out |= _exposed_metrics(positive[rows], score[rows], observed.user[rows], observed.weight[rows], probable)
        if exam.new_users is not None and not given_click:
            new = rows & exam.new_users[observed.user]
            out[f"auc.{NEW_USERS}"] = metrics.auc(positive[new], score[new], observed.weight[new])
    if not given_click:
        hits = score[rows & positive]
        for way, valid in observed.valid.items():
            out[f"auc.{way}"] = _auc_of_two(hits, scores.drawn[way][label][valid])
    return out


def _exposed_metrics(y: Array, score: Array, user: Array, weight: Array, probable: bool) -> dict[str, float | None]:
    out = {"auc": metrics.auc(y, score, weight), "gauc": metrics.gauc(y, score, user, weight)}
    out["auc.se"] = auc_error(y, score, user, weight)
    if probable:
        p = np.exp(score)
        out["logloss"] = metrics.logloss(y, p, weight)
        out["ne"] = metrics.ne(y, p, weight)
        out["pcoc"] = metrics.pcoc(y, p, weight)
    return out


def _auc_of_two(positive: Array, negative: Array) -> float | None:
    """AUC of scores of positives against scores of negatives, unweighted, compared as float32."""
    y = np.concatenate([np.ones(len(positive), np.bool_), np.zeros(len(negative), np.bool_)])
    return metrics.auc(y, np.concatenate([positive.astype(np.float32), negative]))
