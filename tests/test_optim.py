"""Row-wise Adagrad against a dense reference; the training loop; rows that no training touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from test_models import CPU, ITEM, USER, a_student, a_teacher, encoder_of, random_encoded
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.training import Training
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.nn.batches import Batch, side_of
from dmtl_cli.nn.fit import LOOK_EVERY, fit
from dmtl_cli.nn.layers import Side
from dmtl_cli.nn.learner import Learner
from dmtl_cli.nn.optimizers import Optimizers, forget_untouched
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.nn.table_optimizers import RowWiseAdagrad, TableAdam
from dmtl_cli.runs import progress as progress_module
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.student.dssm import DSSM

Array = np.ndarray[Any, Any]


# -- the optimizer -----------------------------------------------------------------------------------------------------


def step(p: nn.Parameter, optimizer: RowWiseAdagrad, rows: Tensor, g: Tensor) -> None:
    """One step on a gradient of `g` at rows, which may repeat."""
    optimizer.zero_grad()
    (nn.functional.embedding(rows, p, sparse=True) * g).sum().backward()
    assert p.grad is not None and p.grad.is_sparse
    optimizer.step()


def test_parity_with_a_dense_reference() -> None:
    rng = np.random.default_rng(0)
    lr, eps, n, dim = 0.3, 1e-8, 12, 5
    p = nn.Parameter(torch.from_numpy(rng.normal(size=(n, dim)).astype(np.float32)))
    optimizer = RowWiseAdagrad([p], lr, eps)
    w, a = p.detach().double().numpy().copy(), np.zeros(n)
    before = p.detach().clone()
    for _ in range(6):
        rows = rng.integers(0, n - 3, 20)  # rows repeat; the last three never come
        g = rng.normal(size=(20, dim)).astype(np.float32)
        step(p, optimizer, torch.from_numpy(rows), torch.from_numpy(g))
        dense = np.zeros((n, dim))
        np.add.at(dense, rows, g)  # repeated rows are summed before they are squared
        a += (dense**2).mean(1)
        w -= lr * dense / (np.sqrt(a) + eps)[:, None]
        np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(optimizer.accumulator(p).numpy(), a, rtol=1e-5, atol=1e-7)
    assert torch.equal(p[-3:], before[-3:]) and not optimizer.accumulator(p)[-3:].any()


def test_each_part_of_the_columns_learns_as_a_table_of_its_own() -> None:
    """Whatever the size of the others' gradients."""
    rng, parts = torch.Generator().manual_seed(0), (4, 3, 1)
    whole = nn.Parameter(torch.randn(9, sum(parts), generator=rng))
    alone = [nn.Parameter(x.clone()) for x in whole.detach().split(parts, 1)]
    optimizer, others = RowWiseAdagrad([whole], 0.2, parts=parts), [RowWiseAdagrad([p], 0.2) for p in alone]
    for _ in range(4):
        rows = torch.randint(0, 7, (12,), generator=rng)
        g = torch.randn(12, sum(parts), generator=rng) * torch.tensor([1e-4] * 4 + [1.0] * 3 + [100.0])
        step(whole, optimizer, rows, g)
        for p, other, of_part in zip(alone, others, g.split(parts, 1), strict=True):
            step(p, other, rows, of_part)
    torch.testing.assert_close(whole.detach(), torch.cat([p.detach() for p in alone], 1))
    sums = [other.accumulator(p) for p, other in zip(alone, others, strict=True)]
    torch.testing.assert_close(optimizer.accumulator(whole), torch.stack(sums, 1))
    assert optimizer.touched(whole).tolist() == [True] * 7 + [False] * 2


def test_a_row_is_touched_by_a_gradient_of_one_part() -> None:
    p = nn.Parameter(torch.zeros(3, 3))
    optimizer = RowWiseAdagrad([p], 0.1, parts=(2, 1))
    step(p, optimizer, torch.tensor([1]), torch.tensor([[0.0, 0.0, 5.0]]))
    assert optimizer.touched(p).tolist() == [False, True, False]
    torch.testing.assert_close(p.detach()[1], torch.tensor([0.0, 0.0, -0.1]))


