"""A published run as a run of MLflow: a server's, or a folder's."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # else MLflow 3 refuses a folder
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is away costs seconds, not minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(_name, _value)  # before mlflow is imported, which reads them then

from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

from dmtl_cli.cli.trackers.published import Published, leaves, metric_name  # noqa: E402
from dmtl_cli.runs.manifest import Manifest  # noqa: E402

_LONGEST = 500  # characters of a parameter that every store takes
_PARAMS, _METRICS = 100, 1000  # of one call
T = TypeVar("T")


class Mlflow:
    """An experiment.

    A metric of a run has its day as the only step, 20260131, so that a chart of many runs shows days; `loss.<training>`
    has a step for each point, the rows learned until then.

    Args:
        uri: of a server, or a folder.
        artifacts: whether the files of an export are uploaded; else its path is a tag.
    """

    def __init__(self, uri: str, experiment: str, *, artifacts: bool) -> None:
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        uri = uri if "://" in uri else Path(uri).resolve().as_uri()
        self.folder = Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else None
        self.client = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(experiment)
        self.experiment = found.experiment_id if found else self.client.create_experiment(experiment)
        self.artifacts = artifacts

    def publish(self, run: Published) -> None:
        m = run.manifest
        if self._has(m.run_id):
            return
        tags = {"stage": m.stage, "day": str(m.day), "key": m.key, "run_id": m.run_id, "path": str(run.path.resolve())}
        made = self.client.create_run(self.experiment, tags={"group": run.group}, run_name=run.name).info.run_id
        for params in _cut(_params(m), _PARAMS):
            self.client.log_batch(made, params=params)
        for metrics in _cut(_metrics(run), _METRICS):
            self.client.log_batch(made, metrics=metrics)
        if self.artifacts and m.stage == "export":
            self.client.log_artifacts(made, str(run.path), "export")
        # the id comes last: a run that was cut short has none, and is not taken for whole
        self.client.log_batch(made, tags=[RunTag(name, value) for name, value in tags.items()])
        self.client.set_terminated(made)

    def _has(self, run_id: str) -> bool:
        """Whether a run has this id. In a folder MLflow would read every number of every run to tell."""
        if self.folder is None:
            return bool(self.client.search_runs([self.experiment], f"tags.run_id = '{run_id}'", max_results=1))
        files = (self.folder / self.experiment).glob("*/tags/run_id")
        return any(file.read_text() == run_id for file in files)


def _params(m: Manifest) -> list[Param]:
    """The config that the run depends on, its seed, threads and versions."""
    whole = leaves({**m.config, "seed": m.seed, "threads": m.threads, "versions": m.versions})
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in whole.items()}
    return [Param(metric_name(name), text[:_LONGEST]) for name, text in texts.items()]


def _metrics(run: Published) -> list[Metric]:
    at, step = int(1000 * run.at), run.step
    by_day = [Metric(metric_name(name), value, at, step) for name, value in run.metrics.items()]
    by_step = [
        Metric(metric_name(f"loss.{name}"), float(p.loss), int(1000 * p.time), p.rows)
        for name, points in run.losses.items()
        for p in points
    ]
    return by_day + by_step


def _cut(entries: list[T], most: int) -> list[list[T]]:
    return [entries[start : start + most] for start in range(0, len(entries), most)]
