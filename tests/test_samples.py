"""Which pairs a model learns: negatives that are no clicks of their user, rows that keep their labels and context."""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import put, read

from dmtl_cli.config.schema import Feature, Student, Teacher
from dmtl_cli.data import rows as samples_module
from dmtl_cli.data.log import sizes
from dmtl_cli.data.log.day import ID, Block, Day
from dmtl_cli.data.log.spool import Spool
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import SOURCES, Rows, hard_rows, held_out, in_lists, mix, student_rows, teacher_rows
from dmtl_cli.nn.batches import Batcher

Ints = npt.NDArray[np.int64]
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
    held = expected > 0
    chi_square = ((drawn - expected)[held] ** 2 / expected[held]).sum()
    assert chi_square < 25, "5 degrees of freedom: beyond 25 once in 7,000"
    item, valid = Negatives(day, alpha).draw(np.zeros(6_000, np.int64), np.random.default_rng(1))
    assert 4 not in item[valid]


def test_a_day_without_clicks_draws_uniformly() -> None:
    item, valid = Negatives(clicked_day(1, 4, set()), 1.0).draw(np.zeros(4000, np.int64), np.random.default_rng(0))
    assert valid.all() and np.bincount(item).min() > 850


# -- a teacher's rows --------------------------------------------------------------------------------------------------


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


def epoch(days: list[Day], samples: str, share: float = 0.0, seed: int = 1, **more: Any) -> Rows:
    config = Teacher.model_validate({"samples": samples, **more})
    return Rows.concat(list(teacher_rows(days, 30.0, config, share, seed, np.random.default_rng(seed))))


def logged(day: Day) -> list[tuple[Any, ...]]:
    out = []
    for b in day.blocks():
        converted, known = b.labels(30.0)
        assert b.features is not None
        out += list(zip(*(x.tolist() for x in (b.user, b.item, b.click, converted, known, b.weight)),
                        b.features["hour"], strict=True))  # fmt: skip
    return out


def listed(rows: Rows) -> list[tuple[Any, ...]]:
    assert rows.features is not None
    columns = [rows.columns[k].tolist() for k in ("click", "converted.cvr", "known.cvr", "weight")]
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
    ratio = light.columns["weight"] / plain.columns["weight"]
    real = len(logged(a_day)) if samples == "mixed" else int(plain.columns["click"].sum())
    assert set(ratio.tolist()) == {0.25, 1.0} and (ratio == 1).sum() == real
    assert (ratio[plain.columns["click"]] == 1).all()


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
        moved = Rows(part.user - users[k], part.item - items[k], part.columns, part.features)
        assert Counter(logged(day)) <= Counter(listed(moved))


def test_the_same_generator_gives_the_same_epoch(a_day: Day) -> None:
    assert listed(epoch([a_day], "mixed")) == listed(epoch([a_day], "mixed"))


def test_further_conversions_are_labels_of_their_own(tmp_path: Path) -> None:
    likes = {"like": [None if k % 7 == 0 else k % 3 == 0 for k in range(300)]}
    put(tmp_path, log_rows() | likes)
    day = read(tmp_path, [HOUR], weight="weight", conversions={"like": "like"})
    rows = epoch([day], "mixed", negatives=2)
    names = ("converted.like", "known.like")
    assert set(rows.columns) == {"click", "weight", "converted.cvr", "known.cvr", *names}
    (block,) = day.blocks()
    expected = Counter(zip(block.weight.tolist(), *(x.tolist() for x in block.conversions(30.0)["like"]), strict=True))
    found = Counter(zip(rows.columns["weight"].tolist(), *(rows.columns[n].tolist() for n in names), strict=True))
    negatives = Counter({(w, False, True): 2 for w in block.weight.tolist()})
    assert found == expected + negatives, "what is drawn is known not to be liked"
    assert {(c, k) for _, c, k in expected} == {(False, True), (True, True), (False, False)}


# -- held out ----------------------------------------------------------------------------------------------------------


def block_of(position: Ints) -> Block:
    n = len(position)
    zeros = [np.zeros(n, kind) for kind in (np.int32, np.int32, np.bool_, np.float32, np.int8, np.float32, np.int64)]
    return Block(position, *zeros, None, {})


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0, 0.9), st.integers(0, 2**40))
def test_held_out_is_a_property_of_an_event(seed: int, share: float, start: int) -> None:
    position = start + np.arange(3000)
    once = held_out(block_of(position), share, seed)
    order = np.random.default_rng(0).permutation(len(position))
    assert np.array_equal(held_out(block_of(position[order]), share, seed), once[order])
    assert abs(once.mean() - share) < 5 * np.sqrt(max(share * (1 - share), 1e-9) / len(position)) + 1e-9
    assert (once <= held_out(block_of(position), min(0.95, share + 0.05), seed)).all(), "a larger share holds a smaller"


