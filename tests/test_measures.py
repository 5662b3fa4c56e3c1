"""What a retrieval is measured by beside recall, the impersonal lists, EASE and iALS, and a student of two blocks."""

from __future__ import annotations

import datetime as dt
import importlib.machinery
import json
import re
import shutil
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrievals import retrieved
from test_comparison import cells_of
from test_log import put, read
from worlds import BASE, DAYS, Project, events

from dmtl_cli.config.evaluate import LISTS, Evaluate
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.evaluate import history, metrics, rankers
from dmtl_cli.evaluate.exam import Exam, SeenItems
from dmtl_cli.evaluate.figure import figure_of
from dmtl_cli.evaluate.history import Ease, HistoryRanker, Ials, PastReads, Reads
from dmtl_cli.evaluate.lists import ItemList, impersonal, seen_items
from dmtl_cli.evaluate.on_catalogue import Retrieved, on_catalogue, repeats, retrieve, traded
from dmtl_cli.evaluate.on_rows import on_rows, score_rows
from dmtl_cli.evaluate.table import Table
from dmtl_cli.evaluate.truth import Truth
from dmtl_cli.runs.run import Parent, Run
from dmtl_cli.stages import evaluate as evaluation
from dmtl_cli.student.kappa import GRID
from dmtl_cli.synth.generate import generate

Ints = npt.NDArray[np.int64]
seeds = st.integers(0, 2**32 - 1)


def catalogue(exam: Exam, rankers: dict[str, Any]) -> dict[str, float]:
    return on_catalogue(exam, retrieve(exam, rankers), None)


def on_exposed(exam: Exam, rankers: dict[str, Any]) -> dict[str, float]:
    return on_rows(exam, rankers, score_rows(exam, rankers))


def drawn(seed: int) -> tuple[Ints, tuple[Ints, Ints], int]:
    """Top 4 of 6 users, some short, what each wanted, and the number of items."""
    rng = np.random.default_rng(seed)
    items = int(rng.integers(5, 15))
    top = np.stack([rng.permutation(items)[:4] for _ in range(6)])
    top[rng.random(top.shape) < 0.2] = -1
    count = rng.integers(0, 4, 6)
    wanted = np.concatenate([np.zeros(0, np.int64), *(rng.permutation(items)[:n] for n in count)])
    return top, (np.concatenate([[0], np.cumsum(count)]), wanted.astype(np.int64)), items


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_coverage_and_gini_by_hand() -> None:
    top = np.array([[0, 1], [0, 2], [0, -1]])  # item 0 three times, 1 and 2 once, 3 never
    assert metrics.coverage(top, 4, ks=(1, 2)) == {"coverage@1": 0.25, "coverage@2": 0.75}
    # sorted 0, 1, 1, 3: (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 3) / (4 * 5)
    assert metrics.gini(top, 4, ks=(2,)) == {"gini@2": pytest.approx(9 / 20)}
    assert metrics.gini(np.array([[0, 1], [2, 3]]), 4, ks=(2,)) == {"gini@2": 0.0}
    same = np.array([[0, 1], [0, 1]])
    assert metrics.gini(same, 10, ks=(2,)) == {"gini@2": pytest.approx(1 - 2 / 10)}
    nothing = np.full((2, 2), -1)
    assert metrics.gini(nothing, 4, ks=(2,)) == {} and metrics.coverage(nothing, 4, ks=(2,)) == {"coverage@2": 0}
    assert metrics.coverage(nothing, 0, ks=(2,)) == metrics.gini(nothing, 0, ks=(2,)) == {}


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_gini_is_the_mean_difference_of_all_pairs(seed: int) -> None:
    top, _, items = drawn(seed)
    times = [int((top == item).sum()) for item in range(items)]
    if not sum(times):
        return
    (found,) = metrics.gini(top, items, ks=(4,)).values()
    assert 0 <= found < 1
    pairs = sum(abs(a - b) for a in times for b in times)
    assert found == pytest.approx(pairs / (2 * items * sum(times)))
    assert metrics.coverage(top, items, ks=(4,))["coverage@4"] == sum(t > 0 for t in times) / items


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_weighted_recall_is_the_plain_loop(seed: int) -> None:
    top, (indptr, wanted), _ = drawn(seed)
    weight = np.random.default_rng(seed).choice([0.0, 0.5, 2.0], len(wanted))
    for k in (1, 4, 9):
        shares = []
        for user, found in enumerate(top):
            mine = slice(indptr[user], indptr[user + 1])
            if weight[mine].sum():
                hit = sum(w for i, w in zip(wanted[mine], weight[mine], strict=True) if i in found[:k])
                shares.append(hit / weight[mine].sum())
        made = metrics.means(metrics.weighted_recall(top, (indptr, wanted), weight, ks=(k,)))
        assert made == ({k: pytest.approx(np.mean(shares))} if shares else {})


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 1000))
def test_snips_of_equal_propensities_is_recall_and_a_ceiling_is_above_it(seed: int, shown: int) -> None:
    top, (indptr, wanted), items = drawn(seed)
    weight = metrics.inverse_propensity(np.full(items, shown))
    recall = retrieved(top, (indptr, wanted), ks=(4,)).get("recall@4")
    assert metrics.means(metrics.weighted_recall(top, (indptr, wanted), weight[wanted], ks=(4,))).get(4) == (
        None if recall is None else pytest.approx(recall)
    )
    retrievable = np.isin(np.arange(items), top)
    most = metrics.ceiling((indptr, wanted), retrievable)
    everything = metrics.ceiling((indptr, wanted), np.ones(items, np.bool_))
    if recall is None:
        assert most is everything is None
    else:
        assert most is not None and recall <= most + 1e-12 and everything == 1


