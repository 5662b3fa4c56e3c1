"""Which pairs a student learns: labelled rows, and streams that are mixed in proportion."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import put, read
from test_rows import GROUPS, assert_whole, grouped, lists_of, runs
from test_teacher_rows import HOUR, log_rows, logged

from dmtl_cli.config.student import Student
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.rows import Rows, in_lists
from dmtl_cli.nn.batches import Batcher
from dmtl_cli.scores.columns import SOURCES
from dmtl_cli.scores.reader import ScoredPairs
from dmtl_cli.student import rows as rows_module
from dmtl_cli.student.hard import HARD, hard_rows, log_q
from dmtl_cli.student.labels import StudentRows, labelled_rows, scored_rows
from dmtl_cli.student.rows import mix


def labelled(day: Day, hard: dict[str, Any], distill: dict[str, Any] | None = None, **more: Any) -> StudentRows:
    config = Student.model_validate({"hard": {"w_hard": 1.0} | hard, "distill": distill or {}, **more})
    return Rows.concat(list(hard_rows(day, 30.0, config, 1000, 2000, np.random.default_rng(0))))


@pytest.fixture
def a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Day:
    monkeypatch.setattr(sizes, "BLOCK", 32)
    put(tmp_path, log_rows())
    return read(tmp_path, [HOUR], weight="weight")


@pytest.mark.parametrize("label", ["click", "long_read"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "pointwise"])
def test_hard_rows(a_day: Day, label: str, loss: str) -> None:
    more = {"negatives": 2} if loss == "pointwise" else {}
    rows = labelled(a_day, {"label": label, "loss": loss, **more})
    assert np.isnan(rows.labels.targets).all() and rows.labels.targets.shape[1] == 1 and not rows.labels.kd_weight.any()
    of = {"click": 2, "long_read": 3}[label]
    usable = [r for r in logged(a_day) if label == "click" or r[4]]
    positives = Counter((r[0] + 1000, r[1] + 2000, r[5]) for r in usable if r[of])
    y = rows.labels.label
    learned = [*zip(rows.user.tolist(), rows.item.tolist(), rows.labels.hard_weight.tolist(), strict=True)]
    assert Counter(r for r, one in zip(learned, y, strict=True) if one) == positives
    assert len(rows) == (positives.total() if loss == "sampled_softmax" else 3 * len(usable))


def test_a_hard_row_has_no_score_and_no_list_to_share(a_day: Day) -> None:
    losses = [{"loss": "listwise", "target": "pctr"}, {"loss": "kl"}]
    rows = labelled(a_day, {"loss": "pointwise"}, {"losses": tuple(losses)})
    assert rows.labels.targets.shape == (len(rows), 2) and np.isnan(rows.labels.targets).all()
    for alone in (rows, labelled(a_day, {}), labelled(a_day, {}, user_rows=2)):
        assert len(np.unique(lists_of(alone))) == len(alone)
    assert labelled(a_day, {}, user_rows=1).lists is None


def test_a_read_counts_by_its_seconds(a_day: Day) -> None:
    plain, timed = (labelled(a_day, {"loss": "pointwise", "duration_weighted": d}) for d in (False, True))
    was = plain.labels.hard_weight
    mean = a_day.facts["duration_sum"] / a_day.facts["duration_rows"]
    seconds = {w: s for b in a_day.blocks() for w, s in zip(b.weight.tolist(), b.duration.tolist(), strict=True)}
    for w, one, weight in zip(was.tolist(), plain.labels.label, timed.labels.hard_weight.tolist(), strict=True):
        read = 0.0 if np.isnan(seconds[w]) else seconds[w] / mean
        assert weight == pytest.approx(w * (read if one else 1)), "not timed: nothing; no click: as it was"
    clicked = timed.labels.label
    assert (timed.labels.hard_weight[clicked] == 0).any() and len(timed) == len(plain)


def test_an_items_chance_is_its_share_of_the_positives_that_weigh(a_day: Day) -> None:
    """A click without seconds is in no batch where seconds weigh; the correction must not count it either."""
    shares = []
    for timed in (False, True):
        rows = labelled(a_day, {"duration_weighted": timed})
        config = Student.model_validate({"hard": {"w_hard": 1.0, "duration_weighted": timed}})
        learned = np.bincount(rows.item[rows.labels.hard_weight > 0], minlength=2000 + len(a_day.items))
        found = np.exp(log_q(a_day, 30.0, config.hard, 2000, len(learned)))
        shares.append(learned / learned.sum())
        np.testing.assert_allclose(found[learned > 0], shares[-1][learned > 0], rtol=1e-6)
    assert np.abs(shares[0] - shares[1]).max() > 0.01


def test_student_rows_say_what_they_do_not_have() -> None:
    two, one = np.arange(2), np.ones(2, np.float32)
    hard = labelled_rows(two, two, two > 0, one, 3)
    assert hard.labels.targets.shape == (2, 3) and np.isnan(hard.labels.targets).all()
    assert not hard.labels.kd_weight.any() and SOURCES[hard.labels.source[0]] == "exposed"
    assert hard.labels.label.tolist() == [False, True] and hard.labels.hard_weight.tolist() == [1, 1]
    soft = scored_rows(ScoredPairs(two, two, np.array([[0.5], [np.nan]]), np.array([2, 1], np.int8), one, two), 10, 20)
    assert (soft.user.tolist(), soft.item.tolist()) == ([10, 11], [20, 21])
    assert not soft.labels.label.any() and not soft.labels.hard_weight.any()
    assert soft.labels.source.tolist() == [2, 1] and soft.labels.kd_weight.tolist() == [1, 1]
    for rows in (hard, soft):
        kinds = [x.dtype for x in rows.labels]
        assert kinds == [np.float64, np.int8, np.float32, np.bool_, np.float32] and rows.lists is None


@pytest.mark.parametrize("label", ["click", "long_read"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "pointwise"])
def test_a_hard_loss_counts_at_least_the_rows_that_it_learns(a_day: Day, label: str, loss: str) -> None:
    """A row of an unknown label is counted and left out."""
    config = Student.model_validate({"hard": {"w_hard": 1.0, "label": label, "loss": loss}})
    unknown = sum(int((~b.labels(30.0)[1]).sum()) for b in a_day.blocks()) if label == "long_read" else 0
    left_out = 2 * unknown if loss == "pointwise" else 0
    count = HARD[loss].count(config.hard, a_day, 30.0)
    assert count == len(labelled(a_day, {"label": label, "loss": loss})) + left_out > 0


# -- streams -----------------------------------------------------------------------------------------------------------


def stream(n: int, source: int, block: int) -> Iterator[StudentRows]:
    """n student rows numbered from 0, in blocks; `user` tells the stream."""
    for start in range(0, n, block):
        item = np.arange(start, min(n, start + block))
        no = np.zeros(len(item))
        yield labelled_rows(np.full(len(item), source), item, no > 0, no.astype(np.float32), 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 50)), min_size=1, max_size=4), st.integers(1, 70))
def test_mix_keeps_every_row_once(streams: list[tuple[int, int]], pool: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows_module, "_POOL", pool)
        given_ = [(stream(n, k, block), n) for k, (n, block) in enumerate(streams)]
        parts = list(mix(given_, np.random.default_rng(0)))
    pairs = [p for r in parts for p in zip(r.user.tolist(), r.item.tolist(), strict=True)]
    assert sorted(pairs) == [(k, i) for k, (n, _) in enumerate(streams) for i in range(n)]


def test_mix_keeps_the_proportion_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_POOL", 100)
    parts = list(mix([(stream(900, 0, 64), 900), (stream(300, 1, 7), 300)], np.random.default_rng(0)))
    assert len(parts) == 12
    assert all(np.bincount(p.user).tolist() == [75, 25] for p in parts)
    first = parts[0].user
    assert 5 < first[:25].sum() + first[-25:].sum() < 20, "shuffled within a pool"


def test_mix_keeps_the_proportion_of_lists_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks of a stream: a batch holds rows of all."""
    monkeypatch.setattr(rows_module, "_POOL", 3000)

    def lists(n: int, who: int, size: int) -> Iterator[StudentRows]:
        for rows in stream(n, who, size):
            yield in_lists(rows, np.arange(len(rows)) // 4, 4, rng)

    rng = np.random.default_rng(1)
    mixed = mix([(lists(9000, 0, 1200), 9000), (lists(3000, 1, 3000), 3000)], np.random.default_rng(0))
    shares = [float(b.user.mean()) for b in Batcher.cut(mixed, 200)]
    assert len(shares) == 60 and min(shares) > 0.03 and max(shares) < 0.5, shares


def test_mix_takes_what_a_stream_has_more_than_its_count() -> None:
    parts = list(mix([(stream(50, 0, 8), 10), (stream(5, 1, 8), 50)], np.random.default_rng(0)))
    assert sum(map(len, parts)) == 55


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
        patched.setattr(rows_module, "_POOL", pool)
        pools = list(mix([(iter(b), sum(map(len, b))) for b in blocks], np.random.default_rng(0)))
    assert_whole(pools, sizes)
    batches = list(Batcher.cut(iter(pools), batch_size))
    assert_whole(batches, sizes)
    assert [i for b in batches for i in b.item.tolist()] == [i for p in pools for i in p.item.tolist()]
    for batch, following in itertools.pairwise(batches):
        assert len(batch) <= batch_size or len(runs(batch)) == 1, "a list longer than a batch is one of its own"
        assert len(batch) + runs(following)[0][1] > batch_size, "as many lists as fit"
