"""`evaluate.topk` and what `backfill` prints, through the command line: every K is measured, the first one is shown."""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from worlds import BASE, DAYS, Ended, Project

from dmtl_cli.config.extras import has
from dmtl_cli.evaluate.figure import can_draw, figure_of
from dmtl_cli.evaluate.table import Table
from dmtl_cli.synth.generate import generate

TOPK = [20, 5]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 3, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=1200, seed=1)
    return out


def a_project(home: Path, world: Path, topk: list[int] | None) -> Project:
    config: dict[str, Any] = copy.deepcopy(BASE)
    config["gates"] = {"limits": {"export.recall": {"least": 0.001}}}
    config["student"]["exposure"] = {"kappa": 0.7}
    if topk:
        config["evaluate"]["topk"] = topk
    return Project.create(home, world / "log", world / "truth", config)


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Ended]:
    """Three days at TOPK, and what `backfill` printed."""
    made = a_project(tmp_path_factory.mktemp("chain"), world, TOPK)
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[2])
    assert (ended.code, ended.err) == (0, ""), ended.err
    return made, ended


@pytest.fixture(scope="module")
def plain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same days without the key."""
    made = a_project(tmp_path_factory.mktemp("plain"), world, None)
    assert made.call("backfill", "--from", DAYS[0], "--to", DAYS[2]).code == 0
    return made


def copied(project: Project, home: Path, world: Path, topk: list[int] | None) -> Project:
    made = a_project(home, world, topk)
    shutil.copytree(project.ws, made.ws)
    return made


def manifest(project: Project, stage: str, day: int) -> dict[str, Any]:
    folder = project.ws / stage / f"day={DAYS[day - 1]}"
    run = folder / (folder / "CURRENT").read_text().strip()
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return found


def ks(names: Any) -> set[int]:
    return {int(k) for name in names for k in re.findall(r"@(\d+)", name)}


# -- what is measured --------------------------------------------------------------------------------------------------


def test_every_k_is_measured_and_no_other(chain: tuple[Project, Ended], plain: Project) -> None:
    metrics, before = (manifest(p, "evaluation", 3)["metrics"] for p in (chain[0], plain))
    assert ks(metrics) == {5, 20} and ks(before) == {10, 50, 100}
    for k in TOPK:
        of_k = {name.replace("@20", "@5") for name in metrics if f"@{k}" in name}
        assert "student.read.recall@5" in of_k and "student.coverage@5" in of_k
    assert {re.sub(r"@\d+", "", name) for name in metrics} == {re.sub(r"@\d+", "", name) for name in before}
    assert ks(name for name in metrics if "kappa=" in name or "ahead_of" in name) == {20}
    assert 0 < metrics["student.read.recall@5"] < metrics["student.read.recall@20"] < before["student.read.recall@50"]


def test_a_recall_is_the_same_whatever_else_is_measured(plain: Project, world: Path, tmp_path: Path) -> None:
    before = manifest(plain, "evaluation", 3)["metrics"]
    project = copied(plain, tmp_path, world, [10, 50, 3])
    found = project.done("evaluate", 3)["metrics"]
    shared = [name for name in found if name in before and not ks([name]) - {10, 50}]
    assert ks(shared) == {10, 50} and ks(found) == {3, 10, 50}
    assert {name: found[name] for name in shared} == {name: before[name] for name in shared}


def test_the_default_changes_no_key(plain: Project, world: Path, tmp_path: Path) -> None:
    assert "topk" not in manifest(plain, "evaluation", 3)["config"]["evaluate"]
    assert "k" not in manifest(plain, "export", 3)["config"]
    project = copied(plain, tmp_path, world, [50, 10, 100])
    ended = project.stage("run", 3)
    assert ended.code == 0 and ended.every and all(result["up_to_date"] for result in ended.every)


def test_more_than_the_catalogue(plain: Project, world: Path, tmp_path: Path) -> None:
    """Everything is retrieved, so recall is its ceiling; and nothing ends."""
    project = copied(plain, tmp_path, world, [500, 1000])
    metrics = project.done("evaluate", 3)["metrics"]
    for label in ("click", "read"):
        found = [metrics[f"student.{label}.recall@{k}"] for k in (500, 1000)]
        assert found == [pytest.approx(metrics[f"student.{label}.ceiling"])] * 2
    assert metrics["student.coverage@500"] == 1
    ended = project.call("backfill", "--from", DAYS[2], "--to", DAYS[2])
    assert ended.code == 0 and f"{DAYS[2]}  recall@500 of reads: served 1.000, " in ended.out


@pytest.mark.parametrize("topk", ["[]", "[0]", "[1001]", "20", "[a]", "[1.5]", "[20, 5, 20]"])
def test_what_is_no_list_of_numbers_is_refused(plain: Project, topk: str) -> None:
    ended = plain.call("evaluate", "--day", DAYS[2], "--set", f"evaluate.topk={topk}")
    assert ended.code == 78 and "evaluate.topk" in ended.err


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_lines_and_gates_are_of_the_first(chain: tuple[Project, Ended], plain: Project) -> None:
    project = chain[0]
    lines = [each["line"] for each in json.loads(project.call("status", "--json").out)["newest"]]
    assert any("recall@20 of reads: served ." in line for line in lines)
    assert any(re.search(r"recall@20 of its own day click \.\d+ read \.\d+", line) for line in lines)
    assert ks(lines) == {20}
    names = {gate["name"] for gate in manifest(project, "export", 3)["gates"]}
    of_k = {name for name in names if "@" in name}
    assert of_k == {
        f"export.{what}.{label}@20" for what in ("recall", "over_popularity") for label in ("click", "read")
    }
    assert not [gate["name"] for gate in manifest(plain, "export", 3)["gates"] if "@" in gate["name"]]


@pytest.mark.skipif(not has("faiss"), reason="an index needs faiss")
def test_an_index_is_measured_at_the_first(chain: tuple[Project, Ended], world: Path, tmp_path: Path) -> None:
    project = copied(chain[0], tmp_path, world, TOPK)
    stored = ("--set", "export.index=ivf", "--set", "export.vectors=int8")
    ended = project.call("export", "--day", DAYS[2], "--json", *stored)
    assert ended.code == 0, ended.err
    assert {name for name in ended.json["metrics"] if "@" in name} == {"index.recall@20", "vectors.recall@20"}


def test_a_limit_of_a_gate_holds_at_each_k(chain: tuple[Project, Ended], world: Path, tmp_path: Path) -> None:
    project = copied(chain[0], tmp_path, world, TOPK)
    strict = ("--set", "gates.limits={export.recall: {least: 1}}", "--set", "gates.errors=0")
    ended = project.call("export", "--day", DAYS[2], "--set", "student.exposure.kappa=0.5", *strict)
    assert ended.code == 80 and re.search(r"export\.recall\.(click|read)@20 is ", ended.err)
    # another K has no history: the median of the days before is of other numbers
    ended = project.call("export", "--day", DAYS[2], "--set", "evaluate.topk=[1]", "--json")
    assert ended.code == 0, ended.err
    baselines = {
        gate["name"]: gate["baseline"] for gate in ended.json["gates"] if gate["name"].startswith("export.recall")
    }
    assert baselines == {"export.recall.click@1": None, "export.recall.read@1": None}


@pytest.mark.skipif(not has("vl_convert"), reason="the page needs vl-convert-python")
def test_the_page_and_the_index_are_of_the_first(chain: tuple[Project, Ended]) -> None:
    project = chain[0]
    assert project.call("report", "--day", DAYS[2]).code == project.call("report", "--index").code == 0
    page = (project.ws / "report" / f"day={DAYS[2]}.html").read_text()
    for words in (
        "Recall@20, read",
        "Recall@20, click",
        "top 20 of",
        "Recall@20 on its own day",
        "overlap of the top 20",
    ):
        assert words in page, words
    assert "@50" not in page and "top 50" not in page
    index = (project.ws / "report" / "index.html").read_text()
    assert "Recall@20 read" in index and "@50" not in index
    served = manifest(project, "evaluation", 3)["metrics"]["student.read.recall@20"]
    assert f"{served:.3f}".lstrip("0") in index or f"{served:.3f}" in index


def test_a_table_is_of_the_first(chain: tuple[Project, Ended], world: Path, tmp_path: Path) -> None:
    project = copied(chain[0], tmp_path, world, TOPK)
    before = {path: at for path, at in project.published().items() if path.startswith(("export/", "evaluation/"))}
    measured = manifest(project, "evaluation", 3)
    for given, k in (((), 20), (("--set", "evaluate.topk=[5, 20]"), 5), (("--set", "evaluate.topk=[50]"), 50)):
        ended = project.call("compare", "--day", DAYS[2], "--baselines", "none", *given)
        assert ended.code == 0, ended.err
        head = ended.out.splitlines()[0]
        assert f"read.recall@{k}" in head and f"coverage@{k}" in head and ks([ended.out]) == {k}
        assert re.fullmatch(
            rf"served - best list \(.*\): [+-]\.\d+ ±\.\d+ recall@{k} of reads: .*", ended.out.splitlines()[-1]
        )
    after = {p: at for p, at in project.published().items() if p.startswith(("export/", "evaluation/"))}
    assert after == before, "the chain is only read, and its days keep their evaluations"
    assert manifest(project, "evaluation", 3) == measured and "student.read.recall@20" in measured["metrics"]
    aside = project.ws / "compare/student/evaluation" / f"day={DAYS[2]}"
    at_50 = json.loads((aside / (aside / "CURRENT").read_text().strip() / "manifest.json").read_text())["metrics"]
    assert "student.read.recall@50" in at_50 and "student.read.recall@20" not in at_50


@pytest.mark.skipif(not can_draw(), reason="the figure needs matplotlib")
def test_a_figure_is_of_the_first() -> None:
    table = Table({"student": {f"{m}.recall@20": [0.1] for m in ("click", "read")}}, k=20)
    (axes,) = figure_of(table).axes
    assert axes.get_xlabel().startswith("recall@20 of clicks") and axes.get_ylabel().startswith("recall@20 of")


# -- backfill ----------------------------------------------------------------------------------------------------------


def days_of(out: str) -> list[str]:
    """The line of each day, without the warnings below it."""
    return [line for line in out.splitlines() if not line.startswith("  ")]


def test_backfill_prints_a_line_a_day(chain: tuple[Project, Ended]) -> None:
    project, ended = chain
    first, second, third = days_of(ended.out)
    assert first == f"{DAYS[0]}  nothing to measure yet  no student yet"
    assert second.startswith(f"{DAYS[1]}  recall@20 of reads: best list ") and "teacher AUC click ." in second
    metrics, run_id = manifest(project, "evaluation", 3)["metrics"], manifest(project, "export", 3)["run_id"]
    served = f"{metrics['student.read.recall@20']:.3f}".removeprefix("0")
    assert third.startswith(f"{DAYS[2]}  recall@20 of reads: served {served}, best list ") and third.endswith(
        f"  export {run_id[:7]}  2 warnings as before"
    )


def test_backfill_says_what_it_found_and_what_was_refused(
    chain: tuple[Project, Ended], world: Path, tmp_path: Path
) -> None:
    project = copied(chain[0], tmp_path, world, TOPK)
    again = project.call("backfill", "--from", DAYS[0], "--to", DAYS[2], "--quiet")
    assert (again.code, again.err) == (0, "")
    assert days_of(again.out) == [f"{line}  up to date" for line in days_of(chain[1].out)]
    strict = ("--set", "gates.limits={export.recall: {least: 1}}", "--set", "gates.errors=0")
    ended = project.call("backfill", "--from", DAYS[1], "--to", DAYS[2], "--set", "student.exposure.kappa=0.5", *strict)
    assert ended.code == 80
    second, third = days_of(ended.out)
    assert second.startswith(f"{DAYS[1]}  refused: export {DAYS[1]}: export.recall.")
    assert third.startswith(f"{DAYS[2]}  refused: export {DAYS[2]}: export.recall.")
    lines = project.call("backfill", "--from", DAYS[0], "--to", DAYS[0], "--json").out.splitlines()
    assert lines and all(json.loads(line)["day"] == DAYS[0] for line in lines), "machines read JSON alone"
