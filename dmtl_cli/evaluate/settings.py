"""What a comparison puts beside a student: baselines, and settings, which are configs with some keys changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.evaluate import LISTS
from dmtl_cli.config.parsing import parse, text_of
from dmtl_cli.config.schema import Config
from dmtl_cli.config.student import Exposure, Student
from dmtl_cli.evaluate.history import EASE, IALS
from dmtl_cli.evaluate.rankers import PREFERENCE, REGRESSION

TAUGHT = ("oracle", "teacher", "student_teacher", "student", PREFERENCE)
UNTAUGHT = (REGRESSION, *LISTS, "random")
EVALUATED = (*TAUGHT, *UNTAUGHT)
"""the models of every evaluation, in the order of a table's rows: settings come between the two groups"""
JOINT = "joint"
PLAIN = "long_read_only"
"""the baseline that transfer is measured from: the same student, taught by labels"""
BASELINES = ("click_only", PLAIN, "duration_weighted")
HISTORIES = (EASE, IALS)
"""models of the long reads of earlier days, which no config changes"""
BESIDE = (*BASELINES, JOINT, *HISTORIES)
"""what a comparison has without being asked for"""
FIXED = ("workspace", "seed", "threads", "device", "plain_autograd", "data", "labels", "evaluate", "tracking")
"""parts of a config that say where and how all settings run and what they are measured on"""
_FURTHER = "data.events.conversions"
"""of these what may differ: further tasks, which leave rows, clicks and reads as they are"""

Load = Callable[[list[str]], Config]
"""the config with more overrides"""


@dataclass(frozen=True)
class Cell:
    """A baseline or a setting."""

    name: str
    config: Config
    shared: frozenset[str]
    """stages that are the base's; the others it makes for itself"""
    folder: str
    """its workspace, below compare/"""


def cells(base: Config, load: Load, settings: dict[str, list[str]], wanted: Collection[str] = BESIDE) -> list[Cell]:
    """Baselines, then settings; the folder of a setting names its keys, so that another one of that name starts anew.

    Args:
        wanted: which of BASELINES are made.

    Raises:
        UserError: 78 a setting is not a config.
    """
    taught = frozenset({"profile", "tune", "teacher", "scores"})
    made = {name: s for name, s in baselines(base).items() if name in wanted}
    out = [Cell(name, base.model_copy(update={"student": s}), taught, name) for name, s in made.items()]
    for name, sets in settings.items():
        try:
            config = load([*sets, f"seed={base.seed}"])
        except UserError as e:
            raise UserError(f"setting {name}: {e.message.removeprefix('--set ')}", e.hint, e.code) from None
        digest = hashlib.sha256("\n".join(sets).encode()).hexdigest()
        out.append(Cell(name, config, _shared(base, config), f"{name}-{digest[:6]}"))
    return out


def baselines(config: Config) -> dict[str, Student]:
    """By name students that never see a score, nor what is shown: the same code and settings, only the loss differs."""
    labels: list[dict[str, Any]] = [
        {"label": "click", "duration_weighted": False},
        {"label": "long_read", "duration_weighted": False},
        {"label": "click", "duration_weighted": True},
    ]
    named = dict(zip(BASELINES, labels, strict=True))
    if config.data.events.duration is None:
        del named["duration_weighted"]
    unscored = config.student.distill.model_copy(update={"w_kd": 0.0, "head": "served"})
    hard = {name: config.student.hard.model_copy(update={"w_hard": 1.0, **label}) for name, label in named.items()}
    alone = {"distill": unscored, "exposure": Exposure(kappa=0.0)}
    return {name: config.student.model_copy(update={**alone, "hard": h}) for name, h in hard.items()}


def _shared(base: Config, config: Config) -> frozenset[str]:
    """Stages that a setting does not change. A key that it writes differs from one that the log decides, whatever its
    value."""
    written = [c.model_dump(include={"features", "teacher"}, exclude_unset=True) for c in (base, config)]
    same = {name for name in Config.model_fields if getattr(base, name) == getattr(config, name)}
    same -= {name for name in ("features", "teacher") if written[0].get(name) != written[1].get(name)}
    windows = [(c.teacher.first_window_days, c.auto.budget > 0) for c in (base, config)]
    if windows[0] != windows[1] or not {"data", "features", "profile"} <= same:
        return frozenset()
    if "auto" not in same:
        return frozenset({"profile"})
    if "teacher" not in same:
        return frozenset({"profile", "tune"})
    by_same_teacher = base.student.distill.min_age_days == config.student.distill.min_age_days
    scored = {"scores"} if "scores" in same and by_same_teacher else set()
    return frozenset({"profile", "tune", "teacher"} | scored)


def read_settings(file: Path) -> dict[str, list[str]]:
    """Overrides by name, from a YAML of names, each with the keys it changes:
    `listwise: {student.distill.losses: [{loss: listwise}]}`.

    Raises:
        UserError: 78 it is not such a YAML.
    """
    raw, _, mistakes = parse(text_of(file, "settings"), str(file))
    if mistakes:
        raise UserError(mistakes[0], code=Exit.CONFIG)
    if not isinstance(raw, dict) or not all(isinstance(keys, dict) for keys in raw.values()):
        example = "e.g. listwise: {student.distill.losses: [{loss: listwise}]}"
        what = f"{file}: expected names, each with `dotted.key: value` of the config"
        raise UserError(what, example, Exit.CONFIG)
    for name, keys in raw.items():
        _check_setting(f"{file}: setting {name}", name, keys)
    return {str(name): [f"{key}={json.dumps(value)}" for key, value in keys.items()] for name, keys in raw.items()}


def _check_setting(where: str, name: Any, keys: dict[Any, Any]) -> None:
    """Raises UserError 78 for a name that cannot be taken or a key that cannot differ."""
    for key in keys:
        if str(key).partition(".")[0] in FIXED and key != _FURTHER:
            hint = f"{', '.join(FIXED)} are the same for all"
            raise UserError(f"{where}: {key} cannot differ", hint, Exit.CONFIG)
    if name in (*EVALUATED, *BESIDE):
        raise UserError(f"{where} is a baseline's name", "choose another name", Exit.CONFIG)
    if not str(name).replace("_", "").replace("-", "").isalnum():
        raise UserError(f"{where} is not made of letters, digits, - and _", "choose another name", Exit.CONFIG)
