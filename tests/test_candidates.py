"""Candidates, losses, heads, further conversions and other teachers, through the command line on a tiny world."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
import torch
from worlds import BASE, DAYS, Project, events, reshape

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.student import LISTS, ListLoss, RowLoss
from dmtl_cli.config.training import Training
from dmtl_cli.data.days import Days
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.rows import pairs
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.batches import side_of
from dmtl_cli.nn.fit import LOOK_EVERY
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Run
from dmtl_cli.serving.export import Export
from dmtl_cli.stages import train_student
from dmtl_cli.student.build import build_student, stored_section
from dmtl_cli.student.labels import StudentBatch
from dmtl_cli.student.loss import StudentLoss
from dmtl_cli.synth.generate import generate
from dmtl_cli.teacher.frozen import FrozenTeacher

C = 8
STILL = {"student__learning_rate": 1e-12, "student__embedding_learning_rate": 1e-12, "student__unknown_share": 0}
STILL |= {"gates__quality": "false"}  # which would refuse a student that does not learn
"""a student that does not move: its losses are sums that can be told by hand"""
REPLAY = {"student__distill__ways": "[replay]"}


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Students alone."""
    made = SimpleNamespace(up_to_date=True, pinned=None, to_dict=dict)
    monkeypatch.setattr(train_student, "export", lambda run, day: made)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a day's users some are not active; every event has a position, which only the teacher knows."""
    home = tmp_path_factory.mktemp("world")
    generate(home / "made", 4, start=dt.date(2026, 1, 1), users=60, items=50, events_per_day=1200, seed=1)
    for table in ("users", "items"):
        shutil.copytree(home / f"made/log/{table}", home / f"log/{table}")

    def change(e: pl.DataFrame, day: str) -> pl.DataFrame:
        liked = pl.when(pl.col("click") == 1).then(pl.col("read_seconds") > 60)
        return e.filter(pl.col("user_id") % 10 > 0).with_columns(
            position=pl.int_range(pl.len()).over("request_id"), liked=liked
        )

    reshape(home / "made/log", home / "log", change)
    return home / "log"


def a_config() -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    config["features"].append({"name": "position", "side": "context", "kind": "numeric"})
    config["scores"] = {"negatives": 1, "candidates": C}
    return config


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Days 1 and 2 learned; day 3 scored, with candidates by the student of day 2. Read only."""
    made = Project.create(tmp_path_factory.mktemp("chain"), world, config=a_config())
    assert made.call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
    made.done("dump-logits", 3, "--teacher-day", DAYS[1])
    return made


@pytest.fixture
def project(chain: Project, world: Path, tmp_path: Path) -> Project:
    """A copy, to be changed."""
    made = Project.create(tmp_path, world, config=a_config())
    shutil.copytree(chain.ws, made.ws)
    return made


def dumped(project: Project, day: int, teacher: int) -> tuple[pl.DataFrame, Manifest]:
    path = project.call("path", "scores", "--day", DAYS[day - 1], "--teacher-day", DAYS[teacher - 1]).out.strip()
    parts = [pl.read_parquet(p, hive_partitioning=False) for p in sorted(Path(path).glob("part-*.parquet"))]
    return pl.concat(parts), Manifest.read(Path(path) / "manifest.json")


def read(project: Project, day: int, scratch: Path) -> Day:
    config = load_config(project.file)
    return Log(config.data, config.features).read(dt.date.fromisoformat(DAYS[day - 1]), scratch)


def retrieved(frame: pl.DataFrame) -> dict[int, set[int]]:
    """Candidates by user; there are no duplicates."""
    chosen = frame.filter(pl.col("pair_source") == "candidate")
    assert not chosen.select("user_id", "item_id").is_duplicated().any()
    return {u: set(i) for u, i in chosen.group_by("user_id").agg("item_id").iter_rows()}


def clicked_once(world: Path, day: int) -> pl.DataFrame:
    """The day's clicks, one a user, item and request."""
    clicked = events(world, DAYS[day - 1]).filter(pl.col("click") == 1)
    return clicked.unique(["user_id", "item_id", "request_id"])


