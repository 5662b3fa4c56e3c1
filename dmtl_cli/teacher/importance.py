"""How much of what a teacher gains over a constant comes from each feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from dmtl_cli.config.data import Events
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.batches import side_of, with_known
from dmtl_cli.scores.calibration import fitted_loss
from dmtl_cli.teacher.labels import TeacherLabels
from dmtl_cli.teacher.model import Teacher
from dmtl_cli.teacher.rows import Window

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

ROWS = 512, 4_096
"""held-out rows, at least and at most"""
SCORED = 1 << 14
"""rows scored over all features, which takes half a second: a label in disguise shows in few rows"""
FEWEST = 256
"""rows of a task, below which nothing is said"""
ERRORS = 3.0
"""standard errors that a gain must be above 0 to be divided by"""


class Importance(NamedTuple):
    """What the loss of a task goes up by where a feature's values are permuted."""

    of_entropy: float
    """divided by the loss of a constant: of what there is to know"""
    of_gain: float
    """divided by the teacher's gain over a constant: of what it knows"""


class _Sample(NamedTuple):
    sides: dict[str, Encoded]
    """user, item, context: [n] each"""
    labels: TeacherLabels[Array]


def columns_of_the_log(features: Sequence[Feature], events: Events) -> list[Feature]:
    """The features that a log could give too late: all but the ids of a row and what profiles know of earlier days."""
    return [f for f in features if f.profile is None and f.source not in (events.user, events.item)]


def importances(encoder: Encoder, model: Teacher, window: Window, features: Sequence[Feature]) -> dict[str, Importance]:
    """By feature the share of the teacher's gain over a constant that is lost where the feature's values are permuted
    among held-out rows (permutation importance: Breiman, Machine Learning 2001), in the task that it tells most of.

    The gain is in log loss. An intercept and a slope are fitted to every score, so that what is lost is what the score
    no longer tells, not that it is too sure: a share is hardly above 1. Nothing is returned where the rows are too few
    to tell a gain.

    Args:
        features: those to permute.
    """
    n = int(np.clip(SCORED // max(1, len(features)), *ROWS))
    sample = _sample(encoder, window.with_held_out(n)) if features else None
    if sample is None:
        return {}
    rng, score = np.random.default_rng(window.hold_out.seed), _Score(model, sample.sides)
    tasks = [task for task in _tasks(sample.labels, score.of({})) if task.gain is not None]
    out: dict[str, Importance] = {}
    for f in features if tasks else ():
        order = rng.permutation(len(sample.labels.click))
        logits = score.of({f.side: encoder.reordered(sample.sides[f.side], f.side, f.name, order)})
        out[f.name] = max(task.lost(logits) for task in tasks)
    return out


def _sample(encoder: Encoder, window: Window) -> _Sample | None:
    """The held-out rows of the days."""
    parts = [(_sides(encoder, day, rows), rows) for day in window.days for rows in window.held_out(day)]
    sides = {side: Encoded.concat([part[side] for part, _ in parts]) for side in ("user", "item", "context")}
    labels = [rows.labels for _, rows in parts]
    if not sum(len(x.click) for x in labels):
        return None
    return _Sample(sides, TeacherLabels(*(np.concatenate(x) for x in zip(*labels, strict=True))))


def _sides(encoder: Encoder, day: Day, rows: Rows[Any]) -> dict[str, Encoded]:
    """Each row's user with the features of the event, its item and its context."""
    event = rows.events
    of_user = [event[f.name] for f in encoder.features_of_side("user", True)]
    frames = {"user": day.users[rows.user].with_columns(of_user), "item": day.items[rows.item], "context": event}
    sides = {side: encoder.encode(frame, side) for side, frame in frames.items()}
    return sides | {"context": with_known(sides["context"], np.ones(len(event), np.bool_))}


class _Score:
    """The network's logits [n, T] of rows, with what does not change computed once."""

    def __init__(self, model: Teacher, sides: Mapping[str, Encoded]) -> None:
        self.model, self.device = model, model.net.first.bias.device
        self.outputs = {side: self._output(side, encoded) for side, encoded in sides.items()}
        self.every = torch.arange(len(sides["user"]), device=self.device)

    @torch.no_grad()
    def of(self, changed: Mapping[str, Encoded]) -> Floats:
        now = self.outputs | {side: self._output(side, encoded) for side, encoded in changed.items()}
        logits, _ = self.model.logits(now["user"], now["item"], self.every, self.every, now["context"])
        return logits[:, : self.model.tasks].double().cpu().numpy()

    @torch.no_grad()
    def _output(self, side: str, encoded: Encoded) -> Any:
        given = side_of(encoded, self.device)
        if side == "context":
            return self.model.context_row(given)
        return self.model.user_side(given) if side == "user" else self.model.item_side(given)


class _Task:
    """The rows of one task, and its loss on them."""

    def __init__(self, k: int, rows: Array, label: Array, weight: Array, logits: Floats) -> None:
        self.k, self.rows = k, np.flatnonzero(rows & (weight > 0))
        self.label, self.weight = label[self.rows].astype(np.float64), weight[self.rows].astype(np.float64)
        self.gain = self._gain(logits) if len(self.rows) >= FEWEST and 0 < self.label.sum() < len(self.rows) else None

    def _gain(self, logits: Floats) -> float | None:
        w = self.weight / self.weight.sum()
        self.loss = self._losses(logits)
        p = float((w * self.label).sum())
        constant = -self.label * np.log(p) - (1 - self.label) * np.log1p(-p)
        self.entropy = float((w * constant).sum())
        gain = float((w * (constant - self.loss)).sum())
        error = float(np.sqrt((w**2 * (constant - self.loss - gain) ** 2).sum()))
        return gain if gain > ERRORS * error else None

    def _losses(self, logits: Floats) -> Floats:
        return fitted_loss(logits[self.rows, self.k], self.label, self.weight)

    def lost(self, logits: Floats) -> Importance:
        """What other logits lose."""
        assert self.gain is not None
        lost = float((self.weight * (self._losses(logits) - self.loss)).sum() / self.weight.sum())
        return Importance(lost / self.entropy, lost / self.gain)


def _tasks(labels: TeacherLabels[Array], logits: Floats) -> list[_Task]:
    of_each = [labels.of_task(k) for k in range(logits.shape[1])]
    return [_Task(k, known, label, labels.weight, logits) for k, (label, known) in enumerate(of_each)]