def test_inverse_propensity_by_hand() -> None:
    # shares .98, .02 and none; an even share is 1/2, so none counts as less than .05
    assert metrics.inverse_propensity(np.array([98, 2, 0])).tolist() == pytest.approx([1 / 0.98, 20, 20])
    assert metrics.inverse_propensity(np.array([0, 0])).tolist() == [1, 1]
    # one user, a hit shown often, a miss shown seldom: recall 1/2, SNIPS 1 / (1 + 3)
    weight = metrics.inverse_propensity(np.array([3, 1]))
    wanted = np.array([0, 2]), np.array([0, 1])
    assert metrics.weighted_recall(np.array([[0]]), wanted, weight, ks=(1,))[1].tolist() == [pytest.approx(1 / 4)]


def test_new_items_and_the_ceiling_of_a_list(tmp_path: Path) -> None:
    """User 1 reads 10 and 11, user 2 reads 12; a list of 10 and 13; 10 and 12 were seen before."""
    frame = {"user_id": [1, 1, 1, 2, 2], "item_id": [10, 11, 13, 12, 10], "click": [1, 1, 0, 1, 0]}
    put(tmp_path, frame | {"seconds": [50.0, 60.0, None, 70.0, None]})
    day = read(tmp_path)
    exam = Exam.draw(day, 30.0, Tasks(), True, Evaluate(), pl.Series([10, 12, 99]))
    found = catalogue(exam, {"x": ItemList(pl.DataFrame({"id": [10, 13], "count": [2.0, 1.0]}), day)})
    assert found["x.read.recall@50"] == 0.25 and found["x.read.ceiling"] == 0.25
    assert found["x.read.recall@50.seen"] == 0.5, "10 of user 1 yes, 12 of user 2 no"
    assert found["x.read.recall@50.new"] == 0.0, "11 of user 1"
    assert found["x.coverage@50"] == 1 and found["x.gini@50"] == 0
    weight = dict(zip([10, 11, 12], 1 / np.array([0.4, 0.2, 0.2]), strict=True))
    assert found["x.read.recall@50.snips"] == pytest.approx(weight[10] / (weight[10] + weight[11]) / 2)
    one = {"x": ItemList(pl.DataFrame({"id": [10], "count": [1.0]}), day)}
    unknown = catalogue(Exam.draw(day, 30.0, Tasks(), False, Evaluate()), one)
    assert not [k for k in unknown if k.endswith((".seen", ".new", ".snips"))]


