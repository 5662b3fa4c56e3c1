"""What a stage doubts: each doubt by its numbers, and through the command line a log that provokes it beside one that
provokes none."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from chains import Chain, day
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import put, read
from worlds import DAYS, Project

from dmtl_cli.config.features import Feature
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.evaluate.doubts import below_lists, below_regression, far_from_clicks, one_list
from dmtl_cli.evaluate.on_catalogue import Retrieved
from dmtl_cli.nn.doubts import few_steps
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Run
from dmtl_cli.student.doubts import Agreement, far_from_teacher, one_direction, spread
from dmtl_cli.teacher.doubts import leaks, overfits, rare, too_good
from dmtl_cli.teacher.importance import Importance
from dmtl_cli.teacher.labels import HeldOut
from dmtl_cli.tune.advised import chose_steps, slower

RATE = {"teacher.embedding_learning_rate": 0.1}

# -- by numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "said"), [(64 * 256, ""), (63 * 256, "63 steps of 256"), (1, "1 step of 256 rows:")])
def test_few_steps(rows: int, said: str) -> None:
    (line,) = few_steps("teacher", rows, 256, "learn more days") or [""]
    assert said in line and bool(said) == bool(line)
    assert not said or line.endswith(": lower teacher.batch_size, or learn more days")


def test_the_smallest_batch_is_not_to_be_lowered() -> None:
    assert few_steps("teacher", 64 * 63, 64, "learn more days") == ["an epoch is 63 steps of 64 rows: learn more days"]


def test_held_out_far_from_learned() -> None:
    n = 1000
    label = np.arange(n) % 2 == 0
    sure = HeldOut(np.where(label, 2.0, -2.0), label, np.ones(n), np.arange(n))  # each loses ln(1 + e^-2) = .1269
    loss = math.log1p(math.exp(-2))
    assert overfits(loss / 1.1, sure, "look") == [], "a tenth is no doubt"
    (line,) = overfits(loss / 1.2, sure, "look")
    assert line.startswith(f"the loss of click is {loss:.3f} on held-out rows, {loss / 1.2:.3f} on learned ones")
    assert line.endswith(": look")
    few = label[:4]
    noisy = HeldOut(np.where(few, 4.0, 0.0), few, np.ones(4), np.arange(4))  # losses .018 and .693: an error of .17
    assert overfits(0.3, noisy, "look") == [], "within three standard errors"
    weighed = HeldOut(np.array([9.0, -9.0] * n), np.ones(2 * n), np.array([1.0, 0.0] * n), np.arange(2 * n))
    assert overfits(0.01, weighed, "look") == [], "rows of weight 0 count for nothing"


@pytest.mark.parametrize(("chosen", "lowers"), [(None, True), ({"teacher.learning_rate": 0.1}, True), (RATE, False)])
@pytest.mark.parametrize("on", [1, 2])
def test_what_trials_chose_is_not_advised_against(
    tmp_path: Path, chosen: dict[str, float] | None, lowers: bool, on: int
) -> None:
    """Nor are trials of a day advised that were just made."""
    chain = Chain(tmp_path)
    if chosen is not None:
        chain.make("tune", day(on), facts={"chosen": chosen})
    chain.project.config["auto"] = {"budget": 1}
    chain.project.write()
    said = slower(Run.start(load_config(chain.project.file), RunLog()), day(2))
    assert ("lower teacher.embedding_learning_rate" in said) == lowers
    assert (f"dmtl tune --config FILE --day {day(2)}" in said) == (chosen is None or on == 1)
    assert said.endswith("the days to come bring more rows") == (chosen is RATE and on == 2)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [(None, False), ({}, False), ({"teacher.batch_size": None}, False), ({"teacher.batch_size": 256}, True)],
)
def test_batches_that_trials_chose_are_no_doubt(
    tmp_path: Path, chosen: dict[str, int | None] | None, told: bool
) -> None:
    """None is the rule's size, of which few steps are few rows."""
    chain = Chain(tmp_path)
    if chosen is not None:
        chain.make("tune", day(1), facts={"chosen": chosen})
    chain.project.config["auto"] = {"budget": 1}
    chain.project.write()
    assert chose_steps(Run.start(load_config(chain.project.file), RunLog()), day(2)) is told


