"""The table of a comparison: by model and metric one number per seed, as Markdown and as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from dmtl_cli.config.evaluate import LISTS, TOPK
from dmtl_cli.evaluate.on_catalogue import FEW, FRESH, traded
from dmtl_cli.evaluate.rankers import PREFERENCE
from dmtl_cli.evaluate.settings import BASELINES, EVALUATED, HISTORIES, JOINT, PLAIN, TAUGHT, UNTAUGHT
from dmtl_cli.evaluate.verdict import verdict
from dmtl_cli.student.kappa import GRID


def shown(k: int) -> tuple[str, ...]:
    """Metrics that are printed, where any model has them, of the top K."""
    worth, found = ("read_seconds", "click_rate"), ("click.recall", "read.recall", "time_recall", "coverage")
    of_rows = ("ctr.auc", "ctcvr.auc", "ctcvr.auc.shown")
    return (*(f"{m}@{k}" for m in worth), *of_rows, *(f"{m}@{k}" for m in found), "rows.learned", "seconds")


OWN_TEACHER = ".teacher"
"""suffix of the row of a setting's own teacher"""


class Ahead(NamedTuple):
    """What is served less the best list, over the same users."""

    best: str
    label: str
    """read, click"""
    counted: str
    """the same as a person calls it"""
    k: int
    by: float
    """recall@K of what is served less the list's"""
    error: float
    """its standard error"""
    reads: str
    """as of `Table`"""

    def line(self) -> str:
        """`served - best list (popularity, yesterday's clicks): +.021 ±.006 recall@50 of reads: better`."""
        found = verdict(self.by, self.error) or "no difference beyond twice its error"
        by, error = (f"{abs(x):.3f}".removeprefix("0") for x in (self.by, self.error))
        sign = "-" if self.by < 0 else "+"
        what = f"served - best list ({self.best}, {LISTS[self.best].format(reads=self.reads)})"
        return f"{what}: {sign}{by} ±{error} recall@{self.k} of {self.counted}: {found}"

    def metrics(self) -> dict[str, float]:
        name = f"student.{self.label}.recall@{self.k}.ahead_of_best_list"
        return {name: self.by, f"{name}.se": self.error}


