"""What a log decides: the search by known answers, the cut of a window, which keys are decided."""

from __future__ import annotations

import copy
import datetime as dt
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import BASE, DAYS, Project

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.tune.choices import MIN_COUNT, Choice, Round, chosen, free, student_rounds, teacher_rounds, written
from dmtl_cli.tune.cut import MOST_MEASURED, Cut
from dmtl_cli.tune.rounds import Plan, Rounds
from dmtl_cli.tune.search import EPOCHS, TYPICAL, Floats, Measured, best_epoch, first_within, halving
from dmtl_cli.tune.search import standard_error as error_of

GROUPS = np.repeat(np.arange(50), 4)
NOISE = np.random.default_rng(1).normal(size=200)


def losses(*means: float) -> list[Floats]:
    """Of 200 rows of 50 users each: the same noise, so that their differences are certain."""
    return [NOISE - NOISE.mean() + mean for mean in means]


# -- search ------------------------------------------------------------------------------------------------------------


def test_the_error_of_independent_rows_is_the_textbooks() -> None:
    assert error_of(NOISE, np.arange(200)) == pytest.approx(NOISE.std(ddof=1) / math.sqrt(200))
    assert error_of(NOISE, np.arange(200) * 3) == pytest.approx(NOISE.std(ddof=1) / math.sqrt(200)), "ids have gaps"
    assert error_of(NOISE, np.zeros(200, np.int64)) == math.inf


def test_the_error_of_rows_of_users_is_that_of_a_bootstrap_of_users() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=200) + rng.normal(size=50)[GROUPS]
    by_user = x.reshape(50, 4)
    means = [by_user[rng.integers(0, 50, 50)].mean() for _ in range(4_000)]
    assert error_of(x, GROUPS) == pytest.approx(np.std(means), rel=0.05)
    assert error_of(x, GROUPS) > 1.5 * error_of(x, np.arange(200)), "rows of a user are alike"


def test_what_comes_first_must_be_beaten_clearly() -> None:
    assert first_within(losses(1.0, 0.5), GROUPS, 0) == 1
    assert first_within(losses(1.0, 0.9995, 0.999), GROUPS, 1e-2) == 0, "a difference that is worth nothing"
    doubtful = losses(1.0)[0] - 0.01 + np.random.default_rng(3).normal(size=200)
    better = doubtful - (doubtful.mean() - 0.99)
    assert first_within([*losses(1.0), better], GROUPS, 0) == 0, "within a standard error"
    assert first_within([np.full(200, np.inf), *losses(1.0)], GROUPS, 0) == 1, "one that diverged is no default"
    assert first_within([np.full(200, np.inf)] * 2, GROUPS, 0) == 0


def epochs_of(*means: float) -> tuple[Iterator[Floats], list[float]]:
    """Losses by epoch, and the means of those that were taken."""
    taken: list[float] = []

    def learn() -> Iterator[Floats]:
        for mean in means:
            taken.append(mean)
            yield losses(mean)[0]

    return learn(), taken


def test_epochs_stop_where_one_is_worse() -> None:
    found, taken = epochs_of(5, 4, 3, 3.5, 1)
    best = best_epoch(found, GROUPS, 0)
    assert (best.epochs, best.mean, taken) == (3, pytest.approx(3), [5, 4, 3, 3.5])
    found, taken = epochs_of(5, 3, 2.9999, 2.9998, 4)
    assert best_epoch(found, GROUPS, 1e-2).epochs == 2, "no more than are worth it"
    found, taken = epochs_of(*range(99, 0, -1))
    assert best_epoch(found, GROUPS, 0).epochs == EPOCHS == len(taken)


def test_written_epochs_are_learned_whatever_they_cost() -> None:
    found, taken = epochs_of(1, 2, 3, 4)
    best = best_epoch(found, GROUPS, 0, epochs=3)
    assert (best.epochs, best.mean, taken) == (3, pytest.approx(3), [1, 2, 3])


def searched(means: list[float], budget: float) -> tuple[int, list[tuple[int, float]]]:
    """What is taken, and each trial's candidate and share."""
    found, tried = halving(len(means), lambda k, _: Measured(1, losses(means[k])[0]), GROUPS, 1e-3, budget)
    return found, [(k, s) for k, s, _ in tried]


def test_halving_takes_the_best_and_keeps_the_default_to_the_end() -> None:
    found, tried = searched([9, 8, 7, 6, 5, 4, 3, 1], 1.5)  # .5 a rung
    assert found == 7
    assert tried == [*((k, 1 / 16) for k in range(8)), *((k, 1 / 6) for k in (0, 6, 7)), (0, 0.25), (7, 0.25)]
    found, tried = searched([3, 8, 7, 6, 5, 4, 9, 1], 1.5)
    assert tried[8:] == [(0, 0.5), (7, 0.5)], "what a rung less has saved is learned by the last two"
    assert searched([1, 8, 7, 6], 0.1)[0] == 0
    assert searched([9, 8], 0.2) == (1, [(0, 0.1), (1, 0.1)]), "two are not halved"
    assert searched([2, 1, 3], 3.0) == (1, [(0, 1.0), (1, 1.0), (2, 1.0)])


