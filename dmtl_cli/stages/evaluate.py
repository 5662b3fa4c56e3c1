"""evaluate: on day D's log, what was ready before D: the newest teacher, the newest export, and what counts said."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from dmtl_cli.config.days import before
from dmtl_cli.config.errors import NotDue
from dmtl_cli.config.evaluate import reads_of
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.days import Days
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.profile.stored import Profile
from dmtl_cli.evaluate import history
from dmtl_cli.evaluate.budget import Pace
from dmtl_cli.evaluate.curves import curves_of, write_curves
from dmtl_cli.evaluate.doubts import below_lists, below_regression, far_from_clicks, one_list
from dmtl_cli.evaluate.exam import Exam, SeenItems
from dmtl_cli.evaluate.features import features_of
from dmtl_cli.evaluate.history import Ease, HistoryRanker, Ials, PastReads
from dmtl_cli.evaluate.lists import POPULARITY, ItemList, impersonal, known_counts, seen_items
from dmtl_cli.evaluate.on_catalogue import FRESH, on_catalogue, over_kappa, repeats, retrieve
from dmtl_cli.evaluate.on_rows import on_rows, score_rows
from dmtl_cli.evaluate.rankers import PREFERENCE, REGRESSION, Ranker, RegressionRanker, StudentRanker, TeacherRanker
from dmtl_cli.evaluate.shared import Shared
from dmtl_cli.evaluate.truth import Truth, load_truth
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.run import Draft, Parent, Result, Run, distinct
from dmtl_cli.serving.export import Export
from dmtl_cli.teacher.doubts import Array, too_good
from dmtl_cli.tune.advised import slower
from dmtl_cli.tune.carried import tuned


def evaluate(
    run: Run,
    day: dt.date,
    served: str = "export",
    *,
    beside: bool = True,
    pace: Pace | None = None,
    shared: Shared | None = None,
) -> Result:
    """Measures the newest teacher and student before the day, and lists that are the same for all users.

    Args:
        served: the stage whose towers are measured; `joint` for the reference.
        beside: whether the newest teacher and lists are measured too, which another setting of a student leaves as
            they are.
        pace: what a day's work costs, by which it is bounded how much is measured; default that of the run's config.
        shared: what teachers scored before, and will have scored.

    Raises:
        NotDue: nothing was published before the day.
    """
    run = tuned(run, day)
    models = _newest(run, day, served)
    pace, shared = pace or Pace.of(run.config), shared or Shared()
    truth, truth_files = load_truth(run.config.data.truth)
    log = Days(run, run.config.features)
    inputs, parents = log.inputs([day]) + truth_files, distinct([*models.parents, *log.parents([day])])

    def work(publication: Publication) -> Draft:
        read = _read(run, log, day, publication, run.ranks)
        exam = _exam(run, read, models, pace, truth)
        return _measure(run, exam, models, truth, shared, publication.path if beside else None)

    config = run.sections("evaluate") | {"pace": pace.described()} | ({} if beside else {"beside": False})
    return run.publish("evaluation", day, config, inputs, parents, work)


def evaluate_history(run: Run, day: dt.date, name: str, days: list[dt.date], past: PastReads, pace: Pace) -> Result:
    """Measures EASE or implicit ALS of the long reads of earlier days on what `evaluate` measures students on.

    Args:
        name: `history.EASE` or `history.IALS`.
        days: whose long reads it learns.
        past: the long reads of the log, kept from one call to the next.
        pace: as of `evaluate`.
    """
    models = _newest(run, day, "export")
    truth, truth_files = load_truth(run.config.data.truth)
    log = Days(run, run.config.features)
    inputs = [file for d in days for file in past.log.inputs(d)] + log.inputs([day]) + truth_files
    parents = distinct([*models.parents, *log.parents([day])])
    numbers: dict[str, Any] = {"model": name, "decay": history.DECAY}
    numbers |= {"most_items": history.MOST_ITEMS, "strength": history.STRENGTH} if name == history.EASE else {}
    numbers |= {"factors": history.FACTORS, "alpha": history.ALPHA} if name == history.IALS else {}

    def work(publication: Publication) -> Draft:
        exam = _exam(run, _read(run, log, day, publication), models, pace, truth)
        with run.log.progress(f"{name} {day}: learning {len(days)} days"):
            reads = past.before(day, days, exam.threshold, publication.tmp)
            ranker = _history_ranker(run, name, exam.day, reads)
        return Draft(_rows(exam), on_catalogue(exam, retrieve(exam, {name: ranker}, run.log), truth))

    config = run.sections("evaluate") | {"pace": pace.described(), "history": numbers}
    return run.publish("evaluation", day, config, inputs, parents, work, shared=False)


@dataclass(frozen=True)
class _Models:
    teacher: Parent
    student: Parent | None
    student_teacher: Parent | None
    """the very teacher that scored the student; None for a student that saw no scores"""
    profile: tuple[Parent, Profile] | None
    """what was known of users and items when the day before ended"""

    def named(self) -> dict[str, Parent]:
        """Those that there are."""
        named = {"teacher": self.teacher, "student": self.student, "student_teacher": self.student_teacher}
        return {name: parent for name, parent in named.items() if parent is not None}

    @property
    def parents(self) -> list[Parent]:
        return [*self.named().values(), *([self.profile[0]] if self.profile else [])]

    def teachers(self, names: Collection[str]) -> dict[str, Manifest]:
        """The teachers among some names."""
        return {n: parent[1] for n, parent in self.named().items() if n != "student" and n in names}

    @property
    def scorer(self) -> Parent:
        """The teacher whose tasks and threshold are measured."""
        return self.student_teacher or self.teacher


def _newest(run: Run, day: dt.date, served: str) -> _Models:
    teacher, student, profile = run.newest("teacher", day), run.newest(served, day), _profile(run, day)
    if teacher is None:
        raise NotDue(f"no teacher before {day}")
    if student is None or (taught := student[1].facts["teacher"]) is None:
        return _Models(teacher, student, None, profile)
    scorer = run.parent("teacher", dt.date.fromisoformat(taught["day"]), run_id=taught["run_id"])
    return _Models(teacher, student, scorer, profile)


def _profile(run: Run, day: dt.date) -> tuple[Parent, Profile] | None:
    """The newest profile before the day; None where there is none: then only clicks of the export's day are known."""
    newest = run.newest("profile", day)
    return (newest, Profile.open(newest[0])) if newest else None