def test_new_users_are_measured_apart(tmp_path: Path) -> None:
    """Users 2 and 3 have no event before the day; a list of 10 and 13."""
    rows = {"user_id": [1, 1, 2, 2, 3, 3, 3], "item_id": [10, 11, 12, 10, 10, 12, 13], "click": [1, 1, 1, 0, 1, 1, 0]}
    put(tmp_path, rows | {"seconds": [50.0, 60.0, 70.0, None, 90.0, 10.0, None]})
    day = read(tmp_path)
    ranker = ItemList(pl.DataFrame({"id": [10, 13], "count": [2.0, 1.0]}), day)
    exam = Exam.draw(day, 30.0, Tasks(), True, Evaluate(), known=pl.Series([1, 99]))
    found = catalogue(exam, {"x": ranker})
    assert found["x.read.recall@10"] == 0.5 and found["x.read.recall@10.new_users"] == 0.5, "(0 + 1) / 2"
    assert found["x.click.recall@10.new_users"] == 0.25, "(0 + 1/2) / 2"
    assert found["x.time_recall@10.new_users"] == pytest.approx((0 + 0.9) / 2)
    # scores 2, 0, 0, 2, 2, 0, 1: clicked rows of new users have 0, 2, 0, the others 2, 1
    assert on_exposed(exam, {"x": ranker})["x.ctr.auc.new_users"] == pytest.approx((0 + 1.5 + 0) / 6)
    nobody = Exam.draw(day, 30.0, Tasks(), True, Evaluate(), known=pl.Series([1, 2, 3]))
    unknown = Exam.draw(day, 30.0, Tasks(), True, Evaluate())
    for other in (nobody, unknown):
        found = catalogue(other, {"x": ranker}) | on_exposed(other, {"x": ranker})
        assert not [k for k in found if "new_users" in k] and "x.ctr.auc" in found


def test_negatives_are_drawn_by_exposures(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"user_id": [1] * 10, "item_id": [10] * 8 + [11, 12], "click": [0] * 8 + [1, 0], "seconds": [1.0] * 10},
    )
    day = read(tmp_path)
    users = np.zeros(4000, np.int64)
    item, valid = Negatives(day, 1.0, shown=True).draw(users, np.random.default_rng(0))
    share = np.bincount(item[valid], minlength=3) / valid.sum()
    ids = day.items[ID].to_list()
    assert share[ids.index(10)] == pytest.approx(8 / 9, abs=0.02) and share[ids.index(11)] == 0


def test_a_slow_ranker_retrieves_for_fewer_users(tmp_path: Path) -> None:
    n = 40
    put(tmp_path, {"user_id": [*range(n)], "item_id": [*range(n)], "click": [1] * n, "seconds": [9.0] * n})
    day = read(tmp_path)
    exam = Exam.draw(day, 1.0, Tasks(), True, Evaluate(max_users=30, teacher_users=7))
    assert len(exam.users) == 30 and len(exam.few) == 7 and len(set(exam.few.tolist())) == 7
    again = Exam.draw(day, 1.0, Tasks(), True, Evaluate(max_users=30, teacher_users=7))
    assert again.few.tolist() == exam.few.tolist()
    few = exam.wanted["read"].take(exam.few)
    assert day.items[ID].gather(few.items).to_list() == day.users[ID].gather(exam.users[exam.few]).to_list()

    class Own:
        """To each user the item of their number."""

        def __init__(self, slow: bool) -> None:
            self.slow, self.asked = slow, 0

        def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
            self.asked = len(users)
            return day.rows_of(day.users[ID].gather(users), "item")[:, None], day.items[ID]

    both = {"student": Own(False), "student_teacher": Own(True)}
    found = catalogue(exam, both)
    assert (both["student"].asked, both["student_teacher"].asked) == (30, 7)
    assert found["student.read.recall@10"] == found["student_teacher.read.recall@10"] == 1
    assert found["student.teacher_overlap@10"] == pytest.approx(0.1)
    assert found["student_teacher.coverage@10"] == pytest.approx(7 / n)
    assert {k.split(".")[0] for k in found if k.endswith(".few")} == {"student"}


def test_a_student_is_measured_on_a_teachers_users_too(tmp_path: Path) -> None:
    """It finds what the teacher's users want and nothing else."""
    n = 40
    put(tmp_path, {"user_id": [*range(n)], "item_id": [*range(n)], "click": [1] * n, "seconds": [9.0] * n})
    day = read(tmp_path)
    exam = Exam.draw(day, 1.0, Tasks(), True, Evaluate(teacher_users=10))
    chosen = exam.users[exam.few]

    class Some:
        slow = False

        def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
            own = day.rows_of(day.users[ID].gather(users), "item")
            return np.where(np.isin(users, chosen), own, -1)[:, None], day.items[ID]

    found = catalogue(exam, {"student": Some()})
    for metric in ("read.recall@50", "click.recall@50", "time_recall@50"):
        assert (found[f"student.{metric}"], found[f"student.{metric}.few"]) == (0.25, 1.0)
    whole = Exam.draw(day, 1.0, Tasks(), True, Evaluate(teacher_users=n))
    assert not [k for k in catalogue(whole, {"student": Some()}) if k.endswith("few")], "the same users"


