"""What is judged of a teacher: by numbers beside plain loops, and bad teachers through the command line."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_gates_inputs import a_config, a_log, change, manifest, rejected
from worlds import DAYS, Project

from dmtl_cli.evaluate import metrics
from dmtl_cli.nn import gates
from dmtl_cli.nn.gates import not_finite
from dmtl_cli.nn.learner import Learner
from dmtl_cli.scores.calibration import Calibration
from dmtl_cli.stages import train_teacher
from dmtl_cli.teacher.auc import won
from dmtl_cli.teacher.gates import auc, first_epoch, gate_loads, on_held_out
from dmtl_cli.teacher.labels import HeldOut
from dmtl_cli.teacher.loss import _in_order

# -- numbers -----------------------------------------------------------------------------------------------------------

ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([0.5, 1.0, 2.0])),
    min_size=2,
    max_size=14,
).filter(lambda rows: 0 < sum(row[0] for row in rows) < len(rows))


@given(ROWS)
def test_auc_and_its_error_are_those_of_a_loop(rows: list[tuple[bool, int, int, float]]) -> None:
    y, score, other, w = (np.array(x) for x in zip(*rows, strict=True))
    score, other = score.astype(np.float64), other.astype(np.float64)
    mine, theirs = (HeldOut(x, y, w, np.arange(len(y))) for x in (score, other))
    found, gain = auc(mine), auc(mine, theirs)
    assert found and gain
    assert found[0] == pytest.approx(metrics.auc(y, score, w))
    assert gain[0] == pytest.approx(found[0] - metrics.auc(y, other, w), abs=1e-12)
    assert gain[1] == pytest.approx(by_hand(y, [score, other], w))
    half, delong = half_a_row(y, w), by_hand(y, [score], w)
    assert found[1] == pytest.approx(max(delong, math.hypot(half, independent(found[0], y, w))))


def as_many(y: Any, w: Any) -> list[float]:
    """Rows of weight 1 of each class that would say as much."""
    return [sum(w[k] for k in of) ** 2 / sum(w[k] ** 2 for k in of) for of in (np.flatnonzero(y), np.flatnonzero(~y))]


def half_a_row(y: Any, w: Any) -> float:
    return 0.5 / min(as_many(y, w))


def independent(a: float, y: Any, w: Any) -> float:
    """Hanley and McNeil's error of an AUC."""
    n, m = as_many(y, w)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    return math.sqrt(max(0.0, a * (1 - a) + (n - 1) * (q1 - a * a) + (m - 1) * (q2 - a * a)) / (n * m))


def by_hand(y: Any, scores: list[Any], w: Any) -> float:
    """DeLong's error by loops over pairs of rows; of two scores, that of their difference."""
    n, variance = len(y), 0.0

    def wins(score: Any, k: int) -> float:
        others = [j for j in range(n) if y[j] != y[k]]
        sign = 1 if y[k] else -1
        won_by = [w[j] * (0.5 + 0.5 * np.sign(sign * (score[k] - score[j]))) for j in others]
        return float(sum(won_by) / sum(w[j] for j in others))

    for of in (True, False):
        mine = [k for k in range(n) if y[k] == of]
        each = [wins(scores[0], k) - (wins(scores[1], k) if len(scores) > 1 else 0.0) for k in mine]
        total = sum(w[k] for k in mine)
        mean = sum(w[k] * v for k, v in zip(mine, each, strict=True)) / total
        variance += sum((w[k] * (v - mean) / total) ** 2 for k, v in zip(mine, each, strict=True))
    return math.hypot(math.sqrt(variance * n / (n - 1)), half_a_row(y, w))


def test_the_error_is_about_that_of_many_draws() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(300):
        y = rng.random(200) < 0.3
        found.append(auc(HeldOut(rng.normal(size=200) + y, y, np.ones(200), np.arange(200))))
    values, errors = np.array(found).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)
    assert won(y, np.zeros(200), np.ones(200)).tolist() == [0.5] * 200


