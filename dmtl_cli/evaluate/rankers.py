"""The models that can be measured, each behind the same methods: a teacher, its regression, an exported student."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from dmtl_cli.config.tasks import CLICK, READ, Tasks, score_of, with_click
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.kernels.chunks import on_threads
from dmtl_cli.runs.progress import Progress
from dmtl_cli.runs.run import Parent, Run
from dmtl_cli.scores.calibration import log_sigmoid
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.search import best_k, top_k
from dmtl_cli.teacher.frozen import Finish, FrozenTeacher, Scorer
from dmtl_cli.teacher.hashed import has_event_features
from dmtl_cli.teacher.regression import FOLDER, OnDay, Regression

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Dots = npt.NDArray[np.float32]

REGRESSION = "regression"
"""the logistic regression that is published beside a teacher"""
PREFERENCE = "student.preference"
"""a student of two blocks without what it learned of exposure, kappa 0: its metrics are named so"""
_DOTS = 1 << 21  # of users and items at a time: 8 MB stay in a cache, whose best are found six times as fast


class Retriever(Protocol):
    """What finds items for users."""

    @property
    def slow(self) -> bool:
        """Whether it scores every pair of user and item, so that it retrieves for fewer users than others."""

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        """The best k items of user rows [U]: (places [U, K] in the ids, -1 for none; ids that it retrieves from)."""


class Ranker(Retriever, Protocol):
    """A model that orders the items of a day."""

    def scores(self, rows: Rows[None]) -> Mapping[str, npt.NDArray[Any]]:
        """By label of `Tasks.labels` a number [n] that orders the pairs; where it is probable, a log-probability."""

    def probable(self, label: str) -> bool:
        """Whether the score of a label is a calibrated log-probability."""


class AnyLabel(dict[str, npt.NDArray[Any]]):
    """One score, whatever the label."""

    def __init__(self, score: npt.NDArray[Any]) -> None:
        super().__init__()
        self.score = score

    def __missing__(self, label: str) -> npt.NDArray[Any]:
        return self.score


class TeacherRanker:
    """A published teacher; it retrieves by scoring the day's whole catalogue."""

    slow = True

    def __init__(self, parent: Parent, day: Day, run: Run) -> None:
        self.parent, self.run = parent, run
        self.tasks = Tasks.named(parent[1].facts["tasks"])
        self.day, self.ranks, self.log = day, run.ranks, run.log
        self.named = f"teacher {parent[1].day}"
        self.calibrated = bool(parent[1].facts["calibrated"])

    @cached_property
    def teacher(self) -> FrozenTeacher:
        """Loaded when it is needed: another evaluation may have what it would say."""
        return FrozenTeacher(*self.parent, self.run.device, self.run.config)

    @cached_property
    def scorer(self) -> Scorer:
        return self.teacher.on(self.day)

    def probable(self, label: str) -> bool:
        return self.calibrated

    def _by_label(self, logits: npt.NDArray[np.float32], by: Finish) -> dict[str, Floats]:
        log_p = {t: by.calibration[t].log_prob(logits[:, k]) for k, t in enumerate(self.tasks.names)}
        return log_p | {with_click(x): log_p[CLICK] + log_p[x] for x in self.tasks.conversions}

    def scores(self, rows: Rows[None]) -> Mapping[str, npt.NDArray[Any]]:
        mine = rows.take(self.ranks.slice(len(rows)))
        logits = np.concatenate(self.ranks.gather_objects(self.scorer.pairs(mine)))
        return self._by_label(logits, self.teacher.in_context)

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        mine = users[self.ranks.slice(len(users))]
        label = with_click(READ)
        tops = []
        with self.log.progress(f"{self.named}: the catalogue", len(mine), "user") as progress:
            for logits in self.scorer.catalogue(mine):
                tops.append(best_k(self._by_label(logits, self.teacher.no_context)[label][None], k))
                progress.step()
        return np.concatenate([top for each in self.ranks.gather_objects(tops) for top in each]), self.day.items[ID]


