"""The index of pages: a row a day with its headline, and how the headline moved."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmtl_cli.config.days import folder_day
from dmtl_cli.config.evaluate import TOPK
from dmtl_cli.report.blocks import Cell, Charts, Section, Table, duration, number
from dmtl_cli.report.charts import trend
from dmtl_cli.report.facts import Facts
from dmtl_cli.report.page import held_in
from dmtl_cli.report.style import BEST_LIST
from dmtl_cli.report.words import READ, WORDS

_METRICS = (
    ("AUC click", "teacher.ctr.auc"),
    ("AUC {label}", "teacher.ctcvr.auc"),
    ("PCOC click", "teacher.ctr.pcoc"),
    ("Recall@{k} {label}", "student.read.recall@{k}"),
    ("best list", BEST_LIST + ".read.recall@{k}"),
)
"""what the table shows, and the name of each metric at a K"""


def held_of(facts: Facts) -> dict[str, Any]:
    """The headline that a page holds for the index."""
    gates = facts.today.gates.values()
    rows = facts.today.count("profile", "events")
    took = [facts.took[m.run_id]["seconds"] for m in facts.runs if m.run_id in facts.took]
    names = [name.format(k=facts.k) for _, name in _METRICS]
    best = next(iter(facts.today.lists(f"read.recall@{facts.k}")), None)
    return {
        "k": facts.k,
        "label": facts.words.label,
        "metrics": {n: facts.today.metric("evaluation", n) for n in names} | {names[-1]: best and best[0]},
        "rows": rows,
        "gates": len(gates),
        "failed": max(sum(not gate.get("passed") for gate in gates), len(facts.refused)),
        "seconds": round(sum(took), 1) if took else None,
        "warnings": sum(len(m.facts.get("warnings", ())) for m in facts.runs),
        "served": None if facts.served is None else facts.served.parent.name.removeprefix("day="),
        "exported": facts.run("export") is not None,
    }


def pages(folder: Path) -> dict[dt.date, Mapping[str, Any]]:
    """What the pages of a folder hold, by day."""
    found: dict[dt.date, Mapping[str, Any]] = {}
    for file in sorted(folder.glob("day=*.html")):
        day = folder_day(file.stem.removeprefix("day="))
        held = held_in(file)
        if day is not None and isinstance(held, dict):
            found[day] = held
    return found


def index_sections(found: Mapping[dt.date, Mapping[str, Any]]) -> Sequence[Section]:
    """Trends, then the table, the newest day first; in the words of the newest page and with recall at its K,
    of days that have it."""
    days = sorted(found)
    newest = found[days[-1]] if days else {}
    k, words = newest.get("k", TOPK[0]), WORDS.get(newest.get("label", ""), READ)
    said = {"k": k, "label": words.label}
    named = [(word.format(**said), name.format(k=k)) for word, name in _METRICS]
    charts = [
        trend("rows", days, {"rows": [found[d].get("rows") for d in days]}) if days else None,
        *(_trend(days, found, word, [name]) for word, name in named[:3]),
        _trend(days, found, f"Recall@{k}, {words.label}", [name for _, name in named[3:]]) if days else None,
        trend("time", days, {"time": [found[d].get("seconds") for d in days]}, show=duration) if days else None,
    ]
    head = ["day", "gates", "rows", *(word for word, _ in named), "time", "warnings"]
    table = Table(head, [_row(day, found[day], [name for _, name in named]) for day in reversed(days)])
    lead = f"{len(days)} days with a page." if days else "No day has a page yet."
    return [
        Section("days", "Days", lead, [table] if days else []),
        Section("trends", "Trends", "", [Charts([chart for chart in charts if chart is not None])]),
    ]


def _trend(
    days: Sequence[dt.date],
    found: Mapping[dt.date, Mapping[str, Any]],
    title: str,
    names: Sequence[str],
) -> Any:
    series = {name.partition(".")[0]: [found[d].get("metrics", {}).get(name) for d in days] for name in names}
    return trend(title, days, series) if days else None


def _row(day: dt.date, held: Mapping[str, Any], names: Sequence[str]) -> list[Cell]:
    failed, count = held.get("failed") or 0, held.get("gates") or 0
    gates: Cell = (f"{failed} failed", "bad") if failed else (f"{count} passed", "good") if count else ("none", "note")
    metrics = [number(held.get("metrics", {}).get(name)) for name in names]
    return [
        (str(day), "", f"day={day}.html"),
        gates,
        number(held.get("rows")),
        *metrics,
        duration(held.get("seconds")),
        held.get("warnings") or None,
    ]
