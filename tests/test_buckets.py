"""Hash buckets through the command line: days of one small table, served from its export by plain arithmetic."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
from safetensors.numpy import load_file
from test_encode import plain_row
from worlds import BASE, DAYS, Project

from dmtl_cli.data.log.values.hashing import GAMMA, blake2b64, splitmix64
from dmtl_cli.serving.export import Export

USERS, ITEMS, SIZE, LENGTH = 60, 40, 500, 5
FIRST_USER = 2**60
OLD = "alt-ä"  # an item of the first day alone


def item_id(k: int) -> str:
    return f"item/{k:03d}"


def row_of(value: str | int) -> int:
    return plain_row(value, SIZE)


def events(day: str, rng: np.random.Generator) -> pl.DataFrame:
    """Even users like even items. Nothing is known of users and items but their ids and
    the histories of users."""
    user = np.repeat(np.arange(USERS), 24)
    item = rng.integers(0, ITEMS, len(user))
    click = rng.random(len(user)) < np.where(user % 2 == item % 2, 0.9, 0.1)
    liked = [[item_id(2 * k + u % 2) for k in rng.integers(0, ITEMS // 2, LENGTH)] for u in range(USERS)]
    table = pl.DataFrame(
        {
            "user_id": FIRST_USER + user,
            "item_id": [item_id(k) for k in item],
            "history": [liked[u] for u in user],
            "hour": [f"{k % 24:02d}" for k in range(len(user))],
            "request_id": user,
            "time": np.arange(len(user)),
            "click": click,
            "read_seconds": np.where(click, rng.exponential(60, len(user)), 0),
        }
    )
    if day == DAYS[0]:
        old = pl.col("time") % 24 == 7
        table = table.with_columns(item_id=pl.when(old).then(pl.lit(OLD)).otherwise("item_id"))
    if day == DAYS[3]:  # the same items, numbered
        number = pl.col("item_id").str.slice(5).cast(pl.Int64)
        table = table.with_columns(
            item_id=number, history=pl.col("history").list.eval(pl.element().str.slice(5).cast(int))
        )
    return table


def a_config() -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    del config["data"]["users"], config["data"]["items"]
    hashed = {"hash_bucket_size": SIZE}
    config["features"] = [
        {"name": "user_id", "side": "user", "kind": "categorical", **hashed},
        {
            "name": "history",
            "side": "user",
            "kind": "sequence",
            "embedding_name": "item_id",
            "max_length": LENGTH,
            **hashed,
        },
        {"name": "item_id", "side": "item", "kind": "categorical", **hashed},
        {"name": "hour", "side": "context", "kind": "categorical", "hash_bucket_size": 30},
    ]
    config["teacher"] |= {"batch_size": 64, "epochs": 4, "learning_rate": 0.01, "crosses": [CROSS]}
    config["student"] |= {"batch_size": 128, "epochs": 4}
    config["scores"] = {"negatives": 1, "candidates": 6}
    return config


CROSS = {"user": "history", "item": "item_id"}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[tuple[str, str], dict[str, Any]]]:
    """Days 1 to 3 published, by (stage, day). Read only."""
    home = tmp_path_factory.mktemp("buckets")
    rng = np.random.default_rng(0)
    for day in DAYS:
        folder = home / "log" / "events" / f"day={day}"
        folder.mkdir(parents=True)
        events(day, rng).write_parquet(folder / "part-0.parquet")
    project = Project.create(home, home / "log", config=a_config())
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[2], "--json")
    assert (ended.code, ended.err) == (0, "")
    return project, {(r["stage"], r["day"]): r for r in ended.every}


def test_hashes_are_the_published_ones() -> None:
    """SplitMix64's first draws of the seeds 0 and 1234567, as its other implementations give them; RFC 7693's hash as
    `b2sum -l 64` does."""
    with np.errstate(over="raise"):
        states = [[(seed + k * GAMMA) % 2**64 for k in range(4)] for seed in (0, 1234567)]
        drawn = [[int(v) for v in splitmix64(np.array(s, np.uint64))] for s in states]
        signed = splitmix64(np.array([1, -1, 42, -(2**63), 2**63 - 1]))
    assert drawn[0] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert drawn[1] == [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [f"{v:016x}" for v in signed.tolist()] == [
        *("910a2dec89025cc1", "e4d971771b652c20", "bdd732262feb6e95", "481ec0a212a9f3db", "2a67d7552e039ea7"),
    ]
    assert [f"{blake2b64(v):016x}" for v in ("", "5", "日本語", "e\u0301", "\u00e9")] == [
        *("e4a6a0577479b2b4", "8b54089fee8d99a0", "f419edd5d4267b48", "3a4748957b95906d", "cb1abf8beff3192f"),
    ]


def test_hashed_ids_are_learned(chain: tuple[Project, dict[tuple[str, str], dict[str, Any]]]) -> None:
    """0.9 against 0.1: a model that has learned the tastes has an AUC of 0.90."""
    _, made = chain
    measured = made["evaluation", DAYS[2]]["metrics"]
    assert measured["teacher.ctr.auc"] > 0.85 and measured["student.ctcvr.auc"] > 0.75
    assert made["student", DAYS[2]]["metrics"]["coverage.rescore"] == 1


def test_a_table_keeps_its_rows_from_day_to_day(chain: tuple[Project, dict[tuple[str, str], dict[str, Any]]]) -> None:
    _, made = chain
    for stage, days in (("teacher", DAYS[:3]), ("student", DAYS[1:3])):
        folders = [Path(made[stage, d]["path"]) for d in days]
        tables = [load_file(f / "model.safetensors") for f in folders]
        for name, of_name in (("embedding.item_id", [*map(item_id, range(ITEMS)), OLD]),
                              ("embedding.user_id", [FIRST_USER + k for k in range(USERS)])):  # fmt: skip
            touched = sorted({row_of(v) for v in of_name})
            for table in tables:
                weights = table[name]
                assert len(weights) == SIZE + 1
                same = (weights == weights[0]).all(1)
                assert same[0] and same[[r for r in range(SIZE + 1) if r not in touched]].all(), "nothing untrained"
                unlearned = USERS // 5 if (stage, name) == ("teacher", "embedding.user_id") else stage == "student"
                assert same[touched].sum() <= unlearned, "but for users held out, and a student's OLD, of day 1"
        assert all(pl.read_parquet(f / "vocabularies.parquet").is_empty() for f in folders)
    first, second = (load_file(Path(made["teacher", d]["path"]) / "model.safetensors") for d in DAYS[:2])
    old, others = row_of(OLD), [row_of(item_id(k)) for k in range(ITEMS)]
    assert old not in others
    name = "embedding.item_id"
    assert np.array_equal(first[name][old], second[name][old]), "the second day has none of it"
    assert (first[name][others] != second[name][others]).any(1).all()


def test_an_export_is_served_by_arithmetic(chain: tuple[Project, dict[tuple[str, str], dict[str, Any]]]) -> None:
    """What docs/contract.md says, without the package: features.json, the hashes and onnxruntime."""
    project, made = chain
    folder = Path(made["export", DAYS[2]]["path"])
    described = {f["name"]: f for f in json.loads((folder / "features.json").read_text())["features"]}
    assert {n: (f["hash"], f["hash_bucket_size"]) for n, f in described.items()} == {
        "user_id": ("splitmix64", SIZE),
        "history": ("blake2b64", SIZE),
        "item_id": ("blake2b64", SIZE),
    }
    towers = [onnxruntime.InferenceSession(folder / f"{s}_tower.onnx") for s in ("item", "user")]
    stored = pl.read_parquet(folder / "item_vectors.parquet")
    ids = np.array([[row_of(v)] for v in stored["item_id"]])
    assert len(ids) == ITEMS
    np.testing.assert_allclose(towers[0].run(None, {"ids": ids})[0], stored["vector"].to_numpy(), atol=1e-5)
    history = [item_id(1), "never heard of", item_id(3)]
    inputs = {"ids": np.array([[row_of(FIRST_USER)]]), "sequence_0": np.array([[*(row_of(v) for v in history), 0, 0]])}
    raw = pl.DataFrame({"user_id": [FIRST_USER], "history": [[None, *history]]})
    np.testing.assert_allclose(Export(folder).vectors(raw, "user"), towers[1].run(None, inputs)[0], atol=1e-5)
    for k in range(4):
        top = project.call("recommend", "--user", FIRST_USER + k, "-k", 10, "--json").json["items"]
        assert sum(int(i["item_id"][5:]) % 2 == k % 2 for i in top) >= 9


def test_what_a_chain_cannot_take(chain: tuple[Project, dict[tuple[str, str], dict[str, Any]]]) -> None:
    project, made = chain
    before = project.published()
    other = project.stage("train-teacher", 4, features__0__hash_bucket_size=SIZE + 1)
    assert other.code == 65 and "the model's features are not the config's: user_id differs in the config" in other.err
    assert made["teacher", DAYS[2]]["path"] in other.err
    numbered = project.stage("train-teacher", 4)
    assert numbered.code == 65 and f"day {DAYS[3]}: values of item_id are Int64, before String" in numbered.err
    assert project.published() == before


def test_check_tells_of_buckets(chain: tuple[Project, dict[tuple[str, str], dict[str, Any]]]) -> None:
    found = chain[0].call("check", "--day", DAYS[0], "--json").json["features"]
    assert {f["name"]: (f["embedding_rows"], f["unknown_share"]) for f in found} == {
        "user_id": (SIZE + 1, 0),
        "history": (SIZE + 1, 0),
        "item_id": (SIZE + 1, 0),
        "hour": (31, 0),
    }
    items = pl.read_parquet(chain[0].home / "log" / "events" / f"day={DAYS[0]}" / "*.parquet")["item_id"].unique()
    few = {"features__1__hash_bucket_size": 7, "features__2__hash_bucket_size": 7}
    (item,) = (
        f
        for f in chain[0].call("check", "--day", DAYS[0], "--json", **few).json["features"]
        if "values" in f and f["side"] == "item"
    )
    assert (item["values"], item["buckets"]) == (len(items), len({plain_row(v, 7) for v in items}))
    said = chain[0].call("check", "--day", DAYS[0], **few).out
    assert f"item_id: {len(items)} values of the day fall into {item['buckets']} buckets" in said