def test_a_teacher_below_its_regression_is_told_where_it_matters() -> None:
    """By more than twice its error, and by more than .01."""
    numbers = {"teacher.ctr.auc": 0.7, "regression.ctr.auc": 0.7124, "regression.ctr.auc_ahead": 0.0124}
    (line,) = below_regression(numbers | {"regression.ctr.auc_ahead.se": 0.006}, Tasks(()), day(1), "look")
    assert ", .700, is below .712 of its regression" in line and line.endswith(": look")
    assert below_regression(numbers | {"regression.ctr.auc_ahead.se": 0.0063}, Tasks(()), day(1), "look") == []
    near = numbers | {"regression.ctr.auc_ahead": 0.0099, "regression.ctr.auc_ahead.se": 1e-5}
    assert below_regression(near, Tasks(()), day(1), "look") == []


def test_what_is_served_beside_the_best_list() -> None:
    found = {"popularity.read.recall@50": 0.05, "read_popularity.read.recall@50": 0.08}
    errors = {"read_popularity.read.recall@50.ahead_of_student.se": 0.005}  # over the same users
    (line,) = below_lists(found | errors | {"student.read.recall@50": 0.0745}, day(1), 50, "reads")
    assert "Recall@50 of reads of what student 2026-01-01 serves, .074, is below .080 of read_popularity" in line
    (line,) = below_lists(found | errors | {"student.read.recall@50": 0.0745}, day(1), 50, "good clicks")
    assert line.startswith("Recall@50 of good clicks of what student 2026-01-01 serves, .074, is below")
    assert below_lists(found | errors | {"student.read.recall@50": 0.0755}, day(1), 50, "reads") == [], "within .005"
    assert (
        below_lists(found, day(1), 50, "reads")
        == below_lists({"student.read.recall@50": 0.1}, day(1), 50, "reads")
        == []
    )


def test_far_fewer_clicks_than_the_best_list() -> None:
    found = {"popularity.click.recall@50": 0.3, "exposure_rate.click.recall@50": 0.2, "student.read.recall@50": 0.28}
    found |= {"read_popularity.read.recall@50": 0.26}
    (line,) = far_from_clicks(found | {"student.click.recall@50": 0.15}, day(1), 50, "reads")
    assert line == (
        "Recall@50 of clicks of what student 2026-01-01 serves is .150, 50% of the .300 of popularity: it is made for "
        "reads, not for clicks; of reads it is .280, beside .260 of read_popularity"
    )
    assert far_from_clicks(found | {"student.click.recall@50": 0.21}, day(1), 50, "reads") == [], "more than two thirds"
    assert (
        far_from_clicks(found, day(1), 50, "reads")
        == far_from_clicks({"student.click.recall@50": 0.0}, day(1), 50, "reads")
        == []
    )


def served(places: npt.NDArray[np.int64], items: int) -> Retrieved:
    return Retrieved(np.arange(len(places)), places, pl.Series(range(items)), np.arange(items))


@pytest.mark.parametrize("shared", [47, 48])
def test_one_list_for_all(shared: int) -> None:
    """Any two share `shared` of 50, and what else one has no other has: 94% are less than 95%."""
    own = 50 - shared
    places = np.stack([np.r_[np.arange(shared), shared + own * u + np.arange(own)] for u in range(30)])
    pairs = [len(set(a) & set(b)) for a, b in itertools.combinations(places, 2)]
    assert set(pairs) == {shared}
    lines = one_list(served(places, 500), 0.7, day(1), 50)
    assert len(lines) == (shared == 48)
    assert not lines or lines[0] == (
        "what student 2026-01-01 serves is nearly one list: the top 50 of 30 users have 108 items in all, and any two "
        "share 96%: this log tells users apart little, or kappa, 0.7, is too high (see the kappa table of dmtl compare)"
    )


def test_lists_that_must_be_alike_are_not_doubted() -> None:
    same = np.tile(np.arange(50), (30, 1))
    (line,) = one_list(served(same, 100), None, day(1), 50)
    assert "have 50 items in all" in line and "kappa" not in line
    assert one_list(served(same, 99), 0.7, day(1), 50) == [], "of so few items half are in any list"
    assert one_list(served(same[:19], 100), 0.7, day(1), 50) == one_list(served(same - 50, 100), 0.7, day(1), 50) == []


