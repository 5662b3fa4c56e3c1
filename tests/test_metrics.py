"""Metrics against scikit-learn, scipy and plain loops."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrievals import retrieved
from scipy.stats import kendalltau
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score
from test_log import put, read

from dmtl_cli.config.evaluate import Evaluate
from dmtl_cli.config.features import Feature
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.rows import Rows
from dmtl_cli.evaluate import metrics
from dmtl_cli.evaluate.exam import Exam, pairs
from dmtl_cli.evaluate.lists import ItemList
from dmtl_cli.evaluate.on_rows import on_rows, score_rows
from dmtl_cli.evaluate.rankers import AnyLabel

Rng = np.random.Generator


def rows(rng: Rng, n: int, levels: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Labels, scores with ties, weights with zeros."""
    return rng.random(n) < 0.3, rng.integers(0, levels, n) / 7 - 2, rng.integers(0, 4, n) * rng.random(n)


@pytest.mark.parametrize("levels", [2, 10, 10**9])
def test_auc_is_scikit_learns_with_ties_and_weights(levels: int) -> None:
    y, score, w = rows(np.random.default_rng(levels), 500, levels)
    assert metrics.auc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert metrics.auc(y, score, w) == pytest.approx(roc_auc_score(y, score, sample_weight=w), abs=1e-12)


def test_auc_of_three_rows_by_hand() -> None:
    assert metrics.auc(np.array([1, 0, 0]), np.array([0.5, 0.5, 0.1])) == 0.75
    assert metrics.auc(np.array([1, 0, 0]), np.array([0.5, 0.5, 0.1]), np.array([2, 3, 1])) == pytest.approx(2.5 / 4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=1, max_size=40))
