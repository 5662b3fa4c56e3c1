"""Exported towers are the student, byte for byte the same wherever they are written; serving is brute force."""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_models import CONTEXT, ITEM, USER, a_student, encoder_of, feature, random_side, raw_items, raw_users
from torch._export.serde import schema
from torch.fx.experimental.symbolic_shapes import SymT, symbol_is_type
from worlds import BASE, DAYS, Project, events

import dmtl_cli
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.nn.batches import side_of
from dmtl_cli.nn.layers import Side
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.files import input_names, read_users
from dmtl_cli.serving.search import best_k, top_k
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.dssm import DSSM
from dmtl_cli.student.export import files as export
from dmtl_cli.student.export import onnx_file, pt2_archive, pt2_file
from dmtl_cli.student.export.program import record
from dmtl_cli.student.export.towers import Shown, Tower, towers_of, vectors, write_towers
from dmtl_cli.synth.generate import generate

FULL = encoder_of(*USER, *ITEM)
TAKEN = ["user_id", "item_id", "user", "seen_items", "clicks", "vector", "feature", "id", "row"]
EVENT = (
    feature("hour", "user", "categorical", level="event"),
    feature("wait", "user", "numeric", level="event"),
    feature("steps", "user", "numeric", level="event", boundaries=(10.0, 20.0)),
)
LAYOUTS = {  # of users, items; unit vectors or plain ones
    "ids and floats, floats": (encoder_of(USER[0], USER[2], ITEM[3]), False),
    "sequences, ids": (encoder_of(USER[1], *ITEM[:2]), True),
    "ids, sequences": (encoder_of(USER[0], ITEM[2]), False),
    "floats, ids and sequences": (encoder_of(USER[2], *ITEM[:3]), True),
    "everything": (FULL, False),
    "of events too": (encoder_of(*USER, *EVENT, *ITEM), True),
    "of events only": (encoder_of(*EVENT[1:], ITEM[0]), True),
}
FILES = ["item_tower.onnx", "item_tower.pt2", "user_tower.onnx", "user_tower.pt2"]


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_towers(folder, towers_of(Blocks(a_student(FULL)), FULL, Shown(0.0)))


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that writes the student of `write`, with dmtl, the home and the current folder somewhere else. It
    starts before the first test, as it takes seconds."""
    root = tmp_path_factory.mktemp("elsewhere")
    site, home, out = root / "site", root / "home", root / "else where" / "out"
    home.mkdir()
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(dmtl_cli.__file__).parent, site / "dmtl_cli", ignore=skip)
    shutil.copytree(Path(__file__).parent, site / "copied", ignore=skip)
    code = (
        "import sys, time, pathlib, dmtl_cli, test_export\n"
        f"assert all(m.__file__.startswith({str(site)!r}) for m in (dmtl_cli, test_export)), dmtl_cli.__file__\n"
        f"before = time.process_time()\ntest_export.write(pathlib.Path({str(out)!r}))\n"
        "assert time.process_time() - before < 1, 'both towers cost 30 ms'\n"
        "assert not {'torch._dynamo', 'torch._inductor', 'onnxscript'} & sys.modules.keys(), 'seconds of imports'\n"
    )
    paths = os.pathsep.join(map(str, (site, site / "copied")))
    changed = {"PYTHONPATH": paths, "HOME": str(home), "USER": "somebody", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=home, env=os.environ | changed, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        yield process, out
        process.kill()


@pytest.fixture(scope="module")
def written(
    elsewhere: tuple[subprocess.Popen[bytes], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The same student written twice: here, after other exports of this process, and elsewhere."""
    here = tmp_path_factory.mktemp("export") / "here"
    write(here)
    process, out = elsewhere
    said = process.communicate(timeout=120)
    assert (process.returncode, *said) == (0, b"", b""), said[1].decode()
    return {"here": here, "elsewhere": out}


# -- towers ------------------------------------------------------------------------------------------------------------


def vectors_of(student: DSSM, of: str, x: Side) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return (student.user_vectors if of == "user" else student.item_vectors)(x).numpy()


def arguments(encoder: Encoder, of: str, x: Side) -> dict[str, torch.Tensor]:
    every = {"ids": x[0], "floats": x[2]} | {f"sequence_{k}": s for k, s in enumerate(x[1])}
    return {name: every[name] for name in input_names(encoder.layout(of))}