def test_a_share_of_the_gain_and_of_rows() -> None:
    assert leaks({"length": Importance(0.3, 0.9), "hour": Importance(0.5, 0.6)}) == []
    assert leaks({"dwell": Importance(0.9, 1.2), "x": Importance(0.41, 0.83), "y": Importance(0.01, 0.1)}) == [
        "feature dwell carries 100% of what the teacher gains over a constant, 90% of all there is to know: "
        "is it known before the exposure?",
        "feature x carries 83% of what the teacher gains over a constant, 41% of all there is to know: "
        "is it known before the exposure?",
    ]
    assert rare({"user_id": 0.5}) == []
    assert rare({"user_id": 0.72}) == [
        "72% of rows have a value of user_id that occurs once: it cannot be learned; set min_count: 2, or leave it out"
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.booleans())
def test_agreement_is_the_squared_correlation_of_the_last_rows(seed: int, keep: int, within: bool) -> None:
    rng = np.random.default_rng(seed)
    agreement, every = Agreement(keep), []
    for _ in range(6):
        n = int(rng.integers(1, 12))
        s, t, lists = rng.normal(size=n), rng.normal(size=n), rng.integers(3, size=n)
        t[rng.random(n) < 0.3] = np.nan
        agreement.add(torch.tensor(s), torch.tensor(t), torch.tensor(lists) if within else None)
        if within:
            for k in range(3):
                mine = (lists == k) & np.isfinite(t)
                s[mine], t[mine] = (x[mine] - x[mine].sum() / max(1, mine.sum()) for x in (s, t))
        every.append((s, t))
    while sum(len(s) for s, _ in every[1:]) >= keep:
        every.pop(0)
    s, t = (np.concatenate(x) for x in zip(*every, strict=True))
    known = np.isfinite(t)
    got, varies = agreement.r2(), known.sum() > 2 and s[known].std() > 1e-9 and t[known].std() > 1e-9
    if varies:
        assert got == pytest.approx(np.corrcoef(s[known], t[known])[0, 1] ** 2, abs=1e-9)


def test_a_student_far_from_its_teacher() -> None:
    assert Agreement().r2() is None and far_from_teacher(None) == far_from_teacher(0.5) == []
    (line,) = far_from_teacher(0.31)
    assert line.startswith("explains 31% of its teacher's scores on the rows it learned: more epochs (student.epochs)")


def test_spread_of_vectors() -> None:
    assert spread(np.ones((5, 3))) == pytest.approx(0)
    assert spread(np.concatenate([np.eye(4), -np.eye(4)])) == 1
    assert spread(np.array([[3.0, 4.0], [3.0, -4.0]])) == pytest.approx(16 / 25)
    assert spread(np.zeros((0, 3))) == spread(np.zeros((2, 3))) == 0
    (line,) = one_direction({"item.preference": 0.004, "user.preference": 0.03})
    assert line.startswith("item vectors (preference) are 100% one direction: all users are served nearly the same")


FEATURES = [
    Feature(name="user_id", side="user", kind="categorical"),
    Feature(name="past", side="user", kind="sequence", max_length=2),
    Feature(name="age", side="user", kind="numeric", num_buckets=2),
    Feature(name="place", side="user", kind="vector", dim=2),
    Feature(name="height", side="user", kind="numeric"),
]


@pytest.mark.parametrize("name", [f.name for f in FEATURES])
def test_one_feature_of_encoded_rows_reordered_is_that_of_raw_rows(tmp_path: Path, name: str) -> None:
    raw: dict[str, Any] = {"user_id": [1, 2, 3], "past": [[7], [7, 8], []], "age": [10.0, 20.0, 30.0]}
    raw |= {"place": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], "height": [1.0, None, 3.0]}
    put(tmp_path, raw | {"item_id": [1, 1, 1], "click": [1] * 3, "seconds": [1.0] * 3})
    encoder = Encoder(tuple(FEATURES)).grow([read(tmp_path, tuple(FEATURES))])
    frame, order = pl.DataFrame(raw), np.array([2, 0, 0])
    expected = encoder.encode(frame.with_columns(frame[name][order]), "user")
    before = encoder.encode(frame, "user")
    got = encoder.reordered(before, "user", name, order)
    for a, b in (
        (got.ids, expected.ids),
        (got.floats, expected.floats),
        *zip(got.sequences, expected.sequences, strict=True),
    ):
        assert (a == b).all()
    assert (before.ids == encoder.encode(frame, "user").ids).all(), "what was given stays"