def test_every_epoch_learns_the_same_rest(a_day: Day) -> None:
    one = epoch([a_day], "exposed", share=0.25)
    config = Teacher(samples="exposed")
    for other_order in (5, 6):
        rng = np.random.default_rng(other_order)
        again = Rows.concat(list(teacher_rows([a_day], 30.0, config, 0.25, 1, rng)))
        assert Counter(listed(again)) == Counter(listed(one))
    kept = sum(int(held_out(b, 0.25, 1).sum()) for b in a_day.blocks())
    assert len(one) == len(a_day) - kept and 45 < kept < 105
    assert Counter(listed(epoch([a_day], "exposed", share=0.25, seed=2))) != Counter(listed(one))
    mixed = Counter(listed(epoch([a_day], "mixed", share=0.25)))
    assert {r[5] for r in mixed} == {r[5] for r in listed(one)}, "no negative is drawn for what is held out"


# -- a student's labelled rows -----------------------------------------------------------------------------------------


def labelled(day: Day, hard: dict[str, Any], distill: dict[str, Any] | None = None, **more: Any) -> Rows:
    config = Student.model_validate({"hard": {"w_hard": 1.0} | hard, "distill": distill or {}, **more})
    return Rows.concat(list(hard_rows(day, 30.0, config, 1000, 2000, np.random.default_rng(0))))


@pytest.mark.parametrize("label", ["click", "long_read"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "pointwise"])
def test_hard_rows(a_day: Day, label: str, loss: str) -> None:
    more = {"negatives": 2} if loss == "pointwise" else {}
    rows = labelled(a_day, {"label": label, "loss": loss, **more})
    assert np.isnan(rows.columns["target.pctcvr"]).all() and not rows.columns["kd_weight"].any()
    of = {"click": 2, "long_read": 3}[label]
    usable = [r for r in logged(a_day) if label == "click" or r[4]]
    positives = Counter((r[0] + 1000, r[1] + 2000, r[5]) for r in usable if r[of])
    y = rows.columns["label"]
    learned = [*zip(rows.user.tolist(), rows.item.tolist(), rows.columns["hard_weight"].tolist(), strict=True)]
    assert Counter(r for r, one in zip(learned, y, strict=True) if one) == positives
    assert len(rows) == (positives.total() if loss == "sampled_softmax" else 3 * len(usable))


def test_a_hard_row_has_no_score_and_no_list_to_share(a_day: Day) -> None:
    losses = [{"loss": "listwise", "target": "pctr"}, {"loss": "kl"}]
    rows = labelled(a_day, {"loss": "pointwise"}, {"losses": tuple(losses)})
    assert np.isnan(rows.columns["target.pctr"]).all() and np.isnan(rows.columns["target.pctcvr"]).all()
    for held in (rows, labelled(a_day, {}), labelled(a_day, {}, user_rows=2)):
        assert len(np.unique(held.columns["list"])) == len(held)
    assert "list" not in labelled(a_day, {}, user_rows=1).columns


def test_a_read_counts_by_its_seconds(a_day: Day) -> None:
    plain, timed = (labelled(a_day, {"loss": "pointwise", "duration_weighted": d}) for d in (False, True))
    was = plain.columns["hard_weight"]
    mean = a_day.facts["duration_sum"] / a_day.facts["duration_rows"]
    seconds = {w: s for b in a_day.blocks() for w, s in zip(b.weight.tolist(), b.duration.tolist(), strict=True)}
    for w, one, weight in zip(was.tolist(), plain.columns["label"], timed.columns["hard_weight"].tolist(), strict=True):
        read = 0.0 if np.isnan(seconds[w]) else seconds[w] / mean
        assert weight == pytest.approx(w * (read if one else 1)), "not timed: nothing; no click: as it was"
    clicked = timed.columns["label"]
    assert (timed.columns["hard_weight"][clicked] == 0).any() and len(timed) == len(plain)


# -- streams -----------------------------------------------------------------------------------------------------------