@dataclass
class Table:
    """By model and metric one number per seed, the mean over the measured days."""

    numbers: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """seconds per day that training and exporting a student took: from the logs, so not part of what is published"""
    evaluations: list[str] = field(default_factory=list)
    """the published runs that the numbers are from"""
    measured: list[Mapping[str, int]] = field(default_factory=list)
    """`rows` of the base's evaluations: how many users there were, and are measured"""
    refused: dict[str, str] = field(default_factory=dict)
    """why a setting has no student, on some days or at all"""
    on_fewer: dict[str, str] = field(default_factory=dict)
    """of a setting whose student is not there on all measured days, on how many it is"""
    k: int = TOPK[0]
    """retrieved items of which what is printed is told"""
    reads: str = "reads"
    """what `reads_of` calls them"""

    def add_evaluations(self, setting: str, days: Sequence[Mapping[str, float]], *, teacher: bool = False) -> None:
        """Adds the metrics of one seed's evaluations, one per day. Those of the base, `student`, have its teacher and
        the other models of a day too; a student of two blocks is two rows, `<setting>` and `<setting>.preference`.

        Args:
            teacher: whether the setting has a teacher of its own, which is a row `<setting>.teacher`.
        """
        found: dict[tuple[str, str], list[float]] = {}
        for metrics in days:
            for name, value in metrics.items():
                model = PREFERENCE if name.startswith(f"{PREFERENCE}.") else name.partition(".")[0]
                metric = name.removeprefix(f"{model}.")
                if setting == "student" and model in EVALUATED:
                    found.setdefault((model, metric), []).append(value)
                elif teacher and model == "student_teacher":
                    found.setdefault((f"{setting}{OWN_TEACHER}", metric), []).append(value)
                elif model in ("student", PREFERENCE, setting):
                    found.setdefault((model.replace("student", setting, 1), metric), []).append(value)
        there = sum(any(name.startswith(("student.", f"{setting}.")) for name in metrics) for metrics in days)
        if 0 < there < len(days):
            self.on_fewer[setting] = f"{setting}: the mean of {there} of the {len(days)} measured days"
        for (model, metric), values in found.items():
            if ".kappa=" in metric and len(values) < len(days):
                continue  # kappa: auto chose 0 on some day: a curve over other days than its neighbours'
            # the mean of days whose users are taken as others each day
            mean = float(np.sqrt(np.sum(np.square(values)))) / len(values) if _is_error(metric) else np.mean(values)
            self.add(model, metric, float(mean))

    def add(self, model: str, metric: str, value: float) -> None:
        """Adds the number of one more seed."""
        self.numbers.setdefault(model, {}).setdefault(metric, []).append(value)

    # -- numbers -------------------------------------------------------------------------------------------------------

    @property
    def models(self) -> list[str]:
        """The rows from the top: the best that there can be, teachers, students, and what learns nothing."""
        known = (*TAUGHT, *(n for n in self.numbers if n not in EVALUATED), *UNTAUGHT)
        return [name for name in known if name in self.numbers]

    def seeds(self, model: str, metric: str) -> list[float]:
        """One number per seed."""
        if metric == "seconds":
            return self.seconds.get(model, [])
        return self.numbers.get(model, {}).get(metric, [])

    def mean(self, model: str, metric: str) -> float | None:
        values = self.seeds(model, metric)
        return float(np.mean(values)) if values else None

    def spread(self, model: str, metric: str) -> float:
        """Largest less smallest over the seeds."""
        values = self.seeds(model, metric)
        return float(np.ptp(values)) if values else 0.0

    def error(self, model: str, metric: str) -> float | None:
        """The standard error over users; None where there is none, or several seeds tell more."""
        plain = metric.removesuffix(f".{FRESH}")
        found = self.seeds(model, f"{metric}.se" if plain == metric else f"{plain}.se.{FRESH}")
        return found[0] if len(found) == 1 else None

    def transfer(self) -> dict[str, float]:
        """By metric (student - plain) / (student_teacher - plain), plain being the student that learns long reads from
        labels; where the teacher is above plain by more than twice the spread over the seeds. Undefined with one seed.

        Of a student of two blocks its preference, which is what a teacher teaches. Where teachers retrieve for fewer
        users, both students are measured on those users, and a metric that they do not have there is left out.
        """
        taught, out = self._taught, {}
        for metric in (m for m in self.numbers[taught] if not _is_error(m)):
            same = f"{metric}.{FEW}" if self.fewer and _of_retrieval(metric) else metric
            named = {taught: same, PLAIN: same, "student_teacher": metric}
            student, plain, teacher = (self.mean(n, m) for n, m in named.items())
            if student is None or plain is None or teacher is None or len(self.seeds(taught, same)) < 2:
                continue
            noise = max(self.spread(n, m) for n, m in named.items())
            if teacher - plain > 2 * noise:
                out[metric] = (student - plain) / (teacher - plain)
        return out

    @property
    def _taught(self) -> str:
        """The row that a teacher's is the aim of."""
        return PREFERENCE if PREFERENCE in self.numbers else "student"

    @property
    def fewer(self) -> bool:
        """Whether teachers retrieved for fewer users than students."""
        return any(metric.endswith(f".{FEW}") for metric in self.numbers.get(self._taught, {}))

    def ahead(self) -> Ahead | None:
        """How much more of what is read (in a log without reads: clicked) the student that is served finds than the
        best list; None where one of them is not in the table, or of
        fewer than two users.

        The error is of both users and seeds: the mean of the seeds' squared errors over users, who are the same for all
        seeds, and of several seeds the square of the standard error of their mean.
        """
        for label in ("read", "click"):
            metric = f"{label}.recall@{self.k}"
            best, behind = self.best_list(metric), f"{metric}.ahead_of_student"
            if best is None or not (errors := self.seeds(best, f"{behind}.se")):
                continue
            values = self.seeds(best, behind)
            of_users = float(np.mean(np.square(errors)))
            of_seeds = float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
            counted = self.reads if label == "read" else "clicks"
            by, error = -float(np.mean(values)), math.sqrt(of_users + of_seeds)
            return Ahead(best, label, counted, self.k, by, error, self.reads)
        return None

    def means(self) -> dict[str, float]:
        """`<model>.<metric>`, `transfer.<metric>`, and what `ahead` says, as `student.<metric>.ahead_of_best_list`."""
        means = {f"{n}.{m}": self.mean(n, m) for n, metrics in self.numbers.items() for m in metrics}
        known = {name: mean for name, mean in means.items() if mean is not None}
        known |= {f"transfer.{m}": share for m, share in self.transfer().items()}
        return known if (ahead := self.ahead()) is None else known | ahead.metrics()

    def to_dict(self) -> dict[str, Any]:
        """{model: {metric: {mean, spread, seeds}}}, and transfer."""
        whole: dict[str, Any] = {
            name: {m: {"mean": self.mean(name, m), "spread": self.spread(name, m), "seeds": v} for m, v in own.items()}
            for name, own in self.numbers.items()
        }
        return whole | {"transfer": self.transfer()}

    # -- Markdown ------------------------------------------------------------------------------------------------------

    def markdown(self, *, timed: bool = True) -> str:
        """One row per model: means, and (spread over seeds) where there are several, else ± standard error over users.

        Args:
            timed: whether to show the seconds too.
        """
        wanted = [m for m in shown(self.k) if timed or m != "seconds"]
        columns = [m for m in wanted if any(self.seeds(name, m) for name in self.models)]
        rows = [[name, *(self._text(name, m) for m in columns)] for name in self.models]
        moved = [f"{m} {share:.3f}" for m, share in self.transfer().items() if m in wanted]
        notes = [self._sample(), self._excluded(), self._populations(), self.best_lists(), self.trade()]
        notes += [f"not made: {name}: {why}" for name, why in self.refused.items()]
        notes += [f"transfer of {PLAIN} -> student_teacher: {', '.join(moved)}"] if moved else []
        notes += [ahead.line()] if (ahead := self.ahead()) else []
        return "\n\n".join([_markdown(["model", *columns], rows), *filter(None, notes)])

    def _sample(self) -> str:
        """How many users the rows are of, where those are not all; summed over days and seeds."""
        there, taken, few = (
            sum(rows.get(name, 0) for rows in self.measured) for name in ("active_users", "users", "teacher_users")
        )
        if taken == there == few:
            return ""
        some = f"retrieval is measured for {taken:,} of {there:,} users, that of teachers for {few:,}"
        return f"{some}: a sample of users (evaluate.share, evaluate.max_users)"

    def _excluded(self) -> str:
        """Whether what users had seen is left out, which no recall of another table may stand beside."""
        left_out = any(rows.get("excluded") for rows in self.measured)
        return "all rows are without what users had seen (evaluate.exclude_seen)" if left_out else ""

    def _populations(self) -> str:
        """What a reader must know before they compare two rows; empty where all rows are alike."""
        notes = [*self.on_fewer.values()]
        alone = [n for n in (*BASELINES, JOINT) if n in self.numbers]
        if PREFERENCE in self.numbers and alone:
            notes.append(f"{', '.join(alone)} did not learn what is shown: their like is {PREFERENCE}, not student")
        if self.fewer:
            notes.append("teachers retrieve for some of the other rows' users: beside them stand the students' .few")
        lists = [n for n in (*HISTORIES, *LISTS) if self.seeds(n, f"coverage@{self.k}")]
        if lists:
            what = f"coverage@{self.k}: the share of the items that a row can retrieve which are in the top {self.k}"
            notes.append(f"{what} of any user; {', '.join(lists)} can retrieve items with events alone")
        return "\n".join(notes)

    def best_lists(self) -> str:
        """A line with the best impersonal list by each printed metric of retrieval; empty where there is none."""
        found = []
        for metric in (m for m in shown(self.k) if m in traded(self.k)):
            if (best := self.best_list(metric)) is not None:
                found.append(f"{metric} {self._text(best, metric)} ({best})")
        return f"best impersonal list: {', '.join(found)}" if found else ""

    def best_list(self, metric: str) -> str | None:
        """The impersonal list of the largest mean; None where there is none."""
        means = {name: mean for name in LISTS if (mean := self.mean(name, metric)) is not None}
        return max(means, key=means.__getitem__, default=None)

    def curve(self, metric: str) -> dict[float, float]:
        """By kappa the mean of a metric of the base student; empty for a student of one block."""
        means = {kappa: self.mean("student", f"{metric}.kappa={kappa:g}") for kappa in GRID}
        return {kappa: mean for kappa, mean in means.items() if mean is not None}

    def trade(self) -> str:
        """What the base student retrieves by each weight of exposure, one row per kappa; empty where it has one."""
        curves = {metric: curve for metric in traded(self.k) if (curve := self.curve(metric))}
        if not curves:
            return ""
        metrics = list(curves)
        rows = [
            [f"{kappa:g}", *(self._text("student", f"{m}.kappa={kappa:g}") for m in metrics)]
            for kappa in curves[metrics[0]]
        ]
        served = [f"served: {self._text('student', 'kappa')}"]
        served += [self._text("student", m) for m in metrics]
        return _markdown(["kappa", *metrics], [*rows, served])

    def whole(self) -> str:
        """One row per metric, one column per model."""
        metrics = sorted({m for own in self.numbers.values() for m in own if not _is_error(m)})
        columns = {n: {m: self._text(n, m) for m in metrics} for n in self.models}
        if transfer := self.transfer():
            columns["transfer"] = {m: f"{transfer[m]:.3f}" if m in transfer else "-" for m in metrics}
        return _markdown(["metric", *columns], [[m, *(column[m] for column in columns.values())] for m in metrics])

    def _text(self, model: str, metric: str) -> str:
        mean = self.mean(model, metric)
        if mean is None:
            return "-"
        digits = 0 if metric.startswith("rows") else 1 if "seconds" in metric else 3
        text, error = f"{mean:.{digits}f}", self.error(model, metric)
        if len(self.seeds(model, metric)) > 1:
            return f"{text} ({self.spread(model, metric):.{digits}f})"
        return text if error is None else f"{text} ±{error:.{digits}f}"


def _is_error(metric: str) -> bool:
    return metric.endswith(".se") or ".se." in metric


def _of_retrieval(metric: str) -> bool:
    return "@" in metric or metric.endswith(".ceiling")


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    """The first column is text, the others numbers."""
    rule = "|---|" + "---:|" * (len(head) - 1)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)])
