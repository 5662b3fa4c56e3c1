"""Work on a thread of its own beside a training: what it gives, what ends it, and the exposure block, which is such."""

from __future__ import annotations

import copy
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from worlds import BASE, DAYS, Project

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.nn.beside import Beside, Unwanted, thread_is_free
from dmtl_cli.nn.resume import Course
from dmtl_cli.runs.ranks import ALONE
from dmtl_cli.synth.generate import generate

SOON = 20.0  # seconds
CPU = torch.device("cpu")


def endless(beside: Beside[Any]) -> None:
    """Takes batches for ever."""
    for _ in beside.while_wanted(iter(int, 1)):
        time.sleep(0.001)


# -- the thread --------------------------------------------------------------------------------------------------------


def test_it_goes_on_beside() -> None:
    here, there = threading.Event(), threading.Event()

    def work(beside: Beside[int]) -> int:
        there.set()
        assert here.wait(SOON)
        return threading.get_ident()

    with Beside(work, now=True) as beside:
        assert there.wait(SOON)
        assert list(beside.while_well([1, 2])) == [1, 2]
        here.set()
        assert beside.result() != threading.get_ident()


def test_else_the_caller_does_it_when_it_asks() -> None:
    done: list[int] = []
    with Beside(lambda _: done.append(threading.get_ident()), now=False) as beside:
        assert list(beside.while_well([1])) == [1] and not done
        beside.result()
    assert done == [threading.get_ident()]
    with Beside(lambda _: done.append(0), now=False):
        pass
    assert len(done) == 1, "nobody asked"


def test_it_has_one_torch_thread_and_the_caller_keeps_theirs() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with Beside(lambda _: (torch.ones(200_000).sum(), torch.get_num_threads())[1], now=True) as beside:
            assert beside.result() == 1 and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_what_it_raises_is_raised_as_it_is() -> None:
    error = UserError("training diverged", code=Exit.REFUSED)

    def fails(beside: Beside[None]) -> None:
        raise error

    with pytest.raises(UserError) as raised, Beside(fails, now=True) as beside:
        for _ in beside.while_well(iter(int, 1)):  # at the next batch, not at the end
            time.sleep(0.001)
    assert raised.value is error
    for now in (True, False):
        with pytest.raises(UserError) as raised, Beside(fails, now=now) as beside:
            beside.result()
        assert raised.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("training diverged")], ids=["a signal", "an error"])
def test_what_ends_the_caller_ends_it(error: BaseException) -> None:
    over = threading.Event()

    def work(beside: Beside[None]) -> None:
        try:
            endless(beside)
        except Unwanted:
            over.set()
            raise

    with pytest.raises(type(error)) as raised, Beside(work, now=True):
        raise error
    assert raised.value is error and over.is_set(), "the caller waited for its end"


def test_where_a_thread_is_free() -> None:
    before = torch.get_num_threads()
    try:
        for threads, free in ((1, False), (2, True)):
            torch.set_num_threads(threads)
            assert thread_is_free(ALONE, CPU) == free and not thread_is_free(ALONE, torch.device("cuda"))
    finally:
        torch.set_num_threads(before)


# -- the exposure block ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two days' teachers and scores, and the first student."""
    world = tmp_path_factory.mktemp("world")
    generate(world, 2, start=dt.date(2026, 1, 1), users=40, items=30, events_per_day=400, seed=1)
    config = copy.deepcopy(BASE)
    config["student"] |= {"batch_size": 64}
    project = Project.create(tmp_path_factory.mktemp("chain"), world / "log", config=config)
    for day in (1, 2):
        project.done("train-teacher", day)
        project.done("dump-logits", day)
        if day == 1:
            project.done("train-student", day, **{"student.distill.min_age_days": 0})
    return project


@pytest.fixture
def fresh(chain: Project, tmp_path: Path) -> Project:
    return copied(chain, tmp_path)


def copied(chain: Project, home: Path) -> Project:
    project = Project.create(home, Path(chain.config["data"]["root"]), config=chain.config)
    shutil.copytree(chain.ws, project.ws)
    return project


def files(project: Project) -> dict[str, bytes]:
    (run,) = (project.ws / "student" / f"day={DAYS[1]}").glob("run-*")
    return {str(f.relative_to(run)): f.read_bytes() for f in run.rglob("*.safetensors")}