def stream(n: int, source: int, block: int) -> Any:
    """n student rows numbered from 0, in blocks; `user` tells the stream."""
    for start in range(0, n, block):
        item = np.arange(start, min(n, start + block))
        yield student_rows(np.full(len(item), source), item, targets={})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 50)), min_size=1, max_size=4), st.integers(1, 70))
def test_mix_keeps_every_row_once(streams: list[tuple[int, int]], pool: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(samples_module, "_POOL", pool)
        given_ = [(stream(n, k, block), n) for k, (n, block) in enumerate(streams)]
        parts = list(mix(given_, np.random.default_rng(0)))
    pairs = [p for r in parts for p in zip(r.user.tolist(), r.item.tolist(), strict=True)]
    assert sorted(pairs) == [(k, i) for k, (n, _) in enumerate(streams) for i in range(n)]


def test_mix_keeps_the_proportion_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "_POOL", 100)
    parts = list(mix([(stream(900, 0, 64), 900), (stream(300, 1, 7), 300)], np.random.default_rng(0)))
    assert len(parts) == 12
    assert all(np.bincount(p.user).tolist() == [75, 25] for p in parts)
    first = parts[0].user
    assert 5 < first[:25].sum() + first[-25:].sum() < 20, "shuffled within a pool"


def test_mix_keeps_the_proportion_of_lists_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks of a stream: a batch holds rows of all."""
    monkeypatch.setattr(samples_module, "_POOL", 3000)

    def lists(n: int, who: int, size: int) -> Iterator[Rows]:
        for rows in stream(n, who, size):
            yield in_lists(rows, np.arange(len(rows)) // 4, 4, rng)

    rng = np.random.default_rng(1)
    mixed = mix([(lists(9000, 0, 1200), 9000), (lists(3000, 1, 3000), 3000)], np.random.default_rng(0))
    shares = [float(b.user.mean()) for b in Batcher.cut(mixed, 200)]
    assert len(shares) == 60 and min(shares) > 0.03 and max(shares) < 0.5, shares


def test_mix_takes_what_a_stream_has_more_than_its_count() -> None:
    parts = list(mix([(stream(50, 0, 8), 10), (stream(5, 1, 8), 50)], np.random.default_rng(0)))
    assert sum(map(len, parts)) == 55


# -- lists -------------------------------------------------------------------------------------------------------------


def grouped(groups: list[int], size: int, seed: int = 0, first: int = 0) -> Rows:
    """Rows numbered by `item`, in lists of their group, which `user` tells."""
    group = np.array(groups, np.int64)
    return in_lists(
        student_rows(group, first + np.arange(len(group)), targets={}), group, size, np.random.default_rng(seed)
    )


def runs(rows: Rows) -> list[tuple[int, int]]:
    """(list, length) of each run of rows of one list."""
    ends = rows.cuts.tolist()
    begins = [0, *ends[:-1]]
    return [(int(rows.columns["list"][b]), e - b) for b, e in zip(begins, ends, strict=True) if e > b]


def assert_whole(parts: list[Rows], sizes: dict[int, int]) -> None:
    """Every list stands in one part, in one piece, and none is missing."""
    assert sorted(r for p in parts for r in runs(p)) == sorted(sizes.items())


GROUPS = st.lists(st.integers(-3, 5), max_size=80)


@settings(max_examples=100, deadline=None)
@given(GROUPS, st.integers(2, 9), st.integers(0, 5))
def test_lists_are_groups_cut_into_parts(groups: list[int], size: int, seed: int) -> None:
    rows = grouped(groups, size, seed)
    assert sorted(zip(rows.item.tolist(), rows.user.tolist(), strict=True)) == list(enumerate(groups))
    found = runs(rows)
    assert len({k for k, _ in found}) == len(found), "a list is one piece"
    of = {int(k): set(rows.user[rows.columns["list"] == k].tolist()) for k, _ in found}
    assert all(len(users) == 1 for users in of.values()), "and of one group"
    for g, n in Counter(groups).items():
        parts = sorted(n_k for k, n_k in found if of[k] == {g})
        assert parts == sorted([size] * (n // size) + [n % size] * (n % size > 0)), "cut no more than it must"
    mixed = Rows.concat([rows.take(np.random.default_rng(1).permutation(len(rows)))]).shuffled(np.random.default_rng(2))
    assert_whole([mixed], dict(found))


def test_lists_and_what_is_in_them_are_in_random_order() -> None:
    groups = [k // 10 for k in range(400)]
    one, other = (grouped(groups, 5, seed) for seed in (0, 1))
    assert one.user.tolist() != sorted(one.user.tolist()) and one.user.tolist() != other.user.tolist()
    parts = {frozenset(one.item[one.columns["list"] == k].tolist()) for k in one.columns["list"]}
    assert len(parts) == 80 and len(parts & {frozenset(range(k, k + 5)) for k in range(0, 400, 5)}) < 10
    assert not set(one.columns["list"].tolist()) & set(other.columns["list"].tolist())
    assert one.columns["list"].min() >= 0 and one.columns["list"].max() > 2**60


STREAMS = st.lists(st.tuples(st.lists(GROUPS, max_size=4), st.integers(2, 9)), min_size=1, max_size=3)


@settings(max_examples=80, deadline=None)
@given(STREAMS, st.integers(1, 60), st.integers(1, 20))
def test_no_stream_pool_or_batch_splits_a_list(
    streams: list[tuple[list[list[int]], int]], pool: int, batch_size: int
) -> None:
    blocks = [[grouped(g, size, 10 * k + j, 1000 * k + 100 * j) for j, g in enumerate(b)] for k, (b, size) in
              enumerate(streams)]  # fmt: skip
    sizes = dict(r for b in blocks for rows in b for r in runs(rows))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(samples_module, "_POOL", pool)
        pools = list(mix([(iter(b), sum(map(len, b))) for b in blocks], np.random.default_rng(0)))
    assert_whole(pools, sizes)
    batches = list(Batcher.cut(iter(pools), batch_size))
    assert_whole(batches, sizes)
    assert [i for b in batches for i in b.item.tolist()] == [i for p in pools for i in p.item.tolist()]
    for batch, following in itertools.pairwise(batches):
        assert len(batch) <= batch_size or len(runs(batch)) == 1, "a list longer than a batch is one of its own"
        assert len(batch) + runs(following)[0][1] > batch_size, "as many lists as fit"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 20))
def test_without_lists_batches_are_full(blocks: list[int], batch_size: int) -> None:
    n = sum(blocks)
    items = np.split(np.arange(n), np.cumsum(blocks))[: len(blocks)]
    batches = list(Batcher.cut((student_rows(i * 0, i, targets={}) for i in items), batch_size))
    assert [len(b) for b in batches] == [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)
    assert [i for b in batches for i in b.item.tolist()] == list(range(n))


def test_student_rows_say_what_they_do_not_have() -> None:
    rows = student_rows(np.arange(2), np.arange(2), targets={"pctr": np.array([0.5, np.nan])})
    assert list(rows.columns) == ["target.pctr", "source", "kd_weight", "label", "hard_weight"]
    assert not any(rows.columns[k].any() for k in ("source", "kd_weight", "label", "hard_weight"))
    assert SOURCES[rows.columns["source"][0]] == "exposed"


@pytest.mark.parametrize("samples", ["exposed", "mixed"])
@pytest.mark.parametrize("user_rows", [4, 1000])
def test_rows_of_a_user_stay_together(a_day: Day, samples: str, user_rows: int) -> None:
    assert len(a_day.spool) > 1, "users lie in several buckets"
    rows = epoch([a_day, a_day], samples, user_rows=user_rows)
    alone = epoch([a_day, a_day], samples)
    named = ("click", "converted.cvr", "known.cvr", "weight")

    def every(x: Rows) -> Counter[tuple[Any, ...]]:
        assert x.features is not None
        columns = [x.user.tolist(), x.item.tolist(), *(x.columns[k].tolist() for k in named)]
        return Counter(zip(*columns, x.features["hour"].to_list(), strict=True))

    if samples == "exposed":
        assert every(rows) == every(alone)
    lists = rows.columns["list"]
    runs = np.flatnonzero(np.append(True, lists[1:] != lists[:-1]))
    assert len(runs) == len(np.unique(lists)), "a list is not torn"
    sizes = np.diff(np.append(runs, len(lists)))
    assert sizes.max() <= user_rows
    assert all(len(np.unique(rows.user[lists == k])) == 1 for k in np.unique(lists))
    if user_rows == 1000:
        assert len(runs) == len(np.unique(rows.user)), "one list a user and day"
    batches = list(Batcher.cut(iter([rows]), 64))
    assert max(map(len, batches)) <= max(64, sizes.max())
    assert all(len(np.intersect1d(a.columns["list"], b.columns["list"])) == 0 for a, b in itertools.pairwise(batches))
