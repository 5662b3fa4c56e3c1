"""The exposure block learns what is shown to whom, and the preference beside it is as it would be alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from test_log import put, read
from test_models import a_student, encoder_of, feature
from worlds import BASE, DAYS, Project

from dmtl_cli.config.student import Student
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.nn.batches import Batcher, Tables
from dmtl_cli.serving.export import Export
from dmtl_cli.student.exposure import ExposureLoss, ShownBatch, mixed_log_q, shares, shown_batches, wants_more

USERS, ITEMS = 60, 25
NEVER = 5
"""items of the catalogue, the last ones, that the log never shows"""
SHOWN = ITEMS - NEVER
ROWS = 16_000


def chances() -> np.ndarray[Any, Any]:
    """[group, item] P(item | user of the group shown something): popularity times the group's taste."""
    weight = np.zeros((2, ITEMS))
    liked = np.arange(SHOWN) % 2 == np.array([[0], [1]])
    weight[:, :SHOWN] = np.linspace(1.0, 0.1, SHOWN) * np.where(liked, 1.0, 0.25)
    return weight / weight.sum(1, keepdims=True)


def a_log(root: Path, days: int = 1, *, clicks_alone: bool = False) -> Path:
    """Rows by the chances of the user's group, a tenth of them clicks of whatever item; later days have more users."""
    rng = np.random.default_rng(0)
    for k, day in enumerate(DAYS[:days]):
        users = USERS + 10 * k
        user = rng.integers(users, size=ROWS if days == 1 else 2_000)
        item = np.array([rng.choice(ITEMS, p=p, size=len(user)) for p in chances()])[user % 2, np.arange(len(user))]
        columns = {"user_id": user, "item_id": item, "click": (rng.random(len(user)) < 0.1).astype(np.int64)}
        frame = pl.DataFrame(
            columns
            | {
                "time": np.zeros(len(user), np.int64),
                "read_seconds": np.ones(len(user)),
                "request_id": np.arange(len(user)),
            }
        )
        put(root, frame.drop("click") if clicks_alone else frame, f"events/day={day}/a.parquet")
        groups = {"user_id": np.arange(users), "group": np.arange(users) % 2}
        put(root, groups, f"users/day={day}/a.parquet")
        put(root, {"item_id": np.arange(ITEMS), "kind": np.arange(ITEMS) % 3}, f"items/day={day}/a.parquet")
    return root


def a_project(home: Path, log: Path, *, clicks_alone: bool = False, **student: Any) -> Project:
    config = copy.deepcopy(BASE)
    if clicks_alone:
        del config["data"]["events"]["click"]
    config["features"] = [
        {"name": "group", "side": "user", "kind": "categorical"},
        {"name": "item_id", "side": "item", "kind": "categorical"},
    ]
    small = {"embedding_dim": 8, "hidden_units": [16, 8], "learning_rate": 0.01, "unknown_share": 0.0}
    config["student"] = small | {"distill": {"w_kd": 0}, "hard": {"w_hard": 1, "label": "click"}} | student
    exposure = student.get("exposure", {})
    if exposure.get("kappa") != 0:  # what was learned, all of it
        config["student"]["exposure"] = {"popularity": 1} | exposure
    return Project.create(home, log, config=config)


def exposure_scores(export: Export) -> np.ndarray[Any, Any]:
    """[group, item] <u, v> of the exposure block alone."""
    users = export.vectors(pl.DataFrame({"group": [0, 1]}), "user")
    dot: np.ndarray[Any, Any] = export.part(users, "exposure") @ export.part(export.items[1], "exposure").T
    return dot / export.kappa


def exported(project: Project, day: int) -> Export:
    return Export(Path(project.call("path", "export", "--day", DAYS[day - 1]).out.strip()))


def weights(result: dict[str, Any], *path: str) -> dict[str, np.ndarray[Any, Any]]:
    return load_file(Path(result["path"]).joinpath(*path))


# -- what it learns ----------------------------------------------------------------------------------------------------


SLOWLY = {"negatives": 64, "batch_size": 512, "epochs": 10, "learning_rate": 0.003, "embedding_learning_rate": 0.1}


