"""Stored vectors and what they keep of exact search; rows of an export looked up in its files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from exported import KEY_A

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.export import EXACT_BELOW
from dmtl_cli.config.export import Export as Settings
from dmtl_cli.data.features.row_groups import RowGroups
from dmtl_cli.data.features.stored import _write_vocabularies
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.features.vocabulary_file import VocabularyFile
from dmtl_cli.serving import index as faiss_index
from dmtl_cli.serving import vectors as stored
from dmtl_cli.serving.search import top_k
from dmtl_cli.student.export import kept

# -- vectors -----------------------------------------------------------------------------------------------------------


def test_quantised_vectors_by_hand() -> None:
    vectors = np.array([[127, -63.5, 0.4], [0, 0, 0], [2, -2, 1]], np.float32)
    found = stored.quantised(vectors, "int8")
    assert found.vector.dtype == np.int8 and found.scale is not None
    assert found.vector.tolist() == [[127, -64, 0], [0, 0, 0], [127, -127, 64]]
    np.testing.assert_allclose(found.scale, [1, 0, 2 / 127], rtol=1e-6)
    np.testing.assert_allclose(found.floats()[2], [2, -2, 128 / 127], rtol=1e-6)
    half = stored.quantised(np.array([[1.0, 1e6, 2049]], np.float32), "float16")
    assert half.vector.dtype == np.float16 and half.floats().tolist() == [[1.0, 65504.0, 2048.0]]


@pytest.mark.parametrize("numbers", ["float32", "float16", "int8"])
def test_both_files_of_vectors_hold_the_same(tmp_path: Path, numbers: Any) -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    made = stored.quantised(vectors, numbers)
    stored.write(tmp_path, pl.Series(range(7)), made, KEY_A)
    mapped = stored.MappedVectors(tmp_path)
    table = pl.read_parquet(tmp_path / stored.TABLE, use_pyarrow=False)
    np.testing.assert_array_equal(table["vector"].to_numpy(), mapped.read().vector)
    assert mapped.read().vector.dtype == numbers and ("scale" in table.columns) == (numbers == "int8")
    np.testing.assert_array_equal(mapped.read().floats(), made.floats())
    group = pq.read_metadata(tmp_path / stored.TABLE).row_group(0)
    encodings = [group.column(k).encodings for k in range(group.num_columns)]
    assert ("BYTE_STREAM_SPLIT" in encodings[1]) == (numbers != "int8")
    assert not any("DICTIONARY" in e for each in encodings for e in each)


def test_what_is_kept_of_exact_search(tmp_path: Path) -> None:
    """By a loop: the share of each user's exact list that int8 vectors, and an index, find."""
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n, 16)).astype(np.float32) for n in (9, 3_000))
    for kind in ("hnsw", "ivf"):
        served = stored.quantised(items, "int8").floats()
        found = kept.write_index(tmp_path, Settings(vectors="int8", index=kind), users, items, served, KEY_A)
        lists = [[*np.argsort(-(users[u] @ v.T), kind="stable")[:50]] for u in range(9) for v in (items, served)]
        exact, ours = lists[::2], lists[1::2]
        expected = np.mean([len({*a} & {*b}) / 50 for a, b in zip(exact, ours, strict=True)])
        assert found.metrics["vectors.recall@50"] == pytest.approx(expected) and 0.8 < expected < 1
        by_index, _ = faiss_index.Index(tmp_path, *served.shape).search(users, 50)
        share = np.mean([len({*a} & {*b}) / 50 for a, b in zip(ours, by_index, strict=True)])
        assert found.metrics["index.recall@50"] == pytest.approx(share) and share > 0.9
        assert [(m.name, m.value) for m in found.measures] == [("export.index_recall", pytest.approx(share))]


