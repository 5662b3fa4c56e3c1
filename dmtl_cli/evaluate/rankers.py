"""What a model is worth on a day: rankers of one kind, and every metric by its flat name.

All rankers of a day are measured on the same rows, the same drawn negatives and the same sampled users.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.day import ID, Day
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows
from dmtl_cli.evaluate import metrics
from dmtl_cli.runs.run import Parent, Run
from dmtl_cli.serving.export import Export, best_k, top_k
from dmtl_cli.synth.world import Truth
from dmtl_cli.teacher.frozen import FrozenTeacher, Scorer

KS = (10, 50, 100)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def fixed_rng(*words: object) -> np.random.Generator:
    """A generator that does not depend on a run's seed: every seed and every setting is asked the same questions."""
    return np.random.default_rng(list("|".join(map(str, ("evaluate", *words))).encode()))


@dataclass(frozen=True)
class Exam:
    """The questions of one day: its exposed rows, negatives drawn for them, and users to retrieve for."""

    day: Day
    threshold: float | None
    exposures: bool
    """whether the log holds unclicked rows: without them exposed-row metrics of ctr and ctcvr are undefined"""
    rng: np.random.Generator
    rows_rng: np.random.Generator
    max_users: int
    max_rows: int

    @staticmethod
    def of(run: Run, day: Day, threshold: float | None) -> Exam:
        """The same users, rows and negatives for every stage that measures this day."""
        settings, exposures = run.config.evaluate, run.config.data.events.click is not None
        rngs = fixed_rng("users", day.day), fixed_rng("rows", day.day)
        return Exam(day, threshold, exposures, *rngs, settings.max_users, settings.max_rows)

    @cached_property
    def asked(self) -> npt.NDArray[np.bool_]:
        """[users] whose rows are measured: all, or of a large day a sample of whole users, so that memory is bounded
        and a user's rows stay together (GAUC and tau need them so)."""
        share = min(1.0, self.max_rows / max(1, len(self.day)))
        return self.rows_rng.random(len(self.day.users)) < share

    @cached_property
    def users(self) -> Ints:
        """Sampled user rows [U], sorted, among those with events."""
        active = np.flatnonzero(self.day.user_events > 0)
        if len(active) > self.max_users:
            active = np.sort(self.rng.choice(active, self.max_users, replace=False))
        return active

    @cached_property
    def relevant(self) -> dict[str, tuple[Ints, Ints, Floats | None]]:
        """Per label (click, read) what each sampled user found: indptr [U + 1], item rows, seconds (click only)."""
        place = np.full(len(self.day.users), -1)
        place[self.users] = np.arange(len(self.users))
        found: dict[str, list[tuple[Any, Any, Any]]] = {"click": [], "read": []}
        for block in self.day.blocks():
            who = place[block.user]
            converted, _ = block.labels(self.threshold)
            for label, hit in (("click", block.click), ("read", converted)):
                keep = hit & (who >= 0)
                found[label].append((who[keep], block.item[keep].astype(np.int64), np.nan_to_num(block.duration[keep])))
        out = {}
        for label, parts in found.items():
            frame = pl.DataFrame(
                {n: np.concatenate([p[k] for p in parts]) for k, n in enumerate(("user", "item", "seconds"))}
            )
            frame = (
                frame.group_by("user", "item").agg(pl.col("seconds").cast(pl.Float64).sort().sum()).sort("user", "item")
            )
            counts = np.bincount(frame["user"].to_numpy(), minlength=len(self.users))
            indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            seconds = frame["seconds"].to_numpy() if label == "click" and self.threshold is not None else None
            out[label] = (indptr, frame["item"].to_numpy(), seconds)
        return out


class Ranker(Protocol):
    """A model that can be measured."""

    def scores(self, rows: Rows) -> Mapping[str, npt.NDArray[Any]]:
        """By label (ctr, cvr, ctcvr; X, ctX of a further conversion X) a number [n] that orders pairs; where `probable`
        names the label, a log-probability."""

    @property
    def probable(self) -> tuple[str, ...]:
        """Labels whose score is a calibrated log-probability."""

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        """(places [U, K] in the ids, ids of the items retrieved from)."""


class AnyLabel(dict[str, npt.NDArray[Any]]):
    """One score for whatever label is asked."""

    def __init__(self, score: npt.NDArray[Any]) -> None:
        super().__init__()
        self.score = score

    def __missing__(self, label: str) -> npt.NDArray[Any]:
        return self.score


