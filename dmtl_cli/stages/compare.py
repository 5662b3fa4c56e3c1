"""compare: the student beside baselines and other settings, on the same days, rows and users, over several seeds.

A setting is the config with some keys changed. It has a workspace of its own below compare/, in which only the stages
that it changes are made: another student loss learns from the very same teacher and scores. Everything is published by
key as ever, so what is finished is not run again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dmtl_cli.config.days import before as previous
from dmtl_cli.config.days import between
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.reading import parse
from dmtl_cli.config.schema import Config
from dmtl_cli.config.student import Student
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Result, Run
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.stages.evaluate import evaluate
from dmtl_cli.stages.run import ALL, Stages, learn_day
from dmtl_cli.stages.train_joint import train_joint

Load = Callable[[list[str]], Config]
OF_A_DAY = ("oracle", "teacher", "student_teacher", "student", "popularity", "random")
SHOWN = (
    "read_seconds@50",
    "click_rate@50",
    "ctr.auc",
    "ctcvr.auc",
    "click.recall@50",
    "read.recall@50",
    "time_recall@50",
    "teacher_overlap@50",
    "rows.learned",
    "seconds",
)
# of a config: where and how all are run and asked
FIXED = ("workspace", "seed", "threads", "device", "plain_autograd", "evaluate")
PLAIN = "long_read_only"  # what transfer is measured from: the same student, taught by labels


@dataclass(frozen=True)
class Cell:
    """A baseline or a setting: its config, the stages that it makes for itself, its folder below compare/."""

    name: str
    config: Config
    own: Stages
    folder: str


def compare(
    run: Run,
    day: dt.date,
    load: Load,
    *,
    since: dt.date | None = None,
    settings: dict[str, list[str]] | None = None,
    seeds: list[int] | None = None,
) -> tuple[Result, Table]:
    """Makes what is missing, measures every setting and seed on `since` .. `day`, publishes tables and a figure.

    The chain of the config's own seed is what is served, so it is only read. A baseline learns the labels of every day
    of the chain, the last one included, which stored scores do not know. A setting that a floor refuses each day has no
    row.

    Args:
        load: the config with more overrides.
        settings: overrides by name.
        seeds: default the config's.

    Raises:
        UserError: 66 no student was exported before the first measured day; 65 the chain is of another config, log or
            version; 78 a setting is not a config.
    """
    measured = between(since or day, day)
    if run.newest("export", measured[0]) is None:
        hint = f"backfill the chain up to {previous(measured[0])} first: its second day has the first student"
        raise UserError(f"no student was exported before {measured[0]}", hint, Exit.NO_INPUT)
    chain = [d for d in run.ws.days("teacher") if d < day]
    bases = {seed: _base(run, seed, load) for seed in seeds or [run.config.seed]}
    cells = {seed: _cells(base.config, load, settings or {}) for seed, base in bases.items()}  # all, before any work
    table = Table()
    for seed, base in bases.items():
        _learn(replace(base, frozen=base is run), chain, ALL, "student", table)
        table.add(base, "student", [evaluate(base, d) for d in measured])
        for cell in cells[seed]:
            ws = Workspace(base.ws.root / "compare" / cell.folder, base.ws, ALL - cell.own)
            own = replace(base, config=cell.config, ws=ws)
            _learn(own, chain, cell.own, cell.name, table)
            table.add(own, cell.name, [evaluate(own, d) for d in measured])
            if cell.name not in table.numbers:
                table.refused.setdefault(cell.name, f"it has no student before {measured[0]}")
        if base.config.student.distill.w_kd:
            for d in chain:
                train_joint(base, d)
            joint = replace(base, ws=Workspace(base.ws.root / "compare" / "joint", base.ws, ALL | {"joint"}))
            table.add(joint, "joint", [evaluate(joint, d, served="joint") for d in measured])
    return _publish(run, measured, list(bases), table), table


def _learn(run: Run, chain: list[dt.date], stages: Stages, name: str, table: Table) -> None:
    """Every day of the chain in order, going on after a refused one, as `backfill` does; the table tells of it."""
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


def _base(run: Run, seed: int, load: Load) -> Run:
    """The chain of a seed: the run itself, or one in a workspace below compare/."""
    if seed == run.config.seed:
        return run
    return replace(run, config=load([f"seed={seed}"]), ws=Workspace(run.ws.root / "compare" / f"seed={seed}"))


def _cells(base: Config, load: Load, settings: dict[str, list[str]]) -> list[Cell]:
    """Baselines, then settings; a setting's folder tells its keys, so that another one of that name starts anew.

    Raises:
        UserError: 78 a setting is not a config.
    """
    cells = [Cell(name, base.model_copy(update={"student": s}), _STUDENT, name) for name, s in _baselines(base)]
    for name, sets in settings.items():
        try:
            config = load([*sets, f"seed={base.seed}"])
        except UserError as e:
            raise UserError(f"setting {name}: {e.message.removeprefix('--set ')}", e.hint, e.code) from None
        digest = hashlib.sha256("\n".join(sets).encode()).hexdigest()
        cells.append(Cell(name, config, _changed(base, config), f"{name}-{digest[:6]}"))
    return cells


_STUDENT: Stages = frozenset({"student", "export"})


def _baselines(config: Config) -> list[tuple[str, Student]]:
    """Students that never see a score: the same code and settings, only the loss differs."""
    labels: dict[str, dict[str, Any]] = {
        "click_only": {"label": "click", "duration_weighted": False},
        PLAIN: {"label": "long_read", "duration_weighted": False},
    }
    if config.data.events.duration is not None:
        labels["duration_weighted"] = {"label": "click", "duration_weighted": True}
    unscored = config.student.distill.model_copy(update={"w_kd": 0.0, "head": "served"})
    hard = {k: config.student.hard.model_copy(update={"w_hard": 1.0, **v}) for k, v in labels.items()}
    return [(name, config.student.model_copy(update={"distill": unscored, "hard": h})) for name, h in hard.items()]


def _changed(base: Config, config: Config) -> Stages:
    """Stages that a setting makes for itself; the others are the base's."""
    same = {name for name in Config.model_fields if getattr(base, name) == getattr(config, name)}
    if not {"data", "features", "labels", "teacher"} <= same:
        return ALL
    taught = base.student.distill.min_age_days == config.student.distill.min_age_days
    return _STUDENT if "scores" in same and taught else _STUDENT | {"scores"}  # another teacher scores the day's pairs