def _read(run: Run, log: Days, day: dt.date, publication: Publication, ranks: Ranks = ALONE) -> Day:
    with run.log.progress(f"evaluation {day}: reading the day"):
        return log.read(day, publication.tmp, ranks)


def _exam(run: Run, day: Day, models: _Models, pace: Pace, truth: Truth | None) -> Exam:
    facts, exposures = models.scorer[1].facts, run.config.data.events.click is not None
    known = models.profile
    seen = seen_items(known[1], before(day.day), exposures=exposures) if known else None
    tasks = Tasks.named(facts["tasks"])
    users = known[1].ids("user") if known else None
    settings, threshold = run.config.evaluate, facts["threshold_seconds"]
    # the worth of a list is defined for users who click nothing too
    clicked_first = truth is None
    exam = Exam.draw(day, threshold, tasks, exposures, settings, seen, users, pace=pace, clicked_first=clicked_first)
    if models.student is None:
        return exam
    stored = Export(models.student[0], lazily=True).stored_users
    return replace(exam, seen_items=SeenItems.of(day, stored.seen(day.users[ID].gather(exam.users))))


def _rows(exam: Exam) -> dict[str, int]:
    """How much of the day there is, and how much of it is measured."""
    day = exam.day
    rows = {"events": len(day), "users": len(exam.users), "items": len(day.items), "teacher_users": len(exam.few)}
    active, rows_of = int((day.user_events > 0).sum()), int(day.user_events[exam.row_users].sum())
    rows |= {"active_users": active, "measured_events": min(len(day), rows_of)}
    rows |= {} if exam.excluded is None else {"excluded": len(exam.excluded.user)}
    return rows if exam.new_users is None else rows | {"new_users": int(exam.new_users[exam.users].sum())}


