"""The search for a regression's weights, beside full Newton steps on dense rows, from starts near and far."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dmtl_cli.teacher import posterior as posterior_module
from dmtl_cli.teacher.hashed import Design, Sparse, nothing
from dmtl_cli.teacher.posterior import posterior

Floats = npt.NDArray[np.float64]


def design(x: Floats) -> Design:
    """Dense rows [n, S], as numbers of their event."""
    n, none = len(x), np.zeros(len(x), np.int64)
    numbers = [(np.array([k]), x[:, k].copy()) for k in range(x.shape[1])]
    return Design(nothing(1), nothing(1), nothing(n), Sparse(n, [], numbers, []), none, none)


def found(x: Floats, y: Floats, c: Floats, mean: Floats, precision: Floats, start: Floats) -> tuple[Floats, Floats]:
    rows = design(x)
    return posterior(rows, rows.squared(), y, c, mean, precision, start)


def slope(x: Floats, y: Floats, c: Floats, mean: Floats, precision: Floats, w: Floats) -> Floats:
    """Of each weight, in units in which its own curvature is 1."""
    p = 1 / (1 + np.exp(-np.clip(x @ w, -700, 700)))
    curvature = precision + (x**2).T @ (c * p * (1 - p))
    return (x.T @ (c * (p - y)) + precision * (w - mean)) / np.sqrt(curvature)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
    far=st.sampled_from([0.0, 1.0, 30.0]),
    prior=st.sampled_from([0.1, 10.0]),
    share=st.sampled_from([0.0, 0.02, 0.5]),
)
@example(seed=0, size=1e3, far=30.0, prior=0.1, share=0.5)
@example(seed=105, size=1e3, far=30.0, prior=10.0, share=0.5)
def test_ends_where_nothing_pulls(seed: int, size: float, far: float, prior: float, share: float) -> None:
    """Also of numbers that nobody scaled, of two features that are nearly one, of a label without positives, and of a
    start at which every row is sure and wrong, where a whole Newton step overshoots."""
    rng, n = np.random.default_rng(seed), 300
    x = rng.normal(size=(n, 6)) * (1, 1, 1, 1, size, size)
    x[:, 1] = x[:, 0] + 0.01 * rng.normal(size=n)
    y, c = rng.random(n) < share, rng.choice([0.0, 0.5, 2.0], n)
    mean, precision = rng.normal(size=6), np.full(6, prior)
    start = mean + far * rng.normal(size=6) / (1, 1, 1, 1, max(size, 1), max(size, 1))
    w, after = found(x, y, c, mean, precision, start)
    assert np.abs(slope(x, y, c, mean, precision, w)).max() <= 0.1 + 1e-9
    p = 1 / (1 + np.exp(-x @ w))
    np.testing.assert_allclose(after, precision + (x**2).T @ (c * p * (1 - p)), rtol=1e-9)


def test_a_whole_step_too_far_is_halved() -> None:
    """1,000 rows of one weight, which begins at 12: the curvature there is nearly none, a whole step ends at -4,500."""
    x, y = np.ones((1000, 1)), np.arange(1000) < 500
    c, mean, precision = np.ones(1000), np.zeros(1), np.full(1, 0.1)
    w, after = found(x, y, c, mean, precision, np.full(1, 12.0))
    assert abs(w[0]) < 0.1 / np.sqrt(250), "within a tenth of its standard error"
    assert after[0] == pytest.approx(250.1, rel=1e-3)


def test_what_is_there_already_is_left() -> None:
    x, y, c = np.ones((4, 1)), np.arange(4) < 2, np.ones(4)
    start = np.zeros(1)
    w, after = found(x, y, c, start, np.ones(1), start)
    assert w[0] == 0 and after[0] == 2


def test_the_search_has_one_thread_and_gives_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its sums, which torch makes in parts a thread, are those of any number of threads."""
    seen, before, dot = set[int](), torch.get_num_threads(), posterior_module.dot
    monkeypatch.setattr(posterior_module, "dot", lambda a, b: seen.add(torch.get_num_threads()) or dot(a, b))
    x, mean = np.random.default_rng(1).normal(size=(500, 3)), np.zeros(3)
    try:
        torch.set_num_threads(2)
        found(x, x[:, 0] > 0, np.ones(500), mean, np.ones(3), mean)
        assert seen == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_of_rows_that_are_no_numbers_the_start_is_left() -> None:
    """No step can be told from none."""
    x = np.full((4, 1), np.nan)
    start = np.ones(1)
    w, _ = found(x, np.arange(4) < 2, np.ones(4), np.zeros(1), np.ones(1), start)
    assert w[0] == 1
