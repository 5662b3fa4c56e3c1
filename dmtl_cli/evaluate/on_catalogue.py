"""How much of what a user wants a ranker retrieves from all items, and in a synthetic world what that is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from dmtl_cli.data.log.day import ID
from dmtl_cli.evaluate import metrics
from dmtl_cli.evaluate.exam import Exam, Floats, Ints, Wanted, fixed_rng
from dmtl_cli.evaluate.metrics import KS
from dmtl_cli.evaluate.paired import share_error
from dmtl_cli.evaluate.rankers import PREFERENCE, Retriever, StudentRanker
from dmtl_cli.evaluate.truth import Truth
from dmtl_cli.runs.progress import SILENT, RunLog
from dmtl_cli.serving.search import best_k
from dmtl_cli.student.kappa import GRID

FRESH = "fresh"
"""the student that retrieves from the measured day's items: its metrics are those of the student, with this suffix"""
TRADED = ("click.recall@50", "read.recall@50", "time_recall@50", "click_rate@50", "read_seconds@50")
"""metrics of the trade: `student.<metric>.kappa=<kappa>`"""
FEW = "few"
"""suffix of a student's TRADED metrics over the users of slow rankers alone, which a teacher's are comparable with"""
NEW_USERS = "new_users"
"""suffix of metrics over the users without an event before the day alone"""
_PAIRS = 1 << 22  # whose worth is in memory at a time: 32 MB a matrix
_BOUNDED = 1 << 26  # pairs of which the best are sought for all users: seconds


@dataclass(frozen=True)
class Retrieved:
    """The top items of some of the users to retrieve for."""

    who: Ints
    """places [U] in the users to retrieve for"""
    places: Ints
    """[U, K] in `ids`, best first; -1: nothing"""
    ids: pl.Series
    """items that could be retrieved"""
    rows: Ints
    """row of each of these in the day's items; -1: the day does not have it"""

    @staticmethod
    def by(ranker: Retriever, exam: Exam, k: int) -> Retrieved:
        """The top k of a ranker, a slow one's for fewer users."""
        who = exam.few if ranker.slow else np.arange(len(exam.users))
        places, ids = ranker.retrieve(exam.users[who], k)
        return Retrieved(who, places, ids, exam.day.rows_of(ids, "item"))

    @property
    def items(self) -> Ints:
        """[U, K] rows of the day's items, -1 where there is none."""
        return np.append(self.rows, -1)[self.places]  # place -1 is the last


def retrieve(exam: Exam, rankers: Mapping[str, Retriever], log: RunLog = SILENT) -> dict[str, Retrieved]:
    """The top items of every ranker, as many as are measured."""
    tops = {}
    with log.progress(f"evaluation {exam.day.day}: top {max(KS)}", len(rankers), "step") as bar:
        for name, ranker in rankers.items():
            bar.next("student, of the day's items" if name == FRESH else name)
            tops[name] = Retrieved.by(ranker, exam, max(KS))
    return tops


def on_catalogue(exam: Exam, tops: Mapping[str, Retrieved], truth: Truth | None) -> dict[str, float]:
    """Recall, hit rate, NDCG, time recall, coverage and Gini of the top items of every ranker; with a known truth their
    worth, beside the best and a random choice (`oracle`, `random`).

    Args:
        tops: what `retrieve` gives.

    Returns:
        `<ranker>.<metric>@K`, `<ranker>.<label>.<metric>@K`, of recall@50 also the standard error over users (`.se`);
        what is undefined is absent.
    """
    out: dict[str, float] = {}
    items = {name: for_few(exam, top) for name, top in tops.items()}
    for name, top in tops.items():
        out |= _named(name, _found(exam, top) | _spread(top) | _worth(truth, exam, top))
        if name in ("student", PREFERENCE) and len(exam.few) < len(exam.users):
            some = Retrieved(exam.few, top.places[exam.few], top.ids, top.rows)
            out |= {f"{name}.{metric}.{FEW}": value for metric, value in _traded(exam, some, truth).items()}
    if truth is not None:
        for name, top in _bounds(truth, exam):
            out |= _named(name, _worth(truth, exam, top))
    if {"student", "student_teacher"} <= set(items):
        taught = PREFERENCE if PREFERENCE in items else "student"
        common = metrics.overlap(items[taught], items["student_teacher"])
        out |= {f"student.teacher_{metric}": value for metric, value in common.items()}
    return out


def for_few(exam: Exam, top: Retrieved) -> Ints:
    """[few, K] the retrieved item rows of the users for whom slow rankers retrieve too."""
    return top.items if top.who is exam.few else top.items[exam.few]


def over_kappa(exam: Exam, student: StudentRanker, truth: Truth | None, log: RunLog = SILENT) -> dict[str, float]:
    """What a student of two blocks retrieves by other weights of exposure, and its own; of one block nothing.

    Returns:
        `student.kappa` and `student.<metric>.kappa=<kappa>` of the TRADED metrics.
    """
    if not student.knows_shown:
        return {}
    out = {"student.kappa": student.kappa}
    grid = GRID if student.kappa else GRID[:1]
    with log.progress(f"evaluation {exam.day.day}: weights of exposure", len(grid), "step") as bar:
        for kappa in grid:
            bar.next(f"{kappa:g}")
            top = Retrieved.by(student.at(kappa), exam, 50)
            out |= {f"student.{m}.kappa={kappa:g}": value for m, value in _traded(exam, top, truth).items()}
    return out


def _traded(exam: Exam, top: Retrieved, truth: Truth | None) -> dict[str, float]:
    wanted = {label: those.take(top.who) for label, those in exam.wanted.items()}
    values = _recall(wanted, top.items, ks=(50,)) | _worth(truth, exam, top, ks=(50,))
    return {metric: values[metric] for metric in TRADED if metric in values}


