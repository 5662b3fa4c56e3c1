"""A chain of days whose runs are killed again and again, beside the same chain undisturbed: the bytes must be equal.

    python scripts/soak.py --days 200 --kills 500 --seed 1

Every day `dmtl run` is started, killed (SIGKILL) after a random time, started again, and so on until it ends by itself
with 0. Meanwhile a reader looks at what is served and hashes it. Prints a report, as in docs/operations.md.

One process imports everything and forks each run, which saves seconds a run; nothing else may use polars or torch in
it, whose threads do not survive a fork.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "1")

from dmtl_cli.cli import main as cli  # noqa: E402
from dmtl_cli.config.errors import UserError  # noqa: E402
from dmtl_cli.runs.manifest import verify  # noqa: E402
from dmtl_cli.runs.workspace import Workspace  # noqa: E402

START = dt.date(2026, 1, 1)
CONFIG = """\
workspace: {home}/ws
seed: 1
threads: 1
features: auto
auto: {{budget: 0}}
gates: {{quality: false}}  # a log of tens of rows is noise
data: {{root: {log}, events: {{user: user_id, item: item_id, time: time, click: click, duration: read_seconds}}}}
teacher: {{num_experts: 2, expert_hidden_units: [4], tower_hidden_units: [4], embedding_dim: 2}}
student: {{hidden_units: [4], embedding_dim: 2}}
scores: {{negatives: 1}}
evaluate: {{max_users: 5}}
"""
_PUBLISHED = ("profile", "teacher", "scores", "student", "export", "evaluation")
_LOOKS = 0.05  # seconds between two looks at what is served


@dataclass
class Chain:
    """A workspace of its own over a log."""

    home: Path
    log: Path
    codes: collections.Counter[int] = field(default_factory=collections.Counter)
    """exit codes of `dmtl run`; negative: killed"""
    torn: list[str] = field(default_factory=list)
    """what a reader found that is not whole"""
    looks: int = 0

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        (self.home / "config.yaml").write_text(CONFIG.format(home=self.home, log=self.log))
        self.ws = Workspace(self.home / "ws")

    def run(self, day: dt.date, seconds: float = float("inf")) -> tuple[int, float]:
        """Runs a day, killed after so many seconds: (exit code, seconds that it ran)."""
        start = time.monotonic()
        child = forked(["run", "--config", str(self.home / "config.yaml"), "--day", str(day)], self.home / "stderr")
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() - start > seconds:
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                break
            self.look()
            time.sleep(min(_LOOKS, max(0.0, start + seconds - time.monotonic())))
        code = os.waitstatus_to_exitcode(status)
        self.codes[code] += 1
        self.look()
        return code, time.monotonic() - start

    def look(self) -> None:
        """Reads what is served as a server does: LATEST once, then the files below the folder that it names."""
        self.looks += 1
        try:
            if (folder := self.ws.latest()) is not None:
                verify(folder)
        except UserError as e:
            self.torn.append(e.message)

    def said(self) -> str:
        return (self.home / "stderr").read_text().strip()

    def published(self) -> dict[str, str]:
        """The sha256 of each published file and pointer."""
        files = (p for stage in _PUBLISHED for p in (self.ws.root / stage).rglob("*") if p.is_file())
        return {str(p.relative_to(self.ws.root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def size(self, *folders: str) -> int:
        """Bytes below folders of the workspace."""
        return sum(p.stat().st_size for f in folders for p in (self.ws.root / f).rglob("*") if p.is_file())


def forked(arguments: list[str], stderr: Path) -> int:
    """The id of a child that is `dmtl` with these arguments."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(stderr, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr, sys.stdout = (os.fdopen(os.dup(n), "w") for n in (2, 1))
        sys.argv = ["dmtl", *arguments]
        cli.main()
    finally:
        os._exit(99)


def imports() -> None:
    """Everything that a run imports, once for all children."""
    import onnx
    import onnxruntime

    import dmtl_cli.serving.export
    import dmtl_cli.stages.run
    import dmtl_cli.synth.generate  # noqa: F401

    assert onnx and onnxruntime


def kills_by_day(days: int, kills: int, rng: random.Random) -> list[int]:
    """How often each day's run is killed: `kills` in all, wherever they fall."""
    counted = collections.Counter(rng.randrange(days) for _ in range(kills))
    return [counted[day] for day in range(days)]


def disturbed(chain: Chain, day: dt.date, kills: int, usual: float, rng: random.Random) -> int:
    """Runs a day until it ends by itself; how often it was killed. Raises SystemExit where it does not end with 0."""
    for killed in range(kills + 1):
        code, _ = chain.run(day, rng.uniform(0, usual) if killed < kills else float("inf"))
        if code == 0:
            break
        if code != -signal.SIGKILL:
            raise SystemExit(f"{day}: exit {code} after {killed} kills: {chain.said()}")
    return killed


def soak(home: Path, options: argparse.Namespace) -> tuple[list[str], bool]:
    """The lines of the report, and whether all is as it must be."""
    rng, log = random.Random(options.seed), home / "world/log"
    made = ["synth", str(home / "world"), "--days", str(options.days), "--users", "12", "--items", "15"]
    made += ["--events-per-day", "60", "--start", str(START)]
    wait: Callable[[int], int] = lambda child: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: E731
    if code := wait(forked(made, home / "stderr")):
        raise SystemExit(f"synth: exit {code}: {(home / 'stderr').read_text()}")
    calm, wild = Chain(home / "calm", log), Chain(home / "wild", log)
    days = [START + dt.timedelta(days=k) for k in range(options.days)]
    begun, killed, ran, most_scratch, planned = time.monotonic(), 0, 0, 0, 0
    for day, kills in zip(days, kills_by_day(options.days, options.kills, rng), strict=True):
        planned += kills
        code, usual = calm.run(day)
        if code:
            raise SystemExit(f"undisturbed, {day}: exit {code}: {calm.said()}")
        killed += disturbed(wild, day, planned - killed, usual, rng)  # also those that came too late the day before
        most_scratch = max(most_scratch, wild.size("scratch"))
        ran += 1
        if time.monotonic() - begun > options.minutes * 60:
            break
    one, other = calm.published(), wild.published()
    differ = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    codes = ", ".join(f"{code}: {n}" for code, n in sorted(wild.codes.items()))
    growth = wild.size(*_PUBLISHED) / ran, calm.size(*_PUBLISHED) / ran
    lines = [
        f"days {ran}, kills {killed}, seed {options.seed}, {(time.monotonic() - begun) / 60:.0f} minutes",
        f"exit codes of the disturbed runs: {codes}",
        f"reads of what is served: {calm.looks + wild.looks}, torn: {len(calm.torn) + len(wild.torn)}",
        f"published files: {len(one)} undisturbed, {len(other)} disturbed, different: {len(differ)}",
        f"bytes published a day: {growth[1]:,.0f} undisturbed, {growth[0]:,.0f} disturbed",
        f"scratch after a day: at most {most_scratch:,} bytes, at the end {wild.size('scratch'):,}; "
        f"rejected/ {wild.size('rejected'):,}; logs {wild.size('logs'):,}",
    ]
    lines += [f"torn: {text}" for text in [*calm.torn, *wild.torn][:5]] + [f"different: {name}" for name in differ[:5]]
    return lines, not (differ or calm.torn or wild.torn or wild.codes.keys() - {0, -signal.SIGKILL})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--kills", type=int, default=500, help="in all days together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no day later, and report")
    options = parser.parse_args()
    imports()
    with tempfile.TemporaryDirectory(prefix="dmtl-soak-") as name:
        lines, good = soak(Path(name), options)
    print("\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
