"""Crosses of a user's and an item's feature: what they count, and what a teacher learns from them."""

from __future__ import annotations

import copy
import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from test_models import (
    CPU,
    EACH,
    USER,
    a_day,
    a_teacher,
    encoder_of,
    feature,
    gradients,
    plain_teacher,
    rows_of,
)
from worlds import BASE, DAYS, Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.rows import pairs
from dmtl_cli.nn.batches import side_of
from dmtl_cli.nn.layers import Side
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.teacher import frozen as scoring
from dmtl_cli.teacher.frozen import FrozenTeacher, Scorer

FEATURES = (
    *USER,  # user_id, history (of item_id, the last 4), taste
    feature("device", "user", "categorical", level="event"),  # a column between the ids and the sequences
    feature("home", "user", "categorical", embedding_name="topic"),
    feature("likes", "user", "sequence", embedding_name="topic", max_length=5),
    feature("item_id", "item", "categorical"),
    feature("topic", "item", "categorical"),
    feature("price", "item", "numeric", boundaries=(0.0,)),
    feature("genres", "item", "sequence", max_length=2),
    feature("tags", "item", "sequence", embedding_name="topic", max_length=3),
)
CROSSES = (("history", "item_id"), ("home", "topic"), ("likes", "topic"), ("home", "tags"), ("likes", "tags"))
CONFIGURED = tuple({"user": user, "item": item} for user, item in CROSSES)
ENCODER = encoder_of(*FEATURES)  # which knows the values 0 .. 9
USERS: list[dict[str, Any]] = [
    {"history": [1, 2, 3, 3, 3], "home": 0, "likes": [0, 1, 2]},  # 1 is the fifth last
    {"history": [12, 5, 12], "home": 12, "likes": [12, 7, 7]},  # 12 is unknown, and equals no 12
    {"history": [], "home": None, "likes": None},
    {"history": [4], "home": 9, "likes": [9, 8, 9, 8, 9]},
]
ITEMS: list[dict[str, Any]] = [
    {"item_id": 1, "topic": 0, "tags": [0, 0]},
    {"item_id": 3, "topic": 7, "tags": [7, 12, 7]},
    {"item_id": 12, "topic": 12, "tags": [12]},
    {"item_id": 5, "topic": None, "tags": [None, 2, 1]},
    {"item_id": 4, "topic": 9, "tags": []},
    {"item_id": 6, "topic": 8, "tags": [9, 8]},
]
KEPT = {"history": 4, "likes": 5, "tags": 3}


def the_day() -> Day:
    user = {"user_id": range(4), "taste": [[0.1, 0.2, k] for k in range(4)], "device": range(4)}
    item = {"price": [-1.0, 1.0] * 3, "genres": [[1], [2, 3], [], [4], [5], [1, 2]]}
    tables = [
        pl.DataFrame({ID: range(len(rows)), **more, **{n: [r[n] for r in rows] for n in rows[0]}}, strict=False)
        for rows, more in ((USERS, user), (ITEMS, item))
    ]
    return a_day(*tables)


def counted(user: dict[str, Any], item: dict[str, Any]) -> list[float]:
    """ln(1 + n) of each cross, value by value."""
    out = []
    for names in CROSSES:
        a, b = (x[n] if isinstance(x[n], list) else [x[n]] for n, x in zip(names, (user, item), strict=True))
        a, b = (v[-KEPT.get(n, 1) :] for n, v in zip(names, (a, b), strict=True))
        out.append(np.log1p(sum(x == y and x in range(10) for x in a for y in b)))
    return out


EXPECTED = np.array([[counted(u, i) for i in ITEMS] for u in USERS])  # [U, I, X]


# -- counts -----------------------------------------------------------------------------------------------------------


def test_the_plain_counts_are_as_meant() -> None:
    n = np.expm1(EXPECTED).round().astype(int).tolist()
    assert n[0] == [[0, 1, 1, 2, 2], [3, 0, 0, 0, 0], [0] * 5, [0, 0, 0, 0, 2], [0] * 5, [0] * 5]
    assert n[1] == [[0] * 5, [0, 0, 2, 0, 4], [0] * 5, [1, 0, 0, 0, 0], [0] * 5, [0] * 5]
    assert n[2] == [[0] * 5] * 6
    assert n[3][4:] == [[1, 1, 3, 0, 0], [0, 0, 2, 1, 5]]