class TeacherRanker:
    def __init__(self, parent: Parent, day: Day, run: Run) -> None:
        self.teacher = FrozenTeacher(*parent, run.device, run.config)
        self.day, self.ranks = day, run.ranks
        self.calibrated = bool(parent[1].facts["calibrated"])

    @cached_property
    def scorer(self) -> Scorer:
        return self.teacher.on(self.day)

    @property
    def probable(self) -> tuple[str, ...]:
        further = self.teacher.tasks[1:]
        return ("ctr", *further, *(f"ct{x}" for x in further)) if self.calibrated else ()

    def _labels(self, logits: npt.NDArray[np.float32]) -> dict[str, Floats]:
        log_p = {t: self.teacher.calibration[t].log_prob(logits[:, k]) for k, t in enumerate(self.teacher.tasks)}
        return log_p | {f"ct{t}": log_p["ctr"] + log_p[t] for t in self.teacher.tasks[1:]}

    def scores(self, rows: Rows) -> Mapping[str, npt.NDArray[Any]]:
        mine = rows.take(self.ranks.slice(len(rows)))
        return self._labels(np.concatenate(self.ranks.gather_objects(self.scorer.pairs(mine))))

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        mine = users[self.ranks.slice(len(users))]
        tops = [best_k(self._labels(x)["ctcvr"][None], k) for x in self.scorer.catalogue(mine)]
        return np.concatenate([top for each in self.ranks.gather_objects(tops) for top in each]), self.day.items[ID]


class StudentRanker:
    """A student through its exported files, not the model that was trained."""

    def __init__(self, parent: Parent, day: Day, run: Run, *, fresh: bool = False) -> None:
        self.export, self.facts, self.day, self.fresh = Export(parent[0]), parent[1].facts, day, fresh
        Encoder.stored(parent[0], run.config.features_of("student"))

    @cached_property
    def user_vectors(self) -> npt.NDArray[np.float32]:
        return self.export.vectors(self.day.users, "user")

    @cached_property
    def item_vectors(self) -> npt.NDArray[np.float32]:
        return self.export.vectors(self.day.items, "item")

    @property
    def probable(self) -> tuple[str, ...]:
        predicts = self.facts["predicts"] or ""
        return (predicts.removeprefix("p"),) if predicts not in ("", "pfused") else ()

    def scores(self, rows: Rows) -> Mapping[str, npt.NDArray[Any]]:
        dot = (self.user_vectors[rows.user] * self.item_vectors[rows.item]).sum(1, dtype=np.float64)
        return AnyLabel(-np.logaddexp(0, -self.export.score(dot)))

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        ids, vectors = (self.day.items[ID], self.item_vectors) if self.fresh else self.export.items
        return top_k(self.user_vectors[users], vectors, k)[0], ids


class Popularity:
    """Items by clicks of an earlier day: the same list for everybody."""

    probable: tuple[str, ...] = ()

    def __init__(self, clicks: pl.DataFrame, day: Day) -> None:
        """clicks: `item_id` and `clicks`."""
        self.ids, counts = clicks["item_id"], clicks["clicks"].to_numpy()
        self.order = np.argsort(-counts, kind="stable").astype(np.int64)
        known = day.items.join(clicks, left_on=ID, right_on="item_id", how="left", maintain_order="left")["clicks"]
        self.by_row = known.fill_null(0).to_numpy().astype(np.float64)

    def scores(self, rows: Rows) -> Mapping[str, npt.NDArray[Any]]:
        return AnyLabel(self.by_row[rows.item])

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        return np.tile(self.order[:k], (len(users), 1)), self.ids


def on_rows(exam: Exam, rankers: Mapping[str, Ranker], rng: np.random.Generator) -> dict[str, float]:
    """AUC, GAUC, logloss, NE and PCOC of every ranker, on exposed rows and against drawn negatives."""
    held: dict[str, list[npt.NDArray[Any]]] = {}
    draws = {"uniform": Negatives(exam.day, 0.0), "popular": Negatives(exam.day, 1.0)}

    def keep(name: str, values: npt.NDArray[Any]) -> None:
        held.setdefault(name, []).append(values)

    for block in exam.day.blocks():
        conversions = block.conversions(exam.threshold)
        labels = ["ctr", *(label for x in conversions for label in (x, f"ct{x}"))]
        columns = {"weight": block.weight, "click": block.click}
        for x, (converted, known) in conversions.items():
            columns |= {f"converted.{x}": converted, f"known.{x}": known}
        whole_block = Rows(block.user.astype(np.int64), block.item.astype(np.int64), columns, block.features)
        rows = whole_block.take(np.flatnonzero(exam.asked[block.user]))
        keep("user", rows.user.astype(np.int32))
        for name, values in rows.columns.items():
            keep(name, values)
        clicked = rows.take(np.flatnonzero(rows.columns["click"]))
        sets = {"": rows}
        for suffix, negatives in draws.items():
            item, valid = negatives.draw(clicked.user, rng)
            sets[suffix] = Rows(clicked.user, item, {}, clicked.features)
            keep(f"{suffix}.valid", valid)
        for prefix, ranker in rankers.items():
            for suffix, chosen in sets.items():
                scores = ranker.scores(chosen)
                for label in labels:
                    keep(f"{prefix}.{label}.{suffix}", scores[label].astype(np.float32 if suffix else np.float64))
    whole = {name: np.concatenate(parts) for name, parts in held.items()}

    out: dict[str, float] = {}
    click, user, weight = whole["click"], whole["user"], whole["weight"]
    populations = {"ctr": (np.ones_like(click), click)}
    for x in conversions:
        converted, known = whole[f"converted.{x}"], whole[f"known.{x}"]
        populations |= {x: (click & known, converted), f"ct{x}": (known, converted)}
    for prefix, ranker in rankers.items():
        for label, (mask, truth) in populations.items():
            name = f"{prefix}.{label}"
            score = whole[f"{name}."]
            given_click = label in conversions
            if exam.exposures or given_click:
                y, s, w = truth[mask], score[mask], weight[mask]
                _put(out, f"{name}.auc", metrics.auc(y, s, w))
                _put(out, f"{name}.gauc", metrics.gauc(y, s, user[mask], w))
                if label in ranker.probable:
                    p = np.exp(s)
                    _put(out, f"{name}.logloss", metrics.logloss(y, p, w))
                    _put(out, f"{name}.ne", metrics.ne(y, p, w))
                    _put(out, f"{name}.pcoc", metrics.pcoc(y, p, w))
            if given_click:
                continue
            positive = score[mask & truth]
            for suffix in draws:
                negative = whole[f"{name}.{suffix}"][whole[f"{suffix}.valid"]]
                y = np.concatenate([np.ones(len(positive), np.bool_), np.zeros(len(negative), np.bool_)])
                both = np.concatenate([positive.astype(np.float32), negative])
                _put(out, f"{name}.auc.{suffix}", metrics.auc(y, both))
    if {"student", "student_teacher"} <= set(rankers):
        tau = metrics.kendall_tau(whole["student.ctcvr."], whole["student_teacher.ctcvr."], user)
        _put(out, "student.kendall_tau", tau)
    return out


