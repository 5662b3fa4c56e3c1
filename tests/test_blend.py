"""The regression's share of a teacher's logits: what held-out rows choose, day after day, and when they are few."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.rows import pairs
from dmtl_cli.evaluate import metrics
from dmtl_cli.runs.manifest import canonical
from dmtl_cli.scores.calibration import Calibration
from dmtl_cli.teacher.blend import GIVEN_BACK, MEMORY, PENALTY, SHARES, Blend, blended
from dmtl_cli.teacher.frozen import Blended, Finish
from dmtl_cli.teacher.labels import HeldOut
from dmtl_cli.teacher.regression import FOLDER, Regression

Floats = npt.NDArray[np.float64]


def held(logit: Any, label: Any, weight: Any) -> HeldOut:
    return HeldOut(logit, label, weight, np.arange(len(logit)))


def rows(n: int, seed: int, *, network: float, regression: float) -> tuple[dict[str, HeldOut], dict[str, HeldOut]]:
    """Clicks of log-odds a + b - 1; the network has so much of a, the regression so much of b, beside noise."""
    rng = np.random.default_rng(seed)
    a, b, noise, other = rng.normal(size=(4, n))
    y = rng.random(n) < 1 / (1 + np.exp(1 - a - b))
    w = np.ones(n, np.float32)
    mine = (network * a + (1 - network) * noise).astype(np.float32)
    return {"ctr": held(mine, y, w)}, {"ctr": held(regression * b + (1 - regression) * other, y, w)}


@pytest.mark.parametrize(
    ("network", "regression", "low", "high"), [(0, 1, 0.9, 1), (1, 0, 0, 0.1), (1, 1, 0.4, 0.6), (0, 0, 0.1, 0.9)]
)
def test_who_tells_something_is_heard(network: float, regression: float, low: float, high: float) -> None:
    both = rows(20_000, 0, network=network, regression=regression)
    assert low <= Blend.fit(*both, None).share("ctr") <= high


def test_two_halves_are_better_than_each() -> None:
    network, regression = rows(20_000, 1, network=1, regression=1)
    share = Blend.fit(network, regression, None).share("ctr")
    aucs = []
    for s in (0.0, share, 1.0):
        mixed = blended(network["ctr"], regression["ctr"], s)
        auc = metrics.auc(mixed.label, mixed.logit)
        assert auc is not None
        aucs.append(auc)
    assert aucs[1] > max(aucs[0], aucs[2]) + 0.05
    fresh = [x["ctr"] for x in rows(20_000, 2, network=1, regression=1)]
    mixed = blended(*fresh, share)
    again = metrics.auc(mixed.label, mixed.logit)
    assert again and again == pytest.approx(aucs[1], abs=0.02), "on rows that chose nothing too"


def test_losses_are_those_of_a_logistic_regression_on_the_blended_logit() -> None:
    network, regression = rows(4_000, 3, network=0.7, regression=0.6)
    losses = Blend.fit(network, regression, None).losses["ctr"]
    assert min(losses) == 0.0
    plain = []
    for share in SHARES:
        x = (1 - share) * network["ctr"].logit.astype(np.float64) + share * regression["ctr"].logit
        p = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], network["ctr"].label).predict_proba(x[:, None])
        plain.append(-np.log(p[np.arange(len(x)), network["ctr"].label.astype(int)]).sum())
    np.testing.assert_allclose(losses, np.array(plain) - min(plain), rtol=0.01, atol=0.2)


@pytest.mark.parametrize("label", [False, True])
def test_rows_of_one_label_tell_nothing(label: bool) -> None:
    """Only who is lower, or higher: whoever expects fewer conversions is no better for a day without one."""
    before = Blend.fit(*rows(300, 6, network=1, regression=0.2), None)
    day = [
        {task: replace(x, label=np.full(len(x.label), label)) for task, x in each.items()}
        for each in rows(60, 7, network=1, regression=1)
    ]
    day[0]["ctr"] = replace(day[0]["ctr"], logit=day[0]["ctr"].logit + 3)
    after = Blend.fit(*day, before)
    assert after == before, "nor is anything forgotten: the calibration of that day is the one before"
    assert Blend.fit(*day, None).share("ctr") == 0.5


def test_a_row_of_weight_two_is_two_rows() -> None:
    network, regression = rows(300, 4, network=0.8, regression=0.8)
    w = np.random.default_rng(0).integers(0, 3, 300)

    def change(x: dict[str, HeldOut], *, repeat: bool) -> dict[str, HeldOut]:
        (a,) = x.values()
        if repeat:
            return {"ctr": held(np.repeat(a.logit, w), np.repeat(a.label, w), np.ones(w.sum(), np.float32))}
        return {"ctr": held(a.logit, a.label, w.astype(np.float32))}

    one, other = (Blend.fit(change(network, repeat=r), change(regression, repeat=r), None) for r in (False, True))
    np.testing.assert_allclose(one.losses["ctr"], other.losses["ctr"], atol=1e-6)


def test_a_day_begins_with_part_of_what_earlier_days_said() -> None:
    first = Blend.fit(*rows(3_000, 5, network=0, regression=1), None)
    today = rows(3_000, 6, network=1, regression=0)
    alone, after = Blend.fit(*today, None), Blend.fit(*today, first)
    np.testing.assert_allclose(after.losses["ctr"], MEMORY * np.array(first.losses["ctr"]) + alone.losses["ctr"])
    assert first.share("ctr") >= 0.9 and alone.share("ctr") <= 0.1
    assert 0.2 <= after.share("ctr") <= 0.8, "a day that contradicts an equal one before it"
    for seed in range(7, 17):
        after = Blend.fit(*rows(3_000, seed, network=1, regression=0), after)
    assert after.share("ctr") <= 0.1, "days that agree override it"
    nothing = {"ctr": held(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.float32))}
    assert Blend.fit(nothing, nothing, first) == first, "as the calibration of such a day"


@pytest.mark.parametrize(("gain", "share"), [(0, 0.5), (6.4, 0.6), (12.8, 0.7), (-12.8, 0.3), (33, 1), (-33, 0)])
def test_the_penalty_is_a_parabola(gain: float, share: float) -> None:
    """Of losses -gain s + PENALTY (2 s - 1)^2 the least is at s = .5 + gain / (8 PENALTY)."""
    assert PENALTY == 8
    assert Blend({"ctr": tuple(-gain * s for s in SHARES)}).share("ctr") == pytest.approx(share)


def test_few_rows_do_not_decide_alone() -> None:
    assert Blend.fit(*rows(0, 0, network=1, regression=0), None).share("ctr") == 0.5
    few = [Blend.fit(*rows(40, seed, network=1, regression=0), None).share("ctr") for seed in range(20)]
    assert min(few) >= 0.2 and np.mean(few) < 0.5, "they lean to the better one"
    one_class = held(np.array([0.5, 3.0]), np.zeros(2, bool), np.ones(2, np.float32))
    assert 0 <= Blend.fit({"ctr": one_class}, {"ctr": one_class}, None).share("ctr") <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=len(SHARES), max_size=len(SHARES)))
def test_survives_json_bit_for_bit(losses: list[float]) -> None:
    blend = Blend({"ctr": tuple(losses), "cvr": (0.0,) * len(SHARES)})
    stored = json.loads(json.dumps(blend.to_dict()))
    assert Blend.from_dict(stored) == blend and stored["ctr"]["share"] == blend.share("ctr")


class Known:
    """In place of a regression on a day: logits by label, more than the tasks."""

    alone: ClassVar[dict[str, float] | None] = None

    def with_and_without_pairs(self, rows: Any) -> tuple[dict[str, Floats], dict[str, Floats] | None]:
        whole = {k: np.full(len(rows), v) for k, v in {"ctr": 4.0, "cvr": -2.0, "ctcvr": 99.0, "add": 7.0}.items()}
        return whole, self.alone and {k: np.full(len(rows), v) for k, v in self.alone.items()}


def test_logits_are_blended_task_by_task_in_float32() -> None:
    some, network = pairs(np.arange(3), np.arange(3)), np.arange(6, dtype=np.float32).reshape(3, 2)
    beside = Blended.__new__(Blended)
    beside.on_day, beside.tasks = Known(), ("ctr", "cvr")  # type: ignore[assignment]
    for gain, shares in ((12.8, (0.7, 0.3)), (33, (1.0, 0.0))):
        lean = tuple(-gain * s for s in SHARES)
        beside.blend = Blend({"ctr": lean, "cvr": tuple(-x for x in lean)})
        found = beside.pairs(network, some)
        a, c = shares
        expected = np.stack([(1 - a) * network[:, 0] + a * 4, (1 - c) * network[:, 1] - c * 2], 1)
        assert found.dtype == np.float32 and found.shape == (3, 2)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    beside.blend = Blend(dict.fromkeys(("ctr", "cvr"), tuple(33 * s for s in SHARES)))
    assert beside.pairs(network, some) is network, "a regression without a share is not computed"


def test_what_conjunctions_say_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the share: of ctr all that the share took, of cvr, whose network knows it, nothing."""
    some, network = pairs(np.arange(3), np.arange(3)), np.zeros((3, 2), np.float32)
    beside = Blended.__new__(Blended)
    beside.on_day, beside.tasks = Known(), ("ctr", "cvr")  # type: ignore[assignment]
    monkeypatch.setattr(Known, "alone", {"ctr": 1.0, "cvr": -1.0})
    even = tuple(0.0 for _ in SHARES)
    lean = tuple(-33 * q for q in GIVEN_BACK)
    beside.blend = Blend({"ctr": even, "cvr": even}, {"ctr": lean, "cvr": tuple(-x for x in lean)})
    assert [beside.blend.given_back(task) for task in beside.tasks] == [0.5, 0.0]
    np.testing.assert_allclose(beside.pairs(network, some), [[0.5 * 4 + 0.5 * (4 - 1), 0.5 * -2]] * 3)
    stored = json.loads(json.dumps(beside.blend.to_dict()))
    assert Blend.from_dict(stored) == beside.blend and stored["ctr"]["given_back"] == 0.5
    beside.blend = Blend(dict.fromkeys(("ctr", "cvr"), tuple(33 * s for s in SHARES)), beside.blend.pairs)
    assert beside.pairs(network, some)[0].tolist() == [3.0, 0.0], "conjunctions alone"


