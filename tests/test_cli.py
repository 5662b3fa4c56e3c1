"""The whole chain through the command line, on a small click-bait world and on logs of other shapes."""

from __future__ import annotations

import copy
import datetime as dt
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from worlds import BASE, DAYS, JSON_KEYS, Project, assert_one_line, dmtl, events, reshape

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.values import sizes
from dmtl_cli.nn import precision
from dmtl_cli.runs.contents import decoding
from dmtl_cli.synth.generate import generate

STAGES = (
    "build-profile",
    "train-teacher",
    "dump-logits",
    "train-student",
    "export",
    "evaluate",
    "train-joint",
    "compare",
)


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=200, items=120, events_per_day=4000, seed=1)
    return out


@pytest.fixture(scope="session")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[dict[str, Any]]]:
    """Days 1 to 3 published by `backfill`, and what it said. Read only: a test that writes takes `project`."""
    made = Project.create(tmp_path_factory.mktemp("chain"), world / "log", world / "truth")
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[2], "--json")
    assert (ended.code, ended.err) == (0, "")
    return made, ended.every


@pytest.fixture
def project(chain: tuple[Project, list[dict[str, Any]]], world: Path, tmp_path: Path) -> Project:
    """A copy of the chain's workspace, to be changed."""
    made = Project.create(tmp_path, world / "log", world / "truth")
    shutil.copytree(chain[0].ws, made.ws)
    return made


@pytest.fixture
def fresh(world: Path, tmp_path: Path) -> Project:
    return Project.create(tmp_path, world / "log", world / "truth")


def by_stage(results: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    out: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in results:
        out.setdefault((r["stage"], r["day"]), []).append(r)
    return out


# -- the chain --------------------------------------------------------------------------------------------------------


def test_backfill_publishes_every_stage_of_every_day(chain: tuple[Project, list[dict[str, Any]]]) -> None:
    project, results = chain
    first = ["profile", "teacher", "scores"]
    assert [r["stage"] for r in results if r["day"] == DAYS[0]] == first
    for day in DAYS[1:3]:
        said = [r["stage"] for r in results if r["day"] == day]
        assert said == ["profile", "evaluation", "teacher", "scores", "scores", "student", "export"]
    for r in results:
        assert set(r) == JSON_KEYS and not r["up_to_date"]
        assert Path(r["path"]).name == f"run-{r['run_id']}" and (Path(r["path"]) / "manifest.json").is_file()
        assert all(math.isfinite(v) for v in r["metrics"].values())
    latest = (project.ws / "export" / "LATEST").read_text()
    assert latest == f"day={DAYS[2]}/run-{results[-1]['run_id']}\n"
    assert project.scratch_left() == []
    assert "not due, it learns from a teacher of 2025-12-29 to 2025-12-31" in project.logged("backfill", 1)


def base_rates(e: pl.DataFrame, threshold: float) -> dict[str, float]:
    """The losses of a teacher that knows the shares of clicks and long reads, and nothing else."""
    click = e["click"] == 1
    read = click & (e["read_seconds"] > threshold).fill_null(False)
    shares = {"ctr": click.mean(), "ctcvr": read.mean(), "cvr": read.sum() / click.sum()}
    return {k: -p * math.log(p) - (1 - p) * math.log(1 - p) for k, p in shares.items()}  # type: ignore[operator,arg-type]


def test_metrics_move_the_right_way(chain: tuple[Project, list[dict[str, Any]]], world: Path) -> None:
    found = by_stage(chain[1])
    teachers = [found["teacher", d][0]["metrics"] for d in DAYS[:3]]
    for day, teacher in zip(DAYS, teachers, strict=False):
        base = base_rates(events(world / "log", day), teacher["threshold.seconds"])
        assert all(teacher[f"loss.factors.{task}"] < base[task] - 0.05 for task in ("ctr", "cvr"))
        gained = [base[task] - teacher[f"loss.{task}"] for task in base]  # by a network of 16 steps a day
        assert min(gained) > 0 and sum(gained) > (0.05 if day == DAYS[2] else 0.005)
    assert teachers[2]["held_out.ctr.auc"] > 0.6, "on rows that were not learned"
    kd = [found["student", d][0]["metrics"]["loss.kd"] for d in DAYS[1:3]]
    assert all(0 <= x < 0.001 for x in kd)  # of teachers that differ in how much they say, so r2 tells who is nearer
    r2 = [found["student", d][0]["metrics"]["distill.r2"] for d in DAYS[1:3]]
    assert r2[1] > r2[0]
    student = found["student", DAYS[1]][0]
    assert student["metrics"]["coverage.replay"] == student["metrics"]["coverage.rescore"] == 1
    assert student["rows"]["replay"] == student["metrics"]["rows.replay"] > 10_000
    measured = found["evaluation", DAYS[2]][0]["metrics"]
    assert measured["student.teacher_overlap@10"] > 0.6 and measured["student.kendall_tau"] > 0.6
    assert measured["student.read_seconds@50"] > measured["random.read_seconds@50"] * 1.05
    assert measured["oracle.read_seconds@50"] > measured["student_teacher.read_seconds@50"]
    assert measured["teacher.ctcvr.auc"] > 0.53
    assert 0.6 < measured["teacher.ctr.pcoc"] < 1.6
    for name in ("student.click.recall@10", "student.read.ndcg@50.fresh", "student.time_recall@100"):
        assert 0 <= measured[name] <= 1


def test_each_stage_alone_makes_what_run_makes(
    chain: tuple[Project, list[dict[str, Any]]], world: Path, tmp_path: Path
) -> None:
    """Another workspace, and the data in another folder: the same ids; and a second run publishes nothing."""
    shutil.copytree(world, tmp_path / "moved")
    other = Project.create(tmp_path / "other", tmp_path / "moved/log", tmp_path / "moved/truth")
    expected = by_stage(chain[1])
    steps = [
        ("build-profile", 1, (), expected["profile", DAYS[0]][0]),
        ("train-teacher", 1, (), expected["teacher", DAYS[0]][0]),
        ("dump-logits", 1, (), expected["scores", DAYS[0]][0]),
        ("evaluate", 2, (), expected["evaluation", DAYS[1]][0]),
        ("build-profile", 2, (), expected["profile", DAYS[1]][0]),
        ("dump-logits", 2, ("--teacher-day", DAYS[0]), expected["scores", DAYS[1]][1]),
        ("train-student", 2, (), expected["student", DAYS[1]][0]),
        ("export", 2, (), expected["export", DAYS[1]][0]),
        ("train-teacher", 2, (), expected["teacher", DAYS[1]][0]),
        ("evaluate", 3, (), expected["evaluation", DAYS[2]][0]),
    ]
    for command, day, arguments, known in steps:
        made = other.done(command, day, *arguments)
        assert (made["run_id"], made["key"]) == (known["run_id"], known["key"]), command
        assert made["up_to_date"] == (command == "export")
    before = other.published()
    for command, day, arguments, known in steps:
        again = other.done(command, day, *arguments)
        assert again["up_to_date"] and again["run_id"] == known["run_id"]
    assert other.published() == before


def test_another_seed_another_run(chain: tuple[Project, list[dict[str, Any]]], fresh: Project) -> None:
    known = by_stage(chain[1])["teacher", DAYS[0]][0]
    made = fresh.done("train-teacher", 1, seed=2)
    assert made["run_id"] != known["run_id"] and made["key"] != known["key"]
    one, other = ({k: v for k, v in x["metrics"].items() if k.startswith("loss.")} for x in (made, known))
    assert one == pytest.approx(other, abs=0.02)


def test_run_and_backfill_again_publish_nothing(project: Project) -> None:
    # the copy has other times: what counts is that nothing changes from here
    before = project.published()
    ended = project.stage("run", 3)
    assert ended.code == 0 and all(r["up_to_date"] for r in ended.every) and len(ended.every) == 7
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert (ended.code, ended.err) == (0, "")
    days = [line for line in ended.out.splitlines() if not line.startswith("  ")]  # without their warnings
    assert [line.endswith("  up to date") for line in days] == [True, True]
    assert project.published() == before


def test_silent_off_a_terminal(project: Project) -> None:
    """At the level of file descriptors: exporters and runtimes print from C++ too."""
    file = project.home / "m.prom"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "dmtl_cli.cli",
            "run",
            "--config",
            project.file,
            "--day",
            DAYS[3],
            "--metrics-file",
            file,
        ],
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    text = file.read_text()
    assert 'dmtl_exit_code{command="run"} 0.0\n' in text
    assert 'dmtl_metric{name="student.ctcvr.auc",stage="evaluation"} 0.' in text
    assert list(project.home.glob(".m.prom*")) == []


