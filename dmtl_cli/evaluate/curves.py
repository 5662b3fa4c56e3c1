"""What an evaluation stores to be drawn: reliability and histograms of scores, popularity and age of what is retrieved.

Counts and shares of groups alone: nothing in it names a user or an item.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.evaluate import metrics
from dmtl_cli.evaluate.exam import Exam, Ints
from dmtl_cli.evaluate.on_catalogue import FRESH, Retrieved, for_few
from dmtl_cli.evaluate.on_rows import Scored
from dmtl_cli.evaluate.rankers import PREFERENCE, REGRESSION, Ranker
from dmtl_cli.runs.contents import CURVES

FORMAT = 1
AGES = (1, 2, 4, 8, 15, 31)
"""the first day of each group of ages but the first, which is of items without an event before the day"""
_DRAWN = ("teacher", REGRESSION, "student", PREFERENCE)
_RELIABILITY, _HISTOGRAM, _DECILES = 10, 30, 10
Array = npt.NDArray[Any]


def write_curves(folder: Path, found: Mapping[str, Any]) -> None:
    """Writes CURVES, numbers with six digits, the same bytes each time."""
    (folder / CURVES).write_text(json.dumps(_rounded(found), sort_keys=True, allow_nan=False) + "\n")


def curves_of(
    exam: Exam, rankers: Mapping[str, Ranker], scored: Scored, tops: Mapping[str, Retrieved], known: pl.DataFrame | None
) -> dict[str, Any]:
    """What CURVES has.

    Args:
        scored, tops: what `score_rows` and `retrieve` give.
        known: `id`, `count` (events before the day, decayed) and `first_seen` of items; None where nothing is known.
    """
    drawn = {name: rankers[name] for name in _DRAWN if name in rankers}
    found: dict[str, Any] = {"format": FORMAT, "k": exam.k, "reliability": {}, "histograms": {}}
    for label in exam.tasks.labels:
        for name, ranker in drawn.items():
            if (rows := _two_classes(scored, name, label)) is None:
                continue
            if ranker.probable(label):
                found["reliability"].setdefault(label, {})[name] = reliability(*rows)
            found["histograms"].setdefault(label, {})[name] = histogram(rows[0], rows[1])
    found["overlap"] = _overlaps(exam, tops)
    if known is not None:
        found |= _groups(exam, tops, known)
    return found


# -- scores ------------------------------------------------------------------------------------------------------------


def _two_classes(scored: Scored, name: str, label: str) -> tuple[Array, Array, Array] | None:
    """(labels, log-probabilities, weights) of the rows that a label is measured on; None where one class is missing."""
    rows = scored.observed.measured[label]
    y, weight = scored.observed.positive[label][rows], scored.observed.weight[rows].astype(np.float64)
    return (y, scored.by[name].exposed[label][rows], weight) if 0 < y.sum() < len(y) else None


def reliability(y: Array, score: Array, weight: Array, bins: int = _RELIABILITY) -> list[dict[str, float]]:
    """Mean prediction and mean label of bins of equal weight, from the lowest prediction on (a reliability diagram:
    Niculescu-Mizil and Caruana, ICML 2005).

    Args:
        y: [n] bool.
        score: [n] log-probabilities.
        weight: [n] >= 0.

    Returns:
        `predicted`, `observed` and `rows` of each bin that has a row of positive weight.
    """
    order = np.argsort(score, kind="stable")
    y, p, w = y[order].astype(np.float64), np.exp(score[order]), weight[order]
    before = np.cumsum(w) - w
    bin_of = np.minimum((before * bins / max(w.sum(), 1e-300)).astype(np.int64), bins - 1)
    rows, total, predicted, observed = (
        np.bincount(bin_of, weights=x, minlength=bins) for x in (w > 0, w, w * p, w * y)
    )
    return [
        {"predicted": predicted[k] / total[k], "observed": observed[k] / total[k], "rows": int(rows[k])}
        for k in np.flatnonzero(total > 0)
    ]


def histogram(y: Array, score: Array, bins: int = _HISTOGRAM) -> dict[str, Any]:
    """How often each log-odds was given to positives and to negatives: counts of equal bins between the .5% and the
    99.5% quantile, those beyond in the first and the last.

    Args:
        y: [n] bool.
        score: [n] log-probabilities.

    Returns:
        `from`, `to`, and the counts [bins] `positive` and `negative`.
    """
    logit = score - np.log(np.maximum(-np.expm1(score), 1e-12))
    low, high = np.quantile(logit, [0.005, 0.995])
    width = max(float(high - low), 1e-6)
    bin_of = np.clip(((logit - low) / width * bins).astype(np.int64), 0, bins - 1)
    counts = {name: np.bincount(bin_of[of], minlength=bins) for name, of in (("positive", y), ("negative", ~y))}
    return {"from": float(low), "to": float(low) + width} | {name: count.tolist() for name, count in counts.items()}


# -- what is retrieved -------------------------------------------------------------------------------------------------


def _overlaps(exam: Exam, tops: Mapping[str, Retrieved]) -> dict[str, float]:
    """Mean share of the student's top that another ranker retrieves for the same user too."""
    if "student" not in tops:
        return {}
    student = for_few(exam, tops["student"])
    others = [name for name in tops if name not in ("student", FRESH)]
    return {
        name: metrics.overlap(student, for_few(exam, tops[name]), (exam.k,))[f"overlap@{exam.k}"] for name in others
    }


