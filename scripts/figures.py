"""Draws the figures of README and docs/ from docs/tables/, each table as the text quotes it.

    python scripts/figures.py

A figure holds the hash of the table that it was drawn from; `tests/test_figures.py` compares it, and the tables with
the text. Needs matplotlib.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

DOCS = Path(__file__).parents[1] / "docs"
TABLES = DOCS / "tables"
RED, BLUE, GREEN, GREY = "#c1121f", "#003049", "#2a7f62", "#8d8d8d"
STYLE: dict[Any, Any] = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True,
    "axes.titlelocation": "left", "axes.titlesize": 10, "grid.color": "#e6e6e6", "font.size": 9,
    "legend.frameon": False, "figure.constrained_layout.use": True,
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """A cell: a mean, and the ends of its bar (both the mean where the cell tells no spread)."""

    mean: float
    low: float
    high: float


def rows_of(name: str) -> list[list[str]]:
    """A table's rows without its header, cells without marks of Markdown."""
    with (TABLES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return [[cell.replace("*", "") for cell in row] for row in rows]


def number(cell: str) -> Number | None:
    """`41.6 (1.3)`: a mean and largest less smallest, drawn as half of it to each side; `1.6 (1.5 to 1.8)`: a median,
    the least and the greatest; None where there is none."""
    found = re.fullmatch(r"([\d.]+)(?: \(([\d.]+)(?: to ([\d.]+))?\))?", cell)
    if found is None:
        return None
    mean = float(found[1])
    if found[3]:
        return Number(mean, float(found[2]), float(found[3]))
    half = float(found[2] or 0) / 2
    return Number(mean, mean - half, mean + half)


def needed(cell: str) -> Number:
    """`number`. Raises ValueError where there is none."""
    if (found := number(cell)) is None:
        raise ValueError(f"expected a number, got {cell!r}")
    return found


def click_bait(table: list[list[str]]) -> Any:
    """Read seconds and click rate of each row of the table of docs/results.md, after 3 days and after 13."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 5.4), sharey=True, width_ratios=[3, 2])
    columns = ((panels[0], 1, 4, "expected read seconds of the top 50"), (panels[1], 2, 5, "its expected click rate"))
    for axes, early, late, label in columns:
        for at, row in enumerate(table):
            for column, shift, filled in ((early, -0.16, False), (late, 0.16, True)):
                if value := number(row[column]):
                    color = color_of(row[0])
                    axes.errorbar(
                        value.mean, at + shift, xerr=[[value.mean - value.low], [value.high - value.mean]], fmt="o",
                        color=color, markerfacecolor=color if filled else "white", markersize=4, capsize=3,
                    )  # fmt: skip
        axes.set(xlabel=label, xlim=(0, None))
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(table)), [wrapped(row[0]) for row in table])
    panels[0].set_ylim(len(table) - 0.5, -0.5)
    figure.suptitle(
        "Click-bait world: what each model retrieves, after 3 days (hollow) and after 13 (full)\n"
        "Means of three seeds of training; bar around the mean: largest less smallest (of read seconds). Axes from 0.",
        x=0.01, ha="left", fontsize=10,
    )  # fmt: skip
    return figure


def color_of(name: str) -> str:
    """Joint training green, what is distilled red, teachers blue, the oracle black, all that has no teacher grey."""
    if "joint" in name:
        return GREEN
    if any(part in name for part in ("preference", "as served", "the same")):
        return RED
    return BLUE if "teacher" in name else "black" if name == "oracle" else GREY


def wrapped(name: str, most: int = 34) -> str:
    """A row's name in two lines where it is long."""
    if len(name) <= most:
        return name
    cut = name.rfind(" ", 0, len(name) // 2 + 8)
    return f"{name[:cut]}\n{name[cut + 1 :]}"


def kuairand(table: list[list[str]]) -> Any:
    """Share of read time against recall of clicks: models, lists, and what is served by kappa."""
    by_name = {row[0]: row for row in table}
    (kappas,) = (row for row in table if row[0].startswith("kappa "))
    figure, axes = plt.subplots(figsize=(9, 5.4))
    points = {row[0]: (needed(row[4]), needed(row[5])) for row in table if row is not kappas}
    markers = dict(zip(points, "ooo*o^sDPvX<>h", strict=True))
    for name, (x, y) in points.items():
        color = color_of(name)
        axes.errorbar(
            x.mean, y.mean, xerr=[[x.mean - x.low], [x.high - x.mean]], yerr=[[y.mean - y.low], [y.high - y.mean]],
            fmt=markers[name], color=color, markerfacecolor="white" if name == "newest teacher" else color,
            markersize=6, elinewidth=1, alpha=0.9, label=name,
        )  # fmt: skip
    draw_curve(axes, by_name, kappas)
    axes.set(xlim=(0, None), ylim=(0, None), xlabel="recall@50 of clicks", ylabel="share of read time in the top 50")
    figure.legend(loc="outside right upper", fontsize=8)
    figure.suptitle(
        "KuaiRand, 6 days, whole catalogue. Settings of all models are the log's choice.\n"
        "Means of seeds 1, 2, 3 (lists and EASE have none); bar around the mean: largest less smallest.\nAxes from 0.",
        x=0.01, ha="left", fontsize=10,
    )  # fmt: skip
    return figure


def draw_curve(axes: Any, by_name: dict[str, list[str]], kappas: list[str]) -> None:
    """The line of what is served by kappa; `kappas` is the row that has several of them in a cell."""
    curve = {0.0: by_name["its preference"][4:], 0.7: by_name["student as served, kappa .7"][4:]}
    names, *cells = ([part.strip() for part in kappas[k].removeprefix("kappa ").split("/")] for k in (0, 4, 5))
    curve |= {float(name): [x, y] for name, x, y in zip(names, *cells, strict=True)}
    line = {kappa: (needed(x), needed(y)) for kappa, (x, y) in sorted(curve.items())}
    right, high = [x.mean for x, _ in line.values()], [y.mean for _, y in line.values()]
    axes.plot(right, high, color=RED, linewidth=1, marker=".", zorder=1, label="student by kappa")
    for kappa, (x, y) in line.items():
        beside = (-46, 5) if kappa else (18, -14)
        axes.annotate(f"kappa {kappa:g}", (x.mean, y.mean), textcoords="offset points", xytext=beside, fontsize=8)


def performance(table: list[list[str]]) -> Any:
    """Rates over those of others: a panel a kind of work, a line an opponent, a colour a variant of dmtl."""
    works = list(dict.fromkeys(row[0] for row in table))
    variants = [name for name in dict.fromkeys(row[1] for row in table) if name.startswith("fp32")]
    colors = dict(zip(variants, ("C0", "C1", "C2"), strict=True))
    heights = [len({row[2] for row in table if row[0] == work}) + 1 for work in works]
    size = 9, 1.8 + 0.3 * sum(heights)
    figure, panels = plt.subplots(len(works), 1, figsize=size, height_ratios=heights, sharex=True)
    for axes, work in zip(panels, works, strict=True):
        draw_work(axes, work, [row for row in table if row[0] == work], colors)
    panels[-1].set_xscale("log")
    panels[-1].set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    panels[-1].set_xlabel("rate of dmtl / rate of the other: logarithmic axis, 1 is equal")
    marks = [Line2D([], [], marker="o", linewidth=2, color=colors[name], label=name) for name in variants]
    figure.legend(handles=marks, loc="outside lower right", ncols=3, fontsize=8)
    figure.suptitle(
        "dmtl beside others on two cores, 300,000 rows\n"
        "Point: median of two interleaved rounds, each of another seed; bar: least to greatest.",
        x=0.01, ha="left", fontsize=10,
    )  # fmt: skip
    return figure


def draw_work(axes: Any, work: str, some: list[list[str]], colors: dict[str, str]) -> None:
    """A panel: the ratios of one kind of work, a line an opponent."""
    opponents = list(dict.fromkeys(row[2] for row in some))
    for _, ours, against, cell in some:
        value = needed(cell)
        shift = 0.2 * (list(colors).index(ours) - 1) if len(some) > len(opponents) else 0
        at = opponents.index(against) + shift
        color = colors.get(ours, "0.3")
        axes.plot([value.low, value.high], [at, at], color=color, linewidth=2, alpha=0.5)
        axes.plot(value.mean, at, "o", color=color, markersize=4)
    axes.set_title(work, fontsize=9, fontweight="bold")
    axes.set_yticks(range(len(opponents)), opponents, fontsize=8)
    axes.set_ylim(len(opponents) - 0.5, -0.5)
    axes.axvline(1, color="black", linewidth=0.8)


FIGURES: dict[str, Callable[[list[list[str]]], Any]] = {
    "click_bait": click_bait,
    "kuairand": kuairand,
    "performance": performance,
}


def digest(name: str) -> str:
    """The hash of a table, which its figure holds."""
    return hashlib.sha256((TABLES / f"{name}.csv").read_bytes()).hexdigest()


def main() -> None:
    with plt.rc_context(STYLE):
        for name, draw in FIGURES.items():
            figure = draw(rows_of(name))
            figure.savefig(DOCS / f"{name}.png", dpi=130, metadata={"Software": None, "Description": digest(name)})
            plt.close(figure)


if __name__ == "__main__":
    main()
