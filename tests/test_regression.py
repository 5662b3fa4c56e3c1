"""The logistic regression beside a teacher: beside a plain one, from day to day, and measured."""

import datetime as dt
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import put, read
from worlds import DAYS, Project

from dmtl_cli.config.features import Feature
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.config.teacher import Teacher
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import Rows
from dmtl_cli.evaluate import metrics
from dmtl_cli.nn.batches import Tables
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.synth.generate import generate
from dmtl_cli.teacher import posterior, regression
from dmtl_cli.teacher.auc import auc_gain
from dmtl_cli.teacher.hashed import BIAS, SLOTS, Design, slots_of
from dmtl_cli.teacher.labels import TeacherRows, labelled
from dmtl_cli.teacher.regression import BATCH, MEMORY, PRIOR, OnDay, Regression
from dmtl_cli.teacher.rows import HoldOut, Window, teacher_rows

Array = npt.NDArray[Any]
TASKS = Tasks(("like",))
FEATURES = (
    Feature(name="user_id", side="user", kind="categorical"),
    Feature(name="seen", side="user", kind="sequence", embedding_name="item_id", max_length=3),
    Feature(name="place", side="user", kind="categorical", level="event"),
    Feature(name="item_id", side="item", kind="categorical"),
    Feature(name="price", side="item", kind="numeric"),
    Feature(name="picture", side="item", kind="vector", dim=2),
    Feature(name="hour", side="context", kind="categorical"),
)


def write_log(root: Path, n: int, seed: int) -> Day:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(8, size=n), rng.integers(6, size=n)
    seen = [[100 + int(k) for k in range(u % 4)] for u in user]
    events = {
        "user_id": user,
        "item_id": 100 + item,
        "click": (rng.random(n) < (item + 1) / 8).astype(int),
        "seconds": rng.random(n) * 60,
        "like": [None if k % 11 == 0 else int(k % 3 == 0) for k in range(n)],
        "weight": rng.choice([0.5, 1.0, 2.0], n),
        "seen": seen,
        "place": rng.integers(3, size=n),
        "price": item * 1.5,
        "picture": [[float(i), 1.0 - i] for i in item],
        "hour": rng.integers(4, size=n),
    }
    put(root, events)
    return read(root, FEATURES, weight="weight", conversions={"like": "like"})


def tables_of(encoder: Encoder, day: Day) -> Tables:
    return Tables(encoder.entities(day, "user"), encoder.entities(day, "item"))


def all_rows(day: Day) -> TeacherRows:
    return Rows.concat([labelled(block, 30.0) for block in day.blocks()])


def plain(encoder: Encoder, day: Day, rows: TeacherRows) -> tuple[Array, Array]:
    """(sorted slots [S], dense rows [n, S]) by a loop over rows and features, from encoded values."""
    tables, cells = tables_of(encoder, day), [Counter({BIAS: 1.0}) for _ in range(len(rows))]
    assert rows.features is not None
    now, place = encoder.encode(rows.features, "context"), encoder.encode(rows.features, "user", True)

    def add(n: int, name: str, row: int, value: float = 1.0) -> None:
        cells[n][int(slots_of(name, np.array([row]))[0])] += float(value)

    for n, (u, i) in enumerate(zip(rows.user, rows.item, strict=True)):
        add(n, "user_id", tables.users.ids[u, 0])
        known = [k for k in tables.users.sequences[0][u].tolist() if k]
        for k in known or [0]:
            add(n, "seen", k, 1 / max(1, len(known)))
        add(n, "place", place.ids[n, 0])
        add(n, "item_id", tables.items.ids[i, 0])
        add(n, "price", 0, tables.items.floats[i, 0])
        for k in range(2):
            add(n, "picture", k, tables.items.floats[i, 1 + k])
        add(n, "hour", now.ids[n, 0])
    slots = sorted({slot for row in cells for slot in row})
    return np.array(slots), np.array([[row[slot] for slot in slots] for row in cells])


