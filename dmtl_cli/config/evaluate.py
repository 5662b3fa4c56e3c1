"""`evaluate`: how much of a day is measured, and at how many retrieved items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from dmtl_cli.config.section import Grown, Positive

TOPK = (50, 10, 100)
MOST = 1_000
"""as many items as `serve` gives"""
LISTS = {
    "popularity": "yesterday's clicks",
    "read_popularity": "{reads} with a half-life of a day",
    "read_popularity_0d": "yesterday's {reads}",
    "read_popularity_7d": "{reads} with a half-life of a week",
    "exposure_rate": "exposures x rate of {reads}",
    "read_rate": "rate of {reads}",
}
"""lists that are the same for every user, in the order of a table's rows, and what each counts (`reads_of`)"""


class Evaluate(Grown):
    new = ("exclude_seen",)
    topk: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST)], ...], Field(min_length=1)] = TOPK
    """numbers K of retrieved items at which retrieval is measured (Recall@K): the first is that of tables, charts,
    lines of a day, warnings and gates; of a catalogue of fewer items all are retrieved"""
    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """of a day's work that is its evaluation, at most: of a day for which the other keys would allow more, fewer users
    and rows are measured; 1: no bound but the other keys"""
    max_users: Positive = 20_000
    """users of a day whose retrieval is measured, at most; of more, a sample by the hash of id and day"""
    teacher_users: Positive = 500
    """of these, users for whom a teacher's retrieval is measured, at most: it scores the whole catalogue for each"""
    max_rows: Positive = 2_000_000
    """events of a day that are scored and ranked, at most; for a larger day those of a sample of its users"""
    exclude_seen: bool = False
    """whether retrieval is measured as `exclude_seen` answers: of models and lists alike without what the export of
    that morning says that a user has seen (`export.seen`, `seen_days`), for who serves so. Of a repeated click no item
    is found then"""

    @field_validator("topk")
    @classmethod
    def _once(cls, topk: tuple[int, ...]) -> tuple[int, ...]:
        if twice := [k for i, k in enumerate(topk) if k in topk[:i]]:
            raise ValueError(f"{twice[0]} is given twice")
        return topk

    @property
    def k(self) -> int:
        """The K of tables, charts and gates."""
        return self.topk[0]


def read_of(config: Mapping[str, Any]) -> str:
    """A log's second label, as a person calls it: a read where a duration tells it."""
    return "good click" if config.get("data", {}).get("events", {}).get("conversion") else "read"


def reads_of(config: Mapping[str, Any]) -> str:
    """What a log's second label counts, see `read_of`."""
    return f"{read_of(config)}s"


def k_of(config: Mapping[str, Any]) -> int:
    """The K of tables and charts of a published evaluation or comparison, whose manifest has this config."""
    return int(config.get("evaluate", {}).get("topk", TOPK)[0])
