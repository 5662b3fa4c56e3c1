"""The sections about the models: calibration, scores, distillation, what is retrieved, experts, trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dmtl_cli.config.evaluate import LISTS
from dmtl_cli.report import charts
from dmtl_cli.report.blocks import Cell, Chart, Charts, Section, Table, number, share
from dmtl_cli.report.facts import Facts
from dmtl_cli.report.style import called
from dmtl_cli.report.words import TASKS

_ABSENT = "The day's evaluation stored nothing to draw: there was none, or an earlier version made it."
_RETRIEVED = ("student", "student.preference", "teacher", "read_popularity", "popularity", "clicked")
_DISTILLED = (
    ("evaluation", "student.kendall_tau", "Kendall's tau within users"),
    ("evaluation", "student.teacher_overlap@{}", "overlap of the top {}"),
    ("student", "distill.r2", "R² of the teacher's logits"),
    ("student", "loss.kd", "KD loss"),
    ("student", "epochs", "epochs"),
)


def calibration(facts: Facts) -> Section:
    """Reliability curves, and PCOC of every model that predicts a probability."""
    curves = (facts.curves or {}).get("reliability", {})
    drawn = [charts.reliability(facts.words.of(label), found) for label, found in sorted(curves.items(), key=_task)]
    today, words, rows = facts.today, facts.words, []
    for label in sorted({*TASKS, *curves}, key=lambda x: _task((x, None))):
        for model in ("teacher", "regression", "student.preference"):
            named = {m: today.metric("evaluation", f"{model}.{label}.{m}") for m in ("pcoc", "ne", "logloss", "auc")}
            if named["pcoc"] is not None:
                rows.append([words.of(label), called(model), *map(number, named.values())])
    lead = (
        "Observed over predicted rate of tenths of the rows, with two standard errors; "
        "the dashed diagonal is a calibrated model."
    )
    blocks: list[Charts | Table] = [Charts(drawn)] if drawn else []
    if rows:
        blocks.append(Table(["label", "model", "PCOC", "NE", "log loss", "AUC"], rows))
    return Section("calibration", "Calibration", lead if drawn else _ABSENT, blocks)


def scores(facts: Facts) -> Section | None:
    """Histograms of scores by label; None where the evaluation has none."""
    found = (facts.curves or {}).get("histograms", {})
    words = facts.words
    rows_with = {"ctr": ("clicked", "not clicked"), "cvr": words.has, "ctcvr": words.has}
    drawn = [
        charts.histogram(
            f"{words.of(label)}: {called(model)}",
            by_model[model],
            rows_with.get(label, (label, f"not {label}")),
        )
        for label, by_model in sorted(found.items(), key=_task)
        for model in ("teacher", "student")
        if model in by_model
    ]
    lead = "How far apart rows with and without the label are. Log-odds: 0 is 50%, −2 is 12%, −4 is 2%."
    return Section("scores", "Scores by label", lead, [Charts(drawn)]) if drawn else None


def _task(entry: tuple[str, Any]) -> tuple[int, str]:
    return (TASKS.index(entry[0]) if entry[0] in TASKS else len(TASKS)), entry[0]


COVERAGE = (
    "Coverage: the share of the items that a row can retrieve which are in the top {} of any of these users; a list "
    "that is the same for all can retrieve items with events alone."
)


def distillation(facts: Facts) -> Section:
    """Teacher and student side by side."""
    days, today, k, words = [n.day for n in facts.days], facts.today, facts.k, facts.words
    drawn = [
        charts.trend(word.format(k), days, {name.format(k): [n.metric(stage, name.format(k)) for n in facts.days]})
        for stage, name, word in _DISTILLED
    ]
    rows: list[Sequence[Cell]] = []
    models = ("teacher", "student_teacher", "student", "student.preference")
    for metric, word in (
        ("ctr.auc", "AUC, click"),
        ("ctcvr.auc", f"AUC, {words.of('ctcvr')}"),
        ("ctcvr.gauc", f"GAUC, {words.of('ctcvr')}"),
        (f"click.recall@{k}", f"Recall@{k}, click"),
        (f"read.recall@{k}", f"Recall@{k}, {words.label}"),
        (f"time_recall@{k}", f"Recall@{k} of read seconds"),
        (f"coverage@{k}", f"Coverage@{k}"),
    ):
        values = [today.metric("evaluation", f"{model}.{metric}") for model in models]
        if any(v is not None for v in values):
            rows.append([word, *map(number, values)])
    blocks: list[Charts | Table] = [Charts(kept)] if (kept := [c for c in drawn if c]) else []
    if rows:
        blocks.append(Table(["on this day", *map(called, models)], rows))
    lead = (
        "How closely the student follows the teacher it learned from, and what each is worth."
        if blocks
        else "There was no student yet."
    )
    return Section("distillation", "Teacher and student", lead, blocks)


def retrieved(facts: Facts) -> Section | None:
    """Popularity, age and coverage of what is retrieved, and how much of it lists have too; None without evaluation."""
    curves: Mapping[str, Any] = facts.curves or {}
    today, words, rows = facts.today, facts.words, []
    blocks: list[Charts | Table] = []
    drawn: list[Chart] = []
    if "popularity" in curves:
        shares = _shares(curves["popularity"])
        labels = ["top 10%", *(f"{10 * k}%" for k in range(2, 11)), "new", "gone"]
        drawn.append(
            charts.groups(
                "What popularity the retrieved items have", labels, shares, "the items' tenth by events before the day"
            )
        )
    if "age" in curves:
        drawn.append(
            charts.groups(
                "How old they are",
                _age_labels(curves["age_from"]),
                _shares(curves["age"]),
                "days since first seen",
            )
        )
    if drawn:
        blocks.append(Charts(drawn))
    for model in ("student", "student.preference", "student_teacher", "teacher", *LISTS):
        values = [today.metric("evaluation", f"{model}.{m}@{facts.k}") for m in ("coverage", "gini")]
        if values[0] is not None:
            rows.append(
                [called(model), share(values[0]), number(values[1]), share(curves.get("overlap", {}).get(model))]
            )
    if rows:
        blocks.append(Table([f"top {facts.k} of", "coverage", "Gini", "of the student's too"], rows))
    lists = "; ".join(f"{name}: {what.format(reads=f'{words.label}s')}" for name, what in LISTS.items())
    lead = f"The top {facts.k} of the users that are measured, beside what they clicked. {COVERAGE.format(facts.k)}"
    lead += f" Lists that are the same for all, by what was known that morning: {lists}."
    return Section("retrieved", "What is retrieved", lead, blocks) if blocks else None


def _shares(found: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    return {name: found[name] for name in _RETRIEVED if name in found}


def _age_labels(starts: Sequence[int]) -> list[str]:
    spans = [str(a) if b == a + 1 else f"{a}–{b - 1}" for a, b in itertools.pairwise(starts)]
    return ["new", *spans[1:], f"{starts[-1]}+", "gone"]


def experts(facts: Facts) -> Section:
    """How many experts each task's gate uses: exp of its entropy, as many as there are where all count the same."""
    run = facts.run("teacher")
    found = (
        {}
        if run is None
        else {n: v for n, v in run.metrics.items() if n.startswith("gate.") and n.endswith(".entropy")}
    )
    names = {n.split(".")[1]: v for n, v in found.items()}
    if not names or run is None:
        return Section("experts", "Experts", "The teacher has no gates, or none was trained.")
    used = {facts.words.of(task): math.exp(v) for task, v in sorted(names.items(), key=_task)}
    largest = {facts.words.of(task): run.metrics.get(f"gate.{task}.max", 0.0) for task in names}
    count = run.config.get("teacher", {}).get("num_experts")
    drawn = [
        charts.bars("experts in use", used, number, most=float(count or max(used.values()))),
        charts.bars("largest mean share of one expert", largest, share, most=1.0),
    ]
    of = f" of {count}" if count else ""
    return Section(
        "experts", "Experts", f"Experts{of} that each task's gate mixes, by the entropy of its shares.", [Charts(drawn)]
    )