def test_what_an_earlier_day_had_is_not_seen_once(tmp_path: Path) -> None:
    user, rare_too = FEATURES[0], Feature(name="kind", side="item", kind="categorical", min_count=2)
    hashed = Feature(name="hour", side="context", kind="categorical", hash_bucket_size=9)
    features, days = (user, rare_too, hashed), []
    for k, users in enumerate(([1, 1, 2, 5], [2, 3])):
        n = len(users)
        frame = {"user_id": users, "kind": [*range(n)], "hour": [*range(n)], "item_id": [*range(n)]}
        put(tmp_path / str(k), frame | {"click": [1] * n, "seconds": [1.0] * n})
        days.append(read(tmp_path / str(k), features))
    first = Encoder(features).grow(days[:1])
    assert first.seen_once(days[:1]) == {"user_id": 0.5}, "2 and 5; others have no vocabulary, or do not admit them"
    assert first.grow(days[1:]).seen_once(days[1:]) == {"user_id": 0.5}, "3 alone"
    assert Encoder(features).grow(days).seen_once(days) == {"user_id": pytest.approx(2 / 6)}, "3 and 5"


# -- through the command line ------------------------------------------------------------------------------------------

ROWS = 4800


def columns(seed: int = 0, rows: int = ROWS) -> dict[str, Any]:
    """Users click what suits their taste, and read it long by its quality."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(60, size=rows), rng.integers(40, size=rows)
    taste, topic, hour = user % 3, item % 3, rng.integers(24, size=rows)
    score = 1.6 * (taste == topic) - 0.9 + 0.8 * ((item % 4) - 1.5) / 1.5 + 0.4 * np.sin(user) + 0.3 * (hour > 12)
    click = rng.random(rows) < 1 / (1 + np.exp(-score))
    seconds = np.where(click, np.exp(rng.normal(3 + 0.5 * (item % 5 == 0), 0.6, rows)), np.nan)
    return {
        "user_id": user, "item_id": item, "taste": taste, "topic": topic, "hour": hour, "click": click.astype(int),
        "seconds": pl.Series(seconds, nan_to_null=True),
    }  # fmt: skip


MODEL: dict[str, Any] = {
    "features": [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "taste", "side": "user", "kind": "categorical"},
        {"name": "item_id", "side": "item", "kind": "categorical"},
        {"name": "topic", "side": "item", "kind": "categorical"},
        {"name": "hour", "side": "context", "kind": "categorical"},
    ],
    "teacher": {
        "num_experts": 2, "expert_hidden_units": [8], "tower_hidden_units": [4], "embedding_dim": 4, "batch_size": 64,
        "factor_dim": 4, "embedding_learning_rate": 0.05,
    },
    "student": {
        "hidden_units": [8], "embedding_dim": 4, "batch_size": 64, "learning_rate": 0.01, "exposure": {"kappa": 0.0},
    },
}  # fmt: skip


def project(home: Path, days: int = 1, feature: dict[str, Any] | None = None, **more: Any) -> Project:
    for k, name in enumerate(DAYS[:days]):
        folder = home / f"log/events/day={name}"
        folder.mkdir(parents=True)
        pl.DataFrame(columns(k) | more).write_parquet(folder / "a.parquet")
    made = Project.create(home, home / "log")
    made.config["data"] = {"root": str(home / "log"), "events": {"click": "click", "duration": "seconds"}}
    made.config |= json.loads(json.dumps(MODEL))
    made.config["features"] += [feature] if feature else []
    made.write()
    return made


def doubted(made: Project, stage: str, day: int = 1) -> list[str]:
    """The doubts that a published run has."""
    folder = made.ws / stage / f"day={DAYS[day - 1]}"
    manifest = json.loads((folder / (folder / "CURRENT").read_text().strip() / "manifest.json").read_text())
    lines: list[str] = manifest["facts"].get("warnings", [])
    return lines


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A day, its teacher and its scores."""
    one = {"name": "one", "side": "item", "kind": "numeric"}  # the same for all items
    made = project(tmp_path_factory.mktemp("healthy"), days=2, feature=one, one=1.0)
    made.config["teacher"]["features"] = made.config["student"]["features"] = [f["name"] for f in MODEL["features"]]
    made.config["student"]["features"].remove("hour")
    made.write()
    made.done("train-teacher", 1)
    made.done("dump-logits", 1)
    return made


