"""Which pairs a teacher learns: negatives that are no clicks of their user, rows that keep their labels and context."""

import datetime as dt
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import put, read
from test_rows import lists_of

from dmtl_cli.config.features import Feature
from dmtl_cli.config.teacher import Teacher
from dmtl_cli.data.log.checked.day import ID, NO_REQUEST, Block, Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.spool import Spool
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import Rows
from dmtl_cli.nn.batches import Batcher
from dmtl_cli.teacher.labels import TeacherRows
from dmtl_cli.teacher.rows import HoldOut, Window, rows_per_epoch, teacher_rows

Ints = npt.NDArray[np.int64]
MONDAY = dt.date(2026, 1, 5)
HOUR = Feature(name="hour", side="context", kind="categorical")


def clicked_day(users: int, items: int, clicks: set[tuple[int, int]], item_clicks: Ints | None = None) -> Day:
    """A day's tables and clicks alone."""
    none = np.zeros(0, np.int64)
    pairs = np.array(sorted(u * items + i for u, i in clicks), np.int64)
    counts = np.bincount(pairs % items, minlength=items) if item_clicks is None else item_clicks
    tables = [pl.DataFrame({ID: np.arange(n)}) for n in (users, items)]
    return Day(dt.date(2026, 1, 31), *tables, Spool(Path(), ()), pairs, none, none, none, counts, {})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.sampled_from([0.0, 0.5, 1.0]), st.data())
def test_a_drawn_negative_is_never_a_click_of_the_user(
    users: int, items: int, alpha: float, data: st.DataObject
) -> None:
    every = [(u, i) for u in range(users) for i in range(items)]
    clicks = data.draw(st.sets(st.sampled_from(every)))
    user = np.repeat(np.arange(users), 20)
    item, valid = Negatives(clicked_day(users, items, clicks), alpha).draw(user, np.random.default_rng(0))
    assert ((item >= 0) & (item < items)).all()
    hit = np.array([(u, i) in clicks for u, i in zip(user.tolist(), item.tolist(), strict=True)])
    assert (valid == ~hit).all()
    for u in range(users):
        if all((u, i) in clicks for i in range(items)):
            assert not valid[user == u].any(), "who clicked everything has no negative"
        elif not any(v == u for v, _ in clicks):
            assert valid[user == u].all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.75, 1.0])
def test_negatives_are_drawn_by_clicks_to_the_alpha(alpha: float) -> None:
    clicks = np.array([0, 1, 4, 16, 100, 400])
    day = clicked_day(2, 6, {(0, 4)}, clicks)
    item, valid = Negatives(day, alpha).draw(np.ones(60_000, np.int64), np.random.default_rng(1))
    share = clicks**alpha if alpha else np.ones(6)
    expected = 60_000 * share / share.sum()
    drawn = np.bincount(item, minlength=6)
    assert valid.all() and (drawn[expected == 0] == 0).all()
    some = expected > 0
    chi_square = ((drawn - expected)[some] ** 2 / expected[some]).sum()
    assert chi_square < 25, "5 degrees of freedom: beyond 25 once in 7,000"
    item, valid = Negatives(day, alpha).draw(np.zeros(6_000, np.int64), np.random.default_rng(1))
    assert 4 not in item[valid]


def test_a_day_without_clicks_draws_uniformly() -> None:
    item, valid = Negatives(clicked_day(1, 4, set()), 1.0).draw(np.zeros(4000, np.int64), np.random.default_rng(0))
    assert valid.all() and np.bincount(item).min() > 850


# -- rows of an epoch --------------------------------------------------------------------------------------------------


def log_rows(n: int = 300, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 12, n)
    return {
        "user_id": user,
        "item_id": rng.integers(0, 40, n),
        "click": rng.random(n) < 0.3,
        "seconds": [float(s) if s > 8 else None for s in rng.integers(0, 60, n)],
        "weight": 1 + np.arange(n) / 1000,  # names the row
        "hour": user * 100 + rng.integers(0, 24, n),  # a context that tells whose it is
    }


@pytest.fixture
def a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Day:
    monkeypatch.setattr(sizes, "BLOCK", 32)
    put(tmp_path, log_rows())
    return read(tmp_path, [HOUR], weight="weight")