def test_a_row_is_left_alone_where_it_has_no_gradient() -> None:
    p = nn.Parameter(torch.randn(6, 3))
    optimizer = RowWiseAdagrad([p], 0.1)
    step(p, optimizer, torch.tensor([1, 2]), torch.ones(2, 3))
    before, sums = p.detach().clone(), optimizer.accumulator(p).clone()
    step(p, optimizer, torch.tensor([4]), torch.ones(1, 3))  # no decay, no momentum
    others = [0, 1, 2, 3, 5]
    assert torch.equal(p[others], before[others]) and torch.equal(optimizer.accumulator(p)[others], sums[others])
    optimizer.zero_grad()
    optimizer.step()  # no gradient at all
    assert torch.equal(p[others], before[others])


def test_a_gradient_of_zero_is_no_touch() -> None:
    p = nn.Parameter(torch.randn(3, 2))
    optimizer, before = RowWiseAdagrad([p], 0.1), p.detach().clone()
    step(p, optimizer, torch.tensor([1]), torch.zeros(1, 2))
    assert torch.equal(p, before) and not optimizer.accumulator(p).any()


class Sizes(TorchDispatchMode):
    """The largest new dense tensor that any operation makes."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known, self.largest = {t.data_ptr() for t in known}, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else [out]:
            if isinstance(t, Tensor) and not t.is_sparse and t.data_ptr() not in self.known:
                self.largest = max(self.largest, t.numel())
        return out


def test_a_step_costs_the_rows_it_touches_and_not_the_table() -> None:
    p = nn.Parameter(torch.zeros(100_000, 4))
    optimizer = RowWiseAdagrad([p], 0.1)
    with Sizes(p, optimizer.accumulator(p)) as sizes:
        step(p, optimizer, torch.tensor([7, 99_999, 7]), torch.ones(3, 4))
    assert 0 < sizes.largest <= 12


def test_it_converges() -> None:
    torch.manual_seed(0)
    target = torch.randn(20, 4)
    p = nn.Parameter(torch.zeros(20, 4))
    optimizer = RowWiseAdagrad([p], 0.5)
    for _ in range(300):
        rows = torch.randint(0, 20, (32,))
        optimizer.zero_grad()
        (nn.functional.embedding(rows, p, sparse=True) - target[rows]).square().sum().backward()
        optimizer.step()
    assert (p - target).square().mean() < 1e-4 * target.square().mean()


def test_no_closure() -> None:
    with pytest.raises(ValueError, match="closure"):
        RowWiseAdagrad([nn.Parameter(torch.zeros(1, 1))], 0.1).step(lambda: 0.0)


# -- the loop ----------------------------------------------------------------------------------------------------------


ENCODER = encoder_of(*USER, *ITEM)
RATES = Training(learning_rate=0.01, embedding_learning_rate=0.05)


class Target(NamedTuple):
    """The label of a row."""

    y: Tensor


def batches(encoder: Encoder, n: int, rows: int = 8, seed: int = 0) -> Iterator[Batch[Target]]:
    """Random rows; a target that a model can learn (the user's first float); the last batch is smaller."""
    rng = np.random.default_rng(seed)
    none = side_of(Encoded(np.zeros((rows, 0), np.int32), (), np.zeros((rows, 0), np.float32)), CPU)
    for k in range(n):
        b = rows if k + 1 < n else rows // 2
        user, item = (side_of(random_encoded(encoder, s, 5, rng), CPU) for s in ("user", "item"))
        place = [torch.from_numpy(rng.integers(0, 5, b)) for _ in range(2)]
        labels = Target(user.floats[place[0], 0])
        yield Batch(
            user,
            item,
            Side(none.ids[:b], (), none.floats[:b], ()),
            *place,
            labels,
            place[1],
            None,
            (len(user.ids), len(item.ids)),
        )


def loss_of(model: DSSM, batch: Batch[Target]) -> tuple[Tensor, dict[str, float | Tensor]]:
    u, v = model.user_vectors(batch.user), model.item_vectors(batch.item)
    logits = model.logits(u[batch.user_index], v[batch.item_index])
    return (logits - batch.labels.y).square().mean(), {"one": 1.0, "mean": logits.detach().mean()}


def learner_of(model: DSSM, optimizers: Optimizers | None = None) -> Learner[DSSM]:
    optimizers = optimizers or Optimizers.build(model, model.table, RATES)
    return Learner(RATES, ENCODER, model, model.table, optimizers)


def train(model: DSSM, stream: Iterator[Batch[Target]], optimizers: Optimizers | None = None) -> dict[str, float]:
    with RunLog().progress("train") as progress:
        return fit([learner_of(model, optimizers)], stream, lambda b, look: loss_of(model, b), progress)


def test_fit_learns_and_reports_row_weighted_means() -> None:
    model = a_student(ENCODER, unit=False)
    seen: list[tuple[int, float]] = []

    def watched(batch: Batch[Target], look: bool) -> tuple[Tensor, dict[str, float | Tensor]]:
        assert model.training
        loss, parts = loss_of(model, batch)
        seen.append((len(batch), loss.item()))
        return loss, parts

    with RunLog().progress("train") as progress:
        found = fit([learner_of(model)], batches(ENCODER, 80), watched, progress)
    rows = sum(n for n, _ in seen)
    assert not model.training and found["rows"] == rows == progress.rows == 79 * 8 + 4
    assert found["loss"] == pytest.approx(sum(n * x for n, x in seen) / rows, rel=1e-9)
    assert found["one"] == pytest.approx(1)
    assert np.mean([x for _, x in seen[-20:]]) < 0.5 * np.mean([x for _, x in seen[:20]])


def test_fit_on_nothing() -> None:
    assert train(a_student(ENCODER), iter([])) == {"rows": 0.0}


def test_costly_numbers_are_asked_for_in_every_call_of_fit() -> None:
    """A sample of the steps of each epoch, the first included, so that the last epoch reports them."""
    model = a_student(ENCODER, unit=False)
    with RunLog().progress("train") as progress:
        for _ in range(3):
            asked: list[bool] = []

            def watched(batch: Batch[Target], look: bool) -> tuple[Tensor, dict[str, float | Tensor]]:
                asked.append(look)  # noqa: B023 (called in this turn of the loop alone)
                return loss_of(model, batch)[0], {"size": 2.0} if look else {}

            found = fit([learner_of(model)], batches(ENCODER, 20), watched, progress)
            assert [k for k, look in enumerate(asked) if look] == list(range(0, len(asked), LOOK_EVERY))
            assert len(asked) > LOOK_EVERY and found["size"] == 2.0


def test_learners_of_one_loss_are_all_trained() -> None:
    models = [a_student(ENCODER, seed, unit=False) for seed in (0, 1)]
    alone = [a_student(ENCODER, seed, unit=False) for seed in (0, 1)]
    reports = [train(m, batches(ENCODER, 6)) for m in alone]

    def both(batch: Batch[Target], look: bool) -> tuple[Tensor, dict[str, float | Tensor]]:
        assert all(m.training for m in models)
        return torch.stack([loss_of(m, batch)[0] for m in models]).sum(), {}

    with RunLog().progress("train") as progress:
        learners = [learner_of(m) for m in models]
        found = fit(learners, batches(ENCODER, 6), both, progress)
    assert found["loss"] == pytest.approx(sum(r["loss"] for r in reports)) and found["rows"] == reports[0]["rows"]
    assert not any(m.training for m in models)
    for ours, theirs in zip(models, alone, strict=True):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_every_weight_is_trained_once(unit: bool, auxiliary: bool) -> None:
    model = a_student(ENCODER, unit=unit, auxiliary=auxiliary)
    optimizers = Optimizers.build(model, model.table, RATES)
    held = [p for o in (optimizers.dense, optimizers.table) for g in o.param_groups for p in g["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    fast = {id(p) for g in optimizers.dense.param_groups if g["lr"] == pytest.approx(0.1) for p in g["params"]}
    heads = [h for h in (model, model.auxiliary) if h is not None]
    scalars = [p for h in heads for p in (h.log_scale, h.bias) if p is not None]
    assert fast == set(map(id, scalars)) and len(fast) == (1 + unit) * (1 + auxiliary)
    assert [g["lr"] for g in optimizers.table.param_groups] == [0.05]
    assert sorted(g["lr"] for g in optimizers.dense.param_groups) == pytest.approx([0.01, 0.1])


def test_a_teachers_biases_are_not_hurried() -> None:
    model = a_teacher(ENCODER)
    optimizers = Optimizers.build(model, model.table, RATES)
    assert [(g["lr"], len(g["params"])) for g in optimizers.dense.param_groups] == [
        (0.01, len(list(model.parameters())) - 1)
    ]


def stepped(gradients: list[list[Tensor]], *, limited: bool) -> list[Tensor]:
    """A student's dense weights after such gradients, by our optimizers or by torch's Adam with the same rates."""
    model = a_student(ENCODER, unit=True)
    optimizers = Optimizers.build(model, model.table, RATES)
    groups = [{"params": g["params"], "lr": g["lr"]} for g in optimizers.dense.param_groups]
    step = optimizers.step if limited else torch.optim.Adam(groups, fused=True).step
    dense = [p for g in groups for p in g["params"]]
    for some in gradients:
        for p, g in zip(dense, some, strict=True):
            p.grad = g.clone()
        step()
    return [p.detach() for p in dense]


def some_gradients(steps: int) -> list[list[Tensor]]:
    rng = torch.Generator().manual_seed(1)
    model = a_student(ENCODER, unit=True)
    groups = Optimizers.build(model, model.table, RATES).dense.param_groups
    shapes = [p.shape for g in groups for p in g["params"]]
    return [[1e-4 * torch.randn(shape, generator=rng) for shape in shapes] for _ in range(steps)]


def test_a_gradient_much_longer_than_those_before_is_shortened() -> None:
    """To twice the root mean square of those that Adam remembers, by its own definition of them."""
    usual, (spike,) = some_gradients(20), some_gradients(1)
    spike = [500 * g for g in spike]
    second, b2 = 0.0, 0.999
    for some in usual:
        second = b2 * second + (1 - b2) * float(np.sum([np.square(g.double().numpy()).sum() for g in some]))
    before = np.sqrt(second / (1 - b2 ** len(usual)))
    length = np.sqrt(np.sum([np.square(g.double().numpy()).sum() for g in spike]))
    assert 400 < length / before < 600
    short = [g * float(2 * before / length) for g in spike]
    ours, theirs = (stepped([*usual, x], limited=y) for x, y in ((spike, True), (short, False)))
    whole = stepped([*usual, spike], limited=False)
    for a, b, c in zip(ours, theirs, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(a, c, rtol=1e-5, atol=1e-7), "it matters"


@pytest.mark.parametrize("usual", [20, 1, 0])
def test_other_gradients_are_taken_as_they_are(usual: int) -> None:
    """Up to twice as long as usual; the first; and the first that are not 0."""
    gradients = some_gradients(usual)
    gradients += [[0 * g for g in some] for some in some_gradients(2)] if not usual else []
    gradients += [[1.9 * g for g in some] for some in some_gradients(1)]
    for a, b in zip(stepped(gradients, limited=True), stepped(gradients, limited=False), strict=True):
        assert torch.equal(a, b)


def test_training_is_deterministic() -> None:
    models = [a_student(ENCODER, 3) for _ in range(2)]
    reports = [train(m, batches(ENCODER, 6)) for m in models]
    assert reports[0] == reports[1]
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_fit_refuses_a_loss_that_is_not_finite(bad: float) -> None:
    model = a_student(ENCODER)
    stream = list(batches(ENCODER, 4))
    stream[1].labels.y[0] = bad
    with pytest.raises(UserError, match=r"diverged: the loss is (nan|inf) within the first 28 rows") as e:
        train(model, iter(stream))
    assert e.value.code == Exit.REFUSED and "learning_rate" in e.value.hint


# -- rows that no step touched -----------------------------------------------------------------------------------------


def test_forget_untouched_overwrites_exactly_those_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    table = EmbeddingTable({"a": 4, "b": 3, "c": 5}, 2)
    optimizer = RowWiseAdagrad([table.weight], 0.1)
    touched = [0, 2, 5, 6]  # of a: 0 (out of vocabulary) and 2; of b: 1 and 2, not its row 0; of c: none
    step(table.weight, optimizer, torch.tensor(touched), torch.randn(4, 2))
    before = table.weight.detach().clone()
    assert forget_untouched(table, optimizer) == 2 + 0 + 4
    expected = before.clone()
    expected[[1, 3]] = before[0]
    expected[8:] = before[7]
    assert torch.equal(table.weight, expected)
    assert (optimizer.accumulator(table.weight) > 0).nonzero().flatten().tolist() == touched
    assert forget_untouched(table, optimizer) == 6 and torch.equal(table.weight, expected)


def test_forget_untouched_after_training_leaves_what_was_seen() -> None:
    encoder = encoder_of(*USER, *ITEM, user_id=500)
    model = a_student(encoder)
    optimizers = Optimizers.build(model, model.table, RATES)
    stream = list(batches(encoder, 5))
    train(model, iter(stream), optimizers)
    before = model.table.weight.detach().clone()
    seen = torch.cat([b.user.ids[b.user_index, 0] for b in stream]).unique()
    part = model.table.part("user_id")
    forget_untouched(model.table, optimizers.table)
    users = model.table.weight[part]
    assert torch.equal(users[seen], before[part][seen])
    same = (users == before[part][0]).all(1)
    assert int((~same).sum()) == int((seen > 0).sum()) and len(seen) < 30


# -- dense Adam, to compare with ---------------------------------------------------------------------------------------


def test_table_adam_is_adam_and_knows_what_had_a_gradient() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(6, 4), torch.randn(5, 6, 4)
    gradients[:, [1, 4]] = 0
    ours, plain = (torch.nn.Parameter(start.clone()) for _ in range(2))
    pair = (TableAdam([ours], 0.01), torch.optim.Adam([plain], 0.01))
    for g in gradients:
        for p, optimizer in zip((ours, plain), pair, strict=True):
            p.grad = g.clone()
            optimizer.step()
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-7)
    assert pair[0].touched(ours).tolist() == [True, False, True, True, False, True]
    assert {k: v.shape for k, v in pair[0].by_row(ours).items()} == dict.fromkeys(("exp_avg", "exp_avg_sq"), ours.shape)


def test_dense_adam_moves_rows_that_a_step_does_not_touch() -> None:
    model = a_student(ENCODER)
    optimizers = Optimizers.build(model, model.table, Training(embedding_optimizer="adam"))
    train(model, batches(ENCODER, 1), optimizers)
    before = model.table.weight.detach().clone()
    train(model, batches(ENCODER, 1, seed=1), optimizers)
    moved = (model.table.weight != before).any(1)
    assert torch.equal(moved, optimizers.table.touched(model.table.weight))


# -- progress ----------------------------------------------------------------------------------------------------------


def test_the_log_of_a_run_tells_rate_loss_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LOG_EVERY", -1.0)
    log = RunLog(tmp_path / "run.jsonl")
    with log.progress("train", 100) as progress:
        progress.step(40, torch.tensor(0.25))
        progress.step(80)
    first, over, done = map(json.loads, log.path.read_text().splitlines()) if log.path else ()
    assert (first["rows"], first["loss"]) == (40, 0.25) and first["rows_per_second"] > 40
    assert first["seconds_left"] == pytest.approx(60 / first["rows_per_second"], abs=1)
    assert (over["rows"], over["loss"], over["seconds_left"]) == (120, None, None), "beyond what was expected"
    assert done["event"] == "done" and done["rows"] == 120