def test_a_healthy_log_is_not_doubted(healthy: Project) -> None:
    assert doubted(healthy, "teacher") == []
    found = healthy.done("train-student", 2, student__distill__floors__match=0, student__distill__ways="[replay]")
    assert doubted(healthy, "student", 2) == doubted(healthy, "export", 2) == []
    assert found["metrics"]["distill.r2"] > 0.7
    ended = healthy.call("check", "--day", DAYS[0])
    assert "occurs once" not in ended.out and ended.code == 0


def test_a_doubt_is_a_line_of_what_is_said_too(tmp_path: Path) -> None:
    made = project(tmp_path)
    made.done("train-teacher", 1, teacher__batch_size=512)
    (line,) = doubted(made, "teacher")
    assert line.startswith("an epoch is 10 steps of 512 rows: lower teacher.batch_size, or learn more days")
    assert f"teacher {DAYS[0]}: warning: {line}" in made.logged("train-teacher", 1)


def test_ids_learned_by_heart(tmp_path: Path) -> None:
    made = project(tmp_path, request=np.arange(ROWS))  # held out are rows of users who are learned too
    made.config["data"]["events"]["request"] = "request"
    made.write()
    rates = {"teacher__learning_rate": 0.01, "teacher__embedding_learning_rate": 0.3, "teacher__context_dropout": 0}
    large = {
        "teacher__embedding_dim": 16,
        "teacher__expert_hidden_units": "[64]",
        "teacher__tower_hidden_units": "[16]",
    }
    made.done("train-teacher", 1, teacher__epochs=20, **rates, **large)
    assert [line for line in doubted(made, "teacher") if "it overfits" in line]


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_a_feature_that_is_the_label(tmp_path: Path, kind: str) -> None:
    leak = columns()["click"] * 2
    made = project(tmp_path, feature={"name": "leak", "side": "context", "kind": kind}, leak=leak)
    made.done("train-teacher", 1, teacher__learning_rate=0.02)
    (line,) = doubted(made, "teacher")
    assert line.startswith("feature leak carries ") and line.endswith("is it known before the exposure?")


def test_a_label_that_is_known_twice(tmp_path: Path) -> None:
    """Permuting one of two features that are the label tells nothing: the other is left."""
    click = columns()["click"]
    made = project(tmp_path, leak=click * 2, again=click * 3)
    made.config["features"] += [{"name": n, "side": "context", "kind": "categorical"} for n in ("leak", "again")]
    made.write()
    made.done("train-teacher", 1, teacher__learning_rate=0.02)
    (line,) = doubted(made, "teacher")
    assert line.startswith("the AUC of ctr on held-out rows is 1.000 (") and "a feature may be the label" in line
    (told,) = json.loads(made.call("status", "--json").out)["warnings"]
    assert told == {"stage": "teacher", "day": DAYS[0], "warning": line}


def test_labels_that_are_known_where_every_row_is_a_click(tmp_path: Path) -> None:
    """No row is held out of such a log: the next day's evaluation says it."""
    drawn = np.random.default_rng(5).random(ROWS) < 0.3
    leak = {"leak": drawn * 2, "again": drawn * 3, "bought": drawn.astype(int)}
    made = project(tmp_path, days=2, **leak)
    made.config["data"]["events"] = {"conversion": "bought"}
    made.config["features"] += [{"name": n, "side": "context", "kind": "categorical"} for n in ("leak", "again")]
    made.write()
    assert "leak: alone it tells the day's bought with an AUC of 1.00" in made.call("check", "--day", DAYS[0]).out
    made.done("train-teacher", 1, teacher__learning_rate=0.02)
    made.done("evaluate", 2)
    (line,) = (x for x in doubted(made, "evaluation", 2) if "may be the label" in x)
    assert line.startswith("the AUC of cvr on a day that was not learned is 1.000 (")
    newest = json.loads(made.call("status", "--json").out)["newest"]
    assert [x["stage"] for x in newest if " AUC good click " in x["line"]] == ["evaluation"], newest


