"""How much of what a user wants a ranker retrieves from all items, and in a synthetic world what that is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from dmtl_cli.config.evaluate import LISTS
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.evaluate import metrics
from dmtl_cli.evaluate.exam import Exam, Floats, Ints, Wanted, fixed_rng
from dmtl_cli.evaluate.rankers import PREFERENCE, Retriever, StudentRanker
from dmtl_cli.evaluate.truth import Truth
from dmtl_cli.runs.progress import SILENT, RunLog
from dmtl_cli.serving.search import Pairs, best_k
from dmtl_cli.student.kappa import GRID

FRESH = "fresh"
"""the student that retrieves from the measured day's items: its metrics are those of the student, with this suffix"""
_TRADED = ("click.recall", "read.recall", "time_recall", "click_rate", "read_seconds")
FEW = "few"
"""suffix of a student's `traded` metrics over the users of slow rankers alone, which a teacher's are comparable with"""
NEW_USERS = "new_users"
"""suffix of metrics over the users without an event before the day alone"""
_PAIRS = 1 << 22  # whose worth is in memory at a time: 32 MB a matrix
_BOUNDED = 1 << 24  # pairs of which the best are sought for all users: a second


def traded(k: int) -> tuple[str, ...]:
    """Metrics of the trade between clicks and reads at K: `student.<metric>.kappa=<kappa>`."""
    return tuple(f"{name}@{k}" for name in _TRADED)


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
        (places,), ids = _unseen(exam, exam.users[who], k, lambda users, k: _alone(ranker.retrieve(users, k)))
        return Retrieved(who, places, ids, exam.day.rows_of(ids, "item"))

    @property
    def items(self) -> Ints:
        """[U, K] rows of the day's items, -1 where there is none."""
        return np.append(self.rows, -1)[self.places]  # place -1 is the last


def retrieve(
    exam: Exam,
    rankers: Mapping[str, Retriever],
    log: RunLog = SILENT,
    known: Mapping[str, Retrieved] | None = None,
) -> dict[str, Retrieved]:
    """The top items of every ranker, as many as are measured; of one that has two names once.

    Args:
        known: those that need not be sought again, by ranker.
    """
    tops = {name: replace(top, who=exam.few) for name, top in (known or {}).items()}
    rankers = {name: ranker for name, ranker in rankers.items() if name not in tops}
    with log.progress(f"evaluation {exam.day.day}: top {max(exam.ks)}", len(rankers), "step") as bar:
        for name, ranker in rankers.items():
            bar.next("student, of the day's items" if name == FRESH else name)
            same = next((other for other in rankers if other in tops and rankers[other] is ranker), None)
            tops[name] = tops[same] if same else Retrieved.by(ranker, exam, max(exam.ks))
    return tops


def _alone(found: tuple[Ints, pl.Series]) -> tuple[list[Ints], pl.Series]:
    return [found[0]], found[1]


def _unseen(
    exam: Exam, users: Ints, k: int, search: Callable[[Ints, int], tuple[list[Ints], pl.Series]]
) -> tuple[list[Ints], pl.Series]:
    """What a search finds for user rows [U], ascending, without what they have seen where that is left out.

    Args:
        search: gives the best K items of user rows, by each of some ways: places [U, K] in ids, -1 for none; the ids.
    """
    if exam.excluded is None:
        return search(users, k)
    seen = exam.excluded.count(users)
    deeper = np.where(seen, 1 << np.ceil(np.log2(np.maximum(seen, 1))).astype(np.int64), 0)  # few searches
    parts: list[tuple[Ints, list[Ints]]] = []
    for more in sorted({*deeper.tolist()}):
        some = np.flatnonzero(deeper == more)
        ways, ids = search(users[some], k + more)
        barred = exam.excluded.among(users[some], ids)
        parts.append((some, [_left(places, barred, len(ids))[:, :k] for places in ways]))
    order = np.argsort(np.concatenate([some for some, _ in parts]))
    return [np.concatenate(each)[order] for each in zip(*(ways for _, ways in parts), strict=True)], ids


def _left(places: Ints, barred: Pairs, items: int) -> Ints:
    """Places [U, K] without those that are barred: they are -1, at the end."""
    user = np.arange(len(places))[:, None]
    gone = np.isin(user * items + places, barred.user * items + barred.item)
    order = np.argsort(gone, axis=1, kind="stable")
    return np.where(np.take_along_axis(gone, order, 1), -1, np.take_along_axis(places, order, 1))


