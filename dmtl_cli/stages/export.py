"""export: a stored student as the files that a server reads, with users and items as they are when a day has ended."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl

from dmtl_cli.config.days import Moment
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.evaluate import TOPK
from dmtl_cli.config.export import faiss_version
from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.evaluate.exam import Exam
from dmtl_cli.evaluate.gates import SAMPLE, recall
from dmtl_cli.evaluate.shown import teller, what_is_shown
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.gates import Measure
from dmtl_cli.runs.run import Draft, Parent, Result, Run, distinct
from dmtl_cli.student.build import stored_student
from dmtl_cli.student.doubts import one_direction
from dmtl_cli.student.export.files import Catalogue, seen_items, write_export
from dmtl_cli.student.export.not_served import not_served
from dmtl_cli.student.export.read_back import read_back
from dmtl_cli.student.export.towers import vectors
from dmtl_cli.student.gates import of_vectors
from dmtl_cli.tune.carried import tuned


def export(run: Run, day: dt.date) -> Result:
    """Exports the stored student of a day.

    Raises:
        UserError: 66 there is no student of that day.
    """
    return export_student(run, day, run.parent("student", day, hint=f"run dmtl train-student --day {day}"))


def export_student(
    run: Run,
    day: dt.date,
    student: Parent,
    at: Moment | None = None,
    *,
    latest: bool = True,
    doubts: Sequence[str] = (),
) -> Result:
    """Exports a student with the users and items as they are when `day` has ended, and points LATEST at it.

    Args:
        at: a later moment, as of which side tables are known. Where that tells more, the export is served alone: what
            evaluations measure and later stages read is that of the day's end, which is brought up to date before.
        latest: whether it is served.
        doubts: further warnings of its manifest.

    Raises:
        UserError: 66 the day's log or profile is not there.
    """
    run = tuned(run, day)
    sections = _sections(run)
    if run.frozen and (served := _served(run, day, student, sections)):
        return served
    if at is not None:
        export_student(run, day, student, latest=False, doubts=doubts)
    log, exposure = Days(run, run.config.features_of("student"), at=at), run.config.student.exposure
    there = log.there(day) if at is not None else None
    earlier_days = sorted({*log.seen_before(day), *log.told_before(day)})
    inputs, parents = log.inputs_at_end(day) + log.inputs(earlier_days), [student, *log.parents_at_end(day)]
    earlier = teller(run, day)
    if earlier:
        inputs, parents = [*inputs, *log.inputs([day])], [*parents, *log.parents([day])]
    if earlier and exposure.kappa == "auto":
        parents.append(earlier)
        sections = _sections(run, "evaluate")  # which says whose recall is measured
    elif earlier:  # in the key, but no parent: an export would need all before it
        sections |= {"weighed": earlier[1].as_parent()}
    sections |= {"there": there} if there else {}
    work, parents = partial(_export, run, day, log, student, earlier, doubts), distinct(parents)
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
    run: Run,
    day: dt.date,
    log: Days,
    parent: Parent,
    earlier: Parent | None,
    doubts: Sequence[str],
    publication: Publication,
) -> Draft:
    folder, manifest = parent
    with run.log.progress(f"export {day}", 5 if earlier else 4, "step") as bar:
        encoder = Encoder.stored(folder, log.features)
        if earlier:
            bar.next("weighing what is shown")
        shown, weighed = what_is_shown(run, day, log, earlier, manifest, encoder, publication)
        bar.next("reading users and items")
        read = log.read_end(day, publication.tmp)
        student = stored_student(folder, manifest, encoder)
        bar.next("towers and vectors")
        chosen = log.chosen(day)
        left, unlisted, counts = not_served(run, log, day, read, chosen)
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
        warnings=[*one_direction(catalogue.spread), *catalogue.kept.warnings, *unlisted, *doubts],
    )


def _seen_before(
    run: Run, day: dt.date, log: Days, publication: Publication, threshold: float | None
) -> list[pl.DataFrame]:
    """What users saw on the days before that the export knows too, a table a day, read without features. A day
    that cannot be read, of which its own run said why, is left out, and said.

    Raises UserError 74: the storage fails. A run once more is not to find an export without that day up to date."""
    bare, found = Days(run, ()).log, list[pl.DataFrame]()
    for d in log.seen_before(day):
        scratch = publication.tmp / f"seen-{d}"
        scratch.mkdir()
        try:
            found.append(seen_items(bare.read(d, scratch), run.config.export.seen, threshold))
        except UserError as e:
            if e.code == Exit.IO:
                raise
            run.log.say(f"export {day}: what was seen on {d} is not left out of answers: {e.message}")
        finally:
            shutil.rmtree(scratch)
    return found


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
