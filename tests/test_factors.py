"""A teacher's factors: learned apart from its network, in the share that held-out rows choose beside the regression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from test_blend import held
from test_models import CONTEXT, DIM, ITEM, ITEMS, USER, USERS, a_teacher, encoder_of, random_sides
from worlds import BASE, Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.runs.manifest import canonical
from dmtl_cli.scores.calibration import SLOPE_SD, Calibration, fitted_loss, joint_loss
from dmtl_cli.teacher.blend import MEMORY, SHARES
from dmtl_cli.teacher.factors import PENALTY, Factors, as_one, learn_apart, summed
from dmtl_cli.teacher.frozen import Finish
from dmtl_cli.teacher.labels import HeldOut, TeacherLabels
from dmtl_cli.teacher.loss import teacher_loss

Array = np.ndarray[Any, np.dtype[Any]]
TASKS = ("ctr", "cvr")


def rows(n: int, seed: int, *, network: float = 1, factors: float = 1, regression: float = 0) -> list[dict[str, Any]]:
    """Clicks of log-odds a + b - 1. The network has so much of a, factors so much of b, and the regression so much of b
    too, beside noise."""
    rng = np.random.default_rng(seed)
    a, b, *noise = rng.normal(size=(5, n))
    y, w = rng.random(n) < 1 / (1 + np.exp(1 - a - b)), np.ones(n, np.float32)
    parts = (network, a), (factors, b), (regression, b)
    logits = (known * x + (1 - known) * e for (known, x), e in zip(parts, noise, strict=True))
    return [{"ctr": held(x.astype(np.float32), y, w)} for x in logits]


def share(rows: list[dict[str, HeldOut]], before: Factors | None = None) -> float:
    return Factors.fit(*rows[:2], rows[2] if len(rows) > 2 else None, before).share("ctr")


# -- the share ---------------------------------------------------------------------------------------------------------


def test_who_tells_something_is_heard() -> None:
    assert share(rows(20_000, 0)[:2]) == pytest.approx(0.5, abs=0.11)
    assert share(rows(20_000, 0, network=0)[:2]) >= 0.9
    assert share(rows(20_000, 0, factors=0)[:2]) == 0


def test_what_the_regression_knows_is_no_reason_for_factors() -> None:
    """The same factors, beside a regression that knows nothing and one that knows all that they do."""
    assert share(rows(20_000, 1, regression=0)) >= 0.4
    assert share(rows(20_000, 1, factors=0.9, regression=1)) == 0


def test_few_rows_are_no_reason_either() -> None:
    few = [share(rows(30, seed)) for seed in range(20)]
    assert np.mean(np.equal(few, 0)) > 0.8, "a network that a log is too small to better"
    assert share(rows(0, 0)) == 0
    n = 300
    one_class = [{"ctr": held(np.full(n, x), np.zeros(n, bool), np.ones(n, np.float32))} for x in (-2.2, -3.0, -2.2)]
    assert share(one_class) == share(one_class[:2]) == 0, "levels are calibration's"


@pytest.mark.parametrize("beside", [True, False])
def test_factors_that_are_wrong_have_no_share(beside: bool) -> None:
    """Turned round they would tell much, with a regression or alone; no blend turns them."""
    network, factors, regression = rows(3_000, 5, network=0.3, factors=0.8, regression=0.7)
    wrong = {"ctr": held(-factors["ctr"].logit, factors["ctr"].label, factors["ctr"].weight)}
    assert share([network, wrong, regression][: 3 if beside else 2]) == 0


@pytest.mark.parametrize(("gain", "expected"), [(0, 0), (7.9, 0), (8.1, 1), (-5, 0)])
def test_a_share_must_be_worth_its_part_of_the_penalty(gain: float, expected: float) -> None:
    assert PENALTY == 8
    assert Factors({"ctr": tuple(-gain * s for s in SHARES)}).share("ctr") == expected


def test_losses_are_those_of_the_best_slopes_of_model_and_regression() -> None:
    """Beside scipy's minimum of the log loss, with the prior of two slopes of a half."""
    network, factors, regression = rows(3_000, 2, network=0.8, factors=0.7, regression=0.4)
    found = Factors.fit(network, factors, regression, None).losses["ctr"]
    n, f, r = (x["ctr"].logit.astype(np.float64) for x in (network, factors, regression))
    y = network["ctr"].label
    plain = []
    for s in SHARES:
        x = np.stack([(1 - s) * n + s * f, r, np.ones(len(y))], 1)

        def each(theta: Array, x: Array = x) -> Array:
            z: Array = x @ theta
            out: Array = np.logaddexp(0, -np.where(y, z, -z))
            return out

        def objective(theta: Array) -> float:
            off = theta - [0.5, 0.5, 0]
            return float(each(theta).sum() + (off**2 / np.array([SLOPE_SD, SLOPE_SD, 10.0]) ** 2).sum() / 2)

        plain.append(each(minimize(objective, np.array([0.5, 0.5, 0]), tol=1e-10).x).sum())
    np.testing.assert_allclose(found, np.array(plain) - min(plain), atol=1e-3)


