"""What is doubtful about a trained teacher, by its numbers; a doubt is one line with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.scores.calibration import log_loss
from dmtl_cli.teacher.importance import Importance
from dmtl_cli.teacher.labels import HeldOut

Array = npt.NDArray[Any]

FAR = 0.15
"""of the loss on learned rows: a day's drift and dropped ids move the two by some percent, ids learned by heart by more
than this"""
ERRORS = 3.0
"""standard errors of a mean: what is less may be chance"""
MOST_OF_GAIN, MOST_OF_ENTROPY = 0.6, 0.4
"""carried by one feature, both: a video's length is honest and has nine tenths of what KuaiRand's teacher knows of long
reads, but three tenths of what there is to know; a label in disguise has nearly all of both"""
MOST_AUC, BOTH = 0.99, 50
"""of a task on rows that were not learned, and its positives and negatives at least: people are hardly as certain"""
MOST_ROWS = 0.5
"""whose value occurs once"""


def overfits(learned: float, held_out: HeldOut, advice: str) -> list[str]:
    """Doubts about a teacher that knows the rows it learned better than others.

    Args:
        learned: log loss of click on the learned rows.
        held_out: rows of the same kind.
        advice: what to do.
    """
    x, y, w = (np.asarray(v, np.float64) for v in (held_out.logit, held_out.label, held_out.weight))
    if len(x) < 2 or not w.sum():
        return []
    each = log_loss(x, y)
    loss = float((w * each).sum() / w.sum())
    of_users = np.bincount(held_out.user, w * (each - loss))  # a user's rows are one draw
    error = float(np.sqrt((of_users**2).sum()) / w.sum())
    if loss - learned <= max(FAR * learned, ERRORS * error):
        return []
    more = f"the loss of click is {loss:.3f} on held-out rows, {learned:.3f} on learned ones"
    return [f"{more}: {advice}"]


def leaks(importances: Mapping[str, Importance]) -> list[str]:
    """Doubts about features that may not be known when an item is shown (`importance.importances`)."""
    return [
        f"feature {name} carries {min(found.of_gain, 1.0):.0%} of what the teacher gains over a constant, "
        f"{min(found.of_entropy, 1.0):.0%} of all there is to know: is it known before the exposure?"
        for name, found in importances.items()
        if found.of_gain > MOST_OF_GAIN and found.of_entropy > MOST_OF_ENTROPY
    ]


def too_good(aucs: Mapping[str, float], labels: Mapping[str, Array], where: str = "on held-out rows") -> list[str]:
    """Doubts about tasks that are told nearly without an error. Where several features know the label, `leaks` says
    nothing: each is of no importance beside the others.

    Args:
        aucs: of rows that were not learned, by task.
        labels: of these rows, [n] 0 or 1 each, by task.
        where: what these rows are.
    """
    out = []
    for task, auc in aucs.items():
        positives = int(np.asarray(labels[task], np.bool_).sum())
        if auc > MOST_AUC and min(positives, len(labels[task]) - positives) >= BOTH:
            seen = f"the AUC of {task} {where} is {auc:.3f} ({positives:,} positives)"
            out.append(f"{seen}: a feature may be the label: is each known before the exposure?")
    return out


def one_valued(labels: Mapping[str, Array]) -> list[str]:
    """Doubts about tasks of which all labels are the same: nothing can be learned of them.

    Args:
        labels: of held-out rows, [n] 0 or 1 each, by task: of a conversion those of clicks, where it is known.
    """
    out = []
    for task, values in labels.items():
        if len(values) >= BOTH and len(found := np.unique(np.asarray(values, np.bool_))) == 1:
            seen = f"the label of {task} is {int(found[0])} in all of {len(values):,} held-out rows"
            out.append(f"{seen}: it tells nothing apart: is it the right column, and is its null unknown or a no?")
    return out


def rare(once: Mapping[str, float]) -> list[str]:
    """Doubts about ids that no row repeats.

    Args:
        once: by feature the share of rows whose value occurs once (`Encoder.seen_once`).
    """
    return [
        f"{share:.0%} of rows have a value of {name} that occurs once: it cannot be learned; "
        "set min_count: 2, or leave it out"
        for name, share in once.items()
        if share > MOST_ROWS
    ]
