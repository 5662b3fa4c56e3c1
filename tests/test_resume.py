"""A stage killed in training goes on from its checkpoint and ends with the bytes of one that was left alone."""

from __future__ import annotations

import copy
import datetime as dt
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from worlds import BASE, DAYS, Project

from dmtl_cli.cli.main import execute
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.student import KD
from dmtl_cli.nn.resume import Checkpoints, Course
from dmtl_cli.runs.artifact import publish
from dmtl_cli.runs.gates import Measure
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.student.doubts import Agreement
from dmtl_cli.student.gates import Distance
from dmtl_cli.synth.generate import generate

PROCESSES = multiprocessing.get_context("forkserver")  # a process that never computed, so that it may be forked
PROCESSES.set_forkserver_preload(["dmtl_cli.stages.train_student", "dmtl_cli.stages.train_teacher"])
EACH_STEP = 1e-9  # minutes
STEPS = {"train-teacher": 32, "train-joint": 32, "train-student": 122}  # two epochs of 16; 15; exposures: 23 a day


def config() -> dict[str, Any]:
    """Everything that draws while it trains: dropped experts, hidden contexts, lost ids, drawn negatives."""
    whole = copy.deepcopy(BASE)
    request = {"name": "request", "side": "context", "kind": "categorical", "column": "request_id"}
    whole["features"].append(request | {"hash_bucket_size": 20})
    whole["teacher"] |= {"gate_dropout": 0.2, "samples": "mixed", "negatives": 2, "unknown_share": 0.1}
    whole["student"] |= {"embedding_optimizer": "adam", "embedding_learning_rate": 0.01}  # the teacher has the other
    whole["student"] |= {"epochs": 2, "hard": {"w_hard": 0.5, "loss": "pointwise"}}
    whole["checkpoint_minutes"] = EACH_STEP
    return whole


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 2, start=dt.date(2026, 1, 1), users=60, items=50, events_per_day=1500, seed=1)
    return out


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The teacher of day 1 and its scores."""
    project = Project.create(tmp_path_factory.mktemp("chain"), world / "log", config=config())
    project.done("train-teacher", 1)
    project.done("dump-logits", 1)
    return project


@pytest.fixture(scope="module")
def alone(chain: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each training publishes when nobody kills it, without checkpoints."""
    made: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        taken = counted(patch)
        for command in STEPS:
            project = copied(chain, tmp_path_factory.mktemp("alone"))
            taken.clear()
            made[command] = project.done(command, 2, checkpoint_minutes=0)
            assert len(taken) == STEPS[command]
    return made


@pytest.fixture
def fresh(chain: Project, tmp_path: Path) -> Project:
    return copied(chain, tmp_path)


def copied(chain: Project, home: Path) -> Project:
    project = Project.create(home, Path(chain.config["data"]["root"]), config=chain.config)
    shutil.copytree(chain.ws, project.ws)
    return project


def counted(patch: pytest.MonkeyPatch) -> list[str]:
    """The course of each step that this process trains from now on."""
    taken: list[str] = []
    step = Course.step
    patch.setattr(Course, "step", lambda course: (taken.append(course.name), step(course)))
    return taken


def _killed(arguments: list[str], after: int, full: bool) -> None:
    left, step = iter(range(after - 1)), Course.step

    def last(course: Course) -> None:
        if full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        step(course)
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    Course.step = last  # type: ignore[method-assign]
    os._exit(execute(arguments))


def killed(project: Project, command: str, after: int, *, full: bool = False) -> list[Path]:
    """Kills a stage of day 2 after so many steps; returns the checkpoints that it left.

    Args:
        full: whether the disk takes no more bytes once training begins.
    """
    arguments = [command, "--config", str(project.file), "--day", DAYS[1]]
    process = PROCESSES.Process(target=_killed, args=(arguments, after, full))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    return list((project.ws / "scratch").glob("checkpoint-*"))


