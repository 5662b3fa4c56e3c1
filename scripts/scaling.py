"""What 1, 2 and 4 ranks on this machine take, and what more would, by a simulation that predicts the 4-rank runs.

    python scripts/scaling.py --rows 200000 --markdown scaling.md

Trains a teacher, dumps its scores and trains a student of the bench's log, with each number of ranks, under torchrun
(scripts/install_torchrec.sh installs what that needs). Seconds are of processors: four ranks of a machine of two cores
share these, so that efficiency is what one rank takes over what all ranks take. The simulation (benchmark/simulated.py)
knows one and two ranks, and collectives alone; the exit code is 1 where it misses the largest measured run by more than
20%.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmark.processes import SCRIPTS, Bench
from benchmark.simulated import KINDS, Link, Phase
from benchmark.sizes import USERS

WORKS = ("train-teacher", "dump-logits", "train-student")
MISSED = 0.2
Found = Mapping[str, Any]
"""what a rank wrote (`benchmark/rank.py`)"""


def run(bench: Bench, ranks: int, *command: str) -> list[Any]:
    """What each rank of a process group wrote; one rank is no group."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        out = Path(folder) / "rank"
        group = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        path = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))
        whole = [sys.executable, *group, "-m", "benchmark.rank", str(out), *command]
        made = subprocess.run(
            whole,
            env=os.environ | bench.environment | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise SystemExit(f"{' '.join(whole)}\n{made.stderr[-4000:]}")
        return [json.loads(Path(f"{out}.{k}.json").read_text()) for k in range(ranks)]


def measured(bench: Bench, ranks: int, place: str) -> dict[str, list[Found]]:
    """By work what each rank did."""
    log, out = bench.log, {}
    for work in WORKS:
        bench.say(f"{work}, {ranks} ranks")
        given = ["--config", str(log / "bench.yaml"), "--day", str(bench.day), "--quiet"]
        sets = [f"workspace={log / 'work' / place}", "gates.quality=false", *bench.sets]  # few rows are no chain
        out[work] = run(bench, ranks, work, *given, *(x for s in sets for x in ("--set", s)))
    return out


def phases_of(one: Found, two: Sequence[Found]) -> dict[str, Phase]:
    """By name, from one rank alone and two together."""
    out = {}
    for name in sorted({*one["cpu"], *(p for rank in two for p in rank["cpu"])}):
        calls, size = ({k: _mean(two, name, k, at) for k in KINDS} for at in (0, 1))
        both = [rank["cpu"].get(name, 0.0) for rank in two]
        steps = two[0]["steps"][1:] if name == "training" else []
        out[name] = Phase.of(one["cpu"].get(name, 0.0), both, calls, size, steps)
    return out


def _mean(ranks: Sequence[Found], phase: str, kind: str, at: int) -> float:
    found = [r["collectives"].get(phase, {}).get(kind, [0, 0, 0, 0])[at] for r in ranks]
    return float(np.mean(found))


def totals(ranks: Sequence[Found]) -> tuple[float, float]:
    """(Processor seconds of all ranks, those of them in collectives)."""
    within = sum(x[2] for r in ranks for kinds in r["collectives"].values() for x in kinds.values())
    return sum(x for r in ranks for x in r["cpu"].values()) + within, within


def middle(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median(r[0] for r in rounds), median(r[1] for r in rounds)


def report(found: dict[int, list[dict[str, list[Found]]]], links: dict[str, dict[str, Link]], args: Any) -> int:
    """Prints all tables as Markdown; 1 where a prediction misses."""
    lines, worst, largest = (
        [f"Load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {args.rows:,} rows.", ""],
        0.0,
        max(found),
    )
    lines += ["| work | ranks | CPU s, all ranks | in collectives | efficiency | simulated CPU s | missed by |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    more = ["| work | ranks, a core each | seconds | in collectives | times as fast as one | efficiency |"]
    more += ["|---|---:|---:|---:|---:|---:|"]
    parts = ["| work | phase | divided, s | each rank alike, s | the first alone, s | calls | MB |"]
    parts += ["|---|---|---:|---:|---:|---:|---:|"]
    rng = np.random.default_rng(0)
    for work in WORKS:
        phases = phases_of(*_middle_round(found, work))
        alone = middle([totals(r[work]) for r in found[1]])[0]
        for n, rounds in sorted(found.items()):
            whole, within = middle([totals(r[work]) for r in rounds])
            told = sum(p.cpu(links["cpu"], n) for p in phases.values())
            miss = told / whole - 1
            worst = max(worst, abs(miss)) if n == largest else worst
            share = f"{within / whole:.1%} | {alone / whole:.0%}"
            lines.append(f"| {work} | {n} | {whole:.1f} | {share} | {told:.1f} | {miss:+.0%} |")
        one = sum(p.elapsed(links["clock"], 1, rng) for p in phases.values())
        for n in args.simulate:
            seconds = sum(p.elapsed(links["clock"], n, rng) for p in phases.values())
            within = sum(p.communication(links["clock"], n) for p in phases.values())
            share = f"{within / seconds:.0%} | {one / seconds:.1f} | {one / seconds / n:.0%}"
            more.append(f"| {work} | {n} | {seconds:.2f} | {share} |")
        for name, p in phases.items():
            numbers = f"{p.divided:.2f} | {p.alike:.2f} | {p.first:.2f} | {sum(p.calls.values()):.0f}"
            parts.append(f"| {work} | {name} | {numbers} | {sum(p.bytes.values()) / 1e6:.1f} |")
    each = [
        "| collective | microseconds a message, CPU | on the clock | GB/s, CPU | on the clock |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind in KINDS:
        cpu, clock = links["cpu"][kind], links["clock"][kind]
        speeds = [f"{1e-9 / x.byte:.2f}" if x.byte else "" for x in (cpu, clock)]
        each.append(f"| {kind} | {cpu.latency * 1e6:.0f} | {clock.latency * 1e6:.0f} | {speeds[0]} | {speeds[1]} |")
    text = "\n".join([*lines, "", *parts, "", *each, "", *more, ""])
    print(text)
    if args.markdown:
        args.markdown.write_text(text)
    print(f"the simulation misses {largest} ranks by {worst:.0%} at most", file=sys.stderr)
    return int(worst > MISSED)


def _middle_round(found: dict[int, list[dict[str, list[Found]]]], work: str) -> tuple[Found, list[Found]]:
    """One rank and two, each of the round with the median of processor seconds."""
    chosen = []
    for n in (1, 2):
        order = sorted((r[work] for r in found[n]), key=lambda ranks: totals(ranks)[0])
        chosen.append(order[(len(order) - 1) // 2])
    return chosen[0][0], chosen[1]


def links_of(ranks: Sequence[Mapping[str, list[list[float]]]]) -> dict[str, dict[str, Link]]:
    """By what seconds are of (`cpu` of one rank, `clock`) and kind, of collectives of two ranks."""
    out: dict[str, dict[str, Link]] = {}
    for at, name in ((1, "cpu"), (2, "clock")):
        out[name] = {}
        for kind in KINDS:
            small, large = ((ranks[0][kind][k][0], sum(r[kind][k][at] for r in ranks) / len(ranks)) for k in (0, 1))
            out[name][kind] = Link.of(kind, small, large)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description="ranks on this machine, and a simulation of more")
    parser.add_argument("--folder", type=Path, default=Path("work/scaling"), help="log and workspaces; may be deleted")
    parser.add_argument("--rows", type=int, default=200_000, help="of the log")
    parser.add_argument("--users", type=int, default=USERS, help="of the log")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="at least 1 and 2")
    parser.add_argument("--simulate", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="over dmtl's config")
    parser.add_argument("--markdown", type=Path, help="write what is printed")
    args = parser.parse_args()
    if not {1, 2} <= set(args.ranks):
        parser.error("--ranks: one and two ranks are what the simulation knows")
    args.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.folder.resolve(), args.rows, 1, 1, 1_000, 1.5, args.users, 1, args.set, 3600, quick=False)
    links = links_of(run(bench, 2))
    found: dict[int, list[dict[str, list[Found]]]] = {n: [] for n in args.ranks}
    with tempfile.TemporaryDirectory(dir=bench.folder) as place:
        for k in range(args.rounds):
            for n in args.ranks:
                found[n].append(measured(bench, n, str(Path(place) / f"{n}-{k}")))
    return report(found, links, args)


if __name__ == "__main__":
    sys.exit(main())
