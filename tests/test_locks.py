"""One chain, one writer: who holds it, how long others wait for it, days that were forgotten, what the dead left."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from worlds import DAYS, Project, assert_one_line, events

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs import progress
from dmtl_cli.runs.locks import holding, holding_all
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.synth.generate import generate

DMTL = (sys.executable, "-m", "dmtl_cli.cli")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=1200, seed=1)
    return out / "log"


@pytest.fixture
def fresh(world: Path, tmp_path: Path) -> Project:
    """A project whose log is its own."""
    shutil.copytree(world, tmp_path / "log")
    return Project.create(tmp_path, tmp_path / "log")


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Days 1 and 2; read only."""
    made = Project.create(tmp_path_factory.mktemp("chain"), world)
    assert made.call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
    return made


@pytest.fixture
def project(chain: Project, fresh: Project) -> Project:
    """A copy of days 1 and 2, with a log of its own."""
    shutil.copytree(chain.ws, fresh.ws)
    return fresh


def started(project: Project, command: str, *arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    whole = [*DMTL, command, "--config", str(project.file), *arguments]
    return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(there: object) -> None:
    give_up = time.monotonic() + 60
    while not there():  # type: ignore[operator]
        assert time.monotonic() < give_up
        time.sleep(0.02)


@contextmanager
def training(project: Project, day: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of the teacher of a day, for as long as the block, then killed."""
    with started(project, "train-teacher", "--day", day, "--set", "teacher.epochs=1000000") as running:
        try:
            until(lambda: running.poll() is not None or [*project.ws.glob("scratch/teacher-*/tmp/*.arrow")])
            assert running.poll() is None
            yield running
        finally:
            running.kill()


def parents(project: Project, stage: str, day: str) -> set[tuple[str, str]]:
    (folder,) = project.ws.glob(f"{stage}/day={day}/run-*")
    made = json.loads((folder / "manifest.json").read_text())
    return {(p["stage"], p["day"]) for p in made["parents"]}


# -- the lock ----------------------------------------------------------------------------------------------------------


def test_who_holds_the_chain_is_named_and_a_dead_holder_is_none(
    fresh: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training(fresh, DAYS[0]) as holder, monkeypatch.context() as patch:
        patch.setattr("dmtl_cli.runs.locks.time.sleep", lambda _: pytest.fail("nobody said to wait"))
        for command in ("run", "build-profile", "train-teacher", "dump-logits", "train-student", "evaluate", "tune"):
            ended = fresh.call(command, "--day", DAYS[2])
            assert ended.code == 75, (command, ended.err)
            who = rf"{fresh.ws}/locks/chain.lock: pid {holder.pid} on {socket.gethostname()} since 20\d\d-\S+ "
            assert re.search(rf"another run holds {who}\(dmtl train-teacher --day {DAYS[0]}\)", ended.err), ended.err
        for arguments in (["refresh"], ["backfill", "--from", DAYS[1], "--to", DAYS[2]], ["export", "--day", DAYS[0]]):
            ended = fresh.call(*arguments)
            assert ended.code == 75 and f"pid {holder.pid} on" in ended.err and "--lock-wait" in ended.err
        told = fresh.call("status")
        assert told.code == 0, "readers need no lock"
        assert re.search(rf"^running: pid {holder.pid} on .*\(dmtl train-teacher --day {DAYS[0]}\)", told.out, re.M)
        assert f"pid {holder.pid} on" in fresh.call("status", "--json").json["running"]
        assert [p.name for p in fresh.scratch_left()] == [f"teacher-{DAYS[0]}"], "the living keep their scratch"
    assert fresh.scratch_left(), "SIGKILL"
    lock = fresh.ws / "locks/chain.lock"
    assert lock.read_text() and fresh.call("status", "--json").json["running"] is None, "it is dead"
    assert "running" not in fresh.call("status").out
    lock.write_text(elsewhere := lock.read_text().replace(socket.gethostname(), "another"))
    assert fresh.call("status", "--json").json["running"] == elsewhere, "of another host nobody can tell"
    fresh.done("train-teacher", 1)
    assert fresh.scratch_left() == []
    assert fresh.ws.joinpath("locks/chain.lock").read_text() == "", "nobody holds it"
    assert {p.name for p in fresh.ws.joinpath("locks").iterdir()} == {"chain.lock"}


def test_two_runs_at_once_make_one_chain(fresh: Project) -> None:
    """The second one begins before the first has published anything, and yet builds on it."""
    fresh.done("build-profile", 1)
    first = started(fresh, "run", "--day", DAYS[0])
    until(lambda: fresh.ws.joinpath("locks/chain.lock").read_text())
    first.send_signal(signal.SIGSTOP)
    assert fresh.call("run", "--day", DAYS[1]).code == 75
    (fresh.ws / "logs" / f"run-{DAYS[1]}.jsonl").unlink()
    second = started(fresh, "run", "--day", DAYS[1], "--lock-wait", "5m")
    until((fresh.ws / "logs" / f"run-{DAYS[1]}.jsonl").exists)
    first.send_signal(signal.SIGCONT)
    for each in (first, second):
        assert each.communicate(timeout=120) == ("", "") and each.returncode == 0
    assert ("teacher", DAYS[0]) in parents(fresh, "teacher", DAYS[1])
    assert ("scores", DAYS[0]) in parents(fresh, "student", DAYS[1])


def test_waiting_for_the_lock_ends_when_it_was_said_or_on_a_signal(fresh: Project) -> None:
    with training(fresh, DAYS[0]) as holder:
        began = time.monotonic()
        ended = fresh.call("run", "--day", DAYS[0], "--lock-wait", "1s")
        assert ended.code == 75 and f"pid {holder.pid}" in ended.err and 1 <= time.monotonic() - began < 60
        with started(fresh, "run", "--day", DAYS[1], "--lock-wait", "2h") as waiting:
            until(lambda: (fresh.ws / "logs" / f"run-{DAYS[1]}.jsonl").exists())
            time.sleep(0.5)
            waiting.send_signal(signal.SIGTERM)
            err = waiting.communicate(timeout=30)[1]
        assert waiting.returncode == 128 + signal.SIGTERM
        assert_one_line(err)


@pytest.mark.parametrize("text", ["1", "-1s", "1d", "1.5h", "", "1h30m", "9999999s"])
def test_a_duration_that_is_none(fresh: Project, text: str) -> None:
    for option in ("--lock-wait", "--wait"):
        ended = fresh.call("run", "--day", DAYS[0], f"{option}={text}")
        assert ended.code == 2 and f"{option}: expected a duration such as 30s, 10m or 2h" in ended.err
    assert not (fresh.ws / "profile").exists()


def test_the_lock_file_holds_no_secret(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fresh.ws / "locks/chain.lock"
    held = []
    monkeypatch.setattr("dmtl_cli.stages.run.run_day", lambda *_: held.append(lock.read_text()) or [])

    def refused(*_: object) -> None:
        held.append(lock.read_text())
        raise UserError("stop here")

    monkeypatch.setattr("dmtl_cli.stages.refresh.refresh", refused)
    assert fresh.call("run", "--day", DAYS[0], seed=987654321).code == 0
    assert fresh.call("refresh", seed=987654321).code == 65
    assert [text.partition("(")[2] for text in held] == [f"dmtl run --day {DAYS[0]})", "dmtl refresh)"]
    assert not any("987654321" in text for text in held) and lock.read_text() == ""


@pytest.mark.parametrize("text", ["", "pid 12", "pid 1 on \x1b since 2026-01-01T00:00:00+0000 (dmtl)", "\xff" * 9000])
def test_a_torn_or_hostile_lock_file_is_not_repeated(fresh: Project, text: str) -> None:
    lock = fresh.ws / "locks/chain.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w", encoding="latin-1") as held:
        held.write(text)
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = fresh.call("run", "--day", DAYS[0])
        assert ended.code == 75 and f"another run holds {lock}; retry later" in ended.err
    assert fresh.call("build-profile", "--day", DAYS[0]).code == 0


def test_the_lock_ends_with_the_block_though_a_forked_worker_lives(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    with holding(ws, 0, "dmtl run"):
        worker = os.fork()
        if worker == 0:
            signal.pause()
        with pytest.raises(UserError) as caught, holding(ws, 0, "dmtl run"):
            pass
        assert caught.value.code == Exit.LOCKED
    try:
        with holding(ws, 0, "dmtl run"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def test_a_full_disk_costs_the_name_of_the_holder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    ws = Workspace(tmp_path)
    monkeypatch.setattr(os, "pwrite", full)
    with holding(ws, 0, "dmtl run"), pytest.raises(UserError, match=r"chain.lock$"), holding(ws, 0, "dmtl run"):
        pass


def test_an_error_of_the_work_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), holding(Workspace(tmp_path), 0, "dmtl run"):
        raise FileExistsError("not a lock that cannot be created")


# -- compare reads the chain -------------------------------------------------------------------------------------------


def test_compare_needs_not_the_chain_but_its_own_folders(project: Project) -> None:
    with training(project, DAYS[2]):
        before = project.published()
        compared = project.stage("compare", 3, student__exposure__kappa=0.5, auto__budget=0)
        assert compared.code == 65, "another config: it looks at the chain though another holds it"
        left = project.scratch_left()
        compared = project.stage("compare", 3)
        assert compared.code == 0, compared.err
        assert project.scratch_left() == left, "what the holder works on stays"
    made = project.published().keys() - before.keys()
    assert {name.split("/")[0] for name in made} == {"compare", "joint", "evaluation"}
    assert not [*project.ws.glob("compare/**/scratch/*")]
    with (project.ws / "compare/locks/chain.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert project.stage("compare", 3).code == 75
        assert project.call("evaluate", "--day", DAYS[2]).code == 0, "the chain is free"
    with (project.ws / "compare/click_only/locks/chain.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "compare/click_only/locks/chain.lock" in project.stage("compare", 3).err


def test_several_chains_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is free after a second, the other never: two seconds in all."""
    now, chains = 0.0, [Workspace(tmp_path / name) for name in "ab"]
    with contextlib.ExitStack() as first, holding(chains[1], 0, "dmtl run"):
        first.enter_context(holding(chains[0], 0, "dmtl run"))

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds
            if now == 1:
                first.close()

        monkeypatch.setattr("dmtl_cli.runs.locks.time.sleep", sleep)
        monkeypatch.setattr("dmtl_cli.runs.locks.time.monotonic", lambda: now)
        with pytest.raises(UserError), holding_all(chains, 2, "dmtl gc"):
            pass
    assert now == 2


# -- gaps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "train-teacher", "backfill"])
def test_a_day_after_a_forgotten_one_is_refused(project: Project, command: str) -> None:
    days = ["--from", DAYS[3], "--to", DAYS[3]] if command == "backfill" else ["--day", DAYS[3]]
    before = project.published()
    ended = project.call(command, *days)
    assert ended.code == 65 and project.published() == before
    assert f"day {DAYS[2]} of the log is not in the workspace; run dmtl run --day {DAYS[2]} first" in ended.err
    shutil.rmtree(project.home / "log" / "events" / f"day={DAYS[2]}")
    if command == "train-teacher":
        assert project.call(command, *days).code == 0, "a day that the log lacks is no gap"
        return
    shutil.copytree(project.home / "log" / "events" / f"day={DAYS[3]}", project.home / f"log/events/day={DAYS[2]}")
    assert project.call(command, *days, "--allow-gap").code == 0
    assert ("teacher", DAYS[1]) in parents(project, "teacher", DAYS[3])
    assert (project.ws / f"profile/day={DAYS[2]}").exists(), "a profile leaves no event out"


def test_a_chain_goes_on_after_a_refused_day(project: Project) -> None:
    why = project.ws / "rejected" / f"teacher-{DAYS[2]}.txt"
    why.parent.mkdir(exist_ok=True)
    why.write_text("dmtl: error: the AUC is 0.4\n")
    assert project.call("run", "--day", DAYS[3]).code == 0
    assert ("teacher", DAYS[1]) in parents(project, "teacher", DAYS[3])


@pytest.mark.parametrize("command", ["run", "backfill"])
def test_a_chain_goes_on_after_a_day_without_rows(fresh: Project, command: str) -> None:
    """Its files are there, so that a profile is due of it, which nothing can be."""
    fresh.config["features"] = "auto"
    fresh.write()
    for day in DAYS[:2]:
        assert fresh.call("build-profile", "--day", day).code == 0
    fresh.done("train-teacher", 2)
    file = fresh.home / "log" / "events" / f"day={DAYS[2]}" / "part-0.parquet"
    events(fresh.home / "log", DAYS[2]).clear().write_parquet(file)
    ended = fresh.call("run", "--day", DAYS[2])
    assert ended.code == 66 and "has no rows" in ended.err and "run the next with --allow-gap" in ended.err
    days = ["--from", DAYS[3], "--to", DAYS[3]] if command == "backfill" else ["--day", DAYS[3]]
    assert fresh.call(command, *days).code == 65
    assert fresh.call(command, *days, "--allow-gap").code == 0
    assert ("profile", DAYS[1]) in parents(fresh, "profile", DAYS[3])
    assert ("profile", DAYS[1]) in parents(fresh, "teacher", DAYS[3])
    assert f"{DAYS[2]} is left out" in (fresh.ws / f"logs/{command}-{DAYS[3]}.jsonl").read_text()


def test_a_chain_that_has_not_begun_has_no_gap(fresh: Project) -> None:
    fresh.done("train-teacher", 2)
    fresh.done("train-teacher", 1)


@pytest.mark.parametrize(
    "command", [("run",), ("run", "--allow-gap"), ("train-teacher", "--allow-gap"), ("build-profile",)]
)
def test_a_day_far_ahead_is_told_at_once(project: Project, command: tuple[str, ...]) -> None:
    """Not after a look at each of the three million days between."""
    start = time.process_time()
    ended = project.call(*command, "--day", "9999-12-31", features="auto")
    assert ended.code == 66 and "9999-12-31" in ended.err
    assert time.process_time() - start < 15


# -- what the dead left ------------------------------------------------------------------------------------------------


def test_any_command_sweeps_what_a_dead_run_left_but_checkpoints(project: Project) -> None:
    scratch = project.ws / "scratch"
    for name in (f"teacher-{DAYS[3]}/run/half", f"scores-{DAYS[1]}-teacher={DAYS[1]}/tmp/rank-0/x", "checkpoint-ab/w"):
        (scratch / name).parent.mkdir(parents=True)
        (scratch / name).write_text("left")
    (scratch / "LATEST").write_text("day=2026-01-02/run-0123456789ab\n")
    (scratch / "link").symlink_to(project.home / "log")
    assert project.done("train-teacher", 2)["up_to_date"]
    assert [p.name for p in project.scratch_left()] == ["checkpoint-ab"]
    assert (project.home / "log/events").exists()


# -- the log of a command ----------------------------------------------------------------------------------------------


def test_logs_rotate_and_both_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MOST", 300)
    log = RunLog(tmp_path / "logs/run-2026-01-01.jsonl")
    for k in range(12):
        log.published(k, run_id=f"r{k}")
    files = {p.name: p for p in (tmp_path / "logs").iterdir()}
    assert {*files} == {"run-2026-01-01.jsonl", "run-2026-01-01.jsonl.1"}
    assert all(p.stat().st_size < 400 for p in files.values())
    took = RunLog.took(tmp_path / "logs")
    lines = [json.loads(line) for p in files.values() for line in p.read_text().splitlines()]
    assert took == {line["run_id"]: line["seconds"] for line in lines} and took["r11"] == 11 and len(took) > 3


@pytest.mark.parametrize("how", ["full", "a_folder", "no_folder"])
def test_a_log_that_cannot_be_written_fails_no_stage(fresh: Project, how: str) -> None:
    log = fresh.ws / "logs" / f"train-teacher-{DAYS[0]}.jsonl"
    if how == "no_folder":
        fresh.ws.mkdir()
        log.parent.write_text("in the way")
    else:
        log.parent.mkdir(parents=True)
        log.symlink_to("/dev/full") if how == "full" else log.mkdir()
    assert fresh.done("train-teacher", 1)["up_to_date"] is False
    ended = fresh.stage("train-teacher", 1, labels__long_read=1e9)
    assert ended.code == 65, "a failure has the code of its own"


def test_a_rejected_folder_that_cannot_be_written_fails_no_stage(fresh: Project) -> None:
    fresh.ws.mkdir()
    (fresh.ws / "rejected").write_text("in the way")
    assert fresh.done("train-teacher", 1)["up_to_date"] is False


# -- a day that is still to come ---------------------------------------------------------------------------------------


def test_run_waits_for_the_day_without_holding_the_chain(project: Project) -> None:
    late = project.home / "log" / "events" / f"day={DAYS[2]}"
    late.rename(project.home / "late")
    with started(project, "run", "--day", DAYS[2], "--wait", "10m", "--json") as running:
        until(lambda: (project.ws / "logs" / f"run-{DAYS[2]}.jsonl").exists())
        until(lambda: "is not there yet" in project.logged("run", 3))
        assert project.done("train-teacher", 2)["up_to_date"], "the chain is free meanwhile"
        (project.home / "late").rename(late)
        out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "") and '"stage": "export", "up_to_date": false' in out


def test_waiting_for_a_day_is_bounded_and_quiet(project: Project) -> None:
    for wait, least in (("0", 0.0), ("1s", 1.0)):
        began = time.monotonic()
        ended = project.call("run", "--day", "2026-01-09", "--wait", wait)
        assert ended.code == 66 and least <= time.monotonic() - began < least + 60 and ended.out == ""
    assert "2026-01-09" in ended.err


# -- the time of the last success --------------------------------------------------------------------------------------


def test_the_metric_of_the_last_success_outlives_failures(project: Project) -> None:
    file = project.home / "m.prom"

    def stamp() -> list[float]:
        found = re.findall(
            r'^dmtl_last_success_timestamp_seconds\{command="train-teacher"\} (.*)$', file.read_text(), re.M
        )
        return [float(text) for text in found]

    def call(day: str, code: int) -> None:
        assert project.call("train-teacher", "--day", day, "--metrics-file", file).code == code
        assert f'dmtl_exit_code{{command="train-teacher"}} {code}.0\n' in file.read_text()

    call("2026-01-09", 66)
    assert stamp() == [], "never yet"
    began = int(time.time())
    call(DAYS[1], 0)
    (first,) = stamp()
    assert began <= first <= time.time()
    file.write_text('dmtl_last_success_timestamp_seconds{command="train-teacher"} 1700000000\n')
    call("2026-01-09", 66)
    call("2026-01-09", 66)
    assert stamp() == [1.7e9], "it grows old"
    call(DAYS[1], 0)
    assert stamp()[0] >= began
    file.write_bytes(b"\xff\xfe" + b'dmtl_last_success_timestamp_seconds{command="train-teacher"} 17e')
    call("2026-01-09", 66)
    assert stamp() == [], "what is torn is no time"
