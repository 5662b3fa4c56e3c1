"""What a run published and a later stage cannot make sense of, under a manifest that is valid: 65, never 70."""

from __future__ import annotations

import copy
import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from worlds import BASE, DAYS, Project

from dmtl_cli.runs.disk import sha256_of
from dmtl_cli.runs.manifest import MANIFEST, canonical, identity
from dmtl_cli.synth.generate import generate

COMMANDS = [  # what is published, in order; (command, day, arguments)
    ("run", 1, ()),
    ("train-joint", 1, ()),
    ("run", 2, ()),
]
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two days of a tiny log, published; read only."""
    home = tmp_path_factory.mktemp("chain")
    generate(home / "world", 3, start=dt.date(2026, 1, 1), users=12, items=15, events_per_day=60, seed=1)
    config = copy.deepcopy(BASE)
    config["evaluate"]["max_users"], config["teacher"]["epochs"] = 10, 1
    config["student"]["exposure"] = {"kappa": 1.0}
    config["features"] += [
        {"name": "age", "side": "item", "kind": "numeric", "profile": {"age": "first_seen"}},
        {"name": "ctr", "side": "item", "kind": "numeric", "profile": {"rate": "click", "of": "exposure"}},
    ]
    made = Project.create(home, home / "world/log", config=config)
    for command, day, arguments in COMMANDS:
        ended = made.stage(command, day, *arguments)
        assert ended.code == 0, ended.err
    return made


@pytest.fixture
def project(chain: Project, tmp_path: Path) -> Project:
    shutil.copytree(chain.ws, tmp_path / "ws")
    return Project.create(tmp_path, chain.home / "world/log", config=chain.config)


def forge(run: Path, damage: Callable[[Path], None]) -> None:
    """Damages a published run, then gives it the manifest and the pointers that its new content has."""
    damage(run)
    document = json.loads((run / MANIFEST).read_text())
    names = [entry["path"] for entry in document["files"] if (run / entry["path"]).exists()]
    sizes = {name: ((run / name).stat().st_size, sha256_of(run / name)) for name in names}
    document["files"] = [{"path": name, "bytes": n, "sha256": digest} for name, (n, digest) in sizes.items()]
    document["run_id"] = identity(document)
    (run / MANIFEST).write_text(canonical(document) + "\n")
    renamed = run.rename(run.parent / f"run-{document['run_id']}")
    (run.parent / "CURRENT").write_text(renamed.name + "\n")
    latest = run.parent.parent / "LATEST"
    if latest.exists() and run.parent.name in latest.read_text():
        latest.write_text(f"{run.parent.name}/{renamed.name}\n")


# -- damages ----------------------------------------------------------------------------------------------------------


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def garbage(file: Path) -> None:
    file.write_bytes(b"\x00\xffnot this" * 40)


def middle(file: Path) -> None:
    """A few bytes of its middle are others; text that was JSON is none any more."""
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 24] = b"\xa5" * 24
    file.write_bytes(whole)


def json_with(**fields: Any) -> Damage:
    """A JSON file with other values; None: without the key."""

    def change(file: Path) -> None:
        whole = json.loads(file.read_text()) | fields
        file.write_text(json.dumps({k: v for k, v in whole.items() if v is not None}))

    return change


def json_is(text: str) -> Damage:
    return lambda file: (file.write_text(text), None)[1]


def table_with(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Damage:
    def rewrite(file: Path) -> None:
        whole = pl.from_arrow(pq.read_table(file))
        assert isinstance(whole, pl.DataFrame)
        pq.write_table(change(whole).to_arrow(compat_level=pl.CompatLevel.oldest()), file)

    return rewrite


def no_rows(file: Path) -> None:
    pq.write_table(pq.read_table(file).slice(0, 0), file)


def other_schema(file: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2, 3]}), file)


def first_as_text(file: Path) -> None:
    table_with(lambda t: t.with_columns(pl.lit("x").alias(t.columns[0])))(file)


def first_null(file: Path) -> None:
    table_with(lambda t: t.with_columns(pl.lit(None, t.dtypes[0]).alias(t.columns[0])))(file)


def twice(file: Path) -> None:
    table_with(lambda t: pl.concat([t, t]))(file)


def tensors_with(change: Callable[[np.ndarray[Any, Any]], Any], name: str = "") -> Damage:
    """Safetensors of which the one named (default each of floats) is another."""

    def rewrite(file: Path) -> None:
        save_file(
            {
                n: np.ascontiguousarray(change(x)) if (n == name if name else x.dtype.kind == "f") else x
                for n, x in load_file(file).items()
            },
            file,
        )

    return rewrite


def no_tensors(file: Path) -> None:
    save_file({}, file)


def vectors_nan(file: Path) -> None:
    nan = pl.Series("vector", [[float("nan")] * 8]).cast(pl.Array(pl.Float32, 8))
    table_with(lambda t: t.with_columns(pl.lit(nan).first().alias("vector")))(file)


def other_tower(file: Path) -> None:
    side = {"user": "item", "item": "user"}[file.name.split("_")[0]]
    shutil.copy(file.with_name(f"{side}_tower.onnx"), file)


def facts_with(**fields: Any) -> Damage:
    def change(file: Path) -> None:
        whole = json.loads(file.read_text())
        facts = whole["facts"] | fields
        whole["facts"] = {k: v for k, v in facts.items() if v is not None} if fields else {}
        file.write_text(json.dumps(whole))

    return change


def no_config(file: Path) -> None:
    json_with(config={})(file)


def features_with(**fields: Any) -> Damage:
    """The entry of `ctr` in features.json with other values; None: without the key."""

    def change(file: Path) -> None:
        whole = json.loads(file.read_text())
        (mine,) = (f for f in whole["features"] if f["name"] == "ctr")
        mine.update(fields)
        for name in [name for name, value in mine.items() if value is None]:
            del mine[name]
        file.write_text(json.dumps(whole))

    return change


FILES: dict[str, list[Damage]] = {
    "json": [truncated, empty, garbage, middle, json_is("[]"), json_is("3"), json_is("{}"), json_with(format=99)],
    "parquet": [truncated, empty, garbage, other_schema, no_rows, first_as_text, first_null, twice],
    "safetensors": [
        truncated,
        empty,
        garbage,
        no_tensors,
        tensors_with(lambda x: x * np.nan),
        tensors_with(lambda x: x.reshape(-1)[:1]),
    ],
    "onnx": [truncated, empty, garbage, other_tower],
}
FEATURES: list[Damage] = [
    json_with(features=None),
    json_with(features="x"),
    json_with(features=[{"name": "a"}]),
    json_with(features=[]),
    json_with(id_kinds=None),
    json_with(id_kinds={"user": "int64", "item": "float"}),
    json_with(embedding_rows=None),
    json_with(embedding_rows={}),
    features_with(kind="colour"),
    features_with(mean="x"),
    features_with(mean=float("nan")),
    features_with(std=0),
    features_with(std=None),
]
PROFILE: list[Damage] = [
    json_with(day="x"),
    json_with(ids=None),
    json_with(ids={"user": "int64"}),
    json_with(priors=None),
    json_with(priors=[{"rate": []}]),
    json_with(threshold_seconds="x"),
]
EXPORTED: list[Damage] = [json_with(scale=None), json_with(bias="x"), json_with(blocks={"exposure": 3})]
# stage, day, file, damages beside those of its format, the command that reads it and its day
READ: list[tuple[str, int, str, list[Damage], str, int]] = [
    ("profile", 1, "profile.json", PROFILE, "build-profile", 2),
    ("profile", 1, "users.parquet", [], "build-profile", 2),
    ("profile", 2, "items.parquet", [], "train-teacher", 3),
    ("teacher", 2, "features.json", FEATURES, "train-teacher", 3),
    ("teacher", 2, "vocabularies.parquet", [], "train-teacher", 3),
    ("teacher", 2, "vocabularies.parquet", [], "dump-logits", 2),
    ("teacher", 2, "model.safetensors", [], "dump-logits", 2),
    ("teacher", 2, "optimizer.safetensors", [], "train-teacher", 3),
    ("teacher", 2, "regression/weights.safetensors", [], "dump-logits", 2),
    ("scores", 1, "part-00000.parquet", [], "train-student", 2),
    ("student", 2, "features.json", FEATURES, "export", 2),
    ("student", 2, "vocabularies.parquet", [], "export", 2),
    ("student", 2, "model.safetensors", [], "export", 2),
    ("student", 2, "exposure/model.safetensors", [], "export", 2),
    ("export", 2, "features.json", [*FEATURES, *EXPORTED], "recommend", 0),
    ("export", 2, "vocabularies.parquet", [], "recommend", 0),
    ("export", 2, "item_vectors.parquet", [vectors_nan], "recommend", 0),
    ("export", 2, "users.parquet", [], "recommend", 0),
    ("export", 2, "user_tower.onnx", [], "recommend", 0),
    ("export", 2, "item_vectors.parquet", [], "evaluate", 3),
    ("export", 2, "item_tower.onnx", [], "evaluate", 3),
    ("joint", 1, "student/model.safetensors", [], "train-joint", 2),
    ("joint", 1, "teacher/features.json", [], "train-joint", 2),
]
CALIBRATION = {"ctr": {"slope": "x"}, "cvr": 3}
FACTS: list[tuple[str, int, list[Damage], str, int]] = [
    ("profile", 1, [facts_with(), facts_with(window=["x", "y"]), facts_with(window=3)], "build-profile", 2),
    (
        "teacher",
        2,
        [
            facts_with(),
            facts_with(tasks="ctr"),
            facts_with(days=["x"]),
            facts_with(calibration=CALIBRATION),
            facts_with(calibration={}),
            facts_with(blend={"ctr": {}}),
            facts_with(no_context=3),
            facts_with(sampling={}),
            facts_with(threshold_seconds="x"),
            no_config,
        ],
        "dump-logits",
        2,
    ),
    ("teacher", 2, [facts_with(), no_config], "train-teacher", 3),
    ("scores", 1, [facts_with(), facts_with(fusion=None), facts_with(teacher={}), facts_with(calibration={})],
     "train-student", 2),
    ("student", 2, [facts_with(), facts_with(predicts=3), no_config], "export", 2),
    (
        "export",
        2,
        [
            facts_with(),
            facts_with(teacher="x"),
            facts_with(kappa_curve=[1]),
            facts_with(fitted={"features": ["age"], "mean": [1.0], "precision": [[1.0]], "reads": 3}),
        ],
        "evaluate",
        3,
    ),
    ("joint", 1, [facts_with(), no_config], "train-joint", 2),
]  # fmt: skip
CASES = [
    *[
        pytest.param(stage, day, file, damage, command, on, id=f"{stage}-{file}-{k}-{command}")
        for stage, day, file, more, command, on in READ
        for k, damage in enumerate([*FILES[file.rpartition(".")[2]], *more])
        # others of scores are what their gates judge; a profile may have no users, as when all were forgotten
        if stage != "scores" or damage in (truncated, empty, garbage, other_schema)
        if stage != "profile" or damage is not no_rows
    ],
    *[
        pytest.param(stage, day, MANIFEST, damage, command, on, id=f"{stage}-facts-{k}-{command}")
        for stage, day, damages, command, on in FACTS
        for k, damage in enumerate(damages)
    ],
]


def the_run(project: Project, stage: str, day: int) -> Path:
    """A day's run; of scores, that of the day's own teacher."""
    folder = project.ws / stage / f"day={DAYS[day - 1]}"
    if stage == "scores":
        folder /= f"teacher={DAYS[day - 1]}"
    return folder / (folder / "CURRENT").read_text().strip()


@pytest.mark.parametrize(("stage", "day", "file", "damage", "command", "on"), CASES)
def test_content_that_makes_no_sense_is_data(
    chain: Project, project: Project, stage: str, day: int, file: str, damage: Damage, command: str, on: int
) -> None:
    forge(the_run(project, stage, day), lambda run: damage(run / file))
    if command == "recommend":
        users = pl.read_parquet(the_run(chain, "export", day) / "users.parquet")
        ended = project.call("recommend", "--user", users["user_id"][0])
    else:
        # what was published with the whole parent must not be found up to date
        shutil.rmtree(project.ws / {"dump-logits": "scores", "export": "export"}.get(command, "none"), True)
        sub = () if stage != "scores" else ("--scores-day", DAYS[0])
        ended = project.stage(command, on, *sub)
    assert ended.code == 65, (ended.code, ended.err)
    folder = project.ws / stage
    assert str(folder) in ended.err, ended.err
