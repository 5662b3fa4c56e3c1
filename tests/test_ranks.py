"""Many processes: two ranks under a real torchrun learn and score what one does; a lost rank publishes nothing."""

from __future__ import annotations

import datetime as dt
import importlib.util
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_models import ITEM, USER, encoder_of
from worlds import BASE, DAYS, JSON_KEYS, Ended, Project

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.batches import Batch, Batcher, Tables
from dmtl_cli.nn.sharded import ShardedTable, randn
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.synth.generate import generate

needs_torchrec = pytest.mark.skipif(
    importlib.util.find_spec("torchrec") is None, reason="scripts/install_torchrec.sh was not run"
)
PROFILED: list[dict[str, Any]] = [
    {"name": "last", "side": "user", "kind": "sequence", "profile": {"history": "click"}, "embedding_name": "item_id"},
    {"name": "clicks", "side": "item", "kind": "numeric", "profile": {"count": "click"}, "transform": "log1p"},
]
LONELY = 457  # rows of a batch: the last one of day 1 has one row, so one rank of two has none


# -- shares ------------------------------------------------------------------------------------------------------------


@given(n=st.integers(0, 40), size=st.integers(1, 7))
def test_slices_are_every_row_once_in_order(n: int, size: int) -> None:
    parts = [list(range(n))[Ranks(k, size).slice(n)] for k in range(size)]
    assert list(itertools.chain(*parts)) == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_rank_has_nothing_to_exchange() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert ALONE.gather(x, 3) is x and ALONE.sum(x) is x and ALONE.first
    assert ALONE.gather_objects("a") == ["a"] and ALONE.on_first(lambda: 7) == 7 and ALONE.failed(65) == (65, True)
    assert Ranks.join({}) == Ranks.join({"WORLD_SIZE": "1", "RANK": "0"}) == ALONE


def test_what_torchrun_did_not_say_is_named() -> None:
    with pytest.raises(UserError, match="MASTER_PORT is not set") as e:
        Ranks.join({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"})
    assert e.value.code == Exit.USAGE


def test_without_torchrec_many_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    names = ("RANK", "LOCAL_RANK", "MASTER_PORT")
    with pytest.raises(UserError, match="TorchRec") as e:
        Ranks.join({"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", **dict.fromkeys(names, "0")})
    assert e.value.code == Exit.NO_DEVICE and "install_torchrec.sh" in e.value.hint


def test_a_broken_torchrec_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)
    with pytest.raises(UserError, match="TorchRec cannot be imported") as e:
        ShardedTable(Ranks(0, 2), torch.device("cpu"), 0.1, {"id": 3}, 4)
    assert e.value.code == Exit.NO_DEVICE and "install_torchrec.sh" in e.value.hint


def test_a_mistake_survives_the_way_to_another_process() -> None:
    made = pickle.loads(pickle.dumps(UserError("a", "b", Exit.LOCKED, ("c",))))
    assert (made.message, made.hint, made.code, made.others) == ("a", "b", Exit.LOCKED, ("c",))
    assert isinstance(made.code, Exit)


# -- batches -----------------------------------------------------------------------------------------------------------


class Clicks(NamedTuple):
    """The label of a row: an array or a tensor."""

    click: Any


def batch_of(ranks: Ranks, rows: Rows[Clicks], by: Any) -> tuple[Batch[Clicks], float]:
    """A batch, and what is drawn after it."""
    encoder = encoder_of(*USER, *ITEM)
    rng = np.random.default_rng(1)

    def side(name: str, n: int) -> Encoded:
        layout = encoder.layout(name)
        ids = [rng.integers(1, encoder.embedding_rows()[e], n) for e in layout.ids]
        sequences = tuple(rng.integers(0, 5, (n, length)).astype(np.int32) for _, length in layout.sequences)
        floats = rng.random((n, layout.floats), np.float32)
        return Encoded(np.stack(ids, 1).astype(np.int32), sequences, floats)

    tables = Tables(side("user", 8), side("item", 9))
    batcher = Batcher(
        encoder, tables, torch.device("cpu"), unknown_share=0.3, rng=np.random.default_rng(2), ranks=ranks, by=by
    )
    first = batcher.batch(rows)
    assert batcher.rng is not None
    return first, batcher.rng.random()


@given(pairs=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 8)), min_size=1, max_size=12), size=st.integers(2, 4))
def test_shares_of_a_batch_are_the_batch(pairs: list[tuple[int, int]], size: int) -> None:
    """By rows and by sides, unknown ids included, and whoever draws next draws the same."""
    user, item = np.array(pairs).T
    rows = Rows(user, item, Clicks(np.arange(len(pairs)) % 2 == 0))
    whole, after = batch_of(ALONE, rows, "rows")
    for by in ("rows", "sides"):
        found = [batch_of(Ranks(k, size), rows, by) for k in range(size)]
        shares = [share for share, _ in found]
        assert all(drawn == after for _, drawn in found)
        for share in shares:
            assert len(share) == len(pairs) and torch.equal(share.item_row, whole.item_row)
            assert torch.equal(share.labels.click, whole.labels.click)
        for side in ("user", "item"):
            every, index = (lambda b, s=side: (getattr(b, s), getattr(b, f"{s}_index")))(whole)
            if by == "rows":
                of_rows = [getattr(s, side).ids[getattr(s, f"{side}_index")] for s in shares]
                assert torch.equal(torch.cat(of_rows), every.ids[index])
            else:
                assert torch.equal(torch.cat([getattr(s, side).ids for s in shares]), every.ids)
                assert all(torch.equal(getattr(s, f"{side}_index"), index) for s in shares)
                assert shares[0].distinct[side == "item"] == len(every.ids)


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "dim"), [(0, 3), (5, 1), (7, 42), (200, 42), (1_000, 7)])
def test_numbers_drawn_in_blocks_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch, rows: int, dim: int) -> None:
    monkeypatch.setattr("dmtl_cli.nn.sharded._BLOCK", 1_000)
    torch.manual_seed(3)
    whole, after = torch.randn(rows, dim), torch.rand(1)
    for held in (range(rows), range(rows // 3, rows // 2), range(rows, rows)):
        torch.manual_seed(3)
        assert torch.equal(randn(rows, dim, held), whole[held.start : held.stop])
        assert torch.equal(torch.rand(1), after)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4), cuts=st.lists(st.integers(0, 24), max_size=3))
