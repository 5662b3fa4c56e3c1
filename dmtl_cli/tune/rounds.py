"""Rounds of trials: each searches a few keys around what the rounds before it chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Config
from dmtl_cli.tune.choices import Choice, Round, chosen, free
from dmtl_cli.tune.search import TYPICAL, Floats, Ints, Measured, best_epoch, halving

Losses = Callable[[Config, float], Iterator[Floats]]
"""of a config and a share of the users: the loss of each measured row after each epoch"""
Who = Literal["teacher", "student"]

LEAST = 200_000
"""rows that trials may always learn: under a minute"""
WORTH, FAR = 1e-3, 1e-2
"""differences of a teacher's log loss, and of a student's distance, that are worth nothing"""
OF_TEACHERS = 3 / 4
"""of the budget; the rest are rows of students, each with its drawn pairs"""


@dataclass(frozen=True)
class Plan:
    """What a model's trials may cost, and what of their loss counts."""

    rows: int
    """of an epoch"""
    budget: float
    """rows that all trials may learn"""
    worth: float
    """see `search.first_within`"""

    @staticmethod
    def of(config: Config, who: Who, window: int, rows: int) -> Plan:
        """A model's part of the budget.

        Args:
            window: rows of the chain's first window.
            rows: of an epoch.
        """
        budget = max(LEAST, config.auto.budget * window)
        if who == "teacher":
            return Plan(rows, budget * OF_TEACHERS, WORTH)
        return Plan(rows, budget * (1 - OF_TEACHERS) * (1 + config.scores.negatives), FAR)


@dataclass
class Rounds:
    """What was chosen so far, and every trial."""

    config: Config
    """as the user wrote it"""
    choice: Choice = field(default_factory=dict)
    tried: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> Config:
        return chosen(self.config, self.choice)

    def expected(self, who: Who, rounds: Sequence[Round], plan: Plan) -> float:
        """Rows that `search` will learn, about."""
        cost, searched = self._cost(who, plan), self._searched(who, rounds, plan)
        return sum(min(len(candidates) * cost, budget) for _, candidates, budget in searched)

    def search(self, who: Who, rounds: Sequence[Round], losses: Losses, groups: Ints, plan: Plan) -> None:
        """Searches the rounds of one model, and its epochs where they are free.

        Args:
            groups: [n] the user of each measured row.
        """
        fixed, cost = self._epochs(who), self._cost(who, plan)
        widest = 0.0
        known: dict[tuple[str, float], Measured] = {}  # a round's default is what the round before took

        def measure(candidates: Sequence[Choice], k: int, share: float) -> Measured:
            choice = {key: value for key, value in self.choice.items() if key != f"{who}.epochs"} | candidates[k]
            config = chosen(self.config, choice)
            at = config.model_dump_json(), share
            if at not in known:
                known[at] = _measured(losses(config, share), groups, plan.worth, fixed)
            return known[at]

        for number, candidates, budget in self._searched(who, rounds, plan):
            some = partial(measure, candidates)
            best, trials = halving(len(candidates), some, groups, plan.worth, budget / max(1.0, cost))
            self.tried += [
                {"model": who, "round": number, **candidates[k], "users": round(s, 4), "epochs": m.epochs}
                | {"loss": round(m.mean, 6) if np.isfinite(m.mean) else None, "taken": k == best}
                for k, s, m in trials
            ]
            most, taken = [(s, m) for k, s, m in trials if k == best][-1]
            self.choice |= candidates[best]
            if fixed is None and most >= widest:  # fewer users want more epochs
                widest, self.choice[f"{who}.epochs"] = most, taken.epochs

    def _searched(self, who: Who, rounds: Sequence[Round], plan: Plan) -> Iterator[tuple[int, list[Choice], float]]:
        """Number, candidates and budget of each round with something to choose; the first chooses epochs too."""
        for number, each in enumerate(rounds, 1):
            candidates = self._candidates(each)
            if len(candidates) > 1 or (number == 1 and self._epochs(who) is None):
                yield number, candidates, plan.budget * each.cost / sum(r.cost for r in rounds)

    def _cost(self, who: Who, plan: Plan) -> float:
        """Rows that a candidate learns of all users, about."""
        return plan.rows * (self._epochs(who) or TYPICAL)

    def _epochs(self, who: Who) -> int | None:
        """Epochs that the user wrote."""
        if free(self.config, f"{who}.epochs"):
            return None
        epochs: int = getattr(self.config, who).epochs
        return epochs

    def _candidates(self, each: Round) -> list[Choice]:
        """The distinct candidates of a round, less the keys that the log does not decide."""
        keys = [key for key in each.keys if free(self.config, key)]
        found = [{key: candidate[key] for key in keys} for candidate in each.candidates]
        return [one for k, one in enumerate(found) if one not in found[:k]]


def _measured(losses: Iterator[Floats], groups: Ints, worth: float, epochs: int | None) -> Measured:
    """One trial; one that diverges has an infinite loss."""
    try:
        return best_epoch(losses, groups, worth, epochs)
    except UserError:
        return Measured(epochs or 1, np.full(len(groups), np.inf))