@pytest.mark.parametrize("knows", [False, True])
def test_held_out_rows_give_back_what_the_network_lacks(knows: bool) -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    level, taste = rng.normal(size=(2, n))
    label, weight = rng.random(n) < 1 / (1 + np.exp(1 - level - taste)), np.ones(n)
    mine, theirs = (level + 0.3 * rng.normal(size=n) for _ in range(2))
    network = {"ctr": held(mine + taste * knows, label, weight)}
    regression, alone = ({"ctr": held(x, label, weight)} for x in (theirs + taste, theirs))
    blend = Blend.fit(network, regression, None, alone)
    assert 0.3 <= blend.share("ctr") < 1
    back = blend.given_back("ctr") / (1 - blend.share("ctr"))
    assert back <= 0.25 if knows else back >= 0.75
    mixed = blend.of_rows("ctr", network["ctr"], regression["ctr"], alone["ctr"])
    share, given = blend.share("ctr"), blend.given_back("ctr")
    parts = network["ctr"].logit, regression["ctr"].logit, alone["ctr"].logit
    np.testing.assert_allclose(mixed.logit, (1 - share) * parts[0] + share * parts[1] + given * (parts[1] - parts[2]))
    after = Blend.fit(network, regression, blend, alone)
    assert after.pairs["ctr"] == pytest.approx([(1 + MEMORY) * x for x in blend.pairs["ctr"]])
    assert Blend.fit(network, regression, None).pairs == {}


def test_shares_find_their_task_whatever_the_order_in_a_manifest(tmp_path: Path) -> None:
    """A manifest sorts names: `add` and `ctr` before `cvr`, while the outputs of a model are ctr, cvr, add."""
    tasks = Tasks(("add",))
    Regression.new(tasks).write(tmp_path / FOLDER)
    all_network, all_regression = (tuple(gain * s for s in SHARES) for gain in (33, -33))
    blend = Blend({"ctr": all_network, "cvr": all_network, "add": all_regression})
    calibration = {task: Calibration().to_dict() for task in tasks.names}
    facts = json.loads(canonical({"blend": blend.to_dict(), "calibration": calibration}))
    beside = Finish.stored(tmp_path, facts, tasks, context=True).beside
    assert beside
    blended = Blended(*beside, None, None)  # type: ignore[arg-type]
    blended.on_day = Known()  # type: ignore[assignment]
    found = blended.pairs(np.zeros((3, 3), np.float32), pairs(np.arange(3), np.arange(3)))
    np.testing.assert_array_equal(found, [[0, 0, 7]] * 3)
