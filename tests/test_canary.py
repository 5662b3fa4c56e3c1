"""An export is read back by a fresh process: canaries by hand, and files that were tampered with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_models import ITEM, USER, a_student, encoder_of, raw_items, raw_users

from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.serving import canary
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.export import files, pt2_archive, pt2_file
from dmtl_cli.student.export.read_back import PAIRS, _pairs, read_back
from dmtl_cli.student.export.towers import Served, Shown, arguments, towers_of, vectors, write_towers

FULL = encoder_of(*USER, *ITEM)
USERS = raw_users(5).with_columns(pl.Series(ID, range(5)))
ITEMS = raw_items(7).with_columns(pl.Series(ID, range(7)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Served]]:
    """An export of 5 users and 7 items, and its towers."""
    folder = tmp_path_factory.mktemp("export")
    student = Blocks(a_student(FULL))
    towers = towers_of(student, FULL, Shown(0.0))
    write_towers(folder, towers)
    files.write_items(folder, ITEMS[ID], vectors(towers["item"], FULL.encode(ITEMS, "item")))
    files.write_users(folder, USERS, pl.DataFrame({ID: [1], "seen_items": [[2]]}))
    FULL.write(folder, files.score_facts(student, Shown(0.0)))
    return folder, towers


def judged(folder: Path, towers: dict[str, Served], scratch: Path) -> dict[str, float]:
    """Every measure by name; one that is not met is negative (and -inf where it is 0)."""
    facts = json.loads((folder / "features.json").read_text())
    tables = {"user": USERS, "item": ITEMS}
    found = read_back(folder, scratch, towers, FULL, tables, facts)
    for m in found:
        assert m.integrity and m.name.startswith("export.")
    met = {m.name: (m.least is None or m.value >= m.least) and (m.most is None or m.value <= m.most) for m in found}
    return {m.name: m.value if met[m.name] else (-m.value or -np.inf) for m in found}


def test_what_was_written_is_what_is_read(written: tuple[Path, dict[str, Served]], tmp_path: Path) -> None:
    found = judged(*written, tmp_path)
    assert found["export.items"] == 7 and found["export.users"] == 5 and found["export.readable"] == 1
    assert [found[f"export.{x}"] for x in ("repeated", "unknown", "not_finite")] == [0, 0, 0]
    for way in ("onnx", "stored", "pt2"):
        assert 0 <= found[f"export.{way}"] < 1e-5, way


def test_what_lies_in_the_working_directory_is_not_imported(
    written: tuple[Path, dict[str, Served]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "polars.py").write_text("raise RuntimeError")
    assert judged(*written, tmp_path)["export.readable"] == 1


def other_vectors(change: Callable[[np.ndarray], None]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        stored = pl.read_parquet(folder / "item_vectors.parquet", use_pyarrow=False)
        v = stored["vector"].to_numpy().copy()
        change(v)
        stored.with_columns(pl.Series("vector", v)).write_parquet(folder / "item_vectors.parquet")

    return tamper


def nan(v: np.ndarray) -> None:
    v[3, 0] = np.nan


def doubled(v: np.ndarray) -> None:
    v[3] *= 2


def twice(folder: Path) -> None:
    stored = pl.read_parquet(folder / "users.parquet")
    pl.concat([stored[:4], stored[3:4]]).write_parquet(folder / "users.parquet")


def no_vocabulary(folder: Path) -> None:
    (folder / "vocabularies.parquet").write_bytes(b"PAR1")


def swapped(folder: Path) -> None:
    (folder / "item_tower.onnx").write_bytes((folder / "user_tower.onnx").read_bytes())


def torn(folder: Path) -> None:
    whole = (folder / "user_tower.pt2").read_bytes()
    (folder / "user_tower.pt2").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("tamper", "failed"),
    [
        (other_vectors(nan), {"export.not_finite", "export.stored"}),
        (other_vectors(doubled), {"export.stored"}),
        (twice, {"export.repeated", "export.unknown"}),
        (no_vocabulary, {"export.readable"}),
        (swapped, {"export.readable"}),
        (torn, {"export.pt2", "export.readable"}),
    ],
)
def test_what_was_tampered_with_is_found(
    written: tuple[Path, dict[str, Served]], tmp_path: Path, tamper: Callable[[Path], None], failed: set[str]
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(written[0], folder)
    tamper(folder)
    found = judged(folder, written[1], tmp_path)
    assert {name for name, value in found.items() if not value >= 0} == failed


def test_pairs_cover_both_sides() -> None:
    few = _pairs(5, 7)
    assert len(few["user"]) == PAIRS and set(few["user"]) == set(range(5)) and set(few["item"]) == set(range(7))
    many = _pairs(10**6, 10**7)
    assert len(set(many["user"])) == len(set(many["item"])) == PAIRS
    assert len(_pairs(0, 7)["item"]) == 0


def test_a_program_is_replayed_as_torch_runs_it(written: tuple[Path, dict[str, Served]]) -> None:
    import torch

    folder, towers = written
    for side, raw in (("user", USERS), ("item", ITEMS)):
        encoded = FULL.encode(raw, side)
        inputs = arguments(encoded, towers[side].layout)
        ours = pt2_archive.read(folder / f"{side}_tower.pt2")(*inputs)
        assert torch.equal(ours, torch.export.load(folder / f"{side}_tower.pt2").module()(*inputs))
        assert np.array_equal(ours.detach().numpy(), vectors(towers[side], encoded))


def test_another_torch_reads_by_its_own_reader(
    written: tuple[Path, dict[str, Served]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pt2_file, "TORCH", "0.0")
    tower = written[1]["item"]
    encoded = FULL.encode(ITEMS, "item")
    made = pt2_file.read(written[0] / "item_tower.pt2")(*arguments(encoded, tower.layout))
    assert np.array_equal(made.detach().numpy(), vectors(tower, encoded))


def test_a_reader_that_dies_is_told(tmp_path: Path) -> None:
    canary.write(tmp_path / "canaries", pl.DataFrame({"user_id": [1]}), pl.DataFrame({"a": [1]}))
    said = canary.read_back(tmp_path / "nothing", tmp_path / "canaries")
    assert isinstance(said, str) and "nothing" in said
