"""compare through the command line: every number of its table from the cells it published, and nothing made twice."""

from __future__ import annotations

import copy
import datetime as dt
import importlib.util
import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from worlds import BASE, DAYS, Ended, Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.log.reader import Log
from dmtl_cli.evaluate.exam import Exam
from dmtl_cli.evaluate.figure import draw, figure_of
from dmtl_cli.evaluate.settings import baselines
from dmtl_cli.evaluate.table import Table, shown
from dmtl_cli.runs.run import Run
from dmtl_cli.stages import compare as comparison
from dmtl_cli.synth.generate import generate

SETTINGS: dict[str, dict[str, Any]] = {
    "soft": {"student.distill.losses": [{"loss": "kl", "temperature": 2}], "student.learning_rate": "2e-2"},
    "wide": {"scores.negatives": 1},
    "deep": {"teacher.factor_dim": 2},
}
BASELINES = ["click_only", "long_read_only", "duration_weighted"]
OWN = {"wide": {"scores"}, "deep": {"teacher", "scores"}, **{name: set() for name in ("soft", *BASELINES)}}
OF_OWN = {name: [f"{name}.teacher"] for name, own in OWN.items() if "teacher" in own}
TAUGHT = ["oracle", "teacher", "student_teacher", "student", "student.preference"]
LISTS = [
    "popularity",
    "read_popularity",
    "read_popularity_0d",
    "read_popularity_7d",
    "exposure_rate",
    "read_rate",
]
OF_A_DAY = [*TAUGHT, "regression", *LISTS, "random"]
ONCE = ["ease"]  # what learns from earlier days' long reads, once whatever the number of seeds


def models(*students: str) -> list[str]:
    """The rows of a table; a student of two blocks has two. Baselines and the joint reference have one block."""
    both = [name for s in students for name in ([s] if s in BASELINES else [s, f"{s}.preference", *OF_OWN.get(s, [])])]
    return [*TAUGHT, *both, "joint", *ONCE, "regression", *LISTS, "random"]


MODELS = models(*BASELINES, *SETTINGS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=1200, seed=1)
    return out


def a_project(home: Path, world: Path) -> Project:
    config = copy.deepcopy(BASE)
    config["evaluate"]["max_users"] = 40
    config["gates"] = {"quality": False}  # settings that teach nothing are compared too
    return Project.create(home, world / "log", world / "truth", config)


def settings_file(home: Path, settings: dict[str, Any]) -> Path:
    file = home / "settings.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False).replace("'2e-2'", "2e-2"))  # a number, as people write it
    return file


def compare(project: Project, *arguments: object, settings: dict[str, Any] = SETTINGS) -> Ended:
    """Two seeds, two days, all settings."""
    file = settings_file(project.home, settings)
    whole = ("--since", DAYS[2], "--day", DAYS[3], "--seeds", "1,2", "--settings", file, *arguments)
    ended = project.call("compare", *whole)
    assert ended.code or not ended.err
    return ended


@pytest.fixture(scope="module")
def compared(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, dict[str, int]]:
    """Days 1 and 2 learned, days 3 and 4 compared: the project, what was printed, what was published before."""
    project = a_project(tmp_path_factory.mktemp("compared"), world)
    assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
    before = project.published()
    ended = compare(project)
    assert ended.code == 0, ended.err
    return project, ended.out, before


@pytest.fixture
def project(compared: tuple[Project, str, dict[str, int]], world: Path, tmp_path: Path) -> Project:
    """A copy, to be changed."""
    made = a_project(tmp_path, world)
    shutil.copytree(compared[0].ws, made.ws)
    return made


def cell(project: Project, name: str, seed: int) -> Path:
    base = project.ws / f"compare/seed={seed}" if seed > 1 else project.ws
    if name in OF_A_DAY:
        return base
    name = name.removesuffix(".preference").removesuffix(".teacher")
    (folder,) = [p for p in (base / "compare").iterdir() if re.fullmatch(rf"{name}(-[0-9a-f]{{6}})?", p.name)]
    return folder


def manifest(workspace: Path, stage: str, day: int) -> dict[str, Any]:
    folder = workspace / stage / f"day={DAYS[day - 1]}"
    found: dict[str, Any] = json.loads(
        (folder / (folder / "CURRENT").read_text().strip() / "manifest.json").read_text()
    )
    return found


def by_hand(project: Project, name: str, metric: str) -> list[float]:
    """A number a seed, from the evaluations alone."""
    kind, out = name if name in (*OF_A_DAY, *ONCE) else "student", []
    kind = "student_teacher" if name.endswith(".teacher") else kind
    kind += ".preference" if name.endswith(".preference") and kind == "student" else ""
    for seed in (1, 2) if name not in ONCE else (1,):
        days = [manifest(cell(project, name, seed), "evaluation", day)["metrics"] for day in (3, 4)]
        if values := [of[f"{kind}.{metric}"] for of in days if f"{kind}.{metric}" in of]:
            out.append(sum(values) / len(values))
    return out


