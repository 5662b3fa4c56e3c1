"""Small logs of every shape, configs for them, and the command line called in this process."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from dmtl_cli.cli import main as cli

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
JSON_KEYS = {"stage", "day", "key", "run_id", "path", "rows", "metrics", "gates", "up_to_date"}

BASE: dict[str, Any] = {
    "seed": 1,
    "auto": {"budget": 0},
    "threads": 1,
    "data": {
        "events": {
            "path": "events",
            "partition": "day",
            "user": "user_id",
            "item": "item_id",
            "time": "time",
            "click": "click",
            "duration": "read_seconds",
            "request": "request_id",
        },
        "users": {"path": "users", "key": "user_id", "partition": "day"},
        "items": {"path": "items", "key": "item_id", "partition": "day"},
    },
    "features": [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "user_read_cluster", "side": "user", "kind": "categorical"},
        {
            "name": "recent_clicks",
            "side": "user",
            "kind": "sequence",
            "embedding_name": "item_id",
            "max_length": 10,
        },
        {"name": "item_id", "side": "item", "kind": "categorical"},
        {"name": "author", "side": "item", "kind": "categorical"},
        {"name": "category", "side": "item", "kind": "categorical"},
    ],
    "teacher": {
        "num_experts": 2,
        "expert_hidden_units": [16, 8],
        "tower_hidden_units": [8],
        "embedding_dim": 8,
        "batch_size": 256,
        "epochs": 2,
        "learning_rate": 0.003,
        "embedding_learning_rate": 0.1,
    },
    "student": {
        "hidden_units": [16, 8],
        "embedding_dim": 8,
        "batch_size": 512,
        "learning_rate": 0.01,
        "embedding_learning_rate": 0.3,
    },
    "scores": {"negatives": 2},
    "evaluate": {"max_users": 100},
}


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one line of --json."""
        lines = self.out.splitlines()
        assert len(lines) == 1, (self.out, self.err)
        found: dict[str, Any] = json.loads(lines[0])
        return found

    @property
    def every(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def dmtl(*arguments: object) -> Ended:
    """A command in this process, as main() would end it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.execute([str(a) for a in arguments])
    ended = Ended(code, out.getvalue(), err.getvalue())
    if code:
        assert_one_line(ended.err)
    return ended


def assert_one_line(err: str) -> None:
    """Checks what every failure prints: one line of at most 400 characters, no traceback."""
    assert err.startswith("dmtl: error: ") and err.endswith("\n"), err
    assert err.count("\n") == 1 and len(err) <= 401 and "Traceback" not in err, err


@dataclass
class Project:
    """A config file in a folder of its own, with a workspace beside it."""

    home: Path
    config: dict[str, Any]

    @staticmethod
    def create(home: Path, log: Path, truth: Path | None = None, config: dict[str, Any] | None = None) -> Project:
        whole = copy.deepcopy(config or BASE)
        whole["workspace"] = str(home / "ws")
        whole["data"]["root"] = str(log)
        if truth:
            whole["data"]["truth"] = str(truth)
        project = Project(home, whole)
        project.write()
        return project

    def write(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.file.write_text(yaml.safe_dump(self.config, sort_keys=False))

    @property
    def file(self) -> Path:
        return self.home / "config.yaml"

    @property
    def ws(self) -> Path:
        return self.home / "ws"

    def call(self, command: str, *arguments: object, **settings: object) -> Ended:
        """`settings` are --set, with two underscores for a dot."""
        sets = [a for k, v in settings.items() for a in ("--set", f"{k.replace('__', '.')}={v}")]
        return dmtl(command, "--config", self.file, *arguments, *sets)

    def stage(self, command: str, day: int, *arguments: object, **settings: object) -> Ended:
        return self.call(command, "--day", DAYS[day - 1], "--json", *arguments, **settings)

    def done(self, command: str, day: int, *arguments: object, **settings: object) -> dict[str, Any]:
        """The result of a stage that must succeed."""
        ended = self.stage(command, day, *arguments, **settings)
        assert (ended.code, ended.err) == (0, ""), ended.err
        return ended.json

    def published(self) -> dict[str, int]:
        """The time of change of every published file and pointer, in a comparison's workspaces too."""
        hidden = {"logs", "locks", "scratch", "rejected", "report"}
        return {
            str(p.relative_to(self.ws)): p.stat().st_mtime_ns
            for p in self.ws.rglob("*")
            if hidden.isdisjoint(p.relative_to(self.ws).parts)
        }

    def logged(self, command: str, day: int) -> str:
        return (self.ws / "logs" / f"{command}-{DAYS[day - 1]}.jsonl").read_text()

    def scratch_left(self) -> list[Path]:
        """What stages left in the scratch folder: nothing, unless they were killed."""
        return list((self.ws / "scratch").glob("*"))


def events(log: Path, day: str) -> pl.DataFrame:
    return pl.read_parquet(log / "events" / f"day={day}" / "part-0.parquet", hive_partitioning=False)


def reshape(log: Path, out: Path, change: Callable[[pl.DataFrame, str], pl.DataFrame], days: int = 4) -> None:
    """The same events under another shape, one folder a day and no side tables."""
    for day in DAYS[:days]:
        folder = out / "events" / f"day={day}"
        folder.mkdir(parents=True)
        change(events(log, day), day).write_parquet(folder / "part-0.parquet")
