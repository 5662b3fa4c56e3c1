"""compare: the student beside baselines and other settings, on the same days, rows and users, over several seeds.

A setting is the config with some keys changed. It has a workspace of its own below compare/, in which only the stages
that it changes are made: another student loss learns from the very same teacher and scores. Everything is published by
key, so what is finished is not run again.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dmtl_cli.config.days import before, between
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.evaluate import reads_of
from dmtl_cli.config.extras import has, install
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.data.log.reader import Log
from dmtl_cli.evaluate.budget import Pace
from dmtl_cli.evaluate.figure import can_draw, draw
from dmtl_cli.evaluate.history import IALS, PastReads
from dmtl_cli.evaluate.settings import BESIDE, HISTORIES, JOINT, Cell, Load, cells
from dmtl_cli.evaluate.shared import Shared
from dmtl_cli.evaluate.table import Table
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Draft, Result, Run
from dmtl_cli.runs.workspace import STAGES, Workspace
from dmtl_cli.stages.evaluate import evaluate, evaluate_history
from dmtl_cli.stages.run import ALL, Stages, learn_day
from dmtl_cli.stages.train_joint import train_joint
from dmtl_cli.tune.carried import STAGE as TUNE
from dmtl_cli.tune.carried import tuned
from dmtl_cli.tune.table import span, word

Holding = Callable[[Workspace], AbstractContextManager[None]]


def compare(
    run: Run,
    day: dt.date,
    load: Load,
    holding: Holding,
    *,
    since: dt.date | None = None,
    settings: dict[str, list[str]] | None = None,
    seeds: list[int] | None = None,
    beside: Collection[str] = BESIDE,
) -> tuple[Result, Table]:
    """Makes what is missing, measures every setting and seed on `since` .. `day`, publishes tables and a figure.

    The chain of the config's own seed is what is served, so it is only read. A baseline learns the labels of every day
    of the chain, the last one included, which stored scores do not know. A setting that a floor refuses each day has no
    row.

    Args:
        load: the config with more overrides.
        holding: holds the chain of a workspace. That of the config's own seed is not held, so that its next day need
            not wait for a comparison.
        settings: overrides by name.
        seeds: default the config's.
        beside: baselines, joint reference and models of histories to have.

    Raises:
        UserError: 66 no student was exported before the first measured day, or a measured day is not there; 65 the
            chain is of another config, log or version; 78 a setting is not a config.
    """
    measured = between(since or day, day)
    _require_student(run, measured[0])
    for d in measured:  # before hours of training
        Log(run.config.data, (), converted=conversions(run.config.workspace)).find(d)
    exams = _Exams(measured, {d: Pace.of(tuned(run, d).config) for d in measured})
    chain = [d for d in run.ws.days("teacher") if d < day]
    bases = [_base(run, seed, load) for seed in seeds or [run.config.seed]]
    cells_of = [cells(base.config, load, settings or {}, beside) for base in bases]  # all, before any work
    table = Table(k=run.config.evaluate.k, reads=reads_of(run.sections()))
    # publishes in the chain's folders, with a lock and a scratch folder of its own
    aside = replace(run, ws=Workspace(run.ws.root / "compare", run.ws, frozenset(STAGES)))
    at = _Places(run.log, len(bases), sum(map(len, cells_of)) + len(bases) * (1 + (JOINT in beside)))
    with holding(aside.ws):
        for base, others in zip(bases, cells_of, strict=True):
            own = aside if base is run else base
            with nullcontext() if own is aside else holding(own.ws):
                _compare_seed(base, own, others, holding, chain, exams, table, at, joint=JOINT in beside)
        _measure_histories(bases[0], holding, chain, exams, table, beside)
        return _publish(aside, measured, [base.config.seed for base in bases], table), table


@dataclass(frozen=True)
class _Exams:
    """The measured days, and what makes every setting's evaluation of one the same exam."""

    days: list[dt.date]
    paces: dict[dt.date, Pace]
    """of the chain that is served: another setting's own would have other users measured"""
    shared: Shared = field(default_factory=Shared)


class _Places:
    """Says at which setting a comparison is, before every line and bar."""

    def __init__(self, log: RunLog, seeds: int, total: int) -> None:
        self.log, self.seeds, self.total, self.count = log, seeds, total, 0

    def __call__(self, name: str, run: Run) -> AbstractContextManager[None]:
        self.count += 1
        seed = f", seed {run.config.seed}" if self.seeds > 1 else ""
        return self.log.at(f"{self.count}/{self.total} {name}{seed}")