# -- through the command line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "after"),
    [
        *[("train-teacher", n) for n in (1, 9, 16, 21)],
        *[("train-student", n) for n in (3, 23)],  # preference
        *[("train-student", 30 + n) for n in (0, 34, 46, 56, 69, 75)],  # exposures: the second day begins at 46
        ("train-joint", 20),
    ],
)
def test_a_killed_stage_goes_on(
    fresh: Project, alone: dict[str, dict[str, Any]], command: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(killed(fresh, command, after)) == 1
    taken = counted(monkeypatch)
    made = fresh.done(command, 2)
    assert len(taken) == STEPS[command] - after, "no step is taken twice"
    assert (made["run_id"], made["metrics"]) == (alone[command]["run_id"], alone[command]["metrics"])
    assert fresh.scratch_left() == [] and "goes on from the checkpoint" in fresh.logged(command, 2)


def test_a_damaged_checkpoint_is_ignored(
    fresh: Project, alone: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = killed(fresh, "train-teacher", 5)
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    taken = counted(monkeypatch)
    assert fresh.done("train-teacher", 2)["run_id"] == alone["train-teacher"]["run_id"]
    assert len(taken) == STEPS["train-teacher"] and "is damaged and ignored" in fresh.logged("train-teacher", 2)


def test_a_checkpoint_of_another_key_is_removed(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert killed(fresh, "train-teacher", 5)
    taken = counted(monkeypatch)
    fresh.done("train-teacher", 2, seed=2)
    assert len(taken) == STEPS["train-teacher"] and fresh.scratch_left() == []
    for name in ("teacher-2026-01-02-0123.safetensors", "teacher-2026-01-02-0123.draft", "student-2026-01-02-0123"):
        (fresh.ws / f"scratch/checkpoint-{name}").touch()
    assert fresh.done("train-teacher", 2, seed=2)["up_to_date"]
    assert [p.name for p in fresh.scratch_left()] == ["checkpoint-student-2026-01-02-0123"], "of another stage"


def test_a_full_disk_stops_no_training(fresh: Project) -> None:
    """Neither checkpoint nor log can be written."""
    assert killed(fresh, "train-teacher", 9, full=True) == []


def test_a_refused_run_leaves_no_checkpoint(tmp_path: Path) -> None:
    ws, day = Workspace(tmp_path), dt.date(2026, 1, 2)
    for code, stays in ((Exit.DATA, True), (Exit.REFUSED, False)):
        with pytest.raises(UserError), publish(ws, "teacher", day, key="0123") as publication:
            publication.checkpoint.touch()
            raise UserError("no", code=code)
        assert publication.checkpoint.exists() == stays


# -- a training without a model ----------------------------------------------------------------------------------------


class Sum:
    """A number that every step moves by what was drawn from both generators."""

    def __init__(self, size: int = 1) -> None:
        self.value = torch.zeros(size, dtype=torch.float64)

    def add(self, batch: int) -> None:
        self.value = 0.9 * self.value + batch * torch.rand(1, dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.value = state["value"].clone()


class Killed(Exception):
    pass


@dataclass
class Toy:
    """Two courses, the second of several passes."""

    file: Path
    minutes: float = EACH_STEP
    ranks: Ranks = ALONE
    size: int = 1
    draws: int = 1
    steps: int = 0

    def train(self, kill: int | None = None) -> list[list[float]]:
        """What both kept and the means of their last pass. Raises Killed after so many steps."""
        config = SimpleNamespace(checkpoint_minutes=self.minutes)
        log = RunLog(self.file.with_suffix(".log"), quiet=True)
        run: Any = SimpleNamespace(config=config, ranks=self.ranks, log=log, device=torch.device("cpu"))
        publication: Any = SimpleNamespace(checkpoint=self.file)
        torch.manual_seed(1)
        checkpoints, out = Checkpoints(run, publication), []
        for name, passes in (("one", 1), ("two", 3)):
            kept, rng = Sum(self.size), np.random.default_rng(2)
            course = checkpoints.course(name, {"sum": kept}, rng)
            for _ in range(passes):
                means = Sum()
                with log.progress("toy") as progress:
                    for batch in course.remaining(self.batches(rng), means, progress):
                        kept.add(batch)
                        means.add(batch)
                        progress.step(1)
                        course.step()
                        self.steps += 1
                        if self.steps == kill:
                            raise Killed
                course.end()
            out.append([*kept.value.tolist(), *means.value.tolist()])
        return out

    def batches(self, rng: np.random.Generator) -> Iterator[int]:
        for _ in range(4):
            yield int(rng.integers(1000, size=self.draws).sum())


@settings(deadline=None, max_examples=20)
@given(kills=st.lists(st.integers(1, 15), max_size=3))
@example(kills=[4, 1])
def test_whenever_it_is_killed(kills: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = Toy(Path(folder) / "none", minutes=0).train()
        left = 16
        for kill in kills:
            if kill < left:
                with pytest.raises(Killed):
                    Toy(Path(folder) / "file").train(kill)
                left -= kill
        toy = Toy(Path(folder) / "file")
        assert toy.train() == whole and toy.steps == left


@settings(deadline=None, max_examples=30)
@given(data=st.data(), kill=st.integers(1, 15), cut=st.booleans())
def test_whatever_happens_to_the_file(data: st.DataObject, kill: int, cut: bool) -> None:
    """A flipped bit or a lost end changes nothing but the steps that are taken again."""
    with tempfile.TemporaryDirectory() as folder:
        whole, file = Toy(Path(folder) / "none", minutes=0).train(), Path(folder) / "file"
        with pytest.raises(Killed):
            Toy(file).train(kill)
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(content[:place] if cut else content)
        toy = Toy(file)
        assert toy.train() == whole
        assert toy.steps in ((16,) if cut else (16, 16 - kill))


def test_other_batches_under_the_same_key_are_refused(tmp_path: Path) -> None:
    """Numbers that were kept of one log never go on with another."""
    with pytest.raises(Killed):
        Toy(tmp_path / "file").train(7)
    with pytest.raises(UserError, match="cannot be made again") as e:
        Toy(tmp_path / "file", draws=2).train()
    assert e.value.code == Exit.DATA and not (tmp_path / "file").exists()
    other = Toy(tmp_path / "file", draws=2)
    assert other.train() == Toy(tmp_path / "none", minutes=0, draws=2).train() and other.steps == 16


def test_another_model_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        Toy(tmp_path / "file").train(7)
    other = Toy(tmp_path / "file", size=2)
    assert other.train() == Toy(tmp_path / "none", minutes=0, size=2).train() and other.steps == 16
    assert "is of another model: ignored" in (tmp_path / "file.log").read_text()


def test_a_path_that_cannot_be_written_is_noted(tmp_path: Path) -> None:
    whole = Toy(tmp_path / "none", minutes=0).train()
    (tmp_path / "file").mkdir()
    assert Toy(tmp_path / "file").train() == whole
    log = (tmp_path / "file.log").read_text()
    assert "is damaged and ignored" in log and "no checkpoint was written" in log
    assert {p.name for p in tmp_path.iterdir()} == {"file", "file.log", "none.log"}


@pytest.mark.parametrize(("minutes", "ranks"), [(0, ALONE), (EACH_STEP, Ranks(0, 2)), (10, ALONE)])
def test_none_is_written(tmp_path: Path, minutes: float, ranks: Ranks) -> None:
    """Where none are wanted, by several ranks, and before the first is due."""
    Toy(tmp_path / "file", minutes, ranks).train()
    assert not (tmp_path / "file").exists()


def test_one_is_due_every_so_many_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = iter(range(0, 100_000, 100)), list[int]()
    monkeypatch.setattr("dmtl_cli.nn.resume.time.monotonic", lambda: next(clock))
    toy = Toy(tmp_path / "file", 10)
    monkeypatch.setattr("dmtl_cli.nn.resume.save_file", lambda *_: written.append(toy.steps + 1) or Path.touch(_[1]))
    toy.train()
    assert written == [6, 12], "each look at the clock takes 100 s"


def agreement(remembers: Agreement, s: Tensor, t: Tensor) -> float | None:
    remembers.add(s, t, None)
    return remembers.r2()


def distance(remembers: Distance, s: Tensor, t: Tensor) -> list[Measure]:
    remembers.add(s, [(t, torch.ones(len(s)), torch.arange(len(s)) % 2)] * 2)
    return remembers.measure(None)


MAKE: list[tuple[Any, Any]] = [
    (lambda: Agreement(8), agreement),
    (lambda: Distance((KD(), KD(loss="pairwise")), rows=8), distance),
]


@pytest.mark.parametrize(("make", "add"), MAKE)
def test_what_is_remembered_of_the_last_rows_goes_on(make: Any, add: Any) -> None:
    rng = torch.Generator().manual_seed(1)
    parts = [torch.randn(2, n, generator=rng) for n in (5, 3, 4, 6, 2)]
    whole = make()
    found = [add(whole, s, t) for s, t in parts]
    for k in range(len(parts)):
        before, after = make(), make()
        for s, t in parts[:k]:
            add(before, s, t)
        after.restore(before.state())
        assert [add(after, s, t) for s, t in parts[k:]] == found[k:]
        assert {n: x.tolist() for n, x in after.state().items()} == {n: x.tolist() for n, x in whole.state().items()}
