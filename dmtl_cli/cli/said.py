"""What a finished stage says: one line that a person can judge, made from its manifest; on the terminal as it ends,
and in `status`."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any, NamedTuple

from dmtl_cli.config.commands import of_config
from dmtl_cli.config.errors import UserError, printable
from dmtl_cli.config.evaluate import LISTS, TOPK, k_of, read_of, reads_of
from dmtl_cli.evaluate.verdict import verdict
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.reachable import Runs
from dmtl_cli.runs.workspace import STAGES, Workspace

if TYPE_CHECKING:
    from dmtl_cli.runs.run import Result

DAYS = 3  # of which `status` shows numbers
_DONE = {"clicks": "clicked", "reads": "read", "good clicks": "a good click"}
_SOURCES = {"exposed": "shown", "negative": "drawn", "candidate": "retrieved"}
Earlier = dict[str, list[list[float]]]
"""warnings that were told, without their numbers, and these"""
_NUMBER = re.compile(r"(?<![\w.,-])(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?![\w-])")  # of its own: none of onehot_feat3
_EXAMPLES, _DATE = re.compile(r" \(such as [^()]*\)"), re.compile(r"\d{4}-\d{2}-\d{2}")
_MOST = 0.8  # of what was wanted is in the export, before it is told how much
_CHANCES, _SELDOM = 20, 0.1  # repeats by chance that tell something; of these there are, where nobody repeats a click
_FAR = 2  # times as large a number of a warning makes it news
_ROWS = {"profile": "events", "tune": "learned", "teacher": "log", "student": "learned", "evaluation": "events"}
"""which of a manifest's rows a person calls the rows of the stage"""


def line(m: Manifest, seconds: float | None = None, *, up_to_date: bool = False) -> str:
    """`teacher 2026-01-02  AUC click .771 read .743  PCOC 1.02  300,000 rows in 24 s  db81e78`."""
    numbers = _NUMBERS.get(m.stage, _loss)(m)
    gone = sum(m.facts.get("left_out", {}).values())
    numbers = [*numbers, f"{gone:,} rows left out" if gone else ""]
    parts = [f"{m.stage:<10} {m.day}", *numbers, "up to date" if up_to_date else _work(m, seconds), m.run_id[:7]]
    return "  ".join(filter(None, parts))


def day_line(day: dt.date, made: Sequence[Result] | UserError, config: Path, earlier: Earlier | None = None) -> str:
    """`2026-01-03  recall@50 of reads: served .212, best list .179 (popularity): better by .033 ±.010  export 53180a3`:
    what a day's evaluation found, what was exported of it, and below it a line for each warning of the day that was
    not told of a day before; or why it was refused.

    Args:
        config: the file that the command was given, for what is to be called next.
        earlier: what was told of the days before, to which this day's warnings are added.
    """
    if isinstance(made, UserError):
        return printable(f"{day}  refused: {made.message}")
    runs = {r.stage: r for r in made if r.day == str(day)}
    manifests = [Manifest.read(Path(r.path) / MANIFEST) for r in made if r.day == str(day)]
    found = [_evaluation(m, aim_alone=True) for m in manifests if m.stage == "evaluation"]
    doubts = dict.fromkeys(warning for m in manifests for warning in m.facts.get("warnings", ()))
    told = [doubt for doubt in doubts if earlier is None or _is_news(doubt, earlier)]
    if earlier is not None:
        for doubt in told:
            earlier.setdefault(_words(doubt), []).append(_figures(doubt))
    again = len(doubts) - len(told)
    exported = runs.get("export")
    served = f"export {exported.run_id[:7]}" if exported else "no student yet"
    held = f", not served: LATEST is pinned to {exported.pinned}" if exported and exported.pinned else ""
    done = "up to date" if all(r.up_to_date for r in made) else ""
    known = f"{again} warning{'s' * (again > 1)} as before" if again else ""
    whole = [str(day), *(found[0] if found else ["nothing to measure yet"]), served + held, known, done]
    lines = [printable(f"  warning: {of_config(doubt, config)}") for doubt in told]
    return "\n".join(["  ".join(filter(None, whole)), *lines])


