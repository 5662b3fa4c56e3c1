"""How much of a day an evaluation measures: pairs are counted, samples agree, and a small day is measured whole."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import put, read
from worlds import DAYS, Project

from dmtl_cli.config.evaluate import Evaluate
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.rows import Rows
from dmtl_cli.evaluate import budget
from dmtl_cli.evaluate.budget import TEACHERS, Bounds, Loop, Pace, operations
from dmtl_cli.evaluate.exam import Exam, draw_users
from dmtl_cli.evaluate.on_catalogue import on_catalogue, retrieve
from dmtl_cli.evaluate.on_rows import on_rows, score_rows
from dmtl_cli.evaluate.shared import Shared
from dmtl_cli.runs.progress import SILENT
from dmtl_cli.runs.run import Run
from dmtl_cli.serving.search import best_k
from dmtl_cli.stages.evaluate import evaluate
from dmtl_cli.synth.generate import generate
from dmtl_cli.teacher.frozen import Scorer

Ints = npt.NDArray[np.int64]
PACE = Pace(pair=4.0, event=400.0, candidates=0)


def sized(rows: int, users: int, items: int) -> Day:
    """A day of some size that has no rows to read."""
    ids = [pl.DataFrame({ID: np.arange(n)}) for n in (users, items)]
    events, none = np.ones(users, np.int64), np.zeros(items, np.int64)
    facts = {"rows": float(rows), "clicks": rows * 0.4}
    empty = np.zeros(0, np.int64)
    return Day(dt.date(2026, 1, 31), *ids, None, empty, empty, events, none, none, facts)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=1200, seed=1)
    return out


@pytest.fixture(scope="module")
def project(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.create(tmp_path_factory.mktemp("learned"), world / "log", world / "truth")
    assert made.call("backfill", "--from", DAYS[0], "--to", DAYS[2]).code == 0
    return made


# -- the budget --------------------------------------------------------------------------------------------------------


def cost(bounds: Bounds, day: Day) -> float:
    """Nominal microseconds of an evaluation, written anew from what its parts cost."""
    entities, items = len(day.users) + len(day.items), len(day.items)
    pairs = bounds.rows * (len(day) + budget.DRAWN * day.facts["clicks"]) * TEACHERS
    rows = pairs * (PACE.pair + budget._MEASURED)
    users = bounds.users * (budget._RETRIEVED + budget._DOT * items)
    few = bounds.few * TEACHERS * PACE.pair * items
    return budget._EVALUATION + entities * budget._ENCODED + rows + users + few


@settings(deadline=None, max_examples=60)
@given(st.integers(1_000, 5_000_000), st.integers(50, 200_000), st.integers(50, 500_000))
def test_an_evaluation_is_a_share_of_its_day_of_any_size(rows: int, users: int, items: int) -> None:
    day = sized(rows, min(users, rows), items)
    bounds = PACE.bounds(day, Evaluate())
    entities, teacher = len(day.users) + items, TEACHERS * PACE.pair * items
    share = (budget._STAGES + rows * PACE.event + entities * budget._ENTITY) / 4
    fixed = budget._EVALUATION + entities * budget._ENCODED
    if share - fixed > max(8 * budget._LEAST, 4 * teacher):  # no part of it has its least
        assert cost(bounds, day) <= share
    # a part has its least, or one user
    assert cost(bounds, day) <= max(share, fixed) + 3 * budget._LEAST + teacher + budget._RETRIEVED
    assert 0 < bounds.rows <= 1 and 1 <= bounds.few <= bounds.users <= len(day.users)


def test_the_budget_is_used() -> None:
    """Of a day that costs minutes the evaluation is not far below its share."""
    for rows, users, items in ((1_000_000, 40_000, 20_000), (200_000, 8_000, 100_000)):
        day = sized(rows, users, items)
        work = budget._STAGES + rows * PACE.event + (users + items) * budget._ENTITY
        assert 0.8 * work / 4 < cost(PACE.bounds(day, Evaluate(teacher_users=10_000)), day) <= work / 4


def test_more_share_and_more_rows_measure_more() -> None:
    day = sized(100_000, 20_000, 50_000)
    found = [PACE.bounds(day, Evaluate(share=share)) for share in (0.1, 0.2, 0.4, 0.9, 1.0)]
    assert found == sorted(found) and found[0] != found[-1]
    assert found[-1] == Bounds(1.0, 20_000, 500), "1: as the other keys say"
    assert PACE.bounds(day, Evaluate(max_users=7, teacher_users=3, max_rows=10)) == Bounds(1e-4, 7, 3)
    slow = replace(PACE, pair=40.0)
    assert slow.bounds(day, Evaluate()).few < PACE.bounds(day, Evaluate()).few
    dearer = replace(PACE, event=4_000.0)
    assert dearer.bounds(day, Evaluate()).few > PACE.bounds(day, Evaluate()).few, "a day that costs more"


def test_steps_are_work_too() -> None:
    """A small log learns in small batches, where a step costs more than its rows: so more of its day is measured."""
    loop = Loop(rows=6.0, passes=2.0, batch_size=None)
    assert loop.steps(10_000) == pytest.approx(2 * 60_000 * (1 / 256 - 1 / 4_096))
    assert loop._replace(batch_size=1_000).steps(10_000) == pytest.approx(2 * 60_000 * (1 / 1_000 - 1 / 4_096))
    assert loop.steps(100) == pytest.approx(2 * 600 * (1 / 64 - 1 / 4_096))
    assert loop.steps(10_000_000) == loop._replace(batch_size=8_192).steps(10) == 0
    day = sized(15_000, 8_000, 5_000)
    stepping = replace(PACE, loops=(loop, Loop(1.0, 3.0, None)))
    steps = 2 * 90_000 * (1 / 256 - 1 / 4_096) + 3 * 15_000 * (1 / 64 - 1 / 4_096)
    work = budget._STAGES + 15_000 * PACE.event + 13_000 * budget._ENTITY + steps * budget._STEP
    assert 0.8 * work / 4 < cost(stepping.bounds(day, Evaluate()), day) <= work / 4
    assert stepping.bounds(day, Evaluate()).users > 1.5 * PACE.bounds(day, Evaluate()).users


def test_loops_are_those_of_the_config(project: Project) -> None:
    sets = [
        "teacher.epochs=2",
        "teacher.batch_size=128",
        "teacher.window_days=3",
        "student.epochs=5",
        "student.exposure.epochs=4",
    ]
    pace = Pace.of(load_config(project.file, sets))
    negatives = load_config(project.file, sets).scores.negatives
    teacher, preference, exposure = pace.loops
    assert teacher == (3, 2, 128) and preference == (2 * (1 + negatives), 5, 512) and exposure == (1, 4, None)
    assert len(Pace.of(load_config(project.file, [*sets[:4], "student.exposure.kappa=0"])).loops) == 2
    assert pace.described()["loops"] == [[3, 2, 128], [2 * (1 + negatives), 5, 512], [1, 4, None]]


def test_a_small_day_is_measured_whole() -> None:
    assert PACE.bounds(sized(2_000, 100, 200), Evaluate())[0] == 1.0
    assert PACE.bounds(sized(2_000, 100, 200), Evaluate())[1:] == (100, 100)


def test_operations_are_those_of_the_network(project: Project) -> None:
    """Counted by hand of 2 experts and towers of the test world; nothing else draws other numbers for it."""
    sets = ["teacher.num_experts=3", "teacher.expert_hidden_units=[16,8]", "teacher.tower_hidden_units=[4]"]
    config = load_config(project.file, sets)
    experts, towers = 3 * (16 * 8 + 8), 2 * (8 * 4 + 4 + 4 + 1)
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    assert operations(config) == (2 * (experts + towers), 3 * 16 + 2 * 3), "of the first layer the experts and gates"
    assert torch.rand(1) == first
    twice = load_config(project.file, [*sets, "teacher.epochs=5"])
    assert Pace.of(twice).event > Pace.of(config).event and Pace.of(twice).pair == Pace.of(config).pair


# -- the sample --------------------------------------------------------------------------------------------------------


def a_day(tmp_path: Path, users: list[Any], name: str = "a") -> Day:
    """Users with one row each, every second of them a click."""
    root = tmp_path / name
    click = [k % 2 for k in range(len(users))]
    put(root, {"user_id": users, "item_id": [k % 9 for k in range(len(users))], "click": click,
               "seconds": [9.0] * len(users)})  # fmt: skip
    return read(root)


@pytest.mark.parametrize("text", [False, True])
def test_users_are_drawn_by_id_and_day(tmp_path: Path, text: bool) -> None:
    names: list[Any] = [f"u{k}" if text else 7 * k for k in range(400)]
    day, fewer = a_day(tmp_path, names), a_day(tmp_path, names[:300], "b")
    number = dict(zip(day.users[ID].to_list(), draw_users(day).tolist(), strict=True))
    assert len(set(number.values())) == 400
    assert all(number[i] == n for i, n in zip(fewer.users[ID], draw_users(fewer).tolist(), strict=True))
    tomorrow = replace(day, day=day.day + dt.timedelta(days=1))
    assert not set(draw_users(tomorrow).tolist()) & set(number.values())

    def drawn(day: Day, users: int, few: int) -> tuple[set[Any], set[Any]]:
        sizes = Evaluate(max_users=users, teacher_users=few)
        exam = Exam.draw(day, 1.0, Tasks(), True, sizes, clicked_first=False)
        ids = day.users[ID].gather(exam.users)
        return set(ids.to_list()), set(ids.gather(exam.few).to_list())

    some, few = drawn(day, 100, 20)
    assert len(some) == 100 and len(few) == 20 and few <= some and drawn(day, 100, 20) == (some, few)
    more, more_few = drawn(day, 200, 40)
    assert some < more and few < more_few, "a larger sample has the users of a smaller one"
    assert some & set(names[:300]) <= drawn(fewer, 100, 20)[0], "users who come or go change no others' turn"
    share = np.array([sorted(number.values()).index(number[i]) for i in some])
    assert share.max() < 100


def test_a_sample_is_of_users_who_clicked(tmp_path: Path) -> None:
    day = a_day(tmp_path, [*range(100)])
    sample = Exam.draw(day, 1.0, Tasks(), True, Evaluate(max_users=30))
    assert all(day.users[ID].gather(sample.users) % 2 == 1)
    exam = Exam.draw(day, 1.0, Tasks(), True, Evaluate(teacher_users=20))
    assert all(day.users[ID].gather(exam.users[exam.few]) % 2 == 1), "the odd ones click"
    alike = Exam.draw(day, 1.0, Tasks(), True, Evaluate(teacher_users=20), clicked_first=False)
    assert 0 < sum(day.users[ID].gather(alike.users[alike.few]) % 2) < 20
    most = Exam.draw(day, 1.0, Tasks(), True, Evaluate(teacher_users=60))
    assert sum(day.users[ID].gather(most.users[most.few]) % 2) == 50, "and for others where these are too few"


def test_a_sample_of_rows_is_of_whole_users(tmp_path: Path) -> None:
    day = a_day(tmp_path, [k // 4 for k in range(4_000)])
    exam = Exam.draw(day, 1.0, Tasks(), True, Evaluate(max_rows=1_000))
    rows = sum(len(sample.exposed) for sample in exam.samples())
    assert rows == 4 * exam.row_users.sum() and abs(rows - 1_000) < 200
    one = Exam.draw(day, 1.0, Tasks(), True, Evaluate(max_rows=1))
    assert sum(len(sample.exposed) for sample in one.samples()) == 4, "of one user, not none"
    assert not (one.row_users & ~exam.row_users).any()


# -- what is scored ----------------------------------------------------------------------------------------------------


class Counting:
    """A ranker that counts what it is asked for."""

    def __init__(self, day: Day, slow: bool = True) -> None:
        self.day, self.slow = day, slow
        self.rows = self.users = 0

    def scores(self, rows: Rows[None]) -> Mapping[str, npt.NDArray[Any]]:
        self.rows += len(rows)
        return {label: np.zeros(len(rows)) for label in ("ctr", "cvr", "ctcvr")}

    def probable(self, label: str) -> bool:
        return False

    def retrieve(self, users: Ints, k: int) -> tuple[Ints, pl.Series]:
        self.users += len(users)
        return np.zeros((len(users), 1), np.int64), self.day.items[ID]


def test_two_names_of_one_model_are_scored_once(tmp_path: Path) -> None:
    day = a_day(tmp_path, [*range(60)])
    exam = Exam.draw(day, 1.0, Tasks(), True, Evaluate(teacher_users=10))
    one, other = Counting(day), Counting(day)
    names = {"teacher": one, "student_teacher": one}
    scored, tops = score_rows(exam, names), retrieve(exam, names)
    apart = {"teacher": other}
    alone, _ = score_rows(exam, apart), retrieve(exam, apart)
    assert (one.rows, one.users) == (other.rows, other.users) and one.users == 10
    assert set(scored.by) == set(tops) == set(names) and scored.by["teacher"] is scored.by["student_teacher"]
    assert on_rows(exam, names, scored).keys() >= on_rows(exam, apart, alone).keys()
    known = Shared()
    key = known.key(exam, "run")
    known.keep(key, scored.by["teacher"], tops["teacher"])
    again = score_rows(exam, names, known=dict.fromkeys(names, known.scores[key]))
    found = retrieve(exam, names, known=dict.fromkeys(names, known.tops[key]))
    assert (one.rows, one.users) == (other.rows, other.users), "what is known is not scored again"
    assert on_catalogue(exam, found, None) == on_catalogue(exam, tops, None) and again.by == scored.by
    fewer = Exam.draw(day, 1.0, Tasks(), True, Evaluate(teacher_users=9))
    assert known.key(fewer, "run") != key != known.key(exam, "other")


def test_shared_scores_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = a_day(tmp_path, [*range(60)])
    exam = Exam.draw(day, 1.0, Tasks(), True, Evaluate())
    scores = score_rows(exam, {"teacher": Counting(day)}).by["teacher"]
    monkeypatch.setattr("dmtl_cli.evaluate.shared._MOST", 2 * 60 * 3 * 8 + 100)
    known = Shared()
    for name in "abc":
        known.keep((name,), scores, None)
    assert list(known.scores) == [("c",)] or list(known.scores) == [("b",), ("c",)]


def test_pairs_that_teachers_score_are_within_the_bounds(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real stages: the pairs of a day, counted where they are scored."""
    counted = {"rows": 0, "users": 0}
    pairs, catalogue = Scorer.pairs, Scorer.catalogue

    def counting(self: Scorer, rows: Any, batch_size: int = 4_096) -> Any:
        counted["rows"] += len(rows)
        return pairs(self, rows, batch_size)

    def of_catalogue(self: Scorer, users: Ints) -> Any:
        counted["users"] += len(users)
        return catalogue(self, users)

    monkeypatch.setattr(Scorer, "pairs", counting)
    monkeypatch.setattr(Scorer, "catalogue", of_catalogue)
    monkeypatch.setattr(budget, "_LEAST", 3_000.0)  # as of a day that is large
    whole = project.done("evaluate", 4, evaluate__share=1)
    every = dict(counted)
    counted |= {"rows": 0, "users": 0}
    made = project.done("evaluate", 4, evaluate__share=0.1)
    rows = made["rows"]
    assert every["users"] == 2 * whole["rows"]["teacher_users"] and whole["rows"]["users"] == rows["active_users"]
    assert counted["users"] == 2 * rows["teacher_users"] < every["users"]
    assert rows["users"] <= rows["active_users"] and counted["rows"] < every["rows"]
    assert rows["measured_events"] < rows["events"] == whole["rows"]["measured_events"]
    shutil.rmtree(project.ws / "evaluation")
    again = project.done("evaluate", 4, evaluate__share=0.1)
    assert again["metrics"] == made["metrics"] and not again["up_to_date"]


