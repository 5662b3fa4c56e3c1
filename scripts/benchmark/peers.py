"""The peers of `scripts/peers`: which there are, the environment that they run in, and a run of one."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.processes import SCRIPTS, Bench, Result, run

REQUIREMENTS = SCRIPTS / "peers" / "requirements.txt"


@dataclass(frozen=True)
class Peer:
    name: str
    module: str
    workers: int
    has_dssm: bool
    has_vectors: bool
    """whether its script does a whole day's work"""

    @property
    def title(self) -> str:
        return f"{self.name}, {self.workers} workers"


LIBRARIES = (  # name, module, whether its loader has workers, a DSSM with in-batch softmax, that gives vectors
    ("torch-rechub", "rechub", True, True, True),
    ("deepctr-torch", "deepctr", False, False, False),
    ("NextRec", "nextrec", True, True, False),
    ("FuxiCTR", "fuxictr", True, False, False),
    ("plain", "plain", True, True, True),
)
PEERS = tuple(
    Peer(name, module, workers, dssm, vectors)
    for name, module, has_workers, dssm, vectors in LIBRARIES
    for workers in ((0, 2) if has_workers else (0,))
)


def make_env(folder: Path, timeout: float) -> Path:
    """The Python of an environment that has what the peers import; made, or made anew where something else is asked
    for. Raises Failed, with what pip said."""
    python, done = folder.resolve() / "bin" / "python", folder / "installed.txt"
    wanted = f"torch=={torch.__version__.partition('+')[0]}\n{REQUIREMENTS.read_text()}"
    if not done.exists() or done.read_text() != wanted:
        print(f"installing the peers into {folder}: minutes, once", file=sys.stderr, flush=True)
        run([sys.executable, "-m", "venv", "--clear", str(folder)], timeout)
        asked = folder / "asked.txt"
        asked.write_text(wanted)
        run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(asked)], timeout)
        asked.rename(done)
    return python


def contenders(bench: Bench, model: str = "mmoe", workers: int | None = None) -> list[Peer]:
    """The peers of this run that have such a model: with so many workers, or with all numbers of workers, of which
    --quick takes each library's last."""
    asked = [p for p in PEERS if bench.peers and (model == "mmoe" or p.has_dssm)]
    if workers is not None:
        return [p for p in asked if p.workers == workers]
    return list({p.module: p for p in asked}.values()) if bench.quick else asked


def measure(
    bench: Bench, peer: Peer, model: str, seed: int = 0, *, log: Path | None = None, options: tuple[str, ...] = ()
) -> Result:
    """A peer in a fresh process: the line that it prints, with its rates under our names."""
    command = [str(bench.peers), "-m", "peers", peer.module, str(log or bench.log), model, "--seed", str(seed)]
    command += ["--workers", str(peer.workers), *options]
    environment = bench.environment | {"PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"}
    out, _ = run(command, bench.timeout, **environment)
    line: Result = json.loads(out.splitlines()[-1])
    return line | {"rate": line["rows_per_s"], "end_to_end": line["e2e_rows_per_s"]}