@pytest.fixture(scope="module", params=[False, True], ids=["exposed", "clicks alone"])
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Export, Path]:
    """An export of a log whose labels say nothing, or that has none."""
    home = tmp_path_factory.mktemp("learned")
    log = a_log(home / "log", clicks_alone=request.param)
    project = a_project(home, log, clicks_alone=request.param, exposure={"kappa": 0.5, **SLOWLY})
    made = project.done("train-student", 1)
    assert made["metrics"]["exposure.rows"] == ROWS and made["metrics"]["exposure.loss"] > 0
    return exported(project, 1), log


def test_dot_products_are_log_counts_up_to_a_number_of_the_user(learned: tuple[Export, Path]) -> None:
    """Every row is learned, whatever its label; in a log of clicks alone these are all rows."""
    events = pl.read_parquet(learned[1] / "events" / f"day={DAYS[0]}" / "a.parquet")
    counts = np.zeros((2, SHOWN))
    np.add.at(counts, (events["user_id"].to_numpy() % 2, events["item_id"].to_numpy()), 1)
    found, wanted = exposure_scores(learned[0])[:, :SHOWN], np.log(counts)
    off = (found - found.mean(1, keepdims=True)) - (wanted - wanted.mean(1, keepdims=True))
    assert np.abs(off).mean() < 0.07 and np.abs(off).max() < 0.2, off
    assert wanted.std() > 0.8, "of counts that differ"


def test_what_was_never_shown_is_below_what_was(learned: tuple[Export, Path]) -> None:
    found = exposure_scores(learned[0])
    assert (found[:, SHOWN:].max(1) < found[:, :SHOWN].min(1) - 1).all()


# -- the preference beside it ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Project, list[dict[str, Any]]]]:
    """Two days with the block and without it."""
    root = tmp_path_factory.mktemp("both")
    log, out = a_log(root / "log", 2), {}
    shapes = {"with": {"kappa": 0.5, "embedding_dim": 4, "hidden_units": [6]}, "without": {"kappa": 0}}
    for name, exposure in shapes.items():
        project = a_project(root / name, log, exposure=exposure, unknown_share=0.1)
        project.config["features"].insert(0, {"name": "user_id", "side": "user", "kind": "categorical"})
        project.write()
        out[name] = project, [project.done("train-student", day) for day in (1, 2)]
    return out


@pytest.mark.parametrize("day", [1, 2])
def test_the_preference_is_the_same_with_and_without(
    day: int, both: dict[str, tuple[Project, list[dict[str, Any]]]]
) -> None:
    """To the byte: its weights, its optimizer, and the vectors that are served."""
    (one, a), (other, b) = both["with"], both["without"]
    for file in ("model.safetensors", "optimizer.safetensors", "features.json"):
        assert (Path(a[day - 1]["path"]) / file).read_bytes() == (Path(b[day - 1]["path"]) / file).read_bytes(), file
    assert not (Path(b[day - 1]["path"]) / "exposure").exists()
    assert {k: v for k, v in a[day - 1]["metrics"].items() if not k.startswith("exposure")} == b[day - 1]["metrics"]
    whole, alone = exported(one, day), exported(other, day)
    np.testing.assert_array_equal(whole.part(whole.items[1], "preference"), alone.items[1])
    u, v = (
        alone.described["scale"] * alone.vectors(alone.user_features, "user"),
        whole.vectors(whole.user_features, "user"),
    )
    np.testing.assert_allclose(whole.part(v, "preference"), u, rtol=1e-6)


def test_it_goes_on_from_the_day_before_and_grows(both: dict[str, tuple[Project, list[dict[str, Any]]]]) -> None:
    first, second = (weights(made, "exposure", "model.safetensors") for made in both["with"][1])
    users = "embedding.user_id"
    assert (len(first[users]), len(second[users])) == (1 + USERS, 11 + USERS) and first[users].shape[1] == 4
    sums = [weights(made, "exposure", "optimizer.safetensors")["embedding.item_id"] for made in both["with"][1]]
    assert (sums[1][1:] > sums[0][1:]).all() and (sums[0][1:] > 0).all(), "its optimizer goes on too"
    assert first["user_tower.0.weight"].shape == (6, 8), "a group and an id of 4 columns"