def on_catalogue(exam: Exam, tops: Mapping[str, Retrieved], truth: Truth | None) -> dict[str, float]:
    """Recall, hit rate, NDCG, time recall, coverage and Gini of the top items of every ranker; with a known truth their
    worth, beside the best and a random choice (`oracle`, `random`).

    Args:
        tops: what `retrieve` gives.

    Returns:
        `<ranker>.<metric>@K`, `<ranker>.<label>.<metric>@K`, of recall and worth also the standard error over users
        (`.se`); `<list>.<metric>.ahead_of_student` and `<student>.<metric>.ahead_of_teacher`; what is undefined is
        absent.
    """
    out: dict[str, float] = {}
    items = {name: for_few(exam, top) for name, top in tops.items()}
    found = {name: _found(exam, top) for name, top in tops.items()}
    for name, top in tops.items():
        out |= _named(
            name, _told(found[name] | _worth(truth, exam, top, exam.ks)) | _ceilings(exam, top) | _spread(exam, top)
        )
        if name in ("student", PREFERENCE) and len(exam.few) < len(exam.users):
            some = Retrieved(exam.few, top.places[exam.few], top.ids, top.rows)
            traded = _traded(exam, some, truth)
            out |= _told({f"{name}.{metric}.{FEW}": values for metric, values in traded.items()})
    out |= _told(_ahead(exam, found))
    if truth is not None:
        for name, top in _bounds(truth, exam):
            out |= _named(name, _told(_worth(truth, exam, top, exam.ks)))
    if {"student", "student_teacher"} <= set(items):
        taught = PREFERENCE if PREFERENCE in items else "student"
        common = metrics.overlap(items[taught], items["student_teacher"], exam.ks)
        out |= {f"student.teacher_{metric}": value for metric, value in common.items()}
    return out


def _told(of_each: dict[str, Floats]) -> dict[str, float]:
    """The mean of each metric over the users that have it and, but for hit rates and NDCG, its standard error."""
    out = metrics.means(of_each)
    for name in (n for n in list(out) if "hitrate" not in n and "ndcg" not in n):
        if (error := metrics.mean_error(of_each[name])) is not None:
            out[f"{name}.se"] = error
    return out


def _ahead(exam: Exam, found: Mapping[str, dict[str, Floats]]) -> dict[str, Floats]:
    """For each user how much more of what they wanted lists find than the student, and the student than its teacher:
    the same users, so the error of the mean is that of the differences."""
    out: dict[str, Floats] = {}
    for other, names in (("student", LISTS), ("student_teacher", ("student", PREFERENCE))):
        for name in (n for n in names if {n, other} <= set(found)):
            suffix = f"ahead_of_{other.removeprefix('student_')}"
            for metric in (m for m in traded(exam.k) if m in found[name]):
                one, two = found[name][metric], found[other][metric]
                one = one if len(one) == len(two) else one[exam.few]
                out[f"{name}.{metric}.{suffix}"] = one - two
    return out


def for_few(exam: Exam, top: Retrieved) -> Ints:
    """[few, K] the retrieved item rows of the users for whom slow rankers retrieve too."""
    return top.items if top.who is exam.few else top.items[exam.few]


def over_kappa(exam: Exam, student: StudentRanker, truth: Truth | None, log: RunLog) -> dict[str, float]:
    """What a student of two blocks retrieves by other weights of exposure, and its own; of one block nothing.

    Returns:
        `student.kappa` and `student.<metric>.kappa=<kappa>` of the `traded` metrics.
    """
    if not student.knows_shown:
        return {}
    out = {"student.kappa": student.kappa}
    if not student.kappa:  # as exported, its vectors know no other
        found, ids = [Retrieved.by(student, exam, exam.k).places], student.export.items[0]
    else:
        found, ids = _unseen(exam, exam.users, exam.k, lambda users, k: student.retrieve_by_kappa(users, k, GRID))
    rows, who = exam.day.rows_of(ids, "item"), np.arange(len(exam.users))
    with log.progress(f"evaluation {exam.day.day}: weights of exposure", len(found), "step") as bar:
        for kappa, places in zip(GRID, found, strict=False):
            bar.next(f"{kappa:g}")
            traded = _traded(exam, Retrieved(who, places, ids, rows), truth)
            out |= _told({f"student.{metric}.kappa={kappa:g}": values for metric, values in traded.items()})
    return out


def _traded(exam: Exam, top: Retrieved, truth: Truth | None) -> dict[str, Floats]:
    wanted = {label: those.take(top.who) for label, those in exam.wanted.items()}
    values = _recall(wanted, top.items, (exam.k,)) | _worth(truth, exam, top, (exam.k,))
    return {metric: values[metric] for metric in traded(exam.k) if metric in values}


def _named(ranker: str, values: dict[str, float]) -> dict[str, float]:
    if ranker == FRESH:
        return {f"student.{metric}.{FRESH}": value for metric, value in values.items()}
    return {f"{ranker}.{metric}": value for metric, value in values.items()}


# -- what was wanted ---------------------------------------------------------------------------------------------------