def test_equal_known_values_are_counted() -> None:
    """Duplicates by pairs; nulls, unknown values and padding never; values that max_length cuts off neither."""
    model, day = a_teacher(ENCODER, crosses=CONFIGURED), the_day()
    users = model.user_side(side_of(ENCODER.encode(day.users, "user"), CPU))
    items = model.item_side(side_of(ENCODER.encode(day.items, "item"), CPU))
    row = torch.arange(24)
    found = model.crosses(users.crossed[row // 6], items.crossed[row % 6])
    np.testing.assert_allclose(found.view(4, 6, 5), EXPECTED, atol=1e-6)
    for k in range(4):  # one user with every item
        np.testing.assert_allclose(model.crosses(users.crossed[[k]], items.crossed), EXPECTED[k], atol=1e-6)


def test_where_a_feature_stands() -> None:
    for of in ("user", "item"):
        names = [f.name for f in FEATURES if f.side == of and f.embedding]
        encoded = ENCODER.encode(the_day().users if of == "user" else the_day().items, of)
        whole = np.concatenate([encoded.ids, *encoded.sequences], 1)
        assert sorted(c for n in names for c in ENCODER.columns(n)) == list(range(whole.shape[1]))
    assert [list(ENCODER.columns(n)) for n in ("home", "device", "history", "likes", "tags")] == [
        *([1], [2], [3, 4, 5, 6], [7, 8, 9, 10, 11], [5, 6, 7]),
    ]


# -- in the network ---------------------------------------------------------------------------------------------------


@EACH
def test_a_teacher_with_crosses_is_its_plain_form(more: dict[str, Any]) -> None:
    model, day = a_teacher(ENCODER, crosses=CONFIGURED, **more).double(), the_day()
    ids = ENCODER.encode(day.users, "user"), ENCODER.encode(day.items, "item")
    user, item = (x._replace(floats=x.floats.double()) for x in (side_of(e, CPU) for e in ids))
    index = torch.arange(24) // 6, torch.arange(24) % 6
    context = Side(torch.zeros(24, 0).long(), (), torch.zeros(24, 0).double(), ())
    logits, gates = model(user, item, context, *index)
    crossed = torch.from_numpy(EXPECTED).view(24, 5)
    plain = plain_teacher(model, ENCODER, rows_of(user, index[0]), rows_of(item, index[1]), context, crossed)
    for found, expected in zip((logits, gates), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    a, b = (gradients(model, x.square().sum())["net.first.weights.3"] for x in (logits, plain[0]))
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)
    assert (a.abs().amax(0) > 0).all(), "every cross learns"


@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["items in each batch", "items once"])
def test_all_ways_to_score_a_pair_agree(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, day = a_teacher(ENCODER, crosses=CONFIGURED).eval(), the_day()
    scorer = Scorer(ENCODER, model, day, CPU, kept_bytes=kept)
    monkeypatch.setattr(scoring, "_ITEMS", 4)
    users = np.array([3, 0, 1, 2])
    rows = pairs(np.repeat(users, 6), np.tile(np.arange(6), 4))
    whole = np.concatenate(list(scorer.catalogue(users)))
    logged = pairs(rows.user, rows.item, day.users.select("device")[rows.user])
    for size in (5, 64):
        np.testing.assert_allclose(scorer.pairs(logged, size), whole, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(scorer.lists(rows, size), whole, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        model.net.first.weights[3].zero_()
    moved = np.abs(scorer.lists(rows) - whole).max(1).reshape(4, 6)
    assert ((moved > 1e-4) == EXPECTED[users].any(2)).all(), "where something is equal, and there alone"


@EACH
def test_without_crosses_nothing_is_added(more: dict[str, Any]) -> None:
    with_none, crossed = a_teacher(ENCODER, **more).eval(), a_teacher(ENCODER, crosses=CONFIGURED, **more).eval()
    names = with_none.state_dict().keys()
    assert crossed.state_dict().keys() - names == {"net.first.weights.3"} and names <= crossed.state_dict().keys()
    assert crossed.net.first.weights[3].shape == (len(with_none.net.first.bias), 5)
    crossed.load_state_dict({**with_none.state_dict(), "net.first.weights.3": crossed.net.first.weights[3] * 0})
    rows = pairs(np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4))
    one, two = (Scorer(ENCODER, m, the_day(), CPU).lists(rows) for m in (with_none, crossed))
    assert np.array_equal(one, two) and one.std() > 1e-3


# -- through the command line: users click what is on their lists, and lists are new every day -------------------------

TOPICS, LIKED = 300, 8


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for day in DAYS[:3]:
        likes = np.argsort(rng.random((150, TOPICS)), 1)[:, :LIKED]
        topic = rng.permutation(TOPICS)  # of item k
        user = np.repeat(np.arange(150), 12)
        liked = np.argsort(topic)[likes[user, rng.integers(0, LIKED, len(user))]]
        item = np.where(rng.random(len(user)) < 0.4, liked, rng.integers(0, TOPICS, len(user)))
        matches = (likes[user] == topic[item][:, None]).any(1)
        click = rng.random(len(user)) < np.where(matches, 0.9, 0.1)
        events = {"user_id": user, "item_id": item, "request_id": user, "time": np.arange(len(user)), "click": click}
        events["read_seconds"] = np.where(click, rng.exponential(60, len(user)), 0)
        for name, table in (
            ("events", events),
            ("users", {"user_id": np.arange(150), "likes": likes.tolist(), "home": topic[:150]}),
            ("items", {"item_id": np.arange(TOPICS), "topic": topic}),
        ):
            folder = log / name / f"day={day}"
            folder.mkdir(parents=True)
            pl.DataFrame(table).write_parquet(folder / "part-0.parquet")
    return log


def a_config(*crosses: tuple[str, str]) -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    config["features"] = [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "likes", "side": "user", "kind": "sequence", "embedding_name": "topic", "max_length": LIKED},
        {"name": "home", "side": "user", "kind": "categorical", "embedding_name": "topic"},
        {"name": "item_id", "side": "item", "kind": "categorical"},
        {"name": "topic", "side": "item", "kind": "categorical"},
    ]
    config["teacher"] |= {"batch_size": 64, "epochs": 3, "learning_rate": 0.01}
    config["scores"] = {"negatives": 1, "candidates": 6}
    if crosses:
        config["teacher"]["crosses"] = [{"user": u, "item": i} for u, i in crosses]
    return config


@pytest.fixture(scope="module")
def measured(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Project, dict[str, Any]]]:
    """Without and with a cross: two days learned, the third measured. Read only."""
    made = {}
    for name, crosses in (("without", ()), ("with", (("likes", "topic"),))):
        project = Project.create(tmp_path_factory.mktemp(name), world, config=a_config(*crosses))
        ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
        assert ended.code == 0, ended.err
        made[name] = project, project.done("evaluate", 3)["metrics"]
    return made


def test_it_learns_what_no_sum_of_embeddings_could(measured: dict[str, tuple[Project, dict[str, Any]]]) -> None:
    """Of a day whose lists are new: clicks tell .9 from .1, so the match alone has an AUC of .90."""
    auc = {name: metrics["teacher.ctr.auc"] for name, (_, metrics) in measured.items()}
    assert auc["with"] > 0.85 and auc["without"] < 0.6


def test_a_dump_knows_the_crosses_of_pairs_never_logged(
    measured: dict[str, tuple[Project, dict[str, Any]]], tmp_path: Path
) -> None:
    """Exposed, drawn and retrieved pairs score as the teacher's catalogue does, and a match scores high in each."""
    project, _ = measured["with"]
    config, path = load_config(project.file), project.call("path", "scores", "--day", DAYS[1]).out.strip()
    frame = pl.concat([pl.read_parquet(p, hive_partitioning=False) for p in sorted(Path(path).glob("part-*.parquet"))])
    day = Log(config.data, config.features).read(dt.date.fromisoformat(DAYS[1]), tmp_path)
    whole = np.stack(list(stored_teacher(project).on(day).catalogue(np.arange(150))))
    user, item = (day.rows_of(frame[f"{side}_id"], side) for side in ("user", "item"))
    logits = frame.select("ctr_logit", "cvr_logit").to_numpy()
    np.testing.assert_allclose(logits, whole[user, item], atol=1e-5, rtol=1e-5)
    frame = frame.join(day.users.select("likes", user_id=ID), "user_id").join(
        day.items.select("topic", item_id=ID), "item_id"
    )
    by = frame.group_by("pair_source", match=pl.col("topic").is_in(pl.col("likes"))).agg(pl.col("pctr").mean())
    means = {(source, match): p for source, match, p in by.iter_rows()}
    for source in ("exposed", "negative", "candidate"):
        assert means[source, True] > 0.7 and means[source, False] < 0.3, means


def stored_teacher(project: Project) -> FrozenTeacher:
    folder = Path(project.call("path", "teacher", "--day", DAYS[1]).out.strip())
    return FrozenTeacher(folder, Manifest.read(folder / "manifest.json"), CPU, load_config(project.file))


@pytest.mark.parametrize("command", ["train-teacher", "train-joint"])
def test_a_warm_start_keeps_its_crosses(command: str, world: Path, tmp_path: Path) -> None:
    """Another cross of the same shape would read the weights of this one."""
    project = Project.create(tmp_path, world, config=a_config(("likes", "topic")))
    first = project.done(command, 1, teacher__epochs=1)
    for other in ("[{user: home, item: topic}]", "[]", "[{user: likes, item: topic}, {user: home, item: topic}]"):
        ended = project.stage(command, 2, teacher__epochs=1, teacher__crosses=other)
        assert ended.code == 65 and f"{first['path']}: the model's crosses are not the config's" in ended.err
    second = project.done(command, 2, teacher__epochs=1)
    part = "teacher/model.safetensors" if command == "train-joint" else "model.safetensors"
    before, after = (load_file(Path(r["path"]) / part)["net.first.weights.3"] for r in (first, second))
    assert before.shape == after.shape == (2 * 16 + 2 * 2, 1) and not np.array_equal(before, after)