def test_one_score_has_the_loss_of_its_calibration() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=500), rng.random(500)
    y = rng.random(500) < 1 / (1 + np.exp(-2 * x))
    np.testing.assert_allclose(joint_loss([x], y, w), fitted_loss(x, y, w), atol=1e-8)
    np.testing.assert_allclose(joint_loss([-x], y, w), fitted_loss(-x, y, w), atol=1e-8)
    assert joint_loss([x, -x], y, w).sum() > joint_loss([x, x], y, w).sum() + 1, "no slope is below .05"
    assert not joint_loss([x, x], y & False, w).any()


def test_a_day_begins_with_part_of_what_earlier_days_said() -> None:
    first = Factors.fit(*rows(3_000, 3, network=0), None)
    today = rows(3_000, 4, factors=0)
    alone, after = Factors.fit(*today, None), Factors.fit(*today, first)
    np.testing.assert_allclose(after.losses["ctr"], MEMORY * np.array(first.losses["ctr"]) + alone.losses["ctr"])
    assert first.share("ctr") >= 0.9 and alone.share("ctr") == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=len(SHARES), max_size=len(SHARES)))
def test_survives_json_bit_for_bit(losses: list[float]) -> None:
    factors = Factors({"cvr": tuple(losses), "ctr": (0.0,) * len(SHARES)})
    stored = json.loads(json.dumps(factors.to_dict()))
    assert Factors.from_dict(stored) == factors and stored["cvr"]["share"] == factors.share("cvr")


# -- logits ------------------------------------------------------------------------------------------------------------


def test_as_one() -> None:
    heads = np.arange(12, dtype=np.float32).reshape(3, 4)
    lean = tuple(-100.0 * (s == 0.3) for s in SHARES)
    factors = Factors({"ctr": lean, "cvr": (0.0,) * len(SHARES)})
    found = as_one(factors, heads, TASKS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack([0.7 * heads[:, 0] + 0.3 * heads[:, 2], heads[:, 1]], 1), rtol=1e-6)
    np.testing.assert_array_equal(as_one(None, heads, TASKS), heads[:, :2] + heads[:, 2:])
    np.testing.assert_array_equal(as_one(None, heads[:, :2], TASKS), heads[:, :2])
    for some in (factors, None):
        assert as_one(some, heads[:0], TASKS).shape == (0, 2)
    torch.testing.assert_close(summed(torch.from_numpy(heads), 2), torch.from_numpy(heads[:, :2] + heads[:, 2:]))
    assert summed(torch.from_numpy(heads[:0]), 2).shape == (0, 2)


def test_shares_find_their_task_whatever_the_order_in_a_manifest(tmp_path: Path) -> None:
    """A manifest sorts names: `add` before `ctr`. A teacher without shares has factors that learned for the sum."""
    tasks = Tasks(("add",))
    all_factors = tuple(-100 * s for s in SHARES)
    factors = Factors({"ctr": (0.0,) * 11, "cvr": (0.0,) * 11, "add": all_factors})
    calibration = {task: Calibration().to_dict() for task in tasks.names}
    facts = json.loads(canonical({"factors": factors.to_dict(), "calibration": calibration}))
    stored = Finish.stored(tmp_path, facts, tasks, context=True)
    heads = np.arange(6, dtype=np.float32)[None]
    assert stored.beside is None and list(stored.calibration) == ["ctr", "cvr", "add"]
    np.testing.assert_array_equal(as_one(stored.factors, heads, tasks.names), [[0, 1, 5]])
    del facts["factors"]
    before = Finish.stored(tmp_path, facts, tasks, context=True).factors
    np.testing.assert_array_equal(as_one(before, heads, tasks.names), [[3, 5, 7]])


