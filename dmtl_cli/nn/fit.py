"""The training loop that all models share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.nn.average import Average
from dmtl_cli.nn.learner import Learner
from dmtl_cli.nn.losses import Mean, Number
from dmtl_cli.nn.optimizers import Optimizers
from dmtl_cli.nn.resume import Course
from dmtl_cli.runs.progress import Progress
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.run import Run

_ROWS = "rows"
LOOK_EVERY = 16  # steps between reads of a number, each of which waits for the device
B = TypeVar("B", bound=Sized)
Numbers = Mapping[str, Number]
LossOf = Callable[[B, bool], tuple[Tensor, Numbers]]


class Trained(Protocol):
    """What `fit` needs of a model in training."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def optimizers(self) -> Optimizers: ...


def train(
    run: Run,
    name: str,
    learners: Sequence[Learner[Any]],
    batches: Callable[[], Iterable[B]],
    loss_of: LossOf[B],
    rows: int,
    course: Course,
    more: Callable[[int], bool] = lambda epochs: False,
) -> tuple[dict[str, float], dict[str, float]]:
    """Trains on the batches of every epoch, or goes on with it; returns the numbers of the first epoch, whose rows were
    not learned when they were measured, and of the last, with `epochs`, how many there were.

    Args:
        name: of the progress.
        learners: models that share the loss, for as many epochs as the first is configured.
        batches: makes those of an epoch, none of them before it is taken.
        loss_of: as `fit` takes it.
        rows: of an epoch, about.
        more: whether one more epoch is wanted, after so many. All ranks say the same.
    """
    first, learned, epochs = _First(), dict[str, float](), learners[0].config.epochs
    averages = [Average(x.model.parameters()) for x in learners if x.config.averaged]
    course.begin({"first": first} | {f"average{k}": average for k, average in enumerate(averages)})
    with run.log.progress(name, epochs * rows) as progress:
        for k in itertools.count(1):
            learned = fit(learners, batches(), loss_of, progress, run.ranks, course, averages)
            first.numbers = first.numbers or dict(learned)
            if k >= epochs:
                if not (course.goes_on or more(k)):
                    break
                progress.expect((k + 1) * rows)
    for average in averages:
        average.take()
    return first.numbers, learned | {"epochs": float(k)}


def fit(
    learners: Sequence[Trained],
    batches: Iterable[B],
    loss_of: LossOf[B],
    progress: Progress,
    ranks: Ranks = ALONE,
    course: Course | None = None,
    averages: Sequence[Average] = (),
) -> dict[str, float]:
    """Trains on every batch once.

    Args:
        learners: models that share the loss.
        loss_of: takes a batch and whether this step reports costly numbers too; returns the batch's mean loss and
            numbers to report. All ranks return the same, computed from what they gathered.
        course: what goes on where a killed process stopped; of a pass that was over before, nothing is done.
        averages: which count each step.

    Returns:
        Means of the loss and of each number over the batches that reported it, by their rows or by the weight that
        comes with it, and `rows`.

    Raises:
        UserError: 80 the loss is not finite; nothing of this run may be published.
    """
    for learner in learners:
        learner.model.train()
    means, numbered = _Means(), enumerate(batches)
    for k, batch in course.remaining(numbered, means, progress) if course else numbered:
        loss, parts = loss_of(batch, k % LOOK_EVERY == 0)
        loss.backward()  # type: ignore[no-untyped-call]
        for learner in learners:
            ranks.mean_gradients(learner.model)
            learner.optimizers.step()
        for average in averages:
            average.step()
        means.add({"loss": loss, **parts}, len(batch))
        progress.step(len(batch), loss.detach())
        if k % LOOK_EVERY == 0:
            means.refuse_divergence()
        if course:
            course.step()
    means.refuse_divergence()
    if course:
        course.end()
    for learner in learners:
        learner.model.eval()
    return means.by_name()


class _First:
    """The numbers of the first epoch, which whoever goes on with a later one needs too."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}

    def state(self) -> dict[str, Tensor]:
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in self.numbers.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.numbers = {name: float(value) for name, value in state.items()}


class _Means:
    """Weighted means. Sums stay on the device, so that a step does not wait for its numbers."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor | int] = {}
        self._rows = 0

    def add(self, numbers: Numbers, rows: int) -> None:
        self._rows += rows
        for name, number in numbers.items():
            value, weight = number if isinstance(number, Mean) else (number, rows)
            now = weight * torch.as_tensor(value, dtype=torch.float64).detach()
            self._sums[name] = self._sums[name] + now if name in self._sums else now
            self._weights[name] = self._weights.get(name, 0) + weight

    def state(self) -> dict[str, Tensor]:
        of_each = {k: torch.stack([v, torch.as_tensor(self._weights[k]).to(v)]) for k, v in self._sums.items()}
        return of_each | {_ROWS: torch.tensor(self._rows)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._rows = int(state[_ROWS])
        for name, both in state.items():
            if name != _ROWS:
                self._sums[name], self._weights[name] = both[0].clone(), both[1].clone()

    def by_name(self) -> dict[str, float]:
        weights = {name: float(weight) or 1.0 for name, weight in self._weights.items()}
        means = {name: float(total) / weights[name] for name, total in self._sums.items()}
        return means | {"rows": float(self._rows)}

    def refuse_divergence(self) -> None:
        total, rows = float(self._sums.get("loss", 0.0)), self._rows
        if not math.isfinite(total):
            hint = "lower learning_rate and embedding_learning_rate, or look for extreme feature values with dmtl check"
            what = f"training diverged: the loss is {total} within the first {rows} rows"
            raise UserError(what, hint, Exit.REFUSED)
