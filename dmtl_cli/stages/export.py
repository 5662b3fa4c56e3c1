"""export: a stored student as the files that a server reads, with users and items as they are when a day has ended."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.days import Moment
from dmtl_cli.config.errors import UserError, such_as
from dmtl_cli.config.evaluate import TOPK, Evaluate
from dmtl_cli.config.export import faiss_version
from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.served import Chosen
from dmtl_cli.evaluate.exam import Exam
from dmtl_cli.evaluate.gates import SAMPLE, recall
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.gates import Measure
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.run import Draft, Parent, Result, Run, distinct
from dmtl_cli.serving.export import Export
from dmtl_cli.student.build import stored_student
from dmtl_cli.student.doubts import one_direction
from dmtl_cli.student.export.files import Catalogue, seen_items, write_export
from dmtl_cli.student.export.read_back import read_back
from dmtl_cli.student.export.towers import Shown, block_vectors, vectors
from dmtl_cli.student.gates import of_vectors
from dmtl_cli.student.kappa import UNMEASURED, best, curve
from dmtl_cli.student.stacking import ITEMS, USERS, Choices, Weights, listed
from dmtl_cli.tune.carried import tuned

Ints = npt.NDArray[np.int64]

_READERS = Evaluate(max_users=8_192)
"""among whom those are looked for whose reads tell weights"""


def export(run: Run, day: dt.date) -> Result:
    """Exports the stored student of a day.

    Raises:
        UserError: 66 there is no student of that day.
    """
    return export_student(run, day, run.parent("student", day, hint=f"run dmtl train-student --day {day}"))


def export_student(run: Run, day: dt.date, student: Parent, at: Moment | None = None, *, latest: bool = True) -> Result:
    """Exports a student with the users and items as they are when `day` has ended, and points LATEST at it.

    Args:
        at: a later moment, as of which side tables are known. Where that tells more, the export is served alone: what
            evaluations measure and later stages read is that of the day's end, which is brought up to date before.
        latest: whether it is served.

    Raises:
        UserError: 66 the day's log or profile is not there.
    """
    run = tuned(run, day)
    sections = _sections(run)
    if run.frozen and (served := _served(run, day, student, sections)):
        return served
    if at is not None:
        export_student(run, day, student, latest=False)
    log, exposure = Days(run, run.config.features_of("student"), at=at), run.config.student.exposure
    there = log.there(day) if at is not None else None
    earlier_days = sorted({*log.seen_before(day), *log.told_before(day)})
    inputs, parents = log.inputs_at_end(day) + log.inputs(earlier_days), [student, *log.parents_at_end(day)]
    earlier = _earlier(run, day)
    if earlier:
        inputs, parents = [*inputs, *log.inputs([day])], [*parents, *log.parents([day])]
    if earlier and exposure.kappa == "auto":
        parents.append(earlier)
        sections = _sections(run, "evaluate")  # which says whose recall is measured
    elif earlier:  # in the key, but no parent: an export would need all before it
        sections |= {"weighed": earlier[1].as_parent()}
    sections |= {"there": there} if there else {}
    work, parents = partial(_export, run, day, log, student, earlier), distinct(parents)
    current = there is None
    return run.publish("export", day, sections, inputs, parents, work, latest=latest, current=current, shared=False)


def _sections(run: Run, *more: str) -> dict[str, Any]:
    """The parts of the config that an export depends on, where it is not the default the K at which it is measured and
    `kappa: auto` is weighed, and the version of the library that builds an index."""
    whole, k = run.sections("student", "export", *more), run.config.evaluate.k
    whole |= {} if k == TOPK[0] else {"k": k}
    if "evaluate" in whole:  # kappa is weighed on as many users as are named, whatever an evaluation costs
        whole["evaluate"] = {name: v for name, v in whole["evaluate"].items() if name not in ("share", "topk")}
    if run.config.export.index == "exact":
        return whole
    return whole | {"export": whole["export"] | {"faiss": faiss_version()}}


def _served(run: Run, day: dt.date, student: Parent, sections: dict[str, Any]) -> Result | None:
    """The published export of a student by this config, whatever tables came since; None where there is none."""
    if run.ws.current("export", day) is None:
        return None
    published = run.parent("export", day)
    # a comparison by another K measures what is served, whose kappa was weighed at the chain's own
    same = all(published[1].config.get(name) == section for name, section in sections.items() if name != "k")
    return run.found(published) if same and published[1].facts["student"] == student[1].as_parent() else None


def _export(
    run: Run, day: dt.date, log: Days, parent: Parent, earlier: Parent | None, publication: Publication
) -> Draft:
    folder, manifest = parent
    with run.log.progress(f"export {day}", 5 if earlier else 4, "step") as bar:
        encoder = Encoder.stored(folder, log.features)
        if earlier:
            bar.next("weighing what is shown")
        shown, weighed = _shown(run, day, log, earlier, manifest, encoder, publication)
        bar.next("reading users and items")
        read = log.read_end(day, publication.tmp)
        student = stored_student(folder, manifest, encoder)
        bar.next("towers and vectors")
        chosen = log.chosen(day)
        left, unlisted, counts = _not_served(run, log, day, read, chosen)
        if left is not None and read.items[ID].is_in(left.implode()).all():
            what = f"export {day}: none of the {len(read.items):,} items is to be served on the morning after"
            raise UserError(what, "they have ended (data.items), or export.items leaves them out")
        for told in (log.log.told_of_ended(day), log.log.told_of_coming(read)):
            if told:
                run.log.say(told)
        options = run.config.export
        threshold = manifest.facts["threshold_seconds"]
        seen = list[pl.DataFrame]()
        if options.has_clicked_apart:
            seen = [*_seen_before(run, day, log, publication, threshold), seen_items(read, options.seen, threshold)]
        to, key, k = publication.path, publication.key, run.config.evaluate.k
        unseen = log.unseen(log.parents_at_end(day))
        catalogue = write_export(to, student, encoder, read, shown, left, options, seen, unseen, key, k)
        bar.next("reading the files back")
        tables = {"user": read.users, "item": catalogue.served}
        measures = read_back(to, publication.tmp, catalogue.towers, encoder, tables, catalogue.facts, options.vectors)
        bar.next("recall of its own day")
        measures += _recall(run, catalogue, encoder, read, threshold, of_served=chosen is not None)
    facts = {name: manifest.facts[name] for name in ("teacher", "threshold_seconds", "predicts")}
    facts |= weighed | ({} if counts is None else {"not_served": counts})
    return Draft(
        rows={"items": catalogue.items, "users": len(read.users)},
        metrics={"items.unknown_share": catalogue.unknown_share}
        | {f"spread.{name}": value for name, value in catalogue.spread.items()}
        | catalogue.kept.metrics,
        facts={"student": manifest.as_parent(), **facts},
        measures=[
            *of_vectors(catalogue.spread, catalogue.norm, catalogue.unknown_share, chosen=chosen is not None),
            *catalogue.kept.measures,
            *measures,
        ],
        warnings=[*one_direction(catalogue.spread), *catalogue.kept.warnings, *unlisted],
    )


def _seen_before(
    run: Run, day: dt.date, log: Days, publication: Publication, threshold: float | None
) -> list[pl.DataFrame]:
    """What users saw on the days before that the export knows too, a table a day, read without features. A day
    that cannot be read, of which its own run said why, is left out, and said."""
    bare, found = Days(run, ()).log, list[pl.DataFrame]()
    for d in log.seen_before(day):
        scratch = publication.tmp / f"seen-{d}"
        scratch.mkdir()
        try:
            found.append(seen_items(bare.read(d, scratch), run.config.export.seen, threshold))
        except UserError as e:
            run.log.say(f"export {day}: what was seen on {d} is not left out of answers: {e.message}")
        finally:
            shutil.rmtree(scratch)
    return found


def _not_served(
    run: Run, log: Days, day: dt.date, read: Day, chosen: Chosen | None
) -> tuple[pl.Series | None, list[str], dict[str, int] | None]:
    """Items that are not served, None where all are; a line about those that the catalogue lacks and that are; and
    beside a condition how many it leaves out by reason.

    Raises:
        UserError: 65 the catalogue has none of the items, and it alone is to be served.
    """
    retired, options = log.retired(day), run.config.export
    if chosen is not None:
        return _not_chosen(run, chosen, read.items[ID], retired)
    unlisted = log.unlisted(day, read.items[ID])
    if options.items == "listed":
        if len(unlisted) == len(read.items):
            what = f"export.items: listed: the table of items has none of the {len(unlisted):,} items of the log"
            raise UserError(what, "is data.items.key the id that the events have?")
        return unlisted if retired is None else pl.concat([unlisted, retired]), [], None
    kept = unlisted if retired is None else unlisted.filter(~unlisted.is_in(retired.implode()))
    if not len(kept) or "items" in options.model_fields_set:
        return retired, [], None
    seen = f"{len(kept):,} of {len(read.items):,} items are not in the table of items{such_as(kept.sort())}"
    seen = f"{seen}, and are served all the same"
    return retired, [f"{seen}: set export.items: listed if the table is the whole catalogue, or all if it is not"], None


def _not_chosen(
    run: Run, chosen: Chosen, items: pl.Series, retired: pl.Series | None
) -> tuple[pl.Series, list[str], dict[str, int]]:
    """All items but those for which a condition holds; says how many these are. What is retired is counted among
    neither."""
    left = items.filter(~items.is_in(chosen.ids.implode()))
    there = left if retired is None else left.filter(~left.is_in(retired.implode()))
    unlisted = int((~there.is_in(chosen.listed.implode())).sum())
    counts = {"condition": len(there) - unlisted, "unlisted": unlisted}
    why = [f"export.items: {chosen.condition} is not true of {counts['condition']:,}"]
    why += [f"{unlisted:,} are not in {chosen.place}"] if unlisted else []
    if len(there):
        run.log.say(f"{len(there):,} of {len(items):,} items are not served: {', '.join(why)}")
    return left, [], counts


def _recall(
    run: Run, catalogue: Catalogue, encoder: Encoder, read: Day, threshold: float | None, *, of_served: bool
) -> list[Measure]:
    """How much of its own day the export finds. What a long read is may be unknown.

    Args:
        of_served: whether what users wanted and is not served counts as nothing that they wanted. What a condition
            leaves out may be most of what was clicked, as where a day's offers are sold out by its end: counted as not
            found, it would fail the gate of a student that finds all the rest.
    """
    events = run.config.data.events
    sample = SAMPLE.model_copy(update={"topk": run.config.evaluate.topk})
    exam = Exam.draw(read, threshold, run.config.tasks, events.click is not None, sample)
    if not len(exam.users) or not len(catalogue.served):
        return []
    labels = ("click", "read") if threshold is not None or events.conversion is not None else ("click",)
    users = vectors(catalogue.towers["user"], encoder.encode(read.users[exam.users], "user"))
    served = read.rows_of(catalogue.served[ID], "item")
    return recall(exam, labels, users, catalogue.vectors, served, of_served=of_served)


def _earlier(run: Run, day: dt.date) -> Parent | None:
    """What tells how much of what is shown is served: with `kappa: auto` the student before the day, where weights are
    fitted the export before it; None where there is none, or nothing to be told."""
    exposure = run.config.student.exposure
    if exposure.kappa == "auto":
        return run.newest("student", day)
    return run.newest("export", day) if exposure.kappa and exposure.weights == "fitted" else None


def _shown(
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
        earlier: as of `_earlier`.
        student: that is exported.
    """
    exposure = run.config.student.exposure
    if exposure.kappa == "auto":
        measured = _measured(run, day, log, earlier, publication) if earlier else {}
        kappa = best(measured) if measured else UNMEASURED
        return Shown(kappa), {"kappa": kappa, "kappa_curve": {str(k): value for k, value in measured.items()}}
    shown, facts = Shown(exposure.kappa), {"kappa": exposure.kappa, "kappa_curve": dict[str, float]()}
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
    return Choices(
        (users[:, shown] / np.float32(export.kappa * (before.share if before else 1.0)), items[:, shown]),
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
    seconds = wanted.seconds if label == "time" else None
    return curve(users, items, (wanted.indptr, wanted.items), seconds, k=run.config.evaluate.k)