def test_places_are_every_row_of_an_embedding_once(sizes: list[int], cuts: list[int]) -> None:
    table = EmbeddingTable({f"e{k}": n for k, n in enumerate(sizes)}, 2)
    total = sum(sizes)
    bounds = [0, *sorted(min(c, total) for c in cuts), total]
    found: dict[str, list[int]] = {name: [] for name in table.rows}
    for low, high in itertools.pairwise(bounds):
        table.local = range(low, high)
        for name in table.rows:
            here, rows = table.place(name)
            of_table = list(table.local)[here]
            assert [r - table.start[name] for r in of_table] == list(range(rows.start, rows.stop))
            found[name] += range(rows.start, rows.stop)
    assert found == {name: list(range(n)) for name, n in table.rows.items()}


# -- reading -----------------------------------------------------------------------------------------------------------


class Meeting:
    """Where threads that play ranks exchange what they have."""

    def __init__(self, size: int) -> None:
        self.barrier, self.box = threading.Barrier(size, timeout=30), [None] * size


@dataclass(frozen=True)
class Thread(Ranks):
    """A rank that is a thread."""

    meeting: Meeting | None = None

    def gather_objects(self, mine: Any) -> list[Any]:
        assert self.meeting is not None
        self.meeting.box[self.rank] = pickle.dumps(mine)  # as between processes, nothing is shared
        self.meeting.barrier.wait()
        every = [pickle.loads(each) for each in self.meeting.box]
        self.meeting.barrier.wait()
        return every


def batches_of(day: Day) -> list[pl.DataFrame]:
    """The record batches of the spool, in order."""
    return [frame for k in day.spool.whole for frame in day.spool.read(np.array([k]), 1)]


