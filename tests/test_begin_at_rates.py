"""A network that has learned nothing begins at the log-odds of its labels: by itself, in training, and in trials."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from test_models import CONTEXT, ITEM, USER, encoder_of
from worlds import BASE, Project, events

from dmtl_cli.config.teacher import Teacher as Section
from dmtl_cli.data.rows import Rows
from dmtl_cli.synth.generate import generate
from dmtl_cli.teacher.build import begin_at_rates, build_teacher
from dmtl_cli.teacher.labels import TeacherLabels, TeacherRows
from dmtl_cli.tune.teacher import TeacherTrials

STILL = {"learning_rate": 1e-6, "embedding_learning_rate": 1e-5, "calibration_share": 0.0, "first_window_days": 1}
"""of a teacher that learns every row, and hardly anything of it"""


def rows(n: int, seed: int) -> TeacherRows:
    rng = np.random.default_rng(seed)
    click, converted, known = (rng.random((n, k)) < p for k, p in ((1, 0.3), (2, 0.6), (2, 0.7)))
    labels = TeacherLabels(click[:, 0], converted, known, rng.random(n).astype(np.float32))
    return Rows(np.arange(n), np.arange(n), labels, None)


def last_biases(weights: dict[str, Any]) -> list[float]:
    """Of each task's tower."""
    last = {name.split(".")[-3]: x for name, x in weights.items() if "towers" in name and name.endswith(".bias")}
    return [float(x[0]) for _, x in sorted(last.items())]


@pytest.mark.parametrize("model", ["mmoe", "ple", "shared_bottom"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_known_answer(model: str, batch_norm: bool) -> None:
    config = Section(model=model, batch_norm=batch_norm, tower_hidden_units=(4, 3), expert_hidden_units=(4, 4))
    teacher = build_teacher(encoder_of(*USER, *ITEM, *CONTEXT), config, 3)
    before = {name: p.clone() for name, p in teacher.named_parameters()}

    def offered() -> Iterator[TeacherRows]:
        yield rows(0, 0)
        yield rows(50, 1)
        raise AssertionError("the first rows are enough")

    begin_at_rates(teacher, offered())
    click, converted, known, weight = rows(50, 1).labels
    expected = []
    for kept, label in ((click | True, click), *((click & known[:, k], converted[:, k]) for k in (0, 1))):
        expected.append(np.log((weight[kept & label].sum() + 0.5) / (weight[kept & ~label].sum() + 0.5)))
    changed = {n: p.detach().numpy() for n, p in teacher.named_parameters() if not torch.equal(p, before[n])}
    assert last_biases(changed) == pytest.approx(expected, rel=1e-5)
    assert len(changed) == 3, "nothing but the towers' last biases"


def test_without_rows_nothing_changes() -> None:
    teacher = build_teacher(encoder_of(*USER, *ITEM, *CONTEXT), Section(), 2)
    before = [p.clone() for p in teacher.parameters()]
    begin_at_rates(teacher, iter([rows(0, 0)]))
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), before, strict=True))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 2, start=dt.date(2026, 1, 1), users=60, items=50, events_per_day=1500, seed=1)
    return out


def log_odds(world: Path, day: str, threshold: float) -> list[float]:
    """Of a day's clicks and of long reads given a click; further clicks of an item in one request are no exposures."""
    click = pl.col("click") == 1
    nth = pl.cum_count("click").over("user_id", "item_id", "request_id", "click")
    e = events(world / "log", day).filter(~click | (nth == 1))
    read = e.filter(click)["read_seconds"].fill_null(0) > threshold
    return [float(np.log((y.sum() + 0.5) / ((~y).sum() + 0.5))) for y in (e["click"] == 1, read)]


def threshold(result: dict[str, Any]) -> float:
    """Seconds of a long read, as a published run has them."""
    found = json.loads((Path(result["path"]) / "manifest.json").read_text())["facts"]["threshold_seconds"]
    return float(found)


@pytest.mark.parametrize(("command", "folder"), [("train-teacher", ""), ("train-joint", "teacher")])
def test_a_chain_begins_so_once(world: Path, tmp_path: Path, command: str, folder: str) -> None:
    project = Project.create(tmp_path, world / "log", config=BASE | {"teacher": BASE["teacher"] | STILL})
    first, second = (project.done(command, day) for day in (1, 2))
    found = [last_biases(load_file(Path(x["path"]) / folder / "model.safetensors")) for x in (first, second)]
    here, next_day = (log_odds(world, day, threshold(first)) for day in ("2026-01-01", "2026-01-02"))
    assert found[0] == pytest.approx(here, abs=1e-4) and here != pytest.approx(next_day, abs=1e-2)
    assert found[1] == pytest.approx(found[0], abs=1e-4), "a later day goes on from the day before"


def test_candidates_of_trials_begin_so(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    learning = TeacherTrials.learning

    def looked_at(trials: TeacherTrials, config: Any, share: float) -> Iterator[Any]:
        for model, batcher in learning(trials, config, share):
            seen.append(last_biases({k: p.detach().numpy() for k, p in model.named_parameters()}))
            yield model, batcher

    monkeypatch.setattr(TeacherTrials, "learning", looked_at)
    written = {k: v for k, v in STILL.items() if k != "calibration_share"}
    project = Project.create(tmp_path, world / "log", config=BASE | {"teacher": BASE["teacher"] | written})
    profile = project.done("build-profile", 1)
    project.done("tune", 1, auto__budget=1)
    assert len(seen) > 2 and np.ptp(seen, axis=0).max() < 1e-3, "every candidate"
    expected = log_odds(world, "2026-01-01", threshold(profile))
    assert seen[0] == pytest.approx(expected, abs=0.25), "of the first two thirds of the day"
    assert min(map(abs, expected)) > 0.5, "no chance bias"
