"""What was tried and what was chosen, as text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from dmtl_cli.tune.choices import MIN_COUNT, Value


def table(facts: dict[str, Any]) -> str:
    """A table for each round, a row a trial, `*` those of the candidate that was taken; then the choices.

    Args:
        facts: of a manifest of tune.
    """
    lines = [_measured_on(facts), "* taken: the first, from the default on, that the least is not clearly better than"]
    for (model, number), trials in itertools.groupby(facts["tried"], lambda t: (t["model"], t["round"])):
        loss = "distance" if model == "student" else "loss"
        lines += ["", f"{model}, round {number}", *_round(list(trials), loss)]
    chosen = [[key, word(value)] for key, value in facts["chosen"].items()]
    return "\n".join([*lines, "", "chosen" if chosen else "chosen: nothing", *aligned(chosen, left=2)])


def _measured_on(facts: dict[str, Any]) -> str:
    if facts["measured_on"] == "users":
        return f"measured on a third of the users of {span(facts['days'])}, the others are learned"
    return f"measured on the late part of {span(facts['days'])}, cut by {facts['measured_on']}"


def _round(trials: Sequence[dict[str, Any]], loss: str) -> list[str]:
    keys = [key for key in trials[0] if "." in key]
    head = ["", *(key.partition(".")[2] for key in keys), "users", "epochs", loss]
    rows = [["*" if t["taken"] else "", *(word(t[key]) for key in keys), *_measured(t)] for t in trials]
    return aligned([head, *rows], left=1)


def _measured(trial: dict[str, Any]) -> list[str]:
    loss = "diverged" if trial["loss"] is None else f"{trial['loss']:.5f}"
    return [f"{trial['users']:.1%}", str(trial["epochs"]), loss]


def aligned(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """The first `left` columns begin below each other, the others end so."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = [cell.ljust(w) if k < left else cell.rjust(w) for k, (cell, w) in enumerate(cells)]
        lines.append(f"  {'  '.join(padded)}".rstrip())
    return lines


def keys_of(facts: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What was chosen, by section and key as a config has them; no rules, and no keys of features."""
    found: dict[str, dict[str, float]] = {}
    for dotted, value in facts["chosen"].items():
        section, key = dotted.split(".")
        if value is not None and dotted != MIN_COUNT:
            found.setdefault(section, {})[key] = value
    return found


def by_hand(facts: dict[str, Any]) -> list[str]:
    """What a person must write, where it differs from the default."""
    least = facts["chosen"].get(MIN_COUNT) or 1
    return [f"write min_count: {least} by hand under each feature of ids that has none"] if least > 1 else []


def span(days: Sequence[object]) -> str:
    """Days in words, the first and the last."""
    return str(days[0]) if len(days) == 1 else f"{days[0]} .. {days[-1]}"


def word(value: Value) -> str:
    """A value as people write it."""
    return "by rule" if value is None else f"{value:g}"
