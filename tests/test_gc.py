"""dmtl gc through the command line: what goes, what never does, and that a chain goes on after it."""

from __future__ import annotations

import copy
import datetime as dt
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chains import Chain, age, day
from worlds import BASE, DAYS, Project

from dmtl_cli.config.errors import UserError
from dmtl_cli.runs.locks import holding
from dmtl_cli.runs.reachable import folders
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.synth.generate import generate


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(tmp_path, 12)
    calm(made)
    return made


def calm(chain: Chain) -> None:
    """As if the last day's servers had all read their files."""
    for run in chain.project.ws.glob("export/day=*/run-*"):
        age(run, 2)


def kept(chain: Chain, stage: str) -> list[int]:
    """Days of the stage whose published run is there, counted from 1."""
    return [
        (d - day(1)).days + 1 for d in chain.ws.days(stage) if chain.ws.subs(stage, d) or chain.ws.current(stage, d)
    ]


def gone(chain: Chain, *arguments: object) -> list[str]:
    return [row["path"] for row in chain.called("gc", "--keep-days", 2, *arguments)["removed"]]


def test_nothing_goes_without_delete(chain: Chain) -> None:
    left = chain.project.ws / "scratch/teacher-2026-01-12/run/model"
    left.parent.mkdir(parents=True)
    left.write_text("x")
    before = chain.project.published()
    found = chain.called("gc", "--keep-days", 2)
    assert left.exists() and str(left.parent.parent) in {row["path"] for row in found["removed"]}
    assert found["removed"] and found["bytes"] > 0 and not found["deleted"] and found["keep_from"] == str(day(10))
    out = chain.project.call("gc", "--keep-days", 2).out
    assert f"would remove {len(found['removed'])}" in out and "--delete removes them" in out
    assert {k: v for k, v in chain.project.published().items() if k != "compare"} == before, "but for a lock"
    sizes = sum(f.stat().st_size for row in found["removed"] for f in Path(row["path"]).rglob("*") if f.is_file())
    assert found["bytes"] == sizes


def test_days_before_the_kept_ones_go(chain: Chain) -> None:
    """Days 10 to 12 stay, the days that these were made from too, and teachers as old as a student may learn from."""
    told = chain.called("gc", "--keep-days", 2)
    done = chain.called("gc", "--keep-days", 2, "--delete")
    assert done["removed"] == told["removed"] and done["bytes"] == told["bytes"]
    assert kept(chain, "profile") == kept(chain, "student") == kept(chain, "export") == [9, 10, 11, 12]
    assert kept(chain, "evaluation") == [10, 11, 12]
    assert kept(chain, "teacher")[-4:] == [9, 10, 11, 12] and 1 not in kept(chain, "teacher")
    assert chain.called("gc", "--keep-days", 2, "--delete")["removed"] == [], "it is done at once"
    assert chain.project.scratch_left() == []
    assert not list(chain.project.ws.glob(f"*/day={day(1)}")), "no empty folder is left"
    assert chain.called("verify")["gone"], "parents of the oldest kept days are gone, and that is no damage"
    found = chain.status()["days"]
    assert {found[str(day(n))][c] for n in (10, 11, 12) for c in found[str(day(n))]} == {"published"}
    assert chain.status()["gaps"] == []
    before = kept(chain, "teacher")
    chain.run(13)
    assert kept(chain, "teacher") == [*before, 13]


def test_superseded_runs_go(chain: Chain) -> None:
    old = {stage: chain.ws.current(stage, day(12)) for stage in ("profile", "evaluation")}
    chain.make("profile", day(12), (), "again")
    chain.make("evaluation", day(12), (), "again")
    assert {str(run) for run in old.values()} - {*gone(chain)} == {str(old["profile"])}, "the student was made of it"
    chain.make("student", day(12), ("profile",), "again")
    chain.make("export", day(12), ("student", "profile"), "again")
    calm(chain)
    assert {str(run) for run in old.values()} <= {*gone(chain, "--delete")}
    assert not any(run and run.exists() for run in old.values())


