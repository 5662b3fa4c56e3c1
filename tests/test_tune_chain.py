"""What a log decides, through the command line: once a chain, carried by every stage; known answers of made logs."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from forging import forge
from worlds import BASE, DAYS, JSON_KEYS, Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.synth.generate import generate
from dmtl_cli.tune.plan import rows_of_trials
from dmtl_cli.tune.table import by_hand, keys_of, table

WRITTEN = {"batch_size": 256, "learning_rate": 0.003, "unknown_share": 0.05}
CONFIG: dict[str, Any] = copy.deepcopy(BASE) | {"auto": {"budget": 8}}
CONFIG["teacher"] |= WRITTEN | {"factor_dim": 4, "first_window_days": 1}
CONFIG["student"] |= WRITTEN | {"epochs": 1}
del (
    CONFIG["teacher"]["embedding_learning_rate"],
    CONFIG["teacher"]["epochs"],
    CONFIG["student"]["embedding_learning_rate"],
)
CHOSEN = {"teacher.embedding_learning_rate", "teacher.epochs", "features.min_count", "student.embedding_learning_rate"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=900, seed=1)
    return out


def a_project(home: Path, world: Path, config: dict[str, Any] = CONFIG) -> Project:
    return Project.create(home, world / "log", config=config)


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two days of a chain that begins with trials."""
    project = a_project(tmp_path_factory.mktemp("chain"), world)
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1], "--json")
    assert ended.code == 0, ended.err
    return project


@pytest.fixture
def project(chain: Project, world: Path, tmp_path: Path) -> Project:
    """A copy, to be changed."""
    shutil.copytree(chain.ws, tmp_path / "ws")
    return a_project(tmp_path, world)


