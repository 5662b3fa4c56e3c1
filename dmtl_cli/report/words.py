"""What a page calls the second label of a log: a read or, where a column says so, a good click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dmtl_cli.report.style import STYLES

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
    recent: str
    """the style of the list `read_popularity`, which has the label's name"""

    def of(self, name: str) -> str:
        """What a task, an event or what is recalled is called."""
        return self.label if name == "read" else self.tasks.get(name, name)

    def style(self, model: str) -> str:
        """The name in STYLES by which charts know a model."""
        return self.recent if model == "read_popularity" else model

    def model(self, model: str) -> str:
        """A model as a person calls it."""
        return STYLES[self.style(model)][0]


READ = Words(
    label="read",
    tasks={"ctr": "click", "cvr": "read of clicks", "ctcvr": "click and read"},
    rate="read rate of clicks",
    has=("read", "not read"),
    recent="read_popularity",
)
GOOD_CLICK = Words(
    label="good click",
    tasks={"ctr": "click", "cvr": "good given a click", "ctcvr": "good click"},
    rate="share of clicks that are good",
    has=("good", "not good"),
    recent="good_click_popularity",
)
WORDS = {words.label: words for words in (READ, GOOD_CLICK)}
