"""Gates of a student and its export: what is refused, and what stays served."""

from __future__ import annotations

import datetime as dt
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from forging import current, forge
from safetensors.torch import load_file, save_file
from torch import nn
from worlds import DAYS, Project

from dmtl_cli.config.student import KD
from dmtl_cli.evaluate import gates as of_day
from dmtl_cli.evaluate.exam import Wanted
from dmtl_cli.nn.gates import Start
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.student.distillation import LOSSES
from dmtl_cli.student.export import onnx_file
from dmtl_cli.student.export.program import Program
from dmtl_cli.student.gates import Distance
from dmtl_cli.synth.generate import generate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 2, start=dt.date(2026, 1, 1), users=80, items=60, events_per_day=1500, seed=1)
    return out / "log"


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A student of day 2, exported, and day 2's teacher and dump. Read only."""
    made = Project.create(tmp_path_factory.mktemp("chain"), world)
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert (ended.code, ended.err) == (0, ""), ended.err
    return made


@pytest.fixture
def project(chain: Project, world: Path, tmp_path: Path) -> Project:
    made = Project.create(tmp_path, world)
    shutil.copytree(chain.ws, made.ws)
    return made


def gates(project: Project, stage: str) -> dict[str, dict[str, Any]]:
    manifest = json.loads((current(project.ws / stage / f"day={DAYS[1]}") / "manifest.json").read_text())
    return {g["name"]: g for g in manifest["gates"]}


def test_a_good_day_passes_all(chain: Project) -> None:
    student, export = gates(chain, "student"), gates(chain, "export")
    assert all(g["passed"] for g in [*student.values(), *export.values()])
    assert set(student) == {"student.not_finite", "student.kd"} | {
        f"student.moved.{block}.{part}" for block in ("exposure", "preference") for part in ("dense", "embedding")
    }
    assert student["student.kd"]["value"] < 1 and student["student.not_finite"]["kind"] == "integrity"
    assert {"export.onnx", "export.stored", "export.pt2", "export.readable", "export.not_finite"} <= set(export)
    quality = {n for n, g in export.items() if g["kind"] == "quality"}
    assert quality == {
        *(f"export.{m}.{label}" for m in ("recall", "over_popularity") for label in ("click", "read")),
        *(f"export.spread.{side}.{block}" for side in ("user", "item") for block in ("exposure", "preference")),
        *(f"export.norm.{side}" for side in ("user", "item")),
        "export.unknown_items",
    }


def refused(project: Project, command: str, reason: str, **settings: object) -> None:
    """Runs a stage of day 2 that must be refused: yesterday's stays served, what it made and why is in rejected/."""
    before = project.published()
    ended = project.stage(command, 2, **settings)
    assert (ended.code, ended.out) == (80, ""), ended.err
    after = project.published()
    assert {name: before[name] for name in before} == after
    stage = "export" if command == "export" else "student"
    (reasons,) = project.ws.glob(f"rejected/*{stage}*/reasons.txt")
    assert reason in reasons.read_text() and (reasons.parent / "manifest.json").is_file()
    assert project.scratch_left() == []


@pytest.mark.parametrize(
    ("rates", "reason"),
    [
        ({"student__learning_rate": "1e6"}, "student.kd"),
        ({"student__learning_rate": "1e-12"}, "student.moved.preference"),
    ],
)
def test_a_student_that_learned_nothing_is_refused(project: Project, rates: dict[str, str], reason: str) -> None:
    refused(project, "train-student", reason, **rates)
    assert "student.moved" in project.call("status", "--day", DAYS[1]).out + (
        next(project.ws.glob("rejected/*student*/reasons.txt")).read_text()
    )


def test_a_tower_whose_onnx_differs_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write = onnx_file.write

    def tampered(file: Path, program: Program, key: str) -> None:
        weights = {n: w.detach() + 0.1 if w.is_floating_point() else w for n, w in program.weights.items()}
        write(file, replace(program, weights=weights), key)

    monkeypatch.setattr(onnx_file, "write", tampered)
    refused(project, "export", "export.onnx", student__exposure__kappa=0.5)
    assert project.stage("export", 2, student__exposure__kappa=0.5, gates__quality="false").code == 80


