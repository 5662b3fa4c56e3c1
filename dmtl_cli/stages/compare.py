"""compare: the student beside its baselines on one day, as one table."""

from __future__ import annotations

import datetime as dt

import polars as pl

from dmtl_cli.artifact import Publication
from dmtl_cli.data.log import ID, Log
from dmtl_cli.days import before as previous
from dmtl_cli.errors import Exit, UserError
from dmtl_cli.measure import (
    Exam,
    Popularity,
    Ranker,
    StudentRanker,
    TeacherRanker,
    on_catalogue,
    on_rows,
    scored_by,
    truth_of,
)
from dmtl_cli.run import Draft, Parent, Result, Run

SHOWN = (
    "read_seconds@50",
    "click_rate@50",
    "long_read_rate@50",
    "ctr.auc",
    "ctcvr.auc",
    "click.recall@50",
    "read.recall@50",
    "time_recall@50",
)
ORDER = ("oracle", "teacher", "student_teacher", "student", "long_read_only", "click_only", "popularity", "random")


def compare(run: Run, day: dt.date, baselines: dict[str, Parent]) -> Result:
    """Measures all on the same rows, negatives and users.

    Args:
        baselines: exports by metric prefix.

    Raises:
        UserError: 66 no student was exported before the day.
    """
    export = run.newest("export", day)
    teacher = run.newest("teacher", day)
    if export is None or teacher is None:
        hint = f"run dmtl run --day {previous(day)} first"
        raise UserError(f"no student was exported before {day}", hint, Exit.NO_INPUT)
    taught_by = scored_by(run, export) or teacher
    truth, truth_files = truth_of(run)
    log = Log(run.config.data, run.config.features)
    inputs = log.inputs(day) + log.inputs(export[1].day) + truth_files

    def work(publication: Publication) -> Draft:
        read = log.read(day, publication.tmp)
        threshold = taught_by[1].facts["threshold_seconds"]
        exam = Exam.of(run, read, threshold)
        rankers: dict[str, Ranker] = {
            "teacher": TeacherRanker(teacher, read, run),
            "student": StudentRanker(export, read, run),
            "student_teacher": TeacherRanker(taught_by, read, run),
        }
        rankers |= {name: StudentRanker(p, read, run) for name, p in baselines.items()}
        learned = log.read(export[1].day, publication.tmp)
        clicks = pl.DataFrame({ID: learned.items[ID], "clicks": learned.item_clicks})
        rankers["popularity"] = Popularity(clicks, read)
        numbers = on_rows(exam, rankers, run.rng("evaluate", day, "negatives"))
        numbers |= on_catalogue(exam, rankers, truth, run.rng("evaluate", day, "random"))
        (publication.path / "table.txt").write_text(table(numbers) + "\n")
        rows = {"events": len(read), "users": len(exam.users), "items": len(read.items)}
        return Draft(rows=rows, metrics=numbers, facts={k: p[1].as_parent() for k, p in baselines.items()})

    parents = [teacher, export, taught_by, *baselines.values()]
    return run.publish("compare", day, run.sections("evaluate"), inputs, parents, work)


def table(metrics: dict[str, float]) -> str:
    """Rows: models; columns: the metrics that any of them has; `-` where one is undefined."""
    shown = [m for m in SHOWN if any(f"{p}.{m}" in metrics for p in ORDER)]
    present = [p for p in ORDER if any(f"{p}.{m}" in metrics for m in shown)]
    lines = [f"{'':16}" + "".join(f"{m:>18}" for m in shown)]
    for prefix in present:
        cells = [metrics.get(f"{prefix}.{m}") for m in shown]
        texts = [
            "-" if c is None else f"{c:.1f}" if "seconds" in m else f"{c:.4f}"
            for c, m in zip(cells, shown, strict=True)
        ]
        lines.append(f"{prefix:16}" + "".join(f"{t:>18}" for t in texts))
    return "\n".join(lines)