def manifest(ws: Path, stage: str, day: int) -> dict[str, Any]:
    folder = ws / stage / f"day={DAYS[day - 1]}"
    text = (folder / (folder / "CURRENT").read_text().strip() / "manifest.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def days_of(ws: Path, stage: str) -> list[str]:
    return sorted(p.name.removeprefix("day=") for p in (ws / stage).glob("day=*"))


def tuned(project: Project, day: int = 1) -> dict[str, Any]:
    """The facts of trials."""
    found: dict[str, Any] = manifest(project.ws, "tune", day)["facts"]
    return found


# -- a chain -----------------------------------------------------------------------------------------------------------


def test_the_first_teacher_makes_trials_and_every_stage_carries_their_choices(chain: Project) -> None:
    assert days_of(chain.ws, "tune") == [DAYS[0]]
    facts = tuned(chain)
    assert facts["chosen"].keys() == CHOSEN and facts["days"] == [DAYS[0]] and facts["measured_on"] == "time"
    assert "warnings" not in facts
    for model in ("teacher", "student"):
        rate, epochs = (facts["chosen"].get(f"{model}.{k}", 1) for k in ("embedding_learning_rate", "epochs"))
        for day in (1, 2) if model == "teacher" else (2,):
            config = manifest(chain.ws, model, day)["config"][model]
            assert (config["embedding_learning_rate"], config["epochs"]) == (rate, epochs)
            assert WRITTEN.items() <= config.items(), "what is written stays"
    assert manifest(chain.ws, "export", 2)["config"]["student"]["embedding_learning_rate"] == rate


def test_each_choice_is_of_a_trial_that_was_taken(chain: Project) -> None:
    facts = tuned(chain)
    for key, value in facts["chosen"].items():
        tried = [t for t in facts["tried"] if key.partition(".")[0] in ("features", t["model"])]
        taken = [t for t in tried if t["taken"] and (key in t or key.endswith(".epochs"))]
        assert taken and taken[-1].get(key, taken[-1]["epochs"]) == value
    first = [t for t in facts["tried"] if (t["model"], t["round"]) == ("teacher", 1)]
    assert len({t["teacher.embedding_learning_rate"] for t in first}) == len(first) > 2
    assert min(t["loss"] for t in first) < 2, "a mean log loss"


def test_the_same_log_decides_the_same_to_the_byte(chain: Project, world: Path, tmp_path: Path) -> None:
    again = a_project(tmp_path, world)
    again.done("tune", 1)
    one, other = (manifest(p.ws, "tune", 1) for p in (chain, again))
    assert one["run_id"] == other["run_id"] and one["facts"] == other["facts"]


def test_without_a_budget_there_are_no_trials(chain: Project, world: Path, tmp_path: Path) -> None:
    bare = a_project(tmp_path, world)
    refused = bare.stage("tune", 1, auto__budget=0)
    assert refused.code == 78 and "auto.budget is 0" in refused.err, "nothing would read them"
    bare.done("train-teacher", 1, auto__budget=0)
    assert days_of(bare.ws, "tune") == []
    assert manifest(bare.ws, "teacher", 1)["config"]["teacher"]["embedding_learning_rate"] is None
    bare.done("train-teacher", 2)
    assert days_of(bare.ws, "tune") == [], "a chain that began without trials goes on without"
    keys = {k["key"]: k["from"] for k in bare.stage("check", 3, "--plan").json["plan"]["keys"]}
    assert keys["teacher.embedding_learning_rate"] == "default, no trials"


def test_a_running_chain_is_tuned_again_but_keeps_its_shapes(project: Project) -> None:
    project.config["teacher"]["first_window_days"] = 2
    project.write()
    project.done("tune", 2)
    facts = tuned(project, 2)
    assert facts["days"] == DAYS[:2] and facts["measured_on"] == "days"
    first = tuned(project, 1)["chosen"]["features.min_count"]
    assert facts["chosen"]["features.min_count"] == first
    assert not any("features.min_count" in t for t in facts["tried"])
    rate = tuned(project, 2)["chosen"]["teacher.embedding_learning_rate"]
    project.done("train-teacher", 3)
    assert manifest(project.ws, "teacher", 3)["config"]["teacher"]["embedding_learning_rate"] == rate


def test_factors_that_trials_of_before_chose_stay(project: Project) -> None:
    """Trials chose `factor_dim` once; other ones than a chain has are no warm start."""
    del project.config["teacher"]["factor_dim"]
    project.write()

    def chose(_: Path, stored: dict[str, Any]) -> None:
        stored["facts"]["chosen"]["teacher.factor_dim"] = 4

    forge(project.ws / f"tune/day={DAYS[0]}", chose)
    (told,) = (k for k in project.stage("check", 3, "--plan").json["plan"]["keys"] if k["key"] == "teacher.factor_dim")
    assert told["value"] == 4 and told["from"].startswith("chosen on")
    project.done("train-teacher", 3)
    assert manifest(project.ws, "teacher", 3)["config"]["teacher"]["factor_dim"] == 4
    project.done("tune", 3)
    facts = tuned(project, 3)
    assert facts["chosen"]["teacher.factor_dim"] == 4
    assert not any("teacher.factor_dim" in t for t in facts["tried"])


def test_trials_alone_are_no_day_of_the_table(chain: Project, project: Project) -> None:
    before = chain.call("status", "--json").json
    assert before["days"].keys() == set(DAYS[:2]) and "missing" not in before["days"][DAYS[1]].values()
    project.done("tune", 4)
    assert project.call("status", "--json").json["days"] == before["days"]


# -- comparisons -------------------------------------------------------------------------------------------------------

SETTINGS = {
    "same_value": {"teacher.epochs": 1},
    "student_rate": {"student.embedding_learning_rate": 0.1},
    "untuned": {"auto.budget": 0},
}


def test_a_comparison_shares_the_trials_and_knows_what_is_written(project: Project) -> None:
    file = project.home / "settings.yaml"
    file.write_text(yaml.safe_dump(SETTINGS))
    before = project.published()
    ended = project.call("compare", "--day", DAYS[2], "--settings", file, "--json")
    assert ended.code == 0, ended.err
    after = project.published()
    for path, changed in before.items():
        assert path == "evaluation" or after[path] == changed, "the chain is only read"
    cells = {p.name.rpartition("-")[0] or p.name: p for p in (project.ws / "compare").iterdir()}
    made = {name: {p.name for p in folder.iterdir()} for name, folder in cells.items()}
    assert "teacher" in made["same_value"] and "tune" not in made["same_value"], "a default that is written"
    assert "teacher" not in made["student_rate"] and "teacher" in made["untuned"]
    assert [name for name, stages in made.items() if "tune" in stages] == []
    chosen = tuned(project)["chosen"]
    of = {name: manifest(cells[name], "teacher", 2)["config"]["teacher"] for name in ("same_value", "untuned")}
    assert of["same_value"]["epochs"] == 1
    assert of["same_value"]["embedding_learning_rate"] == chosen["teacher.embedding_learning_rate"]
    assert of["untuned"]["embedding_learning_rate"] is None
    student = manifest(cells["student_rate"], "student", 2)["config"]["student"]
    assert student["embedding_learning_rate"] == 0.1
    plain = manifest(cells["click_only"], "student", 2)["config"]["student"]
    assert plain["embedding_learning_rate"] == chosen["student.embedding_learning_rate"]


def test_a_chain_without_trials_can_be_compared(world: Path, tmp_path: Path) -> None:
    config = copy.deepcopy(CONFIG)
    config["student"]["distill"] = {"w_kd": 0}
    config["student"]["hard"] = {"w_hard": 1}
    bare = a_project(tmp_path, world, config)
    assert bare.call("backfill", "--from", DAYS[0], "--to", DAYS[0], auto__budget=0).code == 0
    assert bare.stage("compare", 2).code == 0
    assert days_of(bare.ws, "tune") == []


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_a_trial(chain: Project, project: Project) -> None:
    ended = project.call("tune", "--day", DAYS[0])
    facts = tuned(chain)
    lines = ended.out.splitlines()
    assert lines[0] == f"measured on the late part of {DAYS[0]}, cut by time"
    assert lines[1].startswith("* taken")
    head = lines.index("teacher, round 1") + 1
    assert lines[head].split() == ["embedding_learning_rate", "users", "epochs", "loss"]
    rows = [line for line in lines if "%" in line]
    assert len(rows) == len(facts["tried"]) and sum("*" in row for row in rows) == sum(
        t["taken"] for t in facts["tried"]
    )
    assert lines[lines.index("student, round 1") + 1].split()[-1] == "distance"
    first = lines[head : lines.index("", head)]
    assert len({len(line) for line in first}) == 1, "columns end below each other"
    chosen = dict(line.split() for line in lines[lines.index("chosen") + 1 :])
    assert {k: float(v) for k, v in chosen.items()} == facts["chosen"]
    assert project.stage("tune", 1).json.keys() == JSON_KEYS, "facts are in the manifest"


def test_a_guess_of_trials_follows_the_budget_of_a_large_log(tmp_path: Path) -> None:
    def guess(budget: float, window: int) -> int:
        config = load_config(Project.create(tmp_path, tmp_path, config=CONFIG | {"auto": {"budget": budget}}).file)
        return rows_of_trials(config, window, window * 2 // 3, window * 2 // 3)

    assert guess(8, 5_000) == guess(1, 5_000), "some rows may always be learned"
    assert guess(8, 1_000_000) > 3 * guess(1, 1_000_000) > 0


def test_a_table_says_that_other_users_are_measured() -> None:
    facts = {"chosen": {}, "tried": [], "days": DAYS[:1], "measured_on": "users"}
    assert table(facts).splitlines()[0] == f"measured on a third of the users of {DAYS[0]}, the others are learned"


def test_a_plan_tells_what_a_run_would_choose(chain: Project, world: Path, tmp_path: Path) -> None:
    new = a_project(tmp_path, world)
    plan = new.stage("check", 2, "--plan", teacher__first_window_days=2).json["plan"]
    assert plan["teacher_before"] is None and plan["days"] == DAYS[:2]
    assert {k["key"] for k in plan["keys"] if k["from"] == "to be chosen"} == CHOSEN
    written = {k["key"]: k["value"] for k in plan["keys"] if k["from"] == "written"}
    assert written["teacher.batch_size"] == WRITTEN["batch_size"] and written["student.epochs"] == 1
    assert plan["trials"]["rows"] > 900 and plan["trials"]["minutes"] < 1 and plan["trials"]["least"]
    one = new.stage("check", 1, "--plan").json["plan"]["trials"]["rows"]
    learned = manifest(chain.ws, "tune", 1)["rows"]["learned"]
    assert 0.6 < one / learned < 1.6, "a guess, and of what the trials of that day have learned"
    assert not new.ws.exists() or days_of(new.ws, "tune") == [], "nothing is made"

    plan = chain.stage("check", 3, "--plan").json["plan"]
    assert (plan["teacher_before"], plan["days"], plan["trials"]) == (DAYS[1], [DAYS[2]], None)
    chosen = {k["key"]: k["value"] for k in plan["keys"] if k["from"] == f"chosen on {DAYS[0]}"}
    assert chosen == tuned(chain)["chosen"]
    text = chain.call("check", "--day", DAYS[2], "--plan").out
    assert f"plan: goes on from the teacher of {DAYS[1]}; it learns {DAYS[2]}" in text
    assert "plan" not in chain.stage("check", 3).json
    begins = new.call("check", "--day", DAYS[0], "--plan").out
    assert (
        "plan: the chain begins" in begins and "to be chosen" in begins and "rows, under a minute (guesses)" in begins
    )


# -- what is written ---------------------------------------------------------------------------------------------------


def test_what_was_chosen_is_written_into_the_config(project: Project) -> None:
    text = "# my log\n" + project.file.read_text().replace("teacher:\n", "teacher:  # the network\n")
    project.file.write_text(text)
    ended = project.call("tune", "--day", DAYS[0], "--write")
    assert ended.code == 0, ended.err
    after = project.file.read_text()
    chosen = tuned(project)["chosen"]
    config = yaml.safe_load(after)
    for key in CHOSEN - {"features.min_count"}:
        section, name = key.split(".")
        assert config[section][name] == chosen[key] and f"written to {project.file}: {key}: " in ended.out
        del config[section][name]
    assert config == yaml.safe_load(text)
    left = iter(after.splitlines())
    assert all(line in left for line in text.splitlines()), "comments and order stay"
    made = project.published()
    assert project.done("train-teacher", 1)["up_to_date"] and project.published() == made, "the same values, no trials"
    again = project.call("tune", "--day", DAYS[0], "--write")
    assert again.code == 0 and f"written to {project.file}: nothing" in again.out
    assert project.file.read_text() == after


def test_min_count_is_told_to_be_written_by_hand() -> None:
    facts = {"chosen": {"features.min_count": 3, "teacher.batch_size": None, "teacher.factor_dim": 0}}
    assert keys_of(facts) == {"teacher": {"factor_dim": 0}}
    assert by_hand(facts) == ["write min_count: 3 by hand under each feature of ids that has none"]
    assert by_hand({"chosen": {"features.min_count": 1}}) == by_hand({"chosen": {}}) == []


# -- known answers -----------------------------------------------------------------------------------------------------


def log_of(home: Path, days: list[dict[str, Any]]) -> Path:
    for day, columns in zip(DAYS, days, strict=False):
        folder = home / f"log/events/day={day}"
        folder.mkdir(parents=True)
        pl.DataFrame(columns).write_parquet(folder / "0.parquet")
    return home / "log"


def decided(
    home: Path,
    days: list[dict[str, Any]],
    day: int = 1,
    student: dict[str, Any] | None = None,
    read: tuple[str, str] = ("duration", "read_seconds"),
    **teacher: Any,
) -> dict[str, Any]:
    """The manifest of trials on a log of ids alone, all keys but some written; without a student those of teachers.

    Args:
        read: role and column of what tells the second label.
    """
    config = copy.deepcopy(BASE)
    config["auto"] = {"budget": 8}
    names = ("path", "partition", "user", "item", "click")
    events = {k: v for k, v in BASE["data"]["events"].items() if k in names} | dict([read])
    config["data"] = {"events": events}
    ids = [("user_id", "user"), ("item_id", "item"), *([("kind", "item")] if "kind" in days[0] else [])]
    config["features"] = [{"name": n, "side": s, "kind": "categorical", "min_count": 1} for n, s in ids]
    config["teacher"] |= {"factor_dim": 0, "first_window_days": len(days)} | WRITTEN | teacher
    config["teacher"] = {k: v for k, v in config["teacher"].items() if v is not None}
    config["student"] = student or {"distill": {"w_kd": 0}, "hard": {"w_hard": 1}}
    project = Project.create(home, log_of(home, days), config=config)
    project.done("tune", day)
    return manifest(project.ws, "tune", day)


def columns(rng: np.random.Generator, users: int, items: int, rows: int, p: Any) -> dict[str, Any]:
    """Rows of users and items, clicked with p(user, item)."""
    user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
    click = rng.random(rows) < p(user, item)
    return {
        "user_id": user,
        "item_id": item,
        "click": click,
        "read_seconds": np.where(click, rng.exponential(30, rows), 0),
    }


def test_a_log_that_wants_many_epochs_has_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    days = [columns(rng, 50, 40, 2_000, lambda u, i: np.where(i % 2, 0.9, 0.1)) for _ in range(2)]
    slow = {"embedding_learning_rate": 0.005, "learning_rate": 1e-4}
    made = decided(tmp_path, days, 2, **slow, epochs=None, blend_regression=False)  # which would know it at once
    assert made["facts"]["chosen"]["teacher.epochs"] >= 6


def test_a_network_is_judged_beside_its_regression(tmp_path: Path) -> None:
    """One that learns nothing is as good as the regression, where it will be blended with one."""
    rng = np.random.default_rng(1)
    days = [columns(rng, 50, 40, 4_000, lambda u, i: np.where(i % 2, 0.7, 0.2)) for _ in range(2)]
    still = {"learning_rate": 1e-6, "embedding_learning_rate": 1e-6, "unknown_share": None}
    click, read = (sum(entropy(p * q) for p in (0.7, 0.2)) / 2 for q in (1, math.exp(-1)))
    for blended in (True, False):
        home = tmp_path / str(blended)
        tried = decided(home, days, 2, **still, blend_regression=blended)["facts"]["tried"]
        for loss in (t["loss"] for t in tried):
            assert abs(loss - click - read) < 0.03 if blended else loss > click + read + 0.1


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def test_a_log_of_ids_seen_once_or_twice_wants_a_slow_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    days = []
    for _ in range(3):  # of all that there is to know an item's kind is the most
        day = columns(rng, 1_500, 1_500, 3_000, lambda u, i: np.where(i % 2, 0.5, 0.1))
        days.append(day | {"kind": day["item_id"] % 2})
    made = decided(tmp_path, days, 3, embedding_learning_rate=None, epochs=4, factor_dim=0, batch_size=128)
    tried = {t["teacher.embedding_learning_rate"]: t["loss"] for t in made["facts"]["tried"]}
    assert tried[0.1] == max(tried.values()) > tried[0.005] + 0.005
    assert made["facts"]["chosen"]["teacher.embedding_learning_rate"] < 0.05


@pytest.mark.parametrize(
    ("read", "words"), [(("duration", "read_seconds"), "reads"), (("conversion", "bought"), "good clicks")]
)
def test_a_late_part_without_a_click_decides_nothing(tmp_path: Path, read: tuple[str, str], words: str) -> None:
    rng = np.random.default_rng(1)
    days = [columns(rng, 50, 40, 300, lambda u, i, p=p: p) for p in (0.5, 0.5, 0.0)]
    days = [day | {"bought": day["read_seconds"] > 30} for day in days]
    facts = decided(tmp_path, days, 3, read=read, epochs=None)["facts"]
    assert facts["chosen"] == {} and facts["tried"] == []
    (warning,) = facts["warnings"]
    assert f"the late part of {DAYS[0]} .. {DAYS[2]} has no clicks, or no {words}, to measure" in warning
    assert "dmtl tune" in warning


def test_trials_that_diverge_in_their_last_step_are_not_taken(tmp_path: Path) -> None:
    day = columns(np.random.default_rng(1), 50, 40, 600, lambda u, i: np.where(i % 2, 0.9, 0.1))
    extreme = {"learning_rate": 1e30, "batch_size": 4_096}  # one step an epoch
    tried = decided(tmp_path / "teacher", [day], epochs=None, **extreme)["facts"]["tried"]
    assert {t["loss"] for t in tried} == {None}
    tried = decided(tmp_path / "student", [day], student=extreme | {"epochs": 1}, epochs=1)["facts"]["tried"]
    assert {t["loss"] is None for t in tried if t["model"] == "student"} == {True}


@pytest.mark.parametrize("user", [1, 2])
def test_one_user_decides_nothing_on_either_side_of_the_cut(tmp_path: Path, user: int) -> None:
    day = columns(np.random.default_rng(1), 1, 40, 300, lambda u, i: 0.5) | {"user_id": np.full(300, user)}
    facts = decided(tmp_path, [day], 1, epochs=None)["facts"]
    assert facts["measured_on"] == "users" and facts["tried"] == [] and len(facts["warnings"]) == 1


def test_a_day_of_a_few_rows_decides_nothing(tmp_path: Path) -> None:
    few = {"user_id": [1, 2], "item_id": [1, 2], "click": [True, True], "read_seconds": [9.0, 1.0]}
    facts = decided(tmp_path, [few], 1, epochs=None)["facts"]
    assert facts["tried"] == [] and len(facts["warnings"]) == 1
