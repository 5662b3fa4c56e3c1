"""One run of the bench: its processes, one at a time, and the order in which they take turns."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmark.log import config_of
from benchmark.sizes import FIRST_DAY

Result = dict[str, Any]
SCRIPTS = Path(__file__).parents[1]


class Failed(Exception):
    """A process that ended badly; the message holds the end of what it said."""


def run(command: list[str], timeout: float, **environment: str) -> tuple[str, int]:
    """(stdout, peak MB of the process) of a command; raises Failed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | environment)
        alarm = threading.Timer(timeout, process.kill)
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            why = f"exit code {process.returncode}" + (f", after {timeout:.0f} s" if process.returncode == -9 else "")
            raise Failed(f"{' '.join(command)}\n{why}\n{err.read()[-4000:]}")
        return out.read(), usage.ru_maxrss // 1024


@dataclass
class Bench:
    """One run: what is asked for, where it works, and how its processes are started."""

    folder: Path
    rows: int
    rounds: int
    days: int
    held_out: int
    activity: float
    users: int
    threads: int
    sets: list[str]
    timeout: float
    quick: bool
    peers: Path | None = None
    """Python of the peers' environment; None: they are not measured"""
    failures: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.log_of(self.rows)

    @property
    def day(self) -> dt.date:
        """The last day of training."""
        return FIRST_DAY + dt.timedelta(self.days - 1)

    @property
    def environment(self) -> dict[str, str]:
        n = str(self.threads)
        waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "4000"}  # as the program's own
        return {"OMP_NUM_THREADS": n, "POLARS_MAX_THREADS": n, "PYTHONWARNINGS": "ignore"} | waiting

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def log_of(self, rows: int) -> Path:
        """A log of so many rows and its config, made once."""
        folder = self.folder / f"log-{rows}"
        if not (folder / "bench.yaml").exists():
            self.say(f"a log of {rows:,} rows")
            size = {"rows": rows, "held_out": self.held_out, "activity": self.activity, "users": self.users}
            self.inside("make_log", at=str(folder), **size)
            config = yaml.safe_dump(config_of(folder, self.days, self.threads), sort_keys=False)
            (folder / "bench.yaml").write_text(config)
        return folder

    def attempt(self, what: str, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What `work` returns; None after a failure, which is shown at once and makes the whole run fail at its end."""
        self.say(what)
        try:
            return work(*args, **options)
        except Failed as e:
            self.failures.append(what)
            print(f"{what} failed: {e}", file=sys.stderr, flush=True)
            return None

    def dmtl(
        self, command: str, workspace: str, *sets: str, day: dt.date | None = None, log: Path | None = None
    ) -> Result:
        """A stage in a fresh process: its published result, `seconds`, `rate` (rows/s of its loop) and `rss_mb`."""
        log, day = log or self.log, day or self.day
        root = log / "work" / workspace
        chosen = [f"workspace={root}", *self.sets, *sets]
        arguments = ["--config", str(log / "bench.yaml"), "--day", str(day), "--json"]
        arguments += [x for s in chosen for x in ("--set", s)]
        start = [sys.executable, "-m", "dmtl_cli.cli", command]
        out, rss = run([*start, *arguments], self.timeout, **self.environment)
        said = (root / "logs" / f"{command}-{day}.jsonl").read_text().splitlines()
        events = {e["event"]: e for e in map(json.loads, said)}
        published: dict[str, Any] = json.loads(out.splitlines()[-1])
        rate = events.get("done", {}).get("rows_per_second")
        seconds = events["published"]["seconds"]
        whole = {"seconds": seconds, "end_to_end": published["rows"].get("log", 0) / seconds}
        return published | whole | {"rate": rate, "rss_mb": rss}

    def auc(self, workspace: str, *sets: str, day: dt.date, log: Path | None = None) -> dict[str, float]:
        """AUC of a click and of a click with a long read of the newest teacher, on all rows of the day that is held
        out, as peers are measured: by default an evaluation is of a sample."""
        every = ("data.events.path=test", "evaluate.share=1", "evaluate.max_users=1")
        found = self.dmtl("evaluate", workspace, *sets, *every, day=day, log=log)
        if found["rows"]["measured_events"] < found["rows"]["events"]:
            raise Failed(f"AUC of {found['rows']['measured_events']} of {found['rows']['events']} rows")
        return {"click": found["metrics"]["teacher.ctr.auc"], "click_read": found["metrics"]["teacher.ctcvr.auc"]}

    def inside(self, name: str, *sets: str, **options: Any) -> Result:
        """A function of `inside.py` in a fresh process: what it returns, and `rss_mb`."""
        given: dict[str, Any] = {"rounds": self.rounds, "days": self.days}
        given |= {"config": str(self.folder / f"log-{self.rows}" / "bench.yaml"), "sets": [*self.sets, *sets]}
        command = [sys.executable, "-m", "benchmark.inside", name, json.dumps(given | options)]
        path = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))
        out, rss = run(command, self.timeout, **self.environment, PYTHONPATH=path)
        return {**json.loads(out.splitlines()[-1]), "rss_mb": rss}


def in_turn(bench: Bench, *works: Mapping[str, Callable[[int], Result]]) -> dict[str, list[Result | None]]:
    """Results of all works by name and round; in a round ours, a peer, ours, a peer. None where one failed."""
    order = [item for some in itertools.zip_longest(*(w.items() for w in works)) for item in some if item]
    done: dict[str, list[Result | None]] = {name: [] for name, _ in order}
    for k in range(bench.rounds):
        for name, work in order:
            done[name].append(bench.attempt(f"round {k + 1}: {name}", work, k))
    return done
