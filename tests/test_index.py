"""What users get by an index: k of what is left to them, the nearest, and the same whoever else is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtl_cli.config.export import Export as Settings
from dmtl_cli.config.extras import has
from dmtl_cli.serving import Export, index
from dmtl_cli.serving.search import Floats, Ints, top_k
from dmtl_cli.student.export import kept

pytestmark = pytest.mark.skipif(not has("faiss"), reason="an index needs faiss")

ITEMS, USERS, WIDTH = 34_000, 40, 8
NEAR = 1_100
"""as many of the nearest items of a user are left out at most"""


def _around(centres: Floats, some: int, rng: np.random.Generator) -> Floats:
    near = centres[rng.integers(len(centres), size=some)] + 0.15 * rng.normal(size=(some, WIDTH))
    return near.astype(np.float32)


@pytest.fixture(scope="module")
def exports(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Export, Floats, Ints]]:
    """By name an export, users [U, d], and their nearest rows [U, `NEAR` + 64]. `one list` is all that the last index
    looks at for 64 items."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, WIDTH))
    items, users = _around(centres, ITEMS, rng), _around(centres, USERS, rng)
    nearest, made = top_k(users, items, NEAR + 64)[0], {}
    for name in NAMES:
        folder, kind = tmp_path_factory.mktemp(name), KINDS[name != "hnsw"]
        index.write(folder, items, kind, users, nearest[:, : index.FIRST])
        export = Export.open(runs[kind])
        export.items = pl.Series(np.arange(ITEMS) * 3), items
        found = export._index = index.Index(folder, *items.shape)
        if name == "one list":
            found._index.nprobe = found._depth = 1
        made[name] = export, users, nearest
    return made


KINDS: tuple[index.Kind, ...] = ("hnsw", "ivf")
NAMES = [*KINDS, "one list"]


def _lists(export: Export, rows: list[Ints]) -> pl.Series:
    return pl.Series([export.items[0].gather(r).to_list() for r in rows], dtype=pl.List(pl.Int64))


@pytest.mark.parametrize("k", [10, 50])
@pytest.mark.parametrize("name", NAMES)
def test_who_has_seen_the_nearest_gets_the_next(
    exports: dict[str, tuple[Export, Floats, Ints]], name: str, k: int
) -> None:
    export, users, nearest = exports[name]
    for seen in (0, 10, 50, 200, 400, 900, NEAR):
        found, dots = export.search(users, k, exclude=_lists(export, [*nearest[:, :seen]]))
        assert (found >= 0).all(), seen
        least = 0.3 if name == "one list" else 0.95
        assert index.recall(nearest[:, seen : seen + k], found).mean() >= least, seen
        assert (np.diff(dots, axis=1) <= 0).all()
        np.testing.assert_allclose(dots, np.einsum("ud,ukd->uk", users, export.items[1][found]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(
    k=st.integers(1, 200),
    seen=st.lists(st.integers(0, NEAR), min_size=2, max_size=USERS),
    without=st.integers(0, 100),
    gone=st.integers(0, 3),
)
def test_never_fewer_than_are_left_and_alone_as_beside_others(
    exports: dict[str, tuple[Export, Floats, Ints]], name: str, k: int, seen: list[int], without: int, gone: int
) -> None:
    """The first `gone` users have seen all but a few items. Nobody gets the nearest `without` of the last user."""
    export, users, nearest = exports[name]
    users = users[: len(seen)]
    items = export.items[1]
    everything = np.arange(len(items))
    rows = [everything[n:] if n < gone else nearest[n, :many] for n, many in enumerate(seen)]
    exclude, barred = _lists(export, rows), np.sort(nearest[-1, :without])
    found, dots = export.search(users, k, exclude=exclude, without=barred)
    for n in range(len(users)):
        left = np.setdiff1d(everything, [*rows[n], *barred])
        mine = found[n][found[n] >= 0]
        assert len(mine) == min(k, len(left)) == len(np.unique(mine)) and np.isin(mine, left).all()
        assert (found[n, len(mine) :] == -1).all() and np.isneginf(dots[n, len(mine) :]).all()
        alone, of_alone = export.search(users[n : n + 1], k, exclude=exclude[n : n + 1], without=barred)
        np.testing.assert_allclose(of_alone[0], dots[n], rtol=1e-5, atol=1e-5)
        near = alone[0] != found[n]  # as good as equal, and summed in another order: docs/export.md
        np.testing.assert_allclose(items[alone[0][near]] @ users[n], items[found[n][near]] @ users[n], atol=1e-5)


def test_all_items_are_compared_for_those_alone_who_need_it(
    exports: dict[str, tuple[Export, Floats, Ints]], monkeypatch: pytest.MonkeyPatch
) -> None:
    export, users, nearest = exports["ivf"]
    compared: list[Floats] = []
    monkeypatch.setattr("dmtl_cli.serving.export.top_k", lambda u, *rest: compared.append(u) or top_k(u, *rest))
    export.search(users[:4], 50, exclude=_lists(export, [nearest[n, :m] for n, m in enumerate((0, 20, NEAR, 400))]))
    assert [u.tolist() for u in compared] == [users[2:3].tolist()]


def test_how_many_an_index_is_asked_for(exports: dict[str, tuple[Export, Floats, Ints]]) -> None:
    """The next power of two; beyond 64 as far as its depth times as much is less work than comparing all items."""
    asked = np.array([1, 16, 17, 64, 65, 128, 129, 256, 1_024, 1_025])
    reach = [1, 16, 32, 64, 128, 128, 256, 256, 1_024, 0]
    deepest = {"hnsw": 128, "ivf": 1_024}
    for kind, most in deepest.items():
        found = exports[kind][0]._index
        assert found is not None
        assert found.reach(asked).tolist() == [r if r <= most else 0 for r in reach]


@pytest.mark.parametrize("k", [10, 500])
@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_measured_as_it_is_searched(tmp_path: Path, kind: index.Kind, k: int) -> None:
    """The depth is for `FIRST` items, whatever K is: for more a search is deeper, or compares all."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(60, WIDTH))
    items, users = _around(centres, 6_000, rng), _around(centres, 30, rng)
    depths = []
    for each in (k, index.FIRST):
        found = kept.write_index(tmp_path, Settings(index=kind), users, items, items, k=each)
        assert found.metrics[f"index.recall@{each}"] >= index.ENOUGH
        depths.append(index.Index(tmp_path, *items.shape)._depth)
    assert depths[0] == depths[1]