def errors_by_hand(project: Project, name: str, metric: str) -> list[float]:
    """The standard error over users of each day."""
    days = [manifest(cell(project, name, 1), "evaluation", day)["metrics"] for day in (3, 4)]
    return [of[f"{name}.{metric}.se"] for of in days if f"{name}.{metric}.se" in of]


def cells_of(text: str, k: int = 0) -> dict[str, dict[str, str]]:
    """The k-th Markdown table of a text by row and column."""
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    header, rule, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in tables[k].splitlines()]
    assert set(rule) == {"---", "---:"} and len(rule) == len(header)
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_table_is_what_the_cells_evaluations_say(compared: tuple[Project, str, dict[str, int]]) -> None:
    project, out, _ = compared
    table = cells_of(out)
    assert list(table) == MODELS
    assert list(table["student"]) == list(shown(50))
    compared_cells = 0
    for name, row in table.items():
        for metric, said in row.items():
            if metric.startswith(("rows", "seconds")):
                continue
            values, digits = by_hand(project, name, metric), 1 if "seconds" in metric else 3
            spread = f" ({max(values) - min(values):.{digits}f})" if len(values) > 1 else ""
            if name in ONCE and (errors := errors_by_hand(project, name, metric)):
                spread = f" ±{math.sqrt(sum(e * e for e in errors)) / len(errors):.{digits}f}"
            expected = f"{np.mean(values):.{digits}f}{spread}" if values else "-"
            assert said == expected, (name, metric)
            compared_cells += said != "-"
    assert compared_cells > 60
    for name in ("oracle", "random", *LISTS):
        spreads = {c.partition("(")[2] for m, c in table[name].items() if c != "-"}
        assert spreads <= {"0.0)", "0.000)"}, "what does not learn is measured alike whatever the seed"
    assert table["student"]["ctcvr.auc"].partition("(")[2] != "0.000)", "two seeds are two students"
    students = [name for name in MODELS if name.split(".")[0] in ("student", *BASELINES, *SETTINGS, "joint")]
    assert len(students) == 2 * (1 + len(SETTINGS)) + len(BASELINES) + 1 + len(OF_OWN)
    assert len({table[name]["ctcvr.auc"] for name in students}) == len(students)


def test_rows_and_seconds_of_a_student(compared: tuple[Project, str, dict[str, int]]) -> None:
    project, out, _ = compared
    table = cells_of(out)
    for name in ("student", *BASELINES, *SETTINGS):
        learned = [manifest(cell(project, name, seed), "student", 2)["rows"]["learned"] for seed in (1, 2)]
        assert table[name]["rows.learned"] == f"{np.mean(learned):.0f} ({np.ptp(learned)})"
    for name in ("student", *BASELINES, *SETTINGS, "joint"):
        assert float(table[name]["seconds"].split()[0]) > 0
    fewer, many = (int(table[name]["rows.learned"].split()[0]) for name in ("wide", "student"))
    assert fewer < many


def test_published_numbers_agree_with_the_printed_ones(compared: tuple[Project, str, dict[str, int]]) -> None:
    project, out, _ = compared
    folder = Path(project.call("path", "compare").out.strip())
    made = manifest(project.ws, "compare", 4)
    assert folder.name == f"run-{made['run_id']}"
    assert {f["path"] for f in made["files"]} == {"table.md", "metrics.json", "figure.png"}
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert made["rows"] == {"evaluations": 2 * 2 * 8 + 2}

    printed, stored = cells_of(out), cells_of((folder / "table.md").read_text())
    for row in printed.values():
        del row["seconds"]
    assert stored == printed
    numbers = json.loads((folder / "metrics.json").read_text())
    transfer = numbers.pop("transfer")
    assert list(numbers) == sorted(MODELS)
    flat = {f"{n}.{m}": cell["mean"] for n, of in numbers.items() for m, cell in of.items()}
    ahead = {name: made["metrics"][name] for name in made["metrics"] if ".ahead_of_best_list" in name}
    assert made["metrics"] == flat | {f"transfer.{m}": v for m, v in transfer.items()} | ahead
    for name in ("student", "deep", "joint"):
        cell_ = numbers[name]["ctcvr.auc"]
        assert cell_["seeds"] == pytest.approx(by_hand(project, name, "ctcvr.auc"))
        assert cell_["mean"] == np.mean(cell_["seeds"]) and cell_["spread"] == np.ptp(cell_["seeds"])
    trade = cells_of((folder / "table.md").read_text(), 1)
    assert trade == cells_of(out, 1) and trade["0.7"].items() == trade["served: 0.700 (0.000)"].items()
    for kappa, row in list(trade.items())[:-1]:
        values = {m: by_hand(project, "student", f"{m}.kappa={kappa}") for m in row}
        assert [float(x.split()[0]) for x in row.values()] == [
            pytest.approx(np.mean(v), abs=0.051 if "seconds" in m else 0.00051) for m, v in values.items()
        ]
    every = cells_of((folder / "table.md").read_text(), 2)
    assert list(every) == sorted({m for of in numbers.values() for m in of if ".se." not in f"{m}."})
    for metric, row in every.items():
        assert list(row) == [*MODELS, *(["transfer"] if transfer else [])]
        assert [row[n] for n in MODELS] == [stored[n].get(metric, row[n]) for n in MODELS]
        assert {n for n in MODELS if row[n] != "-"} == {n for n in MODELS if metric in numbers[n]}
        assert row.get("transfer", "-") == (f"{transfer[metric]:.3f}" if metric in transfer else "-")
    for metric, value in transfer.items():
        three = ("long_read_only", "student.preference", "student_teacher")
        plain, student, teacher = (numbers[n][metric]["mean"] for n in three)
        assert value == pytest.approx((student - plain) / (teacher - plain))