# -- looking ----------------------------------------------------------------------------------------------------------


def test_check_shows_the_day(chain: tuple[Project, list[dict[str, Any]]]) -> None:
    project = chain[0]
    ended = project.call("check", "--day", DAYS[0])
    assert (
        ended.code == 0
        and "recent_clicks" in ended.out
        and "128 users and 120 items (200 and 120 with" in ended.out
        and "item_id" in ended.out
    )
    found = project.call("check", "--day", DAYS[0], "--json").json
    assert found["rows"] > 3900 and 0.1 < found["labels"]["click_rate"] < 0.3
    assert found["join"] == {"users_joined": 1.0, "items_joined": 1.0}


def test_recommend(chain: tuple[Project, list[dict[str, Any]]], world: Path) -> None:
    project = chain[0]
    users = pl.read_parquet(Path(project.call("path", "export").out.strip()) / "users.parquet")
    reader = users.filter(pl.col("seen_items").list.len() >= 2)
    user, seen = reader["user_id"][0], set(reader["seen_items"][0].to_list())
    top = project.call("recommend", "--user", user, "-k", 5)
    assert top.code == 0 and len(top.out.splitlines()) == 5
    all_items = project.call("recommend", "--user", user, "-k", 1000, "--json").json["items"]
    morning = pl.read_parquet(world / f"log/items/day={DAYS[3]}/*.parquet", hive_partitioning=False)["item_id"]
    shown = events(world / "log", DAYS[2])["item_id"]
    assert {*shown} > seen and {*morning} - {*shown}, "some are new this morning"
    listed = pl.read_parquet(world / f"log/items/day={DAYS[2]}/*.parquet", hive_partitioning=False)["item_id"]
    retired = {*listed} - {*morning}
    assert sorted(int(i["item_id"]) for i in all_items) == sorted({*morning, *shown} - retired)
    scores = [i["score"] for i in all_items]
    assert scores == sorted(scores, reverse=True)
    for item in all_items:
        assert item["score"] == pytest.approx(item["exposure"] + item["preference"], abs=1e-5)
    assert [line.split("\t")[0] for line in top.out.splitlines()] == [i["item_id"] for i in all_items[:5]]
    left = project.call("recommend", "--user", user, "-k", 1000, "--exclude-seen", "--json").json["items"]
    assert {i["item_id"] for i in left} == {i["item_id"] for i in all_items} - set(map(str, seen))
    unknown = project.call("recommend", "--user", 5)
    assert unknown.code == 66 and "user 5 is not in the export" in unknown.err
    assert project.call("recommend", "--user", "abc").code == 2