def with_nan(run: Path, document: dict[str, Any]) -> None:
    weights = load_file(run / "model.safetensors")
    weights["embedding.item_id"][3, 1] = torch.nan
    save_file(weights, run / "model.safetensors")


def test_a_student_that_is_not_finite_is_not_exported(project: Project) -> None:
    forge(project.ws / "student" / f"day={DAYS[1]}", with_nan)
    ended = project.stage("export", 2)
    assert ended.code == 65 and "embedding.item_id has numbers that are not finite" in ended.err


def test_a_teacher_that_is_not_finite_is_not_learned(project: Project) -> None:
    """Its dump is refused, or before that the teacher."""
    forge(project.ws / "teacher" / f"day={DAYS[0]}", with_nan)
    assert project.stage("dump-logits", 1).code in (65, 80)


def test_a_dump_of_a_constant_has_no_ratio(project: Project) -> None:
    """Nothing to learn is a matter of the teacher's gates."""
    assert Distance((KD(),)).measure(None) == []
    one = Distance((KD(),))
    t = torch.zeros(16)
    one.add(t + 1, [(t, torch.ones(16), torch.zeros(16, dtype=torch.int64))])
    assert one.measure(None) == []


# -- by hand ----------------------------------------------------------------------------------------------------------

ROWS = 96


