"""The frozen exports answer what tests/contract/frozen/cases.json says: asked by dmtl, and by clients that were written
from docs/export.md alone and import nothing of it."""

from __future__ import annotations

import ast
import io
import json
import math
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.log.values.hashing import blake2b64, splitmix64
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.raw import column

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FROZEN = HERE / "frozen"
CASES = json.loads((FROZEN / "cases.json").read_text())
WORLDS = ("shown", "plain", "coarse", "half")
TOLERANCE = 1e-6
BIG = 2**53 + 1

CLEAN = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = {"numpy", "pyarrow", "onnxruntime"} | sys.stdlib_module_names
        if top not in known and not top.startswith("_sysconfigdata"):  # of the standard library, named by platform
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


IN_PYTHON = [sys.executable, "-I", "-W", "error", "-c", CLEAN, str(HERE / "client.py")]
IN_JAVASCRIPT = ["node", str(HERE / "client.mjs")]


def cases_of(world: str) -> list[dict[str, Any]]:
    return [case for case in CASES if case["export"] == world]


def folder_of(world: str) -> Path:
    return FROZEN / world / (FROZEN / world / "LATEST").read_text().strip()


def requests(world: str) -> str:
    """Everything that a client is asked, without what is expected."""
    return "".join(json.dumps(case["request"]) + "\n" for case in cases_of(world))


def check(case: dict[str, Any], found: dict[str, Any]) -> None:
    """One answer of a client: ids exactly, floats and vectors within TOLERANCE, orders exactly."""
    expected = case["expected"]
    if "error" in expected or "error" in found:
        assert found == expected, case["why"]
        return
    inputs = {name: row for name, row in found.items() if name not in ("vector", "items")}
    assert inputs.keys() == expected["inputs"].keys()
    for name, row in expected["inputs"].items():
        if name == "floats":
            assert inputs[name] == pytest.approx(row, rel=TOLERANCE, abs=TOLERANCE), case["why"]
        else:
            assert inputs[name] == row, case["why"]
    assert found["vector"] == pytest.approx(expected["vector"], abs=TOLERANCE), case["why"]
    wanted = expected.get("items", [])
    assert [i["item_id"] for i in found["items"]] == [i["item_id"] for i in wanted], case["why"]
    assert [i["score"] for i in found["items"]] == pytest.approx([i["score"] for i in wanted], abs=1e-5)


def ask(command: list[str], world: str) -> None:
    call = [*command, str(FROZEN / world)]
    done = subprocess.run(call, input=requests(world), capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    for case, answer in zip(cases_of(world), done.stdout.splitlines(), strict=True):
        check(case, json.loads(answer))


@pytest.mark.parametrize("world", WORLDS)
def test_a_client_of_seventy_lines(world: str) -> None:
    ask(IN_PYTHON, world)


def test_the_client_is_as_small_as_is_said() -> None:
    text = (HERE / "client.py").read_text()
    tops = {a.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import) for a in n.names}
    tops |= {str(n.module) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)}
    assert tops == {"hashlib", "json", "sys", "pathlib", "numpy", "onnxruntime", "pyarrow.parquet"}
    body = text[text.index("def ") : text.index("if __name__")]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 74


NODE = pytest.mark.skipif(
    shutil.which("node") is None or not (HERE / "node_modules").is_dir(),
    reason="no node, or no packages: npm ci --ignore-scripts in tests/contract",
)
CLIENTS = [pytest.param(IN_PYTHON, id="python"), pytest.param(IN_JAVASCRIPT, id="javascript", marks=NODE)]


@NODE
@pytest.mark.parametrize("world", WORLDS)
def test_a_client_in_javascript(world: str) -> None:
    ask(IN_JAVASCRIPT, world)


@pytest.mark.parametrize("command", CLIENTS)
def test_a_client_refuses_another_format_and_files_of_two_runs(command: list[str], tmp_path: Path) -> None:
    read = ("vocabularies.parquet", "users.parquet", "item_vectors.parquet", "user_tower.onnx", "item_tower.onnx")
    for name in (None, "features.json", *read):
        copy = tmp_path / str(name)
        shutil.copytree(FROZEN / "plain", copy)
        folder = copy / (copy / "LATEST").read_text().strip()
        if name == "features.json":
            (folder / name).write_text((folder / name).read_text().replace('"format": 1', '"format": 2'))
        elif name:
            shutil.copy(folder_of("coarse") / name, folder / name)
        done = subprocess.run([*command, str(copy)], input="", capture_output=True, text=True, timeout=120)
        assert (done.returncode == 0) == (name is None), (name, done.stderr)


