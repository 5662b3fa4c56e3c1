"""What status shows, through the command line: days, generations, gaps, inputs, and what a person should know."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
from chains import Chain, day
from worlds import DAYS, Project, events

from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.stages.status import _together
from dmtl_cli.synth.generate import generate


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path, 5)


def stale(chain: Chain) -> set[str]:
    """Cells such as `teacher 3`."""
    table = chain.status()["days"]
    numbers = {str(day(n)): n for n in range(1, 10)}
    return {f"{stage} {numbers[d]}" for d, cells in table.items() for stage, state in cells.items() if state == "stale"}


# -- generations -------------------------------------------------------------------------------------------------------


def test_a_grandchild_is_stale_too(chain: Chain) -> None:
    assert stale(chain) == set()
    newest = dict(chain.newest)
    chain.make("profile", day(2), (), "again")
    chain.newest = newest
    every = {f"profile {n}" for n in (3, 4, 5)} | {
        f"{stage} {n}" for stage in ("student", "export") for n in (2, 3, 4, 5)
    }
    assert stale(chain) == every | {f"evaluation {n}" for n in (3, 4, 5)}, "through export, student and profile"


def test_a_day_that_came_late_makes_later_ones_stale(tmp_path: Path) -> None:
    """They went on from the day before it."""
    chain = Chain(tmp_path, 2)
    chain.run(4)
    assert stale(chain) == set()
    newest = dict(chain.newest)
    chain.newest = {}
    chain.make("teacher", day(3))
    chain.newest = newest
    assert {"teacher 4", "scores 4", "evaluation 4"} <= stale(chain) and "teacher 3" not in stale(chain)
    heal = f"run dmtl backfill --from {day(4)} --to {day(4)}"
    said = f"stale: {day(4)} and what follows was made of what has changed since; {heal}"
    assert said in chain.project.call("status").out.splitlines()


def test_an_evaluation_is_stale_where_what_it_would_measure_came_late(tmp_path: Path) -> None:
    """The newest teacher, export and profile before its day; what a later day published is nothing to it."""
    chain = Chain(tmp_path, 2)
    chain.run(4)
    for stage in ("teacher", "export", "profile"):
        assert stale(chain) == set()
        chain.make(stage, day(3), (), "late")
        assert "evaluation 4" in stale(chain), stage
        shutil.rmtree(chain.ws.stage_dir(stage, day(3)))
    chain.make("teacher", day(5), ("teacher",))
    assert stale(chain) == set()


def test_a_parent_whose_day_is_gone_tells_nothing(chain: Chain) -> None:
    shutil.rmtree(chain.ws.stage_dir("teacher", day(1)))
    assert stale(chain) == set()


def test_scores_of_another_teacher_do_not_replace_those_that_are_gone(chain: Chain) -> None:
    """As `gc` leaves them: a student's last day has scores by its teacher and by the day's own."""
    shutil.rmtree(chain.ws.stage_dir("scores", day(3), f"teacher={day(2)}"))
    assert chain.ws.subs("scores", day(3)) == [f"teacher={day(3)}"] and stale(chain) == set()


@pytest.mark.parametrize(
    "parents", ['[{"stage": "teacher"}]', "[7]", '[{"stage":"../x","day":"2026-01-01","run_id":"a"}]']
)
def test_parents_that_are_none_are_damage(chain: Chain, parents: str) -> None:
    run = chain.ws.current("teacher", day(5))
    assert run is not None
    file = run / "manifest.json"
    text = file.read_text()
    start = text.index('"parents": [')
    file.write_text(text[:start] + f'"parents": {parents}' + text[text.index("]", start) + 1 :])
    assert chain.status()["days"][str(day(5))]["teacher"] == "damaged"
    assert chain.status()["days"][str(day(5))]["student"] == "published"


AGES = "student.distill.min_age_days", "student.distill.max_age_days"
ALL = {"rescores", "student", "export"}


@pytest.mark.parametrize(
    ("learned", "sets", "due"),
    [
        ((1, 2, 3), {}, {1: set(), 2: ALL, 3: ALL}),
        ((1, 2, 3, 4), {AGES[0]: 2}, {1: set(), 2: set(), 3: ALL, 4: ALL}),
        ((1, 2), {AGES[0]: 0}, {1: {"student", "export"}, 2: {"student", "export"}}),
        ((1, 2, 5), {AGES[1]: 2}, {2: ALL, 3: ALL, 4: ALL, 5: set()}),
        ((1, 2, 5), {AGES[1]: 3}, {2: ALL, 3: ALL, 4: ALL, 5: ALL}),
        ((1, 2), {"student.distill.w_kd": 0, "student.hard.w_hard": 1}, {1: {"student", "export"}, 2: ALL}),
    ],
)
def test_a_student_is_due_where_a_teacher_of_its_ages_was(
    tmp_path: Path, learned: tuple[int, ...], sets: dict[str, object], due: dict[int, set[str]]
) -> None:
    """As `run` says; of a day that was not learned nobody knows yet."""
    chain = Chain(tmp_path, 0)
    for n in learned:
        chain.make("teacher", day(n), ("teacher",))
    for n in due:
        (chain.project.home / f"log/events/day={day(n)}").mkdir(exist_ok=True)
    options = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    table = chain.status(*options)["days"]
    found = {n: {c for c in ALL if table[str(day(n))][c] == "missing"} for n in due}
    assert found == due


# -- days and gaps -----------------------------------------------------------------------------------------------------


def test_a_gap_is_a_day_of_the_log_between_two_teachers(tmp_path: Path) -> None:
    chain = Chain(tmp_path, 2)
    chain.run(5)
    assert chain.status()["gaps"] == [] and str(day(3)) not in chain.status()["days"], "the log lacks them"
    folder = chain.project.home / "log/events"
    (folder / f"day={day(3)}").mkdir()
    (folder / day(4).strftime("day=%Y%m%d")).mkdir()
    assert chain.status()["gaps"] == [str(day(3)), str(day(4))]
    assert chain.status()["days"][str(day(3))]["teacher"] == "missing"
    assert f"gap: the log has {day(3)}" in chain.project.call("status").out
    assert f"run dmtl backfill --from {day(3)} --to {day(5)}\n" in chain.project.call("status").out
    refusal = chain.project.ws / f"rejected/teacher-{day(3)}.txt"
    refusal.parent.mkdir()
    refusal.write_text("dmtl: error: AUC of ctr .51")
    assert chain.status()["gaps"] == [str(day(4))], "a refused day is no accident"
    assert chain.status()["days"][str(day(3))]["teacher"] == "refused"
    (refusal.parent / f"profile-{day(4)}.txt").write_text("dmtl: error: rows")
    assert chain.status()["gaps"] == [], "whichever stage refused it"


def test_the_reason_of_a_refusal(chain: Chain) -> None:
    folder = chain.project.ws / "rejected"
    folder.mkdir()
    (folder / f"teacher-{day(5)}.txt").write_text("dmtl: error: AUC of ctr .51\x1b[31m; look\nmore")
    (folder / "student-2025-01-01.txt").write_text("before the chain")
    assert chain.status()["refused"] == [
        {"stage": "teacher", "day": str(day(5)), "reason": "AUC of ctr .51\x1b[31m; look"}
    ]
    assert f"teacher {day(5)}: refused: AUC of ctr .51\\x1b[31m; look\n" in chain.project.call("status").out


def test_days_after_the_last_one_are_those_of_the_log(chain: Chain) -> None:
    for n in (6, 8):
        (chain.project.home / f"log/events/day={day(n)}").mkdir()
    assert list(chain.status()["days"])[-1] == str(day(5))
    assert list(chain.status("--day", day(7))["days"])[-1] == str(day(6)), "7 has not arrived"
    found = chain.status("--day", "9999-12-31")
    assert list(found["days"])[-2:] == [str(day(6)), str(day(8))] and len(found["days"]) == 7
    assert found["served_age_days"] == (dt.date(9999, 12, 31) - day(5)).days


def test_without_a_log_to_list_some_days_are_shown(chain: Chain) -> None:
    shutil.rmtree(chain.project.home / "log")
    assert list(chain.status("--day", day(7))["days"])[-1] == str(day(7))
    assert list(chain.status("--day", "9999-12-31")["days"])[-1] == str(day(5))
    remote = chain.project.call("status", "--json", data__root="s3://nowhere/x")
    assert remote.code == 0 and remote.json["gaps"] == [], "no request is made"


def test_a_day_that_is_removed_meanwhile(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gc` takes CURRENT away after `status` has seen it."""
    real = Workspace.current
    last = day(5)
    monkeypatch.setattr(
        Workspace, "current", lambda ws, stage, d, sub=None: None if d == last else real(ws, stage, d, sub)
    )
    assert chain.status()["days"][str(last)]["teacher"] == "missing"


