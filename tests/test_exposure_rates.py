"""The exposure block's rates are its own: what trials or a person choose for the preference are not."""

from __future__ import annotations

from typing import Any

import pytest
from worlds import Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config
from dmtl_cli.config.stored import from_stored
from dmtl_cli.config.student import Student
from dmtl_cli.runs.run import Run
from dmtl_cli.stages.train_student import _sections
from dmtl_cli.tune.choices import chosen


@pytest.mark.parametrize(
    ("written", "rates"),
    [
        ({}, (1e-3, 0.1)),
        ({"learning_rate": 3e-3, "embedding_learning_rate": 0.02}, (1e-3, 0.1)),
        ({"exposure": {"learning_rate": 2e-3, "embedding_learning_rate": 0.05}}, (2e-3, 0.05)),
        ({"embedding_optimizer": "adam", "learning_rate": 3e-3}, (1e-3, 1e-3)),
    ],
)
def test_rates_of_the_block(written: dict[str, Any], rates: tuple[float, float]) -> None:
    block = Student.model_validate(written).exposure_block
    assert (block.learning_rate, block.table_rate) == rates
    assert block.learning_rate == rates[0]


def test_a_choice_of_trials_is_of_the_preference(project: Project) -> None:
    tuned = chosen(config(project), {"student.embedding_learning_rate": 0.02, "student.epochs": 3})
    assert tuned.student.table_rate == 0.02 and tuned.student.exposure_block.table_rate == 0.1
    assert tuned.student.exposure_block.epochs == 3


def test_a_stored_student_of_an_earlier_dmtl_is_read() -> None:
    """Its section has no rates of the block."""
    stored = Student().model_dump(mode="json")
    assert stored["exposure"]["learning_rate"] is None and stored["exposure"]["embedding_learning_rate"] is None
    assert from_stored(Student, stored).exposure_block.learning_rate == 1e-3


def test_the_key_names_what_is_learned(project: Project) -> None:
    """An earlier dmtl learned the block by the student's rates, which the section named alone."""
    found = sections(project, {"embedding_learning_rate": 0.02, "exposure": {"learning_rate": 1e-3}})
    assert (found["learning_rate"], found["embedding_learning_rate"]) == (1e-3, 0.1)
    without = sections(project, {"exposure": {"kappa": 0}})
    assert (without["learning_rate"], without["embedding_learning_rate"]) == (None, None), "as it was"


def config(project: Project) -> Config:
    project.write()
    return load_config(project.file)


def sections(project: Project, student: dict[str, Any]) -> dict[str, Any]:
    project.config["student"] = student
    run = Run.__new__(Run)
    object.__setattr__(run, "config", config(project))
    found: dict[str, Any] = _sections(run, chooses=False)["student"]["exposure"]
    return found


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    home = tmp_path_factory.mktemp("rates")
    made = Project.create(home, home)
    made.config["student"] = {}
    return made
