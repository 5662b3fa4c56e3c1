"""How much of its own day an export finds: whether it tells users apart at all, not how good it is."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.evaluate import TOPK, Evaluate
from dmtl_cli.evaluate.exam import Exam
from dmtl_cli.evaluate.metrics import retrieval_of_each
from dmtl_cli.runs.gates import Measure
from dmtl_cli.serving.search import Floats, best_k, top_k

SAMPLE = Evaluate(max_users=500)
"""the users of a day that are retrieved for"""


def recall(
    exam: Exam,
    labels: tuple[str, ...],
    users: Floats,
    items: Floats,
    served: npt.NDArray[np.int64],
    *,
    of_served: bool = False,
) -> list[Measure]:
    """Recall@K of what users did that day, by label, and over that of the day's most clicked items; of another K than
    the default its measures are called `<measure>@K`, so that no median is of several.

    In sample: the student learned scores of this day's pairs, and the list is of the day itself. Absent where nobody
    wanted anything.

    Args:
        labels: click, read.
        users: [U, d] vectors of the exam's users.
        items: [I, d] vectors of the served items.
        served: [I] their rows in the day's items, ascending.
        of_served: whether only served items are wanted. A user who wanted none of these is not measured, so a measure
            tells of the vectors alone, and is near those of days on which more was served.
    """
    found, _ = top_k(users, items, exam.k)
    popular = best_k(exam.day.item_clicks[served][None], exam.k)
    at = "" if exam.k == TOPK[0] else f"@{exam.k}"
    out: list[Measure] = []
    for label in labels:
        wanted = exam.wanted[label].among(served) if of_served else exam.wanted[label]
        some = np.diff(wanted.indptr) > 0
        if not some.any():
            continue
        both = (np.where(top < 0, -1, served[top]) for top in (found, popular.repeat(len(users), 0)))
        recall_of = (retrieval_of_each(top, (wanted.indptr, wanted.items), ks=(exam.k,)) for top in both)
        ours, theirs = (each[f"recall@{exam.k}"][some] for each in recall_of)
        out.append(Measure(f"export.recall.{label}{at}", float(ours.mean()), _error(ours)))
        if theirs.any():
            ratio = float(ours.mean() / theirs.mean())
            error = _error(ours - ratio * theirs) / float(theirs.mean())
            out.append(Measure(f"export.over_popularity.{label}{at}", ratio, error))
    return out


def _error(x: npt.NDArray[np.float64]) -> float:
    """The standard error of a mean over users; at least what one user counts, as a few who found nothing do not differ
    from each other either."""
    spread = float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else 1.0
    return max(spread, 1 / len(x))