# -- lists ------------------------------------------------------------------------------------------------------------


class Fixed:
    """Counters by (event, half-life)."""

    def __init__(self, counts: dict[tuple[str, float], dict[int, float]]) -> None:
        self.of = counts

    def counts(self, side: str, event: str, half_life_days: float, as_of: dt.date) -> pl.DataFrame:
        assert side == "item"
        found = self.of[event, half_life_days]
        return pl.DataFrame(
            {"id": list(found), "count": list(found.values())}, schema={"id": pl.Int64, "count": pl.Float64}
        )


def test_lists_of_the_morning_by_hand() -> None:
    counters = Fixed(
        {
            ("read", 0.0): {11: 2.0},
            ("read", 1.0): {10: 2.0, 11: 3.0, 12: 0.0},
            ("exposure", 1.0): {10: 100.0, 11: 10.0, 12: 5.0},
            ("exposure", 7.0): {10: 180.0, 11: 20.0, 12: 0.0},
            ("read", 7.0): {10: 16.0, 11: 4.0},
            ("click", 7.0): {10: 4.0, 11: 0.0},
        }
    )
    morning = dt.date(2026, 1, 2)
    lists = impersonal(counters, morning, exposures=True)
    reads = ["read_popularity", "read_popularity_0d", "read_popularity_7d"]
    assert list(lists) == [*reads, "exposure_rate", "read_rate"]
    assert [lists[name]["count"].to_list() for name in reads] == [[2.0, 3.0, 0.0], [2.0], [16.0, 4.0]]
    assert lists["exposure_rate"]["id"].dtype == pl.Int64
    assert lists["exposure_rate"]["count"].to_list() == pytest.approx([9.0, 1.5, 0.5]), "the mean rate is .1"
    assert lists["read_rate"]["id"].to_list() == [10, 11], "12 was not shown"
    assert lists["read_rate"]["count"].to_list() == pytest.approx([18 / 200, 6 / 40])
    assert list(impersonal(counters, morning, exposures=False)) == reads
    assert seen_items(counters, morning, exposures=False).to_list() == [10]
    assert seen_items(counters, morning, exposures=True).to_list() == [10, 11]


def test_a_list_leaves_out_what_has_no_count(tmp_path: Path) -> None:
    put(tmp_path, {"user_id": [1, 1], "item_id": [10, 11], "click": [1, 0], "seconds": [9.0, None]})
    made = ItemList(pl.DataFrame({"id": [9, 10, 11], "count": [0.0, 1.0, 2.0]}), read(tmp_path))
    places, ids = made.retrieve(np.array([0, 0]), 5)
    assert ids.gather(places[0]).to_list() == ids.gather(places[1]).to_list() == [11, 10]


@settings(deadline=None)
@given(seeds)
def test_what_was_seen_is_left_out_of_any_top(seed: int) -> None:
    """Against every score in order: of users with nothing seen, some, and all, and of one who is not measured."""
    rng = np.random.default_rng(seed)
    users, items, k = 6, 9, 4
    score = rng.permuted(np.tile(np.arange(items), (users, 1)), axis=1)
    seen = rng.random((users, items)) < rng.random((users, 1)).round(1)
    ids = pl.Series([f"i{i}" for i in range(items)])

    class Scored:
        slow = False

        def retrieve(self, rows: Ints, k: int) -> tuple[Ints, pl.Series]:
            return np.argsort(-score[rows], axis=1)[:, :k], ids

    measured = np.sort(rng.choice(users, 5, replace=False))
    user, item = np.nonzero(seen)
    elsewhere = pl.Series([*ids.gather(item), "of another catalogue"])  # what this ranker does not have
    excluded = SeenItems(np.append(user, users - 1), elsewhere)
    day = SimpleNamespace(rows_of=lambda ids, side: np.arange(len(ids)))
    exam: Any = SimpleNamespace(day=day, users=measured, few=np.arange(1), excluded=excluded)
    top = Retrieved.by(Scored(), exam, k)
    for row, found in zip(measured, top.places, strict=True):
        left = [i for i in np.argsort(-score[row]).tolist() if not seen[row, i]][:k]
        assert found.tolist() == left + [-1] * (k - len(left))


