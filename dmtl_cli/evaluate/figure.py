"""The figure of a comparison: what is clicked against what is read. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmtl_cli.config.extras import has
from dmtl_cli.evaluate.settings import BASELINES, HISTORIES, JOINT, UNTAUGHT
from dmtl_cli.evaluate.table import OWN_TEACHER, Table

NAMED = {"student": "#c1121f", "student_teacher": "#003049", JOINT: "#2a7f62"}
"""colours of the models that every comparison has; baselines are grey, settings take the next colour and marker"""
_COLOURS = ("#e08e0b", "#7b4fa3", "#3f8fd2", "#8a5a2b", "#d6579a", "#5b8c1a", "#159a9c")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">")


@dataclass(frozen=True)
class Axis:
    metric: str
    label: str


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return has("matplotlib")


def draw(table: Table, file: Path) -> None:
    """Writes the figure as PNG."""
    figure_of(table).savefig(file, dpi=150, metadata={"Software": None})


def figure_of(table: Table) -> Any:
    """A matplotlib figure of the top K: one point per seed, one colour and marker per model; a line through what the
    student of two blocks retrieves by other weights of exposure, from its preference alone (kappa 0)."""
    from matplotlib.figure import Figure

    x, y = _axes(table.numbers["student"], table.k)
    shown = [n for n in table.models if n not in ("oracle", "teacher") and table.seeds(n, x.metric)]
    shown = [n for n in shown if table.seeds(n, y.metric) and not n.endswith((".preference", OWN_TEACHER))]
    figure = Figure(figsize=(8, max(4.4, 0.5 + 0.19 * len(shown))), layout="constrained")
    axes = figure.subplots()
    for name, style in _styles(shown).items():
        label = f"{name} (fewer users)" if name == "student_teacher" and table.fewer else name
        axes.scatter(table.seeds(name, x.metric), table.seeds(name, y.metric), label=label, **style)
    _draw_curve(axes, table, x, y)
    axes.set(xlabel=x.label, ylabel=y.label)
    for axis in (axes.xaxis, axes.yaxis):
        _from_zero(axis)
    axes.grid(color="#e6e6e6", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    if shown:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _draw_curve(axes: Any, table: Table, x: Axis, y: Axis) -> None:
    """The line over kappa, of means over seeds; its ends and what is served (a ring) are marked with their kappa. Of a
    student of one block nothing."""
    across, up = table.curve(x.metric), table.curve(y.metric)
    if not across or across.keys() != up.keys():
        return
    style = {"color": NAMED["student"], "linewidth": 1, "marker": ".", "markersize": 5, "zorder": 2}
    axes.plot(list(across.values()), list(up.values()), label="student by kappa (means)", **style)
    marked = {f"kappa {kappa:g}": (across[kappa], up[kappa]) for kappa in (min(across), max(across))}
    served, right, high = (table.mean("student", m) for m in ("kappa", x.metric, y.metric))
    if served and right is not None and high is not None:
        marked[f"served: {served:.2g}"] = right, high
        axes.plot(right, high, marker="o", markersize=8, markerfacecolor="none", markeredgecolor="black", zorder=5)
    for text, at in marked.items():
        axes.annotate(text, at, textcoords="offset points", xytext=(5, -9), fontsize=7, zorder=6)


def _from_zero(axis: Any) -> None:
    """Begins an axis at 0, unless a third of it would be empty: then its label says that it does not."""
    low, high = axis.get_data_interval()
    if low > high / 3:
        axis.set_label_text(f"{axis.get_label_text()} (axis not from 0)")
    else:
        axis.set_view_interval(0, axis.get_view_interval()[1], ignore=True)


def _axes(metrics: Collection[str], k: int) -> tuple[Axis, Axis]:
    """In a world with a known truth expected click rate and read seconds, else the recall of clicks and of read time
    or, in a log without durations, of conversions."""
    if f"read_seconds@{k}" in metrics:
        reading = Axis(f"read_seconds@{k}", f"expected read seconds of the top {k}")
        return Axis(f"click_rate@{k}", f"expected click rate of the top {k}"), reading
    clicks = Axis(f"click.recall@{k}", f"recall@{k} of clicks")
    if f"time_recall@{k}" in metrics:
        return clicks, Axis(f"time_recall@{k}", f"share of read time in the top {k}")
    return clicks, Axis(f"read.recall@{k}", f"recall@{k} of conversions")


def _styles(names: list[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and size of each model's points."""
    grey = [n for n in names if n in (*BASELINES, *HISTORIES, *UNTAUGHT)]
    settings = [n for n in names if n not in NAMED and n not in grey]
    styles = {n: {"color": colour, "marker": "o", "s": 56, "zorder": 3} for n, colour in NAMED.items()}
    for k, name in enumerate(grey):
        styles[name] = {"color": "#8d8d8d", "marker": _MARKERS[k % len(_MARKERS)], "s": 26, "zorder": 2}
    for k, name in enumerate(settings):
        marker = _MARKERS[(k + k // len(_COLOURS)) % len(_MARKERS)]
        styles[name] = {"color": _COLOURS[k % len(_COLOURS)], "marker": marker, "s": 26, "zorder": 4}
    return {name: styles[name] for name in names}