def popular(world: Path, day: int, k: int) -> list[int]:
    """Items by clicks, ties by id."""
    counts = clicked_once(world, day).group_by("item_id").len().sort("len", "item_id", descending=[True, False])
    return counts["item_id"].head(k).to_list()


def students_top(project: Project, day: Day, k: int, export_day: int = 2) -> dict[int, list[int]]:
    """Of every active user, by dot products written out."""
    export = Export(Path(project.call("path", "export", "--day", DAYS[export_day - 1]).out.strip()))
    active = np.flatnonzero(day.user_events > 0)
    dots = export.vectors(day.users[active], "user") @ export.vectors(day.items, "item").T
    ids = day.items[ID].to_numpy()
    order = np.argsort(-dots, axis=1, kind="stable")[:, :k]
    return {u: ids[o].tolist() for u, o in zip(day.users[ID].to_numpy()[active].tolist(), order, strict=True)}


# -- a chain goes on with its own --------------------------------------------------------------------------------------


def test_other_conversions_are_another_model(project: Project) -> None:
    """Tasks are told apart by their order alone: a teacher of others is neither warm nor asked."""
    more = {"data__events__conversions": "{like: liked}"}
    for command in ("evaluate", "train-teacher", "dump-logits"):
        ended = project.stage(command, 2 if command == "dump-logits" else 3, **more)
        assert ended.code == 65 and "its tasks are ctr, cvr, the config's ctr, cvr, like" in ended.err, command


OWN_DAY = {"student__distill__min_age_days": 0}


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize(
    ("ways", "own"),
    [("[replay, rescore]", "replay"), ("[replay, match]", "replay"), ("[rescore]", "rescore")],
)
def test_one_dump_is_learned_once(project: Project, ways: str, own: str) -> None:
    """A student of its own day's teacher: what every way reads is the same pairs, those of one dump."""
    made = project.done("train-student", 2, "--scores-day", DAYS[1], **OWN_DAY, student__distill__ways=ways)
    rows = dumped(project, 2, 2)[1].rows["scores"]
    assert made["rows"] == {"learned": rows, own: rows}
    assert {k for k in made["metrics"] if k.startswith(("coverage", "rows"))} == {f"coverage.{own}", f"rows.{own}"}


@pytest.mark.usefixtures("no_export")
def test_a_way_that_is_not_taken_has_no_floor(project: Project) -> None:
    """There is no rescore of a day by its own teacher; by an earlier one its floor holds."""
    floors = {"student__distill__floors": "{replay: 0.9, rescore: 0.9}"}
    made = project.done("train-student", 2, "--scores-day", DAYS[1], **OWN_DAY, **floors)
    assert made["metrics"]["coverage.replay"] == 1
    shutil.rmtree(project.ws / f"scores/day={DAYS[1]}/teacher={DAYS[0]}")
    ended = project.stage("train-student", 2, "--scores-day", DAYS[0], **OWN_DAY, **floors)
    assert ended.code == 80 and "coverage of rescore is 0.000" in ended.err