# -- what a person should know -----------------------------------------------------------------------------------------


def test_newest_runs_without_gates(chain: Chain) -> None:
    assert chain.status()["ungated"] == []
    chain.make("student", day(4), (), "again", facts={"ungated": True})
    assert chain.status()["ungated"] == [], "it is not the newest"
    chain.make("student", day(5), (), "again", facts={"ungated": True})
    assert chain.status()["ungated"] == [{"stage": "student", "day": str(day(5))}]
    for teacher in (4, 5):
        chain.make("scores", day(5), (), "again", sub=f"teacher={day(teacher)}", facts={"ungated": True})
    assert len(chain.status()["ungated"]) == 2, "each once"
    assert f"student {day(5)}: ungated" in chain.project.call("status").out
    assert chain.status()["forced"] == []
    chain.make("student", day(5), (), "forced", facts={"forced": "launch day"})
    assert chain.status()["forced"] == [{"stage": "student", "day": str(day(5)), "reason": "launch day"}]
    assert f"student {day(5)}: forced: launch day" in chain.project.call("status").out


def test_warnings_do_not_command_the_terminal(chain: Chain) -> None:
    chain.make("teacher", day(5), (), "again", facts={"warnings": ["\x1b]0;owned\x07 \u202e\x9b31m few\nsteps"]})
    out = chain.project.call("status").out
    assert f"teacher {day(5)}: warning: \\x1b]0;owned\\x07 \\u202e\\x9b31m few\\nsteps\n" in out
    assert all(c.isprintable() or c == "\n" for c in out)


