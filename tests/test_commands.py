"""The command line around the stages: shared options, what is told before and after the work, torch's private names."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import typer
from worlds import BASE, DAYS, Project, events

from dmtl_cli import __version__
from dmtl_cli.cli import publishing
from dmtl_cli.cli.main import app, execute
from dmtl_cli.runs.determinism import make_deterministic
from dmtl_cli.runs.differences import _ABSENT, _config_change, differences
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.ranks import Ranks, _gather_function, _open_store
from dmtl_cli.runs.workspace import STAGES
from dmtl_cli.synth.generate import generate

PUBLISHING = {
    "build-profile": ["day"],
    "tune": ["day", "write"],
    "train-teacher": ["day", "allow_gap"],
    "dump-logits": ["day", "teacher_day"],
    "train-student": ["day", "scores_day"],
    "refresh": ["day", "as_of"],
    "export": ["day"],
    "evaluate": ["day"],
    "train-joint": ["day"],
    "compare": ["day", "since", "settings", "seeds", "baselines"],
    "run": ["day", "wait", "allow_gap"],
    "backfill": ["first", "last", "allow_gap"],
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("log")
    generate(out, 3, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=1200, seed=1)
    return out / "log"


@pytest.fixture(scope="module")
def chain(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Days 1 and 2; read only."""
    made = Project.create(tmp_path_factory.mktemp("chain"), log)
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert (ended.code, ended.err) == (0, "")
    return made


@pytest.fixture
def project(chain: Project, log: Path, tmp_path: Path) -> Project:
    """A copy of the chain and of its log, to be changed."""
    shutil.copytree(log, tmp_path / "log")
    made = Project.create(tmp_path, tmp_path / "log")
    shutil.copytree(chain.ws, made.ws)
    return made


@pytest.fixture
def fresh(log: Path, tmp_path: Path) -> Project:
    return Project.create(tmp_path, log)


# -- options -----------------------------------------------------------------------------------------------------------


def test_every_command_that_publishes_has_the_shared_options() -> None:
    group: Any = typer.main.get_command(app)
    rest = ["sets", "as_json", "quiet", "threads", "device", "metrics_file", "force_publish", "lock_wait"]
    for name, own in PUBLISHING.items():
        assert [p.name for p in group.commands[name].params] == ["config", *own, *rest], name


def test_a_day_that_is_none_is_told_by_its_option(fresh: Project) -> None:
    ended = fresh.call("backfill", "--from", "x", "--to", DAYS[0])
    assert ended.code == 2 and ended.err.startswith("dmtl: error: --from: expected a day")


def test_path_knows_every_stage(fresh: Project) -> None:
    assert f"expected one of {', '.join(STAGES)}" in fresh.call("path", "attic").err
    group: Any = typer.main.get_command(app)
    (argument,) = [p for p in group.commands["path"].params if p.name == "stage"]
    assert set(argument.help.rstrip(".").replace(" or ", ", ").split(", ")) == {*STAGES}
    for stage in STAGES:
        ended = fresh.call("path", stage)
        assert ended.code == 66 and f"no published {stage}" in ended.err


# -- a metrics file that cannot be written -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "told"),
    [("no/m.prom", "there is no folder {home}/no"), ("config.yaml/m", "no folder"), (".", "is a folder")],
)
def test_a_bad_metrics_file_is_told_before_the_work(fresh: Project, file: str, told: str) -> None:
    ended = fresh.stage("train-teacher", 1, "--metrics-file", fresh.home / file)
    assert ended.code == 73 and ended.out == "" and "--metrics-file" in ended.err
    assert told.format(home=fresh.home) in ended.err
    assert not fresh.ws.exists(), "nothing was trained, nothing logged"