def newton(x: Array, y: Array, c: Array, mean: Array, precision: Array) -> tuple[Array, Array]:
    """The most probable weights and their precision, by full Newton steps."""
    w = mean.copy()
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (c * (p - y)) + precision * (w - mean)
        w -= np.linalg.solve((x.T * (c * p * (1 - p))) @ x + np.diag(precision), gradient)
    p = 1 / (1 + np.exp(-x @ w))
    return w, precision + (x**2).T @ (c * p * (1 - p))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argmin to many digits."""
    monkeypatch.setattr(posterior, "_NEAR", 1e-7)
    monkeypatch.setattr(posterior, "_STEPS", 1000)


# -- slots -------------------------------------------------------------------------------------------------------------


def test_slots_are_frozen() -> None:
    assert slots_of("item_id", np.array([0, 1, 2, 1_000_000])).tolist() == [672552, 88948, 95519, 1011502]
    assert slots_of("user_click_history", np.array([1], np.int32)).tolist() == [60489]
    assert BIAS == 798011


def test_slots_are_spread_and_features_apart() -> None:
    items, seen = (slots_of(name, np.arange(100_000)) for name in ("item_id", "seen"))
    assert items.min() >= 0 and items.max() < SLOTS
    expected = SLOTS * (1 - (1 - 1 / SLOTS) ** 100_000)
    assert abs(len(np.unique(items)) - expected) < 300, "as many collisions as of random numbers"
    assert (items == seen).sum() < 5, "an embedding that is shared is not a weight that is shared"


# -- learning ----------------------------------------------------------------------------------------------------------


def test_rows_are_what_a_plain_loop_makes(tmp_path: Path) -> None:
    day = write_log(tmp_path, 60, seed=1)
    encoder, rows = Encoder(FEATURES).grow([day]), all_rows(day)
    x, (slots, dense) = Design.of(encoder, tables_of(encoder, day), rows), plain(encoder, day, rows)
    weights, per_row = np.random.default_rng(0).normal(size=SLOTS), np.random.default_rng(1).normal(size=len(rows))
    np.testing.assert_allclose(x.times(weights), dense @ weights[slots], rtol=1e-5)
    summed = x.summed(per_row, SLOTS)
    np.testing.assert_allclose(summed[slots], per_row @ dense, rtol=1e-5, atol=1e-6)
    used, small = x.compact()
    assert np.array_equal(used, slots) and np.flatnonzero(summed).size <= len(slots)
    np.testing.assert_allclose(small.times(weights[used]), x.times(weights), rtol=1e-12)
    kept = Regression.new(TASKS)
    kept.weights["ctr"][:] = weights
    logit = OnDay(kept, encoder, tables_of(encoder, day)).logits(rows)["ctr"]
    np.testing.assert_allclose(logit, dense @ weights[slots], rtol=1e-4, atol=1e-5)


def test_two_days_are_newtons_two_posteriors(tmp_path: Path, exact: None) -> None:
    """Labels, weights, prior, memory and warm start beside plain Newton steps on dense rows."""
    encoder, model = Encoder(FEATURES), Regression.new(TASKS)
    mean = {label: np.zeros(SLOTS) for label in model.weights}
    precision = {label: np.full(SLOTS, PRIOR) for label in model.weights}
    assert list(mean) == ["ctr", "ctcvr", "ctlike"]
    for k in range(2):
        day = write_log(tmp_path / str(k), 150, seed=k)
        encoder = encoder.grow([day])
        rows = all_rows(day)
        regression.learn([model], encoder, tables_of(encoder, day), [rows])
        model.write(tmp_path / f"m{k}")
        model = Regression.read(tmp_path / f"m{k}", TASKS)
        slots, x = plain(encoder, day, rows)
        (block,) = day.blocks()
        known = {"ctr": (block.click, np.ones(len(rows), bool))}
        for name, (y, there) in block.conversions(30.0).items():
            known |= {f"ct{name}": (y, there)}
        for label, (y, there) in known.items():
            c = block.weight * there
            if k == 0:
                mean[label][BIAS] = math.log(((c * y).sum() + 0.5) / ((c * ~y).sum() + 0.5))
            before = PRIOR + MEMORY * (precision[label] - PRIOR)
            precision[label] = before.copy()
            found = newton(x, y, c, mean[label][slots], before[slots])
            mean[label][slots], precision[label][slots] = found
            np.testing.assert_allclose(model.weights[label], mean[label], atol=2e-4)
            np.testing.assert_allclose(model.precision[label], precision[label], rtol=2e-3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=1, max_size=20))
def test_a_conversion_given_a_click_is_what_two_labels_of_all_rows_imply(logits: list[tuple[float, float]]) -> None:
    click, both = np.array(logits).T
    found = regression.implied({"ctr": click, "ctcvr": both})
    assert list(found) == ["ctr", "ctcvr", "cvr"] and np.isfinite(found["cvr"]).all()
    p, q = (1 / (1 + np.exp(-x)) for x in (click, both))
    np.testing.assert_allclose(1 / (1 + np.exp(-found["cvr"])), np.minimum(q / p, regression.MOST), rtol=1e-6)


def test_what_clicks_depend_on_is_found(tmp_path: Path) -> None:
    """An item's log-odds alone: AUC is that of the truth, and differences of weights are those of log-odds."""
    rng, n = np.random.default_rng(0), 20_000
    item = rng.integers(5, size=n)
    truth = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    click = rng.random(n) < 1 / (1 + np.exp(-truth[item]))
    put(tmp_path, {"user_id": rng.integers(300, size=n), "item_id": item, "click": click.astype(int), "seconds": 40.0})
    day = read(tmp_path, features := (FEATURES[0], FEATURES[3]))
    encoder, model = Encoder(features).grow([day]), Regression.new(Tasks())
    tables, hold_out = tables_of(encoder, day), HoldOut(0.1, 1)
    regression.learn([model], encoder, tables, teacher_rows([day], 30.0, Teacher(), hold_out.kept, rng))
    kept = model.held_out(encoder, tables, Window([day], 30.0, hold_out))[0]["ctr"]
    assert 1_000 < len(kept.label) < 3_000, "a tenth of 300 users, within three standard errors"
    on_day = OnDay(model, encoder, tables)
    by_item = on_day.items["ctr"]
    np.testing.assert_allclose(by_item - by_item.mean(), truth, atol=0.15)
    (block,) = day.blocks()
    best = metrics.auc(block.click, truth[block.item])
    mine = metrics.auc(block.click, by_item[block.item])
    users = on_day.users["ctr"]
    assert best and mine and abs(mine - best) < 1e-6 and np.abs(users).max() < 0.8
    held = metrics.auc(kept.label, kept.logit)
    assert held and abs(held - best) < 0.02


