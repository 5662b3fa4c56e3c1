"""What a tracker gets of a published run, and names as every tracker takes them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.progress import Point


@dataclass(frozen=True)
class Published:
    """What a tracker gets."""

    name: str
    """stage and day; of a comparison's cell also that"""
    group: str
    """the stage, of a comparison's cell below it: what one line over the days is drawn for"""
    path: Path
    manifest: Manifest
    metrics: Mapping[str, float]
    """the manifest's, `rows.<kind>`, and `seconds`"""
    losses: Mapping[str, Sequence[Point]]
    """of the trainings of this run, by name"""

    @property
    def step(self) -> int:
        """The day as a number that a person reads on an axis: 20260131."""
        return int(f"{self.manifest.day:%Y%m%d}")

    @property
    def at(self) -> float:
        """Seconds since 1970 at the day's begin, UTC."""
        return dt.datetime.combine(self.manifest.day, dt.time(), dt.UTC).timestamp()


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as `dotted.key` -> value; lists stay whole."""
    out: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            out |= leaves(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out


def metric_name(name: str) -> str:
    """A name in letters that every tracker takes: `read.recall@50.kappa=0.7` is `read.recall_at_50.kappa_0.7`."""
    return re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_"), flags=re.ASCII)