def test_what_is_served_or_pinned_stays_with_what_it_names(chain: Chain) -> None:
    chain.called("rollback", "--to", day(4))
    gone(chain, "--delete")
    assert 4 in kept(chain, "export") and 4 in kept(chain, "student") and 4 in kept(chain, "profile")
    assert 3 in kept(chain, "teacher") and 2 not in kept(chain, "teacher"), "the teacher that its facts name"
    assert chain.status()["served_day"] == str(day(4)) and chain.status()["gaps"] == []
    chain.called("rollback", "--unpin")
    gone(chain, "--delete")
    assert 4 not in kept(chain, "export")


def test_an_export_of_the_last_day_stays(chain: Chain) -> None:
    """A server may have read LATEST just before it moved."""
    young = chain.export(5)
    age(young, 0.5)
    assert str(young) not in gone(chain)
    age(young, 1.5)
    assert str(young) in gone(chain)


def test_a_mistyped_year_is_not_the_newest_day(chain: Chain) -> None:
    chain.make("profile", dt.date(2999, 1, 1), ())
    assert chain.called("gc", "--keep-days", 2)["keep_from"] == str(day(10))


def test_the_choices_of_a_chain_stay(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    for n in range(1, 9):
        if n in (1, 2):
            chain.make("tune", day(n))
        chain.run(n)
    calm(chain)
    gone(chain, "--delete")
    assert kept(chain, "tune") == [2]


def test_what_dead_runs_leave(chain: Chain) -> None:
    ws = chain.project.ws
    for name in ("scratch/student-2026-01-12/run/model", "scratch/checkpoint-ab/x", "rejected/a-run-1/file"):
        (ws / name).parent.mkdir(parents=True, exist_ok=True)
        (ws / name).write_text("x" * 100)
    for name in ("logs/run-2026-01-01.jsonl", "logs/run-2026-01-12.jsonl"):
        (ws / name).parent.mkdir(parents=True, exist_ok=True)
        (ws / name).write_text("x")
    refusals = [ws / f"rejected/student-{day(n)}.txt" for n in (1, 12)]
    for file in refusals:
        file.write_text("below its floor")
        age(file, 3)
    age(ws / "logs/run-2026-01-01.jsonl", 3)
    told = {p.removeprefix(f"{ws}/") for p in gone(chain, "--delete") if "/run-" not in p or "logs" in p}
    assert told == {"scratch/student-2026-01-12", "logs/run-2026-01-01.jsonl", f"rejected/student-{day(1)}.txt"}
    assert (ws / "scratch/checkpoint-ab").exists() and refusals[1].exists() and (ws / "rejected/a-run-1").exists()
    for name in ("scratch/checkpoint-ab", "rejected/a-run-1"):
        age(ws / name, 3)
    assert {Path(p).name for p in gone(chain, "--delete")} == {"checkpoint-ab", "a-run-1"}


def test_comparisons_lose_what_is_superseded_alone(chain: Chain) -> None:
    inner = Workspace(chain.project.ws / "compare/one-abcdef")
    shutil.copytree(chain.project.ws / "evaluation", inner.home("evaluation"))
    other = next(run for _, d, run in folders(inner) if d == day(3))
    (other.parent / "CURRENT").unlink()
    told = [p for p in gone(chain, "--delete") if "/compare/" in p]
    assert told == [str(other)] and len(inner.days("evaluation")) == 10


def test_a_refused_day_stays_known(tmp_path: Path) -> None:
    """Teacher and profile of day 10 went on from day 8: without the refusal, day 9 would be missed between them."""
    chain = Chain(tmp_path, 8)
    (chain.project.home / f"log/events/day={day(9)}").mkdir()
    for n in (10, 11, 12):
        chain.run(n)
    calm(chain)
    (chain.project.ws / "rejected").mkdir()
    known, old = (chain.project.ws / f"rejected/profile-{day(n)}.txt" for n in (9, 2))
    for file in (known, old):
        file.write_text("dmtl: error: rows")
        age(file, 30)
    assert str(old) in gone(chain, "--delete")
    assert known.exists() and chain.status()["gaps"] == []


def test_no_comparison_begins_meanwhile(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one of a workspace neither: it reads what goes."""
    codes = []

    def compared(*_: object) -> list[object]:
        with pytest.raises(UserError) as e, holding(Workspace(chain.project.ws / "compare"), 0, "dmtl compare"):
            pass
        codes.append(e.value.code)
        return []

    monkeypatch.setattr("dmtl_cli.stages.gc._files", compared)
    gone(chain)
    assert codes and {*codes} == {75}


@pytest.mark.parametrize("held", ["", "compare", "compare/one-abcdef", "compare/seed=2/compare/two-123456"])
def test_it_waits_for_runs_and_comparisons(chain: Chain, held: str) -> None:
    lock = chain.project.ws / held / "locks/chain.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    before = chain.project.published().keys()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert chain.project.call("gc", "--keep-days", 2, "--delete").code == 75
    assert chain.project.published().keys() == before


def test_a_damaged_kept_run_stops_it(chain: Chain) -> None:
    """What it needs is not known."""
    before = chain.ws.current("student", day(11))
    assert before is not None
    (before / "manifest.json").write_text("{")
    ended = chain.project.call("gc", "--keep-days", 2, "--delete")
    assert ended.code == 65 and str(before) in ended.err and len(kept(chain, "profile")) == 12
    assert chain.project.call("gc", "--keep-days", 0).code == 2


@pytest.mark.parametrize("name", ["unlink", "replace", "rmdir", "fsync"])
def test_a_fault_anywhere_leaves_whole_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever a pointer names is whole, and the next gc ends what this one began."""
    done = Chain(tmp_path / "done", 6)
    calm(done)
    gone(done, "--delete")
    left = {str(run.relative_to(done.project.ws)) for _, _, run in folders(done.ws)}
    for step in (1, 2, 3, 7, 12):
        chain = Chain(tmp_path / str(step), 6)
        calm(chain)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, _fails(getattr(os, name), step))
            code = chain.project.call("gc", "--keep-days", 2, "--delete").code
        assert code in (0, 74), code
        assert chain.project.call("verify", "--all").code == 0
        assert {s for d in chain.status()["days"].values() for s in d.values()} <= {"published", "not due", "missing"}
        gone(chain, "--delete")
        assert {str(run.relative_to(chain.project.ws)) for _, _, run in folders(chain.ws)} == left
        assert chain.project.scratch_left() == []


def _fails(real: Callable[..., object], step: int) -> Callable[..., object]:
    left = [step]

    def act(*arguments: object, **named: object) -> object:
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        return real(*arguments, **named)

    return act


# -- a chain of models -------------------------------------------------------------------------------------------------


def test_a_chain_goes_on_to_the_byte(tmp_path: Path) -> None:
    """Days are made again as they were, and the next one is that of a chain that was never cleaned."""
    generate(tmp_path, 6, start=dt.date(2026, 1, 1), users=40, items=40, events_per_day=300, seed=1)
    config = copy.deepcopy(BASE)
    config["student"]["distill"] = {"max_age_days": 1}
    config |= {"features": "auto", "gates": {"quality": False}}  # so small a log teaches by chance
    one, other = (Project.create(tmp_path / name, tmp_path / "log", config=config) for name in ("one", "other"))
    last = ["2026-01-05", "2026-01-06"]
    for project in (one, other):
        if project is other:
            shutil.copytree(one.ws, other.ws)
            for run in other.ws.glob("export/day=*/run-*"):
                age(run, 2)
            assert other.call("gc", "--keep-days", 1, "--delete").code == 0
            assert not (other.ws / f"teacher/day={DAYS[0]}").exists()
            table = other.call("status", "--json").json["days"]
            assert "stale" not in {state for cells in table.values() for state in cells.values()}
            again = other.call("run", "--day", last[0], "--json")
            assert again.code == 0 and all(r["up_to_date"] for r in again.every), again.err
        else:
            assert project.call("backfill", "--from", DAYS[0], "--to", last[0]).code == 0
    ended = [project.call("run", "--day", last[1], "--json") for project in (one, other)]
    assert [e.code for e in ended] == [0, 0], ended
    ids = [[(r["stage"], r["run_id"]) for r in e.every] for e in ended]
    assert ids[0] == ids[1] and len(ids[0]) == 7