def days_line(made: Sequence[Result]) -> str | None:
    """`4 days: recall@50 of reads: served .407, best list of each day .400: no sure difference, +.007 ±.008`: the means
    of the days that were measured, with the larger of the errors that users and days tell; None of fewer than two."""
    known: list[tuple[str, float, float, float, float]] = []
    for m in (Manifest.read(Path(r.path) / MANIFEST) for r in made if r.stage == "evaluation"):
        for label in _recalled(m)[:1]:
            c = _compared(m, label)
            if c.served is not None and c.best is not None and c.by is not None and c.error is not None:
                known.append((f"recall@{k_of(m.config)} of {_counted(m, label)}", c.served, c.best, c.by, c.error**2))
    if len(known) < 2 or len({what for what, *_ in known}) > 1:
        return None
    served, lists, by, squares = [*zip(*known, strict=True)][1:]
    error = math.sqrt(max(fmean(squares), variance(by)) / len(known))
    means = f"served {_short(fmean(served))}, best list of each day {_short(fmean(lists))}"
    return f"{len(known)} days: {known[0][0]}: {means}: {_verdict(fmean(by), error)}"


def repeats_line(made: Sequence[Result], seen_days: int) -> str | None:
    """What to do where users do not click what they have clicked already, though what is served has it; None where they
    do, where days are too few to tell, and where that is left out.

    Args:
        seen_days: of how many days `exclude_seen` leaves it out.
    """
    days = [Manifest.read(Path(r.path) / MANIFEST) for r in made if r.stage == "evaluation"]
    found, by_chance = (sum(m.metrics.get(f"repeats.{name}", 0.0) for m in days) for name in ("found", "by_chance"))
    if by_chance < _CHANCES or found > _SELDOM * by_chance or any("excluded" in m.rows for m in days):
        return None
    times = "once" if found == 1 else f"{found:,.0f} times"
    seen = f"what users had clicked before they clicked again {times}, {by_chance:,.0f} by chance"
    further = "" if seen_days > 1 else "export.seen_days: 30 leaves out that of 30 days, "
    return f"{seen}: ask with exclude_seen; {further}evaluate.exclude_seen: true measures so"


def _is_news(doubt: str, earlier: Earlier) -> bool:
    """Whether a warning says what none of another day did, or a number of it is now another one by far."""
    now, told = _figures(doubt), earlier.get(_words(doubt), [])
    return all(any(max(a, b) > _FAR * min(a, b) for a, b in zip(then, now, strict=True)) for then in told)


def _words(doubt: str) -> str:
    """A warning without its numbers and days, and without the ids that it names as examples."""
    return _NUMBER.sub("#", _plain(doubt))


def _figures(doubt: str) -> list[float]:
    return [float(text.replace(",", "")) for text in _NUMBER.findall(_plain(doubt))]


def _plain(doubt: str) -> str:
    return _DATE.sub("DAY", _EXAMPLES.sub("", doubt))


def telling(log: RunLog) -> Callable[[Path, Manifest, float | None], None]:
    """A listener of the log that says the line of each result; in a comparison only of what it makes."""

    def hear(_: Path, m: Manifest, seconds: float | None) -> None:
        if seconds is not None or not log.place:
            log.say(line(m, seconds, up_to_date=seconds is None))

    return hear


def newest(ws: Workspace) -> list[dict[str, Any]]:
    """The line of every run of the newest published days, by day: stage, day, run_id, line. What cannot be read is
    left out; the table of `status` tells of it."""
    runs = Runs(ws)
    days = sorted({day for stage in STAGES for day in runs.days(stage)})[-DAYS:]
    found = [m for day in days for stage in STAGES if day in runs.days(stage) for m in _manifests(runs, stage, day)]
    took = RunLog.took(ws.root / "logs", {m.run_id for m in found})
    return [
        {"stage": m.stage, "day": str(m.day), "run_id": m.run_id, "line": line(m, took.get(m.run_id))} for m in found
    ]


def _manifests(runs: Runs, stage: str, day: dt.date) -> Iterator[Manifest]:
    with suppress(UserError):
        for run in runs.current(stage, day).values():
            with suppress(UserError):
                yield Manifest.read(run / MANIFEST)  # whole: its config says at which K it was measured


