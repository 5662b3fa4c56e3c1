"""Losses against their naive formulas, their gradients against autograd, and what they do at the extremes."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.config.teacher import Teacher
from dmtl_cli.nn.fit import _Means
from dmtl_cli.nn.kernels import softmax as kernel
from dmtl_cli.nn.kernels.softmax import in_batch_softmax, in_batch_softmax_plain
from dmtl_cli.nn.losses import Mean, weighted_mean
from dmtl_cli.scores.logits import product_logit, product_logit_numpy
from dmtl_cli.student.hard import pointwise, sampled_softmax
from dmtl_cli.teacher.labels import TeacherLabels
from dmtl_cli.teacher.loss import rates, teacher_loss

F64 = torch.float64
EXTREMES = [-80.0, -30.0, -1.0, 0.0, 1.0, 30.0, 80.0]
each_type = pytest.mark.parametrize("dtype", [torch.float32, F64])


def normal(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


def gradient(f: Callable[..., Tensor], *at: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(f(*at), at)


# -- the logit of a product, and the mean ------------------------------------------------------------------------------


def exact_logit(a: float, c: float) -> float:
    """log p - log(1 - p) of p = sigmoid(a) sigmoid(c), in 200 digits."""
    with localcontext() as context:
        context.prec = 200
        p = 1 / (1 + (-Decimal(a)).exp()) / (1 + (-Decimal(c)).exp())
        return float(p.ln() - (1 - p).ln())


MODERATE = [-12.0, -3.5, -1.0, 0.0, 0.25, 2.0, 9.0]


def test_the_logit_of_a_product_is_exact_for_tensors_and_arrays() -> None:
    a, c = (v.flatten() for v in torch.meshgrid(*[torch.tensor(MODERATE, dtype=F64)] * 2, indexing="ij"))
    expected = [exact_logit(*pair) for pair in zip(a.tolist(), c.tolist(), strict=True)]
    assert product_logit(a, c).tolist() == pytest.approx(expected, rel=1e-14, abs=1e-14)
    assert product_logit_numpy(a.numpy(), c.numpy()) == pytest.approx(np.array(expected), rel=1e-14, abs=1e-14)
    assert product_logit(a.float(), c.float()).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_gradient_of_the_logit_of_a_product_is_that_of_the_naive_formula() -> None:
    a, c = normal(50, seed=7, grad=True), normal(50, seed=8, grad=True)

    def naive(a: Tensor, c: Tensor) -> Tensor:
        p = a.sigmoid() * c.sigmoid()
        return (p.log() - (1 - p).log()).sum()

    for mine, theirs in zip(gradient(lambda *x: product_logit(*x).sum(), a, c), gradient(naive, a, c), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-13)
    assert gradcheck(product_logit, (a, c))


@each_type
def test_the_logit_of_a_product_is_finite_at_extremes(dtype: torch.dtype) -> None:
    values = torch.tensor([-1000.0, *EXTREMES, 1000.0], dtype=dtype)
    a, c = (v.flatten().requires_grad_() for v in torch.meshgrid(values, values, indexing="ij"))
    t = product_logit(a, c)
    grads = torch.autograd.grad(t.sum(), (a, c))
    assert t.isfinite().all() and (t <= torch.minimum(a, c)).all() and t.dtype == dtype
    assert all(g.isfinite().all() and (g >= 0).all() and (g <= 1 + 1e-4).all() for g in grads)
    by_numpy = product_logit_numpy(*(x.detach().double().numpy() for x in (a, c)))
    assert np.isfinite(by_numpy).all()
    tolerance = 1e-12 if dtype == F64 else 1e-6
    assert t.detach().double().numpy() == pytest.approx(by_numpy, rel=tolerance, abs=tolerance)


def test_weighted_mean_counts_weights_and_is_zero_without_any() -> None:
    loss = torch.tensor([1.0, 2.0, math.inf], requires_grad=True)
    assert weighted_mean(loss, torch.tensor([1.0, 3.0, 0.0])).item() == pytest.approx(1.75)
    for w in (torch.zeros(3), torch.tensor([False, False, False])):
        (g,) = gradient(lambda x, w=w: weighted_mean(x, w), loss)
        assert weighted_mean(loss, w) == 0 and (g == 0).all()
    assert weighted_mean(torch.zeros(0), torch.zeros(0)) == 0


# -- teacher -----------------------------------------------------------------------------------------------------------


def naive_teacher(a: Tensor, c: Tensor, y: Tensor, z: Tensor, known: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    def bce(p: Tensor, label: Tensor) -> Tensor:
        return -(label * p.log() + (1 - label) * (1 - p).log())

    def mean(loss: Tensor, weight: Tensor) -> Tensor:
        return (loss * weight).sum() / weight.sum()

    ctr, cvr = a.sigmoid(), c.sigmoid()
    return mean(bce(ctr, y), w), mean(bce(ctr * cvr, z), w * known), mean(bce(cvr, z), w * known * y)


def a_config(weights: dict[str, float], *further: str) -> Config:
    """Of the tasks ctr, cvr and the further ones; weights of losses by name."""
    events = Events(click="click", duration="seconds", conversions={name: f"is_{name}" for name in further})
    ids = (Feature(name=f"{side}_id", side=side, kind="categorical") for side in ("user", "item"))
    teacher = Teacher(task_weights=weights)
    return Config(workspace="ws", data=Data(root="log", events=events), features=tuple(ids), teacher=teacher)


def taught(
    a: Tensor, c: Tensor, y: Tensor, z: Tensor, known: Tensor, w: Tensor, *weights: float
) -> tuple[Tensor, dict[str, Any]]:
    """Of the tasks ctr and cvr; weights of ctr, ctcvr and cvr."""
    config = a_config(dict(zip(("ctr", "ctcvr", "cvr"), weights, strict=True)))
    labels = TeacherLabels(y, z.unsqueeze(1), known.unsqueeze(1), w)
    total, parts = teacher_loss(config, torch.stack([a, c], 1), labels)
    return total, {name.removeprefix("loss."): part.value for name, part in parts.items() if isinstance(part, Mean)}


def teacher_rows(n: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y = normal(n, seed=3) > -0.5
    z = y & (normal(n, seed=4) > 0)
    known = ~y | (normal(n, seed=5) > -1)
    return y, z, known, normal(n, seed=6).abs()


def test_teacher_loss_is_the_naive_formula_with_its_gradient() -> None:
    a, c = normal(64, seed=1, grad=True), normal(64, seed=2, grad=True)
    y, z, known, w = teacher_rows()
    weights = (0.7, 1.3, 0.4)

    def naive(a: Tensor, c: Tensor) -> Tensor:
        parts = naive_teacher(a, c, y.double(), z.double(), known.double(), w)
        return sum((k * p for k, p in zip(weights, parts, strict=True)), torch.zeros(()))

    def ours(a: Tensor, c: Tensor) -> Tensor:
        return taught(a, c, y, z, known, w, *weights)[0]

    total, parts = taught(a, c, y, z, known, w, *weights)
    assert total.item() == pytest.approx(naive(a, c).item(), rel=1e-12)
    expected = naive_teacher(a, c, y.double(), z.double(), known.double(), w)
    assert [parts[k].item() for k in ("ctr", "ctcvr", "cvr")] == pytest.approx([p.item() for p in expected], rel=1e-12)
    assert not any(p.requires_grad for p in parts.values())
    for mine, theirs in zip(gradient(ours, a, c), gradient(naive, a, c), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-14)
    assert gradcheck(ours, (a, c))


def test_ctcvr_is_the_cross_entropy_of_the_product() -> None:
    a, c = normal(200, seed=7) * 6, normal(200, seed=8) * 6
    log_p = F.logsigmoid(a) + F.logsigmoid(c)
    one = torch.ones(200)
    pairs = zip(a.tolist(), c.tolist(), strict=True)
    log_not = -F.softplus(torch.tensor([exact_logit(*pair) for pair in pairs], dtype=F64))
    for label, expected in ((one, -log_p), (one * 0, -log_not)):
        for weight in torch.eye(200, dtype=F64)[:50]:
            loss, parts = taught(a, c, label, label, one, weight, 0, 1, 0)
            assert loss == parts["ctcvr"] and loss.item() == pytest.approx((weight * expected).sum().item(), rel=1e-12)


@each_type
@pytest.mark.parametrize("label", [(0, 0), (1, 0), (1, 1)])
def test_teacher_loss_is_finite_at_extreme_logits(dtype: torch.dtype, label: tuple[int, int]) -> None:
    values = torch.tensor([-1000.0, *EXTREMES, 1000.0], dtype=dtype)
    a, c = (v.flatten().requires_grad_() for v in torch.meshgrid(values, values, indexing="ij"))
    y, z = (torch.full(a.shape, v) for v in label)
    one = torch.ones(a.shape)
    total, _ = taught(a, c, y, z, one, one, 1, 1, 1)
    assert total.isfinite() and total >= 0
    assert all(g.isfinite().all() for g in torch.autograd.grad(total, (a, c)))


def test_unknown_conversions_have_no_gradient_and_unclicked_rows_are_negatives() -> None:
    a, c = normal(4, seed=1, grad=True), normal(4, seed=2, grad=True)
    y, known, one = torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 1, 1]), torch.ones(4)
    z = torch.tensor([1.0, math.nan, 0.0, 0.0])

    def ctcvr(a: Tensor, c: Tensor) -> Tensor:
        return taught(a, c, y, z, known, one, 0, 1, 1)[0]

    ga, gc = gradient(ctcvr, a, c)
    assert ga[1] == 0 and gc[1] == 0 and (ga[[0, 2, 3]] != 0).all()
    longer = torch.tensor([1.0, 0.0, 1.0, 0.0])  # an unclicked row may carry a duration
    assert taught(a, c, y, longer, known, one, 0, 1, 1)[0] == ctcvr(a, c)
    (g,) = torch.autograd.grad(taught(a, c, y, z, known, one, 0, 0, 1)[0], c)
    assert (g[1:] == 0).all() and g[0] < 0, "cvr is learned from clicked rows alone"


def test_teacher_loss_without_a_click_or_a_known_row_is_zero() -> None:
    a, c = normal(3, grad=True), normal(3, seed=1, grad=True)
    zero, one = torch.zeros(3), torch.ones(3)
    _, parts = taught(a, c, zero, zero, one, one, 1, 1, 1)
    assert parts["cvr"] == 0 and parts["ctcvr"] > 0
    total, _ = taught(a, c, one, zero, zero, one, 0, 1, 1)
    assert total == 0 and all((g == 0).all() for g in torch.autograd.grad(total, (a, c)))


def test_each_conversion_has_two_losses_of_its_own_weight() -> None:
    a, c, d = (normal(64, seed=k, grad=True) for k in (1, 2, 9))
    y, z, known, w = teacher_rows()
    z_d, known_d = normal(64, seed=10) > 0, normal(64, seed=11) > -1
    weights = {"ctr": 0.7, "ctcvr": 1.3, "cvr": 0.4, "ctlike": 0.9, "like": 2.5}
    labels = TeacherLabels(y, torch.stack([z, z_d], 1), torch.stack([known, known_d], 1), w)
    total, named = teacher_loss(a_config(weights, "like"), torch.stack([a, c, d], 1), labels)
    assert list(named) == [f"loss.{name}" for name in weights]
    parts = {name.removeprefix("loss."): part.value for name, part in named.items() if isinstance(part, Mean)}
    of_cvr = taught(a, c, y, z, known, w, 0.7, 1.3, 0.4)
    of_like = taught(a, d, y, z_d, known_d, w, 0, 0.9, 2.5)
    assert total.item() == pytest.approx((of_cvr[0] + of_like[0]).item(), rel=1e-12)
    assert [parts["ctlike"], parts["like"]] == [of_like[1]["ctcvr"], of_like[1]["cvr"]]
    assert parts["like"] != parts["cvr"] and parts["ctlike"] != parts["ctcvr"]
    assert all(x.abs().sum() > 0 for x in torch.autograd.grad(total, (a, c, d)))


@pytest.mark.parametrize("size", [1, 3, 64])
def test_means_over_batches_are_those_over_all_rows_of_a_task(size: int) -> None:
    """Also where most batches have no clicked row, as batches of a small log do: they say nothing of a conversion."""
    a, c = normal(64, seed=1), normal(64, seed=2)
    y, z, known, w = teacher_rows()
    y &= torch.arange(64) % 7 == 0
    z &= y
    config, means = a_config({}), _Means()
    for at in torch.arange(64).split(size):
        labels = TeacherLabels(y[at], z[at].unsqueeze(1), known[at].unsqueeze(1), w[at])
        numbers = teacher_loss(config, torch.stack([a, c], 1)[at], labels)[1] | rates(config, labels)
        means.add(numbers | {"plain": float(at[0])}, len(at))
    again = _Means()
    again.restore(means.state())
    found = means.by_name()
    assert again.by_name() == found and found["rows"] == 64
    ctr, ctcvr, cvr = naive_teacher(a, c, y.double(), z.double(), known.double(), w)
    for name, expected in (("ctr", ctr), ("ctcvr", ctcvr), ("cvr", cvr)):
        assert found[f"loss.{name}"] == pytest.approx(expected.item(), rel=1e-12)
    kept = w * (known & y)
    assert found["rate.cvr"] == pytest.approx(((kept * z).sum() / kept.sum()).item(), rel=1e-12)
    assert found["plain"] == pytest.approx(sum(len(at) * float(at[0]) for at in torch.arange(64).split(size)) / 64)


# -- hard labels -------------------------------------------------------------------------------------------------------


Softmax = Callable[..., Tensor]


def whole_matrix(
    u: Tensor, v: Tensor, scale: Tensor | float, log_q: Tensor, user: Tensor, item: Tensor, w: Tensor
) -> Tensor:
    """The definition, row by row: B x B logits, an accidental hit masked."""
    logits = scale * u[user] @ v[item].T - log_q[item]
    hit = (item[:, None] == item) & ~torch.eye(len(item), dtype=torch.bool)
    logits = logits.masked_fill(hit, -math.inf)
    return weighted_mean(torch.logsumexp(logits, 1) - logits.diagonal(), w)


def each_its_own(softmax: Softmax, u: Tensor, v: Tensor, scale: Tensor | float, log_q: Tensor, w: Tensor) -> Tensor:
    """Rows that share no user and no item."""
    return softmax(u, v, scale, log_q, torch.arange(len(u)), torch.arange(len(v)), w)


def test_sampled_softmax_is_cross_entropy_on_corrected_logits() -> None:
    u, v, log_q, w = normal(6, 3, seed=1), normal(6, 3, seed=2), normal(6, seed=3), normal(6, seed=4).abs()
    loss = F.cross_entropy(2.5 * u @ v.T - log_q, torch.arange(6), reduction="none")
    found = each_its_own(sampled_softmax, u, v, 2.5, log_q, w)
    assert found.item() == pytest.approx(((w * loss).sum() / w.sum()).item())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("users", [1, 4, 30])
@pytest.mark.parametrize("items", [1, 3, 30])
def test_sampled_softmax_is_its_definition(
    users: int, items: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_USERS", 3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    u, v, scale = normal(users, 3, seed=1, grad=True), normal(items, 3, seed=2, grad=True), torch.tensor(2.5, dtype=F64)
    log_q, w, g = normal(items, seed=3), normal(25, seed=4).clamp(min=0), torch.Generator().manual_seed(1)
    index = torch.randint(users, (25,), generator=g), torch.randint(items, (25,), generator=g)
    scale.requires_grad_()
    softmaxes = (whole_matrix, sampled_softmax, partial(sampled_softmax, plain=True))
    definition, *found = ([f(u, v, scale, log_q, *index, w)] for f in softmaxes)
    for x in (definition, *found):
        x += torch.autograd.grad(3 * x[0], (u, v, scale))
    torch.set_num_threads(before)
    for one in found:
        for ours, theirs in zip(one, definition, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 7), st.integers(1, 30), st.floats(0.1, 20))
def test_softmax_by_hand_is_that_of_plain_autograd(seed: int, users: int, items: int, rows: int, size: float) -> None:
    """Some items, and some users, have no row; some rows have no weight."""
    g = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(n, 3, dtype=F64, generator=g).mul_(size**0.5).requires_grad_() for n in (users, items))
    log_q = torch.randn(items, dtype=F64, generator=g)
    user, item = (torch.randint(n, (rows,), generator=g) for n in (users, items))
    w = torch.rand(rows, dtype=F64, generator=g) * (torch.rand(rows, generator=g) < 0.8)
    found = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernel, "_USERS", 2)
        for softmax in (in_batch_softmax, in_batch_softmax_plain):
            loss = softmax(u, v, log_q, user, item, w)
            found.append([loss, *torch.autograd.grad(3 * loss, (u, v))])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def own_counted(u: Tensor, v: Tensor, log_q: Tensor, user: Tensor, item: Tensor, w: Tensor, log_own: Tensor) -> Tensor:
    """Row by row: the own item so many times, and every other row's item that is another."""
    losses = []
    for r in range(len(item)):
        logit = torch.stack([u[user[r]] @ v[j] - log_q[j] for j in item])
        others = torch.cat([(logit[r] + log_own[item[r]])[None], logit[item != item[r]]])
        losses.append(torch.logsumexp(others, 0) - logit[r])
    return weighted_mean(torch.stack(losses), w)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5), st.integers(1, 12), st.floats(0.1, 8))
