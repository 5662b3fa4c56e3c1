"""What is learned is worth what it was: a click-bait world whose truth is known, through the command line.

No other test sees a change that learns less. Two were found late: factors that went at the pace of another task, and a
prior that held reads to clicks. A change that moves a number below its floor says in docs/experiments.md what it is
good for.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from worlds import DAYS, Project

from dmtl_cli.synth.generate import generate

CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"
FLOORS = {  # of seeds 1, 2, 3 | of the same log before factors had a pace of their own, and before reads had a test
    "teacher.ctr.auc": 0.755,  # .7595, .7591, .7616 | .7508, .7516
    "teacher.ctcvr.auc": 0.698,  # .7025, .7014, .7054 | .6967, .6949, and .6921, .6900
    "teacher.cvr.auc": 0.785,  # .7875, .7896, .7901 | .7871, .7898, and .7826, .7843
    "teacher.read_seconds@50": 26.2,  # 26.8, 27.0, 27.4 | 26.1, 26.1, and 25.5, 25.3
    "regression.ctr.auc": 0.733,  # .7342, .7344, .7350
    "regression.cvr.auc": 0.774,  # .7767, .7789, .7769 | .7671, .7673
    "student.preference.read_seconds@50": 24.0,  # 24.8, 24.6, 25.1
    "student.read_seconds@50": 22.6,  # 23.4, 23.2, 23.7
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Of the fourth day, after three days of a chain whose settings are written."""
    home = tmp_path_factory.mktemp("worth")
    generate(home / "world", 4, users=1_500, items=500, events_per_day=60_000)
    config = yaml.safe_load(CONFIG.read_text())
    config |= {"threads": 1, "auto": {"budget": 0}, "teacher": {"epochs": 2, "factor_dim": 16}}
    project = Project.create(home / "project", home / "world" / "log", home / "world" / "truth", config)
    assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[2]).code == 0
    metrics: dict[str, float] = project.done("evaluate", 4)["metrics"]
    return metrics


@pytest.mark.parametrize("name", FLOORS)
def test_no_less_is_learned(measured: dict[str, float], name: str) -> None:
    assert measured[name] >= FLOORS[name]


def test_what_is_served_is_worth_more_than_lists(measured: dict[str, float]) -> None:
    lists = [measured[f"{name}.read_seconds@50"] for name in ("popularity", "read_popularity", "read_rate", "random")]
    oracle = measured["oracle.read_seconds@50"]
    assert max(lists) < measured["student.read_seconds@50"] < measured["teacher.read_seconds@50"] < oracle
