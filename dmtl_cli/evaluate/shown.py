"""How much of what is shown an export serves, and what that is made of, as a day tells of an earlier one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.evaluate import Evaluate
from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.evaluate.exam import Exam
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.run import Parent, Run
from dmtl_cli.serving.export import Export
from dmtl_cli.student.build import stored_student
from dmtl_cli.student.export.towers import Shown, block_vectors
from dmtl_cli.student.kappa import UNMEASURED, best, curve
from dmtl_cli.student.stacking import ITEMS, USERS, Choices, Weights, listed

Ints = npt.NDArray[np.int64]

_READERS = Evaluate(max_users=8_192)
"""among whom those are looked for whose reads tell weights"""


def teller(run: Run, day: dt.date) -> Parent | None:
    """What tells how much of what is shown is served: with `kappa: auto` the student before the day, where weights are
    fitted the export before it; None where there is none, or nothing to be told."""
    exposure = run.config.student.exposure
    if exposure.kappa == "auto":
        return run.newest("student", day)
    return run.newest("export", day) if exposure.kappa and exposure.weights == "fitted" else None


def what_is_shown(
    run: Run,
    day: dt.date,
    log: Days,
    earlier: Parent | None,
    student: Manifest,
    encoder: Encoder,
    publication: Publication,
) -> tuple[Shown, dict[str, Any]]:
    """How much of what is shown is served and what it is made of, and the facts of it.

    Args:
        earlier: as of `teller`.
        student: that is exported.
    """
    exposure = run.config.student.exposure
    if exposure.kappa == "auto":
        measured = _measured(run, day, log, earlier, publication) if earlier else {}
        kappa = best(measured) if measured else UNMEASURED
        facts = {"kappa": kappa, "kappa_curve": {str(k): value for k, value in measured.items()}}
        return Shown(kappa, popularity=exposure.popularity), facts
    shown = Shown(exposure.kappa, popularity=exposure.popularity)
    facts = {"kappa": exposure.kappa, "kappa_curve": {}}
    if not exposure.kappa or exposure.weights == "learned":
        return shown, facts
    columns, floats = encoder.numeric_columns("item"), encoder.layout("item").floats
    threshold = student.facts["threshold_seconds"]
    weights = Weights.unmeasured(sorted(columns), listed(log.features))
    if earlier:
        weights = _fitted(run, day, log, earlier, weights, threshold, publication)
        facts |= {"weighed": earlier[1].as_parent()}
    shown = shown._replace(share=weights.share, numbers=weights.over(columns, floats))
    return shown, facts | {"fitted": weights.described()}


def _fitted(
    run: Run,
    day: dt.date,
    log: Days,
    earlier: Parent,
    prior: Weights,
    threshold: float | None,
    publication: Publication,
) -> Weights:
    """What the reads of `day` tell of the weights, by what an export before it had for its users, and what days before
    told.

    Args:
        earlier: the export.
        prior: where nothing has told any.
        threshold: above which a read is a long read; where nothing tells what one is, clicks are explained.
    """
    folder, manifest = earlier
    Encoder.stored(folder, log.features)  # refuses the features of another config
    export, facts = Export(folder), manifest.facts.get("fitted")
    before = Weights.of(facts) if facts else None
    if "exposure" not in export.blocks:
        return prior
    read, events = log.read(day, publication.tmp), run.config.data.events
    exam = Exam.draw(read, threshold, run.config.tasks, events.click is not None, _READERS)
    label = "read" if threshold is not None or events.conversion is not None else "click"
    choices = _choices(export, exam, label, prior.features, before)
    weights = before if before and before.features == prior.features else prior
    return weights.after(prior, choices, (day - manifest.day).days)


def _choices(export: Export, exam: Exam, label: str, features: Sequence[str], before: Weights | None) -> Choices:
    """What some users read of what an export could retrieve for them.

    Args:
        label: read, or click.
        features: of the items, the numbers that count by themselves.
        before: by which the export's block of what is shown was made; None: of an export that had none.
    """
    wanted = exam.wanted[label]
    readers = np.flatnonzero(np.diff(wanted.indptr) > 0)
    readers = readers[np.linspace(0, len(readers) - 1, min(len(readers), USERS)).astype(np.int64)]
    theirs = wanted.take(readers)
    rows = _candidates(export)
    place = np.full(len(exam.day.items), -1)
    at = exam.day.rows_of(export.items[0].gather(rows), "item")
    place[at[at >= 0]] = np.flatnonzero(at >= 0)
    user, item = np.repeat(np.arange(len(readers)), np.diff(theirs.indptr)), place[theirs.items]
    users, items = export.vectors(exam.day.users[exam.users[readers]], "user"), export.items[1][rows]
    shown = np.arange(items.shape[1])[export.blocks["exposure"]][: -1 if before and before.features else None]
    liked = np.arange(items.shape[1])[export.blocks["preference"]]
    numbers = np.zeros((len(rows), 0), np.float32)
    if features:
        columns = export.encoder.numeric_columns("item")
        floats = export.encoder.encode(export.item_features[rows], "item").floats
        numbers = floats[:, [columns[name] for name in features]]
    popularity, mean = export.described.get("popularity", 1.0), export.described.get("mean_user")
    served = Shown(export.kappa, before.share if before else 1.0, popularity=popularity)
    served = served._replace(mean=None if mean is None else np.array(mean, np.float32))
    return Choices(
        (served.learned(users[:, shown]), items[:, shown]),
        (users[:, liked], items[:, liked]),
        numbers,
        user[item >= 0],
        item[item >= 0],
    )


def _candidates(export: Export) -> Ints:
    """Rows of the items that a logit is of, sorted: all, or of a large catalogue some, first those that were clicked on
    the export's day, the most clicked before others."""
    ids = export.items[0]
    if len(ids) <= ITEMS:
        return np.arange(len(ids))
    clicked = export.clicks.sort("clicks", descending=True, maintain_order=True).head(ITEMS).select("item_id")
    rows = clicked.join(pl.DataFrame({"item_id": ids}).with_row_index("row"), on="item_id", maintain_order="left")
    first = rows["row"].to_numpy().astype(np.int64)
    rest = np.setdiff1d(np.arange(len(ids)), first)
    return np.sort(np.concatenate([first, rest[np.linspace(0, len(rest) - 1, ITEMS - len(first)).astype(np.int64)]]))