def on_catalogue(
    exam: Exam, rankers: Mapping[str, Ranker], truth: Truth | None, rng: np.random.Generator
) -> dict[str, float]:
    """Recall, hit rate, NDCG and time recall of what every ranker retrieves; with a known truth what it is worth."""
    out: dict[str, float] = {}
    tops: dict[str, Ints] = {}
    ids = exam.day.items[ID]
    for prefix, ranker in rankers.items():
        places, held = ranker.retrieve(exam.users, max(KS))
        rows = exam.day.rows_of(held, "item")
        tops[prefix] = np.where(rows[places] >= 0, rows[places], -1)
        for label, (indptr, items, seconds) in exam.relevant.items():
            found = metrics.retrieval(tops[prefix], (indptr, items), seconds, KS)
            for name, value in found.items():
                _put(out, f"{prefix}.{name}" if name.startswith("time") else f"{prefix}.{label}.{name}", value)
        if truth is not None:
            _truth(out, prefix, truth, exam, held, places)
    if truth is not None:
        seconds_UI = truth.read_seconds(_np(exam.day.users[ID])[exam.users], _np(ids))
        for prefix, scores in (("oracle", seconds_UI), ("random", rng.random(seconds_UI.shape))):
            _truth(out, prefix, truth, exam, ids, best_k(scores, max(KS)))
    if {"student", "student_teacher"} <= set(tops):
        for name, value in metrics.overlap(tops["student"], tops["student_teacher"], KS).items():
            out[f"student.teacher_{name}"] = value
    return out


def _truth(out: dict[str, float], prefix: str, truth: Truth, exam: Exam, ids: pl.Series, places: Ints) -> None:
    """Expected click rate, long-read rate and read seconds of the top K, over the sampled users."""
    users, items = _np(exam.day.users[ID])[exam.users], _np(ids)
    values = {"read_seconds": truth.read_seconds(users, items), "click_rate": truth.click_rate(users, items)}
    if exam.threshold is not None:
        values["long_read_rate"] = truth.long_read_rate(users, items, exam.threshold)
    for name, of_all in values.items():
        of_top = np.take_along_axis(of_all, places, 1)
        for k in KS:
            out[f"{prefix}.{name}@{k}"] = float(of_top[:, :k].mean())


def _np(ids: pl.Series) -> npt.NDArray[Any]:
    return ids.to_numpy()


def _put(out: dict[str, float], name: str, value: float | None) -> None:
    """What is undefined is absent."""
    if value is not None and np.isfinite(value):
        out[name] = float(value)


def truth_of(run: Run) -> tuple[Truth | None, list[dict[str, Any]]]:
    """A synthetic world's truth, where the config names one, and the files it was read from."""
    if run.config.data.truth is None:
        return None, []
    folder = Path(run.config.data.truth)
    truth = Truth.load(folder)
    files = [f for f in sorted(folder.iterdir()) if f.is_file()]
    digests = [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]
    named = zip(files, digests, strict=True)
    return truth, [{"path": f"truth/{f.name}", "rows": 0, "bytes": f.stat().st_size, "digest": d} for f, d in named]


def scored_by(run: Run, export: Parent) -> Parent | None:
    """The very teacher that scored an exported student; None for a student that saw no scores."""
    taught = export[1].facts["teacher"]
    if taught is None:
        return None
    return run.parent("teacher", dt.date.fromisoformat(taught["day"]), run_id=taught["run_id"])
