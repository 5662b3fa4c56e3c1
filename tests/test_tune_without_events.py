"""Trials of students score pairs without an event as a dump does: a user's event-level features are the first ones."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_tune_chain import CONFIG
from worlds import Project

from dmtl_cli.data.rows import begins, pairs
from dmtl_cli.synth.generate import generate
from dmtl_cli.teacher.frozen import Scorer
from dmtl_cli.tune import teacher
from dmtl_cli.tune.student import StudentTrials
from dmtl_cli.tune.teacher import TeacherTrials, logits_of


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A window of two days whose users have a feature of the event."""
    generate(tmp_path, 2, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=900, seed=1)
    config = copy.deepcopy(CONFIG)
    config["teacher"] |= {"first_window_days": 2}
    config["data"]["events"]["computed"] = {"taste": "user_id % 5"}
    config["features"] += [{"name": "taste", "side": "user", "kind": "categorical", "level": "event"}]
    return Project.create(tmp_path, tmp_path / "log", config=config)


def dumped(trials: StudentTrials | TeacherTrials, model: Any, batcher: Any) -> np.ndarray[Any, Any]:
    """The logits [n, H] of the measured pairs, each as a dump of its day scores it."""
    rows = pairs(trials.measured.user, trials.measured.item)
    out = np.full((len(rows), model.logits_a_row), np.nan, np.float32)
    for day, users, items in begins(trials.days):
        mine = np.flatnonzero((rows.user >= users) & (rows.user < users + len(day.users)))
        scorer = Scorer(batcher.encoder, model, day, torch.device("cpu"))
        out[mine] = scorer.lists(pairs(rows.user[mine] - users, rows.item[mine] - items))
    return out


def test_it_is_what_a_dump_says(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the pairs that students learn, and of those that tell the teacher's calibration without a context."""
    seen: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
    finish, losses, as_one = TeacherTrials.finish, StudentTrials.losses, teacher.as_one
    mixed: list[np.ndarray[Any, Any]] = []

    def looked_at_finish(trials: TeacherTrials, config: Any, model: Any, batcher: Any) -> Any:
        found = finish(trials, config, model, batcher)
        seen.append((mixed[-1], dumped(trials, model, batcher)))
        return found

    def looked_at(trials: StudentTrials, config: Any, share: float) -> Iterator[Any]:
        rows = pairs(trials.measured.user, trials.measured.item)
        seen.append((logits_of(trials.model, trials.batcher, rows), dumped(trials, trials.model, trials.batcher)))
        yield from losses(trials, config, share)

    def looked_at_mixing(factors: Any, logits: Any, tasks: Any) -> Any:
        mixed.append(logits)
        return as_one(factors, logits, tasks)

    monkeypatch.setattr(TeacherTrials, "finish", looked_at_finish)
    monkeypatch.setattr(StudentTrials, "losses", looked_at)
    monkeypatch.setattr(teacher, "as_one", looked_at_mixing)
    project.done("build-profile", 2)
    project.done("tune", 2)
    assert len(seen) > 2
    for mine, dump in seen:
        assert len(mine) > 100
        np.testing.assert_allclose(mine, dump, atol=1e-5)
