"""Measures dmtl beside other implementations of the same models, on one log, in interleaved rounds of one run.

    python scripts/bench.py --quick
    python scripts/bench.py --json bench.json --figure bench.png
    python scripts/bench.py --markdown bench.json

Makes a log and an environment for the peers of `scripts/peers`, and prints a table; docs/performance.md says what is
measured and how. With --no-peers it measures dmtl and the plain reference of `benchmark/plain.py`. Each measurement has
a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmark.limits import PRECISIONS
from benchmark.peers import make_env
from benchmark.processes import Bench, Failed
from benchmark.sizes import USERS
from benchmark.tables import Entry, figure, markdown
from benchmark.works import VARIANTS, WITH_PEERS, WORKS


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="dmtl beside other implementations, in interleaved rounds")
    parser.add_argument("--folder", type=Path, default=Path("work/bench"), help="logs and workspaces; may be deleted")
    parser.add_argument(
        "--make-env",
        type=Path,
        metavar="FOLDER",
        default=Path("work/peers"),
        help="where the peers' environment is, made once before the works are measured; default work/peers",
    )
    parser.add_argument("--peer-python", type=Path, help="Python that has scripts/peers/requirements.txt: none is made")
    parser.add_argument("--no-peers", action="store_true", help="dmtl and the plain reference only")
    parser.add_argument("--rows", type=int, help="of the log; default 1,000,000, with --quick 50,000")
    parser.add_argument("--rounds", type=int, help="default 3, with --quick 2")
    parser.add_argument("--days", type=int, default=1, help="that the rows are spread over")
    parser.add_argument("--activity", type=float, default=1.5, help="sigma of users' log-normal rates; 0: all alike")
    parser.add_argument("--users", type=int, default=USERS, help="of the log")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="over dmtl's config, everywhere"
    )
    parser.add_argument("--timeout", type=float, default=3600, help="seconds of one process")
    parser.add_argument("--quick", action="store_true", help="few rows and rounds: minutes")
    parser.add_argument("--only", help=f"some of {','.join(WORKS)}")
    parser.add_argument("--json", type=Path, help="write the entries; rewritten after every work")
    parser.add_argument("--figure", type=Path, help="write a figure of the ratios (needs matplotlib)")
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="only print the table of an earlier run")
    return parser


def chosen(args: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    """Names of the works that are asked for; ends the process where what is asked for cannot be measured."""
    works = args.only.split(",") if args.only else list(WORKS)
    if unknown := [w for w in works if w not in WORKS]:
        parser.error(f"--only: {unknown[0]} is none of {', '.join(WORKS)}")
    if args.no_peers and args.peer_python:
        parser.error("--peer-python and --no-peers exclude each other")
    return works


def peers_of(args: argparse.Namespace, works: list[str]) -> Path | None:
    """Python that runs the peers; None where none is measured."""
    if args.no_peers or not WITH_PEERS.intersection(works):
        return None
    return args.peer_python or make_env(args.make_env, args.timeout)


def measured(args: argparse.Namespace, works: list[str]) -> tuple[list[Entry], list[str]]:
    """Entries of the works, and what failed."""
    python = peers_of(args, works)
    rows = args.rows or (50_000 if args.quick else 1_000_000)
    args.folder.mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench = Bench(
            folder=Path(folder).resolve(),
            rows=rows,
            rounds=args.rounds or (2 if args.quick else 3),
            days=args.days,
            held_out=max(100, min(rows // 4, 200_000)),
            activity=args.activity,
            users=args.users,
            threads=args.threads,
            sets=args.set,
            timeout=args.timeout,
            quick=args.quick,
            peers=python,
        )
        if "bf16" not in PRECISIONS:
            bench.say("this CPU has no bfloat16 products: fp32 only")
        bench.log_of(rows)
        for name in works:
            entries += bench.attempt(name, WORKS[name], bench) or []
            if args.json:
                args.json.write_text(json.dumps(entries, indent=1) + "\n")
    return entries, bench.failures


def main(argv: list[str] | None = None) -> int:
    parser = options()
    args = parser.parse_args(argv)
    if args.markdown:
        print(markdown(json.loads(args.markdown.read_text())))
        return 0
    works = chosen(args, parser)
    try:
        entries, failures = measured(args, works)
    except Failed as e:
        print(f"{e}\nwithout the peers: --no-peers", file=sys.stderr)
        return 1
    if entries:
        print(markdown(entries))
    if args.figure and entries:
        figure(entries, args.figure, list(VARIANTS))
    for what in failures:
        print(f"failed: {what}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