def test_a_second_model_finds_what_it_finds_alone(tmp_path: Path, exact: None) -> None:
    """It begins where the first one has moved, over other slots: what changes with the event is not among them."""
    day = write_log(tmp_path, 300, seed=9)
    encoder = Encoder(FEATURES).grow([day])
    tables, rows = tables_of(encoder, day), all_rows(day)
    both = [Regression.new(TASKS), Regression.new(TASKS, context=False)]
    alone = [Regression.new(TASKS), Regression.new(TASKS, context=False)]
    for _ in range(2):  # warm the second time
        regression.learn(both, encoder, tables, [rows])
        for model in alone:
            regression.learn([model], encoder, tables, [rows])
    for one, other in zip(both, alone, strict=True):
        for label in one.weights:
            np.testing.assert_allclose(one.weights[label], other.weights[label], atol=2e-4)
            np.testing.assert_allclose(one.precision[label], other.precision[label], rtol=2e-3)
    event = int(slots_of("hour", np.array([1]))[0])
    assert both[0].weights["ctr"][event] != 0 and both[1].weights["ctr"][event] == 0


def test_batches_of_a_day_are_nearly_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = write_log(tmp_path, 3_000, seed=4)
    encoder = Encoder(FEATURES).grow([day])
    tables, rows = tables_of(encoder, day), all_rows(day)
    logits = []
    for size in (BATCH, 500):
        monkeypatch.setattr(regression, "BATCH", size)
        model = Regression.new(Tasks())
        regression.learn([model], encoder, tables, [rows])
        logits.append(Design.of(encoder, tables, rows).times(model.weights["ctr"]))
    assert np.corrcoef(*logits)[0, 1] > 0.98 and not np.array_equal(*logits)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    day = write_log(tmp_path, 200, seed=5)
    encoder = Encoder(FEATURES).grow([day])
    for name in "ab":
        model = Regression.new(TASKS)
        regression.learn([model], encoder, tables_of(encoder, day), [all_rows(day)])
        model.write(tmp_path / name)
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "ab")
    assert one == other and len(one) < 5_000, "only slots that rows had are stored"
    back = Regression.read(tmp_path / "a", TASKS)
    for label in model.weights:
        assert np.array_equal(back.weights[label], model.weights[label])
        assert np.array_equal(back.precision[label], model.precision[label])