def test_another_kappa_is_exported_without_training(both: dict[str, tuple[Project, list[dict[str, Any]]]]) -> None:
    project, made = both["with"]
    before = exported(project, 2)
    student = project.done("train-student", 2, student__exposure__kappa=1)
    assert student["run_id"] == made[1]["run_id"] and not student["up_to_date"], "the export is new"
    after = exported(project, 2)
    assert (before.kappa, after.kappa) == (0.5, 1.0)
    users = before.vectors(before.user_features, "user")
    np.testing.assert_allclose(before.with_kappa(users, 1.0), after.vectors(after.user_features, "user"), rtol=1e-6)
    project.done("train-student", 2)  # as it was, for other tests


def test_a_student_that_did_not_learn_it_cannot_serve_it(both: dict[str, tuple[Project, list[dict[str, Any]]]]) -> None:
    refused = both["without"][0].stage("export", 2, student__exposure__kappa=0.3)
    assert refused.code == 65 and "has no exposure block" in refused.err and "train-student" in refused.err


def test_it_begins_on_any_day_of_a_chain(tmp_path: Path) -> None:
    log = a_log(tmp_path / "log", 2)
    project = a_project(tmp_path, log, exposure={"kappa": 0})
    project.done("train-student", 1)
    project.config["student"]["exposure"] = {"kappa": 1}
    project.write()
    made = project.done("train-student", 2)
    assert made["metrics"]["exposure.embedding.rows"] == (1 + 2) + (1 + SHOWN)
    assert exported(project, 2).kappa == 1


@pytest.mark.parametrize("age", [0, 1, 2])
def test_a_chain_begins_with_the_days_of_its_teacher_and_those_since(tmp_path: Path, age: int) -> None:
    project = a_project(tmp_path, a_log(tmp_path / "log", 4), exposure={"kappa": 1, "epochs": 1})
    project.config["teacher"] |= {"first_window_days": 2}
    project.config["student"]["distill"] |= {"min_age_days": age}
    project.write()
    assert project.done("train-student", 4)["metrics"]["exposure.rows"] == (2 + age) * 2_000


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_log_q_is_that_of_the_mixture() -> None:
    """By drawing: the share of a batch's items, rows and uniform draws together, that are this item."""
    rng = np.random.default_rng(0)
    share = np.array([0.5, 0.3, 0.2, 0.0])
    drawn = [rng.choice(4, p=share, size=(20_000, 6)), rng.integers(4, size=(20_000, 2))]
    found = np.bincount(np.concatenate(drawn, 1).ravel(), minlength=4) / (20_000 * 8)
    np.testing.assert_allclose(mixed_log_q(torch.tensor(share), 6, 2, 4).exp(), found, atol=0.005)
    assert mixed_log_q(torch.tensor(share), 6, 0, 4)[:3].exp().tolist() == pytest.approx(share[:3])


FEATURES = (feature("user_id", "user", "categorical"), feature("item_id", "item", "categorical"))


@pytest.fixture
def a_day(tmp_path: Path) -> Day:
    rng = np.random.default_rng(1)
    n = 40
    columns = {"user_id": rng.integers(6, size=n), "item_id": rng.integers(8, size=n), "click": rng.integers(2, size=n)}
    put(tmp_path, columns | {"seconds": np.ones(n), "w": rng.integers(1, 4, n).astype(float)})
    return read(tmp_path, FEATURES, weight="w")


def batches(day: Day, encoder: Encoder, negatives: int, rows: int) -> list[ShownBatch]:
    tables = Tables(*(encoder.entities(day, s, None) for s in ("user", "item")))
    batcher = Batcher(encoder, tables, torch.device("cpu"))
    return list(shown_batches(day, negatives, rows, batcher, np.random.default_rng(0)))