def _groups(exam: Exam, tops: Mapping[str, Retrieved], known: pl.DataFrame) -> dict[str, Any]:
    """Shares of what is retrieved, shown and clicked by the items' popularity and by their age."""
    items: dict[str, Ints] = {name: tops[name].items[:, : exam.k] for name in tops if name != FRESH}
    clicked = {"clicked": exam.wanted["click"].items}
    named = {name: items[name][tops[name].places[:, : exam.k] >= 0] for name in items} | clicked
    popularity, age = popularity_groups(exam, known), _age_groups(exam, known)
    shares = {"popularity": _shares(named, popularity, _DECILES + 2), "age": _shares(named, age, len(AGES) + 2)}
    if exam.exposures:
        shown = exam.day.item_events.astype(np.float64)
        shares["popularity"]["shown"] = _share(np.bincount(popularity, weights=shown, minlength=_DECILES + 2))
        shares["age"]["shown"] = _share(np.bincount(age, weights=shown, minlength=len(AGES) + 2))
    catalogue = np.bincount(popularity, minlength=_DECILES + 2)
    return shares | {"age_from": [0, *AGES], "catalogue": catalogue.tolist(), "users": len(exam.users)}


def popularity_groups(exam: Exam, known: pl.DataFrame) -> Ints:
    """[items of the day] its group: tenths of the items with an event before, the most popular first, then those
    without one. One more group is of what the day does not have."""
    rows = exam.day.rows_of(known["id"], "item")
    there = np.flatnonzero((rows >= 0) & (known["count"].to_numpy() > 0))
    order = there[np.argsort(-known["count"].to_numpy()[there], kind="stable")]
    out = np.full(len(exam.day.items), _DECILES, np.int64)
    out[rows[order]] = np.arange(len(order)) * _DECILES // max(1, len(order))
    return out


def _age_groups(exam: Exam, known: pl.DataFrame) -> Ints:
    """[items of the day] its group of AGES, by days since an event first had it."""
    rows = exam.day.rows_of(known["id"], "item")
    days = (pl.lit(exam.day.day) - pl.col("first_seen")).dt.total_days()
    age = known.select(days.alias("age"))["age"].to_numpy()
    out = np.zeros(len(exam.day.items), np.int64)
    out[rows[rows >= 0]] = np.searchsorted(AGES, age[rows >= 0], side="right")
    return out


def _shares(items: Mapping[str, Ints], group: Ints, groups: int) -> dict[str, list[float]]:
    """By name the share of its items in each group; -1, what the day does not have, is in the last."""
    group = np.append(group, groups - 1)  # place -1 is the last
    return {name: _share(np.bincount(group[rows], minlength=groups)) for name, rows in items.items() if len(rows)}


def _share(counts: Array) -> list[float]:
    return (counts / max(float(counts.sum()), 1.0)).tolist()  # type: ignore[no-any-return]


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
