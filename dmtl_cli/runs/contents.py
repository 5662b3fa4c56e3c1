"""Reads what runs published. Content that makes no sense is wrong data (65) and names its file, whatever a library
raises for it: a run's manifest only says that its files are those that were written."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dmtl_cli.config.errors import ENDING, Exit, UserError
from dmtl_cli.config.tasks import CLICK, READ

AGAIN = "remove that run's folder, then run the stage that wrote it again"

T = TypeVar("T")
CURVES = "curves.json"
"""a file of an evaluation: what its report draws beside metrics"""


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Around reading a published file: UserError 65 for what is missing or makes no sense, 74 for a disk's errors."""
    try:
        yield
    except (UserError, MemoryError, *ENDING):
        raise
    except OSError as error:
        if error.errno is None or isinstance(error, FileNotFoundError):  # libraries raise it for bad content too
            raise _senseless(path, error) from error
        raise UserError(f"cannot read {path}: {error.strerror}", code=Exit.IO) from error
    except BaseException as error:
        raise _senseless(path, error) from error


def there(read: Callable[[], T | None]) -> T | None:
    """What is read of published files; None where they are damaged, or a pointer names none that exists."""
    try:
        return read()
    except UserError as e:
        if e.code != Exit.DATA:
            raise
        return None


def _senseless(path: Path, error: BaseException) -> UserError:
    said = " ".join(str(error).split())[:120]
    return UserError(f"{path}: not what a stage writes: {type(error).__name__}: {said}", AGAIN)


def read_json(path: Path) -> dict[str, Any]:
    """A published JSON file. Raises UserError 65: it is no JSON object, or has a number that is not finite."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    with decoding(path):
        found = json.loads(path.read_bytes(), parse_constant=refuse)
        if not isinstance(found, dict):
            raise ValueError(f"expected an object, got {type(found).__name__}")
        return found


# -- facts of a manifest ----------------------------------------------------------------------------------------------


class _Shape(BaseModel):
    """Keys that later stages read; there may be others."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Named(_Shape):
    stage: str
    day: str
    run_id: str


class _Calibration(_Shape):
    slope: float
    intercept: float
    precision: list[list[float]]
    rows: int


class _Losses(_Shape):
    losses: list[float]
    pairs: list[float] = []


class _Finish(_Shape):
    calibration: dict[str, _Calibration]
    factors: dict[str, _Losses] | None = None
    blend: dict[str, _Losses] | None = None


class _Threshold(_Shape):
    threshold_seconds: float | None


class _Profile(_Threshold):
    window: list[str]


class _Tune(_Shape):
    chosen: dict[str, Any]


class _Sampling(_Shape):
    samples: str


class _Joint(_Threshold):
    tasks: list[str]
    days: list[str]


class _Teacher(_Joint, _Finish):
    calibrated: bool
    sampling: _Sampling
    no_context: _Finish

    def model_post_init(self, _: Any) -> None:
        for finish in (self, self.no_context):
            shares = (("factors", finish.factors or self.tasks), ("blend", finish.blend or self.tasks))
            for name, by_task in (("calibration", finish.calibration), *shares):
                if missing := sorted(set(self.tasks) ^ set(by_task)):
                    raise ValueError(f"{name}: expected the tasks {', '.join(self.tasks)}, {missing[0]} differs")


class _Scores(_Threshold, _Finish):
    fusion: dict[str, float]
    teacher: _Named

    def model_post_init(self, _: Any) -> None:
        if not {CLICK, READ} <= self.calibration.keys():
            raise ValueError(f"calibration: expected {CLICK} and {READ}")


class _Student(_Threshold):
    teacher: _Named | None
    predicts: str | None
    passed_over: list[str] = []


class _Fitted(_Shape):
    features: list[str]
    mean: list[float]
    precision: list[list[float]]
    reads: int

    def model_post_init(self, _: Any) -> None:
        n = 2 + len(self.features)
        if {len(self.mean), len(self.precision), *map(len, self.precision)} != {n}:
            raise ValueError(f"fitted: expected {n} numbers, and as many rows of as many")


class _Export(_Student):
    student: _Named
    kappa_curve: dict[str, float] | None = None
    fitted: _Fitted | None = None


_FACTS: dict[str, type[_Shape]] = {
    "profile": _Profile,
    "tune": _Tune,
    "teacher": _Teacher,
    "scores": _Scores,
    "student": _Student,
    "export": _Export,
    "joint": _Joint,
}


def check_facts(manifest: Path, stage: str, facts: dict[str, Any]) -> None:
    """Raises UserError 65, naming the manifest, where facts that later stages read are missing or of another type."""
    if (shape := _FACTS.get(stage)) is None:
        return
    try:
        shape.model_validate(facts)
        for day in [*facts.get("days", ()), *facts.get("window", ()), *facts.get("passed_over", ())]:
            dt.date.fromisoformat(day)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("facts", *first["loc"])))
        raise UserError(f"{manifest}: {where}: {first['msg'].lower()}", AGAIN) from None
    except ValueError as error:
        raise UserError(f"{manifest}: facts: {error}", AGAIN) from None
