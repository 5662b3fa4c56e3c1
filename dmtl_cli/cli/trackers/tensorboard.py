"""A published run as event files of TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from dmtl_cli.cli.trackers.published import Published, metric_name


class TensorBoard:
    """A folder of event files: `by_day/<stage>` has a point for each day, its step the day as 20260131, and
    `training/<stage>/<day>` the loss by rows learned. A file's name ends in the id of its run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, run: Published) -> None:
        days = self.folder / "by_day" / run.group
        if any(days.glob(f"*.{run.manifest.run_id}")):
            return
        training = self.folder / "training" / run.group / str(run.manifest.day)
        if run.losses:
            with self._writer(training, run) as writer:
                for name, points in run.losses.items():
                    for p in points:
                        writer.add_scalar(f"loss/{metric_name(name)}", float(p.loss), p.rows, p.time)
        with self._writer(days, run) as writer:
            for name, value in run.metrics.items():
                writer.add_scalar(metric_name(name).replace(".", "/", 1), value, run.step, run.at)
            config = json.dumps(run.manifest.config, indent=1)
            writer.add_text("config", f"```\n{config}\n```", run.step, run.at)

    def _writer(self, folder: Path, run: Published) -> SummaryWriter:
        return SummaryWriter(str(folder), filename_suffix=f".{run.manifest.run_id}")
