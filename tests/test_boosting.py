"""scripts/boosting.py beside a chain: what it learns from, what it leaves out, and that it measures the same rows."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import BASE, DAYS, Project

from dmtl_cli.synth.generate import generate

ROOT = Path(__file__).parents[1]


def boosting(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "boosting.py"), "--config", str(project.file), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    out = tmp_path_factory.mktemp("boosting")
    generate(out, 3, start=dt.date(2026, 1, 1), users=300, items=120, events_per_day=6_000, seed=1)
    return Project.create(out / "project", out / "log", config=BASE)


def test_it_needs_a_chain(project: Project) -> None:
    ended = boosting(project, "--from", DAYS[0], "--to", DAYS[0])
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        1,
        "",
        "no teacher before 2026-01-01: run dmtl backfill first\n",
    )


def test_days_in_the_wrong_order_and_a_log_of_clicks_alone_are_refused(project: Project) -> None:
    ended = boosting(project, "--from", DAYS[1], "--to", DAYS[0])
    assert ended.returncode == 2 and ended.stderr.endswith("error: --from 2026-01-02 is after --to 2026-01-01\n")
    ended = boosting(project, "--from", DAYS[1], "--to", DAYS[1], "--set", "data.events.click=null")
    assert (ended.returncode, ended.stderr) == (1, "a log of clicks alone has no exposed rows to order\n")


def test_its_numbers_are_beside_the_chains(project: Project) -> None:
    for day in (1, 2):
        project.done("train-teacher", day)
    metrics = project.done("evaluate", 3)["metrics"]
    ended = boosting(project, "--from", DAYS[1], "--to", DAYS[2])
    assert ended.returncode == 1 and ended.stderr.endswith("; run dmtl evaluate --day 2026-01-02\n"), "not measured"
    assert ended.stderr.count("\n") == 1
    ended = boosting(project, "--from", DAYS[2], "--to", DAYS[2])
    assert (ended.returncode, ended.stderr) == (0, "")
    about, header, *lines = ended.stdout.splitlines()
    assert about.startswith("columns ") and about.endswith("left out user_id"), "300 users are more than a category has"
    assert header.split() == ["day", "label", "boosting", "teacher", "regression"]
    found = {line.split()[1]: line.split() for line in lines if line.startswith(DAYS[2])}
    assert found.keys() == {"ctr", "ctcvr"}
    for label, (_, _, trees, teacher, regression) in found.items():
        assert float(teacher) == pytest.approx(metrics[f"teacher.{label}.auc"], abs=1e-4)
        assert float(regression) == pytest.approx(metrics[f"regression.{label}.auc"], abs=1e-4)
        assert 0.6 < float(trees) < 1
    assert [line.split()[:2] for line in lines[2:]] == [["mean", "ctr"], ["mean", "ctcvr"]]
