"""What 1, 2 and 4 ranks on this machine take, and what more would, by a simulation that predicts the 4-rank runs.

    python scripts/scaling.py --rounds 3 --markdown scaling.md

Trains a teacher, dumps its scores and trains a student of the bench's log, with each number of ranks, under torchrun
(scripts/install_torchrec.sh installs what that needs). Seconds are of processors: four ranks of a machine of two cores
share these, so that efficiency is what one rank takes over what all ranks take. The simulation (benchmark/simulated.py)
knows one and two ranks, and collectives alone; the exit code is 1 where it misses the largest measured run by more than
20%. What it tells of more ranks is by all that was measured.
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
from typing import Any

import numpy as np
from benchmark.processes import SCRIPTS, Bench
from benchmark.simulated import KINDS, Link, Phase
from benchmark.sizes import USERS

WORKS = ("train-teacher", "dump-logits", "train-student")
MISSED = 0.2
Found = Mapping[str, Any]
"""what a rank wrote (`benchmark/rank.py`)"""
Links = Mapping[str, Mapping[str, Link]]
"""by what seconds are of (`cpu` of one rank, `clock`), by kind of collective"""
Phases = Mapping[str, Mapping[str, Phase]]
"""by work, by name"""


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


def measured(bench: Bench, works: Sequence[str], ranks: int, place: str) -> dict[str, list[Found]]:
    """By work what each rank did."""
    log, out = bench.log, {}
    for work in works:
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


def refined(phases: Mapping[str, Phase], several: Mapping[int, Sequence[Found]]) -> dict[str, Phase]:
    """The phases by what all numbers of ranks took."""
    took = {name: {n: [r["cpu"].get(name, 0.0) for r in ranks] for n, ranks in several.items()} for name in phases}
    return {name: phase.refined(took[name]) for name, phase in phases.items()}


def _mean(ranks: Sequence[Found], phase: str, kind: str, at: int) -> float:
    found = [r["collectives"].get(phase, {}).get(kind, [0, 0, 0, 0])[at] for r in ranks]
    return float(np.mean(found))


def totals(ranks: Sequence[Found]) -> tuple[float, float]:
    """(Processor seconds of all ranks, those of them in collectives)."""
    within = sum(x[2] for r in ranks for kinds in r["collectives"].values() for x in kinds.values())
    return sum(x for r in ranks for x in r["cpu"].values()) + within, within


def least(rounds: Sequence[Sequence[Found]]) -> list[Found]:
    """Of several rounds the least seconds of each rank in each phase: other work on the machine only adds to them."""
    return [_least(each) for each in zip(*rounds, strict=True)]


def _least(rounds: Sequence[Found]) -> Found:
    """Of one rank; its steps are those of the round that trained in the least seconds."""
    cpu = {p: min(r["cpu"].get(p, 0.0) for r in rounds) for p in rounds[0]["cpu"]}
    collectives = {
        phase: {
            kind: [*x[:2], *(min(r["collectives"][phase][kind][at] for r in rounds) for at in (2, 3))]
            for kind, x in kinds.items()
        }
        for phase, kinds in rounds[0]["collectives"].items()
    }
    quickest = min(rounds, key=lambda r: r["cpu"].get("training", 0.0))
    return {"cpu": cpu, "collectives": collectives, "steps": quickest["steps"]}


def measured_table(ranks: dict[str, dict[int, list[Found]]], phases: Phases, links: Links) -> tuple[list[str], float]:
    """Its lines, and by what share the simulation misses most ranks at most."""
    lines = ["| work | ranks | CPU s, all ranks | in collectives | efficiency | simulated CPU s | missed by |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    worst = 0.0
    for work, by_number in ranks.items():
        alone = totals(by_number[1])[0]
        for n, some in by_number.items():
            whole, within = totals(some)
            told = sum(p.cpu(links["cpu"], n) for p in phases[work].values())
            worst = max(worst, abs(told / whole - 1)) if n == max(by_number) else worst
            share = f"{within / whole:.1%} | {alone / whole:.0%}"
            lines.append(f"| {work} | {n} | {whole:.1f} | {share} | {told:.1f} | {told / whole - 1:+.0%} |")
    return lines, worst


def slopes_table(phases: Phases, rows: int) -> list[str]:
    lines = ["| work | phase | us a row: divided | each alike | each of several | the first, s | calls | MB |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for work, by_name in phases.items():
        for name, p in by_name.items():
            of_a_row = " | ".join(f"{x / rows * 1e6:.1f}" for x in (p.divided, p.alike, p.further))
            numbers = f"{of_a_row} | {p.first:.2f}"
            calls = f"{sum(p.calls.values()):.0f} | {sum(p.bytes.values()) / 1e6:.1f}"
            lines.append(f"| {work} | {name} | {numbers} | {calls} |")
    return lines


def links_table(links: Links) -> list[str]:
    lines = [
        "| collective | us a message, CPU | on the clock | GB/s, CPU | on the clock |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind in KINDS:
        cpu, clock = links["cpu"][kind], links["clock"][kind]
        speeds = [f"{1e-9 / x.byte:.2f}" if x.byte else "" for x in (cpu, clock)]
        lines.append(f"| {kind} | {cpu.latency * 1e6:.0f} | {clock.latency * 1e6:.0f} | {speeds[0]} | {speeds[1]} |")
    return lines


def simulated_table(phases: Phases, links: Links, numbers: Sequence[int], factor: float) -> list[str]:
    """Of a day of so many times as many rows; what is no phase is the same for any day."""
    lines = ["| work | ranks, a core each | seconds | in collectives | times as fast as one | efficiency |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    rng = np.random.default_rng(0)
    for work, measured in phases.items():
        by_name = {
            name: p if name == "rest" else p.times(factor, steps=name == "training") for name, p in measured.items()
        }
        one = sum(p.elapsed(links["clock"], 1, rng) for p in by_name.values())
        for n in numbers:
            seconds = sum(p.elapsed(links["clock"], n, rng) for p in by_name.values())
            within = sum(p.communication(links["clock"], n) for p in by_name.values())
            share = f"{within / seconds:.0%} | {one / seconds:.1f} | {one / seconds / n:.0%}"
            lines.append(f"| {work} | {n} | {seconds:.2f} | {share} |")
    return lines


def report(found: dict[int, list[dict[str, list[Found]]]], links: Links, args: argparse.Namespace) -> int:
    """Prints all tables as Markdown; 1 where a prediction misses."""
    ranks = {w: {n: least([r[w] for r in rounds]) for n, rounds in sorted(found.items())} for w in args.only}
    phases = {work: phases_of(by_number[1][0], by_number[2]) for work, by_number in ranks.items()}
    lines, worst = measured_table(ranks, phases, links)
    phases = {w: refined(phases[w], {n: x for n, x in ranks[w].items() if n > 1}) for w in ranks}
    where = f"Load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {args.rows:,} rows, least of {args.rounds} rounds."
    tables = [[where], lines, slopes_table(phases, args.rows), links_table(links)]
    for rows in (args.rows, args.day):
        tables.append([f"Simulated, {rows:,} rows:"])
        tables.append(simulated_table(phases, links, args.simulate, rows / args.rows))
    text = "\n\n".join("\n".join(table) for table in tables)
    print(text)
    if args.markdown:
        args.markdown.write_text(text + "\n")
    print(f"the simulation misses {max(found)} ranks by {worst:.0%} at most", file=sys.stderr)
    return int(worst > MISSED)


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
    parser.add_argument("--rows", type=int, default=262_144, help="of the log; ranks score blocks of 65,536")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), help="each needs those before it")
    parser.add_argument("--users", type=int, default=USERS, help="of the log")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="at least 1 and 2")
    parser.add_argument("--simulate", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--day", type=int, default=100_000_000, help="rows of a day to simulate beside that of the log")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="over dmtl's config")
    parser.add_argument("--markdown", type=Path, help="write what is printed")
    parser.add_argument("--json", type=Path, help="write what was measured")
    parser.add_argument("--read", type=Path, metavar="JSON", help="only print the tables of an earlier run's --json")
    args = parser.parse_args()
    if args.read:
        kept = json.loads(args.read.read_text())
        args.rows, args.rounds, args.only = kept["rows"], kept["rounds"], kept["only"]
        return report({int(n): rounds for n, rounds in kept["found"].items()}, links_of(kept["links"]), args)
    if not {1, 2} <= set(args.ranks):
        parser.error("--ranks: one and two ranks are what the simulation knows")
    args.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.folder.resolve(), args.rows, 1, 1, 1_000, 1.5, args.users, 1, args.set, 3600, quick=False)
    links = run(bench, 2)
    found: dict[int, list[dict[str, list[Found]]]] = {n: [] for n in args.ranks}
    with tempfile.TemporaryDirectory(dir=bench.folder) as place:
        for k in range(args.rounds):
            for n in args.ranks:
                found[n].append(measured(bench, args.only, n, str(Path(place) / f"{n}-{k}")))
    if args.json:
        args.json.write_text(
            json.dumps(
                {name: getattr(args, name) for name in ("rows", "rounds", "only")} | {"links": links, "found": found}
            )
        )
    return report(found, links_of(links), args)


if __name__ == "__main__":
    sys.exit(main())