def _compare_seed(
    base: Run,
    writing: Run,
    others: list[Cell],
    holding: Holding,
    chain: list[dt.date],
    exams: _Exams,
    table: Table,
    at: _Places,
    *,
    joint: bool,
) -> None:
    """Learns and measures the student of a seed's chain, the cells beside it and (`joint`) the joint reference.

    Args:
        writing: publishes what belongs to the chain's folders; another run than `base` where the chain is only read.
    """
    with at("student", base):
        _learn(replace(base, frozen=writing is not base), chain, ALL, "student", table)
        own = _measuring(base, writing, exams.days)
        with nullcontext() if own is writing else holding(own.ws):
            _measure(own, "student", exams, table)
    for cell in others:
        own = replace(base, config=cell.config, ws=_below(base.ws, cell.folder, cell.shared))
        with holding(own.ws), at(cell.name, base):
            _try(own, cell, chain, exams, table)
    if joint and base.config.student.distill.w_kd:
        own = replace(base, ws=_below(base.ws, JOINT, ALL | {"profile", JOINT}))
        with holding(own.ws), at(JOINT, base):
            for d in chain:
                train_joint(writing, d)
            _measure(own, JOINT, exams, table)


def _measuring(base: Run, writing: Run, days: list[dt.date]) -> Run:
    """The run that publishes the evaluations of a chain: where its own are by another `evaluate`, in a folder aside, so
    that pages and lines of its days keep their numbers.

    Args:
        writing: as of `_compare_seed`.
    """
    newest = base.newest("evaluation", before(days[-1], -1))
    if newest is None or newest[1].config.get("evaluate") == base.sections("evaluate")["evaluate"]:
        return writing
    return replace(base, ws=_below(base.ws, "student", frozenset(STAGES) - {"evaluation"}))


def _require_student(run: Run, first: dt.date) -> None:
    """Raises UserError 66 where no student was exported before the first measured day."""
    if run.newest("export", first) is None:
        what = f"no student was exported before {first}, the first measured day"
        raise UserError(what, _before_measuring(run, first), Exit.NO_INPUT)


def _before_measuring(run: Run, first: dt.date) -> str:
    """What to do where no student was exported before the first measured day."""
    taught, exported = run.ws.days("teacher")[:1], run.ws.days("export")[:1]
    if not taught:
        return f"backfill the chain up to {before(first)} first: its second day has the first student"
    youngest = run.config.student.distill.min_age_days if run.config.student.distill.w_kd else 0
    student = exported[0] if exported else before(taught[0], -youngest)
    if student < first:
        return f"backfill the chain, which begins on {taught[0]}, up to {before(first)} first"
    there = f"measure from {before(student, -1)} on"
    return f"{there if exported else f'backfill up to {student} and {there}'}, or backfill days before {taught[0]}"


def _base(run: Run, seed: int, load: Load) -> Run:
    """The chain of a seed: the run itself, or one in a workspace below compare/."""
    if seed == run.config.seed:
        return run
    return replace(run, config=load([f"seed={seed}"]), ws=Workspace(run.ws.root / "compare" / f"seed={seed}"))


def _try(own: Run, cell: Cell, chain: list[dt.date], exams: _Exams, table: Table) -> None:
    """Learns and measures a baseline or a setting."""
    _learn(own, chain, ALL - cell.shared, cell.name, table)
    _measure(own, cell.name, exams, table, teacher="teacher" not in cell.shared)
    if cell.name not in table.numbers:
        table.refused.setdefault(cell.name, f"it has no student before {exams.days[0]}")


def _below(ws: Workspace, folder: str, shared: Stages) -> Workspace:
    return Workspace(ws.root / "compare" / folder, ws, shared)


def _learn(run: Run, chain: list[dt.date], stages: Stages, name: str, table: Table) -> None:
    """Learns every day of the chain in order and goes on after a refused one, as `backfill` does; the table says so."""
    refused = []
    for d in chain:
        try:
            learn_day(run, d, stages)
        except UserError as e:
            if e.code != Exit.REFUSED:
                raise
            run.log.say(f"{name}: {e.line()}")
            refused.append(e.message)
    if refused:
        table.refused[name] = f"{len(refused)} of {len(chain)} days, the last: {refused[-1]}"