def test_it_ends_with_whether_what_is_served_is_better(compared: tuple[Project, str, dict[str, int]]) -> None:
    """The difference over the same users, its error over users and seeds, by hand from the evaluations alone."""
    project, out, _ = compared
    metric = "read.recall@50"
    best = max(LISTS, key=lambda name: np.mean(by_hand(project, name, metric)))
    seeds, errors = [], []
    for seed in (1, 2):
        days = [manifest(cell(project, "student", seed), "evaluation", day)["metrics"] for day in (3, 4)]
        seeds.append(np.mean([of[f"student.{metric}"] - of[f"{best}.{metric}"] for of in days]))
        squares = [of[f"{best}.{metric}.ahead_of_student.se"] ** 2 for of in days]
        errors.append(math.sqrt(sum(squares)) / len(days))
    error = math.sqrt(np.mean(np.square(errors)) + np.std(seeds, ddof=1) ** 2 / len(seeds))
    found = manifest(project.ws, "compare", 4)["metrics"]
    assert found[f"student.{metric}.ahead_of_best_list"] == pytest.approx(np.mean(seeds))
    assert found[f"student.{metric}.ahead_of_best_list.se"] == pytest.approx(error)
    sure = abs(np.mean(seeds)) > 2 * error
    verdict = ("better" if np.mean(seeds) > 0 else "worse") if sure else "no difference beyond twice its error"
    words = {"read_popularity": "reads with a half-life of a day", "popularity": "yesterday's clicks"}
    number, spread = (f"{abs(x):.3f}".removeprefix("0") for x in (np.mean(seeds), error))
    said = f"{'-' if np.mean(seeds) < 0 else '+'}{number} ±{spread} recall@50 of reads: {verdict}"
    list_ = f"{best}, {words.get(best, 'exposures x rate of reads')}"
    assert out.splitlines()[-1] == f"served - best list ({list_}): {said}"
    table = (Path(project.call("path", "compare").out.strip()) / "table.md").read_text()
    assert out.splitlines()[-1] in table.splitlines()


def test_what_is_said_of_a_difference() -> None:
    def said(values: list[float], errors: list[float], label: str = "read", **named: str) -> str:
        table = Table(k=20, **named)  # type: ignore[arg-type]
        for value, error in zip(values, errors, strict=True):
            for name, of in (("popularity", 0.1), ("read_popularity", 0.2)):
                table.add(name, f"{label}.recall@20", of)
                table.add(name, f"{label}.recall@20.ahead_of_student", of - 0.2 - value)
                table.add(name, f"{label}.recall@20.ahead_of_student.se", error)
            table.add("student", f"{label}.recall@20", 0.2 + value)
        return table.markdown().splitlines()[-1]

    list_ = "served - best list (read_popularity, reads with a half-life of a day): "
    assert said([0.021], [0.006]) == list_ + "+.021 ±.006 recall@20 of reads: better"
    assert said([-0.021], [0.006]) == list_ + "-.021 ±.006 recall@20 of reads: worse"
    assert said([0.011], [0.006]) == list_ + "+.011 ±.006 recall@20 of reads: no difference beyond twice its error"
    # three seeds: errors over users .006, whose mean square stays, and over seeds .03 / sqrt(3)
    assert "+.040 ±.018 recall@20 of reads: better" in said([0.01, 0.04, 0.07], [0.006] * 3)
    of_column = said([0.021], [0.006], reads="good clicks")
    assert of_column == list_.replace("reads", "good clicks") + "+.021 ±.006 recall@20 of good clicks: better"
    assert said([0.021], [0.006], "click") == list_ + "+.021 ±.006 recall@20 of clicks: better"
    alone = Table()
    alone.add("popularity", "read.recall@50", 0.1)
    assert alone.ahead() is None, "no student beside it"
    alone.numbers = {"student": {"read.recall@50": [0.1]}}
    assert alone.ahead() is None and "served - best list" not in alone.markdown(), "no list beside it"


