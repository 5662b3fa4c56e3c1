"""The sections of a page that a person judges a day by: headline, what flowed, metrics, gates, cost, what is served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dmtl_cli.config.evaluate import LISTS, TOPK
from dmtl_cli.report.blocks import (
    Cell,
    Chart,
    Charts,
    Lines,
    Section,
    State,
    Table,
    Tile,
    Tiles,
    duration,
    number,
    share,
    size,
)
from dmtl_cli.report.charts import bars, trend
from dmtl_cli.report.facts import SHOWN, Facts, Numbers
from dmtl_cli.report.features import drifts
from dmtl_cli.report.style import STYLES, called
from dmtl_cli.report.words import Words
from dmtl_cli.runs.differences import config_changes

_FLOWS = (
    ("inputs.rows", "rows", number),
    ("inputs.users", "users", number),
    ("inputs.items", "items", number),
    ("inputs.new_share.users", "new users", share),
    ("inputs.new_share.items", "new items", share),
    ("inputs.click_rate", "click rate", share),
    ("inputs.conversion_rate.cvr", "{rate}", share),  # of `Words`
    ("inputs.duration.mean", "mean seconds of a click", number),
)
_BEST = 2  # lists in a tile
_JUDGED = ("teacher.auc", "teacher.next_auc", "teacher.pcoc", "export.recall", "export.over_popularity", "student.kd")


def headline(facts: Facts) -> Section:
    """What a person judges the day by."""
    tiles = [
        _served_tile(facts),
        _gates_tile(facts),
        *_quality_tiles(facts.today, facts.k, facts.words),
        *_amount_tiles(facts),
    ]
    return Section("headline", "Headline", "", [Tiles(tiles)])


def _served_tile(facts: Facts) -> Tile:
    if facts.served is None:
        return Tile("served", "nothing", ["no export is published"], "bad")
    day = facts.served.parent.name.removeprefix("day=")
    beside = [facts.served.name.removeprefix("run-")]
    if facts.pinned is not None:
        return Tile("served", day, [*beside, "pinned by hand"], "note")
    mine = day == str(facts.day)
    return Tile(
        "served", day, [*beside, "this day's export" if mine else "not this day's export"], "good" if mine else "note"
    )


def _gates_tile(facts: Facts) -> Tile:
    gates = facts.today.gates
    failed = sorted(name for name, gate in gates.items() if not gate.get("passed"))
    if failed or facts.refused:
        named = failed[:2] or [f"{stage} refused" for stage in facts.refused]
        more = [f"and {len(failed) - 2} more"] if len(failed) > 2 else []
        return Tile("gates", f"{len(failed) or len(facts.refused)} failed", [*named, *more], "bad")
    if not gates:
        return Tile("gates", "none", ["nothing was judged"], "note")
    return Tile("gates", f"{len(gates)} passed", ["all of them"], "good")


def _quality_tiles(today: Numbers, k: int, words: Words) -> Iterator[Tile]:
    """What the evaluation says of the models that were ready before the day."""
    for label, word in (("ctr", "click"), ("ctcvr", words.label), ("cvr", words.of("cvr"))):
        auc = today.metric("evaluation", f"teacher.{label}.auc")
        if auc is None or (label == "cvr" and today.metric("evaluation", "teacher.ctcvr.auc") is not None):
            continue
        other = today.metric("evaluation", f"regression.{label}.auc")
        beside = [] if other is None else [f"regression {number(other)}"]
        yield Tile(f"AUC, {word}", number(auc), ["teacher, on this day", *beside], _beside(auc, other))
    pcoc = {label: today.metric("evaluation", f"teacher.{label}.pcoc") for label in ("ctr", "ctcvr", "cvr")}
    known = [(label, value) for label, value in pcoc.items() if value is not None]
    if known:
        yield _pcoc_tile(known, words)
    for label in ("read", "click"):
        found = today.metric("evaluation", f"student.{label}.recall@{k}")
        if found is not None:
            lists = today.lists(f"{label}.recall@{k}")
            beside = [f"{called(name)} {number(value)}" for value, name in lists[:_BEST]]
            best = lists[0][0] if lists else None
            yield Tile(f"Recall@{k}, {words.of(label)}", number(found), beside, _beside(found, best))


def _pcoc_tile(known: Sequence[tuple[str, float]], words: Words) -> Tile:
    """The mark is that of the first label; what is far from 1 of the others says so itself."""
    (label, first), *rest = known
    near = [abs(value - 1) < 0.1 for _, value in known]
    state: State = "note" if not near[0] else "good" if all(near) else ""
    lines = [
        f"{words.of(name)} {number(value)}{'' if is_near else ', more than .1 from 1'}"
        for (name, value), is_near in zip(rest, near[1:], strict=True)
    ]
    return Tile(f"PCOC, {words.of(label)}", number(first), lines, state)


def _beside(value: float, other: float | None) -> State:
    return "" if other is None else "good" if value >= other else "note"


def _amount_tiles(facts: Facts) -> Iterator[Tile]:
    today = facts.today
    rows = next((n for s in ("profile", "evaluation") if (n := today.count(s, "events")) is not None), None)
    before = facts.days[-2].count("profile", "events") if len(facts.days) > 1 else None
    yield Tile("rows", number(rows), [] if before is None else [f"{number(before)} the day before"])
    took = [facts.took[m.run_id]["seconds"] for m in facts.runs if m.run_id in facts.took]
    if took:
        yield Tile("time", duration(sum(took)), [f"{len(took)} runs"])
    compared = [d for d in drifts(facts) if d.then]
    if compared:
        moved = [d.name for d in compared if d.moved]
        more = [f"and {len(moved) - 3} more"] if len(moved) > 3 else []
        yield Tile(
            "features", f"{len(moved)} of {len(compared)} moved", [*moved[:3], *more], "note" if moved else "good"
        )
    if told := warnings(facts):
        yield Tile("warnings", str(len(told)), ["see below"], "note")


def flow(facts: Facts) -> Section:
    """Rows, users, items, new ids and rates by day."""
    days = [n.day for n in facts.days]
    charts = [
        chart
        for name, word, show in _FLOWS
        if (
            chart := trend(
                word.format(rate=facts.words.rate),
                days,
                {name: [n.gate(name) for n in facts.days]},
                limits=_limits(facts, name),
                show=show,
            )
        )
    ]
    if not charts:  # gates are off, or the day before any profile
        named = {"rows": ("profile", "events"), "users": ("evaluation", "users"), "items": ("evaluation", "items")}
        every = (trend(word, days, {word: [n.count(*at) for n in facts.days]}) for word, at in named.items())
        charts = [chart for chart in every if chart]
    return Section("flow", "What flowed", "By day of the log. The band is what the gate lets pass.", _side(charts))


def metrics(facts: Facts) -> Section:
    """What was measured on each day, and what its gates judged."""
    measured = [*_measured(facts)]
    names = sorted({n for d in facts.days for n in d.gates if n.startswith(_JUDGED)}, key=_judged_order)
    days, words = [n.day for n in facts.days], facts.words
    judged = [
        trend(_gate_words(name, words), days, {name: [n.gate(name) for n in facts.days]}, limits=_limits(facts, name))
        for name in names
    ]
    lead = (
        "Measured on each day's log: what was ready before it. Then what the gates judged, with their limits as a band."
    )
    return Section("metrics", "Metrics by day", lead, _side([*measured, *judged]))


def _measured(facts: Facts) -> Iterator[Chart | None]:
    models = ("teacher", "student.preference", "regression")
    for label in ("ctr", "ctcvr", "cvr"):
        yield _models(facts, f"AUC, {facts.words.of(label)}", models, f"{label}.auc")
    pcoc = {facts.words.of(label): _series(facts, f"teacher.{label}.pcoc") for label in ("ctr", "cvr", "ctcvr")}
    for word, values in pcoc.items():
        yield trend(f"PCOC of the teacher, {word}", [n.day for n in facts.days], {word: values}, rule=1.0)
    for metric, word in (
        ("read.recall", f"Recall@{{}}, {facts.words.label}"),
        ("click.recall", "Recall@{}, click"),
        ("time_recall", "Recall@{} of read seconds"),
    ):
        yield _models(facts, word.format(facts.k), ("student", *LISTS), f"{metric}@{facts.k}")
    both = ("student", "student.preference")  # a list's is K of its items
    yield _models(facts, f"Coverage@{facts.k} of the catalogue", both, f"coverage@{facts.k}")


def _models(facts: Facts, title: str, models: Sequence[str], metric: str) -> Chart | None:
    series = {m: _series(facts, f"{m}.{metric}") for m in models}
    return trend(title, [n.day for n in facts.days], series)


def _series(facts: Facts, name: str) -> list[float | None]:
    return [n.metric("evaluation", name) for n in facts.days]


def _limits(facts: Facts, name: str) -> list[tuple[float | None, float | None] | None]:
    found = [n.gates.get(name, {}).get("limit") for n in facts.days]
    return [None if pair is None else (pair[0], pair[1]) for pair in found]


def _judged_order(name: str) -> tuple[int, str]:
    return next(k for k, begin in enumerate(_JUDGED) if name.startswith(begin)), name


def _gate_words(name: str, words: Words) -> str:
    begin = next(b for b in _JUDGED if name.startswith(b))
    rest, _, at = name.removeprefix(begin).strip(".").partition("@")
    k = at or TOPK[0]  # of another K a gate's name ends with it
    measures = {
        "teacher.auc": "held-out AUC",
        "teacher.next_auc": "AUC before learning",
        "teacher.pcoc": "held-out PCOC",
        "export.recall": f"Recall@{k} on its own day",
        "export.over_popularity": f"Recall@{k} over popularity's",
        "student.kd": "KD loss over a constant's",
    }
    return f"{measures[begin]}, {words.of(rest)}" if rest else measures[begin]


def _side(charts: Iterable[Chart | None]) -> list[Charts]:
    kept = [chart for chart in charts if chart is not None]
    return [Charts(kept)] if kept else []


def gates(facts: Facts) -> Section:
    """All gates, those that failed first."""
    found = sorted(
        facts.today.gates.items(), key=lambda g: (bool(g[1].get("passed")), g[1].get("kind") != "quality", g[0])
    )
    rows: list[Sequence[Cell]] = [
        [_passed(g), name, number(g.get("value"), 4), _limit(g), number(g.get("baseline"), 4)] for name, g in found
    ]
    lines: list[tuple[str, State]] = [
        (f"{stage}: {line}", "bad") for stage, all_of in facts.refused.items() for line in all_of
    ]
    lines += [
        (f"{m.stage} {m.day}: published in spite of its gates: {m.facts['forced']}", "note")
        for m in facts.runs
        if "forced" in m.facts
    ]
    lines += [(f"{m.stage} {m.day}: its quality gates were off", "note") for m in facts.runs if m.facts.get("ungated")]
    failed = [row for row, (_, g) in zip(rows, found, strict=True) if not g.get("passed")]
    head = ["", "gate", "value", "limit", "median before"]
    blocks: list[Lines | Table] = [Lines(lines)] if lines else []
    if failed:
        blocks.append(Table(head, failed))
    if rest := rows[len(failed) :]:
        blocks.append(Table(head, rest, folded=f"{len(rest)} passed"))
    lead = (
        "A run that fails one is not published. The median is of the last published days."
        if rows
        else "Nothing was judged."
    )
    return Section("gates", "Gates", lead, blocks)


def _passed(gate: Any) -> Cell:
    return ("passed", "good") if gate.get("passed") else ("failed", "bad")


def _limit(gate: Any) -> str:
    least, most = gate.get("limit") or (None, None)
    if least is not None and least == most:
        return number(least, 4)
    words = [f"≥ {number(least, 4)}" if least is not None else "", f"≤ {number(most, 4)}" if most is not None else ""]
    return " and ".join(w for w in words if w) or "finite"


def cost(facts: Facts) -> Section:
    """Seconds of each stage as logs have them, and the peaks of memory of those that needed more than what the same
    process did before: after the others it stood where it was, to the byte."""
    seconds, peaks = {}, {}
    ids = {m.run_id for m in facts.runs}
    first: dict[float, str] = {}
    for run_id, took in facts.took.items():
        if run_id in ids and "peak_bytes" in took:
            first.setdefault(took["peak_bytes"], run_id)
    raised = {*first.values()}
    for m in facts.runs:
        name = m.stage
        if m.stage == "scores":
            name = f"scores by {(m.facts.get('teacher') or {}).get('day', m.day)}"
        took = facts.took.get(m.run_id, {})
        if "seconds" in took:
            seconds[name] = took["seconds"]
        if m.run_id in raised:
            peaks[name] = took["peak_bytes"]
    charts = [bars("seconds", seconds, duration)] if seconds else []
    if peaks:
        charts.append(bars("peak memory, where a stage raised it", peaks, size))
    lead = "From logs. Memory is that of the process so far; a stage that is not named needed no more than one before."
    return Section("cost", "Time and memory", lead if charts else "No log says how long the day took.", _side(charts))


def warnings(facts: Facts) -> list[tuple[str, State]]:
    """What stages doubt of what they made, and what could not be read."""
    told = dict.fromkeys(f"{m.stage} {m.day}: {line}" for m in facts.runs for line in m.facts.get("warnings", ()))
    return [*((line, "bad") for line in facts.problems), *((line, "note") for line in told)]


def doubts(facts: Facts) -> Section:
    """See `warnings`."""
    told = warnings(facts)
    return Section("warnings", "Warnings", "" if told else "None.", [Lines(told)] if told else [])


def served(facts: Facts) -> Section:
    """What is served when the page is written, and every run of the day."""
    rows: list[Sequence[Cell]] = []
    for m in facts.runs:
        made = ", ".join(f"{p['stage']} {p['day']}" for p in m.parents)
        rows.append([m.stage, m.run_id, m.key[:12], size(sum(f["bytes"] for f in m.files)), made or "the log"])
    lines: list[tuple[str, State]] = []
    if facts.served is not None:
        lines.append((f"LATEST: {facts.served.parent.name}/{facts.served.name}", ""))
    if facts.pinned is not None:
        lines.append((f"PINNED: {facts.pinned.parent.name}/{facts.pinned.name}, until dmtl rollback --unpin", "note"))
    table = Table(["stage", "run", "key", "bytes", "made from"], rows, folded=f"{len(rows)} runs of the day")
    blocks: list[Lines | Table] = ([Lines(lines)] if lines else []) + ([table] if rows else [])
    return Section("served", "What is served", "" if lines else "No export is served.", blocks)


def config(facts: Facts) -> Section:
    """Keys that differ from those of the day before, of all stages, each once."""
    changes: dict[tuple[str, str, str], list[str]] = {}
    compared = False
    for stage in SHOWN:
        now, then = facts.run(stage), facts.yesterday.get(stage)
        if now is None or then is None or stage == "tune":
            continue
        compared = True
        for change in config_changes(then, now):
            changes.setdefault(change, []).append(stage)
    rows: list[Sequence[Cell]] = [[key, then, now, ", ".join(stages)] for (key, then, now), stages in changes.items()]
    if rows:
        return Section(
            "config", "Config", "What differs from the day before.", [Table(["key", "then", "now", "stages"], rows)]
        )
    return Section("config", "Config", "As the day before." if compared else "There is no day before to compare with.")


def inputs(facts: Facts) -> Section:
    """Files of the log that the day's runs read, each once."""
    found = {one["path"]: one for m in facts.runs for one in m.inputs if isinstance(one, dict) and "path" in one}
    rows: list[Sequence[Cell]] = [
        [path, one.get("rows"), size(one.get("bytes")), str(one.get("digest", ""))[:12]]
        for path, one in sorted(found.items())
    ]
    most = 200
    total = sum(one.get("bytes") or 0 for one in found.values())
    lead = f"{len(rows)} files, {size(total)}." if rows else "None."
    head = ["file", "rows", "bytes", "digest"]
    note = f"the first {most} of {len(rows)} files" if len(rows) > most else f"{len(rows)} files"
    return Section("inputs", "Inputs", lead, [Table(head, rows[:most], folded=note)] if rows else [])


def every_metric(facts: Facts) -> Section | None:
    """What the evaluation measured, a column a model; None where there was none."""
    by_name: dict[str, dict[str, float]] = {}
    for full, value in facts.today.metrics.items():
        stage, _, name = full.partition(":")
        model = max((m for m in STYLES if name.startswith(f"{m}.")), key=len, default=None)
        if stage == "evaluation" and model and "se" not in name.split(".") and ".kappa=" not in name:
            by_name.setdefault(name.removeprefix(f"{model}."), {})[model] = value
    if not by_name:
        return None
    models = [m for m in STYLES if any(m in found for found in by_name.values())]
    rows: list[Sequence[Cell]] = [
        [name, *(f"{found[m]:.4g}" if m in found else "–" for m in models)] for name, found in sorted(by_name.items())
    ]
    lead = "All that the evaluation measured of a model; docs/metrics.md says what each is."
    head = ["metric", *map(called, models)]
    return Section("all", "All metrics", lead, [Table(head, rows, folded=f"{len(rows)} metrics")])
