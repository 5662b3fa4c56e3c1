"""`kappa: auto` through the command line: what would have been best on a day that the student before did not learn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from test_exposure import a_log, a_project, exported
from worlds import DAYS, Project

from dmtl_cli.config.student import Exposure
from dmtl_cli.serving.export import Export
from dmtl_cli.student.kappa import GRID, UNMEASURED

K, LONG = 3, 5.0
SHOWN = {"name": "shown", "side": "user", "kind": "numeric", "profile": {"count": "exposure"}}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days; what is clicked is any of what is shown, and read for any time."""
    out = a_log(tmp_path_factory.mktemp("log"), 2)
    rng = np.random.default_rng(1)
    for file in sorted(out.glob("events/*/a.parquet")):
        frame = pl.read_parquet(file, hive_partitioning=False)
        frame.with_columns(read_seconds=pl.Series(rng.integers(1, 10, len(frame)).astype(float))).write_parquet(file)
    return out


def facts(project: Project, day: int) -> dict[str, Any]:
    path = Path(project.call("path", "export", "--day", DAYS[day - 1]).out.strip())
    found: dict[str, Any] = json.loads((path / "manifest.json").read_text())["facts"]
    return found


def recalls(export: Export, wanted: pl.DataFrame, k: int = K) -> dict[str, float]:
    """By kappa the mean over users of the share of their seconds that the top k have, in a loop.

    Args:
        wanted: user_id, item_id and seconds, one row a pair.
    """
    ids, vectors = export.items
    groups = pl.DataFrame({"group": [0, 1]})
    out = {}
    for value in GRID:
        dots = export.with_kappa(export.vectors(groups, "user"), value) @ vectors.T
        top = [{ids[int(i)] for i in np.argsort(-row)[:k]} for row in dots]
        each = []
        for (user,), mine in wanted.group_by("user_id"):
            found = mine.filter(pl.col("item_id").is_in(list(top[int(user) % 2])))
            each.append(found["seconds"].sum() / mine["seconds"].sum())
        out[str(value)] = float(np.mean(each))
    return out


def clicks(log: Path, day: int) -> pl.DataFrame:
    """The pairs that were clicked, with the seconds of all their clicks."""
    rows = pl.read_parquet(log / f"events/day={DAYS[day - 1]}/a.parquet", hive_partitioning=False)
    clicked = rows.filter(pl.col("click") == 1)
    return clicked.group_by("user_id", "item_id").agg(seconds=pl.col("read_seconds").sum())


def long_reads(log: Path, day: int) -> pl.DataFrame:
    rows = pl.read_parquet(log / f"events/day={DAYS[day - 1]}/a.parquet", hive_partitioning=False)
    read = rows.filter((pl.col("click") == 1) & (pl.col("read_seconds") > LONG))
    return read.select("user_id", "item_id", seconds=1.0).unique()


def project_of(home: Path, log: Path, objective: str, *, profiled: bool = True, kappa: Any = "auto") -> Project:
    """A student of labels, which has no threshold of its own.

    Args:
        profiled: whether some feature, if not the student's, is of profiles, which have one.
    """
    project = a_project(home, log, exposure={"kappa": kappa} | ({"objective": objective} if kappa == "auto" else {}))
    project.config["labels"] = {"long_read": LONG}
    project.config["evaluate"]["topk"] = [K, 50]  # of a catalogue of 25 items three are retrieved, not all
    if profiled:
        project.config["features"].append(SHOWN)
        project.config["student"]["features"] = ["group", "item_id"]
    project.write()
    return project