def test_a_folder_that_cannot_be_written_is_told_too(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so os.access is told otherwise."""
    real = os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != fresh.home and real(path, mode))
    ended = fresh.stage("train-teacher", 1, "--metrics-file", fresh.home / "m.prom")
    assert ended.code == 73 and f"folder {fresh.home} cannot be written" in ended.err
    assert not fresh.ws.exists()


def test_a_metrics_file_that_cannot_be_written_any_more(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is published, and the exit code says that the file is not."""
    folder = fresh.home / "prom"
    folder.mkdir()
    real = publishing.parse_day  # called when the work begins

    def gone(*arguments: Any) -> dt.date:
        shutil.rmtree(folder, ignore_errors=True)
        day: dt.date = real(*arguments)
        return day

    monkeypatch.setattr("dmtl_cli.cli.publishing.parse_day", gone)
    ended = fresh.stage("train-teacher", 1, "--metrics-file", folder / "m.prom")
    assert ended.code == 73 and "the work is done, but --metrics-file cannot be written" in ended.err
    assert list(fresh.ws.glob("teacher/day=*/CURRENT"))


# -- compare names what differs ----------------------------------------------------------------------------------------


def compare(project: Project, *arguments: object, **settings: object) -> str:
    """The one line of a compare that finds the chain of another recipe and makes nothing."""
    before = project.published()
    ended = project.call("compare", "--day", DAYS[2], *arguments, **settings)
    assert ended.code == 65 and ended.out == "" and project.published() | {"compare": 0} == before | {"compare": 0}
    return ended.err


def test_compare_names_the_key_that_differs(chain: Project) -> None:
    err = compare(chain, student__learning_rate=0.02)
    assert f"student of {DAYS[1]} was made with student.learning_rate 0.01, the config now says 0.02;" in err
    assert "backfill again with this config" in err and "--settings" in err
    assert err.rstrip().endswith("or give it the same --set student.learning_rate=0.01")
    assert "give it the same" not in compare(chain, student__learning_rate=0.02, student__epochs=5)
    err = compare(chain, seed=5)
    assert f"profile of {DAYS[0]} was made with seed 1, the config now says 5;" in err, "the first stage of the chain"


def test_compare_counts_further_differences_and_logs_them(chain: Project) -> None:
    err = compare(chain, teacher__learning_rate=0.002, teacher__epochs=3, teacher__num_experts=3)
    assert f"teacher of {DAYS[0]} was made with teacher.epochs 2, the config now says 3" in err
    assert "(and 2 more, in " in err
    told = chain.logged("compare", 3)
    assert "teacher.learning_rate 0.003, the config now says 0.002" in told and "teacher.num_experts 2, the" in told
    err = compare(chain, data__events__request="null")
    assert f"profile of {DAYS[0]} was made with data.events.request request_id, the config now says null" in err


def test_compare_names_a_feature_by_its_name(chain: Project) -> None:
    features = [*BASE["features"][:5], {"name": "category", "side": "item", "kind": "categorical", "min_count": 3}]
    chain_with = Project(chain.home, chain.config | {"features": features})
    chain_with.write()
    try:
        assert "was made with features.category.min_count 1, the config now says 3;" in compare(chain)
    finally:
        chain.write()


def test_compare_names_an_input_that_changed(project: Project) -> None:
    log = Path(project.config["data"]["root"])
    frame = events(log, DAYS[1])
    frame[:-1].write_parquet(log / f"events/day={DAYS[1]}/part-0.parquet")
    err = compare(project)
    told = f"its input events/day={DAYS[1]}/part-0.parquet changed ({len(frame)} rows then, {len(frame) - 1} now);"
    assert f"profile of {DAYS[1]} was made before {told}" in err
    project.done("build-profile", 2)
    assert f"teacher of {DAYS[1]} was made before {told}" in compare(project)
    frame.write_parquet(log / f"events/day={DAYS[1]}/part-1.parquet")
    assert f"without the input events/day={DAYS[1]}/part-1.parquet" in compare(project) + project.logged("compare", 3)


def test_compare_names_a_version_that_differs(chain: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmtl_cli.runs.run.__version__", "99.1")
    err = compare(chain)
    assert f"profile of {DAYS[0]} was made with dmtl {__version__}, now it is 99.1;" in err


def test_compare_names_a_parent_that_was_made_again(project: Project) -> None:
    log = Path(project.config["data"]["root"])
    events(log, DAYS[0])[:-1].write_parquet(log / f"events/day={DAYS[0]}/part-0.parquet")
    commands = {"profile": "build-profile", "teacher": "train-teacher"}
    again = {stage: project.done(command, 1)["run_id"] for stage, command in commands.items()}
    project.done("dump-logits", 1)
    for stage, command in commands.items():
        err = compare(project)
        assert f"{stage} of {DAYS[1]} was made before its parent {stage} of {DAYS[0]} became run {again[stage]};" in err
        project.done(command, 2)


def test_compare_tells_what_is_not_there_or_damaged(project: Project) -> None:
    victim = next(project.ws.glob(f"teacher/day={DAYS[1]}/run-*/model.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1])
    assert f"{victim}: expected" in compare(project)
    shutil.rmtree(project.ws / f"scores/day={DAYS[0]}")
    assert f"no published scores of {DAYS[0]} in {project.ws}; backfill again" in compare(project)


def test_differences() -> None:
    a, b = {"name": "a", "x": 1}, {"name": "b", "x": 1}
    assert list(differences([a, b], [a, {"name": "b", "x": 2}], "f")) == [("f.b.x", 1, 2)]
    assert list(differences([a], [a, b], "f")) == [("f.b", _ABSENT, b)]
    assert list(differences([a, b], [a], "f")) == [("f.b", b, _ABSENT)]
    assert list(differences([a, b], [b, a], "f")) == [("f", ["a", "b"], ["b", "a"])], "their order counts too"
    assert list(differences([a, a], [a, b], "f")) == [("f", [a, a], [a, b])], "names that stand twice name nothing"
    assert list(differences({"l": [{"w": 1}, {"w": 2}]}, {"l": [{"w": 1}, {"w": 3}]})) == [("l.1.w", 2, 3)]
    assert list(differences({"u": [64, 32]}, {"u": [64]})) == [("u", [64, 32], [64])]
    assert list(differences({"k": 1, "o": {}}, {"k": 1, "o": {}})) == []
    said = "was made without teacher.x, which the config, or this version of dmtl, now has"
    assert _config_change("teacher.x", _ABSENT, False) == said, "a key that came with an upgrade stands in no config"


# -- compare says what lacks before it measures ------------------------------------------------------------------------


def test_compare_before_the_first_export(project: Project) -> None:
    ended = project.call("compare", "--day", DAYS[2], "--since", DAYS[1])
    assert ended.code == 66 and f"no student was exported before {DAYS[1]}, the first measured day;" in ended.err
    assert f"measure from {DAYS[2]} on, or backfill days before {DAYS[0]}" in ended.err
    for folder in {project.ws / "export", *project.ws.glob(f"*/day={DAYS[1]}")}:
        shutil.rmtree(folder, ignore_errors=True)
    ended = project.call("compare", "--day", DAYS[1])
    assert f"backfill up to {DAYS[1]} and measure from {DAYS[2]} on, or backfill days before {DAYS[0]}" in ended.err
    ended = project.call("compare", "--day", DAYS[2])
    assert f"backfill the chain, which begins on {DAYS[0]}, up to {DAYS[1]} first" in ended.err
    shutil.rmtree(project.ws / "teacher")
    assert f"backfill the chain up to {DAYS[1]} first" in project.call("compare", "--day", DAYS[2]).err


# -- days that were stopped or refused ---------------------------------------------------------------------------------


def of_scores(results: list[dict[str, Any]]) -> list[str]:
    """Day and teacher of each dump."""
    return ["/".join(Path(r["path"]).parts[-3:-1]) for r in results if r["stage"] == "scores"]


def test_a_day_that_was_stopped_after_its_teacher_costs_no_other_its_student(fresh: Project, chain: Project) -> None:
    fresh.done("train-teacher", 1)
    ended = fresh.call("run", "--day", DAYS[1], "--json")
    assert (ended.code, ended.err) == (0, "")
    first, second = (f"day={day}/teacher={DAYS[0]}" for day in DAYS[:2])
    assert of_scores(ended.every) == [f"day={DAYS[1]}/teacher={DAYS[1]}", first, second]
    assert fresh.ws.joinpath("export", "LATEST").read_text() == chain.ws.joinpath("export", "LATEST").read_text()


def test_a_teacher_whose_own_scores_cannot_be_had_is_passed_over(project: Project) -> None:
    """One way alone has its scores: a student of it would be refused, as nothing covers the other."""
    project.done("dump-logits", 3, "--teacher-day", DAYS[1])
    shutil.rmtree(project.ws / "scores" / f"day={DAYS[1]}" / f"teacher={DAYS[1]}")
    shutil.rmtree(Path(project.config["data"]["root"]) / "events" / f"day={DAYS[1]}")
    ended = project.call("run", "--day", DAYS[2], "--json")
    assert (ended.code, ended.err) == (0, "")
    assert of_scores(ended.every) == [f"day={DAYS[2]}/teacher={t}" for t in (DAYS[2], DAYS[0])]
    assert f"passes over teacher {DAYS[1]}, which has no scores of its own day" in project.logged("run", 3)
    (student,) = (r for r in ended.every if r["stage"] == "student")
    assert Manifest.read(Path(student["path"]) / "manifest.json").facts["teacher"]["day"] == DAYS[0]


def test_a_student_without_any_teacher_of_all_ways_is_refused_and_the_chain_goes_on(fresh: Project, log: Path) -> None:
    """As before there was another to pass on to: 80 of the day, not 66, at which `backfill` stops. A floor that allows
    it learns from one way."""
    shutil.copytree(log, fresh.home / "own")
    fresh.config["data"]["root"] = str(fresh.home / "own")
    fresh.write()
    fresh.done("train-teacher", 1)
    shutil.rmtree(fresh.home / "own" / "events" / f"day={DAYS[0]}")
    ended = fresh.call("backfill", "--from", DAYS[1], "--to", DAYS[2], "--json")
    assert ended.code == 80 and "coverage of replay is 0.000" in ended.err
    assert {r["day"] for r in ended.every if r["stage"] == "student"} == {DAYS[2]}
    assert fresh.stage("run", 2, student__distill__floors__replay=0).code == 0


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_finds_rescores_by_an_older_teacher(fresh: Project) -> None:
    """As `min_age_days: 2` makes them."""
    fresh.done("train-teacher", 1)
    fresh.done("dump-logits", 3, "--teacher-day", DAYS[0])

    def rescores() -> list[str]:
        days = fresh.call("status", "--json").json["days"]
        return [days[day]["rescores"] for day in DAYS[:3]]

    assert rescores() == ["not due", "missing", "published"]
    assert fresh.stage("train-teacher", 1, seed=2).code == 0
    assert rescores() == ["not due", "missing", "stale"]
    assert fresh.stage("dump-logits", 3, "--teacher-day", DAYS[0], seed=2).code == 0
    assert rescores()[2] == "published"
    fresh.done("train-teacher", 3, "--allow-gap")
    fresh.done("dump-logits", 3)
    assert rescores()[2] == "published", "the day's own teacher does not rescore it"
    (Path(fresh.call("path", "scores", "--teacher-day", DAYS[0]).out.strip()) / "manifest.json").write_text("{")
    assert rescores()[2] == "damaged"
    fresh.ws.joinpath("teacher", f"day={DAYS[2]}", "CURRENT").write_text("nothing")
    assert fresh.call("status", "--json").json["days"][DAYS[2]]["teacher"] == "damaged"


# -- names of torch that may change with its versions ------------------------------------------------------------------

SEEN = {"2.13"}


def seen(names: str) -> None:
    version = ".".join(torch.__version__.split(".")[:2])
    assert version in SEEN, (
        f"torch {version} was not seen yet. Check in its release notes and sources that {names} still do what the "
        "function's docstring says, run tests/test_ranks.py with TorchRec installed, then add the version to SEEN."
    )


def test_deterministic_torch_without_its_compiler() -> None:
    before = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    try:
        make_deterministic("cuda")
        assert torch.get_deterministic_debug_mode() == 0 and not torch.are_deterministic_algorithms_enabled()
        make_deterministic("cpu")
        assert torch.are_deterministic_algorithms_enabled() and torch.get_deterministic_debug_mode() == 2
        assert torch._C._get_deterministic_fill_uninitialized_memory() is False
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]
    seen("torch.set_deterministic_debug_mode and torch.utils.deterministic.fill_uninitialized_memory")


def test_the_distributed_names_of_torch() -> None:
    """A group of one process: the store notes the first failure, and a gather gives rows and gradients back."""
    env = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    store = _open_store(env)
    assert (Ranks(0, 1, store=store).failed(65), Ranks(1, 2, store=store).failed(74)) == ((65, True), (65, False))
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        y = _gather_function()(x, 2, Ranks())
        (y * y).sum().backward()
        assert torch.equal(y, x) and x.grad is not None and torch.equal(x.grad, 2 * x)
    finally:
        dist.destroy_process_group()
    seen("torch.distributed.TCPStore, PrefixStore and all_gather_single")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_is_no_failure(chain: Project, closed: str) -> None:
    command = f'"{sys.executable}" -m dmtl_cli.cli status --config "{chain.file}" {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and ("served" in done.stdout) == (closed == "2>&-")


def test_a_command_that_is_spelled_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["chek"]) == 2
    assert capsys.readouterr().err == "dmtl: error: no such command 'chek', did you mean 'check'; see dmtl --help\n"