def _measure(run: Run, name: str, exams: _Exams, table: Table, *, teacher: bool = False) -> None:
    """Evaluates one model and seed on every day; adds its metrics, those of a `teacher` of its own too, and what its
    last student says of its rows."""
    served = JOINT if name == JOINT else "export"
    days, beside = exams.days, name == "student"
    results = [evaluate(run, d, served, beside=beside, pace=exams.paces[d], shared=exams.shared) for d in days]
    table.evaluations += [f"{name} {r.day} {r.run_id}" for r in results]
    table.measured += [r.rows for r in results] if beside else []
    table.add_evaluations(name, [r.metrics for r in results], teacher=teacher)
    student = run.newest("student", days[-1]) if name != JOINT else None
    if student is not None:
        _, manifest = student
        counts = {f"rows.{k}": float(v) for k, v in manifest.rows.items()}
        shares = {k: v for k, v in manifest.metrics.items() if k.startswith("coverage.")}
        for metric, value in (counts | shares).items():
            table.add(name, metric, value)
    if (seconds := _seconds(run, (JOINT,) if name == JOINT else ("student", "export"))) is not None:
        table.seconds.setdefault(name, []).append(seconds)


def _measure_histories(
    base: Run, holding: Holding, chain: list[dt.date], exams: _Exams, table: Table, wanted: Collection[str]
) -> None:
    """Evaluates models of the long reads of the days before each measured one that the chain learned. They take no
    setting from the config, and are measured once, whatever the number of seeds."""
    if IALS in wanted and not has("implicit"):
        base.log.say(f"no ials: implicit is not installed; {install('implicit')} to have it")
    place, memory = conversions(base.config.workspace), base.config.max_memory
    log = Log(base.config.data, (), max_memory=memory, converted=place)
    past, learned = PastReads(log), _learned_days(base, chain)
    for name in (h for h in HISTORIES if h in wanted and (h != IALS or has("implicit"))):
        own = replace(base, ws=_below(base.ws, name, ALL | {"profile"}), frozen=False)
        with holding(own.ws), base.log.at(name):
            results = [
                evaluate_history(own, day, name, [d for d in learned if d < day], past, exams.paces[day])
                for day in exams.days
            ]
        table.evaluations += [f"{name} {r.day} {r.run_id}" for r in results]
        table.add_evaluations(name, [r.metrics for r in results])


def _learned_days(run: Run, chain: list[dt.date]) -> list[dt.date]:
    """The days that the teachers of a chain learned: the first one's whole window too, not the chain's days alone."""
    return sorted({dt.date.fromisoformat(d) for day in chain for d in run.parent("teacher", day)[1].facts["days"]})


def _seconds(run: Run, stages: tuple[str, ...]) -> float | None:
    """Sum over the stages of the mean seconds that a published day took, as the logs say."""
    logs = run.log.path.parent if run.log.path else run.ws.root / "logs"  # of the command: a cell has none of its own
    took = run.log.took(logs) | run.log.seconds_by_run
    found = []
    for stage in stages:
        ids = [p.name.removeprefix("run-") for d in run.ws.days(stage) if (p := run.ws.current(stage, d)) is not None]
        known = [took[i] for i in ids if i in took]
        if not known:
            return None
        found.append(float(np.mean(known)))
    return sum(found)


def _publish(run: Run, measured: list[dt.date], seeds: list[int], table: Table) -> Result:
    drawn = can_draw()
    if not drawn:
        run.log.say(f"no figure: matplotlib is not installed; {install('matplotlib')} to have one")
    spread = "±standard error over users"
    spread = f"(largest less smallest seed), of one seed {spread}" if len(seeds) > 1 else spread
    head = f"Measured on {span(measured)}, seeds {', '.join(map(str, seeds))}: means {spread}."
    if (decided := _decided(run, measured[-1])) is not None:
        head += f"\n\n{decided}"

    def work(publication: Publication) -> Draft:
        _write(table, head, publication.path)
        if drawn:
            draw(table, publication.path / "figure.png")
        return Draft(rows={"evaluations": len(table.evaluations)}, metrics=table.means())

    config = run.sections("evaluate") | {"evaluations": table.evaluations, "refused": table.refused, "figure": drawn}
    return run.publish("compare", measured[-1], config, [], [], work, shared=False)


def _decided(run: Run, day: dt.date) -> str | None:
    """What the log decided of the config of the first seed; None where there were no trials."""
    newest = run.newest(TUNE, before(day, -1))
    if newest is None:
        return None
    chosen = (f"{key} {word(value)}" for key, value in newest[1].facts["chosen"].items())
    return f"Decided by the log of {newest[1].day}: {', '.join(chosen)}."


def _write(table: Table, head: str, folder: Path) -> None:
    (folder / "table.md").write_text(f"{head}\n\n{table.markdown(timed=False)}\n\n{table.whole()}\n")
    numbers = json.dumps(table.to_dict(), indent=1, sort_keys=True, allow_nan=False)
    (folder / "metrics.json").write_text(numbers + "\n")