def test_vectors_in_an_index_are_equally_long(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = (rng.normal(size=(2_000, 24)) * rng.uniform(2, 9, (2_000, 1))).astype(np.float32)
    users = rng.normal(size=(20, 24)).astype(np.float32)
    longer = faiss_index.as_long(items)
    np.testing.assert_allclose(np.linalg.norm(longer, axis=1), np.linalg.norm(items, axis=1).max(), rtol=1e-5)
    np.testing.assert_array_equal(longer[:, :24], items)
    exact, dots = top_k(users, items, 10)
    faiss_index.write(tmp_path, items, "hnsw", users, exact)
    rows, found = faiss_index.Index(tmp_path, 2_000, 24).search(users, 10)
    assert faiss_index.recall(exact, rows).mean() >= faiss_index.ENOUGH
    np.testing.assert_allclose(found[:, 0], dots[:, 0], rtol=1e-5)


def test_auto_is_exact_below_many_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [Settings().index_of(n) for n in (EXACT_BELOW - 1, EXACT_BELOW)] == ["exact", "hnsw"]
    assert Settings(index="ivf").index_of(1) == "ivf"
    users = items = np.eye(3, dtype=np.float32)
    monkeypatch.setattr(kept, "has", lambda _: False)
    monkeypatch.setattr(Settings, "index_of", lambda self, items: "hnsw")
    found = kept.write_index(tmp_path, Settings(), users, items, items)
    assert not list(tmp_path.iterdir()) and ".[index]" in found.warnings[0]
    monkeypatch.setattr("dmtl_cli.config.extras.has", lambda _: False)
    Settings().refuse_without_faiss()
    with pytest.raises(UserError, match=r"export\.index: hnsw needs faiss") as e:
        Settings(index="hnsw").refuse_without_faiss()
    assert e.value.code == Exit.CONFIG and ".[index]" in e.value.hint


# -- lookups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
def test_values_are_looked_up_in_the_file(tmp_path: Path, text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmtl_cli.data.features.stored._GROUP", 7)
    values = pl.Series("value", [f"v{k:03}" for k in range(0, 200, 2)] if text else range(0, 200, 2))
    nobody = pl.Series("value", [None], dtype=values.dtype)
    whole = Vocabulary(
        pl.DataFrame({"value": pl.concat([nobody, values]), "row": np.arange(1, 102, dtype=np.int32)}).with_columns(
            count=pl.when(pl.col("value").is_null()).then(0).otherwise(1).cast(pl.Int64), last_seen=dt.date(2026, 1, 1)
        )
    )
    whole.check("mine")
    path = tmp_path / "vocabularies.parquet"
    others = {"a": Vocabulary.empty(pl.String()), "z": Vocabulary(whole.frame[1:].with_columns(pl.col("row") - 1))}
    _write_vocabularies(path, {"mine": whole, **others}, KEY_A)
    found = VocabularyFile(path, "mine")
    asked = pl.Series(["v000", "v003", None, "v198", "zz"] if text else [0, 3, None, 198, 10**9])
    assert found.lookup(asked).tolist() == whole.lookup(asked).tolist() == [2, 0, 0, 101, 0]
    assert "frame" not in vars(found) and found.largest == 101
    assert found.frame.equals(whole.frame) and found.rows == 102
    assert VocabularyFile(path, "a").lookup(asked).tolist() == [0] * 5
    for one in (found, VocabularyFile(path, "mine")):
        one.check_rows(102)
        with pytest.raises(ValueError, match="mine: expected the 101 rows of"):
            one.check_rows(101)


def test_a_long_value_hides_no_other(tmp_path: Path) -> None:
    """Parquet keeps no statistics of a text above 4,096 bytes."""
    seen = pl.DataFrame({"value": ["b", "c", "z" * 5_000], "count": [1, 1, 1]})
    whole = Vocabulary.empty(pl.String()).grow(seen, dt.date(2026, 1, 1), 1)
    _write_vocabularies(tmp_path / "vocabularies.parquet", {"a": VOCABULARY, "b": whole}, "")
    found = VocabularyFile(tmp_path / "vocabularies.parquet", "b")
    asked = pl.Series(["b", "c", "d", None, "z" * 5_000])
    assert found.lookup(asked).tolist() == whole.lookup(asked).tolist() == [1, 2, 0, 0, 3]
    assert found.groups is not None and "frame" not in vars(found)


def test_a_file_of_an_earlier_version_is_read_whole(tmp_path: Path) -> None:
    """Its row groups have several embeddings."""
    _write_vocabularies(tmp_path / "new", {"a": VOCABULARY, "b": VOCABULARY}, "")
    pq.write_table(pq.read_table(tmp_path / "new"), tmp_path / "old")
    found = VocabularyFile(tmp_path / "old", "b")
    found.check_rows(4)
    assert found.lookup(pl.Series([3, 4, None])).tolist() == [2, 0, 0] and found.groups is None
    with pytest.raises(ValueError, match="b: expected the 5 rows"):
        found.check_rows(5)


VOCABULARY = Vocabulary(
    pl.DataFrame(
        {"value": [1, 3, 5], "row": [1, 2, 3], "count": [1, 1, 1], "last_seen": [dt.date(2026, 1, 1)] * 3},
        schema_overrides={"row": pl.Int32},
    )
)


def test_only_row_groups_that_may_hold_a_value_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"id": range(100), "x": range(100)}).write_parquet(path, row_group_size=10, use_pyarrow=True)
    groups, read = RowGroups(path, "id"), []
    whole = RowGroups._read
    monkeypatch.setattr(RowGroups, "_read", lambda self, at, columns: read.append(at) or whole(self, at, columns))
    assert groups.among(pl.Series([55, 9, 10, 1_000]))["x"].to_list() == [9, 10, 55]
    assert read == [[0, 1, 5]] and groups.rows == 100