WITHIN = "lambda a, b: a - b if abs(dots[a] - dots[b]) < 1e-5 else int(np.sign(dots[b] - dots[a]))"
WRONG = {
    "edges in single": ("edge <= x", "np.float32(edge) <= np.float32(x)"),
    "ties within 1e-5": (
        'np.argsort(-dots, kind="stable")',
        f"sorted(range(len(dots)), key=__import__('functools').cmp_to_key({WITHIN}))",
    ),
    "no id of a user who is not there": ('{"feature.user_id": name}', "{}"),
    "no counts of a user who is not there": (" | new)", ")"),
    "no value of the moment": ('asked.get("raw", {})', '({} if name else asked["raw"])'),
    "kappa counts twice": ('asked["kappa"] / about["kappa"]', 'asked["kappa"]'),
    "kappa of the other block": ('["exposure"]', '["preference"]'),
    "2 ** 53 is exact": (">= 2**53", "> 2**53"),
    "integers as doubles": ("{c[8:]: v for", "{c[8:]: float(v) if type(v) is int else v for"),
    "a scale that is forgotten": ('np.float32(i.get("scale", 1))', "1"),
    "hashes of UTF-16": ("hashlib.blake2b(v.encode()", "hashlib.blake2b(v.encode('utf-16-le')"),
    "numbers end with int64": ("2**1024 - 2**970", "2**63"),
}
NEUTRAL = {
    "nothing": ("import json", "import json"),
    "a scale in double": ('* np.float32(i.get("scale", 1))', '* np.float64(i.get("scale", 1))'),
    "sums in single": ("(vectors * vector).sum(1).astype(np.float32)", "(vectors.astype(np.float32) * vector).sum(1)"),
    "sums that are not rounded": (".sum(1).astype(np.float32)", ".sum(1)"),
}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("mistake", WRONG | NEUTRAL)
def test_a_wrong_client_is_told(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And one that differs in what is not promised is not."""
    right, wrong = (WRONG | NEUTRAL)[mistake]
    text = (HERE / "client.py").read_text()
    assert text.count(right) == 1
    (tmp_path / "client.py").write_text(text.replace(right, wrong))
    main, told = runpy.run_path(str(tmp_path / "client.py"))["main"], []
    for world in WORLDS:
        monkeypatch.setattr(sys, "stdin", io.StringIO(requests(world)))
        main(FROZEN / world)
        for case, answer in zip(cases_of(world), capfd.readouterr().out.splitlines(), strict=True):
            try:
                check(case, json.loads(answer))
            except AssertionError:
                told.append(case["why"])
    assert bool(told) == (mistake in WRONG), told


@pytest.mark.parametrize("command", CLIENTS)
def test_a_bare_integer_of_2_to_the_53(command: list[str]) -> None:
    """Python reads it exactly. A reader that keeps doubles cannot tell it from its neighbour, and must refuse it."""
    lines = [json.dumps({"raw": {"account": of}}) for of in (BIG, str(BIG), BIG - 1, BIG - 2)]
    call = [*command, str(FROZEN / "half")]
    done = subprocess.run(call, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=120, check=True)
    bare, text, *below = map(json.loads, done.stdout.splitlines())
    assert "ids" in text and "ids" in below[1]
    if command is IN_JAVASCRIPT:
        assert bare == below[0] == {"error": True}
    else:
        assert bare == text != below[0]


def test_no_two_items_are_so_close_that_clients_may_differ() -> None:
    """But for items of one vector: so the order of a frozen list is that of any sum, and of any machine's tower."""
    lists = closest = 0
    for world in WORLDS:
        export = Export(folder_of(world))
        stored = export.items[1].astype(np.float64)
        for case in cases_of(world):
            vector = np.asarray(case["expected"].get("vector", []), np.float64)
            if case["expected"].get("items"):
                found = {item["item_id"] for item in case["expected"]["items"]}
                rows = np.unique(stored[export.items[0].cast(pl.String).is_in(found).to_numpy()], axis=0)
                gaps = np.diff(np.sort(rows @ vector)) / (np.linalg.norm(vector) * np.linalg.norm(rows, axis=1).max())
                assert gaps.min() > 4e-6, case["why"]
                lists, closest = lists + 1, closest + (gaps.min() * np.linalg.norm(vector) < 1e-5)
    assert lists > 50 and closest >= 4


@pytest.mark.parametrize("world", WORLDS)
def test_dmtl_answers_the_same(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Today's encoder reads the raw values of the frozen cases as it did."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    made = runpy.run_path(str(ROOT / "scripts" / "contract_vectors.py"))
    export = Export(folder_of(world))
    asked = [(why, made["tagged"](request)) for why, request in made["CASES"][world]]
    cases, users = cases_of(world), {*map(str, export.users["user_id"])}
    assert asked == [(case["why"], case["request"]) for case in cases], "python scripts/contract_vectors.py"
    for (_, request), case in zip(made["CASES"][world], cases, strict=True):
        found = made["answer"](export, request)
        check(case, found if "error" in found else {"items": [], **found.pop("inputs"), **found})
        if request.get("user") in users and not request.keys() & {"raw", "kappa"}:
            top = export.recommend(request["user"], request["k"], exclude_seen=request.get("exclude_seen", False))
            wanted = case["expected"]["items"]
            assert top["score"].to_list() == pytest.approx([i["score"] for i in wanted], abs=1e-5)
            clear = [
                k for k in range(len(wanted)) if sum(abs(i["score"] - wanted[k]["score"]) < 1e-5 for i in wanted) == 1
            ]
            assert [str(top["item_id"][k]) for k in clear] == [wanted[k]["item_id"] for k in clear] and len(clear) > 4


def test_the_cases_have_every_kind_and_ties() -> None:
    described = json.loads((folder_of("shown") / "features.json").read_text())
    features = {f["name"]: f for f in described["features"]}
    assert {f["kind"] for f in features.values()} == {"categorical", "sequence", "numeric", "vector"}
    asked = {name for case in cases_of("shown") for name in case["request"].get("raw", {})}
    assert asked == features.keys() | {"no_such"} and described["blocks"].keys() == {"exposure", "preference"}
    assert {f.get("hash") for f in features.values()} == {None, "splitmix64", "blake2b64"}
    assert "hash" not in features["silent"] and "edges" not in features["asleep"] and "mean" not in features["dormant"]
    tied = [i["score"] for case in CASES for i in case["expected"].get("items", [])]
    assert len(set(tied)) < len(tied)
    forgotten = pl.read_parquet(folder_of("plain") / "vocabularies.parquet").filter(
        pl.col("int_value").is_null() & pl.col("text_value").is_null()
    )
    assert forgotten["row"].len() == 1 and forgotten["row"][0] > 0
    waiting = pl.read_parquet(folder_of("shown") / "vocabularies.parquet").filter(pl.col("row") == 0)
    assert waiting["text_value"].to_list() == ["rare"]


CLIENT = runpy.run_path(str(HERE / "client.py"))
SHOWN = Export(folder_of("shown"))
DESCRIBED = {f["name"]: f for f in SHOWN.described["features"]}
TEXTS = st.one_of(
    st.text(st.characters(), max_size=6),
    st.text("+-0159. |,ab\u00e9\u0301", max_size=6),
    st.sampled_from(["item-07", "DE", "a|b||c", "\u00e9", "9223372036854775807", "9223372036854775808", "-0", "５"]),
)
INTS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 70))
BEYOND = st.integers(2**63, 2**64 - 1)
FLOATS = st.one_of(st.floats(), st.integers(-50, 70).map(float), st.sampled_from([-0.0, 2.0**53, 2.0**54, 18.0]))
ONE_TYPE = (TEXTS, INTS, FLOATS, st.booleans())
LISTS = st.one_of(*(st.lists(st.one_of(st.none(), of), max_size=6) for of in (*ONE_TYPE, st.one_of(*ONE_TYPE))))
NUMBERS = st.one_of(st.none(), st.floats(), st.integers(-(2**70), 2**70), st.booleans())
VECTORS = st.one_of(st.lists(NUMBERS, max_size=3), st.lists(NUMBERS, min_size=3, max_size=3))