# -- the numbers of each stage -----------------------------------------------------------------------------------------


def _profile(m: Manifest) -> list[str]:
    shares = {what: m.metrics.get(f"{what}.known_share") for what in ("users", "items")}
    known = [f"{what} {share:.0%}" for what, share in shares.items() if share is not None]
    counts = f"{m.rows.get('users', 0):,} users, {m.rows.get('items', 0):,} items"
    return [counts, f"known before: {', '.join(known)}" if known else ""]


def _tune(m: Manifest) -> list[str]:
    return [f"{len(m.facts.get('chosen', ()))} settings chosen in {len(m.facts.get('tried', ()))} trials"]


def _teacher(m: Manifest) -> list[str]:
    """AUC and PCOC of held-out rows; of a read, or good click, given a click."""
    tasks = [name.split(".")[1] for name in m.metrics if name.startswith("held_out.") and name.count(".") == 2]
    known = _tasks(m)
    aucs = _listed(m.metrics, "held_out.{}.auc", known | {task: task for task in sorted({*tasks} - {*known})})
    pcoc = _gates(m).get("teacher.pcoc.ctr")
    return [f"AUC {aucs}", f"PCOC {pcoc:.2f}" if pcoc is not None else ""] if aucs else _loss(m)


def _scores(m: Manifest) -> list[str]:
    counts = [f"{m.rows[kind]:,} {word}" for kind, word in _SOURCES.items() if m.rows.get(kind)]
    medians = {name: 1 / (1 + math.exp(-x)) for name, x in _gates(m).items() if name.startswith("scores.p50.")}
    middle = _listed(medians, "scores.p50.{}", _tasks(m))
    return [_by(m), f"median P {middle}" if middle else "", ", ".join(counts)]


def _student(m: Manifest) -> list[str]:
    fit = m.metrics.get("distill.r2")
    return [_by(m), *([f"R² to its scores {_short(fit)}"] if fit is not None else _loss(m))]


def _export(m: Manifest) -> list[str]:
    k, kappa = m.config.get("k", TOPK[0]), m.facts.get("kappa")
    named = "export.recall.{}" if k == TOPK[0] else f"export.recall.{{}}@{k}"
    found = _listed(_gates(m), named, {"click": "click", "read": read_of(m.config)})
    return [
        f"recall@{k} of its own day {found}" if found else "",
        f"kappa {kappa:g}" if kappa else "",
        f"{m.rows.get('items', 0):,} items, {m.rows.get('users', 0):,} users",
    ]


def _evaluation(m: Manifest, *, aim_alone: bool = False) -> list[str]:
    """Recall of what is served beside the best list that is the same for all, of reads, which are the aim, and of
    clicks; AUC of the morning's teacher."""
    found = {label: _recalls(m, label, aim=k == 0) for k, label in enumerate(_recalled(m))}
    (aim, recalls), *others = [(label, recalls) for label, recalls in found.items() if recalls] or [("", "")]
    told = f"recall@{k_of(m.config)} of {_counted(m, aim)}: {recalls}" if aim else ""
    others_told = [] if aim_alone else [f"of {_counted(m, label)}, not the aim: {other}" for label, other in others]
    taken, there = m.rows.get("users", 0), m.rows.get("active_users", 0)
    bound = "max_users" if taken == m.config.get("evaluate", {}).get("max_users") else "share"
    sampled = told and taken < there and not aim_alone  # its error says what that costs
    users = f"a sample of {taken:,} of {there:,} users (evaluate.{bound})" if sampled else ""
    unseen = "without what they had seen (evaluate.exclude_seen)" if told and m.rows.get("excluded") else ""
    aucs = _listed(m.metrics, "teacher.{}.auc", _tasks(m))
    return ["; ".join(filter(None, [told, *others_told, users, unseen])), f"teacher AUC {aucs}" if aucs else ""]


def _recalled(m: Manifest) -> list[str]:
    """Whose recall was measured: of reads, then of clicks, which alone are the aim where nothing else was measured."""
    at = f"recall@{k_of(m.config)}"
    return [label for label in ("read", "click") if any(name.endswith(f".{label}.{at}") for name in m.metrics)]


