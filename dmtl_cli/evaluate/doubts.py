"""What is doubtful about models by what a day says of them; a doubt is one line with what to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np

from dmtl_cli.config.evaluate import LISTS
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.evaluate.on_catalogue import Retrieved
from dmtl_cli.evaluate.rankers import REGRESSION

CLICKS_LEFT = 2 / 3
"""of the best list's recall of clicks, from which on down it is said"""

ALIKE = 0.95
"""of a user's top items that another user has too on average, from which on all are served nearly one list"""
_AHEAD = 0.01  # of AUC, as the gate of a teacher beside its regression allows
_USERS = 20  # below which nothing is concluded


def below_regression(numbers: Mapping[str, float], tasks: Tasks, teacher: dt.date, advice: str) -> list[str]:
    """A line for each label that the teacher orders worse than its regression, by more than two standard errors and by
    enough to act on."""
    lines = []
    for label in (x for x in tasks.labels if f"{REGRESSION}.{x}.auc_ahead" in numbers):
        ahead, error = (numbers[f"{REGRESSION}.{label}.{name}"] for name in ("auc_ahead", "auc_ahead.se"))
        if ahead > max(2 * error, _AHEAD):
            own, other = _apart(*(numbers[f"{name}.{label}.auc"] for name in ("teacher", REGRESSION)))
            what = f"the {label} AUC of teacher {teacher}, {own}, is below {other} of its regression on the same rows"
            lines.append(f"{what}: {advice}")
    return lines


def below_lists(numbers: Mapping[str, float], student: dt.date, k: int, reads: str) -> list[str]:
    """A line where what is served finds less of what is read than the best list that is the same for all users, by more
    than the standard error of the difference over the same users.

    Args:
        reads: what `reads_of` calls them.
    """
    metric = f"read.recall@{k}"
    own, (best, most) = numbers.get(f"student.{metric}"), _best(numbers, metric)
    if own is None or not best:
        return []
    error = numbers.get(f"{best}.{metric}.ahead_of_student.se", 0.0)
    if most - own <= error:
        return []
    less, more = _apart(own, most)
    what = f"Recall@{k} of {reads} of what student {student} serves, {less}, is below {more} of {best}"
    return [f"{what}, one list for all users: it needs more rows or days, or the log has little that tells users apart"]


def far_from_clicks(numbers: Mapping[str, float], student: dt.date, k: int, reads: str) -> list[str]:
    """A line where what is served, which is not `below_lists`, finds less than two thirds of what the best list finds
    of clicks: it is made to be read, and a person who looks at clicks should know it. Takes what `below_lists` takes.
    """
    clicked, found = f"click.recall@{k}", f"read.recall@{k}"
    own, (best, most) = numbers.get(f"student.{clicked}"), _best(numbers, clicked)
    if own is None or own >= CLICKS_LEFT * most:
        return []
    share = f"{_short(own)}, {own / most:.0%} of the {_short(most)} of {best}"
    served = f"Recall@{k} of clicks of what student {student} serves is {share}"
    what = f"{served}: it is made for {reads}, not for clicks"
    read, (list_, other) = numbers.get(f"student.{found}"), _best(numbers, found)
    if read is None or not list_:
        return [what]
    return [f"{what}; of {reads} it is {_short(read)}, beside {_short(other)} of {list_}"]


def one_list(top: Retrieved, kappa: float | None, student: dt.date, k: int) -> list[str]:
    """A line where users are served nearly the same items, of a catalogue that has at least twice as many.

    Args:
        top: what is served.
        kappa: the weight of exposure; None where the student knows no exposure.
    """
    places = top.places[:, :k]
    users, filled = len(places), int((places >= 0).sum())
    if users < _USERS or len(top.ids) < 2 * k or not filled:
        return []
    times = np.bincount(places[places >= 0])
    alike = float((times * (times - 1)).sum()) / ((users - 1) * filled)  # of an item of one, how many others have it
    if alike < ALIKE:
        return []
    seen = f"the top {k} of {users:,} users have {int((times > 0).sum()):,} items in all, and any two share {alike:.0%}"
    why = (
        f"or kappa, {kappa:g}, is too high (see the kappa table of dmtl compare)"
        if kappa
        else "or it learned too little"
    )
    return [f"what student {student} serves is nearly one list: {seen}: this log tells users apart little, {why}"]


def _best(numbers: Mapping[str, float], metric: str) -> tuple[str, float]:
    """The best list that is the same for all users, and its number; none: "" and 0."""
    found = {name: numbers[f"{name}.{metric}"] for name in LISTS if f"{name}.{metric}" in numbers}
    best = max(found, key=lambda name: found[name], default="")
    return best, found.get(best, 0.0)


def _short(share: float) -> str:
    return f"{share:.3f}".removeprefix("0")


def _apart(one: float, other: float) -> tuple[str, str]:
    """Two shares with as many digits as tell them apart, three or more."""
    shown = ([f"{x:.{digits}f}" for x in (one, other)] for digits in range(3, 17))
    less, more = next((pair for pair in shown if pair[0] != pair[1]), (str(one), str(other)))
    return less.removeprefix("0"), more.removeprefix("0")
