"""How much of a day an evaluation measures, so that it is a share of what the day costs.

Work is counted in nominal microseconds of one core, from a day's size and the config, never timed: the same day gives
the same budget on every machine. docs/experiments.md (2026-11-27, 2026-12-01) has the measurements behind the costs
below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from dmtl_cli.config.evaluate import Evaluate
from dmtl_cli.config.schema import Config
from dmtl_cli.config.training import rows_a_step
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.teacher.build import build_network

TEACHERS = 2
"""the newest, and the one that scored the student"""
DRAWN = 3
"""items drawn beside each clicked row"""
# nominal microseconds of what a day's stages do
_FLOP = 1 / 100_000  # a floating point operation
_OUTPUT = 1 / 800  # an output of a teacher's first layer for a pair: its user's and its item's are gathered and added
_PAIR = 0.8  # of a pair beside that: blended, calibrated
_SCORED = 2.5  # of a stored score beside the pair: encoded, matched, written
_LEARNED = 37.0  # of a row that a teacher learns beside its products: encoded, embeddings, optimizer, regression
_TAUGHT = 10.0  # of a row that a student learns
_STEP, _ROWS = 6_000.0, 4_096  # of a step of a training beside its rows, which are reckoned in steps of so many
_ENTITY = 60.0  # of a user or an item: read, encoded by each stage, exported
_STAGES = 2.5e6  # of a day of no rows: imports, checks, files
# and of what an evaluation does
_EVALUATION = 0.8e6  # of a day of no rows
_ENCODED = 16.0  # of a user or an item, by two teachers and the towers
_MEASURED = 10.0  # of a row or a drawn item beside the pair: less of it than of a day is done by many threads
_RETRIEVED = 240.0  # of a user whose retrieval is measured: the hits of twelve lists
_DOT = 0.06  # of a user and an item, in all lists that compare vectors: those of the student and of each kappa
_LEAST = 0.25e6  # for rows, for users and for those of teachers, of however small a day


class Bounds(NamedTuple):
    """How much of a day is measured at most."""

    rows: float
    """share of its users whose rows are"""
    users: int
    """users who are retrieved for"""
    few: int
    """of these, users for whom teachers retrieve"""


def most(day: Day, settings: Evaluate) -> Bounds:
    """The bounds that settings name, whatever a day costs."""
    return Bounds(min(1.0, settings.max_rows / max(1, len(day))), settings.max_users, settings.teacher_users)


class Loop(NamedTuple):
    """A training of the rows of a day."""

    rows: float
    """that a pass has for an event of the day"""
    passes: float
    batch_size: int | None
    """None: by the rows"""

    def steps(self, events: int) -> float:
        """Of a day of so many events, beyond those that its rows would make in steps of 4,096."""
        rows = self.rows * events
        return self.passes * max(0.0, rows / (self.batch_size or rows_a_step(rows)) - rows / _ROWS)


@dataclass(frozen=True)
class Pace:
    """What the work of one day's stages costs by a config. One pace holds for all that a comparison measures, so that
    no setting is measured on users of its own."""

    pair: float
    """nominal microseconds of a pair that a teacher scores"""
    event: float
    """of an event, in all stages but evaluation"""
    candidates: int
    """retrieved and scored for a user of the day, in all dumps"""
    loops: tuple[Loop, ...] = ()
    """that learn the day"""

    @staticmethod
    def of(config: Config) -> Pace:
        teacher, scores, student = config.teacher, config.scores, config.student
        own, outputs = operations(config)
        pair = _PAIR + _FLOP * own + _OUTPUT * outputs
        dumps = 2 if student.distill.min_age_days else 1
        each = 1 + scores.negatives * scores.stratify
        learned = teacher.epochs * teacher.window_days * (3 * pair + _LEARNED)
        pairs = dumps * (1 + scores.negatives) if student.distill.w_kd else 1
        loops = [
            Loop(teacher.window_days, teacher.epochs, teacher.batch_size),
            Loop(pairs, student.epochs, student.batch_size),
        ]
        if student.exposure.kappa:
            shown = student.exposure_block
            loops.append(Loop(1, shown.epochs, shown.batch_size))
        event = learned + dumps * each * (pair + _SCORED) + student.epochs * pairs * _TAUGHT
        return Pace(pair, event, dumps * scores.candidates, tuple(loops))

    def described(self) -> dict[str, Any]:
        """As a run's key names it."""
        numbers = {"pair": self.pair, "event": self.event, "candidates": self.candidates}
        return {name: round(value, 3) for name, value in numbers.items()} | {"loops": [list(x) for x in self.loops]}

    def bounds(self, day: Day, settings: Evaluate) -> Bounds:
        """What of a day can be measured within the share of its work that `settings` allows, and within their limits.

        Half of it at most goes to rows. Of what they leave, half is the teachers' and half that of all others, unless
        these have enough with less.
        """
        active, items, named = int((day.user_events > 0).sum()), max(1, len(day.items)), most(day, settings)
        if settings.share == 1 or not active:
            return named
        left = self._budget(day, active, settings.share)
        scored = (1 + DRAWN * day.facts["clicks"] / max(1, len(day))) * TEACHERS * (self.pair + _MEASURED)
        row = len(day) * scored
        rows = min(named.rows, max(left / 2, _LEAST) / max(1.0, row))
        left -= rows * row
        user, teacher = _RETRIEVED + _DOT * items, TEACHERS * self.pair * items
        users = min(named.users, active, int(max(1.0, max(left / 2, _LEAST) / user)))
        few = min(named.few, users, int(max(1.0, max(left - users * user, _LEAST) / teacher)))
        return Bounds(rows, users, few)

    def _budget(self, day: Day, active: int, share: float) -> float:
        """Nominal microseconds for rows and retrieval."""
        entities = len(day.users) + len(day.items)
        work = _STAGES + len(day) * self.event + entities * _ENTITY + active * self.candidates * (self.pair + _SCORED)
        work += _STEP * sum(loop.steps(len(day)) for loop in self.loops)
        return work * share / (1 - share) - _EVALUATION - entities * _ENCODED


def operations(config: Config) -> tuple[int, int]:
    """Floating point operations of a teacher's network for a pair, less what users and items share; outputs of its
    first layer."""
    with torch.random.fork_rng(devices=[]):  # nothing else may depend on it
        net = build_network(config.teacher, (1, 1), len(config.tasks.names))
    own = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in net.first.parameters())
    return 2 * own, len(net.first.bias)
