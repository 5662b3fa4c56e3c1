"""How many epochs a student learns where the log decides: until it is near its teacher, of few rows."""

import copy
import datetime as dt
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from worlds import Project

from dmtl_cli.nn import fit
from dmtl_cli.runs.ranks import ALONE
from dmtl_cli.stages import train_student
from dmtl_cli.stages.train_student import MORE, NEAR, _more
from dmtl_cli.student.exposure import PASSES
from dmtl_cli.synth.generate import generate
from dmtl_cli.tune.search import EPOCHS


def more(r2: float | None, offered: int, epochs: int, wanted: bool = True) -> bool:
    run, loss = SimpleNamespace(ranks=ALONE), SimpleNamespace(agreement=SimpleNamespace(signed_r2=lambda: r2))
    return _more(run, SimpleNamespace(as_near_as_can_be=wanted), loss, offered, epochs)  # type: ignore[arg-type]


def test_who_is_far_from_their_teacher_goes_on() -> None:
    assert more(0.5, 1_000, 1) and more(0.0, 1_000, 1) and more(-1.0, 1_000, 1) and more(NEAR - 1e-6, 1_000, EPOCHS - 1)
    assert not more(NEAR, 1_000, 1) and not more(None, 1_000, 1), "near, or nothing to be near to"
    assert not more(0.5, 1_000, EPOCHS) and not more(0.5, 1_000, 1, wanted=False)
    assert more(0.5, MORE // 3, 2) and not more(0.5, MORE // 3, 3), "so many pairs and no more"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """By the name of a training how many epochs it had."""
    found: dict[str, int] = {}
    one = fit.fit

    def counting(learners: Any, batches: Any, loss_of: Any, progress: Any, *rest: Any) -> dict[str, float]:
        found[progress.what] = found.get(progress.what, 0) + 1
        assert progress.bar.total >= progress.rows
        return one(learners, batches, loss_of, progress, *rest)

    monkeypatch.setattr(fit, "fit", counting)
    return found


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two days up to what a student of the second learns."""
    out = tmp_path_factory.mktemp("world")
    generate(out, 3, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=600, seed=1)
    project = Project.create(tmp_path_factory.mktemp("taught"), out / "log")
    project.config["gates"] = {"quality": False}
    project.write()
    for day in (1, 2):
        project.done("train-teacher", day)
        project.done("dump-logits", day)
    return project


@pytest.mark.parametrize(
    ("student", "budget", "epochs"),
    [({}, 1, EPOCHS), ({"epochs": 2}, 1, 2), ({}, 0, 1), ({"hard": {"w_hard": 0.5}}, 1, 1)],
)
def test_only_where_the_log_decides(
    taught: Project,
    tmp_path: Path,
    passes: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    student: dict[str, Any],
    budget: int,
    epochs: int,
) -> None:
    """Not where the config writes them, where there are no trials, or where labels can be learned by heart; and what
    is shown is learned as often as was chosen, but three times where the log decides."""
    monkeypatch.setattr(train_student, "NEAR", 2.0)  # nobody is
    project = Project.create(tmp_path, taught.home)
    project.config = copy.deepcopy(taught.config) | {"workspace": str(project.ws), "auto": {"budget": budget}}
    project.config["student"] = {k: v for k, v in project.config["student"].items() if k != "epochs"} | student
    project.config["student"].setdefault("distill", {})["min_age_days"] = 0
    project.write()
    shutil.copytree(taught.ws, project.ws, dirs_exist_ok=True)
    project.done("train-student", 2)
    (file,) = project.ws.glob("student/day=2026-01-02/run-*/manifest.json")
    assert json.loads(file.read_text())["metrics"]["epochs"] == epochs
    shown = {EPOCHS: PASSES, 2: 2, 1: 1}[epochs]
    assert passes == {"student 2026-01-02": epochs} | {name: shown for name in passes if "expos" in name}


def test_what_is_shown_is_learned_as_often_as_is_written(
    taught: Project, tmp_path: Path, passes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_student, "NEAR", 2.0)
    project = Project.create(tmp_path, taught.home)
    project.config = copy.deepcopy(taught.config) | {"workspace": str(project.ws), "auto": {"budget": 1}}
    project.config["student"] = {k: v for k, v in project.config["student"].items() if k != "epochs"}
    project.config["student"].setdefault("distill", {})["min_age_days"] = 0
    project.config["student"]["exposure"] = {"epochs": 1}
    project.write()
    shutil.copytree(taught.ws, project.ws, dirs_exist_ok=True)
    project.done("train-student", 2)
    assert {n for name, n in passes.items() if "expos" in name} == {1}


def test_going_on_is_in_the_key_of_a_run(taught: Project, tmp_path: Path) -> None:
    """As many epochs chosen and written are two runs: one goes on, the other does not."""
    keys = []
    for name, student in (("free", {}), ("written", {"epochs": 1})):
        project = Project.create(tmp_path / name, taught.home)
        project.config = copy.deepcopy(taught.config) | {"workspace": str(project.ws), "auto": {"budget": 1}}
        project.config["student"] = {k: v for k, v in project.config["student"].items() if k != "epochs"} | student
        project.config["student"].setdefault("distill", {})["min_age_days"] = 0
        project.write()
        shutil.copytree(taught.ws, project.ws, dirs_exist_ok=True)
        project.done("train-student", 2)
        (file,) = project.ws.glob("student/day=2026-01-02/run-*/manifest.json")
        keys.append(json.loads(file.read_text())["key"])
    assert keys[0] != keys[1]
