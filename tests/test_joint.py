"""train-joint: the published method in one loop, through the command line and against its gradients."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from worlds import BASE, DAYS, Project, events

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.training import Training
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.search import top_k
from dmtl_cli.stages.train_joint import with_unlabelled
from dmtl_cli.synth.generate import generate
from dmtl_cli.teacher.rows import HoldOut, teacher_rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 3, start=dt.date(2026, 1, 1), users=60, items=50, events_per_day=1500, seed=1)
    return out


@pytest.fixture
def fresh(world: Path, tmp_path: Path) -> Project:
    return Project.create(tmp_path, world / "log")


@pytest.fixture(scope="module")
def joint(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[dict[str, Any]]]:
    """Three days of it; nothing else was run."""
    project = Project.create(tmp_path_factory.mktemp("joint"), world / "log")
    return project, [project.done("train-joint", day) for day in (1, 2, 3)]


def weights(result: dict[str, Any], who: str) -> dict[str, np.ndarray[Any, Any]]:
    return dict(load_file(Path(result["path"]) / who / "model.safetensors"))


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def test_what_is_published(joint: tuple[Project, list[dict[str, Any]]]) -> None:
    project, made = joint
    for day, result in zip(DAYS, made, strict=False):
        folder = Path(result["path"])
        assert folder.parent == project.ws / f"joint/day={day}" and result["stage"] == "joint"
        names = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")}
        assert names >= {f"{who}/model.safetensors" for who in ("teacher", "student")}
        assert names >= {f"{who}/features.json" for who in ("teacher", "student")}
        assert names >= {"user_tower.onnx", "item_tower.onnx", "item_vectors.parquet", "users.parquet", "features.json"}
        parts = {"loss.ctr", "loss.ctcvr", "loss.cvr", "loss.kd"}
        assert parts < set(result["metrics"]) and all(math.isfinite(v) for v in result["metrics"].values())
        assert result["metrics"]["loss"] == pytest.approx(sum(result["metrics"][p] for p in parts), rel=1e-2), (
            "a part is a mean over its own rows"
        )
        rows = project.call("check", "--day", day, "--json").json["rows"]
        assert result["rows"]["log"] == rows
        learned = result["rows"]["learned"] / 3
        assert rows * 0.85 < learned < rows * 0.95, "a tenth is held out; two are drawn beside each"
    assert project.call("path", "joint").out.strip() == made[2]["path"]
    assert project.call("path", "joint", "--day", DAYS[0]).out.strip() == made[0]["path"]
    assert project.scratch_left() == []


def test_it_is_never_served(joint: tuple[Project, list[dict[str, Any]]], fresh: Project) -> None:
    assert {p.name for p in joint[0].ws.iterdir()} == {"joint", "logs", "locks", "scratch"}
    assert joint[0].call("recommend", "--user", 1).code == 66
    assert fresh.call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
    before = fresh.published()
    fresh.done("train-joint", 3)
    assert {k: v for k, v in fresh.published().items() if not k.startswith("joint")} == before
    assert before.keys() >= {"export/LATEST"}


def test_warm_start(joint: tuple[Project, list[dict[str, Any]]], fresh: Project) -> None:
    """In the end the student is closer to its teacher, and a cold start on the last day is farther."""
    kd = [r["metrics"]["loss.kd"] for r in joint[1]]
    assert 0 < kd[2] < min(kd[:2])
    cold = fresh.done("train-joint", 3)
    assert kd[2] < cold["metrics"]["loss.kd"] / 1.5 and cold["run_id"] != joint[1][2]["run_id"]
    parents = [json.loads((Path(r["path"]) / "manifest.json").read_text())["parents"] for r in joint[1]]
    assert parents == [[], *([{k: r[k] for k in ("stage", "day", "run_id")}] for r in joint[1][:2])]


def test_the_same_run_in_another_workspace(joint: tuple[Project, list[dict[str, Any]]], fresh: Project) -> None:
    for day in (1, 2):
        made, known = fresh.done("train-joint", day), joint[1][day - 1]
        assert (made["run_id"], made["key"]) == (known["run_id"], known["key"]) and not made["up_to_date"]
    assert fresh.done("train-joint", 2)["up_to_date"]
    assert fresh.done("train-joint", 2, seed=2)["run_id"] != made["run_id"]


def test_the_student_does_not_pull_at_its_teacher(joint: tuple[Project, list[dict[str, Any]]], fresh: Project) -> None:
    """Gradients of the KL stop at the teacher: its weights are the same bytes whatever the student weighs."""
    known = joint[1][0]
    heavy = fresh.done("train-joint", 1, student__distill__w_kd=50)
    assert same(weights(heavy, "teacher"), weights(known, "teacher"))
    assert not same(weights(heavy, "student"), weights(known, "student"))
    none = fresh.stage("train-joint", 1, student__distill__w_kd=0, student__hard__w_hard=1)
    assert none.code == 78 and "student.distill.w_kd is 0" in none.err, "its student would learn nothing"
    other = fresh.done("train-joint", 1, teacher__task_weights="{cvr: 0}")
    assert not same(weights(other, "teacher"), weights(known, "teacher")), "its own losses do"


def test_losses_are_those_of_teacher_and_kl(fresh: Project) -> None:
    """A model that does not move: the KL in one epoch is linear in w_kd, and labels weigh as told."""
    still = {
        f"{who}__{k}": 1e-12 for who in ("teacher", "student") for k in ("learning_rate", "embedding_learning_rate")
    }
    still |= {"teacher__unknown_share": 0, "student__unknown_share": 0}
    one = fresh.done("train-joint", 1, **still)["metrics"]
    three = fresh.done("train-joint", 1, **still, student__distill__w_kd=3)["metrics"]
    assert three["loss.kd"] == pytest.approx(3 * one["loss.kd"], rel=1e-5) and one["loss.kd"] > 1e-3
    assert three["loss.ctcvr"] == one["loss.ctcvr"]
    assert three["loss"] - one["loss"] == pytest.approx(2 * one["loss.kd"], rel=1e-4)


def test_pairs_beside(world: Path, tmp_path: Path) -> None:
    """Drawn pairs have no weight for the teacher, that of their row for the student, and are of their row's day."""
    project = Project.create(tmp_path, world / "log")
    config = load_config(project.file)
    days = []
    for day in DAYS[:2]:
        (tmp_path / day).mkdir()
        days.append(Log(config.data, config.features).read(dt.date.fromisoformat(day), tmp_path / day))
    rng = np.random.default_rng(0)
    rows = Rows.concat(list(teacher_rows(days, 30.0, config.teacher, HoldOut(0.0, 1).kept, rng)))
    rows = replace(rows, labels=rows.labels._replace(weight=rng.random(len(rows)).astype(np.float32)))
    whole, kd_weight = with_unlabelled(rows, [Negatives(d, 0.0) for d in days], 2, rng)
    n, users, items = len(rows), len(days[0].users), len(days[0].items)
    np.testing.assert_array_equal(kd_weight[:n], whole.labels.weight[:n])
    drawn = whole.take(slice(n, None))
    assert 2.9 * n < len(whole) == len(kd_weight) <= 3 * n
    assert not drawn.labels.weight.any() and not drawn.labels.click.any()
    assert kd_weight[n:].sum() == pytest.approx(2 * rows.labels.weight.sum(), rel=0.05)
    of_user: dict[int, set[float]] = {}
    for user, weight in zip(rows.user.tolist(), rows.labels.weight.tolist(), strict=True):
        of_user.setdefault(user, set()).add(weight)
    assert all(w in of_user[u] for u, w in zip(drawn.user.tolist(), kd_weight[n:].tolist(), strict=True))
    later = drawn.user >= users
    assert 0.1 < later.mean() < 0.9 and np.array_equal(later, drawn.item >= items)
    for day, mine, u, i in ((days[0], ~later, 0, 0), (days[1], later, users, items)):
        assert not day.has_clicked(drawn.user[mine] - u, drawn.item[mine] - i).any()
    assert [len(x) for x in with_unlabelled(rows, [], 0, rng)] == [n, n]