def epoch(days: list[Day], samples: str, share: float = 0.0, seed: int = 1, **more: Any) -> TeacherRows:
    config = Teacher.model_validate({"samples": samples, **more})
    return Rows.concat(list(teacher_rows(days, 30.0, config, HoldOut(share, seed).kept, np.random.default_rng(seed))))


def logged(day: Day) -> list[tuple[Any, ...]]:
    out = []
    for b in day.blocks():
        converted, known = b.labels(30.0)
        assert b.features is not None
        out += list(zip(*(x.tolist() for x in (b.user, b.item, b.click, converted, known, b.weight)),
                        b.features["hour"], strict=True))  # fmt: skip
    return out


def listed(rows: TeacherRows) -> list[tuple[Any, ...]]:
    assert rows.features is not None
    click, converted, known, weight = rows.labels
    columns = [x.tolist() for x in (click, converted[:, 0], known[:, 0], weight)]
    return list(zip(rows.user.tolist(), rows.item.tolist(), *columns, rows.features["hour"], strict=True))


def test_exposed_is_the_log(a_day: Day) -> None:
    rows = epoch([a_day], "exposed", negatives=3)
    assert Counter(listed(rows)) == Counter(logged(a_day)) and listed(rows) != logged(a_day)


@pytest.mark.parametrize("negatives", [1, 3])
def test_mixed_adds_negatives_in_the_context_of_their_row(a_day: Day, negatives: int) -> None:
    rows = Counter(listed(epoch([a_day], "mixed", negatives=negatives)))
    real = Counter(logged(a_day))
    assert real <= rows
    drawn = list((rows - real).elements())
    assert len(drawn) == negatives * len(real), "300 rows, few clicks a user: every draw finds one"
    context = {r[5]: (r[0], r[6]) for r in real}
    for user, item, click, converted, known, weight, hour in drawn:
        assert (click, converted, known) == (False, False, True)
        assert context[weight] == (user, hour), "user, context and weight of the row it is drawn for"
        assert not a_day.has_clicked(np.array([user]), np.array([item]))[0]
    assert set(Counter(d[5] for d in drawn).values()) == {negatives}


@pytest.mark.parametrize("samples", ["mixed", "sampled"])
def test_a_drawn_row_weighs_a_share_of_its_row(a_day: Day, samples: str) -> None:
    plain, light = (epoch([a_day], samples, negative_weight=w) for w in (1.0, 0.25))
    assert np.array_equal(plain.user, light.user) and np.array_equal(plain.item, light.item)
    ratio = light.labels.weight / plain.labels.weight
    real = len(logged(a_day)) if samples == "mixed" else int(plain.labels.click.sum())
    assert set(ratio.tolist()) == {0.25, 1.0} and (ratio == 1).sum() == real
    assert (ratio[plain.labels.click] == 1).all()


def test_sampled_drops_what_was_shown_and_not_clicked(a_day: Day) -> None:
    rows = Counter(listed(epoch([a_day], "sampled", negatives=2, alpha=1.0)))
    clicks = Counter(r for r in logged(a_day) if r[2])
    assert Counter({r: n for r, n in rows.items() if r[2]}) == clicks
    drawn = list((rows - clicks).elements())
    assert len(drawn) == 2 * clicks.total() and {d[5] for d in drawn} == {c[5] for c in clicks}
    popular = {i for i in range(40) if i < len(a_day.items) and a_day.item_clicks[i] > 0}
    assert {d[1] for d in drawn} <= popular, "alpha 1: an item without clicks is never drawn"


def test_several_days_are_offset_by_the_tables_before(tmp_path: Path) -> None:
    days = []
    for k in range(3):
        put(tmp_path / str(k), log_rows(50 + 10 * k, seed=k))
        days.append(read(tmp_path / str(k), [HOUR], weight="weight"))
    rows = epoch(days, "mixed")
    users = np.cumsum([0] + [len(d.users) for d in days])
    items = np.cumsum([0] + [len(d.items) for d in days])
    for k, day in enumerate(days):
        mine = (rows.user >= users[k]) & (rows.user < users[k + 1])
        of_items = (rows.item >= items[k]) & (rows.item < items[k + 1])
        assert np.array_equal(mine, of_items) and mine.sum() == 2 * len(day)
        part = rows.take(np.flatnonzero(mine))
        moved = Rows(part.user - users[k], part.item - items[k], part.labels, part.features)
        assert Counter(logged(day)) <= Counter(listed(moved))