def _found(exam: Exam, top: Retrieved) -> dict[str, Floats]:
    """How much of what each user [U] wanted is in their top: all of it, items seen before and new ones, by propensity;
    and of new users alone. NaN where they wanted nothing."""
    wanted = {label: those.take(top.who) for label, those in exam.wanted.items()}
    out = _recall(wanted, top.items, exam.ks)
    new_users = {}
    if exam.new_users is not None:
        new = exam.new_users[exam.users[top.who]]
        named = (name for name in out if "recall@" in name)
        new_users = {f"{name}.{NEW_USERS}": np.where(new, out[name], np.nan) for name in named}
    kinds: dict[str, Floats] = {}
    if exam.seen is not None:
        kinds |= {"seen": exam.seen.astype(np.float64), "new": (~exam.seen).astype(np.float64)}
    if exam.exposures:
        kinds["snips"] = metrics.inverse_propensity(exam.day.item_events)
    for label, those in wanted.items():
        for kind, weight in kinds.items():
            found = metrics.weighted_recall(top.items, (those.indptr, those.items), weight[those.items], exam.ks)
            out |= {f"{label}.recall@{k}.{kind}": values for k, values in found.items()}
    return out | new_users


def repeats(exam: Exam) -> dict[str, float]:
    """How many items users clicked that they had seen (`repeats.found`), and how many it would be if what somebody
    clicks did not depend on what they have seen: of each click the share of all clicks that are of what its user has
    seen (`repeats.by_chance`). Nothing where it is not known what they had seen."""
    if exam.seen_items is None:
        return {}
    seen = exam.seen_items.among(exam.users, exam.day.items[ID])
    clicked = exam.wanted["click"]
    count, times = np.diff(clicked.indptr), np.bincount(clicked.items, minlength=len(exam.day.items))
    pairs = np.repeat(np.arange(len(count)), count) * len(times) + clicked.items
    found = np.isin(pairs, seen.user * len(times) + seen.item).sum()
    by_chance = (count[seen.user] * times[seen.item]).sum() / max(1, len(pairs))
    return {"repeats.found": float(found), "repeats.by_chance": float(by_chance)}


def _ceilings(exam: Exam, top: Retrieved) -> dict[str, float]:
    """How much of what was wanted could be in a top."""
    retrievable = np.zeros(len(exam.day.items), np.bool_)
    retrievable[top.rows[top.rows >= 0]] = True
    out: dict[str, float] = {}
    for label, those in exam.wanted.items():
        own = those.take(top.who)
        if (most := metrics.ceiling((own.indptr, own.items), retrievable)) is not None:
            out[f"{label}.ceiling"] = most
    return out


def _recall(wanted: dict[str, Wanted], items: Ints, ks: tuple[int, ...]) -> dict[str, Floats]:
    """How much of what each user [U] wanted is in their top [U, K] item rows; -1 is an item that the day does not
    have."""
    out: dict[str, Floats] = {}
    for label, those in wanted.items():
        found = metrics.retrieval_of_each(items, (those.indptr, those.items), those.seconds, ks)
        out |= {name if name.startswith("time") else f"{label}.{name}": values for name, values in found.items()}
    return out


def _spread(exam: Exam, top: Retrieved) -> dict[str, float]:
    """How the top items of all users spread over what could be retrieved."""
    return metrics.coverage(top.places, len(top.ids), exam.ks) | metrics.gini(top.places, len(top.ids), exam.ks)


# -- what it is worth --------------------------------------------------------------------------------------------------


def _user_ids(exam: Exam, who: Ints) -> Ints:
    return exam.day.users[ID].gather(exam.users[who]).to_numpy()


def _worth(truth: Truth | None, exam: Exam, top: Retrieved, ks: tuple[int, ...]) -> dict[str, Floats]:
    """Expected click rate, long-read rate and read seconds of each user's [U] top items, the mean of these; without a
    truth none."""
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
    out: dict[str, Floats] = {}
    for name, part in parts.items():
        value = np.where(there, np.concatenate(part), 0.0)
        for k in ks:
            count = there[:, :k].sum(1)
            out[f"{name}@{k}"] = np.where(count > 0, value[:, :k].sum(1) / np.maximum(count, 1), np.nan)
    return out


def _bounds(truth: Truth, exam: Exam) -> Iterator[tuple[str, Retrieved]]:
    """The items of most expected read seconds, and random ones; of many pairs for fewer users, as a slow ranker's."""
    ids = exam.day.items[ID]
    who = np.arange(len(exam.users)) if len(exam.users) * len(ids) <= _BOUNDED else exam.few
    users, items, rng = _user_ids(exam, who), ids.to_numpy(), fixed_rng("random", exam.day.day)
    best, random = [], []
    for block in _blocks(len(users), len(items)):
        seconds = truth.read_seconds(users[block], items)
        best.append(best_k(seconds, max(exam.ks)))
        random.append(best_k(rng.random(seconds.shape), max(exam.ks)))
    for name, places in (("oracle", best), ("random", random)):
        yield name, Retrieved(who, np.concatenate(places), ids, np.arange(len(ids)))


def _blocks(users: int, width: int) -> Iterator[slice]:
    """Users in blocks of at most _PAIRS pairs."""
    step = max(1, _PAIRS // width)
    return (slice(start, start + step) for start in range(0, users, step))
