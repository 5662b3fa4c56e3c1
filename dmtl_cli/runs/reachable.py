"""The runs of a workspace as a graph: what each was made from, whether that is still published, what a run reaches."""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dmtl_cli.config.days import folder_day
from dmtl_cli.config.errors import UserError
from dmtl_cli.runs.contents import there
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.workspace import STAGES, Workspace, day_of

_HIDDEN = ("locks", "logs", "scratch", "rejected")
_GOES_ON_FROM = {
    **{stage: (stage,) for stage in ("profile", "teacher", "student")},
    "evaluation": ("profile", "teacher", "export"),
}
"""the stages of whose runs before its day a run goes on from the newest, or measures it"""


class Ref(NamedTuple):
    """A run as another's manifest names it."""

    stage: str
    day: dt.date
    run_id: str


class Runs:
    """The runs of a workspace. Pointers and manifests are read once, so one object is one moment's view."""

    def __init__(self, ws: Workspace) -> None:
        self.ws = ws
        self._days: dict[str, list[dt.date]] = {}
        self._manifests: dict[Path, Manifest | UserError] = {}
        self._current: dict[tuple[str, dt.date], dict[str | None, Path]] = {}
        self._stale: dict[Path, bool] = {}

    def days(self, stage: str) -> list[dt.date]:
        """Days of a stage with a published run, sorted."""
        if stage not in self._days:
            self._days[stage] = self.ws.days(stage)
        return self._days[stage]

    def current(self, stage: str, day: dt.date) -> dict[str | None, Path]:
        """The published runs of a day by sub folder: one, with None; of scores one for each teacher.

        Raises UserError (data) where CURRENT names no run that exists.
        """
        if (stage, day) not in self._current:
            subs: list[str | None] = [*self.ws.subs(stage, day)] if stage == "scores" else [None]
            found = {sub: self.ws.current(stage, day, sub) for sub in subs}
            self._current[stage, day] = {sub: run for sub, run in found.items() if run is not None}
        return self._current[stage, day]

    def manifest(self, run: Path) -> Manifest:
        """A run's manifest without its config, which is most of it: hundreds of days are kept here.

        Raises UserError as `Manifest.read` does.
        """
        if run not in self._manifests:
            try:
                self._manifests[run] = dataclasses.replace(Manifest.read(run / MANIFEST), config={})
            except UserError as e:
                self._manifests[run] = e
        found = self._manifests[run]
        if isinstance(found, UserError):
            raise found
        return found

    def stale(self, run: Path) -> bool:
        """Whether what the run was made from was published again since, through any number of generations, or a day
        came between it and the day that it goes on from, or measures; or the export by which an export was weighed was.

        A parent whose day is gone, as `gc` leaves it, does not count.

        Raises UserError (data) where the run's manifest is damaged. A damaged parent tells nothing: its own day does.
        """
        if run not in self._stale:
            manifest = self.manifest(run)
            named = parents(manifest, run)
            self._stale[run] = False  # ends a circle, which only a forged manifest has
            weighed = _ref(manifest.facts.get("weighed"))
            replaced = weighed is not None and self._replaced(weighed)
            passed = any(self._passed_over(manifest, stage, last) for stage, last in _newest(named).items())
            self._stale[run] = replaced or passed or any(self._left_behind(manifest, parent) for parent in named)
        return self._stale[run]

    def _replaced(self, named: Ref) -> bool:
        """Whether another run is published in the place of one; not where its day is gone."""
        try:
            published = {run.name for run in self.current(named.stage, named.day).values()}
        except UserError:
            return False
        return bool(published) and f"run-{named.run_id}" not in published

    def _left_behind(self, child: Manifest, parent: Ref) -> bool:
        try:
            by_sub = self.current(parent.stage, parent.day)
            if parent.stage == "scores" and (teacher := _ref(child.facts.get("teacher"))) is not None:
                by_sub = {sub: run for sub, run in by_sub.items() if sub == f"teacher={teacher.day}"}
            published = by_sub.values()
            same = next((run for run in published if run.name == f"run-{parent.run_id}"), None)
            if same is None:
                return bool(published)
            return self.stale(same)
        except UserError:
            return False

    def _passed_over(self, child: Manifest, stage: str, last: dt.date) -> bool:
        """Whether a day is published between a run and the newest one of a stage that it goes on from, or measures.

        Args:
            last: the day of that one.
        """
        days = self.days(stage) if stage in _GOES_ON_FROM.get(child.stage, ()) else []
        return last in days and days[bisect.bisect_left(days, child.day) - 1] > last

    def reach(self, roots: Iterable[Path]) -> tuple[list[Path], list[Ref]]:
        """The roots and all that they were made from, through all generations, sorted; and what of it is gone.

        Raises UserError (data) where a manifest is damaged.
        """
        found: dict[Path, None] = {}
        gone: set[Ref] = set()
        waiting = list(roots)
        while waiting:
            run = waiting.pop()
            if run in found:
                continue
            found[run] = None
            for ref in parents(self.manifest(run), run):
                at = self.find(ref)
                if at is None:
                    gone.add(ref)
                else:
                    waiting.append(at)
        return sorted(found), sorted(gone)

    def find(self, ref: Ref) -> Path | None:
        """Where a run is, published or superseded; None where it is gone."""
        folder = self.ws.stage_dir(ref.stage, ref.day)
        places = [folder, *(folder.glob("teacher=*") if ref.stage == "scores" else ())]
        return next((run for place in places if (run := place / f"run-{ref.run_id}").is_dir()), None)

    def newest(self) -> list[Path]:
        """The published runs of the newest day of each stage. Raises UserError (data) as `current` does."""
        last = [(stage, days[-1]) for stage in STAGES if (days := self.days(stage))]
        return [run for stage, day in last for run in self.current(stage, day).values()]

    def served(self) -> list[Path]:
        """What is served and what is pinned, as far as it is there."""
        return [run for named in (self.ws.latest, self.ws.pinned) if (run := there(named)) is not None]