def test_the_same_generator_gives_the_same_epoch(a_day: Day) -> None:
    assert listed(epoch([a_day], "mixed")) == listed(epoch([a_day], "mixed"))


def test_further_conversions_are_labels_of_their_own(tmp_path: Path) -> None:
    likes = {"like": [None if k % 7 == 0 else k % 3 == 0 for k in range(300)]}
    put(tmp_path, log_rows() | likes)
    day = read(tmp_path, [HOUR], weight="weight", conversions={"like": "like"})
    rows = epoch([day], "mixed", negatives=2)
    click, converted, known, weight = rows.labels
    assert converted.shape == known.shape == (len(rows), 2) and len(click) == len(weight) == len(rows)
    (block,) = day.blocks()
    assert list(block.conversions(30.0)) == ["cvr", "like"], "in the order of the model's tasks"
    expected = Counter(zip(block.weight.tolist(), *(x.tolist() for x in block.conversions(30.0)["like"]), strict=True))
    found = Counter(zip(weight.tolist(), converted[:, 1].tolist(), known[:, 1].tolist(), strict=True))
    negatives = Counter({(w, False, True): 2 for w in block.weight.tolist()})
    assert found == expected + negatives, "what is drawn is known not to be liked"
    assert {(c, k) for _, c, k in expected} == {(False, True), (True, True), (False, False)}


# -- held out ----------------------------------------------------------------------------------------------------------


def block_of(user: Ints, request: Ints) -> Block:
    n = len(user)
    zeros = [np.zeros(n, kind) for kind in (np.int32, np.bool_, np.float32, np.int8, np.float32)]
    return Block(np.arange(n), user.astype(np.int32), *zeros, request, None, {})


def day_of(date: dt.date) -> Day:
    return Mock(spec=Day, day=date)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0, 0.9), st.booleans())
def test_held_out_are_whole_requests_or_users(seed: int, share: float, requests: bool) -> None:
    rng, day = np.random.default_rng(0), day_of(MONDAY)
    user = rng.integers(3000, size=12_000)
    request = rng.integers(2, size=12_000) if requests else np.full(12_000, NO_REQUEST)
    block, held = block_of(user, request), HoldOut(share, seed).held
    once = held(day, block)
    order = rng.permutation(len(user))
    assert np.array_equal(held(day, block_of(user[order], request[order])), once[order])
    groups = user * 2 + (request if requests else 0)
    shares = np.bincount(groups, once) / np.maximum(1, np.bincount(groups))
    assert set(shares.tolist()) <= {0.0, 1.0}, "all rows of a group, or none"
    there = np.unique(groups)
    mean, n = shares[there].mean(), len(there)
    assert abs(mean - share) < 5 * np.sqrt(max(share * (1 - share), 1e-9) / n) + 1e-9
    assert (once <= HoldOut(min(0.95, share + 0.05), seed).held(day, block)).all(), "a larger share holds a smaller"


def test_another_day_holds_out_other_users() -> None:
    block = block_of(np.arange(4000), np.full(4000, NO_REQUEST))
    one, other = (HoldOut(0.3, 1).held(day_of(d), block) for d in (MONDAY, MONDAY + dt.timedelta(days=1)))
    assert 0.05 < (one & other).mean() < 0.13, "independent: .09"


def test_every_epoch_learns_the_same_rest(a_day: Day) -> None:
    one = epoch([a_day], "exposed", share=0.25)
    config, hold_out = Teacher(samples="exposed"), HoldOut(0.25, 1)
    for other_order in (5, 6):
        rng = np.random.default_rng(other_order)
        again = Rows.concat(list(teacher_rows([a_day], 30.0, config, hold_out.kept, rng)))
        assert Counter(listed(again)) == Counter(listed(one))
    kept = sum(int(hold_out.held(a_day, b).sum()) for b in a_day.blocks())
    assert len(one) == len(a_day) - kept and 45 < kept < 105
    assert Counter(listed(epoch([a_day], "exposed", share=0.25, seed=2))) != Counter(listed(one))
    mixed = Counter(listed(epoch([a_day], "mixed", share=0.25)))
    assert {r[5] for r in mixed} == {r[5] for r in listed(one)}, "no negative is drawn for what is held out"