@pytest.mark.parametrize("size", [2, 5, 13])  # of 13 some have no row group, and one begins no run
@pytest.mark.parametrize("by", ["day folder", "date column"])
@pytest.mark.parametrize("held", [9, sizes.HELD], ids=["tables in files", "tables in memory"])
def test_a_day_is_the_same_whoever_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, by: str, held: int
) -> None:
    """Positions, record batches, buckets, firsts and facts, though runs begin in one share and end in another, and rows
    of guests are left out."""
    monkeypatch.setattr(sizes, "HELD", held)
    monkeypatch.setattr(sizes, "SLICE", min(held, 1 << 18))
    monkeypatch.setattr(sizes, "BLOCK", 16)
    monkeypatch.setattr(sizes, "POOL", 6)
    rng = np.random.default_rng(size)
    n, day = 1_000, dt.date(2026, 1, 31)
    folder = tmp_path / "events" / ("day=2026-01-31" if by == "day folder" else "")
    folder.mkdir(parents=True)
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 60, n),
            "item_id": [f"i{k}" for k in rng.integers(0, 20, n)],
            "click": rng.random(n) < 0.5,
            "seconds": np.where(rng.random(n) < 0.8, rng.random(n) * 99, np.nan),
            "request": rng.integers(0, 30, n),
            "time": rng.integers(0, 100, n),
            "mood": [f"m{k}" for k in rng.integers(0, 4, n)],
            "date": [day if late else dt.date(2026, 1, 30) for late in rng.random(n) < (by != "date column") + 0.7],
        }
    )
    frame = frame.with_columns(user_id=pl.when(pl.Series(rng.random(n) < 0.9)).then("user_id"))
    for k, (start, end) in enumerate(itertools.pairwise([0, 90, 95, 700, n])):
        frame[start:end].write_parquet(folder / f"{k}.parquet", row_group_size=[45, 5, 202, 60][k])
    events = Events(
        path="events", click="click", duration="seconds", request="request", time="time", invalid_rows="drop",
        **({"date_column": "date", "partition": None} if by == "date column" else {"partition": "day"}),
    )  # fmt: skip
    features = (
        Feature(name="mood", side="user", kind="categorical"),
        Feature(name="hour", side="context", kind="categorical", column="time"),
    )
    log = Log(Data(root=str(tmp_path), events=events), features)
    (tmp_path / "alone").mkdir()
    alone = log.read(day, tmp_path / "alone")
    meeting = Meeting(size)

    def by_rank(k: int) -> Day:
        (tmp_path / f"rank-{k}").mkdir()
        return log.read(day, tmp_path / f"rank-{k}", Thread(k, size, meeting=meeting))

    with ThreadPoolExecutor(size) as pool:
        days = list(pool.map(by_rank, range(size)))
    assert len(alone.spool) > 1 and len(alone.repeated) and alone.facts["left_out.user"] > 20, (
        "what could differ is there"
    )
    assert len(days[0].spool.further), "what could differ is there"
    for shared in days:
        assert shared.users.equals(alone.users) and shared.items.equals(alone.items)
        assert shared.facts == alone.facts
        for name in ("clicked", "repeated", "user_events", "item_events", "item_clicks"):
            assert np.array_equal(getattr(shared, name), getattr(alone, name)), name
        assert all(map(np.array_equal, shared.spool.batches, alone.spool.batches))
        found, expected = batches_of(shared), batches_of(alone)
        assert len(found) == len(expected) and all(a.equals(b) for a, b in zip(found, expected, strict=True))


# -- under torchrun ----------------------------------------------------------------------------------------------------


def torchrun(*program: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = [*command, *map(str, program)]
    return subprocess.run(whole, capture_output=True, text=True, timeout=120, env=env, check=False)


def two(project: Project, command: str, *arguments: object) -> Ended:
    """A command by two ranks, which must succeed and say nothing but its results, once."""
    run = torchrun("-m", "dmtl_cli.cli", command, "--config", project.file, "--json", *arguments)
    assert (run.returncode, run.stderr) == (0, ""), run.stderr
    return Ended(run.returncode, run.stdout, run.stderr)


def failed(err: str) -> list[str]:
    """What dmtl said beside torchrun's own report."""
    return [line for line in err.splitlines() if line.startswith("dmtl:")]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ranks")
    generate(out, 3, start=dt.date(2026, 1, 1), users=300, items=120, events_per_day=6_000, seed=1)
    return out / "log"


@pytest.fixture(scope="module")
def projects(log: Path) -> tuple[Project, Project]:
    """The chain of two days by one rank and by two."""
    config = BASE | {"teacher": BASE["teacher"] | {"batch_size": LONELY, "epochs": 1}}
    config |= {"scores": {"negatives": 1}, "features": [*BASE["features"], *PROFILED]}
    one, other = (Project.create(log.parent / name, log, config=config) for name in ("one", "two"))
    days = ("--from", DAYS[0], "--to", DAYS[1])
    assert one.call("backfill", *days, "--quiet").code == 0
    made = two(other, "backfill", *days).every
    assert [r["stage"] for r in made] == [
        "profile", "teacher", "scores",
        "profile", "evaluation", "teacher", "scores", "scores", "student", "export",
    ]  # fmt: skip
    assert all(r.keys() == JSON_KEYS and not r["up_to_date"] for r in made)
    assert made[1]["rows"]["learned"] % LONELY == 1
    assert not other.scratch_left()
    return one, other


def current(project: Project, stage: str, day: int, sub: str = "") -> Path:
    folder = project.ws / stage / f"day={DAYS[day - 1]}" / sub
    return folder / (folder / "CURRENT").read_text().strip()


def assert_close(a: Path, b: Path) -> None:
    """Weights and optimizers of two runs: the same but for rounding, of the order of 1e-5 where Adagrad began."""
    for name in ("model.safetensors", "optimizer.safetensors"):
        x, y = load_file(a / name), load_file(b / name)
        assert x.keys() == y.keys()
        for k in x:
            torch.testing.assert_close(x[k], y[k], rtol=1e-3, atol=1e-4, msg=lambda m, k=k: f"{k}: {m}")


@needs_torchrec
@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_two_ranks_learn_what_one_learns(projects: tuple[Project, Project], stage: str) -> None:
    assert_close(*(current(p, stage, 2) for p in projects))
    numbers = [json_of(current(p, stage, 2))["metrics"] for p in projects]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)


