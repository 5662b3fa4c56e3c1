"""The peers: which there are, their environments, and their scripts in processes of their own."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.inside import auc_of
from benchmark.processes import SCRIPTS, Bench, Result, run
from benchmark.sizes import BATCH


@dataclass(frozen=True)
class Peer:
    name: str
    script: str
    workers: int

    @property
    def title(self) -> str:
        return f"{self.name}, {self.workers} workers"


PEERS = (
    Peer("torch-rechub", "peer_rechub.py", 0),
    Peer("torch-rechub", "peer_rechub.py", 2),
    Peer("deepctr-torch", "peer_deepctr.py", 0),
    Peer("plain", "peer_plain.py", 0),
    Peer("plain", "peer_plain.py", 2),
)
NEEDS = ("torch", "polars", "pyarrow", "numpy", "torch-rechub", "deepctr-torch", "requests")


def make_env(folder: Path, timeout: float) -> Path:
    """An environment for the peers, made once; its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(NEEDS)} into {folder}", file=sys.stderr, flush=True)
        run([sys.executable, "-m", "venv", str(folder)], timeout)
        run([str(python), "-m", "pip", "install", "--quiet", *NEEDS], timeout)
    return python


def contenders(bench: Bench, model: str = "mmoe", workers: tuple[int, ...] = (0, 2)) -> list[Peer]:
    """The peers that are there; only some have a two-tower model."""
    there = [p for p in PEERS if bench.peers and (bench.peers / p.script).exists() and p.workers in workers]
    return [p for p in there if model == "mmoe" or p.name != "deepctr-torch"]


def measure(
    bench: Bench,
    peer: Peer,
    model: str,
    seed: int = 0,
    *,
    log: Path | None = None,
    epochs: int = 1,
    scored: bool = False,
    options: tuple[str, ...] = (),
) -> Result:
    """A peer's script in a fresh process: the line that it prints, its rates under our names, and `auc` of the
    held-out day."""
    assert bench.peers and bench.python
    log, scores = log or bench.log, bench.folder / "scores.npy"
    command = [str(bench.python), str(SCRIPTS / "bench_peer.py"), str(bench.peers / peer.script)]
    command += [str(log / "test"), str(scores) if scored else "-", str(seed)]
    command += [str(log / "train"), model, str(BATCH), str(epochs), "--threads", str(bench.threads)]
    command += ["--workers", str(peer.workers), *options]
    out, _ = run(command, bench.timeout, **bench.environment, PYTHONDONTWRITEBYTECODE="1")
    line: Result = json.loads([x for x in out.splitlines() if x.startswith("{")][-1])
    line |= {"rate": line["rows_per_s"], "end_to_end": line["e2e_rows_per_s"]}
    return line | ({"auc": auc_of(np.load(scores), log / "test")} if scored else {})
