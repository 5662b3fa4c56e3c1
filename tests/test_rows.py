"""Rows in lists: each a group cut no more than it must, whole in every batch."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtl_cli.data.log.values.order import ascending
from dmtl_cli.data.rows import Rows, in_lists, pairs
from dmtl_cli.nn.batches import Batcher

Ints = npt.NDArray[np.int64]


def grouped(groups: list[int], size: int, seed: int = 0, first: int = 0) -> Rows[None]:
    """Rows numbered by `item`, in lists of their group, which `user` tells."""
    group = np.array(groups, np.int64)
    return in_lists(pairs(group, first + np.arange(len(group))), group, size, np.random.default_rng(seed))


def lists_of(rows: Rows[Any]) -> Ints:
    """[n] the list of each row, of rows that have some."""
    assert rows.lists is not None and len(rows.lists) == len(rows)
    return rows.lists


def runs(rows: Rows[Any]) -> list[tuple[int, int]]:
    """(list, length) of each run of rows of one list."""
    ends = rows.cuts.tolist()
    begins = [0, *ends[:-1]]
    return [(int(lists_of(rows)[b]), e - b) for b, e in zip(begins, ends, strict=True) if e > b]


def assert_whole(parts: list[Rows[Any]], sizes: dict[int, int]) -> None:
    """Every list stands in one part, in one piece, and none is missing."""
    assert sorted(r for p in parts for r in runs(p)) == sorted(sizes.items())


GROUPS = st.lists(st.integers(-3, 5), max_size=80)


@settings(max_examples=100, deadline=None)
@given(GROUPS, st.integers(2, 9), st.integers(0, 5))
def test_lists_are_groups_cut_into_parts(groups: list[int], size: int, seed: int) -> None:
    rows = grouped(groups, size, seed)
    assert sorted(zip(rows.item.tolist(), rows.user.tolist(), strict=True)) == list(enumerate(groups))
    found = runs(rows)
    assert len({k for k, _ in found}) == len(found), "a list is one piece"
    of = {int(k): set(rows.user[lists_of(rows) == k].tolist()) for k, _ in found}
    assert all(len(users) == 1 for users in of.values()), "and of one group"
    for g, n in Counter(groups).items():
        parts = sorted(n_k for k, n_k in found if of[k] == {g})
        assert parts == sorted([size] * (n // size) + [n % size] * (n % size > 0)), "cut no more than it must"
    mixed = Rows.concat([rows.take(np.random.default_rng(1).permutation(len(rows)))]).shuffled(np.random.default_rng(2))
    assert_whole([mixed], dict(found))


def test_lists_and_what_is_in_them_are_in_random_order() -> None:
    groups = [k // 10 for k in range(400)]
    one, other = (grouped(groups, 5, seed) for seed in (0, 1))
    assert one.user.tolist() != sorted(one.user.tolist()) and one.user.tolist() != other.user.tolist()
    parts = {frozenset(one.item[lists_of(one) == k].tolist()) for k in lists_of(one)}
    assert len(parts) == 80 and len(parts & {frozenset(range(k, k + 5)) for k in range(0, 400, 5)}) < 10
    assert not set(lists_of(one).tolist()) & set(lists_of(other).tolist())
    assert lists_of(one).min() >= 0 and lists_of(one).max() > 2**60


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.integers(0, 5))
def test_a_shuffle_of_lists_is_that_of_their_numbers(groups: list[int], seed: int) -> None:
    """Each row by its list's place in a random order of the lists' numbers, whether they are adjacent or not."""
    rows = grouped(groups, 4, seed)
    for each in (rows, rows.take(np.random.default_rng(1).permutation(len(rows)))):
        _, at = np.unique(lists_of(each), return_inverse=True)
        order = np.random.default_rng(seed).permutation(at.max(initial=-1) + 1)
        expected = each.item[np.argsort(order[at], kind="stable")]
        assert each.shuffled(np.random.default_rng(seed)).item.tolist() == expected.tolist()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([1, 50, 2**16, 2**16 + 1, 2**32, 2**32 + 1, 2**62]), st.integers(0, 300), st.booleans())
def test_an_order_by_digits_is_a_stable_sort(below: int, n: int, negative: bool) -> None:
    keys = np.random.default_rng(n).integers(-below if negative else 0, below, n)
    keys = np.concatenate([keys, keys[: n // 2], [below - 1, 0]])
    assert ascending(keys).tolist() == np.argsort(keys, kind="stable").tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 20))
def test_without_lists_batches_are_full(blocks: list[int], batch_size: int) -> None:
    n = sum(blocks)
    items = np.split(np.arange(n), np.cumsum(blocks))[: len(blocks)]
    batches = list(Batcher.cut((pairs(i * 0, i) for i in items), batch_size))
    assert [len(b) for b in batches] == [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)
    assert [i for b in batches for i in b.item.tolist()] == list(range(n))


def test_rows_with_and_without_features_are_not_mixed() -> None:
    two = np.arange(2)
    with pytest.raises(ValueError, match="all have"):
        Rows.concat([pairs(two, two), pairs(two, two, pl.DataFrame({"hour": two}))])