def test_one_class_and_no_rows_are_no_trouble(tmp_path: Path) -> None:
    day = write_log(tmp_path, 40, seed=6)
    encoder, model = Encoder(FEATURES).grow([day]), Regression.new(TASKS)
    rows = all_rows(day)
    regression.learn([model], encoder, tables_of(encoder, day), [rows.take(np.flatnonzero(~rows.labels.click))])
    regression.learn([model], encoder, tables_of(encoder, day), [])
    assert all(np.isfinite(x).all() for x in (*model.weights.values(), *model.precision.values()))
    assert model.weights["ctr"][BIAS] < -2


# -- how sure a difference is ------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_gain_is_that_of_two_aucs(seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    y, user = rng.random(50) < 0.4, rng.integers(9, size=50)
    one, other = rng.integers(6, size=50) / 3, rng.normal(size=50)
    w = rng.integers(1, 4, 50).astype(np.float32) if weighted else np.ones(50, np.float32)
    found = auc_gain(y, one, other, user, w)
    a, b = metrics.auc(y, one, w), metrics.auc(y, other, w)
    assert found and a is not None and b is not None and abs(found[0] - (a - b)) < 1e-12
    twice = auc_gain(y, one, one, user, w)
    assert twice == (0.0, 0.0)


def test_the_error_is_the_spread_of_repeated_logs_and_rows_of_a_user_are_one_draw() -> None:
    gains, errors, alone = [], [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        user = np.repeat(np.arange(60), 8)
        taste = rng.normal(size=60)[user]
        y = rng.random(len(user)) < 1 / (1 + np.exp(-taste))
        one, other = taste + rng.normal(size=len(user)), rng.normal(size=60)[user]
        w = np.ones(len(user))
        found, by_row = auc_gain(y, one, other, user, w), auc_gain(y, one, other, np.arange(len(user)), w)
        assert found and by_row
        gains.append(found[0]), errors.append(found[1]), alone.append(by_row[1])
    assert abs(np.mean(errors) / np.std(gains) - 1) < 0.12
    assert np.mean(alone) < 0.8 * np.std(gains), "rows taken one by one would be too sure"


def test_a_gain_needs_both_classes_and_two_users() -> None:
    score, w = np.arange(4.0), np.ones(4)
    y = np.array([True, False, True, False])
    assert auc_gain(np.ones(4, bool), score, score, np.arange(4), w) is None
    assert auc_gain(y, score, score, np.zeros(4, int), w) is None
    assert auc_gain(y, score, -score, np.arange(4), w) is not None


# -- through the command line ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 3, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=2_000, seed=1)
    return out


@pytest.fixture(scope="module")
def bad(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two teachers that learn far too fast to learn anything."""
    project = Project.create(tmp_path_factory.mktemp("bad"), world / "log")
    project.config["teacher"] |= {"learning_rate": 1e-9, "embedding_learning_rate": 50.0, "epochs": 1}
    project.config["teacher"]["blend_regression"] = False
    project.config["gates"] = {"quality": False}  # which would refuse this teacher
    project.write()
    for day in (1, 2):
        project.done("train-teacher", day)
    return project


def test_a_teacher_has_its_regression_beside_it_warm_from_the_day_before(bad: Project) -> None:
    runs = [next(bad.ws.glob(f"teacher/day={day}/run-*")) for day in DAYS[:2]]
    one, two = (Regression.read(run / "regression", Tasks()) for run in runs)
    assert two.precision["ctr"][BIAS] > 1.5 * one.precision["ctr"][BIAS] > 300
    made = bad.done("train-teacher", 2)
    assert made["up_to_date"] and 0.5 < made["metrics"]["held_out.regression.ctr.auc"] < 1
    assert "held_out.regression.ctcvr.auc" in made["metrics"]


def test_a_row_of_a_window_counts_once(bad: Project, world: Path, tmp_path: Path) -> None:
    """A teacher that learns two days again knows the first of them by the regression that it goes on from, and by the
    calibration."""
    project = Project.create(tmp_path, world / "log", config=bad.config)
    shutil.copytree(bad.ws / "teacher" / f"day={DAYS[0]}", project.ws / "teacher" / f"day={DAYS[0]}")
    made = [project.done("train-teacher", 2, teacher__window_days=days) for days in (2, 1)]
    two, one = (Path(each["path"]) / "regression" / "weights.safetensors" for each in made)
    assert two.read_bytes() == one.read_bytes()
    assert made[0]["rows"]["learned"] > 1.8 * made[1]["rows"]["learned"]
    assert made[0]["rows"]["held_out"] == made[1]["rows"]["held_out"] > 0


def test_a_teacher_below_its_regression_is_told_and_status_repeats_it(bad: Project, tmp_path: Path) -> None:
    made = bad.done("evaluate", 3)
    found = made["metrics"]
    assert found["teacher.ctr.auc"] < found["regression.ctr.auc"] - 0.05
    assert found["regression.ctr.auc_ahead"] == pytest.approx(found["regression.ctr.auc"] - found["teacher.ctr.auc"])
    assert found["regression.ctr.auc_ahead"] > 2 * found["regression.ctr.auc_ahead.se"] > 0
    names = {k.removeprefix("regression.") for k in found if k.startswith("regression.")}
    assert {"ctr.pcoc", "ctcvr.ne", "ctr.auc.uniform", "cvr.auc", "cvr.gauc", "read.recall@50", "coverage@10"} <= names
    assert "cvr.auc_ahead" not in names
    assert 0.8 < found["regression.ctr.pcoc"] < 1.25 and 0.8 < found["regression.cvr.pcoc"] < 1.25

    (ctr, *_) = told = [
        w["warning"] for w in bad.call("status", "--json").json["warnings"] if w["stage"] == "evaluation"
    ]
    assert ctr.startswith(f"the ctr AUC of teacher {DAYS[1]}, .") and f"dmtl tune --config FILE --day {DAYS[1]}" in ctr
    lines = bad.call("status").out.splitlines()
    assert [line for line in lines if line.startswith("evaluation") and "warning" in line] == [
        f"evaluation {DAYS[2]}: warning: {warning.replace('FILE', str(bad.file))}" for warning in told
    ]


def test_every_user_gets_the_same_list(bad: Project) -> None:
    found = bad.done("evaluate", 3)["metrics"]
    assert found["regression.coverage@10"] * 80 <= 16, "ten items, whoever the user is"
    (run,) = bad.ws.glob(f"teacher/day={DAYS[1]}/run-*")
    facts = Manifest.read(run / MANIFEST).facts
    assert facts["no_context"] == {name: facts[name] for name in facts["no_context"]}, "without a context all is one"