def test_a_rows_own_item_counts_as_often_as_is_said(seed: int, users: int, items: int, rows: int, size: float) -> None:
    """By hand, by plain autograd and by the definition, each with its gradients."""
    g = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(n, 3, dtype=F64, generator=g).mul_(size**0.5).requires_grad_() for n in (users, items))
    log_q, log_own = (torch.randn(items, dtype=F64, generator=g) * 2 for _ in range(2))
    user, item = (torch.randint(n, (rows,), generator=g) for n in (users, items))
    w = torch.rand(rows, dtype=F64, generator=g) * (torch.rand(rows, generator=g) < 0.8)
    found = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernel, "_USERS", 2)
        for softmax in (own_counted, in_batch_softmax, in_batch_softmax_plain):
            loss = softmax(u, v, log_q, user, item, w, log_own)
            found.append([loss, *torch.autograd.grad(3 * loss, (u, v))])
    for one in found[1:]:
        for ours, theirs in zip(one, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("plain", [False, True])
def test_plain_leaves_out_what_is_written_by_hand(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    by_hand = kernel._InBatch.apply
    monkeypatch.setattr(kernel._InBatch, "apply", lambda *x: asked.append(1) or by_hand(*x))
    flat, index = torch.zeros(4), torch.arange(4)
    loss = sampled_softmax(torch.zeros(4, 2), torch.zeros(4, 2), 1.0, flat, index, index, torch.ones(4), plain=plain)
    assert loss.item() == pytest.approx(math.log(4)) and asked == ([] if plain else [1])


def test_accidental_hits_are_no_negatives() -> None:
    u, v = torch.zeros(4, 2), torch.zeros(2, 2)
    one, flat, user = torch.ones(4), torch.zeros(4), torch.arange(4)
    assert each_its_own(sampled_softmax, u, u, 1.0, flat, one) == pytest.approx(math.log(4))
    item = torch.tensor([0, 0, 0, 1])  # rows 0 to 2 compete with item 1 alone, row 3 with three of item 0
    found = sampled_softmax(u, v, 1.0, flat[:2], user, item, one)
    assert found == pytest.approx((3 * math.log(2) + math.log(4)) / 4)
    assert sampled_softmax(u, v, 1.0, flat[:2], user, item * 0, one).item() == pytest.approx(0, abs=1e-6)
    last = torch.tensor([0.0, 0, 0, 2])
    assert sampled_softmax(u, v, 1.0, flat[:2], user, item, last) == pytest.approx(math.log(4))
    # the correction takes the positive's own frequency into account: q = (1/2, 1/4) -> softmax over (2, 4)
    log_q = torch.tensor([0.5, 0.25]).log()
    first = each_its_own(sampled_softmax, u[:2], v, 1.0, log_q, torch.tensor([1.0, 0.0]))
    assert first == pytest.approx(math.log(3))


def test_rows_without_weight_are_negatives_and_the_scale_is_used() -> None:
    u, v = normal(3, 2, seed=1, grad=True), normal(3, 2, seed=2, grad=True)
    flat, w = torch.zeros(3, dtype=F64), torch.tensor([1.0, 1.0, 0.0])
    gu, gv = gradient(lambda u, v: each_its_own(sampled_softmax, u, v, 1.0, flat, w), u, v)
    assert (gu[2] == 0).all() and (gv[2] != 0).all()
    found = (each_its_own(sampled_softmax, u, v, scale, flat, w) for scale in (1.0, 5.0))
    assert next(found) != next(found)


@each_type
def test_sampled_softmax_of_few_rows_and_of_extreme_ones_is_finite(dtype: torch.dtype) -> None:
    for n in (0, 1):
        u = torch.ones(n, 2, dtype=dtype, requires_grad=True)
        loss = each_its_own(sampled_softmax, u, u, 1.0, torch.zeros(n, dtype=dtype), torch.ones(n))
        (g,) = torch.autograd.grad(loss, u)
        assert loss == 0 and (g == 0).all()
    u = torch.tensor([[1.0], [-1.0]], dtype=dtype, requires_grad=True)
    loss = each_its_own(sampled_softmax, u, u.flip(0), 80.0, torch.zeros(2, dtype=dtype), torch.ones(2))
    assert loss.item() == pytest.approx(160) and torch.autograd.grad(loss, u)[0].isfinite().all()
    nothing = sampled_softmax(u, u, 1.0, torch.zeros(2, dtype=dtype), *[torch.zeros(0, dtype=torch.int64)] * 2, u[:0])
    assert nothing == 0 and (torch.autograd.grad(nothing, u)[0] == 0).all()


def test_pointwise_is_bce_with_logits() -> None:
    s, y, w = normal(20, grad=True), normal(20, seed=1) > 0, normal(20, seed=2).abs()
    expected = F.binary_cross_entropy_with_logits(s, y.double(), w, reduction="sum") / w.sum()
    assert pointwise(s, y, w).item() == pytest.approx(expected.item())
    assert gradcheck(lambda s: pointwise(s, y, w), (s,))