@pytest.mark.usefixtures("no_export")
def test_sizes_of_gradients_are_those_of_a_sample_of_steps(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a backward pass; their mean is over the rows of the steps that tell them."""
    told: list[tuple[int, dict[str, float]]] = []

    class Spy(StudentLoss):
        def __call__(self, batch: StudentBatch, look: bool) -> tuple[torch.Tensor, dict[str, Any]]:
            loss, parts = super().__call__(batch, look)
            told.append((len(batch), {k: float(v) for k, v in parts.items()}))
            return loss, parts

    monkeypatch.setattr(train_student, "StudentLoss", Spy)
    hard = {"student__hard__w_hard": 1, "student__hard__loss": "pointwise", "student__batch_size": 200}
    made = project.done("train-student", 3, **hard)
    sampled = [k for k, (_, parts) in enumerate(told) if "gradient.kd" in parts]
    assert sampled == list(range(0, len(told), LOOK_EVERY)) and len(sampled) > 2
    assert len({n for n, _ in told}) > 1, "lists of a user make batches of different sizes"
    for name, steps in (("gradient.kd", sampled), ("gradient.hard", sampled), ("loss.kd", range(len(told)))):
        rows, values = zip(*((n, parts[name]) for n, parts in (told[k] for k in steps)), strict=True)
        assert made["metrics"][name] == pytest.approx(np.average(values, weights=rows), rel=1e-6)
        assert min(values) > 0


@pytest.mark.usefixtures("no_export")
def test_a_source_left_out_of_one_loss_does_not_dilute_it(project: Project) -> None:
    shown = "{loss: kl, source_weights: {negative: 0, candidate: 0}}"
    losses = (f"[{shown}]", f"[{shown}, {{loss: mse_prob, weight: 1e-9}}]")
    whole = STILL | REPLAY | {"student__batch_size": 10**6}
    alone, beside = (project.done("train-student", 3, **whole, student__distill__losses=x)["metrics"] for x in losses)
    assert beside["loss.kd.0.kl"] == pytest.approx(alone["loss.kd"], rel=1e-5)


def test_an_export_says_what_its_student_learned(project: Project) -> None:
    shutil.rmtree(project.ws / f"export/day={DAYS[1]}")
    other = "[{loss: kl, target: pctr}]"
    made = project.done("export", 2, student__distill__losses=other)
    assert Manifest.read(Path(made["path"]) / "manifest.json").facts["predicts"] == "pctcvr"


# -- which pairs -------------------------------------------------------------------------------------------------------


def test_popularity_until_there_is_an_export(chain: Project, world: Path) -> None:
    for day, teacher in ((1, 1), (2, 2), (2, 1)):  # the first student is of day 2, an export of which is none before it
        frame, manifest = dumped(chain, day, teacher)
        active = set(events(world, DAYS[day - 1])["user_id"])
        assert retrieved(frame) == {user: set(popular(world, day, C)) for user in active}
        assert [p["stage"] for p in manifest.parents] == ["teacher"]
        assert manifest.rows["candidate"] == len(active) * C == manifest.metrics["rows.candidate"]
        assert manifest.facts["draws"]["candidates"] == C


def test_the_last_export_retrieves_afterwards(chain: Project, tmp_path: Path) -> None:
    frame, manifest = dumped(chain, 3, 2)
    day = read(chain, 3, tmp_path)
    assert retrieved(frame) == {u: set(top) for u, top in students_top(chain, day, C).items()}
    export = Manifest.read(Path(chain.call("path", "export").out.strip()) / "manifest.json")
    assert manifest.parents[1:] == [export.as_parent()] and len(day.users) > len(retrieved(frame))
    chosen = frame.filter(pl.col("pair_source") == "candidate")
    assert (chosen["group"] < 0).all() and chosen["group"].n_unique() == len(retrieved(frame))
    by_rank = chosen.sort("group", "rank")
    assert (by_rank.group_by("group", maintain_order=True).agg(pl.col("pctcvr").diff().max())["pctcvr"] <= 0).all()


def test_both_sources(project: Project, world: Path, tmp_path: Path) -> None:
    both = {"scores__candidate_source": "both", "scores__candidates": 19}
    project.done("dump-logits", 3, "--teacher-day", DAYS[1], **both)
    found = retrieved(dumped(project, 3, 2)[0])
    top, shared = students_top(project, read(project, 3, tmp_path), 10), set(popular(world, 3, 9))
    assert found == {u: set(own) | shared for u, own in top.items()}
    sizes = {len(items) for items in found.values()}
    assert max(sizes) <= 19 and 10 <= min(sizes) < 19, "what both name comes once"
    project.done("dump-logits", 3, "--teacher-day", DAYS[1], scores__candidate_source="popularity")
    frame, manifest = dumped(project, 3, 2)
    assert set(map(frozenset, retrieved(frame).values())) == {frozenset(popular(world, 3, C))}
    assert len(manifest.parents) == 1, "popularity needs no export"


def test_a_catalogue_smaller_than_the_candidates(project: Project, world: Path) -> None:
    project.done("dump-logits", 3, "--teacher-day", DAYS[1], scores__candidates=1000)
    frame, _ = dumped(project, 3, 2)
    items = pl.read_parquet(world / f"items/day={DAYS[2]}/*.parquet", hive_partitioning=False)["item_id"]
    assert set(map(frozenset, retrieved(frame).values())) == {frozenset(items)}


def test_another_student_makes_candidates_stale(project: Project) -> None:
    old = dumped(project, 3, 2)[1]
    assert project.done("dump-logits", 3, "--teacher-day", DAYS[1])["up_to_date"]
    assert project.done("train-student", 2, student__epochs=2)["up_to_date"] is False
    made = project.done("dump-logits", 3, "--teacher-day", DAYS[1])
    assert not made["up_to_date"] and made["run_id"] != old.run_id
    without = project.done("dump-logits", 3, "--teacher-day", DAYS[1], scores__candidates=0)
    assert "candidate" not in without["rows"]


# -- their scores ------------------------------------------------------------------------------------------------------


def test_every_pair_is_scored_without_a_context(chain: Project, tmp_path: Path) -> None:
    """As the teacher scores a catalogue; in its context an exposed row has another score."""
    frame, _ = dumped(chain, 3, 2)
    day, config = read(chain, 3, tmp_path), load_config(chain.file)
    folder = Path(chain.call("path", "teacher", "--day", DAYS[1]).out.strip())
    manifest = Manifest.read(folder / "manifest.json")
    teacher = FrozenTeacher(folder, manifest, torch.device("cpu"), config)
    scorer = teacher.on(day)
    whole = np.stack(list(scorer.catalogue(np.arange(len(day.users)))))  # [U, I, T]
    row = {name: day.rows_of(frame[f"{name}_id"], name) for name in ("user", "item")}
    logits = frame.select("ctr_logit", "cvr_logit").to_numpy()
    np.testing.assert_allclose(logits, whole[row["user"], row["item"]], atol=1e-5)
    assert set(frame["pair_source"]) == {"exposed", "negative", "candidate"}
    p = np.exp(teacher.no_context.calibration["ctr"].log_prob(frame["ctr_logit"].to_numpy()))
    np.testing.assert_allclose(frame["pctr"], p, rtol=1e-5)
    (block,) = day.blocks()
    in_context = scorer.pairs(pairs(block.user, block.item, block.features))
    assert np.abs(in_context - whole[block.user, block.item]).max() > 1e-3


# -- how they weigh in a student ---------------------------------------------------------------------------------------


def with_weights(project: Project, exposed: float, negative: float, candidate: float) -> dict[str, Any]:
    """The result of a student of day 3 that does not move."""
    weights = f"[{{source_weights: {{exposed: {exposed}, negative: {negative}, candidate: {candidate}}}}}]"
    return project.done("train-student", 3, **STILL, **REPLAY, student__distill__losses=weights)


@pytest.mark.usefixtures("no_export")
def test_source_weights(project: Project) -> None:
    """The mean loss is the weighted sum over sources; rows of weight 0 are not read."""
    rows = dumped(project, 2, 2)[1].rows
    sources = ("exposed", "negative", "candidate")
    alone = [with_weights(project, *(float(s == source) for s in sources)) for source in sources]
    offered = [r["rows"]["learned"] for r in alone]
    assert [0.9 * rows[s] < n <= rows[s] for s, n in zip(sources, offered, strict=True)] == [True] * 3
    sums = [r["metrics"]["loss.kd"] * n for r, n in zip(alone, offered, strict=True)]
    whole = with_weights(project, 1, 1, 1)
    assert whole["rows"]["learned"] == sum(offered) == whole["rows"]["replay"]
    assert whole["metrics"]["loss.kd"] == pytest.approx(sum(sums) / sum(offered), rel=1e-4)
    some = with_weights(project, 1, 0.5, 0)
    expected = (sums[0] + 0.5 * sums[1]) / (offered[0] + offered[1])
    assert some["rows"]["learned"] == offered[0] + offered[1]
    assert some["metrics"]["loss.kd"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("loss", ["kl", "pairwise", "margin_mse"])
def test_half_life_and_max_age(project: Project, loss: str) -> None:
    """Scores of teacher 1 are two days old on day 3: one more than fresh ones are. A pair of rows ages once."""

    def aged(*arguments: object, **settings: object) -> float:
        named = STILL | REPLAY | {"student__distill__losses": f"[{{loss: {loss}}}]"}
        made = project.done("train-student", 3, *arguments, **named, **settings)
        return float(made["metrics"]["loss.kd"])

    old = ("--scores-day", DAYS[0])
    whole = aged(*old)
    for half_life in (1, 2, 0.5):
        weight = 0.5 ** (1 / half_life)
        assert aged(*old, student__distill__half_life_days=half_life) == pytest.approx(weight * whole, rel=1e-5)
    assert aged(student__distill__half_life_days=1) == aged(), "offline scores are a day old at best"
    ended = project.stage("train-student", 3, *old, student__distill__max_age_days=1)
    assert ended.code == 65 and "expected 1 to 1 days old, got 2" in ended.err
    assert project.stage("train-student", 3, student__distill__max_age_days=1).code == 0


def test_a_teacher_that_is_too_old_does_not_rescore(project: Project) -> None:
    """Day 4 follows teacher 2 by two days; older than max_age_days it is left out of `run`, which goes on: tomorrow's
    student has a teacher. One that is asked for by itself is refused."""
    for max_age, expected in ((1, 1), (2, 2)):
        ended = project.stage("run", 4, "--allow-gap", student__distill__max_age_days=max_age)
        assert [r["stage"] for r in ended.every].count("scores") == expected
        assert (ended.code, ended.err) == (0, "")
        assert ("student" in {r["stage"] for r in ended.every}) == (max_age == 2)
        assert project.logged("run", 4).count("student 2026-01-04: not due") == 1, "by the first run alone"
        ended = project.stage("train-student", 4, student__distill__max_age_days=max_age)
        assert ended.code == (65 if max_age == 1 else 0) and ("got 2" in ended.err) == (max_age == 1)


# -- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("loss", [*get_args(RowLoss), *get_args(ListLoss)])
def test_every_loss_trains(project: Project, loss: str) -> None:
    """With candidates in the lists. After more epochs the loss is lower than that of one that does not move."""
    each = [{"loss": loss}] if loss != "rank_weight" else [{"loss": "kl"}, {"loss": loss}]
    losses = {"student__distill__losses": json.dumps(each)}
    still = project.done("train-student", 3, **STILL, **losses)["metrics"]
    made = project.done("train-student", 3, **losses, student__epochs=3)
    metrics, name = made["metrics"], "loss.kd" if loss != "rank_weight" else "loss.kd.1.rank_weight"
    assert all(math.isfinite(v) for v in metrics.values()) and made["rows"]["learned"] > 1000
    assert metrics["loss.kd"] < still["loss.kd"] * 0.9 and metrics[name] < still[name]
    assert (loss in LISTS) == (loss not in get_args(RowLoss))


@pytest.mark.usefixtures("no_export")
def test_losses_add_up(project: Project) -> None:
    kl, lists = (
        {"loss": "kl", "weight": 0.5, "temperature": 2},
        {"loss": "listwise", "weight": 2, "popularity_strata": 3},
    )
    alone = [
        project.done("train-student", 3, **STILL, student__distill__losses=json.dumps([kd | {"weight": 1}]))["metrics"]
        for kd in (kl, lists)
    ]
    both = project.done("train-student", 3, **STILL, student__distill__losses=json.dumps([kl, lists]))["metrics"]
    first, second = both["loss.kd.0.kl"], both["loss.kd.1.listwise"]
    assert both["loss.kd"] == pytest.approx(first + second, rel=1e-5)
    assert first == pytest.approx(0.5 * alone[0]["loss.kd"], rel=1e-4), "a mean of rows, whatever batch they are in"
    assert second == pytest.approx(2 * alone[1]["loss.kd"], rel=0.05)


def test_the_auxiliary_head_is_not_served(project: Project, tmp_path: Path) -> None:
    auxiliary = {"student__distill__head": "auxiliary", "student__hard__w_hard": 1}
    shutil.rmtree(project.ws / "student")
    made = project.done("train-student", 3, **auxiliary, student__exposure__kappa=0)
    assert {"loss.kd", "loss.hard"} < set(made["metrics"]) and not any(k.startswith("grad") for k in made["metrics"])
    folder, config = Path(made["path"]), load_config(project.file)
    encoder = Encoder.stored(folder, config.features_of("student"))
    student = build_student(encoder, stored_section(Manifest.read(folder / "manifest.json")))
    checkpoint.load(folder, student, student.table)
    run = Run.start(config, RunLog())
    days = Days(run, config.features_of("student"))
    day, retired = (
        made(dt.date.fromisoformat(DAYS[2])) for made in (lambda d: days.read_end(d, tmp_path), days.retired)
    )
    assert retired is not None and len(retired)
    day = replace(day, items=day.items.filter(~day.items[":id"].is_in(retired.implode())))
    with torch.no_grad():
        sides = [side_of(encoder.entities(day, s, None), torch.device("cpu")) for s in ("user", "item")]
        (served_u, served_v), (_, soft_v) = student.eval().heads(*sides)
    out = Path(project.call("path", "export", "--day", DAYS[2]).out.strip())
    export = Export(out)
    np.testing.assert_allclose(export.items[1], served_v, atol=1e-6)
    np.testing.assert_allclose(export.vectors(day.users, "user"), served_u, atol=1e-6)
    assert np.abs(export.items[1] - soft_v.numpy()).max() > 0.1
    assert export.described["bias"] == float(student.bias.detach())
    assert export.described["scale"] == float(student.scale.detach())
    assert Manifest.read(out / "manifest.json").facts["predicts"] is None, "labels rank; they are not calibrated"
    measured = project.done("evaluate", 4, **auxiliary)["metrics"]
    assert "student.ctcvr.auc" in measured and "student.ctcvr.logloss" not in measured


# -- what a teacher learns ---------------------------------------------------------------------------------------------


def test_an_epoch_of_clicks_is_cut_by_its_rows(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by those of a log of exposures, most of which it does not learn."""
    asked: set[int] = set()
    monkeypatch.setattr(Training, "rows_a_step", lambda config, rows: asked.add(rows) or 256)
    config = a_config()
    config["teacher"] |= {"samples": "sampled", "negatives": 2, "epochs": 1}
    made = Project.create(tmp_path, world, config=config).done("train-teacher", 1)
    clicks = len(clicked_once(world, 1))
    assert asked == {3 * clicks} and clicks * 2 < made["rows"]["learned"] <= clicks * 3 < made["rows"]["log"]


# -- further conversions and other teachers ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def liking(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A log that says what was liked, a long tail of long reads, by days 1 and 2; a fused score is learned."""
    config = a_config()
    config["data"]["events"]["conversions"] = {"like": "liked"}
    config["scores"]["fusion"] = {"pctr": 1, "pcvr": 0.5, "plike": 2}
    config["student"]["distill"] = {"losses": [{"target": "pfused"}]}
    made = Project.create(tmp_path_factory.mktemp("liking"), world, config=config)
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert ended.code == 0, ended.err
    return made


def test_scores_of_a_further_conversion(liking: Project) -> None:
    frame, manifest = dumped(liking, 2, 1)
    assert frame.columns[-4:] == ["like_logit", "plike", "pctlike", "pfused"]
    np.testing.assert_allclose(frame["pctlike"], frame["pctr"] * frame["plike"], rtol=1e-6)
    fused = frame["pctr"] * frame["pcvr"] ** 0.5 * frame["plike"] ** 2
    np.testing.assert_allclose(frame["pfused"], fused, rtol=1e-5)
    assert (
        set(manifest.facts["calibration"]) == {"ctr", "cvr", "like"} and manifest.facts["calibration"]["like"]["rows"]
    )
    assert frame["plike"].mean() < frame["pcvr"].mean(), "reads of a minute are fewer than those above the mean"
    teacher = Manifest.read(Path(liking.call("path", "teacher").out.strip()) / "manifest.json")
    parts = ("ctr", "ctcvr", "cvr", "ctlike", "like", *(f"factors.{task}" for task in ("ctr", "cvr", "like")))
    assert teacher.metrics["loss"] == pytest.approx(sum(teacher.metrics[f"loss.{p}"] for p in parts), rel=2e-3)
    assert teacher.facts["tasks"] == ["ctr", "cvr", "like"] and "gate.like.entropy" in teacher.metrics


def test_evaluation_of_a_further_conversion(liking: Project) -> None:
    found = liking.done("evaluate", 3)["metrics"]
    for name in ("teacher.like.auc", "teacher.ctlike.auc", "teacher.ctlike.logloss", "student.ctlike.auc"):
        assert math.isfinite(found[name])
    assert found["teacher.ctlike.auc"] > 0.5 and found["teacher.ctlike.auc"] != found["teacher.ctcvr.auc"]
    assert not any(k.startswith("student.") and k.endswith("logloss") for k in found), "of pfused nothing is known"


def test_students_of_a_further_conversion(liking: Project, tmp_path: Path) -> None:
    """Each learns its own score: its logits agree best with that one."""
    frame, _ = dumped(liking, 2, 2)
    made, tops = Project.create(tmp_path, Path(liking.config["data"]["root"]), config=liking.config), {}
    shutil.copytree(liking.ws, made.ws)
    shutil.rmtree(made.ws / "student")  # cold: each learns from nothing
    day = read(made, 2, tmp_path)
    for target in ("pctlike", "pctr"):
        losses = f"[{{target: {target}, loss: kl}}, {{target: {target}, loss: listwise}}]"
        alone = {"student__exposure__kappa": 0}  # what is shown is weighed by what was read, whatever is learned
        result = made.done("train-student", 3, student__distill__losses=losses, student__epochs=8, **alone)
        assert {"loss.kd.0.kl", "loss.kd.1.listwise"} < set(result["metrics"])
        export = Export(Path(made.call("path", "export", "--day", DAYS[2]).out.strip()))
        predicts = Manifest.read(export.folder / "manifest.json").facts["predicts"]
        assert predicts is None, "a loss over lists leaves log-odds open"
        u, v = export.vectors(day.users, "user"), export.vectors(day.items, "item")
        user, item = day.rows_of(frame["user_id"], "user"), day.rows_of(frame["item_id"], "item")
        tops[target] = export.score((u[user] * v[item]).sum(1))
    rank = {k: frame[k].rank().to_numpy() for k in tops}
    mine = {k: pl.Series(s).rank().to_numpy() for k, s in tops.items()}
    agree = {(s, t): np.corrcoef(mine[s], rank[t])[0, 1] for s in mine for t in rank}
    assert agree["pctlike", "pctlike"] > agree["pctlike", "pctr"] and agree["pctr", "pctr"] > agree["pctr", "pctlike"]


def test_a_score_that_is_not_there(project: Project) -> None:
    ended = project.stage("train-student", 3, student__distill__losses="[{target: pctlike}]")
    assert ended.code == 78 and "no score is called pctlike" in ended.err
    more = {"data__events__conversions": "{like: liked}", "student__distill__losses": "[{target: pctlike}]"}
    ended = project.stage("train-student", 3, **more)
    assert ended.code == 65 and "expected score pctlike, holds pctr, pcvr, pctcvr; run dump-logits again" in ended.err


@pytest.mark.parametrize(("model", "gates"), [("ple", True), ("shared_bottom", False)])
def test_other_teachers(world: Path, tmp_path: Path, model: str, gates: bool) -> None:
    config = a_config()
    config["teacher"] |= {"model": model}
    if model == "ple":
        config["teacher"] |= {"num_task_experts": 1, "num_levels": 2}
    else:
        del config["teacher"]["num_experts"]
    project = Project.create(tmp_path, world, config=config)
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert ended.code == 0, ended.err
    made = project.done("train-teacher", 2)
    assert made["up_to_date"] and made["metrics"]["held_out.ctr.auc"] > 0.5
    assert any(k.startswith("gate.") for k in made["metrics"]) == gates
    found = project.done("evaluate", 3)["metrics"]
    assert found["student.kendall_tau"] > 0.2 and math.isfinite(found["teacher.ctcvr.auc"])
