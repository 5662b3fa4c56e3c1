"""The names of what a teacher predicts, of its losses and of the scores it stores: made here and nowhere else.

A task is a click (`ctr`) or a conversion, which may follow a click: `cvr`, the long read, and the log's further ones X.
Each task t has a logit `t_logit` and a score `pt`. A conversion X has a label `ctX` (a click and X), with a loss
of that name and a score `pctX` = `pctr` * `pX`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CLICK = "ctr"
READ = "cvr"
FUSED = "pfused"
"""the score that `scores.fusion` makes of others"""


def with_click(conversion: str) -> str:
    """The label `a click and this conversion`."""
    return f"ct{conversion}"


def score_of(label: str) -> str:
    """The probability of a label, as a score table calls it."""
    return f"p{label}"


def logit_column(task: str) -> str:
    """The logit of a task, as a score table calls it."""
    return f"{task}_logit"


def is_reserved(conversion: str) -> bool:
    """Whether a further conversion of that name would be taken for another task, label or score."""
    return conversion in ("r", READ, FUSED.removeprefix("p")) or conversion.startswith("ct")


@dataclass(frozen=True)
class Tasks:
    """The tasks of one teacher, in the order of its model's outputs."""

    further: tuple[str, ...] = ()
    """further conversions, sorted by name"""

    @staticmethod
    def named(names: Iterable[str]) -> Tasks:
        """The tasks of a published model, whose names its manifest lists in any order."""
        return Tasks(tuple(sorted(n for n in names if n not in (CLICK, READ))))

    @property
    def names(self) -> tuple[str, ...]:
        """The click, then the conversions."""
        return (CLICK, *self.conversions)

    @property
    def conversions(self) -> tuple[str, ...]:
        return (READ, *self.further)

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses of a teacher: ctr, and for each conversion X ctX (all rows) and X (clicked rows)."""
        return (CLICK, *(loss for x in self.conversions for loss in (with_click(x), x)))

    @property
    def labels(self) -> tuple[str, ...]:
        """What is measured: ctr, and for each conversion X (clicked rows) and ctX (all rows)."""
        return (CLICK, *(label for x in self.conversions for label in (x, with_click(x))))

    def factors(self, fusion: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """The tasks of which each score is a product, with exponents: pctcvr is {ctr: 1, cvr: 1}.

        Args:
            fusion: exponents of `pfused` by score, empty where there is none.
        """
        single = {score_of(task): {task: 1.0} for task in self.names}
        both = {score_of(with_click(x)): {CLICK: 1.0, x: 1.0} for x in self.conversions}
        tasks = {score_of(task): task for task in self.names}
        fused = {tasks[score]: exponent for score, exponent in fusion.items()}
        return single | both | ({FUSED: fused} if fused else {})