def test_as_many_rows_are_looked_at_where_earlier_days_are_learned_again(a_day: Day) -> None:
    """They are held out of the newest day alone: of a window of four a quarter was looked at, where leaks are told."""
    window = Window([a_day], 30.0, HoldOut(0.5, 1))
    earlier = [replace(a_day, day=a_day.day - dt.timedelta(days=k)) for k in (3, 2, 1)]
    again = replace(window, days=[*earlier, a_day], known=earlier[-1].day)
    counts = [sum(map(len, (x for d in w.days for x in w.with_held_out(90).held_out(d)))) for w in (window, again)]
    assert counts[0] == counts[1] and 60 < counts[0] < 120
    assert window.with_held_out(10**9) == window


# -- steps of an epoch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "rows"), [("exposed", 300), ("mixed", 1200), ("sampled", None)])
def test_rows_per_epoch_are_those_that_the_epoch_has(a_day: Day, samples: str, rows: int | None) -> None:
    clicks = sum(r[2] for r in logged(a_day))
    config = Teacher.model_validate({"samples": samples} | ({} if samples == "exposed" else {"negatives": 3}))
    assert 60 < clicks < 120 and rows_per_epoch([a_day], config) == (rows or 4 * clicks)
    learned = epoch([a_day, a_day], **config.model_dump(exclude_unset=True))
    assert rows_per_epoch([a_day, a_day], config) == len(learned), "every draw finds a negative in this log"


def test_a_day_of_few_clicks_is_no_handful_of_steps(tmp_path: Path) -> None:
    """Batches are sized by the rows of the epoch: by the log's own rows they would make a dozen steps."""
    n = 400_000
    rng = np.random.default_rng(0)
    columns = {"user_id": rng.integers(0, 500, n), "item_id": rng.integers(0, 300, n), "seconds": np.ones(n)}
    put(tmp_path, columns | {"click": np.arange(n) % 100 == 0})
    day, config = read(tmp_path), Teacher(samples="sampled")
    size = config.rows_a_step(rows_per_epoch([day], config))
    rows = teacher_rows([day], 30.0, config, HoldOut(0.0, 1).kept, rng)
    steps = sum(1 for _ in Batcher.cut(rows, size))
    assert 100 < steps < 500 and n / 100 * 2 / config.rows_a_step(len(day)) < 12


# -- rows of a user ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", ["exposed", "mixed"])
@pytest.mark.parametrize("user_rows", [4, 1000])
def test_rows_of_a_user_stay_together(a_day: Day, samples: str, user_rows: int) -> None:
    assert len(a_day.spool) > 1, "users lie in several buckets"
    rows = epoch([a_day, a_day], samples, user_rows=user_rows)
    alone = epoch([a_day, a_day], samples)

    def every(x: TeacherRows) -> Counter[tuple[Any, ...]]:
        assert x.features is not None
        click, converted, known, weight = x.labels
        columns = (x.user, x.item, click, converted[:, 0], known[:, 0], weight)
        return Counter(zip(*(c.tolist() for c in columns), x.features["hour"].to_list(), strict=True))

    if samples == "exposed":
        assert every(rows) == every(alone)
    lists = lists_of(rows)
    runs = np.flatnonzero(np.append(True, lists[1:] != lists[:-1]))
    assert len(runs) == len(np.unique(lists)), "a list is not torn"
    sizes = np.diff(np.append(runs, len(lists)))
    assert sizes.max() <= user_rows
    assert all(len(np.unique(rows.user[lists == k])) == 1 for k in np.unique(lists))
    if user_rows == 1000:
        assert len(runs) == len(np.unique(rows.user)), "one list a user and day"
    batches = list(Batcher.cut(iter([rows]), 64))
    assert max(map(len, batches)) <= max(64, sizes.max())
    assert all(len(np.intersect1d(lists_of(a), lists_of(b))) == 0 for a, b in itertools.pairwise(batches))
