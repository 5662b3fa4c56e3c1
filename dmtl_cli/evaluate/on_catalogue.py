"""How much of what a user wants a ranker retrieves from all items, and in a synthetic world what that is worth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from dmtl_cli.data.log.day import ID
from dmtl_cli.evaluate import metrics
from dmtl_cli.evaluate.exam import Exam, Ints, Wanted, fixed_rng
from dmtl_cli.evaluate.metrics import KS
from dmtl_cli.evaluate.rankers import Ranker
from dmtl_cli.evaluate.truth import Truth
from dmtl_cli.serving.search import best_k

FRESH = "fresh"
"""the student that retrieves from the measured day's items: its metrics are those of the student, with this suffix"""


def on_catalogue(exam: Exam, rankers: Mapping[str, Ranker], truth: Truth | None) -> dict[str, float]:
    """Recall, hit rate, NDCG and time recall of the top items of every ranker; with a known truth their worth, beside
    the best and a random choice (`oracle`, `random`).

    Returns:
        `<ranker>.<metric>@K`, `<ranker>.<label>.<metric>@K`; what is undefined is absent.
    """
    out: dict[str, float] = {}
    tops: dict[str, Ints] = {}
    wanted = exam.wanted()
    for name, ranker in rankers.items():
        places, ids = ranker.retrieve(exam.users, max(KS))
        rows = exam.day.rows_of(ids, "item")
        tops[name] = np.where(rows[places] >= 0, rows[places], -1)
        out |= _named(name, _found(wanted, tops[name]))
        if truth is not None:
            out |= _named(name, _worth(truth, exam, ids, places))
    if truth is not None:
        ids = exam.day.items[ID]
        seconds = truth.read_seconds(_user_ids(exam).to_numpy(), ids.to_numpy())
        random = fixed_rng("random", exam.day.day).random(seconds.shape)
        for name, scores in (("oracle", seconds), ("random", random)):
            out |= _named(name, _worth(truth, exam, ids, best_k(scores, max(KS))))
    if {"student", "student_teacher"} <= set(tops):
        common = metrics.overlap(tops["student"], tops["student_teacher"])
        out |= {f"student.teacher_{metric}": value for metric, value in common.items()}
    return out


def _named(ranker: str, values: dict[str, float]) -> dict[str, float]:
    if ranker == FRESH:
        return {f"student.{metric}.{FRESH}": value for metric, value in values.items()}
    return {f"{ranker}.{metric}": value for metric, value in values.items()}


def _user_ids(exam: Exam) -> pl.Series:
    return exam.day.users[ID].gather(exam.users)


def _found(wanted: dict[str, Wanted], top: Ints) -> dict[str, float]:
    """How much of what was wanted is in the top [U, K] item rows; -1 is an item that the day does not have."""
    out: dict[str, float] = {}
    for label, those in wanted.items():
        found = metrics.retrieval(top, (those.indptr, those.items), those.seconds)
        out |= {name if name.startswith("time") else f"{label}.{name}": value for name, value in found.items()}
    return out


def _worth(truth: Truth, exam: Exam, ids: pl.Series, places: Ints) -> dict[str, float]:
    """Expected click rate, long-read rate and read seconds of the top `places` [U, K] in `ids`, over sampled users."""
    users, items = _user_ids(exam).to_numpy(), ids.to_numpy()
    values = {"read_seconds": truth.read_seconds(users, items), "click_rate": truth.click_rate(users, items)}
    if exam.threshold is not None:
        values["long_read_rate"] = truth.long_read_rate(users, items, exam.threshold)
    out: dict[str, float] = {}
    for name, of_all in values.items():
        of_top = np.take_along_axis(of_all, places, 1)
        out |= {f"{name}@{k}": float(of_top[:, :k].mean()) for k in KS}
    return out
