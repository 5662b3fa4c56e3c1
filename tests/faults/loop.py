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
CHAIN = [  # the commands that make the workspace from which all cases start
    ("build-profile", DAYS[0]),
    ("train-teacher", DAYS[0]),
    ("dump-logits", DAYS[0]),
    ("build-profile", DAYS[1]),
    ("train-student", DAYS[1]),
    ("evaluate", DAYS[1]),
    ("train-joint", DAYS[0]),
]
STAGES: dict[str, tuple[str, str, list[str], list[str]]] = {
    # stage: its command, the day, options beside the config's, what is not there before its first run
    "profile": ("build-profile", DAYS[0], [], ["profile"]),
    "tune": ("tune", DAYS[0], ["--set", "auto.budget=0.01"], []),
    "teacher": ("train-teacher", DAYS[0], [], ["teacher"]),
    "scores": ("dump-logits", DAYS[0], [], ["scores"]),
    "student": ("train-student", DAYS[1], [], ["student", "export"]),
    "export": ("export", DAYS[1], [], ["export"]),
    "evaluation": ("evaluate", DAYS[1], [], ["evaluation"]),
    "joint": ("train-joint", DAYS[0], [], ["joint"]),
}
# Exit codes that a command may have after a fault: not 70, and not those that are the user's mistakes
ALLOWED = {0, *(int(code) for code in Exit if code not in (Exit.USAGE, Exit.BUG, Exit.CONFIG, Exit.STALE))}
UNREAD = {"logs", "locks", "scratch", "rejected"}
"""folders that no stage reads"""
CONFIG = """\
workspace: {home}/ws
seed: 1
threads: 1
features: auto
auto: {{budget: 0}}
gates: {{quality: false}}
data: {{root: {log}, events: {{user: user_id, item: item_id, time: time, click: click, duration: read_seconds}}}}
teacher: {{num_experts: 2, expert_hidden_units: [4], tower_hidden_units: [4], embedding_dim: 2, batch_size: 64}}
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
        sys.stderr, sys.stdout = (os.fdopen(os.dup(n), "w") for n in (2, 1))
        body()
    finally:
        os._exit(99)


def contents(ws: Path) -> dict[str, bytes]:
    """What is published, by path: files of runs and pointers."""
    files = ((str(path.relative_to(ws)), path) for path in ws.rglob("*") if path.is_file())
    return {name: path.read_bytes() for name, path in files if name.partition("/")[0] not in UNREAD}


def pointers(ws: Path) -> dict[str, str]:
    """What each CURRENT and LATEST names. Raises UserError unless that is a whole run."""
    found = {name: text.decode() for name, text in contents(ws).items() if name.endswith(("/CURRENT", "/LATEST"))}
    for name, text in found.items():
        verify((ws / name).parent / text.strip())
    return found


def run(home: Path, log: Path, command: list[str], *, kind: str = "kill", at: int = 0) -> int:
    """The exit code of a command in a child, by the config of a folder; how many operations it had is in `count`."""
    (home / "config.yaml").write_text(CONFIG.format(home=home, log=log))
    name, *arguments = command

    def body() -> None:
        injection, end = Injection(home / "ws", kind, at), os._exit

        def ended(code: int) -> None:
            (home / "count").write_text(str(injection.count))
            end(code)

        os._exit = ended  # type: ignore[assignment]
        sys.argv = ["dmtl", name, "--config", str(home / "config.yaml"), *arguments]
        injection.install()
        cli.main()

    return forked(body, home / "stderr")


def must(home: Path, log: Path, command: list[str]) -> None:
    if code := run(home, log, command):
        raise SystemExit(f"{' '.join(command)}: exit {code}: {(home / 'stderr').read_text()}")


@dataclass
class Case:
    """One stage, published for the first time or again by another seed."""

    stage: str
    again: bool
    base: Path
    """a workspace in which all stages are published"""
    home: Path
    log: Path

    def __post_init__(self) -> None:
        """Runs the command undisturbed, which tells how many operations it has and what it publishes."""
        name, day, options, absent = STAGES[self.stage]
        self.command = [name, "--day", day, *options, *(["--set", "seed=2"] if self.again else [])]
        before, after = self.home / "before", self.home / "after"
        shutil.copytree(self.base / "ws", before / "ws")
        for gone in [] if self.again else absent:
            shutil.rmtree(before / "ws" / gone)
        if self.again and self.stage == "tune":
            must(before, self.log, self.command[:-2])
        shutil.copytree(before, after)
        must(after, self.log, self.command)
        self.operations = int((after / "count").read_text())
        self.old, self.new = pointers(before / "ws"), pointers(after / "ws")
        self.whole = contents(after / "ws")

    def inject(self, kind: str, at: int) -> list[str]:
        """What is wrong after a fault at an operation and after the rerun; nothing, where all is as it must be."""
        home, wrong = self.home / "faulty", list[str]()
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.home / "before", home)
        code = run(home, self.log, self.command, kind=kind, at=at)
        wrong += self._ended(kind, code, (home / "stderr").read_text())
        wrong += self._pointers(home / "ws")
        if code := run(home, self.log, self.command):
            return [*wrong, f"rerun: exit {code}: {(home / 'stderr').read_text().strip()}"]
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
def world() -> Iterator[tuple[Path, Path]]:
    """A folder with a workspace in which all stages are published, and its log of two days."""
    with tempfile.TemporaryDirectory(prefix="dmtl-faults-") as name:
        home, log = Path(name) / "base", Path(name) / "world/log"
        home.mkdir()
        sys.argv = ["dmtl", "synth", str(log.parent), "--days", "2", "--users", "8", "--items", "10"]
        sys.argv += ["--events-per-day", "40", "--start", DAYS[0]]
        if code := forked(cli.main, home / "stderr"):
            raise SystemExit(f"synth: exit {code}: {(home / 'stderr').read_text()}")
        for command, day in CHAIN:
            must(home, log, [command, "--day", day])
        yield home, log


def imports() -> None:
    """Everything that a stage imports, once for all children."""
    import dmtl_cli.stages.run
    import dmtl_cli.stages.train_joint
    import dmtl_cli.stages.tune
    import dmtl_cli.synth.generate  # noqa: F401


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, help="default: all")
    parser.add_argument("--first", action="store_true", help="only where the stage publishes for the first time")
    parser.add_argument("--again", action="store_true", help="only where it publishes again")
    parser.add_argument("--kind", choices=KINDS, help="default: all")
    parser.add_argument("--at", type=int, default=0, help="number of the operation; default: all")
    parser.add_argument("--sample", type=int, default=0, help="how many injections of a stage to draw; default: all")
    parser.add_argument("--stages", type=int, default=0, help="how many stages to draw; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no stage and no injection later")
    return parser.parse_args()


def main() -> int:
    options, start = arguments(), time.monotonic()
    rng = random.Random(options.seed)
    imports()
    failed, done = 0, dict[str, int]()

    def late() -> bool:
        return time.monotonic() - start > options.seconds

    with world() as (base, log):
        wanted = [(s, again) for s in ([options.stage] if options.stage else STAGES) for again in (False, True)]
        wanted = [(s, again) for s, again in wanted if not ((options.first and again) or (options.again and not again))]
        for stage, again in rng.sample(wanted, options.stages or len(wanted)):
            if late() and done:
                break
            which = f"{stage} {'--again' if again else '--first'}"
            case = Case(stage, again, base, base.parent / which, log)
            places = [options.at] if options.at else range(1, case.operations + 1)
            every = [(kind, at) for kind in ([options.kind] if options.kind else KINDS) for at in places]
            done[which] = 0
            for kind, at in rng.sample(every, min(options.sample or len(every), len(every))):
                if late() and done[which]:
                    break
                done[which] += 1
                if wrong := case.inject(kind, at):
                    failed += 1
                    print("; ".join(wrong))
                    print(f"  python tests/faults/loop.py --stage {which} --kind {kind} --at {at}", flush=True)
            print(f"{which}: {case.operations} operations, {done[which]} injections", flush=True)
    print(f"{sum(done.values())} injections, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