def test_days_in_one_state_are_one_row() -> None:
    """Where they follow each other: between others there may be days of which nothing is known."""
    same, other = {"teacher": "published"}, {"teacher": "missing"}
    days = {"2026-01-01": other, "2026-01-02": same, "2026-01-03": same, "2026-01-05": same, "2026-01-06": other}
    assert _together(days) == {
        "2026-01-01": other,
        "2026-01-02 .. 2026-01-03": same,
        "2026-01-05": same,
        "2026-01-06": other,
    }
    assert _together({}) == {}


# -- a chain of models -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    home = tmp_path_factory.mktemp("models")
    generate(home, 3, start=dt.date(2026, 1, 1), users=40, items=40, events_per_day=400, seed=1)
    made = Project.create(home, home / "log")
    made.config |= {"features": "auto", "gates": {"quality": False}}  # so small a log teaches by chance
    made.write()
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[2])
    assert (ended.code, ended.err) == (0, "")
    return made


def states(project: Project, *arguments: object) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = project.call("status", "--json", *arguments).json["days"]
    return found


def test_backfill_heals_what_a_day_made_again_left_behind(project: Project) -> None:
    """All that is stale or changed, in one pass over the days."""
    assert {s for cells in states(project, "--inputs").values() for s in cells.values()} == {"published", "not due"}
    log = Path(project.config["data"]["root"])
    file = log / f"events/day={DAYS[0]}/part-0.parquet"
    events(log, DAYS[0])[:-30].write_parquet(file)
    assert {s for cells in states(project).values() for s in cells.values()} == {"published", "not due"}
    found = states(project, "--inputs")
    assert {found[DAYS[0]][stage] for stage in ("profile", "teacher", "scores")} == {"changed"}
    assert found[DAYS[2]]["evaluation"] == "published", "no file of its own has changed, no parent was made again"
    assert "stale: " not in project.call("status").out
    assert f"stale: {DAYS[0]} and what follows was made of" in project.call("status", "--inputs").out

    project.done("build-profile", 1)
    found = states(project)
    assert found[DAYS[0]]["profile"] == "published"
    assert {found[DAYS[2]][s] for s in ("evaluation", "profile", "teacher", "student", "export")} == {"stale"}
    assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[2]).code == 0
    assert {s for cells in states(project, "--inputs").values() for s in cells.values()} == {"published", "not due"}
    again = project.call("backfill", "--from", DAYS[0], "--to", DAYS[2], "--json")
    assert all(r["up_to_date"] for r in again.every)