def test_auc_turns_round_and_ignores_monotone_maps(pairs: list[tuple[bool, int]]) -> None:
    y, score = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs], np.float64)
    a = metrics.auc(y, score)
    if y.all() or not y.any():
        assert a is None
        return
    assert a is not None and 0 <= a <= 1
    assert metrics.auc(y, -score) == pytest.approx(1 - a)
    assert metrics.auc(~y, score) == pytest.approx(1 - a)
    assert metrics.auc(y, np.exp(score)) == a
    assert metrics.auc(y, np.zeros(len(y))) == 0.5


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.booleans())
def test_gauc_is_the_plain_loop(seed: int, n: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    y, score, w = rows(rng, n, 5)
    user = rng.integers(0, 20, n) - 10
    w = w if weighted else np.ones(n)
    total = impressions = 0.0
    for u in np.unique(user):
        mine = (user == u) & (w > 0)
        if len(np.unique(y[mine])) == 2:
            total += w[mine].sum() * roc_auc_score(y[mine], score[mine], sample_weight=w[mine])
            impressions += w[mine].sum()
    expected = total / impressions if impressions else None
    got = metrics.gauc(y, score, user, w if weighted else None)
    assert got == (None if expected is None else pytest.approx(expected, abs=1e-10))


def test_gauc_of_one_user_is_auc_and_users_of_one_class_do_not_count() -> None:
    y, score, w = rows(np.random.default_rng(1), 200, 30)
    one = np.zeros(200, np.int64)
    assert metrics.gauc(y, score, one, w) == pytest.approx(metrics.auc(y, score, w))
    more_y, more_score = np.append(y, [True] * 50), np.append(score, [9.0] * 50)
    assert metrics.gauc(more_y, more_score, np.append(one, [1] * 50)) == pytest.approx(metrics.auc(y, score))
    assert metrics.gauc(y, score, np.arange(200)) is None


def test_gauc_needs_no_loop_over_users() -> None:
    rng = np.random.default_rng(2)
    n = 300_000
    start = time.perf_counter()
    value = metrics.gauc(rng.random(n) < 0.5, rng.random(n), rng.integers(0, n // 4, n))
    assert value == pytest.approx(0.5, abs=0.01)
    assert time.perf_counter() - start < 2


def test_logloss_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    y, _, w = rows(rng, 400, 5)
    p = rng.uniform(1e-6, 1 - 1e-6, 400)
    assert metrics.logloss(y, p) == pytest.approx(log_loss(y, p), rel=1e-12)
    assert metrics.logloss(y, p, w) == pytest.approx(log_loss(y, p, sample_weight=w), rel=1e-12)


def test_logloss_of_certain_probabilities_is_finite_and_exact_where_they_are_small() -> None:
    worst = metrics.logloss(np.array([1, 0]), np.array([0.0, 1.0]))
    assert worst is not None and np.isfinite(worst) and worst > 300
    assert metrics.logloss(np.array([1]), np.array([1e-30], np.float32)) == pytest.approx(30 * np.log(10), rel=1e-6)


def test_ne_of_the_mean_is_one_and_pcoc_says_how_much_too_high() -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(1, 9, 200_000)
    y = rng.random(200_000) < p
    assert metrics.ne(y, np.full(len(y), y.mean())) == pytest.approx(1)
    true, tilted = metrics.ne(y, p), metrics.ne(y, p**1.3)
    assert true is not None and tilted is not None and true < 1 and true < tilted
    assert metrics.pcoc(y, p) == pytest.approx(1, abs=0.02)
    assert metrics.pcoc(np.array([1, 0, 0]), np.array([0.9, 0.5, 0.6])) == pytest.approx(2)
    assert metrics.pcoc(np.array([1, 0]), np.array([0.5, 0.5]), np.array([1.0, 3.0])) == pytest.approx(2)


def test_integer_weights_are_repeated_rows() -> None:
    rng = np.random.default_rng(5)
    y, w = rng.random(60) < 0.4, rng.integers(0, 4, 60)
    p, user = rng.integers(1, 9, 60) / 9, rng.integers(0, 5, 60)
    again = [np.repeat(v, w) for v in (y, p, user)]
    for f in (metrics.auc, metrics.logloss, metrics.ne, metrics.pcoc):
        assert f(y, p, w) == pytest.approx(f(again[0], again[1]))
    assert metrics.gauc(y, p, user, w) == pytest.approx(metrics.gauc(again[0], again[1], again[2]))


@pytest.mark.parametrize("f", [metrics.auc, metrics.logloss, metrics.ne, metrics.pcoc])
def test_what_is_undefined_is_none_and_what_is_wrong_is_an_error(f: Callable[..., float | None]) -> None:
    none, y, p = np.zeros(0), np.array([0, 1]), np.array([0.2, 0.3])
    assert f(none, none) is None
    assert f(y, p, np.zeros(2)) is None
    for bad in (
        (np.array([0, 2]), p),
        (y, np.array([0.2, np.nan])),
        (y, p[:1]),
        (y, p, np.array([1.0, -1.0])),
        (y, p, np.array([1.0, np.inf])),
    ):
        with pytest.raises(ValueError, match=r"expected|NaN|lengths"):
            f(*bad)
    assert metrics.gauc(none, none, none) is None
    assert metrics.ne(np.zeros(2), p) is None and metrics.pcoc(np.zeros(2), p) is None
    with pytest.raises(ValueError, match="probabilities"):
        metrics.logloss(y, p + 1)


# -- retrieval ---------------------------------------------------------------------------------------------------------


def csr(wanted: list[list[int]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return np.cumsum([0, *map(len, wanted)]), np.array([i for w in wanted for i in w], np.int64)


def test_retrieval_by_hand() -> None:
    topk = np.array([[5, 3, 1, 7], [2, 4, -1, -1], [1, 2, 3, 4], [9, 8, 7, 6]])
    wanted = [[3, 7, -2], [9], [], [9, 8]]
    seconds = np.array([10.0, 20.0, 70.0, 0.0, 30.0, np.nan])
    got = retrieved(topk, csr(wanted), seconds, ks=(2, 4))
    d = 1 / np.log2(np.arange(2, 6))
    assert got == pytest.approx(
        {
            "recall@2": (1 / 3 + 0 + 1) / 3,
            "recall@4": (2 / 3 + 0 + 1) / 3,
            "hitrate@2": 2 / 3,
            "hitrate@4": 2 / 3,
            "ndcg@2": (d[1] / d[:2].sum() + 0 + 1) / 3,
            "ndcg@4": ((d[1] + d[3]) / d[:3].sum() + 0 + 1) / 3,
            "time_recall@2": (10 / 100 + 1) / 2,
            "time_recall@4": (30 / 100 + 1) / 2,
        }
    )


def test_retrieval_counts_a_repeated_item_once_and_every_missing_item() -> None:
    got = retrieved(np.array([[4, 6]]), csr([[4, 4, -2, -2]]), np.array([5.0, 5.0, 10.0, 0.0]), ks=(1,))
    assert got["recall@1"] == pytest.approx(1 / 3)
    assert got["time_recall@1"] == pytest.approx(0.5)


def test_retrieval_without_users_is_empty_and_a_short_list_is_padded() -> None:
    assert retrieved(np.zeros((0, 3), np.int64), csr([]), np.zeros(0)) == {}
    assert retrieved(np.array([[1, 2]]), csr([[]])) == {}
    assert retrieved(np.array([[-1]]), csr([[-2]]), ks=(10,)) == {"recall@10": 0, "hitrate@10": 0, "ndcg@10": 0}
    short = retrieved(np.array([[1, 2]]), csr([[2, 3]]))
    padded = retrieved(np.array([[1, 2] + [-1] * 98]), csr([[2, 3]]))
    assert short == pytest.approx(padded)
    assert short["recall@100"] == 0.5
    with pytest.raises(ValueError, match="indptr"):
        retrieved(np.array([[1]]), (np.array([0, 2]), np.array([1])))
    with pytest.raises(ValueError, match="gain"):
        retrieved(np.array([[1]]), csr([[1]]), np.array([-1.0]))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 30))
def test_retrieval_is_the_plain_loop_and_scikit_learns_ndcg(seed: int, users: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.random((users, items))
    wants = rng.random((users, items)) < 0.2
    seconds = rng.random((users, items)) * wants
    topk = np.argsort(-score, axis=1)
    got = retrieved(topk, csr([np.flatnonzero(w).tolist() for w in wants]), seconds[wants], ks=(1, 3, 10))
    some = wants.any(1)
    if not some.any():
        assert got == {}
        return
    for k in (1, 3, 10):
        hits = [len({*topk[u, :k]} & {*np.flatnonzero(wants[u])}) for u in np.flatnonzero(some)]
        read = [seconds[u, topk[u, :k]].sum() / seconds[u].sum() for u in np.flatnonzero(some)]
        assert got[f"recall@{k}"] == pytest.approx(np.mean(np.array(hits) / wants[some].sum(1)))
        assert got[f"hitrate@{k}"] == pytest.approx(np.mean(np.array(hits) > 0))
        assert got[f"ndcg@{k}"] == pytest.approx(ndcg_score(wants[some], score[some], k=k))
        assert got[f"time_recall@{k}"] == pytest.approx(np.mean(read))


# -- agreement ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 150), st.integers(1, 8), st.integers(1, 40))
def test_kendall_tau_is_scipys(seed: int, n: int, groups: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, levels, n), rng.integers(0, levels, n) / 3
    y = y + x * rng.integers(0, 2)
    group = rng.integers(0, groups, n)
    each = []
    for g in np.unique(group):
        mine = group == g
        if len(np.unique(x[mine])) > 1 and len(np.unique(y[mine])) > 1:
            each.append(kendalltau(x[mine], y[mine]).statistic)
    assert metrics.kendall_tau(x, y, group) == (pytest.approx(np.mean(each), abs=1e-12) if each else None)


def test_kendall_tau_of_the_same_and_the_reverse_order() -> None:
    x, group = np.random.default_rng(6).normal(size=1000), np.arange(1000) // 10
    assert metrics.kendall_tau(x, np.exp(x), group) == pytest.approx(1)
    assert metrics.kendall_tau(x, -x, group) == pytest.approx(-1)
    start = time.perf_counter()
    big = np.random.default_rng(7).normal(size=100_000)
    assert metrics.kendall_tau(big, -big, np.zeros(100_000)) == pytest.approx(-1)
    assert time.perf_counter() - start < 2
    with pytest.raises(ValueError, match="NaN"):
        metrics.kendall_tau(np.array([1.0, np.nan]), np.array([1.0, 2.0]), np.zeros(2))
    with pytest.raises(ValueError, match="lengths"):
        metrics.kendall_tau(np.ones(2), np.ones(3), np.ones(2))


def test_overlap_counts_the_common_head() -> None:
    a, b = np.array([[1, 2, 3, 4], [5, -1, -1, -1]]), np.array([[2, 1, 9, 8], [5, 6, -1, -1]])
    assert metrics.overlap(a, b, ks=(1, 2, 4)) == pytest.approx(
        {"overlap@1": 1 / 2, "overlap@2": (1 + 0.5) / 2, "overlap@4": (0.5 + 0.25) / 2}
    )
    assert metrics.overlap(a[:1], a[:1], ks=(4,)) == {"overlap@4": 1.0}
    assert metrics.overlap(a[:0], b[:0]) == {}
    with pytest.raises(ValueError, match="users"):
        metrics.overlap(a, b[:1])


# -- every task of a day -----------------------------------------------------------------------------------------------


def test_one_score_stands_for_any_label() -> None:
    score = np.arange(3.0)
    labels = AnyLabel(score)
    assert labels["ctr"] is labels["like"] is score and len(labels) == 0


def test_an_item_feature_named_clicks_does_not_replace_popularity(tmp_path: Path) -> None:
    put(tmp_path, {"user_id": [1, 1], "item_id": [10, 11], "click": [1, 0], "seconds": [9.0, None], "clicks": [7, 8]})
    day = read(tmp_path, [Feature(name="clicks", side="item", kind="numeric")])
    popularity = ItemList(pl.DataFrame({"id": [11, 12], "count": [3, 1]}), day)
    shown = pairs(np.array([0, 0]), np.array([0, 1]), None)
    assert popularity.scores(shown)["ctr"].tolist() == [0, 3]
    assert popularity.retrieve(np.array([0]), 2)[0].tolist() == [[0, 1]]


class Taught:
    """A ranker with a log-probability of its own for each label but one."""

    probabilities: tuple[str, ...] = ("ctr", "cvr", "like", "ctlike")
    labels = ("ctr", "cvr", "ctcvr", "like", "ctlike")

    def probable(self, label: str) -> bool:
        return label in self.probabilities

    def scores(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        return {label: -(1.0 + (rows.user * 31 + rows.item * 17 + k * 7) % 13) for k, label in enumerate(self.labels)}


class Flat(Taught):
    probabilities = ()

    def scores(self, rows: Rows) -> AnyLabel:
        return AnyLabel(rows.item.astype(np.float64))


def test_every_conversion_is_measured_on_the_rows_that_know_it(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 400
    frame = {"user_id": rng.integers(0, 9, n), "item_id": rng.integers(0, 30, n), "click": rng.random(n) < 0.5}
    like = [None if x < 0.2 else x < 0.5 for x in rng.random(n)]
    put(tmp_path, frame | {"seconds": rng.random(n) * 60, "is_like": like, "w": 1 + rng.random(n)})
    day = read(tmp_path, weight="w", conversions={"like": "is_like"})
    exam = Exam.draw(day, 30.0, Tasks(("like",)), True, Evaluate(max_users=100, max_rows=10_000))
    rankers: dict[str, Any] = {"t": Taught(), "p": Flat()}
    found = on_rows(exam, rankers, score_rows(exam, rankers))
    (block,) = day.blocks()
    scores = Taught().scores(pairs(block.user, block.item, None))
    click, liked = block.click, block.further["like"]
    given = click & (liked >= 0)  # an unclicked row is a known negative of ctlike, a clicked one without a value is not
    for label, mask, y in (("ctr", click == click, click), ("like", given, liked == 1),
                           ("ctlike", ~click | given, click & (liked == 1))):  # fmt: skip
        rows = y[mask], scores[label][mask], block.weight[mask]
        assert found[f"t.{label}.auc"] == pytest.approx(metrics.auc(*rows), abs=1e-12)
        assert found[f"t.{label}.logloss"] == pytest.approx(metrics.logloss(rows[0], np.exp(rows[1]), rows[2]))
        item = metrics.auc(y[mask], block.item[mask].astype(float), block.weight[mask])
        assert found[f"p.{label}.auc"] == pytest.approx(item, abs=1e-12)
    assert not given.all() and (liked[~click] == 1).any() and "t.ctcvr.auc" in found
    assert {k for k in found if "logloss" in k} == {f"t.{x}.logloss" for x in Taught.probabilities}
    negatives = {k.split(".")[1] for k in found if k.endswith(("auc.uniform", "auc.popular", "auc.shown"))}
    assert negatives == {"ctr", "ctcvr", "ctlike"}, "a score given a click says nothing of who was not shown"