def test_clicks_that_come_again_are_counted_beside_chance(tmp_path: Path) -> None:
    """Of five clicks (1: 10, 11; 2: 10, 12; 3: 12) two are of 10, two of 12: 1 has seen 10, 2 has seen 10 and 11."""
    frame = {"user_id": [1, 1, 2, 2, 3, 4], "item_id": [10, 11, 10, 12, 12, 10], "click": [1, 1, 1, 1, 1, 0]}
    put(tmp_path, frame | {"seconds": [9.0] * 5 + [None]})
    day = read(tmp_path)
    exam = Exam.draw(day, None, Tasks(), True, Evaluate())
    assert repeats(exam) == {}, "nobody knows"
    stored = pl.DataFrame({"user_id": [2, 1, 3], "seen_items": [[11, 10, 99], [10], None]})
    known = replace(exam, seen_items=SeenItems.of(day, stored))
    # 1 clicks twice, of which each is of 10 by 2/5; 2 twice, of 10 or 11 by 3/5
    assert repeats(known) == {"repeats.found": 2.0, "repeats.by_chance": pytest.approx(2 * 2 / 5 + 2 * 3 / 5)}
    texts = SeenItems.of(day, stored.with_columns(pl.col("seen_items").cast(pl.List(pl.String))))
    assert repeats(replace(exam, seen_items=texts)) == dict.fromkeys(repeats(known), 0.0), "ids of another type"
    some = replace(known, users=known.users[1:])
    assert repeats(some) == {"repeats.found": 1.0, "repeats.by_chance": pytest.approx(2 * 1 / 3)}, "of those measured"


# -- EASE and implicit ALS --------------------------------------------------------------------------------------------

LIKED = [("a", 1, 1.0), ("a", 2, 0.5), ("b", 2, 1.0), ("b", 3, 1.0), ("c", 1, 0.7), ("c", 3, 1.0), ("c", 4, 0.2)]


def some_reads() -> Reads:
    return Reads.of(pl.DataFrame(LIKED, schema=["user", "item", "weight"], orient="row"))


def dense(reads: Reads) -> npt.NDArray[np.float64]:
    x = np.zeros((len(reads.users), len(reads.items)))
    for user, item, weight in LIKED:
        if item in reads.items:
            x[reads.users.to_list().index(user), reads.items.to_list().index(item)] = weight
    return x


def test_ease_is_the_plain_solution() -> None:
    reads, strength = some_reads(), 0.5
    x = dense(reads)
    made = Ease.fit(reads, strength)
    for j in range(x.shape[1]):  # a column: ridge regression of item j on all others (Steck 2019, equation 5)
        others = [i for i in range(x.shape[1]) if i != j]
        rest = x[:, others]
        solved = np.linalg.solve(rest.T @ rest + strength * np.eye(len(others)), rest.T @ x[:, j])
        np.testing.assert_allclose(made.weights[others, j], solved, atol=1e-5)
    assert (np.diag(made.weights) == 0).all() and made.weights.dtype == np.float32
    np.testing.assert_allclose(made.scores(np.array([2, 0])), (x @ made.weights)[[2, 0]], atol=1e-6)


def test_ease_of_many_items_knows_the_most_read() -> None:
    reads = some_reads()
    assert reads.item_weight.tolist() == pytest.approx([1.7, 1.5, 2.0, 0.2])
    kept = reads.most_read(2)
    assert kept.items.to_list() == [1, 3] and kept.users.to_list() == ["a", "b", "c"]
    assert dense(kept).tolist() == [[1, 0], [0, 1], [0.7, 1]]
    assert reads.most_read(1).users.to_list() == ["b", "c"], "a user without one of them has no history"
    assert reads.most_read(4) is reads


class Taste:
    """Item 4 above 3 above 2 above 1."""

    def scores(self, users: Ints) -> npt.NDArray[np.float32]:
        return np.tile(np.arange(4, dtype=np.float32), (len(users), 1))


def test_users_get_what_they_have_not_read_and_strangers_the_read_list(tmp_path: Path) -> None:
    put(tmp_path, {"user_id": ["c", "x", "a"], "item_id": [1, 2, 3], "click": [1, 0, 1], "seconds": [9.0, None, 1.0]})
    day = read(tmp_path)
    ranker = HistoryRanker(Taste(), some_reads(), day)
    places, ids = ranker.retrieve(day.rows_of(pl.Series(["a", "x", "c"]), "user"), 3)
    assert ids.to_list() == [1, 2, 3, 4]
    named = [[ids[int(p)] if p >= 0 else None for p in row] for row in places]
    assert named == [[4, 3, None], [3, 1, 2], [2, None, None]]
    numbers = {"user_id": [5], "item_id": [1], "click": [1], "seconds": [9.0]}
    put(tmp_path / "numbers", numbers)
    other = read(tmp_path / "numbers")
    assert HistoryRanker(Taste(), some_reads(), other).retrieve(np.array([0]), 3)[0].tolist() == [[2, 0, 1]]