def test_a_second_setting_of_a_teacher_scores_nothing_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `compare` evaluates settings of a student; the numbers are those of an evaluation alone."""
    counted = []
    pairs, catalogue = Scorer.pairs, Scorer.catalogue
    monkeypatch.setattr(Scorer, "pairs", lambda *args: counted.append("rows") or pairs(*args))  # type: ignore[func-returns-value]
    monkeypatch.setattr(Scorer, "catalogue", lambda *args: counted.append("users") or catalogue(*args))  # type: ignore[func-returns-value]
    run, day, shared = (
        Run.start(load_config(project.file, ["evaluate.share=0.3"]), SILENT),
        dt.date(2026, 1, 4),
        Shared(),
    )
    pace = Pace.of(run.config)
    evaluate(run, day, pace=pace, shared=shared)
    assert {"rows", "users"} == set(counted)
    counted.clear()
    again = evaluate(run, day, beside=False, pace=pace, shared=shared)
    assert not counted and not again.up_to_date
    shutil.rmtree(project.ws / "evaluation")
    alone = evaluate(run, day, beside=False, pace=pace)
    assert counted and alone.metrics == again.metrics and alone.key == again.key
    other = evaluate(run, day, beside=False, pace=replace(pace, event=9.0))
    assert other.key != alone.key, "how much is measured is part of a run's key"


# -- search ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.booleans())
def test_the_best_of_many_are_those_of_a_sort(seed: int, k: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((3, 2 * k * 16 + int(rng.integers(0, 200)))).astype(np.float32)
    if ties:
        scores = np.round(scores)
    scores[1, rng.random(scores.shape[1]) < 0.99] = -np.inf
    expected = np.argsort(-scores, 1, kind="stable")[:, :k]
    np.testing.assert_array_equal(best_k(scores, k), expected)