@needs_torchrec
def test_two_ranks_learn_what_is_shown_as_one_does(projects: tuple[Project, Project]) -> None:
    """Its first gradients are near zero, and Adagrad makes steps of their rounding, so weights differ. Their squares
    add up to the same: a gradient that counts twice has four times as much."""
    x, y = (load_file(current(p, "student", 2) / "exposure/optimizer.safetensors") for p in projects)
    sums = {k: (float(x[k].sum()), float(y[k].sum())) for k in x if k.startswith(("embedding.", "exp_avg_sq.user"))}
    assert len(sums) > 8
    for name, (one, other) in sums.items():
        assert other == pytest.approx(one, rel=0.25), name
    losses = [json_of(current(p, "student", 2))["metrics"]["exposure.loss"] for p in projects]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@needs_torchrec
def test_they_score_and_measure_the_same(projects: tuple[Project, Project]) -> None:
    key = ["group", "pair_source", "user_id", "item_id", "rank"]
    tables = [
        pl.concat([pl.read_parquet(f) for f in current(p, "scores", 2, f"teacher={DAYS[0]}").glob("part-*")])
        for p in projects
    ]
    a, b = (t.drop("rank").sort(*key[:-1], "pctcvr") for t in tables)
    assert a.drop(a.columns[5:]).equals(b.drop(b.columns[5:]))
    np.testing.assert_allclose(a["pctcvr"].to_numpy(), b["pctcvr"].to_numpy(), rtol=1e-3)
    measured = [json_of(current(p, "evaluation", 2))["metrics"] for p in projects]
    assert measured[0] == pytest.approx(measured[1], rel=1e-3)


@needs_torchrec
def test_a_second_run_is_up_to_date_and_says_so_once(projects: tuple[Project, Project]) -> None:
    before = projects[1].published()
    assert two(projects[1], "train-teacher", "--day", DAYS[1]).json["up_to_date"]
    assert projects[1].published() == before
    assert len({json_of(current(p, "teacher", 1))["key"] for p in projects}) == 2, "results differ by rounding"


def json_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return found


def copy_of(project: Project, home: Path) -> Project:
    shutil.copytree(project.ws, home / "ws")
    return Project.create(home, Path(project.config["data"]["root"]), config=project.config)


@needs_torchrec
def test_one_rank_goes_on_where_two_stopped_and_back(projects: tuple[Project, Project], tmp_path: Path) -> None:
    one, other = (copy_of(p, tmp_path / name) for p, name in zip(projects, ("one", "two"), strict=True))
    two(one, "train-teacher", "--day", DAYS[2])
    other.done("train-teacher", 3)
    assert_close(*(current(p, "teacher", 3) for p in (one, other)))


