"""Tells every tracker of each published run, once; what a tracker cannot take is a warning."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dmtl_cli.cli.trackers.published import Published
from dmtl_cli.config.errors import printable
from dmtl_cli.config.extras import require
from dmtl_cli.config.tracking import Tracking
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.progress import Point, RunLog


class Tracker(Protocol):
    def publish(self, run: Published) -> None:
        """Takes a run, unless it has one of its id."""


Open = Callable[[], Tracker]


def listen(tracking: Tracking, workspace: Path, log: RunLog) -> None:
    """Lets the trackers of a config hear what is published from now on.

    Raises:
        UserError: 78 a tracker's library is not installed.
    """
    opened: list[tuple[str, Open]] = []
    if tracking.mlflow is not None:
        require("mlflow", "tracking.mlflow")
        opened.append((f"mlflow {tracking.mlflow}", lambda: _mlflow(tracking)))
    if tracking.tensorboard is not None:
        require("tensorboard", "tracking.tensorboard")
        opened.append((f"tensorboard {tracking.tensorboard}", lambda: _tensorboard(tracking)))
    if opened:
        log.losses = {}
        log.listeners.append(_Listener(workspace, log, opened))


class _Listener:
    """Gives each result to the trackers that still answer."""

    def __init__(self, workspace: Path, log: RunLog, opened: list[tuple[str, Open]]) -> None:
        self.workspace, self.log, self.closed = workspace, log, dict(opened)
        self.trackers: dict[str, Tracker] = {}

    def __call__(self, path: Path, m: Manifest, seconds: float | None) -> None:
        losses, cell = self._losses(m), self._cell(path)
        if seconds is None:
            return
        numbers = {**m.metrics, **{f"rows.{k}": float(v) for k, v in m.rows.items()}, "seconds": round(seconds, 2)}
        name, group = f"{m.stage} {m.day}{f' {cell}' if cell else ''}", f"{m.stage}/{cell}" if cell else m.stage
        run = Published(name, group, path, m, numbers, losses)
        for where in [*self.closed]:
            self._publish(where, run)

    def _publish(self, where: str, run: Published) -> None:
        """One that fails is not tried again by this command: each try may wait for a timeout."""
        try:
            with warnings.catch_warnings():  # of a tracker's library, on a terminal where success is silent
                warnings.simplefilter("ignore")
                if where not in self.trackers:
                    self.trackers[where] = self.closed[where]()
                self.trackers[where].publish(run)
        except Exception as e:  # whatever a tracker's library raises, the run is published
            del self.closed[where]
            told = printable(" ".join(str(e).split())[:160])
            self.log.say(f"{run.name}: warning: not tracked, nor is what follows: {where}: {type(e).__name__}: {told}")

    def _losses(self, m: Manifest) -> dict[str, list[Point]]:
        """Those of the trainings that a run was made by: a stage that was refused left its own."""
        kept, self.log.losses = self.log.losses or {}, {}
        named = {name: points for name, points in kept.items() if name.startswith(m.stage) and str(m.day) in name}
        return {"_".join(re.sub(r"[\d-]{10}|\W", " ", name).split()): points for name, points in named.items()}

    def _cell(self, path: Path) -> str:
        """Which cell of a comparison a run belongs to, as its folders are called; "" for the chain."""
        below = path.relative_to(self.workspace).parts if path.is_relative_to(self.workspace) else ()
        dated = next((k for k, part in enumerate(below) if part.startswith("day=")), 0)
        return "/".join(part for part in below[: max(0, dated - 1)] if part != "compare")


def _mlflow(tracking: Tracking) -> Tracker:
    from dmtl_cli.cli.trackers.mlflow import Mlflow

    return Mlflow(str(tracking.mlflow), tracking.experiment, artifacts=tracking.artifacts)


def _tensorboard(tracking: Tracking) -> Tracker:
    from dmtl_cli.cli.trackers.tensorboard import TensorBoard

    return TensorBoard(Path(str(tracking.tensorboard)))
