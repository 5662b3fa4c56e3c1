"""What a page calls the second label of a log: a read or, where a column says so, a good click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TASKS = ("ctr", "cvr", "ctcvr")
"""what a page has words for, in its order; further conversions go by their names"""


@dataclass(frozen=True)
class Words:
    """The words of one kind of log."""

    label: str
    """as `read_of` gives it"""
    tasks: Mapping[str, str]
    rate: str
    """the share of clicks that have the label"""
    has: tuple[str, str]
    """rows with the label and without it"""

    def of(self, name: str) -> str:
        """What a task, an event or what is recalled is called."""
        return self.label if name == "read" else self.tasks.get(name, name)


READ = Words(
    label="read",
    tasks={"ctr": "click", "cvr": "read of clicks", "ctcvr": "click and read"},
    rate="read rate of clicks",
    has=("read", "not read"),
)
GOOD_CLICK = Words(
    label="good click",
    tasks={"ctr": "click", "cvr": "good given a click", "ctcvr": "good click"},
    rate="share of clicks that are good",
    has=("good", "not good"),
)
WORDS = {words.label: words for words in (READ, GOOD_CLICK)}
