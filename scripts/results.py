"""The README's tables: the chain and its baselines over several seeds, as Markdown, and a figure.

python scripts/results.py --config configs/demo.yaml --from 2026-01-01 --to 2026-01-03 --measure 2026-01-04 \
    [--seeds 1,2,3] [--out work/results] [--set key=value ...] [--figure docs/click_bait.png]

Each seed has a workspace of its own below --out; what is done there is not done again. --measure is a day or
FIRST..LAST; a metric is a mean over those days, and the table gives mean and spread (largest - smallest) over seeds.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from pathlib import Path

from dmtl_cli.config import load_config
from dmtl_cli.days import between, parse_day
from dmtl_cli.errors import UserError
from dmtl_cli.progress import RunLog
from dmtl_cli.stages.compare import ORDER, SHOWN

PCOC = tuple(f"{p}.{label}.pcoc" for p, label in (("teacher", "ctr"), ("teacher", "cvr"), ("teacher", "ctcvr")))


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is there
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--from", dest="first", required=True)
    parser.add_argument("--to", dest="last", required=True)
    parser.add_argument("--measure", required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--out", type=Path, default=Path("work/results"))
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    start, _, end = args.measure.partition("..")
    measured = between(parse_day(start, "--measure"), parse_day(end or start, "--measure"))
    chain = between(parse_day(args.first, "--from"), parse_day(args.last, "--to"))
    seeds = [int(s) for s in args.seeds.split(",")]
    by_seed = [one_seed(args.config, seed, args.out, args.sets, chain, measured) for seed in seeds]
    print(table(by_seed))
    print(json.dumps({name: [m[name] for m in by_seed] for name in PCOC if all(name in m for m in by_seed)}))
    if args.figure:
        draw(by_seed, args.figure)


def one_seed(
    config: str, seed: int, out: Path, sets: list[str], chain: list[dt.date], measured: list[dt.date]
) -> dict[str, float]:
    """Metrics of one seed by flat name, means over the measured days."""
    from dmtl_cli.pipeline import backfill, compare
    from dmtl_cli.run import Run

    workspace = out / f"{Path(config).stem}-seed{seed}"
    run = Run.of(load_config(config, [f"workspace={workspace}", f"seed={seed}", *sets]), RunLog())
    backfill(run, chain)
    days = [compare(run, day).metrics for day in measured]
    names = {name for day in days for name in day}
    return {n: sum(d[n] for d in days if n in d) / sum(n in d for d in days) for n in sorted(names)}


def table(by_seed: list[dict[str, float]]) -> str:
    shown = [m for m in SHOWN if any(f"{p}.{m}" in by_seed[0] for p in ORDER)]
    lines = ["| model | " + " | ".join(shown) + " |", "|---|" + "---:|" * len(shown)]
    for prefix in ORDER:
        cells = []
        for metric in shown:
            values = [m[f"{prefix}.{metric}"] for m in by_seed if f"{prefix}.{metric}" in m]
            digits = 1 if "seconds" in metric else 3
            mean, spread = sum(values) / max(1, len(values)), max(values, default=0.0) - min(values, default=0.0)
            cells.append(f"{mean:.{digits}f} ({spread:.{digits}f})" if values else "-")
        if any(c != "-" for c in cells):
            lines.append(f"| {prefix} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(by_seed: list[dict[str, float]], file: Path) -> None:
    """Click rate against read seconds of the top 50: what is clicked and what is read are not the same items."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = {
        "random": "random",
        "click_only": "student, clicks only",
        "long_read_only": "student, long reads only",
        "student": "student, distilled (dmtl)",
        "student_teacher": "its teacher",
    }
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for prefix, name in names.items():
        x = [m[f"{prefix}.click_rate@50"] for m in by_seed]
        y = [m[f"{prefix}.read_seconds@50"] for m in by_seed]
        color = {"student": "#c1121f", "student_teacher": "#003049"}.get(prefix, "#7a7a7a")
        axes.scatter(x, y, s=36, color=color, zorder=3)
        above = prefix != "student"  # which stands beside its teacher
        at, place = ((max(x), max(y)), (7, 4)) if above else ((min(x), min(y)), (0, -16))
        axes.annotate(name, at, xytext=place, textcoords="offset points", color=color, fontsize=9)
    axes.set_xlabel("expected click rate of the top 50")
    axes.set_ylabel("expected read seconds of the top 50")
    axes.set_xlim(0.1, 0.8)
    axes.set_ylim(0.0, 26.0)
    axes.grid(color="#e6e6e6", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    try:
        main()
    except UserError as e:
        print(e.line(), file=sys.stderr)
        sys.exit(int(e.code))