@pytest.fixture(scope="module")
def chain(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two days of a student whose objective is clicks. Read only."""
    project = project_of(tmp_path_factory.mktemp("chain"), log, "click_recall", profiled=False)
    project.config["student"]["vectors"] = "unit"  # whose preference weighs enough for kappa to matter
    project.write()
    for day in (1, 2):
        project.done("train-student", day)
    return project


def test_it_is_the_best_on_a_day_that_the_student_before_did_not_learn(chain: Project, log: Path) -> None:
    """The student of day 1 is measured on the clicks of day 2, and the student of day 2 is served with that kappa."""
    wanted = clicks(log, 2).with_columns(seconds=1.0)
    curve = recalls(exported(chain, 1), wanted)
    found = facts(chain, 2)
    assert found["kappa_curve"] == {k: pytest.approx(value) for k, value in curve.items()}
    assert max(curve.values()) > 1.2 * min(curve.values()), "it matters"
    stored = found["kappa_curve"]
    assert found["kappa"] == min(float(k) for k, value in stored.items() if value == max(stored.values()))
    assert exported(chain, 2).kappa == found["kappa"] != UNMEASURED


def test_it_is_weighed_without_what_all_are_shown_where_that_is_left_out(
    chain: Project, log: Path, tmp_path: Path
) -> None:
    """Of a log in which five items are shown most."""
    skewed = tmp_path / "log"
    shutil.copytree(log, skewed)
    for file in sorted(skewed.glob("events/*/a.parquet")):
        frame = pl.read_parquet(file, hive_partitioning=False)
        pl.concat([frame, *[frame.filter(pl.col("item_id") % 25 < 5)] * 6]).write_parquet(file)
    found = []
    for popularity in (0, 1):
        project = Project.create(tmp_path / str(popularity), skewed, config=chain.config)
        project.config["student"]["exposure"] |= {"popularity": popularity}
        project.write()
        for day in (1, 2):
            project.done("train-student", day)
        curve = recalls(exported(project, 1), clicks(skewed, 2).with_columns(seconds=1.0))
        found.append(facts(project, 2)["kappa_curve"])
        assert found[-1] == {k: pytest.approx(value) for k, value in curve.items()}
    assert found[0] != found[1]


def test_its_k_is_the_first_of_those_of_evaluation(chain: Project, log: Path, tmp_path: Path) -> None:
    """Of others the export is the same."""
    project = Project.create(tmp_path, log, config=chain.config)
    shutil.copytree(chain.ws, project.ws)
    assert project.done("export", 2, evaluate__topk=f"[{K}, 4]")["up_to_date"]
    wanted = clicks(log, 2).with_columns(seconds=1.0)
    for k in (1, 7):
        assert not project.done("export", 2, evaluate__topk=f"[{k}]")["up_to_date"]
        curve = {value: pytest.approx(of) for value, of in recalls(exported(chain, 1), wanted, k).items()}
        assert facts(project, 2)["kappa_curve"] == curve != facts(chain, 2)["kappa_curve"]


def test_the_first_export_has_the_default(chain: Project) -> None:
    assert facts(chain, 1)["kappa"] == exported(chain, 1).kappa == UNMEASURED == Exposure().kappa
    assert facts(chain, 1)["kappa_curve"] == {}


def test_another_student_before_is_another_key(chain: Project, log: Path, tmp_path: Path) -> None:
    """So is another number of users that are measured, which does not matter to a kappa that is given."""
    project = Project.create(tmp_path, log, config=chain.config)
    shutil.copytree(chain.ws, project.ws)
    made = project.done("export", 2)
    assert made["up_to_date"]
    fewer = project.done("export", 2, evaluate__max_users=20)
    assert fewer["key"] != made["key"] and facts(project, 2)["kappa_curve"] != facts(chain, 2)["kappa_curve"]
    project.done("train-student", 1, student__learning_rate=0.02)
    again = project.done("export", 2)
    assert again["key"] not in (made["key"], fewer["key"]) and not again["up_to_date"]
    given = [
        project.done("export", 2, student__exposure="{kappa: 0.5}", evaluate__max_users=n)["key"] for n in (20, 30)
    ]
    assert given[0] == given[1]


@pytest.mark.parametrize("objective", ["read_recall", "time_recall"])
def test_long_reads_and_seconds_are_those_of_profiles(objective: str, log: Path, tmp_path: Path) -> None:
    """A student that sees no scores has no threshold; profiles tell it. Without them nothing is measured."""
    for profiled in (True, False):
        project = project_of(tmp_path / str(profiled), log, objective, profiled=profiled)
        for day in (1, 2):
            if profiled:
                project.done("build-profile", day)
            project.done("train-student", day)
        found = facts(project, 2)
        if profiled:
            wanted = long_reads(log, 2) if objective == "read_recall" else clicks(log, 2)
            curve = recalls(exported(project, 1), wanted)
            assert found["kappa_curve"] == {k: pytest.approx(value) for k, value in curve.items()}
        else:
            assert (found["kappa"], found["kappa_curve"]) == (UNMEASURED, {})


def test_a_student_of_one_block_before_tells_nothing(log: Path, tmp_path: Path) -> None:
    project = project_of(tmp_path, log, "", profiled=False, kappa=0)
    project.done("train-student", 1)
    project = project_of(tmp_path, log, "click_recall", profiled=False)
    project.done("train-student", 2)
    assert (facts(project, 2)["kappa"], facts(project, 2)["kappa_curve"]) == (UNMEASURED, {})
    assert exported(project, 2).kappa == UNMEASURED