def _counted(m: Manifest, label: str) -> str:
    return "clicks" if label == "click" else reads_of(m.config)


def _recalls(m: Manifest, label: str, *, aim: bool) -> str:
    """`served .212, best list .179 (popularity): better by .033 ±.010`, without the verdict where that is not the aim;
    with what could be found at most, where much of what was wanted is not there."""
    c, metric = _compared(m, label), f"{label}.recall@{k_of(m.config)}"
    verdict = f": {_verdict(c.by, c.error)}" if aim and c.by is not None and c.error is not None else ""
    most = m.metrics.get(f"student.{label}.ceiling", 1.0)
    bound = (
        f"; at most {_short(most)}, as what else was {_DONE[_counted(m, label)]} is not in the export"
        if aim and most < _MOST
        else ""
    )

    def shown(name: str, value: float) -> str:
        error = None if verdict or not aim else m.metrics.get(f"{name}.{metric}.se")
        return _short(value) if error is None else f"{_short(value)} ±{_short(error)}"

    parts = [f"served {shown('student', c.served)}"] if c.served is not None else []
    parts += [f"best list {shown(c.list, c.best)} ({c.list})"] if c.list and c.best is not None else []
    return ", ".join(parts) + verdict + bound


class _Compared(NamedTuple):
    """What is served of a day, and the best list that is the same for all: None where it was not measured."""

    served: float | None
    list: str | None
    best: float | None
    by: float | None
    """how much more is served of it than of the list, mean over users, with its standard error"""
    error: float | None


def _compared(m: Manifest, label: str) -> _Compared:
    metric = f"{label}.recall@{k_of(m.config)}"
    lists = {name: m.metrics[f"{name}.{metric}"] for name in LISTS if f"{name}.{metric}" in m.metrics}
    best = max(lists, key=lists.__getitem__, default=None)
    ahead = m.metrics.get(f"{best}.{metric}.ahead_of_student")
    error = m.metrics.get(f"{best}.{metric}.ahead_of_student.se")
    by = None if ahead is None else -ahead
    return _Compared(m.metrics.get(f"student.{metric}"), best, lists.get(best or ""), by, error)


def _verdict(by: float, error: float) -> str:
    """`better by .033 ±.010`, or that the difference may be chance."""
    word = verdict(by, error)
    told = f"{_short(abs(by))} ±{_short(error)}"
    return f"{word} by {told}" if word else f"no sure difference, {'-' if by < 0 else '+'}{told}"


def _loss(m: Manifest) -> list[str]:
    return [f"loss {m.metrics['loss']:.3f}"] if "loss" in m.metrics else []


_NUMBERS: dict[str, Callable[[Manifest], list[str]]] = {
    "profile": _profile,
    "tune": _tune,
    "teacher": _teacher,
    "scores": _scores,
    "student": _student,
    "export": _export,
    "evaluation": _evaluation,
}


# -- words -------------------------------------------------------------------------------------------------------------


def _tasks(m: Manifest) -> dict[str, str]:
    """As a person calls what a task predicts; others by their name."""
    return {"ctr": "click", "cvr": read_of(m.config)}


def _work(m: Manifest, seconds: float | None) -> str:
    took = "" if seconds is None else _duration(seconds)
    rows = m.rows.get(_ROWS.get(m.stage, ""))
    return took if rows is None else f"{rows:,} rows{f' in {took}' if took else ''}"


def _by(m: Manifest) -> str:
    taught = m.facts.get("teacher")
    return f"by teacher {taught['day']}" if taught else "taught by labels"


def _gates(m: Manifest) -> dict[str, float]:
    return {g["name"]: g["value"] for g in m.gates if isinstance(g.get("value"), int | float)}


def _listed(values: Mapping[str, float], key: str, words: Mapping[str, str]) -> str:
    """`click .771 read .743`: the values that there are, each after its word."""
    return " ".join(f"{word} {_short(values[k])}" for name, word in words.items() if (k := key.format(name)) in values)


def _short(x: float) -> str:
    """Three digits, without a zero before the point."""
    return f"{x:.3f}".removeprefix("0")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
