"""The average of weights over a training: its formula, what it is worth, and that students and joint students end with
it."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from torch import nn
from worlds import BASE, Project

from dmtl_cli.nn.average import POWER, Average
from dmtl_cli.nn.learner import Learner
from dmtl_cli.nn.optimizers import Optimizers
from dmtl_cli.synth.generate import generate

Array = np.ndarray[Any, Any]


def reference(weights: list[Array]) -> Array:
    """Sums of weights, those of step t for all steps since the look before it; of few steps the last weights."""
    if len(weights) < 32:
        return weights[-1]
    looks, last = [], 0
    for step in range(1, len(weights) + 1):
        if step >= 1.03 * last or step == len(weights):
            looks.append((last, step))
            last = step
    whole = len(weights) ** (POWER + 1)
    shares = [(b ** (POWER + 1) - a ** (POWER + 1)) / whole for a, b in looks]
    return np.sum([share * weights[b - 1] for share, (_, b) in zip(shares, looks, strict=True)], 0)


@given(st.integers(1, 300), st.integers(0, 1000))
@example(31, 0)
@example(32, 0)
def test_known_answer(steps: int, seed: int) -> None:
    p = nn.Parameter(torch.zeros(3, 2))
    average, taken = Average([p]), np.random.default_rng(seed).normal(size=(steps, 3, 2)).astype(np.float32)
    for weights in taken:
        p.data.copy_(torch.from_numpy(weights))
        average.step()
    average.take()
    np.testing.assert_allclose(p.detach().numpy(), reference([*taken.astype(np.float64)]), rtol=1e-4, atol=1e-5)


def test_the_last_sixth_of_the_steps_is_half() -> None:
    p = nn.Parameter(torch.zeros(()))
    average = Average([p])
    for step in range(6000):
        p.data.fill_(float(step >= 5000))
        average.step()
    average.take()
    assert 0.5 < p.item() < 0.58


def test_without_a_step_nothing_changes() -> None:
    p = nn.Parameter(torch.ones(2))
    average = Average([p])
    assert average.state().keys() == {"steps"}
    average.take()
    assert p.tolist() == [1, 1]


def test_what_is_taken_is_kept_by_nobody_and_taken_once() -> None:
    p = nn.Parameter(torch.zeros(2))
    average = Average([p])
    for k in range(40):
        p.data.fill_(k)
        average.step()
    average.take()
    ended, state = p.detach().clone(), average.state()
    assert state.keys() == {"steps"} and bool((ended < 39).all())
    later = Average([p])
    later.restore(state)  # of a checkpoint of what is trained after it
    later.take()
    assert torch.equal(p, ended)


def test_what_does_not_move_stays_to_the_bit() -> None:
    p = nn.Parameter(torch.randn(50, 3))
    before, average = p.detach().clone(), Average([p])
    for _ in range(100):
        average.step()
    average.take()
    assert torch.equal(p, before)


@pytest.mark.parametrize("done", [0, 1, 2, 40, 41, 77])
def test_it_goes_on_from_its_state(done: int) -> None:
    weights = torch.randn(77, 4, generator=torch.Generator().manual_seed(1))

    def walked(average: Average, p: nn.Parameter, steps: range) -> Average:
        for k in steps:
            p.data.copy_(weights[k])
            average.step()
        return average

    whole, other = (nn.Parameter(torch.zeros(4)) for _ in range(2))
    walked(Average([whole]), whole, range(77)).take()
    state = walked(Average([other]), other, range(done)).state()
    kept = {name: x.clone() for name, x in state.items()}
    later = Average([other])
    later.restore(state)
    walked(later, other, range(done, 77)).take()
    assert torch.equal(other, whole)
    assert all(torch.equal(state[name], x) for name, x in kept.items()), "a state is not written to"


def test_a_noisy_descent_ends_nearer() -> None:
    """Steps of Adam on a mean of which each batch knows little."""
    rng, target = np.random.default_rng(0), 1.0
    ends = []
    for _ in range(40):
        p = nn.Parameter(torch.zeros(()))
        adam, average = torch.optim.Adam([p], lr=0.1), Average([p])
        for _ in range(200):
            adam.zero_grad()
            (p - target - float(rng.normal())).square().backward()
            adam.step()
            average.step()
        alone = p.item()
        average.take()
        ends.append([(alone - target) ** 2, (p.item() - target) ** 2])
    of_last, of_average = np.mean(ends, 0)
    assert of_average < 0.6 * of_last


# -- in a chain --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 3, start=dt.date(2026, 1, 1), users=60, items=50, events_per_day=1500, seed=1)
    return out / "log"


def a_project(home: Path, world: Path) -> Project:
    config = copy.deepcopy(BASE)
    config["teacher"]["batch_size"] = config["student"]["batch_size"] = 32
    config["student"]["exposure"] = {"batch_size": 32}
    return Project.create(home, world, config=config)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[dict[str, Array]]]:
    """Dense weights of each model after each step, by the model's optimizers."""
    weights: dict[int, list[dict[str, Array]]] = {}
    models: dict[int, nn.Module] = {}
    build, step = Learner.build, Optimizers.step

    def built(*arguments: Any) -> Learner[Any]:
        learner = build(*arguments)
        models[id(learner.optimizers)] = learner.model
        return learner

    def stepped(self: Optimizers) -> None:
        step(self)
        model = models[id(self)]
        dense = {n: p.detach().numpy().copy() for n, p in model.named_parameters() if n != "table.weight"}
        weights.setdefault(id(self), []).append(dense)

    monkeypatch.setattr(Learner, "build", staticmethod(built))
    monkeypatch.setattr(Optimizers, "step", stepped)
    return weights


def last(steps: list[Array]) -> Array:
    return steps[-1]


def ends_as(folder: Path, taken: dict[int, list[dict[str, Array]]], end: Callable[[list[Array]], Array]) -> None:
    """Asserts that one of the trained models ended in that way, and is what is stored."""
    stored = load_file(folder / "model.safetensors")
    names = {n for n in stored if not n.startswith("embedding.")}
    mine = [steps for steps in taken.values() if steps[0].keys() == names and _ends(steps, stored, end)]
    assert len(mine) == 1
    assert len(mine[0]) > 40
    other = reference if end is last else last
    assert not _ends(mine[0], stored, other), "the two ends are told apart"


def _ends(steps: list[dict[str, Array]], stored: dict[str, Array], end: Callable[[list[Array]], Array]) -> bool:
    each = ((end([s[n].astype(np.float64) for s in steps]), stored[n]) for n in steps[0])
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in each)


@pytest.mark.parametrize("averaged", [True, False])
def test_both_blocks_of_a_student(
    averaged: bool, world: Path, tmp_path: Path, taken: dict[int, list[dict[str, Array]]]
) -> None:
    project = a_project(tmp_path, world)
    for day in (1, 2):  # the first student learns what was shown on two days, a training each
        taken.clear()
        teacher = project.done("train-teacher", day)
        ends_as(Path(teacher["path"]), taken, last)
        project.done("dump-logits", day)
        taken.clear()
        student = project.done("train-student", day + 1, student__average_weights=str(averaged).lower())
    for block in ("", "exposure"):
        ends_as(Path(student["path"]) / block, taken, reference if averaged else last)


def test_a_joint_student_and_not_its_teacher(
    world: Path, tmp_path: Path, taken: dict[int, list[dict[str, Array]]]
) -> None:
    joint = Path(a_project(tmp_path, world).done("train-joint", 1)["path"])
    ends_as(joint / "teacher", taken, last)
    ends_as(joint / "student", taken, reference)