def test_path(chain: tuple[Project, list[dict[str, Any]]]) -> None:
    project, results = chain
    found = by_stage(results)
    for stage in ("teacher", "student", "export"):
        assert project.call("path", stage).out.strip() == found[stage, DAYS[2]][0]["path"]
    scores = project.call("path", "scores", "--day", DAYS[1], "--teacher-day", DAYS[0]).out.strip()
    assert scores == found["scores", DAYS[1]][1]["path"]
    missing = project.call("path", "teacher", "--day", DAYS[3])
    assert missing.code == 66 and DAYS[3] in missing.err
    assert project.call("path", "attic").code == 2


def test_status_and_max_age(chain: tuple[Project, list[dict[str, Any]]]) -> None:
    project = chain[0]
    assert project.call("status", "--max-age", 3).code == 81, "judged by the clock: the chain stopped long ago"
    found = project.call("status", "--day", DAYS[2], "--json").json
    assert found["days"][DAYS[0]]["student"] == found["days"][DAYS[0]]["evaluation"] == "not due"
    assert set(found["days"][DAYS[2]].values()) == {"published"}
    assert found["served_day"] == DAYS[2] and found["served_age_days"] == 0
    assert project.call("status", "--day", DAYS[2], "--max-age", 0).code == 0
    old = project.call("status", "--day", "2026-01-10", "--max-age", 3)
    assert old.code == 81 and f"{DAYS[2]} is served, 7 days old" in old.err and "served:" in old.out


def test_status_marks_children_of_a_retrained_teacher(project: Project) -> None:
    assert project.stage("train-teacher", 2, seed=2).code == 0
    days = project.call("status", "--json").json["days"]
    assert days[DAYS[1]]["teacher"] == "published"
    assert days[DAYS[1]]["scores"] == "stale" and days[DAYS[2]]["rescores"] == "stale"
    assert days[DAYS[2]]["teacher"] == "stale" and days[DAYS[1]]["student"] == "published"
    assert "stale" in project.call("status").out