def _measured(run: Run, day: dt.date, log: Days, earlier: Parent, publication: Publication) -> dict[float, float]:
    """By kappa the objective on `day` of a student that did not learn it, had it served that morning's vectors: a
    progressive validation. Empty where that student has one block, or the day has nothing to find, or there is no
    threshold that tells what a long read is."""
    folder, manifest = earlier
    encoder = Encoder.stored(folder, log.features)
    student = stored_student(folder, manifest, encoder)
    if student.exposure is None:
        return {}
    read = log.read(day, publication.tmp)
    exposures = run.config.data.events.click is not None
    told = (m.facts["threshold_seconds"] for _, m in [earlier, *log.parents([day])])
    threshold = next((seconds for seconds in told if seconds is not None), None)
    exam = Exam.draw(read, threshold, run.config.tasks, exposures, run.config.evaluate)
    label, _, _ = run.config.student.exposure.objective.partition("_")
    wanted = exam.wanted["read" if label == "read" else "click"]
    if not len(wanted.items) or (label == "time" and wanted.seconds is None):
        return {}
    users = block_vectors(student, "user", encoder.entities(read, "user", None).take(exam.users), encoder)
    items = block_vectors(student, "item", encoder.entities(read, "item", None), encoder)
    alike = (1 - run.config.student.exposure.popularity) * users.exposure.mean(0)
    users = users._replace(exposure=users.exposure - alike.astype(np.float32))
    seconds = wanted.seconds if label == "time" else None
    return curve(users, items, (wanted.indptr, wanted.items), seconds, k=run.config.evaluate.k)
