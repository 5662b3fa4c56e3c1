"""A student's vocabulary has the ids of every day whose rows it learns, each day counted once."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
from test_log import put
from worlds import BASE, DAYS, Project

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.vocabulary import Vocabulary

ROWS, ITEMS = 600, 20


def of_day(k: int) -> list[str]:
    """The items that day k alone shows."""
    return [f"{k}-{n}" for n in range(ITEMS)]


def a_project(home: Path, **distill: int) -> Project:
    rng = np.random.default_rng(0)
    for k, day in enumerate(DAYS, 1):
        click = rng.random(ROWS) < 0.3
        columns = {
            "user_id": rng.integers(30, size=ROWS),
            "item_id": rng.permutation(np.resize(of_day(k), ROWS)),
            "time": np.arange(ROWS),
            "click": click.astype(np.int64),
            "read_seconds": np.where(click, rng.exponential(30, ROWS), 0.0),
            "request_id": np.arange(ROWS) // 5,
        }
        put(home / "log", columns, f"events/day={day}/a.parquet")
    config = copy.deepcopy(BASE) | {"gates": {"quality": False}}
    del config["data"]["users"], config["data"]["items"]
    config["features"] = [
        {"name": name, "side": side, "kind": "categorical"} for side, name in (("user", "user_id"), ("item", "item_id"))
    ]
    config["student"]["distill"] = distill
    return Project.create(home, home / "log", config=config)


def student(project: Project, k: int) -> tuple[dict[str, int], list[str]]:
    """Events by item that the student of day k has counted, and the days that it says no student has read."""
    (folder,) = (project.ws / "student" / f"day={DAYS[k - 1]}").glob("run-*")
    vocabulary = Encoder.read(folder).vocabularies["item_id"]
    assert isinstance(vocabulary, Vocabulary)
    counts = dict(vocabulary.frame.select("value", "count").iter_rows())
    return counts, json.loads((folder / "manifest.json").read_text())["facts"].get("passed_over", [])


def test_days_between_a_first_teacher_and_its_student_are_known_once_they_are_learned(tmp_path: Path) -> None:
    project = a_project(tmp_path, min_age_days=2)
    for k in range(1, 5):
        assert project.stage("run", k).code == 0
    once = {k: dict.fromkeys(of_day(k), ROWS // ITEMS) for k in range(1, 5)}
    assert student(project, 3) == (once[1] | once[3], [DAYS[1]])
    assert student(project, 4) == (once[1] | once[2] | once[3] | once[4], [])


def test_a_student_of_yesterdays_scores_passes_no_day_over(tmp_path: Path) -> None:
    project = a_project(tmp_path)
    for k in range(1, 4):
        assert project.stage("run", k).code == 0
    assert student(project, 2)[1] == student(project, 3)[1] == []