def test_help_answers_at_once(chain: tuple[Project, list[dict[str, Any]]]) -> None:
    """In seconds of the processor, as the machine may do other work."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "dmtl_cli.cli", "--help"], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0 and "train-teacher" in done.stdout
    assert min(took) < 0.6


# -- logs of other shapes ---------------------------------------------------------------------------------------------


def whole_chain(project: Project, first: int = 1) -> dict[str, Any]:
    """Teacher, both dumps, student, evaluation of the day after; returns the last."""
    project.done("train-teacher", first)
    project.done("dump-logits", first)
    project.done("dump-logits", first + 1, "--teacher-day", DAYS[first - 1])
    made = project.done("train-student", first + 1)
    assert made["metrics"]["coverage.replay"] == 1
    measured: dict[str, Any] = project.done("evaluate", first + 2)["metrics"]
    assert math.isfinite(measured["student.click.recall@10"])
    return measured


def shape(log: Path, home: Path, events: dict[str, Any], features: list[dict[str, Any]], **data: Any) -> Project:
    config = copy.deepcopy(BASE)
    config["data"] = {"events": events, **data}
    config["features"] = features
    return Project.create(home, log, config=config)


def categorical(name: str, side: str) -> dict[str, Any]:
    return {"name": name, "side": side, "kind": "categorical"}


def test_conversion_and_text_ids(world: Path, tmp_path: Path) -> None:
    def change(e: pl.DataFrame, day: str) -> pl.DataFrame:
        return e.select(
            ("u" + pl.col("user_id").cast(pl.String)).alias("who"),
            ("é-" + pl.col("item_id").cast(pl.String)).alias("what"),
            "click",
            (pl.col("read_seconds") > 40).fill_null(False).alias("liked"),
            pl.col("request_id").cast(pl.String),
        )

    reshape(world / "log", tmp_path / "log", change, 3)
    names = {"user": "who", "item": "what", "click": "click", "conversion": "liked", "request": "request_id"}
    project = shape(tmp_path / "log", tmp_path, names, [categorical("who", "user"), categorical("what", "item")])
    measured = whole_chain(project)
    assert "teacher.cvr.auc" in measured and "threshold.seconds" not in measured
    part = next((project.ws / "scores").rglob("part-*.parquet"))
    scores = pl.read_parquet(part, hive_partitioning=False)
    assert scores["user_id"].dtype == pl.String and scores["item_id"][0].startswith("é-")
    user = scores["user_id"][0]
    top = project.call("recommend", "--user", user, "-k", 3)
    assert top.code == 0 and top.out.startswith("é-")


def test_positives_only_with_inline_features(world: Path, tmp_path: Path) -> None:
    items = pl.read_parquet(world / "log/items/**/*.parquet", hive_partitioning=False).unique("item_id")

    def change(e: pl.DataFrame, day: str) -> pl.DataFrame:
        clicked = e.filter(pl.col("click") == 1).select("user_id", "item_id", "time", "read_seconds")
        return clicked.join(items.select("item_id", "author"), on="item_id", how="left")

    reshape(world / "log", tmp_path / "log", change, 3)
    project = shape(
        tmp_path / "log",
        tmp_path,
        {"time": "time", "duration": "read_seconds"},
        [categorical("user_id", "user"), categorical("item_id", "item"), categorical("author", "item")],
    )
    measured = whole_chain(project)
    assert "teacher.ctr.auc" not in measured, "there are no exposures to tell clicks from"
    assert 0 < measured["teacher.ctr.auc.uniform"] < 1
    assert project.stage("train-teacher", 1, teacher__samples="exposed").code == 78


def test_date_column_with_a_time_zone(world: Path, tmp_path: Path) -> None:
    """One folder for all days; a day is the local one, so the first hours of UTC's day 2 are Shanghai's day 2."""
    folder = tmp_path / "log/events"
    folder.mkdir(parents=True)
    whole = pl.concat([events(world / "log", d) for d in DAYS]).with_columns(pl.from_epoch("time", "ms").alias("at"))
    whole.write_parquet(folder / "all.parquet")
    names = {"date_column": "at", "time": "time", "click": "click", "duration": "read_seconds"}
    features = [categorical("user_id", "user"), categorical("item_id", "item")]
    project = shape(tmp_path / "log", tmp_path, names, features, timezone="Asia/Shanghai")
    whole_chain(project, 2)
    local = whole["at"].dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Shanghai").dt.date()
    assert project.call("check", "--day", DAYS[1], "--json").json["rows"] == (local == dt.date(2026, 1, 2)).sum()
    del project.config["data"]["timezone"]
    project.write()
    ended = project.stage("check", 2)
    assert ended.code == 78 and "data.timezone" in ended.err
    ended = project.call("check", "--day", "2027-01-01", data__timezone="UTC")
    assert ended.code == 66 and "2027-01-01" in ended.err


def test_weights_and_requests(world: Path, tmp_path: Path) -> None:
    def change(e: pl.DataFrame, day: str) -> pl.DataFrame:
        return e.with_columns((1.0 + pl.col("item_id") % 3).alias("w"))

    reshape(world / "log", tmp_path / "log", change, 3)
    names = {"click": "click", "duration": "read_seconds", "weight": "w", "request": "request_id"}
    project = shape(tmp_path / "log", tmp_path, names, [categorical("user_id", "user"), categorical("item_id", "item")])
    whole_chain(project)
    scores = pl.read_parquet(Path(project.call("path", "scores", "--day", DAYS[0]).out.strip()) / "part-00000.parquet")
    exposed = scores.filter(pl.col("pair_source") == "exposed")
    assert set(exposed["group"]) <= set(events(tmp_path / "log", DAYS[0])["request_id"])
    assert (scores.filter(pl.col("pair_source") == "negative")["group"] < 0).all()
    negative = tmp_path / "bad"
    reshape(world / "log", negative, lambda e, day: change(e, day).with_columns(-pl.col("w").alias("w")), 1)
    refused = project.stage("train-teacher", 1, data__root=negative)
    assert refused.code == 65 and "column w, row 0" in refused.err


# -- ways, floors, losses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", ["[match, rescore]", "[replay, match, rescore]"])
def test_ways(project: Project, ways: str) -> None:
    made = project.done("train-student", 3, student__distill__ways=ways)
    named = ways.strip("[]").split(", ")
    assert {k for k in made["metrics"] if k.startswith("coverage.")} == {f"coverage.{w}" for w in named}
    for way in named:
        covered = made["metrics"][f"coverage.{way}"]
        assert covered == 1 if way != "match" else 0 < covered < 0.9
        assert f"rows have a score to learn ({way}, " in project.logged("train-student", 3)


def test_a_student_of_a_day_in_buckets(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = project.done("train-student", 3, student__distill__ways="[match]")
    monkeypatch.setattr(sizes, "BLOCK", 128)  # 4 buckets of 1024 events
    made = project.done("train-student", 3, student__distill__ways="[match]", student__learning_rate=0.011)
    assert not made["up_to_date"] and made["rows"] == whole["rows"]
    assert made["metrics"]["coverage.match"] == whole["metrics"]["coverage.match"] > 0
    assert made["metrics"]["loss.kd"] == pytest.approx(whole["metrics"]["loss.kd"], rel=0.2)


def test_a_floor_refuses_before_training(project: Project) -> None:
    before = project.published()
    ended = project.stage("train-student", 3, student__distill__ways="[match]", student__distill__floors__match=0.99)
    assert ended.code == 80 and "coverage of match is 0." in ended.err and "below its floor 0.99" in ended.err
    assert project.published() == before and project.scratch_left() == []
    assert '"what": "student' not in project.logged("train-student", 3), "no row was learned"


def test_an_absent_way_is_announced(project: Project) -> None:
    shutil.rmtree(project.ws / f"scores/day={DAYS[2]}/teacher={DAYS[1]}")
    made = project.done("train-student", 3)
    assert made["metrics"]["coverage.rescore"] == 0 and made["metrics"]["coverage.replay"] == 1
    said = project.logged("train-student", 3)
    assert f"rescore: no scores of {DAYS[2]} by teacher {DAYS[1]}, counts 0" in said
    ended = project.stage("train-student", 3, student__distill__floors__rescore=0.5)
    assert ended.code == 80 and "rescore" in ended.err


def test_no_folder_is_taken_for_a_pattern(
    chain: tuple[Project, list[dict[str, Any]]], world: Path, tmp_path: Path
) -> None:
    """A workspace and a log lie where the user says, and so do the files of users to answer."""
    home = tmp_path / "of [20] a*b?"
    made = Project.create(home, Path(shutil.copytree(world / "log", home / "log")))
    shutil.copytree(chain[0].ws, made.ws)
    assert made.call("run", "--day", DAYS[3]).code == 0
    users = pl.read_parquet(world / f"log/users/day={DAYS[3]}").select("user_id").head(3)
    for kind in ("csv", "parquet"):
        file = home / f"users.{kind}"
        getattr(users, f"write_{kind}")(file)
        ended = made.call("recommend", "--users", file, "--out", home / f"{kind}-out.parquet", "-k", 5)
        assert ended.code == 0, ended.err


def test_another_threshold_is_another_chain(project: Project) -> None:
    """It is carried: a number that a later config gives is refused, not ignored."""
    carried = project.call("train-teacher", "--day", DAYS[2], "--json").json["metrics"]["threshold.seconds"]
    for command in ("train-teacher", "train-joint"):
        assert project.stage(command, 1, labels__long_read=carried).code == 0
        ended = project.stage(command, 2, labels__long_read=carried + 1)
        assert ended.code == 65 and "labels.long_read is" in ended.err and "use a new workspace" in ended.err


def test_another_rule_of_a_long_read_is_another_chain(fresh: Project) -> None:
    fresh.done("build-profile", 1)
    fresh.done("train-teacher", 1)
    for command in ("build-profile", "train-teacher"):
        ended = fresh.stage(command, 2, labels__long_read__quantile=0.9)
        assert ended.code == 65 and "labels.long_read is the quantile 0.9, the chain's is mean, which was " in ended.err
        assert "use a new workspace for another label" in ended.err


def test_a_conversion_in_place_of_a_duration_is_another_chain(fresh: Project) -> None:
    """And a profile counts no reads by it before the teacher refuses it."""
    fresh.done("build-profile", 1)
    events = fresh.config["data"]["events"]
    events["conversion"] = "click"
    del events["duration"]
    fresh.write()
    ended = fresh.stage("run", 2)
    assert ended.code == 65 and "the config's label is data.events.conversion, the chain's is " in ended.err
    assert not (fresh.ws / "profile" / f"day={DAYS[1]}").exists()


def test_a_student_learns_one_fused_score(fresh: Project) -> None:
    """Not that of the days before an edit beside that of the day."""
    fresh.config["student"]["distill"] = {"losses": [{"loss": "kl", "target": "pfused"}]}
    fresh.config["scores"]["fusion"] = {"pctr": 1.0, "pcvr": 1.0}
    fresh.write()
    assert fresh.call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
    other: dict[str, Any] = {"scores__fusion__pcvr": 2.0}
    ended = fresh.stage("run", 3, **other)
    assert ended.code == 65 and "pfused was made with scores.fusion {'pctr': 1.0, 'pcvr': 1.0}, the config" in ended.err
    assert ended.err.endswith(f"run dmtl dump-logits --day {DAYS[1]}\n")
    fresh.done("dump-logits", 2, **other)
    assert fresh.stage("run", 3, **other).code == 0


def test_old_scores_are_refused(project: Project) -> None:
    for day in DAYS[1:3]:
        shutil.rmtree(project.ws / f"teacher/day={day}")
    ended = project.stage("train-student", 4, student__distill__max_age_days=2)
    assert ended.code == 65 and "got 3" in ended.err and "max_age_days" in ended.err
    ended = project.stage("train-student", 3, "--scores-day", DAYS[2])
    assert ended.code == 65 and "got 0" in ended.err and "min_age_days" in ended.err


def test_settings_of_speed(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)  # torch computes it anywhere, only slowly
    plain = fresh.done("train-teacher", 1)
    half = fresh.done("train-teacher", 1, teacher__precision="bf16")
    assert half["metrics"]["loss"] != plain["metrics"]["loss"] == pytest.approx(half["metrics"]["loss"], rel=0.02)
    together = fresh.done("train-teacher", 1, teacher__user_rows=50)
    assert together["rows"]["learned"] == plain["rows"]["learned"]
    assert (
        together["metrics"]["loss"] != plain["metrics"]["loss"] == pytest.approx(together["metrics"]["loss"], rel=0.1)
    )
    joint = fresh.done("train-joint", 1, teacher__user_rows=50, teacher__precision="bf16", student__precision="bf16")
    assert math.isfinite(joint["metrics"]["loss.kd"])
    adam = {"teacher__embedding_optimizer": "adam", "teacher__embedding_learning_rate": 0.001}
    first = fresh.done("train-teacher", 1, **adam)["metrics"]
    assert first["embedding.untouched"] == plain["metrics"]["embedding.untouched"]
    fresh.done("train-teacher", 2, **adam)
    ended = fresh.stage("train-teacher", 2)
    assert ended.code == 65 and "embedding_optimizer" in ended.err


def test_bf16_is_refused_where_the_processor_has_none(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    for command, key in (("train-teacher", "teacher"), ("train-student", "student"), ("train-joint", "student")):
        hard = {"student__distill__w_kd": 0, "student__hard__w_hard": 1} if command == "train-student" else {}
        ended = fresh.stage(command, 1, **{f"{key}__precision": "bf16"}, **hard)
        assert ended.code == 69 and f"{key}.precision" in ended.err and "fp32" in ended.err
    assert not fresh.published()


def test_hard_losses_need_no_scores(fresh: Project) -> None:
    plain = {"student__distill__w_kd": 0, "student__hard__w_hard": 1}
    click = fresh.done("train-student", 2, student__hard__loss="sampled_softmax", **plain)
    assert "loss.hard" in click["metrics"] and "loss.kd" not in click["metrics"]
    assert not any(k.startswith(("coverage", "gradient")) for k in click["metrics"])
    ended = fresh.stage("train-student", 2, student__hard__label="long_read", **plain)
    assert ended.code == 66 and "train-teacher" in ended.err
    fresh.done("train-teacher", 1)
    read = fresh.done("train-student", 2, student__hard__label="long_read", student__hard__loss="pointwise", **plain)
    assert read["metrics"]["threshold.seconds"] > 0 and math.isfinite(read["metrics"]["loss.hard"])


def test_both_losses_report_their_gradients(project: Project) -> None:
    made = project.done("train-student", 3, student__hard__w_hard=0.5, student__distill__ways="[replay]")
    assert {"loss.kd", "loss.hard", "gradient.kd", "gradient.hard"} <= set(made["metrics"])
    assert made["rows"]["hard"] > 0


# -- how a command fails ----------------------------------------------------------------------------------------------


def test_not_due_and_missing_predecessors(fresh: Project) -> None:
    early = fresh.stage("evaluate", 1)
    assert (early.code, early.out, early.err) == (0, "", "") and "not due" in fresh.logged("evaluate", 1)
    for command, said in {
        "dump-logits": "no published teacher",
        "train-student": "no stored scores of a teacher",
        "export": "no published student",
        "compare": "no student was exported",
        "recommend": "no export is served",
    }.items():
        ended = fresh.call("recommend", "--user", 1) if command == "recommend" else fresh.stage(command, 2)
        assert ended.code == 66 and said in ended.err and re.search("run dmtl|backfill", ended.err), ended.err
        assert command != "recommend" or "run dmtl run first (a chain's second day has" in ended.err
    assert "run dmtl run first: a chain's second day has" in fresh.call("rollback", "--unpin").err
    absent = fresh.call("train-teacher", "--day", "2026-02-01")
    assert absent.code == 66 and f"the log has {DAYS[0]} .. {DAYS[3]}" in absent.err
    nowhere = fresh.stage("train-teacher", 1, data__root=fresh.home / "nowhere")
    assert nowhere.code == 66 and "nowhere/events" in nowhere.err


def test_locked_by_another_process(fresh: Project) -> None:
    lock = fresh.ws / "locks" / "chain.lock"
    lock.parent.mkdir(parents=True)
    code = f"import fcntl,sys; f=open({str(lock)!r},'w'); fcntl.flock(f,2); print(1,flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline()
        ended = fresh.stage("train-teacher", 1)
        holder.communicate()
    assert ended.code == 75 and str(lock) in ended.err and "retry" in ended.err
    assert fresh.done("train-teacher", 1)["up_to_date"] is False


@pytest.mark.parametrize(
    "arguments",
    [
        ["--day", "2026-1-1"],
        ["--day", "yesterday"],
        ["--day", "2026-02-30"],
        [],
        ["--day", DAYS[0], "--nope"],
        ["--day", DAYS[0], "--threads", "0"],
        ["--day", DAYS[0], "--device", "tpu"],
        ["--day", DAYS[0], "--set", "seed"],
    ],
)
def test_usage(fresh: Project, arguments: list[str]) -> None:
    for command in STAGES:
        ended = fresh.call(command, *arguments)
        assert ended.code == 2 and ended.out == "" and "--" in ended.err
    assert not fresh.ws.exists()


def test_usage_of_the_rest(fresh: Project) -> None:
    assert dmtl("frobnicate").code == 2
    assert fresh.call("backfill", "--from", DAYS[2], "--to", DAYS[0]).code == 2
    assert fresh.call("dump-logits", "--day", DAYS[1], "--teacher-day", "x").code == 2
    assert "--scores-day" in fresh.call("train-student", "--day", DAYS[1], "--scores-day", "x").err
    assert fresh.call("status", "--day", "x").code == 2


def test_config_mistakes_name_file_and_line(fresh: Project) -> None:
    text = fresh.file.read_text()
    fresh.file.write_text(text.replace("num_experts", "num_expert").replace("max_users: 100", "max_users: lots"))
    line = 1 + fresh.file.read_text().splitlines().index("  num_expert: 2")
    for command in ("train-teacher", "check"):
        ended = fresh.call(command, "--day", DAYS[0])
        assert ended.code == 78 and f"{fresh.file}:{line}: unknown key teacher.num_expert" in ended.err
        assert "did you mean num_experts?" in ended.err and "1 more, in " in ended.err
    fresh.ws.mkdir()
    fresh.call("train-teacher", "--day", DAYS[0])
    assert "evaluate.max_users" in fresh.logged("train-teacher", 1), "every mistake is in the log"
    fresh.file.write_text(text)
    ended = fresh.stage("train-teacher", 1, teacher__epochs="many")
    assert ended.code == 78 and "--set teacher.epochs" in ended.err
    gone = dmtl("status", "--config", fresh.home / "gone.yaml")
    assert gone.code == 78 and "gone.yaml" in gone.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_device(fresh: Project) -> None:
    ended = fresh.stage("train-teacher", 1, "--device", "cuda")
    assert ended.code == 69 and "cuda" in ended.err


def test_days_without_labels(world: Path, fresh: Project, tmp_path: Path) -> None:
    ended = fresh.stage("train-teacher", 1, labels__long_read=1e9)
    assert ended.code == 65 and "is a long read" in ended.err and DAYS[0] in ended.err
    quiet = tmp_path / "quiet"
    shutil.copytree(world / "log", quiet)
    reshape(world / "log", tmp_path / "none", lambda e, day: e.with_columns(click=pl.lit(0, pl.Int8)), 1)
    shutil.copytree(tmp_path / "none/events", quiet / "events", dirs_exist_ok=True)
    ended = fresh.stage("train-teacher", 1, data__root=quiet)
    assert ended.code == 65 and DAYS[0] in ended.err and "rows is a click" in ended.err
    assert "run the next with --allow-gap" in ended.err
    assert not list(fresh.ws.glob("teacher/*/run-*")) and fresh.scratch_left() == []


def test_a_workspace_that_is_a_file(fresh: Project) -> None:
    fresh.ws.write_text("in the way")
    for command in ("train-teacher", "evaluate", "run"):
        ended = fresh.stage(command, 1)
        assert ended.code == 73 and str(fresh.ws) in ended.err, ended.err
    assert fresh.ws.read_text() == "in the way"


@pytest.mark.parametrize("error", [RuntimeError, pl.exceptions.PanicException])
def test_a_bug(fresh: Project, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """A panic of polars is no Exception."""

    def broken(*_: object) -> None:
        raise error("shape mismatch\n" + "x" * 1000)

    monkeypatch.setattr("dmtl_cli.stages.train_teacher.train_teacher", broken)
    file = fresh.home / "m.prom"
    ended = fresh.stage("train-teacher", 1, "--metrics-file", file)
    log = fresh.ws / "logs" / f"train-teacher-{DAYS[0]}.jsonl"
    assert ended.code == 70 and f"bug: {error.__name__}: shape mismatch" in ended.err and str(log) in ended.err
    assert "in broken" in log.read_text() and "Traceback" in log.read_text()
    numbers = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert numbers == ['dmtl_exit_code{command="train-teacher"} 70.0']
    monkeypatch.setattr("dmtl_cli.stages.check.check", broken)
    ended = fresh.call("check", "--day", DAYS[0])
    assert ended.code == 70
    assert "Traceback" in next(fresh.home.glob("dmtl-bug-*.jsonl")).read_text()


def test_a_published_file_that_makes_a_library_panic_is_damaged(tmp_path: Path) -> None:
    said = "users: not what a stage writes: PanicException: bytes"
    with pytest.raises(UserError, match=said) as e, decoding(tmp_path / "users"):
        raise pl.exceptions.PanicException("bytes")
    assert e.value.code == 65
    with pytest.raises(KeyboardInterrupt), decoding(tmp_path / "users"):
        raise KeyboardInterrupt


def test_a_metrics_file_that_cannot_be_written(fresh: Project) -> None:
    for command, day in (("train-teacher", 1), ("dump-logits", 3)):
        ended = fresh.stage(command, day, "--metrics-file", fresh.home / "no/m.prom")
        assert ended.code == 73 and "--metrics-file" in ended.err and str(fresh.home / "no") in ended.err
    assert fresh.stage("dump-logits", 3, "--metrics-file", fresh.home / "m.prom").code == 66
    assert 'dmtl_exit_code{command="dump-logits"} 66.0\n' in (fresh.home / "m.prom").read_text()


def test_ctrl_c_leaves_no_litter(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        assert fresh.scratch_left()
        raise KeyboardInterrupt

    monkeypatch.setattr("dmtl_cli.stages.train_teacher.train", interrupted)
    ended = fresh.stage("train-teacher", 1)
    assert ended.code == 130 and "interrupted" in ended.err
    assert fresh.scratch_left() == [] and not (fresh.ws / "teacher").exists()


def test_sigterm(fresh: Project) -> None:
    command = [sys.executable, "-m", "dmtl_cli.cli", "train-teacher", "--config", fresh.file, "--day", DAYS[0]]
    with subprocess.Popen([*command, "--set", "teacher.epochs=100000"], stderr=subprocess.PIPE, text=True) as running:
        give_up = time.monotonic() + 60
        while not list(fresh.ws.glob("scratch/*/tmp/*.arrow")) and time.monotonic() < give_up:
            time.sleep(0.05)
        time.sleep(0.3)
        running.send_signal(signal.SIGTERM)
        err = running.communicate(timeout=30)[1]
    assert running.returncode == 128 + signal.SIGTERM
    assert_one_line(err)
    fresh.done("build-profile", 1)  # a signal within an import leaves scratch to the next command
    assert fresh.scratch_left() == []


def test_a_closed_pipe_is_no_traceback(chain: tuple[Project, list[dict[str, Any]]]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "dmtl_cli.cli", "status", "--config", chain[0].file],
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_damage_is_noticed_and_healed(project: Project) -> None:
    teacher = Path(project.call("path", "teacher", "--day", DAYS[1]).out.strip())
    victim = max(teacher.glob("*.safetensors"), key=lambda f: f.stat().st_size)
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ended = project.stage("dump-logits", 3, "--teacher-day", DAYS[1])
    assert ended.code == 65 and str(victim) in ended.err and "sha256" in ended.err
    healed = project.done("train-teacher", 2)
    assert not healed["up_to_date"] and healed["path"] == str(teacher)
    assert victim.read_bytes() == whole
    assert project.done("dump-logits", 3, "--teacher-day", DAYS[1])["up_to_date"]


def test_a_damaged_or_lost_export_is_healed(project: Project) -> None:
    export = Path(project.call("path", "export").out.strip())
    latest = project.ws / "export/LATEST"
    pointed = latest.read_text()
    latest.write_text("nonsense\n")
    user = pl.read_parquet(export / "users.parquet")["user_id"][0]
    assert project.call("recommend", "--user", user).code == 65
    made = project.done("train-student", 3)
    assert made["up_to_date"] and latest.read_text() == pointed, "LATEST alone was lost"
    (export / "item_vectors.parquet").write_bytes(b"PAR1")
    ended = project.call("recommend", "--user", user)
    assert ended.code == 65 and "item_vectors.parquet" in ended.err
    assert project.done("export", 3)["path"] == str(export)
    assert project.call("recommend", "--user", user).code == 0


def test_scores_of_two_teachers_are_refused(project: Project) -> None:
    project.done("train-teacher", 2, seed=2)
    project.done("dump-logits", 3, "--teacher-day", DAYS[1], seed=2)
    before = project.published()
    ended = project.stage("train-student", 3)
    assert ended.code == 65 and "expected scores by one run of teacher" in ended.err
    assert "dump-logits --teacher-day" in ended.err
    assert project.published() == before


def test_backfill_stops_at_a_failure_and_goes_on_after_a_refusal(project: Project) -> None:
    low = {"student__distill__floors__match": 0.99, "student__distill__ways": "[replay, match]"}
    ended = project.call("backfill", "--from", DAYS[1], "--to", DAYS[2], **low)
    assert ended.code == 80
    said = project.logged("backfill", 2)
    assert said.count("below its floor") >= 2, "the second day was tried too"
    ended = project.call("backfill", "--from", DAYS[2], "--to", "2026-01-06")
    assert ended.code == 66 and "2026-01-05" in ended.err
    assert (project.ws / f"export/day={DAYS[3]}/CURRENT").exists()


def test_set_is_the_same_as_the_file(project: Project) -> None:
    made = project.stage("train-teacher", 3, seed=5, threads=1).json
    project.config["seed"] = 5
    project.write()
    assert project.done("train-teacher", 3)["up_to_date"]
    assert project.done("train-teacher", 3, "--threads", 1)["run_id"] == made["run_id"]


def test_other_features_need_another_workspace(project: Project) -> None:
    """A model would take a column that it no longer finds for unknown, and serve nonsense."""
    fewer = ("--set", "teacher.features=[user_id,item_id]", "--set", "student.features=[user_id,item_id]")
    for command, day in (
        ("train-teacher", 3),
        ("dump-logits", 2),
        ("export", 2),
        ("train-student", 3),
        ("evaluate", 3),
    ):
        done = project.call(command, "--day", DAYS[day], *fewer)
        assert done.code == 65 and "features are not the config's" in done.err, command


def test_a_student_needs_the_scores_of_the_current_teacher(project: Project) -> None:
    assert project.stage("train-teacher", 2, seed=2).code == 0
    done = project.stage("train-student", 3)
    assert done.code == 65 and "its scores are by run" in done.err and "dump-logits --teacher-day" in done.err


def test_what_was_published_before_a_failure_is_told(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "m.prom"
    floor = ("--set", "student.distill.floors.match=0.99", "--set", "student.distill.ways=[replay,match]")
    done = project.call("run", "--day", DAYS[2], "--json", "--metrics-file", file, *floor)
    assert done.code == 80 and '"stage": "teacher"' in done.out and 'stage="teacher"' in file.read_text()


def test_status_tells_a_refused_day(project: Project) -> None:
    floor = {"student__distill__ways": "[match]", "student__distill__floors__match": 0.9}
    assert project.stage("train-student", 3, **floor).code == 80
    shutil.rmtree(project.ws / f"student/day={DAYS[2]}")
    assert project.call("status", "--json").json["days"][DAYS[2]]["student"] == "refused"
    project.done("train-student", 3)
    assert project.call("status", "--json").json["days"][DAYS[2]]["student"] == "published"


def test_a_large_day_is_measured_on_whole_users(project: Project) -> None:
    """Of a day with more events than max_rows those of a sample of users: about the same numbers, bounded memory."""
    whole = project.done("evaluate", 3)["metrics"]
    part = project.done("evaluate", 3, evaluate__max_rows=2500)["metrics"]
    assert part["teacher.ctr.auc"] != whole["teacher.ctr.auc"]
    assert part["teacher.ctr.auc"] == pytest.approx(whole["teacher.ctr.auc"], abs=0.06)
    assert part["teacher.click.recall@50"] == whole["teacher.click.recall@50"], "retrieval has its own sample"
