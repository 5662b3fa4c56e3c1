"""MLflow and TensorBoard through the command line, read back by their own libraries."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest
from chains import Chain
from worlds import DAYS, Project

from dmtl_cli.cli.trackers.published import metric_name
from dmtl_cli.cli.trackers.tracking import listen
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.tracking import Tracking
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.progress import Point, RunLog
from dmtl_cli.runs.run import Result
from dmtl_cli.synth.generate import generate

SPEC = {"tracking__tensorboard": "board"}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """mlflow is imported by what is tested, after it has set these; tests that read it need them too."""
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "true")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    home = tmp_path_factory.mktemp("tracked")
    generate(home / "world", 2, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=1000, seed=1)
    made = Project.create(home, home / "world/log")
    made.config["gates"] = {"quality": False}
    made.config["tracking"] = {"mlflow": str(home / "mlruns"), "tensorboard": str(home / "board"), "artifacts": True}
    made.write()
    for k in (1, 2):
        ended = made.call("run", "--day", DAYS[k - 1])
        assert (ended.code, ended.out, ended.err) == (0, "", ""), "quiet under cron, trackers too"
    return made


def mlflow_runs(folder: Path) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=folder.as_uri())
    experiment = client.get_experiment_by_name("dmtl")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len({run.data.tags["run_id"] for run in found}) == len(found), "one run of MLflow for each"
    return {run.info.run_name: run for run in found} | {"client": client}


def published(project: Project) -> dict[str, Manifest]:
    files = project.ws.glob("*/day=*/**/manifest.json")
    return {m.run_id: m for m in map(Manifest.read, files)}


def test_mlflow_has_every_run_with_its_numbers(project: Project) -> None:
    runs, manifests = mlflow_runs(project.home / "mlruns"), published(project)
    client = runs.pop("client")
    assert {run.data.tags["run_id"] for run in runs.values()} <= {*manifests}
    assert {f"teacher {DAYS[1]}", f"student {DAYS[1]}", f"export {DAYS[1]}", f"evaluation {DAYS[1]}"} <= {*runs}
    for name, run in runs.items():
        m, tags = manifests[run.data.tags["run_id"]], run.data.tags
        assert name == f"{m.stage} {m.day}" and (tags["key"], tags["day"]) == (m.key, str(m.day))
        assert run.info.status == "FINISHED"
        assert {k: run.data.metrics[metric_name(k)] for k in m.metrics} == pytest.approx(m.metrics)
    teacher = runs[f"teacher {DAYS[1]}"]
    assert teacher.data.params["teacher.embedding_dim"] == "8"
    (point,) = client.get_metric_history(teacher.info.run_id, "held_out.ctr.auc")
    assert point.step == 20260102 and dt.datetime.fromtimestamp(point.timestamp / 1000, dt.UTC).date() == dt.date(
        2026, 1, 2
    )
    losses = client.get_metric_history(teacher.info.run_id, "loss.teacher")
    assert len(losses) > 3 and [p.step for p in losses] == sorted(p.step for p in losses)
    assert losses[0].value > losses[-1].value, "it learned"
    export = client.list_artifacts(runs[f"export {DAYS[1]}"].info.run_id, "export")
    assert "export/manifest.json" in {each.path for each in export}


def test_tensorboard_has_days_and_losses(project: Project) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def scalars(folder: str, tag: str) -> list[Any]:
        read = EventAccumulator(str(project.home / "board" / folder))
        read.Reload()
        return list(read.Scalars(tag))

    days = scalars("by_day/teacher", "held_out/ctr.auc")
    assert [e.step for e in days] == [20260101, 20260102]
    by_day = {str(m.day): m for m in published(project).values() if m.stage == "teacher"}
    assert [e.value for e in days] == pytest.approx([by_day[d].metrics["held_out.ctr.auc"] for d in DAYS[:2]], rel=1e-6)
    assert len(scalars(f"training/teacher/{DAYS[1]}", "loss/teacher")) > 3


def test_what_is_up_to_date_is_not_sent_again(project: Project) -> None:
    files, count = {*project.home.joinpath("board").rglob("events*")}, len(mlflow_runs(project.home / "mlruns"))
    assert project.call("run", "--day", DAYS[1]).code == 0
    assert {*project.home.joinpath("board").rglob("events*")} == files
    assert len(mlflow_runs(project.home / "mlruns")) == count


def test_a_tracker_that_is_away_fails_nothing(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    away = {"tracking__mlflow": f"{tmp_path}/file/mlruns", "tracking__tensorboard": f"{tmp_path}/file/board"}
    made = project.call("train-teacher", "--day", DAYS[1], "--json", seed=7, workspace=str(tmp_path / "ws"), **away)
    assert (made.code, made.err) == (0, ""), made.err
    (log,) = (tmp_path / "ws/logs").glob("train-teacher-*.jsonl")
    told = [line for line in log.read_text().splitlines() if "warning: not tracked" in line]
    assert len(told) == 2 and sorted(w for w in ("mlflow", "tensorboard") for line in told if w in line) >= [
        "mlflow",
        "tensorboard",
    ]


def hear(tracking: Tracking, home: Path, path: Path, m: Manifest) -> RunLog:
    log = RunLog(home / "log.jsonl")
    listen(tracking, home, log)
    log.listeners[-1](path, m, 1.0)
    return log


def test_a_run_is_sent_once_whoever_publishes_it(tmp_path: Path) -> None:
    """The same id of another process, or of a workspace that was restored."""
    chain = Chain(tmp_path, 1)
    path, m = chain.ws.current("teacher", dt.date(2026, 1, 1)), chain.newest["teacher"]
    assert path is not None
    tracking = Tracking(mlflow=str(tmp_path / "mlruns"), tensorboard=str(tmp_path / "board"))
    for _ in range(2):
        hear(tracking, tmp_path / "ws", path, m)
    assert len(mlflow_runs(tmp_path / "mlruns")) == 2  # with the client
    assert len([*(tmp_path / "board/by_day/teacher").iterdir()]) == 1


def test_a_cell_of_a_comparison_says_which(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 1)
    m, tracking = chain.newest["teacher"], Tracking(tensorboard=str(tmp_path / "board"))
    path = tmp_path / "ws/compare/seed=2/compare/deep-0a1b2c/teacher/day=2026-01-01/run-0"
    hear(tracking, tmp_path / "ws", path, m)
    (file,) = (tmp_path / "board/by_day/teacher/seed=2/deep-0a1b2c").iterdir()
    assert file.name.endswith(m.run_id)


def test_losses_of_another_run_are_not_taken_for_this_one(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 1)
    log = RunLog()
    listen(Tracking(tensorboard=str(tmp_path / "board")), tmp_path / "ws", log)
    log.losses = {"teacher 2025-12-31": [Point(1, 0.0, 1.0)], "trials 2026-01-01": [Point(1, 0.0, 1.0)]}
    log.listeners[-1](tmp_path / "ws/teacher/day=2026-01-01/run-0", chain.newest["teacher"], 1.0)
    assert not (tmp_path / "board/training").exists() and log.losses == {}


def test_a_missing_library_is_one_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mlflow" else real(name))
    ended = project.call("run", "--day", DAYS[1])
    assert (
        ended.code == 78
        and "needs mlflow, which is not installed; in dmtl's clone, pip install -e '.[mlflow]'" in ended.err
    )


def test_a_tracker_is_no_part_of_a_key(project: Project) -> None:
    ended = project.call("train-teacher", "--day", DAYS[1], "--json", tracking__experiment="another")
    result: dict[str, Any] = ended.json
    assert result["up_to_date"] and {*result} == {f for f in Result.__dataclass_fields__ if f != "pinned"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mlflow": "http://me:secret@host"}, "credentials belong in the environment"),
        ({"artifacts": True}, "artifacts has no effect without mlflow"),
        ({"tensorboard": "s3://bucket/board"}, "expected a local folder"),
    ],
)
def test_mistakes(given: dict[str, Any], told: str) -> None:
    with pytest.raises((ValueError, UserError), match=told):
        Tracking.model_validate(given)


def test_names() -> None:
    assert metric_name("student.read.recall@50.kappa=0.7") == "student.read.recall_at_50.kappa_0.7"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