def read_settings(file: Path) -> dict[str, list[str]]:
    """A YAML of names, each with the keys it changes: `listwise: {student.distill.losses: [{loss: listwise}]}`.

    Raises:
        UserError: 78 it is not such a YAML.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{file}: cannot be read: {e}", code=Exit.CONFIG) from None
    raw, _, mistakes = parse(text, str(file))
    if mistakes:
        raise UserError(mistakes[0], code=Exit.CONFIG)
    shape = "expected names, each with `dotted.key: value` of the config"
    if not isinstance(raw, dict) or not all(isinstance(keys, dict) for keys in raw.values()):
        raise UserError(f"{file}: {shape}", "e.g. listwise: {student.distill.losses: [{loss: listwise}]}", Exit.CONFIG)
    taken = {*OF_A_DAY, "joint", "click_only", PLAIN, "duration_weighted"}
    for name, keys in raw.items():
        if fixed := [key for key in keys if str(key).partition(".")[0] in FIXED]:
            hint = f"{', '.join(FIXED)} are the same for all"
            raise UserError(f"{file}: setting {name}: {fixed[0]} cannot differ", hint, Exit.CONFIG)
        if name in taken or not name.replace("_", "").replace("-", "").isalnum():
            why = "is a baseline's name" if name in taken else "is not made of letters, digits, - and _"
            raise UserError(f"{file}: setting {name} {why}", "choose another name", Exit.CONFIG)
    return {str(name): [f"{key}={json.dumps(value)}" for key, value in keys.items()] for name, keys in raw.items()}


# -- results -----------------------------------------------------------------------------------------------------------


@dataclass
class Table:
    """By setting and metric one number a seed: the mean over the measured days."""

    numbers: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """of training and exporting a student, a day: from the logs, so not part of what is published"""
    evaluations: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """why a setting has no student, of some days or at all"""

    def add(self, run: Run, setting: str, results: list[Result]) -> None:
        """The evaluations of one seed; those of `student` tell of its teacher and the rest of the day too."""
        self.evaluations += [f"{setting} {r.day} {r.run_id}" for r in results]
        found: dict[tuple[str, str], list[float]] = {}
        for result in results:
            for name, value in result.metrics.items():
                kind, _, metric = name.partition(".")
                if kind in OF_A_DAY and setting == "student":
                    found.setdefault((kind, metric), []).append(value)
                elif kind == "student":
                    found.setdefault((setting, metric), []).append(value)
        for (name, metric), values in found.items():
            self.numbers.setdefault(name, {}).setdefault(metric, []).append(float(np.mean(values)))
        made = run.newest("student", dt.date.fromisoformat(results[-1].day)) if setting != "joint" else None
        if made is not None:
            counts = {f"rows.{k}": float(v) for k, v in made[1].rows.items()}
            shares = {k: v for k, v in made[1].metrics.items() if k.startswith("coverage.")}
            for metric, value in (counts | shares).items():
                self.numbers[setting].setdefault(metric, []).append(value)
        if (seconds := _seconds(run, "joint" if setting == "joint" else "student")) is not None:
            self.seconds.setdefault(setting, []).append(seconds)

    def mean(self, setting: str, metric: str) -> float | None:
        values = self._values(setting, metric)
        return float(np.mean(values)) if values else None

    def spread(self, setting: str, metric: str) -> float:
        """Largest less smallest over the seeds."""
        values = self._values(setting, metric)
        return float(np.ptp(values)) if values else 0.0

    def _values(self, setting: str, metric: str) -> list[float]:
        """A number a seed."""
        if metric == "seconds":
            return self.seconds.get(setting, [])
        return self.numbers.get(setting, {}).get(metric, [])

    def transfer(self) -> dict[str, float]:
        """By metric (student - plain) / (student_teacher - plain), plain being the student that learns long reads from
        labels; where the teacher is above plain by more than twice the spread over the seeds. Undefined with one seed.
        """
        out = {}
        for metric in self.numbers["student"]:
            three = [self.mean(s, metric) for s in ("student", PLAIN, "student_teacher")]
            student, plain, teacher = three
            if student is None or plain is None or teacher is None or len(self.numbers["student"][metric]) < 2:
                continue
            noise = max(self.spread(s, metric) for s in ("student", PLAIN, "student_teacher"))
            if teacher - plain > 2 * noise:
                out[metric] = (student - plain) / (teacher - plain)
        return out

    def markdown(self, *, timed: bool = True) -> str:
        """A row a setting: means, and (spread over seeds) where there are several."""
        shown = [
            m for m in SHOWN if any(self.mean(n, m) is not None for n in self._order) and (timed or m != "seconds")
        ]
        rows = [[name, *(self._cell(name, m) for m in shown)] for name in self._order]
        moved = [f"{m} {share:.3f}" for m, share in self.transfer().items() if m in SHOWN]
        notes = [f"not made: {name}: {why}" for name, why in self.refused.items()]
        notes += [f"transfer of {PLAIN} -> student_teacher: {', '.join(moved)}"] if moved else []
        return "\n\n".join([_table(["model", *shown], rows), *notes])

    def whole(self) -> str:
        """A row a metric, a column a model."""
        metrics = sorted({m for of in self.numbers.values() for m in of})
        columns = {n: {m: self._cell(n, m) for m in metrics} for n in self._order}
        if transfer := self.transfer():
            columns["transfer"] = {m: f"{transfer[m]:.3f}" if m in transfer else "-" for m in metrics}
        return _table(["metric", *columns], [[m, *(of[m] for of in columns.values())] for m in metrics])

    @property
    def _order(self) -> list[str]:
        known = [n for n in OF_A_DAY if n in self.numbers]
        return [*known[:4], *(n for n in self.numbers if n not in OF_A_DAY), *known[4:]]

    def _cell(self, name: str, metric: str) -> str:
        mean = self.mean(name, metric)
        if mean is None:
            return "-"
        digits = 0 if metric.startswith("rows") else 1 if "seconds" in metric else 3
        seeds = len(self._values(name, metric))
        return f"{mean:.{digits}f}" + (f" ({self.spread(name, metric):.{digits}f})" if seeds > 1 else "")

    def to_dict(self) -> dict[str, Any]:
        """{setting: {metric: {mean, spread, seeds}}}, and transfer."""
        whole: dict[str, Any] = {
            name: {m: {"mean": self.mean(name, m), "spread": self.spread(name, m), "seeds": v} for m, v in of.items()}
            for name, of in self.numbers.items()
        }
        return whole | {"transfer": self.transfer()}


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown; the first column is text, the others numbers."""
    rule = "|---|" + "---:|" * (len(head) - 1)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)])


