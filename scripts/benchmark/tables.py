"""Results of rounds as entries, and entries as Markdown and as a figure."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmark.processes import Bench, Result

Entry = dict[str, Any]
PLAIN = "plain reference"


def entry(
    bench: Bench,
    work: str,
    ours: Sequence[Result | None],
    peer: Sequence[Result | None] = (),
    *,
    rate: str = "rate",
    variant: str = "",
    against: str = "",
    workers: int | None = None,
    precision: str | None = "fp32",
    unit: str = "rows/s",
    limit: float | None = None,
    rows: int | None = None,
) -> Entry:
    """Results of rounds as one entry of the table: medians, and ratios within a round.

    Args:
        rate: name of the rate in the results.
        limit: the rate that the machine allows at most (`limits`), of which the entry tells the share that is reached.
    """
    paired = [a[rate] / b[rate] for a, b in zip(ours, peer, strict=False) if a and b and rate in b]
    rates, others = ([r[rate] for r in results if r and rate in r] for results in (ours, peer))
    auc, peer_auc = mean_auc(ours) or {}, mean_auc(peer) or {}
    return {
        "work": work,
        "ours": variant,
        "peer": against or None,
        "workers": workers,
        "precision": precision,
        "ratio_median": median(paired) if paired else None,
        "ratio_min": min(paired, default=None),
        "ratio_max": max(paired, default=None),
        "limit": limit,
        "limit_share": median(rates) / limit if limit and rates else None,
        "rss_mb": middle(ours, "rss_mb"),
        "peer_rss_mb": middle(peer, "rss_mb"),
        "auc": auc.get("click"),
        "peer_auc": peer_auc.get("click"),
        "auc_click_read": auc.get("click_read"),
        "peer_auc_click_read": peer_auc.get("click_read"),
        "steps": by_step(ours),
        "peer_steps": by_step(peer),
        "rate": median(rates) if rates else None,
        "peer_rate": median(others) if others else None,
        "unit": unit,
        "rows": rows or bench.rows,
        "rounds": len(rates),
        "machine": machine(bench.threads),
    }


def middle(results: Sequence[Result | None], name: str) -> float | None:
    found = [r[name] for r in results if r and name in r]
    return median(found) if found else None


def by_step(results: Sequence[Result | None]) -> dict[str, float] | None:
    """Median seconds of each step, in the order of a process that tells them."""
    found = [r["steps"] for r in results if r and "steps" in r]
    return {name: median(steps[name] for steps in found) for name in found[0]} if found else None


def mean_auc(results: Sequence[Result | None]) -> dict[str, float] | None:
    found = [r["auc"] for r in results if r and "auc" in r]
    return {label: sum(a[label] for a in found) / len(found) for label in found[0]} if found else None


def rates(values: list[float]) -> list[Result | None]:
    """Rates that one process measured in rounds of its own."""
    return [{"rate": x} for x in values]


def machine(threads: int) -> str:
    cpu = Path("/proc/cpuinfo")
    names = [x.split(":")[1].strip() for x in cpu.read_text().splitlines() if "model name" in x] if cpu.exists() else []
    name, kernels = names[0] if names else platform.processor(), torch.backends.cpu.get_cpu_capability()
    return f"{name} with {kernels}, {threads} threads, torch {torch.__version__}"


def markdown(entries: list[Entry]) -> str:
    """A Markdown table for each work; columns without a word are left out."""
    parts = [f"{entries[0]['machine']}; {entries[0]['rows']:,} rows, {max(e['rounds'] for e in entries)} rounds."]
    for work, some in itertools.groupby(entries, lambda e: e["work"]):
        cells = [cells_of(e) for e in some]
        columns = [c for c in dict.fromkeys(c for row in cells for c in row) if any(row.get(c) for row in cells)]
        lines = [columns, ["---"] * len(columns), *([row.get(c, "") for c in columns] for row in cells)]
        parts.append(f"### {work}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def against(e: Entry) -> str:
    return (e["peer"] or "") + (f", {e['workers']} workers" if e["workers"] is not None else "")


def told(steps: dict[str, float] | None) -> str:
    return "; ".join(f"{name} {seconds:,.1f}" for name, seconds in (steps or {}).items())


def cells_of(e: Entry) -> dict[str, str]:
    """An entry as text by column; of two numbers the first is dmtl's."""

    def both(name: str, form: str) -> str:
        return " / ".join(format(x, form) for x in (e[name], e[f"peer_{name}"]) if x is not None)

    ratio, rate = e["ratio_median"], e["rate"]
    return {
        "dmtl": e["ours"] or e["precision"] or "",
        "against": against(e),
        e["unit"]: both("rate", ",.0f" if rate and rate >= 100 else ",.2f"),
        "ratio": f"**{ratio:.2f}** ({e['ratio_min']:.2f} to {e['ratio_max']:.2f})" if ratio else "",
        "share of the limit": f"{e['limit_share']:.0%} of {e['limit']:,.0f}" if e["limit_share"] else "",
        "peak MB": both("rss_mb", ",.0f"),
        "AUC click": both("auc", ".4f"),
        "AUC click and read": both("auc_click_read", ".4f"),
        f"{'ms' if e['unit'].startswith('ms') else 'seconds'} of dmtl": told(e["steps"]),
        "seconds of the other": told(e["peer_steps"]),
    }


def figure(entries: list[Entry], file: Path, variants: Sequence[str]) -> None:
    """The ratios, a panel a work and a line an opponent: the median round, and a bar from the least to the greatest.

    Args:
        variants: which ways of dmtl have a color of their own.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator

    shown = [e for e in entries if e["ratio_median"] and e["work"] != "memory" and not e["ours"].startswith(PLAIN)]
    works = {work: [e for e in shown if e["work"] == work] for work in dict.fromkeys(e["work"] for e in shown)}
    lines = {work: list(dict.fromkeys(map(against, some))) for work, some in works.items()}
    colors = {name: f"C{k}" for k, name in enumerate(variants)}
    heights = [len(names) + 1 for names in lines.values()]
    fig, axes = plt.subplots(
        len(works), 1, sharex=True, squeeze=False, height_ratios=heights, layout="constrained",
        figsize=(8, 1.2 + 0.3 * sum(heights)),
    )  # fmt: skip
    for ax, (work, some) in zip(axes[:, 0], works.items(), strict=True):
        for e in some:
            color = colors.get(e["ours"], "0.3")
            same = [x["ours"] for x in some if against(x) == against(e)]
            k = lines[work].index(against(e)) + 0.14 * (same.index(e["ours"]) - (len(same) - 1) / 2)
            ax.plot([e["ratio_min"], e["ratio_max"]], [k, k], color=color, linewidth=2, alpha=0.5)
            ax.plot(e["ratio_median"], k, "o", color=color, markersize=4)
        ax.set_title(work, loc="left", fontsize=9, fontweight="bold")
        ax.set_yticks(range(len(lines[work])), lines[work], fontsize=8)
        ax.set_ylim(len(lines[work]) - 0.5, -0.5)
        ax.axvline(1, color="black", linewidth=0.8)
        ax.grid(axis="x", which="both", linewidth=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.set_xlabel("rate of dmtl / rate of the other")
    used = [name for name in colors if any(e["ours"] == name for e in shown)]
    marks = [Line2D([], [], marker="o", linewidth=3, color=colors[name], label=name) for name in used]
    fig.legend(handles=marks, loc="outside upper right", ncols=5, fontsize=8, frameon=False)
    fig.savefig(file, dpi=150)
    plt.close(fig)