# -- what is shared and what is made ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", OWN)
def test_a_setting_makes_only_what_it_changes(
    compared: tuple[Project, str, dict[str, int]], name: str, seed: int
) -> None:
    project = compared[0]
    home, base = cell(project, name, seed), cell(project, "student", seed)
    made = {p.name for p in home.iterdir()} - {"locks", "scratch"}
    assert made == {"student", "export", "evaluation", *OWN[name]}
    student = manifest(home, "student", 2)
    scored_by = home if "scores" in OWN[name] else base
    taught = {
        json.loads(p.read_text())["run_id"]
        for p in scored_by.glob(f"scores/day=*/teacher={DAYS[0]}/run-*/manifest.json")
    }
    used = {p["run_id"] for p in student["parents"] if p["stage"] == "scores"}
    assert used == (set() if name in BASELINES else taught) and (name in BASELINES or len(used) == 2)
    days = {p.name for p in (home / "student").iterdir()}
    assert days == {f"day={d}" for d in (DAYS[:2] if name in BASELINES else DAYS[1:2])}
    if name not in BASELINES:
        teacher = manifest(home if "teacher" in OWN[name] else base, "teacher", 1)
        assert manifest(home, "evaluation", 3)["facts"]["student_teacher"]["run_id"] == teacher["run_id"]
        assert (teacher["config"]["teacher"]["factor_dim"] == 2) == (name == "deep")


def test_another_seed_is_another_base(
    compared: tuple[Project, str, dict[str, int]], world: Path, tmp_path: Path
) -> None:
    """The very runs that a config with that seed makes."""
    other = a_project(tmp_path, world)
    assert other.call("backfill", "--from", DAYS[0], "--to", DAYS[1], seed=2).code == 0
    for stage in ("teacher", "student", "export"):
        made = manifest(cell(compared[0], "student", 2), stage, 2)
        assert made == manifest(other.ws, stage, 2) and made["run_id"] != manifest(compared[0].ws, stage, 2)["run_id"]
    assert manifest(cell(compared[0], "soft", 2), "student", 2)["seed"] == 2


def test_what_is_served_does_not_change(compared: tuple[Project, str, dict[str, int]]) -> None:
    project, _, before = compared
    after = project.published()
    assert {k: v for k, v in after.items() if k in before and (project.ws / k).is_file()} == {
        k: v for k, v in before.items() if (project.ws / k).is_file()
    }
    new = {k.split("/")[0] for k in after.keys() - before.keys()}
    assert new == {"compare", "joint", "evaluation"} and "export/LATEST" in before


def test_again_publishes_nothing(compared: tuple[Project, str, dict[str, int]]) -> None:
    project, out, _ = compared
    before = project.published()
    assert compare(project).out == out, "seconds too, which the logs hold"
    again = compare(project, "--json").json
    assert again["up_to_date"] and again["run_id"] == manifest(project.ws, "compare", 4)["run_id"]
    assert project.published() == before


def test_lost_cells_are_made_again_and_no_others(project: Project) -> None:
    whole, before = manifest(project.ws, "compare", 4), project.published()
    lost = [cell(project, "soft", 1) / f"evaluation/day={DAYS[3]}"]
    lost += [cell(project, "click_only", 2) / f"student/day={DAYS[1]}"]
    for folder in lost:
        shutil.rmtree(folder)
    gone = before.keys() - project.published().keys()
    assert compare(project, "--json").json["up_to_date"], "the same cells make the same table"
    after = project.published()
    assert manifest(project.ws, "compare", 4) == whole and after.keys() == before.keys()
    changed = {k for k in before if after[k] != before[k] and (project.ws / k).is_file()}
    assert changed == {k for k in gone if (project.ws / k).is_file()}