def known(rows: Any) -> dict[str, tuple[bool, dict[Any, int]]]:
    """The vocabularies of an export, as the client reads them."""
    out: dict[str, tuple[bool, dict[Any, int]]] = {}
    for r in rows:
        for v in (r["int_value"], r["text_value"]):
            if v is not None:
                out.setdefault(r["embedding"], (isinstance(v, str), {}))[1][v] = r["row"]
    return out


VOCABULARIES = known(pl.read_parquet(folder_of("shown") / "vocabularies.parquet").to_dicts())


def values_of(name: str) -> st.SearchStrategy[Any]:
    kind = DESCRIBED[name]["kind"]
    most = {"sequence": LISTS, "vector": VECTORS}.get(kind, st.one_of(*ONE_TYPE, BEYOND))
    return st.one_of(st.none(), most, most, TEXTS if kind != "vector" else LISTS, LISTS)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(DESCRIBED)).flatmap(lambda name: st.tuples(st.just(name), values_of(name))))
def test_the_client_encodes_as_dmtl_does(case: tuple[str, Any]) -> None:
    name, value = case
    (feature,) = (f for f in SHOWN.encoder.features if f.name == name)
    try:
        (expected,) = kind_of(feature).encode(column(feature, [value]), SHOWN.encoder.learned)
    except UserError:
        expected = None
    try:
        inputs = CLIENT["encode"]([DESCRIBED[name]], VOCABULARIES, {name: value})
    except (KeyError, TypeError, ValueError):
        inputs = None
    assert (inputs is None) == (expected is None)
    if inputs is not None:
        (found,) = inputs.values()
        assert np.ravel(found).tolist() == pytest.approx(np.ravel(expected).tolist(), rel=TOLERANCE, abs=1e-30)