def asked(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    s, t = torch.randn(ROWS, generator=g), 2 * torch.randn(ROWS, generator=g) - 1
    t[::7] = torch.nan
    return s, t, torch.rand(ROWS, generator=g), torch.arange(ROWS) // 8


@pytest.mark.parametrize(
    "kd", [KD(), KD(loss="kl", temperature=3.0), KD(loss="mse_logit"), KD(loss="mse_prob", temperature=2.0)]
)
def test_a_loss_is_beside_that_of_the_best_constant(kd: KD) -> None:
    s, t, weight, lists = asked(1)
    distance = Distance((kd,))
    distance.add(s, [(t, weight, lists)])
    (m,) = distance.measure(0.5)

    def loss(x: torch.Tensor) -> float:
        return float(LOSSES[kd.loss](x.double(), t, weight.double(), lists, **kd.options()))

    best = min(loss(torch.full((ROWS,), c)) for c in np.linspace(-4, 4, 8001))
    assert m.name == "student.kd" and m.value == pytest.approx(loss(s) / best, rel=1e-5) and m.error > 0


@pytest.mark.parametrize("loss", ["listwise", "listwise_calibrated", "margin_mse", "pairwise", "plackett_luce"])
def test_a_constant_of_lists_is_any(loss: Any) -> None:
    s, t, weight, lists = asked(2)
    kd, distance = KD(loss=loss), Distance((KD(loss=loss),))
    for part in range(2):  # lists are numbered batch by batch
        distance.add(s if part else t.nan_to_num(), [(t, weight, lists)])
    (m,) = distance.measure(None)
    of = [
        float(LOSSES[loss](x, t, weight.double(), lists, **kd.options()))
        for x in (s.double(), t.nan_to_num().double(), torch.full((ROWS,), 0.7, dtype=torch.float64))
    ]
    assert m.value == pytest.approx((of[0] + of[1]) / (2 * of[2]), rel=1e-5)


@pytest.mark.parametrize(("signed", "value"), [(0.8, 0.2), (-0.8, 1.8)])
def test_a_loss_without_a_constant_is_judged_by_what_it_explains(signed: float, value: float) -> None:
    s, t, weight, lists = asked(3)
    for distance in (Distance((KD(loss="rank_weight"),)), Distance((KD(),), pulled=True)):
        distance.add(s, [(t, weight, lists)])
        (m,) = distance.measure(signed)
        assert m.value == pytest.approx(value)
        assert distance.measure(None) == []


def test_two_losses_have_one_constant() -> None:
    g = torch.Generator().manual_seed(1)
    near, far = torch.randn(ROWS, generator=g), torch.randn(ROWS, generator=g) + 6
    both, ones = (near + far) / 2, torch.ones(ROWS)
    lists = torch.arange(ROWS) // 8
    distance = Distance((KD(loss="mse_logit"), KD(loss="mse_logit", target="pctr", weight=3.0)))
    distance.add(both, [(near, ones, lists), (far, ones, lists)])
    (m,) = distance.measure(None)

    def total(s: torch.Tensor) -> float:
        return float((s - near).square().mean() + 3 * (s - far).square().mean())

    constants = [torch.full((ROWS,), float(t.mean())) for t in (near, far)]
    assert m.value == pytest.approx(total(both) / min(map(total, constants)), rel=1e-5)


def test_only_the_rows_learned_last_count() -> None:
    s, t, weight, lists = asked(4)
    long, short = Distance((KD(),), rows=ROWS), Distance((KD(),), rows=ROWS)
    for _ in range(3):
        long.add(s + 5, [(t, weight, lists)])
    for one in (long, short):
        one.add(s, [(t, weight, lists)])
    [after_four], [after_one] = long.measure(None), short.measure(None)
    assert after_four.value == after_one.value
    assert after_one.error**2 - after_four.error**2 == pytest.approx(5**2 - (5 / 4) ** 2), "few steps are an error too"


def test_the_error_is_that_of_other_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the spread of the ratio over logs of other seeds, of a student of many steps."""
    monkeypatch.setattr("dmtl_cli.student.gates._FIRST", 0.0)
    found = []
    for seed in range(200):
        distance = Distance((KD(),))
        s, t, weight, lists = asked(seed)
        distance.add(s, [(t, weight, lists)])
        found += distance.measure(None)
    spread = float(np.std([m.value for m in found]))
    assert 0.7 < float(np.mean([m.error for m in found])) / spread < 1.5


def test_how_far_a_model_moved() -> None:
    table = EmbeddingTable({"a": 3}, 2)
    model = nn.Module()
    model.table, model.x = table, nn.Linear(2, 1)
    with torch.no_grad():
        model.x.weight.copy_(torch.tensor([[3.0, 0.0]]))
        model.x.bias.copy_(torch.tensor([4.0]))
        table.weight.fill_(1.0)
        learner: Any = SimpleNamespace(model=model, table=table)
        start = Start.of(learner)
        table.weight[1] += 3
        model.x.bias += 1
    dense, rows = start.moved(learner, "student.moved.preference")
    assert dense.name == "student.moved.preference.dense" and dense.value == pytest.approx(1 / 5)
    assert rows.value == pytest.approx(6 / math.sqrt(3 * 4))


def test_recall_of_a_day_by_hand() -> None:
    """Four users and five items, of which row 2 is not served; each user's vector is nearest to one item."""
    exam: Any = SimpleNamespace(
        k=1,
        day=SimpleNamespace(item_clicks=np.array([5, 1, 9, 0, 1])),
        wanted={
            "click": Wanted(np.array([0, 1, 3, 3, 4]), np.array([0, 0, 3, 2]), None),
            "read": Wanted(np.zeros(5, np.int64), np.zeros(0, np.int64), None),
        },
    )
    items = np.eye(4, dtype=np.float32)
    users = items[[0, 2, 1, 3]]  # of the rows 0, 3, 1, 4
    found = {m.name: m for m in of_day.recall(exam, ("click", "read"), users, items, np.array([0, 1, 3, 4]))}
    assert set(found) == {"export.recall.click@1", "export.over_popularity.click@1"}
    each, popular = np.array([1, 0.5, 0]), np.array([1, 0.5, 0])  # row 0 is the most popular that is served
    assert found["export.recall.click@1"].value == pytest.approx(each.mean())
    assert found["export.recall.click@1"].error == pytest.approx(max(each.std(ddof=1) / math.sqrt(3), 1 / 3))
    assert found["export.over_popularity.click@1"].value == pytest.approx(each.mean() / popular.mean())
    assert found["export.over_popularity.click@1"].error == pytest.approx(1 / 3 / popular.mean())