def test_past_reads_weigh_a_day_by_its_age_and_read_it_once(tmp_path: Path) -> None:
    from test_log import the_log

    rows = {"user_id": [1, 1, 2], "item_id": [10, 10, 11], "click": [1, 1, 1], "seconds": [50.0, 60.0, 5.0]}
    for day in (29, 30):
        put(tmp_path, rows, f"events/day=2026-01-{day}/a.parquet")
    days = [dt.date(2026, 1, d) for d in (29, 30)]
    past = PastReads(the_log(tmp_path))
    made = past.before(dt.date(2026, 1, 31), days, 30.0, tmp_path)
    assert (made.users.to_list(), made.items.to_list()) == ([1], [10])
    assert made.weight.tolist() == pytest.approx([1 + history.DECAY])
    shutil.rmtree(tmp_path / "events")
    assert past.before(dt.date(2026, 2, 1), days, 30.0, tmp_path).weight.tolist() == pytest.approx([0.7 + 0.49])


class Factorized:
    """Stands for implicit.als.AlternatingLeastSquares: factors of a truncated SVD."""

    def __init__(self, *, factors: int, alpha: float, use_gpu: bool, num_threads: int, random_state: int) -> None:
        assert num_threads == 1 and not use_gpu
        self.factors = factors

    def fit(self, user_items: Any, show_progress: bool = True) -> None:
        assert not show_progress
        u, s, v = np.linalg.svd(user_items.toarray(), full_matrices=False)
        self.user_factors, self.item_factors = (u * s)[:, : self.factors], v.T[:, : self.factors]


@pytest.fixture
def implicit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, more in (("implicit", {}), ("implicit.als", {"AlternatingLeastSquares": Factorized})):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(more)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("implicit")
def test_ials_scores_by_the_factors_of_the_library() -> None:
    reads = some_reads()
    made = Ials.fit(reads, seed=3)
    np.testing.assert_allclose(made.scores(np.array([1, 2])), dense(reads)[[1, 2]], atol=1e-5)


# -- worth ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=1200, seed=1)
    return out


def test_the_worth_of_some_pairs_is_that_of_all(world: Path) -> None:
    truth = Truth.load(world / "truth")
    users, items = truth.users["id"][:7], truth.items["id"]
    chosen = np.random.default_rng(0).integers(0, len(items), (7, 5))
    for name, more in (("click_rate", ()), ("read_seconds", ()), ("long_read_rate", (20.0,))):
        whole = getattr(truth, name)(users, items, *more)
        own = getattr(truth, name)(users, items[chosen], *more)
        np.testing.assert_allclose(own, np.take_along_axis(whole, chosen, 1), rtol=1e-12)


# -- a student of two blocks, and a profile, through the command line -------------------------------------------------


ONE_BLOCK = BASE | {"student": BASE["student"] | {"exposure": {"kappa": 0}}}


class TwoBlocks(rankers.Export):
    """The real export, its first half taken for exposure with kappa .5."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        width = self.items[1].shape[1]
        self.described |= {"kappa": 0.5, "blocks": {"exposure": [0, width // 2], "preference": [width // 2, width]}}


class OfTheLog:
    """What the log's earlier days say, not decayed."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def counts(self, side: str, event: str, half_life_days: float, as_of: dt.date) -> pl.DataFrame:
        frames = [pl.read_parquet(f, columns=["item_id", "click", "read_seconds"], hive_partitioning=False)
                  for f in sorted(self.log.glob("events/*/*.parquet")) if f.parent.name <= f"day={as_of}"]  # fmt: skip
        kept = {"exposure": pl.lit(True), "click": pl.col("click") == 1, "read": pl.col("read_seconds") > 30}[event]
        return pl.concat(frames).filter(kept).group_by("item_id").len("count").sort("item_id").rename({"item_id": "id"})

    def ids(self, side: str) -> pl.Series:
        files = sorted(self.log.glob("events/*/*.parquet"))[:3]
        return pl.concat([pl.read_parquet(f, hive_partitioning=False)[f"{side}_id"] for f in files]).unique().sort()

    def first_seen(self, side: str) -> pl.DataFrame:
        ids = self.ids(side)
        return pl.DataFrame({"id": ids, "first_seen": [dt.date(2026, 1, 1)] * len(ids)})


