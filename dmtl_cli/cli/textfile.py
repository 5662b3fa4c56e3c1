"""The metrics of a command as a Prometheus textfile (`--metrics-file`)."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.progress import RunLog

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from dmtl_cli.runs.run import Result

_HINT = "name a file in a folder that exists and can be written"
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "dmtl_exit_code": ("exit code of the last call of a command", ("command",)),
    "dmtl_last_success_timestamp_seconds": ("when a command last ended with exit code 0", ("command",)),
    "dmtl_day_timestamp_seconds": ("begin (UTC) of the day that a stage last published", ("stage",)),
    "dmtl_duration_seconds": ("how long the stage worked on it", ("stage",)),
    "dmtl_bytes": ("size of its files", ("stage",)),
    "dmtl_rows": ("its rows by kind", ("stage", "kind")),
    "dmtl_metric": ("its metrics, as in the manifest", ("stage", "name")),
}
"""what each number is, and its labels: none that grows by the day"""


class Sample(NamedTuple):
    gauge: str
    labels: tuple[str, ...]
    value: float


def check_writable(file: Path) -> None:
    """Raises UserError 73 for a file that could not be written, before hours of work."""
    if not file.parent.is_dir():
        what = f"there is no folder {file.parent}"
    elif file.is_dir():
        what = f"{file} is a folder"
    elif not os.access(file.parent, os.W_OK | os.X_OK):
        what = f"the folder {file.parent} cannot be written"
    else:
        return
    raise UserError(f"--metrics-file: {what}; nothing was done", _HINT, Exit.CANNOT_CREATE)


def write_metrics(file: Path, command: str, code: int, results: list[Result], log: RunLog) -> None:
    """Writes the file whole or not at all.

    What the file has of other commands, and of stages that published nothing now, stays: a failure does not erase
    yesterday's numbers, and a dead man's switch sees the time of the last success grow old. Raises UserError 73.
    """
    newest = _newest(results)
    samples = [Sample("dmtl_exit_code", (command,), code)]
    samples += [] if code else [Sample("dmtl_last_success_timestamp_seconds", (command,), int(time.time()))]
    samples += [sample for stage, result in newest.items() for sample in _of(stage, result, log)]
    from prometheus_client import generate_latest

    text = generate_latest(_registry([*_kept(file, newest, samples), *samples]))
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_bytes(text)
        draft.replace(file)
    except OSError as e:
        where = e.filename2 or e.filename
        what = f"the work is done, but --metrics-file cannot be written: {where}: {e.strerror or e}"
        raise UserError(what, _HINT, Exit.CANNOT_CREATE) from e
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _newest(results: list[Result]) -> dict[str, Result]:
    """The result of the newest day of each stage; `rescores` are a day's scores by an earlier teacher."""
    out: dict[str, Result] = {}
    for result in results:
        earlier = result.stage == "scores" and Path(result.path).parent.name != f"teacher={result.day}"
        stage = "rescores" if earlier else result.stage
        if stage not in out or out[stage].day <= result.day:
            out[stage] = result
    return out


def _of(stage: str, result: Result, log: RunLog) -> Iterator[Sample]:
    day = dt.datetime.combine(dt.date.fromisoformat(result.day), dt.time(), dt.UTC)
    yield Sample("dmtl_day_timestamp_seconds", (stage,), day.timestamp())
    if (seconds := log.seconds_by_run.get(result.run_id)) is not None:
        yield Sample("dmtl_duration_seconds", (stage,), seconds)
    files = [path for path in Path(result.path).rglob("*") if path.is_file()]
    yield Sample("dmtl_bytes", (stage,), sum(path.stat().st_size for path in files))
    yield from (Sample("dmtl_rows", (stage, kind), count) for kind, count in sorted(result.rows.items()))
    yield from (Sample("dmtl_metric", (stage, name), value) for name, value in sorted(result.metrics.items()))


def _kept(file: Path, newest: Mapping[str, Result], samples: list[Sample]) -> Iterator[Sample]:
    """The samples of the file as it is, less those that are replaced; none where it cannot be read."""
    from prometheus_client.parser import text_string_to_metric_families

    replaced = {(s.gauge, s.labels) for s in samples}
    renewed = {(s.gauge, s.labels[0]) for s in samples if s.labels[0] in newest}  # all kinds and names of a stage
    try:
        found = [s for family in text_string_to_metric_families(file.read_text()) for s in family.samples]
    except (OSError, ValueError):
        return
    for sample in found:
        names = GAUGES.get(sample.name, ("", ()))[1]
        if not names or {*sample.labels} != {*names}:
            continue  # not ours, or of an earlier version, which had a label for the day
        kept = Sample(sample.name, tuple(sample.labels[name] for name in names), sample.value)
        if (kept.gauge, kept.labels) not in replaced and (kept.gauge, kept.labels[0]) not in renewed:
            yield kept


def _registry(samples: list[Sample]) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    gauges = {name: Gauge(name, help_, labels, registry=registry) for name, (help_, labels) in GAUGES.items()}
    for sample in samples:
        gauges[sample.gauge].labels(*sample.labels).set(sample.value)
    return registry