@given(
    means=st.lists(st.floats(0, 9), min_size=1, max_size=14),
    times=st.floats(0.01, 30),
)
def test_trials_stay_within_their_budget(means: list[float], times: float) -> None:
    _, tried = searched(means, times)
    shares = [s for _, s in tried]
    assert 0 < min(shares) <= max(shares) <= 1 and sum(shares) <= times * 1.000001
    assert sum(shares) >= 0.99 * min(times, 2) or len(means) == 1 == max(shares), "and use what they have"
    if len(means) <= times:
        assert min(shares) == 1, "what can be measured on all rows is"


# -- keys --------------------------------------------------------------------------------------------------------------


def config_of(home: Path, **teacher: Any) -> Config:
    """No key of a model is written but those given; min_count of the feature `author`."""
    whole = copy.deepcopy(BASE)
    whole |= {"teacher": teacher, "student": {}}
    whole["features"][4]["min_count"] = 1
    whole["features"][5]["hash_bucket_size"] = 100
    return load_config(Project.create(home, home, config=whole).file)


def test_a_choice_never_touches_what_the_user_wrote(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=1, embedding_learning_rate=0.1)
    assert not free(config, "teacher.epochs") and free(config, "student.epochs"), "a default that is written is written"
    choice: Choice = {f"{who}.{key}": 3 for who in ("teacher", "student") for key in ("epochs", "batch_size")}
    made = chosen(config, choice | {"teacher.embedding_learning_rate": 0.5, MIN_COUNT: 7})
    assert (made.teacher.epochs, made.teacher.embedding_learning_rate, made.teacher.batch_size) == (1, 0.1, 3)
    assert (made.student.epochs, made.student.batch_size) == (3, 3)
    counts = {f.name: f.min_count for f in made.features}
    assert counts == {f.name: 7 for f in config.features} | {"author": 1, "category": 1}
    assert chosen(config, {}) == config and made.data is config.data
    assert not free(made, "student.epochs") and not free(made, MIN_COUNT), "what was chosen is not searched again"