def _named(ranker: str, values: dict[str, float]) -> dict[str, float]:
    if ranker == FRESH:
        return {f"student.{metric}.{FRESH}": value for metric, value in values.items()}
    return {f"{ranker}.{metric}": value for metric, value in values.items()}


# -- what was wanted ---------------------------------------------------------------------------------------------------


def _found(exam: Exam, top: Retrieved) -> dict[str, float]:
    """How much of what was wanted is in the top: all of it, items seen before and new ones, by propensity, what new
    users wanted; and how much could be."""
    wanted = {label: those.take(top.who) for label, those in exam.wanted.items()}
    items = top.items
    out = _recall(wanted, items) | _errors(wanted, items[:, :50])
    retrievable = np.zeros(len(exam.day.items), np.bool_)
    retrievable[top.rows[top.rows >= 0]] = True
    kinds: dict[str, Floats] = {}
    if exam.seen is not None:
        kinds |= {"seen": exam.seen.astype(np.float64), "new": (~exam.seen).astype(np.float64)}
    if exam.exposures:
        kinds["snips"] = metrics.inverse_propensity(exam.day.item_events)
    for label, those in wanted.items():
        relevant = those.indptr, those.items
        if (most := metrics.ceiling(relevant, retrievable)) is not None:
            out[f"{label}.ceiling"] = most
        for kind, weight in kinds.items():
            found = metrics.weighted_recall(items, relevant, weight[those.items])
            out |= {f"{label}.recall@{k}.{kind}": value for k, value in found.items()}
    return out | _found_for_new(exam, top)


def _found_for_new(exam: Exam, top: Retrieved) -> dict[str, float]:
    """How much of what new users wanted is in their top."""
    if exam.new_users is None:
        return {}
    new = np.flatnonzero(exam.new_users[exam.users[top.who]])
    found = _recall({label: those.take(top.who[new]) for label, those in exam.wanted.items()}, top.items[new])
    return {f"{name}.{NEW_USERS}": value for name, value in found.items() if "recall@" in name}


def _recall(wanted: dict[str, Wanted], items: Ints, ks: tuple[int, ...] = KS) -> dict[str, float]:
    """How much of what was wanted is in the top [U, K] item rows; -1 is an item that the day does not have."""
    out: dict[str, float] = {}
    for label, those in wanted.items():
        found = metrics.retrieval(items, (those.indptr, those.items), those.seconds, ks)
        out |= {name if name.startswith("time") else f"{label}.{name}": value for name, value in found.items()}
    return out


def _errors(wanted: dict[str, Wanted], items: Ints) -> dict[str, float]:
    """The standard errors over users of recall@50 of the top [U, 50] item rows."""
    out = {f"{label}.recall@50.se": share_error(items, those.indptr, those.items) for label, those in wanted.items()}
    for those in (w for w in wanted.values() if w.seconds is not None):
        out["time_recall@50.se"] = share_error(items, those.indptr, those.items, those.seconds)
    return {name: error for name, error in out.items() if error is not None}


def _spread(top: Retrieved) -> dict[str, float]:
    """How the top items of all users spread over what could be retrieved."""
    return metrics.coverage(top.places, len(top.ids)) | metrics.gini(top.places, len(top.ids))


# -- what it is worth --------------------------------------------------------------------------------------------------


def _user_ids(exam: Exam, who: Ints) -> Ints:
    return exam.day.users[ID].gather(exam.users[who]).to_numpy()


def _worth(truth: Truth | None, exam: Exam, top: Retrieved, ks: tuple[int, ...] = KS) -> dict[str, float]:
    """Expected click rate, long-read rate and read seconds of the top items, mean over users; without a truth none."""
    if truth is None or not len(top.ids):
        return {}
    users, there = _user_ids(exam, top.who), top.places >= 0
    items = top.ids.to_numpy()[np.maximum(top.places, 0)]
    parts: dict[str, list[Floats]] = {"read_seconds": [], "click_rate": []}
    if exam.threshold is not None:
        parts["long_read_rate"] = []
    for block in _blocks(len(users), 8 * max(1, items.shape[1])):
        pairs = users[block], items[block]
        parts["read_seconds"].append(truth.read_seconds(*pairs))
        parts["click_rate"].append(truth.click_rate(*pairs))
        if exam.threshold is not None:
            parts["long_read_rate"].append(truth.long_read_rate(*pairs, exam.threshold))
    values = {name: np.concatenate(part) for name, part in parts.items()}
    return {
        f"{name}@{k}": float(value[:, :k][there[:, :k]].mean())
        for name, value in values.items()
        for k in ks
        if there[:, :k].any()
    }


def _bounds(truth: Truth, exam: Exam) -> Iterator[tuple[str, Retrieved]]:
    """The items of most expected read seconds, and random ones; of many pairs for fewer users, as a slow ranker's."""
    ids = exam.day.items[ID]
    who = np.arange(len(exam.users)) if len(exam.users) * len(ids) <= _BOUNDED else exam.few
    users, items, rng = _user_ids(exam, who), ids.to_numpy(), fixed_rng("random", exam.day.day)
    best, random = [], []
    for block in _blocks(len(users), len(items)):
        seconds = truth.read_seconds(users[block], items)
        best.append(best_k(seconds, max(KS)))
        random.append(best_k(rng.random(seconds.shape), max(KS)))
    for name, places in (("oracle", best), ("random", random)):
        yield name, Retrieved(who, np.concatenate(places), ids, np.arange(len(ids)))


def _blocks(users: int, width: int) -> Iterator[slice]:
    """Users in blocks of at most _PAIRS pairs."""
    step = max(1, _PAIRS // width)
    return (slice(start, start + step) for start in range(0, users, step))