def trained(project: Project, **settings: Any) -> tuple[dict[str, bytes], set[str]]:
    """The files that a student of the second day has, and the threads that trained it."""
    threads: set[str] = set()
    step = Course.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Course, "step", lambda c: (threads.add(f"{c.name} {threading.current_thread().name}"), step(c)))
        project.done("train-student", 2, **settings)
    return files(project), threads


def test_beside_it_learns_what_one_thread_learns(
    chain: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte by byte, and the preference what it learns on as many threads when it is alone; each time the same."""

    def parts(found: dict[str, bytes]) -> list[dict[str, bytes]]:
        return [{k: v for k, v in found.items() if k.startswith("exposure") == of} for of in (False, True)]

    one, threads = trained(copied(chain, tmp_path / "one"), threads=1)
    assert threads == {"preference MainThread", "exposure MainThread"}
    found = []
    for k in range(2):
        made, threads = trained(copied(chain, tmp_path / f"two-{k}"), threads=2)
        assert threads == {"preference MainThread", "exposure beside"}
        found.append(made)
    monkeypatch.setattr("dmtl_cli.student.exposure_training.thread_is_free", lambda *_: False)
    in_turn, threads = trained(copied(chain, tmp_path / "turn"), threads=2)
    assert threads == {"preference MainThread", "exposure MainThread"}
    assert found[0] == found[1] and all(parts(found[0]))
    assert parts(found[0]) == [parts(in_turn)[0], parts(one)[1]]


def test_both_go_on_from_checkpoints_of_their_own(
    chain: Project, fresh: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = counted(monkeypatch)
    expected, _ = trained(copied(chain, tmp_path / "alone"), threads=2, checkpoint_minutes=0)
    whole = {name: steps.count(name) for name in ("preference", "exposure")}
    steps.clear()
    step = Course.step

    def some(course: Course) -> None:
        step(course)
        if min(map(steps.count, whole)) > 2:
            raise RuntimeError("killed")

    settings = {"threads": 2, "checkpoint_minutes": 1e-9}
    with monkeypatch.context() as patch:
        patch.setattr(Course, "step", some)
        assert fresh.stage("train-student", 2, **settings).code not in (0, 2)
    names = sorted(p.name for p in (fresh.ws / "scratch").glob("checkpoint-*"))
    assert len(names) == 2 and names[0].removesuffix("-exposure.safetensors") == names[1].removesuffix(".safetensors")
    assert any(steps.count(name) < n for name, n in whole.items())
    fresh.done("train-student", 2, **settings)
    assert files(fresh) == expected and fresh.scratch_left() == []
    assert {name: steps.count(name) for name in whole} == whole, "no step is taken twice"
    assert fresh.logged("train-student", 2).count("goes on from the checkpoint") == 2


def counted(patch: pytest.MonkeyPatch) -> list[str]:
    """The course of each step that this process trains from now on."""
    steps: list[str] = []
    step = Course.step
    patch.setattr(Course, "step", lambda course: (steps.append(course.name), step(course)))
    return steps


def test_a_block_that_diverges_ends_the_stage_as_it_does_alone(fresh: Project) -> None:
    said = []
    for threads in (1, 2):
        found = fresh.stage("train-student", 2, threads=threads, **{"student.exposure.learning_rate": 1e30})
        assert found.code == Exit.REFUSED
        said.append(found.err)
    assert "training diverged" in said[0] and said[0].splitlines()[0] == said[1].splitlines()[0]


def test_a_signal_ends_both_at_once(fresh: Project) -> None:
    settings = ["threads=2", "student.epochs=100000", "checkpoint_minutes=1e-9"]
    arguments = ["train-student", "--config", str(fresh.file), "--day", DAYS[1]]
    command = [sys.executable, "-m", "dmtl_cli", *arguments, *(x for s in settings for x in ("--set", s))]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ)
    begun, scratch = time.monotonic(), fresh.ws / "scratch"
    while time.monotonic() < begun + 60 and len(list(scratch.glob("checkpoint-student-*.safetensors"))) < 2:
        time.sleep(0.1)
    assert running.poll() is None, "both train"
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=SOON)
    assert running.returncode == 128 + signal.SIGTERM
    assert err == "dmtl: error: terminated; what was running is not published; run it again\n"
    assert not list(scratch.glob("student-*"))