def parents(manifest: Manifest, run: Path) -> list[Ref]:
    """What a run was made from. Raises UserError (data) where its manifest does not name them as it should."""
    refs = [_ref(each) for each in manifest.parents]
    if None in refs:
        raise UserError(f"{run / MANIFEST}: parents: expected stage, day and run_id of each", "run the stage again")
    return [ref for ref in refs if ref is not None]


def _newest(named: Iterable[Ref]) -> dict[str, dt.date]:
    """The last day of the runs of each stage."""
    out: dict[str, dt.date] = {}
    for ref in named:
        out[ref.stage] = max(out.get(ref.stage, ref.day), ref.day)
    return out


def references(manifest: Manifest, run: Path) -> list[Ref]:
    """What a run names: its parents, and runs in its facts, as the teacher that an export learned from."""
    told = [ref for fact in manifest.facts.values() if (ref := _ref(fact)) is not None]
    return [*parents(manifest, run), *told]


def _ref(entry: Any) -> Ref | None:
    """A run as `Manifest.as_parent` writes it; None for anything else."""
    if not isinstance(entry, dict) or not {"stage", "day", "run_id"} <= entry.keys():
        return None
    day, run_id = folder_day(str(entry["day"])), str(entry["run_id"])
    if entry["stage"] not in STAGES or day is None or not (len(run_id) == 12 and run_id.isalnum()):
        return None
    return Ref(entry["stage"], day, run_id)


def folders(ws: Workspace) -> Iterator[tuple[str, dt.date, Path]]:
    """(stage, day, run) of every run folder of a workspace, published or superseded, sorted."""
    for stage in STAGES:
        for folder in sorted((ws.root / stage).glob("day=*")):
            if (day := day_of(folder)) is None:
                continue
            for run in sorted([*folder.glob("run-*"), *(folder.glob("teacher=*/run-*") if stage == "scores" else ())]):
                if run.is_dir():
                    yield stage, day, run


def workspaces(ws: Workspace) -> Iterator[Workspace]:
    """A workspace and those of its comparisons, below compare/."""
    yield ws
    below = ws.root / "compare"
    for folder in sorted(below.glob("*")):
        if folder.is_dir() and folder.name not in _HIDDEN and day_of(folder) is None:
            yield from workspaces(Workspace(folder))


def writers(ws: Workspace) -> list[Workspace]:
    """A workspace and those of its comparisons whose chains a command may hold.

    The one of compare/ is among them before there is any comparison, so that none begins meanwhile.
    """
    outer, *inner = workspaces(ws)
    return [outer, Workspace(ws.root / "compare"), *inner]