def _seconds(run: Run, stage: str) -> float | None:
    """Mean seconds that a published day of a stage took (a student and its export), as the logs tell."""
    stages = ("student", "export") if stage == "student" else (stage,)
    logs = run.log.path.parent if run.log.path else run.ws.root / "logs"  # of the command: a cell has none of its own
    took = run.log.took(logs) | run.log.memory
    found = []
    for name in stages:
        ids = [p.name.removeprefix("run-") for d in run.ws.days(name) if (p := run.ws.current(name, d)) is not None]
        known = [took[i] for i in ids if i in took]
        if not known:
            return None
        found.append(float(np.mean(known)))
    return sum(found)


def _publish(run: Run, measured: list[dt.date], seeds: list[int], table: Table) -> Result:
    drawn = importlib.util.find_spec("matplotlib") is not None

    def work(publication: Publication) -> Draft:
        days = f"{measured[0]} .. {measured[-1]}" if len(measured) > 1 else f"{measured[0]}"
        head = f"Measured on {days}, seeds {', '.join(map(str, seeds))}: means (largest less smallest seed)."
        (publication.path / "table.md").write_text(f"{head}\n\n{table.markdown(timed=False)}\n\n{table.whole()}\n")
        whole = json.dumps(table.to_dict(), indent=1, sort_keys=True, allow_nan=False)
        (publication.path / "metrics.json").write_text(whole + "\n")
        if drawn:
            draw(table, publication.path / "figure.png")
        means = {
            f"{n}.{m}": mean for n, of in table.numbers.items() for m in of if (mean := table.mean(n, m)) is not None
        }
        return Draft(
            rows={"evaluations": len(table.evaluations)},
            metrics=means | {f"transfer.{m}": share for m, share in table.transfer().items()},
        )

    if not drawn:
        run.log.say("no figure: pip install matplotlib (or dmtl[plot]) to have one")
    config = run.sections("evaluate") | {"evaluations": table.evaluations, "refused": table.refused, "figure": drawn}
    return run.publish("compare", measured[-1], config, [], [], work, shared=False)