def test_a_failed_cell_is_resumed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new setting, whose second seed fails at first: then only that cell and the table are left to do."""
    more = SETTINGS | {"unit": {"student.vectors": "unit"}}
    first, before = manifest(project.ws, "compare", 4)["run_id"], project.published()
    real, calls = comparison.evaluate, []

    def failing(run: Run, *rest: Any, **named: Any) -> Any:
        calls.append(str(run.ws.root))
        if "seed=2/compare/unit-" in str(run.ws.root):
            raise RuntimeError("power cut")
        return real(run, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(comparison, "evaluate", failing)
        ended = compare(project, settings=more)
    assert ended.code == 70 and "power cut" in ended.err and ended.out == ""
    assert manifest(project.ws, "compare", 4)["run_id"] == first, "the last table stands"
    half = project.published()
    assert {k.split("/unit-")[0] for k in half.keys() - before.keys()} == {"compare", "compare/seed=2/compare"}
    assert not (cell(project, "unit", 2) / "evaluation").exists()
    assert (cell(project, "unit", 1) / f"evaluation/day={DAYS[3]}/CURRENT").exists()

    ended = compare(project, settings=more)
    assert ended.code == 0 and list(cells_of(ended.out)) == models(*BASELINES, *SETTINGS, "unit")
    after = project.published()
    made = after.keys() - half.keys()
    assert {k for k in made if "/unit-" not in k} == {
        k for k in made if k.startswith(f"compare/day={DAYS[3]}/run-{manifest(project.ws, 'compare', 4)['run_id']}")
    }
    assert all(k.startswith("compare/seed=2/") for k in made if "/unit-" in k)
    for k in before:
        assert after[k] == before[k] or not (project.ws / k).is_file() or k == f"compare/day={DAYS[3]}/CURRENT"
    table = cells_of(ended.out)
    assert table["unit"]["ctcvr.auc"] != table["student"]["ctcvr.auc"]


def test_one_seed_has_no_spread_and_no_transfer(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without matplotlib there is no figure, said in the log."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "matplotlib" else real(name, *more)
    )
    ended = project.stage("compare", 4)
    assert ended.code == 0 and ended.err == ""
    made = ended.json
    assert not any(k.startswith("transfer") for k in made["metrics"])
    assert {p.name for p in Path(made["path"]).iterdir()} == {"table.md", "metrics.json", "manifest.json"}
    assert "no figure" in project.logged("compare", 4)
    table = cells_of((Path(made["path"]) / "table.md").read_text())
    assert list(table) == models(*BASELINES) and "(" not in str(table)
    metrics = manifest(project.ws, "evaluation", 4)["metrics"]
    both = f"{metrics['student.ctcvr.auc']:.3f} ±{metrics['student.ctcvr.auc.se']:.3f}"
    assert table["student"]["ctcvr.auc"] == both, "--day alone without --since; the error is that over users"


def test_baselines_can_be_left_out(project: Project) -> None:
    made = project.stage("compare", 4, "--baselines", "none").json
    table = cells_of((Path(made["path"]) / "table.md").read_text())
    assert list(table) == [*TAUGHT, "regression", *LISTS, "random"]
    made = project.stage("compare", 4, "--baselines", "ease,click_only").json
    more = cells_of((Path(made["path"]) / "table.md").read_text())
    assert [name for name in more if name not in table] == ["click_only", "ease"]
    ended = project.stage("compare", 4, "--baselines", "clicks")
    assert ended.code == 2 and "--baselines: expected all, none or some of click_only, " in ended.err


def test_a_comparison_says_where_it_is(compared: tuple[Project, str, dict[str, int]]) -> None:
    """12 places of two seeds before every line, then the models of histories."""
    logged = compared[0].logged("compare", 4)
    for said in (
        "2/16 click_only, seed 1: student ",
        "7/16 deep, seed 1: teacher ",
        "8/16 joint, seed 1: ",
        "ease: evaluation",
    ):
        assert f'"text": "{said}' in logged, said


def test_what_is_served_is_only_read(project: Project) -> None:
    """Another config than that of the chain is no reason to train it again."""
    before = project.published()
    ended = compare(project, "--set", "student.learning_rate=0.02")
    assert ended.code == 65 and "backfill again with this config" in ended.err
    assert f"student of {DAYS[1]} was made with student.learning_rate 0.01, the config now says 0.02" in ended.err
    shutil.rmtree(project.ws / f"scores/day={DAYS[1]}/teacher={DAYS[0]}")
    assert compare(project).code == 65
    assert {k for k in before if f"scores/day={DAYS[1]}" not in k} <= project.published().keys()


def test_a_refused_setting_has_no_row(project: Project) -> None:
    floor = {"floor": {"student.distill.ways": ["match"], "student.distill.floors": {"match": 0.99}}}
    ended = compare(project, settings=floor | SETTINGS)
    table = cells_of(ended.out)
    assert ended.code == 0 and "floor" not in table and list(table) == MODELS
    (line,) = [line for line in ended.out.splitlines() if line.startswith("not made: ")]
    assert line.startswith("not made: floor: 1 of 2 days, the last: coverage of match is 0.")


def test_a_setting_without_a_student_is_told_of(project: Project) -> None:
    late = {"late": {"student.distill.min_age_days": 3}}
    ended = compare(project, settings=late)
    assert ended.code == 0 and f"not made: late: it has no student before {DAYS[2]}" in ended.out
    head = (Path(project.call("path", "compare").out.strip()) / "table.md").read_text().splitlines()[0]
    spread = "(largest less smallest seed), of one seed ±standard error over users"
    assert head == f"Measured on {DAYS[2]} .. {DAYS[3]}, seeds 1, 2: means {spread}."


def test_a_refused_day_of_the_chain_is_passed_over(world: Path, tmp_path: Path) -> None:
    project = a_project(tmp_path, world)
    floor = {"student__distill__ways": "[replay, match]", "student__distill__floors__match": 0.99}
    assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[1], **floor).code == 80
    project.config["student"]["distill"] = {"ways": ["replay", "match"]}
    project.write()
    assert project.call("run", "--day", DAYS[2]).code == 0
    project.config["student"]["distill"]["floors"] = {"match": 0.0}
    ended = project.call("compare", "--day", DAYS[3])
    assert ended.code == 0, ended.err
    assert "not made: student: 1 of 3 days, the last: coverage of match is 0." in ended.out
    assert {"student", "long_read_only", "joint"} <= cells_of(ended.out).keys()


def test_another_setting_of_the_same_name_starts_anew(project: Project) -> None:
    """Its student is not warm from one of the old keys."""
    old, new = ({"soft": {"student.epochs": n}} for n in (2, 3))
    for one in (old, new):
        assert compare(project, settings=one).code == 0
    cells = sorted(p.name for p in (project.ws / "compare").glob("soft-*"))
    assert len(cells) == 3, "that of SETTINGS, and these two"
    for name in cells:
        (first,) = (project.ws / "compare" / name / f"student/day={DAYS[1]}").glob("run-*")
        assert all(p["stage"] != "student" for p in json.loads((first / "manifest.json").read_text())["parents"])


def test_baselines_weigh_by_duration_only_where_they_say_so(world: Path, tmp_path: Path) -> None:
    project = a_project(tmp_path, world)
    config = load_config(project.file, ["student.hard.duration_weighted=true", "student.hard.w_hard=1"])
    found = {name: student.hard for name, student in baselines(config).items()}
    assert {name: hard.duration_weighted for name, hard in found.items()} == {
        "click_only": False, "long_read_only": False, "duration_weighted": True
    }  # fmt: skip


def test_histories_learn_the_first_window_too() -> None:
    """Of days 1 to 3 the first teacher, that of day 3; they are not behind what a student could learn."""
    learned = {DAYS[2]: DAYS[:3], DAYS[3]: DAYS[3:4]}

    class Chain:
        def parent(self, stage: str, day: dt.date) -> tuple[None, Any]:
            return None, SimpleNamespace(facts={"days": list(learned[str(day)])})

    chain = [dt.date.fromisoformat(day) for day in learned]
    found = comparison._learned_days(Chain(), chain)  # type: ignore[arg-type]
    assert list(map(str, found)) == list(DAYS[:4])


# -- a table made by hand ---------------------------------------------------------------------------------------------


def a_table(student: list[float], plain: list[float], teacher: list[float]) -> Table:
    named = {"student": student, "long_read_only": plain, "student_teacher": teacher}
    return Table({name: {"m": values} for name, values in named.items()})


def test_transfer() -> None:
    # means .75, .5 and 1; the largest spread is .2, and 1 - .5 is above twice that
    assert a_table([0.7, 0.8], [0.4, 0.6], [1.0, 1.0]).transfer() == {"m": pytest.approx(0.5)}
    assert a_table([0.2, 0.2], [0.4, 0.4], [0.8, 0.8]).transfer() == {"m": pytest.approx(-0.5)}
    assert a_table([1.0, 1.0], [0.5, 0.5], [0.75, 0.75]).transfer() == {"m": pytest.approx(2)}


def test_transfer_is_of_the_preference_over_the_same_users() -> None:
    """What a student retrieves by what is shown is not taught; and a teacher's users are some of the others'."""
    table = a_table([0.9, 0.9], [0.5, 0.5], [1.0, 1.0])
    table.numbers["student.preference"] = {"m": [0.75, 0.75]}
    assert table.transfer() == {"m": pytest.approx(0.5)} and not table.fewer
    whole, few = "read.recall@50", "read.recall@50.few"
    numbers = {"student.preference": {whole: 0.9, few: 0.3}, "long_read_only": {whole: 0.8, few: 0.2}}
    numbers |= {"student_teacher": {whole: 0.6}, "student": {whole: 0.7}}
    table = Table({n: {m: [v, v] for m, v in own.items()} for n, own in numbers.items()})
    for own in table.numbers.values():
        own |= {"coverage@50": [len(own), len(own)], "ctr.auc": [0.5, 0.5]}
    table.numbers["student_teacher"] |= {"coverage@50": [9.0, 9.0], "ctr.auc": [0.6, 0.6]}
    assert table.fewer and table.transfer() == {whole: pytest.approx(0.25), "ctr.auc": 0.0}


def test_markdown_says_which_rows_are_not_alike() -> None:
    table = a_table([0.9, 0.9], [0.5, 0.5], [1.0, 1.0])
    told = "their like", "other rows", "can retrieve", "measured for", "had seen"
    assert not [words for words in told if words in table.markdown()]
    table.measured = [{"active_users": 900, "users": 300, "teacher_users": 4}, {"excluded": 3}]
    assert "\n\nall rows are without what users had seen (evaluate.exclude_seen)\n" in table.markdown() + "\n"
    table.measured = [{"active_users": 900, "users": 300, "teacher_users": 4}] * 2
    sample = "measured for 600 of 1,800 users, that of teachers for 8: a sample of users (evaluate.share,"
    assert f"{sample} evaluate.max_users)" in table.markdown()
    table.numbers["popularity"] = {"coverage@50": [0.9, 0.9]}
    table.numbers |= {"student.preference": {"read.recall@50.few": [0.5, 0.5]}, "joint": {"m": [0.5, 0.5]}}
    notes = table.markdown().splitlines()
    assert "long_read_only, joint did not learn what is shown: their like is student.preference, not student" in notes
    assert "teachers retrieve for some of the other rows' users: beside them stand the students' .few" in notes
    share = "coverage@50: the share of the items that a row can retrieve which are in the top 50 of any user"
    assert f"{share}; popularity can retrieve items with events alone" in notes


def test_a_mean_of_fewer_days_is_told() -> None:
    table = Table()
    table.add_evaluations("student", [{"student.ctr.auc": 0.6, "teacher.ctr.auc": 0.7}] * 3)
    assert "measured days" not in table.markdown()
    table.add_evaluations("later", [{"teacher.ctr.auc": 0.7}, {"student.ctr.auc": 0.6}, {"student.ctr.auc": 0.8}])
    table.add_evaluations("ease", [{"ease.read.recall@50": 0.1}] * 3)
    assert "\nlater: the mean of 2 of the 3 measured days\n" in table.markdown() + "\n"
    assert table.markdown().count("measured days") == 1


@pytest.mark.parametrize(
    "table",
    [
        a_table([0.75], [0.5], [1.0]),  # one seed has no spread
        a_table([0.75, 0.75], [0.5, 0.5], [0.5, 0.5]),  # nothing to transfer
        a_table([0.75, 0.75], [0.5, 0.5], [0.25, 0.25]),  # a teacher below the plain student
        a_table([0.75, 0.75], [0.5, 0.5], [0.875, 1.125]),  # .5 is twice the spread, not above
        a_table([0.5, 1.0], [0.5, 0.5], [1.0, 1.0]),
        a_table([0.75, 0.75], [0.25, 0.75], [1.0, 1.0]),
        Table({"student": {"m": [1.0, 1.0]}, "long_read_only": {}, "student_teacher": {"m": [2.0, 2.0]}}),
    ],
)
def test_transfer_is_absent_where_it_would_be_noise(table: Table) -> None:
    assert table.transfer() == {} and table.to_dict()["transfer"] == {}


def test_markdown() -> None:
    table = Table({"student": {"ctr.auc": [0.5, 0.75], "rows.learned": [10.0, 20.0]}, "x": {"click_rate@50": [0.25]}})
    table.seconds["student"] = [1.0, 2.5]
    assert table.markdown() == (
        "| model | click_rate@50 | ctr.auc | rows.learned | seconds |\n|---|---:|---:|---:|---:|\n"
        "| student | - | 0.625 (0.250) | 15 (10) | 1.8 (1.5) |\n| x | 0.250 | - | - | - |"
    )
    assert "seconds" not in table.markdown(timed=False)
    assert table.whole() == (
        "| metric | student | x |\n|---|---:|---:|\n| click_rate@50 | - | 0.250 |\n"
        "| ctr.auc | 0.625 (0.250) | - |\n| rows.learned | 15 (10) | - |"
    )


def test_markdown_says_the_transfer() -> None:
    named = {"student": [0.7, 0.8], "long_read_only": [0.4, 0.6], "student_teacher": [1.0, 1.0]}
    table = Table({n: {"ctcvr.auc": v, "ctcvr.gauc": v} for n, v in named.items()})
    assert table.markdown().endswith("\n\ntransfer of long_read_only -> student_teacher: ctcvr.auc 0.500")
    assert table.whole().splitlines()[-1].endswith("| 0.500 |")


def test_a_figure_names_every_model_that_it_shows(tmp_path: Path) -> None:
    models = ["student", "student_teacher", *BASELINES, "joint", "popularity", *(f"setting_{k}" for k in range(15))]
    both = {"click.recall@50": [0.2, 0.3], "time_recall@50": [0.1, 0.2]}
    table = Table({name: dict(both) for name in [*models, "teacher"]})
    table.numbers["untimed"] = {"click.recall@50": [0.2, 0.3]}
    figure = figure_of(table)
    (axes,), (legend,) = figure.axes, figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(models)
    looks = {(str(points.get_facecolor()), str(points.get_paths()[0].vertices.tolist())) for points in axes.collections}
    assert len(looks) == len(axes.collections) == len(models), "no two models look alike"
    low, high = axes.get_ylim()
    assert (low > 0) == axes.get_ylabel().endswith("(axis not from 0)") and low < 0.1 and high > 0.2
    table.numbers["student"]["time_recall@50"] = [0.01, 0.2]
    (axes,) = figure_of(table).axes
    assert axes.get_ylim()[0] == 0 and axes.get_ylabel() == "share of read time in the top 50"
    draw(table, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("metrics", "x", "y"),
    [
        (["read_seconds@50", "click_rate@50", "time_recall@50"], "expected click rate", "expected read seconds"),
        (["click.recall@50", "time_recall@50", "read.recall@50"], "recall@50 of clicks", "share of read time"),
        (["click.recall@50", "read.recall@50"], "recall@50 of clicks", "recall@50 of conversions"),
        ([], "recall@50 of clicks", "recall@50 of conversions"),
    ],
)
def test_axes_of_a_figure(metrics: list[str], x: str, y: str) -> None:
    (axes,) = figure_of(Table({"student": {m: [0.5] for m in metrics}})).axes
    assert axes.get_xlabel().startswith(x) and axes.get_ylabel().startswith(y)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {b", "settings.yaml:1: not YAML"),
        ("", "expected names, each with"),
        ("- a", "expected names, each with"),
        ("a: [1]", "expected names, each with"),
        ("a: {seed: 1}\na: {seed: 2}", "settings.yaml:2: a appears twice"),
        ("long_read_only: {seed: 1}", "setting long_read_only"),
        ("joint: {seed: 1}", "setting joint"),
        ("student: {seed: 1}", "setting student"),
        ("../a: {seed: 1}", "setting ../a"),
        ("a: {seed: 3}", "setting a: seed cannot differ"),
        ("a: {evaluate.max_users: 3}", "setting a: evaluate.max_users cannot differ"),
        ("a: {labels.long_read: mean}", "setting a: labels.long_read cannot differ"),
        ("a: {data.events.where: 'click'}", "setting a: data.events.where cannot differ"),
        (
            "a: {student.learning_rat: .1}",
            "setting a: unknown key student.learning_rat, did you mean learning_rate?",
        ),
        ("a: {student.learning_rate: 2026-01-01}", "student.learning_rate: expected a number"),
        ("a: {student.distill.losses: [{target: plike}]}", "student.distill.losses.0.target: no score is called plike"),
        ("a: {student.distill.losses: [{loss: nope}]}", "student.distill.losses.0.loss"),
    ],
)
def test_faults_of_a_settings_file(
    compared: tuple[Project, str, dict[str, int]], tmp_path: Path, text: str, said: str
) -> None:
    project, before = compared[0], compared[0].published()
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    ended = project.call("compare", "--since", DAYS[2], "--day", DAYS[3], "--settings", file)
    assert ended.code == 78 and said in ended.err and ended.out == ""
    assert project.published() == before
    gone = project.call("compare", "--day", DAYS[3], "--settings", tmp_path / "gone.yaml")
    assert gone.code == 78 and "gone.yaml" in gone.err


@pytest.mark.parametrize("seeds", ["", "x", "1,1", "1,", "-1", "1;2", "1.5", "9999999999"])
def test_faults_of_seeds(compared: tuple[Project, str, dict[str, int]], seeds: str) -> None:
    ended = compared[0].call("compare", "--day", DAYS[3], "--seeds", seeds)
    assert ended.code == 2 and "--seeds" in ended.err


def test_days_that_cannot_be_compared(compared: tuple[Project, str, dict[str, int]]) -> None:
    project = compared[0]
    ended = project.call("compare", "--day", DAYS[2], "--since", DAYS[3])
    assert ended.code == 2 and f"--since {DAYS[3]} is after --day {DAYS[2]}" in ended.err
    assert project.call("compare", "--day", DAYS[2], "--since", "x").code == 2
    early = project.call("compare", "--day", DAYS[2], "--since", DAYS[1])
    assert early.code == 66 and f"no student was exported before {DAYS[1]}" in early.err
    assert f"measure from {DAYS[2]} on" in early.err
    absent = project.call("compare", "--day", "2026-01-05")
    assert absent.code == 66 and "2026-01-05" in absent.err
    looked = (project.ws / "logs/compare-2026-01-05.jsonl").read_text()
    assert '"up_to_date"' not in looked, "it is told before the chain is made"


# -- what is measured on ----------------------------------------------------------------------------------------------


def test_what_is_measured_does_not_depend_on_seed_or_setting(world: Path, tmp_path: Path) -> None:
    project = a_project(tmp_path, world)
    small = ["evaluate.max_users=20", "evaluate.max_rows=600"]
    configs = [load_config(project.file, [*small, *more]) for more in ([], ["seed=2"], ["student.vectors=plain"])]
    log = Log(configs[0].data, configs[0].features)
    days = [log.read(dt.date(2026, 1, d), tmp_path) for d in (3, 4)]
    exams = [Exam.draw(days[0], 10.0, Tasks(), True, config.evaluate) for config in configs]
    for exam in exams[1:]:
        np.testing.assert_array_equal(exam.users, exams[0].users)
        np.testing.assert_array_equal(exam.row_users, exams[0].row_users)
    assert len(exams[0].users) == 20 and 0 < exams[0].row_users.mean() < 1
    other = Exam.draw(days[1], 10.0, Tasks(), True, configs[0].evaluate)
    assert list(other.users) != list(exams[0].users), "another day, other users"


def test_rows_are_in_one_order_without_an_oracle() -> None:
    table = Table()
    for model in ("student", "popularity", "click_only", "teacher", "mine"):
        table.add(model, "ctr.auc", 0.5)
    assert table.models == ["teacher", "student", "click_only", "mine", "popularity"]