@pytest.fixture(scope="module")
def learned(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.create(tmp_path_factory.mktemp("learned"), world / "log", world / "truth", ONE_BLOCK)
    assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[2]).code == 0
    return project


@pytest.fixture
def project(learned: Project, world: Path, tmp_path: Path) -> Iterator[Project]:
    """A copy, whose evaluations are still to make."""
    made = Project.create(tmp_path, world / "log", world / "truth", ONE_BLOCK)
    shutil.copytree(learned.ws, made.ws)
    shutil.rmtree(made.ws / "evaluation")
    return made


def with_profile(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    def profile(run: Run, day: dt.date) -> Any:
        return run.newest("teacher", day), OfTheLog(log)

    monkeypatch.setattr(evaluation, "_profile", profile)


def test_lists_and_new_items_come_from_the_profile(
    project: Project, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = project.done("evaluate", 4)["metrics"]
    shutil.rmtree(project.ws / "profile")
    plain = project.done("evaluate", 4)["metrics"]
    shutil.rmtree(project.ws / "evaluation")
    with_profile(monkeypatch, world / "log")
    found = project.done("evaluate", 4)["metrics"]
    assert own.keys() == found.keys() and own.items() >= plain.items(), "the workspace's profile tells the same things"
    seen = {k for k in found if k.endswith((".seen", ".new")) and not k.startswith(("read_", "exposure_rate"))}
    assert {k: own[k] for k in seen} == {k: found[k] for k in seen} and len(seen) > 10, "whatever decays"
    assert found.items() >= plain.items(), "what a profile tells comes on top"
    assert {k.split(".")[0] for k in found.keys() - plain.keys()} >= {"read_popularity", "exposure_rate", "read_rate"}
    for name in LISTS:
        assert {
            f"{name}.{m}" for m in ("ctcvr.auc", "ctcvr.auc.shown", "read.recall@50", "coverage@50")
        } <= found.keys()
    evaluation = project.ws / f"evaluation/day={DAYS[3]}"
    manifest = json.loads(next(evaluation.glob("run-*/manifest.json")).read_text())
    days = [set(events(world / "log", day)["user_id"]) for day in DAYS]
    assert manifest["rows"]["new_users"] == len(days[3] - days[0] - days[1] - days[2])
    assert "student.read.recall@50.seen" in found and found["student.read.ceiling"] <= 1


def test_a_student_of_two_blocks_is_measured_by_kappa(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = project.done("evaluate", 4)["metrics"]
    assert not [k for k in plain if "kappa" in k or "preference" in k]
    shutil.rmtree(project.ws / "evaluation")
    monkeypatch.setattr(rankers, "Export", TwoBlocks)
    found = project.done("evaluate", 4)["metrics"]
    assert found["student.kappa"] == 0.5
    for metric in traded(50):
        values = {kappa: found[f"student.{metric}.kappa={kappa:g}"] for kappa in GRID}
        assert values[0.5] == pytest.approx(found[f"student.{metric}"])
        assert values[0.0] == pytest.approx(found[f"student.preference.{metric}"])
        assert len(set(values.values())) > 2 or metric not in ("click_rate@50", "read_seconds@50"), values
    moved = ("logloss", "ne", "pcoc", "kendall_tau")  # and teacher_overlap
    same = {k for k in plain if not k.endswith(moved) and "teacher_overlap" not in k}
    assert {k: found[k] for k in same} == {k: plain[k] for k in same}
    assert found["student.kendall_tau"] != plain["student.kendall_tau"], "of the preference"
    assert "student.ctcvr.pcoc" not in found and "student.preference.ctcvr.pcoc" in found, "kappa 0 alone is calibrated"


def test_a_student_whose_kappa_was_chosen_as_0_is_its_preference(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that days on which kappa: auto chose 0 have the rows of the others."""
    plain = project.done("evaluate", 4)["metrics"]
    made = rankers.StudentRanker.__init__

    def chosen(self: Any, parent: Parent, *more: Any, **given: Any) -> None:
        manifest = replace(parent[1], facts=parent[1].facts | {"kappa_curve": {"0.0": 0.2, "1.0": 0.1}})
        made(self, (parent[0], manifest), *more, **given)

    monkeypatch.setattr(rankers.StudentRanker, "__init__", chosen)
    shutil.rmtree(project.ws / "evaluation")
    found = project.done("evaluate", 4)["metrics"]
    assert found["student.kappa"] == 0
    assert {k: v for k, v in found.items() if "preference" not in k and "kappa" not in k} == plain
    for metric in ("ctcvr.auc", "read.recall@50", "coverage@50"):
        assert found[f"student.preference.{metric}"] == found[f"student.{metric}"]
    assert found["student.read.recall@50.kappa=0"] == found["student.read.recall@50"]
    assert "student.read.recall@50.kappa=1" not in found


@pytest.mark.usefixtures("implicit")
def test_compare_shows_lists_histories_and_the_trade(
    project: Project, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_profile(monkeypatch, world / "log")
    monkeypatch.setattr(rankers, "Export", TwoBlocks)
    ended = project.call("compare", "--day", DAYS[3])
    assert ended.code == 0, ended.err
    table, trade = cells_of(ended.out), cells_of(ended.out, 1)
    assert {"student", "student.preference", "click_only.preference", "ease", "ials"} <= table.keys()
    assert list(table)[-len(LISTS) - 1 :] == [*LISTS, "random"]
    assert list(trade) == [*(f"{kappa:g}" for kappa in GRID), "served: 0.500"]
    means = {name: {metric: cell.partition(" ±")[0] for metric, cell in row.items()} for name, row in trade.items()}
    alone = table["student.preference"]["read.recall@50"].partition(" ±")[0]
    assert means["0.5"] == means["served: 0.500"] and means["0"]["read.recall@50"] == alone
    (line,) = [line for line in ended.out.splitlines() if line.startswith("best impersonal list: ")]
    best = max(float(table[name]["read.recall@50"].partition(" ±")[0]) for name in LISTS)
    assert re.search(rf"read\.recall@50 {best:.3f}( ±\S+)? \(", line)
    made = project.published()
    assert project.call("compare", "--day", DAYS[3]).out == ended.out and project.published() == made
    assert {f"compare/{name}/evaluation/day={DAYS[3]}/CURRENT" for name in ("ease", "ials")} <= made.keys()


def test_the_curve_of_a_figure_ends_at_its_kappas() -> None:
    both = "click.recall@50", "read.recall@50"
    numbers = {f"{m}.kappa={kappa:g}": [kappa / 10] for kappa in GRID for m in both}
    table = Table({"student": numbers | {m: [0.03] for m in both}})
    table.numbers["student.preference"] = {m: [0.0] for m in both}
    (axes,) = figure_of(table).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [kappa / 10 for kappa in GRID] and len(axes.collections) == 1
    assert [text.get_text() for text in axes.texts] == ["kappa 0", "kappa 2"]
    assert table.trade().splitlines()[-1].startswith("| served: ")
    table.numbers["student"]["kappa"] = [0.4, 0.8]
    (axes,) = figure_of(table).axes
    assert [text.get_text() for text in axes.texts] == ["kappa 0", "kappa 2", "served: 0.6"]
    assert axes.lines[1].get_xydata().tolist() == [[pytest.approx(0.03)] * 2], "the mean of what is served"
    del table.numbers["student"]["read.recall@50.kappa=1"]
    assert not figure_of(table).axes[0].lines, "half a curve is none"


def test_a_curve_is_of_the_same_days_throughout() -> None:
    """On the second day kappa: auto chose 0: the preference is what is served."""
    first = {f"student.read.recall@50{k}": v for k, v in ((".kappa=0", 0.1), (".kappa=1", 0.3), ("", 0.3))}
    second = {f"student.read.recall@50{k}": 0.5 for k in (".kappa=0", "")}
    table = Table()
    table.add_evaluations("student", [first, second])
    assert table.curve("read.recall@50") == {0.0: pytest.approx(0.3)}
    assert table.mean("student", "read.recall@50") == pytest.approx(0.4)


def test_method_documents_every_metric_of_an_evaluation(
    project: Project, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_profile(monkeypatch, world / "log")
    monkeypatch.setattr(rankers, "Export", TwoBlocks)
    text = (Path(__file__).parent.parent / "docs" / "method.md").read_text()
    measured = text.split(" What is measured\n")[1].split("\n## ")[0]
    for name in project.done("evaluate", 4)["metrics"]:
        words = re.split(r"[.@=]", re.sub(r"@\d+|=[\d.]+$", "", name))
        assert all(word in measured for word in words), name