@needs_torchrec
@pytest.mark.parametrize("drawn", [{}, {"negatives": 2, "stratify": 3}], ids=["plain", "stratified"])
def test_a_dump_is_the_same_bytes_whatever_the_ranks(
    projects: tuple[Project, Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: dict[str, int]
) -> None:
    """Blocks are made small, so that each rank has some; candidates too."""
    program = tmp_path / "small.py"
    monkeypatch.setattr(sizes, "BLOCK", 1_000)
    patch = "from dmtl_cli.data.log.values import sizes\nsizes.BLOCK = 1_000\n"
    program.write_text(f"{patch}from dmtl_cli.cli.main import main\nmain()\n")
    project = copy_of(projects[0], tmp_path)
    project.config["scores"] |= {"candidates": 5, "candidate_source": "popularity", **drawn}
    project.write()
    project.done("dump-logits", 2)
    expected = current(project, "scores", 2, f"teacher={DAYS[1]}")
    run = torchrun(program, "dump-logits", "--config", project.file, "--day", DAYS[1])
    assert (run.returncode, run.stderr) == (0, "")
    found = current(project, "scores", 2, f"teacher={DAYS[1]}")
    assert found != expected and json_of(found)["rows"] == json_of(expected)["rows"]
    for part in sorted(expected.glob("part-*")):
        assert (found / part.name).read_bytes() == part.read_bytes()


@needs_torchrec
def test_the_joint_loop_learns_the_same(projects: tuple[Project, Project], tmp_path: Path) -> None:
    one, other = (copy_of(projects[0], tmp_path / name) for name in ("one", "two"))
    one.done("train-joint", 1)
    two(other, "train-joint", "--day", DAYS[0])
    for who in ("teacher", "student"):
        assert_close(*(current(p, "joint", 1) / who for p in (one, other)))


# -- failure -----------------------------------------------------------------------------------------------------------


@needs_torchrec
def test_one_rank_makes_the_trials_and_the_other_waits(projects: tuple[Project, Project], tmp_path: Path) -> None:
    one, other = (copy_of(projects[0], tmp_path / name) for name in ("one", "two"))
    for project in (one, other):
        project.config["teacher"] |= {"factor_dim": 4, "unknown_share": 0.05}
        project.config["student"] = project.config["student"] | {"epochs": 1}
        project.config["auto"] = {"budget": 8}
        project.write()
    one.done("tune", 1)
    made = two(other, "tune", "--day", DAYS[0]).json
    facts = [json_of(current(p, "tune", 1))["facts"] for p in (one, other)]
    assert facts[0] == facts[1] and len(facts[0]["tried"]) > 2 and made["stage"] == "tune"


@needs_torchrec
def test_one_ranks_mistake_ends_all_with_its_line(projects: tuple[Project, Project], tmp_path: Path) -> None:
    project = projects[1]
    before = project.published()
    program = tmp_path / "rank.sh"
    command = f"{sys.executable} -m dmtl_cli.cli train-teacher --config {project.file} --day {DAYS[2]}"
    program.write_text(f'[ "$RANK" = 0 ] || set -- --set data.events.click=nothing\nexec {command} "$@"\n')
    run = torchrun("--no-python", "sh", program)
    assert run.returncode != 0 and run.stdout == ""
    (line,) = failed(run.stderr)
    assert "data.events.click expects column nothing" in line
    assert re.search(r"Root Cause.*exitcode *: 65 ", run.stderr, re.DOTALL)
    assert project.published() == before and not project.scratch_left()


@needs_torchrec
def test_a_killed_rank_ends_the_other_and_nothing_is_published(
    projects: tuple[Project, Project], tmp_path: Path
) -> None:
    project = projects[1]
    before = project.published()
    program = tmp_path / "rank.sh"
    command = f"{sys.executable} -m dmtl_cli.cli train-teacher --config {project.file} --day {DAYS[2]}"
    program.write_text(f"echo $$ >{tmp_path}/pid.$RANK\nexec {command} --set teacher.epochs=10000\n")
    whole = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*whole, "sh", program], stderr=subprocess.PIPE, text=True, env=env) as run:
        try:
            deadline = time.monotonic() + 60
            while not list(project.ws.glob("scratch/*/tmp/rank-0/*")):  # the day is being read
                assert time.monotonic() < deadline and run.poll() is None
                time.sleep(0.1)
            time.sleep(1)
            os.kill(int((tmp_path / "pid.1").read_text()), signal.SIGKILL)
            _, err = run.communicate(timeout=60)
        finally:
            run.terminate()
    assert run.returncode != 0
    (line,) = failed(err)
    assert ("another" in line or "terminated" in line) and "run it again" in line  # less is said within an import
    assert project.published() == before  # torchrun's signal may cut the clearing of scratch short: the next run's work