# -- the loss ----------------------------------------------------------------------------------------------------------


def labels(n: int = 11) -> TeacherLabels[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    click, read, known = (torch.rand(n, generator=rng) < p for p in (0.6, 0.5, 0.8))
    return TeacherLabels(click, read[:, None], known[:, None], torch.rand(n, generator=rng))


def test_the_loss_of_factors_is_that_of_each_task_over_its_rows(tmp_path: Path) -> None:
    config = load_config(Project.create(tmp_path, tmp_path).file)
    heads, of = torch.randn(11, 4, generator=torch.Generator().manual_seed(1)), labels()
    alone, _ = teacher_loss(config, heads[:, :2], of)
    both, parts = teacher_loss(config, heads, of)
    expected = 0.0
    for k, (y, kept) in enumerate(((of.click, of.click | True), (of.converted[:, 0], of.click & of.known[:, 0]))):
        p = torch.where(y, heads[:, 2 + k], -heads[:, 2 + k]).sigmoid()
        mean = float((-p.log() * of.weight)[kept].sum() / of.weight[kept].sum())
        assert float(parts[f"loss.factors.{TASKS[k]}"].value) == pytest.approx(mean, rel=1e-5)  # type: ignore[union-attr]
        expected += mean
    assert float(both - alone) == pytest.approx(expected, rel=1e-5)


def test_neither_moves_the_other(tmp_path: Path) -> None:
    """A network with factors has the gradients of the same network without any; factors those of factors alone."""
    config = load_config(Project.create(tmp_path, tmp_path).file)
    encoder = encoder_of(*USER, *ITEM, *CONTEXT)
    model, sides = a_teacher(encoder).double(), random_sides(encoder, 1, torch.float64)

    def gradients(columns: slice) -> dict[str, torch.Tensor]:
        heads, _ = model(*sides, USERS, ITEMS)
        model.zero_grad()
        keep = torch.zeros(4, dtype=torch.bool)
        keep[columns] = True
        fixed = torch.where(keep, heads, heads.detach())
        teacher_loss(config, fixed, labels())[0].backward()  # type: ignore[no-untyped-call]
        dense = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        return {n: (g.to_dense() if g.is_sparse else g).clone() for n, g in dense.items()}

    both, network, factors = gradients(slice(0, 4)), gradients(slice(0, 2)), gradients(slice(2, 4))
    for name, g in both.items():
        if name == "table.weight":
            assert torch.equal(g[:, :DIM], network[name][:, :DIM]) and not network[name][:, DIM:].any()
            assert torch.equal(g[:, DIM:], factors[name][:, DIM:]) and not factors[name][:, :DIM].any()
            assert g[:, :DIM].any() and g[:, DIM:].any()
        else:
            assert torch.equal(g, network[name]) and not factors.get(name, torch.zeros(())).any()


@pytest.mark.parametrize(
    ("section", "apart"), [({}, True), ({"blend_regression": False}, True), ({"calibration_share": 0.0}, False)]
)
def test_they_learn_apart_where_rows_are_held_out(tmp_path: Path, section: dict[str, Any], apart: bool) -> None:
    made = Project.create(tmp_path, tmp_path, config=BASE | {"teacher": BASE["teacher"] | section})
    assert learn_apart(load_config(made.file)) is apart


def test_clicks_alone_tell_no_share(tmp_path: Path) -> None:
    data = {"events": {k: v for k, v in BASE["data"]["events"].items() if k != "click"}}
    made = Project.create(tmp_path, tmp_path, config=BASE | {"data": data, "teacher": {"samples": "sampled"}})
    assert not learn_apart(load_config(made.file))