def test_a_batch_has_rows_of_every_label_and_drawn_items(a_day: Day) -> None:
    encoder, items = encoder_of(*FEATURES), len(a_day.items)
    found = batches(a_day, encoder, 3, 16)
    assert [len(b) for b in found] == [19, 19, 11]
    rows, drawn = [], []
    for batch in found:
        user, item, weight = batch.user.ids[batch.user_index, 0] - 1, batch.item_row, batch.labels.weight
        assert (weight[-3:] == 0).all() and (batch.user_index[-3:] == batch.user_index[0]).all(), "no user of their own"
        rows += [*zip(user[:-3].tolist(), item[:-3].tolist(), weight[:-3].tolist(), strict=True)]
        drawn += item[-3:].tolist()
    (block,) = a_day.blocks()
    ids = (a_day.users[ID].gather(block.user).to_list(), block.item.tolist(), block.weight.tolist())
    assert sorted(rows) == sorted(zip(*ids, strict=True))
    assert set(drawn) <= set(range(items)) and len(set(drawn)) > 3
    assert batches(a_day, encoder, 0, 16)[0].labels.weight.all(), "none where none are drawn"


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("negatives", [0, 5])
def test_the_loss_is_that_of_a_loop(negatives: int, plain: bool, a_day: Day) -> None:
    """A row's item against every entry of the batch of another item, each less its log q, and itself, as often as a
    batch is expected to have it."""
    encoder, items = encoder_of(*FEATURES), len(a_day.items)
    student = a_student(encoder, unit=False)
    share = shares(a_day)
    assert len(share) == items and share.sum() == pytest.approx(1)
    config = Student.model_validate({"exposure": {"negatives": negatives}})
    loss = ExposureLoss(student, config, a_day, plain=plain)
    for batch in batches(a_day, encoder, negatives, 16):
        with torch.no_grad():
            u, v = student.user_vectors(batch.user).numpy(), student.item_vectors(batch.item).numpy()
        n = len(batch) - negatives
        q = (n * share[batch.item_row] + negatives / items) / len(batch)
        item, place = batch.item_row.tolist(), batch.item_index.tolist()
        weight, total = batch.labels.weight.tolist(), 0.0
        for r, user in enumerate(batch.user_index.tolist()):
            logit = [float(u[user] @ v[place[k]]) - np.log(q[k]) for k in range(len(batch))]
            own = logit[r] + np.log(q[r] * len(batch))
            pool = [own, *(x for k, x in enumerate(logit) if item[k] != item[r])]
            total += weight[r] * (np.log(np.exp(pool).sum()) - logit[r])
        assert float(loss(batch, False)[0].detach()) == pytest.approx(total / sum(weight), rel=1e-5)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("negatives", "weight"), [(0, 1.0), (5, 1.0), (5, 0.0)])
def test_a_day_of_one_item_or_without_weight_is_finite(
    negatives: int, weight: float, plain: bool, tmp_path: Path
) -> None:
    """Fewer items than are drawn, and fewer rows than a batch. Nothing can be told apart or learned."""
    put(tmp_path, {"user_id": [1, 1], "item_id": [7, 7], "click": [1, 0], "seconds": [1.0, 1.0], "w": [weight] * 2})
    day, encoder = read(tmp_path, FEATURES, weight="w"), encoder_of(*FEATURES)
    student = a_student(encoder, unit=False)
    loss = ExposureLoss(student, Student.model_validate({"exposure": {"negatives": negatives}}), day, plain=plain)
    (batch,) = batches(day, encoder, negatives, 16)
    value, _ = loss(batch, False)
    value.backward()
    assert float(value.detach()) == pytest.approx(np.log(2 + negatives) if weight else 0.0)
    for name, p in student.named_parameters():
        assert p.grad is None or float(p.grad.to_dense().abs().max()) < 1e-6, name


def test_the_kernel_is_plain_autograd(a_day: Day) -> None:
    encoder = encoder_of(*FEATURES)
    config = Student.model_validate({"exposure": {"negatives": 5}})
    found = []
    for plain in (False, True):
        student = a_student(encoder, unit=False)
        loss = ExposureLoss(student, config, a_day, plain=plain)
        loss(batches(a_day, encoder, 5, 40)[0], False)[0].backward()
        found.append({n: p.grad.to_dense() for n, p in student.named_parameters() if p.grad is not None})
    assert len(found[0]) == 9, "of a table and two towers"
    learned = {n: float(g.abs().max()) > 1e-6 for n, g in found[0].items()}
    assert [n for n in learned if not learned[n]] == ["item_tower.2.bias"], "the same for all items"
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "epochs", "more"),
    [(40, 2, True), (40, 3, False), (256, 2, True), (400, 1, True), (400, 2, False), (768, 1, False)],
)
def test_a_day_of_few_steps_is_learned_three_times(steps: int, epochs: int, more: bool) -> None:
    assert wants_more(steps, epochs) is more
