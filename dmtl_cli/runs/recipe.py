"""What a run is made from, and its key."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from dmtl_cli.runs.manifest import key_of


@dataclass(frozen=True)
class Recipe:
    """What a run is made from, known before the work. Two runs of one recipe are the same run.

    Shapes are those of the manifest's fields of the same names.
    """

    stage: str
    day: dt.date
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    threads: int
    inputs: list[dict[str, Any]]
    parents: list[dict[str, Any]]

    @property
    def key(self) -> str:
        return key_of(**vars(self))

    def fields(self) -> dict[str, Any]:
        """What the run's manifest says of its making."""
        return {k: v for k, v in vars(self).items() if k not in ("stage", "day")} | {"key": self.key}
