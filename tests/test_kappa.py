"""Which kappa would have been best: recall of a small catalogue by hand, and against the metric of evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtl_cli.evaluate.metrics import means, retrieval_of_each
from dmtl_cli.serving.search import top_k
from dmtl_cli.student.kappa import GRID, BlockVectors, best, curve

ONE = np.ones((2, 1), np.float32)


def vectors(*columns: list[float]) -> BlockVectors:
    return BlockVectors(*(np.array(x, np.float32)[:, None] for x in columns))


def test_recall_by_kappa() -> None:
    """One item is retrieved. The preference puts item 0 first; above kappa .25 what is shown, item 1, is."""
    users, items = BlockVectors(ONE, ONE), vectors([0.0, 4.0, 0.0], [1.0, 0.0, 0.5])
    wanted = np.array([0, 2, 4]), np.array([0, 2, 1, -1])
    found = curve(users, items, wanted, k=1)
    assert found == {k: pytest.approx(0.25) for k in GRID}, "half of what one of two users wanted, either way"
    found = curve(users, items, wanted, np.array([3.0, 1.0, 5.0, 0.0]), k=1)
    assert found == {k: pytest.approx(0.75 / 2 if k < 0.25 else 1 / 2) for k in GRID}, "seconds"
    assert best(found) == 0.3
    assert curve(users, items, wanted, np.array([0.0, 0.0, 5.0, 0.0]), (0, 1), k=1) == {0: 0.0, 1: 1.0}, (
        "who read at all"
    )
    assert curve(users, items, (np.zeros(3, np.int64), np.zeros(0, np.int64)), k=1) == dict.fromkeys(GRID, 0.0)


def test_of_equal_ones_the_smallest() -> None:
    assert best({0.0: 0.1, 0.5: 0.3, 0.2: 0.3, 1.0: 0.2}) == 0.2
    assert best(dict.fromkeys(GRID, 0.0)) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([1, 10, 50, 200]))
def test_it_is_the_recall_of_evaluation(seed: int, timed: bool, k: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = (BlockVectors(*(rng.normal(size=(n, d)).astype(np.float32) for d in (2, 3))) for n in (7, 120))
    each: list[Any] = [rng.choice(120, rng.integers(0, 9), replace=False) for _ in range(7)]
    wanted = np.cumsum([0, *map(len, each)]), np.concatenate(each).astype(np.int64)
    seconds = rng.integers(0, 5, len(wanted[1])).astype(float) if timed else None
    for value, found in curve(users, items, wanted, seconds, k=k).items():
        whole = np.concatenate([np.float32(value) * users.exposure, users.preference], 1)
        metrics = means(retrieval_of_each(top_k(whole, np.concatenate(items, 1), k)[0], wanted, seconds, ks=(k,)))
        assert found == pytest.approx(metrics.get(f"time_recall@{k}" if timed else f"recall@{k}", 0.0))
