"""An export carries its identity, and is refused where it is not whole."""

from __future__ import annotations

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
from exported import FULL, ITEMS, KEY_A, KEY_B, SETTINGS, USERS, published
from test_models import ITEM, USER, a_student, encoder_of

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.runs.keyed import KEY, appended_key
from dmtl_cli.runs.manifest import MANIFEST, canonical, identity
from dmtl_cli.serving import Export
from dmtl_cli.serving import vectors as stored
from dmtl_cli.serving.onnx_parts import read as read_parts
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.export import onnx_file, pt2_file
from dmtl_cli.student.export.towers import Shown, towers_of, write_towers


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
    tower = towers_of(Blocks(a_student(FULL)), FULL, Shown(0.0))["item"]
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