def test_a_few_users_that_are_alike_by_chance_are_no_proof() -> None:
    """Scores that tell nothing of the rows of six users: few of many days are three errors from .5."""
    far, days = 0, 1_000
    for seed in range(days):
        rng = np.random.default_rng(seed)
        found = auc(HeldOut(rng.normal(size=72), rng.random(72) < 0.5, np.ones(72), np.repeat(np.arange(6), 12)))
        assert found
        far += abs(found[0] - 0.5) > 3 * found[1]
    assert far <= 5


def test_rows_of_a_user_are_one_draw() -> None:
    """Neither of two scores is better: a day would be refused by chance if rows counted one by one."""
    gains, errors = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        user = np.repeat(np.arange(20), 60)
        bias, one, other = (rng.normal(size=20)[user] for _ in range(3))
        x = rng.normal(size=len(user))
        y = rng.random(len(user)) < 1 / (1 + np.exp(1.5 - bias - 0.8 * x))
        rows = [HeldOut(0.8 * x + 0.5 * of, y, np.ones(len(user)), user) for of in (one, other)]
        found = auc(*rows)
        assert found
        gains.append(found[0]), errors.append(found[1])
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.2)
    assert auc(replace(rows[0], user=np.zeros(len(user), np.int64))) is None, "one user tells nothing of the next"


def test_the_loss_over_that_of_the_mean() -> None:
    numbers = {"rows": 1000.0, "loss.ctr": 0.4, "rate.ctr": 0.1, "loss.cvr": 0.6, "rate.cvr": 0.5, "share.cvr": 0.1}
    ctr, cvr = first_epoch(numbers, ("ctr", "cvr"))
    entropy = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    assert ctr.name == "teacher.ne.ctr"
    assert (ctr.value, ctr.error) == pytest.approx((0.4 / entropy, 0.4 / entropy / 200**0.5))
    assert cvr.value == 1, "better than the mean"
    assert cvr.error == pytest.approx(0.6 / math.log(2) / 10)
    assert first_epoch({"rows": 9.0, "loss.ctr": 0.1, "rate.ctr": 1.0}, ("ctr",)) == [], "one class"
    assert first_epoch({}, ("ctr",)) == [], "nothing was learned"
    assert [(m.name, m.value) for m in gate_loads({"gate.ctr.max": 1.0}, ("ctr", "cvr"))] == [("teacher.gate.ctr", 1.0)]


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_the_auc_of_a_batch_is_that_of_a_loop(rows: list[tuple[int, bool]]) -> None:
    """Every third row is of another task, and counts for neither class."""
    logit, y = torch.tensor([s for s, _ in rows], dtype=torch.float32), torch.tensor([y for _, y in rows])
    kept = torch.arange(len(rows)) % 3 > 0
    up, down = ([s for k, (s, of) in enumerate(rows) if of is label and k % 3] for label in (True, False))
    pairs = [(a, b) for a in up for b in down]
    ordered, number = _in_order(logit, kept & y, kept & ~y)
    assert (float(ordered), float(number)) == (sum((a > b) + (a == b) / 2 for a, b in pairs), len(pairs))


def test_the_error_of_an_auc_is_about_that_of_many_draws() -> None:
    rng = np.random.default_rng(2)
    drawn = [HeldOut(rng.normal(size=400) + y, y, np.ones(400), np.arange(400)) for y in rng.random((200, 400)) < 0.3]
    values = [found[0] for found in map(auc, drawn) if found]
    numbers = {"rows": 400.0, "loss.ctr": 0.5, "rate.ctr": 0.3}
    numbers |= {"pairs.ctr": 1000.0, "ordered.ctr": 1000 * float(np.mean(values))}
    _, order = first_epoch(numbers, ("ctr",))
    assert order.name == "teacher.next_auc.ctr" and order.error == pytest.approx(np.std(values), rel=0.15)