def test_hashes_of_the_document() -> None:
    said = re.findall(
        r"^\| `(splitmix64|blake2b64)` \| (.*?) \| (0x\w{16}) \|", (ROOT / "docs/export.md").read_text(), re.M
    )
    assert {name for name, *_ in said} == {"splitmix64", "blake2b64"} and len(said) >= 8
    for name, value, hexed in said:
        of = json.loads(value.strip("`"))
        found = blake2b64(of) if name == "blake2b64" else int(splitmix64(np.array([of]))[0])
        assert f"0x{found:016X}" == hexed


def test_the_key_of_a_tower_is_found_in_its_bytes() -> None:
    """Where a runtime does not show metadata_props: once in each, as docs/export.md has it."""
    for world in WORLDS:
        key = json.loads((folder_of(world) / "features.json").read_text())["key"].encode()
        for side in ("user", "item"):
            before, *after = (folder_of(world) / f"{side}_tower.onnx").read_bytes().split(b"\x0a\x08dmtl.key\x12\x40")
            assert before and [rest[:64] for rest in after] == [key]


def test_half_has_what_readers_stumble_over() -> None:
    folder = folder_of("half")
    assert pl.read_parquet_schema(folder / "item_vectors.parquet")["vector"] == pl.Array(pl.Float16, 8)
    users = pq.read_schema(folder / "users.parquet")
    kinds = {str(users.field(f"feature.{name}").type) for name in ("city", "account", "height", "points", "ratio")}
    assert kinds == {
        "dictionary<values=string, indices=uint32, ordered=0>",
        "int64",
        "decimal128(5, 2)",
        "int32",
        "float",
    }
    ids = pl.read_parquet(folder / "users.parquet")["user_id"].to_list()
    assert ids == sorted(ids) != sorted(ids, key=lambda text: text.encode("utf-16-be"))
    known = pl.read_parquet(folder / "vocabularies.parquet").filter(embedding="user_id")["text_value"]
    assert [*{*known} - {*ids}] == ["user-22"]


def test_vectors_of_int8_are_scaled() -> None:
    """Their frozen scores tell a client that forgets the scale, which differs by item."""
    stored = pl.read_parquet(folder_of("coarse") / "item_vectors.parquet")
    assert stored["vector"].dtype.inner == pl.Int8 and stored["scale"].n_unique() > 20
    assert "scale" not in pl.read_parquet(folder_of("plain") / "item_vectors.parquet").columns


def test_edges_are_never_none() -> None:
    """So a client need not ask what a bucket of no edges is: features.json has at least one, or not the key."""
    (feature,) = (f for f in SHOWN.encoder.features if f.name == "level")
    with pytest.raises(ValueError, match="expected edges in order"):
        kind_of(feature).check({"edges": []})
    measured = kind_of(feature).measure([pl.Series([7.0, 7.0])])
    assert measured == {"edges": [7.0]} and kind_of(feature).measure([pl.Series([None, math.nan])]) == {}


def test_a_separator_separates() -> None:
    with pytest.raises(ValidationError, match="separator"):
        Feature(name="tags", side="item", kind="sequence", separator="")


def test_a_client_reads_every_float_alike() -> None:
    """The cases hold floats that JSON cannot write as {"float": text}."""
    tagged = [v for case in CASES for v in case["request"].get("raw", {}).values() if isinstance(v, dict)]
    assert {v["float"] for v in tagged} == {"NaN", "Infinity", "-Infinity"}
    assert all(not math.isfinite(float(v["float"])) for v in tagged)