def test_it_can_be_used_like_an_export(joint: tuple[Project, list[dict[str, Any]]], world: Path) -> None:
    made = Export(Path(joint[1][2]["path"]))
    user = made.users["user_id"][0]
    top = made.recommend(str(user), 10)
    ids, vectors = made.items
    side = pl.read_parquet(world / f"log/items/day={DAYS[2]}/*.parquet", hive_partitioning=False)
    assert set(ids) == set(side["item_id"])
    named = {c: c.removeprefix("feature.") for c in made.users.columns if c.startswith("feature.")}
    vector = made.vectors(made.users[:1].select(named.keys()).rename(named), "user")
    rows, dots = top_k(vector, vectors, 10)
    assert top["item_id"].to_list() == ids.gather(rows[0]).to_list()
    np.testing.assert_allclose(top["score"], made.described["scale"] * dots[0] + made.described["bias"], rtol=1e-6)
    assert made.described["vectors"] == "plain" and made.described["scale"] == 1


def test_as_published(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clicks and drawn negatives, no loss of clicked rows alone (Zhao et al., 2021). Batches are sized by them."""
    asked: set[int] = set()
    monkeypatch.setattr(Training, "rows_a_step", lambda config, rows: asked.add(rows) or 256)
    config = copy.deepcopy(BASE)
    config["teacher"] |= {"samples": "sampled", "negatives": 2, "task_weights": {"cvr": 0}}
    made = Project.create(tmp_path, world / "log", config=config).done("train-joint", 1)
    clicked = events(world / "log", DAYS[0]).filter(pl.col("click") == 1)
    clicks = len(clicked.unique(["user_id", "item_id", "request_id"]))
    assert asked == {3 * clicks}
    assert clicks * 2 < made["rows"]["learned"] <= clicks * 3
    parts = sum(made["metrics"][f"loss.{p}"] for p in ("ctr", "ctcvr", "kd"))
    assert made["metrics"]["loss"] == pytest.approx(parts)


def test_faults(fresh: Project) -> None:
    absent = fresh.call("train-joint", "--day", "2026-02-01")
    assert absent.code == 66 and f"the log has {DAYS[0]} .. {DAYS[2]}" in absent.err
    none = fresh.stage("train-joint", 1, labels__long_read=1e9)
    assert none.code == 65 and "is a long read" in none.err
    assert not (fresh.ws / "joint").exists() and fresh.scratch_left() == []