def test_held_out_rows_of_both_classes_are_judged() -> None:
    y = np.array([1, 0, 1, 0], np.int8)
    rows = HeldOut(np.log([3.0, 1 / 3, 1.0, 1.0]), y, np.ones(4, np.float32), np.arange(4))
    one = HeldOut(rows.logit, np.ones(4), rows.weight, rows.user)
    same = Calibration().to_dict()
    found = {
        m.name: m
        for m in on_held_out({"ctr": rows, "cvr": one}, {"ctr": rows, "cvr": one}, dict.fromkeys(("ctr", "cvr"), same))
    }
    assert found.keys() == {
        f"teacher.{k}" for k in ("calibration.broken", "auc.ctr", "beside_regression.ctr", "pcoc.ctr")
    }
    assert found["teacher.pcoc.ctr"].value == pytest.approx(1.0)
    assert found["teacher.pcoc.ctr"].error == pytest.approx(2**-0.5)
    assert found["teacher.auc.ctr"].value == 0.875 and found["teacher.beside_regression.ctr"].value == 0
    for slope in (0.0, -1.0, math.nan):
        [broken] = on_held_out({}, {}, {"ctr": same | {"slope": slope}})
        assert broken.value == 1 and broken.integrity


def test_every_number_of_every_file_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "regression").mkdir()
    save_file({"a": torch.ones(3), "b": torch.arange(4)}, tmp_path / "model.safetensors")
    assert not_finite(tmp_path, "teacher").value == 0
    save_file({"w": torch.tensor([1.0, math.nan, -math.inf])}, tmp_path / "regression" / "weights.safetensors")
    found = not_finite(tmp_path, "teacher")
    assert found.value == 2 and found.hint.startswith("weights.safetensors: w[1]")


# -- bad teachers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two good teachers; read only."""
    home = tmp_path_factory.mktemp("chain")
    made = Project.create(home, a_log(home / "log"), config=a_config())
    for day in (1, 2):
        made.done("train-teacher", day)
    return made


@pytest.fixture
def project(chain: Project, tmp_path: Path) -> Project:
    """A copy of the chain and of its log, to be changed."""
    shutil.copytree(chain.home / "log", tmp_path / "log")
    shutil.copytree(chain.ws, tmp_path / "ws", symlinks=True)
    return Project.create(tmp_path, tmp_path / "log", config=a_config())


def test_good_teachers_pass_and_say_what_was_judged(chain: Project) -> None:
    gates = {gate["name"]: gate for gate in manifest(chain, "teacher", 2)["gates"]}
    assert all(gate["passed"] for gate in gates.values())
    of_task = {
        f"teacher.{k}.{t}"
        for k in ("auc", "beside_regression", "gate", "ne", "next_auc", "pcoc")
        for t in ("ctr", "cvr")
    }
    whole = {f"teacher.{k}" for k in ("calibration.broken", "moved.dense", "moved.embedding", "not_finite")}
    assert gates.keys() == of_task | whole | {"inputs.null_share.colour", "inputs.null_share.hour"}
    assert gates["teacher.auc.ctr"]["value"] > 0.75 and gates["teacher.ne.ctr"]["value"] == 1


RATES = ("learning_rate", "embedding_learning_rate")


@pytest.mark.parametrize("day", [1, 3])
@pytest.mark.parametrize("rate", ["1e6", "1e-12"])
@pytest.mark.parametrize("name", RATES)
def test_a_learning_rate_far_off_is_refused(project: Project, name: str, rate: str, day: int) -> None:
    if day == 1:
        shutil.rmtree(project.ws)
    ended = project.stage("train-teacher", day, **{f"teacher__{name}": rate})
    assert ended.code == 80, ended.err
    assert not (project.ws / "teacher" / f"day={DAYS[day - 1]}" / "CURRENT").exists()