def _measure(run: Run, exam: Exam, models: _Models, truth: Truth | None, shared: Shared, folder: Path | None) -> Draft:
    """Measures the day.

    Args:
        folder: where to store what is drawn of it; None where the student alone is measured.
    """
    rankers = _rankers(run, exam, models, beside=folder is not None)
    keys = {name: shared.key(exam, parent.run_id) for name, parent in models.teachers(rankers).items()}
    scored = score_rows(exam, rankers, run.log, {n: shared.scores[k] for n, k in keys.items() if k in shared.scores})
    numbers = on_rows(exam, rankers, scored)
    measured = dict(rankers)
    if isinstance(student := rankers.get("student"), StudentRanker):
        rankers[FRESH] = student.of_the_day()
    tops = retrieve(exam, rankers, run.log, {n: shared.tops[k] for n, k in keys.items() if k in shared.tops})
    for name, key in keys.items():
        shared.keep(key, scored.by[name], tops[name])
    numbers |= on_catalogue(exam, tops, truth) | repeats(exam)
    if folder is not None and run.ranks.first:
        drawn = curves_of(exam, measured, scored, tops, _known_items(models, exam))
        if isinstance(teacher := rankers["teacher"], TeacherRanker):
            drawn["features"] = features_of(exam.day, teacher.teacher.encoder)
        write_curves(folder, drawn)
    if isinstance(student, StudentRanker):
        numbers |= over_kappa(exam, student, truth, run.log)
    if exam.threshold is not None:
        numbers["threshold.seconds"] = exam.threshold
    facts = {name: manifest.as_parent() for name, (_, manifest) in models.named().items()}
    observed = scored.observed
    labels = {label: observed.positive[label][rows] for label, rows in observed.measured.items()}
    doubts = _doubts(run, numbers, exam.tasks, models, labels)
    if models.student is not None and "student" in tops:
        doubts += one_list(tops["student"], numbers.get("student.kappa"), models.student[1].day, exam.k)
    return Draft(_rows(exam), numbers, facts, warnings=doubts)


def _doubts(run: Run, numbers: dict[str, float], tasks: Tasks, models: _Models, labels: dict[str, Array]) -> list[str]:
    """What is doubtful, a line each.

    Args:
        labels: of the measured rows, by label.
    """
    teacher = models.teacher[1].day
    aucs = {label: auc for label in labels if (auc := numbers.get(f"teacher.{label}.auc")) is not None}
    out = too_good(aucs, labels, "on a day that was not learned") if run.config.data.events.click is None else []
    out += below_regression(numbers, tasks, teacher, slower(run, teacher))
    if models.student is None:
        return out
    served = models.student[1].day
    asked = numbers, served, run.config.evaluate.k, reads_of(run.sections())
    return out + (below_lists(*asked) or far_from_clicks(*asked))


def _known_items(models: _Models, exam: Exam) -> pl.DataFrame | None:
    """`id`, `count` and `first_seen` of the items with an event before the day; None where no profile is."""
    if models.profile is None:
        return None
    profile, as_of = models.profile[1], before(exam.day.day)
    counts = known_counts(profile, as_of, exposures=exam.exposures)
    first = profile.first_seen("item").join(counts, on="id", how="left", maintain_order="left")
    return first.with_columns(pl.col("count").fill_null(0.0))


def _rankers(run: Run, exam: Exam, models: _Models, *, beside: bool) -> dict[str, Ranker]:
    """The models of a day by name.

    Args:
        beside: whether to have more than the student and its teacher.
    """
    day = exam.day
    rankers: dict[str, Ranker] = {}
    lists: dict[str, pl.DataFrame] = {}
    offered: pl.Series | None = None
    if beside:
        rankers["teacher"] = teacher = TeacherRanker(models.teacher, day, run)
        rankers[REGRESSION] = RegressionRanker(models.teacher, teacher)
        lists = impersonal(models.profile[1], before(day.day), exposures=exam.exposures) if models.profile else {}
    if models.student:
        rankers["student"] = student = StudentRanker(models.student, day, run)
        if student.knows_shown:
            rankers[PREFERENCE] = student.at(0.0)
        if beside:
            lists = {POPULARITY: student.export.clicks.rename({"item_id": "id", "clicks": "count"})} | lists
            offered = _offered(models.student[1], student.export.items[0], day.day)
    rankers |= {name: ItemList(scores, day, offered) for name, scores in lists.items()}
    if models.student_teacher:
        same = beside and models.student_teacher[1].run_id == models.teacher[1].run_id
        rankers["student_teacher"] = rankers["teacher"] if same else TeacherRanker(models.student_teacher, day, run)
    return rankers


def _offered(export: Manifest, served: pl.Series, day: dt.date) -> pl.Series | None:
    """The items that lists retrieve from as a day begins, where the last night's export leaves out what may not be
    served: who makes a list of what is read leaves it out too, and a past day's export may know what was withdrawn
    since. None where all items are served; and of an older export, which does not know what is new.

    Args:
        served: the export's items.
    """
    return served if "not_served" in export.facts and export.day == before(day) else None


def _history_ranker(run: Run, name: str, day: Day, reads: history.Reads) -> HistoryRanker:
    if name == history.IALS:
        return HistoryRanker(Ials.fit(reads, run.config.seed), reads, day)
    kept = reads.most_read(history.MOST_ITEMS)
    if len(kept.items) < len(reads.items):
        run.log.say(f"{name} {day.day}: learns the {len(kept.items)} most read of {len(reads.items)} items")
    return HistoryRanker(Ease.fit(kept), kept, day)