def trials(facts: Facts) -> Section | None:
    """What was tried and taken; None where nothing was on this day."""
    run = facts.run("tune")
    tried: list[dict[str, Any]] = [] if run is None else run.facts.get("tried", [])
    if not tried or run is None:
        return None
    drawn, tables = [], []
    for model, of_model in itertools.groupby(tried, lambda t: str(t["model"])):
        rounds = {f"round {n}": list(ts) for n, ts in itertools.groupby(of_model, lambda t: t["round"])}
        points = {n: [(t["loss"], bool(t["taken"])) for t in ts if t["loss"] is not None] for n, ts in rounds.items()}
        axis = "distance from the teacher" if model == "student" else "log loss"
        if any(points.values()):
            drawn.append(charts.dots(f"{model}'s trials", {n: p for n, p in points.items() if p}, axis))
        rows: list[Sequence[Cell]] = [
            [n, _keys(t), t["epochs"], number(t["loss"], 5), ("taken", "good") if t["taken"] else ""]
            for n, ts in rounds.items()
            for t in ts
        ]
        tables.append(Table([model, "keys", "epochs", axis, ""], rows, folded=f"{len(rows)} trials of the {model}"))
    chosen: list[Sequence[Cell]] = [
        [key, "by rule" if v is None else number(v)] for key, v in run.facts.get("chosen", {}).items()
    ]
    first, last = run.facts["days"][0], run.facts["days"][-1]
    lead = f"What the log decided on {first}{'' if first == last else f' to {last}'}."
    return Section("trials", "Trials", lead, [Charts(drawn), Table(["chosen", "value"], chosen), *tables])


def _keys(trial: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{k.split('.', 1)[1]} {'by rule' if v is None else f'{v:g}'}" for k, v in trial.items() if "." in k
    )
