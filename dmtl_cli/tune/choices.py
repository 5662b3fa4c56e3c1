"""The keys that a log decides where the config does not, and the values that are tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dmtl_cli.config.schema import Config

Value = float | int | None
Choice = dict[str, Value]
"""values by dotted key; None: the rule that holds where the key is not written"""

MIN_COUNT = "features.min_count"
"""of every embedding of ids whose features have none"""
SHAPES = MIN_COUNT, "teacher.factor_dim"
"""keys of a running chain that cannot change; the last was chosen too, before factors learned apart"""
RATE = "embedding_learning_rate"
LARGER = 4
"""a batch size that is tried: so many times what the rule gives"""


@dataclass(frozen=True)
class Round:
    """Keys that are searched together, as the best value of one depends on the others.

    Args:
        candidates: nearest to the default first; each is a change of what the rounds before chose.
        cost: its part of the budget, beside the other rounds of a model.
    """

    keys: tuple[str, ...]
    candidates: tuple[Choice, ...]
    cost: float = 1.0


def teacher_rounds(batch_size: int) -> tuple[Round, ...]:
    """What is tried of a teacher.

    Args:
        batch_size: LARGER times what the rule gives.
    """
    return (
        _one_by_one({"teacher.embedding_learning_rate": (0.1, 0.05, 0.02, 0.005)}, 2),
        _grid({"teacher.learning_rate": (1e-3, 2e-3), "teacher.batch_size": (None, batch_size)}),
        _one_by_one({"teacher.unknown_share": (0.05, 0.01, 0.2, 0.5), MIN_COUNT: (1, 3)}),
    )


def student_rounds() -> tuple[Round, ...]:
    """What is tried of a student."""
    rates: dict[str, tuple[Value, ...]] = {
        "student.embedding_learning_rate": (0.1, 0.05, 0.02),
        "student.learning_rate": (1e-3, 3e-3),
        "student.unknown_share": (0.05, 0.01, 0.3),
    }
    return (_one_by_one(rates),)


def _grid(values: Mapping[str, tuple[Value, ...]]) -> Round:
    """Every combination."""
    found: list[Choice] = [{}]
    for key, some in values.items():
        found = [one | {key: value} for one in found for value in some]
    return Round(tuple(values), tuple(found))


def _one_by_one(values: Mapping[str, tuple[Value, ...]], cost: float = 1.0) -> Round:
    """The first value of each, then one of them changed."""
    first: Choice = {key: some[0] for key, some in values.items()}
    others = (first | {key: v} for key, some in values.items() for v in some[1:])
    return Round(tuple(values), (first, *others), cost)


def written(config: Config, key: str) -> bool:
    """Whether the user has written a key of a model."""
    section, _, name = key.partition(".")
    return key != MIN_COUNT and name in getattr(config, section).model_fields_set


def free(config: Config, key: str) -> bool:
    """Whether the log decides a key. Rates of tables are tried of row-wise Adagrad: Adam's is that of dense weights."""
    if key == MIN_COUNT:
        return bool(_counted(config))
    section, _, name = key.partition(".")
    by_rule = name == RATE and getattr(config, section).embedding_optimizer == "adam"
    return not by_rule and not written(config, key)


def _counted(config: Config) -> set[str]:
    """The features of which the log decides how often a value must occur: those of an embedding of ids where no feature
    has a number, as the largest of an embedding's features holds."""
    ids = [f for f in config.features if f.has_ids and f.hash_bucket_size is None]
    fixed = {f.embedding for f in ids if "min_count" in f.model_fields_set}
    return {f.name for f in ids if f.embedding not in fixed}


def chosen(config: Config, choice: Choice) -> Config:
    """The config with a choice in place of what it does not write. Its checks hold: only numbers change."""
    update: dict[str, object] = {}
    for who in ("teacher", "student"):
        mine = {k.partition(".")[2]: v for k, v in choice.items() if k.startswith(f"{who}.") and free(config, k)}
        if mine:
            update[who] = getattr(config, who).model_copy(update=mine)
    if (least := choice.get(MIN_COUNT)) is not None:
        names = _counted(config)
        features = (f.model_copy(update={"min_count": least}) if f.name in names else f for f in config.features)
        update["features"] = tuple(features)
    return config.model_copy(update=update)
