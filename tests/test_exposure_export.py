"""A student of two blocks as files: one dot product is kappa times what is shown plus the preference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from test_export import FILES, FULL, ITEMS, LAYOUTS, SEEN, USERS, arguments, vectors_of
from test_models import a_student, random_side

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.files import input_names
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.export import files, pt2_archive, pt2_file
from dmtl_cli.student.export.towers import Shown, towers_of, vectors, write_towers

KAPPA = 0.3


def a_pair(encoder: Encoder = FULL, *, unit: bool = True, shown: bool = True) -> Blocks:
    """Blocks of other sizes and weights, with towers as `build_exposure` has them; the preference has a bias."""
    preference = a_student(encoder, unit=unit)
    preference.bias.data.fill_(-0.4)
    if not shown:
        return Blocks(preference)
    return Blocks(preference, a_student(encoder, 1, unit=False, units=(6, 3), dim=2))


def expected(student: Blocks, of: str, n: int, encoder: Encoder, kappa: float) -> np.ndarray[Any, Any]:
    assert student.exposure is not None
    x = random_side(encoder, of, n, n)
    first, second = vectors_of(student.exposure, of, x), vectors_of(student.preference, of, x)
    scale = np.float32(student.preference.scale.item())
    parts = [np.float32(kappa) * first, scale * second] if of == "user" else [first, second]
    return np.concatenate(parts, 1)


@pytest.mark.parametrize("by_torch", [False, True], ids=["fast", "torch"])
@pytest.mark.parametrize("name", ["everything", "sequences, ids", "ids and floats, floats"])
def test_both_blocks_in_both_formats(
    name: str, by_torch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_torch:
        monkeypatch.setattr(pt2_file, "TORCH", "2.12")
        monkeypatch.setattr(pt2_archive, "write", None)
    encoder, unit = LAYOUTS[name]
    student = a_pair(encoder, unit=unit)
    write_towers(tmp_path, towers_of(student, encoder, Shown(KAPPA)))
    for of in ("user", "item"):
        session = onnxruntime.InferenceSession(tmp_path / f"{of}_tower.onnx", providers=["CPUExecutionProvider"])
        assert tuple(i.name for i in session.get_inputs()) == input_names(encoder.layout(of))
        program = torch.export.load(tmp_path / f"{of}_tower.pt2").module()
        for n in (0, 1, 2, 3, 300):
            given = arguments(encoder, of, random_side(encoder, of, n, n))
            wanted = expected(student, of, n, encoder, KAPPA)
            assert wanted.shape == (n, 8)
            served = session.run(None, {k: v.numpy() for k, v in given.items()})[0]
            np.testing.assert_allclose(served, wanted, atol=1e-5, rtol=1e-5)
            with torch.no_grad():
                np.testing.assert_allclose(program(*given.values()).numpy(), wanted, atol=1e-5, rtol=1e-5)


def test_kappa_0_is_the_preference_byte_for_byte(tmp_path: Path) -> None:
    for name, student in (("both", a_pair()), ("alone", a_pair(shown=False))):
        (tmp_path / name).mkdir()
        write_towers(tmp_path / name, towers_of(student, FULL, Shown(0.0)))
        FULL.write(tmp_path / name, files.score_facts(student, Shown(0.0)))
    for name in (*FILES, "features.json"):
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert files.score_facts(a_pair(), Shown(0.0))["vectors"] == "unit"


def test_what_was_not_learned_cannot_be_served() -> None:
    with pytest.raises(UserError, match=r"kappa is 0\.3, but the student has no exposure block") as e:
        towers_of(a_pair(shown=False), FULL, Shown(KAPPA))
    assert e.value.code == Exit.DATA and "train-student" in e.value.hint


# -- serving -----------------------------------------------------------------------------------------------------------


def publish(folder: Path, kappa: float) -> Export:
    folder.mkdir()
    student = a_pair()
    towers = towers_of(student, FULL, Shown(kappa))
    write_towers(folder, towers)
    files.write_items(folder, ITEMS[ID], vectors(towers["item"], FULL.encode(ITEMS, "item")))
    files.write_users(folder, USERS, SEEN)
    FULL.write(folder, files.score_facts(student, Shown(kappa)))
    return Export(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Export]:
    root = tmp_path_factory.mktemp("served")
    return {kappa: publish(root / str(kappa), kappa) for kappa in (0.0, KAPPA, 1.0)}


def scores(export: Export, kappa: float) -> np.ndarray[Any, Any]:
    u = export.with_kappa(export.vectors(USERS, "user"), kappa)
    return export.score(u @ export.items[1].T)


def test_what_is_published(served: dict[float, Export]) -> None:
    both = json.loads((served[KAPPA].folder / "features.json").read_text())
    assert (both["kappa"], both["blocks"]) == (KAPPA, {"exposure": [0, 3], "preference": [3, 8]})
    assert (both["scale"], both["vectors"]) == (1.0, "plain") and both["bias"] == pytest.approx(-0.4)
    assert served[KAPPA].kappa == KAPPA and served[0.0].kappa == 0
    assert served[KAPPA].items[1].shape == (len(ITEMS), 8) and served[0.0].items[1].shape == (len(ITEMS), 5)
    assert set(served[0.0].blocks) == {"preference"}


def test_another_kappa_of_one_export(served: dict[float, Export]) -> None:
    """Rescaled users are those of an export with that kappa; 0 is the preference, which every export has."""
    for kappa, other in served.items():
        np.testing.assert_allclose(scores(served[KAPPA], kappa), scores(other, kappa), atol=1e-4)
        u, v = (other.part(x, "preference") for x in (other.vectors(USERS, "user"), other.items[1]))
        np.testing.assert_allclose(other.score(u @ v.T), scores(served[0.0], 0.0), atol=1e-4)
    spread = scores(served[KAPPA], 1.0) - scores(served[KAPPA], 0.0)
    assert np.abs(spread).max() > 0.1, "blocks of weights that would not be told apart otherwise"
    users = served[KAPPA].vectors(USERS, "user")
    before = users.copy()
    served[KAPPA].with_kappa(users, 0.0)
    np.testing.assert_array_equal(users, before)
    with pytest.raises(UserError, match=r"expected a block, preference, got 'exposure'") as e:
        served[0.0].part(users, "exposure")
    assert e.value.code == Exit.DATA
    with pytest.raises(UserError, match=r"kappa 0\.5 needs an exposure block, it has preference") as e:
        served[0.0].with_kappa(users, 0.5)
    assert e.value.code == Exit.DATA


def test_recommend_reports_both_parts(served: dict[float, Export]) -> None:
    whole, alone = (scores(served[KAPPA], kappa) for kappa in (KAPPA, 0.0))
    top = served[KAPPA].recommend("4", 5, exclude_seen=True)
    assert top.columns == ["item_id", "score", "exposure", "preference"]
    row = USERS[ID].to_list().index(4)
    left = [i for i in range(len(ITEMS)) if ITEMS[ID][i] != 13]
    best = sorted(left, key=lambda i: -whole[row, i])[:5]
    assert top["item_id"].to_list() == [ITEMS[ID][i] for i in best]
    np.testing.assert_allclose(top["score"], whole[row, best], atol=1e-4)
    np.testing.assert_allclose(top["preference"], alone[row, best], atol=1e-4)
    np.testing.assert_allclose(top["exposure"] + top["preference"], top["score"], atol=1e-4)
    assert served[0.0].recommend("4", 5).columns == ["item_id", "score"]


def test_an_item_that_nobody_has_seen_has_a_vector(served: dict[float, Export]) -> None:
    """Its id is out of vocabulary: it is the unknown item of its content, and another content is another vector."""
    export = served[KAPPA]
    new = ITEMS.with_columns(pl.lit(10**9).alias("item_id")) if "item_id" in ITEMS.columns else ITEMS
    vectors = export.vectors(new, "item")
    unknown = export.vectors(new.with_columns(pl.lit(None, new["item_id"].dtype).alias("item_id")), "item")
    np.testing.assert_array_equal(vectors, unknown)
    assert np.isfinite(vectors).all() and len(np.unique(vectors.round(5), axis=0)) > 1
    assert np.abs(vectors - export.items[1]).max() > 0.01