def permuted(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(frame["click"].sample(fraction=1.0, shuffle=True, seed=1))


def test_clicks_of_other_rows_are_refused_unless_forced(project: Project) -> None:
    change(project, 3, permuted)
    ended = project.stage("train-teacher", 3)
    reasons = rejected(project, "teacher", 3)
    assert ended.code == 80 and "teacher.next_auc.ctr" in reasons and "teacher.auc.ctr" in reasons, ended.err
    assert project.done("train-teacher", 3, "--force-publish", "an experiment")["metrics"]
    assert manifest(project, "teacher", 3)["facts"]["forced"] == "an experiment"
    assert project.done("train-teacher", 3)["up_to_date"]


def test_a_limit_can_be_changed(project: Project) -> None:
    change(project, 3, permuted)
    limits = "{teacher.auc: {least: 0.1}, teacher.ne: {}, teacher.next_auc: {}, teacher.beside_regression: {}}"
    gates = {gate["name"]: gate for gate in project.done("train-teacher", 3, gates__limits=limits)["gates"]}
    assert gates["teacher.ne.ctr"]["limit"] == [None, None] and gates["teacher.auc.ctr"]["limit"][0] is None


def test_a_model_without_a_table_is_not_held_to_move_one(tmp_path: Path) -> None:
    config = a_config()
    config["features"] = [{"name": f"{s}_id", "side": s, "kind": "numeric"} for s in ("user", "item")]
    made = Project.create(tmp_path, a_log(tmp_path / "log"), config=config).done("train-teacher", 1)
    assert [g["name"] for g in made["gates"] if "moved" in g["name"]] == ["teacher.moved.dense"]


def test_a_weight_that_is_no_number_is_refused_whatever_is_forced(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step breaks the model, after the last loss that was looked at."""
    whole = train_teacher.train

    def train(run: Any, name: str, learners: Any, *rest: Any) -> Any:
        numbers = whole(run, name, learners, *rest)
        learners[0].model.net.first.bias.data[0] = math.nan
        return numbers

    monkeypatch.setattr(train_teacher, "train", train)
    ended = project.stage("train-teacher", 3, "--force-publish", "please", teacher__epochs=1)
    assert ended.code == 80 and "weights are not finite" in ended.err, ended.err


@pytest.mark.parametrize("file", ["optimizer", "model"])
def test_a_file_with_nan_is_refused_whatever_is_forced(
    project: Project, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    whole = Learner.finish

    def finish(learner: Learner[Any], run: Any, folder: Path, scratch: Path) -> dict[str, float]:
        sizes = whole(learner, run, folder, scratch)
        stored = load_file(folder / f"{file}.safetensors")
        name = next(k for k, v in stored.items() if v.ndim)
        stored[name].view(-1)[0] = math.inf
        save_file(stored, folder / f"{file}.safetensors")
        return sizes

    monkeypatch.setattr(Learner, "finish", finish)
    for force in ([], ["--force-publish", "please"]):
        ended = project.stage("train-teacher", 3, *force, gates__quality=False)
        assert ended.code == 80 and "teacher.not_finite is 1, expected 0" in ended.err, ended.err
    assert "teacher.not_finite" in rejected(project, "teacher", 3)


@pytest.mark.parametrize("rows", [2, 1 << 20], ids=["part by part", "at once"])
def test_what_is_not_finite_is_counted_and_the_first_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(gates, "_ROWS", rows)
    table, scalar, empty = torch.ones(7, 3), torch.tensor(1.0), torch.ones(0, 3)
    save_file({"empty": empty, "scalar": scalar, "table": table}, tmp_path / "model.safetensors")
    assert not_finite(tmp_path, "teacher").value == 0
    table[5, 1], table[6, 2] = torch.nan, torch.inf
    save_file({"empty": empty, "scalar": scalar, "table": table}, tmp_path / "model.safetensors")
    found = not_finite(tmp_path, "teacher")
    assert found.value == 2 and "model.safetensors: table[5, 1]" in found.hint
    save_file({"scalar": scalar * torch.nan}, tmp_path / "model.safetensors")
    assert not_finite(tmp_path, "teacher").value == 1
