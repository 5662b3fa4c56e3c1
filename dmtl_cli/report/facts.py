"""What a day's report tells, gathered from manifests, logs, refusals and the day's evaluation."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.evaluate import LISTS, TOPK, k_of, read_of
from dmtl_cli.report.words import WORDS, Words
from dmtl_cli.runs.contents import CURVES, read_json, there
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.workspace import CHAIN, Workspace

DAYS = 30
"""how many days of history a page shows, the page's own among them"""
COMPARED = 7
"""how many days before a feature is compared with"""
SHOWN = ("evaluation", *CHAIN)
"""stages of a day, in the order in which `run` makes them, but for the profile, which comes first"""


@dataclass(frozen=True)
class Numbers:
    """The numbers of one day, by `<stage>:<name>`; of scores those by the day's own teacher."""

    day: dt.date
    metrics: Mapping[str, float]
    rows: Mapping[str, int]
    gates: Mapping[str, Mapping[str, Any]]
    """by their own names, as manifests have them; those of a refused run too"""

    def metric(self, stage: str, name: str) -> float | None:
        return self.metrics.get(f"{stage}:{name}")

    def lists(self, metric: str) -> list[tuple[float, str]]:
        """(value, name) of the lists that were measured, the best first."""
        found = ((self.metric("evaluation", f"{name}.{metric}"), name) for name in LISTS)
        return sorted(((value, name) for value, name in found if value is not None), reverse=True)

    def gate(self, name: str) -> float | None:
        """The value of a gate."""
        return self.gates.get(name, {}).get("value")

    def count(self, stage: str, name: str) -> int | None:
        return self.rows.get(f"{stage}:{name}")


@dataclass(frozen=True)
class Facts:
    """A day, with the days before it."""

    day: dt.date
    runs: Sequence[Manifest]
    """published runs of the day, in the order of SHOWN"""
    days: Sequence[Numbers]
    """up to DAYS, oldest first, the last one this day"""
    yesterday: Mapping[str, Manifest]
    """the newest earlier run of each stage"""
    curves: Mapping[str, Any] | None
    """what the evaluation stored to be drawn; None where it stored nothing"""
    curves_before: Sequence[Mapping[str, Any]]
    """what the last COMPARED evaluations before the day stored"""
    took: Mapping[str, Mapping[str, float]]
    """`seconds` and `peak_bytes` of runs by id, as far as logs have them, in the order of the logs"""
    refused: Mapping[str, Sequence[str]]
    """by stage the reasons why it refused the day"""
    served: Path | None
    pinned: Path | None
    problems: Sequence[str] = field(default=())
    """what could not be read"""

    @property
    def today(self) -> Numbers:
        return self.days[-1]

    @property
    def k(self) -> int:
        """Retrieved items of which the page tells: as the day's evaluation has it, else the one before."""
        evaluation = self.run("evaluation") or self.yesterday.get("evaluation")
        return TOPK[0] if evaluation is None else k_of(evaluation.config)

    @property
    def words(self) -> Words:
        """As the log of the day's runs, else of those before, has its second label."""
        made = next(iter([*self.runs, *self.yesterday.values()]), None)
        return WORDS[read_of({} if made is None else made.config)]

    def run(self, stage: str) -> Manifest | None:
        """The run of a stage; of scores that of the day's own teacher."""
        found = [m for m in self.runs if m.stage == stage]
        return found[-1] if found else None


def gather(ws: Workspace, day: dt.date) -> Facts:
    """Raises UserError 66: nothing of the day is published or refused."""
    problems: list[str] = []
    runs = [m for stage in SHOWN for path in _current(ws, stage, day) if (m := _manifest(path, problems)) is not None]
    refused = {stage: lines for stage in SHOWN if (lines := _refusal(ws, stage, day))}
    if not runs and not refused and not problems:
        hint = "dmtl status shows which days there are"
        raise UserError(f"nothing of day {day} is published in {ws.root}", hint, Exit.NO_INPUT)
    earlier = sorted({d for stage in SHOWN for d in ws.days(stage) if d < day})
    days = [*earlier[-(DAYS - 1) :], day] if DAYS > 1 else [day]
    return Facts(
        day,
        runs,
        [_numbers(ws, d) for d in days],
        {stage: m for stage in SHOWN if (m := _before(ws, stage, day)) is not None},
        _curves(ws, day),
        [found for d in _evaluated(ws, day) if (found := _curves(ws, d)) is not None],
        RunLog.published_in(ws.root / "logs", {m.run_id for m in runs}),
        refused,
        there(ws.latest),
        there(ws.pinned),
        problems,
    )


def _current(ws: Workspace, stage: str, day: dt.date) -> Iterator[Path]:
    """The published runs of a day; a pointer to nothing is passed over, `status` tells of it."""
    for sub in ws.subs(stage, day) if stage == "scores" else [None]:
        with suppress(UserError):
            if (run := ws.current(stage, day, sub)) is not None:
                yield run


def _manifest(run: Path, problems: list[str]) -> Manifest | None:
    try:
        return Manifest.read(run / MANIFEST)
    except UserError as e:
        problems.append(e.message)
        return None


def _before(ws: Workspace, stage: str, day: dt.date) -> Manifest | None:
    before = ws.newest(stage, day)
    runs = [] if before is None else [*_current(ws, stage, before)]
    return _manifest(runs[-1], []) if runs else None


def _numbers(ws: Workspace, day: dt.date) -> Numbers:
    metrics: dict[str, float] = {}
    rows: dict[str, int] = {}
    gates: dict[str, Mapping[str, Any]] = {}
    for stage in SHOWN:
        for run in _current(ws, stage, day):
            found = _light(run / MANIFEST)
            metrics |= {f"{stage}:{name}": value for name, value in found.get("metrics", {}).items()}
            rows |= {f"{stage}:{name}": count for name, count in found.get("rows", {}).items()}
            gates |= {gate["name"]: {**gate, "stage": stage} for gate in found.get("gates", [])}
        if ws.refusal_path(stage, day).exists():
            for rejected in sorted(ws.rejected().glob(f"{stage}-{day}*/{MANIFEST}")):
                gates |= {gate["name"]: {**gate, "stage": stage} for gate in _light(rejected).get("gates", [])}
    return Numbers(day, metrics, rows, gates)


def _light(path: Path) -> dict[str, Any]:
    """A manifest of a day in the history, without its checks; {} where it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(ws: Workspace, stage: str, day: dt.date) -> list[str]:
    try:
        text = ws.refusal_path(stage, day).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.removeprefix("dmtl: error: ") for line in text.splitlines() if line.strip()]


def _evaluated(ws: Workspace, day: dt.date) -> Sequence[dt.date]:
    return sorted(d for d in ws.days("evaluation") if d < day)[-COMPARED:]


def _curves(ws: Workspace, day: dt.date) -> dict[str, Any] | None:
    """What the day's evaluation stored; None where there is none, or one of an earlier version."""
    for run in _current(ws, "evaluation", day):
        if (run / CURVES).is_file():
            with suppress(UserError):
                return read_json(run / CURVES)
    return None
