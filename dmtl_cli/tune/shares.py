"""What measured rows say of a candidate's parts: the shares that fit them best, as held-out rows choose a teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from dmtl_cli.config.schema import Config
from dmtl_cli.teacher.factors import Factors, learn_apart
from dmtl_cli.teacher.labels import HeldOut, TeacherRows


def of_tasks(config: Config, logits: npt.NDArray[Any], rows: TeacherRows) -> dict[str, HeldOut]:
    """The rows that have each task's label, with their logits.

    Args:
        logits: [n, T].
    """
    out: dict[str, HeldOut] = {}
    for k, task in enumerate(config.tasks.names):
        label, at = rows.labels.of_task(k)
        out[task] = HeldOut(logits[at, k], label[at], rows.labels.weight[at], rows.user[at])
    return out


def shares_of(
    config: Config, logits: npt.NDArray[Any], rows: TeacherRows, regression: Mapping[str, HeldOut] | None = None
) -> Factors | None:
    """Of a candidate's network and factors, whose logits are [n, H]; None: it has none that learned apart.

    Args:
        regression: what both will be blended with.
    """
    network, factors = logits[:, : len(config.tasks.names)], logits[:, len(config.tasks.names) :]
    if not factors.shape[1] or not learn_apart(config):
        return None
    return Factors.fit(of_tasks(config, network, rows), of_tasks(config, factors, rows), regression, None)
