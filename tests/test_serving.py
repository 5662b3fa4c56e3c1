"""An export carries its identity, is refused where it is not whole, and answers one user, a batch, any rows alike."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from test_models import ITEM, USER, a_student, encoder_of, raw_items, raw_users

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.export import EXACT_BELOW
from dmtl_cli.config.export import Export as Settings
from dmtl_cli.data.features.row_groups import RowGroups
from dmtl_cli.data.features.stored import _write_vocabularies
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.features.vocabulary_file import VocabularyFile
from dmtl_cli.data.log.day import ID
from dmtl_cli.runs.artifact import publish
from dmtl_cli.runs.keyed import KEY, appended_key
from dmtl_cli.runs.manifest import MANIFEST, canonical, identity
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.serving import Export
from dmtl_cli.serving import index as faiss_index
from dmtl_cli.serving import vectors as stored
from dmtl_cli.serving.batch import read_users, recommend_to
from dmtl_cli.serving.onnx_parts import read as read_parts
from dmtl_cli.serving.search import top_k
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.export import files, kept, onnx_file, pt2_file
from dmtl_cli.student.export.towers import towers_of, vectors, write_towers

FULL = encoder_of(*USER, *ITEM)
USERS, ITEMS = raw_users(40).drop("device"), raw_items(60)
SEEN = pl.DataFrame({ID: [2, 4, 6], "seen_items": [[5, 7], [13], list(range(5, 14))]})
KEY_A, KEY_B = "a1" * 32, "b2" * 32
SETTINGS = {
    "float32": Settings(index="exact"),
    "float16": Settings(vectors="float16", index="exact"),
    "int8": Settings(vectors="int8", index="exact"),
    "hnsw": Settings(index="hnsw"),
    "ivf": Settings(index="ivf"),
}


def write(folder: Path, settings: Settings, key: str) -> kept.Kept:
    """All files of an export, as `write_export` writes them."""
    student = Blocks(a_student(FULL).eval())
    towers = towers_of(student, FULL, 0.0)
    write_towers(folder, towers, key)
    made = vectors(towers["item"], FULL.encode(ITEMS, "item"))
    served = files.write_items(folder, ITEMS[ID], made, settings.vectors, key)
    files.write_item_features(folder, ITEMS, FULL, key)
    files.write_users(folder, USERS, SEEN, key)
    FULL.write(folder, files.score_facts(student, 0.0), key)
    users = vectors(towers["user"], FULL.encode(USERS, "user"))
    return kept.write_index(folder, settings, users, made, served, key)


def published(home: Path, settings: Settings, key: str = KEY_A) -> Path:
    with publish(Workspace(home), "export", dt.date(2026, 1, 1), latest=True, key=key) as pub:
        assert pub.key == key
        write(pub.path, settings, key)
        run, _ = pub.seal({"key": key, "config": {}, "seed": 1, "versions": {}, "threads": 1})
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: published(tmp_path_factory.mktemp(name), s) for name, s in SETTINGS.items()}


def resealed(run: Path) -> Path:
    """The run with a manifest that says of its files what they are now."""
    document = json.loads((run / MANIFEST).read_text())
    from dmtl_cli.runs.disk import sha256_of

    for entry in document["files"]:
        file = run / entry["path"]
        entry |= {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    document["run_id"] = identity(document)
    (run / MANIFEST).write_text(canonical(document) + "\n")
    return run


# -- identity ----------------------------------------------------------------------------------------------------------


def test_every_file_carries_the_key(runs: dict[str, Path]) -> None:
    run = runs["hnsw"]
    names = {p.name for p in run.iterdir()} - {MANIFEST}
    found = {"features.json": json.loads((run / "features.json").read_text())["key"]}
    for side in ("user", "item"):
        model = onnx.load(run / f"{side}_tower.onnx")
        found[f"{side}_tower.onnx"] = {p.key: p.value for p in model.metadata_props}[KEY]
        assert read_parts(run / f"{side}_tower.onnx").weights == {i.name: (*i.dims,) for i in model.graph.initializer}
        extra = {KEY: ""}
        torch.export.load(run / f"{side}_tower.pt2", extra_files=extra)
        found[f"{side}_tower.pt2"] = extra[KEY]
    for name in ("item_vectors", "items", "users", "vocabularies"):
        found[f"{name}.parquet"] = pq.read_metadata(run / f"{name}.parquet").metadata[KEY.encode()].decode()
    from safetensors import safe_open

    with safe_open(run / stored.MAPPED, "np") as mapped:
        found[stored.MAPPED] = mapped.metadata()[KEY]
        parquet = pl.read_parquet(run / "item_vectors.parquet", use_pyarrow=False)
        np.testing.assert_array_equal(mapped.get_tensor("vector"), parquet["vector"].to_numpy())
    found["index.faiss"] = appended_key(run / "index.faiss")
    assert found == dict.fromkeys(names, KEY_A)


def test_torchs_own_exporter_keeps_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pt2_file, "TORCH", "0.0")
    tower = towers_of(Blocks(a_student(FULL)), FULL, 0.0)["item"]
    write_towers(tmp_path, {"item": tower}, KEY_A)
    extra = {KEY: ""}
    torch.export.load(tmp_path / "item_tower.pt2", extra_files=extra)
    assert extra[KEY] == KEY_A


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_export_has_the_same_bytes(runs: dict[str, Path], name: str, tmp_path: Path) -> None:
    assert published(tmp_path, SETTINGS[name]).name == runs[name].name


def test_a_root_is_a_workspace_its_exports_or_one_export(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["float32"]
    shutil.copytree(run, tmp_path / "served")
    shutil.copytree(run.parent.parent, tmp_path / "copy")
    for root in (run, run.parents[1], run.parents[2], tmp_path / "served", tmp_path / "copy"):
        assert Export.open(root).key == Export.open(root, verify=False).load().key == KEY_A
    with pytest.raises(UserError) as e:
        Export.open(tmp_path)
    assert e.value.code == Exit.NO_INPUT
    (tmp_path / "copy" / "LATEST").write_text("../served\n")
    with pytest.raises(UserError, match="names no run"):
        Export.open(tmp_path / "copy")


def a_byte(run: Path) -> None:
    raw = bytearray((run / "user_tower.pt2").read_bytes())
    raw[len(raw) // 2] ^= 1
    (run / "user_tower.pt2").write_bytes(raw)


def test_only_hashes_tell_a_flipped_byte(runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["float32"], run)
    a_byte(run)
    with pytest.raises(UserError, match=r"user_tower.pt2: its sha256"):
        Export.open(run)
    Export.open(run, verify=False)


@pytest.mark.parametrize("lazily", [False, True], ids=["all", "lazily"])
def test_files_of_two_runs(runs: dict[str, Path], tmp_path: Path, lazily: bool) -> None:
    """A file of the same bytes but for its key is of another run, whatever a manifest says."""
    other = published(tmp_path / "other", SETTINGS["hnsw"], KEY_B)
    names = sorted(p.name for p in other.iterdir() if p.name != MANIFEST)
    for name in names:
        run = tmp_path / name / "run"
        shutil.copytree(runs["hnsw"], run)
        shutil.copy(other / name, run / name)
        with pytest.raises(UserError, match=f"{KEY}: expected") as e:
            Export.open(resealed(run), verify=not lazily)
        assert (
            e.value.code == Exit.DATA
            and "two runs" in e.value.hint
            and (name in e.value.line() or name == "features.json")
        )
    whole = tmp_path / "whole"
    shutil.copytree(other, whole)
    document = json.loads((whole / MANIFEST).read_text()) | {"key": KEY_A}
    (whole / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(UserError, match="key: expected a1a1a1a1a1a1 of the manifest"):
        Export.open(resealed(whole), verify=not lazily)


# -- what makes no sense -----------------------------------------------------------------------------------------------


def other(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def tamper(run: Path) -> None:
        described = json.loads((run / "features.json").read_text())
        change(described)
        (run / "features.json").write_text(json.dumps(described))

    return tamper


def of_feature(name: str, **fields: Any) -> Callable[[Path], None]:
    def change(described: dict[str, Any]) -> None:
        next(f for f in described["features"] if f["name"] == name).update(fields)

    return other(change)


def longer(described: dict[str, Any]) -> None:
    """Feature and layout agree, the tower does not."""
    next(f for f in described["features"] if f["name"] == "history")["max_length"] += 1
    described["layouts"]["user"]["sequences"][0][1] += 1


def more_rows(run: Path) -> None:
    """An embedding that grew by a value, in features.json and in the vocabulary; not in the tower."""
    described = json.loads((run / "features.json").read_text())
    described["embedding_rows"]["user_id"] += 1
    (run / "features.json").write_text(json.dumps(described))
    table = pq.read_table(run / "vocabularies.parquet")
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    mine = frame.filter(pl.col("embedding") == "user_id")
    more = mine.tail(1).with_columns(
        pl.col("int_value") + 1_000, row=pl.lit(described["embedding_rows"]["user_id"] - 1)
    )
    grown = pl.concat([frame, more.select(frame.columns).cast(dict(frame.schema))]).sort(
        "embedding", maintain_order=True
    )
    pq.write_table(
        grown.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(table.schema), run / "vocabularies.parquet"
    )


def shorter_vectors(run: Path) -> None:
    found = stored.MappedVectors(run).read().vector[:, :-1].copy()
    stored.write(run, ITEMS[ID], stored.Stored(np.ascontiguousarray(found), None), KEY_A)


def fewer_vectors(run: Path) -> None:
    file = run / stored.MAPPED
    header = stored.MappedVectors(run).header
    whole = stored.MappedVectors(run).read().vector[:-1].copy()
    stored._write_mapped(file, {"vector": whole}, header["__metadata__"][KEY])


def set_to(name: str, value: Any) -> Callable[[Path], None]:
    return other(lambda described: described.update({name: value}))


ABSURD: dict[str, tuple[Callable[[Path], None], str]] = {
    "scale NaN": (set_to("scale", float("nan")), "NaN is no number"),
    "scale inf": (lambda run: _as_text(run, '"scale":', '"scale": 1e999, "was":'), "scale: expected a finite number"),
    "bias text": (set_to("bias", "0"), "bias: expected a finite number"),
    "max_length": (of_feature("history", max_length=2**31), "history: max_length: expected 1 to"),
    "longer": (other(longer), "expected the inputs"),
    "layout": (other(lambda d: d["layouts"]["user"].update(floats=9)), "layouts: user: floats"),
    "rows": (other(lambda d: d["embedding_rows"].update(user_id=3)), "user_id"),
    "tower rows": (more_rows, "table.weight: expected the"),
    "shorter": (shorter_vectors, "expected vectors of"),
    "fewer": (fewer_vectors, "expected 59 items"),
}


def _as_text(run: Path, old: str, new: str) -> None:
    file = run / "features.json"
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("lazily", [False, True], ids=["all", "lazily"])
@pytest.mark.parametrize("case", ABSURD)
def test_absurd_values_are_refused(runs: dict[str, Path], tmp_path: Path, case: str, lazily: bool) -> None:
    tamper, said = ABSURD[case]
    run = tmp_path / "run"
    shutil.copytree(runs["float32"], run)
    tamper(run)
    with pytest.raises(UserError, match=said) as e:
        Export.open(resealed(run), verify=not lazily).recommend("2", 3)
    assert e.value.code == Exit.DATA and str(run) in e.value.line()


def test_numbers_that_are_not_finite_are_no_statistics() -> None:
    kind = next(k for k in encoder_of(*USER, *ITEM).kinds if k.is_measured and not k.feature.is_bucketed)
    kind.check({"mean": 1.0, "std": 2.0})
    for measured in ({"mean": float("inf"), "std": 1.0}, {"mean": 0.0, "std": float("nan")}, {"mean": 0.0, "std": 0.0}):
        with pytest.raises(ValueError, match=r"finite|above 0"):
            kind.check(measured)


# -- large towers ------------------------------------------------------------------------------------------------------


def test_weights_beside_the_onnx_file(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "INLINE", 100)
    run = published(tmp_path, SETTINGS["float32"])
    names = [p.name for p in sorted(run.iterdir())]
    assert {"item_tower.onnx.data", "user_tower.onnx.data"} < {*names}
    assert appended_key(run / "user_tower.onnx.data") == KEY_A
    assert (run / "user_tower.onnx").stat().st_size < (runs["float32"] / "user_tower.onnx").stat().st_size
    beside, inside = Export.open(run), Export.open(runs["float32"])
    np.testing.assert_array_equal(beside.vectors(USERS, "user"), inside.vectors(USERS, "user"))
    assert read_parts(run / "user_tower.onnx").weights == read_parts(runs["float32"] / "user_tower.onnx").weights


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
    monkeypatch.setattr(kept, "has_faiss", lambda: False)
    monkeypatch.setattr(Settings, "index_of", lambda self, items: "hnsw")
    found = kept.write_index(tmp_path, Settings(), users, items, items)
    assert not list(tmp_path.iterdir()) and "dmtl[index]" in found.warnings[0]
    monkeypatch.setattr("dmtl_cli.config.export.has_faiss", lambda: False)
    Settings().refuse_without_faiss()
    with pytest.raises(UserError, match=r"export\.index: hnsw needs faiss") as e:
        Settings(index="hnsw").refuse_without_faiss()
    assert e.value.code == Exit.CONFIG and "dmtl[index]" in e.value.hint


def test_without_the_library_an_index_is_passed_over(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_index, "has_faiss", lambda: False)
    found, exact = (Export.open(runs[name]).recommend("2", 9) for name in ("hnsw", "float32"))
    assert found.equals(exact)


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


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_rows_of_users_by_a_loop(runs: dict[str, Path], name: str) -> None:
    """Exclusions of each user, items allowed to all, fewer left than asked for; an index finds the same."""
    export = Export.open(runs[name])
    frame = USERS.drop(ID)
    users = export.vectors(frame, "user")
    ids, items = export.items
    rng = np.random.default_rng(0)
    lists = [[int(x) for x in rng.choice(ids.to_numpy(), n, replace=False)] + [10**9] for n in rng.integers(0, 30, 40)]
    exclude = pl.Series([None, *lists[1:]], dtype=pl.List(pl.Int64))
    for among in (None, rng.random(len(ids)) < 0.2):
        found = export.recommend_rows(frame, 10, exclude=exclude, among=among)
        assert found.columns == ["row", "rank", "item_id", "score"]
        for row in range(len(frame)):
            scored = export.score(users[row] @ items.T)
            barred = {*lists[row]} if row else set()
            left = [i for i in range(len(ids)) if (among is None or among[i]) and ids[i] not in barred]
            best = sorted(left, key=lambda i: (-scored[i], i))[:10]
            mine = found.filter(pl.col("row") == row)
            assert mine["item_id"].to_list() == [ids[i] for i in best]
            assert mine["rank"].to_list() == [*range(1, len(best) + 1)]
            np.testing.assert_allclose(mine["score"].to_numpy(), scored[best], atol=1e-5)
    assert len(export.recommend_rows(frame[:0], 3)) == 0


def test_vectors_that_are_not_finite_are_found(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        top_k(np.ones((1, 2), np.float32), np.array([[1, np.nan], [2, 3]], np.float32), 1)


@pytest.mark.parametrize("name", ["float32", "hnsw"])
def test_a_batch_is_one_after_the_other(runs: dict[str, Path], name: str, tmp_path: Path) -> None:
    export = Export.open(runs[name], verify=False)
    ids = [4, 10**6, 2, 6, 2, 20]
    (tmp_path / "ids.txt").write_text("".join(f"{x}\n" for x in ids))
    pl.DataFrame({"user_id": ids, "other": 1}).write_csv(tmp_path / "ids.csv")
    pl.DataFrame({"user_id": ids}).write_parquet(tmp_path / "ids.parquet")
    features = [f.name for f in export.encoder.features_of_side("user")]
    tables = []
    for kind in ("txt", "csv", "parquet"):
        users = read_users(tmp_path / f"ids.{kind}", export.user_ids, features)
        for size in (2, 100):
            counts = recommend_to(export, users, tmp_path / "o.parquet", 7, exclude_seen=True, slice_size=size)
            assert counts == (4, 0, ["1000000"])
            tables.append(pl.read_parquet(tmp_path / "o.parquet"))
    assert pq.read_metadata(tmp_path / "o.parquet").metadata[KEY.encode()].decode() == KEY_A
    whole = tables[0]
    assert all(t.select(pl.exclude("score")).equals(whole.select(pl.exclude("score"))) for t in tables)
    assert whole.columns == ["user_id", "rank", "item_id", "score"] and whole["user_id"].is_sorted()
    for user in (2, 4, 6, 20):
        one = export.recommend(str(user), 7, exclude_seen=True)
        mine = whole.filter(pl.col("user_id") == user)
        assert mine["item_id"].to_list() == one["item_id"].to_list() and mine["rank"].to_list() == [*range(1, 8)]
        np.testing.assert_allclose(mine["score"].to_numpy(), one["score"].to_numpy(), atol=1e-5)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_batch_of_users_nobody_knows(runs: dict[str, Path], tmp_path: Path) -> None:
    """Known ones are served as the export has them, whatever the file says."""
    export = Export.open(runs["float32"])
    features = [f.name for f in export.encoder.features_of_side("user")]
    cold = USERS.drop(ID).with_columns(user_id=pl.col("user_id") + 1_001)
    both = pl.concat([cold[:5], USERS.drop(ID)[:2].with_columns(taste=None)], how="vertical_relaxed")
    both.write_parquet(tmp_path / "in.parquet")
    users = read_users(tmp_path / "in.parquet", export.user_ids, features)
    assert recommend_to(export, users, tmp_path / "out.parquet", 4) == (2, 5, [])
    found = pl.read_parquet(tmp_path / "out.parquet")
    expected = export.recommend_rows(cold[:5], 4)
    assert found.filter(pl.col("user_id") > 1_000)["item_id"].to_list() == expected["item_id"].to_list()
    first = str(USERS["user_id"][0])
    assert found["item_id"][:4].to_list() == export.recommend(first, 4)["item_id"].to_list()
    recommend_to(export, users, tmp_path / "again.parquet", 4)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "out.parquet").read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "code", "said"),
    [
        ("no.txt", None, Exit.NO_INPUT, "no such file"),
        ("empty.txt", "\n \n", Exit.NO_INPUT, "no user"),
        ("word.txt", "2\nann\n", Exit.DATA, "row 2: expected a user id"),
        ("huge.txt", f"{2**63}\n", Exit.DATA, "row 1"),
        ("other.csv", "id\n2\n", Exit.DATA, "no column user_id"),
        ("half.csv", "user_id,taste\n2,1\n", Exit.DATA, "no column history"),
        ("bad.parquet", "PAR1", Exit.DATA, "bad.parquet"),
        ("nobody.txt", "999999\n", Exit.NO_INPUT, "none of 1 users"),
    ],
)
def test_files_of_users_that_are_refused(
    runs: dict[str, Path], tmp_path: Path, name: str, text: str | None, code: Exit, said: str
) -> None:
    export = Export.open(runs["float32"])
    if text is not None:
        (tmp_path / name).write_text(text)
    features = [f.name for f in export.encoder.features_of_side("user")]
    with pytest.raises(UserError, match=said) as e:
        recommend_to(export, read_users(tmp_path / name, export.user_ids, features), tmp_path / "out.parquet", 3)
    assert e.value.code == code and not (tmp_path / "out.parquet").exists()
