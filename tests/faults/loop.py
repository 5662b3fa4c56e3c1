"""Injects a fault at every operation of every stage: what is published stays old or new, and a rerun heals it.

    python tests/faults/loop.py                         all: hours
    python tests/faults/loop.py --sample 40 --seed 7    some, drawn
    python tests/faults/loop.py --stage export --again --kind torn --at 17

One process imports everything; each injection is a fork of it. Nothing but a child may use polars or torch, whose
threads do not survive a fork.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ[_name] = "1"
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

from injection import KINDS, Injection  # noqa: E402

from dmtl_cli.cli import main as cli  # noqa: E402
from dmtl_cli.config.errors import Exit, UserError  # noqa: E402
from dmtl_cli.runs.manifest import verify  # noqa: E402

DAYS = ("2026-01-01", "2026-01-02")
STAGES = {  # stage: the command that publishes it and its day
    "profile": ("build-profile", DAYS[0]),
    "tune": ("tune", DAYS[0]),
    "teacher": ("train-teacher", DAYS[0]),
    "scores": ("dump-logits", DAYS[0]),
    "student": ("train-student", DAYS[1]),
    "export": ("export", DAYS[1]),
    "evaluation": ("evaluate", DAYS[1]),
    "joint": ("train-joint", DAYS[0]),
}
BEFORE = {  # commands whose results a stage starts from
    "profile": [],
    "tune": ["profile"],
    "teacher": ["profile"],
    "scores": ["profile", "teacher"],
    "student": ["profile", "teacher", "scores"],
    "export": ["profile", "teacher", "scores", "student"],
    "evaluation": ["profile", "teacher"],
    "joint": ["profile"],
}
# Exit codes that a command may have after a fault: not 70, and not 2 or 78, which are the user's.
ALLOWED = {0, *(int(code) for code in Exit if code not in (Exit.USAGE, Exit.BUG, Exit.CONFIG, Exit.STALE))}
CONFIG = """\
workspace: {home}/ws
seed: 1
threads: 1
features: auto
auto: {{budget: {budget}}}
data: {{root: {log}, events: {{user: user_id, item: item_id, time: time, click: click, duration: read_seconds}}}}
teacher: {{num_experts: 2, expert_hidden_units: [4], tower_hidden_units: [4], embedding_dim: 2, batch_size: 64{epochs}}}
student: {{hidden_units: [4], embedding_dim: 2, batch_size: 64}}
scores: {{negatives: 1}}
evaluate: {{max_users: 5}}
"""


def forked(body: Callable[[], None], stderr: Path) -> int:
    """The exit code of a child, negative where a signal killed it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.dup2(os.open(stderr, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        body()
    finally:
        os._exit(99)


def contents(ws: Path) -> dict[str, bytes]:
    """What is published, by path: files of runs and pointers."""
    skipped = {"logs", "locks", "scratch", "rejected"}
    files = (path for path in ws.rglob("*") if path.is_file())
    return {name: p.read_bytes() for p in files if (name := str(p.relative_to(ws))).split("/")[0] not in skipped}


def pointers(ws: Path) -> dict[str, str]:
    """What each CURRENT and LATEST names. Raises UserError unless that is a whole run."""
    found = {}
    for pointer in (p for name in ("CURRENT", "LATEST") for p in ws.rglob(name)):
        found[str(pointer.relative_to(ws))] = text = pointer.read_text()
        verify(pointer.parent / text.strip())
    return found


@dataclass
class Case:
    """One stage on a tiny log, published for the first time or again by another seed."""

    stage: str
    again: bool
    home: Path

    def prepare(self, log: Path) -> None:
        """Makes the workspace before the command, the one after it, and counts its operations."""
        self.before, self.after = self.home / "before", self.home / "after"
        self.home.mkdir(parents=True)
        tuned = self.stage == "tune"
        text = CONFIG.format(home="{home}", log=log, budget=0.01 if tuned else 0, epochs="" if tuned else ", epochs: 1")
        self.config = text
        self._write(self.before)
        for stage in BEFORE[self.stage]:
            self._must(self.before, STAGES[stage], again=False)
            if stage == "teacher":  # the next day's command reads what it left
                continue
        if self.again:
            self._must(self.before, STAGES[self.stage], again=False)
        (self.before / "ws").mkdir(exist_ok=True)
        self.copy(self.after)
        counted = self.home / "count"
        self._must(self.after, STAGES[self.stage], again=self.again, count=counted)
        self.operations = int(counted.read_text())
        self.old, self.new = pointers(self.before / "ws"), pointers(self.after / "ws")
        self.whole = contents(self.after / "ws")

    def copy(self, home: Path) -> None:
        if home.exists():
            shutil.rmtree(home)
        shutil.copytree(self.before, home)
        self._write(home)

    def _write(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        (home / "config.yaml").write_text(self.config.format(home=home) if False else self.config.replace("{home}", str(home)))

    def run(self, home: Path, step: tuple[str, str], *, again: bool, kind: str = "kill", at: int = 0,
            count: Path | None = None) -> int:  # fmt: skip
        command, day = step
        arguments = ["dmtl", command, "--config", str(home / "config.yaml"), "--day", day]
        arguments += ["--set", "seed=2"] if again else []

        def body() -> None:
            injection = Injection(home / "ws", kind, at)
            real = os._exit

            def ended(code: int) -> None:
                if count is not None:
                    count.write_text(str(injection.count))
                real(code)

            os._exit = ended  # type: ignore[assignment]
            sys.argv = arguments
            sys.stderr, sys.stdout = (os.fdopen(os.dup(n), "w") for n in (2, 1))
            injection.install()
            cli.main()

        return forked(body, home / "stderr")

    def _must(self, home: Path, step: tuple[str, str], *, again: bool, count: Path | None = None) -> None:
        code = self.run(home, step, again=again, count=count)
        if code:
            raise SystemExit(f"{self.stage}: {' '.join(step)}: exit {code}: {(home / 'stderr').read_text()}")

    def inject(self, kind: str, at: int) -> list[str]:
        """What is wrong after a fault at an operation and after the rerun; nothing, where all is as it must be."""
        home, wrong = self.home / "faulty", []
        self.copy(home)
        code = self.run(home, STAGES[self.stage], again=self.again, kind=kind, at=at)
        wrong += self._ended(kind, code, (home / "stderr").read_text())
        wrong += self._pointers(home / "ws")
        code = self.run(home, STAGES[self.stage], again=self.again)
        if code:
            wrong.append(f"rerun: exit {code}: {(home / 'stderr').read_text().strip()}")
            return wrong
        found = contents(home / "ws")
        differ = sorted(name for name in found.keys() | self.whole.keys() if found.get(name) != self.whole.get(name))
        if differ:
            wrong.append(f"rerun: {len(differ)} files are not those of an undisturbed run: {differ[0]}")
        if left := [*(home / "ws/scratch").glob("*")]:
            wrong.append(f"rerun: left in scratch: {left[0].name}")
        return wrong

    def _ended(self, kind: str, code: int, err: str) -> list[str]:
        expected = {"kill": {-signal.SIGKILL}, "torn": {-signal.SIGKILL}, "signal": {128 + signal.SIGTERM}}
        wrong = [] if code in expected.get(kind, ALLOWED) else [f"exit {code}"]
        if "Traceback" in err or err.count("\n") > 1 or (code > 0 and not err.startswith("dmtl: error: ")):
            wrong.append(f"stderr: {err[-300:]!r}")
        return wrong

    def _pointers(self, ws: Path) -> list[str]:
        try:
            found = pointers(ws)
        except UserError as e:
            return [f"torn: {e.message}"]
        odd = [n for n, text in found.items() if text not in (self.old.get(n), self.new.get(n))]
        gone = [n for n in self.old if n not in found]
        return [f"{n} is neither old nor new" for n in [*odd, *gone]]


@contextlib.contextmanager
def world() -> Iterator[Path]:
    """A folder with a log of two days, made in a child as it needs polars."""
    with tempfile.TemporaryDirectory(prefix="dmtl-faults-") as name:
        home = Path(name)

        def generate() -> None:
            cli.main()

        sys.argv = ["dmtl", "synth", str(home / "world"), "--days", "2", "--users", "8", "--items", "10"]
        sys.argv += ["--events-per-day", "40", "--start", DAYS[0]]
        if code := forked(generate, home / "stderr"):
            raise SystemExit(f"synth: exit {code}: {(home / 'stderr').read_text()}")
        yield home


def imports() -> None:
    """Everything that a stage imports, once for all children."""
    import dmtl_cli.stages.run
    import dmtl_cli.stages.train_joint
    import dmtl_cli.stages.tune
    import dmtl_cli.synth.generate  # noqa: F401


def drawn(cases: dict[tuple[str, bool], Case], options: argparse.Namespace) -> list[tuple[Case, str, int]]:
    kinds = [options.kind] if options.kind else list(KINDS)
    every = [
        (case, kind, at)
        for case in cases.values()
        for kind in kinds
        for at in ([options.at] if options.at else range(1, case.operations + 1))
    ]
    rng = random.Random(options.seed)
    return rng.sample(every, min(options.sample, len(every))) if options.sample else every


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, help="default: all")
    parser.add_argument("--first", action="store_true", help="only where the stage publishes for the first time")
    parser.add_argument("--again", action="store_true", help="only where it publishes again")
    parser.add_argument("--kind", choices=KINDS, help="default: all")
    parser.add_argument("--at", type=int, default=0, help="number of the operation; default: all")
    parser.add_argument("--sample", type=int, default=0, help="how many injections to draw; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no injection later")
    options = parser.parse_args()
    imports()
    start, failed, done = time.monotonic(), 0, 0
    with world() as home:
        wanted = [
            (stage, again)
            for stage in ([options.stage] if options.stage else STAGES)
            for again in (False, True)
            if not (options.first and again) and not (options.again and not again)
        ]
        cases = {key: Case(*key, home / f"{key[0]}-{key[1]}") for key in wanted}
        for case in cases.values():
            case.prepare(home / "world/log")
        for case, kind, at in drawn(cases, options):
            if time.monotonic() - start > options.seconds:
                break
            done += 1
            if wrong := case.inject(kind, at):
                failed += 1
                which = "--again" if case.again else "--first"
                print(f"{'; '.join(wrong)}\n  python {sys.argv[0] if False else 'tests/faults/loop.py'} "
                      f"--stage {case.stage} {which} --kind {kind} --at {at}", flush=True)  # fmt: skip
        sizes = {f"{c.stage}{' again' if c.again else ''}": c.operations for c in cases.values()}
    print(json.dumps({"injections": done, "failed": failed, "operations": sizes}))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