COLORS = {"student": "#c1121f", "student_teacher": "#003049", "joint": "#2a7f62"}
OTHERS = "#9a9a9a"


def _spaced(wanted: dict[str, float], gap: float) -> dict[str, float]:
    """Heights as near to the wanted ones as a gap between neighbours allows, within 0 .. 1, from the lowest up."""
    names = sorted(wanted, key=lambda n: wanted[n])
    heights: list[float] = []
    for name in names:
        heights.append(max(wanted[name], heights[-1] + gap) if heights else max(0.0, wanted[name]))
    ceiling = 1.0
    for k in reversed(range(len(heights))):
        heights[k] = ceiling = min(heights[k], ceiling)
        ceiling -= gap
    return dict(zip(names, heights, strict=True))


def draw(table: Table, file: Path) -> None:
    """What is clicked against what is read, of the top 50, a point a seed: in a world with a known truth its expected
    click rate and read seconds, else the recall of clicks and of read time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    known = "read_seconds@50" in table.numbers["student"]
    timed = "time_recall@50" in table.numbers["student"]
    x_axis = (
        ("click_rate@50", "expected click rate of the top 50") if known else ("click.recall@50", "recall@50 of clicks")
    )
    y_axis = ("read_seconds@50", "expected read seconds of the top 50")
    if not known:
        y_axis = ("time_recall@50", "share of read time in the top 50")
        y_axis = y_axis if timed else ("read.recall@50", "recall@50 of conversions")
    shown = {
        n: of
        for n, of in table.numbers.items()
        if n not in ("oracle", "teacher") and {x_axis[0], y_axis[0]} <= of.keys()
    }
    figure, axes = plt.subplots(figsize=(8, max(4.4, 0.5 + 0.17 * len(shown))), layout="constrained")
    for name, of in shown.items():
        color = COLORS.get(name, OTHERS)
        axes.scatter(of[x_axis[0]], of[y_axis[0]], s=26, color=color, zorder=3 + (name in COLORS))
    axes.set_xlabel(x_axis[1])
    axes.set_ylabel(y_axis[1])
    axes.margins(0.08)
    axes.grid(color="#e6e6e6", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    centres = {n: (float(np.mean(of[x_axis[0]])), float(np.mean(of[y_axis[0]]))) for n, of in shown.items()}
    low, high = axes.get_ylim()
    heights = _spaced({n: (y - low) / (high - low) for n, (_, y) in centres.items()}, 1 / max(24, len(shown)))
    for name, height in heights.items():  # names stand in a column of their own, so that none covers another
        axes.annotate(
            name,
            centres[name],
            xytext=(1.02, height),
            textcoords="axes fraction",
            color=COLORS.get(name, "#404040"),
            fontsize=8,
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#d6d6d6", "linewidth": 0.6, "relpos": (0, 0.5)},
        )
    figure.savefig(file, dpi=150, metadata={"Software": None})
    plt.close(figure)
