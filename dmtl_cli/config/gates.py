"""`gates`: the limits that a run must meet to be published."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from dmtl_cli.config.errors import did_you_mean
from dmtl_cli.config.section import Positive, Section


class Limit(Section):
    """What one measure may be. A key that is absent is no limit."""

    least: float | None = None
    most: float | None = None
    ratio: Annotated[float, Field(gt=1)] | None = None
    """how many times the trailing median, or which part of it, is allowed"""
    shift: Annotated[float, Field(gt=0)] | None = None
    """how far from the trailing median is allowed"""
    rise: Annotated[float, Field(gt=0)] | None = None
    """how far above the trailing median is allowed, of what may fall"""
    fall: Annotated[float, Field(gt=0)] | None = None
    """how far below the trailing median is allowed, of what may rise"""
    days: Annotated[int, Field(ge=1)] = 1
    """published days before it, of so many at least the median is a limit: one day alone says little of what varies"""


LIMITS: Mapping[str, tuple[Limit, str]] = {
    "inputs.rows": (Limit(ratio=8), "rows of the day"),
    "inputs.users": (Limit(ratio=8), "users of the day"),
    "inputs.items": (Limit(ratio=8), "items of the day"),
    "inputs.largest": (Limit(most=0.9), "largest share of the rows that one of `.users` or `.items` has"),
    "inputs.click_rate": (Limit(most=0.98, ratio=2.5), "clicks a row, where the log has exposures"),
    "inputs.conversion_rate": (Limit(ratio=2.5), "conversions (long reads) a click, by task"),
    "inputs.duration": (Limit(ratio=5), "seconds of a click: `.mean`"),
    "inputs.duration.p50": (Limit(most=4 * 3_600, ratio=5), "their median"),
    "inputs.duration.p99": (Limit(most=86_400, ratio=5), "their 99th percentile"),
    "inputs.duration.max": (Limit(most=7 * 86_400), "the longest of any row, in seconds"),
    "inputs.null_share": (Limit(rise=0.2), "share of rows without a value, by feature of the teacher"),
    "inputs.new_share": (Limit(rise=0.3), "share of `.users` and `.items` that no profile knows"),
    "inputs.duplicates": (Limit(rise=0.2), "share of rows that repeat another one"),
    "teacher.auc": (Limit(least=0.53, fall=0.1), "AUC of a task on held-out rows"),
    "teacher.pcoc": (Limit(least=0.5, most=2.0), "predicted over observed of a task on held-out rows"),
    "teacher.ne": (
        Limit(most=100.0, rise=0.05, days=3),
        "loss of a task on rows before they are learned, over that of its mean, where it is above 1",
    ),
    "teacher.next_auc": (Limit(fall=0.05), "AUC of a task on rows before they are learned"),
    "teacher.beside_regression": (Limit(least=-0.01), "AUC of a task on held-out rows less the regression's"),
    "teacher.gate": (Limit(most=0.99999), "the largest mean share of one expert, by task"),
    "teacher.moved": (
        Limit(least=1e-6, most=1e5),
        "how far training moved `.dense` weights and the `.embedding` table, over their size",
    ),
    "scores.p01": (Limit(shift=8), "1% of a task's logits of exposed pairs are below"),
    "scores.p50": (Limit(shift=4), "the median of a task's logits of exposed pairs"),
    "scores.p99": (Limit(shift=8), "1% of a task's logits of exposed pairs are above"),
    "student.kd": (Limit(most=1.0), "distillation loss over that of the best constant"),
    "student.moved": (
        Limit(least=1e-6, most=1e5),
        "how far training moved a block's `.dense` weights and its `.embedding` table, over their size",
    ),
    "export.recall": (
        Limit(ratio=3, rise=1),
        "Recall@K on the day, by label, K being the first of `evaluate.topk`; more is no fault",
    ),
    "export.over_popularity": (Limit(least=0.1), "Recall@K on the day over that of the day's most popular items"),
    "export.index_recall": (Limit(least=0.95), "Recall@K of the index against exact search, of the day's users"),
    "export.spread": (Limit(least=0.001), "1 less the share of one direction in a side's vectors"),
    "export.norm": (Limit(ratio=10), "mean length of a side's vectors, as learned"),
    "export.unknown_items": (
        Limit(most=0.99, shift=0.3),
        "share of items that no id tells apart: served by content alone; `.chosen` of those of a condition",
    ),
}
"""By the name of a measure, or the beginning of its names, its default limit and what is measured."""


_SIGNED = ("teacher.beside_regression", "scores.")
_SHARES = (
    *("inputs.largest", "inputs.click_rate", "inputs.conversion_rate", "inputs.null_share", "inputs.new_share"),
    *("inputs.duplicates", "teacher.auc", "teacher.next_auc", "teacher.gate"),
    *("export.recall", "export.index_recall", "export.spread", "export.unknown_items"),
)


def possible(measure: str) -> tuple[float, float]:
    """The least and the most that a measure can be."""
    least = -math.inf if measure.startswith(_SIGNED) else 0.0
    return least, 1.0 if measure.startswith(_SHARES) else math.inf


class Gates(Section):
    quality: bool = True
    """false: only integrity is judged (finite numbers, files that agree), which `status` says"""
    days: Positive = 7
    """how many published days before make the trailing median"""
    errors: Annotated[float, Field(ge=0)] = 4.0
    """standard errors of a measure by which its limit is widened"""
    limits: dict[str, Limit] = Field(default={})
    """by measure, in place of its default limit; `{}` for none"""

    @model_validator(mode="after")
    def _known(self) -> Gates:
        for name in self.limits:
            if name not in LIMITS:
                raise ValueError(f"limits: no measure is called {name}{did_you_mean(name, LIMITS)}")
        return self

    def limit(self, measure: str) -> Limit:
        """The limit of a measure: of the longest name that it has or begins with, at a dot."""
        names = [measure, *(measure[:k] for k in reversed(range(len(measure))) if measure[k] == ".")]
        found = next((name for name in names if name in LIMITS), None)
        if found is None:
            raise KeyError(measure)
        return self.limits.get(found, LIMITS[found][0])