def assert_towers(folder: Path, student: DSSM, encoder: Encoder) -> None:
    for of in ("user", "item"):
        session = onnxruntime.InferenceSession(folder / f"{of}_tower.onnx", providers=["CPUExecutionProvider"])
        assert tuple(i.name for i in session.get_inputs()) == input_names(encoder.layout(of))
        assert [o.name for o in session.get_outputs()] == ["vector"]
        program = torch.export.load(folder / f"{of}_tower.pt2").module()
        for n in (0, 1, 2, 3, 300):
            x = random_side(encoder, of, n, n)
            given, expected = arguments(encoder, of, x), vectors_of(student, of, x)
            assert expected.shape == (n, 5) and (not n or expected.std() > 1e-3)
            served = session.run(None, {k: v.numpy() for k, v in given.items()})[0]
            np.testing.assert_allclose(served, expected, atol=1e-6, rtol=1e-6)
            with torch.no_grad():
                np.testing.assert_allclose(program(*given.values()).numpy(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
def test_towers_of_every_layout(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder, unit = LAYOUTS[name]
    student = a_student(encoder, unit=unit)
    towers = towers_of(Blocks(student), encoder, Shown(0.0))
    write_towers(tmp_path, towers)
    said = capfd.readouterr()
    assert not said.out and not said.err
    assert_towers(tmp_path, student, encoder)
    assert {n for t in towers.values() for n in t.table.rows} == set(encoder.embedding_rows())


def test_towers_are_the_student(written: dict[str, Path]) -> None:
    assert_towers(written["here"], a_student(FULL), FULL)


def test_onnx_is_whole_and_of_any_number_of_rows(written: dict[str, Path]) -> None:
    for side in ("user", "item"):
        model = onnx.load(written["here"] / f"{side}_tower.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
        for value in (*model.graph.input, *model.graph.output):
            first, *rest = value.type.tensor_type.shape.dim
            assert first.dim_param == "rows" and all(d.dim_value for d in rest)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch of its own names
def test_a_program_can_be_worked_on(written: dict[str, Path], tmp_path: Path) -> None:
    program = torch.export.load(written["here"] / "user_tower.pt2")
    assert [symbol_is_type(s, SymT.SIZE) for s in program.range_constraints] == [True], "as AOTInductor needs it"
    x = arguments(FULL, "user", random_side(FULL, "user", 3, 0))
    with pytest.raises(RuntimeError, match="equal"):
        program.module()(x["ids"], x["sequence_0"][:2], x["floats"])
    torch.export.save(program.run_decompositions(), tmp_path / "again.pt2")
    again = torch.export.load(tmp_path / "again.pt2").module()
    assert torch.equal(again(*x.values()), program.module()(*x.values()))


def test_another_torch_writes_its_programs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pt2_file, "TORCH", "2.12")
    monkeypatch.setattr(pt2_archive, "write", None)
    write_towers(tmp_path, towers_of(Blocks(a_student(FULL)), FULL, Shown(0.0)))
    assert_towers(tmp_path, a_student(FULL), FULL)
    assert b"stack_trace" not in members(tmp_path / "user_tower.pt2")["user_tower/models/model.json"]


def test_the_version_of_torch_is_one_that_was_looked_at() -> None:
    hint = (
        "read student/export/program.py (TorchDispatchMode, _should_skip_dynamo), pt2_archive.py (PyTorchFileWriter, "
        "torch/_export/serde/schema.py, torch/export/pt2_archive) beside this torch, then raise pt2_file.TORCH, SCHEMA"
    )
    assert torch.__version__.startswith(pt2_file.TORCH + "."), hint
    assert schema.SCHEMA_VERSION == pt2_archive.SCHEMA, hint


def test_a_layer_without_a_node_is_refused() -> None:
    x = (torch.zeros(2, 3),), (torch.zeros(3, 3),)
    program = record(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh()), ("floats",), *x)
    with pytest.raises(NotImplementedError, match=r"aten\.tanh"):
        onnx_file.write(Path("never"), program)


def test_what_depends_on_the_number_of_rows_is_no_program() -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / len(x) if len(x) > 2 else x

    with pytest.raises(NotImplementedError, match="number of rows"):
        record(Mean(), ("x",), (torch.ones(2, 1),), (torch.ones(3, 1),))


def test_the_served_head_is_exported(written: dict[str, Path], tmp_path: Path) -> None:
    plain, student = a_student(FULL), a_student(FULL, 1, auxiliary=True)
    student.load_state_dict(plain.state_dict(), strict=False)
    assert student.auxiliary is not None
    with torch.no_grad():
        soft = student.heads(random_side(FULL, "user", 2, 0), random_side(FULL, "item", 2, 0))[1][0]
    assert np.abs(soft.numpy() - vectors_of(student, "user", random_side(FULL, "user", 2, 0))).max() > 0.1
    write_towers(tmp_path, towers_of(Blocks(student), FULL, Shown(0.0)))
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (written["here"] / name).read_bytes(), "as if there were no other"
    facts = export.score_facts(Blocks(student), Shown(0.0))
    student.auxiliary.bias.data.fill_(3.0)
    assert export.score_facts(Blocks(student), Shown(0.0)) == facts == export.score_facts(Blocks(plain), Shown(0.0))


def test_the_same_student_gives_the_same_bytes(written: dict[str, Path]) -> None:
    for folder in written.values():
        assert sorted(f.name for f in folder.iterdir()) == FILES
    for name in FILES:
        here, elsewhere = ((f / name).read_bytes() for f in written.values())
        assert here == elsewhere, name


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {i.filename: archive.read(i) for i in archive.infolist()}


def test_towers_tell_nothing_of_where_they_were_made(written: dict[str, Path]) -> None:
    home = str(Path.home()).encode()
    telling = [b"/tmp", b"/work", b"site-packages", b"/home", b".py", b"dmtl", b"torch/nn", sys.prefix.encode()]
    telling += [str(Path.cwd()).encode(), str(written["here"]).encode()] + ([home + b"/"] if home != b"/" else [])
    for name in FILES:
        file = written["here"] / name
        contents = {name: file.read_bytes()} | (members(file) if name.endswith("pt2") else {})
        for member, content in contents.items():
            assert not [t for t in telling if t in content], (name, member)
    for name in FILES[::2]:
        model = onnx.load(written["here"] / name)
        nodes = [*model.graph.node, *(n for f in model.functions for n in f.node)]
        assert nodes and not any(n.doc_string or n.metadata_props for n in nodes)
        assert not model.doc_string and not model.metadata_props and not model.graph.metadata_props


def test_pt2_archives_have_no_times_and_no_pickle(written: dict[str, Path]) -> None:
    for name in FILES[1::2]:
        file = written["here"] / name
        with zipfile.ZipFile(file) as archive:
            assert {i.date_time for i in archive.infolist()} == {(1980, 0, 0, 0, 0, 0)}
        stem = file.stem
        for member, content in members(file).items():
            if "/weights/weight_" in member or "/constants/tensor_" in member:
                continue  # raw numbers, as the *_config.json say
            assert not content.startswith((b"\x80", b"PK")), member  # a pickle; a torch.save
            assert not member.endswith(".pkl")
        for kind in ("weights/model_weights", "constants/model_constants"):
            config = json.loads(members(file)[f"{stem}/data/{kind}_config.json"])["config"]
            assert config and not any(entry["use_pickle"] for entry in config.values())


def test_a_tower_holds_the_embeddings_of_its_side_only(written: dict[str, Path]) -> None:
    tower = Tower(a_student(FULL), "user", FULL.layout("user"))
    assert set(tower.table.rows) == {"user_id", "item_id"}  # the history's
    x = random_side(FULL, "user", 70, 0)
    with torch.no_grad():
        np.testing.assert_allclose(
            tower(*arguments(FULL, "user", x).values()).numpy(), vectors_of(a_student(FULL), "user", x)
        )


# -- serving -----------------------------------------------------------------------------------------------------------


USERS, ITEMS = raw_users(8).drop("device"), raw_items(9)
SEEN = pl.DataFrame({ID: [2, 4, 6], "seen_items": [[5, 7], [13], list(range(5, 14))]})


@pytest.fixture(scope="module")
def folder(written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published")
    for name in FILES:
        shutil.copy(written["here"] / name, out / name)
    student = a_student(FULL).eval()
    student.bias.data.fill_(-0.4)
    tower = Tower(student, "item", FULL.layout("item"))
    export.write_items(out, ITEMS[ID], vectors(tower, FULL.encode(ITEMS, "item")))
    export.write_users(out, USERS, SEEN)
    # served without the context that a teacher has
    encoder = encoder_of(*USER, *ITEM, *CONTEXT)
    facts = export.score_facts(Blocks(student), Shown(0.0))
    Encoder(FULL.features, encoder.vocabularies, FULL.numbers, FULL.id_kinds).write(out, facts)
    return out


@pytest.fixture(scope="module")
def served(folder: Path) -> Export:
    return Export(folder)


def logits() -> np.ndarray[Any, Any]:
    """[users, items] of the torch student."""
    student = a_student(FULL).eval()
    student.bias.data.fill_(-0.4)
    sides = []
    for frame, of in ((USERS, "user"), (ITEMS, "item")):
        sides.append(side_of(FULL.encode(frame, of), torch.device("cpu")))
    with torch.no_grad():
        u, v = student.user_vectors(sides[0]), student.item_vectors(sides[1])
        return (student.scale * u @ v.T + student.bias).numpy()


def test_served_vectors_are_the_students(served: Export) -> None:
    u, v = served.vectors(USERS, "user"), served.vectors(ITEMS, "item")
    np.testing.assert_allclose(served.score(u @ v.T), logits(), atol=1e-4)
    ids, stored = served.items
    assert ids.to_list() == ITEMS[ID].to_list() and stored.dtype == np.float32
    np.testing.assert_allclose(stored, v, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-6)


def test_a_feature_that_is_not_given_is_no_silent_unknown(served: Export) -> None:
    np.testing.assert_array_equal(served.vectors(served.user_features, "user"), served.vectors(USERS, "user"))
    with pytest.raises(UserError, match="no column history, taste among user_id, hist") as e:
        served.vectors(USERS.select("user_id").with_columns(hist=1), "user")
    assert e.value.code == Exit.DATA and "null" in e.value.hint


def test_users_are_served_with_their_raw_features(served: Export) -> None:
    names = ["feature.history", "feature.taste", "feature.user_id"]
    assert served.users.columns == ["user_id", "seen_items", *names]
    assert served.users["user_id"].to_list() == USERS[ID].to_list()
    assert served.users["seen_items"].to_list() == [None, [5, 7], [13], list(range(5, 14)), *[None] * 4]


@pytest.mark.parametrize("k", [1, 4, 9, 50])
@pytest.mark.parametrize("exclude", [False, True], ids=["all", "unseen"])
def test_recommend_is_brute_force(served: Export, k: int, exclude: bool) -> None:
    seen = dict(SEEN.iter_rows())
    for row, user in enumerate(USERS[ID]):
        scored = [(-s, i) for s, i in zip(logits()[row], ITEMS[ID], strict=True)]
        left = sorted(x for x in scored if not (exclude and x[1] in seen.get(user, [])))
        found = served.recommend(str(user), k, exclude_seen=exclude)
        assert found["item_id"].to_list() == [i for _, i in left[:k]]
        np.testing.assert_allclose(found["score"].to_numpy(), [-s for s, _ in left[:k]], atol=1e-4)
    assert served.recommend("2", k, exclude_seen=exclude).columns == ["item_id", "score"]


@pytest.mark.parametrize(
    ("user", "code"),
    [
        ("3", Exit.NO_INPUT),
        ("-1", Exit.NO_INPUT),
        (str(2**63), Exit.NO_INPUT),
        ("9" * 40, Exit.NO_INPUT),
        ("ann", Exit.USAGE),
        ("2.0", Exit.USAGE),
        ("", Exit.USAGE),
    ],
)
def test_users_that_are_not_there(served: Export, user: str, code: Exit) -> None:
    with pytest.raises(UserError) as e:
        served.recommend(user, 3)
    assert e.value.code == code and user in e.value.line()


def test_text_ids(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    text = pl.read_parquet(folder / "users.parquet").with_columns(user_id=pl.format("u{}", "user_id"))
    text.write_parquet(tmp_path / "users.parquet")
    described = json.loads((folder / "features.json").read_text())
    described["id_kinds"]["user"] = "string"
    (tmp_path / "features.json").write_text(json.dumps(described))
    served, known = Export(tmp_path), Export(folder)
    assert served.recommend("u4", 3).equals(known.recommend("4", 3))
    for user in ("4", "ann"):
        with pytest.raises(UserError) as e:
            served.recommend(user, 3)
        assert e.value.code == Exit.NO_INPUT and "u0" in e.value.hint


# -- names -------------------------------------------------------------------------------------------------------------


def names_of(user: tuple[str, str, str], item: tuple[str, str, str]) -> dict[str, Any]:
    """A config whose features of users and items are called so; a history shares the items' embedding."""
    config = copy.deepcopy(BASE)
    for one, name in zip(config["features"], (*user, *item), strict=True):
        one |= {"column": one["name"], "name": name, "embedding_name": f"of_{one['name']}"}
    config["features"][2]["embedding_name"] = "of_item_id"
    return config


PLAIN = ("id", "cluster", "history"), ("thing", "writer", "genre")
RESERVED = [  # names that a join adds, or that a published table has
    (("user_id", "clicks", "seen_items"), ("item_id", "vector", "user")),
    (("seen_items", "item_id", "count"), ("clicks", "id", "row")),
    (("feature", "vector", "user"), ("value", "clicks", "user_id")),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 3, start=dt.date(2026, 1, 1), users=60, items=40, events_per_day=800, seed=1)
    return out / "log"


def measured(home: Path, log: Path, names: tuple[tuple[str, str, str], tuple[str, str, str]]) -> dict[str, Any]:
    """What a chain of so named features is worth, and what it serves."""
    project = Project.create(home, log, config=names_of(*names))
    project.done("train-teacher", 1)
    project.done("dump-logits", 1)
    project.done("dump-logits", 2, "--teacher-day", DAYS[0])
    project.done("train-student", 2)
    metrics = project.done("evaluate", 3)["metrics"]
    user = events(log, DAYS[1])["user_id"][0]
    top = project.call("recommend", "--user", user, "--exclude-seen", "--json")
    assert top.code == 0
    return metrics | {"top": top.json["items"]}


@pytest.fixture(scope="module")
def expected(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measured(tmp_path_factory.mktemp("plain"), world, PLAIN)


@pytest.mark.parametrize("names", RESERVED)
def test_a_feature_may_have_any_name(
    names: tuple[tuple[str, str, str], tuple[str, str, str]], expected: dict[str, Any], world: Path, tmp_path: Path
) -> None:
    found = measured(tmp_path, world, names)
    assert found == expected
    assert found["popularity.ctr.auc"] > 0.5


@settings(max_examples=60, deadline=None)
@given(st.sets(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True) | st.sampled_from(TAKEN), max_size=5))
@example(set(TAKEN))
def test_users_are_read_as_they_were_written(names: set[str]) -> None:
    raw = pl.DataFrame({ID: [3, 1, 2]} | {name: [f"{name} {user}" for user in (3, 1, 2)] for name in names})
    with tempfile.TemporaryDirectory() as folder:
        export.write_users(Path(folder), raw, pl.DataFrame({ID: [2], "seen_items": [[8, 9]]}))
        served = Export.__new__(Export)
        served.users = read_users(Path(folder), pl.Int64(), pl.Int64(), sorted(names))
        assert served.users.columns == ["user_id", "seen_items", *sorted(f"feature.{name}" for name in names)]
        assert served.users["user_id"].to_list() == [1, 2, 3]
        assert served.users["seen_items"].to_list() == [None, [8, 9], None]
        assert served.clicks.to_dict(as_series=False) == {"item_id": [8, 9], "clicks": [1, 1]}
        assert served.user_features.equals(raw.sort(ID).select(sorted(names)))


# -- exact search ------------------------------------------------------------------------------------------------------


def stable(scores: np.ndarray[Any, Any], k: int) -> np.ndarray[Any, Any]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@settings(max_examples=150, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(0, 40)), elements=st.integers(0, 3).map(float)),
    st.integers(1, 50),
)
def test_best_k_is_a_stable_sort(scores: np.ndarray[Any, Any], k: int) -> None:
    found = best_k(scores, k)
    assert found.dtype == np.int64 and found.shape == (len(scores), min(k, scores.shape[1]))
    np.testing.assert_array_equal(found, stable(scores, k))


def test_best_k_of_many_ties_and_of_none() -> None:
    rng = np.random.default_rng(0)
    for scores in (np.zeros((3, 5_000)), rng.normal(size=(20, 5_000)), rng.integers(0, 2, (20, 5_000)).astype(float)):
        for k in (1, 10, 4_999, 5_000, 6_000):
            np.testing.assert_array_equal(best_k(scores, k), stable(scores, k))
    endless = np.array([[-np.inf, 1.0, -np.inf, np.inf, -np.inf]])
    np.testing.assert_array_equal(best_k(endless, 3), [[3, 1, 0]])


def test_top_k_is_best_k_of_dot_products() -> None:
    rng = np.random.default_rng(0)
    users, items = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (6, 30))  # exact sums with ties
    for k in (1, 7, 30, 99):
        rows, dots = top_k(users, items, k)
        np.testing.assert_array_equal(rows, stable(users @ items.T, k))
        np.testing.assert_array_equal(dots, np.take_along_axis(users @ items.T, rows, 1))


def test_an_argument_that_a_node_would_leave_out_is_refused() -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.add(x, x, alpha=2)

    program = record(Twice(), ("x",), (torch.ones(2, 3),), (torch.ones(3, 3),))
    with pytest.raises(NotImplementedError, match="alpha"):
        onnx_file.write(Path("never.onnx"), program)
