"""A chain of runs without models: every pointer, manifest and parent of a real one, made in milliseconds."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import Any

from worlds import Project

from dmtl_cli.runs.artifact import publish
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.workspace import Workspace

FIRST = dt.date(2026, 1, 1)
FIELDS: dict[str, Any] = {"config": {}, "seed": 1, "versions": {}, "threads": 1}


def day(n: int) -> dt.date:
    """The n-th day of a chain, counted from 1."""
    return FIRST + dt.timedelta(days=n - 1)


class Chain:
    """A project whose runs are made by `publish`, each with one file."""

    def __init__(self, home: Path, days: int = 0) -> None:
        (home / "log" / "events").mkdir(parents=True)
        self.project = Project.create(home, home / "log")
        self.ws = Workspace(self.project.ws)
        self.newest: dict[str, Manifest] = {}
        for n in range(1, days + 1):
            self.run(n)

    def make(self, stage: str, on: dt.date, parents: tuple[str, ...] = (), text: str = "", **more: Any) -> Manifest:
        """Publishes a run of the newest of `parents`; another `text` makes it another run."""
        sub = more.pop("sub", None)
        named = [self.newest[p].as_parent() for p in parents if p in self.newest]
        with publish(self.ws, stage, on, sub, latest=stage == "export") as pub:
            (pub.path / "file").write_text(f"{stage} {on} {text}")
            _, made = pub.seal({**FIELDS, "key": f"{stage} {on} {text}", "parents": named, **more})
        self.newest[stage] = made
        return made

    def run(self, n: int, text: str = "") -> None:
        """A day as `dmtl run` publishes it, with an empty folder of the log."""
        on = day(n)
        (self.project.home / "log/events" / f"day={on}").mkdir(exist_ok=True)
        if n > 1:
            self.make("evaluation", on, ("teacher", "export", "profile"), text)
        self.make("profile", on, ("profile",), text)
        before = self.newest.get("teacher")
        self.make("teacher", on, ("teacher",), text)
        self.make("scores", on, ("teacher",), text, sub=f"teacher={on}")
        if before is not None:
            facts = {"teacher": before.as_parent()}
            self.make("scores", on, (), text, sub=f"teacher={before.day}", facts=facts)
            self.make("student", on, ("student", "scores", "profile"), text, facts=facts)
            self.make("export", on, ("student", "profile"), text, facts=facts)

    def export(self, n: int) -> Path:
        found = self.ws.current("export", day(n))
        assert found is not None
        return found

    def pointer(self, name: str) -> str | None:
        path = self.project.ws / "export" / name
        return path.read_text().strip() if path.exists() else None

    def called(self, command: str, *arguments: object) -> dict[str, Any]:
        """What a command that must succeed prints as JSON."""
        ended = self.project.call(command, "--json", *arguments)
        assert (ended.code, ended.err) == (0, ""), ended.err
        return ended.json

    def status(self, *arguments: object) -> dict[str, Any]:
        """What status prints, whatever its exit code."""
        found: dict[str, Any] = json.loads(self.project.call("status", "--json", *arguments).out)
        return found


def line(run: Path) -> str:
    """A run as LATEST names it."""
    return f"{run.parent.name}/{run.name}"


def age(path: Path, days: float) -> None:
    """Makes a file or folder look so old."""
    then = time.time() - days * 86_400
    os.utime(path, (then, then))