def test_files_that_came_or_went_are_changes(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shutil.copytree(project.config["data"]["root"], log)
    moved = ("--set", f"data.root={log}", "--inputs")
    assert {s for cells in states(project, *moved).values() for s in cells.values()} == {"published", "not due"}
    file = log / f"events/day={DAYS[1]}/part-0.parquet"
    shutil.copy(file, file.with_name("part-1.parquet"))
    events(log, DAYS[1])[:5].write_parquet(file.with_name("part-1.parquet"))
    assert states(project, *moved)[DAYS[1]]["teacher"] == "changed"
    file.with_name("part-1.parquet").unlink()
    shutil.rmtree(log / f"events/day={DAYS[1]}")
    assert states(project, *moved)[DAYS[1]]["teacher"] == "published", "a day that the log no longer has tells nothing"
    (log / f"events/day={DAYS[2]}/part-0.parquet").write_bytes(b"PAR1")
    ended = project.call("status", *moved)
    assert ended.code == 0 and f"problem: inputs of {DAYS[2]}: " in ended.out


def test_an_up_to_date_day_heals_a_lost_latest(project: Project) -> None:
    """As its advice does."""
    latest = project.ws / "export/LATEST"
    whole = latest.read_text()
    for command in (("run", "--day", DAYS[2]), ("train-student", "--day", DAYS[2]), ("rollback", "--unpin")):
        latest.write_text("day=2026-02-02/run-0123456789ab\n")
        assert project.call(*command).code == 0
        assert latest.read_text() == whole, command


def test_a_pinned_chain_says_so(project: Project) -> None:
    served = project.call("rollback", "--json").json["served"]
    every = project.call("run", "--day", DAYS[2], "--json").every
    assert {r["stage"]: r.get("pinned") for r in every if "pinned" in r} == {"export": served}
    assert f"export {DAYS[2]}: not served, LATEST is pinned to {served} until" in project.logged("run", 3)
    assert project.done("train-student", 3)["pinned"] == project.call("refresh", "--json").json["pinned"] == served
    assert project.call("rollback", "--unpin").code == 0
    assert not any("pinned" in r for r in project.call("run", "--day", DAYS[2], "--json").every)


def test_a_day_that_is_up_to_date_is_not_refused_any_more(project: Project) -> None:
    """It was by another config, which was put back."""
    refusal = project.ws / f"rejected/teacher-{DAYS[2]}.txt"
    refusal.parent.mkdir(exist_ok=True)
    refusal.write_text("dmtl: error: AUC of ctr .51")
    assert "teacher" in {each["stage"] for each in project.call("status", "--json").json["refused"]}
    assert project.done("train-teacher", 3)["up_to_date"]
    assert "teacher" not in {each["stage"] for each in project.call("status", "--json").json["refused"]}