def test_too_good_needs_rows_of_both_kinds() -> None:
    few, many = np.arange(1_000) < 49, np.arange(1_000) < 50
    assert too_good({"click": 0.995}, {"click": few}) == too_good({"click": 0.995}, {"click": ~few}) == []
    assert too_good({"click": 0.99}, {"click": many}) == []
    (line,) = too_good({"click": 0.995, "read": 0.8}, {"click": many, "read": many})
    assert line.startswith("the AUC of click on held-out rows is 0.995 (50 positives): ")


def test_values_that_occur_once(tmp_path: Path) -> None:
    session = np.where(np.arange(ROWS) % 4, np.arange(ROWS) + 10**6, 7)
    made = project(tmp_path, feature={"name": "session", "side": "context", "kind": "categorical"}, session=session)
    made.done("train-teacher", 1)
    expected = "75% of rows have a value of session that occurs once: it cannot be learned; set min_count: 2"
    assert [line for line in doubted(made, "teacher") if line.startswith(expected)]
    ended = made.call("check", "--day", DAYS[0])
    assert "session: 75% of the day's rows have a value that occurs once: unless other days repeat it" in ended.out
    found = {f["name"]: f.get("seen_once_share") for f in made.stage("check", 1).json["features"]}
    assert found.pop("session") == 0.75 and set(found.values()) == {None}
    made.config["features"][-1]["min_count"] = 2
    made.write()
    assert "occurs once" not in made.call("check", "--day", DAYS[0]).out, "they do not enter the vocabulary"


def test_a_student_that_learns_nothing(healthy: Project) -> None:
    settings = {"student__learning_rate": 1e-9, "student__embedding_learning_rate": 1e-9}
    settings |= {"student__distill__ways": "[replay]", "student__batch_size": 512, "gates__quality": "false"}
    healthy.done("train-student", 2, **settings)
    steps, far = doubted(healthy, "student", 2)
    assert "lower student.batch_size" in steps and far.startswith("explains ")


def test_served_items_that_are_all_alike(healthy: Project) -> None:
    """Its towers read nothing of an item but what all of them share."""
    blind = {"student__distill__ways": "[replay]", "student__features": "[user_id, taste, one]"}
    healthy.done("train-student", 2, **blind, gates__quality="false")  # the gate of spread would refuse it
    (line,) = doubted(healthy, "export", 2)
    assert line.startswith("item vectors (preference) are 100% one direction")


def test_what_is_shown_to_all_is_served_to_all(tmp_path: Path) -> None:
    """Some of 160 items are shown to everybody, and exposure weighs far more than preference."""
    made = project(tmp_path, 3)
    for k, file in enumerate(sorted((tmp_path / "log").rglob("*.parquet"))):
        copy = np.random.default_rng(k).choice(4, ROWS, p=[0.6, 0.25, 0.1, 0.05])  # of an item of 40, alike in all
        pl.read_parquet(file).with_columns(pl.col("item_id") + 120 * copy).write_parquet(file)
    settings = {"student__distill__floors__match": 0, "student__distill__ways": "[replay]", "gates__quality": "false"}
    settings |= {"student__exposure__kappa": 20, "student__exposure__learning_rate": 0.01}
    for command, of in (("train-teacher", 1), ("dump-logits", 1), ("train-student", 2), ("evaluate", 3)):
        made.done(command, of, **settings)
    (line,) = (x for x in doubted(made, "evaluation", 3) if "is nearly one list" in x)
    assert f"student {DAYS[1]} serves " in line and "of 60 users have " in line and "or kappa, 20, is too high" in line
    assert line in made.call("status").out