class RegressionRanker:
    """The regression that is published beside a teacher, over the tables that its teacher has encoded.

    It retrieves from the day's catalogue by the regression without context, as a catalogue has none.
    """

    slow = False

    def __init__(self, parent: Parent, teacher: TeacherRanker) -> None:
        folder, facts = parent[0], parent[1].facts
        self.teacher, self.day, self.folder = teacher, teacher.day, folder / FOLDER
        self.calibrated = facts["calibrated"] and facts["sampling"]["samples"] == "exposed"
        """whether it learned rows as they were shown; drawn ones would shift its probabilities"""

    @cached_property
    def on_day(self) -> OnDay:
        return self._on_day(context=True)

    def _on_day(self, *, context: bool) -> OnDay:
        scorer, model = self.teacher.scorer, Regression.read(self.folder, self.teacher.tasks, context=context)
        return OnDay(model, scorer.encoder, scorer.tables)

    def probable(self, label: str) -> bool:
        return bool(self.calibrated)

    def scores(self, rows: Rows[None]) -> Mapping[str, npt.NDArray[Any]]:
        return {label: log_sigmoid(logit) for label, logit in self.on_day.logits(rows).items()}

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        on_day = self._on_day(context=not has_event_features(self.teacher.scorer.encoder))
        if not on_day.model.conjunctions:  # the same list for everybody
            best = best_k(on_day.catalogue(with_click(READ), users[:1]), k)
            return np.repeat(best, len(users), axis=0), self.day.items[ID]
        together = max(1, _DOTS // max(1, len(self.day.items)))
        parts = [users[start : start + together] for start in range(0, len(users), together)]
        tops = on_threads(parts, lambda part: best_k(on_day.catalogue(with_click(READ), part), k), torch.device("cpu"))
        return np.concatenate(tops) if tops else np.zeros((0, k), np.int64), self.day.items[ID]


class StudentRanker:
    """A student through its exported files, not the model that was trained.

    Where the export has two blocks its score is kappa * exposure + preference, kappa being in the user's vector.
    """

    slow = False

    fresh = False

    def __init__(self, parent: Parent, day: Day, run: Run) -> None:
        self.export, self.predicts, self.day = Export(parent[0]), parent[1].facts["predicts"], day
        self.exported = parent[1].day
        self.kappa, self.log = self.export.kappa, run.log
        measured: dict[str, float] = parent[1].facts.get("kappa_curve") or {}
        self.knows_shown = self.kappa > 0 or bool(measured)
        """whether it learned what is shown; where it did and kappa: auto chose 0, it is served without"""
        Encoder.stored(parent[0], run.config.features_of("student"))  # refuses the features of another config

    @cached_property
    def user_vectors(self) -> npt.NDArray[np.float32]:
        """[users, d]; of users without an event, who are not measured, 0."""
        active = np.flatnonzero(self.day.user_events > 0)
        vectors = self.export.vectors(self.day.users[active], "user")
        out = np.zeros((len(self.day.users), vectors.shape[1]), vectors.dtype)
        out[active] = vectors
        return out

    @cached_property
    def item_vectors(self) -> npt.NDArray[np.float32]:
        return self.export.vectors(self.day.items, "item")

    def at(self, kappa: float) -> StudentRanker:
        """A student as it is served with another kappa; a student of one block has no other than 0."""
        vectors, _ = self.user_vectors, self.item_vectors  # computed once for all kappas
        other = copy.copy(self)
        other.user_vectors, other.kappa = self.export.with_kappa(vectors, kappa), kappa
        return other

    def of_the_day(self) -> StudentRanker:
        """A student that retrieves from the measured day's items, in place of those it was exported with."""
        _, _ = self.user_vectors, self.item_vectors  # computed once for both
        other = copy.copy(self)
        other.fresh = True
        return other

    def probable(self, label: str) -> bool:
        return bool(self.predicts == score_of(label)) and not self.kappa

    def scores(self, rows: Rows[None]) -> Mapping[str, npt.NDArray[Any]]:
        dot = (self.user_vectors[rows.user] * self.item_vectors[rows.item]).sum(1, dtype=np.float64)
        return AnyLabel(-np.logaddexp(0, -self.export.score(dot)))

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        ids, vectors = (self.day.items[ID], self.item_vectors) if self.fresh else self.export.items
        best = []
        with self._progress(len(users)) as progress:
            for some in _parts(users, len(ids)):
                best.append(top_k(self.user_vectors[some], vectors, k)[0])
                progress.step(len(some))
        return np.concatenate(best), ids

    def retrieve_by_kappa(self, users: Ints, k: int, kappas: Sequence[float]) -> tuple[list[Ints], pl.Series]:
        """What `at(kappa)` retrieves by each of some kappas, for a student of two blocks: their dot products are
        computed once, so that a score may differ in its last digit."""
        ids, vectors = self.export.items
        block = self.export.blocks["exposure"]
        shown, liked = (np.delete(vectors, block, 1) if rest else vectors[:, block] for rest in (False, True))
        best: list[list[Ints]] = [[] for _ in kappas]
        with self._progress(len(users)) as progress:
            for some in _parts(users, len(ids)):
                mine = self.user_vectors[some]
                exposure = mine[:, block] @ shown.T / np.float32(self.kappa)
                preference = np.delete(mine, block, 1) @ liked.T
                work = partial(_best_by, exposure, preference, k)
                for into, found in zip(best, on_threads(kappas, work, torch.device("cpu")), strict=True):
                    into.append(found)
                progress.step(len(some))
        return [np.concatenate(each) for each in best], ids

    def _progress(self, users: int) -> AbstractContextManager[Progress]:
        return self.log.progress(f"student {self.exported}: the catalogue", users, "user")


def _best_by(exposure: Dots, preference: Dots, k: int, kappa: float) -> Ints:
    return best_k(np.float32(kappa) * exposure + preference, k)


def _parts(users: Ints, items: int) -> Iterator[Ints]:
    """Users whose dot products with all items are computed at a time; without users one part of none."""
    step = max(16, _DOTS // max(1, items))
    return (users[start : start + step] for start in range(0, max(1, len(users)), step))