def test_min_count_is_free_as_long_as_one_feature_has_none(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert free(config, MIN_COUNT)
    written = tuple(f.model_copy(update={"min_count": 1}) for f in config.features)
    assert not free(config.model_copy(update={"features": written}), MIN_COUNT)


def test_a_written_min_count_holds_for_the_features_that_share_its_embedding(tmp_path: Path) -> None:
    whole = copy.deepcopy(BASE)
    whole["features"][3]["min_count"] = 2  # item_id, whose embedding recent_clicks shares
    config = load_config(Project.create(tmp_path, tmp_path, config=whole).file)
    counts = {f.name: f.min_count for f in chosen(config, {MIN_COUNT: 7}).features}
    assert counts == {f.name: 7 for f in config.features} | {"item_id": 2, "recent_clicks": 1}


def test_adagrads_rates_are_not_tried_of_adam(tmp_path: Path) -> None:
    config = config_of(tmp_path, embedding_optimizer="adam")
    rate = "teacher.embedding_learning_rate"
    assert not free(config, rate) and free(config, "student.embedding_learning_rate") and not written(config, rate)
    assert chosen(config, {rate: 0.1}).teacher.table_rate == config.teacher.learning_rate


def test_the_first_candidate_of_a_round_is_the_default(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    for each in (*teacher_rounds(4096), *student_rounds()):
        made = chosen(config, each.candidates[0])
        for who in ("teacher", "student"):
            before, after = getattr(config, who), getattr(made, who)
            assert after.table_rate == before.table_rate
            same = {"embedding_learning_rate": after.embedding_learning_rate}
            assert before.model_copy(update=same) == after
        assert made.features == config.features


RATES: tuple[Choice, ...] = tuple({"teacher.embedding_learning_rate": rate} for rate in (0.1, 0.05, 0.02))
BATCHES: tuple[Choice, ...] = tuple({"teacher.batch_size": size} for size in (None, 256))


def rounds_of(config: Config, loss: Callable[[Config], float], budget: float = 1e9) -> Rounds:
    """Two rounds, of rates and of batch sizes, by a loss that is least after two epochs."""
    rounds = Rounds(config)

    def learn(candidate: Config, share: float) -> Iterator[Floats]:
        yield from losses(*(loss(candidate) + abs(epoch - 2) for epoch in range(1, 30)))

    some = (Round(("teacher.embedding_learning_rate",), RATES), Round(("teacher.batch_size",), BATCHES))
    rounds.search("teacher", some, learn, GROUPS, Plan(100, budget, 1e-3))
    return rounds


def test_rounds_choose_one_after_the_other_with_epochs(tmp_path: Path) -> None:
    trained = []

    def loss(c: Config) -> float:
        assert c.teacher.embedding_learning_rate is not None
        trained.append((c.teacher.embedding_learning_rate, c.teacher.batch_size))
        return abs(c.teacher.embedding_learning_rate - 0.02) + (c.teacher.batch_size is None)

    rounds = rounds_of(config_of(tmp_path), loss)
    assert rounds.choice == {"teacher.embedding_learning_rate": 0.02, "teacher.epochs": 2, "teacher.batch_size": 256}
    assert [(t["round"], t["taken"], t["users"]) for t in rounds.tried] == [
        (1, False, 1), (1, False, 1), (1, True, 1), (2, False, 1), (2, True, 1)
    ]  # fmt: skip
    assert (rounds.best.teacher.batch_size, rounds.best.teacher.epochs) == (256, 2)
    assert list(dict.fromkeys(trained)) == [(0.1, None), (0.05, None), (0.02, None), (0.02, 256)]
    assert trained.count((0.02, None)) == trained.count((0.1, None)), "what is known is not learned again"


def test_epochs_are_those_of_the_trial_with_the_most_users(tmp_path: Path) -> None:
    rounds = Rounds(config_of(tmp_path))

    def learn(candidate: Config, share: float) -> Iterator[Floats]:
        best = 2 if share > 0.5 else 5
        yield from losses(*(abs(epoch - best) for epoch in range(1, 9)))

    some = (Round(("teacher.embedding_learning_rate",), RATES, 20), Round(("teacher.batch_size",), BATCHES))
    rounds.search("teacher", some, learn, GROUPS, Plan(100, 3 * 100 * TYPICAL * 21 / 20, 1e-3))
    assert [t["users"] for t in rounds.tried if t["taken"]] == [1, 0.075]
    assert rounds.choice["teacher.epochs"] == 2


def test_rounds_leave_what_is_written(tmp_path: Path) -> None:
    rounds = rounds_of(
        config_of(tmp_path, embedding_learning_rate=0.3, epochs=4), lambda c: c.teacher.batch_size is None
    )
    assert rounds.choice == {"teacher.batch_size": 256}
    assert [t["epochs"] for t in rounds.tried] == [4, 4] and {t["round"] for t in rounds.tried} == {2}
    rounds = rounds_of(config_of(tmp_path, embedding_learning_rate=0.3, batch_size=64), lambda c: 0)
    assert rounds.choice == {"teacher.epochs": 2} and len(rounds.tried) == 1, "epochs alone"
    rounds = rounds_of(config_of(tmp_path, embedding_learning_rate=0.3, batch_size=64, epochs=1), lambda c: 0)
    assert rounds.choice == {} and rounds.tried == []


def test_written_epochs_count_in_the_budget(tmp_path: Path) -> None:
    config = config_of(tmp_path, epochs=20, batch_size=64)
    assert {t["users"] for t in rounds_of(config, lambda c: 0, budget=2 * 3 * 100 * 20).tried} == {1}
    short = rounds_of(config, lambda c: 0, budget=2 * 3 * 100 * TYPICAL)
    assert sum(t["users"] * t["epochs"] for t in short.tried) * 100 <= 3 * 100 * TYPICAL


def test_a_candidate_that_diverges_is_not_taken(tmp_path: Path) -> None:
    def loss(c: Config) -> float:
        if c.teacher.embedding_learning_rate == 0.1:
            raise UserError("training diverged")
        return 0.0

    rounds = rounds_of(config_of(tmp_path), loss)
    assert rounds.choice["teacher.embedding_learning_rate"] == 0.05
    assert [t["loss"] is None for t in rounds.tried] == [True, False, False, False, False]


def test_what_a_search_will_learn_is_told_before(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    some = (Round(("teacher.embedding_learning_rate",), RATES, 2), Round(("teacher.batch_size",), BATCHES))
    assert Rounds(config).expected("teacher", some, Plan(100, 1e9, 0)) == (3 + 2) * 100 * TYPICAL
    assert Rounds(config).expected("teacher", some, Plan(100, 90, 0)) == 90


# -- the cut -----------------------------------------------------------------------------------------------------------


def write_day(root: Path, day: str, rows: int = 600, time: Any = None, text: bool = False) -> None:
    """Events of some of 90 users."""
    rng = np.random.default_rng(int(day[-2:]))
    user = rng.integers(0, 90, rows)
    seconds = rng.permutation(rows) * 100
    columns = {"user": [f"u{k}" for k in user] if text else user, "item": rng.integers(0, 9, rows)}
    columns |= {"click": rng.random(rows) < 0.5, "seconds": rng.random(rows) * 99}
    if time == "ms":
        columns["at"] = seconds * 1_000 + 1_700_000_000_000
    if time == "same":
        columns["at"] = np.where(seconds < seconds.max() / 2, 1, 2)
    if time == "datetime":
        columns["at"] = [dt.datetime(2026, 1, 1) + dt.timedelta(seconds=int(s)) for s in seconds]
    folder = root / f"events/day={day}"
    folder.mkdir(parents=True)
    pl.DataFrame(columns).write_parquet(folder / "0.parquet")


def days_of(root: Path, n: int, **options: Any) -> list[Day]:
    for day in DAYS[:n]:
        write_day(root, day, **options)
    time = {"time": "at"} if options.get("time") else {}
    events = Events(path="events", partition="day", user="user", item="item", click="click", duration="seconds", **time)
    log = Log(Data(root=str(root), events=events), (), timed=True)
    (root / "scratch").mkdir()
    return [log.read(dt.date.fromisoformat(day), root / "scratch") for day in DAYS[:n]]


def kept(cut: Cut, rule: Any) -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
    """Of each day's events."""
    return [np.concatenate([rule(day, block) for block in day.blocks()]) for day in cut.days]


def users_of(day: Day, rows: Any) -> set[Any]:
    user = np.concatenate([block.user for block in day.blocks()])
    return set(day.users[ID].gather(np.unique(user[rows])).to_list())


@pytest.mark.parametrize(
    ("days", "time", "by"),
    [
        (4, None, "days"),
        (2, "ms", "days"),
        (1, "ms", "time"),
        (1, "datetime", "time"),
        (1, None, "users"),
        (1, "same", "users"),
    ],
)
def test_every_event_is_learned_or_measured(tmp_path: Path, days: int, time: str | None, by: str) -> None:
    cut = Cut.of(days_of(tmp_path, days, time=time))
    assert cut.by == by
    learned, measured = kept(cut, cut.learn(1.0)), kept(cut, cut.measure())
    for early, late in zip(learned, measured, strict=True):
        assert (early ^ late).all(), "one of both, never both"
    total = sum(map(len, learned))
    assert cut.rows == pytest.approx(sum(map(np.sum, learned)), rel=0.1) and 0.4 < cut.rows / total < 0.8
    if by == "days":
        assert [early.all() for early in learned] == [True] * len(cut.learned) + [False] * (days - len(cut.learned))
    if by == "time":
        at = np.concatenate([b.time.to_physical().to_numpy() for b in cut.days[0].blocks() if b.time is not None])
        assert at[learned[0]].max() < at[measured[0]].min(), "what is measured comes after what is learned"
    if by == "users":
        assert users_of(cut.days[0], learned[0]).isdisjoint(users_of(cut.days[0], measured[0]))


@pytest.mark.parametrize("text", [False, True])
def test_a_share_is_of_users_and_a_users_draw_is_the_same_on_every_day(tmp_path: Path, text: bool) -> None:
    cut = Cut.of(days_of(tmp_path, 4, text=text))
    few, more = kept(cut, cut.learn(0.3)), kept(cut, cut.learn(0.6))
    sampled = [users_of(day, rows) for day, rows in zip(cut.learned, few[:3], strict=True)]
    others = [users_of(day, ~rows) for day, rows in zip(cut.learned, few[:3], strict=True)]
    assert set().union(*sampled).isdisjoint(set().union(*others))
    assert 0.15 < sum(map(np.sum, few)) / cut.rows < 0.45
    assert all((b | ~a).all() for a, b in zip(few, more, strict=True)), "who has learned goes on"
    again = Cut.of(cut.days)
    assert all(map(np.array_equal, kept(again, again.learn(0.3)), few))


def test_a_users_number_is_the_same_on_every_day(tmp_path: Path) -> None:
    cut = Cut.of(days_of(tmp_path, 3))
    ids = np.concatenate([day.users[ID].to_numpy() for day in cut.days])
    first = dict(zip(ids, cut.users, strict=True))
    assert [first[k] for k in ids] == cut.users.tolist() and len(set(first.values())) == len(first) == 90 < len(ids)


def test_not_more_is_measured_than_tells_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmtl_cli.tune.cut.MOST_MEASURED", 300)
    cut = Cut.of(days_of(tmp_path, 4))
    measured = kept(cut, cut.measure())[-1]
    assert MOST_MEASURED > 600 and 150 < measured.sum() < 450
    assert users_of(cut.days[-1], measured).isdisjoint(users_of(cut.days[-1], ~measured)), "whole users"
